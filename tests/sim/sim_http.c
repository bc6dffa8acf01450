/*  sim_http.c - HTTP calls: from the request of a core to its answer, with what
    may go wrong on the way. The services do the rest. */

#include "tests/sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/text.h"

enum { LATE_PERCENT = 40 /* of the find grace: how long a service works on after a connection ended */ };

/*  ---- a call's life ------------------------------------------------------ */

static void call_next (struct sim *sim, struct call *call, enum call_step due, uint64_t delay_ms)
{
    call->due = due;
    call->step++;
    set_alarm (sim, sim->now_ms + delay_ms, ALARM_CALL, 0, call->step, call);
}

static void call_empty (struct call *call)
{
    free (call->path);
    free (call->body);
    free (call->answer_bytes);
    call->path = NULL;
    call->body = NULL;
    call->answer_bytes = NULL;
}

/*  One that is not used. Alarms may still point to it, so none is freed before
    the end, and its steps go on counting. */
static struct call *call_new (struct sim *sim)
{
    struct call *call = sim->free_calls;
    if (call) {
        sim->free_calls = call->next;
        *call = (struct call){ .all = call->all, .step = call->step };
        return call;
    }
    call = calloc (1, sizeof *call);
    assert (call);
    call->all = sim->all_calls;
    sim->all_calls = call;
    return call;
}

void http_clear (struct sim *sim)
{
    while (sim->all_calls) {
        struct call *call = sim->all_calls;
        sim->all_calls = call->all;
        call_empty (call);
        free (call);
    }
}

/*  Nobody has it any more. */
static void call_free (struct sim *sim, struct call *call)
{
    for (struct call **at = &sim->polls; *at; at = &(*at)->poll)
        if (*at == call) {
            *at = call->poll;
            break;
        }
    call_empty (call);
    call->step++;
    call->next = sim->free_calls;
    sim->free_calls = call;
}

static void unlink_call (struct actor *actor, struct call *call)
{
    for (struct call **at = &actor->calls; *at; at = &(*at)->next)
        if (*at == call) {
            *at = call->next;
            return;
        }
}

/*  The connection ends without an answer: what the service has not done yet it may
    still do, shortly after. */
static void call_end (struct sim *sim, struct call *call)
{
    call->client = NULL;
    bool late = call->fate == FATE_HANG_LATE && call->arrived;
    bool under_way = call->connected && !call->arrived;
    if (sim->options.calm ? !under_way || sim->options.variant == 0
                          : !late && (!under_way || chance (sim, 500))) {
        call_free (sim, call);
        return;
    }
    uint64_t late_ms = sim->settings.find_grace_ms * LATE_PERCENT / 100;
    if (sim->options.calm)
        late_ms = sim->options.variant == 1 ? 0 : late_ms;
    else
        late_ms = draw (sim, late_ms + 1);
    call_next (sim, call, CALL_LATE, late_ms);
}

static uint64_t hop_ms (struct sim *sim)
{
    return sim->options.calm ? 1 : draw (sim, 4);
}

void http_put (struct actor *actor, const struct message *request)
{
    const struct http_request *http = &request->http_request;
    struct call *call = call_new (actor->sim);
    call->client = actor;
    call->id = http->request;
    call->trace = request->trace;
    call->service = http->service;
    call->method = http->method;
    call->path = malloc (http->path.size + 1);
    assert (call->path);
    memcpy (call->path, http->path.data, http->path.size);
    call->path[http->path.size] = '\0';
    call->body_size = http->body.size;
    if (http->body.size) {
        call->body = malloc (http->body.size);
        assert (call->body);
        memcpy (call->body, http->body.data, http->body.size);
    }
    call->timeout_ms = http->timeout_ms;
    struct call **at = &actor->calls;
    while (*at)
        at = &(*at)->next;
    *at = call;
}

void http_cancel (struct actor *actor, uint64_t request)
{
    for (struct call *call = actor->calls; call; call = call->next)
        if (call->id == request) {
            unlink_call (actor, call);
            call_end (actor->sim, call);
            return;
        }
}

void http_stop (struct actor *actor)
{
    while (actor->calls) {
        struct call *call = actor->calls;
        actor->calls = call->next;
        call_end (actor->sim, call);
    }
}

static enum fate draw_fate (struct sim *sim, const struct call *call)
{
    const struct trouble *trouble = &sim->trouble[call->service];
    if (!trouble->permille || !chance (sim, trouble->permille))
        return FATE_GOOD;
    for (;;) {
        enum fate fate = (enum fate) draw (sim, FATES);
        if (!(trouble->fates & 1u << fate))
            continue;
        bool read_only = fate == FATE_GARBAGE || fate == FATE_CUT;
        if (read_only && call->method == METHOD_POST)
            return FATE_ERROR_BEFORE;
        if (fate == FATE_DENIED && (call->service != SERVICE_USERMETA || call->method == METHOD_POST))
            return FATE_ERROR_BEFORE;
        return fate;
    }
}

void http_start (struct actor *actor)
{
    for (struct call *call = actor->calls; call; call = call->next) {
        if (call->started)
            continue;
        if (!point (actor))
            return;
        call->started = true;
        call->started_ms = actor->sim->now_ms;
        call->fate = draw_fate (actor->sim, call);
        call_next (actor->sim, call, CALL_CONNECT, hop_ms (actor->sim));
        trace_line (actor->sim, actor, "HTTP %s %s (%u)", method_name (call->method), call->path,
                    (unsigned) call->fate);
        if (!point (actor))
            return;
    }
}

/*  ---- what the client hears ---------------------------------------------- */

static void deliver (struct call *call, const struct message *message, struct raw body)
{
    struct actor *actor = call->client;
    struct happening *happening = malloc (sizeof *happening + body.size);
    assert (happening);
    happening->next = NULL;
    happening->message = *message;
    if (message->id == MESSAGE_HTTP_ANSWER && body.size) {
        memcpy (happening->bytes, body.data, body.size);
        happening->message.http_answer.body = (struct raw){ happening->bytes, body.size };
    }
    *actor->http_end = happening;
    actor->http_end = &happening->next;
    actor_wake (actor, actor->sim->now_ms);
}

static void tell_sent (struct call *call)
{
    struct message message = { .id = MESSAGE_HTTP_SENT, .trace = call->trace };
    message.http_sent.request = call->id;
    deliver (call, &message, NO_RAW);
}

static void tell_answer (struct sim *sim, struct call *call, enum http_outcome outcome)
{
    struct actor *actor = call->client;
    struct message message = { .id = MESSAGE_HTTP_ANSWER, .trace = call->trace };
    message.http_answer = call->answer;
    struct http_answer *answer = &message.http_answer;
    if (outcome != HTTP_ANSWERED)
        *answer = (struct http_answer){ .body_state = BODY_NONE, .reason = TEXT_LITERAL ("simulated") };
    answer->request = call->id;
    answer->outcome = outcome;
    answer->elapsed_ms = sim->now_ms - call->started_ms;
    deliver (call, &message, outcome == HTTP_ANSWERED ? call->answer.body : NO_RAW);
    unlink_call (actor, call);
}

/*  ---- what the service does ---------------------------------------------- */

void set_answer (struct call *call, unsigned status, const struct packer *packer)
{
    assert (!packer->overflow);
    free (call->answer_bytes);
    call->answer_bytes = malloc (packer->size + 1);
    assert (call->answer_bytes);
    memcpy (call->answer_bytes, packer->data, packer->size);
    call->answer = (struct http_answer){ .status = status,
                                         .body_state = BODY_JSON,
                                         .body = { call->answer_bytes, (uint32_t) packer->size } };
}

void set_status (struct call *call, unsigned status)
{
    call->answer = (struct http_answer){ .status = status, .body_state = BODY_NONE };
}

void call_answer (struct sim *sim, struct call *call, uint64_t delay_ms)
{
    call_next (sim, call, CALL_ANSWER, delay_ms);
}

void call_hold (struct sim *sim, struct call *call, uint64_t until_ms)
{
    call->held = true;
    call->poll = sim->polls;
    sim->polls = call;
    call_next (sim, call, CALL_HOLD, until_ms - sim->now_ms);
}

static void serve (struct sim *sim, struct call *call)
{
    switch (call->service) {
    case SERVICE_EVENTS:
        events_serve (sim, call);
        break;
    case SERVICE_USERMETA:
        usermeta_serve (sim, call);
        break;
    case SERVICE_CURRENCY:
        currency_serve (sim, call);
        break;
    }
}

/*  Half of an array: its first elements, as a parser has them when it breaks off. */
static void cut (struct call *call)
{
    struct cursor cursor = cursor_of (call->answer.body);
    struct value array;
    if (!cursor_next (&cursor, &array) || array.type != VALUE_ARRAY) {
        call->answer.body_state = BODY_NOT_JSON;
        call->answer.body = NO_RAW;
        return;
    }
    uint8_t memory[16 * 1024];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_array (&packer, array.count / 2);
    struct raw element;
    for (uint32_t i = 0; i < array.count / 2 && cursor_skip (&cursor, &element); i++)
        pack_raw (&packer, element);
    set_answer (call, 200, &packer);
    call->answer.body_state = BODY_CUT;
}

/*  The request is there. */
static void arrive (struct sim *sim, struct call *call)
{
    call->arrived = true;
    uint64_t think_ms = hop_ms (sim);
    switch (call->fate) {
    case FATE_ERROR_BEFORE:
        set_status (call, 500);
        call_answer (sim, call, think_ms);
        return;
    case FATE_SLOW_DOWN:
        set_status (call, chance (sim, 500) ? 429 : 503);
        call->answer.retry_after_ms = draw (sim, 3) * 1000;
        call_answer (sim, call, think_ms);
        return;
    case FATE_RESET_BEFORE:
        tell_answer (sim, call, HTTP_BROKEN);
        call_free (sim, call);
        return;
    case FATE_HANG_BEFORE:
    case FATE_HANG_LATE:
        call_next (sim, call, CALL_TIMEOUT, call->started_ms + call->timeout_ms - sim->now_ms);
        return;
    default:
        break;
    }
    serve (sim, call);
    if (call->held)
        return;
    if (call->fate == FATE_ERROR_AFTER)
        set_status (call, 500);
    if (call->fate == FATE_CUT)
        cut (call);
    if (call->fate == FATE_GARBAGE)
        call->answer = (struct http_answer){ .status = 200, .body_state = BODY_NOT_JSON };
    if (call->fate == FATE_HANG_AFTER)
        call_next (sim, call, CALL_TIMEOUT, call->started_ms + call->timeout_ms - sim->now_ms);
    else
        call_answer (sim, call, think_ms);
}

static void connect_call (struct sim *sim, struct call *call)
{
    if (call->fate == FATE_REFUSED) {
        tell_answer (sim, call, HTTP_UNREACHED);
        call_free (sim, call);
        return;
    }
    call->connected = true;
    tell_sent (call);
    call_next (sim, call, CALL_ARRIVE, hop_ms (sim));
}

void call_due (struct sim *sim, struct call *call, uint64_t step)
{
    if (step != call->step)
        return;
    sim->happened++;
    switch (call->due) {
    case CALL_CONNECT:
        connect_call (sim, call);
        break;
    case CALL_ARRIVE:
        arrive (sim, call);
        break;
    case CALL_HOLD:
        call->held = false;
        serve (sim, call);
        call_answer (sim, call, 0);
        break;
    case CALL_ANSWER:
        tell_answer (sim, call, call->fate == FATE_RESET_AFTER ? HTTP_BROKEN : HTTP_ANSWERED);
        call_free (sim, call);
        break;
    case CALL_TIMEOUT:
        tell_answer (sim, call, HTTP_TIMEOUT);
        call_end (sim, call);
        break;
    case CALL_LATE:
        serve (sim, call);
        call_free (sim, call);
        break;
    }
}

/*  ---- paths -------------------------------------------------------------- */

static unsigned hex (char c)
{
    return (unsigned) (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

static uint32_t decode (const char *at, const char *end, char *memory, size_t size)
{
    uint32_t length = 0;
    while (at < end && length + 1 < size) {
        bool encoded = *at == '%' && end - at >= 3;
        memory[length++] = encoded ? (char) (hex (at[1]) << 4 | hex (at[2])) : *at;
        at += encoded ? 3 : 1;
    }
    memory[length] = '\0';
    return length;
}

uint32_t path_part (const char *path, unsigned index, char *memory, size_t size)
{
    const char *at = path;
    for (unsigned i = 0; *at == '/'; i++) {
        const char *end = at + 1 + strcspn (at + 1, "/?");
        if (i == index)
            return decode (at + 1, end, memory, size);
        at = end;
    }
    memory[0] = '\0';
    return 0;
}

bool path_query (const char *path, const char *name, char *memory, size_t size)
{
    const char *at = strchr (path, '?');
    size_t length = strlen (name);
    while (at) {
        at++;
        const char *end = at + strcspn (at, "&");
        if ((size_t) (end - at) > length && memcmp (at, name, length) == 0 && at[length] == '=') {
            decode (at + length + 1, end, memory, size);
            return true;
        }
        at = *end ? end : NULL;
    }
    return false;
}

struct user *user_named (struct sim *sim, const char *id)
{
    for (uint32_t i = 0; i < sim->user_count; i++)
        if (strcmp (sim->users[i].id, id) == 0)
            return &sim->users[i];
    return NULL;
}
