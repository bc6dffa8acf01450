/*  sandbox.c - the life cycle of the sandbox, and which route a request takes. */
#include "actors/sandbox/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/sandbox/sandbox_internal.h"

/*  ---- routing ------------------------------------------------------------- */

/*  Takes the next part of a path, up to "/", and steps behind that. */
static struct text next_part (struct text *path)
{
    struct text part = { path->data, 0 };
    while (part.size < path->size && path->data[part.size] != '/')
        part.size++;
    uint32_t step = part.size < path->size ? part.size + 1 : part.size;
    path->data += step;
    path->size -= step;
    return part;
}

/*  True when the path has the form of the pattern; `parts` receives, still
    encoded, what its "*" stand for. */
static bool matches (const char *pattern, struct text path, struct text *parts)
{
    struct text rest = text_of (pattern);
    size_t wildcards = 0;
    while (rest.size > 0) {
        /*  An empty last part counts, so a path that ended before has it not. */
        bool path_ended = path.size == 0;
        struct text wanted = next_part (&rest);
        struct text part = next_part (&path);
        bool wildcard = text_equal (wanted, TEXT_LITERAL ("*"));
        if (wildcard && !path_ended) {
            assert (wildcards < SANDBOX_PARTS_MAX);
            parts[wildcards++] = part;
        } else if (wildcard || !text_equal (wanted, part)) {
            return false;
        }
    }
    return path.size == 0;
}

/*  The route of a request; NULL when there is none. *path_known tells whether
    another method would have found one. */
static const struct route *find_route (const char *method, struct text path, struct text *parts,
                                       bool *path_known)
{
    const struct route_table tables[] = { events_routes (), usermeta_routes (), currency_routes () };
    *path_known = false;
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        for (size_t r = 0; r < tables[t].count; r++) {
            const struct route *route = &tables[t].routes[r];
            if (!matches (route->pattern, path, parts))
                continue;
            *path_known = true;
            if (strcmp (route->method, method) == 0)
                return route;
        }
    }
    return NULL;
}

/*  The body as msgpack; nil when it is not whole JSON. */
static struct raw read_body (struct sandbox *sandbox, struct text body)
{
    struct raw raw = NO_RAW;
    json_reader_reset (sandbox->reader);
    json_reader_feed (sandbox->reader, body.data, body.size);
    return json_reader_finish (sandbox->reader, &raw) == BODY_JSON ? raw : NO_RAW;
}

static void on_request (void *context, struct http_exchange *exchange,
                        const struct http_server_request *request)
{
    struct sandbox *sandbox = context;
    struct call call = { .exchange = exchange, .query = request->query };
    sandbox->scratch_used = 0;
    if ((size_t) request->path.size + request->query.size > SANDBOX_TARGET_SIZE_MAX) {
        answer_error (&call, 414, "UriTooLong", "The address is too long");
        return;
    }
    bool path_known;
    const struct route *route = find_route (request->method, request->path, call.parts, &path_known);
    if (!route) {
        if (path_known)
            answer_error (&call, 405, "MethodNotAllowed", "This path does not take that method");
        else
            answer_error (&call, 404, "ResourceNotFound", "There is no such path");
        return;
    }
    for (size_t i = 0; i < SANDBOX_PARTS_MAX; i++)
        call.parts[i] = decode (sandbox, call.parts[i]);
    if (strcmp (route->method, "POST") == 0)
        call.body = read_body (sandbox, request->body);
    route->handler (sandbox, &call);
}

static void on_gone (void *context, struct http_exchange *exchange)
{
    events_gone (context, exchange);
}

static long on_tick (void *context)
{
    return events_tick (context);
}

/*  ---- life cycle ---------------------------------------------------------- */

/*  Memory and data; false with a reason. */
static bool open_data (struct sandbox *sandbox, const struct sandbox_options *options, char *reason,
                       size_t reason_size)
{
    char path[4096];
    int size = snprintf (path, sizeof path, "%s/sandbox.db", options->state_dir);
    if (size < 0 || (size_t) size >= sizeof path) {
        snprintf (reason, reason_size, "the state directory has too long a name");
        return false;
    }
    sandbox->api_secret = strdup (options->api_secret);
    sandbox->app_1_name = strdup (options->app_1_name);
    sandbox->reader = json_reader_new (SANDBOX_BODY_SIZE_MAX);
    sandbox->reply = malloc (SANDBOX_REPLY_SIZE_MAX);
    sandbox->scratch = malloc (SANDBOX_SCRATCH_SIZE);
    if (!sandbox->api_secret || !sandbox->app_1_name || !sandbox->reader || !sandbox->reply ||
        !sandbox->scratch) {
        snprintf (reason, reason_size, "%s", strerror (ENOMEM));
        return false;
    }
    sandbox->store = store_open (path, false, reason, reason_size);
    if (!sandbox->store)
        return false;
    if (events_open (sandbox) && usermeta_open (sandbox) && currency_open (sandbox))
        return true;
    snprintf (reason, reason_size, "cannot use %s: %s", path, store_reason (sandbox->store));
    return false;
}

struct sandbox *sandbox_new (const struct sandbox_options *options, char *reason, size_t reason_size)
{
    assert (options && options->state_dir && options->api_secret && options->app_1_name);
    struct sandbox *sandbox = calloc (1, sizeof *sandbox);
    if (!sandbox) {
        snprintf (reason, reason_size, "%s", strerror (ENOMEM));
        return NULL;
    }
    sandbox->poll_timeout_ms = options->poll_timeout_ms;
    const struct http_server_handler handler = { .request = on_request,
                                                 .gone = on_gone,
                                                 .tick = on_tick,
                                                 .context = sandbox,
                                                 .body_size_max = SANDBOX_BODY_SIZE_MAX,
                                                 .connections_max = SANDBOX_CONNECTIONS_MAX };
    if (open_data (sandbox, options, reason, reason_size))
        sandbox->server = http_server_new ("127.0.0.1", options->port, &handler, reason, reason_size);
    if (!sandbox->server)
        sandbox_destroy (&sandbox);
    return sandbox;
}

void sandbox_destroy (struct sandbox **sandbox)
{
    assert (sandbox);
    struct sandbox *self = *sandbox;
    *sandbox = NULL;
    if (!self)
        return;
    http_server_destroy (&self->server);
    store_close (&self->store);
    json_reader_destroy (&self->reader);
    if (self->api_secret)
        explicit_bzero (self->api_secret, strlen (self->api_secret));
    free (self->api_secret);
    free (self->app_1_name);
    free (self->reply);
    free (self->scratch);
    free (self);
}

uint16_t sandbox_port (const struct sandbox *sandbox)
{
    return http_server_port (sandbox->server);
}
