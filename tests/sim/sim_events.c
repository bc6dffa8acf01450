/*  sim_events.c - the events service: pages, long polls, positions, gaps. */

#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/text.h"

enum { EVENT_BYTES_MAX = 128, PAGE_EVENTS_MAX = 100 };

static void pack_event (struct sim *sim, uint32_t id, struct packer *packer)
{
    const struct posting *event = &sim->events[id];
    static const char *const types[] = { [EVENT_OTHER_TYPE] = "CHANGE" };
    bool other_type = event->kind == EVENT_OTHER_TYPE;
    pack_map (packer, 5);
    pack_literal (packer, "id");
    pack_uint (packer, id);
    pack_literal (packer, "timestamp");
    pack_uint (packer, UINT64_C (1790000000000) + id * 10);
    pack_literal (packer, "from");
    pack_literal (packer, event->kind == EVENT_OTHER_APP ? "app3" : "app2");
    pack_literal (packer, "type");
    pack_literal (packer, other_type ? types[EVENT_OTHER_TYPE] : "LOGIN");
    pack_literal (packer, "data");
    if (event->kind == EVENT_NO_USER) {
        pack_nil (packer);
        return;
    }
    pack_map (packer, 1);
    pack_literal (packer, "userId");
    pack_literal (packer, sim->users[event->user].id);
}

static bool has_news (const struct sim *sim, uint64_t after)
{
    for (uint64_t id = after + 1; id <= sim->event_count; id++)
        if (sim->events[id].visible)
            return true;
    return false;
}

static uint64_t number_in (const char *path, const char *name, uint64_t otherwise)
{
    char memory[32];
    uint64_t number;
    if (!path_query (path, name, memory, sizeof memory))
        return otherwise;
    return text_to_uint (text_of (memory), UINT64_MAX, &number) ? number : 0;
}

void events_serve (struct sim *sim, struct call *call)
{
    char client[64];
    if (!path_query (call->path, "clientId", client, sizeof client) ||
        strncmp (call->path, "/events?", 8) != 0) {
        set_status (call, 400);
        return;
    }
    bool ours = strcmp (client, "sim") == 0;
    uint64_t after = number_in (call->path, "after", UINT64_MAX);
    uint64_t limit = number_in (call->path, "limit", PAGE_EVENTS_MAX);
    if (ours && after != UINT64_MAX) {
        check_acked (sim, after);
        sim->acked = after;
        sim->has_acked = true;
    }
    if (after == UINT64_MAX)
        after = ours ? sim->acked : 0;
    uint64_t hold_until_ms = call->started_ms + sim->hold_ms;
    if (!has_news (sim, after) && sim->now_ms < hold_until_ms && call->client) {
        call_hold (sim, call, hold_until_ms);
        return;
    }
    uint8_t memory[16 + PAGE_EVENTS_MAX * EVENT_BYTES_MAX];
    uint32_t ids[PAGE_EVENTS_MAX];
    uint32_t count = 0;
    for (uint64_t id = after + 1; id <= sim->event_count && count < limit && count < PAGE_EVENTS_MAX; id++)
        if (sim->events[id].visible)
            ids[count++] = (uint32_t) id;
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_array (&packer, count);
    for (uint32_t i = 0; i < count; i++)
        pack_event (sim, ids[i], &packer);
    set_answer (call, 200, &packer);
}

void events_visible (struct sim *sim, uint32_t id)
{
    struct posting *event = &sim->events[id];
    event->visible = true;
    trace_line (sim, NULL, "event %" PRIu32 " is there: user %s, kind %u", id, sim->users[event->user].id,
                (unsigned) event->kind);
    if (event->kind == EVENT_LOGIN)
        sim->users[event->user].logins++;
    struct call *held = sim->polls;
    sim->polls = NULL;
    while (held) {
        struct call *call = held;
        held = call->poll;
        call->held = false;
        events_serve (sim, call);
        if (!call->held)
            call_answer (sim, call, 1);
    }
}
