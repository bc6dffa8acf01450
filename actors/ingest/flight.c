/*  flight.c - the events in flight. See flight.h. */

#include "actors/ingest/flight.h"

#include <assert.h>

#include "include/mistake.h"

static struct flight_entry *entry_at (const struct flight *flight, uint32_t index)
{
    uint32_t place = flight->head + index;
    if (place >= flight->capacity)
        place -= flight->capacity;
    return &flight->entries[place];
}

/*  The index of the first event at or above a position. Ids are whole numbers and few
    are missing, so it is mostly where it would be without gaps, and never behind. */
static uint32_t lower_bound (const struct flight *flight, uint64_t position)
{
    if (flight->count == 0 || position > flight->seen)
        return flight->count;
    uint64_t oldest = entry_at (flight, 0)->position;
    if (position <= oldest)
        return 0;
    uint32_t high = position - oldest < flight->count ? (uint32_t) (position - oldest) : flight->count;
    if (entry_at (flight, high - 1)->position < position)
        return high;
    uint32_t low = 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (entry_at (flight, middle)->position < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void set_gap (struct flight *flight, struct flight_entry *entry, bool gap)
{
    if (entry->gap == gap)
        return;
    entry->gap = gap;
    if (gap)
        flight->gaps++;
    else
        flight->gaps--;
}

/*  Moves the settled position over every event at the front that is settled
    and has no gap below it. */
static void advance (struct flight *flight)
{
    while (flight->count) {
        const struct flight_entry *entry = entry_at (flight, 0);
        if (!entry->settled || entry->gap)
            return;
        flight->passed -= entry->passed;
        flight->ack = entry->position;
        flight->has_ack = true;
        flight->head = flight->head + 1 == flight->capacity ? 0 : flight->head + 1;
        flight->count--;
    }
}

void flight_init (struct flight *flight, struct flight_entry *entries, uint32_t capacity, uint32_t held_max)
{
    assert (held_max > 0 && held_max <= capacity);
    *flight = (struct flight){ .entries = entries, .capacity = capacity, .held_max = held_max };
}

uint32_t flight_held (const struct flight *flight)
{
    return flight->count - flight->passed;
}

/*  Whether an id is missing between an event and what lies below it. */
static bool gap_below (const struct flight *flight, uint32_t index, uint64_t position)
{
    if (MISTAKE (GAP_IGNORED))
        return false;
    if (index > 0)
        return entry_at (flight, index - 1)->position + 1 != position;
    if (flight->has_ack)
        return flight->ack + 1 != position;
    return position > 1; /* ids count from 1; what was settled before us is unknown */
}

enum flight_add flight_add (struct flight *flight, uint64_t position, uint64_t now_ms)
{
    if (flight->has_ack && position <= flight->ack)
        return FLIGHT_BEHIND;
    uint32_t index = lower_bound (flight, position);
    if (index < flight->count && entry_at (flight, index)->position == position)
        return FLIGHT_KNOWN;
    if (flight->count == flight->capacity || flight_held (flight) >= flight->held_max)
        return FLIGHT_FULL;

    for (uint32_t i = flight->count; i > index; i--)
        *entry_at (flight, i) = *entry_at (flight, i - 1);
    flight->count++;
    flight->unsettled++;
    struct flight_entry *entry = entry_at (flight, index);
    *entry = (struct flight_entry){ .position = position, .seen_ms = now_ms };
    set_gap (flight, entry, gap_below (flight, index, position));
    if (index + 1 < flight->count) {
        struct flight_entry *above = entry_at (flight, index + 1);
        set_gap (flight, above, above->gap && position + 1 != above->position);
    }
    if (position > flight->seen)
        flight->seen = position;
    return FLIGHT_ADDED;
}

static void settle (struct flight *flight, struct flight_entry *entry)
{
    assert (!entry->settled);
    flight_wait (flight, entry, false);
    entry->settled = true;
    flight->unsettled--;
    advance (flight);
}

bool flight_settle (struct flight *flight, uint64_t position)
{
    uint32_t index = lower_bound (flight, position);
    if (index == flight->count)
        return false;
    struct flight_entry *entry = entry_at (flight, index);
    if (entry->position != position || entry->settled)
        return false;
    settle (flight, entry);
    return true;
}

void flight_pass (struct flight *flight, struct flight_entry *entry)
{
    entry->passed = true;
    flight->passed++;
    settle (flight, entry);
}

void flight_close_gaps (struct flight *flight, uint64_t above, uint64_t position, uint64_t seen_ms)
{
    for (uint32_t i = 0; i < flight->count && flight->gaps; i++) {
        struct flight_entry *entry = entry_at (flight, i);
        if (entry->position > position)
            break;
        if (entry->position > above && entry->seen_ms <= seen_ms)
            set_gap (flight, entry, false);
    }
    advance (flight);
}

bool flight_forget_highest (struct flight *flight)
{
    if (flight->count < 2)
        return false;
    struct flight_entry *entry = entry_at (flight, flight->count - 1);
    if (!entry->settled)
        return false;
    set_gap (flight, entry, false);
    flight->passed -= entry->passed;
    flight->count--;
    flight->seen = entry_at (flight, flight->count - 1)->position;
    return true;
}

const struct flight_entry *flight_first_gap (const struct flight *flight, uint64_t *below, bool *has_below)
{
    if (!flight->gaps)
        return NULL;
    for (uint32_t i = 0; i < flight->count; i++) {
        const struct flight_entry *entry = entry_at (flight, i);
        if (!entry->gap)
            continue;
        *has_below = i > 0 || flight->has_ack;
        *below = i > 0 ? entry_at (flight, i - 1)->position : flight->ack;
        return entry;
    }
    return NULL;
}

bool flight_oldest (const struct flight *flight, uint64_t *seen_ms)
{
    for (uint32_t i = 0; flight->unsettled && i < flight->count; i++) {
        const struct flight_entry *entry = entry_at (flight, i);
        if (entry->settled)
            continue;
        *seen_ms = entry->seen_ms;
        return true;
    }
    return false;
}

struct flight_entry *flight_find (const struct flight *flight, uint64_t position)
{
    uint32_t index = lower_bound (flight, position);
    if (index == flight->count)
        return NULL;
    struct flight_entry *entry = entry_at (flight, index);
    return entry->position == position ? entry : NULL;
}

void flight_wait (struct flight *flight, struct flight_entry *entry, bool waiting)
{
    if (entry->waiting == waiting)
        return;
    assert (!entry->settled);
    entry->waiting = waiting;
    if (waiting)
        flight->waiting++;
    else
        flight->waiting--;
}

void flight_take_back (struct flight *flight, uint8_t shard)
{
    for (uint32_t i = 0; i < flight->count; i++) {
        struct flight_entry *entry = entry_at (flight, i);
        if (!entry->settled && entry->shard == shard)
            flight_wait (flight, entry, true);
    }
}

const struct flight_entry *flight_first_waiting (const struct flight *flight, uint32_t shards,
                                                 uint64_t *below, bool *has_below)
{
    for (uint32_t i = 0; flight->waiting && i < flight->count; i++) {
        const struct flight_entry *entry = entry_at (flight, i);
        if (!entry->waiting || !(shards & 1u << entry->shard))
            continue;
        *has_below = i > 0 || flight->has_ack;
        *below = i > 0 ? entry_at (flight, i - 1)->position : flight->ack;
        return entry;
    }
    return NULL;
}
