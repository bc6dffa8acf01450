/*  test_policy.c - the breaker, the limiter and the budget by themselves, and all
    of them in a client that comes through a long outage. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "actors/usermeta_client/usermeta_client.h"
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

/*  ---- a client, and a service under load --------------------------------- */

enum { WRITES_MAX = 10000 };

/*  How the service fails, while it does. */
enum trouble { WELL, UNREACHED, TIMES_OUT, ANSWERS_503, TROUBLES };

/*  One usermeta client that is asked to write, one request a write, and its service,
    in virtual time. */
struct world {
    struct harness h;
    uint64_t seed;
    enum trouble trouble;
    unsigned failing; /* writes in a hundred that are answered 500 */
    uint64_t base_ms; /* how long a request takes … */
    uint32_t width;   /* … when no more than so many are under way */
    bool even;        /* each takes the same time */

    struct {
        uint64_t id, sent_ms, end_ms;
        bool write;
        unsigned who;
    } flights[HTTP_CONCURRENCY_MAX];
    uint32_t flying, writing; /* requests under way, and those of them that are writes */

    uint64_t gauges[GAUGE_CONCURRENCY + 1];
    uint32_t attempts[WRITES_MAX];
    uint8_t answers[WRITES_MAX];
    unsigned sent, written, answered,
        repeated; /* writes: attempts, good ones, ended, attempts after the first */
    unsigned questions;
    uint32_t most_writing; /* at once, since the test set it to 0 */
};

static void world_open (struct world *world, uint64_t seed)
{
    memset (world, 0, sizeof *world);
    print_message ("seed %llu\n", (unsigned long long) seed);
    world->seed = seed;
    world->base_ms = 10;
    world->width = HTTP_CONCURRENCY_MAX;
    struct settings settings = harness_settings ();
    settings.window = WRITES_MAX;
    settings.hash_seed = seed;
    harness_open (&world->h, &usermeta_client_spec, &settings);
    world->gauges[GAUGE_CONCURRENCY] = HTTP_CONCURRENCY_MAX;
}

static void world_ask (struct world *world, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char user[16];
        snprintf (user, sizeof user, "u%u", i);
        struct message message = { .id = MESSAGE_WRITE_META, .from = DECISION (0) };
        message.write_meta.request = i;
        message.write_meta.user = text_of (user);
        message.write_meta.key = TEXT_LITERAL ("k");
        message.write_meta.value = TEXT_LITERAL ("v");
        harness_handle (&world->h, &message);
    }
    harness_turn (&world->h);
}

/*  The user of a write, "/auth/{secret}.u<number>/k"; false for a question. */
static bool write_of (struct text path, unsigned *who)
{
    static const char head[] = "/auth/{secret}.u";
    if (path.size < sizeof head || memcmp (path.data, head, sizeof head - 1) != 0)
        return false;
    *who = 0;
    for (uint32_t i = sizeof head - 1; i < path.size && path.data[i] != '/'; i++)
        *who = *who * 10 + (unsigned) (path.data[i] - '0');
    return true;
}

static void world_send (struct world *world, const struct message *message)
{
    assert_true (world->flying < HTTP_CONCURRENCY_MAX);
    unsigned who = 0;
    bool write = write_of (path_of (message), &who);
    uint64_t now_ms = world->h.now.steady_ms;
    uint64_t took_ms = world->base_ms;
    if (world->trouble == TIMES_OUT)
        took_ms = message->http_request.timeout_ms;
    else if (world->trouble != WELL)
        took_ms = 1;
    else if (world->flying + 1 > world->width)
        took_ms = world->base_ms * (world->flying + 1) / world->width;
    else if (!world->even)
        took_ms = world->base_ms / 2 + draw (&world->seed) % world->base_ms;
    world->flights[world->flying].id = message->http_request.request;
    world->flights[world->flying].sent_ms = now_ms;
    world->flights[world->flying].end_ms = now_ms + took_ms;
    world->flights[world->flying].write = write;
    world->flights[world->flying++].who = who;
    if (!write) {
        world->questions++;
        return;
    }
    world->sent++;
    world->repeated += world->attempts[who]++ > 0;
    world->writing++;
    if (world->writing > world->most_writing)
        world->most_writing = world->writing;
}

/*  Takes note of all that the client put. */
static void world_look (struct world *world)
{
    for (size_t i = 0; i < world->h.count; i++) {
        const struct message *message = world->h.effects[i].message;
        if (message->id == MESSAGE_HTTP_REQUEST)
            world_send (world, message);
        if (message->id == MESSAGE_MEASURE)
            world->gauges[message->measure.gauge] = message->measure.value;
        if (message->id == MESSAGE_META_WRITTEN) {
            assert_int_equal (world->answers[message->meta_written.request]++, 0);
            world->answered++;
        }
    }
    harness_clear (&world->h);
}

/*  Ends the request that ends first. */
static void world_land (struct world *world, uint32_t which)
{
    struct http_answer answer = { .request = world->flights[which].id };
    bool write = world->flights[which].write;
    answer.elapsed_ms = world->flights[which].end_ms - world->flights[which].sent_ms;
    if (world->trouble == UNREACHED)
        answer.outcome = HTTP_UNREACHED;
    else if (world->trouble == TIMES_OUT)
        answer.outcome = HTTP_TIMEOUT;
    else {
        bool fails = write && draw (&world->seed) % 100 < world->failing;
        answer.outcome = HTTP_ANSWERED;
        answer.status = world->trouble == ANSWERS_503 ? 503 : fails ? 500 : 200;
        answer.body_state = BODY_NONE;
        world->written += write && answer.status == 200;
    }
    world->flights[which] = world->flights[--world->flying];
    world->writing -= write;
    harness_deliver (&world->h, &(struct message){ .id = MESSAGE_HTTP_ANSWER, .http_answer = answer });
}

/*  One step: whatever comes first, the end of a request or a timer. False when that
    is later than `end_ms`, or nothing will come any more. */
static bool world_step (struct world *world, uint64_t end_ms)
{
    struct harness *h = &world->h;
    uint32_t first = 0;
    world_look (world);
    for (uint32_t i = 1; i < world->flying; i++)
        if (world->flights[i].end_ms < world->flights[first].end_ms)
            first = i;
    size_t timer = harness_next_timer (h);
    bool fires = timer < TIMERS_MAX && (!world->flying || h->timers[timer] <= world->flights[first].end_ms);
    if (!fires && !world->flying)
        return false;
    uint64_t at_ms = fires ? h->timers[timer] : world->flights[first].end_ms;
    if (at_ms > end_ms)
        return false;
    if (at_ms > h->now.steady_ms)
        harness_advance (h, at_ms - h->now.steady_ms);
    if (fires)
        harness_fire (h);
    else
        world_land (world, first);
    world_look (world);
    return true;
}

/*  What the limit may be after so many good answers since the outage: one more for
    as many as there may be at once. */
static uint32_t limit_after (unsigned good)
{
    uint32_t limit = 1;
    while (limit < HTTP_CONCURRENCY_MAX && good >= limit * (limit + 1) / 2)
        limit++;
    return limit;
}

static void test_after_an_hour_ten_thousand_come_back_gently (void **state)
{
    (void) state;
    static struct world world;
    uint64_t first = (uint64_t) time (NULL) * 10;
    for (enum trouble trouble = UNREACHED; trouble < TROUBLES; trouble++) {
        world_open (&world, first + trouble);
        world.trouble = trouble;
        world_ask (&world, WRITES_MAX);
        uint64_t well_ms = world.h.now.steady_ms + 3600000;
        while (world_step (&world, well_ms))
            ;
        /*  Those that were under way when it began, and while the first question was;
            from then on the question alone. */
        assert_in_range (world.sent, 1, HTTP_CONCURRENCY_MAX * 3 / 2);
        assert_in_range (world.questions, 200, 3600000 / (BACKOFF_MAX_MS / 2) + 200);
        assert_int_equal (world.answered, 0);
        assert_int_not_equal (world.gauges[GAUGE_BREAKER], BREAKER_CLOSED);
        assert_int_equal (world.gauges[GAUGE_CONCURRENCY], 1);
        assert_int_equal (world.gauges[GAUGE_QUEUE], WRITES_MAX);

        world.trouble = WELL;
        unsigned sent_before = world.sent;
        uint64_t second_ms = 0;
        for (unsigned in_second = 0, seen = world.sent; world_step (&world, UINT64_MAX); seen = world.sent) {
            uint32_t limit = limit_after (world.written);
            assert_true (world.writing <= limit);
            assert_true (world.gauges[GAUGE_CONCURRENCY] <= limit);
            uint64_t now_ms = world.h.now.steady_ms;
            if (now_ms - second_ms >= 1000) {
                second_ms = now_ms;
                in_second = 0;
            }
            /*  None takes less than half of what they take on average. */
            in_second += world.sent - seen;
            assert_true (in_second <= limit * (1000 / (world.base_ms / 2) + 1));
        }
        assert_int_equal (world.answered, WRITES_MAX);
        assert_int_equal (world.written, WRITES_MAX);
        assert_int_equal (world.sent - sent_before, WRITES_MAX);
        assert_int_equal (world.most_writing, HTTP_CONCURRENCY_MAX);
        assert_int_equal (world.gauges[GAUGE_CONCURRENCY], HTTP_CONCURRENCY_MAX);
        assert_int_equal (world.gauges[GAUGE_BREAKER], BREAKER_CLOSED);
        assert_int_equal (world.gauges[GAUGE_QUEUE], 0);
        /*  At 16 at once they take 6.25 s; on top comes the beginning, and what is left
            of the last wait, or of the time that a question may take. */
        assert_true (world.h.now.steady_ms - well_ms < 20000);
        harness_free (&world.h);
    }
}

static void test_a_service_that_is_well_from_the_start_is_asked_sixteen_at_once (void **state)
{
    (void) state;
    static struct world world;
    world_open (&world, (uint64_t) time (NULL));
    world.even = true;
    world_ask (&world, 1600);
    uint64_t begin_ms = world.h.now.steady_ms;
    while (world_step (&world, UINT64_MAX))
        ;
    assert_int_equal (world.written, 1600);
    assert_int_equal (world.h.now.steady_ms - begin_ms, 1600 / HTTP_CONCURRENCY_MAX * 10);
    harness_free (&world.h);
}

static void test_repetitions_wait_for_the_budget_and_none_is_dropped (void **state)
{
    (void) state;
    static struct world world;
    world_open (&world, (uint64_t) time (NULL));
    world.failing = 70;
    world_ask (&world, 4000);
    uint64_t begin_ms = world.h.now.steady_ms;
    uint64_t left_least = UINT64_MAX;
    while (world_step (&world, UINT64_MAX)) {
        uint64_t paid = BUDGET_BURST * BUDGET_COST + world.written * BUDGET_SHARE +
                        (world.h.now.steady_ms - begin_ms) * BUDGET_PER_SECOND;
        assert_true (world.repeated * BUDGET_COST <= paid);
        uint64_t left = paid - world.repeated * BUDGET_COST;
        left_least = left < left_least ? left : left_least;
    }
    /*  It came close to what may be: it was the budget that they waited for. */
    assert_true (left_least < BUDGET_BURST * BUDGET_COST / 2);
    assert_int_equal (world.answered, 4000);
    harness_free (&world.h);
}

static void test_a_slow_service_is_asked_less_at_once_and_more_when_it_recovers (void **state)
{
    (void) state;
    static struct world world;
    world_open (&world, (uint64_t) time (NULL));
    world_ask (&world, WRITES_MAX);
    while (world.written < 1000)
        assert_true (world_step (&world, UINT64_MAX));
    assert_int_equal (world.gauges[GAUGE_CONCURRENCY], HTTP_CONCURRENCY_MAX);
    world.width = 1;
    while (world.written < 1200)
        assert_true (world_step (&world, UINT64_MAX));
    world.most_writing = 0;
    while (world.written < 4000)
        assert_true (world_step (&world, UINT64_MAX));
    assert_in_range (world.most_writing, 1, HTTP_CONCURRENCY_MAX / 2);
    world.width = HTTP_CONCURRENCY_MAX;
    while (world.written < 5000)
        assert_true (world_step (&world, UINT64_MAX));
    assert_int_equal (world.gauges[GAUGE_CONCURRENCY], HTTP_CONCURRENCY_MAX);
    while (world_step (&world, UINT64_MAX))
        ;
    assert_int_equal (world.written, WRITES_MAX);
    harness_free (&world.h);
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
        cmocka_unit_test (test_after_an_hour_ten_thousand_come_back_gently),
        cmocka_unit_test (test_a_service_that_is_well_from_the_start_is_asked_sixteen_at_once),
        cmocka_unit_test (test_repetitions_wait_for_the_budget_and_none_is_dropped),
        cmocka_unit_test (test_a_slow_service_is_asked_less_at_once_and_more_when_it_recovers),
    };
    return cmocka_run_group_tests_name ("policy", tests, NULL, NULL);
}
