/*  past.h - the newest grants that came to an end, as the journal knows them.

    A ring of fixed size: who is new pushes out the oldest. A player's grants are
    found by the hash of player and reward. What is not used is not touched.
*/
#ifndef GUERDON_PAST_H
#define GUERDON_PAST_H

#include <stddef.h>
#include <stdint.h>

#include "proto/message.h"

/*  A grant that came to an end. */
struct past_grant {
    uint64_t key; /* hash of player and reward */
    uint64_t grant;
    uint64_t position; /* of the event that brought it */
    int64_t timestamp;
    uint64_t ended_ms; /* steady time; the start for what was read from the journal */
    enum grant_state state;
    uint32_t next; /* in its hash bucket: a place + 1, 0 for none */
};

struct past {
    struct past_grant *ring;
    uint32_t *buckets; /* a place + 1, 0 for none */
    uint32_t capacity;
    uint32_t bucket_mask;
    uint32_t place;        /* where the next one goes */
    uint32_t recalled;     /* those that the journal brought */
    uint64_t forgotten_ms; /* when the last of those ended that were pushed out */
};

/*  Bytes of memory for so many grants, rounded up to a multiple of 16. */
size_t past_size (uint32_t capacity);

/*  Lays it out in zeroed memory of past_size bytes; `capacity` is at least 1. */
void past_init (struct past *past, void *memory, uint32_t capacity);

/*  Takes one from the journal, which brings the newest first; before any past_note.
    What is too much is left. */
void past_recall (struct past *past, const struct past_grant *grant);

/*  A grant came to an end, or to another one than it is remembered with. */
void past_note (struct past *past, const struct past_grant *grant);

/*  The grant of that number of this player and reward, NULL when it is not remembered. */
struct past_grant *past_find (const struct past *past, uint64_t key, uint64_t grant);

/*  What is remembered of a player and reward. */
struct past_view {
    bool known; /* there was a grant */
    bool tried; /* there was one that was or may have been given */
    bool own;   /* there was one for the event of this position and time */
    enum grant_state own_state;
    uint64_t ended_ms; /* none ended behind this time, also none that was pushed out */
};

/*  Looks a player and reward up, for an event. */
struct past_view past_look (const struct past *past, uint64_t key, uint64_t position, int64_t timestamp);

#endif
