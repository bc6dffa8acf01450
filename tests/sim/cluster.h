/*  cluster.h - many actors on the cores of a cluster, under virtual time with
    measured costs: how the rate of rewarded events grows with decision shards.

    The cores are those of the rooms, with the real outbox and codec. A turn of an
    actor takes what waits, as actors/base/shell.c does, and keeps one processor
    core busy for what it costs. Nothing fails here; what fails is sim.h's.
*/
#ifndef GUERDON_CLUSTER_H
#define GUERDON_CLUSTER_H

#include "include/actor.h"

/*  What a role costs, in ns of processor time. */
struct cost {
    uint64_t unit;  /* of work: cluster.c says what that is for each role */
    uint64_t frame; /* taken or sent */
    uint64_t wake;  /* a turn that began with a wait */
};

struct cluster_options {
    uint16_t decisions;
    uint16_t clients;    /* of each kind */
    uint32_t cores;      /* that all actors share; 0: one each */
    uint32_t events;     /* each a LOGIN of a player of its own */
    uint32_t window;     /* events in flight at most */
    uint64_t service_ns; /* from a request to its answer */
    uint64_t hop_ns;     /* of a frame between two actors */
    uint64_t sync_ns;    /* of a commit; no core is busy meanwhile */
    struct cost costs[ROLE_STATS + 1];
};

/*  One request to a service. */
struct call {
    struct call *next;            /* of its actor's */
    struct cluster_actor *client; /* NULL: cancelled */
    uint64_t trace;
    struct http_request request; /* its texts point behind this struct */
    struct http_answer answer;
    uint8_t *body; /* of the answer */
};

/*  The books of the services. */
struct services {
    uint32_t events;
    uint8_t *marked; /* a byte a player */
    uint8_t *given;
    uint64_t rewards;
    uint64_t doubles;
    uint64_t polls; /* of pages with events */
};

/*  Does what is asked and sets the answer; false when a poll found nothing, and is
    held. */
bool services_serve (struct services *services, struct call *call);

#endif
