/*  test_flight.c - the events in flight: settled out of order, read twice, with
    ids missing, in a ring that has come round. */

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "actors/ingest/flight.h"

enum { CAPACITY = 8 };

static struct flight_entry entries[CAPACITY];
static struct flight flight;

static int begin (void **state)
{
    (void) state;
    memset (entries, 0, sizeof entries);
    flight_init (&flight, entries, CAPACITY, CAPACITY);
    return 0;
}

/*  As if everything up to `position` had been settled in this run. */
static void settled_up_to (uint64_t position)
{
    assert_int_equal (flight_add (&flight, position, 0), FLIGHT_ADDED);
    flight_close_gaps (&flight, 0, position, 0);
    assert_true (flight_settle (&flight, position));
    assert_true (flight.has_ack);
    assert_int_equal (flight.ack, position);
    assert_int_equal (flight.count, 0);
}

static void test_settled_in_order_moves_on_each_time (void **state)
{
    (void) state;
    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal (flight_add (&flight, id, id), FLIGHT_ADDED);
    assert_false (flight.has_ack);
    for (uint64_t id = 1; id <= 3; id++) {
        assert_true (flight_settle (&flight, id));
        assert_int_equal (flight.ack, id);
        assert_int_equal (flight.count, 3 - id);
        assert_int_equal (flight.unsettled, 3 - id);
    }
}

static void test_settled_out_of_order_waits_for_the_oldest (void **state)
{
    (void) state;
    for (uint64_t id = 1; id <= 4; id++)
        flight_add (&flight, id, 0);
    assert_true (flight_settle (&flight, 3));
    assert_true (flight_settle (&flight, 2));
    assert_false (flight.has_ack);
    assert_int_equal (flight.unsettled, 2);
    assert_true (flight_settle (&flight, 1));
    assert_int_equal (flight.ack, 3);
    assert_int_equal (flight.count, 1);
}

static void test_read_twice_is_known_and_settled_is_behind (void **state)
{
    (void) state;
    flight_add (&flight, 1, 0);
    flight_add (&flight, 2, 0);
    assert_int_equal (flight_add (&flight, 1, 5), FLIGHT_KNOWN);
    assert_true (flight_settle (&flight, 1));
    assert_int_equal (flight_add (&flight, 1, 5), FLIGHT_BEHIND);
    assert_int_equal (flight_add (&flight, 2, 5), FLIGHT_KNOWN);
    assert_int_equal (flight.count, 1);
}

static void test_settled_twice_or_never_seen_changes_nothing (void **state)
{
    (void) state;
    for (uint64_t id = 1; id <= 3; id++)
        flight_add (&flight, id, 0);
    assert_true (flight_settle (&flight, 2));
    assert_false (flight_settle (&flight, 2));
    assert_false (flight_settle (&flight, 9));
    assert_false (flight_settle (&flight, 0));
    assert_int_equal (flight.unsettled, 2);
    assert_true (flight_settle (&flight, 1));
    assert_false (flight_settle (&flight, 1));
    assert_int_equal (flight.unsettled, 1);
    assert_int_equal (flight.ack, 2);
}

static void test_a_missing_id_holds_what_lies_above_it (void **state)
{
    (void) state;
    settled_up_to (5);
    flight_add (&flight, 7, 10);
    assert_int_equal (flight.gaps, 1);
    assert_true (flight_settle (&flight, 7));
    assert_int_equal (flight.ack, 5);

    uint64_t below = 0;
    bool has_below = false;
    const struct flight_entry *gap = flight_first_gap (&flight, &below, &has_below);
    assert_non_null (gap);
    assert_int_equal (gap->position, 7);
    assert_true (has_below);
    assert_int_equal (below, 5);
}

static void test_the_missing_id_shows_up_and_closes_the_gap (void **state)
{
    (void) state;
    settled_up_to (5);
    flight_add (&flight, 7, 10);
    flight_settle (&flight, 7);
    assert_int_equal (flight_add (&flight, 6, 20), FLIGHT_ADDED);
    assert_int_equal (flight.gaps, 0);
    assert_int_equal (flight.ack, 5);
    assert_true (flight_settle (&flight, 6));
    assert_int_equal (flight.ack, 7);
    assert_int_equal (flight.count, 0);
}

static void test_half_of_a_gap_shows_up_and_both_rests_stay_open (void **state)
{
    (void) state;
    settled_up_to (5);
    flight_add (&flight, 10, 10);
    flight_add (&flight, 8, 20);
    assert_int_equal (flight.gaps, 2);
    flight_add (&flight, 9, 30);
    assert_int_equal (flight.gaps, 1);
    flight_settle (&flight, 8);
    flight_settle (&flight, 9);
    flight_settle (&flight, 10);
    assert_int_equal (flight.ack, 5);
    flight_close_gaps (&flight, 0, 10, 19);
    assert_int_equal (flight.ack, 5);
    flight_close_gaps (&flight, 0, 10, 20);
    assert_int_equal (flight.ack, 10);
}

static void test_a_gap_closes_only_up_to_what_was_read_again (void **state)
{
    (void) state;
    settled_up_to (1);
    flight_add (&flight, 3, 10);
    flight_add (&flight, 5, 10);
    flight_settle (&flight, 3);
    flight_settle (&flight, 5);
    flight_close_gaps (&flight, 0, 4, 100);
    assert_int_equal (flight.ack, 3);
    assert_int_equal (flight.gaps, 1);
    flight_close_gaps (&flight, 0, 5, 100);
    assert_int_equal (flight.ack, 5);
    assert_int_equal (flight.gaps, 0);
}

static void test_below_the_very_first_event_nothing_is_known (void **state)
{
    (void) state;
    uint64_t below = 77;
    bool has_below = true;
    flight_add (&flight, 40, 0);
    assert_non_null (flight_first_gap (&flight, &below, &has_below));
    assert_false (has_below);
    flight_settle (&flight, 40);
    assert_false (flight.has_ack);
    assert_int_equal (flight_add (&flight, 38, 0), FLIGHT_ADDED);
    assert_int_equal (flight.gaps, 2);
    assert_int_equal (flight_add (&flight, 39, 0), FLIGHT_ADDED);
    assert_int_equal (flight.gaps, 1);
    flight_close_gaps (&flight, 0, 40, 0);
    flight_settle (&flight, 39);
    flight_settle (&flight, 38);
    assert_int_equal (flight.ack, 40);
}

static void test_the_first_event_ever_has_nothing_below_it (void **state)
{
    (void) state;
    flight_add (&flight, 1, 0);
    assert_int_equal (flight.gaps, 0);
    assert_true (flight_settle (&flight, 1));
    assert_int_equal (flight.ack, 1);
}

static void test_full_takes_no_more_until_the_oldest_is_settled (void **state)
{
    (void) state;
    for (uint64_t id = 1; id <= CAPACITY; id++)
        assert_int_equal (flight_add (&flight, id, 0), FLIGHT_ADDED);
    assert_int_equal (flight_add (&flight, CAPACITY + 1, 0), FLIGHT_FULL);
    assert_int_equal (flight_add (&flight, 3, 0), FLIGHT_KNOWN);
    assert_int_equal (flight.seen, CAPACITY);
    flight_settle (&flight, 2);
    assert_int_equal (flight_add (&flight, CAPACITY + 1, 0), FLIGHT_FULL);
    flight_settle (&flight, 1);
    assert_int_equal (flight_add (&flight, CAPACITY + 1, 0), FLIGHT_ADDED);
}

static void test_the_oldest_that_waits_is_told (void **state)
{
    (void) state;
    uint64_t seen_ms = 0;
    assert_false (flight_oldest (&flight, &seen_ms));
    flight_add (&flight, 1, 11);
    flight_add (&flight, 2, 22);
    assert_true (flight_oldest (&flight, &seen_ms));
    assert_int_equal (seen_ms, 11);
    flight_settle (&flight, 1);
    assert_true (flight_oldest (&flight, &seen_ms));
    assert_int_equal (seen_ms, 22);
    flight_settle (&flight, 2);
    assert_false (flight_oldest (&flight, &seen_ms));
}

/*  ---- random ------------------------------------------------------------- */

enum { IDS = 4000, STEPS = 20000 };

/*  What the ring should be, the slow way: one row an id. */
struct row {
    bool in, settled, closed, waiting;
    uint8_t shard;
    uint64_t seen_ms;
};

static struct row rows[IDS + 1];

static uint64_t random_state;

static uint32_t draw (uint32_t below)
{
    random_state = random_state * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
    return (uint32_t) (random_state >> 33) % below;
}

/*  Up to where everything that is in is settled and every missing id given up. */
static uint64_t model_ack (uint64_t ack)
{
    uint64_t at = ack;
    bool missing = false;
    for (uint64_t id = ack + 1; id <= IDS; id++) {
        const struct row *row = &rows[id];
        if (!row->in) {
            missing = true;
            continue;
        }
        if (!row->settled || (missing && !row->closed))
            break;
        missing = false;
        at = id;
    }
    return at;
}

static void random_add (uint64_t now_ms, uint64_t ack)
{
    uint64_t id = ack + 1 + draw (12);
    if (id > IDS)
        return;
    enum flight_add added = flight_add (&flight, id, now_ms);
    if (rows[id].in)
        assert_int_equal (added, FLIGHT_KNOWN);
    if (added != FLIGHT_ADDED)
        return;
    assert_false (rows[id].in);
    rows[id] = (struct row){ .in = true, .seen_ms = now_ms, .shard = (uint8_t) draw (3) };
    flight_find (&flight, id)->shard = rows[id].shard;
    rows[id].waiting = draw (3) == 0;
    flight_wait (&flight, flight_find (&flight, id), rows[id].waiting);
}

static void random_settle (uint64_t ack)
{
    uint64_t id = ack + draw (14);
    if (id > IDS)
        return;
    bool expected = id > ack && rows[id].in && !rows[id].settled;
    assert_int_equal (flight_settle (&flight, id), expected);
    if (!expected)
        return;
    rows[id].settled = true;
    rows[id].waiting = false;
}

/*  A shard forgets its events, or one of them is handed on at last. */
static void random_wait (uint64_t ack)
{
    uint8_t shard = (uint8_t) draw (3);
    uint64_t id = ack + draw (14);
    if (draw (2)) {
        flight_take_back (&flight, shard);
        for (uint64_t at = ack + 1; at <= IDS; at++)
            if (rows[at].in && !rows[at].settled && rows[at].shard == shard)
                rows[at].waiting = true;
    } else if (id <= IDS && rows[id].in && id > ack && !rows[id].settled) {
        rows[id].waiting = false;
        flight_wait (&flight, flight_find (&flight, id), false);
    }
}

/*  The first that waits for some shards is the one that a slow look finds. */
static void check_waiting (uint64_t ack)
{
    uint32_t shards = draw (8);
    uint64_t below = 0, first = 0, before = ack;
    uint32_t waiting = 0;
    bool has_below = false;
    for (uint64_t id = ack + 1; id <= ack + 40 && id <= IDS; id++) {
        waiting += rows[id].in && rows[id].waiting;
        if (!first && rows[id].in && rows[id].waiting && shards & 1u << rows[id].shard)
            first = id;
        if (!first && rows[id].in)
            before = id;
    }
    assert_int_equal (flight.waiting, waiting);
    const struct flight_entry *entry = flight_first_waiting (&flight, shards, &below, &has_below);
    assert_int_equal (entry ? entry->position : 0, first);
    if (!entry)
        return;
    assert_int_equal (has_below, before > 0);
    assert_int_equal (below, before);
}

static void random_close (uint64_t now_ms, uint64_t ack)
{
    uint64_t up_to = ack + draw (12);
    uint64_t above = draw (2) ? 0 : ack + draw (6);
    uint64_t seen_ms = now_ms - draw (20);
    flight_close_gaps (&flight, above, up_to, seen_ms);
    for (uint64_t id = ack + 1; id <= up_to && id <= IDS; id++)
        if (rows[id].in && id > above && rows[id].seen_ms <= seen_ms)
            rows[id].closed = true;
}

static void test_any_order_of_anything_agrees_with_the_slow_way (void **state)
{
    (void) state;
    uint64_t seed = (uint64_t) time (NULL);
    const char *given = getenv ("SEED");
    if (given)
        seed = strtoull (given, NULL, 10);
    print_message ("SEED=%" PRIu64 "\n", seed);
    random_state = seed;
    memset (rows, 0, sizeof rows);
    uint64_t ack = 0;
    for (uint64_t step = 0; step < STEPS && ack + 14 < IDS; step++) {
        uint32_t what = draw (11);
        if (what < 5)
            random_add (100 + step, ack);
        else if (what < 9)
            random_settle (ack);
        else if (what < 10)
            random_wait (ack);
        else
            random_close (100 + step, ack);
        ack = model_ack (ack);
        assert_int_equal (flight.ack, ack);
        uint32_t count = 0, unsettled = 0;
        for (uint64_t id = ack + 1; id <= ack + 40 && id <= IDS; id++) {
            count += rows[id].in;
            unsettled += rows[id].in && !rows[id].settled;
        }
        assert_int_equal (flight.count, count);
        assert_int_equal (flight.unsettled, unsettled);
        assert_true (flight.count <= CAPACITY);
        check_waiting (ack);
    }
    assert_true (ack > 100);
}

static void test_gaps_close_only_where_it_was_looked (void **state)
{
    (void) state;
    settled_up_to (1);
    flight_add (&flight, 3, 10);
    flight_add (&flight, 5, 10);
    flight_add (&flight, 7, 10);
    flight_settle (&flight, 3);
    flight_settle (&flight, 5);
    flight_settle (&flight, 7);
    flight_close_gaps (&flight, 3, 5, 20);
    assert_int_equal (flight.gaps, 2);
    assert_int_equal (flight.ack, 1);
    flight_close_gaps (&flight, 1, 3, 20);
    assert_int_equal (flight.ack, 5);
    flight_close_gaps (&flight, 7, 9, 20);
    assert_int_equal (flight.ack, 5);
    flight_close_gaps (&flight, 5, 9, 20);
    assert_int_equal (flight.ack, 7);
}

static void test_what_is_taken_back_waits_and_what_is_settled_does_not (void **state)
{
    (void) state;
    uint64_t below = 99;
    bool has_below = true;
    for (uint64_t id = 1; id <= 6; id++) {
        flight_add (&flight, id, 0);
        flight_find (&flight, id)->shard = (uint8_t) (id % 2);
    }
    flight_settle (&flight, 2);
    flight_settle (&flight, 3);
    assert_null (flight_first_waiting (&flight, 3, &below, &has_below));
    flight_take_back (&flight, 1);
    flight_take_back (&flight, 1);
    assert_int_equal (flight.waiting, 2); /* 1 and 5 */
    assert_int_equal (flight_first_waiting (&flight, 2, &below, &has_below)->position, 1);
    assert_false (has_below);
    assert_null (flight_first_waiting (&flight, 1, &below, &has_below));
    assert_true (flight_settle (&flight, 1));
    assert_int_equal (flight.waiting, 1);
    assert_int_equal (flight.ack, 3);
    assert_int_equal (flight_first_waiting (&flight, 3, &below, &has_below)->position, 5);
    assert_true (has_below);
    assert_int_equal (below, 4);
    flight_wait (&flight, flight_find (&flight, 5), false);
    assert_int_equal (flight.waiting, 0);
    assert_null (flight_find (&flight, 1));
    assert_null (flight_find (&flight, 7));
}

static void test_room_is_made_above_and_what_was_there_is_ahead_again (void **state)
{
    (void) state;
    settled_up_to (1);
    for (uint64_t id = 3; id < 3 + CAPACITY; id++)
        flight_add (&flight, id, 0);
    assert_int_equal (flight_add (&flight, 2, 0), FLIGHT_FULL);
    assert_false (flight_forget_highest (&flight)); /* somebody decides it */
    for (uint64_t id = 3; id < 3 + CAPACITY; id++)
        flight_settle (&flight, id);
    assert_int_equal (flight.ack, 1);
    assert_int_equal (flight_add (&flight, 2, 0), FLIGHT_FULL);
    assert_true (flight_forget_highest (&flight));
    assert_int_equal (flight.seen, 1 + CAPACITY);
    assert_int_equal (flight_add (&flight, 2, 0), FLIGHT_ADDED);
    assert_int_equal (flight.gaps, 0);
    assert_true (flight_settle (&flight, 2));
    assert_int_equal (flight.ack, 1 + CAPACITY);
    assert_int_equal (flight_add (&flight, 2 + CAPACITY, 9), FLIGHT_ADDED);
    assert_true (flight_settle (&flight, 2 + CAPACITY));
    assert_int_equal (flight.ack, 2 + CAPACITY);
}

static void test_who_was_passed_over_takes_none_of_the_room_of_the_others (void **state)
{
    (void) state;
    flight_init (&flight, entries, CAPACITY, 2);
    assert_int_equal (flight_add (&flight, 1, 0), FLIGHT_ADDED);
    for (uint64_t id = 2; id <= 5; id++) {
        assert_int_equal (flight_add (&flight, id, 0), FLIGHT_ADDED);
        flight_pass (&flight, flight_find (&flight, id));
    }
    assert_int_equal (flight_held (&flight), 1);
    assert_int_equal (flight.unsettled, 1);
    assert_false (flight_settle (&flight, 3)); /* it is settled */
    assert_int_equal (flight_add (&flight, 6, 0), FLIGHT_ADDED);
    assert_int_equal (flight_add (&flight, 7, 0), FLIGHT_FULL); /* it might be one more to be held */
    assert_true (flight_settle (&flight, 6));
    assert_int_equal (flight_add (&flight, 7, 0), FLIGHT_FULL); /* settled is not passed over */
    assert_true (flight_forget_highest (&flight));
    assert_true (flight_forget_highest (&flight)); /* 5, which was passed over */
    assert_int_equal (flight_held (&flight), 1);
    assert_int_equal (flight_add (&flight, 5, 0), FLIGHT_ADDED);
    assert_true (flight_settle (&flight, 1));
    assert_int_equal (flight.ack, 4);
    assert_int_equal (flight.passed, 0);
    assert_int_equal (flight_held (&flight), 1);
}

static void test_the_last_one_is_not_forgotten (void **state)
{
    (void) state;
    assert_false (flight_forget_highest (&flight));
    settled_up_to (1);
    flight_add (&flight, 5, 0);
    flight_settle (&flight, 5);
    assert_false (flight_forget_highest (&flight));
    flight_add (&flight, 9, 0);
    flight_settle (&flight, 9);
    assert_true (flight_forget_highest (&flight));
    assert_int_equal (flight.gaps, 1);
    assert_int_equal (flight.seen, 5);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup (test_settled_in_order_moves_on_each_time, begin),
        cmocka_unit_test_setup (test_settled_out_of_order_waits_for_the_oldest, begin),
        cmocka_unit_test_setup (test_read_twice_is_known_and_settled_is_behind, begin),
        cmocka_unit_test_setup (test_settled_twice_or_never_seen_changes_nothing, begin),
        cmocka_unit_test_setup (test_a_missing_id_holds_what_lies_above_it, begin),
        cmocka_unit_test_setup (test_the_missing_id_shows_up_and_closes_the_gap, begin),
        cmocka_unit_test_setup (test_half_of_a_gap_shows_up_and_both_rests_stay_open, begin),
        cmocka_unit_test_setup (test_a_gap_closes_only_up_to_what_was_read_again, begin),
        cmocka_unit_test_setup (test_below_the_very_first_event_nothing_is_known, begin),
        cmocka_unit_test_setup (test_the_first_event_ever_has_nothing_below_it, begin),
        cmocka_unit_test_setup (test_full_takes_no_more_until_the_oldest_is_settled, begin),
        cmocka_unit_test_setup (test_the_oldest_that_waits_is_told, begin),
        cmocka_unit_test_setup (test_gaps_close_only_where_it_was_looked, begin),
        cmocka_unit_test_setup (test_what_is_taken_back_waits_and_what_is_settled_does_not, begin),
        cmocka_unit_test_setup (test_room_is_made_above_and_what_was_there_is_ahead_again, begin),
        cmocka_unit_test_setup (test_who_was_passed_over_takes_none_of_the_room_of_the_others, begin),
        cmocka_unit_test_setup (test_the_last_one_is_not_forgotten, begin),
        cmocka_unit_test_setup (test_any_order_of_anything_agrees_with_the_slow_way, begin),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
