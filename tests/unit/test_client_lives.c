/*  test_client_lives.c - a client room whose asker is killed and comes back, while
    everything it asked before is still held. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/currency_client/currency_client.h"
#include "tests/unit/client_harness.h"

enum { WINDOW = 200 };

static struct harness h;
static uint64_t asked;

static int begin (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    settings.window = WINDOW;
    asked = 0;
    harness_open (&h, &currency_client_spec, &settings);
    return 0;
}

static int end (void **state)
{
    (void) state;
    harness_free (&h);
    return 0;
}

/*  A decision wants so many rewards to be given. */
static void give (uint16_t decision, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char user[16];
        struct message message = { .id = MESSAGE_GIVE, .from = DECISION (decision) };
        snprintf (user, sizeof user, "u%u", (unsigned) ++asked);
        message.give.request = asked;
        message.give.user = text_of (user);
        message.give.amount = 1;
        message.give.currency = TEXT_LITERAL ("gold");
        message.give.reward = TEXT_LITERAL ("promo1");
        harness_handle (&h, &message);
    }
    harness_turn (&h);
}

/*  Answers what is under way until so many rewards were given. */
static void serve (unsigned count)
{
    for (unsigned given = 0; given < count; given++)
        answer_status (&h, next_request (&h, NULL), 200);
}

static size_t refusals (void)
{
    size_t count = 0;
    for (size_t i = 0; i < h.count; i++)
        count += h.effects[i].message->id == MESSAGE_GIVEN && h.effects[i].message->given.result != RESULT_OK;
    return count;
}

static void test_who_comes_back_is_opened_when_there_is_room_for_all_it_may_ask (void **state)
{
    (void) state;
    give (0, WINDOW);
    open_from (&h, 0);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 0);
    serve (WINDOW / 2);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 0);
    serve (WINDOW / 2 - 10); /* ten that it does not know of are left */
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 1);
    give (0, WINDOW);
    assert_int_equal (refusals (), 0);
    serve (WINDOW + 10);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 1);
    assert_int_equal (refusals (), 0);
}

static void test_who_asks_nothing_is_opened_at_once_beside_one_who_waits (void **state)
{
    (void) state;
    give (0, WINDOW);
    open_from (&h, 0);
    open_from (&h, 1);
    struct recorded *opened = harness_take_recorded (&h, MESSAGE_OPENED);
    assert_non_null (opened);
    assert_int_equal (opened->to.peer, 1);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 0);
    open_from (&h, 0);
    serve (WINDOW);
    opened = harness_take_recorded (&h, MESSAGE_OPENED);
    assert_non_null (opened);
    assert_int_equal (opened->to.peer, 0);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_who_comes_back_is_opened_when_there_is_room_for_all_it_may_ask,
                                         begin, end),
        cmocka_unit_test_setup_teardown (test_who_asks_nothing_is_opened_at_once_beside_one_who_waits, begin,
                                         end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
