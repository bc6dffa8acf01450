/*  command_run.c - guerdon run: all actors, until a signal.

    The main thread opens everything, starts the actors, and then waits for
    signals and for what the actors have to say. SIGTERM or SIGINT drains them
    in the order of the flow; a second one ends at once.
*/
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "actors/base/curve.h"
#include "actors/base/desk.h"
#include "actors/base/journal.h"
#include "actors/base/log.h"
#include "actors/base/resident.h"
#include "actors/base/shell.h"
#include "actors/base/status.h"
#include "actors/base/tap.h"
#include "actors/sandbox/sandbox.h"
#include "bin/command.h"
#include "bin/run_journal.h"
#include "bin/sandbox_env.h"
#include "bin/topology.h"

enum { ACTORS_MAX = 8, SANDBOX_POLL_TIMEOUT_MS = 5000, REASON_MAX = 512, TRIM_AFTER_MS = 300 };

/*  When the time to finish is over each actor is still asked, and has this long:
    only those that really have work left are named, and stats sends its counts. */
enum { LAST_WORD_MS = 50 };

/*  So long a decision may take to do what a person wants of it. */
enum { ORDER_ANSWER_MS = 10000 };

static const char self_name[] = "guerdon";

static const char *const help =
    "Runs the worker: all actors in one process, until SIGTERM or SIGINT, which finish what is under\n"
    "way within DRAIN_SECONDS; a second signal ends at once.\n"
    "With --sandbox the three services run inside too, and every unset variable gets a value that\n"
    "fits them.\n"
    "Exit codes: 0 ended by a signal, 1 could not run, 64 usage, 78 the configuration is wrong.";

/*  Everything that is open while the process runs. */
struct process {
    struct config config;
    struct problems warnings;     /* of the configuration, told at every start */
    struct deployment deployment; /* which roles run here, and where the others are */
    struct monitor *monitor;
    struct status *status;
    struct sandbox *sandbox;
    void *context;
    struct tap *tap;
    struct journal *journal;          /* NULL where no decision runs */
    struct desk *desk;                /* NULL where no decision runs */
    struct curve *curve;              /* keys of tcp hops; NULL: none */
    struct shell *shells[ACTORS_MAX]; /* in the order of the topology */
    int signals;                      /* signalfd */
    int notices;                      /* eventfd: an actor has something to say */
    atomic_bool drained[ACTORS_MAX];  /* by place in the topology */
    atomic_bool rejected;             /* a service rejects the secret */
};

/*  ---- opening ------------------------------------------------------------ */

static int fail (const char *what, const char *reason)
{
    log_say (self_name, LOG_FATAL, "%s: %s", what, reason);
    fprintf (stderr, "guerdon run: %s: %s\n", what, reason);
    return EXIT_FAILED;
}

static bool runs_here (const struct process *self, unsigned index)
{
    return self->deployment.roles & 1u << topology[index].spec->role;
}

/*  Called on an actor's thread. */
static void on_notice (void *context, enum role role, const struct message *message)
{
    struct process *self = context;
    uint64_t one = 1;
    for (unsigned i = 0; i < topology_count; i++)
        if (message->id == MESSAGE_DRAINED && topology[i].spec->role == role)
            atomic_store (&self->drained[i], true);
    if (message->id == MESSAGE_HEALTH && message->health.state == SERVICE_REJECTS)
        atomic_store (&self->rejected, true);
    if (message->id == MESSAGE_DONE && self->desk)
        desk_done (self->desk, message);
    if (write (self->notices, &one, sizeof one) < 0)
        return; /* the counter is full: the main thread is awake anyway */
}

/*  Signals arrive as a descriptor; every thread started later has them blocked
    too. A file that may grow no further is an error, as on a full disk. */
static bool open_signals (struct process *self)
{
    sigset_t set;
    sigemptyset (&set);
    sigaddset (&set, SIGINT);
    sigaddset (&set, SIGTERM);
    if (pthread_sigmask (SIG_BLOCK, &set, NULL) != 0 || signal (SIGPIPE, SIG_IGN) == SIG_ERR ||
        signal (SIGXFSZ, SIG_IGN) == SIG_ERR)
        return false;
    self->signals = signalfd (-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    self->notices = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    return self->signals >= 0 && self->notices >= 0;
}

/*  Makes a directory with its parents, 0700 where it makes one. */
static bool make_directory (const char *path)
{
    char part[4096];
    size_t size = strlen (path);
    if (size >= sizeof part) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (size_t i = 1; i <= size; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy (part, path, i);
        part[i] = '\0';
        if (mkdir (part, 0700) != 0 && errno != EEXIST)
            return false;
    }
    return true;
}

/*  Makes the directory that a file is to lie in. */
static bool make_directory_of (const char *file)
{
    char path[4096];
    const char *slash = strrchr (file, '/');
    if (!slash || slash == file)
        return true;
    snprintf (path, sizeof path, "%.*s", (int) (slash - file), file);
    return make_directory (path);
}

static int make_state_dir (const struct config *config)
{
    char reason[REASON_MAX];
    if (make_directory (config->state_dir))
        return EXIT_OK;
    snprintf (reason, sizeof reason, "%s: %s", config->state_dir, strerror (errno));
    return fail ("STATE_DIR", reason);
}

static int open_sandbox (struct process *self)
{
    struct config *config = &self->config;
    char reason[REASON_MAX];
    int code = make_state_dir (config);
    if (code != EXIT_OK)
        return code;
    const struct sandbox_options options = {
        .state_dir = config->state_dir,
        .api_secret = config->api_secret,
        .app_1_name = config->settings.app_1_name,
        .port = config->sandbox_port,
        .poll_timeout_ms = SANDBOX_POLL_TIMEOUT_MS,
    };
    self->sandbox = sandbox_new (&options, reason, sizeof reason);
    if (!self->sandbox)
        return fail ("the sandbox (SANDBOX_PORT, STATE_DIR)", reason);
    config_use_sandbox (config, sandbox_port (self->sandbox));
    if (!sandbox_env_write (config, sandbox_port (self->sandbox), reason, sizeof reason))
        return fail ("the sandbox's configuration", reason);
    log_say (self_name, LOG_INFO,
             "sandbox: events, usermeta and virtualcurrency at http://127.0.0.1:%u, data in %s",
             (unsigned) sandbox_port (self->sandbox), config->state_dir);
    return EXIT_OK;
}

static int open_status (struct process *self)
{
    char reason[REASON_MAX];
    self->status = status_new (self->config.host, self->config.port, self->monitor, reason, sizeof reason);
    if (!self->status)
        return fail ("the status server (HOST, PORT)", reason);
    log_say (self_name, LOG_INFO, "status at http://%s:%u: /about /ping/:token /health /ready /metrics",
             self->config.host, (unsigned) status_port (self->status));
    return EXIT_OK;
}

static bool tap_is_tcp (const struct config *config)
{
    return config->tap_endpoint && strncmp (config->tap_endpoint, "tcp:", 4) == 0;
}

/*  Whether the keys of a tcp tap are there and good, when there is a directory
    of keys. */
static bool has_tap_keys (const struct config *config, char *reason, size_t reason_size)
{
    struct keyring keyring;
    bool good = !config->curve_dir || !tap_is_tcp (config) ||
                keyring_load (&keyring, config->curve_dir, PARTY_BIT (PARTY_MIRROR), reason, reason_size);
    keyring_wipe (&keyring);
    return good;
}

/*  Opens the tap. One that was asked for and cannot be had is an error; without
    the default one the process runs as well. */
static int open_tap (struct process *self)
{
    char reason[REASON_MAX] = "no endpoint fits STATE_DIR";
    char name[300];
    char host[256] = "";
    const char *endpoint = self->config.tap_endpoint;
    if (!has_tap_keys (&self->config, reason, sizeof reason)) {
        fail ("CURVE_DIR", reason);
        return EXIT_CONFIG;
    }
    gethostname (host, sizeof host - 1);
    snprintf (name, sizeof name, "%s:%ld", host, (long) getpid ());
    if (endpoint && strncmp (endpoint, "ipc://", 6) == 0 && !make_directory_of (endpoint + 6))
        snprintf (reason, sizeof reason, "%s: %s", endpoint, strerror (errno));
    else if (endpoint)
        self->tap = tap_open (endpoint, name, self->config.curve_dir, self->monitor, reason, sizeof reason);
    if (self->tap)
        log_say (self_name, LOG_INFO, "tap at %s", endpoint);
    else if (self->config.tap_given)
        return fail ("TAP_ENDPOINT", reason);
    else
        log_say (self_name, LOG_WARN, "no tap: %s", reason);
    return EXIT_OK;
}

/*  Where a decision runs. */
static int open_journal (struct process *self)
{
    char reason[REASON_MAX * 4];
    if (!(self->deployment.roles & 1u << ROLE_DECISION))
        return EXIT_OK;
    int code = make_state_dir (&self->config);
    if (code != EXIT_OK)
        return code;
    self->journal = run_journal_open (&self->config, self->deployment.index[ROLE_DECISION], self->monitor,
                                      reason, sizeof reason);
    return self->journal ? EXIT_OK : fail ("the journal", reason);
}

/*  Opens the bus, with keys when there is a directory of them and a tcp socket
    that needs them. */
static int open_bus (struct process *self)
{
    char reason[REASON_MAX];
    unsigned roles = topology_tcp_roles (&self->deployment);
    self->context = bus_context_new ();
    if (!self->context)
        return fail ("the bus", strerror (errno));
    if (!self->config.curve_dir || !roles)
        return EXIT_OK;
    self->curve = curve_open (self->context, self->config.curve_dir, roles, reason, sizeof reason);
    if (!self->curve) {
        fail ("CURVE_DIR", reason);
        return EXIT_CONFIG;
    }
    curve_report (self->curve, self->monitor);
    return EXIT_OK;
}

/*  Called on the desk's thread. */
static bool post_to_decision (void *context, const struct message *message)
{
    struct process *self = context;
    for (unsigned i = 0; i < topology_count; i++)
        if (topology[i].spec->role == ROLE_DECISION)
            return shell_post (self->shells[i], message);
    return false;
}

/*  Where a decision runs. Without a desk it works as well. */
static void open_desk (struct process *self)
{
    char reason[REASON_MAX * 4];
    if (!(self->deployment.roles & 1u << ROLE_DECISION))
        return;
    const struct desk_options options = {
        .context = self->context,
        .state_dir = self->config.state_dir,
        .shard = self->deployment.index[ROLE_DECISION],
        .answer_ms = ORDER_ANSWER_MS,
        .monitor = self->monitor,
        .post = post_to_decision,
        .post_context = self,
    };
    self->desk = desk_new (&options, reason, sizeof reason);
    if (!self->desk)
        log_say (self_name, LOG_WARN, "guerdon dlq and ledger cannot ask this process: %s", reason);
}

static int open_actors (struct process *self)
{
    char reason[REASON_MAX];
    assert (topology_count <= ACTORS_MAX);
    for (unsigned i = 0; i < topology_count; i++) {
        const struct actor_spec *spec = topology[i].spec;
        if (!runs_here (self, i))
            continue;
        const struct shell_options options = {
            .spec = spec,
            .settings = &self->config.settings,
            .bus = topology_bus (&self->deployment, &topology[i], self->context, self->curve,
                                 &self->config.settings),
            .target = config_target (&self->config, spec->service),
            .statsd_host = self->config.statsd_host,
            .statsd_port = self->config.statsd_port,
            .journal = run_journal_port (spec->role == ROLE_DECISION ? self->journal : NULL),
            .tap = self->tap,
            .monitor = self->monitor,
            .notify = on_notice,
            .notify_context = self,
        };
        self->shells[i] = shell_new (&options, reason, sizeof reason);
        if (!self->shells[i])
            return fail (role_name (spec->role), reason);
    }
    for (unsigned i = 0; i < topology_count; i++)
        if (self->shells[i] && !shell_start (self->shells[i]))
            return fail (role_name (topology[i].spec->role), "no thread");
    if (self->desk && !desk_start (self->desk))
        return fail ("the desk", "no thread");
    return EXIT_OK;
}

/*  A line of the log for each warning. */
static void say_warnings (const struct problems *warnings)
{
    for (const char *line = warnings->text; *line; line += strcspn (line, "\n") + 1)
        log_say (self_name, LOG_WARN, "%.*s", (int) strcspn (line, "\n"), line);
}

static void say_what_runs (const struct config *config)
{
    const struct settings *settings = &config->settings;
    log_say (self_name, LOG_INFO,
             "version " GUERDON_VERSION ": a player of %s who logs in to %s gets %lld %s (%s)",
             settings->app_1_name, settings->app_2_name, (long long) settings->reward_amount,
             settings->reward_currency, settings->reward_id);
    log_say (self_name, LOG_INFO,
             "marker, auth and reward are all at %s: usermeta %s, virtualcurrency %s; events %s",
             settings->app_1_name, config->services[SERVICE_USERMETA].base,
             config->services[SERVICE_CURRENCY].base, config->services[SERVICE_EVENTS].base);
}

/*  What has to be up before the process is ready: said before anybody can ask. */
static void expect_all (struct process *self)
{
    for (unsigned i = 0; i < topology_count; i++) {
        const struct actor_spec *spec = topology[i].spec;
        if (!runs_here (self, i))
            continue;
        monitor_expect (self->monitor, spec->role);
        if (spec->speaks_http)
            monitor_expect_service (self->monitor, spec->service);
        struct bus_options bus =
            topology_bus (&self->deployment, &topology[i], NULL, NULL, &self->config.settings);
        for (unsigned link = 0; link < bus.link_count; link++)
            if (!bus_is_inproc (bus.links[link].endpoint))
                monitor_expect_peer (self->monitor, spec->role, bus.links[link].peer);
    }
}

static int open_all (struct process *self)
{
    if (!open_signals (self))
        return fail ("signals", strerror (errno));
    self->monitor = monitor_new ();
    if (!self->monitor || !http_client_global_init ())
        return fail ("start", "out of memory");
    expect_all (self);
    int code = open_status (self);
    if (code == EXIT_OK && self->config.sandbox)
        code = open_sandbox (self);
    if (code != EXIT_OK)
        return code;
    say_what_runs (&self->config);
    say_warnings (&self->warnings);
    code = open_journal (self);
    if (code == EXIT_OK)
        code = open_bus (self);
    if (code == EXIT_OK)
        code = open_tap (self);
    if (code != EXIT_OK)
        return code;
    open_desk (self);
    return open_actors (self);
}

static void close_all (struct process *self)
{
    status_destroy (&self->status);
    desk_stop (self->desk);
    for (unsigned i = 0; i < topology_count; i++)
        shell_destroy (&self->shells[i]);
    journal_close (&self->journal);
    desk_destroy (&self->desk);
    tap_close (&self->tap);
    curve_close (&self->curve);
    if (self->context)
        bus_context_destroy (&self->context);
    sandbox_destroy (&self->sandbox);
    monitor_destroy (&self->monitor);
    if (self->signals >= 0)
        close (self->signals);
    if (self->notices >= 0)
        close (self->notices);
}

/*  ---- running and ending ------------------------------------------------- */

/*  Waits for a signal, a notice, or the time in ms (-1: for ever); true for a
    signal. */
static bool wait_for_news (struct process *self, int timeout_ms)
{
    struct pollfd items[2] = { { .fd = self->signals, .events = POLLIN },
                               { .fd = self->notices, .events = POLLIN } };
    if (poll (items, 2, timeout_ms) <= 0)
        return false;
    uint64_t count;
    if (items[1].revents && read (self->notices, &count, sizeof count) < 0)
        return false;
    struct signalfd_siginfo info;
    return items[0].revents && read (self->signals, &info, sizeof info) == sizeof info;
}

/*  Until a signal comes, or a service rejects the secret (false). Now, when
    it is ready, and once more when that has calmed down, the memory that only
    the start needed is given back. */
static bool run_until_signal (struct process *self)
{
    unsigned trims_left = 2;
    resident_trim ();
    while (!atomic_load (&self->rejected)) {
        if (wait_for_news (self, trims_left == 1 ? TRIM_AFTER_MS : -1))
            return true;
        if (trims_left && monitor_ready (self->monitor)) {
            resident_trim ();
            trims_left--;
        }
    }
    return false;
}

/*  Drains one actor; false when the time is over. A second signal ends the
    process on the spot. */
static bool drain_actor (struct process *self, unsigned index, uint64_t deadline_ms)
{
    uint64_t last_word_ms = clock_steady_ms () + LAST_WORD_MS;
    if (deadline_ms < last_word_ms)
        deadline_ms = last_word_ms;
    shell_drain (self->shells[index]);
    while (!atomic_load (&self->drained[index])) {
        uint64_t now_ms = clock_steady_ms ();
        if (now_ms >= deadline_ms)
            return false;
        uint64_t left_ms = deadline_ms - now_ms;
        if (wait_for_news (self, left_ms > 1000 ? 1000 : (int) left_ms)) {
            log_say (self_name, LOG_WARN,
                     "second signal: ending at once; what is unfinished will come again");
            _exit (EXIT_FAILED);
        }
    }
    return true;
}

static void drain (struct process *self)
{
    uint64_t deadline_ms = clock_steady_ms () + (uint64_t) self->config.drain_seconds * 1000;
    log_say (self_name, LOG_INFO, "signal: taking nothing new, finishing what is under way within %u s",
             self->config.drain_seconds);
    monitor_drain (self->monitor);
    for (unsigned i = 0; i < topology_count; i++) {
        if (!self->shells[i] || drain_actor (self, i, deadline_ms))
            continue;
        log_say (self_name, LOG_WARN,
                 "%s did not finish within DRAIN_SECONDS: what is not acknowledged will come again",
                 role_name (topology[i].spec->role));
    }
}

static int run (struct process *self)
{
    int code = open_all (self);
    bool ended = code == EXIT_OK && run_until_signal (self);
    if (ended)
        drain (self);
    if (code == EXIT_OK && !ended) {
        code = EXIT_CONFIG;
        fprintf (stderr,
                 "guerdon run: API_SECRET is rejected by a service: expected the secret that all three "
                 "services share; see the log for which\n");
    }
    close_all (self);
    if (code == EXIT_OK)
        log_say (self_name, LOG_INFO, "ended");
    return code;
}

/*  Reads `--role R[,R…]`; NULL means every role. 0 for a name that is none. */
static unsigned read_roles (const char *list)
{
    unsigned roles = 0;
    while (list && *list) {
        uint32_t size = (uint32_t) strcspn (list, ",");
        enum role role = topology_role ((struct text){ list, size });
        if (role == ROLE_SHELL)
            return 0;
        roles |= 1u << role;
        list += size + (list[size] == ',');
    }
    for (unsigned i = 0; !list && i < topology_count; i++)
        roles |= 1u << topology[i].spec->role;
    return roles;
}

/*  A tap at a tcp endpoint shows players and needs keys like any hop. */
static void check_tap (struct process *self, struct problems *problems)
{
    char reason[REASON_MAX];
    const struct config *config = &self->config;
    if (!curve_endpoint_allowed (config->tap_endpoint, config->curve_dir, config->allow_plaintext, reason,
                                 sizeof reason))
        problems_add (problems, "TAP_ENDPOINT: %s", reason);
    else if (reason[0])
        problems_add (&self->warnings, "TAP_ENDPOINT: %s", reason);
}

/*  Finds out what runs here and where the rest is; problems go to stderr. */
static bool deploy (struct process *self, unsigned roles)
{
    struct problems problems = { .size = 0 };
    topology_deploy (&self->config, roles, &self->deployment, &problems);
    if (tap_is_tcp (&self->config))
        check_tap (self, &problems);
    topology_check_plaintext (&self->deployment, &self->config, &problems, &self->warnings);
    if (problems.count)
        fprintf (stderr, "guerdon run: %u problem%s in the configuration:\n%s", problems.count,
                 problems.count == 1 ? "" : "s", problems.text);
    return problems.count == 0;
}

/*  No core dump of a process that holds secrets, and nobody but root may look
    into it, not even at the environment it was started with. */
static void close_memory (void)
{
    if (prctl (PR_SET_DUMPABLE, 0) != 0)
        log_say (self_name, LOG_WARN, "core dumps will hold secrets: %s", strerror (errno));
}

static int configure_and_run (struct process *self, const struct config_request *request, unsigned roles)
{
    if (!command_configure (&self->config, request) || !deploy (self, roles))
        return EXIT_CONFIG;
    log_open (self->config.log_level, self->config.log_format);
    close_memory ();
    return run (self);
}

int command_run (int argc, char **argv)
{
    struct config_request request = { 0 };
    const char *role_list = NULL;
    const struct command_option options[] = {
        { "role", "R[,R...]",
          "run only these actors: ingest, decision, usermeta-client, currency-client, stats", &role_list,
          NULL },
        { "sandbox", NULL, "run the three services inside, for development", NULL, &request.sandbox },
        { "env-file", "FILE", "read variables that the environment does not set from FILE", &request.env_file,
          NULL },
    };
    const struct command_syntax syntax = {
        .name = "run", .help = help, .options = options, .count = sizeof options / sizeof *options
    };
    int code = EXIT_OK;
    if (!command_parse (&syntax, argc, argv, &code))
        return code;
    unsigned roles = read_roles (role_list);
    if (!roles)
        return command_usage ("run",
                              "--role %s: expected a list of ingest, decision, usermeta-client, "
                              "currency-client and stats",
                              role_list);
    struct process *self = calloc (1, sizeof *self);
    if (!self) {
        fprintf (stderr, "guerdon run: out of memory\n");
        return EXIT_FAILED;
    }
    self->signals = -1;
    self->notices = -1;
    code = configure_and_run (self, &request, roles);
    config_destroy (&self->config);
    free (self);
    return code;
}
