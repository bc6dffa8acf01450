/*  http_call.h - one request of the HTTP client: its target and body with the
    secret in them, and later how it ended. And lists of such, first in first
    out. Knows nothing of curl.
*/
#ifndef GUERDON_HTTP_CALL_H
#define GUERDON_HTTP_CALL_H

#include "actors/base/http_client.h"

struct http_slot;

/*  A request from put to its answer. */
struct http_call {
    struct http_call *next; /* in whichever list it is */
    uint64_t id;            /* the core's */
    uint64_t trace;         /* goes into what is delivered */
    enum method method;
    char *target;                     /* path and query, with the secret; terminated */
    size_t target_capacity;           /* bytes there are for it */
    char *body;                       /* JSON, with the secret; NULL for none */
    size_t body_size;                 /* bytes */
    uint32_t timeout_ms;              /* at least 1 */
    uint64_t started_ms;              /* steady time; 0: not started */
    struct http_slot *slot;           /* while it is under way, and until it is delivered */
    struct http_answer answer;        /* all but its reason, once done */
    char reason[REASON_SIZE_MAX + 1]; /* what failed; empty when answered */
};

/*  Where requests go, and the secret as it stands in a path. */
struct http_place {
    const char *root;     /* the path in the base; empty for none */
    struct text secret;   /* as it is */
    char *secret_encoded; /* percent-encoded, terminated */
};

/*  False when out of memory. */
bool http_place_init (struct http_place *place, const struct http_target *target);
void http_place_destroy (struct http_place *place);

/*  Fills a call in from an HTTP_REQUEST. NULL, or why the request cannot be
    made; id and trace are set in any case. */
const char *http_call_fill (struct http_call *call, const struct http_place *place,
                            const struct message *message);

/*  Forgets what held the secret; memory of a target of up to `kept` bytes stays. */
void http_call_wipe (struct http_call *call, size_t kept);

/*  Sets the answer of a call that no connection ever saw. */
void http_call_unreached (struct http_call *call, const char *reason);

/*  A list. To be initialised; an empty one owns nothing. */
struct http_calls {
    struct http_call *first; /* NULL: empty */
    struct http_call **end;  /* where the next one is hooked in */
    unsigned count;          /* calls in it */
};

/*  Makes an empty list; it must not be moved afterwards. */
void http_calls_init (struct http_calls *calls);

/*  Hooks a call in at the end. */
void http_calls_push (struct http_calls *calls, struct http_call *call);

/*  Takes the first out; NULL when there is none. */
struct http_call *http_calls_pop (struct http_calls *calls);

/*  Takes the one with this id out; NULL when it is not there. */
struct http_call *http_calls_take (struct http_calls *calls, uint64_t id);

/*  Frees what is in the list. */
void http_calls_clear (struct http_calls *calls);

#endif
