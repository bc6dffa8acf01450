/*  ask.h - HTTP requests of a command that has nothing else to do: asked at
    once, waited for together.
*/
#ifndef GUERDON_ASK_H
#define GUERDON_ASK_H

#include "actors/base/http_client.h"

enum { ASKS_MAX = 3 };

/*  One request and what came of it. */
struct ask {
    /*  To be filled in. */
    struct http_target target;
    struct http_request request; /* all but the request's number */
    uint32_t hang_ms;            /* a request that hangs so long once it is sent counts as
                                     accepted: a long poll; 0: none does */

    /*  Filled in by ask_all. */
    bool done;
    bool hangs; /* accepted, see above; none of the rest is known */
    enum http_outcome outcome;
    unsigned status;                      /* when answered */
    bool list;                            /* the reply is a JSON array */
    uint64_t id;                          /* the integer `id` of the reply, 0 without */
    uint64_t elapsed_ms;                  /* from start to end, or to now when it hangs */
    char reason[2 * REASON_SIZE_MAX + 8]; /* what failed, in the service's words if it has any */
    uint64_t sent_ms;                     /* steady time when it was sent; 0: not yet */
};

/*  Asks all of them, at most ASKS_MAX, and returns when every one is done.
    Each is bounded by its timeout. False, with a reason, when no request can
    be made at all. http_client_global_init comes first. */
bool ask_all (struct ask *asks, size_t count, char *reason, size_t reason_size);

/*  True when the service saw the request and said yes. */
bool ask_accepted (const struct ask *ask);

/*  True when the service does not accept the secret. */
bool ask_rejected (const struct ask *ask);

#endif
