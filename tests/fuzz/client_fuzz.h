/*  client_fuzz.h - any bytes as the life of a client room.

    The bytes are read as steps: requests, answers of a service that may say
    anything, timers, peers, draining. After each step the bounds are checked;
    at the end the service gets well, and then every request must have been
    answered exactly once, unless the secret was rejected at the start.
*/
#ifndef GUERDON_CLIENT_FUZZ_H
#define GUERDON_CLIENT_FUZZ_H

#include "include/client.h"
#include "tests/unit/client_harness.h"

/*  Steps of a life, and of getting well, at most; requests in a life. */
enum { FUZZ_STEPS_MAX = 2000, FUZZ_WELL_MAX = 20000, FUZZ_REQUESTS_MAX = 1024 };

/*  A life so far. */
struct life {
    struct harness harness;
    struct cursor bytes;                    /* the steps that are left */
    uint64_t flights[HTTP_CONCURRENCY_MAX]; /* HTTP requests without an answer */
    enum well { WELL_NOTHING, WELL_MAP, WELL_LIST } wells[HTTP_CONCURRENCY_MAX]; /* what each is due */
    unsigned flying;
    uint8_t answers[FUZZ_REQUESTS_MAX]; /* to each request */
    unsigned requests;                  /* asked so far */
    bool rejected;                      /* HEALTH said rejects */
    unsigned drained;                   /* DRAINED was said so often */
};

/*  Fills in a request of the room, number `life->requests`, from the bytes. */
typedef void life_request (struct life *life, struct message *message, uint8_t kind);

static inline uint8_t life_byte (struct life *life)
{
    return life->bytes.at < life->bytes.end ? *life->bytes.at++ : 0;
}

/*  A text from the bytes: a size, then so many of them. */
static inline struct text life_text (struct life *life, uint32_t max)
{
    uint32_t size = life_byte (life);
    size_t left = (size_t) (life->bytes.end - life->bytes.at);
    size = size > left ? (uint32_t) left : size;
    size = size > max ? max : size;
    struct text text = { (const char *) life->bytes.at, size };
    life->bytes.at += size;
    return text;
}

/*  ---- what the room put -------------------------------------------------- */

static inline void life_answered (struct life *life, uint64_t request)
{
    assert (request < life->requests);
    assert (life->answers[request] == 0);
    life->answers[request] = 1;
}

/*  A request that is given up has no answer. */
static inline void life_cancel (struct life *life, uint64_t request)
{
    unsigned i = 0;
    while (i < life->flying && life->flights[i] != request)
        i++;
    assert (i < life->flying);
    life->flights[i] = life->flights[--life->flying];
    life->wells[i] = life->wells[life->flying];
}

/*  What a service that is well answers. */
static inline enum well life_due (const struct message *message)
{
    if (message->http_request.method == METHOD_POST)
        return WELL_NOTHING;
    return harness_mentions (message->http_request.path, "/transactions?") ? WELL_LIST : WELL_MAP;
}

static inline void life_note (struct life *life, const struct message *message)
{
    switch (message->id) {
    case MESSAGE_HTTP_REQUEST:
        assert (life->flying < HTTP_CONCURRENCY_MAX);
        for (unsigned i = 0; i < life->flying; i++)
            assert (life->flights[i] != message->http_request.request);
        life->wells[life->flying] = life_due (message);
        life->flights[life->flying++] = message->http_request.request;
        break;
    case MESSAGE_HTTP_CANCEL:
        life_cancel (life, message->http_cancel.request);
        break;
    case MESSAGE_META:
        life_answered (life, message->meta.request);
        break;
    case MESSAGE_META_WRITTEN:
        life_answered (life, message->meta_written.request);
        break;
    case MESSAGE_GIVEN:
        life_answered (life, message->given.request);
        break;
    case MESSAGE_HEALTH:
        life->rejected |= message->health.state == SERVICE_REJECTS;
        break;
    case MESSAGE_DRAINED:
        assert (life->drained++ == 0);
        break;
    default:
        break;
    }
}

static inline void life_look (struct life *life)
{
    for (size_t i = 0; i < life->harness.count; i++)
        life_note (life, life->harness.effects[i].message);
    harness_clear (&life->harness);
}

/*  ---- steps -------------------------------------------------------------- */

/*  Takes a flight out: the one the byte says, or none. */
static inline bool life_land (struct life *life, uint8_t which, uint64_t *request, enum well *well)
{
    if (life->flying == 0)
        return false;
    unsigned i = which % life->flying;
    *request = life->flights[i];
    *well = life->wells[i];
    life->flights[i] = life->flights[--life->flying];
    life->wells[i] = life->wells[life->flying];
    return true;
}

/*  Any answer: the body is whatever the bytes are, well formed or not. */
static inline void life_answer (struct life *life, uint8_t which)
{
    static const uint16_t statuses[] = { 200, 201, 204, 200, 200, 301, 400, 401, 403, 404,
                                         408, 413, 429, 431, 500, 502, 503, 100, 999, 0 };
    uint8_t how = life_byte (life);
    uint64_t request;
    enum well well;
    if (!life_land (life, which, &request, &well))
        request = how;
    struct text body = life_text (life, UINT8_MAX);
    bool answered = how % 4 != 3;
    struct http_answer answer = {
        .request = request,
        .outcome = answered ? HTTP_ANSWERED : (enum http_outcome) (how / 4 % 6),
        .status = answered ? statuses[how / 4 % (sizeof statuses / sizeof *statuses)] : 0,
        .body_state = (enum body_state) (life_byte (life) % 4),
        .body = { (const uint8_t *) body.data, body.size },
        .retry_after_ms = how % 5 == 0 ? 86400000 : 0,
        .reason = answered ? NO_TEXT : body,
    };
    harness_handle (&life->harness, &(struct message){ .id = MESSAGE_HTTP_ANSWER, .http_answer = answer });
}

/*  A service that is well and knows nobody. */
static inline void life_answer_well (struct life *life, uint8_t which)
{
    uint64_t request;
    enum well well;
    if (!life_land (life, which, &request, &well))
        return;
    struct reply reply;
    struct packer *body = reply_begin (&reply);
    if (well == WELL_MAP)
        pack_map (body, 0);
    else if (well == WELL_LIST)
        pack_array (body, 0);
    answer_json (&life->harness, request, 200, packer_raw (body));
}

static inline void life_ask (struct life *life, life_request *fill, uint8_t kind)
{
    if (life->requests == FUZZ_REQUESTS_MAX)
        return;
    struct message message = { .from = DECISION (0), .trace = life->requests };
    fill (life, &message, kind);
    life->requests++;
    harness_handle (&life->harness, &message);
}

/*  The decision comes back without its memory: nothing that is open is answered
    from now on. */
static inline void life_forget (struct life *life)
{
    memset (life->answers, 1, life->requests);
    harness_handle (
        &life->harness,
        &(struct message){ .id = MESSAGE_PEER, .from = DECISION (0), .peer = { .state = PEER_RESTARTED } });
}

static inline void life_step (struct life *life, life_request *fill)
{
    uint8_t step = life_byte (life);
    switch (step % 12) {
    case 0:
    case 1:
    case 2:
        life_ask (life, fill, step % 12);
        break;
    case 3:
    case 4:
        life_answer (life, step / 12);
        break;
    case 5:
        life_answer_well (life, step / 12);
        break;
    case 6:
        harness_fire (&life->harness);
        break;
    case 7:
        harness_advance (&life->harness, (uint64_t) step * step);
        break;
    case 8:
        if (step >= 200)
            life_forget (life);
        else
            open_from (&life->harness, step);
        break;
    case 9:
        harness_plain (&life->harness, step > 240 ? MESSAGE_DRAIN : MESSAGE_HTTP_SENT);
        break;
    case 10:
        harness_handle (&life->harness,
                        &(struct message){ .id = MESSAGE_TIMER, .timer = { .timer = step % TIMERS_MAX } });
        break;
    default:
        harness_turn (&life->harness);
        break;
    }
    life_look (life);
}

/*  The service is well from now on: everything is answered before long. */
static inline void life_get_well (struct life *life)
{
    harness_turn (&life->harness);
    life_look (life);
    for (unsigned i = 0; life->flying || harness_next_timer (&life->harness) < TIMERS_MAX; i++) {
        assert (i < FUZZ_WELL_MAX);
        if (life->flying) {
            life_answer_well (life, 0);
            harness_turn (&life->harness);
        } else
            harness_fire (&life->harness);
        life_look (life);
    }
    for (unsigned i = 0; i < life->requests && !life->rejected; i++)
        assert (life->answers[i] == 1);
}

static inline void live (const struct actor_spec *spec, life_request *fill, const uint8_t *bytes, size_t size)
{
    struct life life = { .bytes = { bytes, bytes + size } };
    struct settings settings = harness_settings ();
    settings.window = 1;
    harness_init (&life.harness, spec, &settings);
    harness_start (&life.harness);
    life_look (&life);
    for (unsigned i = 0; i < FUZZ_STEPS_MAX && life.bytes.at < life.bytes.end; i++)
        life_step (&life, fill);
    life_get_well (&life);
    harness_free (&life.harness);
}

#endif
