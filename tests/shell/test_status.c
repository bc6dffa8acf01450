/*  test_status.c - the status pages, over a real connection. */

#include "tests/shell/http_talk.h"

#include <pthread.h>

#include "actors/base/json.h"
#include "actors/base/status.h"
#include "proto/raw.h"
#include "proto/text.h"

static struct monitor *monitor;
static struct status *status;

static int begin (void **state)
{
    (void) state;
    char reason[256] = "";
    monitor = monitor_new ();
    status = status_new ("127.0.0.1", 0, monitor, reason, sizeof reason);
    return status ? 0 : -1;
}

static int end (void **state)
{
    (void) state;
    status_destroy (&status);
    assert_null (status);
    status_destroy (&status);
    monitor_destroy (&monitor);
    return 0;
}

/*  One request on a connection of its own; the reply's memory is to be freed. */
static struct talk_reply ask (const char *method, const char *target, int expected)
{
    int fd = talk_open (status_port (status));
    struct talk_reply reply = talk_on (fd, method, target, NULL, expected);
    close (fd);
    return reply;
}

static void check (const char *method, const char *target, int expected, const char *body)
{
    struct talk_reply reply = ask (method, target, expected);
    assert_string_equal (reply.body, body);
    free (reply.memory);
}

static void check_about (const char *target)
{
    struct talk_reply reply = ask ("GET", target, 200);
    assert_non_null (strcasestr (reply.head, "content-type: application/json; charset=UTF-8\r\n"));
    assert_non_null (strcasestr (reply.head, "x-request-id: "));
    struct json_reader *reader = json_reader_new (REPLY_SIZE_MAX);
    struct raw raw = NO_RAW, found = NO_RAW;
    struct text text = NO_TEXT;
    assert_non_null (reader);
    json_reader_feed (reader, reply.body, reply.body_size);
    assert_int_equal (json_reader_finish (reader, &raw), BODY_JSON);
    assert_true (raw_path (raw, "type", &found) && raw_text (found, &text));
    assert_true (text_equal (text, TEXT_LITERAL ("rewards")));
    assert_true (raw_path (raw, "version", &found) && raw_text (found, &text));
    assert_true (text_equal (text, TEXT_LITERAL (GUERDON_VERSION)));
    assert_true (raw_path (raw, "hostname", &found) && raw_text (found, &text) && text.size > 0);
    assert_true (raw_path (raw, "description", &found) && raw_text (found, &text) && text.size > 0);
    assert_true (raw_path (raw, "startDate", &found) && raw_text (found, &text));
    assert_int_equal (text.size, strlen ("2026-11-21T00:00:00.000Z"));
    assert_true (text.data[10] == 'T' && text.data[19] == '.' && text.data[23] == 'Z');
    json_reader_destroy (&reader);
    free (reply.memory);
}

static void test_about_says_what_runs (void **state)
{
    (void) state;
    check_about ("/about");
    check_about ("/rewards/v1/about");
}

static void test_ping_gives_the_token_back (void **state)
{
    (void) state;
    check ("GET", "/ping/_health_check", 200, "\"pong/_health_check\"");
    check ("GET", "/rewards/v1/ping/abc", 200, "\"pong/abc\"");
    check ("GET", "/ping/", 200, "\"pong/\"");
    check ("GET", "/ping/a%20b?c=d", 200, "\"pong/a b\"");
    check ("GET", "/ping/%22%5C%0A", 200, "\"pong/\\\"\\\\\\n\"");
    check ("GET", "/ping/%C3%A9", 200, "\"pong/\xc3\xa9\"");
    check ("GET", "/ping/a%2Fb", 200, "\"pong/a/b\"");
}

static void test_a_token_that_is_none (void **state)
{
    (void) state;
    char target[2048] = "/ping/";
    struct talk_reply reply = ask ("GET", "/ping/%FF", 400);
    free (reply.memory);
    memset (target + 6, 'x', 1024);
    reply = ask ("GET", target, 200);
    assert_int_equal (reply.body_size, 1024 + strlen ("\"pong/\""));
    free (reply.memory);
    target[6 + 1024] = 'x';
    reply = ask ("GET", target, 414);
    free (reply.memory);
}

static void test_head_gives_no_body (void **state)
{
    (void) state;
    static const char *const targets[] = { "/ping/x", "/rewards/v1/ping/x", "/about", "/health", "/metrics" };
    int fd = talk_open (status_port (status));
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        struct talk_reply reply = talk_on (fd, "HEAD", targets[i], NULL, 200);
        free (reply.memory);
        reply = talk_on (fd, "GET", "/ping/next", NULL, 200); /* the next reply starts clean */
        assert_string_equal (reply.body, "\"pong/next\"");
        free (reply.memory);
    }
    close (fd);
}

static void test_ready_follows_the_services_and_the_end (void **state)
{
    (void) state;
    monitor_expect_service (monitor, SERVICE_EVENTS);
    check ("GET", "/ready", 503,
           "{\"ready\":false,\"draining\":false,\"services\":{\"events\":{\"state\":\"unknown\"}}}\n");
    monitor_health (monitor, SERVICE_EVENTS, SERVICE_UP, NO_TEXT);
    check ("GET", "/ready", 200,
           "{\"ready\":true,\"draining\":false,\"services\":{\"events\":{\"state\":\"up\"}}}\n");
    monitor_drain (monitor);
    check ("GET", "/ready", 503,
           "{\"ready\":false,\"draining\":true,\"services\":{\"events\":{\"state\":\"up\"}}}\n");
    check ("GET", "/health", 200, "{\"healthy\":true}\n");
}

static void test_the_metrics_are_prometheus_text (void **state)
{
    (void) state;
    monitor_count (monitor, COUNTER_EVENTS, 3);
    struct talk_reply reply = ask ("GET", "/metrics", 200);
    assert_non_null (strcasestr (reply.head, "content-type: text/plain; version=0.0.4"));
    assert_non_null (strstr (reply.body, "\nguerdon_events_total 3\n"));
    free (reply.memory);
}

static void test_what_is_not_served (void **state)
{
    (void) state;
    static const char *const targets[] = {
        "/",        "/abou",       "/about/", "/aboutx",  "/ping",    "/ping/a/b",         "/readyx",
        "/Metrics", "/rewards/v1", "//about", "/%61bout", "/health/", "/rewards/v1/health"
    };
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        struct talk_reply reply = ask ("GET", targets[i], 404);
        assert_non_null (strstr (reply.body, "\"code\":\"ResourceNotFound\""));
        free (reply.memory);
    }
}

static void test_other_methods_are_refused (void **state)
{
    (void) state;
    static const char *const methods[] = { "POST", "PUT", "DELETE", "PATCH" };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        struct talk_reply reply = ask (methods[i], "/about", 405);
        assert_non_null (strstr (reply.body, "\"code\":\"MethodNotAllowed\""));
        free (reply.memory);
    }
}

static void test_a_port_that_is_taken_is_named (void **state)
{
    (void) state;
    char reason[256] = "";
    char wanted[32];
    snprintf (wanted, sizeof wanted, "127.0.0.1:%u", (unsigned) status_port (status));
    assert_null (status_new ("127.0.0.1", status_port (status), monitor, reason, sizeof reason));
    assert_non_null (strstr (reason, wanted));
    check ("GET", "/ping/still", 200, "\"pong/still\"");
}

static void *change (void *context)
{
    (void) context;
    for (unsigned i = 0; i < 2000; i++) {
        monitor_health (monitor, SERVICE_EVENTS, i % 2 ? SERVICE_UP : SERVICE_DOWN, TEXT_LITERAL ("because"));
        monitor_count (monitor, COUNTER_EVENTS, 1);
    }
    return NULL;
}

static void test_pages_are_whole_while_numbers_change (void **state)
{
    (void) state;
    pthread_t thread;
    monitor_expect_service (monitor, SERVICE_EVENTS);
    int fd = talk_open (status_port (status));
    assert_int_equal (pthread_create (&thread, NULL, change, NULL), 0);
    for (unsigned i = 0; i < 100; i++) {
        talk_ask (fd, "GET", i % 2 ? "/ready" : "/metrics", "", NULL, 0);
        struct talk_reply reply = talk_hear (fd, false);
        assert_true (reply.status == 200 || reply.status == 503);
        assert_int_equal (reply.body[reply.body_size - 1], '\n');
        free (reply.memory);
    }
    pthread_join (thread, NULL);
    close (fd);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_about_says_what_runs, begin, end),
        cmocka_unit_test_setup_teardown (test_ping_gives_the_token_back, begin, end),
        cmocka_unit_test_setup_teardown (test_a_token_that_is_none, begin, end),
        cmocka_unit_test_setup_teardown (test_head_gives_no_body, begin, end),
        cmocka_unit_test_setup_teardown (test_ready_follows_the_services_and_the_end, begin, end),
        cmocka_unit_test_setup_teardown (test_the_metrics_are_prometheus_text, begin, end),
        cmocka_unit_test_setup_teardown (test_what_is_not_served, begin, end),
        cmocka_unit_test_setup_teardown (test_other_methods_are_refused, begin, end),
        cmocka_unit_test_setup_teardown (test_a_port_that_is_taken_is_named, begin, end),
        cmocka_unit_test_setup_teardown (test_pages_are_whole_while_numbers_change, begin, end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
