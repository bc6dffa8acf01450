/*  http_call.c - see http_call.h. */
#include "actors/base/http_call.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/json.h"
#include "proto/text.h"

static const char secret_place[] = "{secret}";

/*  ---- where requests go -------------------------------------------------- */

/*  Where the path begins in "http://host:port/prefix". */
static const char *path_in (const char *base)
{
    const char *host = strstr (base, "://");
    const char *path = strchr (host ? host + 3 : base, '/');
    return path ? path : base + strlen (base);
}

bool http_place_init (struct http_place *place, const struct http_target *target)
{
    assert (place && target && target->base && target->secret);
    place->root = path_in (target->base);
    place->secret = text_of (target->secret);
    size_t capacity = (size_t) place->secret.size * 3 + 1;
    place->secret_encoded = malloc (capacity);
    if (!place->secret_encoded)
        return false;
    struct builder builder;
    builder_init (&builder, place->secret_encoded, capacity);
    builder_percent (&builder, place->secret);
    assert (!builder.overflow);
    return true;
}

void http_place_destroy (struct http_place *place)
{
    assert (place);
    if (place->secret_encoded)
        explicit_bzero (place->secret_encoded, strlen (place->secret_encoded));
    free (place->secret_encoded);
    place->secret_encoded = NULL;
}

/*  ---- a call ------------------------------------------------------------- */

/*  True for a path that can stand in a request line as it is. */
static bool path_valid (struct text path)
{
    if (path.size > PATH_SIZE_MAX)
        return false;
    for (uint32_t i = 0; i < path.size; i++) {
        if (path.data[i] <= ' ' || path.data[i] > '~' || path.data[i] == '#')
            return false;
    }
    return true;
}

/*  Where `{secret}` stands in a path from `at` on; path.size when nowhere. */
static uint32_t find_secret (struct text path, uint32_t at)
{
    uint32_t size = sizeof secret_place - 1;
    for (; at + size <= path.size; at++) {
        if (memcmp (path.data + at, secret_place, size) == 0)
            return at;
    }
    return path.size;
}

static bool target_reserve (struct http_call *call, size_t size)
{
    if (call->target_capacity >= size)
        return true;
    char *target = realloc (call->target, size);
    if (!target)
        return false;
    call->target = target;
    call->target_capacity = size;
    return true;
}

/*  Joins the base's path and this one, with the secret in its place. */
static bool target_build (struct http_call *call, const struct http_place *place, struct text path)
{
    size_t size = strlen (place->root) + path.size + sizeof "/";
    for (uint32_t at = find_secret (path, 0); at < path.size; at = find_secret (path, at + 1))
        size += strlen (place->secret_encoded);
    if (!target_reserve (call, size))
        return false;
    struct builder target;
    builder_init (&target, call->target, call->target_capacity);
    builder_literal (&target, place->root);
    bool rooted = path.size > 0 && path.data[0] == '/';
    bool below = path.size > 0 && path.data[0] != '?';
    if (!rooted && (below || !*place->root))
        builder_literal (&target, "/");
    uint32_t at = 0;
    while (at < path.size) {
        uint32_t found = find_secret (path, at);
        builder_add (&target, (struct text){ path.data + at, found - at });
        at = found;
        if (found < path.size) {
            builder_literal (&target, place->secret_encoded);
            at += (uint32_t) sizeof secret_place - 1;
        }
    }
    assert (!target.overflow);
    return true;
}

const char *http_call_fill (struct http_call *call, const struct http_place *place,
                            const struct message *message)
{
    assert (call && place && message && message->id == MESSAGE_HTTP_REQUEST && !call->body);
    const struct http_request *asked = &message->http_request;
    call->id = asked->request;
    call->trace = message->trace;
    call->method = asked->method;
    call->timeout_ms = asked->timeout_ms ? (uint32_t) asked->timeout_ms : 1;
    call->started_ms = 0;
    call->reason[0] = '\0';
    if (!path_valid (asked->path))
        return "the path of the request is not one";
    if (!target_build (call, place, asked->path))
        return "out of memory";
    if (asked->body.size == 0)
        return NULL;
    call->body = json_write (asked->body, place->secret, &call->body_size);
    return call->body ? NULL : "the body of the request cannot be written as JSON";
}

void http_call_wipe (struct http_call *call, size_t kept)
{
    assert (call);
    if (call->body)
        explicit_bzero (call->body, call->body_size);
    free (call->body);
    call->body = NULL;
    call->body_size = 0;
    if (call->target)
        explicit_bzero (call->target, call->target_capacity);
    if (call->target_capacity <= kept)
        return;
    free (call->target);
    call->target = NULL;
    call->target_capacity = 0;
}

void http_call_unreached (struct http_call *call, const char *reason)
{
    assert (call && reason);
    call->answer =
        (struct http_answer){ .request = call->id, .outcome = HTTP_UNREACHED, .body_state = BODY_NONE };
    snprintf (call->reason, sizeof call->reason, "%s", reason);
}

/*  ---- a list ------------------------------------------------------------- */

void http_calls_init (struct http_calls *calls)
{
    assert (calls);
    calls->first = NULL;
    calls->end = &calls->first;
    calls->count = 0;
}

void http_calls_push (struct http_calls *calls, struct http_call *call)
{
    assert (calls && call);
    call->next = NULL;
    *calls->end = call;
    calls->end = &call->next;
    calls->count++;
}

/*  Unhooks the call that `at` points to. */
static struct http_call *unhook (struct http_calls *calls, struct http_call **at)
{
    struct http_call *call = *at;
    *at = call->next;
    if (!*at)
        calls->end = at;
    calls->count--;
    return call;
}

struct http_call *http_calls_pop (struct http_calls *calls)
{
    assert (calls);
    return calls->first ? unhook (calls, &calls->first) : NULL;
}

struct http_call *http_calls_take (struct http_calls *calls, uint64_t id)
{
    assert (calls);
    for (struct http_call **at = &calls->first; *at; at = &(*at)->next) {
        if ((*at)->id == id)
            return unhook (calls, at);
    }
    return NULL;
}

void http_calls_clear (struct http_calls *calls)
{
    struct http_call *call;
    while ((call = http_calls_pop (calls)) != NULL) {
        http_call_wipe (call, 0);
        free (call);
    }
}
