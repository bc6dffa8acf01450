/*  fuzz_journal.c - any bytes as the file of a journal, and as its log: it is refused
    as it is, or it can be used.

    The last byte says what the others are. Bit 0: the header is put right, so that
    most inputs come as far as SQLite. Bit 1: the second half is the log.
*/
#include <assert.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/base/journal.h"
#include "actors/base/log.h"
#include "proto/text.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

enum { FILE_MAX = 1 << 16, HEADER_SIZE = 100 };

static char directory[64];
static char file_path[96];
static char log_path[96];
static char memory_path[96];
static char lock_path[96];

static void remove_files (void)
{
    unlink (file_path);
    unlink (log_path);
    unlink (memory_path);
    unlink (lock_path);
}

static void remove_directory (void)
{
    remove_files ();
    rmdir (directory);
}

/*  Where no disk makes it slow, if there is such a place. */
static void begin (void)
{
    snprintf (directory, sizeof directory, "/dev/shm/fuzz_journal_XXXXXX");
    if (!mkdtemp (directory)) {
        snprintf (directory, sizeof directory, "/tmp/fuzz_journal_XXXXXX");
        if (!mkdtemp (directory))
            abort ();
    }
    snprintf (file_path, sizeof file_path, "%s/journal-0.db", directory);
    snprintf (log_path, sizeof log_path, "%s/journal-0.db-wal", directory);
    snprintf (memory_path, sizeof memory_path, "%s/journal-0.db-shm", directory);
    snprintf (lock_path, sizeof lock_path, "%s/journal-0.lock", directory);
    log_open (LOG_FATAL, LOG_FORMAT_TEXT);
    atexit (remove_directory);
}

static void write_file (const char *path, const uint8_t *bytes, size_t size)
{
    int file = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || write (file, bytes, size) != (ssize_t) size)
        abort ();
    close (file);
}

/*  What every journal begins with. */
static void put_right (uint8_t *bytes, size_t size)
{
    static const uint8_t application_id[] = { 0x67, 0x75, 0x65, 0x72 };
    if (size < HEADER_SIZE)
        return;
    memcpy (bytes, "SQLite format 3", 16);
    memset (bytes + 18, 2, 2); /* WAL */
    memset (bytes + 60, 0, 3); /* the version: below 256 */
    memcpy (bytes + 68, application_id, sizeof application_id);
}

static void on_record (void *context, const struct message *message)
{
    unsigned *records = context;
    if (message->id != MESSAGE_RECORD)
        return;
    const struct record *record = &message->record;
    assert (record->user.size <= USER_SIZE_MAX && record->reward.size <= REWARD_SIZE_MAX);
    assert (record->currency.size <= NAME_SIZE_MAX && record->position <= POSITION_MAX);
    assert (record->state >= GRANT_INTENDED && record->state <= GRANT_DROPPED);
    (*records)++;
}

static void recall (struct journal *journal, enum which_grants which)
{
    struct message question = { .id = MESSAGE_RECALL };
    unsigned records = 0;
    question.recall.which = which;
    question.recall.count = 50;
    if (!journal_recall (journal, &question, on_record, &records))
        assert (*journal_trouble (journal));
    assert (records <= 50 && question.recall.count == 50 - records);
}

static void use (struct journal *journal)
{
    struct message remember = { .id = MESSAGE_REMEMBER };
    recall (journal, RECALL_OPEN);
    recall (journal, RECALL_RECENT);
    for (uint64_t grant = 1; grant < 8; grant++) {
        remember.remember.grant = grant;
        remember.remember.state = grant % 2 ? GRANT_GIVEN : GRANT_INTENDED;
        remember.remember.user = TEXT_LITERAL ("alice");
        journal_append (journal, &remember);
    }
    if (journal_commit (journal)) {
        recall (journal, RECALL_OPEN);
        journal_tend (journal, UINT64_C (4000000000000));
        recall (journal, RECALL_RECENT);
    } else {
        assert (*journal_trouble (journal));
    }
}

static bool is_untouched (const uint8_t *bytes, size_t size)
{
    static uint8_t found[FILE_MAX + 1];
    int file = open (file_path, O_RDONLY | O_CLOEXEC);
    ssize_t found_size = read (file, found, sizeof found);
    close (file);
    return found_size == (ssize_t) size && memcmp (found, bytes, size) == 0;
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static uint8_t bytes[FILE_MAX];
    char reason[1024] = "";
    if (!directory[0])
        begin ();
    if (size == 0 || size > FILE_MAX)
        return 0;
    uint8_t kind = data[--size];
    size_t file_size = kind & 2 ? size / 2 : size;
    memcpy (bytes, data, size);
    if (kind & 1)
        put_right (bytes, file_size);
    write_file (file_path, bytes, file_size);
    if (kind & 2)
        write_file (log_path, bytes + file_size, size - file_size);
    const struct journal_options options = { .state_dir = directory, .ledger_days = 1, .keep = 1 };
    struct journal *journal = journal_open (&options, reason, sizeof reason);
    if (journal) {
        use (journal);
        journal_close (&journal);
    } else {
        assert (strstr (reason, directory));
        /*  A log may be emptied into its file before the tables prove to be old ones
            that cannot be brought up to date. */
        assert (kind & 2 || !strstr (reason, "left as it is") || is_untouched (bytes, file_size));
    }
    remove_files ();
    return 0;
}
