/*  test_outbox.c - what a turn sends: joined, in order, and nothing lost. */

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/base/outbox.h"
#include "proto/text.h"

static const struct address decision = { ROLE_DECISION, 0 };
static const struct address ingest = { ROLE_INGEST, 0 };
static const struct address second_ingest = { ROLE_INGEST, 1 };

/*  What came out: frames, and for each peer the values in their order. */
static struct heard {
    unsigned frames;
    unsigned values;
    size_t largest;            /* bytes of a frame */
    uint32_t most;             /* values of a frame */
    uint64_t last_position[2]; /* by peer of ingest, of SETTLED */
    struct address to[64];     /* of the first frames */
    enum message_id ids[64];
    uint64_t traces[64];
} heard;

enum { WORKERS_MAX = 16 }; /* of a client: what a list of endpoints takes */

static struct outbox *outbox;
static unsigned takes = UINT_MAX; /* frames that are taken before one is not */

static bool hear (void *context, struct address to, const void *bytes, size_t size)
{
    (void) context;
    struct decoder decoder;
    struct message message;
    if (heard.frames == takes)
        return false;
    assert_int_equal (decode_begin (&decoder, bytes, size, false), DECODE_OK);
    if (heard.frames < 64) {
        heard.to[heard.frames] = to;
        heard.ids[heard.frames] = decoder.spec->id;
        heard.traces[heard.frames] = decoder.trace;
    }
    heard.frames++;
    if (size > heard.largest)
        heard.largest = size;
    uint32_t count = 0;
    for (; decode_next (&decoder, &message) == DECODE_OK; count++) {
        if (message.id != MESSAGE_SETTLED)
            continue;
        assert_true (message.settled.position > heard.last_position[to.peer]);
        heard.last_position[to.peer] = message.settled.position;
    }
    heard.values += count;
    if (count > heard.most)
        heard.most = count;
    return true;
}

static void flush (void)
{
    memset (&heard, 0, sizeof heard);
    assert_true (outbox_flush (outbox, hear, NULL));
}

/*  Flushes to somebody who takes only so many frames. */
static void flush_some (unsigned frames)
{
    memset (&heard, 0, sizeof heard);
    takes = frames;
    assert_false (outbox_flush (outbox, hear, NULL));
    assert_int_equal (heard.frames, frames);
    takes = UINT_MAX;
}

static int begin (void **state)
{
    (void) state;
    outbox = outbox_new ();
    return outbox ? 0 : -1;
}

static int end (void **state)
{
    (void) state;
    outbox_destroy (&outbox);
    assert_null (outbox);
    outbox_destroy (&outbox);
    return 0;
}

static void put_settled (struct address to, uint64_t position)
{
    struct message message = { .id = MESSAGE_SETTLED, .trace = position + 100 };
    message.settled.position = position;
    assert_true (outbox_put (outbox, to, &message));
}

static void put_plain (struct address to, enum message_id id)
{
    assert_true (outbox_put (outbox, to, &(struct message){ .id = id }));
}

/*  An event with so many bytes of data. */
static bool put_event (uint64_t position, uint32_t size)
{
    static char bytes[2 * DATA_SIZE_MAX];
    static uint8_t memory[2 * DATA_SIZE_MAX + 8];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_text (&packer, (struct text){ bytes, size });
    struct message message = { .id = MESSAGE_EVENT };
    message.event.position = position;
    message.event.source = TEXT_LITERAL ("a");
    message.event.type = TEXT_LITERAL ("b");
    message.event.data = packer_raw (&packer);
    return outbox_put (outbox, decision, &message);
}

static void test_an_empty_turn_sends_nothing (void **state)
{
    (void) state;
    flush ();
    assert_int_equal (heard.frames, 0);
}

static void test_values_for_one_peer_are_one_frame (void **state)
{
    (void) state;
    for (uint64_t position = 1; position <= 100; position++)
        put_settled (ingest, position);
    flush ();
    assert_int_equal (heard.frames, 1);
    assert_int_equal (heard.values, 100);
    assert_int_equal (heard.traces[0], 101);
    flush ();
    assert_int_equal (heard.frames, 0);
}

static void test_peers_and_ids_are_kept_apart (void **state)
{
    (void) state;
    for (uint64_t position = 1; position <= 10; position++) {
        put_settled (ingest, position);
        put_settled (second_ingest, position);
        assert_true (put_event (position, 1));
    }
    flush ();
    assert_int_equal (heard.frames, 3);
    assert_int_equal (heard.values, 30);
    assert_int_equal (heard.to[0].peer, 0);
    assert_int_equal (heard.to[1].peer, 1);
    assert_int_equal (heard.ids[2], MESSAGE_EVENT);
    assert_int_equal (heard.to[2].role, ROLE_DECISION);
}

static void test_a_plain_message_between_does_not_break_a_batch (void **state)
{
    (void) state;
    put_settled (ingest, 1);
    put_plain (ingest, MESSAGE_OPEN);
    put_settled (ingest, 2);
    put_plain (ingest, MESSAGE_OPEN);
    flush ();
    assert_int_equal (heard.frames, 3);
    assert_int_equal (heard.values, 4);
    assert_int_equal (heard.ids[0], MESSAGE_SETTLED);
    assert_int_equal (heard.ids[1], MESSAGE_OPEN);
}

/*  READ_META and WRITE_META to each usermeta-client, GIVE to each currency-client,
    SETTLED to ingest, for one player after another. */
static void test_a_decision_with_all_the_workers_there_can_be_keeps_its_batches (void **state)
{
    (void) state;
    for (uint64_t round = 1; round <= 50; round++) {
        for (uint16_t worker = 0; worker < WORKERS_MAX; worker++) {
            struct address usermeta = { ROLE_USERMETA_CLIENT, worker };
            struct message read = { .id = MESSAGE_READ_META, .read_meta.user = TEXT_LITERAL ("u") };
            struct message write = { .id = MESSAGE_WRITE_META, .write_meta.user = TEXT_LITERAL ("u") };
            struct message give = { .id = MESSAGE_GIVE, .give.user = TEXT_LITERAL ("u") };
            assert_true (outbox_put (outbox, usermeta, &read));
            assert_true (outbox_put (outbox, usermeta, &write));
            assert_true (outbox_put (outbox, (struct address){ ROLE_CURRENCY_CLIENT, worker }, &give));
        }
        put_settled (ingest, round);
    }
    flush ();
    assert_int_equal (heard.frames, 3 * WORKERS_MAX + 1);
    assert_int_equal (heard.values, 50 * (3 * WORKERS_MAX + 1));
}

static void test_more_pairs_than_are_joined_lose_nothing_and_keep_their_order (void **state)
{
    (void) state;
    for (uint64_t round = 0; round < 50; round++) {
        put_settled (ingest, round + 1);
        for (unsigned i = 0; i < OUTBOX_OPEN_MAX; i++)
            put_plain ((struct address){ ROLE_INGEST, (uint16_t) i }, MESSAGE_OPEN);
    }
    flush ();
    assert_int_equal (heard.values, 50 * (OUTBOX_OPEN_MAX + 1));
    assert_int_equal (heard.last_position[0], 50);
}

static void test_a_batch_of_too_many_goes_on_in_the_next (void **state)
{
    (void) state;
    for (uint64_t position = 1; position <= 3 * BATCH_ITEMS_MAX + 1; position++)
        put_settled (ingest, position);
    flush ();
    assert_int_equal (heard.frames, 4);
    assert_int_equal (heard.most, BATCH_ITEMS_MAX);
    assert_int_equal (heard.last_position[0], 3 * BATCH_ITEMS_MAX + 1);
}

static void test_a_batch_of_large_values_stays_below_a_frame (void **state)
{
    (void) state;
    for (uint64_t position = 1; position <= 100; position++)
        assert_true (put_event (position, DATA_SIZE_MAX - 8));
    flush ();
    assert_int_equal (heard.values, 100);
    assert_true (heard.largest <= MESSAGE_SIZE_MAX);
    assert_true (heard.frames >= 7);
}

static void test_what_breaks_a_limit_is_not_taken_and_spoils_nothing (void **state)
{
    (void) state;
    assert_false (put_event (1, DATA_SIZE_MAX + 1));
    flush ();
    assert_int_equal (heard.frames, 0);
    assert_true (put_event (2, 5));
    assert_false (put_event (3, DATA_SIZE_MAX + 1));
    assert_true (put_event (4, 5));
    struct message credit = { .id = MESSAGE_CREDIT };
    credit.credit.capacity = WINDOW_MAX + 1;
    assert_false (outbox_put (outbox, ingest, &credit));
    assert_false (outbox_put (outbox, ingest, &(struct message){ .id = (enum message_id) 63 }));
    flush ();
    assert_int_equal (heard.frames, 1);
    assert_int_equal (heard.values, 2);
}

static void test_a_thousand_turns_are_each_their_own (void **state)
{
    (void) state;
    for (uint64_t turn = 1; turn <= 1000; turn++) {
        put_plain (decision, MESSAGE_OPEN);
        for (uint64_t i = 1; i <= turn % 7; i++)
            put_settled (ingest, i);
        flush ();
        assert_int_equal (heard.values, 1 + turn % 7);
    }
}

static void test_what_is_not_taken_stays_in_order_for_the_next_flush (void **state)
{
    (void) state;
    put_settled (ingest, 1);
    put_plain (decision, MESSAGE_OPEN);
    put_settled (second_ingest, 1);
    flush_some (0);
    flush_some (1);
    assert_int_equal (heard.ids[0], MESSAGE_SETTLED);
    flush_some (0);
    flush_some (1);
    assert_int_equal (heard.ids[0], MESSAGE_OPEN);
    flush ();
    assert_int_equal (heard.frames, 1);
    assert_int_equal (heard.to[0].peer, 1);
    flush ();
    assert_int_equal (heard.frames, 0);
}

static void test_nothing_joins_what_is_on_its_way (void **state)
{
    (void) state;
    put_settled (ingest, 1);
    put_settled (second_ingest, 1);
    flush_some (1);
    put_settled (ingest, 2);
    put_settled (second_ingest, 2);
    put_settled (second_ingest, 3);
    flush ();
    assert_int_equal (heard.frames, 3);
    assert_int_equal (heard.values, 4);
    assert_int_equal (heard.to[0].peer, 1);
    assert_int_equal (heard.last_position[0], 2);
    assert_int_equal (heard.last_position[1], 3);
}

static void test_a_thousand_turns_that_are_cut_short_lose_nothing (void **state)
{
    (void) state;
    uint64_t said = 0, came = 0;
    for (unsigned turn = 0; turn < 1000; turn++) {
        put_settled (ingest, ++said);
        put_plain (ingest, MESSAGE_OPEN);
        memset (&heard, 0, sizeof heard);
        heard.last_position[0] = came;
        takes = turn % 5;
        bool all = outbox_flush (outbox, hear, NULL);
        takes = UINT_MAX;
        came = heard.last_position[0];
        assert_true (!all || came == said);
    }
    memset (&heard, 0, sizeof heard);
    heard.last_position[0] = came;
    assert_true (outbox_flush (outbox, hear, NULL));
    assert_int_equal (heard.last_position[0], 1000);
}

static void test_what_is_held_for_one_who_is_gone_is_forgotten (void **state)
{
    (void) state;
    put_settled (ingest, 1);
    put_settled (second_ingest, 1);
    put_plain (ingest, MESSAGE_OPEN);
    assert_true (put_event (1, 1));
    put_plain (second_ingest, MESSAGE_OPEN);
    outbox_forget (outbox, second_ingest);
    put_settled (second_ingest, 2);
    flush ();
    assert_int_equal (heard.frames, 4);
    assert_int_equal (heard.values, 4);
    assert_int_equal (heard.to[0].peer, 0);
    assert_int_equal (heard.ids[1], MESSAGE_OPEN);
    assert_int_equal (heard.ids[2], MESSAGE_EVENT);
    assert_int_equal (heard.to[3].peer, 1);
    assert_int_equal (heard.ids[3], MESSAGE_SETTLED);
    outbox_forget (outbox, ingest);
    flush ();
    assert_int_equal (heard.frames, 0);
}

static void test_forgetting_in_the_middle_of_a_flush_keeps_the_rest (void **state)
{
    (void) state;
    for (uint64_t turn = 1; turn <= 3; turn++) {
        put_settled (ingest, 10 * turn);
        put_settled (second_ingest, 10 * turn);
        put_plain (decision, MESSAGE_OPEN);
        flush_some (1);
        outbox_forget (outbox, second_ingest);
        put_settled (ingest, 10 * turn + 1);
        flush ();
        assert_int_equal (heard.frames, 2);
        assert_int_equal (heard.ids[0], MESSAGE_OPEN);
        assert_int_equal (heard.last_position[0], 10 * turn + 1);
        assert_int_equal (heard.last_position[1], 0);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_an_empty_turn_sends_nothing, begin, end),
        cmocka_unit_test_setup_teardown (test_values_for_one_peer_are_one_frame, begin, end),
        cmocka_unit_test_setup_teardown (test_peers_and_ids_are_kept_apart, begin, end),
        cmocka_unit_test_setup_teardown (test_a_plain_message_between_does_not_break_a_batch, begin, end),
        cmocka_unit_test_setup_teardown (test_a_decision_with_all_the_workers_there_can_be_keeps_its_batches,
                                         begin, end),
        cmocka_unit_test_setup_teardown (test_more_pairs_than_are_joined_lose_nothing_and_keep_their_order,
                                         begin, end),
        cmocka_unit_test_setup_teardown (test_a_batch_of_too_many_goes_on_in_the_next, begin, end),
        cmocka_unit_test_setup_teardown (test_a_batch_of_large_values_stays_below_a_frame, begin, end),
        cmocka_unit_test_setup_teardown (test_what_breaks_a_limit_is_not_taken_and_spoils_nothing, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_a_thousand_turns_are_each_their_own, begin, end),
        cmocka_unit_test_setup_teardown (test_what_is_not_taken_stays_in_order_for_the_next_flush, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_nothing_joins_what_is_on_its_way, begin, end),
        cmocka_unit_test_setup_teardown (test_what_is_held_for_one_who_is_gone_is_forgotten, begin, end),
        cmocka_unit_test_setup_teardown (test_forgetting_in_the_middle_of_a_flush_keeps_the_rest, begin, end),
        cmocka_unit_test_setup_teardown (test_a_thousand_turns_that_are_cut_short_lose_nothing, begin, end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
