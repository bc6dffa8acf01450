/*  config.h - the configuration of a process, from the environment.

    Every variable of the outside contract is one row of the table in
    config.c: its name, default, check, and what to say when it is wrong.
    Reading collects every problem instead of stopping at the first.

    A value comes from the environment, else from the env-file, else from the
    default; with `sandbox`, from the sandbox's own defaults before those. A
    secret may also be given as the path of a file that holds it, in NAME_FILE.
*/
#ifndef GUERDON_CONFIG_H
#define GUERDON_CONFIG_H

#include "actors/base/http_client.h"
#include "actors/base/log.h"
#include "actors/base/problems.h"
#include "include/settings.h"

enum { SERVICE_COUNT = 3, CONFIG_TEXT_MAX = 49152, CONFIG_VARIABLES_MAX = 64 };

/*  Where a service is: from its link variables and prefix. */
struct service_config {
    char base[1024]; /* "http://host:port/prefix", no trailing slash */
    bool given;      /* its _ADDR variable is set */
};

/*  Bounds of the endpoint variables. */
enum { ENDPOINTS_MAX = 16, ENDPOINT_SIZE_MAX = 255, ENDPOINTS_SIZE_MAX = 2048 };

/*  Where an actor is bound: from NAME_ENDPOINT, NAME_BIND and its index. */
struct bound_config {
    const char *endpoints; /* comma-separated: shards or workers */
    const char *bind;      /* where this process binds; NULL: at its endpoint */
    int index;             /* which entry this process is; -1: not said */
};

/*  Where a value came from. */
enum config_origin {
    ORIGIN_NONE, /* it has no value */
    ORIGIN_ENVIRONMENT,
    ORIGIN_FILE,
    ORIGIN_DEFAULT,
    ORIGIN_SANDBOX
};

/*  The effective value of one variable. */
struct config_value {
    const char *text; /* NULL: none */
    int64_t number;   /* what the text means, where it means a number */
    enum config_origin origin;
};

/*  Holds pointers into itself: not to be copied. */
struct config {
    struct settings settings;                      /* for the cores; points into this struct's store */
    struct service_config services[SERVICE_COUNT]; /* by enum service */
    struct bound_config bound[ROLE_STATS + 1];     /* by enum role; ingest is bound nowhere */
    const char *api_secret;
    const char *host;        /* of the status server */
    uint16_t port;           /* of the status server; 0: the system chooses */
    const char *statsd_host; /* NULL: none */
    uint16_t statsd_port;
    const char *state_dir;    /* not created by the configuration */
    const char *curve_dir;    /* certificates of tcp endpoints; NULL: none */
    bool allow_plaintext;     /* tcp beyond loopback may do without */
    const char *tap_endpoint; /* NULL: none fits the state directory */
    bool tap_given;           /* it was asked for: no tap is an error */
    uint16_t sandbox_port;    /* 0: the system chooses */
    uint32_t drain_seconds;
    uint32_t ledger_days; /* how long the journal keeps finished records */
    enum log_level log_level;
    enum log_format log_format;
    bool sandbox;
    struct config_value values[CONFIG_VARIABLES_MAX]; /* by row of the table */
    char store[CONFIG_TEXT_MAX];                      /* the strings */
    size_t stored;                                    /* bytes of the store in use */
};

/*  Which configuration is asked for. */
struct config_request {
    bool sandbox;         /* unset variables get values that fit the sandbox */
    const char *env_file; /* NULL: none. The environment wins over the file */
    bool events_only;     /* `emit` needs the events service and secret only */
};

/*  Reads the environment. False when there were problems; all of them are in
    `problems`. In both cases config is to be freed by config_destroy, and the
    log settings are filled as well as they can be. */
bool config_load (struct config *config, const struct config_request *request, struct problems *problems);

/*  Points the services that are not given at a sandbox on this port. */
void config_use_sandbox (struct config *config, uint16_t port);

/*  Prints the effective configuration, NAME=value lines, secrets masked, with
    where each came from. */
void config_print (const struct config *config);

/*  The HTTP target of a service. */
struct http_target config_target (const struct config *config, enum service service);

/*  The directory that STATE_DIR or its default names, as config_load would
    find it without an env-file. False when there is none, or it is too long
    for `capacity` bytes. */
bool config_state_dir (char *path, size_t capacity);

/*  Wipes the secret. */
void config_destroy (struct config *config);

#endif
