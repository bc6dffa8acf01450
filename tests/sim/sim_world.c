/*  sim_world.c - time, chance, processes: what runs a story from its seed to its
    end. */

#include "tests/sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*  ---- chance ------------------------------------------------------------- */

static uint64_t random_next (struct sim *sim)
{
    sim->random += UINT64_C (0x9e3779b97f4a7c15);
    uint64_t x = sim->random;
    x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t draw (struct sim *sim, uint64_t bound)
{
    return sim->options.calm ? 0 : random_next (sim) % bound;
}

bool chance (struct sim *sim, uint32_t permille)
{
    return draw (sim, 1000) < permille && !sim->options.calm;
}

uint64_t between (struct sim *sim, uint64_t low, uint64_t high)
{
    return low + draw (sim, high - low + 1);
}

/*  ---- time --------------------------------------------------------------- */

static bool earlier (const struct alarm *a, const struct alarm *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

void set_alarm (struct sim *sim, uint64_t at_ms, enum alarm_kind kind, uint32_t who, uint64_t life,
                void *what)
{
    if (sim->heap_count == sim->heap_capacity) {
        sim->heap_capacity = sim->heap_capacity ? sim->heap_capacity * 2 : 256;
        sim->heap = realloc (sim->heap, sim->heap_capacity * sizeof *sim->heap);
        assert (sim->heap);
    }
    struct alarm alarm = { at_ms, sim->order++, kind, who, life, what };
    uint32_t at = sim->heap_count++;
    while (at > 0 && earlier (&alarm, &sim->heap[(at - 1) / 2])) {
        sim->heap[at] = sim->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sim->heap[at] = alarm;
}

static struct alarm next_alarm (struct sim *sim)
{
    assert (sim->heap_count);
    struct alarm first = sim->heap[0];
    struct alarm last = sim->heap[--sim->heap_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= sim->heap_count)
            break;
        if (child + 1 < sim->heap_count && earlier (&sim->heap[child + 1], &sim->heap[child]))
            child++;
        if (!earlier (&sim->heap[child], &last))
            break;
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    return first;
}

/*  ---- processes ---------------------------------------------------------- */

struct actor *actor_at (struct sim *sim, struct address address)
{
    for (uint32_t i = 0; i < sim->actor_count; i++)
        if (sim->actors[i].self.role == address.role && sim->actors[i].self.peer == address.peer)
            return &sim->actors[i];
    return NULL;
}

void process_start (struct sim *sim, struct process *process)
{
    assert (!process->up);
    process->up = true;
    process->doomed = false;
    process->life++;
    process->points = 0;
    bool victim = sim->options.calm && process->number == sim->options.victim && process->lives < 2;
    process->kill_at = victim ? sim->options.kill_at[process->lives] : 0;
    process->loses_disk = victim && sim->options.loses[process->lives];
    process->lives++;
    process->steady_base_ms = between (sim, 1000, 100000000);
    sim->settings.hash_seed = random_next (sim);
    for (uint32_t i = 0; i < sim->actor_count; i++)
        if (sim->actors[i].process == process)
            actor_start (&sim->actors[i]);
    for (uint32_t i = 0; i < sim->actor_count; i++) {
        if (sim->actors[i].process != process)
            continue;
        net_open (&sim->actors[i]);
        actor_wake (&sim->actors[i], sim->now_ms + draw (sim, 3));
    }
    trace_line (sim, NULL, "process %u starts", (unsigned) process->number);
}

void process_kill (struct sim *sim, struct process *process)
{
    if (!process->up)
        return;
    trace_line (sim, NULL, "process %u is killed%s", (unsigned) process->number,
                process->loses_disk ? ", and its disk is lost" : "");
    process->up = false;
    process->doomed = false;
    process->kill_at = 0;
    process->life++;
    check_forgot (sim, process);
    for (uint32_t i = 0; i < sim->actor_count; i++) {
        struct actor *actor = &sim->actors[i];
        if (actor->process != process)
            continue;
        actor_stop (actor);
        if (actor->self.role == ROLE_DECISION)
            disk_die (sim, actor->self.peer, process->loses_disk);
    }
    process->loses_disk = false;
    uint64_t down_ms = sim->options.calm ? 20 : process->down_ms;
    set_alarm (sim, sim->now_ms + down_ms, ALARM_START, process->number, process->life, NULL);
}

/*  ---- the story ---------------------------------------------------------- */

static void go_off (struct sim *sim, const struct alarm *alarm)
{
    struct actor *actor;
    switch (alarm->kind) {
    case ALARM_TURN:
        actor = &sim->actors[alarm->who];
        if (actor->state && actor->turn_ms == alarm->at_ms && actor->process->life == alarm->life) {
            sim->happened++;
            actor_turn (actor);
        }
        break;
    case ALARM_FRAME:
        net_arrive (&sim->actors[alarm->who], alarm->what);
        break;
    case ALARM_CALL:
        call_due (sim, alarm->what, alarm->life);
        break;
    case ALARM_EVENT:
        events_visible (sim, alarm->who);
        break;
    case ALARM_MISHAP:
        befall (sim, &sim->mishaps[alarm->who]);
        break;
    case ALARM_START:
        if (sim->processes[alarm->who].life == alarm->life)
            process_start (sim, &sim->processes[alarm->who]);
        break;
    case ALARM_LOOK:
        check_rest (sim);
        break;
    }
}

bool sim_run (struct sim *sim, const struct sim_options *options)
{
    memset (sim, 0, sizeof *sim);
    sim->options = *options;
    sim->random = options->seed * UINT64_C (0x2545f4914f6cdd1d) + 1;
    plan_world (sim);
    while (!sim->failed && !sim->done) {
        struct alarm alarm = next_alarm (sim);
        assert (alarm.at_ms >= sim->now_ms);
        sim->now_ms = alarm.at_ms;
        go_off (sim, &alarm);
    }
    return !sim->failed;
}

void sim_clear (struct sim *sim)
{
    for (uint32_t i = 0; i < sim->actor_count; i++)
        actor_stop (&sim->actors[i]);
    while (sim->heap_count) {
        struct alarm alarm = next_alarm (sim);
        if (alarm.kind == ALARM_FRAME)
            free (alarm.what);
    }
    free (sim->heap);
    sim->heap = NULL;
    http_clear (sim);
}
