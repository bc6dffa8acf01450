/*  core_harness.h - runs a core under a test: no sockets, no clock, no sleep.

    Hands messages to a core and records what it puts. Both ways everything is
    copied into memory of its own, each text in an allocation of its own size:
    what a core keeps of a message after `handle` returned, or reads beyond a
    view, is caught by the address sanitizer. A message that exceeds a limit of
    its table, as an effect, is a bug of the core and aborts at once.

    Time stands still until the test moves it. Timers are remembered, and
    harness_run fires them in the order of their times.

    Used by the unit tests of the cores and by their fuzzers; it knows neither
    cmocka nor libFuzzer.

        struct harness harness;
        harness_init (&harness, &some_spec, &settings);
        harness_start (&harness);
        const struct message *request = harness_take (&harness, MESSAGE_HTTP_REQUEST);
        …
        harness_free (&harness);
*/
#ifndef GUERDON_CORE_HARNESS_H
#define GUERDON_CORE_HARNESS_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/actor.h"
#include "proto/codec.h"
#include "proto/text.h"

/*  An effect, as a deep copy. */
struct recorded {
    struct address to;
    struct message *message; /* owned, with everything its views point to */
    bool taken;              /* harness_take handed it out */
};

/*  A core, its time, and what it has put so far. */
struct harness {
    const struct actor_spec *spec;
    struct settings settings;    /* the core's own copy */
    void *state;                 /* the core's, owned */
    struct moment now;           /* what the core is told */
    struct recorded *effects;    /* owned, in the order they were put */
    size_t count;                /* effects */
    size_t capacity;             /* effects there is room for */
    uint64_t timers[TIMERS_MAX]; /* steady ms at which each fires; 0: not set */
    struct effects sink;         /* what the core puts into */
    /*  Answers a RECALL with harness_handle: RECORDs, then RECALLED. NULL: the
        journal is empty. */
    void (*recall) (struct harness *harness, const struct recall *recall);
};

/*  The settings that most tests want; change what matters. */
static inline struct settings harness_settings (void)
{
    struct settings settings = {
        .app_1_name = "game-one",
        .app_2_name = "game-two",
        .reward_id = "promo1",
        .reward_amount = 10,
        .reward_currency = "gold",
        .events_client_id = "guerdon",
        .events_channel = "users/v1",
        .poll_timeout_ms = 60000,
        .gap_grace_ms = 2000,
        .find_grace_ms = 2000,
        .find_patience_ms = 60000,
        .http_timeout_ms = 10000,
        .window = 100,
        .statsd_prefix = "mailchimp.registrations.",
        .statsd = true,
        .hash_seed = 42,
    };
    return settings;
}

/*  ---- deep copies -------------------------------------------------------- */

static inline bool harness_is_view (const struct field_spec *field)
{
    return field->type == FIELD_TEXT || field->type == FIELD_RAW;
}

/*  The bytes of a TEXT or RAW field. */
static inline struct text harness_view (const struct message *message, const struct field_spec *field)
{
    const char *at = (const char *) message + field->offset;
    struct text text;
    if (field->type == FIELD_TEXT) {
        memcpy (&text, at, sizeof text);
        return text;
    }
    struct raw raw;
    memcpy (&raw, at, sizeof raw);
    return (struct text){ (const char *) raw.data, raw.size };
}

/*  Points a TEXT or RAW field at other bytes. */
static inline void harness_point (struct message *message, const struct field_spec *field, struct text bytes)
{
    char *at = (char *) message + field->offset;
    struct raw raw = { (const uint8_t *) bytes.data, bytes.size };
    if (field->type == FIELD_TEXT)
        memcpy (at, &bytes, sizeof bytes);
    else
        memcpy (at, &raw, sizeof raw);
}

static inline struct message *harness_copy (const struct message *message)
{
    const struct message_spec *spec = message_spec (message->id);
    assert (spec);
    struct message *copy = malloc (sizeof *copy);
    assert (copy);
    memcpy (copy, message, sizeof *copy);
    for (size_t i = 0; i < spec->count; i++) {
        if (!harness_is_view (&spec->fields[i]))
            continue;
        struct text view = harness_view (message, &spec->fields[i]);
        char *bytes = NULL;
        if (view.size) {
            bytes = malloc (view.size);
            assert (bytes && view.data);
            memcpy (bytes, view.data, view.size);
        }
        harness_point (copy, &spec->fields[i], (struct text){ bytes, view.size });
    }
    return copy;
}

static inline void harness_copy_free (struct message *copy)
{
    const struct message_spec *spec = message_spec (copy->id);
    for (size_t i = 0; i < spec->count; i++)
        if (harness_is_view (&spec->fields[i]))
            free ((char *) (uintptr_t) harness_view (copy, &spec->fields[i]).data);
    free (copy);
}

/*  What a message may hold by its table: a core that puts more has a bug. */
static inline void harness_check (const struct message *message)
{
    const struct message_spec *spec = message_spec (message->id);
    assert (spec);
    for (size_t i = 0; i < spec->count; i++) {
        const struct field_spec *field = &spec->fields[i];
        if (field->type == FIELD_UINT) {
            uint64_t uint;
            memcpy (&uint, (const char *) message + field->offset, sizeof uint);
            assert (uint <= field->max);
        }
        if (!harness_is_view (field))
            continue;
        struct text view = harness_view (message, field);
        assert (view.size <= field->max);
        if (field->type == FIELD_RAW && view.size)
            assert (raw_valid ((struct raw){ (const uint8_t *) view.data, view.size }));
    }
}

/*  ---- the sink ----------------------------------------------------------- */

static inline void harness_put (void *sink, struct address to, const struct message *message)
{
    struct harness *harness = sink;
    harness_check (message);
    if (harness->count == harness->capacity) {
        harness->capacity = harness->capacity ? harness->capacity * 2 : 64;
        harness->effects = realloc (harness->effects, harness->capacity * sizeof *harness->effects);
        assert (harness->effects);
    }
    harness->effects[harness->count++] = (struct recorded){ to, harness_copy (message), false };
    if (message->id == MESSAGE_SET_TIMER)
        harness->timers[message->set_timer.timer] = message->set_timer.at_ms;
}

/*  Makes a core. Time begins at an hour, steady, and in late 2026, wall. */
static inline void harness_init (struct harness *harness, const struct actor_spec *spec,
                                 const struct settings *settings)
{
    memset (harness, 0, sizeof *harness);
    harness->spec = spec;
    harness->settings = *settings;
    harness->now = (struct moment){ 3600000, 1795000000000 };
    harness->sink = (struct effects){ .put = harness_put, .sink = harness };
    size_t size = spec->state_size (&harness->settings);
    harness->state = calloc (1, size ? size : 1);
    assert (harness->state);
    spec->init (harness->state, &harness->settings);
}

/*  Forgets what was put so far; timers stay. Messages taken are gone. */
static inline void harness_clear (struct harness *harness)
{
    for (size_t i = 0; i < harness->count; i++)
        harness_copy_free (harness->effects[i].message);
    harness->count = 0;
}

static inline void harness_free (struct harness *harness)
{
    harness_clear (harness);
    free (harness->effects);
    free (harness->state);
    memset (harness, 0, sizeof *harness);
}

/*  ---- messages in -------------------------------------------------------- */

/*  Hands one message to the core. No TURN follows by itself. */
static inline void harness_handle (struct harness *harness, const struct message *message)
{
    struct message *copy = harness_copy (message);
    harness->spec->handle (harness->state, harness->now, copy, &harness->sink);
    harness_copy_free (copy);
}

/*  A message without fields that matter, from the shell. */
static inline void harness_plain (struct harness *harness, enum message_id id)
{
    harness_handle (harness, &(struct message){ .id = id, .from = TO_SHELL });
}

static inline struct recorded *harness_take_recorded (struct harness *harness, enum message_id id);

/*  Lets the journal answer what the core asked of it. */
static inline void harness_recall (struct harness *harness)
{
    struct recorded *asked;
    while ((asked = harness_take_recorded (harness, MESSAGE_RECALL))) {
        struct recall recall = asked->message->recall;
        struct message recalled = { .id = MESSAGE_RECALLED };
        recalled.recalled.which = recall.which;
        if (harness->recall)
            harness->recall (harness, &recall);
        else
            harness_handle (harness, &recalled);
    }
}

static inline void harness_turn (struct harness *harness)
{
    harness_recall (harness);
    harness_plain (harness, MESSAGE_TURN);
}

/*  START and its TURN. */
static inline void harness_start (struct harness *harness)
{
    harness_plain (harness, MESSAGE_START);
    harness_turn (harness);
}

/*  One message and its TURN. */
static inline void harness_deliver (struct harness *harness, const struct message *message)
{
    harness_handle (harness, message);
    harness_turn (harness);
}

/*  ---- time --------------------------------------------------------------- */

/*  Moves both clocks; fires nothing. */
static inline void harness_advance (struct harness *harness, uint64_t ms)
{
    harness->now.steady_ms += ms;
    harness->now.wall_ms += ms;
}

/*  The timer that is due first, or TIMERS_MAX when none is set. */
static inline size_t harness_next_timer (const struct harness *harness)
{
    size_t next = TIMERS_MAX;
    for (size_t i = 0; i < TIMERS_MAX; i++)
        if (harness->timers[i] && (next == TIMERS_MAX || harness->timers[i] < harness->timers[next]))
            next = i;
    return next;
}

/*  Fires the timer that is due first, at its time, with its TURN. False when
    none is set. */
static inline bool harness_fire (struct harness *harness)
{
    size_t timer = harness_next_timer (harness);
    if (timer == TIMERS_MAX)
        return false;
    if (harness->timers[timer] > harness->now.steady_ms)
        harness_advance (harness, harness->timers[timer] - harness->now.steady_ms);
    harness->timers[timer] = 0;
    harness_deliver (harness,
                     &(struct message){ .id = MESSAGE_TIMER, .from = TO_SHELL, .timer = { .timer = timer } });
    return true;
}

/*  Lets so much time pass and fires every timer on the way. A core that sets a
    timer to the past again and again is stopped: time would stand still. */
static inline void harness_run (struct harness *harness, uint64_t ms)
{
    uint64_t end = harness->now.steady_ms + ms;
    for (size_t fired = 0;; fired++) {
        size_t timer = harness_next_timer (harness);
        if (timer == TIMERS_MAX || harness->timers[timer] > end)
            break;
        assert (fired < 10 * ms + 1000);
        harness_fire (harness);
    }
    if (end > harness->now.steady_ms)
        harness_advance (harness, end - harness->now.steady_ms);
}

/*  ---- effects out -------------------------------------------------------- */

/*  The oldest effect of this id that was not taken yet, or NULL. Valid until
    harness_clear. */
static inline struct recorded *harness_take_recorded (struct harness *harness, enum message_id id)
{
    for (size_t i = 0; i < harness->count; i++) {
        struct recorded *effect = &harness->effects[i];
        if (!effect->taken && effect->message->id == id) {
            effect->taken = true;
            return effect;
        }
    }
    return NULL;
}

static inline const struct message *harness_take (struct harness *harness, enum message_id id)
{
    struct recorded *effect = harness_take_recorded (harness, id);
    return effect ? effect->message : NULL;
}

/*  Effects of this id that were not taken yet. */
static inline size_t harness_count (const struct harness *harness, enum message_id id)
{
    size_t count = 0;
    for (size_t i = 0; i < harness->count; i++)
        count += !harness->effects[i].taken && harness->effects[i].message->id == id;
    return count;
}

/*  Log lines of this level or worse, taken or not. */
static inline size_t harness_logs (const struct harness *harness, enum log_level level)
{
    size_t count = 0;
    for (size_t i = 0; i < harness->count; i++) {
        const struct message *message = harness->effects[i].message;
        count += message->id == MESSAGE_LOG && message->log.level >= level;
    }
    return count;
}

/*  True when the text is this string. */
static inline bool harness_says (struct text text, const char *string)
{
    return text_equal (text, text_of (string));
}

/*  True when the string stands somewhere in the text. */
static inline bool harness_mentions (struct text text, const char *string)
{
    size_t size = strlen (string);
    return size == 0 || (text.size >= size && memmem (text.data, text.size, string, size));
}

/*  Prints every effect on standard error, for whoever debugs a test. */
static inline void harness_print (const struct harness *harness)
{
    for (size_t i = 0; i < harness->count; i++) {
        const struct message *message = harness->effects[i].message;
        const struct message_spec *spec = message_spec (message->id);
        fprintf (stderr, "%s %s:", role_name (harness->effects[i].to.role), spec->name);
        for (size_t j = 0; j < spec->count; j++) {
            const struct field_spec *field = &spec->fields[j];
            if (field->type == FIELD_TEXT) {
                struct text view = harness_view (message, field);
                fprintf (stderr, " %s=\"%.*s\"", field->name, (int) view.size, view.data ? view.data : "");
            }
            if (field->type == FIELD_UINT) {
                uint64_t uint;
                memcpy (&uint, (const char *) message + field->offset, sizeof uint);
                fprintf (stderr, " %s=%llu", field->name, (unsigned long long) uint);
            }
        }
        fprintf (stderr, "\n");
    }
}

#endif
