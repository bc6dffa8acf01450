/*  test_requests.c - the store of the client rooms: slots, jobs, waiting. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "include/requests.h"
#include "include/verdict.h"
#include "proto/codec.h"
#include "proto/text.h"

enum { SLOTS = 50 };

struct fixture {
    struct requests requests;
    void *memory;
};

static void set_up (struct fixture *fixture)
{
    fixture->memory = calloc (1, requests_size (SLOTS));
    assert_non_null (fixture->memory);
    requests_init (&fixture->requests, fixture->memory, SLOTS);
}

static uint32_t keep (struct requests *requests, const char *user)
{
    const struct message message = { .id = MESSAGE_GIVE, .trace = 7 };
    return requests_keep (requests, &message, text_of (user), TEXT_LITERAL ("what"));
}

static void a_full_store_keeps_no_more_until_one_is_dropped (void **state)
{
    (void) state;
    struct fixture fixture;
    set_up (&fixture);
    for (uint32_t i = 0; i < SLOTS; i++)
        assert_int_not_equal (keep (&fixture.requests, "alice"), REQUEST_NONE);
    assert_int_equal (keep (&fixture.requests, "bob"), REQUEST_NONE);
    requests_drop (&fixture.requests, 17);
    assert_int_equal (keep (&fixture.requests, "carol"), 17);
    assert_true (text_equal (requests_user (&fixture.requests, 17), TEXT_LITERAL ("carol")));
    assert_true (text_equal (requests_what (&fixture.requests, 17), TEXT_LITERAL ("what")));
    assert_int_equal (fixture.requests.count, SLOTS);
    assert_int_equal (keep (&fixture.requests, "dave"), REQUEST_NONE);
    free (fixture.memory);
}

static void lists_keep_their_order_whatever_is_taken_out (void **state)
{
    (void) state;
    struct fixture fixture;
    set_up (&fixture);
    struct request_list list;
    request_list_init (&list);
    assert_int_equal (request_list_pop (&fixture.requests, &list), REQUEST_NONE);
    uint32_t jobs[4];
    for (unsigned i = 0; i < 4; i++) {
        jobs[i] = keep (&fixture.requests, "alice");
        request_list_push (&fixture.requests, &list, jobs[i]);
    }
    assert_int_equal (request_list_pop_behind (&fixture.requests, &list, jobs[2]), jobs[3]);
    assert_int_equal (request_list_pop_behind (&fixture.requests, &list, jobs[0]), jobs[1]);
    request_list_push (&fixture.requests, &list, jobs[3]);
    assert_int_equal (request_list_pop (&fixture.requests, &list), jobs[0]);
    assert_int_equal (request_list_pop (&fixture.requests, &list), jobs[2]);
    assert_int_equal (request_list_pop (&fixture.requests, &list), jobs[3]);
    assert_int_equal (request_list_pop (&fixture.requests, &list), REQUEST_NONE);
    free (fixture.memory);
}

static void halves_hold_everybody_once_and_start_anew (void **state)
{
    (void) state;
    for (uint32_t members = 2; members <= SLOTS; members++) {
        struct fixture fixture;
        set_up (&fixture);
        struct requests *requests = &fixture.requests;
        uint32_t job = keep (requests, "0");
        for (uint32_t i = 1, last = job; i < members; i++) {
            uint32_t added = keep (requests, "n");
            requests_join (requests, job, last, added);
            last = added;
        }
        requests_at (requests, job)->attempts = 3;
        requests_at (requests, job)->suspect = true;
        uint32_t other = requests_halve (requests, job);
        assert_int_equal (requests_at (requests, job)->attempts, 0);
        assert_false (requests_at (requests, job)->suspect);
        assert_int_equal (requests_at (requests, job)->members, members / 2);
        assert_int_equal (requests_at (requests, other)->members, members - members / 2);
        uint32_t next = 0;
        for (; job != REQUEST_NONE; next++) {
            uint32_t rest = requests_unjoin (requests, job);
            assert_int_equal (job, next);
            requests_drop (requests, job);
            job = rest;
            if (job == REQUEST_NONE && next < members - 1)
                job = other;
        }
        assert_int_equal (next, members);
        assert_int_equal (requests->count, 0);
        free (fixture.memory);
    }
}

static void jobs_wake_in_the_order_they_are_due (void **state)
{
    (void) state;
    unsigned seed = (unsigned) time (NULL);
    print_message ("seed %u\n", seed);
    for (unsigned round = 0; round < 200; round++) {
        struct fixture fixture;
        set_up (&fixture);
        struct requests *requests = &fixture.requests;
        assert_int_equal (requests_due (requests), 0);
        uint32_t count = (uint32_t) rand_r (&seed) % SLOTS + 1;
        for (uint32_t i = 0; i < count; i++)
            requests_wait (requests, keep (requests, "alice"), 100 + (uint64_t) rand_r (&seed) % 20);
        uint64_t due_ms = 0, serial = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint64_t next = requests_due (requests);
            assert_int_equal (requests_wake (requests, next - 1), REQUEST_NONE);
            const struct pending *woken = requests_at (requests, requests_wake (requests, next));
            assert_int_equal (woken->due_ms, next);
            assert_true (next > due_ms || (next == due_ms && woken->serial > serial));
            due_ms = next;
            serial = woken->serial;
        }
        assert_int_equal (requests_wake (requests, UINT64_MAX), REQUEST_NONE);
        free (fixture.memory);
    }
}

/*  ---- askers that forgot ------------------------------------------------- */

/*  A request of one of two askers. */
static uint32_t keep_from (struct requests *requests, uint16_t peer)
{
    const struct message message = { .id = MESSAGE_READ_META, .from = { ROLE_DECISION, peer } };
    return requests_keep (requests, &message, TEXT_LITERAL ("alice"), NO_TEXT);
}

static void what_was_forgotten_is_gone_and_the_rest_is_in_its_place (void **state)
{
    (void) state;
    unsigned seed = (unsigned) time (NULL);
    print_message ("seed %u\n", seed);
    for (unsigned round = 0; round < 200; round++) {
        struct fixture fixture;
        set_up (&fixture);
        struct requests *requests = &fixture.requests;
        struct request_list list;
        request_list_init (&list);
        uint32_t stay = 0, go = 0;
        while (requests->count + 3 <= SLOTS) {
            uint32_t job = REQUEST_NONE, last = REQUEST_NONE;
            for (unsigned i = (unsigned) rand_r (&seed) % 3; i < 3; i++) {
                uint16_t peer = (uint16_t) (rand_r (&seed) % 2);
                uint32_t slot = keep_from (requests, peer);
                stay += peer == 0;
                go += peer == 1;
                if (job == REQUEST_NONE)
                    job = slot;
                else
                    requests_join (requests, job, last, slot);
                last = slot;
            }
            if (rand_r (&seed) % 2)
                request_list_push (requests, &list, job);
            else
                requests_wait (requests, job, 100 + (uint64_t) rand_r (&seed) % 20);
        }
        const struct address gone = { ROLE_DECISION, 1 };
        request_list_forget (requests, &list, gone);
        requests_forget (requests, gone);
        assert_int_equal (requests->count, stay);
        uint64_t due_ms = 0;
        for (;;) {
            uint32_t job = request_list_pop (requests, &list);
            if (job == REQUEST_NONE) {
                uint64_t due = requests_due (requests);
                if ((job = requests_wake (requests, UINT64_MAX)) == REQUEST_NONE)
                    break;
                assert_true (due >= due_ms);
                due_ms = due;
            }
            assert_false (requests_from (requests, job, gone));
            for (uint32_t left = requests_at (requests, job)->members; left-- > 0; stay--) {
                uint32_t rest = requests_unjoin (requests, job);
                requests_drop (requests, job);
                assert_true ((rest == REQUEST_NONE) == (left == 0));
                job = rest;
            }
        }
        assert_int_equal (stay, 0);
        assert_true (go > 0);
        free (fixture.memory);
    }
}

/*  ---- verdicts ----------------------------------------------------------- */

static void every_status_has_its_verdict (void **state)
{
    (void) state;
    static const struct {
        unsigned first, last;
        enum verdict verdict;
    } ranges[] = {
        { 0, 199, VERDICT_FAILED },      { 200, 299, VERDICT_GOOD },    { 300, 399, VERDICT_FAILED },
        { 400, 400, VERDICT_REFUSED },   { 401, 401, VERDICT_DENIED },  { 402, 402, VERDICT_REFUSED },
        { 403, 403, VERDICT_DENIED },    { 404, 407, VERDICT_REFUSED }, { 408, 408, VERDICT_FAILED },
        { 409, 424, VERDICT_REFUSED },   { 425, 425, VERDICT_FAILED },  { 426, 428, VERDICT_REFUSED },
        { 429, 429, VERDICT_SLOW_DOWN }, { 430, 499, VERDICT_REFUSED }, { 500, 999, VERDICT_FAILED },
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        for (unsigned status = ranges[i].first; status <= ranges[i].last; status++) {
            struct http_answer answer = { .outcome = HTTP_ANSWERED, .status = status };
            assert_int_equal (verdict_of (&answer), ranges[i].verdict);
        }
    static const enum http_outcome failed[] = { HTTP_BROKEN, HTTP_TIMEOUT, HTTP_TOO_LARGE };
    for (size_t i = 0; i < 3; i++)
        assert_int_equal (verdict_of (&(struct http_answer){ .outcome = failed[i], .status = 200 }),
                          VERDICT_FAILED);
    assert_int_equal (verdict_of (&(struct http_answer){ .outcome = HTTP_UNREACHED }), VERDICT_UNREACHED);
}

static void a_code_that_is_no_plain_word_is_not_shown (void **state)
{
    (void) state;
    static const char *const codes[] = {
        "",          "s3cret.alice", "/auth/s3cret",
        "two words", "\xc3\xa9",     "a_code_of_49_characters_is_longer_than_what_we_show",
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        uint8_t bytes[256];
        struct packer packer;
        packer_init (&packer, bytes, sizeof bytes);
        pack_map (&packer, 1);
        pack_literal (&packer, "code");
        pack_literal (&packer, codes[i]);
        char memory[64];
        struct builder reason;
        builder_init (&reason, memory, sizeof memory);
        verdict_refusal (&reason, &(struct http_answer){ .outcome = HTTP_ANSWERED,
                                                         .status = 409,
                                                         .body_state = BODY_JSON,
                                                         .body = packer_raw (&packer) });
        assert_string_equal (memory, "HTTP 409");
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_full_store_keeps_no_more_until_one_is_dropped),
        cmocka_unit_test (lists_keep_their_order_whatever_is_taken_out),
        cmocka_unit_test (halves_hold_everybody_once_and_start_anew),
        cmocka_unit_test (jobs_wake_in_the_order_they_are_due),
        cmocka_unit_test (what_was_forgotten_is_gone_and_the_rest_is_in_its_place),
        cmocka_unit_test (every_status_has_its_verdict),
        cmocka_unit_test (a_code_that_is_no_plain_word_is_not_shown),
    };
    return cmocka_run_group_tests_name ("requests", tests, NULL, NULL);
}
