/*  currency_client.c - gives rewards by App 1's virtualcurrency service. */

#include "actors/currency_client/currency_client.h"

#include <assert.h>
#include <string.h>

#include "actors/currency_client/listing.h"
#include "include/client.h"
#include "include/effects.h"
#include "include/mistake.h"
#include "include/verdict.h"
#include "proto/codec.h"

/*  From its first failure on, a reward is given this long at least: its marker
    is written already, so giving up loses it. */
enum { PATIENCE_MS = 60000 };

/*  `from` of every reward, as the original sends it (reference: ganomede 6). */
#define REWARD_FROM "rewards/v1"

/*  What is known of a reward beyond its request, which says by its kind what is
    to be done next: KIND_WRITE, post it; KIND_READ, find out whether it is there. */
struct giving {
    struct listing listing;
    const char *why;    /* the last page could not be used: a constant; else NULL */
    uint64_t unsure_ms; /* how long the list could not answer while the service was there */
    uint64_t served_ms; /* the client's clock when that was counted last */
    uint16_t status;    /* HTTP status of the failure that spent it, 0 for none */
    bool unsure;        /* the list could not answer, and has not since */
    bool tried;         /* it was posted, and nobody knows what came of it */
    bool spent;         /* it is not posted again: not there means refused */
};

struct currency_client {
    struct client client;
    struct giving *givings; /* one a slot */
    struct text currency;   /* of the question; the settings own it */
    uint32_t grace_ms;
    uint32_t patience_ms;
    uint64_t quiet_ms; /* from here on whatever a decision of an earlier life brought about shows */
};

static size_t aligned (size_t size)
{
    return (size + 15) / 16 * 16;
}

/*  Behind our own struct lie the requests of the client, and then the givings. */
static size_t requests_offset (void)
{
    return aligned (sizeof (struct currency_client));
}

static struct giving *giving_of (const struct currency_client *self, uint32_t slot)
{
    return &self->givings[slot];
}

/*  The currency and the reward id, kept together: the size of the currency in
    one byte, the currency, the reward id. */
_Static_assert(NAME_SIZE_MAX <= UINT8_MAX, "the size of a name fits one byte");
_Static_assert(1 + NAME_SIZE_MAX + REWARD_SIZE_MAX <= REQUEST_WHAT_MAX, "both fit");

static struct listing_wanted wanted (const struct currency_client *self, uint32_t slot)
{
    struct text what = requests_what (&self->client.requests, slot);
    uint32_t currency_size = (uint8_t) what.data[0];
    return (struct listing_wanted){
        .from = TEXT_LITERAL (REWARD_FROM),
        .currency = { what.data + 1, currency_size },
        .reward = { what.data + 1 + currency_size, what.size - 1 - currency_size },
    };
}

/*  ---- answers ------------------------------------------------------------ */

static void answer (struct address to, uint64_t trace, struct given given, const struct effects *effects)
{
    put (effects, to, &(struct message){ .id = MESSAGE_GIVEN, .trace = trace, .given = given });
}

/*  Answers a reward. */
static void finish (const struct currency_client *self, uint32_t slot, struct given given,
                    const struct effects *effects)
{
    const struct pending *pending = requests_at (&self->client.requests, slot);
    given.request = pending->request;
    answer (pending->from, pending->trace, given, effects);
}

static void refuse (void *room, uint32_t slot, struct text reason, const struct effects *effects)
{
    finish (room, slot, (struct given){ .result = RESULT_REFUSED, .reason = reason }, effects);
}

/*  ---- finding ------------------------------------------------------------ */

/*  From now on the list is asked, from its beginning, and not before so much
    time has passed. */
static void find (struct currency_client *self, uint32_t slot, struct moment now, uint64_t grace_ms)
{
    struct pending *pending = requests_at (&self->client.requests, slot);
    uint64_t until_ms = now.steady_ms + grace_ms;
    if (MISTAKE (GIVE_WITHOUT_FIND))
        return;
    pending->kind = KIND_READ;
    pending->hold_ms = until_ms > pending->hold_ms ? until_ms : pending->hold_ms;
    giving_of (self, slot)->listing = (struct listing){ 0 };
}

static void unknown (void *room, uint32_t job, struct moment now, const struct http_answer *answer,
                     bool spent)
{
    struct currency_client *self = room;
    struct giving *giving = giving_of (self, job);
    giving->tried = true;
    giving->spent = spent;
    giving->status = spent && answer->outcome == HTTP_ANSWERED ? (uint16_t) answer->status : 0;
    find (self, job, now, self->grace_ms);
}

/*  Gives up a reward that failed where others succeeded, and that is not there. */
static void refuse_spent (struct currency_client *self, uint32_t slot, const struct effects *effects)
{
    char memory[REASON_SIZE_MAX + 1];
    struct builder reason;
    builder_init (&reason, memory, sizeof memory);
    uint16_t status = giving_of (self, slot)->status;
    if (status) {
        builder_literal (&reason, "the service answers ");
        builder_uint (&reason, status);
        builder_literal (&reason, " to this user id alone");
    } else
        builder_literal (&reason, "the service does not answer for this user id alone");
    const struct pending *pending = requests_at (&self->client.requests, slot);
    put_log (effects, LOG_WARN,
             (struct about){ .trace = pending->trace, .user = requests_user (&self->client.requests, slot) },
             "virtualcurrency: refused after %u attempts: %s", (unsigned) pending->attempts, memory);
    refuse (self, slot, builder_text (&reason), effects);
    requests_drop (&self->client.requests, slot);
}

/*  The list has it not: it is posted, for the first time or again. */
static void not_there (struct currency_client *self, uint32_t slot, const struct effects *effects)
{
    struct giving *giving = giving_of (self, slot);
    if (giving->spent) {
        refuse_spent (self, slot, effects);
        return;
    }
    giving->unsure = false;
    giving->unsure_ms = 0;
    requests_at (&self->client.requests, slot)->kind = KIND_WRITE;
    client_retry (&self->client, slot);
}

static bool take_page (struct currency_client *self, uint32_t slot, const struct http_answer *page,
                       const struct effects *effects)
{
    struct giving *giving = giving_of (self, slot);
    struct listing_wanted looked_for = wanted (self, slot);
    switch (listing_take (&giving->listing, &looked_for, page->body_state, page->body, &giving->why)) {
    case LISTING_FOUND:
        finish (self, slot, (struct given){ .result = RESULT_OK, .found = !giving->tried }, effects);
        requests_drop (&self->client.requests, slot);
        return true;
    case LISTING_NOT_THERE:
        not_there (self, slot, effects);
        return true;
    case LISTING_MORE:
        client_retry (&self->client, slot);
        return true;
    case LISTING_UNCLEAR:
        break;
    }
    return false;
}

/*  Any 2xx to a POST is given, whatever its body says. */
static enum taken take (void *room, uint32_t job, const struct message *http, const struct effects *effects)
{
    struct currency_client *self = room;
    if (requests_at (&self->client.requests, job)->kind == KIND_READ)
        return take_page (self, job, &http->http_answer, effects) ? TAKEN : TAKEN_NOT;
    finish (self, job, (struct given){ .result = RESULT_OK }, effects);
    requests_drop (&self->client.requests, job);
    return TAKEN;
}

/*  Counts how long the list could not answer. A list that fails while every reward
    fails is a service that is down: that does not count. */
static bool out_of_patience (struct currency_client *self, struct giving *giving,
                             const struct http_answer *answer)
{
    uint64_t served_ms = client_served_ms (&self->client);
    enum verdict verdict = verdict_of (answer);
    bool said = verdict == VERDICT_GOOD || verdict == VERDICT_REFUSED;
    if (giving->unsure && (said || !client_on_trial (&self->client)))
        giving->unsure_ms += served_ms - giving->served_ms;
    giving->unsure = true;
    giving->served_ms = served_ms;
    return giving->unsure_ms >= self->patience_ms;
}

static bool unanswered (void *room, uint32_t job, const struct http_answer *answer,
                        const struct effects *effects)
{
    struct currency_client *self = room;
    struct giving *giving = giving_of (self, job);
    const char *why = giving->why;
    giving->listing = (struct listing){ 0 };
    giving->why = NULL;
    if (!out_of_patience (self, giving, answer))
        return false;
    char memory[REASON_SIZE_MAX + 1];
    struct builder reason;
    builder_init (&reason, memory, sizeof memory);
    builder_literal (&reason, "it may have been given: ");
    if (why)
        builder_literal (&reason, why);
    else {
        builder_literal (&reason, "the list of transactions cannot be had: ");
        verdict_refusal (&reason, answer);
    }
    put_log (effects, LOG_WARN,
             (struct about){ .trace = requests_at (&self->client.requests, job)->trace,
                             .user = requests_user (&self->client.requests, job) },
             "virtualcurrency: uncertain: %s", memory);
    finish (self, job, (struct given){ .result = RESULT_UNCERTAIN, .reason = builder_text (&reason) },
            effects);
    requests_drop (&self->client.requests, job);
    return true;
}

/*  An attempt ended that nobody remembers: whoever wants a reward for the same
    player has to look for what it may have done. */
static void ended (void *room, uint32_t job, struct moment now)
{
    struct currency_client *self = room;
    struct requests *requests = &self->client.requests;
    for (uint32_t slot = 0; slot < requests->touched; slot++)
        if (slot != job && requests_at (requests, slot)->members > 0 &&
            text_equal (requests_user (requests, slot), requests_user (requests, job)))
            find (self, slot, now, self->grace_ms);
}

/*  ---- requests to the service -------------------------------------------- */

static void ask (void *room, struct moment now, uint8_t kind, struct message *http)
{
    (void) now;
    (void) kind;
    struct currency_client *self = room;
    struct builder path = client_path (&self->client);
    builder_literal (&path, "/auth/{secret}.guerdon-probe/coins/");
    builder_percent (&path, self->currency);
    builder_literal (&path, "/count");
    client_request (http, &path, NULL);
}

static void fill_find (struct currency_client *self, uint32_t job, struct message *http)
{
    struct builder path = client_path (&self->client);
    builder_literal (&path, "/auth/{secret}.");
    builder_percent (&path, requests_user (&self->client.requests, job));
    builder_literal (&path, "/transactions");
    listing_add_query (&path, &giving_of (self, job)->listing, wanted (self, job).currency);
    client_request (http, &path, NULL);
}

/*  The body has its keys in the order of the original. */
static void fill_post (struct currency_client *self, uint32_t job, struct message *http)
{
    struct listing_wanted reward = wanted (self, job);
    struct packer body = client_body (&self->client);
    pack_map (&body, 6);
    pack_literal (&body, "to");
    pack_text (&body, requests_user (&self->client.requests, job));
    pack_literal (&body, "from");
    pack_literal (&body, REWARD_FROM);
    pack_literal (&body, "secret");
    pack_secret (&body);
    pack_literal (&body, "amount");
    pack_int (&body, requests_at (&self->client.requests, job)->amount);
    pack_literal (&body, "currency");
    pack_text (&body, reward.currency);
    pack_literal (&body, "data");
    pack_map (&body, 1);
    pack_literal (&body, "rewardId");
    pack_text (&body, reward.reward);
    struct builder path = client_path (&self->client);
    builder_literal (&path, "/rewards");
    client_request (http, &path, &body);
}

/*  One at a time for a player: what is in the air may change what is true. */
static bool fill (void *room, uint32_t job, struct message *http)
{
    struct currency_client *self = room;
    if (client_in_air (&self->client, job))
        return false;
    if (requests_at (&self->client.requests, job)->kind == KIND_READ)
        fill_find (self, job, http);
    else
        fill_post (self, job, http);
    return true;
}

/*  Rewards go out as they come: there is nothing to gather. */
static uint32_t gather (void *room)
{
    (void) room;
    return REQUEST_NONE;
}

/*  ---- what the decision asks for ----------------------------------------- */

/*  A decision that came back cannot know until when we went on with what the one
    before it had asked for. Those attempts have ended by now, or are under way and
    seen to when they end. */
static void on_peer (struct currency_client *self, struct moment now, const struct peer *peer)
{
    if (peer->state == PEER_RESTARTED)
        self->quiet_ms = now.steady_ms + self->grace_ms;
}

/*  How long to wait before the first look, at least as long as was asked for. */
static uint64_t quiet_in_ms (const struct currency_client *self, struct moment now, uint64_t check_ms)
{
    uint64_t left_ms = self->quiet_ms > now.steady_ms ? self->quiet_ms - now.steady_ms : 0;
    return left_ms > check_ms ? left_ms : check_ms;
}

static void on_give (struct currency_client *self, struct moment now, const struct message *message,
                     const struct effects *effects)
{
    const struct give *give = &message->give;
    assert (give->currency.size <= NAME_SIZE_MAX && give->reward.size <= REWARD_SIZE_MAX);
    char what[1 + NAME_SIZE_MAX + REWARD_SIZE_MAX];
    what[0] = (char) (uint8_t) give->currency.size;
    if (give->currency.size)
        memcpy (what + 1, give->currency.data, give->currency.size);
    if (give->reward.size)
        memcpy (what + 1 + give->currency.size, give->reward.data, give->reward.size);
    uint32_t size = 1 + give->currency.size + give->reward.size;
    uint32_t slot = requests_keep (&self->client.requests, message, give->user, (struct text){ what, size });
    if (slot == REQUEST_NONE) {
        put_log (effects, LOG_ERROR, (struct about){ .trace = message->trace, .user = give->user },
                 "more than %u requests at once: refused", (unsigned) self->client.requests.capacity);
        answer (message->from, message->trace,
                (struct given){ .request = give->request,
                                .result = RESULT_REFUSED,
                                .reason = TEXT_LITERAL ("too many requests") },
                effects);
        return;
    }
    struct pending *pending = requests_at (&self->client.requests, slot);
    pending->request = give->request;
    pending->amount = give->amount;
    pending->kind = KIND_WRITE;
    *giving_of (self, slot) = (struct giving){ 0 };
    if (give->check)
        find (self, slot, now, quiet_in_ms (self, now, give->check));
    client_retry (&self->client, slot);
}

static void handle (void *state, struct moment now, const struct message *message,
                    const struct effects *effects)
{
    struct currency_client *self = state;
    if (message->id == MESSAGE_PEER)
        on_peer (self, now, &message->peer);
    if (message->id == MESSAGE_GIVE)
        on_give (self, now, message, effects);
    else
        client_handle (&self->client, now, message, effects);
}

static const struct client_rules rules = {
    .service = SERVICE_CURRENCY,
    .question_proves = false,
    .patience_ms = PATIENCE_MS,
    .ask = ask,
    .gather = gather,
    .fill = fill,
    .take = take,
    .refuse = refuse,
    .unknown = unknown,
    .unanswered = unanswered,
    .ended = ended,
};

static size_t state_size (const struct settings *settings)
{
    return requests_offset () + client_requests_size (settings) +
           aligned ((settings->window + REQUESTS_SPARE) * sizeof (struct giving));
}

static void init (void *state, const struct settings *settings)
{
    struct currency_client *self = state;
    char *memory = (char *) state + requests_offset ();
    client_init (&self->client, &rules, self, memory, settings);
    self->givings = (struct giving *) (void *) (memory + client_requests_size (settings));
    self->grace_ms = settings->find_grace_ms;
    self->patience_ms = settings->find_patience_ms;
    self->currency = text_of (settings->reward_currency);
}

const struct actor_spec currency_client_spec = {
    .role = ROLE_CURRENCY_CLIENT,
    .service = SERVICE_CURRENCY,
    .speaks_http = true,
    .state_size = state_size,
    .init = init,
    .handle = handle,
};
