/*  decision.c - the rule, one player at a time. See decision.h. */

#include "actors/decision/decision.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "include/effects.h"
#include "include/users.h"
#include "proto/raw.h"
#include "proto/text.h"

enum { INGESTS_MAX = 64, WORKERS_MAX = 16, NONE = -1 };

#define NOT_TOLD UINT32_MAX

/*  Where a player's first event stands. */
enum stage { STAGE_NEW, STAGE_READING, STAGE_MARKING, STAGE_GIVING };

static const char *const stage_names[] = { "new", "reading", "marking", "giving" };

/*  An event that is not settled. */
struct pending {
    uint64_t position;
    uint64_t trace;
    struct address ingest;
    bool old;              /* of a life of its ingest before this one, which has not asked for it yet */
    int32_t position_next; /* in its hash bucket of positions */
    int32_t next;          /* the same player's next event, or the next free one */
};

/*  An ingest that asked for credit. */
struct asker {
    struct address address;
    uint32_t old;  /* its events that are `old`: they take of its credit */
    uint32_t told; /* its credit as told last; NOT_TOLD before */
};

/*  Somebody with at least one event that is not settled. */
struct player {
    uint64_t hash;
    uint64_t request;    /* the one under way; answers to others are stale */
    int32_t bucket_next; /* in its hash bucket, or the next free player */
    int32_t first;       /* its events, oldest first: that one is decided */
    int32_t last;
    enum stage stage;
    bool rewarded; /* the marker is there: we saw it or wrote it */
};

struct decision {
    const struct settings *settings;
    struct text app_2_name;
    struct text reward_id;
    char marker_bytes[KEY_SIZE_MAX + 1]; /* "$reward$<id>" */
    char keys_bytes[KEYS_SIZE_MAX + 1];  /* "auth,$reward$<id>" */
    struct text marker;
    struct text keys;

    struct asker askers[INGESTS_MAX]; /* who asked for credit */
    unsigned asker_count;
    uint32_t usermeta_open; /* workers that can take work: bit 1 << worker each */
    uint32_t currency_open;
    bool draining;
    bool drained;

    uint32_t capacity;  /* events, and so players */
    uint32_t in_flight; /* events not settled */
    uint32_t reported;  /* in_flight as last told to the shell */
    uint64_t sequence;  /* of requests */

    uint32_t bucket_mask;
    int32_t *buckets;          /* of players */
    int32_t *position_buckets; /* of events */
    struct pending *events;
    struct player *players;
    int32_t free_event;
    int32_t free_player;
    struct users users; /* the player's id, by player */
};

static size_t round_up (size_t size)
{
    return (size + 15) & ~(size_t) 15;
}

static uint32_t bucket_count (uint32_t capacity)
{
    uint32_t count = 16;
    while (count < capacity * 2)
        count *= 2;
    return count;
}

static size_t decision_state_size (const struct settings *settings)
{
    uint32_t capacity = settings->window;
    return round_up (sizeof (struct decision)) + 2 * round_up (bucket_count (capacity) * sizeof (int32_t)) +
           round_up (capacity * sizeof (struct pending)) + round_up (capacity * sizeof (struct player)) +
           users_size (capacity);
}

static void decision_init (void *memory, const struct settings *settings)
{
    struct decision *self = memory;
    uint32_t capacity = settings->window;
    uint32_t buckets = bucket_count (capacity);
    self->settings = settings;
    self->capacity = capacity;
    self->bucket_mask = buckets - 1;
    self->app_2_name = text_of (settings->app_2_name);
    self->reward_id = text_of (settings->reward_id);
    snprintf (self->marker_bytes, sizeof self->marker_bytes, "$reward$%s", settings->reward_id);
    snprintf (self->keys_bytes, sizeof self->keys_bytes, "auth,$reward$%s", settings->reward_id);
    self->marker = text_of (self->marker_bytes);
    self->keys = text_of (self->keys_bytes);

    uint8_t *at = (uint8_t *) memory + round_up (sizeof *self);
    self->buckets = (int32_t *) (void *) at;
    at += round_up (buckets * sizeof (int32_t));
    self->position_buckets = (int32_t *) (void *) at;
    at += round_up (buckets * sizeof (int32_t));
    self->events = (struct pending *) (void *) at;
    at += round_up (capacity * sizeof (struct pending));
    self->players = (struct player *) (void *) at;
    at += round_up (capacity * sizeof (struct player));
    users_init (&self->users, at, capacity);

    /*  Answers to a life before this one must not be taken for answers to this
        one's requests, so their numbers begin anywhere. */
    self->sequence = settings->hash_seed >> 24;
    memset (self->buckets, 0xff, buckets * sizeof (int32_t));
    memset (self->position_buckets, 0xff, buckets * sizeof (int32_t));
    for (uint32_t i = 0; i < capacity; i++) {
        self->events[i].next = i + 1 < capacity ? (int32_t) i + 1 : NONE;
        self->players[i].bucket_next = self->events[i].next;
    }
}

/*  ---- the store of players ----------------------------------------------- */

static int32_t player_find (const struct decision *self, struct text user, uint64_t hash)
{
    int32_t at = self->buckets[hash & self->bucket_mask];
    while (at != NONE) {
        const struct player *player = &self->players[at];
        if (player->hash == hash && text_equal (users_get (&self->users, (uint32_t) at), user))
            return at;
        at = player->bucket_next;
    }
    return NONE;
}

static int32_t player_add (struct decision *self, struct text user, uint64_t hash)
{
    int32_t at = self->free_player;
    assert (at != NONE); /* there are as many as events */
    struct player *player = &self->players[at];
    self->free_player = player->bucket_next;
    *player = (struct player){ .hash = hash, .first = NONE, .last = NONE };
    player->bucket_next = self->buckets[hash & self->bucket_mask];
    self->buckets[hash & self->bucket_mask] = at;
    users_put (&self->users, (uint32_t) at, user);
    return at;
}

static void player_remove (struct decision *self, int32_t at)
{
    struct player *player = &self->players[at];
    int32_t *link = &self->buckets[player->hash & self->bucket_mask];
    while (*link != at)
        link = &self->players[*link].bucket_next;
    *link = player->bucket_next;
    player->request = 0;
    player->bucket_next = self->free_player;
    self->free_player = at;
}

/*  The player whose request this answers, or NONE for a stale answer. */
static int32_t player_of_request (const struct decision *self, uint64_t request, enum stage stage)
{
    uint32_t at = (uint32_t) (request % self->capacity);
    const struct player *player = &self->players[at];
    return request && player->request == request && player->stage == stage ? (int32_t) at : NONE;
}

/*  ---- the store of events ------------------------------------------------ */

static bool same_address (struct address a, struct address b)
{
    return a.role == b.role && a.peer == b.peer;
}

static int32_t *position_bucket (const struct decision *self, uint64_t position)
{
    return &self->position_buckets[position * UINT64_C (0x9e3779b97f4a7c15) >> 32 & self->bucket_mask];
}

static struct asker *asker_find (struct decision *self, struct address address)
{
    for (unsigned i = 0; i < self->asker_count; i++)
        if (same_address (self->askers[i].address, address))
            return &self->askers[i];
    return NULL;
}

/*  Says whether an event belongs to an earlier life of its ingest. */
static void event_age (struct decision *self, struct pending *event, bool old)
{
    struct asker *asker = asker_find (self, event->ingest);
    if (!asker || event->old == old)
        return;
    event->old = old;
    if (old)
        asker->old++;
    else
        asker->old--;
}

/*  The event when it is being decided already, or NONE: whoever sent it may have
    come back without its memory, and have read it again. */
static int32_t event_find (const struct decision *self, const struct message *message)
{
    int32_t at = *position_bucket (self, message->event.position);
    while (at != NONE) {
        const struct pending *event = &self->events[at];
        if (event->position == message->event.position && same_address (event->ingest, message->from))
            return at;
        at = event->position_next;
    }
    return NONE;
}

static void event_unlink (struct decision *self, int32_t at)
{
    int32_t *link = position_bucket (self, self->events[at].position);
    while (*link != at)
        link = &self->events[*link].position_next;
    *link = self->events[at].position_next;
}

static void event_append (struct decision *self, int32_t player_at, const struct message *message)
{
    int32_t at = self->free_event;
    struct pending *event = &self->events[at];
    struct player *player = &self->players[player_at];
    self->free_event = event->next;
    *event = (struct pending){
        .position = message->event.position, .trace = message->trace, .ingest = message->from, .next = NONE
    };
    event->position_next = *position_bucket (self, event->position);
    *position_bucket (self, event->position) = at;
    if (player->last == NONE)
        player->first = at;
    else
        self->events[player->last].next = at;
    player->last = at;
    self->in_flight++;
}

/*  ---- asking and settling ------------------------------------------------ */

static void settle (const struct effects *effects, struct address ingest, uint64_t position, uint64_t trace,
                    enum outcome outcome)
{
    struct message settled = { .id = MESSAGE_SETTLED, .trace = trace };
    settled.settled.position = position;
    settled.settled.outcome = outcome;
    put (effects, ingest, &settled);
}

static uint64_t next_request (struct decision *self, int32_t at)
{
    self->sequence++;
    return self->sequence * self->capacity + (uint64_t) at;
}

/*  What a log line about the player's first event is about. */
static struct about about_player (const struct decision *self, int32_t at)
{
    const struct pending *event = &self->events[self->players[at].first];
    return (struct about){ .trace = event->trace,
                           .position = event->position,
                           .user = users_get (&self->users, (uint32_t) at) };
}

static void player_stage (struct decision *self, int32_t at, enum stage stage, const struct effects *effects)
{
    struct player *player = &self->players[at];
    put_log (effects, LOG_TRACE, about_player (self, at), "%s -> %s", stage_names[player->stage],
             stage_names[stage]);
    player->stage = stage;
    player->request = next_request (self, at);
}

/*  Which worker a player's requests go to. */
static struct address worker_of (const struct decision *self, int32_t at, enum role role)
{
    uint16_t count =
        role == ROLE_USERMETA_CLIENT ? self->settings->usermeta_clients : self->settings->currency_clients;
    return (struct address){ role, count > 1 ? (uint16_t) (self->players[at].hash % count) : 0 };
}

static void ask_read (struct decision *self, int32_t at, const struct effects *effects)
{
    player_stage (self, at, STAGE_READING, effects);
    struct message read = { .id = MESSAGE_READ_META, .trace = self->events[self->players[at].first].trace };
    read.read_meta.request = self->players[at].request;
    read.read_meta.user = users_get (&self->users, (uint32_t) at);
    read.read_meta.keys = self->keys;
    put (effects, worker_of (self, at, ROLE_USERMETA_CLIENT), &read);
}

static void remember (const struct decision *self, int32_t at, enum grant_state state, struct moment now,
                      const struct effects *effects)
{
    const struct pending *event = &self->events[self->players[at].first];
    struct message record = { .id = MESSAGE_REMEMBER, .trace = event->trace };
    record.remember.position = event->position;
    record.remember.user = users_get (&self->users, (uint32_t) at);
    record.remember.reward = self->reward_id;
    record.remember.state = state;
    record.remember.at_ms = now.wall_ms;
    put (effects, TO_SHELL, &record);
}

static void ask_mark (struct decision *self, int32_t at, struct moment now, const struct effects *effects)
{
    char value[24];
    struct builder text;
    builder_init (&text, value, sizeof value);
    builder_uint (&text, now.wall_ms);

    player_stage (self, at, STAGE_MARKING, effects);
    struct message write = { .id = MESSAGE_WRITE_META, .trace = self->events[self->players[at].first].trace };
    write.write_meta.request = self->players[at].request;
    write.write_meta.user = users_get (&self->users, (uint32_t) at);
    write.write_meta.key = self->marker;
    write.write_meta.value = builder_text (&text);
    put (effects, worker_of (self, at, ROLE_USERMETA_CLIENT), &write);
}

static void ask_give (struct decision *self, int32_t at, const struct effects *effects)
{
    player_stage (self, at, STAGE_GIVING, effects);
    struct message give = { .id = MESSAGE_GIVE, .trace = self->events[self->players[at].first].trace };
    give.give.request = self->players[at].request;
    give.give.user = users_get (&self->users, (uint32_t) at);
    give.give.amount = self->settings->reward_amount;
    give.give.currency = text_of (self->settings->reward_currency);
    give.give.reward = self->reward_id;
    put (effects, worker_of (self, at, ROLE_CURRENCY_CLIENT), &give);
}

/*  Settles the player's first event and takes it off. */
static void settle_first (struct decision *self, int32_t at, enum outcome outcome,
                          const struct effects *effects)
{
    struct player *player = &self->players[at];
    int32_t event_at = player->first;
    struct pending *event = &self->events[event_at];
    settle (effects, event->ingest, event->position, event->trace, outcome);
    event_age (self, event, false);
    event_unlink (self, event_at);
    player->first = event->next;
    if (player->first == NONE)
        player->last = NONE;
    event->next = self->free_event;
    self->free_event = event_at;
    self->in_flight--;
}

/*  The player's first event is finished: settle it and see to those behind. */
static void finish (struct decision *self, int32_t at, enum outcome outcome, const struct effects *effects)
{
    settle_first (self, at, outcome, effects);
    const struct player *player = &self->players[at];
    while (player->rewarded && player->first != NONE) {
        put_log (effects, LOG_INFO, about_player (self, at), "ignored: already rewarded with %s",
                 self->settings->reward_id);
        settle_first (self, at, OUTCOME_IGNORED, effects);
    }
    if (player->first == NONE)
        player_remove (self, at);
    else
        ask_read (self, at, effects);
}

/*  ---- messages ----------------------------------------------------------- */

/*  What the rule says of an event by itself, before anything is read. */
struct verdict {
    bool due; /* the player is to be looked up */
    enum outcome outcome;
    const char *reason; /* NULL: not worth a log line */
    struct text user;
};

static struct verdict no (enum outcome outcome, const char *reason)
{
    return (struct verdict){ false, outcome, reason, NO_TEXT };
}

static struct verdict judge (const struct decision *self, const struct event *event)
{
    static const char *const data_faults[] = {
        [FAULT_DATA_SIZE] = "data is larger than 64 kB",
        [FAULT_DATA_KEYS] = "data has a container of more than 1024 entries",
        [FAULT_DATA_DEPTH] = "data is nested deeper than 32 levels",
    };
    if (event->fault == FAULT_NAME)
        return no (OUTCOME_IGNORED, "from or type is not a usable string");
    if (!text_equal (event->type, TEXT_LITERAL ("LOGIN")) || !text_equal (event->source, self->app_2_name))
        return no (OUTCOME_IGNORED, NULL);
    if (event->fault != FAULT_NONE)
        return no (OUTCOME_FAILURE, data_faults[event->fault]);

    struct raw found;
    struct value value;
    if (!raw_path (event->data, "userId", &found) || !raw_value (found, &value))
        return no (OUTCOME_IGNORED, "data.userId is missing");
    if (value.type == VALUE_EXT)
        return no (OUTCOME_FAILURE, "data.userId is too long");
    if (value.type != VALUE_TEXT || value.text.size == 0)
        return no (OUTCOME_IGNORED, "data.userId is not a non-empty string");
    if (value.text.size > USER_SIZE_MAX)
        return no (OUTCOME_FAILURE, "data.userId is longer than 8000 bytes");
    if (!text_is_utf8 (value.text))
        return no (OUTCOME_FAILURE, "data.userId is not UTF-8");
    return (struct verdict){ true, OUTCOME_IGNORED, NULL, value.text };
}

static void on_event (struct decision *self, const struct message *message, const struct effects *effects)
{
    const struct event *event = &message->event;
    struct verdict verdict = judge (self, event);
    if (!verdict.due) {
        if (verdict.reason)
            put_log (effects, LOG_WARN, (struct about){ message->trace, event->position, NO_TEXT }, "%s: %s",
                     outcome_name (verdict.outcome), verdict.reason);
        settle (effects, message->from, event->position, message->trace, verdict.outcome);
        return;
    }
    int32_t known = event_find (self, message);
    if (known != NONE) {
        event_age (self, &self->events[known], false);
        return;
    }
    if (self->free_event == NONE) {
        put_log (effects, LOG_ERROR, (struct about){ message->trace, event->position, NO_TEXT },
                 "dropped: more events than the credit of %" PRIu32, self->capacity);
        return;
    }
    uint64_t hash = text_hash (verdict.user, self->settings->hash_seed);
    int32_t at = player_find (self, verdict.user, hash);
    bool idle = at == NONE;
    if (idle)
        at = player_add (self, verdict.user, hash);
    event_append (self, at, message);
    if (idle)
        ask_read (self, at, effects);
}

/*  Whether a value is there and true. Usermeta holds strings, of which only the
    empty one is false; should it ever answer with something else, what would be
    true in JavaScript is true, so that no marker is overlooked. */
static bool is_true (struct raw values, struct text name, struct text *text)
{
    struct raw found;
    struct value value;
    if (!raw_find (values, name, &found) || !raw_value (found, &value))
        return false;
    *text = value.type == VALUE_TEXT ? value.text : TEXT_LITERAL ("not a string");
    switch (value.type) {
    case VALUE_NIL:
        return false;
    case VALUE_BOOL:
        return value.boolean;
    case VALUE_UINT:
        return value.uint != 0;
    case VALUE_TEXT:
        return value.text.size != 0;
    default:
        return true;
    }
}

static void on_meta (struct decision *self, struct moment now, const struct message *message,
                     const struct effects *effects)
{
    int32_t at = player_of_request (self, message->meta.request, STAGE_READING);
    if (at == NONE)
        return;
    struct about about = about_player (self, at);
    if (message->meta.result != RESULT_OK) {
        put_log (effects, LOG_ERROR, about, "failure: usermeta cannot be read: %.*s",
                 (int) message->meta.reason.size, message->meta.reason.data);
        finish (self, at, OUTCOME_FAILURE, effects);
        return;
    }
    struct text marker = NO_TEXT;
    struct text auth = NO_TEXT;
    if (is_true (message->meta.values, self->marker, &marker)) {
        self->players[at].rewarded = true;
        put_log (effects, LOG_INFO, about, "ignored: already rewarded with %s (marker %.*s)",
                 self->settings->reward_id, marker.size > 40 ? 40 : (int) marker.size, marker.data);
        finish (self, at, OUTCOME_IGNORED, effects);
    } else if (!is_true (message->meta.values, TEXT_LITERAL ("auth"), &auth)) {
        put_log (effects, LOG_INFO, about, "ignored: no auth at %s, so not one of its players",
                 self->settings->app_1_name);
        finish (self, at, OUTCOME_IGNORED, effects);
    } else {
        remember (self, at, GRANT_INTENDED, now, effects);
        ask_mark (self, at, now, effects);
    }
}

static void on_meta_written (struct decision *self, struct moment now, const struct message *message,
                             const struct effects *effects)
{
    int32_t at = player_of_request (self, message->meta_written.request, STAGE_MARKING);
    if (at == NONE)
        return;
    if (message->meta_written.result != RESULT_OK) {
        put_log (effects, LOG_ERROR, about_player (self, at), "failure: the marker cannot be written: %.*s",
                 (int) message->meta_written.reason.size, message->meta_written.reason.data);
        remember (self, at, GRANT_REFUSED, now, effects);
        finish (self, at, OUTCOME_FAILURE, effects);
        return;
    }
    self->players[at].rewarded = true;
    ask_give (self, at, effects);
}

static void on_given (struct decision *self, struct moment now, const struct message *message,
                      const struct effects *effects)
{
    int32_t at = player_of_request (self, message->given.request, STAGE_GIVING);
    if (at == NONE)
        return;
    struct about about = about_player (self, at);
    if (message->given.result != RESULT_OK) {
        put_log (effects, LOG_ERROR, about, "failure: the reward was refused: %.*s",
                 (int) message->given.reason.size, message->given.reason.data);
        remember (self, at, GRANT_REFUSED, now, effects);
        finish (self, at, OUTCOME_FAILURE, effects);
        return;
    }
    put_log (effects, LOG_INFO, about, "success: rewarded with %" PRId64 " %s (%s)",
             self->settings->reward_amount, self->settings->reward_currency, self->settings->reward_id);
    remember (self, at, GRANT_GIVEN, now, effects);
    finish (self, at, OUTCOME_SUCCESS, effects);
}

/*  ---- credit, start, drain ----------------------------------------------- */

/*  Whether every worker of a role has opened. */
static bool all_open (uint32_t open, uint16_t count)
{
    uint32_t all = count > 1 ? (1u << count) - 1 : 1;
    return (open & all) == all;
}

static bool is_open (const struct decision *self)
{
    return all_open (self->usermeta_open, self->settings->usermeta_clients) &&
           all_open (self->currency_open, self->settings->currency_clients);
}

/*  What is left for an ingest besides the events of its earlier life. */
static uint32_t credit_of (const struct decision *self, const struct asker *asker)
{
    return self->draining ? 0 : self->capacity - asker->old;
}

static void tell_credit (const struct decision *self, struct asker *asker, const struct effects *effects)
{
    struct message credit = { .id = MESSAGE_CREDIT };
    asker->told = credit_of (self, asker);
    credit.credit.capacity = asker->told;
    credit.credit.type = TEXT_LITERAL ("LOGIN");
    credit.credit.source = self->app_2_name;
    put (effects, asker->address, &credit);
}

static void tell_credit_to_all (struct decision *self, const struct effects *effects)
{
    for (unsigned i = 0; i < self->asker_count; i++)
        tell_credit (self, &self->askers[i], effects);
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
        *asker = (struct asker){ .address = message->from, .told = NOT_TOLD };
    }
    if (is_open (self))
        tell_credit (self, asker, effects);
}

static void on_opened (struct decision *self, const struct message *message, const struct effects *effects)
{
    bool was_open = is_open (self);
    if (message->from.peer >= WORKERS_MAX)
        return;
    if (message->from.role == ROLE_USERMETA_CLIENT)
        self->usermeta_open |= 1u << message->from.peer;
    if (message->from.role == ROLE_CURRENCY_CLIENT)
        self->currency_open |= 1u << message->from.peer;
    if (!was_open && is_open (self))
        tell_credit_to_all (self, effects);
}

/*  Asks the players' questions again that a worker has forgotten. Reading and
    marking may be repeated at will; a reward is repeated as after any answer
    that did not come. */
static void ask_again (struct decision *self, struct address worker, struct moment now,
                       const struct effects *effects)
{
    for (uint32_t i = 0; i < self->capacity; i++) {
        int32_t at = (int32_t) i;
        const struct player *player = &self->players[i];
        enum role role = player->stage == STAGE_GIVING ? ROLE_CURRENCY_CLIENT : ROLE_USERMETA_CLIENT;
        if (!player->request || !same_address (worker_of (self, at, role), worker))
            continue;
        if (player->stage == STAGE_READING)
            ask_read (self, at, effects);
        else if (player->stage == STAGE_MARKING)
            ask_mark (self, at, now, effects);
        else
            ask_give (self, at, effects);
    }
}

/*  An ingest has forgotten the events it handed on. They are decided all the same,
    and until it asks for them again it can hand on only as many others as there
    is room for besides. */
static void grow_old (struct decision *self, struct address ingest)
{
    for (uint32_t i = 0; i < self->capacity; i++) {
        int32_t at = self->players[i].request ? self->players[i].first : NONE;
        for (; at != NONE; at = self->events[at].next)
            if (same_address (self->events[at].ingest, ingest))
                event_age (self, &self->events[at], true);
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

static void on_start (const struct decision *self, const struct effects *effects)
{
    for (uint16_t i = 0; i == 0 || i < self->settings->usermeta_clients; i++)
        put_plain (effects, (struct address){ ROLE_USERMETA_CLIENT, i }, MESSAGE_OPEN);
    for (uint16_t i = 0; i == 0 || i < self->settings->currency_clients; i++)
        put_plain (effects, (struct address){ ROLE_CURRENCY_CLIENT, i }, MESSAGE_OPEN);
}

static void on_drain (struct decision *self, const struct effects *effects)
{
    self->draining = true;
    tell_credit_to_all (self, effects);
}

static void on_turn (struct decision *self, const struct effects *effects)
{
    for (unsigned i = 0; i < self->asker_count; i++)
        if (self->askers[i].told != NOT_TOLD && self->askers[i].told != credit_of (self, &self->askers[i]))
            tell_credit (self, &self->askers[i], effects);
    if (self->reported != self->in_flight) {
        self->reported = self->in_flight;
        put_gauge (effects, GAUGE_IN_FLIGHT, self->in_flight);
    }
    if (self->draining && !self->drained && self->in_flight == 0) {
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
        on_start (self, effects);
        break;
    case MESSAGE_OPEN:
        on_open (self, message, effects);
        break;
    case MESSAGE_OPENED:
        on_opened (self, message, effects);
        break;
    case MESSAGE_EVENT:
        on_event (self, message, effects);
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
    case MESSAGE_PEER:
        on_peer (self, now, message, effects);
        break;
    case MESSAGE_DRAIN:
        on_drain (self, effects);
        break;
    case MESSAGE_TURN:
        on_turn (self, effects);
        break;
    default:
        break;
    }
}

const struct actor_spec decision_spec = {
    .role = ROLE_DECISION,
    .state_size = decision_state_size,
    .init = decision_init,
    .handle = decision_handle,
};
