/*  sandbox_usermeta.c - the usermeta service (reference: ganomede, 5 and 9).

    No key is listed as public, so every key is internal: with a wrong secret
    the list route answers as if nothing were there, and the token routes 401.
    Its traps are kept: ids with ":" break it, and what stands behind a ":" in
    a key is lost on the way back.
*/
#include "actors/sandbox/sandbox_internal.h"

#include <stdlib.h>
#include <string.h>

bool usermeta_open (struct sandbox *sandbox)
{
    struct store *store = sandbox->store;
    struct usermeta_service *usermeta = &sandbox->usermeta;
    return store_run (store, "CREATE TABLE IF NOT EXISTS usermeta ("
                             " user TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
                             " PRIMARY KEY (user, key)) WITHOUT ROWID") &&
           (usermeta->get =
                store_prepare (store, "SELECT value FROM usermeta WHERE user = ?1 AND key = ?2")) &&
           (usermeta->set = store_prepare (store, "INSERT OR REPLACE INTO usermeta VALUES (?1, ?2, ?3)"));
}

bool usermeta_write (struct sandbox *sandbox, struct text user, struct text key, struct text value)
{
    struct store_query *query = sandbox->usermeta.set;
    bool written = store_bind_text (query, 1, user) && store_bind_text (query, 2, key) &&
                   store_bind_text (query, 3, value) && store_step (query) == STORE_DONE;
    store_reset (query);
    return written;
}

/*  ---- reading ------------------------------------------------------------- */

/*  The name under which a key comes back. */
static struct text shown_key (struct text key)
{
    const char *colon = memchr (key.data, ':', key.size);
    if (colon)
        key.size = (uint32_t) (colon - key.data);
    return key;
}

/*  Looks one value up. Where it is there, it is counted, and packed when a
    packer is given. */
static bool look_up (struct sandbox *sandbox, struct text user, struct text key, struct packer *packer,
                     uint32_t *count)
{
    struct store_query *query = sandbox->usermeta.get;
    if (!store_bind_text (query, 1, user) || !store_bind_text (query, 2, key))
        return false;
    enum store_step step = store_step (query);
    if (step == STORE_ROW) {
        ++*count;
        if (packer) {
            pack_text (packer, shown_key (key));
            pack_text (packer, store_text (query, 0));
        }
    }
    store_reset (query);
    return step != STORE_FAILED;
}

/*  Packs the values of one user: msgpack wants their number first. */
static bool pack_user (struct sandbox *sandbox, struct text user, bool trusted, struct packer *packer)
{
    const struct text_list *keys = &sandbox->usermeta.keys;
    uint32_t count = 0;
    uint32_t packed = 0;
    for (size_t i = 0; trusted && i < keys->count; i++)
        if (!look_up (sandbox, user, keys->items[i], NULL, &count))
            return false;
    pack_text (packer, user);
    pack_map (packer, count);
    for (size_t i = 0; count > 0 && i < keys->count; i++)
        if (!look_up (sandbox, user, keys->items[i], packer, &packed))
            return false;
    return true;
}

static bool any_has_colon (const struct text_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (text_has (list->items[i], ':'))
            return true;
    return false;
}

static bool all_utf8 (const struct text_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (!text_is_utf8 (list->items[i]))
            return false;
    return true;
}

/*  Answers with the keys of all users that stand in the service's lists. */
static void answer_users (struct sandbox *sandbox, const struct call *call, bool trusted)
{
    const struct text_list *users = &sandbox->usermeta.users;
    struct packer packer;
    if (any_has_colon (users)) {
        answer_error (call, 500, "InternalError", "A user id with a colon breaks this service");
        return;
    }
    packer_init (&packer, sandbox->reply, SANDBOX_REPLY_SIZE_MAX);
    pack_map (&packer, (uint32_t) users->count);
    for (size_t i = 0; i < users->count; i++) {
        if (!pack_user (sandbox, users->items[i], trusted, &packer)) {
            answer_broken (sandbox, call);
            return;
        }
    }
    size_t size = 0;
    char *json = packer.overflow ? NULL : json_write (packer_raw (&packer), NO_TEXT, &size);
    if (json)
        answer_json (call, (struct text){ json, (uint32_t) size });
    else
        answer_error (call, 500, "InternalError", "The reply is too large");
    free (json);
}

static bool read_keys (struct sandbox *sandbox, const struct call *call, struct text keys)
{
    struct text_list *list = &sandbox->usermeta.keys;
    if (split_list (keys, list) && all_utf8 (list))
        return true;
    answer_error (call, 400, "InvalidMetanames", "Invalid list of keys");
    return false;
}

static void get_list (struct sandbox *sandbox, const struct call *call)
{
    struct text_list *users = &sandbox->usermeta.users;
    struct text secret;
    if (!split_list (call->parts[0], users) || !all_utf8 (users)) {
        answer_error (call, 400, "InvalidUserIds", "Invalid list of user ids");
        return;
    }
    if (!read_keys (sandbox, call, call->parts[1]))
        return;
    parameter (sandbox, call, "secret", &secret);
    answer_users (sandbox, call, secret_matches (sandbox, secret));
}

/*  ---- with a token -------------------------------------------------------- */

/*  The user of the token in the path; answers when it is not valid. */
static bool authorize (struct sandbox *sandbox, const struct call *call, struct text *user)
{
    if (token_user (sandbox, call->parts[0], user) && text_is_utf8 (*user))
        return true;
    answer_unauthorized (call);
    return false;
}

static void get_of_token (struct sandbox *sandbox, const struct call *call)
{
    struct text user;
    if (!authorize (sandbox, call, &user) || !read_keys (sandbox, call, call->parts[1]))
        return;
    sandbox->usermeta.users.items[0] = user;
    sandbox->usermeta.users.count = 1;
    answer_users (sandbox, call, true);
}

/*  True when a user may be written for; ids with ":" break the service. */
static bool check_writable (const struct call *call, struct text user)
{
    if (!text_has (user, ':'))
        return true;
    answer_error (call, 500, "InternalError", "A user id with a colon breaks this service");
    return false;
}

static void answer_written (const struct sandbox *sandbox, const struct call *call, bool written)
{
    if (written)
        answer_json (call, TEXT_LITERAL ("{}"));
    else
        answer_broken (sandbox, call);
}

static void post_one (struct sandbox *sandbox, const struct call *call)
{
    struct text user;
    struct raw found;
    struct text value;
    if (!authorize (sandbox, call, &user) || !check_writable (call, user))
        return;
    if (call->parts[1].size == 0 || !text_is_utf8 (call->parts[1])) {
        answer_error (call, 400, "InvalidMetanames", "Invalid key");
        return;
    }
    if (!raw_find (call->body, TEXT_LITERAL ("value"), &found) || !raw_text (found, &value) ||
        !text_is_utf8 (value)) {
        answer_error (call, 400, "InvalidValue", "The value is not a string");
        return;
    }
    answer_written (sandbox, call, usermeta_write (sandbox, user, call->parts[1], value));
}

/*  Goes through the pairs of the body, and writes them when `user` is given.
    False when one is not text, or cannot be written. */
static bool for_pairs (struct sandbox *sandbox, struct raw body, const struct text *user)
{
    struct cursor cursor = cursor_of (body);
    struct value map;
    if (!cursor_next (&cursor, &map) || map.type != VALUE_MAP || map.count == 0)
        return false;
    for (uint32_t i = 0; i < map.count; i++) {
        struct value key;
        struct value value;
        if (!cursor_next (&cursor, &key) || key.type != VALUE_TEXT || key.text.size == 0 ||
            !text_is_utf8 (key.text))
            return false;
        if (!cursor_next (&cursor, &value) || value.type != VALUE_TEXT || !text_is_utf8 (value.text))
            return false;
        if (user && !usermeta_write (sandbox, *user, key.text, value.text))
            return false;
    }
    return true;
}

static void post_many (struct sandbox *sandbox, const struct call *call)
{
    struct text user;
    if (!authorize (sandbox, call, &user) || !check_writable (call, user))
        return;
    if (!for_pairs (sandbox, call->body, NULL)) {
        answer_error (call, 400, "InvalidValue", "The body is not an object of strings");
        return;
    }
    bool written = store_run (sandbox->store, "BEGIN IMMEDIATE");
    if (written) {
        written = for_pairs (sandbox, call->body, &user) && store_run (sandbox->store, "COMMIT");
        if (!written)
            store_run (sandbox->store, "ROLLBACK");
    }
    answer_written (sandbox, call, written);
}

/*  ---- the service --------------------------------------------------------- */

struct route_table usermeta_routes (void)
{
    static const struct route routes[] = {
        { "POST", "/usermeta/v1/auth/*", post_many },
        { "GET", "/usermeta/v1/auth/*/*", get_of_token },
        { "POST", "/usermeta/v1/auth/*/*", post_one },
        { "GET", "/usermeta/v1/*/*", get_list },
    };
    return (struct route_table){ routes, sizeof routes / sizeof routes[0] };
}
