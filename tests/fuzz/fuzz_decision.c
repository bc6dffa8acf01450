/*  fuzz_decision.c - any course of events for the core that decides.

    The bytes are a script: events with any data, answers to whatever was asked
    or never was, workers and an ingest that forget, the end. Whatever comes: a player has one request under way,
    what was asked follows the order read, write, give, every event is settled
    once, and when everything is answered the core is at rest.
*/
#include <stdint.h>

#include "actors/decision/decision.h"
#include "tests/unit/core_harness.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

enum { WINDOW = 8, EVENTS_MAX = 4096, WORKERS = 2 };

/*  A request that nobody answered yet. */
struct asked {
    enum message_id id;
    uint64_t request;
    uint64_t user; /* hash of the user id */
    struct address worker;
};

static struct harness h;
static const uint8_t *at;
static const uint8_t *end;
static struct asked asked[WINDOW];
static size_t asked_count;
static bool settled[EVENTS_MAX];
static uint64_t position;
static uint64_t waiting; /* taken and not settled */
static uint64_t intended;
static uint64_t forgotten; /* writes that a worker forgot, and that are asked again */
static bool drained;

static uint8_t next (void)
{
    return at < end ? *at++ : 0;
}

static void on_asked (struct address to, enum message_id id, uint64_t request, struct text user)
{
    uint64_t hash = text_hash (user, 1);
    for (size_t i = 0; i < asked_count; i++)
        assert (asked[i].user != hash && asked[i].request != request);
    assert (to.peer < WORKERS && asked_count < WINDOW && user.size > 0 && text_is_utf8 (user));
    asked[asked_count++] = (struct asked){ id, request, hash, to };
}

static void on_settled (uint64_t at_position)
{
    assert (at_position >= 1 && at_position <= position && !settled[at_position]);
    settled[at_position] = true;
    waiting--;
}

static void take_effects (void)
{
    for (size_t i = 0; i < h.count; i++) {
        const struct message *message = h.effects[i].message;
        if (message->id == MESSAGE_READ_META) {
            on_asked (h.effects[i].to, message->id, message->read_meta.request, message->read_meta.user);
        } else if (message->id == MESSAGE_WRITE_META) {
            assert (intended + forgotten > 0);
            if (forgotten)
                forgotten--;
            else
                intended--;
            on_asked (h.effects[i].to, message->id, message->write_meta.request, message->write_meta.user);
        } else if (message->id == MESSAGE_GIVE) {
            on_asked (h.effects[i].to, message->id, message->give.request, message->give.user);
        } else if (message->id == MESSAGE_REMEMBER) {
            intended += message->remember.state == GRANT_INTENDED;
        } else if (message->id == MESSAGE_SETTLED) {
            on_settled (message->settled.position);
        } else if (message->id == MESSAGE_DRAINED) {
            assert (!drained && waiting == 0);
            drained = true;
        }
    }
    harness_clear (&h);
}

/*  An event with the data of a login, or with any bytes that are msgpack. */
static void event (uint8_t what)
{
    uint8_t memory[64];
    struct packer packer;
    struct message message = { .id = MESSAGE_EVENT, .from = { ROLE_INGEST, 0 } };
    if (position + 1 >= EVENTS_MAX || waiting == WINDOW)
        return;
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 1);
    pack_literal (&packer, "userId");
    char user = (char) ('a' + next () % 6);
    pack_text (&packer, (struct text){ &user, 1 });
    message.event.data = packer_raw (&packer);
    if (what % 8 == 0) {
        uint32_t size = next ();
        size = size < (size_t) (end - at) ? size : (uint32_t) (end - at);
        struct raw any = { at, size };
        at += size;
        message.event.data = raw_valid (any) ? any : NO_RAW;
    }
    message.event.position = ++position;
    message.event.source = what % 16 == 3 ? TEXT_LITERAL ("x") : TEXT_LITERAL ("game-two");
    message.event.type = TEXT_LITERAL ("LOGIN");
    message.event.fault = what % 32 == 5 ? (enum fault) (what / 32 % 5) : FAULT_NONE;
    waiting++;
    harness_deliver (&h, &message);
}

/*  An answer; `how` chooses among good ones and bad ones. */
static void answer (enum message_id id, uint64_t request, uint8_t how)
{
    uint8_t memory[128];
    struct packer packer;
    struct message message = { .from = { ROLE_USERMETA_CLIENT, 0 } };
    enum result result = how % 8 == 7 ? RESULT_REFUSED : RESULT_OK;
    if (id == MESSAGE_READ_META) {
        message.id = MESSAGE_META;
        packer_init (&packer, memory, sizeof memory);
        pack_map (&packer, 2);
        pack_literal (&packer, "auth");
        pack_literal (&packer, how % 8 == 1 ? "" : "1");
        pack_literal (&packer, how % 8 == 2 ? "$reward$promo1" : "x");
        pack_uint (&packer, how);
        message.meta.request = request;
        message.meta.result = result;
        message.meta.values = packer_raw (&packer);
    } else if (id == MESSAGE_WRITE_META) {
        message.id = MESSAGE_META_WRITTEN;
        message.meta_written.request = request;
        message.meta_written.result = result;
    } else {
        message.id = MESSAGE_GIVEN;
        message.given.request = request;
        message.given.result = result;
    }
    harness_deliver (&h, &message);
}

static void answer_one (size_t index, uint8_t how)
{
    struct asked one = asked[index];
    asked[index] = asked[--asked_count];
    answer (one.id, one.request, how);
}

/*  An answer of any kind to a request of another kind, or of nobody. */
static void stray (void)
{
    static const enum message_id ids[] = { MESSAGE_READ_META, MESSAGE_WRITE_META, MESSAGE_GIVE };
    enum message_id id = ids[next () % 3];
    uint64_t request = next ();
    for (size_t i = 0; i < asked_count; i++)
        if (asked[i].request == request && asked[i].id == id)
            return;
    answer (id, request, next ());
}

/*  Somebody comes, goes, or comes back without its memory. */
static void peer (uint8_t what)
{
    static const enum role roles[] = { ROLE_USERMETA_CLIENT, ROLE_CURRENCY_CLIENT, ROLE_INGEST, ROLE_STATS };
    struct message message = { .id = MESSAGE_PEER, .from = { roles[what % 4], what / 4 % WORKERS } };
    message.peer.state = (enum peer_state) (what / 8 % 3);
    for (size_t i = 0; i < asked_count && message.peer.state == PEER_RESTARTED;) {
        if (asked[i].worker.role != message.from.role || asked[i].worker.peer != message.from.peer) {
            i++;
            continue;
        }
        forgotten += asked[i].id == MESSAGE_WRITE_META;
        asked[i] = asked[--asked_count];
    }
    harness_deliver (&h, &message);
    take_effects ();
    assert (forgotten == 0);
}

static void step (void)
{
    uint8_t what = next ();
    struct message message = { .from = { (enum role) (what / 16 % 6), what } };
    switch (what % 8) {
    case 0:
    case 1:
    case 2:
        event (next ());
        break;
    case 3:
    case 4:
    case 5:
        if (asked_count)
            answer_one (next () % asked_count, next ());
        break;
    case 6:
        if (what / 8 % 4 == 0)
            peer (next ());
        else
            stray ();
        break;
    default:
        message.id = what / 8 % 2 ? MESSAGE_OPEN : MESSAGE_OPENED;
        if (what == 255)
            message.id = MESSAGE_DRAIN;
        harness_deliver (&h, &message);
        break;
    }
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    struct settings settings = harness_settings ();
    settings.window = WINDOW;
    settings.usermeta_clients = WORKERS;
    settings.currency_clients = WORKERS;
    at = bytes;
    end = bytes + size;
    asked_count = 0;
    memset (settled, 0, sizeof settled);
    position = waiting = intended = forgotten = 0;
    drained = false;
    harness_init (&h, &decision_spec, &settings);
    harness_start (&h);
    while (at < end) {
        take_effects ();
        step ();
    }
    take_effects ();
    while (asked_count) {
        answer_one (0, 0);
        take_effects ();
    }
    assert (waiting == 0);
    for (uint64_t i = 1; i <= position; i++)
        assert (settled[i]);
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    take_effects ();
    assert (drained);
    harness_free (&h);
    return 0;
}
