/*  session.h - one hop that survives the network, seen from one end.

    ZeroMQ keeps messages in order on a connection and drops what was under way
    when the connection breaks. A session makes that whole again: both ends say
    HELLO, number what they send, acknowledge what they delivered, keep what is
    not acknowledged and send it again, and drop what comes twice. A pure state
    machine over bytes: it has no socket and no clock. Whoever owns the socket
    hands in what arrived, and sends what session_next gives.

    On the wire every frame begins with a head; unless it only acknowledges or
    shows a sign of life, a payload follows, which is one message of the language:

        head = msgpack [incarnation, sequence, acknowledged, acknowledged_incarnation]

    -   incarnation: the sender's, as in its HELLO; never 0.
    -   sequence: 1, 2, 3… for payloads that are kept until acknowledged; 0 for
        HELLO, REFUSED and frames without payload.
    -   acknowledged: everything up to here was delivered of the incarnation
        that stands behind it (0, 0 before the other's HELLO came). A HELLO
        that answers another's names that one.

    A HELLO that does not name the incarnation of whom it reaches is answered with
    a HELLO. Whoever comes back with another incarnation has forgotten everything. Then
    what was kept for the old one is dropped, because only the actor above knows
    what may be asked again; it is told (SESSION_RESTARTED).
*/
#ifndef GUERDON_SESSION_H
#define GUERDON_SESSION_H

#include "proto/message.h"

enum {
    SESSION_FRAMES_MAX = 8192,    /* payloads kept until acknowledged */
    SESSION_BYTES_MAX = 64 << 20, /* … and their bytes */
    SESSION_HEAD_SIZE_MAX = 64,
    SESSION_HEARTBEAT_MS = 500,   /* a sign of life when nothing else was sent */
    SESSION_LOST_MS = 2000,       /* silence after which the other end is lost */
    SESSION_RESEND_MIN_MS = 200,  /* first repetition of what is not acknowledged; */
    SESSION_RESEND_MAX_MS = 1000, /* … doubled up to this, reset by progress */
    SESSION_HELLO_MS = 200,       /* between HELLOs while there is no answer */
    SESSION_STUCK_MS = 20,        /* before a socket that took nothing is asked again unasked */
    SESSION_ANSWER_MS = 10,       /* an acknowledgement waits as long for a payload to ride on, */
    SESSION_ANSWER_FRAMES = 32,   /* … and for no more payloads than these */
    SESSION_RESEND_BURST_MAX = 64 /* frames repeated at once */
};

enum session_state {
    SESSION_CONNECTING, /* no HELLO of the other end yet */
    SESSION_UP,
    SESSION_LOST,   /* it was up; silence since */
    SESSION_REFUSED /* the two cannot work together; asked again every few seconds */
};

struct session_options {
    enum role role;        /* ours */
    uint16_t index;        /* ours: shard or worker */
    uint64_t incarnation;  /* ours, not 0 */
    uint16_t protocol_min; /* what we speak: PROTOCOL_MIN and PROTOCOL_MAX, but in tests */
    uint16_t protocol_max;
    const char *version; /* of our binary; outlives the session */
    struct address peer; /* who must be at the other end */
    bool speaks_first;   /* says HELLO without having heard one: the end that connects */
};

struct session;

/*  NULL when out of memory. */
struct session *session_new (const struct session_options *options);
void session_destroy (struct session **session);

/*  Takes a payload to be delivered at the other end exactly once as long as it
    keeps its incarnation; copied. False when SESSION_FRAMES_MAX or
    SESSION_BYTES_MAX are reached: nothing was taken. */
bool session_send (struct session *session, const void *payload, size_t size);

/*  What a frame that arrived means. */
enum session_input {
    SESSION_NOTHING,   /* nothing to do: an acknowledgement, a sign of life, a repetition */
    SESSION_DELIVER,   /* the payload is to be handed over, now */
    SESSION_CAME,      /* the other end is up: for the first time, or again after silence. A
                           payload that came with it was not taken: the frame may be handed
                           in again at once, else its repetition brings it */
    SESSION_RESTARTED, /* the other end is up with another incarnation than before */
    SESSION_NO,        /* refused, by either end: session_reason says why. When another
                           knocks while the right one is up, the state stays SESSION_UP */
    SESSION_RUBBISH    /* makes no sense; to be counted */
};

/*  Hands in a frame; payload_size 0 when it had none. A payload to be delivered
    is the one handed in. */
enum session_input session_receive (struct session *session, uint64_t now_ms, const void *head,
                                    size_t head_size, const void *payload, size_t payload_size);

/*  While held, payloads that arrive are neither delivered nor acknowledged: the
    other end will send them again. */
void session_hold (struct session *session, bool held);

/*  Lets time pass; true once each time the other end has become lost. To be
    called after what arrived was handed in: then a pause of our own is not
    taken for silence. */
bool session_expire (struct session *session, uint64_t now_ms);

struct session_kept;

/*  A frame to be put on the wire; views live until the next call on the session. */
struct session_frame {
    const uint8_t *head; /* the payload stands right behind it in memory */
    size_t head_size;
    const void *payload; /* NULL for none */
    size_t payload_size;
    struct session_kept *kept; /* where the payload is kept; NULL: it is not */
};

/*  The next frame that is due now, to be called until it is false: HELLO, data,
    repetitions, acknowledgements, signs of life. When the socket does not take
    the frame it is simply dropped: it will be repeated. */
bool session_next (struct session *session, uint64_t now_ms, struct session_frame *frame);

/*  Holds the bytes of a frame whose `kept` is not NULL, head and payload, as they
    are until session_unshare is called with what this returns: so they are sent
    without a copy, and sent again without another. */
void *session_share (const struct session_frame *frame);

/*  From any thread, also when the session is gone. The first argument is not
    looked at: it makes this a zmq_free_fn. */
void session_unshare (void *bytes, void *share);

/*  Says that the socket did not take the frame that session_next gave last; to be
    called before anything else is. Of a payload that is better than dropping it: it is
    given again, first, after session_unstuck or SESSION_STUCK_MS. What the frame
    acknowledged is to be told again, within SESSION_STUCK_MS. */
void session_stuck (struct session *session, uint64_t now_ms);

/*  Says that the socket may take frames again. */
void session_unstuck (struct session *session);

/*  Steady ms at which session_next or session_expire must be called at the
    latest; UINT64_MAX for never. */
uint64_t session_due (const struct session *session);

/*  How it stands with the other end. */
enum session_state session_state (const struct session *session);

/*  Why it is refused, naming both versions; set when session_receive says
    SESSION_NO and in the state SESSION_REFUSED, empty otherwise. */
const char *session_reason (const struct session *session);

/*  Payloads that are not acknowledged. */
uint32_t session_unacknowledged (const struct session *session);

/*  Payloads that were delivered, and the other end does not know it; 0 when it is
    not up. */
uint32_t session_unanswered (const struct session *session);

/*  Reads a HELLO out of a frame that arrived from somebody unknown yet; false
    when it is none. */
bool session_hello (const void *head, size_t head_size, const void *payload, size_t payload_size,
                    struct hello *hello);

#endif
