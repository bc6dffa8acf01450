/*  top_sample.h - what the status pages of a process say at one moment. Pure.

    Read from /metrics by a table, so that a new figure is one row, and from
    /ready for what only words can say. Names and reasons come from another
    process: they are made printable and cut.
*/
#ifndef GUERDON_TOP_SAMPLE_H
#define GUERDON_TOP_SAMPLE_H

#include "proto/message.h"

/*  Bounds; what is beyond them in a page is left out. */
enum { TOP_ROWS_MAX = 16, TOP_PEERS_MAX = 64, TOP_BUCKETS_MAX = 32, TOP_NAME_SIZE_MAX = 63 };

/*  Figures of a process, of an actor, and of a service. */
enum process_figure {
    PROCESS_EVENTS,
    PROCESS_SUCCESS,
    PROCESS_FAILURE,
    PROCESS_IGNORED,
    PROCESS_READY,
    PROCESS_STARTED_S, /* since the epoch */
    PROCESS_RESIDENT_BYTES
};
enum actor_figure {
    ACTOR_IN,
    ACTOR_OUT,
    ACTOR_DROPPED,
    ACTOR_IN_FLIGHT,
    ACTOR_CREDIT,
    ACTOR_RETRIES,
    ACTOR_QUEUE,
    ACTOR_BREAKER, /* enum breaker_state */
    ACTOR_CONCURRENCY,
    ACTOR_SEEN,
    ACTOR_SETTLED,
    ACTOR_ACKED,
    ACTOR_OLDEST_S
};
enum service_figure {
    SERVICE_GOOD,   /* answers of 1xx to 3xx */
    SERVICE_FAILED, /* every other end of a request */
    SERVICE_IS_UP
};
enum { FIGURES_MAX = ACTOR_OLDEST_S + 1 };

/*  Requests that took at most so long, all of them since the start. */
struct top_bucket {
    uint64_t bound_ms; /* UINT64_MAX: any time */
    uint64_t count;
};

/*  Figures under a name: of the process itself, an actor or a service. */
struct top_row {
    char name[TOP_NAME_SIZE_MAX + 1];
    uint32_t has; /* bit 1 << figure: the page has it */
    uint64_t figures[FIGURES_MAX];
    char state[TOP_NAME_SIZE_MAX + 1]; /* of a service, from /ready; empty: not said */
    char reason[REASON_SIZE_MAX + 1];  /* why it is not up; may be empty */
    struct top_bucket buckets[TOP_BUCKETS_MAX];
    size_t bucket_count;
};

/*  An actor beyond the process, as an actor of it sees it. */
struct top_peer {
    char of[TOP_NAME_SIZE_MAX + 1];
    char peer[TOP_NAME_SIZE_MAX + 1]; /* "decision/0" */
    char state[TOP_NAME_SIZE_MAX + 1];
    char reason[REASON_SIZE_MAX + 1];
};

struct top_sample {
    bool reached;
    char reason[REASON_SIZE_MAX + 1]; /* why not */
    uint64_t taken_ms;                /* steady time */
    char version[TOP_NAME_SIZE_MAX + 1];
    bool draining;
    struct top_row process;
    struct top_row actors[TOP_ROWS_MAX];
    size_t actor_count;
    struct top_row services[TOP_ROWS_MAX];
    size_t service_count;
    struct top_peer peers[TOP_PEERS_MAX];
    size_t peer_count;
};

/*  Takes what /metrics says into an empty sample. False when that is not
    guerdon's. */
bool top_sample_metrics (struct top_sample *sample, struct text page);

/*  Adds what /ready says, as msgpack: states, reasons, peers. */
void top_sample_ready (struct top_sample *sample, struct raw page);

/*  A figure of a row; false when the page did not have it. */
bool top_figure (const struct top_row *row, unsigned figure, uint64_t *value);

/*  The row of this name, or NULL. */
const struct top_row *top_row_named (const struct top_row *rows, size_t count, const char *name);

#endif
