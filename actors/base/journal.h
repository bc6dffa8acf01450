/*  journal.h - what must survive the process: every grant, and what became of it.

    One SQLite file a decision, `journal-<shard>.db` in the state directory, 0600,
    with one writer: the thread of that decision. A record is begun before
    anything of its grant leaves the process, and changed when the grant comes to
    an end. Records that are finished are kept for a number of days; those that
    wait for a person (refused, uncertain) and the open ones are kept until they
    are seen to.

    A transaction that the disk refuses is kept in memory and done again, whole;
    nothing is taken for written that a commit did not report as such.
*/
#ifndef GUERDON_JOURNAL_H
#define GUERDON_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/message.h"

struct journal;

struct journal_options {
    const char *state_dir; /* exists */
    uint16_t shard;        /* which decision */
    uint32_t ledger_days;  /* how long finished records are kept */
};

/*  Opens or creates the journal, brings an older schema up to date, and checks its
    integrity. NULL with a reason that names the file and what to do about it, when
    another process has it, when it is damaged, from a newer version, or no journal
    at all; such a file is left as it is. */
struct journal *journal_open (const struct journal_options *options, char *reason, size_t reason_size);

/*  Closes it; what was appended and not committed is gone. */
void journal_close (struct journal **journal);

/*  Takes a REMEMBER into the open transaction. Never fails: what cannot be written
    is found out by journal_commit. */
void journal_append (struct journal *journal, const struct message *remember);

/*  Makes everything appended durable; true at once when nothing was. False when
    the disk refuses: everything appended is kept, and the next call tries again. */
bool journal_commit (struct journal *journal);

/*  Why the last commit failed, for people; "" when it did not. */
const char *journal_trouble (const struct journal *journal);

/*  Answers a RECALL: hands over a RECORD for each grant and then RECALLED, from
    what is committed. */
void journal_recall (struct journal *journal, const struct message *recall,
                     void (*hand) (void *context, const struct message *message), void *context);

/*  Removes some finished records that are older than they need to be kept; to be
    called now and then, between transactions. Takes a few ms at most. */
void journal_tend (struct journal *journal, uint64_t wall_ms);

#endif
