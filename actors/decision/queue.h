/*  queue.h - the players that have something to be decided, each with its queue.

    What stands in a queue is an item: an event, a grant of the journal that is
    open, or both in one. The first of a player's items is worked on; the others
    wait. Everything is allocated at the start, and what is not used is not
    touched.
*/
#ifndef GUERDON_QUEUE_H
#define GUERDON_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actors/decision/grant.h"
#include "include/users.h"

#define NONE (-1) /* no item, no player */

/*  Something to be done for a player. */
struct item {
    uint64_t position; /* of the event that brings, or brought, the grant */
    int64_t timestamp;
    uint64_t trace;
    uint64_t grant;        /* its number, 0 before it is intended */
    struct address ingest; /* whose event it is */
    bool has_event;        /* false: nobody waits for it to be settled */
    bool old;         /* the event is of a life of its ingest before this one, which has not asked again */
    bool early;       /* the event may have been in flight before this life */
    bool retry;       /* a person wants it tried again */
    bool other_terms; /* amount, currency and reward are not the configured ones */
    bool other_found; /* what is found to be given was given for another event */
    enum check check; /* what a GIVE says of attempts before it */
    int32_t position_next; /* in its hash bucket of positions */
    int32_t next;          /* the same player's next item, or the next free one */
};

/*  What is given. */
struct terms {
    int64_t amount;
    struct text currency;
    struct text reward;
};

/*  Terms that are kept with an item. */
struct kept_terms {
    int64_t amount;
    uint32_t currency_size;
    uint32_t reward_size;
    char currency[NAME_SIZE_MAX];
    char reward[REWARD_SIZE_MAX];
};

/*  Somebody with at least one item. */
struct player {
    uint64_t hash;
    uint64_t request;    /* the one under way; answers to others are stale */
    int32_t bucket_next; /* in its hash bucket, or the next free player */
    int32_t first;       /* its items, oldest first: that one is worked on */
    int32_t last;
    uint32_t alone; /* its items without an event */
    enum stage stage;
    bool rewarded; /* the marker is there: we saw it or wrote it */
};

struct queue {
    uint32_t capacity; /* items, and so players */
    uint32_t count;    /* items */
    uint64_t seed;     /* of the hash of users */
    uint32_t bucket_mask;
    uint32_t *buckets;          /* of players: a place + 1, 0 for none */
    uint32_t *position_buckets; /* of events, likewise */
    struct item *items;
    struct player *players;
    struct kept_terms *terms; /* by item */
    int32_t free_item;        /* used before; NONE without one */
    int32_t free_player;
    uint32_t fresh_item; /* never used from here on */
    uint32_t fresh_player;
    struct users users; /* the player's id, by player */
};

/*  Bytes of memory for so many items, a multiple of 16. */
size_t queue_size (uint32_t capacity);

/*  Lays it out in zeroed memory of queue_size bytes. */
void queue_init (struct queue *queue, void *memory, uint32_t capacity, uint64_t seed);

/*  The player of that id; NONE when nothing of it is to be done. */
int32_t queue_player (const struct queue *queue, struct text user);

/*  The same, added when it is not there: it has to be given an item then. */
int32_t queue_player_add (struct queue *queue, struct text user);

/*  The id of a player; valid while it has an item. */
struct text queue_user (const struct queue *queue, int32_t player);

/*  Adds a copy of an item at the end of a player's queue; there has to be room for
    it. Returns it. */
struct item *queue_append (struct queue *queue, int32_t player, const struct item *item);

/*  The first item of a player, or NULL. */
struct item *queue_first (const struct queue *queue, int32_t player);

/*  Takes the first item of a player off. */
void queue_drop_first (struct queue *queue, int32_t player);

/*  Forgets a player without items. */
void queue_player_remove (struct queue *queue, int32_t player);

/*  The item of an event of that ingest, or NULL. */
struct item *queue_event (const struct queue *queue, struct address ingest, uint64_t position);

/*  The item of a player's grant of that number, or NULL. */
struct item *queue_grant (const struct queue *queue, int32_t player, uint64_t grant);

/*  The item without an event of a player that the event of this position and time
    brought, or NULL. */
struct item *queue_alone (const struct queue *queue, int32_t player, uint64_t position, int64_t timestamp);

/*  Gives an item of a player its event. */
void queue_attach (struct queue *queue, int32_t player, struct item *item, struct address ingest);

/*  Keeps terms with an item, and gives them back. */
void queue_keep_terms (struct queue *queue, struct item *item, const struct terms *terms);
struct terms queue_terms (const struct queue *queue, const struct item *item);

#endif
