/*  journal_file.h - the file of a journal: where it is, what it looks like, and
    whether it can be believed.

    A file that is not there is begun under another name and then given its own, so
    that one with its name is whole. One that is there is looked at before SQLite may
    write to it; what is not ours, damaged or newer is left as it is.

    The look takes the same time however large the file is, so that a restart is
    quick: the header (a SQLite file in WAL mode, our application id, a version that is
    known, no shorter than it says), the schema, and up to 1000 each of the newest
    records, the open ones and the parked ones, each with its index. Only a file of up
    to 16 MiB is read as a whole (quick_check). Damage in the rest of a larger one
    shows when it is read or written: the journal then says so and nothing goes on.
*/
#ifndef GUERDON_JOURNAL_FILE_H
#define GUERDON_JOURNAL_FILE_H

#include "actors/base/store.h"

/*  Opens or begins a journal for writing; the lock is held. Brings an older schema up
    to date, in one transaction. NULL with a reason that names the file and says what
    to do, and with errno: what the system did, as store_error has it; 0 when the file
    is to blame. */
struct store *journal_file_open (const char *path, char *reason, size_t reason_size);

/*  Opens it again, after a failure. What an earlier connection could not make durable
    may be in the system's memory and not on the disk, where the log would break off
    at it; so the log is first emptied into the file, which writes all of it anew.
    NULL with a reason when that cannot be done now. */
struct store *journal_file_reopen (const char *path, char *reason, size_t reason_size);

/*  The columns that journal_file_record reads, for a SELECT of the table `grants`. */
#define JOURNAL_COLUMNS "id, position, event_ms, trace, user, reward, amount, currency, state, changed_ms"

/*  Makes a RECORD of a row of those; its texts live as long as the row. False when the
    row breaks a limit of the language: it is damaged. */
bool journal_file_record (struct store_query *row, struct message *record);

/*  How many open and parked records are in a journal that nobody has open. False when
    it cannot be read. */
bool journal_file_left (const char *path, uint64_t *open, uint64_t *parked);

#endif
