/*  test_decision.c - the rule, one player at a time: what is due, in what order,
    and what is not due for all the ways there are.
*/

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

#include "include/shard.h"
#include "tests/unit/decision_harness.h"

/*  ---- the whole way ------------------------------------------------------ */

static void test_a_player_of_both_apps_is_rewarded (void **state)
{
    (void) state;
    login (7, "alice");
    const struct message *read = expect_read ("alice");
    assert_int_equal (read->trace, 1007);
    nothing_settled ();
    meta (read->read_meta.request, "1490999999000", NULL);

    const struct message *record = expect_record (GRANT_INTENDED, 7);
    assert_true (harness_says (record->remember.user, "alice"));
    assert_int_equal (record->remember.at_ms, h.now.wall_ms);
    const struct message *write = expect_write ("alice");
    assert_true (harness_says (write->write_meta.value, "1795000000000"));
    assert_true (place_of (MESSAGE_REMEMBER) < place_of (MESSAGE_WRITE_META));
    nothing_asked ();
    nothing_settled ();

    written (write->write_meta.request, RESULT_OK);
    const struct message *give = expect_give ("alice");
    assert_int_equal (give->trace, 1007);
    nothing_settled ();
    given (give->give.request, RESULT_OK);
    expect_record (GRANT_GIVEN, 7);
    expect_settled (7, OUTCOME_SUCCESS);
    nothing_asked ();
    nothing_settled ();
}

static void test_the_amount_is_as_configured_also_below_zero (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    settings.reward_amount = INT64_MIN;
    harness_init (&h, &decision_spec, &settings);
    harness_start (&h);
    login (1, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", NULL);
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    assert_true (expect (MESSAGE_GIVE, ROLE_CURRENCY_CLIENT)->give.amount == INT64_MIN);
    end (NULL);
}

static void test_the_longest_reward_id_keeps_its_marker_whole (void **state)
{
    (void) state;
    char id[REWARD_SIZE_MAX + 1];
    memset (id, 'r', REWARD_SIZE_MAX);
    id[REWARD_SIZE_MAX] = '\0';
    struct settings settings = harness_settings ();
    settings.reward_id = id;
    harness_init (&h, &decision_spec, &settings);
    harness_start (&h);
    login (1, "alice");
    const struct message *read = expect (MESSAGE_READ_META, ROLE_USERMETA_CLIENT);
    assert_int_equal (read->read_meta.keys.size, strlen ("auth,$reward$") + REWARD_SIZE_MAX);
    meta (read->read_meta.request, "1", NULL);
    assert_int_equal (expect (MESSAGE_WRITE_META, ROLE_USERMETA_CLIENT)->write_meta.key.size,
                      strlen ("$reward$") + REWARD_SIZE_MAX);
    end (NULL);
}

/*  ---- nothing is due ----------------------------------------------------- */

static void test_another_type_or_app_is_ignored_without_asking (void **state)
{
    (void) state;
    static const char *const rows[][2] = {
        { "game-two", "CREATE" }, { "game-two", "login" },  { "game-two", "LOGIN " }, { "game-one", "LOGIN" },
        { "game-tw", "LOGIN" },   { "game-two2", "LOGIN" }, { "Game-Two", "LOGIN" },
    };
    for (uint64_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        raw_event (i + 1, rows[i][0], rows[i][1], NO_RAW, FAULT_NONE);
        expect_settled (i + 1, OUTCOME_IGNORED);
    }
    nothing_asked ();
    assert_int_equal (harness_logs (&h, LOG_INFO), 0);
}

static void test_an_event_without_names_is_ignored_and_named (void **state)
{
    (void) state;
    raw_event (1, "", "", NO_RAW, FAULT_NAME);
    expect_settled (1, OUTCOME_IGNORED);
    nothing_asked ();
    assert_int_equal (harness_logs (&h, LOG_WARN), 1);
}

/*  A login whose data is this one value, or a map with it as userId. */
static void login_value (uint64_t position, struct raw value, bool as_data)
{
    uint8_t memory[64];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    if (!as_data) {
        pack_map (&packer, 1);
        pack_literal (&packer, "userId");
    }
    pack_raw (&packer, value);
    raw_event (position, "game-two", "LOGIN", packer_raw (&packer), FAULT_NONE);
}

static void test_a_user_id_that_is_none_is_ignored_and_named (void **state)
{
    (void) state;
    static const uint8_t values[][2] = {
        { 0xa0, 0 }, /* "" */
        { 0x07, 0 }, /* 7 */
        { 0xc0, 0 }, /* nil */
        { 0xc3, 0 }, /* true */
        { 0x90, 0 }, /* [] */
        { 0x80, 0 }, /* {} */
        { 0xc4, 0 }, /* binary, empty */
        { 0x91, 0xc0 },
    };
    uint64_t position = 0;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        uint32_t size = i < 6 ? 1 : 2;
        for (int as_data = 0; as_data < 2; as_data++) {
            login_value (++position, (struct raw){ values[i], size }, as_data);
            expect_settled (position, OUTCOME_IGNORED);
        }
    }
    raw_event (++position, "game-two", "LOGIN", NO_RAW, FAULT_NONE);
    expect_settled (position, OUTCOME_IGNORED);
    nothing_asked ();
    assert_int_equal (harness_logs (&h, LOG_WARN), position);
}

static void test_nobody_without_auth_is_rewarded (void **state)
{
    (void) state;
    login (1, "alice");
    meta (expect_read ("alice")->read_meta.request, NULL, NULL);
    expect_settled (1, OUTCOME_IGNORED);
    login (2, "alice");
    meta (expect_read ("alice")->read_meta.request, "", NULL);
    expect_settled (2, OUTCOME_IGNORED);
    nothing_asked ();
    assert_int_equal (harness_count (&h, MESSAGE_REMEMBER), 0);
}

static void test_nobody_is_rewarded_twice (void **state)
{
    (void) state;
    static const char *const markers[] = { "1491000000123", "0", "false", " " };
    for (uint64_t i = 0; i < sizeof markers / sizeof *markers; i++) {
        login (LATE + i, "alice");
        meta (expect_read ("alice")->read_meta.request, "1", markers[i]);
        expect_settled (LATE + i, OUTCOME_IGNORED);
    }
    nothing_asked ();
}

static void test_an_empty_marker_is_none_and_any_other_auth_is_one (void **state)
{
    (void) state;
    static const char *const auths[] = { "0", "false", "1490999999000" };
    for (uint64_t i = 0; i < sizeof auths / sizeof *auths; i++) {
        login (i + 1, "alice");
        meta (expect_read ("alice")->read_meta.request, auths[i], "");
        written (expect_write ("alice")->write_meta.request, RESULT_OK);
        given (expect_give ("alice")->give.request, RESULT_OK);
        expect_settled (i + 1, OUTCOME_SUCCESS);
    }
}

/*  Usermeta's answer with a marker that is not a string. */
static void meta_odd_marker (uint64_t request, struct raw marker)
{
    uint8_t memory[64];
    struct packer packer;
    struct message message = { .id = MESSAGE_META, .from = { ROLE_USERMETA_CLIENT, 0 } };
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 2);
    pack_literal (&packer, "auth");
    pack_literal (&packer, "1");
    pack_literal (&packer, "$reward$promo1");
    pack_raw (&packer, marker);
    message.meta.request = request;
    message.meta.values = packer_raw (&packer);
    harness_deliver (&h, &message);
}

static void test_a_marker_that_is_no_string_still_marks (void **state)
{
    (void) state;
    static const uint8_t markers[][1] = { { 0x07 }, { 0xc3 }, { 0xff }, { 0x80 }, { 0x90 } };
    for (uint64_t i = 0; i < sizeof markers / sizeof *markers; i++) {
        login (LATE + i, "alice");
        meta_odd_marker (expect_read ("alice")->read_meta.request, (struct raw){ markers[i], 1 });
        expect_settled (LATE + i, OUTCOME_IGNORED);
    }
    nothing_asked ();
}

static void test_a_marker_of_null_false_or_zero_is_none (void **state)
{
    (void) state;
    static const uint8_t markers[][1] = { { 0xc0 }, { 0xc2 }, { 0x00 } };
    for (uint64_t i = 0; i < sizeof markers / sizeof *markers; i++) {
        login (i + 1, "alice");
        meta_odd_marker (expect_read ("alice")->read_meta.request, (struct raw){ markers[i], 1 });
        written (expect_write ("alice")->write_meta.request, RESULT_OK);
        given (expect_give ("alice")->give.request, RESULT_OK);
        expect_settled (i + 1, OUTCOME_SUCCESS);
    }
}

/*  ---- something fails ---------------------------------------------------- */

static void test_data_that_was_left_out_fails_and_is_named (void **state)
{
    (void) state;
    static const enum fault faults[] = { FAULT_DATA_SIZE, FAULT_DATA_KEYS, FAULT_DATA_DEPTH };
    for (uint64_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        raw_event (i + 1, "game-two", "LOGIN", NO_RAW, faults[i]);
        expect_settled (i + 1, OUTCOME_FAILURE);
    }
    assert_int_equal (harness_logs (&h, LOG_WARN), 3);
    raw_event (4, "game-two", "CREATE", NO_RAW, FAULT_DATA_SIZE);
    expect_settled (4, OUTCOME_IGNORED);
    nothing_asked ();
}

static void test_a_user_id_that_is_too_long_or_not_utf8_fails (void **state)
{
    (void) state;
    static char user[USER_SIZE_MAX + 1];
    static const uint8_t cut[] = { 0xd4, EXT_CUT, 2 }; /* a fixed ext of one byte */
    memset (user, 'u', sizeof user);
    login_bytes (1, (struct text){ user, USER_SIZE_MAX + 1 });
    expect_settled (1, OUTCOME_FAILURE);
    login_bytes (2, TEXT_LITERAL ("al\xffice"));
    expect_settled (2, OUTCOME_FAILURE);
    login_bytes (3, TEXT_LITERAL ("\xed\xa0\x80"));
    expect_settled (3, OUTCOME_FAILURE);
    login_value (4, (struct raw){ cut, sizeof cut }, false);
    expect_settled (4, OUTCOME_FAILURE);
    nothing_asked ();
    login_bytes (5, (struct text){ user, USER_SIZE_MAX });
    assert_int_equal (expect (MESSAGE_READ_META, ROLE_USERMETA_CLIENT)->read_meta.user.size, USER_SIZE_MAX);
}

static void test_a_read_that_is_refused_fails_and_writes_nothing (void **state)
{
    (void) state;
    login (1, "alice");
    meta_refused (expect_read ("alice")->read_meta.request);
    expect_settled (1, OUTCOME_FAILURE);
    nothing_asked ();
    assert_int_equal (harness_count (&h, MESSAGE_REMEMBER), 0);
    assert_int_equal (harness_logs (&h, LOG_ERROR), 1);
}

static void test_a_marker_that_is_refused_gives_nothing (void **state)
{
    (void) state;
    login (1, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", NULL);
    expect_record (GRANT_INTENDED, 1);
    written (expect_write ("alice")->write_meta.request, RESULT_REFUSED);
    expect_record (GRANT_REFUSED, 1);
    expect_settled (1, OUTCOME_FAILURE);
    nothing_asked ();
}

static void test_a_reward_that_is_refused_fails_and_is_remembered (void **state)
{
    (void) state;
    login (1, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", NULL);
    expect_record (GRANT_INTENDED, 1);
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given (expect_give ("alice")->give.request, RESULT_REFUSED);
    expect_record (GRANT_REFUSED, 1);
    expect_settled (1, OUTCOME_FAILURE);
    nothing_asked ();
}

/*  ---- one player, several events ----------------------------------------- */

static void test_two_logins_side_by_side_bring_one_reward (void **state)
{
    (void) state;
    login (1, "alice");
    login (2, "alice");
    assert_int_equal (harness_count (&h, MESSAGE_READ_META), 1);
    meta (expect_read ("alice")->read_meta.request, "1", NULL);
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given (expect_give ("alice")->give.request, RESULT_OK);
    expect_settled (1, OUTCOME_SUCCESS);
    expect_settled (2, OUTCOME_IGNORED);
    nothing_asked ();
}

static void test_a_second_login_at_every_stage_of_the_first (void **state)
{
    (void) state;
    for (uint64_t stage = 0; stage < 3; stage++) {
        char user[16];
        snprintf (user, sizeof user, "user%" PRIu64, stage);
        uint64_t first = stage * 10 + 1;
        login (first, user);
        if (stage == 0)
            login (first + 1, user);
        meta (expect_read (user)->read_meta.request, "1", NULL);
        if (stage == 1)
            login (first + 1, user);
        written (expect_write (user)->write_meta.request, RESULT_OK);
        if (stage == 2)
            login (first + 1, user);
        given (expect_give (user)->give.request, RESULT_OK);
        expect_settled (first, OUTCOME_SUCCESS);
        expect_settled (first + 1, OUTCOME_IGNORED);
        nothing_asked ();
        nothing_settled ();
    }
}

static void test_behind_a_marker_that_was_seen_nobody_is_read_again (void **state)
{
    (void) state;
    for (uint64_t position = LATE; position < LATE + 4; position++)
        login (position, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", "1491000000123");
    for (uint64_t position = LATE; position < LATE + 4; position++)
        expect_settled (position, OUTCOME_IGNORED);
    nothing_asked ();
}

static void test_behind_a_refusal_the_next_is_decided_anew (void **state)
{
    (void) state;
    login (1, "alice");
    login (2, "alice");
    login (3, "alice");
    meta_refused (expect_read ("alice")->read_meta.request);
    expect_settled (1, OUTCOME_FAILURE);
    meta (expect_read ("alice")->read_meta.request, "1", NULL);
    written (expect_write ("alice")->write_meta.request, RESULT_REFUSED);
    expect_settled (2, OUTCOME_FAILURE);
    reward (3, "alice");
    nothing_asked ();
}

static void test_behind_a_refused_reward_the_marker_stands (void **state)
{
    (void) state;
    login (1, "alice");
    login (2, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", NULL);
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given (expect_give ("alice")->give.request, RESULT_REFUSED);
    expect_settled (1, OUTCOME_FAILURE);
    expect_settled (2, OUTCOME_IGNORED);
    nothing_asked ();
}

static void test_behind_no_auth_the_next_is_looked_up_again (void **state)
{
    (void) state;
    login (1, "alice");
    login (2, "alice");
    meta (expect_read ("alice")->read_meta.request, NULL, NULL);
    expect_settled (1, OUTCOME_IGNORED);
    reward (2, "alice");
}

static void test_players_do_not_wait_for_each_other (void **state)
{
    (void) state;
    login (1, "alice");
    login (2, "bob");
    uint64_t alice = expect_read ("alice")->read_meta.request;
    reward (2, "bob");
    meta (alice, NULL, NULL);
    expect_settled (1, OUTCOME_IGNORED);
}

static void test_users_that_differ_in_little_are_not_one (void **state)
{
    (void) state;
    login (1, "alice");
    login (2, "Alice");
    login (3, "alice ");
    login_bytes (4, (struct text){ "alice\0", 6 });
    assert_int_equal (harness_count (&h, MESSAGE_READ_META), 4);
}

/*  ---- answers to nothing ------------------------------------------------- */

static void test_stale_and_double_answers_are_ignored (void **state)
{
    (void) state;
    login (1, "alice");
    uint64_t read = expect_read ("alice")->read_meta.request;
    meta (0, "1", NULL);
    meta (read + 8, "1", NULL);
    meta (read - 8, "1", NULL);
    written (read, RESULT_OK);
    given (read, RESULT_OK);
    nothing_asked ();
    meta (read, "1", NULL);
    uint64_t write = expect_write ("alice")->write_meta.request;
    meta (read, "1", NULL);
    given (write, RESULT_OK);
    nothing_asked ();
    written (write, RESULT_OK);
    uint64_t give = expect_give ("alice")->give.request;
    written (write, RESULT_OK);
    written (write, RESULT_REFUSED);
    nothing_asked ();
    nothing_settled ();
    given (give, RESULT_OK);
    expect_settled (1, OUTCOME_SUCCESS);
    given (give, RESULT_OK);
    given (give, RESULT_REFUSED);
    meta (read, "1", NULL);
    nothing_asked ();
    nothing_settled ();
    assert_int_equal (harness_count (&h, MESSAGE_REMEMBER), 2);
}

static void test_an_answer_for_the_one_before_in_the_same_place_is_ignored (void **state)
{
    (void) state;
    begin_window (1);
    login (1, "alice");
    uint64_t old = expect_read ("alice")->read_meta.request;
    meta (old, NULL, NULL);
    expect_settled (1, OUTCOME_IGNORED);
    login (2, "bob");
    uint64_t new = expect_read ("bob")->read_meta.request;
    assert_true (new != old);
    meta (old, "1", NULL);
    nothing_asked ();
    meta (new, NULL, NULL);
    expect_settled (2, OUTCOME_IGNORED);
    end (NULL);
}

/*  ---- credit, full, drain ------------------------------------------------ */

static void test_both_clients_are_asked_at_the_start (void **state)
{
    (void) state;
    assert_int_equal (harness_count (&h, MESSAGE_OPEN), 2);
    expect (MESSAGE_OPEN, ROLE_USERMETA_CLIENT);
    expect (MESSAGE_OPEN, ROLE_CURRENCY_CLIENT);
}

static void test_there_is_no_credit_before_both_clients_have_opened (void **state)
{
    (void) state;
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    no_credit ();
    from (ROLE_USERMETA_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_USERMETA_CLIENT, 0, MESSAGE_OPENED);
    no_credit ();
    from (ROLE_CURRENCY_CLIENT, 0, MESSAGE_OPENED);
    expect_credit (8, 0);
    no_credit ();
}

static void test_who_asks_late_or_again_gets_its_credit (void **state)
{
    (void) state;
    from (ROLE_CURRENCY_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_USERMETA_CLIENT, 0, MESSAGE_OPENED);
    no_credit ();
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    expect_credit (8, 0);
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    expect_credit (8, 0);
    from (ROLE_INGEST, 3, MESSAGE_OPEN);
    expect_credit (8, 3);
    no_credit ();
}

static void test_more_ingest_actors_than_fit_get_nothing (void **state)
{
    (void) state;
    from (ROLE_CURRENCY_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_USERMETA_CLIENT, 0, MESSAGE_OPENED);
    for (uint16_t peer = 0; peer < 64; peer++) {
        from (ROLE_INGEST, peer, MESSAGE_OPEN);
        expect_credit (8, peer);
    }
    from (ROLE_INGEST, 64, MESSAGE_OPEN);
    no_credit ();
    assert_int_equal (harness_logs (&h, LOG_ERROR), 1);
    from (ROLE_INGEST, 63, MESSAGE_OPEN);
    expect_credit (8, 63);
}

static void test_events_beyond_the_credit_are_dropped_and_named (void **state)
{
    (void) state;
    char user[16];
    for (uint64_t position = 1; position <= 8; position++) {
        snprintf (user, sizeof user, "user%" PRIu64, position);
        login (position, user);
    }
    assert_int_equal (harness_count (&h, MESSAGE_READ_META), 8);
    login (9, "one-too-many");
    login (10, "user1");
    assert_int_equal (harness_count (&h, MESSAGE_READ_META), 8);
    nothing_settled ();
    assert_int_equal (harness_logs (&h, LOG_ERROR), 2);
    meta (expect_read ("user1")->read_meta.request, NULL, NULL);
    expect_settled (1, OUTCOME_IGNORED);
    login (11, "again");
    assert_int_equal (harness_count (&h, MESSAGE_READ_META), 8);
}

static void test_what_is_ignored_by_itself_takes_no_room (void **state)
{
    (void) state;
    begin_window (1);
    login (1, "alice");
    raw_event (2, "game-two", "CREATE", NO_RAW, FAULT_NONE);
    expect_settled (2, OUTCOME_IGNORED);
    reward (1, "alice");
    end (NULL);
}

static void test_draining_takes_the_credit_back_and_finishes (void **state)
{
    (void) state;
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    from (ROLE_CURRENCY_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_USERMETA_CLIENT, 0, MESSAGE_OPENED);
    expect_credit (8, 0);
    login (1, "alice");
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    expect_credit (0, 0);
    assert_null (harness_take (&h, MESSAGE_DRAINED));
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    expect_credit (0, 0);
    reward (1, "alice");
    assert_non_null (harness_take (&h, MESSAGE_DRAINED));
    harness_turn (&h);
    assert_null (harness_take (&h, MESSAGE_DRAINED));
}

static void test_drained_at_once_when_there_is_nothing (void **state)
{
    (void) state;
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    assert_non_null (harness_take (&h, MESSAGE_DRAINED));
    from (ROLE_CURRENCY_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_USERMETA_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    expect_credit (0, 0);
}

/*  ---- beyond the process: shards, workers, lives ------------------------- */

enum { USERMETAS = 3, CURRENCIES = 2 };

static int begin_workers (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    settings.window = 64;
    settings.usermeta_clients = USERMETAS;
    settings.currency_clients = CURRENCIES;
    harness_init (&h, &decision_spec, &settings);
    harness_start (&h);
    return 0;
}

/*  The next effect of this id; *to is where it goes. */
static const struct message *take (enum message_id id, struct address *to)
{
    struct recorded *effect = harness_take_recorded (&h, id);
    assert_non_null (effect);
    *to = effect->to;
    return effect->message;
}

static void test_a_player_is_one_workers_of_each_kind (void **state)
{
    (void) state;
    unsigned reads[USERMETAS] = { 0 }, gives[CURRENCIES] = { 0 };
    for (uint64_t position = 1; position <= 60; position++) {
        struct address reader, writer, giver, again;
        char user[16];
        snprintf (user, sizeof user, "user%" PRIu64, position);
        login (position, user);
        meta (take (MESSAGE_READ_META, &reader)->read_meta.request, "1", NULL);
        written (take (MESSAGE_WRITE_META, &writer)->write_meta.request, RESULT_OK);
        given (take (MESSAGE_GIVE, &giver)->give.request, RESULT_OK);
        assert_int_equal (reader.role, ROLE_USERMETA_CLIENT);
        assert_int_equal (giver.role, ROLE_CURRENCY_CLIENT);
        assert_int_equal (reader.peer, writer.peer);
        assert_int_equal (reader.peer, shard_of_player (text_of (user), USERMETAS));
        assert_int_equal (giver.peer, shard_of_player (text_of (user), CURRENCIES));
        reads[reader.peer]++;
        gives[giver.peer]++;
        login (1000 + position, user);
        meta (take (MESSAGE_READ_META, &again)->read_meta.request, "1", "1");
        assert_int_equal (again.peer, reader.peer);
        harness_clear (&h);
    }
    for (unsigned i = 0; i < USERMETAS; i++)
        assert_in_range (reads[i], 5, 40);
    for (unsigned i = 0; i < CURRENCIES; i++)
        assert_in_range (gives[i], 10, 50);
}

static void test_every_worker_is_asked_and_has_to_open_before_there_is_credit (void **state)
{
    (void) state;
    unsigned asked = 0;
    struct recorded *open;
    while ((open = harness_take_recorded (&h, MESSAGE_OPEN)))
        asked |= 1u << (open->to.peer + (open->to.role == ROLE_CURRENCY_CLIENT ? 8 : 0));
    assert_int_equal (asked, 0x307);
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    from (ROLE_USERMETA_CLIENT, 2, MESSAGE_OPENED);
    from (ROLE_CURRENCY_CLIENT, 1, MESSAGE_OPENED);
    from (ROLE_USERMETA_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_CURRENCY_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_USERMETA_CLIENT, 3, MESSAGE_OPENED); /* there is no such one */
    from (ROLE_USERMETA_CLIENT, 77, MESSAGE_OPENED);
    no_credit ();
    from (ROLE_USERMETA_CLIENT, 1, MESSAGE_OPENED);
    expect_credit (64, 0);
    no_credit ();
}

/*  Three players, one at each stage. */
static void one_at_each_stage (void)
{
    login (1, "reader");
    expect_read ("reader");
    login (2, "writer");
    meta (expect_read ("writer")->read_meta.request, "1", NULL);
    expect_write ("writer");
    expect_record (GRANT_INTENDED, 2);
    login (3, "giver");
    meta (expect_read ("giver")->read_meta.request, "1", NULL);
    expect_record (GRANT_INTENDED, 3);
    written (expect_write ("giver")->write_meta.request, RESULT_OK);
    expect_give ("giver");
}

static void test_who_came_back_without_memory_is_asked_all_of_its_own_again (void **state)
{
    (void) state;
    harness_clear (&h);
    one_at_each_stage ();
    peer (ROLE_USERMETA_CLIENT, 0, PEER_RESTARTED);
    struct recorded *open = harness_take_recorded (&h, MESSAGE_OPEN);
    assert_non_null (open);
    assert_int_equal (open->to.role, ROLE_USERMETA_CLIENT);
    uint64_t read = expect_read ("reader")->read_meta.request;
    uint64_t write = expect_write ("writer")->write_meta.request;
    nothing_asked ();
    assert_int_equal (harness_count (&h, MESSAGE_REMEMBER), 0); /* it is remembered already */

    peer (ROLE_CURRENCY_CLIENT, 0, PEER_RESTARTED);
    open = harness_take_recorded (&h, MESSAGE_OPEN);
    assert_non_null (open);
    assert_int_equal (open->to.role, ROLE_CURRENCY_CLIENT);
    uint64_t give = expect_give ("giver")->give.request;
    nothing_asked ();

    given (give, RESULT_OK);
    expect_settled (3, OUTCOME_SUCCESS);
    written (write, RESULT_OK);
    given (expect_give ("writer")->give.request, RESULT_OK);
    expect_settled (2, OUTCOME_SUCCESS);
    meta (read, NULL, "1");
    expect_settled (1, OUTCOME_IGNORED);
    nothing_asked ();
}

static void test_answers_to_what_was_asked_before_it_came_back_are_stale (void **state)
{
    (void) state;
    login (1, "alice");
    uint64_t first = expect_read ("alice")->read_meta.request;
    peer (ROLE_USERMETA_CLIENT, 0, PEER_RESTARTED);
    uint64_t second = expect_read ("alice")->read_meta.request;
    assert_true (first != second);
    meta (first, "1", NULL);
    nothing_asked ();
    meta (second, "1", NULL);
    uint64_t write = expect_write ("alice")->write_meta.request;
    peer (ROLE_USERMETA_CLIENT, 0, PEER_RESTARTED);
    written (write, RESULT_OK);
    nothing_settled ();
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    uint64_t give = expect_give ("alice")->give.request;
    peer (ROLE_CURRENCY_CLIENT, 0, PEER_RESTARTED);
    given (give, RESULT_OK);
    nothing_settled ();
    given (expect_give ("alice")->give.request, RESULT_OK);
    expect_settled (1, OUTCOME_SUCCESS);
}

static void test_only_the_worker_that_came_back_is_asked_again (void **state)
{
    (void) state;
    unsigned reads[USERMETAS] = { 0 };
    struct address to;
    harness_clear (&h);
    for (uint64_t position = 1; position <= 40; position++) {
        char user[16];
        snprintf (user, sizeof user, "user%" PRIu64, position);
        login (position, user);
        take (MESSAGE_READ_META, &to);
        reads[to.peer]++;
    }
    for (uint16_t worker = 0; worker < USERMETAS; worker++) {
        peer (ROLE_USERMETA_CLIENT, worker, PEER_RESTARTED);
        take (MESSAGE_OPEN, &to);
        assert_int_equal (to.peer, worker);
        assert_int_equal (harness_count (&h, MESSAGE_READ_META), reads[worker]);
        for (unsigned i = 0; i < reads[worker]; i++) {
            take (MESSAGE_READ_META, &to);
            assert_int_equal (to.peer, worker);
        }
    }
    nothing_asked ();
}

static void test_who_is_silent_or_comes_back_as_it_was_is_asked_nothing_again (void **state)
{
    (void) state;
    harness_clear (&h);
    one_at_each_stage ();
    for (enum role role = ROLE_INGEST; role <= ROLE_STATS; role++) {
        peer (role, 0, PEER_LOST);
        peer (role, 0, PEER_UP);
    }
    peer (ROLE_STATS, 0, PEER_RESTARTED);
    peer (ROLE_USERMETA_CLIENT, 9, PEER_RESTARTED);
    nothing_asked ();
    nothing_settled ();
}

static void test_an_event_that_is_read_again_is_decided_once (void **state)
{
    (void) state;
    login (5, "alice");
    login (6, "alice");
    peer (ROLE_INGEST, 0, PEER_RESTARTED);
    login (5, "alice");
    login (6, "alice");
    login (5, "alice");
    reward (5, "alice");
    expect_settled (6, OUTCOME_IGNORED);
    nothing_settled ();
    nothing_asked ();
    login (5, "alice"); /* it was settled, but whoever asks has not heard it */
    meta (expect_read ("alice")->read_meta.request, "1", "1");
    expect_settled (5, OUTCOME_SUCCESS);
}

static void test_the_same_number_of_another_ingest_is_another_event (void **state)
{
    (void) state;
    login (5, "alice");
    expect_read ("alice");
    struct message message = { .id = MESSAGE_EVENT, .trace = 2005, .from = { ROLE_INGEST, 1 } };
    uint8_t memory[64];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 1);
    pack_literal (&packer, "userId");
    pack_literal (&packer, "bob");
    message.event.position = 5;
    message.event.source = TEXT_LITERAL ("game-two");
    message.event.type = TEXT_LITERAL ("LOGIN");
    message.event.data = packer_raw (&packer);
    harness_deliver (&h, &message);
    meta (expect_read ("bob")->read_meta.request, NULL, NULL);
    struct recorded *settled = harness_take_recorded (&h, MESSAGE_SETTLED);
    assert_int_equal (settled->to.peer, 1);
}

static void test_two_lives_number_their_requests_differently (void **state)
{
    (void) state;
    uint64_t first[2];
    for (unsigned life = 0; life < 2; life++) {
        struct settings settings = harness_settings ();
        settings.hash_seed = UINT64_C (0x9e3779b97f4a7c15) * (life + 1);
        harness_init (&h, &decision_spec, &settings);
        harness_start (&h);
        login (1, "alice");
        first[life] = expect_read ("alice")->read_meta.request;
        end (NULL);
    }
    assert_true (first[0] > first[1] ? first[0] - first[1] > 1000000000 : first[1] - first[0] > 1000000000);
}

/*  The seed with the largest numbers, and the largest window: they do not wrap. */
static void test_request_numbers_have_room_for_a_long_life (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    settings.hash_seed = UINT64_MAX;
    settings.window = WINDOW_MAX;
    harness_init (&h, &decision_spec, &settings);
    harness_start (&h);
    login (1, "alice");
    assert_true (expect_read ("alice")->read_meta.request < UINT64_MAX / 8);
    end (NULL);
}

static void open_all (void)
{
    from (ROLE_USERMETA_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_CURRENCY_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    expect_credit (8, 0);
}

static void test_an_ingest_that_came_back_gets_the_credit_that_is_left (void **state)
{
    (void) state;
    open_all ();
    for (uint64_t position = 11; position <= 18; position++) {
        char user[16];
        snprintf (user, sizeof user, "user%" PRIu64, position);
        login (position, user);
    }
    peer (ROLE_INGEST, 0, PEER_RESTARTED);
    expect_credit (0, 0);
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    expect_credit (0, 0);
    meta (expect_read ("user11")->read_meta.request, NULL, NULL);
    nothing_settled (); /* it may be on its way here once more: then it is answered */
    expect_credit (1, 0);
    login (9, "user9"); /* settled before, but not acknowledged: it comes first */
    nothing_settled ();
    assert_int_equal (harness_logs (&h, LOG_ERROR), 0);
    no_credit ();
    login (12, "user12"); /* taken over by the new life */
    expect_credit (2, 0);
    login (12, "user12");
    no_credit ();
    assert_int_equal (harness_logs (&h, LOG_ERROR), 0);
    peer (ROLE_INGEST, 0, PEER_RESTARTED);
    expect_credit (0, 0);
    for (uint64_t position = 12; position <= 18; position++) {
        char user[16];
        snprintf (user, sizeof user, "user%" PRIu64, position);
        meta (expect_read (user)->read_meta.request, NULL, NULL);
        nothing_settled ();
        expect_credit (position - 11, 0);
    }
    meta (expect_read ("user9")->read_meta.request, NULL, NULL);
    nothing_settled ();
    expect_credit (8, 0);
    no_credit ();
    login (11, "user11");
    meta (expect_read ("user11")->read_meta.request, NULL, NULL);
    expect_settled (11, OUTCOME_IGNORED);
}

static void test_who_came_back_while_it_drains_gets_no_credit (void **state)
{
    (void) state;
    open_all ();
    login (1, "alice");
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    expect_credit (0, 0);
    peer (ROLE_INGEST, 0, PEER_RESTARTED);
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    expect_credit (0, 0);
    meta (expect_read ("alice")->read_meta.request, NULL, NULL);
    no_credit ();
    assert_non_null (harness_take (&h, MESSAGE_DRAINED));
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_a_player_of_both_apps_is_rewarded, begin, end),
        cmocka_unit_test (test_the_amount_is_as_configured_also_below_zero),
        cmocka_unit_test (test_the_longest_reward_id_keeps_its_marker_whole),
        cmocka_unit_test_setup_teardown (test_another_type_or_app_is_ignored_without_asking, begin, end),
        cmocka_unit_test_setup_teardown (test_an_event_without_names_is_ignored_and_named, begin, end),
        cmocka_unit_test_setup_teardown (test_a_user_id_that_is_none_is_ignored_and_named, begin, end),
        cmocka_unit_test_setup_teardown (test_nobody_without_auth_is_rewarded, begin, end),
        cmocka_unit_test_setup_teardown (test_nobody_is_rewarded_twice, begin_late, end),
        cmocka_unit_test_setup_teardown (test_an_empty_marker_is_none_and_any_other_auth_is_one, begin, end),
        cmocka_unit_test_setup_teardown (test_a_marker_that_is_no_string_still_marks, begin_late, end),
        cmocka_unit_test_setup_teardown (test_a_marker_of_null_false_or_zero_is_none, begin, end),
        cmocka_unit_test_setup_teardown (test_data_that_was_left_out_fails_and_is_named, begin, end),
        cmocka_unit_test_setup_teardown (test_a_user_id_that_is_too_long_or_not_utf8_fails, begin, end),
        cmocka_unit_test_setup_teardown (test_a_read_that_is_refused_fails_and_writes_nothing, begin, end),
        cmocka_unit_test_setup_teardown (test_a_marker_that_is_refused_gives_nothing, begin, end),
        cmocka_unit_test_setup_teardown (test_a_reward_that_is_refused_fails_and_is_remembered, begin, end),
        cmocka_unit_test_setup_teardown (test_two_logins_side_by_side_bring_one_reward, begin, end),
        cmocka_unit_test_setup_teardown (test_a_second_login_at_every_stage_of_the_first, begin, end),
        cmocka_unit_test_setup_teardown (test_behind_a_marker_that_was_seen_nobody_is_read_again, begin_late,
                                         end),
        cmocka_unit_test_setup_teardown (test_behind_a_refusal_the_next_is_decided_anew, begin, end),
        cmocka_unit_test_setup_teardown (test_behind_a_refused_reward_the_marker_stands, begin, end),
        cmocka_unit_test_setup_teardown (test_behind_no_auth_the_next_is_looked_up_again, begin, end),
        cmocka_unit_test_setup_teardown (test_players_do_not_wait_for_each_other, begin, end),
        cmocka_unit_test_setup_teardown (test_users_that_differ_in_little_are_not_one, begin, end),
        cmocka_unit_test_setup_teardown (test_stale_and_double_answers_are_ignored, begin, end),
        cmocka_unit_test (test_an_answer_for_the_one_before_in_the_same_place_is_ignored),
        cmocka_unit_test_setup_teardown (test_both_clients_are_asked_at_the_start, begin, end),
        cmocka_unit_test_setup_teardown (test_there_is_no_credit_before_both_clients_have_opened, begin, end),
        cmocka_unit_test_setup_teardown (test_who_asks_late_or_again_gets_its_credit, begin, end),
        cmocka_unit_test_setup_teardown (test_more_ingest_actors_than_fit_get_nothing, begin, end),
        cmocka_unit_test_setup_teardown (test_events_beyond_the_credit_are_dropped_and_named, begin, end),
        cmocka_unit_test (test_what_is_ignored_by_itself_takes_no_room),
        cmocka_unit_test_setup_teardown (test_draining_takes_the_credit_back_and_finishes, begin, end),
        cmocka_unit_test_setup_teardown (test_drained_at_once_when_there_is_nothing, begin, end),
        cmocka_unit_test_setup_teardown (test_a_player_is_one_workers_of_each_kind, begin_workers, end),
        cmocka_unit_test_setup_teardown (test_every_worker_is_asked_and_has_to_open_before_there_is_credit,
                                         begin_workers, end),
        cmocka_unit_test_setup_teardown (test_who_came_back_without_memory_is_asked_all_of_its_own_again,
                                         begin, end),
        cmocka_unit_test_setup_teardown (test_answers_to_what_was_asked_before_it_came_back_are_stale, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_only_the_worker_that_came_back_is_asked_again, begin_workers,
                                         end),
        cmocka_unit_test_setup_teardown (test_who_is_silent_or_comes_back_as_it_was_is_asked_nothing_again,
                                         begin, end),
        cmocka_unit_test_setup_teardown (test_an_event_that_is_read_again_is_decided_once, begin, end),
        cmocka_unit_test_setup_teardown (test_the_same_number_of_another_ingest_is_another_event, begin, end),
        cmocka_unit_test (test_two_lives_number_their_requests_differently),
        cmocka_unit_test (test_request_numbers_have_room_for_a_long_life),
        cmocka_unit_test_setup_teardown (test_an_ingest_that_came_back_gets_the_credit_that_is_left, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_who_came_back_while_it_drains_gets_no_credit, begin, end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
