/*  monitor.c - see monitor.h. */

#include "actors/base/monitor.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/text.h"

#define COUNTERS (COUNTER_IGNORED + 1)
#define GAUGES (GAUGE_PARKED + 1)
#define OUTCOMES (HTTP_TOO_LARGE + 1)

enum { STATUS_CLASSES = 6 };

struct actor_numbers {
    atomic_bool here;
    atomic_uint_fast64_t gauges[GAUGES];
    atomic_uint_fast64_t in;
    atomic_uint_fast64_t out;
    atomic_uint_fast64_t dropped;
};

struct service_numbers {
    atomic_bool expected;
    atomic_uint_fast64_t answers[STATUS_CLASSES]; /* by first digit of the status */
    atomic_uint_fast64_t failures[OUTCOMES];      /* by outcome, other than answered */
    atomic_uint_fast64_t elapsed_ms;
    atomic_uint_fast64_t buckets[MONITOR_BUCKETS + 1]; /* by elapsed time; the last: longer */
    enum service_state state;                          /* under the lock, as is the reason */
    char reason[REASON_SIZE_MAX + 1];
};

/*  Of the journal, in a process that has one. */
struct journal_numbers {
    atomic_bool here;
    atomic_uint_fast64_t commits;
    atomic_uint_fast64_t records;
    atomic_uint_fast64_t elapsed_us;
    atomic_uint_fast64_t file_bytes;
    atomic_uint_fast64_t log_bytes;
};

/*  An actor beyond the process, as one of ours sees it. Under the lock. */
struct peer_numbers {
    enum role role;
    struct address peer;
    bool needed;
    enum peer_state state;
    char reason[REASON_SIZE_MAX + 1];
};

struct monitor {
    pthread_mutex_t lock;
    struct peer_numbers peers[MONITOR_PEERS_MAX];
    unsigned peer_count;
    char journal[MONITOR_ROLES][REASON_SIZE_MAX + 1]; /* why it cannot be written, under the lock */
    atomic_bool draining;
    atomic_uint_fast64_t counters[COUNTERS];
    atomic_uint_fast64_t refused[REFUSAL_COUNT];
    struct actor_numbers actors[MONITOR_ROLES];
    struct service_numbers services[MONITOR_SERVICES];
    struct journal_numbers journal_numbers;
    time_t started;
};

struct monitor *monitor_new (void)
{
    struct monitor *monitor = calloc (1, sizeof *monitor);
    if (monitor) {
        pthread_mutex_init (&monitor->lock, NULL);
        monitor->started = time (NULL);
    }
    return monitor;
}

void monitor_destroy (struct monitor **monitor)
{
    if (*monitor)
        pthread_mutex_destroy (&(*monitor)->lock);
    free (*monitor);
    *monitor = NULL;
}

void monitor_expect (struct monitor *monitor, enum role role)
{
    atomic_store (&monitor->actors[role].here, true);
}

void monitor_expect_service (struct monitor *monitor, enum service service)
{
    atomic_store (&monitor->services[service].expected, true);
}

static void add (atomic_uint_fast64_t *number, uint64_t amount)
{
    if (amount)
        atomic_fetch_add_explicit (number, amount, memory_order_relaxed);
}

void monitor_count (struct monitor *monitor, enum counter counter, uint64_t amount)
{
    add (&monitor->counters[counter], amount);
}

void monitor_gauge (struct monitor *monitor, enum role role, enum gauge gauge, uint64_t value)
{
    atomic_store_explicit (&monitor->actors[role].gauges[gauge], value, memory_order_relaxed);
}

void monitor_messages (struct monitor *monitor, enum role role, uint64_t in, uint64_t out, uint64_t dropped)
{
    add (&monitor->actors[role].in, in);
    add (&monitor->actors[role].out, out);
    add (&monitor->actors[role].dropped, dropped);
}

/*  The place of the first bucket whose bound, 2^place ms, is not below. */
static unsigned bucket_of (uint64_t elapsed_ms)
{
    unsigned bucket = 0;
    while (bucket < MONITOR_BUCKETS && elapsed_ms > UINT64_C (1) << bucket)
        bucket++;
    return bucket;
}

void monitor_http (struct monitor *monitor, enum service service, enum http_outcome outcome, unsigned status,
                   uint64_t elapsed_ms)
{
    struct service_numbers *numbers = &monitor->services[service];
    if (outcome == HTTP_ANSWERED)
        add (&numbers->answers[status / 100 < STATUS_CLASSES ? status / 100 : 0], 1);
    else
        add (&numbers->failures[outcome], 1);
    add (&numbers->elapsed_ms, elapsed_ms);
    add (&numbers->buckets[bucket_of (elapsed_ms)], 1);
}

void monitor_health (struct monitor *monitor, enum service service, enum service_state state,
                     struct text reason)
{
    struct service_numbers *numbers = &monitor->services[service];
    struct builder builder;
    pthread_mutex_lock (&monitor->lock);
    numbers->state = state;
    builder_init (&builder, numbers->reason, sizeof numbers->reason);
    builder_printable (&builder, reason, REASON_SIZE_MAX - 8);
    pthread_mutex_unlock (&monitor->lock);
}

/*  The row of a peer, made when it is not there; NULL when there are too many.
    Under the lock. */
static struct peer_numbers *peer_row (struct monitor *monitor, enum role role, struct address peer)
{
    for (unsigned i = 0; i < monitor->peer_count; i++) {
        struct peer_numbers *row = &monitor->peers[i];
        if (row->role == role && row->peer.role == peer.role && row->peer.peer == peer.peer)
            return row;
    }
    if (monitor->peer_count == MONITOR_PEERS_MAX)
        return NULL;
    struct peer_numbers *row = &monitor->peers[monitor->peer_count++];
    *row = (struct peer_numbers){ .role = role, .peer = peer };
    return row;
}

void monitor_expect_peer (struct monitor *monitor, enum role role, struct address peer)
{
    pthread_mutex_lock (&monitor->lock);
    struct peer_numbers *row = peer_row (monitor, role, peer);
    if (row)
        row->needed = true;
    pthread_mutex_unlock (&monitor->lock);
}

void monitor_peer (struct monitor *monitor, enum role role, struct address peer, enum peer_state state,
                   struct text reason)
{
    struct builder builder;
    pthread_mutex_lock (&monitor->lock);
    struct peer_numbers *row = peer_row (monitor, role, peer);
    if (row) {
        row->state = state == PEER_RESTARTED ? PEER_UP : state;
        builder_init (&builder, row->reason, sizeof row->reason);
        builder_printable (&builder, reason, REASON_SIZE_MAX - 8);
    }
    pthread_mutex_unlock (&monitor->lock);
}

void monitor_refused (struct monitor *monitor, enum refusal refusal, uint64_t amount)
{
    add (&monitor->refused[refusal], amount);
}

void monitor_drain (struct monitor *monitor)
{
    atomic_store (&monitor->draining, true);
}

bool monitor_ready (struct monitor *monitor)
{
    bool ready = !atomic_load (&monitor->draining);
    pthread_mutex_lock (&monitor->lock);
    for (unsigned i = 0; i < MONITOR_SERVICES; i++)
        if (atomic_load (&monitor->services[i].expected) && monitor->services[i].state != SERVICE_UP)
            ready = false;
    for (unsigned i = 0; i < monitor->peer_count; i++)
        if (monitor->peers[i].needed && monitor->peers[i].state != PEER_UP)
            ready = false;
    for (unsigned i = 0; i < MONITOR_ROLES; i++)
        if (monitor->journal[i][0])
            ready = false;
    pthread_mutex_unlock (&monitor->lock);
    return ready;
}

void monitor_journal (struct monitor *monitor, enum role role, const char *trouble)
{
    struct builder builder;
    pthread_mutex_lock (&monitor->lock);
    builder_init (&builder, monitor->journal[role], sizeof monitor->journal[role]);
    builder_printable (&builder, text_of (trouble), REASON_SIZE_MAX - 8);
    pthread_mutex_unlock (&monitor->lock);
}

void monitor_journal_trouble (struct monitor *monitor, enum role role, char *trouble, size_t capacity)
{
    pthread_mutex_lock (&monitor->lock);
    snprintf (trouble, capacity, "%s", monitor->journal[role]);
    pthread_mutex_unlock (&monitor->lock);
}

void monitor_journal_commit (struct monitor *monitor, uint64_t records, uint64_t elapsed_us)
{
    struct journal_numbers *numbers = &monitor->journal_numbers;
    add (&numbers->commits, 1);
    add (&numbers->records, records);
    add (&numbers->elapsed_us, elapsed_us);
}

void monitor_journal_size (struct monitor *monitor, uint64_t file_bytes, uint64_t log_bytes)
{
    struct journal_numbers *numbers = &monitor->journal_numbers;
    atomic_store_explicit (&numbers->file_bytes, file_bytes, memory_order_relaxed);
    atomic_store_explicit (&numbers->log_bytes, log_bytes, memory_order_relaxed);
    atomic_store (&numbers->here, true);
}

/*  ---- pages -------------------------------------------------------------- */

/*  Text that is cut where it does not fit. */
struct page {
    char *text;
    size_t size;
    size_t capacity;
};

static void say (struct page *page, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

static void say (struct page *page, const char *format, ...)
{
    va_list arguments;
    va_start (arguments, format);
    int size = vsnprintf (page->text + page->size, page->capacity - page->size, format, arguments);
    va_end (arguments);
    if (size > 0 && (size_t) size < page->capacity - page->size)
        page->size += (size_t) size;
}

/*  The reason is printable by now; in JSON only these two need an escape. */
static void say_json_string (struct page *page, const char *string)
{
    say (page, "\"");
    for (; *string; string++)
        say (page, *string == '"' || *string == '\\' ? "\\%c" : "%c", *string);
    say (page, "\"");
}

/*  The actors beyond the process, if there are any. Under the lock. */
static void say_peers (struct page *page, const struct monitor *monitor)
{
    if (!monitor->peer_count)
        return;
    say (page, ",\"peers\":[");
    for (unsigned i = 0; i < monitor->peer_count; i++) {
        const struct peer_numbers *row = &monitor->peers[i];
        say (page, "%s{\"of\":\"%s\",\"peer\":\"%s/%u\",\"state\":\"%s\"", i ? "," : "",
             role_name (row->role), role_name (row->peer.role), (unsigned) row->peer.peer,
             peer_state_name (row->state));
        if (row->reason[0]) {
            say (page, ",\"reason\":");
            say_json_string (page, row->reason);
        }
        say (page, "}");
    }
    say (page, "]");
}

/*  The journal, when it cannot be written. Under the lock. */
static void say_journals (struct page *page, const struct monitor *monitor)
{
    for (unsigned i = 0; i < MONITOR_ROLES; i++) {
        if (!monitor->journal[i][0])
            continue;
        say (page, ",\"journal\":{\"state\":\"failing\",\"reason\":");
        say_json_string (page, monitor->journal[i]);
        say (page, "}");
    }
}

size_t monitor_ready_page (struct monitor *monitor, char *text, size_t capacity)
{
    struct page page = { text, 0, capacity };
    say (&page, "{\"ready\":%s,\"draining\":%s,\"services\":{", monitor_ready (monitor) ? "true" : "false",
         atomic_load (&monitor->draining) ? "true" : "false");
    const char *comma = "";
    pthread_mutex_lock (&monitor->lock);
    for (enum service service = 0; service < (enum service) MONITOR_SERVICES; service++) {
        const struct service_numbers *numbers = &monitor->services[service];
        if (!atomic_load (&numbers->expected))
            continue;
        say (&page, "%s\"%s\":{\"state\":\"%s\"", comma, service_name (service),
             service_state_name (numbers->state));
        if (numbers->reason[0]) {
            say (&page, ",\"reason\":");
            say_json_string (&page, numbers->reason);
        }
        say (&page, "}");
        comma = ",";
    }
    say (&page, "}");
    say_peers (&page, monitor);
    say_journals (&page, monitor);
    pthread_mutex_unlock (&monitor->lock);
    say (&page, "}\n");
    return page.size;
}

static void say_head (struct page *page, const char *name, const char *type, const char *help)
{
    say (page, "# HELP guerdon_%s %s\n# TYPE guerdon_%s %s\n", name, help, name, type);
}

static uint64_t read_number (atomic_uint_fast64_t *number)
{
    return atomic_load_explicit (number, memory_order_relaxed);
}

static void say_counters (struct page *page, struct monitor *monitor)
{
    for (enum counter counter = 0; counter < (enum counter) COUNTERS; counter++) {
        char name[32];
        snprintf (name, sizeof name, "%s_total", counter_name (counter));
        say_head (page, name, "counter", "Events; at rest events = success + failure + ignored.");
        say (page, "guerdon_%s %" PRIu64 "\n", name, read_number (&monitor->counters[counter]));
    }
}

/*  The gauges of the actors that run here. Those that only grow are counters
    to Prometheus. */
#define OF(role) (1u << (role))

enum {
    OF_CLIENTS = OF (ROLE_USERMETA_CLIENT) | OF (ROLE_CURRENCY_CLIENT),
    OF_ALL_BUT_STATS = OF (ROLE_INGEST) | OF (ROLE_DECISION) | OF_CLIENTS
};

static const struct {
    enum gauge gauge;
    unsigned roles; /* that have it: OF each */
    const char *name;
    const char *type;
    const char *help;
} gauge_rows[] = {
    { GAUGE_IN_FLIGHT, OF_ALL_BUT_STATS, "in_flight", "gauge", "Events or requests taken and not finished." },
    { GAUGE_RETRIES, OF_ALL_BUT_STATS, "retries_total", "counter", "Attempts beyond the first." },
    { GAUGE_QUEUE, OF_CLIENTS, "queue", "gauge", "Requests that wait to go out to the service." },
    { GAUGE_BREAKER, OF_CLIENTS, "breaker", "gauge",
      "Circuit breaker: 0 closed, requests go out; 1 half open, one does; 2 open, none does." },
    { GAUGE_CONCURRENCY, OF_CLIENTS, "concurrency", "gauge", "HTTP requests that may be under way at once." },
    { GAUGE_POSITION_SEEN, OF (ROLE_INGEST), "position_seen", "gauge", "Highest event id read." },
    { GAUGE_POSITION_SETTLED, OF (ROLE_INGEST), "position_settled", "gauge",
      "Event id up to which everything is settled." },
    { GAUGE_POSITION_ACKED, OF (ROLE_INGEST), "position_acked", "gauge", "Highest event id acknowledged." },
    { GAUGE_POLLS, OF (ROLE_INGEST), "polls_total", "counter", "Polls of the events service." },
    { GAUGE_CREDIT, OF (ROLE_INGEST), "credit", "gauge",
      "Events that may be taken on top of those in flight." },
    { GAUGE_OLDEST, OF (ROLE_INGEST), "oldest_seconds", "gauge",
      "Age of the oldest event that is not settled, since it was read." },
    { GAUGE_PARKED, OF (ROLE_DECISION), "parked_total", "counter",
      "Rewards that were refused or became uncertain." },
    { GAUGE_BAD_PAGES, OF (ROLE_INGEST), "bad_pages_total", "counter",
      "Pages that were not as they should be." },
};

/*  The age of what happened then, seconds since the epoch; 0 for what did not. */
static uint64_t age_s (uint64_t then_s)
{
    uint64_t now_s = (uint64_t) time (NULL);
    return then_s && then_s < now_s ? now_s - then_s : 0;
}

static uint64_t read_gauge (struct actor_numbers *actor, enum gauge gauge)
{
    uint64_t value = read_number (&actor->gauges[gauge]);
    return gauge == GAUGE_OLDEST ? age_s (value) : value;
}

static void say_gauges (struct page *page, struct monitor *monitor)
{
    for (size_t row = 0; row < sizeof gauge_rows / sizeof *gauge_rows; row++) {
        say_head (page, gauge_rows[row].name, gauge_rows[row].type, gauge_rows[row].help);
        for (enum role role = ROLE_INGEST; role < (enum role) MONITOR_ROLES; role++) {
            struct actor_numbers *actor = &monitor->actors[role];
            if (atomic_load (&actor->here) && (gauge_rows[row].roles & OF (role)))
                say (page, "guerdon_%s{actor=\"%s\"} %" PRIu64 "\n", gauge_rows[row].name, role_name (role),
                     read_gauge (actor, gauge_rows[row].gauge));
        }
    }
}

static void say_messages (struct page *page, struct monitor *monitor)
{
    say_head (page, "messages_total", "counter",
              "Bus messages by actor and direction, batches counted as one.");
    for (enum role role = ROLE_INGEST; role < (enum role) MONITOR_ROLES; role++) {
        struct actor_numbers *actor = &monitor->actors[role];
        if (!atomic_load (&actor->here))
            continue;
        say (page, "guerdon_messages_total{actor=\"%s\",direction=\"in\"} %" PRIu64 "\n", role_name (role),
             read_number (&actor->in));
        say (page, "guerdon_messages_total{actor=\"%s\",direction=\"out\"} %" PRIu64 "\n", role_name (role),
             read_number (&actor->out));
        say (page, "guerdon_messages_total{actor=\"%s\",direction=\"dropped\"} %" PRIu64 "\n",
             role_name (role), read_number (&actor->dropped));
    }
}

static void say_refused (struct page *page, struct monitor *monitor)
{
    say_head (page, "refused_total", "counter", "Connections that were not let in, by reason.");
    for (enum refusal refusal = 0; refusal < (enum refusal) REFUSAL_COUNT; refusal++)
        say (page, "guerdon_refused_total{reason=\"%s\"} %" PRIu64 "\n", refusal_name (refusal),
             read_number (&monitor->refused[refusal]));
}

static void say_http (struct page *page, struct monitor *monitor)
{
    say_head (page, "http_requests_total", "counter", "Finished HTTP requests by service and result.");
    for (enum service service = 0; service < (enum service) MONITOR_SERVICES; service++) {
        struct service_numbers *numbers = &monitor->services[service];
        if (!atomic_load (&numbers->expected))
            continue;
        for (unsigned class = 1; class < STATUS_CLASSES; class ++)
            say (page, "guerdon_http_requests_total{service=\"%s\",result=\"%uxx\"} %" PRIu64 "\n",
                 service_name (service), class, read_number (&numbers->answers[class]));
        for (enum http_outcome outcome = HTTP_UNREACHED; outcome < (enum http_outcome) OUTCOMES; outcome++)
            say (page, "guerdon_http_requests_total{service=\"%s\",result=\"%s\"} %" PRIu64 "\n",
                 service_name (service), http_outcome_name (outcome),
                 read_number (&numbers->failures[outcome]));
    }
    say_head (page, "http_milliseconds_total", "counter", "Time spent in finished HTTP requests.");
    for (enum service service = 0; service < (enum service) MONITOR_SERVICES; service++)
        if (atomic_load (&monitor->services[service].expected))
            say (page, "guerdon_http_milliseconds_total{service=\"%s\"} %" PRIu64 "\n",
                 service_name (service), read_number (&monitor->services[service].elapsed_ms));
}

/*  The bounds are cumulative; the count is read with them, so that they agree. */
static void say_http_times (struct page *page, struct monitor *monitor)
{
    say_head (page, "http_milliseconds", "histogram", "How long finished HTTP requests took.");
    for (enum service service = 0; service < (enum service) MONITOR_SERVICES; service++) {
        struct service_numbers *numbers = &monitor->services[service];
        const char *name = service_name (service);
        uint64_t count = 0;
        if (!atomic_load (&numbers->expected))
            continue;
        for (unsigned i = 0; i < MONITOR_BUCKETS; i++) {
            count += read_number (&numbers->buckets[i]);
            say (page, "guerdon_http_milliseconds_bucket{service=\"%s\",le=\"%" PRIu64 "\"} %" PRIu64 "\n",
                 name, UINT64_C (1) << i, count);
        }
        count += read_number (&numbers->buckets[MONITOR_BUCKETS]);
        say (page, "guerdon_http_milliseconds_bucket{service=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, count);
        say (page, "guerdon_http_milliseconds_sum{service=\"%s\"} %" PRIu64 "\n", name,
             read_number (&numbers->elapsed_ms));
        say (page, "guerdon_http_milliseconds_count{service=\"%s\"} %" PRIu64 "\n", name, count);
    }
}

static void say_number (struct page *page, const char *name, atomic_uint_fast64_t *number, const char *help)
{
    say_head (page, name, "counter", help);
    say (page, "guerdon_%s %" PRIu64 "\n", name, read_number (number));
}

static void say_journal (struct page *page, struct monitor *monitor)
{
    struct journal_numbers *numbers = &monitor->journal_numbers;
    bool failing = false;
    if (!atomic_load (&numbers->here))
        return;
    pthread_mutex_lock (&monitor->lock);
    for (unsigned i = 0; i < MONITOR_ROLES; i++)
        failing = failing || monitor->journal[i][0];
    pthread_mutex_unlock (&monitor->lock);
    say_number (page, "journal_commits_total", &numbers->commits, "Commits of the journal.");
    say_number (page, "journal_records_total", &numbers->records, "Records that they made durable.");
    say_number (page, "journal_commit_microseconds_total", &numbers->elapsed_us, "Time spent in them.");
    say_head (page, "journal_bytes", "gauge", "Size of the journal on the disk.");
    say (page, "guerdon_journal_bytes{part=\"file\"} %" PRIu64 "\n", read_number (&numbers->file_bytes));
    say (page, "guerdon_journal_bytes{part=\"log\"} %" PRIu64 "\n", read_number (&numbers->log_bytes));
    say_head (page, "journal_failing", "gauge", "1 while the journal cannot be written.");
    say (page, "guerdon_journal_failing %d\n", failing);
}

static void say_services (struct page *page, struct monitor *monitor)
{
    say_head (page, "service_up", "gauge", "1 when the service answers.");
    pthread_mutex_lock (&monitor->lock);
    for (enum service service = 0; service < (enum service) MONITOR_SERVICES; service++)
        if (atomic_load (&monitor->services[service].expected))
            say (page, "guerdon_service_up{service=\"%s\"} %d\n", service_name (service),
                 monitor->services[service].state == SERVICE_UP);
    pthread_mutex_unlock (&monitor->lock);
}

/*  Resident memory in bytes; 0 when the system does not say. */
static uint64_t resident_bytes (void)
{
    FILE *file = fopen ("/proc/self/statm", "re");
    uint64_t total = 0;
    uint64_t resident = 0;
    if (!file)
        return 0;
    if (fscanf (file, "%" SCNu64 " %" SCNu64, &total, &resident) != 2)
        resident = 0;
    fclose (file);
    return resident * (uint64_t) sysconf (_SC_PAGESIZE);
}

size_t monitor_metrics_page (struct monitor *monitor, char *text, size_t capacity)
{
    struct page page = { text, 0, capacity };
    say_counters (&page, monitor);
    say_gauges (&page, monitor);
    say_messages (&page, monitor);
    say_refused (&page, monitor);
    say_http (&page, monitor);
    say_http_times (&page, monitor);
    say_services (&page, monitor);
    say_journal (&page, monitor);
    say_head (&page, "ready", "gauge", "1 when the process can do its work.");
    say (&page, "guerdon_ready %d\n", monitor_ready (monitor));
    say_head (&page, "build_info", "gauge", "The version that runs.");
    say (&page, "guerdon_build_info{version=\"" GUERDON_VERSION "\"} 1\n");
    say (&page,
         "# HELP process_start_time_seconds Start of the process since the epoch.\n"
         "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %lld\n",
         (long long) monitor->started);
    say (&page,
         "# HELP process_resident_memory_bytes Resident memory.\n"
         "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %" PRIu64 "\n",
         resident_bytes ());
    return page.size;
}
