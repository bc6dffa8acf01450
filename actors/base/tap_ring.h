/*  tap_ring.h - records from one thread to another, of whom neither ever waits.

    A ring of bytes with one writer and one reader. A record lies in one piece;
    what does not fit into what is left before the end begins again at the start.
    When there is no room the writer is told so, and nothing is changed.

    Memory is asked for with the first record: a ring that nobody uses is small.
*/
#ifndef GUERDON_TAP_RING_H
#define GUERDON_TAP_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tap_ring;

/*  A ring of so many bytes, a power of two. A record may have half of them. NULL
    without memory. */
struct tap_ring *tap_ring_new (size_t capacity);
void tap_ring_destroy (struct tap_ring **ring);

/*  The writer's: room for a record of at most `size` bytes, aligned for any
    number; NULL when there is none. It is a record once it is put. */
void *tap_ring_room (struct tap_ring *ring, size_t size);

/*  The writer's: puts the first `size` bytes of the room it was given last. */
void tap_ring_put (struct tap_ring *ring, size_t size);

/*  The reader's: how far it is written. What was put before is before that. */
uint64_t tap_ring_end (const struct tap_ring *ring);

/*  The reader's: the oldest record before that end, and its size; NULL for none.
    It stays until it is dropped. */
const void *tap_ring_first (struct tap_ring *ring, uint64_t end, size_t *size);
void tap_ring_drop (struct tap_ring *ring);

#endif
