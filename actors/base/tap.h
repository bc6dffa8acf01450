/*  tap.h - shows to whoever looks what the actors of a process say and hear.

    One XPUB socket a process, at TAP_ENDPOINT, on a thread of its own. While
    nobody looks an actor pays one look at an atomic for each message. While
    somebody does, actors hand copies to that thread without ever waiting, each
    in a ring (tap_ring.h): what does not fit is counted as lost. The thread
    looks there fifty times a second, takes batches apart and publishes value by
    value; a slow tap loses, never the flow.

    The thread has a budget: a part of the processor time that its process takes,
    or leaves. What is shown to several costs of it what each may spend to read it;
    a subscription of its own that begins with a zero byte says that one more wants
    what follows its first nine bytes. When the flow says more than the budget can
    show, a stretch of it is shown, and then actors only count what they would have
    handed over, until the budget has recovered.

    Each value is two frames, a topic and a body:

        topic  "<actor> <type> <user>": the actor is the one of this process;
               type is the message's name; user may be empty
        body   msgpack [1, time_us, process, direction, from, to, sequence, lost, message]

    direction is "sent" or "received" (only from other processes, so that within
    a process nothing shows twice); from and to are "role/number", or the name of
    a service. sequence counts the values of one actor and type, from 1; lost
    counts what could not be handed to the tap's thread. The message is as on
    the bus, a batch of one; http_request and http_answer are shown too, answers
    without their bodies and with what they answer.

    With bus.c and curve.c the place that sees ZeroMQ.
*/
#ifndef GUERDON_TAP_H
#define GUERDON_TAP_H

#include <stdatomic.h>

#include "proto/message.h"

struct curve;
struct monitor;
struct tap;
struct tap_mirror;

/*  Binds the endpoint (an ipc file is made 0600, and replaces one that a dead
    process left) and starts the thread. `process` names this process in what it
    shows. A tcp endpoint is encrypted with the keys in curve_dir, NULL for none;
    who is refused there is counted in the monitor, which may be NULL. What
    publishes runs only while a processor has nothing else to do: looking takes
    nothing from the flow. NULL with a reason that names the endpoint. */
struct tap *tap_open (const char *endpoint, const char *process, const char *curve_dir,
                      struct monitor *monitor, char *reason, size_t reason_size);

/*  Every mirror must be gone before. */
void tap_close (struct tap **tap);

/*  An actor's own end, for one thread. NULL when tap is NULL or there is no
    memory: then nothing is shown. */
struct tap_mirror *tap_mirror_new (struct tap *tap, struct address self);
void tap_mirror_destroy (struct tap_mirror **mirror);

/*  Whether anybody looks. */
bool tap_wanted (const struct tap_mirror *mirror);

/*  Shows a message as it is on the bus, sent or received. */
void tap_sent (struct tap_mirror *mirror, struct address to, const void *bytes, size_t size);
void tap_received (struct tap_mirror *mirror, struct address from, const void *bytes, size_t size);

/*  Shows the beginning of an HTTP call: an http_request as the core put it, with
    `{secret}` in the secret's place. Its method and path are kept, also while
    nobody looks. */
void tap_http_begun (struct tap_mirror *mirror, enum service service, const struct message *request);

/*  Shows the end of one: an http_answer without its body, which may be anything
    and large, and with the method and the path of its request. */
void tap_http_ended (struct tap_mirror *mirror, enum service service, const struct message *answer);

/*  A call that will not be answered is forgotten. */
void tap_http_cancelled (struct tap_mirror *mirror, uint64_t request);

/*  ---- looking ------------------------------------------------------------ */

enum {
    TAP_ENDPOINTS_MAX = 64,
    TAP_TOPIC_SIZE_MAX = USER_SIZE_MAX + 64,
    TAP_BODY_SIZE_MAX = MESSAGE_SIZE_MAX
};

/*  One value that was shown. Views live until the next call on the reader. */
struct tap_record {
    uint64_t time_us; /* since the epoch */
    struct text process;
    struct text direction;
    struct text from;
    struct text to;
    uint64_t sequence;
    uint64_t lost;
    struct raw message;
    struct raw body; /* all of it, as it came */
};

/*  The player that a message is about, as topics name them; empty for none. */
struct text tap_user (const struct message_spec *spec, const struct message *message);

/*  Reads a body. False when it is none. */
bool tap_record_read (struct raw body, struct tap_record *record);

struct tap_reader;

/*  Connects to taps; those that are not there yet are found later, and those
    that go away are found again. Curve may be NULL. NULL with a reason that
    names the endpoint. */
struct tap_reader *tap_reader_new (void *context, const char *const *endpoints, size_t count,
                                   struct curve *curve, char *reason, size_t reason_size);
void tap_reader_destroy (struct tap_reader **reader);

/*  Asks for topics that begin so; an empty text asks for all. */
bool tap_reader_want (struct tap_reader *reader, struct text prefix);

/*  The next value, waiting at most so long; false when none came, or a signal
    did. What makes no sense is left out. */
bool tap_reader_next (struct tap_reader *reader, long timeout_ms, struct tap_record *record);

#endif
