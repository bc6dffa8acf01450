/*  test_json.c - JSON at the edge, and what services may send instead of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "actors/base/json.h"
#include "proto/text.h"

/*  ---- helpers ------------------------------------------------------------ */

enum { SIZE_MAX_HERE = 8 * 1024 * 1024, DUMP_MAX = 1 << 16 };

static char dump_memory[DUMP_MAX];

/*  One value as text: bytes outside printable ASCII as <hex>, ext as !byte. */
static void dump_value (struct builder *out, struct cursor *cursor)
{
    struct value value;
    char number[64];
    assert_true (cursor_next (cursor, &value));
    uint32_t values = value.type == VALUE_MAP ? 2 * value.count : value.count;
    switch (value.type) {
    case VALUE_NIL:
        builder_literal (out, "null");
        return;
    case VALUE_BOOL:
        builder_literal (out, value.boolean ? "true" : "false");
        return;
    case VALUE_UINT:
        builder_uint (out, value.uint);
        return;
    case VALUE_INT:
        builder_int (out, value.integer);
        return;
    case VALUE_FLOAT:
        snprintf (number, sizeof number, "%.17g~", value.real);
        builder_literal (out, number);
        return;
    case VALUE_EXT:
        assert_int_equal (value.ext, EXT_CUT);
        assert_int_equal (value.text.size, 1);
        builder_literal (out, "!");
        builder_uint (out, (uint8_t) value.text.data[0]);
        return;
    case VALUE_TEXT:
        builder_literal (out, "'");
        for (uint32_t i = 0; i < value.text.size; i++) {
            unsigned byte = (uint8_t) value.text.data[i];
            snprintf (number, sizeof number, byte < 0x20 || byte > 0x7e ? "<%02x>" : "%c", byte);
            builder_literal (out, number);
        }
        builder_literal (out, "'");
        return;
    case VALUE_ARRAY:
    case VALUE_MAP:
        builder_literal (out, value.type == VALUE_MAP ? "{" : "[");
        for (uint32_t i = 0; i < values; i++) {
            if (i > 0)
                builder_literal (out, value.type == VALUE_MAP && i % 2 ? ":" : ",");
            dump_value (out, cursor);
        }
        builder_literal (out, value.type == VALUE_MAP ? "}" : "]");
        return;
    case VALUE_BINARY:
        break;
    }
    fail ();
}

static const char *dump (struct raw raw)
{
    assert_true (raw_valid (raw));
    struct builder out;
    builder_init (&out, dump_memory, sizeof dump_memory);
    struct cursor cursor = cursor_of (raw);
    dump_value (&out, &cursor);
    assert_false (out.overflow);
    return dump_memory;
}

/*  Reads a text in pieces of so many bytes. */
static enum body_state read_pieces (struct json_reader *reader, const char *text, size_t size, size_t piece,
                                    struct raw *raw)
{
    json_reader_reset (reader);
    for (size_t at = 0; at < size; at += piece) {
        if (!json_reader_feed (reader, text + at, size - at < piece ? size - at : piece))
            break;
    }
    return json_reader_finish (reader, raw);
}

/*  Expects the same of a text however it is cut into pieces. `expected` NULL:
    the raw object is nil. */
static void expect_sized (const char *text, size_t size, enum body_state state, const char *expected)
{
    static const size_t pieces[] = { 1, 2, 3, 7, 4096, SIZE_MAX_HERE };
    struct json_reader *reader = json_reader_new (SIZE_MAX_HERE);
    assert_non_null (reader);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct raw raw;
        assert_int_equal (read_pieces (reader, text, size, pieces[i], &raw), state);
        if (expected)
            assert_string_equal (dump (raw), expected);
        else
            assert_int_equal (raw.size, 0);
    }
    json_reader_destroy (&reader);
    assert_null (reader);
}

static void expect (const char *text, enum body_state state, const char *expected)
{
    expect_sized (text, strlen (text), state, expected);
}

/*  A growing text, for the large ones. */
struct page {
    char *data;
    size_t size;
    size_t capacity;
};

static void add_bytes (struct page *page, const char *bytes, size_t size)
{
    if (page->size + size > page->capacity) {
        page->capacity = 2 * (page->size + size);
        page->data = realloc (page->data, page->capacity);
        assert_non_null (page->data);
    }
    memcpy (page->data + page->size, bytes, size);
    page->size += size;
}

static void add (struct page *page, const char *text)
{
    add_bytes (page, text, strlen (text));
}

static void add_times (struct page *page, const char *text, size_t times)
{
    for (size_t i = 0; i < times; i++)
        add (page, text);
}

static void expect_page (struct page *page, enum body_state state, const char *expected)
{
    expect_sized (page->data, page->size, state, expected);
    free (page->data);
    *page = (struct page){ 0 };
}

/*  ---- reading ------------------------------------------------------------ */

static void test_a_page_of_events (void **state)
{
    (void) state;
    expect ("[{\"id\": 41, \"timestamp\": 1491000000123, \"from\": \"game-two\", \"type\": \"LOGIN\",\n"
            "  \"data\": {\"userId\": \"alice\", \"aliases\": {}}},\r\n\t{}] ",
            BODY_JSON,
            "[{'id':41,'timestamp':1491000000123,'from':'game-two','type':'LOGIN',"
            "'data':{'userId':'alice','aliases':{}}},{}]");
}

static void test_every_kind_of_value (void **state)
{
    (void) state;
    expect ("null", BODY_JSON, "null");
    expect ("42", BODY_JSON, "42");
    expect ("\"x\"", BODY_JSON, "'x'");
    expect ("{}", BODY_JSON, "{}");
    expect ("[]", BODY_JSON, "[]");
    expect ("[true,false,null,[],{},\"\",[[1],[2]]]", BODY_JSON, "[true,false,null,[],{},'',[[1],[2]]]");
    expect ("{\"a\":{\"b\":\"c\",\"b\":\"d\"}}", BODY_JSON, "{'a':{'b':'c','b':'d'}}");
}

static void test_numbers_are_exact (void **state)
{
    (void) state;
    expect ("[0,-0,-1,9007199254740993,9223372036854775808,18446744073709551615,-9223372036854775808]",
            BODY_JSON,
            "[0,0,-1,9007199254740993,9223372036854775808,18446744073709551615,-9223372036854775808]");
    expect ("[18446744073709551616,-9223372036854775809]", BODY_JSON,
            "[1.8446744073709552e+19~,-9.2233720368547758e+18~]");
    expect ("[1.5,1e3,-2E-2,1.0]", BODY_JSON, "[1.5~,1000~,-0.02~,1~]");
    expect ("[1e999,-1e999,1e-999]", BODY_JSON, "[null,null,0~]");
}

static void test_a_number_without_end (void **state)
{
    (void) state;
    struct page page = { 0 };
    add (&page, "[1,[2],");
    add_times (&page, "9", 100000);
    add (&page, "]");
    expect_page (&page, BODY_CUT, "[1,[2]]");
}

static void test_strings_and_their_escapes (void **state)
{
    (void) state;
    expect ("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac\\u0000\"]", BODY_JSON,
            "['\"\\/<08><0c><0a><0d><09>A<c3><a9><e2><82><ac><00>']");
    expect ("[\"\\ud83d\\ude00!\"]", BODY_JSON, "['<f0><9f><98><80>!']");
    expect ("[\"\\uD83D\\uDE00\"]", BODY_JSON, "['<f0><9f><98><80>']");
    expect ("[\"a\xff\x80z\", 1]", BODY_JSON, "['a<ff><80>z',1]");
}

/*  Each lone surrogate is six bytes of 0xff, wherever it stands. */
static void test_a_lone_surrogate_is_no_other_character (void **state)
{
    (void) state;
#define LONE "<ff><ff><ff><ff><ff><ff>"
    expect ("[\"\\ud800\"]", BODY_JSON, "['" LONE "']");
    expect ("[\"\\udc00\"]", BODY_JSON, "['" LONE "']");
    expect ("[\"\\udfff\\ud800x\"]", BODY_JSON, "['" LONE LONE "x']");
    expect ("[\"\\ud800\\ud83d\\ude00\"]", BODY_JSON, "['" LONE "<f0><9f><98><80>']");
    expect ("[\"\\ud800\\n\"]", BODY_JSON, "['" LONE "<0a>']");
    expect ("[\"\\ud800\\\\udc00\"]", BODY_JSON, "['" LONE "\\udc00']");
    expect ("[\"\\ud800\\u0041\"]", BODY_JSON, "['" LONE "A']");
    expect ("[\"\\\\ud800\"]", BODY_JSON, "['\\ud800']");
    expect ("[\"\\\\\\ud800\"]", BODY_JSON, "['\\" LONE "']");
    expect ("{\"\\udbff\":1}", BODY_JSON, "{'" LONE "':1}");
    expect ("[\"?\"]", BODY_JSON, "['?']");
#undef LONE
}

static void test_what_is_not_json (void **state)
{
    (void) state;
    expect ("", BODY_NONE, NULL);
    expect (" \r\n\t ", BODY_NONE, NULL);
    expect ("<html>", BODY_NOT_JSON, NULL);
    expect ("{\"a\":1", BODY_NOT_JSON, NULL);
    expect ("{\"a\":1}}", BODY_NOT_JSON, NULL);
    expect ("{\"a\":1}{", BODY_NOT_JSON, NULL);
    expect ("\"abcdefgh\"x", BODY_NOT_JSON, NULL);
    expect ("\"abcdefgh", BODY_NOT_JSON, NULL);
    expect ("tru", BODY_NOT_JSON, NULL);
    expect ("-", BODY_NOT_JSON, NULL);
    expect ("\"\\u12\"", BODY_NOT_JSON, NULL);
    expect ("\"\\ud800\\u12\"", BODY_NOT_JSON, NULL);
    expect ("{'a':1}", BODY_NOT_JSON, NULL);
    expect_sized ("\0", 1, BODY_NOT_JSON, NULL);
}

static void test_a_page_that_breaks_keeps_its_whole_elements (void **state)
{
    (void) state;
    expect ("[", BODY_CUT, "[]");
    expect ("[{\"id\":1", BODY_CUT, "[]");
    expect ("[{\"id\":1}", BODY_CUT, "[{'id':1}]");
    expect ("[{\"id\":1},", BODY_CUT, "[{'id':1}]");
    expect ("[{\"id\":1},{\"id\":2,\"data\":{\"a\":[1,2", BODY_CUT, "[{'id':1}]");
    expect ("[{\"id\":1},{\"id\":2} {\"id\":3}]", BODY_CUT, "[{'id':1},{'id':2}]");
    expect ("[{\"id\":1},{\"id\":2]", BODY_CUT, "[{'id':1}]");
    expect ("[{\"id\":1}]x", BODY_CUT, "[{'id':1}]");
    expect ("[{\"id\":1},{\"userId\":\"al", BODY_CUT, "[{'id':1}]");
    expect ("[{\"id\":1},{\"userId\":\"al\\ud8", BODY_CUT, "[{'id':1}]");
    expect ("[{\"id\":1},\"a\nb\"]", BODY_CUT, "[{'id':1}]");
}

/*  "12" may be the begin of "123". */
static void test_a_number_that_the_cut_shortened_does_not_count (void **state)
{
    (void) state;
    expect ("[1,12", BODY_CUT, "[1]");
    expect ("[1,12 ", BODY_CUT, "[1,12]");
}

static void test_after_a_broken_text_comes_another (void **state)
{
    (void) state;
    struct json_reader *reader = json_reader_new (SIZE_MAX_HERE);
    struct raw raw;
    assert_int_equal (read_pieces (reader, "[[1],[2", 7, 2, &raw), BODY_CUT);
    assert_int_equal (read_pieces (reader, "{\"a\":", 5, 2, &raw), BODY_NOT_JSON);
    assert_int_equal (read_pieces (reader, "", 0, 2, &raw), BODY_NONE);
    assert_int_equal (read_pieces (reader, "\"abcdefg\" x", 11, 2, &raw), BODY_NOT_JSON);
    assert_int_equal (read_pieces (reader, "[3]", 3, 2, &raw), BODY_JSON);
    assert_string_equal (dump (raw), "[3]");
    json_reader_destroy (&reader);
}

/*  ---- limits ------------------------------------------------------------- */

/*  A page whose first event has this data, between two parts repeated. */
static struct page event_with (const char *begin, const char *repeated, size_t times, const char *end)
{
    struct page page = { 0 };
    add (&page, "[{\"id\":1,\"data\":");
    add (&page, begin);
    add_times (&page, repeated, times);
    add (&page, end);
    add (&page, ",\"z\":2},{\"id\":3}]");
    return page;
}

static void expect_cut (struct page page, const char *fault)
{
    char expected[64];
    snprintf (expected, sizeof expected, "[{'id':1,'data':!%s,'z':2},{'id':3}]", fault);
    expect_page (&page, BODY_JSON, expected);
}

static void test_data_that_is_too_large (void **state)
{
    (void) state;
    expect_cut (event_with ("{\"a\":\"", "0123456789", 110000, "\"}"), "2");
    expect_cut (event_with ("{\"a\":[",
                            "\"0123456789012345678901234567890123456789012345678901234567890123456789\",",
                            1000, "1]}"),
                "2");
    expect_cut (event_with ("\"", "\\u0041", DATA_SIZE_MAX + 1, "\""), "2");
    expect_cut (event_with ("{\"", "k", DATA_SIZE_MAX + 1, "\":{\"a\":[1]}}"), "2");
}

/*  A long string in the page itself, and as the key of an event. */
static void test_a_string_that_is_too_long (void **state)
{
    (void) state;
    struct page page = { 0 };
    add (&page, "[\"");
    add_times (&page, "\\ud800", DATA_SIZE_MAX);
    add (&page, "\",{\"");
    add_times (&page, "k", DATA_SIZE_MAX + 1);
    add (&page, "\":{\"a\":1}}]");
    expect_page (&page, BODY_JSON, "[!2,{!2:{'a':1}}]");
}

/*  The bytes dropped on the way to the parser must never make a long string
    a short one. */
static void test_a_long_string_is_never_shortened (void **state)
{
    (void) state;
    struct page page = { 0 };
    add (&page, "[\"");
    add_times (&page, "\\u0041", DATA_SIZE_MAX - 100);
    add_times (&page, "x", 400000);
    add (&page, "\",7]");
    expect_page (&page, BODY_JSON, "[!2,7]");
}

/*  The size of the first event's data as it was read; 0 when it was cut. */
static size_t data_size (struct json_reader *reader, const struct page *page)
{
    struct raw raw, event, data;
    struct value value;
    assert_int_equal (read_pieces (reader, page->data, page->size, 1000, &raw), BODY_JSON);
    struct cursor cursor = cursor_of (raw);
    assert_true (cursor_next (&cursor, &value));
    assert_true (cursor_skip (&cursor, &event));
    assert_true (raw_find (event, TEXT_LITERAL ("data"), &data));
    assert_true (raw_value (data, &value));
    if (value.type == VALUE_MAP)
        return data.size;
    assert_int_equal (value.type, VALUE_EXT);
    return 0;
}

static void test_data_of_exactly_the_size_stays (void **state)
{
    (void) state;
    struct json_reader *reader = json_reader_new (SIZE_MAX_HERE);
    /*  {"a": text of n}: 1 + 2 + 5 or 3 + n bytes of msgpack. */
    for (int more = 0; more < 2; more++) {
        struct page page = event_with ("{\"a\":\"", "x", (size_t) (DATA_SIZE_MAX - 6 + more), "\"}");
        assert_int_equal (data_size (reader, &page), more ? 0 : DATA_SIZE_MAX);
        free (page.data);
    }
    json_reader_destroy (&reader);
}

/*  Whatever stands last, and however near to the limit it comes. */
static void test_data_that_comes_near_to_its_size (void **state)
{
    (void) state;
    static const char *const ends[] = {
        "\",\"b\":1}",
        "\",\"b\":200}",
        "\",\"b\":70000}",
        "\",\"b\":-1}",
        "\",\"b\":1491000000123}",
        "\",\"b\":18446744073709551615}",
        "\",\"b\":1.5}",
        "\",\"b\":true}",
        "\",\"b\":null}",
        "\",\"b\":\"\"}",
        "\",\"b\":\"abc\"}",
        "\",\"b\":\"0123456789012345678901234567890123456789\"}",
        "\",\"b\":{}}",
        "\",\"b\":[]}",
        "\",\"b\":[[false]]}",
        "\",\"b\":{\"ccc\":[]}}",
        "\",\"b\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}",
    };
    enum { FAR = 60000, NEAR = 60, BEYOND = 3 };
    struct json_reader *reader = json_reader_new (SIZE_MAX_HERE);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct page page = event_with ("{\"a\":\"", "x", FAR, ends[i]);
        size_t around = data_size (reader, &page) - FAR;
        free (page.data);
        for (size_t size = DATA_SIZE_MAX - NEAR; size <= DATA_SIZE_MAX + BEYOND; size++) {
            page = event_with ("{\"a\":\"", "x", size - around, ends[i]);
            assert_int_equal (data_size (reader, &page), size <= DATA_SIZE_MAX ? size : 0);
            free (page.data);
        }
    }
    json_reader_destroy (&reader);
}

static void test_data_with_too_many_entries (void **state)
{
    (void) state;
    expect_cut (event_with ("[", "1,", DATA_KEYS_MAX, "1]"), "3");
    expect_cut (event_with ("{", "\"a\":1,", 10000, "\"b\":[2]}"), "3");
    expect_cut (event_with ("{\"x\":{\"y\":[", "{},", DATA_KEYS_MAX, "[{}]]},\"w\":[[]]}"), "3");
}

static void test_data_with_as_many_entries_as_may_be (void **state)
{
    (void) state;
    for (size_t count = 14; count <= 17; count++) {
        struct page page = event_with ("[", "1,", count, "1]");
        char expected[256] = "[{'id':1,'data':[";
        for (size_t i = 0; i < count; i++)
            strncat (expected, "1,", 3);
        strncat (expected, "1],'z':2},{'id':3}]", 32);
        expect_page (&page, BODY_JSON, expected);
    }
    struct page page = event_with ("[", "1,", DATA_KEYS_MAX - 1, "1]");
    struct json_reader *reader = json_reader_new (SIZE_MAX_HERE);
    struct raw raw;
    assert_int_equal (read_pieces (reader, page.data, page.size, 1000, &raw), BODY_JSON);
    assert_null (strchr (dump (raw), '!'));
    json_reader_destroy (&reader);
    free (page.data);
}

/*  So many levels of arrays, as data. */
static struct page nested (size_t levels)
{
    struct page page = event_with ("", "[", levels, "");
    page.size -= strlen (",\"z\":2},{\"id\":3}]");
    add_times (&page, "]", levels);
    add (&page, ",\"z\":2},{\"id\":3}]");
    return page;
}

static void test_data_that_is_too_deep (void **state)
{
    (void) state;
    expect_cut (nested (DATA_DEPTH_MAX + 1), "4");
    expect_cut (nested (100), "4");
    expect_cut (nested (10000), "4");
    struct page page = nested (DATA_DEPTH_MAX);
    struct json_reader *reader = json_reader_new (SIZE_MAX_HERE);
    struct raw raw;
    assert_int_equal (read_pieces (reader, page.data, page.size, 5, &raw), BODY_JSON);
    assert_null (strchr (dump (raw), '!'));
    json_reader_destroy (&reader);
    free (page.data);
}

static void test_nesting_without_end (void **state)
{
    (void) state;
    struct page page = { 0 };
    add (&page, "[{\"id\":1},");
    add_times (&page, "[", 100000);
    expect_page (&page, BODY_CUT, "[{'id':1}]");
}

/*  An event keeps its first entries; containers among the rest are skipped. */
static void test_an_event_with_too_many_keys (void **state)
{
    (void) state;
    struct page page = { 0 };
    add (&page, "[{\"id\":1");
    add_times (&page, ",\"k\":{\"a\":[1]}", DATA_KEYS_MAX);
    add (&page, "},{\"id\":2},[");
    add_times (&page, "{},", DATA_KEYS_MAX + 5);
    add (&page, "0],3]");
    struct json_reader *reader = json_reader_new (SIZE_MAX_HERE);
    struct raw raw;
    struct value value;
    assert_int_equal (read_pieces (reader, page.data, page.size, 3, &raw), BODY_JSON);
    assert_true (raw_valid (raw));
    struct cursor cursor = cursor_of (raw);
    assert_true (cursor_next (&cursor, &value) && value.count == 4);
    struct raw elements[4];
    for (size_t i = 0; i < 4; i++)
        assert_true (cursor_skip (&cursor, &elements[i]));
    assert_true (raw_value (elements[0], &value) && value.count == DATA_KEYS_MAX);
    assert_string_equal (dump (elements[1]), "{'id':2}");
    assert_true (raw_value (elements[2], &value) && value.count == DATA_KEYS_MAX);
    assert_string_equal (dump (elements[3]), "3");
    json_reader_destroy (&reader);
    free (page.data);
}

static void test_a_reply_beyond_its_size (void **state)
{
    (void) state;
    struct page page = { 0 };
    add (&page, "[");
    add_times (&page, "{\"id\":1},", 1000);
    struct json_reader *reader = json_reader_new (100);
    struct raw raw;
    assert_int_equal (read_pieces (reader, page.data, page.size, page.size, &raw), BODY_CUT);
    assert_true (json_reader_too_large (reader));
    assert_true (raw.size <= 100);
    struct value value;
    assert_true (raw_valid (raw) && raw_value (raw, &value) && value.count == 19);
    assert_int_equal (read_pieces (reader, "[1]", 3, 1, &raw), BODY_JSON);
    assert_false (json_reader_too_large (reader));
    json_reader_destroy (&reader);
    free (page.data);
}

/*  ---- writing ------------------------------------------------------------ */

static uint8_t packed[4096];

static void expect_json (struct packer *packer, struct text secret, const char *expected)
{
    size_t size = 0;
    char *json = json_write (packer_raw (packer), secret, &size);
    if (!expected) {
        assert_null (json);
        return;
    }
    assert_non_null (json);
    assert_string_equal (json, expected);
    assert_int_equal (size, strlen (expected));
    free (json);
}

static void test_writing_a_reward (void **state)
{
    (void) state;
    struct packer packer;
    packer_init (&packer, packed, sizeof packed);
    pack_map (&packer, 5);
    pack_literal (&packer, "to");
    pack_text (&packer, TEXT_LITERAL ("al\"i\\c\ne/\x01\xc3\xa9"));
    pack_literal (&packer, "secret");
    pack_secret (&packer);
    pack_literal (&packer, "amount");
    pack_int (&packer, -10);
    pack_literal (&packer, "data");
    pack_map (&packer, 1);
    pack_literal (&packer, "rewardId");
    pack_literal (&packer, "promo1");
    pack_literal (&packer, "more");
    pack_array (&packer, 8);
    pack_array (&packer, 0);
    pack_map (&packer, 0);
    pack_nil (&packer);
    pack_bool (&packer, true);
    pack_real (&packer, 0.1);
    pack_real (&packer, 1e300);
    pack_uint (&packer, UINT64_MAX);
    pack_int (&packer, INT64_MIN);
    expect_json (&packer, TEXT_LITERAL ("s\"3cret"),
                 "{\"to\":\"al\\\"i\\\\c\\ne/\\u0001\xc3\xa9\",\"secret\":\"s\\\"3cret\",\"amount\":-10,"
                 "\"data\":{\"rewardId\":\"promo1\"},\"more\":[[],{},null,true,0.1,1e+300,"
                 "18446744073709551615,-9223372036854775808]}");
}

static void test_writing_nothing (void **state)
{
    (void) state;
    struct packer packer;
    packer_init (&packer, packed, sizeof packed);
    expect_json (&packer, NO_TEXT, "null");
}

static void test_writing_what_json_has_not (void **state)
{
    (void) state;
    static const struct {
        const char *bytes;
        uint32_t size;
    } cases[] = {
        { "\xc4\x01x", 3 },                /* binary */
        { "\xd4\x02\x02", 3 },             /* EXT_CUT */
        { "\xcb\x7f\xf8\0\0\0\0\0\0", 9 }, /* not a number */
        { "\xcb\x7f\xf0\0\0\0\0\0\0", 9 }, /* infinite */
        { "\xa1\xff", 2 },                 /* not UTF-8 */
        { "\xa3\xed\xa0\x80", 4 },         /* a surrogate */
        { "\xa2\xc0\x80", 3 },             /* overlong */
        { "\x81\x01\x02", 3 },             /* a number as key */
        { "\x81\xa1", 2 },                 /* not whole */
        { "\x92\x01", 2 },                 /* not whole */
        { "\x01\x02", 2 },                 /* two objects */
        { "\xc1", 1 },                     /* not msgpack */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size;
        struct raw raw = { (const uint8_t *) cases[i].bytes, cases[i].size };
        assert_null (json_write (raw, NO_TEXT, &size));
    }
}

/*  A secret that is not UTF-8 cannot be sent in JSON. */
static void test_writing_a_secret_that_is_not_text (void **state)
{
    (void) state;
    struct packer packer;
    packer_init (&packer, packed, sizeof packed);
    pack_secret (&packer);
    expect_json (&packer, TEXT_LITERAL ("\xff"), NULL);
    expect_json (&packer, TEXT_LITERAL ("s"), "\"s\"");
}

/*  Every text that is mutilated somewhere is read without harm, and what it
    yields is one whole object. */
static void test_texts_mutilated_at_random (void **state)
{
    (void) state;
    static const char text[] =
        "[{\"id\":1,\"from\":\"a\\ud83d\\ude00\",\"data\":{\"u\":[1.5,-2,\"\\u0000\\ud800\"]"
        ",\"n\":null}},{\"id\":18446744073709551615,\"t\":true,\"f\":false}]";
    unsigned seed = (unsigned) time (NULL);
    print_message ("seed %u\n", seed);
    struct json_reader *reader = json_reader_new (4096);
    for (int round = 0; round < 20000; round++) {
        char copy[sizeof text];
        memcpy (copy, text, sizeof text);
        size_t size = (size_t) rand_r (&seed) % sizeof text;
        for (int i = rand_r (&seed) % 3; i >= 0; i--)
            copy[(size_t) rand_r (&seed) % sizeof text] = "[]{}\",:\\ud8\xff 1e"[rand_r (&seed) % 16];
        struct raw raw;
        size_t piece = 1 + (size_t) rand_r (&seed) % 20;
        enum body_state body = read_pieces (reader, copy, size, piece, &raw);
        if (body == BODY_JSON || body == BODY_CUT)
            assert_true (raw_valid (raw));
        else
            assert_int_equal (raw.size, 0);
    }
    json_reader_destroy (&reader);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_a_page_of_events),
        cmocka_unit_test (test_every_kind_of_value),
        cmocka_unit_test (test_numbers_are_exact),
        cmocka_unit_test (test_a_number_without_end),
        cmocka_unit_test (test_strings_and_their_escapes),
        cmocka_unit_test (test_a_lone_surrogate_is_no_other_character),
        cmocka_unit_test (test_what_is_not_json),
        cmocka_unit_test (test_a_page_that_breaks_keeps_its_whole_elements),
        cmocka_unit_test (test_a_number_that_the_cut_shortened_does_not_count),
        cmocka_unit_test (test_after_a_broken_text_comes_another),
        cmocka_unit_test (test_data_that_is_too_large),
        cmocka_unit_test (test_a_string_that_is_too_long),
        cmocka_unit_test (test_a_long_string_is_never_shortened),
        cmocka_unit_test (test_data_of_exactly_the_size_stays),
        cmocka_unit_test (test_data_that_comes_near_to_its_size),
        cmocka_unit_test (test_data_with_too_many_entries),
        cmocka_unit_test (test_data_with_as_many_entries_as_may_be),
        cmocka_unit_test (test_data_that_is_too_deep),
        cmocka_unit_test (test_nesting_without_end),
        cmocka_unit_test (test_an_event_with_too_many_keys),
        cmocka_unit_test (test_a_reply_beyond_its_size),
        cmocka_unit_test (test_writing_a_reward),
        cmocka_unit_test (test_writing_nothing),
        cmocka_unit_test (test_writing_what_json_has_not),
        cmocka_unit_test (test_writing_a_secret_that_is_not_text),
        cmocka_unit_test (test_texts_mutilated_at_random),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
