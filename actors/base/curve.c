/*  curve.c - see curve.h.

    ZeroMQ asks who is let in over an inproc socket (ZAP, RFC 27), and tells of
    handshakes over another one a socket (its monitor). One thread serves them
    all, and looks at the directory once a second.
*/
#include "actors/base/curve.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <zmq.h>

#include "actors/base/clock.h"
#include "actors/base/log.h"
#include "proto/text.h"

/*  The library has the option, its header hides it among the drafts. Where it
    were missing, setting it fails, and so does the start. */
#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93
#endif

static const char zap_endpoint[] = "inproc://zeromq.zap.01";
static const char self_name[] = "curve";

enum {
    ENDPOINT_MAX = 512,
    REASON_MAX = KEYRING_PATH_MAX + 256,
    ZAP_FRAMES = 7, /* version, id, domain, address, identity, mechanism, key */
    ZAP_FRAME_MAX = 256,
    EVENTS_AT_ONCE_MAX = 256,    /* of one socket, before the others get their turn */
    EVENTS_WAITING_MAX = 100000, /* above it ZeroMQ's own thread waits for ours */
    FAILURES_TOLD = 2            /* one broken handshake may be a peer that restarts */
};

/*  A socket that has keys, and what became of its handshakes. */
struct watched {
    void *socket;          /* to know it again; never used by the thread; NULL: a newer one has its place */
    void *events;          /* its monitor's other end; NULL: this row is free */
    bool server;           /* others connect to it */
    unsigned party;        /* whose it is */
    unsigned server_party; /* at the other end, of a client */
    atomic_bool stale;     /* to be connected or bound anew */
    bool unbound;          /* of the socket's thread: it is to be bound here */
    char endpoint[ENDPOINT_MAX];

    /*  Of the thread. Servers: connections in their handshake, those that failed
        and are not closed yet, and those that closed without a word. */
    int64_t shaking;
    int64_t failed;
    int64_t silent;
    bool over;         /* a client's: ZeroMQ will not try again */
    unsigned failures; /* a client's, in a row */
    bool told;         /* ... and the log has it */
    uint64_t told_ms;
};

struct curve {
    void *context;
    char *directory;
    _Atomic (struct monitor *) monitor; /* may be NULL */
    pthread_t thread;
    bool running;
    atomic_bool stop;
    int wake;  /* eventfd: a socket is new, or it is over */
    void *zap; /* of the thread once it runs */

    atomic_uint_fast64_t claims; /* that were false, since the last tick */
    atomic_uint opened;          /* sockets so far: the names of their events */

    pthread_mutex_t lock;
    struct keyring keyring;
    struct watched watched[CURVE_SOCKETS_MAX];

    struct refusals refusals; /* the rest is of the thread */
    uint64_t signature;
    uint64_t looked_ms;
};

static bool set_int (void *socket, int option, int value)
{
    return zmq_setsockopt (socket, option, &value, sizeof value) == 0;
}

/*  ---- who is let in ------------------------------------------------------ */

/*  One request, its frames cut at what any of them may have. */
struct zap_request {
    char frames[ZAP_FRAMES][ZAP_FRAME_MAX + 1];
    size_t sizes[ZAP_FRAMES];
    unsigned count; /* may be more than are kept */
};

enum { ZAP_VERSION, ZAP_ID, ZAP_DOMAIN, ZAP_ADDRESS, ZAP_IDENTITY, ZAP_MECHANISM, ZAP_KEY };

static bool receive_zap (void *socket, struct zap_request *request)
{
    int more = 1;
    size_t more_size = sizeof more;
    memset (request, 0, sizeof *request);
    while (more) {
        char spill[ZAP_FRAME_MAX + 1];
        unsigned at = request->count;
        char *frame = at < ZAP_FRAMES ? request->frames[at] : spill;
        int size = zmq_recv (socket, frame, ZAP_FRAME_MAX, ZMQ_DONTWAIT);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return false;
        size_t kept = (size_t) size <= ZAP_FRAME_MAX ? (size_t) size : ZAP_FRAME_MAX;
        frame[kept] = '\0';
        if (at < ZAP_FRAMES)
            request->sizes[at] = kept;
        request->count++;
        if (zmq_getsockopt (socket, ZMQ_RCVMORE, &more, &more_size) != 0)
            return false;
    }
    return true;
}

static void send_zap (void *socket, const struct zap_request *request, const char *status, const char *text,
                      const char *user)
{
    const struct {
        const void *bytes;
        size_t size;
    } frames[] = {
        { "1.0", 3 },
        { request->frames[ZAP_ID], request->sizes[ZAP_ID] },
        { status, 3 },
        { text, strlen (text) },
        { user, strlen (user) },
        { "", 0 },
    };
    enum { COUNT = sizeof frames / sizeof *frames };
    for (unsigned i = 0; i < COUNT; i++)
        if (zmq_send (socket, frames[i].bytes, frames[i].size,
                      ZMQ_DONTWAIT | (i + 1 < COUNT ? ZMQ_SNDMORE : 0)) < 0)
            return; /* who asked is gone */
}

static void refuse (struct curve *curve, enum refusal refusal, uint64_t amount, const char *latest)
{
    struct monitor *monitor = atomic_load (&curve->monitor);
    refusals_note (&curve->refusals, refusal, amount, latest);
    if (monitor)
        monitor_refused (monitor, refusal, amount);
}

/*  Who is refused gets 300, "later", and not 400, "no": after a 400 libzmq never
    connects again, and then a peer whose certificate comes a moment after it
    would have to be restarted. To a stranger both are the same closed door. */
static void judge (struct curve *curve, const struct zap_request *request)
{
    unsigned server = PARTY_COUNT;
    unsigned client = PARTY_COUNT;
    char latest[192];
    if (request->count == ZAP_FRAMES && strcmp (request->frames[ZAP_VERSION], "1.0") == 0 &&
        strcmp (request->frames[ZAP_MECHANISM], "CURVE") == 0 &&
        request->sizes[ZAP_KEY] == CERTIFICATE_KEY_SIZE) {
        server = party_of_domain (request->frames[ZAP_DOMAIN]);
        pthread_mutex_lock (&curve->lock);
        client = keyring_who (&curve->keyring, (const uint8_t *) request->frames[ZAP_KEY]);
        pthread_mutex_unlock (&curve->lock);
    }
    if (client != PARTY_COUNT && server != PARTY_COUNT && party_admits (server) & PARTY_BIT (client)) {
        send_zap (curve->zap, request, "200", "OK", party_name (client));
        return;
    }
    send_zap (curve->zap, request, "300", "no", "");
    snprintf (latest, sizeof latest, "%.64s, %s to %.64s", request->frames[ZAP_ADDRESS],
              client == PARTY_COUNT ? "a stranger" : party_name (client), request->frames[ZAP_DOMAIN]);
    refuse (curve, client == PARTY_COUNT ? REFUSED_STRANGER : REFUSED_ROLE, 1, latest);
}

static void serve_zap (struct curve *curve)
{
    struct zap_request request;
    for (unsigned i = 0; i < EVENTS_AT_ONCE_MAX && receive_zap (curve->zap, &request); i++)
        judge (curve, &request);
}

/*  ---- what became of handshakes ------------------------------------------ */

/*  Tells the log; but who taps has output of his own on stdout, and is told on
    stderr what he must know. */
static void tell (const struct curve *curve, const char *actor, enum log_level level, const char *text)
{
    if (curve->keyring.parties != PARTY_BIT (PARTY_TAP))
        log_say (actor, level, "%s", text);
    else if (level >= LOG_WARN)
        fprintf (stderr, "guerdon: %s\n", text);
}

static void note_trouble (const struct curve *curve, struct watched *watched, int event, uint32_t value,
                          const char *address)
{
    char text[ENDPOINT_MAX + 256];
    const char *server = party_name (watched->server_party);
    uint64_t now_ms = clock_steady_ms ();
    /*  After these two libzmq ends the session; after the third it tries again. */
    if (event != ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        watched->over = true;
    watched->failures++;
    if (watched->failures < FAILURES_TOLD || (watched->told && now_ms - watched->told_ms < REFUSALS_QUIET_MS))
        return;
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL && value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
        snprintf (text, sizeof text, "%s at %s does not use CURVE: expected CURVE_DIR to be set there too",
                  server, address);
    else
        snprintf (
            text, sizeof text,
            "%s at %s does not let us in: expected that it has our %s.cert, and that our %s.cert is its "
            "own; trying again",
            server, address, party_name (watched->party), server);
    tell (curve, party_name (watched->party), LOG_WARN, text);
    watched->told = true;
    watched->told_ms = now_ms;
}

static void note_client (const struct curve *curve, struct watched *watched, int event, uint32_t value,
                         const char *address)
{
    if (event != ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
        note_trouble (curve, watched, event, value, address);
        return;
    }
    if (watched->told) {
        char text[ENDPOINT_MAX + 64];
        snprintf (text, sizeof text, "%s at %s lets us in now", party_name (watched->server_party), address);
        tell (curve, party_name (watched->party), LOG_INFO, text);
    }
    watched->told = false;
    watched->failures = 0;
}

/*  Counts the connections of a server that never got as far as the question who
    is let in. Who talks no ZeroMQ at all is dropped by libzmq without a word: a
    connection that closed while a handshake was on, and none had failed. */
static void note_server (struct curve *curve, struct watched *watched, int event, const char *address)
{
    switch (event) {
    case ZMQ_EVENT_ACCEPTED:
        watched->shaking++;
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        /*  More succeeded than were shaking hands: the one that closed without
            a word had been let in long before. */
        if (--watched->shaking < 0 && watched->silent > 0) {
            watched->silent--;
            watched->shaking++;
        }
        break;
    case ZMQ_EVENT_DISCONNECTED:
        if (watched->failed > 0) {
            watched->failed--;
        } else if (watched->shaking > 0) {
            watched->shaking--;
            watched->silent++;
        }
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: /* counted where it was judged */
        watched->shaking--;
        watched->failed++;
        break;
    default:
        watched->shaking--;
        watched->failed++;
        char latest[ENDPOINT_MAX + 4];
        snprintf (latest, sizeof latest, "at %s", address);
        refuse (curve, REFUSED_HANDSHAKE, 1, latest);
        break;
    }
}

/*  Takes one event: a number and a value, and the endpoint in a second frame.
    False when none waits. */
static bool take_event (struct curve *curve, struct watched *watched)
{
    uint8_t head[8];
    char address[ENDPOINT_MAX];
    uint16_t event;
    uint32_t value;
    int size = zmq_recv (watched->events, head, sizeof head, ZMQ_DONTWAIT);
    if (size < 0)
        return errno == EINTR;
    int address_size = zmq_recv (watched->events, address, sizeof address - 1, ZMQ_DONTWAIT);
    address[address_size < 0 ? 0 : address_size < ENDPOINT_MAX ? address_size : ENDPOINT_MAX - 1] = '\0';
    assert (size >= (int) (sizeof event + sizeof value));
    memcpy (&event, head, sizeof event);
    memcpy (&value, head + sizeof event, sizeof value);
    if (event == ZMQ_EVENT_MONITOR_STOPPED) {
        zmq_close (watched->events);
        pthread_mutex_lock (&curve->lock);
        watched->events = NULL;
        watched->socket = NULL;
        pthread_mutex_unlock (&curve->lock);
        return false;
    }
    if (watched->server)
        note_server (curve, watched, event, address);
    else
        note_client (curve, watched, event, value, address);
    return true;
}

/*  ---- once a second ------------------------------------------------------ */

static bool same_key (const uint8_t *a, const uint8_t *b)
{
    return memcmp (a, b, CERTIFICATE_KEY_SIZE) == 0;
}

/*  Under the lock: marks the sockets whose keys are not those they had. */
static void mark_stale (struct curve *curve, const struct keyring *old)
{
    for (unsigned i = 0; i < CURVE_SOCKETS_MAX; i++) {
        struct watched *watched = &curve->watched[i];
        const struct keyring *new = &curve->keyring;
        if (!watched->events)
            continue;
        if (!same_key (old->own[watched->party].public_key, new->own[watched->party].public_key) ||
            (!watched->server &&
             !same_key (old->servers[watched->server_party], new->servers[watched->server_party])))
            atomic_store (&watched->stale, true);
    }
}

/*  Only this thread changes the keyring, so it reads the files into a copy
    without the lock: a slow disk holds nobody up. */
static void read_again (struct curve *curve)
{
    char reason[REASON_MAX] = "";
    struct keyring old = curve->keyring;
    struct keyring new = curve->keyring;
    bool read = keyring_reload (&new, curve->directory, reason, sizeof reason);
    pthread_mutex_lock (&curve->lock);
    curve->keyring = new;
    mark_stale (curve, &old);
    pthread_mutex_unlock (&curve->lock);
    if (*reason) {
        char text[REASON_MAX + 16];
        snprintf (text, sizeof text, "certificates: %s", reason);
        tell (curve, self_name, LOG_WARN, text);
    }
    if (read) {
        char text[64];
        snprintf (text, sizeof text, "certificates have changed: %u keys are let in", new.accepted);
        tell (curve, self_name, LOG_INFO, text);
    }
    keyring_wipe (&old);
    keyring_wipe (&new);
}

static void look_at_directory (struct curve *curve)
{
    uint64_t signature = keyring_signature (curve->directory);
    if (signature == curve->signature)
        return;
    curve->signature = signature;
    read_again (curve);
}

/*  Handshakes that ended for good, as far as ZeroMQ goes, and connections that
    closed without a word. */
static void look_at_sockets (struct curve *curve)
{
    pthread_mutex_lock (&curve->lock);
    for (unsigned i = 0; i < CURVE_SOCKETS_MAX; i++) {
        struct watched *watched = &curve->watched[i];
        if (watched->over)
            atomic_store (&watched->stale, true);
        watched->over = false;
        if (watched->silent > 0)
            refuse (curve, REFUSED_HANDSHAKE, (uint64_t) watched->silent, "one that does not talk ZeroMQ");
        watched->silent = 0;
    }
    pthread_mutex_unlock (&curve->lock);
}

static void tick (struct curve *curve)
{
    char line[LOG_SIZE_MAX];
    uint64_t now_ms = clock_steady_ms ();
    if (now_ms - curve->looked_ms < CURVE_REREAD_MS)
        return;
    curve->looked_ms = now_ms;
    look_at_directory (curve);
    look_at_sockets (curve);
    uint64_t claims = atomic_exchange (&curve->claims, 0);
    if (claims)
        refuse (curve, REFUSED_CLAIM, claims, "");
    if (refusals_tell (&curve->refusals, now_ms, line, sizeof line))
        log_say (self_name, LOG_WARN, "%s", line);
}

/*  ---- the thread --------------------------------------------------------- */

static void *run (void *argument)
{
    struct curve *curve = argument;
    zmq_pollitem_t items[CURVE_SOCKETS_MAX + 2];
    struct watched *rows[CURVE_SOCKETS_MAX];
    while (!atomic_load (&curve->stop)) {
        unsigned count = 0;
        items[0] = (zmq_pollitem_t){ .fd = curve->wake, .events = ZMQ_POLLIN };
        items[1] = (zmq_pollitem_t){ .socket = curve->zap, .events = ZMQ_POLLIN };
        pthread_mutex_lock (&curve->lock);
        for (unsigned i = 0; i < CURVE_SOCKETS_MAX; i++)
            if (curve->watched[i].events)
                rows[count++] = &curve->watched[i];
        pthread_mutex_unlock (&curve->lock);
        for (unsigned i = 0; i < count; i++)
            items[i + 2] = (zmq_pollitem_t){ .socket = rows[i]->events, .events = ZMQ_POLLIN };
        zmq_poll (items, (int) count + 2, CURVE_REREAD_MS);
        uint64_t ignored;
        if (items[0].revents && read (curve->wake, &ignored, sizeof ignored) < 0)
            continue;
        serve_zap (curve);
        for (unsigned i = 0; i < count; i++)
            for (unsigned n = 0; n < EVENTS_AT_ONCE_MAX && take_event (curve, rows[i]); n++)
                continue;
        tick (curve);
    }
    return NULL;
}

static void wake (struct curve *curve)
{
    uint64_t one = 1;
    if (write (curve->wake, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake anyway */
}

/*  Signals are for the program's main thread. */
static bool start (struct curve *curve)
{
    sigset_t all, before;
    sigfillset (&all);
    pthread_sigmask (SIG_SETMASK, &all, &before);
    curve->running = pthread_create (&curve->thread, NULL, run, curve) == 0;
    pthread_sigmask (SIG_SETMASK, &before, NULL);
    return curve->running;
}

struct curve *curve_open (void *context, const char *directory, unsigned parties, char *reason,
                          size_t reason_size)
{
    assert (context && directory && reason_size > 0);
    struct curve *curve = calloc (1, sizeof *curve);
    if (!curve) {
        snprintf (reason, reason_size, "out of memory");
        return NULL;
    }
    curve->context = context;
    curve->wake = -1;
    pthread_mutex_init (&curve->lock, NULL);
    curve->directory = strdup (directory);
    curve->looked_ms = clock_steady_ms ();
    curve->signature = keyring_signature (directory);
    bool good = keyring_load (&curve->keyring, directory, parties, reason, reason_size);
    if (good) {
        curve->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
        curve->zap = zmq_socket (context, ZMQ_REP);
        good = curve->directory && curve->wake >= 0 && curve->zap && set_int (curve->zap, ZMQ_LINGER, 0) &&
               zmq_bind (curve->zap, zap_endpoint) == 0 && start (curve);
        if (!good)
            snprintf (reason, reason_size, "CURVE: %s", zmq_strerror (errno));
    }
    if (!good)
        curve_close (&curve);
    return curve;
}

void curve_report (struct curve *curve, struct monitor *monitor)
{
    atomic_store (&curve->monitor, monitor);
}

void curve_false_claim (struct curve *curve)
{
    atomic_fetch_add (&curve->claims, 1);
}

void curve_close (struct curve **closing)
{
    struct curve *curve = *closing;
    *closing = NULL;
    if (!curve)
        return;
    atomic_store (&curve->stop, true);
    if (curve->running) {
        wake (curve);
        pthread_join (curve->thread, NULL);
    }
    for (unsigned i = 0; i < CURVE_SOCKETS_MAX; i++)
        if (curve->watched[i].events)
            zmq_close (curve->watched[i].events);
    if (curve->zap) {
        /*  Closing lets go of the name only some time later. */
        zmq_unbind (curve->zap, zap_endpoint);
        zmq_close (curve->zap);
    }
    if (curve->wake >= 0)
        close (curve->wake);
    keyring_wipe (&curve->keyring);
    pthread_mutex_destroy (&curve->lock);
    free (curve->directory);
    free (curve);
}

/*  ---- sockets ------------------------------------------------------------ */

static bool give_server_keys (struct curve *curve, void *socket, unsigned party)
{
    const struct certificate *own = &curve->keyring.own[party];
    const char *domain = party_domain (party);
    pthread_mutex_lock (&curve->lock);
    /*  ENFORCE_DOMAIN: without it, a CURVE server that finds nobody to answer the
        question who is let in lets everybody in. */
    bool good = set_int (socket, ZMQ_CURVE_SERVER, 1) &&
                zmq_setsockopt (socket, ZMQ_CURVE_SECRETKEY, own->secret_key, CERTIFICATE_KEY_SIZE) == 0 &&
                zmq_setsockopt (socket, ZMQ_ZAP_DOMAIN, domain, strlen (domain)) == 0 &&
                set_int (socket, ZMQ_ZAP_ENFORCE_DOMAIN, 1);
    pthread_mutex_unlock (&curve->lock);
    return good;
}

static bool give_client_keys (struct curve *curve, void *socket, unsigned party, unsigned server)
{
    const struct certificate *own = &curve->keyring.own[party];
    pthread_mutex_lock (&curve->lock);
    bool good = zmq_setsockopt (socket, ZMQ_CURVE_SERVERKEY, curve->keyring.servers[server],
                                CERTIFICATE_KEY_SIZE) == 0 &&
                zmq_setsockopt (socket, ZMQ_CURVE_PUBLICKEY, own->public_key, CERTIFICATE_KEY_SIZE) == 0 &&
                zmq_setsockopt (socket, ZMQ_CURVE_SECRETKEY, own->secret_key, CERTIFICATE_KEY_SIZE) == 0;
    pthread_mutex_unlock (&curve->lock);
    return good;
}

/*  A socket that carries the handshake events of another one. */
static void *open_events (struct curve *curve, void *socket, bool server)
{
    char endpoint[64];
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                 ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                 ZMQ_EVENT_MONITOR_STOPPED | (server ? ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED : 0);
    /*  A name of its own: that of a socket that was closed is free only later. */
    snprintf (endpoint, sizeof endpoint, "inproc://curve-events-%u", atomic_fetch_add (&curve->opened, 1));
    void *pair = zmq_socket (curve->context, ZMQ_PAIR);
    if (pair && zmq_socket_monitor (socket, endpoint, events) == 0 && set_int (pair, ZMQ_LINGER, 0) &&
        set_int (pair, ZMQ_RCVHWM, EVENTS_WAITING_MAX) && zmq_connect (pair, endpoint) == 0)
        return pair;
    int saved = errno;
    if (pair)
        zmq_close (pair);
    errno = saved;
    return NULL;
}

static bool watch (struct curve *curve, const struct watched *what)
{
    struct watched *row = NULL;
    void *events = open_events (curve, what->socket, what->server);
    if (!events)
        return false;
    pthread_mutex_lock (&curve->lock);
    for (unsigned i = 0; i < CURVE_SOCKETS_MAX; i++) {
        if (curve->watched[i].socket == what->socket)
            curve->watched[i].socket = NULL; /* it had the address before */
        if (!curve->watched[i].events && !row)
            row = &curve->watched[i];
    }
    if (row) {
        *row = *what;
        row->events = events;
    }
    pthread_mutex_unlock (&curve->lock);
    if (!row) {
        zmq_socket_monitor (what->socket, NULL, 0);
        zmq_close (events);
        errno = EMFILE;
    } else {
        wake (curve);
    }
    return row != NULL;
}

/*  False with EINVAL when a party is not among those opened. */
static bool is_open (const struct curve *curve, unsigned party)
{
    if (party < PARTY_COUNT && curve->keyring.parties & PARTY_BIT (party))
        return true;
    errno = EINVAL;
    return false;
}

bool curve_server (struct curve *curve, void *socket, const char *domain)
{
    assert (curve && socket && domain);
    unsigned party = party_of_domain (domain);
    const struct watched what = { .socket = socket, .server = true, .party = party };
    return is_open (curve, party) && give_server_keys (curve, socket, party) && watch (curve, &what);
}

bool curve_client (struct curve *curve, void *socket, const char *own, const char *server)
{
    assert (curve && socket && own && server);
    unsigned party = 0;
    unsigned server_party = party_of_domain (server);
    while (party < PARTY_COUNT && strcmp (party_name (party), own) != 0)
        party++;
    const struct watched what = { .socket = socket, .party = party, .server_party = server_party };
    if (!is_open (curve, party))
        return false;
    if (server_party == PARTY_COUNT || !(party_admits (server_party) & PARTY_BIT (party))) {
        errno = EINVAL;
        return false;
    }
    return give_client_keys (curve, socket, party, server_party) && watch (curve, &what);
}

static struct watched *find (struct curve *curve, void *socket)
{
    struct watched *found = NULL;
    pthread_mutex_lock (&curve->lock);
    for (unsigned i = 0; i < CURVE_SOCKETS_MAX && !found; i++)
        if (curve->watched[i].socket == socket)
            found = &curve->watched[i];
    pthread_mutex_unlock (&curve->lock);
    return found;
}

/*  Closing a bound port takes a moment, and until then it is in use. */
static bool bind_again (struct watched *watched, void *socket)
{
    if (!watched->unbound) {
        if (zmq_unbind (socket, watched->endpoint) != 0)
            return true; /* it is not bound, so there is nothing to do again */
        watched->unbound = true;
    }
    if (zmq_bind (socket, watched->endpoint) != 0)
        return false;
    watched->unbound = false;
    return true;
}

bool curve_renew (struct curve *curve, void *socket)
{
    assert (curve && socket);
    struct watched *watched = find (curve, socket);
    if (!watched || !atomic_exchange (&watched->stale, false))
        return true;
    size_t size = sizeof watched->endpoint;
    bool good = watched->unbound || zmq_getsockopt (socket, ZMQ_LAST_ENDPOINT, watched->endpoint, &size) == 0;
    if (watched->server)
        good = good && give_server_keys (curve, socket, watched->party) && bind_again (watched, socket);
    else
        good = good && give_client_keys (curve, socket, watched->party, watched->server_party) &&
               (zmq_disconnect (socket, watched->endpoint) == 0 || errno == ENOENT) &&
               zmq_connect (socket, watched->endpoint) == 0;
    if (!good)
        atomic_store (&watched->stale, true);
    return good;
}

/*  ---- endpoints ---------------------------------------------------------- */

/*  Numbers, or the one name that is loopback by definition. Any other name may
    be anywhere tomorrow. */
static bool is_loopback (const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcasecmp (host, "localhost") == 0)
        return true;
    if (inet_pton (AF_INET, host, &v4) == 1)
        return ntohl (v4.s_addr) >> 24 == 127;
    if (inet_pton (AF_INET6, host, &v6) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK (&v6) || (IN6_IS_ADDR_V4MAPPED (&v6) && v6.s6_addr[12] == 127);
}

/*  The host of "tcp://host:port", without brackets; of "source;destination" the
    destination. Empty when it does not fit. */
static void host_of (const char *endpoint, char *host, size_t capacity)
{
    const char *from = strstr (endpoint, "://") + 3;
    const char *second = strchr (from, ';');
    from = second ? second + 1 : from;
    const char *colon = strrchr (from, ':');
    size_t size = colon ? (size_t) (colon - from) : strlen (from);
    if (size >= 2 && from[0] == '[' && from[size - 1] == ']') {
        from++;
        size -= 2;
    }
    if (size >= capacity)
        size = 0;
    memcpy (host, from, size);
    host[size] = '\0';
}

bool curve_endpoint_allowed (const char *endpoint, bool curve, bool allow_plaintext, char *reason,
                             size_t reason_size)
{
    assert (endpoint && reason_size > 0);
    char host[256];
    *reason = '\0';
    if (strncmp (endpoint, "ipc://", 6) == 0 || strncmp (endpoint, "inproc://", 9) == 0)
        return true;
    if (strncmp (endpoint, "tcp://", 6) != 0) {
        snprintf (reason, reason_size, "%s: expected tcp://host:port, ipc:///path or inproc://name",
                  endpoint);
        return false;
    }
    if (curve)
        return true;
    host_of (endpoint, host, sizeof host);
    if (is_loopback (host))
        return true;
    snprintf (
        reason, reason_size,
        allow_plaintext
            ? "%s is plaintext, open to everybody who can reach it: ALLOW_PLAINTEXT is set"
            : "%s is beyond loopback, and CURVE_DIR is not set: expected certificates (guerdon keygen), "
              "or ALLOW_PLAINTEXT=1",
        endpoint);
    return allow_plaintext;
}
