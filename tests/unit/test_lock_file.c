/*  test_lock_file.c - one process at a time. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/lock_file.h"

static char directory[64];
static char path[96];
static char reason[256];

static int start (void **state)
{
    (void) state;
    snprintf (directory, sizeof directory, "/tmp/test_lock_file_XXXXXX");
    if (!mkdtemp (directory))
        return -1;
    snprintf (path, sizeof path, "%s/a.lock", directory);
    return 0;
}

static int stop (void **state)
{
    (void) state;
    unlink (path);
    return rmdir (directory);
}

static void test_a_second_taker_is_told_who_has_it (void **state)
{
    (void) state;
    char wanted[64];
    struct stat status;
    int lock = lock_file_take (path, reason, sizeof reason);
    assert_true (lock >= 0);
    assert_int_equal (stat (path, &status), 0);
    assert_int_equal (status.st_mode & 0777, 0600);
    assert_int_equal (lock_file_take (path, reason, sizeof reason), -1);
    snprintf (wanted, sizeof wanted, "process %ld has", (long) getpid ());
    assert_non_null (strstr (reason, wanted));
    assert_non_null (strstr (reason, path));
    lock_file_release (&lock);
    assert_int_equal (lock, -1);
    lock = lock_file_take (path, reason, sizeof reason);
    assert_true (lock >= 0);
    lock_file_release (&lock);
}

static void test_the_lock_ends_with_its_process (void **state)
{
    (void) state;
    pid_t child = fork ();
    assert_true (child >= 0);
    if (child == 0)
        _exit (lock_file_take (path, reason, sizeof reason) >= 0 ? 0 : 1);
    int status;
    assert_int_equal (waitpid (child, &status, 0), child);
    assert_int_equal (status, 0);
    int lock = lock_file_take (path, reason, sizeof reason);
    assert_true (lock >= 0);
    lock_file_release (&lock);
}

/*  Whoever has it only for a moment is waited for; who keeps it is not. */
static void test_a_lock_that_is_had_for_a_moment (void **state)
{
    (void) state;
    int ends[2];
    char taken = 0;
    assert_int_equal (pipe (ends), 0);
    pid_t child = fork ();
    assert_true (child >= 0);
    if (child == 0) {
        bool good = lock_file_take (path, reason, sizeof reason) >= 0 && write (ends[1], "t", 1) == 1;
        poll (NULL, 0, 50);
        _exit (good ? 0 : 1);
    }
    assert_int_equal (read (ends[0], &taken, 1), 1);
    int lock = lock_file_wait (path, 60000, reason, sizeof reason);
    assert_true (lock >= 0);
    assert_int_equal (lock_file_wait (path, 20, reason, sizeof reason), -1);
    assert_int_equal (errno, EWOULDBLOCK);
    int status;
    assert_int_equal (waitpid (child, &status, 0), child);
    assert_int_equal (status, 0);
    close (ends[0]);
    close (ends[1]);
    lock_file_release (&lock);
}

static void test_what_cannot_be_made_is_named (void **state)
{
    (void) state;
    assert_int_equal (lock_file_take (directory, reason, sizeof reason), -1);
    assert_non_null (strstr (reason, directory));
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_a_second_taker_is_told_who_has_it, start, stop),
        cmocka_unit_test_setup_teardown (test_the_lock_ends_with_its_process, start, stop),
        cmocka_unit_test_setup_teardown (test_a_lock_that_is_had_for_a_moment, start, stop),
        cmocka_unit_test_setup_teardown (test_what_cannot_be_made_is_named, start, stop),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
