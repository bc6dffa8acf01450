/*  test_stats.c - counters towards StatsD: exact totals, few datagrams. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/stats/stats.h"
#include "tests/unit/core_harness.h"

enum { TICK_MS = 200 };

static struct harness h;

static int begin (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    harness_init (&h, &stats_spec, &settings);
    harness_start (&h);
    return 0;
}

static int end (void **state)
{
    (void) state;
    harness_free (&h);
    return 0;
}

static void count_of (uint16_t ingest, enum counter counter, uint64_t amount)
{
    struct message message = { .id = MESSAGE_COUNT, .from = { ROLE_INGEST, ingest } };
    message.count.counter = counter;
    message.count.amount = amount;
    harness_deliver (&h, &message);
}

static void count (enum counter counter, uint64_t amount)
{
    count_of (0, counter, amount);
}

static void peer (enum role role, uint16_t index, enum peer_state state)
{
    struct message message = { .id = MESSAGE_PEER, .from = { role, index } };
    message.peer.state = state;
    harness_deliver (&h, &message);
}

static void expect_datagram (const char *payload)
{
    const struct message *message = harness_take (&h, MESSAGE_DATAGRAM);
    assert_non_null (message);
    if (!harness_says (message->datagram.payload, payload))
        fail_msg ("%.*s", (int) message->datagram.payload.size, message->datagram.payload.data);
}

static void no_datagram (void)
{
    assert_int_equal (harness_count (&h, MESSAGE_DATAGRAM), 0);
}

static void test_increments_of_a_tick_are_one_datagram_with_their_totals (void **state)
{
    (void) state;
    count (COUNTER_EVENTS, 3);
    count (COUNTER_IGNORED, 1);
    count (COUNTER_EVENTS, 4);
    count (COUNTER_SUCCESS, 1);
    harness_run (&h, TICK_MS - 1);
    no_datagram ();
    harness_run (&h, 1);
    expect_datagram ("mailchimp.registrations.events:7|c\nmailchimp.registrations.success:1|c\n"
                     "mailchimp.registrations.ignored:1|c");
    harness_run (&h, 10000);
    no_datagram ();
}

static void test_a_steady_flow_does_not_put_the_tick_off (void **state)
{
    (void) state;
    for (unsigned i = 0; i < TICK_MS; i++) {
        count (COUNTER_FAILURE, 1);
        harness_run (&h, 1);
    }
    expect_datagram ("mailchimp.registrations.failure:200|c");
    count (COUNTER_FAILURE, 2);
    harness_run (&h, TICK_MS);
    expect_datagram ("mailchimp.registrations.failure:2|c");
}

static void test_nothing_is_sent_for_nothing (void **state)
{
    (void) state;
    count (COUNTER_EVENTS, 0);
    harness_run (&h, 1000);
    no_datagram ();
    assert_int_equal (harness_next_timer (&h), TIMERS_MAX);
}

static void test_without_statsd_nothing_is_sent_and_no_timer_set (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    settings.statsd = false;
    harness_init (&h, &stats_spec, &settings);
    harness_start (&h);
    count (COUNTER_EVENTS, 3);
    assert_int_equal (harness_next_timer (&h), TIMERS_MAX);
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    no_datagram ();
    assert_non_null (harness_take (&h, MESSAGE_DRAINED));
    end (NULL);
}

static void test_the_end_does_not_wait_for_the_tick (void **state)
{
    (void) state;
    count (COUNTER_EVENTS, 3);
    struct message last = { .id = MESSAGE_COUNT, .from = { ROLE_INGEST, 0 } };
    last.count.counter = COUNTER_EVENTS;
    last.count.amount = 2;
    harness_plain (&h, MESSAGE_DRAIN);
    harness_handle (&h, &last);
    harness_turn (&h);
    expect_datagram ("mailchimp.registrations.events:5|c");
    assert_non_null (harness_take (&h, MESSAGE_DRAINED));
    harness_run (&h, 1000);
    no_datagram ();
}

static void test_a_count_behind_the_end_is_still_sent_and_drained_said_once (void **state)
{
    (void) state;
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    assert_non_null (harness_take (&h, MESSAGE_DRAINED));
    count (COUNTER_SUCCESS, 1);
    expect_datagram ("mailchimp.registrations.success:1|c");
    harness_turn (&h);
    assert_null (harness_take (&h, MESSAGE_DRAINED));
}

static void test_the_longest_prefix_and_the_greatest_counts_fit (void **state)
{
    (void) state;
    char prefix[NAME_SIZE_MAX + 1];
    memset (prefix, 'p', NAME_SIZE_MAX);
    prefix[NAME_SIZE_MAX] = '\0';
    struct settings settings = harness_settings ();
    settings.statsd_prefix = prefix;
    harness_init (&h, &stats_spec, &settings);
    harness_start (&h);
    for (enum counter counter = COUNTER_EVENTS; counter <= COUNTER_IGNORED; counter++)
        count (counter, UINT64_MAX);
    harness_run (&h, TICK_MS);
    const struct message *message = harness_take (&h, MESSAGE_DATAGRAM);
    assert_non_null (message);
    static const char tail[] = "ignored:18446744073709551615|c";
    uint32_t size = message->datagram.payload.size;
    assert_true (size > sizeof tail);
    assert_memory_equal (message->datagram.payload.data + size - (sizeof tail - 1), tail, sizeof tail - 1);
    end (NULL);
}

static void test_events_that_a_new_ingest_reads_again_are_counted_once (void **state)
{
    (void) state;
    count (COUNTER_EVENTS, 10);
    count (COUNTER_SUCCESS, 3);
    count (COUNTER_IGNORED, 1);
    peer (ROLE_INGEST, 0, PEER_RESTARTED);
    count (COUNTER_EVENTS, 4); /* four of the six that had no outcome */
    count (COUNTER_EVENTS, 5); /* the other two, and three new ones */
    count (COUNTER_FAILURE, 9);
    harness_run (&h, TICK_MS);
    expect_datagram ("mailchimp.registrations.events:13|c\nmailchimp.registrations.success:3|c\n"
                     "mailchimp.registrations.failure:9|c\nmailchimp.registrations.ignored:1|c");
}

static void test_an_ingest_that_restarts_in_the_middle_of_reading_again (void **state)
{
    (void) state;
    count (COUNTER_EVENTS, 10);
    peer (ROLE_INGEST, 0, PEER_RESTARTED);
    count (COUNTER_EVENTS, 4);
    count (COUNTER_SUCCESS, 2);
    peer (ROLE_INGEST, 0, PEER_RESTARTED);
    count (COUNTER_EVENTS, 8);
    count (COUNTER_SUCCESS, 8);
    harness_run (&h, TICK_MS);
    expect_datagram ("mailchimp.registrations.events:10|c\nmailchimp.registrations.success:10|c");
    count (COUNTER_EVENTS, 1);
    harness_run (&h, TICK_MS);
    expect_datagram ("mailchimp.registrations.events:1|c");
}

static void test_who_only_was_silent_counts_nothing_again (void **state)
{
    (void) state;
    count (COUNTER_EVENTS, 10);
    peer (ROLE_INGEST, 0, PEER_LOST);
    peer (ROLE_INGEST, 0, PEER_UP);
    peer (ROLE_DECISION, 0, PEER_RESTARTED);
    peer (ROLE_INGEST, 1, PEER_RESTARTED);
    peer (ROLE_INGEST, UINT16_MAX, PEER_RESTARTED);
    count (COUNTER_EVENTS, 5);
    count_of (1, COUNTER_EVENTS, 7);
    count_of (UINT16_MAX, COUNTER_EVENTS, 1);
    harness_run (&h, TICK_MS);
    expect_datagram ("mailchimp.registrations.events:23|c");
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_increments_of_a_tick_are_one_datagram_with_their_totals, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_a_steady_flow_does_not_put_the_tick_off, begin, end),
        cmocka_unit_test_setup_teardown (test_nothing_is_sent_for_nothing, begin, end),
        cmocka_unit_test (test_without_statsd_nothing_is_sent_and_no_timer_set),
        cmocka_unit_test_setup_teardown (test_the_end_does_not_wait_for_the_tick, begin, end),
        cmocka_unit_test_setup_teardown (test_a_count_behind_the_end_is_still_sent_and_drained_said_once,
                                         begin, end),
        cmocka_unit_test_setup_teardown (test_events_that_a_new_ingest_reads_again_are_counted_once, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_an_ingest_that_restarts_in_the_middle_of_reading_again, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_who_only_was_silent_counts_nothing_again, begin, end),
        cmocka_unit_test (test_the_longest_prefix_and_the_greatest_counts_fit),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
