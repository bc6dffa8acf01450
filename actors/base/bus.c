/*  bus.c - see bus.h. */

#include "actors/base/bus.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zmq.h>

enum { SOCKETS_MAX = BUS_LINKS_MAX + 1, IDENTITY_MAX = 32 };

/*  A socket and, when it connects, whom it reaches. */
struct socket {
    void *handle;
    struct address peer; /* ROLE_SHELL: it is the ROUTER, everybody else */
};

struct bus {
    struct socket sockets[SOCKETS_MAX];
    unsigned count;
    unsigned turn;   /* the socket to ask first */
    bool has_router; /* then it is socket 0 */
    enum role role;
    uint64_t dropped;   /* messages of strangers or of the wrong form */
    zmq_msg_t received; /* what bus_receive handed out last */
};

void *bus_context_new (void)
{
    void *context = zmq_ctx_new ();
    /*  A frame above the language's limit is refused before it is read. */
    if (context && zmq_ctx_set (context, ZMQ_MAX_MSGSZ, MESSAGE_SIZE_MAX) != 0)
        bus_context_destroy (&context);
    return context;
}

void bus_context_destroy (void **context)
{
    while (*context && zmq_ctx_term (*context) != 0 && errno == EINTR)
        continue;
    *context = NULL;
}

static bool set_int (void *socket, int option, int value)
{
    return zmq_setsockopt (socket, option, &value, sizeof value) == 0;
}

/*  What every socket gets. LINGER 0: what was not sent when an actor ends will
    be asked for again by whoever missed it. */
static bool set_common (void *socket, int high_water_mark)
{
    return set_int (socket, ZMQ_LINGER, 0) && set_int (socket, ZMQ_SNDHWM, high_water_mark) &&
           set_int (socket, ZMQ_RCVHWM, high_water_mark);
}

static void *socket_add (struct bus *bus, void *context, int type, struct address peer, int high_water_mark)
{
    assert (bus->count < SOCKETS_MAX);
    void *handle = zmq_socket (context, type);
    if (!handle)
        return NULL;
    bus->sockets[bus->count++] = (struct socket){ handle, peer };
    return set_common (handle, high_water_mark) ? handle : NULL;
}

static bool open_router (struct bus *bus, const struct bus_options *options)
{
    void *router = socket_add (bus, options->context, ZMQ_ROUTER, TO_SHELL, options->high_water_mark);
    bus->has_router = router != NULL;
    return router && set_int (router, ZMQ_ROUTER_MANDATORY, 1) && zmq_bind (router, options->endpoint) == 0;
}

static bool open_dealer (struct bus *bus, const struct bus_options *options, unsigned index)
{
    const struct bus_link *link = &options->links[index];
    struct address peer = { link->role, 0 };
    for (unsigned i = 0; i < index; i++)
        if (options->links[i].role == link->role)
            peer.peer++;
    char identity[IDENTITY_MAX];
    int size = snprintf (identity, sizeof identity, "%s/%u", role_name (options->role), 0u);
    void *dealer = socket_add (bus, options->context, ZMQ_DEALER, peer, options->high_water_mark);
    return dealer && zmq_setsockopt (dealer, ZMQ_ROUTING_ID, identity, (size_t) size) == 0 &&
           zmq_connect (dealer, link->endpoint) == 0;
}

struct bus *bus_new (const struct bus_options *options, char *reason, size_t reason_size)
{
    assert (options->link_count <= BUS_LINKS_MAX);
    struct bus *bus = calloc (1, sizeof *bus);
    if (!bus) {
        snprintf (reason, reason_size, "out of memory");
        return NULL;
    }
    bus->role = options->role;
    zmq_msg_init (&bus->received);
    const char *endpoint = options->endpoint;
    bool good = !endpoint || open_router (bus, options);
    for (unsigned i = 0; good && i < options->link_count; i++) {
        endpoint = options->links[i].endpoint;
        good = open_dealer (bus, options, i);
    }
    if (!good) {
        snprintf (reason, reason_size, "%s: %s", endpoint, zmq_strerror (errno));
        bus_destroy (&bus);
    }
    return bus;
}

void bus_destroy (struct bus **bus)
{
    if (!*bus)
        return;
    for (unsigned i = 0; i < (*bus)->count; i++)
        zmq_close ((*bus)->sockets[i].handle);
    zmq_msg_close (&(*bus)->received);
    free (*bus);
    *bus = NULL;
}

/*  ---- sending ------------------------------------------------------------ */

static enum bus_result send_frame (void *socket, const void *bytes, size_t size, int flags)
{
    while (zmq_send (socket, bytes, size, flags | ZMQ_DONTWAIT) < 0) {
        if (errno == EINTR)
            continue;
        return errno == EHOSTUNREACH ? BUS_UNKNOWN : BUS_FULL;
    }
    return BUS_OK;
}

enum bus_result bus_send (struct bus *bus, struct address to, const void *bytes, size_t size)
{
    for (unsigned i = bus->has_router; i < bus->count; i++)
        if (bus->sockets[i].peer.role == to.role && bus->sockets[i].peer.peer == to.peer)
            return send_frame (bus->sockets[i].handle, bytes, size, 0);
    if (!bus->has_router)
        return BUS_UNKNOWN;
    char identity[IDENTITY_MAX];
    int length = snprintf (identity, sizeof identity, "%s/%u", role_name (to.role), (unsigned) to.peer);
    void *router = bus->sockets[0].handle;
    enum bus_result result = send_frame (router, identity, (size_t) length, ZMQ_SNDMORE);
    return result == BUS_OK ? send_frame (router, bytes, size, 0) : result;
}

/*  ---- receiving ---------------------------------------------------------- */

/*  Who a DEALER says it is, "role/number"; false for a stranger. */
static bool read_identity (zmq_msg_t *frame, struct address *from)
{
    static const enum role callers[] = { ROLE_INGEST, ROLE_DECISION, ROLE_USERMETA_CLIENT,
                                         ROLE_CURRENCY_CLIENT, ROLE_STATS };
    const char *bytes = zmq_msg_data (frame);
    size_t size = zmq_msg_size (frame);
    for (size_t i = 0; i < sizeof callers / sizeof *callers; i++) {
        const char *name = role_name (callers[i]);
        size_t length = strlen (name);
        if (size < length + 2 || size > length + 4 || memcmp (bytes, name, length) != 0 ||
            bytes[length] != '/')
            continue;
        unsigned peer = 0;
        for (size_t at = length + 1; at < size; at++) {
            if (bytes[at] < '0' || bytes[at] > '9')
                return false;
            peer = peer * 10 + (unsigned) (bytes[at] - '0');
        }
        *from = (struct address){ callers[i], (uint16_t) peer };
        return true;
    }
    return false;
}

static bool receive_frame (struct bus *bus, void *socket)
{
    while (zmq_msg_recv (&bus->received, socket, ZMQ_DONTWAIT) < 0)
        if (errno != EINTR)
            return false;
    return true;
}

/*  Drops a message of a stranger, or with more or fewer frames than it should
    have: what is left of it. */
static void drop_rest (struct bus *bus, void *socket)
{
    bus->dropped++;
    while (zmq_msg_more (&bus->received) && receive_frame (bus, socket))
        continue;
}

static bool receive_from (struct bus *bus, const struct socket *socket, struct address *from)
{
    if (!receive_frame (bus, socket->handle))
        return false;
    *from = socket->peer;
    if (socket->peer.role == ROLE_SHELL) {
        bool known = read_identity (&bus->received, from);
        if (!known || !zmq_msg_more (&bus->received)) {
            drop_rest (bus, socket->handle);
            return false;
        }
        if (!receive_frame (bus, socket->handle))
            return false;
    }
    if (!zmq_msg_more (&bus->received))
        return true;
    drop_rest (bus, socket->handle);
    return false;
}

uint64_t bus_take_dropped (struct bus *bus)
{
    uint64_t dropped = bus->dropped;
    bus->dropped = 0;
    return dropped;
}

bool bus_receive (struct bus *bus, struct address *from, const void **bytes, size_t *size)
{
    for (unsigned tried = 0; tried < bus->count; tried++) {
        const struct socket *socket = &bus->sockets[bus->turn];
        bus->turn = (bus->turn + 1) % bus->count;
        if (!receive_from (bus, socket, from))
            continue;
        *bytes = zmq_msg_data (&bus->received);
        *size = zmq_msg_size (&bus->received);
        return true;
    }
    return false;
}

void bus_wait (struct bus *bus, const int *descriptors, unsigned count, long timeout_ms)
{
    zmq_pollitem_t items[SOCKETS_MAX + BUS_WATCH_MAX];
    unsigned used = 0;
    assert (count <= BUS_WATCH_MAX);
    for (unsigned i = 0; i < bus->count; i++)
        items[used++] = (zmq_pollitem_t){ .socket = bus->sockets[i].handle, .events = ZMQ_POLLIN };
    for (unsigned i = 0; i < count; i++)
        items[used++] = (zmq_pollitem_t){ .fd = descriptors[i], .events = ZMQ_POLLIN };
    zmq_poll (items, (int) used, timeout_ms);
}
