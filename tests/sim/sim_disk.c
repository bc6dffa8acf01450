/*  sim_disk.c - the journal of a decision, as actors/base/journal.h promises it:
    a transaction is on disk whole or not at all, what the disk refuses is kept and
    done again, and what was not committed is gone with the process. */

#include "tests/sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

#define ORDER_ANSWERED UINT64_MAX

static void keep (char *memory, size_t size, struct text text)
{
    assert (text.size < size);
    if (text.size)
        memcpy (memory, text.data, text.size);
    memory[text.size] = '\0';
}

void disk_append (struct sim *sim, uint32_t shard, const struct message *message)
{
    struct disk *disk = &sim->disks[shard];
    const struct remember *remember = &message->remember;
    if (!remember->grant)
        return;
    if (disk->pending_count == PENDING_MAX) {
        violate (sim, "a turn remembers more than %u records", disk->pending_count);
        return;
    }
    struct grant_record *record = &disk->pending[disk->pending_count++];
    *record = (struct grant_record){
        .grant = remember->grant,
        .position = remember->position,
        .trace = message->trace,
        .at_ms = remember->at_ms,
        .timestamp = remember->timestamp,
        .amount = remember->amount,
        .state = remember->state,
    };
    keep (record->user, sizeof record->user, remember->user);
    keep (record->reward, sizeof record->reward, remember->reward);
    keep (record->currency, sizeof record->currency, remember->currency);
}

static struct grant_record *grant_find (struct disk *disk, uint64_t grant)
{
    for (uint32_t i = disk->count; i > 0; i--)
        if (disk->grants[i - 1].grant == grant)
            return &disk->grants[i - 1];
    return NULL;
}

static void make_durable (struct sim *sim, struct disk *disk)
{
    for (uint32_t i = 0; i < disk->pending_count; i++) {
        const struct grant_record *record = &disk->pending[i];
        struct grant_record *known = grant_find (disk, record->grant);
        check_grant (sim, known, record);
        if (known) {
            known->state = record->state;
            known->at_ms = record->at_ms;
            continue;
        }
        assert (disk->count < GRANTS_MAX);
        disk->grants[disk->count++] = *record;
        if (record->grant > disk->newest)
            disk->newest = record->grant;
    }
    disk->pending_count = 0;
}

void disk_done (struct sim *sim, uint32_t shard, uint64_t request)
{
    struct disk *disk = &sim->disks[shard];
    for (uint32_t i = 0; i < disk->count; i++)
        if (disk->orders[i] == request) {
            disk->orders[i] = ORDER_ANSWERED;
            disk->answered++;
        }
}

/*  Whoever was answered hears of it. */
static void tell_done (struct disk *disk)
{
    for (uint32_t i = 0; disk->answered && i < disk->count; i++)
        if (disk->orders[i] == ORDER_ANSWERED) {
            disk->orders[i] = 0;
            disk->answered--;
        }
}

bool disk_commit (struct sim *sim, uint32_t shard)
{
    struct disk *disk = &sim->disks[shard];
    if (disk->pending_count && disk->trouble != DISK_GOOD)
        return false;
    if (disk->pending_count)
        make_durable (sim, disk);
    tell_done (disk);
    return true;
}

static void hand_record (struct actor *actor, const struct grant_record *grant,
                         void (*hand) (struct actor *actor, const struct message *message))
{
    struct message message = { .id = MESSAGE_RECORD, .trace = grant->trace };
    message.record = (struct record){
        .grant = grant->grant,
        .position = grant->position,
        .timestamp = grant->timestamp,
        .user = text_of (grant->user),
        .reward = text_of (grant->reward),
        .amount = grant->amount,
        .currency = text_of (grant->currency),
        .state = grant->state,
        .at_ms = grant->at_ms,
    };
    hand (actor, &message);
}

static int by_grant (const void *a, const void *b)
{
    const struct grant_record *one = a, *two = b;
    return one->grant < two->grant ? -1 : one->grant > two->grant;
}

void disk_recall (struct actor *actor, const struct message *recall,
                  void (*hand) (struct actor *actor, const struct message *message))
{
    struct disk *disk = &actor->sim->disks[actor->self.peer];
    const struct recall *asked = &recall->recall;
    struct message recalled = { .id = MESSAGE_RECALLED };
    recalled.recalled.which = asked->which;
    recalled.recalled.newest = disk->newest;
    qsort (disk->grants, disk->count, sizeof *disk->grants, by_grant);
    uint64_t given = 0;
    for (uint32_t i = 0; i < disk->count; i++) {
        bool open = asked->which == RECALL_OPEN;
        const struct grant_record *grant = &disk->grants[open ? i : disk->count - 1 - i];
        if (open != (grant->state == GRANT_INTENDED) || (open && grant->grant <= asked->after))
            continue;
        if (given == asked->count) {
            recalled.recalled.more = 1;
            break;
        }
        given++;
        hand_record (actor, grant, hand);
    }
    hand (actor, &recalled);
}

static bool is_parked (const struct grant_record *grant)
{
    return grant->state == GRANT_REFUSED || grant->state == GRANT_UNCERTAIN;
}

void disk_die (struct sim *sim, uint32_t shard, bool lost)
{
    struct disk *disk = &sim->disks[shard];
    /*  What a failed sync left behind may be there all the same, whole. */
    if (disk->trouble == DISK_SYNC && chance (sim, 500))
        make_durable (sim, disk);
    disk->pending_count = 0;
    memset (disk->orders, 0, sizeof disk->orders);
    disk->answered = 0;
    if (!lost)
        return;
    /*  The event of what was ever parked is acknowledged: only the disk knew of it. */
    for (uint32_t i = 0; i < disk->count; i++) {
        struct user *user = user_named (sim, disk->grants[i].user);
        user->given_up |= user->parked;
    }
    disk->count = 0;
    disk->newest = 0;
}

/*  What is refused for good is tried again twice only. Some of it is given up. */
void disk_person (struct sim *sim, uint32_t shard)
{
    struct actor *actor = actor_at (sim, (struct address){ ROLE_DECISION, (uint16_t) shard });
    struct disk *disk = &sim->disks[shard];
    for (uint32_t i = 0; i < disk->count && actor && actor->state; i++) {
        const struct grant_record *grant = &disk->grants[i];
        struct user *user = user_named (sim, grant->user);
        bool refused = user->kind == USER_POISON && grant->state == GRANT_REFUSED;
        if (!is_parked (grant) || disk->orders[i] || (refused && user->tries >= 2))
            continue;
        struct message message = { .id = MESSAGE_RETRY };
        message.retry = (struct retry){ .request = ++sim->asked,
                                        .grant = grant->grant,
                                        .position = grant->position,
                                        .timestamp = grant->timestamp,
                                        .user = text_of (user->id),
                                        .reward = TEXT_LITERAL ("promo"),
                                        .amount = grant->amount,
                                        .currency = TEXT_LITERAL ("gold"),
                                        .who = TEXT_LITERAL ("somebody") };
        if (user->tries++ == 1 && chance (sim, 200)) {
            message.id = MESSAGE_DROP;
            message.drop = (struct drop){ .request = sim->asked,
                                          .grant = grant->grant,
                                          .user = text_of (user->id),
                                          .reward = TEXT_LITERAL ("promo"),
                                          .who = TEXT_LITERAL ("somebody") };
        }
        disk->orders[i] = sim->asked;
        actor_post (actor, &message);
    }
}
