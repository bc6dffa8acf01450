/*  test_contract.c - the store of user ids, the backoff, and the effects. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "include/backoff.h"
#include "include/effects.h"
#include "include/users.h"

/*  ---- users -------------------------------------------------------------- */

static char bytes_of (uint32_t slot, uint32_t at)
{
    return (char) (slot * 31 + at * 7);
}

static void put_user (struct users *users, uint32_t slot, uint32_t size)
{
    static char id[USER_SIZE_MAX];
    for (uint32_t i = 0; i < size; i++)
        id[i] = bytes_of (slot, i);
    users_put (users, slot, (struct text){ id, size });
}

static void assert_user (const struct users *users, uint32_t slot, uint32_t size)
{
    struct text user = users_get (users, slot);
    assert_int_equal (user.size, size);
    for (uint32_t i = 0; i < size; i++)
        assert_int_equal (user.data[i], bytes_of (slot, i));
}

static void test_ids_of_every_size_are_kept_and_spare_their_neighbours (void **state)
{
    (void) state;
    static const uint32_t sizes[] = { 0, 1, USER_SHORT_MAX, USER_SHORT_MAX + 1, 7000, USER_SIZE_MAX };
    enum { SLOTS = sizeof (sizes) / sizeof (*sizes) };
    struct users users;
    void *memory = calloc (1, users_size (SLOTS));
    assert_non_null (memory);
    users_init (&users, memory, SLOTS);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        assert_int_equal (users_get (&users, slot).size, 0);
    for (uint32_t shift = 0; shift < SLOTS; shift++) {
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            put_user (&users, slot, sizes[(slot + shift) % SLOTS]);
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            assert_user (&users, slot, sizes[(slot + shift) % SLOTS]);
    }
    free (memory);
}

static void test_an_id_may_move_within_the_store (void **state)
{
    (void) state;
    struct users users;
    void *memory = calloc (1, users_size (2));
    assert_non_null (memory);
    users_init (&users, memory, 2);
    put_user (&users, 0, 100);
    struct text user = users_get (&users, 0);
    users_put (&users, 0, user);
    assert_user (&users, 0, 100);
    users_put (&users, 0, (struct text){ user.data + 1, 99 });
    assert_int_equal (users_get (&users, 0).data[0], bytes_of (0, 1));
    assert_int_equal (users_get (&users, 0).data[98], bytes_of (0, 99));
    free (memory);
}

static void test_the_size_of_the_store_is_that_of_the_document (void **state)
{
    (void) state;
    assert_int_equal (users_size (0), 0);
    for (uint32_t slots = 1; slots < 100; slots++) {
        assert_int_equal (users_size (slots) % 16, 0);
        assert_true (users_size (slots) >= slots * (sizeof (struct user_slot) + USER_SIZE_MAX));
    }
    assert_true (users_size (WINDOW_MAX) > UINT32_MAX);
}

/*  ---- backoff ------------------------------------------------------------ */

static void test_waits_double_up_to_five_seconds_and_stay_there (void **state)
{
    (void) state;
    static const struct {
        uint32_t attempts;
        uint32_t step;
    } table[] = { { 1, 100 },  { 2, 200 },  { 3, 400 },  { 4, 800 },     { 5, 1600 },
                  { 6, 3200 }, { 7, 5000 }, { 8, 5000 }, { 1000, 5000 }, { UINT32_MAX, 5000 } };
    for (size_t i = 0; i < sizeof (table) / sizeof (*table); i++) {
        uint32_t least = UINT32_MAX, most = 0;
        for (uint64_t salt = 0; salt < 2000; salt++) {
            uint32_t wait = backoff_ms (table[i].attempts, salt);
            assert_in_range (wait, BACKOFF_FLOOR_MS, table[i].step);
            least = wait < least ? wait : least;
            most = wait > most ? wait : most;
        }
        /*  The jitter uses the whole room that it has. */
        assert_true (least < BACKOFF_FLOOR_MS + table[i].step / 20);
        assert_true (most > table[i].step - table[i].step / 20);
    }
}

static void test_the_same_failure_waits_the_same (void **state)
{
    (void) state;
    assert_int_equal (backoff_ms (3, 77), backoff_ms (3, 77));
}

static void test_two_that_failed_together_come_back_apart (void **state)
{
    (void) state;
    unsigned together = 0;
    for (uint64_t salt = 0; salt < 1000; salt++)
        together += backoff_ms (7, salt) == backoff_ms (7, salt + 1);
    assert_true (together < 20);
}

/*  ---- effects ------------------------------------------------------------ */

/*  The last message that was put, its texts copied. */
struct sink {
    unsigned count;
    struct address to;
    struct message message;
    char text[LOG_SIZE_MAX + 64];
    size_t text_size;
    size_t user_size;
};

static void sink_put (void *context, struct address to, const struct message *message)
{
    struct sink *sink = context;
    sink->count++;
    sink->to = to;
    sink->message = *message;
    struct text text = NO_TEXT;
    if (message->id == MESSAGE_LOG) {
        text = message->log.text;
        sink->user_size = message->log.user.size;
    }
    if (message->id == MESSAGE_HEALTH)
        text = message->health.reason;
    assert_true (text.size < sizeof (sink->text));
    if (text.size > 0)
        memcpy (sink->text, text.data, text.size);
    sink->text_size = text.size;
    sink->text[text.size] = '\0';
}

static struct sink sink;
static const struct effects effects = { .put = sink_put, .sink = &sink };

static int forget (void **state)
{
    (void) state;
    memset (&sink, 0, sizeof (sink));
    return 0;
}

static void test_each_effect_is_one_message_to_the_right_place (void **state)
{
    (void) state;
    put_timer (&effects, 3, 12345);
    assert_int_equal (sink.to.role, ROLE_SHELL);
    assert_int_equal (sink.message.id, MESSAGE_SET_TIMER);
    assert_int_equal (sink.message.set_timer.timer, 3);
    assert_int_equal (sink.message.set_timer.at_ms, 12345);

    put_count (&effects, COUNTER_IGNORED, 7);
    assert_int_equal (sink.to.role, ROLE_STATS);
    assert_int_equal (sink.message.id, MESSAGE_COUNT);
    assert_int_equal (sink.message.count.counter, COUNTER_IGNORED);
    assert_int_equal (sink.message.count.amount, 7);

    put_gauge (&effects, GAUGE_POLLS, 9);
    assert_int_equal (sink.to.role, ROLE_SHELL);
    assert_int_equal (sink.message.id, MESSAGE_MEASURE);
    assert_int_equal (sink.message.measure.gauge, GAUGE_POLLS);
    assert_int_equal (sink.message.measure.value, 9);

    put_plain (&effects, (struct address){ ROLE_DECISION, 2 }, MESSAGE_OPENED);
    assert_int_equal (sink.to.role, ROLE_DECISION);
    assert_int_equal (sink.to.peer, 2);
    assert_int_equal (sink.message.id, MESSAGE_OPENED);
    assert_int_equal (sink.count, 4);
}

static void test_a_reason_that_is_too_long_is_cut (void **state)
{
    (void) state;
    char reason[REASON_SIZE_MAX + 100];
    memset (reason, 'r', sizeof (reason));
    put_health (&effects, SERVICE_CURRENCY, SERVICE_DOWN, (struct text){ reason, sizeof (reason) });
    assert_int_equal (sink.to.role, ROLE_SHELL);
    assert_int_equal (sink.message.id, MESSAGE_HEALTH);
    assert_int_equal (sink.message.health.service, SERVICE_CURRENCY);
    assert_int_equal (sink.message.health.state, SERVICE_DOWN);
    assert_int_equal (sink.text_size, REASON_SIZE_MAX);
    put_health (&effects, SERVICE_EVENTS, SERVICE_UP, NO_TEXT);
    assert_int_equal (sink.text_size, 0);
}

static void test_a_log_line_says_what_it_is_about (void **state)
{
    (void) state;
    struct about about = { .trace = 5, .position = 41, .user = TEXT_LITERAL ("alice") };
    put_log (&effects, LOG_WARN, about, "%s is %d%%", "this", 42);
    assert_int_equal (sink.message.id, MESSAGE_LOG);
    assert_int_equal (sink.message.trace, 5);
    assert_int_equal (sink.message.log.level, LOG_WARN);
    assert_int_equal (sink.message.log.position, 41);
    assert_int_equal (sink.user_size, 5);
    assert_string_equal (sink.text, "this is 42%");
}

static void test_a_log_line_that_nobody_wants_is_not_put (void **state)
{
    (void) state;
    struct effects quiet = effects;
    quiet.log_level = LOG_WARN;
    put_log (&quiet, LOG_INFO, (struct about){ 0 }, "nothing");
    assert_int_equal (sink.count, 0);
    put_log (&quiet, LOG_WARN, (struct about){ 0 }, "something");
    assert_int_equal (sink.count, 1);
    put_log (&effects, LOG_TRACE, (struct about){ 0 }, "everything");
    assert_int_equal (sink.count, 2);
}

static void test_a_log_line_that_is_too_long_is_cut_between_characters (void **state)
{
    (void) state;
    /*  One more byte before each round moves the euro signs over the edge. */
    for (size_t shift = 0; shift < 4; shift++) {
        char line[2 * LOG_SIZE_MAX];
        size_t size = shift;
        memset (line, 'x', shift);
        while (size + 4 < sizeof (line)) {
            memcpy (line + size, "\xe2\x82\xac", 3);
            size += 3;
        }
        line[size] = '\0';
        put_log (&effects, LOG_INFO, (struct about){ 0 }, "%s", line);
        assert_in_range (sink.text_size, LOG_SIZE_MAX - 2, LOG_SIZE_MAX);
        assert_int_equal ((sink.text_size - shift) % 3, 0);
        assert_memory_equal (sink.text, line, sink.text_size);
    }
}

static void test_a_log_line_at_its_limit_is_kept (void **state)
{
    (void) state;
    char line[LOG_SIZE_MAX + 2];
    memset (line, 'x', sizeof (line));
    line[LOG_SIZE_MAX] = '\0';
    put_log (&effects, LOG_INFO, (struct about){ 0 }, "%s", line);
    assert_int_equal (sink.text_size, LOG_SIZE_MAX);
    line[LOG_SIZE_MAX] = 'x';
    line[LOG_SIZE_MAX + 1] = '\0';
    put_log (&effects, LOG_INFO, (struct about){ 0 }, "%s", line);
    assert_int_equal (sink.text_size, LOG_SIZE_MAX);
}

static void test_a_user_id_that_no_field_holds_is_cut_in_the_log (void **state)
{
    (void) state;
    static char user[10 * 1024];
    memset (user, 0x80, sizeof (user));
    struct about about = { .user = { user, sizeof (user) } };
    put_log (&effects, LOG_INFO, about, "long");
    assert_in_range (sink.user_size, USER_SIZE_MAX - 3, USER_SIZE_MAX);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_ids_of_every_size_are_kept_and_spare_their_neighbours),
        cmocka_unit_test (test_an_id_may_move_within_the_store),
        cmocka_unit_test (test_the_size_of_the_store_is_that_of_the_document),
        cmocka_unit_test (test_waits_double_up_to_five_seconds_and_stay_there),
        cmocka_unit_test (test_the_same_failure_waits_the_same),
        cmocka_unit_test (test_two_that_failed_together_come_back_apart),
        cmocka_unit_test_setup (test_each_effect_is_one_message_to_the_right_place, forget),
        cmocka_unit_test_setup (test_a_reason_that_is_too_long_is_cut, forget),
        cmocka_unit_test_setup (test_a_log_line_says_what_it_is_about, forget),
        cmocka_unit_test_setup (test_a_log_line_that_nobody_wants_is_not_put, forget),
        cmocka_unit_test_setup (test_a_log_line_that_is_too_long_is_cut_between_characters, forget),
        cmocka_unit_test_setup (test_a_log_line_at_its_limit_is_kept, forget),
        cmocka_unit_test_setup (test_a_user_id_that_no_field_holds_is_cut_in_the_log, forget),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
