/*  desk.h - where people ask a running decision what it knows, and have what waits
    for them tried again or dropped.

    A ROUTER on a thread of its own, at journal-<shard>.sock in the state directory
    (0600) and nowhere else: only the owner of the process can connect. LOOK is
    answered from a read-only connection, a page at a time, so neither a long ledger
    nor a slow reader holds up the decision. REDO and FORGO are handed to the
    decision, which answers when what it did is on disk.

    Overload: at most DESK_ORDERS_MAX orders wait for the decision; one more is told
    to ask again. Answers that nobody takes are dropped. A frame that makes no sense
    is dropped and counted.

    With bus.c, tap.c and curve.c the place that sees ZeroMQ.
*/
#ifndef GUERDON_DESK_H
#define GUERDON_DESK_H

#include "proto/message.h"

enum { DESK_ORDERS_MAX = 16 };

struct monitor;
struct desk;

struct desk_options {
    void *context;           /* of ZeroMQ; outlives the desk */
    const char *state_dir;   /* outlives the desk */
    uint16_t shard;          /* whose journal */
    uint32_t answer_ms;      /* the decision has so long to answer */
    struct monitor *monitor; /* knows why a decision does not answer; may be NULL */

    /*  Hands the decision a RETRY or DROP; false when it takes no more now. Called
        from the desk's thread. */
    bool (*post) (void *context, const struct message *message);
    void *post_context;
};

/*  Binds the socket; nobody is answered yet. NULL with a reason. */
struct desk *desk_new (const struct desk_options *options, char *reason, size_t reason_size);

/*  Begins to answer: from now on orders are posted. */
bool desk_start (struct desk *desk);

/*  Takes a DONE of the decision. From any thread, also after desk_stop. */
void desk_done (struct desk *desk, const struct message *done);

/*  Ends the thread: nothing is posted any more. */
void desk_stop (struct desk *desk);
void desk_destroy (struct desk **desk);

/*  ---- asking ------------------------------------------------------------- */

struct desk_caller;

/*  Goes to the desk of this journal; whether anybody is there shows when it is
    asked. NULL with a reason. */
struct desk_caller *desk_caller_new (void *context, const char *state_dir, uint16_t shard, char *reason,
                                     size_t reason_size);
void desk_caller_destroy (struct desk_caller **caller);

/*  Asks a LOOK, REDO or FORGO; its number is chosen here. The answer is LOOKED, with
    the frame of LISTED if there is one, or ANSWERED; both live until the next call.
    False when there is none in time. */
bool desk_ask (struct desk_caller *caller, const struct message *question, long timeout_ms,
               struct message *answer, struct raw *listed);

#endif
