/*  test_tap_order.c - values of several taps that come in any order. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "bin/tap_order.h"

enum { RANDOM_VALUES = 20000, SPREAD_US = 50000 };

static struct tap_order *order;

static int begin (void **state)
{
    (void) state;
    order = tap_order_new ();
    return order ? 0 : -1;
}

static int end (void **state)
{
    (void) state;
    tap_order_destroy (&order);
    return order ? -1 : 0;
}

static bool try_put (uint64_t time_us, uint64_t content, uint64_t now_ms)
{
    uint8_t bytes[sizeof content];
    memcpy (bytes, &content, sizeof bytes);
    return tap_order_put (order, time_us, (struct raw){ bytes, sizeof bytes }, now_ms);
}

static void put (uint64_t time_us, uint64_t now_ms)
{
    assert_true (try_put (time_us, time_us, now_ms));
}

/*  The time of the next value; 0 when none is due. */
static uint64_t take (uint64_t now_ms, bool flush)
{
    struct raw body;
    uint64_t time_us = 0;
    if (!tap_order_take (order, now_ms, flush, &body))
        return 0;
    assert_int_equal (body.size, sizeof time_us);
    memcpy (&time_us, body.data, sizeof time_us);
    return time_us;
}

static void test_nothing_is_held (void **state)
{
    (void) state;
    assert_int_equal (take (1000000, true), 0);
    assert_true (tap_order_due_ms (order) == UINT64_MAX);
}

static void test_each_is_held_for_a_while (void **state)
{
    (void) state;
    put (7, 1000);
    assert_int_equal (tap_order_due_ms (order), 1000 + TAP_ORDER_HOLD_MS);
    assert_int_equal (take (1000 + TAP_ORDER_HOLD_MS - 1, false), 0);
    assert_int_equal (take (1000 + TAP_ORDER_HOLD_MS, false), 7);
    assert_int_equal (take (1000 + TAP_ORDER_HOLD_MS, false), 0);
}

/*  What was said earlier and came later goes out first, though it was held for
    less; what was said later waits for its own time. */
static void test_the_earlier_that_came_later (void **state)
{
    (void) state;
    put (20, 1000);
    put (30, 1010);
    put (10, 1020);
    assert_int_equal (take (1000 + TAP_ORDER_HOLD_MS, false), 10);
    assert_int_equal (take (1000 + TAP_ORDER_HOLD_MS, false), 20);
    assert_int_equal (take (1000 + TAP_ORDER_HOLD_MS, false), 0);
    assert_int_equal (tap_order_due_ms (order), 1010 + TAP_ORDER_HOLD_MS);
    assert_int_equal (take (1000, true), 30);
    assert_int_equal (tap_order_late (order), 0);
}

static void test_too_late_is_counted_and_goes_out (void **state)
{
    (void) state;
    put (20, 1000);
    assert_int_equal (take (2000, false), 20);
    put (10, 2000);
    assert_int_equal (take (3000, false), 10);
    assert_int_equal (tap_order_late (order), 1);
}

static void test_one_time_stays_as_it_came (void **state)
{
    (void) state;
    for (uint64_t i = 0; i < 100; i++)
        assert_true (try_put (5, i, 1000));
    for (uint64_t i = 0; i < 100; i++) {
        struct raw body;
        assert_true (tap_order_take (order, 1000, true, &body));
        assert_memory_equal (body.data, &i, sizeof i);
    }
}

static void test_too_many_let_the_earliest_out (void **state)
{
    (void) state;
    for (uint64_t i = 1; i <= TAP_ORDER_VALUES_MAX; i++)
        put (TAP_ORDER_VALUES_MAX + 1 - i, 1000);
    assert_int_equal (take (1000, false), 0);
    put (TAP_ORDER_VALUES_MAX + 1, 1000);
    assert_int_equal (tap_order_due_ms (order), 0);
    assert_false (try_put (1, 1, 1000));
    assert_int_equal (take (1000, false), 1);
    assert_int_equal (take (1000, false), 0);
}

static void test_too_large_let_the_earliest_out (void **state)
{
    (void) state;
    static uint8_t body[1 << 20];
    uint64_t count = 0;
    while (tap_order_due_ms (order) != 0)
        assert_true (tap_order_put (order, ++count, (struct raw){ body, sizeof body }, 1000));
    assert_int_equal (count, TAP_ORDER_BYTES_MAX / sizeof body + 1);
    struct raw taken;
    assert_true (tap_order_take (order, 1000, false, &taken));
    assert_false (tap_order_take (order, 1000, false, &taken));
}

/*  Whoever comes within the time that values are held comes in order. */
static void test_any_order (void **state)
{
    (void) state;
    unsigned seed = (unsigned) time (NULL);
    print_message ("seed %u\n", seed);
    uint64_t before_us = 0;
    unsigned taken = 0;
    for (uint64_t i = 0; i < RANDOM_VALUES; i++) {
        uint64_t now_ms = 1000 + i / 20;
        uint64_t late_us = (uint64_t) rand_r (&seed) % SPREAD_US;
        put (1000000 + now_ms * 1000 - late_us, now_ms);
        for (uint64_t time_us; (time_us = take (now_ms, false)) != 0; taken++) {
            assert_true (time_us >= before_us);
            before_us = time_us;
        }
    }
    assert_true (taken > RANDOM_VALUES / 2);
    for (uint64_t time_us; (time_us = take (0, true)) != 0; taken++) {
        assert_true (time_us >= before_us);
        before_us = time_us;
    }
    assert_int_equal (taken, RANDOM_VALUES);
    assert_int_equal (tap_order_late (order), 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_nothing_is_held, begin, end),
        cmocka_unit_test_setup_teardown (test_each_is_held_for_a_while, begin, end),
        cmocka_unit_test_setup_teardown (test_the_earlier_that_came_later, begin, end),
        cmocka_unit_test_setup_teardown (test_too_late_is_counted_and_goes_out, begin, end),
        cmocka_unit_test_setup_teardown (test_one_time_stays_as_it_came, begin, end),
        cmocka_unit_test_setup_teardown (test_too_many_let_the_earliest_out, begin, end),
        cmocka_unit_test_setup_teardown (test_too_large_let_the_earliest_out, begin, end),
        cmocka_unit_test_setup_teardown (test_any_order, begin, end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
