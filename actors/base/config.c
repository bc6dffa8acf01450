/*  config.c - the table of variables, and how it is read.

    The table says everything about a variable but where its value ends up;
    `fill` says that, by name, so that the compiler checks the types. Sizes of
    the rows bound what goes into the store, so it cannot be full.
*/
#include "actors/base/config.h"

#include <assert.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>
#include <unistd.h>

#include "actors/base/config_check.h"
#include "actors/base/env_file.h"
#include "proto/text.h"

enum {
    SECRET_SIZE_MAX = 1024,
    HOST_SIZE_MAX = 253,
    PREFIX_SIZE_MAX = 512,
    STATE_DIR_SIZE_MAX = 1024,
    SHOWN_MAX = 64,      /* bytes of a bad value that are shown */
    LINE_SIZE_MAX = 8192 /* a printed NAME=value: a path with every byte escaped */
};

/*  ---- the table ----------------------------------------------------------- */

enum {
    VAR_API_SECRET,
    VAR_APP_1_NAME,
    VAR_APP_2_NAME,
    VAR_REWARD_ID,
    VAR_REWARD_AMOUNT,
    VAR_REWARD_CURRENCY,
    VAR_EVENTS_CLIENT_ID,
    VAR_EVENTS_CHANNEL,
    VAR_EVENTS, /* of each service four rows in this order: address, port, protocol, prefix */
    VAR_USERMETA = VAR_EVENTS + 4,
    VAR_CURRENCY = VAR_USERMETA + 4,
    VAR_STATSD_HOST = VAR_CURRENCY + 4,
    VAR_STATSD_PORT,
    VAR_STATSD_PREFIX,
    VAR_HOST,
    VAR_PORT,
    VAR_STATE_DIR,
    VAR_TAP_ENDPOINT,
    VAR_CURVE_DIR,
    VAR_ALLOW_PLAINTEXT,
    VAR_WINDOW,
    VAR_DRAIN_SECONDS,
    VAR_POLL_TIMEOUT_SECONDS,
    VAR_HTTP_TIMEOUT_SECONDS,
    VAR_GAP_GRACE_MS,
    VAR_FIND_GRACE_MS,
    VAR_FIND_PATIENCE_SECONDS,
    VAR_LEDGER_DAYS,
    VAR_LOG_LEVEL,
    VAR_LOG_FORMAT,
    VAR_SANDBOX_PORT,
    VAR_ENDPOINTS, /* of each bound actor three rows in this order: endpoints, bind, index */
    VAR_ENDPOINTS_END = VAR_ENDPOINTS + 12 - 1,
    VARIABLE_COUNT
};

_Static_assert((int) VARIABLE_COUNT <= (int) CONFIG_VARIABLES_MAX, "every row has a value in struct config");

/*  The rows of a service, counted from its first. */
enum { LINK_ADDR, LINK_PORT, LINK_PROTOCOL, LINK_PREFIX };

static const int link_rows[SERVICE_COUNT] = {
    [SERVICE_EVENTS] = VAR_EVENTS,
    [SERVICE_USERMETA] = VAR_USERMETA,
    [SERVICE_CURRENCY] = VAR_CURRENCY,
};

/*  The rows of a bound actor, counted from its first. */
enum { BOUND_ENDPOINT, BOUND_BIND, BOUND_INDEX, BOUND_ROWS };

/*  Which row of a bound actor. */
#define BOUND(role, row) (VAR_ENDPOINTS + ((int) (role) - (int) ROLE_DECISION) * BOUND_ROWS + (row))

enum {
    REQUIRED = 1,     /* by `run` and `check` */
    EMIT = 2,         /* `emit` reads it */
    EMIT_NEEDS = 4,   /* and cannot do without */
    EMPTY_ABSENT = 8, /* present but empty is like absent (reference: ganomede, 2) */
    SECRET = 16       /* may be given as NAME_FILE; never shown */
};

struct variable {
    const char *name;
    unsigned flags;
    config_check *check;
    int64_t min, max;     /* of a number; of the size of anything else */
    const char *fallback; /* NULL: none, or one that is computed */
    const char *sandbox;  /* in place of the fallback with --sandbox; NULL: the same */
    const char *expected; /* ends the sentence "NAME is …: expected …" */
};

#define ANY_INTEGER_MAX INT64_C (9007199254740991)
#define EXPECTED_NAME "1 to 255 bytes of UTF-8 without control bytes"
#define EXPECTED_PORT "a port from 1 to 65535"
#define EXPECTED_BIND "a port from 0 to 65535, 0 for any that is free"
#define EXPECTED_HOST "a host name, an IPv4 or an IPv6 address"
#define EXPECTED_ENDPOINT "tcp://host:port, ipc:///path or inproc://name"
#define EXPECTED_ENDPOINTS EXPECTED_ENDPOINT ", or a comma-separated list of at most 16 of them"
#define EXPECTED_INDEX "which entry of the list this process is, from 0"
#define EXPECTED_PREFIX "a path such as \"/events/v1\", without query and fragment"

/* clang-format off */
#define LINK(first, name, prefix_name, emit, prefix)                                               \
    [(first) + LINK_ADDR] = { name "_ADDR", EMPTY_ABSENT | (emit), check_host, 1, HOST_SIZE_MAX,   \
                              "127.0.0.1", NULL, EXPECTED_HOST },                                  \
    [(first) + LINK_PORT] = { name "_PORT", EMPTY_ABSENT | (emit), check_number, 1, 65535,         \
                              "8000", NULL, EXPECTED_PORT },                                       \
    [(first) + LINK_PROTOCOL] = { name "_PROTOCOL", EMPTY_ABSENT | (emit), check_protocol, 0, 0,   \
                                  "http", NULL, "http or https" },                                 \
    [(first) + LINK_PREFIX] = { prefix_name, (emit), check_prefix, 1, PREFIX_SIZE_MAX,             \
                                prefix, NULL, EXPECTED_PREFIX }
/* clang-format on */

/* clang-format off */
#define ENDPOINTS(role, name, index_name, fallback)                                                \
    [BOUND (role, BOUND_ENDPOINT)] = { name "_ENDPOINT", 0, check_endpoints, 1, ENDPOINTS_SIZE_MAX,\
                                       fallback, NULL, EXPECTED_ENDPOINTS },                       \
    [BOUND (role, BOUND_BIND)] = { name "_BIND", 0, check_endpoint, 1, ENDPOINT_SIZE_MAX,          \
                                   NULL, NULL, EXPECTED_ENDPOINT },                                \
    [BOUND (role, BOUND_INDEX)] = { index_name, 0, check_number, 0, ENDPOINTS_MAX - 1,             \
                                    NULL, NULL, EXPECTED_INDEX }
/* clang-format on */

static const struct variable variables[VARIABLE_COUNT] = {
    [VAR_API_SECRET] = { "API_SECRET", REQUIRED | EMIT | EMIT_NEEDS | SECRET, check_secret, 1,
                         SECRET_SIZE_MAX, NULL, "sandbox",
                         "the secret of the services, 1 to 1024 bytes of UTF-8" },
    [VAR_APP_1_NAME] = { "APP_1_NAME", REQUIRED, check_name, 1, NAME_SIZE_MAX, NULL, "game-1",
                         "the name of the app that gives rewards, " EXPECTED_NAME },
    [VAR_APP_2_NAME] = { "APP_2_NAME", REQUIRED | EMIT, check_name, 1, NAME_SIZE_MAX, NULL, "game-2",
                         "the name of the app whose log-ins count, " EXPECTED_NAME },
    [VAR_REWARD_ID] = { "REWARD_APP_1_USER_LOGIN_APP_2_ID", REQUIRED, check_reward, 1, REWARD_SIZE_MAX, NULL,
                        "login-game-2",
                        "1 to 200 of A-Z a-z 0-9 _ . -, because usermeta cannot store \":\" \",\" \"/\" "
                        "or spaces under their own name" },
    [VAR_REWARD_AMOUNT] = { "REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT", REQUIRED, check_number, -ANY_INTEGER_MAX,
                            ANY_INTEGER_MAX, NULL, "10",
                            "a decimal integer such as 10, at most 9007199254740991" },
    [VAR_REWARD_CURRENCY] = { "REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY", REQUIRED, check_name, 1,
                              NAME_SIZE_MAX, NULL, "gold", "the currency of the reward, " EXPECTED_NAME },
    [VAR_EVENTS_CLIENT_ID] = { "EVENTS_CLIENT_ID", REQUIRED | EMIT, check_name, 1, NAME_SIZE_MAX, NULL,
                               "guerdon-sandbox",
                               "the name of this worker at the events service, " EXPECTED_NAME },
    [VAR_EVENTS_CHANNEL] = { "EVENTS_CHANNEL", EMIT, check_name, 1, NAME_SIZE_MAX, "users/v1", NULL,
                             EXPECTED_NAME },
    LINK (VAR_EVENTS, "EVENTS_PORT_8000_TCP", "EVENTS_PREFIX", EMIT, "/events/v1"),
    LINK (VAR_USERMETA, "APP_1_USERMETA_PORT_8000_TCP", "APP_1_USERMETA_PREFIX", 0, "/usermeta/v1"),
    LINK (VAR_CURRENCY, "APP_1_VIRTUALCURRENCY_PORT_8000_TCP", "APP_1_VIRTUALCURRENCY_PREFIX", 0,
          "/virtualcurrency/v1"),
    [VAR_STATSD_HOST] = { "STATSD_HOST", 0, check_host, 1, HOST_SIZE_MAX, NULL, NULL, EXPECTED_HOST },
    [VAR_STATSD_PORT] = { "STATSD_PORT", 0, check_number, 1, 65535, NULL, NULL, EXPECTED_PORT },
    [VAR_STATSD_PREFIX] = { "STATSD_PREFIX", 0, check_statsd_prefix, 1, NAME_SIZE_MAX,
                            "mailchimp.registrations.", NULL, EXPECTED_NAME ", \":\" and \"|\"" },
    [VAR_HOST] = { "HOST", EMPTY_ABSENT, check_host, 1, HOST_SIZE_MAX, "0.0.0.0", "127.0.0.1",
                   EXPECTED_HOST },
    [VAR_PORT] = { "PORT", 0, check_number, 0, 65535, "8000", NULL, EXPECTED_BIND },
    [VAR_STATE_DIR] = { "STATE_DIR", EMIT, check_path, 1, STATE_DIR_SIZE_MAX, NULL, NULL,
                        "the path of a directory, at most 1024 bytes without control bytes" },
    [VAR_CURVE_DIR] = { "CURVE_DIR", 0, check_path, 1, STATE_DIR_SIZE_MAX, NULL, NULL,
                        "the directory of certificates that guerdon keygen wrote, or a role's part of it" },
    [VAR_ALLOW_PLAINTEXT] = { "ALLOW_PLAINTEXT", 0, check_number, 0, 1, "0", NULL,
                              "1 to let tcp endpoints beyond loopback do without CURVE_DIR, else 0" },
    [VAR_TAP_ENDPOINT] = { "TAP_ENDPOINT", 0, check_endpoint, 1, STATE_DIR_SIZE_MAX + 32, NULL, NULL,
                           EXPECTED_ENDPOINT },
    [VAR_WINDOW] = { "WINDOW", 0, check_number, 1, WINDOW_MAX, "10000", NULL,
                     "a whole number of events from 1 to 1000000" },
    [VAR_DRAIN_SECONDS] = { "DRAIN_SECONDS", 0, check_number, 0, 3600, "30", NULL,
                            "a whole number of seconds from 0 to 3600" },
    [VAR_POLL_TIMEOUT_SECONDS] = { "POLL_TIMEOUT_SECONDS", 0, check_number, 1, 600, "65", NULL,
                                   "a whole number of seconds from 1 to 600" },
    [VAR_HTTP_TIMEOUT_SECONDS] = { "HTTP_TIMEOUT_SECONDS", EMIT, check_number, 1, 600, "5", NULL,
                                   "a whole number of seconds from 1 to 600" },
    [VAR_GAP_GRACE_MS] = { "GAP_GRACE_MS", 0, check_number, 0, 60000, "3000", NULL,
                           "a whole number of milliseconds from 0 to 60000" },
    [VAR_FIND_GRACE_MS] = { "FIND_GRACE_MS", 0, check_number, 0, 600000, "2000", NULL,
                            "a whole number of milliseconds from 0 to 600000" },
    [VAR_FIND_PATIENCE_SECONDS] = { "FIND_PATIENCE_SECONDS", 0, check_number, 1, 86400, "60", NULL,
                                    "a whole number of seconds from 1 to 86400" },
    [VAR_LEDGER_DAYS] = { "LEDGER_DAYS", 0, check_number, 1, 36500, "90", NULL,
                          "a whole number of days from 1 to 36500" },
    [VAR_LOG_LEVEL] = { "LOG_LEVEL", EMPTY_ABSENT, check_level, 0, 0, "INFO", NULL,
                        "FATAL, ERROR, WARN, INFO, DEBUG or TRACE" },
    [VAR_LOG_FORMAT] = { "LOG_FORMAT", 0, check_format, 0, 0, NULL, NULL, "json or text" },
    ENDPOINTS (ROLE_DECISION, "DECISION", "DECISION_SHARD", "inproc://decision"),
    ENDPOINTS (ROLE_USERMETA_CLIENT, "USERMETA_CLIENT", "USERMETA_CLIENT_WORKER", "inproc://usermeta-client"),
    ENDPOINTS (ROLE_CURRENCY_CLIENT, "CURRENCY_CLIENT", "CURRENCY_CLIENT_WORKER", "inproc://currency-client"),
    ENDPOINTS (ROLE_STATS, "STATS", "STATS_WORKER", "inproc://stats"),
    [VAR_SANDBOX_PORT] = { "SANDBOX_PORT", 0, check_number, 0, 65535, "8001", NULL, EXPECTED_BIND },
};

/*  ---- one variable -------------------------------------------------------- */

/*  Everything a load needs to hand on. */
struct loading {
    struct config *config;
    const struct config_request *request;
    struct problems *problems;
    struct env_file file;
};

/*  Keeps a copy, terminated, in the store. */
static const char *keep (struct config *config, struct text text)
{
    assert (config->stored + text.size < sizeof config->store);
    char *copy = config->store + config->stored;
    memcpy (copy, text.data, text.size);
    copy[text.size] = '\0';
    config->stored += text.size + 1;
    return copy;
}

static void set (struct config *config, int row, const char *text, enum config_origin origin)
{
    struct config_value *value = &config->values[row];
    const struct variable *variable = &variables[row];
    *value = (struct config_value){ text, 0, origin };
    bool good = variable->check (text_of (text), variable->min, variable->max, &value->number);
    assert (good);
}

/*  The value as it was given: environment first, and what is empty does not
    hide what stands in the file where empty means absent. */
static enum config_origin find (const struct loading *loading, const char *name, unsigned flags,
                                struct text *text)
{
    const char *string = getenv (name);
    if (string && (*string || !(flags & EMPTY_ABSENT))) {
        *text = text_of (string);
        return ORIGIN_ENVIRONMENT;
    }
    if (env_file_find (&loading->file, name, text) && (text->size > 0 || !(flags & EMPTY_ABSENT))) {
        return ORIGIN_FILE;
    }
    return ORIGIN_NONE;
}

static void say_bad (struct problems *problems, const struct variable *variable, struct text text)
{
    if (variable->flags & SECRET) {
        problems_add (problems, "%s is malformed (not shown): expected %s", variable->name,
                      variable->expected);
        return;
    }
    char memory[SHOWN_MAX * 6 + 8];
    struct builder shown;
    builder_init (&shown, memory, sizeof memory);
    builder_printable (&shown, text, SHOWN_MAX);
    problems_add (problems, "%s is \"%s\": expected %s", variable->name, memory, variable->expected);
}

/*  Checks a value that was given, and keeps it when it is good. */
static void take (struct loading *loading, int row, struct text text, enum config_origin origin)
{
    const struct variable *variable = &variables[row];
    int64_t number = 0;
    if (text.size == 0) {
        problems_add (loading->problems, "%s is empty: expected %s", variable->name, variable->expected);
        return;
    }
    if (!variable->check (text, variable->min, variable->max, &number)) {
        say_bad (loading->problems, variable, text);
        return;
    }
    loading->config->values[row] = (struct config_value){ keep (loading->config, text), number, origin };
}

/*  Without a value: the default, or a problem when there is none. */
static void take_fallback (struct loading *loading, int row)
{
    const struct variable *variable = &variables[row];
    const struct config_request *request = loading->request;
    if (request->sandbox && variable->sandbox) {
        set (loading->config, row, variable->sandbox, ORIGIN_SANDBOX);
    } else if (variable->fallback) {
        set (loading->config, row, variable->fallback, ORIGIN_DEFAULT);
    } else if (variable->flags & (request->events_only ? EMIT_NEEDS : REQUIRED)) {
        problems_add (loading->problems, "%s is missing: expected %s", variable->name, variable->expected);
    }
}

/*  Reads the secret from the file that NAME_FILE names. The path is not shown
    either: it may be the secret itself, put into the wrong variable. */
static void take_secret_file (struct loading *loading, int row, const char *name, struct text path,
                              enum config_origin origin)
{
    const struct variable *variable = &variables[row];
    char string[STATE_DIR_SIZE_MAX + 1];
    size_t size = 0;
    if (path.size == 0 || path.size >= sizeof string) {
        problems_add (loading->problems, "%s is %s: expected the path of a file that holds %s", name,
                      path.size == 0 ? "empty" : "too long", variable->name);
        return;
    }
    memcpy (string, path.data, path.size);
    string[path.size] = '\0';
    char *bytes = env_file_slurp (string, ENV_FILE_SIZE_MAX, &size);
    if (!bytes) {
        problems_add (loading->problems, "%s cannot be read (%s): expected the path of a file that holds %s",
                      name, strerror (errno), variable->name);
        return;
    }
    struct text text = { bytes, (uint32_t) size };
    if (text.size > 0 && text.data[text.size - 1] == '\n') {
        text.size--;
    }
    int64_t number = 0;
    if (text.size == 0) {
        problems_add (loading->problems, "%s names a file that is empty: expected %s", name,
                      variable->expected);
    } else if (!variable->check (text, variable->min, variable->max, &number)) {
        problems_add (loading->problems, "%s names a file whose content is malformed: expected %s", name,
                      variable->expected);
    } else {
        take (loading, row, text, origin);
    }
    explicit_bzero (bytes, ENV_FILE_SIZE_MAX);
    free (bytes);
}

/*  A secret: NAME or NAME_FILE. One place, environment or file, that has
    either wins over the other place. */
static void load_secret (struct loading *loading, int row)
{
    const struct variable *variable = &variables[row];
    char name[64];
    struct text text, path;
    snprintf (name, sizeof name, "%s_FILE", variable->name);
    enum config_origin direct = find (loading, variable->name, variable->flags, &text);
    enum config_origin indirect = find (loading, name, variable->flags, &path);

    if (direct != ORIGIN_NONE && direct == indirect) {
        problems_add (loading->problems, "%s and %s are both given: expected one of them", variable->name,
                      name);
    } else if (direct != ORIGIN_NONE && (indirect == ORIGIN_NONE || direct < indirect)) {
        take (loading, row, text, direct);
    } else if (indirect != ORIGIN_NONE) {
        take_secret_file (loading, row, name, path, indirect);
    } else {
        take_fallback (loading, row);
    }
}

static void load_variable (struct loading *loading, int row)
{
    const struct variable *variable = &variables[row];
    struct text text;
    if (loading->request->events_only && !(variable->flags & EMIT)) {
        if (variable->fallback) {
            set (loading->config, row, variable->fallback, ORIGIN_DEFAULT);
        }
        return;
    }
    if (variable->flags & SECRET) {
        load_secret (loading, row);
        return;
    }
    enum config_origin origin = find (loading, variable->name, variable->flags, &text);
    if (origin == ORIGIN_NONE) {
        take_fallback (loading, row);
    } else {
        take (loading, row, text, origin);
    }
}

/*  ---- defaults that are computed ------------------------------------------ */

/*  The home directory: also where the environment was emptied. */
static const char *home_dir (void)
{
    const char *home = getenv ("HOME");
    if (home && *home) {
        return home;
    }
    const struct passwd *user = getpwuid (getuid ());
    return user && user->pw_dir && *user->pw_dir ? user->pw_dir : NULL;
}

/*  ${XDG_STATE_HOME:-$HOME/.local/state}/guerdon; a relative XDG_STATE_HOME
    counts as unset, as its specification says. */
static bool default_state_dir (char *path, size_t capacity)
{
    const char *state = getenv ("XDG_STATE_HOME");
    const char *home = home_dir ();
    struct builder builder;
    builder_init (&builder, path, capacity);
    if (state && *state == '/') {
        builder_literal (&builder, state);
    } else if (home) {
        builder_literal (&builder, home);
        builder_literal (&builder, "/.local/state");
    } else {
        return false;
    }
    builder_literal (&builder, "/guerdon");
    return !builder.overflow;
}

bool config_state_dir (char *path, size_t capacity)
{
    assert (path && capacity > 0);
    const char *given = getenv (variables[VAR_STATE_DIR].name);
    if (!given || !*given) {
        return default_state_dir (path, capacity);
    }
    struct builder builder;
    builder_init (&builder, path, capacity);
    builder_literal (&builder, given);
    return !builder.overflow;
}

static bool is_given (const struct loading *loading, int row)
{
    struct text text;
    return find (loading, variables[row].name, variables[row].flags, &text) != ORIGIN_NONE;
}

/*  A default that was computed; one that will not do is left out. */
static void set_computed (struct config *config, int row, const char *text)
{
    int64_t number;
    const struct variable *variable = &variables[row];
    if (variable->check (text_of (text), variable->min, variable->max, &number))
        set (config, row, keep (config, text_of (text)), ORIGIN_DEFAULT);
}

static void load_computed (struct loading *loading)
{
    struct config *config = loading->config;
    char path[STATE_DIR_SIZE_MAX + 1];
    if (!is_given (loading, VAR_STATE_DIR)) {
        int64_t number;
        const struct variable *variable = &variables[VAR_STATE_DIR];
        if (default_state_dir (path, sizeof path) &&
            variable->check (text_of (path), variable->min, variable->max, &number)) {
            set (config, VAR_STATE_DIR, keep (config, text_of (path)), ORIGIN_DEFAULT);
        } else {
            problems_add (loading->problems, "%s is missing, and HOME gives no default: expected %s",
                          variable->name, variable->expected);
        }
    }
    if (!is_given (loading, VAR_TAP_ENDPOINT) && config->values[VAR_STATE_DIR].text) {
        char endpoint[STATE_DIR_SIZE_MAX + 32];
        snprintf (endpoint, sizeof endpoint, "ipc://%s/tap.sock", config->values[VAR_STATE_DIR].text);
        set_computed (config, VAR_TAP_ENDPOINT, endpoint);
    }
    if (!config->values[VAR_LOG_FORMAT].text) {
        set (config, VAR_LOG_FORMAT, isatty (STDOUT_FILENO) == 1 ? "text" : "json", ORIGIN_DEFAULT);
    }
    uint64_t seed;
    if (getrandom (&seed, sizeof seed, 0) != (ssize_t) sizeof seed) {
        problems_add (loading->problems, "the system gives no random numbers: %s", strerror (errno));
        return;
    }
    config->settings.hash_seed = seed;
}

/*  ---- from values to the struct ------------------------------------------- */

static int64_t number_of (const struct config *config, int row)
{
    return config->values[row].number;
}

/*  "http://host:port/prefix"; an IPv6 address stands in brackets. */
static void fill_service (struct config *config, enum service service)
{
    const struct config_value *rows = &config->values[link_rows[service]];
    struct service_config *target = &config->services[service];
    target->base[0] = '\0';
    for (int i = LINK_ADDR; i <= LINK_PREFIX; i++) {
        if (!rows[i].text) {
            return; /* a problem that is told already */
        }
    }
    struct builder base;
    bool bare = !strchr (rows[LINK_ADDR].text, ':');
    builder_init (&base, target->base, sizeof target->base);
    builder_literal (&base, rows[LINK_PROTOCOL].text);
    builder_literal (&base, bare ? "://" : "://[");
    builder_literal (&base, rows[LINK_ADDR].text);
    builder_literal (&base, bare ? ":" : "]:");
    builder_uint (&base, (uint64_t) rows[LINK_PORT].number);

    struct text prefix = text_of (rows[LINK_PREFIX].text);
    while (prefix.size > 0 && prefix.data[prefix.size - 1] == '/') {
        prefix.size--;
    }
    builder_add (&base, prefix);
    assert (!base.overflow);
}

static void fill_settings (struct config *config)
{
    struct settings *settings = &config->settings;
    const struct config_value *values = config->values;
    settings->app_1_name = values[VAR_APP_1_NAME].text;
    settings->app_2_name = values[VAR_APP_2_NAME].text;
    settings->reward_id = values[VAR_REWARD_ID].text;
    settings->reward_amount = values[VAR_REWARD_AMOUNT].number;
    settings->reward_currency = values[VAR_REWARD_CURRENCY].text;
    settings->events_client_id = values[VAR_EVENTS_CLIENT_ID].text;
    settings->events_channel = values[VAR_EVENTS_CHANNEL].text;
    settings->poll_timeout_ms = (uint32_t) number_of (config, VAR_POLL_TIMEOUT_SECONDS) * 1000;
    settings->gap_grace_ms = (uint32_t) number_of (config, VAR_GAP_GRACE_MS);
    settings->find_grace_ms = (uint32_t) number_of (config, VAR_FIND_GRACE_MS);
    settings->find_patience_ms = (uint32_t) number_of (config, VAR_FIND_PATIENCE_SECONDS) * 1000;
    config->ledger_days = (uint32_t) number_of (config, VAR_LEDGER_DAYS);
    settings->http_timeout_ms = (uint32_t) number_of (config, VAR_HTTP_TIMEOUT_SECONDS) * 1000;
    settings->window = (uint32_t) number_of (config, VAR_WINDOW);
    settings->statsd_prefix = values[VAR_STATSD_PREFIX].text;
    settings->statsd = values[VAR_STATSD_HOST].text && values[VAR_STATSD_PORT].text;
}

static void fill (struct config *config)
{
    const struct config_value *values = config->values;
    fill_settings (config);
    config->api_secret = values[VAR_API_SECRET].text;
    config->host = values[VAR_HOST].text;
    config->port = (uint16_t) number_of (config, VAR_PORT);
    config->statsd_host = config->settings.statsd ? values[VAR_STATSD_HOST].text : NULL;
    config->statsd_port = (uint16_t) number_of (config, VAR_STATSD_PORT);
    config->state_dir = values[VAR_STATE_DIR].text;
    config->tap_endpoint = values[VAR_TAP_ENDPOINT].text;
    config->tap_given = values[VAR_TAP_ENDPOINT].origin != ORIGIN_DEFAULT;
    config->curve_dir = values[VAR_CURVE_DIR].text;
    config->allow_plaintext = number_of (config, VAR_ALLOW_PLAINTEXT) == 1;
    config->sandbox_port = (uint16_t) number_of (config, VAR_SANDBOX_PORT);
    config->drain_seconds = (uint32_t) number_of (config, VAR_DRAIN_SECONDS);
    config->log_format = (enum log_format) number_of (config, VAR_LOG_FORMAT);
    config->log_level =
        values[VAR_LOG_LEVEL].text ? (enum log_level) number_of (config, VAR_LOG_LEVEL) : LOG_INFO;
    for (enum role role = ROLE_DECISION; role <= ROLE_STATS; role++) {
        struct bound_config *bound = &config->bound[role];
        bound->endpoints = values[BOUND (role, BOUND_ENDPOINT)].text;
        bound->bind = values[BOUND (role, BOUND_BIND)].text;
        bound->index =
            values[BOUND (role, BOUND_INDEX)].text ? (int) number_of (config, BOUND (role, BOUND_INDEX)) : -1;
    }
    for (int i = 0; i < SERVICE_COUNT; i++) {
        enum config_origin origin = values[link_rows[i] + LINK_ADDR].origin;
        config->services[i].given = origin == ORIGIN_ENVIRONMENT || origin == ORIGIN_FILE;
        fill_service (config, (enum service) i);
    }
}

bool config_load (struct config *config, const struct config_request *request, struct problems *problems)
{
    assert (config && request && problems);
    memset (config, 0, sizeof *config);
    memset (problems, 0, sizeof *problems);
    config->sandbox = request->sandbox;

    struct loading loading = { .config = config, .request = request, .problems = problems };
    env_file_open (&loading.file, request->env_file, problems);
    for (int row = 0; row < VARIABLE_COUNT; row++) {
        load_variable (&loading, row);
    }
    load_computed (&loading);
    env_file_close (&loading.file);
    fill (config);
    return problems->count == 0;
}

/*  ---- the rest ------------------------------------------------------------ */

void config_use_sandbox (struct config *config, uint16_t port)
{
    assert (config);
    for (int i = 0; i < SERVICE_COUNT; i++) {
        int first = link_rows[i];
        struct config_value *value = &config->values[first + LINK_PORT];
        if (config->services[i].given) {
            continue;
        }
        set (config, first + LINK_ADDR, "127.0.0.1", ORIGIN_SANDBOX);
        set (config, first + LINK_PROTOCOL, "http", ORIGIN_SANDBOX);
        set (config, first + LINK_PREFIX, variables[first + LINK_PREFIX].fallback, ORIGIN_SANDBOX);
        char number[8];
        struct builder builder;
        builder_init (&builder, number, sizeof number);
        builder_uint (&builder, port);
        *value = (struct config_value){ keep (config, builder_text (&builder)), port, ORIGIN_SANDBOX };
        fill_service (config, (enum service) i);
    }
}

/*  NAME=value as it is shown. */
static struct text shown (const struct config *config, int row, char *memory, size_t capacity)
{
    const struct config_value *value = &config->values[row];
    struct builder line;
    builder_init (&line, memory, capacity);
    builder_literal (&line, variables[row].name);
    builder_literal (&line, "=");
    if (value->text && variables[row].flags & SECRET) {
        builder_literal (&line, "***");
    } else {
        builder_printable (&line, text_of (value->text), STATE_DIR_SIZE_MAX);
    }
    return builder_text (&line);
}

void config_print (const struct config *config)
{
    assert (config);
    static const char *const origins[] = {
        [ORIGIN_NONE] = "not set",    [ORIGIN_ENVIRONMENT] = "environment", [ORIGIN_FILE] = "file",
        [ORIGIN_DEFAULT] = "default", [ORIGIN_SANDBOX] = "sandbox",
    };
    enum { COLUMN_MAX = 60 }; /* one long value does not push the rest away */
    char memory[LINE_SIZE_MAX];
    int column = 0;
    for (int row = 0; row < VARIABLE_COUNT; row++) {
        int size = (int) shown (config, row, memory, sizeof memory).size;
        column = size > column && size <= COLUMN_MAX ? size : column;
    }
    for (int row = 0; row < VARIABLE_COUNT; row++) {
        shown (config, row, memory, sizeof memory);
        printf ("%-*s  %s\n", column, memory, origins[config->values[row].origin]);
    }
}

struct http_target config_target (const struct config *config, enum service service)
{
    assert (config && (int) service < SERVICE_COUNT);
    return (struct http_target){ service, config->services[service].base, config->api_secret };
}

void config_destroy (struct config *config)
{
    assert (config);
    explicit_bzero (config, sizeof *config);
}
