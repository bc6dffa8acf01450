/*  command_ledger.c - guerdon ledger: what was given to whom, from the journals. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "bin/command.h"
#include "bin/journals.h"
#include "bin/ledger_show.h"
#include "proto/text.h"

enum { NICENESS = 19, REASON_MAX = 2048 };

static const char *const help =
    "Shows every reward that was decided, newest last: its state and when it came to it, the player, the\n"
    "event it is for, and the trace that logs and taps have too. It asks the running decision, or reads\n"
    "the journals of STATE_DIR when none runs.\n"
    "Exit codes: 0 shown, 1 a journal could not be read, 64 usage, 78 the configuration is wrong.";

static bool show_text (void *context, uint16_t shard, const struct message *listed)
{
    (void) context;
    ledger_show_line (shard, listed, true);
    return !ferror (stdout);
}

static bool show_json (void *context, uint16_t shard, const struct message *listed)
{
    (void) context;
    ledger_show_json (shard, listed);
    return !ferror (stdout);
}

/*  One journal after the other; what is wrong with one does not hide the rest. */
static int show_all (const struct journals *journals, struct inquiry *inquiry, struct text user, bool json)
{
    int code = EXIT_OK;
    for (unsigned i = 0; i < journals->count && !ferror (stdout); i++) {
        char reason[REASON_MAX] = "";
        const struct look look = { .which = LIST_ALL, .user = user };
        if (inquiry_walk (inquiry, journals->shards[i], look, json ? show_json : show_text, NULL, reason,
                          sizeof reason))
            continue;
        fprintf (stderr, "guerdon ledger: %s\n", reason);
        code = EXIT_FAILED;
    }
    if (fflush (stdout) != 0 || ferror (stdout)) {
        fprintf (stderr, "guerdon ledger: standard output: %s\n", strerror (errno));
        code = EXIT_FAILED;
    }
    return code;
}

int command_ledger (int argc, char **argv)
{
    const char *user = NULL, *format = NULL, *env_file = NULL;
    const struct command_option options[] = {
        { "user", "U", "only rewards of this player", &user, NULL },
        { "format", "text|json", "lines for people, or JSON lines", &format, NULL },
        { "env-file", "FILE", "read STATE_DIR from FILE when the environment does not set it", &env_file,
          NULL },
    };
    const struct command_syntax syntax = {
        .name = "ledger", .help = help, .options = options, .count = sizeof options / sizeof *options
    };
    int code = EXIT_OK;
    if (!command_parse (&syntax, argc, argv, &code))
        return code;
    bool json = format && strcmp (format, "json") == 0;
    if (format && !json && strcmp (format, "text") != 0)
        return command_usage ("ledger", "--format %s: expected text or json", format);
    if (user && (!*user || strlen (user) > USER_SIZE_MAX))
        return command_usage ("ledger", "--user: expected a user id of 1 to %d bytes", USER_SIZE_MAX);
    struct journals journals;
    code = journals_find (&journals, "ledger", env_file);
    struct inquiry *inquiry = code == EXIT_OK ? inquiry_new (&journals) : NULL;
    /*  Who looks yields to who works, on the same host. */
    if (inquiry && setpriority (PRIO_PROCESS, 0, NICENESS) != 0)
        fprintf (stderr, "guerdon ledger: priority: %s\n", strerror (errno));
    if (inquiry)
        code = show_all (&journals, inquiry, text_of (user), json);
    else if (code == EXIT_OK)
        code = EXIT_FAILED;
    inquiry_destroy (&inquiry);
    return code;
}
