/*  run_journal.c - see run_journal.h. */

#include "bin/run_journal.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "actors/base/journal_file.h"
#include "actors/base/journal_read.h"
#include "actors/base/log.h"

/*  ---- opening ------------------------------------------------------------ */

/*  Warns of a journal whose decision exists no more, if something in it has no end. */
static void look_at (const struct config *config, const char *path)
{
    uint64_t open = 0;
    uint64_t parked = 0;
    if (!journal_file_left (path, &open, &parked))
        log_say ("guerdon", LOG_WARN, "%s cannot be read, and no decision takes it up", path);
    else if (open || parked)
        log_say ("guerdon", LOG_WARN,
                 "%s holds %" PRIu64 " open and %" PRIu64
                 " parked rewards, and no decision takes it up, since "
                 "DECISION_ENDPOINT names %u: for the open ones start once more with the list of before and "
                 "wait until none is left; the parked ones wait for `guerdon dlq`",
                 path, open, parked, (unsigned) config->settings.decisions);
}

/*  Looks for journals of decisions beyond those that there are. */
static void look_for_left_over (const struct config *config)
{
    DIR *directory = opendir (config->state_dir);
    const struct dirent *entry;
    if (!directory)
        return;
    while ((entry = readdir (directory))) {
        char path[JOURNAL_PATH_SIZE];
        char ending[8] = "";
        unsigned shard;
        if (sscanf (entry->d_name, "journal-%5u.%7s", &shard, ending) == 2 && strcmp (ending, "db") == 0 &&
            shard >= config->settings.decisions && shard <= UINT16_MAX &&
            journal_file (path, sizeof path, config->state_dir, (uint16_t) shard, "db"))
            look_at (config, path);
    }
    closedir (directory);
}

/*  What one can be sure of after a restart is twice the window of the newest grants,
    so these are kept whatever the clock says. */
struct journal *run_journal_open (const struct config *config, uint16_t shard, struct monitor *monitor,
                                  char *reason, size_t reason_size)
{
    const struct journal_options options = {
        .state_dir = config->state_dir,
        .shard = shard,
        .ledger_days = config->ledger_days,
        .keep = UINT64_C (2) * config->settings.window,
        .monitor = monitor,
    };
    struct journal *journal = journal_open (&options, reason, reason_size);
    if (journal)
        look_for_left_over (config);
    return journal;
}

/*  ---- the port ----------------------------------------------------------- */

/*  The functions of journal.h, as the shell calls them. */
static void port_append (void *journal, const struct message *remember)
{
    journal_append (journal, remember);
}

static bool port_commit (void *journal)
{
    return journal_commit (journal);
}

static const char *port_trouble (const void *journal)
{
    return journal_trouble (journal);
}

static bool port_recall (void *journal, struct message *recall,
                         void (*hand) (void *context, const struct message *message), void *context)
{
    return journal_recall (journal, recall, hand, context);
}

static void port_tend (void *journal, uint64_t wall_ms)
{
    journal_tend (journal, wall_ms);
}

struct journal_port run_journal_port (struct journal *journal)
{
    return (struct journal_port){ journal, port_append, port_commit, port_trouble, port_recall, port_tend };
}
