/*  bus.c - see bus.h. */

#include "actors/base/bus.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zmq.h>

#include "actors/base/curve.h"
#include "actors/base/log.h"
#include "actors/base/session.h"
#include "proto/raw.h"

enum {
    SOCKETS_MAX = BUS_LINKS_MAX + 1,
    IDENTITY_MAX = 32,
    FRAME_SIZE_MAX = MESSAGE_SIZE_MAX + SESSION_HEAD_SIZE_MAX,
    FRAMES_A_CALL_MAX = 256,       /* that bus_receive looks at before it lets go */
    FRAMES_BEFORE_LOOK_MAX = 4096, /* that are taken before silence is looked for */
    KEYS_LOOK_MS = 1000
};

/*  What is set on every socket beyond the process, where ZeroMQ's own choice is
    to wait for ever or to take anything. */
static const struct {
    int option;
    int value;
} remote_options[] = {
    /*  What a session can send again need not be queued twice, least of all for
        somebody who is not there. */
    { ZMQ_IMMEDIATE, 1 },
    { ZMQ_SNDHWM, 1000 },
    { ZMQ_RCVHWM, 1000 },
    /*  A connection that is dead is found out and made anew; TCP alone would
        take minutes. */
    { ZMQ_HEARTBEAT_IVL, 500 },
    { ZMQ_HEARTBEAT_TIMEOUT, 1500 },
    { ZMQ_HEARTBEAT_TTL, 1500 },
    { ZMQ_CONNECT_TIMEOUT, 500 },
    /*  ZeroMQ adds jitter of its own between these. */
    { ZMQ_RECONNECT_IVL, 50 },
    { ZMQ_RECONNECT_IVL_MAX, 400 },
    /*  Whoever connects and says nothing is dropped. */
    { ZMQ_HANDSHAKE_IVL, 2000 },
};

/*  A socket and, when it connects, whom it reaches. */
struct socket {
    void *handle;
    struct address peer; /* ROLE_SHELL: it is the ROUTER, everybody else */
    bool remote;         /* hops are sessions */
    bool keys;           /* encrypted, and its other ends proven */
    bool drained;        /* nothing waited when it was asked last, and it was not used since */
    bool silent;         /* nor did anything come when it was waited for last */
    int descriptor;      /* becomes readable when something happens to it; but what happens
                            while it is used is not told again */
};

/*  The other end of a hop beyond the process. */
struct hop {
    struct address address;
    struct session *session;
    unsigned socket;             /* the one it is reached by */
    bool stuck;                  /* that one took nothing when it was asked last */
    char identity[IDENTITY_MAX]; /* what its DEALER is called */
    size_t identity_size;
};

struct bus {
    struct bus_options options;
    struct socket sockets[SOCKETS_MAX];
    unsigned count;
    unsigned turn;   /* the socket to ask first */
    bool has_router; /* then it is socket 0 */
    struct hop peers[BUS_PEERS_MAX];
    unsigned peer_count;
    unsigned unlooked;  /* frames taken since silence was looked for */
    uint64_t renew_ms;  /* when keys are looked at next */
    zmq_msg_t received; /* what bus_receive handed out last */
};

void *bus_context_new (void)
{
    void *context = zmq_ctx_new ();
    /*  A frame above the language's limit is refused before it is read. */
    if (context && zmq_ctx_set (context, ZMQ_MAX_MSGSZ, FRAME_SIZE_MAX) != 0)
        bus_context_destroy (&context);
    return context;
}

void bus_context_destroy (void **context)
{
    while (*context && zmq_ctx_term (*context) != 0 && errno == EINTR)
        continue;
    *context = NULL;
}

bool bus_is_inproc (const char *endpoint)
{
    return strncmp (endpoint, "inproc:", 7) == 0;
}

/*  ---- opening ------------------------------------------------------------ */

static bool set_int (void *socket, int option, int value)
{
    return zmq_setsockopt (socket, option, &value, sizeof value) == 0;
}

static bool set_remote (void *socket)
{
    int64_t size_max = FRAME_SIZE_MAX; /* larger frames are refused before they are read */
    for (size_t i = 0; i < sizeof remote_options / sizeof *remote_options; i++)
        if (!set_int (socket, remote_options[i].option, remote_options[i].value))
            return false;
    return zmq_setsockopt (socket, ZMQ_MAXMSGSIZE, &size_max, sizeof size_max) == 0 &&
           set_int (socket, ZMQ_IPV6, 1);
}

/*  Keys are for tcp; a file or a process needs none. */
static bool wants_keys (const struct bus *bus, const char *endpoint)
{
    return bus->options.curve && strncmp (endpoint, "tcp:", 4) == 0;
}

/*  A socket, linked into the bus. LINGER 0: what was not sent when an actor ends
    will be asked for again by whoever missed it. */
static struct socket *socket_add (struct bus *bus, int type, struct address peer, const char *endpoint)
{
    assert (bus->count < SOCKETS_MAX);
    int high_water_mark = bus->options.high_water_mark;
    struct socket *socket = &bus->sockets[bus->count];
    *socket = (struct socket){ .handle = zmq_socket (bus->options.context, type),
                               .peer = peer,
                               .remote = !bus_is_inproc (endpoint),
                               .keys = wants_keys (bus, endpoint) };
    if (!socket->handle)
        return NULL;
    bus->count++;
    bool good = set_int (socket->handle, ZMQ_LINGER, 0) &&
                set_int (socket->handle, ZMQ_SNDHWM, high_water_mark) &&
                set_int (socket->handle, ZMQ_RCVHWM, high_water_mark) &&
                (!socket->remote || set_remote (socket->handle));
    size_t size = sizeof socket->descriptor;
    good = good && zmq_getsockopt (socket->handle, ZMQ_FD, &socket->descriptor, &size) == 0;
    return good ? socket : NULL;
}

static struct hop *peer_find (struct bus *bus, struct address address)
{
    for (unsigned i = 0; i < bus->peer_count; i++)
        if (bus->peers[i].address.role == address.role && bus->peers[i].address.peer == address.peer)
            return &bus->peers[i];
    return NULL;
}

static void peer_remove (struct bus *bus, struct hop *peer)
{
    session_destroy (&peer->session);
    *peer = bus->peers[--bus->peer_count];
}

/*  The name that the DEALER of an actor takes; its size. */
static size_t write_identity (char *identity, struct address address)
{
    int size = snprintf (identity, IDENTITY_MAX, "%s/%u", role_name (address.role), (unsigned) address.peer);
    return (size_t) size;
}

/*  Somebody who knocked and never came in, to make room for another; NULL when
    there is none. */
static struct hop *peer_idle (struct bus *bus)
{
    for (unsigned i = 0; i < bus->peer_count; i++) {
        const struct hop *peer = &bus->peers[i];
        enum session_state state = session_state (peer->session);
        bool came = state == SESSION_UP || state == SESSION_LOST;
        if (bus->has_router && peer->socket == 0 && !came && !session_unacknowledged (peer->session))
            return &bus->peers[i];
    }
    return NULL;
}

static struct hop *peer_add (struct bus *bus, struct address address, unsigned socket, bool speaks_first)
{
    struct hop *idle = bus->peer_count == BUS_PEERS_MAX ? peer_idle (bus) : NULL;
    if (idle)
        peer_remove (bus, idle);
    if (bus->peer_count == BUS_PEERS_MAX)
        return NULL;
    const struct session_options options = {
        .role = bus->options.self.role,
        .index = bus->options.self.peer,
        .incarnation = bus->options.incarnation,
        .protocol_min = PROTOCOL_MIN,
        .protocol_max = PROTOCOL_MAX,
        .version = GUERDON_VERSION,
        .peer = address,
        .speaks_first = speaks_first,
    };
    struct hop *peer = &bus->peers[bus->peer_count];
    *peer = (struct hop){ .address = address, .session = session_new (&options), .socket = socket };
    if (!peer->session)
        return NULL;
    peer->identity_size = write_identity (peer->identity, address);
    bus->peer_count++;
    return peer;
}

static bool open_router (struct bus *bus)
{
    const char *endpoint = bus->options.endpoint;
    const struct socket *socket = socket_add (bus, ZMQ_ROUTER, TO_SHELL, endpoint);
    bus->has_router = socket != NULL;
    /*  MANDATORY: to write to somebody unknown is an error, not silence.
        HANDOVER: who comes back under its name replaces its dead connection. */
    return socket && set_int (socket->handle, ZMQ_ROUTER_MANDATORY, 1) &&
           set_int (socket->handle, ZMQ_ROUTER_HANDOVER, 1) &&
           (!socket->keys ||
            curve_server (bus->options.curve, socket->handle, role_name (bus->options.self.role))) &&
           zmq_bind (socket->handle, endpoint) == 0;
}

static bool open_dealer (struct bus *bus, const struct bus_link *link)
{
    char identity[IDENTITY_MAX];
    const struct address self = bus->options.self;
    size_t size = write_identity (identity, self);
    const struct socket *socket = socket_add (bus, ZMQ_DEALER, link->peer, link->endpoint);
    if (!socket || zmq_setsockopt (socket->handle, ZMQ_ROUTING_ID, identity, size) != 0)
        return false;
    if (socket->keys && !curve_client (bus->options.curve, socket->handle, role_name (self.role),
                                       role_name (link->peer.role)))
        return false;
    if (socket->remote && !peer_add (bus, link->peer, bus->count - 1, true))
        return false;
    return zmq_connect (socket->handle, link->endpoint) == 0;
}

struct bus *bus_new (const struct bus_options *options, char *reason, size_t reason_size)
{
    assert (options->link_count <= BUS_LINKS_MAX);
    struct bus *bus = calloc (1, sizeof *bus);
    if (!bus) {
        snprintf (reason, reason_size, "out of memory");
        return NULL;
    }
    bus->options = *options;
    zmq_msg_init (&bus->received);
    const char *endpoint = options->endpoint;
    bool good = !endpoint || open_router (bus);
    for (unsigned i = 0; good && i < options->link_count; i++) {
        endpoint = options->links[i].endpoint;
        good = open_dealer (bus, &options->links[i]);
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
    for (unsigned i = 0; i < (*bus)->peer_count; i++)
        session_destroy (&(*bus)->peers[i].session);
    zmq_msg_close (&(*bus)->received);
    free (*bus);
    *bus = NULL;
}

/*  ---- sending ------------------------------------------------------------ */

static enum bus_result send_frame (struct socket *socket, const void *bytes, size_t size, int flags)
{
    socket->drained = false;
    while (zmq_send (socket->handle, bytes, size, flags | ZMQ_DONTWAIT) < 0) {
        if (errno == EINTR)
            continue;
        /*  The frames before this one are out: there is no way back. */
        if (errno == ENOMEM)
            log_no_memory ("bus");
        return errno == EHOSTUNREACH ? BUS_UNKNOWN : BUS_FULL;
    }
    return BUS_OK;
}

enum bus_result bus_send (struct bus *bus, struct address to, const void *bytes, size_t size)
{
    const struct hop *peer = peer_find (bus, to);
    if (peer)
        return session_send (peer->session, bytes, size) ? BUS_OK : BUS_FULL;
    for (unsigned i = bus->has_router; i < bus->count; i++)
        if (bus->sockets[i].peer.role == to.role && bus->sockets[i].peer.peer == to.peer)
            return send_frame (&bus->sockets[i], bytes, size, 0);
    if (!bus->has_router || bus->sockets[0].remote)
        return BUS_UNKNOWN;
    char identity[IDENTITY_MAX];
    size_t identity_size = write_identity (identity, to);
    enum bus_result result = send_frame (&bus->sockets[0], identity, identity_size, ZMQ_SNDMORE);
    return result == BUS_OK ? send_frame (&bus->sockets[0], bytes, size, 0) : result;
}

/*  Sends a frame from where its session keeps it. */
static bool send_kept (struct socket *socket, const struct session_frame *frame)
{
    zmq_msg_t message;
    void *share = session_share (frame);
    if (zmq_msg_init_data (&message, (void *) frame->head, frame->head_size + frame->payload_size,
                           session_unshare, share) != 0)
        log_no_memory ("bus");
    socket->drained = false;
    int sent;
    do
        sent = zmq_msg_send (&message, socket->handle, ZMQ_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno == ENOMEM)
        log_no_memory ("bus");
    if (sent < 0)
        zmq_msg_close (&message);
    return sent >= 0;
}

/*  Puts one frame of a session on the wire. What the socket does not take the
    session sends again. Head and payload are one ZeroMQ frame: up to 4.3.5 the
    library ends the process when a peer goes away, or is replaced by another of its
    name, between the parts of a message (libzmq issues 939, 1588). */
static bool send_session_frame (struct bus *bus, const struct hop *peer, const struct session_frame *frame)
{
    struct socket *socket = &bus->sockets[peer->socket];
    bool router = bus->has_router && peer->socket == 0;
    if (router && send_frame (socket, peer->identity, peer->identity_size, ZMQ_SNDMORE) != BUS_OK)
        return false;
    if (frame->kept)
        return send_kept (socket, frame);
    return send_frame (socket, frame->head, frame->head_size + frame->payload_size, 0) == BUS_OK;
}

/*  Keys that were changed on disk come into use. */
static void renew_keys (struct bus *bus, uint64_t now_ms)
{
    if (!bus->options.curve || now_ms < bus->renew_ms)
        return;
    bus->renew_ms = now_ms + KEYS_LOOK_MS;
    for (unsigned i = 0; i < bus->count; i++)
        if (bus->sockets[i].keys) {
            bus->sockets[i].drained = false;
            curve_renew (bus->options.curve, bus->sockets[i].handle);
        }
}

/*  Sends what a session has due, as much as its socket takes. One that was stuck is
    asked again: to be told no once a turn costs next to nothing. */
static void hop_work (struct bus *bus, struct hop *hop, uint64_t now_ms)
{
    struct session_frame frame;
    if (hop->stuck)
        session_unstuck (hop->session);
    hop->stuck = false;
    while (!hop->stuck && session_next (hop->session, now_ms, &frame))
        hop->stuck = !send_session_frame (bus, hop, &frame);
    if (hop->stuck)
        session_stuck (hop->session, now_ms);
}

void bus_work (struct bus *bus, uint64_t now_ms)
{
    renew_keys (bus, now_ms);
    for (unsigned i = 0; i < bus->peer_count; i++)
        hop_work (bus, &bus->peers[i], now_ms);
}

uint64_t bus_due (const struct bus *bus)
{
    uint64_t due = UINT64_MAX;
    for (unsigned i = 0; i < bus->peer_count; i++) {
        uint64_t own = session_due (bus->peers[i].session);
        due = own < due ? own : due;
    }
    return due;
}

uint32_t bus_unacknowledged (struct bus *bus, struct address peer)
{
    const struct hop *hop = peer_find (bus, peer);
    return hop ? session_unacknowledged (hop->session) : 0;
}

bool bus_all_acknowledged (const struct bus *bus)
{
    for (unsigned i = 0; i < bus->peer_count; i++)
        if (session_unacknowledged (bus->peers[i].session) || session_unanswered (bus->peers[i].session))
            return false;
    return true;
}

/*  ---- receiving ---------------------------------------------------------- */

/*  Who a DEALER says it is, "role/number" as it is written here; false for
    a stranger. */
static bool read_identity (zmq_msg_t *frame, struct address *from)
{
    const char *bytes = zmq_msg_data (frame);
    size_t size = zmq_msg_size (frame);
    for (enum role role = ROLE_INGEST; role <= ROLE_STATS; role++) {
        const char *name = role_name (role);
        size_t length = strlen (name);
        if (size < length + 2 || size > length + 4 || memcmp (bytes, name, length) != 0 ||
            bytes[length] != '/')
            continue;
        unsigned peer = 0;
        for (size_t at = length + 1; at < size; at++) {
            bool leads = at == length + 1 && bytes[at] == '0' && size > at + 1; /* another name for it */
            if (bytes[at] < '0' || bytes[at] > '9' || leads)
                return false;
            peer = peer * 10 + (unsigned) (bytes[at] - '0');
        }
        *from = (struct address){ role, (uint16_t) peer };
        return true;
    }
    return false;
}

/*  With keys: whether who sent a frame is who it says it is. The proof is on the
    frames that were sent, not on the name that the ROUTER puts before them. */
static bool is_proven (const struct socket *socket, struct address from, zmq_msg_t *frame)
{
    if (!socket->keys || socket->peer.role != ROLE_SHELL)
        return true;
    const char *proven = zmq_msg_gets (frame, "User-Id");
    return proven && strcmp (proven, role_name (from.role)) == 0;
}

static bool receive_frame (zmq_msg_t *frame, struct socket *socket)
{
    socket->drained = false;
    while (zmq_msg_recv (frame, socket->handle, ZMQ_DONTWAIT) < 0)
        if (errno != EINTR) {
            socket->drained = errno == EAGAIN;
            return false;
        }
    return true;
}

/*  Drops what is left of a message that makes no sense. */
static enum bus_input drop_rest (zmq_msg_t *frame, struct socket *socket)
{
    while (zmq_msg_more (frame) && receive_frame (frame, socket))
        continue;
    return BUS_RUBBISH;
}

/*  What a session makes of a frame, for whoever receives. */
static enum bus_input input_of (enum session_input input, const struct session *session,
                                struct bus_received *received)
{
    switch (input) {
    case SESSION_DELIVER:
        return BUS_MESSAGE;
    case SESSION_CAME:
        received->state = PEER_UP;
        return BUS_PEER;
    case SESSION_RESTARTED:
        received->state = PEER_RESTARTED;
        return BUS_PEER;
    case SESSION_NO:
        received->state = session_state (session) == SESSION_UP ? PEER_UP : PEER_LOST;
        received->bytes = session_reason (session);
        received->size = strlen (received->bytes);
        return BUS_REFUSED;
    case SESSION_RUBBISH:
        return BUS_RUBBISH;
    case SESSION_NOTHING:
        break;
    }
    return BUS_NOTHING;
}

/*  Where the head of a session's frame ends: it is one msgpack object, and short. */
static size_t head_size_of (const void *bytes, size_t size)
{
    size_t most = size < SESSION_HEAD_SIZE_MAX ? size : SESSION_HEAD_SIZE_MAX;
    struct cursor cursor = cursor_of ((struct raw){ bytes, (uint32_t) most });
    return cursor_skip (&cursor, NULL) ? (size_t) (cursor.at - (const uint8_t *) bytes) : most;
}

/*  Takes a frame of a session, bus->received. Whoever begins with rubbish does not
    become a peer. */
static enum bus_input take_session_frame (struct bus *bus, unsigned socket, uint64_t now_ms, bool held,
                                          struct bus_received *received)
{
    struct hop *peer = peer_find (bus, received->from);
    bool fresh = !peer;
    if (fresh)
        peer = peer_add (bus, received->from, socket, false);
    if (!peer)
        return BUS_RUBBISH;
    session_hold (peer->session, held);
    received->remote = true;
    const uint8_t *frame = zmq_msg_data (&bus->received);
    size_t size = zmq_msg_size (&bus->received);
    size_t head_size = head_size_of (frame, size);
    received->size = size - head_size;
    received->bytes = received->size ? frame + head_size : NULL;
    enum bus_input input =
        input_of (session_receive (peer->session, now_ms, frame, head_size, received->bytes, received->size),
                  peer->session, received);
    /*  However long the turn: the other end may be waiting for it. */
    if (input != BUS_REFUSED && session_unanswered (peer->session) >= SESSION_ANSWER_FRAMES)
        hop_work (bus, peer, now_ms);
    if (fresh && input == BUS_RUBBISH)
        peer_remove (bus, peer);
    return input;
}

/*  What stands behind the identity, or all there is on a DEALER; *empty when that
    is nothing. */
static enum bus_input receive_body (struct bus *bus, unsigned index, uint64_t now_ms, bool held,
                                    struct bus_received *received, bool *empty)
{
    struct socket *socket = &bus->sockets[index];
    *empty = !receive_frame (&bus->received, socket);
    if (*empty)
        return BUS_NOTHING;
    if (socket->remote && !is_proven (socket, received->from, &bus->received)) {
        curve_false_claim (bus->options.curve);
        return drop_rest (&bus->received, socket);
    }
    if (zmq_msg_more (&bus->received))
        return drop_rest (&bus->received, socket);
    if (!socket->remote) {
        received->bytes = zmq_msg_data (&bus->received);
        received->size = zmq_msg_size (&bus->received);
        return BUS_MESSAGE;
    }
    return take_session_frame (bus, index, now_ms, held, received);
}

/*  One message of a socket; *empty when there was none at all. */
static enum bus_input receive_from (struct bus *bus, unsigned index, uint64_t now_ms, bool held,
                                    struct bus_received *received, bool *empty)
{
    struct socket *socket = &bus->sockets[index];
    received->from = socket->peer;
    if (socket->peer.role != ROLE_SHELL)
        return receive_body (bus, index, now_ms, held, received, empty);
    *empty = !receive_frame (&bus->received, socket);
    if (*empty)
        return BUS_NOTHING;
    bool known = read_identity (&bus->received, &received->from);
    if (!known || !zmq_msg_more (&bus->received) || !(bus->options.callers & 1u << received->from.role))
        return drop_rest (&bus->received, socket);
    return receive_body (bus, index, now_ms, held, received, empty);
}

/*  Whether somebody has just become silent. */
static bool find_lost (struct bus *bus, uint64_t now_ms, struct bus_received *received)
{
    for (unsigned i = 0; i < bus->peer_count; i++) {
        if (!session_expire (bus->peers[i].session, now_ms))
            continue;
        *received = (struct bus_received){ .from = bus->peers[i].address, .state = PEER_LOST };
        return true;
    }
    return false;
}

/*  The next thing that a socket has. BUS_NOTHING too when there may be more, after
    so much that was nothing: *all tells. */
static enum bus_input receive_any (struct bus *bus, uint64_t now_ms, bool held, struct bus_received *received,
                                   bool *all)
{
    unsigned idle = 0;
    for (unsigned tried = 0; idle < bus->count && tried < FRAMES_A_CALL_MAX; tried++) {
        unsigned index = bus->turn;
        bool empty = true;
        bus->turn = (bus->turn + 1) % bus->count;
        if (!bus->sockets[index].silent && (!held || bus->sockets[index].remote)) {
            enum bus_input input = receive_from (bus, index, now_ms, held, received, &empty);
            if (input != BUS_NOTHING)
                return input;
        }
        idle = empty ? idle + 1 : 0;
    }
    *all = idle >= bus->count;
    /*  Who did not wait first is to hear of what came meanwhile, too. */
    for (unsigned i = 0; *all && i < bus->count; i++)
        bus->sockets[i].silent = false;
    return BUS_NOTHING;
}

/*  Silence is looked for when everything that waited was heard: a pause of our
    own is none. Those who are heard all the time cannot put that off for ever. */
enum bus_input bus_receive (struct bus *bus, uint64_t now_ms, bool held, struct bus_received *received)
{
    bool all = false;
    bool overdue = bus->unlooked >= FRAMES_BEFORE_LOOK_MAX;
    *received = (struct bus_received){ .bytes = NULL };
    enum bus_input input = overdue ? BUS_NOTHING : receive_any (bus, now_ms, held, received, &all);
    if (input != BUS_NOTHING)
        bus->unlooked++;
    if (input != BUS_NOTHING || (!all && !overdue))
        return input;
    bus->unlooked = 0;
    if (find_lost (bus, now_ms, received))
        return BUS_PEER;
    return overdue ? receive_any (bus, now_ms, held, received, &all) : BUS_NOTHING;
}

/*  Whether a socket that may have been told something while it was used has to be
    looked at before one can wait for its descriptor. A ROUTER always says that it
    takes frames, whichever of its peers is stuck: there the acknowledgements that
    come back end the wait, or its descriptor, or SESSION_STUCK_MS. */
static bool has_something (struct bus *bus, unsigned index)
{
    struct socket *socket = &bus->sockets[index];
    int events = 0;
    size_t size = sizeof events;
    if (socket->drained)
        return false;
    if (zmq_getsockopt (socket->handle, ZMQ_EVENTS, &events, &size) != 0)
        return true;
    bool stuck = false;
    for (unsigned i = 0; i < bus->peer_count; i++)
        stuck = stuck || (bus->peers[i].socket == index && bus->peers[i].stuck);
    bool router = bus->has_router && index == 0;
    socket->drained = !(events & ZMQ_POLLIN);
    return !socket->drained || (stuck && !router && (events & ZMQ_POLLOUT));
}

/*  zmq_poll would ask every socket two times, with two system calls each, whatever
    is known of it already. */
void bus_wait (struct bus *bus, const int *descriptors, unsigned count, long timeout_ms, bool held)
{
    struct pollfd items[SOCKETS_MAX + BUS_WATCH_MAX];
    struct socket *sockets[SOCKETS_MAX];
    unsigned used = 0;
    bool some = false;
    assert (count <= BUS_WATCH_MAX);
    for (unsigned i = 0; i < bus->count; i++) {
        struct socket *socket = &bus->sockets[i];
        socket->silent = false;
        if (held && !socket->remote)
            continue;
        bool loud = has_something (bus, i);
        some = some || loud;
        socket->silent = !loud;
        sockets[used] = socket;
        items[used++] = (struct pollfd){ .fd = socket->descriptor, .events = POLLIN };
    }
    unsigned watched = used;
    for (unsigned i = 0; i < count; i++)
        items[used++] = (struct pollfd){ .fd = descriptors[i], .events = POLLIN };
    int timeout = timeout_ms > INT_MAX ? INT_MAX : (int) timeout_ms;
    int ready = poll (items, used, some ? 0 : timeout);
    for (unsigned i = 0; i < watched; i++)
        sockets[i]->silent = sockets[i]->silent && ready >= 0 && items[i].revents == 0;
}
