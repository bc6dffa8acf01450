/*  sandbox_events.c - the events service (reference: ganomede, 3 and 4).

    Events are kept as the JSON they are served as. Unlike the real service, a
    poll that finds nothing answers the moment something is published, also
    when that happens between looking and waiting: both are on one thread.
*/
#include "actors/sandbox/sandbox_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/clock.h"

bool events_open (struct sandbox *sandbox)
{
    struct store *store = sandbox->store;
    struct events_service *events = &sandbox->events;
    return store_run (store, "CREATE TABLE IF NOT EXISTS events ("
                             " channel TEXT NOT NULL, id INTEGER NOT NULL, json TEXT NOT NULL,"
                             " PRIMARY KEY (channel, id)) WITHOUT ROWID") &&
           store_run (store, "CREATE TABLE IF NOT EXISTS positions ("
                             " client TEXT NOT NULL, channel TEXT NOT NULL, position INTEGER NOT NULL,"
                             " PRIMARY KEY (client, channel)) WITHOUT ROWID") &&
           (events->next_id =
                store_prepare (store, "SELECT coalesce (max (id), 0) + 1 FROM events WHERE channel = ?1")) &&
           (events->insert =
                store_prepare (store, "INSERT INTO events (channel, id, json) VALUES (?1, ?2, ?3)")) &&
           (events->load = store_prepare (store, "SELECT json FROM events WHERE channel = ?1 AND id > ?2"
                                                 " ORDER BY id LIMIT ?3")) &&
           (events->latest =
                store_prepare (store, "SELECT json FROM (SELECT id, json FROM events WHERE channel = ?1"
                                      " ORDER BY id DESC LIMIT ?2) ORDER BY id")) &&
           (events->position =
                store_prepare (store, "SELECT position FROM positions WHERE client = ?1 AND channel = ?2")) &&
           (events->set_position =
                store_prepare (store, "INSERT OR REPLACE INTO positions VALUES (?1, ?2, ?3)"));
}

/*  ---- reading ------------------------------------------------------------- */

/*  Builds a page from a query whose rows are JSON. False when it failed. */
static bool build_page (struct json_list *page, struct sandbox *sandbox, struct store_query *query)
{
    json_list_begin (page, sandbox);
    enum store_step step;
    while ((step = store_step (query)) == STORE_ROW)
        if (!json_list_add (page, store_text (query, 0)))
            break;
    store_reset (query);
    return step != STORE_FAILED;
}

/*  The page behind a position. */
static bool load_page (struct json_list *page, struct sandbox *sandbox, struct text channel, uint64_t after,
                       uint64_t limit)
{
    struct store_query *query = sandbox->events.load;
    return store_bind_text (query, 1, channel) && store_bind_int (query, 2, (int64_t) after) &&
           store_bind_int (query, 3, (int64_t) limit) && build_page (page, sandbox, query);
}

/*  The position to read from: that of the request, which is stored, or the
    stored one. A value that makes no sense is 0, as there. */
static bool find_position (struct sandbox *sandbox, const struct call *call, struct text client,
                           struct text channel, uint64_t *after)
{
    struct text text;
    *after = 0;
    bool given = parameter (sandbox, call, "after", &text);
    struct store_query *query = given ? sandbox->events.set_position : sandbox->events.position;
    if (given && !text_to_uint (text, POSITION_MAX, after))
        *after = 0;
    if (!store_bind_text (query, 1, client) || !store_bind_text (query, 2, channel) ||
        (given && !store_bind_int (query, 3, (int64_t) *after)))
        return false;
    enum store_step step = store_step (query);
    if (step == STORE_ROW)
        *after = (uint64_t) store_int (query, 0);
    store_reset (query);
    return step != STORE_FAILED;
}

/*  Keeps a poll; there are as many places as connections. */
static void wait_for_event (struct sandbox *sandbox, const struct call *call, struct text channel,
                            uint64_t after, uint64_t limit)
{
    assert (channel.size <= NAME_SIZE_MAX);
    struct waiter *waiter = sandbox->events.waiters;
    while (waiter->exchange)
        waiter++;
    assert (waiter < sandbox->events.waiters + SANDBOX_CONNECTIONS_MAX);
    waiter->exchange = call->exchange;
    memcpy (waiter->channel, channel.data, channel.size);
    waiter->channel_size = channel.size;
    waiter->after = after;
    waiter->limit = limit;
    waiter->deadline_ms = clock_steady_ms () + sandbox->poll_timeout_ms;
}

/*  Client and channel of a request, both needed; answers it when they are not
    there. */
static bool check_names (const struct call *call, struct text client, struct text channel)
{
    if (client.size == 0)
        answer_error (call, 400, "InvalidContent", "Invalid Client ID");
    else if (channel.size == 0 || channel.size > NAME_SIZE_MAX)
        answer_error (call, 400, "InvalidContent", "Invalid Channel");
    else
        return true;
    return false;
}

static void get_events (struct sandbox *sandbox, const struct call *call)
{
    struct text secret;
    struct text client;
    struct text channel;
    uint64_t after;
    struct json_list page;
    parameter (sandbox, call, "secret", &secret);
    if (!secret_matches (sandbox, secret)) {
        answer_unauthorized (call);
        return;
    }
    parameter (sandbox, call, "clientId", &client);
    parameter (sandbox, call, "channel", &channel);
    if (!check_names (call, client, channel))
        return;
    uint64_t limit = limit_parameter (sandbox, call);
    if (!find_position (sandbox, call, client, channel, &after) ||
        !load_page (&page, sandbox, channel, after, limit))
        answer_broken (sandbox, call);
    else if (page.count > 0 || sandbox->poll_timeout_ms == 0)
        answer_json (call, json_list_end (&page));
    else
        wait_for_event (sandbox, call, channel, after, limit);
}

static void get_latest (struct sandbox *sandbox, const struct call *call)
{
    struct text secret;
    struct text channel;
    struct json_list page;
    parameter (sandbox, call, "secret", &secret);
    if (!secret_matches (sandbox, secret)) {
        answer_unauthorized (call);
        return;
    }
    parameter (sandbox, call, "channel", &channel);
    if (channel.size == 0) {
        answer_error (call, 400, "InvalidContent", "Invalid Channel");
        return;
    }
    struct store_query *query = sandbox->events.latest;
    if (store_bind_text (query, 1, channel) &&
        store_bind_int (query, 2, (int64_t) limit_parameter (sandbox, call)) &&
        build_page (&page, sandbox, query))
        answer_json (call, json_list_end (&page));
    else
        answer_broken (sandbox, call);
}

/*  ---- publishing ---------------------------------------------------------- */

/*  An event as it was posted. */
struct post {
    struct text channel;
    struct text from;
    struct text type;
    struct raw data; /* empty when there was none */
};

/*  Reads a post; answers it when it is no event. The order of checks is that
    of the real service. */
static bool read_post (struct sandbox *sandbox, const struct call *call, struct post *post)
{
    struct text secret;
    struct text client;
    struct value data;
    if (!body_text (call, "secret", &secret))
        parameter (sandbox, call, "secret", &secret);
    if (!secret_matches (sandbox, secret)) {
        answer_unauthorized (call);
        return false;
    }
    body_text (call, "clientId", &client);
    body_text (call, "channel", &post->channel);
    if (!check_names (call, client, post->channel))
        return false;
    const char *wrong = NULL;
    post->data = NO_RAW;
    if (!body_text (call, "from", &post->from))
        wrong = "Invalid from";
    else if (!body_text (call, "type", &post->type))
        wrong = "Invalid type";
    else if (raw_find (call->body, TEXT_LITERAL ("data"), &post->data) &&
             !(raw_value (post->data, &data) && (data.type == VALUE_MAP || data.type == VALUE_ARRAY)))
        wrong = "Invalid data";
    if (wrong)
        answer_error (call, 400, "InvalidContent", wrong);
    return !wrong;
}

/*  The event as JSON, to be freed; NULL when it cannot be said in JSON, as
    bytes that are not UTF-8. */
static char *event_json (struct sandbox *sandbox, const struct post *post, uint64_t id, size_t *size)
{
    struct packer packer;
    packer_init (&packer, sandbox->reply, SANDBOX_REPLY_SIZE_MAX);
    pack_map (&packer, post->data.size ? 5 : 4);
    pack_literal (&packer, "id");
    pack_uint (&packer, id);
    pack_literal (&packer, "timestamp");
    pack_uint (&packer, clock_wall_ms ());
    pack_literal (&packer, "from");
    pack_text (&packer, post->from);
    pack_literal (&packer, "type");
    pack_text (&packer, post->type);
    if (post->data.size) {
        pack_literal (&packer, "data");
        pack_raw (&packer, post->data);
    }
    return json_write (packer_raw (&packer), NO_TEXT, size);
}

/*  What the users service of app 1 does when a player logs in there. */
static bool play_users_service (struct sandbox *sandbox, const struct post *post)
{
    struct raw found;
    struct text user;
    char now[24];
    if (!text_equal (post->channel, TEXT_LITERAL ("users/v1")) ||
        !text_equal (post->type, TEXT_LITERAL ("LOGIN")) ||
        !text_equal (post->from, text_of (sandbox->app_1_name)) || !raw_path (post->data, "userId", &found) ||
        !raw_text (found, &user) || user.size == 0)
        return true;
    snprintf (now, sizeof now, "%llu", (unsigned long long) clock_wall_ms ());
    return usermeta_write (sandbox, user, TEXT_LITERAL ("auth"), text_of (now));
}

/*  Event and consequence, or neither. */
static bool store_event (struct sandbox *sandbox, const struct post *post, uint64_t id, struct text json)
{
    struct store_query *query = sandbox->events.insert;
    if (!store_run (sandbox->store, "BEGIN IMMEDIATE"))
        return false;
    bool stored = store_bind_text (query, 1, post->channel) && store_bind_int (query, 2, (int64_t) id) &&
                  store_bind_text (query, 3, json) && store_step (query) == STORE_DONE &&
                  play_users_service (sandbox, post) && store_run (sandbox->store, "COMMIT");
    store_reset (query);
    if (!stored)
        store_run (sandbox->store, "ROLLBACK");
    return stored;
}

/*  Answers the polls that wait for this channel. */
static void wake_waiters (struct sandbox *sandbox, struct text channel)
{
    for (size_t i = 0; i < SANDBOX_CONNECTIONS_MAX; i++) {
        struct waiter *waiter = &sandbox->events.waiters[i];
        struct text waiting = { waiter->channel, waiter->channel_size };
        if (!waiter->exchange || !text_equal (waiting, channel))
            continue;
        struct call call = { .exchange = waiter->exchange };
        struct json_list page;
        waiter->exchange = NULL;
        if (load_page (&page, sandbox, channel, waiter->after, waiter->limit))
            answer_json (&call, json_list_end (&page));
        else
            answer_broken (sandbox, &call);
    }
}

static bool next_id (struct sandbox *sandbox, struct text channel, uint64_t *id)
{
    struct store_query *query = sandbox->events.next_id;
    bool found = store_bind_text (query, 1, channel) && store_step (query) == STORE_ROW;
    if (found)
        *id = (uint64_t) store_int (query, 0);
    store_reset (query);
    return found;
}

static void post_event (struct sandbox *sandbox, const struct call *call)
{
    struct post post;
    uint64_t id = 0;
    size_t size = 0;
    if (!read_post (sandbox, call, &post))
        return;
    if (!next_id (sandbox, post.channel, &id)) {
        answer_broken (sandbox, call);
        return;
    }
    char *bytes = event_json (sandbox, &post, id, &size);
    if (!bytes) {
        answer_error (call, 400, "InvalidContent", "Invalid data");
        return;
    }
    struct text json = { bytes, (uint32_t) size };
    if (store_event (sandbox, &post, id, json)) {
        answer_json (call, json);
        wake_waiters (sandbox, post.channel);
    } else {
        answer_broken (sandbox, call);
    }
    free (bytes);
}

/*  ---- waiting ------------------------------------------------------------- */

long events_tick (struct sandbox *sandbox)
{
    uint64_t now = clock_steady_ms ();
    long wait_ms = -1;
    for (size_t i = 0; i < SANDBOX_CONNECTIONS_MAX; i++) {
        struct waiter *waiter = &sandbox->events.waiters[i];
        if (!waiter->exchange)
            continue;
        if (waiter->deadline_ms <= now) {
            struct call call = { .exchange = waiter->exchange };
            waiter->exchange = NULL;
            answer_json (&call, TEXT_LITERAL ("[]"));
            continue;
        }
        long left_ms = (long) (waiter->deadline_ms - now);
        if (wait_ms < 0 || left_ms < wait_ms)
            wait_ms = left_ms;
    }
    return wait_ms;
}

void events_gone (struct sandbox *sandbox, struct http_exchange *exchange)
{
    for (size_t i = 0; i < SANDBOX_CONNECTIONS_MAX; i++)
        if (sandbox->events.waiters[i].exchange == exchange)
            sandbox->events.waiters[i].exchange = NULL;
}

/*  ---- the service --------------------------------------------------------- */

struct route_table events_routes (void)
{
    static const struct route routes[] = {
        { "GET", "/events/v1/events", get_events },
        { "POST", "/events/v1/events", post_event },
        { "GET", "/events/v1/latest", get_latest },
    };
    return (struct route_table){ routes, sizeof routes / sizeof routes[0] };
}
