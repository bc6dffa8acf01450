/*  topology.c - see topology.h. */

#include "bin/topology.h"

#include "actors/currency_client/currency_client.h"
#include "actors/decision/decision.h"
#include "actors/ingest/ingest.h"
#include "actors/stats/stats.h"
#include "actors/usermeta_client/usermeta_client.h"

const struct topology_actor topology[] = {
    { &ingest_spec, NULL, { ROLE_DECISION, ROLE_STATS } },
    { &decision_spec, "inproc://decision", { ROLE_USERMETA_CLIENT, ROLE_CURRENCY_CLIENT, ROLE_STATS } },
    { &usermeta_client_spec, "inproc://usermeta-client", { ROLE_SHELL } },
    { &currency_client_spec, "inproc://currency-client", { ROLE_SHELL } },
    { &stats_spec, "inproc://stats", { ROLE_SHELL } },
};

const unsigned topology_count = sizeof topology / sizeof *topology;

static const char *endpoint_of (enum role role)
{
    for (unsigned i = 0; i < topology_count; i++)
        if (topology[i].spec->role == role)
            return topology[i].endpoint;
    return NULL;
}

struct bus_options topology_bus (const struct topology_actor *actor, void *context,
                                 const struct settings *settings)
{
    /*  Credit bounds what is under way to one message an event in each
        direction; the high-water mark stands well above it. */
    struct bus_options options = {
        .context = context,
        .role = actor->spec->role,
        .endpoint = actor->endpoint,
        .high_water_mark = (int) settings->window * 2 + 1024,
    };
    for (unsigned i = 0; i < BUS_LINKS_MAX && actor->talks_to[i] != ROLE_SHELL; i++) {
        enum role role = actor->talks_to[i];
        options.links[options.link_count++] = (struct bus_link){ role, endpoint_of (role) };
    }
    return options;
}
