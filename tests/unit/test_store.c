/*  test_store.c - SQLite, thinly. Every test has a directory of its own. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/store.h"
#include "proto/text.h"

static char directory[64];
static char path[96];
static char reason[256];
static struct store *store;

static int start (void **state)
{
    (void) state;
    snprintf (directory, sizeof directory, "/tmp/test_store_XXXXXX");
    if (!mkdtemp (directory))
        return -1;
    snprintf (path, sizeof path, "%s/a.db", directory);
    store = store_open (path, true, reason, sizeof reason);
    if (!store)
        print_error ("%s\n", reason);
    return store ? 0 : -1;
}

static int stop (void **state)
{
    (void) state;
    char file[128];
    static const char *endings[] = { "", "-wal", "-shm" };
    store_close (&store);
    assert_null (store);
    for (size_t i = 0; i < 3; i++) {
        snprintf (file, sizeof file, "%s%s", path, endings[i]);
        unlink (file);
    }
    return rmdir (directory);
}

static void reopen (void)
{
    store_close (&store);
    store = store_open (path, false, reason, sizeof reason);
    assert_non_null (store);
}

/*  One number from a query without parameters. */
static int64_t number (const char *sql)
{
    struct store_query *query = store_prepare (store, sql);
    assert_non_null (query);
    assert_int_equal (store_step (query), STORE_ROW);
    int64_t result = store_int (query, 0);
    store_query_destroy (&query);
    assert_null (query);
    return result;
}

static void test_what_was_stored_is_there_after_reopening (void **state)
{
    (void) state;
    assert_true (store_run (store, "CREATE TABLE t (a TEXT, b INTEGER)"));
    assert_true (store_run (store, "INSERT INTO t VALUES ('x', 7)"));
    assert_int_equal (store_last_id (store), 1);
    reopen ();
    assert_int_equal (number ("SELECT b FROM t WHERE a = 'x'"), 7);
}

static void test_bytes_of_any_kind_come_back (void **state)
{
    (void) state;
    static const struct text texts[] = { { "", 0 },          { NULL, 0 },       { "\0", 1 },
                                         { "a\0b", 3 },      { "\xff\xfe", 2 }, { "it's \"quoted\"; --", 18 },
                                         { "\xc3\xa9 ", 3 }, { "a\0c", 3 } };
    assert_true (store_run (store, "CREATE TABLE t (i INTEGER PRIMARY KEY, a TEXT NOT NULL)"));
    struct store_query *insert = store_prepare (store, "INSERT INTO t VALUES (?1, ?2)");
    struct store_query *find = store_prepare (store, "SELECT a FROM t WHERE i = ?1 AND a = ?2");
    assert_non_null (insert);
    assert_non_null (find);
    for (int i = 0; i < 8; i++) {
        assert_true (store_bind_int (insert, 1, i));
        assert_true (store_bind_text (insert, 2, texts[i]));
        assert_int_equal (store_step (insert), STORE_DONE);
    }
    for (int i = 0; i < 8; i++) {
        assert_true (store_bind_int (find, 1, i));
        assert_true (store_bind_text (find, 2, texts[i]));
        assert_int_equal (store_step (find), STORE_ROW);
        assert_false (store_is_null (find, 0));
        assert_true (text_equal (store_text (find, 0), texts[i]));
        store_reset (find);
    }
    assert_int_equal (number ("SELECT count (DISTINCT a) FROM t"), 7);
}

static void test_texts_are_copied_when_bound (void **state)
{
    (void) state;
    char memory[] = "before";
    struct store_query *query = store_prepare (store, "SELECT ?1");
    assert_true (store_bind_text (query, 1, text_of (memory)));
    memcpy (memory, "AFTER!", 6);
    assert_int_equal (store_step (query), STORE_ROW);
    assert_true (text_equal (store_text (query, 0), TEXT_LITERAL ("before")));
}

/*  What was stored of it does not change with it. */
static void test_texts_that_are_lent_are_done_with_when_the_query_is (void **state)
{
    (void) state;
    char memory[] = "first!";
    assert_true (
        store_run (store, "CREATE TABLE t (i INTEGER PRIMARY KEY, a TEXT NOT NULL, b TEXT NOT NULL)"));
    struct store_query *insert = store_prepare (store, "INSERT INTO t (a, b) VALUES (?1, ?2)");
    assert_true (store_run (store, "BEGIN"));
    assert_true (store_lend_text (insert, 1, text_of (memory)));
    assert_true (store_lend_text (insert, 2, NO_TEXT));
    assert_int_equal (store_step (insert), STORE_DONE);
    memcpy (memory, "second", 6);
    assert_true (store_lend_text (insert, 1, text_of (memory)));
    assert_true (store_lend_text (insert, 2, NO_TEXT));
    assert_int_equal (store_step (insert), STORE_DONE);
    memcpy (memory, "xxxxxx", 6);
    assert_true (store_run (store, "COMMIT"));
    assert_int_equal (
        number ("SELECT count (*) FROM t WHERE b = '' AND (i = 1 AND a = 'first!' OR i = 2 AND a = "
                "'second')"),
        2);
}

static void test_null_and_numbers_at_the_ends (void **state)
{
    (void) state;
    struct store_query *query = store_prepare (store, "SELECT ?1, ?2, ?3");
    assert_true (store_bind_null (query, 1));
    assert_true (store_bind_int (query, 2, INT64_MIN));
    assert_true (store_bind_int (query, 3, INT64_MAX));
    assert_int_equal (store_step (query), STORE_ROW);
    assert_true (store_is_null (query, 0));
    assert_int_equal (store_text (query, 0).size, 0);
    assert_int_equal (store_int (query, 0), 0);
    assert_true (store_int (query, 1) == INT64_MIN);
    assert_true (store_int (query, 2) == INT64_MAX);
}

static void test_reset_forgets_rows_and_parameters (void **state)
{
    (void) state;
    struct store_query *query = store_prepare (store, "SELECT ?1 UNION ALL SELECT 2");
    assert_true (store_bind_int (query, 1, 1));
    assert_int_equal (store_step (query), STORE_ROW);
    assert_int_equal (store_int (query, 0), 1);
    store_reset (query);
    assert_int_equal (store_step (query), STORE_ROW);
    assert_true (store_is_null (query, 0));
    assert_int_equal (store_step (query), STORE_ROW);
    assert_int_equal (store_step (query), STORE_DONE);
    assert_int_equal (store_step (query), STORE_ROW);
}

static void test_failures_say_why_and_the_store_goes_on (void **state)
{
    (void) state;
    assert_false (store_run (store, "NONSENSE"));
    assert_non_null (strstr (store_reason (store), "NONSENSE"));
    assert_null (store_prepare (store, "SELECT * FROM nowhere"));
    assert_non_null (strstr (store_reason (store), "nowhere"));
    assert_true (store_run (store, "CREATE TABLE t (a INTEGER PRIMARY KEY)"));
    struct store_query *query = store_prepare (store, "INSERT INTO t VALUES (?1)");
    assert_false (store_bind_int (query, 2, 1));
    assert_true (store_bind_int (query, 1, 1));
    assert_int_equal (store_step (query), STORE_DONE);
    assert_int_equal (store_step (query), STORE_FAILED);
    assert_non_null (strstr (store_reason (store), "UNIQUE"));
    assert_true (store_bind_int (query, 1, 2));
    assert_int_equal (store_step (query), STORE_DONE);
    assert_int_equal (number ("SELECT count (*) FROM t"), 2);
}

static void test_transaction_that_is_left_open_is_undone (void **state)
{
    (void) state;
    assert_true (store_run (store, "CREATE TABLE t (a)"));
    assert_true (store_run (store, "BEGIN IMMEDIATE; INSERT INTO t VALUES (1)"));
    reopen ();
    assert_int_equal (number ("SELECT count (*) FROM t"), 0);
}

static void test_closing_frees_queries_that_were_forgotten (void **state)
{
    (void) state;
    struct store_query *first = store_prepare (store, "SELECT 1");
    struct store_query *middle = store_prepare (store, "SELECT 2");
    struct store_query *last = store_prepare (store, "SELECT 3");
    assert_int_equal (store_step (first), STORE_ROW);
    store_query_destroy (&middle);
    assert_int_equal (store_step (last), STORE_ROW);
    reopen ();
    assert_int_equal (number ("SELECT 4"), 4);
}

static void test_files_are_for_the_owner_only (void **state)
{
    (void) state;
    char file[128];
    static const char *endings[] = { "", "-wal", "-shm" };
    assert_true (store_run (store, "CREATE TABLE t (a)"));
    for (size_t i = 0; i < 3; i++) {
        struct stat status;
        snprintf (file, sizeof file, "%s%s", path, endings[i]);
        assert_int_equal (stat (file, &status), 0);
        assert_int_equal (status.st_mode & 0777, 0600);
    }
}

static void test_how_it_writes (void **state)
{
    (void) state;
    struct store_query *query = store_prepare (store, "PRAGMA journal_mode");
    assert_int_equal (store_step (query), STORE_ROW);
    assert_true (text_equal (store_text (query, 0), TEXT_LITERAL ("wal")));
    assert_int_equal (number ("PRAGMA synchronous"), 2);
    reopen ();
    assert_int_equal (number ("PRAGMA synchronous"), 1);
}

static void test_what_cannot_be_opened_is_named (void **state)
{
    (void) state;
    char file[128];
    char why[512];
    assert_null (store_open (directory, false, why, sizeof why));
    assert_non_null (strstr (why, directory));
    snprintf (file, sizeof file, "%s/no/such.db", directory);
    assert_null (store_open (file, false, why, sizeof why));
    assert_non_null (strstr (why, "No such file or directory"));
    snprintf (file, sizeof file, "%s/link", directory);
    assert_int_equal (symlink (path, file), 0);
    assert_null (store_open (file, false, why, sizeof why));
    assert_non_null (strstr (why, "symbolic link"));
    assert_int_equal (unlink (file), 0);
}

static void test_file_that_is_no_database_is_refused (void **state)
{
    (void) state;
    char why[512];
    store_close (&store);
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    for (int i = 0; i < 2000; i++)
        fputs ("not a database ", file);
    fclose (file);
    assert_null (store_open (path, true, why, sizeof why));
    assert_non_null (strstr (why, "not a database"));
}

#define STORED(test) cmocka_unit_test_setup_teardown (test, start, stop)

/*  Beside the writer, what is committed is seen; nothing is made or changed. */
static void test_a_reader_beside_the_writer (void **state)
{
    (void) state;
    char missing[128];
    assert_true (store_run (store, "CREATE TABLE t (a INTEGER)"));
    assert_true (store_run (store, "INSERT INTO t VALUES (1)"));
    struct store *reader = store_open_read (path, reason, sizeof reason);
    assert_non_null (reader);
    assert_true (store_run (store, "INSERT INTO t VALUES (2)"));
    struct store_query *query = store_prepare (reader, "SELECT count (*) FROM t");
    assert_non_null (query);
    assert_int_equal (store_step (query), STORE_ROW);
    assert_int_equal (store_int (query, 0), 2);
    store_reset (query);
    assert_false (store_run (reader, "INSERT INTO t VALUES (3)"));
    store_close (&reader);
    snprintf (missing, sizeof missing, "%s.missing", path);
    assert_null (store_open_read (missing, reason, sizeof reason));
    assert_non_null (strstr (reason, missing));
    assert_int_equal (access (missing, F_OK), -1);
}

static void limit_files (rlim_t size)
{
    struct rlimit limit;
    signal (SIGXFSZ, SIG_IGN);
    assert_int_equal (getrlimit (RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal (setrlimit (RLIMIT_FSIZE, &limit), 0);
}

/*  As a process leaves it that is killed: a log, and no index of it. */
static void leave_a_log (void)
{
    char file[128];
    pid_t child = fork ();
    if (child == 0) {
        struct store *mine = store_open (path, true, reason, sizeof reason);
        _exit (mine && store_run (mine, "INSERT INTO t VALUES (2)") ? 0 : 1);
    }
    int status = 1;
    assert_int_equal (waitpid (child, &status, 0), child);
    assert_int_equal (status, 0);
    snprintf (file, sizeof file, "%s-shm", path);
    assert_int_equal (unlink (file), 0);
}

static void test_without_room_it_can_be_read_alone (void **state)
{
    (void) state;
    char file[128];
    struct stat before;
    struct stat after;
    assert_true (store_run (store, "CREATE TABLE t (a INTEGER)"));
    assert_true (store_run (store, "INSERT INTO t VALUES (1)"));
    store_close (&store);
    leave_a_log ();
    snprintf (file, sizeof file, "%s-wal", path);
    assert_int_equal (stat (file, &before), 0);
    limit_files (0);
    struct store *reader = store_open_read (path, reason, sizeof reason);
    int error = errno;
    store = store_open_alone (path, reason, sizeof reason);
    int64_t rows = store ? number ("SELECT count (*) FROM t") : -1;
    bool wrote = store && store_run (store, "INSERT INTO t VALUES (3)");
    store_close (&store);
    limit_files (RLIM_INFINITY);
    assert_null (reader);
    assert_true (store_no_room (error));
    assert_int_equal (rows, 2);
    assert_false (wrote);
    assert_int_equal (stat (file, &after), 0);
    assert_int_equal (before.st_size, after.st_size);
    assert_int_equal (before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        STORED (test_what_was_stored_is_there_after_reopening),
        STORED (test_bytes_of_any_kind_come_back),
        STORED (test_texts_are_copied_when_bound),
        STORED (test_texts_that_are_lent_are_done_with_when_the_query_is),
        STORED (test_null_and_numbers_at_the_ends),
        STORED (test_reset_forgets_rows_and_parameters),
        STORED (test_failures_say_why_and_the_store_goes_on),
        STORED (test_transaction_that_is_left_open_is_undone),
        STORED (test_closing_frees_queries_that_were_forgotten),
        STORED (test_files_are_for_the_owner_only),
        STORED (test_how_it_writes),
        STORED (test_what_cannot_be_opened_is_named),
        STORED (test_file_that_is_no_database_is_refused),
        STORED (test_a_reader_beside_the_writer),
        STORED (test_without_room_it_can_be_read_alone),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
