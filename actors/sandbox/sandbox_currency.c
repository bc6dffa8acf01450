/*  sandbox_currency.c - the virtualcurrency service (reference: ganomede, 6).

    The source of the real one is not public: what its callers show is kept, a
    reward is a transaction, and every POST makes a new one.
*/
#include "actors/sandbox/sandbox_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/base/clock.h"

bool currency_open (struct sandbox *sandbox)
{
    struct store *store = sandbox->store;
    struct currency_service *currency = &sandbox->currency;
    return store_run (store, "CREATE TABLE IF NOT EXISTS transactions ("
                             " id INTEGER PRIMARY KEY, user TEXT NOT NULL, currency TEXT NOT NULL,"
                             " amount INTEGER NOT NULL, reason TEXT NOT NULL, timestamp INTEGER NOT NULL,"
                             " json TEXT NOT NULL)") &&
           store_run (store, "CREATE INDEX IF NOT EXISTS transactions_user ON transactions (user)") &&
           (currency->next_id =
                store_prepare (store, "SELECT coalesce (max (id), 0) + 1 FROM transactions")) &&
           (currency->insert =
                store_prepare (store, "INSERT INTO transactions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")) &&
           (currency->count = store_prepare (store, "SELECT coalesce (sum (amount), 0) FROM transactions"
                                                    " WHERE user = ?1 AND currency = ?2")) &&
           (currency->list = store_prepare (store, "SELECT json, currency, reason FROM transactions"
                                                   " WHERE user = ?1 AND timestamp < ?2 ORDER BY id DESC"));
}

/*  ---- giving -------------------------------------------------------------- */

/*  A reward as it was posted, and what the service adds. */
struct reward {
    struct text from; /* may be empty */
    struct text to;
    struct text currency;
    int64_t amount;
    struct raw data; /* a map, or empty */
    uint64_t id;
    uint64_t timestamp_ms;
};

/*  An integer in JSON; false for all else. */
static bool read_amount (const struct call *call, int64_t *amount)
{
    struct raw found;
    struct value value;
    uint64_t uint;
    if (!raw_find (call->body, TEXT_LITERAL ("amount"), &found) || !raw_value (found, &value))
        return false;
    if (value.type == VALUE_INT) {
        *amount = value.integer;
        return *amount >= -(int64_t) POSITION_MAX;
    }
    *amount = 0;
    if (!raw_uint (found, &uint) || uint > POSITION_MAX)
        return false;
    *amount = (int64_t) uint;
    return true;
}

/*  Reads a reward; answers when it is not one. */
static bool read_reward (struct sandbox *sandbox, const struct call *call, struct reward *reward)
{
    struct text secret;
    struct value data;
    body_text (call, "secret", &secret);
    if (!secret_matches (sandbox, secret)) {
        answer_unauthorized (call);
        return false;
    }
    const char *wrong = NULL;
    body_text (call, "from", &reward->from);
    reward->data = NO_RAW;
    if (!body_text (call, "to", &reward->to))
        wrong = "Invalid to";
    else if (!body_text (call, "currency", &reward->currency))
        wrong = "Invalid currency";
    else if (!read_amount (call, &reward->amount))
        wrong = "Invalid amount";
    else if (raw_find (call->body, TEXT_LITERAL ("data"), &reward->data) &&
             !(raw_value (reward->data, &data) && data.type == VALUE_MAP))
        wrong = "Invalid data";
    if (wrong)
        answer_error (call, 400, "InvalidContent", wrong);
    return !wrong;
}

/*  The data of a transaction: that of the reward, and where it came from. */
static void pack_data (struct packer *packer, const struct reward *reward)
{
    struct cursor cursor = cursor_of (reward->data);
    struct value map = { .type = VALUE_MAP };
    struct raw shadowed;
    if (reward->data.size)
        cursor_next (&cursor, &map);
    bool from = reward->from.size > 0 && !raw_find (reward->data, TEXT_LITERAL ("from"), &shadowed);
    pack_map (packer, map.count + (from ? 1 : 0));
    if (from) {
        pack_literal (packer, "from");
        pack_text (packer, reward->from);
    }
    for (uint32_t i = 0; i < 2 * map.count; i++) {
        struct raw part = NO_RAW;
        cursor_skip (&cursor, &part);
        pack_raw (packer, part);
    }
}

/*  The transaction as JSON, to be freed; NULL when JSON cannot say it. */
static char *transaction_json (struct sandbox *sandbox, const struct reward *reward, size_t *size)
{
    struct packer packer;
    char id[32];
    snprintf (id, sizeof id, "tx-%llu", (unsigned long long) reward->id);
    packer_init (&packer, sandbox->reply, SANDBOX_REPLY_SIZE_MAX);
    pack_map (&packer, 8);
    pack_literal (&packer, "id");
    pack_literal (&packer, id);
    pack_literal (&packer, "type");
    pack_literal (&packer, "reward");
    pack_literal (&packer, "username");
    pack_text (&packer, reward->to);
    pack_literal (&packer, "timestamp");
    pack_uint (&packer, reward->timestamp_ms);
    pack_literal (&packer, "amount");
    pack_int (&packer, reward->amount);
    pack_literal (&packer, "currency");
    pack_text (&packer, reward->currency);
    pack_literal (&packer, "reason");
    pack_literal (&packer, "reward");
    pack_literal (&packer, "data");
    pack_data (&packer, reward);
    return json_write (packer_raw (&packer), NO_TEXT, size);
}

static bool next_id (struct sandbox *sandbox, uint64_t *id)
{
    struct store_query *query = sandbox->currency.next_id;
    bool found = store_step (query) == STORE_ROW;
    if (found)
        *id = (uint64_t) store_int (query, 0);
    store_reset (query);
    return found;
}

static bool store_reward (struct sandbox *sandbox, const struct reward *reward, struct text json)
{
    struct store_query *query = sandbox->currency.insert;
    bool stored = store_bind_int (query, 1, (int64_t) reward->id) && store_bind_text (query, 2, reward->to) &&
                  store_bind_text (query, 3, reward->currency) && store_bind_int (query, 4, reward->amount) &&
                  store_bind_text (query, 5, TEXT_LITERAL ("reward")) &&
                  store_bind_int (query, 6, (int64_t) reward->timestamp_ms) &&
                  store_bind_text (query, 7, json) && store_step (query) == STORE_DONE;
    store_reset (query);
    return stored;
}

static void post_reward (struct sandbox *sandbox, const struct call *call)
{
    struct reward reward = { .timestamp_ms = clock_wall_ms () };
    size_t size = 0;
    if (!read_reward (sandbox, call, &reward))
        return;
    if (!next_id (sandbox, &reward.id)) {
        answer_broken (sandbox, call);
        return;
    }
    char *bytes = transaction_json (sandbox, &reward, &size);
    if (!bytes) {
        answer_error (call, 400, "InvalidContent", "Invalid content");
        return;
    }
    struct text json = { bytes, (uint32_t) size };
    if (store_reward (sandbox, &reward, json))
        answer_json (call, json);
    else
        answer_broken (sandbox, call);
    free (bytes);
}

/*  ---- looking ------------------------------------------------------------- */

static void get_count (struct sandbox *sandbox, const struct call *call)
{
    struct text user;
    struct text_list *currencies = &sandbox->currency.currencies;
    struct store_query *query = sandbox->currency.count;
    struct packer packer;
    if (!token_user (sandbox, call->parts[0], &user)) {
        answer_unauthorized (call);
        return;
    }
    if (!split_list (call->parts[1], currencies)) {
        answer_error (call, 400, "InvalidContent", "Invalid list of currencies");
        return;
    }
    packer_init (&packer, sandbox->reply, SANDBOX_REPLY_SIZE_MAX);
    pack_array (&packer, (uint32_t) currencies->count);
    for (size_t i = 0; i < currencies->count; i++) {
        if (!store_bind_text (query, 1, user) || !store_bind_text (query, 2, currencies->items[i]) ||
            store_step (query) != STORE_ROW) {
            answer_broken (sandbox, call);
            return;
        }
        pack_map (&packer, 2);
        pack_literal (&packer, "currency");
        pack_text (&packer, currencies->items[i]);
        pack_literal (&packer, "count");
        pack_int (&packer, store_int (query, 0));
        store_reset (query);
    }
    size_t size = 0;
    char *json = json_write (packer_raw (&packer), NO_TEXT, &size);
    if (json)
        answer_json (call, (struct text){ json, (uint32_t) size });
    else
        answer_error (call, 400, "InvalidContent", "Invalid list of currencies");
    free (json);
}

/*  A filter of the listing: all when the parameter is absent or empty. */
static bool read_filter (struct sandbox *sandbox, const struct call *call, const char *name,
                         struct text_list *list)
{
    struct text text;
    list->count = 0;
    if (!parameter (sandbox, call, name, &text) || text.size == 0 || split_list (text, list))
        return true;
    answer_error (call, 400, "InvalidContent", "Invalid list");
    return false;
}

static bool passes (const struct text_list *filter, struct text text)
{
    return filter->count == 0 || list_has (filter, text);
}

/*  Adds what passes the filters, newest first. False when the query failed. */
static bool build_list (struct json_list *list, struct sandbox *sandbox, uint64_t limit)
{
    struct store_query *query = sandbox->currency.list;
    enum store_step step = STORE_DONE;
    json_list_begin (list, sandbox);
    while (list->count < limit && (step = store_step (query)) == STORE_ROW) {
        if (!passes (&sandbox->currency.currencies, store_text (query, 1)) ||
            !passes (&sandbox->currency.reasons, store_text (query, 2)))
            continue;
        if (!json_list_add (list, store_text (query, 0)))
            break;
    }
    store_reset (query);
    return step != STORE_FAILED;
}

static void get_transactions (struct sandbox *sandbox, const struct call *call)
{
    struct text user;
    struct text text;
    uint64_t before = 0;
    struct json_list list;
    struct store_query *query = sandbox->currency.list;
    if (!token_user (sandbox, call->parts[0], &user)) {
        answer_unauthorized (call);
        return;
    }
    if (!read_filter (sandbox, call, "currencies", &sandbox->currency.currencies) ||
        !read_filter (sandbox, call, "reasons", &sandbox->currency.reasons))
        return;
    if (!parameter (sandbox, call, "before", &text) || !text_to_uint (text, POSITION_MAX, &before))
        before = POSITION_MAX;
    if (store_bind_text (query, 1, user) && store_bind_int (query, 2, (int64_t) before) &&
        build_list (&list, sandbox, limit_parameter (sandbox, call)))
        answer_json (call, json_list_end (&list));
    else
        answer_broken (sandbox, call);
}

/*  ---- the service --------------------------------------------------------- */

struct route_table currency_routes (void)
{
    static const struct route routes[] = {
        { "POST", "/virtualcurrency/v1/rewards", post_reward },
        { "GET", "/virtualcurrency/v1/auth/*/coins/*/count", get_count },
        { "GET", "/virtualcurrency/v1/auth/*/transactions", get_transactions },
    };
    return (struct route_table){ routes, sizeof routes / sizeof routes[0] };
}
