/*  test_client_lives.c - client rooms whose asker is killed and comes back, while
    everything it asked before is still held. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/currency_client/currency_client.h"
#include "actors/usermeta_client/usermeta_client.h"
#include "include/client.h"
#include "tests/unit/client_harness.h"

enum { WINDOW = 200 };

static struct harness h;
static uint64_t asked;

static int begin (const struct actor_spec *spec)
{
    struct settings settings = harness_settings ();
    settings.window = WINDOW;
    asked = 0;
    harness_open (&h, spec, &settings);
    return 0;
}

static int begin_currency (void **state)
{
    (void) state;
    return begin (&currency_client_spec);
}

static int begin_usermeta (void **state)
{
    (void) state;
    return begin (&usermeta_client_spec);
}

static int end (void **state)
{
    (void) state;
    harness_free (&h);
    return 0;
}

/*  A decision wants so many rewards to be given. */
static void give (uint16_t decision, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char user[16];
        struct message message = { .id = MESSAGE_GIVE, .from = DECISION (decision) };
        snprintf (user, sizeof user, "u%u", (unsigned) ++asked);
        message.give.request = asked;
        message.give.user = text_of (user);
        message.give.amount = 1;
        message.give.currency = TEXT_LITERAL ("gold");
        message.give.reward = TEXT_LITERAL ("promo1");
        harness_handle (&h, &message);
    }
    harness_turn (&h);
}

/*  Answers what is under way until so many rewards were given. */
static void serve (unsigned count)
{
    for (unsigned given = 0; given < count; given++)
        answer_status (&h, next_request (&h, NULL), 200);
}

static void restart (uint16_t decision)
{
    harness_handle (&h, &(struct message){ .id = MESSAGE_PEER,
                                           .from = DECISION (decision),
                                           .peer = { .state = PEER_RESTARTED } });
    open_from (&h, decision);
}

/*  Rewards that were answered to this decision so far, each of which was given. */
static size_t given (uint16_t decision)
{
    size_t count = 0;
    for (size_t i = 0; i < h.count; i++) {
        const struct recorded *effect = &h.effects[i];
        if (effect->message->id != MESSAGE_GIVEN || effect->to.peer != decision)
            continue;
        assert_int_equal (effect->message->given.result, RESULT_OK);
        count++;
    }
    return count;
}

static void who_comes_back_may_ask_for_as_much_as_before (void **state)
{
    (void) state;
    give (0, WINDOW);
    restart (0);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 1);
    give (0, WINDOW);
    /*  What was in the air ends, and nobody is told. */
    serve (HTTP_CONCURRENCY_MAX);
    assert_int_equal (given (0), 0);
    serve (WINDOW);
    assert_int_equal (given (0), WINDOW);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    restart (0);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 2);
}

static void what_others_asked_goes_on (void **state)
{
    (void) state;
    give (1, 40);
    give (0, 40);
    answer_broken (&h, next_request (&h, NULL), HTTP_UNREACHED); /* it waits for its time */
    restart (0);
    restart (7);
    for (unsigned steps = 0; given (1) < 40; steps++) {
        assert_true (steps < 1000);
        const struct message *http = harness_take (&h, MESSAGE_HTTP_REQUEST);
        if (http)
            answer_status (&h, http->http_request.request, 200);
        else
            harness_fire (&h);
    }
    assert_int_equal (given (0), 0);
    assert_int_equal (harness_next_timer (&h), TIMERS_MAX);
}

/*  ---- usermeta ----------------------------------------------------------- */

static void read_meta (uint16_t decision, uint64_t request, const char *user)
{
    harness_handle (
        &h, &(struct message){
                .id = MESSAGE_READ_META,
                .from = DECISION (decision),
                .read_meta = { .request = request, .user = text_of (user), .keys = TEXT_LITERAL ("auth") } });
}

static void write_meta (uint16_t decision, uint64_t request, const char *user)
{
    harness_deliver (&h, &(struct message){ .id = MESSAGE_WRITE_META,
                                            .from = DECISION (decision),
                                            .write_meta = { .request = request,
                                                            .user = text_of (user),
                                                            .key = TEXT_LITERAL ("key"),
                                                            .value = TEXT_LITERAL ("1") } });
}

static void reads_in_the_air_are_asked_again_without_who_forgot (void **state)
{
    (void) state;
    read_meta (0, 1, "alice");
    read_meta (1, 2, "bob");
    read_meta (0, 3, "carol");
    harness_turn (&h);
    read_meta (0, 4, "dave"); /* is held, and not gathered yet */
    uint64_t cancelled = next_request (&h, "/alice,bob,carol/auth?secret={secret}");
    restart (0);
    assert_int_equal (harness_take (&h, MESSAGE_HTTP_CANCEL)->http_cancel.request, cancelled);
    uint64_t again = next_request (&h, "/bob/auth?secret={secret}");
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    struct reply reply;
    struct packer *body = reply_begin (&reply);
    pack_map (body, 1);
    pack_literal (body, "bob");
    pack_map (body, 1);
    pack_literal (body, "auth");
    pack_literal (body, "1");
    answer_json (&h, cancelled, 200, packer_raw (body)); /* too late: it is not known any more */
    assert_int_equal (harness_count (&h, MESSAGE_META), 0);
    answer_json (&h, again, 200, packer_raw (body));
    struct recorded *meta = harness_take_recorded (&h, MESSAGE_META);
    assert_int_equal (meta->to.peer, 1);
    assert_int_equal (meta->message->meta.request, 2);
    assert_int_equal (harness_count (&h, MESSAGE_META), 0);
}

static void a_write_in_the_air_ends_unheard_before_the_next_of_its_user (void **state)
{
    (void) state;
    write_meta (0, 1, "alice");
    uint64_t orphan = next_request (&h, NULL);
    restart (0);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_CANCEL), 0);
    write_meta (0, 1, "alice");
    harness_run (&h, 1000);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    answer_status (&h, orphan, 500);
    assert_int_equal (harness_count (&h, MESSAGE_META_WRITTEN), 0);
    harness_run (&h, 1000);
    answer_status (&h, next_request (&h, NULL), 200);
    assert_int_equal (harness_take (&h, MESSAGE_META_WRITTEN)->meta_written.result, RESULT_OK);
    harness_run (&h, 10000);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (who_comes_back_may_ask_for_as_much_as_before, begin_currency, end),
        cmocka_unit_test_setup_teardown (what_others_asked_goes_on, begin_currency, end),
        cmocka_unit_test_setup_teardown (reads_in_the_air_are_asked_again_without_who_forgot, begin_usermeta,
                                         end),
        cmocka_unit_test_setup_teardown (a_write_in_the_air_ends_unheard_before_the_next_of_its_user,
                                         begin_usermeta, end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
