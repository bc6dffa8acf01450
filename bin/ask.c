/*  ask.c - a client a request, one wait for all.
*/
#include "bin/ask.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>

#include "actors/base/clock.h"
#include "proto/raw.h"
#include "proto/text.h"

/*  How much longer than its own timeout a request is waited for. */
enum { PATIENCE_MS = 1000 };

/*  ---- what comes ---------------------------------------------------------- */

/*  The service's own words: `code` and `message` of a restify error. */
static void say_reason (struct ask *ask, const struct http_answer *answer)
{
    struct builder reason;
    struct raw raw;
    struct text code = NO_TEXT, message = NO_TEXT;
    builder_init (&reason, ask->reason, sizeof ask->reason);
    if (answer->body_state == BODY_JSON) {
        if (raw_find (answer->body, TEXT_LITERAL ("code"), &raw)) {
            raw_text (raw, &code);
        }
        if (raw_find (answer->body, TEXT_LITERAL ("message"), &raw)) {
            raw_text (raw, &message);
        }
    }
    if (code.size == 0 && message.size == 0) {
        message = answer->reason;
    }
    builder_printable (&reason, code, REASON_SIZE_MAX);
    if (code.size > 0 && message.size > 0) {
        builder_literal (&reason, ": ");
    }
    builder_printable (&reason, message, REASON_SIZE_MAX);
}

static void take_answer (struct ask *ask, const struct http_answer *answer)
{
    struct value value;
    struct raw id;
    ask->done = true;
    ask->outcome = answer->outcome;
    ask->status = (unsigned) answer->status;
    ask->elapsed_ms = answer->elapsed_ms;
    if (answer->body_state == BODY_JSON) {
        ask->list = raw_value (answer->body, &value) && value.type == VALUE_ARRAY;
        if (raw_find (answer->body, TEXT_LITERAL ("id"), &id)) {
            raw_uint (id, &ask->id);
        }
    }
    say_reason (ask, answer);
}

static void deliver (void *context, const struct message *message)
{
    struct ask *ask = context;
    if (message->id == MESSAGE_HTTP_SENT && ask->sent_ms == 0) {
        ask->sent_ms = clock_steady_ms ();
    } else if (message->id == MESSAGE_HTTP_ANSWER && !ask->done) {
        take_answer (ask, &message->http_answer);
    }
}

/*  ---- waiting ------------------------------------------------------------- */

/*  Settles what time alone settles; milliseconds until it would, 0 if it did. */
static uint64_t settle (struct ask *ask, uint64_t started_ms, uint64_t now_ms)
{
    bool may_hang = ask->hang_ms > 0 && ask->sent_ms > 0;
    uint64_t end_ms = started_ms + ask->request.timeout_ms + PATIENCE_MS;
    uint64_t due_ms = may_hang ? ask->sent_ms + ask->hang_ms : end_ms;
    if (now_ms < due_ms) {
        return due_ms - now_ms;
    }
    ask->done = true;
    ask->hangs = may_hang;
    ask->outcome = HTTP_TIMEOUT;
    ask->elapsed_ms = now_ms - started_ms;
    return 0;
}

/*  One turn: waits for what comes next, and lets the clients work. */
static void turn (struct http_client **clients, struct ask *asks, size_t count, uint64_t started_ms)
{
    struct pollfd items[ASKS_MAX];
    nfds_t waiting = 0;
    uint64_t wait_ms = PATIENCE_MS;
    uint64_t now_ms = clock_steady_ms ();
    for (size_t i = 0; i < count; i++) {
        uint64_t due_ms = asks[i].done ? 0 : settle (&asks[i], started_ms, now_ms);
        if (asks[i].done) {
            continue;
        }
        long own_ms = http_client_wait_ms (clients[i]);
        wait_ms = due_ms < wait_ms ? due_ms : wait_ms;
        wait_ms = own_ms >= 0 && (uint64_t) own_ms < wait_ms ? (uint64_t) own_ms : wait_ms;
        items[waiting++] = (struct pollfd){ .fd = http_client_fd (clients[i]), .events = POLLIN };
    }
    if (waiting > 0) {
        poll (items, waiting, (int) wait_ms);
    }
    for (size_t i = 0; i < count; i++) {
        if (!asks[i].done) {
            http_client_work (clients[i]);
        }
    }
}

static bool all_done (const struct ask *asks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!asks[i].done) {
            return false;
        }
    }
    return true;
}

bool ask_all (struct ask *asks, size_t count, char *reason, size_t reason_size)
{
    assert (asks && count > 0 && count <= ASKS_MAX && reason);
    struct http_client *clients[ASKS_MAX] = { NULL };
    bool good = true;
    uint64_t started_ms = clock_steady_ms ();
    for (size_t i = 0; i < count && good; i++) {
        clients[i] = http_client_new (&asks[i].target, 1, deliver, &asks[i], reason, reason_size);
        good = clients[i] != NULL;
        if (good) {
            struct message message = { .id = MESSAGE_HTTP_REQUEST, .http_request = asks[i].request };
            message.http_request.request = i + 1;
            message.http_request.service = asks[i].target.service;
            http_client_put (clients[i], &message);
            http_client_start (clients[i]);
        }
    }
    while (good && !all_done (asks, count)) {
        turn (clients, asks, count, started_ms);
    }
    for (size_t i = 0; i < count; i++) {
        if (clients[i]) {
            http_client_destroy (&clients[i]);
        }
    }
    return good;
}

bool ask_accepted (const struct ask *ask)
{
    assert (ask && ask->done);
    return ask->hangs || (ask->outcome == HTTP_ANSWERED && ask->status >= 200 && ask->status < 300);
}

bool ask_rejected (const struct ask *ask)
{
    assert (ask && ask->done);
    return !ask->hangs && ask->outcome == HTTP_ANSWERED && (ask->status == 401 || ask->status == 403);
}
