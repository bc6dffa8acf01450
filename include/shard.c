/*  shard.c - see shard.h. */

#include "include/shard.h"

#include "proto/text.h"

/*  Part of the language, like the numbers of messages: all processes that work
    together have to have the same. */
enum { PLAYER_SEED = 0 };

uint16_t shard_of_player (struct text user, uint16_t count)
{
    return count > 1 ? (uint16_t) (text_hash (user, PLAYER_SEED) % count) : 0;
}
