/*  hop.c - one hop between two actors, and the same bytes through bare ZeroMQ.

    usage: bench_hop inproc|ipc|tcp|curve FRAMES

    A frame holds 64 events of 100 bytes, as a batch does. Both ways use two
    threads, a DEALER and a ROUTER; ours with its sessions beyond the process, the
    bare one without anything. For `curve` the directory of `guerdon keygen` is
    expected in CURVE_DIR. Prints a line of JSON with events a second for both.
*/
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "actors/base/bus.h"
#include "actors/base/curve.h"

enum { BATCH = 64, EVENT_SIZE = 100, FRAME_SIZE = BATCH * EVENT_SIZE, WATER = 1000, REASON_SIZE = 256 };

static char endpoint[256];
static unsigned long frames;
static void *context;
static struct curve *curve;
static char frame[FRAME_SIZE];
static double received_s; /* when the last one was there */

static void fail (const char *what)
{
    fprintf (stderr, "bench_hop: %s\n", what);
    exit (1);
}

static double now_s (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static uint64_t now_ms (void)
{
    return (uint64_t) (now_s () * 1000);
}

/*  ---- ours --------------------------------------------------------------- */

static struct bus *open_bus (bool sends)
{
    char reason[REASON_SIZE];
    struct bus_options options = { .context = context, .high_water_mark = WATER, .curve = curve };
    options.self.role = sends ? ROLE_INGEST : ROLE_DECISION;
    options.incarnation = sends ? 11 : 13;
    if (sends) {
        options.links[0] = (struct bus_link){ { ROLE_DECISION, 0 }, endpoint };
        options.link_count = 1;
    } else {
        options.endpoint = endpoint;
        options.callers = 1u << ROLE_INGEST;
    }
    struct bus *bus = bus_new (&options, reason, sizeof reason);
    if (!bus)
        fail (reason);
    return bus;
}

static void pump (struct bus *bus, unsigned long *count)
{
    struct bus_received received;
    enum bus_input input;
    while ((input = bus_receive (bus, now_ms (), false, &received)) != BUS_NOTHING)
        if (input == BUS_MESSAGE && count)
            ++*count;
    bus_work (bus, now_ms ());
}

static void *receive_ours (void *bus_argument)
{
    struct bus *bus = bus_argument;
    unsigned long count = 0;
    while (count < frames) {
        bus_wait (bus, NULL, 0, 10, false);
        pump (bus, &count);
    }
    received_s = now_s ();
    for (int i = 0; i < 20; i++) {
        bus_wait (bus, NULL, 0, 1, false);
        pump (bus, NULL);
    }
    return NULL;
}

static double run_ours (void)
{
    const struct address to = { ROLE_DECISION, 0 };
    struct bus *receiver = open_bus (false);
    struct bus *sender = open_bus (true);
    pthread_t thread;
    if (pthread_create (&thread, NULL, receive_ours, receiver) != 0)
        fail ("no thread");
    while (!bus_is_inproc (endpoint) && bus_due (sender) == UINT64_MAX)
        pump (sender, NULL);
    double begun = now_s ();
    for (unsigned long sent = 0; sent < frames;) {
        while (sent < frames && bus_send (sender, to, frame, FRAME_SIZE) == BUS_OK)
            sent++;
        pump (sender, NULL);
        if (sent < frames)
            bus_wait (sender, NULL, 0, 1, false);
    }
    for (uint64_t until = now_ms () + 10000; !bus_all_acknowledged (sender) && now_ms () < until;) {
        bus_wait (sender, NULL, 0, 1, false);
        pump (sender, NULL);
    }
    pthread_join (thread, NULL);
    bus_destroy (&sender);
    bus_destroy (&receiver);
    return (double) frames * BATCH / (received_s - begun);
}

/*  ---- bare --------------------------------------------------------------- */

static void *receive_bare (void *socket)
{
    zmq_msg_t message;
    zmq_msg_init (&message);
    for (unsigned long count = 0; count < frames;) {
        if (zmq_msg_recv (&message, socket, 0) < 0)
            fail (zmq_strerror (zmq_errno ()));
        count += !zmq_msg_more (&message);
    }
    zmq_msg_close (&message);
    received_s = now_s ();
    return NULL;
}

static void encrypt (void *server, void *client)
{
    char server_public[41];
    char server_secret[41];
    char client_public[41];
    char client_secret[41];
    int on = 1;
    zmq_curve_keypair (server_public, server_secret);
    zmq_curve_keypair (client_public, client_secret);
    zmq_setsockopt (server, ZMQ_CURVE_SERVER, &on, sizeof on);
    zmq_setsockopt (server, ZMQ_CURVE_SECRETKEY, server_secret, 41);
    zmq_setsockopt (client, ZMQ_CURVE_SERVERKEY, server_public, 41);
    zmq_setsockopt (client, ZMQ_CURVE_PUBLICKEY, client_public, 41);
    zmq_setsockopt (client, ZMQ_CURVE_SECRETKEY, client_secret, 41);
}

static double run_bare (bool with_curve)
{
    void *own = zmq_ctx_new ();
    void *receiver = zmq_socket (own, ZMQ_ROUTER);
    void *sender = zmq_socket (own, ZMQ_DEALER);
    pthread_t thread;
    int water = WATER;
    zmq_setsockopt (receiver, ZMQ_RCVHWM, &water, sizeof water);
    zmq_setsockopt (sender, ZMQ_SNDHWM, &water, sizeof water);
    if (with_curve)
        encrypt (receiver, sender);
    if (zmq_bind (receiver, endpoint) != 0 || zmq_connect (sender, endpoint) != 0)
        fail (zmq_strerror (zmq_errno ()));
    if (pthread_create (&thread, NULL, receive_bare, receiver) != 0)
        fail ("no thread");
    double begun = now_s ();
    for (unsigned long sent = 0; sent < frames; sent++)
        if (zmq_send (sender, frame, FRAME_SIZE, 0) < 0)
            fail (zmq_strerror (zmq_errno ()));
    pthread_join (thread, NULL);
    zmq_close (sender);
    zmq_close (receiver);
    zmq_ctx_term (own);
    return (double) frames * BATCH / (received_s - begun);
}

/*  An endpoint that nobody uses; the two runs have one each. */
static void choose_endpoint (const char *kind, const char *which)
{
    if (strcmp (kind, "inproc") == 0) {
        snprintf (endpoint, sizeof endpoint, "inproc://%s", which);
    } else if (strcmp (kind, "ipc") == 0) {
        snprintf (endpoint, sizeof endpoint, "ipc://@bench-hop-%s-%ld", which, (long) getpid ());
    } else {
        void *probe_context = zmq_ctx_new ();
        void *probe = zmq_socket (probe_context, ZMQ_ROUTER);
        size_t size = sizeof endpoint;
        if (zmq_bind (probe, "tcp://127.0.0.1:*") != 0 ||
            zmq_getsockopt (probe, ZMQ_LAST_ENDPOINT, endpoint, &size) != 0)
            fail (zmq_strerror (zmq_errno ()));
        zmq_close (probe);
        zmq_ctx_term (probe_context);
    }
}

int main (int argc, char **argv)
{
    char reason[REASON_SIZE];
    if (argc != 3) {
        fprintf (stderr, "usage: bench_hop inproc|ipc|tcp|curve FRAMES\n");
        return 64;
    }
    bool with_curve = strcmp (argv[1], "curve") == 0;
    frames = strtoul (argv[2], NULL, 10);
    memset (frame, 'e', sizeof frame);
    choose_endpoint (argv[1], "bare");
    double bare = run_bare (with_curve);
    context = bus_context_new ();
    const char *directory = getenv ("CURVE_DIR");
    if (with_curve && directory)
        curve =
            curve_open (context, directory, 1u << ROLE_INGEST | 1u << ROLE_DECISION, reason, sizeof reason);
    if (with_curve && !curve)
        fail (directory ? reason : "CURVE_DIR is not set");
    choose_endpoint (argv[1], "ours");
    double ours = run_ours ();
    curve_close (&curve);
    bus_context_destroy (&context);
    printf ("{\"bare\":%.0f,\"ours\":%.0f}\n", bare, ours);
    return 0;
}
