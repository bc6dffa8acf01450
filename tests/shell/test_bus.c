/*  test_bus.c - the sockets of an actor, with peers, strangers and nobody. */

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "actors/base/bus.h"
#include "actors/base/session.h"

enum { DEADLINE_MS = 10000, WATER = 100 };

static void *context;
static unsigned dropped; /* what made no sense, in this test */

static int begin (void **state)
{
    (void) state;
    context = bus_context_new ();
    dropped = 0;
    return context ? 0 : -1;
}

static int end (void **state)
{
    (void) state;
    bus_context_destroy (&context);
    assert_null (context);
    return 0;
}

/*  Options of somebody whom everybody may call. */
static struct bus_options options_of (void *in_context, enum role role, const char *endpoint)
{
    static uint64_t incarnation;
    return (struct bus_options){ .context = in_context,
                                 .self = { role, 0 },
                                 .endpoint = endpoint,
                                 .callers = ~0u,
                                 .high_water_mark = WATER,
                                 .incarnation = ++incarnation };
}

static void link_to (struct bus_options *options, enum role role, uint16_t peer, const char *endpoint)
{
    options->links[options->link_count++] = (struct bus_link){ { role, peer }, endpoint };
}

static struct bus *open_bus (enum role role, const char *endpoint, enum role link, const char *link_endpoint)
{
    char reason[256] = "";
    struct bus_options options = options_of (context, role, endpoint);
    if (link_endpoint)
        link_to (&options, link, 0, link_endpoint);
    struct bus *bus = bus_new (&options, reason, sizeof reason);
    if (!bus)
        fail_msg ("%s", reason);
    return bus;
}

static uint64_t now_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/*  Waits for a message and compares it. */
static void expect (struct bus *bus, struct address from, const char *wanted)
{
    struct bus_received received;
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    enum bus_input input;
    while ((input = bus_receive (bus, now_ms (), false, &received)) != BUS_MESSAGE) {
        dropped += input == BUS_RUBBISH;
        assert_true (now_ms () < deadline_ms);
        if (input == BUS_NOTHING)
            bus_wait (bus, NULL, 0, 100, false);
    }
    assert_int_equal (received.from.role, from.role);
    assert_int_equal (received.from.peer, from.peer);
    assert_int_equal (received.size, strlen (wanted));
    assert_memory_equal (received.bytes, wanted, received.size);
}

static void expect_nothing (struct bus *bus)
{
    struct bus_received received;
    enum bus_input input;
    while ((input = bus_receive (bus, now_ms (), false, &received)) == BUS_RUBBISH)
        dropped++;
    assert_int_equal (input, BUS_NOTHING);
}

static void say (struct bus *bus, struct address to, const char *text)
{
    assert_int_equal (bus_send (bus, to, text, strlen (text)), BUS_OK);
}

static const struct address to_decision = { ROLE_DECISION, 0 };
static const struct address to_ingest = { ROLE_INGEST, 0 };

static void test_a_question_and_its_answer (void **state)
{
    (void) state;
    struct bus *decision = open_bus (ROLE_DECISION, "inproc://d", ROLE_SHELL, NULL);
    struct bus *ingest = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, "inproc://d");
    say (ingest, to_decision, "first");
    say (ingest, to_decision, "");
    say (ingest, to_decision, "third");
    expect (decision, to_ingest, "first");
    expect (decision, to_ingest, "");
    expect (decision, to_ingest, "third");
    say (decision, to_ingest, "answer");
    expect (ingest, to_decision, "answer");
    expect_nothing (ingest);
    expect_nothing (decision);
    bus_destroy (&ingest);
    bus_destroy (&decision);
    assert_null (decision);
    bus_destroy (&decision);
}

static void test_who_connects_before_the_other_is_bound_loses_nothing (void **state)
{
    (void) state;
    struct bus *ingest = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, "inproc://d");
    say (ingest, to_decision, "early");
    struct bus *decision = open_bus (ROLE_DECISION, "inproc://d", ROLE_SHELL, NULL);
    expect (decision, to_ingest, "early");
    say (decision, to_ingest, "late");
    expect (ingest, to_decision, "late");
    bus_destroy (&ingest);
    bus_destroy (&decision);
}

static void test_several_of_one_role_are_told_apart (void **state)
{
    (void) state;
    char reason[256];
    struct bus *first = open_bus (ROLE_DECISION, "inproc://d0", ROLE_SHELL, NULL);
    struct bus *second = open_bus (ROLE_DECISION, "inproc://d1", ROLE_SHELL, NULL);
    struct bus_options options = options_of (context, ROLE_INGEST, NULL);
    link_to (&options, ROLE_DECISION, 0, "inproc://d0");
    link_to (&options, ROLE_DECISION, 1, "inproc://d1");
    struct bus *ingest = bus_new (&options, reason, sizeof reason);
    assert_non_null (ingest);
    say (ingest, (struct address){ ROLE_DECISION, 1 }, "to the second");
    say (ingest, (struct address){ ROLE_DECISION, 0 }, "to the first");
    expect (second, to_ingest, "to the second");
    expect (first, to_ingest, "to the first");
    say (second, to_ingest, "from the second");
    expect (ingest, (struct address){ ROLE_DECISION, 1 }, "from the second");
    assert_int_equal (bus_send (ingest, (struct address){ ROLE_DECISION, 2 }, "x", 1), BUS_UNKNOWN);
    bus_destroy (&ingest);
    bus_destroy (&first);
    bus_destroy (&second);
}

static void test_nobody_at_an_address_is_said_and_blocks_nobody (void **state)
{
    (void) state;
    struct bus *decision = open_bus (ROLE_DECISION, "inproc://d", ROLE_SHELL, NULL);
    assert_int_equal (bus_send (decision, to_ingest, "x", 1), BUS_UNKNOWN);
    struct bus *ingest = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, "inproc://d");
    say (ingest, to_decision, "hello");
    expect (decision, to_ingest, "hello");
    say (decision, to_ingest, "hello");
    assert_int_equal (bus_send (decision, (struct address){ ROLE_INGEST, 1 }, "x", 1), BUS_UNKNOWN);
    assert_int_equal (bus_send (ingest, (struct address){ ROLE_STATS, 0 }, "x", 1), BUS_UNKNOWN);
    bus_destroy (&ingest);
    bus_destroy (&decision);
}

static void test_a_peer_that_does_not_listen_fills_its_side_only (void **state)
{
    (void) state;
    struct bus *decision = open_bus (ROLE_DECISION, "inproc://d", ROLE_SHELL, NULL);
    struct bus *ingest = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, "inproc://d");
    unsigned count = 0;
    while (bus_send (ingest, to_decision, "x", 1) == BUS_OK)
        assert_true (++count <= 2 * WATER);
    assert_true (count >= WATER);
    assert_int_equal (bus_send (ingest, to_decision, "x", 1), BUS_FULL);
    for (unsigned i = 0; i < count; i++)
        expect (decision, to_ingest, "x");
    expect_nothing (decision);
    count = 0;
    while (bus_send (decision, to_ingest, "y", 1) == BUS_OK)
        assert_true (++count <= 2 * WATER);
    assert_int_equal (bus_send (decision, to_ingest, "y", 1), BUS_FULL);
    for (unsigned i = 0; i < count; i++)
        expect (ingest, to_decision, "y");
    bus_destroy (&ingest);
    bus_destroy (&decision);
}

/*  A raw DEALER with any name, connected to the endpoint. */
static void *stranger (const char *name, size_t size, const char *endpoint)
{
    void *socket = zmq_socket (context, ZMQ_DEALER);
    int linger = 0;
    assert_non_null (socket);
    zmq_setsockopt (socket, ZMQ_LINGER, &linger, sizeof linger);
    if (size)
        assert_int_equal (zmq_setsockopt (socket, ZMQ_ROUTING_ID, name, size), 0);
    assert_int_equal (zmq_connect (socket, endpoint), 0);
    return socket;
}

static void test_strangers_are_not_heard_and_counted (void **state)
{
    (void) state;
    static const char *const names[] = { "",
                                         "x",
                                         "ingest",
                                         "ingest/",
                                         "ingest/x",
                                         "ingest/-",
                                         "ingest/1x",
                                         "ingest/1234",
                                         "shell/0",
                                         "INGEST/0",
                                         "ingest0",
                                         "decision",
                                         "\xff\xff\xff\xff\xff\xff\xff\xff" };
    enum { NAMES = sizeof names / sizeof *names };
    struct bus *decision = open_bus (ROLE_DECISION, "inproc://d", ROLE_SHELL, NULL);
    struct bus *ingest = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, "inproc://d");
    void *sockets[NAMES];
    for (unsigned i = 0; i < NAMES; i++) {
        sockets[i] = stranger (names[i], strlen (names[i]), "inproc://d");
        assert_true (zmq_send (sockets[i], "evil", 4, ZMQ_DONTWAIT) == 4);
    }
    say (ingest, to_decision, "good");
    expect (decision, to_ingest, "good");
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (dropped < NAMES) {
        expect_nothing (decision);
        assert_true (now_ms () < deadline_ms);
    }
    assert_int_equal (dropped, NAMES);
    for (unsigned i = 0; i < NAMES; i++)
        zmq_close (sockets[i]);
    bus_destroy (&ingest);
    bus_destroy (&decision);
}

static void test_a_message_of_several_frames_is_dropped_as_a_whole (void **state)
{
    (void) state;
    struct bus *decision = open_bus (ROLE_DECISION, "inproc://d", ROLE_SHELL, NULL);
    void *socket = stranger ("ingest/7", 8, "inproc://d");
    for (unsigned i = 0; i < 3; i++) {
        zmq_send (socket, "one", 3, ZMQ_SNDMORE | ZMQ_DONTWAIT);
        zmq_send (socket, "two", 3, ZMQ_SNDMORE | ZMQ_DONTWAIT);
        zmq_send (socket, "three", 5, ZMQ_DONTWAIT);
    }
    assert_true (zmq_send (socket, "whole", 5, ZMQ_DONTWAIT) == 5);
    expect (decision, (struct address){ ROLE_INGEST, 7 }, "whole");
    assert_int_equal (dropped, 3);
    say (decision, (struct address){ ROLE_INGEST, 7 }, "heard");
    char answer[16];
    assert_int_equal (zmq_recv (socket, answer, sizeof answer, 0), 5);
    zmq_close (socket);
    bus_destroy (&decision);
}

static void test_a_frame_of_the_largest_size_goes_through (void **state)
{
    (void) state;
    struct bus *decision = open_bus (ROLE_DECISION, "inproc://d", ROLE_SHELL, NULL);
    struct bus *ingest = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, "inproc://d");
    char *large = malloc (MESSAGE_SIZE_MAX + 1);
    assert_non_null (large);
    memset (large, 'x', MESSAGE_SIZE_MAX);
    large[MESSAGE_SIZE_MAX] = '\0';
    say (ingest, to_decision, large);
    expect (decision, to_ingest, large);
    free (large);
    bus_destroy (&ingest);
    bus_destroy (&decision);
}

static void test_an_endpoint_that_is_taken_is_named (void **state)
{
    (void) state;
    char reason[256] = "";
    struct bus *decision = open_bus (ROLE_DECISION, "inproc://taken", ROLE_SHELL, NULL);
    struct bus_options options = options_of (context, ROLE_STATS, "inproc://taken");
    assert_null (bus_new (&options, reason, sizeof reason));
    assert_non_null (strstr (reason, "inproc://taken"));
    options.endpoint = "nonsense";
    assert_null (bus_new (&options, reason, sizeof reason));
    assert_non_null (strstr (reason, "nonsense"));
    bus_destroy (&decision);
}

static void test_waiting_ends_for_a_message_a_descriptor_or_the_time (void **state)
{
    (void) state;
    int ends[2];
    assert_int_equal (pipe (ends), 0);
    struct bus *decision = open_bus (ROLE_DECISION, "inproc://d", ROLE_SHELL, NULL);
    struct bus *ingest = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, "inproc://d");
    uint64_t began_ms = now_ms ();
    bus_wait (decision, ends, 1, 30, false);
    assert_true (now_ms () - began_ms >= 29);
    assert_int_equal (write (ends[1], "x", 1), 1);
    bus_wait (decision, ends, 1, DEADLINE_MS, false);
    bus_wait (decision, ends, 1, -1, false);
    say (ingest, to_decision, "x");
    bus_wait (decision, NULL, 0, -1, false);
    expect (decision, to_ingest, "x");
    assert_true (now_ms () - began_ms < DEADLINE_MS);
    close (ends[0]);
    close (ends[1]);
    bus_destroy (&ingest);
    bus_destroy (&decision);
}

static void test_one_peer_that_shouts_does_not_silence_the_others (void **state)
{
    (void) state;
    char reason[256];
    struct bus *usermeta = open_bus (ROLE_USERMETA_CLIENT, "inproc://u", ROLE_SHELL, NULL);
    struct bus_options options = options_of (context, ROLE_DECISION, "inproc://d");
    link_to (&options, ROLE_USERMETA_CLIENT, 0, "inproc://u");
    struct bus *decision = bus_new (&options, reason, sizeof reason);
    assert_non_null (decision);
    struct bus *ingest = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, "inproc://d");
    say (decision, (struct address){ ROLE_USERMETA_CLIENT, 0 }, "x");
    expect (usermeta, (struct address){ ROLE_DECISION, 0 }, "x");
    for (unsigned i = 0; i < WATER; i++)
        say (ingest, to_decision, "shout");
    say (usermeta, (struct address){ ROLE_DECISION, 0 }, "word");
    unsigned before = 0;
    struct bus_received received = { .size = 0 };
    bus_wait (decision, NULL, 0, DEADLINE_MS, false);
    while (bus_receive (decision, now_ms (), false, &received) == BUS_MESSAGE &&
           received.from.role == ROLE_INGEST)
        before++;
    assert_int_equal (received.from.role, ROLE_USERMETA_CLIENT);
    assert_true (before < 3);
    bus_destroy (&ingest);
    bus_destroy (&decision);
    bus_destroy (&usermeta);
}

/*  Who had nothing to say while others were waited for is asked again once they
    were heard, also without another wait. */
static void test_who_was_silent_during_a_wait_is_heard_after_it (void **state)
{
    (void) state;
    char reason[256];
    struct bus *usermeta = open_bus (ROLE_USERMETA_CLIENT, "inproc://u", ROLE_SHELL, NULL);
    struct bus_options options = options_of (context, ROLE_DECISION, "inproc://d");
    link_to (&options, ROLE_USERMETA_CLIENT, 0, "inproc://u");
    struct bus *decision = bus_new (&options, reason, sizeof reason);
    assert_non_null (decision);
    struct bus *ingest = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, "inproc://d");
    say (decision, (struct address){ ROLE_USERMETA_CLIENT, 0 }, "x");
    expect (usermeta, (struct address){ ROLE_DECISION, 0 }, "x");
    expect_nothing (decision);
    say (ingest, to_decision, "first");
    bus_wait (decision, NULL, 0, DEADLINE_MS, false);
    say (usermeta, (struct address){ ROLE_DECISION, 0 }, "second");
    struct bus_received received = { .size = 0 };
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    for (unsigned heard = 0; heard < 2; assert_true (now_ms () < deadline_ms))
        heard += bus_receive (decision, now_ms (), false, &received) == BUS_MESSAGE;
    assert_int_equal (received.from.role, ROLE_USERMETA_CLIENT);
    bus_destroy (&ingest);
    bus_destroy (&decision);
    bus_destroy (&usermeta);
}

/*  ---- beyond the process -------------------------------------------------- */

enum { NODES = 3 };

/*  An actor's bus in a context of its own, as if in a process of its own, and what
    it heard. Its time can be put ahead of the real one. */
struct node {
    struct bus_options options;
    struct bus *bus;
    uint64_t ahead_ms;
    bool held;
    unsigned came;
    unsigned lost;
    unsigned restarted;
    unsigned refused;
    unsigned rubbish;
    unsigned messages;
    uint32_t first; /* numbers in the messages; they must rise by one */
    uint32_t last;
    size_t largest;
    uint32_t said;
    char reason[REASON_SIZE_MAX + 1];
};

static struct node nodes[NODES];
static char directory[32];
static char endpoint[64];

static struct node *const server = &nodes[0]; /* decision/0 */
static struct node *const client = &nodes[1]; /* ingest/0 */
static struct node *const other = &nodes[2];

/*  Gives the node a bus with an incarnation of its own; what it heard is
    forgotten. */
static void node_open (struct node *node)
{
    char reason[256] = "";
    static uint64_t incarnation = 1000;
    struct bus_options options = node->options;
    *node = (struct node){ .options = options };
    node->options.context = bus_context_new ();
    node->options.incarnation = ++incarnation;
    node->bus = bus_new (&node->options, reason, sizeof reason);
    if (!node->bus)
        fail_msg ("%s", reason);
}

/*  The node is gone, with all it knew. */
static void node_close (struct node *node)
{
    bus_destroy (&node->bus);
    bus_context_destroy (&node->options.context);
}

static void note_message (struct node *node, const struct bus_received *received)
{
    uint32_t number = 0;
    assert_true (received->size >= sizeof number);
    memcpy (&number, received->bytes, sizeof number);
    assert_false (node->held);
    assert_true (node->messages == 0 || number == node->last + 1);
    node->first = node->messages ? node->first : number;
    node->last = number;
    node->messages++;
    if (received->size > node->largest)
        node->largest = received->size;
}

static void note_input (struct node *node, enum bus_input input, const struct bus_received *received)
{
    if (input == BUS_MESSAGE)
        note_message (node, received);
    node->rubbish += input == BUS_RUBBISH;
    node->came += input == BUS_PEER && received->state == PEER_UP;
    node->lost += input == BUS_PEER && received->state == PEER_LOST;
    node->restarted += input == BUS_PEER && received->state == PEER_RESTARTED;
    if (input == BUS_REFUSED) {
        node->refused++;
        snprintf (node->reason, sizeof node->reason, "%.*s", (int) received->size,
                  (const char *) received->bytes);
    }
}

/*  A turn of a node: it hears all there is, and says what is due. */
static void node_turn_at (struct node *node, uint64_t time_ms)
{
    struct bus_received received;
    enum bus_input input;
    while ((input = bus_receive (node->bus, time_ms, node->held, &received)) != BUS_NOTHING)
        note_input (node, input, &received);
    bus_work (node->bus, time_ms);
}

static void node_turn (struct node *node)
{
    if (node->bus)
        node_turn_at (node, now_ms () + node->ahead_ms);
}

/*  A turn of everybody, and a short wait for somebody. */
static void turn_all (void)
{
    for (unsigned i = 0; i < NODES; i++)
        node_turn (&nodes[i]);
    for (unsigned i = 0; i < NODES; i++)
        if (nodes[i].bus)
            bus_wait (nodes[i].bus, NULL, 0, 1, false);
}

/*  Turns of everybody until something holds; not for ever. */
#define UNTIL(condition)                                                                                     \
    for (uint64_t until_ms_ = now_ms () + DEADLINE_MS; !(condition); turn_all ())                            \
    assert_true (now_ms () < until_ms_)

/*  Says the next numbers to somebody. */
static void say_numbers (struct node *node, struct address to, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        node->said++;
        assert_int_equal (bus_send (node->bus, to, &node->said, sizeof node->said), BUS_OK);
    }
}

/*  A port that nobody uses: the system chose it a moment ago. */
static unsigned free_port (void)
{
    int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl (INADDR_LOOPBACK) } };
    socklen_t size = sizeof address;
    assert_int_equal (bind (fd, (struct sockaddr *) &address, sizeof address), 0);
    assert_int_equal (getsockname (fd, (struct sockaddr *) &address, &size), 0);
    close (fd);
    return ntohs (address.sin_port);
}

/*  A decision, and an ingest that connects to it; nothing is open. */
static void lay_out (void)
{
    memset (nodes, 0, sizeof nodes);
    server->options = options_of (NULL, ROLE_DECISION, endpoint);
    server->options.callers = 1u << ROLE_INGEST;
    client->options = options_of (NULL, ROLE_INGEST, NULL);
    link_to (&client->options, ROLE_DECISION, 0, endpoint);
    other->options = client->options;
    other->options.self.peer = 1;
}

static int begin_ipc (void **state)
{
    (void) state;
    snprintf (directory, sizeof directory, "/tmp/guerdon-bus-XXXXXX");
    if (!mkdtemp (directory))
        return -1;
    snprintf (endpoint, sizeof endpoint, "ipc://%s/d", directory);
    lay_out ();
    return 0;
}

static int begin_tcp (void **state)
{
    (void) state;
    directory[0] = '\0';
    snprintf (endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", free_port ());
    lay_out ();
    return 0;
}

static int end_remote (void **state)
{
    (void) state;
    for (unsigned i = 0; i < NODES; i++)
        if (nodes[i].bus)
            node_close (&nodes[i]);
    if (directory[0]) {
        unlink (endpoint + strlen ("ipc://"));
        rmdir (directory);
    }
    return 0;
}

static void open_both (void)
{
    node_open (server);
    node_open (client);
    UNTIL (server->came && client->came);
}

static void test_all_arrives_in_order_both_ways (void **state)
{
    (void) state;
    open_both ();
    for (unsigned round = 0; round < 20; round++) {
        say_numbers (client, to_decision, 200);
        say_numbers (server, to_ingest, 150);
        turn_all ();
    }
    UNTIL (server->messages == 4000 && client->messages == 3000);
    assert_int_equal (server->last, 4000);
    assert_int_equal (client->last, 3000);
    UNTIL (bus_all_acknowledged (server->bus) && bus_all_acknowledged (client->bus));
    assert_int_equal (bus_unacknowledged (client->bus, to_decision), 0);
    assert_int_equal (client->came, 1);
    assert_int_equal (server->came, 1);
    assert_int_equal (client->lost + server->lost + client->restarted + server->restarted, 0);
    assert_int_equal (client->rubbish + server->rubbish, 0);
}

static void test_who_is_there_first_waits_for_the_other (void **state)
{
    (void) state;
    node_open (client);
    say_numbers (client, to_decision, 10);
    for (unsigned i = 0; i < 20; i++)
        turn_all ();
    assert_int_equal (bus_unacknowledged (client->bus, to_decision), 10);
    node_open (server);
    assert_int_equal (bus_send (server->bus, to_ingest, "early", 5), BUS_UNKNOWN);
    UNTIL (server->messages == 10);
    assert_int_equal (client->lost, 0);
}

static void test_a_frame_of_the_largest_size_goes_beyond_the_process (void **state)
{
    (void) state;
    open_both ();
    uint32_t *large = calloc (1, MESSAGE_SIZE_MAX);
    assert_non_null (large);
    for (*large = 1; *large <= 5; (*large)++)
        assert_int_equal (bus_send (client->bus, to_decision, large, MESSAGE_SIZE_MAX), BUS_OK);
    free (large);
    UNTIL (server->messages == 5);
    assert_int_equal (server->largest, MESSAGE_SIZE_MAX);
}

static void test_who_is_bound_comes_back_and_hears_nothing_that_was_for_the_old_one (void **state)
{
    (void) state;
    open_both ();
    say_numbers (client, to_decision, 5);
    UNTIL (server->messages == 5);
    for (unsigned life = 1; life <= 3; life++) {
        node_close (server);
        say_numbers (client, to_decision, 7); /* nobody will hear them */
        for (unsigned i = 0; i < 10; i++)
            turn_all ();
        node_open (server);
        UNTIL (client->restarted == life);
        say_numbers (client, to_decision, 3);
        UNTIL (server->messages == 3);
        assert_int_equal (server->last, client->said);
        say_numbers (server, to_ingest, 1);
        client->messages = 0;
        UNTIL (client->messages == 1);
        assert_int_equal (server->came, 1);
    }
    assert_int_equal (client->restarted, 3);
    assert_int_equal (client->came, 1 + client->lost);
}

static void test_who_calls_comes_back_and_hears_nothing_that_was_for_the_old_one (void **state)
{
    (void) state;
    open_both ();
    for (unsigned life = 1; life <= 3; life++) {
        node_close (client);
        say_numbers (server, to_ingest, 7);
        for (unsigned i = 0; i < 10; i++)
            turn_all ();
        node_open (client);
        UNTIL (server->restarted == life && client->came);
        server->messages = 0;
        say_numbers (server, to_ingest, 3);
        say_numbers (client, to_decision, 2);
        UNTIL (client->messages == 3 && server->messages == 2);
        assert_int_equal (client->last, server->said);
    }
    assert_int_equal (server->restarted, 3);
}

static void test_silence_is_told_once_and_what_was_said_meanwhile_arrives (void **state)
{
    (void) state;
    open_both ();
    client->ahead_ms += 2500; /* the other says nothing all that time */
    uint64_t until_ms = now_ms () + DEADLINE_MS;
    while (!client->lost && now_ms () < until_ms)
        node_turn (client);
    assert_int_equal (client->lost, 1);
    say_numbers (client, to_decision, 5);
    for (unsigned i = 0; i < 10; i++)
        node_turn (client);
    assert_int_equal (bus_unacknowledged (client->bus, to_decision), 5);
    UNTIL (server->messages == 5);
    assert_int_equal (client->lost, 1);
    assert_int_equal (client->came, 2);
    assert_int_equal (client->restarted, 0);
}

static void test_a_pause_of_our_own_is_no_silence_of_others (void **state)
{
    (void) state;
    open_both ();
    for (unsigned i = 0; i < 5; i++) {
        say_numbers (server, to_ingest, 3);
        node_turn (server);
        bus_wait (client->bus, NULL, 0, DEADLINE_MS, false);
        client->ahead_ms += 60000;
        UNTIL (client->messages == 3 * (i + 1));
    }
    assert_int_equal (client->lost, 0);
}

static void test_who_is_held_hears_nothing_and_is_not_lost (void **state)
{
    (void) state;
    open_both ();
    server->held = true;
    say_numbers (client, to_decision, 100);
    for (unsigned i = 0; i < 60; i++) { /* six seconds of theirs */
        turn_all ();
        client->ahead_ms += 100;
        server->ahead_ms += 100;
    }
    assert_int_equal (server->messages, 0);
    assert_int_equal (bus_unacknowledged (client->bus, to_decision), 100);
    assert_int_equal (client->lost + server->lost, 0);
    say_numbers (server, to_ingest, 10); /* it may still speak */
    UNTIL (client->messages == 10);
    server->held = false;
    UNTIL (server->messages == 100);
    assert_int_equal (client->lost + server->lost, 0);
}

static void test_a_full_hop_takes_no_more_and_loses_nothing (void **state)
{
    (void) state;
    open_both ();
    server->held = true;
    uint32_t count = 1;
    while (bus_send (client->bus, to_decision, &count, sizeof count) == BUS_OK) {
        if (count % 512 == 0)
            turn_all ();
        count++;
    }
    assert_int_equal (count, SESSION_FRAMES_MAX + 1);
    assert_int_equal (bus_send (client->bus, to_decision, &count, sizeof count), BUS_FULL);
    turn_all ();
    assert_int_equal (bus_send (client->bus, to_decision, &count, sizeof count), BUS_FULL);
    server->held = false;
    UNTIL (bus_send (client->bus, to_decision, &count, sizeof count) == BUS_OK);
    UNTIL (server->messages == SESSION_FRAMES_MAX + 1);
    assert_int_equal (server->first, 1);
    assert_int_equal (client->lost + server->lost, 0);
}

/*  For them time stands still: whatever goes on does so because a socket says
    that it can, not because some wait is over. */
static void test_a_socket_that_was_full_goes_on_as_soon_as_it_can (void **state)
{
    (void) state;
    enum { COUNT = 3000, LARGE = 16384 }; /* more than queues and kernel hold together */
    static uint32_t large[LARGE / sizeof (uint32_t)];
    open_both ();
    uint64_t still_ms = now_ms ();
    for (large[0] = 1; large[0] <= COUNT; large[0]++) {
        assert_int_equal (bus_send (client->bus, to_decision, large, sizeof large), BUS_OK);
        assert_int_equal (bus_send (server->bus, to_ingest, large, sizeof large), BUS_OK);
    }
    uint64_t until_ms = now_ms () + DEADLINE_MS;
    while (client->messages < COUNT || server->messages < COUNT) {
        node_turn_at (client, still_ms);
        node_turn_at (server, still_ms);
        bus_wait (client->bus, NULL, 0, 1, false);
        bus_wait (server->bus, NULL, 0, 1, false);
        assert_true (now_ms () < until_ms);
    }
    assert_int_equal (client->largest, LARGE);
    assert_int_equal (client->last + server->last, 2 * COUNT);
}

/*  What is acknowledged at the end of a turn only would wait for ever where a turn
    ends when nothing comes any more. */
static void test_a_long_turn_is_acknowledged_before_its_end (void **state)
{
    (void) state;
    struct bus_received received;
    open_both ();
    say_numbers (client, to_decision, 2 * SESSION_ANSWER_FRAMES);
    node_turn (client);
    uint64_t until_ms = now_ms () + DEADLINE_MS;
    while (server->messages < 2 * SESSION_ANSWER_FRAMES) {
        note_input (server, bus_receive (server->bus, now_ms (), false, &received), &received);
        assert_true (now_ms () < until_ms);
    }
    while (bus_unacknowledged (client->bus, to_decision) > 0) {
        node_turn (client);
        assert_true (now_ms () < until_ms);
    }
}

static void test_who_owes_an_acknowledgement_is_not_done (void **state)
{
    (void) state;
    open_both ();
    uint64_t still_ms = now_ms ();
    node_turn_at (server, still_ms); /* after which no sign of life is due */
    say_numbers (client, to_decision, 1);
    node_turn (client);
    uint64_t until_ms = still_ms + DEADLINE_MS;
    while (server->messages == 0) {
        bus_wait (server->bus, NULL, 0, 1, false);
        node_turn_at (server, still_ms);
        assert_true (now_ms () < until_ms);
    }
    assert_false (bus_all_acknowledged (server->bus));
    node_turn_at (server, still_ms + SESSION_ANSWER_MS);
    assert_true (bus_all_acknowledged (server->bus));
    UNTIL (bus_all_acknowledged (client->bus));
}

static void test_one_hop_that_is_full_leaves_the_others_alone (void **state)
{
    (void) state;
    open_both ();
    node_open (other);
    UNTIL (other->came);
    node_close (client);
    uint32_t number = 1;
    while (bus_send (server->bus, to_ingest, &number, sizeof number) == BUS_OK)
        number++;
    say_numbers (server, (struct address){ ROLE_INGEST, 1 }, 50);
    UNTIL (other->messages == 50);
    node_open (client);
    UNTIL (server->restarted == 1 && client->came);
    say_numbers (server, to_ingest, 1);
    UNTIL (client->messages == 1);
    assert_int_equal (client->last, 51);
    assert_int_equal (other->messages, 50);
}

/*  A raw DEALER from elsewhere, with any name. */
static void *stranger_at (void *in_context, const char *name)
{
    void *socket = zmq_socket (in_context, ZMQ_DEALER);
    int linger = 0;
    assert_non_null (socket);
    zmq_setsockopt (socket, ZMQ_LINGER, &linger, sizeof linger);
    if (name[0])
        assert_int_equal (zmq_setsockopt (socket, ZMQ_ROUTING_ID, name, strlen (name)), 0);
    assert_int_equal (zmq_connect (socket, endpoint), 0);
    return socket;
}

static void test_strangers_who_say_nonsense_take_nobodys_place (void **state)
{
    (void) state;
    enum { STRANGERS = 2 * BUS_PEERS_MAX };
    static const char *const words[] = { "evil", "\x94\x01\x02\x03\x04", "\xc1", "\x94\xff\xff\xff\xff" };
    void *strangers_context = bus_context_new ();
    void *sockets[STRANGERS];
    node_open (server);
    for (unsigned i = 0; i < STRANGERS; i++) {
        char name[32];
        snprintf (name, sizeof name, i % 4 == 3 ? "stats/%u" : "ingest/%u", 2 + i);
        sockets[i] = stranger_at (strangers_context, name);
        const char *word = words[i % 4];
        zmq_send (sockets[i], word, strlen (word), i % 3 == 0 ? ZMQ_SNDMORE : 0);
        if (i % 3 == 0)
            zmq_send (sockets[i], "more", 4, 0);
    }
    UNTIL (server->rubbish >= STRANGERS / 2);
    node_open (client);
    UNTIL (client->came && server->came);
    say_numbers (client, to_decision, 10);
    UNTIL (server->messages == 10);
    for (unsigned i = 0; i < STRANGERS; i++)
        zmq_close (sockets[i]);
    bus_context_destroy (&strangers_context);
}

static void test_a_second_name_of_a_peer_is_no_name (void **state)
{
    (void) state;
    static const char *const names[] = { "ingest/00", "ingest/000", "ingest/+0", "ingest/0 ", "ingest/0/" };
    enum { NAMES = sizeof names / sizeof *names };
    void *strangers_context = bus_context_new ();
    void *sockets[NAMES];
    open_both ();
    for (unsigned i = 0; i < NAMES; i++) {
        /*  A sign of life of nobody: from a peer it would ask for a HELLO. */
        sockets[i] = stranger_at (strangers_context, names[i]);
        zmq_send (sockets[i], "\x94\x07\x00\x00\x00", 5, 0);
    }
    UNTIL (server->rubbish == NAMES);
    for (unsigned i = 0; i < NAMES; i++)
        zmq_close (sockets[i]);
    bus_context_destroy (&strangers_context);
}

static void test_who_may_not_call_is_not_heard (void **state)
{
    (void) state;
    other->options.self = (struct address){ ROLE_STATS, 0 };
    open_both ();
    node_open (other);
    UNTIL (server->rubbish >= 3);
    assert_int_equal (other->came, 0);
    assert_int_equal (bus_send (server->bus, other->options.self, "x", 1), BUS_UNKNOWN);
}

/*  Somebody looks for decision 1 and reaches decision 0. */
static void test_the_wrong_shard_says_so_to_both (void **state)
{
    (void) state;
    other->options.links[0].peer.peer = 1;
    open_both ();
    node_open (other);
    UNTIL (other->refused);
    assert_non_null (strstr (other->reason, "decision/1"));
    assert_non_null (strstr (other->reason, "decision/0"));
    assert_int_equal (other->came, 0);
    say_numbers (client, to_decision, 5);
    UNTIL (server->messages == 5);
}

static void test_knocking_without_coming_in_leaves_room (void **state)
{
    (void) state;
    enum { STRANGERS = BUS_PEERS_MAX + 8 };
    static const uint8_t life[] = { 0x94, 0x07, 0x00, 0x00, 0x00 }; /* of an incarnation nobody knows */
    void *strangers_context = bus_context_new ();
    void *sockets[STRANGERS];
    node_open (server);
    for (unsigned i = 0; i < STRANGERS; i++) {
        char name[32];
        snprintf (name, sizeof name, "ingest/%u", 2 + i);
        sockets[i] = stranger_at (strangers_context, name);
        zmq_send (sockets[i], life, sizeof life, 0);
    }
    unsigned asked = 0; /* who they are: as many as there is room for */
    unsigned answered[STRANGERS] = { 0 };
    for (uint64_t until_ms = now_ms () + DEADLINE_MS; asked < BUS_PEERS_MAX; turn_all ()) {
        char head[64];
        assert_true (now_ms () < until_ms);
        for (unsigned i = 0; i < STRANGERS; i++)
            while (zmq_recv (sockets[i], head, sizeof head, ZMQ_DONTWAIT) > 0)
                asked += answered[i]++ == 0;
    }
    node_open (client);
    UNTIL (client->came && server->came);
    assert_int_equal (server->rubbish, 0);
    for (unsigned i = 0; i < STRANGERS; i++)
        zmq_close (sockets[i]);
    bus_context_destroy (&strangers_context);
}

/*  A test with sockets of a kind, named after both. */
#define REMOTE(test, kind)                                                                                   \
    {                                                                                                        \
#test " over " #kind, test, begin_##kind, end_remote, NULL                                           \
    }

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_a_question_and_its_answer, begin, end),
        cmocka_unit_test_setup_teardown (test_who_connects_before_the_other_is_bound_loses_nothing, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_several_of_one_role_are_told_apart, begin, end),
        cmocka_unit_test_setup_teardown (test_nobody_at_an_address_is_said_and_blocks_nobody, begin, end),
        cmocka_unit_test_setup_teardown (test_a_peer_that_does_not_listen_fills_its_side_only, begin, end),
        cmocka_unit_test_setup_teardown (test_strangers_are_not_heard_and_counted, begin, end),
        cmocka_unit_test_setup_teardown (test_a_message_of_several_frames_is_dropped_as_a_whole, begin, end),
        cmocka_unit_test_setup_teardown (test_a_frame_of_the_largest_size_goes_through, begin, end),
        cmocka_unit_test_setup_teardown (test_an_endpoint_that_is_taken_is_named, begin, end),
        cmocka_unit_test_setup_teardown (test_waiting_ends_for_a_message_a_descriptor_or_the_time, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_one_peer_that_shouts_does_not_silence_the_others, begin, end),
        cmocka_unit_test_setup_teardown (test_who_was_silent_during_a_wait_is_heard_after_it, begin, end),
        REMOTE (test_all_arrives_in_order_both_ways, ipc),
        REMOTE (test_who_is_there_first_waits_for_the_other, ipc),
        REMOTE (test_a_frame_of_the_largest_size_goes_beyond_the_process, ipc),
        REMOTE (test_who_is_bound_comes_back_and_hears_nothing_that_was_for_the_old_one, ipc),
        REMOTE (test_who_calls_comes_back_and_hears_nothing_that_was_for_the_old_one, ipc),
        REMOTE (test_silence_is_told_once_and_what_was_said_meanwhile_arrives, ipc),
        REMOTE (test_a_pause_of_our_own_is_no_silence_of_others, ipc),
        REMOTE (test_who_is_held_hears_nothing_and_is_not_lost, ipc),
        REMOTE (test_a_full_hop_takes_no_more_and_loses_nothing, ipc),
        REMOTE (test_a_socket_that_was_full_goes_on_as_soon_as_it_can, ipc),
        REMOTE (test_a_long_turn_is_acknowledged_before_its_end, ipc),
        REMOTE (test_who_owes_an_acknowledgement_is_not_done, ipc),
        REMOTE (test_one_hop_that_is_full_leaves_the_others_alone, ipc),
        REMOTE (test_strangers_who_say_nonsense_take_nobodys_place, ipc),
        REMOTE (test_a_second_name_of_a_peer_is_no_name, ipc),
        REMOTE (test_who_may_not_call_is_not_heard, ipc),
        REMOTE (test_the_wrong_shard_says_so_to_both, ipc),
        REMOTE (test_knocking_without_coming_in_leaves_room, ipc),
        REMOTE (test_all_arrives_in_order_both_ways, tcp),
        REMOTE (test_who_is_there_first_waits_for_the_other, tcp),
        REMOTE (test_a_frame_of_the_largest_size_goes_beyond_the_process, tcp),
        REMOTE (test_who_is_bound_comes_back_and_hears_nothing_that_was_for_the_old_one, tcp),
        REMOTE (test_who_calls_comes_back_and_hears_nothing_that_was_for_the_old_one, tcp),
        REMOTE (test_a_full_hop_takes_no_more_and_loses_nothing, tcp),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
