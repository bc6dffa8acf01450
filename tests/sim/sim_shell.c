/*  sim_shell.c - the turn of an actor, as actors/base/shell.c takes it. */

#include "tests/sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "include/mistake.h"
#include "proto/codec.h"

enum { TURN_FRAMES_MAX = 256, COMMIT_RETRY_MS = 100, BLOCKED_RETRY_MS = 100, COUNTS_UNDER_WAY_MAX = 64 };

/*  A place where the process may be killed; the turn unwinds from there. */
bool point (struct actor *actor)
{
    struct process *process = actor->process;
    if (process->doomed)
        return false;
    process->points++;
    if (process->points != process->kill_at)
        return true;
    process->doomed = true;
    trace_line (actor->sim, actor, "killed here, at point %llu", (unsigned long long) process->points);
    return false;
}

/*  ---- effects ------------------------------------------------------------ */

static void put_local (struct actor *actor, const struct message *message)
{
    switch (message->id) {
    case MESSAGE_SET_TIMER:
        assert (message->set_timer.timer < TIMERS_MAX);
        actor->timers[message->set_timer.timer] = message->set_timer.at_ms;
        break;
    case MESSAGE_HTTP_REQUEST:
        http_put (actor, message);
        break;
    case MESSAGE_HTTP_CANCEL:
        http_cancel (actor, message->http_cancel.request);
        break;
    case MESSAGE_REMEMBER:
        disk_append (actor->sim, actor->self.peer, message);
        break;
    case MESSAGE_RECALL:
        assert (actor->recall_count < 4);
        actor->recalls[actor->recall_count++] = *message;
        break;
    case MESSAGE_DRAINED:
        actor->drained = true;
        break;
    default:
        break; /* logs, gauges, datagrams: sim_check.c looks at them */
    }
}

static void actor_put (void *sink, struct address to, const struct message *message)
{
    struct actor *actor = sink;
    check_put (actor, to, message);
    trace_message (actor, "->", to, message);
    if (to.role == ROLE_SHELL)
        put_local (actor, message);
    else if (message->id == MESSAGE_COUNT)
        actor->counts[message->count.counter] += message->count.amount;
    else if (!outbox_put (actor->outbox, to, message))
        violate (actor->sim, "%s: a message breaks a limit of the language", actor->name);
}

/*  ---- input -------------------------------------------------------------- */

static void hand_over (struct actor *actor, const struct message *message)
{
    if (!point (actor))
        return;
    actor->busy = true;
    check_handed (actor, message);
    if (message->id != MESSAGE_TURN)
        trace_message (actor, "<-", message->from, message);
    actor->spec->handle (actor->state, actor->now, message, &actor->effects);
}

static void hand_over_plain (struct actor *actor, enum message_id id)
{
    struct message message = { .id = id };
    hand_over (actor, &message);
}

static void hand_over_records (struct actor *actor)
{
    while (actor->recall_count && !actor->process->doomed) {
        struct message recall = actor->recalls[0];
        actor->recall_count--;
        memmove (actor->recalls, actor->recalls + 1, actor->recall_count * sizeof *actor->recalls);
        disk_recall (actor, &recall, hand_over);
    }
}

static void end_turn (struct actor *actor)
{
    hand_over_records (actor);
    hand_over_plain (actor, MESSAGE_TURN);
    hand_over_records (actor);
}

static void hand_over_timers (struct actor *actor)
{
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        if (!actor->timers[i] || actor->timers[i] > actor->now.steady_ms)
            continue;
        actor->timers[i] = 0;
        struct message timer = { .id = MESSAGE_TIMER };
        timer.timer.timer = i;
        hand_over (actor, &timer);
    }
}

static void hand_over_http (struct actor *actor)
{
    while (actor->http && !actor->process->doomed) {
        struct happening *happening = actor->http;
        actor->http = happening->next;
        if (!actor->http)
            actor->http_end = &actor->http;
        hand_over (actor, &happening->message);
        free (happening);
    }
}

static void hand_over_peer (struct actor *actor, struct address peer, enum peer_state state)
{
    struct message message = { .id = MESSAGE_PEER, .from = peer };
    message.peer.state = state;
    if (state == PEER_RESTARTED)
        outbox_forget (actor->outbox, peer);
    hand_over (actor, &message);
}

static void hand_over_frame (struct actor *actor, const struct mail *mail)
{
    struct decoder decoder;
    struct message message;
    enum decode_result result = decode_begin (&decoder, mail->bytes + mail->head_size, mail->size, false);
    if (result != DECODE_OK) {
        violate (actor->sim, "%s: rubbish in a frame: %s", actor->name, decode_result_name (result));
        return;
    }
    while ((result = decode_next (&decoder, &message)) != DECODE_END) {
        message.from = mail->from;
        if (result == DECODE_OK)
            hand_over (actor, &message);
        else
            violate (actor->sim, "%s: rubbish in a message: %s", actor->name, decode_result_name (result));
    }
}

static void hand_over_mail (struct actor *actor, struct mail *mail, bool held)
{
    if (!mail->remote) {
        hand_over_frame (actor, mail);
        return;
    }
    switch (net_take (actor, mail, held)) {
    case SESSION_DELIVER:
        hand_over_frame (actor, mail);
        break;
    case SESSION_CAME:
        hand_over_peer (actor, mail->from, PEER_UP);
        break;
    case SESSION_RESTARTED:
        hand_over_peer (actor, mail->from, PEER_RESTARTED);
        break;
    case SESSION_NO:
    case SESSION_RUBBISH:
        break; /* frames of the dead that come late may be either */
    case SESSION_NOTHING:
        break;
    }
}

/*  What waits in the mailbox. While a turn is held, what came from within the
    process stays there. */
static void hand_over_frames (struct actor *actor, bool held)
{
    struct mail **at = &actor->mail;
    for (unsigned i = 0; i < TURN_FRAMES_MAX && *at && !actor->process->doomed;) {
        struct mail *mail = *at;
        if (held && !mail->remote) {
            at = &mail->next;
            continue;
        }
        *at = mail->next;
        if (!mail->next)
            actor->mail_end = at;
        hand_over_mail (actor, mail, held);
        free (mail);
        i++;
    }
    struct address peer;
    while (!actor->process->doomed && net_lost (actor, &peer))
        hand_over_peer (actor, peer, PEER_LOST);
}

/*  ---- output ------------------------------------------------------------- */

static bool send_frame (void *context, struct address to, const void *bytes, size_t size)
{
    struct actor *actor = context;
    if (!point (actor))
        return false;
    bool taken = net_send (actor, to, bytes, size);
    return point (actor) && taken;
}

static void send_counts (struct actor *actor)
{
    const struct address stats = { ROLE_STATS, 0 };
    if (net_unacknowledged (actor, stats) >= COUNTS_UNDER_WAY_MAX)
        return;
    for (enum counter counter = 0; counter <= COUNTER_IGNORED; counter++) {
        if (!actor->counts[counter])
            continue;
        uint8_t frame[COUNT_FRAME_SIZE];
        size_t size = count_frame (frame, counter, actor->counts[counter]);
        if (!size || !send_frame (actor, stats, frame, size))
            return;
        actor->counts[counter] = 0;
    }
}

static bool commit (struct actor *actor)
{
    if (actor->self.role != ROLE_DECISION)
        return true;
    if (!point (actor))
        return false;
    bool good = disk_commit (actor->sim, actor->self.peer);
    if (!good && !actor->uncommitted)
        trace_line (actor->sim, actor, "the disk refuses");
    actor->uncommitted = !good;
    actor->retry_commit_ms = actor->now.steady_ms + COMMIT_RETRY_MS;
    return good && point (actor);
}

static void let_out (struct actor *actor)
{
    actor->blocked = !outbox_flush (actor->outbox, send_frame, actor);
    if (!actor->process->doomed)
        send_counts (actor);
    if (!actor->process->doomed && !actor->blocked)
        http_start (actor);
}

static void commit_and_let_out (struct actor *actor)
{
    if (MISTAKE (COMMIT_AFTER_SEND)) {
        let_out (actor);
        commit (actor);
    } else if (commit (actor)) {
        let_out (actor);
    }
}

/*  ---- the loop ----------------------------------------------------------- */

static void resume (struct actor *actor)
{
    actor->busy = false;
    hand_over_frames (actor, true);
    if (actor->busy)
        end_turn (actor);
    if (actor->process->doomed || (actor->uncommitted && actor->now.steady_ms < actor->retry_commit_ms))
        return;
    if (!actor->uncommitted && !actor->busy)
        let_out (actor);
    else
        commit_and_let_out (actor);
}

static void take (struct actor *actor)
{
    actor->busy = false;
    if (actor->fresh) {
        actor->fresh = false;
        hand_over_plain (actor, MESSAGE_START);
    }
    hand_over_timers (actor);
    hand_over_http (actor);
    hand_over_frames (actor, false);
    if (actor->process->doomed)
        return;
    if (!actor->busy) {
        send_counts (actor);
        return;
    }
    end_turn (actor);
    if (!actor->process->doomed)
        commit_and_let_out (actor);
}

/*  World time at which something is due that nothing else wakes for. */
static uint64_t next_due (const struct actor *actor)
{
    uint64_t due_ms = net_due (actor);
    bool held = actor->uncommitted || actor->blocked;
    if (held) {
        uint64_t retry_ms =
            actor->uncommitted ? actor->retry_commit_ms : actor->now.steady_ms + BLOCKED_RETRY_MS;
        due_ms = retry_ms < due_ms ? retry_ms : due_ms;
    } else {
        for (unsigned i = 0; i < TIMERS_MAX; i++)
            if (actor->timers[i] && actor->timers[i] < due_ms)
                due_ms = actor->timers[i];
        if (actor->http || actor->mail)
            due_ms = 0;
    }
    if (due_ms == UINT64_MAX)
        return due_ms;
    uint64_t base_ms = actor->process->steady_base_ms;
    return due_ms > base_ms + actor->sim->now_ms ? due_ms - base_ms : actor->sim->now_ms;
}

void actor_wake (struct actor *actor, uint64_t at_ms)
{
    if (!actor->state || at_ms >= actor->turn_ms)
        return;
    actor->turn_ms = at_ms;
    set_alarm (actor->sim, at_ms, ALARM_TURN, actor->number, actor->process->life, NULL);
}

void actor_post (struct actor *actor, const struct message *message)
{
    struct happening *happening = malloc (sizeof *happening);
    assert (happening);
    *happening = (struct happening){ .message = *message };
    *actor->http_end = happening;
    actor->http_end = &happening->next;
    actor_wake (actor, actor->sim->now_ms);
}

void actor_turn (struct actor *actor)
{
    struct process *process = actor->process;
    uint64_t now_ms = actor->sim->now_ms;
    actor->turn_ms = UINT64_MAX;
    actor->now.steady_ms = process->steady_base_ms + now_ms;
    actor->now.wall_ms = (uint64_t) ((int64_t) (UINT64_C (1790000000000) + now_ms) + process->wall_jump_ms);
    if (actor->uncommitted || actor->blocked)
        resume (actor);
    else
        take (actor);
    if (!process->doomed)
        net_work (actor);
    if (process->doomed) {
        process_kill (actor->sim, process);
        return;
    }
    uint64_t due_ms = next_due (actor);
    if (due_ms != UINT64_MAX)
        actor_wake (actor, due_ms > now_ms ? due_ms : now_ms + 1);
}

/*  ---- life --------------------------------------------------------------- */

void actor_start (struct actor *actor)
{
    struct sim *sim = actor->sim;
    actor->settings = sim->settings;
    actor->state_size = actor->spec->state_size (&actor->settings);
    actor->state = mmap (NULL, actor->state_size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert (actor->state != MAP_FAILED);
    actor->spec->init (actor->state, &actor->settings);
    actor->outbox = outbox_new ();
    actor->effects = (struct effects){ .put = actor_put, .sink = actor };
    memset (actor->timers, 0, sizeof actor->timers);
    memset (actor->counts, 0, sizeof actor->counts);
    actor->recall_count = 0;
    actor->mail_end = &actor->mail;
    actor->http_end = &actor->http;
    actor->turn_ms = UINT64_MAX;
    actor->in_flight = 0;
    actor->fresh = true;
    actor->uncommitted = actor->blocked = actor->drained = false;
}

void actor_stop (struct actor *actor)
{
    if (!actor->state)
        return;
    http_stop (actor);
    net_close (actor);
    while (actor->mail) {
        struct mail *mail = actor->mail;
        actor->mail = mail->next;
        free (mail);
    }
    while (actor->http) {
        struct happening *happening = actor->http;
        actor->http = happening->next;
        free (happening);
    }
    outbox_destroy (&actor->outbox);
    munmap (actor->state, actor->state_size);
    actor->state = NULL;
}
