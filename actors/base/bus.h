/*  bus.h - the sockets of one actor: with the tap's, the place that sees ZeroMQ.

    Every actor may be bound at one endpoint (a ROUTER), where those who talk to
    it connect (a DEALER each). Requests go out on the DEALER, answers come back
    on it; the names that DEALERs take tell the ROUTER who is who.

    Within a process (inproc) a message is one frame, and nothing is ever lost.
    Beyond it (ipc, tcp) every hop is a session (session.h): a frame is a head and
    a payload behind it, numbered, acknowledged and sent again.

    Nothing here is flow control between actors: senders keep within the credit
    they were given. What bounds a hop whose other end is gone is the session;
    when it is full, the sender is held.
*/
#ifndef GUERDON_BUS_H
#define GUERDON_BUS_H

#include "proto/message.h"

enum { BUS_LINKS_MAX = 40, BUS_PEERS_MAX = 64, BUS_WATCH_MAX = 4 };

struct curve;

/*  The context that all actors of a process share. NULL on failure. */
void *bus_context_new (void);

/*  Ends the context; every bus must be gone before. */
void bus_context_destroy (void **context);

/*  Somebody to connect to. */
struct bus_link {
    struct address peer;
    const char *endpoint; /* outlives the bus */
};

struct bus_options {
    void *context;
    struct address self;  /* whose bus it is: role, and which shard or worker */
    const char *endpoint; /* where it is bound; NULL: nowhere */
    struct bus_link links[BUS_LINKS_MAX];
    unsigned link_count;
    unsigned callers;     /* roles that may connect: bit 1 << role each */
    int high_water_mark;  /* messages, in each direction, within a process */
    uint64_t incarnation; /* random, new at every start, not 0 */
    struct curve *curve;  /* keys of tcp hops; NULL: plaintext. Outlives the bus */
};

struct bus;

/*  Opens the sockets. NULL with a reason that names the endpoint. */
struct bus *bus_new (const struct bus_options *options, char *reason, size_t reason_size);
void bus_destroy (struct bus **bus);

enum bus_result {
    BUS_OK,
    BUS_FULL,   /* not taken: as much is under way to that peer as may be */
    BUS_UNKNOWN /* nobody is known at that address */
};

/*  Sends one message; the bytes are copied. Never blocks. Beyond the process it
    goes out with the next bus_work. */
enum bus_result bus_send (struct bus *bus, struct address to, const void *bytes, size_t size);

/*  What bus_receive found. */
enum bus_input {
    BUS_NOTHING, /* nothing waits */
    BUS_MESSAGE, /* a message for the core */
    BUS_PEER,    /* a peer came, went, or came back without its memory */
    BUS_REFUSED, /* a peer and we cannot work together: the bytes say why, each time it asks */
    BUS_RUBBISH  /* something that makes no sense was dropped */
};

struct bus_received {
    struct address from;
    const void *bytes; /* BUS_MESSAGE, BUS_REFUSED: live until the next call */
    size_t size;
    enum peer_state state; /* BUS_PEER; BUS_REFUSED: whether the right one is up all the same */
    bool remote;           /* it came from beyond the process */
};

/*  The next thing that waits, without blocking. Sockets take turns. While
    `held`, messages are left for the other end to send again, and only what
    keeps sessions alive is taken; those within the process stay queued. */
enum bus_input bus_receive (struct bus *bus, uint64_t now_ms, bool held, struct bus_received *received);

/*  Sends what sessions have due. To be called once a turn, after bus_send, and
    when bus_due is reached. */
void bus_work (struct bus *bus, uint64_t now_ms);

/*  Steady ms at which bus_receive and bus_work must be called at the latest;
    UINT64_MAX for never. */
uint64_t bus_due (const struct bus *bus);

/*  Messages given to a peer that it has not acknowledged; 0 within a process. */
uint32_t bus_unacknowledged (struct bus *bus, struct address peer);

/*  Whether every message beyond the process has arrived, and whoever sent us one
    knows that it did: who ends now leaves nobody waiting. */
bool bus_all_acknowledged (const struct bus *bus);

/*  Waits until a message is there, one of the descriptors is readable, or the
    time is over; -1 waits for ever. With `held`, messages within the process do
    not end the wait. */
void bus_wait (struct bus *bus, const int *descriptors, unsigned count, long timeout_ms, bool held);

/*  True for an endpoint within the process. */
bool bus_is_inproc (const char *endpoint);

#endif
