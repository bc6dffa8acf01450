/*  test_ingest.c - the core that polls, hands on and acknowledges, against an
    events service that does all it may do and some that it may not.

    The end of the file walks at random through a little model of that service;
    SEED=n in the environment replays a walk.
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

#include "actors/base/json.h"
#include "actors/ingest/ingest.h"
#include "include/shard.h"
#include "tests/unit/core_harness.h"

/*  PAGE_MAX is what an older service grants at most, LIMIT_MAX what is ever asked for. */
enum { PAGE_MAX = 100, LIMIT_MAX = 1000, ACK_MS = 250, NO_AFTER = -1, LAST_ACK_LONGEST_MS = 2000 };

static struct harness h;
static struct json_reader *reader;

/*  ---- the world around the core ------------------------------------------ */

static void give_credit (uint32_t capacity)
{
    struct message credit = { .id = MESSAGE_CREDIT, .from = { ROLE_DECISION, 0 } };
    credit.credit.capacity = capacity;
    harness_deliver (&h, &credit);
}

static void begin_with (const struct settings *settings)
{
    harness_init (&h, &ingest_spec, settings);
    reader = json_reader_new (REPLY_SIZE_MAX);
    assert_non_null (reader);
    harness_start (&h);
}

/*  A core that may read `window` events. */
static void begin_window (uint32_t window)
{
    struct settings settings = harness_settings ();
    settings.window = window;
    begin_with (&settings);
    give_credit (window);
}

static int begin (void **state)
{
    (void) state;
    begin_window (1000);
    return 0;
}

static int end (void **state)
{
    (void) state;
    harness_free (&h);
    json_reader_destroy (&reader);
    return 0;
}

/*  The request under way for exactly this path; 0 when there is none. */
static uint64_t find_poll (bool own, int64_t after, unsigned limit)
{
    char path[256];
    char position[32] = "";
    if (after >= 0)
        snprintf (position, sizeof position, "&after=%" PRId64, after);
    snprintf (path, sizeof path, "/events?clientId=guerdon%s&channel=users%%2Fv1&secret={secret}%s&limit=%u",
              own ? "" : ".ahead", position, limit);
    for (size_t i = 0; i < h.count; i++) {
        struct recorded *effect = &h.effects[i];
        if (effect->taken || effect->message->id != MESSAGE_HTTP_REQUEST ||
            !harness_says (effect->message->http_request.path, path))
            continue;
        effect->taken = true;
        return effect->message->http_request.request;
    }
    return 0;
}

static uint64_t expect_poll (bool own, int64_t after, unsigned limit)
{
    uint64_t request = find_poll (own, after, limit);
    if (!request) {
        harness_print (&h);
        fail_msg ("no poll %s after=%" PRId64 " limit=%u", own ? "own" : "ahead", after, limit);
    }
    return request;
}

static uint64_t own (int64_t after, unsigned limit)
{
    return expect_poll (true, after, limit);
}

static uint64_t ahead (int64_t after, unsigned limit)
{
    return expect_poll (false, after, limit);
}

static void no_poll (void)
{
    if (harness_count (&h, MESSAGE_HTTP_REQUEST)) {
        harness_print (&h);
        fail_msg ("a poll where none should be");
    }
}

static struct message answer_to (uint64_t request)
{
    struct message answer = { .id = MESSAGE_HTTP_ANSWER, .from = TO_SHELL };
    answer.http_answer.request = request;
    answer.http_answer.status = 200;
    return answer;
}

static void answer_state (uint64_t request, const char *json, enum body_state expected)
{
    struct message answer = answer_to (request);
    json_reader_reset (reader);
    json_reader_feed (reader, json, strlen (json));
    answer.http_answer.body_state = json_reader_finish (reader, &answer.http_answer.body);
    assert_int_equal (answer.http_answer.body_state, expected);
    harness_deliver (&h, &answer);
}

static void answer_json (uint64_t request, const char *json)
{
    answer_state (request, json, BODY_JSON);
}

static void answer_status (uint64_t request, unsigned status, uint64_t retry_after_ms)
{
    struct message answer = answer_to (request);
    answer.http_answer.status = status;
    answer.http_answer.body_state = BODY_NONE;
    answer.http_answer.retry_after_ms = retry_after_ms;
    harness_deliver (&h, &answer);
}

static void answer_outcome (uint64_t request, enum http_outcome outcome)
{
    struct message answer = answer_to (request);
    answer.http_answer.outcome = outcome;
    answer.http_answer.status = 0;
    answer.http_answer.body_state = BODY_NONE;
    answer.http_answer.reason = TEXT_LITERAL ("of the network");
    harness_deliver (&h, &answer);
}

/*  A page of logins, first..last. */
static void answer_range (uint64_t request, uint64_t first, uint64_t last)
{
    static char json[LIMIT_MAX * 128];
    size_t size = 1;
    json[0] = '[';
    for (uint64_t id = first; id <= last; id++)
        size += (size_t) snprintf (
            json + size, sizeof json - size,
            "%s{\"id\":%" PRIu64 ",\"from\":\"game-two\",\"type\":\"LOGIN\",\"data\":{\"userId\":\"u%" PRIu64
            "\"}}",
            id > first ? "," : "", id, id);
    snprintf (json + size, sizeof json - size, "]");
    answer_json (request, json);
}

static void sent (uint64_t request)
{
    struct message message = { .id = MESSAGE_HTTP_SENT, .from = TO_SHELL };
    message.http_sent.request = request;
    harness_deliver (&h, &message);
}

static void settle (uint64_t position)
{
    struct message settled = { .id = MESSAGE_SETTLED, .from = { ROLE_DECISION, 0 } };
    settled.settled.position = position;
    settled.settled.outcome = OUTCOME_SUCCESS;
    harness_deliver (&h, &settled);
}

static void settle_range (uint64_t first, uint64_t last)
{
    for (uint64_t id = first; id <= last; id++)
        settle (id);
}

static void drain (void)
{
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
}

static bool drained (void)
{
    return harness_take (&h, MESSAGE_DRAINED) != NULL;
}

/*  The next event handed on is this one. */
static void handed (uint64_t position)
{
    struct recorded *effect = harness_take_recorded (&h, MESSAGE_EVENT);
    assert_non_null (effect);
    assert_int_equal (effect->to.role, ROLE_DECISION);
    assert_int_equal (effect->message->event.position, position);
}

static void handed_nothing (void)
{
    assert_int_equal (harness_count (&h, MESSAGE_EVENT), 0);
}

/*  What was added to a counter since the last time. */
static uint64_t counted (enum counter counter)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < h.count; i++) {
        struct recorded *effect = &h.effects[i];
        if (effect->taken || effect->message->id != MESSAGE_COUNT ||
            effect->message->count.counter != counter)
            continue;
        assert_int_equal (effect->to.role, ROLE_STATS);
        effect->taken = true;
        sum += effect->message->count.amount;
    }
    return sum;
}

/*  The newest state that was told, or SERVICE_UNKNOWN. */
static enum service_state told_state (void)
{
    enum service_state state = SERVICE_UNKNOWN;
    const struct message *health;
    while ((health = harness_take (&h, MESSAGE_HEALTH)))
        state = health->health.state;
    return state;
}

static uint64_t told_gauge (enum gauge gauge)
{
    uint64_t value = 0;
    for (size_t i = 0; i < h.count; i++)
        if (h.effects[i].message->id == MESSAGE_MEASURE && h.effects[i].message->measure.gauge == gauge)
            value = h.effects[i].message->measure.value;
    return value;
}

/*  ---- asking and handing on ---------------------------------------------- */

static void test_nothing_is_taken_before_there_is_credit (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    begin_with (&settings);
    struct recorded *open = harness_take_recorded (&h, MESSAGE_OPEN);
    assert_non_null (open);
    assert_int_equal (open->to.role, ROLE_DECISION);
    no_poll ();
    harness_run (&h, 10000);
    give_credit (0);
    /*  It looks whether the service is there, and leaves what it sees. */
    answer_range (own (NO_AFTER, 1), 1, 1);
    assert_int_equal (told_state (), SERVICE_UP);
    harness_run (&h, 10000);
    no_poll ();
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 0);
    give_credit (10);
    answer_range (own (NO_AFTER, 10), 1, 1);
    handed (1);
    end (NULL);
}

static void test_the_first_poll_has_no_after (void **state)
{
    (void) state;
    const struct message *request = harness_take (&h, MESSAGE_HTTP_REQUEST);
    assert_non_null (request);
    assert_true (harness_says (request->http_request.path,
                               "/events?clientId=guerdon&channel=users%2Fv1&secret={secret}&limit=100"));
    assert_int_equal (request->http_request.service, SERVICE_EVENTS);
    assert_int_equal (request->http_request.method, METHOD_GET);
    assert_int_equal (request->http_request.timeout_ms, 60000);
    assert_int_equal (request->http_request.body.size, 0);
    no_poll ();
}

static void test_a_page_is_handed_on_event_by_event (void **state)
{
    (void) state;
    answer_json (own (NO_AFTER, 100), "[{\"id\":1,\"timestamp\":17,\"from\":\"game-two\",\"type\":\"LOGIN\","
                                      "\"data\":{\"userId\":\"alice\"}},"
                                      "{\"id\":2,\"from\":\"x\",\"type\":\"y\"},"
                                      "{\"id\":3,\"type\":\"y\"}]");
    const struct message *first = harness_take (&h, MESSAGE_EVENT);
    assert_non_null (first);
    assert_int_equal (first->event.position, 1);
    assert_int_equal (first->event.timestamp, 17);
    assert_true (harness_says (first->event.source, "game-two"));
    assert_true (harness_says (first->event.type, "LOGIN"));
    struct raw user;
    assert_true (raw_path (first->event.data, "userId", &user));
    const struct message *second = harness_take (&h, MESSAGE_EVENT);
    const struct message *third = harness_take (&h, MESSAGE_EVENT);
    assert_true (second && third);
    assert_int_equal (third->event.fault, FAULT_NAME);
    assert_true (first->trace && second->trace && first->trace != second->trace);
    assert_int_equal (counted (COUNTER_EVENTS), 3);
    handed_nothing ();
}

static uint64_t trace_of_first_event (const char *channel)
{
    struct settings settings = harness_settings ();
    settings.events_channel = channel;
    begin_with (&settings);
    give_credit (10);
    answer_range (harness_take (&h, MESSAGE_HTTP_REQUEST)->http_request.request, 1, 1);
    uint64_t trace = harness_take (&h, MESSAGE_EVENT)->trace;
    end (NULL);
    return trace;
}

static void test_a_trace_is_the_same_after_a_restart_and_another_elsewhere (void **state)
{
    (void) state;
    uint64_t trace = trace_of_first_event ("users/v1");
    assert_true (trace == trace_of_first_event ("users/v1"));
    assert_true (trace != trace_of_first_event ("users/v2"));
}

static void test_all_settled_is_acknowledged_at_once_by_the_next_long_poll (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 2);
    no_poll ();
    struct message settled = { .id = MESSAGE_SETTLED, .from = { ROLE_DECISION, 0 } };
    settled.settled.position = 1;
    harness_handle (&h, &settled);
    settled.settled.position = 2;
    harness_deliver (&h, &settled);
    own (2, 100);
    no_poll ();
    harness_run (&h, 59000);
    no_poll ();
}

static void test_settled_out_of_order_acknowledges_up_to_the_oldest_that_waits (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 4);
    harness_advance (&h, ACK_MS);
    settle (4);
    settle (2);
    ahead (4, 100);
    no_poll ();
    settle (1);
    own (2, 1);
    no_poll ();
}

static void test_an_acknowledgement_in_flight_waits_its_interval (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 4);
    settle (1);
    no_poll ();
    harness_run (&h, 99);
    no_poll ();
    harness_run (&h, 1);
    uint64_t reading = ahead (4, 100);
    harness_run (&h, 149);
    no_poll ();
    harness_run (&h, 1);
    uint64_t ack = own (1, 1);
    settle (2);
    harness_run (&h, 600);
    no_poll (); /* one at a time, and `ahead` is being held */
    answer_range (ack, 2, 2);
    own (2, 1);
    handed (1);
    handed (2);
    handed (3);
    handed (4);
    handed_nothing ();
    assert_true (reading != ack);
}

static void test_an_acknowledgement_is_not_repeated (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 2);
    settle (1);
    harness_run (&h, ACK_MS);
    answer_range (own (1, 1), 2, 2);
    ahead (2, 100);
    harness_run (&h, 10000);
    no_poll ();
}

static void settle_as (uint64_t position, enum outcome outcome)
{
    struct message settled = { .id = MESSAGE_SETTLED, .from = { ROLE_DECISION, 0 } };
    settled.settled.position = position;
    settled.settled.outcome = outcome;
    harness_deliver (&h, &settled);
}

static void counted_outcomes (uint64_t success, uint64_t failure, uint64_t ignored)
{
    assert_int_equal (counted (COUNTER_SUCCESS), success);
    assert_int_equal (counted (COUNTER_FAILURE), failure);
    assert_int_equal (counted (COUNTER_IGNORED), ignored);
}

static void test_what_no_decision_wants_is_ignored_here (void **state)
{
    (void) state;
    struct message credit = { .id = MESSAGE_CREDIT, .from = { ROLE_DECISION, 0 } };
    credit.credit.capacity = 1000;
    credit.credit.type = TEXT_LITERAL ("LOGIN");
    credit.credit.source = TEXT_LITERAL ("game-two");
    harness_deliver (&h, &credit);
    answer_json (own (NO_AFTER, 100),
                 "[{\"id\":1,\"from\":\"game-two\",\"type\":\"LOGOUT\",\"data\":{\"userId\":\"a\"}},"
                 "{\"id\":2,\"from\":\"game-two\",\"type\":\"LOGIN\"},"
                 "{\"id\":3,\"from\":\"game-on\",\"type\":\"LOGIN\"},"
                 "{\"id\":4,\"type\":\"LOGOUT\"},"
                 "{\"id\":5,\"from\":\"game-two\",\"type\":\"LOGIN!\"}]");
    const struct message *wanted = harness_take (&h, MESSAGE_EVENT);
    const struct message *faulty = harness_take (&h, MESSAGE_EVENT);
    assert_true (wanted && faulty);
    assert_int_equal (wanted->event.position, 2);
    assert_int_equal (faulty->event.position, 4); /* what is wrong with it is decision's to say */
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 5);
    counted_outcomes (0, 0, 3);
    settle_as (4, OUTCOME_IGNORED);
    settle_as (2, OUTCOME_IGNORED);
    counted_outcomes (0, 0, 2);
    own (5, 100);
}

/*  Wanted is only the first: the others were never in flight, and take nothing of the
    window. But it is not gone far ahead of what is not acknowledged, either. */
static void test_what_no_decision_wants_leaves_the_window_to_others (void **state)
{
    (void) state;
    enum { WINDOW = 4, SPAN = 4 * WINDOW };
    begin_window (WINDOW);
    struct message credit = { .id = MESSAGE_CREDIT, .from = { ROLE_DECISION, 0 } };
    credit.credit.capacity = WINDOW;
    credit.credit.type = TEXT_LITERAL ("LOGIN");
    harness_deliver (&h, &credit);
    answer_json (own (NO_AFTER, WINDOW), "[{\"id\":1,\"from\":\"game-two\",\"type\":\"LOGIN\"}]");
    handed (1);
    harness_run (&h, 100);
    unsigned seen = 1;
    while (seen < SPAN) {
        uint64_t poll = ahead (seen, WINDOW - 1);
        char page[256];
        size_t size = 0;
        for (unsigned i = 0; i < WINDOW - 1; i++)
            size += (size_t) snprintf (page + size, sizeof page - size,
                                       "%c{\"id\":%u,\"from\":\"game-two\",\"type\":\"LOGOUT\"}",
                                       i ? ',' : '[', ++seen);
        snprintf (page + size, sizeof page - size, "]");
        answer_json (poll, page);
        assert_int_equal (told_gauge (GAUGE_IN_FLIGHT), 1);
    }
    handed_nothing ();
    harness_run (&h, 10000);
    no_poll ();
    settle (1);
    own (SPAN, WINDOW);
    end (NULL);
}

static void test_the_first_outcome_of_an_event_is_counted_and_no_other (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 4);
    settle_as (2, OUTCOME_IGNORED);
    counted_outcomes (0, 0, 1);
    settle_as (2, OUTCOME_SUCCESS); /* settled, and held by the one below */
    settle_as (5, OUTCOME_SUCCESS); /* never seen */
    counted_outcomes (0, 0, 0);
    settle_as (1, OUTCOME_FAILURE);
    settle_as (3, OUTCOME_SUCCESS);
    counted_outcomes (1, 1, 0);
    settle_as (1, OUTCOME_SUCCESS); /* behind the settled position */
    counted_outcomes (0, 0, 0);
    settle_as (4, OUTCOME_SUCCESS);
    counted_outcomes (1, 0, 0);
    assert_int_equal (counted (COUNTER_EVENTS), 4);
}

static void test_an_acknowledgement_that_failed_is_made_again (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 2);
    settle (1);
    harness_run (&h, ACK_MS);
    ahead (2, 100);
    answer_outcome (own (1, 1), HTTP_BROKEN);
    no_poll ();
    harness_run (&h, 300);
    answer_range (ahead (1, 1), 2, 2); /* it still has what it had */
    own (1, 1);
}

/*  ---- reading ahead ------------------------------------------------------ */

static void test_a_full_page_is_read_on_at_once (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 100);
    answer_range (ahead (100, 200), 101, 300);
    answer_range (ahead (300, 400), 301, 350);
    no_poll ();
    harness_run (&h, 100);
    ahead (350, 400);
}

static void test_full_pages_are_followed_by_larger_ones_up_to_a_thousand (void **state)
{
    (void) state;
    static const unsigned limits[] = { 100, 200, 400, 800, 1000, 1000 };
    begin_window (4000);
    uint64_t last = 0;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        uint64_t request = last ? ahead ((int64_t) last, limits[i]) : own (NO_AFTER, limits[i]);
        answer_range (request, last + 1, last + limits[i]);
        last += limits[i];
        for (unsigned j = 0; j < limits[i]; j++)
            handed (last - limits[i] + 1 + j);
    }
    end (NULL);
}

/*  It replaces a limit above 100 by 100. */
static void test_an_older_service_gives_a_hundred_however_many_are_asked_for (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 100);
    answer_range (ahead (100, 200), 101, 200);
    answer_range (ahead (200, 200), 201, 300); /* full, and no reason to ask for more */
    answer_range (ahead (300, 200), 301, 399);
    no_poll ();
}

static void test_after_trouble_pages_are_small_again (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 100);
    answer_range (ahead (100, 200), 101, 300);
    answer_outcome (ahead (300, 400), HTTP_TIMEOUT);
    harness_run (&h, 100);
    answer_range (ahead (300, 100), 301, 400);
    ahead (400, 200);
}

static void test_pages_do_not_grow_again_to_what_was_too_large (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 100);
    answer_range (ahead (100, 200), 101, 300);
    answer_outcome (ahead (300, 400), HTTP_TOO_LARGE);
    harness_run (&h, 100);
    answer_range (ahead (300, 100), 301, 400);
    answer_range (ahead (400, 200), 401, 600);
    ahead (600, 202); /* half of 400, and one for each good page */
}

static void test_a_look_into_a_gap_is_small_after_large_pages (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 100);
    answer_range (ahead (100, 200), 101, 300);
    answer_range (ahead (300, 400), 302, 302);
    ahead (302, 400);
    harness_run (&h, 30);
    ahead (300, 100);
}

static void test_events_that_take_long_do_not_stop_reading (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 2);
    harness_run (&h, 99);
    no_poll ();
    harness_run (&h, 1);
    answer_range (ahead (2, 100), 3, 3);
    handed (1);
    handed (2);
    handed (3);
    ahead (3, 100);
}

static void test_a_full_page_of_one_is_read_on_at_once (void **state)
{
    (void) state;
    begin_window (100);
    answer_range (own (NO_AFTER, 100), 1, 100);
    for (uint64_t id = 1; id <= 20; id++) {
        settle (id);
        answer_range (ahead ((int64_t) (id + 99), 1), id + 100, id + 100);
    }
    no_poll ();
    end (NULL);
}

static void test_an_acknowledgement_does_not_make_a_full_page_forgotten (void **state)
{
    (void) state;
    begin_window (100);
    uint64_t first = own (NO_AFTER, 100);
    harness_advance (&h, ACK_MS - 50);
    answer_range (first, 1, 100);
    harness_advance (&h, 50);
    settle (1);
    uint64_t ack = own (1, 1);
    answer_range (ahead (100, 1), 101, 101);
    answer_range (ack, 2, 2);
    settle (2);
    ahead (101, 1);
    end (NULL);
}

static void test_a_window_of_one_sees_beyond_an_element_without_an_id (void **state)
{
    (void) state;
    static const char *const page = "[{},{},{\"id\":3,\"from\":\"a\",\"type\":\"b\"},"
                                    "{\"id\":4,\"from\":\"a\",\"type\":\"b\"}]";
    begin_window (1);
    answer_range (own (NO_AFTER, 1), 1, 1);
    settle (1);
    answer_json (own (1, 1), "[{}]");
    harness_run (&h, 100);
    answer_json (own (1, 100), page);
    handed (1);
    handed (3);
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 4);
    assert_int_equal (counted (COUNTER_FAILURE), 2);
    end (NULL);
}

static void test_the_window_stops_reading_and_settling_lets_it_go_on (void **state)
{
    (void) state;
    begin_window (4);
    answer_range (own (NO_AFTER, 4), 1, 4);
    harness_run (&h, 10000);
    no_poll ();
    settle (2);
    harness_run (&h, 1000);
    no_poll ();
    settle (1);
    uint64_t ack = own (2, 1);
    answer_range (ahead (4, 2), 5, 6);
    answer_range (ack, 3, 3);
    harness_run (&h, 10000);
    no_poll ();
    end (NULL);
}

static void test_credit_below_the_window_is_the_bound (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    begin_with (&settings);
    give_credit (3);
    answer_range (own (NO_AFTER, 3), 1, 5); /* the service sends more than it was asked for */
    handed (1);
    handed (2);
    handed (3);
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 3);
    settle_range (1, 3);
    own (3, 3);
    end (NULL);
}

static void test_credit_taken_away_takes_nothing_from_a_page_under_way (void **state)
{
    (void) state;
    uint64_t first = own (NO_AFTER, 100);
    give_credit (0);
    answer_range (first, 1, 5);
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 0);
    harness_run (&h, 5000);
    no_poll ();
    give_credit (10);
    answer_range (own (NO_AFTER, 10), 1, 5);
    handed (1);
    assert_int_equal (counted (COUNTER_EVENTS), 5);
}

static void test_a_window_of_one_reads_one_after_another (void **state)
{
    (void) state;
    begin_window (1);
    uint64_t request = own (NO_AFTER, 1);
    for (uint64_t id = 1; id <= 5; id++) {
        answer_range (request, id, id);
        handed (id);
        handed_nothing ();
        harness_run (&h, 1000);
        no_poll ();
        settle (id);
        request = own ((int64_t) id, 1);
    }
    end (NULL);
}

static void test_a_window_of_one_does_not_hammer_a_quiet_service (void **state)
{
    (void) state;
    begin_window (1);
    answer_range (own (NO_AFTER, 1), 1, 1);
    settle (1);
    unsigned count = 0;
    uint64_t until = h.now.steady_ms + 10000;
    for (;;) {
        uint64_t request = find_poll (true, 1, 1);
        if (request) {
            count++;
            assert_true (count <= 60);
            answer_json (request, "[]");
        } else if (!harness_fire (&h) || h.now.steady_ms > until) {
            break;
        }
    }
    assert_in_range (count, 30, 55);
    end (NULL);
}

/*  ---- ids that are missing ----------------------------------------------- */

/*  1 is settled and told, 3 was read while 2 is missing: the poll that looks for
    it. The long poll that brought 3 went out at the time returned. */
static uint64_t read_three_without_two (void)
{
    answer_range (own (NO_AFTER, 100), 1, 1);
    settle (1);
    answer_range (own (1, 100), 3, 3);
    handed (1);
    handed (3);
    uint64_t reading = ahead (3, 100); /* a gap is no reason not to read on */
    assert_true (reading > 0);
    no_poll ();
    harness_run (&h, 30);
    return ahead (1, 100);
}

static void test_a_missing_id_holds_the_acknowledgement (void **state)
{
    (void) state;
    uint64_t gap = read_three_without_two ();
    settle (3);
    answer_range (gap, 3, 3);
    harness_run (&h, 249);
    no_poll ();
    harness_run (&h, 1);
    answer_range (ahead (1, 100), 3, 3);
    harness_run (&h, 250);
    ahead (1, 100);
    no_poll ();
    handed_nothing ();
}

static void test_the_missing_id_that_shows_up_is_handed_on (void **state)
{
    (void) state;
    uint64_t gap = read_three_without_two ();
    settle (3);
    answer_range (gap, 2, 3);
    handed (2);
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 3);
    harness_run (&h, 1000);
    no_poll ();
    settle (2);
    own (3, 100);
}

static void test_a_gap_closes_only_after_a_look_begun_behind_the_grace (void **state)
{
    (void) state;
    uint64_t gap = read_three_without_two ();
    settle (3);
    for (unsigned look = 0; look < 8; look++) { /* 30 ms behind the event, then every 250 */
        answer_range (gap, 3, 3);
        assert_int_equal (find_poll (true, 3, 100), 0);
        harness_run (&h, 250);
        gap = ahead (1, 100);
    }
    answer_range (gap, 3, 3);
    own (3, 100);
    handed_nothing ();
}

static void test_a_look_that_is_answered_after_the_grace_but_began_within_closes_nothing (void **state)
{
    (void) state;
    uint64_t gap = read_three_without_two ();
    settle (3);
    harness_run (&h, 5000);
    no_poll ();
    answer_range (gap, 3, 3);
    assert_int_equal (find_poll (true, 3, 100), 0);
    harness_run (&h, 250);
    gap = ahead (1, 100);
    answer_range (gap, 2, 3);
    handed (2);
    settle (2);
    own (3, 100);
}

static void test_below_the_very_first_event_the_grace_is_short (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 40, 41);
    settle_range (40, 41);
    ahead (41, 100);
    harness_run (&h, 30);
    answer_range (own (NO_AFTER, 100), 40, 41);
    harness_run (&h, 250);
    answer_range (own (NO_AFTER, 100), 40, 41);
    harness_run (&h, 250);
    answer_range (own (NO_AFTER, 100), 40, 41);
    own (41, 100);
}

static void test_the_short_grace_is_for_the_very_first_event_alone (void **state)
{
    (void) state;
    static const char *const page = "[{\"id\":2,\"from\":\"a\",\"type\":\"b\"},"
                                    "{\"id\":3,\"from\":\"a\",\"type\":\"b\"},"
                                    "{\"id\":5,\"from\":\"a\",\"type\":\"b\"}]";
    answer_json (own (NO_AFTER, 100), page);
    settle_range (2, 5);
    ahead (5, 100);
    harness_run (&h, 30);
    for (unsigned look = 0; look < 2; look++) {
        answer_json (own (NO_AFTER, 100), page);
        no_poll ();
        harness_run (&h, 250);
    }
    answer_json (own (NO_AFTER, 100), page);
    own (3, 1);
    no_poll ();
}

static void test_the_event_before_the_first_shows_up_in_time (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 40, 40);
    settle (40);
    ahead (40, 100);
    harness_run (&h, 30);
    answer_range (own (NO_AFTER, 100), 39, 40);
    handed (40);
    handed (39);
    settle (39);
    for (unsigned look = 0; look < 2; look++) {
        no_poll ();
        harness_run (&h, 250);
        answer_range (own (NO_AFTER, 100), 39, 40);
    }
    own (40, 100);
}

static void test_ids_far_apart_are_not_waited_for_one_by_one (void **state)
{
    (void) state;
    static const char *const page =
        "[{\"id\":10,\"from\":\"a\",\"type\":\"b\"},{\"id\":1000,\"from\":\"a\",\"type\":\"b\"},"
        "{\"id\":9007199254740991,\"from\":\"a\",\"type\":\"b\"}]";
    answer_range (own (NO_AFTER, 100), 1, 1);
    settle (1);
    answer_json (own (1, 100), page);
    settle (10);
    settle (1000);
    settle (9007199254740991);
    ahead (9007199254740991, 100);
    unsigned looks = 0;
    uint64_t began_ms = h.now.steady_ms;
    while (!find_poll (true, 9007199254740991, 100)) {
        uint64_t gap = find_poll (false, 1, 100);
        if (!gap)
            assert_true (harness_fire (&h));
        else
            answer_json (gap, page);
        looks += gap > 0;
        assert_true (looks < 20);
    }
    assert_in_range (h.now.steady_ms - began_ms, 2000, 2600);
}

static void test_an_element_without_an_id_does_not_hold_a_gap_for_ever (void **state)
{
    (void) state;
    static const char *const page =
        "[{\"from\":\"a\",\"type\":\"b\"},{\"id\":3,\"from\":\"a\",\"type\":\"b\"}]";
    answer_range (own (NO_AFTER, 100), 1, 1);
    settle (1);
    answer_json (own (1, 100), page);
    settle (3);
    ahead (3, 100);
    uint64_t until = h.now.steady_ms + 4000;
    while (!find_poll (true, 3, 100)) {
        uint64_t gap = find_poll (false, 1, 100);
        if (gap)
            answer_json (gap, page);
        else
            assert_true (harness_fire (&h) && h.now.steady_ms < until);
    }
    assert_int_equal (counted (COUNTER_EVENTS), 3);
    assert_int_equal (counted (COUNTER_FAILURE), 1);
}

static void test_a_late_event_waits_for_room_and_is_not_lost (void **state)
{
    (void) state;
    begin_window (1);
    answer_range (own (NO_AFTER, 1), 1, 1);
    settle (1);
    answer_range (own (1, 1), 3, 3);
    handed (1);
    handed (3);
    harness_run (&h, 30);
    answer_range (ahead (1, 100), 2, 3); /* there is no credit for it */
    handed_nothing ();
    harness_run (&h, 250);
    settle (3);
    answer_range (ahead (1, 100), 2, 3);
    handed (2);
    settle (2);
    own (3, 1);
    end (NULL);
}

static void test_a_late_event_without_room_keeps_its_gap_open_behind_the_grace (void **state)
{
    (void) state;
    begin_window (1);
    answer_range (own (NO_AFTER, 1), 1, 1);
    settle (1);
    answer_range (own (1, 1), 3, 3);
    harness_run (&h, 30);
    answer_range (ahead (1, 100), 3, 3);
    harness_advance (&h, 5000);
    assert_true (harness_fire (&h));
    /*  It is there at last, even behind the one above it, and there is no credit. */
    answer_json (ahead (1, 100),
                 "[{\"id\":3,\"from\":\"a\",\"type\":\"b\"},{\"id\":2,\"from\":\"a\",\"type\":\"b\"}]");
    settle (3);
    assert_int_equal (find_poll (true, 3, 1), 0);
    harness_run (&h, 250);
    answer_range (ahead (1, 100), 2, 3);
    handed (1);
    handed (3);
    handed (2);
    settle (2);
    own (3, 1);
    end (NULL);
}

/*  The window is full of settled events above the very first gap, of which nobody
    knows whether it is one. A poll of a life before this one was still under way and
    has moved the stored position on, so what the look brings lies ahead of all. */
static void test_a_look_that_brings_only_what_lies_ahead_closes_the_gap_below_a_full_window (void **state)
{
    (void) state;
    begin_window (2);
    answer_range (own (NO_AFTER, 2), 40, 41);
    settle_range (40, 41);
    harness_run (&h, 30);
    for (unsigned look = 0; look < 2; look++) { /* within the grace a look closes nothing */
        answer_range (own (NO_AFTER, 100), 42, 50);
        assert_int_equal (find_poll (true, 41, 2), 0);
        harness_run (&h, 250);
    }
    answer_range (own (NO_AFTER, 100), 42, 50);
    answer_range (own (41, 2), 42, 43);
    handed (40);
    handed (41);
    handed (42);
    handed (43);
    end (NULL);
}

/*  ---- pages that are odd ------------------------------------------------- */

static void test_what_two_polls_bring_is_handed_on_once (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 2);
    harness_run (&h, 100);
    uint64_t reading = ahead (2, 100);
    settle_range (1, 2);
    answer_range (own (2, 100), 3, 5);
    answer_range (reading, 3, 6);
    for (uint64_t id = 1; id <= 6; id++)
        handed (id);
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 6);
    assert_int_equal (counted (COUNTER_IGNORED), 0);
}

static void test_ids_that_go_backwards_are_taken_once_and_named (void **state)
{
    (void) state;
    answer_json (own (NO_AFTER, 100),
                 "[{\"id\":1,\"from\":\"a\",\"type\":\"b\"},{\"id\":3,\"from\":\"a\",\"type\":\"b\"},"
                 "{\"id\":2,\"from\":\"a\",\"type\":\"b\"},{\"id\":3,\"from\":\"a\",\"type\":\"b\"},"
                 "{\"id\":4,\"from\":\"a\",\"type\":\"b\"}]");
    handed (1);
    handed (3);
    handed (2);
    handed (4);
    handed_nothing ();
    assert_true (harness_logs (&h, LOG_WARN) >= 2);
    assert_int_equal (counted (COUNTER_EVENTS), 5);
    assert_int_equal (counted (COUNTER_IGNORED), 1);
    settle_range (1, 4);
    own (4, 100); /* 2 came: there is no gap to wait for */
}

static void test_elements_without_an_id_fail_and_the_rest_goes_on (void **state)
{
    (void) state;
    answer_json (own (NO_AFTER, 100), "[7,{\"id\":1,\"from\":\"a\",\"type\":\"b\"},{\"from\":\"a\"},null,"
                                      "{\"id\":2,\"from\":\"a\",\"type\":\"b\"}]");
    handed (1);
    handed (2);
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 5);
    assert_int_equal (counted (COUNTER_FAILURE), 3);
    assert_true (harness_logs (&h, LOG_WARN) >= 3);
    assert_int_equal (told_gauge (GAUGE_BAD_PAGES), 1);
    assert_int_equal (told_state (), SERVICE_UP);
}

static void test_an_element_without_an_id_at_the_end_is_counted_once (void **state)
{
    (void) state;
    answer_json (own (NO_AFTER, 100), "[{\"id\":1,\"from\":\"a\",\"type\":\"b\"},{\"from\":\"a\"}]");
    settle (1);
    answer_json (own (1, 100), "[{\"from\":\"a\"}]");
    harness_run (&h, 500);
    answer_json (own (1, 100), "[{\"from\":\"a\"},{\"id\":2,\"from\":\"a\",\"type\":\"b\"}]");
    handed (1);
    handed (2);
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 3);
    assert_int_equal (counted (COUNTER_FAILURE), 1);
}

static void test_a_page_of_nothing_usable_is_not_asked_for_in_a_loop (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 1);
    settle (1);
    uint64_t until = h.now.steady_ms + 20000;
    unsigned count = 0;
    while (h.now.steady_ms < until) {
        uint64_t request = find_poll (true, 1, 100);
        count += request > 0;
        if (request)
            answer_json (request, "[{},{}]");
        else
            assert_true (harness_fire (&h));
    }
    assert_in_range (count, 4, 20);
    assert_int_equal (counted (COUNTER_FAILURE), 0);
}

/*  After a first page that is wrong, a right one is asked for, and taken. */
static void check_recovers (uint64_t expected_bad_pages)
{
    assert_int_equal (told_state (), SERVICE_DOWN);
    handed_nothing ();
    no_poll ();
    harness_run (&h, 100);
    answer_range (own (NO_AFTER, 100), 1, 3);
    handed (1);
    handed (2);
    handed (3);
    assert_int_equal (told_state (), SERVICE_UP);
    assert_int_equal (told_gauge (GAUGE_BAD_PAGES), expected_bad_pages);
    assert_int_equal (counted (COUNTER_EVENTS), 3);
}

static void test_a_page_that_is_not_json (void **state)
{
    (void) state;
    answer_state (own (NO_AFTER, 100), "<html>", BODY_NOT_JSON);
    check_recovers (1);
}

static void test_a_page_that_is_an_object (void **state)
{
    (void) state;
    answer_json (own (NO_AFTER, 100), "{\"id\":1,\"from\":\"a\",\"type\":\"b\"}");
    check_recovers (1);
}

static void test_a_page_that_is_empty (void **state)
{
    (void) state;
    answer_status (own (NO_AFTER, 100), 200, 0);
    check_recovers (1);
}

static void test_a_page_that_is_too_large_is_asked_for_in_halves (void **state)
{
    (void) state;
    answer_outcome (own (NO_AFTER, 100), HTTP_TOO_LARGE);
    harness_run (&h, 100);
    answer_outcome (own (NO_AFTER, 50), HTTP_TOO_LARGE);
    harness_run (&h, 200);
    answer_outcome (own (NO_AFTER, 25), HTTP_TOO_LARGE);
    harness_run (&h, 400);
    answer_range (own (NO_AFTER, 12), 1, 12);
    ahead (12, 13); /* full, and a little more is dared */
    handed (1);
}

static void test_a_page_that_breaks_off_gives_what_is_whole (void **state)
{
    (void) state;
    answer_state (
        own (NO_AFTER, 100),
        "[{\"id\":1,\"from\":\"a\",\"type\":\"b\"},{\"id\":2,\"from\":\"a\",\"type\":\"b\"},{\"id\":3,\"fr",
        BODY_CUT);
    handed (1);
    handed (2);
    handed_nothing ();
    assert_int_equal (told_gauge (GAUGE_BAD_PAGES), 1);
    settle_range (1, 2);
    no_poll ();
    harness_run (&h, 100);
    answer_range (own (2, 100), 3, 3);
    handed (3);
}

static void test_a_look_that_breaks_off_closes_no_gap (void **state)
{
    (void) state;
    uint64_t gap = read_three_without_two ();
    settle (3);
    answer_range (gap, 3, 3);
    harness_run (&h, 250);
    gap = ahead (1, 100);
    harness_advance (&h, 3000);
    answer_range (gap, 3, 3);
    harness_run (&h, 250);
    gap = ahead (1, 100);
    answer_state (gap, "[{\"id\":3,\"from\":\"a\",\"type\":\"b\"},{\"id", BODY_CUT);
    assert_int_equal (find_poll (true, 3, 100), 0);
}

/*  ---- pace --------------------------------------------------------------- */

static void test_a_service_that_does_not_hold_polls_is_asked_a_few_times_a_second (void **state)
{
    (void) state;
    uint64_t until = h.now.steady_ms + 10000;
    uint64_t last_ms = h.now.steady_ms;
    unsigned count = 0;
    while (h.now.steady_ms < until) {
        uint64_t request = find_poll (true, NO_AFTER, 100);
        if (!request) {
            assert_true (harness_fire (&h));
            continue;
        }
        count++;
        assert_true (h.now.steady_ms - last_ms <= 250);
        last_ms = h.now.steady_ms;
        harness_advance (&h, 5);
        answer_json (request, "[]");
    }
    assert_in_range (count, 35, 50);
}

static void test_a_long_poll_that_ends_empty_is_asked_again_at_once (void **state)
{
    (void) state;
    for (unsigned i = 0; i < 20; i++) {
        uint64_t request = own (NO_AFTER, 100);
        harness_run (&h, 5000);
        no_poll ();
        answer_json (request, "[]");
    }
    own (NO_AFTER, 100);
}

static void test_events_end_the_pause (void **state)
{
    (void) state;
    for (unsigned i = 0; i < 10; i++) {
        answer_json (own (NO_AFTER, 100), "[]");
        assert_true (harness_fire (&h));
    }
    answer_range (own (NO_AFTER, 100), 1, 1);
    settle (1);
    answer_json (own (1, 100), "[]");
    no_poll ();
    harness_run (&h, 30);
    own (1, 100);
}

static void test_a_poll_that_brings_only_what_is_known_is_paced (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 3);
    settle_range (1, 3);
    uint64_t until = h.now.steady_ms + 5000;
    unsigned count = 0;
    while (h.now.steady_ms < until) {
        const struct message *request = harness_take (&h, MESSAGE_HTTP_REQUEST);
        if (!request) {
            assert_true (harness_fire (&h));
            continue;
        }
        count++;
        assert_true (count < 100);
        answer_range (request->http_request.request, 1, 3);
    }
    assert_in_range (count, 15, 30);
    assert_int_equal (counted (COUNTER_EVENTS), 3);
}

/*  ---- a service that fails ----------------------------------------------- */

static void test_failures_back_off_and_recover (void **state)
{
    (void) state;
    uint64_t began_ms = h.now.steady_ms;
    unsigned count = 0;
    while (h.now.steady_ms < began_ms + 60000) {
        uint64_t request = find_poll (true, NO_AFTER, 100);
        count += request > 0;
        if (request)
            answer_outcome (request, count % 2 ? HTTP_UNREACHED : HTTP_TIMEOUT);
        else
            assert_true (harness_fire (&h));
    }
    assert_in_range (count, 12, 40);
    assert_int_equal (told_state (), SERVICE_DOWN);
    uint64_t request = find_poll (true, NO_AFTER, 100);
    while (!request) {
        assert_true (harness_fire (&h));
        request = find_poll (true, NO_AFTER, 100);
    }
    answer_range (request, 1, 1);
    handed (1);
    assert_int_equal (told_state (), SERVICE_UP);
    settle (1);
    answer_status (own (1, 100), 500, 0);
    harness_run (&h, 100); /* the first wait again, not the last */
    answer_range (ahead (0, 1), 1, 1);
    own (1, 100);
}

/*  ---- ids that begin anew ------------------------------------------------ */

static void test_a_service_that_was_restored_is_asked_where_we_are (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 5);
    settle_range (1, 4);
    harness_run (&h, ACK_MS);
    answer_outcome (own (4, 1), HTTP_UNREACHED);
    answer_json (ahead (5, 100), "[]");
    harness_clear (&h);
    for (unsigned i = 0; i < 3; i++) { /* it does not hear of 4 as long as it may be another */
        harness_run (&h, 3000);
        answer_outcome (ahead (4, 1), i ? HTTP_UNREACHED : HTTP_BROKEN);
        while (find_poll (false, 5, 100))
            continue;
        no_poll ();
    }
    harness_run (&h, 3000);
    assert_int_equal (harness_logs (&h, LOG_ERROR), 0);
    uint64_t held = find_poll (false, 5, 100);
    answer_json (ahead (4, 1), "[]");
    assert_int_equal (harness_logs (&h, LOG_ERROR), 1);
    assert_int_equal (told_gauge (GAUGE_BAD_PAGES), 1);
    harness_run (&h, 3000);
    no_poll (); /* event 5 is under way */
    settle (5);
    if (held)
        assert_non_null (harness_take (&h, MESSAGE_HTTP_CANCEL));
    while (harness_take (&h, MESSAGE_EVENT))
        continue;
    answer_range (own (NO_AFTER, 100), 1, 3);
    handed (1);
    handed (2);
    handed (3);
    settle_range (1, 3);
    own (3, 100);
    assert_int_equal (told_gauge (GAUGE_POSITION_SEEN), 3);
}

static void test_a_quiet_service_is_asked_once_a_minute_whether_it_has_what_it_had (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 5);
    settle_range (1, 5);
    uint64_t held = own (5, 100);
    for (unsigned minute = 0; minute < 3; minute++) {
        harness_run (&h, 59999);
        no_poll ();
        harness_run (&h, 1);
        answer_range (ahead (4, 1), 5, 5);
        no_poll ();
    }
    assert_int_equal (harness_logs (&h, LOG_ERROR), 0);
    harness_run (&h, 60000);
    answer_json (ahead (4, 1), "[]");
    assert_int_equal (harness_logs (&h, LOG_ERROR), 1);
    assert_int_equal (harness_take (&h, MESSAGE_HTTP_CANCEL)->http_cancel.request, held);
    own (NO_AFTER, 100);
    harness_run (&h, 300000); /* nothing is known of it yet */
    no_poll ();
}

static void test_a_check_that_is_cut_off_says_nothing (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 5);
    settle_range (1, 5);
    answer_outcome (own (5, 100), HTTP_BROKEN);
    harness_run (&h, 100);
    answer_state (ahead (4, 1), "[", BODY_CUT);
    harness_run (&h, 200);
    assert_int_equal (harness_logs (&h, LOG_ERROR), 0);
    answer_range (ahead (4, 1), 5, 5);
    own (5, 100);
}

static void test_retry_after_is_honoured (void **state)
{
    (void) state;
    answer_status (own (NO_AFTER, 100), 503, 20000);
    harness_run (&h, 19999);
    no_poll ();
    harness_run (&h, 1);
    own (NO_AFTER, 100);
}

static void test_a_secret_rejected_at_first_is_final_and_nothing_is_taken (void **state)
{
    (void) state;
    uint64_t request = own (NO_AFTER, 100);
    sent (request);
    harness_run (&h, 30);
    assert_int_equal (told_state (), SERVICE_UP);
    answer_status (request, 401, 0);
    const struct message *health = harness_take (&h, MESSAGE_HEALTH);
    assert_non_null (health);
    assert_int_equal (health->health.state, SERVICE_REJECTS);
    assert_int_equal (health->health.service, SERVICE_EVENTS);
    assert_true (harness_says (health->health.reason, "HTTP 401"));
    handed_nothing ();
    harness_run (&h, 1000);
    no_poll ();
}

static void test_a_secret_rejected_later_is_a_failure_that_passes (void **state)
{
    (void) state;
    answer_json (own (NO_AFTER, 100), "[]");
    harness_run (&h, 30);
    assert_int_equal (told_state (), SERVICE_UP);
    answer_status (own (NO_AFTER, 100), 401, 0);
    assert_int_equal (told_state (), SERVICE_DOWN);
    harness_run (&h, 100);
    answer_range (own (NO_AFTER, 100), 1, 1);
    assert_int_equal (told_state (), SERVICE_UP);
    handed (1);
}

static void test_a_poll_that_is_held_means_that_the_service_works (void **state)
{
    (void) state;
    uint64_t request = own (NO_AFTER, 100);
    harness_run (&h, 1000);
    assert_int_equal (told_state (), SERVICE_UNKNOWN);
    sent (request);
    harness_run (&h, 29);
    assert_int_equal (told_state (), SERVICE_UNKNOWN);
    harness_run (&h, 1);
    assert_int_equal (told_state (), SERVICE_UP);
}

static void test_a_poll_that_went_out_and_failed_does_not_mean_that_it_works (void **state)
{
    (void) state;
    uint64_t request = own (NO_AFTER, 100);
    sent (request);
    harness_run (&h, 10);
    answer_status (request, 500, 0);
    assert_int_equal (told_state (), SERVICE_DOWN);
    harness_run (&h, 30);
    assert_int_equal (told_state (), SERVICE_UNKNOWN);
}

static void test_a_service_that_hung_works_when_it_answers (void **state)
{
    (void) state;
    uint64_t request = own (NO_AFTER, 100);
    sent (request);
    harness_run (&h, 30);
    assert_int_equal (told_state (), SERVICE_UP);
    answer_outcome (request, HTTP_TIMEOUT);
    assert_int_equal (told_state (), SERVICE_DOWN);
    harness_run (&h, 1000);
    request = own (NO_AFTER, 100);
    sent (request);
    harness_run (&h, 1000);
    assert_int_equal (told_state (), SERVICE_UNKNOWN); /* nothing is told: it stays down */
    answer_json (request, "[]");
    assert_int_equal (told_state (), SERVICE_UP);
}

static void test_late_answers_of_other_polls_are_ignored (void **state)
{
    (void) state;
    uint64_t request = own (NO_AFTER, 100);
    answer_range (request, 1, 1);
    answer_range (request, 2, 2);
    answer_range (request + 3, 3, 3);
    answer_range (0, 4, 4);
    sent (0);
    sent (request);
    handed (1);
    handed_nothing ();
    settle (1);
    own (1, 100);
}

/*  ---- the end ------------------------------------------------------------ */

static void test_drained_at_once_when_all_is_told (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 2);
    settle_range (1, 2);
    answer_json (own (2, 100), "[]");
    harness_run (&h, 30);
    uint64_t request = own (2, 100);
    drain ();
    const struct message *cancel = harness_take (&h, MESSAGE_HTTP_CANCEL);
    assert_non_null (cancel);
    assert_int_equal (cancel->http_cancel.request, request);
    assert_true (drained ());
    answer_range (request, 3, 4);
    handed (1);
    handed (2);
    handed_nothing ();
    harness_run (&h, 10000);
    no_poll ();
    assert_false (drained ());
}

static void test_a_position_on_a_poll_that_is_held_counts_as_told (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 1);
    settle (1);
    sent (own (1, 100));
    harness_run (&h, 1000);
    drain ();
    assert_true (drained ());
    no_poll ();
}

static void test_drained_before_anything_began (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    begin_with (&settings);
    drain ();
    assert_true (drained ());
    give_credit (10);
    harness_run (&h, 1000);
    no_poll ();
    end (NULL);
}

/*  Two events in flight when the end is asked for, then settled: the last
    acknowledgement under way. */
static uint64_t drain_with_two (void)
{
    answer_range (own (NO_AFTER, 100), 1, 2);
    harness_run (&h, 100);
    uint64_t reading = ahead (2, 100);
    drain ();
    assert_false (drained ());
    answer_range (reading, 3, 9);
    settle (2);
    harness_run (&h, 5000);
    no_poll ();
    assert_false (drained ());
    settle (1);
    handed (1);
    handed (2);
    handed_nothing ();
    return own (2, 1);
}

static void test_the_last_acknowledgement_waits_for_what_is_unsettled (void **state)
{
    (void) state;
    uint64_t last = drain_with_two ();
    assert_false (drained ());
    answer_range (last, 3, 3);
    assert_true (drained ());
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 2);
    assert_int_equal (told_gauge (GAUGE_POSITION_ACKED), 2);
}

static void test_a_last_acknowledgement_that_is_held_is_cancelled (void **state)
{
    (void) state;
    uint64_t last = drain_with_two ();
    sent (last);
    harness_run (&h, 249);
    assert_false (drained ());
    while (harness_take (&h, MESSAGE_HTTP_CANCEL))
        continue;
    harness_run (&h, 1);
    const struct message *cancel = harness_take (&h, MESSAGE_HTTP_CANCEL);
    assert_non_null (cancel);
    assert_int_equal (cancel->http_cancel.request, last);
    assert_true (drained ());
    harness_run (&h, 10000);
    no_poll ();
}

static void test_a_service_that_is_down_at_the_end_is_given_up (void **state)
{
    (void) state;
    uint64_t last = drain_with_two ();
    uint64_t began_ms = h.now.steady_ms;
    answer_outcome (last, HTTP_UNREACHED);
    unsigned attempts = 1;
    while (!drained ()) {
        last = find_poll (true, 2, 1);
        attempts += last > 0;
        if (last)
            answer_outcome (last, HTTP_UNREACHED);
        else
            assert_true (harness_fire (&h));
    }
    assert_int_equal (attempts, 3);
    assert_true (h.now.steady_ms - began_ms < 2000);
    assert_true (harness_logs (&h, LOG_WARN) > 0);
}

static void test_a_service_long_down_does_not_hold_up_the_end (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 2);
    settle (1);
    harness_run (&h, ACK_MS);
    ahead (2, 100);
    uint64_t until = h.now.steady_ms + 60000;
    while (h.now.steady_ms < until) {
        const struct message *request = harness_take (&h, MESSAGE_HTTP_REQUEST);
        if (request)
            answer_status (request->http_request.request, 500, 0);
        else if (!harness_fire (&h))
            break;
    }
    uint64_t began_ms = h.now.steady_ms;
    drain ();
    settle (2);
    while (!drained ()) {
        const struct message *request = harness_take (&h, MESSAGE_HTTP_REQUEST);
        if (request)
            answer_status (request->http_request.request, 500, 0);
        else
            assert_true (harness_fire (&h));
    }
    assert_true (h.now.steady_ms - began_ms < 2000);
}

/*  All is settled, the service fails, and the end is asked for before it is known
    whether it is still the same. Returns the question whether it is. */
static uint64_t drain_unsure (void)
{
    answer_range (own (NO_AFTER, 100), 1, 5);
    settle_range (1, 5);
    answer_outcome (own (5, 100), HTTP_BROKEN);
    drain ();
    assert_false (drained ());
    uint64_t check = ahead (4, 1);
    no_poll ();
    return check;
}

static void test_a_service_that_failed_is_told_the_last_position_when_it_is_the_same (void **state)
{
    (void) state;
    answer_range (drain_unsure (), 5, 5);
    answer_json (own (5, 1), "[]");
    assert_true (drained ());
    assert_int_equal (told_gauge (GAUGE_POSITION_ACKED), 5);
}

static void test_a_service_that_was_restored_is_not_told_the_last_position (void **state)
{
    (void) state;
    answer_json (drain_unsure (), "[]");
    assert_int_equal (harness_logs (&h, LOG_ERROR), 1);
    assert_true (drained ());
    harness_run (&h, 10000);
    no_poll ();
}

static void test_a_restored_service_that_holds_the_question_does_not_hold_up_the_end (void **state)
{
    (void) state;
    uint64_t check = drain_unsure ();
    sent (check);
    harness_run (&h, 249);
    assert_false (drained ());
    while (harness_take (&h, MESSAGE_HTTP_CANCEL))
        continue;
    harness_run (&h, 1);
    assert_int_equal (harness_take (&h, MESSAGE_HTTP_CANCEL)->http_cancel.request, check);
    assert_true (drained ());
    assert_int_equal (harness_logs (&h, LOG_WARN), 2); /* down, and that events will come again */
    no_poll ();
}

static void test_the_end_does_not_wait_an_hour_because_a_service_says_so (void **state)
{
    (void) state;
    uint64_t began_ms = h.now.steady_ms;
    answer_status (drain_with_two (), 503, 3600000);
    while (!drained ()) {
        uint64_t last = find_poll (true, 2, 1);
        if (last)
            answer_status (last, 503, 3600000);
        else
            assert_true (harness_fire (&h));
    }
    assert_true (h.now.steady_ms - began_ms < 10000);
}

static void test_a_last_acknowledgement_that_reaches_nobody_ends_soon (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 1);
    drain ();
    settle (1);
    const struct message *last = harness_take (&h, MESSAGE_HTTP_REQUEST);
    assert_non_null (last);
    assert_in_range (last->http_request.timeout_ms, LAST_ACK_LONGEST_MS / 4, LAST_ACK_LONGEST_MS);
}

static void test_nothing_new_is_taken_while_it_ends (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 1);
    settle (1);
    uint64_t request = own (1, 100);
    answer_range (request, 2, 2);
    drain ();
    answer_range (request, 3, 3);
    settle (2);
    answer_range (own (2, 1), 3, 3);
    assert_true (drained ());
    handed (1);
    handed (2);
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 2);
}

static void test_a_gap_at_the_end_is_left_for_the_next_start (void **state)
{
    (void) state;
    answer_range (own (NO_AFTER, 100), 1, 1);
    settle (1);
    answer_json (own (1, 100), "[{\"id\":3,\"from\":\"a\",\"type\":\"b\"}]");
    settle (3);
    drain ();
    assert_true (drained ());
    assert_int_equal (find_poll (true, 3, 1), 0);
    assert_int_equal (told_gauge (GAUGE_POSITION_ACKED), 1);
}

/*  ---- shards ------------------------------------------------------------- */

enum { SHARDS = 3 };

static void give_shard_credit (uint16_t shard, uint32_t capacity)
{
    struct message credit = { .id = MESSAGE_CREDIT, .from = { ROLE_DECISION, shard } };
    credit.credit.capacity = capacity;
    harness_deliver (&h, &credit);
}

static void peer (uint16_t shard, enum peer_state state)
{
    struct message message = { .id = MESSAGE_PEER, .from = { ROLE_DECISION, shard } };
    message.peer.state = state;
    harness_deliver (&h, &message);
}

static void settle_by (uint16_t shard, uint64_t position)
{
    struct message settled = { .id = MESSAGE_SETTLED, .from = { ROLE_DECISION, shard } };
    settled.settled.position = position;
    settled.settled.outcome = OUTCOME_SUCCESS;
    harness_deliver (&h, &settled);
}

static int begin_shards (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    settings.window = 1000;
    settings.decisions = SHARDS;
    begin_with (&settings);
    return 0;
}

/*  Which shard the next event handed on goes to, and which event it is. */
static uint16_t next_handed (uint64_t *position)
{
    struct recorded *effect = harness_take_recorded (&h, MESSAGE_EVENT);
    assert_non_null (effect);
    assert_true (effect->to.role == ROLE_DECISION && effect->to.peer < SHARDS);
    *position = effect->message->event.position;
    return effect->to.peer;
}

/*  The shard of each of the first events, as a process with room for all hands
    them on; answer_range's users are used everywhere. */
static uint16_t shard_of[201];

static void learn_shards (void)
{
    struct settings settings = harness_settings ();
    settings.window = 1000;
    settings.decisions = SHARDS;
    begin_with (&settings);
    for (uint16_t shard = 0; shard < SHARDS; shard++)
        give_shard_credit (shard, 1000);
    answer_range (own (NO_AFTER, 100), 1, 100);
    answer_range (ahead (100, 200), 101, 200);
    for (unsigned i = 0; i < 200; i++) {
        uint64_t position;
        uint16_t shard = next_handed (&position);
        assert_in_range (position, 1, 200);
        shard_of[position] = shard;
    }
    end (NULL);
}

static void test_every_shard_is_asked_at_the_start (void **state)
{
    (void) state;
    unsigned asked = 0;
    struct recorded *open;
    while ((open = harness_take_recorded (&h, MESSAGE_OPEN)))
        asked |= 1u << open->to.peer;
    assert_int_equal (asked, 7);
    harness_run (&h, 100);
    no_poll ();
}

static void test_a_players_events_all_go_to_one_shard (void **state)
{
    (void) state;
    unsigned counts[SHARDS] = { 0 };
    char json[PAGE_MAX * 100];
    size_t size = 1;
    learn_shards ();
    for (unsigned i = 1; i <= 200; i++)
        counts[shard_of[i]]++;
    for (unsigned i = 0; i < SHARDS; i++)
        assert_in_range (counts[i], 30, 110);

    begin_shards (NULL);
    for (uint16_t shard = 0; shard < SHARDS; shard++)
        give_shard_credit (shard, 100);
    json[0] = '[';
    for (unsigned i = 0; i < 60; i++)
        size +=
            (size_t) snprintf (json + size, sizeof json - size,
                               "%s{\"id\":%u,\"from\":\"a\",\"type\":\"b\",\"data\":{\"userId\":\"p%u\"}}",
                               i ? "," : "", i + 1, i % 10);
    snprintf (json + size, sizeof json - size, "]");
    answer_json (own (NO_AFTER, 100), json);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t position;
        uint16_t shard = next_handed (&position);
        assert_int_equal (position, i + 1); /* in the order of the page */
        char user[16];
        snprintf (user, sizeof user, "p%u", i % 10);
        assert_int_equal (shard, shard_of_player (text_of (user), SHARDS));
    }
    end (NULL);
}

static void test_a_shard_gets_no_more_than_its_credit (void **state)
{
    (void) state;
    static const uint32_t credits[SHARDS] = { 5, 50, 0 };
    unsigned handed_to[SHARDS] = { 0 };
    learn_shards ();
    begin_shards (NULL);
    for (uint16_t shard = 0; shard < SHARDS; shard++)
        give_shard_credit (shard, credits[shard]);
    answer_range (own (NO_AFTER, 5), 1, 55); /* it was asked when the first had given credit */
    uint64_t position, first = 0;
    while (harness_count (&h, MESSAGE_EVENT)) {
        uint16_t shard = next_handed (&position);
        assert_int_equal (shard, shard_of[position]);
        first = shard == 0 && !first ? position : first;
        handed_to[shard]++;
    }
    assert_int_equal (handed_to[0], 5);
    assert_in_range (handed_to[1], 10, 30);
    assert_int_equal (handed_to[2], 0);
    assert_int_equal (counted (COUNTER_EVENTS), 55);

    settle_by (1, first); /* not its event */
    harness_run (&h, 1);
    handed_nothing ();
    settle_by (0, first);
    harness_run (&h, 300); /* room for one more: the first that waits is read again */
    uint64_t waits = 0;
    unsigned before = 0;
    for (uint64_t id = 1; id <= 55 && !waits; id++)
        if (shard_of[id] == 0 && ++before == 6)
            waits = id;
    answer_range (ahead ((int64_t) (waits - 1), 100), waits, 55);
    assert_int_equal (next_handed (&position), 0);
    assert_int_equal (position, waits);
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 0);
    end (NULL);
}

/*  Hands on the first 60 events to shards that have credit for all. */
static void sixty (void)
{
    learn_shards ();
    begin_shards (NULL);
    for (uint16_t shard = 0; shard < SHARDS; shard++)
        give_shard_credit (shard, 100);
    answer_range (own (NO_AFTER, 100), 1, 60);
    assert_int_equal (harness_count (&h, MESSAGE_EVENT), 60);
    harness_clear (&h);
}

static void test_a_lost_shard_is_handed_nothing_while_the_others_go_on (void **state)
{
    (void) state;
    uint64_t position;
    sixty ();
    peer (1, PEER_LOST);
    harness_run (&h, 150);
    answer_range (ahead (60, 100), 61, 120);
    unsigned other = 0;
    while (harness_count (&h, MESSAGE_EVENT)) {
        assert_int_not_equal (next_handed (&position), 1);
        other++;
    }
    unsigned of_one = 0;
    for (unsigned i = 61; i <= 120; i++)
        of_one += shard_of[i] == 1;
    assert_int_equal (other + of_one, 60);
    peer (1, PEER_UP); /* it was there all the time: only what waits is handed on */
    uint64_t first = 61;
    while (shard_of[first] != 1)
        first++;
    answer_range (ahead ((int64_t) (first - 1), 100), first, 120);
    for (unsigned i = 0; i < of_one; i++)
        assert_int_equal (next_handed (&position), 1);
    handed_nothing ();
    end (NULL);
}

/*  Also when the shards together have no more credit than the window. */
static void test_a_lost_shard_takes_no_credit_from_the_others (void **state)
{
    (void) state;
    uint32_t counts[SHARDS] = { 0 };
    learn_shards ();
    begin_shards (NULL);
    for (unsigned i = 1; i <= 100; i++)
        counts[shard_of[i]]++;
    for (uint16_t shard = 0; shard < SHARDS; shard++)
        give_shard_credit (shard, counts[shard]);
    answer_range (own (NO_AFTER, counts[0]), 1, 100);
    assert_int_equal (harness_count (&h, MESSAGE_EVENT), 100);
    uint16_t lost = (uint16_t) ((shard_of[1] + 1) % SHARDS);
    peer (lost, PEER_LOST);
    harness_run (&h, 150);
    no_poll ();
    for (uint64_t id = 1; id <= 100; id++)
        if (shard_of[id] != lost)
            settle_by (shard_of[id], id);
    harness_run (&h, 150);
    uint64_t look = 0;
    for (unsigned limit = 1; limit <= 100 && !look; limit++)
        look = find_poll (false, 100, limit);
    assert_true (look > 0); /* it reads on */
    end (NULL);
}

static void test_a_shard_without_memory_gets_its_unsettled_events_again_once (void **state)
{
    (void) state;
    uint64_t position, first = 0, last_settled = 0;
    unsigned again = 0;
    sixty ();
    for (uint64_t id = 1; id <= 60; id++) {
        if (shard_of[id] != 1 || id % 2) {
            settle_by (shard_of[id], id);
            last_settled = shard_of[id] == 1 ? id : last_settled;
            continue;
        }
        again++;
        first = first ? first : id;
    }
    peer (1, PEER_RESTARTED);
    struct recorded *open = harness_take_recorded (&h, MESSAGE_OPEN);
    assert_non_null (open);
    assert_int_equal (open->to.peer, 1);
    harness_run (&h, 240);
    settle_by (1, first + 1); /* of the old one, and not in flight or settled: nothing */
    assert_int_equal (told_gauge (GAUGE_POSITION_SETTLED), first - 1);
    harness_clear (&h);
    give_shard_credit (1, 100);
    answer_range (ahead ((int64_t) (first - 1), 100), first, 60);
    for (unsigned i = 0; i < again; i++)
        assert_int_equal (next_handed (&position), 1);
    assert_int_equal (shard_of[position], 1);
    handed_nothing ();
    assert_int_equal (counted (COUNTER_EVENTS), 0);
    for (uint64_t id = 1; id <= 60; id++)
        if (shard_of[id] == 1 && id % 2 == 0)
            settle_by (1, id);
    assert_int_equal (told_gauge (GAUGE_POSITION_SETTLED), 60);
    end (NULL);
}

static void test_what_is_read_again_may_lie_below_anything_known (void **state)
{
    (void) state;
    sixty (); /* nothing is settled: what lies below the first is not known */
    for (uint16_t shard = 0; shard < SHARDS; shard++)
        peer (shard, PEER_RESTARTED);
    for (uint16_t shard = 0; shard < SHARDS; shard++)
        give_shard_credit ((uint16_t) ((shard_of[1] + shard) % SHARDS), 100);
    answer_range (ahead (0, 100), 1, 60);
    assert_int_equal (harness_count (&h, MESSAGE_EVENT), 60);
    handed (1);
    end (NULL);
}

static void test_what_waits_is_read_again_also_while_a_gap_is_open (void **state)
{
    (void) state;
    uint64_t position;
    learn_shards ();
    begin_shards (NULL);
    for (uint16_t shard = 0; shard < SHARDS; shard++)
        give_shard_credit (shard, 1000);
    answer_range (own (NO_AFTER, 100), 1, 1);
    settle_by (shard_of[1], 1);
    answer_range (own (1, 100), 3, 102); /* 2 is missing */
    answer_range (ahead (102, 200), 103, 200);
    harness_clear (&h);
    for (uint64_t id = 3; id <= 190; id++)
        settle_by (shard_of[id], id);
    peer (shard_of[191], PEER_RESTARTED);
    give_shard_credit (shard_of[191], 1000);
    uint64_t request = 0;
    for (unsigned i = 0; i < 600 && !request; i++) {
        harness_run (&h, 1);
        uint64_t look = find_poll (false, 1, 100);
        if (look)
            answer_range (look, 3, 102);
        request = find_poll (false, 190, 100);
    }
    assert_true (request > 0);
    answer_range (request, 191, 200);
    assert_int_equal (next_handed (&position), shard_of[191]);
    assert_int_equal (position, 191);
    end (NULL);
}

/*  Events that wait are read again above an open gap: that says nothing of it. */
static void test_a_look_at_what_waits_closes_no_gap_below (void **state)
{
    (void) state;
    learn_shards ();
    begin_shards (NULL);
    for (uint16_t shard = 0; shard < SHARDS; shard++)
        give_shard_credit (shard, 1000);
    answer_range (own (NO_AFTER, 100), 1, 1);
    settle_by (shard_of[1], 1);
    answer_range (own (1, 100), 3, 10);
    for (uint64_t id = 3; id <= 9; id++)
        settle_by (shard_of[id], id);
    harness_run (&h, 1990);
    peer (shard_of[10], PEER_RESTARTED);
    give_shard_credit (shard_of[10], 1000);
    uint64_t request = 0;
    for (unsigned i = 0; i < 900 && !request; i++) {
        harness_run (&h, 1);
        uint64_t look = find_poll (false, 1, 100);
        if (look)
            answer_outcome (look, HTTP_UNREACHED);
        request = find_poll (false, 9, 100);
    }
    assert_true (request > 0);
    harness_clear (&h);
    answer_range (request, 10, 10);
    handed (10);
    assert_int_equal (told_gauge (GAUGE_POSITION_SETTLED), 0); /* still 1, and told before */
    end (NULL);
}

/*  The first page came from the position that the service has for us, and a poll of a
    life before this one moved that on: without `after` they never come again. */
static void test_what_waits_below_all_that_is_known_is_asked_for_by_its_id (void **state)
{
    (void) state;
    uint64_t position;
    learn_shards ();
    begin_shards (NULL);
    for (uint16_t shard = 0; shard < SHARDS; shard++)
        give_shard_credit (shard, 1000);
    answer_range (own (NO_AFTER, 100), 40, 40);
    harness_clear (&h);
    peer (shard_of[40], PEER_RESTARTED);
    give_shard_credit (shard_of[40], 1000);
    uint64_t request = 0;
    for (unsigned i = 0; i < 900 && !request; i++) {
        harness_run (&h, 1);
        uint64_t look = find_poll (true, NO_AFTER, 100);
        if (look)
            answer_json (look, "[]");
        request = find_poll (false, 39, 100);
    }
    assert_true (request > 0);
    answer_range (request, 40, 40);
    assert_int_equal (next_handed (&position), shard_of[40]);
    assert_int_equal (position, 40);
    end (NULL);
}

static void test_the_end_does_not_wait_for_events_nobody_holds (void **state)
{
    (void) state;
    uint64_t first = 1;
    sixty ();
    while (shard_of[first] != 1)
        first++;
    for (uint64_t id = 1; id <= 60; id++)
        if (shard_of[id] != 1)
            settle_by (shard_of[id], id);
    drain ();
    assert_false (drained ());
    peer (1, PEER_LOST); /* it may come back and settle them */
    assert_false (drained ());
    peer (1, PEER_RESTARTED); /* it has forgotten them: they come again next time */
    if (first > 1)
        answer_range (own ((int64_t) (first - 1), 1), first, first);
    assert_true (drained ());
    assert_int_equal (told_gauge (GAUGE_POSITION_ACKED), first - 1);
    end (NULL);
}

static void test_peers_that_are_no_shard_change_nothing (void **state)
{
    (void) state;
    sixty ();
    peer (SHARDS, PEER_RESTARTED);
    peer (999, PEER_LOST);
    struct message stats = { .id = MESSAGE_PEER, .from = { ROLE_STATS, 0 } };
    stats.peer.state = PEER_RESTARTED;
    harness_deliver (&h, &stats);
    give_shard_credit (SHARDS, 5);
    assert_int_equal (harness_count (&h, MESSAGE_OPEN), 0);
    for (uint64_t id = 1; id <= 60; id++)
        settle_by (shard_of[id], id);
    assert_int_equal (told_gauge (GAUGE_POSITION_SETTLED), 60);
    end (NULL);
}

/*  A ring full of settled events above an open gap, and then more late ones than
    there is room for on top of the window: they are taken in all the same. */
static void test_late_events_find_room_in_a_ring_full_of_settled_ones (void **state)
{
    (void) state;
    enum { WINDOW = 20, FIRST = 1000 };
    struct settings settings = harness_settings ();
    settings.window = WINDOW;
    settings.gap_grace_ms = 60000;
    begin_with (&settings);
    give_credit (WINDOW);
    answer_range (own (NO_AFTER, WINDOW), 1, 1);
    settle (1);
    answer_range (own (1, WINDOW), FIRST, FIRST + WINDOW - 1);
    settle_range (FIRST, FIRST + WINDOW - 1);
    harness_clear (&h);
    /*  They show up from above, so that the lowest gap stays open. */
    uint64_t handed_on = 0;
    for (uint64_t late = FIRST - 10; late > FIRST - 300; late -= 10) {
        uint64_t look = 0;
        for (unsigned i = 0; i < 600 && !look; i++) {
            harness_run (&h, 1);
            look = find_poll (false, 1, 100);
        }
        assert_true (look > 0);
        answer_range (look, late, late + 9);
        for (uint64_t id = late; id < late + 10; id++) {
            handed (id);
            settle (id);
            handed_on++;
        }
        harness_clear (&h);
    }
    assert_int_equal (handed_on, 290);
    for (unsigned i = 0; i < 2; i++) { /* the second look begins behind the grace */
        harness_run (&h, 70000);
        uint64_t look = find_poll (false, 1, 100);
        assert_true (look > 0);
        answer_range (look, FIRST - 290, FIRST - 191);
    }
    /*  The highest had to go, and are read again: nothing was passed. */
    answer_range (own (FIRST - 290 + 119, WINDOW), FIRST - 170, FIRST - 161);
    handed (FIRST - 170);
    end (NULL);
}

/*  ---- a walk at random --------------------------------------------------- */

enum {
    WALK_EVENTS = 600,
    WALK_HELD_MAX = 8,
    WALK_WINDOW_MAX = 400,
    LATE_MS_MAX = 1800,      /* below the grace of 2000 */
    FIRST_LATE_MS_MAX = 400, /* below that of the very first event, 500 */
    HELD_MS = 5000,          /* how long the service holds a poll */
    WALK_SHARDS_MAX = 4,
    WALK_USERS = 16,
    LOST_MS_MAX = 4000
};

/*  An event of the model: when it can be seen (0: never), what became of it. */
struct model_event {
    uint64_t visible_ms;
    bool handed, settled;
    bool again; /* it was handed on to one who forgot it */
    uint16_t shard;
    uint64_t settle_ms;
};

/*  A decision of the model. */
struct model_shard {
    uint32_t credit;
    uint32_t unsettled;
    uint64_t credit_ms; /* when it gives credit; 0: nobody asked */
    uint64_t back_ms;   /* when it is heard again; 0: it is not lost */
};

/*  A poll at the service, then on its way back. */
struct model_poll {
    uint64_t request; /* 0: free */
    bool own;
    bool has_after;
    uint64_t after;
    unsigned limit;
    uint64_t held_until_ms;
    uint64_t answer_ms; /* 0: it is being held */
    unsigned count;     /* of the page, chosen when the answer left */
    uint64_t ids[LIMIT_MAX];
    unsigned trouble; /* 0: none; else which */
};

static struct model {
    uint64_t random;
    struct model_event events[WALK_EVENTS + 1];
    uint64_t last;   /* the highest id given out */
    uint64_t stored; /* the position of the client */
    struct model_poll polls[WALK_HELD_MAX];
    bool holds;        /* it holds polls; else it answers empty at once */
    unsigned page_max; /* events it puts on a page */
    unsigned trouble;  /* percent of the polls that go wrong */
    unsigned slow_ms;  /* an event takes up to so long to settle */
    unsigned handed;
    unsigned unsettled;
    unsigned asked;
    uint64_t counted_events;
    uint64_t counted_outcomes;
    bool draining;
    uint16_t shard_count;
    struct model_shard shards[WALK_SHARDS_MAX];
    int shard_of_user[WALK_USERS]; /* -1: not seen yet */
} model;

static uint32_t draw (uint32_t below)
{
    model.random = model.random * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
    return (uint32_t) (model.random >> 33) % below;
}

static bool visible (uint64_t id)
{
    return model.events[id].visible_ms && model.events[id].visible_ms <= h.now.steady_ms;
}

/*  New events; of some that are published together the first is seen last, and
    now and then an id is never seen. */
static void walk_publish (unsigned count)
{
    for (unsigned i = 0; i < count && model.last < WALK_EVENTS; i++) {
        uint64_t id = ++model.last;
        uint32_t late_max = id < 10 ? FIRST_LATE_MS_MAX : LATE_MS_MAX;
        model.events[id].visible_ms = h.now.steady_ms;
        if (draw (12) == 0)
            model.events[id].visible_ms += 1 + draw (late_max);
        else if (draw (60) == 0 && id > 1)
            model.events[id].visible_ms = 0;
    }
}

/*  What an acknowledgement of ours may claim: everything up to there that can
    be seen, or may yet be, is settled. */
static void walk_check_after (uint64_t after)
{
    for (uint64_t id = 1; id <= after; id++) {
        const struct model_event *event = &model.events[id];
        if (event->visible_ms && !event->settled)
            fail_msg ("after=%" PRIu64 " passes event %" PRIu64 ", %s", after, id,
                      event->handed ? "which is not settled" : "which was not handed on");
    }
}

static void walk_take_poll (const struct message *message)
{
    struct text path = message->http_request.path;
    char text[256];
    assert_true (path.size < sizeof text);
    memcpy (text, path.data, path.size);
    text[path.size] = '\0';
    struct model_poll *poll = model.polls;
    while (poll->request)
        assert_true (++poll < model.polls + WALK_HELD_MAX);
    *poll = (struct model_poll){ .request = message->http_request.request };
    poll->own = !strstr (text, ".ahead");
    const char *after = strstr (text, "&after=");
    poll->has_after = after != NULL;
    poll->after = after ? strtoull (after + 7, NULL, 10) : 0;
    poll->limit = (unsigned) strtoul (strstr (text, "&limit=") + 7, NULL, 10);
    poll->held_until_ms = h.now.steady_ms + (model.holds ? HELD_MS : 0);
    assert_in_range (poll->limit, 1, LIMIT_MAX);
    assert_true (poll->own || poll->has_after);
    if (poll->own && poll->has_after) {
        walk_check_after (poll->after);
        assert_true (poll->after >= model.stored);
        model.stored = poll->after;
    }
    if (draw (100) < model.trouble)
        poll->trouble = 1 + draw (7);
    model.asked++;
}

static void walk_cancel (uint64_t request)
{
    for (unsigned i = 0; i < WALK_HELD_MAX; i++)
        if (model.polls[i].request == request)
            model.polls[i].request = 0;
}

static void walk_event (uint16_t shard_at, uint64_t id)
{
    struct model_event *event = &model.events[id];
    struct model_shard *shard = &model.shards[shard_at];
    int *shard_of_user = &model.shard_of_user[id % WALK_USERS];
    assert_true (id >= 1 && id <= WALK_EVENTS && shard_at < model.shard_count);
    assert_true (visible (id));
    assert_false (event->handed);
    assert_false (model.draining || shard->back_ms);
    assert_true (*shard_of_user < 0 || *shard_of_user == shard_at);
    *shard_of_user = shard_at;
    event->handed = true;
    event->shard = shard_at;
    event->settle_ms = h.now.steady_ms + draw (model.slow_ms + 1);
    model.handed += !event->again;
    model.unsettled++;
    shard->unsettled++;
    assert_true (model.unsettled <= h.settings.window);
    assert_true (shard->unsettled <= shard->credit);
}

/*  A shard is heard again: it is the one from before, or one that knows nothing. */
static void walk_shard_back (uint16_t at, bool restarted)
{
    struct model_shard *shard = &model.shards[at];
    shard->back_ms = 0;
    for (uint64_t id = 1; restarted && id <= model.last; id++) {
        struct model_event *event = &model.events[id];
        if (!event->handed || event->settled || event->shard != at)
            continue;
        event->handed = false;
        event->again = true;
        model.unsettled--;
        shard->unsettled--;
    }
    shard->credit = restarted ? 0 : shard->credit;
    peer (at, restarted ? PEER_RESTARTED : PEER_UP);
}

/*  Now and then a shard is gone for a while, or is another at once. */
static void walk_trouble_shards (void)
{
    uint16_t at = (uint16_t) draw (model.shard_count);
    struct model_shard *shard = &model.shards[at];
    if (shard->back_ms || draw (10))
        return;
    if (draw (3) == 0) {
        walk_shard_back (at, true);
        return;
    }
    shard->back_ms = h.now.steady_ms + 1 + draw (LOST_MS_MAX);
    peer (at, PEER_LOST);
}

static void walk_shards (void)
{
    for (uint16_t at = 0; at < model.shard_count; at++) {
        struct model_shard *shard = &model.shards[at];
        if (shard->back_ms && h.now.steady_ms >= shard->back_ms)
            walk_shard_back (at, draw (2));
        if (!shard->credit_ms || h.now.steady_ms < shard->credit_ms)
            continue;
        shard->credit_ms = 0;
        shard->credit = draw (4) ? h.settings.window : 1 + draw (h.settings.window);
        give_shard_credit (at, shard->credit);
    }
}

/*  Takes over what the core put. */
static void walk_effects (void)
{
    for (size_t i = 0; i < h.count; i++) {
        const struct message *message = h.effects[i].message;
        if (message->id == MESSAGE_HTTP_REQUEST)
            walk_take_poll (message);
        else if (message->id == MESSAGE_HTTP_CANCEL)
            walk_cancel (message->http_cancel.request);
        else if (message->id == MESSAGE_EVENT)
            walk_event (h.effects[i].to.peer, message->event.position);
        else if (message->id == MESSAGE_OPEN)
            model.shards[h.effects[i].to.peer].credit_ms = h.now.steady_ms + 1 + draw (300);
        else if (message->id == MESSAGE_COUNT && message->count.counter == COUNTER_EVENTS)
            model.counted_events += message->count.amount;
        else if (message->id == MESSAGE_COUNT)
            model.counted_outcomes += message->count.amount;
    }
}

/*  Chooses the page when there is something to answer, and lets it leave. */
static void walk_serve (struct model_poll *poll)
{
    uint64_t from = poll->has_after ? poll->after : model.stored;
    unsigned limit = poll->limit < model.page_max ? poll->limit : model.page_max;
    for (uint64_t id = from + 1; id <= model.last && poll->count < limit; id++)
        if (visible (id))
            poll->ids[poll->count++] = id;
    if (poll->count || poll->trouble || h.now.steady_ms >= poll->held_until_ms)
        poll->answer_ms = h.now.steady_ms + 1 + draw (draw (10) ? 10 : 600);
}

static void walk_pack (struct packer *packer, const struct model_poll *poll, unsigned count)
{
    pack_array (packer, count);
    for (unsigned i = 0; i < count; i++) {
        pack_map (packer, 4);
        pack_literal (packer, "id");
        pack_uint (packer, poll->ids[i]);
        pack_literal (packer, "from");
        pack_literal (packer, "game-two");
        pack_literal (packer, "type");
        pack_literal (packer, "LOGIN");
        pack_literal (packer, "data");
        pack_map (packer, 1);
        pack_literal (packer, "userId");
        char user = (char) ('a' + poll->ids[i] % WALK_USERS);
        pack_text (packer, (struct text){ &user, 1 });
    }
}

static void walk_spoil (struct http_answer *answer, const struct model_poll *poll, struct packer *packer)
{
    switch (poll->trouble) {
    case 1:
        answer->outcome = HTTP_TIMEOUT;
        break;
    case 2:
        answer->outcome = HTTP_UNREACHED;
        break;
    case 3:
        answer->outcome = HTTP_TOO_LARGE;
        break;
    case 4:
        answer->status = 500;
        break;
    case 5:
        answer->body_state = BODY_NOT_JSON;
        break;
    case 6:
        answer->body_state = BODY_CUT;
        walk_pack (packer, poll, poll->count / 2);
        break;
    default:
        pack_map (packer, 0);
        break;
    }
}

static void walk_answer (struct model_poll *poll)
{
    static uint8_t memory[LIMIT_MAX * 64];
    struct packer packer;
    struct message answer = answer_to (poll->request);
    packer_init (&packer, memory, sizeof memory);
    if (poll->trouble)
        walk_spoil (&answer.http_answer, poll, &packer);
    else
        walk_pack (&packer, poll, poll->count);
    assert_false (packer.overflow);
    answer.http_answer.body = packer_raw (&packer);
    poll->request = 0;
    harness_deliver (&h, &answer);
}

static void walk_service (void)
{
    for (unsigned i = 0; i < WALK_HELD_MAX; i++) {
        struct model_poll *poll = &model.polls[i];
        if (poll->request && !poll->answer_ms)
            walk_serve (poll);
        if (poll->request && poll->answer_ms && poll->answer_ms <= h.now.steady_ms)
            walk_answer (poll);
    }
}

static void walk_settle (void)
{
    for (uint64_t id = 1; id <= model.last; id++) {
        struct model_event *event = &model.events[id];
        if (!event->handed || event->settled || event->settle_ms > h.now.steady_ms ||
            model.shards[event->shard].back_ms)
            continue;
        event->settled = true;
        model.unsettled--;
        model.shards[event->shard].unsettled--;
        settle_by (event->shard, id);
    }
}

static void walk_step (uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i++) {
        harness_run (&h, 1);
        walk_effects ();
        harness_clear (&h);
        walk_service ();
        walk_effects ();
        harness_clear (&h);
        walk_settle ();
        walk_shards ();
        walk_effects ();
        harness_clear (&h);
    }
}

/*  Everything that can be seen was handed on, settled, and told. */
static bool walk_at_rest (void)
{
    uint64_t highest = 0;
    for (uint64_t id = 1; id <= model.last; id++) {
        const struct model_event *event = &model.events[id];
        if (!event->visible_ms)
            continue;
        if (!event->settled)
            return false;
        highest = id;
    }
    return model.stored == highest;
}

static void walk_to_rest (void)
{
    uint64_t deadline_ms = h.now.steady_ms + 900000;
    while (!walk_at_rest ()) {
        walk_step (10);
        if (h.now.steady_ms > deadline_ms)
            fail_msg ("no rest: %u of %" PRIu64 " handed on, %u unsettled, told %" PRIu64, model.handed,
                      model.last, model.unsettled, model.stored);
    }
    assert_int_equal (model.counted_events, model.handed);
    assert_int_equal (model.counted_outcomes, model.handed);
}

static void walk_begin (uint64_t seed)
{
    memset (&model, 0, sizeof model);
    model.random = seed;
    model.holds = draw (2);
    model.page_max = draw (2) ? PAGE_MAX : LIMIT_MAX;
    model.trouble = draw (3) ? 0 : draw (30);
    model.slow_ms = draw (2) ? 5 : 1500;
    struct settings settings = harness_settings ();
    settings.window = draw (4) ? 1 + draw (WALK_WINDOW_MAX) : 1 + draw (3);
    settings.hash_seed = seed;
    model.shard_count = (uint16_t) (draw (2) ? 1 : 2 + draw (WALK_SHARDS_MAX - 1));
    settings.decisions = model.shard_count;
    for (unsigned i = 0; i < WALK_USERS; i++)
        model.shard_of_user[i] = -1;
    begin_with (&settings);
    walk_effects ();
    harness_clear (&h);
}

/*  A quiet minute: how often the service is asked. */
static void walk_quiet (void)
{
    model.trouble = 0;
    walk_step (12000);
    model.asked = 0;
    walk_step (60000);
    assert_in_range (model.asked, model.holds ? 8 : 100, model.holds ? 30 : 300);
}

static bool walk_drained (void)
{
    bool found = false;
    for (size_t i = 0; i < h.count; i++)
        found = found || h.effects[i].message->id == MESSAGE_DRAINED;
    return found;
}

/*  The end in the middle of everything: what was handed on is settled, nothing
    more is taken, and what can be told is told. */
static void walk_drain (void)
{
    model.trouble = 0;
    for (uint16_t at = 0; at < model.shard_count; at++)
        if (model.shards[at].back_ms)
            walk_shard_back (at, draw (2));
    walk_effects ();
    harness_clear (&h);
    model.draining = true;
    drain ();
    bool done = walk_drained ();
    uint64_t deadline_ms = h.now.steady_ms + 15000;
    while (!done) {
        walk_effects ();
        harness_clear (&h);
        walk_service ();
        walk_settle ();
        harness_run (&h, 1);
        done = walk_drained ();
        assert_true (h.now.steady_ms < deadline_ms);
    }
    walk_effects ();
    assert_int_equal (model.unsettled, 0);
    assert_true (model.counted_events >= model.handed); /* what waits is taken, and not handed on */
    for (uint64_t id = 1; id <= model.stored; id++)
        assert_true (!model.events[id].visible_ms || model.events[id].settled);
}

static void walk (uint64_t seed)
{
    walk_begin (seed);
    bool ends_early = draw (4) == 0;
    bool troubles_shards = draw (2);
    while (model.last < WALK_EVENTS && !(ends_early && model.last > WALK_EVENTS / 2)) {
        if (draw (4) == 0)
            walk_publish (draw (8) ? 1 + draw (4) : 1 + draw (90));
        if (troubles_shards)
            walk_trouble_shards ();
        walk_step (1 + draw (draw (10) ? 60 : 3000));
    }
    if (ends_early) {
        walk_drain ();
    } else {
        walk_to_rest ();
        walk_quiet ();
        walk_drain ();
    }
    end (NULL);
}

static void test_a_walk_at_random (void **state)
{
    (void) state;
    const char *given = getenv ("SEED");
    uint64_t seed = given ? strtoull (given, NULL, 10) : (uint64_t) time (NULL) * 1000;
    for (unsigned i = 0; i < (given ? 1 : 25); i++, seed++) {
        print_message ("SEED=%" PRIu64 "\n", seed);
        walk (seed);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_nothing_is_taken_before_there_is_credit),
    cmocka_unit_test_setup_teardown (test_the_first_poll_has_no_after, begin, end),
    cmocka_unit_test_setup_teardown (test_a_page_is_handed_on_event_by_event, begin, end),
    cmocka_unit_test_setup_teardown (test_what_no_decision_wants_is_ignored_here, begin, end),
    cmocka_unit_test (test_a_trace_is_the_same_after_a_restart_and_another_elsewhere),
    cmocka_unit_test_setup_teardown (test_all_settled_is_acknowledged_at_once_by_the_next_long_poll, begin,
                                     end),
    cmocka_unit_test_setup_teardown (test_settled_out_of_order_acknowledges_up_to_the_oldest_that_waits,
                                     begin, end),
    cmocka_unit_test_setup_teardown (test_an_acknowledgement_in_flight_waits_its_interval, begin, end),
    cmocka_unit_test_setup_teardown (test_an_acknowledgement_is_not_repeated, begin, end),
    cmocka_unit_test_setup_teardown (test_the_first_outcome_of_an_event_is_counted_and_no_other, begin, end),
    cmocka_unit_test_setup_teardown (test_an_acknowledgement_that_failed_is_made_again, begin, end),
    cmocka_unit_test_setup_teardown (test_a_service_that_was_restored_is_asked_where_we_are, begin, end),
    cmocka_unit_test_setup_teardown (test_a_quiet_service_is_asked_once_a_minute_whether_it_has_what_it_had,
                                     begin, end),
    cmocka_unit_test_setup_teardown (test_a_check_that_is_cut_off_says_nothing, begin, end),
    cmocka_unit_test_setup_teardown (test_a_full_page_is_read_on_at_once, begin, end),
    cmocka_unit_test_setup_teardown (test_events_that_take_long_do_not_stop_reading, begin, end),
    cmocka_unit_test (test_full_pages_are_followed_by_larger_ones_up_to_a_thousand),
    cmocka_unit_test_setup_teardown (test_an_older_service_gives_a_hundred_however_many_are_asked_for, begin,
                                     end),
    cmocka_unit_test_setup_teardown (test_after_trouble_pages_are_small_again, begin, end),
    cmocka_unit_test_setup_teardown (test_pages_do_not_grow_again_to_what_was_too_large, begin, end),
    cmocka_unit_test_setup_teardown (test_a_look_into_a_gap_is_small_after_large_pages, begin, end),
    cmocka_unit_test (test_a_full_page_of_one_is_read_on_at_once),
    cmocka_unit_test (test_an_acknowledgement_does_not_make_a_full_page_forgotten),
    cmocka_unit_test (test_a_window_of_one_sees_beyond_an_element_without_an_id),
    cmocka_unit_test (test_what_no_decision_wants_leaves_the_window_to_others),
    cmocka_unit_test (test_the_window_stops_reading_and_settling_lets_it_go_on),
    cmocka_unit_test (test_credit_below_the_window_is_the_bound),
    cmocka_unit_test_setup_teardown (test_credit_taken_away_takes_nothing_from_a_page_under_way, begin, end),
    cmocka_unit_test (test_a_window_of_one_reads_one_after_another),
    cmocka_unit_test (test_a_window_of_one_does_not_hammer_a_quiet_service),
    cmocka_unit_test_setup_teardown (test_a_missing_id_holds_the_acknowledgement, begin, end),
    cmocka_unit_test_setup_teardown (test_the_missing_id_that_shows_up_is_handed_on, begin, end),
    cmocka_unit_test_setup_teardown (test_a_gap_closes_only_after_a_look_begun_behind_the_grace, begin, end),
    cmocka_unit_test_setup_teardown (
        test_a_look_that_is_answered_after_the_grace_but_began_within_closes_nothing, begin, end),
    cmocka_unit_test_setup_teardown (test_below_the_very_first_event_the_grace_is_short, begin, end),
    cmocka_unit_test_setup_teardown (test_the_short_grace_is_for_the_very_first_event_alone, begin, end),
    cmocka_unit_test_setup_teardown (test_the_event_before_the_first_shows_up_in_time, begin, end),
    cmocka_unit_test_setup_teardown (test_ids_far_apart_are_not_waited_for_one_by_one, begin, end),
    cmocka_unit_test_setup_teardown (test_an_element_without_an_id_does_not_hold_a_gap_for_ever, begin, end),
    cmocka_unit_test (test_a_late_event_waits_for_room_and_is_not_lost),
    cmocka_unit_test (test_a_late_event_without_room_keeps_its_gap_open_behind_the_grace),
    cmocka_unit_test (test_a_look_that_brings_only_what_lies_ahead_closes_the_gap_below_a_full_window),
    cmocka_unit_test_setup_teardown (test_what_two_polls_bring_is_handed_on_once, begin, end),
    cmocka_unit_test_setup_teardown (test_ids_that_go_backwards_are_taken_once_and_named, begin, end),
    cmocka_unit_test_setup_teardown (test_elements_without_an_id_fail_and_the_rest_goes_on, begin, end),
    cmocka_unit_test_setup_teardown (test_an_element_without_an_id_at_the_end_is_counted_once, begin, end),
    cmocka_unit_test_setup_teardown (test_a_page_of_nothing_usable_is_not_asked_for_in_a_loop, begin, end),
    cmocka_unit_test_setup_teardown (test_a_page_that_is_not_json, begin, end),
    cmocka_unit_test_setup_teardown (test_a_page_that_is_an_object, begin, end),
    cmocka_unit_test_setup_teardown (test_a_page_that_is_empty, begin, end),
    cmocka_unit_test_setup_teardown (test_a_page_that_is_too_large_is_asked_for_in_halves, begin, end),
    cmocka_unit_test_setup_teardown (test_a_page_that_breaks_off_gives_what_is_whole, begin, end),
    cmocka_unit_test_setup_teardown (test_a_look_that_breaks_off_closes_no_gap, begin, end),
    cmocka_unit_test_setup_teardown (test_a_service_that_does_not_hold_polls_is_asked_a_few_times_a_second,
                                     begin, end),
    cmocka_unit_test_setup_teardown (test_a_long_poll_that_ends_empty_is_asked_again_at_once, begin, end),
    cmocka_unit_test_setup_teardown (test_events_end_the_pause, begin, end),
    cmocka_unit_test_setup_teardown (test_a_poll_that_brings_only_what_is_known_is_paced, begin, end),
    cmocka_unit_test_setup_teardown (test_failures_back_off_and_recover, begin, end),
    cmocka_unit_test_setup_teardown (test_retry_after_is_honoured, begin, end),
    cmocka_unit_test_setup_teardown (test_a_secret_rejected_at_first_is_final_and_nothing_is_taken, begin,
                                     end),
    cmocka_unit_test_setup_teardown (test_a_secret_rejected_later_is_a_failure_that_passes, begin, end),
    cmocka_unit_test_setup_teardown (test_a_poll_that_is_held_means_that_the_service_works, begin, end),
    cmocka_unit_test_setup_teardown (test_a_service_that_hung_works_when_it_answers, begin, end),
    cmocka_unit_test_setup_teardown (test_a_poll_that_went_out_and_failed_does_not_mean_that_it_works, begin,
                                     end),
    cmocka_unit_test_setup_teardown (test_late_answers_of_other_polls_are_ignored, begin, end),
    cmocka_unit_test_setup_teardown (test_drained_at_once_when_all_is_told, begin, end),
    cmocka_unit_test_setup_teardown (test_a_position_on_a_poll_that_is_held_counts_as_told, begin, end),
    cmocka_unit_test (test_drained_before_anything_began),
    cmocka_unit_test_setup_teardown (test_the_last_acknowledgement_waits_for_what_is_unsettled, begin, end),
    cmocka_unit_test_setup_teardown (test_a_last_acknowledgement_that_is_held_is_cancelled, begin, end),
    cmocka_unit_test_setup_teardown (test_a_service_that_is_down_at_the_end_is_given_up, begin, end),
    cmocka_unit_test_setup_teardown (test_a_service_long_down_does_not_hold_up_the_end, begin, end),
    cmocka_unit_test_setup_teardown (test_a_service_that_failed_is_told_the_last_position_when_it_is_the_same,
                                     begin, end),
    cmocka_unit_test_setup_teardown (test_a_service_that_was_restored_is_not_told_the_last_position, begin,
                                     end),
    cmocka_unit_test_setup_teardown (test_a_restored_service_that_holds_the_question_does_not_hold_up_the_end,
                                     begin, end),
    cmocka_unit_test_setup_teardown (test_the_end_does_not_wait_an_hour_because_a_service_says_so, begin,
                                     end),
    cmocka_unit_test_setup_teardown (test_a_last_acknowledgement_that_reaches_nobody_ends_soon, begin, end),
    cmocka_unit_test_setup_teardown (test_nothing_new_is_taken_while_it_ends, begin, end),
    cmocka_unit_test_setup_teardown (test_a_gap_at_the_end_is_left_for_the_next_start, begin, end),
    cmocka_unit_test_setup_teardown (test_every_shard_is_asked_at_the_start, begin_shards, end),
    cmocka_unit_test (test_a_players_events_all_go_to_one_shard),
    cmocka_unit_test (test_a_shard_gets_no_more_than_its_credit),
    cmocka_unit_test (test_a_lost_shard_is_handed_nothing_while_the_others_go_on),
    cmocka_unit_test (test_a_lost_shard_takes_no_credit_from_the_others),
    cmocka_unit_test (test_a_shard_without_memory_gets_its_unsettled_events_again_once),
    cmocka_unit_test (test_what_is_read_again_may_lie_below_anything_known),
    cmocka_unit_test (test_what_waits_is_read_again_also_while_a_gap_is_open),
    cmocka_unit_test (test_a_look_at_what_waits_closes_no_gap_below),
    cmocka_unit_test (test_what_waits_below_all_that_is_known_is_asked_for_by_its_id),
    cmocka_unit_test (test_the_end_does_not_wait_for_events_nobody_holds),
    cmocka_unit_test (test_peers_that_are_no_shard_change_nothing),
    cmocka_unit_test (test_late_events_find_room_in_a_ring_full_of_settled_ones),
    cmocka_unit_test (test_a_walk_at_random),
};

int main (void)
{
    return cmocka_run_group_tests (tests, NULL, NULL);
}
