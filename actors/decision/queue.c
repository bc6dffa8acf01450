/*  queue.c - players and what is to be done for them. See queue.h. */

#include "actors/decision/queue.h"

#include <assert.h>
#include <string.h>

#include "include/mistake.h"
#include "proto/text.h"

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

size_t queue_size (uint32_t capacity)
{
    return 2 * round_up (bucket_count (capacity) * sizeof (uint32_t)) +
           round_up (capacity * sizeof (struct item)) + round_up (capacity * sizeof (struct player)) +
           round_up (capacity * sizeof (struct kept_terms)) + users_size (capacity);
}

void queue_init (struct queue *queue, void *memory, uint32_t capacity, uint64_t seed)
{
    uint8_t *at = memory;
    uint32_t buckets = bucket_count (capacity);
    *queue = (struct queue){
        .capacity = capacity, .seed = seed, .bucket_mask = buckets - 1, .free_item = NONE, .free_player = NONE
    };
    queue->buckets = (uint32_t *) (void *) at;
    at += round_up (buckets * sizeof (uint32_t));
    queue->position_buckets = (uint32_t *) (void *) at;
    at += round_up (buckets * sizeof (uint32_t));
    queue->items = (struct item *) (void *) at;
    at += round_up (capacity * sizeof (struct item));
    queue->players = (struct player *) (void *) at;
    at += round_up (capacity * sizeof (struct player));
    queue->terms = (struct kept_terms *) (void *) at;
    at += round_up (capacity * sizeof (struct kept_terms));
    users_init (&queue->users, at, capacity);
}

/*  ---- players ------------------------------------------------------------ */

static uint32_t *player_bucket (const struct queue *queue, uint64_t hash)
{
    return &queue->buckets[hash & queue->bucket_mask];
}

static int32_t player_find (const struct queue *queue, struct text user, uint64_t hash)
{
    int32_t at = (int32_t) *player_bucket (queue, hash) - 1;
    while (at != NONE) {
        const struct player *player = &queue->players[at];
        if (player->hash == hash && text_equal (queue_user (queue, at), user))
            break;
        at = player->bucket_next;
    }
    return at;
}

int32_t queue_player (const struct queue *queue, struct text user)
{
    return player_find (queue, user, text_hash (user, queue->seed));
}

int32_t queue_player_add (struct queue *queue, struct text user)
{
    uint64_t hash = text_hash (user, queue->seed);
    int32_t at = player_find (queue, user, hash);
    if (at != NONE)
        return at;
    at = queue->free_player;
    if (at == NONE)
        at = (int32_t) queue->fresh_player++;
    else
        queue->free_player = queue->players[at].bucket_next;
    assert ((uint32_t) at < queue->capacity); /* there are as many as items */
    uint32_t *bucket = player_bucket (queue, hash);
    queue->players[at] =
        (struct player){ .hash = hash, .bucket_next = (int32_t) *bucket - 1, .first = NONE, .last = NONE };
    *bucket = (uint32_t) at + 1;
    users_put (&queue->users, (uint32_t) at, user);
    return at;
}

void queue_player_remove (struct queue *queue, int32_t at)
{
    struct player *player = &queue->players[at];
    assert (player->first == NONE);
    uint32_t *bucket = player_bucket (queue, player->hash);
    if (*bucket == (uint32_t) at + 1) {
        *bucket = (uint32_t) (player->bucket_next + 1);
    } else {
        int32_t before = (int32_t) *bucket - 1;
        while (queue->players[before].bucket_next != at)
            before = queue->players[before].bucket_next;
        queue->players[before].bucket_next = player->bucket_next;
    }
    player->request = 0;
    player->bucket_next = queue->free_player;
    queue->free_player = at;
}

struct text queue_user (const struct queue *queue, int32_t player)
{
    return users_get (&queue->users, (uint32_t) player);
}

/*  ---- events by position ------------------------------------------------- */

static bool same_address (struct address a, struct address b)
{
    return a.role == b.role && a.peer == b.peer;
}

static uint32_t *position_bucket (const struct queue *queue, uint64_t position)
{
    return &queue->position_buckets[position * UINT64_C (0x9e3779b97f4a7c15) >> 32 & queue->bucket_mask];
}

static void position_link (struct queue *queue, struct item *item)
{
    uint32_t *bucket = position_bucket (queue, item->position);
    item->position_next = (int32_t) *bucket - 1;
    *bucket = (uint32_t) (item - queue->items) + 1;
}

static void position_unlink (struct queue *queue, const struct item *item)
{
    int32_t at = (int32_t) (item - queue->items);
    uint32_t *bucket = position_bucket (queue, item->position);
    if (*bucket == (uint32_t) at + 1) {
        *bucket = (uint32_t) (item->position_next + 1);
        return;
    }
    int32_t before = (int32_t) *bucket - 1;
    while (queue->items[before].position_next != at)
        before = queue->items[before].position_next;
    queue->items[before].position_next = item->position_next;
}

struct item *queue_event (const struct queue *queue, struct address ingest, uint64_t position)
{
    int32_t at = (int32_t) *position_bucket (queue, position) - 1;
    for (; at != NONE; at = queue->items[at].position_next)
        if (queue->items[at].position == position && same_address (queue->items[at].ingest, ingest))
            return &queue->items[at];
    return NULL;
}

/*  ---- items -------------------------------------------------------------- */

struct item *queue_append (struct queue *queue, int32_t player_at, const struct item *new)
{
    struct player *player = &queue->players[player_at];
    int32_t at = queue->free_item;
    if (at == NONE)
        at = (int32_t) queue->fresh_item++;
    else
        queue->free_item = queue->items[at].next;
    assert ((uint32_t) at < queue->capacity);
    struct item *item = &queue->items[at];
    *item = *new;
    item->next = NONE;
    if (item->has_event)
        position_link (queue, item);
    else
        player->alone++;
    int32_t behind = MISTAKE (ORDER_BROKEN) ? player->first : player->last;
    if (behind == NONE) {
        player->first = at;
    } else {
        item->next = queue->items[behind].next;
        queue->items[behind].next = at;
    }
    if (behind == player->last)
        player->last = at;
    queue->count++;
    return item;
}

struct item *queue_first (const struct queue *queue, int32_t player)
{
    int32_t first = queue->players[player].first;
    return first == NONE ? NULL : &queue->items[first];
}

void queue_drop_first (struct queue *queue, int32_t player_at)
{
    struct player *player = &queue->players[player_at];
    int32_t at = player->first;
    struct item *item = &queue->items[at];
    if (item->has_event)
        position_unlink (queue, item);
    else
        player->alone--;
    player->first = item->next;
    if (player->first == NONE)
        player->last = NONE;
    item->next = queue->free_item;
    queue->free_item = at;
    queue->count--;
}

struct item *queue_grant (const struct queue *queue, int32_t player, uint64_t grant)
{
    for (int32_t at = queue->players[player].first; at != NONE; at = queue->items[at].next)
        if (queue->items[at].grant == grant)
            return &queue->items[at];
    return NULL;
}

struct item *queue_alone (const struct queue *queue, int32_t player, uint64_t position, int64_t timestamp)
{
    uint32_t left = queue->players[player].alone;
    for (int32_t at = queue->players[player].first; left; at = queue->items[at].next) {
        struct item *item = &queue->items[at];
        if (item->has_event)
            continue;
        if (item->position == position && item->timestamp == timestamp)
            return item;
        left--;
    }
    return NULL;
}

void queue_attach (struct queue *queue, int32_t player, struct item *item, struct address ingest)
{
    assert (!item->has_event);
    item->has_event = true;
    item->ingest = ingest;
    position_link (queue, item);
    queue->players[player].alone--;
}

void queue_keep_terms (struct queue *queue, struct item *item, const struct terms *terms)
{
    struct kept_terms *kept = &queue->terms[item - queue->items];
    assert (terms->currency.size <= sizeof kept->currency && terms->reward.size <= sizeof kept->reward);
    kept->amount = terms->amount;
    kept->currency_size = terms->currency.size;
    kept->reward_size = terms->reward.size;
    if (terms->currency.size)
        memcpy (kept->currency, terms->currency.data, terms->currency.size);
    if (terms->reward.size)
        memcpy (kept->reward, terms->reward.data, terms->reward.size);
    item->other_terms = true;
}

struct terms queue_terms (const struct queue *queue, const struct item *item)
{
    const struct kept_terms *kept = &queue->terms[item - queue->items];
    assert (item->other_terms);
    return (struct terms){ kept->amount,
                           { kept->currency, kept->currency_size },
                           { kept->reward, kept->reward_size } };
}
