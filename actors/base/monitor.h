/*  monitor.h - what a process knows about itself, for /ready and /metrics.

    Written by every actor's thread, read by the status server's: numbers are
    atomic, texts are under a lock.
*/
#ifndef GUERDON_MONITOR_H
#define GUERDON_MONITOR_H

#include "actors/base/refusals.h"
#include "proto/message.h"

enum { MONITOR_ROLES = ROLE_STATS + 1, MONITOR_SERVICES = SERVICE_CURRENCY + 1, MONITOR_PEERS_MAX = 64 };

/*  HTTP requests are counted by how long they took: up to 1, 2, 4 … 65536 ms, and
    longer. */
enum { MONITOR_BUCKETS = 17 };

struct monitor;

/*  NULL when out of memory. */
struct monitor *monitor_new (void);
void monitor_destroy (struct monitor **monitor);

/*  Says that this role runs here, and whether it speaks to a service. */
void monitor_expect (struct monitor *monitor, enum role role);
void monitor_expect_service (struct monitor *monitor, enum service service);

/*  Adds to one of the four counters. */
void monitor_count (struct monitor *monitor, enum counter counter, uint64_t amount);

/*  Sets a gauge of an actor. */
void monitor_gauge (struct monitor *monitor, enum role role, enum gauge gauge, uint64_t value);

/*  Messages that an actor took from and gave to the bus, and those that were
    dropped because they made no sense. */
void monitor_messages (struct monitor *monitor, enum role role, uint64_t in, uint64_t out, uint64_t dropped);

/*  The end of an HTTP request. */
void monitor_http (struct monitor *monitor, enum service service, enum http_outcome outcome, unsigned status,
                   uint64_t elapsed_ms);

/*  What is known of a service now; `reason` may be empty. */
void monitor_health (struct monitor *monitor, enum service service, enum service_state state,
                     struct text reason);

/*  What is known of an actor beyond the process that `role` talks to: it is one
    that is needed (until it is there the process is not ready), or it came or
    went. `reason` says why it cannot be worked with, empty otherwise. */
void monitor_expect_peer (struct monitor *monitor, enum role role, struct address peer);
void monitor_peer (struct monitor *monitor, enum role role, struct address peer, enum peer_state state,
                   struct text reason);

/*  Why the journal of an actor cannot be written; "" when it can. Until then the
    process is not ready. */
void monitor_journal (struct monitor *monitor, enum role role, const char *trouble);

/*  The same for whoever asks; cut at capacity. */
void monitor_journal_trouble (struct monitor *monitor, enum role role, char *trouble, size_t capacity);

/*  A commit of the journal, with how many records and how long it took; and what the
    journal's file and log take on the disk. */
void monitor_journal_commit (struct monitor *monitor, uint64_t records, uint64_t elapsed_us);
void monitor_journal_size (struct monitor *monitor, uint64_t file_bytes, uint64_t log_bytes);

/*  Connections that were not let in. */
void monitor_refused (struct monitor *monitor, enum refusal refusal, uint64_t amount);

/*  From now on the process is not ready any more. */
void monitor_drain (struct monitor *monitor);

/*  True when every service that is expected is up and nothing drains. */
bool monitor_ready (struct monitor *monitor);

/*  Writes /ready's JSON, or /metrics in Prometheus' text format; the return is
    the size, cut at capacity. */
size_t monitor_ready_page (struct monitor *monitor, char *page, size_t capacity);
size_t monitor_metrics_page (struct monitor *monitor, char *page, size_t capacity);

#endif
