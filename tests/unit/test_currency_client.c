/*  test_currency_client.c - the currency client, with the service played by
    hand. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "actors/currency_client/currency_client.h"
#include "include/client.h"
#include "tests/unit/client_harness.h"

#define PROBE "/auth/{secret}.guerdon-probe/coins/gold/count"
#define REWARDS "/rewards"
#define LIST(user) "/auth/{secret}." user "/transactions?reasons=reward&currencies=gold&limit=1000"

enum { GRACE_MS = 2000, PATIENCE_MS = 60000 }; /* of harness_settings */

static void give_check (struct harness *h, uint64_t request, const char *user, uint64_t check)
{
    harness_handle (h, &(struct message){ .id = MESSAGE_GIVE,
                                          .trace = request + 1000,
                                          .from = DECISION (0),
                                          .give = { .request = request,
                                                    .user = text_of (user),
                                                    .amount = 10,
                                                    .currency = TEXT_LITERAL ("gold"),
                                                    .reward = TEXT_LITERAL ("promo1"),
                                                    .check = check } });
}

static void give (struct harness *h, uint64_t request, const char *user)
{
    give_check (h, request, user, 0);
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

/*  A transaction as the service lists it; what is NULL is left out. */
static void pack_transaction (struct packer *packer, uint64_t timestamp, const char *reward,
                              const char *currency)
{
    pack_map (packer, 4);
    pack_literal (packer, "timestamp");
    pack_uint (packer, timestamp);
    pack_literal (packer, "currency");
    pack_literal (packer, currency);
    pack_literal (packer, "reason");
    pack_literal (packer, "reward");
    pack_literal (packer, "data");
    pack_map (packer, 2);
    pack_literal (packer, "rewardId");
    pack_literal (packer, reward);
    pack_literal (packer, "from");
    pack_literal (packer, "rewards/v1");
}

/*  Answers a find, and the TURN after it: nothing there; our reward; another. */
static void answer_nothing (struct harness *h, uint64_t request)
{
    struct reply reply;
    pack_array (reply_begin (&reply), 0);
    answer_json (h, request, 200, packer_raw (&reply.packer));
    harness_turn (h);
}

static void answer_reward (struct harness *h, uint64_t request, const char *reward)
{
    struct reply reply;
    pack_array (reply_begin (&reply), 1);
    pack_transaction (&reply.packer, 1000, reward, "gold");
    answer_json (h, request, 200, packer_raw (&reply.packer));
    harness_turn (h);
}

/*  The next request is this one, and it goes out not before so much time has
    passed. The question is answered well on the way. */
static uint64_t next_after (struct harness *h, const char *path, uint64_t ms)
{
    uint64_t start = h->now.steady_ms;
    for (;;) {
        const struct message *asked = harness_take (h, MESSAGE_HTTP_REQUEST);
        if (!asked) {
            assert_true (harness_fire (h));
            continue;
        }
        if (harness_says (path_of (asked), PROBE)) {
            answer_status (h, asked->http_request.request, 200);
            continue;
        }
        if (!harness_says (path_of (asked), path))
            fail_msg ("asked %.*s instead of %s", (int) path_of (asked).size, path_of (asked).data, path);
        if (h->now.steady_ms - start < ms)
            fail_msg ("asked %s after %u ms", path, (unsigned) (h->now.steady_ms - start));
        return asked->http_request.request;
    }
}

/*  How the service answers rewards; the question it answers well. */
struct stand_in {
    unsigned status;      /* of rewards to others than the poisonous one */
    unsigned list_status; /* of lists, 0: as it should be */
    bool applies;         /* it gives rewards although it says otherwise */
    const char *poison;   /* rewards to this user are answered 500 */
    unsigned posts;       /* rewards asked for so far */
    unsigned finds;       /* lists asked for so far */
    unsigned together;    /* requests under way at once, at most */
    char books[4096];     /* "user;" for each reward that was given */
};

static void serve_post (struct harness *h, struct stand_in *service, const struct message *asked)
{
    struct raw to;
    struct text user = NO_TEXT;
    assert_true (raw_path (asked->http_request.body, "to", &to));
    assert_true (raw_text (to, &user));
    service->posts++;
    unsigned status = service->poison && harness_says (user, service->poison) ? 500 : service->status;
    if (service->applies || status == 200) {
        size_t size = strlen (service->books);
        snprintf (service->books + size, sizeof service->books - size, "%.*s;", (int) user.size, user.data);
    }
    answer_status (h, asked->http_request.request, status);
}

static void serve_one (struct harness *h, struct stand_in *service, const struct message *asked)
{
    char path[256], user[64];
    snprintf (path, sizeof path, "%.*s", (int) path_of (asked).size, path_of (asked).data);
    if (asked->http_request.method == METHOD_POST)
        serve_post (h, service, asked);
    else if (sscanf (path, "/auth/{secret}.%60[^/]/transactions?", user) != 1 || strstr (path, "/coins/"))
        answer_status (h, asked->http_request.request, 200);
    else {
        service->finds++;
        char entry[sizeof user + 1];
        snprintf (entry, sizeof entry, "%s;", user);
        if (service->list_status)
            answer_status (h, asked->http_request.request, service->list_status);
        else if (strstr (service->books, entry))
            answer_reward (h, asked->http_request.request, "promo1");
        else
            answer_nothing (h, asked->http_request.request);
    }
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
    static const unsigned statuses[] = { 500, 503, 408, 425, 401, 403, 302, 599 };
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        answer_status (&h, next_request (&h, REWARDS), statuses[i]);
        assert_int_equal (harness_count (&h, MESSAGE_GIVEN), 0);
        answer_nothing (&h, next_after (&h, LIST ("alice"), GRACE_MS));
    }
    answer_later (&h, next_request (&h, REWARDS), 429, 3000);
    answer_nothing (&h, next_after (&h, LIST ("alice"), 3000));
    static const enum http_outcome outcomes[] = { HTTP_TIMEOUT, HTTP_BROKEN, HTTP_TOO_LARGE };
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
        answer_broken (&h, next_request (&h, REWARDS), outcomes[i]);
        answer_nothing (&h, next_after (&h, LIST ("alice"), GRACE_MS));
    }
    /*  Without a connection nothing was done: it is not looked for. */
    answer_broken (&h, next_request (&h, REWARDS), HTTP_UNREACHED);
    answer_status (&h, next_after (&h, REWARDS, 1), 200);
    assert_int_equal (givens (&h, RESULT_OK), 1);
    assert_int_equal (harness_take (&h, MESSAGE_GIVEN)->given.found, 0);
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
    for (unsigned i = 0; i < 300 && givens (&h, RESULT_REFUSED) == 0; i++) {
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

/*  ---- finding ------------------------------------------------------------ */

static void begin (struct harness *h)
{
    struct settings settings = harness_settings ();
    harness_open (h, &currency_client_spec, &settings);
}

/*  The one answer there is. */
static const struct given *only_given (struct harness *h)
{
    assert_int_equal (harness_count (h, MESSAGE_GIVEN), 1);
    return &harness_take (h, MESSAGE_GIVEN)->given;
}

static void a_check_looks_first_and_not_too_soon (void **state)
{
    (void) state;
    struct harness h;
    begin (&h);
    give_check (&h, 1, "alice", 700);
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    answer_reward (&h, next_after (&h, LIST ("alice"), 700), "promo1");
    const struct given *given = only_given (&h);
    assert_int_equal (given->result, RESULT_OK);
    assert_int_equal (given->found, 1);
    /*  Another reward is not this one; what is not there is posted at once. */
    give_check (&h, 2, "bob", 1);
    harness_turn (&h);
    uint64_t start = h.now.steady_ms;
    answer_reward (&h, next_after (&h, LIST ("bob"), 1), "promo2");
    answer_reward (&h, next_request (&h, LIST ("bob") "&before=1001"), "promo2");
    answer_nothing (&h, next_request (&h, LIST ("bob") "&before=1000"));
    answer_status (&h, next_request (&h, REWARDS), 200);
    assert_int_equal (h.now.steady_ms - start, 1);
    given = only_given (&h);
    assert_int_equal (given->result, RESULT_OK);
    assert_int_equal (given->found, 0);
    harness_free (&h);
}

static void a_reward_that_this_give_posted_is_not_one_that_was_there_before (void **state)
{
    (void) state;
    struct harness h;
    begin (&h);
    give (&h, 1, "alice");
    give_check (&h, 2, "bob", 1);
    harness_turn (&h);
    answer_broken (&h, next_request (&h, REWARDS), HTTP_BROKEN);
    answer_status (&h, next_request (&h, PROBE), 200);
    answer_nothing (&h, next_after (&h, LIST ("bob"), 1));
    answer_broken (&h, next_request (&h, REWARDS), HTTP_TIMEOUT);
    for (unsigned i = 0; i < 2; i++) {
        const char *list = i ? LIST ("bob") : LIST ("alice");
        answer_reward (&h, next_after (&h, list, 1), "promo1");
        const struct given *given = only_given (&h);
        assert_int_equal (given->request, i + 1);
        assert_int_equal (given->result, RESULT_OK);
        assert_int_equal (given->found, 0);
    }
    harness_free (&h);
}

static void users_and_currencies_are_asked_for_as_they_are (void **state)
{
    (void) state;
    static const struct {
        const char *currency;
        const char *query;
    } cases[] = {
        { "gold", "&currencies=gold" },
        { "g&l d", "&currencies=g%26l%20d" },
        { "a,b", "" },          /* would be taken for two */
        { " gold", "" },        /* would be trimmed */
        { "gold\xc2\xa0", "" }, /* the same */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct harness h;
        begin (&h);
        harness_deliver (&h, &(struct message){ .id = MESSAGE_GIVE,
                                                .give = { .user = TEXT_LITERAL ("a/b?\xc3\xa9"),
                                                          .currency = text_of (cases[i].currency),
                                                          .reward = TEXT_LITERAL ("promo1"),
                                                          .check = 1 } });
        char path[256];
        snprintf (path, sizeof path,
                  "/auth/{secret}.a%%2Fb%%3F%%C3%%A9/transactions?reasons=reward%s&limit=1000",
                  cases[i].query);
        next_after (&h, path, 1);
        harness_free (&h);
    }
}

/*  What a list may be instead of an answer. */
struct no_answer {
    unsigned status; /* 0: `outcome` instead */
    enum http_outcome outcome;
    enum body_state state;
    const char *body; /* one string, instead of an array */
    unsigned elements;
    const char *reason;
};

static void answer_with (struct harness *h, uint64_t request, const struct no_answer *how)
{
    struct reply reply;
    struct packer *body = reply_begin (&reply);
    if (how->body)
        pack_literal (body, how->body);
    else
        pack_array (body, how->elements);
    for (unsigned i = 0; i < how->elements; i++)
        pack_literal (body, "no object");
    harness_deliver (h, &(struct message){ .id = MESSAGE_HTTP_ANSWER,
                                           .from = TO_SHELL,
                                           .http_answer = { .request = request,
                                                            .outcome = how->outcome,
                                                            .status = how->status,
                                                            .body_state = how->state,
                                                            .body = packer_raw (body) } });
}

static void a_list_that_cannot_answer_is_asked_again_and_then_it_is_uncertain (void **state)
{
    (void) state;
    static const struct no_answer cases[] = {
        { 404, HTTP_ANSWERED, BODY_NOT_JSON, "", 0, "HTTP 404" },
        { 405, HTTP_ANSWERED, BODY_NOT_JSON, "", 0, "HTTP 405" },
        { 400, HTTP_ANSWERED, BODY_NOT_JSON, "", 0, "HTTP 400" },
        { 414, HTTP_ANSWERED, BODY_NOT_JSON, "", 0, "HTTP 414" },
        { 429, HTTP_ANSWERED, BODY_NOT_JSON, "", 0, "HTTP 429" },
        { 501, HTTP_ANSWERED, BODY_NOT_JSON, "", 0, "HTTP 501" },
        { 500, HTTP_ANSWERED, BODY_NOT_JSON, "", 0, "HTTP 500" },
        { 0, HTTP_TIMEOUT, BODY_NONE, "", 0, "no answer in time" },
        { 0, HTTP_TOO_LARGE, BODY_NONE, "", 0, "too large" },
        { 200, HTTP_ANSWERED, BODY_NONE, "", 0, "no list" },
        { 200, HTTP_ANSWERED, BODY_NOT_JSON, "", 0, "no list" },
        { 200, HTTP_ANSWERED, BODY_JSON, "text", 0, "no list" },
        { 200, HTTP_ANSWERED, BODY_CUT, NULL, 0, "in part" },
        { 200, HTTP_ANSWERED, BODY_JSON, NULL, 3, "no sense" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct harness h;
        begin (&h);
        give (&h, 1, "alice");
        harness_turn (&h);
        answer_status (&h, next_request (&h, REWARDS), 500);
        uint64_t request = next_after (&h, LIST ("alice"), GRACE_MS);
        uint64_t start = h.now.steady_ms;
        unsigned asked = 1;
        for (;; asked++) {
            answer_with (&h, request, &cases[i]);
            if (harness_count (&h, MESSAGE_GIVEN))
                break;
            request = next_after (&h, LIST ("alice"), 0);
        }
        assert_in_range (h.now.steady_ms - start, PATIENCE_MS, PATIENCE_MS + 5000);
        assert_in_range (asked, PATIENCE_MS / 5000, 100);
        const struct given *given = only_given (&h);
        assert_int_equal (given->result, RESULT_UNCERTAIN);
        assert_int_equal (given->found, 0);
        if (!harness_mentions (given->reason, cases[i].reason))
            fail_msg ("case %u says %.*s", (unsigned) i, (int) given->reason.size, given->reason.data);
        assert_int_equal (harness_logs (&h, LOG_WARN), 2); /* stubborn, and uncertain */
        const struct message *question = harness_take (&h, MESSAGE_HTTP_REQUEST);
        if (question) {
            assert_true (harness_says (path_of (question), PROBE));
            answer_status (&h, question->http_request.request, 200);
        }
        harness_run (&h, 600000);
        assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
        harness_free (&h);
    }
}

static void a_list_that_answers_at_last_has_all_its_time_again (void **state)
{
    (void) state;
    struct harness h;
    begin (&h);
    give (&h, 1, "alice");
    harness_turn (&h);
    for (unsigned i = 0; i < 4; i++) {
        answer_status (&h, next_request (&h, REWARDS), 500);
        uint64_t request = next_after (&h, LIST ("alice"), GRACE_MS);
        uint64_t start = h.now.steady_ms;
        while (h.now.steady_ms - start < PATIENCE_MS * 3 / 4) {
            answer_status (&h, request, 404);
            request = next_after (&h, LIST ("alice"), 0);
        }
        answer_nothing (&h, request);
    }
    answer_status (&h, next_request (&h, REWARDS), 200);
    assert_int_equal (only_given (&h)->result, RESULT_OK);
    harness_free (&h);
}

static void time_does_not_count_while_the_service_is_down (void **state)
{
    (void) state;
    struct harness h;
    begin (&h);
    give_check (&h, 1, "alice", 1);
    harness_turn (&h);
    answer_status (&h, next_after (&h, LIST ("alice"), 1), 404); /* from here on it counts */
    uint64_t end = h.now.steady_ms + 3600000;
    answer_broken (&h, next_after (&h, LIST ("alice"), 1), HTTP_UNREACHED);
    while (h.now.steady_ms < end) {
        const struct message *asked = harness_take (&h, MESSAGE_HTTP_REQUEST);
        if (asked)
            answer_broken (&h, asked->http_request.request, HTTP_UNREACHED);
        else
            harness_fire (&h);
    }
    answer_status (&h, next_after (&h, LIST ("alice"), 0), 404);
    assert_int_equal (harness_count (&h, MESSAGE_GIVEN), 0);
    answer_reward (&h, next_after (&h, LIST ("alice"), 0), "promo1");
    assert_int_equal (only_given (&h)->found, 1);
    harness_free (&h);
}

static void time_does_not_count_while_lists_and_rewards_all_fail (void **state)
{
    (void) state;
    struct harness h;
    begin (&h);
    give_many (&h, 20);
    struct stand_in service = { .status = 500, .list_status = 500, .applies = true };
    serve (&h, &service, 10 * PATIENCE_MS);
    assert_int_equal (harness_count (&h, MESSAGE_GIVEN), 0);
    assert_true (service.posts <= 20);
    service.status = 200;
    service.list_status = 0;
    service.applies = false;
    serve (&h, &service, 60000);
    assert_int_equal (service.posts, 20);
    assert_int_equal (givens (&h, RESULT_OK), 20);
    harness_free (&h);
}

static void lists_that_are_missing_make_all_uncertain_also_when_every_reward_failed (void **state)
{
    (void) state;
    struct harness h;
    begin (&h);
    give_many (&h, 20);
    struct stand_in service = { .status = 500, .list_status = 404 };
    serve (&h, &service, 600000);
    assert_int_equal (givens (&h, RESULT_UNCERTAIN), 20);
    assert_int_equal (service.posts, 20);
    harness_free (&h);
}

static void lists_that_fail_alone_make_uncertain (void **state)
{
    (void) state;
    struct harness h;
    begin (&h);
    give_check (&h, 1000, "alice", 1);
    harness_turn (&h);
    struct stand_in service = { .status = 200, .list_status = 500 };
    for (unsigned i = 0; i < 40; i++) {
        give (&h, i, "bob");
        harness_turn (&h);
        serve (&h, &service, 2000);
        assert_int_equal (givens (&h, RESULT_OK), i + 1);
    }
    assert_int_equal (givens (&h, RESULT_UNCERTAIN), 1);
    assert_int_equal (givens (&h, RESULT_REFUSED), 0);
    harness_free (&h);
}

/*  Others succeed all the time, until this one was answered. */
static const struct given *poison_answered (struct harness *h, struct stand_in *service)
{
    give (h, 1000, "poison");
    harness_turn (h);
    service->poison = "poison";
    for (unsigned i = 0; i < 300; i++) {
        give (h, i, "alice");
        harness_turn (h);
        serve (h, service, 2000);
        const struct message *given;
        while ((given = harness_take (h, MESSAGE_GIVEN)))
            if (given->given.request == 1000)
                return &given->given;
    }
    return NULL;
}

static void a_poisonous_reward_is_looked_for_before_it_is_given_up (void **state)
{
    (void) state;
    for (unsigned way = 0; way < 3; way++) {
        struct harness h;
        begin (&h);
        struct stand_in service = { .status = 200, .applies = way == 1 };
        service.list_status = way == 2 ? 404 : 0;
        const struct given *given = poison_answered (&h, &service);
        static const enum result results[] = { RESULT_REFUSED, RESULT_OK, RESULT_UNCERTAIN };
        assert_non_null (given);
        assert_int_equal (given->result, results[way]);
        assert_int_equal (given->found, 0);
        assert_null (last_health (&h));
        harness_free (&h);
    }
}

/*  ---- one at a time ------------------------------------------------------ */

static void a_player_has_one_request_in_the_air (void **state)
{
    (void) state;
    struct harness h;
    begin (&h);
    give (&h, 1, "alice");
    give (&h, 2, "alice");
    give (&h, 3, "bob");
    give_check (&h, 4, "alice", 1);
    harness_turn (&h);
    harness_run (&h, 1000);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 2);
    uint64_t alice = next_request (&h, REWARDS);
    answer_status (&h, next_request (&h, REWARDS), 200);
    harness_run (&h, 1000);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    answer_status (&h, alice, 200);
    for (unsigned left = 2; left > 0; left--) {
        harness_run (&h, 100);
        assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 1);
        const struct message *asked = harness_take (&h, MESSAGE_HTTP_REQUEST);
        if (asked->http_request.method == METHOD_GET)
            answer_reward (&h, asked->http_request.request, "promo1");
        else
            answer_status (&h, asked->http_request.request, 200);
    }
    assert_int_equal (givens (&h, RESULT_OK), 4);
    harness_free (&h);
}

static void restart (struct harness *h)
{
    harness_deliver (h, &(struct message){
                            .id = MESSAGE_PEER, .from = DECISION (0), .peer = { .state = PEER_RESTARTED } });
}

/*  The reward was given for a decision that is gone already, just before that came
    out. The one that follows it has been there for long, so it does not ask us to
    wait, and the list does not show the reward yet. */
static void what_was_done_for_a_decision_that_is_gone_may_take_its_time_to_show (void **state)
{
    (void) state;
    struct harness h;
    begin (&h);
    give (&h, 1, "alice");
    harness_turn (&h);
    answer_status (&h, next_request (&h, REWARDS), 200);
    assert_int_equal (only_given (&h)->request, 1);
    restart (&h);
    give_check (&h, 1, "alice", 1);
    harness_turn (&h);
    answer_reward (&h, next_after (&h, LIST ("alice"), GRACE_MS), "promo1");
    assert_int_equal (only_given (&h)->found, 1);
    harness_free (&h);
}

static void what_a_decision_forgot_ends_before_anything_else_of_its_player (void **state)
{
    (void) state;
    for (uint64_t check = 0; check <= 1; check++) {
        struct harness h;
        begin (&h);
        give (&h, 1, "alice");
        harness_turn (&h);
        uint64_t orphan = next_request (&h, REWARDS);
        restart (&h);
        give_check (&h, 1, "alice", check);
        give (&h, 2, "bob");
        harness_turn (&h);
        harness_run (&h, 5000);
        answer_status (&h, next_request (&h, REWARDS), 200); /* bob does not wait */
        assert_int_equal (only_given (&h)->request, 2);
        assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
        answer_status (&h, orphan, check ? 200 : 500);
        assert_int_equal (harness_count (&h, MESSAGE_GIVEN), 0);
        /*  Also without a check: the orphan may have done it. */
        answer_reward (&h, next_after (&h, LIST ("alice"), GRACE_MS), "promo1");
        const struct given *given = only_given (&h);
        assert_int_equal (given->request, 1);
        assert_int_equal (given->found, 1);
        harness_run (&h, 10000);
        assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
        harness_free (&h);
    }
}

static void finds_that_a_decision_forgot_are_cancelled (void **state)
{
    (void) state;
    struct harness h;
    begin (&h);
    give_check (&h, 1, "alice", 1);
    give_check (&h, 2, "bob", 50000);
    harness_turn (&h);
    uint64_t find = next_after (&h, LIST ("alice"), 1);
    restart (&h);
    assert_int_equal (harness_take (&h, MESSAGE_HTTP_CANCEL)->http_cancel.request, find);
    harness_run (&h, 100000);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    assert_int_equal (harness_count (&h, MESSAGE_GIVEN), 0);
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

/*  The number of a reward in these tests, from its user "user123". */
static unsigned number_of (const char *user)
{
    return (unsigned) strtoul (user + strlen ("user"), NULL, 10);
}

enum { REWARDS_COUNT = 300 };

/*  A service that does what it wants: it gives, or not, whatever it answers, and
    lists what it gave when it answers a list at all. */
static void answer_anything (struct harness *h, uint64_t *seed, uint8_t *given, const struct message *asked)
{
    static const unsigned statuses[] = { 200, 200, 200, 200, 500, 429, 401, 503 };
    unsigned how = (unsigned) (draw (seed) % 10);
    char path[256], user[64];
    snprintf (path, sizeof path, "%.*s", (int) path_of (asked).size, path_of (asked).data);
    bool list = sscanf (path, "/auth/{secret}.%60[^/]/transactions?", user) == 1 && strstr (path, "/trans");
    if (asked->http_request.method == METHOD_POST && (how < 4 || (how != 9 && draw (seed) % 2))) {
        struct raw to;
        struct text name = NO_TEXT;
        assert_true (raw_path (asked->http_request.body, "to", &to));
        assert_true (raw_text (to, &name));
        snprintf (user, sizeof user, "%.*s", (int) name.size, name.data);
        assert_int_equal (given[number_of (user)]++, 0);
    }
    if (how >= 8)
        answer_broken (h, asked->http_request.request, how == 8 ? HTTP_BROKEN : HTTP_UNREACHED);
    else if (!list || statuses[how] != 200)
        answer_status (h, asked->http_request.request, statuses[how]);
    else if (given[number_of (user)])
        answer_reward (h, asked->http_request.request, "promo1");
    else
        answer_nothing (h, asked->http_request.request);
}

/*  Never twice, whatever happens; and each answer is the truth. */
static void every_reward_is_answered_exactly_once_and_given_at_most_once (void **state)
{
    (void) state;
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
        static uint8_t applied[REWARDS_COUNT], answers[REWARDS_COUNT];
        memset (applied, 0, sizeof applied);
        memset (answers, 0, sizeof answers);
        unsigned steps = 0;
        while (harness_count (&h, MESSAGE_HTTP_REQUEST) || harness_next_timer (&h) < TIMERS_MAX) {
            assert_true (steps++ < 100000);
            const struct message *asked = harness_take (&h, MESSAGE_HTTP_REQUEST);
            if (asked)
                answer_anything (&h, &seed, applied, asked);
            else
                harness_fire (&h);
        }
        const struct message *given;
        unsigned count = 0;
        for (; (given = harness_take (&h, MESSAGE_GIVEN)); count++) {
            assert_int_equal (answers[given->given.request]++, 0);
            if (given->given.result != RESULT_UNCERTAIN)
                assert_int_equal (applied[given->given.request], given->given.result == RESULT_OK);
        }
        assert_int_equal (count, REWARDS_COUNT);
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
        cmocka_unit_test (a_check_looks_first_and_not_too_soon),
        cmocka_unit_test (a_reward_that_this_give_posted_is_not_one_that_was_there_before),
        cmocka_unit_test (users_and_currencies_are_asked_for_as_they_are),
        cmocka_unit_test (a_list_that_cannot_answer_is_asked_again_and_then_it_is_uncertain),
        cmocka_unit_test (a_list_that_answers_at_last_has_all_its_time_again),
        cmocka_unit_test (time_does_not_count_while_the_service_is_down),
        cmocka_unit_test (time_does_not_count_while_lists_and_rewards_all_fail),
        cmocka_unit_test (lists_that_are_missing_make_all_uncertain_also_when_every_reward_failed),
        cmocka_unit_test (lists_that_fail_alone_make_uncertain),
        cmocka_unit_test (a_poisonous_reward_is_looked_for_before_it_is_given_up),
        cmocka_unit_test (a_player_has_one_request_in_the_air),
        cmocka_unit_test (what_was_done_for_a_decision_that_is_gone_may_take_its_time_to_show),
        cmocka_unit_test (what_a_decision_forgot_ends_before_anything_else_of_its_player),
        cmocka_unit_test (finds_that_a_decision_forgot_are_cancelled),
        cmocka_unit_test (what_exceeds_the_capacity_is_refused),
        cmocka_unit_test (drained_is_said_once_and_only_when_idle),
        cmocka_unit_test (every_reward_is_answered_exactly_once_and_given_at_most_once),
    };
    return cmocka_run_group_tests_name ("currency_client", tests, NULL, NULL);
}
