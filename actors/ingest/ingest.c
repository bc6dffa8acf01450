/*  ingest.c - polls, hands on, acknowledges. See ingest.h. */

#include "actors/ingest/ingest.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "actors/ingest/flight.h"
#include "actors/ingest/page.h"
#include "include/backoff.h"
#include "include/effects.h"
#include "include/mistake.h"
#include "include/shard.h"
#include "proto/raw.h"
#include "proto/text.h"

/*  Events of one page: what every version of the service grants, and what is asked for,
    doubling, while pages are full. An older service takes more than 100 for 100
    (reference: events, `limit`), so a page of just as many is a full one, too. */
enum { PAGE_EVENTS_MIN = 100, PAGE_EVENTS_MAX = 1000 };

/*  Room for late events on top of the window, when an id shows up in a gap. */
enum { LATE_EVENTS_MAX = PAGE_EVENTS_MIN };

/*  From the oldest unsettled event to the newest there may be so many windows of
    events, when most are passed over because no decision wants to see them. */
enum { SPAN_WINDOWS = 4 };

/*  An empty answer that took longer than this was a long poll; one that came
    sooner is followed by a pause, so that a service that does not hold polls
    is asked a few times a second (reference: seen on running services). */
enum { LONG_POLL_MS_MIN = 1000, PAUSE_MS_MIN = 30, PAUSE_MS_MAX = 240 };

/*  How often the settled position is told while events are in flight. */
enum { ACK_INTERVAL_MS = 250 };

/*  Read on behind unsettled events when they take longer than this, or at once
    when the last page was full. */
enum { READ_AHEAD_AFTER_MS = 100 };

/*  How often a gap is looked at, and the grace of the one below the very first
    event, of which it is not known whether it is a gap at all. */
enum { GAP_INTERVAL_MS = 250, FIRST_GAP_GRACE_MS = 500 };

/*  A poll that is neither answered nor refused for this long is being held by a
    service that works. */
enum { ACCEPTED_AFTER_MS = 30 };

/*  How often a service that has nothing new is asked whether it still has what it
    had. */
enum { CHECK_INTERVAL_MS = 60000 };

/*  When there is no credit for so long the services behind us are down. The
    events service is asked all the same, so that its state is known, too. */
enum { PROBE_AFTER_MS = 250 };

/*  The last acknowledgement before the end: the service stores it before it
    holds the poll, so there is no need to wait for an answer. */
enum { LAST_ACK_WAIT_MS = 250, LAST_ACK_ATTEMPTS_MAX = 3, LAST_ACK_TIMEOUT_MS = 2000 };

/*  Log lines about what is odd in one page. */
enum { ODD_LINES_MAX = 200 };

/*  Decisions at most. */
enum { SHARDS_MAX = 16 };

enum timer_id { TIMER_PLAN, TIMER_ACCEPTED, TIMER_LAST_ACK };

enum poll_kind { POLL_MAIN, POLL_AHEAD, POLL_GAP, POLL_CHECK, POLL_KINDS };

static const char *const poll_names[] = { "main", "ahead", "gap", "check" };

/*  One kind of poll; at most one request of each is under way. */
struct poll {
    uint64_t request; /* 0: none under way */
    uint64_t started_ms;
    uint64_t due_ms; /* not to be asked again before */
    uint64_t after;
    bool has_after;
    bool sent;     /* it went out on a connection */
    bool ack_only; /* it tells a position; its page is a by-product */
    bool blocked;  /* its last page had nothing that one could go on behind */
    uint32_t limit;
    uint32_t failures; /* in a row */
    uint32_t pause_ms; /* after the last early and empty answer */
};

/*  A name that a decision told. */
struct name {
    char bytes[NAME_SIZE_MAX];
    uint8_t size;
};

_Static_assert(NAME_SIZE_MAX <= UINT8_MAX, "the size of a name fits");

/*  A decision, which takes the events of some of the players. */
struct shard {
    uint32_t credit;    /* 0 until it opens */
    uint32_t under_way; /* handed on and not settled */
    bool lost;          /* nothing is heard of it */
    struct name type;   /* of the events it wants, empty for any */
    struct name source; /* … and where they come from */
};

struct ingest {
    const struct settings *settings;
    struct flight flight;
    struct poll polls[POLL_KINDS];
    uint64_t channel_hash;
    uint64_t sequence; /* of requests */
    struct shard shards[SHARDS_MAX];
    uint32_t shard_count;
    uint32_t page_limit;   /* what is asked for */
    uint32_t page_ceiling; /* as far as it may grow; shrinks when pages are too large */
    bool page_full;        /* the last page was: there is more */
    uint64_t acked;        /* what the service was told; it answered */
    uint64_t last_ack_ms;
    enum service_state health;
    bool accepted; /* the service has accepted the secret once */
    bool hangs;    /* the last poll ran into its time-out: only an answer proves that the service works */
    uint64_t probe_at_ms;  /* asked from then on even without credit */
    bool looks_at_waiting; /* what the last gap poll was for */
    bool unsure;           /* the service failed: it may have come back with ids that begin anew */
    bool anew;             /* they do: what is under way comes to its end, and all positions are forgotten */
    bool draining;
    bool drained;
    uint32_t last_ack_attempts;
    uint64_t plan_at_ms; /* what TIMER_PLAN is set to */
    uint64_t polls_made;
    uint64_t bad_pages;
    uint64_t reported_in_flight; /* the gauges as last told to the shell */
    uint64_t reported_polls;
    uint64_t reported_bad_pages;
    uint64_t reported_seen;
    uint64_t reported_settled;
    uint64_t reported_acked;
    uint64_t reported_credit;
    uint64_t reported_oldest;
};

/*  Events that the ring has room for. */
static uint32_t ring_capacity (const struct settings *settings)
{
    return settings->window * SPAN_WINDOWS + LATE_EVENTS_MAX;
}

static size_t ingest_state_size (const struct settings *settings)
{
    return sizeof (struct ingest) + ring_capacity (settings) * sizeof (struct flight_entry);
}

static void ingest_init (void *memory, const struct settings *settings)
{
    struct ingest *self = memory;
    self->settings = settings;
    self->page_limit = PAGE_EVENTS_MIN;
    self->page_ceiling = PAGE_EVENTS_MAX;
    self->shard_count = settings->decisions ? settings->decisions : 1;
    assert (self->shard_count <= SHARDS_MAX);
    self->channel_hash = text_hash (text_of (settings->events_channel), 0);
    flight_init (&self->flight, (struct flight_entry *) (void *) (self + 1), ring_capacity (settings),
                 settings->window + LATE_EVENTS_MAX);
}

/*  The trace id of an event: the same after a restart, and different for the
    same id in another channel. */
static uint64_t trace_of (const struct ingest *self, uint64_t position)
{
    uint64_t x = self->channel_hash ^ position * UINT64_C (0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C (0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/*  How many events may be unsettled at once. Those of a decision that is lost take
    nothing away from the others. */
static uint32_t capacity (const struct ingest *self)
{
    uint64_t credit = 0;
    for (uint32_t i = 0; i < self->shard_count; i++)
        credit += self->shards[i].lost ? self->shards[i].under_way : self->shards[i].credit;
    return credit < self->settings->window ? (uint32_t) credit : self->settings->window;
}

/*  Whether a decision takes one more event. */
static bool has_credit (const struct shard *shard)
{
    return !shard->lost && shard->under_way < shard->credit;
}

/*  How many more events may be read. Those that nobody wants to see take nothing of
    the window: they were never in flight. */
static uint32_t room (const struct ingest *self)
{
    uint32_t window = capacity (self);
    uint32_t held = flight_held (&self->flight);
    uint32_t ring = self->flight.capacity - LATE_EVENTS_MAX;
    uint32_t left = self->flight.count < ring ? ring - self->flight.count : 0;
    uint32_t free = held < window ? window - held : 0;
    return free < left ? free : left;
}

static void set_health (struct ingest *self, enum service_state state, struct text reason,
                        const struct effects *effects)
{
    if (self->health == state)
        return;
    if (state == SERVICE_DOWN)
        put_log (effects, LOG_WARN, (struct about){ 0 }, "events service: %s -> down: %.*s",
                 service_state_name (self->health), (int) reason.size, reason.data);
    else
        put_log (effects, LOG_INFO, (struct about){ 0 }, "events service: %s -> %s",
                 service_state_name (self->health), service_state_name (state));
    self->health = state;
    put_health (effects, SERVICE_EVENTS, state, reason);
}

/*  ---- asking ------------------------------------------------------------- */

static void poll_start (struct ingest *self, enum poll_kind kind, struct moment now,
                        const struct effects *effects)
{
    struct poll *poll = &self->polls[kind];
    char memory[3 * NAME_SIZE_MAX * 2 + 256];
    struct builder path;
    builder_init (&path, memory, sizeof memory);
    builder_literal (&path, "/events?clientId=");
    builder_percent (&path, text_of (self->settings->events_client_id));
    /*  Without `after` the service starts at our own stored position, so that
        question is always asked under our own id. */
    if (kind != POLL_MAIN && poll->has_after)
        builder_literal (&path, ".ahead");
    builder_literal (&path, "&channel=");
    builder_percent (&path, text_of (self->settings->events_channel));
    builder_literal (&path, "&secret={secret}");
    if (poll->has_after) {
        builder_literal (&path, "&after=");
        builder_uint (&path, poll->after);
    }
    builder_literal (&path, "&limit=");
    builder_uint (&path, poll->limit);
    assert (!path.overflow);

    self->sequence++;
    self->polls_made++;
    poll->request = self->sequence * POLL_KINDS + kind;
    poll->started_ms = now.steady_ms;
    poll->sent = false;
    struct message request = { .id = MESSAGE_HTTP_REQUEST };
    request.http_request.request = poll->request;
    request.http_request.service = SERVICE_EVENTS;
    request.http_request.method = METHOD_GET;
    request.http_request.path = builder_text (&path);
    request.http_request.timeout_ms = self->settings->poll_timeout_ms;
    if (self->draining && self->settings->poll_timeout_ms > LAST_ACK_TIMEOUT_MS)
        request.http_request.timeout_ms = LAST_ACK_TIMEOUT_MS;
    put (effects, TO_SHELL, &request);
}

static void poll_cancel (struct ingest *self, enum poll_kind kind, const struct effects *effects)
{
    struct poll *poll = &self->polls[kind];
    if (!poll->request)
        return;
    struct message cancel = { .id = MESSAGE_HTTP_CANCEL };
    cancel.http_cancel.request = poll->request;
    put (effects, TO_SHELL, &cancel);
    poll->request = 0;
}

static bool poll_idle (const struct ingest *self, enum poll_kind kind, struct moment now)
{
    const struct poll *poll = &self->polls[kind];
    return !poll->request && poll->due_ms <= now.steady_ms;
}

/*  How many events a poll that reads on asks for: what there is room for, or
    more when it has to see beyond elements that nobody can use. */
static uint32_t page_limit (const struct ingest *self, const struct poll *poll)
{
    uint32_t free = room (self);
    return free < self->page_limit && !poll->blocked ? free : self->page_limit;
}

/*  Main: the long poll when nothing is in flight, else an acknowledgement. */
static void plan_main (struct ingest *self, struct moment now, const struct effects *effects)
{
    struct poll *poll = &self->polls[POLL_MAIN];
    bool quiet = self->flight.count == 0;
    bool news = self->flight.has_ack && self->flight.ack > self->acked;
    if (!poll_idle (self, POLL_MAIN, now) || (!quiet && !news) || self->unsure)
        return;
    if (!quiet && now.steady_ms < self->last_ack_ms + ACK_INTERVAL_MS)
        return;
    if (quiet && !room (self))
        return;
    poll->has_after = self->flight.has_ack;
    poll->after = MISTAKE (SAVED_TOO_EARLY) ? self->flight.seen : self->flight.ack;
    poll->ack_only = !quiet;
    poll->limit = quiet ? page_limit (self, poll) : 1;
    self->last_ack_ms = now.steady_ms;
    poll_start (self, POLL_MAIN, now, effects);
}

static void plan_ahead (struct ingest *self, struct moment now, const struct effects *effects)
{
    struct poll *poll = &self->polls[POLL_AHEAD];
    uint64_t oldest_ms;
    if (!poll_idle (self, POLL_AHEAD, now) || self->flight.count == 0 || !room (self))
        return;
    bool slow = flight_oldest (&self->flight, &oldest_ms) && oldest_ms + READ_AHEAD_AFTER_MS <= now.steady_ms;
    if (!self->page_full && !slow && !self->flight.gaps)
        return;
    poll->has_after = true;
    poll->after = self->flight.seen;
    poll->limit = page_limit (self, poll);
    poll_start (self, POLL_AHEAD, now, effects);
}

/*  Decisions that take events: bit 1 << shard each. */
static uint32_t shards_with_credit (const struct ingest *self)
{
    uint32_t shards = 0;
    for (uint32_t i = 0; i < self->shard_count; i++)
        if (has_credit (&self->shards[i]))
            shards |= 1u << i;
    return shards;
}

/*  Looks again: below a gap, or at events that could not be handed on when they
    were read; when there are both, by turns. */
static void plan_gap (struct ingest *self, struct moment now, const struct effects *effects)
{
    struct poll *poll = &self->polls[POLL_GAP];
    if (!poll_idle (self, POLL_GAP, now))
        return;
    uint64_t below[2];
    bool has_below[2];
    const struct flight_entry *gap = flight_first_gap (&self->flight, &below[0], &has_below[0]);
    const struct flight_entry *waiting =
        flight_first_waiting (&self->flight, shards_with_credit (self), &below[1], &has_below[1]);
    if (gap && now.steady_ms < gap->seen_ms + PAUSE_MS_MIN)
        gap = NULL;
    if (!gap && !waiting)
        return;
    self->looks_at_waiting = waiting && !(gap && self->looks_at_waiting);
    poll->after = below[self->looks_at_waiting];
    poll->has_after = has_below[self->looks_at_waiting];
    if (self->looks_at_waiting && !poll->has_after) {
        /*  It was read from the position that the service has for us, and that may have
            moved since: a poll of a life before this one was still under way. */
        poll->after = waiting->position - 1;
        poll->has_after = true;
    }
    poll->limit = self->page_limit < PAGE_EVENTS_MIN ? self->page_limit : PAGE_EVENTS_MIN;
    poll_start (self, POLL_GAP, now, effects);
}

/*  Asks whether the service still has the newest event that was read. After a failure
    that comes before the next main poll, which would tell a service that was restored
    a position of the time before: under the other client id, what it has stored for
    ours stays as it is. */
static void plan_check (struct ingest *self, struct moment now, const struct effects *effects)
{
    struct poll *poll = &self->polls[POLL_CHECK];
    self->unsure = self->unsure && self->flight.seen > 0;
    bool quiet = self->flight.count == 0 && self->health == SERVICE_UP;
    if (self->flight.seen == 0 || !(self->unsure || quiet) || !poll_idle (self, POLL_CHECK, now))
        return;
    poll->has_after = true;
    poll->after = self->flight.seen - 1;
    poll->limit = 1;
    poll_start (self, POLL_CHECK, now, effects);
}

/*  What the service had is gone: its ids begin anew. When nothing is under way any
    more, all positions are forgotten, as a start does; the next poll asks where the
    service thinks that we are. */
static void plan_anew (struct ingest *self, const struct effects *effects)
{
    if (self->flight.unsettled > self->flight.waiting)
        return;
    for (enum poll_kind kind = 0; kind < POLL_KINDS; kind++)
        poll_cancel (self, kind, effects);
    flight_init (&self->flight, self->flight.entries, self->flight.capacity, self->flight.held_max);
    self->acked = 0;
    self->page_full = false;
    self->anew = false;
}

/*  Without credit nothing may be taken. This asks only whether the service is
    there: without `after` it acknowledges nothing, and what it brings is left.
    A service that holds it may well bring an event once there is credit. */
static void plan_probe (struct ingest *self, struct moment now, const struct effects *effects)
{
    struct poll *poll = &self->polls[POLL_MAIN];
    if (self->health == SERVICE_UP || !poll_idle (self, POLL_MAIN, now) || now.steady_ms < self->probe_at_ms)
        return;
    poll->has_after = false;
    poll->ack_only = true;
    poll->limit = 1;
    poll_start (self, POLL_MAIN, now, effects);
}

/*  The earlier of two times, of which the second counts only when it is yet to
    come: what was due and not done waits for an answer or for room. */
static uint64_t sooner (uint64_t due, uint64_t at_ms, struct moment now)
{
    return at_ms > now.steady_ms && at_ms < due ? at_ms : due;
}

/*  When something will be due that nothing else wakes us for. */
static uint64_t next_due (const struct ingest *self, struct moment now)
{
    uint64_t due = UINT64_MAX;
    for (enum poll_kind kind = 0; kind < POLL_KINDS; kind++)
        if (!self->polls[kind].request)
            due = sooner (due, self->polls[kind].due_ms, now);
    if (!capacity (self) && self->health != SERVICE_UP)
        due = sooner (due, self->probe_at_ms, now);
    uint64_t oldest_ms;
    if (flight_oldest (&self->flight, &oldest_ms))
        due = sooner (due, oldest_ms + READ_AHEAD_AFTER_MS, now);
    if (self->flight.has_ack && self->flight.ack > self->acked)
        due = sooner (due, self->last_ack_ms + ACK_INTERVAL_MS, now);
    uint64_t below;
    bool has_below;
    const struct flight_entry *gap = flight_first_gap (&self->flight, &below, &has_below);
    if (gap)
        due = sooner (due, gap->seen_ms + PAUSE_MS_MIN, now);
    return due;
}

static void set_plan_timer (struct ingest *self, struct moment now, const struct effects *effects)
{
    uint64_t due = next_due (self, now);
    uint64_t at_ms = due == UINT64_MAX ? 0 : due;
    if (at_ms != self->plan_at_ms)
        put_timer (effects, TIMER_PLAN, at_ms);
    self->plan_at_ms = at_ms;
}

/*  The position that the service knows: answered, or sent on a poll that it
    holds, for it stores the position first. */
static uint64_t told (const struct ingest *self)
{
    const struct poll *poll = &self->polls[POLL_MAIN];
    bool held = poll->request && poll->sent && poll->has_after && poll->after > self->acked;
    return held ? poll->after : self->acked;
}

/*  ---- the end ------------------------------------------------------------ */

static void finish_drain (struct ingest *self, const struct effects *effects)
{
    for (enum poll_kind kind = 0; kind < POLL_KINDS; kind++)
        poll_cancel (self, kind, effects);
    put_timer (effects, TIMER_LAST_ACK, 0);
    self->drained = true;
    put_plain (effects, TO_SHELL, MESSAGE_DRAINED);
}

/*  While draining: wait for what is unsettled, then acknowledge a last time. A service
    that failed before may have been restored since, so it is asked first, as plan_check
    does; it holds that question only when it has lost the event. */
static void plan_drain (struct ingest *self, struct moment now, const struct effects *effects)
{
    enum poll_kind kind = self->unsure ? POLL_CHECK : POLL_MAIN;
    struct poll *poll = &self->polls[kind];
    if (self->drained || self->flight.unsettled > self->flight.waiting)
        return;
    if (!self->flight.has_ack || self->flight.ack == self->acked) {
        finish_drain (self, effects);
        return;
    }
    if (poll->request || poll->due_ms > now.steady_ms)
        return;
    if (self->last_ack_attempts == LAST_ACK_ATTEMPTS_MAX) {
        put_log (effects, LOG_WARN, (struct about){ 0 },
                 "the last position %" PRIu64 " could not be acknowledged: its events will come again",
                 self->flight.ack);
        finish_drain (self, effects);
        return;
    }
    self->last_ack_attempts++;
    poll->has_after = true;
    poll->after = kind == POLL_CHECK ? self->flight.seen - 1 : self->flight.ack;
    poll->ack_only = true;
    poll->limit = 1;
    poll_start (self, kind, now, effects);
}

static void plan (struct ingest *self, struct moment now, const struct effects *effects)
{
    if (self->anew)
        plan_anew (self, effects);
    if (self->draining) {
        plan_drain (self, now, effects);
    } else if (capacity (self) && !self->anew) {
        plan_check (self, now, effects);
        plan_main (self, now, effects);
        plan_gap (self, now, effects);
        plan_ahead (self, now, effects);
    } else if (!self->anew) {
        plan_probe (self, now, effects);
    }
    if (!self->drained)
        set_plan_timer (self, now, effects);
}

/*  ---- what a poll brings ------------------------------------------------- */

/*  What became of a page. */
struct harvest {
    uint32_t count;    /* elements of the page */
    uint32_t fresh;    /* events taken in */
    uint32_t handed;   /* events handed on */
    uint32_t unwanted; /* events that no decision wants to see */
    uint32_t unusable; /* elements without a usable id */
    uint32_t passed;   /* of them, those that stand before an event taken in */
    uint32_t stale;    /* ids that go backwards and are settled or known */
    uint32_t lines;    /* log lines about what is odd in it */
    uint64_t last;     /* the highest id that was taken or known */
    uint64_t reach;    /* the page shows what there is up to here: the highest id that was taken
                          or known, the first one ahead that there was no room for, or all */
    bool cut;          /* there was no room for what lay ahead */
    bool full;         /* there was no room for one that is late */
};

static void hand_on (struct ingest *self, const struct event *event, uint8_t shard,
                     const struct effects *effects)
{
    struct message message = { .id = MESSAGE_EVENT, .trace = trace_of (self, event->position) };
    message.event = *event;
    put (effects, (struct address){ ROLE_DECISION, shard }, &message);
}

/*  Which decision an event belongs to: a player's events all go to the same. */
static uint8_t shard_of (const struct ingest *self, const struct event *event)
{
    struct raw found;
    struct text user;
    if (self->shard_count == 1)
        return 0;
    if (raw_path (event->data, "userId", &found) && raw_text (found, &user))
        return (uint8_t) shard_of_player (user, (uint16_t) self->shard_count);
    return (uint8_t) (event->position % self->shard_count);
}

static bool is_named (const struct name *name, struct text text)
{
    return name->size == 0 || text_equal ((struct text){ name->bytes, name->size }, text);
}

/*  Whether the decision it belongs to wants to see an event. One with something
    wrong about it is for the decision to judge. */
static bool is_wanted (const struct ingest *self, uint8_t shard, const struct event *event)
{
    return event->fault != FAULT_NONE || (is_named (&self->shards[shard].type, event->type) &&
                                          is_named (&self->shards[shard].source, event->source));
}

/*  Hands an event on if its decision takes it now; else it waits, and is read
    again later. */
static void offer (struct ingest *self, struct flight_entry *entry, const struct event *event,
                   struct harvest *harvest, const struct effects *effects)
{
    struct shard *shard = &self->shards[entry->shard];
    bool now = has_credit (shard);
    flight_wait (&self->flight, entry, !now);
    if (!now)
        return;
    shard->under_way++;
    harvest->handed++;
    hand_on (self, event, entry->shard, effects);
    if (MISTAKE (ACK_BEFORE_SETTLE))
        flight_settle (&self->flight, event->position);
}

/*  Whether an event lies ahead of all that was read. */
static bool is_ahead (const struct ingest *self, uint64_t position)
{
    return position > self->flight.seen;
}

/*  Takes an event in when there is room; one that lies ahead leaves LATE_EVENTS_MAX
    for others. A late one gets it also when the ring is full of settled events
    that an open gap holds: the highest is forgotten, will be read again, and then
    the marker speaks. */
static enum flight_add admit (struct ingest *self, uint64_t position, struct moment now)
{
    if (self->flight.unsettled >= capacity (self) || (is_ahead (self, position) && !room (self)))
        return FLIGHT_FULL;
    enum flight_add added = flight_add (&self->flight, position, now.steady_ms);
    while (added == FLIGHT_FULL && flight_forget_highest (&self->flight))
        added = flight_add (&self->flight, position, now.steady_ms);
    return added;
}

/*  Whether one more line about this page may be written: a page of rubbish must
    not fill the disk with its description. */
static bool may_say (struct harvest *harvest)
{
    return harvest->lines++ < ODD_LINES_MAX;
}

static void take_element (struct ingest *self, const struct poll *poll, const struct event *event,
                          struct moment now, struct harvest *harvest, const struct effects *effects)
{
    bool usable = event->position > 0;
    if (harvest->cut && (!usable || is_ahead (self, event->position)))
        return; /* it will be read again, with what lies before it */
    if (!usable) {
        harvest->unusable++;
        if (may_say (harvest))
            put_log (effects, LOG_WARN, (struct about){ 0 },
                     "failure: an element of a page behind event %" PRIu64 " has no usable id",
                     harvest->last);
        return;
    }
    struct about about = { trace_of (self, event->position), event->position, NO_TEXT };
    bool backwards = event->position <= harvest->last || (poll->has_after && event->position <= poll->after);
    if (backwards && may_say (harvest))
        put_log (effects, LOG_WARN, about, "event id goes backwards: it came after %" PRIu64,
                 harvest->last > poll->after ? harvest->last : poll->after);
    struct flight_entry *known = flight_find (&self->flight, event->position);
    enum flight_add added = known ? FLIGHT_KNOWN : admit (self, event->position, now);
    if (added == FLIGHT_ADDED) {
        harvest->fresh++;
        harvest->passed = harvest->unusable;
        known = flight_find (&self->flight, event->position);
        known->shard = shard_of (self, event);
        if (is_wanted (self, known->shard, event)) {
            offer (self, known, event, harvest, effects);
        } else {
            flight_pass (&self->flight, known);
            harvest->unwanted++;
        }
    } else if (known && known->waiting) {
        offer (self, known, event, harvest, effects);
    } else if (added == FLIGHT_FULL) {
        /*  What is known goes on: only that makes room. */
        if (is_ahead (self, event->position)) {
            harvest->cut = true;
            harvest->reach = event->position;
        }
        harvest->full |= !is_ahead (self, event->position);
        return;
    } else if (backwards) {
        harvest->stale++;
        if (may_say (harvest))
            put_log (effects, LOG_WARN, about, "ignored: it was taken before");
    }
    if (event->position > harvest->last)
        harvest->last = event->position;
    if (event->position > harvest->reach)
        harvest->reach = event->position;
}

/*  Whether a poll is there to bring what lies ahead. */
static bool reads_on (const struct ingest *self, const struct poll *poll)
{
    return poll != &self->polls[POLL_GAP] && !poll->ack_only;
}

static struct harvest take_page (struct ingest *self, const struct poll *poll, struct raw page,
                                 struct moment now, const struct effects *effects)
{
    struct harvest harvest = { 0 };
    struct cursor cursor = cursor_of (page);
    struct value array;
    if (!cursor_next (&cursor, &array) || array.type != VALUE_ARRAY)
        return harvest;
    harvest.count = array.count;
    if (reads_on (self, poll))
        self->page_full = array.count >= poll->limit || array.count == PAGE_EVENTS_MIN;
    /*  The service has nothing behind the position that it has for us: whatever is
        missing below cannot come any more. */
    if (!poll->has_after && array.count == 0)
        harvest.reach = POSITION_MAX;
    struct event event;
    for (uint32_t i = 0; i < array.count && page_next (&cursor, &event); i++)
        take_element (self, poll, &event, now, &harvest, effects);
    return harvest;
}

/*  Counts what a page brought. What cannot be told from what came before is
    counted only when it will not be read again: when an event behind it was
    taken in, by a poll that does not read anything a second time. */
static void count_harvest (const struct harvest *harvest, bool moves_on, const struct effects *effects)
{
    uint32_t odd = moves_on ? harvest->passed + harvest->stale : 0;
    if (harvest->fresh + odd)
        put_count (effects, COUNTER_EVENTS, harvest->fresh + odd);
    if (harvest->unwanted)
        put_count (effects, COUNTER_IGNORED, harvest->unwanted);
    if (moves_on && harvest->passed)
        put_count (effects, COUNTER_FAILURE, harvest->passed);
    if (moves_on && harvest->stale)
        put_count (effects, COUNTER_IGNORED, harvest->stale);
}

/*  A pause after an answer that came at once and brought nothing. */
static void pace (struct poll *poll, bool fresh, struct moment now)
{
    if (fresh || now.steady_ms - poll->started_ms >= LONG_POLL_MS_MIN) {
        poll->pause_ms = 0;
        poll->due_ms = 0;
        return;
    }
    poll->pause_ms = poll->pause_ms ? poll->pause_ms * 2 : PAUSE_MS_MIN;
    if (poll->pause_ms > PAUSE_MS_MAX)
        poll->pause_ms = PAUSE_MS_MAX;
    poll->due_ms = now.steady_ms + poll->pause_ms;
}

static void poll_failed (struct ingest *self, struct poll *poll, struct text reason, uint64_t retry_after_ms,
                         struct moment now, const struct effects *effects)
{
    poll->failures++;
    uint64_t wait_ms = backoff_ms (poll->failures, self->settings->hash_seed ^ self->sequence);
    /*  The end does not wait for as long as a service likes. */
    if (retry_after_ms > wait_ms && !self->draining)
        wait_ms = retry_after_ms;
    poll->due_ms = now.steady_ms + wait_ms;
    set_health (self, SERVICE_DOWN, reason, effects);
    put_log (effects, LOG_DEBUG, (struct about){ 0 }, "poll %s failed, again in %" PRIu64 " ms: %.*s",
             poll_names[poll - self->polls], poll->due_ms - now.steady_ms, (int) reason.size, reason.data);
}

/*  Why an answer is no page; empty when it is one. */
static struct text why_not_a_page (const struct http_answer *answer, struct builder *reason)
{
    struct value value;
    if (answer->outcome != HTTP_ANSWERED) {
        builder_literal (reason, http_outcome_name (answer->outcome));
        builder_literal (reason, ": ");
        builder_add (reason, answer->reason);
    } else if (answer->status != 200) {
        builder_literal (reason, "HTTP ");
        builder_uint (reason, answer->status);
    } else if (answer->body_state == BODY_NOT_JSON || answer->body_state == BODY_NONE) {
        builder_literal (reason, "the page is not JSON");
    } else if (!raw_value (answer->body, &value) || value.type != VALUE_ARRAY) {
        builder_literal (reason, "the page is not a JSON array");
    }
    return builder_text (reason);
}

/*  How many events are asked for from now on. */
static void set_page_limit (struct ingest *self, uint32_t limit)
{
    self->page_limit = limit < self->page_ceiling ? limit : self->page_ceiling;
}

/*  A page of so many elements was good: one that was full is followed by one of twice
    the size, because each request costs as much as many events. */
static void grow_page (struct ingest *self, uint32_t count)
{
    uint32_t limit = count >= self->page_limit ? 2 * self->page_limit : self->page_limit;
    if (self->page_ceiling < PAGE_EVENTS_MAX)
        self->page_ceiling++;
    set_page_limit (self, limit < PAGE_EVENTS_MIN ? PAGE_EVENTS_MIN : limit);
}

static void on_bad_answer (struct ingest *self, struct poll *poll, const struct http_answer *answer,
                           struct text reason, struct moment now, const struct effects *effects)
{
    bool rejected = answer->outcome == HTTP_ANSWERED && (answer->status == 401 || answer->status == 403);
    if (rejected && !self->accepted) {
        poll->due_ms = now.steady_ms + BACKOFF_MAX_MS;
        set_health (self, SERVICE_REJECTS, reason, effects);
        return;
    }
    if (answer->outcome == HTTP_TOO_LARGE && !poll->ack_only)
        self->page_ceiling = poll->limit > 1 ? poll->limit / 2 : 1;
    set_page_limit (self, self->page_limit < PAGE_EVENTS_MIN ? self->page_limit : PAGE_EVENTS_MIN);
    if (answer->outcome == HTTP_ANSWERED && answer->status == 200) {
        self->bad_pages++;
        put_log (effects, LOG_WARN, (struct about){ 0 }, "%.*s; asking again", (int) reason.size,
                 reason.data);
    }
    poll_failed (self, poll, reason, answer->retry_after_ms, now, effects);
    if (answer->outcome != HTTP_TOO_LARGE && !(answer->outcome == HTTP_ANSWERED && answer->status == 200)) {
        self->unsure |= !self->draining; /* nobody restores a service while we end */
        self->polls[POLL_CHECK].due_ms = poll->due_ms;
    }
}

/*  Gives up the ids that are still missing up to `last` and were missing for the
    grace when this look began. Only below the very first event the grace is
    short: there is mostly nothing to wait for. */
static void close_gaps (struct ingest *self, const struct poll *poll, uint64_t last)
{
    uint32_t grace_ms = self->settings->gap_grace_ms;
    /*  A look at what waits says nothing of the id right below it. */
    uint64_t above = poll->has_after ? poll->after + self->looks_at_waiting : 0;
    if (poll->started_ms >= grace_ms)
        flight_close_gaps (&self->flight, above, last, poll->started_ms - grace_ms);
    uint64_t below;
    bool has_below = true;
    const struct flight_entry *gap = flight_first_gap (&self->flight, &below, &has_below);
    if (gap && !has_below && !poll->has_after && gap->position <= last &&
        poll->started_ms >= FIRST_GAP_GRACE_MS)
        flight_close_gaps (&self->flight, 0, gap->position, poll->started_ms - FIRST_GAP_GRACE_MS);
}

/*  Whether the newest event that was read is still there. */
static void on_check (struct ingest *self, const struct http_answer *answer, struct moment now,
                      const struct effects *effects)
{
    struct value array;
    if (answer->body_state != BODY_JSON) {
        poll_failed (self, &self->polls[POLL_CHECK], TEXT_LITERAL ("the page is cut off"), 0, now, effects);
        return;
    }
    self->polls[POLL_CHECK].failures = 0;
    self->unsure = false;
    self->polls[POLL_CHECK].due_ms = now.steady_ms + CHECK_INTERVAL_MS;
    if (!raw_value (answer->body, &array) || array.count > 0)
        return;
    self->anew = true;
    self->bad_pages++;
    put_log (effects, LOG_ERROR, (struct about){ 0 },
             "the events service has lost event %" PRIu64
             ": its ids begin anew; going on from the position that it has for us",
             self->flight.seen);
}

static void on_page (struct ingest *self, enum poll_kind kind, const struct http_answer *answer,
                     struct moment now, const struct effects *effects)
{
    struct poll *poll = &self->polls[kind];
    if (kind == POLL_MAIN && poll->has_after && poll->after > self->acked)
        self->acked = poll->after;
    if (self->draining)
        return;
    struct harvest harvest = take_page (self, poll, answer->body, now, effects);
    count_harvest (&harvest, harvest.fresh && kind != POLL_GAP, effects);
    if (answer->body_state == BODY_CUT) {
        self->bad_pages++;
        put_log (effects, LOG_WARN, (struct about){ 0 },
                 "a page breaks off behind event %" PRIu64 "; what is whole was taken", harvest.last);
        poll_failed (self, poll, TEXT_LITERAL ("the page is cut off"), 0, now, effects);
        return;
    }
    if (harvest.unusable)
        self->bad_pages++;
    poll->blocked = harvest.unusable && harvest.last <= (poll->has_after ? poll->after : 0);
    if (poll->blocked && !poll->ack_only) {
        poll_failed (self, poll, TEXT_LITERAL ("the page has no usable event"), 0, now, effects);
        return;
    }
    grow_page (self, reads_on (self, poll) ? harvest.count : 0);
    if (harvest.fresh && !self->unsure)
        self->polls[POLL_CHECK].due_ms = now.steady_ms + CHECK_INTERVAL_MS;
    poll->failures = 0;
    if (kind == POLL_GAP)
        poll->due_ms = harvest.handed + harvest.unwanted ? 0 : now.steady_ms + GAP_INTERVAL_MS;
    else if (poll->ack_only)
        poll->due_ms = 0; /* its interval is kept elsewhere */
    else
        pace (poll, harvest.fresh > 0, now);
    if (kind == POLL_GAP && !harvest.full)
        close_gaps (self, poll, harvest.reach);
}

static void on_http_answer (struct ingest *self, struct moment now, const struct message *message,
                            const struct effects *effects)
{
    const struct http_answer *answer = &message->http_answer;
    enum poll_kind kind = (enum poll_kind) (answer->request % POLL_KINDS);
    struct poll *poll = &self->polls[kind];
    if (!answer->request || poll->request != answer->request)
        return; /* cancelled */
    poll->request = 0;
    self->hangs = answer->outcome == HTTP_TIMEOUT;
    char memory[REASON_SIZE_MAX + 1];
    struct builder builder;
    builder_init (&builder, memory, sizeof memory);
    struct text reason = why_not_a_page (answer, &builder);
    if (reason.size) {
        on_bad_answer (self, poll, answer, reason, now, effects);
        return;
    }
    self->accepted = true;
    set_health (self, SERVICE_UP, NO_TEXT, effects);
    if (kind == POLL_CHECK)
        on_check (self, answer, now, effects);
    else
        on_page (self, kind, answer, now, effects);
}

static void on_http_sent (struct ingest *self, struct moment now, const struct message *message,
                          const struct effects *effects)
{
    struct poll *poll = &self->polls[message->http_sent.request % POLL_KINDS];
    if (poll->request != message->http_sent.request)
        return;
    poll->sent = true;
    if (self->draining)
        put_timer (effects, TIMER_LAST_ACK, now.steady_ms + LAST_ACK_WAIT_MS);
    else if (self->health != SERVICE_UP && !self->hangs)
        put_timer (effects, TIMER_ACCEPTED, now.steady_ms + ACCEPTED_AFTER_MS);
}

/*  ---- the rest ----------------------------------------------------------- */

static void on_timer (struct ingest *self, uint64_t timer, const struct effects *effects)
{
    struct poll *poll = &self->polls[POLL_MAIN];
    const struct poll *check = &self->polls[POLL_CHECK];
    if (timer == TIMER_PLAN)
        self->plan_at_ms = 0;
    if (timer == TIMER_ACCEPTED && poll->request && poll->sent && !self->hangs)
        set_health (self, SERVICE_UP, NO_TEXT, effects);
    if (timer == TIMER_LAST_ACK && self->draining && poll->request && poll->sent) {
        self->acked = told (self);
        poll_cancel (self, POLL_MAIN, effects);
    }
    if (timer == TIMER_LAST_ACK && self->draining && check->request && check->sent) {
        self->last_ack_attempts = LAST_ACK_ATTEMPTS_MAX;
        poll_cancel (self, POLL_CHECK, effects);
    }
}

static void keep_name (struct name *name, struct text text)
{
    name->size = (uint8_t) text.size;
    if (text.size)
        memcpy (name->bytes, text.data, text.size);
}

static void on_credit (struct ingest *self, const struct message *message)
{
    if (message->from.peer >= self->shard_count)
        return;
    struct shard *shard = &self->shards[message->from.peer];
    shard->credit = (uint32_t) message->credit.capacity;
    keep_name (&shard->type, message->credit.type);
    keep_name (&shard->source, message->credit.source);
}

/*  The outcome is counted here, and when an event in flight is settled for the
    first time: whatever a decision says again after it came back, an event that
    was counted as received gets one outcome. */
static void on_settled (struct ingest *self, const struct message *message, const struct effects *effects)
{
    static const enum counter counters[] = {
        [OUTCOME_IGNORED] = COUNTER_IGNORED,
        [OUTCOME_SUCCESS] = COUNTER_SUCCESS,
        [OUTCOME_FAILURE] = COUNTER_FAILURE,
    };
    struct flight_entry *entry = flight_find (&self->flight, message->settled.position);
    if (!entry || entry->settled || entry->shard != message->from.peer) {
        put_log (effects, LOG_DEBUG, (struct about){ message->trace, message->settled.position, NO_TEXT },
                 "settled, but not in flight");
        return;
    }
    if (!entry->waiting)
        self->shards[entry->shard].under_way--;
    flight_settle (&self->flight, message->settled.position);
    put_count (effects, counters[message->settled.outcome], MISTAKE (COUNTED_TWICE) ? 2 : 1);
}

/*  A decision beyond the process came or went. One that comes back without its
    memory has forgotten its events: they are read and handed on again. */
static void on_peer (struct ingest *self, const struct message *message, const struct effects *effects)
{
    if (message->from.role != ROLE_DECISION || message->from.peer >= self->shard_count)
        return;
    struct shard *shard = &self->shards[message->from.peer];
    shard->lost = message->peer.state == PEER_LOST;
    if (message->peer.state != PEER_RESTARTED)
        return;
    *shard = (struct shard){ .credit = 0 };
    flight_take_back (&self->flight, (uint8_t) message->from.peer);
    put_plain (effects, message->from, MESSAGE_OPEN);
}

static void on_drain (struct ingest *self, const struct effects *effects)
{
    self->draining = true;
    self->acked = told (self);
    for (enum poll_kind kind = 0; kind < POLL_KINDS; kind++) {
        self->polls[kind].failures = 0;
        self->polls[kind].due_ms = 0;
        poll_cancel (self, kind, effects);
    }
    if (self->flight.unsettled)
        put_log (effects, LOG_INFO, (struct about){ 0 }, "finishing %" PRIu32 " events",
                 self->flight.unsettled);
}

static void report (uint64_t *reported, uint64_t value, enum gauge gauge, const struct effects *effects)
{
    if (*reported == value)
        return;
    *reported = value;
    put_gauge (effects, gauge, value);
}

/*  Wall time in s at which the event was read that holds back the settled position;
    0 for none. In seconds, so that it is the same in the next turn. */
static uint64_t oldest_s (const struct ingest *self, struct moment now)
{
    const struct flight *flight = &self->flight;
    if (!flight->count)
        return 0;
    return (now.wall_ms - (now.steady_ms - flight->entries[flight->head].seen_ms)) / 1000;
}

static void on_turn (struct ingest *self, struct moment now, const struct effects *effects)
{
    plan (self, now, effects);
    report (&self->reported_in_flight, flight_held (&self->flight), GAUGE_IN_FLIGHT, effects);
    report (&self->reported_polls, self->polls_made, GAUGE_POLLS, effects);
    report (&self->reported_bad_pages, self->bad_pages, GAUGE_BAD_PAGES, effects);
    report (&self->reported_seen, self->flight.seen, GAUGE_POSITION_SEEN, effects);
    report (&self->reported_settled, self->flight.ack, GAUGE_POSITION_SETTLED, effects);
    report (&self->reported_acked, told (self), GAUGE_POSITION_ACKED, effects);
    report (&self->reported_credit, room (self), GAUGE_CREDIT, effects);
    report (&self->reported_oldest, oldest_s (self, now), GAUGE_OLDEST, effects);
}

static void ingest_handle (void *state, struct moment now, const struct message *message,
                           const struct effects *effects)
{
    struct ingest *self = state;
    switch (message->id) {
    case MESSAGE_START:
        self->probe_at_ms = now.steady_ms + PROBE_AFTER_MS;
        for (uint16_t i = 0; i < self->shard_count; i++)
            put_plain (effects, (struct address){ ROLE_DECISION, i }, MESSAGE_OPEN);
        break;
    case MESSAGE_CREDIT:
        on_credit (self, message);
        break;
    case MESSAGE_PEER:
        on_peer (self, message, effects);
        break;
    case MESSAGE_SETTLED:
        on_settled (self, message, effects);
        break;
    case MESSAGE_HTTP_SENT:
        on_http_sent (self, now, message, effects);
        break;
    case MESSAGE_HTTP_ANSWER:
        on_http_answer (self, now, message, effects);
        break;
    case MESSAGE_TIMER:
        on_timer (self, message->timer.timer, effects);
        break;
    case MESSAGE_DRAIN:
        on_drain (self, effects);
        break;
    case MESSAGE_TURN:
        on_turn (self, now, effects);
        break;
    default:
        break;
    }
}

const struct actor_spec ingest_spec = {
    .role = ROLE_INGEST,
    .service = SERVICE_EVENTS,
    .speaks_http = true,
    .state_size = ingest_state_size,
    .init = ingest_init,
    .handle = ingest_handle,
};
