/*  client.h - what the client rooms have in common: one service, asked with
    patience.

    A client holds requests (requests.h) until the service has answered each
    for good. How many go out at once, and when again what may succeed later,
    is the policy's to say (policy.h). What differs between the rooms is in
    their client_rules.

    Is it the service, or is it the request? A service that fails must be
    waited for, for hours if need be; a request that makes it fail must not
    hold up the others, nor be tried for ever. To tell them apart the client
    asks the service something harmless whenever a request failed (the
    question), and counts good answers:

    -   The question fails too: the service is down, the breaker open. Nothing
        but the question goes out, with backoff, until it is answered; no
        request is blamed.
    -   The service gave a good answer between two failures of a request: the
        request is to blame. A job of many is cut in halves, so that the
        culprit stands alone in the end; a job of one gets a strike, and is
        refused after STRIKES_MAX of them and the patience of the room.
    -   The reply itself leaves a doubt, which the room has by what it asks: whether the
        secret is right. Then it is the secret that is asked about, and no request is
        blamed, however often that comes.
    -   The question is answered and the requests fail all the same: where the
        question proves nothing about requests, they are tried one at a time
        until one succeeds: the breaker is half open.

    Deadlines: one attempt has http_timeout_ms. All of them together have none
    while the service is down; while it answers, only what others prove to be a
    culprit is given up, after the patience of the room.

    A write that failed may have been carried out all the same, unless no
    connection stood. A room that must not do it twice turns it into a read that
    finds out (`unknown`), and back when it was not done. Such a read is never to
    blame: it is for the room to say for how long it is asked (`unanswered`).

    The same question, asked at START as the probe, has to be accepted before
    anybody is told OPENED.

    An asker that came back without its memory does not know what it asked: its
    requests are dropped, its reads in the air cancelled. A write in the air
    cannot be taken back: it is kept until it ended, and nobody is answered.

    Messages in:   START, OPEN, PEER, TURN, TIMER, HTTP_ANSWER, DRAIN
    Messages out:  OPENED, HTTP_REQUEST, HTTP_CANCEL, SET_TIMER, HEALTH, MEASURE,
                   LOG, DRAINED
    Overload:      more requests than the capacity, or more than PEERS_MAX
                   askers, are the room's, or dropped with a log line.
*/
#ifndef GUERDON_CLIENT_H
#define GUERDON_CLIENT_H

#include "include/actor.h"
#include "include/policy.h"
#include "include/requests.h"
#include "proto/text.h"

/*  Bounds of a client. REQUESTS_SPARE stands on top of the window.
    TRIAL_FAILURES in a row, of more than one job, make the client go easy on the
    service. */
enum { PEERS_MAX = 64, REQUESTS_SPARE = 64, STRIKES_MAX = 5, TRIAL_FAILURES = 4 };

_Static_assert((int) KINDS_MAX == (int) POLICY_KINDS_MAX, "the policy knows every kind");

/*  The timer of a client; a room has none besides. */
enum { TIMER_DUE };

/*  What a room makes of a reply. */
enum taken {
    TAKEN,        /* each request of the job is answered and dropped, or given back by client_retry */
    TAKEN_NOT,    /* the reply makes no sense; nothing has been done */
    TAKEN_DOUBTED /* it may come of a wrong secret; nothing has been done */
};

/*  How a room differs. The first argument is the room's state. */
struct client_rules {
    enum service service;
    bool question_proves; /* a good answer to the question of a kind proves that kind well */
    uint32_t patience_ms; /* from its first failure on, before a lone request is given up; served time */

    /*  Fills in method, path and body of the question. The probe at START is
        the one for KIND_WRITE. */
    void (*ask) (void *room, struct moment now, uint8_t kind, struct message *http);

    /*  The next new job, gathered from what has not been tried yet, or
        REQUEST_NONE. */
    uint32_t (*gather) (void *room);

    /*  Fills in method, path and body of a job. False when it must not go out
        just now and is to be offered again in a moment. */
    bool (*fill) (void *room, uint32_t job, struct message *http);

    /*  Takes a reply of 2xx. */
    enum taken (*take) (void *room, uint32_t job, const struct message *answer,
                        const struct effects *effects);

    /*  Answers one request as refused for good. The client drops it. */
    void (*refuse) (void *room, uint32_t slot, struct text reason, const struct effects *effects);

    /*  What follows is NULL in a room whose writes may be done twice. */

    /*  A write was tried, and nobody knows whether it was carried out. The room
        may make a read of it, and hold it back, before it goes out again. `spent`:
        it failed as often as it may, and is not to be tried again as it is. */
    void (*unknown) (void *room, uint32_t job, struct moment now, const struct http_answer *answer,
                     bool spent);

    /*  A read was refused, failed, or answered with what makes no sense. True
        when the room has answered and dropped it, false when it is to be asked
        again. Reads are not refused then, and get no strikes. */
    bool (*unanswered) (void *room, uint32_t job, const struct http_answer *answer,
                        const struct effects *effects);

    /*  A write whose sender has forgotten it came to its end, whatever that is;
        the client drops it. */
    void (*ended) (void *room, uint32_t job, struct moment now);
};

/*  An HTTP request under way. */
struct flight {
    uint64_t id;  /* HTTP_REQUEST's number; 0: no flight */
    uint32_t job; /* REQUEST_NONE: the question */
};

struct client {
    const struct client_rules *rules;
    void *room;          /* first argument of the rules */
    uint32_t timeout_ms; /* for one HTTP request */
    uint64_t seed;       /* salts the backoff */
    struct requests requests;
    struct request_list ready; /* jobs to be sent again, or first of all */

    struct flight flights[HTTP_CONCURRENCY_MAX];
    uint32_t flying;    /* flights that are jobs */
    bool full;          /* ... as many as may be, when jobs were sent last */
    uint64_t flight_id; /* of the newest flight */

    struct breaker breaker;
    struct limiter limiter;
    struct budget budget;

    enum service_state state; /* as last said in HEALTH */
    bool denied;              /* ... because of the secret */
    bool accepted;            /* the probe was accepted at some time */
    bool question_wanted;     /* to be sent as soon as there is a flight */
    uint64_t question_id;     /* its flight, 0: not under way */
    uint8_t question_kind;    /* what it asks about when it is sent next */
    uint8_t question_asked;   /* what the one under way asks about */
    bool question_secret;     /* it has to try the secret, as the probe does */

    uint64_t good[KINDS_MAX]; /* good answers so far */
    uint32_t failures;        /* of jobs in a row, 0 after a good answer */
    uint64_t failed_serial;   /* the job that failed first of them */
    bool failed_many;         /* and another one failed too */
    uint64_t hold_ms;         /* steady time before which no job goes out: the service asked for that */
    uint64_t served_ms;       /* how long the service was there, as far as that was known */
    uint64_t served_at_ms;    /* steady time up to which that is counted */

    struct address peers[PEERS_MAX]; /* they wait for OPENED */
    uint32_t peers_count;
    bool draining;
    bool drained;                         /* DRAINED was said */
    uint64_t due_set_ms;                  /* TIMER_DUE as it is set */
    uint64_t retries;                     /* attempts beyond the first */
    uint64_t said[GAUGE_CONCURRENCY + 1]; /* the gauges as last said */

    char path[PATH_SIZE_MAX + 1]; /* of the request being made */
    uint8_t body[REQUEST_BODY_SIZE_MAX];
};

/*  Bytes that the requests of a client take on top of struct client; the
    memory follows the room's own struct. */
size_t client_requests_size (const struct settings *settings);

/*  Lays out a client in zeroed memory; `memory` has client_requests_size bytes
    and is aligned for any type. */
void client_init (struct client *client, const struct client_rules *rules, void *room, void *memory,
                  const struct settings *settings);

/*  Takes any message that is not the room's own. */
void client_handle (struct client *client, struct moment now, const struct message *message,
                    const struct effects *effects);

/*  A clock that stands still while the service does not answer the question, or
    has not yet. */
uint64_t client_served_ms (const struct client *client);

/*  True while every write fails, and one is tried at a time. */
bool client_on_trial (const struct client *client);

/*  True while a request of this user other than `job` is in the air. */
bool client_in_air (const struct client *client, uint32_t job);

/*  Queues a job to be sent next, in order, before anything is gathered. */
void client_retry (struct client *client, uint32_t job);

/*  A builder and a packer over the memory for the request being made; for the
    functions `ask` and `fill` of a room. */
struct builder client_path (struct client *client);
struct packer client_body (struct client *client);

/*  Ends a request being made: its path, which must have fit, and for a POST
    its body; NULL for a GET. */
void client_request (struct message *http, const struct builder *path, const struct packer *body);

#endif
