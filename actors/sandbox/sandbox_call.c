/*  sandbox_call.c - what every route of the sandbox needs: parameters, secrets,
    lists and replies.
*/
#include "actors/sandbox/sandbox_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "actors/base/log.h"

/*  ---- parameters ---------------------------------------------------------- */

struct text decode (struct sandbox *sandbox, struct text encoded)
{
    /*  Routing refuses targets that are larger, and no part is decoded more
        often than the scratch has room for. */
    assert (encoded.size <= SANDBOX_SCRATCH_SIZE - sandbox->scratch_used);
    char *memory = sandbox->scratch + sandbox->scratch_used;
    size_t size = http_decode (encoded, memory);
    sandbox->scratch_used += size;
    return (struct text){ memory, (uint32_t) size };
}

bool parameter (struct sandbox *sandbox, const struct call *call, const char *name, struct text *value)
{
    struct text encoded = NO_TEXT;
    bool there = http_query (call->query, name, &encoded);
    *value = there ? decode (sandbox, encoded) : NO_TEXT;
    return there;
}

uint64_t limit_parameter (struct sandbox *sandbox, const struct call *call)
{
    struct text text;
    uint64_t limit = 0;
    if (parameter (sandbox, call, "limit", &text) && text_to_uint (text, POSITION_MAX, &limit) && limit > 0)
        return limit;
    return SANDBOX_LIMIT_DEFAULT;
}

bool body_text (const struct call *call, const char *name, struct text *text)
{
    struct raw found;
    *text = NO_TEXT;
    return raw_find (call->body, text_of (name), &found) && raw_text (found, text) && text->size > 0;
}

/*  ---- lists --------------------------------------------------------------- */

static bool is_space (char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct text trim (struct text text)
{
    while (text.size > 0 && is_space (text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && is_space (text.data[text.size - 1]))
        text.size--;
    return text;
}

bool list_has (const struct text_list *list, struct text text)
{
    for (size_t i = 0; i < list->count; i++)
        if (text_equal (list->items[i], text))
            return true;
    return false;
}

bool split_list (struct text text, struct text_list *list)
{
    list->count = 0;
    uint32_t start = 0;
    while (start <= text.size) {
        uint32_t end = start;
        while (end < text.size && text.data[end] != ',')
            end++;
        struct text item = NO_TEXT;
        if (end > start)
            item = trim ((struct text){ text.data + start, end - start });
        if (item.size == 0)
            return false;
        if (!list_has (list, item)) {
            if (list->count == SANDBOX_LIST_MAX)
                return false;
            list->items[list->count++] = item;
        }
        start = end + 1;
    }
    return true;
}

/*  ---- secrets ------------------------------------------------------------- */

static bool same_bytes (const char *a, const char *b, size_t size)
{
    volatile unsigned char difference = 0;
    for (size_t i = 0; i < size; i++)
        difference = (unsigned char) (difference | (a[i] ^ b[i]));
    return difference == 0;
}

bool secret_matches (const struct sandbox *sandbox, struct text given)
{
    size_t size = strlen (sandbox->api_secret);
    return given.size == size && same_bytes (given.data, sandbox->api_secret, size);
}

bool token_user (const struct sandbox *sandbox, struct text token, struct text *user)
{
    uint32_t size = (uint32_t) strlen (sandbox->api_secret);
    if (token.size < size + 2 || token.data[size] != '.' ||
        !same_bytes (token.data, sandbox->api_secret, size))
        return false;
    *user = (struct text){ token.data + size + 1, token.size - size - 1 };
    return true;
}

/*  ---- replies ------------------------------------------------------------- */

void answer_json (const struct call *call, struct text json)
{
    http_exchange_answer (call->exchange, 200, "application/json", json);
}

void answer_error (const struct call *call, unsigned status, const char *code, const char *message)
{
    char json[256];
    int size = snprintf (json, sizeof json, "{\"code\":\"%s\",\"message\":\"%s\"}", code, message);
    assert (size > 0 && (size_t) size < sizeof json);
    http_exchange_answer (call->exchange, status, "application/json", (struct text){ json, (uint32_t) size });
}

void answer_unauthorized (const struct call *call)
{
    answer_error (call, 401, "InvalidCredentialsError", "Invalid credentials");
}

void answer_broken (const struct sandbox *sandbox, const struct call *call)
{
    log_say ("sandbox", LOG_ERROR, "the database fails: %s", store_reason (sandbox->store));
    answer_error (call, 500, "InternalError", "The database fails");
}

void json_list_begin (struct json_list *list, struct sandbox *sandbox)
{
    builder_init (&list->builder, (char *) sandbox->reply, SANDBOX_REPLY_SIZE_MAX);
    builder_literal (&list->builder, "[");
    list->count = 0;
}

bool json_list_add (struct json_list *list, struct text json)
{
    /*  Comma, bracket and terminator are to fit as well. */
    size_t left = list->builder.capacity - list->builder.size;
    if (left < (size_t) json.size + 3)
        return false;
    if (list->count > 0)
        builder_literal (&list->builder, ",");
    builder_add (&list->builder, json);
    list->count++;
    return true;
}

struct text json_list_end (struct json_list *list)
{
    builder_literal (&list->builder, "]");
    assert (!list->builder.overflow);
    return builder_text (&list->builder);
}
