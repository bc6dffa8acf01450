/*  test_config.c - every way to get a configuration wrong, and right.
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/config.h"

#define SECRET "zq-5ecret/%&=+\n"

static struct config config;
static struct problems problems;
static char scratch[] = "/tmp/test_config_XXXXXX";
static char file_path[64];

/*  ---- helpers ------------------------------------------------------------- */

static void set (const char *name, const char *value)
{
    assert_int_equal (setenv (name, value, 1), 0);
}

/*  A whole, good environment. */
static void set_all (void)
{
    clearenv ();
    set ("HOME", "/srv/worker");
    set ("API_SECRET", SECRET);
    set ("APP_1_NAME", "one");
    set ("APP_2_NAME", "two");
    set ("REWARD_APP_1_USER_LOGIN_APP_2_ID", "promo1");
    set ("REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT", "10");
    set ("REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY", "gold");
    set ("EVENTS_CLIENT_ID", "worker");
}

static bool load_request (struct config_request request)
{
    config_destroy (&config);
    return config_load (&config, &request, &problems);
}

static bool load (void)
{
    return load_request ((struct config_request){ 0 });
}

static const char *write_file (const char *content)
{
    FILE *file = fopen (file_path, "w");
    assert_non_null (file);
    assert_int_equal (fputs (content, file) < 0, 0);
    assert_int_equal (fclose (file), 0);
    return file_path;
}

static bool load_file (const char *content)
{
    return load_request ((struct config_request){ .env_file = write_file (content) });
}

/*  The only problem is this line. */
static void assert_problem (const char *line)
{
    char expected[1024];
    snprintf (expected, sizeof expected, "%s\n", line);
    assert_string_equal (problems.text, expected);
    assert_int_equal (problems.count, 1);
}

/*  The only problem begins so. */
static void assert_problem_begins (const char *start)
{
    if (problems.count != 1 || strncmp (problems.text, start, strlen (start)) != 0) {
        fail_msg ("expected one problem that begins with '%s', got %u: %s", start, problems.count,
                  problems.text);
    }
}

static const char *const names[] = { "API_SECRET",
                                     "APP_1_NAME",
                                     "APP_2_NAME",
                                     "REWARD_APP_1_USER_LOGIN_APP_2_ID",
                                     "REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT",
                                     "REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY",
                                     "EVENTS_CLIENT_ID",
                                     "EVENTS_CHANNEL",
                                     "EVENTS_PREFIX",
                                     "APP_1_USERMETA_PREFIX",
                                     "APP_1_VIRTUALCURRENCY_PREFIX",
                                     "STATSD_HOST",
                                     "STATSD_PORT",
                                     "STATSD_PREFIX",
                                     "PORT",
                                     "STATE_DIR",
                                     "WINDOW",
                                     "DRAIN_SECONDS",
                                     "POLL_TIMEOUT_SECONDS",
                                     "HTTP_TIMEOUT_SECONDS",
                                     "GAP_GRACE_MS",
                                     "FIND_GRACE_MS",
                                     "FIND_PATIENCE_SECONDS",
                                     "LEDGER_DAYS",
                                     "LOG_FORMAT",
                                     "SANDBOX_PORT" };

static const char *const may_be_empty[] = { "HOST",
                                            "LOG_LEVEL",
                                            "EVENTS_PORT_8000_TCP_ADDR",
                                            "EVENTS_PORT_8000_TCP_PORT",
                                            "EVENTS_PORT_8000_TCP_PROTOCOL",
                                            "APP_1_USERMETA_PORT_8000_TCP_ADDR",
                                            "APP_1_USERMETA_PORT_8000_TCP_PORT",
                                            "APP_1_USERMETA_PORT_8000_TCP_PROTOCOL",
                                            "APP_1_VIRTUALCURRENCY_PORT_8000_TCP_ADDR",
                                            "APP_1_VIRTUALCURRENCY_PORT_8000_TCP_PORT",
                                            "APP_1_VIRTUALCURRENCY_PORT_8000_TCP_PROTOCOL" };

#define COUNT(array) (sizeof (array) / sizeof (array)[0])

/*  ---- defaults ------------------------------------------------------------ */

static void test_only_what_is_required (void **state)
{
    (void) state;
    set_all ();
    assert_true (load ());
    assert_string_equal (problems.text, "");
    assert_string_equal (config.api_secret, SECRET);
    assert_string_equal (config.settings.app_1_name, "one");
    assert_string_equal (config.settings.app_2_name, "two");
    assert_string_equal (config.settings.reward_id, "promo1");
    assert_int_equal (config.settings.reward_amount, 10);
    assert_string_equal (config.settings.reward_currency, "gold");
    assert_string_equal (config.settings.events_client_id, "worker");
    assert_string_equal (config.settings.events_channel, "users/v1");
    assert_string_equal (config.settings.statsd_prefix, "mailchimp.registrations.");
    assert_false (config.settings.statsd);
    assert_null (config.statsd_host);
    assert_int_equal (config.settings.poll_timeout_ms, 65000);
    assert_int_equal (config.settings.http_timeout_ms, 5000);
    assert_int_equal (config.settings.gap_grace_ms, 3000);
    assert_int_equal (config.settings.find_grace_ms, 2000);
    assert_int_equal (config.settings.find_patience_ms, 60000);
    assert_int_equal (config.ledger_days, 90);
    assert_int_equal (config.settings.window, 10000);
    assert_int_equal (config.drain_seconds, 30);
    assert_string_equal (config.host, "0.0.0.0");
    assert_int_equal (config.port, 8000);
    assert_int_equal (config.sandbox_port, 8001);
    assert_string_equal (config.state_dir, "/srv/worker/.local/state/guerdon");
    assert_int_equal (config.log_level, LOG_INFO);
    assert_false (config.sandbox);
}

static void test_services_by_default (void **state)
{
    (void) state;
    set_all ();
    assert_true (load ());
    assert_string_equal (config.services[SERVICE_EVENTS].base, "http://127.0.0.1:8000/events/v1");
    assert_string_equal (config.services[SERVICE_USERMETA].base, "http://127.0.0.1:8000/usermeta/v1");
    assert_string_equal (config.services[SERVICE_CURRENCY].base, "http://127.0.0.1:8000/virtualcurrency/v1");
    for (int i = 0; i < SERVICE_COUNT; i++) {
        assert_false (config.services[i].given);
    }
}

static void test_every_start_has_another_seed (void **state)
{
    (void) state;
    set_all ();
    assert_true (load ());
    uint64_t seed = config.settings.hash_seed;
    assert_true (load ());
    assert_true (seed != config.settings.hash_seed);
}

static void test_state_dir_where_the_specification_says (void **state)
{
    (void) state;
    set_all ();
    set ("XDG_STATE_HOME", "/var/state");
    assert_true (load ());
    assert_string_equal (config.state_dir, "/var/state/guerdon");
    set ("XDG_STATE_HOME", "relative");
    assert_true (load ());
    assert_string_equal (config.state_dir, "/srv/worker/.local/state/guerdon");
    set ("STATE_DIR", "/srv/guerdon");
    assert_true (load ());
    assert_string_equal (config.state_dir, "/srv/guerdon");

    char path[64];
    assert_true (config_state_dir (path, sizeof path));
    assert_string_equal (path, "/srv/guerdon");
    assert_false (config_state_dir (path, 5));
}

static void test_an_emptied_environment_still_has_a_state_dir (void **state)
{
    (void) state;
    set_all ();
    unsetenv ("HOME");
    load ();
    assert_non_null (config.state_dir);
    assert_int_equal (config.state_dir[0], '/');
}

/*  ---- wrong --------------------------------------------------------------- */

static void test_nothing_set_names_all_that_is_missing (void **state)
{
    (void) state;
    clearenv ();
    set ("HOME", "/srv/worker");
    assert_false (load ());
    assert_int_equal (problems.count, 7);
    for (size_t i = 0; i < 7; i++) {
        char line[128];
        snprintf (line, sizeof line, "%s is missing: expected ", names[i]);
        assert_non_null (strstr (problems.text, line));
    }
}

static void test_present_but_empty (void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT (names); i++) {
        char line[128];
        set_all ();
        set (names[i], "");
        assert_false (load ());
        snprintf (line, sizeof line, "%s is empty: expected ", names[i]);
        assert_problem_begins (line);
    }
}

static void test_empty_is_absent_for_some (void **state)
{
    (void) state;
    set_all ();
    for (size_t i = 0; i < COUNT (may_be_empty); i++) {
        set (may_be_empty[i], "");
    }
    assert_true (load ());
    assert_string_equal (config.host, "0.0.0.0");
    assert_string_equal (config.services[SERVICE_USERMETA].base, "http://127.0.0.1:8000/usermeta/v1");
    assert_false (config.services[SERVICE_USERMETA].given);
}

static void test_the_problem_says_what_was_expected (void **state)
{
    (void) state;
    set_all ();
    set ("REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT", "010");
    assert_false (load ());
    assert_problem ("REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT is \"010\": expected a decimal integer such as 10, "
                    "at most 9007199254740991");
}

static void test_a_reward_that_usermeta_cannot_store (void **state)
{
    (void) state;
    set_all ();
    set ("REWARD_APP_1_USER_LOGIN_APP_2_ID", "promo:1");
    assert_false (load ());
    assert_problem (
        "REWARD_APP_1_USER_LOGIN_APP_2_ID is \"promo:1\": expected 1 to 200 of A-Z a-z 0-9 _ . -, "
        "because usermeta cannot store \":\" \",\" \"/\" or spaces under their own name");
}

static void test_a_bad_value_is_shown_escaped_and_cut (void **state)
{
    (void) state;
    char value[2000];
    memset (value, 'x', sizeof value);
    value[0] = '\n';
    value[1] = '\033';
    value[sizeof value - 1] = '\0';
    set_all ();
    set ("EVENTS_CLIENT_ID", value);
    assert_false (load ());
    assert_problem_begins ("EVENTS_CLIENT_ID is \"");
    assert_null (strchr (problems.text, '\033'));
    assert_ptr_equal (strchr (problems.text, '\n'), problems.text + problems.size - 1);
    assert_non_null (strstr (problems.text, "…\": expected "));
    assert_true (problems.size < 300);
}

static void test_all_problems_at_once (void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT (names); i++) {
        set (names[i], "");
    }
    set ("HOST", "not a host");
    set ("LOG_LEVEL", "loud");
    assert_false (load_request ((struct config_request){ .env_file = write_file ("A=1\nrubbish\n") }));
    assert_int_equal (problems.count, COUNT (names) + 3);
    unsigned lines = 0;
    for (const char *at = problems.text; (at = strchr (at, '\n')); at++) {
        lines++;
    }
    assert_int_equal (lines, problems.count);
}

struct sample {
    const char *name;
    const char *value;
    bool good;
};

#define AMOUNT "REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT"
#define REWARD "REWARD_APP_1_USER_LOGIN_APP_2_ID"
#define ADDR "EVENTS_PORT_8000_TCP_ADDR"
#define LINK_PORT "EVENTS_PORT_8000_TCP_PORT"
#define PROTOCOL "EVENTS_PORT_8000_TCP_PROTOCOL"

static const struct sample samples[] = {
    { AMOUNT, "0", true },
    { AMOUNT, "-5", true },
    { AMOUNT, "9007199254740991", true },
    { AMOUNT, "-9007199254740991", true },
    { AMOUNT, "9007199254740992", false },
    { AMOUNT, "-9007199254740992", false },
    { AMOUNT, "99999999999999999999", false },
    { AMOUNT, "+10", false },
    { AMOUNT, "10.0", false },
    { AMOUNT, " 10", false },
    { AMOUNT, "10 ", false },
    { AMOUNT, "-0", false },
    { AMOUNT, "1e3", false },
    { AMOUNT, "ten", false },
    { REWARD, "A-z_0.9", true },
    { REWARD, "a,b", false },
    { REWARD, "a/b", false },
    { REWARD, "a b", false },
    { REWARD, " a", false },
    { REWARD, "é", false },
    { "APP_2_NAME", "a name/with: é", true },
    { "APP_2_NAME", "tab\there", false },
    { "APP_2_NAME", "\xff", false },
    { "APP_2_NAME", "\x7f", false },
    { "API_SECRET", "\xc3\x28", false },
    { ADDR, "example.org", true },
    { ADDR, "some_container-1", true },
    { ADDR, "example.org.", true },
    { ADDR, "10.0.0.1", true },
    { ADDR, "::1", true },
    { ADDR, "fe80::1:2", true },
    { ADDR, "10.0.0.300", false },
    { ADDR, "10.0.1", false },
    { ADDR, "http://example.org", false },
    { ADDR, "example.org:80", false },
    { ADDR, "[::1]", false },
    { ADDR, "::g", false },
    { ADDR, "a..b", false },
    { ADDR, ".a", false },
    { ADDR, "-a", false },
    { ADDR, "a b", false },
    { ADDR, "a/b", false },
    { ADDR, "user@a", false },
    { ADDR, ".", false },
    { LINK_PORT, "1", true },
    { LINK_PORT, "65535", true },
    { LINK_PORT, "0", false },
    { LINK_PORT, "65536", false },
    { LINK_PORT, "http", false },
    { LINK_PORT, "tcp://10.0.0.1:8000", false },
    { PROTOCOL, "http", true },
    { PROTOCOL, "https", true },
    { PROTOCOL, "HTTP", false },
    { PROTOCOL, "tcp", false },
    { "EVENTS_PREFIX", "/", true },
    { "EVENTS_PREFIX", "/a/b%20c/", true },
    { "EVENTS_PREFIX", "events/v1", false },
    { "EVENTS_PREFIX", "/events?a=1", false },
    { "EVENTS_PREFIX", "/events#a", false },
    { "EVENTS_PREFIX", "/ev ents", false },
    { "EVENTS_PREFIX", "/ev\nents", false },
    { "EVENTS_PREFIX", "/é", false },
    { "PORT", "0", true },
    { "PORT", "65536", false },
    { "PORT", "-1", false },
    { "SANDBOX_PORT", "0", true },
    { "SANDBOX_PORT", "x", false },
    { "HOST", "localhost", true },
    { "HOST", "::", true },
    { "HOST", "1.2.3.4:80", false },
    { "STATSD_HOST", "statsd", true },
    { "STATSD_HOST", "stats d", false },
    { "STATSD_PORT", "8125", true },
    { "STATSD_PORT", "0", false },
    { "STATSD_PREFIX", "a.b.", true },
    { "STATSD_PREFIX", "a:b", false },
    { "STATSD_PREFIX", "a|b", false },
    { "STATSD_PREFIX", "a\nb", false },
    { "STATE_DIR", "relative/path", true },
    { "STATE_DIR", "/a\nb", false },
    { "WINDOW", "1", true },
    { "WINDOW", "1000000", true },
    { "WINDOW", "0", false },
    { "WINDOW", "1000001", false },
    { "DRAIN_SECONDS", "0", true },
    { "DRAIN_SECONDS", "3601", false },
    { "POLL_TIMEOUT_SECONDS", "600", true },
    { "POLL_TIMEOUT_SECONDS", "0", false },
    { "POLL_TIMEOUT_SECONDS", "601", false },
    { "HTTP_TIMEOUT_SECONDS", "1", true },
    { "HTTP_TIMEOUT_SECONDS", "5s", false },
    { "GAP_GRACE_MS", "0", true },
    { "GAP_GRACE_MS", "60001", false },
    { "FIND_GRACE_MS", "0", true },
    { "FIND_GRACE_MS", "600001", false },
    { "FIND_PATIENCE_SECONDS", "1", true },
    { "FIND_PATIENCE_SECONDS", "0", false },
    { "LEDGER_DAYS", "36500", true },
    { "LEDGER_DAYS", "0", false },
    { "LOG_LEVEL", "debug", true },
    { "LOG_LEVEL", "Fatal", true },
    { "LOG_LEVEL", "verbose", false },
    { "LOG_LEVEL", "30", false },
    { "LOG_FORMAT", "text", true },
    { "LOG_FORMAT", "JSON", false },
};

static void test_good_and_bad_values (void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT (samples); i++) {
        const struct sample *sample = &samples[i];
        set_all ();
        set (sample->name, sample->value);
        if (load () != sample->good) {
            fail_msg ("%s=%s: expected it to be %s. %s", sample->name, sample->value,
                      sample->good ? "good" : "bad", problems.text);
        }
        if (!sample->good) {
            assert_problem_begins (sample->name);
        }
    }
}

static void test_values_as_long_as_may_be_and_longer (void **state)
{
    (void) state;
    static const struct {
        const char *name;
        size_t max;
        char first;
    } sizes[] = {
        { "API_SECRET", 1024, 'x' }, { "APP_1_NAME", 255, 'x' },    { REWARD, 200, 'x' },
        { ADDR, 253, 'x' },          { "EVENTS_PREFIX", 512, '/' }, { "APP_1_USERMETA_PREFIX", 512, '/' },
        { "STATE_DIR", 1024, '/' },  { "STATSD_PREFIX", 255, 'x' }, { "STATSD_HOST", 253, 'x' },
        { "HOST", 253, 'x' },
    };
    char value[2048];
    set_all ();
    for (size_t i = 0; i < COUNT (sizes); i++) {
        memset (value, 'x', sizeof value);
        value[0] = sizes[i].first;
        value[sizes[i].max + 1] = '\0';
        set (sizes[i].name, value);
        assert_false (load ());
        assert_problem_begins (sizes[i].name);
        value[sizes[i].max] = '\0';
        set (sizes[i].name, value);
        assert_true (load ());
    }
    config_use_sandbox (&config, 65535);
    assert_int_equal (strlen (config.services[SERVICE_EVENTS].base), 7 + 253 + 5 + 512);
}

static void test_log_settings_in_spite_of_problems (void **state)
{
    (void) state;
    clearenv ();
    set ("LOG_LEVEL", "trace");
    set ("LOG_FORMAT", "text");
    assert_false (load ());
    assert_int_equal (config.log_level, LOG_TRACE);
    assert_int_equal (config.log_format, LOG_FORMAT_TEXT);
    set ("LOG_LEVEL", "loud");
    set ("LOG_FORMAT", "xml");
    assert_false (load ());
    assert_int_equal (config.log_level, LOG_INFO);
}

static void test_more_problems_than_fit (void **state)
{
    (void) state;
    char line[400];
    memset (line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    memset (&problems, 0, sizeof problems);
    for (int i = 0; i < 100; i++) {
        problems_add (&problems, "%s", line);
    }
    assert_int_equal (problems.count, 100);
    assert_int_equal (problems.size, strlen (problems.text));
    assert_int_equal (problems.size % sizeof line, 0);
    assert_true (problems.size > sizeof problems.text - 2 * sizeof line);
}

/*  ---- services ------------------------------------------------------------ */

static void test_links_make_an_address (void **state)
{
    (void) state;
    set_all ();
    set (ADDR, "fe80::1");
    set (LINK_PORT, "443");
    set (PROTOCOL, "https");
    set ("EVENTS_PREFIX", "/a/b//");
    set ("APP_1_USERMETA_PORT_8000_TCP_ADDR", "meta");
    set ("APP_1_USERMETA_PREFIX", "/");
    assert_true (load ());
    struct http_target target = config_target (&config, SERVICE_EVENTS);
    assert_string_equal (target.base, "https://[fe80::1]:443/a/b");
    assert_string_equal (target.secret, SECRET);
    assert_int_equal (target.service, SERVICE_EVENTS);
    assert_true (config.services[SERVICE_EVENTS].given);
    assert_string_equal (config_target (&config, SERVICE_USERMETA).base, "http://meta:8000");
    assert_false (config.services[SERVICE_CURRENCY].given);
}

static void test_statsd_needs_both (void **state)
{
    (void) state;
    set_all ();
    set ("STATSD_HOST", "stats");
    assert_true (load ());
    assert_false (config.settings.statsd);
    assert_null (config.statsd_host);
    set ("STATSD_PORT", "8125");
    assert_true (load ());
    assert_true (config.settings.statsd);
    assert_string_equal (config.statsd_host, "stats");
    assert_int_equal (config.statsd_port, 8125);
    unsetenv ("STATSD_HOST");
    assert_true (load ());
    assert_false (config.settings.statsd);
}

/*  ---- the sandbox --------------------------------------------------------- */

static void test_the_sandbox_needs_nothing (void **state)
{
    (void) state;
    clearenv ();
    set ("HOME", "/srv/worker");
    assert_true (load_request ((struct config_request){ .sandbox = true }));
    assert_true (config.sandbox);
    assert_string_equal (config.api_secret, "sandbox");
    assert_string_equal (config.settings.app_1_name, "game-1");
    assert_string_equal (config.settings.app_2_name, "game-2");
    assert_string_equal (config.settings.reward_id, "login-game-2");
    assert_int_equal (config.settings.reward_amount, 10);
    assert_string_equal (config.settings.reward_currency, "gold");
    assert_string_equal (config.settings.events_client_id, "guerdon-sandbox");
    assert_string_equal (config.host, "127.0.0.1");
    config_use_sandbox (&config, 12345);
    assert_string_equal (config.services[SERVICE_EVENTS].base, "http://127.0.0.1:12345/events/v1");
    assert_string_equal (config.services[SERVICE_CURRENCY].base, "http://127.0.0.1:12345/virtualcurrency/v1");
}

static void test_the_sandbox_leaves_what_is_given (void **state)
{
    (void) state;
    set_all ();
    set (ADDR, "elsewhere");
    set ("HOST", "10.0.0.1");
    set ("APP_1_USERMETA_PREFIX", "/mine");
    assert_true (load_request ((struct config_request){ .sandbox = true }));
    config_use_sandbox (&config, 1);
    assert_string_equal (config.api_secret, SECRET);
    assert_string_equal (config.host, "10.0.0.1");
    assert_string_equal (config.services[SERVICE_EVENTS].base, "http://elsewhere:8000/events/v1");
    assert_string_equal (config.services[SERVICE_USERMETA].base, "http://127.0.0.1:1/usermeta/v1");
}

static void test_the_sandbox_does_not_hide_mistakes (void **state)
{
    (void) state;
    clearenv ();
    set ("HOME", "/srv/worker");
    set (AMOUNT, "");
    assert_false (load_request ((struct config_request){ .sandbox = true }));
    assert_problem_begins (AMOUNT " is empty");
}

/*  ---- secrets ------------------------------------------------------------- */

static void test_a_bad_secret_is_never_shown (void **state)
{
    (void) state;
    set_all ();
    set ("API_SECRET", "hunter2\xff");
    assert_false (load ());
    assert_problem_begins ("API_SECRET is malformed");
    assert_null (strstr (problems.text, "hunter2"));
}

static void test_the_secret_from_a_file_loses_one_newline (void **state)
{
    (void) state;
    set_all ();
    unsetenv ("API_SECRET");
    set ("API_SECRET_FILE", write_file ("from a file\n\n"));
    assert_true (load ());
    assert_string_equal (config.api_secret, "from a file\n");
    set ("API_SECRET_FILE", write_file (" bare "));
    assert_true (load ());
    assert_string_equal (config.api_secret, " bare ");
}

static void test_secret_given_twice (void **state)
{
    (void) state;
    set_all ();
    set ("API_SECRET_FILE", write_file ("x"));
    assert_false (load ());
    assert_problem ("API_SECRET and API_SECRET_FILE are both given: expected one of them");
}

static void test_secret_file_that_will_not_do (void **state)
{
    (void) state;
    static const char *const contents[] = { "", "\n", "\xff" };
    set_all ();
    unsetenv ("API_SECRET");
    for (size_t i = 0; i < COUNT (contents); i++) {
        set ("API_SECRET_FILE", write_file (contents[i]));
        assert_false (load ());
        assert_problem_begins ("API_SECRET_FILE names a file ");
    }
    set ("API_SECRET_FILE", "hunter2");
    assert_false (load ());
    assert_problem ("API_SECRET_FILE cannot be read (No such file or directory): expected the path of a "
                    "file that holds API_SECRET");
    set ("API_SECRET_FILE", scratch);
    assert_false (load ());
    assert_problem_begins ("API_SECRET_FILE cannot be read (Is a directory)");
    set ("API_SECRET_FILE", "/dev/zero");
    assert_false (load ());
    assert_problem_begins ("API_SECRET_FILE cannot be read (File too large)");
    set ("API_SECRET_FILE", "");
    assert_false (load ());
    assert_problem_begins ("API_SECRET_FILE is empty");
}

static void test_destroy_wipes_the_secret (void **state)
{
    (void) state;
    set_all ();
    assert_true (load ());
    assert_non_null (memmem (&config, sizeof config, SECRET, sizeof SECRET - 1));
    config_destroy (&config);
    assert_null (memmem (&config, sizeof config, SECRET, sizeof SECRET - 1));
}

/*  What config_print prints. */
static const char *printed (void)
{
    static char output[65536];
    char path[80];
    snprintf (path, sizeof path, "%s/printed", scratch);
    fflush (stdout);
    int saved = dup (STDOUT_FILENO);
    FILE *file = fopen (path, "w+");
    assert_non_null (file);
    dup2 (fileno (file), STDOUT_FILENO);
    config_print (&config);
    fflush (stdout);
    dup2 (saved, STDOUT_FILENO);
    close (saved);
    rewind (file);
    output[fread (output, 1, sizeof output - 1, file)] = '\0';
    fclose (file);
    unlink (path);
    return output;
}

static void test_printed_with_origin_and_without_secret (void **state)
{
    (void) state;
    set_all ();
    set ("APP_1_NAME", "a\tb");
    assert_false (load ());
    set ("APP_1_NAME", "one");
    unsetenv ("APP_2_NAME");
    assert_true (
        load_request ((struct config_request){ .sandbox = true, .env_file = write_file ("WINDOW=5\n") }));
    const char *output = printed ();
    assert_null (strstr (output, "zq-5ecret"));
    assert_non_null (strstr (output, "API_SECRET=***  "));
    assert_non_null (strstr (output, "APP_1_NAME=one  "));

    static const struct {
        const char *start;
        const char *origin;
    } lines[] = {
        { "\nAPP_1_NAME=one ", " environment\n" },
        { "\nAPP_2_NAME=game-2 ", " sandbox\n" },
        { "\nWINDOW=5 ", " file\n" },
        { "\nPORT=8000 ", " default\n" },
        { "\nSTATSD_HOST= ", " not set\n" },
    };
    for (size_t i = 0; i < COUNT (lines); i++) {
        const char *line = strstr (output, lines[i].start);
        assert_non_null (line);
        const char *end = strchr (line + 1, '\n') + 1;
        size_t size = strlen (lines[i].origin);
        assert_memory_equal (end - size, lines[i].origin, size);
    }
}

/*  ---- env files ----------------------------------------------------------- */

static void test_the_environment_wins_over_the_file (void **state)
{
    (void) state;
    set_all ();
    set ("HOST", "");
    assert_true (load_file ("# comment\n\n"
                            "APP_1_NAME=other\r\n"
                            "export WINDOW = 7 \n"
                            "  EVENTS_CHANNEL=\" users/v2 #\"\n"
                            "STATSD_PREFIX='a\"b.'\n"
                            "HOST=10.1.1.1\n"
                            "PORT=1\nPORT=2\n"
                            "SOMETHING_ELSE=\n"
                            "LOG_LEVEL=error"));
    assert_string_equal (config.settings.app_1_name, "one");
    assert_int_equal (config.settings.window, 7);
    assert_string_equal (config.settings.events_channel, " users/v2 #");
    assert_string_equal (config.settings.statsd_prefix, "a\"b.");
    assert_string_equal (config.host, "10.1.1.1");
    assert_int_equal (config.port, 2);
    assert_int_equal (config.log_level, LOG_ERROR);
}

static void test_an_empty_value_in_a_file_is_empty (void **state)
{
    (void) state;
    set_all ();
    assert_false (load_file ("WINDOW=\n"));
    assert_problem_begins ("WINDOW is empty");
    assert_false (load_file ("WINDOW=\"\"\n"));
    assert_problem_begins ("WINDOW is empty");
}

static void test_bad_lines_are_numbered_and_not_shown (void **state)
{
    (void) state;
    static const char *const lines[] = { "hunter2",     "=hunter2",     "1A=hunter2",      "A B=hunter2",
                                         "A=\"hunter2", "A='hunter2\"", "A=\"hunter2\" x", "A=\"hun\"ter2\"",
                                         "export =1",   "A\"B=1" };
    for (size_t i = 0; i < COUNT (lines); i++) {
        char content[128], expected[160];
        set_all ();
        snprintf (content, sizeof content, "# first\n%s\nWINDOW=3\n", lines[i]);
        assert_false (load_file (content));
        snprintf (expected, sizeof expected, "%s:2: expected NAME=value, or NAME=\"value\"", file_path);
        assert_problem (expected);
        assert_int_equal (config.settings.window, 3);
    }
}

static void test_a_file_that_is_no_env_file (void **state)
{
    (void) state;
    char line[160];
    set_all ();
    assert_false (load_request ((struct config_request){ .env_file = "/nonexistent/env" }));
    assert_problem ("/nonexistent/env: cannot be read as an env-file: No such file or directory");
    assert_false (load_request ((struct config_request){ .env_file = "/dev/zero" }));
    assert_problem ("/dev/zero: cannot be read as an env-file: File too large");

    char *content = calloc (1, 8001);
    assert_non_null (content);
    memset (content, 'x', 8000);
    for (size_t i = 1; i < 8000; i += 2) {
        content[i] = '\n';
    }
    assert_false (load_file (content));
    assert_int_equal (problems.count, 17);
    snprintf (line, sizeof line, "%s: 3984 more lines like these\n", file_path);
    assert_non_null (strstr (problems.text, line));
    free (content);
}

static void test_a_secret_file_named_in_an_env_file (void **state)
{
    (void) state;
    char path[80], content[160];
    set_all ();
    unsetenv ("API_SECRET");
    snprintf (path, sizeof path, "%s/secret", scratch);
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    fputs ("deep\n", file);
    fclose (file);
    snprintf (content, sizeof content, "API_SECRET_FILE=%s\n", path);
    assert_true (load_file (content));
    assert_string_equal (config.api_secret, "deep");
    set ("API_SECRET", "wins");
    assert_true (load_file (content));
    assert_string_equal (config.api_secret, "wins");
    unlink (path);
}

/*  ---- emit ---------------------------------------------------------------- */

static void test_emit_needs_the_events_service_only (void **state)
{
    (void) state;
    clearenv ();
    set ("HOME", "/srv/worker");
    set ("API_SECRET", "s");
    set ("WINDOW", "nonsense");
    set (ADDR, "events");
    assert_true (load_request ((struct config_request){ .events_only = true }));
    assert_null (config.settings.app_2_name);
    assert_null (config.settings.events_client_id);
    assert_string_equal (config.services[SERVICE_EVENTS].base, "http://events:8000/events/v1");
    assert_string_equal (config.settings.events_channel, "users/v1");
    assert_int_equal (config.settings.http_timeout_ms, 5000);
    unsetenv ("API_SECRET");
    set ("APP_2_NAME", "");
    assert_false (load_request ((struct config_request){ .events_only = true }));
    assert_int_equal (problems.count, 2);
}

static int make_scratch (void **state)
{
    (void) state;
    if (!mkdtemp (scratch)) {
        return -1;
    }
    snprintf (file_path, sizeof file_path, "%s/file", scratch);
    return 0;
}

static int drop_scratch (void **state)
{
    (void) state;
    unlink (file_path);
    return rmdir (scratch);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_only_what_is_required),
        cmocka_unit_test (test_services_by_default),
        cmocka_unit_test (test_every_start_has_another_seed),
        cmocka_unit_test (test_state_dir_where_the_specification_says),
        cmocka_unit_test (test_an_emptied_environment_still_has_a_state_dir),
        cmocka_unit_test (test_nothing_set_names_all_that_is_missing),
        cmocka_unit_test (test_present_but_empty),
        cmocka_unit_test (test_empty_is_absent_for_some),
        cmocka_unit_test (test_the_problem_says_what_was_expected),
        cmocka_unit_test (test_a_reward_that_usermeta_cannot_store),
        cmocka_unit_test (test_a_bad_value_is_shown_escaped_and_cut),
        cmocka_unit_test (test_all_problems_at_once),
        cmocka_unit_test (test_good_and_bad_values),
        cmocka_unit_test (test_values_as_long_as_may_be_and_longer),
        cmocka_unit_test (test_log_settings_in_spite_of_problems),
        cmocka_unit_test (test_more_problems_than_fit),
        cmocka_unit_test (test_links_make_an_address),
        cmocka_unit_test (test_statsd_needs_both),
        cmocka_unit_test (test_the_sandbox_needs_nothing),
        cmocka_unit_test (test_the_sandbox_leaves_what_is_given),
        cmocka_unit_test (test_the_sandbox_does_not_hide_mistakes),
        cmocka_unit_test (test_a_bad_secret_is_never_shown),
        cmocka_unit_test (test_the_secret_from_a_file_loses_one_newline),
        cmocka_unit_test (test_secret_given_twice),
        cmocka_unit_test (test_secret_file_that_will_not_do),
        cmocka_unit_test (test_destroy_wipes_the_secret),
        cmocka_unit_test (test_printed_with_origin_and_without_secret),
        cmocka_unit_test (test_the_environment_wins_over_the_file),
        cmocka_unit_test (test_an_empty_value_in_a_file_is_empty),
        cmocka_unit_test (test_bad_lines_are_numbered_and_not_shown),
        cmocka_unit_test (test_a_file_that_is_no_env_file),
        cmocka_unit_test (test_a_secret_file_named_in_an_env_file),
        cmocka_unit_test (test_emit_needs_the_events_service_only),
    };
    return cmocka_run_group_tests (tests, make_scratch, drop_scratch);
}
