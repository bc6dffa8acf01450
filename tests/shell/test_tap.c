/*  test_tap.c - the tap of a process: who looks, what they get, and nobody. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/bus.h"
#include "actors/base/tap.h"
#include "proto/codec.h"
#include "proto/text.h"

enum { DEADLINE_MS = 60000, FLOOD = 20000 };

static void *elsewhere; /* of who looks */
static char directory[64];
static char endpoint[128];
static struct tap *tap;
static struct tap_mirror *mirror;
static struct tap_reader *reader;

static const struct address decision = { ROLE_DECISION, 0 };
static const struct address currency = { ROLE_CURRENCY_CLIENT, 1 };

static uint64_t now_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

static struct tap *open_tap (void)
{
    char reason[256] = "";
    struct tap *opened = tap_open (endpoint, "host:1", NULL, NULL, reason, sizeof reason);
    if (!opened)
        fail_msg ("%s", reason);
    return opened;
}

static int begin (void **state)
{
    (void) state;
    snprintf (directory, sizeof directory, "/tmp/guerdon-tap.XXXXXX");
    if (!mkdtemp (directory))
        return -1;
    snprintf (endpoint, sizeof endpoint, "ipc://%s/tap.sock", directory);
    elsewhere = bus_context_new ();
    tap = open_tap ();
    mirror = tap_mirror_new (tap, decision);
    return mirror ? 0 : -1;
}

static int end (void **state)
{
    (void) state;
    tap_reader_destroy (&reader);
    tap_mirror_destroy (&mirror);
    tap_close (&tap);
    bus_context_destroy (&elsewhere);
    unlink (endpoint + strlen ("ipc://"));
    return rmdir (directory);
}

/*  Gives `count` values as one message, as decision would. */
static void give (uint64_t trace, const char *user, unsigned count)
{
    uint8_t memory[4096];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_array (&packer, 4);
    pack_uint (&packer, PROTOCOL_VERSION);
    pack_uint (&packer, MESSAGE_GIVE);
    pack_uint (&packer, trace);
    pack_array (&packer, count);
    for (unsigned i = 0; i < count; i++) {
        pack_array (&packer, 7);
        pack_uint (&packer, trace + i);
        pack_uint (&packer, trace + i);
        pack_literal (&packer, user);
        pack_uint (&packer, 10);
        pack_literal (&packer, "gold");
        pack_literal (&packer, "promo1");
        pack_uint (&packer, 1);
    }
    tap_sent (mirror, currency, memory, packer.size);
}

/*  Somebody looks, and the actor knows. */
static void look (const char *prefix)
{
    char reason[256] = "";
    const char *endpoints[] = { endpoint };
    reader = tap_reader_new (elsewhere, endpoints, 1, NULL, reason, sizeof reason);
    if (!reader)
        fail_msg ("%s", reason);
    assert_true (tap_reader_want (reader, text_of (prefix)));
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (!tap_wanted (mirror))
        assert_true (now_ms () < deadline_ms);
}

static void read_message (const struct tap_record *record, struct message *message)
{
    struct decoder decoder;
    assert_int_equal (decode_begin (&decoder, record->message.data, record->message.size, true), DECODE_OK);
    assert_int_equal (decode_next (&decoder, message), DECODE_OK);
}

static struct tap_record next (struct message *message)
{
    struct tap_record record;
    assert_true (tap_reader_next (reader, DEADLINE_MS, &record));
    read_message (&record, message);
    return record;
}

static void test_nobody_looks (void **state)
{
    (void) state;
    assert_false (tap_wanted (mirror));
    assert_false (tap_wanted (NULL));
    give (1, "alice", 1);
    look ("");
    give (2, "alice", 1);
    struct message message;
    struct tap_record record = next (&message);
    assert_int_equal (message.trace, 2);
    assert_int_equal (record.sequence, 1);
}

static void test_the_socket_is_for_its_owner_only (void **state)
{
    (void) state;
    struct stat found;
    assert_int_equal (stat (endpoint + strlen ("ipc://"), &found), 0);
    assert_int_equal (found.st_mode & 0777, 0600);
}

static void test_a_batch_is_shown_value_by_value (void **state)
{
    (void) state;
    look ("decision give ");
    give (7, "alice", 3);
    for (uint64_t i = 0; i < 3; i++) {
        struct message message;
        struct tap_record record = next (&message);
        assert_int_equal (message.id, MESSAGE_GIVE);
        assert_int_equal (message.trace, 7 + i);
        assert_int_equal (record.sequence, i + 1);
        assert_true (text_equal (record.process, TEXT_LITERAL ("host:1")));
        assert_true (text_equal (record.direction, TEXT_LITERAL ("sent")));
        assert_true (text_equal (record.from, TEXT_LITERAL ("decision/0")));
        assert_true (text_equal (record.to, TEXT_LITERAL ("currency-client/1")));
        assert_true (text_equal (message.give.user, TEXT_LITERAL ("alice")));
    }
}

static void test_only_what_is_asked_for_is_sent (void **state)
{
    (void) state;
    look ("decision give bob");
    give (1, "alice", 5);
    give (2, "bob", 1);
    struct message message;
    struct tap_record record = next (&message);
    assert_int_equal (message.trace, 2);
    assert_int_equal (record.sequence, 6); /* counted for all */
}

static void test_the_body_of_an_answer_is_not_shown (void **state)
{
    (void) state;
    static const uint8_t body[] = { 0xa5, 'h', 'e', 'l', 'l', 'o' };
    struct message answer = { .id = MESSAGE_HTTP_ANSWER };
    answer.http_answer.status = 200;
    answer.http_answer.body = (struct raw){ body, sizeof body };
    look ("");
    tap_http_ended (mirror, SERVICE_CURRENCY, &answer);
    struct message message;
    struct tap_record record = next (&message);
    assert_int_equal (message.id, MESSAGE_HTTP_ANSWER);
    assert_int_equal (message.http_answer.status, 200);
    assert_true (message.http_answer.body.size <= 1); /* none, or nil */
    assert_true (text_equal (record.direction, TEXT_LITERAL ("received")));
    assert_true (text_equal (record.from, TEXT_LITERAL ("virtualcurrency")));
}

static void ask (uint64_t number, enum method method, const char *path)
{
    struct message request = { .id = MESSAGE_HTTP_REQUEST };
    request.http_request.request = number;
    request.http_request.method = method;
    request.http_request.path = text_of (path);
    request.http_request.timeout_ms = 1000;
    tap_http_begun (mirror, SERVICE_CURRENCY, &request);
}

static void answer (uint64_t number)
{
    struct message answer = { .id = MESSAGE_HTTP_ANSWER };
    answer.http_answer.request = number;
    answer.http_answer.status = 200;
    tap_http_ended (mirror, SERVICE_CURRENCY, &answer);
}

static void expect_answer (uint64_t number, const char *method, const char *path)
{
    struct message message;
    do
        next (&message);
    while (message.id != MESSAGE_HTTP_ANSWER);
    assert_int_equal (message.http_answer.request, number);
    assert_true (text_equal (message.http_answer.method, text_of (method)));
    assert_true (text_equal (message.http_answer.path, text_of (path)));
}

/*  Also of a request that was made while nobody looked. */
static void test_an_answer_says_what_it_answers (void **state)
{
    (void) state;
    ask (5, METHOD_POST, "/rewards");
    ask (6, METHOD_GET, "/auth/{secret}/alice");
    look ("");
    answer (6);
    expect_answer (6, "GET", "/auth/{secret}/alice");
    answer (5);
    expect_answer (5, "POST", "/rewards");
    answer (5); /* once only */
    expect_answer (5, "", "");
    ask (7, METHOD_GET, "/left");
    tap_http_cancelled (mirror, 7);
    tap_http_cancelled (mirror, 8);
    answer (7);
    expect_answer (7, "", "");
}

/*  What is kept of calls is bounded: the oldest is given up, and a long path cut. */
static void test_more_calls_than_are_kept (void **state)
{
    (void) state;
    enum { MANY = 200 };
    static char path[5000];
    memset (path, 'x', sizeof path - 1);
    path[0] = '/';
    look ("");
    for (uint64_t i = 1; i <= MANY; i++)
        ask (i, METHOD_POST, path);
    answer (1);
    expect_answer (1, "", "");
    answer (MANY);
    struct message message;
    do
        next (&message);
    while (message.id != MESSAGE_HTTP_ANSWER);
    const struct text cut = message.http_answer.path;
    assert_true (cut.size > 100 && cut.size < 1000);
    assert_memory_equal (cut.data, path, 100);
    assert_memory_equal (cut.data + cut.size - 3, "\xe2\x80\xa6", 3);
}

static void test_rubbish_is_no_record (void **state)
{
    (void) state;
    struct tap_record record;
    static const uint8_t rubbish[][6] = {
        { 0 }, { 0x99, 1, 2 }, { 0x91, 1 }, { 0xdd, 0xff, 0xff, 0xff, 0xff }
    };
    for (size_t i = 0; i < sizeof rubbish / sizeof *rubbish; i++)
        for (uint32_t size = 0; size <= sizeof rubbish[i]; size++)
            assert_false (tap_record_read ((struct raw){ rubbish[i], size }, &record));
    give (0, "", 0);
    tap_sent (mirror, currency, rubbish, sizeof rubbish);
}

/*  A reader that does not read loses, and can tell how much: what it gets and
    what is missing is what was said, and an actor never waits. */
static void test_a_reader_that_stands_still (void **state)
{
    (void) state;
    look ("");
    for (uint64_t i = 1; i <= FLOOD; i++)
        give (i, "alice", 1);
    struct message message = { .trace = 0 };
    struct tap_record record = { .sequence = 0 };
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    uint64_t got = 0;
    while (tap_reader_next (reader, got ? 200 : DEADLINE_MS, &record))
        got++;
    assert_true (got > 0 && got <= FLOOD);
    /*  After such a flood the budget may have to recover: till then all is lost. */
    while (message.trace != FLOOD + 1) {
        assert_true (now_ms () < deadline_ms);
        give (FLOOD + 1, "alice", 1);
        if (tap_reader_next (reader, 100, &record))
            read_message (&record, &message);
    }
    assert_true (record.sequence + record.lost >= FLOOD + 1);
}

static void test_it_comes_back (void **state)
{
    (void) state;
    look ("");
    give (1, "alice", 1);
    struct message message;
    next (&message);
    tap_mirror_destroy (&mirror);
    tap_close (&tap);
    tap = open_tap ();
    mirror = tap_mirror_new (tap, decision);
    assert_non_null (mirror);
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    /*  Who looks asks again, as soon as it looks again. */
    struct tap_record record;
    while (!tap_wanted (mirror)) {
        assert_true (now_ms () < deadline_ms);
        assert_false (tap_reader_next (reader, 10, &record));
    }
    give (2, "alice", 1);
    next (&message);
    assert_int_equal (message.trace, 2);
}

static void test_an_endpoint_that_cannot_be (void **state)
{
    (void) state;
    char reason[256] = "";
    assert_null (tap_open ("ipc:///nowhere/at/all", "host:1", NULL, NULL, reason, sizeof reason));
    assert_non_null (strstr (reason, "ipc:///nowhere/at/all"));
    const char *endpoints[] = { "nonsense" };
    assert_null (tap_reader_new (elsewhere, endpoints, 1, NULL, reason, sizeof reason));
    assert_non_null (strstr (reason, "nonsense"));
    assert_null (tap_mirror_new (NULL, decision));
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_nobody_looks, begin, end),
        cmocka_unit_test_setup_teardown (test_the_socket_is_for_its_owner_only, begin, end),
        cmocka_unit_test_setup_teardown (test_a_batch_is_shown_value_by_value, begin, end),
        cmocka_unit_test_setup_teardown (test_only_what_is_asked_for_is_sent, begin, end),
        cmocka_unit_test_setup_teardown (test_the_body_of_an_answer_is_not_shown, begin, end),
        cmocka_unit_test_setup_teardown (test_an_answer_says_what_it_answers, begin, end),
        cmocka_unit_test_setup_teardown (test_more_calls_than_are_kept, begin, end),
        cmocka_unit_test_setup_teardown (test_rubbish_is_no_record, begin, end),
        cmocka_unit_test_setup_teardown (test_a_reader_that_stands_still, begin, end),
        cmocka_unit_test_setup_teardown (test_it_comes_back, begin, end),
        cmocka_unit_test_setup_teardown (test_an_endpoint_that_cannot_be, begin, end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
