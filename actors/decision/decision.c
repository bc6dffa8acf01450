/*  decision.c - the rule, one player at a time. See decision.h. */

#include "actors/decision/decision.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "actors/decision/past.h"
#include "actors/decision/queue.h"
#include "actors/decision/rule.h"
#include "include/effects.h"
#include "include/shard.h"
#include "proto/text.h"

enum { INGESTS_MAX = 64, WORKERS_MAX = 16 };

/*  Grants that people want tried again, at once. They stand on top of the window,
    so that no credit has to be taken back for them. */
enum { RETRIES_MAX = 16 };

/*  What an ingest may have in flight on top of the window: events that show up late
    in a gap. Never too small is what matters: more is only looked for more often. */
enum { LATE_EVENTS_MAX = 128 };

/*  How much earlier than its event a marker may seem to be written that was written
    for it, because clocks differ and may jump; and how long ago that can have been,
    because nobody is away for longer and comes back to the same events. */
#define MARKER_SKEW_MS INT64_C (172800000) /* two days */
#define MARKER_AGE_MS INT64_C (2592000000) /* thirty */

#define NOT_TOLD UINT32_MAX

/*  An ingest whose events come here. */
struct asker {
    struct address address;
    uint32_t old;        /* its events that are `old`: they take of its credit */
    uint32_t told;       /* its credit as told last; NOT_TOLD before */
    uint32_t distinct;   /* positions above all before them, up to the bound of `early` */
    uint64_t highest;    /* of its positions */
    uint64_t early_upto; /* events up to here may have been in flight before this life; 0: not known yet */
};

struct decision {
    const struct settings *settings;
    struct text app_2_name;
    struct terms terms;                 /* as configured */
    char keys_bytes[KEYS_SIZE_MAX + 1]; /* "auth,$reward$<id>" */
    struct text keys;
    struct text marker;   /* the second of the keys */
    uint64_t reward_hash; /* of the configured reward, as in a key of the past */

    struct asker askers[INGESTS_MAX]; /* who asked for credit */
    unsigned asker_count;
    uint32_t usermeta_open; /* workers that can take work: bit 1 << worker each */
    uint32_t currency_open;
    bool draining;
    bool drained;

    uint64_t start_ms;      /* steady time */
    uint64_t newest;        /* the highest number of a grant */
    uint64_t recalled_upto; /* the highest number of an open grant that the journal brought */
    uint32_t recalled_now;  /* open grants that the journal brought since it was asked */
    bool recalling;         /* it was asked for open ones and has not answered */
    bool knows_recent;      /* what ended before this life is known */
    bool knows_open;        /* what is open too, all of it */
    struct past past;       /* what ended */

    uint64_t sequence; /* of requests */
    uint32_t alone;    /* items without an event that are no retries */
    uint32_t retries;
    uint32_t reported; /* items as last told to the shell */
    uint64_t parked;   /* grants */
    uint64_t reported_parked;
    struct queue queue;
};

static uint32_t slots (const struct settings *settings)
{
    return settings->window + RETRIES_MAX;
}

static size_t round_up (size_t size)
{
    return (size + 15) & ~(size_t) 15;
}

static size_t decision_state_size (const struct settings *settings)
{
    return round_up (sizeof (struct decision)) + past_size (2 * settings->window) +
           queue_size (slots (settings));
}

static void decision_init (void *memory, const struct settings *settings)
{
    struct decision *self = memory;
    uint8_t *at = (uint8_t *) memory + round_up (sizeof *self);
    self->settings = settings;
    self->app_2_name = text_of (settings->app_2_name);
    self->terms = (struct terms){ settings->reward_amount, text_of (settings->reward_currency),
                                  text_of (settings->reward_id) };
    snprintf (self->keys_bytes, sizeof self->keys_bytes, "auth,$reward$%s", settings->reward_id);
    self->reward_hash = text_hash (self->terms.reward, settings->hash_seed);
    self->keys = text_of (self->keys_bytes);
    self->marker = text_of (self->keys_bytes + strlen ("auth,"));
    past_init (&self->past, at, 2 * settings->window);
    at += past_size (2 * settings->window);
    queue_init (&self->queue, at, slots (settings), settings->hash_seed);
    /*  Answers to a life before this one must not be taken for answers to this
        one's requests, so their numbers begin anywhere. */
    self->sequence = settings->hash_seed >> 24;
}

/*  ---- what is known of an item ------------------------------------------- */

/*  Items that take room in the window. */
static uint32_t taken (const struct decision *self)
{
    return self->queue.count - self->retries;
}

static struct terms terms_of (const struct decision *self, const struct item *item)
{
    return item->other_terms ? queue_terms (&self->queue, item) : self->terms;
}

/*  Under what the grants of a player and reward are remembered. */
static uint64_t past_key (const struct decision *self, struct text user, struct text reward)
{
    return text_hash (user, self->settings->hash_seed) ^ text_hash (reward, self->settings->hash_seed);
}

/*  The same for a player's item. Both hashes are mostly known: the player's since it
    came, the reward's since the start. */
static uint64_t past_key_of (const struct decision *self, int32_t at, const struct item *item)
{
    if (item->other_terms)
        return past_key (self, queue_user (&self->queue, at), terms_of (self, item).reward);
    return self->queue.players[at].hash ^ self->reward_hash;
}

static struct past_view look (const struct decision *self, int32_t at, const struct item *item)
{
    return past_look (&self->past, past_key_of (self, at, item), item->position, item->timestamp);
}

/*  What a log line about the player's first item is about. */
static struct about about_player (const struct decision *self, int32_t at)
{
    const struct item *item = queue_first (&self->queue, at);
    return (struct about){ .trace = item->trace,
                           .position = item->position,
                           .user = queue_user (&self->queue, at) };
}

static bool same_address (struct address a, struct address b)
{
    return a.role == b.role && a.peer == b.peer;
}

static struct asker *asker_find (struct decision *self, struct address address)
{
    for (unsigned i = 0; i < self->asker_count; i++)
        if (same_address (self->askers[i].address, address))
            return &self->askers[i];
    return NULL;
}

/*  Says whether an event belongs to an earlier life of its ingest. */
static void event_age (struct decision *self, struct item *item, bool old)
{
    struct asker *asker = asker_find (self, item->ingest);
    if (!asker || item->old == old)
        return;
    item->old = old;
    if (old)
        asker->old++;
    else
        asker->old--;
}

/*  Whether an event may have been in flight before this life: whether it is among
    the first that fit in a window, or lies below them. By position, because events
    may come late and more than once. */
static bool is_early (struct decision *self, struct address ingest, uint64_t position)
{
    struct asker *asker = asker_find (self, ingest);
    if (!asker)
        return true;
    if (!asker->early_upto && position > asker->highest) {
        asker->highest = position;
        if (++asker->distinct >= self->settings->window + LATE_EVENTS_MAX)
            asker->early_upto = position;
    }
    return !asker->early_upto || position <= asker->early_upto;
}

/*  ---- asking and remembering --------------------------------------------- */

/*  The player whose request this answers, or NONE for a stale answer. */
static int32_t player_of_request (const struct decision *self, uint64_t request, enum stage stage)
{
    uint32_t at = (uint32_t) (request % self->queue.capacity);
    const struct player *player = &self->queue.players[at];
    return request && player->request == request && player->stage == stage ? (int32_t) at : NONE;
}

static void player_stage (struct decision *self, int32_t at, enum stage stage, const struct effects *effects)
{
    struct player *player = &self->queue.players[at];
    put_log (effects, LOG_TRACE, about_player (self, at), "%s -> %s", stage_name (player->stage),
             stage_name (stage));
    player->stage = stage;
    self->sequence++;
    player->request = stage == STAGE_ENDED ? 0 : self->sequence * self->queue.capacity + (uint64_t) at;
}

/*  Which worker a player's requests go to. */
static struct address worker_of (const struct decision *self, int32_t at, enum role role)
{
    uint16_t count =
        role == ROLE_USERMETA_CLIENT ? self->settings->usermeta_clients : self->settings->currency_clients;
    return (struct address){ role, shard_of_player (queue_user (&self->queue, at), count) };
}

static void ask_read (const struct decision *self, int32_t at, const struct effects *effects)
{
    struct message read = { .id = MESSAGE_READ_META, .trace = queue_first (&self->queue, at)->trace };
    read.read_meta.request = self->queue.players[at].request;
    read.read_meta.user = queue_user (&self->queue, at);
    read.read_meta.keys = self->keys;
    put (effects, worker_of (self, at, ROLE_USERMETA_CLIENT), &read);
}

static void ask_mark (const struct decision *self, int32_t at, struct moment now,
                      const struct effects *effects)
{
    const struct item *item = queue_first (&self->queue, at);
    char value[24];
    char key[KEY_SIZE_MAX + 1];
    struct builder time, name;
    builder_init (&time, value, sizeof value);
    builder_uint (&time, now.wall_ms);
    builder_init (&name, key, sizeof key);
    builder_literal (&name, "$reward$");
    builder_add (&name, terms_of (self, item).reward);

    struct message write = { .id = MESSAGE_WRITE_META, .trace = item->trace };
    write.write_meta.request = self->queue.players[at].request;
    write.write_meta.user = queue_user (&self->queue, at);
    write.write_meta.key = builder_text (&name);
    write.write_meta.value = builder_text (&time);
    put (effects, worker_of (self, at, ROLE_USERMETA_CLIENT), &write);
}

/*  What a GIVE says of attempts before it: how long to wait before the reward is
    looked for, 0 for no look. What a service was asked to give shows up within the
    grace. Attempts of a life before this one ended at the start at the latest, but for
    those that a client made until it learned of us, and that one knows when that was;
    those of this one ended when the last grant did that may have been the player's. */
static uint64_t check_ms (const struct decision *self, int32_t at, const struct item *item, struct moment now)
{
    if (item->check == CHECK_NONE)
        return 0;
    uint64_t since_ms = now.steady_ms;
    if (item->check == CHECK_QUIET) {
        uint64_t ended_ms = look (self, at, item).ended_ms;
        since_ms = ended_ms > self->start_ms ? ended_ms : self->start_ms;
    }
    uint64_t until_ms = since_ms + self->settings->find_grace_ms;
    uint64_t wait_ms = until_ms > now.steady_ms ? until_ms - now.steady_ms : 1;
    return wait_ms < CHECK_MAX ? wait_ms : CHECK_MAX;
}

static void ask_give (const struct decision *self, int32_t at, struct moment now,
                      const struct effects *effects)
{
    const struct item *item = queue_first (&self->queue, at);
    struct terms terms = terms_of (self, item);
    struct message give = { .id = MESSAGE_GIVE, .trace = item->trace };
    give.give.request = self->queue.players[at].request;
    give.give.user = queue_user (&self->queue, at);
    give.give.amount = terms.amount;
    give.give.currency = terms.currency;
    give.give.reward = terms.reward;
    give.give.check = check_ms (self, at, item, now);
    put (effects, worker_of (self, at, ROLE_CURRENCY_CLIENT), &give);
}

/*  Why something is remembered, and who wanted it. */
struct because {
    struct text reason;
    struct text who;
};

static void remember (struct text user, const struct item *item, struct terms terms, enum grant_state state,
                      struct because because, struct moment now, const struct effects *effects)
{
    struct message record = { .id = MESSAGE_REMEMBER, .trace = item->trace };
    record.remember.grant = item->grant;
    record.remember.position = item->position;
    record.remember.timestamp = item->timestamp;
    record.remember.user = user;
    record.remember.reward = terms.reward;
    record.remember.amount = terms.amount;
    record.remember.currency = terms.currency;
    record.remember.state = state;
    record.remember.at_ms = now.wall_ms;
    record.remember.reason = because.reason;
    record.remember.who = because.who;
    put (effects, TO_SHELL, &record);
}

/*  ---- the table at work -------------------------------------------------- */

/*  The grant of the player's first item comes to an end. */
static void end_grant (struct decision *self, int32_t at, enum grant_state state, struct text reason,
                       struct moment now, const struct effects *effects)
{
    const struct item *item = queue_first (&self->queue, at);
    struct text user = queue_user (&self->queue, at);
    struct terms terms = terms_of (self, item);
    remember (user, item, terms, state, (struct because){ .reason = reason }, now, effects);
    struct past_grant ended = { .key = past_key_of (self, at, item),
                                .grant = item->grant,
                                .position = item->position,
                                .timestamp = item->timestamp,
                                .ended_ms = now.steady_ms,
                                .state = state };
    past_note (&self->past, &ended);
    if (state != GRANT_REFUSED && state != GRANT_UNCERTAIN)
        return;
    self->parked++;
    put_log (effects, LOG_ERROR, about_player (self, at), "grant %" PRIu64 " is parked, %s: %.*s",
             item->grant, grant_state_name (state), (int) reason.size, reason.data);
}

static void settle (const struct effects *effects, struct address ingest, uint64_t position, uint64_t trace,
                    enum outcome outcome)
{
    struct message settled = { .id = MESSAGE_SETTLED, .trace = trace };
    settled.settled.position = position;
    settled.settled.outcome = outcome;
    put (effects, ingest, &settled);
}

/*  The player's first item is finished: its event is settled, and it is taken off. */
static void finish (struct decision *self, int32_t at, enum outcome outcome, const struct effects *effects)
{
    struct item *item = queue_first (&self->queue, at);
    if (item->has_event) {
        /*  Its ingest came back without its memory and may have handed it on again: that
            one is under way, and is answered when it is here. Answered now it would
            make room that is not there. */
        if (!item->old)
            settle (effects, item->ingest, item->position, item->trace, outcome);
        event_age (self, item, false);
    }
    if (item->retry)
        self->retries--;
    else if (!item->has_event)
        self->alone--;
    queue_drop_first (&self->queue, at);
}

/*  One step of the table for the player's first item. True when that is finished
    and gone. */
static bool take_step (struct decision *self, int32_t at, enum happening happening, struct text reason,
                       struct moment now, const struct effects *effects)
{
    struct item *item = queue_first (&self->queue, at);
    const struct grant_cell *cell = grant_cell (self->queue.players[at].stage, happening);
    assert (cell);
    if (cell->check != CHECK_KEEP)
        item->check = cell->check;
    if (cell->does & DO_INTEND) {
        item->grant = ++self->newest;
        remember (queue_user (&self->queue, at), item, self->terms, GRANT_INTENDED,
                  (struct because){ .reason = reason }, now, effects);
    }
    if (cell->does & DO_RECORD)
        end_grant (self, at, cell->ends, reason, now, effects);
    player_stage (self, at, cell->next, effects);
    if (cell->does & DO_READ)
        ask_read (self, at, effects);
    if (cell->does & DO_MARK)
        ask_mark (self, at, now, effects);
    if (cell->does & DO_GIVE)
        ask_give (self, at, now, effects);
    if (cell->does & DO_SETTLE)
        finish (self, at, cell->outcome, effects);
    return cell->does & DO_SETTLE;
}

/*  What to say of an event whose marker is there: what became of the grant that it
    brought, or that nothing is due. */
static enum happening marked_already (const struct past_view *view)
{
    if (!view->own)
        return ON_NOT_DUE;
    return view->own_state == GRANT_GIVEN ? ON_OWN_GIVEN : ON_OWN_PARKED;
}

/*  How the player's first item begins. */
static enum happening beginning (const struct decision *self, int32_t at, const struct effects *effects)
{
    const struct item *item = queue_first (&self->queue, at);
    if (item->grant)
        return item->retry ? ON_RETRIED : ON_RESUMED;
    if (!self->queue.players[at].rewarded)
        return ON_EVENT;
    struct past_view view = look (self, at, item);
    put_log (effects, LOG_INFO, about_player (self, at), "%s: already rewarded with %s",
             view.own ? "settled before" : "ignored", self->settings->reward_id);
    return marked_already (&view);
}

/*  Something happened to the player's first item: goes on with it and, when it is
    finished, with those behind. */
static void work_on (struct decision *self, int32_t at, enum happening happening, struct text reason,
                     struct moment now, const struct effects *effects)
{
    while (take_step (self, at, happening, reason, now, effects)) {
        if (!queue_first (&self->queue, at)) {
            queue_player_remove (&self->queue, at);
            return;
        }
        self->queue.players[at].stage = STAGE_NEW;
        happening = beginning (self, at, effects);
        reason = NO_TEXT;
    }
}

/*  Adds an item to a player's queue, and begins with it when it is the first. */
static void enqueue (struct decision *self, struct text user, const struct item *item,
                     const struct terms *terms, struct moment now, const struct effects *effects)
{
    int32_t at = queue_player_add (&self->queue, user);
    bool idle = !queue_first (&self->queue, at);
    struct item *new = queue_append (&self->queue, at, item);
    if (terms)
        queue_keep_terms (&self->queue, new, terms);
    if (item->retry)
        self->retries++;
    else if (!item->has_event)
        self->alone++;
    if (idle)
        work_on (self, at, beginning (self, at, effects), NO_TEXT, now, effects);
}

/*  ---- events and answers ------------------------------------------------- */

/*  An event of a player that the rule may reward. */
static void on_login (struct decision *self, struct moment now, const struct message *message,
                      struct text user, bool early, const struct effects *effects)
{
    const struct event *event = &message->event;
    struct item *known = queue_event (&self->queue, message->from, event->position);
    if (known) { /* its ingest came back without its memory, and has read it again */
        event_age (self, known, false);
        return;
    }
    /*  Items without an event are rare, and the player is looked up again below. */
    bool some = self->alone + self->retries > 0;
    int32_t at = some ? queue_player (&self->queue, user) : NONE;
    struct item *alone =
        at == NONE ? NULL : queue_alone (&self->queue, at, event->position, event->timestamp);
    if (alone) { /* the grant that it brought is at work */
        if (!alone->retry)
            self->alone--;
        queue_attach (&self->queue, at, alone, message->from);
        return;
    }
    if (taken (self) >= self->settings->window) {
        put_log (effects, LOG_ERROR, (struct about){ message->trace, event->position, NO_TEXT },
                 "dropped: more events than the credit of %" PRIu32, self->settings->window);
        return;
    }
    struct item item = { .position = event->position,
                         .timestamp = event->timestamp,
                         .trace = message->trace,
                         .ingest = message->from,
                         .has_event = true,
                         .early = early };
    enqueue (self, user, &item, NULL, now, effects);
}

static void on_event (struct decision *self, struct moment now, const struct message *message,
                      const struct effects *effects)
{
    const struct event *event = &message->event;
    bool early = is_early (self, message->from, event->position);
    struct verdict verdict = rule_judge (event, self->app_2_name);
    if (verdict.due) {
        on_login (self, now, message, verdict.user, early, effects);
        return;
    }
    if (verdict.reason)
        put_log (effects, LOG_WARN, (struct about){ message->trace, event->position, NO_TEXT }, "%s: %s",
                 outcome_name (verdict.outcome), verdict.reason);
    settle (effects, message->from, event->position, message->trace, verdict.outcome);
}

/*  Whether a marker may have been written for an event that was in flight before this
    life: it is a time as we write it, not from long before the event, and not from
    long ago. */
static bool may_be_for (struct text marker, int64_t timestamp, struct moment now)
{
    uint64_t written_ms;
    if (!text_to_uint (marker, POSITION_MAX, &written_ms))
        return false;
    if (written_ms + (uint64_t) MARKER_AGE_MS < now.wall_ms)
        return false;
    return timestamp < MARKER_SKEW_MS || (int64_t) written_ms >= timestamp - MARKER_SKEW_MS;
}

/*  Usermeta has the marker: what does that mean for the event? */
static enum happening on_marker (struct decision *self, int32_t at, struct text marker, bool auth,
                                 struct moment now, const struct effects *effects)
{
    struct item *item = queue_first (&self->queue, at);
    struct past_view view = look (self, at, item);
    struct about about = about_player (self, at);
    int size = marker.size > 40 ? 40 : (int) marker.size;
    self->queue.players[at].rewarded = true;
    if (!view.known && item->early && auth && may_be_for (marker, item->timestamp, now)) {
        put_log (effects, LOG_INFO, about,
                 "marker %.*s of %s is explained by no grant: looking for the reward", size, marker.data,
                 self->settings->reward_id);
        item->other_found = true;
        return ON_UNEXPLAINED;
    }
    put_log (effects, LOG_INFO, about, "%s: already rewarded with %s (marker %.*s)",
             view.own ? "settled before" : "ignored", self->settings->reward_id, size, marker.data);
    return marked_already (&view);
}

/*  What usermeta's values mean for the player's first event. */
static enum happening on_values (struct decision *self, int32_t at, struct raw values, struct moment now,
                                 const struct effects *effects)
{
    struct item *item = queue_first (&self->queue, at);
    struct text marker = NO_TEXT;
    struct text ignore = NO_TEXT;
    bool auth = rule_is_true (values, TEXT_LITERAL ("auth"), &ignore);
    if (rule_is_true (values, self->marker, &marker))
        return on_marker (self, at, marker, auth, now, effects);
    if (!auth) {
        put_log (effects, LOG_INFO, about_player (self, at),
                 "ignored: no auth at %s, so not one of its players", self->settings->app_1_name);
        return ON_NOT_DUE;
    }
    struct past_view view = look (self, at, item);
    if (!view.tried)
        return ON_DUE;
    put_log (effects, LOG_INFO, about_player (self, at),
             "the marker of %s is gone, and there was a grant: looking for the reward",
             self->settings->reward_id);
    item->other_found = !view.own;
    return ON_DUE_AGAIN;
}

static void on_meta (struct decision *self, struct moment now, const struct message *message,
                     const struct effects *effects)
{
    int32_t at = player_of_request (self, message->meta.request, STAGE_READING);
    struct text reason = NO_TEXT;
    if (at == NONE)
        return;
    enum happening happening = ON_UNREADABLE;
    if (message->meta.result == RESULT_OK)
        happening = on_values (self, at, message->meta.values, now, effects);
    else
        put_log (effects, LOG_ERROR, about_player (self, at), "failure: usermeta cannot be read: %.*s",
                 (int) message->meta.reason.size, message->meta.reason.data);
    if (happening == ON_UNEXPLAINED)
        reason = TEXT_LITERAL ("the marker is there, and no grant explains it");
    if (happening == ON_DUE_AGAIN)
        reason = TEXT_LITERAL ("the marker is gone, and there was a grant");
    work_on (self, at, happening, reason, now, effects);
}

static void on_meta_written (struct decision *self, struct moment now, const struct message *message,
                             const struct effects *effects)
{
    int32_t at = player_of_request (self, message->meta_written.request, STAGE_MARKING);
    if (at == NONE)
        return;
    const struct item *item = queue_first (&self->queue, at);
    char memory[REASON_SIZE_MAX + 1];
    struct builder reason;
    builder_init (&reason, memory, sizeof memory);
    enum happening happening = ON_MARKED;
    if (message->meta_written.result != RESULT_OK) {
        happening = item->check == CHECK_NONE ? ON_NOT_MARKED : ON_MAYBE_MARKED;
        builder_literal (&reason, "the marker cannot be written: ");
        builder_printable (&reason, message->meta_written.reason, REASON_SIZE_MAX - reason.size);
    } else if (text_equal (terms_of (self, item).reward, self->terms.reward)) {
        self->queue.players[at].rewarded = true;
    }
    work_on (self, at, happening, builder_text (&reason), now, effects);
}

static enum happening on_good_given (struct decision *self, int32_t at, bool found,
                                     const struct effects *effects)
{
    const struct item *item = queue_first (&self->queue, at);
    struct terms terms = terms_of (self, item);
    struct about about = about_player (self, at);
    if (!found)
        put_log (effects, LOG_INFO, about, "success: rewarded with %" PRId64 " %.*s (%.*s)", terms.amount,
                 (int) terms.currency.size, terms.currency.data, (int) terms.reward.size, terms.reward.data);
    else
        put_log (effects, LOG_INFO, about, "%s: %.*s was given before",
                 item->other_found ? "ignored" : "success", (int) terms.reward.size, terms.reward.data);
    return !found ? ON_GIVEN : item->other_found ? ON_FOUND_OTHER : ON_FOUND;
}

static void on_given (struct decision *self, struct moment now, const struct message *message,
                      const struct effects *effects)
{
    const struct given *given = &message->given;
    int32_t at = player_of_request (self, given->request, STAGE_GIVING);
    if (at == NONE)
        return;
    enum happening happening = ON_UNCERTAIN;
    struct text reason = given->reason;
    if (given->result == RESULT_REFUSED)
        happening = ON_REFUSED;
    if (given->result == RESULT_OK) {
        happening = on_good_given (self, at, given->found, effects);
        reason = given->found ? TEXT_LITERAL ("found: an attempt before gave it") : NO_TEXT;
    }
    work_on (self, at, happening, reason, now, effects);
}

/*  ---- the journal -------------------------------------------------------- */

static void recall (enum which_grants which, uint64_t after, uint64_t count, const struct effects *effects)
{
    struct message message = { .id = MESSAGE_RECALL };
    message.recall.which = which;
    message.recall.after = after;
    message.recall.count = count;
    put (effects, TO_SHELL, &message);
}

/*  Asks for the open grants that there is room for. */
static void recall_open (struct decision *self, const struct effects *effects)
{
    self->recalling = true;
    self->recalled_now = 0;
    recall (RECALL_OPEN, self->recalled_upto, self->settings->window - taken (self), effects);
}

/*  When the journal knows more open grants than there was room for, the rest follows
    as soon as half of it is free again. */
static void recall_rest (struct decision *self, const struct effects *effects)
{
    if (self->knows_open || self->recalling || self->draining)
        return;
    if (taken (self) <= self->settings->window / 2)
        recall_open (self, effects);
}

/*  Whether everything is there that names a grant. A journal is a file, and may have
    been written by anybody. */
static bool is_usable (uint64_t grant, struct text user, struct text reward, struct text currency)
{
    return grant && user.size && user.size <= USER_SIZE_MAX && reward.size &&
           reward.size <= REWARD_SIZE_MAX && currency.size <= NAME_SIZE_MAX;
}

/*  The terms to keep with an item: NULL when they are as configured. */
static const struct terms *other_terms (const struct decision *self, const struct terms *terms)
{
    bool same = terms->amount == self->terms.amount && text_equal (terms->currency, self->terms.currency) &&
                text_equal (terms->reward, self->terms.reward);
    return same ? NULL : terms;
}

static void on_record (struct decision *self, struct moment now, const struct message *message,
                       const struct effects *effects)
{
    const struct record *record = &message->record;
    struct about about = { message->trace, record->position, NO_TEXT };
    if (!is_usable (record->grant, record->user, record->reward, record->currency)) {
        put_log (effects, LOG_ERROR, about, "grant %" PRIu64 " of the journal cannot be used and is left",
                 record->grant);
        return;
    }
    if (record->grant > self->newest)
        self->newest = record->grant;
    if (record->state != GRANT_INTENDED) {
        struct past_grant ended = { .key = past_key (self, record->user, record->reward),
                                    .grant = record->grant,
                                    .position = record->position,
                                    .timestamp = record->timestamp,
                                    .ended_ms = self->start_ms,
                                    .state = record->state };
        if (!self->knows_recent)
            past_recall (&self->past, &ended);
        return;
    }
    if (!self->recalling || record->grant <= self->recalled_upto || taken (self) >= self->settings->window) {
        put_log (effects, LOG_ERROR, about, "open grant %" PRIu64 " came unasked and is left", record->grant);
        return;
    }
    self->recalled_upto = record->grant;
    self->recalled_now++;
    put_log (effects, LOG_INFO, (struct about){ message->trace, record->position, record->user },
             "grant %" PRIu64 " was open at the end: going on with it", record->grant);
    struct terms terms = { record->amount, record->currency, record->reward };
    struct item item = { .position = record->position,
                         .timestamp = record->timestamp,
                         .trace = message->trace,
                         .grant = record->grant };
    enqueue (self, record->user, &item, other_terms (self, &terms), now, effects);
}

static void on_recalled (struct decision *self, const struct message *message)
{
    const struct recalled *recalled = &message->recalled;
    if (recalled->newest > self->newest)
        self->newest = recalled->newest;
    if (recalled->which == RECALL_RECENT)
        self->knows_recent = true;
    if (recalled->which != RECALL_OPEN || !self->recalling)
        return;
    self->recalling = false;
    self->knows_open = !recalled->more || !self->recalled_now;
}

/*  ---- people ------------------------------------------------------------- */

static void done (uint64_t request, const char *reason, bool later, const struct effects *effects)
{
    struct message message = { .id = MESSAGE_DONE };
    message.done.request = request;
    message.done.result = reason ? RESULT_REFUSED : RESULT_OK;
    message.done.reason = text_of (reason);
    message.done.later = later;
    put (effects, TO_SHELL, &message);
}

/*  Why a parked grant cannot be touched; NULL when it can. */
static const char *why_not_now (const struct decision *self, uint64_t grant, struct text user, uint64_t key)
{
    int32_t at = queue_player (&self->queue, user);
    if (at != NONE && queue_grant (&self->queue, at, grant))
        return "it is being tried already";
    const struct past_grant *past = past_find (&self->past, key, grant);
    if (past && past->state == GRANT_GIVEN)
        return "it is given";
    if (past && past->state == GRANT_DROPPED)
        return "it was dropped";
    return NULL;
}

/*  Whether everything of the journal that matters is known. */
static bool knows_all (const struct decision *self)
{
    return self->knows_recent && self->knows_open;
}

/*  Why a grant cannot be tried again now; *later when it may be asked again soon. */
static const char *why_not_retry (const struct decision *self, const struct retry *retry, bool *later)
{
    if (!is_usable (retry->grant, retry->user, retry->reward, retry->currency))
        return "its number, user, reward or currency cannot be used";
    const char *why =
        why_not_now (self, retry->grant, retry->user, past_key (self, retry->user, retry->reward));
    if (why || self->draining)
        return why ? why : "the process is ending";
    *later = !knows_all (self) || self->retries == RETRIES_MAX;
    if (!*later)
        return NULL;
    return knows_all (self) ? "no room, try later" : "the journal is still being read, try later";
}

static void on_retry (struct decision *self, struct moment now, const struct message *message,
                      const struct effects *effects)
{
    const struct retry *retry = &message->retry;
    bool later = false;
    const char *why = why_not_retry (self, retry, &later);
    if (why) {
        done (retry->request, why, later, effects);
        return;
    }
    if (retry->grant > self->newest)
        self->newest = retry->grant;
    struct terms terms = { retry->amount, retry->currency, retry->reward };
    struct item item = { .position = retry->position,
                         .timestamp = retry->timestamp,
                         .trace = message->trace,
                         .grant = retry->grant,
                         .retry = true };
    struct because because = { TEXT_LITERAL ("retry"), retry->who };
    put_log (effects, LOG_INFO, (struct about){ message->trace, retry->position, retry->user },
             "grant %" PRIu64 " is tried again", retry->grant);
    remember (retry->user, &item, terms, GRANT_INTENDED, because, now, effects);
    done (retry->request, NULL, false, effects);
    enqueue (self, retry->user, &item, other_terms (self, &terms), now, effects);
}

static const char *why_not_drop (const struct decision *self, const struct drop *drop, bool *later)
{
    if (!is_usable (drop->grant, drop->user, drop->reward, NO_TEXT))
        return "its number, user or reward cannot be used";
    *later = !knows_all (self);
    if (*later)
        return "the journal is still being read, try later";
    return why_not_now (self, drop->grant, drop->user, past_key (self, drop->user, drop->reward));
}

static void on_drop (struct decision *self, struct moment now, const struct message *message,
                     const struct effects *effects)
{
    const struct drop *drop = &message->drop;
    bool later = false;
    const char *why = why_not_drop (self, drop, &later);
    if (why) {
        done (drop->request, why, later, effects);
        return;
    }
    struct past_grant *past = past_find (&self->past, past_key (self, drop->user, drop->reward), drop->grant);
    if (past)
        past->state = GRANT_DROPPED;
    struct item item = { .grant = drop->grant, .trace = message->trace };
    struct terms terms = { .reward = drop->reward };
    struct because because = { NO_TEXT, drop->who };
    remember (drop->user, &item, terms, GRANT_DROPPED, because, now, effects);
    put_log (effects, LOG_INFO, (struct about){ message->trace, 0, drop->user },
             "grant %" PRIu64 " is given up", drop->grant);
    done (drop->request, NULL, false, effects);
}

/*  ---- credit, start, drain ----------------------------------------------- */

/*  Whether every worker of a role has opened. */
static bool all_open (uint32_t open, uint16_t count)
{
    uint32_t all = count > 1 ? (1u << count) - 1 : 1;
    return (open & all) == all;
}

/*  Whether events may come: the workers take requests, and what is open in the
    journal is at work. */
static bool is_open (const struct decision *self)
{
    return knows_all (self) && all_open (self->usermeta_open, self->settings->usermeta_clients) &&
           all_open (self->currency_open, self->settings->currency_clients);
}

/*  What is left for an ingest besides the events of its earlier life and the grants
    that have no event. */
static uint32_t credit_of (const struct decision *self, const struct asker *asker)
{
    return self->draining ? 0 : self->settings->window - self->alone - asker->old;
}

/*  Tells each ingest its credit, when that is another than before. */
static void tell_credit (struct decision *self, const struct effects *effects)
{
    for (unsigned i = 0; is_open (self) && i < self->asker_count; i++) {
        struct asker *asker = &self->askers[i];
        if (asker->told == credit_of (self, asker))
            continue;
        struct message credit = { .id = MESSAGE_CREDIT };
        asker->told = credit_of (self, asker);
        credit.credit.capacity = asker->told;
        credit.credit.type = TEXT_LITERAL (RULE_TYPE);
        credit.credit.source = self->app_2_name;
        put (effects, asker->address, &credit);
    }
}

static void on_open (struct decision *self, const struct message *message, const struct effects *effects)
{
    struct asker *asker = asker_find (self, message->from);
    if (!asker && self->asker_count == INGESTS_MAX) {
        put_log (effects, LOG_ERROR, (struct about){ 0 }, "more than %d ingest actors", INGESTS_MAX);
        return;
    }
    if (!asker) {
        asker = &self->askers[self->asker_count++];
        *asker = (struct asker){ .address = message->from };
    }
    asker->told = NOT_TOLD;
}

static void on_opened (struct decision *self, const struct message *message)
{
    if (message->from.peer >= WORKERS_MAX)
        return;
    if (message->from.role == ROLE_USERMETA_CLIENT)
        self->usermeta_open |= 1u << message->from.peer;
    if (message->from.role == ROLE_CURRENCY_CLIENT)
        self->currency_open |= 1u << message->from.peer;
}

/*  Asks the players' questions again that a worker has forgotten. Reading and
    marking may be repeated at will; a reward is looked for first. */
static void ask_again (struct decision *self, struct address worker, struct moment now,
                       const struct effects *effects)
{
    for (uint32_t i = 0; i < self->queue.fresh_player; i++) {
        int32_t at = (int32_t) i;
        const struct player *player = &self->queue.players[i];
        enum role role = player->stage == STAGE_GIVING ? ROLE_CURRENCY_CLIENT : ROLE_USERMETA_CLIENT;
        if (player->request && same_address (worker_of (self, at, role), worker))
            take_step (self, at, ON_FORGOTTEN, NO_TEXT, now, effects);
    }
}

/*  An ingest has forgotten the events it handed on. They are decided all the same,
    and until it asks for them again it can hand on only as many others as there
    is room for besides. */
static void grow_old (struct decision *self, struct address ingest)
{
    for (uint32_t i = 0; i < self->queue.fresh_player; i++) {
        int32_t at = self->queue.players[i].request ? self->queue.players[i].first : NONE;
        for (; at != NONE; at = self->queue.items[at].next) {
            struct item *item = &self->queue.items[at];
            if (item->has_event && !item->retry && same_address (item->ingest, ingest))
                event_age (self, item, true);
        }
    }
}

/*  Somebody beyond the process came back without its memory. */
static void on_peer (struct decision *self, struct moment now, const struct message *message,
                     const struct effects *effects)
{
    bool client = message->from.role == ROLE_USERMETA_CLIENT || message->from.role == ROLE_CURRENCY_CLIENT;
    if (message->peer.state != PEER_RESTARTED)
        return;
    if (message->from.role == ROLE_INGEST)
        grow_old (self, message->from);
    if (!client)
        return;
    put_plain (effects, message->from, MESSAGE_OPEN);
    ask_again (self, message->from, now, effects);
}

static void on_start (struct decision *self, struct moment now, const struct effects *effects)
{
    self->start_ms = now.steady_ms;
    recall (RECALL_RECENT, 0, self->past.capacity, effects);
    recall_open (self, effects);
    for (uint16_t i = 0; i == 0 || i < self->settings->usermeta_clients; i++)
        put_plain (effects, (struct address){ ROLE_USERMETA_CLIENT, i }, MESSAGE_OPEN);
    for (uint16_t i = 0; i == 0 || i < self->settings->currency_clients; i++)
        put_plain (effects, (struct address){ ROLE_CURRENCY_CLIENT, i }, MESSAGE_OPEN);
}

static void on_turn (struct decision *self, const struct effects *effects)
{
    tell_credit (self, effects);
    if (self->reported != self->queue.count) {
        self->reported = self->queue.count;
        put_gauge (effects, GAUGE_IN_FLIGHT, self->queue.count);
    }
    if (self->reported_parked != self->parked) {
        self->reported_parked = self->parked;
        put_gauge (effects, GAUGE_PARKED, self->parked);
    }
    if (self->draining && !self->drained && self->queue.count == 0) {
        self->drained = true;
        put_plain (effects, TO_SHELL, MESSAGE_DRAINED);
    }
}

static void decision_handle (void *state, struct moment now, const struct message *message,
                             const struct effects *effects)
{
    struct decision *self = state;
    switch (message->id) {
    case MESSAGE_START:
        on_start (self, now, effects);
        break;
    case MESSAGE_RECORD:
        on_record (self, now, message, effects);
        break;
    case MESSAGE_RECALLED:
        on_recalled (self, message);
        break;
    case MESSAGE_OPEN:
        on_open (self, message, effects);
        break;
    case MESSAGE_OPENED:
        on_opened (self, message);
        break;
    case MESSAGE_EVENT:
        on_event (self, now, message, effects);
        break;
    case MESSAGE_META:
        on_meta (self, now, message, effects);
        break;
    case MESSAGE_META_WRITTEN:
        on_meta_written (self, now, message, effects);
        break;
    case MESSAGE_GIVEN:
        on_given (self, now, message, effects);
        break;
    case MESSAGE_RETRY:
        on_retry (self, now, message, effects);
        break;
    case MESSAGE_DROP:
        on_drop (self, now, message, effects);
        break;
    case MESSAGE_PEER:
        on_peer (self, now, message, effects);
        break;
    case MESSAGE_DRAIN:
        self->draining = true;
        break;
    case MESSAGE_TURN:
        on_turn (self, effects);
        return; /* a question to the journal would be answered only after the next */
    default:
        break;
    }
    recall_rest (self, effects);
}

const struct actor_spec decision_spec = {
    .role = ROLE_DECISION,
    .state_size = decision_state_size,
    .init = decision_init,
    .handle = decision_handle,
};
