/*  test_desk.c - people who ask a running decision: what they get, and what they
    cannot break. The decision is a thread that answers, or does not. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "actors/base/bus.h"
#include "actors/base/desk.h"
#include "actors/base/journal_file.h"
#include "actors/base/journal_read.h"
#include "actors/base/monitor.h"
#include "actors/base/store.h"
#include "proto/codec.h"
#include "proto/text.h"

enum { DEADLINE_MS = 60000, SHORT_MS = 20, RECORDS = 2000, RUBBISH_ROUNDS = 300, FLOOD = 500 };

static char directory[64];
static char reason[2048];
static void *context;   /* of the process */
static void *elsewhere; /* of who asks */
static struct store *writer;
static struct monitor *monitor;
static struct desk *desk;
static struct desk_caller *caller;

/*  How the decision behaves. */
enum habit { ANSWERS, REFUSES, HAS_NO_ROOM, IS_SILENT, TAKES_NOTHING };

/*  The decision: what it was told last, and who answers it. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t told;
    pthread_t thread;
    enum habit habit;
    bool stop;
    unsigned posts;
    unsigned answered;
    struct message last; /* with texts of its own: */
    char user[64], who[64], reward[64], currency[64];
} decision = { .lock = PTHREAD_MUTEX_INITIALIZER, .told = PTHREAD_COND_INITIALIZER };

static struct text kept (char *memory, struct text text)
{
    snprintf (memory, 64, "%.*s", (int) text.size, text.size ? text.data : "");
    return text_of (memory);
}

static bool post (void *unused, const struct message *message)
{
    (void) unused;
    pthread_mutex_lock (&decision.lock);
    bool taken = decision.habit != TAKES_NOTHING;
    if (taken) {
        decision.last = *message;
        if (message->id == MESSAGE_RETRY) {
            decision.last.retry.user = kept (decision.user, message->retry.user);
            decision.last.retry.who = kept (decision.who, message->retry.who);
            decision.last.retry.reward = kept (decision.reward, message->retry.reward);
            decision.last.retry.currency = kept (decision.currency, message->retry.currency);
        } else {
            decision.last.drop.user = kept (decision.user, message->drop.user);
            decision.last.drop.who = kept (decision.who, message->drop.who);
            decision.last.drop.reward = kept (decision.reward, message->drop.reward);
        }
        decision.posts++;
        pthread_cond_signal (&decision.told);
    }
    pthread_mutex_unlock (&decision.lock);
    return taken;
}

static uint64_t last_request (void)
{
    return decision.last.id == MESSAGE_RETRY ? decision.last.retry.request : decision.last.drop.request;
}

static void answer (uint64_t request, enum habit habit)
{
    struct message done = { .id = MESSAGE_DONE };
    done.done.request = request;
    done.done.result = habit == ANSWERS ? RESULT_OK : RESULT_REFUSED;
    done.done.later = habit == HAS_NO_ROOM;
    done.done.reason = text_of (habit == ANSWERS ? "" : "it says no");
    desk_done (desk, &done);
}

static void *decide (void *unused)
{
    (void) unused;
    pthread_mutex_lock (&decision.lock);
    while (!decision.stop) {
        if (decision.answered < decision.posts && decision.habit != IS_SILENT) {
            decision.answered = decision.posts;
            answer (last_request (), decision.habit);
        } else {
            pthread_cond_wait (&decision.told, &decision.lock);
        }
    }
    pthread_mutex_unlock (&decision.lock);
    return NULL;
}

static void behave (enum habit habit)
{
    pthread_mutex_lock (&decision.lock);
    decision.habit = habit;
    decision.answered = decision.posts;
    pthread_mutex_unlock (&decision.lock);
}

/*  ---- the journal and the desk ------------------------------------------- */

static void run_sql (const char *sql)
{
    if (!store_run (writer, sql))
        fail_msg ("%s: %s", sql, store_reason (writer));
}

/*  Given ones, but the tenth and every tenth behind it is refused or uncertain. */
static void make_journal (void)
{
    char path[JOURNAL_PATH_SIZE];
    assert_true (journal_file (path, sizeof path, directory, 0, "db"));
    writer = journal_file_open (path, reason, sizeof reason);
    assert_non_null (writer);
    char sql[512];
    snprintf (sql, sizeof sql,
              "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
              "INSERT INTO grants SELECT i, i + 100, 1700000000000, i + 1000, 'user' || i, 'promo1', 10, "
              "'gold', CASE WHEN i %% 10 THEN 2 WHEN i %% 20 THEN 3 ELSE 4 END, 1, 2, 1, '', '' FROM n",
              RECORDS);
    run_sql (sql);
}

static void open_desk (uint32_t answer_ms)
{
    const struct desk_options options = {
        .context = context, .state_dir = directory, .answer_ms = answer_ms, .monitor = monitor, .post = post
    };
    desk = desk_new (&options, reason, sizeof reason);
    if (!desk)
        fail_msg ("%s", reason);
    assert_true (desk_start (desk));
}

static int begin (void **state)
{
    (void) state;
    snprintf (directory, sizeof directory, "/tmp/test_desk_XXXXXX");
    if (!mkdtemp (directory))
        return -1;
    context = bus_context_new ();
    elsewhere = bus_context_new ();
    monitor = monitor_new ();
    make_journal ();
    decision.habit = ANSWERS;
    decision.stop = false;
    decision.posts = decision.answered = 0;
    caller = desk_caller_new (elsewhere, directory, 0, reason, sizeof reason);
    return caller && pthread_create (&decision.thread, NULL, decide, NULL) == 0 ? 0 : -1;
}

static int end (void **state)
{
    (void) state;
    static const char *const endings[] = { "db", "db-wal", "db-shm", "sock" };
    desk_stop (desk);
    pthread_mutex_lock (&decision.lock);
    decision.stop = true;
    pthread_cond_signal (&decision.told);
    pthread_mutex_unlock (&decision.lock);
    pthread_join (decision.thread, NULL);
    desk_destroy (&desk);
    desk_caller_destroy (&caller);
    bus_context_destroy (&context);
    bus_context_destroy (&elsewhere);
    monitor_destroy (&monitor);
    store_close (&writer);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char path[JOURNAL_PATH_SIZE];
        assert_true (journal_file (path, sizeof path, directory, 0, endings[i]));
        unlink (path);
    }
    return rmdir (directory);
}

/*  ---- asking ------------------------------------------------------------- */

/*  Looks at everything; how many there were. */
static unsigned look_at_all (enum which_listed which, const char *user)
{
    struct message question = { .id = MESSAGE_LOOK };
    struct message looked = { .looked.more = 1 };
    unsigned count = 0;
    uint64_t before = 0;
    question.look = (struct look){ .which = which, .user = text_of (user) };
    while (looked.looked.more) {
        struct raw listed;
        struct decoder decoder;
        struct message value;
        assert_true (desk_ask (caller, &question, DEADLINE_MS, &looked, &listed));
        assert_int_equal (looked.id, MESSAGE_LOOKED);
        assert_int_equal (looked.looked.reason.size, 0);
        question.look.after = looked.looked.after;
        if (listed.size)
            assert_int_equal (decode_begin (&decoder, listed.data, listed.size, false), DECODE_OK);
        while (listed.size && decode_next (&decoder, &value) == DECODE_OK) {
            assert_true (value.listed.grant > before);
            before = value.listed.grant;
            count++;
        }
    }
    return count;
}

/*  This thread and the desk's see what the other did. */
static void meet (void)
{
    pthread_mutex_lock (&decision.lock);
    pthread_mutex_unlock (&decision.lock);
}

/*  An order, and what is answered. */
static struct answered order (enum message_id id, uint64_t grant)
{
    static char why[REASON_SIZE_MAX + 1];
    struct message question = { .id = id };
    struct message said;
    struct raw listed;
    if (id == MESSAGE_REDO)
        question.redo = (struct redo){ .grant = grant, .who = TEXT_LITERAL ("ann") };
    else
        question.forgo = (struct forgo){ .grant = grant, .who = TEXT_LITERAL ("ann") };
    meet ();
    assert_true (desk_ask (caller, &question, DEADLINE_MS, &said, &listed));
    assert_int_equal (said.id, MESSAGE_ANSWERED);
    struct answered found = said.answered;
    snprintf (why, sizeof why, "%.*s", (int) found.reason.size, found.reason.size ? found.reason.data : "");
    found.reason = text_of (why);
    meet ();
    return found;
}

static void assert_refused (struct answered answered, const char *why, bool later)
{
    assert_int_equal (answered.result, RESULT_REFUSED);
    assert_int_equal (answered.later, later);
    if (!strstr (answered.reason.data, why))
        fail_msg ("\"%s\" instead of \"%s\"", answered.reason.data, why);
}

static void test_what_the_journal_knows (void **state)
{
    (void) state;
    open_desk (DEADLINE_MS);
    assert_int_equal (look_at_all (LIST_ALL, ""), RECORDS);
    assert_int_equal (look_at_all (LIST_PARKED, ""), RECORDS / 10);
    assert_int_equal (look_at_all (LIST_ALL, "user7"), 1);
    assert_int_equal (look_at_all (LIST_ALL, "nobody"), 0);
}

static void test_who_asks_first_waits_for_the_desk (void **state)
{
    (void) state;
    struct message question = { .id = MESSAGE_LOOK }, said;
    struct raw listed;
    assert_false (desk_ask (caller, &question, SHORT_MS, &said, &listed));
    open_desk (DEADLINE_MS);
    /*  The late answer to the first question is not taken for one to the second. */
    assert_int_equal (look_at_all (LIST_PARKED, ""), RECORDS / 10);
}

static void test_the_socket_is_for_its_owner_only (void **state)
{
    (void) state;
    struct stat found;
    char path[JOURNAL_PATH_SIZE];
    open_desk (DEADLINE_MS);
    assert_true (journal_file (path, sizeof path, directory, 0, "sock"));
    assert_int_equal (stat (path, &found), 0);
    assert_int_equal (found.st_mode & 0777, 0600);
}

static void test_a_directory_that_cannot_be (void **state)
{
    (void) state;
    struct desk_options options = { .context = context, .answer_ms = 1, .post = post };
    char deep[2 * JOURNAL_PATH_SIZE];
    memset (deep, 'a', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    const char *const places[] = { "/nowhere/at/all", deep };
    for (size_t i = 0; i < 2; i++) {
        options.state_dir = places[i];
        assert_null (desk_new (&options, reason, sizeof reason));
        assert_non_null (strstr (reason, i ? "aaaa" : "/nowhere/at/all/journal-0.sock"));
    }
}

static void test_the_decision_is_told_all_it_needs (void **state)
{
    (void) state;
    open_desk (DEADLINE_MS);
    struct answered answered = order (MESSAGE_REDO, 10);
    assert_int_equal (answered.result, RESULT_OK);
    assert_int_equal (decision.last.id, MESSAGE_RETRY);
    assert_int_equal (decision.last.trace, 1010);
    const struct retry *retry = &decision.last.retry;
    assert_int_equal (retry->grant, 10);
    assert_int_equal (retry->position, 110);
    assert_int_equal (retry->timestamp, 1700000000000);
    assert_int_equal (retry->amount, 10);
    assert_string_equal (retry->user.data, "user10");
    assert_string_equal (retry->reward.data, "promo1");
    assert_string_equal (retry->currency.data, "gold");
    assert_string_equal (retry->who.data, "ann");
    answered = order (MESSAGE_FORGO, 20);
    assert_int_equal (answered.result, RESULT_OK);
    assert_int_equal (decision.last.id, MESSAGE_DROP);
    assert_int_equal (decision.last.drop.grant, 20);
    assert_string_equal (decision.last.drop.user.data, "user20");
    assert_string_equal (decision.last.drop.reward.data, "promo1");
    assert_string_equal (decision.last.drop.who.data, "ann");
}

static void test_only_what_waits_for_a_person_reaches_the_decision (void **state)
{
    (void) state;
    struct message question = { .id = MESSAGE_REDO }, said;
    struct raw listed;
    open_desk (DEADLINE_MS);
    run_sql ("UPDATE grants SET state = 1 WHERE id = 30");
    run_sql ("UPDATE grants SET state = 5 WHERE id = 40");
    assert_refused (order (MESSAGE_REDO, 1), "it was given", false);
    assert_refused (order (MESSAGE_FORGO, 30), "it is being tried already", false);
    assert_refused (order (MESSAGE_REDO, 40), "it was dropped", false);
    assert_refused (order (MESSAGE_REDO, RECORDS + 1), "no such record", false);
    assert_refused (order (MESSAGE_FORGO, GRANT_MAX), "no such record", false);
    assert_refused (order (MESSAGE_FORGO, 0), "no such record", false);
    question.redo.grant = 10;
    assert_true (desk_ask (caller, &question, DEADLINE_MS, &said, &listed));
    assert_refused (said.answered, "nobody is named", false);
    assert_int_equal (decision.posts, 0);
}

static void test_the_decision_says_no (void **state)
{
    (void) state;
    open_desk (DEADLINE_MS);
    behave (REFUSES);
    assert_refused (order (MESSAGE_REDO, 10), "it says no", false);
    behave (HAS_NO_ROOM);
    assert_refused (order (MESSAGE_REDO, 10), "it says no", true);
    behave (TAKES_NOTHING);
    assert_refused (order (MESSAGE_REDO, 10), "try later", true);
    behave (ANSWERS);
    assert_int_equal (order (MESSAGE_REDO, 10).result, RESULT_OK);
}

/*  What it was asked to do may still happen, so the grant is left alone until it
    says so. */
static void test_the_decision_does_not_answer (void **state)
{
    (void) state;
    open_desk (SHORT_MS);
    monitor_journal (monitor, ROLE_DECISION, "disk is full");
    behave (IS_SILENT);
    struct answered answered = order (MESSAGE_REDO, 10);
    assert_int_equal (answered.result, RESULT_UNCERTAIN);
    assert_string_equal (answered.reason.data, "the decision does not answer: disk is full");
    uint64_t late = last_request ();
    assert_refused (order (MESSAGE_FORGO, 10), "seen to already", false);
    answer (late, ANSWERS);
    behave (ANSWERS);
    uint64_t deadline = (uint64_t) time (NULL) + DEADLINE_MS / 1000;
    do {
        answered = order (MESSAGE_REDO, 10);
        assert_true ((uint64_t) time (NULL) < deadline);
    } while (answered.result != RESULT_OK);
}

static void test_orders_that_wait_are_bounded (void **state)
{
    (void) state;
    open_desk (1);
    behave (IS_SILENT);
    for (uint64_t i = 1; i <= DESK_ORDERS_MAX; i++)
        assert_int_equal (order (MESSAGE_REDO, 10 * i).result, RESULT_UNCERTAIN);
    assert_refused (order (MESSAGE_REDO, 10 * (DESK_ORDERS_MAX + 1)), "try later", true);
    assert_int_equal (decision.posts, DESK_ORDERS_MAX);
    assert_int_equal (look_at_all (LIST_PARKED, ""), RECORDS / 10);
}

static void test_a_journal_that_cannot_be_read (void **state)
{
    (void) state;
    struct message question = { .id = MESSAGE_LOOK }, said;
    struct raw listed;
    open_desk (DEADLINE_MS);
    run_sql ("ALTER TABLE grants RENAME TO others");
    assert_true (desk_ask (caller, &question, DEADLINE_MS, &said, &listed));
    assert_true (said.looked.reason.size > 0);
    assert_int_equal (listed.size, 0);
    assert_refused (order (MESSAGE_REDO, 10), "no journal of this version", false);
    run_sql ("ALTER TABLE others RENAME TO grants");
    assert_int_equal (look_at_all (LIST_PARKED, ""), RECORDS / 10);
}

/*  ---- those who mean no good --------------------------------------------- */

static void *stranger (void)
{
    char endpoint[128];
    void *socket = zmq_socket (elsewhere, ZMQ_DEALER);
    int linger = 0;
    assert_non_null (socket);
    snprintf (endpoint, sizeof endpoint, "ipc://%s/journal-0.sock", directory);
    assert_int_equal (zmq_setsockopt (socket, ZMQ_LINGER, &linger, sizeof linger), 0);
    assert_int_equal (zmq_connect (socket, endpoint), 0);
    return socket;
}

static void test_rubbish_is_dropped (void **state)
{
    (void) state;
    static uint8_t bytes[64 * 1024];
    unsigned seed = (unsigned) time (NULL);
    print_message ("seed %u\n", seed);
    open_desk (DEADLINE_MS);
    void *socket = stranger ();
    struct message credit = { .id = MESSAGE_CREDIT };
    struct packer packer;
    packer_init (&packer, bytes, sizeof bytes);
    assert_int_equal (encode_message (&packer, &credit), ENCODE_OK); /* for somebody else */
    zmq_send (socket, bytes, packer.size, 0);
    for (unsigned i = 0; i < RUBBISH_ROUNDS; i++) {
        size_t size = (size_t) rand_r (&seed) % (i % 50 ? 100 : sizeof bytes);
        for (size_t j = 0; j < size; j++)
            bytes[j] = (uint8_t) rand_r (&seed);
        zmq_send (socket, bytes, size, i % 3 ? 0 : ZMQ_SNDMORE);
    }
    zmq_send (socket, "", 0, 0);
    assert_int_equal (look_at_all (LIST_ALL, ""), RECORDS);
    assert_int_equal (decision.posts, 0);
    zmq_close (socket);
}

/*  Who asks for everything and takes nothing loses answers; others get theirs. */
static void test_one_who_does_not_read (void **state)
{
    (void) state;
    uint8_t bytes[256];
    struct message question = { .id = MESSAGE_LOOK };
    struct packer packer;
    open_desk (DEADLINE_MS);
    packer_init (&packer, bytes, sizeof bytes);
    assert_int_equal (encode_message (&packer, &question), ENCODE_OK);
    void *socket = stranger ();
    for (unsigned i = 0; i < FLOOD; i++)
        zmq_send (socket, bytes, packer.size, ZMQ_DONTWAIT);
    assert_int_equal (look_at_all (LIST_ALL, ""), RECORDS);
    assert_int_equal (order (MESSAGE_REDO, 10).result, RESULT_OK);
    zmq_close (socket);
}

static void test_a_stopped_desk_takes_answers_and_says_nothing (void **state)
{
    (void) state;
    struct message question = { .id = MESSAGE_LOOK }, said;
    struct raw listed;
    open_desk (SHORT_MS);
    assert_int_equal (look_at_all (LIST_PARKED, ""), RECORDS / 10);
    desk_stop (desk);
    answer (1, ANSWERS);
    assert_false (desk_ask (caller, &question, SHORT_MS, &said, &listed));
}

#define AT_THE_DESK(test) cmocka_unit_test_setup_teardown (test, begin, end)

int main (void)
{
    const struct CMUnitTest tests[] = {
        AT_THE_DESK (test_what_the_journal_knows),
        AT_THE_DESK (test_who_asks_first_waits_for_the_desk),
        AT_THE_DESK (test_the_socket_is_for_its_owner_only),
        AT_THE_DESK (test_a_directory_that_cannot_be),
        AT_THE_DESK (test_the_decision_is_told_all_it_needs),
        AT_THE_DESK (test_only_what_waits_for_a_person_reaches_the_decision),
        AT_THE_DESK (test_the_decision_says_no),
        AT_THE_DESK (test_the_decision_does_not_answer),
        AT_THE_DESK (test_orders_that_wait_are_bounded),
        AT_THE_DESK (test_a_journal_that_cannot_be_read),
        AT_THE_DESK (test_rubbish_is_dropped),
        AT_THE_DESK (test_one_who_does_not_read),
        AT_THE_DESK (test_a_stopped_desk_takes_answers_and_says_nothing),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
