/*  test_commands.c - check and emit against a server that is good, refuses,
    hangs, talks nonsense, or is not there.
*/
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/http_server.h"
#include "bin/command.h"
#include "proto/text.h"

#define SECRET "s/5 é\"%"
#define SECRET_ENCODED "s%2F5%20%C3%A9%22%25"

/*  ---- the server ---------------------------------------------------------- */

enum { REQUESTS_MAX = 4, TEXT_SIZE_MAX = 200000 };

/*  What came, and what is answered. Written by the server's thread while a
    command waits for it, read when the command has ended. */
static struct {
    pthread_mutex_t lock;
    unsigned status;
    const char *body;
    bool hangs; /* polls stay open */
    unsigned count;
    char lines[REQUESTS_MAX][1024];
    char bodies[REQUESTS_MAX][TEXT_SIZE_MAX];
} server = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void take_request (void *context, struct http_exchange *exchange,
                          const struct http_server_request *request)
{
    (void) context;
    pthread_mutex_lock (&server.lock);
    unsigned status = server.status;
    const char *body = server.body;
    bool poll = strcmp (request->method, "GET") == 0 && strstr (request->path.data, "/events");
    bool keep = server.hangs && poll;
    if (server.count < REQUESTS_MAX) {
        snprintf (server.lines[server.count], sizeof server.lines[0], "%s %.*s?%.*s", request->method,
                  (int) request->path.size, request->path.data, (int) request->query.size,
                  request->query.size ? request->query.data : "");
        snprintf (server.bodies[server.count], TEXT_SIZE_MAX, "%.*s", (int) request->body.size,
                  request->body.size ? request->body.data : "");
        server.count++;
    }
    pthread_mutex_unlock (&server.lock);
    if (!keep) {
        http_exchange_answer (exchange, status, "application/json", text_of (poll && !body ? "[]" : body));
    }
}

static void forget (void *context, struct http_exchange *exchange)
{
    (void) context;
    (void) exchange;
}

static struct http_server *http;
static char scratch[] = "/tmp/test_commands_XXXXXX";
static char output_path[64], error_path[64], env_path[64];
static char output[65536], errors[65536];

static void answer (unsigned status, const char *body, bool hangs)
{
    pthread_mutex_lock (&server.lock);
    server.status = status;
    server.body = body;
    server.hangs = hangs;
    server.count = 0;
    pthread_mutex_unlock (&server.lock);
}

/*  ---- running a command ---------------------------------------------------- */

static void read_file (const char *path, char *memory, size_t capacity)
{
    FILE *file = fopen (path, "r");
    assert_non_null (file);
    memory[fread (memory, 1, capacity - 1, file)] = '\0';
    fclose (file);
}

static int redirect (int descriptor, const char *path)
{
    int saved = dup (descriptor);
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    assert_int_equal (dup2 (fileno (file), descriptor), descriptor);
    fclose (file);
    return saved;
}

static void restore (int descriptor, int saved)
{
    dup2 (saved, descriptor);
    close (saved);
}

/*  Runs a command; what it printed is in `output` and `errors`. Ends with a
    NULL. */
static int run (int (*command) (int, char **), ...)
{
    enum { ARGUMENTS_MAX = 16 };
    char *arguments[ARGUMENTS_MAX] = { NULL };
    int count = 0;
    va_list list;
    va_start (list, command);
    while ((arguments[count] = va_arg (list, char *)) != NULL) {
        count++;
        assert_true (count < ARGUMENTS_MAX);
    }
    va_end (list);
    fflush (NULL);
    int saved_output = redirect (STDOUT_FILENO, output_path);
    int saved_errors = redirect (STDERR_FILENO, error_path);
    int code = command (count, arguments);
    fflush (NULL);
    restore (STDOUT_FILENO, saved_output);
    restore (STDERR_FILENO, saved_errors);
    pthread_mutex_lock (&server.lock); /* from here on this thread sees what came */
    pthread_mutex_unlock (&server.lock);
    read_file (output_path, output, sizeof output);
    read_file (error_path, errors, sizeof errors);
    return code;
}

static void set (const char *name, const char *value)
{
    assert_int_equal (setenv (name, value, 1), 0);
}

static void set_all (void)
{
    static const char *const links[] = { "EVENTS", "APP_1_USERMETA", "APP_1_VIRTUALCURRENCY" };
    char port[8], name[64];
    clearenv ();
    snprintf (port, sizeof port, "%u", (unsigned) http_server_port (http));
    for (size_t i = 0; i < 3; i++) {
        snprintf (name, sizeof name, "%s_PORT_8000_TCP_ADDR", links[i]);
        set (name, "127.0.0.1");
        snprintf (name, sizeof name, "%s_PORT_8000_TCP_PORT", links[i]);
        set (name, port);
    }
    set ("STATE_DIR", scratch);
    set ("API_SECRET", SECRET);
    set ("APP_1_NAME", "one");
    set ("APP_2_NAME", "two");
    set ("REWARD_APP_1_USER_LOGIN_APP_2_ID", "promo1");
    set ("REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT", "10");
    set ("REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY", "go/ld");
    set ("EVENTS_CLIENT_ID", "wor ker");
}

static void assert_says (const char *text, const char *part)
{
    if (!strstr (text, part)) {
        fail_msg ("expected \"%s\" in: %s", part, text);
    }
}

static void assert_no_secret (void)
{
    assert_null (strstr (output, SECRET));
    assert_null (strstr (errors, SECRET));
    assert_null (strstr (output, SECRET_ENCODED));
    assert_null (strstr (errors, SECRET_ENCODED));
}

/*  ---- emit ---------------------------------------------------------------- */

static void test_emit_posts_what_an_app_would (void **state)
{
    (void) state;
    char expected[128];
    set_all ();
    answer (200, "{\"id\":12,\"timestamp\":1}", false);
    assert_int_equal (run (command_emit, "emit", "LOGIN", "--user", "al\"ice", NULL), EXIT_OK);
    snprintf (expected, sizeof expected, "event 12 LOGIN of al\"ice from two at http://127.0.0.1:%u\n",
              (unsigned) http_server_port (http));
    assert_string_equal (output, expected);
    assert_string_equal (errors, "");
    assert_int_equal (server.count, 1);
    assert_string_equal (server.lines[0], "POST /events/v1/events?");
    assert_string_equal (server.bodies[0], "{\"clientId\":\"wor ker\",\"channel\":\"users/v1\","
                                           "\"secret\":\"s/5 é\\\"%\",\"from\":\"two\",\"type\":\"LOGIN\","
                                           "\"data\":{\"userId\":\"al\\\"ice\"}}");
}

static void test_emit_merges_data (void **state)
{
    (void) state;
    set_all ();
    unsetenv ("EVENTS_CLIENT_ID");
    unsetenv ("APP_2_NAME");
    answer (200, "{}", false);
    assert_int_equal (run (command_emit, "emit", "--from=x", "--data", "{\"a\":[1,{\"b\":null}],\"c\":-1.5}",
                           "--channel", "ch", "--user=u", "--", "T", NULL),
                      EXIT_OK);
    assert_string_equal (server.bodies[0], "{\"clientId\":\"guerdon-emit\",\"channel\":\"ch\","
                                           "\"secret\":\"s/5 é\\\"%\",\"from\":\"x\",\"type\":\"T\","
                                           "\"data\":{\"userId\":\"u\",\"a\":[1,{\"b\":null}],\"c\":-1.5}}");
    assert_says (output, "event T of u from x at ");
    assert_int_equal (
        run (command_emit, "emit", "T", "--from=x", "--user=u", "--data", "{\"userId\":5}", NULL), EXIT_OK);
    assert_says (server.bodies[1], "\"data\":{\"userId\":5}}");
}

static void test_emit_is_refused (void **state)
{
    (void) state;
    set_all ();
    answer (401, "{\"code\":\"Invalid\",\"message\":\"no\\u001b way\"}", false);
    assert_int_equal (run (command_emit, "emit", "LOGIN", "--user", "alice", NULL), EXIT_FAILED);
    assert_says (errors, "refused: 401 Invalid: no");
    assert_null (strchr (errors, '\033'));
    assert_string_equal (output, "");
    assert_no_secret ();
}

static void test_emit_to_nobody (void **state)
{
    (void) state;
    set_all ();
    set ("EVENTS_PORT_8000_TCP_PORT", "1");
    assert_int_equal (run (command_emit, "emit", "LOGIN", "--user", "alice", NULL), EXIT_FAILED);
    assert_says (errors, "no events service at http://127.0.0.1:1: ");
    assert_no_secret ();
}

static void test_emit_names_the_mistake (void **state)
{
    (void) state;
    static const struct {
        const char *arguments[5];
        const char *says;
    } mistakes[] = {
        { { "LOGIN" }, "--user is missing" },
        { { "--user", "u" }, "TYPE is missing" },
        { { "", "--user", "u" }, "TYPE is empty" },
        { { "LOGIN", "--user", "" }, "--user is empty" },
        { { "LOGIN", "--user=\xff" }, "--user is not UTF-8" },
        { { "LOGIN", "--user=u", "--from=" }, "--from is empty" },
        { { "LOGIN", "--user=u", "--channel=" }, "--channel is empty" },
        { { "LOGIN", "--user=u", "--data=" }, "--data is not" },
        { { "LOGIN", "--user=u", "--data=[]" }, "--data is not" },
        { { "LOGIN", "--user=u", "--data={\"a\":1" }, "--data is not" },
        { { "LOGIN", "--user=u", "--data={} {}" }, "--data is not" },
        { { "LOGIN", "--user=u", "--data={\"a\":\"\xff\"}" }, "--data is not" },
        { { "LOGIN", "--user=u", "--colour=red" }, "unknown option --colour" },
        { { "LOGIN", "--use=u" }, "unknown option --use" },
        { { "LOGIN", "-u", "u" }, "unknown option -u" },
        { { "LOGIN", "--user" }, "--user needs a value" },
        { { "LOGIN", "LOGOUT", "--user=u" }, "unexpected argument \"LOGOUT\"" },
    };
    set_all ();
    answer (200, "{}", false);
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        const char *const *a = mistakes[i].arguments;
        assert_int_equal (run (command_emit, "emit", a[0], a[1], a[2], a[3], NULL), EXIT_USAGE);
        assert_says (errors, mistakes[i].says);
        assert_string_equal (output, "");
    }
    assert_int_equal (server.count, 0);
}

static void test_emit_with_data_that_is_too_much (void **state)
{
    (void) state;
    set_all ();
    char *data = malloc (TEXT_SIZE_MAX);
    assert_non_null (data);
    memset (data, 'x', TEXT_SIZE_MAX - 1);
    memcpy (data, "{\"a\":\"", 6);
    memcpy (data + TEXT_SIZE_MAX - 3, "\"}", 3);
    assert_int_equal (run (command_emit, "emit", "T", "--user=u", "--data", data, NULL), EXIT_USAGE);
    assert_says (errors, "--data ");
    memset (data, '[', TEXT_SIZE_MAX - 1);
    memcpy (data, "{\"a\":", 5);
    memset (data + 105, ']', 100);
    memcpy (data + 205, "}", 2);
    assert_int_equal (run (command_emit, "emit", "T", "--user=u", "--data", data, NULL), EXIT_USAGE);
    assert_says (errors, "--data ");
    free (data);
}

static void test_emit_finds_the_sandbox (void **state)
{
    (void) state;
    set_all ();
    answer (200, "{\"id\":1}", false);
    char content[256];
    snprintf (content, sizeof content,
              "API_SECRET=sandbox\nAPP_2_NAME=game-2\nEVENTS_PORT_8000_TCP_ADDR=127.0.0.1\n"
              "EVENTS_PORT_8000_TCP_PORT=%u\n",
              (unsigned) http_server_port (http));
    clearenv ();
    set ("STATE_DIR", scratch);
    assert_int_equal (run (command_emit, "emit", "LOGIN", "--user=u", NULL), EXIT_CONFIG);
    assert_says (errors, "guerdon run --sandbox");
    assert_says (errors, "API_SECRET is missing");

    FILE *file = fopen (env_path, "w");
    assert_non_null (file);
    fputs (content, file);
    fclose (file);
    assert_int_equal (run (command_emit, "emit", "LOGIN", "--user=u", NULL), EXIT_OK);
    assert_says (errors, "using the sandbox of /");
    assert_says (output, "event 1 LOGIN of u from game-2 at ");
    set ("API_SECRET", "own");
    set ("EVENTS_PORT_8000_TCP_PORT", "1");
    assert_int_equal (run (command_emit, "emit", "LOGIN", "--user=u", "--from=a", NULL), EXIT_FAILED);
    assert_null (strstr (errors, "sandbox"));
    unlink (env_path);
}

/*  ---- check --------------------------------------------------------------- */

static void test_check_prints_no_secret (void **state)
{
    (void) state;
    set_all ();
    answer (200, "[]", false);
    assert_int_equal (run (command_check, "check", NULL), EXIT_OK);
    assert_says (output, "API_SECRET=***");
    assert_int_equal (server.count, 0);
    assert_no_secret ();
}

static void test_check_names_all_problems (void **state)
{
    (void) state;
    set_all ();
    set ("WINDOW", "");
    set ("PORT", "x");
    assert_int_equal (run (command_check, "check", "--online", NULL), EXIT_CONFIG);
    assert_string_equal (output, "");
    assert_says (errors, "\nWINDOW is empty: ");
    assert_says (errors, "\nPORT is \"x\": ");
    assert_int_equal (run (command_check, "check", "--online=1", NULL), EXIT_USAGE);
    assert_says (errors, "--online takes no value");
}

/*  The number of the request that begins so. */
static unsigned find_request (const char *start)
{
    for (unsigned i = 0; i < server.count; i++) {
        if (strncmp (server.lines[i], start, strlen (start)) == 0) {
            return i;
        }
    }
    fail_msg ("no request begins with %s", start);
    return 0;
}

static void test_check_online_asks_without_acknowledging (void **state)
{
    (void) state;
    set_all ();
    answer (200, "[]", false);
    assert_int_equal (run (command_check, "check", "--online", NULL), EXIT_OK);
    assert_int_equal (server.count, 3);
    find_request ("GET /events/v1/events?clientId=wor%20ker&channel=users%2Fv1&secret=" SECRET_ENCODED
                  "&limit=1");
    find_request ("GET /virtualcurrency/v1/auth/" SECRET_ENCODED ".guerdon-probe/coins/go%2Fld/count?");
    unsigned write = find_request ("POST /usermeta/v1/auth/" SECRET_ENCODED ".guerdon-probe/$guerdon$probe?");
    for (unsigned i = 0; i < server.count; i++) {
        assert_null (strstr (server.lines[i], "after"));
    }
    assert_memory_equal (server.bodies[write], "{\"value\":\"1", 11);
    assert_no_secret ();
}

static void test_check_online_with_a_poll_that_hangs (void **state)
{
    (void) state;
    set_all ();
    answer (200, "{}", true);
    assert_int_equal (run (command_check, "check", "--online", NULL), EXIT_OK);
    assert_says (output, "/events/v1");
    assert_null (strstr (output, "answers"));
}

static void test_check_online_with_a_wrong_secret (void **state)
{
    (void) state;
    set_all ();
    answer (401, "{}", false);
    set ("APP_1_USERMETA_PORT_8000_TCP_PORT", "1");
    assert_int_equal (run (command_check, "check", "--online", NULL), EXIT_CONFIG);
    assert_says (output, "rejects API_SECRET: 401");
    assert_says (output, "cannot be reached: ");
    assert_no_secret ();
}

static void test_check_online_with_services_that_talk_nonsense (void **state)
{
    (void) state;
    set_all ();
    answer (200, "{}", false);
    assert_int_equal (run (command_check, "check", "--online", NULL), EXIT_FAILED);
    assert_says (output, "something else than a list of events");
    answer (404, "{}", false);
    assert_int_equal (run (command_check, "check", "--online", NULL), EXIT_FAILED);
    assert_says (output, "answers 404");
    answer (500, "<html>", false);
    assert_int_equal (run (command_check, "check", "--online", NULL), EXIT_FAILED);
    assert_says (output, "answers 500");
}

static void test_help_and_version_everywhere (void **state)
{
    (void) state;
    clearenv ();
    assert_int_equal (run (command_check, "check", "--help", NULL), EXIT_OK);
    assert_says (output, "--env-file FILE");
    assert_int_equal (run (command_emit, "emit", "-h", NULL), EXIT_OK);
    assert_says (output, "Usage: guerdon emit TYPE");
    assert_int_equal (run (command_emit, "emit", "--version", NULL), EXIT_OK);
    assert_string_equal (output, "guerdon " GUERDON_VERSION "\n");
    assert_int_equal (run (command_run, "run", "--help", NULL), EXIT_OK);
    assert_says (output, "--sandbox");
}

static int start_server (void **state)
{
    (void) state;
    static const struct http_server_handler handler = {
        .request = take_request, .gone = forget, .body_size_max = 1 << 20, .connections_max = 16
    };
    char reason[256];
    if (!mkdtemp (scratch)) {
        return -1;
    }
    snprintf (output_path, sizeof output_path, "%s/output", scratch);
    snprintf (error_path, sizeof error_path, "%s/errors", scratch);
    snprintf (env_path, sizeof env_path, "%s/sandbox.env", scratch);
    http = http_server_new ("127.0.0.1", 0, &handler, reason, sizeof reason);
    return http ? 0 : -1;
}

static int stop_server (void **state)
{
    (void) state;
    http_server_destroy (&http);
    unlink (output_path);
    unlink (error_path);
    unlink (env_path);
    return rmdir (scratch);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_emit_posts_what_an_app_would),
        cmocka_unit_test (test_emit_merges_data),
        cmocka_unit_test (test_emit_is_refused),
        cmocka_unit_test (test_emit_to_nobody),
        cmocka_unit_test (test_emit_names_the_mistake),
        cmocka_unit_test (test_emit_with_data_that_is_too_much),
        cmocka_unit_test (test_emit_finds_the_sandbox),
        cmocka_unit_test (test_check_prints_no_secret),
        cmocka_unit_test (test_check_names_all_problems),
        cmocka_unit_test (test_check_online_asks_without_acknowledging),
        cmocka_unit_test (test_check_online_with_a_poll_that_hangs),
        cmocka_unit_test (test_check_online_with_a_wrong_secret),
        cmocka_unit_test (test_check_online_with_services_that_talk_nonsense),
        cmocka_unit_test (test_help_and_version_everywhere),
    };
    return cmocka_run_group_tests (tests, start_server, stop_server);
}
