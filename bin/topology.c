/*  topology.c - see topology.h. */

#include "bin/topology.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "actors/base/curve.h"
#include "actors/currency_client/currency_client.h"
#include "actors/decision/decision.h"
#include "actors/ingest/ingest.h"
#include "actors/stats/stats.h"
#include "actors/usermeta_client/usermeta_client.h"
#include "proto/text.h"

const struct topology_actor topology[] = {
    { &ingest_spec, { ROLE_DECISION, ROLE_STATS } },
    { &decision_spec, { ROLE_USERMETA_CLIENT, ROLE_CURRENCY_CLIENT, ROLE_STATS } },
    { &usermeta_client_spec, { ROLE_SHELL } },
    { &currency_client_spec, { ROLE_SHELL } },
    { &stats_spec, { ROLE_SHELL } },
};

const unsigned topology_count = sizeof topology / sizeof *topology;

/*  The variables of each bound actor, for messages. */
static const struct {
    const char *endpoint;
    const char *bind;
    const char *index;
} names[ROLE_STATS + 1] = {
    [ROLE_DECISION] = { "DECISION_ENDPOINT", "DECISION_BIND", "DECISION_SHARD" },
    [ROLE_USERMETA_CLIENT] = { "USERMETA_CLIENT_ENDPOINT", "USERMETA_CLIENT_BIND", "USERMETA_CLIENT_WORKER" },
    [ROLE_CURRENCY_CLIENT] = { "CURRENCY_CLIENT_ENDPOINT", "CURRENCY_CLIENT_BIND", "CURRENCY_CLIENT_WORKER" },
    [ROLE_STATS] = { "STATS_ENDPOINT", "STATS_BIND", "STATS_WORKER" },
};

enum role topology_role (struct text name)
{
    for (unsigned i = 0; i < topology_count; i++)
        if (text_equal (name, text_of (role_name (topology[i].spec->role))))
            return topology[i].spec->role;
    return ROLE_SHELL;
}

static bool talks_to (const struct topology_actor *actor, enum role role)
{
    for (size_t i = 0; i < sizeof actor->talks_to / sizeof *actor->talks_to; i++) {
        if (actor->talks_to[i] == ROLE_SHELL)
            break;
        if (actor->talks_to[i] == role)
            return true;
    }
    return false;
}

unsigned topology_callers (enum role role)
{
    unsigned callers = 0;
    for (unsigned i = 0; i < topology_count; i++)
        if (talks_to (&topology[i], role))
            callers |= 1u << topology[i].spec->role;
    return callers;
}

/*  ---- where they are ----------------------------------------------------- */

/*  Cuts a list at its commas; the configuration has checked its bounds. */
static void read_list (struct deployment *deployment, enum role role, const char *list)
{
    uint16_t count = 0;
    while (*list && count < ENDPOINTS_MAX) {
        size_t size = strcspn (list, ",");
        assert (size <= ENDPOINT_SIZE_MAX);
        memcpy (deployment->endpoints[role][count], list, size);
        deployment->endpoints[role][count++][size] = '\0';
        list += size + (list[size] == ',');
    }
    deployment->counts[role] = count;
}

static const char *port_of (const char *endpoint)
{
    const char *colon = strrchr (endpoint, ':');
    return colon ? colon : endpoint;
}

/*  Which entry of its list this process is: as it is said, or the only one that
    is the bind address or has its port. */
static int find_index (const struct deployment *deployment, enum role role, const struct bound_config *bound)
{
    if (bound->index >= 0 || deployment->counts[role] == 1)
        return bound->index >= 0 ? bound->index : 0;
    int found = -1;
    for (int i = 0; bound->bind && i < deployment->counts[role]; i++)
        if (strcmp (deployment->endpoints[role][i], bound->bind) == 0)
            return i;
    for (int i = 0; bound->bind && i < deployment->counts[role]; i++) {
        if (strcmp (port_of (deployment->endpoints[role][i]), port_of (bound->bind)) != 0)
            continue;
        if (found >= 0)
            return -1;
        found = i;
    }
    return found;
}

/*  A role that runs here: which one it is and where it binds. */
static void deploy_local (struct deployment *deployment, enum role role, const struct bound_config *bound,
                          struct problems *problems)
{
    int index = find_index (deployment, role, bound);
    if (index < 0)
        problems_add (problems, "%s has %u entries: expected %s to say which of them this process is, from 0",
                      names[role].endpoint, deployment->counts[role], names[role].index);
    else if (index >= deployment->counts[role])
        problems_add (problems, "%s is \"%d\": expected at most %d, as %s has %u entries", names[role].index,
                      index, deployment->counts[role] - 1, names[role].endpoint, deployment->counts[role]);
    else
        deployment->index[role] = (uint16_t) index;
    deployment->bind[role] = bound->bind ? bound->bind : deployment->endpoints[role][deployment->index[role]];
}

/*  A role that runs elsewhere, and that somebody here talks to. */
static void deploy_elsewhere (const struct deployment *deployment, enum role role, struct problems *problems)
{
    if (!(topology_callers (role) & deployment->roles))
        return;
    for (int i = 0; i < deployment->counts[role]; i++)
        if (bus_is_inproc (deployment->endpoints[role][i]))
            problems_add (problems,
                          "%s is \"%s\": expected tcp://host:port or ipc:///path, as %s does not run in this "
                          "process",
                          names[role].endpoint, deployment->endpoints[role][i], role_name (role));
}

void topology_deploy (struct config *config, unsigned roles, struct deployment *deployment,
                      struct problems *problems)
{
    *deployment = (struct deployment){ .roles = roles };
    for (enum role role = ROLE_DECISION; role <= ROLE_STATS; role++) {
        const struct bound_config *bound = &config->bound[role];
        read_list (deployment, role, bound->endpoints ? bound->endpoints : "");
        bool here = roles & 1u << role;
        if (role == ROLE_STATS && deployment->counts[role] > 1)
            problems_add (problems, "%s has %u entries: expected one", names[role].endpoint,
                          deployment->counts[role]);
        else if (here)
            deploy_local (deployment, role, bound, problems);
        if (!here || deployment->counts[role] > 1)
            deploy_elsewhere (deployment, role, problems);
    }
    config->settings.decisions = deployment->counts[ROLE_DECISION];
    config->settings.usermeta_clients = deployment->counts[ROLE_USERMETA_CLIENT];
    config->settings.currency_clients = deployment->counts[ROLE_CURRENCY_CLIENT];
}

/*  Calls back for every endpoint that an actor of this process binds or connects
    to. */
static void each_endpoint (const struct deployment *deployment,
                           void (*call) (void *context, const char *variable, const char *endpoint,
                                         enum role user),
                           void *context)
{
    for (unsigned i = 0; i < topology_count; i++) {
        enum role self = topology[i].spec->role;
        if (!(deployment->roles & 1u << self))
            continue;
        bool own = deployment->bind[self] == deployment->endpoints[self][deployment->index[self]];
        if (deployment->bind[self])
            call (context, own ? names[self].endpoint : names[self].bind, deployment->bind[self], self);
        for (enum role role = ROLE_DECISION; role <= ROLE_STATS; role++)
            for (uint16_t at = 0; talks_to (&topology[i], role) && at < deployment->counts[role]; at++)
                call (context, names[role].endpoint, deployment->endpoints[role][at], self);
    }
}

static void add_tcp_role (void *context, const char *variable, const char *endpoint, enum role user)
{
    unsigned *roles = context;
    (void) variable;
    if (strncmp (endpoint, "tcp:", 4) == 0)
        *roles |= 1u << user;
}

unsigned topology_tcp_roles (const struct deployment *deployment)
{
    unsigned roles = 0;
    each_endpoint (deployment, add_tcp_role, &roles);
    return roles;
}

struct plaintext_check {
    const struct config *config;
    struct problems *problems;
    struct problems *warnings;
};

static void check_plaintext (void *context, const char *variable, const char *endpoint, enum role user)
{
    struct plaintext_check *check = context;
    char reason[512];
    (void) user;
    if (!curve_endpoint_allowed (endpoint, check->config->curve_dir, check->config->allow_plaintext, reason,
                                 sizeof reason))
        problems_add (check->problems, "%s: %s", variable, reason);
    else if (reason[0])
        problems_add (check->warnings, "%s: %s", variable, reason);
}

void topology_check_plaintext (const struct deployment *deployment, const struct config *config,
                               struct problems *problems, struct problems *warnings)
{
    struct plaintext_check check = { config, problems, warnings };
    each_endpoint (deployment, check_plaintext, &check);
}

struct bus_options topology_bus (const struct deployment *deployment, const struct topology_actor *actor,
                                 void *context, struct curve *curve, const struct settings *settings)
{
    enum role self = actor->spec->role;
    /*  Credit bounds what is under way to one message an event in each
        direction; the high-water mark stands well above it. */
    struct bus_options options = {
        .context = context,
        .curve = curve,
        .self = { self, deployment->index[self] },
        .endpoint = deployment->bind[self],
        .callers = topology_callers (self),
        .high_water_mark = (int) settings->window * 2 + 1024,
        .incarnation = settings->hash_seed | 1,
    };
    for (enum role role = ROLE_DECISION; role <= ROLE_STATS; role++) {
        for (uint16_t i = 0; talks_to (actor, role) && i < deployment->counts[role]; i++) {
            assert (options.link_count < BUS_LINKS_MAX);
            options.links[options.link_count++] =
                (struct bus_link){ { role, i }, deployment->endpoints[role][i] };
        }
    }
    return options;
}
