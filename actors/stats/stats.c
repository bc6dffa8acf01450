/*  stats.c - see stats.h. */

#include "actors/stats/stats.h"

#include "include/effects.h"
#include "proto/text.h"

/*  How long increments are summed up before they are sent. */
enum { FLUSH_MS = 200 };

enum { TIMER_FLUSH };

/*  Ingest actors that are told apart: as many as a decision serves. */
enum { INGESTS_MAX = 64 };

#define COUNTERS (COUNTER_IGNORED + 1)

/*  What an ingest has counted. */
struct ingest_counts {
    uint64_t open;  /* events that have no outcome yet */
    uint64_t again; /* of them, those that it will count as events once more */
};

struct stats {
    const struct settings *settings;
    uint64_t unsent[COUNTERS];                /* by enum counter */
    struct ingest_counts counts[INGESTS_MAX]; /* by the number of the ingest */
    bool timer_set;
    bool drain_asked;
    bool drained;
};

static size_t stats_state_size (const struct settings *settings)
{
    (void) settings;
    return sizeof (struct stats);
}

static void stats_init (void *state, const struct settings *settings)
{
    struct stats *self = state;
    self->settings = settings;
}

static void flush (struct stats *self, const struct effects *effects)
{
    char memory[DATAGRAM_SIZE_MAX + 1];
    struct builder lines;
    builder_init (&lines, memory, sizeof memory);
    for (enum counter counter = 0; counter < COUNTERS; counter++) {
        if (!self->unsent[counter])
            continue;
        if (lines.size)
            builder_literal (&lines, "\n");
        builder_literal (&lines, self->settings->statsd_prefix);
        builder_literal (&lines, counter_name (counter));
        builder_literal (&lines, ":");
        builder_uint (&lines, self->unsent[counter]);
        builder_literal (&lines, "|c");
        self->unsent[counter] = 0;
    }
    if (!lines.size)
        return;
    struct message datagram = { .id = MESSAGE_DATAGRAM };
    datagram.datagram.payload = builder_text (&lines);
    put (effects, TO_SHELL, &datagram);
}

static uint64_t less (uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/*  How much of a count is new: an ingest that came back without its memory counts
    those events again that it had counted and that had no outcome. */
static uint64_t news_of (struct ingest_counts *counts, const struct count *count)
{
    uint64_t known = count->counter == COUNTER_EVENTS ? less (counts->again, count->amount) : 0;
    uint64_t news = count->amount - known;
    counts->again -= known;
    if (count->counter == COUNTER_EVENTS)
        counts->open += news;
    else
        counts->open -= less (counts->open, news);
    return news;
}

static void on_count (struct stats *self, struct moment now, const struct message *message,
                      const struct effects *effects)
{
    if (!self->settings->statsd)
        return;
    bool ingest = message->from.role == ROLE_INGEST && message->from.peer < INGESTS_MAX;
    struct ingest_counts *counts = ingest ? &self->counts[message->from.peer] : NULL;
    self->unsent[message->count.counter] +=
        counts ? news_of (counts, &message->count) : message->count.amount;
    if (!self->timer_set)
        put_timer (effects, TIMER_FLUSH, now.steady_ms + FLUSH_MS);
    self->timer_set = true;
}

static void on_peer (struct stats *self, const struct message *message)
{
    if (message->from.role != ROLE_INGEST || message->from.peer >= INGESTS_MAX ||
        message->peer.state != PEER_RESTARTED)
        return;
    struct ingest_counts *counts = &self->counts[message->from.peer];
    counts->again = counts->open;
}

static void on_timer (struct stats *self, const struct effects *effects)
{
    self->timer_set = false;
    flush (self, effects);
}

static void on_turn (struct stats *self, const struct effects *effects)
{
    if (!self->drain_asked)
        return;
    flush (self, effects);
    if (!self->drained)
        put_plain (effects, TO_SHELL, MESSAGE_DRAINED);
    self->drained = true;
}

static void stats_handle (void *state, struct moment now, const struct message *message,
                          const struct effects *effects)
{
    struct stats *self = state;
    switch (message->id) {
    case MESSAGE_COUNT:
        on_count (self, now, message, effects);
        break;
    case MESSAGE_TIMER:
        on_timer (self, effects);
        break;
    case MESSAGE_PEER:
        on_peer (self, message);
        break;
    case MESSAGE_DRAIN:
        self->drain_asked = true;
        break;
    case MESSAGE_TURN:
        on_turn (self, effects);
        break;
    default:
        break;
    }
}

const struct actor_spec stats_spec = {
    .role = ROLE_STATS,
    .state_size = stats_state_size,
    .init = stats_init,
    .handle = stats_handle,
};
