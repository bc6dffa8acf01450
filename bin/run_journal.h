/*  run_journal.h - the journal of the decision that `guerdon run` runs. */
#ifndef GUERDON_RUN_JOURNAL_H
#define GUERDON_RUN_JOURNAL_H

#include "actors/base/config.h"
#include "actors/base/journal.h"
#include "actors/base/monitor.h"
#include "actors/base/shell.h"

/*  Opens it in the state directory, which exists, and warns of journals there that no
    decision takes up any more. NULL with a reason. */
struct journal *run_journal_open (const struct config *config, uint16_t shard, struct monitor *monitor,
                                  char *reason, size_t reason_size);

/*  How a shell calls it; NULL for an actor without. */
struct journal_port run_journal_port (struct journal *journal);

#endif
