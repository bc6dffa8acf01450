/*  actor.h - the contract between an actor's core and the shell that runs it.

    A core is a pure function over its own state. Everything it learns comes
    in as a message, with the time; everything it wants done goes out as a
    message. It never blocks, allocates, reads a clock, draws a random number
    or keeps a pointer into a message after `handle` returns. So it can run
    under any shell: the real one (actors/base/shell.h), a simulated one, a
    test.

    The shell promises:
    -   START comes first, and once.
    -   What arrives is handed over value by value, also out of batches; when
        everything that waited has been handed over, TURN follows.
    -   Everything a core asked to REMEMBER up to TURN is committed before any
        other message it put since the last TURN leaves the process.
    -   Messages put for one peer with one id are joined in a batch, in order.
        Across ids and peers no order is kept.
    -   When a PEER says that somebody came back without its memory, whatever was
        put for it before is forgotten, and not delivered to the new one.
    -   An HTTP_REQUEST gets exactly one HTTP_ANSWER unless it is cancelled.
    -   A RECALL is answered within the turn: its RECORDs and the RECALLED come
        after `handle` returned and before TURN.

    Overload: a core holds a number of things that is fixed when it is made.
    Whoever sends to it keeps within the credit it gave, or within one request
    for each event of that credit; what exceeds it is dropped and logged.
*/
#ifndef GUERDON_ACTOR_H
#define GUERDON_ACTOR_H

#include "include/settings.h"
#include "proto/message.h"

/*  The time, as the shell read it before it called the core. */
struct moment {
    uint64_t steady_ms; /* never goes back; the base of every timer */
    uint64_t wall_ms;   /* since the epoch; may jump */
};

/*  Where the effects of a core go. */
struct effects {
    /*  Takes a message. Views in it need to live only until put returns. */
    void (*put) (void *sink, struct address to, const struct message *message);
    void *sink;
    /*  Log lines below it are wanted by nobody, and need not be put; 0: all are. */
    enum log_level log_level;
};

struct actor_spec {
    enum role role;
    enum service service; /* the service whose HTTP it speaks, if any */
    bool speaks_http;

    /*  Bytes of state for these settings; the shell gives zeroed memory,
        aligned for any type, that it maps lazily: what is not touched costs
        nothing. */
    size_t (*state_size) (const struct settings *settings);

    /*  Lays out the state. The settings outlive it. */
    void (*init) (void *state, const struct settings *settings);

    /*  Takes one message. */
    void (*handle) (void *state, struct moment now, const struct message *message,
                    const struct effects *effects);
};

#endif
