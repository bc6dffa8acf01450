/*  bus.h - the sockets of one actor: the one place that sees ZeroMQ.

    Every actor may be bound at one endpoint (a ROUTER), where those who talk to
    it connect (a DEALER each). Requests go out on the DEALER, answers come back
    on it; the names that DEALERs take tell the ROUTER who is who. One message
    is one frame.

    Nothing here is flow control: senders keep within the credit they were
    given, and the high-water marks are above it.
*/
#ifndef GUERDON_BUS_H
#define GUERDON_BUS_H

#include "proto/message.h"

enum { BUS_LINKS_MAX = 8, BUS_WATCH_MAX = 4 };

/*  The context that all actors of a process share. NULL on failure. */
void *bus_context_new (void);

/*  Ends the context; every bus must be gone before. */
void bus_context_destroy (void **context);

/*  Somebody to connect to. */
struct bus_link {
    enum role role;
    const char *endpoint;
};

struct bus_options {
    void *context;
    enum role role;       /* whose bus it is */
    const char *endpoint; /* where it is bound; NULL: nowhere */
    struct bus_link links[BUS_LINKS_MAX];
    unsigned link_count;
    int high_water_mark; /* messages, in each direction */
};

struct bus;

/*  Opens the sockets. NULL with a reason that names the endpoint. */
struct bus *bus_new (const struct bus_options *options, char *reason, size_t reason_size);
void bus_destroy (struct bus **bus);

enum bus_result {
    BUS_OK,
    BUS_FULL,   /* the high-water mark is reached; the message was not taken */
    BUS_UNKNOWN /* nobody is known at that address */
};

/*  Sends one message; the bytes are copied. Never blocks. */
enum bus_result bus_send (struct bus *bus, struct address to, const void *bytes, size_t size);

/*  The next message that waits, without blocking; false when none does. The
    bytes live until the next receive. Sockets take turns. */
bool bus_receive (struct bus *bus, struct address *from, const void **bytes, size_t *size);

/*  Messages that bus_receive dropped since the last call, because nobody knows
    who sent them or because they were not one frame. */
uint64_t bus_take_dropped (struct bus *bus);

/*  Waits until a message is there, one of the descriptors is readable, or the
    time is over; -1 waits for ever. */
void bus_wait (struct bus *bus, const int *descriptors, unsigned count, long timeout_ms);

#endif
