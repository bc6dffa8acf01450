/*  cluster.c - see cluster.h. */

#include "tests/sim/cluster.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "actors/base/outbox.h"
#include "actors/currency_client/currency_client.h"
#include "actors/decision/decision.h"
#include "actors/ingest/ingest.h"
#include "actors/stats/stats.h"
#include "actors/usermeta_client/usermeta_client.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    ROLES = ROLE_STATS + 1,
    CLIENTS_MAX = 16, /* of a kind, and decisions: what a list of endpoints takes */
    ACTORS_MAX = 3 * CLIENTS_MAX + 2,
    TURN_FRAMES_MAX = 256, /* as actors/base/shell.c */
    COUNTS_EVERY_MS = 20,  /* as actors/base/shell.c */
    GATHER_US = 2000,      /* as actors/base/shell.c */
    GATHER_IN_FLIGHT = 256,
    HELD_MS = 1000, /* how long a poll is held that finds nothing */
    RECALLS_MAX = 4,
    EVENTS_MAX = 10000000,
    DEADLINE_MS = 3600000 /* of virtual time: by then it is stuck */
};

static const uint64_t MS = 1000000;
static const uint64_t START_MS = 1000000;

/*  A frame under way, or in a mailbox. */
struct mail {
    struct mail *next;
    struct address from;
    struct cluster_actor *to;
    size_t size;
    uint8_t bytes[];
};

struct cluster_actor {
    const struct actor_spec *spec;
    struct address self;
    void *state;
    size_t state_size;
    struct outbox *outbox;
    struct effects effects;
    uint64_t timers[TIMERS_MAX];
    uint64_t alarm_ns; /* the next look at the timers; UINT64_MAX: none */
    uint64_t counts[COUNTER_IGNORED + 1];
    uint64_t counts_ms;
    struct message recalls[RECALLS_MAX];
    unsigned recall_count;
    struct mail *mail, **mail_end;
    struct call *asked;    /* not yet sent */
    struct call *calls;    /* under way */
    struct call *answered; /* not yet handed over */
    struct cluster_actor *next_ready;
    struct mail *sent; /* by the turn that is taken */
    bool busy, queued, wakes, remembers, gathered;
    uint64_t in_flight; /* as the core said last */
    uint64_t quarters;  /* of work units, in this turn */
    uint64_t frames;    /* in this turn */
    uint64_t busy_ns;
    uint64_t all_units, all_frames, all_wakes, all_turns;
};

enum alarm_kind { ALARM_ARRIVE, ALARM_ANSWER, ALARM_CORE, ALARM_IDLE, ALARM_TIMER };

struct alarm {
    uint64_t at_ns;
    uint64_t order;
    enum alarm_kind kind;
    void *what;
};

static struct {
    struct cluster_options options;
    struct settings settings;
    struct services services;
    uint64_t now_ns;
    struct alarm *heap;
    uint32_t heap_count, heap_capacity;
    uint64_t order;
    struct cluster_actor actors[ACTORS_MAX];
    uint32_t actor_count;
    uint32_t idle_cores;
    struct cluster_actor *ready, **ready_end;
    uint64_t outcomes[COUNTER_IGNORED + 1]; /* as ingest counts */
    uint64_t from_ns, to_ns;                /* the time that is measured … */
    uint64_t from_events, to_events;        /* … and what was settled when it began and ended */
    uint64_t from_busy_ns[ACTORS_MAX], to_busy_ns[ACTORS_MAX];
} cluster;

/*  ---- time --------------------------------------------------------------- */

static bool earlier (const struct alarm *a, const struct alarm *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void set_alarm (uint64_t at_ns, enum alarm_kind kind, void *what)
{
    if (cluster.heap_count == cluster.heap_capacity) {
        cluster.heap_capacity = cluster.heap_capacity ? cluster.heap_capacity * 2 : 1024;
        cluster.heap = realloc (cluster.heap, cluster.heap_capacity * sizeof *cluster.heap);
        assert (cluster.heap);
    }
    struct alarm alarm = { at_ns, cluster.order++, kind, what };
    uint32_t at = cluster.heap_count++;
    while (at > 0 && earlier (&alarm, &cluster.heap[(at - 1) / 2])) {
        cluster.heap[at] = cluster.heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    cluster.heap[at] = alarm;
}

static struct alarm next_alarm (void)
{
    assert (cluster.heap_count);
    struct alarm first = cluster.heap[0];
    struct alarm last = cluster.heap[--cluster.heap_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= cluster.heap_count)
            break;
        if (child + 1 < cluster.heap_count && earlier (&cluster.heap[child + 1], &cluster.heap[child]))
            child++;
        if (!earlier (&cluster.heap[child], &last))
            break;
        cluster.heap[at] = cluster.heap[child];
        at = child;
    }
    cluster.heap[at] = last;
    return first;
}

static struct moment read_clocks (void)
{
    uint64_t ms = cluster.now_ns / MS;
    return (struct moment){ START_MS + ms, UINT64_C (1790000000000) + ms };
}

/*  ---- effects ------------------------------------------------------------ */

/*  Quarters of a unit of work that a message is: of an event for ingest and
    decision, of a request to the service for the clients, of a count for stats. */
static unsigned quarters_handled (enum role role, enum message_id id)
{
    switch (id) {
    case MESSAGE_SETTLED:
        return 2;
    case MESSAGE_EVENT:
    case MESSAGE_META:
    case MESSAGE_META_WRITTEN:
    case MESSAGE_GIVEN:
        return 1;
    case MESSAGE_HTTP_ANSWER:
        return role == ROLE_INGEST ? 0 : 4;
    case MESSAGE_COUNT:
        return 4;
    default:
        return 0;
    }
}

static void put_request (struct cluster_actor *actor, const struct message *message)
{
    const struct http_request *request = &message->http_request;
    struct call *call = calloc (1, sizeof *call + request->path.size + 1 + request->body.size);
    assert (call);
    char *path = (char *) (call + 1);
    memcpy (path, request->path.data, request->path.size);
    uint8_t *body = (uint8_t *) path + request->path.size + 1;
    if (request->body.size)
        memcpy (body, request->body.data, request->body.size);
    call->client = actor;
    call->trace = message->trace;
    call->request = *request;
    call->request.path.data = path;
    call->request.body.data = body;
    struct call **at = &actor->asked;
    while (*at)
        at = &(*at)->next;
    *at = call;
}

static void cancel (struct cluster_actor *actor, uint64_t request)
{
    for (struct call **at = &actor->asked; *at; at = &(*at)->next)
        if ((*at)->request.request == request) {
            struct call *call = *at;
            *at = call->next;
            free (call);
            return;
        }
    for (struct call **at = &actor->calls; *at; at = &(*at)->next)
        if ((*at)->request.request == request) {
            (*at)->client = NULL;
            *at = (*at)->next;
            return;
        }
}

static void put_local (struct cluster_actor *actor, const struct message *message)
{
    switch (message->id) {
    case MESSAGE_SET_TIMER:
        actor->timers[message->set_timer.timer] = message->set_timer.at_ms;
        break;
    case MESSAGE_HTTP_REQUEST:
        put_request (actor, message);
        break;
    case MESSAGE_HTTP_CANCEL:
        cancel (actor, message->http_cancel.request);
        break;
    case MESSAGE_REMEMBER:
        actor->remembers = true;
        break;
    case MESSAGE_RECALL:
        assert (actor->recall_count < RECALLS_MAX);
        actor->recalls[actor->recall_count++] = *message;
        break;
    case MESSAGE_MEASURE:
        if (message->measure.gauge == GAUGE_IN_FLIGHT)
            actor->in_flight = message->measure.value;
        break;
    case MESSAGE_LOG:
        if (message->log.level >= LOG_WARN)
            fprintf (stderr, "bench_cluster: %s/%u: %.*s\n", role_name (actor->self.role),
                     (unsigned) actor->self.peer, (int) message->log.text.size, message->log.text.data);
        break;
    default:
        break; /* datagrams, health */
    }
}

static void actor_put (void *sink, struct address to, const struct message *message)
{
    struct cluster_actor *actor = sink;
    if (to.role == ROLE_SHELL) {
        put_local (actor, message);
    } else if (message->id == MESSAGE_COUNT) {
        actor->counts[message->count.counter] += message->count.amount;
        cluster.outcomes[message->count.counter] += message->count.amount;
    } else {
        bool taken = outbox_put (actor->outbox, to, message);
        assert (taken);
        (void) taken;
        actor->quarters += message->id == MESSAGE_EVENT ? 2 : 0;
    }
}

/*  ---- a turn ------------------------------------------------------------- */

static void hand_over (struct cluster_actor *actor, const struct message *message)
{
    actor->quarters += quarters_handled (actor->self.role, message->id);
    actor->spec->handle (actor->state, read_clocks (), message, &actor->effects);
}

static void hand_over_plain (struct cluster_actor *actor, enum message_id id)
{
    hand_over (actor, &(struct message){ .id = id });
}

/*  The journal is empty. */
static void hand_over_records (struct cluster_actor *actor)
{
    while (actor->recall_count) {
        struct message recalled = { .id = MESSAGE_RECALLED };
        recalled.recalled.which = actor->recalls[0].recall.which;
        actor->recall_count--;
        memmove (actor->recalls, actor->recalls + 1, actor->recall_count * sizeof *actor->recalls);
        hand_over (actor, &recalled);
    }
}

static void hand_over_timers (struct cluster_actor *actor)
{
    uint64_t now_ms = read_clocks ().steady_ms;
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        if (!actor->timers[i] || actor->timers[i] > now_ms)
            continue;
        actor->timers[i] = 0;
        struct message timer = { .id = MESSAGE_TIMER };
        timer.timer.timer = i;
        hand_over (actor, &timer);
    }
}

static void hand_over_answers (struct cluster_actor *actor)
{
    while (actor->answered) {
        struct call *call = actor->answered;
        actor->answered = call->next;
        struct message message = { .id = MESSAGE_HTTP_SENT, .trace = call->trace };
        message.http_sent.request = call->request.request;
        if (call->client)
            hand_over (actor, &message);
        message = (struct message){ .id = MESSAGE_HTTP_ANSWER, .trace = call->trace };
        message.http_answer = call->answer;
        message.http_answer.request = call->request.request;
        message.http_answer.outcome = HTTP_ANSWERED;
        message.http_answer.elapsed_ms = cluster.options.service_ns / MS;
        if (call->client)
            hand_over (actor, &message);
        free (call->body);
        free (call);
    }
}

static void hand_over_frames (struct cluster_actor *actor)
{
    for (unsigned i = 0; i < TURN_FRAMES_MAX && actor->mail; i++) {
        struct mail *mail = actor->mail;
        actor->mail = mail->next;
        if (!actor->mail)
            actor->mail_end = &actor->mail;
        actor->frames++;
        struct decoder decoder;
        struct message message;
        enum decode_result result = decode_begin (&decoder, mail->bytes, mail->size, false);
        assert (result == DECODE_OK);
        while ((result = decode_next (&decoder, &message)) != DECODE_END) {
            assert (result == DECODE_OK);
            message.from = mail->from;
            hand_over (actor, &message);
        }
        free (mail);
    }
}

static struct cluster_actor *actor_at (struct address address)
{
    for (uint32_t i = 0; i < cluster.actor_count; i++)
        if (cluster.actors[i].self.role == address.role && cluster.actors[i].self.peer == address.peer)
            return &cluster.actors[i];
    return NULL;
}

static bool send_frame (void *context, struct address to, const void *bytes, size_t size)
{
    struct cluster_actor *actor = context;
    struct mail *mail = malloc (sizeof *mail + size);
    assert (mail);
    *mail = (struct mail){ .from = actor->self, .to = actor_at (to), .size = size, .next = actor->sent };
    assert (mail->to);
    memcpy (mail->bytes, bytes, size);
    actor->sent = mail;
    actor->frames++;
    return true;
}

static void send_counts (struct cluster_actor *actor)
{
    uint64_t now_ms = read_clocks ().steady_ms;
    if (now_ms < actor->counts_ms + COUNTS_EVERY_MS)
        return;
    for (enum counter counter = 0; counter <= COUNTER_IGNORED; counter++) {
        if (!actor->counts[counter])
            continue;
        uint8_t frame[COUNT_FRAME_SIZE];
        size_t size = count_frame (frame, counter, actor->counts[counter]);
        assert (size > 0);
        send_frame (actor, (struct address){ ROLE_STATS, 0 }, frame, size);
        actor->counts[counter] = 0;
        actor->counts_ms = now_ms;
    }
}

/*  Requests leave one after another while the turn goes on, as they are made. What
    frames cost is the work of ZeroMQ's thread, which keeps no request waiting. */
static void send_requests (struct cluster_actor *actor, uint64_t own_ns)
{
    uint64_t count = 0, made = 0;
    for (const struct call *call = actor->asked; call; call = call->next)
        count++;
    while (actor->asked) {
        struct call *call = actor->asked;
        actor->asked = call->next;
        call->next = actor->calls;
        actor->calls = call;
        uint64_t at_ns = cluster.now_ns + own_ns * ++made / count;
        set_alarm (at_ns + cluster.options.service_ns, ALARM_ANSWER, call);
    }
}

/*  Frames leave when the turn is over, and what it remembers is on disk. */
static void send_frames (struct cluster_actor *actor, uint64_t at_ns)
{
    struct mail *in_order = NULL;
    while (actor->sent) {
        struct mail *mail = actor->sent;
        actor->sent = mail->next;
        mail->next = in_order;
        in_order = mail;
    }
    while (in_order) {
        struct mail *mail = in_order;
        in_order = mail->next;
        mail->next = NULL;
        set_alarm (at_ns + cluster.options.hop_ns, ALARM_ARRIVE, mail);
    }
}

/*  What a turn costs the actor's own thread. */
static uint64_t own_cost_of_turn (struct cluster_actor *actor)
{
    const struct cost *cost = &cluster.options.costs[actor->self.role];
    actor->all_units += actor->quarters;
    actor->all_frames += actor->frames;
    actor->all_wakes += actor->wakes;
    actor->all_turns++;
    return actor->quarters * cost->unit / 4 + actor->wakes * cost->wake;
}

/*  Whether the next turn of who has a journal is let grow for a moment. */
static bool gathers (const struct cluster_actor *actor)
{
    return actor->self.role == ROLE_DECISION && actor->in_flight >= GATHER_IN_FLIGHT;
}

static void take_turn (struct cluster_actor *actor)
{
    actor->quarters = actor->frames = 0;
    actor->remembers = false;
    if (!actor->all_turns)
        hand_over_plain (actor, MESSAGE_START);
    hand_over_timers (actor);
    hand_over_answers (actor);
    hand_over_frames (actor);
    hand_over_records (actor);
    hand_over_plain (actor, MESSAGE_TURN);
    hand_over_records (actor);
    outbox_flush (actor->outbox, send_frame, actor);
    send_counts (actor);
    uint64_t own_ns = own_cost_of_turn (actor);
    uint64_t cost_ns = own_ns + actor->frames * cluster.options.costs[actor->self.role].frame;
    uint64_t end_ns = cluster.now_ns + cost_ns;
    actor->busy_ns += cost_ns;
    actor->busy = true;
    set_alarm (end_ns, ALARM_CORE, actor);
    end_ns += actor->remembers ? cluster.options.sync_ns : 0;
    send_requests (actor, own_ns);
    send_frames (actor, end_ns);
    uint64_t gathered_ns = gathers (actor) ? cluster.now_ns + GATHER_US * 1000 : 0;
    actor->gathered = gathered_ns > end_ns;
    set_alarm (actor->gathered ? gathered_ns : end_ns, ALARM_IDLE, actor);
}

/*  ---- who runs ----------------------------------------------------------- */

/*  Whoever waited longest gets the next core that is idle. */
static void dispatch (void)
{
    while (cluster.idle_cores && cluster.ready) {
        struct cluster_actor *actor = cluster.ready;
        cluster.ready = actor->next_ready;
        if (!cluster.ready)
            cluster.ready_end = &cluster.ready;
        cluster.idle_cores--;
        actor->queued = false;
        take_turn (actor);
    }
}

static void make_ready (struct cluster_actor *actor, bool wakes)
{
    if (actor->busy || actor->queued)
        return;
    actor->queued = true;
    actor->wakes = wakes;
    actor->next_ready = NULL;
    *cluster.ready_end = actor;
    cluster.ready_end = &actor->next_ready;
}

static uint64_t timer_ns (const struct cluster_actor *actor)
{
    uint64_t due_ms = UINT64_MAX;
    for (unsigned i = 0; i < TIMERS_MAX; i++)
        if (actor->timers[i] && actor->timers[i] < due_ms)
            due_ms = actor->timers[i];
    for (enum counter counter = 0; counter <= COUNTER_IGNORED; counter++)
        if (actor->counts[counter] && actor->counts_ms + COUNTS_EVERY_MS < due_ms)
            due_ms = actor->counts_ms + COUNTS_EVERY_MS;
    if (due_ms == UINT64_MAX)
        return due_ms;
    uint64_t at_ns = due_ms > START_MS ? (due_ms - START_MS) * MS : 0;
    return at_ns > cluster.now_ns ? at_ns : cluster.now_ns;
}

/*  A turn is over: there is more to do, or it waits. */
static void on_idle (struct cluster_actor *actor)
{
    actor->busy = false;
    uint64_t at_ns = timer_ns (actor);
    if (actor->mail || actor->answered || at_ns <= cluster.now_ns) {
        make_ready (actor, actor->gathered);
    } else if (at_ns < actor->alarm_ns) {
        actor->alarm_ns = at_ns;
        set_alarm (at_ns, ALARM_TIMER, actor);
    }
}

static void on_timer (struct cluster_actor *actor)
{
    actor->alarm_ns = UINT64_MAX;
    uint64_t at_ns = timer_ns (actor);
    if (at_ns <= cluster.now_ns)
        make_ready (actor, true);
    else if (!actor->busy && !actor->queued && at_ns != UINT64_MAX) {
        actor->alarm_ns = at_ns;
        set_alarm (at_ns, ALARM_TIMER, actor);
    }
}

static void on_arrival (struct mail *mail)
{
    struct cluster_actor *actor = mail->to;
    *actor->mail_end = mail;
    actor->mail_end = &mail->next;
    make_ready (actor, true);
}

static void on_answer (struct call *call)
{
    struct cluster_actor *actor = call->client;
    if (!actor) {
        free (call->body);
        free (call);
        return;
    }
    if (!call->body && !services_serve (&cluster.services, call)) {
        set_alarm (cluster.now_ns + HELD_MS * MS, ALARM_ANSWER, call);
        return;
    }
    for (struct call **at = &actor->calls; *at; at = &(*at)->next)
        if (*at == call) {
            *at = call->next;
            break;
        }
    call->next = NULL;
    struct call **at = &actor->answered;
    while (*at)
        at = &(*at)->next;
    *at = call;
    make_ready (actor, true);
}

static void go_off (const struct alarm *alarm)
{
    switch (alarm->kind) {
    case ALARM_ARRIVE:
        on_arrival (alarm->what);
        break;
    case ALARM_ANSWER:
        on_answer (alarm->what);
        break;
    case ALARM_CORE:
        cluster.idle_cores++;
        break;
    case ALARM_IDLE:
        on_idle (alarm->what);
        break;
    case ALARM_TIMER:
        on_timer (alarm->what);
        break;
    }
}

/*  ---- the run ------------------------------------------------------------ */

static void add_actors (const struct actor_spec *spec, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++) {
        assert (cluster.actor_count < ACTORS_MAX);
        struct cluster_actor *actor = &cluster.actors[cluster.actor_count++];
        *actor = (struct cluster_actor){ .spec = spec, .self = { spec->role, i } };
        actor->state_size = spec->state_size (&cluster.settings);
        actor->state = mmap (NULL, actor->state_size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert (actor->state != MAP_FAILED);
        spec->init (actor->state, &cluster.settings);
        actor->outbox = outbox_new ();
        assert (actor->outbox);
        actor->effects = (struct effects){ .put = actor_put, .sink = actor };
        actor->mail_end = &actor->mail;
        actor->alarm_ns = UINT64_MAX;
        make_ready (actor, false);
    }
}

static void set_up (void)
{
    const struct cluster_options *options = &cluster.options;
    cluster.settings = (struct settings){
        .app_1_name = "app1",
        .app_2_name = "app2",
        .reward_id = "promo",
        .reward_amount = 10,
        .reward_currency = "gold",
        .events_client_id = "bench",
        .events_channel = "users/v1",
        .poll_timeout_ms = 60000,
        .gap_grace_ms = 2000,
        .http_timeout_ms = 5000,
        .window = options->window,
        .find_grace_ms = 1000,
        .find_patience_ms = 60000,
        .statsd_prefix = "",
        .decisions = options->decisions,
        .usermeta_clients = options->clients,
        .currency_clients = options->clients,
        .hash_seed = 1,
    };
    cluster.services = (struct services){ .events = options->events };
    cluster.services.marked = calloc (options->events + 1, 1);
    cluster.services.given = calloc (options->events + 1, 1);
    assert (cluster.services.marked && cluster.services.given);
    cluster.ready_end = &cluster.ready;
    add_actors (&stats_spec, 1);
    add_actors (&currency_client_spec, options->clients);
    add_actors (&usermeta_client_spec, options->clients);
    add_actors (&decision_spec, options->decisions);
    add_actors (&ingest_spec, 1);
    cluster.idle_cores = options->cores ? options->cores : cluster.actor_count;
}

static uint64_t settled (void)
{
    return cluster.outcomes[COUNTER_SUCCESS] + cluster.outcomes[COUNTER_FAILURE] +
           cluster.outcomes[COUNTER_IGNORED];
}

/*  What is measured is the middle: from a quarter of the events to four fifths. */
static void look (void)
{
    uint64_t now = settled ();
    if (!cluster.from_ns && now >= cluster.options.events / 4) {
        cluster.from_ns = cluster.now_ns;
        cluster.from_events = now;
        for (uint32_t i = 0; i < cluster.actor_count; i++)
            cluster.from_busy_ns[i] = cluster.actors[i].busy_ns;
    }
    if (!cluster.to_ns && now >= cluster.options.events / 5 * 4) {
        cluster.to_ns = cluster.now_ns;
        cluster.to_events = now;
        for (uint32_t i = 0; i < cluster.actor_count; i++)
            cluster.to_busy_ns[i] = cluster.actors[i].busy_ns;
    }
}

static void run (void)
{
    set_up ();
    dispatch ();
    while (settled () < cluster.options.events && cluster.now_ns < DEADLINE_MS * MS) {
        struct alarm alarm = next_alarm ();
        cluster.now_ns = alarm.at_ns;
        go_off (&alarm);
        dispatch ();
        look ();
    }
}

/*  ---- telling ------------------------------------------------------------ */

static void print_role (enum role role)
{
    double busy = 0, most = 0, seconds = (double) (cluster.to_ns - cluster.from_ns);
    uint64_t units = 0, frames = 0, wakes = 0, turns = 0;
    unsigned count = 0;
    for (uint32_t i = 0; i < cluster.actor_count; i++) {
        const struct cluster_actor *actor = &cluster.actors[i];
        if (actor->self.role != role)
            continue;
        double share = (double) (cluster.to_busy_ns[i] - cluster.from_busy_ns[i]) / seconds;
        busy += share;
        most = share > most ? share : most;
        units += actor->all_units / 4;
        frames += actor->all_frames;
        wakes += actor->all_wakes;
        turns += actor->all_turns;
        count++;
    }
    double events = (double) cluster.options.events;
    printf (",\"%s\":{\"actors\":%u,\"cores\":%.3f,\"busiest\":%.3f,\"units\":%.3f,\"frames\":%.3f,"
            "\"wakes\":%.3f,\"turns\":%.3f}",
            role_name (role), count, busy, most, (double) units / events, (double) frames / events,
            (double) wakes / events, (double) turns / events);
}

/*  One line of JSON. `cores` of a role: how many it keeps busy; the rest is an
    event. */
static bool report (void)
{
    const struct services *services = &cluster.services;
    uint64_t events = cluster.options.events;
    if (services->rewards != events || services->doubles || cluster.outcomes[COUNTER_SUCCESS] != events) {
        fprintf (stderr,
                 "bench_cluster: %" PRIu64 " rewards, %" PRIu64 " doubles, %" PRIu64
                 " successes: expected %" PRIu64 ", 0, %" PRIu64 "\n",
                 services->rewards, services->doubles, cluster.outcomes[COUNTER_SUCCESS], events, events);
        return false;
    }
    double seconds = (double) (cluster.to_ns - cluster.from_ns) / 1e9;
    printf ("{\"events_s\":%.1f,\"pages\":%" PRIu64,
            (double) (cluster.to_events - cluster.from_events) / seconds, services->polls);
    for (enum role role = ROLE_SHELL + 1; role < (enum role) ROLES; role++)
        print_role (role);
    printf ("}\n");
    return true;
}

static void clear (void)
{
    while (cluster.heap_count) {
        struct alarm alarm = next_alarm ();
        if (alarm.kind == ALARM_ARRIVE)
            free (alarm.what);
        if (alarm.kind == ALARM_ANSWER) {
            free (((struct call *) alarm.what)->body);
            free (alarm.what);
        }
    }
    for (uint32_t i = 0; i < cluster.actor_count; i++) {
        struct cluster_actor *actor = &cluster.actors[i];
        while (actor->mail) {
            struct mail *mail = actor->mail;
            actor->mail = mail->next;
            free (mail);
        }
        while (actor->answered) {
            struct call *call = actor->answered;
            actor->answered = call->next;
            free (call->body);
            free (call);
        }
        outbox_destroy (&actor->outbox);
        munmap (actor->state, actor->state_size);
    }
    free (cluster.heap);
    free (cluster.services.marked);
    free (cluster.services.given);
}

/*  ---- the command line --------------------------------------------------- */

static const char usage[] =
    "usage: bench_cluster [NAME VALUE]…\n"
    "\n"
    "Runs the cores of all actors on a simulated cluster, with every player's one\n"
    "event rewarded, and prints one line of JSON: events a second of virtual time,\n"
    "and what kept each role busy. The same arguments give the same line.\n"
    "\n"
    "  --decisions N     decision shards, 1 to 16 (default 1)\n"
    "  --clients N       usermeta-clients, and as many currency-clients, 1 to 16 (1)\n"
    "  --cores N         that all actors share (default 0: one each)\n"
    "  --events N        (default 20000)\n"
    "  --window N        events in flight at most (default 10000)\n"
    "  --service-us N    from a request to its answer (default 200)\n"
    "  --hop-us N        of a frame between two actors (default 50)\n"
    "  --sync-us N       of a commit of the journal (default 1000)\n"
    "  --ROLE U,F,W      what a role costs, in ns of processor time: a unit of work\n"
    "                    (an event; of the clients a request to the service; of stats\n"
    "                    a count), a frame taken or sent, a turn that had to wait\n";

/*  A number and what stands behind it. */
static bool read_number (const char *text, uint64_t low, uint64_t high, uint64_t *number, const char **rest)
{
    char *stop;
    errno = 0;
    *number = strtoull (text, &stop, 10);
    *rest = stop;
    return errno == 0 && *text >= '0' && *text <= '9' && *number >= low && *number <= high;
}

static bool read_cost (const char *text, struct cost *cost)
{
    const char *at;
    uint64_t max = 1000000000;
    return read_number (text, 0, max, &cost->unit, &at) && *at == ',' &&
           read_number (at + 1, 0, max, &cost->frame, &at) && *at == ',' &&
           read_number (at + 1, 0, max, &cost->wake, &at) && *at == '\0';
}

/*  One option; false when it is none, or its value is none. */
static bool read_option (struct cluster_options *options, const char *name, const char *text)
{
    static const struct {
        const char *name;
        uint64_t low, high;
    } numbers[] = {
        { "decisions", 1, CLIENTS_MAX }, { "clients", 1, CLIENTS_MAX }, { "cores", 0, 1024 },
        { "events", 100, EVENTS_MAX },   { "window", 1, WINDOW_MAX },   { "service-us", 1, 1000000 },
        { "hop-us", 1, 1000000 },        { "sync-us", 0, 1000000 }
    };
    uint64_t values[] = { options->decisions,     options->clients,       options->cores,
                          options->events,        options->window,        options->service_ns / 1000,
                          options->hop_ns / 1000, options->sync_ns / 1000 };
    const char *rest;
    for (enum role role = ROLE_SHELL + 1; role < (enum role) ROLES; role++)
        if (strcmp (name, role_name (role)) == 0)
            return read_cost (text, &options->costs[role]);
    unsigned at = 0;
    while (at < sizeof numbers / sizeof *numbers && strcmp (name, numbers[at].name) != 0)
        at++;
    if (at == sizeof numbers / sizeof *numbers ||
        !read_number (text, numbers[at].low, numbers[at].high, &values[at], &rest) || *rest)
        return false;
    options->decisions = (uint16_t) values[0];
    options->clients = (uint16_t) values[1];
    options->cores = (uint32_t) values[2];
    options->events = (uint32_t) values[3];
    options->window = (uint32_t) values[4];
    options->service_ns = values[5] * 1000;
    options->hop_ns = values[6] * 1000;
    options->sync_ns = values[7] * 1000;
    return true;
}

int main (int argc, char **argv)
{
    struct cluster_options *options = &cluster.options;
    *options = (struct cluster_options){ .decisions = 1,
                                         .clients = 1,
                                         .events = 20000,
                                         .window = 10000,
                                         .service_ns = 200000,
                                         .hop_ns = 50000,
                                         .sync_ns = 1000000 };
    for (int i = 1; i < argc; i += 2) {
        if (strcmp (argv[i], "--help") == 0) {
            fputs (usage, stdout);
            return 0;
        }
        if (strncmp (argv[i], "--", 2) != 0 || i + 1 == argc ||
            !read_option (options, argv[i] + 2, argv[i + 1])) {
            fprintf (stderr, "bench_cluster: \"%s %s\": expected an option and its value; see --help\n",
                     argv[i], i + 1 < argc ? argv[i + 1] : "");
            return 64;
        }
    }
    run ();
    bool good = report ();
    clear ();
    return good ? 0 : 1;
}
