/*  sandbox_internal.h - what the files of the sandbox share.

    A service is a table of routes and a few prepared queries. All of it runs
    on the one thread of the HTTP server, so nothing here is locked.
*/
#ifndef GUERDON_SANDBOX_INTERNAL_H
#define GUERDON_SANDBOX_INTERNAL_H

#include "actors/base/http_server.h"
#include "actors/base/json.h"
#include "actors/base/store.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    SANDBOX_CONNECTIONS_MAX = 256,
    SANDBOX_BODY_SIZE_MAX = 2 * 1024 * 1024,
    /*  One reply as JSON or msgpack; a list ends early rather than exceed it,
        and more than one body of the largest size fits. */
    SANDBOX_REPLY_SIZE_MAX = 8 * 1024 * 1024,
    /*  Path and query together; each part may be decoded a few times. */
    SANDBOX_TARGET_SIZE_MAX = 64 * 1024,
    SANDBOX_SCRATCH_SIZE = 4 * SANDBOX_TARGET_SIZE_MAX,
    SANDBOX_PARTS_MAX = 3,
    SANDBOX_LIST_MAX = 1024,
    SANDBOX_LIMIT_DEFAULT = 100
};

/*  ---- calls --------------------------------------------------------------- */

/*  One request that was routed. */
struct call {
    struct http_exchange *exchange;
    struct text query;                    /* as it was sent */
    struct text parts[SANDBOX_PARTS_MAX]; /* what "*" stood for, decoded */
    struct raw body;                      /* a POST's JSON; nil when it is none */
};

struct sandbox;
typedef void call_handler (struct sandbox *sandbox, const struct call *call);

/*  A route: "*" in the pattern stands for one part of the path. */
struct route {
    const char *method;
    const char *pattern;
    call_handler *handler;
};

/*  The routes of a service, the more special ones first. */
struct route_table {
    const struct route *routes;
    size_t count;
};

/*  A list in a path or query: "a, b,c". */
struct text_list {
    struct text items[SANDBOX_LIST_MAX];
    size_t count;
};

/*  ---- the services' own state ---------------------------------------------- */

/*  A poll that found nothing, until something comes or it is over. */
struct waiter {
    struct http_exchange *exchange; /* NULL: free */
    char channel[NAME_SIZE_MAX];
    uint32_t channel_size;
    uint64_t after;
    uint64_t limit;
    uint64_t deadline_ms; /* steady */
};

struct events_service {
    struct store_query *next_id;
    struct store_query *insert;
    struct store_query *load;
    struct store_query *latest;
    struct store_query *position;
    struct store_query *set_position;
    struct waiter waiters[SANDBOX_CONNECTIONS_MAX];
};

struct usermeta_service {
    struct store_query *get;
    struct store_query *set;
    /*  Lists of the request at hand; too large for the stack. */
    struct text_list users;
    struct text_list keys;
};

struct currency_service {
    struct store_query *next_id;
    struct store_query *insert;
    struct store_query *count;
    struct store_query *list;
    struct text_list currencies;
    struct text_list reasons;
};

struct sandbox {
    char *api_secret;
    char *app_1_name;
    uint32_t poll_timeout_ms;
    struct store *store;
    struct json_reader *reader;
    struct http_server *server;
    uint8_t *reply; /* SANDBOX_REPLY_SIZE_MAX, for packing and building */
    char *scratch;  /* SANDBOX_SCRATCH_SIZE, for what a request decodes */
    size_t scratch_used;
    struct events_service events;
    struct usermeta_service usermeta;
    struct currency_service currency;
};

/*  ---- services -------------------------------------------------------------- */

/*  Tables and queries of a service; false with the reason in the store. */
bool events_open (struct sandbox *sandbox);
bool usermeta_open (struct sandbox *sandbox);
bool currency_open (struct sandbox *sandbox);

/*  The routes of a service. */
struct route_table events_routes (void);
struct route_table usermeta_routes (void);
struct route_table currency_routes (void);

/*  Ends the polls that waited long enough; milliseconds until the next one
    ends, or -1. */
long events_tick (struct sandbox *sandbox);

/*  Forgets the poll of a client that went away. */
void events_gone (struct sandbox *sandbox, struct http_exchange *exchange);

/*  Writes a user's value, inside whatever transaction is open. */
bool usermeta_write (struct sandbox *sandbox, struct text user, struct text key, struct text value);

/*  ---- helpers (sandbox_call.c) ----------------------------------------------- */

/*  Percent-decodes into the scratch, where it stays until the request ends. */
struct text decode (struct sandbox *sandbox, struct text encoded);

/*  A decoded query parameter; false, with an empty value, when it is absent. */
bool parameter (struct sandbox *sandbox, const struct call *call, const char *name, struct text *value);

/*  `limit` as the events service reads it: what is no integer from 1 up is the
    default. */
uint64_t limit_parameter (struct sandbox *sandbox, const struct call *call);

/*  A member of the JSON body that is a string with something in it. */
bool body_text (const struct call *call, const char *name, struct text *text);

/*  Splits at commas and trims, each item once; false when an item is empty, or
    there are more than SANDBOX_LIST_MAX. */
bool split_list (struct text text, struct text_list *list);
bool list_has (const struct text_list *list, struct text text);

/*  Compares in a time that does not tell how much of it was right. */
bool secret_matches (const struct sandbox *sandbox, struct text given);

/*  The user of a token "<secret>.<user>"; false when it is not one. */
bool token_user (const struct sandbox *sandbox, struct text token, struct text *user);

/*  Replies. Codes and messages are plain ASCII without quotes. */
void answer_json (const struct call *call, struct text json);
void answer_error (const struct call *call, unsigned status, const char *code, const char *message);
void answer_unauthorized (const struct call *call);

/*  The database said no: logs why and answers 500. */
void answer_broken (const struct sandbox *sandbox, const struct call *call);

/*  A list being built from rows that are JSON already, in sandbox->reply. */
struct json_list {
    struct builder builder;
    size_t count;
};

/*  Begins one, empty. */
void json_list_begin (struct json_list *list, struct sandbox *sandbox);

/*  Adds an item; false when it does not fit any more, and the list ends. */
bool json_list_add (struct json_list *list, struct text json);

/*  Ends it; the text lives until the next reply. */
struct text json_list_end (struct json_list *list);

#endif
