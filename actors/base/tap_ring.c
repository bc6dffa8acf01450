/*  tap_ring.c - see tap_ring.h. Positions only grow; what they name in memory is
    their rest by its size. */

#include "actors/base/tap_ring.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    ALIGNMENT = 8,
    HEAD_SIZE = 8, /* in front of each record: its size, */
    LINE_SIZE = 64 /* of a cache: what two threads write stands apart */
};

/*  … or that: what follows up to the end of memory is no record. */
static const uint64_t skipped = UINT64_MAX;

struct tap_ring {
    size_t capacity;
    uint8_t *memory; /* made by the writer, before anything is written */
    uint64_t room;   /* the writer's: where the room is that it was given last */
    uint64_t seen;   /* the writer's: how far it knows the reader to be */
    _Alignas(LINE_SIZE) _Atomic uint64_t written;
    _Alignas(LINE_SIZE) _Atomic uint64_t read;
};

struct tap_ring *tap_ring_new (size_t capacity)
{
    assert (capacity >= 2 * HEAD_SIZE && (capacity & (capacity - 1)) == 0);
    struct tap_ring *ring = aligned_alloc (LINE_SIZE, sizeof *ring);
    if (!ring)
        return NULL;
    *ring = (struct tap_ring){ .capacity = capacity };
    return ring;
}

void tap_ring_destroy (struct tap_ring **ring)
{
    if (!*ring)
        return;
    free ((*ring)->memory);
    free (*ring);
    *ring = NULL;
}

/*  With its head, and up to the next record. */
static size_t whole_size (size_t size)
{
    return (HEAD_SIZE + size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static uint64_t *head_at (struct tap_ring *ring, uint64_t position)
{
    return (uint64_t *) (void *) (ring->memory + position % ring->capacity);
}

/*  Whether there is room for so many bytes behind that position. */
static bool is_free (struct tap_ring *ring, uint64_t position, size_t size)
{
    if (position + size - ring->seen <= ring->capacity)
        return true;
    ring->seen = atomic_load_explicit (&ring->read, memory_order_acquire);
    return position + size - ring->seen <= ring->capacity;
}

void *tap_ring_room (struct tap_ring *ring, size_t size)
{
    const size_t whole = whole_size (size);
    if (!ring->memory)
        ring->memory = malloc (ring->capacity);
    if (!ring->memory || whole > ring->capacity)
        return NULL;
    uint64_t written = atomic_load_explicit (&ring->written, memory_order_relaxed);
    size_t left = ring->capacity - written % ring->capacity;
    bool skips = whole > left;
    if (!is_free (ring, written, skips ? left + whole : whole))
        return NULL;
    if (skips)
        *head_at (ring, written) = skipped;
    ring->room = skips ? written + left : written;
    return head_at (ring, ring->room) + 1;
}

void tap_ring_put (struct tap_ring *ring, size_t size)
{
    *head_at (ring, ring->room) = size;
    atomic_store_explicit (&ring->written, ring->room + whole_size (size), memory_order_release);
}

uint64_t tap_ring_end (const struct tap_ring *ring)
{
    return atomic_load_explicit (&ring->written, memory_order_acquire);
}

const void *tap_ring_first (struct tap_ring *ring, uint64_t end, size_t *size)
{
    uint64_t read = atomic_load_explicit (&ring->read, memory_order_relaxed);
    if (read == end)
        return NULL;
    if (*head_at (ring, read) == skipped) {
        read += ring->capacity - read % ring->capacity;
        atomic_store_explicit (&ring->read, read, memory_order_release);
    }
    const uint64_t *head = head_at (ring, read);
    *size = *head;
    return head + 1;
}

void tap_ring_drop (struct tap_ring *ring)
{
    uint64_t read = atomic_load_explicit (&ring->read, memory_order_relaxed);
    atomic_store_explicit (&ring->read, read + whole_size (*head_at (ring, read)), memory_order_release);
}
