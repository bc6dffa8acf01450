/*  test_monitor.c - what a process knows about itself, and how it tells. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "actors/base/json.h"
#include "actors/base/monitor.h"
#include "proto/raw.h"
#include "proto/text.h"

enum { PAGE_SIZE = 32 * 1024, THREADS = 4, ROUNDS = 2000 };

static struct monitor *monitor;
static char page[PAGE_SIZE + 1];

static int begin (void **state)
{
    (void) state;
    monitor = monitor_new ();
    return monitor ? 0 : -1;
}

static int end (void **state)
{
    (void) state;
    monitor_destroy (&monitor);
    assert_null (monitor);
    return 0;
}

static const char *ready_page (void)
{
    size_t size = monitor_ready_page (monitor, page, PAGE_SIZE);
    assert_true (size < PAGE_SIZE);
    page[size] = '\0';
    return page;
}

static void check_metric (const char *line)
{
    char wanted[256];
    size_t size = monitor_metrics_page (monitor, page, PAGE_SIZE);
    assert_true (size < PAGE_SIZE);
    page[size] = '\0';
    snprintf (wanted, sizeof wanted, "\n%s\n", line);
    if (!strstr (page, wanted))
        fail_msg ("no line %s in:\n%s", line, page);
}

static void check_ready (const char *json)
{
    assert_string_equal (ready_page (), json);
}

static void test_ready_when_every_service_that_is_expected_is_up (void **state)
{
    (void) state;
    monitor_expect_service (monitor, SERVICE_EVENTS);
    monitor_expect_service (monitor, SERVICE_CURRENCY);
    assert_false (monitor_ready (monitor));
    check_ready ("{\"ready\":false,\"draining\":false,\"services\":{\"events\":{\"state\":\"unknown\"},"
                 "\"virtualcurrency\":{\"state\":\"unknown\"}}}\n");
    monitor_health (monitor, SERVICE_EVENTS, SERVICE_UP, NO_TEXT);
    monitor_health (monitor, SERVICE_CURRENCY, SERVICE_DOWN, TEXT_LITERAL ("HTTP 500"));
    assert_false (monitor_ready (monitor));
    check_ready ("{\"ready\":false,\"draining\":false,\"services\":{\"events\":{\"state\":\"up\"},"
                 "\"virtualcurrency\":{\"state\":\"down\",\"reason\":\"HTTP 500\"}}}\n");
    monitor_health (monitor, SERVICE_CURRENCY, SERVICE_UP, NO_TEXT);
    assert_true (monitor_ready (monitor));
    check_ready ("{\"ready\":true,\"draining\":false,\"services\":{\"events\":{\"state\":\"up\"},"
                 "\"virtualcurrency\":{\"state\":\"up\"}}}\n");
}

static const struct address shard = { ROLE_DECISION, 1 };

static void test_ready_when_every_peer_that_is_needed_is_up (void **state)
{
    (void) state;
    monitor_expect_peer (monitor, ROLE_INGEST, shard);
    assert_false (monitor_ready (monitor));
    check_ready ("{\"ready\":false,\"draining\":false,\"services\":{},\"peers\":[{\"of\":\"ingest\","
                 "\"peer\":\"decision/1\",\"state\":\"lost\"}]}\n");
    monitor_peer (monitor, ROLE_INGEST, shard, PEER_RESTARTED, NO_TEXT);
    assert_true (monitor_ready (monitor));
    monitor_peer (monitor, ROLE_INGEST, shard, PEER_LOST, TEXT_LITERAL ("speaks \"2\""));
    assert_false (monitor_ready (monitor));
    check_ready ("{\"ready\":false,\"draining\":false,\"services\":{},\"peers\":[{\"of\":\"ingest\","
                 "\"peer\":\"decision/1\",\"state\":\"lost\",\"reason\":\"speaks \\\"2\\\"\"}]}\n");
    monitor_peer (monitor, ROLE_INGEST, shard, PEER_UP, NO_TEXT);
    assert_true (monitor_ready (monitor));
    check_ready ("{\"ready\":true,\"draining\":false,\"services\":{},\"peers\":[{\"of\":\"ingest\","
                 "\"peer\":\"decision/1\",\"state\":\"up\"}]}\n");
}

static void test_callers_that_come_and_go_make_nobody_unready (void **state)
{
    (void) state;
    monitor_expect_peer (monitor, ROLE_INGEST, shard);
    monitor_peer (monitor, ROLE_INGEST, shard, PEER_UP, NO_TEXT);
    for (uint16_t i = 0; i < 2 * MONITOR_PEERS_MAX; i++) { /* more than are shown */
        monitor_peer (monitor, ROLE_STATS, (struct address){ ROLE_INGEST, i }, PEER_UP, NO_TEXT);
        monitor_peer (monitor, ROLE_STATS, (struct address){ ROLE_INGEST, i }, PEER_LOST, NO_TEXT);
    }
    assert_true (monitor_ready (monitor));
    monitor_peer (monitor, ROLE_INGEST, shard, PEER_LOST, NO_TEXT);
    assert_false (monitor_ready (monitor));
}

static void test_not_ready_any_more_once_it_drains (void **state)
{
    (void) state;
    monitor_expect_service (monitor, SERVICE_EVENTS);
    monitor_health (monitor, SERVICE_EVENTS, SERVICE_UP, NO_TEXT);
    assert_true (monitor_ready (monitor));
    monitor_drain (monitor);
    assert_false (monitor_ready (monitor));
    monitor_health (monitor, SERVICE_EVENTS, SERVICE_UP, NO_TEXT);
    assert_false (monitor_ready (monitor));
    check_metric ("guerdon_ready 0");
}

static void test_a_reason_of_any_bytes_leaves_the_page_json (void **state)
{
    (void) state;
    char reason[REASON_SIZE_MAX];
    for (unsigned first = 0; first < 256; first++) {
        for (unsigned i = 0; i < sizeof reason; i++)
            reason[i] = (char) (first + i);
        monitor_expect_service (monitor, SERVICE_USERMETA);
        monitor_health (monitor, SERVICE_USERMETA, SERVICE_DOWN,
                        (struct text){ reason, (uint32_t) sizeof reason });
        size_t size = monitor_ready_page (monitor, page, PAGE_SIZE);
        struct json_reader *reader = json_reader_new (REPLY_SIZE_MAX);
        assert_non_null (reader);
        struct raw raw = NO_RAW, found = NO_RAW;
        struct text text = NO_TEXT;
        json_reader_feed (reader, page, size);
        assert_int_equal (json_reader_finish (reader, &raw), BODY_JSON);
        assert_true (raw_path (raw, "services.usermeta.reason", &found) && raw_text (found, &text));
        assert_true (text_is_utf8 (text) && text.size > 0);
        json_reader_destroy (&reader);
    }
}

static void test_numbers_stand_in_the_metrics (void **state)
{
    (void) state;
    monitor_expect (monitor, ROLE_INGEST);
    monitor_expect (monitor, ROLE_STATS);
    monitor_expect_service (monitor, SERVICE_EVENTS);
    monitor_count (monitor, COUNTER_EVENTS, 5);
    monitor_count (monitor, COUNTER_EVENTS, 2);
    monitor_count (monitor, COUNTER_IGNORED, 7);
    monitor_gauge (monitor, ROLE_INGEST, GAUGE_POSITION_ACKED, 41);
    monitor_gauge (monitor, ROLE_INGEST, GAUGE_IN_FLIGHT, 9);
    monitor_gauge (monitor, ROLE_INGEST, GAUGE_IN_FLIGHT, 3);
    monitor_gauge (monitor, ROLE_INGEST, GAUGE_CREDIT, 17);
    monitor_messages (monitor, ROLE_INGEST, 10, 20, 1);
    monitor_messages (monitor, ROLE_INGEST, 1, 0, 0);
    monitor_http (monitor, SERVICE_EVENTS, HTTP_ANSWERED, 200, 30);
    monitor_http (monitor, SERVICE_EVENTS, HTTP_ANSWERED, 503, 4);
    monitor_http (monitor, SERVICE_EVENTS, HTTP_TIMEOUT, 0, 1000);
    monitor_health (monitor, SERVICE_EVENTS, SERVICE_UP, NO_TEXT);
    check_metric ("guerdon_events_total 7");
    check_metric ("guerdon_success_total 0");
    check_metric ("guerdon_ignored_total 7");
    check_metric ("guerdon_position_acked{actor=\"ingest\"} 41");
    check_metric ("guerdon_in_flight{actor=\"ingest\"} 3");
    check_metric ("guerdon_credit{actor=\"ingest\"} 17");
    check_metric ("guerdon_messages_total{actor=\"ingest\",direction=\"in\"} 11");
    check_metric ("guerdon_messages_total{actor=\"ingest\",direction=\"out\"} 20");
    check_metric ("guerdon_messages_total{actor=\"ingest\",direction=\"dropped\"} 1");
    check_metric ("guerdon_messages_total{actor=\"stats\",direction=\"in\"} 0");
    check_metric ("guerdon_http_requests_total{service=\"events\",result=\"2xx\"} 1");
    check_metric ("guerdon_http_requests_total{service=\"events\",result=\"5xx\"} 1");
    check_metric ("guerdon_http_requests_total{service=\"events\",result=\"timeout\"} 1");
    check_metric ("guerdon_http_milliseconds_total{service=\"events\"} 1034");
    check_metric ("guerdon_service_up{service=\"events\"} 1");
    check_metric ("guerdon_ready 1");
    assert_null (strstr (page, "decision"));
    assert_null (strstr (page, "usermeta"));
}

static uint64_t metric (const char *name)
{
    size_t size = monitor_metrics_page (monitor, page, PAGE_SIZE);
    page[size] = '\0';
    char *at = strstr (page, name);
    assert_non_null (at);
    return strtoull (at + strlen (name), NULL, 10);
}

static void test_the_oldest_event_is_told_by_its_age (void **state)
{
    (void) state;
    static const char name[] = "\nguerdon_oldest_seconds{actor=\"ingest\"} ";
    monitor_expect (monitor, ROLE_INGEST);
    assert_int_equal (metric (name), 0);
    monitor_gauge (monitor, ROLE_INGEST, GAUGE_OLDEST, (uint64_t) time (NULL) - 100);
    assert_in_range (metric (name), 100, 160);
    monitor_gauge (monitor, ROLE_INGEST, GAUGE_OLDEST,
                   (uint64_t) time (NULL) + 1000); /* the clock was set back */
    assert_int_equal (metric (name), 0);
}

static void test_http_requests_stand_in_buckets_by_how_long_they_took (void **state)
{
    (void) state;
    const uint64_t elapsed_ms[] = { 0, 1, 2, 3, 4, 5, 65536, 65537, UINT64_C (1) << 40 };
    const size_t count = sizeof elapsed_ms / sizeof *elapsed_ms;
    monitor_expect_service (monitor, SERVICE_USERMETA);
    for (size_t i = 0; i < count; i++)
        monitor_http (monitor, SERVICE_USERMETA, i % 2 ? HTTP_TIMEOUT : HTTP_ANSWERED, 200, elapsed_ms[i]);
    check_metric ("# TYPE guerdon_http_milliseconds histogram");
    check_metric ("guerdon_http_milliseconds_bucket{service=\"usermeta\",le=\"1\"} 2");
    check_metric ("guerdon_http_milliseconds_bucket{service=\"usermeta\",le=\"2\"} 3");
    check_metric ("guerdon_http_milliseconds_bucket{service=\"usermeta\",le=\"4\"} 5");
    check_metric ("guerdon_http_milliseconds_bucket{service=\"usermeta\",le=\"8\"} 6");
    check_metric ("guerdon_http_milliseconds_bucket{service=\"usermeta\",le=\"32768\"} 6");
    check_metric ("guerdon_http_milliseconds_bucket{service=\"usermeta\",le=\"65536\"} 7");
    check_metric ("guerdon_http_milliseconds_bucket{service=\"usermeta\",le=\"+Inf\"} 9");
    check_metric ("guerdon_http_milliseconds_count{service=\"usermeta\"} 9");
    check_metric ("guerdon_http_milliseconds_sum{service=\"usermeta\"} 1099511758864");
    assert_null (strstr (page, "bucket{service=\"events\""));
}

static void test_every_line_of_the_metrics_is_well_formed (void **state)
{
    (void) state;
    for (enum role role = ROLE_INGEST; role <= ROLE_STATS; role++)
        monitor_expect (monitor, role);
    for (enum service service = SERVICE_EVENTS; service <= SERVICE_CURRENCY; service++)
        monitor_expect_service (monitor, service);
    size_t size = monitor_metrics_page (monitor, page, PAGE_SIZE);
    assert_true (size > 1000 && size < PAGE_SIZE - 1024);
    assert_int_equal (page[size - 1], '\n');
    page[size] = '\0';
    char *next;
    for (char *line = page; *line; line = next) {
        char *end_of_line = strchr (line, '\n');
        assert_non_null (end_of_line);
        *end_of_line = '\0';
        next = end_of_line + 1;
        if (strncmp (line, "# HELP ", 7) == 0 || strncmp (line, "# TYPE ", 7) == 0)
            continue;
        char *space = strrchr (line, ' ');
        assert_non_null (space);
        char *last;
        strtod (space + 1, &last);
        assert_true (last > space + 1 && *last == '\0');
        assert_true (strncmp (line, "guerdon_", 8) == 0 || strncmp (line, "process_", 8) == 0);
    }
}

static void test_a_page_that_does_not_fit_is_cut_and_nothing_behind_it_touched (void **state)
{
    (void) state;
    monitor_expect (monitor, ROLE_INGEST);
    monitor_expect_service (monitor, SERVICE_EVENTS);
    monitor_health (monitor, SERVICE_EVENTS, SERVICE_DOWN, TEXT_LITERAL ("a reason"));
    for (size_t capacity = 1; capacity < 400; capacity++) {
        char *small = malloc (capacity);
        assert_non_null (small);
        assert_true (monitor_metrics_page (monitor, small, capacity) <= capacity);
        assert_true (monitor_ready_page (monitor, small, capacity) <= capacity);
        free (small);
    }
}

static void *hammer (void *context)
{
    (void) context;
    for (unsigned i = 0; i < ROUNDS; i++) {
        monitor_count (monitor, COUNTER_EVENTS, 1);
        monitor_messages (monitor, ROLE_DECISION, 1, 2, 0);
        monitor_health (monitor, SERVICE_EVENTS, i % 2 ? SERVICE_UP : SERVICE_DOWN, TEXT_LITERAL ("because"));
        monitor_gauge (monitor, ROLE_DECISION, GAUGE_IN_FLIGHT, i);
    }
    return NULL;
}

static void test_many_threads_at_once_lose_no_count (void **state)
{
    (void) state;
    pthread_t threads[THREADS];
    monitor_expect (monitor, ROLE_DECISION);
    monitor_expect_service (monitor, SERVICE_EVENTS);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal (pthread_create (&threads[i], NULL, hammer, NULL), 0);
    for (unsigned i = 0; i < 50; i++) {
        monitor_ready (monitor);
        monitor_ready_page (monitor, page, PAGE_SIZE);
        monitor_metrics_page (monitor, page, PAGE_SIZE);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join (threads[i], NULL);
    check_metric ("guerdon_events_total 8000");
    check_metric ("guerdon_messages_total{actor=\"decision\",direction=\"out\"} 16000");
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_ready_when_every_service_that_is_expected_is_up, begin, end),
        cmocka_unit_test_setup_teardown (test_ready_when_every_peer_that_is_needed_is_up, begin, end),
        cmocka_unit_test_setup_teardown (test_callers_that_come_and_go_make_nobody_unready, begin, end),
        cmocka_unit_test_setup_teardown (test_not_ready_any_more_once_it_drains, begin, end),
        cmocka_unit_test_setup_teardown (test_a_reason_of_any_bytes_leaves_the_page_json, begin, end),
        cmocka_unit_test_setup_teardown (test_numbers_stand_in_the_metrics, begin, end),
        cmocka_unit_test_setup_teardown (test_http_requests_stand_in_buckets_by_how_long_they_took, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_the_oldest_event_is_told_by_its_age, begin, end),
        cmocka_unit_test_setup_teardown (test_every_line_of_the_metrics_is_well_formed, begin, end),
        cmocka_unit_test_setup_teardown (test_a_page_that_does_not_fit_is_cut_and_nothing_behind_it_touched,
                                         begin, end),
        cmocka_unit_test_setup_teardown (test_many_threads_at_once_lose_no_count, begin, end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
