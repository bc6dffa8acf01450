/*  currency_client.c - gives rewards by App 1's virtualcurrency service. */

#include "actors/currency_client/currency_client.h"

#include <assert.h>
#include <string.h>

#include "include/client.h"
#include "include/effects.h"
#include "proto/codec.h"

/*  From its first failure on, a reward is given this long at least: its marker
    is written already, so giving up loses it. */
enum { PATIENCE_MS = 60000 };

/*  `from` of every reward, as the original sends it (reference: ganomede 6). */
#define REWARD_FROM "rewards/v1"

struct currency_client {
    struct client client;
    struct text currency; /* of the question; the settings own it */
};

/*  Where the client's requests begin, behind our own struct. */
static size_t requests_offset (void)
{
    return (sizeof (struct currency_client) + 15) / 16 * 16;
}

/*  ---- answers ------------------------------------------------------------ */

static void answer (struct address to, uint64_t trace, struct given given, const struct effects *effects)
{
    put (effects, to, &(struct message){ .id = MESSAGE_GIVEN, .trace = trace, .given = given });
}

static void refuse (void *room, uint32_t slot, struct text reason, const struct effects *effects)
{
    struct currency_client *self = room;
    const struct pending *pending = requests_at (&self->client.requests, slot);
    answer (pending->from, pending->trace,
            (struct given){ .request = pending->request, .result = RESULT_REFUSED, .reason = reason },
            effects);
}

static bool take (void *room, uint32_t job, const struct message *http, const struct effects *effects)
{
    (void) http;
    struct currency_client *self = room;
    const struct pending *pending = requests_at (&self->client.requests, job);
    answer (pending->from, pending->trace, (struct given){ .request = pending->request, .result = RESULT_OK },
            effects);
    requests_drop (&self->client.requests, job);
    return true;
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

/*  The currency and the reward id, kept together: the size of the currency in
    one byte, the currency, the reward id. */
_Static_assert(NAME_SIZE_MAX <= UINT8_MAX, "the size of a name fits one byte");
_Static_assert(1 + NAME_SIZE_MAX + REWARD_SIZE_MAX <= REQUEST_WHAT_MAX, "both fit");

/*  The body has its keys in the order of the original. */
static bool fill (void *room, uint32_t job, struct message *http)
{
    struct currency_client *self = room;
    const struct pending *pending = requests_at (&self->client.requests, job);
    struct text what = requests_what (&self->client.requests, job);
    uint32_t currency_size = (uint8_t) what.data[0];
    struct packer body = client_body (&self->client);
    pack_map (&body, 6);
    pack_literal (&body, "to");
    pack_text (&body, requests_user (&self->client.requests, job));
    pack_literal (&body, "from");
    pack_literal (&body, REWARD_FROM);
    pack_literal (&body, "secret");
    pack_secret (&body);
    pack_literal (&body, "amount");
    pack_int (&body, pending->amount);
    pack_literal (&body, "currency");
    pack_text (&body, (struct text){ what.data + 1, currency_size });
    pack_literal (&body, "data");
    pack_map (&body, 1);
    pack_literal (&body, "rewardId");
    pack_text (&body, (struct text){ what.data + 1 + currency_size, what.size - 1 - currency_size });
    struct builder path = client_path (&self->client);
    builder_literal (&path, "/rewards");
    client_request (http, &path, &body);
    return true;
}

/*  Rewards go out as they come: there is nothing to gather. */
static uint32_t gather (void *room)
{
    (void) room;
    return REQUEST_NONE;
}

/*  ---- what the decision asks for ----------------------------------------- */

static void on_give (struct currency_client *self, const struct message *message,
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
    client_retry (&self->client, slot);
}

static void handle (void *state, struct moment now, const struct message *message,
                    const struct effects *effects)
{
    struct currency_client *self = state;
    if (message->id == MESSAGE_GIVE)
        on_give (self, message, effects);
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
};

static size_t state_size (const struct settings *settings)
{
    return requests_offset () + client_requests_size (settings);
}

static void init (void *state, const struct settings *settings)
{
    struct currency_client *self = state;
    client_init (&self->client, &rules, self, (char *) state + requests_offset (), settings);
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
