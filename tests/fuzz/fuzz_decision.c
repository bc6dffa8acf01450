/*  fuzz_decision.c - any course of events for the core that decides.

    The bytes are a script: grants that a journal brings, events with any data,
    answers to whatever was asked or never was, workers and an ingest that forget,
    people who try again and give up, the end. Whatever comes: a player has one
    request under way, nothing is marked or given that is not intended, every event
    is settled once, and when everything is answered the core is at rest and every
    grant has ended.
*/
#include <stdint.h>

#include "actors/decision/decision.h"
#include "tests/unit/core_harness.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

enum { WINDOW = 8, RETRIES = 16, EVENTS_MAX = 4096, WORKERS = 2 };

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
static struct asked asked[WINDOW + RETRIES];
static size_t asked_count;
static bool settled[EVENTS_MAX];
static uint64_t position;
static uint64_t waiting;  /* taken and not settled */
static uint64_t recalled; /* open grants that the journal brought */
static uint64_t grants;   /* that are intended and have not ended */
static uint64_t newest;   /* number of a grant */
static bool opened;       /* by the ingest that hands events on */
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
    assert (to.peer < WORKERS && asked_count < WINDOW + RETRIES && user.size > 0 && text_is_utf8 (user));
    asked[asked_count++] = (struct asked){ id, request, hash, to };
}

static void on_settled (uint64_t at_position)
{
    assert (at_position >= 1 && at_position <= position && !settled[at_position]);
    settled[at_position] = true;
    waiting--;
}

static void on_remembered (const struct remember *remember)
{
    if (remember->state == GRANT_INTENDED) {
        grants++;
    } else if (remember->state != GRANT_DROPPED) {
        assert (grants > 0);
        grants--;
    }
    if (remember->grant > newest)
        newest = remember->grant;
}

static void take_effects (void)
{
    for (size_t i = 0; i < h.count; i++) {
        const struct message *message = h.effects[i].message;
        if (message->id == MESSAGE_READ_META) {
            on_asked (h.effects[i].to, message->id, message->read_meta.request, message->read_meta.user);
        } else if (message->id == MESSAGE_WRITE_META) {
            assert (grants > 0);
            on_asked (h.effects[i].to, message->id, message->write_meta.request, message->write_meta.user);
        } else if (message->id == MESSAGE_GIVE) {
            assert (grants > 0);
            on_asked (h.effects[i].to, message->id, message->give.request, message->give.user);
        } else if (message->id == MESSAGE_REMEMBER) {
            on_remembered (&message->remember);
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
    if (position + 1 >= EVENTS_MAX || waiting + recalled >= WINDOW)
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
    message.event.timestamp = (int64_t) position;
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
        if (how % 16 == 2)
            pack_uint (&packer, how);
        else
            pack_literal (&packer, "1795000000000");
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
        message.given.result = how % 16 == 6 ? RESULT_UNCERTAIN : result;
        message.given.found = how % 16 == 3;
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
    if (message.peer.state == PEER_RESTARTED && message.from.role == ROLE_INGEST && message.from.peer == 0 &&
        opened) {
        /*  It has forgotten its events: they are finished in silence, and take room until
            then. */
        memset (settled, true, sizeof settled);
        memset (settled + position + 1, false, sizeof settled - (position + 1));
        recalled += waiting;
        waiting = 0;
    }
    for (size_t i = 0; i < asked_count && message.peer.state == PEER_RESTARTED;) {
        if (asked[i].worker.role != message.from.role || asked[i].worker.peer != message.from.peer) {
            i++;
            continue;
        }
        asked[i] = asked[--asked_count];
    }
    harness_deliver (&h, &message);
    take_effects ();
}

/*  A grant that the journal brings, or a person wants something done about. */
static struct record grant (uint64_t number)
{
    static char user;
    user = (char) ('a' + next () % 6);
    uint8_t what = next ();
    return (struct record){ .grant = number,
                            .position = what % 32,
                            .timestamp = what % 32,
                            .user = { &user, 1 },
                            .reward = what % 16 ? TEXT_LITERAL ("promo1") : TEXT_LITERAL ("other"),
                            .amount = what % 8 ? 10 : -1,
                            .currency = TEXT_LITERAL ("gold"),
                            .state = (enum grant_state) (1 + what / 32 % 5) };
}

/*  The journal: some grants that ended, some that are open. */
static void recall (struct harness *harness, const struct recall *asked_for)
{
    struct message answer = { .id = MESSAGE_RECALLED, .from = TO_SHELL };
    uint64_t count = next () % 5;
    for (uint64_t i = 0; i < count && i < asked_for->count && recalled < WINDOW; i++) {
        struct message message = { .id = MESSAGE_RECORD, .from = TO_SHELL, .record = grant (newest + 1) };
        bool open = asked_for->which == RECALL_OPEN;
        if (open)
            message.record.state = GRANT_INTENDED;
        else if (message.record.state == GRANT_INTENDED)
            continue;
        newest++;
        recalled += open;
        grants += open;
        harness_handle (harness, &message);
    }
    answer.recalled.which = asked_for->which;
    answer.recalled.more = asked_for->which == RECALL_OPEN && recalled < WINDOW && next () % 4 == 0;
    answer.recalled.newest = newest;
    harness_handle (harness, &answer);
}

static void person (void)
{
    struct message message = { .from = TO_SHELL };
    struct record record = grant (next () % 4 ? 1 + next () % (newest + 1) : next ());
    if (next () % 2) {
        message.id = MESSAGE_RETRY;
        message.retry = (struct retry){ .grant = record.grant,
                                        .position = record.position,
                                        .timestamp = record.timestamp,
                                        .user = record.user,
                                        .reward = record.reward,
                                        .amount = record.amount,
                                        .currency = record.currency };
    } else {
        message.id = MESSAGE_DROP;
        message.drop = (struct drop){ .grant = record.grant, .user = record.user, .reward = record.reward };
    }
    harness_deliver (&h, &message);
    assert (harness_count (&h, MESSAGE_DONE) == 1);
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
        else if (what / 8 % 4 == 1)
            person ();
        else
            stray ();
        break;
    default:
        message.id = what / 8 % 2 ? MESSAGE_OPEN : MESSAGE_OPENED;
        opened |= message.id == MESSAGE_OPEN && message.from.role == ROLE_INGEST && message.from.peer == 0;
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
    position = waiting = recalled = grants = newest = 0;
    opened = drained = false;
    harness_init (&h, &decision_spec, &settings);
    h.recall = recall;
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
    assert (waiting == 0 && grants == 0);
    for (uint64_t i = 1; i <= position; i++)
        assert (settled[i]);
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    take_effects ();
    assert (drained);
    harness_free (&h);
    return 0;
}
