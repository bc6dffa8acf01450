/*  test_journal_read.c - a look into a journal beside its writer, and what a person
    settles while no decision runs. Every test has a directory of its own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/journal_file.h"
#include "actors/base/journal_read.h"
#include "actors/base/lock_file.h"
#include "actors/base/store.h"
#include "proto/codec.h"
#include "proto/text.h"

enum { SHARD = 3, SEEN_MAX = 4096 };

static char directory[64];
static char path[JOURNAL_PATH_SIZE];
static char reason[2048];
static struct store *writer;
static struct journal_reader *reader;

/*  What was listed. */
static struct {
    uint64_t grants[SEEN_MAX];
    unsigned count;
    unsigned pages;
} seen;

static void run_sql (const char *sql)
{
    if (!store_run (writer, sql))
        fail_msg ("%s: %s", sql, store_reason (writer));
}

static int begin (void **state)
{
    (void) state;
    snprintf (directory, sizeof directory, "/tmp/test_journal_read_XXXXXX");
    if (!mkdtemp (directory))
        return -1;
    assert_true (journal_file (path, sizeof path, directory, SHARD, "db"));
    writer = journal_file_open (path, reason, sizeof reason);
    if (!writer)
        return -1;
    memset (&seen, 0, sizeof seen);
    return 0;
}

static int end (void **state)
{
    (void) state;
    char file[128];
    static const char *const names[] = { "journal-3.db",    "journal-3.db-wal", "journal-3.db-shm",
                                         "journal-3.lock",  "journal-4.db",     "journal-4.db-wal",
                                         "journal-4.db-shm" };
    journal_reader_close (&reader);
    store_close (&writer);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf (file, sizeof file, "%s/%s", directory, names[i]);
        unlink (file);
    }
    return rmdir (directory);
}

static void add (uint64_t grant, const char *user, enum grant_state state)
{
    char sql[512];
    snprintf (sql, sizeof sql,
              "INSERT INTO grants VALUES (%llu, 7, 1700000000000, -2, '%s', 'promo1', 10, 'gold', %d, "
              "1700000000001, 1700000000002, 1, 'because', '')",
              (unsigned long long) grant, user, (int) state);
    run_sql (sql);
}

/*  Given ones with numbers from 1, of a player each. */
static void add_many (unsigned count, const char *user)
{
    char sql[512];
    snprintf (sql, sizeof sql,
              "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %u) "
              "INSERT INTO grants SELECT i, i, 5, 0, %s, 'promo1', 10, 'gold', 2, 1, 2, 1, '', '' FROM n",
              count, user);
    run_sql (sql);
}

static void open_reader (void)
{
    reader = journal_reader_open (path, false, reason, sizeof reason);
    if (!reader)
        fail_msg ("%s", reason);
}

/*  One page; the numbers of what it lists are added to what was seen. */
static struct looked look (enum which_listed which, uint64_t after, const char *user, struct message *last)
{
    struct look question = { .request = 9, .which = which, .after = after, .user = text_of (user) };
    struct message looked, value;
    struct raw listed;
    struct decoder decoder;
    journal_reader_look (reader, &question, &looked, &listed);
    assert_int_equal (looked.id, MESSAGE_LOOKED);
    assert_int_equal (looked.looked.request, 9);
    seen.pages++;
    if (!listed.size)
        return looked.looked;
    assert_true (listed.size <= MESSAGE_SIZE_MAX);
    assert_int_equal (decode_begin (&decoder, listed.data, listed.size, false), DECODE_OK);
    while (decode_next (&decoder, &value) == DECODE_OK) {
        assert_int_equal (value.id, MESSAGE_LISTED);
        assert_true (seen.count < SEEN_MAX);
        seen.grants[seen.count++] = value.listed.grant;
        if (last)
            *last = value;
    }
    return looked.looked;
}

static void look_at_all (enum which_listed which, const char *user)
{
    struct looked looked = { .more = 1 };
    while (looked.more) {
        looked = look (which, looked.after, user, NULL);
        assert_int_equal (looked.reason.size, 0);
    }
}

/*  ---- reading ------------------------------------------------------------ */

static void test_a_record_is_shown_whole (void **state)
{
    (void) state;
    struct message last;
    add (17, "alice", GRANT_REFUSED);
    open_reader ();
    struct looked looked = look (LIST_ALL, 0, "", &last);
    assert_int_equal (looked.after, 17);
    assert_int_equal (looked.more, 0);
    assert_int_equal (seen.count, 1);
    assert_true (last.trace == UINT64_MAX - 1);
    assert_int_equal (last.listed.grant, 17);
    assert_int_equal (last.listed.position, 7);
    assert_int_equal (last.listed.timestamp, 1700000000000);
    assert_true (text_equal (last.listed.user, TEXT_LITERAL ("alice")));
    assert_true (text_equal (last.listed.reward, TEXT_LITERAL ("promo1")));
    assert_int_equal (last.listed.amount, 10);
    assert_true (text_equal (last.listed.currency, TEXT_LITERAL ("gold")));
    assert_int_equal (last.listed.state, GRANT_REFUSED);
    assert_int_equal (last.listed.intended_ms, 1700000000001);
    assert_int_equal (last.listed.changed_ms, 1700000000002);
    assert_int_equal (last.listed.tries, 1);
    assert_true (text_equal (last.listed.reason, TEXT_LITERAL ("because")));
    assert_int_equal (last.listed.who.size, 0);
}

static void test_pages_bring_each_once_and_in_order (void **state)
{
    (void) state;
    add_many (3000, "'alice'");
    open_reader ();
    look_at_all (LIST_ALL, "");
    assert_int_equal (seen.count, 3000);
    assert_true (seen.pages >= 3); /* a message has 1024 at most */
    for (unsigned i = 0; i < seen.count; i++)
        assert_int_equal (seen.grants[i], i + 1);
}

static void test_the_largest_records_fit (void **state)
{
    (void) state;
    char sql[512];
    snprintf (sql, sizeof sql,
              "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) "
              "INSERT INTO grants SELECT i, %llu, 5, -1, hex (zeroblob (%d)), hex (zeroblob (%d)), "
              "-9223372036854775807, hex (zeroblob (%d)), 4, 9, 9, 9, hex (zeroblob (%d)), "
              "hex (zeroblob (%d)) FROM n",
              (unsigned long long) POSITION_MAX, USER_SIZE_MAX / 2, REWARD_SIZE_MAX / 2, NAME_SIZE_MAX / 2,
              REASON_SIZE_MAX / 2, NAME_SIZE_MAX / 2);
    run_sql (sql);
    open_reader ();
    look_at_all (LIST_PARKED, "");
    assert_int_equal (seen.count, 100);
    assert_true (seen.pages > 5);
}

static void test_one_player_in_many (void **state)
{
    (void) state;
    add_many (20000, "CASE WHEN i IN (5, 19999) THEN 'alice' ELSE 'user' || i END");
    open_reader ();
    struct looked looked = look (LIST_ALL, 0, "alice", NULL);
    assert_int_equal (seen.count, 1);
    assert_int_equal (looked.more, 1);
    assert_true (looked.after < 20000); /* not all of them in one go */
    look_at_all (LIST_ALL, "alice");
    assert_int_equal (seen.count, 3);
    assert_int_equal (seen.grants[2], 19999);
}

static void test_what_waits_for_a_person (void **state)
{
    (void) state;
    for (uint64_t grant = 1; grant <= 10; grant++)
        add (grant, "alice", (enum grant_state) (1 + (grant - 1) % 5));
    open_reader ();
    look_at_all (LIST_PARKED, "");
    static const uint64_t parked[] = { 3, 4, 8, 9 };
    assert_int_equal (seen.count, 4);
    assert_memory_equal (seen.grants, parked, sizeof parked);
}

static void test_one_by_its_number (void **state)
{
    (void) state;
    add (1, "alice", GRANT_GIVEN);
    add (3, "alice", GRANT_GIVEN);
    open_reader ();
    assert_int_equal (look (LIST_ONE, 2, "", NULL).more, 0);
    assert_int_equal (look (LIST_ONE, 1, "", NULL).more, 0);
    assert_int_equal (look (LIST_ONE, GRANT_MAX - 1, "", NULL).more, 0);
    assert_int_equal (seen.count, 1);
    assert_int_equal (seen.grants[0], 3);
}

static void test_the_writer_is_not_held_up (void **state)
{
    (void) state;
    add_many (2000, "'alice'");
    open_reader ();
    struct looked looked = look (LIST_ALL, 0, "", NULL);
    assert_int_equal (looked.more, 1);
    run_sql ("BEGIN IMMEDIATE");
    add (2001, "alice", GRANT_GIVEN);
    assert_int_equal (look (LIST_ALL, 2000, "", NULL).reason.size, 0); /* not committed: not seen */
    run_sql ("COMMIT");
    assert_int_equal (seen.count, 1024);
    /*  Between pages nothing holds the log back: it can be emptied. */
    struct store_query *query = store_prepare (writer, "PRAGMA wal_checkpoint (TRUNCATE)");
    assert_non_null (query);
    assert_int_equal (store_step (query), STORE_ROW);
    assert_int_equal (store_int (query, 0), 0);
    store_reset (query);
    look_at_all (LIST_ALL, "");
    assert_int_equal (seen.grants[seen.count - 1], 2001);
}

static void copy (const char *ending)
{
    char from[JOURNAL_PATH_SIZE + 8], to[JOURNAL_PATH_SIZE + 8];
    static char bytes[1 << 20];
    snprintf (from, sizeof from, "%s%s", path, ending);
    snprintf (to, sizeof to, "%s/journal-4.db%s", directory, ending);
    FILE *in = fopen (from, "r");
    FILE *out = fopen (to, "w");
    assert_true (in && out);
    size_t size = fread (bytes, 1, sizeof bytes, in);
    assert_int_equal (fwrite (bytes, 1, size, out), size);
    fclose (in);
    fclose (out);
}

static void test_what_a_killed_process_left (void **state)
{
    (void) state;
    add (1, "alice", GRANT_GIVEN);
    copy ("");
    copy ("-wal"); /* where the record is: no process closed the file */
    assert_true (journal_file (path, sizeof path, directory, 4, "db"));
    open_reader ();
    look_at_all (LIST_ALL, "");
    assert_int_equal (seen.count, 1);
}

static void test_a_record_that_makes_no_sense (void **state)
{
    (void) state;
    static const char *const changes[] = { "state = 9", "position = -1", "user = hex (zeroblob (4001))" };
    add (1, "alice", GRANT_GIVEN);
    add (2, "alice", GRANT_GIVEN);
    open_reader ();
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char sql[128];
        snprintf (sql, sizeof sql, "UPDATE grants SET %s WHERE id = 2", changes[i]);
        run_sql (sql);
        seen.count = 0;
        struct looked looked = look (LIST_ALL, 0, "", NULL);
        assert_true (text_equal (looked.reason, TEXT_LITERAL ("record 2 makes no sense")));
        assert_int_equal (seen.count, 1);
        run_sql ("DELETE FROM grants WHERE id = 2");
        add (2, "alice", GRANT_GIVEN);
    }
}

static void assert_no_reader (const char *why)
{
    assert_null (journal_reader_open (path, false, reason, sizeof reason));
    assert_non_null (strstr (reason, path));
    assert_non_null (strstr (reason, why));
}

static void test_what_is_no_journal (void **state)
{
    (void) state;
    run_sql ("ALTER TABLE grants DROP COLUMN who");
    assert_no_reader ("no journal of this version");
    store_close (&writer);
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    for (int i = 0; i < 1000; i++)
        fputs ("rubbish ", file);
    fclose (file);
    assert_no_reader ("not a database");
    assert_int_equal (unlink (path), 0);
    assert_no_reader ("unable to open");
}

/*  ---- settling ----------------------------------------------------------- */

static bool settle (enum message_id id, uint64_t grant)
{
    struct message order = { .id = id };
    if (id == MESSAGE_REDO)
        order.redo = (struct redo){ .grant = grant, .who = TEXT_LITERAL ("ann") };
    else
        order.forgo = (struct forgo){ .grant = grant, .who = TEXT_LITERAL ("ann") };
    journal_reader_close (&reader);
    store_close (&writer); /* who settles has the journal alone */
    struct journal_editor *editor = journal_editor_open (path, reason, sizeof reason);
    bool good = editor && journal_editor_settle (editor, &order, 1800000000000, reason, sizeof reason);
    journal_editor_close (&editor);
    return good;
}

static struct message record (uint64_t grant)
{
    static struct message last;
    if (!reader)
        open_reader ();
    look (LIST_ONE, grant - 1, "", &last);
    assert_int_equal (last.listed.grant, grant);
    return last;
}

static void test_what_is_tried_again_is_open (void **state)
{
    (void) state;
    add (1, "alice", GRANT_REFUSED);
    add (2, "bob", GRANT_UNCERTAIN);
    for (uint64_t grant = 1; grant <= 2; grant++) {
        assert_true (settle (MESSAGE_REDO, grant));
        struct message message = record (grant);
        assert_int_equal (message.listed.state, GRANT_INTENDED);
        assert_int_equal (message.listed.tries, 2);
        assert_int_equal (message.listed.changed_ms, 1800000000000);
        assert_int_equal (message.listed.intended_ms, 1700000000001);
        assert_true (text_equal (message.listed.reason, TEXT_LITERAL ("retry")));
        assert_true (text_equal (message.listed.who, TEXT_LITERAL ("ann")));
        assert_false (settle (MESSAGE_REDO, grant));
        assert_string_equal (reason, "it is being tried already");
    }
}

static void test_who_dropped_it_and_when (void **state)
{
    (void) state;
    add (1, "alice", GRANT_UNCERTAIN);
    assert_true (settle (MESSAGE_FORGO, 1));
    struct message message = record (1);
    assert_int_equal (message.listed.state, GRANT_DROPPED);
    assert_int_equal (message.listed.tries, 1);
    assert_int_equal (message.listed.changed_ms, 1800000000000);
    assert_true (text_equal (message.listed.reason, TEXT_LITERAL ("because"))); /* why it was parked */
    assert_true (text_equal (message.listed.who, TEXT_LITERAL ("ann")));
    assert_false (settle (MESSAGE_FORGO, 1));
    assert_string_equal (reason, "it was dropped");
}

static void test_only_what_waits_for_a_person_can_be_settled (void **state)
{
    (void) state;
    static const enum message_id orders[] = { MESSAGE_REDO, MESSAGE_FORGO };
    add (1, "alice", GRANT_INTENDED);
    add (2, "alice", GRANT_GIVEN);
    add (3, "alice", GRANT_DROPPED);
    static const char *const reasons[] = { "it is being tried already", "it was given", "it was dropped",
                                           "no such record" };
    for (size_t i = 0; i < 2; i++)
        for (uint64_t grant = 1; grant <= 4; grant++) {
            assert_false (settle (orders[i], grant));
            assert_string_equal (reason, reasons[grant - 1]);
        }
    assert_int_equal (record (1).listed.state, GRANT_INTENDED);
    assert_int_equal (record (2).listed.state, GRANT_GIVEN);
    assert_int_equal (record (3).listed.state, GRANT_DROPPED);
}

static void test_one_process_has_the_lock (void **state)
{
    (void) state;
    struct stat found;
    char lock_path[JOURNAL_PATH_SIZE];
    int lock = journal_lock (directory, SHARD, reason, sizeof reason);
    assert_true (lock >= 0);
    assert_true (journal_file (lock_path, sizeof lock_path, directory, SHARD, "lock"));
    assert_int_equal (stat (lock_path, &found), 0);
    assert_int_equal (found.st_mode & 0777, 0600);
    assert_int_equal (journal_lock (directory, SHARD, reason, sizeof reason), -1);
    assert_int_equal (errno, EWOULDBLOCK);
    assert_non_null (strstr (reason, lock_path));
    lock_file_release (&lock);
    lock = journal_lock (directory, SHARD, reason, sizeof reason);
    assert_true (lock >= 0);
    lock_file_release (&lock);
}

static void test_where_there_is_no_journal_no_lock_is_made (void **state)
{
    (void) state;
    char lock_path[JOURNAL_PATH_SIZE];
    assert_int_equal (journal_lock (directory, 5, reason, sizeof reason), -1);
    assert_int_equal (errno, ENOENT);
    assert_true (journal_file (lock_path, sizeof lock_path, directory, 5, "lock"));
    assert_int_equal (access (lock_path, F_OK), -1);
}

#define KEPT(test) cmocka_unit_test_setup_teardown (test, begin, end)

int main (void)
{
    const struct CMUnitTest tests[] = {
        KEPT (test_a_record_is_shown_whole),
        KEPT (test_pages_bring_each_once_and_in_order),
        KEPT (test_the_largest_records_fit),
        KEPT (test_one_player_in_many),
        KEPT (test_what_waits_for_a_person),
        KEPT (test_one_by_its_number),
        KEPT (test_the_writer_is_not_held_up),
        KEPT (test_what_a_killed_process_left),
        KEPT (test_a_record_that_makes_no_sense),
        KEPT (test_what_is_no_journal),
        KEPT (test_what_is_tried_again_is_open),
        KEPT (test_who_dropped_it_and_when),
        KEPT (test_only_what_waits_for_a_person_can_be_settled),
        KEPT (test_one_process_has_the_lock),
        KEPT (test_where_there_is_no_journal_no_lock_is_made),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
