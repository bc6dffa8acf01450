/*  test_shell.c - a real shell around a core that does as the test says.

    The core notes what it is handed and reacts to four things: to OPEN with a
    burst of everything a core may put, to CREDIT with one thing chosen by its
    number, to RETRY with DONE, and to DRAIN with DRAINED. The test is its peer on the bus, its
    journal, and the service it asks.
*/

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/http_server.h"
#include "actors/base/session.h"
#include "actors/base/shell.h"
#include "include/effects.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    DEADLINE_MS = 10000,
    WATER = 10000,
    BURST = 20,
    REMEMBERED_POSITION = 77,
    FLOOD = 9000,
    MANY_RECORDS = 100
};
_Static_assert((int) FLOOD > (int) SESSION_FRAMES_MAX, "more than a hop takes");

/*  What CREDIT's number asks of the core. */
enum what {
    DO_NOTHING,
    DO_TIMERS,
    DO_HTTP,
    DO_HTTP_AND_CANCEL,
    DO_HEALTH,
    DO_COUNT,
    DO_DATAGRAM,
    DO_STRANGER,
    DO_COUNT_AND_DRAINED,
    DO_FLOOD,
    DO_LAST_WORD_AND_DRAINED,
    DO_RECALL,
    DO_RECALL_IN_TURN,
    DO_HAVE_MUCH, /* in flight */
    DO_HAVE_LITTLE,
    DO_REMEMBER_MUCH
};

/*  Everything the core, the journal, the service and the notices note down.
    Under the lock; `changed` is signalled with every note. */
static struct notes {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned handed[MESSAGE_ID_MAX]; /* by message id */
    enum message_id order[64];       /* the first messages handed over */
    unsigned orders;
    unsigned settled_since_turn;
    unsigned settled_at_turn; /* values that had come when TURN did */
    struct address last_from;
    enum http_outcome http_outcome;
    uint64_t http_request;
    unsigned peers[PEER_RESTARTED + 1]; /* PEERs, by state */
    unsigned peer_turns;                /* turns that had some */
    bool peer_since_turn;
    unsigned appended;
    unsigned appended_at_commit;
    unsigned commits;
    unsigned refusals;
    bool refuse;                   /* the journal does */
    bool hang;                     /* the service does */
    unsigned requests;             /* that reached the service */
    unsigned requests_uncommitted; /* of them, before a record was committed */
    bool unreadable;               /* the journal is: it answers by half */
    unsigned unread;               /* questions it did not answer */
    unsigned tends;
    unsigned tends_uncommitted; /* of them, before a record was committed */
    unsigned done;
    unsigned done_uncommitted;
    uint64_t done_request; /* of the last */
    char done_reason[32];
    unsigned drained;
    unsigned drained_uncommitted;
    unsigned health;
    unsigned timer_order[8];
    unsigned timers;
} notes;

static struct fixture {
    void *context;
    struct monitor *monitor;
    struct http_server *server;
    struct bus *peer; /* ingest, who talks to the core */
    struct bus *stats;
    struct shell *shell;
    char base[64];
    struct settings settings;
    struct shell_options options;
} fixture;

static void note_begin (void)
{
    pthread_mutex_lock (&notes.lock);
}

static void note_end (void)
{
    pthread_cond_broadcast (&notes.changed);
    pthread_mutex_unlock (&notes.lock);
}

/*  ---- the core ----------------------------------------------------------- */

static const struct address peer_address = { ROLE_INGEST, 0 };

static void put_http (const struct effects *effects, uint64_t request)
{
    struct message message = { .id = MESSAGE_HTTP_REQUEST };
    message.http_request.request = request;
    message.http_request.service = SERVICE_USERMETA;
    message.http_request.path = TEXT_LITERAL ("/x");
    message.http_request.timeout_ms = DEADLINE_MS;
    put (effects, TO_SHELL, &message);
}

static void put_settled (const struct effects *effects, struct address to, uint64_t position)
{
    struct message message = { .id = MESSAGE_SETTLED };
    message.settled.position = position;
    put (effects, to, &message);
}

static void put_record (const struct effects *effects)
{
    struct message message = { .id = MESSAGE_REMEMBER };
    message.remember.position = REMEMBERED_POSITION;
    message.remember.user = TEXT_LITERAL ("alice");
    message.remember.reward = TEXT_LITERAL ("promo1");
    message.remember.state = GRANT_INTENDED;
    put (effects, TO_SHELL, &message);
}

static void put_recall (const struct effects *effects, enum which_grants which, uint64_t count)
{
    struct message message = { .id = MESSAGE_RECALL };
    message.recall.which = which;
    message.recall.count = count;
    put (effects, TO_SHELL, &message);
}

/*  What a person asked for is remembered, and answered in the same breath. */
static void put_done (const struct effects *effects, uint64_t request)
{
    struct message message = { .id = MESSAGE_DONE };
    char reason[] = "as you like";
    message.done.request = request;
    message.done.reason = text_of (reason);
    put_record (effects);
    put (effects, TO_SHELL, &message);
    memset (reason, 'x', sizeof reason - 1);
}

/*  A record among things that leave, before and behind it. */
static void burst (const struct effects *effects)
{
    for (uint64_t position = 1; position <= BURST; position++)
        put_settled (effects, peer_address, position);
    put_http (effects, 1);
    put_record (effects);
    put_plain (effects, peer_address, MESSAGE_OPENED);
    put_count (effects, COUNTER_SUCCESS, 3);
}

static void do_what (enum what what, struct moment now, const struct effects *effects)
{
    static const struct address nobody = { ROLE_INGEST, 9 };
    switch (what) {
    case DO_TIMERS:
        put_timer (effects, 5, now.steady_ms + 40);
        put_timer (effects, 2, now.steady_ms + 20);
        put_timer (effects, 0, 1); /* long past: at once */
        put_timer (effects, 3, now.steady_ms + 1);
        put_timer (effects, 3, 0);
        put_timer (effects, 4, now.steady_ms + 1);
        put_timer (effects, 4, now.steady_ms + 60);
        break;
    case DO_HTTP:
        put_http (effects, 1);
        break;
    case DO_HTTP_AND_CANCEL:
        put_http (effects, 5);
        put (effects, TO_SHELL,
             &(struct message){ .id = MESSAGE_HTTP_CANCEL, .http_cancel = { .request = 5 } });
        put (effects, TO_SHELL,
             &(struct message){ .id = MESSAGE_HTTP_CANCEL, .http_cancel = { .request = 99 } });
        put_http (effects, 6);
        break;
    case DO_HEALTH:
        put_health (effects, SERVICE_USERMETA, SERVICE_UP, NO_TEXT);
        break;
    case DO_COUNT:
        put_count (effects, COUNTER_EVENTS, 5);
        put_count (effects, COUNTER_EVENTS, 2);
        put_count (effects, COUNTER_IGNORED, 1);
        break;
    case DO_DATAGRAM:
        put (effects, TO_SHELL,
             &(struct message){ .id = MESSAGE_DATAGRAM, .datagram = { .payload = TEXT_LITERAL ("a:1|c") } });
        break;
    case DO_STRANGER:
        put_settled (effects, nobody, 1);
        break;
    case DO_COUNT_AND_DRAINED:
        put_record (effects);
        put_count (effects, COUNTER_EVENTS, 1);
        put_plain (effects, TO_SHELL, MESSAGE_DRAINED);
        break;
    case DO_FLOOD:
        for (unsigned i = 0; i < FLOOD; i++)
            put_plain (effects, peer_address, MESSAGE_OPENED);
        put_http (effects, 1);
        put_plain (effects, TO_SHELL, MESSAGE_DRAINED);
        break;
    case DO_LAST_WORD_AND_DRAINED:
        put_settled (effects, peer_address, 1);
        put_plain (effects, TO_SHELL, MESSAGE_DRAINED);
        break;
    case DO_RECALL:
        put_recall (effects, RECALL_RECENT, 3);
        put_recall (effects, RECALL_OPEN, 2);
        put_settled (effects, peer_address, 1);
        break;
    case DO_HAVE_MUCH:
        put_gauge (effects, GAUGE_IN_FLIGHT, 1000);
        break;
    case DO_HAVE_LITTLE:
        put_gauge (effects, GAUGE_IN_FLIGHT, 100);
        break;
    case DO_REMEMBER_MUCH:
        for (unsigned i = 0; i < MANY_RECORDS; i++)
            put_record (effects);
        break;
    default:
        break;
    }
}

static void note_message (const struct message *message)
{
    note_begin ();
    notes.handed[message->id]++;
    if (notes.orders < sizeof notes.order / sizeof *notes.order)
        notes.order[notes.orders++] = message->id;
    if (message->id == MESSAGE_SETTLED)
        notes.settled_since_turn++;
    if (message->id == MESSAGE_PEER) {
        notes.peers[message->peer.state]++;
        notes.peer_since_turn = true;
    }
    if (message->id == MESSAGE_TURN && notes.peer_since_turn) {
        notes.peer_since_turn = false;
        notes.peer_turns++;
    }
    if (message->id == MESSAGE_TURN && notes.settled_since_turn) {
        notes.settled_at_turn = notes.settled_since_turn;
        notes.settled_since_turn = 0;
    }
    if ((int) message->id < (int) MESSAGE_LOCAL_MIN)
        notes.last_from = message->from;
    if (message->id == MESSAGE_TIMER && notes.timers < 8)
        notes.timer_order[notes.timers++] = (unsigned) message->timer.timer;
    if (message->id == MESSAGE_HTTP_ANSWER) {
        notes.http_outcome = message->http_answer.outcome;
        notes.http_request = message->http_answer.request;
    }
    note_end ();
}

/*  Asks for more when there is more, and once in a TURN when it was told to. */
static void ask_again (const struct message *message, const struct effects *effects)
{
    static bool in_turn;
    if (message->id == MESSAGE_RECALLED && message->recalled.more)
        put_recall (effects, message->recalled.which, 1);
    if (message->id == MESSAGE_TURN && in_turn)
        put_recall (effects, RECALL_OPEN, 1);
    in_turn = message->id == MESSAGE_CREDIT && message->credit.capacity == DO_RECALL_IN_TURN;
}

static void core_handle (void *state, struct moment now, const struct message *message,
                         const struct effects *effects)
{
    unsigned *calls = state;
    (*calls)++;
    if (message->id == MESSAGE_OPEN)
        burst (effects);
    if (message->id == MESSAGE_CREDIT)
        do_what ((enum what) message->credit.capacity, now, effects);
    if (message->id == MESSAGE_DRAIN)
        put_plain (effects, TO_SHELL, MESSAGE_DRAINED);
    if (message->id == MESSAGE_RETRY)
        put_done (effects, message->retry.request);
    ask_again (message, effects);
    note_message (message);
}

static size_t core_state_size (const struct settings *settings)
{
    (void) settings;
    return sizeof (unsigned);
}

static void core_init (void *state, const struct settings *settings)
{
    (void) state;
    (void) settings;
}

static const struct actor_spec core = {
    .role = ROLE_DECISION,
    .service = SERVICE_USERMETA,
    .speaks_http = true,
    .state_size = core_state_size,
    .init = core_init,
    .handle = core_handle,
};

/*  ---- the journal, the service, the notices ------------------------------ */

static void journal_append (void *journal, const struct message *record)
{
    (void) journal;
    note_begin ();
    notes.appended += record->remember.position == REMEMBERED_POSITION;
    note_end ();
}

static bool journal_commit (void *journal)
{
    (void) journal;
    note_begin ();
    bool good = !notes.refuse;
    if (good) {
        notes.commits++;
        notes.appended_at_commit = notes.appended;
    } else {
        notes.refusals++;
    }
    note_end ();
    return good;
}

static const char *journal_trouble (const void *journal)
{
    (void) journal;
    return "no space";
}

/*  Hands over as many as are asked for. One that is asked for two has two more to
    come, so that it is asked again. While it is unreadable it hands over one and then
    fails. */
static bool journal_recall (void *journal, struct message *recall,
                            void (*hand) (void *context, const struct message *message), void *context)
{
    (void) journal;
    struct message record = { .id = MESSAGE_RECORD };
    struct message recalled = { .id = MESSAGE_RECALLED };
    note_begin ();
    bool good = !notes.unreadable;
    notes.unread += !good;
    note_end ();
    recalled.recalled.which = recall->recall.which;
    recalled.recalled.more = recall->recall.count == 2;
    while (recall->recall.count) {
        recall->recall.count--;
        hand (context, &record);
        if (!good)
            return false;
    }
    hand (context, &recalled);
    return true;
}

static void journal_tend (void *journal, uint64_t wall_ms)
{
    (void) journal;
    note_begin ();
    notes.tends += wall_ms > 0;
    notes.tends_uncommitted += notes.appended > notes.appended_at_commit;
    note_end ();
}

static void on_request (void *server, struct http_exchange *exchange,
                        const struct http_server_request *request)
{
    (void) server;
    (void) request;
    note_begin ();
    bool hang = notes.hang;
    notes.requests++;
    notes.requests_uncommitted += notes.appended > notes.appended_at_commit;
    note_end ();
    if (!hang)
        http_exchange_answer (exchange, 200, "application/json", TEXT_LITERAL ("{}"));
}

static void on_gone (void *server, struct http_exchange *exchange)
{
    (void) server;
    (void) exchange;
}

static void on_notice (void *context, enum role role, const struct message *message)
{
    (void) context;
    note_begin ();
    if (message->id == MESSAGE_DRAINED && role == ROLE_DECISION) {
        notes.drained++;
        notes.drained_uncommitted += notes.appended > notes.appended_at_commit;
    }
    notes.health += message->id == MESSAGE_HEALTH;
    if (message->id == MESSAGE_DONE) {
        notes.done++;
        notes.done_request = message->done.request;
        notes.done_uncommitted += notes.appended > notes.appended_at_commit;
        snprintf (notes.done_reason, sizeof notes.done_reason, "%.*s", (int) message->done.reason.size,
                  message->done.reason.data);
    }
    note_end ();
}

/*  ---- the test's side ---------------------------------------------------- */

static uint64_t now_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/*  Waits until a number in the notes is at least this; a test fails when it
    takes too long. */
static void wait_for (const unsigned *number, unsigned least)
{
    struct timespec deadline;
    clock_gettime (CLOCK_REALTIME, &deadline);
    deadline.tv_sec += DEADLINE_MS / 1000;
    int error = 0;
    pthread_mutex_lock (&notes.lock);
    while (*number < least && !error)
        error = pthread_cond_timedwait (&notes.changed, &notes.lock, &deadline);
    unsigned seen = *number;
    pthread_mutex_unlock (&notes.lock);
    if (seen < least)
        fail_msg ("%u instead of %u in time", seen, least);
}

static unsigned noted (const unsigned *number)
{
    pthread_mutex_lock (&notes.lock);
    unsigned seen = *number;
    pthread_mutex_unlock (&notes.lock);
    return seen;
}

static void set (bool *flag, bool value)
{
    note_begin ();
    *flag = value;
    note_end ();
}

static struct bus *open_bus (enum role role, const char *endpoint, enum role link, const char *link_endpoint)
{
    char reason[256] = "";
    static uint64_t incarnation = 1000;
    struct bus_options options = { .context = fixture.context,
                                   .self = { role, 0 },
                                   .endpoint = endpoint,
                                   .callers = ~0u,
                                   .high_water_mark = WATER,
                                   .incarnation = ++incarnation };
    if (link_endpoint)
        options.links[options.link_count++] = (struct bus_link){ { link, 0 }, link_endpoint };
    struct bus *bus = bus_new (&options, reason, sizeof reason);
    assert_non_null (bus);
    return bus;
}

static void say_bytes (const void *bytes, size_t size)
{
    assert_int_equal (bus_send (fixture.peer, (struct address){ ROLE_DECISION, 0 }, bytes, size), BUS_OK);
}

static void say (const struct message *message)
{
    uint8_t memory[256];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    assert_int_equal (encode_message (&packer, message), ENCODE_OK);
    say_bytes (packer.data, packer.size);
}

static void tell (enum what what)
{
    struct message message = { .id = MESSAGE_CREDIT };
    message.credit.capacity = what;
    say (&message);
}

/*  The next frame of a bus, decoded; its values are counted. */
static struct message hear (struct bus *bus, unsigned *count)
{
    struct bus_received received;
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (bus_receive (bus, now_ms (), false, &received) != BUS_MESSAGE) {
        assert_true (now_ms () < deadline_ms);
        bus_work (bus, now_ms ());
        bus_wait (bus, NULL, 0, 10, false);
    }
    struct decoder decoder;
    struct message message = { 0 };
    assert_int_equal (decode_begin (&decoder, received.bytes, received.size, false), DECODE_OK);
    for (*count = 0; decode_next (&decoder, &message) == DECODE_OK; (*count)++)
        continue;
    return message;
}

static void expect_silence (struct bus *bus)
{
    struct bus_received received;
    assert_int_equal (bus_receive (bus, now_ms (), false, &received), BUS_NOTHING);
}

/*  Waits until a line stands in the metrics. */
static void wait_for_metric (const char *line)
{
    static char page[64 * 1024];
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    do {
        size_t size = monitor_metrics_page (fixture.monitor, page, sizeof page - 1);
        page[size] = '\0';
        if (strstr (page, line))
            return;
        bus_wait (fixture.peer, NULL, 0, 1, false);
    } while (now_ms () < deadline_ms);
    fail_msg ("no %s in:\n%s", line, page);
}

static void open_service (void)
{
    char reason[256];
    static const struct http_server_handler handler = {
        .request = on_request, .gone = on_gone, .body_size_max = 1024, .connections_max = 64
    };
    fixture.server = http_server_new ("127.0.0.1", 0, &handler, reason, sizeof reason);
    assert_non_null (fixture.server);
    snprintf (fixture.base, sizeof fixture.base, "http://127.0.0.1:%u", http_server_port (fixture.server));
}

static void set_options (void)
{
    fixture.options = (struct shell_options){
        .spec = &core,
        .settings = &fixture.settings,
        .bus = { .context = fixture.context,
                 .self = { ROLE_DECISION, 0 },
                 .endpoint = "inproc://core",
                 .links = { { { ROLE_STATS, 0 }, "inproc://stats" } },
                 .link_count = 1,
                 .callers = 1u << ROLE_INGEST,
                 .high_water_mark = WATER,
                 .incarnation = 1 },
        .target = { SERVICE_USERMETA, fixture.base, "secret" },
        .journal = { &notes, journal_append, journal_commit, journal_trouble, journal_recall, journal_tend },
        .monitor = fixture.monitor,
        .notify = on_notice,
    };
}

/*  Everything around the shell; the shell itself is not there yet. */
static int begin (void **state)
{
    (void) state;
    memset (&notes, 0, sizeof notes);
    memset (&fixture, 0, sizeof fixture);
    pthread_mutex_init (&notes.lock, NULL);
    pthread_cond_init (&notes.changed, NULL);
    fixture.context = bus_context_new ();
    fixture.monitor = monitor_new ();
    open_service ();
    monitor_expect (fixture.monitor, ROLE_DECISION);
    monitor_expect_service (fixture.monitor, SERVICE_USERMETA);
    fixture.stats = open_bus (ROLE_STATS, "inproc://stats", ROLE_SHELL, NULL);
    fixture.peer = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, "inproc://core");
    set_options ();
    return 0;
}

static int end (void **state)
{
    (void) state;
    shell_destroy (&fixture.shell);
    http_server_destroy (&fixture.server);
    bus_destroy (&fixture.peer);
    bus_destroy (&fixture.stats);
    bus_context_destroy (&fixture.context);
    monitor_destroy (&fixture.monitor);
    pthread_cond_destroy (&notes.changed);
    pthread_mutex_destroy (&notes.lock);
    return 0;
}

static void start_shell (void)
{
    char reason[256] = "";
    fixture.shell = shell_new (&fixture.options, reason, sizeof reason);
    if (!fixture.shell)
        fail_msg ("%s", reason);
    assert_true (shell_start (fixture.shell));
    wait_for (&notes.handed[MESSAGE_TURN], 1);
}

/*  ---- turns -------------------------------------------------------------- */

static void test_start_comes_first_and_once (void **state)
{
    (void) state;
    start_shell ();
    tell (DO_NOTHING);
    wait_for (&notes.handed[MESSAGE_TURN], 2);
    assert_int_equal (notes.order[0], MESSAGE_START);
    assert_int_equal (notes.order[1], MESSAGE_TURN);
    assert_int_equal (notes.order[2], MESSAGE_CREDIT);
    assert_int_equal (notes.order[3], MESSAGE_TURN);
    assert_int_equal (noted (&notes.handed[MESSAGE_START]), 1);
    assert_int_equal (notes.last_from.role, ROLE_INGEST);
}

static void test_a_batch_is_handed_over_value_by_value_before_the_turn (void **state)
{
    (void) state;
    static uint8_t items[4096], frame[8192];
    struct packer packer, whole;
    packer_init (&packer, items, sizeof items);
    for (uint64_t position = 1; position <= 100; position++) {
        struct message message = { .id = MESSAGE_SETTLED };
        message.settled.position = position;
        assert_int_equal (encode_item (&packer, &message), ENCODE_OK);
    }
    packer_init (&whole, frame, sizeof frame);
    assert_int_equal (encode_batch (&whole, MESSAGE_SETTLED, 0, packer_raw (&packer), 100), ENCODE_OK);
    start_shell ();
    say_bytes (whole.data, whole.size);
    wait_for (&notes.handed[MESSAGE_TURN], 2);
    assert_int_equal (noted (&notes.settled_at_turn), 100);
}

static void test_what_a_turn_puts_for_one_peer_is_joined (void **state)
{
    (void) state;
    unsigned count;
    start_shell ();
    say (&(struct message){ .id = MESSAGE_OPEN });
    struct message message = hear (fixture.peer, &count);
    assert_int_equal (message.id, MESSAGE_SETTLED);
    assert_int_equal (count, BURST);
    assert_int_equal (message.settled.position, BURST);
    assert_int_equal (hear (fixture.peer, &count).id, MESSAGE_OPENED);
    message = hear (fixture.stats, &count);
    assert_int_equal (message.id, MESSAGE_COUNT);
    assert_int_equal (message.count.amount, 3);
}

static void test_nothing_that_was_not_asked_turns_the_core (void **state)
{
    (void) state;
    start_shell ();
    unsigned before = noted (&notes.handed[MESSAGE_TURN]);
    bus_wait (fixture.peer, NULL, 0, 150, false);
    assert_int_equal (noted (&notes.handed[MESSAGE_TURN]), before);
}

/*  ---- the journal -------------------------------------------------------- */

static void test_a_record_is_committed_before_anything_of_its_turn_leaves (void **state)
{
    (void) state;
    unsigned count;
    start_shell ();
    for (unsigned i = 1; i <= 50; i++) {
        say (&(struct message){ .id = MESSAGE_OPEN });
        hear (fixture.peer, &count);
        assert_true (noted (&notes.appended_at_commit) >= i);
        hear (fixture.peer, &count);
        wait_for (&notes.requests, i);
    }
    assert_int_equal (noted (&notes.requests_uncommitted), 0);
}

static void test_a_journal_that_refuses_holds_everything_back (void **state)
{
    (void) state;
    unsigned count;
    start_shell ();
    set (&notes.refuse, true);
    say (&(struct message){ .id = MESSAGE_OPEN });
    wait_for (&notes.refusals, 1);
    tell (DO_NOTHING);
    shell_drain (fixture.shell);
    wait_for (&notes.refusals, 3);
    expect_silence (fixture.peer);
    expect_silence (fixture.stats);
    assert_int_equal (noted (&notes.requests), 0);
    assert_int_equal (noted (&notes.handed[MESSAGE_CREDIT]), 0);
    assert_int_equal (noted (&notes.handed[MESSAGE_DRAIN]), 0);
    assert_int_equal (noted (&notes.drained), 0);

    set (&notes.refuse, false);
    assert_int_equal (hear (fixture.peer, &count).id, MESSAGE_SETTLED);
    assert_int_equal (count, BURST);
    assert_int_equal (hear (fixture.peer, &count).id, MESSAGE_OPENED);
    wait_for (&notes.requests, 1);
    wait_for (&notes.handed[MESSAGE_CREDIT], 1);
    wait_for (&notes.drained, 1);
    assert_int_equal (noted (&notes.appended), 1);
}

/*  So many turns, each asked for when the one before is over; the ms they took. */
static uint64_t take_turns (enum what what, unsigned count)
{
    uint64_t began_ms = now_ms ();
    for (unsigned i = 0; i < count; i++) {
        unsigned turns = noted (&notes.handed[MESSAGE_TURN]);
        tell (what);
        wait_for (&notes.handed[MESSAGE_TURN], turns + 1);
    }
    return now_ms () - began_ms;
}

/*  A machine that does other things may be slow now and then, but not always. */
static bool is_ever_quick (enum what what)
{
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (now_ms () < deadline_ms)
        if (take_turns (what, 10) < 18)
            return true;
    return false;
}

static void test_turns_with_much_to_remember_are_gathered (void **state)
{
    (void) state;
    start_shell ();
    tell (DO_HAVE_MUCH);
    wait_for (&notes.handed[MESSAGE_TURN], 2);
    take_turns (DO_REMEMBER_MUCH, 30);                     /* to have a pace to judge by */
    assert_true (take_turns (DO_REMEMBER_MUCH, 51) >= 98); /* 2 ms from turn to turn, on a clock of ms */
    assert_int_equal (noted (&notes.appended), 81 * MANY_RECORDS);
}

static void test_turns_with_little_to_remember_follow_at_once (void **state)
{
    (void) state;
    start_shell ();
    tell (DO_HAVE_MUCH);
    wait_for (&notes.handed[MESSAGE_TURN], 2);
    assert_true (is_ever_quick (DO_NOTHING));
}

static void test_turns_of_who_has_little_in_flight_follow_at_once (void **state)
{
    (void) state;
    start_shell ();
    tell (DO_HAVE_MUCH);
    wait_for (&notes.handed[MESSAGE_TURN], 2);
    tell (DO_HAVE_LITTLE);
    wait_for (&notes.handed[MESSAGE_TURN], 3);
    assert_true (is_ever_quick (DO_REMEMBER_MUCH));
}

static void test_turns_without_a_journal_follow_at_once (void **state)
{
    (void) state;
    fixture.options.journal = (struct journal_port){ 0 };
    start_shell ();
    tell (DO_HAVE_MUCH);
    wait_for (&notes.handed[MESSAGE_TURN], 2);
    assert_true (is_ever_quick (DO_REMEMBER_MUCH));
}

static uint64_t cpu_ms (void)
{
    struct rusage usage;
    getrusage (RUSAGE_SELF, &usage);
    return (uint64_t) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
           (uint64_t) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

static void test_a_journal_that_refuses_is_not_waited_for_in_a_hot_loop (void **state)
{
    (void) state;
    start_shell ();
    set (&notes.refuse, true);
    tell (DO_HTTP);
    wait_for (&notes.refusals, 1);
    tell (DO_NOTHING); /* waits in the mailbox all the time */
    shell_drain (fixture.shell);
    uint64_t before_ms = cpu_ms ();
    unsigned refusals = noted (&notes.refusals);
    wait_for (&notes.refusals, refusals + 5);
    assert_true (cpu_ms () - before_ms < 200);
    set (&notes.refuse, false);
    wait_for (&notes.drained, 1);
}

static void test_the_end_of_an_actor_is_told_behind_its_last_record (void **state)
{
    (void) state;
    unsigned count;
    start_shell ();
    set (&notes.refuse, true);
    tell (DO_COUNT_AND_DRAINED);
    wait_for (&notes.refusals, 3);
    assert_int_equal (noted (&notes.drained), 0);
    set (&notes.refuse, false);
    wait_for (&notes.drained, 1);
    assert_int_equal (noted (&notes.drained_uncommitted), 0);
    assert_int_equal (hear (fixture.stats, &count).id, MESSAGE_COUNT);
    tell (DO_COUNT_AND_DRAINED);
    wait_for (&notes.drained, 2);
    assert_int_equal (noted (&notes.drained_uncommitted), 0);
    struct bus_received received;
    assert_int_equal (bus_receive (fixture.stats, now_ms (), false, &received), BUS_MESSAGE); /* before */
}

static void test_destroyed_while_the_journal_refuses (void **state)
{
    (void) state;
    start_shell ();
    set (&notes.refuse, true);
    say (&(struct message){ .id = MESSAGE_OPEN });
    wait_for (&notes.refusals, 1);
    uint64_t began_ms = now_ms ();
    shell_destroy (&fixture.shell);
    assert_true (now_ms () - began_ms < 2000);
    assert_int_equal (noted (&notes.requests), 0);
}

static void test_a_start_whose_commit_is_refused_is_made_up_for (void **state)
{
    (void) state;
    set (&notes.refuse, true);
    start_shell ();
    wait_for (&notes.refusals, 2);
    set (&notes.refuse, false);
    tell (DO_NOTHING);
    wait_for (&notes.handed[MESSAGE_CREDIT], 1);
    assert_int_equal (noted (&notes.handed[MESSAGE_START]), 1);
}

static void check_ready_says (const char *words, bool wanted)
{
    char page[4096];
    page[monitor_ready_page (fixture.monitor, page, sizeof page - 1)] = '\0';
    if ((strstr (page, words) != NULL) != wanted)
        fail_msg ("%s", page);
}

static void test_ready_says_why_while_the_journal_fails_and_no_longer (void **state)
{
    (void) state;
    unsigned count;
    start_shell ();
    tell (DO_HEALTH);
    wait_for (&notes.health, 1);
    assert_true (monitor_ready (fixture.monitor));
    set (&notes.refuse, true);
    say (&(struct message){ .id = MESSAGE_OPEN });
    wait_for (&notes.refusals, 2);
    assert_false (monitor_ready (fixture.monitor));
    check_ready_says ("\"journal\":{\"state\":\"failing\",\"reason\":\"no space\"}", true);
    set (&notes.refuse, false);
    hear (fixture.peer, &count);
    assert_true (monitor_ready (fixture.monitor));
    check_ready_says ("journal", false);
}

/*  The messages handed over since the CREDIT that began a turn, up to its TURN. */
static void check_order (unsigned from, const enum message_id *wanted, unsigned count)
{
    pthread_mutex_lock (&notes.lock);
    assert_true (notes.orders >= from + count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal (notes.order[from + i], wanted[i]);
    pthread_mutex_unlock (&notes.lock);
}

static const enum message_id recalled_turn[] = {
    MESSAGE_CREDIT, MESSAGE_RECORD,   MESSAGE_RECORD, MESSAGE_RECORD,   MESSAGE_RECALLED, MESSAGE_RECORD,
    MESSAGE_RECORD, MESSAGE_RECALLED, MESSAGE_RECORD, MESSAGE_RECALLED, MESSAGE_TURN,
};

enum { RECALLED_TURN = sizeof recalled_turn / sizeof *recalled_turn };

static void test_what_is_recalled_comes_before_the_turn (void **state)
{
    (void) state;
    start_shell ();
    tell (DO_RECALL);
    wait_for (&notes.handed[MESSAGE_TURN], 2);
    check_order (2, recalled_turn, RECALLED_TURN);
}

static void test_what_is_asked_in_a_turn_is_answered_before_another (void **state)
{
    (void) state;
    static const enum message_id wanted[] = { MESSAGE_CREDIT, MESSAGE_TURN, MESSAGE_RECORD, MESSAGE_RECALLED,
                                              MESSAGE_TURN };
    start_shell ();
    tell (DO_RECALL_IN_TURN);
    wait_for (&notes.handed[MESSAGE_TURN], 3);
    check_order (2, wanted, 5);
}

static void test_without_a_journal_nothing_is_recalled (void **state)
{
    (void) state;
    static const enum message_id wanted[] = { MESSAGE_CREDIT, MESSAGE_RECALLED, MESSAGE_RECALLED,
                                              MESSAGE_TURN };
    fixture.options.journal.journal = NULL;
    start_shell ();
    tell (DO_RECALL);
    wait_for (&notes.handed[MESSAGE_TURN], 2);
    check_order (2, wanted, 4);
}

static void test_a_journal_that_cannot_be_read_holds_the_turn_before_its_end (void **state)
{
    (void) state;
    unsigned count;
    start_shell ();
    tell (DO_HEALTH);
    wait_for (&notes.commits, 2);
    set (&notes.unreadable, true);
    tell (DO_RECALL);
    wait_for (&notes.unread, 2);
    assert_false (monitor_ready (fixture.monitor));
    tell (DO_NOTHING);
    shell_drain (fixture.shell);
    expect_silence (fixture.peer);
    assert_int_equal (noted (&notes.handed[MESSAGE_TURN]), 2);
    assert_int_equal (noted (&notes.handed[MESSAGE_CREDIT]), 2);
    assert_int_equal (noted (&notes.commits), 2);
    set (&notes.unreadable, false);
    assert_int_equal (hear (fixture.peer, &count).id, MESSAGE_SETTLED);
    assert_true (monitor_ready (fixture.monitor));
    wait_for (&notes.drained, 1);
    check_order (4, recalled_turn, RECALLED_TURN); /* what was handed over is not again */
}

static void test_destroyed_while_the_journal_cannot_be_read (void **state)
{
    (void) state;
    start_shell ();
    set (&notes.unreadable, true);
    tell (DO_RECALL);
    wait_for (&notes.unread, 1);
    uint64_t began_ms = now_ms ();
    shell_destroy (&fixture.shell);
    assert_true (now_ms () - began_ms < 2000);
}

static void test_the_journal_is_tended_now_and_then_between_transactions (void **state)
{
    (void) state;
    start_shell ();
    wait_for (&notes.tends, 2); /* though nothing else happens */
    set (&notes.refuse, true);
    say (&(struct message){ .id = MESSAGE_OPEN });
    wait_for (&notes.refusals, 12); /* more than a second */
    set (&notes.refuse, false);
    wait_for (&notes.tends, noted (&notes.tends) + 1);
    assert_int_equal (noted (&notes.tends_uncommitted), 0);
}

/*  ---- what people ask for ------------------------------------------------ */

static bool post (uint64_t request)
{
    struct message message = { .id = MESSAGE_RETRY };
    message.retry.request = request;
    message.retry.user = TEXT_LITERAL ("alice");
    return shell_post (fixture.shell, &message);
}

static void *post_many (void *argument)
{
    uint64_t first = *(const uint64_t *) argument;
    for (uint64_t i = 0; i < 500; i++)
        while (!post (first + i))
            continue; /* too many wait: it is about to take them */
    return NULL;
}

static void test_posts_of_other_threads_are_all_handed_over_and_answered (void **state)
{
    (void) state;
    static const uint64_t firsts[] = { 1000, 2000, 3000 };
    pthread_t threads[3];
    start_shell ();
    for (size_t i = 0; i < 3; i++)
        assert_int_equal (pthread_create (&threads[i], NULL, post_many, (void *) (uintptr_t) &firsts[i]), 0);
    for (size_t i = 0; i < 3; i++)
        pthread_join (threads[i], NULL);
    wait_for (&notes.done, 1500);
    assert_int_equal (noted (&notes.handed[MESSAGE_RETRY]), 1500);
    assert_int_equal (noted (&notes.done_uncommitted), 0);
    uint64_t before_ms = cpu_ms ();
    unsigned turns = noted (&notes.handed[MESSAGE_TURN]);
    bus_wait (fixture.peer, NULL, 0, 200, false); /* nothing is left that keeps it awake */
    assert_in_range (cpu_ms () - before_ms, 0, 99);
    assert_int_equal (noted (&notes.handed[MESSAGE_TURN]), turns);
}

static void test_an_answer_waits_until_what_it_tells_of_is_on_disk (void **state)
{
    (void) state;
    start_shell ();
    set (&notes.refuse, true);
    assert_true (post (7));
    wait_for (&notes.refusals, 3);
    assert_int_equal (noted (&notes.done), 0);
    set (&notes.refuse, false);
    wait_for (&notes.done, 1);
    assert_int_equal (noted (&notes.done_uncommitted), 0);
    assert_int_equal (notes.done_request, 7);
    assert_string_equal (notes.done_reason, "as you like");
}

static void test_too_many_posts_are_refused_and_the_rest_is_not_lost (void **state)
{
    (void) state;
    unsigned taken = 0;
    start_shell ();
    set (&notes.refuse, true);
    say (&(struct message){ .id = MESSAGE_OPEN });
    wait_for (&notes.refusals, 1);
    while (taken < 100 && post (taken))
        taken++;
    assert_int_equal (taken, 16);
    assert_int_equal (noted (&notes.handed[MESSAGE_RETRY]), 0);
    set (&notes.refuse, false);
    wait_for (&notes.done, 16);
    assert_true (post (99));
    wait_for (&notes.done, 17);
    assert_int_equal (notes.done_request, 99);
}

static void test_a_post_that_breaks_a_limit_is_refused (void **state)
{
    (void) state;
    static char user[USER_SIZE_MAX + 1];
    struct message message = { .id = MESSAGE_RETRY };
    memset (user, 'u', sizeof user);
    start_shell ();
    message.retry.user = (struct text){ user, sizeof user };
    assert_false (shell_post (fixture.shell, &message));
    message.retry.user.size--;
    assert_true (shell_post (fixture.shell, &message));
    wait_for (&notes.done, 1);
}

static void test_destroyed_with_posts_that_wait (void **state)
{
    (void) state;
    start_shell ();
    set (&notes.refuse, true);
    say (&(struct message){ .id = MESSAGE_OPEN });
    wait_for (&notes.refusals, 1);
    assert_true (post (1));
    assert_true (post (2));
    shell_destroy (&fixture.shell);
    assert_int_equal (noted (&notes.done), 0);
}

/*  ---- timers, HTTP, and the rest ----------------------------------------- */

static void test_timers_fire_once_in_the_order_of_their_times (void **state)
{
    (void) state;
    start_shell ();
    uint64_t began_ms = now_ms ();
    tell (DO_TIMERS);
    wait_for (&notes.handed[MESSAGE_TIMER], 4);
    assert_true (now_ms () - began_ms >= 59);
    assert_int_equal (notes.timer_order[0], 0);
    assert_int_equal (notes.timer_order[1], 2);
    assert_int_equal (notes.timer_order[2], 5);
    assert_int_equal (notes.timer_order[3], 4);
    bus_wait (fixture.peer, NULL, 0, 50, false);
    assert_int_equal (noted (&notes.handed[MESSAGE_TIMER]), 4);
}

static void test_a_request_is_sent_and_answered (void **state)
{
    (void) state;
    start_shell ();
    tell (DO_HTTP);
    wait_for (&notes.handed[MESSAGE_HTTP_ANSWER], 1);
    assert_int_equal (noted (&notes.handed[MESSAGE_HTTP_SENT]), 1);
    assert_int_equal (notes.http_outcome, HTTP_ANSWERED);
    assert_int_equal (notes.http_request, 1);
    wait_for_metric ("guerdon_http_requests_total{service=\"usermeta\",result=\"2xx\"} 1\n");
}

static void test_a_request_that_is_cancelled_is_not_answered (void **state)
{
    (void) state;
    start_shell ();
    tell (DO_HTTP_AND_CANCEL);
    wait_for (&notes.handed[MESSAGE_HTTP_ANSWER], 1);
    assert_int_equal (notes.http_request, 6);
    assert_int_equal (noted (&notes.requests), 1);
}

static void test_health_is_noticed_and_shows_in_ready (void **state)
{
    (void) state;
    start_shell ();
    assert_false (monitor_ready (fixture.monitor));
    tell (DO_HEALTH);
    wait_for (&notes.health, 1);
    assert_true (monitor_ready (fixture.monitor));
}

static void test_counts_reach_stats_and_the_metrics (void **state)
{
    (void) state;
    unsigned count;
    start_shell ();
    tell (DO_COUNT);
    struct message message = hear (fixture.stats, &count);
    assert_int_equal (message.count.counter, COUNTER_EVENTS);
    assert_int_equal (message.count.amount, 7);
    message = hear (fixture.stats, &count);
    assert_int_equal (message.count.counter, COUNTER_IGNORED);
    assert_int_equal (message.count.amount, 1);
    wait_for_metric ("guerdon_events_total 7\n");
    tell (DO_NOTHING);
    wait_for (&notes.handed[MESSAGE_CREDIT], 2);
    wait_for_metric ("guerdon_messages_total{actor=\"decision\",direction=\"in\"} 2\n");
    expect_silence (fixture.stats);
}

static void test_a_datagram_goes_to_statsd (void **state)
{
    (void) state;
    int fd = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl (INADDR_LOOPBACK) } };
    socklen_t size = sizeof address;
    struct timeval deadline = { .tv_sec = DEADLINE_MS / 1000 };
    assert_int_equal (bind (fd, (struct sockaddr *) &address, sizeof address), 0);
    assert_int_equal (getsockname (fd, (struct sockaddr *) &address, &size), 0);
    setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    fixture.options.statsd_host = "127.0.0.1";
    fixture.options.statsd_port = ntohs (address.sin_port);
    start_shell ();
    tell (DO_DATAGRAM);
    char bytes[64];
    assert_int_equal (recv (fd, bytes, sizeof bytes, 0), 5);
    assert_memory_equal (bytes, "a:1|c", 5);
    close (fd);
    tell (DO_DATAGRAM); /* nobody listens any more */
    tell (DO_DATAGRAM);
    tell (DO_NOTHING);
    wait_for (&notes.handed[MESSAGE_CREDIT], 4);
}

static void test_an_answer_to_nobody_is_no_reason_to_end (void **state)
{
    (void) state;
    start_shell ();
    tell (DO_STRANGER);
    tell (DO_NOTHING);
    wait_for (&notes.handed[MESSAGE_CREDIT], 2);
}

/*  ---- rubbish ------------------------------------------------------------ */

static void test_rubbish_is_counted_and_dropped (void **state)
{
    (void) state;
    static const uint8_t frames[][8] = {
        { 0xc1 },                         /* not msgpack */
        { 0x93, 1, 2 },                   /* not whole */
        { 0x94, 9, 2, 0, 7 },             /* another version */
        { 0x93, 1, 60, 0 },               /* nobody knows this id */
        { 0x93, 1, 64, 0 },               /* START, which is local */
        { 0x94, 1, 2, 0, 0xa1, 'x' },     /* CREDIT of "x" */
        { 0xdd, 0xff, 0xff, 0xff, 0xff }, /* four milliard elements */
    };
    static const size_t sizes[] = { 1, 3, 5, 4, 4, 6, 5 };
    start_shell ();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        say_bytes (frames[i], sizes[i]);
    say_bytes ("", 0);
    /*  It shows although nothing else happens. */
    wait_for_metric ("guerdon_messages_total{actor=\"decision\",direction=\"dropped\"} 8\n");
    assert_int_equal (noted (&notes.handed[MESSAGE_CREDIT]), 0);
    assert_int_equal (noted (&notes.handed[MESSAGE_START]), 1);
    tell (DO_NOTHING);
    wait_for (&notes.handed[MESSAGE_CREDIT], 1);
}

static void test_a_bad_value_in_a_batch_spares_the_others (void **state)
{
    (void) state;
    static const uint8_t frame[] = {
        0x94, 1, 4, 0, 0x93, 0x93, 0, 1, 0, 0x93, 0, 0xa1, 'x', 0, 0x93, 0, 3, 0
    };
    start_shell ();
    say_bytes (frame, sizeof frame);
    wait_for (&notes.handed[MESSAGE_SETTLED], 2);
    wait_for_metric ("guerdon_messages_total{actor=\"decision\",direction=\"dropped\"} 1\n");
}

static void test_a_flood_of_frames_is_handed_over_whole (void **state)
{
    (void) state;
    start_shell ();
    for (unsigned i = 0; i < 2000; i++)
        tell (DO_NOTHING);
    wait_for (&notes.handed[MESSAGE_CREDIT], 2000);
}

/*  ---- the end ------------------------------------------------------------ */

static void test_drain_is_handed_over_once_and_drained_is_noticed (void **state)
{
    (void) state;
    start_shell ();
    shell_drain (fixture.shell);
    shell_drain (fixture.shell);
    wait_for (&notes.drained, 1);
    shell_drain (fixture.shell);
    tell (DO_NOTHING);
    wait_for (&notes.handed[MESSAGE_CREDIT], 1);
    assert_int_equal (noted (&notes.handed[MESSAGE_DRAIN]), 1);
    assert_int_equal (noted (&notes.drained), 1);
}

static void test_an_order_before_the_thread_runs_is_not_lost (void **state)
{
    (void) state;
    char reason[256];
    fixture.shell = shell_new (&fixture.options, reason, sizeof reason);
    assert_non_null (fixture.shell);
    shell_drain (fixture.shell);
    assert_true (shell_start (fixture.shell));
    wait_for (&notes.drained, 1);
    assert_int_equal (notes.order[0], MESSAGE_START);
}

static void test_destroyed_with_a_request_under_way (void **state)
{
    (void) state;
    set (&notes.hang, true);
    start_shell ();
    tell (DO_HTTP);
    wait_for (&notes.requests, 1);
    uint64_t began_ms = now_ms ();
    shell_destroy (&fixture.shell);
    assert_null (fixture.shell);
    assert_true (now_ms () - began_ms < 2000);
    assert_int_equal (noted (&notes.handed[MESSAGE_HTTP_ANSWER]), 0);
}

static void test_destroyed_without_having_run (void **state)
{
    (void) state;
    char reason[256];
    fixture.shell = shell_new (&fixture.options, reason, sizeof reason);
    assert_non_null (fixture.shell);
    shell_destroy (&fixture.shell);
    assert_int_equal (noted (&notes.handed[MESSAGE_START]), 0);
}

static void test_an_endpoint_that_is_taken_is_named (void **state)
{
    (void) state;
    char reason[256] = "";
    fixture.options.bus.endpoint = "inproc://stats";
    fixture.shell = shell_new (&fixture.options, reason, sizeof reason);
    assert_null (fixture.shell);
    assert_non_null (strstr (reason, "inproc://stats"));
}

/*  ---- beyond the process ------------------------------------------------- */

static char directory[32];
static char core_endpoint[64];
static char stats_endpoint[64];

/*  What the test's side of the hops heard since it was asked last. */
static struct pumped {
    unsigned plain; /* OPENED */
    unsigned settled;
    unsigned counts;
    uint64_t counted; /* the sum of the counts */
    unsigned came;
    unsigned lost;
    bool held;       /* messages for the peer are left */
    bool stats_held; /* … and those for stats */
} pumped;

static void pump (struct bus *bus, bool held)
{
    struct bus_received received;
    enum bus_input input;
    if (!bus)
        return;
    while ((input = bus_receive (bus, now_ms (), held, &received)) != BUS_NOTHING) {
        struct decoder decoder;
        pumped.came += input == BUS_PEER && received.state != PEER_LOST;
        pumped.lost += input == BUS_PEER && received.state == PEER_LOST;
        if (input != BUS_MESSAGE)
            continue;
        assert_int_equal (decode_begin (&decoder, received.bytes, received.size, false), DECODE_OK);
        pumped.plain += decoder.spec->id == MESSAGE_OPENED;
        pumped.settled += decoder.spec->id == MESSAGE_SETTLED;
        if (decoder.spec->id != MESSAGE_COUNT)
            continue;
        struct message count;
        for (pumped.counts++; decode_next (&decoder, &count) == DECODE_OK;)
            pumped.counted += count.count.amount;
    }
    bus_work (bus, now_ms ());
}

static void pump_all (void)
{
    pump (fixture.peer, pumped.held);
    pump (fixture.stats, pumped.stats_held);
    bus_wait (fixture.peer, NULL, 0, 2, false);
}

/*  Pumps until something holds; not for ever. */
#define PUMP_UNTIL(condition)                                                                                \
    for (uint64_t until_ms_ = now_ms () + DEADLINE_MS; !(condition); pump_all ())                            \
    assert_true (now_ms () < until_ms_)

/*  Pumps for a while. */
static void pump_for (uint64_t ms)
{
    for (uint64_t until_ms = now_ms () + ms; now_ms () < until_ms;)
        pump_all ();
}

/*  Like `begin`, with every hop over a socket file. */
static int begin_remote (void **state)
{
    begin (state);
    memset (&pumped, 0, sizeof pumped);
    bus_destroy (&fixture.peer);
    bus_destroy (&fixture.stats);
    snprintf (directory, sizeof directory, "/tmp/guerdon-shell-XXXXXX");
    if (!mkdtemp (directory))
        return -1;
    snprintf (core_endpoint, sizeof core_endpoint, "ipc://%s/core", directory);
    snprintf (stats_endpoint, sizeof stats_endpoint, "ipc://%s/stats", directory);
    fixture.options.bus.endpoint = core_endpoint;
    fixture.options.bus.links[0].endpoint = stats_endpoint;
    fixture.stats = open_bus (ROLE_STATS, stats_endpoint, ROLE_SHELL, NULL);
    fixture.peer = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, core_endpoint);
    return 0;
}

static int end_remote (void **state)
{
    int result = end (state);
    unlink (core_endpoint + strlen ("ipc://"));
    unlink (stats_endpoint + strlen ("ipc://"));
    rmdir (directory);
    return result;
}

static void start_remote (void)
{
    start_shell ();
    PUMP_UNTIL (pumped.came == 2 && noted (&notes.peers[PEER_UP]) == 2);
}

static void test_peers_that_come_and_come_back_are_told_with_a_turn (void **state)
{
    (void) state;
    start_remote ();
    assert_true (noted (&notes.peer_turns) >= 1);
    unsigned turns = noted (&notes.peer_turns);
    bus_destroy (&fixture.peer);
    fixture.peer = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, core_endpoint);
    PUMP_UNTIL (noted (&notes.peers[PEER_RESTARTED]) == 1 && noted (&notes.peer_turns) > turns);
    tell (DO_NOTHING);
    PUMP_UNTIL (noted (&notes.handed[MESSAGE_CREDIT]) == 1);
    assert_int_equal (noted (&notes.peers[PEER_LOST]), 0);
}

static void test_a_full_hop_holds_the_turn_and_nothing_is_lost (void **state)
{
    (void) state;
    start_remote ();
    pumped.held = true;
    tell (DO_FLOOD);
    PUMP_UNTIL (noted (&notes.handed[MESSAGE_CREDIT]) == 1);
    tell (DO_NOTHING);
    shell_drain (fixture.shell);
    pump_for (SESSION_LOST_MS + 300); /* it takes nothing, but it is not silent */
    assert_int_equal (pumped.lost, 0);
    assert_int_equal (noted (&notes.peers[PEER_LOST]), 0);
    assert_int_equal (noted (&notes.handed[MESSAGE_CREDIT]), 1);
    assert_int_equal (noted (&notes.requests), 0); /* not even what goes elsewhere */
    assert_int_equal (noted (&notes.drained), 0);
    pumped.held = false;
    PUMP_UNTIL (pumped.plain == FLOOD);
    PUMP_UNTIL (noted (&notes.handed[MESSAGE_CREDIT]) == 2 && noted (&notes.requests) == 1);
    PUMP_UNTIL (noted (&notes.drained) == 2); /* by itself, and because it was asked to */
    assert_int_equal (pumped.plain, FLOOD);
}

static void test_who_comes_back_while_a_turn_is_held_is_told_with_a_turn (void **state)
{
    (void) state;
    start_remote ();
    pumped.held = true;
    tell (DO_FLOOD);
    PUMP_UNTIL (noted (&notes.handed[MESSAGE_CREDIT]) == 1);
    unsigned turns = noted (&notes.peer_turns);
    unsigned commits = noted (&notes.commits);
    bus_destroy (&fixture.stats);
    fixture.stats = open_bus (ROLE_STATS, stats_endpoint, ROLE_SHELL, NULL);
    PUMP_UNTIL (noted (&notes.peers[PEER_RESTARTED]) == 1 && noted (&notes.peer_turns) > turns);
    PUMP_UNTIL (noted (&notes.commits) > commits); /* what it asks for then waits for the disk, too */
    assert_int_equal (noted (&notes.requests), 0);
    pumped.held = false;
    PUMP_UNTIL (pumped.plain == FLOOD && noted (&notes.requests) == 1);
}

static void test_a_held_turn_is_not_waited_for_in_a_hot_loop (void **state)
{
    (void) state;
    start_remote ();
    pumped.held = true;
    tell (DO_FLOOD);
    PUMP_UNTIL (noted (&notes.handed[MESSAGE_CREDIT]) == 1);
    bus_destroy (&fixture.peer); /* it is gone; nobody speaks to the shell any more */
    uint64_t before_ms = cpu_ms ();
    bus_wait (fixture.stats, NULL, 0, 300, true);
    for (unsigned i = 0; i < 10; i++)
        bus_wait (fixture.stats, NULL, 0, 30, false);
    assert_true (cpu_ms () - before_ms < 150);
    uint64_t began_ms = now_ms ();
    shell_destroy (&fixture.shell);
    assert_true (now_ms () - began_ms < 1000);
    fixture.peer = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, core_endpoint);
}

static void test_a_turn_held_for_one_who_is_gone_ends_when_it_comes_back (void **state)
{
    (void) state;
    start_remote ();
    pumped.held = true;
    tell (DO_FLOOD);
    PUMP_UNTIL (noted (&notes.handed[MESSAGE_CREDIT]) == 1);
    unsigned commits = noted (&notes.commits);
    bus_destroy (&fixture.peer);
    pumped.held = false;
    fixture.peer = open_bus (ROLE_INGEST, NULL, ROLE_DECISION, core_endpoint);
    PUMP_UNTIL (noted (&notes.peers[PEER_RESTARTED]) == 1 && noted (&notes.requests) == 1);
    assert_true (noted (&notes.commits) > commits); /* what the core asks for then is committed, too */
    tell (DO_NOTHING);
    PUMP_UNTIL (noted (&notes.handed[MESSAGE_CREDIT]) == 2);
    assert_int_equal (pumped.plain, 0); /* it was for the one before */
}

static void test_the_end_is_told_when_the_last_words_have_arrived (void **state)
{
    (void) state;
    start_remote ();
    pumped.held = true;
    tell (DO_LAST_WORD_AND_DRAINED);
    PUMP_UNTIL (noted (&notes.handed[MESSAGE_CREDIT]) == 1);
    pump_for (150);
    assert_int_equal (noted (&notes.drained), 0);
    pumped.held = false;
    uint64_t began_ms = now_ms ();
    PUMP_UNTIL (pumped.settled == 1);
    PUMP_UNTIL (noted (&notes.drained) == 1);
    assert_true (now_ms () - began_ms < 2000);
}

static void test_the_end_does_not_wait_for_one_who_never_hears_it (void **state)
{
    (void) state;
    start_remote ();
    pumped.held = true;
    tell (DO_LAST_WORD_AND_DRAINED);
    PUMP_UNTIL (noted (&notes.drained) == 1);
    assert_int_equal (pumped.settled, 0);
}

static void test_counts_wait_for_stats_and_go_out_on_their_own (void **state)
{
    (void) state;
    start_remote ();
    pumped.stats_held = true;
    for (unsigned i = 1; i <= 100; i++) { /* a turn each, and no message each */
        tell (DO_COUNT);
        PUMP_UNTIL (noted (&notes.handed[MESSAGE_CREDIT]) == i);
    }
    assert_int_equal (pumped.counts, 0);
    pumped.stats_held = false;
    PUMP_UNTIL (pumped.counted == 800); /* though nothing else happens */
    assert_in_range (pumped.counts, 1, 64);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_start_comes_first_and_once, begin, end),
        cmocka_unit_test_setup_teardown (test_a_batch_is_handed_over_value_by_value_before_the_turn, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_what_a_turn_puts_for_one_peer_is_joined, begin, end),
        cmocka_unit_test_setup_teardown (test_nothing_that_was_not_asked_turns_the_core, begin, end),
        cmocka_unit_test_setup_teardown (test_a_record_is_committed_before_anything_of_its_turn_leaves, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_a_journal_that_refuses_holds_everything_back, begin, end),
        cmocka_unit_test_setup_teardown (test_turns_with_much_to_remember_are_gathered, begin, end),
        cmocka_unit_test_setup_teardown (test_turns_with_little_to_remember_follow_at_once, begin, end),
        cmocka_unit_test_setup_teardown (test_turns_of_who_has_little_in_flight_follow_at_once, begin, end),
        cmocka_unit_test_setup_teardown (test_turns_without_a_journal_follow_at_once, begin, end),
        cmocka_unit_test_setup_teardown (test_a_journal_that_refuses_is_not_waited_for_in_a_hot_loop, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_the_end_of_an_actor_is_told_behind_its_last_record, begin, end),
        cmocka_unit_test_setup_teardown (test_destroyed_while_the_journal_refuses, begin, end),
        cmocka_unit_test_setup_teardown (test_a_start_whose_commit_is_refused_is_made_up_for, begin, end),
        cmocka_unit_test_setup_teardown (test_ready_says_why_while_the_journal_fails_and_no_longer, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_what_is_recalled_comes_before_the_turn, begin, end),
        cmocka_unit_test_setup_teardown (test_what_is_asked_in_a_turn_is_answered_before_another, begin, end),
        cmocka_unit_test_setup_teardown (test_without_a_journal_nothing_is_recalled, begin, end),
        cmocka_unit_test_setup_teardown (test_a_journal_that_cannot_be_read_holds_the_turn_before_its_end,
                                         begin, end),
        cmocka_unit_test_setup_teardown (test_destroyed_while_the_journal_cannot_be_read, begin, end),
        cmocka_unit_test_setup_teardown (test_the_journal_is_tended_now_and_then_between_transactions, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_posts_of_other_threads_are_all_handed_over_and_answered, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_an_answer_waits_until_what_it_tells_of_is_on_disk, begin, end),
        cmocka_unit_test_setup_teardown (test_too_many_posts_are_refused_and_the_rest_is_not_lost, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_a_post_that_breaks_a_limit_is_refused, begin, end),
        cmocka_unit_test_setup_teardown (test_destroyed_with_posts_that_wait, begin, end),
        cmocka_unit_test_setup_teardown (test_timers_fire_once_in_the_order_of_their_times, begin, end),
        cmocka_unit_test_setup_teardown (test_a_request_is_sent_and_answered, begin, end),
        cmocka_unit_test_setup_teardown (test_a_request_that_is_cancelled_is_not_answered, begin, end),
        cmocka_unit_test_setup_teardown (test_health_is_noticed_and_shows_in_ready, begin, end),
        cmocka_unit_test_setup_teardown (test_counts_reach_stats_and_the_metrics, begin, end),
        cmocka_unit_test_setup_teardown (test_a_datagram_goes_to_statsd, begin, end),
        cmocka_unit_test_setup_teardown (test_an_answer_to_nobody_is_no_reason_to_end, begin, end),
        cmocka_unit_test_setup_teardown (test_rubbish_is_counted_and_dropped, begin, end),
        cmocka_unit_test_setup_teardown (test_a_bad_value_in_a_batch_spares_the_others, begin, end),
        cmocka_unit_test_setup_teardown (test_a_flood_of_frames_is_handed_over_whole, begin, end),
        cmocka_unit_test_setup_teardown (test_drain_is_handed_over_once_and_drained_is_noticed, begin, end),
        cmocka_unit_test_setup_teardown (test_an_order_before_the_thread_runs_is_not_lost, begin, end),
        cmocka_unit_test_setup_teardown (test_destroyed_with_a_request_under_way, begin, end),
        cmocka_unit_test_setup_teardown (test_destroyed_without_having_run, begin, end),
        cmocka_unit_test_setup_teardown (test_an_endpoint_that_is_taken_is_named, begin, end),
        cmocka_unit_test_setup_teardown (test_peers_that_come_and_come_back_are_told_with_a_turn,
                                         begin_remote, end_remote),
        cmocka_unit_test_setup_teardown (test_a_full_hop_holds_the_turn_and_nothing_is_lost, begin_remote,
                                         end_remote),
        cmocka_unit_test_setup_teardown (test_who_comes_back_while_a_turn_is_held_is_told_with_a_turn,
                                         begin_remote, end_remote),
        cmocka_unit_test_setup_teardown (test_a_held_turn_is_not_waited_for_in_a_hot_loop, begin_remote,
                                         end_remote),
        cmocka_unit_test_setup_teardown (test_a_turn_held_for_one_who_is_gone_ends_when_it_comes_back,
                                         begin_remote, end_remote),
        cmocka_unit_test_setup_teardown (test_the_end_is_told_when_the_last_words_have_arrived, begin_remote,
                                         end_remote),
        cmocka_unit_test_setup_teardown (test_the_end_does_not_wait_for_one_who_never_hears_it, begin_remote,
                                         end_remote),
        cmocka_unit_test_setup_teardown (test_counts_wait_for_stats_and_go_out_on_their_own, begin_remote,
                                         end_remote),
    };
    if (!http_client_global_init ())
        return 1;
    return cmocka_run_group_tests (tests, NULL, NULL);
}
