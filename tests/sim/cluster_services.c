/*  cluster_services.c - the three services, without delay and without faults. */

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/text.h"
#include "tests/sim/cluster.h"

enum { PAGE_EVENTS_MAX = 1000, PAGE_SIZE_MAX = 256 * 1024 }; /* the service since 1.5.4 */

#define TOKEN_START "{secret}."

static void set_answer (struct call *call, const struct packer *packer)
{
    assert (!packer->overflow);
    call->body = malloc (packer->size);
    assert (call->body);
    memcpy (call->body, packer->data, packer->size);
    call->answer = (struct http_answer){ .status = 200,
                                         .body_state = BODY_JSON,
                                         .body = { call->body, (uint32_t) packer->size } };
}

/*  The number of a player, of "u" and digits; 0 for anybody else. */
static uint32_t player_of (const struct services *services, struct text name)
{
    uint64_t number;
    if (name.size < 2 || name.data[0] != 'u' ||
        !text_to_uint ((struct text){ name.data + 1, name.size - 1 }, services->events, &number))
        return 0;
    return (uint32_t) number;
}

/*  What stands behind `start` in a path, up to one of `ends`. */
static struct text part (const char *path, const char *start, const char *ends)
{
    const char *at = strstr (path, start);
    if (!at)
        return NO_TEXT;
    at += strlen (start);
    return (struct text){ at, (uint32_t) strcspn (at, ends) };
}

/*  ---- events ------------------------------------------------------------- */

static void pack_event (uint64_t id, struct packer *packer)
{
    char user[24];
    snprintf (user, sizeof user, "u%" PRIu64, id);
    pack_map (packer, 5);
    pack_literal (packer, "id");
    pack_uint (packer, id);
    pack_literal (packer, "timestamp");
    pack_uint (packer, UINT64_C (1790000000000));
    pack_literal (packer, "from");
    pack_literal (packer, "app2");
    pack_literal (packer, "type");
    pack_literal (packer, "LOGIN");
    pack_literal (packer, "data");
    pack_map (packer, 1);
    pack_literal (packer, "userId");
    pack_literal (packer, user);
}

static bool serve_events (struct services *services, struct call *call, const char *path)
{
    uint64_t after = 0, limit = PAGE_EVENTS_MAX;
    uint8_t memory[PAGE_SIZE_MAX];
    struct packer packer;
    text_to_uint (part (path, "after=", "&"), UINT64_MAX, &after);
    text_to_uint (part (path, "limit=", "&"), PAGE_EVENTS_MAX, &limit);
    uint64_t left = after < services->events ? services->events - after : 0;
    uint64_t count = left < limit ? left : limit;
    packer_init (&packer, memory, sizeof memory);
    pack_array (&packer, (uint32_t) count);
    for (uint64_t i = 1; i <= count; i++)
        pack_event (after + i, &packer);
    set_answer (call, &packer);
    services->polls += count > 0;
    return count > 0;
}

/*  ---- usermeta ----------------------------------------------------------- */

static void pack_player (const struct services *services, struct text name, struct packer *packer)
{
    bool marked = services->marked[player_of (services, name)];
    pack_text (packer, name);
    pack_map (packer, 1 + (uint32_t) marked);
    pack_literal (packer, "auth");
    pack_literal (packer, "1490999999000");
    if (marked) {
        pack_literal (packer, "$reward$promo");
        pack_literal (packer, "1790000000000");
    }
}

static void serve_read (const struct services *services, struct call *call, const char *path)
{
    uint8_t memory[PAGE_SIZE_MAX];
    struct packer packer;
    const char *at = path + 1, *end = at + strcspn (at, "/");
    uint32_t count = 1;
    for (const char *comma = at; comma < end; comma++)
        count += *comma == ',';
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = (uint32_t) strcspn (at, ",/");
        pack_player (services, (struct text){ at, size }, &packer);
        at += size + 1;
    }
    set_answer (call, &packer);
}

/*  ---- all ---------------------------------------------------------------- */

static void serve_reward (struct services *services, struct call *call)
{
    struct raw found;
    struct text to = NO_TEXT;
    if (raw_path (call->request.body, "to", &found))
        raw_text (found, &to);
    uint32_t player = player_of (services, to);
    assert (player);
    services->rewards++;
    services->doubles += services->given[player];
    services->given[player] = 1;
}

bool services_serve (struct services *services, struct call *call)
{
    const char *path = call->request.path.data;
    if (call->request.service == SERVICE_EVENTS)
        return serve_events (services, call, path);
    bool writes = call->request.method == METHOD_POST;
    if (call->request.service == SERVICE_USERMETA && !writes) {
        serve_read (services, call, path);
        return true;
    }
    uint8_t memory[8];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    if (call->request.service == SERVICE_USERMETA) {
        uint32_t player = player_of (services, part (path, TOKEN_START, "/"));
        services->marked[player] = player > 0;
        pack_map (&packer, 0);
    } else if (writes) {
        serve_reward (services, call);
        pack_map (&packer, 0);
    } else {
        pack_array (&packer, 0);
    }
    set_answer (call, &packer);
    return true;
}
