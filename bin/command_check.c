/*  command_check.c - guerdon check: is this configuration good, and do the
    services accept it?

    The probes are real requests, since a wrong secret looks like "no such key"
    on a read of usermeta (reference: ganomede, 5). They change nothing that
    anybody reads: the poll has no `after` and so acknowledges nothing, and the
    write goes to a player of our own.
*/
#include <stdio.h>
#include <string.h>

#include "actors/base/clock.h"
#include "bin/ask.h"
#include "bin/command.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    /*  An events service that holds an empty poll has accepted the secret. */
    POLL_HANG_MS = 1500,
    PROBE_BODY_SIZE_MAX = 64
};

/*  Paths and the body of the probes; they live as long as the requests. */
struct probes {
    struct ask asks[SERVICE_COUNT]; /* by enum service */
    char paths[SERVICE_COUNT][4 * 1024];
    uint8_t body[PROBE_BODY_SIZE_MAX];
};

static const char *const help =
    "Checks the configuration and prints it: every variable with its effective value and where\n"
    "that comes from, secrets masked. Names all that is wrong with it at once.\n"
    "With --online it also asks the three services whether they are there and accept the secret.\n"
    "Exit codes: 0 all is well, 1 a service does not answer well, 78 the configuration is wrong.";

/*  ---- the probes ---------------------------------------------------------- */

static void add_parameter (struct builder *path, const char *name, const char *value)
{
    builder_literal (path, name);
    builder_percent (path, text_of (value));
}

static struct text events_path (struct builder *path, const struct settings *settings)
{
    add_parameter (path, "/events?clientId=", settings->events_client_id);
    add_parameter (path, "&channel=", settings->events_channel);
    builder_literal (path, "&secret={secret}&limit=1");
    return builder_text (path);
}

static struct text usermeta_path (struct builder *path, const struct settings *settings)
{
    (void) settings;
    builder_literal (path, "/auth/{secret}.guerdon-probe/$guerdon$probe");
    return builder_text (path);
}

static struct text currency_path (struct builder *path, const struct settings *settings)
{
    add_parameter (path, "/auth/{secret}.guerdon-probe/coins/", settings->reward_currency);
    builder_literal (path, "/count");
    return builder_text (path);
}

/*  {"value": "1491000000123"}: the time in ms, as usermeta takes strings only. */
static struct raw probe_body (uint8_t *memory, size_t capacity)
{
    char number[24];
    struct builder builder;
    struct packer packer;
    builder_init (&builder, number, sizeof number);
    builder_uint (&builder, clock_wall_ms ());
    packer_init (&packer, memory, capacity);
    pack_map (&packer, 1);
    pack_literal (&packer, "value");
    pack_text (&packer, builder_text (&builder));
    return packer_raw (&packer);
}

static void prepare (struct probes *probes, const struct config *config)
{
    static struct text (*const paths[SERVICE_COUNT]) (struct builder *, const struct settings *) = {
        [SERVICE_EVENTS] = events_path,
        [SERVICE_USERMETA] = usermeta_path,
        [SERVICE_CURRENCY] = currency_path,
    };
    for (int i = 0; i < SERVICE_COUNT; i++) {
        struct builder path;
        builder_init (&path, probes->paths[i], sizeof probes->paths[i]);
        probes->asks[i] = (struct ask){
            .target = config_target (config, (enum service) i),
            .request = { .method = METHOD_GET, .timeout_ms = config->settings.http_timeout_ms },
        };
        probes->asks[i].request.path = paths[i](&path, &config->settings);
    }
    probes->asks[SERVICE_EVENTS].hang_ms = POLL_HANG_MS;
    probes->asks[SERVICE_EVENTS].request.timeout_ms += POLL_HANG_MS;
    probes->asks[SERVICE_USERMETA].request.method = METHOD_POST;
    probes->asks[SERVICE_USERMETA].request.body = probe_body (probes->body, sizeof probes->body);
}

/*  ---- what they say ------------------------------------------------------- */

static bool is_fine (const struct ask *ask)
{
    bool poll = ask->target.service == SERVICE_EVENTS;
    return ask_accepted (ask) && (!poll || ask->hangs || ask->list);
}

/*  One line, its address as wide as the widest; returns the exit code it asks
    for. */
static int report (const struct ask *ask, size_t width)
{
    int code = EXIT_FAILED;
    printf ("%-15s  %-*s  ", service_name (ask->target.service), (int) width, ask->target.base);
    if (is_fine (ask)) {
        code = EXIT_OK;
        printf ("OK");
    } else if (ask_rejected (ask)) {
        code = EXIT_CONFIG;
        printf ("rejects API_SECRET: %u %s", ask->status, ask->reason);
    } else if (ask->outcome == HTTP_ANSWERED && ask_accepted (ask)) {
        printf ("answers something else than a list of events: is its prefix right?");
    } else if (ask->outcome == HTTP_ANSWERED) {
        printf ("answers %u %s%s", ask->status, ask->reason,
                ask->status == 404 ? ": is its prefix right?" : "");
    } else {
        printf ("%s: %s", ask->outcome == HTTP_UNREACHED ? "cannot be reached" : "does not answer",
                ask->reason[0] ? ask->reason : http_outcome_name (ask->outcome));
    }
    printf ("  (%llu ms)\n", (unsigned long long) ask->elapsed_ms);
    return code;
}

static int probe (const struct config *config)
{
    char reason[REASON_SIZE_MAX + 1] = "";
    struct probes probes;
    prepare (&probes, config);
    if (!http_client_global_init () || !ask_all (probes.asks, SERVICE_COUNT, reason, sizeof reason)) {
        fprintf (stderr, "guerdon check: no HTTP: %s\n", reason);
        return EXIT_FAILED;
    }
    size_t width = 0;
    for (int i = 0; i < SERVICE_COUNT; i++) {
        size_t size = strlen (probes.asks[i].target.base);
        width = size > width ? size : width;
    }
    int code = EXIT_OK;
    printf ("\n");
    for (int i = 0; i < SERVICE_COUNT; i++) {
        int own = report (&probes.asks[i], width);
        code = own > code ? own : code; /* a wrong secret outweighs a service that is down */
    }
    return code;
}

int command_check (int argc, char **argv)
{
    struct config_request request = { 0 };
    bool online = false;
    const struct command_option options[] = {
        { "online", NULL, "ask the services, too", NULL, &online },
        { "sandbox", NULL, "as `guerdon run --sandbox` would have it", NULL, &request.sandbox },
        { "env-file", "FILE", "read NAME=value lines from it; the environment wins", &request.env_file,
          NULL },
    };
    const struct command_syntax syntax = {
        .name = "check", .help = help, .options = options, .count = sizeof options / sizeof options[0]
    };
    int code;
    if (!command_parse (&syntax, argc, argv, &code)) {
        return code;
    }
    struct config config;
    code = EXIT_CONFIG;
    if (command_configure (&config, &request)) {
        if (request.sandbox) {
            config_use_sandbox (&config, config.sandbox_port);
        }
        config_print (&config);
        fflush (stdout);
        code = online ? probe (&config) : EXIT_OK;
    }
    config_destroy (&config);
    return code;
}
