/*  test_page.c - one element of a page, as the events service may write it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/base/json.h"
#include "actors/ingest/page.h"
#include "proto/codec.h"
#include "proto/raw.h"
#include "proto/text.h"

static struct json_reader *reader;
static struct raw page;

/*  Reads a page of one element; its bytes live until the next one. */
static struct raw element_of (const char *json)
{
    char text[4096];
    int size = snprintf (text, sizeof text, "[%s]", json);
    assert_true (size > 0 && (size_t) size < sizeof text);
    json_reader_reset (reader);
    json_reader_feed (reader, text, (size_t) size);
    assert_int_equal (json_reader_finish (reader, &page), BODY_JSON);
    struct cursor cursor = cursor_of (page);
    struct value array;
    struct raw element;
    assert_true (cursor_next (&cursor, &array));
    assert_int_equal (array.count, 1);
    assert_true (cursor_skip (&cursor, &element));
    return element;
}

/*  True when the element is an event with a usable id. */
static bool event_of (struct raw element, struct event *event)
{
    struct cursor cursor = cursor_of (element);
    return page_next (&cursor, event) && cursor.at == cursor.end && event->position > 0;
}

static bool read_event (const char *json, struct event *event)
{
    return event_of (element_of (json), event);
}

static void test_a_whole_event_is_taken (void **state)
{
    (void) state;
    struct event event;
    assert_true (read_event ("{\"id\":41,\"timestamp\":1491000000123,\"from\":\"game-two\","
                             "\"type\":\"LOGIN\",\"data\":{\"userId\":\"alice\",\"aliases\":{}}}",
                             &event));
    assert_int_equal (event.position, 41);
    assert_int_equal (event.timestamp, 1491000000123);
    assert_true (text_equal (event.source, TEXT_LITERAL ("game-two")));
    assert_true (text_equal (event.type, TEXT_LITERAL ("LOGIN")));
    assert_int_equal (event.fault, FAULT_NONE);
    struct raw found = NO_RAW;
    struct text user = NO_TEXT;
    assert_true (raw_path (event.data, "userId", &found) && raw_text (found, &user));
    assert_true (text_equal (user, TEXT_LITERAL ("alice")));
}

static void test_without_a_usable_id_there_is_no_event (void **state)
{
    (void) state;
    static const char *const elements[] = {
        "{\"from\":\"a\",\"type\":\"b\"}",
        "{\"id\":0,\"from\":\"a\",\"type\":\"b\"}",
        "{\"id\":-1,\"from\":\"a\",\"type\":\"b\"}",
        "{\"id\":\"7\",\"from\":\"a\",\"type\":\"b\"}",
        "{\"id\":1.5,\"from\":\"a\",\"type\":\"b\"}",
        "{\"id\":null,\"from\":\"a\",\"type\":\"b\"}",
        "{\"id\":true,\"from\":\"a\",\"type\":\"b\"}",
        "{\"id\":[7],\"from\":\"a\",\"type\":\"b\"}",
        "{\"id\":9007199254740992,\"from\":\"a\",\"type\":\"b\"}",
        "{\"id\":1e300,\"from\":\"a\",\"type\":\"b\"}",
        "{\"ID\":7,\"from\":\"a\",\"type\":\"b\"}",
        "{}",
        "[]",
        "[7]",
        "7",
        "null",
        "\"7\"",
        "true",
    };
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++) {
        struct event event;
        if (read_event (elements[i], &event))
            fail_msg ("taken: %s", elements[i]);
    }
}

static void test_the_greatest_id_is_still_one (void **state)
{
    (void) state;
    struct event event;
    assert_true (read_event ("{\"id\":9007199254740991,\"from\":\"a\",\"type\":\"b\"}", &event));
    assert_int_equal (event.position, POSITION_MAX);
    assert_true (read_event ("{\"id\":7.0,\"from\":\"a\",\"type\":\"b\"}", &event));
    assert_int_equal (event.position, 7);
}

static void test_a_name_that_is_none_keeps_the_event_and_says_so (void **state)
{
    (void) state;
    char longest[NAME_SIZE_MAX + 64];
    char too_long[NAME_SIZE_MAX + 64];
    char name[NAME_SIZE_MAX + 2];
    memset (name, 'x', sizeof name);
    snprintf (longest, sizeof longest, "{\"id\":5,\"from\":\"%.*s\",\"type\":\"b\"}", NAME_SIZE_MAX, name);
    snprintf (too_long, sizeof too_long, "{\"id\":5,\"from\":\"%.*s\",\"type\":\"b\"}", NAME_SIZE_MAX + 1,
              name);
    const char *const elements[] = {
        "{\"id\":5,\"type\":\"b\",\"data\":{}}",
        "{\"id\":5,\"from\":\"a\",\"data\":{}}",
        "{\"id\":5,\"from\":\"\",\"type\":\"b\",\"data\":{}}",
        "{\"id\":5,\"from\":\"a\",\"type\":7,\"data\":{}}",
        "{\"id\":5,\"from\":null,\"type\":\"b\",\"data\":{}}",
        "{\"id\":5,\"from\":[\"a\"],\"type\":\"b\",\"data\":{}}",
        too_long,
    };
    struct event event;
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++) {
        assert_true (read_event (elements[i], &event));
        assert_int_equal (event.position, 5);
        assert_int_equal (event.fault, FAULT_NAME);
        assert_int_equal (event.source.size + event.type.size + event.data.size, 0);
    }
    assert_true (read_event (longest, &event));
    assert_int_equal (event.fault, FAULT_NONE);
    assert_int_equal (event.source.size, NAME_SIZE_MAX);
}

static void test_data_may_be_anything_or_nothing (void **state)
{
    (void) state;
    struct event event;
    assert_true (read_event ("{\"id\":5,\"from\":\"a\",\"type\":\"b\"}", &event));
    assert_int_equal (event.fault, FAULT_NONE);
    assert_int_equal (event.data.size, 0);
    static const char *const elements[] = {
        "{\"id\":5,\"from\":\"a\",\"type\":\"b\",\"data\":null}",
        "{\"id\":5,\"from\":\"a\",\"type\":\"b\",\"data\":[1,2]}",
        "{\"id\":5,\"from\":\"a\",\"type\":\"b\",\"data\":\"text\"}",
    };
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++) {
        assert_true (read_event (elements[i], &event));
        assert_int_equal (event.fault, FAULT_NONE);
        assert_true (raw_valid (event.data));
    }
}

/*  An element whose data was left out for a reason of `size` bytes. */
static void check_cut (const char *bytes, uint32_t size, enum fault expected)
{
    uint8_t memory[128];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 4);
    pack_literal (&packer, "id");
    pack_uint (&packer, 5);
    pack_literal (&packer, "from");
    pack_literal (&packer, "a");
    pack_literal (&packer, "type");
    pack_literal (&packer, "b");
    pack_literal (&packer, "data");
    pack_ext (&packer, EXT_CUT, (struct text){ bytes, size });
    struct event event;
    assert_true (event_of (packer_raw (&packer), &event));
    assert_int_equal (event.fault, expected);
    assert_int_equal (event.data.size, 0);
}

static void test_data_that_was_left_out_says_why (void **state)
{
    (void) state;
    check_cut ("\2", 1, FAULT_DATA_SIZE);
    check_cut ("\3", 1, FAULT_DATA_KEYS);
    check_cut ("\4", 1, FAULT_DATA_DEPTH);
}

static void test_a_reason_that_is_none_counts_as_too_large (void **state)
{
    (void) state;
    check_cut ("", 0, FAULT_DATA_SIZE);
    check_cut ("\0", 1, FAULT_DATA_SIZE);
    check_cut ("\1", 1, FAULT_DATA_SIZE);
    check_cut ("\5", 1, FAULT_DATA_SIZE);
    check_cut ("\377", 1, FAULT_DATA_SIZE);
    check_cut ("\3\3", 2, FAULT_DATA_SIZE);
}

static void test_a_key_twice_takes_the_last_one (void **state)
{
    (void) state;
    struct event event;
    assert_true (read_event ("{\"id\":5,\"id\":6,\"from\":\"a\",\"from\":\"c\",\"type\":\"b\"}", &event));
    assert_int_equal (event.position, 6);
    assert_true (text_equal (event.source, TEXT_LITERAL ("c")));
}

static void test_a_key_twice_of_which_the_last_is_unusable_takes_neither (void **state)
{
    (void) state;
    struct event event;
    assert_false (read_event ("{\"id\":5,\"id\":\"x\",\"from\":\"a\",\"type\":\"b\"}", &event));
    assert_true (read_event ("{\"id\":5,\"from\":\"a\",\"type\":\"b\",\"data\":[],\"data\":{}}", &event));
    struct value value;
    assert_true (raw_value (event.data, &value));
    assert_int_equal (value.type, VALUE_MAP);
}

static void test_a_timestamp_that_is_none_is_zero (void **state)
{
    (void) state;
    struct event event;
    assert_true (read_event ("{\"id\":5,\"timestamp\":\"x\",\"from\":\"a\",\"type\":\"b\"}", &event));
    assert_int_equal (event.timestamp, 0);
    assert_true (read_event ("{\"id\":5,\"timestamp\":-4,\"from\":\"a\",\"type\":\"b\"}", &event));
    assert_int_equal (event.timestamp, 0);
}

static void test_every_truncation_is_no_event (void **state)
{
    (void) state;
    struct raw whole =
        element_of ("{\"id\":5,\"from\":\"a\",\"type\":\"b\",\"data\":{\"userId\":\"alice\"}}");
    for (uint32_t size = 0; size < whole.size; size++) {
        uint8_t *bytes = malloc (size ? size : 1);
        assert_non_null (bytes);
        memcpy (bytes, whole.data, size);
        struct event event;
        assert_false (event_of ((struct raw){ bytes, size }, &event));
        free (bytes);
    }
}

static int begin (void **state)
{
    (void) state;
    reader = json_reader_new (REPLY_SIZE_MAX);
    return reader ? 0 : -1;
}

static int end (void **state)
{
    (void) state;
    json_reader_destroy (&reader);
    return 0;
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_a_whole_event_is_taken),
        cmocka_unit_test (test_without_a_usable_id_there_is_no_event),
        cmocka_unit_test (test_the_greatest_id_is_still_one),
        cmocka_unit_test (test_a_name_that_is_none_keeps_the_event_and_says_so),
        cmocka_unit_test (test_data_may_be_anything_or_nothing),
        cmocka_unit_test (test_data_that_was_left_out_says_why),
        cmocka_unit_test (test_a_reason_that_is_none_counts_as_too_large),
        cmocka_unit_test (test_a_key_twice_takes_the_last_one),
        cmocka_unit_test (test_a_key_twice_of_which_the_last_is_unusable_takes_neither),
        cmocka_unit_test (test_a_timestamp_that_is_none_is_zero),
        cmocka_unit_test (test_every_truncation_is_no_event),
    };
    return cmocka_run_group_tests (tests, begin, end);
}
