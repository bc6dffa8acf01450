/*  test_top.c - what top reads out of status pages, and what it makes of it. */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/base/json.h"
#include "actors/base/monitor.h"
#include "bin/top_print.h"
#include "include/policy.h"

enum { PAGE_SIZE = 32 * 1024, NOW_S = 1700000000, TEXT_SIZE = 1024 * 1024 };

static struct top_process *processes;
static struct top_line *lines;
static char page[PAGE_SIZE + 1];
static char *text;

static int begin (void **state)
{
    (void) state;
    processes = calloc (TOP_PROCESSES_MAX, sizeof *processes);
    lines = calloc (TOP_PROCESSES_MAX * TOP_ROWS_MAX, sizeof *lines);
    text = calloc (1, TEXT_SIZE);
    return processes && lines && text ? 0 : -1;
}

static int end (void **state)
{
    (void) state;
    free (processes);
    free (lines);
    free (text);
    return 0;
}

static struct text page_of (struct monitor *monitor)
{
    return (struct text){ page, (uint32_t) monitor_metrics_page (monitor, page, PAGE_SIZE) };
}

/*  Two looks at a page each, a second apart. */
static void looks (struct top_process *process, const char *before, const char *now)
{
    static const char head[] =
        "guerdon_build_info{version=\"1.2.3\"} 1\nprocess_start_time_seconds 1699999000\n";
    assert_true (fetch_address_read (&process->address, TEXT_LITERAL ("host:1"), 8000));
    const char *const pages[] = { before, now };
    for (unsigned i = 0; i < 2; i++) {
        process->before = process->now;
        process->now = (struct top_sample){ .reached = true, .taken_ms = 5000 + 1000 * i };
        snprintf (page, sizeof page, "%s%s", head, pages[i]);
        assert_true (top_sample_metrics (&process->now, text_of (page)));
        top_compare (process);
    }
}

/*  A figure of the named row of the first process; NAN for null. */
static double figure (enum top_table table, const char *row, const char *key)
{
    size_t count, column_count;
    const struct top_column *columns = top_columns (table, &column_count);
    count = top_lines (processes, 1, table, "process", NOW_S, lines);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < column_count; j++)
            if (strcmp (lines[i].row->name, row) == 0 && strcmp (columns[j].key, key) == 0)
                return top_cell (&columns[j], &lines[i], NOW_S);
    fail_msg ("no %s of %s", key, row);
    return NAN;
}

static void check (enum top_table table, const char *row, const char *key, double expected)
{
    double found = figure (table, row, key);
    if (isnan (expected) ? !isnan (found) : !(found > expected - 0.001 && found < expected + 0.001))
        fail_msg ("%s of %s is %f, not %f", key, row, found, expected);
}

/*  ---- addresses ----------------------------------------------------------- */

static void test_addresses_as_people_write_them (void **state)
{
    (void) state;
    static const struct {
        const char *given, *name; /* NULL: refused */
    } rows[] = {
        { "localhost:8001", "localhost:8001" },
        { "10.0.0.5", "10.0.0.5:8000" },
        { ":9", "127.0.0.1:9" },
        { "[::1]:65535", "[::1]:65535" },
        { "[::1]", "[::1]:8000" },
        { "fe80::2", "[fe80::2]:8000" },
        { "a-b.example:1", "a-b.example:1" },
        { "", NULL },
        { ":", NULL },
        { "host:", NULL },
        { "host:0", NULL },
        { "host:65536", NULL },
        { "host:+1", NULL },
        { "host:1x", NULL },
        { "[::1", NULL },
        { "[]:1", NULL },
        { "[::1]1", NULL },
        { "http://host:1", NULL },
        { "host/x:1", NULL },
        { "ho st:1", NULL },
        { "ho\r\nst:1", NULL },
        { "10.0.0.300:1", NULL },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fetch_address address;
        bool good = fetch_address_read (&address, text_of (rows[i].given), 8000);
        if (good != (rows[i].name != NULL))
            fail_msg ("%s is %s", rows[i].given, good ? "taken" : "refused");
        if (good)
            assert_string_equal (address.name, rows[i].name);
    }
    char longest[300];
    memset (longest, 'a', sizeof longest);
    struct fetch_address address;
    assert_false (fetch_address_read (&address, (struct text){ longest, sizeof longest }, 8000));
}

/*  ---- pages --------------------------------------------------------------- */

static void test_every_figure_of_our_own_page_is_found (void **state)
{
    (void) state;
    struct monitor *monitor = monitor_new ();
    assert_non_null (monitor);
    for (enum role role = ROLE_INGEST; role <= ROLE_STATS; role++)
        monitor_expect (monitor, role);
    for (enum service service = SERVICE_EVENTS; service <= SERVICE_CURRENCY; service++)
        monitor_expect_service (monitor, service);
    monitor_count (monitor, COUNTER_SUCCESS, 7);
    monitor_messages (monitor, ROLE_DECISION, 10, 20, 30);
    monitor_gauge (monitor, ROLE_INGEST, GAUGE_POSITION_SEEN, 50);
    monitor_gauge (monitor, ROLE_INGEST, GAUGE_POSITION_SETTLED, 40);
    monitor_gauge (monitor, ROLE_INGEST, GAUGE_POSITION_ACKED, 25);
    monitor_gauge (monitor, ROLE_INGEST, GAUGE_CREDIT, 99);
    monitor_gauge (monitor, ROLE_CURRENCY_CLIENT, GAUGE_RETRIES, 3);
    monitor_gauge (monitor, ROLE_CURRENCY_CLIENT, GAUGE_QUEUE, 12);
    monitor_gauge (monitor, ROLE_CURRENCY_CLIENT, GAUGE_BREAKER, BREAKER_OPEN);
    monitor_gauge (monitor, ROLE_USERMETA_CLIENT, GAUGE_CONCURRENCY, 16);
    monitor_http (monitor, SERVICE_CURRENCY, HTTP_ANSWERED, 200, 3);
    monitor_http (monitor, SERVICE_CURRENCY, HTTP_ANSWERED, 503, 3);
    monitor_http (monitor, SERVICE_CURRENCY, HTTP_TIMEOUT, 0, 3);
    monitor_health (monitor, SERVICE_CURRENCY, SERVICE_UP, NO_TEXT);
    struct top_sample *now = &processes->now;
    now->reached = true;
    assert_true (top_sample_metrics (now, page_of (monitor)));
    assert_string_equal (now->version, GUERDON_VERSION);
    assert_int_equal (now->actor_count, 5);
    assert_int_equal (now->service_count, 3);
    check (TABLE_PROCESSES, "", "success", 7);
    check (TABLE_ACTORS, "decision", "in", 10);
    check (TABLE_ACTORS, "decision", "out", 20);
    check (TABLE_ACTORS, "decision", "queue", NAN);
    check (TABLE_ACTORS, "ingest", "breaker", NAN);
    check (TABLE_ACTORS, "currency-client", "queue", 12);
    check (TABLE_ACTORS, "currency-client", "breaker", BREAKER_OPEN);
    check (TABLE_ACTORS, "usermeta-client", "breaker", BREAKER_CLOSED);
    check (TABLE_ACTORS, "usermeta-client", "concurrency", 16);
    check (TABLE_ACTORS, "decision", "dropped", 30);
    check (TABLE_ACTORS, "ingest", "credit", 99);
    check (TABLE_ACTORS, "decision", "credit", NAN);
    check (TABLE_ACTORS, "currency-client", "retries", 3);
    check (TABLE_LAG, "ingest", "unsettled", 10);
    check (TABLE_LAG, "ingest", "unacked", 15);
    check (TABLE_SERVICES, "virtualcurrency", "requests", 3);
    check (TABLE_SERVICES, "virtualcurrency", "failed", 2);
    check (TABLE_SERVICES, "virtualcurrency", "p50_ms_since_start", 3);
    check (TABLE_SERVICES, "events", "p50_ms_since_start", NAN);
    assert_int_equal (now->services[0].figures[SERVICE_IS_UP], 0);
    assert_int_equal (now->services[2].figures[SERVICE_IS_UP], 1);
    assert_int_equal (now->services[0].bucket_count, MONITOR_BUCKETS + 1);
    monitor_destroy (&monitor);
}

static void test_rubbish_in_a_page_is_passed_over (void **state)
{
    (void) state;
    static const char *const pages[] = {
        "",
        "\n\n\n",
        "x",
        "{",
        "guerdon_events_total",
        "guerdon_events_total ",
        "guerdon_events_total -1",
        "guerdon_events_total 1.5",
        "guerdon_events_total{ 7",
        "guerdon_events_total{a 7",
        "guerdon_events_total{a= 7",
        "guerdon_events_total{a=\"b 7",
        "guerdon_events_total{a=\"b\" 7",
        "guerdon_events_total{a=\"b\",} 7",
        "guerdon_events_total 99999999999999999999999",
        "# guerdon_events_total 7",
        "guerdon_in_flight 7",
        "guerdon_in_flight{actor=\"\x1b[31m\"} x",
        "guerdon_http_milliseconds_bucket{service=\"a\",le=\"x\"} 7",
        "guerdon_http_milliseconds_bucket{service=\"a\"} 7",
        "guerdon_events_total{a=\"1\",b=\"1\",c=\"1\",d=\"1\",e=\"1\"} 7",
    };
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        struct top_sample *sample = &processes->now;
        *sample = (struct top_sample){ .reached = false };
        /*  Memory of exactly its size, so that a byte too far is seen. */
        size_t size = strlen (pages[i]);
        char *exact = malloc (size + !size);
        assert_non_null (exact);
        memcpy (exact, pages[i], size);
        assert_false (top_sample_metrics (sample, (struct text){ exact, (uint32_t) size }));
        assert_int_equal (sample->process.has, 0);
        assert_int_equal (sample->actor_count, 0);
        for (size_t row = 0; row < sample->service_count; row++)
            assert_int_equal (sample->services[row].bucket_count, 0);
        free (exact);
    }
}

static void test_more_actors_than_there_is_room_for_are_left_out (void **state)
{
    (void) state;
    size_t size = 0;
    for (unsigned i = 0; i < 3 * TOP_ROWS_MAX; i++)
        size += (size_t) snprintf (page + size, sizeof page - size, "guerdon_in_flight{actor=\"a%u\"} %u\n",
                                   i, i);
    top_sample_metrics (&processes->now, text_of (page));
    assert_int_equal (processes->now.actor_count, TOP_ROWS_MAX);
}

/*  ---- figures ------------------------------------------------------------- */

static void test_rates_are_what_grew_between_two_looks (void **state)
{
    (void) state;
    looks (processes, "guerdon_events_total 10\nguerdon_retries_total{actor=\"decision\"} 7\n",
           "guerdon_events_total 25\nguerdon_retries_total{actor=\"decision\"} 7\n");
    check (TABLE_PROCESSES, "", "events_rate", 15);
    check (TABLE_PROCESSES, "", "success_rate", NAN);
    check (TABLE_PROCESSES, "", "uptime_s", 1000);
    check (TABLE_ACTORS, "decision", "retries_rate", 0);
}

static void test_a_process_that_began_anew_has_no_rates_yet (void **state)
{
    (void) state;
    looks (processes, "guerdon_events_total 10\n", "guerdon_events_total 3\n");
    check (TABLE_PROCESSES, "", "events_rate", NAN);
    processes->before.process.figures[PROCESS_EVENTS] = 1;
    check (TABLE_PROCESSES, "", "events_rate", 2);
    processes->before.process.figures[PROCESS_STARTED_S]--;
    top_compare (processes);
    check (TABLE_PROCESSES, "", "events_rate", NAN);
    looks (processes, "guerdon_events_total 1\n", "guerdon_events_total 3\n");
    processes->before.reached = false;
    top_compare (processes);
    check (TABLE_PROCESSES, "", "events_rate", NAN);
}

#define BUCKET(le, count) "guerdon_http_milliseconds_bucket{service=\"events\",le=\"" le "\"} " count "\n"

static void test_percentiles_lie_within_their_bucket (void **state)
{
    (void) state;
    const char *before = BUCKET ("1", "100") BUCKET ("2", "100") BUCKET ("4", "100") BUCKET ("+Inf", "100");
    looks (processes, before, before);
    check (TABLE_SERVICES, "events", "p50_ms", NAN);
    check (TABLE_SERVICES, "events", "p50_ms_since_start", 0.5);
    looks (processes, before,
           BUCKET ("1", "100") BUCKET ("2", "150") BUCKET ("4", "200") BUCKET ("+Inf", "200"));
    check (TABLE_SERVICES, "events", "p50_ms", 2);
    check (TABLE_SERVICES, "events", "p99_ms", 3.96);
    check (TABLE_SERVICES, "events", "p50_ms_since_start", 1);
    looks (processes, before,
           BUCKET ("1", "100") BUCKET ("2", "100") BUCKET ("4", "110") BUCKET ("+Inf", "120"));
    check (TABLE_SERVICES, "events", "p99_ms", 4); /* longer, nobody knows how much */
}

static void test_lag_before_anything_was_settled_is_what_is_in_flight (void **state)
{
    (void) state;
    const char *now = "guerdon_position_seen{actor=\"ingest\"} 100000\n"
                      "guerdon_position_settled{actor=\"ingest\"} 0\n"
                      "guerdon_position_acked{actor=\"ingest\"} 0\n"
                      "guerdon_in_flight{actor=\"ingest\"} 12\n";
    looks (processes, now, now);
    check (TABLE_LAG, "ingest", "unsettled", 12);
    check (TABLE_LAG, "ingest", "unacked", 0);
    processes->now.actors[0].figures[ACTOR_SETTLED] = 99998;
    check (TABLE_LAG, "ingest", "unsettled", 2);
    check (TABLE_LAG, "ingest", "unacked", NAN);
}

static void test_lines_are_sorted_by_any_column_that_is_told (void **state)
{
    (void) state;
    looks (&processes[0], "", "guerdon_in_flight{actor=\"b\"} 5\nguerdon_in_flight{actor=\"c\"} 9\n");
    looks (&processes[1], "",
           "guerdon_in_flight{actor=\"a\"} 7\nguerdon_messages_total{actor=\"d\",direction=\"in\"} 1\n");
    static const struct {
        const char *sort, *order;
    } rows[] = { { "process", "bcad" },
                 { "in-flight", "cabd" },
                 { "actor", "abcd" },
                 { "p99", "bcad" },
                 { "queue", "bcad" } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_true (top_sort_known (rows[i].sort));
        size_t count = top_lines (processes, 2, TABLE_ACTORS, rows[i].sort, NOW_S, lines);
        assert_int_equal (count, 4);
        for (size_t j = 0; j < count; j++)
            assert_int_equal (lines[j].row->name[0], rows[i].order[j]);
    }
    assert_false (top_sort_known (""));
    assert_false (top_sort_known ("nothing"));
}

/*  ---- what is shown ------------------------------------------------------- */

static void ready (struct top_sample *sample, const char *json)
{
    struct json_reader *reader = json_reader_new (REPLY_SIZE_MAX);
    struct raw raw = NO_RAW;
    assert_non_null (reader);
    json_reader_feed (reader, json, strlen (json));
    json_reader_finish (reader, &raw);
    top_sample_ready (sample, raw);
    json_reader_destroy (&reader);
}

static struct top_view view_of (size_t count)
{
    return (struct top_view){
        .processes = processes, .count = count, .sort = "process", .now_s = NOW_S, .lines = lines
    };
}

static const char *shown (size_t count)
{
    struct top_view view = view_of (count);
    struct builder builder;
    builder_init (&builder, text, TEXT_SIZE);
    top_print_text (&view, &builder);
    assert_false (builder.overflow);
    return text;
}

static void shows (const char *words)
{
    if (!strstr (text, words))
        fail_msg ("%s is not in:\n%s", words, text);
}

static void test_what_another_process_says_cannot_write_to_the_terminal (void **state)
{
    (void) state;
    looks (processes, "",
           "guerdon_service_up{service=\"events\"} 0\nguerdon_in_flight{actor=\"a\x1b[31m\x07\"} 1\n");
    ready (&processes->now,
           "{\"ready\":false,\"draining\":true,\"services\":{\"events\":{\"state\":\"down\\u001b[2J\","
           "\"reason\":\"a "
           "\\u001b]0;title\\u0007\\r\\n "
           "reason\"}},\"peers\":[{\"of\":\"ingest\",\"peer\":\"decision/1\",\"state\":"
           "\"lost\",\"reason\":\"\\u009b1m\"},{\"of\":\"ingest\",\"peer\":\"stats/0\",\"state\":\"up\"}]}");
    shown (1);
    for (const char *at = text; *at; at++)
        assert_true (*at == '\n' || ((unsigned char) *at >= ' ' && *at != 127));
    assert_null (strstr (text, "\xc2\x9b"));
    shows ("draining");
    shows ("down");
    shows ("decision/1");
    assert_null (strstr (text, "stats/0"));
}

static void test_ready_of_any_form_does_no_harm (void **state)
{
    (void) state;
    static const char *const forms[] = {
        "",
        "7",
        "[]",
        "{",
        "{\"services\":7,\"peers\":{}}",
        "{\"services\":{\"events\":[]},\"peers\":[7,[],{}]}",
        "{\"draining\":\"yes\",\"services\":{\"events\":{\"state\":7,\"reason\":[]}}}",
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        looks (processes, "", "guerdon_service_up{service=\"events\"} 1\n");
        ready (&processes->now, forms[i]);
        shown (1);
        shows ("events");
        shows ("up");
    }
}

static void test_a_breaker_is_told_in_words (void **state)
{
    (void) state;
    static const struct {
        unsigned value;
        const char *word; /* NULL: not known */
    } rows[] = { { BREAKER_CLOSED, "closed" },
                 { BREAKER_HALF_OPEN, "half-open" },
                 { BREAKER_OPEN, "open" },
                 { BREAKER_OPEN + 1, NULL },
                 { UINT32_MAX, NULL } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char metrics[64], words[128];
        snprintf (metrics, sizeof metrics, "guerdon_breaker{actor=\"a\"} %u\n", rows[i].value);
        looks (processes, "", metrics);
        shown (1);
        /*  IN/s, OUT/s, IN FLIGHT, QUEUE and LIMIT are not known. */
        const char *word = rows[i].word ? rows[i].word : "-";
        snprintf (words, sizeof words, "a    %9s%9s%11s%9s%9s%11s", "-", "-", "-", "-", "-", word);
        shows (words);
        struct top_view view = view_of (1);
        struct packer packer;
        packer_init (&packer, text, TEXT_SIZE);
        top_print_object (&view, &packer);
        size_t size = 0;
        char *json = json_write (packer_raw (&packer), NO_TEXT, &size);
        assert_non_null (json);
        snprintf (words, sizeof words, rows[i].word ? "\"breaker\":\"%s\"" : "\"breaker\":null", word);
        assert_non_null (memmem (json, size, words, strlen (words)));
        free (json);
    }
}

static void test_who_does_not_answer_is_shown_as_such (void **state)
{
    (void) state;
    looks (&processes[0], "", "guerdon_ready 1\n");
    assert_true (fetch_address_read (&processes[1].address, TEXT_LITERAL ("gone:2"), 0));
    snprintf (processes[1].now.reason, sizeof processes[1].now.reason, "Connection refused");
    shown (2);
    shows ("1 of 2 processes answer");
    shows ("host:1   ready");
    shows ("gone:2   unreachable: Connection refused");
}

static void test_as_many_processes_as_there_may_be_fit (void **state)
{
    (void) state;
    for (size_t i = 0; i < TOP_PROCESSES_MAX; i++) {
        struct top_process *process = &processes[i];
        looks (process, "", "guerdon_ready 1\n");
        process->now.actor_count = process->now.service_count = TOP_ROWS_MAX;
        process->now.peer_count = TOP_PEERS_MAX;
        for (size_t row = 0; row < TOP_ROWS_MAX; row++) {
            memset (process->now.services[row].reason, 'r', REASON_SIZE_MAX);
            process->now.actors[row].has = process->now.services[row].has = UINT32_MAX;
        }
        for (size_t peer = 0; peer < TOP_PEERS_MAX; peer++)
            memset (process->now.peers[peer].reason, 'r', REASON_SIZE_MAX);
    }
    struct top_view view = view_of (TOP_PROCESSES_MAX);
    char *memory = malloc (TOP_PRINT_SIZE_MAX);
    assert_non_null (memory);
    struct builder builder;
    struct packer packer;
    size_t size = 0;
    builder_init (&builder, memory, TOP_PRINT_SIZE_MAX);
    top_print_text (&view, &builder);
    assert_false (builder.overflow);
    packer_init (&packer, memory, TOP_PRINT_SIZE_MAX);
    top_print_object (&view, &packer);
    assert_false (packer.overflow);
    char *json = json_write (packer_raw (&packer), NO_TEXT, &size);
    assert_non_null (json);
    free (json);
    free (memory);
}

static void test_a_screen_is_never_larger_than_the_terminal (void **state)
{
    (void) state;
    struct builder builder;
    builder_init (&builder, text, TEXT_SIZE);
    top_print_screen (TEXT_LITERAL ("abcdef\nab\n\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\nx\ny\n"), 4, 3, &builder);
    assert_string_equal (text,
                         "\x1b[H\x1b[Kabc\r\n\x1b[Kab\r\n\x1b[K\xc3\xa9\xc3\xa9\xc3\xa9\r\n\x1b[Kx\x1b[J");
    builder_init (&builder, text, TEXT_SIZE);
    top_print_screen (TEXT_LITERAL ("abc"), 4, 3, &builder);
    assert_string_equal (text, "\x1b[H\x1b[Kabc\x1b[J");
}

#define TEST(name) cmocka_unit_test_setup_teardown (name, begin, end)

int main (void)
{
    const struct CMUnitTest tests[] = {
        TEST (test_addresses_as_people_write_them),
        TEST (test_every_figure_of_our_own_page_is_found),
        TEST (test_rubbish_in_a_page_is_passed_over),
        TEST (test_more_actors_than_there_is_room_for_are_left_out),
        TEST (test_rates_are_what_grew_between_two_looks),
        TEST (test_a_process_that_began_anew_has_no_rates_yet),
        TEST (test_percentiles_lie_within_their_bucket),
        TEST (test_lag_before_anything_was_settled_is_what_is_in_flight),
        TEST (test_lines_are_sorted_by_any_column_that_is_told),
        TEST (test_what_another_process_says_cannot_write_to_the_terminal),
        TEST (test_ready_of_any_form_does_no_harm),
        TEST (test_a_breaker_is_told_in_words),
        TEST (test_who_does_not_answer_is_shown_as_such),
        TEST (test_as_many_processes_as_there_may_be_fit),
        TEST (test_a_screen_is_never_larger_than_the_terminal),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
