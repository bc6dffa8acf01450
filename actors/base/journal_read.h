/*  journal_read.h - looks into the journal of a decision, page by page, and
    settles what waits for a person while no decision has it.

    Reading has a connection of its own and a transaction no longer than a page,
    so it goes on beside the writer and never holds it up. What is written here
    needs the lock of the journal: with it, no decision runs.
*/
#ifndef GUERDON_JOURNAL_READ_H
#define GUERDON_JOURNAL_READ_H

#include "proto/message.h"

enum { JOURNAL_PATH_SIZE = 1200 };

/*  The path of a file of a journal: "db", "lock" or "sock". False when it does not
    fit. */
bool journal_file (char *path, size_t capacity, const char *state_dir, uint16_t shard, const char *ending);

struct journal_reader;
struct journal_editor;

/*  Opens the journal at this path. `alone`: the caller has its lock, and this process
    has not opened it otherwise; then it can be read when the disk is full, too. NULL
    with a reason that names it. For one thread. */
struct journal_reader *journal_reader_open (const char *path, bool alone, char *reason, size_t reason_size);
void journal_reader_close (struct journal_reader **reader);

/*  Reads a page. `looked` becomes the LOOKED that answers, `listed` the frame with
    its grants, empty when there are none; both live until the next call. A page
    looks at a bounded number of records, also when it shows none. */
void journal_reader_look (struct journal_reader *reader, const struct look *look, struct message *looked,
                          struct raw *listed);

/*  Why a grant in this state can neither be tried again nor dropped; NULL when it
    can. */
const char *journal_refusal (enum grant_state state);

/*  Takes the lock of a journal that is there, without waiting, as lock_file_take
    does. */
int journal_lock (const char *state_dir, uint16_t shard, char *reason, size_t reason_size);

/*  Opens the journal at this path for writing, as a decision would; the caller has
    its lock. NULL with a reason. */
struct journal_editor *journal_editor_open (const char *path, char *reason, size_t reason_size);
void journal_editor_close (struct journal_editor **editor);

/*  Does what a REDO or a FORGO asks; the next start goes on with what is tried again.
    False with a reason: nothing was changed. */
bool journal_editor_settle (struct journal_editor *editor, const struct message *order, uint64_t wall_ms,
                            char *reason, size_t reason_size);

#endif
