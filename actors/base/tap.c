/*  tap.c - see tap.h. */

#include "actors/base/tap.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <zmq.h>

#include "actors/base/clock.h"
#include "actors/base/curve.h"
#include "actors/base/tap_ring.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    BODY_VERSION = 1,
    RING_SIZE = 2 << 20,      /* of an actor: its copies that wait for the tap's thread */
    MIRRORS_MAX = 64,         /* of a process */
    UNREAD_MAX = 4096,        /* values that wait for each tap that looks, … */
    SHOWN_SIZE_MAX = 8192,    /* … and bytes of one field of them */
    BURST_MS = 20,            /* between two times that this thread, and whoever looks, is woken */
    NAME_MAX_BYTES = 48,      /* "usermeta-client/65535", or a service */
    CALLS_MAX = 64,           /* HTTP calls under way of an actor, whose paths are kept, … */
    CALL_PATH_SIZE_MAX = 512, /* … and bytes of each path */
    STACK_SIZE = 256 * 1024,
    SUBSCRIPTION_SIZE_MAX = 1024,
    SUBSCRIPTION_LOOK_MS = 1000,
    RENEW_US = 1000000,      /* between two looks at changed keys */
    CLOCK_STEP_US = 1000000, /* what is later than now by more was stamped before the clock was set back */
    SHARE_OF_PROCESS = 40,   /* one in so many: what publishing may take of its process, … */
    SHARE_OF_REST = 50,      /* … or of what it leaves of the processors, if that is more, … */
    SAVED_NS_MAX = 10000000, /* … so much of it at once, … */
    RESUME_NS = 4000000,     /* … and so much before it goes on */
    COPY_NS = 3000,          /* what each copy of a value but the first is said to cost whoever looks */
    CHARGE_BYTES = 16384,    /* of copies, between two looks at what was taken */
    PRESENCE_HEAD_SIZE = 9   /* of a presence: a byte that begins no topic, and a number */
};

enum direction { DIRECTION_SENT, DIRECTION_RECEIVED };

static const char *const direction_names[] = { "sent", "received" };

/*  The other end of a hop: an actor, or a service. */
struct party {
    struct address actor;
    const char *service; /* its name; NULL for an actor */
};

/*  What an actor hands over, in front of the message. */
struct handed {
    uint64_t time_us;
    uint64_t lost; /* of this actor so far */
    struct party other;
    enum direction direction;
};

/*  What an actor hands over comes by one. It stays until the tap is closed, so
    that what an actor says at its end is shown. */
struct source {
    struct address actor;
    struct tap_ring *ring;
    const struct handed *first; /* the thread's: the oldest copy of this turn, NULL for none, … */
    size_t first_size;          /* … with the message … */
    uint64_t end;               /* … and where the turn ends */
};

/*  What publishing may take of the processors. Actors look at `spent` of the tap. */
struct budget {
    int64_t left_ns;
    uint64_t taken_ns; /* by this thread, so far */
    uint64_t process_ns;
    uint64_t steady_ns;
    uint64_t processors;
};

/*  For each actor and message. */
typedef uint32_t counts[ROLE_STATS + 1][MESSAGE_ID_MAX + 1];

struct tap {
    void *publishing; /* a context of its own, whose threads yield to all others */
    char *process;
    char *file; /* of an ipc endpoint, closed to others; NULL for none */
    struct curve *curve;
    bool keys;
    void *publisher; /* XPUB, of the thread */
    int stopper;     /* an eventfd; -1 for none */
    pthread_t thread;
    bool running;
    atomic_uint lookers;      /* subscriptions that stand */
    atomic_bool spent;        /* too much was published: what is said now is lost */
    pthread_mutex_t adding;   /* held to add a source */
    atomic_uint source_count; /* those before it are there */
    struct source sources[MIRRORS_MAX];
    struct budget budget;
    counts wishes; /* subscriptions that may want some of it */
    counts copies; /* presences of those who want all of it */
    uint64_t sequences[ROLE_STATS + 1][MESSAGE_ID_MAX + 1];
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
    struct tap_ring *ring; /* of its source */
    uint64_t lost;
    uint64_t begun; /* calls so far */
    struct call calls[CALLS_MAX];
};

/*  ---- the actor's end ---------------------------------------------------- */

static bool set_int (void *socket, int option, int value)
{
    return zmq_setsockopt (socket, option, &value, sizeof value) == 0;
}

/*  A ring for one more actor; NULL when there is no memory or no place for it. */
static struct tap_ring *add_source (struct tap *tap, struct address actor)
{
    struct tap_ring *ring = NULL;
    pthread_mutex_lock (&tap->adding);
    unsigned count = atomic_load_explicit (&tap->source_count, memory_order_relaxed);
    if (count < MIRRORS_MAX)
        ring = tap_ring_new (RING_SIZE);
    if (ring) {
        tap->sources[count] = (struct source){ .actor = actor, .ring = ring };
        atomic_store_explicit (&tap->source_count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock (&tap->adding);
    return ring;
}

struct tap_mirror *tap_mirror_new (struct tap *tap, struct address self)
{
    struct tap_mirror *mirror = tap ? calloc (1, sizeof *mirror) : NULL;
    if (!mirror)
        return NULL;
    mirror->tap = tap;
    mirror->ring = add_source (tap, self);
    if (!mirror->ring)
        tap_mirror_destroy (&mirror);
    return mirror;
}

void tap_mirror_destroy (struct tap_mirror **mirror)
{
    free (*mirror);
    *mirror = NULL;
}

bool tap_wanted (const struct tap_mirror *mirror)
{
    return mirror && atomic_load_explicit (&mirror->tap->lookers, memory_order_relaxed) > 0;
}

/*  What a message is, and how many values it carries: a batch its items, any
    other one. Only its head is looked at. NULL when it is none. */
static const struct message_spec *count_values (const void *bytes, size_t size, uint64_t *count)
{
    struct cursor cursor = cursor_of ((struct raw){ bytes, (uint32_t) size });
    struct value head[5]; /* array, version, id, trace, items */
    size_t read = 0;
    while (read < sizeof head / sizeof *head && cursor_next (&cursor, &head[read]))
        read++;
    *count = 1;
    if (read < 3 || head[2].type != VALUE_UINT)
        return NULL;
    const struct message_spec *spec = message_spec (head[2].uint);
    if (spec && spec->batch)
        *count = read == 5 && head[4].type == VALUE_ARRAY ? head[4].count : 0;
    return spec;
}

/*  Room for a copy of so many bytes; NULL when too much waits, or too much was
    published. */
static struct handed *begin_copy (struct tap_mirror *mirror, size_t size)
{
    if (atomic_load_explicit (&mirror->tap->spent, memory_order_relaxed))
        return NULL;
    return tap_ring_room (mirror->ring, sizeof (struct handed) + size);
}

/*  Hands over a copy that was written behind its head. */
static void end_copy (struct tap_mirror *mirror, struct handed *handed, struct party other,
                      enum direction direction, size_t size)
{
    *handed = (struct handed){ clock_wall_us (), mirror->lost, other, direction };
    tap_ring_put (mirror->ring, sizeof *handed + size);
}

/*  Hands a copy to the tap's thread, or counts its values as lost. */
static void hand_over (struct tap_mirror *mirror, struct address other, enum direction direction,
                       const void *bytes, size_t size)
{
    if (!tap_wanted (mirror))
        return;
    struct handed *handed = begin_copy (mirror, size);
    if (handed) {
        memcpy (handed + 1, bytes, size);
        end_copy (mirror, handed, (struct party){ .actor = other }, direction, size);
        return;
    }
    uint64_t count;
    count_values (bytes, size, &count);
    mirror->lost += count;
}

void tap_sent (struct tap_mirror *mirror, struct address to, const void *bytes, size_t size)
{
    hand_over (mirror, to, DIRECTION_SENT, bytes, size);
}

void tap_received (struct tap_mirror *mirror, struct address from, const void *bytes, size_t size)
{
    hand_over (mirror, from, DIRECTION_RECEIVED, bytes, size);
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

/*  Hands over one half of a call, encoded where it is handed over, or counts it as
    lost. */
static void hand_over_call (struct tap_mirror *mirror, enum service service, enum direction direction,
                            const struct message *message)
{
    enum { COPY_SIZE_MAX = PATH_SIZE_MAX + REQUEST_BODY_SIZE_MAX + 1024 };
    struct handed *handed = begin_copy (mirror, COPY_SIZE_MAX);
    struct packer packer;
    if (handed)
        packer_init (&packer, handed + 1, COPY_SIZE_MAX);
    if (!handed || encode_message (&packer, message) != ENCODE_OK)
        mirror->lost++;
    else
        end_copy (mirror, handed, (struct party){ .service = service_name (service) }, direction,
                  packer.size);
}

void tap_http_begun (struct tap_mirror *mirror, enum service service, const struct message *request)
{
    if (!mirror)
        return;
    keep_call (mirror, &request->http_request);
    if (tap_wanted (mirror))
        hand_over_call (mirror, service, DIRECTION_SENT, request);
}

void tap_http_ended (struct tap_mirror *mirror, enum service service, const struct message *answer)
{
    if (!mirror)
        return;
    const struct call *call = end_call (mirror, answer->http_answer.request);
    if (!tap_wanted (mirror))
        return;
    struct message shown = *answer;
    shown.http_answer.body = NO_RAW;
    if (call) {
        shown.http_answer.method = text_of (method_name (call->method));
        shown.http_answer.path = (struct text){ call->path, call->path_size };
    }
    hand_over_call (mirror, service, DIRECTION_RECEIVED, &shown);
}

void tap_http_cancelled (struct tap_mirror *mirror, uint64_t request)
{
    if (mirror)
        end_call (mirror, request);
}

/*  ---- a value ------------------------------------------------------------ */

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

/*  "decision/0", or the name of a service. */
static struct text name_party (char *memory, struct party party)
{
    struct builder name;
    builder_init (&name, memory, NAME_MAX_BYTES);
    builder_literal (&name, party.service ? party.service : role_name (party.actor.role));
    if (!party.service) {
        builder_literal (&name, "/");
        builder_uint (&name, party.actor.peer);
    }
    return builder_text (&name);
}

/*  What all values of a copy begin with. */
static struct packer begin_body (struct tap *tap, const struct source *source, const struct handed *handed)
{
    char names[2][NAME_MAX_BYTES];
    bool sent = handed->direction == DIRECTION_SENT;
    struct text self = name_party (names[0], (struct party){ .actor = source->actor });
    struct text other = name_party (names[1], handed->other);
    struct packer packer;
    packer_init (&packer, tap->body, sizeof tap->body);
    pack_array (&packer, 9);
    pack_uint (&packer, BODY_VERSION);
    pack_uint (&packer, handed->time_us);
    pack_literal (&packer, tap->process);
    pack_literal (&packer, direction_names[handed->direction]);
    pack_text (&packer, sent ? self : other);
    pack_text (&packer, sent ? other : self);
    return packer;
}

/*  What all topics of an actor's messages of a name begin with. */
static struct builder begin_topic (char *memory, size_t capacity, enum role actor,
                                   const struct message_spec *spec)
{
    struct builder topic;
    builder_init (&topic, memory, capacity);
    builder_literal (&topic, role_name (actor));
    builder_literal (&topic, " ");
    builder_literal (&topic, spec->name);
    builder_literal (&topic, " ");
    return topic;
}

/*  A value as a message of its own. An item of a batch that needs no cut is as it
    came; all else is encoded anew. */
static struct raw one_value (struct tap *tap, const struct message_spec *spec, struct message *message,
                             struct raw item, struct text user)
{
    uint8_t left_out[USER_SIZE_MAX + 64];
    struct packer packer;
    packer_init (&packer, tap->value, sizeof tap->value);
    if (!spec->batch || item.size > SHOWN_SIZE_MAX) {
        cut (message, spec, user, left_out, sizeof left_out);
        return encode_message (&packer, message) == ENCODE_OK ? packer_raw (&packer) : NO_RAW;
    }
    pack_array (&packer, 4);
    pack_uint (&packer, PROTOCOL_VERSION);
    pack_uint (&packer, (uint64_t) spec->id);
    pack_uint (&packer, message->trace);
    pack_array (&packer, 1);
    pack_raw (&packer, item);
    return packer_raw (&packer);
}

/*  Publishes a value behind what its body begins with. */
static void publish (struct tap *tap, enum role actor, struct packer body, uint64_t lost,
                     const struct message_spec *spec, struct message *message, struct raw item)
{
    const struct text user = tap_user (spec, message);
    struct raw value = one_value (tap, spec, message, item, user);
    if (!value.size)
        return;
    char memory[TAP_TOPIC_SIZE_MAX + 1];
    struct builder topic = begin_topic (memory, sizeof memory, actor, spec);
    builder_add (&topic, user);
    pack_uint (&body, ++tap->sequences[actor][spec->id]);
    pack_uint (&body, lost);
    pack_raw (&body, value);
    const uint32_t copies = tap->copies[actor][spec->id];
    tap->budget.left_ns -= copies > 1 ? (int64_t) (copies - 1) * COPY_NS : 0;
    if (!body.overflow && zmq_send (tap->publisher, memory, topic.size, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
        zmq_send (tap->publisher, body.data, body.size, ZMQ_DONTWAIT);
}

/*  Counts the values of a copy without showing them: the gap in their numbers
    tells of them. */
static void pass_over (struct tap *tap, const struct source *source)
{
    uint64_t count;
    const struct message_spec *spec =
        count_values (source->first + 1, source->first_size - sizeof *source->first, &count);
    if (spec)
        tap->sequences[source->actor.role][spec->id] += count;
}

/*  Takes a copy apart. What the budget does not reach for is told by the gap in the
    numbers. */
static void show (struct tap *tap, const struct source *source)
{
    const struct handed *handed = source->first;
    const enum role actor = source->actor.role;
    struct decoder decoder;
    struct message message;
    if (decode_begin (&decoder, handed + 1, source->first_size - sizeof *handed, true) != DECODE_OK)
        return;
    if (!tap->wishes[actor][decoder.spec->id]) {
        pass_over (tap, source);
        return;
    }
    const struct packer body = begin_body (tap, source, handed);
    enum decode_result result;
    const uint8_t *at = decoder.cursor.at;
    while ((result = decode_next (&decoder, &message)) != DECODE_END) {
        struct raw item = { at, (uint32_t) (decoder.cursor.at - at) };
        at = decoder.cursor.at;
        if (tap->budget.left_ns < 0)
            tap->sequences[actor][decoder.spec->id]++;
        else if (result == DECODE_OK)
            publish (tap, actor, body, handed->lost, decoder.spec, &message, item);
    }
}

/*  ---- what publishing may take ------------------------------------------- */

static void budget_begin (struct budget *budget)
{
    long processors = sysconf (_SC_NPROCESSORS_ONLN);
    *budget = (struct budget){ .left_ns = SAVED_NS_MAX,
                               .taken_ns = clock_read_ns (CLOCK_THREAD_CPUTIME_ID),
                               .process_ns = clock_read_ns (CLOCK_PROCESS_CPUTIME_ID),
                               .steady_ns = clock_read_ns (CLOCK_MONOTONIC),
                               .processors = processors > 0 ? (uint64_t) processors : 1 };
}

/*  Takes off what this thread took since the last time. */
static void budget_charge (struct budget *budget)
{
    uint64_t taken_ns = clock_read_ns (CLOCK_THREAD_CPUTIME_ID);
    budget->left_ns -= (int64_t) (taken_ns - budget->taken_ns);
    budget->taken_ns = taken_ns;
}

/*  Adds what came since the last time. What is not used is saved up to a bound, so
    that a short burst is shown whole. */
static void budget_fill (struct budget *budget)
{
    uint64_t process_ns = clock_read_ns (CLOCK_PROCESS_CPUTIME_ID);
    uint64_t steady_ns = clock_read_ns (CLOCK_MONOTONIC);
    uint64_t of_process = (process_ns - budget->process_ns) / SHARE_OF_PROCESS;
    uint64_t machine_ns = (steady_ns - budget->steady_ns) * budget->processors;
    uint64_t busy_ns = 2 * (process_ns - budget->process_ns); /* with those it makes busy */
    uint64_t of_rest = machine_ns > busy_ns ? (machine_ns - busy_ns) / SHARE_OF_REST : 0;
    uint64_t gained = of_process > of_rest ? of_process : of_rest;
    budget->process_ns = process_ns;
    budget->steady_ns = steady_ns;
    budget->left_ns += (int64_t) (gained < 2 * SAVED_NS_MAX ? gained : 2 * SAVED_NS_MAX);
    budget_charge (budget);
    if (budget->left_ns > SAVED_NS_MAX)
        budget->left_ns = SAVED_NS_MAX;
}

/*  ---- the tap's thread --------------------------------------------------- */

/*  Goes to the next copy of this turn. */
static void next_copy (struct source *source)
{
    source->first = tap_ring_first (source->ring, source->end, &source->first_size);
}

/*  The source whose next copy is the oldest; NULL when none is as old as that.
    Actors take turns as they come, and what one says may be the answer to what
    another said before: so time decides. */
static struct source *oldest (struct tap *tap, unsigned count, uint64_t until_us)
{
    struct source *found = NULL;
    for (unsigned i = 0; i < count; i++) {
        struct source *source = &tap->sources[i];
        if (source->first && (!found || source->first->time_us < found->first->time_us))
            found = source;
    }
    if (!found || (found->first->time_us > until_us && found->first->time_us - until_us < CLOCK_STEP_US))
        return NULL;
    return found;
}

/*  Shows what was handed over up to now. An actor hands over before it sends, so
    of what is as old as the beginning of the turn every cause is there when its
    effect is; what came while the turn began is left for the next one. */
static void take_handed (struct tap *tap)
{
    const uint64_t until_us = clock_wall_us ();
    const bool wanted = atomic_load (&tap->lookers) > 0;
    const unsigned count = atomic_load_explicit (&tap->source_count, memory_order_acquire);
    for (unsigned i = 0; i < count; i++) {
        tap->sources[i].end = tap_ring_end (tap->sources[i].ring);
        next_copy (&tap->sources[i]);
    }
    bool spent = atomic_load_explicit (&tap->spent, memory_order_relaxed);
    struct source *source;
    for (size_t bytes = 0; (source = oldest (tap, count, until_us)) != NULL;) {
        bytes += source->first_size;
        if (wanted && !spent)
            show (tap, source);
        else if (wanted)
            pass_over (tap, source);
        tap_ring_drop (source->ring);
        next_copy (source);
        if (spent)
            continue;
        if (bytes >= CHARGE_BYTES) {
            bytes = 0;
            budget_charge (&tap->budget);
        }
        spent = tap->budget.left_ns < 0;
    }
    budget_fill (&tap->budget);
    spent = tap->budget.left_ns < (spent ? RESUME_NS : 0);
    atomic_store_explicit (&tap->spent, spent, memory_order_relaxed);
}

/*  Counts for each actor and message who may want some of it: one is the beginning
    of the other, the topic or what was asked for. */
static void count_wish (counts wishes, struct text prefix, bool more)
{
    for (enum role actor = ROLE_SHELL; actor <= ROLE_STATS; actor++)
        for (unsigned id = 0; id <= MESSAGE_ID_MAX; id++) {
            const struct message_spec *spec = message_spec (id);
            char memory[NAME_MAX_BYTES * 2];
            if (!spec)
                continue;
            struct builder topic = begin_topic (memory, sizeof memory, actor, spec);
            size_t size = topic.size < prefix.size ? topic.size : prefix.size;
            if (memcmp (memory, prefix.data, size) == 0 && (more || wishes[actor][id] > 0))
                wishes[actor][id] += more ? 1 : UINT32_MAX;
        }
}

/*  Counts who comes and goes: XPUB tells of the first and the last of each
    subscription. */
static void take_subscriptions (struct tap *tap)
{
    char told[SUBSCRIPTION_SIZE_MAX + 1];
    int size;
    while ((size = zmq_recv (tap->publisher, told, sizeof told, ZMQ_DONTWAIT)) >= 0) {
        if (size == 0 || (size_t) size > sizeof told || told[0] < 0 || told[0] > 1)
            continue;
        bool more = told[0] == 1;
        struct text prefix = { told + 1, (uint32_t) size - 1 };
        if (prefix.size >= PRESENCE_HEAD_SIZE && prefix.data[0] == '\0') {
            prefix.data += PRESENCE_HEAD_SIZE;
            prefix.size -= PRESENCE_HEAD_SIZE;
            count_wish (tap->copies, prefix, more);
            continue;
        }
        if (!more && atomic_load (&tap->lookers) == 0)
            continue;
        count_wish (tap->wishes, prefix, more);
        atomic_fetch_add (&tap->lookers, more ? 1 : UINT_MAX);
    }
}

static void *run (void *argument)
{
    struct tap *tap = argument;
    const struct sched_param none = { 0 };
    pthread_setschedparam (pthread_self (), SCHED_IDLE, &none);
    budget_begin (&tap->budget);
    zmq_pollitem_t items[2] = { { .socket = tap->publisher, .events = ZMQ_POLLIN },
                                { .fd = tap->stopper, .events = ZMQ_POLLIN } };
    while (!(items[1].revents & ZMQ_POLLIN)) {
        /*  No actor wakes this thread: while somebody looks it looks by itself. */
        long wait_ms = tap->keys ? SUBSCRIPTION_LOOK_MS : -1;
        zmq_poll (items, 2, atomic_load (&tap->lookers) > 0 ? BURST_MS : wait_ms);
        take_subscriptions (tap);
        take_handed (tap);
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
    int64_t size_max = SUBSCRIPTION_SIZE_MAX; /* nobody says more to a tap */
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

/*  Opened long before it is needed: at the end there may be nothing to open it with. */
static bool open_stopper (struct tap *tap)
{
    tap->stopper = eventfd (0, EFD_CLOEXEC);
    return tap->stopper >= 0;
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
    return tap->process && open_publisher (tap, endpoint) && open_stopper (tap) && start (tap);
}

struct tap *tap_open (const char *endpoint, const char *process, const char *curve_dir,
                      struct monitor *monitor, char *reason, size_t reason_size)
{
    struct tap *tap = calloc (1, sizeof *tap);
    errno = ENOMEM;
    bool good = tap != NULL;
    if (good) {
        tap->stopper = -1;
        pthread_mutex_init (&tap->adding, NULL);
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

static void stop (struct tap *tap)
{
    while (eventfd_write (tap->stopper, 1) != 0 && errno == EINTR)
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
    if (tap->stopper >= 0)
        close (tap->stopper);
    curve_close (&tap->curve);
    while (tap->publishing && zmq_ctx_term (tap->publishing) != 0 && errno == EINTR)
        continue;
    for (unsigned i = 0; i < atomic_load (&tap->source_count); i++)
        tap_ring_destroy (&tap->sources[i].ring);
    pthread_mutex_destroy (&tap->adding);
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

static bool subscribe (struct tap_reader *reader, const char *prefix, size_t size)
{
    bool good = true;
    for (size_t i = 0; good && i < reader->count; i++)
        good = zmq_setsockopt (reader->lookers[i].socket, ZMQ_SUBSCRIBE, size ? prefix : "", size) == 0;
    return good;
}

/*  Whether a beginning of topics goes beyond actor and type. */
static bool names_user (struct text prefix)
{
    const char *type = prefix.size ? memchr (prefix.data, ' ', prefix.size) : NULL;
    const char *end = prefix.data + prefix.size;
    const char *user = type ? memchr (type + 1, ' ', (size_t) (end - type - 1)) : NULL;
    return user && user + 1 < end;
}

/*  Says first that one more wants all of it: of those who ask for the same, XPUB
    tells of one only. Who names a player gets little, and does not say so. */
static bool say_presence (struct tap_reader *reader, struct text prefix)
{
    char presence[PRESENCE_HEAD_SIZE + NAME_MAX_BYTES * 2] = "";
    uint32_t size = PRESENCE_HEAD_SIZE + prefix.size;
    if (names_user (prefix) || size > sizeof presence)
        return true;
    if (getrandom (presence + 1, PRESENCE_HEAD_SIZE - 1, 0) != PRESENCE_HEAD_SIZE - 1)
        return false;
    if (prefix.size)
        memcpy (presence + PRESENCE_HEAD_SIZE, prefix.data, prefix.size);
    return subscribe (reader, presence, size);
}

bool tap_reader_want (struct tap_reader *reader, struct text prefix)
{
    return say_presence (reader, prefix) && subscribe (reader, prefix.data, prefix.size);
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
    if (!reader->curve || clock_steady_us () < reader->renew_us)
        return;
    reader->renew_us = clock_steady_us () + RENEW_US;
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
