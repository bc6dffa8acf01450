/*  test_session.c - a hop that breaks in every way, without sockets or time.

    Two ends, `a` that speaks first and `b` that answers, and a test between
    them that carries, loses and doubles their frames. Frames are handed in as
    copies of exactly their size, so that a sanitizer sees a read beyond them.
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/base/session.h"
#include "proto/codec.h"

enum { INPUTS = SESSION_RUBBISH + 1, STORY_SIZE = 4096, EARLY_MS = 1000 };

static const struct address decision = { ROLE_DECISION, 0 };
static const struct address client = { ROLE_USERMETA_CLIENT, 1 };

/*  ---- two ends ----------------------------------------------------------- */

struct end {
    struct session_options options;
    struct session *session;
    unsigned inputs[INPUTS];    /* how often each came */
    char delivered[STORY_SIZE]; /* payloads, one after another */
};

static void end_open (struct end *end, struct session_options options)
{
    *end = (struct end){ .options = options };
    end->session = session_new (&options);
    assert_non_null (end->session);
}

static struct session_options options_a (uint64_t incarnation)
{
    return (struct session_options){ .role = decision.role,
                                     .index = decision.peer,
                                     .incarnation = incarnation,
                                     .protocol_min = 1,
                                     .protocol_max = 1,
                                     .version = "0.1.0",
                                     .peer = client,
                                     .speaks_first = true };
}

static struct session_options options_b (uint64_t incarnation)
{
    struct session_options options = options_a (incarnation);
    options.role = client.role;
    options.index = client.peer;
    options.peer = decision;
    options.speaks_first = false;
    return options;
}

/*  The end loses its memory and comes back as another incarnation. */
static void end_restart (struct end *end, uint64_t incarnation)
{
    struct session_options options = end->options;
    options.incarnation = incarnation;
    session_destroy (&end->session);
    end_open (end, options);
}

static void ends_open (struct end *a, struct end *b)
{
    end_open (a, options_a (11));
    end_open (b, options_b (22));
}

static void ends_close (struct end *a, struct end *b)
{
    session_destroy (&a->session);
    session_destroy (&b->session);
}

/*  ---- what goes between them --------------------------------------------- */

/*  A frame on its way: owns its bytes. */
struct packet {
    uint8_t *head;
    size_t head_size;
    uint8_t *payload;
    size_t payload_size;
};

static uint8_t *copy_of (const void *bytes, size_t size)
{
    uint8_t *copy = size > 0 ? malloc (size) : NULL;
    if (size > 0) {
        assert_non_null (copy);
        memcpy (copy, bytes, size);
    }
    return copy;
}

static struct packet packet_of (const void *head, size_t head_size, const void *payload, size_t payload_size)
{
    return (struct packet){ copy_of (head, head_size), head_size, copy_of (payload, payload_size),
                            payload_size };
}

static void packet_free (struct packet *packet)
{
    free (packet->head);
    free (packet->payload);
    *packet = (struct packet){ 0 };
}

/*  The next frame of an end; false when nothing is due. */
static bool take (struct end *end, uint64_t now_ms, struct packet *packet)
{
    struct session_frame frame;
    if (!session_next (end->session, now_ms, &frame))
        return false;
    assert_in_range (frame.head_size, 1, SESSION_HEAD_SIZE_MAX);
    *packet = packet_of (frame.head, frame.head_size, frame.payload, frame.payload_size);
    return true;
}

static enum session_input give (struct end *end, uint64_t now_ms, const struct packet *packet)
{
    enum session_input input = session_receive (end->session, now_ms, packet->head, packet->head_size,
                                                packet->payload, packet->payload_size);
    end->inputs[input]++;
    size_t used = strlen (end->delivered);
    if (input == SESSION_DELIVER && used + packet->payload_size < STORY_SIZE)
        memcpy (end->delivered + used, packet->payload, packet->payload_size);
    return input;
}

/*  Carries everything that is due from one end to the other; how many. */
static unsigned carry (struct end *from, struct end *to, uint64_t now_ms)
{
    struct packet packet;
    unsigned count = 0;
    for (; take (from, now_ms, &packet); count++) {
        give (to, now_ms, &packet);
        packet_free (&packet);
    }
    return count;
}

/*  Loses everything that is due; how many. */
static unsigned lose (struct end *from, uint64_t now_ms)
{
    struct packet packet;
    unsigned count = 0;
    for (; take (from, now_ms, &packet); count++)
        packet_free (&packet);
    return count;
}

/*  The same, of frames without payload; how many others. */
static unsigned lose_payloads (struct end *from, uint64_t now_ms)
{
    struct packet packet;
    unsigned count = 0;
    while (take (from, now_ms, &packet)) {
        count += packet.payload_size > 0;
        packet_free (&packet);
    }
    return count;
}

/*  Carries both ways until both are quiet. */
static void settle (struct end *a, struct end *b, uint64_t now_ms)
{
    for (unsigned rounds = 0; carry (a, b, now_ms) + carry (b, a, now_ms) > 0; rounds++)
        assert_in_range (rounds, 0, 10000);
}

/*  Both ends, greeted and quiet at EARLY_MS. */
static void ends_up (struct end *a, struct end *b)
{
    ends_open (a, b);
    settle (a, b, EARLY_MS);
    assert_int_equal (session_state (a->session), SESSION_UP);
    assert_int_equal (session_state (b->session), SESSION_UP);
}

static void say (struct end *end, const char *payload)
{
    assert_true (session_send (end->session, payload, strlen (payload)));
}

/*  A frame made by hand. */
static struct packet forge (const uint64_t *numbers, uint32_t count, const void *payload, size_t size)
{
    uint8_t memory[128];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_array (&packer, count);
    for (uint32_t i = 0; i < count; i++)
        pack_uint (&packer, numbers[i]);
    return packet_of (memory, packer.size, payload, size);
}

static enum session_input give_forged (struct end *end, uint64_t now_ms, uint64_t incarnation,
                                       uint64_t sequence, uint64_t acknowledged, uint64_t of,
                                       const char *payload)
{
    const uint64_t numbers[] = { incarnation, sequence, acknowledged, of };
    struct packet packet = forge (numbers, 4, payload, payload ? strlen (payload) : 0);
    enum session_input input = give (end, now_ms, &packet);
    packet_free (&packet);
    return input;
}

/*  A HELLO or REFUSED made by hand, in some version of the language and with
    fields that nobody knows yet. */
static struct packet forge_greeting (const struct message *message, uint64_t incarnation, uint64_t of,
                                     bool later)
{
    uint8_t memory[1024];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    assert_int_equal (encode_message (&packer, message), ENCODE_OK);
    if (later) {
        assert_int_equal (memory[0] & 0xf0, 0x90);
        memory[0]++;
        memory[1] = 9;
        pack_literal (&packer, "of a later version");
    }
    const uint64_t numbers[] = { incarnation, 0, 0, of, 5 };
    return forge (numbers, later ? 5 : 4, memory, packer.size);
}

static struct message hello_of (const struct session_options *options)
{
    struct message message = { .id = MESSAGE_HELLO };
    message.hello = (struct hello){ .role = options->role,
                                    .index = options->index,
                                    .incarnation = options->incarnation,
                                    .protocol_min = options->protocol_min,
                                    .protocol_max = options->protocol_max,
                                    .version = TEXT_LITERAL ("9.9.9") };
    return message;
}

/*  ---- greeting ----------------------------------------------------------- */

static void test_hello_is_repeated_until_it_is_answered (void **state)
{
    (void) state;
    struct end a, b;
    ends_open (&a, &b);
    assert_int_equal (session_due (a.session), 0);
    assert_int_equal (session_due (b.session), UINT64_MAX);
    assert_int_equal (lose (&b, EARLY_MS), 0);
    for (uint64_t now = EARLY_MS; now < EARLY_MS + 10000; now += SESSION_HELLO_MS) {
        assert_int_equal (lose (&a, now), 1);
        assert_int_equal (session_due (a.session), now + SESSION_HELLO_MS);
        assert_int_equal (lose (&a, now + SESSION_HELLO_MS - 1), 0);
        assert_false (session_expire (a.session, now));
    }
    settle (&a, &b, EARLY_MS + 10000);
    assert_int_equal (session_state (a.session), SESSION_UP);
    assert_int_equal (session_state (b.session), SESSION_UP);
    assert_int_equal (a.inputs[SESSION_CAME], 1);
    assert_int_equal (b.inputs[SESSION_CAME], 1);
    assert_int_equal (lose (&a, EARLY_MS + 10000 + SESSION_HELLO_MS), 0);
    assert_int_equal (lose (&b, EARLY_MS + 10000 + SESSION_HELLO_MS), 0);
    ends_close (&a, &b);
}

static void test_an_answer_that_is_lost_is_given_again (void **state)
{
    (void) state;
    struct end a, b;
    ends_open (&a, &b);
    assert_int_equal (carry (&a, &b, EARLY_MS), 1);
    assert_int_equal (session_state (b.session), SESSION_UP);
    assert_int_equal (lose (&b, EARLY_MS), 1);
    say (&b, "early");
    assert_int_equal (lose (&b, EARLY_MS + 1), 0);
    assert_int_equal (carry (&b, &a, EARLY_MS + SESSION_HELLO_MS), 1);
    assert_int_equal (session_state (a.session), SESSION_UP);
    settle (&a, &b, EARLY_MS + SESSION_HELLO_MS);
    assert_string_equal (a.delivered, "early");
    ends_close (&a, &b);
}

static void test_who_is_not_greeted_delivers_nothing_and_asks (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "lost");
    end_restart (&b, 23);
    assert_int_equal (carry (&a, &b, EARLY_MS + 1), 1);
    assert_int_equal (b.inputs[SESSION_NOTHING], 1);
    assert_int_equal (carry (&b, &a, EARLY_MS + 1), 1);
    settle (&a, &b, EARLY_MS + 1);
    assert_int_equal (a.inputs[SESSION_RESTARTED], 1);
    assert_int_equal (b.inputs[SESSION_CAME], 1);
    assert_string_equal (b.delivered, "");
    ends_close (&a, &b);
}

static void test_who_is_shouted_at_asks_no_more_than_usual (void **state)
{
    (void) state;
    struct end a, b;
    ends_open (&a, &b);
    unsigned asked = 0;
    for (uint64_t now = EARLY_MS; now < EARLY_MS + 1000; now++) {
        assert_int_equal (give_forged (&b, now, 11, 7, 0, 21, "shout"), SESSION_NOTHING);
        asked += lose (&b, now);
    }
    assert_int_equal (asked, 1000 / SESSION_HELLO_MS);
    ends_close (&a, &b);
}

static void test_a_hello_is_read_before_anybody_is_known (void **state)
{
    (void) state;
    struct end a, b;
    struct packet packet;
    struct hello hello;
    ends_open (&a, &b);
    assert_true (take (&a, EARLY_MS, &packet));
    assert_true (session_hello (packet.head, packet.head_size, packet.payload, packet.payload_size, &hello));
    assert_int_equal (hello.role, ROLE_DECISION);
    assert_int_equal (hello.incarnation, 11);
    assert_int_equal (hello.version.size, 5);
    assert_false (session_hello (packet.head, packet.head_size, NULL, 0, &hello));
    assert_false (
        session_hello (packet.head, packet.head_size, packet.payload, packet.payload_size - 1, &hello));
    assert_false (session_hello (packet.head, 0, packet.payload, packet.payload_size, &hello));
    packet_free (&packet);
    struct message other = hello_of (&a.options);
    packet = forge_greeting (&other, 12, 0, false);
    assert_false (session_hello (packet.head, packet.head_size, packet.payload, packet.payload_size, &hello));
    packet_free (&packet);
    ends_close (&a, &b);
}

static void test_a_hello_of_a_later_language_is_understood (void **state)
{
    (void) state;
    struct end a, b;
    ends_open (&a, &b);
    struct message message = hello_of (&a.options);
    struct packet packet = forge_greeting (&message, 11, 0, true);
    assert_int_equal (give (&b, EARLY_MS, &packet), SESSION_CAME);
    packet_free (&packet);
    ends_close (&a, &b);
}

/*  ---- refusing ----------------------------------------------------------- */

static void test_protocols_that_overlap_work_together (void **state)
{
    (void) state;
    struct end a, b;
    struct session_options newer = options_a (11);
    struct session_options older = options_b (22);
    newer.protocol_max = 3;
    newer.protocol_min = 2;
    older.protocol_max = 2;
    end_open (&a, newer);
    end_open (&b, older);
    settle (&a, &b, EARLY_MS);
    assert_int_equal (session_state (a.session), SESSION_UP);
    assert_int_equal (session_state (b.session), SESSION_UP);
    static const uint8_t open[] = { 0x93, PROTOCOL_VERSION, MESSAGE_OPEN, 7 };
    static const uint8_t spoken[] = { 0x93, 2, MESSAGE_OPEN, 7 };
    assert_true (session_send (a.session, open, sizeof open));
    assert_true (session_send (b.session, "other bytes", 11));
    settle (&a, &b, EARLY_MS + 100);
    assert_memory_equal (b.delivered, spoken, sizeof spoken);
    assert_string_equal (a.delivered, "other bytes");
    ends_close (&a, &b);
}

static void test_protocols_apart_are_refused_by_name_until_one_is_renewed (void **state)
{
    (void) state;
    struct end a, b;
    struct session_options newer = options_a (11);
    newer.protocol_min = 3;
    newer.protocol_max = 4;
    newer.version = "9.9.9";
    end_open (&a, newer);
    end_open (&b, options_b (22));
    say (&a, "kept");
    settle (&a, &b, EARLY_MS);
    assert_int_equal (b.inputs[SESSION_NO], 1);
    assert_int_equal (session_state (b.session), SESSION_REFUSED);
    assert_string_equal (session_reason (b.session), "this is guerdon 0.1.0 speaking protocol 1, "
                                                     "the other end is 9.9.9 speaking 3 to 4");
    assert_int_equal (a.inputs[SESSION_NO], 1);
    assert_int_equal (session_state (a.session), SESSION_REFUSED);
    assert_string_equal (session_reason (a.session),
                         "refused by usermeta-client/1: this is guerdon 0.1.0 speaking protocol 1, "
                         "the other end is 9.9.9 speaking 3 to 4");
    uint64_t again = session_due (a.session);
    assert_in_range (again, EARLY_MS + 2000, EARLY_MS + 5000);
    assert_int_equal (session_due (b.session), UINT64_MAX);
    settle (&a, &b, again);
    assert_int_equal (a.inputs[SESSION_NO], 2);

    struct session_options renewed = options_b (23);
    renewed.protocol_max = 3;
    session_destroy (&b.session);
    end_open (&b, renewed);
    settle (&a, &b, session_due (a.session));
    assert_int_equal (session_state (a.session), SESSION_UP);
    assert_string_equal (session_reason (a.session), "");
    assert_string_equal (b.delivered, "kept");
    assert_int_equal (a.inputs[SESSION_RESTARTED], 0);
    ends_close (&a, &b);
}

static void test_an_older_protocol_is_refused_too (void **state)
{
    (void) state;
    struct end a, b;
    struct session_options newer = options_b (22);
    newer.protocol_min = 2;
    newer.protocol_max = 2;
    end_open (&a, options_a (11));
    end_open (&b, newer);
    settle (&a, &b, EARLY_MS);
    assert_string_equal (session_reason (b.session), "this is guerdon 0.1.0 speaking protocol 2, "
                                                     "the other end is 0.1.0 speaking 1");
    assert_int_equal (session_state (a.session), SESSION_REFUSED);
    ends_close (&a, &b);
}

static void test_the_wrong_actor_is_refused (void **state)
{
    (void) state;
    struct end a, b;
    ends_open (&a, &b);
    struct session_options other = options_a (13);
    other.index = 2;
    session_destroy (&a.session);
    end_open (&a, other);
    settle (&a, &b, EARLY_MS);
    assert_int_equal (session_state (b.session), SESSION_REFUSED);
    assert_string_equal (session_reason (b.session), "this is guerdon 0.1.0 looking for decision/0, "
                                                     "the other end is decision/2 of 0.1.0");
    assert_int_equal (session_state (a.session), SESSION_REFUSED);
    other.index = 0;
    other.role = ROLE_INGEST;
    other.incarnation = 14;
    session_destroy (&a.session);
    end_open (&a, other);
    settle (&a, &b, EARLY_MS + 1);
    assert_string_equal (session_reason (b.session), "this is guerdon 0.1.0 looking for decision/0, "
                                                     "the other end is ingest/0 of 0.1.0");
    ends_close (&a, &b);
}

static void test_another_who_knocks_shuts_nobody_out (void **state)
{
    (void) state;
    struct end a, b, knocker;
    ends_up (&a, &b);
    struct session_options other = options_a (13);
    other.role = ROLE_INGEST;
    end_open (&knocker, other);
    carry (&knocker, &b, EARLY_MS + 1);
    assert_int_equal (b.inputs[SESSION_NO], 1);
    assert_true (strstr (session_reason (b.session), "ingest/0") != NULL);
    assert_int_equal (session_state (b.session), SESSION_UP);
    carry (&b, &knocker, EARLY_MS + 1);
    assert_int_equal (session_state (knocker.session), SESSION_REFUSED);
    assert_string_equal (session_reason (b.session), "");
    say (&a, "still");
    settle (&a, &b, EARLY_MS + 1);
    assert_string_equal (b.delivered, "still");
    session_destroy (&knocker.session);
    ends_close (&a, &b);
}

static void test_two_that_run_where_one_should_are_told (void **state)
{
    (void) state;
    struct end a, b, twin;
    ends_up (&a, &b);
    end_open (&twin, options_a (12));
    settle (&twin, &b, EARLY_MS);
    assert_int_equal (b.inputs[SESSION_RESTARTED], 1);
    say (&a, "lost");
    settle (&a, &b, EARLY_MS);
    uint64_t now = EARLY_MS + SESSION_LOST_MS;
    settle (&twin, &b, now - 1);
    assert_true (session_expire (a.session, now));
    settle (&a, &b, now);
    assert_int_equal (session_state (a.session), SESSION_REFUSED);
    assert_non_null (strstr (session_reason (a.session), "another decision/0 took the place"));
    assert_int_equal (session_state (b.session), SESSION_UP);
    assert_string_equal (b.delivered, "");
    session_destroy (&twin.session);
    ends_close (&a, &b);
}

static void test_a_refusal_that_comes_late_or_to_another_is_nothing (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    struct message message = { .id = MESSAGE_REFUSED };
    message.refused.reason = TEXT_LITERAL ("late");
    struct packet late = forge_greeting (&message, 21, 11, false);
    assert_int_equal (give (&a, EARLY_MS, &late), SESSION_NOTHING);
    assert_int_equal (session_state (a.session), SESSION_UP);
    end_restart (&a, 12);
    assert_int_equal (give (&a, EARLY_MS, &late), SESSION_NOTHING);
    assert_int_equal (session_state (a.session), SESSION_CONNECTING);
    packet_free (&late);
    ends_close (&a, &b);
}

static void test_a_refusal_of_any_length_is_shown_within_bounds (void **state)
{
    (void) state;
    struct end a, b;
    ends_open (&a, &b);
    char reason[REASON_SIZE_MAX];
    memset (reason, '\n', sizeof reason);
    struct message message = { .id = MESSAGE_REFUSED };
    message.refused.reason = (struct text){ reason, sizeof reason };
    struct packet packet = forge_greeting (&message, 21, 11, false);
    assert_int_equal (give (&a, EARLY_MS, &packet), SESSION_NO);
    assert_in_range (strlen (session_reason (a.session)), REASON_SIZE_MAX - 20, REASON_SIZE_MAX);
    assert_null (strchr (session_reason (a.session), '\n'));
    packet_free (&packet);
    ends_close (&a, &b);
}

static void test_after_a_refusal_the_same_one_may_come_back (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    uint64_t now = EARLY_MS + SESSION_LOST_MS;
    assert_true (session_expire (a.session, now));
    struct message message = { .id = MESSAGE_REFUSED };
    message.refused.reason = TEXT_LITERAL ("not here");
    struct packet packet = forge_greeting (&message, 21, 11, false);
    assert_int_equal (give (&a, now, &packet), SESSION_NO);
    packet_free (&packet);
    say (&a, "kept");
    settle (&a, &b, session_due (a.session));
    assert_int_equal (session_state (a.session), SESSION_UP);
    assert_int_equal (a.inputs[SESSION_RESTARTED], 0);
    assert_string_equal (b.delivered, "kept");
    ends_close (&a, &b);
}

/*  ---- payloads ----------------------------------------------------------- */

static void test_payloads_arrive_in_order_once_and_are_forgotten (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "1");
    say (&a, "2");
    say (&b, "x");
    say (&a, "3");
    assert_int_equal (session_unacknowledged (a.session), 3);
    assert_int_equal (session_due (a.session), 0);
    settle (&a, &b, EARLY_MS);
    assert_string_equal (b.delivered, "123");
    assert_string_equal (a.delivered, "x");
    settle (&a, &b, EARLY_MS + SESSION_ANSWER_MS);
    assert_int_equal (session_unacknowledged (a.session), 0);
    assert_int_equal (session_unacknowledged (b.session), 0);
    ends_close (&a, &b);
}

static void test_an_acknowledgement_waits_for_a_payload_to_ride_on (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "m");
    assert_int_equal (carry (&a, &b, EARLY_MS), 1);
    say (&a, "n");
    assert_int_equal (carry (&a, &b, EARLY_MS + 1), 1);
    assert_int_equal (session_due (b.session), EARLY_MS + SESSION_ANSWER_MS);
    assert_int_equal (carry (&b, &a, EARLY_MS + SESSION_ANSWER_MS - 1), 0);
    say (&b, "rides");
    assert_int_equal (carry (&b, &a, EARLY_MS + SESSION_ANSWER_MS - 1), 1);
    assert_int_equal (session_unacknowledged (a.session), 0);
    assert_int_equal (carry (&b, &a, EARLY_MS + SESSION_ANSWER_MS), 0);
    say (&a, "o");
    assert_int_equal (carry (&a, &b, EARLY_MS + SESSION_ANSWER_MS), 1);
    assert_int_equal (carry (&b, &a, EARLY_MS + 2 * SESSION_ANSWER_MS), 1);
    assert_int_equal (session_unacknowledged (a.session), 0);
    ends_close (&a, &b);
}

static void test_many_payloads_are_acknowledged_at_once_by_one_frame (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    for (unsigned i = 0; i < SESSION_ANSWER_FRAMES - 1; i++)
        say (&a, "m");
    assert_int_equal (carry (&a, &b, EARLY_MS), SESSION_ANSWER_FRAMES - 1);
    assert_int_equal (session_unanswered (b.session), SESSION_ANSWER_FRAMES - 1);
    assert_int_equal (carry (&b, &a, EARLY_MS), 0);
    for (unsigned i = 0; i < 10; i++)
        say (&a, "m");
    assert_int_equal (carry (&a, &b, EARLY_MS), 10);
    assert_int_equal (session_unanswered (b.session), SESSION_ANSWER_FRAMES + 9);
    assert_int_equal (session_due (b.session), 0);
    assert_int_equal (carry (&b, &a, EARLY_MS), 1);
    assert_int_equal (session_unanswered (b.session), 0);
    assert_int_equal (session_unacknowledged (a.session), 0);
    ends_close (&a, &b);
}

static void test_what_was_lost_is_repeated_from_the_first (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "1");
    say (&a, "2");
    assert_int_equal (lose (&a, EARLY_MS), 2);
    say (&a, "3");
    assert_int_equal (carry (&a, &b, EARLY_MS + 10), 1);
    assert_string_equal (b.delivered, "");
    assert_int_equal (carry (&b, &a, EARLY_MS + 10), 1);
    assert_int_equal (lose (&a, EARLY_MS + SESSION_RESEND_MIN_MS - 1), 0);
    assert_int_equal (session_due (a.session), EARLY_MS + SESSION_RESEND_MIN_MS);
    assert_int_equal (carry (&a, &b, EARLY_MS + SESSION_RESEND_MIN_MS), 1 + 3);
    assert_string_equal (b.delivered, "123");
    ends_close (&a, &b);
}

static void test_repetitions_become_rarer_and_progress_hastens_them (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "1");
    say (&a, "2");
    lose (&a, EARLY_MS);
    uint64_t now = EARLY_MS, wait = SESSION_RESEND_MIN_MS;
    for (unsigned i = 0; i < 6; i++) {
        now += wait;
        wait = wait * 2 < SESSION_RESEND_MAX_MS ? wait * 2 : SESSION_RESEND_MAX_MS;
        give_forged (&a, now - 1, 22, 0, 0, 11, NULL); /* it lives */
        assert_int_equal (lose_payloads (&a, now - 1), 0);
        assert_int_equal (lose_payloads (&a, now), 2);
    }
    assert_int_equal (give_forged (&a, now, 22, 0, 1, 11, NULL), SESSION_NOTHING);
    assert_int_equal (session_unacknowledged (a.session), 1);
    assert_int_equal (lose_payloads (&a, now + SESSION_RESEND_MIN_MS - 1), 0);
    assert_int_equal (lose_payloads (&a, now + SESSION_RESEND_MIN_MS), 1);
    ends_close (&a, &b);
}

static void test_a_backlog_comes_at_the_pace_of_the_answers (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    for (unsigned i = 0; i < 1000; i++)
        say (&a, "m");
    assert_int_equal (lose (&a, EARLY_MS), 1000);
    uint64_t now = EARLY_MS + SESSION_RESEND_MIN_MS;
    assert_int_equal (lose_payloads (&a, now), SESSION_RESEND_BURST_MAX);
    now += SESSION_RESEND_MIN_MS * 2;
    assert_int_equal (carry (&a, &b, now), 1 + SESSION_RESEND_BURST_MAX);
    say (&a, "n");
    settle (&a, &b, now);
    assert_int_equal (b.inputs[SESSION_DELIVER], 1001);
    settle (&a, &b, now + SESSION_ANSWER_MS);
    assert_int_equal (session_unacknowledged (a.session), 0);
    ends_close (&a, &b);
}

static void test_what_comes_twice_is_acknowledged_at_once (void **state)
{
    (void) state;
    struct end a, b;
    struct packet packet;
    ends_up (&a, &b);
    say (&a, "1");
    assert_true (take (&a, EARLY_MS, &packet));
    assert_int_equal (give (&b, EARLY_MS, &packet), SESSION_DELIVER);
    uint64_t now = EARLY_MS + SESSION_ANSWER_MS;
    assert_int_equal (lose (&b, now), 1);
    assert_int_equal (give (&b, now, &packet), SESSION_NOTHING);
    assert_int_equal (session_due (b.session), 0);
    assert_int_equal (carry (&b, &a, now), 1);
    assert_int_equal (session_unacknowledged (a.session), 0);
    packet_free (&packet);
    ends_close (&a, &b);
}

static void test_acknowledgements_of_what_was_never_sent_are_rubbish (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "1");
    say (&a, "2");
    lose (&a, EARLY_MS);
    say (&a, "not sent");
    assert_int_equal (give_forged (&a, EARLY_MS, 22, 0, 3, 11, NULL), SESSION_RUBBISH);
    assert_int_equal (give_forged (&a, EARLY_MS, 22, 0, UINT64_MAX, 11, NULL), SESSION_RUBBISH);
    assert_int_equal (give_forged (&a, EARLY_MS, 22, 0, 2, 10, NULL), SESSION_NOTHING);
    assert_int_equal (give_forged (&a, EARLY_MS, 23, 0, 2, 11, NULL), SESSION_NOTHING);
    assert_int_equal (session_unacknowledged (a.session), 3);
    assert_int_equal (give_forged (&a, EARLY_MS, 22, 0, 2, 11, NULL), SESSION_NOTHING);
    assert_int_equal (session_unacknowledged (a.session), 1);
    ends_close (&a, &b);
}

static void test_a_hello_that_acknowledges_what_was_never_sent_is_rubbish (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    for (uint64_t incarnation = 22; incarnation <= 23; incarnation++) {
        struct session_options options = options_b (incarnation);
        struct message message = hello_of (&options);
        struct packet packet = forge_greeting (&message, incarnation, 11, false);
        packet.head[3] = 1;
        assert_int_equal (give (&a, EARLY_MS, &packet), SESSION_RUBBISH);
        packet_free (&packet);
    }
    assert_int_equal (session_state (a.session), SESSION_UP);
    ends_close (&a, &b);
}

static void test_rubbish_is_told_and_changes_nothing (void **state)
{
    (void) state;
    static const struct {
        const char *head, *payload;
        size_t head_size, payload_size;
    } cases[] = {
        { "", "", 0, 0 },
        { "\x94\x16\x00\x00", "", 4, 0 },                     /* not whole */
        { "\x93\x16\x00\x00", "", 4, 0 },                     /* too few */
        { "\x94\x16\xff\x00\x00", "", 5, 0 },                 /* negative */
        { "\x94\x16\xa1x\x00\x00", "", 6, 0 },                /* text */
        { "\x94\x00\x00\x00\x00", "", 5, 0 },                 /* no incarnation */
        { "\x94\x16\x00\x01\x00", "", 5, 0 },                 /* acknowledges nobody's */
        { "\x94\x16\x01\x00\x0b", "", 5, 0 },                 /* a number without payload */
        { "\x94\x16\x00\x00\x0b", "payload", 5, 7 },          /* a payload without number */
        { "\x94\x16\x00\x00\x0b", "\x93\x01\x01\x00", 5, 4 }, /* OPEN as a greeting */
        { "\x94\x16\x00\x00\x0b", "\x93\x01\x0d\x00", 5, 4 }, /* HELLO without fields */
        { "\x94\x16\x00\x00\x0b", "\x97\x01\x0d\x00\x03\x01\x16\x02\x01", 5, 9 }, /* not whole */
        { "\x94\x16\x00\x00\x0b", "\x98\x01\x0d\x00\x03\x01\x16\x02\x01", 5, 9 }, /* 2 to 1 */
        { "\x94\x16\x00\x00\x0b", "\x98\x01\x0d\x00\x63\x01\x16\x01\x01", 5, 9 }, /* no such role */
        { "\x81\x16\x00", "", 3, 0 },
    };
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "1");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct packet packet =
            packet_of (cases[i].head, cases[i].head_size, cases[i].payload, cases[i].payload_size);
        assert_int_equal (give (&a, EARLY_MS, &packet), SESSION_RUBBISH);
        packet_free (&packet);
    }
    const uint64_t many[SESSION_HEAD_SIZE_MAX] = { 22, 0, 0, 11 };
    struct packet packet = forge (many, SESSION_HEAD_SIZE_MAX, NULL, 0);
    assert_int_equal (give (&a, EARLY_MS, &packet), SESSION_RUBBISH);
    packet_free (&packet);
    assert_int_equal (session_unacknowledged (a.session), 1);
    settle (&a, &b, EARLY_MS);
    assert_string_equal (b.delivered, "1");
    ends_close (&a, &b);
}

static void test_a_full_session_takes_nothing_until_it_is_acknowledged (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    for (unsigned i = 0; i < SESSION_FRAMES_MAX; i++)
        say (&a, "m");
    assert_false (session_send (a.session, "m", 1));
    assert_int_equal (session_unacknowledged (a.session), SESSION_FRAMES_MAX);
    settle (&a, &b, EARLY_MS);
    assert_int_equal (session_unacknowledged (a.session), 0);

    uint8_t *large = calloc (1, MESSAGE_SIZE_MAX);
    assert_non_null (large);
    for (unsigned rounds = 0; rounds < 2; rounds++) {
        for (unsigned i = 0; i < SESSION_BYTES_MAX / MESSAGE_SIZE_MAX; i++)
            assert_true (session_send (a.session, large, MESSAGE_SIZE_MAX));
        assert_false (session_send (a.session, "m", 1));
        settle (&a, &b, EARLY_MS);
    }
    say (&a, "m");
    free (large);
    ends_close (&a, &b);
}

static void test_a_socket_that_takes_nothing_is_asked_again (void **state)
{
    (void) state;
    struct end a, b;
    struct packet packet;
    ends_up (&a, &b);
    for (unsigned i = 0; i < 200; i++)
        say (&a, "m");
    for (unsigned i = 0; i < 100; i++) {
        assert_true (take (&a, EARLY_MS, &packet));
        assert_int_equal (give (&b, EARLY_MS, &packet), SESSION_DELIVER);
        packet_free (&packet);
    }
    assert_true (take (&a, EARLY_MS, &packet));
    packet_free (&packet);
    session_stuck (a.session, EARLY_MS);
    session_stuck (a.session, EARLY_MS);
    assert_int_equal (give_forged (&a, EARLY_MS, 22, 0, 101, 11, NULL), SESSION_RUBBISH);
    assert_int_equal (lose (&a, EARLY_MS + SESSION_STUCK_MS - 1), 0);
    assert_int_equal (session_due (a.session), EARLY_MS + SESSION_STUCK_MS);
    assert_int_equal (carry (&a, &b, EARLY_MS + SESSION_STUCK_MS), 100);
    assert_int_equal (b.inputs[SESSION_DELIVER], 200);
    carry (&b, &a, EARLY_MS + SESSION_STUCK_MS);
    assert_int_equal (session_unacknowledged (a.session), 0);
    ends_close (&a, &b);
}

static void test_a_socket_that_has_room_again_is_asked_at_once (void **state)
{
    (void) state;
    struct end a, b;
    struct packet packet;
    ends_up (&a, &b);
    say (&a, "1");
    assert_true (take (&a, EARLY_MS, &packet));
    packet_free (&packet);
    session_stuck (a.session, EARLY_MS);
    assert_int_equal (carry (&a, &b, EARLY_MS), 0);
    session_unstuck (a.session);
    assert_int_equal (session_due (a.session), 0);
    assert_int_equal (carry (&a, &b, EARLY_MS), 1);
    assert_string_equal (b.delivered, "1");
    ends_close (&a, &b);
}

static void test_an_answer_that_a_socket_does_not_take_is_told_again (void **state)
{
    (void) state;
    struct end a, b;
    struct packet packet;
    ends_up (&a, &b);
    say (&b, "x");
    carry (&b, &a, EARLY_MS);
    const uint64_t now = EARLY_MS + SESSION_ANSWER_MS;
    assert_int_equal (session_unanswered (a.session), 1);
    assert_true (take (&a, now, &packet));
    packet_free (&packet);
    session_stuck (a.session, now);
    assert_int_equal (session_unanswered (a.session), 1);
    assert_int_equal (session_due (a.session), now + SESSION_STUCK_MS);
    assert_int_equal (carry (&a, &b, now + SESSION_STUCK_MS), 1);
    assert_int_equal (session_unacknowledged (b.session), 0);
    assert_int_equal (session_unanswered (a.session), 0);
    ends_close (&a, &b);
}

/*  The payload that a socket holds already carries an older acknowledgement when it is
    repeated. While the socket has no room for it, an answer that is due behind it must
    not make who waits for it wake all the time. */
static void test_an_answer_behind_a_repetition_that_is_stuck_waits_with_it (void **state)
{
    (void) state;
    struct end a, b;
    struct session_frame frame;
    ends_up (&a, &b);
    say (&a, "1");
    assert_true (session_next (a.session, EARLY_MS, &frame));
    void *share = session_share (&frame);
    uint64_t now = EARLY_MS + SESSION_RESEND_MIN_MS;
    assert_true (session_next (a.session, now, &frame)); /* the sign before a repetition */
    assert_null (frame.kept);
    session_stuck (a.session, now);
    say (&b, "x");
    carry (&b, &a, now);
    assert_string_equal (a.delivered, "x");
    now += 2 * SESSION_STUCK_MS;
    for (unsigned turn = 0; turn < 3; turn++) {
        session_unstuck (a.session);
        assert_true (session_next (a.session, now, &frame));
        assert_non_null (frame.kept);
        session_stuck (a.session, now);
        assert_int_equal (session_due (a.session), now + SESSION_STUCK_MS);
    }
    assert_int_equal (session_unanswered (a.session), 1);
    now += SESSION_STUCK_MS;
    assert_int_equal (carry (&a, &b, now), 2); /* the repetition, and the answer by itself */
    assert_string_equal (b.delivered, "1");
    assert_int_equal (session_unacknowledged (b.session), 0);
    session_unshare (NULL, share);
    ends_close (&a, &b);
}

/*  A socket sends from the memory of the session, in a thread of its own and
    later. What it still holds stays as it is, whatever is sent meanwhile. */
static void test_a_frame_that_a_socket_holds_does_not_change (void **state)
{
    (void) state;
    struct end a, b;
    struct session_frame first, again;
    ends_up (&a, &b);
    say (&a, "1");
    assert_true (session_next (a.session, EARLY_MS, &first));
    assert_non_null (first.kept);
    assert_ptr_equal (first.payload, first.head + first.head_size);
    void *share = session_share (&first);
    struct packet held = packet_of (first.head, first.head_size, first.payload, first.payload_size);
    say (&b, "x");
    carry (&b, &a, EARLY_MS);
    assert_string_equal (a.delivered, "x");

    uint64_t now = EARLY_MS + SESSION_RESEND_MIN_MS;
    assert_int_equal (carry (&a, &b, now - 1), 1); /* the sign that x came */
    assert_int_equal (session_unacknowledged (b.session), 0);
    say (&b, "y");
    carry (&b, &a, now - 1);
    assert_true (session_next (a.session, now, &again)); /* the sign before a repetition */
    assert_null (again.kept);
    say (&b, "z");
    carry (&b, &a, now);
    assert_true (session_next (a.session, now, &again));
    assert_ptr_equal (again.head, first.head);
    assert_memory_equal (again.head, held.head, held.head_size);
    assert_int_equal (give (&b, now, &held), SESSION_DELIVER);
    assert_int_equal (session_unacknowledged (b.session), 2); /* the old head knows nothing of y and z, */
    assert_int_equal (carry (&a, &b, now + SESSION_ANSWER_MS), 1);
    assert_int_equal (session_unacknowledged (b.session), 0); /* … so that is told by itself */

    carry (&b, &a, now + SESSION_ANSWER_MS);
    assert_int_equal (session_unacknowledged (a.session), 0);
    session_destroy (&a.session);
    assert_memory_equal (first.head, held.head, held.head_size);
    assert_memory_equal (first.payload, "1", 1);
    session_unshare (NULL, share);
    packet_free (&held);
    ends_close (&a, &b);
}

static void test_a_frame_that_was_let_go_is_repeated_with_what_is_new (void **state)
{
    (void) state;
    struct end a, b;
    struct session_frame frame;
    ends_up (&a, &b);
    say (&a, "1");
    assert_true (session_next (a.session, EARLY_MS, &frame));
    session_unshare (NULL, session_share (&frame));
    uint64_t now = EARLY_MS + SESSION_RESEND_MIN_MS;
    assert_true (session_next (a.session, now, &frame));
    assert_null (frame.kept);
    say (&b, "x");
    carry (&b, &a, now);
    assert_int_equal (carry (&a, &b, now), 1);
    assert_string_equal (b.delivered, "1");
    assert_int_equal (session_unacknowledged (b.session), 0);
    ends_close (&a, &b);
}

static void test_while_held_nothing_is_delivered_and_all_comes_later (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "1");
    say (&a, "2");
    session_hold (b.session, true);
    settle (&a, &b, EARLY_MS);
    assert_string_equal (b.delivered, "");
    assert_int_equal (session_unacknowledged (a.session), 2);
    session_hold (b.session, false);
    settle (&a, &b, EARLY_MS + SESSION_RESEND_MIN_MS);
    assert_string_equal (b.delivered, "12");
    settle (&a, &b, EARLY_MS + SESSION_RESEND_MIN_MS + SESSION_ANSWER_MS);
    assert_int_equal (session_unacknowledged (a.session), 0);
    ends_close (&a, &b);
}

/*  ---- restarts ----------------------------------------------------------- */

static void test_a_restart_is_told_once_and_numbers_begin_again (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "1");
    settle (&a, &b, EARLY_MS);
    say (&a, "lost");
    lose (&a, EARLY_MS);
    say (&a, "never sent");
    end_restart (&b, 23);
    uint64_t now = EARLY_MS + SESSION_RESEND_MIN_MS;
    settle (&a, &b, now);
    assert_int_equal (a.inputs[SESSION_RESTARTED], 1);
    assert_int_equal (b.inputs[SESSION_CAME], 1);
    assert_int_equal (session_unacknowledged (a.session), 0);
    assert_string_equal (b.delivered, "");
    say (&a, "2");
    say (&b, "x");
    settle (&a, &b, now);
    assert_string_equal (b.delivered, "2");
    assert_string_equal (a.delivered, "x");
    settle (&a, &b, now + SESSION_HEARTBEAT_MS);
    assert_int_equal (a.inputs[SESSION_RESTARTED], 1);
    ends_close (&a, &b);
}

static void test_both_may_restart_at_once (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "old");
    say (&b, "old");
    end_restart (&a, 12);
    end_restart (&b, 23);
    say (&a, "1");
    say (&b, "x");
    settle (&a, &b, EARLY_MS);
    assert_string_equal (b.delivered, "1");
    assert_string_equal (a.delivered, "x");
    assert_int_equal (a.inputs[SESSION_CAME] + b.inputs[SESSION_CAME], 2);
    ends_close (&a, &b);
}

static void test_late_frames_of_one_who_ended_are_nothing (void **state)
{
    (void) state;
    struct end a, b;
    struct packet hello, data;
    ends_open (&a, &b);
    assert_true (take (&a, EARLY_MS, &hello));
    give (&b, EARLY_MS, &hello);
    settle (&a, &b, EARLY_MS);
    say (&a, "late");
    assert_true (take (&a, EARLY_MS, &data));
    end_restart (&a, 12);
    settle (&a, &b, EARLY_MS);
    assert_int_equal (b.inputs[SESSION_RESTARTED], 1);
    say (&b, "x");
    assert_int_equal (give (&b, EARLY_MS, &data), SESSION_NOTHING);
    assert_int_equal (give (&b, EARLY_MS, &hello), SESSION_NOTHING);
    settle (&a, &b, EARLY_MS);
    assert_int_equal (b.inputs[SESSION_RESTARTED], 1);
    assert_string_equal (b.delivered, "");
    assert_string_equal (a.delivered, "x");
    packet_free (&hello);
    packet_free (&data);
    ends_close (&a, &b);
}

/*  A HELLO that waited somewhere is the first that a restarted end sees. What it
    sends then is for somebody who is gone, and must not be taken by the one who
    is there, or the same number would be taken for known later. */
static void test_a_hello_from_the_past_does_not_mix_two_conversations (void **state)
{
    (void) state;
    struct end a, b;
    struct packet stale;
    ends_open (&a, &b);
    assert_true (take (&a, EARLY_MS, &stale));
    end_restart (&a, 12);
    settle (&a, &b, EARLY_MS);
    end_restart (&b, 23);
    assert_int_equal (give (&b, EARLY_MS, &stale), SESSION_CAME);
    say (&b, "for nobody");
    settle (&a, &b, EARLY_MS);
    assert_int_equal (a.inputs[SESSION_RESTARTED], 1);
    assert_int_equal (b.inputs[SESSION_RESTARTED], 1);
    assert_string_equal (a.delivered, "");
    say (&b, "x");
    assert_int_equal (give_forged (&a, EARLY_MS, 23, 1, 0, 11, "for 11"), SESSION_NOTHING);
    settle (&a, &b, EARLY_MS);
    assert_string_equal (a.delivered, "x");
    packet_free (&stale);
    ends_close (&a, &b);
}

static void test_a_quiet_restart_is_found_before_the_old_one_is_lost (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    end_restart (&b, 23);
    uint64_t now = EARLY_MS;
    for (; now < EARLY_MS + SESSION_LOST_MS && !a.inputs[SESSION_RESTARTED]; now += 10) {
        struct packet packet;
        while (take (&a, now, &packet)) {
            /*  Of a stranger only a HELLO gets through. */
            if (packet.payload_size > 0)
                give (&b, now, &packet);
            packet_free (&packet);
        }
        carry (&b, &a, now);
        assert_false (session_expire (a.session, now));
    }
    assert_int_equal (a.inputs[SESSION_RESTARTED], 1);
    ends_close (&a, &b);
}

/*  The same the other way round: it comes while the right one is there. */
static void test_a_hello_from_the_past_takes_nobodys_place (void **state)
{
    (void) state;
    struct end a, b, brief;
    struct packet stale;
    ends_up (&a, &b);
    end_open (&brief, options_a (12));
    assert_true (take (&brief, EARLY_MS, &stale));
    assert_int_equal (give (&b, EARLY_MS, &stale), SESSION_NOTHING);
    settle (&a, &b, EARLY_MS);
    assert_int_equal (give_forged (&b, EARLY_MS, 12, 1, 0, 21, "stale"), SESSION_NOTHING);
    say (&a, "still");
    settle (&a, &b, EARLY_MS);
    assert_string_equal (b.delivered, "still");
    /*  But who goes on and has heard the answer is the one who is there now. */
    assert_int_equal (give_forged (&b, EARLY_MS, 12, 0, 1, 22, NULL), SESSION_RUBBISH);
    assert_int_equal (give_forged (&b, EARLY_MS, 12, 1, 0, 22, "new"), SESSION_RESTARTED);
    assert_int_equal (give_forged (&b, EARLY_MS, 12, 1, 0, 22, "new"), SESSION_DELIVER);
    packet_free (&stale);
    session_destroy (&brief.session);
    ends_close (&a, &b);
}

/*  Both restarted, and each was greeted by one who is gone. */
static void test_two_who_each_count_with_the_dead_find_each_other (void **state)
{
    (void) state;
    struct end a, b, dead;
    struct packet packet;
    ends_open (&a, &b);
    end_open (&dead, options_a (13));
    assert_true (take (&dead, EARLY_MS, &packet));
    assert_int_equal (give (&b, EARLY_MS, &packet), SESSION_CAME);
    packet_free (&packet);
    struct session_options options = options_b (24);
    struct message message = hello_of (&options);
    packet = forge_greeting (&message, 24, 0, false);
    assert_int_equal (give (&a, EARLY_MS, &packet), SESSION_CAME);
    packet_free (&packet);
    settle (&a, &b, EARLY_MS);
    assert_int_equal (a.inputs[SESSION_RESTARTED], 1);
    assert_int_equal (b.inputs[SESSION_RESTARTED], 1);
    say (&a, "1");
    settle (&a, &b, EARLY_MS);
    assert_string_equal (b.delivered, "1");
    session_destroy (&dead.session);
    ends_close (&a, &b);
}

/*  ---- silence ------------------------------------------------------------ */

static void test_signs_of_life_keep_it_up (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    unsigned signs = 0;
    for (uint64_t now = EARLY_MS; now < EARLY_MS + 10000; now += 50) {
        signs += carry (&a, &b, now) + carry (&b, &a, now);
        assert_false (session_expire (a.session, now));
        assert_false (session_expire (b.session, now));
    }
    assert_in_range (signs, 36, 40);
    ends_close (&a, &b);
}

static void test_silence_is_told_once_and_what_is_kept_follows_the_return (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "1");
    say (&b, "x");
    lose (&a, EARLY_MS);
    lose (&b, EARLY_MS);
    uint64_t now = EARLY_MS + SESSION_LOST_MS;
    assert_false (session_expire (a.session, now - 1));
    assert_true (session_expire (a.session, now));
    assert_true (session_expire (b.session, now));
    assert_int_equal (session_state (a.session), SESSION_LOST);
    say (&a, "2");
    for (uint64_t end = now + 10000; now < end; now += 100) {
        assert_false (session_expire (a.session, now));
        /*  Nothing but signs of life, so that nothing piles up on the way. */
        assert_in_range (lose (&a, now), 0, 1);
        assert_in_range (lose (&b, now), 0, 1);
        assert_true (session_due (a.session) < now + SESSION_HEARTBEAT_MS + 1);
        assert_true (session_due (b.session) < now + SESSION_HEARTBEAT_MS + 1);
    }
    settle (&a, &b, now + SESSION_HEARTBEAT_MS);
    assert_int_equal (a.inputs[SESSION_CAME], 2);
    assert_int_equal (b.inputs[SESSION_CAME], 2);
    assert_string_equal (b.delivered, "12");
    assert_string_equal (a.delivered, "x");
    ends_close (&a, &b);
}

static void test_a_payload_that_ends_a_silence_may_be_handed_in_again (void **state)
{
    (void) state;
    struct end a, b;
    struct packet packet;
    ends_up (&a, &b);
    uint64_t now = EARLY_MS + SESSION_LOST_MS;
    assert_true (session_expire (b.session, now));
    say (&a, "1");
    assert_true (take (&a, EARLY_MS, &packet));
    assert_int_equal (give (&b, now, &packet), SESSION_CAME);
    assert_int_equal (give (&b, now, &packet), SESSION_DELIVER);
    assert_int_equal (give (&b, now, &packet), SESSION_NOTHING);
    packet_free (&packet);
    ends_close (&a, &b);
}

/*  One direction is cut: one end never loses the other, and what it repeats is
    the first that the other hears of it again. */
static void test_a_cut_in_one_direction_heals_with_the_next_repetition (void **state)
{
    (void) state;
    struct end a, b;
    ends_up (&a, &b);
    say (&a, "1");
    say (&a, "2");
    uint64_t now = EARLY_MS;
    for (; now < EARLY_MS + 10000; now += 10) {
        assert_in_range (lose (&a, now), 0, 3);
        carry (&b, &a, now);
        assert_false (session_expire (a.session, now));
        session_expire (b.session, now);
    }
    assert_int_equal (session_state (b.session), SESSION_LOST);
    for (uint64_t healed = now; b.delivered[0] == '\0'; now += 10) {
        assert_true (now < healed + SESSION_RESEND_MAX_MS);
        carry (&a, &b, now);
        carry (&b, &a, now);
    }
    assert_string_equal (b.delivered, "12");
    assert_int_equal (a.inputs[SESSION_CAME], 1);
    assert_int_equal (b.inputs[SESSION_CAME], 2);
    ends_close (&a, &b);
}

/*  ---- chance ------------------------------------------------------------- */

enum { FLIGHTS_MAX = 1 << 16, SAID_SIZE_MAX = 64, CALM_MS = 4000 };

/*  What a link does to frames, in percent, and what happens around it, in a
    million chances each ms. */
struct weather {
    unsigned lost, doubled;
    unsigned delay_ms_max;
    bool ordered; /* as one connection keeps it */
    unsigned breaks, restarts;
    unsigned outage_ms_max;
    unsigned talk; /* payloads, in percent each ms */
};

struct flight {
    struct packet packet;
    uint64_t at_ms;
};

/*  One direction. */
struct link {
    struct flight *flights;
    size_t count;
    uint64_t latest_ms; /* when the last of an ordered link arrives */
};

/*  An end with what it said, and what it heard of whom. */
struct side {
    struct end end;
    struct link out;
    uint64_t down_until_ms; /* its frames are lost until then */
    uint32_t epoch;         /* how often the other end restarted */
    uint32_t number;        /* payloads of this epoch */
    uint64_t heard_of;      /* whose payload came last … */
    uint32_t heard_epoch;   /* … and which it was */
    uint32_t heard_number;
    uint64_t heard; /* payloads, ever */
};

struct world {
    struct weather weather;
    uint64_t random;
    uint64_t now_ms;
    uint64_t incarnation; /* the last that began */
    struct side sides[2];
};

static uint64_t draw (struct world *world, uint64_t below)
{
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return (world->random * UINT64_C (0x2545F4914F6CDD1D) >> 16) % below;
}

static bool happens (struct world *world, unsigned percent)
{
    return draw (world, 100) < percent;
}

static void link_remove (struct link *link, size_t index)
{
    packet_free (&link->flights[index].packet);
    link->count--;
    memmove (&link->flights[index], &link->flights[index + 1], (link->count - index) * sizeof *link->flights);
}

static void link_clear (struct link *link)
{
    while (link->count > 0)
        link_remove (link, link->count - 1);
}

static void link_put (struct world *world, struct link *link, const struct packet *packet)
{
    assert_true (link->count < FLIGHTS_MAX);
    uint64_t at_ms = world->now_ms + draw (world, world->weather.delay_ms_max + 1);
    if (world->weather.ordered && at_ms < link->latest_ms)
        at_ms = link->latest_ms;
    link->latest_ms = at_ms;
    link->flights[link->count++] =
        (struct flight){ packet_of (packet->head, packet->head_size, packet->payload, packet->payload_size),
                         at_ms };
}

/*  Something to say that tells who said it, in which epoch, and its number in
    that; of any length. */
static void side_talk (struct world *world, struct side *side)
{
    uint8_t memory[SAID_SIZE_MAX];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_uint (&packer, side->end.options.incarnation);
    pack_uint (&packer, side->epoch);
    pack_uint (&packer, side->number + 1);
    memset (memory + packer.size, 0, sizeof memory - packer.size);
    size_t size = packer.size + draw (world, sizeof memory - packer.size);
    if (session_send (side->end.session, memory, size))
        side->number++;
}

/*  Whoever speaks, its first payload to this incarnation is the first of an
    epoch, each next one follows it, and none of another epoch ever comes. */
static void side_hear (struct side *side, const struct packet *packet)
{
    struct cursor cursor = cursor_of ((struct raw){ packet->payload, (uint32_t) packet->payload_size });
    struct value incarnation, epoch, number;
    assert_true (cursor_next (&cursor, &incarnation) && cursor_next (&cursor, &epoch) &&
                 cursor_next (&cursor, &number));
    side->heard++;
    if (incarnation.uint != side->heard_of) {
        assert_true (incarnation.uint > side->heard_of);
        assert_int_equal (number.uint, 1);
    } else {
        assert_int_equal (epoch.uint, side->heard_epoch);
        assert_int_equal (number.uint, side->heard_number + 1);
    }
    side->heard_of = incarnation.uint;
    side->heard_epoch = (uint32_t) epoch.uint;
    side->heard_number = (uint32_t) number.uint;
}

static void side_take (struct world *world, struct side *side, const struct packet *packet)
{
    enum session_input input = give (&side->end, world->now_ms, packet);
    if (input == SESSION_RESTARTED) {
        side->epoch++;
        side->number = 0;
    }
    if (input == SESSION_CAME || input == SESSION_RESTARTED)
        input = give (&side->end, world->now_ms, packet);
    assert_true (input == SESSION_NOTHING || input == SESSION_DELIVER ||
                 (input == SESSION_NO && !world->weather.ordered && world->weather.restarts));
    if (input == SESSION_DELIVER)
        side_hear (side, packet);
}

static void side_restart (struct world *world, struct side *side)
{
    end_restart (&side->end, ++world->incarnation);
    side->epoch = 0;
    side->number = 0;
    side->heard_of = 0;
    if (happens (world, 50))
        link_clear (&side->out);
}

static void side_send (struct world *world, struct side *side)
{
    struct packet packet;
    while (take (&side->end, world->now_ms, &packet)) {
        bool down = world->now_ms < side->down_until_ms;
        unsigned copies = down || happens (world, world->weather.lost) ? 0
                          : happens (world, world->weather.doubled)    ? 2
                                                                       : 1;
        while (copies-- > 0)
            link_put (world, &side->out, &packet);
        packet_free (&packet);
    }
}

static void side_receive (struct world *world, struct side *side, struct link *link)
{
    for (size_t i = 0; i < link->count;) {
        if (link->flights[i].at_ms > world->now_ms) {
            i++;
            continue;
        }
        side_take (world, side, &link->flights[i].packet);
        link_remove (link, i);
    }
}

/*  A connection breaks: what is under way is gone, in one direction or both. */
static void strike (struct world *world)
{
    const struct weather *weather = &world->weather;
    for (unsigned i = 0; i < 2; i++)
        if (draw (world, 1000000) < weather->restarts)
            side_restart (world, &world->sides[i]);
    if (draw (world, 1000000) >= weather->breaks)
        return;
    unsigned which = 1 + (unsigned) draw (world, 3);
    uint64_t until_ms = world->now_ms + draw (world, weather->outage_ms_max + 1);
    for (unsigned i = 0; i < 2; i++)
        if (which & 1u << i) {
            link_clear (&world->sides[i].out);
            world->sides[i].down_until_ms = until_ms;
        }
}

static void world_step (struct world *world)
{
    struct side *sides = world->sides;
    world->now_ms++;
    strike (world);
    for (unsigned i = 0; i < 2; i++) {
        side_receive (world, &sides[i], &sides[1 - i].out);
        if (happens (world, world->weather.talk))
            side_talk (world, &sides[i]);
        session_expire (sides[i].end.session, world->now_ms);
        side_send (world, &sides[i]);
        assert_true (session_due (sides[i].end.session) > world->now_ms);
    }
}

static void world_run (struct world *world, uint64_t duration_ms)
{
    for (uint64_t end_ms = world->now_ms + duration_ms; world->now_ms < end_ms;)
        world_step (world);
}

static bool world_quiet (const struct world *world)
{
    for (unsigned i = 0; i < 2; i++)
        if (session_state (world->sides[i].end.session) != SESSION_UP ||
            session_unacknowledged (world->sides[i].end.session) > 0)
            return false;
    return true;
}

/*  After the storm: everything of the last epoch arrives, soon. */
static void world_calm (struct world *world)
{
    world->weather = (struct weather){ .ordered = true, .delay_ms_max = 2 };
    for (unsigned i = 0; i < 2; i++)
        world->sides[i].down_until_ms = 0;
    uint64_t end_ms = world->now_ms + CALM_MS;
    while (!world_quiet (world) && world->now_ms < end_ms)
        world_step (world);
    assert_true (world_quiet (world));
    for (unsigned i = 0; i < 2; i++) {
        const struct side *from = &world->sides[i], *to = &world->sides[1 - i];
        if (from->number == 0)
            continue;
        assert_int_equal (to->heard_of, from->end.options.incarnation);
        assert_int_equal (to->heard_epoch, from->epoch);
        assert_int_equal (to->heard_number, from->number);
    }
}

static void world_open (struct world *world, uint64_t seed, const struct weather *weather)
{
    *world = (struct world){ .weather = *weather, .random = seed | 1, .now_ms = EARLY_MS };
    end_open (&world->sides[0].end, options_a (++world->incarnation));
    end_open (&world->sides[1].end, options_b (++world->incarnation));
    for (unsigned i = 0; i < 2; i++) {
        world->sides[i].out.flights = calloc (FLIGHTS_MAX, sizeof (struct flight));
        assert_non_null (world->sides[i].out.flights);
    }
    for (unsigned i = 0; i < 10; i++)
        draw (world, 2);
}

static void world_close (struct world *world)
{
    for (unsigned i = 0; i < 2; i++) {
        link_clear (&world->sides[i].out);
        free (world->sides[i].out.flights);
        session_destroy (&world->sides[i].end.session);
    }
}

/*  The seed of a round; TEST_SEED gives that of the first. */
static uint64_t seed_of (unsigned round)
{
    const char *given = getenv ("TEST_SEED");
    uint64_t seed = (given ? strtoull (given, NULL, 10) : 20240229) + round * UINT64_C (7919);
    print_message ("TEST_SEED=%llu\n", (unsigned long long) seed);
    return seed;
}

enum { ROUNDS = 40, STORM_MS = 15000 };

static void test_a_link_that_breaks_loses_nothing_while_both_live (void **state)
{
    (void) state;
    static const struct weather weather = {
        .lost = 0, .delay_ms_max = 30, .ordered = true, .breaks = 1000, .outage_ms_max = 4000, .talk = 10
    };
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct world world;
        world_open (&world, seed_of (round), &weather);
        world_run (&world, STORM_MS);
        world_calm (&world);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal (world.sides[i].epoch, 0);
            assert_int_equal (world.sides[i].heard, world.sides[1 - i].number);
        }
        world_close (&world);
    }
}

static void test_a_link_that_loses_and_doubles_and_ends_that_restart (void **state)
{
    (void) state;
    static const struct weather weather = { .lost = 10,
                                            .doubled = 10,
                                            .delay_ms_max = 50,
                                            .ordered = true,
                                            .breaks = 500,
                                            .restarts = 400,
                                            .outage_ms_max = 4000,
                                            .talk = 10 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct world world;
        world_open (&world, seed_of (round), &weather);
        world_run (&world, STORM_MS);
        world_calm (&world);
        world_close (&world);
    }
}

static void test_a_link_that_shuffles_everything_delivers_in_order_once (void **state)
{
    (void) state;
    static const struct weather weather = {
        .lost = 10, .doubled = 30, .delay_ms_max = 300, .breaks = 200, .outage_ms_max = 3000, .talk = 10
    };
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct world world;
        world_open (&world, seed_of (round), &weather);
        world_run (&world, STORM_MS);
        world_calm (&world);
        world_close (&world);
    }
}

/*  Here two conversations may end for good, as whoever was replaced stays so;
    but nothing comes twice or out of its order. */
static void test_a_link_that_shuffles_across_restarts_delivers_in_order_once (void **state)
{
    (void) state;
    static const struct weather weather = {
        .lost = 5, .doubled = 30, .delay_ms_max = 300, .restarts = 500, .talk = 10
    };
    uint64_t heard = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct world world;
        world_open (&world, seed_of (round), &weather);
        world_run (&world, STORM_MS);
        heard += world.sides[0].heard + world.sides[1].heard;
        world_close (&world);
    }
    assert_true (heard > 1000);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_hello_is_repeated_until_it_is_answered),
        cmocka_unit_test (test_an_answer_that_is_lost_is_given_again),
        cmocka_unit_test (test_who_is_not_greeted_delivers_nothing_and_asks),
        cmocka_unit_test (test_who_is_shouted_at_asks_no_more_than_usual),
        cmocka_unit_test (test_a_hello_is_read_before_anybody_is_known),
        cmocka_unit_test (test_a_hello_of_a_later_language_is_understood),
        cmocka_unit_test (test_protocols_that_overlap_work_together),
        cmocka_unit_test (test_protocols_apart_are_refused_by_name_until_one_is_renewed),
        cmocka_unit_test (test_an_older_protocol_is_refused_too),
        cmocka_unit_test (test_the_wrong_actor_is_refused),
        cmocka_unit_test (test_another_who_knocks_shuts_nobody_out),
        cmocka_unit_test (test_two_that_run_where_one_should_are_told),
        cmocka_unit_test (test_a_refusal_that_comes_late_or_to_another_is_nothing),
        cmocka_unit_test (test_a_refusal_of_any_length_is_shown_within_bounds),
        cmocka_unit_test (test_after_a_refusal_the_same_one_may_come_back),
        cmocka_unit_test (test_payloads_arrive_in_order_once_and_are_forgotten),
        cmocka_unit_test (test_an_acknowledgement_waits_for_a_payload_to_ride_on),
        cmocka_unit_test (test_many_payloads_are_acknowledged_at_once_by_one_frame),
        cmocka_unit_test (test_what_was_lost_is_repeated_from_the_first),
        cmocka_unit_test (test_repetitions_become_rarer_and_progress_hastens_them),
        cmocka_unit_test (test_a_backlog_comes_at_the_pace_of_the_answers),
        cmocka_unit_test (test_what_comes_twice_is_acknowledged_at_once),
        cmocka_unit_test (test_acknowledgements_of_what_was_never_sent_are_rubbish),
        cmocka_unit_test (test_a_hello_that_acknowledges_what_was_never_sent_is_rubbish),
        cmocka_unit_test (test_rubbish_is_told_and_changes_nothing),
        cmocka_unit_test (test_a_full_session_takes_nothing_until_it_is_acknowledged),
        cmocka_unit_test (test_a_socket_that_takes_nothing_is_asked_again),
        cmocka_unit_test (test_a_socket_that_has_room_again_is_asked_at_once),
        cmocka_unit_test (test_an_answer_that_a_socket_does_not_take_is_told_again),
        cmocka_unit_test (test_an_answer_behind_a_repetition_that_is_stuck_waits_with_it),
        cmocka_unit_test (test_a_frame_that_a_socket_holds_does_not_change),
        cmocka_unit_test (test_a_frame_that_was_let_go_is_repeated_with_what_is_new),
        cmocka_unit_test (test_while_held_nothing_is_delivered_and_all_comes_later),
        cmocka_unit_test (test_a_restart_is_told_once_and_numbers_begin_again),
        cmocka_unit_test (test_both_may_restart_at_once),
        cmocka_unit_test (test_late_frames_of_one_who_ended_are_nothing),
        cmocka_unit_test (test_a_hello_from_the_past_does_not_mix_two_conversations),
        cmocka_unit_test (test_a_quiet_restart_is_found_before_the_old_one_is_lost),
        cmocka_unit_test (test_a_hello_from_the_past_takes_nobodys_place),
        cmocka_unit_test (test_two_who_each_count_with_the_dead_find_each_other),
        cmocka_unit_test (test_signs_of_life_keep_it_up),
        cmocka_unit_test (test_silence_is_told_once_and_what_is_kept_follows_the_return),
        cmocka_unit_test (test_a_payload_that_ends_a_silence_may_be_handed_in_again),
        cmocka_unit_test (test_a_cut_in_one_direction_heals_with_the_next_repetition),
        cmocka_unit_test (test_a_link_that_breaks_loses_nothing_while_both_live),
        cmocka_unit_test (test_a_link_that_loses_and_doubles_and_ends_that_restart),
        cmocka_unit_test (test_a_link_that_shuffles_everything_delivers_in_order_once),
        cmocka_unit_test (test_a_link_that_shuffles_across_restarts_delivers_in_order_once),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
