/*  test_policy.c - the breaker, the limiter and the budget by themselves, and all
    of them in a client that comes through a long outage. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "include/backoff.h"
#include "include/policy.h"
#include "include/verdict.h"
#include "tests/unit/client_harness.h"

/*  ---- verdicts ----------------------------------------------------------- */

static void test_what_says_that_a_service_has_too_much_to_do (void **state)
{
    (void) state;
    for (unsigned status = 0; status < 1000; status++) {
        struct http_answer answer = { .outcome = HTTP_ANSWERED, .status = status };
        bool overloaded = status == 429 || status == 503 || status == 504;
        assert_int_equal (verdict_overloaded (&answer), overloaded);
    }
    for (enum http_outcome outcome = HTTP_UNREACHED; outcome <= HTTP_TOO_LARGE; outcome++) {
        struct http_answer answer = { .outcome = outcome, .status = 503 };
        assert_int_equal (verdict_overloaded (&answer), outcome == HTTP_TIMEOUT);
    }
}

/*  ---- waiting ------------------------------------------------------------ */

static void test_what_the_service_asks_for_is_waited_at_least_and_bounded (void **state)
{
    (void) state;
    for (uint64_t salt = 0; salt < 1000; salt++) {
        assert_int_equal (policy_wait_ms (3, salt, 0), backoff_ms (3, salt));
        assert_int_equal (policy_wait_ms (1, salt, 7000), 7000);
        assert_int_equal (policy_wait_ms (100, salt, UINT64_MAX), RETRY_AFTER_MAX_MS);
        uint64_t wait_ms = policy_wait_ms (100, salt, 1000);
        assert_in_range (wait_ms, 1000, BACKOFF_MAX_MS);
        assert_true (wait_ms == 1000 || wait_ms == backoff_ms (100, salt));
    }
}

/*  ---- the breaker -------------------------------------------------------- */

/*  Every state that a breaker can be in, each reached as a client reaches it. */
enum stage { STAGE_NEW, STAGE_CLOSED, STAGE_DOWN, STAGE_ASKING, STAGE_TRIPPED, STAGE_TRYING, STAGE_BOTH };

static struct breaker breaker_at (enum stage stage)
{
    struct breaker breaker;
    breaker_init (&breaker);
    if (stage == STAGE_NEW)
        return breaker;
    breaker_answered (&breaker);
    if (stage == STAGE_DOWN || stage == STAGE_ASKING || stage == STAGE_BOTH)
        breaker_down (&breaker, 2000, 100);
    if (stage == STAGE_TRIPPED || stage == STAGE_TRYING || stage == STAGE_BOTH)
        breaker_trip (&breaker, 2000, 100);
    breaker_tick (&breaker, stage == STAGE_ASKING || stage == STAGE_TRYING ? 2100 : 2099);
    return breaker;
}

enum happens { TIME_SHORT, TIME_ENOUGH, DOWN, TRIP, ASK, ANSWERED, GOOD };

static void happen (struct breaker *breaker, enum happens what)
{
    switch (what) {
    case TIME_SHORT:
        breaker_tick (breaker, 2099);
        return;
    case TIME_ENOUGH:
        breaker_tick (breaker, 2100);
        return;
    case DOWN:
        breaker_down (breaker, 2050, 500);
        return;
    case TRIP:
        breaker_trip (breaker, 2050, 500);
        return;
    case ASK:
        breaker_ask (breaker);
        return;
    case ANSWERED:
        breaker_answered (breaker);
        return;
    case GOOD:
        breaker_good (breaker);
        return;
    }
}

/*  The whole table: from each stage, by each thing that can happen, to a state in
    which the question probes or not, and requests are tried singly or not. */
static void test_every_transition_of_the_breaker (void **state)
{
    (void) state;
    enum { C = BREAKER_CLOSED, H = BREAKER_HALF_OPEN, O = BREAKER_OPEN };
    static const struct {
        enum stage stage;
        enum happens what;
        unsigned state;
        bool asking, trial;
        uint32_t allows;   /* of a limit of 9 */
        uint64_t until_ms; /* when it is open */
        uint32_t failures;
    } rows[] = {
        { STAGE_NEW, TIME_ENOUGH, H, true, false, 0, 0, 0 },
        { STAGE_NEW, DOWN, O, true, false, 0, 2550, 1 },
        { STAGE_NEW, TRIP, H, true, true, 0, 0, 0 },
        { STAGE_NEW, ASK, H, true, false, 0, 0, 0 },
        { STAGE_NEW, ANSWERED, C, false, false, 9, 0, 0 },
        { STAGE_NEW, GOOD, C, false, false, 9, 0, 0 },
        { STAGE_CLOSED, TIME_ENOUGH, C, false, false, 9, 0, 0 },
        { STAGE_CLOSED, DOWN, O, true, false, 0, 2550, 1 },
        { STAGE_CLOSED, TRIP, O, false, true, 0, 2550, 1 },
        { STAGE_CLOSED, ASK, C, false, false, 9, 0, 0 },
        { STAGE_CLOSED, ANSWERED, C, false, false, 9, 0, 0 },
        { STAGE_CLOSED, GOOD, C, false, false, 9, 0, 0 },
        { STAGE_DOWN, TIME_SHORT, O, true, false, 0, 2100, 1 },
        { STAGE_DOWN, TIME_ENOUGH, H, true, false, 0, 0, 1 },
        { STAGE_DOWN, DOWN, O, true, false, 0, 2550, 2 },
        { STAGE_DOWN, TRIP, O, true, true, 0, 2100, 1 },
        { STAGE_DOWN, ASK, O, true, false, 0, 2100, 1 },
        { STAGE_DOWN, ANSWERED, C, false, false, 9, 0, 0 },
        { STAGE_DOWN, GOOD, C, false, false, 9, 0, 0 },
        { STAGE_ASKING, DOWN, O, true, false, 0, 2550, 2 },
        { STAGE_ASKING, TRIP, H, true, true, 0, 0, 1 },
        { STAGE_ASKING, ANSWERED, C, false, false, 9, 0, 0 },
        { STAGE_ASKING, GOOD, C, false, false, 9, 0, 0 },
        { STAGE_TRIPPED, TIME_SHORT, O, false, true, 0, 2100, 1 },
        { STAGE_TRIPPED, TIME_ENOUGH, H, false, true, 1, 0, 1 },
        { STAGE_TRIPPED, DOWN, O, true, true, 0, 2550, 2 },
        { STAGE_TRIPPED, TRIP, O, false, true, 0, 2100, 1 },
        { STAGE_TRIPPED, ASK, H, true, false, 0, 0, 1 },
        { STAGE_TRIPPED, ANSWERED, O, false, true, 0, 2100, 1 },
        { STAGE_TRIPPED, GOOD, C, false, false, 9, 0, 0 },
        { STAGE_TRYING, DOWN, O, true, true, 0, 2550, 2 },
        { STAGE_TRYING, TRIP, O, false, true, 0, 2550, 2 },
        { STAGE_TRYING, ASK, H, true, false, 0, 0, 1 },
        { STAGE_TRYING, ANSWERED, H, false, true, 1, 0, 1 },
        { STAGE_TRYING, GOOD, C, false, false, 9, 0, 0 },
        { STAGE_BOTH, TIME_ENOUGH, H, true, true, 0, 0, 1 },
        { STAGE_BOTH, DOWN, O, true, true, 0, 2550, 2 },
        { STAGE_BOTH, ANSWERED, O, false, true, 0, 2100, 1 },
        { STAGE_BOTH, GOOD, C, false, false, 9, 0, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct breaker breaker = breaker_at (rows[i].stage);
        happen (&breaker, rows[i].what);
        if (breaker.state != rows[i].state || breaker.asking != rows[i].asking ||
            breaker.trial != rows[i].trial || breaker_allows (&breaker, 9) != rows[i].allows ||
            breaker.failures != rows[i].failures ||
            (rows[i].state == O && breaker.until_ms != rows[i].until_ms))
            fail_msg ("row %zu: state %u, asking %d, trial %d, allows %u, until %llu, failures %u", i,
                      (unsigned) breaker.state, breaker.asking, breaker.trial,
                      (unsigned) breaker_allows (&breaker, 9), (unsigned long long) breaker.until_ms,
                      (unsigned) breaker.failures);
    }
}

static void test_a_breaker_may_stay_open_for_ever (void **state)
{
    (void) state;
    struct breaker breaker = breaker_at (STAGE_CLOSED);
    breaker_down (&breaker, 5000, UINT64_MAX);
    breaker_tick (&breaker, UINT64_MAX - 1);
    assert_int_equal (breaker.state, BREAKER_OPEN);
    breaker.failures = UINT32_MAX;
    breaker_down (&breaker, 5000, 1);
    assert_int_equal (breaker.failures, UINT32_MAX);
}

/*  ---- the limiter -------------------------------------------------------- */

/*  Requests that are sent and end one after another, with so many under way. */
struct line {
    struct limiter limiter;
    uint64_t number;
};

static void good (struct line *line, uint64_t took_ms)
{
    line->number++;
    limiter_good (&line->limiter, &(struct sample){ .number = line->number,
                                                    .newest = line->number + line->limiter.limit - 1,
                                                    .took_ms = took_ms,
                                                    .full = true });
}

static void overloaded (struct line *line)
{
    line->number++;
    limiter_overloaded (&line->limiter, &(struct sample){ .number = line->number,
                                                          .newest = line->number + line->limiter.limit - 1,
                                                          .full = true });
}

static void test_after_an_outage_the_limit_grows_by_one_for_as_many_good_answers (void **state)
{
    (void) state;
    struct line line = { .number = 0 };
    limiter_init (&line.limiter);
    assert_int_equal (line.limiter.limit, HTTP_CONCURRENCY_MAX);
    limiter_restart (&line.limiter);
    for (uint32_t limit = 1; limit < HTTP_CONCURRENCY_MAX; limit++)
        for (uint32_t i = 0; i < limit; i++) {
            assert_int_equal (line.limiter.limit, limit);
            good (&line, 5);
        }
    for (unsigned i = 0; i < 1000; i++)
        good (&line, 5);
    assert_int_equal (line.limiter.limit, HTTP_CONCURRENCY_MAX);
}

static void test_a_limit_that_is_not_reached_does_not_grow (void **state)
{
    (void) state;
    struct limiter limiter;
    limiter_init (&limiter);
    limiter_restart (&limiter);
    for (uint64_t number = 1; number < 1000; number++)
        limiter_good (&limiter, &(struct sample){ .number = number, .newest = number, .took_ms = 5 });
    assert_int_equal (limiter.limit, 1);
}

static void test_an_overload_halves_the_limit_once_for_all_that_met_it (void **state)
{
    (void) state;
    struct line line = { .number = 0 };
    limiter_init (&line.limiter);
    static const uint32_t limits[] = { 8, 4, 2, 1, 1, 1 };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        uint32_t before = line.limiter.limit;
        uint64_t newest = line.number + before;
        while (line.number < newest)
            limiter_overloaded (&line.limiter, &(struct sample){ .number = ++line.number, .newest = newest });
        assert_int_equal (line.limiter.limit, limits[i]);
    }
    /*  One that was sent before the last of these is no news. */
    limiter_init (&line.limiter);
    line.limiter.settled = 50;
    limiter_overloaded (&line.limiter, &(struct sample){ .number = 50, .newest = 60 });
    assert_int_equal (line.limiter.limit, HTTP_CONCURRENCY_MAX);
    limiter_overloaded (&line.limiter, &(struct sample){ .number = 51, .newest = 60 });
    assert_int_equal (line.limiter.limit, HTTP_CONCURRENCY_MAX / 2);
}

/*  A service that serves `width` requests at once in `base_ms` each, and lets the
    others queue: what a request takes grows with those under way. */
static uint64_t queueing_ms (uint32_t flying, uint32_t width, uint64_t base_ms)
{
    return flying <= width ? base_ms : base_ms * flying / width;
}

static void test_a_service_that_gets_slow_is_asked_less_and_more_when_it_recovers (void **state)
{
    (void) state;
    struct line line = { .number = 0 };
    limiter_init (&line.limiter);
    for (unsigned i = 0; i < 500; i++)
        good (&line, queueing_ms (line.limiter.limit, 16, 10));
    assert_int_equal (line.limiter.limit, HTTP_CONCURRENCY_MAX);
    /*  It has lost all of its workers but one: what it is asked stays close to what
        that one can do, for as long as it takes. */
    for (unsigned i = 0; i < 100; i++)
        good (&line, queueing_ms (line.limiter.limit, 1, 10));
    for (unsigned i = 0; i < 20000; i++) {
        good (&line, queueing_ms (line.limiter.limit, 1, 10));
        assert_in_range (line.limiter.limit, 2, HTTP_CONCURRENCY_MAX / 2);
    }
    for (unsigned i = 0; i < 300; i++)
        good (&line, queueing_ms (line.limiter.limit, 16, 10));
    assert_int_equal (line.limiter.limit, HTTP_CONCURRENCY_MAX);
}

static void test_a_service_that_is_quick_for_some_and_slow_for_others_is_not_held_back (void **state)
{
    (void) state;
    uint64_t seed = (uint64_t) time (NULL);
    print_message ("seed %llu\n", (unsigned long long) seed);
    struct line line = { .number = 0 };
    limiter_init (&line.limiter);
    uint64_t sum = 0;
    for (unsigned i = 0; i < 20000; i++) {
        good (&line, draw (&seed) % 10 ? 2 : 200);
        sum += line.limiter.limit;
    }
    print_message ("on average %llu\n", (unsigned long long) (sum / 20000));
    assert_true (sum / 20000 >= HTTP_CONCURRENCY_MAX / 2);
}

static void test_what_is_slow_for_other_reasons_is_usual_before_long (void **state)
{
    (void) state;
    struct line line = { .number = 0 };
    limiter_init (&line.limiter);
    for (unsigned i = 0; i < 500; i++)
        good (&line, 2);
    bool shrank = false;
    for (unsigned i = 0; i < 400; i++) {
        good (&line, 600);
        shrank = shrank || line.limiter.limit < HTTP_CONCURRENCY_MAX / 2;
    }
    assert_true (shrank);
    assert_int_equal (line.limiter.limit, HTTP_CONCURRENCY_MAX);
}

static void test_a_few_milliseconds_more_or_less_are_noise (void **state)
{
    (void) state;
    uint64_t seed = (uint64_t) time (NULL);
    print_message ("seed %llu\n", (unsigned long long) seed);
    struct line line = { .number = 0 };
    limiter_init (&line.limiter);
    for (unsigned i = 0; i < 20000; i++) {
        good (&line, draw (&seed) % 20);
        assert_int_equal (line.limiter.limit, HTTP_CONCURRENCY_MAX);
    }
}

static void test_kinds_that_take_different_times_do_not_disturb_each_other (void **state)
{
    (void) state;
    struct limiter limiter;
    limiter_init (&limiter);
    for (uint64_t number = 1; number < 2000; number++) {
        uint8_t kind = number % 2;
        limiter_good (&limiter, &(struct sample){ .number = number,
                                                  .newest = number + 15,
                                                  .kind = kind,
                                                  .took_ms = kind ? 900 : 1,
                                                  .full = true });
        assert_int_equal (limiter.limit, HTTP_CONCURRENCY_MAX);
    }
}

static void test_the_limit_stays_within_its_bounds_whatever_comes (void **state)
{
    (void) state;
    uint64_t seed = (uint64_t) time (NULL);
    print_message ("seed %llu\n", (unsigned long long) seed);
    struct line line = { .number = 0 };
    limiter_init (&line.limiter);
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t dice = draw (&seed);
        if (dice % 10 == 0)
            overloaded (&line);
        else if (dice % 1000 == 1)
            limiter_restart (&line.limiter);
        else
            good (&line, dice % 7 ? dice % 100 : UINT64_MAX - dice % 3);
        assert_in_range (line.limiter.limit, 1, HTTP_CONCURRENCY_MAX);
    }
}

/*  ---- the budget --------------------------------------------------------- */

static void test_an_empty_budget_lets_a_repetition_wait_for_a_while (void **state)
{
    (void) state;
    struct budget budget;
    budget_init (&budget);
    uint64_t now_ms = 1000000;
    for (unsigned i = 0; i < BUDGET_BURST; i++) {
        assert_int_equal (budget_due (&budget, now_ms), now_ms);
        assert_true (budget_take (&budget, now_ms));
    }
    assert_false (budget_take (&budget, now_ms));
    uint64_t due_ms = budget_due (&budget, now_ms);
    assert_int_equal (due_ms, now_ms + 1000 / BUDGET_PER_SECOND);
    assert_false (budget_take (&budget, due_ms - 1));
    assert_int_equal (budget_due (&budget, due_ms - 1), due_ms);
    assert_true (budget_take (&budget, due_ms));
    assert_false (budget_take (&budget, due_ms));
    /*  Two that succeed pay for one more. */
    budget_good (&budget);
    assert_false (budget_take (&budget, due_ms));
    budget_good (&budget);
    assert_true (budget_take (&budget, due_ms));
    /*  However long nothing happens, it holds no more than the burst. */
    now_ms = due_ms + 86400000;
    for (unsigned i = 0; i < BUDGET_BURST; i++)
        assert_true (budget_take (&budget, now_ms));
    assert_false (budget_take (&budget, now_ms));
    for (unsigned i = 0; i < 10 * BUDGET_BURST; i++)
        budget_good (&budget);
    for (unsigned i = 0; i < BUDGET_BURST; i++)
        assert_true (budget_take (&budget, now_ms));
    assert_false (budget_take (&budget, now_ms));
}

static void test_repetitions_are_a_share_of_what_succeeds (void **state)
{
    (void) state;
    uint64_t seed = (uint64_t) time (NULL);
    print_message ("seed %llu\n", (unsigned long long) seed);
    struct budget budget;
    budget_init (&budget);
    uint64_t begin_ms = draw (&seed) % 1000000000, now_ms = begin_ms;
    uint64_t goods = 0, taken = 0;
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t dice = draw (&seed);
        now_ms += dice % 16 == 0 ? dice / 16 % 40 : 0;
        if (dice / 1024 % 3 == 0) {
            budget_good (&budget);
            goods++;
        } else
            taken += budget_take (&budget, now_ms);
        uint64_t most =
            BUDGET_BURST * BUDGET_COST + goods * BUDGET_SHARE + (now_ms - begin_ms) * BUDGET_PER_SECOND;
        assert_true (taken * BUDGET_COST <= most);
    }
    /*  Twice as many were wanted as succeeded: what may be used is used. */
    assert_true (taken >= goods * BUDGET_SHARE / BUDGET_COST);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_what_says_that_a_service_has_too_much_to_do),
        cmocka_unit_test (test_what_the_service_asks_for_is_waited_at_least_and_bounded),
        cmocka_unit_test (test_every_transition_of_the_breaker),
        cmocka_unit_test (test_a_breaker_may_stay_open_for_ever),
        cmocka_unit_test (test_after_an_outage_the_limit_grows_by_one_for_as_many_good_answers),
        cmocka_unit_test (test_a_limit_that_is_not_reached_does_not_grow),
        cmocka_unit_test (test_an_overload_halves_the_limit_once_for_all_that_met_it),
        cmocka_unit_test (test_a_service_that_gets_slow_is_asked_less_and_more_when_it_recovers),
        cmocka_unit_test (test_a_service_that_is_quick_for_some_and_slow_for_others_is_not_held_back),
        cmocka_unit_test (test_what_is_slow_for_other_reasons_is_usual_before_long),
        cmocka_unit_test (test_a_few_milliseconds_more_or_less_are_noise),
        cmocka_unit_test (test_kinds_that_take_different_times_do_not_disturb_each_other),
        cmocka_unit_test (test_the_limit_stays_within_its_bounds_whatever_comes),
        cmocka_unit_test (test_an_empty_budget_lets_a_repetition_wait_for_a_while),
        cmocka_unit_test (test_repetitions_are_a_share_of_what_succeeds),
    };
    return cmocka_run_group_tests_name ("policy", tests, NULL, NULL);
}
