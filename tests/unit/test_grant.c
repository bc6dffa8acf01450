/*  test_grant.c - a grant from its intent to its end: the table, what the journal
    brings back, what a person wants, and when somebody asks before giving.
*/

#include "actors/decision/grant.h"
#include "actors/decision/past.h"
#include "tests/unit/decision_harness.h"

enum { GRACE_MS = 2000, WINDOW = 8, RETRIES = 16 };

/*  ---- the table ---------------------------------------------------------- */

static const struct {
    enum stage stage;
    enum happening happening;
    struct grant_cell cell;
} possible[] = {
    { STAGE_NEW, ON_EVENT, { STAGE_READING, DO_READ, CHECK_KEEP, 0, 0 } },
    { STAGE_NEW, ON_RESUMED, { STAGE_MARKING, DO_MARK, CHECK_GRACE, 0, 0 } },
    { STAGE_NEW, ON_RETRIED, { STAGE_MARKING, DO_MARK, CHECK_QUIET, 0, 0 } },
    { STAGE_NEW, ON_NOT_DUE, { STAGE_ENDED, DO_SETTLE, CHECK_KEEP, 0, OUTCOME_IGNORED } },
    { STAGE_NEW, ON_OWN_GIVEN, { STAGE_ENDED, DO_SETTLE, CHECK_KEEP, 0, OUTCOME_SUCCESS } },
    { STAGE_NEW, ON_OWN_PARKED, { STAGE_ENDED, DO_SETTLE, CHECK_KEEP, 0, OUTCOME_FAILURE } },
    { STAGE_READING, ON_UNREADABLE, { STAGE_ENDED, DO_SETTLE, CHECK_KEEP, 0, OUTCOME_FAILURE } },
    { STAGE_READING, ON_NOT_DUE, { STAGE_ENDED, DO_SETTLE, CHECK_KEEP, 0, OUTCOME_IGNORED } },
    { STAGE_READING, ON_OWN_GIVEN, { STAGE_ENDED, DO_SETTLE, CHECK_KEEP, 0, OUTCOME_SUCCESS } },
    { STAGE_READING, ON_OWN_PARKED, { STAGE_ENDED, DO_SETTLE, CHECK_KEEP, 0, OUTCOME_FAILURE } },
    { STAGE_READING, ON_DUE, { STAGE_MARKING, DO_INTEND | DO_MARK, CHECK_NONE, 0, 0 } },
    { STAGE_READING, ON_DUE_AGAIN, { STAGE_MARKING, DO_INTEND | DO_MARK, CHECK_QUIET, 0, 0 } },
    { STAGE_READING, ON_UNEXPLAINED, { STAGE_GIVING, DO_INTEND | DO_GIVE, CHECK_QUIET, 0, 0 } },
    { STAGE_READING, ON_FORGOTTEN, { STAGE_READING, DO_READ, CHECK_KEEP, 0, 0 } },
    { STAGE_MARKING, ON_MARKED, { STAGE_GIVING, DO_GIVE, CHECK_KEEP, 0, 0 } },
    { STAGE_MARKING,
      ON_NOT_MARKED,
      { STAGE_ENDED, DO_RECORD | DO_SETTLE, CHECK_KEEP, GRANT_REFUSED, OUTCOME_FAILURE } },
    { STAGE_MARKING,
      ON_MAYBE_MARKED,
      { STAGE_ENDED, DO_RECORD | DO_SETTLE, CHECK_KEEP, GRANT_UNCERTAIN, OUTCOME_FAILURE } },
    { STAGE_MARKING, ON_FORGOTTEN, { STAGE_MARKING, DO_MARK, CHECK_KEEP, 0, 0 } },
    { STAGE_GIVING,
      ON_GIVEN,
      { STAGE_ENDED, DO_RECORD | DO_SETTLE, CHECK_KEEP, GRANT_GIVEN, OUTCOME_SUCCESS } },
    { STAGE_GIVING,
      ON_FOUND,
      { STAGE_ENDED, DO_RECORD | DO_SETTLE, CHECK_KEEP, GRANT_GIVEN, OUTCOME_SUCCESS } },
    { STAGE_GIVING,
      ON_FOUND_OTHER,
      { STAGE_ENDED, DO_RECORD | DO_SETTLE, CHECK_KEEP, GRANT_GIVEN, OUTCOME_IGNORED } },
    { STAGE_GIVING,
      ON_REFUSED,
      { STAGE_ENDED, DO_RECORD | DO_SETTLE, CHECK_KEEP, GRANT_REFUSED, OUTCOME_FAILURE } },
    { STAGE_GIVING,
      ON_UNCERTAIN,
      { STAGE_ENDED, DO_RECORD | DO_SETTLE, CHECK_KEEP, GRANT_UNCERTAIN, OUTCOME_FAILURE } },
    { STAGE_GIVING, ON_FORGOTTEN, { STAGE_GIVING, DO_GIVE, CHECK_GRACE, 0, 0 } },
};

static void test_every_cell_of_the_table (void **state)
{
    (void) state;
    size_t found = 0;
    for (enum stage stage = STAGE_NEW; stage <= STAGE_ENDED; stage++) {
        for (enum happening happening = 0; happening < HAPPENINGS; happening++) {
            const struct grant_cell *cell = grant_cell (stage, happening);
            const struct grant_cell *expected = NULL;
            for (size_t i = 0; i < sizeof possible / sizeof *possible; i++)
                if (possible[i].stage == stage && possible[i].happening == happening)
                    expected = &possible[i].cell;
            if (!expected != !cell)
                fail_msg ("%s, %d", stage_name (stage), (int) happening);
            if (!cell)
                continue;
            found++;
            assert_int_equal (cell->next, expected->next);
            assert_int_equal (cell->does, expected->does);
            assert_int_equal (cell->check, expected->check);
            assert_int_equal (cell->ends, expected->ends);
            assert_int_equal (cell->outcome, expected->outcome);
        }
    }
    assert_int_equal (found, sizeof possible / sizeof *possible);
}

/*  What no cell may do, whoever changes the table. */
static void test_no_cell_gives_what_was_not_intended_or_ends_what_did_not_begin (void **state)
{
    (void) state;
    for (enum stage stage = STAGE_NEW; stage < STAGE_ENDED; stage++) {
        for (enum happening happening = 0; happening < HAPPENINGS; happening++) {
            const struct grant_cell *cell = grant_cell (stage, happening);
            if (!cell)
                continue;
            bool intended = stage >= STAGE_MARKING || happening == ON_RESUMED || happening == ON_RETRIED;
            assert_int_equal (cell->next == STAGE_ENDED, (cell->does & DO_SETTLE) != 0);
            if (cell->does & (DO_MARK | DO_GIVE))
                assert_true (intended != ((cell->does & DO_INTEND) != 0));
            if (intended && cell->next == STAGE_ENDED)
                assert_true (cell->does & DO_RECORD);
            if (cell->does & DO_RECORD)
                assert_true (intended && cell->ends > GRANT_INTENDED && cell->ends < GRANT_DROPPED);
            if ((cell->does & DO_GIVE) && happening != ON_MARKED)
                assert_true (cell->check == CHECK_QUIET || cell->check == CHECK_GRACE);
        }
    }
}

/*  ---- the memory of what ended ------------------------------------------- */

static struct past_grant past_of (uint64_t key, uint64_t grant, enum grant_state state)
{
    return (struct past_grant){
        .key = key, .grant = grant, .position = 100 + grant, .timestamp = 7, .state = state
    };
}

static void test_the_memory_keeps_the_newest (void **state)
{
    (void) state;
    enum { CAPACITY = 5 };
    struct past past;
    void *memory = calloc (1, past_size (CAPACITY));
    assert_non_null (memory);
    past_init (&past, memory, CAPACITY);
    for (uint64_t grant = 20; grant > 10; grant--) {
        struct past_grant old = past_of (grant % 2, grant, GRANT_REFUSED);
        past_recall (&past, &old);
    }
    for (uint64_t grant = 11; grant <= 40; grant++) {
        bool there = past_find (&past, grant % 2, grant) != NULL;
        assert_int_equal (there, grant > 20 - CAPACITY && grant <= 20);
    }
    for (uint64_t grant = 21; grant <= 40; grant++) {
        struct past_grant new = past_of (grant % 2, grant, GRANT_GIVEN);
        past_note (&past, &new);
        for (uint64_t other = 11; other <= 40; other++)
            assert_int_equal (past_find (&past, other % 2, other) != NULL,
                              other <= grant && other > grant - CAPACITY);
    }
    assert_null (past_find (&past, 1, 40));
    assert_false (past_look (&past, 2, 140, 7).known);
    free (memory);
}

static void test_the_memory_says_what_it_knows_of_a_player (void **state)
{
    (void) state;
    struct past past;
    void *memory = calloc (1, past_size (16));
    assert_non_null (memory);
    past_init (&past, memory, 16);
    struct past_grant first = past_of (3, 1, GRANT_REFUSED);
    first.ended_ms = 50;
    past_note (&past, &first);
    struct past_view view = past_look (&past, 3, 101, 7);
    assert_true (view.known && view.own && !view.tried);
    assert_int_equal (view.own_state, GRANT_REFUSED);
    assert_false (past_look (&past, 3, 101, 8).own);
    assert_false (past_look (&past, 3, 102, 7).own);
    assert_false (past_look (&past, 19, 101, 7).known); /* the same bucket */
    struct past_grant second = past_of (3, 2, GRANT_UNCERTAIN);
    second.position = 101;
    second.ended_ms = 40;
    past_note (&past, &second);
    view = past_look (&past, 3, 101, 7);
    assert_true (view.tried);
    assert_int_equal (view.own_state, GRANT_UNCERTAIN);
    assert_int_equal (view.ended_ms, 50);
    second.state = GRANT_DROPPED;
    past_note (&past, &second);
    view = past_look (&past, 3, 101, 7);
    assert_true (view.tried);
    assert_int_equal (view.own_state, GRANT_DROPPED);
    free (memory);
}

static void test_the_memory_knows_when_the_last_ended_that_it_forgot (void **state)
{
    (void) state;
    struct past past;
    void *memory = calloc (1, past_size (2));
    assert_non_null (memory);
    past_init (&past, memory, 2);
    for (uint64_t grant = 1; grant <= 4; grant++) {
        struct past_grant new = past_of (grant, grant, GRANT_GIVEN);
        new.ended_ms = 100 * grant;
        past_note (&past, &new);
        assert_int_equal (past_look (&past, 77, 0, 0).ended_ms, grant > 2 ? 100 * (grant - 2) : 0);
    }
    assert_int_equal (past_look (&past, 4, 0, 0).ended_ms, 400);
    free (memory);
}

/*  ---- what is remembered ------------------------------------------------- */

/*  The next record, of this grant. */
static const struct remember *expect_grant (uint64_t grant, enum grant_state state)
{
    const struct message *record = expect (MESSAGE_REMEMBER, ROLE_SHELL);
    assert_int_equal (record->remember.grant, grant);
    assert_int_equal (record->remember.state, state);
    return &record->remember;
}

/*  The next GIVE, which says that of attempts before it. */
static uint64_t expect_checked (const char *user, uint64_t check)
{
    const struct message *give = expect_give (user);
    assert_int_equal (give->give.check, check);
    return give->give.request;
}

/*  From a login that was just read to the GIVE. */
static uint64_t mark (const char *user, uint64_t check)
{
    meta (expect_read (user)->read_meta.request, "1", NULL);
    written (expect_write (user)->write_meta.request, RESULT_OK);
    return expect_checked (user, check);
}

static void nothing_remembered (void)
{
    assert_int_equal (harness_count (&h, MESSAGE_REMEMBER), 0);
}

static uint64_t told_parked (void)
{
    uint64_t value = 0;
    for (size_t i = 0; i < h.count; i++)
        if (h.effects[i].message->id == MESSAGE_MEASURE &&
            h.effects[i].message->measure.gauge == GAUGE_PARKED)
            value = h.effects[i].message->measure.value;
    return value;
}

static void test_a_grant_is_remembered_whole_and_numbered (void **state)
{
    (void) state;
    login (7, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", NULL);
    const struct remember *intended = expect_grant (1, GRANT_INTENDED);
    assert_int_equal (intended->position, 7);
    assert_int_equal (intended->timestamp, time_of (7));
    assert_int_equal (intended->amount, 10);
    assert_int_equal (intended->at_ms, h.now.wall_ms);
    assert_true (harness_says (intended->user, "alice") && harness_says (intended->reward, "promo1"));
    assert_true (harness_says (intended->currency, "gold"));
    assert_true (intended->reason.size == 0 && intended->who.size == 0);
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given (expect_checked ("alice", 0), RESULT_OK);
    expect_grant (1, GRANT_GIVEN);
    login (8, "bob");
    meta (expect_read ("bob")->read_meta.request, "1", NULL);
    expect_grant (2, GRANT_INTENDED);
    restart (true);
    login (9, "carol");
    meta (expect_read ("carol")->read_meta.request, "1", NULL);
    expect_grant (3, GRANT_INTENDED);
}

static void test_what_is_refused_or_uncertain_is_parked_and_named (void **state)
{
    (void) state;
    login (1, "alice");
    given (mark ("alice", 0), RESULT_REFUSED);
    expect_grant (1, GRANT_INTENDED);
    assert_true (harness_says (expect_grant (1, GRANT_REFUSED)->reason, "HTTP 400"));
    expect_settled (1, OUTCOME_FAILURE);
    assert_int_equal (told_parked (), 1);
    login (2, "bob");
    given (mark ("bob", 0), RESULT_UNCERTAIN);
    expect_grant (2, GRANT_INTENDED);
    assert_true (harness_says (expect_grant (2, GRANT_UNCERTAIN)->reason, "HTTP 400"));
    expect_settled (2, OUTCOME_FAILURE);
    assert_int_equal (told_parked (), 2);
    login (3, "carol");
    meta (expect_read ("carol")->read_meta.request, "1", NULL);
    written (expect_write ("carol")->write_meta.request, RESULT_REFUSED);
    expect_grant (3, GRANT_INTENDED);
    assert_true (harness_mentions (expect_grant (3, GRANT_REFUSED)->reason, "HTTP 413"));
    assert_int_equal (told_parked (), 3);
    assert_int_equal (harness_logs (&h, LOG_ERROR), 3);
    for (uint64_t grant = 1; grant <= 3; grant++) {
        char name[16];
        bool named = false;
        snprintf (name, sizeof name, "grant %" PRIu64, grant);
        for (size_t i = 0; i < h.count; i++)
            if (h.effects[i].message->id == MESSAGE_LOG)
                named |= harness_mentions (h.effects[i].message->log.text, name);
        assert_true (named);
    }
}

/*  ---- the marker is gone ------------------------------------------------- */

/*  A grant of alice that ended like that, and the time in which it may show up. */
static void ended (uint64_t position, enum result result)
{
    login (position, "alice");
    given (mark ("alice", 0), result);
    harness_advance (&h, GRACE_MS);
    clear ();
}

static void test_without_its_marker_a_given_reward_is_looked_for (void **state)
{
    (void) state;
    static const enum result results[] = { RESULT_OK, RESULT_UNCERTAIN };
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned life = 0; life < 2; life++) {
            begin_journal (NULL);
            ended (1, results[i]);
            if (life)
                restart (true);
            harness_advance (&h, GRACE_MS);
            login (2, "alice");
            uint64_t give = mark ("alice", 1);
            expect_grant (2, GRANT_INTENDED);
            given_or_found (give, RESULT_OK, true);
            expect_grant (2, GRANT_GIVEN);
            expect_settled (2, OUTCOME_IGNORED);
            harness_advance (&h, GRACE_MS);
            login (3, "alice");
            given (mark ("alice", 1), RESULT_OK);
            expect_settled (3, OUTCOME_SUCCESS);
            end (NULL);
        }
    }
}

static void test_what_was_given_a_moment_ago_is_looked_for_behind_the_grace (void **state)
{
    (void) state;
    login (1, "alice");
    given (mark ("alice", 0), RESULT_OK);
    harness_advance (&h, 500);
    login (2, "alice");
    mark ("alice", GRACE_MS - 500);
    end (NULL);
    begin_journal (NULL);
    ended (1, RESULT_OK);
    restart (true); /* nobody knows how long before the start it was given */
    harness_advance (&h, 300);
    login (3, "alice");
    mark ("alice", GRACE_MS - 300);
}

static void test_what_was_refused_is_given_without_a_look (void **state)
{
    (void) state;
    ended (1, RESULT_REFUSED);
    login (2, "alice");
    given (mark ("alice", 0), RESULT_OK);
    expect_settled (2, OUTCOME_SUCCESS);
}

static void test_the_event_that_brought_a_grant_gets_its_outcome (void **state)
{
    (void) state;
    static const struct {
        enum result result;
        enum outcome outcome;
    } rows[] = { { RESULT_OK, OUTCOME_SUCCESS },
                 { RESULT_REFUSED, OUTCOME_FAILURE },
                 { RESULT_UNCERTAIN, OUTCOME_FAILURE } };
    for (unsigned i = 0; i < 3; i++) {
        begin_journal (NULL);
        ended (1, rows[i].result);
        restart (true);
        login (2, "alice");
        login (1, "alice");
        meta (expect_read ("alice")->read_meta.request, "1", "1");
        expect_settled (2, OUTCOME_IGNORED);
        expect_settled (1, rows[i].outcome);
        login (1, "alice");
        meta (expect_read ("alice")->read_meta.request, "1", "1");
        expect_settled (1, rows[i].outcome);
        nothing_asked ();
        nothing_remembered ();
        end (NULL);
    }
}

static void test_the_event_that_brought_a_grant_succeeds_when_that_is_found (void **state)
{
    (void) state;
    ended (1, RESULT_UNCERTAIN);
    login (1, "alice");
    given_or_found (mark ("alice", 1), RESULT_OK, true);
    expect_settled (1, OUTCOME_SUCCESS);
}

/*  ---- a marker that nothing explains ------------------------------------- */

/*  Written behind every event. */
#define MARKER "1794900000000"

static void test_a_marker_that_nothing_explains_is_looked_into (void **state)
{
    (void) state;
    restart (false);
    harness_advance (&h, 500);
    login (1, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", MARKER);
    const struct remember *intended = expect_grant (1, GRANT_INTENDED);
    assert_true (intended->reason.size > 0 && intended->position == 1);
    assert_int_equal (harness_count (&h, MESSAGE_WRITE_META), 0);
    given_or_found (expect_checked ("alice", GRACE_MS - 500), RESULT_OK, true);
    expect_grant (1, GRANT_GIVEN);
    expect_settled (1, OUTCOME_IGNORED);

    harness_advance (&h, GRACE_MS);
    login (2, "bob");
    meta (expect_read ("bob")->read_meta.request, "1", MARKER);
    given (expect_checked ("bob", 1), RESULT_OK);
    expect_settled (2, OUTCOME_SUCCESS);
    login (3, "alice"); /* now it is explained */
    login (4, "bob");
    meta (expect_read ("alice")->read_meta.request, "1", MARKER);
    meta (expect_read ("bob")->read_meta.request, "1", MARKER);
    expect_settled (3, OUTCOME_IGNORED);
    expect_settled (4, OUTCOME_IGNORED);
    nothing_asked ();

    login (5, "carol");
    meta (expect_read ("carol")->read_meta.request, "1", MARKER);
    given (expect_checked ("carol", 1), RESULT_UNCERTAIN);
    expect_settled (5, OUTCOME_FAILURE);
    login (6, "dave");
    meta (expect_read ("dave")->read_meta.request, "1", MARKER);
    given (expect_checked ("dave", 1), RESULT_REFUSED);
    expect_settled (6, OUTCOME_FAILURE);
    login (7, "erin"); /* not a player of app 1 */
    meta (expect_read ("erin")->read_meta.request, NULL, MARKER);
    expect_settled (7, OUTCOME_IGNORED);
    nothing_asked ();
}

static void test_a_marker_of_long_before_the_event_or_of_somebody_else_is_believed (void **state)
{
    (void) state;
    enum { DAY_MS = 86400000 };
    static const char *const others[] = { "1491000000123", "1", "true", " ", "0", "-5", "1795000000000x" };
    uint64_t position = 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        login (++position, "alice");
        meta (expect_read ("alice")->read_meta.request, "1", others[i]);
        expect_settled (position, OUTCOME_IGNORED);
    }
    for (int64_t late = -1; late <= 0; late++) {
        char marker[24];
        login (++position, "bob");
        snprintf (marker, sizeof marker, "%" PRId64, time_of (position) - 2 * DAY_MS + late);
        meta (expect_read ("bob")->read_meta.request, "1", marker);
        assert_int_equal (harness_count (&h, MESSAGE_GIVE), late == 0);
    }
    clear ();
    h.now.wall_ms = (uint64_t) time_of (0) + 30 * (uint64_t) DAY_MS;
    for (int64_t late = -1; late <= 0; late++) {
        char marker[24];
        login (++position, "carol");
        snprintf (marker, sizeof marker, "%" PRId64, time_of (0) + late);
        meta (expect_read ("carol")->read_meta.request, "1", marker);
        assert_int_equal (harness_count (&h, MESSAGE_GIVE), late == 0);
    }
}

static void test_who_was_forgotten_a_moment_ago_is_looked_for_behind_the_grace (void **state)
{
    (void) state;
    login (1, "alice");
    given (mark ("alice", 0), RESULT_OK);
    harness_advance (&h, 100);
    for (uint64_t position = 2; position < 2 + 2 * WINDOW; position++) {
        char user[16];
        snprintf (user, sizeof user, "user%" PRIu64, position);
        login (position, user);
        given (mark (user, 0), RESULT_OK);
    }
    login (100, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", MARKER);
    expect_checked ("alice", GRACE_MS - 100);
}

static void test_behind_a_marker_that_is_looked_into_the_next_is_ignored (void **state)
{
    (void) state;
    login (1, "alice");
    login (2, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", MARKER);
    given (expect_checked ("alice", 1), RESULT_OK);
    expect_settled (1, OUTCOME_SUCCESS);
    expect_settled (2, OUTCOME_IGNORED);
    nothing_asked ();
}

static void test_what_cannot_have_been_in_flight_is_not_looked_into (void **state)
{
    (void) state;
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    uint64_t bound = WINDOW + 128;
    for (uint64_t position = 1001; position < 1000 + bound; position++)
        raw_event (position, "game-two", "CREATE", NO_RAW, FAULT_NONE);
    raw_event (1005, "game-two", "CREATE", NO_RAW, FAULT_NONE); /* again: it counts once */
    login (1000 + bound, "alice");
    login (1001 + bound, "bob");
    login (1002, "carol"); /* late, or once more */
    meta (expect_read ("alice")->read_meta.request, "1", MARKER);
    expect_checked ("alice", 1);
    clear ();
    raw_event (2000, "game-two", "CREATE", NO_RAW, FAULT_NONE);
    login (2001, "dave");
    harness_clear (&h);
    restart (true);
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    for (uint64_t position = 1001; position <= 1000 + bound; position++)
        raw_event (position, "game-two", "CREATE", NO_RAW, FAULT_NONE);
    clear ();
    login (1001 + bound, "bob");
    login (1002, "carol");
    meta (expect_read ("bob")->read_meta.request, "1", MARKER);
    expect_settled (1001 + bound, OUTCOME_IGNORED);
    nothing_remembered ();
    meta (expect_read ("carol")->read_meta.request, "1", MARKER);
    expect_give ("carol");
}

/*  ---- what was open at the end ------------------------------------------- */

static void open_clients (void)
{
    from (ROLE_USERMETA_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_CURRENCY_CLIENT, 0, MESSAGE_OPENED);
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
}

/*  So many players, each with a grant that is intended; then the core ends. */
static void leave_open (unsigned count)
{
    for (uint64_t position = 1; position <= count; position++) {
        char user[16];
        snprintf (user, sizeof user, "user%" PRIu64, position);
        login (position, user);
        meta (expect_read (user)->read_meta.request, "1", NULL);
    }
    restart (true);
}

static void test_what_was_open_is_marked_looked_for_and_given (void **state)
{
    (void) state;
    login (7, "alice");
    uint64_t give = mark ("alice", 0);
    restart (true);
    given (give, RESULT_OK); /* for the life before */
    const struct message *write = expect_write ("alice");
    assert_int_equal (write->trace, 1007);
    nothing_settled ();
    harness_advance (&h, 50000);
    written (write->write_meta.request, RESULT_OK);
    give = expect_checked ("alice", GRACE_MS);
    clear ();
    given (give, RESULT_OK);
    const struct remember *given_for = expect_grant (1, GRANT_GIVEN);
    assert_int_equal (given_for->position, 7);
    nothing_settled ();
    nothing_asked ();
    login (7, "alice"); /* its event comes behind it */
    meta (expect_read ("alice")->read_meta.request, "1", "1");
    expect_settled (7, OUTCOME_SUCCESS);
    restart (true);
    nothing_asked ();
}

static void test_what_was_open_keeps_its_own_terms (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    end (NULL);
    settings.window = WINDOW;
    settings.reward_id = "older";
    settings.reward_amount = -3;
    settings.reward_currency = "silver";
    begin_life (&settings, (struct moment){ 0 });
    login (1, "alice");
    meta (expect (MESSAGE_READ_META, ROLE_USERMETA_CLIENT)->read_meta.request, "1", NULL);
    journal_commit ();
    end (NULL);
    settings.reward_id = "promo1";
    settings.reward_amount = 10;
    settings.reward_currency = "gold";
    begin_life (&settings, (struct moment){ 0 });
    login (2, "alice");
    const struct message *write = expect (MESSAGE_WRITE_META, ROLE_USERMETA_CLIENT);
    assert_true (harness_says (write->write_meta.key, "$reward$older"));
    written (write->write_meta.request, RESULT_OK);
    const struct message *give = expect (MESSAGE_GIVE, ROLE_CURRENCY_CLIENT);
    assert_true (harness_says (give->give.reward, "older") && harness_says (give->give.currency, "silver"));
    assert_int_equal (give->give.amount, -3);
    given (give->give.request, RESULT_OK);
    const struct remember *record = expect_grant (1, GRANT_GIVEN);
    assert_true (harness_says (record->reward, "older") && record->amount == -3);
    /*  The marker of another reward says nothing about this one. */
    reward (2, "alice");
}

static void test_the_event_of_an_open_grant_is_not_decided_again (void **state)
{
    (void) state;
    leave_open (1);
    open_clients ();
    expect_credit (WINDOW - 1, 0);
    uint64_t write = expect_write ("user1")->write_meta.request;
    login (1, "user1");
    expect_credit (WINDOW, 0);
    login (1, "user1");
    no_credit ();
    nothing_asked ();
    nothing_settled ();
    written (write, RESULT_OK);
    given_or_found (expect_checked ("user1", GRACE_MS), RESULT_OK, true);
    expect_settled (1, OUTCOME_SUCCESS);
    nothing_settled ();
    no_credit ();
}

static void test_another_event_waits_behind_an_open_grant (void **state)
{
    (void) state;
    leave_open (1);
    uint64_t write = expect_write ("user1")->write_meta.request;
    login (2, "user1");
    nothing_asked ();
    written (write, RESULT_OK);
    given (expect_checked ("user1", GRACE_MS), RESULT_OK);
    expect_settled (2, OUTCOME_IGNORED);
    nothing_asked ();
}

static void test_an_open_grant_whose_marker_is_refused_is_uncertain (void **state)
{
    (void) state;
    leave_open (1);
    written (expect_write ("user1")->write_meta.request, RESULT_REFUSED);
    expect_grant (1, GRANT_UNCERTAIN);
    harness_advance (&h, GRACE_MS);
    login (1, "user1"); /* no marker: it is looked for, because it may have been given */
    given (mark ("user1", 1), RESULT_OK);
    expect_settled (1, OUTCOME_SUCCESS);
}

static void test_there_is_no_credit_before_the_journal_is_read (void **state)
{
    (void) state;
    struct settings settings = h.settings;
    end (NULL);
    harness_init (&h, &decision_spec, &settings);
    harness_plain (&h, MESSAGE_START);
    assert_int_equal (harness_count (&h, MESSAGE_RECALL), 2);
    const struct recall recent = harness_take (&h, MESSAGE_RECALL)->recall;
    const struct recall open = harness_take (&h, MESSAGE_RECALL)->recall;
    assert_int_equal (recent.which, RECALL_RECENT);
    assert_int_equal (recent.count, 2 * WINDOW);
    assert_int_equal (open.which, RECALL_OPEN);
    assert_int_equal (open.count, WINDOW);
    assert_int_equal (open.after, 0);
    open_clients ();
    no_credit ();
    struct message recalled = { .id = MESSAGE_RECALLED, .from = TO_SHELL };
    recalled.recalled.which = RECALL_RECENT;
    harness_deliver (&h, &recalled);
    no_credit ();
    recalled.recalled.which = RECALL_OPEN;
    harness_deliver (&h, &recalled);
    expect_credit (WINDOW, 0);
}

static void test_more_open_grants_than_room_come_as_there_is_room (void **state)
{
    (void) state;
    leave_open (WINDOW);
    clear ();
    struct settings settings = h.settings;
    end (NULL);
    settings.window = 3;
    begin_life (&settings, (struct moment){ 0 });
    open_clients ();
    for (unsigned i = 1; i <= WINDOW; i++) {
        written (expect (MESSAGE_WRITE_META, ROLE_USERMETA_CLIENT)->write_meta.request, RESULT_OK);
        given (expect (MESSAGE_GIVE, ROLE_CURRENCY_CLIENT)->give.request, RESULT_OK);
        if (i < WINDOW - 2)
            no_credit ();
        else
            expect_credit (i + 3 - WINDOW, 0);
    }
    for (uint64_t grant = 1; grant <= WINDOW; grant++) {
        journal_commit ();
        assert_int_equal (journal_find (grant)->record.state, GRANT_GIVEN);
    }
}

static void test_open_grants_are_finished_before_the_end (void **state)
{
    (void) state;
    leave_open (1);
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    assert_null (harness_take (&h, MESSAGE_DRAINED));
    written (expect_write ("user1")->write_meta.request, RESULT_OK);
    given (expect_checked ("user1", GRACE_MS), RESULT_OK);
    assert_non_null (harness_take (&h, MESSAGE_DRAINED));
}

static void test_records_that_cannot_be_are_left (void **state)
{
    (void) state;
    static char user[USER_SIZE_MAX + 1];
    memset (user, 'u', sizeof user);
    struct message record = { .id = MESSAGE_RECORD, .from = TO_SHELL };
    record.record = (struct record){ .grant = 5,
                                     .user = TEXT_LITERAL ("bob"),
                                     .reward = TEXT_LITERAL ("promo1"),
                                     .currency = TEXT_LITERAL ("gold"),
                                     .state = GRANT_INTENDED };
    harness_deliver (&h, &record); /* nobody asked */
    record.record.grant = 0;
    harness_deliver (&h, &record);
    record.record.grant = 6;
    record.record.user = NO_TEXT;
    harness_deliver (&h, &record);
    record.record.user = (struct text){ user, sizeof user };
    harness_deliver (&h, &record);
    assert_int_equal (harness_logs (&h, LOG_ERROR), 4);
    nothing_asked ();
    nothing_remembered ();
}

/*  ---- what a person wants ------------------------------------------------ */

static struct message retry_of (uint64_t grant, uint64_t position, const char *user)
{
    struct message retry = { .id = MESSAGE_RETRY, .trace = 1000 + position, .from = TO_SHELL };
    retry.retry = (struct retry){ .request = 77,
                                  .grant = grant,
                                  .position = position,
                                  .timestamp = time_of (position),
                                  .user = text_of (user),
                                  .reward = TEXT_LITERAL ("promo1"),
                                  .amount = 10,
                                  .currency = TEXT_LITERAL ("gold"),
                                  .who = TEXT_LITERAL ("op") };
    return retry;
}

static void retry (uint64_t grant, uint64_t position, const char *user)
{
    struct message message = retry_of (grant, position, user);
    harness_deliver (&h, &message);
}

static void drop (uint64_t grant, const char *user)
{
    struct message message = { .id = MESSAGE_DROP, .from = TO_SHELL };
    message.drop = (struct drop){ .request = 78,
                                  .grant = grant,
                                  .user = text_of (user),
                                  .reward = TEXT_LITERAL ("promo1"),
                                  .who = TEXT_LITERAL ("op") };
    harness_deliver (&h, &message);
}

/*  The answer: done, or refused with a reason that mentions this. */
static void expect_done (const char *refused, bool later)
{
    const struct message *done = expect (MESSAGE_DONE, ROLE_SHELL);
    assert_int_equal (done->done.result, refused ? RESULT_REFUSED : RESULT_OK);
    assert_int_equal (done->done.later, later);
    if (refused && !harness_mentions (done->done.reason, refused))
        fail_msg ("%.*s", (int) done->done.reason.size, done->done.reason.data);
}

static void test_a_parked_grant_is_tried_again_under_its_number (void **state)
{
    (void) state;
    ended (1, RESULT_UNCERTAIN);
    retry (1, 1, "alice");
    expect_done (NULL, false);
    const struct remember *intended = expect_grant (1, GRANT_INTENDED);
    assert_true (harness_says (intended->who, "op") && harness_says (intended->reason, "retry"));
    assert_int_equal (intended->position, 1);
    retry (1, 1, "alice");
    expect_done ("tried already", false);
    drop (1, "alice");
    expect_done ("tried already", false);
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given (expect_checked ("alice", 1), RESULT_OK);
    expect_grant (1, GRANT_GIVEN);
    nothing_settled ();
    nothing_remembered ();
    retry (1, 1, "alice");
    expect_done ("given", false);
    drop (1, "alice");
    expect_done ("given", false);
    nothing_remembered ();
    login (1, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", "1");
    expect_settled (1, OUTCOME_SUCCESS);
}

static void test_what_is_tried_again_ends_as_it_ends (void **state)
{
    (void) state;
    ended (1, RESULT_REFUSED);
    retry (1, 1, "alice");
    expect_done (NULL, false);
    expect_grant (1, GRANT_INTENDED);
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given (expect_checked ("alice", 1), RESULT_REFUSED);
    expect_grant (1, GRANT_REFUSED);
    harness_advance (&h, GRACE_MS);
    retry (1, 1, "alice");
    expect_done (NULL, false);
    expect_grant (1, GRANT_INTENDED);
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given_or_found (expect_checked ("alice", 1), RESULT_OK, true);
    expect_grant (1, GRANT_GIVEN);
}

static void test_two_of_one_player_that_are_tried_again_are_given_once (void **state)
{
    (void) state;
    retry (5, 1, "alice");
    retry (9, 2, "alice");
    expect_done (NULL, false);
    expect_done (NULL, false);
    expect_grant (5, GRANT_INTENDED);
    expect_grant (9, GRANT_INTENDED);
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given (expect_checked ("alice", 1), RESULT_OK);
    expect_grant (5, GRANT_GIVEN);
    /*  What was given now may show up only behind the grace. */
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given_or_found (expect_checked ("alice", GRACE_MS), RESULT_OK, true);
    expect_grant (9, GRANT_GIVEN);
}

static void test_what_is_tried_again_is_resumed_when_the_core_ends (void **state)
{
    (void) state;
    ended (1, RESULT_UNCERTAIN);
    retry (1, 1, "alice");
    restart (true);
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given_or_found (expect_checked ("alice", GRACE_MS), RESULT_OK, true);
    expect_grant (1, GRANT_GIVEN);
}

static void test_retries_stand_in_the_players_queue_and_take_no_credit (void **state)
{
    (void) state;
    open_clients ();
    expect_credit (WINDOW, 0);
    for (uint64_t position = 1; position <= WINDOW; position++) {
        char user[16];
        snprintf (user, sizeof user, "user%" PRIu64, position);
        login (position, user);
    }
    retry (50, 40, "user1");
    expect_done (NULL, false);
    no_credit ();
    nothing_settled ();
    assert_int_equal (harness_count (&h, MESSAGE_WRITE_META), 0);
    meta (expect_read ("user1")->read_meta.request, NULL, NULL);
    expect_settled (1, OUTCOME_IGNORED);
    written (expect_write ("user1")->write_meta.request, RESULT_OK);
    login (9, "user1"); /* behind it */
    given (expect_checked ("user1", 1), RESULT_OK);
    expect_settled (9, OUTCOME_IGNORED);
    assert_int_equal (harness_logs (&h, LOG_ERROR), 0);
    no_credit ();
}

static void test_the_event_of_a_grant_that_is_tried_again_gets_its_outcome (void **state)
{
    (void) state;
    open_clients ();
    expect_credit (WINDOW, 0);
    retry (50, 40, "alice");
    login (40, "alice");
    written (expect_write ("alice")->write_meta.request, RESULT_OK);
    given (expect_checked ("alice", 1), RESULT_OK);
    expect_settled (40, OUTCOME_SUCCESS);
    no_credit ();
    for (uint64_t position = 1; position <= WINDOW; position++) {
        char user[16];
        snprintf (user, sizeof user, "user%" PRIu64, position);
        login (position, user);
    }
    assert_int_equal (harness_logs (&h, LOG_ERROR), 0);
}

static void test_more_retries_than_room_are_asked_to_come_later (void **state)
{
    (void) state;
    for (uint64_t i = 1; i <= RETRIES + 1; i++) {
        char user[16];
        snprintf (user, sizeof user, "user%" PRIu64, i);
        retry (i, i, user);
        expect_done (i > RETRIES ? "no room" : NULL, i > RETRIES);
    }
    written (expect_write ("user1")->write_meta.request, RESULT_OK);
    given (expect_checked ("user1", 1), RESULT_OK);
    retry (RETRIES + 1, RETRIES + 1, "late");
    expect_done (NULL, false);
}

static void test_retries_that_cannot_be_are_refused (void **state)
{
    (void) state;
    retry (0, 1, "alice");
    expect_done ("cannot be used", false);
    retry (1, 1, "");
    expect_done ("cannot be used", false);
    drop (0, "alice");
    expect_done ("cannot be used", false);
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    retry (1, 1, "alice");
    expect_done ("ending", false);
    nothing_remembered ();
    end (NULL);
    struct settings settings = harness_settings ();
    harness_init (&h, &decision_spec, &settings);
    harness_plain (&h, MESSAGE_START);
    struct message message = retry_of (1, 1, "alice");
    harness_handle (&h, &message);
    expect_done ("still being read", true);
    nothing_remembered ();
}

static void test_a_grant_is_given_up (void **state)
{
    (void) state;
    ended (1, RESULT_UNCERTAIN);
    drop (1, "alice");
    const struct remember *dropped = expect_grant (1, GRANT_DROPPED);
    assert_true (harness_says (dropped->who, "op") && harness_says (dropped->user, "alice"));
    expect_done (NULL, false);
    drop (1, "alice");
    expect_done ("dropped", false);
    retry (1, 1, "alice");
    expect_done ("dropped", false);
    login (1, "alice");
    meta (expect_read ("alice")->read_meta.request, "1", "1");
    expect_settled (1, OUTCOME_FAILURE);
    login (2, "alice"); /* it may have been given all the same */
    mark ("alice", 1);
    drop (99, "bob"); /* too old to be remembered here */
    expect_done (NULL, false);
}

/*  ---- a worker that comes back ------------------------------------------- */

static void test_a_worker_that_forgot_a_reward_is_asked_to_look_first (void **state)
{
    (void) state;
    login (1, "alice");
    uint64_t old = mark ("alice", 0);
    peer (ROLE_CURRENCY_CLIENT, 0, PEER_RESTARTED);
    uint64_t new = expect_checked ("alice", GRACE_MS);
    given (old, RESULT_OK);
    nothing_settled ();
    given_or_found (new, RESULT_OK, true);
    expect_settled (1, OUTCOME_SUCCESS); /* it was the attempt of this very grant */

    login (2, "bob"); /* nothing was asked of it yet: it may give at once */
    meta (expect_read ("bob")->read_meta.request, "1", NULL);
    peer (ROLE_CURRENCY_CLIENT, 0, PEER_RESTARTED);
    written (expect_write ("bob")->write_meta.request, RESULT_OK);
    expect_checked ("bob", 0);
}

static void test_a_player_belongs_to_the_same_worker_in_every_life (void **state)
{
    (void) state;
    enum { USERS = 32, WORKERS = 3 };
    uint16_t reads[USERS], gives[USERS];
    unsigned used = 0;
    for (unsigned life = 0; life < 3; life++) {
        struct settings settings = harness_settings ();
        settings.usermeta_clients = WORKERS;
        settings.currency_clients = WORKERS;
        settings.hash_seed = 12345 + life * UINT64_C (0x9e3779b97f4a7c15);
        end (NULL);
        journal.count = 0;
        begin_life (&settings, (struct moment){ 0 });
        for (unsigned i = 0; i < USERS; i++) {
            char user[16];
            snprintf (user, sizeof user, "user%u", i);
            login (1 + i, user);
            struct recorded *read = harness_take_recorded (&h, MESSAGE_READ_META);
            meta (read->message->read_meta.request, "1", NULL);
            struct recorded *write = harness_take_recorded (&h, MESSAGE_WRITE_META);
            written (write->message->write_meta.request, RESULT_OK);
            struct recorded *give = harness_take_recorded (&h, MESSAGE_GIVE);
            if (life == 0) {
                reads[i] = read->to.peer;
                gives[i] = give->to.peer;
                used |= 1u << reads[i];
            }
            assert_int_equal (read->to.peer, reads[i]);
            assert_int_equal (write->to.peer, reads[i]);
            assert_int_equal (give->to.peer, gives[i]);
        }
    }
    assert_int_equal (used, (1 << WORKERS) - 1);
}

#define WITH_JOURNAL(test) cmocka_unit_test_setup_teardown (test, begin_journal, end)

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_every_cell_of_the_table),
        cmocka_unit_test (test_no_cell_gives_what_was_not_intended_or_ends_what_did_not_begin),
        cmocka_unit_test (test_the_memory_keeps_the_newest),
        cmocka_unit_test (test_the_memory_says_what_it_knows_of_a_player),
        cmocka_unit_test (test_the_memory_knows_when_the_last_ended_that_it_forgot),
        WITH_JOURNAL (test_a_grant_is_remembered_whole_and_numbered),
        WITH_JOURNAL (test_what_is_refused_or_uncertain_is_parked_and_named),
        cmocka_unit_test (test_without_its_marker_a_given_reward_is_looked_for),
        WITH_JOURNAL (test_what_was_given_a_moment_ago_is_looked_for_behind_the_grace),
        WITH_JOURNAL (test_what_was_refused_is_given_without_a_look),
        cmocka_unit_test (test_the_event_that_brought_a_grant_gets_its_outcome),
        WITH_JOURNAL (test_the_event_that_brought_a_grant_succeeds_when_that_is_found),
        WITH_JOURNAL (test_a_marker_that_nothing_explains_is_looked_into),
        WITH_JOURNAL (test_a_marker_of_long_before_the_event_or_of_somebody_else_is_believed),
        WITH_JOURNAL (test_who_was_forgotten_a_moment_ago_is_looked_for_behind_the_grace),
        WITH_JOURNAL (test_behind_a_marker_that_is_looked_into_the_next_is_ignored),
        WITH_JOURNAL (test_what_cannot_have_been_in_flight_is_not_looked_into),
        WITH_JOURNAL (test_what_was_open_is_marked_looked_for_and_given),
        WITH_JOURNAL (test_what_was_open_keeps_its_own_terms),
        WITH_JOURNAL (test_the_event_of_an_open_grant_is_not_decided_again),
        WITH_JOURNAL (test_another_event_waits_behind_an_open_grant),
        WITH_JOURNAL (test_an_open_grant_whose_marker_is_refused_is_uncertain),
        WITH_JOURNAL (test_there_is_no_credit_before_the_journal_is_read),
        WITH_JOURNAL (test_more_open_grants_than_room_come_as_there_is_room),
        WITH_JOURNAL (test_open_grants_are_finished_before_the_end),
        WITH_JOURNAL (test_records_that_cannot_be_are_left),
        WITH_JOURNAL (test_a_parked_grant_is_tried_again_under_its_number),
        WITH_JOURNAL (test_what_is_tried_again_ends_as_it_ends),
        WITH_JOURNAL (test_two_of_one_player_that_are_tried_again_are_given_once),
        WITH_JOURNAL (test_what_is_tried_again_is_resumed_when_the_core_ends),
        WITH_JOURNAL (test_retries_stand_in_the_players_queue_and_take_no_credit),
        WITH_JOURNAL (test_the_event_of_a_grant_that_is_tried_again_gets_its_outcome),
        WITH_JOURNAL (test_more_retries_than_room_are_asked_to_come_later),
        WITH_JOURNAL (test_retries_that_cannot_be_are_refused),
        WITH_JOURNAL (test_a_grant_is_given_up),
        WITH_JOURNAL (test_a_worker_that_forgot_a_reward_is_asked_to_look_first),
        WITH_JOURNAL (test_a_player_belongs_to_the_same_worker_in_every_life),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
