/*  shell.c - see shell.h. */

#include "actors/base/shell.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "actors/base/crash_point.h"
#include "actors/base/datagram.h"
#include "actors/base/log.h"
#include "actors/base/outbox.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    CONNECTIONS_MAX = 16,  /* more in flight gains nothing (reference: platform) */
    TURN_FRAMES_MAX = 256, /* frames of one turn, before what they cause goes out */
    JOURNAL_RETRY_MS = 100,
    BLOCKED_RETRY_MS = 100, /* of a hop within the process that is full */
    DATAGRAM_RETRY_MS = 10000,
    DRAINED_WAIT_MS = 500,     /* for the last words to arrive, from when there is nothing more to say */
    COUNTS_EVERY_MS = 20,      /* counts that come faster are added up */
    COUNTS_UNDER_WAY_MAX = 64, /* messages of counts that stats has not acknowledged */
    RUBBISH_LOG_MS = 60000,    /* at most one line about rubbish a minute, */
    REFUSED_LOG_MS = 60000,    /* … and one about peers that cannot work with us */
    STACK_SIZE = 512 * 1024,
    TEND_MS = 1000,            /* the journal is tended so often */
    GATHER_US = 2000,          /* from turn to turn of who has a journal, at the least, */
    GATHER_IN_FLIGHT = 256,    /* … when so much is in flight, */
    GATHER_RECORDS = 32,       /* … and so many records are to be expected meanwhile */
    POST_SIZE_MAX = 16 * 1024, /* of one of them: a user id and a few names */
    POSTS_MAX = 16,            /* messages of people that wait for the core */
    RECALLS_MAX = 4,           /* questions to the journal in one turn */
    DONE_REASON_MAX = 256
};

#define COUNTERS (COUNTER_IGNORED + 1)

enum order { ORDER_NONE, ORDER_DRAIN, ORDER_STOP };

/*  A message that another thread wants handed over, encoded. */
struct post {
    uint8_t *bytes;
    size_t size;
};

/*  A DONE that waits until what it tells of is on disk. */
struct done_said {
    struct done done;
    char reason[DONE_REASON_MAX];
};

struct shell {
    struct shell_options options;
    const char *name;
    void *state; /* the core's */
    size_t state_size;
    struct bus *bus;
    struct outbox *outbox;
    struct tap_mirror *mirror; /* NULL: nobody can look */
    struct http_client *http;  /* NULL when it speaks none */
    struct effects effects;

    uint64_t timers[TIMERS_MAX]; /* steady ms; 0: not set */
    uint64_t counts[COUNTERS];   /* not yet sent to stats */
    uint64_t counts_ms;          /* when they were sent last */
    struct moment now;
    bool busy;        /* something was handed over this turn */
    bool uncommitted; /* the journal refused; the turn is held */
    bool unread;      /* the journal could not answer; the turn is held before its end */
    bool failing;     /* either was said, and not yet that it is over */
    bool blocked;     /* a hop is full; what is left of the turn is held */
    bool drained;     /* the core said so; to be told once this turn is out */
    uint64_t drained_ms;
    uint64_t retry_journal_ms;
    uint64_t tend_ms;                    /* when the journal was tended last */
    uint64_t in_flight;                  /* as the core said last */
    uint64_t turn_us;                    /* when the last turn began */
    uint64_t recent_records;             /* of the last turns, each counted half as much as the next */
    uint64_t recent_us;                  /* … and from each of these turns to the next, likewise */
    struct message recalls[RECALLS_MAX]; /* questions to the journal, to be answered this turn */
    unsigned recall_count;
    struct done_said dones[POSTS_MAX];
    unsigned done_count;

    int datagram; /* socket, or -1 */
    uint64_t datagram_retry_ms;
    uint64_t rubbish_logged_ms;
    uint64_t refused_logged_ms;
    uint64_t frames_in;
    uint64_t frames_out;
    uint64_t dropped;

    pthread_t thread;
    bool running;
    int order_fd;
    atomic_int order;
    bool drain_handed;

    pthread_mutex_t posts_lock;
    struct post posts[POSTS_MAX];
    unsigned post_count;
};

static struct moment read_clocks (void)
{
    return (struct moment){ .steady_ms = clock_steady_ms (), .wall_ms = clock_wall_ms () };
}

/*  ---- effects ------------------------------------------------------------ */

static void put_datagram (struct shell *self, const struct message *message)
{
    if (!self->options.statsd_host)
        return;
    if (self->datagram < 0 && self->now.steady_ms >= self->datagram_retry_ms) {
        char reason[256];
        self->datagram =
            datagram_open (self->options.statsd_host, self->options.statsd_port, reason, sizeof reason);
        self->datagram_retry_ms = self->now.steady_ms + DATAGRAM_RETRY_MS;
        if (self->datagram < 0)
            log_say (self->name, LOG_WARN, "StatsD: %s", reason);
    }
    if (self->datagram >= 0)
        datagram_send (self->datagram, message->datagram.payload);
}

static void put_record (struct shell *self, const struct message *message)
{
    const struct journal_port *port = &self->options.journal;
    if (!port->journal)
        return;
    self->recent_records++;
    CRASH_POINT (self->name, "before-append");
    port->append (port->journal, message);
    CRASH_POINT (self->name, "after-append");
}

static void put_recall (struct shell *self, const struct message *message)
{
    assert (self->recall_count < RECALLS_MAX);
    self->recalls[self->recall_count++] = *message;
}

/*  Kept until the turn is committed: there are no more than messages posted. */
static void put_done (struct shell *self, const struct message *message)
{
    if (self->done_count == POSTS_MAX) {
        log_say (self->name, LOG_ERROR, "bug: more answers to people than questions; one is lost");
        return;
    }
    struct done_said *said = &self->dones[self->done_count++];
    said->done = message->done;
    snprintf (said->reason, sizeof said->reason, "%.*s", (int) message->done.reason.size,
              message->done.reason.size ? message->done.reason.data : "");
}

static void put_health_report (struct shell *self, const struct message *message)
{
    const struct health *health = &message->health;
    monitor_health (self->options.monitor, health->service, health->state, health->reason);
    if (health->state == SERVICE_REJECTS)
        log_say (self->name, LOG_FATAL, "the %s service rejects API_SECRET: %.*s",
                 service_name (health->service), (int) health->reason.size, health->reason.data);
    self->options.notify (self->options.notify_context, self->options.spec->role, message);
}

static void put_local (struct shell *self, const struct message *message)
{
    switch (message->id) {
    case MESSAGE_SET_TIMER:
        assert (message->set_timer.timer < TIMERS_MAX);
        self->timers[message->set_timer.timer] = message->set_timer.at_ms;
        break;
    case MESSAGE_HTTP_REQUEST:
        assert (self->http);
        tap_http_begun (self->mirror, self->options.spec->service, message);
        http_client_put (self->http, message);
        break;
    case MESSAGE_HTTP_CANCEL:
        assert (self->http);
        tap_http_cancelled (self->mirror, message->http_cancel.request);
        http_client_cancel (self->http, message->http_cancel.request);
        break;
    case MESSAGE_LOG:
        if (log_wants (message->log.level))
            log_write (self->name, message->log.level,
                       (struct about){ message->trace, message->log.position, message->log.user },
                       message->log.text);
        break;
    case MESSAGE_DATAGRAM:
        put_datagram (self, message);
        break;
    case MESSAGE_HEALTH:
        put_health_report (self, message);
        break;
    case MESSAGE_MEASURE:
        if (message->measure.gauge == GAUGE_IN_FLIGHT)
            self->in_flight = message->measure.value;
        monitor_gauge (self->options.monitor, self->options.spec->role, message->measure.gauge,
                       message->measure.value);
        break;
    case MESSAGE_REMEMBER:
        put_record (self, message);
        break;
    case MESSAGE_RECALL:
        put_recall (self, message);
        break;
    case MESSAGE_DONE:
        put_done (self, message);
        break;
    case MESSAGE_DRAINED:
        self->drained = true;
        self->drained_ms = self->now.steady_ms;
        break;
    default:
        log_say (self->name, LOG_FATAL, "bug: the core put a message %d that no shell takes",
                 (int) message->id);
        abort ();
    }
}

/*  The sink of every effect of the core. */
static void shell_put (void *sink, struct address to, const struct message *message)
{
    struct shell *self = sink;
    if (to.role == ROLE_SHELL) {
        put_local (self, message);
    } else if (message->id == MESSAGE_COUNT) {
        self->counts[message->count.counter] += message->count.amount;
        monitor_count (self->options.monitor, message->count.counter, message->count.amount);
    } else if (!outbox_put (self->outbox, to, message)) {
        log_say (self->name, LOG_FATAL, "bug: a message `%s` breaks a limit of the language, or no memory",
                 message_spec ((uint64_t) message->id)->name);
        abort ();
    }
}

/*  ---- input -------------------------------------------------------------- */

static void hand_over (struct shell *self, const struct message *message)
{
    self->busy = true;
    CRASH_POINT (self->name, "before-hand-over");
    self->options.spec->handle (self->state, self->now, message, &self->effects);
    CRASH_POINT (self->name, "after-hand-over");
}

static void hand_over_plain (struct shell *self, enum message_id id)
{
    struct message message = { .id = id };
    hand_over (self, &message);
}

static void on_record (void *context, const struct message *message)
{
    hand_over (context, message);
}

/*  Tells once that the journal fails, and once that it is over. */
static void say_journal (struct shell *self, bool good)
{
    if (good != self->failing)
        return;
    const char *trouble = good ? "" : self->options.journal.trouble (self->options.journal.journal);
    self->failing = !good;
    monitor_journal (self->options.monitor, self->options.spec->role, trouble);
    if (good)
        log_say (self->name, LOG_INFO, "the journal can be used again");
    else
        log_say (self->name, LOG_ERROR, "the journal fails, so nothing goes on: %s; trying again", trouble);
}

/*  Answers one question; false when the journal cannot, and has left in it what is
    still to be asked. */
static bool answer_recall (struct shell *self, struct message *recall)
{
    const struct journal_port *port = &self->options.journal;
    if (port->journal)
        return port->recall (port->journal, recall, on_record, self);
    struct message recalled = { .id = MESSAGE_RECALLED };
    recalled.recalled.which = recall->recall.which;
    hand_over (self, &recalled);
    return true;
}

/*  Answers what the core asked of the journal, in order, with what it asks
    meanwhile. False when the journal cannot: the rest waits. */
static bool hand_over_records (struct shell *self)
{
    self->unread = false;
    while (self->recall_count) {
        struct message recall = self->recalls[0];
        if (!answer_recall (self, &recall)) {
            self->recalls[0] = recall;
            self->unread = true;
            self->retry_journal_ms = self->now.steady_ms + JOURNAL_RETRY_MS;
            say_journal (self, false);
            return false;
        }
        self->recall_count--;
        memmove (self->recalls, self->recalls + 1, self->recall_count * sizeof *self->recalls);
    }
    return true;
}

/*  The end of what the core is handed in a turn: every question is answered before
    TURN. False when that cannot be, and the turn is held. */
static bool end_turn (struct shell *self)
{
    do {
        if (!hand_over_records (self))
            return false;
        hand_over_plain (self, MESSAGE_TURN);
    } while (self->recall_count);
    return true;
}

static void on_http (void *context, const struct message *message)
{
    struct shell *self = context;
    if (message->id == MESSAGE_HTTP_ANSWER) {
        const struct http_answer *answer = &message->http_answer;
        tap_http_ended (self->mirror, self->options.spec->service, message);
        monitor_http (self->options.monitor, self->options.spec->service, answer->outcome,
                      (unsigned) answer->status, answer->elapsed_ms);
        if (log_wants (LOG_TRACE))
            log_say (self->name, LOG_TRACE, "HTTP request %" PRIu64 " %s %u in %" PRIu64 " ms",
                     answer->request, http_outcome_name (answer->outcome), (unsigned) answer->status,
                     answer->elapsed_ms);
    }
    self->now = read_clocks ();
    hand_over (self, message);
}

static void hand_over_timers (struct shell *self)
{
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        if (!self->timers[i] || self->timers[i] > self->now.steady_ms)
            continue;
        self->timers[i] = 0;
        struct message timer = { .id = MESSAGE_TIMER };
        timer.timer.timer = i;
        hand_over (self, &timer);
    }
}

/*  Rubbish from a peer is counted, dropped, and named once a minute. */
static void drop (struct shell *self, struct address from, enum decode_result why)
{
    self->dropped++;
    if (self->rubbish_logged_ms && self->now.steady_ms < self->rubbish_logged_ms + RUBBISH_LOG_MS)
        return;
    self->rubbish_logged_ms = self->now.steady_ms;
    log_say (self->name, LOG_WARN, "dropped a message from %s/%u: %s", role_name (from.role),
             (unsigned) from.peer, decode_result_name (why));
}

/*  What another actor of this process says need not be doubted. */
static void hand_over_frame (struct shell *self, const struct bus_received *received)
{
    struct decoder decoder;
    struct message message;
    self->frames_in++;
    enum decode_result result = received->remote
                                    ? decode_begin (&decoder, received->bytes, received->size, false)
                                    : decode_own (&decoder, received->bytes, received->size);
    if (result != DECODE_OK) {
        drop (self, received->from, result);
        return;
    }
    while ((result = decode_next (&decoder, &message)) != DECODE_END) {
        message.from = received->from;
        if (result == DECODE_OK)
            hand_over (self, &message);
        else
            drop (self, received->from, result);
    }
}

/*  What was put for one who came back without its memory, and is not out yet, was
    meant for the one before: the core puts again what is still wanted. */
static void hand_over_peer (struct shell *self, const struct bus_received *received)
{
    struct message message = { .id = MESSAGE_PEER, .from = received->from };
    message.peer.state = received->state;
    if (received->state == PEER_RESTARTED)
        outbox_forget (self->outbox, received->from);
    log_say (self->name, received->state == PEER_LOST ? LOG_WARN : LOG_INFO, "%s/%u: %s",
             role_name (received->from.role), (unsigned) received->from.peer,
             peer_state_name (received->state));
    monitor_peer (self->options.monitor, self->options.spec->role, received->from, received->state, NO_TEXT);
    hand_over (self, &message);
}

static void on_refused (struct shell *self, const struct bus_received *received)
{
    struct text reason = { received->bytes, (uint32_t) received->size };
    monitor_peer (self->options.monitor, self->options.spec->role, received->from, received->state, reason);
    if (self->refused_logged_ms && self->now.steady_ms < self->refused_logged_ms + REFUSED_LOG_MS)
        return;
    self->refused_logged_ms = self->now.steady_ms;
    log_say (self->name, LOG_ERROR, "%s/%u cannot work with us: %.*s", role_name (received->from.role),
             (unsigned) received->from.peer, (int) reason.size, reason.data);
}

/*  Everything that waits on the bus. While a turn is held, messages are left to be
    sent again; peers that come or go are told. */
static void hand_over_frames (struct shell *self, bool held)
{
    struct bus_received received;
    for (unsigned i = 0; i < TURN_FRAMES_MAX; i++) {
        switch (bus_receive (self->bus, self->now.steady_ms, held, &received)) {
        case BUS_NOTHING:
            return;
        case BUS_MESSAGE:
            if (received.remote)
                tap_received (self->mirror, received.from, received.bytes, received.size);
            hand_over_frame (self, &received);
            break;
        case BUS_PEER:
            hand_over_peer (self, &received);
            break;
        case BUS_REFUSED:
            on_refused (self, &received);
            break;
        case BUS_RUBBISH:
            drop (self, received.from, DECODE_RUBBISH);
            break;
        }
    }
}

/*  What woke the thread is taken note of. */
static void quiet_orders (struct shell *self)
{
    uint64_t ignored;
    if (read (self->order_fd, &ignored, sizeof ignored) < 0 && errno != EAGAIN)
        log_say (self->name, LOG_ERROR, "orders: %s", strerror (errno));
}

/*  Under one lock with shell_post: the descriptor is readable as long as there are
    posts. Else one that came between the look and the read would leave it readable,
    and the thread would never sleep again. */
static bool take_post (struct shell *self, struct post *post)
{
    pthread_mutex_lock (&self->posts_lock);
    bool some = self->post_count > 0;
    if (some) {
        *post = self->posts[0];
        self->post_count--;
        memmove (self->posts, self->posts + 1, self->post_count * sizeof *self->posts);
        if (!self->post_count)
            quiet_orders (self);
    }
    pthread_mutex_unlock (&self->posts_lock);
    return some;
}

/*  What people asked for. Each brings a DONE, and there is room for so many. */
static void hand_over_posts (struct shell *self)
{
    struct post post;
    for (unsigned i = 0; i < POSTS_MAX && take_post (self, &post); i++) {
        struct decoder decoder;
        struct message message;
        if (decode_begin (&decoder, post.bytes, post.size, true) == DECODE_OK &&
            decode_next (&decoder, &message) == DECODE_OK)
            hand_over (self, &message);
        free (post.bytes);
    }
}

/*  The descriptor is read before the order is looked at, so that one that comes
    meanwhile wakes the thread again. An order once given stays. */
static void hand_over_orders (struct shell *self)
{
    hand_over_posts (self);
    if (atomic_load (&self->order) == ORDER_NONE)
        return;
    quiet_orders (self);
    if (atomic_load (&self->order) == ORDER_DRAIN && !self->drain_handed) {
        self->drain_handed = true;
        hand_over_plain (self, MESSAGE_DRAIN);
    }
}

/*  True while nothing new may be taken: what was asked for is not out yet. */
static bool is_held (const struct shell *self)
{
    return self->uncommitted || self->unread || self->blocked;
}

/*  ---- output ------------------------------------------------------------- */

/*  False when the hop is full: its other end is gone or slow, and the turn is
    held until there is room. */
static bool send_frame (void *context, struct address to, const void *bytes, size_t size)
{
    struct shell *self = context;
    /*  First shown, then sent: who looks sees the question before its answer. */
    tap_sent (self->mirror, to, bytes, size);
    CRASH_POINT (self->name, "before-send");
    enum bus_result result = bus_send (self->bus, to, bytes, size);
    CRASH_POINT (self->name, "after-send");
    if (result == BUS_FULL)
        return false;
    self->frames_out++;
    if (result == BUS_UNKNOWN)
        log_say (self->name, LOG_WARN, "nobody at %s/%u takes messages", role_name (to.role),
                 (unsigned) to.peer);
    return true;
}

static bool has_counts (const struct shell *self)
{
    for (unsigned i = 0; i < COUNTERS; i++)
        if (self->counts[i])
            return true;
    return false;
}

/*  Counts are no requests, and nothing waits for them but the end: they are added
    up for a moment, sent last, and kept when stats does not keep up. */
static void send_counts (struct shell *self)
{
    const struct address stats = { ROLE_STATS, 0 };
    if (!self->drained && self->now.steady_ms < self->counts_ms + COUNTS_EVERY_MS)
        return;
    if (has_counts (self))
        self->counts_ms = self->now.steady_ms;
    if (bus_unacknowledged (self->bus, stats) >= COUNTS_UNDER_WAY_MAX)
        return;
    for (enum counter counter = 0; counter < (enum counter) COUNTERS; counter++) {
        if (!self->counts[counter])
            continue;
        uint8_t frame[COUNT_FRAME_SIZE];
        size_t size = count_frame (frame, counter, self->counts[counter]);
        if (!size)
            continue;
        CRASH_POINT (self->name, "before-send-counts");
        if (bus_send (self->bus, stats, frame, size) != BUS_OK)
            return;
        CRASH_POINT (self->name, "after-send-counts");
        self->frames_out++;
        tap_sent (self->mirror, stats, frame, size);
        self->counts[counter] = 0;
    }
}

/*  Commits; false when the disk refuses, and then nothing may go out. */
static bool commit (struct shell *self)
{
    const struct journal_port *port = &self->options.journal;
    CRASH_POINT (self->name, "before-commit");
    bool good = !port->journal || port->commit (port->journal);
    CRASH_POINT (self->name, "after-commit");
    say_journal (self, good);
    self->uncommitted = !good;
    self->retry_journal_ms = good ? 0 : self->now.steady_ms + JOURNAL_RETRY_MS;
    return good;
}

/*  What is measured of the bus, for whoever looks. */
static void report_messages (struct shell *self)
{
    monitor_messages (self->options.monitor, self->options.spec->role, self->frames_in, self->frames_out,
                      self->dropped);
    self->frames_in = 0;
    self->frames_out = 0;
    self->dropped = 0;
}

/*  Whether everything that was said has arrived. */
static bool all_said (const struct shell *self)
{
    return !has_counts (self) && bus_all_acknowledged (self->bus);
}

/*  DRAINED is told last: whoever waits for it may end the process, and with it
    what is not yet out. */
static void tell_drained (struct shell *self)
{
    bool waited = self->now.steady_ms >= self->drained_ms + DRAINED_WAIT_MS;
    if (!self->drained || is_held (self) || (!all_said (self) && !waited))
        return;
    self->drained = false;
    self->options.notify (self->options.notify_context, self->options.spec->role,
                          &(struct message){ .id = MESSAGE_DRAINED });
}

/*  What was asked for is on disk: whoever asked may know. */
static void tell_done (struct shell *self)
{
    for (unsigned i = 0; i < self->done_count; i++) {
        struct message message = { .id = MESSAGE_DONE, .done = self->dones[i].done };
        message.done.reason = text_of (self->dones[i].reason);
        self->options.notify (self->options.notify_context, self->options.spec->role, &message);
    }
    self->done_count = 0;
}

/*  Now and then, and between transactions. */
static void tend_journal (struct shell *self)
{
    const struct journal_port *port = &self->options.journal;
    if (!port->journal || self->now.steady_ms < self->tend_ms + TEND_MS)
        return;
    self->tend_ms = self->now.steady_ms;
    port->tend (port->journal, self->now.wall_ms);
}

static void let_out (struct shell *self)
{
    CRASH_POINT (self->name, "before-let-out");
    tell_done (self);
    self->blocked = !outbox_flush (self->outbox, send_frame, self);
    send_counts (self);
    if (self->http && !self->blocked)
        http_client_start (self->http);
    CRASH_POINT (self->name, "after-let-out");
    report_messages (self);
}

/*  ---- the loop ----------------------------------------------------------- */

static long sooner (long timeout_ms, long other_ms)
{
    return timeout_ms < 0 || (other_ms >= 0 && other_ms < timeout_ms) ? other_ms : timeout_ms;
}

static long wait_ms (const struct shell *self)
{
    long timeout_ms = self->http ? http_client_wait_ms (self->http) : -1;
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        if (!self->timers[i])
            continue;
        uint64_t left = self->timers[i] > self->now.steady_ms ? self->timers[i] - self->now.steady_ms : 0;
        timeout_ms = sooner (timeout_ms, left > 3600000 ? 3600000 : (long) left);
    }
    return timeout_ms;
}

/*  Until a steady time in ms; -1 for never. */
static long until (const struct shell *self, uint64_t at_ms)
{
    if (at_ms == UINT64_MAX)
        return -1;
    return at_ms > self->now.steady_ms ? (long) (at_ms - self->now.steady_ms) : 0;
}

/*  Waits for something to do. While a turn is held nothing new is taken, so
    nothing that arrives may end the wait, but what keeps hops alive. */
static void wait_for_work (struct shell *self)
{
    int descriptors[2] = { self->order_fd, self->http ? http_client_fd (self->http) : -1 };
    bool held = is_held (self);
    long timeout_ms = until (self, bus_due (self->bus));
    if (self->uncommitted || self->unread)
        timeout_ms = sooner (timeout_ms, until (self, self->retry_journal_ms));
    else if (self->blocked)
        timeout_ms = sooner (timeout_ms, BLOCKED_RETRY_MS);
    else
        timeout_ms = sooner (timeout_ms, wait_ms (self));
    if (self->options.journal.journal && !held)
        timeout_ms = sooner (timeout_ms, until (self, self->tend_ms + TEND_MS));
    if (has_counts (self) && !held)
        timeout_ms = sooner (timeout_ms, until (self, self->counts_ms + COUNTS_EVERY_MS));
    if (self->drained && !held)
        timeout_ms = sooner (timeout_ms, until (self, self->drained_ms + DRAINED_WAIT_MS));
    unsigned count = held ? 0 : self->http ? 2 : 1;
    bus_wait (self->bus, descriptors, count, timeout_ms, held);
}

/*  Each turn with something to remember costs a commit, and wakes whoever it speaks
    to. So when there is much of that, the next turn is let grow for a moment, in which
    only orders are heard. Who has little in flight is not kept waiting, nor who would
    gather little: that is done sooner without. */
static void gather (const struct shell *self)
{
    bool much = self->recent_records * GATHER_US >= self->recent_us * GATHER_RECORDS;
    if (!self->options.journal.journal || !much || self->in_flight < GATHER_IN_FLIGHT || is_held (self))
        return;
    uint64_t elapsed_us = clock_steady_us () - self->turn_us;
    if (elapsed_us >= GATHER_US)
        return;
    struct pollfd orders = { .fd = self->order_fd, .events = POLLIN };
    struct timespec wait = { .tv_nsec = (long) (GATHER_US - elapsed_us) * 1000 };
    ppoll (&orders, 1, &wait, NULL); /* cut short by a signal, it is a shorter wait */
}

/*  Goes on with a turn that was held, as far as it can. What the core asks for
    because a peer came or went is committed with it. */
static void resume (struct shell *self)
{
    bool due = self->now.steady_ms >= self->retry_journal_ms;
    self->busy = self->unread && due;
    hand_over_frames (self, true);
    if ((self->busy && !end_turn (self)) || self->unread || (self->uncommitted && !due))
        return;
    if ((!self->uncommitted && !self->busy) || commit (self))
        let_out (self);
}

/*  Takes everything that came, and lets out what it caused. */
static void take (struct shell *self)
{
    self->busy = false;
    hand_over_orders (self);
    hand_over_timers (self);
    if (self->http)
        http_client_work (self->http);
    hand_over_frames (self, false);
    if (!self->busy) {
        send_counts (self);
        report_messages (self);
        return;
    }
    if (end_turn (self) && commit (self))
        let_out (self);
}

static void turn (struct shell *self)
{
    uint64_t now_us = clock_steady_us ();
    self->now = read_clocks ();
    self->recent_records /= 2;
    self->recent_us = self->recent_us / 2 + (now_us - self->turn_us);
    self->turn_us = now_us;
    if (is_held (self))
        resume (self);
    else
        take (self);
    bus_work (self->bus, self->now.steady_ms);
    if (!is_held (self))
        tend_journal (self);
    tell_drained (self);
}

static void *run (void *argument)
{
    struct shell *self = argument;
    self->now = read_clocks ();
    self->turn_us = clock_steady_us ();
    hand_over_plain (self, MESSAGE_START);
    if (end_turn (self) && commit (self))
        let_out (self);
    bus_work (self->bus, self->now.steady_ms);
    tell_drained (self);
    while (atomic_load (&self->order) != ORDER_STOP) {
        gather (self);
        self->now = read_clocks ();
        wait_for_work (self);
        turn (self);
    }
    return NULL;
}

/*  ---- life --------------------------------------------------------------- */

static bool open_all (struct shell *self, char *reason, size_t reason_size)
{
    const struct actor_spec *spec = self->options.spec;
    snprintf (reason, reason_size, "out of memory");
    self->state_size = spec->state_size (self->options.settings);
    /*  Address space, not memory: most of what a window could take is never
        touched. */
    self->state = mmap (NULL, self->state_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (self->state == MAP_FAILED)
        self->state = NULL;
    self->outbox = outbox_new ();
    self->order_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!self->state || !self->outbox || self->order_fd < 0)
        return false;
    if (spec->speaks_http) {
        self->http =
            http_client_new (&self->options.target, CONNECTIONS_MAX, on_http, self, reason, reason_size);
        if (!self->http)
            return false;
    }
    self->mirror = tap_mirror_new (self->options.tap, self->options.bus.self);
    self->bus = bus_new (&self->options.bus, reason, reason_size);
    return self->bus != NULL;
}

struct shell *shell_new (const struct shell_options *options, char *reason, size_t reason_size)
{
    struct shell *self = calloc (1, sizeof *self);
    if (!self) {
        snprintf (reason, reason_size, "out of memory");
        return NULL;
    }
    self->options = *options;
    self->name = role_name (options->spec->role);
    self->datagram = -1;
    self->order_fd = -1;
    pthread_mutex_init (&self->posts_lock, NULL);
    self->effects = (struct effects){ shell_put, self, log_least () };
    if (!open_all (self, reason, reason_size)) {
        shell_destroy (&self);
        return NULL;
    }
    options->spec->init (self->state, options->settings);
    return self;
}

bool shell_start (struct shell *self)
{
    pthread_attr_t attributes;
    pthread_attr_init (&attributes);
    pthread_attr_setstacksize (&attributes, STACK_SIZE);
    self->running = pthread_create (&self->thread, &attributes, run, self) == 0;
    pthread_attr_destroy (&attributes);
    if (self->running) {
        char name[16];
        snprintf (name, sizeof name, "%s", self->name);
        pthread_setname_np (self->thread, name);
    }
    return self->running;
}

static void give_order (struct shell *self, enum order order)
{
    uint64_t one = 1;
    int before = atomic_load (&self->order);
    while (before < (int) order && !atomic_compare_exchange_weak (&self->order, &before, (int) order))
        continue;
    if (write (self->order_fd, &one, sizeof one) < 0)
        return; /* the counter is full: the thread is awake anyway */
}

bool shell_post (struct shell *self, const struct message *message)
{
    struct packer packer;
    uint8_t *bytes = malloc (POST_SIZE_MAX);
    if (!bytes)
        return false;
    packer_init (&packer, bytes, POST_SIZE_MAX);
    uint64_t one = 1;
    bool good = encode_message (&packer, message) == ENCODE_OK;
    pthread_mutex_lock (&self->posts_lock);
    /*  In one go: a post that is seen without its count would leave the count behind,
        and the thread would never sleep again. */
    good = good && self->post_count < POSTS_MAX && write (self->order_fd, &one, sizeof one) > 0;
    if (good)
        self->posts[self->post_count++] = (struct post){ bytes, packer.size };
    pthread_mutex_unlock (&self->posts_lock);
    if (!good)
        free (bytes);
    return good;
}

void shell_drain (struct shell *self)
{
    give_order (self, ORDER_DRAIN);
}

void shell_destroy (struct shell **shell)
{
    struct shell *self = *shell;
    if (!self)
        return;
    if (self->running) {
        give_order (self, ORDER_STOP);
        pthread_join (self->thread, NULL);
    }
    http_client_destroy (&self->http);
    bus_destroy (&self->bus);
    outbox_destroy (&self->outbox);
    tap_mirror_destroy (&self->mirror);
    if (self->datagram >= 0)
        close (self->datagram);
    if (self->order_fd >= 0)
        close (self->order_fd);
    for (unsigned i = 0; i < self->post_count; i++)
        free (self->posts[i].bytes);
    pthread_mutex_destroy (&self->posts_lock);
    if (self->state)
        munmap (self->state, self->state_size);
    free (self);
    *shell = NULL;
}
