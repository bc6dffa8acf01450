/*  sim_net.c - the hops between actors, and the network below their sessions.

    Within a process nothing is ever lost. Between processes a hop is a session,
    and what it puts on the wire may be lost, doubled, late, out of order, or cut
    off for a while.
*/
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*  Who connects to whom, as bin/topology.c has it. */
static const unsigned callers[ROLE_STATS + 1] = {
    [ROLE_DECISION] = 1u << ROLE_INGEST,
    [ROLE_USERMETA_CLIENT] = 1u << ROLE_DECISION,
    [ROLE_CURRENCY_CLIENT] = 1u << ROLE_DECISION,
    [ROLE_STATS] = 1u << ROLE_INGEST | 1u << ROLE_DECISION,
};

static bool calls (const struct actor *actor, const struct actor *other)
{
    return callers[other->self.role] & 1u << actor->self.role;
}

/*  An actor is bound within the process when everybody who calls it is there. */
static bool is_within (const struct sim *sim, const struct actor *bound)
{
    for (uint32_t i = 0; i < sim->actor_count; i++)
        if (calls (&sim->actors[i], bound) && sim->actors[i].process != bound->process)
            return false;
    return true;
}

static struct hop *hop_find (struct actor *actor, struct address peer)
{
    for (unsigned i = 0; i < actor->hop_count; i++)
        if (actor->hops[i].peer.role == peer.role && actor->hops[i].peer.peer == peer.peer)
            return &actor->hops[i];
    return NULL;
}

static struct hop *hop_add (struct actor *actor, struct actor *other, bool speaks_first)
{
    assert (actor->hop_count < HOPS_MAX);
    struct hop *hop = &actor->hops[actor->hop_count++];
    const struct session_options options = {
        .role = actor->self.role,
        .index = actor->self.peer,
        .incarnation = actor->settings.hash_seed | 1,
        .protocol_min = PROTOCOL_VERSION,
        .protocol_max = PROTOCOL_VERSION,
        .version = "sim",
        .peer = other->self,
        .speaks_first = speaks_first,
    };
    *hop = (struct hop){ .peer = other->self, .actor = other->number, .session = session_new (&options) };
    assert (hop->session);
    return hop;
}

void net_open (struct actor *actor)
{
    struct sim *sim = actor->sim;
    actor->hop_count = 0;
    memset (actor->heard, 0, sizeof actor->heard);
    for (uint32_t i = 0; i < sim->actor_count; i++)
        if (calls (actor, &sim->actors[i]) && !is_within (sim, &sim->actors[i]))
            hop_add (actor, &sim->actors[i], true);
}

void net_close (struct actor *actor)
{
    for (unsigned i = 0; i < actor->hop_count; i++)
        session_destroy (&actor->hops[i].session);
    actor->hop_count = 0;
}

static struct mail *mail_new (const struct actor *from, const void *head, size_t head_size, const void *bytes,
                              size_t size)
{
    struct mail *mail = malloc (sizeof *mail + head_size + size);
    assert (mail);
    *mail = (struct mail){ .from = from->self,
                           .remote = head_size > 0,
                           .actor = from->number,
                           .life = from->process->life,
                           .head_size = head_size,
                           .size = size };
    if (head_size)
        memcpy (mail->bytes, head, head_size);
    if (size)
        memcpy (mail->bytes + head_size, bytes, size);
    return mail;
}

/*  A hop is one connection at a time: what a process sent before it died may come
    late, but not behind what its successor sent. */
void net_arrive (struct actor *actor, struct mail *mail)
{
    if (!actor->state || mail->life < actor->heard[mail->actor]) {
        free (mail);
        return;
    }
    actor->heard[mail->actor] = mail->life;
    mail->next = NULL;
    *actor->mail_end = mail;
    actor->mail_end = &mail->next;
    actor_wake (actor, actor->sim->now_ms + draw (actor->sim, 2));
}

/*  False when the hop is full. A frame for somebody who is not known yet is
    dropped, as the bus does. */
bool net_send (struct actor *actor, struct address to, const void *bytes, size_t size)
{
    struct hop *hop = hop_find (actor, to);
    if (hop)
        return session_send (hop->session, bytes, size);
    struct actor *other = actor_at (actor->sim, to);
    assert (other);
    if (other->process == actor->process && is_within (actor->sim, calls (actor, other) ? other : actor))
        net_arrive (other, mail_new (actor, NULL, 0, bytes, size));
    else
        trace_line (actor->sim, actor, "nobody at %s takes messages", other->name);
    return true;
}

/*  ---- the wire ----------------------------------------------------------- */

/*  When a frame arrives: in order as a connection has it, or late and out of
    order as only a broken one would bring it. */
static uint64_t arrival (struct sim *sim, struct hop *hop)
{
    if (sim->shuffle && chance (sim, sim->shuffle))
        return sim->now_ms + between (sim, 0, chance (sim, 100) ? 3000 : 60);
    uint64_t at_ms = sim->now_ms + (sim->options.calm ? 1 : draw (sim, 3));
    if (at_ms < hop->last_ms)
        at_ms = hop->last_ms;
    hop->last_ms = at_ms;
    return at_ms;
}

static void transmit (struct actor *actor, struct hop *hop, const struct session_frame *frame)
{
    struct sim *sim = actor->sim;
    const struct actor *other = &sim->actors[hop->actor];
    if (sim->cut[actor->process->number][other->process->number] > sim->now_ms)
        return;
    if (sim->loss && chance (sim, sim->loss))
        return;
    unsigned copies = sim->twice && chance (sim, sim->twice) ? 2 : 1;
    while (copies--) {
        struct mail *mail =
            mail_new (actor, frame->head, frame->head_size, frame->payload, frame->payload_size);
        set_alarm (sim, arrival (sim, hop), ALARM_FRAME, hop->actor, 0, mail);
    }
}

void net_work (struct actor *actor)
{
    struct session_frame frame;
    for (unsigned i = 0; i < actor->hop_count; i++)
        while (session_next (actor->hops[i].session, actor->now.steady_ms, &frame))
            transmit (actor, &actor->hops[i], &frame);
}

uint64_t net_due (const struct actor *actor)
{
    uint64_t due_ms = UINT64_MAX;
    for (unsigned i = 0; i < actor->hop_count; i++) {
        uint64_t own_ms = session_due (actor->hops[i].session);
        due_ms = own_ms < due_ms ? own_ms : due_ms;
    }
    return due_ms;
}

enum session_input net_take (struct actor *actor, struct mail *mail, bool held)
{
    struct hop *hop = hop_find (actor, mail->from);
    if (!hop)
        hop = hop_add (actor, actor_at (actor->sim, mail->from), false);
    session_hold (hop->session, held);
    return session_receive (hop->session, actor->now.steady_ms, mail->bytes, mail->head_size,
                            mail->size ? mail->bytes + mail->head_size : NULL, mail->size);
}

bool net_lost (struct actor *actor, struct address *peer)
{
    for (unsigned i = 0; i < actor->hop_count; i++)
        if (session_expire (actor->hops[i].session, actor->now.steady_ms)) {
            *peer = actor->hops[i].peer;
            return true;
        }
    return false;
}

uint32_t net_unacknowledged (struct actor *actor, struct address peer)
{
    const struct hop *hop = hop_find (actor, peer);
    return hop ? session_unacknowledged (hop->session) : 0;
}
