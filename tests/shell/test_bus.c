/*  test_bus.c - the sockets of an actor, with peers, strangers and nobody. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "actors/base/bus.h"

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
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
