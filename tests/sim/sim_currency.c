/*  sim_currency.c - the virtualcurrency service: every POST makes one more
    reward, and a listing shows it at the latest FIND_GRACE_MS after the service
    stopped working on the request. */

#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/text.h"

enum { TRANSACTIONS_MAX = 12 };

#define TOKEN_START "{secret}."

/*  One line of a listing: a reward of ours, or something else. */
struct transaction {
    uint64_t number;
    uint64_t timestamp;
    bool ours;
};

static struct text body_text (const struct call *call, const char *path)
{
    struct raw found;
    struct text text = NO_TEXT;
    if (!raw_path ((struct raw){ call->body, call->body_size }, path, &found) || !raw_text (found, &text))
        return NO_TEXT;
    return text;
}

static void serve_reward (struct sim *sim, struct call *call)
{
    char id[USER_TEXT_MAX];
    struct text to = body_text (call, "to");
    snprintf (id, sizeof id, "%.*s", (int) to.size, to.size ? to.data : "");
    struct user *user = user_named (sim, id);
    bool good = user && text_equal (body_text (call, "currency"), TEXT_LITERAL ("gold")) &&
                text_equal (body_text (call, "data.rewardId"), TEXT_LITERAL ("promo"));
    if (!good || user->kind == USER_POISON) {
        set_status (call, 400);
        return;
    }
    trace_line (sim, NULL, "virtualcurrency: %s is rewarded", id);
    if (user->reward_count < sizeof user->rewards / sizeof *user->rewards) {
        struct reward_entry *entry = &user->rewards[user->reward_count++];
        uint64_t stale_ms = sim->settings.find_grace_ms / 2;
        *entry = (struct reward_entry){
            .number = ++sim->reward_number,
            .timestamp = UINT64_C (1790000000000) + sim->now_ms,
            .visible_ms = sim->now_ms + (sim->options.calm ? stale_ms : draw (sim, stale_ms)),
        };
    }
    check_rewarded (sim, user);
    uint8_t memory[16];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 1);
    pack_literal (&packer, "ok");
    pack_bool (&packer, true);
    set_answer (call, 200, &packer);
}

/*  The rewards of a user, newest first: other ones before and after ours. */
static uint32_t collect (const struct sim *sim, const struct user *user, uint64_t before,
                         struct transaction *lines)
{
    uint32_t count = 0;
    for (uint32_t i = user->reward_count; i > 0; i--)
        if (user->rewards[i - 1].visible_ms <= sim->now_ms && user->rewards[i - 1].timestamp < before)
            lines[count++] =
                (struct transaction){ user->rewards[i - 1].number, user->rewards[i - 1].timestamp, true };
    for (uint32_t i = 0; i < 3; i++)
        if (UINT64_C (1500000000000) - i < before)
            lines[count++] = (struct transaction){ 1000000 + i, UINT64_C (1500000000000) - i, false };
    return count;
}

static void pack_transaction (const struct transaction *line, const char *user, struct packer *packer)
{
    char number[32];
    snprintf (number, sizeof number, "tx-%" PRIu64, line->number);
    pack_map (packer, 7);
    pack_literal (packer, "id");
    pack_literal (packer, number);
    pack_literal (packer, "username");
    pack_literal (packer, user);
    pack_literal (packer, "timestamp");
    pack_uint (packer, line->timestamp);
    pack_literal (packer, "amount");
    pack_int (packer, 10);
    pack_literal (packer, "currency");
    pack_literal (packer, "gold");
    pack_literal (packer, "reason");
    pack_literal (packer, "reward");
    pack_literal (packer, "data");
    pack_map (packer, 2);
    pack_literal (packer, "from");
    pack_literal (packer, "rewards/v1");
    pack_literal (packer, "rewardId");
    pack_literal (packer, line->ours ? "promo" : "another");
}

static void serve_listing (struct sim *sim, struct call *call, const char *id)
{
    const struct user *user = user_named (sim, id);
    char memory[32];
    uint64_t before = UINT64_MAX, limit = TRANSACTIONS_MAX;
    if (sim->no_listing || !user) {
        set_status (call, 404);
        return;
    }
    if (sim->knows_before && path_query (call->path, "before", memory, sizeof memory))
        text_to_uint (text_of (memory), UINT64_MAX, &before);
    if (path_query (call->path, "limit", memory, sizeof memory))
        text_to_uint (text_of (memory), UINT64_MAX, &limit);
    if (sim->listing_page && sim->listing_page < limit)
        limit = sim->listing_page;
    struct transaction lines[TRANSACTIONS_MAX];
    uint32_t count = collect (sim, user, before, lines);
    if (count > limit)
        count = (uint32_t) limit;
    uint8_t bytes[8 * 1024];
    struct packer packer;
    packer_init (&packer, bytes, sizeof bytes);
    pack_array (&packer, count);
    for (uint32_t i = 0; i < count; i++)
        pack_transaction (&lines[sim->listing_ascends ? count - 1 - i : i], id, &packer);
    set_answer (call, 200, &packer);
}

void currency_serve (struct sim *sim, struct call *call)
{
    char first[64], second[64], third[64];
    path_part (call->path, 0, first, sizeof first);
    path_part (call->path, 1, second, sizeof second);
    path_part (call->path, 2, third, sizeof third);
    if (call->method == METHOD_POST && strcmp (first, "rewards") == 0) {
        serve_reward (sim, call);
    } else if (strcmp (first, "auth") == 0 && strncmp (second, TOKEN_START, strlen (TOKEN_START)) == 0 &&
               strcmp (third, "transactions") == 0) {
        serve_listing (sim, call, second + strlen (TOKEN_START));
    } else if (strcmp (third, "coins") == 0) {
        uint8_t memory[4];
        struct packer packer;
        packer_init (&packer, memory, sizeof memory);
        pack_array (&packer, 0);
        set_answer (call, 200, &packer);
    } else {
        set_status (call, 404);
    }
}
