/*  test_shard.c - which actor a player belongs to: the same everywhere, evenly, and
    so that decisions and clients of the same number stay among themselves.
*/

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "include/shard.h"
#include "proto/text.h"

enum { COUNT_MAX = 16, PLAYERS = 8000 };

static struct text player (unsigned number, char memory[static 16])
{
    snprintf (memory, 16, "u%u", number);
    return text_of (memory);
}

static unsigned common_divisor (unsigned a, unsigned b)
{
    while (b) {
        unsigned rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/*  Processes of different builds work together, so the hash is part of the language. */
static void test_a_player_stays_where_it_always_was (void **state)
{
    (void) state;
    static const struct {
        const char *user;
        uint16_t of_3, of_16;
    } known[] = { { "u1", 1, 4 }, { "alice", 2, 14 }, { "Ärger", 2, 0 }, { "", 1, 1 } };
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
        assert_int_equal (shard_of_player (text_of (known[i].user), 0), 0);
        assert_int_equal (shard_of_player (text_of (known[i].user), 1), 0);
        assert_int_equal (shard_of_player (text_of (known[i].user), 3), known[i].of_3);
        assert_int_equal (shard_of_player (text_of (known[i].user), 16), known[i].of_16);
    }
}

static void test_players_are_shared_evenly_among_any_number (void **state)
{
    (void) state;
    char memory[16];
    for (uint16_t count = 1; count <= COUNT_MAX; count++) {
        unsigned players[COUNT_MAX] = { 0 };
        for (unsigned i = 0; i < PLAYERS; i++) {
            uint16_t shard = shard_of_player (player (i, memory), count);
            assert_true (shard < count);
            players[shard]++;
        }
        for (unsigned shard = 0; shard < count; shard++)
            assert_in_range (players[shard], PLAYERS / count * 3 / 4, PLAYERS / count * 5 / 4);
    }
}

/*  For instance 4 decisions and 2 clients: each decision asks one. 3 and 2: each asks
    both. And whatever a decision asks of, it asks all of them alike. */
static void test_a_decision_asks_no_more_clients_than_it_has_to (void **state)
{
    (void) state;
    char memory[16];
    for (uint16_t decisions = 1; decisions <= 8; decisions++)
        for (uint16_t clients = 1; clients <= 8; clients++) {
            unsigned players[8][8] = { 0 };
            unsigned divisor = common_divisor (decisions, clients);
            unsigned alike = PLAYERS / (decisions * clients / divisor);
            for (unsigned i = 0; i < PLAYERS; i++) {
                struct text user = player (i, memory);
                players[shard_of_player (user, decisions)][shard_of_player (user, clients)]++;
            }
            for (unsigned decision = 0; decision < decisions; decision++)
                for (unsigned client = 0; client < clients; client++)
                    if (decision % divisor == client % divisor)
                        assert_in_range (players[decision][client], alike / 2, alike * 3 / 2);
                    else
                        assert_int_equal (players[decision][client], 0);
        }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_a_player_stays_where_it_always_was),
        cmocka_unit_test (test_players_are_shared_evenly_among_any_number),
        cmocka_unit_test (test_a_decision_asks_no_more_clients_than_it_has_to),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
