/*  fuzz_ingest.c - any course of events for the core that polls.

    The bytes are a script: credit, answers of all kinds to whatever poll is under
    way, settling, decisions that come, go and forget, timers, the end. Whatever
    comes: no event is handed on twice to one who remembers it, an acknowledgement
    never reaches an event that is not settled, nothing is taken beyond the credit
    or behind the end, and no turn asks more than it may.
*/
#include <stdint.h>

#include "actors/ingest/ingest.h"
#include "tests/unit/core_harness.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

enum { IDS = 4096, WINDOW = 16, POLLS_MAX = 4, STEPS_MAX = 4000, SHARDS = 3, NOBODY = SHARDS };

/*  A decision: what it takes, what it has, whether it is silent. */
struct shard {
    uint64_t credit;
    uint64_t unsettled;
    bool lost;
};

/*  What is left of the script; zeros behind its end. */
struct script {
    const uint8_t *at;
    const uint8_t *end;
};

static struct harness h;
static struct script script;
static uint64_t under_way[POLLS_MAX]; /* requests; 0: none */
static struct shard shards[SHARDS];
static uint8_t holder[IDS]; /* the decision that has the event, or NOBODY */
static bool taken[IDS];     /* it was handed on, though perhaps to one who forgot it */
static bool settled[IDS];
static bool draining;

static uint8_t next (void)
{
    return script.at < script.end ? *script.at++ : 0;
}

static void on_request (const struct message *message)
{
    struct text path = message->http_request.path;
    unsigned place = 0;
    while (place < POLLS_MAX && under_way[place])
        place++;
    assert (place < POLLS_MAX);
    under_way[place] = message->http_request.request;
    const char *after = memmem (path.data, path.size, "&after=", 7);
    if (!after || memmem (path.data, path.size, ".ahead", 6))
        return;
    uint64_t position = 0;
    for (after += 7; after < path.data + path.size && *after >= '0' && *after <= '9'; after++)
        position = position * 10 + (uint64_t) (*after - '0');
    for (uint64_t id = 0; id < IDS && id <= position; id++)
        assert (!taken[id] || settled[id]);
}

static void on_event (uint16_t at, uint64_t position)
{
    assert (!draining && at < SHARDS);
    struct shard *shard = &shards[at];
    shard->unsettled++;
    assert (!shard->lost && shard->unsettled <= shard->credit);
    if (position >= IDS)
        return;
    /*  What was settled may be read again when a ring full of such was cut. */
    assert (holder[position] == NOBODY);
    holder[position] = (uint8_t) at;
    taken[position] = true;
    settled[position] = false;
}

/*  A decision forgets what it has. */
static void forget (uint8_t at)
{
    for (uint64_t id = 0; id < IDS; id++)
        if (holder[id] == at)
            holder[id] = NOBODY;
    shards[at] = (struct shard){ .credit = 0 };
}

static void take_effects (void)
{
    for (size_t i = 0; i < h.count; i++) {
        const struct message *message = h.effects[i].message;
        if (message->id == MESSAGE_HTTP_REQUEST)
            on_request (message);
        if (message->id == MESSAGE_EVENT)
            on_event (h.effects[i].to.peer, message->event.position);
        for (unsigned j = 0; j < POLLS_MAX && message->id == MESSAGE_HTTP_CANCEL; j++)
            if (under_way[j] == message->http_cancel.request)
                under_way[j] = 0;
    }
    harness_clear (&h);
}

/*  A page whose ids the script chooses, mostly upwards. */
static void pack_page (struct packer *packer)
{
    uint32_t count = next () % 20;
    uint64_t id = next () * 16u;
    pack_array (packer, count);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t step = next ();
        id = step < 200 ? id + step % 4 : id - step % 8;
        pack_map (packer, 4);
        pack_literal (packer, "id");
        pack_uint (packer, id % IDS);
        pack_literal (packer, "data");
        pack_map (packer, 1);
        pack_literal (packer, "userId");
        pack_literal (packer, step % 3 ? "alice" : step % 5 ? "bob" : "carol");
        pack_literal (packer, step == 255 ? "form" : "from");
        pack_literal (packer, "a");
        pack_literal (packer, "type");
        pack_uint (packer, step);
    }
}

static void answer (void)
{
    static uint8_t memory[4096];
    struct packer packer;
    struct message message = { .id = MESSAGE_HTTP_ANSWER, .from = TO_SHELL };
    unsigned place = next () % (POLLS_MAX + 1);
    message.http_answer.request = place < POLLS_MAX ? under_way[place] : next ();
    if (place < POLLS_MAX)
        under_way[place] = 0;
    else
        for (unsigned i = 0; i < POLLS_MAX; i++)
            if (under_way[i] == message.http_answer.request)
                under_way[i] = 0;
    static const unsigned statuses[] = { 200, 200, 200, 200, 200, 401, 500, 204 };
    uint8_t how = next ();
    message.http_answer.outcome = how < 240 ? HTTP_ANSWERED : (enum http_outcome) (1 + how % 4);
    message.http_answer.status = message.http_answer.outcome == HTTP_ANSWERED ? statuses[how % 8] : 0;
    message.http_answer.body_state = (enum body_state) (how < 180 ? 0 : how % 4);
    message.http_answer.retry_after_ms = how == 239 ? 60000 : 0;
    packer_init (&packer, memory, sizeof memory);
    pack_page (&packer);
    message.http_answer.body = packer_raw (&packer);
    if (how % 16 == 15) { /* the script itself as the body, when that is msgpack */
        struct raw rest = { script.at, (uint32_t) (script.end - script.at) };
        message.http_answer.body = raw_valid (rest) ? rest : NO_RAW;
    }
    harness_deliver (&h, &message);
}

static void settle (void)
{
    uint64_t position = (uint64_t) next () * 16 + next () % 32;
    /*  Mostly one that waits, as decision does. */
    for (uint64_t i = 0; i < IDS && position % 7; i++, position++)
        if (holder[position % IDS] != NOBODY)
            break;
    position %= IDS;
    uint8_t at = holder[position];
    struct message message = { .id = MESSAGE_SETTLED, .from = { ROLE_DECISION, at } };
    if (at != NOBODY) {
        settled[position] = true;
        holder[position] = NOBODY;
        shards[at].unsettled--;
    }
    message.settled.position = position;
    harness_deliver (&h, &message);
}

static void peer (void)
{
    uint8_t what = next ();
    uint8_t at = what % SHARDS;
    struct message message = { .id = MESSAGE_PEER, .from = { ROLE_DECISION, at } };
    message.peer.state = (enum peer_state) (what / SHARDS % 3);
    shards[at].lost = message.peer.state == PEER_LOST;
    if (message.peer.state == PEER_RESTARTED)
        forget (at);
    harness_deliver (&h, &message);
}

static void give_credit (void)
{
    uint8_t what = next ();
    uint8_t at = what % SHARDS;
    struct message message = { .id = MESSAGE_CREDIT, .from = { ROLE_DECISION, at } };
    shards[at].credit = what / SHARDS % (WINDOW + 1);
    if (shards[at].credit < shards[at].unsettled) /* it takes back only what nobody has */
        shards[at].credit = shards[at].unsettled;
    message.credit.capacity = shards[at].credit;
    harness_deliver (&h, &message);
}

static void step (void)
{
    struct message message = { .from = TO_SHELL };
    switch (next () % 11) {
    case 0:
        give_credit ();
        break;
    case 10:
        peer ();
        break;
    case 1:
    case 2:
    case 3:
        answer ();
        break;
    case 4:
    case 5:
        settle ();
        break;
    case 6:
        harness_fire (&h);
        break;
    case 7:
        harness_advance (&h, next () * 8u);
        harness_turn (&h);
        break;
    case 8:
        message.id = MESSAGE_HTTP_SENT;
        message.http_sent.request = under_way[next () % POLLS_MAX];
        harness_deliver (&h, &message);
        break;
    default:
        if (next () % 8 == 0) {
            draining = true;
            harness_plain (&h, MESSAGE_DRAIN);
        }
        harness_turn (&h);
        break;
    }
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    struct settings settings = harness_settings ();
    settings.window = WINDOW;
    script = (struct script){ bytes, bytes + size };
    memset (under_way, 0, sizeof under_way);
    memset (holder, NOBODY, sizeof holder);
    memset (taken, 0, sizeof taken);
    memset (settled, 0, sizeof settled);
    draining = false;
    settings.decisions = SHARDS;
    harness_init (&h, &ingest_spec, &settings);
    harness_start (&h);
    for (uint16_t at = 0; at < SHARDS; at++) {
        shards[at] = (struct shard){ .credit = WINDOW };
        struct message credit = { .id = MESSAGE_CREDIT, .from = { ROLE_DECISION, at } };
        credit.credit.capacity = WINDOW;
        harness_deliver (&h, &credit);
    }
    for (unsigned i = 0; i < STEPS_MAX && script.at < script.end; i++) {
        take_effects ();
        step ();
    }
    take_effects ();
    harness_free (&h);
    return 0;
}
