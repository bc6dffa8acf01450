/*  test_tap_bounds.c - a tap under a flood, beside one that never reads, and
    beside another process at the same file. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/bus.h"
#include "actors/base/tap.h"
#include "proto/codec.h"
#include "proto/text.h"

enum { DEADLINE_MS = 60000, QUIET_MS = 500, FLOOD_BYTES = 512 << 20, GROWTH_KB_MAX = 128 << 10, MANY = 100 };

static struct fixture {
    void *readers;
    struct tap *tap;
    struct tap_mirror *mirror;
    struct tap_reader *reader;
    struct tap_reader *others[MANY];
    char directory[64];
    char file[96];
    char endpoint[112];
} fixture;

/*  A sanitizer keeps freed memory for a while, so that growth says nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif
#else
static const bool sanitized = false;
#endif

static const struct address decision = { ROLE_DECISION, 0 };

static uint64_t now_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

static void look (void)
{
    char reason[256] = "";
    const char *endpoint = fixture.endpoint;
    fixture.reader = tap_reader_new (fixture.readers, &endpoint, 1, NULL, reason, sizeof reason);
    assert_non_null (fixture.reader);
    assert_true (tap_reader_want (fixture.reader, NO_TEXT));
}

static void wait_wanted (bool wanted)
{
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (tap_wanted (fixture.mirror) != wanted)
        assert_true (now_ms () < deadline_ms);
}

static int begin (void **state)
{
    (void) state;
    char reason[256] = "";
    const char *endpoint = fixture.endpoint;
    snprintf (fixture.directory, sizeof fixture.directory, "/tmp/guerdon-tap.XXXXXX");
    assert_non_null (mkdtemp (fixture.directory));
    snprintf (fixture.file, sizeof fixture.file, "%s/tap.sock", fixture.directory);
    snprintf (fixture.endpoint, sizeof fixture.endpoint, "ipc://%s", fixture.file);
    fixture.readers = bus_context_new ();
    fixture.tap = tap_open (endpoint, "here", NULL, NULL, reason, sizeof reason);
    if (!fixture.tap)
        fail_msg ("%s", reason);
    fixture.mirror = tap_mirror_new (fixture.tap, (struct address){ ROLE_INGEST, 0 });
    assert_non_null (fixture.mirror);
    look ();
    wait_wanted (true);
    return 0;
}

static int end (void **state)
{
    (void) state;
    tap_reader_destroy (&fixture.reader);
    for (unsigned i = 0; i < MANY; i++)
        tap_reader_destroy (&fixture.others[i]);
    tap_mirror_destroy (&fixture.mirror);
    tap_close (&fixture.tap);
    bus_context_destroy (&fixture.readers);
    unlink (fixture.file);
    return rmdir (fixture.directory);
}

/*  A page of events, each with a player's id of so many bytes; its size. */
static size_t make_page (uint8_t *bytes, size_t capacity, unsigned count, uint32_t user_size)
{
    static uint8_t items[MESSAGE_SIZE_MAX];
    static uint8_t data[DATA_SIZE_MAX];
    static char user[DATA_SIZE_MAX];
    struct packer data_packer, item_packer, packer;
    memset (user, 'u', sizeof user);
    packer_init (&data_packer, data, sizeof data);
    pack_map (&data_packer, 1);
    pack_literal (&data_packer, "userId");
    pack_text (&data_packer, (struct text){ user, user_size });
    packer_init (&item_packer, items, sizeof items);
    for (unsigned i = 0; i < count; i++) {
        struct message event = { .id = MESSAGE_EVENT, .trace = i + 1 };
        event.event.source = TEXT_LITERAL ("game");
        event.event.type = TEXT_LITERAL ("LOGIN");
        event.event.data = packer_raw (&data_packer);
        assert_int_equal (encode_item (&item_packer, &event), ENCODE_OK);
    }
    packer_init (&packer, bytes, capacity);
    assert_int_equal (encode_batch (&packer, MESSAGE_EVENT, 1, packer_raw (&item_packer), count), ENCODE_OK);
    return packer.size;
}

static long resident_kb (void)
{
    long total = 0;
    long resident = 0;
    FILE *file = fopen ("/proc/self/statm", "re");
    assert_non_null (file);
    assert_int_equal (fscanf (file, "%ld %ld", &total, &resident), 2);
    fclose (file);
    return resident * (sysconf (_SC_PAGESIZE) / 1024);
}

static void check_growth (unsigned count, uint32_t user_size)
{
    static uint8_t page[MESSAGE_SIZE_MAX];
    size_t size = make_page (page, sizeof page, count, user_size);
    long before_kb = resident_kb ();
    for (size_t sent = 0; sent < FLOOD_BYTES; sent += size)
        tap_sent (fixture.mirror, decision, page, size);
    long grown_kb = resident_kb () - before_kb;
    if (!sanitized && grown_kb > GROWTH_KB_MAX)
        fail_msg ("%u values of %u bytes: %ld kB more", count, (unsigned) user_size, grown_kb);
}

static void test_pages_that_nobody_takes (void **state)
{
    (void) state;
    check_growth (1000, 400);
}

static void test_large_values_that_nobody_reads (void **state)
{
    (void) state;
    check_growth (1, 60000);
}

/*  The number of the last value and what is told as lost are together what was
    sent, once a page comes through that tells what was lost before it. */
static void test_every_value_is_shown_or_told_as_lost (void **state)
{
    (void) state;
    enum { VALUES = 1000, PAGES = 3000 };
    static uint8_t page[MESSAGE_SIZE_MAX];
    size_t size = make_page (page, sizeof page, VALUES, 40);
    uint64_t sent = 0;
    uint64_t number = 0;
    uint64_t lost = 0;
    struct tap_record record;
    for (; sent < PAGES * VALUES; sent += VALUES)
        tap_sent (fixture.mirror, decision, page, size);
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (number + lost != sent && now_ms () < deadline_ms) {
        tap_sent (fixture.mirror, decision, page, size);
        sent += VALUES;
        while (number + lost != sent && tap_reader_next (fixture.reader, QUIET_MS, &record)) {
            number = record.sequence;
            lost = record.lost;
        }
    }
    assert_true (lost > 0);
    assert_int_equal (number + lost, sent);
}

static void test_a_value_too_large_to_be_shown_still_names_its_player (void **state)
{
    (void) state;
    static uint8_t bytes[MESSAGE_SIZE_MAX];
    static uint8_t data[DATA_SIZE_MAX];
    static char filling[20000];
    struct packer packer;
    struct message event = { .id = MESSAGE_EVENT };
    packer_init (&packer, data, sizeof data);
    pack_map (&packer, 2);
    pack_literal (&packer, "userId");
    pack_literal (&packer, "alice");
    pack_literal (&packer, "filling");
    pack_text (&packer, (struct text){ filling, sizeof filling });
    event.event.data = packer_raw (&packer);
    packer_init (&packer, bytes, sizeof bytes);
    assert_int_equal (encode_message (&packer, &event), ENCODE_OK);
    tap_sent (fixture.mirror, decision, packer.data, packer.size);

    struct tap_record record;
    struct decoder decoder;
    struct message shown;
    struct raw found;
    struct text user = NO_TEXT;
    uint64_t left_out = 0;
    assert_true (tap_reader_next (fixture.reader, DEADLINE_MS, &record));
    assert_true (record.body.size < 1000);
    assert_int_equal (decode_begin (&decoder, record.message.data, record.message.size, false), DECODE_OK);
    assert_int_equal (decode_next (&decoder, &shown), DECODE_OK);
    assert_true (raw_path (shown.event.data, "userId", &found) && raw_text (found, &user));
    assert_true (text_equal (user, TEXT_LITERAL ("alice")));
    assert_true (raw_path (shown.event.data, "leftOut", &found) && raw_uint (found, &left_out));
    assert_true (left_out > sizeof filling);
}

static void test_the_file_of_a_process_that_lives_is_left_alone (void **state)
{
    (void) state;
    char reason[256] = "";
    assert_null (tap_open (fixture.endpoint, "another", NULL, NULL, reason, sizeof reason));
    assert_non_null (strstr (reason, fixture.endpoint));
    assert_non_null (strstr (reason, strerror (EADDRINUSE)));
    assert_int_equal (access (fixture.file, F_OK), 0);

    struct tap_record record;
    static uint8_t page[1024];
    size_t size = make_page (page, sizeof page, 1, 5);
    tap_reader_destroy (&fixture.reader);
    look ();
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    do {
        assert_true (now_ms () < deadline_ms);
        tap_sent (fixture.mirror, decision, page, size);
    } while (!tap_reader_next (fixture.reader, 10, &record));
}

/*  Whether some of so many events, said one by one, are not shown to a reader that
    has read all before. */
static bool some_are_lost (unsigned count)
{
    static uint8_t page[1024];
    const size_t size = make_page (page, sizeof page, 1, 5);
    struct tap_record record;
    while (tap_reader_next (fixture.reader, QUIET_MS, &record))
        continue;
    for (unsigned i = 0; i < count; i++)
        tap_sent (fixture.mirror, decision, page, size);
    unsigned shown = 0;
    while (tap_reader_next (fixture.reader, QUIET_MS, &record))
        shown++;
    return shown < count;
}

/*  What is shown to many takes as much of the budget as if each had one of its
    own to read it with; and when they are gone it does no more. */
static void test_many_taps_share_what_one_may_take (void **state)
{
    enum { COUNT = 300 };
    (void) state;
    char reason[256] = "";
    const char *endpoint = fixture.endpoint;
    static uint8_t page[1024];
    const size_t size = make_page (page, sizeof page, 1, 5);
    struct tap_reader **readers = fixture.others;
    struct tap_record record;
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    for (unsigned i = 0; i < MANY; i++) {
        readers[i] = tap_reader_new (fixture.readers, &endpoint, 1, NULL, reason, sizeof reason);
        assert_non_null (readers[i]);
        assert_true (tap_reader_want (readers[i], NO_TEXT));
    }
    for (unsigned i = 0; i < MANY; i++)
        do {
            assert_true (now_ms () < deadline_ms);
            tap_sent (fixture.mirror, decision, page, size);
        } while (!tap_reader_next (readers[i], 10, &record));
    assert_true (some_are_lost (COUNT));
    for (unsigned i = 0; i < MANY; i++)
        tap_reader_destroy (&readers[i]);
    /*  Nor does what is left of those who came and went one by one. */
    for (unsigned i = 0; i < MANY; i++) {
        tap_reader_destroy (&fixture.reader);
        wait_wanted (false);
        look ();
        wait_wanted (true);
    }
    deadline_ms = now_ms () + DEADLINE_MS;
    while (some_are_lost (COUNT))
        assert_true (now_ms () < deadline_ms);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_pages_that_nobody_takes, begin, end),
        cmocka_unit_test_setup_teardown (test_large_values_that_nobody_reads, begin, end),
        cmocka_unit_test_setup_teardown (test_every_value_is_shown_or_told_as_lost, begin, end),
        cmocka_unit_test_setup_teardown (test_a_value_too_large_to_be_shown_still_names_its_player, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_the_file_of_a_process_that_lives_is_left_alone, begin, end),
        cmocka_unit_test_setup_teardown (test_many_taps_share_what_one_may_take, begin, end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
