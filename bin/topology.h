/*  topology.h - who runs where, and who talks to whom. */
#ifndef GUERDON_TOPOLOGY_H
#define GUERDON_TOPOLOGY_H

#include "actors/base/bus.h"
#include "actors/base/config.h"
#include "include/actor.h"

/*  One actor of the system. */
struct topology_actor {
    const struct actor_spec *spec;
    enum role talks_to[4]; /* whom it connects to; ROLE_SHELL ends the list */
};

/*  Every actor, in the order of the flow: an earlier one drains before a later
    one. */
extern const struct topology_actor topology[];
extern const unsigned topology_count;

/*  The role of this name, or ROLE_SHELL. */
enum role topology_role (struct text name);

/*  The roles that may connect to one: bit 1 << role each. */
unsigned topology_callers (enum role role);

/*  What a process of these roles (bit 1 << role each) needs, from the
    endpoints of the configuration. */
struct deployment {
    unsigned roles;
    char endpoints[ROLE_STATS + 1][ENDPOINTS_MAX][ENDPOINT_SIZE_MAX + 1];
    uint16_t counts[ROLE_STATS + 1]; /* entries of each list */
    uint16_t index[ROLE_STATS + 1];  /* which of them this process is */
    const char *bind[ROLE_STATS + 1];
};

/*  Makes one, and sets the counts in the settings of the configuration. What is
    wrong is added to the problems, naming the variable. */
void topology_deploy (struct config *config, unsigned roles, struct deployment *deployment,
                      struct problems *problems);

/*  The roles that have a tcp socket in this process: bit 1 << role each. They
    need keys. */
unsigned topology_tcp_roles (const struct deployment *deployment);

/*  Whether every endpoint that is used here may be used: tcp beyond loopback
    needs keys, unless plaintext is allowed. What may not is a problem; what is
    allowed against advice is a warning, to be told at every start. */
void topology_check_plaintext (const struct deployment *deployment, const struct config *config,
                               struct problems *problems, struct problems *warnings);

/*  The sockets of one actor; curve may be NULL. Everything the options point to lives as long as
    the deployment and the context. */
struct bus_options topology_bus (const struct deployment *deployment, const struct topology_actor *actor,
                                 void *context, struct curve *curve, const struct settings *settings);

#endif
