/*  test_text.c - comparison, UTF-8, numbers, hashes and builders. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/text.h"

static void assert_text (struct text text, const char *expected)
{
    assert_int_equal (text.size, strlen (expected));
    if (text.size > 0)
        assert_memory_equal (text.data, expected, text.size);
}

/*  ---- views -------------------------------------------------------------- */

static void test_texts_compare_by_size_and_bytes (void **state)
{
    (void) state;
    assert_true (text_equal (NO_TEXT, text_of ("")));
    assert_true (text_equal (text_of (NULL), NO_TEXT));
    assert_true (text_equal (TEXT_LITERAL ("a\0b"), TEXT_LITERAL ("a\0b")));
    assert_false (text_equal (TEXT_LITERAL ("a\0b"), TEXT_LITERAL ("a\0c")));
    assert_false (text_equal (TEXT_LITERAL ("ab"), TEXT_LITERAL ("abc")));
    assert_false (text_equal (NO_TEXT, TEXT_LITERAL ("a")));
}

static void test_a_byte_is_found_anywhere (void **state)
{
    (void) state;
    assert_true (text_has (TEXT_LITERAL ("a,b"), ','));
    assert_true (text_has (TEXT_LITERAL ("ab,"), ','));
    assert_true (text_has (TEXT_LITERAL ("a\0b"), '\0'));
    assert_false (text_has (TEXT_LITERAL ("ab"), '\0'));
    assert_false (text_has (NO_TEXT, '\0'));
}

/*  ---- UTF-8 -------------------------------------------------------------- */

static void test_good_utf8_is_told_from_bad (void **state)
{
    (void) state;
    static const struct {
        const char *bytes;
        bool good;
    } table[] = {
        { "", true },
        { "plain", true },
        { "\x7f", true },
        { "\xc2\x80", true },         /* U+0080, the first of two bytes */
        { "\xdf\xbf", true },         /* U+07FF */
        { "\xe0\xa0\x80", true },     /* U+0800, the first of three */
        { "\xed\x9f\xbf", true },     /* U+D7FF, before the surrogates */
        { "\xee\x80\x80", true },     /* U+E000, behind them */
        { "\xef\xbf\xbf", true },     /* U+FFFF */
        { "\xf0\x90\x80\x80", true }, /* U+10000, the first of four */
        { "\xf4\x8f\xbf\xbf", true }, /* U+10FFFF, the last */
        { "a\xc3\xa9z\xe2\x82\xac", true },
        { "\x80", false }, /* goes on from nothing */
        { "\xbf", false },
        { "\xc0\x80", false }, /* NUL in two bytes */
        { "\xc1\xbf", false }, /* overlong */
        { "\xe0\x80\x80", false },
        { "\xe0\x9f\xbf", false },
        { "\xf0\x80\x80\x80", false },
        { "\xf0\x8f\xbf\xbf", false },
        { "\xed\xa0\x80", false },     /* the first surrogate */
        { "\xed\xbf\xbf", false },     /* the last */
        { "\xf4\x90\x80\x80", false }, /* U+110000 */
        { "\xf5\x80\x80\x80", false },
        { "\xf8\x88\x80\x80\x80", false }, /* five bytes */
        { "\xfe", false },
        { "\xff", false },
        { "\xc3", false }, /* cut short */
        { "\xe2\x82", false },
        { "\xf0\x9f\x98", false },
        { "\xc3z", false }, /* does not go on */
        { "\xe2\x82z", false },
        { "\xf0\x9f\x98z", false },
        { "a\xe2z", false },
    };
    for (size_t i = 0; i < sizeof (table) / sizeof (*table); i++)
        assert_int_equal (text_is_utf8 (text_of (table[i].bytes)), table[i].good);
    assert_true (text_is_utf8 (TEXT_LITERAL ("a\0b")));
}

/*  Every code point, encoded by its definition. */
static void test_every_code_point_but_the_surrogates_is_good (void **state)
{
    (void) state;
    for (uint32_t point = 0; point < 0x120000; point += point < 0x12000 || point > 0x10fff0 ? 1 : 61) {
        uint8_t bytes[4] = { 0 };
        uint32_t size = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
        static const uint8_t leads[] = { 0, 0x00, 0xc0, 0xe0, 0xf0 };
        for (uint32_t i = size, rest = point; i-- > 1; rest >>= 6)
            bytes[i] = (uint8_t) (0x80 | (rest & 0x3f));
        bytes[0] = (uint8_t) (leads[size] | point >> (6 * (size - 1)));
        bool surrogate = point >= 0xd800 && point < 0xe000;
        struct text text = { (const char *) bytes, size };
        assert_int_equal (text_is_utf8 (text), !surrogate && point <= 0x10ffff);
    }
}

/*  ---- numbers ------------------------------------------------------------ */

static void test_only_canonical_numbers_are_numbers (void **state)
{
    (void) state;
    static const char *const bad[] = { "",
                                       "-",
                                       "+1",
                                       "-1",
                                       "00",
                                       "01",
                                       " 1",
                                       "1 ",
                                       "1.0",
                                       "1e3",
                                       "0x1",
                                       "1a",
                                       "a",
                                       "1\n",
                                       "--1",
                                       "/",
                                       ":",
                                       "10000000000000000000000",
                                       "18446744073709551616",
                                       "18446744073709551620" };
    uint64_t uint = 42;
    for (size_t i = 0; i < sizeof (bad) / sizeof (*bad); i++)
        assert_false (text_to_uint (text_of (bad[i]), UINT64_MAX, &uint));
    assert_false (text_to_uint (TEXT_LITERAL ("1\0"), UINT64_MAX, &uint));
    assert_false (text_to_uint (NO_TEXT, UINT64_MAX, &uint));
    assert_int_equal (uint, 42);
    assert_true (text_to_uint (TEXT_LITERAL ("0"), 0, &uint));
    assert_int_equal (uint, 0);
    assert_true (text_to_uint (TEXT_LITERAL ("18446744073709551615"), UINT64_MAX, &uint));
    assert_true (uint == UINT64_MAX);
}

static void test_numbers_end_at_their_limit (void **state)
{
    (void) state;
    static const uint64_t limits[] = { 0, 1, 5, 9, 10, 99, 100, 65535, 9007199254740991, UINT64_MAX - 1 };
    for (size_t i = 0; i < sizeof (limits) / sizeof (*limits); i++) {
        char digits[32];
        uint64_t uint;
        snprintf (digits, sizeof (digits), "%llu", (unsigned long long) limits[i]);
        assert_true (text_to_uint (text_of (digits), limits[i], &uint));
        assert_true (uint == limits[i]);
        snprintf (digits, sizeof (digits), "%llu", (unsigned long long) limits[i] + 1);
        assert_false (text_to_uint (text_of (digits), limits[i], &uint));
    }
}

static void test_only_canonical_integers_are_integers (void **state)
{
    (void) state;
    static const char *const bad[] = { "",
                                       "-",
                                       "-0",
                                       "+0",
                                       "+1",
                                       "--1",
                                       "-01",
                                       "010",
                                       " 1",
                                       "1 ",
                                       "10.0",
                                       "-a",
                                       "9223372036854775808",
                                       "-9223372036854775809" };
    static const struct {
        const char *text;
        int64_t integer;
    } good[] = { { "0", 0 },
                 { "1", 1 },
                 { "-1", -1 },
                 { "-10", -10 },
                 { "9223372036854775807", INT64_MAX },
                 { "-9223372036854775807", -INT64_MAX },
                 { "-9223372036854775808", INT64_MIN } };
    int64_t integer = 42;
    for (size_t i = 0; i < sizeof (bad) / sizeof (*bad); i++)
        assert_false (text_to_int (text_of (bad[i]), &integer));
    assert_int_equal (integer, 42);
    for (size_t i = 0; i < sizeof (good) / sizeof (*good); i++) {
        assert_true (text_to_int (text_of (good[i].text), &integer));
        assert_true (integer == good[i].integer);
    }
}

/*  ---- hash --------------------------------------------------------------- */

static void test_the_hash_depends_on_every_byte_the_size_and_the_seed (void **state)
{
    (void) state;
    static const char zeros[64];
    for (uint32_t size = 0; size < 64; size++) {
        struct text text = { zeros, size };
        assert_true (text_hash (text, 1) == text_hash (text, 1));
        assert_true (text_hash (text, 1) != text_hash (text, 2));
        assert_true (text_hash (text, 1) != text_hash ((struct text){ zeros, size + 1 }, 1));
        for (uint32_t at = 0; at < size; at++) {
            char other[64] = { 0 };
            other[at] = 1;
            assert_true (text_hash (text, 1) != text_hash ((struct text){ other, size }, 1));
        }
    }
    assert_true (text_hash (NO_TEXT, 7) == text_hash (TEXT_LITERAL (""), 7));
}

static void test_ids_in_a_row_spread_over_a_table (void **state)
{
    (void) state;
    enum { IDS = 4096, SLOTS = 1024 };
    static unsigned hits[SLOTS];
    unsigned most = 0;
    for (unsigned i = 0; i < IDS; i++) {
        char id[16];
        int size = snprintf (id, sizeof (id), "user%u", i);
        unsigned slot = (unsigned) (text_hash ((struct text){ id, (uint32_t) size }, 99) % SLOTS);
        if (++hits[slot] > most)
            most = hits[slot];
    }
    /*  4 a slot on average; 20 is beyond what chance gives in a lifetime. */
    assert_true (most < 20);
}

/*  ---- builder ------------------------------------------------------------ */

static void test_a_builder_takes_pieces_whole_or_not_at_all (void **state)
{
    (void) state;
    char memory[8];
    struct builder builder;
    builder_init (&builder, memory, sizeof (memory));
    assert_string_equal (memory, "");
    builder_literal (&builder, "abc");
    builder_add (&builder, TEXT_LITERAL ("defg"));
    assert_string_equal (memory, "abcdefg");
    assert_false (builder.overflow);
    builder_add (&builder, NO_TEXT);
    assert_false (builder.overflow);
    builder_literal (&builder, "h");
    assert_true (builder.overflow);
    assert_text (builder_text (&builder), "abcdefg");

    builder_init (&builder, memory, sizeof (memory));
    builder_literal (&builder, "abc");
    builder_literal (&builder, "too long");
    builder_literal (&builder, "d");
    assert_true (builder.overflow);
    assert_string_equal (memory, "abc");
}

static void test_a_builder_without_memory_holds_nothing (void **state)
{
    (void) state;
    struct builder builder;
    builder_init (&builder, NULL, 0);
    builder_add (&builder, NO_TEXT);
    assert_false (builder.overflow);
    builder_uint (&builder, 1);
    builder_int (&builder, -1);
    builder_percent (&builder, TEXT_LITERAL ("a"));
    builder_printable (&builder, TEXT_LITERAL ("a"), 10);
    assert_true (builder.overflow);
    assert_int_equal (builder_text (&builder).size, 0);

    char one[1] = { 'x' };
    builder_init (&builder, one, 1);
    builder_literal (&builder, "a");
    assert_true (builder.overflow);
    assert_string_equal (one, "");
}

static void test_numbers_are_built_as_they_are_read (void **state)
{
    (void) state;
    static const int64_t integers[] = { 0, 9, 10, -1, -10, 1491000000123, INT64_MAX, INT64_MIN };
    for (size_t i = 0; i < sizeof (integers) / sizeof (*integers); i++) {
        char memory[32];
        struct builder builder;
        int64_t integer;
        builder_init (&builder, memory, sizeof (memory));
        builder_int (&builder, integers[i]);
        assert_true (text_to_int (builder_text (&builder), &integer));
        assert_true (integer == integers[i]);
    }
    char memory[32];
    struct builder builder;
    builder_init (&builder, memory, 21);
    builder_uint (&builder, UINT64_MAX);
    assert_string_equal (memory, "18446744073709551615");
    builder_init (&builder, memory, 20);
    builder_uint (&builder, UINT64_MAX);
    assert_true (builder.overflow);
    builder_init (&builder, memory, 3);
    builder_int (&builder, -10);
    assert_true (builder.overflow);
    assert_string_equal (memory, "");
}

static void test_all_256_bytes_are_percent_encoded_as_javascript_does (void **state)
{
    (void) state;
    static const char left[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()";
    for (unsigned byte = 0; byte < 256; byte++) {
        char memory[8], expected[8] = { (char) byte };
        struct builder builder;
        builder_init (&builder, memory, sizeof (memory));
        builder_percent (&builder, (struct text){ expected, 1 });
        if (byte == 0 || !strchr (left, (int) byte))
            snprintf (expected, sizeof (expected), "%%%02X", byte);
        assert_string_equal (memory, expected);
    }
    char memory[32];
    struct builder builder;
    builder_init (&builder, memory, sizeof (memory));
    builder_percent (&builder, TEXT_LITERAL ("a/b \xc3\xa9,:"));
    assert_string_equal (memory, "a%2Fb%20%C3%A9%2C%3A");
}

static void test_an_encoded_text_is_never_cut_within (void **state)
{
    (void) state;
    for (size_t capacity = 0; capacity < 8; capacity++) {
        char memory[8];
        struct builder builder;
        builder_init (&builder, memory, capacity);
        builder_literal (&builder, "p");
        builder_percent (&builder, TEXT_LITERAL ("a b"));
        assert_int_equal (builder.overflow, capacity < 7);
        assert_text (builder_text (&builder), capacity < 2 ? "" : capacity < 7 ? "p" : "pa%20b");
    }
}

static const char *printable (const char *bytes, size_t size, size_t max)
{
    static char memory[64];
    struct builder builder;
    builder_init (&builder, memory, sizeof (memory));
    builder_literal (&builder, "<");
    builder_printable (&builder, (struct text){ bytes, (uint32_t) size }, max);
    builder_literal (&builder, ">");
    assert_false (builder.overflow);
    return memory;
}

static void test_what_could_spoil_a_log_is_escaped (void **state)
{
    (void) state;
    assert_string_equal (printable ("a\nb\0c\x1b[2J", 9, 60), "<a\\x0ab\\x00c\\x1b[2J>");
    assert_string_equal (printable ("\x7f", 1, 60), "<\\x7f>");
    assert_string_equal (printable ("\xc2\x9b"
                                    "1m",
                                    4, 60),
                         "<\\xc2\\x9b1m>");
    assert_string_equal (printable ("\xc2\xa0\xc3\xa9\xf0\x9f\x98\x80", 8, 60),
                         "<\xc2\xa0\xc3\xa9\xf0\x9f\x98\x80>");
    assert_string_equal (printable ("\xff\xc3", 2, 60), "<\\xff\\xc3>");
    assert_string_equal (printable ("", 0, 0), "<>");
}

static void test_long_texts_are_cut_between_characters (void **state)
{
    (void) state;
    assert_string_equal (printable ("abcdef", 6, 6), "<abcdef>");
    assert_string_equal (printable ("abcdefg", 7, 6), "<abc\xe2\x80\xa6>");
    assert_string_equal (printable ("a\xc3\xa9\xc3\xa9\xc3\xa9", 7, 6), "<a\xc3\xa9\xe2\x80\xa6>");
    assert_string_equal (printable ("a\n\n\n", 4, 10), "<a\\x0a\xe2\x80\xa6>");
    assert_string_equal (printable ("abcdefg", 7, 3), "<\xe2\x80\xa6>");
    assert_string_equal (printable ("abcdefg", 7, 2), "<>");
}

static void test_a_printable_text_that_does_not_fit_overflows (void **state)
{
    (void) state;
    char memory[6];
    struct builder builder;
    builder_init (&builder, memory, sizeof (memory));
    builder_literal (&builder, "p");
    builder_printable (&builder, TEXT_LITERAL ("abcdef"), 100);
    assert_true (builder.overflow);
    assert_string_equal (memory, "p");
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_texts_compare_by_size_and_bytes),
        cmocka_unit_test (test_a_byte_is_found_anywhere),
        cmocka_unit_test (test_good_utf8_is_told_from_bad),
        cmocka_unit_test (test_every_code_point_but_the_surrogates_is_good),
        cmocka_unit_test (test_only_canonical_numbers_are_numbers),
        cmocka_unit_test (test_numbers_end_at_their_limit),
        cmocka_unit_test (test_only_canonical_integers_are_integers),
        cmocka_unit_test (test_the_hash_depends_on_every_byte_the_size_and_the_seed),
        cmocka_unit_test (test_ids_in_a_row_spread_over_a_table),
        cmocka_unit_test (test_a_builder_takes_pieces_whole_or_not_at_all),
        cmocka_unit_test (test_a_builder_without_memory_holds_nothing),
        cmocka_unit_test (test_numbers_are_built_as_they_are_read),
        cmocka_unit_test (test_all_256_bytes_are_percent_encoded_as_javascript_does),
        cmocka_unit_test (test_an_encoded_text_is_never_cut_within),
        cmocka_unit_test (test_what_could_spoil_a_log_is_escaped),
        cmocka_unit_test (test_long_texts_are_cut_between_characters),
        cmocka_unit_test (test_a_printable_text_that_does_not_fit_overflows),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
