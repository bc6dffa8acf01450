/*  sim_check.c - what is promised, looked at after every step. */

#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "include/shard.h"
#include "proto/raw.h"
#include "proto/text.h"

enum { REST_MS = 3000, LOOK_MS = 250, PATIENCE_MS = 900000, PERSON_MS = 1500 };

/*  What persons want tried again has room of its own in a decision. */
enum { RETRIES_MAX = 16 };

void violate (struct sim *sim, const char *format, ...)
{
    if (sim->failed)
        return;
    sim->failed = true;
    va_list arguments;
    va_start (arguments, format);
    vsnprintf (sim->failure, sizeof sim->failure, format, arguments);
    va_end (arguments);
    trace_line (sim, NULL, "VIOLATION: %s", sim->failure);
}

static struct posting *posting_at (struct sim *sim, uint64_t position)
{
    return position >= 1 && position <= sim->event_count ? &sim->events[position] : NULL;
}

/*  ---- the order of a player's events ------------------------------------- */

static void on_event (struct actor *actor, const struct event *event)
{
    struct posting *posting = posting_at (actor->sim, event->position);
    if (!posting) {
        violate (actor->sim, "%s is handed an event %" PRIu64 " that nobody posted", actor->name,
                 event->position);
        return;
    }
    struct user *user = &actor->sim->users[posting->user];
    if (posting->kind != EVENT_LOGIN)
        return;
    for (uint32_t i = 0; i < user->queue_count; i++)
        if (user->queue[i] == event->position)
            return;
    if (user->queue_count < POSTINGS_MAX)
        user->queue[user->queue_count++] = (uint32_t) event->position;
}

static void on_settled (struct actor *actor, const struct settled *settled)
{
    struct posting *posting = posting_at (actor->sim, settled->position);
    if (!posting) {
        violate (actor->sim, "%s settles an event %" PRIu64 " that nobody posted", actor->name,
                 settled->position);
        return;
    }
    posting->settled = true;
    struct user *user = &actor->sim->users[posting->user];
    uint32_t at = 0;
    while (at < user->queue_count && user->queue[at] != settled->position)
        at++;
    if (at == user->queue_count)
        return;
    for (uint32_t i = 0; i < at && !posting->loose; i++)
        if (!actor->sim->events[user->queue[i]].loose)
            violate (actor->sim,
                     "order: event %" PRIu64 " of %s is settled before %" PRIu32 ", which came first",
                     settled->position, user->id, user->queue[i]);
    user->queue_count--;
    memmove (user->queue + at, user->queue + at + 1, (user->queue_count - at) * sizeof *user->queue);
}

/*  A decision that dies forgets what it had. What it had of an ingest that dies it
    settles in silence unless that is asked for again. */
static void forget_queue (struct sim *sim, struct user *user, enum role role)
{
    for (uint32_t i = 0; i < user->queue_count && role == ROLE_INGEST; i++)
        sim->events[user->queue[i]].loose = true;
    if (role == ROLE_DECISION)
        user->queue_count = 0;
}

void check_forgot (struct sim *sim, const struct process *process)
{
    for (uint32_t i = 0; i < sim->actor_count; i++) {
        const struct actor *actor = &sim->actors[i];
        if (actor->process != process)
            continue;
        enum role role = actor->self.role;
        sim->drops_counts |= role == ROLE_INGEST || role == ROLE_STATS;
        for (uint32_t j = 0; j < sim->user_count; j++)
            if (role == ROLE_INGEST ||
                shard_of_player (text_of (sim->users[j].id), sim->settings.decisions) == actor->self.peer)
                forget_queue (sim, &sim->users[j], role);
    }
}

/*  ---- what cores say ----------------------------------------------------- */

static bool mentions (struct text text, const char *words)
{
    return text.size && memmem (text.data, text.size, words, strlen (words));
}

/*  What a core says when it has no room, although everybody keeps within credit. */
static void on_log (struct actor *actor, const struct log *log)
{
    bool bug = log->level >= LOG_ERROR &&
               (mentions (log->text, "at once: refused") || mentions (log->text, "dropped: more"));
    if (bug || log->level == LOG_FATAL)
        violate (actor->sim, "%s has no room: %.*s", actor->name, (int) log->text.size, log->text.data);
}

static void on_measure (struct actor *actor, const struct measure *measure)
{
    if (measure->gauge != GAUGE_IN_FLIGHT)
        return;
    actor->in_flight = measure->value;
    if (actor->self.role == ROLE_DECISION && measure->value > actor->settings.window + RETRIES_MAX)
        violate (actor->sim,
                 "%s holds %" PRIu64 " events, more than its window of %" PRIu32 " and %d retries",
                 actor->name, measure->value, actor->settings.window, RETRIES_MAX);
}

/*  Lines of StatsD: "name:number|c". */
static void on_datagram (struct sim *sim, struct text payload)
{
    for (uint32_t start = 0; start < payload.size;) {
        uint32_t end = start;
        while (end < payload.size && payload.data[end] != '\n')
            end++;
        for (enum counter counter = 0; counter <= COUNTER_IGNORED; counter++) {
            const char *name = counter_name (counter);
            size_t size = strlen (name);
            if (end - start > size + 1 && memcmp (payload.data + start, name, size) == 0 &&
                payload.data[start + size] == ':')
                sim->totals[counter] += strtoull (payload.data + start + size + 1, NULL, 10);
        }
        start = end + 1;
    }
}

void check_put (struct actor *actor, struct address to, const struct message *message)
{
    (void) to;
    switch (message->id) {
    case MESSAGE_SETTLED:
        on_settled (actor, &message->settled);
        break;
    case MESSAGE_LOG:
        on_log (actor, &message->log);
        break;
    case MESSAGE_MEASURE:
        on_measure (actor, &message->measure);
        break;
    case MESSAGE_DATAGRAM:
        on_datagram (actor->sim, message->datagram.payload);
        break;
    case MESSAGE_DONE:
        actor->sim->answered++;
        disk_done (actor->sim, actor->self.peer, message->done.request);
        break;
    case MESSAGE_HEALTH:
        if (message->health.state == SERVICE_REJECTS)
            violate (actor->sim, "%s says that its secret is wrong", actor->name);
        break;
    default:
        break;
    }
}

void check_handed (struct actor *actor, const struct message *message)
{
    if (message->id == MESSAGE_EVENT)
        on_event (actor, &message->event);
    bool again = message->id == MESSAGE_PEER && message->peer.state == PEER_RESTARTED;
    for (uint32_t i = 0; again && message->from.role == ROLE_INGEST && i < actor->sim->user_count; i++)
        forget_queue (actor->sim, &actor->sim->users[i], ROLE_INGEST);
    if (message->id == MESSAGE_RECORD && message->record.state == GRANT_INTENDED) {
        struct posting *posting = posting_at (actor->sim, message->record.position);
        if (posting)
            posting->loose = true;
    }
}

/*  ---- the services' books, and the journals ------------------------------ */

void check_acked (struct sim *sim, uint64_t after)
{
    if (after > sim->event_count) {
        violate (sim, "position %" PRIu64 " is acknowledged, and there is no such event", after);
        return;
    }
    for (uint64_t id = sim->checked + 1; id <= after; id++) {
        const struct posting *event = &sim->events[id];
        const struct user *user = &sim->users[event->user];
        if (event->kind == EVENT_NEVER)
            continue;
        bool seen_to = user->reward_count > 0 || user->parked;
        if (!event->visible)
            violate (sim,
                     "position %" PRIu64 " is acknowledged, and event %" PRIu64 " below it is yet to come",
                     after, id);
        else if (!event->settled && event->kind == EVENT_LOGIN)
            violate (sim, "position %" PRIu64 " is acknowledged, and event %" PRIu64 " is not settled", after,
                     id);
        else if (event->kind == EVENT_LOGIN && user->kind == USER_DUE && !seen_to)
            violate (sim, "position %" PRIu64 " is acknowledged, and %s of event %" PRIu64 " has nothing",
                     after, user->id, id);
    }
    if (after > sim->checked)
        sim->checked = after;
}

/*  Nothing of a grant leaves the process before it is on disk. */
void check_marked (struct sim *sim, const struct user *user)
{
    if (!user->intended)
        violate (sim, "the marker of %s is written, and no journal knows why", user->id);
}

void check_rewarded (struct sim *sim, const struct user *user)
{
    if (!user->intended)
        violate (sim, "%s is rewarded, and no journal knows why", user->id);
    if (user->reward_count > 1)
        violate (sim, "twice: %s is rewarded again", user->id);
    else if (user->kind != USER_DUE)
        violate (sim, "%s is rewarded, and nothing was due", user->id);
}

void check_grant (struct sim *sim, const struct grant_record *before, const struct grant_record *after)
{
    static const unsigned allowed[] = {
        [0] = 1u << GRANT_INTENDED,
        [GRANT_INTENDED] = 1u << GRANT_GIVEN | 1u << GRANT_REFUSED | 1u << GRANT_UNCERTAIN,
        [GRANT_REFUSED] = 1u << GRANT_INTENDED | 1u << GRANT_DROPPED,
        [GRANT_UNCERTAIN] = 1u << GRANT_INTENDED | 1u << GRANT_DROPPED,
        [GRANT_GIVEN] = 0,
        [GRANT_DROPPED] = 0,
    };
    struct user *user = user_named (sim, after->user);
    enum grant_state from = before ? before->state : (enum grant_state) 0;
    trace_line (sim, NULL, "journal: grant %" PRIu64 " of %s is now in state %u", after->grant, after->user,
                (unsigned) after->state);
    if (!user || (before && strcmp (before->user, after->user) != 0)) {
        violate (sim, "grant %" PRIu64 " is of nobody, or of two", after->grant);
        return;
    }
    if (!(allowed[from] & 1u << after->state))
        violate (sim, "grant %" PRIu64 " of %s goes from state %u to %u", after->grant, after->user,
                 (unsigned) from, (unsigned) after->state);
    bool parked = after->state == GRANT_REFUSED || after->state == GRANT_UNCERTAIN;
    user->parked |= parked;
    user->intended = true;
    user->given_up |= after->state == GRANT_DROPPED;
    if (parked && !sim->may_park && user->kind != USER_POISON && user->kind != USER_UNFIT)
        violate (sim, "grant %" PRIu64 " of %s is parked without need", after->grant, after->user);
    if (after->state == GRANT_GIVEN && user->reward_count == 0)
        violate (sim, "grant %" PRIu64 " of %s counts as given, and was not", after->grant, after->user);
}

/*  ---- the end ------------------------------------------------------------ */

static const char *unsettled_user (const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->user_count; i++) {
        const struct user *user = &sim->users[i];
        if (user->kind == USER_DUE && user->logins && !user->reward_count && !user->given_up)
            return user->id;
    }
    return NULL;
}

static const char *busy_actor (const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->actor_count; i++) {
        const struct actor *actor = &sim->actors[i];
        if (!actor->state)
            return actor->name;
        if (actor->self.role != ROLE_STATS && actor->in_flight)
            return actor->name;
        for (const struct call *call = actor->calls; call; call = call->next)
            if (call->service != SERVICE_EVENTS)
                return actor->name;
    }
    return NULL;
}

/*  A grant that has not come to the end that it must have: it is open, or waits for a
    person without need. */
static const struct grant_record *open_grant (struct sim *sim)
{
    for (uint32_t shard = 0; shard < SHARDS_MAX; shard++)
        for (uint32_t i = 0; i < sim->disks[shard].count; i++) {
            const struct grant_record *grant = &sim->disks[shard].grants[i];
            bool refused =
                grant->state == GRANT_REFUSED && user_named (sim, grant->user)->kind == USER_POISON;
            if (grant->state != GRANT_GIVEN && grant->state != GRANT_DROPPED && !refused)
                return grant;
        }
    return NULL;
}

static uint64_t highest_visible (const struct sim *sim)
{
    uint64_t highest = 0;
    for (uint32_t id = 1; id <= sim->event_count; id++)
        if (sim->events[id].visible)
            highest = id;
    return highest;
}

/*  Whether the counters tell a true sum: nobody died with counts in hand. */
static bool counts_fit (const struct sim *sim)
{
    const uint64_t *totals = sim->totals;
    return sim->drops_counts || totals[COUNTER_EVENTS] == totals[COUNTER_SUCCESS] + totals[COUNTER_FAILURE] +
                                                              totals[COUNTER_IGNORED];
}

/*  Why all is not at rest; empty when it is. */
static void find_unrest (struct sim *sim, char *why, size_t size)
{
    const char *user = unsettled_user (sim);
    const char *busy = busy_actor (sim);
    const struct grant_record *open = open_grant (sim);
    why[0] = '\0';
    if (user)
        snprintf (why, size, "%s waits for its reward", user);
    else if (sim->acked != highest_visible (sim))
        snprintf (why, size, "event %" PRIu64 " is acknowledged, and there is %" PRIu64, sim->acked,
                  highest_visible (sim));
    else if (open)
        snprintf (why, size, "grant %" PRIu64 " of %s is in state %u", open->grant, open->user,
                  (unsigned) open->state);
    else if (sim->asked != sim->answered)
        snprintf (why, size, "a person asked %" PRIu64 " times and got %" PRIu64 " answers", sim->asked,
                  sim->answered);
    else if (busy)
        snprintf (why, size, "%s has something in flight", busy);
    else if (!counts_fit (sim))
        snprintf (why, size,
                  "the counts do not fit: %" PRIu64 " events, %" PRIu64 " + %" PRIu64 " + %" PRIu64,
                  sim->totals[COUNTER_EVENTS], sim->totals[COUNTER_SUCCESS], sim->totals[COUNTER_FAILURE],
                  sim->totals[COUNTER_IGNORED]);
}

/*  When everything is well again a person has tried what is parked. */
static void look_at_parked (struct sim *sim)
{
    if (!sim->person_ms)
        sim->asked = sim->answered = 0; /* who died in the story may owe an answer */
    if (sim->now_ms < sim->person_ms)
        return;
    sim->person_ms = sim->now_ms + PERSON_MS;
    for (uint32_t shard = 0; shard < sim->settings.decisions; shard++)
        disk_person (sim, shard);
}

void check_rest (struct sim *sim)
{
    char why[256];
    look_at_parked (sim);
    find_unrest (sim, why, sizeof why);
    if (why[0]) {
        sim->rest_since_ms = 0;
        if (sim->now_ms > sim->heal_ms + PATIENCE_MS)
            violate (sim, "no rest: %s, %d s after everything was well again", why, PATIENCE_MS / 1000);
    } else if (!sim->rest_since_ms) {
        sim->rest_since_ms = sim->now_ms;
    } else if (sim->now_ms >= sim->rest_since_ms + (sim->options.calm ? 1000 : REST_MS)) {
        sim->done = true;
    }
    set_alarm (sim, sim->now_ms + LOOK_MS, ALARM_LOOK, 0, 0, NULL);
}
