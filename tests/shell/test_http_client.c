/*  test_http_client.c - the HTTP client against a server that misbehaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "actors/base/http_client.h"
#include "actors/base/json.h"
#include "proto/text.h"

#include "tests/shell/misbehaving.c"

/*  ---- a client and what it delivered ------------------------------------- */

#define SECRET "s/3 c?r&t"
#define SECRET_ENCODED "s%2F3%20c%3Fr%26t"

enum { HEARD_MAX = 2048, DEADLINE_MS = 10000, TIMEOUT_MS = 5000, CONNECTIONS = 4 };

/*  One delivery, copied. */
struct heard {
    enum message_id id;
    uint64_t trace;
    struct http_answer answer; /* its views are void */
    char reason[256];
    char *body; /* as JSON; NULL for nil */
};

struct bench {
    struct misbehaving *server;
    struct http_client *client;
    struct heard heard[HEARD_MAX];
    size_t heard_count;
    size_t answers;
    char base[256];
    void (*on_heard) (struct bench *bench, const struct message *message);
};

static struct bench bench;

static void on_deliver (void *context, const struct message *message)
{
    assert_ptr_equal (context, &bench);
    assert_true (bench.heard_count < HEARD_MAX);
    struct heard *heard = &bench.heard[bench.heard_count++];
    *heard = (struct heard){ .id = message->id, .trace = message->trace };
    if (message->id == MESSAGE_HTTP_SENT) {
        heard->answer.request = message->http_sent.request;
    } else {
        assert_int_equal (message->id, MESSAGE_HTTP_ANSWER);
        size_t size;
        bench.answers++;
        heard->answer = message->http_answer;
        snprintf (heard->reason, sizeof heard->reason, "%.*s", (int) message->http_answer.reason.size,
                  message->http_answer.reason.data);
        if (message->http_answer.body.size > 0)
            heard->body = json_write (message->http_answer.body, NO_TEXT, &size);
        assert_null (strstr (heard->reason, SECRET));
        assert_null (strstr (heard->reason, SECRET_ENCODED));
    }
    if (bench.on_heard)
        bench.on_heard (&bench, message);
}

static void client_begin (const char *base, unsigned connections)
{
    char reason[256] = "";
    struct http_target target = { SERVICE_USERMETA, base, SECRET };
    bench.client = http_client_new (&target, connections, on_deliver, &bench, reason, sizeof reason);
    assert_non_null (bench.client);
    assert_int_equal (http_client_wait_ms (bench.client), -1);
}

/*  Starts a server with this script, and a client of it. */
static void begin_with (const struct misbehaving_step *steps, size_t count, unsigned connections)
{
    bench.server = misbehaving_new (steps, count);
    snprintf (bench.base, sizeof bench.base, "http://127.0.0.1:%u/usermeta/v1",
              (unsigned) misbehaving_port (bench.server));
    client_begin (bench.base, connections);
}

#define BEGIN(...)                                                                                           \
    begin_with ((const struct misbehaving_step[]){ __VA_ARGS__ },                                            \
                sizeof ((const struct misbehaving_step[]){ __VA_ARGS__ }) /                                  \
                    sizeof (struct misbehaving_step),                                                        \
                CONNECTIONS)

static int end (void **state)
{
    (void) state;
    http_client_destroy (&bench.client);
    misbehaving_destroy (&bench.server);
    for (size_t i = 0; i < bench.heard_count; i++)
        free (bench.heard[i].body);
    bench = (struct bench){ 0 };
    return 0;
}

/*  Puts a request; a POST has the secret in its body. */
static void put_timed (uint64_t id, enum method method, const char *path, uint64_t timeout_ms)
{
    uint8_t bytes[256];
    struct packer packer;
    packer_init (&packer, bytes, sizeof bytes);
    if (method == METHOD_POST) {
        pack_map (&packer, 2);
        pack_literal (&packer, "secret");
        pack_secret (&packer);
        pack_literal (&packer, "n");
        pack_uint (&packer, id);
    }
    struct message message = { .id = MESSAGE_HTTP_REQUEST,
                               .trace = id + 1000,
                               .http_request = { .request = id,
                                                 .service = SERVICE_USERMETA,
                                                 .method = method,
                                                 .path = text_of (path),
                                                 .body = packer_raw (&packer),
                                                 .timeout_ms = timeout_ms } };
    http_client_put (bench.client, &message);
}

static void put_get (uint64_t id)
{
    put_timed (id, METHOD_GET, "/u/k", TIMEOUT_MS);
}

static void put_post (uint64_t id)
{
    put_timed (id, METHOD_POST, "/u/k", TIMEOUT_MS);
}

static uint64_t steady_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/*  One round of what a shell does. */
static void turn (uint64_t until)
{
    uint64_t now = steady_ms ();
    assert_true (now < until);
    long wait_ms = http_client_wait_ms (bench.client);
    if (wait_ms < 0 || (uint64_t) wait_ms > until - now)
        wait_ms = (long) (until - now);
    struct pollfd fd = { .fd = http_client_fd (bench.client), .events = POLLIN };
    poll (&fd, 1, (int) wait_ms);
    http_client_work (bench.client);
}

/*  Works until so many answers were delivered in all. */
static void work_until (size_t answers)
{
    uint64_t until = steady_ms () + DEADLINE_MS;
    while (bench.answers < answers)
        turn (until);
    assert_int_equal (bench.answers, answers);
}

/*  Works until the server has so many requests. */
static void work_until_seen (size_t requests)
{
    uint64_t until = steady_ms () + DEADLINE_MS;
    while (misbehaving_requests (bench.server) < requests) {
        struct pollfd fd = { .fd = http_client_fd (bench.client), .events = POLLIN };
        poll (&fd, 1, 1);
        http_client_work (bench.client);
        assert_true (steady_ms () < until);
    }
}

/*  The answer to a request. */
static const struct heard *answer_to (uint64_t id)
{
    for (size_t i = 0; i < bench.heard_count; i++) {
        if (bench.heard[i].id == MESSAGE_HTTP_ANSWER && bench.heard[i].answer.request == id)
            return &bench.heard[i];
    }
    fail_msg ("no answer to %u", (unsigned) id);
    return NULL;
}

/*  How often the client said that a request went out. */
static size_t sent_count (uint64_t id)
{
    size_t count = 0;
    for (size_t i = 0; i < bench.heard_count; i++)
        count += bench.heard[i].id == MESSAGE_HTTP_SENT && bench.heard[i].answer.request == id;
    return count;
}

static void ask (void (*put_one) (uint64_t id), uint64_t id)
{
    put_one (id);
    http_client_start (bench.client);
    work_until (bench.answers + 1);
}

/*  Expects how a request ended. */
static void expect (uint64_t id, enum http_outcome outcome, unsigned status, enum body_state body_state,
                    const char *body)
{
    const struct heard *heard = answer_to (id);
    if (heard->answer.outcome != outcome)
        print_message ("request %u: %s (%s)\n", (unsigned) id, http_outcome_name (heard->answer.outcome),
                       heard->reason);
    assert_int_equal (heard->answer.outcome, outcome);
    assert_int_equal (heard->answer.status, status);
    assert_int_equal (heard->answer.body_state, body_state);
    assert_int_equal (heard->trace, id + 1000);
    assert_int_equal (heard->reason[0] != '\0', outcome != HTTP_ANSWERED);
    if (body)
        assert_string_equal (heard->body, body);
    else
        assert_null (heard->body);
}

/*  ---- as it should be ---------------------------------------------------- */

static void test_a_read_and_a_write_on_one_connection (void **state)
{
    (void) state;
    BEGIN ({ .body = "{\"u\":{\"auth\":\"1\"}}" }, { .how = STEP_CHUNKED, .body = "{}" });
    put_timed (1, METHOD_GET, "/a%2Fb/../x/.?secret={secret}&again={secret}", TIMEOUT_MS);
    assert_int_equal (http_client_in_flight (bench.client), 1);
    http_client_start (bench.client);
    work_until (1);
    assert_int_equal (http_client_in_flight (bench.client), 0);
    expect (1, HTTP_ANSWERED, 200, BODY_JSON, "{\"u\":{\"auth\":\"1\"}}");
    assert_int_equal (sent_count (1), 1);
    ask (put_post, 2);
    expect (2, HTTP_ANSWERED, 200, BODY_JSON, "{}");
    assert_int_equal (misbehaving_connections (bench.server), 1);
    const char *get = misbehaving_request (bench.server, 0);
    assert_ptr_equal (strstr (get, "GET /usermeta/v1/a%2Fb/../x/.?secret=" SECRET_ENCODED
                                   "&again=" SECRET_ENCODED " HTTP/1.1\r\n"),
                      get);
    assert_non_null (strstr (get, "\r\nAccept: application/json\r\n"));
    assert_non_null (strstr (get, "\r\nUser-Agent: guerdon/"));
    assert_null (strstr (get, "Content-Type"));
    const char *post = misbehaving_request (bench.server, 1);
    assert_ptr_equal (strstr (post, "POST /usermeta/v1/u/k HTTP/1.1\r\n"), post);
    assert_non_null (strstr (post, "\r\nContent-Type: application/json\r\n"));
    assert_null (strstr (post, "Expect"));
    assert_null (strstr (post, "chunked"));
    assert_non_null (strstr (post, "\r\n\r\n{\"secret\":\"" SECRET "\",\"n\":2}"));
}

static void test_a_post_without_a_body (void **state)
{
    (void) state;
    BEGIN ({ .status = 204 });
    struct message message = { .id = MESSAGE_HTTP_REQUEST,
                               .trace = 1001,
                               .http_request = { .request = 1,
                                                 .service = SERVICE_USERMETA,
                                                 .method = METHOD_POST,
                                                 .timeout_ms = TIMEOUT_MS } };
    http_client_put (bench.client, &message);
    http_client_start (bench.client);
    work_until (1);
    expect (1, HTTP_ANSWERED, 204, BODY_NONE, NULL);
    assert_non_null (strstr (misbehaving_request (bench.server, 0), "POST /usermeta/v1 HTTP/1.1\r\n"));
    assert_non_null (strstr (misbehaving_request (bench.server, 0), "\r\nContent-Length: 0\r\n"));
}

static void test_nothing_goes_out_before_the_start (void **state)
{
    (void) state;
    BEGIN ({ .body = "1" });
    put_get (1);
    put_get (2);
    assert_int_equal (http_client_wait_ms (bench.client), -1);
    http_client_work (bench.client);
    http_client_work (bench.client);
    assert_int_equal (bench.heard_count, 0);
    assert_int_equal (misbehaving_connections (bench.server), 0);
    assert_int_equal (http_client_in_flight (bench.client), 2);
    http_client_cancel (bench.client, 1);
    http_client_start (bench.client);
    work_until (1);
    expect (2, HTTP_ANSWERED, 200, BODY_JSON, "1");
}

static void test_more_requests_than_connections (void **state)
{
    (void) state;
    enum { REQUESTS = 300 };
    BEGIN ({ .body = "{\"a\":1}" });
    for (uint64_t id = 1; id <= REQUESTS; id++)
        (id % 2 ? put_get : put_post) (id);
    http_client_start (bench.client);
    work_until (REQUESTS);
    for (uint64_t id = 1; id <= REQUESTS; id++) {
        expect (id, HTTP_ANSWERED, 200, BODY_JSON, "{\"a\":1}");
        assert_int_equal (sent_count (id), 1);
    }
    assert_int_equal (misbehaving_requests (bench.server), REQUESTS);
    assert_true (misbehaving_connections (bench.server) <= CONNECTIONS);
    assert_int_equal (http_client_in_flight (bench.client), 0);
}

/*  A slow reply, and a client that asks the next thing from within. */
static void ask_again (struct bench *here, const struct message *message)
{
    if (message->id != MESSAGE_HTTP_ANSWER || message->http_answer.request >= 20)
        return;
    put_post (message->http_answer.request + 1);
    http_client_start (here->client);
}

static void test_asking_from_within_an_answer (void **state)
{
    (void) state;
    BEGIN ({ .how = STEP_SLOW, .body = "[1,2,3]" });
    bench.on_heard = ask_again;
    put_get (1);
    http_client_start (bench.client);
    work_until (20);
    expect (20, HTTP_ANSWERED, 200, BODY_JSON, "[1,2,3]");
    assert_int_equal (misbehaving_requests (bench.server), 20);
}

/*  ---- replies that are errors, or no replies ------------------------------ */

static void test_errors_have_a_status_and_a_body (void **state)
{
    (void) state;
    BEGIN ({ .status = 500, .body = "{\"code\":\"InternalError\"}" },
           { .status = 503, .headers = "Retry-After: 7\r\n", .body = "<html>busy</html>" },
           { .status = 429, .headers = "Retry-After: 99999999\r\n" },
           { .status = 302, .headers = "Location: http://127.0.0.1:1/\r\n", .body = "" },
           { .status = 401, .body = "[1,2" });
    for (uint64_t id = 1; id <= 5; id++)
        ask (put_get, id);
    expect (1, HTTP_ANSWERED, 500, BODY_JSON, "{\"code\":\"InternalError\"}");
    expect (2, HTTP_ANSWERED, 503, BODY_NOT_JSON, NULL);
    expect (3, HTTP_ANSWERED, 429, BODY_NONE, NULL);
    expect (4, HTTP_ANSWERED, 302, BODY_NONE, NULL);
    expect (5, HTTP_ANSWERED, 401, BODY_CUT, "[1]");
    assert_int_equal (answer_to (1)->answer.retry_after_ms, 0);
    assert_int_equal (answer_to (2)->answer.retry_after_ms, 7000);
    assert_int_equal (answer_to (3)->answer.retry_after_ms, 86400000);
}

/*  A port that was free a moment ago. */
static void test_nobody_listens (void **state)
{
    (void) state;
    BEGIN ({ .body = "1" });
    misbehaving_destroy (&bench.server);
    ask (put_post, 1);
    expect (1, HTTP_UNREACHED, 0, BODY_NONE, NULL);
    assert_string_equal (answer_to (1)->reason, "cannot connect: Connection refused");
    assert_int_equal (sent_count (1), 0);
}

static void test_a_host_that_has_no_name (void **state)
{
    (void) state;
    client_begin ("http://no-such-host.invalid:1/x", 1);
    ask (put_get, 1);
    expect (1, HTTP_UNREACHED, 0, BODY_NONE, NULL);
}

static void test_a_base_that_is_no_address (void **state)
{
    (void) state;
    client_begin ("file:///etc", 1);
    ask (put_get, 1);
    expect (1, HTTP_UNREACHED, 0, BODY_NONE, NULL);
}

/*  A listener whose queue is full answers no connection attempt at all. */
static void test_a_connection_that_never_stands (void **state)
{
    (void) state;
    enum { FILL = 8 };
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int listener = socket (AF_INET, SOCK_STREAM, 0);
    assert_int_equal (bind (listener, (struct sockaddr *) &address, size), 0);
    assert_int_equal (listen (listener, 0), 0);
    assert_int_equal (getsockname (listener, (struct sockaddr *) &address, &size), 0);
    int fill[FILL];
    for (size_t i = 0; i < FILL; i++) {
        fill[i] = socket (AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect (fill[i], (struct sockaddr *) &address, size);
    }
    char base[64];
    snprintf (base, sizeof base, "http://127.0.0.1:%u", (unsigned) ntohs (address.sin_port));
    client_begin (base, 1);
    put_timed (1, METHOD_POST, "/x", 200);
    http_client_start (bench.client);
    work_until (1);
    expect (1, HTTP_UNREACHED, 0, BODY_NONE, NULL);
    assert_int_equal (sent_count (1), 0);
    assert_true (answer_to (1)->answer.elapsed_ms >= 199);
    for (size_t i = 0; i < FILL; i++)
        close (fill[i]);
    close (listener);
}

static void test_connections_that_break (void **state)
{
    (void) state;
    BEGIN ({ .how = STEP_RESET }, { .how = STEP_CLOSE }, { .how = STEP_HALF_HEADER },
           { .how = STEP_LONG_LENGTH, .body = "{\"a\":1}" }, { .how = STEP_HALF_CHUNK, .body = "{\"a\":1" },
           { .how = STEP_GARBAGE }, { .how = STEP_LEAVE, .status = 100 },
           { .how = STEP_LEAVE, .status = 101 });
    for (uint64_t id = 1; id <= 8; id++)
        ask (put_post, id);
    for (uint64_t id = 1; id <= 8; id++) {
        assert_int_equal (answer_to (id)->answer.outcome, HTTP_BROKEN);
        assert_int_equal (answer_to (id)->answer.status, 0);
        assert_int_equal (sent_count (id), 1);
        print_message ("%s\n", answer_to (id)->reason);
    }
    assert_int_equal (misbehaving_requests (bench.server), 8);
}

/*  Half a page is worth its whole events; half an error is worth nothing. */
static void test_half_a_page (void **state)
{
    (void) state;
    BEGIN ({ .how = STEP_LONG_LENGTH, .body = "[{\"id\":1},{\"id\":2},{\"i" },
           { .how = STEP_LONG_LENGTH, .status = 500, .body = "[{\"id\":1},{\"id\":2},{\"i" });
    ask (put_get, 1);
    ask (put_get, 2);
    expect (1, HTTP_BROKEN, 0, BODY_CUT, "[{\"id\":1},{\"id\":2}]");
    expect (2, HTTP_BROKEN, 0, BODY_NONE, NULL);
}

static void test_services_that_hang (void **state)
{
    (void) state;
    BEGIN ({ .how = STEP_HANG }, { .how = STEP_HANG_IN_BODY, .body = "{\"a\":1}" });
    for (uint64_t id = 1; id <= 2; id++) {
        put_timed (id, METHOD_POST, "/x", 150);
        http_client_start (bench.client);
        work_until (id);
        assert_int_equal (answer_to (id)->answer.outcome, HTTP_TIMEOUT);
        assert_int_equal (answer_to (id)->answer.status, 0);
        assert_true (answer_to (id)->answer.elapsed_ms >= 149);
        assert_int_equal (sent_count (id), 1);
    }
    assert_int_equal (misbehaving_requests (bench.server), 2);
}

/*  The core hears that its request is under way before the answer comes. */
static void test_sent_is_told_while_the_service_still_thinks (void **state)
{
    (void) state;
    BEGIN ({ .how = STEP_HANG });
    put_get (1);
    http_client_start (bench.client);
    uint64_t until = steady_ms () + DEADLINE_MS;
    while (sent_count (1) == 0)
        turn (until);
    assert_int_equal (bench.answers, 0);
    assert_int_equal (http_client_in_flight (bench.client), 1);
}

static void test_no_connection_is_free_in_time (void **state)
{
    (void) state;
    begin_with (&(struct misbehaving_step){ .how = STEP_HANG }, 1, 1);
    put_timed (1, METHOD_POST, "/x", 400);
    put_timed (2, METHOD_POST, "/x", 5000);
    put_timed (3, METHOD_POST, "/x", 100);
    http_client_start (bench.client);
    work_until (1);
    expect (3, HTTP_UNREACHED, 0, BODY_NONE, NULL);
    assert_true (answer_to (3)->answer.elapsed_ms >= 99);
    work_until (2);
    assert_int_equal (answer_to (1)->answer.outcome, HTTP_TIMEOUT);
    work_until_seen (2);
    assert_int_equal (misbehaving_requests (bench.server), 2);
}

static void test_replies_without_end (void **state)
{
    (void) state;
    BEGIN ({ .how = STEP_ENDLESS_BODY, .body = "                " }, { .how = STEP_ENDLESS_HEADER },
           { .how = STEP_HUGE_LENGTH, .body = "" });
    for (uint64_t id = 1; id <= 3; id++) {
        ask (put_get, id);
        expect (id, HTTP_TOO_LARGE, 0, BODY_NONE, NULL);
    }
}

/*  What came before the trouble is still given. */
static void test_a_page_without_end (void **state)
{
    (void) state;
    BEGIN ({ .how = STEP_ENDLESS_BODY, .body = "[{\"id\":1},[[[" });
    ask (put_get, 1);
    expect (1, HTTP_TOO_LARGE, 0, BODY_CUT, "[{\"id\":1}]");
}

/*  What follows the promised bytes must not become the next reply: the request
    is refused before it goes out, and the one after gets a clean connection. */
static void test_a_length_that_is_too_short (void **state)
{
    (void) state;
    static const char body[] = "[1,2,3,4,5,6]                          "
                               "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n9";
    BEGIN ({ .how = STEP_SHORT_LENGTH, .body = body }, { .body = "7" });
    ask (put_get, 1);
    expect (1, HTTP_ANSWERED, 200, BODY_JSON, "[1,2,3,4,5,6]");
    assert_true (misbehaving_wait_taken (bench.server, 1, DEADLINE_MS));
    ask (put_post, 2);
    expect (2, HTTP_UNREACHED, 0, BODY_NONE, NULL);
    assert_int_equal (sent_count (2), 0);
    assert_int_equal (misbehaving_requests (bench.server), 1);
    ask (put_post, 3);
    expect (3, HTTP_ANSWERED, 200, BODY_JSON, "7");
    assert_int_equal (misbehaving_requests (bench.server), 2);
}

/*  A handle that is used again knows the last line of the header before, which is
    freed by then, and must not hook a continuation to it. What curl keeps of a header
    is its own affair, so no continuation is let in. */
static void test_a_header_with_a_continuation (void **state)
{
    (void) state;
    static const char *const folded[] = {
        "HTTP/1.1 200 OK\r\n more: it\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\tmore: it\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n :\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\n :\nContent-Length: 1\n\n",
        "HtTP/1.1 200 OK\r\n more: it\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n x: y\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Some: thing\r\n more\r\n\tand more\r\nContent-Length: 1\r\n\r\n",
    };
    enum { COUNT = sizeof folded / sizeof *folded };
    struct misbehaving_step steps[2 * COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        steps[2 * i] = (struct misbehaving_step){ .headers = "X-Some: thing\r\n", .body = "1" };
        steps[2 * i + 1] =
            (struct misbehaving_step){ .how = STEP_OWN_HEADER, .headers = folded[i], .body = "2" };
    }
    begin_with (steps, 2 * COUNT, 1);
    for (uint64_t id = 1; id <= 2 * COUNT; id += 2) {
        ask (put_get, id);
        expect (id, HTTP_ANSWERED, 200, BODY_JSON, "1");
        ask (put_post, id + 1);
        expect (id + 1, HTTP_BROKEN, 0, BODY_NONE, NULL);
        assert_int_equal (sent_count (id + 1), 1);
    }
    assert_int_equal (misbehaving_requests (bench.server), 2 * COUNT);
}

/*  What one request said must not be in the next on the same handle. */
static void test_a_read_after_a_write_on_one_handle (void **state)
{
    (void) state;
    begin_with ((const struct misbehaving_step[]){ { .body = "1" } }, 1, 1);
    ask (put_post, 1);
    ask (put_get, 2);
    ask (put_post, 3);
    for (uint64_t id = 1; id <= 3; id++)
        expect (id, HTTP_ANSWERED, 200, BODY_JSON, "1");
    const char *get = misbehaving_request (bench.server, 1);
    assert_ptr_equal (strstr (get, "GET /usermeta/v1/u/k HTTP/1.1\r\n"), get);
    assert_null (strstr (get, "Content-"));
    assert_string_equal (strstr (get, "\r\n\r\n"), "\r\n\r\n");
    const char *post = misbehaving_request (bench.server, 2);
    assert_ptr_equal (strstr (post, "POST /usermeta/v1/u/k HTTP/1.1\r\n"), post);
    assert_non_null (strstr (post, "\r\n\r\n{\"secret\":\"" SECRET "\",\"n\":3}"));
}

/*  curl counts on each handle how often it asked again, and gives up at the sixth
    time: not over the life of a handle. */
static void test_reads_on_used_connections_that_close_again_and_again (void **state)
{
    (void) state;
    enum { ROUNDS = 16 };
    struct misbehaving_step steps[2 * ROUNDS];
    for (size_t i = 0; i < ROUNDS; i++) {
        steps[2 * i] = (struct misbehaving_step){ .body = "1" };
        steps[2 * i + 1] = (struct misbehaving_step){ .how = STEP_CLOSE };
    }
    begin_with (steps, 2 * ROUNDS, 1);
    for (uint64_t id = 1; id <= ROUNDS; id++) {
        ask (put_get, id);
        expect (id, HTTP_ANSWERED, 200, BODY_JSON, "1");
    }
}

/*  ---- a POST goes out once ------------------------------------------------ */

/*  The server takes the second request of a connection and closes. curl would
    send it again on a new connection; whether it was done is not known. */
static void test_a_post_on_a_used_connection_that_closes (void **state)
{
    (void) state;
    BEGIN ({ .body = "1" }, { .how = STEP_CLOSE }, { .body = "2" });
    ask (put_get, 1);
    ask (put_post, 2);
    expect (2, HTTP_BROKEN, 0, BODY_NONE, NULL);
    assert_int_equal (sent_count (2), 1);
    assert_int_equal (misbehaving_requests (bench.server), 2);
    ask (put_post, 3);
    expect (3, HTTP_ANSWERED, 200, BODY_JSON, "2");
    assert_int_equal (misbehaving_requests (bench.server), 3);
}

static void test_a_post_without_a_body_on_a_used_connection_that_closes (void **state)
{
    (void) state;
    BEGIN ({ .body = "1" }, { .how = STEP_RESET }, { .body = "2" });
    ask (put_get, 1);
    struct message message = { .id = MESSAGE_HTTP_REQUEST,
                               .trace = 1002,
                               .http_request = { .request = 2,
                                                 .service = SERVICE_USERMETA,
                                                 .method = METHOD_POST,
                                                 .timeout_ms = TIMEOUT_MS } };
    http_client_put (bench.client, &message);
    http_client_start (bench.client);
    work_until (2);
    expect (2, HTTP_BROKEN, 0, BODY_NONE, NULL);
    assert_int_equal (misbehaving_requests (bench.server), 2);
}

static void test_a_read_on_a_used_connection_that_closes (void **state)
{
    (void) state;
    BEGIN ({ .body = "1" }, { .how = STEP_CLOSE }, { .body = "2" });
    ask (put_get, 1);
    ask (put_get, 2);
    expect (2, HTTP_ANSWERED, 200, BODY_JSON, "2");
    assert_int_equal (sent_count (2), 1);
    assert_int_equal (misbehaving_requests (bench.server), 3);
}

/*  A poll that was held until the service ended does not go out again unseen: who
    answers now may be another, restored one. */
static void test_a_read_on_a_used_connection_that_closes_late (void **state)
{
    (void) state;
    BEGIN ({ .body = "1" }, { .how = STEP_CLOSE_LATE }, { .body = "2" });
    ask (put_get, 1);
    ask (put_get, 2);
    expect (2, HTTP_BROKEN, 0, BODY_NONE, NULL);
    assert_int_equal (misbehaving_requests (bench.server), 2);
    ask (put_get, 3);
    expect (3, HTTP_ANSWERED, 200, BODY_JSON, "2");
}

/*  A server that leaves after each reply without saying so: whatever the client
    notices in time, each goes out at most once. */
static void test_a_connection_that_was_closed_meanwhile (void **state)
{
    (void) state;
    BEGIN ({ .how = STEP_LEAVE, .body = "1" });
    for (uint64_t id = 1; id <= 50; id++) {
        ask (put_post, id);
        assert_true (sent_count (id) <= 1);
        if (answer_to (id)->answer.outcome != HTTP_ANSWERED)
            assert_true (answer_to (id)->answer.outcome == (sent_count (id) ? HTTP_BROKEN : HTTP_UNREACHED));
        if (answer_to (id)->answer.outcome == HTTP_UNREACHED)
            assert_int_equal (sent_count (id), 0);
    }
    char body[64];
    for (uint64_t id = 1; id <= 50; id++) {
        size_t seen = 0;
        snprintf (body, sizeof body, "\"n\":%u}", (unsigned) id);
        for (size_t n = 0; n < misbehaving_requests (bench.server); n++)
            seen += strstr (misbehaving_request (bench.server, n), body) != NULL;
        assert_true (seen <= sent_count (id));
    }
}

/*  ---- requests that cannot be made, and cancelled ones -------------------- */

static void test_requests_that_cannot_be_made (void **state)
{
    (void) state;
    static const char *const paths[] = { "/a b", "/a\r\nX: y", "/a#b", "/\xc3\xa9", "/\x7f" };
    BEGIN ({ .body = "1" });
    for (uint64_t id = 0; id < 5; id++)
        put_timed (id, METHOD_GET, paths[id], TIMEOUT_MS);
    struct message message = {
        .id = MESSAGE_HTTP_REQUEST,
        .trace = 1005,
        .http_request = { .request = 5,
                          .service = SERVICE_USERMETA,
                          .method = METHOD_POST,
                          .body = { (const uint8_t *) "\xa1\xff", 2 },
                          .timeout_ms = TIMEOUT_MS },
    };
    http_client_put (bench.client, &message);
    assert_int_equal (bench.heard_count, 0);
    assert_int_equal (http_client_wait_ms (bench.client), 0);
    work_until (6);
    for (uint64_t id = 0; id <= 5; id++)
        expect (id, HTTP_UNREACHED, 0, BODY_NONE, NULL);
    assert_int_equal (misbehaving_connections (bench.server), 0);
    assert_int_equal (http_client_in_flight (bench.client), 0);
}

static void test_cancelled_wherever_it_is (void **state)
{
    (void) state;
    begin_with (&(struct misbehaving_step){ .how = STEP_HANG }, 1, 1);
    put_get (1);
    put_get (2);
    http_client_start (bench.client);
    work_until_seen (1);
    put_get (3);
    put_timed (4, METHOD_GET, "/a b", TIMEOUT_MS);
    for (uint64_t id = 1; id <= 5; id++)
        http_client_cancel (bench.client, id);
    assert_int_equal (http_client_in_flight (bench.client), 0);
    size_t heard = bench.heard_count;
    http_client_work (bench.client);
    assert_int_equal (bench.heard_count, heard);
    assert_int_equal (bench.answers, 0);
}

/*  Whoever hears of one request ends all others, and this one. */
static void cancel_all (struct bench *here, const struct message *message)
{
    (void) message;
    for (uint64_t id = 1; id <= 40; id++)
        http_client_cancel (here->client, id);
}

static void test_cancelled_from_within_a_delivery (void **state)
{
    (void) state;
    BEGIN ({ .body = "1" });
    for (uint64_t id = 1; id <= 40; id++)
        put_post (id);
    bench.on_heard = cancel_all;
    http_client_start (bench.client);
    uint64_t until = steady_ms () + DEADLINE_MS;
    while (bench.heard_count == 0)
        turn (until);
    assert_int_equal (bench.heard_count, 1);
    assert_int_equal (http_client_in_flight (bench.client), 0);
    bench.on_heard = NULL;
    ask (put_post, 50);
    expect (50, HTTP_ANSWERED, 200, BODY_JSON, "1");
}

static void test_destroyed_with_requests_everywhere (void **state)
{
    (void) state;
    begin_with (&(struct misbehaving_step){ .how = STEP_HANG }, 1, 2);
    for (uint64_t id = 1; id <= 4; id++)
        put_get (id);
    http_client_start (bench.client);
    work_until_seen (2);
    put_get (5);
    put_timed (6, METHOD_GET, "/a b", TIMEOUT_MS);
    assert_int_equal (http_client_in_flight (bench.client), 6);
    http_client_destroy (&bench.client);
    assert_null (bench.client);
    assert_int_equal (bench.answers, 0);
}

/*  A proxy of the environment would see the secrets. */
static void test_a_proxy_in_the_environment_is_not_used (void **state)
{
    (void) state;
    setenv ("http_proxy", "http://127.0.0.1:1", 1);
    setenv ("ALL_PROXY", "http://127.0.0.1:1", 1);
    BEGIN ({ .body = "1" });
    ask (put_get, 1);
    unsetenv ("http_proxy");
    unsetenv ("ALL_PROXY");
    expect (1, HTTP_ANSWERED, 200, BODY_JSON, "1");
}

/*  ---- TLS ---------------------------------------------------------------- */

/*  A TLS server of the openssl command, in a folder of its own. */
struct tls_server {
    char folder[64];
    char certificate[96];
    pid_t pid;
    unsigned port;
};

/*  Makes a key and a certificate for 127.0.0.1 that is its own authority. */
static void tls_certificate (const char *folder)
{
    char command[512];
    snprintf (command, sizeof command,
              "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
              " -addext subjectAltName=IP:127.0.0.1 -keyout %s/key.pem -out %s/cert.pem 2>/dev/null",
              folder, folder);
    assert_int_equal (system (command), 0);
}

/*  Reads the port from "ACCEPT 127.0.0.1:4433" on the server's output. */
static unsigned accepted_port (FILE *output)
{
    char line[256];
    while (fgets (line, sizeof line, output)) {
        const char *colon = strrchr (line, ':');
        if (strncmp (line, "ACCEPT", 6) == 0 && colon)
            return (unsigned) strtoul (colon + 1, NULL, 10);
    }
    return 0;
}

static FILE *tls_start (struct tls_server *tls)
{
    int ends[2];
    char key[96];
    snprintf (tls->folder, sizeof tls->folder, "/tmp/guerdon-tls-XXXXXX");
    assert_non_null (mkdtemp (tls->folder));
    snprintf (tls->certificate, sizeof tls->certificate, "%s/cert.pem", tls->folder);
    snprintf (key, sizeof key, "%s/key.pem", tls->folder);
    tls_certificate (tls->folder);
    assert_int_equal (pipe (ends), 0);
    tls->pid = fork ();
    assert_true (tls->pid >= 0);
    if (tls->pid == 0) {
        dup2 (ends[1], STDOUT_FILENO);
        dup2 (ends[1], STDERR_FILENO);
        close (ends[0]);
        execlp ("openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", tls->certificate, "-key",
                key, "-www", (char *) NULL);
        _exit (127);
    }
    close (ends[1]);
    FILE *output = fdopen (ends[0], "r");
    assert_non_null (output);
    tls->port = accepted_port (output);
    assert_true (tls->port > 0);
    return output;
}

static void tls_stop (struct tls_server *tls, FILE *output)
{
    kill (tls->pid, SIGKILL);
    waitpid (tls->pid, NULL, 0);
    fclose (output);
    char key[96];
    snprintf (key, sizeof key, "%s/key.pem", tls->folder);
    unlink (key);
    unlink (tls->certificate);
    rmdir (tls->folder);
}

static void test_a_certificate_is_verified (void **state)
{
    (void) state;
    struct tls_server tls;
    FILE *output = tls_start (&tls);
    snprintf (bench.base, sizeof bench.base, "https://127.0.0.1:%u", tls.port);
    unsetenv ("SSL_CERT_FILE");
    client_begin (bench.base, 1);
    ask (put_get, 1);
    expect (1, HTTP_UNREACHED, 0, BODY_NONE, NULL);
    print_message ("%s\n", answer_to (1)->reason);
    assert_non_null (strstr (answer_to (1)->reason, "TLS: the certificate is not trusted"));
    assert_int_equal (sent_count (1), 0);
    http_client_destroy (&bench.client);

    setenv ("SSL_CERT_FILE", tls.certificate, 1);
    client_begin (bench.base, 1);
    ask (put_get, 2);
    expect (2, HTTP_ANSWERED, 200, BODY_NOT_JSON, NULL);
    http_client_destroy (&bench.client);

    /*  The right certificate for another name. */
    snprintf (bench.base, sizeof bench.base, "https://localhost:%u", tls.port);
    client_begin (bench.base, 1);
    ask (put_get, 3);
    expect (3, HTTP_UNREACHED, 0, BODY_NONE, NULL);
    print_message ("%s\n", answer_to (3)->reason);
    unsetenv ("SSL_CERT_FILE");
    tls_stop (&tls, output);
}

int main (void)
{
#define TEST(name) cmocka_unit_test_teardown (name, end)
    const struct CMUnitTest tests[] = {
        TEST (test_a_read_and_a_write_on_one_connection),
        TEST (test_a_post_without_a_body),
        TEST (test_nothing_goes_out_before_the_start),
        TEST (test_more_requests_than_connections),
        TEST (test_asking_from_within_an_answer),
        TEST (test_errors_have_a_status_and_a_body),
        TEST (test_nobody_listens),
        TEST (test_a_host_that_has_no_name),
        TEST (test_a_base_that_is_no_address),
        TEST (test_a_connection_that_never_stands),
        TEST (test_connections_that_break),
        TEST (test_half_a_page),
        TEST (test_services_that_hang),
        TEST (test_sent_is_told_while_the_service_still_thinks),
        TEST (test_no_connection_is_free_in_time),
        TEST (test_replies_without_end),
        TEST (test_a_page_without_end),
        TEST (test_a_length_that_is_too_short),
        TEST (test_a_header_with_a_continuation),
        TEST (test_a_read_after_a_write_on_one_handle),
        TEST (test_reads_on_used_connections_that_close_again_and_again),
        TEST (test_a_post_on_a_used_connection_that_closes),
        TEST (test_a_post_without_a_body_on_a_used_connection_that_closes),
        TEST (test_a_read_on_a_used_connection_that_closes),
        TEST (test_a_read_on_a_used_connection_that_closes_late),
        TEST (test_a_connection_that_was_closed_meanwhile),
        TEST (test_requests_that_cannot_be_made),
        TEST (test_cancelled_wherever_it_is),
        TEST (test_cancelled_from_within_a_delivery),
        TEST (test_destroyed_with_requests_everywhere),
        TEST (test_a_proxy_in_the_environment_is_not_used),
        TEST (test_a_certificate_is_verified),
    };
    if (!http_client_global_init ())
        return 1;
    return cmocka_run_group_tests (tests, NULL, NULL);
}
