/*  test_codec.c - messages to bytes and back, and bytes of all other kinds.

    What can be said of every message is said once, over the table. Bytes to
    decode lie at the end of memory of exactly their size, so that a sanitizer
    sees a read beyond them. Random tests print their seed; TEST_SEED=n runs
    one again.
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/codec.h"

/*  ---- helpers ------------------------------------------------------------ */

enum { SCRATCH_SIZE = MESSAGE_SIZE_MAX + 4096, ROUNDS = 50 };

/*  Memory of the tests: what is packed, and what its fields point to. */
static uint8_t packed[SCRATCH_SIZE];
static uint8_t again[SCRATCH_SIZE];
static uint8_t store[SCRATCH_SIZE];
static size_t stored;
static uint64_t random_state;

static void seed (void)
{
    const char *given = getenv ("TEST_SEED");
    random_state = given ? strtoull (given, NULL, 10) : (uint64_t) time (NULL);
    print_message ("TEST_SEED=%llu\n", (unsigned long long) random_state);
}

static uint64_t draw (void)
{
    uint64_t x = random_state += UINT64_C (0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
    return x ^ x >> 31;
}

/*  0 to max, often at one of the ends or with few bits. */
static uint64_t draw_to (uint64_t max)
{
    uint64_t kind = draw () % 4;
    uint64_t number = kind == 0 ? 0 : kind == 1 ? max : kind == 2 ? draw () >> draw () % 64 : draw ();
    return number <= max ? number : number % (max + 1);
}

static void *keep (size_t size)
{
    assert_true (stored + size <= sizeof (store));
    stored += size;
    return store + stored - size;
}

static struct text draw_text (uint64_t max)
{
    uint32_t size = (uint32_t) draw_to (max < 30000 ? max : 30000);
    char *bytes = keep (size);
    for (uint32_t i = 0; i < size; i++)
        bytes[i] = (char) draw ();
    return (struct text){ bytes, size };
}

static void pack_any (struct packer *packer, unsigned depth)
{
    switch (draw () % (depth < 4 ? 9 : 7)) {
    case 0:
        pack_uint (packer, draw () >> draw () % 64);
        break;
    case 1:
        pack_int (packer, -(int64_t) (draw () >> (1 + draw () % 63)));
        break;
    case 2:
        pack_real (packer, (double) draw () / 3);
        break;
    case 3:
        pack_text (packer, TEXT_LITERAL ("a text of some length, more than 31"));
        break;
    case 4:
        pack_bool (packer, draw () % 2);
        break;
    case 5:
        pack_ext (packer, (int8_t) draw (), (struct text){ "0123456789abcdef", (uint32_t) (draw () % 17) });
        break;
    case 6:
        pack_nil (packer);
        break;
    case 7:
        pack_array (packer, 3);
        for (int i = 0; i < 3; i++)
            pack_any (packer, depth + 1);
        break;
    default:
        pack_map (packer, 2);
        for (int i = 0; i < 4; i++)
            pack_any (packer, depth + 1);
    }
}

/*  An object that is not nil, since nil comes back as no object. */
static struct raw draw_raw (void)
{
    struct packer packer;
    if (draw () % 4 == 0)
        return NO_RAW;
    packer_init (&packer, store + stored, 4096);
    pack_array (&packer, 2);
    pack_any (&packer, 0);
    pack_any (&packer, 0);
    assert_false (packer.overflow);
    keep (packer.size);
    return packer_raw (&packer);
}

static void *field_of (struct message *message, const struct field_spec *field)
{
    return (char *) message + field->offset;
}

static void draw_field (struct message *message, const struct field_spec *field)
{
    void *to = field_of (message, field);
    switch (field->type) {
    case FIELD_UINT:
        *(uint64_t *) to = field->max == UINT64_MAX ? draw () >> draw () % 64 : draw_to (field->max);
        break;
    case FIELD_INT:
        *(int64_t *) to = (int64_t) (draw () >> draw () % 64);
        break;
    case FIELD_CHOICE:
        *(unsigned *) to = (unsigned) field->choice->values[draw () % field->choice->count].number;
        break;
    case FIELD_TEXT:
        *(struct text *) to = draw_text (field->max);
        break;
    case FIELD_RAW:
        *(struct raw *) to = draw_raw ();
        break;
    }
}

static struct message draw_message (const struct message_spec *spec)
{
    struct message message = { .id = spec->id, .trace = draw () >> draw () % 64 };
    stored = 0;
    for (size_t i = 0; i < spec->count; i++)
        draw_field (&message, &spec->fields[i]);
    return message;
}

/*  A message whose fields are all there, and short. */
/*  A number that differs from field to field, as far as its limit allows. */
static uint64_t small_uint (const struct field_spec *field, size_t index)
{
    return 1 + index <= field->max ? 1 + index : field->max;
}

static struct message small_message (const struct message_spec *spec)
{
    struct message message = { .id = spec->id, .trace = 5 };
    for (size_t i = 0; i < spec->count; i++) {
        const struct field_spec *field = &spec->fields[i];
        void *to = field_of (&message, field);
        if (field->type == FIELD_UINT)
            *(uint64_t *) to = small_uint (field, i);
        else if (field->type == FIELD_INT)
            *(int64_t *) to = -300;
        else if (field->type == FIELD_CHOICE)
            *(unsigned *) to = (unsigned) field->choice->values[0].number;
        else if (field->type == FIELD_TEXT)
            *(struct text *) to = TEXT_LITERAL ("ab");
        else
            *(struct raw *) to = (struct raw){ (const uint8_t *) "\x81\xa1k\x92\x01\xc0", 6 };
    }
    return message;
}

static void assert_same_text (const void *a, size_t a_size, const void *b, size_t b_size)
{
    assert_int_equal (a_size, b_size);
    if (a_size > 0)
        assert_memory_equal (a, b, a_size);
}

static void assert_same_field (struct message *a, struct message *b, const struct field_spec *field)
{
    const void *left = field_of (a, field), *right = field_of (b, field);
    if (field->type == FIELD_CHOICE)
        assert_int_equal (*(const unsigned *) left, *(const unsigned *) right);
    else if (field->type == FIELD_TEXT) {
        const struct text *x = left, *y = right;
        assert_same_text (x->data, x->size, y->data, y->size);
    } else if (field->type == FIELD_RAW) {
        const struct raw *x = left, *y = right;
        assert_same_text (x->data, x->size, y->data, y->size);
    } else
        assert_int_equal (*(const uint64_t *) left, *(const uint64_t *) right);
}

static void assert_same (struct message *a, struct message *b)
{
    const struct message_spec *spec = message_spec (a->id);
    assert_int_equal (a->id, b->id);
    assert_int_equal (a->trace, b->trace);
    assert_int_equal (b->from.role, ROLE_SHELL);
    assert_int_equal (b->from.peer, 0);
    for (size_t i = 0; i < spec->count; i++)
        assert_same_field (a, b, &spec->fields[i]);
}

static struct raw encoded (const struct message *message)
{
    struct packer packer;
    packer_init (&packer, packed, sizeof (packed));
    assert_int_equal (encode_message (&packer, message), ENCODE_OK);
    return packer_raw (&packer);
}

/*  Whatever decodes must encode, and decode to the same again. */
static void assert_stable (struct message *message)
{
    struct packer packer;
    struct decoder decoder;
    struct message twin;
    packer_init (&packer, again, sizeof (again));
    assert_int_equal (encode_message (&packer, message), ENCODE_OK);
    assert_int_equal (decode_begin (&decoder, again, packer.size, true), DECODE_OK);
    assert_int_equal (decode_next (&decoder, &twin), DECODE_OK);
    assert_same (message, &twin);
    assert_int_equal (decode_next (&decoder, &twin), DECODE_END);
}

/*  Decodes a copy in memory of exactly this size; returns what went wrong
    first, if anything. */
static enum decode_result decode_exact (const void *bytes, size_t size, unsigned *good)
{
    uint8_t *copy = malloc (size + !size);
    assert_non_null (copy);
    if (size > 0)
        memcpy (copy, bytes, size);
    struct decoder decoder;
    struct message message;
    enum decode_result first = decode_begin (&decoder, copy, size, true), result = first;
    *good = 0;
    while (first == DECODE_OK && (result = decode_next (&decoder, &message)) != DECODE_END) {
        if (result == DECODE_OK) {
            assert_stable (&message);
            ++*good;
        } else
            first = result;
    }
    free (copy);
    return first;
}

static enum decode_result decode_packed (const struct packer *packer)
{
    unsigned good;
    assert_false (packer->overflow);
    return decode_exact (packer->data, packer->size, &good);
}

/*  Runs a check for every message of the table. */
static void for_every_message (void (*check) (const struct message_spec *spec))
{
    unsigned count = 0;
    for (uint64_t id = 0; id <= MESSAGE_ID_MAX; id++)
        if (message_spec (id)) {
            check (message_spec (id));
            count++;
        }
    assert_true (count >= 27);
}

/*  The head of a message, and of its one item when it is a batch, up to where
    `count` fields follow. */
static void pack_head (struct packer *packer, const struct message_spec *spec, uint32_t count)
{
    packer_init (packer, packed, sizeof (packed));
    pack_array (packer, spec->batch ? 4 : 3 + count);
    pack_uint (packer, PROTOCOL_VERSION);
    pack_uint (packer, spec->id);
    pack_uint (packer, 5);
    if (spec->batch) {
        pack_array (packer, 1);
        pack_array (packer, 1 + count);
        pack_uint (packer, 5);
    }
}

/*  A field of small_message, as it is on the wire. */
static void pack_small (struct packer *packer, const struct field_spec *field, size_t index)
{
    if (field->type == FIELD_UINT)
        pack_uint (packer, small_uint (field, index));
    else if (field->type == FIELD_INT)
        pack_int (packer, -300);
    else if (field->type == FIELD_CHOICE)
        pack_uint (packer, field->choice->values[0].number);
    else if (field->type == FIELD_TEXT)
        pack_literal (packer, "ab");
    else
        pack_raw (packer, (struct raw){ (const uint8_t *) "\x81\xa1k\x92\x01\xc0", 6 });
}

/*  ---- the good way ------------------------------------------------------- */

static void round_trip (const struct message_spec *spec)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct message message = draw_message (spec), twin;
        struct raw bytes = encoded (&message);
        struct decoder decoder;
        assert_int_equal (decode_begin (&decoder, bytes.data, bytes.size, true), DECODE_OK);
        assert_ptr_equal (decoder.spec, spec);
        assert_int_equal (decoder.trace, message.trace);
        assert_int_equal (decoder.count, 1);
        assert_int_equal (decode_next (&decoder, &twin), DECODE_OK);
        assert_same (&message, &twin);
        assert_int_equal (decode_next (&decoder, &twin), DECODE_END);
        assert_int_equal (decode_next (&decoder, &twin), DECODE_END);
    }
}

static void test_every_message_comes_back (void **state)
{
    (void) state;
    seed ();
    for_every_message (round_trip);
}

static void test_the_bytes_are_those_of_the_document (void **state)
{
    (void) state;
    struct message credit = { .id = MESSAGE_CREDIT, .trace = 0, .credit = { .capacity = 1000 } };
    struct raw bytes = encoded (&credit);
    assert_same_text (bytes.data, bytes.size, "\x96\x01\x02\x00\xcd\x03\xe8\xa0\xa0", 9);

    struct message settled = { .id = MESSAGE_SETTLED,
                               .trace = 200,
                               .settled = { .position = 41, .outcome = OUTCOME_SUCCESS } };
    bytes = encoded (&settled);
    assert_same_text (bytes.data, bytes.size, "\x94\x01\x04\xcc\xc8\x91\x93\xcc\xc8\x29\x01", 11);

    struct message event = { .id = MESSAGE_EVENT,
                             .trace = 1,
                             .event = { .position = 7,
                                        .timestamp = -1,
                                        .source = TEXT_LITERAL ("g"),
                                        .type = TEXT_LITERAL (""),
                                        .data = NO_RAW,
                                        .fault = FAULT_DATA_SIZE } };
    bytes = encoded (&event);
    assert_same_text (bytes.data, bytes.size, "\x94\x01\x03\x01\x91\x97\x01\x07\xff\xa1g\xa0\xc0\x02", 14);
}

static void test_a_batch_keeps_order_and_traces (void **state)
{
    (void) state;
    struct packer items, batch;
    packer_init (&items, again, sizeof (again));
    for (uint64_t i = 0; i < BATCH_ITEMS_MAX; i++) {
        struct message settled = { .id = MESSAGE_SETTLED, .trace = 100 + i, .settled.position = i };
        assert_int_equal (encode_item (&items, &settled), ENCODE_OK);
    }
    packer_init (&batch, packed, sizeof (packed));
    assert_int_equal (encode_batch (&batch, MESSAGE_SETTLED, 100, packer_raw (&items), BATCH_ITEMS_MAX),
                      ENCODE_OK);

    struct decoder decoder;
    struct message message;
    assert_int_equal (decode_begin (&decoder, batch.data, batch.size, false), DECODE_OK);
    assert_int_equal (decoder.trace, 100);
    assert_int_equal (decoder.count, BATCH_ITEMS_MAX);
    for (uint64_t i = 0; i < BATCH_ITEMS_MAX; i++) {
        assert_int_equal (decode_next (&decoder, &message), DECODE_OK);
        assert_int_equal (message.trace, 100 + i);
        assert_int_equal (message.settled.position, i);
    }
    assert_int_equal (decode_next (&decoder, &message), DECODE_END);
}

static void test_a_batch_may_be_empty (void **state)
{
    (void) state;
    struct packer batch;
    struct decoder decoder;
    struct message message;
    packer_init (&batch, packed, sizeof (packed));
    assert_int_equal (encode_batch (&batch, MESSAGE_COUNT, 0, NO_RAW, 0), ENCODE_OK);
    assert_int_equal (decode_begin (&decoder, batch.data, batch.size, false), DECODE_OK);
    assert_int_equal (decode_next (&decoder, &message), DECODE_END);
}

/*  ---- full, and beyond the limits ---------------------------------------- */

static void never_half_written (const struct message_spec *spec)
{
    struct message message = small_message (spec);
    size_t whole = encoded (&message).size;
    for (size_t room = 0; room < whole; room++) {
        struct packer packer;
        packer_init (&packer, packed, 2 + room);
        pack_uint (&packer, 200);
        assert_int_equal (encode_message (&packer, &message), ENCODE_FULL);
        assert_int_equal (packer.size, 2);
        assert_false (packer.overflow);
        assert_memory_equal (packed, "\xcc\xc8", 2);
    }
}

static void test_a_full_packer_is_left_as_it_was (void **state)
{
    (void) state;
    for_every_message (never_half_written);
}

static void test_a_batch_that_does_not_fit_leaves_the_packer_as_it_was (void **state)
{
    (void) state;
    struct packer items, batch;
    struct message settled = { .id = MESSAGE_SETTLED, .settled.position = 300 };
    packer_init (&items, again, sizeof (again));
    assert_int_equal (encode_item (&items, &settled), ENCODE_OK);
    for (size_t room = 0; room < items.size + 5; room++) {
        packer_init (&batch, packed, room);
        assert_int_equal (encode_batch (&batch, MESSAGE_SETTLED, 0, packer_raw (&items), 1), ENCODE_FULL);
        assert_int_equal (batch.size, 0);
        assert_false (batch.overflow);
    }
    packer_init (&items, again, items.size - 1);
    assert_int_equal (encode_item (&items, &settled), ENCODE_FULL);
    assert_int_equal (items.size, 0);
}

static void test_an_overflow_stays (void **state)
{
    (void) state;
    struct packer packer;
    packer_init (&packer, packed, 3);
    pack_literal (&packer, "abc");
    assert_true (packer.overflow);
    pack_nil (&packer);
    assert_true (packer.overflow);
    assert_int_equal (packer_raw (&packer).size, 0);
    assert_int_equal (encode_message (&packer, &(struct message){ .id = MESSAGE_OPEN }), ENCODE_FULL);
    assert_true (packer.overflow);
}

/*  Fills a field to its limit, or one beyond; false when it has no beyond. */
static bool fill_field (struct message *message, const struct field_spec *field, bool beyond)
{
    void *to = field_of (message, field);
    if (field->type == FIELD_INT || (field->max == UINT64_MAX && beyond))
        return false;
    if (field->type == FIELD_UINT)
        *(uint64_t *) to = field->max + beyond;
    else if (field->type == FIELD_CHOICE)
        *(unsigned *) to = beyond ? 99 : (unsigned) field->choice->values[field->choice->count - 1].number;
    else if (field->max + beyond > MESSAGE_SIZE_MAX / 2)
        return false; /* of local messages: too large for a frame anyway */
    else if (field->type == FIELD_TEXT)
        *(struct text *) to = (struct text){ (const char *) store, (uint32_t) (field->max + beyond) };
    else {
        struct packer packer;
        packer_init (&packer, again, sizeof (again));
        pack_text (&packer, (struct text){ (const char *) store, (uint32_t) (field->max + beyond) - 3 });
        if (packer.size != field->max + beyond) { /* its head took 5 bytes */
            packer_init (&packer, again, sizeof (again));
            pack_text (&packer, (struct text){ (const char *) store, (uint32_t) (field->max + beyond) - 5 });
        }
        assert_int_equal (packer.size, field->max + beyond);
        *(struct raw *) to = packer_raw (&packer);
    }
    return true;
}

static void limits_hold (const struct message_spec *spec)
{
    for (size_t i = 0; i < spec->count; i++) {
        struct message message = small_message (spec);
        if (fill_field (&message, &spec->fields[i], false)) {
            struct raw bytes = encoded (&message);
            unsigned good;
            assert_int_equal (decode_exact (bytes.data, bytes.size, &good), DECODE_OK);
            assert_int_equal (good, 1);
        }
        struct packer packer;
        packer_init (&packer, packed, sizeof (packed));
        if (fill_field (&message, &spec->fields[i], true)) {
            assert_int_equal (encode_message (&packer, &message), ENCODE_INVALID);
            assert_int_equal (packer.size, 0);
            assert_false (packer.overflow);
            /*  Nor is it worth trying again with more room. */
            packer_init (&packer, packed, 2);
            assert_int_equal (encode_message (&packer, &message), ENCODE_INVALID);
            assert_false (packer.overflow);
        }
    }
}

static void test_a_field_is_sent_up_to_its_limit_and_not_beyond (void **state)
{
    (void) state;
    for_every_message (limits_hold);
}

static void test_a_message_beyond_the_largest_frame_is_not_made (void **state)
{
    (void) state;
    struct packer items, batch;
    static uint8_t room[2 * MESSAGE_SIZE_MAX];
    struct raw data = { store, DATA_SIZE_MAX };
    struct message event = { .id = MESSAGE_EVENT, .event.data = data };
    packer_init (&items, room, sizeof (room));
    store[0] = 0xda;
    store[1] = (uint8_t) ((DATA_SIZE_MAX - 3) >> 8);
    store[2] = (uint8_t) (DATA_SIZE_MAX - 3);
    for (int i = 0; i < 15; i++)
        assert_int_equal (encode_item (&items, &event), ENCODE_OK);
    static uint8_t frame[2 * MESSAGE_SIZE_MAX];
    packer_init (&batch, frame, sizeof (frame));
    assert_int_equal (encode_batch (&batch, MESSAGE_EVENT, 0, packer_raw (&items), 15), ENCODE_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal (encode_item (&items, &event), ENCODE_OK);
    packer_init (&batch, frame, sizeof (frame));
    assert_int_equal (encode_batch (&batch, MESSAGE_EVENT, 0, packer_raw (&items), 20), ENCODE_INVALID);
    assert_int_equal (batch.size, 0);
}

/*  The same as limits_hold, seen by a reader whose peer does not care. */
static void beyond_is_refused (const struct message_spec *spec)
{
    for (size_t i = 0; i < spec->count; i++) {
        struct message message = small_message (spec);
        if (!fill_field (&message, &spec->fields[i], true))
            continue;
        struct packer packer;
        pack_head (&packer, spec, (uint32_t) spec->count);
        for (size_t j = 0; j < spec->count; j++) {
            const void *value = field_of (&message, &spec->fields[j]);
            if (j != i)
                pack_small (&packer, &spec->fields[j], j);
            else if (spec->fields[j].type == FIELD_UINT)
                pack_uint (&packer, *(const uint64_t *) value);
            else if (spec->fields[j].type == FIELD_CHOICE)
                pack_uint (&packer, *(const unsigned *) value);
            else if (spec->fields[j].type == FIELD_TEXT)
                pack_text (&packer, *(const struct text *) value);
            else
                pack_raw (&packer, *(const struct raw *) value);
        }
        assert_int_equal (decode_packed (&packer), DECODE_FIELD);
    }
}

static void test_a_field_beyond_its_limit_is_refused (void **state)
{
    (void) state;
    for_every_message (beyond_is_refused);
}

/*  ---- other versions of the table ---------------------------------------- */

static void newer_peer (const struct message_spec *spec)
{
    struct packer packer;
    struct message small = small_message (spec), message;
    struct decoder decoder;
    pack_head (&packer, spec, (uint32_t) spec->count + 2);
    for (size_t i = 0; i < spec->count; i++)
        pack_small (&packer, &spec->fields[i], i);
    pack_map (&packer, 1);
    pack_literal (&packer, "new");
    pack_array (&packer, 0);
    pack_bool (&packer, true);
    assert_int_equal (decode_packed (&packer), DECODE_OK);
    assert_int_equal (decode_begin (&decoder, packer.data, packer.size, true), DECODE_OK);
    assert_int_equal (decode_next (&decoder, &message), DECODE_OK);
    assert_same (&small, &message);
}

static void test_fields_of_a_newer_peer_are_skipped (void **state)
{
    (void) state;
    for_every_message (newer_peer);
}

/*  True when zero is a value of every field from this one on. */
static bool may_miss (const struct message_spec *spec, size_t from)
{
    for (size_t i = from; i < spec->count; i++)
        if (spec->fields[i].type == FIELD_CHOICE && !enum_value (spec->fields[i].choice, 0))
            return false;
    return true;
}

static void older_peer (const struct message_spec *spec)
{
    for (size_t sent = 0; sent < spec->count; sent++) {
        struct packer packer;
        struct message expected = small_message (spec), message;
        struct decoder decoder;
        pack_head (&packer, spec, (uint32_t) sent);
        for (size_t i = 0; i < sent; i++)
            pack_small (&packer, &spec->fields[i], i);
        if (!may_miss (spec, sent)) {
            assert_int_equal (decode_packed (&packer), DECODE_FIELD);
            continue;
        }
        struct message empty = { .id = spec->id };
        assert_int_equal (decode_packed (&packer), DECODE_OK);
        assert_int_equal (decode_begin (&decoder, packer.data, packer.size, true), DECODE_OK);
        assert_int_equal (decode_next (&decoder, &message), DECODE_OK);
        for (size_t i = 0; i < spec->count; i++)
            assert_same_field (i < sent ? &expected : &empty, &message, &spec->fields[i]);
    }
}

static void test_fields_that_an_older_peer_lacks_are_empty (void **state)
{
    (void) state;
    for_every_message (older_peer);
}

static void test_a_batch_head_may_grow_too (void **state)
{
    (void) state;
    unsigned good;
    assert_int_equal (decode_exact ("\x95\x01\x04\x00\x91\x93\x05\x07\x01\xa3new", 13, &good), DECODE_OK);
    assert_int_equal (good, 1);
    assert_int_equal (decode_exact ("\x93\x01\x04\x00", 4, &good), DECODE_OK);
    assert_int_equal (good, 0);
}

static void test_another_version_is_told_from_rubbish (void **state)
{
    (void) state;
    unsigned good;
    assert_int_equal (decode_exact ("\x93\x02\x01\x00", 4, &good), DECODE_VERSION);
    assert_int_equal (decode_exact ("\x91\x02", 2, &good), DECODE_VERSION);
    assert_int_equal (decode_exact ("\x93\x00\x01\x00", 4, &good), DECODE_VERSION);
    assert_int_equal (decode_exact ("\x93\xa1"
                                    "1\x01\x00",
                                    5, &good),
                      DECODE_RUBBISH);
}

static void test_unknown_ids_and_local_ones_are_not_let_in (void **state)
{
    (void) state;
    struct decoder decoder;
    struct message message;
    for (unsigned id = 0; id < 128; id++) {
        uint8_t bytes[] = { 0x94, PROTOCOL_VERSION, (uint8_t) id, 0, 0x90 };
        const struct message_spec *spec = message_spec (id);
        enum decode_result result = decode_begin (&decoder, bytes, sizeof (bytes), false);
        if (!spec || id >= MESSAGE_LOCAL_MIN) {
            assert_int_equal (result, DECODE_UNKNOWN);
            assert_int_equal (decode_next (&decoder, &message), DECODE_END);
        } else
            assert_int_equal (result, DECODE_OK);
        result = decode_begin (&decoder, bytes, sizeof (bytes), true);
        assert_int_equal (result, spec ? DECODE_OK : DECODE_UNKNOWN);
    }
    unsigned good;
    assert_int_equal (decode_exact ("\x93\x01\xcd\x01\x02\x00", 6, &good), DECODE_UNKNOWN);
    assert_int_equal (decode_exact ("\x93\x01\xcf\x00\x00\x00\x01\x00\x00\x00\x01\x00", 12, &good),
                      DECODE_UNKNOWN);
}

/*  ---- rubbish ------------------------------------------------------------ */

static void every_truncation (const struct message_spec *spec)
{
    struct message message = small_message (spec);
    struct raw bytes = encoded (&message);
    unsigned good;
    for (size_t size = 0; size < bytes.size; size++)
        assert_int_equal (decode_exact (bytes.data, size, &good), DECODE_RUBBISH);
    assert_int_equal (decode_exact (bytes.data, bytes.size, &good), DECODE_OK);
    assert_int_equal (good, 1);
}

static void test_every_truncation_of_every_message_is_refused (void **state)
{
    (void) state;
    for_every_message (every_truncation);
}

/*  Values that are let in of a frame that is not looked through first. */
static unsigned let_in_own (const void *bytes, size_t size)
{
    uint8_t *copy = malloc (size + !size);
    assert_non_null (copy);
    if (size > 0)
        memcpy (copy, bytes, size);
    struct decoder decoder;
    struct message message;
    unsigned good = 0;
    enum decode_result result = decode_own (&decoder, copy, size);
    while (result == DECODE_OK || result == DECODE_FIELD) {
        result = decode_next (&decoder, &message);
        good += result == DECODE_OK;
    }
    free (copy);
    return good;
}

static void own_frame (const struct message_spec *spec)
{
    struct message message = small_message (spec);
    struct raw bytes = encoded (&message);
    bool local = (unsigned) spec->id >= (unsigned) MESSAGE_LOCAL_MIN;
    assert_int_equal (let_in_own (bytes.data, bytes.size), local ? 0 : 1);
    for (size_t size = 0; size < bytes.size; size++)
        assert_true (let_in_own (bytes.data, size) <= 1);
}

static void test_an_own_frame_is_read_and_no_byte_behind_its_end (void **state)
{
    (void) state;
    for_every_message (own_frame);
    /*  Three items, of which the second is none; the same with the third cut off. */
    static const uint8_t items[] = { 0x94, 1, 4, 0, 0x93, 0x93, 0, 1, 0, 0xa1, 'x', 0x93, 0, 2, 0 };
    assert_int_equal (let_in_own (items, sizeof (items)), 2);
    assert_int_equal (let_in_own (items, sizeof (items) - 2), 1);
}

static void test_bytes_left_over_are_refused (void **state)
{
    (void) state;
    unsigned good;
    assert_int_equal (decode_exact ("\x93\x01\x01\x00\x00", 5, &good), DECODE_RUBBISH);
    assert_int_equal (decode_exact ("\x93\x01\x01\x00\xc1", 5, &good), DECODE_RUBBISH);
}

static void every_corruption (const struct message_spec *spec)
{
    struct message message = small_message (spec);
    uint8_t bytes[256];
    struct raw whole = encoded (&message);
    assert_true (whole.size <= sizeof (bytes));
    memcpy (bytes, whole.data, whole.size);
    unsigned refused = 0, good;
    for (size_t at = 0; at < whole.size; at++) {
        uint8_t original = bytes[at];
        for (unsigned change = 1; change < 256; change++) {
            bytes[at] = original ^ (uint8_t) change;
            refused += decode_exact (bytes, whole.size, &good) != DECODE_OK;
        }
        bytes[at] = original;
    }
    assert_true (refused >= 3 * 200);
}

static void test_every_corruption_of_every_byte_is_survived (void **state)
{
    (void) state;
    for_every_message (every_corruption);
}

static void test_random_damage_is_survived (void **state)
{
    (void) state;
    seed ();
    unsigned good, refused = 0;
    for (int round = 0; round < 3000; round++) {
        const struct message_spec *spec = message_spec (draw () % 2 ? MESSAGE_EVENT : MESSAGE_META);
        struct message message = draw_message (spec);
        struct raw bytes = encoded (&message);
        for (uint64_t i = 1 + draw () % 4; i > 0; i--)
            packed[draw () % bytes.size] = (uint8_t) draw ();
        refused += decode_exact (bytes.data, bytes.size, &good) != DECODE_OK;
    }
    assert_true (refused > 0);
}

static void test_lengths_that_lie_are_refused (void **state)
{
    (void) state;
    static const uint8_t heads[] = { 0xdc, 0xdd, 0xde, 0xdf, 0xda, 0xdb, 0xc5, 0xc6, 0xc8, 0xc9 };
    unsigned good;
    for (size_t i = 0; i < sizeof (heads); i++) {
        uint8_t alone[] = { heads[i], 0xff, 0xff, 0xff, 0xff };
        uint8_t inside[] = { 0x93, 1, 3, 0, 0x91, 0x97, 0, 1, 1, heads[i], 0xff, 0xff, 0xff, 0xff, 0 };
        assert_int_equal (decode_exact (alone, sizeof (alone), &good), DECODE_RUBBISH);
        inside[0] = 0x94;
        assert_int_equal (decode_exact (inside, sizeof (inside), &good), DECODE_RUBBISH);
    }
    assert_int_equal (decode_exact ("\xdd\x00\x00\x00\x03\x01\x01\x00", 8, &good), DECODE_OK);
}

static void test_nesting_without_end_is_refused (void **state)
{
    (void) state;
    enum { LEVELS = 100000 };
    unsigned good;
    memset (store, 0x91, LEVELS);
    store[LEVELS] = 0xc0;
    assert_int_equal (decode_exact (store, LEVELS + 1, &good), DECODE_RUBBISH);
    memset (store, 0x81, LEVELS);
    assert_int_equal (decode_exact (store, LEVELS + 1, &good), DECODE_RUBBISH);
}

static void test_frames_and_batches_that_are_too_large_are_refused (void **state)
{
    (void) state;
    static uint8_t large[MESSAGE_SIZE_MAX + 1];
    unsigned good;
    assert_int_equal (decode_exact (large, sizeof (large), &good), DECODE_SIZE);

    struct packer packer;
    packer_init (&packer, packed, sizeof (packed));
    pack_array (&packer, 4);
    pack_uint (&packer, PROTOCOL_VERSION);
    pack_uint (&packer, MESSAGE_COUNT);
    pack_uint (&packer, 0);
    pack_array (&packer, BATCH_ITEMS_MAX + 1);
    for (int i = 0; i <= BATCH_ITEMS_MAX; i++)
        pack_array (&packer, 0);
    assert_int_equal (decode_packed (&packer), DECODE_SIZE);
    packer_init (&packer, again, sizeof (again));
    assert_int_equal (encode_batch (&packer, MESSAGE_COUNT, 0, NO_RAW, BATCH_ITEMS_MAX + 1), ENCODE_INVALID);
}

static void test_frames_that_are_no_message_are_refused (void **state)
{
    (void) state;
    static const struct {
        const char *bytes;
        size_t size;
    } frames[] = {
        { "", 0 },                        /* nothing */
        { "\xc0", 1 },                    /* nil */
        { "\xc1", 1 },                    /* the byte that msgpack never uses */
        { "\x90", 1 },                    /* an empty array */
        { "\x91\x01", 2 },                /* a version and no more */
        { "\x92\x01\x01", 3 },            /* no trace */
        { "\x93\x01\x01\xff", 4 },        /* a trace below zero */
        { "\x93\x01\x01\xa1t", 5 },       /* a trace that is text */
        { "\x93\x01\xa4OPEN\x00", 8 },    /* an id that is text */
        { "\x81\x01\x01", 3 },            /* a map */
        { "\x94\x01\x04\x00\x80", 5 },    /* a batch whose items are a map */
        { "\x94\x01\x04\x00\x01", 5 },    /* a batch whose items are a number */
        { "GET / HTTP/1.1\r\n\r\n", 18 }, /* another protocol */
    };
    unsigned good;
    for (size_t i = 0; i < sizeof (frames) / sizeof (*frames); i++)
        assert_int_equal (decode_exact (frames[i].bytes, frames[i].size, &good), DECODE_RUBBISH);
}

/*  ---- bad fields --------------------------------------------------------- */

/*  Objects of every type; the index says which one. */
static void pack_type (struct packer *packer, unsigned type)
{
    static const char *const objects[] = { "\xc0",  "\xc3",      "\x07", "\xff", "\xca\x3f\x80\x00\x00",
                                           "\xa1x", "\xc4\x01x", "\x90", "\x80", "\xd4\x05x" };
    static const uint32_t sizes[] = { 1, 1, 1, 1, 5, 2, 3, 1, 1, 3 };
    pack_raw (packer, (struct raw){ (const uint8_t *) objects[type], sizes[type] });
}

enum { TYPES = 10, TYPE_UINT = 2, TYPE_INT = 3, TYPE_TEXT = 5 };

static bool type_fits (const struct field_spec *field, unsigned type)
{
    switch (field->type) {
    case FIELD_UINT:
        return type == TYPE_UINT && field->max >= 7;
    case FIELD_INT:
        return type == TYPE_UINT || type == TYPE_INT;
    case FIELD_CHOICE:
        return type == TYPE_UINT && enum_value (field->choice, 7);
    case FIELD_TEXT:
        return type == TYPE_TEXT;
    case FIELD_RAW:
        return true;
    }
    return false;
}

static void wrong_types (const struct message_spec *spec)
{
    for (size_t i = 0; i < spec->count; i++)
        for (unsigned type = 0; type < TYPES; type++) {
            struct packer packer;
            pack_head (&packer, spec, (uint32_t) spec->count);
            for (size_t j = 0; j < spec->count; j++)
                if (j == i)
                    pack_type (&packer, type);
                else
                    pack_small (&packer, &spec->fields[j], j);
            enum decode_result expected = type_fits (&spec->fields[i], type) ? DECODE_OK : DECODE_FIELD;
            assert_int_equal (decode_packed (&packer), expected);
        }
}

static void test_a_field_of_the_wrong_type_is_refused (void **state)
{
    (void) state;
    for_every_message (wrong_types);
}

static void test_a_bad_item_is_dropped_and_the_next_goes_on (void **state)
{
    (void) state;
    static const struct {
        const char *bytes;
        uint32_t size;
        enum decode_result result;
    } items[] = {
        { "\x93\x01\x0a\x00", 4, DECODE_OK },
        { "\x93\x01\x0b\x09", 4, DECODE_FIELD },  /* an outcome that is none */
        { "\x93\x01\xa1x\x00", 5, DECODE_FIELD }, /* a position that is text */
        { "\x93\xc0\x0b\x00", 4, DECODE_FIELD },  /* a trace that is nil */
        { "\xa3"
          "abc",
          4, DECODE_FIELD },                                     /* an item that is text */
        { "\x93\x01\x81\x01\x92\x01\x02\x00", 8, DECODE_FIELD }, /* a map with an array in it */
        { "\x90", 1, DECODE_OK },                                /* everything missing */
        { "\x93\x02\x0c\x01", 4, DECODE_OK },
    };
    enum { COUNT = sizeof (items) / sizeof (*items) };
    struct packer list, batch;
    packer_init (&list, again, sizeof (again));
    for (unsigned i = 0; i < COUNT; i++)
        pack_raw (&list, (struct raw){ (const uint8_t *) items[i].bytes, items[i].size });
    packer_init (&batch, packed, sizeof (packed));
    assert_int_equal (encode_batch (&batch, MESSAGE_SETTLED, 1, packer_raw (&list), COUNT), ENCODE_OK);

    struct decoder decoder;
    struct message message;
    assert_int_equal (decode_begin (&decoder, batch.data, batch.size, false), DECODE_OK);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal (decode_next (&decoder, &message), items[i].result);
        /*  An empty item has no trace, and does not take that of its batch. */
        if (items[i].size == 1)
            assert_int_equal (message.trace, 0);
    }
    assert_int_equal (message.settled.position, 12);
    assert_int_equal (message.settled.outcome, OUTCOME_SUCCESS);
    assert_int_equal (message.trace, 2);
    assert_int_equal (decode_next (&decoder, &message), DECODE_END);
}

static void test_nil_data_reads_as_none (void **state)
{
    (void) state;
    struct decoder decoder;
    struct message message;
    static const char bytes[] = "\x94\x01\x03\x00\x91\x96\x00\x07\x01\xa1g\xa1t\xc0";
    assert_int_equal (decode_begin (&decoder, bytes, sizeof (bytes) - 1, false), DECODE_OK);
    assert_int_equal (decode_next (&decoder, &message), DECODE_OK);
    assert_int_equal (message.event.data.size, 0);
    assert_null (message.event.data.data);
}

static void test_every_result_has_a_name (void **state)
{
    (void) state;
    for (int result = DECODE_OK; result <= DECODE_FIELD; result++)
        assert_string_not_equal (decode_result_name ((enum decode_result) result), "?");
    assert_string_equal (decode_result_name ((enum decode_result) 99), "?");
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_every_message_comes_back),
        cmocka_unit_test (test_the_bytes_are_those_of_the_document),
        cmocka_unit_test (test_a_batch_keeps_order_and_traces),
        cmocka_unit_test (test_a_batch_may_be_empty),
        cmocka_unit_test (test_a_full_packer_is_left_as_it_was),
        cmocka_unit_test (test_a_batch_that_does_not_fit_leaves_the_packer_as_it_was),
        cmocka_unit_test (test_an_overflow_stays),
        cmocka_unit_test (test_a_field_is_sent_up_to_its_limit_and_not_beyond),
        cmocka_unit_test (test_a_message_beyond_the_largest_frame_is_not_made),
        cmocka_unit_test (test_a_field_beyond_its_limit_is_refused),
        cmocka_unit_test (test_fields_of_a_newer_peer_are_skipped),
        cmocka_unit_test (test_fields_that_an_older_peer_lacks_are_empty),
        cmocka_unit_test (test_a_batch_head_may_grow_too),
        cmocka_unit_test (test_another_version_is_told_from_rubbish),
        cmocka_unit_test (test_unknown_ids_and_local_ones_are_not_let_in),
        cmocka_unit_test (test_every_truncation_of_every_message_is_refused),
        cmocka_unit_test (test_an_own_frame_is_read_and_no_byte_behind_its_end),
        cmocka_unit_test (test_bytes_left_over_are_refused),
        cmocka_unit_test (test_every_corruption_of_every_byte_is_survived),
        cmocka_unit_test (test_random_damage_is_survived),
        cmocka_unit_test (test_lengths_that_lie_are_refused),
        cmocka_unit_test (test_nesting_without_end_is_refused),
        cmocka_unit_test (test_frames_and_batches_that_are_too_large_are_refused),
        cmocka_unit_test (test_frames_that_are_no_message_are_refused),
        cmocka_unit_test (test_a_field_of_the_wrong_type_is_refused),
        cmocka_unit_test (test_a_bad_item_is_dropped_and_the_next_goes_on),
        cmocka_unit_test (test_nil_data_reads_as_none),
        cmocka_unit_test (test_every_result_has_a_name),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
