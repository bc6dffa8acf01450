/*  shard.h - which of several like actors a player belongs to. */
#ifndef GUERDON_SHARD_H
#define GUERDON_SHARD_H

#include "proto/message.h"

/*  The number, below `count`, of the actor that a player belongs to, of `count` that
    share the players: decisions, or workers of one client. The same in every process
    and every life. It is one hash for all of them: with as many workers as decisions
    a decision asks one worker of each client and a worker hears of one decision; with
    other numbers each decision asks those whose number differs from its own by a
    multiple of their greatest common divisor (docs/decisions/0017). 0 counts as 1. */
uint16_t shard_of_player (struct text user, uint16_t count);

#endif
