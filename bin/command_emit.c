/*  command_emit.c - guerdon emit: posts one event, as an app would.
*/
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/base/json.h"
#include "bin/ask.h"
#include "bin/command.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    /*  The whole event; what the arguments may add up to. */
    EVENT_SIZE_MAX = 2 * DATA_SIZE_MAX,
    USER_SHOWN_MAX = 100
};

/*  What was asked for. */
struct emission {
    const char *type;
    const char *user;
    const char *from;     /* NULL: APP_2_NAME */
    const char *data;     /* NULL: nothing but the user id */
    const char *channel;  /* NULL: EVENTS_CHANNEL */
    const char *env_file; /* NULL: none */
    bool sandbox;         /* posted to the sandbox, as nothing else was said */
};

static const char *const help =
    "Posts an event of a player to the configured events service, as an app would do, and says\n"
    "which id it got. Without a configuration it uses that of the sandbox.\n"
    "Exit codes: 0 posted, 1 refused or not reached, 64 usage, 78 the configuration is wrong.";

/*  ---- arguments ----------------------------------------------------------- */

/*  A text that every event needs. False when it will not do. */
static bool is_good (const char *name, const char *value, int *code)
{
    struct text text = text_of (value);
    if (text.size > 0 && text_is_utf8 (text)) {
        return true;
    }
    *code = command_usage ("emit", "%s %s: expected text in UTF-8", name,
                           text.size == 0 ? "is empty" : "is not UTF-8");
    return false;
}

static bool check_arguments (const struct emission *emission, int *code)
{
    if (!emission->user) {
        *code = command_usage ("emit", "--user is missing: expected the player's id");
        return false;
    }
    return is_good ("TYPE", emission->type, code) && is_good ("--user", emission->user, code) &&
           (!emission->from || is_good ("--from", emission->from, code)) &&
           (!emission->channel || is_good ("--channel", emission->channel, code));
}

/*  True when something was left out of what was read. */
static bool has_cut (struct raw raw)
{
    struct cursor cursor = cursor_of (raw);
    struct value value;
    while (cursor_next (&cursor, &value)) {
        if (value.type == VALUE_EXT) {
            return true;
        }
    }
    return false;
}

/*  Reads --data, which is to be an object. The raw object lives in the reader. */
static bool read_data (struct json_reader *reader, const char *json, struct raw *data, int *code)
{
    struct value value;
    bool good = text_is_utf8 (text_of (json)) && json_reader_feed (reader, json, strlen (json)) &&
                json_reader_finish (reader, data) == BODY_JSON;
    if (!good && json_reader_too_large (reader)) {
        *code = command_usage ("emit", "--data is too large: expected at most %d bytes", DATA_SIZE_MAX);
    } else if (!good || !raw_value (*data, &value) || value.type != VALUE_MAP) {
        *code = command_usage ("emit", "--data is not a JSON object such as '{\"level\": 3}'");
    } else if (has_cut (*data)) {
        *code = command_usage (
            "emit", "--data has more in it than an event may have: %d bytes, %d keys in an object, %d levels",
            DATA_SIZE_MAX, DATA_KEYS_MAX, DATA_DEPTH_MAX);
    } else {
        return true;
    }
    return false;
}

/*  ---- the event ----------------------------------------------------------- */

/*  The given data with the user id in it, unless it brings its own. */
static void pack_data (struct packer *packer, struct text user, struct raw data)
{
    struct raw part;
    struct value head = { .type = VALUE_MAP };
    struct cursor cursor = cursor_of (data);
    bool own = raw_find (data, TEXT_LITERAL ("userId"), &part);
    if (data.size > 0) {
        bool map = cursor_next (&cursor, &head);
        assert (map && head.type == VALUE_MAP);
    }
    pack_map (packer, head.count + (own ? 0 : 1));
    if (!own) {
        pack_literal (packer, "userId");
        pack_text (packer, user);
    }
    while (cursor_skip (&cursor, &part)) {
        pack_raw (packer, part);
    }
}

static struct raw pack_event (struct packer *packer, const struct emission *emission,
                              const struct config *config, struct raw data)
{
    const char *client = config->settings.events_client_id;
    pack_map (packer, 6);
    pack_literal (packer, "clientId");
    pack_literal (packer, client ? client : "guerdon-emit");
    pack_literal (packer, "channel");
    pack_literal (packer, emission->channel ? emission->channel : config->settings.events_channel);
    pack_literal (packer, "secret");
    pack_secret (packer);
    pack_literal (packer, "from");
    pack_literal (packer, emission->from);
    pack_literal (packer, "type");
    pack_literal (packer, emission->type);
    pack_literal (packer, "data");
    pack_data (packer, text_of (emission->user), data);
    return packer_raw (packer);
}

/*  ---- what came of it ----------------------------------------------------- */

/*  Scheme, host and port of an address, without its prefix. */
static struct text origin_of (const char *base)
{
    const char *host = strstr (base, "://");
    size_t size = host ? (size_t) (host + 3 - base) : 0;
    return (struct text){ base, (uint32_t) (size + strcspn (base + size, "/")) };
}

static void print_event (const struct emission *emission, const struct ask *ask, struct text where)
{
    char memory[4 * 1024];
    struct builder line;
    builder_init (&line, memory, sizeof memory);
    builder_literal (&line, "event ");
    if (ask->id > 0) {
        builder_uint (&line, ask->id);
        builder_literal (&line, " ");
    }
    builder_printable (&line, text_of (emission->type), NAME_SIZE_MAX);
    builder_literal (&line, " of ");
    builder_printable (&line, text_of (emission->user), USER_SHOWN_MAX);
    builder_literal (&line, " from ");
    builder_printable (&line, text_of (emission->from), NAME_SIZE_MAX);
    builder_literal (&line, " at ");
    builder_add (&line, where);
    printf ("%s\n", memory);
}

static int report (const struct emission *emission, const struct ask *ask)
{
    struct text where = origin_of (ask->target.base);
    if (ask_accepted (ask)) {
        print_event (emission, ask, where);
        return EXIT_OK;
    }
    if (ask->outcome == HTTP_ANSWERED) {
        fprintf (stderr, "guerdon emit: the events service at %.*s refused: %u %s\n", (int) where.size,
                 where.data, ask->status, ask->reason);
    } else if (ask->outcome == HTTP_UNREACHED) {
        fprintf (stderr, "guerdon emit: no events service at %.*s: %s%s\n", (int) where.size, where.data,
                 ask->reason, emission->sandbox ? " (is `guerdon run --sandbox` running?)" : "");
    } else {
        fprintf (stderr,
                 "guerdon emit: the events service at %.*s did not answer (%s): "
                 "the event may be there or not\n",
                 (int) where.size, where.data, ask->reason);
    }
    return EXIT_FAILED;
}

static int post (const struct emission *emission, const struct config *config, struct raw data)
{
    static uint8_t memory[EVENT_SIZE_MAX];
    char reason[REASON_SIZE_MAX + 1] = "";
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    struct ask ask = {
        .target = config_target (config, SERVICE_EVENTS),
        .request = { .method = METHOD_POST,
                     .path = TEXT_LITERAL ("/events"),
                     .body = pack_event (&packer, emission, config, data),
                     .timeout_ms = config->settings.http_timeout_ms },
    };
    if (packer.overflow) {
        return command_usage ("emit", "the event is too large: expected at most %d bytes", EVENT_SIZE_MAX);
    }
    if (!http_client_global_init () || !ask_all (&ask, 1, reason, sizeof reason)) {
        fprintf (stderr, "guerdon emit: no HTTP: %s\n", reason);
        return EXIT_FAILED;
    }
    return report (emission, &ask);
}

/*  ---- the configuration --------------------------------------------------- */

static bool is_set (const char *name)
{
    const char *value = getenv (name);
    return value && *value;
}

/*  Nothing says where to post: then the sandbox is meant, which leaves its
    configuration in the state directory. True when it is to be used. */
static bool find_sandbox (const struct emission *emission, char *path, size_t capacity)
{
    static const char name[] = "/sandbox.env";
    if (emission->env_file || is_set ("API_SECRET") || is_set ("API_SECRET_FILE") ||
        is_set ("EVENTS_PORT_8000_TCP_ADDR")) {
        return false;
    }
    if (!config_state_dir (path, capacity - sizeof name)) {
        return false;
    }
    memcpy (path + strlen (path), name, sizeof name);
    if (access (path, R_OK) == 0) {
        fprintf (stderr, "using the sandbox of %.*s\n", (int) (strlen (path) - sizeof name + 1), path);
        return true;
    }
    fprintf (stderr, "guerdon emit: nothing says where to post. For a sandbox: guerdon run --sandbox\n");
    return false;
}

static int configure_and_post (struct emission *emission, struct raw data)
{
    char path[4096];
    struct config config;
    struct config_request request = { .events_only = true, .env_file = emission->env_file };
    emission->sandbox = find_sandbox (emission, path, sizeof path);
    if (emission->sandbox) {
        request.env_file = path;
    }
    int code = EXIT_CONFIG;
    if (command_configure (&config, &request)) {
        emission->from = emission->from ? emission->from : config.settings.app_2_name;
        if (emission->from) {
            code = post (emission, &config, data);
        } else {
            fprintf (stderr, "guerdon emit: APP_2_NAME is missing: expected it or --from\n");
        }
    }
    config_destroy (&config);
    return code;
}

int command_emit (int argc, char **argv)
{
    struct emission emission = { 0 };
    const struct command_option options[] = {
        { "user", "ID", "the player; needed", &emission.user, NULL },
        { "from", "APP", "the app it comes from; else APP_2_NAME", &emission.from, NULL },
        { "data", "JSON", "an object with more data; its userId would replace --user", &emission.data, NULL },
        { "channel", "CHANNEL", "else EVENTS_CHANNEL", &emission.channel, NULL },
        { "env-file", "FILE", "read NAME=value lines from it; the environment wins", &emission.env_file,
          NULL },
    };
    const struct command_syntax syntax = { .name = "emit",
                                           .operand = "TYPE",
                                           .help = help,
                                           .options = options,
                                           .count = sizeof options / sizeof options[0],
                                           .operand_value = &emission.type };
    int code;
    if (!command_parse (&syntax, argc, argv, &code) || !check_arguments (&emission, &code)) {
        return code;
    }
    struct raw data = NO_RAW;
    if (!emission.data) {
        return configure_and_post (&emission, data);
    }
    struct json_reader *reader = json_reader_new (DATA_SIZE_MAX);
    if (!reader) {
        fprintf (stderr, "guerdon emit: out of memory\n");
        return EXIT_FAILED;
    }
    if (read_data (reader, emission.data, &data, &code)) {
        code = configure_and_post (&emission, data);
    }
    json_reader_destroy (&reader);
    return code;
}
