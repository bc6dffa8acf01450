/*  command_dlq.c - guerdon dlq: what waits for a person, and what is to become of it. */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bin/command.h"
#include "bin/journals.h"
#include "bin/ledger_show.h"
#include "proto/text.h"

enum {
    IDS_MAX = 1024,
    REASON_MAX = 2048,
    PAUSE_MS = 100,  /* before an order is given again that there was no room for */
    PAUSES_MAX = 600 /* so often: a minute without room is too much */
};

static const char *const help =
    "Sees to the rewards that were refused for good, or of which nobody can say whether they were given\n"
    "(uncertain): ls lists them, show tells all about one, retry has them tried again, drop gives them\n"
    "up. A retry looks for the reward first, and gives only what is not there. An ID is as ls has it,\n"
    "such as 0-17. It asks the running decision, or opens the journals of STATE_DIR when none runs: then\n"
    "a retry is done at the next start of that decision.\n"
    "Exit codes: 0 done, 1 something failed, 64 usage, 78 the configuration is wrong.";

/*  One grant, as it is named by people. */
struct grant_id {
    uint16_t shard;
    uint64_t grant;
};

/*  What was asked for. */
struct wishes {
    const char *operands[IDS_MAX + 1]; /* what to do, and the ids */
    size_t operand_count;
    struct grant_id ids[IDS_MAX];
    size_t id_count;
    const char *format;
    const char *who;
    const char *env_file;
    bool all;
    bool json;
};

/*  What is being done. */
struct work {
    const struct wishes *wishes;
    const struct journals *journals;
    struct inquiry *inquiry;
    enum message_id order; /* REDO or FORGO */
    bool failed;           /* something did, and was told */
    bool found;            /* `show`: the one that was asked for */
    uint32_t warned;       /* one more than the journal that was warned of last */
};

/*  ---- telling ------------------------------------------------------------ */

static void say_failure (struct work *work, struct grant_id id, const char *reason)
{
    fflush (stdout);
    fprintf (stderr, "guerdon dlq: %u-%" PRIu64 ": %s\n", (unsigned) id.shard, id.grant, reason);
    work->failed = true;
}

/*  A journal that cannot be read. */
static void say_journal (struct work *work, const char *reason)
{
    fflush (stdout);
    fprintf (stderr, "guerdon dlq: %s\n", reason);
    work->failed = true;
}

/*  ---- ls and show -------------------------------------------------------- */

static bool show_line (void *context, uint16_t shard, const struct message *listed)
{
    const struct work *work = context;
    if (work->wishes->json)
        ledger_show_json (shard, listed);
    else
        ledger_show_line (shard, listed, false);
    return !ferror (stdout);
}

static bool show_one (void *context, uint16_t shard, const struct message *listed)
{
    struct work *work = context;
    work->found = true;
    if (work->wishes->json)
        ledger_show_json (shard, listed);
    else
        ledger_show_fields (shard, listed);
    return !ferror (stdout);
}

static const struct look parked = { .which = LIST_PARKED };

static void list (struct work *work)
{
    for (unsigned i = 0; i < work->journals->count; i++) {
        char reason[REASON_MAX] = "";
        if (!inquiry_walk (work->inquiry, work->journals->shards[i], parked, show_line, work, reason,
                           sizeof reason))
            say_journal (work, reason);
    }
}

/*  Whether there is a journal that may have it. */
static bool has_journal (struct work *work, struct grant_id id)
{
    char reason[REASON_MAX];
    for (unsigned i = 0; i < work->journals->count; i++)
        if (work->journals->shards[i] == id.shard)
            return true;
    snprintf (reason, sizeof reason, "no such record: no journal-%u.db is in %.256s", (unsigned) id.shard,
              work->journals->state_dir);
    say_failure (work, id, reason);
    return false;
}

static void show (struct work *work, struct grant_id id)
{
    const struct look look = { .which = LIST_ONE, .after = id.grant - 1 };
    char reason[REASON_MAX] = "";
    work->found = false;
    bool read = inquiry_walk (work->inquiry, id.shard, look, show_one, work, reason, sizeof reason);
    if (!work->found)
        say_failure (work, id, read ? "no such record" : reason);
}

/*  ---- retry and drop ----------------------------------------------------- */

static struct message order_of (const struct work *work, struct grant_id id)
{
    struct message order = { .id = work->order };
    if (work->order == MESSAGE_REDO)
        order.redo = (struct redo){ .grant = id.grant, .who = text_of (work->wishes->who) };
    else
        order.forgo = (struct forgo){ .grant = id.grant, .who = text_of (work->wishes->who) };
    return order;
}

/*  What is tried again waits for its decision, and that may exist no more: said once a
    journal, when others are running. */
static void warn_of_left_over (struct work *work, uint16_t shard)
{
    if (work->warned == shard + 1u || !inquiry_others_run (work->inquiry, shard))
        return;
    work->warned = shard + 1u;
    fflush (stdout);
    fprintf (stderr,
             "guerdon dlq: no process has journal-%u.db, while others of %s are in use. If DECISION_ENDPOINT "
             "names fewer decisions than before, nobody takes up what is tried again here: start once more "
             "with the list of before, until `guerdon ledger` shows none of %u-… as intended\n",
             (unsigned) shard, work->journals->state_dir, (unsigned) shard);
}

static void say_done (struct work *work, struct grant_id id, bool filed)
{
    printf ("%u-%" PRIu64, (unsigned) id.shard, id.grant);
    if (work->order == MESSAGE_FORGO)
        printf (" is dropped\n");
    else if (!filed)
        printf (" is tried again\n");
    else
        printf (" is tried again at the next start of decision %u\n", (unsigned) id.shard);
    if (work->order == MESSAGE_REDO && filed)
        warn_of_left_over (work, id.shard);
}

/*  Gives one order, again when there was no room for it. */
static void give_order (struct work *work, struct grant_id id)
{
    struct message order = order_of (work, id);
    char reason[REASON_MAX] = "";
    enum order_result result = ORDER_LATER;
    for (unsigned i = 0; i < PAUSES_MAX && result == ORDER_LATER; i++) {
        if (i > 0)
            poll (NULL, 0, PAUSE_MS);
        result = inquiry_order (work->inquiry, id.shard, &order, reason, sizeof reason);
    }
    if (result == ORDER_DONE || result == ORDER_FILED) {
        say_done (work, id, result == ORDER_FILED);
        return;
    }
    if (result == ORDER_UNCERTAIN)
        snprintf (reason + strlen (reason), sizeof reason - strlen (reason), "; it may still be done");
    say_failure (work, id, reason);
}

static bool take_parked (void *context, uint16_t shard, const struct message *listed)
{
    give_order (context, (struct grant_id){ shard, listed->listed.grant });
    return true;
}

/*  Gives it to all there are. What comes back meanwhile is not seen to again: each
    is met once, in their order. */
static void give_order_to_all (struct work *work)
{
    for (unsigned i = 0; i < work->journals->count; i++) {
        char reason[REASON_MAX] = "";
        if (!inquiry_walk (work->inquiry, work->journals->shards[i], parked, take_parked, work, reason,
                           sizeof reason))
            say_journal (work, reason);
    }
}

/*  ---- what is asked for -------------------------------------------------- */

/*  "0-17": the shard and the number. */
static bool read_id (const char *string, struct grant_id *id)
{
    const char *dash = strchr (string, '-');
    uint64_t shard;
    if (!dash || !text_to_uint ((struct text){ string, (uint32_t) (dash - string) }, UINT16_MAX, &shard) ||
        !text_to_uint (text_of (dash + 1), GRANT_MAX, &id->grant) || id->grant == 0)
        return false;
    id->shard = (uint16_t) shard;
    return true;
}

static bool is_any (const char *action, const char *a, const char *b)
{
    return strcmp (action, a) == 0 || strcmp (action, b) == 0;
}

/*  Whether the ids and --all fit what is to be done. */
static bool check_ids (struct wishes *wishes, const char *action, int *code)
{
    bool many = is_any (action, "retry", "drop");
    size_t given = wishes->operand_count - 1;
    for (size_t i = 0; i < given; i++) {
        if (!read_id (wishes->operands[i + 1], &wishes->ids[i])) {
            *code = command_usage ("dlq", "%s: expected an ID as ls has it, such as 0-17",
                                   wishes->operands[i + 1]);
            return false;
        }
    }
    wishes->id_count = given;
    if (strcmp (action, "ls") == 0 && given)
        *code = command_usage ("dlq", "ls takes no ID");
    else if (!many && wishes->all)
        *code = command_usage ("dlq", "%s takes no --all", action);
    else if (strcmp (action, "show") == 0 && !given)
        *code = command_usage ("dlq", "show needs an ID");
    else if (many && wishes->all == (given > 0))
        *code = command_usage ("dlq", "%s needs either IDs or --all", action);
    else
        return true;
    return false;
}

/*  Who is at the keyboard, also behind sudo. */
static const char *whoever (void)
{
    const char *names[] = { getenv ("SUDO_USER"), getenv ("USER") };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i] && *names[i])
            return names[i];
    const struct passwd *entry = getpwuid (getuid ());
    return entry && *entry->pw_name ? entry->pw_name : "somebody";
}

static bool check_wishes (struct wishes *wishes, int *code)
{
    const char *action = wishes->operand_count ? wishes->operands[0] : "";
    wishes->json = wishes->format && strcmp (wishes->format, "json") == 0;
    if (!wishes->who)
        wishes->who = whoever ();
    if (!wishes->operand_count)
        *code = command_usage ("dlq", "what is to be done? Expected ls, show, retry or drop");
    else if (!is_any (action, "ls", "show") && !is_any (action, "retry", "drop"))
        *code = command_usage ("dlq", "%s: expected ls, show, retry or drop", action);
    else if (wishes->format && !wishes->json && strcmp (wishes->format, "text") != 0)
        *code = command_usage ("dlq", "--format %s: expected text or json", wishes->format);
    else if (!*wishes->who || strlen (wishes->who) > NAME_SIZE_MAX)
        *code = command_usage ("dlq", "--who: expected a name of 1 to %d bytes", NAME_SIZE_MAX);
    else
        return check_ids (wishes, action, code);
    return false;
}

static int run (struct work *work)
{
    const struct wishes *wishes = work->wishes;
    const char *action = wishes->operands[0];
    work->order = strcmp (action, "retry") == 0 ? MESSAGE_REDO : MESSAGE_FORGO;
    if (strcmp (action, "ls") == 0)
        list (work);
    else if (wishes->all)
        give_order_to_all (work);
    for (size_t i = 0; i < wishes->id_count; i++) {
        if (!has_journal (work, wishes->ids[i]))
            continue;
        if (strcmp (action, "show") == 0 && i > 0 && !wishes->json)
            putchar ('\n');
        if (strcmp (action, "show") == 0)
            show (work, wishes->ids[i]);
        else
            give_order (work, wishes->ids[i]);
    }
    if (fflush (stdout) != 0 || ferror (stdout)) {
        fprintf (stderr, "guerdon dlq: standard output: %s\n", strerror (errno));
        work->failed = true;
    }
    return work->failed ? EXIT_FAILED : EXIT_OK;
}

int command_dlq (int argc, char **argv)
{
    static struct wishes wishes;
    const struct command_option options[] = {
        { "all", NULL, "retry or drop every one", NULL, &wishes.all },
        { "who", "NAME", "who wants it, for the ledger; without it, who is logged in", &wishes.who, NULL },
        { "format", "text|json", "lines for people, or JSON lines", &wishes.format, NULL },
        { "env-file", "FILE", "read STATE_DIR from FILE when the environment does not set it",
          &wishes.env_file, NULL },
    };
    const struct command_syntax syntax = { .name = "dlq",
                                           .operand = "ls|show|retry|drop [ID…]",
                                           .help = help,
                                           .options = options,
                                           .count = sizeof options / sizeof *options,
                                           .operands = wishes.operands,
                                           .operands_max = IDS_MAX + 1,
                                           .operand_count = &wishes.operand_count };
    int code = EXIT_OK;
    wishes = (struct wishes){ .operand_count = 0 };
    if (!command_parse (&syntax, argc, argv, &code) || !check_wishes (&wishes, &code))
        return code;
    struct journals journals;
    code = journals_find (&journals, "dlq", wishes.env_file);
    struct inquiry *inquiry = code == EXIT_OK ? inquiry_new (&journals) : NULL;
    struct work work = { .wishes = &wishes, .journals = &journals, .inquiry = inquiry };
    if (inquiry)
        code = run (&work);
    else if (code == EXIT_OK)
        code = EXIT_FAILED;
    inquiry_destroy (&inquiry);
    return code;
}
