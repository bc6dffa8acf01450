/*  desk.c - see desk.h. */

#include "actors/base/desk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zmq.h>

#include "actors/base/clock.h"
#include "actors/base/journal_read.h"
#include "actors/base/log.h"
#include "actors/base/monitor.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    IDENTITY_SIZE_MAX = 255,   /* of ZeroMQ */
    QUESTION_SIZE_MAX = 16384, /* a user id and a few numbers */
    ANSWER_SIZE_MAX = 1024,    /* without the grants */
    QUESTIONS_UNREAD_MAX = 16, /* of one who asks; then it waits */
    ANSWERS_UNREAD_MAX = 4,    /* of one who asks; more are dropped */
    TURN_MAX = 16,             /* questions between two looks at what else is due */
    IDLE_MS = 5000,            /* the journal is closed when nobody asked for so long */
    LAST_WORD_MS = 200,        /* answers that are under way at the end have so long */
    WAKES_MAX = 100,           /* tries to wake the thread that is to end */
    RUBBISH_LOG_MS = 60000,    /* at most one line about rubbish a minute */
    STACK_SIZE = 512 * 1024
};

static const char self_name[] = "desk";

/*  Who asked, as ZeroMQ names them. */
struct caller {
    uint8_t identity[IDENTITY_SIZE_MAX];
    size_t size;
    uint64_t request;
};

/*  What the decision was asked to do. It stays until the decision has answered: until
    then nobody knows what became of the grant. */
struct order {
    struct caller caller;
    uint64_t number; /* of the RETRY or DROP; 0: free */
    uint64_t grant;
    uint64_t due_ms;
    bool told; /* that the decision does not answer */
};

/*  A DONE, on its way from the decision's thread. */
struct answer {
    struct done done;
    char reason[REASON_SIZE_MAX + 1];
};

struct desk {
    struct desk_options options;
    char journal[JOURNAL_PATH_SIZE];
    void *socket;                  /* ROUTER */
    struct journal_reader *reader; /* while somebody asks */
    uint64_t read_ms;              /* when somebody did last */
    struct order orders[DESK_ORDERS_MAX];
    uint64_t numbered; /* orders so far */
    uint64_t rubbish;
    uint64_t rubbish_logged_ms;

    pthread_t thread;
    bool running;
    int wake; /* eventfd */
    atomic_bool stop;

    pthread_mutex_t lock;
    struct answer answers[DESK_ORDERS_MAX];
    unsigned answer_count;
};

static bool set_int (void *socket, int option, int value)
{
    return zmq_setsockopt (socket, option, &value, sizeof value) == 0;
}

/*  ---- answering ---------------------------------------------------------- */

/*  Says for whom the next frame is; false when that one is gone, or takes no
    answers. ZeroMQ learns that answers were taken when it looks for news, which it
    does not do at every call. */
static bool address (struct desk *self, const struct caller *caller)
{
    int events;
    size_t size = sizeof events;
    for (unsigned tries = 0; tries < 2; tries++) {
        if (zmq_send (self->socket, caller->identity, caller->size, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
            return true;
        if (errno != EAGAIN || zmq_getsockopt (self->socket, ZMQ_EVENTS, &events, &size) != 0)
            return false;
    }
    return false;
}

/*  Who does not take its answers loses them: it will miss this one, and say so. */
static void send_answer (struct desk *self, const struct caller *caller, const struct message *message,
                         struct raw listed)
{
    uint8_t memory[ANSWER_SIZE_MAX];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    enum encode_result result = encode_message (&packer, message);
    assert (result == ENCODE_OK);
    if (!address (self, caller))
        return;
    zmq_send (self->socket, packer.data, packer.size, ZMQ_DONTWAIT | (listed.size ? ZMQ_SNDMORE : 0));
    if (listed.size)
        zmq_send (self->socket, listed.data, listed.size, ZMQ_DONTWAIT);
}

static void answer (struct desk *self, const struct caller *caller, enum result result, const char *reason,
                    bool later)
{
    struct message message = { .id = MESSAGE_ANSWERED };
    message.answered = (struct answered){
        .request = caller->request, .result = result, .reason = text_of (reason), .later = later
    };
    send_answer (self, caller, &message, NO_RAW);
}

/*  Reads a page; a journal that cannot be read is opened anew the next time. */
static void look (struct desk *self, const struct look *look, struct message *looked, struct raw *listed,
                  char *reason, size_t reason_size)
{
    *looked = (struct message){ .id = MESSAGE_LOOKED };
    looked->looked.request = look->request;
    looked->looked.after = look->after;
    *listed = NO_RAW;
    if (!self->reader)
        self->reader = journal_reader_open (self->journal, false, reason, reason_size);
    if (!self->reader) {
        looked->looked.reason = text_of (reason);
        return;
    }
    self->read_ms = clock_steady_ms ();
    journal_reader_look (self->reader, look, looked, listed);
    if (looked->looked.reason.size) {
        snprintf (reason, reason_size, "%.*s", (int) looked->looked.reason.size, looked->looked.reason.data);
        looked->looked.reason = text_of (reason);
        *listed = NO_RAW;
        journal_reader_close (&self->reader);
    }
}

static void on_look (struct desk *self, const struct caller *caller, const struct message *message)
{
    char reason[REASON_SIZE_MAX + 1];
    struct message looked;
    struct raw listed;
    look (self, &message->look, &looked, &listed, reason, sizeof reason);
    send_answer (self, caller, &looked, listed);
}

/*  ---- orders ------------------------------------------------------------- */

/*  The grant, when it is one that waits for a person; else a reason. */
static bool find_parked (struct desk *self, uint64_t grant, struct message *found, char *reason,
                         size_t reason_size)
{
    const struct look question = { .which = LIST_ONE, .after = grant - 1 };
    struct message looked;
    struct raw listed;
    struct decoder decoder;
    look (self, &question, &looked, &listed, reason, reason_size);
    if (looked.looked.reason.size)
        return false;
    if (!listed.size || decode_begin (&decoder, listed.data, listed.size, false) != DECODE_OK ||
        decode_next (&decoder, found) != DECODE_OK) {
        snprintf (reason, reason_size, "no such record");
        return false;
    }
    const char *refusal = journal_refusal (found->listed.state);
    if (refusal)
        snprintf (reason, reason_size, "%s", refusal);
    return refusal == NULL;
}

/*  Where the next order goes; NULL with a reason when it cannot be taken. */
static struct order *find_place (struct desk *self, uint64_t grant, char *reason, size_t reason_size,
                                 bool *later)
{
    struct order *place = NULL;
    for (unsigned i = 0; i < DESK_ORDERS_MAX; i++) {
        if (self->orders[i].number && self->orders[i].grant == grant) {
            snprintf (reason, reason_size, "it is being seen to already");
            return NULL;
        }
        if (!self->orders[i].number)
            place = &self->orders[i];
    }
    *later = place == NULL;
    if (!place)
        snprintf (reason, reason_size, "too many orders wait for the decision, try later");
    return place;
}

/*  What the decision is told of the grant that was found. */
static struct message order_of (uint64_t number, const struct message *found, bool again, struct text who)
{
    const struct listed *listed = &found->listed;
    struct message message = { .id = again ? MESSAGE_RETRY : MESSAGE_DROP, .trace = found->trace };
    if (again)
        message.retry = (struct retry){ .request = number,
                                        .grant = listed->grant,
                                        .position = listed->position,
                                        .timestamp = listed->timestamp,
                                        .user = listed->user,
                                        .reward = listed->reward,
                                        .amount = listed->amount,
                                        .currency = listed->currency,
                                        .who = who };
    else
        message.drop = (struct drop){ .request = number,
                                      .grant = listed->grant,
                                      .user = listed->user,
                                      .reward = listed->reward,
                                      .who = who };
    return message;
}

static void on_order (struct desk *self, const struct caller *caller, uint64_t grant, struct text who,
                      bool again)
{
    char reason[REASON_SIZE_MAX + 1] = "no such record";
    bool later = false;
    struct message found;
    struct order *order = grant ? find_place (self, grant, reason, sizeof reason, &later) : NULL;
    if (order && !who.size) {
        snprintf (reason, sizeof reason, "nobody is named who wants it");
        order = NULL;
    }
    if (!order || !find_parked (self, grant, &found, reason, sizeof reason)) {
        answer (self, caller, RESULT_REFUSED, reason, later);
        return;
    }
    struct message message = order_of (self->numbered + 1, &found, again, who);
    if (!self->options.post (self->options.post_context, &message)) {
        answer (self, caller, RESULT_REFUSED, "too many orders wait for the decision, try later", true);
        return;
    }
    *order = (struct order){ *caller, ++self->numbered, grant, clock_steady_ms () + self->options.answer_ms,
                             false };
    log_say (self_name, LOG_INFO, "%.*s wants grant %" PRIu64 " %s", (int) who.size, who.data, grant,
             again ? "tried again" : "dropped");
}

/*  An answer of the decision. */
static void take_done (struct desk *self, const struct answer *taken)
{
    for (unsigned i = 0; i < DESK_ORDERS_MAX; i++) {
        struct order *order = &self->orders[i];
        if (!order->number || order->number != taken->done.request)
            continue;
        if (!order->told)
            answer (self, &order->caller, taken->done.result, taken->reason, taken->done.later);
        order->number = 0;
        return;
    }
}

static void take_answers (struct desk *self)
{
    uint64_t ignored;
    struct answer taken;
    bool some = true;
    if (read (self->wake, &ignored, sizeof ignored) < 0)
        return;
    while (some) {
        pthread_mutex_lock (&self->lock);
        some = self->answer_count > 0;
        if (some)
            taken = self->answers[--self->answer_count];
        pthread_mutex_unlock (&self->lock);
        if (some)
            take_done (self, &taken);
    }
}

/*  Tells those whose order the decision did not answer in time. */
static void expire (struct desk *self)
{
    char trouble[REASON_SIZE_MAX + 1] = "";
    char reason[REASON_SIZE_MAX + 1];
    uint64_t now_ms = clock_steady_ms ();
    for (unsigned i = 0; i < DESK_ORDERS_MAX; i++) {
        struct order *order = &self->orders[i];
        if (!order->number || order->told || now_ms < order->due_ms)
            continue;
        if (self->options.monitor)
            monitor_journal_trouble (self->options.monitor, ROLE_DECISION, trouble, sizeof trouble);
        int size = snprintf (reason, sizeof reason, "the decision does not answer%s%s",
                             trouble[0] ? ": " : "", trouble);
        assert (size > 0);
        answer (self, &order->caller, RESULT_UNCERTAIN, reason, false);
        order->told = true;
    }
}

/*  ---- the thread --------------------------------------------------------- */

static void drop_rubbish (struct desk *self)
{
    uint64_t now_ms = clock_steady_ms ();
    self->rubbish++;
    if (self->rubbish_logged_ms && now_ms < self->rubbish_logged_ms + RUBBISH_LOG_MS)
        return;
    self->rubbish_logged_ms = now_ms;
    log_say (self_name, LOG_WARN, "%" PRIu64 " questions that make no sense were dropped so far",
             self->rubbish);
}

static void on_question (struct desk *self, struct caller *caller, const void *bytes, size_t size)
{
    struct decoder decoder;
    struct message message;
    if (decode_begin (&decoder, bytes, size, false) != DECODE_OK ||
        decode_next (&decoder, &message) != DECODE_OK) {
        drop_rubbish (self);
    } else if (message.id == MESSAGE_LOOK) {
        caller->request = message.look.request;
        on_look (self, caller, &message);
    } else if (message.id == MESSAGE_REDO) {
        caller->request = message.redo.request;
        on_order (self, caller, message.redo.grant, message.redo.who, true);
    } else if (message.id == MESSAGE_FORGO) {
        caller->request = message.forgo.request;
        on_order (self, caller, message.forgo.grant, message.forgo.who, false);
    } else {
        drop_rubbish (self);
    }
}

/*  Takes one message off the socket: who asks, and a question. False when nothing
    waits. */
static bool take_question (struct desk *self)
{
    struct caller caller;
    zmq_msg_t frame;
    int size = zmq_recv (self->socket, caller.identity, sizeof caller.identity, ZMQ_DONTWAIT);
    if (size < 0)
        return false;
    caller.size = (size_t) size;
    unsigned frames = 0;
    int more = 1;
    size_t more_size = sizeof more;
    zmq_msg_init (&frame);
    while (zmq_getsockopt (self->socket, ZMQ_RCVMORE, &more, &more_size) == 0 && more &&
           zmq_msg_recv (&frame, self->socket, ZMQ_DONTWAIT) >= 0)
        frames++;
    if (frames == 1)
        on_question (self, &caller, zmq_msg_data (&frame), zmq_msg_size (&frame));
    else
        drop_rubbish (self);
    zmq_msg_close (&frame);
    return true;
}

/*  Until something is due in this thread; -1 for never. */
static long due_ms (const struct desk *self)
{
    uint64_t due = self->reader ? self->read_ms + IDLE_MS : UINT64_MAX;
    for (unsigned i = 0; i < DESK_ORDERS_MAX; i++)
        if (self->orders[i].number && !self->orders[i].told && self->orders[i].due_ms < due)
            due = self->orders[i].due_ms;
    uint64_t now_ms = clock_steady_ms ();
    return due == UINT64_MAX ? -1 : due > now_ms ? (long) (due - now_ms) : 0;
}

static void *run (void *argument)
{
    struct desk *self = argument;
    zmq_pollitem_t items[2] = { { .socket = self->socket, .events = ZMQ_POLLIN },
                                { .fd = self->wake, .events = ZMQ_POLLIN } };
    while (!atomic_load (&self->stop)) {
        zmq_poll (items, 2, due_ms (self));
        take_answers (self);
        for (unsigned i = 0; i < TURN_MAX && take_question (self); i++)
            continue;
        expire (self);
        if (self->reader && clock_steady_ms () >= self->read_ms + IDLE_MS)
            journal_reader_close (&self->reader);
    }
    journal_reader_close (&self->reader);
    return NULL;
}

void desk_done (struct desk *desk, const struct message *done)
{
    uint64_t one = 1;
    assert (done->id == MESSAGE_DONE);
    pthread_mutex_lock (&desk->lock);
    /*  There is room: an order has one answer. */
    if (desk->answer_count < DESK_ORDERS_MAX) {
        struct answer *given = &desk->answers[desk->answer_count++];
        given->done = done->done;
        snprintf (given->reason, sizeof given->reason, "%.*s", (int) done->done.reason.size,
                  done->done.reason.size ? done->done.reason.data : "");
    }
    pthread_mutex_unlock (&desk->lock);
    if (write (desk->wake, &one, sizeof one) < 0)
        return; /* the counter is full: the thread is awake anyway */
}

/*  ---- life --------------------------------------------------------------- */

static bool socket_of (const char *state_dir, uint16_t shard, char *endpoint, size_t capacity)
{
    int size = snprintf (endpoint, capacity, "ipc://");
    return journal_file (endpoint + size, capacity - (size_t) size, state_dir, shard, "sock");
}

/*  For the owner only from the first moment on. ZeroMQ makes the file in this
    thread. */
static bool bind_closed (void *socket, const char *endpoint)
{
    mode_t before = umask (S_IRWXG | S_IRWXO | S_IXUSR);
    bool good = zmq_bind (socket, endpoint) == 0;
    umask (before);
    return good;
}

static bool open_all (struct desk *self)
{
    char endpoint[JOURNAL_PATH_SIZE + 8];
    int64_t size_max = QUESTION_SIZE_MAX;
    const struct desk_options *options = &self->options;
    errno = ENAMETOOLONG;
    if (!socket_of (options->state_dir, options->shard, endpoint, sizeof endpoint) ||
        !journal_file (self->journal, sizeof self->journal, options->state_dir, options->shard, "db"))
        return false;
    self->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->socket = zmq_socket (options->context, ZMQ_ROUTER);
    return self->wake >= 0 && self->socket && set_int (self->socket, ZMQ_ROUTER_MANDATORY, 1) &&
           set_int (self->socket, ZMQ_RCVHWM, QUESTIONS_UNREAD_MAX) &&
           set_int (self->socket, ZMQ_SNDHWM, ANSWERS_UNREAD_MAX) &&
           set_int (self->socket, ZMQ_LINGER, LAST_WORD_MS) &&
           set_int (self->socket, ZMQ_HANDSHAKE_IVL, 2000) &&
           zmq_setsockopt (self->socket, ZMQ_MAXMSGSIZE, &size_max, sizeof size_max) == 0 &&
           bind_closed (self->socket, endpoint);
}

struct desk *desk_new (const struct desk_options *options, char *reason, size_t reason_size)
{
    assert (options->context && options->state_dir && options->post && options->answer_ms);
    struct desk *self = calloc (1, sizeof *self);
    if (!self) {
        snprintf (reason, reason_size, "out of memory");
        return NULL;
    }
    self->options = *options;
    self->wake = -1;
    pthread_mutex_init (&self->lock, NULL);
    if (!open_all (self)) {
        snprintf (reason, reason_size, "%s/journal-%u.sock: %s", options->state_dir,
                  (unsigned) options->shard, zmq_strerror (errno));
        desk_destroy (&self);
    }
    return self;
}

bool desk_start (struct desk *desk)
{
    pthread_attr_t attributes;
    pthread_attr_init (&attributes);
    pthread_attr_setstacksize (&attributes, STACK_SIZE);
    desk->running = pthread_create (&desk->thread, &attributes, run, desk) == 0;
    pthread_attr_destroy (&attributes);
    if (desk->running)
        pthread_setname_np (desk->thread, self_name);
    return desk->running;
}

void desk_stop (struct desk *desk)
{
    uint64_t one = 1;
    if (!desk || !desk->running)
        return;
    atomic_store (&desk->stop, true);
    for (unsigned tries = 1; write (desk->wake, &one, sizeof one) < 0; tries++)
        if (tries == WAKES_MAX) {
            /*  Waiting for it would be for ever. */
            log_say (self_name, LOG_FATAL, "cannot be woken: %s", strerror (errno));
            abort ();
        }
    pthread_join (desk->thread, NULL);
    desk->running = false;
}

void desk_destroy (struct desk **desk)
{
    struct desk *self = *desk;
    if (!self)
        return;
    desk_stop (self);
    if (self->socket)
        zmq_close (self->socket);
    if (self->wake >= 0)
        close (self->wake);
    pthread_mutex_destroy (&self->lock);
    free (self);
    *desk = NULL;
}

/*  ---- asking ------------------------------------------------------------- */

struct desk_caller {
    void *socket; /* DEALER */
    uint64_t numbered;
    zmq_msg_t frames[2]; /* the last answer */
};

struct desk_caller *desk_caller_new (void *context, const char *state_dir, uint16_t shard, char *reason,
                                     size_t reason_size)
{
    char endpoint[JOURNAL_PATH_SIZE + 8];
    struct desk_caller *self = calloc (1, sizeof *self);
    if (!self) {
        snprintf (reason, reason_size, "out of memory");
        return NULL;
    }
    zmq_msg_init (&self->frames[0]);
    zmq_msg_init (&self->frames[1]);
    self->socket = zmq_socket (context, ZMQ_DEALER);
    errno = self->socket ? ENAMETOOLONG : errno;
    if (!self->socket || !socket_of (state_dir, shard, endpoint, sizeof endpoint) ||
        !set_int (self->socket, ZMQ_LINGER, 0) || !set_int (self->socket, ZMQ_RECONNECT_IVL, 50) ||
        zmq_connect (self->socket, endpoint) != 0) {
        snprintf (reason, reason_size, "%s/journal-%u.sock: %s", state_dir, (unsigned) shard,
                  zmq_strerror (errno));
        desk_caller_destroy (&self);
    }
    return self;
}

void desk_caller_destroy (struct desk_caller **caller)
{
    if (!*caller)
        return;
    if ((*caller)->socket)
        zmq_close ((*caller)->socket);
    zmq_msg_close (&(*caller)->frames[0]);
    zmq_msg_close (&(*caller)->frames[1]);
    free (*caller);
    *caller = NULL;
}

static struct message numbered (const struct message *question, uint64_t number)
{
    struct message message = *question;
    switch (message.id) {
    case MESSAGE_LOOK:
        message.look.request = number;
        break;
    case MESSAGE_REDO:
        message.redo.request = number;
        break;
    default:
        assert (message.id == MESSAGE_FORGO);
        message.forgo.request = number;
    }
    return message;
}

/*  Takes an answer off the socket; how many frames it had, 0 for none. */
static unsigned take_frames (struct desk_caller *self)
{
    zmq_msg_t rest;
    if (zmq_msg_recv (&self->frames[0], self->socket, ZMQ_DONTWAIT) < 0)
        return 0;
    unsigned count = 1;
    int more = zmq_msg_more (&self->frames[0]);
    zmq_msg_init (&rest);
    while (more) {
        zmq_msg_t *frame = count == 1 ? &self->frames[1] : &rest;
        if (zmq_msg_recv (frame, self->socket, 0) < 0)
            break;
        more = zmq_msg_more (frame);
        count++;
    }
    zmq_msg_close (&rest);
    return count;
}

/*  Whether what came answers the question with this number. */
static bool is_answer (struct desk_caller *self, unsigned frames, uint64_t number, struct message *answer,
                       struct raw *listed)
{
    struct decoder decoder;
    *listed = NO_RAW;
    if (frames > 2 ||
        decode_begin (&decoder, zmq_msg_data (&self->frames[0]), zmq_msg_size (&self->frames[0]), false) !=
            DECODE_OK ||
        decode_next (&decoder, answer) != DECODE_OK)
        return false;
    if (frames == 2)
        *listed = (struct raw){ zmq_msg_data (&self->frames[1]), (uint32_t) zmq_msg_size (&self->frames[1]) };
    return (answer->id == MESSAGE_LOOKED && answer->looked.request == number) ||
           (answer->id == MESSAGE_ANSWERED && answer->answered.request == number);
}

bool desk_ask (struct desk_caller *caller, const struct message *question, long timeout_ms,
               struct message *answer, struct raw *listed)
{
    uint8_t memory[QUESTION_SIZE_MAX];
    struct packer packer;
    uint64_t end_ms = clock_steady_ms () + (uint64_t) timeout_ms;
    struct message message = numbered (question, ++caller->numbered);
    packer_init (&packer, memory, sizeof memory);
    if (encode_message (&packer, &message) != ENCODE_OK ||
        zmq_send (caller->socket, packer.data, packer.size, ZMQ_DONTWAIT) < 0)
        return false;
    for (uint64_t now_ms = clock_steady_ms (); now_ms < end_ms; now_ms = clock_steady_ms ()) {
        zmq_pollitem_t item = { .socket = caller->socket, .events = ZMQ_POLLIN };
        zmq_poll (&item, 1, (long) (end_ms - now_ms));
        unsigned frames = take_frames (caller);
        if (frames && is_answer (caller, frames, caller->numbered, answer, listed))
            return true;
    }
    return false;
}
