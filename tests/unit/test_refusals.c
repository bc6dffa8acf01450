/*  test_refusals.c - who was not let in, told once a minute at most. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "actors/base/refusals.h"
#include "proto/limits.h"

static char line[LOG_SIZE_MAX];

static void test_nothing_is_told_of_nobody (void **state)
{
    (void) state;
    struct refusals refusals = { .told = false };
    assert_false (refusals_tell (&refusals, 0, line, sizeof line));
    assert_false (refusals_tell (&refusals, 1000000, line, sizeof line));
}

static void test_the_first_is_told_at_once_the_others_together (void **state)
{
    (void) state;
    struct refusals refusals = { .told = false };
    refusals_note (&refusals, REFUSED_STRANGER, 1, "192.0.2.7, a stranger to decision");
    assert_true (refusals_tell (&refusals, 5000, line, sizeof line));
    assert_string_equal (line, "refused connections: 1 with a key that no certificate has; the latest: "
                               "192.0.2.7, a stranger to decision");
    for (unsigned second = 1; second < 60; second++) {
        refusals_note (&refusals, REFUSED_STRANGER, 100, "192.0.2.8");
        refusals_note (&refusals, REFUSED_ROLE, 1, "192.0.2.9, ingest to stats");
        assert_false (refusals_tell (&refusals, 5000 + second * 1000, line, sizeof line));
    }
    assert_true (refusals_tell (&refusals, 65000, line, sizeof line));
    assert_string_equal (line,
                         "refused connections: 5900 with a key that no certificate has, 59 with the key "
                         "of a role that may not connect there; the latest: 192.0.2.9, ingest to stats");
    assert_false (refusals_tell (&refusals, 200000, line, sizeof line));
    refusals_note (&refusals, REFUSED_HANDSHAKE, 2, "");
    assert_true (refusals_tell (&refusals, 200001, line, sizeof line));
    assert_string_equal (line, "refused connections: 2 without CURVE, or with a wrong key of ours");
}

static void test_what_a_stranger_says_cannot_spoil_the_log (void **state)
{
    (void) state;
    struct refusals refusals = { .told = false };
    char bytes[2000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char) (i % 255 + 1);
    bytes[sizeof bytes - 1] = '\0';
    for (int i = 0; i < REFUSAL_COUNT; i++)
        refusals_note (&refusals, (enum refusal) i, UINT64_MAX, bytes);
    assert_true (refusals_tell (&refusals, 0, line, sizeof line));
    assert_true (strlen (line) < sizeof line - 1);
    for (const char *at = line; *at; at++)
        assert_true ((unsigned char) *at >= 0x20);
}

static void test_every_reason_has_a_name_of_its_own (void **state)
{
    (void) state;
    for (int i = 0; i < REFUSAL_COUNT; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal (refusal_name ((enum refusal) i), refusal_name ((enum refusal) j));
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_nothing_is_told_of_nobody),
        cmocka_unit_test (test_the_first_is_told_at_once_the_others_together),
        cmocka_unit_test (test_what_a_stranger_says_cannot_spoil_the_log),
        cmocka_unit_test (test_every_reason_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
