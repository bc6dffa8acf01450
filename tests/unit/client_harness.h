/*  client_harness.h - the service that a client room talks to, played by a
    test: answers by hand, one by one.

    Used by the unit tests of the client rooms and by their fuzzers. */
#ifndef GUERDON_CLIENT_HARNESS_H
#define GUERDON_CLIENT_HARNESS_H

#include "tests/unit/core_harness.h"

/*  Who asks, in these tests. */
#define DECISION(peer) ((struct address){ ROLE_DECISION, (peer) })

/*  A packer over memory that is thrown away at the end of the test's block. */
struct reply {
    uint8_t memory[65536];
    struct packer packer;
};

static inline struct packer *reply_begin (struct reply *reply)
{
    packer_init (&reply->packer, reply->memory, sizeof reply->memory);
    return &reply->packer;
}

/*  {"key": "value"} */
static inline struct raw reply_pair (struct reply *reply, const char *key, const char *value)
{
    struct packer *packer = reply_begin (reply);
    pack_map (packer, 1);
    pack_literal (packer, key);
    pack_literal (packer, value);
    return packer_raw (packer);
}

/*  Answers a request with a status and a JSON body; no TURN follows. */
static inline void answer_json (struct harness *harness, uint64_t request, unsigned status, struct raw body)
{
    harness_handle (harness,
                    &(struct message){ .id = MESSAGE_HTTP_ANSWER,
                                       .from = TO_SHELL,
                                       .http_answer = { .request = request,
                                                        .outcome = HTTP_ANSWERED,
                                                        .status = status,
                                                        .body_state = body.size ? BODY_JSON : BODY_NONE,
                                                        .body = body } });
}

/*  A status without a body, and the TURN after it. */
static inline void answer_status (struct harness *harness, uint64_t request, unsigned status)
{
    answer_json (harness, request, status, NO_RAW);
    harness_turn (harness);
}

/*  A request that ends without an answer, and the TURN after it. */
static inline void answer_broken (struct harness *harness, uint64_t request, enum http_outcome outcome)
{
    harness_deliver (harness, &(struct message){ .id = MESSAGE_HTTP_ANSWER,
                                                 .from = TO_SHELL,
                                                 .http_answer = { .request = request,
                                                                  .outcome = outcome,
                                                                  .reason = TEXT_LITERAL ("it rains") } });
}

/*  A status with Retry-After, and the TURN after it. */
static inline void answer_later (struct harness *harness, uint64_t request, unsigned status,
                                 uint64_t after_ms)
{
    harness_deliver (harness, &(struct message){ .id = MESSAGE_HTTP_ANSWER,
                                                 .from = TO_SHELL,
                                                 .http_answer = { .request = request,
                                                                  .outcome = HTTP_ANSWERED,
                                                                  .status = status,
                                                                  .body_state = BODY_NONE,
                                                                  .retry_after_ms = after_ms } });
}

/*  The path of a request; aborts the test when there is no request. */
static inline struct text path_of (const struct message *request)
{
    assert (request && request->id == MESSAGE_HTTP_REQUEST);
    return request->http_request.path;
}

/*  The next HTTP request, which has to be there. */
static inline uint64_t next_request (struct harness *harness, const char *path)
{
    const struct message *request = harness_take (harness, MESSAGE_HTTP_REQUEST);
    assert (request);
    if (path && !harness_says (request->http_request.path, path)) {
        fprintf (stderr, "asked %.*s instead of %s\n", (int) request->http_request.path.size,
                 request->http_request.path.data, path);
        abort ();
    }
    return request->http_request.request;
}

static inline void open_from (struct harness *harness, uint16_t peer)
{
    harness_deliver (harness, &(struct message){ .id = MESSAGE_OPEN, .from = DECISION (peer) });
}

/*  A room whose probe was accepted and whose one peer is opened. */
static inline void harness_open (struct harness *harness, const struct actor_spec *spec,
                                 const struct settings *settings)
{
    harness_init (harness, spec, settings);
    harness_start (harness);
    open_from (harness, 0);
    answer_status (harness, next_request (harness, NULL), 200);
    assert (harness_take (harness, MESSAGE_OPENED));
    harness_clear (harness);
}

/*  The newest HEALTH that was said, or NULL. */
static inline const struct health *last_health (const struct harness *harness)
{
    for (size_t i = harness->count; i-- > 0;)
        if (harness->effects[i].message->id == MESSAGE_HEALTH)
            return &harness->effects[i].message->health;
    return NULL;
}

/*  A small generator for the randomised tests: SplitMix64. */
static inline uint64_t draw (uint64_t *seed)
{
    uint64_t x = *seed += UINT64_C (0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
    return x ^ x >> 31;
}

#endif
