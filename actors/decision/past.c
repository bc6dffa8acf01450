/*  past.c - the newest grants that came to an end. See past.h. */

#include "actors/decision/past.h"

#include <assert.h>

static size_t round_up (size_t size)
{
    return (size + 15) & ~(size_t) 15;
}

static uint32_t bucket_count (uint32_t capacity)
{
    uint32_t count = 16;
    while (count < capacity)
        count *= 2;
    return count;
}

size_t past_size (uint32_t capacity)
{
    return round_up (capacity * sizeof (struct past_grant)) +
           round_up (bucket_count (capacity) * sizeof (uint32_t));
}

void past_init (struct past *past, void *memory, uint32_t capacity)
{
    assert (memory && capacity > 0);
    *past = (struct past){ .ring = memory, .capacity = capacity };
    past->bucket_mask = bucket_count (capacity) - 1;
    past->buckets =
        (uint32_t *) (void *) ((uint8_t *) memory + round_up (capacity * sizeof (struct past_grant)));
}

static uint32_t *bucket_of (const struct past *past, uint64_t key)
{
    return &past->buckets[key & past->bucket_mask];
}

/*  Takes the grant at a place out of its bucket. */
static void unlink_place (struct past *past, uint32_t place)
{
    uint32_t *link = bucket_of (past, past->ring[place].key);
    while (*link != place + 1)
        link = &past->ring[*link - 1].next;
    *link = past->ring[place].next;
}

static void put_at (struct past *past, uint32_t place, const struct past_grant *grant)
{
    struct past_grant *at = &past->ring[place];
    if (at->grant) {
        unlink_place (past, place);
        if (at->ended_ms > past->forgotten_ms)
            past->forgotten_ms = at->ended_ms;
    }
    uint32_t *bucket = bucket_of (past, grant->key);
    *at = *grant;
    at->next = *bucket;
    *bucket = place + 1;
}

void past_recall (struct past *past, const struct past_grant *grant)
{
    assert (grant->grant && past->place == 0);
    /*  From the end of the ring downwards: the oldest is the first that is pushed
        out when the ring has come round. */
    if (past->recalled == past->capacity)
        return;
    put_at (past, past->capacity - ++past->recalled, grant);
}

void past_note (struct past *past, const struct past_grant *grant)
{
    assert (grant->grant);
    struct past_grant *known = past_find (past, grant->key, grant->grant);
    if (known) {
        known->state = grant->state;
        known->ended_ms = grant->ended_ms;
        return;
    }
    put_at (past, past->place, grant);
    past->place = past->place + 1 == past->capacity ? 0 : past->place + 1;
}

struct past_grant *past_find (const struct past *past, uint64_t key, uint64_t grant)
{
    for (uint32_t at = *bucket_of (past, key); at; at = past->ring[at - 1].next)
        if (past->ring[at - 1].key == key && past->ring[at - 1].grant == grant)
            return &past->ring[at - 1];
    return NULL;
}

struct past_view past_look (const struct past *past, uint64_t key, uint64_t position, int64_t timestamp)
{
    struct past_view view = { .ended_ms = past->forgotten_ms };
    uint64_t own = 0;
    for (uint32_t at = *bucket_of (past, key); at; at = past->ring[at - 1].next) {
        const struct past_grant *grant = &past->ring[at - 1];
        if (grant->key != key)
            continue;
        view.known = true;
        /*  What was dropped may have been uncertain before. */
        view.tried |= grant->state != GRANT_REFUSED;
        if (grant->ended_ms > view.ended_ms)
            view.ended_ms = grant->ended_ms;
        if (grant->position != position || grant->timestamp != timestamp || grant->grant < own)
            continue;
        own = grant->grant; /* an event that was decided twice: the later one counts */
        view.own = true;
        view.own_state = grant->state;
    }
    return view;
}
