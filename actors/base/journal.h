/*  journal.h - what must survive the process: every grant, and what became of it.

    One SQLite file a decision, `journal-<shard>.db` in the state directory, 0600,
    with one writer: the thread of that decision. A record is begun before
    anything of its grant leaves the process, and changed when the grant comes to
    an end. Records that are finished are kept for a number of days; those that
    wait for a person (refused, uncertain) and the open ones are kept until they
    are seen to.

    A transaction that the disk refuses is kept in memory and done again, whole;
    nothing is taken for written that a commit did not report as such. After a
    failure the file is closed and opened again, because after a failed sync nobody
    knows what is on the disk. A file that is moved or removed while it is in use is
    not replaced by a new one: nothing goes on until it is back or the process is
    started again.

    The clock decides only what is too old to be kept. Should it jump ahead, finished
    records are removed before their time, the oldest first, at most PRUNE_ROWS of
    journal.c a call, and never the newest `keep` records, which are all that
    correctness asks for.
*/
#ifndef GUERDON_JOURNAL_H
#define GUERDON_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/message.h"

struct journal;
struct monitor;

struct journal_options {
    const char *state_dir;   /* exists */
    uint16_t shard;          /* which decision */
    uint32_t ledger_days;    /* how long finished records are kept */
    uint64_t keep;           /* so many of the newest records are kept however old they seem */
    struct monitor *monitor; /* told of commits and sizes; NULL: nobody is */
};

/*  Opens or creates the journal, brings an older schema up to date, and checks its
    integrity, as journal_file.h says. NULL with a reason that names the file and what
    to do about it, when another process has it, when it is damaged, from a newer
    version, or no journal at all; such a file is left as it is. When only the disk is
    full it is opened by the first commit or recall that finds room. */
struct journal *journal_open (const struct journal_options *options, char *reason, size_t reason_size);

/*  Closes it; what was appended and not committed is gone. */
void journal_close (struct journal **journal);

/*  Takes a REMEMBER into the open transaction; it is copied. A number that is not in
    the journal begins a record, whatever its state. One that is there gets the state,
    the time and the reason, and the person when there is one; a grant that had come to
    an end and is intended again counts one more try. Never fails: what cannot be
    written is found out by journal_commit. Without memory the process aborts. */
void journal_append (struct journal *journal, const struct message *remember);

/*  Makes everything appended durable; true at once when nothing was. False when
    the disk refuses: everything appended is kept, and the next call tries again. */
bool journal_commit (struct journal *journal);

/*  Why the last commit or recall failed, for people; "" when it did not. */
const char *journal_trouble (const struct journal *journal);

/*  Answers a RECALL: hands over a RECORD for each grant and then RECALLED, from
    what is committed. False when the file cannot be read: `recall` then asks for what
    was not handed over, and is to be put again. What is called may append, and nothing
    else. */
bool journal_recall (struct journal *journal, struct message *recall,
                     void (*hand) (void *context, const struct message *message), void *context);

/*  Removes some finished records that are older than they need to be kept, and keeps
    the log from staying large; to be called every second or so, between transactions.
    Takes a few ms at most. */
void journal_tend (struct journal *journal, uint64_t wall_ms);

#endif
