/*  test_http_server.c - the HTTP server, over real sockets.

    The handler echoes what it got as plain text, so that a test sees
    what arrived. Paths that begin with /keep are kept: a later request for
    /release answers them, or the tick does once the test says so.
*/
#include "tests/shell/http_talk.h"

#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <sched.h>
#include <time.h>

#include "actors/base/http_server.h"
#include "proto/text.h"

enum { BODY_SIZE_MAX = 4096, KEPT_MAX = 300 };

struct echo {
    struct http_exchange *kept[KEPT_MAX];
    size_t kept_count;
    atomic_uint keeping; /* how many are kept; read by the tests */
    atomic_uint gone;
    atomic_bool release; /* the tick is to answer what is kept */
    atomic_long tick_ms; /* what the tick returns */
};

static struct echo echo;
static struct http_server *server;

static void release (void)
{
    while (echo.kept_count > 0)
        http_exchange_answer (echo.kept[--echo.kept_count], 200, "text/plain", TEXT_LITERAL ("released"));
    atomic_store (&echo.keeping, 0);
}

static void on_request (void *context, struct http_exchange *exchange,
                        const struct http_server_request *request)
{
    static char memory[256 * 1024];
    struct builder builder;
    (void) context;
    builder_init (&builder, memory, sizeof memory);
    if (request->path.size >= 5 && memcmp (request->path.data, "/keep", 5) == 0) {
        echo.kept[echo.kept_count++] = exchange;
        atomic_store (&echo.keeping, (unsigned) echo.kept_count);
        return;
    }
    if (text_equal (request->path, TEXT_LITERAL ("/release")))
        release ();
    if (text_equal (request->path, TEXT_LITERAL ("/empty"))) {
        http_exchange_answer (exchange, 204, NULL, NO_TEXT);
        return;
    }
    builder_literal (&builder, request->method);
    builder_literal (&builder, "|");
    builder_add (&builder, request->path);
    builder_literal (&builder, "|");
    builder_add (&builder, request->query);
    builder_literal (&builder, "|");
    builder_add (&builder, request->body);
    http_exchange_answer (exchange, 200, "text/plain", builder_text (&builder));
}

static void on_gone (void *context, struct http_exchange *exchange)
{
    (void) context;
    for (size_t i = 0; i < echo.kept_count; i++)
        if (echo.kept[i] == exchange)
            echo.kept[i] = echo.kept[--echo.kept_count];
    atomic_store (&echo.keeping, (unsigned) echo.kept_count);
    atomic_fetch_add (&echo.gone, 1);
}

static long on_tick (void *context)
{
    (void) context;
    if (atomic_load (&echo.release))
        release ();
    return atomic_load (&echo.tick_ms);
}

static int start (void **state)
{
    (void) state;
    char reason[256] = "";
    const struct http_server_handler handler = { .request = on_request,
                                                 .gone = on_gone,
                                                 .tick = on_tick,
                                                 .body_size_max = BODY_SIZE_MAX,
                                                 .connections_max = KEPT_MAX };
    memset (&echo, 0, sizeof echo);
    atomic_store (&echo.tick_ms, -1);
    server = http_server_new ("127.0.0.1", 0, &handler, reason, sizeof reason);
    if (!server)
        print_error ("%s\n", reason);
    return server ? 0 : -1;
}

static int stop (void **state)
{
    (void) state;
    http_server_destroy (&server);
    assert_null (server);
    return 0;
}

/*  Waits for a condition, not for a time; false after the deadline. */
static bool becomes (atomic_uint *value, unsigned wanted)
{
    time_t deadline = time (NULL) + TALK_DEADLINE_S;
    while (atomic_load (value) != wanted && time (NULL) < deadline)
        sched_yield ();
    return atomic_load (value) == wanted;
}

static int connect_here (void)
{
    return talk_open (http_server_port (server));
}

/*  Asks on a connection of its own and expects a body. */
static void expect_echo (const char *method, const char *target, const char *body, const char *wanted)
{
    int fd = connect_here ();
    struct talk_reply reply = talk_on (fd, method, target, body, 200);
    assert_string_equal (reply.body, wanted);
    free (reply.memory);
    close (fd);
}

/*  ---- requests ------------------------------------------------------------ */

static void test_target_arrives_as_it_was_sent (void **state)
{
    (void) state;
    expect_echo ("GET", "/a%2Fb%00%zz+%C3%A9/../x?q=%26&p=+1&q=2", NULL,
                 "GET|/a%2Fb%00%zz+%C3%A9/../x|q=%26&p=+1&q=2|");
    expect_echo ("GET", "/?", NULL, "GET|/||");
    expect_echo ("GET", "/x?a?b", NULL, "GET|/x|a?b|");
}

static void test_body_arrives_whole (void **state)
{
    (void) state;
    expect_echo ("POST", "/x", "{\"a\":1}", "POST|/x||{\"a\":1}");
    expect_echo ("POST", "/x", "", "POST|/x||");
}

static void test_body_in_chunks (void **state)
{
    (void) state;
    int fd = connect_here ();
    talk_ask (fd, "POST", "/x", "Transfer-Encoding: chunked\r\n", NULL, 0);
    const char *chunks = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_true (talk_send (fd, chunks, strlen (chunks)));
    struct talk_reply reply = talk_hear (fd, false);
    assert_string_equal (reply.body, "POST|/x||abcde");
    free (reply.memory);
    close (fd);
}

static void test_head_has_no_body (void **state)
{
    (void) state;
    int fd = connect_here ();
    struct talk_reply reply = talk_on (fd, "HEAD", "/x", NULL, 200);
    assert_int_equal (talk_length (reply.head), strlen ("HEAD|/x||"));
    free (reply.memory);
    reply = talk_on (fd, "GET", "/y", NULL, 200);
    assert_string_equal (reply.body, "GET|/y||");
    free (reply.memory);
    close (fd);
}

static void test_reply_without_content (void **state)
{
    (void) state;
    int fd = connect_here ();
    struct talk_reply reply = talk_on (fd, "GET", "/empty", NULL, 204);
    assert_int_equal (reply.body_size, 0);
    free (reply.memory);
    close (fd);
}

static void test_connection_is_kept_alive (void **state)
{
    (void) state;
    int fd = connect_here ();
    for (int i = 0; i < 100; i++) {
        struct talk_reply reply = talk_on (fd, i % 2 ? "POST" : "GET", "/x", i % 2 ? "b" : NULL, 200);
        assert_null (strcasestr (reply.head, "connection: close"));
        free (reply.memory);
    }
    close (fd);
}

static void test_longest_path_fits (void **state)
{
    (void) state;
    char *target = malloc (PATH_SIZE_MAX + 2);
    memset (target, 'x', PATH_SIZE_MAX + 1);
    target[0] = '/';
    target[PATH_SIZE_MAX + 1] = 0;
    int fd = connect_here ();
    struct talk_reply reply = talk_on (fd, "GET", target, NULL, 200);
    assert_int_equal (reply.body_size, strlen ("GET|||") + PATH_SIZE_MAX + 1);
    free (reply.memory);
    close (fd);
    free (target);
}

/*  ---- request ids --------------------------------------------------------- */

static void expect_id (const char *header, const char *wanted, bool there)
{
    int fd = connect_here ();
    talk_ask (fd, "GET", "/x", header, NULL, 0);
    struct talk_reply reply = talk_hear (fd, false);
    assert_int_equal (reply.status, 200);
    assert_non_null (strcasestr (reply.head, "\r\nx-request-id: "));
    assert_int_equal (strcasestr (reply.head, wanted) != NULL, there);
    free (reply.memory);
    close (fd);
}

static void test_request_id_comes_back (void **state)
{
    (void) state;
    expect_id ("X-Request-Id: abc-123\r\n", "x-request-id: abc-123\r\n", true);
    expect_id ("", "x-request-id: \r\n", false);
}

static void test_request_id_that_is_rubbish_is_replaced (void **state)
{
    (void) state;
    char longest[256];
    memset (longest, 'y', sizeof longest);
    memcpy (longest, "X-Request-Id: ", 14);
    memcpy (longest + 100, "\r\n", 3);
    expect_id (longest, "yyy", false);
    expect_id ("X-Request-Id: a b\r\n", "a b", false);
    expect_id ("X-Request-Id: \x80\r\n", "\x80", false);
}

static void test_two_requests_have_two_ids (void **state)
{
    (void) state;
    int fd = connect_here ();
    struct talk_reply first = talk_on (fd, "GET", "/x", NULL, 200);
    struct talk_reply second = talk_on (fd, "GET", "/x", NULL, 200);
    char *a = strcasestr (first.head, "x-request-id");
    char *b = strcasestr (second.head, "x-request-id");
    *strchr (a, '\r') = 0;
    *strchr (b, '\r') = 0;
    assert_string_not_equal (a, b);
    free (first.memory);
    free (second.memory);
    close (fd);
}

/*  ---- rubbish ------------------------------------------------------------- */

static void test_body_too_large_is_413_and_the_connection_lives (void **state)
{
    (void) state;
    static char body[BODY_SIZE_MAX + 2];
    memset (body, 'x', sizeof body - 1);
    int fd = connect_here ();
    struct talk_reply reply = talk_on (fd, "POST", "/x", body, 413);
    assert_non_null (strstr (reply.body, "\"code\":\"RequestEntityTooLarge\""));
    free (reply.memory);
    body[BODY_SIZE_MAX] = 0;
    reply = talk_on (fd, "POST", "/x", body, 200);
    assert_int_equal (reply.body_size, strlen ("POST|/x||") + BODY_SIZE_MAX);
    free (reply.memory);
    close (fd);
}

static void test_body_said_to_be_huge_is_refused_before_it_comes (void **state)
{
    (void) state;
    const char *lengths[] = { "Content-Length: 99999999999\r\n", "Content-Length: 9223372036854775806\r\n" };
    for (size_t i = 0; i < 2; i++) {
        int fd = connect_here ();
        talk_ask (fd, "POST", "/x", lengths[i], NULL, 0);
        struct talk_reply reply = talk_hear (fd, false);
        assert_int_equal (reply.status, 413);
        free (reply.memory);
        close (fd);
    }
}

static void test_endless_chunks_end_the_connection (void **state)
{
    (void) state;
    static char chunk[8 + 65536 + 3];
    int size = snprintf (chunk, sizeof chunk, "10000\r\n");
    memset (chunk + size, 'x', 65536);
    memcpy (chunk + size + 65536, "\r\n", 2);
    size_t sent = 0;
    int fd = connect_here ();
    talk_ask (fd, "POST", "/x", "Transfer-Encoding: chunked\r\n", NULL, 0);
    while (sent < (size_t) 256 * 1024 * 1024 && talk_send (fd, chunk, (size_t) size + 65536 + 2))
        sent += 65536;
    assert_true (sent < (size_t) 64 * 1024 * 1024);
    close (fd);
    expect_echo ("GET", "/still", NULL, "GET|/still||");
}

static void test_rubbish_and_half_requests_do_no_harm (void **state)
{
    (void) state;
    static const char *rubbish[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nabc",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    };
    for (size_t i = 0; i < sizeof rubbish / sizeof rubbish[0]; i++) {
        int fd = connect_here ();
        talk_send (fd, rubbish[i], strlen (rubbish[i]));
        expect_echo ("GET", "/still", NULL, "GET|/still||");
        close (fd);
        expect_echo ("GET", "/still", NULL, "GET|/still||");
    }
}

static void test_head_that_never_ends_is_refused (void **state)
{
    (void) state;
    static char line[1024];
    snprintf (line, sizeof line, "X: %0*d\r\n", 1000, 0);
    int fd = connect_here ();
    talk_send (fd, "GET /x HTTP/1.1\r\n", 17);
    size_t lines = 0;
    while (lines < 10000 && talk_send (fd, line, strlen (line)))
        lines++;
    assert_true (lines < 10000);
    close (fd);
    expect_echo ("GET", "/still", NULL, "GET|/still||");
}

/*  ---- kept exchanges ------------------------------------------------------ */

static void test_kept_exchange_is_answered_from_another_request (void **state)
{
    (void) state;
    int fd = connect_here ();
    talk_ask (fd, "GET", "/keep", "", NULL, 0);
    assert_true (becomes (&echo.keeping, 1));
    expect_echo ("GET", "/release", NULL, "GET|/release||");
    struct talk_reply reply = talk_hear (fd, false);
    assert_string_equal (reply.body, "released");
    free (reply.memory);
    reply = talk_on (fd, "GET", "/x", NULL, 200);
    free (reply.memory);
    close (fd);
}

static void test_kept_exchange_is_answered_from_the_tick (void **state)
{
    (void) state;
    atomic_store (&echo.tick_ms, 10);
    int fd = connect_here ();
    talk_ask (fd, "POST", "/keep", "", "body", 4);
    assert_true (becomes (&echo.keeping, 1));
    atomic_store (&echo.release, true);
    struct talk_reply reply = talk_hear (fd, false);
    assert_int_equal (reply.status, 200);
    assert_string_equal (reply.body, "released");
    free (reply.memory);
    close (fd);
}

static void test_client_that_hangs_up_is_noticed_while_kept (void **state)
{
    (void) state;
    int fd = connect_here ();
    int stays = connect_here ();
    talk_ask (fd, "GET", "/keep", "", NULL, 0);
    talk_ask (stays, "GET", "/keep", "", NULL, 0);
    assert_true (becomes (&echo.keeping, 2));
    close (fd);
    assert_true (becomes (&echo.gone, 1));
    expect_echo ("GET", "/release", NULL, "GET|/release||");
    struct talk_reply reply = talk_hear (stays, false);
    assert_string_equal (reply.body, "released");
    free (reply.memory);
    close (stays);
}

static void test_stopping_with_kept_exchanges_drops_them (void **state)
{
    (void) state;
    int fd = connect_here ();
    talk_ask (fd, "GET", "/keep", "", NULL, 0);
    assert_true (becomes (&echo.keeping, 1));
    http_server_destroy (&server);
    assert_int_equal (atomic_load (&echo.gone), 1);
    char byte;
    assert_true (recv (fd, &byte, 1, 0) <= 0);
    close (fd);
}

/*  The numbers at which MHD's own threads were seen to stall. */
static void test_many_busy_connections_do_not_stall (void **state)
{
    (void) state;
    enum { MANY = 128, ROUNDS = 5 };
    int fds[MANY];
    for (int i = 0; i < MANY; i++)
        fds[i] = connect_here ();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < MANY; i++)
            talk_ask (fds[i], "GET", "/x", "", NULL, 0);
        for (int i = 0; i < MANY; i++) {
            struct talk_reply reply = talk_hear (fds[i], false);
            assert_int_equal (reply.status, 200);
            free (reply.memory);
        }
    }
    for (int i = 0; i < MANY; i++)
        close (fds[i]);
}

static void test_many_kept_at_once_are_all_answered (void **state)
{
    (void) state;
    enum { MANY = 200 };
    int fds[MANY];
    atomic_store (&echo.tick_ms, 10);
    for (int i = 0; i < MANY; i++) {
        fds[i] = connect_here ();
        talk_ask (fds[i], "GET", "/keep", "", NULL, 0);
    }
    assert_true (becomes (&echo.keeping, MANY));
    atomic_store (&echo.release, true);
    for (int i = 0; i < MANY; i++) {
        struct talk_reply reply = talk_hear (fds[i], false);
        assert_string_equal (reply.body, "released");
        free (reply.memory);
        close (fds[i]);
    }
}

/*  ---- addresses ----------------------------------------------------------- */

static struct http_server *second (const char *host, uint16_t port, char *reason, size_t reason_size)
{
    const struct http_server_handler handler = { .request = on_request,
                                                 .body_size_max = 1,
                                                 .connections_max = 1 };
    return http_server_new (host, port, &handler, reason, reason_size);
}

static void test_second_server_on_the_port_fails_and_says_where (void **state)
{
    (void) state;
    char reason[256];
    char wanted[256];
    static const char *hosts[] = { "127.0.0.1", "0.0.0.0" };
    for (size_t i = 0; i < 2; i++) {
        assert_null (second (hosts[i], http_server_port (server), reason, sizeof reason));
        snprintf (wanted, sizeof wanted, "cannot listen on %s:%u: address already in use", hosts[i],
                  (unsigned) http_server_port (server));
        assert_string_equal (reason, wanted);
    }
    expect_echo ("GET", "/still", NULL, "GET|/still||");
}

static void test_port_is_free_again_after_destroy (void **state)
{
    (void) state;
    char reason[256];
    uint16_t port = http_server_port (server);
    int fd = connect_here ();
    free (talk_on (fd, "GET", "/x", NULL, 200).memory);
    http_server_destroy (&server);
    struct http_server *again = second ("127.0.0.1", port, reason, sizeof reason);
    assert_non_null (again);
    assert_int_equal (http_server_port (again), port);
    http_server_destroy (&again);
    close (fd);
}

/*  A label of more than 63 bytes is no name, so nobody is asked for it. */
static void test_host_that_is_not_there_is_named (void **state)
{
    (void) state;
    char reason[256];
    char host[101];
    char wanted[256];
    memset (host, 'x', sizeof host - 1);
    host[sizeof host - 1] = 0;
    snprintf (wanted, sizeof wanted, "cannot listen on %s:0: ", host);
    assert_null (second (host, 0, reason, sizeof reason));
    assert_int_equal (strncmp (reason, wanted, strlen (wanted)), 0);
    assert_true (strlen (reason) > strlen (wanted));
    assert_null (second ("192.0.2.1", 1234, reason, sizeof reason));
    assert_string_equal (reason, "cannot listen on 192.0.2.1:1234: cannot assign requested address");
}

static void test_reason_that_does_not_fit_is_cut (void **state)
{
    (void) state;
    char reason[12];
    assert_null (second ("192.0.2.1", 1234, reason, sizeof reason));
    assert_string_equal (reason, "cannot list");
}

static void test_names_and_ipv6 (void **state)
{
    (void) state;
    char reason[256];
    struct http_server *named = second ("localhost", 0, reason, sizeof reason);
    assert_non_null (named);
    http_server_destroy (&named);
    struct http_server *six = second ("::1", 0, reason, sizeof reason);
    if (!six) {
        /*  A machine without IPv6 must at least say which address it was. */
        assert_non_null (strstr (reason, "cannot listen on [::1]:0: "));
        return;
    }
    int fd = socket (AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons (http_server_port (six)) };
    address.sin6_addr = in6addr_loopback;
    assert_int_equal (connect (fd, (struct sockaddr *) &address, sizeof address), 0);
    free (talk_on (fd, "GET", "/six", NULL, 200).memory);
    close (fd);
    http_server_destroy (&six);
}

/*  ---- URLs ---------------------------------------------------------------- */

static void expect_decoding (const char *encoded, const char *wanted, size_t wanted_size)
{
    char out[64];
    size_t size = http_decode (text_of (encoded), out);
    assert_int_equal (size, wanted_size);
    assert_memory_equal (out, wanted, wanted_size);
}

static void test_decoding_of_good_and_bad_escapes (void **state)
{
    (void) state;
    expect_decoding ("a%20b+c", "a b+c", 5);
    expect_decoding ("%00%ff%C3%a9", "\0\xff\xc3\xa9", 4);
    expect_decoding ("%", "%", 1);
    expect_decoding ("%4", "%4", 2);
    expect_decoding ("%41", "A", 1);
    expect_decoding ("%zz%4g%%41", "%zz%4g%A", 8);
    expect_decoding ("", "", 0);
}

static void expect_parameter (const char *query, const char *name, const char *wanted)
{
    struct text value;
    assert_true (http_query (text_of (query), name, &value));
    assert_int_equal (value.size, strlen (wanted));
    assert_memory_equal (value.data, wanted, value.size);
}

static void test_query_parameters (void **state)
{
    (void) state;
    struct text value;
    expect_parameter ("a=1&b=2", "a", "1");
    expect_parameter ("a=1&b=2", "b", "2");
    expect_parameter ("a=1&a=2", "a", "1");
    expect_parameter ("after=", "after", "");
    expect_parameter ("after", "after", "");
    expect_parameter ("x=a=b", "x", "a=b");
    expect_parameter ("&&x=%26&", "x", "%26");
    assert_false (http_query (text_of ("xa=1&ab=2"), "a", &value));
    assert_false (http_query (text_of (""), "a", &value));
    assert_false (http_query (NO_TEXT, "a", &value));
}

#define SERVED(test) cmocka_unit_test_setup_teardown (test, start, stop)

int main (void)
{
    const struct CMUnitTest tests[] = {
        SERVED (test_target_arrives_as_it_was_sent),
        SERVED (test_body_arrives_whole),
        SERVED (test_body_in_chunks),
        SERVED (test_head_has_no_body),
        SERVED (test_reply_without_content),
        SERVED (test_connection_is_kept_alive),
        SERVED (test_longest_path_fits),
        SERVED (test_request_id_comes_back),
        SERVED (test_request_id_that_is_rubbish_is_replaced),
        SERVED (test_two_requests_have_two_ids),
        SERVED (test_body_too_large_is_413_and_the_connection_lives),
        SERVED (test_body_said_to_be_huge_is_refused_before_it_comes),
        SERVED (test_endless_chunks_end_the_connection),
        SERVED (test_rubbish_and_half_requests_do_no_harm),
        SERVED (test_head_that_never_ends_is_refused),
        SERVED (test_kept_exchange_is_answered_from_another_request),
        SERVED (test_kept_exchange_is_answered_from_the_tick),
        SERVED (test_client_that_hangs_up_is_noticed_while_kept),
        SERVED (test_stopping_with_kept_exchanges_drops_them),
        SERVED (test_many_busy_connections_do_not_stall),
        SERVED (test_many_kept_at_once_are_all_answered),
        SERVED (test_second_server_on_the_port_fails_and_says_where),
        SERVED (test_port_is_free_again_after_destroy),
        SERVED (test_host_that_is_not_there_is_named),
        SERVED (test_reason_that_does_not_fit_is_cut),
        SERVED (test_names_and_ipv6),
        cmocka_unit_test (test_decoding_of_good_and_bad_escapes),
        cmocka_unit_test (test_query_parameters),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
