/*  tap.c - see tap.h. */

#include "actors/base/tap.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <zmq.h>

#include "actors/base/curve.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    BODY_VERSION = 1,
    HANDED_MAX = 4096,          /* copies that wait for the tap's thread, for each actor, … */
    HANDED_BYTES_MAX = 8 << 20, /* … and their bytes, of all actors */
    UNREAD_MAX = 4096,          /* values that wait for each tap that looks, … */
    SHOWN_SIZE_MAX = 8192,      /* … and bytes of one field of them */
    TURN_MAX = 1024,            /* copies that are put into order at once */
    BURST_MS = 10,              /* between two times that whoever looks is woken */
    NAME_MAX_BYTES = 48,        /* "usermeta-client/65535", or a service */
    CALLS_MAX = 64,             /* HTTP calls under way of an actor, whose paths are kept, … */
    CALL_PATH_SIZE_MAX = 512,   /* … and bytes of each path */
    STACK_SIZE = 256 * 1024,
    SUBSCRIPTION_LOOK_MS = 1000,
    RENEW_US = 1000000, /* between two looks at changed keys */
    STOP_SIZE = 1       /* a frame of this size ends the thread */
};

static const char hand_over_endpoint[] = "inproc://tap";

enum direction { DIRECTION_SENT, DIRECTION_RECEIVED };

static const char *const direction_names[] = { "sent", "received" };

/*  What an actor hands over, in front of the message. */
struct handed {
    uint64_t time_us;
    enum role actor;
    enum direction direction;
    uint64_t lost; /* of this actor so far */
    char from[NAME_MAX_BYTES];
    char to[NAME_MAX_BYTES];
};

/*  A copy of this turn; its place in `turn` tells when it came. */
struct taken {
    uint64_t time_us;
    unsigned index;
};

struct tap {
    void *context;    /* of the actors */
    void *publishing; /* a context of its own, whose threads yield to all others */
    char *process;
    char *file; /* of an ipc endpoint, closed to others; NULL for none */
    struct curve *curve;
    bool keys;
    void *publisher; /* XPUB, of the thread */
    void *incoming;  /* PULL, of the thread */
    void *stopper;   /* PUSH, of who opened it: tells the thread to end */
    pthread_t thread;
    bool running;
    atomic_uint lookers;   /* subscriptions that stand */
    atomic_size_t waiting; /* bytes that were handed over and not yet shown */
    uint64_t sequences[ROLE_STATS + 1][MESSAGE_ID_MAX + 1];
    zmq_msg_t turn[TURN_MAX]; /* copies as they came */
    struct taken order[TURN_MAX];
    uint8_t body[TAP_BODY_SIZE_MAX];
    uint8_t value[TAP_BODY_SIZE_MAX];
};

/*  An HTTP call under way: its answer is shown with what it answers. */
struct call {
    uint64_t request;
    uint64_t begun; /* the how manieth call it is; 0: none */
    enum method method;
    uint32_t path_size;
    char path[CALL_PATH_SIZE_MAX];
};

struct tap_mirror {
    struct tap *tap;
    struct address self;
    void *socket; /* PUSH */
    uint64_t lost;
    uint8_t *copy;  /* of an HTTP call, as it is handed over */
    uint64_t begun; /* calls so far */
    struct call calls[CALLS_MAX];
};

/*  ---- the actor's end ---------------------------------------------------- */

static uint64_t now_us (void)
{
    struct timespec now;
    clock_gettime (CLOCK_REALTIME, &now);
    return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static bool set_int (void *socket, int option, int value)
{
    return zmq_setsockopt (socket, option, &value, sizeof value) == 0;
}

struct tap_mirror *tap_mirror_new (struct tap *tap, struct address self)
{
    struct tap_mirror *mirror = tap ? calloc (1, sizeof *mirror) : NULL;
    if (!mirror)
        return NULL;
    mirror->tap = tap;
    mirror->self = self;
    mirror->socket = zmq_socket (tap->context, ZMQ_PUSH);
    if (!mirror->socket || !set_int (mirror->socket, ZMQ_SNDHWM, HANDED_MAX) ||
        !set_int (mirror->socket, ZMQ_LINGER, 0) || zmq_connect (mirror->socket, hand_over_endpoint) != 0)
        tap_mirror_destroy (&mirror);
    return mirror;
}

void tap_mirror_destroy (struct tap_mirror **mirror)
{
    if (!*mirror)
        return;
    if ((*mirror)->socket)
        zmq_close ((*mirror)->socket);
    free ((*mirror)->copy);
    free (*mirror);
    *mirror = NULL;
}

bool tap_wanted (const struct tap_mirror *mirror)
{
    return mirror && atomic_load_explicit (&mirror->tap->lookers, memory_order_relaxed) > 0;
}

static void name_address (char *name, struct address address)
{
    snprintf (name, NAME_MAX_BYTES, "%s/%u", role_name (address.role), (unsigned) address.peer);
}

/*  How many values a message carries: a batch its items, any other one. Only its
    head is looked at. */
static uint64_t count_values (const void *bytes, size_t size)
{
    struct cursor cursor = cursor_of ((struct raw){ bytes, (uint32_t) size });
    struct value head[5]; /* array, version, id, trace, items */
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        if (!cursor_next (&cursor, &head[i]))
            return 1;
    const struct message_spec *spec = head[2].type == VALUE_UINT ? message_spec (head[2].uint) : NULL;
    return spec && spec->batch && head[4].type == VALUE_ARRAY ? head[4].count : 1;
}

/*  Puts a copy into the socket; false when there is no room for it. Its bytes are
    counted once they are written: whoever looks at the count sees them whole. */
static bool send_copy (struct tap_mirror *mirror, const struct handed *handed, const void *bytes, size_t size)
{
    atomic_size_t *waiting = &mirror->tap->waiting;
    size_t whole = sizeof *handed + size;
    zmq_msg_t message;
    if (atomic_load_explicit (waiting, memory_order_relaxed) + whole > HANDED_BYTES_MAX ||
        zmq_msg_init_size (&message, whole) != 0)
        return false;
    memcpy (zmq_msg_data (&message), handed, sizeof *handed);
    memcpy ((char *) zmq_msg_data (&message) + sizeof *handed, bytes, size);
    atomic_fetch_add_explicit (waiting, whole, memory_order_release);
    if (zmq_msg_send (&message, mirror->socket, ZMQ_DONTWAIT) >= 0)
        return true;
    atomic_fetch_sub_explicit (waiting, whole, memory_order_relaxed);
    zmq_msg_close (&message);
    return false;
}

/*  Hands a copy to the tap's thread, or counts its values as lost. */
static void hand_over (struct tap_mirror *mirror, struct handed *handed, const void *bytes, size_t size)
{
    handed->time_us = now_us ();
    handed->actor = mirror->self.role;
    handed->lost = mirror->lost;
    if (!send_copy (mirror, handed, bytes, size))
        mirror->lost += count_values (bytes, size);
}

void tap_sent (struct tap_mirror *mirror, struct address to, const void *bytes, size_t size)
{
    if (!tap_wanted (mirror))
        return;
    struct handed handed = { .direction = DIRECTION_SENT };
    name_address (handed.from, mirror->self);
    name_address (handed.to, to);
    hand_over (mirror, &handed, bytes, size);
}

void tap_received (struct tap_mirror *mirror, struct address from, const void *bytes, size_t size)
{
    if (!tap_wanted (mirror))
        return;
    struct handed handed = { .direction = DIRECTION_RECEIVED };
    name_address (handed.from, from);
    name_address (handed.to, mirror->self);
    hand_over (mirror, &handed, bytes, size);
}

/*  ---- HTTP calls --------------------------------------------------------- */

/*  Keeps what a request asks. When there are too many under way the oldest is
    given up: its answer will come without a path. */
static void keep_call (struct tap_mirror *mirror, const struct http_request *request)
{
    struct call *call = &mirror->calls[0];
    for (unsigned i = 0; i < CALLS_MAX && call->begun; i++)
        if (mirror->calls[i].begun < call->begun)
            call = &mirror->calls[i];
    call->request = request->request;
    call->begun = ++mirror->begun;
    call->method = request->method;
    call->path_size = request->path.size < CALL_PATH_SIZE_MAX ? request->path.size : CALL_PATH_SIZE_MAX;
    if (call->path_size)
        memcpy (call->path, request->path.data, call->path_size);
    if (call->path_size < request->path.size)
        memcpy (call->path + CALL_PATH_SIZE_MAX - 3, "\xe2\x80\xa6", 3); /* … */
}

/*  What a call asked, and forgets it; NULL when that is not known. */
static const struct call *end_call (struct tap_mirror *mirror, uint64_t request)
{
    for (unsigned i = 0; i < CALLS_MAX; i++) {
        struct call *call = &mirror->calls[i];
        if (!call->begun || call->request != request)
            continue;
        call->begun = 0;
        return call;
    }
    return NULL;
}

/*  Encodes into memory that is made when it is first needed; false when there is
    none. */
static bool encode_copy (struct tap_mirror *mirror, const struct message *message, struct packer *packer)
{
    enum { COPY_SIZE_MAX = PATH_SIZE_MAX + REQUEST_BODY_SIZE_MAX + 1024 };
    if (!mirror->copy)
        mirror->copy = malloc (COPY_SIZE_MAX);
    if (!mirror->copy)
        return false;
    packer_init (packer, mirror->copy, COPY_SIZE_MAX);
    return encode_message (packer, message) == ENCODE_OK;
}

void tap_http_begun (struct tap_mirror *mirror, enum service service, const struct message *request)
{
    if (!mirror)
        return;
    keep_call (mirror, &request->http_request);
    struct packer packer;
    if (!tap_wanted (mirror) || !encode_copy (mirror, request, &packer))
        return;
    struct handed handed = { .direction = DIRECTION_SENT };
    name_address (handed.from, mirror->self);
    snprintf (handed.to, NAME_MAX_BYTES, "%s", service_name (service));
    hand_over (mirror, &handed, packer.data, packer.size);
}

void tap_http_ended (struct tap_mirror *mirror, enum service service, const struct message *answer)
{
    if (!mirror)
        return;
    const struct call *call = end_call (mirror, answer->http_answer.request);
    struct message shown = *answer;
    struct packer packer;
    shown.http_answer.body = NO_RAW;
    if (call) {
        shown.http_answer.method = text_of (method_name (call->method));
        shown.http_answer.path = (struct text){ call->path, call->path_size };
    }
    if (!tap_wanted (mirror) || !encode_copy (mirror, &shown, &packer))
        return;
    struct handed handed = { .direction = DIRECTION_RECEIVED };
    snprintf (handed.from, NAME_MAX_BYTES, "%s", service_name (service));
    name_address (handed.to, mirror->self);
    hand_over (mirror, &handed, packer.data, packer.size);
}

void tap_http_cancelled (struct tap_mirror *mirror, uint64_t request)
{
    if (mirror)
        end_call (mirror, request);
}

/*  ---- the tap's thread --------------------------------------------------- */

struct text tap_user (const struct message_spec *spec, const struct message *message)
{
    struct raw found;
    struct text user = NO_TEXT;
    if (message->id == MESSAGE_EVENT && raw_path (message->event.data, "userId", &found))
        raw_text (found, &user);
    for (size_t i = 0; i < spec->count; i++)
        if (spec->fields[i].type == FIELD_TEXT && strcmp (spec->fields[i].name, "user") == 0)
            memcpy (&user, (const char *) message + spec->fields[i].offset, sizeof user);
    return user.size <= USER_SIZE_MAX ? user : NO_TEXT;
}

static struct raw pack_body (struct tap *tap, const struct handed *handed, uint64_t sequence,
                             struct raw value)
{
    struct packer packer;
    packer_init (&packer, tap->body, sizeof tap->body);
    pack_array (&packer, 9);
    pack_uint (&packer, BODY_VERSION);
    pack_uint (&packer, handed->time_us);
    pack_literal (&packer, tap->process);
    pack_literal (&packer, direction_names[handed->direction]);
    pack_literal (&packer, handed->from);
    pack_literal (&packer, handed->to);
    pack_uint (&packer, sequence);
    pack_uint (&packer, handed->lost);
    pack_raw (&packer, value);
    return packer_raw (&packer);
}

/*  In place of data that is too large to be shown: its user, when it has one,
    and how many bytes were left out. */
static struct raw stand_in (struct raw data, struct text user, uint8_t *memory, size_t capacity)
{
    struct packer packer;
    packer_init (&packer, memory, capacity);
    pack_map (&packer, user.size ? 2 : 1);
    if (user.size) {
        pack_literal (&packer, "userId");
        pack_text (&packer, user);
    }
    pack_literal (&packer, "leftOut");
    pack_uint (&packer, data.size);
    return packer_raw (&packer);
}

/*  Cuts fields that would make what waits for a tap that is stopped large. */
static void cut (struct message *message, const struct message_spec *spec, struct text user, uint8_t *memory,
                 size_t capacity)
{
    for (size_t i = 0; i < spec->count; i++) {
        void *field = (char *) message + spec->fields[i].offset;
        struct text *text = field;
        struct raw *raw = field;
        if (spec->fields[i].type == FIELD_TEXT && text->size > SHOWN_SIZE_MAX)
            text->size = SHOWN_SIZE_MAX;
        if (spec->fields[i].type == FIELD_RAW && raw->size > SHOWN_SIZE_MAX)
            *raw = stand_in (*raw, user, memory, capacity); /* a message has one such field at most */
    }
}

static void publish (struct tap *tap, const struct handed *handed, struct message *message)
{
    const struct message_spec *spec = message_spec ((uint64_t) message->id);
    const struct text user = tap_user (spec, message);
    uint8_t left_out[USER_SIZE_MAX + 64];
    struct packer value;
    cut (message, spec, user, left_out, sizeof left_out);
    packer_init (&value, tap->value, sizeof tap->value);
    if (encode_message (&value, message) != ENCODE_OK)
        return;
    char memory[TAP_TOPIC_SIZE_MAX + 1];
    struct builder topic;
    builder_init (&topic, memory, sizeof memory);
    builder_literal (&topic, role_name (handed->actor));
    builder_literal (&topic, " ");
    builder_literal (&topic, spec->name);
    builder_literal (&topic, " ");
    builder_add (&topic, user);
    uint64_t sequence = ++tap->sequences[handed->actor][message->id];
    struct raw body = pack_body (tap, handed, sequence, packer_raw (&value));
    if (body.size && zmq_send (tap->publisher, memory, topic.size, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
        zmq_send (tap->publisher, body.data, body.size, ZMQ_DONTWAIT);
}

/*  Takes a copy apart. */
static void show (struct tap *tap, const uint8_t *bytes, size_t size)
{
    struct handed handed;
    struct decoder decoder;
    struct message message;
    memcpy (&handed, bytes, sizeof handed);
    if (decode_begin (&decoder, bytes + sizeof handed, size - sizeof handed, true) != DECODE_OK)
        return;
    enum decode_result result;
    while ((result = decode_next (&decoder, &message)) != DECODE_END)
        if (result == DECODE_OK)
            publish (tap, &handed, &message);
}

static int compare_taken (const void *left, const void *right)
{
    const struct taken *a = left;
    const struct taken *b = right;
    if (a->time_us != b->time_us)
        return a->time_us < b->time_us ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/*  Takes what waits, or the first TURN_MAX of it: then *all is false. False when
    the thread is to end. What several actors say comes from each in turn, so it is
    put in the order of time: an actor hands over before it sends, so until nothing
    waits a cause is here when its effect is. */
static bool take_handed (struct tap *tap, bool *all)
{
    bool go_on = true;
    unsigned count = 0;
    while (go_on && count < TURN_MAX) {
        zmq_msg_t *message = &tap->turn[count];
        zmq_msg_init (message);
        if (zmq_msg_recv (message, tap->incoming, ZMQ_DONTWAIT) < 0)
            break;
        /*  Behind the queue of ZeroMQ, which tools that watch memory do not know. */
        atomic_load_explicit (&tap->waiting, memory_order_acquire);
        if (zmq_msg_size (message) < sizeof (struct handed)) {
            go_on = zmq_msg_size (message) != STOP_SIZE;
            zmq_msg_close (message);
            continue;
        }
        struct handed handed;
        memcpy (&handed, zmq_msg_data (message), sizeof handed);
        tap->order[count] = (struct taken){ handed.time_us, count };
        count++;
    }
    *all = count < TURN_MAX;
    qsort (tap->order, count, sizeof *tap->order, compare_taken);
    for (unsigned i = 0; i < count; i++) {
        zmq_msg_t *message = &tap->turn[tap->order[i].index];
        size_t size = zmq_msg_size (message);
        show (tap, zmq_msg_data (message), size);
        zmq_msg_close (message);
        atomic_fetch_sub_explicit (&tap->waiting, size, memory_order_relaxed);
    }
    return go_on;
}

/*  Counts who comes and goes: XPUB tells of the first and the last of each
    subscription. */
static void take_subscriptions (struct tap *tap)
{
    uint8_t first;
    int size;
    while ((size = zmq_recv (tap->publisher, &first, sizeof first, ZMQ_DONTWAIT)) >= 0) {
        if (size == 0)
            continue;
        if (first == 1)
            atomic_fetch_add (&tap->lookers, 1);
        else if (first == 0 && atomic_load (&tap->lookers) > 0)
            atomic_fetch_sub (&tap->lookers, 1);
    }
}

static void *run (void *argument)
{
    struct tap *tap = argument;
    const struct sched_param none = { 0 };
    pthread_setschedparam (pthread_self (), SCHED_IDLE, &none);
    zmq_pollitem_t items[2] = { { .socket = tap->publisher, .events = ZMQ_POLLIN },
                                { .socket = tap->incoming, .events = ZMQ_POLLIN } };
    bool go_on = true;
    while (go_on) {
        bool all = true;
        zmq_poll (items, 2, tap->keys ? SUBSCRIPTION_LOOK_MS : -1);
        take_subscriptions (tap);
        go_on = take_handed (tap, &all);
        /*  Neither an actor has to wake this thread for each message, nor this
            thread a hundred taps. */
        if (go_on && all)
            zmq_poll (items, 1, BURST_MS);
        if (tap->keys)
            curve_renew (tap->curve, tap->publisher);
    }
    return NULL;
}

/*  ---- life of a tap ------------------------------------------------------ */

/*  Whether a process that lives listens at this file. ZeroMQ would take it away
    without asking. */
static bool is_taken (const char *file)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen (file) >= sizeof address.sun_path)
        return false; /* told by the bind */
    memcpy (address.sun_path, file, strlen (file));
    int probe = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return false;
    bool taken = connect (probe, (const struct sockaddr *) &address, sizeof address) == 0 || errno == EAGAIN;
    close (probe);
    return taken;
}

static bool open_publisher (struct tap *tap, const char *endpoint)
{
    if (tap->file && is_taken (tap->file)) {
        errno = EADDRINUSE;
        return false;
    }
    int64_t size_max = 1024; /* a subscription; nobody says more to a tap */
    tap->publisher = zmq_socket (tap->publishing, ZMQ_XPUB);
    if (!tap->publisher || !set_int (tap->publisher, ZMQ_SNDHWM, UNREAD_MAX) ||
        !set_int (tap->publisher, ZMQ_LINGER, 0) || !set_int (tap->publisher, ZMQ_HANDSHAKE_IVL, 2000) ||
        !set_int (tap->publisher, ZMQ_HEARTBEAT_IVL, 5000) || !set_int (tap->publisher, ZMQ_IPV6, 1) ||
        zmq_setsockopt (tap->publisher, ZMQ_MAXMSGSIZE, &size_max, sizeof size_max) != 0)
        return false;
    if (tap->keys && !curve_server (tap->curve, tap->publisher, "tap"))
        return false;
    if (zmq_bind (tap->publisher, endpoint) != 0)
        return false;
    return !tap->file || chmod (tap->file, S_IRUSR | S_IWUSR) == 0;
}

static bool open_incoming (struct tap *tap)
{
    tap->incoming = zmq_socket (tap->context, ZMQ_PULL);
    return tap->incoming && set_int (tap->incoming, ZMQ_RCVHWM, HANDED_MAX) &&
           set_int (tap->incoming, ZMQ_LINGER, 0) && zmq_bind (tap->incoming, hand_over_endpoint) == 0;
}

/*  Opened long before it is needed: at the end there may be nothing to open it with. */
static bool open_stopper (struct tap *tap)
{
    tap->stopper = zmq_socket (tap->context, ZMQ_PUSH);
    return tap->stopper && zmq_connect (tap->stopper, hand_over_endpoint) == 0;
}

static bool start (struct tap *tap)
{
    pthread_attr_t attributes;
    pthread_attr_init (&attributes);
    pthread_attr_setstacksize (&attributes, STACK_SIZE);
    tap->running = pthread_create (&tap->thread, &attributes, run, tap) == 0;
    pthread_attr_destroy (&attributes);
    if (tap->running)
        pthread_setname_np (tap->thread, "tap");
    return tap->running;
}

/*  Opens the context that publishes. Its threads run when nobody else wants to:
    what they cannot do in time is lost to those who look. */
static bool open_publishing (struct tap *tap)
{
    tap->publishing = zmq_ctx_new ();
    return tap->publishing && zmq_ctx_set (tap->publishing, ZMQ_THREAD_SCHED_POLICY, SCHED_IDLE) == 0;
}

/*  Keys for a tcp endpoint; with a reason of their own. */
static bool open_keys (struct tap *tap, const char *endpoint, const char *curve_dir, struct monitor *monitor,
                       char *reason, size_t reason_size)
{
    tap->keys = curve_dir && strncmp (endpoint, "tcp:", 4) == 0;
    if (!tap->keys)
        return true;
    tap->curve = curve_open (tap->publishing, curve_dir, PARTY_BIT (PARTY_MIRROR), reason, reason_size);
    if (tap->curve && monitor)
        curve_report (tap->curve, monitor);
    return tap->curve != NULL;
}

static bool open_all (struct tap *tap, const char *endpoint, const char *process)
{
    tap->process = strdup (process);
    if (strncmp (endpoint, "ipc://", 6) == 0 && endpoint[6] != '@')
        tap->file = strdup (endpoint + 6);
    return tap->process && open_publisher (tap, endpoint) && open_incoming (tap) && open_stopper (tap) &&
           start (tap);
}

struct tap *tap_open (void *context, const char *endpoint, const char *process, const char *curve_dir,
                      struct monitor *monitor, char *reason, size_t reason_size)
{
    struct tap *tap = calloc (1, sizeof *tap);
    errno = ENOMEM;
    bool good = tap != NULL;
    if (good) {
        tap->context = context;
        good = open_publishing (tap);
    }
    if (good && !open_keys (tap, endpoint, curve_dir, monitor, reason, reason_size)) {
        tap_close (&tap);
        return NULL;
    }
    if (!good || !open_all (tap, endpoint, process)) {
        snprintf (reason, reason_size, "%s: %s", endpoint, zmq_strerror (errno));
        tap_close (&tap);
    }
    return tap;
}

/*  Tells the thread to end, by its own socket. */
static void stop (struct tap *tap)
{
    while (zmq_send (tap->stopper, "", STOP_SIZE, 0) < 0 && errno == EINTR)
        continue;
    pthread_join (tap->thread, NULL);
}

void tap_close (struct tap **self)
{
    struct tap *tap = *self;
    if (!tap)
        return;
    if (tap->running)
        stop (tap);
    if (tap->publisher)
        zmq_close (tap->publisher);
    if (tap->incoming)
        zmq_close (tap->incoming);
    if (tap->stopper)
        zmq_close (tap->stopper);
    curve_close (&tap->curve);
    while (tap->publishing && zmq_ctx_term (tap->publishing) != 0 && errno == EINTR)
        continue;
    free (tap->file);
    free (tap->process);
    free (tap);
    *self = NULL;
}

/*  ---- looking ------------------------------------------------------------ */

/*  A socket an endpoint: keys belong to a socket, and not every endpoint has
    them. */
struct looker {
    void *socket; /* SUB */
    bool keys;
};

struct tap_reader {
    struct curve *curve;
    struct looker lookers[TAP_ENDPOINTS_MAX];
    size_t count;
    size_t turn; /* the one to ask first */
    uint64_t renew_us;
    zmq_msg_t body;
};

static bool read_fields (struct cursor *cursor, struct tap_record *record)
{
    struct value version;
    struct value fields[7];
    if (!cursor_next (cursor, &version) || version.type != VALUE_UINT || version.uint != BODY_VERSION)
        return false;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        bool number = i == 0 || i >= 5;
        if (!cursor_next (cursor, &fields[i]) || fields[i].type != (number ? VALUE_UINT : VALUE_TEXT))
            return false;
    }
    record->time_us = fields[0].uint;
    record->process = fields[1].text;
    record->direction = fields[2].text;
    record->from = fields[3].text;
    record->to = fields[4].text;
    record->sequence = fields[5].uint;
    record->lost = fields[6].uint;
    return true;
}

bool tap_record_read (struct raw body, struct tap_record *record)
{
    struct cursor cursor = cursor_of (body);
    struct value array;
    *record = (struct tap_record){ .body = body };
    return cursor_next (&cursor, &array) && array.type == VALUE_ARRAY && array.count >= 9 &&
           read_fields (&cursor, record) && cursor_skip (&cursor, &record->message);
}

static bool looker_open (struct tap_reader *reader, void *context, const char *endpoint)
{
    int64_t size_max = TAP_BODY_SIZE_MAX;
    void *socket = zmq_socket (context, ZMQ_SUB);
    if (!socket)
        return false;
    struct looker *looker = &reader->lookers[reader->count++];
    *looker = (struct looker){ socket, reader->curve && strncmp (endpoint, "tcp:", 4) == 0 };
    return set_int (socket, ZMQ_LINGER, 0) && set_int (socket, ZMQ_RCVHWM, UNREAD_MAX) &&
           set_int (socket, ZMQ_RECONNECT_IVL, 100) && set_int (socket, ZMQ_RECONNECT_IVL_MAX, 1000) &&
           set_int (socket, ZMQ_HEARTBEAT_IVL, 1000) && set_int (socket, ZMQ_HEARTBEAT_TIMEOUT, 3000) &&
           set_int (socket, ZMQ_IPV6, 1) &&
           zmq_setsockopt (socket, ZMQ_MAXMSGSIZE, &size_max, sizeof size_max) == 0 &&
           (!looker->keys || curve_client (reader->curve, socket, "tap", "tap")) &&
           zmq_connect (socket, endpoint) == 0;
}

struct tap_reader *tap_reader_new (void *context, const char *const *endpoints, size_t count,
                                   struct curve *curve, char *reason, size_t reason_size)
{
    assert (count <= TAP_ENDPOINTS_MAX);
    struct tap_reader *reader = calloc (1, sizeof *reader);
    if (!reader) {
        snprintf (reason, reason_size, "out of memory");
        return NULL;
    }
    reader->curve = curve;
    zmq_msg_init (&reader->body);
    for (size_t i = 0; i < count; i++) {
        if (looker_open (reader, context, endpoints[i]))
            continue;
        snprintf (reason, reason_size, "%s: %s", endpoints[i], zmq_strerror (errno));
        tap_reader_destroy (&reader);
        return NULL;
    }
    return reader;
}

void tap_reader_destroy (struct tap_reader **reader)
{
    if (!*reader)
        return;
    for (size_t i = 0; i < (*reader)->count; i++)
        zmq_close ((*reader)->lookers[i].socket);
    zmq_msg_close (&(*reader)->body);
    free (*reader);
    *reader = NULL;
}

bool tap_reader_want (struct tap_reader *reader, struct text prefix)
{
    bool good = true;
    for (size_t i = 0; good && i < reader->count; i++)
        good = zmq_setsockopt (reader->lookers[i].socket, ZMQ_SUBSCRIBE, prefix.size ? prefix.data : "",
                               prefix.size) == 0;
    return good;
}

/*  Two frames, a topic and a body; whatever else is left out. */
static bool receive_body (struct tap_reader *reader, void *socket)
{
    if (zmq_msg_recv (&reader->body, socket, ZMQ_DONTWAIT) < 0)
        return false;
    unsigned frames = 1;
    while (zmq_msg_more (&reader->body) && zmq_msg_recv (&reader->body, socket, 0) >= 0)
        frames++;
    return frames == 2;
}

/*  The next body of any socket; they take turns. */
static bool receive_any (struct tap_reader *reader)
{
    for (size_t tried = 0; tried < reader->count; tried++) {
        size_t index = reader->turn;
        reader->turn = (reader->turn + 1) % reader->count;
        if (receive_body (reader, reader->lookers[index].socket))
            return true;
    }
    return false;
}

static void renew_keys (struct tap_reader *reader)
{
    if (!reader->curve || now_us () < reader->renew_us)
        return;
    reader->renew_us = now_us () + RENEW_US;
    for (size_t i = 0; i < reader->count; i++)
        if (reader->lookers[i].keys)
            curve_renew (reader->curve, reader->lookers[i].socket);
}

bool tap_reader_next (struct tap_reader *reader, long timeout_ms, struct tap_record *record)
{
    renew_keys (reader);
    if (!receive_any (reader)) {
        zmq_pollitem_t items[TAP_ENDPOINTS_MAX];
        for (size_t i = 0; i < reader->count; i++)
            items[i] = (zmq_pollitem_t){ .socket = reader->lookers[i].socket, .events = ZMQ_POLLIN };
        if (zmq_poll (items, (int) reader->count, timeout_ms) <= 0 || !receive_any (reader))
            return false;
    }
    struct raw body = { zmq_msg_data (&reader->body), (uint32_t) zmq_msg_size (&reader->body) };
    return tap_record_read (body, record);
}
