/*  sim_plan.c - what a seed stands for: who is there, what is posted, and what
    befalls them. */

#include "tests/sim/sim.h"

#include <assert.h>
#include <stdio.h>

#include "actors/currency_client/currency_client.h"
#include "actors/decision/decision.h"
#include "actors/ingest/ingest.h"
#include "actors/stats/stats.h"
#include "actors/usermeta_client/usermeta_client.h"

enum {
    STORY_MS_MIN = 40000,
    STORY_MS_MAX = 150000,
    QUIET_MS_MIN = 8000, /* between two troubles of a service: what failed comes through */
    QUIET_MS_MAX = 40000,
    FLAKY_MS_MAX = 4000, /* shorter than the patience with one request */
    OUTAGE_MS_MAX = 40000
};

/*  ---- who is there ------------------------------------------------------- */

static void add_actor (struct sim *sim, const struct actor_spec *spec, uint16_t index, uint32_t process)
{
    assert (sim->actor_count < ACTORS_MAX && process < PROCESSES_MAX);
    struct actor *actor = &sim->actors[sim->actor_count];
    *actor = (struct actor){ .sim = sim,
                             .number = sim->actor_count++,
                             .process = &sim->processes[process],
                             .spec = spec,
                             .self = { spec->role, index } };
    snprintf (actor->name, sizeof actor->name, "%s/%u", role_name (spec->role), (unsigned) index);
    if (process >= sim->process_count)
        sim->process_count = process + 1;
}

static void lay_out_shards (struct sim *sim)
{
    uint32_t process = 0;
    sim->settings.decisions = (uint16_t) between (sim, 2, SHARDS_MAX);
    sim->settings.usermeta_clients = (uint16_t) between (sim, 1, 2);
    sim->settings.currency_clients = (uint16_t) between (sim, 1, 2);
    add_actor (sim, &ingest_spec, 0, process);
    add_actor (sim, &stats_spec, 0, process++);
    for (uint16_t i = 0; i < sim->settings.decisions; i++)
        add_actor (sim, &decision_spec, i, process++);
    for (uint16_t i = 0; i < sim->settings.usermeta_clients; i++)
        add_actor (sim, &usermeta_client_spec, i, process++);
    for (uint16_t i = 0; i < sim->settings.currency_clients; i++)
        add_actor (sim, &currency_client_spec, i, process++);
}

static void lay_out (struct sim *sim, enum layout layout)
{
    static const struct actor_spec *const specs[] = { &ingest_spec, &decision_spec, &usermeta_client_spec,
                                                      &currency_client_spec, &stats_spec };
    sim->settings.decisions = sim->settings.usermeta_clients = sim->settings.currency_clients = 1;
    if (layout == LAYOUT_SHARDS) {
        lay_out_shards (sim);
    } else {
        uint32_t groups = layout == LAYOUT_ONE ? 1 : layout == LAYOUT_SPLIT ? 5 : 3;
        for (uint32_t i = 0; i < 5; i++)
            add_actor (sim, specs[i], 0, layout == LAYOUT_MIXED ? (uint32_t) draw (sim, groups) : i % groups);
    }
    for (uint32_t i = 0; i < sim->process_count; i++)
        sim->processes[i].number = i;
}

static void set_settings (struct sim *sim)
{
    bool calm = sim->options.calm;
    sim->settings = (struct settings){
        .app_1_name = "app1",
        .app_2_name = "app2",
        .reward_id = "promo",
        .reward_amount = 10,
        .reward_currency = "gold",
        .events_client_id = "sim",
        .events_channel = "users/v1",
        .poll_timeout_ms = 10000,
        .gap_grace_ms = 2000,
        .http_timeout_ms = (uint32_t) between (sim, 800, 5000),
        .window = calm ? 16 : (uint32_t) between (sim, 3, 24),
        .find_grace_ms = calm ? 200 : (uint32_t) between (sim, 200, 2000),
        .find_patience_ms = (uint32_t) between (sim, 20000, 60000),
        .statsd_prefix = "",
        .statsd = true,
    };
    sim->hold_ms = calm || chance (sim, 700) ? 5000 : 0;
}

/*  ---- players and their events ------------------------------------------- */

static enum user_kind draw_user_kind (struct sim *sim)
{
    switch (draw (sim, 16)) {
    case 0:
        return USER_NO_AUTH;
    case 1:
        return USER_EMPTY;
    case 2:
        return USER_REWARDED;
    case 3:
        return USER_UNFIT;
    default:
        return USER_DUE;
    }
}

static void add_user (struct sim *sim, enum user_kind kind)
{
    struct user *user = &sim->users[sim->user_count];
    *user = (struct user){ .kind = kind };
    /*  Usermeta cannot store a colon, and its list route takes commas apart. */
    const char *prefix = kind == USER_UNFIT ? "u:" : sim->user_count == 2 ? "u," : "u";
    snprintf (user->id, sizeof user->id, "%s%u", prefix, (unsigned) sim->user_count++);
    if (kind != USER_REWARDED)
        return;
    user->marked = true;
    snprintf (user->marker, sizeof user->marker, "1490999999001");
    user->rewards[user->reward_count++] = (struct reward_entry){ .number = 1 + sim->reward_number++ };
}

static void add_event (struct sim *sim, enum event_kind kind, uint32_t user, uint64_t visible_ms)
{
    struct posting *event = &sim->events[++sim->event_count];
    *event = (struct posting){ .kind = kind, .user = user, .visible_ms = visible_ms };
    if (kind != EVENT_NEVER)
        set_alarm (sim, visible_ms, ALARM_EVENT, sim->event_count, 0, NULL);
}

static enum event_kind draw_event_kind (struct sim *sim)
{
    static const enum event_kind kinds[] = { EVENT_OTHER_APP, EVENT_OTHER_TYPE, EVENT_NO_USER, EVENT_NEVER };
    return chance (sim, 150) ? kinds[draw (sim, 4)] : EVENT_LOGIN;
}

/*  Events come in bursts. Some ids show up after higher ones, within the grace;
    below the first event that a new process sees the grace is 500 ms only. */
static void post_events (struct sim *sim, uint64_t end_ms)
{
    uint32_t count = (uint32_t) between (sim, 10, POSTINGS_MAX - 1);
    uint64_t at_ms = between (sim, 1, 3000);
    uint64_t pause_ms = 2 * end_ms / count;
    uint32_t late = chance (sim, 600) ? (uint32_t) draw (sim, 200) : 0;
    for (uint32_t i = 0; i < count; i++) {
        enum event_kind kind = draw_event_kind (sim);
        uint64_t late_ms = chance (sim, late) ? draw (sim, 400) : 0;
        uint32_t user =
            i > 0 && chance (sim, 200) ? sim->events[i].user : (uint32_t) draw (sim, sim->user_count);
        add_event (sim, kind, user, at_ms + late_ms);
        at_ms += chance (sim, 500) ? draw (sim, 5) : draw (sim, 2 * pause_ms);
        if (at_ms > end_ms)
            at_ms = end_ms;
    }
}

static void tell_story (struct sim *sim)
{
    uint32_t users = (uint32_t) between (sim, 3, USERS_MAX);
    bool poison = chance (sim, 100);
    sim->no_listing = (sim->options.faults & FAULTS_SERVICES) && chance (sim, 100);
    sim->may_park = sim->no_listing;
    if (sim->no_listing) /* every grant in doubt is parked after this, until all is well */
        sim->settings.find_patience_ms /= 20;
    sim->listing_ascends = chance (sim, 300);
    sim->knows_before = chance (sim, 700);
    sim->listing_page = sim->knows_before && chance (sim, 400) ? 4 + (uint32_t) draw (sim, 2) : 0;
    for (uint32_t i = 0; i < users; i++)
        add_user (sim, poison && i == 1 ? USER_POISON : draw_user_kind (sim));
    post_events (sim, sim->heal_ms + 2000);
}

/*  ---- what befalls ------------------------------------------------------- */

static struct mishap *add_mishap (struct sim *sim, enum mishap_kind kind, uint64_t at_ms, uint64_t until_ms)
{
    if (sim->mishap_count == MISHAPS_MAX)
        return NULL;
    struct mishap *mishap = &sim->mishaps[sim->mishap_count];
    *mishap = (struct mishap){ .kind = kind, .at_ms = at_ms, .until_ms = until_ms };
    set_alarm (sim, at_ms, ALARM_MISHAP, sim->mishap_count++, 0, NULL);
    return mishap;
}

static uint64_t draw_ms (struct sim *sim, uint64_t from_ms, uint64_t length_ms_max)
{
    uint64_t end_ms = from_ms + 1 + draw (sim, chance (sim, 700) ? length_ms_max / 8 + 1 : length_ms_max);
    return end_ms < sim->heal_ms ? end_ms : sim->heal_ms;
}

/*  Some time, mostly when there is something to do. */
static uint64_t draw_moment (struct sim *sim)
{
    uint64_t at_ms = draw (sim, sim->heal_ms);
    if (chance (sim, 600))
        at_ms = sim->events[1 + draw (sim, sim->event_count)].visible_ms + draw (sim, 300);
    return at_ms < sim->heal_ms ? at_ms : sim->heal_ms - 1;
}

static void plan_kills (struct sim *sim)
{
    uint32_t count = (uint32_t) draw (sim, 9);
    for (uint32_t i = 0; i < count; i++) {
        struct mishap *mishap = add_mishap (sim, MISHAP_KILL, draw_moment (sim), 0);
        if (!mishap)
            return;
        mishap->a = (uint32_t) draw (sim, sim->process_count);
        mishap->until_ms = between (sim, 1, chance (sim, 800) ? 500 : 20000); /* how long it is down */
        mishap->amount = chance (sim, 700) ? 1 + draw (sim, 80) : 0;
        mishap->loses = (sim->options.faults & FAULTS_LOSE) && chance (sim, 300);
    }
}

static void plan_services (struct sim *sim, enum service service)
{
    uint64_t at_ms = draw (sim, QUIET_MS_MAX);
    while (at_ms < sim->heal_ms && chance (sim, 850)) {
        bool outage = chance (sim, 300);
        uint64_t until_ms = draw_ms (sim, at_ms, outage ? OUTAGE_MS_MAX : FLAKY_MS_MAX);
        struct mishap *mishap = add_mishap (sim, MISHAP_SERVICE, at_ms, until_ms);
        if (!mishap)
            return;
        mishap->a = service;
        mishap->amount = outage ? 1000 : between (sim, 50, 900);
        mishap->fate = (uint32_t) draw (sim, 1u << FATES) & ~(1u << FATE_GOOD);
        if (!mishap->fate)
            mishap->fate = 1u << FATE_ERROR_AFTER;
        at_ms = until_ms + between (sim, QUIET_MS_MIN + sim->settings.http_timeout_ms, QUIET_MS_MAX);
    }
}

static void plan_network (struct sim *sim)
{
    sim->loss = chance (sim, 500) ? (uint32_t) draw (sim, 200) : 0;
    sim->twice = chance (sim, 500) ? (uint32_t) draw (sim, 200) : 0;
    sim->shuffle = chance (sim, 500) ? (uint32_t) draw (sim, 200) : 0;
    uint32_t count = (uint32_t) draw (sim, 8);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at_ms = draw_moment (sim);
        struct mishap *mishap = add_mishap (sim, MISHAP_PARTITION, at_ms, draw_ms (sim, at_ms, 30000));
        if (!mishap)
            return;
        mishap->a = (uint32_t) draw (sim, sim->process_count);
        mishap->b = (uint32_t) draw (sim, sim->process_count);
        mishap->one_way = chance (sim, 300);
    }
}

static void plan_disks (struct sim *sim)
{
    uint32_t count = (uint32_t) draw (sim, 5);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at_ms = draw_moment (sim);
        struct mishap *mishap = add_mishap (sim, MISHAP_DISK, at_ms, draw_ms (sim, at_ms, 20000));
        if (!mishap)
            return;
        mishap->a = (uint32_t) draw (sim, sim->settings.decisions);
        mishap->amount = chance (sim, 500) ? DISK_FULL : DISK_SYNC;
    }
}

static void plan_clocks (struct sim *sim)
{
    uint32_t count = (uint32_t) draw (sim, 6);
    for (uint32_t i = 0; i < count; i++) {
        struct mishap *mishap = add_mishap (sim, MISHAP_CLOCK, draw (sim, sim->heal_ms), 0);
        if (!mishap)
            return;
        mishap->a = (uint32_t) draw (sim, sim->process_count);
        mishap->amount = draw (sim, chance (sim, 500) ? 2000 : 172800000);
    }
}

static void plan_persons (struct sim *sim)
{
    uint32_t count = (uint32_t) draw (sim, 5);
    for (uint32_t i = 0; i < count; i++) {
        struct mishap *mishap = add_mishap (sim, MISHAP_PERSON, draw (sim, sim->heal_ms), 0);
        if (mishap)
            mishap->a = (uint32_t) draw (sim, sim->settings.decisions);
    }
}

static void plan_mishaps (struct sim *sim)
{
    unsigned faults = sim->options.faults;
    plan_persons (sim);
    if (faults & FAULTS_NETWORK)
        plan_network (sim);
    if (faults & FAULTS_SERVICES)
        for (enum service service = SERVICE_EVENTS; service <= SERVICE_CURRENCY; service++)
            plan_services (sim, service);
    if (faults & FAULTS_DISK)
        plan_disks (sim);
    if (faults & FAULTS_CLOCK)
        plan_clocks (sim);
    if (faults & (FAULTS_KILL | FAULTS_LOSE))
        plan_kills (sim);
    struct mishap *heal = add_mishap (sim, MISHAP_HEAL, sim->heal_ms, 0);
    assert (heal || sim->mishap_count == MISHAPS_MAX);
    (void) heal;
}

/*  A few players, one of them twice at once, and nothing befalls but what the
    options say. */
static void tell_calm_story (struct sim *sim)
{
    sim->heal_ms = 1;
    for (unsigned i = 0; i < sim->options.calm_users; i++)
        add_user (sim, USER_DUE);
    add_user (sim, USER_NO_AUTH);
    for (uint32_t i = 0; i < sim->user_count; i++)
        add_event (sim, EVENT_LOGIN, i, 0);
    add_event (sim, EVENT_LOGIN, 0, 0);
}

void plan_world (struct sim *sim)
{
    bool calm = sim->options.calm;
    set_settings (sim);
    lay_out (sim, calm ? sim->options.layout : (enum layout) draw (sim, LAYOUTS));
    sim->heal_ms = between (sim, STORY_MS_MIN, STORY_MS_MAX);
    if (calm) {
        tell_calm_story (sim);
    } else {
        tell_story (sim);
        plan_mishaps (sim);
    }
    set_alarm (sim, sim->heal_ms + (calm ? 0 : 5000), ALARM_LOOK, 0, 0, NULL);
    for (uint32_t i = 0; i < sim->process_count; i++)
        process_start (sim, &sim->processes[i]);
}

/*  ---- when it does ------------------------------------------------------- */

static void heal (struct sim *sim)
{
    trace_line (sim, NULL, "everything is well from here on");
    sim->loss = sim->twice = sim->shuffle = 0;
    sim->no_listing = false;
    for (uint32_t i = 0; i < PROCESSES_MAX; i++) {
        sim->processes[i].kill_at = 0;
        for (uint32_t j = 0; j < PROCESSES_MAX; j++)
            sim->cut[i][j] = 0;
    }
    for (enum service service = SERVICE_EVENTS; service <= SERVICE_CURRENCY; service++)
        sim->trouble[service] = (struct trouble){ 0 };
    for (uint32_t i = 0; i < SHARDS_MAX; i++)
        sim->disks[i].trouble = DISK_GOOD;
}

static void befall_process (struct sim *sim, const struct mishap *mishap)
{
    struct process *process = &sim->processes[mishap->a];
    process->down_ms = mishap->until_ms;
    process->loses_disk = mishap->loses;
    if (mishap->amount && process->up)
        process->kill_at = process->points + mishap->amount;
    else
        process_kill (sim, process);
}

/*  Trouble begins, and an alarm is set for its end: the same mishap, as MISHAP_HEAL
    of one kind. */
void befall (struct sim *sim, struct mishap *mishap)
{
    bool ends = mishap->at_ms != sim->now_ms;
    switch (mishap->kind) {
    case MISHAP_KILL:
        befall_process (sim, mishap);
        return;
    case MISHAP_PARTITION:
        sim->cut[mishap->a][mishap->b] = mishap->until_ms;
        if (!mishap->one_way)
            sim->cut[mishap->b][mishap->a] = mishap->until_ms;
        trace_line (sim, NULL, "process %u is cut off from %u for %u ms", (unsigned) mishap->a,
                    (unsigned) mishap->b, (unsigned) (mishap->until_ms - mishap->at_ms));
        return;
    case MISHAP_PERSON:
        disk_person (sim, mishap->a);
        return;
    case MISHAP_CLOCK:
        sim->processes[mishap->a].wall_jump_ms = (int64_t) mishap->amount - 86400000;
        return;
    case MISHAP_SERVICE:
        sim->trouble[mishap->a] =
            ends ? (struct trouble){ 0 } : (struct trouble){ (uint32_t) mishap->amount, mishap->fate };
        trace_line (sim, NULL, "the %s service: %s", service_name ((enum service) mishap->a),
                    ends ? "well again" : "trouble");
        break;
    case MISHAP_DISK:
        sim->disks[mishap->a].trouble = ends ? DISK_GOOD : (enum disk_trouble) mishap->amount;
        break;
    case MISHAP_HEAL:
        heal (sim);
        return;
    }
    if (!ends)
        set_alarm (sim, mishap->until_ms, ALARM_MISHAP, (uint32_t) (mishap - sim->mishaps), 0, NULL);
}
