/*  test_log.c - what the log writes, read through a pipe.

    The pipe is in packet mode, so that one read gives one write.
*/
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/json.h"
#include "actors/base/log.h"
#include "proto/raw.h"
#include "proto/text.h"

enum { LINE_MAX_SIZE = 16384 };

static int ends[2];
static int saved_stdout;
static char line[LINE_MAX_SIZE + 1];

/*  ---- helpers ------------------------------------------------------------- */

static void capture (int flags)
{
    fflush (stdout);
    assert_int_equal (pipe2 (ends, flags | O_CLOEXEC), 0);
    saved_stdout = dup (STDOUT_FILENO);
    assert_int_equal (dup2 (ends[1], STDOUT_FILENO), STDOUT_FILENO);
    close (ends[1]);
}

static void release (void)
{
    assert_int_equal (dup2 (saved_stdout, STDOUT_FILENO), STDOUT_FILENO);
    close (saved_stdout);
    close (ends[0]);
}

/*  What one write brought. */
static void read_line (void)
{
    ssize_t size = read (ends[0], line, LINE_MAX_SIZE);
    line[size > 0 ? size : 0] = '\0';
}

/*  Writes one line and gives it in `line`. */
static void logged (enum log_format format, struct about about, struct text text)
{
    capture (O_DIRECT);
    log_open (LOG_TRACE, format);
    log_write ("decision", LOG_WARN, about, text);
    read_line ();
    release ();
}

/*  The value of a key of the JSON in `line`, which lives until the next call. */
static struct raw json_value (const char *key)
{
    static struct json_reader *reader;
    struct raw raw, found = NO_RAW;
    json_reader_destroy (&reader);
    reader = json_reader_new (65536);
    assert_non_null (reader);
    size_t size = strlen (line);
    assert_true (size > 0 && line[size - 1] == '\n');
    assert_null (memchr (line, '\n', size - 1));
    assert_true (json_reader_feed (reader, line, size));
    assert_int_equal (json_reader_finish (reader, &raw), BODY_JSON);
    raw_find (raw, text_of (key), &found);
    return found;
}

static struct text json_text (const char *key)
{
    struct text text = NO_TEXT;
    raw_text (json_value (key), &text);
    return text;
}

static uint64_t json_uint (const char *key)
{
    uint64_t uint = UINT64_MAX;
    raw_uint (json_value (key), &uint);
    return uint;
}

static void assert_text (struct text text, const char *expected)
{
    assert_int_equal (text.size, strlen (expected));
    assert_memory_equal (text.data, expected, text.size);
}

/*  Digits stand for any digit, the rest for itself. */
static void assert_shape (struct text text, const char *shape)
{
    assert_int_equal (text.size, strlen (shape));
    for (size_t i = 0; i < text.size; i++) {
        bool digit = text.data[i] >= '0' && text.data[i] <= '9';
        assert_true (shape[i] == '0' ? digit : text.data[i] == shape[i]);
    }
}

/*  ---- JSON ---------------------------------------------------------------- */

static void test_json_has_what_bunyan_needs (void **state)
{
    (void) state;
    char hostname[256] = "";
    gethostname (hostname, sizeof hostname - 1);
    logged (LOG_FORMAT_JSON, (struct about){ 0xab, 12, TEXT_LITERAL ("alice") }, TEXT_LITERAL ("rewarded"));
    assert_text (json_text ("name"), "guerdon");
    assert_text (json_text ("hostname"), hostname);
    assert_int_equal (json_uint ("pid"), getpid ());
    assert_int_equal (json_uint ("level"), 40);
    assert_int_equal (json_uint ("v"), 0);
    assert_text (json_text ("msg"), "rewarded");
    assert_shape (json_text ("time"), "0000-00-00T00:00:00.000Z");
    assert_text (json_text ("actor"), "decision");
    assert_int_equal (json_uint ("event"), 12);
    assert_text (json_text ("user"), "alice");
    assert_text (json_text ("trace"), "00000000000000ab");
}

static void test_json_leaves_out_what_is_not_known (void **state)
{
    (void) state;
    logged (LOG_FORMAT_JSON, (struct about){ 0 }, NO_TEXT);
    assert_int_equal (json_value ("event").size, 0);
    assert_int_equal (json_value ("user").size, 0);
    assert_int_equal (json_value ("trace").size, 0);
    assert_text (json_text ("msg"), "");
}

static void test_json_gives_any_text_back (void **state)
{
    (void) state;
    char text[256];
    for (size_t i = 0; i < 128; i++) {
        text[i] = (char) i;
    }
    snprintf (text + 128, 128, "%s", "é \xf0\x9f\x8e\x81 \xe2\x80\xa8");
    struct text all = { text, (uint32_t) (128 + strlen (text + 128)) };
    logged (LOG_FORMAT_JSON, (struct about){ 0, 0, TEXT_LITERAL ("a\"},\n{\"b\\") }, all);
    assert_true (text_equal (json_text ("msg"), all));
    assert_text (json_text ("user"), "a\"},\n{\"b\\");
}

static void test_json_of_what_is_not_utf8 (void **state)
{
    (void) state;
    logged (LOG_FORMAT_JSON, (struct about){ 0, 0, TEXT_LITERAL ("bo\xff") }, TEXT_LITERAL ("\xc3\x28 bad"));
    assert_true (text_is_utf8 (text_of (line)));
    struct text user = json_text ("user");
    assert_true (user.size > 2);
    assert_memory_equal (user.data, "bo", 2);
    struct text text = json_text ("msg");
    assert_non_null (memmem (text.data, text.size, "bad", 3));
}

/*  ---- text ---------------------------------------------------------------- */

static void test_text_is_aligned (void **state)
{
    (void) state;
    logged (LOG_FORMAT_TEXT, (struct about){ 0xab, 12, TEXT_LITERAL ("alice") }, TEXT_LITERAL ("rewarded"));
    assert_shape (text_of (line), "00:00:00.000 WARN  decision         event 00 alice: rewarded\n");
    logged (LOG_FORMAT_TEXT, (struct about){ 0 }, TEXT_LITERAL ("ready"));
    assert_shape (text_of (line), "00:00:00.000 WARN  decision         ready\n");
    logged (LOG_FORMAT_TEXT, (struct about){ 0, 7, NO_TEXT }, TEXT_LITERAL ("seen"));
    assert_shape (text_of (line), "00:00:00.000 WARN  decision         event 0: seen\n");
}

static void test_a_user_cannot_forge_a_line (void **state)
{
    (void) state;
    logged (LOG_FORMAT_TEXT, (struct about){ 0, 0, TEXT_LITERAL ("a\n12:00:00.000 INFO") },
            TEXT_LITERAL ("\033[2Jbad \xff\r\n"));
    assert_ptr_equal (strchr (line, '\n'), line + strlen (line) - 1);
    assert_null (strchr (line, '\033'));
    assert_null (strchr (line, '\r'));
    assert_true (text_is_utf8 (text_of (line)));
}

/*  ---- bounds -------------------------------------------------------------- */

static void test_the_longest_of_everything (void **state)
{
    (void) state;
    static const char *const patterns[] = { "x", "\001", "\"", "\xff", "é", "\xf0\x9f\x8e\x81" };
    enum { SIZE = 20000 };
    char *bytes = malloc (SIZE + 8);
    assert_non_null (bytes);
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        size_t size = strlen (patterns[i]);
        for (size_t at = 0; at < SIZE; at += size) {
            memcpy (bytes + at, patterns[i], size);
        }
        struct text text = { bytes, SIZE };
        logged (LOG_FORMAT_TEXT, (struct about){ UINT64_MAX, POSITION_MAX, text }, text);
        assert_true (text_is_utf8 (text_of (line)));
        logged (LOG_FORMAT_JSON, (struct about){ UINT64_MAX, POSITION_MAX, text }, text);
        assert_true (text_is_utf8 (text_of (line)));
        assert_in_range (json_text ("user").size, 90, 103);
        assert_in_range (json_text ("msg").size, strlen (patterns[i]) == 1 ? 398 : 1000, LOG_SIZE_MAX + 3);
    }
    free (bytes);
}

static void test_levels (void **state)
{
    (void) state;
    capture (O_DIRECT | O_NONBLOCK);
    log_open (LOG_WARN, LOG_FORMAT_JSON);
    assert_false (log_wants (LOG_INFO));
    assert_true (log_wants (LOG_WARN));
    log_write ("a", LOG_INFO, (struct about){ 0 }, TEXT_LITERAL ("no"));
    log_say ("a", LOG_DEBUG, "no");
    read_line ();
    assert_string_equal (line, "");
    log_say ("a", LOG_FATAL, "%s %d", "yes", 7);
    read_line ();
    release ();
    assert_text (json_text ("msg"), "yes 7");
    assert_int_equal (json_uint ("level"), 60);
}

static void test_say_cuts_what_is_too_long (void **state)
{
    (void) state;
    char text[4000];
    memset (text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    capture (O_DIRECT);
    log_open (LOG_INFO, LOG_FORMAT_JSON);
    log_say ("a", LOG_INFO, "%s", text);
    read_line ();
    release ();
    assert_int_equal (json_text ("msg").size, LOG_SIZE_MAX);
}

/*  ---- a reader that is slow or gone ---------------------------------------- */

static void test_a_reader_that_is_gone (void **state)
{
    (void) state;
    signal (SIGPIPE, SIG_IGN);
    capture (0);
    close (ends[0]);
    ends[0] = open ("/dev/null", O_RDONLY | O_CLOEXEC);
    uint64_t before = log_dropped ();
    log_open (LOG_INFO, LOG_FORMAT_JSON);
    errno = ENOENT;
    log_say ("a", LOG_INFO, "nobody hears it");
    int reason = errno;
    release ();
    assert_int_equal (reason, ENOENT);
    assert_int_equal (log_dropped (), before + 1);
}

static void test_a_reader_that_does_not_keep_up (void **state)
{
    (void) state;
    capture (O_NONBLOCK);
    log_open (LOG_INFO, LOG_FORMAT_JSON);
    uint64_t before = log_dropped ();
    uint64_t written = 0;
    for (; log_dropped () == before && written < 1000000; written++) {
        log_say ("a", LOG_INFO, "line %llu", (unsigned long long) written);
    }
    log_say ("a", LOG_INFO, "one more");
    release ();
    assert_true (written > 1);
    assert_int_equal (log_dropped (), before + 2);
}

/*  A line that a full disk cut off; the next one still stands on its own. */
static void test_a_torn_line_does_not_spoil_the_next (void **state)
{
    (void) state;
    char path[] = "/tmp/test_log_XXXXXX", all[LINE_MAX_SIZE];
    struct rlimit limit, small;
    int file = mkstemp (path);
    assert_true (file >= 0);
    unlink (path);
    signal (SIGXFSZ, SIG_IGN);
    assert_int_equal (getrlimit (RLIMIT_FSIZE, &limit), 0);
    small = (struct rlimit){ 50, limit.rlim_max };

    capture (0);
    dup2 (file, STDOUT_FILENO);
    log_open (LOG_INFO, LOG_FORMAT_JSON);
    uint64_t before = log_dropped ();
    setrlimit (RLIMIT_FSIZE, &small);
    log_say ("a", LOG_INFO, "torn");
    log_say ("a", LOG_INFO, "no room at all");
    setrlimit (RLIMIT_FSIZE, &limit);
    log_say ("a", LOG_INFO, "whole");
    release ();

    ssize_t size = pread (file, all, sizeof all - 1, 0);
    close (file);
    assert_true (size > 52);
    assert_int_equal (log_dropped (), before + 2);
    assert_null (memchr (all, '\n', 50));
    assert_int_equal (all[50], '\n');
    all[size] = '\0';
    snprintf (line, sizeof line, "%s", all + 51);
    assert_text (json_text ("msg"), "whole");
}

/*  ---- threads ------------------------------------------------------------- */

enum { THREADS = 4, LINES = 500 };

static void *write_lines (void *argument)
{
    for (int i = 0; i < LINES; i++) {
        log_say ("a", LOG_INFO, "%s %d", (const char *) argument, i);
    }
    return NULL;
}

static void test_threads_do_not_mix_their_lines (void **state)
{
    (void) state;
    static char names[THREADS][1000];
    pthread_t threads[THREADS];
    capture (O_DIRECT);
    log_open (LOG_INFO, LOG_FORMAT_JSON);
    for (int i = 0; i < THREADS; i++) {
        memset (names[i], 'a' + i, sizeof names[i] - 1);
        assert_int_equal (pthread_create (&threads[i], NULL, write_lines, names[i]), 0);
    }
    int next[THREADS] = { 0 };
    bool good = true;
    for (int i = 0; i < THREADS * LINES && good; i++) {
        char expected[1100];
        read_line ();
        struct text text = json_text ("msg");
        int thread = text.size > 0 ? text.data[0] - 'a' : -1;
        good = thread >= 0 && thread < THREADS;
        if (good) {
            snprintf (expected, sizeof expected, "%s %d", names[thread], next[thread]++);
            good = text_equal (text, text_of (expected));
        }
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join (threads[i], NULL);
    }
    release ();
    assert_true (good);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_json_has_what_bunyan_needs),
        cmocka_unit_test (test_json_leaves_out_what_is_not_known),
        cmocka_unit_test (test_json_gives_any_text_back),
        cmocka_unit_test (test_json_of_what_is_not_utf8),
        cmocka_unit_test (test_text_is_aligned),
        cmocka_unit_test (test_a_user_cannot_forge_a_line),
        cmocka_unit_test (test_the_longest_of_everything),
        cmocka_unit_test (test_levels),
        cmocka_unit_test (test_say_cuts_what_is_too_long),
        cmocka_unit_test (test_a_reader_that_is_gone),
        cmocka_unit_test (test_a_reader_that_does_not_keep_up),
        cmocka_unit_test (test_a_torn_line_does_not_spoil_the_next),
        cmocka_unit_test (test_threads_do_not_mix_their_lines),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
