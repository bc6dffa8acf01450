/*  fuzz_session.c - a session whose other end, and the way there, are hostile.

    The bytes are a script: frames of a good other end carried, lost or with
    bytes changed, frames made of the script itself, time, payloads. Whatever
    comes, a session ends its sending, keeps within its bounds, and says when it
    wants to be called next.
*/
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/session.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

enum { STEPS_MAX = 400, PAYLOAD_SIZE_MAX = 64, FRAMES_A_TURN_MAX = STEPS_MAX + SESSION_RESEND_BURST_MAX };

/*  What is left of the script. */
struct script {
    const uint8_t *at;
    const uint8_t *end;
};

struct play {
    struct script script;
    uint64_t now_ms;
    struct session *victim;
    struct session *other;
    unsigned sent; /* payloads the victim took */
};

static uint8_t byte_next (struct script *script)
{
    return script->at < script->end ? *script->at++ : 0;
}

/*  So many bytes, or what there is, in memory of exactly their size. */
static uint8_t *bytes_next (struct script *script, size_t *size)
{
    size_t left = (size_t) (script->end - script->at);
    *size = *size < left ? *size : left;
    uint8_t *copy = malloc (*size + !*size);
    assert (copy);
    memcpy (copy, script->at, *size);
    script->at += *size;
    return copy;
}

static void receive (struct play *play, const void *head, size_t head_size, const void *payload,
                     size_t payload_size)
{
    struct hello hello;
    bool greets = session_hello (head, head_size, payload, payload_size, &hello);
    assert (!greets || (hello.incarnation != 0 && hello.protocol_min <= hello.protocol_max));
    uint32_t before = session_unacknowledged (play->victim);
    enum session_input input =
        session_receive (play->victim, play->now_ms, head, head_size, payload, payload_size);
    if (input == SESSION_DELIVER || input == SESSION_CAME || input == SESSION_RESTARTED)
        assert (session_state (play->victim) == SESSION_UP);
    assert (input != SESSION_DELIVER || payload_size > 0);
    assert (input != SESSION_NO || session_reason (play->victim)[0] != '\0');
    assert (input != SESSION_RUBBISH || session_unacknowledged (play->victim) == before);
    assert (session_unacknowledged (play->victim) <= before);
}

/*  One frame of the other end, with a byte of head or payload changed. */
static void carry (struct play *play, bool change)
{
    struct session_frame frame;
    if (!session_next (play->other, play->now_ms, &frame))
        return;
    size_t head_size = frame.head_size, payload_size = frame.payload_size;
    uint8_t *both = malloc (head_size + payload_size);
    assert (both);
    memcpy (both, frame.head, head_size);
    if (payload_size > 0)
        memcpy (both + head_size, frame.payload, payload_size);
    if (change) {
        size_t at = byte_next (&play->script) % (head_size + payload_size);
        both[at] = byte_next (&play->script);
    }
    receive (play, both, head_size, both + head_size, payload_size);
    free (both);
}

/*  A frame of the script's own. */
static void forge (struct play *play)
{
    size_t head_size = byte_next (&play->script) % (SESSION_HEAD_SIZE_MAX + 8u);
    size_t payload_size = byte_next (&play->script);
    uint8_t *head = bytes_next (&play->script, &head_size);
    uint8_t *payload = bytes_next (&play->script, &payload_size);
    receive (play, head, head_size, payload, payload_size);
    free (head);
    free (payload);
}

/*  Everything that the victim has to say, handed to the other end or lost. */
static void answer (struct play *play, bool lost, bool stuck)
{
    struct session_frame frame;
    unsigned count = 0;
    while (session_next (play->victim, play->now_ms, &frame)) {
        assert (frame.head_size > 0 && frame.head_size <= SESSION_HEAD_SIZE_MAX);
        assert (!frame.payload == !frame.payload_size);
        assert (++count < FRAMES_A_TURN_MAX);
        if (stuck)
            session_stuck (play->victim, play->now_ms);
        else if (!lost)
            session_receive (play->other, play->now_ms, frame.head, frame.head_size, frame.payload,
                             frame.payload_size);
    }
    session_expire (play->victim, play->now_ms);
    session_expire (play->other, play->now_ms);
    while (session_next (play->victim, play->now_ms, &frame))
        assert (++count < 2 * FRAMES_A_TURN_MAX);
    assert (session_due (play->victim) > play->now_ms);
}

static void send_both (struct play *play)
{
    uint8_t payload[PAYLOAD_SIZE_MAX];
    size_t size = 1u + byte_next (&play->script) % PAYLOAD_SIZE_MAX;
    memset (payload, 'p', size);
    play->sent += session_send (play->victim, payload, size);
    session_send (play->other, payload, size);
}

static void step (struct play *play)
{
    uint8_t what = byte_next (&play->script);
    switch (what % 8) {
    case 0:
        forge (play);
        break;
    case 1:
    case 2:
        carry (play, what % 8 == 2);
        break;
    case 3:
        answer (play, what & 8, what & 16);
        break;
    case 4:
        play->now_ms += (uint64_t) byte_next (&play->script) * 16;
        break;
    case 5:
        send_both (play);
        break;
    case 6:
        session_hold (play->victim, what & 8);
        break;
    default:
        carry (play, false);
        answer (play, false, false);
    }
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    struct play play = { .script = { bytes, bytes + size }, .now_ms = 1000 };
    bool first = byte_next (&play.script) & 1;
    struct session_options options = { .role = ROLE_DECISION,
                                       .incarnation = 11,
                                       .protocol_min = 1,
                                       .protocol_max = 2,
                                       .version = "0.1.0",
                                       .peer = { ROLE_STATS, 0 },
                                       .speaks_first = first };
    play.victim = session_new (&options);
    options.role = ROLE_STATS;
    options.peer.role = ROLE_DECISION;
    options.incarnation = 22;
    options.speaks_first = !first;
    play.other = session_new (&options);
    assert (play.victim && play.other);
    for (unsigned i = 0; i < STEPS_MAX && play.script.at < play.script.end; i++)
        step (&play);
    assert (session_unacknowledged (play.victim) <= play.sent);
    session_destroy (&play.victim);
    session_destroy (&play.other);
    return 0;
}
