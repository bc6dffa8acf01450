/*  client.c - one service, asked with patience. */

#include "include/client.h"

#include <assert.h>
#include <string.h>

#include "include/backoff.h"
#include "include/effects.h"
#include "include/mistake.h"
#include "include/verdict.h"
#include "proto/codec.h"

/*  After a rejected secret the question is asked no more often than this. */
enum { DENIED_WAIT_MS = BACKOFF_MAX_MS };

/*  A job whose turn it is not is offered again after this. */
enum { PASS_OVER_MS = 10 };

/*  A retry is worth a warning once a job failed this often. */
enum { STUBBORN_ATTEMPTS = 4 };

/*  What was asked for in the message at hand. */
struct call {
    struct client *client;
    struct moment now;
    const struct effects *effects;
};

size_t client_requests_size (const struct settings *settings)
{
    return requests_size (settings->window + REQUESTS_SPARE);
}

void client_init (struct client *client, const struct client_rules *rules, void *room, void *memory,
                  const struct settings *settings)
{
    client->rules = rules;
    client->room = room;
    client->timeout_ms = settings->http_timeout_ms;
    client->seed = settings->hash_seed;
    client->question_kind = KIND_WRITE;
    breaker_init (&client->breaker);
    limiter_init (&client->limiter);
    budget_init (&client->budget);
    requests_init (&client->requests, memory, settings->window + REQUESTS_SPARE);
    request_list_init (&client->ready);
}

/*  ---- health ------------------------------------------------------------- */

/*  The one place where the state changes. Says each state once; down for the
    sake of the secret is worth saying after down for anything else. */
static void set_state (const struct call *call, enum service_state state, bool denied, struct text reason)
{
    struct client *client = call->client;
    if (client->state == state && client->denied == denied)
        return;
    enum service service = client->rules->service;
    enum log_level level = state == SERVICE_UP ? LOG_INFO : LOG_WARN;
    put_log (call->effects, level, (struct about){ 0 }, "%s: %s -> %s%s%.*s", service_name (service),
             service_state_name (client->state), service_state_name (state), reason.size ? ", " : "",
             (int) reason.size, reason.size ? reason.data : "");
    client->state = state;
    client->denied = denied;
    put_health (call->effects, service, state, reason);
}

/*  Says that the service is down, or rejects the secret, because of an answer. */
static void set_down (const struct call *call, const struct http_answer *answer)
{
    char memory[REASON_SIZE_MAX + 1];
    struct builder reason;
    builder_init (&reason, memory, sizeof memory);
    bool denied = verdict_of (answer) == VERDICT_DENIED;
    builder_literal (&reason, denied ? "the service rejects API_SECRET (" : "");
    verdict_describe (&reason, answer);
    builder_literal (&reason, denied ? ")" : "");
    bool rejects = denied && !call->client->accepted;
    set_state (call, rejects ? SERVICE_REJECTS : SERVICE_DOWN, denied, builder_text (&reason));
}

static uint64_t wait_ms (const struct client *client, uint32_t attempts, uint64_t salt,
                         const struct http_answer *answer)
{
    return policy_wait_ms (attempts, client->seed + salt, answer->retry_after_ms);
}

/*  The service answers: whatever was held back may go, by and by. */
static void set_up (const struct call *call)
{
    struct client *client = call->client;
    client->question_wanted = false;
    breaker_answered (&client->breaker);
    if (client->breaker.state == BREAKER_CLOSED)
        set_state (call, SERVICE_UP, false, NO_TEXT);
}

/*  The service is down: from now on only the question goes out. Without the right
    secret at the start there is no use in asking again. */
static void stop_and_ask (const struct call *call, const struct http_answer *answer)
{
    struct client *client = call->client;
    set_down (call, answer);
    client->question_wanted = false;
    client->question_secret |= client->denied;
    uint64_t wait = wait_ms (client, client->breaker.failures + 1, client->flight_id, answer);
    if (client->denied && wait < DENIED_WAIT_MS)
        wait = DENIED_WAIT_MS;
    breaker_down (&client->breaker, call->now.steady_ms,
                  client->state == SERVICE_REJECTS ? UINT64_MAX : wait);
    limiter_restart (&client->limiter);
}

/*  A good answer to a job. Where the question proves nothing, it is the writes
    that are on trial: a good answer to a read is none for them. */
static void note_good (const struct call *call, uint8_t kind)
{
    struct client *client = call->client;
    client->good[kind]++;
    if (kind == KIND_WRITE || client->rules->question_proves) {
        client->failures = 0;
        client->failed_many = false;
        breaker_good (&client->breaker);
    }
    if (client->breaker.state != BREAKER_CLOSED || client->state != SERVICE_UP)
        set_up (call);
}

/*  Several jobs fail in a row. Where the question cannot tell whether requests
    are served, go easy on the service until one is. */
static void note_failure (const struct call *call, const struct pending *job,
                          const struct http_answer *answer)
{
    struct client *client = call->client;
    if (client->rules->question_proves || job->kind != KIND_WRITE)
        return;
    if (client->failures++ == 0)
        client->failed_serial = job->serial;
    else if (client->failed_serial != job->serial)
        client->failed_many = true;
    if (!client->failed_many || client->failures < TRIAL_FAILURES)
        return;
    set_down (call, answer);
    breaker_trip (&client->breaker, call->now.steady_ms,
                  wait_ms (client, client->breaker.failures + 1, client->flight_id, answer));
    limiter_restart (&client->limiter);
}

/*  ---- the question ------------------------------------------------------- */

/*  Finds room for a flight; NULL when all are in the air. */
static struct flight *free_flight (struct client *client)
{
    for (size_t i = 0; i < HTTP_CONCURRENCY_MAX; i++)
        if (client->flights[i].id == 0)
            return &client->flights[i];
    return NULL;
}

static void send_flight (const struct call *call, struct flight *flight, uint32_t job, struct message *http)
{
    struct client *client = call->client;
    flight->id = ++client->flight_id;
    flight->job = job;
    http->id = MESSAGE_HTTP_REQUEST;
    http->http_request.request = flight->id;
    http->http_request.service = client->rules->service;
    http->http_request.timeout_ms = client->timeout_ms;
    put (call->effects, TO_SHELL, http);
}

static void send_question (const struct call *call)
{
    struct client *client = call->client;
    struct flight *flight = free_flight (client);
    if (!client->question_wanted || client->question_id || !flight)
        return;
    client->question_wanted = false;
    struct message http = { 0 };
    client->rules->ask (client->room, call->now, client->question_secret ? KIND_WRITE : client->question_kind,
                        &http);
    send_flight (call, flight, REQUEST_NONE, &http);
    client->question_id = flight->id;
    client->question_asked = client->question_kind;
}

/*  The probe is accepted: whoever waits for it is told. */
static void accept (const struct call *call, const struct http_answer *answer)
{
    struct client *client = call->client;
    client->accepted = true;
    if (verdict_of (answer) != VERDICT_GOOD)
        put_log (call->effects, LOG_WARN, (struct about){ 0 },
                 "%s: unexpected answer to the probe, HTTP %u: is the prefix right?",
                 service_name (client->rules->service), (unsigned) answer->status);
}

/*  Tells those who wait that requests may come. */
static void open_peers (const struct call *call)
{
    struct client *client = call->client;
    if (!client->accepted)
        return;
    for (uint32_t i = 0; i < client->peers_count; i++)
        put_plain (call->effects, client->peers[i], MESSAGE_OPENED);
    client->peers_count = 0;
}

/*  What the question's answer says. A good status with a body that is no JSON comes
    of something that stands before the service, like a proxy's page: it proves no
    more than an error does, and nobody may be blamed because of it. */
static enum verdict verdict_of_question (const struct http_answer *answer)
{
    enum verdict verdict = verdict_of (answer);
    bool sense = answer->body_state == BODY_JSON || answer->body_state == BODY_NONE;
    return verdict == VERDICT_GOOD && !sense ? VERDICT_FAILED : verdict;
}

static void on_question_answer (const struct call *call, const struct http_answer *answer)
{
    struct client *client = call->client;
    enum verdict verdict = verdict_of_question (answer);
    client->question_id = 0;
    if (verdict != VERDICT_GOOD && verdict != VERDICT_REFUSED) {
        if (verdict == VERDICT_SLOW_DOWN && client->state == SERVICE_UP)
            return;
        stop_and_ask (call, answer);
        return;
    }
    if (!client->accepted)
        accept (call, answer);
    if (client->rules->question_proves)
        client->good[client->question_asked]++;
    set_up (call);
}

/*  ---- answers to jobs ---------------------------------------------------- */

/*  What a log line about a job is about: its user, if it is one. */
static struct about about_job (const struct client *client, uint32_t job)
{
    const struct pending *pending = requests_at (&client->requests, job);
    struct about about = { .trace = pending->trace };
    if (pending->members == 1)
        about.user = requests_user (&client->requests, job);
    return about;
}

static void refuse_job (const struct call *call, uint32_t job, struct text reason)
{
    struct client *client = call->client;
    while (job != REQUEST_NONE) {
        uint32_t rest = requests_unjoin (&client->requests, job);
        client->rules->refuse (client->room, job, reason, call->effects);
        requests_drop (&client->requests, job);
        job = rest;
    }
}

/*  Sends a job again after a while. */
static void retry_later (const struct call *call, uint32_t job, const struct http_answer *answer)
{
    struct client *client = call->client;
    struct pending *pending = requests_at (&client->requests, job);
    pending->attempts++;
    client->retries++;
    uint64_t wait = wait_ms (client, pending->attempts, pending->serial, answer);
    char memory[REASON_SIZE_MAX + 1];
    struct builder what;
    builder_init (&what, memory, sizeof memory);
    verdict_describe (&what, answer);
    enum log_level level = pending->attempts == STUBBORN_ATTEMPTS ? LOG_WARN : LOG_DEBUG;
    put_log (call->effects, level, about_job (client, job), "%s: %s; attempt %u, of %u at once, in %u ms",
             service_name (client->rules->service), memory, (unsigned) pending->attempts + 1,
             (unsigned) pending->members, (unsigned) wait);
    pending->repeated = true;
    requests_wait (&client->requests, job, call->now.steady_ms + wait);
}

/*  A read that finds out what became of a write: it is never to blame. */
static bool finds_out (const struct client *client, uint32_t job)
{
    return client->rules->unanswered && requests_at (&client->requests, job)->kind == KIND_READ;
}

/*  A job that was not answered well, and may have reached the service, is tried
    again, unless the room has had enough of it. `spent`: not as it is. */
static void try_again (const struct call *call, uint32_t job, const struct http_answer *answer, bool spent)
{
    struct client *client = call->client;
    const struct client_rules *rules = client->rules;
    if (finds_out (client, job) && rules->unanswered (client->room, job, answer, call->effects))
        return;
    if (requests_at (&client->requests, job)->kind == KIND_WRITE && rules->unknown)
        rules->unknown (client->room, job, call->now, answer, spent);
    retry_later (call, job, answer);
}

static void split (const struct call *call, uint32_t job)
{
    struct client *client = call->client;
    put_log (call->effects, LOG_DEBUG, about_job (client, job), "%s: one of %u requests fails: split",
             service_name (client->rules->service), (unsigned) requests_at (&client->requests, job)->members);
    uint32_t other = requests_halve (&client->requests, job);
    client->retries += 2;
    client_retry (client, job);
    client_retry (client, other);
}

/*  The 5xx and what is like it, to one user id alone. */
static void give_up (const struct call *call, uint32_t job, const struct http_answer *answer)
{
    char memory[REASON_SIZE_MAX + 1];
    struct builder reason;
    builder_init (&reason, memory, sizeof memory);
    if (answer->outcome == HTTP_ANSWERED && verdict_of (answer) != VERDICT_GOOD) {
        builder_literal (&reason, "the service answers ");
        builder_uint (&reason, answer->status);
        builder_literal (&reason, " to this user id alone");
    } else {
        verdict_describe (&reason, answer);
        builder_literal (&reason, ", for this user id alone");
    }
    put_log (call->effects, LOG_WARN, about_job (call->client, job), "%s: refused after %u attempts: %s",
             service_name (call->client->rules->service),
             (unsigned) requests_at (&call->client->requests, job)->attempts + 1, memory);
    refuse_job (call, job, builder_text (&reason));
}

/*  A request alone failed, and it is to blame. */
static void strike (const struct call *call, uint32_t job, const struct http_answer *answer)
{
    struct pending *pending = requests_at (&call->client->requests, job);
    if (pending->strikes < STRIKES_MAX)
        pending->strikes++;
    uint64_t since_ms = call->client->served_ms + 1 - pending->failed_ms;
    bool spent = pending->strikes == STRIKES_MAX && since_ms >= call->client->rules->patience_ms &&
                 !MISTAKE (RETRY_REFUSED);
    if (spent && !call->client->rules->unknown)
        give_up (call, job, answer);
    else
        try_again (call, job, answer, spent);
}

/*  A job failed, and it may be its own fault. */
static void suspect (const struct call *call, uint32_t job, const struct http_answer *answer)
{
    struct client *client = call->client;
    struct pending *pending = requests_at (&client->requests, job);
    bool proven = client->good[pending->kind] > pending->good_seen[pending->kind];
    pending->good_seen[pending->kind] = client->good[pending->kind];
    pending->suspect = true;
    if (pending->failed_ms == 0)
        pending->failed_ms = client->served_ms + 1;
    if (!client->breaker.asking) {
        client->question_wanted = true;
        client->question_kind = pending->kind;
        client->question_secret = verdict_of (answer) == VERDICT_DENIED;
    }
    note_failure (call, pending, answer);
    if (!proven || finds_out (client, job))
        try_again (call, job, answer, false);
    else if (pending->members > 1)
        split (call, job);
    else
        strike (call, job, answer);
}

/*  A reply that is not believed before the service has accepted the secret, and that
    the next one may dispel. */
static void doubt (const struct call *call, uint32_t job, const struct http_answer *answer)
{
    struct client *client = call->client;
    if (!client->breaker.asking) {
        client->question_wanted = true;
        client->question_kind = KIND_WRITE;
        client->question_secret = true;
    }
    retry_later (call, job, answer);
}

static void on_refused (const struct call *call, uint32_t job, const struct http_answer *answer)
{
    struct client *client = call->client;
    note_good (call, requests_at (&client->requests, job)->kind);
    if (finds_out (client, job)) {
        try_again (call, job, answer, false);
        return;
    }
    if (requests_at (&client->requests, job)->members > 1) {
        split (call, job);
        return;
    }
    char memory[REASON_SIZE_MAX + 1];
    struct builder reason;
    builder_init (&reason, memory, sizeof memory);
    verdict_refusal (&reason, answer);
    refuse_job (call, job, builder_text (&reason));
}

static void on_slow_down (const struct call *call, uint32_t job, const struct http_answer *answer)
{
    struct client *client = call->client;
    const struct pending *pending = requests_at (&client->requests, job);
    uint64_t until = call->now.steady_ms + wait_ms (client, pending->attempts + 1, pending->serial, answer);
    client->hold_ms = client->hold_ms > until ? client->hold_ms : until;
    try_again (call, job, answer, false);
}

/*  The end of a write that nobody remembers. Of the service it says the same as
    any other. */
static void on_forgotten_answer (const struct call *call, uint32_t job, const struct http_answer *answer)
{
    struct client *client = call->client;
    enum verdict verdict = verdict_of (answer);
    if (verdict == VERDICT_GOOD || verdict == VERDICT_REFUSED)
        note_good (call, KIND_WRITE);
    if (client->rules->ended)
        client->rules->ended (client->room, job, call->now);
    requests_drop (&client->requests, job);
}

static void on_job_answer (const struct call *call, uint32_t job, const struct message *message)
{
    struct client *client = call->client;
    const struct http_answer *answer = &message->http_answer;
    uint8_t kind = requests_at (&client->requests, job)->kind;
    switch (verdict_of (answer)) {
    case VERDICT_GOOD:
        switch (client->rules->take (client->room, job, message, call->effects)) {
        case TAKEN:
            note_good (call, kind);
            return;
        case TAKEN_NOT:
            suspect (call, job, answer);
            return;
        case TAKEN_DOUBTED:
            doubt (call, job, answer);
            return;
        }
        return;
    case VERDICT_REFUSED:
        on_refused (call, job, answer);
        return;
    case VERDICT_SLOW_DOWN:
        on_slow_down (call, job, answer);
        return;
    case VERDICT_UNREACHED:
        if (!client->breaker.asking) {
            client->question_kind = kind;
            client->question_secret = false;
            stop_and_ask (call, answer);
        }
        retry_later (call, job, answer);
        return;
    case VERDICT_DENIED:
    case VERDICT_FAILED:
        suspect (call, job, answer);
        return;
    }
}

/*  What the end of a job says about how much the service can bear. */
static void learn (struct client *client, const struct flight *flight, uint64_t id,
                   const struct http_answer *answer)
{
    const struct sample sample = {
        .number = id,
        .newest = client->flight_id,
        .took_ms = answer->elapsed_ms,
        .kind = requests_at (&client->requests, flight->job)->kind,
        .full = client->full,
    };
    enum verdict verdict = verdict_of (answer);
    if (verdict_overloaded (answer))
        limiter_overloaded (&client->limiter, &sample);
    if (verdict != VERDICT_GOOD && verdict != VERDICT_REFUSED)
        return;
    limiter_good (&client->limiter, &sample);
    budget_good (&client->budget);
}

static void on_http_answer (const struct call *call, const struct message *message)
{
    struct client *client = call->client;
    uint64_t id = message->http_answer.request;
    for (size_t i = 0; id != 0 && i < HTTP_CONCURRENCY_MAX; i++) {
        struct flight *flight = &client->flights[i];
        if (flight->id != id)
            continue;
        flight->id = 0;
        if (flight->job == REQUEST_NONE) {
            on_question_answer (call, &message->http_answer);
            return;
        }
        client->flying--;
        learn (client, flight, id, &message->http_answer);
        if (requests_at (&client->requests, flight->job)->forgotten)
            on_forgotten_answer (call, flight->job, &message->http_answer);
        else
            on_job_answer (call, flight->job, message);
        return;
    }
    /*  An answer nobody waits for is dropped: it came twice, or is rubbish. */
}

/*  ---- sending ------------------------------------------------------------ */

/*  What waited long enough is ready, when the budget pays for it. A job that is
    proven by now to hold a culprit is not sent whole again. */
static void wake (const struct call *call)
{
    struct client *client = call->client;
    uint32_t job;
    while ((job = requests_wake (&client->requests, call->now.steady_ms)) != REQUEST_NONE) {
        struct pending *pending = requests_at (&client->requests, job);
        if (pending->members > 1 && pending->suspect &&
            client->good[pending->kind] > pending->good_seen[pending->kind]) {
            split (call, job);
            continue;
        }
        if (pending->repeated && !budget_take (&client->budget, call->now.steady_ms)) {
            requests_wait (&client->requests, job, pending->due_ms);
            return;
        }
        pending->repeated = false;
        client_retry (client, job);
    }
}

static bool may_send (const struct call *call)
{
    const struct client *client = call->client;
    return client->accepted && call->now.steady_ms >= client->hold_ms &&
           client->flying < breaker_allows (&client->breaker, client->limiter.limit);
}

static void send_jobs (const struct call *call)
{
    struct client *client = call->client;
    struct flight *flight;
    while (may_send (call) && (flight = free_flight (client))) {
        uint32_t job = request_list_pop (&client->requests, &client->ready);
        if (job == REQUEST_NONE)
            job = client->rules->gather (client->room);
        if (job == REQUEST_NONE)
            break;
        struct pending *pending = requests_at (&client->requests, job);
        struct message http = { .trace = pending->trace };
        if (pending->hold_ms > call->now.steady_ms) {
            requests_wait (&client->requests, job, pending->hold_ms);
            continue;
        }
        if (!client->rules->fill (client->room, job, &http)) {
            requests_wait (&client->requests, job, call->now.steady_ms + PASS_OVER_MS);
            continue;
        }
        if (pending->attempts == 0)
            memcpy (pending->good_seen, client->good, sizeof client->good);
        client->flying++;
        send_flight (call, flight, job, &http);
    }
    client->full = client->flying >= client->limiter.limit;
}

/*  The next time at which there is something to do that no answer brings; 0: none. */
static uint64_t next_due (const struct call *call)
{
    const struct client *client = call->client;
    const struct breaker *breaker = &client->breaker;
    uint64_t now_ms = call->now.steady_ms;
    if (breaker->state == BREAKER_OPEN)
        return breaker->until_ms == UINT64_MAX ? 0 : breaker->until_ms;
    if (client->requests.count == 0 || !client->accepted || breaker->asking)
        return 0;
    if (client->hold_ms > now_ms)
        return client->hold_ms;
    /*  What is due and still waits is what the budget does not pay for yet. */
    uint64_t due_ms = requests_due (&client->requests);
    return due_ms && due_ms <= now_ms ? budget_due (&client->budget, now_ms) : due_ms;
}

static void set_due (const struct call *call)
{
    uint64_t due_ms = next_due (call);
    if (due_ms == call->client->due_set_ms)
        return;
    call->client->due_set_ms = due_ms;
    put_timer (call->effects, TIMER_DUE, due_ms);
}

/*  Requests that are not in the air. */
static uint32_t queued (const struct client *client)
{
    uint32_t count = client->requests.count;
    for (size_t i = 0; i < HTTP_CONCURRENCY_MAX; i++)
        if (client->flights[i].id && client->flights[i].job != REQUEST_NONE)
            count -= requests_at (&client->requests, client->flights[i].job)->members;
    return count;
}

/*  Says each gauge that changed. */
static void measure (const struct call *call)
{
    struct client *client = call->client;
    const struct {
        enum gauge gauge;
        uint64_t value;
    } gauges[] = {
        { GAUGE_IN_FLIGHT, client->requests.count },  { GAUGE_QUEUE, queued (client) },
        { GAUGE_RETRIES, client->retries },           { GAUGE_BREAKER, client->breaker.state },
        { GAUGE_CONCURRENCY, client->limiter.limit },
    };
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++) {
        if (client->said[gauges[i].gauge] == gauges[i].value)
            continue;
        client->said[gauges[i].gauge] = gauges[i].value;
        put_gauge (call->effects, gauges[i].gauge, gauges[i].value);
    }
}

static void on_turn (const struct call *call)
{
    struct client *client = call->client;
    breaker_tick (&client->breaker, call->now.steady_ms);
    if (client->breaker.trial && client->requests.count == 0)
        breaker_ask (&client->breaker);
    if (client->breaker.state == BREAKER_HALF_OPEN && client->breaker.asking && !client->question_id)
        client->question_wanted = true;
    wake (call);
    open_peers (call);
    send_question (call);
    send_jobs (call);
    set_due (call);
    measure (call);
    if (client->draining && !client->drained && client->requests.count == 0) {
        client->drained = true;
        put_plain (call->effects, TO_SHELL, MESSAGE_DRAINED);
    }
}

/*  ---- the rest ----------------------------------------------------------- */

static void on_start (const struct call *call)
{
    struct client *client = call->client;
    put_health (call->effects, client->rules->service, SERVICE_UNKNOWN, NO_TEXT);
    client->question_wanted = true;
    send_question (call);
}

static bool same_peer (struct address a, struct address b)
{
    return a.role == b.role && a.peer == b.peer;
}

static void on_open (const struct call *call, struct address peer)
{
    struct client *client = call->client;
    for (uint32_t i = 0; i < client->peers_count; i++)
        if (same_peer (client->peers[i], peer))
            return;
    if (client->peers_count == PEERS_MAX) {
        put_log (call->effects, LOG_WARN, (struct about){ 0 }, "more than %u peers: one is not opened",
                 (unsigned) PEERS_MAX);
        return;
    }
    client->peers[client->peers_count++] = peer;
}

/*  Forgets what an asker does not know of any more: what is not in the air, and
    the reads that are. A read that others wait for as well goes out again. */
static void on_restarted (const struct call *call, struct address peer)
{
    struct client *client = call->client;
    struct requests *requests = &client->requests;
    request_list_forget (requests, &client->ready, peer);
    requests_forget (requests, peer);
    for (size_t i = 0; i < HTTP_CONCURRENCY_MAX; i++) {
        struct flight *flight = &client->flights[i];
        if (flight->id == 0 || flight->job == REQUEST_NONE || !requests_from (requests, flight->job, peer))
            continue;
        if (requests_at (requests, flight->job)->kind == KIND_WRITE) {
            requests_at (requests, flight->job)->forgotten = true;
            continue;
        }
        struct message cancel = { .id = MESSAGE_HTTP_CANCEL, .http_cancel = { .request = flight->id } };
        put (call->effects, TO_SHELL, &cancel);
        flight->id = 0;
        client->flying--;
        uint32_t rest = requests_without (requests, flight->job, peer);
        if (rest != REQUEST_NONE)
            client_retry (client, rest);
    }
}

static void on_timer (const struct call *call, uint64_t timer)
{
    struct client *client = call->client;
    if (timer == TIMER_DUE)
        client->due_set_ms = 0;
}

/*  Counts the time since the last message, when nothing stood against the service
    in it: no question without an answer. */
static void count_served (const struct call *call)
{
    struct client *client = call->client;
    bool served =
        client->accepted && !client->breaker.asking && !client->question_wanted && !client->question_id;
    if (served)
        client->served_ms += call->now.steady_ms - client->served_at_ms;
    client->served_at_ms = call->now.steady_ms;
}

void client_handle (struct client *client, struct moment now, const struct message *message,
                    const struct effects *effects)
{
    const struct call call = { client, now, effects };
    count_served (&call);
    switch (message->id) {
    case MESSAGE_START:
        on_start (&call);
        return;
    case MESSAGE_OPEN:
        on_open (&call, message->from);
        return;
    case MESSAGE_PEER:
        if (message->peer.state == PEER_RESTARTED)
            on_restarted (&call, message->from);
        return;
    case MESSAGE_HTTP_ANSWER:
        on_http_answer (&call, message);
        return;
    case MESSAGE_TIMER:
        on_timer (&call, message->timer.timer);
        return;
    case MESSAGE_DRAIN:
        client->draining = true;
        return;
    case MESSAGE_TURN:
        on_turn (&call);
        return;
    default:
        return;
    }
}

/*  ---- for the rooms ------------------------------------------------------ */

uint64_t client_served_ms (const struct client *client)
{
    return client->served_ms;
}

bool client_on_trial (const struct client *client)
{
    return client->breaker.trial;
}

bool client_in_air (const struct client *client, uint32_t job)
{
    const struct requests *requests = &client->requests;
    for (size_t i = 0; i < HTTP_CONCURRENCY_MAX; i++) {
        const struct flight *flight = &client->flights[i];
        if (flight->id && flight->job != REQUEST_NONE && flight->job != job &&
            text_equal (requests_user (requests, flight->job), requests_user (requests, job)))
            return true;
    }
    return false;
}

void client_retry (struct client *client, uint32_t job)
{
    request_list_push (&client->requests, &client->ready, job);
}

struct builder client_path (struct client *client)
{
    struct builder path;
    builder_init (&path, client->path, sizeof client->path);
    return path;
}

struct packer client_body (struct client *client)
{
    struct packer body;
    packer_init (&body, client->body, sizeof client->body);
    return body;
}

void client_request (struct message *http, const struct builder *path, const struct packer *body)
{
    assert (!path->overflow && (!body || !body->overflow));
    http->http_request.method = body ? METHOD_POST : METHOD_GET;
    http->http_request.path = builder_text (path);
    http->http_request.body = body ? packer_raw (body) : NO_RAW;
}
