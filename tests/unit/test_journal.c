/*  test_journal.c - what must survive the process, on real files.

    Every test has a directory of its own. The calls by which SQLite writes are taken
    by this program, so that each of them can be made to fail. A sync does nothing
    else: no test cuts the power, and what was written outlives a process without.
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/journal.h"
#include "actors/base/journal_file.h"
#include "actors/base/monitor.h"
#include "actors/base/store.h"
#include "proto/text.h"

#define DAY_MS (UINT64_C (24) * 60 * 60 * 1000)
#define NOW_MS (UINT64_C (20000) * DAY_MS)

enum { RECORDS_MAX = 4096, KILLS = 25 };

static char directory[64];
static char path[96];
static char reason[1024];
static struct journal *journal;
static struct journal_options options;

/*  ---- calls that fail ---------------------------------------------------- */

/*  The call, counted from now on, that fails; 0: none. When `sticky`, so do all that
    follow. */
static struct {
    unsigned at;
    unsigned seen;
    bool sticky;
    int error;
} failing;

static bool fails (void)
{
    failing.seen++;
    bool now = failing.at && (failing.seen == failing.at || (failing.sticky && failing.seen > failing.at));
    if (now)
        errno = failing.error;
    return now;
}

/*  From this call on every one fails. */
static void fail_from (unsigned at, int error)
{
    failing.at = at;
    failing.seen = 0;
    failing.sticky = true;
    failing.error = error;
}

int fdatasync (int fd)
{
    (void) fd;
    return fails () ? -1 : 0;
}

int fsync (int fd)
{
    (void) fd;
    return fails () ? -1 : 0;
}

ssize_t pwrite64 (int fd, const void *bytes, size_t size, off_t offset)
{
    return fails () ? -1 : (ssize_t) syscall (SYS_pwrite64, fd, bytes, size, offset);
}

int ftruncate64 (int fd, off_t size)
{
    return fails () ? -1 : (int) syscall (SYS_ftruncate, fd, size);
}

/*  ---- the world of a test ------------------------------------------------ */

static void remove_all (const char *name)
{
    DIR *files = opendir (name);
    assert_non_null (files);
    for (struct dirent *entry; (entry = readdir (files));) {
        char file[384];
        snprintf (file, sizeof file, "%s/%s", name, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink (file);
    }
    closedir (files);
}

static int start (void **state)
{
    (void) state;
    snprintf (directory, sizeof directory, "/tmp/test_journal_XXXXXX");
    if (!mkdtemp (directory))
        return -1;
    snprintf (path, sizeof path, "%s/journal-0.db", directory);
    options = (struct journal_options){ .state_dir = directory, .ledger_days = 90, .keep = 10 };
    memset (&failing, 0, sizeof failing);
    return 0;
}

static int stop (void **state)
{
    (void) state;
    memset (&failing, 0, sizeof failing);
    journal_close (&journal);
    assert_null (journal);
    remove_all (directory);
    return rmdir (directory);
}

static void open_journal (void)
{
    reason[0] = '\0';
    journal = journal_open (&options, reason, sizeof reason);
    if (!journal)
        fail_msg ("%s", reason);
}

static void reopen (void)
{
    journal_close (&journal);
    open_journal ();
}

/*  The journal is refused, and each of these words is in the reason. */
static void refused (const char *first, const char *second)
{
    journal = journal_open (&options, reason, sizeof reason);
    assert_null (journal);
    if (!strstr (reason, first) || !strstr (reason, second))
        fail_msg ("not `%s` and `%s`: %s", first, second, reason);
}

/*  A record as the decision would ask for it: everything follows from the number. */
static struct message record_of (uint64_t grant, enum grant_state state)
{
    static char user[32];
    struct message message = { .id = MESSAGE_REMEMBER, .trace = grant * 7 };
    snprintf (user, sizeof user, "user-%" PRIu64, grant);
    message.remember.grant = grant;
    message.remember.position = grant + 1000;
    message.remember.user = text_of (user);
    message.remember.reward = TEXT_LITERAL ("promo1");
    message.remember.amount = -(int64_t) grant;
    message.remember.currency = TEXT_LITERAL ("gold");
    message.remember.state = state;
    message.remember.at_ms = NOW_MS + grant;
    message.remember.timestamp = (int64_t) (NOW_MS - grant);
    return message;
}

static void append (uint64_t grant, enum grant_state state)
{
    struct message message = record_of (grant, state);
    journal_append (journal, &message);
}

static void append_at (uint64_t grant, enum grant_state state, uint64_t at_ms)
{
    struct message message = record_of (grant, state);
    message.remember.at_ms = at_ms;
    journal_append (journal, &message);
}

static void commit (void)
{
    if (!journal_commit (journal))
        fail_msg ("%s", journal_trouble (journal));
    assert_string_equal (journal_trouble (journal), "");
}

/*  What a RECALL brought. */
static struct {
    uint64_t grants[RECORDS_MAX];
    enum grant_state states[RECORDS_MAX];
    unsigned count;
    unsigned ends;
    bool more;
    uint64_t newest;
    struct recall left;
} recalled;

static void on_record (void *context, const struct message *message)
{
    assert_ptr_equal (context, &recalled);
    if (message->id == MESSAGE_RECALLED) {
        recalled.ends++;
        recalled.more = message->recalled.more;
        recalled.newest = message->recalled.newest;
        return;
    }
    const struct record *record = &message->record;
    struct message wanted = record_of (record->grant, record->state);
    assert_int_equal (message->id, MESSAGE_RECORD);
    assert_int_equal (message->trace, wanted.trace);
    assert_int_equal (record->position, wanted.remember.position);
    assert_int_equal (record->timestamp, wanted.remember.timestamp);
    assert_int_equal (record->amount, wanted.remember.amount);
    assert_true (text_equal (record->user, wanted.remember.user));
    assert_true (text_equal (record->reward, wanted.remember.reward));
    assert_true (text_equal (record->currency, wanted.remember.currency));
    assert_true (recalled.count < RECORDS_MAX);
    recalled.grants[recalled.count] = record->grant;
    recalled.states[recalled.count++] = record->state;
}

static bool recall_on (enum which_grants which, uint64_t after, uint64_t count)
{
    struct message recall = { .id = MESSAGE_RECALL };
    recall.recall.which = which;
    recall.recall.after = after;
    recall.recall.count = count;
    recalled.ends = 0;
    bool good = journal_recall (journal, &recall, on_record, &recalled);
    assert_int_equal (recalled.ends, good);
    recalled.left = recall.recall;
    return good;
}

static void recall (enum which_grants which, uint64_t after, uint64_t count)
{
    memset (&recalled, 0, sizeof recalled);
    if (!recall_on (which, after, count))
        fail_msg ("%s", journal_trouble (journal));
}

/*  What was recalled are these numbers, in this order. */
static void check_recalled (unsigned count, const uint64_t *grants, bool more)
{
    assert_int_equal (recalled.count, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal (recalled.grants[i], grants[i]);
    assert_int_equal (recalled.more, more);
}

/*  One number out of the file, by a connection of its own. */
static int64_t ask (const char *sql)
{
    struct store *store = store_open_read (path, reason, sizeof reason);
    if (!store)
        fail_msg ("%s", reason);
    struct store_query *query = store_prepare (store, sql);
    if (!query)
        fail_msg ("%s", store_reason (store));
    assert_int_equal (store_step (query), STORE_ROW);
    int64_t number = store_int (query, 0);
    store_close (&store);
    return number;
}

/*  Does something to the file with SQLite, whatever it is. */
static void tamper (const char *sql)
{
    struct store *store = store_open (path, true, reason, sizeof reason);
    if (!store)
        fail_msg ("%s", reason);
    if (!store_run (store, sql))
        fail_msg ("%s", store_reason (store));
    store_close (&store);
}

static uint8_t *read_bytes (size_t *size)
{
    FILE *file = fopen (path, "rb");
    assert_non_null (file);
    uint8_t *bytes = malloc (1 << 20);
    assert_non_null (bytes);
    *size = fread (bytes, 1, 1 << 20, file);
    fclose (file);
    return bytes;
}

static void write_bytes (const void *bytes, size_t size)
{
    FILE *file = fopen (path, "wb");
    assert_non_null (file);
    assert_int_equal (fwrite (bytes, 1, size, file), size);
    fclose (file);
}

/*  ---- records ------------------------------------------------------------ */

static void test_what_is_committed_is_there_after_reopening (void **state)
{
    (void) state;
    open_journal ();
    for (uint64_t grant = 1; grant <= 5; grant++)
        append (grant, GRANT_INTENDED);
    commit ();
    append (2, GRANT_GIVEN);
    append (4, GRANT_REFUSED);
    commit ();
    append (6, GRANT_INTENDED); /* and not committed */
    for (int i = 0; i < 2; i++) {
        recall (RECALL_OPEN, 0, 100);
        check_recalled (3, (uint64_t[]){ 1, 3, 5 }, false);
        assert_int_equal (recalled.newest, 5);
        recall (RECALL_RECENT, 0, 100);
        check_recalled (2, (uint64_t[]){ 4, 2 }, false);
        assert_int_equal (recalled.states[0], GRANT_REFUSED);
        assert_int_equal (recalled.states[1], GRANT_GIVEN);
        reopen ();
    }
}

static void test_an_empty_journal_recalls_nothing (void **state)
{
    (void) state;
    open_journal ();
    commit ();
    recall (RECALL_OPEN, 0, 10);
    check_recalled (0, NULL, false);
    assert_int_equal (recalled.newest, 0);
    recall (RECALL_RECENT, 0, 10);
    check_recalled (0, NULL, false);
}

static void test_recall_is_bounded_and_goes_on_behind_a_number (void **state)
{
    (void) state;
    open_journal ();
    for (uint64_t grant = 1; grant <= 9; grant++)
        append (grant, grant % 2 ? GRANT_INTENDED : GRANT_UNCERTAIN);
    commit ();
    recall (RECALL_OPEN, 0, 2);
    check_recalled (2, (uint64_t[]){ 1, 3 }, true);
    recall (RECALL_OPEN, 3, 3);
    check_recalled (3, (uint64_t[]){ 5, 7, 9 }, false);
    recall (RECALL_OPEN, 9, UINT32_MAX);
    check_recalled (0, NULL, false);
    recall (RECALL_OPEN, 0, 0);
    check_recalled (0, NULL, true);
    recall (RECALL_RECENT, 0, 3);
    check_recalled (3, (uint64_t[]){ 8, 6, 4 }, true);
    recall (RECALL_RECENT, 4, 3);
    check_recalled (1, (uint64_t[]){ 2 }, false);
    assert_int_equal (recalled.newest, 9);
}

static void test_an_end_whose_beginning_is_unknown_is_kept_whole (void **state)
{
    (void) state;
    open_journal ();
    append (17, GRANT_GIVEN);
    append (18, GRANT_REFUSED);
    commit ();
    recall (RECALL_RECENT, 0, 10);
    check_recalled (2, (uint64_t[]){ 18, 17 }, false);
    assert_int_equal (recalled.newest, 18);
}

static void test_a_grant_that_is_given_up_keeps_why_it_was_parked (void **state)
{
    (void) state;
    struct message message = record_of (1, GRANT_UNCERTAIN);
    open_journal ();
    message.remember.reason = TEXT_LITERAL ("no listing");
    journal_append (journal, &message);
    message.remember.state = GRANT_DROPPED;
    message.remember.reason = NO_TEXT;
    message.remember.who = TEXT_LITERAL ("bob");
    journal_append (journal, &message);
    commit ();
    assert_int_equal (
        ask ("SELECT state = 5 AND reason = 'no listing' AND who = 'bob' AND tries = 1 FROM grants"), 1);
}

/*  What stands in only one of the journals of shards 0 and 1. */
static int64_t count_differences (void)
{
    char attach[384];
    struct store *store = store_open_read (path, reason, sizeof reason);
    assert_non_null (store);
    snprintf (attach, sizeof attach, "ATTACH '%s/journal-1.db' AS other", directory);
    assert_true (store_run (store, attach));
    struct store_query *query = store_prepare (
        store, "SELECT (SELECT count (*) FROM (SELECT * FROM grants EXCEPT SELECT * FROM other.grants)) +"
               " (SELECT count (*) FROM (SELECT * FROM other.grants EXCEPT SELECT * FROM grants))");
    assert_non_null (query);
    assert_int_equal (store_step (query), STORE_ROW);
    int64_t number = store_int (query, 0);
    store_close (&store);
    return number;
}

/*  Records of one transaction are written several at a time; those of one grant may be
    among them. */
static void test_transactions_of_any_size_come_to_the_same (void **state)
{
    (void) state;
    static const char *const words[] = { "", "retry", "HTTP 400" };
    unsigned seed = (unsigned) time (NULL);
    print_message ("seed %u\n", seed);
    open_journal ();
    options.shard = 1;
    struct journal *other = journal_open (&options, reason, sizeof reason);
    assert_non_null (other);
    unsigned left = 0; /* records until the first of them commits */
    for (unsigned i = 0; i < 600; i++) {
        seed = seed * 1103515245u + 12345u;
        struct message message = record_of (1 + seed / 65536 % 40, 1 + (seed >> 8) % 5);
        message.remember.at_ms = NOW_MS + i;
        message.remember.reason = text_of (words[(seed >> 12) % 3]);
        message.remember.who = text_of ((seed >> 20) % 2 ? "bob" : "");
        journal_append (journal, &message);
        journal_append (other, &message);
        assert_true (journal_commit (other));
        left = left ? left - 1 : (seed >> 24) % 70;
        if (!left)
            commit ();
    }
    commit ();
    assert_true (ask ("SELECT count (*) FROM grants") > 20);
    assert_int_equal (count_differences (), 0);
    journal_close (&other);
}

static void test_a_known_grant_changes_and_keeps_how_it_began (void **state)
{
    (void) state;
    struct message message = record_of (1, GRANT_INTENDED);
    open_journal ();
    journal_append (journal, &message);
    commit ();
    message.remember.state = GRANT_REFUSED;
    message.remember.reason = TEXT_LITERAL ("HTTP 400");
    message.remember.at_ms = NOW_MS + 50;
    message.remember.amount = 999; /* counts only in a record that begins */
    journal_append (journal, &message);
    commit ();
    assert_int_equal (ask ("SELECT tries = 1 AND reason = 'HTTP 400' AND who = '' FROM grants"), 1);
    message.remember.state = GRANT_INTENDED;
    message.remember.reason = TEXT_LITERAL ("retry");
    message.remember.who = TEXT_LITERAL ("bob");
    message.remember.at_ms = NOW_MS + 60;
    journal_append (journal, &message);
    commit ();
    message.remember.state = GRANT_GIVEN;
    message.remember.reason = NO_TEXT;
    message.remember.who = NO_TEXT;
    message.remember.at_ms = NOW_MS + 70;
    journal_append (journal, &message);
    commit ();
    assert_int_equal (ask ("SELECT count (*) FROM grants"), 1);
    assert_int_equal (ask ("SELECT tries = 2 AND reason = '' AND who = 'bob' AND amount = -1 FROM grants"),
                      1);
    assert_int_equal (ask ("SELECT changed_ms - intended_ms FROM grants"), 69);
    recall (RECALL_RECENT, 0, 1);
    check_recalled (1, (uint64_t[]){ 1 }, false);
}

static void test_beginning_and_end_in_one_turn (void **state)
{
    (void) state;
    open_journal ();
    append (1, GRANT_INTENDED);
    append (1, GRANT_GIVEN);
    append (2, GRANT_INTENDED);
    commit ();
    recall (RECALL_OPEN, 0, 10);
    check_recalled (1, (uint64_t[]){ 2 }, false);
    recall (RECALL_RECENT, 0, 10);
    check_recalled (1, (uint64_t[]){ 1 }, false);
}

static void on_long_record (void *context, const struct message *message)
{
    if (message->id != MESSAGE_RECORD)
        return;
    const struct message *wanted = context;
    recalled.count++;
    assert_true (text_equal (message->record.user, wanted->remember.user));
    assert_true (text_equal (message->record.reward, wanted->remember.reward));
    assert_true (text_equal (message->record.currency, wanted->remember.currency));
}

static void test_texts_of_any_bytes_and_of_the_largest_size (void **state)
{
    (void) state;
    static char bytes[USER_SIZE_MAX];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char) (i * 37);
    struct message message = record_of (1, GRANT_INTENDED);
    struct message question = { .id = MESSAGE_RECALL, .recall = { .count = 1 } };
    message.remember.user = (struct text){ bytes, USER_SIZE_MAX };
    message.remember.reward = (struct text){ bytes + 1, REWARD_SIZE_MAX };
    message.remember.currency = (struct text){ bytes + 2, NAME_SIZE_MAX };
    message.remember.reason = (struct text){ bytes + 3, REASON_SIZE_MAX };
    message.remember.who = (struct text){ bytes + 4, NAME_SIZE_MAX };
    open_journal ();
    journal_append (journal, &message);
    commit ();
    reopen ();
    memset (&recalled, 0, sizeof recalled);
    assert_true (journal_recall (journal, &question, on_long_record, &message));
    assert_int_equal (recalled.count, 1);
}

static void test_a_large_turn_is_one_transaction_and_its_memory_is_given_back (void **state)
{
    (void) state;
    open_journal ();
    for (uint64_t grant = 1; grant <= 50000; grant++)
        append (grant, GRANT_INTENDED);
    assert_int_equal (ask ("SELECT count (*) FROM grants"), 0);
    commit ();
    assert_int_equal (ask ("SELECT count (*) FROM grants"), 50000);
    append (50001, GRANT_INTENDED);
    commit ();
    assert_int_equal (ask ("SELECT max (id) FROM grants"), 50001);
}

/*  ---- how it writes ------------------------------------------------------ */

static void test_files_are_for_the_owner_only (void **state)
{
    (void) state;
    static const char *const names[] = { "journal-0.db", "journal-0.db-wal", "journal-0.db-shm",
                                         "journal-0.lock" };
    mode_t before = umask (0);
    open_journal ();
    umask (before);
    append (1, GRANT_INTENDED);
    commit ();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[128];
        struct stat status;
        snprintf (file, sizeof file, "%s/%s", directory, names[i]);
        assert_int_equal (stat (file, &status), 0);
        assert_int_equal (status.st_mode & 0777, 0600);
    }
}

static void test_a_commit_is_synced_once_and_shared (void **state)
{
    (void) state;
    open_journal ();
    append (1, GRANT_INTENDED);
    commit (); /* the first of a log syncs its header too */
    for (uint64_t grant = 2; grant <= 60; grant++)
        append (grant, GRANT_INTENDED);
    failing.seen = 0;
    failing.at = UINT32_MAX;
    assert_true (journal_commit (journal));
    unsigned calls = failing.seen;
    failing.seen = 0;
    assert_true (journal_commit (journal)); /* nothing to do costs nothing */
    assert_int_equal (failing.seen, 0);
    assert_in_range (calls, 2, 40); /* two writes a page and one sync */
}

static void test_commits_and_sizes_are_told (void **state)
{
    (void) state;
    static char page[64 * 1024];
    options.monitor = monitor_new ();
    open_journal ();
    for (uint64_t grant = 1; grant <= 3; grant++)
        append (grant, GRANT_INTENDED);
    commit ();
    append (1, GRANT_GIVEN);
    commit ();
    commit ();
    journal_tend (journal, NOW_MS);
    page[monitor_metrics_page (options.monitor, page, sizeof page - 1)] = '\0';
    assert_non_null (strstr (page, "\nguerdon_journal_commits_total 2\n"));
    assert_non_null (strstr (page, "\nguerdon_journal_records_total 4\n"));
    assert_non_null (strstr (page, "\nguerdon_journal_failing 0\n"));
    assert_null (strstr (page, "\nguerdon_journal_bytes{part=\"file\"} 0\n"));
    assert_null (strstr (page, "\nguerdon_journal_bytes{part=\"log\"} 0\n"));
    monitor_journal (options.monitor, ROLE_DECISION, "no space");
    page[monitor_metrics_page (options.monitor, page, sizeof page - 1)] = '\0';
    assert_non_null (strstr (page, "\nguerdon_journal_failing 1\n"));
    journal_close (&journal);
    monitor_destroy (&options.monitor);
}

/*  ---- one writer --------------------------------------------------------- */

static void test_a_second_process_is_refused_and_told_which_has_it (void **state)
{
    (void) state;
    char number[32];
    open_journal ();
    struct journal *first = journal;
    snprintf (number, sizeof number, "process %ld", (long) getpid ());
    refused (path, number);
    assert_non_null (strstr (reason, "STATE_DIR"));
    options.shard = 1; /* another decision has a journal of its own */
    open_journal ();
    journal_close (&journal);
    journal_close (&first);
    options.shard = 0;
    open_journal ();
}

static void test_a_reader_does_not_hold_up_the_writer (void **state)
{
    (void) state;
    open_journal ();
    append (1, GRANT_INTENDED);
    commit ();
    struct store *reader = store_open_read (path, reason, sizeof reason);
    assert_non_null (reader);
    struct store_query *query =
        store_prepare (reader, "SELECT count (*) FROM grants, (SELECT 1 UNION SELECT 2)");
    assert_non_null (query);
    assert_true (store_run (reader, "BEGIN"));
    assert_int_equal (store_step (query), STORE_ROW);
    for (uint64_t grant = 2; grant <= 3000; grant++) { /* beyond a checkpoint */
        append (grant, GRANT_INTENDED);
        if (grant % 2 == 0)
            commit ();
    }
    store_reset (query);
    assert_int_equal (store_step (query), STORE_ROW);
    assert_int_equal (store_int (query, 0), 2); /* what it began with */
    store_close (&reader);
    assert_int_equal (ask ("SELECT count (*) FROM grants"), 3000);
}

static void test_somebody_else_who_writes_is_waited_for (void **state)
{
    (void) state;
    open_journal ();
    struct store *other = store_open (path, true, reason, sizeof reason);
    assert_non_null (other);
    assert_true (store_run (other, "BEGIN IMMEDIATE"));
    append (1, GRANT_INTENDED);
    assert_false (journal_commit (journal));
    assert_non_null (strstr (journal_trouble (journal), "locked"));
    assert_true (store_run (other, "COMMIT"));
    commit ();
    store_close (&other);
    assert_int_equal (ask ("SELECT count (*) FROM grants"), 1);
}

/*  ---- disks that fail ---------------------------------------------------- */

/*  Two turns, the second of which changes what the first began. */
static void append_turn (unsigned turn)
{
    for (uint64_t grant = turn * 10 + 1; grant <= turn * 10 + 10; grant++)
        append (grant, GRANT_INTENDED);
    if (turn) {
        append (turn * 10 - 1, GRANT_GIVEN);
        append (turn * 10 - 2, GRANT_REFUSED);
    }
}

static void check_turns (unsigned turns)
{
    char sql[160];
    assert_int_equal (ask ("SELECT count (*) FROM grants"), turns * 10);
    snprintf (sql, sizeof sql, "SELECT count (*) = %u FROM grants WHERE state = 2 AND id %% 10 = 9",
              turns - 1);
    assert_int_equal (ask (sql), 1);
    snprintf (sql, sizeof sql, "SELECT count (*) = %u FROM grants WHERE state = 3 AND id %% 10 = 8",
              turns - 1);
    assert_int_equal (ask (sql), 1);
    assert_int_equal (ask ("SELECT count (*) FROM grants WHERE tries <> 1"), 0);
}

/*  Each write and each sync of two turns fails in its turn, once or from there on;
    then the disk heals, and everything is there once. */
static void sweep (bool sticky, int error)
{
    unsigned silent = 0;
    for (unsigned at = 1;; at++) {
        unsigned refusals = 0;
        open_journal ();
        failing.at = at;
        failing.seen = 0;
        failing.sticky = sticky;
        failing.error = error;
        for (unsigned turn = 0; turn < 2; turn++) {
            append_turn (turn);
            for (int tries = 0; !journal_commit (journal); tries++) {
                assert_string_not_equal (journal_trouble (journal), "");
                refusals++;
                if (tries == 3)
                    failing.at = 0; /* it heals */
            }
        }
        bool reached = failing.seen >= at;
        failing.at = 0;
        check_turns (2);
        reopen ();
        check_turns (2);
        journal_close (&journal);
        remove_all (directory);
        if (!reached)
            break;
        silent += refusals == 0;
        if (refusals)
            assert_int_equal (refusals, sticky ? 4 : 1);
    }
    /*  SQLite does not mind the sync of the directory, which the journal has done. */
    assert_in_range (silent, 0, 1);
}

static void test_any_call_that_fails_once_loses_nothing (void **state)
{
    (void) state;
    sweep (false, EIO);
}

static void test_any_call_that_fails_for_a_while_loses_nothing (void **state)
{
    (void) state;
    sweep (true, EIO);
    sweep (true, ENOSPC);
}

static void test_a_failed_sync_is_not_believed_later (void **state)
{
    (void) state;
    struct stat log;
    char log_path[128];
    open_journal ();
    append_turn (0);
    fail_from (3, EIO);
    assert_false (journal_commit (journal));
    failing.at = 0;
    append_turn (1);
    commit ();
    /*  The log was emptied before anything was written behind what failed. */
    snprintf (log_path, sizeof log_path, "%s-wal", path);
    assert_int_equal (stat (log_path, &log), 0);
    assert_true (log.st_size > 0 && log.st_size < 40 * 4096);
    check_turns (2);
}

/*  Fills up at this size, or at the limit of a file's size where nothing may be
    mounted. True when mounted. */
static bool mount_small (void)
{
    return mount ("tmpfs", directory, "tmpfs", 0, "size=512k") == 0;
}

static void test_a_disk_that_is_full_and_has_room_again (void **state)
{
    (void) state;
    struct rlimit before;
    bool mounted = mount_small ();
    open_journal ();
    append_turn (0);
    commit ();
    signal (SIGXFSZ, SIG_IGN);
    assert_int_equal (getrlimit (RLIMIT_FSIZE, &before), 0);
    struct rlimit small = { 256 * 1024, before.rlim_max };
    if (!mounted)
        assert_int_equal (setrlimit (RLIMIT_FSIZE, &small), 0);
    unsigned turns = 1;
    bool good;
    do {
        append_turn (turns++);
        good = journal_commit (journal);
    } while (good && turns < 1000);
    bool refuses = !good && !journal_commit (journal);
    if (mounted)
        assert_int_equal (mount ("tmpfs", directory, "tmpfs", MS_REMOUNT, "size=64m"), 0);
    assert_int_equal (setrlimit (RLIMIT_FSIZE, &before), 0);
    assert_true (refuses);
    append_turn (turns++);
    commit ();
    check_turns (turns);
    reopen ();
    check_turns (turns);
    journal_close (&journal);
    if (mounted) {
        remove_all (directory);
        assert_int_equal (umount (directory), 0);
    }
}

/*  From now on no file may grow beyond this. */
static void limit_files (rlim_t size)
{
    struct rlimit limit;
    signal (SIGXFSZ, SIG_IGN);
    assert_int_equal (getrlimit (RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal (setrlimit (RLIMIT_FSIZE, &limit), 0);
}

static void test_a_start_on_a_full_disk_waits_for_room (void **state)
{
    (void) state;
    for (unsigned turns = 0; turns < 3; turns += 2) {
        if (turns) { /* else there is no journal yet */
            open_journal ();
            append_turn (0);
            append_turn (1);
            commit ();
            journal_close (&journal);
        }
        limit_files (0);
        journal = journal_open (&options, reason, sizeof reason);
        bool opened = journal != NULL;
        append_turn (turns);
        bool good = opened && (journal_commit (journal) || recall_on (RECALL_OPEN, 0, 1));
        limit_files (RLIM_INFINITY);
        if (!opened)
            fail_msg ("%s", reason);
        assert_false (good);
        assert_non_null (strstr (journal_trouble (journal), path));
        assert_non_null (strstr (journal_trouble (journal), strerror (EFBIG)));
        assert_null (strstr (journal_trouble (journal), "damaged"));
        commit ();
        recall (RECALL_OPEN, 0, 1);
        assert_int_equal (recalled.newest, (turns + 1) * 10);
        check_turns (turns + 1);
        journal_close (&journal);
    }
}

/*  It can be looked at without room, so waiting would be in vain. */
static void test_a_damaged_file_is_refused_on_a_full_disk_too (void **state)
{
    (void) state;
    open_journal ();
    append_turn (0);
    commit ();
    journal_close (&journal);
    tamper ("UPDATE grants SET position = -1 WHERE id = 7");
    limit_files (0);
    journal = journal_open (&options, reason, sizeof reason);
    limit_files (RLIM_INFINITY);
    assert_null (journal);
    assert_non_null (strstr (reason, "damaged"));
}

static void test_a_copy_that_vacuum_made_is_taken (void **state)
{
    (void) state;
    char copy[128];
    char sql[192];
    char beside[128];
    open_journal ();
    append_turn (0);
    append_turn (1);
    commit ();
    snprintf (copy, sizeof copy, "%s/copy.db", directory);
    snprintf (sql, sizeof sql, "VACUUM INTO '%s'", copy);
    journal_close (&journal);
    tamper (sql);
    assert_int_equal (rename (copy, path), 0);
    /*  What lies beside it would be played back into it. */
    snprintf (beside, sizeof beside, "%s-journal", path);
    FILE *file = fopen (beside, "w");
    assert_non_null (file);
    fputs ("something", file);
    fclose (file);
    refused (path, "not in WAL mode");
    assert_int_equal (unlink (beside), 0);
    open_journal ();
    check_turns (2);
    append_turn (2);
    commit ();
    check_turns (3);
}

static void test_a_file_that_is_moved_is_not_replaced (void **state)
{
    (void) state;
    char aside[128];
    open_journal ();
    append_turn (0);
    commit ();
    snprintf (aside, sizeof aside, "%s/aside.db", directory);
    assert_int_equal (rename (path, aside), 0);
    append_turn (1);
    for (int i = 0; i < 3; i++) {
        assert_false (journal_commit (journal));
        assert_non_null (strstr (journal_trouble (journal), "removed or replaced"));
    }
    assert_false (recall_on (RECALL_OPEN, 0, 10));
    assert_int_equal (access (path, F_OK), -1);
    assert_int_equal (rename (aside, path), 0);
    commit ();
    check_turns (2);
}

static void test_a_log_that_is_removed_is_noticed_and_its_records_are_saved (void **state)
{
    (void) state;
    char log_path[128];
    open_journal ();
    append_turn (0);
    commit ();
    snprintf (log_path, sizeof log_path, "%s-wal", path);
    assert_int_equal (unlink (log_path), 0);
    append_turn (1);
    assert_false (journal_commit (journal));
    assert_non_null (strstr (journal_trouble (journal), "-wal was removed"));
    reopen ();
    check_turns (1); /* the second turn was never reported */
}

/*  What a child says; it is no root, so that permissions hold. */
static int as_nobody (int (*act) (void))
{
    pid_t child = fork ();
    assert_true (child >= 0);
    if (child == 0) {
        if (geteuid () == 0 && setresuid (65534, 65534, 65534) != 0)
            _exit (99);
        _exit (act ());
    }
    int status;
    assert_int_equal (waitpid (child, &status, 0), child);
    assert_true (WIFEXITED (status));
    return WEXITSTATUS (status);
}

static int open_in_vain (void)
{
    return journal_open (&options, reason, sizeof reason) || !strstr (reason, directory) ||
           !strstr (reason, "Permission denied");
}

static int write_then_close_the_directory (void)
{
    journal = journal_open (&options, reason, sizeof reason);
    if (!journal)
        return 1;
    append_turn (0);
    if (!journal_commit (journal) || chmod (directory, 0500) != 0)
        return 2;
    append_turn (1);
    return journal_commit (journal) ? 0 : 3; /* what is open can be written */
}

static void test_a_directory_that_may_not_be_written (void **state)
{
    (void) state;
    assert_int_equal (chmod (directory, 0500), 0);
    if (geteuid () == 0)
        assert_int_equal (chown (directory, 65534, 65534), 0);
    assert_int_equal (as_nobody (open_in_vain), 0);
    assert_int_equal (chmod (directory, 0700), 0);
    assert_int_equal (as_nobody (write_then_close_the_directory), 0);
    assert_int_equal (chmod (directory, 0700), 0);
    open_journal ();
    check_turns (2);
}

/*  A page of records is unreadable in the middle of an answer: it goes on behind
    what was handed over. */
static void test_a_record_that_makes_no_sense_stops_the_answer (void **state)
{
    (void) state;
    open_journal ();
    for (uint64_t grant = 1; grant <= 2500; grant++)
        append (grant, GRANT_INTENDED);
    commit ();
    journal_close (&journal);
    tamper ("UPDATE grants SET position = -1 WHERE id = 1001"); /* beyond what the start looks at */
    open_journal ();
    memset (&recalled, 0, sizeof recalled);
    assert_false (recall_on (RECALL_OPEN, 0, 1500));
    assert_int_equal (recalled.count, 1000);
    assert_int_equal (recalled.left.after, 1000);
    assert_int_equal (recalled.left.count, 500);
    assert_string_equal (journal_trouble (journal), "record 1001 is damaged");
    struct store *other = store_open (path, true, reason, sizeof reason);
    assert_true (store_run (other, "UPDATE grants SET position = 2001 WHERE id = 1001"));
    store_close (&other);
    assert_true (recall_on (RECALL_OPEN, recalled.left.after, recalled.left.count));
    assert_int_equal (recalled.count, 1500);
    assert_true (recalled.more);
    for (unsigned i = 0; i < 1500; i++)
        assert_int_equal (recalled.grants[i], i + 1);
}

/*  ---- processes that end ------------------------------------------------- */

/*  Begins grants in turns of changing size, and ends some, for ever; says after each
    commit how far it is. */
static void write_for_ever (int out, unsigned seed)
{
    uint64_t next = recalled.newest + 1;
    uint64_t ended = recalled.newest;
    for (;;) {
        seed = seed * 1103515245u + 12345u;
        unsigned size = 1 + seed / 65536 % 200;
        for (unsigned i = 0; i < size; i++)
            append (next++, GRANT_INTENDED);
        while (ended + 300 < next)
            append (++ended, GRANT_GIVEN);
        if (!journal_commit (journal))
            _exit (1);
        uint64_t told[2] = { next - 1, ended };
        if (write (out, told, sizeof told) != sizeof told)
            _exit (1);
    }
}

/*  Turns the wheel for a while, so that not every death falls on the same step. */
static void spin_us (unsigned us)
{
    struct timespec from;
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &from);
    do
        clock_gettime (CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - from.tv_sec) * 1000000 + (now.tv_nsec - from.tv_nsec) / 1000 < (long) us);
}

/*  Lets a child write until it has said so much, and then kills it. */
static void kill_one (unsigned seed, uint64_t told[2])
{
    int pipes[2];
    unsigned commits = seed % 40;
    assert_int_equal (pipe (pipes), 0);
    pid_t child = fork ();
    assert_true (child >= 0);
    if (child == 0) {
        journal = journal_open (&options, reason, sizeof reason);
        if (!journal || !recall_on (RECALL_OPEN, 0, 0))
            _exit (1);
        write_for_ever (pipes[1], seed);
    }
    close (pipes[1]);
    for (unsigned i = 0; i <= commits; i++)
        assert_int_equal (read (pipes[0], told, 16), 16);
    spin_us (seed / 64 % 1500);
    kill (child, SIGKILL);
    uint64_t more[2];
    while (read (pipes[0], more, 16) == 16) /* said before it died */
        memcpy (told, more, 16);
    close (pipes[0]);
    int status;
    assert_int_equal (waitpid (child, &status, 0), child);
    assert_true (WIFSIGNALED (status));
}

static int64_t ask_behind (const char *sql, uint64_t start)
{
    char text[160];
    snprintf (text, sizeof text, "%s AND id > %" PRIu64, sql, start);
    return ask (text);
}

static void test_killed_at_any_moment_it_has_what_it_reported (void **state)
{
    (void) state;
    unsigned seed = (unsigned) time (NULL);
    print_message ("seed %u\n", seed);
    memset (&recalled, 0, sizeof recalled);
    for (unsigned i = 0; i < KILLS; i++) {
        uint64_t told[2] = { 0, 0 };
        uint64_t start = recalled.newest;
        seed = seed * 69069u + 1;
        kill_one (seed >> 8, told);
        open_journal ();
        recall (RECALL_OPEN, 0, 0);
        /*  Exactly what was begun up to a point, and what was ended up to another:
            all that was reported, and at most the turn that was under way. */
        assert_in_range (recalled.newest, told[0], told[0] + 200);
        assert_int_equal (ask ("SELECT count (*) FROM grants"), recalled.newest);
        int64_t given = ask_behind ("SELECT count (*) FROM grants WHERE state = 2", start);
        int64_t last = ask_behind ("SELECT max (id) FROM grants WHERE state = 2", start);
        if (given)
            assert_int_equal (last - given, start);
        assert_in_range (start + (uint64_t) given, told[1], told[1] + 200);
        journal_close (&journal);
    }
}

/*  ---- files that are not to be believed ---------------------------------- */

/*  A journal of some records, whole and closed, so that it is one file. */
static void make_file (unsigned turns)
{
    open_journal ();
    for (unsigned turn = 0; turn < turns; turn++)
        append_turn (turn);
    commit ();
    journal_close (&journal);
}

/*  Refused with this word, what to do is said, and not a byte is changed. */
static void refused_untouched (const char *word)
{
    size_t before_size;
    size_t after_size;
    uint8_t *before = read_bytes (&before_size);
    refused (path, word);
    if (!strstr (reason, "left as it is") || !strstr (reason, "move it"))
        fail_msg ("%s", reason);
    uint8_t *after = read_bytes (&after_size);
    assert_int_equal (before_size, after_size);
    assert_memory_equal (before, after, before_size);
    free (before);
    free (after);
}

static void test_a_foreign_file_is_refused_and_left_as_it_is (void **state)
{
    (void) state;
    static char text[5000];
    memset (text, 'x', sizeof text);
    write_bytes ("", 0);
    refused_untouched ("no journal");
    write_bytes (text, sizeof text);
    refused_untouched ("no journal");
    unlink (path);
    struct store *other = store_open (path, true, reason, sizeof reason);
    assert_true (store_run (other, "CREATE TABLE grants (id INTEGER PRIMARY KEY)"));
    store_close (&other);
    refused_untouched ("no journal");
}

static void test_a_newer_journal_is_refused_and_left_as_it_is (void **state)
{
    (void) state;
    make_file (1);
    tamper ("PRAGMA user_version = 2");
    refused_untouched ("newer");
}

static void test_other_tables_are_refused (void **state)
{
    (void) state;
    static const char *const changes[] = {
        "DROP INDEX grants_open",
        "DROP INDEX grants_parked",
        "DROP TABLE grants",
        "ALTER TABLE grants ADD COLUMN more TEXT",
        "ALTER TABLE grants RENAME COLUMN who TO whom",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON grants BEGIN DELETE FROM grants; END",
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        make_file (1);
        tamper (changes[i]);
        refused_untouched ("is damaged");
        remove_all (directory);
    }
}

static void test_records_that_make_no_sense_are_refused (void **state)
{
    (void) state;
    static const char *const changes[] = {
        "UPDATE grants SET state = 6 WHERE id = 3",
        "UPDATE grants SET state = 0 WHERE id = 3",
        "UPDATE grants SET position = 9007199254740992 WHERE id = 3",
        "UPDATE grants SET changed_ms = -1 WHERE id = 3",
        "UPDATE grants SET user = hex (zeroblob (5000)) WHERE id = 3",
        "UPDATE grants SET reward = hex (zeroblob (101)) WHERE id = 3",
        "UPDATE grants SET currency = hex (zeroblob (128)) WHERE id = 3",
        "UPDATE grants SET id = -1 WHERE id = 3",
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        make_file (1);
        tamper (changes[i]);
        refused_untouched ("make no sense");
        remove_all (directory);
    }
}

/*  Any page of zeros, any file that is cut: refused, or nothing of it was in use. */
static void test_damaged_pages_are_refused_and_left_as_they_are (void **state)
{
    (void) state;
    size_t size;
    make_file (40);
    uint8_t *bytes = read_bytes (&size);
    uint8_t *copy = malloc (size);
    assert_non_null (copy);
    assert_true (size >= 8 * 4096);
    for (size_t page = 0; page < size / 4096; page++) {
        memcpy (copy, bytes, size);
        memset (copy + page * 4096, 0, 4096);
        write_bytes (copy, size);
        refused_untouched (page ? "damaged" : "no journal");
        write_bytes (bytes, page * 4096);
        refused_untouched (page ? "its end is missing" : "no journal");
    }
    write_bytes (bytes, size - 1);
    refused_untouched ("its end is missing");
    write_bytes (bytes, size);
    open_journal ();
    check_turns (40);
    free (bytes);
    free (copy);
}

/*  Also in a file that is too large to be read as a whole, what is needed to begin is
    looked at. */
static void test_a_large_file_is_looked_at_where_it_matters (void **state)
{
    (void) state;
    struct stat status;
    open_journal ();
    for (unsigned grant = 1; grant <= 250000; grant++)
        append (grant, grant % 1000 ? GRANT_GIVEN : GRANT_INTENDED);
    commit ();
    journal_close (&journal);
    assert_int_equal (stat (path, &status), 0);
    assert_true (status.st_size > 16 * 1024 * 1024);
    struct timespec from;
    struct timespec to;
    clock_gettime (CLOCK_MONOTONIC, &from);
    open_journal ();
    clock_gettime (CLOCK_MONOTONIC, &to);
    print_message ("opened %lld bytes in %ld us\n", (long long) status.st_size,
                   (long) (to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000);
    journal_close (&journal);
    tamper ("UPDATE grants SET position = -1 WHERE id = 1000"); /* an open one */
    refused_untouched ("make no sense");
    tamper ("UPDATE grants SET position = 1 WHERE id = 1000; UPDATE grants SET state = 9 WHERE id = 249900");
    refused_untouched ("make no sense");
    tamper ("UPDATE grants SET state = 2 WHERE id = 249900");
    open_journal ();
}

static void test_a_log_without_its_file_is_not_taken_for_ours (void **state)
{
    (void) state;
    char log_path[128];
    snprintf (log_path, sizeof log_path, "%s-wal", path);
    FILE *file = fopen (log_path, "w");
    assert_non_null (file);
    fputs ("something", file);
    fclose (file);
    refused (path, "-wal is there");
    assert_int_equal (access (path, F_OK), -1);
    assert_int_equal (unlink (log_path), 0);
    open_journal ();
}

static void test_what_is_left_of_a_start_that_was_cut_short_does_not_matter (void **state)
{
    (void) state;
    static const char *const names[] = { "journal-0.db.new", "journal-0.db.new-wal",
                                         "journal-0.db.new-journal" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file_name[128];
        snprintf (file_name, sizeof file_name, "%s/%s", directory, names[i]);
        FILE *file = fopen (file_name, "w");
        assert_non_null (file);
        fputs ("half of something", file);
        fclose (file);
    }
    make_file (1);
    open_journal ();
    check_turns (1);
}

static void test_every_call_of_a_first_start_may_fail (void **state)
{
    (void) state;
    for (unsigned at = 1;; at++) {
        fail_from (at, EIO);
        journal = journal_open (&options, reason, sizeof reason);
        bool reached = failing.seen >= at;
        failing.at = 0;
        if (!journal)
            assert_non_null (strstr (reason, path));
        else
            journal_close (&journal);
        open_journal ();
        append_turn (0);
        commit ();
        check_turns (1);
        journal_close (&journal);
        remove_all (directory);
        if (!reached)
            return;
    }
}

/*  ---- older versions ----------------------------------------------------- */

static void make_version_0 (void)
{
    struct store *store = store_open (path, true, reason, sizeof reason);
    assert_non_null (store);
    if (!store_run (store,
                    "PRAGMA application_id = 0x67756572;"
                    "CREATE TABLE grants (id INTEGER PRIMARY KEY, position INTEGER NOT NULL,"
                    " event_ms INTEGER NOT NULL, trace INTEGER NOT NULL, user TEXT NOT NULL,"
                    " reward TEXT NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL,"
                    " state INTEGER NOT NULL, intended_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL,"
                    " reason TEXT NOT NULL);"
                    "CREATE INDEX grants_open ON grants (id) WHERE state = 1;"
                    "CREATE INDEX grants_parked ON grants (id) WHERE state IN (3, 4)"))
        fail_msg ("%s", store_reason (store));
    for (uint64_t grant = 1; grant <= 3; grant++) {
        char sql[256];
        snprintf (sql, sizeof sql,
                  "INSERT INTO grants VALUES (%d, %d, %" PRIu64
                  ", %d, 'user-%d', 'promo1', %d, 'gold', %d, 5, 6, '')",
                  (int) grant, (int) grant + 1000, NOW_MS - grant, (int) grant * 7, (int) grant, -(int) grant,
                  (int) grant);
        if (!store_run (store, sql))
            fail_msg ("%s", store_reason (store));
    }
    store_close (&store);
}

static void test_an_older_journal_is_brought_up_to_date (void **state)
{
    (void) state;
    make_version_0 ();
    for (int i = 0; i < 2; i++) {
        open_journal ();
        recall (RECALL_OPEN, 0, 10);
        check_recalled (1, (uint64_t[]){ 1 }, false);
        recall (RECALL_RECENT, 0, 10);
        check_recalled (2, (uint64_t[]){ 3, 2 }, false);
        assert_int_equal (ask ("SELECT count (*) FROM grants WHERE tries = 1 AND who = ''"), 3);
        assert_int_equal (ask ("PRAGMA user_version"), 1);
        journal_close (&journal);
    }
    open_journal ();
    append (4, GRANT_INTENDED);
    append (1, GRANT_GIVEN);
    commit ();
    recall (RECALL_OPEN, 0, 10);
    check_recalled (1, (uint64_t[]){ 4 }, false);
}

static void test_a_migration_that_fails_leaves_the_version_before (void **state)
{
    (void) state;
    for (unsigned at = 1;; at++) {
        make_version_0 ();
        fail_from (at, ENOSPC);
        journal = journal_open (&options, reason, sizeof reason);
        bool reached = failing.seen >= at;
        failing.at = 0;
        journal_close (&journal);
        int64_t version = ask ("PRAGMA user_version");
        assert_int_equal (ask ("SELECT count (*) FROM pragma_table_info ('grants')"), version ? 14 : 12);
        open_journal ();
        assert_int_equal (ask ("SELECT count (*) FROM grants WHERE tries = 1"), 3);
        journal_close (&journal);
        remove_all (directory);
        if (!reached)
            return;
    }
}

static void test_an_older_journal_that_does_not_become_one_of_ours_is_refused (void **state)
{
    (void) state;
    make_version_0 ();
    tamper ("DROP INDEX grants_open");
    refused (path, "is damaged");
    assert_int_equal (ask ("PRAGMA user_version"), 0);
    assert_int_equal (ask ("SELECT count (*) FROM pragma_table_info ('grants')"), 12);
}

/*  ---- what is old -------------------------------------------------------- */

static unsigned long long count_left (void)
{
    return (unsigned long long) ask ("SELECT count (*) FROM grants");
}

/*  So many calls as a minute and a half of a running process makes. */
static void tend_for_a_while (uint64_t wall_ms)
{
    for (int i = 0; i < 90; i++)
        journal_tend (journal, wall_ms);
}

static void test_finished_records_go_when_they_are_old (void **state)
{
    (void) state;
    open_journal ();
    for (uint64_t grant = 1; grant <= 100; grant++)
        append_at (grant, GRANT_GIVEN, NOW_MS);
    append_at (7, GRANT_INTENDED, NOW_MS);
    append_at (8, GRANT_REFUSED, NOW_MS);
    append_at (9, GRANT_UNCERTAIN, NOW_MS);
    append_at (10, GRANT_DROPPED, NOW_MS);
    append_at (11, GRANT_GIVEN, NOW_MS + 5 * DAY_MS); /* came to an end later */
    for (uint64_t grant = 101; grant <= 120; grant++)
        append_at (grant, GRANT_GIVEN, NOW_MS + 90 * DAY_MS);
    commit ();
    tend_for_a_while (NOW_MS + 90 * DAY_MS);
    assert_int_equal (count_left (), 120);
    tend_for_a_while (NOW_MS + 90 * DAY_MS + 1);
    assert_int_equal (count_left (), 24);
    assert_int_equal (ask ("SELECT count (*) FROM grants WHERE id IN (7, 8, 9, 11) OR id > 100"), 24);
    append_at (8, GRANT_DROPPED, NOW_MS + 90 * DAY_MS); /* a person saw to it */
    commit ();
    tend_for_a_while (NOW_MS + 95 * DAY_MS + 1);
    assert_int_equal (count_left (), 23);
    tend_for_a_while (NOW_MS + 180 * DAY_MS + 1);
    assert_int_equal (ask ("SELECT count (*) FROM grants WHERE id IN (7, 9)"), 2);
    assert_int_equal (count_left (), 12); /* those two, and the newest ten */
}

static void test_the_newest_number_is_known_when_everything_is_old (void **state)
{
    (void) state;
    options.keep = 1;
    open_journal ();
    for (uint64_t grant = 1; grant <= 50; grant++)
        append_at (grant, GRANT_GIVEN, NOW_MS);
    commit ();
    tend_for_a_while (NOW_MS + 1000 * DAY_MS);
    assert_int_equal (count_left (), 1);
    reopen ();
    recall (RECALL_RECENT, 0, 10);
    assert_int_equal (recalled.newest, 50);
}

static void test_a_clock_that_jumps_ahead_does_bounded_damage (void **state)
{
    (void) state;
    options.keep = 2000;
    open_journal ();
    for (uint64_t grant = 1; grant <= 10000; grant++)
        append_at (grant, GRANT_GIVEN, NOW_MS);
    commit ();
    journal_tend (journal, NOW_MS + 10000 * DAY_MS);
    assert_int_equal (count_left (), 9000);                       /* a step, */
    assert_int_equal (ask ("SELECT min (id) FROM grants"), 1001); /* the oldest first */
    tend_for_a_while (NOW_MS + 10000 * DAY_MS);
    assert_int_equal (count_left (), 2000);
    assert_int_equal (ask ("SELECT min (id) FROM grants"), 8001);
}

static void test_records_from_a_clock_that_was_ahead_hide_nothing_that_is_old (void **state)
{
    (void) state;
    open_journal ();
    append_at (1, GRANT_GIVEN, NOW_MS);
    append_at (2, GRANT_GIVEN, NOW_MS + 5000 * DAY_MS);
    for (uint64_t grant = 3; grant <= 50; grant++)
        append_at (grant, GRANT_GIVEN, NOW_MS);
    commit ();
    tend_for_a_while (NOW_MS - 100 * DAY_MS); /* and one that is behind */
    assert_int_equal (count_left (), 50);
    tend_for_a_while (NOW_MS + 100 * DAY_MS);
    assert_int_equal (count_left (), 11);
}

static void test_tending_on_a_disk_that_fails_is_made_up_for (void **state)
{
    (void) state;
    open_journal ();
    for (uint64_t grant = 1; grant <= 3000; grant++)
        append_at (grant, GRANT_GIVEN, NOW_MS);
    commit ();
    fail_from (1, EIO);
    journal_tend (journal, NOW_MS + 100 * DAY_MS);
    failing.at = 0;
    append_at (3001, GRANT_INTENDED, NOW_MS);
    commit ();
    assert_int_equal (count_left (), 3001);
    tend_for_a_while (NOW_MS + 100 * DAY_MS);
    assert_int_equal (count_left (), 10);
}

/*  ---- journals that nobody takes up -------------------------------------- */

static void test_what_is_left_in_a_journal_can_be_counted (void **state)
{
    (void) state;
    uint64_t open = 0;
    uint64_t parked = 0;
    make_file (3);
    assert_true (journal_file_left (path, &open, &parked));
    assert_int_equal (open, 26);
    assert_int_equal (parked, 2);
    write_bytes ("nothing", 7);
    assert_false (journal_file_left (path, &open, &parked));
    unlink (path);
    assert_false (journal_file_left (path, &open, &parked));
}

#define JOURNAL(test) cmocka_unit_test_setup_teardown (test, start, stop)

int main (void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL (test_what_is_committed_is_there_after_reopening),
        JOURNAL (test_an_empty_journal_recalls_nothing),
        JOURNAL (test_recall_is_bounded_and_goes_on_behind_a_number),
        JOURNAL (test_an_end_whose_beginning_is_unknown_is_kept_whole),
        JOURNAL (test_transactions_of_any_size_come_to_the_same),
        JOURNAL (test_a_known_grant_changes_and_keeps_how_it_began),
        JOURNAL (test_a_grant_that_is_given_up_keeps_why_it_was_parked),
        JOURNAL (test_beginning_and_end_in_one_turn),
        JOURNAL (test_texts_of_any_bytes_and_of_the_largest_size),
        JOURNAL (test_a_large_turn_is_one_transaction_and_its_memory_is_given_back),
        JOURNAL (test_files_are_for_the_owner_only),
        JOURNAL (test_a_commit_is_synced_once_and_shared),
        JOURNAL (test_commits_and_sizes_are_told),
        JOURNAL (test_a_second_process_is_refused_and_told_which_has_it),
        JOURNAL (test_a_reader_does_not_hold_up_the_writer),
        JOURNAL (test_somebody_else_who_writes_is_waited_for),
        JOURNAL (test_any_call_that_fails_once_loses_nothing),
        JOURNAL (test_any_call_that_fails_for_a_while_loses_nothing),
        JOURNAL (test_a_failed_sync_is_not_believed_later),
        JOURNAL (test_a_disk_that_is_full_and_has_room_again),
        JOURNAL (test_a_start_on_a_full_disk_waits_for_room),
        JOURNAL (test_a_damaged_file_is_refused_on_a_full_disk_too),
        JOURNAL (test_a_copy_that_vacuum_made_is_taken),
        JOURNAL (test_a_file_that_is_moved_is_not_replaced),
        JOURNAL (test_a_log_that_is_removed_is_noticed_and_its_records_are_saved),
        JOURNAL (test_a_directory_that_may_not_be_written),
        JOURNAL (test_a_record_that_makes_no_sense_stops_the_answer),
        JOURNAL (test_killed_at_any_moment_it_has_what_it_reported),
        JOURNAL (test_a_foreign_file_is_refused_and_left_as_it_is),
        JOURNAL (test_a_newer_journal_is_refused_and_left_as_it_is),
        JOURNAL (test_other_tables_are_refused),
        JOURNAL (test_records_that_make_no_sense_are_refused),
        JOURNAL (test_damaged_pages_are_refused_and_left_as_they_are),
        JOURNAL (test_a_large_file_is_looked_at_where_it_matters),
        JOURNAL (test_a_log_without_its_file_is_not_taken_for_ours),
        JOURNAL (test_what_is_left_of_a_start_that_was_cut_short_does_not_matter),
        JOURNAL (test_every_call_of_a_first_start_may_fail),
        JOURNAL (test_an_older_journal_is_brought_up_to_date),
        JOURNAL (test_a_migration_that_fails_leaves_the_version_before),
        JOURNAL (test_an_older_journal_that_does_not_become_one_of_ours_is_refused),
        JOURNAL (test_finished_records_go_when_they_are_old),
        JOURNAL (test_the_newest_number_is_known_when_everything_is_old),
        JOURNAL (test_a_clock_that_jumps_ahead_does_bounded_damage),
        JOURNAL (test_records_from_a_clock_that_was_ahead_hide_nothing_that_is_old),
        JOURNAL (test_tending_on_a_disk_that_fails_is_made_up_for),
        JOURNAL (test_what_is_left_in_a_journal_can_be_counted),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
