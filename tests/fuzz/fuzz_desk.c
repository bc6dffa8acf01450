/*  fuzz_desk.c - any bytes as what somebody asks a running decision.

    The bytes are a script of questions in any number of frames, sent to the real
    desk over its socket; behind them comes a good one. Whatever they are: what the
    desk answers is a message, orders are for grants that wait for a person, and the
    good question has its answer.
*/
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zmq.h>

#include "actors/base/bus.h"
#include "actors/base/desk.h"
#include "actors/base/journal_file.h"
#include "actors/base/journal_read.h"
#include "actors/base/log.h"
#include "actors/base/store.h"
#include "proto/codec.h"
#include "proto/text.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize (int *argc, char ***argv);

/*  Answers that are not taken are dropped, so few questions are asked at once, and the
    good one again when nothing comes. */
enum { RECORDS = 40, QUESTIONS_MAX = 3, ANSWER_WAIT_MS = 200, TRIES_MAX = 100 };

static const uint64_t good_request = UINT64_C (0x600d600d600d600d);
static char directory[64];
static void *context;
static void *asker; /* DEALER */
static struct store *writer;
static struct desk *desk;
static unsigned posted;

static void leave (void)
{
    static const char *const endings[] = { "db", "db-wal", "db-shm", "sock", "lock" };
    char path[JOURNAL_PATH_SIZE];
    desk_destroy (&desk);
    store_close (&writer);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (journal_file (path, sizeof path, directory, 0, endings[i]))
            unlink (path);
    rmdir (directory);
}

/*  Given ones, every fourth refused or uncertain. */
static void make_journal (void)
{
    char path[JOURNAL_PATH_SIZE], sql[512], reason[512];
    bool good = journal_file (path, sizeof path, directory, 0, "db");
    writer = good ? journal_file_open (path, reason, sizeof reason) : NULL;
    snprintf (
        sql, sizeof sql,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
        "INSERT INTO grants SELECT i, i + 100, 1700000000000, i + 1000, 'user' || i %% 7, 'promo1', 10, "
        "'gold', CASE WHEN i %% 4 THEN 2 WHEN i %% 8 THEN 3 ELSE 4 END, 1, 2, 1, '', '' FROM n",
        RECORDS);
    if (!writer || !store_run (writer, sql))
        abort ();
}

/*  The decision: it answers at once, takes no more, or says nothing. */
static bool post (void *unused, const struct message *message)
{
    (void) unused;
    bool again = message->id == MESSAGE_RETRY;
    assert (again || message->id == MESSAGE_DROP);
    uint64_t grant = again ? message->retry.grant : message->drop.grant;
    struct text who = again ? message->retry.who : message->drop.who;
    assert (grant >= 1 && grant <= RECORDS && grant % 4 == 0 && who.size > 0);
    if (++posted % 4 == 0)
        return false;
    struct message done = { .id = MESSAGE_DONE };
    done.done.request = again ? message->retry.request : message->drop.request;
    done.done.reason = TEXT_LITERAL ("it says so");
    if (posted % 4 != 1)
        desk_done (desk, &done);
    return true;
}

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void) argc;
    (void) argv;
    char endpoint[JOURNAL_PATH_SIZE + 8] = "ipc://", reason[512];
    log_open (LOG_FATAL, LOG_FORMAT_TEXT);
    snprintf (directory, sizeof directory, "/dev/shm/fuzz-desk-XXXXXX");
    if (!mkdtemp (directory))
        abort ();
    atexit (leave);
    make_journal ();
    context = bus_context_new ();
    const struct desk_options options = {
        .context = context, .state_dir = directory, .answer_ms = 1, .post = post
    };
    desk = context ? desk_new (&options, reason, sizeof reason) : NULL;
    asker = context ? zmq_socket (context, ZMQ_DEALER) : NULL;
    int wait_ms = ANSWER_WAIT_MS, linger_ms = 0;
    if (!desk || !desk_start (desk) || !asker ||
        !journal_file (endpoint + 6, sizeof endpoint - 6, directory, 0, "sock") ||
        zmq_setsockopt (asker, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms) != 0 ||
        zmq_setsockopt (asker, ZMQ_LINGER, &linger_ms, sizeof linger_ms) != 0 ||
        zmq_connect (asker, endpoint) != 0)
        abort ();
    return 0;
}

static void send_frame (const void *bytes, size_t size, bool more)
{
    int sent;
    do
        sent = zmq_send (asker, bytes, size, more ? ZMQ_SNDMORE : 0);
    while (sent < 0 && zmq_errno () == EINTR);
    assert (sent >= 0);
}

/*  A question out of the script: one frame is the rule. */
static void ask (const uint8_t **at, const uint8_t *end)
{
    uint8_t how = *(*at)++;
    unsigned frames = how < 16 ? 1U + how % 4 : 1;
    for (unsigned i = 0; i < frames; i++) {
        size_t size = *at < end ? *(*at)++ : 0;
        size_t left = (size_t) (end - *at);
        size = size < left ? size : left;
        send_frame (*at, size, i + 1 < frames);
        *at += size;
    }
}

static void ask_well (void)
{
    uint8_t memory[64];
    struct packer packer;
    struct message question = { .id = MESSAGE_LOOK };
    question.look.request = good_request;
    packer_init (&packer, memory, sizeof memory);
    enum encode_result result = encode_message (&packer, &question);
    assert (result == ENCODE_OK);
    send_frame (packer.data, packer.size, false);
}

/*  Takes one frame of an answer, asking again while none comes; true when it answers
    the good question. */
static bool take_answer (bool *more)
{
    zmq_msg_t frame;
    struct decoder decoder;
    struct message message = { .id = MESSAGE_LOOK };
    zmq_msg_init (&frame);
    int size = zmq_msg_recv (&frame, asker, 0);
    for (unsigned tries = 1; size < 0; tries++) {
        assert (tries <= TRIES_MAX);
        if (zmq_errno () == EAGAIN)
            ask_well ();
        size = zmq_msg_recv (&frame, asker, 0);
    }
    assert (size > 0);
    enum decode_result result = decode_begin (&decoder, zmq_msg_data (&frame), (size_t) size, false);
    assert (result == DECODE_OK);
    while ((result = decode_next (&decoder, &message)) != DECODE_END)
        assert (result == DECODE_OK);
    assert (message.id == MESSAGE_LOOKED || message.id == MESSAGE_LISTED || message.id == MESSAGE_ANSWERED);
    bool good = message.id == MESSAGE_LOOKED && message.looked.request == good_request;
    assert (message.id != MESSAGE_LOOKED || message.looked.reason.size == 0);
    *more = zmq_msg_more (&frame);
    zmq_msg_close (&frame);
    return good;
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    const uint8_t *at = bytes, *end = bytes + size;
    for (unsigned i = 0; at < end && i < QUESTIONS_MAX; i++)
        ask (&at, end);
    ask_well ();
    bool more, good = false;
    do {
        good |= take_answer (&more);
    } while (!good || more);
    return 0;
}
