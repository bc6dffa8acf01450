/*  test_currency_client.c - the currency client, with the service played by
    hand. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "actors/currency_client/currency_client.h"
#include "include/client.h"
#include "tests/unit/client_harness.h"

#define PROBE "/auth/{secret}.guerdon-probe/coins/gold/count"
#define REWARDS "/rewards"

static void give (struct harness *h, uint64_t request, const char *user)
{
    harness_handle (h, &(struct message){ .id = MESSAGE_GIVE,
                                          .trace = request + 1000,
                                          .from = DECISION (0),
                                          .give = { .request = request,
                                                    .user = text_of (user),
                                                    .amount = 10,
                                                    .currency = TEXT_LITERAL ("gold"),
                                                    .reward = TEXT_LITERAL ("promo1") } });
}

static void give_many (struct harness *h, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char user[16];
        snprintf (user, sizeof user, "user%02u", i);
        give (h, i, user);
    }
    harness_turn (h);
}

/*  GIVENs said so far, taken or not. */
static unsigned givens (const struct harness *h, enum result result)
{
    unsigned count = 0;
    for (size_t i = 0; i < h->count; i++)
        count += h->effects[i].message->id == MESSAGE_GIVEN && h->effects[i].message->given.result == result;
    return count;
}

/*  How the service answers rewards; the question it answers well. */
struct stand_in {
    unsigned status;    /* of rewards to others than the poisonous one */
    const char *poison; /* rewards to this user are answered 500 */
    unsigned posts;     /* rewards asked for so far */
    unsigned together;  /* requests under way at once, at most */
};

static void serve_one (struct harness *h, struct stand_in *service, const struct message *asked)
{
    unsigned status = 200;
    if (asked->http_request.method == METHOD_POST) {
        struct raw to;
        struct text user = NO_TEXT;
        assert_true (raw_path (asked->http_request.body, "to", &to));
        assert_true (raw_text (to, &user));
        service->posts++;
        status = service->poison && harness_says (user, service->poison) ? 500 : service->status;
    }
    answer_status (h, asked->http_request.request, status);
}

/*  Lets so much time pass, with the service at work. */
static void serve (struct harness *h, struct stand_in *service, uint64_t ms)
{
    uint64_t end = h->now.steady_ms + ms;
    for (;;) {
        unsigned together = (unsigned) harness_count (h, MESSAGE_HTTP_REQUEST);
        service->together = together > service->together ? together : service->together;
        const struct message *asked = harness_take (h, MESSAGE_HTTP_REQUEST);
        if (asked) {
            serve_one (h, service, asked);
            continue;
        }
        size_t timer = harness_next_timer (h);
        if (timer == TIMERS_MAX || h->timers[timer] > end)
            break;
        harness_fire (h);
    }
    if (h->now.steady_ms < end)
        harness_advance (h, end - h->now.steady_ms);
}

/*  ---- the probe ---------------------------------------------------------- */

static void probe_counts_the_coins_of_nobody (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    settings.reward_currency = "gold/\xc3\xa9,";
    struct harness h;
    harness_init (&h, &currency_client_spec, &settings);
    harness_start (&h);
    open_from (&h, 0);
    const struct message *probe = harness_take (&h, MESSAGE_HTTP_REQUEST);
    assert_true (harness_says (path_of (probe), "/auth/{secret}.guerdon-probe/coins/gold%2F%C3%A9%2C/count"));
    assert_int_equal (probe->http_request.method, METHOD_GET);
    assert_int_equal (probe->http_request.service, SERVICE_CURRENCY);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 0);
    answer_broken (&h, probe->http_request.request, HTTP_UNREACHED);
    assert_int_equal (last_health (&h)->state, SERVICE_DOWN);
    assert_true (harness_mentions (last_health (&h)->reason, "it rains"));
    assert_true (harness_fire (&h));
    answer_status (&h, next_request (&h, NULL), 200);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 1);
    assert_int_equal (last_health (&h)->state, SERVICE_UP);
    harness_free (&h);
}

static void probe_denied_ends_it (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_init (&h, &currency_client_spec, &settings);
    harness_start (&h);
    answer_status (&h, next_request (&h, PROBE), 401);
    assert_int_equal (last_health (&h)->state, SERVICE_REJECTS);
    assert_true (harness_says (last_health (&h)->reason, "the service rejects API_SECRET (HTTP 401)"));
    harness_run (&h, 600000);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    harness_free (&h);
}

/*  ---- giving ------------------------------------------------------------- */

static void a_reward_is_posted_as_the_original_does (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &currency_client_spec, &settings);
    harness_deliver (&h, &(struct message){ .id = MESSAGE_GIVE,
                                            .trace = 77,
                                            .from = DECISION (2),
                                            .give = { .request = 5,
                                                      .user = TEXT_LITERAL ("a/b\0c"),
                                                      .amount = -3,
                                                      .currency = TEXT_LITERAL ("gold"),
                                                      .reward = TEXT_LITERAL ("promo1") } });
    const struct message *asked = harness_take (&h, MESSAGE_HTTP_REQUEST);
    assert_true (harness_says (path_of (asked), REWARDS));
    assert_int_equal (asked->http_request.method, METHOD_POST);
    assert_int_equal (asked->trace, 77);
    struct reply reply;
    struct packer *body = reply_begin (&reply);
    pack_map (body, 6);
    pack_literal (body, "to");
    pack_text (body, TEXT_LITERAL ("a/b\0c"));
    pack_literal (body, "from");
    pack_literal (body, "rewards/v1");
    pack_literal (body, "secret");
    pack_secret (body);
    pack_literal (body, "amount");
    pack_int (body, -3);
    pack_literal (body, "currency");
    pack_literal (body, "gold");
    pack_literal (body, "data");
    pack_map (body, 1);
    pack_literal (body, "rewardId");
    pack_literal (body, "promo1");
    assert_int_equal (asked->http_request.body.size, body->size);
    assert_memory_equal (asked->http_request.body.data, body->data, body->size);
    /*  Whatever the body says: it is given. */
    answer_json (&h, asked->http_request.request, 201, reply_pair (&reply, "code", "rubbish"));
    struct recorded *given = harness_take_recorded (&h, MESSAGE_GIVEN);
    assert_int_equal (given->to.role, ROLE_DECISION);
    assert_int_equal (given->to.peer, 2);
    assert_int_equal (given->message->trace, 77);
    assert_int_equal (given->message->given.request, 5);
    assert_int_equal (given->message->given.result, RESULT_OK);
    harness_free (&h);
}

static void the_largest_reward_is_posted (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &currency_client_spec, &settings);
    static char bytes[USER_SIZE_MAX];
    memset (bytes, 'x', sizeof bytes);
    harness_deliver (&h, &(struct message){ .id = MESSAGE_GIVE,
                                            .give = { .user = { bytes, USER_SIZE_MAX },
                                                      .amount = INT64_MIN,
                                                      .currency = { bytes, NAME_SIZE_MAX },
                                                      .reward = { bytes, REWARD_SIZE_MAX } } });
    const struct message *asked = harness_take (&h, MESSAGE_HTTP_REQUEST);
    assert_non_null (asked);
    struct raw found;
    struct text text = NO_TEXT;
    assert_true (raw_path (asked->http_request.body, "currency", &found));
    assert_true (raw_text (found, &text));
    assert_int_equal (text.size, NAME_SIZE_MAX);
    assert_true (raw_path (asked->http_request.body, "data.rewardId", &found));
    assert_true (raw_text (found, &text));
    assert_int_equal (text.size, REWARD_SIZE_MAX);
    harness_free (&h);
}

static void a_refusal_says_why_and_no_secret (void **state)
{
    (void) state;
    static const unsigned statuses[] = { 400, 404, 409, 422 };
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        struct settings settings = harness_settings ();
        struct harness h;
        harness_open (&h, &currency_client_spec, &settings);
        give (&h, 9, "alice");
        harness_turn (&h);
        struct reply reply;
        struct packer *packer = reply_begin (&reply);
        pack_map (packer, 2);
        pack_literal (packer, "message");
        pack_literal (packer, "bad body: {\"secret\":\"s3cret\"}");
        pack_literal (packer, "code");
        pack_literal (packer, "InvalidContent");
        answer_json (&h, next_request (&h, REWARDS), statuses[i], packer_raw (packer));
        const struct message *given = harness_take (&h, MESSAGE_GIVEN);
        char reason[64];
        snprintf (reason, sizeof reason, "HTTP %u: InvalidContent", statuses[i]);
        assert_int_equal (given->given.result, RESULT_REFUSED);
        assert_int_equal (given->given.request, 9);
        assert_true (harness_says (given->given.reason, reason));
        assert_null (last_health (&h));
        harness_free (&h);
    }
}

static void at_most_sixteen_are_under_way (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &currency_client_spec, &settings);
    give_many (&h, 100);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), HTTP_CONCURRENCY_MAX);
    struct stand_in service = { .status = 200 };
    serve (&h, &service, 1);
    assert_int_equal (service.together, HTTP_CONCURRENCY_MAX);
    assert_int_equal (service.posts, 100);
    assert_int_equal (givens (&h, RESULT_OK), 100);
    harness_free (&h);
}

static void answers_late_twice_or_for_nobody_change_nothing (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &currency_client_spec, &settings);
    give (&h, 1, "alice");
    harness_turn (&h);
    uint64_t asked = next_request (&h, REWARDS);
    answer_status (&h, asked + 7, 400);
    answer_status (&h, 0, 200);
    answer_status (&h, asked, 200);
    answer_status (&h, asked, 200);
    answer_status (&h, asked, 500);
    answer_broken (&h, asked, HTTP_UNREACHED);
    assert_int_equal (harness_count (&h, MESSAGE_GIVEN), 1);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    assert_null (last_health (&h));
    harness_free (&h);
}

/*  ---- culprits and outages ----------------------------------------------- */

static void failures_are_tried_again_until_given (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &currency_client_spec, &settings);
    give (&h, 1, "alice");
    harness_turn (&h);
    static const unsigned statuses[] = { 500, 503, 408, 401, 403, 302 };
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        answer_status (&h, next_request (&h, REWARDS), statuses[i]);
        assert_int_equal (harness_count (&h, MESSAGE_GIVEN), 0);
        answer_status (&h, next_request (&h, PROBE), 200);
        assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
        assert_true (harness_fire (&h));
    }
    answer_later (&h, next_request (&h, REWARDS), 429, 2000);
    assert_true (harness_fire (&h));
    answer_broken (&h, next_request (&h, REWARDS), HTTP_TIMEOUT);
    answer_status (&h, next_request (&h, PROBE), 200);
    assert_true (harness_fire (&h));
    answer_status (&h, next_request (&h, REWARDS), 200);
    assert_int_equal (givens (&h, RESULT_OK), 1);
    harness_free (&h);
}

static void while_the_service_is_down_only_the_question_is_asked (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &currency_client_spec, &settings);
    give_many (&h, 100);
    uint64_t end = h.now.steady_ms + 3600000;
    unsigned posts = 0, questions = 0;
    while (h.now.steady_ms < end) {
        const struct message *asked = harness_take (&h, MESSAGE_HTTP_REQUEST);
        if (!asked) {
            assert_true (harness_fire (&h));
            continue;
        }
        posts += asked->http_request.method == METHOD_POST;
        questions += asked->http_request.method == METHOD_GET;
        answer_broken (&h, asked->http_request.request, HTTP_UNREACHED);
    }
    assert_int_equal (posts, HTTP_CONCURRENCY_MAX);
    assert_in_range (questions, 3600 / 5, 3600 / 5 * 2 + 20);
    assert_int_equal (harness_count (&h, MESSAGE_GIVEN), 0);
    assert_int_equal (harness_count (&h, MESSAGE_HEALTH), 1);
    assert_int_equal (last_health (&h)->state, SERVICE_DOWN);
    struct stand_in service = { .status = 200 };
    serve (&h, &service, 10000);
    assert_int_equal (givens (&h, RESULT_OK), 100);
    assert_int_equal (last_health (&h)->state, SERVICE_UP);
    harness_free (&h);
}

static void rewards_that_all_fail_are_tried_one_at_a_time_and_kept (void **state)
{
    (void) state;
    static const unsigned statuses[] = { 500, 401 };
    for (size_t i = 0; i < 2; i++) {
        struct settings settings = harness_settings ();
        struct harness h;
        harness_open (&h, &currency_client_spec, &settings);
        give_many (&h, 100);
        struct stand_in service = { .status = statuses[i] };
        serve (&h, &service, 60000);
        service.together = 0;
        service.posts = 0;
        serve (&h, &service, 3600000);
        assert_true (service.posts <= 3600000 / 2500 + 100); /* 2.5 s between them, give or take */
        assert_true (service.posts > 600);
        assert_true (service.together <= 2); /* a reward, and the question */
        assert_int_equal (givens (&h, RESULT_REFUSED), 0);
        assert_int_equal (harness_count (&h, MESSAGE_HEALTH), 1);
        assert_int_equal (last_health (&h)->state, SERVICE_DOWN);
        service.status = 200;
        serve (&h, &service, 10000);
        assert_int_equal (givens (&h, RESULT_OK), 100);
        assert_int_equal (last_health (&h)->state, SERVICE_UP);
        harness_free (&h);
    }
}

static void one_reward_alone_is_never_given_up_without_proof (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &currency_client_spec, &settings);
    give (&h, 1, "alice");
    harness_turn (&h);
    struct stand_in service = { .status = 500 };
    serve (&h, &service, 3600000);
    assert_int_equal (harness_count (&h, MESSAGE_GIVEN), 0);
    /*  One success of another is one strike, however often it fails then. */
    service = (struct stand_in){ .status = 200, .poison = "alice" };
    give (&h, 2, "bob");
    harness_turn (&h);
    serve (&h, &service, 600000);
    assert_int_equal (givens (&h, RESULT_OK), 1);
    assert_int_equal (givens (&h, RESULT_REFUSED), 0);
    service.poison = NULL;
    serve (&h, &service, 10000);
    assert_int_equal (givens (&h, RESULT_OK), 2);
    harness_free (&h);
}

static void a_poisonous_reward_is_given_up_when_others_succeed (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &currency_client_spec, &settings);
    give (&h, 1000, "poison");
    harness_turn (&h);
    struct stand_in service = { .status = 200, .poison = "poison" };
    for (unsigned i = 0; i < 100 && givens (&h, RESULT_REFUSED) == 0; i++) {
        assert_int_equal (givens (&h, RESULT_OK), i);
        give (&h, i, "alice");
        harness_turn (&h);
        serve (&h, &service, 2000);
    }
    assert_int_equal (givens (&h, RESULT_REFUSED), 1);
    assert_true (givens (&h, RESULT_OK) >= 30);
    assert_null (last_health (&h));
    const struct message *given;
    while ((given = harness_take (&h, MESSAGE_GIVEN))->given.request != 1000)
        ;
    assert_true (harness_says (given->given.reason, "the service answers 500 to this user id alone"));
    harness_free (&h);
}

/*  ---- bounds ------------------------------------------------------------- */

static void what_exceeds_the_capacity_is_refused (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    settings.window = 1;
    struct harness h;
    harness_open (&h, &currency_client_spec, &settings);
    give_many (&h, 1 + REQUESTS_SPARE);
    give (&h, 1000, "zoe");
    assert_int_equal (harness_count (&h, MESSAGE_GIVEN), 1);
    const struct message *given = harness_take (&h, MESSAGE_GIVEN);
    assert_int_equal (given->given.request, 1000);
    assert_int_equal (given->given.result, RESULT_REFUSED);
    assert_true (harness_says (given->given.reason, "too many requests"));
    assert_int_equal (harness_logs (&h, LOG_ERROR), 1);
    struct stand_in service = { .status = 200 };
    serve (&h, &service, 1);
    assert_int_equal (givens (&h, RESULT_OK), 1 + REQUESTS_SPARE);
    harness_free (&h);
}

static void drained_is_said_once_and_only_when_idle (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &currency_client_spec, &settings);
    give (&h, 1, "alice");
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    give (&h, 2, "bob");
    harness_turn (&h);
    answer_status (&h, next_request (&h, REWARDS), 200);
    assert_int_equal (harness_count (&h, MESSAGE_DRAINED), 0);
    answer_status (&h, next_request (&h, REWARDS), 200);
    assert_int_equal (harness_count (&h, MESSAGE_DRAINED), 1);
    give (&h, 3, "carol");
    harness_turn (&h);
    answer_status (&h, next_request (&h, REWARDS), 200);
    assert_int_equal (givens (&h, RESULT_OK), 3);
    assert_int_equal (harness_count (&h, MESSAGE_DRAINED), 1);
    harness_free (&h);
}

/*  ---- anything goes ------------------------------------------------------ */

static void every_reward_is_answered_exactly_once (void **state)
{
    (void) state;
    enum { REWARDS_COUNT = 300 };
    uint64_t first = (uint64_t) time (NULL) * 1000;
    for (uint64_t round = 0; round < 30; round++) {
        uint64_t seed = first + round;
        print_message ("seed %llu\n", (unsigned long long) seed);
        struct settings settings = harness_settings ();
        settings.window = REWARDS_COUNT;
        settings.hash_seed = seed;
        struct harness h;
        harness_open (&h, &currency_client_spec, &settings);
        give_many (&h, REWARDS_COUNT);
        unsigned steps = 0, posts_good = 0;
        while (harness_count (&h, MESSAGE_HTTP_REQUEST) || harness_next_timer (&h) < TIMERS_MAX) {
            assert_true (steps++ < 100000);
            const struct message *asked = harness_take (&h, MESSAGE_HTTP_REQUEST);
            static const unsigned statuses[] = { 200, 200, 200, 200, 500, 429, 401, 503 };
            unsigned how = (unsigned) (draw (&seed) % 10);
            if (!asked)
                harness_fire (&h);
            else if (how < 8) {
                posts_good += asked->http_request.method == METHOD_POST && statuses[how] == 200;
                answer_status (&h, asked->http_request.request, statuses[how]);
            } else
                answer_broken (&h, asked->http_request.request, how == 8 ? HTTP_BROKEN : HTTP_UNREACHED);
        }
        /*  Never given twice: a reward that was given is not asked for again. */
        assert_int_equal (posts_good, givens (&h, RESULT_OK));
        assert_int_equal (givens (&h, RESULT_OK) + givens (&h, RESULT_REFUSED), REWARDS_COUNT);
        static uint8_t answers[REWARDS_COUNT];
        memset (answers, 0, sizeof answers);
        const struct message *given;
        while ((given = harness_take (&h, MESSAGE_GIVEN)))
            assert_int_equal (answers[given->given.request]++, 0);
        harness_free (&h);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (probe_counts_the_coins_of_nobody),
        cmocka_unit_test (probe_denied_ends_it),
        cmocka_unit_test (a_reward_is_posted_as_the_original_does),
        cmocka_unit_test (the_largest_reward_is_posted),
        cmocka_unit_test (a_refusal_says_why_and_no_secret),
        cmocka_unit_test (at_most_sixteen_are_under_way),
        cmocka_unit_test (answers_late_twice_or_for_nobody_change_nothing),
        cmocka_unit_test (failures_are_tried_again_until_given),
        cmocka_unit_test (while_the_service_is_down_only_the_question_is_asked),
        cmocka_unit_test (rewards_that_all_fail_are_tried_one_at_a_time_and_kept),
        cmocka_unit_test (one_reward_alone_is_never_given_up_without_proof),
        cmocka_unit_test (a_poisonous_reward_is_given_up_when_others_succeed),
        cmocka_unit_test (what_exceeds_the_capacity_is_refused),
        cmocka_unit_test (drained_is_said_once_and_only_when_idle),
        cmocka_unit_test (every_reward_is_answered_exactly_once),
    };
    return cmocka_run_group_tests_name ("currency_client", tests, NULL, NULL);
}
