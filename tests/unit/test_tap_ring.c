/*  test_tap_ring.c - records from one thread to another: whole, in order, and
    never waited for. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "actors/base/tap_ring.h"

enum { CAPACITY = 1024, LARGEST = CAPACITY / 2 - 8, RECORDS = 100000 };

static struct tap_ring *ring;

static int begin (void **state)
{
    (void) state;
    ring = tap_ring_new (CAPACITY);
    return ring ? 0 : -1;
}

static int end (void **state)
{
    (void) state;
    tap_ring_destroy (&ring);
    return ring ? -1 : 0;
}

static bool put (uint8_t filling, size_t size)
{
    void *room = tap_ring_room (ring, size);
    if (!room)
        return false;
    memset (room, filling, size);
    tap_ring_put (ring, size);
    return true;
}

static void expect (uint8_t filling, size_t size)
{
    size_t found = 0;
    const uint8_t *record = tap_ring_first (ring, tap_ring_end (ring), &found);
    assert_non_null (record);
    assert_int_equal (found, size);
    for (size_t i = 0; i < size; i++)
        assert_int_equal (record[i], filling);
    tap_ring_drop (ring);
}

static void expect_none (void)
{
    size_t size;
    assert_null (tap_ring_first (ring, tap_ring_end (ring), &size));
}

static void test_records_come_in_order (void **state)
{
    (void) state;
    expect_none ();
    assert_true (put (1, 10));
    assert_true (put (2, 0));
    assert_true (put (3, 17));
    expect (1, 10);
    expect (2, 0);
    expect (3, 17);
    expect_none ();
}

/*  What is put after an end was asked for is left for the next time. */
static void test_an_end_stands (void **state)
{
    (void) state;
    size_t size;
    assert_true (put (1, 10));
    uint64_t end = tap_ring_end (ring);
    assert_true (put (2, 20));
    assert_non_null (tap_ring_first (ring, end, &size));
    tap_ring_drop (ring);
    assert_null (tap_ring_first (ring, end, &size));
    expect (2, 20);
}

static void test_room_that_is_not_put_is_no_record (void **state)
{
    (void) state;
    assert_non_null (tap_ring_room (ring, 300));
    expect_none ();
    assert_non_null (tap_ring_room (ring, LARGEST));
    assert_true (put (7, 5));
    expect (7, 5);
    expect_none ();
}

/*  A record may be put smaller than its room. */
static void test_less_than_the_room (void **state)
{
    (void) state;
    uint8_t *room = tap_ring_room (ring, LARGEST);
    assert_non_null (room);
    memset (room, 9, 3);
    tap_ring_put (ring, 3);
    assert_true (put (8, LARGEST));
    expect (9, 3);
    expect (8, LARGEST);
}

static void test_a_full_ring_says_so_and_loses_nothing (void **state)
{
    (void) state;
    unsigned count = 0;
    while (put ((uint8_t) count, 100))
        count++;
    assert_in_range (count, CAPACITY / 100 / 2, CAPACITY / 100);
    assert_false (put (99, 100));
    for (unsigned i = 0; i < count; i++)
        expect ((uint8_t) i, 100);
    expect_none ();
    assert_true (put (1, 100));
    expect (1, 100);
}

/*  Wherever an empty ring stands, half of it can be had in one piece; more cannot be
    had at all, at any place. */
static void test_half_of_it_fits_at_every_place (void **state)
{
    (void) state;
    for (unsigned i = 0; i < 3 * CAPACITY / 8; i++) {
        assert_true (put (1, 0));
        expect (1, 0);
        assert_true (put ((uint8_t) i, LARGEST));
        expect ((uint8_t) i, LARGEST);
    }
    assert_null (tap_ring_room (ring, CAPACITY));
    assert_null (tap_ring_room (ring, SIZE_MAX / 2));
}

/*  Records of many sizes, each filled with what its number says. The writer tries
    again where an actor would count a loss. */
static void *write_all (void *argument)
{
    (void) argument;
    for (uint32_t i = 0; i < RECORDS; i++)
        while (!put ((uint8_t) i, i % 97))
            nanosleep (&(struct timespec){ .tv_nsec = 1000 }, NULL);
    return NULL;
}

static void test_two_threads (void **state)
{
    (void) state;
    pthread_t writer;
    assert_int_equal (pthread_create (&writer, NULL, write_all, NULL), 0);
    for (uint32_t i = 0; i < RECORDS;) {
        uint64_t end = tap_ring_end (ring);
        const uint8_t *record;
        size_t size;
        for (; (record = tap_ring_first (ring, end, &size)) != NULL; i++) {
            if (size != i % 97 || (size && (record[0] != (uint8_t) i || record[size - 1] != (uint8_t) i)))
                fail_msg ("record %u is not what was put", (unsigned) i);
            tap_ring_drop (ring);
        }
    }
    pthread_join (writer, NULL);
    expect_none ();
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_records_come_in_order, begin, end),
        cmocka_unit_test_setup_teardown (test_an_end_stands, begin, end),
        cmocka_unit_test_setup_teardown (test_room_that_is_not_put_is_no_record, begin, end),
        cmocka_unit_test_setup_teardown (test_less_than_the_room, begin, end),
        cmocka_unit_test_setup_teardown (test_a_full_ring_says_so_and_loses_nothing, begin, end),
        cmocka_unit_test_setup_teardown (test_half_of_it_fits_at_every_place, begin, end),
        cmocka_unit_test_setup_teardown (test_two_threads, begin, end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
