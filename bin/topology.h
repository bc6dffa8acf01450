/*  topology.h - who runs, and who talks to whom. */
#ifndef GUERDON_TOPOLOGY_H
#define GUERDON_TOPOLOGY_H

#include "actors/base/bus.h"
#include "include/actor.h"

/*  One actor of the system. */
struct topology_actor {
    const struct actor_spec *spec;
    const char *endpoint;              /* where it is bound; NULL: it only connects */
    enum role talks_to[BUS_LINKS_MAX]; /* whom it connects to; ROLE_SHELL ends the list */
};

/*  Every actor, in the order of the flow: an earlier one drains before a later
    one. */
extern const struct topology_actor topology[];
extern const unsigned topology_count;

/*  The sockets of one actor, from the table. */
struct bus_options topology_bus (const struct topology_actor *actor, void *context,
                                 const struct settings *settings);

#endif
