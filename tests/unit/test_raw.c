/*  test_raw.c - reading msgpack that nobody vouches for.

    Bytes lie at the end of memory of exactly their size, so that a sanitizer
    sees a read beyond them.
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/codec.h"

/*  ---- helpers ------------------------------------------------------------ */

/*  The raw object of a string literal, which may hold NULs. */
#define RAW_LITERAL(literal) ((struct raw){ (const uint8_t *) (literal), (uint32_t) sizeof (literal) - 1 })

/*  A copy in memory of exactly its size, to be freed. */
static struct raw exact (struct raw raw)
{
    uint8_t *copy = malloc (raw.size + !raw.size);
    assert_non_null (copy);
    if (raw.size > 0)
        memcpy (copy, raw.data, raw.size);
    return (struct raw){ copy, raw.size };
}

static void release (struct raw raw)
{
    free ((void *) (uintptr_t) raw.data);
}

static bool valid (struct raw raw)
{
    struct raw copy = exact (raw);
    bool result = raw_valid (copy);
    release (copy);
    return result;
}

static void assert_text (struct text text, const char *expected)
{
    assert_int_equal (text.size, strlen (expected));
    assert_memory_equal (text.data, expected, text.size);
}

/*  {"userId": "alice", "player": {"id": 7, "": {"x": nil}}, "a.b": 1, 5: 6,
    "twice": 1, "list": [1], "twice": 2} */
static struct raw sample (void)
{
    static uint8_t memory[256];
    struct packer packer;
    packer_init (&packer, memory, sizeof (memory));
    pack_map (&packer, 7);
    pack_literal (&packer, "userId");
    pack_literal (&packer, "alice");
    pack_literal (&packer, "player");
    pack_map (&packer, 2);
    pack_literal (&packer, "id");
    pack_uint (&packer, 7);
    pack_literal (&packer, "");
    pack_map (&packer, 1);
    pack_literal (&packer, "x");
    pack_nil (&packer);
    pack_literal (&packer, "a.b");
    pack_uint (&packer, 1);
    pack_uint (&packer, 5);
    pack_uint (&packer, 6);
    pack_literal (&packer, "twice");
    pack_uint (&packer, 1);
    pack_literal (&packer, "list");
    pack_array (&packer, 1);
    pack_uint (&packer, 1);
    pack_literal (&packer, "twice");
    pack_uint (&packer, 2);
    return packer_raw (&packer);
}

/*  ---- the cursor --------------------------------------------------------- */

/*  One object of every form that msgpack has. */
static const struct {
    const char *bytes;
    uint32_t size;
    enum value_type type;
    uint64_t number; /* UINT, INT as bits, BOOL; else size or count */
} forms[] = {
    { "\xc0", 1, VALUE_NIL, 0 },
    { "\xc2", 1, VALUE_BOOL, 0 },
    { "\xc3", 1, VALUE_BOOL, 1 },
    { "\x00", 1, VALUE_UINT, 0 },
    { "\x7f", 1, VALUE_UINT, 127 },
    { "\xcc\xff", 2, VALUE_UINT, 255 },
    { "\xcd\x01\x02", 3, VALUE_UINT, 0x0102 },
    { "\xce\xff\x02\x03\x04", 5, VALUE_UINT, 0xff020304 },
    { "\xcf\xff\x02\x03\x04\x05\x06\x07\x08", 9, VALUE_UINT, UINT64_C (0xff02030405060708) },
    { "\xe0", 1, VALUE_INT, (uint64_t) -32 },
    { "\xff", 1, VALUE_INT, (uint64_t) -1 },
    { "\xd0\x80", 2, VALUE_INT, (uint64_t) -128 },
    { "\xd0\x7f", 2, VALUE_UINT, 127 },
    { "\xd1\x80\x00", 3, VALUE_INT, (uint64_t) -32768 },
    { "\xd1\xff\xfe", 3, VALUE_INT, (uint64_t) -2 },
    { "\xd2\x80\x00\x00\x00", 5, VALUE_INT, (uint64_t) INT32_MIN },
    { "\xd2\x00\x00\x00\x05", 5, VALUE_UINT, 5 },
    { "\xd3\x80\x00\x00\x00\x00\x00\x00\x00", 9, VALUE_INT, UINT64_C (1) << 63 },
    { "\xd3\xff\xff\xff\xff\xff\xff\xff\xff", 9, VALUE_INT, (uint64_t) -1 },
    { "\xd3\x7f\xff\xff\xff\xff\xff\xff\xff", 9, VALUE_UINT, INT64_MAX },
    { "\xa0", 1, VALUE_TEXT, 0 },
    { "\xa2hi", 3, VALUE_TEXT, 2 },
    { "\xd9\x02hi", 4, VALUE_TEXT, 2 },
    { "\xda\x00\x02hi", 5, VALUE_TEXT, 2 },
    { "\xdb\x00\x00\x00\x02hi", 7, VALUE_TEXT, 2 },
    { "\xc4\x01x", 3, VALUE_BINARY, 1 },
    { "\xc5\x00\x01x", 4, VALUE_BINARY, 1 },
    { "\xc6\x00\x00\x00\x01x", 6, VALUE_BINARY, 1 },
    { "\x90", 1, VALUE_ARRAY, 0 },
    { "\x92\x01\x02", 3, VALUE_ARRAY, 2 },
    { "\xdc\x00\x01\x01", 4, VALUE_ARRAY, 1 },
    { "\xdd\x00\x00\x00\x01\x01", 6, VALUE_ARRAY, 1 },
    { "\x80", 1, VALUE_MAP, 0 },
    { "\x81\x01\x02", 3, VALUE_MAP, 1 },
    { "\xde\x00\x01\x01\x02", 5, VALUE_MAP, 1 },
    { "\xdf\x00\x00\x00\x01\x01\x02", 7, VALUE_MAP, 1 },
    { "\xc7\x00\x05", 3, VALUE_EXT, 0 },
    { "\xc7\x03\x05xyz", 6, VALUE_EXT, 3 },
    { "\xc8\x00\x03\x05xyz", 7, VALUE_EXT, 3 },
    { "\xc9\x00\x00\x00\x03\x05xyz", 9, VALUE_EXT, 3 },
    { "\xd4\x05x", 3, VALUE_EXT, 1 },
    { "\xd5\x05xy", 4, VALUE_EXT, 2 },
    { "\xd6\x05wxyz", 6, VALUE_EXT, 4 },
    { "\xd7\x05stuvwxyz", 10, VALUE_EXT, 8 },
    { "\xd8\x05klmnopqrstuvwxyz", 18, VALUE_EXT, 16 },
    { "\xca\x3f\x80\x00\x00", 5, VALUE_FLOAT, 0 },
    { "\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", 9, VALUE_FLOAT, 0 },
};

static void check_value (const struct value *value, uint64_t number)
{
    switch (value->type) {
    case VALUE_NIL:
        break;
    case VALUE_BOOL:
        assert_int_equal (value->boolean, number);
        break;
    case VALUE_UINT:
        assert_int_equal (value->uint, number);
        break;
    case VALUE_INT:
        assert_int_equal ((uint64_t) value->integer, number);
        break;
    case VALUE_FLOAT:
        assert_true (value->real >= 1.0 && value->real <= 1.0);
        break;
    case VALUE_EXT:
        assert_int_equal (value->ext, 5);
        assert_int_equal (value->text.size, number);
        break;
    case VALUE_TEXT:
    case VALUE_BINARY:
        assert_int_equal (value->text.size, number);
        break;
    case VALUE_ARRAY:
    case VALUE_MAP:
        assert_int_equal (value->count, number);
        break;
    }
}

static void test_every_form_is_read (void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof (forms) / sizeof (*forms); i++) {
        struct raw raw = exact ((struct raw){ (const uint8_t *) forms[i].bytes, forms[i].size }), skipped;
        struct cursor cursor = cursor_of (raw);
        struct value value;
        assert_true (cursor_next (&cursor, &value));
        assert_int_equal (value.type, forms[i].type);
        check_value (&value, forms[i].number);
        cursor = cursor_of (raw);
        assert_true (cursor_skip (&cursor, &skipped));
        assert_int_equal (skipped.size, raw.size);
        assert_ptr_equal (cursor.at, cursor.end);
        release (raw);
    }
}

static void test_every_form_cut_short_is_refused_and_the_cursor_stays (void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof (forms) / sizeof (*forms); i++)
        for (uint32_t size = 0; size < forms[i].size; size++) {
            struct raw raw = exact ((struct raw){ (const uint8_t *) forms[i].bytes, size });
            struct cursor cursor = cursor_of (raw);
            struct value value;
            assert_false (cursor_skip (&cursor, NULL));
            assert_ptr_equal (cursor.at, raw.data);
            /*  The elements are all that is cut: even so the head is refused,
                since it claims more elements than there are bytes. */
            assert_false (cursor_next (&cursor, &value));
            assert_ptr_equal (cursor.at, raw.data);
            release (raw);
        }
}

static void test_the_cursor_walks_into_containers (void **state)
{
    (void) state;
    struct cursor cursor = cursor_of (RAW_LITERAL ("\x92\x81\xa1k\xc3\x2a"));
    static const enum value_type types[] = { VALUE_ARRAY, VALUE_MAP, VALUE_TEXT, VALUE_BOOL, VALUE_UINT };
    struct value value;
    for (size_t i = 0; i < sizeof (types) / sizeof (*types); i++) {
        assert_true (cursor_next (&cursor, &value));
        assert_int_equal (value.type, types[i]);
    }
    assert_false (cursor_next (&cursor, &value));
}

static void test_negative_ext_types_keep_their_sign (void **state)
{
    (void) state;
    struct value value;
    assert_true (raw_value (RAW_LITERAL ("\xd4\xffx"), &value));
    assert_int_equal (value.ext, -1);
}

static void test_nothing_at_all_is_no_object_but_reads_as_nil (void **state)
{
    (void) state;
    struct value value;
    struct cursor cursor = cursor_of (NO_RAW);
    assert_false (cursor_next (&cursor, &value));
    assert_false (cursor_skip (&cursor, NULL));
    assert_false (raw_valid (NO_RAW));
    assert_true (raw_value (NO_RAW, &value));
    assert_int_equal (value.type, VALUE_NIL);
    assert_false (raw_value (RAW_LITERAL ("\xc1"), &value));
}

/*  ---- validity ----------------------------------------------------------- */

static void test_exactly_one_whole_object_is_valid (void **state)
{
    (void) state;
    assert_true (valid (sample ()));
    for (uint32_t size = 0; size < sample ().size; size++)
        assert_false (valid ((struct raw){ sample ().data, size }));
    assert_false (valid (RAW_LITERAL ("\x01\x01")));
    assert_false (valid (RAW_LITERAL ("\xc1")));
    assert_false (valid (RAW_LITERAL ("\x91\xc1")));
}

static void test_lying_heads_are_refused (void **state)
{
    (void) state;
    static const uint8_t heads[] = { 0xc6, 0xc9, 0xdb, 0xdd, 0xdf };
    for (size_t i = 0; i < sizeof (heads); i++) {
        uint8_t bytes[] = { heads[i], 0xff, 0xff, 0xff, 0xff, 0, 0, 0 };
        struct raw raw = exact ((struct raw){ bytes, sizeof (bytes) });
        struct cursor cursor = cursor_of (raw);
        struct value value;
        assert_false (cursor_next (&cursor, &value));
        assert_false (raw_valid (raw));
        release (raw);
    }
    /*  Three pairs need six bytes, and five are there. */
    assert_false (valid (RAW_LITERAL ("\x83\x01\x01\x01\x01\x01")));
}

static void test_nesting_is_followed_to_its_limit_and_no_further (void **state)
{
    (void) state;
    enum { LEVELS = 100000 };
    static const uint8_t kinds[] = { 0x91, 0x81 };
    uint8_t *bytes = malloc (2 * LEVELS + 1);
    assert_non_null (bytes);
    for (size_t kind = 0; kind < sizeof (kinds); kind++)
        for (uint32_t levels = 0; levels <= LEVELS; levels += levels < 2 * RAW_DEPTH_MAX ? 1 : 49960) {
            struct packer packer;
            packer_init (&packer, bytes, 2 * LEVELS + 1);
            for (uint32_t i = 0; i < levels; i++) {
                pack_raw (&packer, (struct raw){ &kinds[kind], 1 });
                if (kinds[kind] == 0x81)
                    pack_nil (&packer);
            }
            pack_nil (&packer);
            assert_int_equal (raw_valid (packer_raw (&packer)), levels <= RAW_DEPTH_MAX);
        }
    free (bytes);
}

static void test_wide_containers_at_the_depth_limit_are_read (void **state)
{
    (void) state;
    uint8_t bytes[4 * RAW_DEPTH_MAX];
    struct packer packer;
    packer_init (&packer, bytes, sizeof (bytes));
    for (int i = 0; i < RAW_DEPTH_MAX; i++)
        pack_array (&packer, 3);
    for (int i = 0; i < 2 * RAW_DEPTH_MAX + 1; i++)
        pack_uint (&packer, 1);
    assert_true (raw_valid (packer_raw (&packer)));
    packer.size--;
    assert_false (raw_valid (packer_raw (&packer)));
}

/*  ---- looking inside ----------------------------------------------------- */

static void test_paths_lead_through_maps (void **state)
{
    (void) state;
    struct raw found;
    struct text text;
    uint64_t uint;
    assert_true (raw_path (sample (), "userId", &found));
    assert_true (raw_text (found, &text));
    assert_text (text, "alice");
    assert_true (raw_path (sample (), "player.id", &found));
    assert_true (raw_uint (found, &uint));
    assert_int_equal (uint, 7);
    assert_true (raw_path (sample (), "player.", &found));
    assert_true (raw_path (sample (), "player..x", &found));
    assert_int_equal (found.size, 1);
    assert_int_equal (found.data[0], 0xc0);
}

static void test_paths_that_lead_nowhere_find_nothing (void **state)
{
    (void) state;
    static const char *const paths[] = { "",          "user",   "userIdX", "userId.x", "player.id.x",
                                         "a.b",       "5",      "list.0",  "alice",    ".",
                                         "player.ID", "nobody", "a.b.",    ".userId",  "list.x.y.z" };
    struct raw found = RAW_LITERAL ("\x2a");
    for (size_t i = 0; i < sizeof (paths) / sizeof (*paths); i++)
        assert_false (raw_path (sample (), paths[i], &found));
    assert_int_equal (found.data[0], 0x2a);
}

static void test_of_a_key_that_stands_twice_the_last_counts (void **state)
{
    (void) state;
    struct raw found;
    uint64_t uint;
    assert_true (raw_find (sample (), TEXT_LITERAL ("twice"), &found));
    assert_true (raw_uint (found, &uint));
    assert_int_equal (uint, 2);
}

static void test_keys_may_hold_any_bytes (void **state)
{
    (void) state;
    struct raw found;
    struct raw map = RAW_LITERAL ("\x82\xa3"
                                  "a\0b\x01\xa1"
                                  "a\x02");
    assert_true (raw_find (map, TEXT_LITERAL ("a\0b"), &found));
    assert_int_equal (found.data[0], 1);
    assert_true (raw_find (map, TEXT_LITERAL ("a"), &found));
    assert_int_equal (found.data[0], 2);
    assert_false (raw_find (map, NO_TEXT, &found));
}

static void test_what_is_no_map_has_no_keys (void **state)
{
    (void) state;
    struct raw found;
    for (size_t i = 0; i < sizeof (forms) / sizeof (*forms); i++) {
        struct raw raw = exact ((struct raw){ (const uint8_t *) forms[i].bytes, forms[i].size });
        assert_false (raw_find (raw, TEXT_LITERAL ("x"), &found));
        release (raw);
    }
    assert_false (raw_find (NO_RAW, TEXT_LITERAL ("x"), &found));
}

static void test_a_map_that_breaks_after_the_key_finds_nothing (void **state)
{
    (void) state;
    struct raw found;
    for (uint32_t size = 0; size < sample ().size; size++) {
        struct raw raw = exact ((struct raw){ sample ().data, size });
        assert_false (raw_find (raw, TEXT_LITERAL ("userId"), &found));
        assert_false (raw_path (raw, "player.id", &found));
        release (raw);
    }
}

static void test_only_strings_are_text (void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof (forms) / sizeof (*forms); i++) {
        struct text text;
        struct raw raw = { (const uint8_t *) forms[i].bytes, forms[i].size };
        assert_int_equal (raw_text (raw, &text), forms[i].type == VALUE_TEXT);
    }
    struct text text;
    assert_false (raw_text (NO_RAW, &text));
}

/*  ---- numbers ------------------------------------------------------------ */

static bool real_is_uint (double real, uint64_t *uint)
{
    uint8_t memory[16];
    struct packer packer;
    packer_init (&packer, memory, sizeof (memory));
    pack_real (&packer, real);
    return raw_uint (packer_raw (&packer), uint);
}

static void test_floats_count_as_integers_when_they_are (void **state)
{
    (void) state;
    static const double good[] = { 0.0, -0.0, 1.0, 41.0, 4294967296.0, 9007199254740991.0 };
    static const double bad[] = { -1.0,
                                  0.5,
                                  1.5,
                                  -0.5,
                                  9007199254740992.0,
                                  1e300,
                                  -1e300,
                                  __builtin_inf (),
                                  -__builtin_inf (),
                                  __builtin_nan ("") };
    uint64_t uint;
    for (size_t i = 0; i < sizeof (good) / sizeof (*good); i++) {
        assert_true (real_is_uint (good[i], &uint));
        assert_int_equal (uint, (uint64_t) good[i]);
    }
    uint = 42;
    for (size_t i = 0; i < sizeof (bad) / sizeof (*bad); i++)
        assert_false (real_is_uint (bad[i], &uint));
    assert_int_equal (uint, 42);
    assert_true (raw_uint (RAW_LITERAL ("\xca\x3f\x80\x00\x00"), &uint));
    assert_int_equal (uint, 1);
}

static void test_integers_below_zero_and_other_types_are_no_uint (void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof (forms) / sizeof (*forms); i++) {
        uint64_t uint;
        struct raw raw = { (const uint8_t *) forms[i].bytes, forms[i].size };
        bool expected = forms[i].type == VALUE_UINT || forms[i].type == VALUE_FLOAT;
        assert_int_equal (raw_uint (raw, &uint), expected);
    }
    uint64_t uint;
    assert_false (raw_uint (NO_RAW, &uint));
}

/*  ---- what the packer writes --------------------------------------------- */

static void test_what_is_packed_is_read_back (void **state)
{
    (void) state;
    static const int64_t integers[] = { 0,      1,         -1,        127,       128,      -32,   -33,
                                        -128,   -129,      255,       256,       65535,    65536, -32768,
                                        -32769, INT32_MIN, INT32_MAX, INT64_MIN, INT64_MAX };
    uint8_t memory[16];
    for (size_t i = 0; i < sizeof (integers) / sizeof (*integers); i++) {
        struct packer packer;
        struct value value;
        packer_init (&packer, memory, sizeof (memory));
        pack_int (&packer, integers[i]);
        assert_true (raw_valid (packer_raw (&packer)));
        assert_true (raw_value (packer_raw (&packer), &value));
        assert_int_equal (value.type, integers[i] < 0 ? VALUE_INT : VALUE_UINT);
        assert_int_equal (value.integer, integers[i]);
    }
}

static void test_the_place_of_a_secret_is_an_empty_ext (void **state)
{
    (void) state;
    uint8_t memory[16];
    struct packer packer;
    struct value value;
    packer_init (&packer, memory, sizeof (memory));
    pack_secret (&packer);
    assert_true (raw_valid (packer_raw (&packer)));
    assert_true (raw_value (packer_raw (&packer), &value));
    assert_int_equal (value.type, VALUE_EXT);
    assert_int_equal (value.ext, EXT_SECRET);
    assert_int_equal (value.text.size, 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_every_form_is_read),
        cmocka_unit_test (test_every_form_cut_short_is_refused_and_the_cursor_stays),
        cmocka_unit_test (test_the_cursor_walks_into_containers),
        cmocka_unit_test (test_negative_ext_types_keep_their_sign),
        cmocka_unit_test (test_nothing_at_all_is_no_object_but_reads_as_nil),
        cmocka_unit_test (test_exactly_one_whole_object_is_valid),
        cmocka_unit_test (test_lying_heads_are_refused),
        cmocka_unit_test (test_nesting_is_followed_to_its_limit_and_no_further),
        cmocka_unit_test (test_wide_containers_at_the_depth_limit_are_read),
        cmocka_unit_test (test_paths_lead_through_maps),
        cmocka_unit_test (test_paths_that_lead_nowhere_find_nothing),
        cmocka_unit_test (test_of_a_key_that_stands_twice_the_last_counts),
        cmocka_unit_test (test_keys_may_hold_any_bytes),
        cmocka_unit_test (test_what_is_no_map_has_no_keys),
        cmocka_unit_test (test_a_map_that_breaks_after_the_key_finds_nothing),
        cmocka_unit_test (test_only_strings_are_text),
        cmocka_unit_test (test_floats_count_as_integers_when_they_are),
        cmocka_unit_test (test_integers_below_zero_and_other_types_are_no_uint),
        cmocka_unit_test (test_what_is_packed_is_read_back),
        cmocka_unit_test (test_the_place_of_a_secret_is_an_empty_ext),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
