/*  policy.h - how much a service is asked, and when not at all.

    Three values, which a client keeps for its service:

    -   The breaker: whether requests may go out at all. Closed they do, open
        they do not, and half open one thing at a time goes out to learn whether
        the service is well again. That is either the question (something
        harmless that the client asks) or, where an answered question proves
        nothing about requests, one request.

            closed    -- down, trip --> open
            open      -- time       --> half open
            half open -- down, trip --> open
            any       -- good       --> closed

    -   The limiter: how many requests may be under way at once. Additive
        increase, multiplicative decrease: one more after as many good answers
        as there are requests at once; half when the service is overloaded (429,
        503, 504, no answer in time); three quarters when it gets slow. After an
        outage it begins at one, so that a service that comes back is not met
        by everything that has been waiting for it.

    -   The budget: how many attempts may be repetitions. Half of what succeeds,
        a few a second besides, and BUDGET_BURST at once. When it is empty a
        repetition waits; nothing is dropped.

    Pure: time in ms and whatever is random come in as arguments.
*/
#ifndef GUERDON_POLICY_H
#define GUERDON_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/*  Requests at once that a service is asked at most, and where that begins when
    its first answer was good: 16 connections trample nobody who is well, and less
    would slow down the start. */
enum { HTTP_CONCURRENCY_MAX = 16 };

/*  Retry-After is honoured up to this. */
enum { RETRY_AFTER_MAX_MS = 60000 };

/*  Kinds of requests: each has its own idea of what takes long. */
enum { POLICY_KINDS_MAX = 2 };

/*  ---- the breaker -------------------------------------------------------- */

/*  As GAUGE_BREAKER has it. */
enum breaker_state { BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN };

struct breaker {
    enum breaker_state state;
    bool trial;        /* only a request that succeeds closes it, not the question */
    bool asking;       /* it is the question that probes when half open */
    uint32_t failures; /* of probes in a row */
    uint64_t until_ms; /* open: steady time at which it becomes half open; UINT64_MAX: never */
};

/*  Half open, by the question: nothing is known yet. */
void breaker_init (struct breaker *breaker);

/*  The service is down: open for so long, then the question probes. */
void breaker_down (struct breaker *breaker, uint64_t now_ms, uint64_t wait_ms);

/*  Requests fail although the question is answered: open for so long, then one
    request at a time probes. While the question probes, or it is open anyway, it
    is only remembered that the question will not do: requests that were under way
    together fail together, and that is one failure. */
void breaker_trip (struct breaker *breaker, uint64_t now_ms, uint64_t wait_ms);

/*  No request is left to probe with: the question has to do after all, at once. */
void breaker_ask (struct breaker *breaker);

/*  Lets time pass: open becomes half open. */
void breaker_tick (struct breaker *breaker, uint64_t now_ms);

/*  The question was answered well: closed; or, after a trip, open until the time
    that the trip set, and then one request probes. */
void breaker_answered (struct breaker *breaker);

/*  A request was answered well: closed. */
void breaker_good (struct breaker *breaker);

/*  How many requests may be under way at once, out of `limit`: all when it is
    closed, one when one request probes, else none. */
uint32_t breaker_allows (const struct breaker *breaker, uint32_t limit);

/*  ---- the limiter -------------------------------------------------------- */

/*  How long requests of one kind take, in µs. 0: unknown. */
struct latency {
    uint64_t recent_us; /* lately */
    uint64_t usual_us;  /* when the service has little to do */
};

struct limiter {
    uint32_t limit;   /* requests at once, 1..HTTP_CONCURRENCY_MAX */
    uint32_t good;    /* good answers since it last changed */
    uint64_t settled; /* requests up to this number were sent before it last shrank */
    struct latency latency[POLICY_KINDS_MAX];
};

/*  One request, as the limiter sees its end. Numbers grow by the order in which
    requests were sent. */
struct sample {
    uint64_t number; /* of this request */
    uint64_t newest; /* of the newest one sent */
    uint64_t took_ms;
    uint8_t kind; /* below POLICY_KINDS_MAX */
    bool full;    /* as many were under way as the limit allows */
};

/*  At HTTP_CONCURRENCY_MAX. */
void limiter_init (struct limiter *limiter);

/*  After an outage: at one. What requests usually take is forgotten. */
void limiter_restart (struct limiter *limiter);

/*  A request was served. */
void limiter_good (struct limiter *limiter, const struct sample *sample);

/*  A request met a service that has too much to do. */
void limiter_overloaded (struct limiter *limiter, const struct sample *sample);

/*  ---- the budget --------------------------------------------------------- */

/*  Repetitions: at once at most, and a second whatever succeeds, so that it goes
    on where nothing but repetitions is left. */
enum { BUDGET_BURST = 100, BUDGET_PER_SECOND = 10 };

/*  What one repetition costs, and what one success brings. */
enum { BUDGET_COST = 1000, BUDGET_SHARE = 500 };

struct budget {
    uint64_t tokens; /* in thousandths of a repetition */
    uint64_t at_ms;  /* steady time up to which its seconds have been counted */
};

/*  Full. */
void budget_init (struct budget *budget);

/*  A request succeeded. */
void budget_good (struct budget *budget);

/*  Pays for one repetition. False when there is not enough: it has to wait. */
bool budget_take (struct budget *budget, uint64_t now_ms);

/*  Steady time at which there is enough for one even if nothing succeeds: now or
    later. */
uint64_t budget_due (const struct budget *budget, uint64_t now_ms);

/*  ---- waiting ------------------------------------------------------------ */

/*  How long to wait after so many failures in a row, 1 and up: backoff_ms, but no
    less than the service asked for, up to RETRY_AFTER_MAX_MS. */
uint64_t policy_wait_ms (uint32_t failures, uint64_t salt, uint64_t retry_after_ms);

#endif
