/*  session.c - see session.h.

    What keeps it right: numbers belong to a pair of incarnations. A frame with
    a payload is taken only from the incarnation whose HELLO was accepted, and
    only when it names ours as the one it acknowledges. So neither a process
    that is gone nor one that has not heard of our restart can be mistaken for
    the one we count with.

    Another incarnation takes the place of one that we counted with only once it
    has shown that it heard our HELLO: a HELLO that was under way for long cannot
    do that. Whoever was replaced and still lives is told so.

    Repetition goes back to the first payload that is not acknowledged. Payloads
    that were never sent go out without bound; repeated ones stay within
    SESSION_RESEND_BURST_MAX of what is acknowledged, so that a backlog comes
    through at the pace of the answers.
*/
#include "actors/base/session.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "include/mistake.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    REFUSED_RETRY_MS = 3000,  /* between HELLOs after a refusal */
    ENDED_MAX = 8,            /* incarnations that ended and are remembered */
    GREETING_SIZE_MAX = 1024, /* an encoded HELLO or REFUSED */
    VERSION_SHOWN_SIZE_MAX = 40,
    HEAD_ROOM = 40,    /* an encoded head: an array of four numbers */
    PIECE_SIZE_MAX = 8 /* what is printable grows by at most so much at once */
};

#define NEVER UINT64_MAX

/*  A payload that is not acknowledged, and the head it was sent with last: one
    piece of memory, so that a socket can send it from here. While a socket holds
    it neither may change; and it may outlive the session. */
struct session_kept {
    struct session_kept *next; /* the one with the next sequence */
    size_t size;               /* of the payload */
    size_t head_size;
    atomic_uint holders; /* the session, until it is acknowledged, and those who share it */
    uint8_t bytes[];     /* HEAD_ROOM, at whose end the head stands, and the payload */
};

/*  The head of a frame, as on the wire. */
struct head {
    uint64_t incarnation;              /* the sender's */
    uint64_t sequence;                 /* 0: no payload, HELLO or REFUSED */
    uint64_t acknowledged;             /* everything up to here was delivered … */
    uint64_t acknowledged_incarnation; /* … of this incarnation; 0: none is known */
};

struct session {
    struct session_options options;
    enum session_state state;

    uint64_t peer;             /* incarnation that was accepted last; 0: none yet */
    bool known;                /* that one has our HELLO */
    uint64_t ended[ENDED_MAX]; /* incarnations before it, the oldest is replaced */
    unsigned ended_count;      /* ever, not bounded */
    uint64_t heard_ms;         /* when it was heard last */
    uint64_t candidate;        /* would take its place, and has yet to show that it heard us */
    unsigned protocol;         /* the newest that we both speak */
    unsigned candidate_protocol;

    struct session_kept *first;   /* not acknowledged, in order */
    struct session_kept *last;    /* NULL when there is none */
    struct session_kept *offered; /* the payload of the frame given last; NULL: it had none */
    bool offered_first;           /* … and it was given for the first time */
    uint32_t offered_unanswered;  /* `unanswered` and `answer_at_ms` before that frame, … */
    uint64_t offered_answer_ms;   /* … which stand if it does not go out */
    struct session_kept *next;    /* to be sent next; NULL: all were sent */
    uint64_t first_sequence;      /* that of `first`, or of the next payload to come */
    uint64_t next_sequence;       /* that of `next`, or of the next payload to come */
    uint64_t sent;                /* highest sequence that was ever sent */
    uint32_t kept_count;
    size_t kept_bytes;

    bool held;               /* nothing is delivered */
    uint64_t delivered;      /* highest sequence that was delivered of `peer` */
    bool owes_sign;          /* a frame without payload goes first: if we were lost, it ends that */
    uint64_t answer_at_ms;   /* something arrived that wants a frame back by then; NEVER: nothing */
    uint32_t unanswered;     /* payloads delivered since the last frame that says so */
    uint64_t answer;         /* whom the next HELLO answers; 0: whom we count with */
    uint64_t refused;        /* incarnation that is owed a REFUSED; 0: none */
    uint64_t hello_at_ms;    /* when HELLO is due */
    uint64_t hello_ms;       /* when it was said last */
    uint64_t sent_ms;        /* when the last frame went out */
    uint64_t stuck_until_ms; /* until then the socket is not asked to take payloads */
    uint64_t resend_at_ms;
    uint64_t resend_wait_ms;

    char reason[REASON_SIZE_MAX + 1];             /* why it is refused */
    char told[REASON_SIZE_MAX + 1];               /* what the REFUSED that is owed says */
    uint8_t bytes[HEAD_ROOM + GREETING_SIZE_MAX]; /* the last frame without a kept payload, likewise */
};

static uint64_t sooner (uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/*  ---- payloads that are kept --------------------------------------------- */

/*  Whoever lets go last frees it. */
static void kept_release (struct session_kept *kept)
{
    if (atomic_fetch_sub_explicit (&kept->holders, 1, memory_order_acq_rel) == 1)
        free (kept);
}

static void kept_drop_first (struct session *self)
{
    struct session_kept *kept = self->first;
    self->first = kept->next;
    if (self->offered == kept)
        self->offered = NULL;
    if (!self->first)
        self->last = NULL;
    if (self->next == kept) {
        self->next = kept->next;
        self->next_sequence++;
    }
    self->first_sequence++;
    self->kept_count--;
    self->kept_bytes -= kept->size;
    kept_release (kept);
}

/*  Forgets everything; numbers start again. */
static void kept_clear (struct session *self)
{
    while (self->first)
        kept_drop_first (self);
    assert (self->kept_count == 0 && self->kept_bytes == 0 && !self->next);
    self->first_sequence = 1;
    self->next_sequence = 1;
    self->sent = 0;
    self->resend_at_ms = NEVER;
    self->resend_wait_ms = SESSION_RESEND_MIN_MS;
}

/*  Goes back to the first payload that is not acknowledged. The other end may
    have lost us meanwhile, and a payload would only tell it that we are back. */
static void rewind_to_first (struct session *self)
{
    self->owes_sign = true;
    self->next = self->first;
    self->next_sequence = self->first_sequence;
    self->resend_at_ms = NEVER;
}

bool session_send (struct session *session, const void *payload, size_t size)
{
    assert (payload && size > 0 && size <= MESSAGE_SIZE_MAX);
    if (session->kept_count >= SESSION_FRAMES_MAX || size > SESSION_BYTES_MAX - session->kept_bytes)
        return false;
    struct session_kept *kept = malloc (sizeof *kept + HEAD_ROOM + size);
    if (!kept)
        return false;
    kept->next = NULL;
    kept->size = size;
    kept->head_size = 0;
    atomic_init (&kept->holders, 1);
    memcpy (kept->bytes + HEAD_ROOM, payload, size);
    if (session->last)
        session->last->next = kept;
    else
        session->first = kept;
    session->last = kept;
    if (!session->next)
        session->next = kept;
    session->kept_count++;
    session->kept_bytes += size;
    return true;
}

/*  ---- states ------------------------------------------------------------- */

/*  How long after a HELLO the next is due as things are; NEVER: it is said only
    when somebody needs it. */
static uint64_t hello_wait_ms (const struct session *self)
{
    switch (self->state) {
    case SESSION_CONNECTING:
    case SESSION_LOST:
        return self->options.speaks_first ? SESSION_HELLO_MS : NEVER;
    case SESSION_UP:
        return self->known ? NEVER : SESSION_HELLO_MS;
    case SESSION_REFUSED:
        return self->options.speaks_first ? REFUSED_RETRY_MS : NEVER;
    }
    return NEVER;
}

/*  The time some wait after another; NEVER stays. */
static uint64_t after (uint64_t ms, uint64_t wait_ms)
{
    return wait_ms == NEVER ? NEVER : ms + wait_ms;
}

/*  The one place where the state changes. */
static void enter (struct session *self, enum session_state state, uint64_t now_ms)
{
    self->state = state;
    if (state != SESSION_REFUSED)
        self->reason[0] = '\0';
    self->hello_at_ms = after (state == SESSION_REFUSED ? now_ms : self->hello_ms, hello_wait_ms (self));
    self->resend_wait_ms = SESSION_RESEND_MIN_MS;
    rewind_to_first (self);
}

/*  Somebody speaks who does not know us, or whom we do not know: our HELLO
    makes it say its own, or lets it in. Not more often than usual. */
static void want_hello (struct session *self)
{
    if (self->state != SESSION_REFUSED)
        self->hello_at_ms = sooner (self->hello_at_ms, self->hello_ms + SESSION_HELLO_MS);
}

static bool has_ended (const struct session *self, uint64_t incarnation)
{
    for (unsigned i = 0; i < ENDED_MAX; i++)
        if (self->ended[i] == incarnation)
            return true;
    return false;
}

struct session *session_new (const struct session_options *options)
{
    assert (options->incarnation != 0 && options->version && options->peer.role != ROLE_SHELL);
    assert (options->protocol_min > 0 && options->protocol_min <= options->protocol_max);
    assert (options->protocol_max < 128);
    struct session *session = calloc (1, sizeof *session);
    if (!session)
        return NULL;
    session->options = *options;
    kept_clear (session);
    session->answer_at_ms = NEVER;
    session->hello_at_ms = options->speaks_first ? 0 : NEVER;
    return session;
}

void session_destroy (struct session **session)
{
    if (!*session)
        return;
    kept_clear (*session);
    free (*session);
    *session = NULL;
}

/*  ---- reading ------------------------------------------------------------ */

static bool uint_next (struct cursor *cursor, uint64_t *uint)
{
    struct value value;
    if (!cursor_next (cursor, &value) || value.type != VALUE_UINT)
        return false;
    *uint = value.uint;
    return true;
}

/*  False when it makes no sense. More elements than are known here are left to
    those who know them. */
static bool read_head (const void *bytes, size_t size, struct head *head)
{
    struct raw raw = { bytes, (uint32_t) size };
    struct value array;
    if (size > SESSION_HEAD_SIZE_MAX || !raw_valid (raw))
        return false;
    struct cursor cursor = cursor_of (raw);
    if (!cursor_next (&cursor, &array) || array.type != VALUE_ARRAY || array.count < 4)
        return false;
    if (!uint_next (&cursor, &head->incarnation) || !uint_next (&cursor, &head->sequence) ||
        !uint_next (&cursor, &head->acknowledged) || !uint_next (&cursor, &head->acknowledged_incarnation))
        return false;
    return head->incarnation != 0 && (head->acknowledged_incarnation != 0 || head->acknowledged == 0);
}

/*  HELLO and REFUSED are read whatever version of the language they come in:
    they are how two versions find out about each other. */
static bool read_greeting (const void *bytes, size_t size, struct message *message)
{
    struct raw raw = { bytes, (uint32_t) size };
    struct value array;
    uint64_t version, id;
    if (size > GREETING_SIZE_MAX || !raw_valid (raw))
        return false;
    struct decoder decoder = { .count = 1, .cursor = cursor_of (raw) };
    if (!cursor_next (&decoder.cursor, &array) || array.type != VALUE_ARRAY || array.count < 3)
        return false;
    if (!uint_next (&decoder.cursor, &version) || !uint_next (&decoder.cursor, &id) ||
        !uint_next (&decoder.cursor, &decoder.trace))
        return false;
    if (id != MESSAGE_HELLO && id != MESSAGE_REFUSED)
        return false;
    decoder.spec = message_spec (id);
    return decode_next (&decoder, message) == DECODE_OK;
}

/*  True when a HELLO makes sense together with its head. */
static bool hello_fits (const struct hello *hello, const struct head *head)
{
    return head->sequence == 0 && hello->incarnation == head->incarnation && hello->protocol_min > 0 &&
           hello->protocol_min <= hello->protocol_max;
}

bool session_hello (const void *head, size_t head_size, const void *payload, size_t payload_size,
                    struct hello *hello)
{
    struct head read;
    struct message message;
    if (!read_head (head, head_size, &read) || !read_greeting (payload, payload_size, &message) ||
        message.id != MESSAGE_HELLO || !hello_fits (&message.hello, &read))
        return false;
    *hello = message.hello;
    return true;
}

/*  ---- receiving: who is there -------------------------------------------- */

static void add_range (struct builder *builder, uint64_t min, uint64_t max)
{
    builder_uint (builder, min);
    if (max == min)
        return;
    builder_literal (builder, " to ");
    builder_uint (builder, max);
}

static void add_name (struct builder *builder, enum role role, uint64_t index)
{
    builder_literal (builder, role_name (role));
    builder_literal (builder, "/");
    builder_uint (builder, index);
}

/*  Why the two cannot work together, into `told`; false when they can. */
static bool find_reason (struct session *self, const struct hello *hello)
{
    const struct session_options *options = &self->options;
    bool stranger = hello->role != options->peer.role || hello->index != options->peer.peer;
    bool foreign = hello->protocol_min > options->protocol_max || hello->protocol_max < options->protocol_min;
    if (!stranger && !foreign)
        return false;
    struct builder builder;
    builder_init (&builder, self->told, sizeof self->told);
    builder_literal (&builder, "this is guerdon ");
    builder_printable (&builder, text_of (options->version), VERSION_SHOWN_SIZE_MAX);
    if (stranger) {
        builder_literal (&builder, " looking for ");
        add_name (&builder, options->peer.role, options->peer.peer);
    } else {
        builder_literal (&builder, " speaking protocol ");
        add_range (&builder, options->protocol_min, options->protocol_max);
    }
    builder_literal (&builder, ", the other end is ");
    if (stranger) {
        add_name (&builder, hello->role, hello->index);
        builder_literal (&builder, " of ");
    }
    builder_printable (&builder, hello->version, VERSION_SHOWN_SIZE_MAX);
    if (foreign) {
        builder_literal (&builder, " speaking ");
        add_range (&builder, hello->protocol_min, hello->protocol_max);
    }
    return true;
}

/*  One whose place was taken still lives: two run where one should. */
static void tell_replaced (struct session *self, uint64_t incarnation)
{
    struct builder builder;
    builder_init (&builder, self->told, sizeof self->told);
    builder_literal (&builder, "another ");
    add_name (&builder, self->options.peer.role, self->options.peer.peer);
    builder_literal (&builder, " took the place of this one, which can go on only as a new process");
    self->refused = incarnation;
}

/*  Takes what the head acknowledges; false when that was never sent. */
static bool take_acknowledgement (struct session *self, uint64_t now_ms, const struct head *head)
{
    if (head->acknowledged_incarnation != self->options.incarnation)
        return true;
    if (head->acknowledged > self->sent)
        return false;
    if (!self->known && self->state == SESSION_UP)
        self->hello_at_ms = NEVER;
    self->known = true;
    bool progress = head->acknowledged >= self->first_sequence;
    while (self->first_sequence <= head->acknowledged)
        kept_drop_first (self);
    if (progress) {
        self->resend_wait_ms = SESSION_RESEND_MIN_MS;
        self->resend_at_ms = self->sent < self->first_sequence ? NEVER : now_ms + self->resend_wait_ms;
    }
    return true;
}

/*  The incarnation that we count with was heard; true when it had been lost. */
static bool hear (struct session *self, uint64_t now_ms)
{
    bool came = self->state != SESSION_UP;
    self->heard_ms = now_ms;
    if (came)
        enter (self, SESSION_UP, now_ms);
    return came;
}

/*  Counts with another incarnation from now on. */
static enum session_input change_peer (struct session *self, uint64_t now_ms, const struct head *head)
{
    bool restarted = self->peer != 0;
    if (restarted) {
        self->ended[self->ended_count++ % ENDED_MAX] = self->peer;
        kept_clear (self);
    }
    self->peer = head->incarnation;
    self->known = head->acknowledged_incarnation == self->options.incarnation;
    self->candidate = 0;
    self->protocol = self->candidate_protocol;
    self->delivered = 0;
    self->unanswered = 0;
    self->heard_ms = now_ms;
    self->answer_at_ms = 0;
    enter (self, SESSION_UP, now_ms);
    return restarted ? SESSION_RESTARTED : SESSION_CAME;
}

/*  A HELLO of whom we count with. */
static enum session_input hear_again (struct session *self, uint64_t now_ms, const struct head *head)
{
    if (!take_acknowledgement (self, now_ms, head))
        return SESSION_RUBBISH;
    self->answer_at_ms = 0;
    return hear (self, now_ms) ? SESSION_CAME : SESSION_NOTHING;
}

/*  A HELLO of another. One who has heard us is welcome, and the first is too. */
static enum session_input hear_other (struct session *self, uint64_t now_ms, const struct head *head,
                                      const struct hello *hello)
{
    bool to_us = head->acknowledged_incarnation == self->options.incarnation;
    if (to_us && head->acknowledged != 0)
        return SESSION_RUBBISH;
    self->candidate_protocol = (unsigned) sooner (hello->protocol_max, self->options.protocol_max);
    if (to_us || self->peer == 0)
        return change_peer (self, now_ms, head);
    self->candidate = head->incarnation;
    self->answer = head->incarnation;
    return SESSION_NOTHING;
}

static enum session_input receive_hello (struct session *self, uint64_t now_ms, const struct head *head,
                                         const struct hello *hello)
{
    if (!hello_fits (hello, head))
        return SESSION_RUBBISH;
    if (find_reason (self, hello)) {
        /*  Whoever is up is not shut out by another who knocks. */
        if (self->state != SESSION_UP)
            enter (self, SESSION_REFUSED, now_ms);
        memcpy (self->reason, self->told, sizeof self->reason);
        self->refused = head->incarnation;
        return SESSION_NO;
    }
    enum session_input input = head->incarnation == self->peer ? hear_again (self, now_ms, head)
                                                               : hear_other (self, now_ms, head, hello);
    if (input != SESSION_RUBBISH && head->acknowledged_incarnation != self->options.incarnation)
        self->hello_at_ms = now_ms;
    return input;
}

/*  A refusal counts when it is for us, and not while another is up: then it comes
    late, of one who was there before. */
static enum session_input receive_refused (struct session *self, uint64_t now_ms, const struct head *head,
                                           struct text reason)
{
    bool to_us = head->acknowledged_incarnation == self->options.incarnation;
    if (!to_us || (self->state == SESSION_UP && head->incarnation != self->peer))
        return SESSION_NOTHING;
    enter (self, SESSION_REFUSED, now_ms);
    struct builder builder;
    builder_init (&builder, self->reason, sizeof self->reason);
    builder_literal (&builder, "refused by ");
    add_name (&builder, self->options.peer.role, self->options.peer.peer);
    builder_literal (&builder, ": ");
    builder_printable (&builder, reason, sizeof self->reason - builder.size - PIECE_SIZE_MAX);
    return SESSION_NO;
}

/*  ---- receiving: what it says -------------------------------------------- */

/*  What is delivered in its turn need not be acknowledged at once: mostly an
    answer follows that can say so. The rest means that the two differ, and the
    other end is told where we are. */
static enum session_input receive_payload (struct session *self, uint64_t now_ms, uint64_t sequence)
{
    bool follows = !self->held && sequence == self->delivered + 1;
    self->unanswered += follows;
    bool may_wait = follows && self->unanswered < SESSION_ANSWER_FRAMES;
    self->answer_at_ms = may_wait ? sooner (self->answer_at_ms, now_ms + SESSION_ANSWER_MS) : 0;
    if (MISTAKE (NO_DEDUPE) && sequence <= self->delivered)
        return SESSION_DELIVER;
    if (!follows)
        return SESSION_NOTHING;
    self->delivered = sequence;
    return SESSION_DELIVER;
}

/*  A frame that is no greeting. */
static enum session_input receive_frame (struct session *self, uint64_t now_ms, const struct head *head)
{
    bool to_us = head->acknowledged_incarnation == self->options.incarnation;
    if (to_us && head->incarnation == self->candidate)
        return head->acknowledged == 0 ? change_peer (self, now_ms, head) : SESSION_RUBBISH;
    if (self->state == SESSION_REFUSED)
        return SESSION_NOTHING;
    if (!to_us || head->incarnation != self->peer) {
        want_hello (self);
        return SESSION_NOTHING;
    }
    if (!take_acknowledgement (self, now_ms, head))
        return SESSION_RUBBISH;
    if (hear (self, now_ms)) {
        self->answer_at_ms = 0;
        return SESSION_CAME;
    }
    return head->sequence > 0 ? receive_payload (self, now_ms, head->sequence) : SESSION_NOTHING;
}

enum session_input session_receive (struct session *session, uint64_t now_ms, const void *head,
                                    size_t head_size, const void *payload, size_t payload_size)
{
    struct head read;
    struct message message;
    if (!read_head (head, head_size, &read) || (read.sequence > 0 && payload_size == 0))
        return SESSION_RUBBISH;
    bool greeting = read.sequence == 0 && payload_size > 0;
    if (greeting && !read_greeting (payload, payload_size, &message))
        return SESSION_RUBBISH;
    if (has_ended (session, read.incarnation)) {
        if (greeting && message.id == MESSAGE_HELLO)
            tell_replaced (session, read.incarnation);
        return SESSION_NOTHING;
    }
    if (!greeting)
        return receive_frame (session, now_ms, &read);
    return message.id == MESSAGE_HELLO ? receive_hello (session, now_ms, &read, &message.hello)
                                       : receive_refused (session, now_ms, &read, message.refused.reason);
}

void session_hold (struct session *session, bool held)
{
    session->held = held;
}

/*  ---- time --------------------------------------------------------------- */

bool session_expire (struct session *session, uint64_t now_ms)
{
    if (session->state != SESSION_UP || now_ms < session->heard_ms + SESSION_LOST_MS)
        return false;
    enter (session, SESSION_LOST, now_ms);
    return true;
}

/*  ---- sending ------------------------------------------------------------ */

/*  Puts a head into the room before a payload, and begins a frame with it. */
static void put_head (struct session_frame *frame, uint8_t *bytes, const struct head *head)
{
    uint8_t memory[HEAD_ROOM];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_array (&packer, 4);
    pack_uint (&packer, head->incarnation);
    pack_uint (&packer, head->sequence);
    pack_uint (&packer, head->acknowledged);
    pack_uint (&packer, head->acknowledged_incarnation);
    assert (!packer.overflow);
    memcpy (bytes + HEAD_ROOM - packer.size, memory, packer.size);
    frame->head = bytes + HEAD_ROOM - packer.size;
    frame->head_size = packer.size;
}

/*  A head with what is delivered. One who was refused is nobody to us until it
    says HELLO again, and this asks it to. */
static struct head head_now (const struct session *self, uint64_t sequence)
{
    bool counts = self->state == SESSION_UP || self->state == SESSION_LOST;
    return (struct head){ self->options.incarnation, sequence, counts ? self->delivered : 0,
                          counts ? self->peer : 0 };
}

static void put_greeting (struct session *self, struct session_frame *frame, const struct message *message)
{
    struct packer packer;
    packer_init (&packer, self->bytes + HEAD_ROOM, GREETING_SIZE_MAX);
    enum encode_result result = encode_message (&packer, message);
    assert (result == ENCODE_OK);
    (void) result;
    frame->payload = self->bytes + HEAD_ROOM;
    frame->payload_size = packer.size;
}

static void put_hello (struct session *self, uint64_t now_ms, struct session_frame *frame)
{
    const struct session_options *options = &self->options;
    struct message message = { .id = MESSAGE_HELLO };
    struct text version = text_of (options->version);
    if (version.size > NAME_SIZE_MAX)
        version.size = NAME_SIZE_MAX;
    message.hello = (struct hello){ .role = options->role,
                                    .index = options->index,
                                    .incarnation = options->incarnation,
                                    .protocol_min = options->protocol_min,
                                    .protocol_max = options->protocol_max,
                                    .capabilities = PROTOCOL_CAPABILITIES,
                                    .version = version };
    struct head head = head_now (self, 0);
    if (self->answer != 0 && self->answer != self->peer)
        head = (struct head){ options->incarnation, 0, 0, self->answer };
    put_head (frame, self->bytes, &head);
    put_greeting (self, frame, &message);
    self->answer = 0;
    self->hello_ms = now_ms;
    self->hello_at_ms = after (now_ms, hello_wait_ms (self));
}

static void put_refused (struct session *self, struct session_frame *frame)
{
    struct message message = { .id = MESSAGE_REFUSED };
    message.refused.reason = text_of (self->told);
    struct head head = { self->options.incarnation, 0, 0, self->refused };
    put_head (frame, self->bytes, &head);
    put_greeting (self, frame, &message);
    self->refused = 0;
    if (self->state != SESSION_REFUSED)
        self->reason[0] = '\0';
}

/*  True when the next payload may go out now: a new one, or one to be repeated
    that is close to what is acknowledged. */
static bool payload_due (const struct session *self)
{
    return self->state == SESSION_UP && self->known && self->next &&
           (self->next_sequence > self->sent ||
            self->next_sequence < self->first_sequence + SESSION_RESEND_BURST_MAX);
}

/*  False when the head is that of an earlier time, because a socket still holds
    the frame: then it does not tell what was delivered since. */
static bool put_payload (struct session *self, uint64_t now_ms, struct session_frame *frame)
{
    struct session_kept *kept = self->next;
    bool ours = atomic_load_explicit (&kept->holders, memory_order_acquire) == 1;
    frame->head = kept->bytes + HEAD_ROOM - kept->head_size;
    frame->head_size = kept->head_size;
    frame->payload = kept->bytes + HEAD_ROOM;
    frame->payload_size = kept->size;
    frame->kept = kept;
    if (ours) {
        struct head head = head_now (self, self->next_sequence);
        put_head (frame, kept->bytes, &head);
        kept->head_size = frame->head_size;
        encoded_speak (kept->bytes + HEAD_ROOM, kept->size, self->protocol);
    }
    self->offered = kept;
    self->offered_first = self->next_sequence > self->sent;
    if (self->offered_first)
        self->sent = self->next_sequence;
    if (self->resend_at_ms == NEVER)
        self->resend_at_ms = now_ms + self->resend_wait_ms;
    self->next = kept->next;
    self->next_sequence++;
    return ours;
}

/*  A frame without payload: an acknowledgement, or a sign of life. */
static void put_bare (struct session *self, struct session_frame *frame)
{
    struct head head = head_now (self, 0);
    put_head (frame, self->bytes, &head);
}

/*  Nothing was acknowledged for a while: all of it goes out again, and less and
    less often. */
static void expire_resend (struct session *self, uint64_t now_ms)
{
    if (self->state != SESSION_UP || now_ms < self->resend_at_ms)
        return;
    rewind_to_first (self);
    self->resend_wait_ms = sooner (self->resend_wait_ms * 2, SESSION_RESEND_MAX_MS);
}

static uint64_t heartbeat_at_ms (const struct session *self)
{
    bool counts = self->state == SESSION_UP || self->state == SESSION_LOST;
    return counts ? self->sent_ms + SESSION_HEARTBEAT_MS : NEVER;
}

/*  When the other end is late, our sign of life is a HELLO: should it be another
    by now that waits to be greeted, it comes forth before the old one is lost. */
static void put_heartbeat (struct session *self, uint64_t now_ms, struct session_frame *frame)
{
    if (self->options.speaks_first && now_ms >= self->heard_ms + 2 * SESSION_HEARTBEAT_MS)
        put_hello (self, now_ms, frame);
    else
        put_bare (self, frame);
}

bool session_next (struct session *session, uint64_t now_ms, struct session_frame *frame)
{
    bool tells = true; /* how far we are */
    *frame = (struct session_frame){ .head = NULL };
    session->offered = NULL;
    session->offered_unanswered = session->unanswered;
    session->offered_answer_ms = session->answer_at_ms;
    expire_resend (session, now_ms);
    if (session->refused != 0) {
        put_refused (session, frame);
        return true; /* not to the one that we count with: it is no sign of life */
    }
    if (now_ms >= session->hello_at_ms)
        put_hello (session, now_ms, frame);
    else if (session->owes_sign && session->state == SESSION_UP)
        put_bare (session, frame);
    else if (payload_due (session) && now_ms >= session->stuck_until_ms)
        tells = put_payload (session, now_ms, frame);
    else if (now_ms >= session->answer_at_ms && session->state == SESSION_UP)
        put_bare (session, frame);
    else if (now_ms >= heartbeat_at_ms (session))
        put_heartbeat (session, now_ms, frame);
    else
        return false;
    session->owes_sign = false;
    session->answer_at_ms = tells ? NEVER : session->answer_at_ms;
    session->unanswered = tells ? 0 : session->unanswered;
    session->sent_ms = now_ms;
    return true;
}

void *session_share (const struct session_frame *frame)
{
    atomic_fetch_add_explicit (&frame->kept->holders, 1, memory_order_relaxed);
    return frame->kept;
}

void session_unshare (void *bytes, void *share)
{
    (void) bytes;
    kept_release (share);
}

void session_stuck (struct session *session, uint64_t now_ms)
{
    /*  Nor was told what was delivered. That waits as long, also where it is due: it
        stands behind the payload that is stuck. */
    session->unanswered = session->offered_unanswered;
    session->answer_at_ms = session->offered_answer_ms;
    if (session->answer_at_ms < now_ms + SESSION_STUCK_MS)
        session->answer_at_ms = now_ms + SESSION_STUCK_MS;
    if (!session->offered)
        return;
    session->next = session->offered;
    session->next_sequence--;
    session->sent -= session->offered_first;
    session->offered = NULL;
    session->stuck_until_ms = now_ms + SESSION_STUCK_MS;
}

void session_unstuck (struct session *session)
{
    session->stuck_until_ms = 0;
}

uint64_t session_due (const struct session *session)
{
    bool up = session->state == SESSION_UP;
    if (session->refused != 0 || (up && session->owes_sign))
        return 0;
    uint64_t due_ms = sooner (session->hello_at_ms, heartbeat_at_ms (session));
    if (payload_due (session))
        due_ms = sooner (due_ms, session->stuck_until_ms);
    if (up)
        due_ms = sooner (sooner (due_ms, session->answer_at_ms),
                         sooner (session->resend_at_ms, session->heard_ms + SESSION_LOST_MS));
    return due_ms;
}

/*  ---- looking ------------------------------------------------------------ */

enum session_state session_state (const struct session *session)
{
    return session->state;
}

const char *session_reason (const struct session *session)
{
    return session->reason;
}

uint32_t session_unacknowledged (const struct session *session)
{
    return session->kept_count;
}

uint32_t session_unanswered (const struct session *session)
{
    return session->state == SESSION_UP ? session->unanswered : 0;
}
