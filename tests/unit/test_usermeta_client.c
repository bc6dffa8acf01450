/*  test_usermeta_client.c - the usermeta client, with the service played by
    hand. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "actors/usermeta_client/usermeta_client.h"
#include "actors/usermeta_client/usermeta_path.h"
#include "include/backoff.h"
#include "include/client.h"
#include "tests/unit/client_harness.h"

#define KEYS "auth,$reward$promo1"
#define PROBE "/auth/{secret}.guerdon-probe/$guerdon$probe"
#define QUESTION "/guerdon-probe/auth?secret={secret}"
#define TAIL "/auth,$reward$promo1?secret={secret}"

/*  ---- asking ------------------------------------------------------------- */

static void read_keys (struct harness *h, uint64_t request, struct text user, const char *keys)
{
    harness_handle (
        h, &(struct message){ .id = MESSAGE_READ_META,
                              .trace = request + 1000,
                              .from = DECISION (0),
                              .read_meta = { .request = request, .user = user, .keys = text_of (keys) } });
}

static void read_user (struct harness *h, uint64_t request, const char *user)
{
    read_keys (h, request, text_of (user), KEYS);
}

static void write_user (struct harness *h, uint64_t request, const char *user)
{
    harness_handle (h, &(struct message){ .id = MESSAGE_WRITE_META,
                                          .trace = request + 1000,
                                          .from = DECISION (0),
                                          .write_meta = { .request = request,
                                                          .user = text_of (user),
                                                          .key = TEXT_LITERAL ("$reward$promo1"),
                                                          .value = TEXT_LITERAL ("1491000000123") } });
}

/*  "user00" to "user<count - 1>", requests 0 and up. */
static void read_many (struct harness *h, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char user[16];
        snprintf (user, sizeof user, "user%02u", i);
        read_user (h, i, user);
    }
    harness_turn (h);
}

/*  ---- the service -------------------------------------------------------- */

/*  How the service behaves. */
struct stand_in {
    const char *poison; /* a list with this user is answered with `status` */
    unsigned status;
    bool breaks;           /* ... by a broken connection instead, and an outage after it */
    unsigned outage;       /* so many requests from now on are not reached */
    unsigned asked;        /* requests so far */
    unsigned longest_list; /* users in one request, at most */
};

static bool list_has (struct text list, const char *user)
{
    size_t size = strlen (user);
    for (size_t i = 0; i + size <= list.size; i++) {
        bool starts = i == 0 || list.data[i - 1] == ',';
        bool ends = i + size == list.size || list.data[i + size] == ',';
        if (starts && ends && memcmp (list.data + i, user, size) == 0)
            return true;
    }
    return false;
}

/*  The list of users of a read: between the first two slashes. */
static struct text list_of (struct text path)
{
    const char *end = memchr (path.data + 1, '/', path.size - 1);
    assert (end);
    return (struct text){ path.data + 1, (uint32_t) (end - path.data - 1) };
}

/*  {"<user>": {"auth": "1"}, …} for plain user ids. */
static unsigned pack_users (struct packer *packer, struct text list)
{
    unsigned users = 1;
    for (uint32_t i = 0; i < list.size; i++)
        users += list.data[i] == ',';
    pack_map (packer, users);
    for (uint32_t i = 0, start = 0; i <= list.size; i++) {
        if (i < list.size && list.data[i] != ',')
            continue;
        pack_text (packer, (struct text){ list.data + start, i - start });
        pack_map (packer, 1);
        pack_literal (packer, "auth");
        pack_literal (packer, "1");
        start = i + 1;
    }
    return users;
}

/*  Answers one read or question. */
static void serve_one (struct harness *h, struct stand_in *service, const struct message *asked)
{
    uint64_t request = asked->http_request.request;
    struct text list = list_of (asked->http_request.path);
    service->asked++;
    if (service->outage) {
        service->outage--;
        answer_broken (h, request, HTTP_UNREACHED);
        return;
    }
    if (service->poison && list_has (list, service->poison)) {
        service->outage = service->breaks ? 2 : 0;
        if (service->breaks)
            answer_broken (h, request, HTTP_BROKEN);
        else
            answer_status (h, request, service->status);
        return;
    }
    struct reply reply;
    unsigned users = pack_users (reply_begin (&reply), list);
    if (users > service->longest_list)
        service->longest_list = users;
    answer_json (h, request, 200, packer_raw (&reply.packer));
    harness_turn (h);
}

/*  Lets so much time pass, with the service at work. */
static void serve (struct harness *h, struct stand_in *service, uint64_t ms)
{
    uint64_t end = h->now.steady_ms + ms;
    for (;;) {
        const struct message *asked = harness_take (h, MESSAGE_HTTP_REQUEST);
        if (asked) {
            serve_one (h, service, asked);
            continue;
        }
        size_t timer = harness_next_timer (h);
        if (timer == TIMERS_MAX || h->timers[timer] > end)
            return;
        harness_fire (h);
    }
}

/*  METAs said so far, taken or not. */
static unsigned metas (const struct harness *h, enum result result)
{
    unsigned count = 0;
    for (size_t i = 0; i < h->count; i++)
        count += h->effects[i].message->id == MESSAGE_META && h->effects[i].message->meta.result == result;
    return count;
}

static void assert_refused (struct harness *h, uint64_t request, const char *reason)
{
    const struct message *meta = harness_take (h, MESSAGE_META);
    assert_non_null (meta);
    assert_int_equal (meta->meta.result, RESULT_REFUSED);
    assert_int_equal (meta->meta.request, request);
    assert_true (harness_mentions (meta->meta.reason, reason));
}

/*  ---- the probe ---------------------------------------------------------- */

static void probe_comes_first_and_opens (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_init (&h, &usermeta_client_spec, &settings);
    harness_start (&h);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 1);
    const struct message *probe = harness_take (&h, MESSAGE_HTTP_REQUEST);
    assert_true (harness_says (path_of (probe), PROBE));
    assert_int_equal (probe->http_request.method, METHOD_POST);
    assert_int_equal (probe->http_request.service, SERVICE_USERMETA);
    assert_int_equal (probe->http_request.timeout_ms, settings.http_timeout_ms);
    struct raw value;
    struct text text = NO_TEXT;
    assert_true (raw_path (probe->http_request.body, "value", &value) && raw_text (value, &text));
    assert_true (harness_says (text, "1795000000000"));

    open_from (&h, 0);
    open_from (&h, 3);
    open_from (&h, 3);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 0);
    answer_status (&h, probe->http_request.request, 200);
    struct recorded *opened = harness_take_recorded (&h, MESSAGE_OPENED);
    assert_int_equal (opened->to.role, ROLE_DECISION);
    assert_int_equal (opened->to.peer, 0);
    assert_int_equal (harness_take_recorded (&h, MESSAGE_OPENED)->to.peer, 3);
    assert_null (harness_take (&h, MESSAGE_OPENED));
    assert_int_equal (last_health (&h)->state, SERVICE_UP);
    open_from (&h, 0);
    assert_non_null (harness_take (&h, MESSAGE_OPENED));
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    harness_free (&h);
}

static void probe_denied_ends_it (void **state)
{
    (void) state;
    static const unsigned statuses[] = { 401, 403 };
    for (size_t i = 0; i < 2; i++) {
        struct settings settings = harness_settings ();
        struct harness h;
        harness_init (&h, &usermeta_client_spec, &settings);
        harness_start (&h);
        open_from (&h, 0);
        answer_status (&h, next_request (&h, PROBE), statuses[i]);
        assert_int_equal (last_health (&h)->state, SERVICE_REJECTS);
        assert_true (harness_mentions (last_health (&h)->reason, "the service rejects API_SECRET (HTTP 40"));
        harness_run (&h, 600000);
        assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
        assert_int_equal (harness_count (&h, MESSAGE_OPENED), 0);
        harness_free (&h);
    }
}

static void probe_waits_for_a_service_that_is_down (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_init (&h, &usermeta_client_spec, &settings);
    harness_start (&h);
    open_from (&h, 0);
    static const unsigned statuses[] = { 500, 503, 429, 408, 302 };
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        answer_status (&h, next_request (&h, PROBE), statuses[i]);
        assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
        assert_true (harness_fire (&h));
    }
    answer_broken (&h, next_request (&h, PROBE), HTTP_UNREACHED);
    assert_true (harness_fire (&h));
    answer_broken (&h, next_request (&h, PROBE), HTTP_TIMEOUT);
    uint64_t before = h.now.steady_ms;
    assert_true (harness_fire (&h));
    assert_in_range (h.now.steady_ms - before, BACKOFF_FLOOR_MS, BACKOFF_MAX_MS);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), 0);
    assert_int_equal (last_health (&h)->state, SERVICE_DOWN);
    assert_int_equal (harness_count (&h, MESSAGE_HEALTH), 2); /* unknown, down */
    assert_true (harness_mentions (last_health (&h)->reason, "HTTP 500"));
    answer_status (&h, next_request (&h, PROBE), 200);
    assert_int_equal (last_health (&h)->state, SERVICE_UP);
    assert_int_equal (harness_count (&h, MESSAGE_HEALTH), 3);
    assert_int_equal (harness_logs (&h, LOG_WARN), 1);
    assert_non_null (harness_take (&h, MESSAGE_OPENED));
    harness_run (&h, 60000);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    harness_free (&h);
}

static void probe_answered_oddly_is_accepted_and_told (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_init (&h, &usermeta_client_spec, &settings);
    harness_start (&h);
    answer_status (&h, next_request (&h, PROBE), 404);
    assert_int_equal (last_health (&h)->state, SERVICE_UP);
    assert_int_equal (harness_logs (&h, LOG_WARN), 1);
    harness_free (&h);
}

static void too_many_peers_are_not_remembered (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_init (&h, &usermeta_client_spec, &settings);
    harness_start (&h);
    for (uint16_t peer = 0; peer < PEERS_MAX + 1; peer++)
        open_from (&h, peer);
    assert_int_equal (harness_logs (&h, LOG_WARN), 1);
    answer_status (&h, next_request (&h, PROBE), 200);
    assert_int_equal (harness_count (&h, MESSAGE_OPENED), PEERS_MAX);
    harness_free (&h);
}

static void nothing_goes_out_before_the_probe_is_accepted (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_init (&h, &usermeta_client_spec, &settings);
    harness_start (&h);
    uint64_t probe = next_request (&h, PROBE);
    read_user (&h, 1, "alice");
    write_user (&h, 2, "bob");
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    answer_status (&h, probe, 200);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 2);
    harness_free (&h);
}

/*  ---- reads -------------------------------------------------------------- */

static void reads_of_many_travel_as_one (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    read_user (&h, 2, "b/b \xc3\xa9");
    read_user (&h, 3, "..");
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    harness_turn (&h);
    const struct message *asked = harness_take (&h, MESSAGE_HTTP_REQUEST);
    assert_true (harness_says (path_of (asked), "/alice,b%2Fb%20%C3%A9,.." TAIL));
    assert_int_equal (asked->http_request.method, METHOD_GET);
    assert_int_equal (asked->http_request.body.size, 0);
    assert_int_equal (asked->trace, 1001);

    /*  Out of order, and with somebody nobody asked for. */
    struct reply reply;
    struct packer *packer = reply_begin (&reply);
    pack_map (packer, 4);
    pack_literal (packer, "..");
    pack_map (packer, 0);
    pack_literal (packer, "mallory");
    pack_map (packer, 0);
    pack_literal (packer, "alice");
    pack_map (packer, 1);
    pack_literal (packer, "auth");
    pack_literal (packer, "1490999999000");
    pack_literal (packer, "b/b \xc3\xa9");
    pack_map (packer, 0);
    answer_json (&h, asked->http_request.request, 200, packer_raw (packer));
    struct recorded *meta = harness_take_recorded (&h, MESSAGE_META);
    assert_int_equal (meta->to.role, ROLE_DECISION);
    assert_int_equal (meta->message->meta.request, 1);
    assert_int_equal (meta->message->trace, 1001);
    assert_int_equal (meta->message->meta.result, RESULT_OK);
    struct raw auth;
    assert_true (raw_path (meta->message->meta.values, "auth", &auth));
    assert_int_equal (harness_take (&h, MESSAGE_META)->meta.request, 2);
    assert_int_equal (harness_take (&h, MESSAGE_META)->meta.request, 3);
    assert_int_equal (metas (&h, RESULT_OK), 3);
    harness_free (&h);
}

static void reads_of_other_keys_travel_apart (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    read_keys (&h, 2, TEXT_LITERAL ("bob"), "a:b,$x y");
    read_user (&h, 3, "carol");
    harness_turn (&h);
    next_request (&h, "/alice,carol" TAIL);
    next_request (&h, "/bob/a%3Ab,$x%20y?secret={secret}");
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    harness_free (&h);
}

static void a_request_is_neither_too_long_nor_of_too_many (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    settings.window = 10000;
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    for (unsigned i = 0; i < 3000; i++) {
        char user[80];
        snprintf (user, sizeof user, "%u %0*u", i, i % 2 ? 40 : 60, i);
        read_user (&h, i, user);
    }
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), HTTP_CONCURRENCY_MAX);
    for (size_t i = 0; i < h.count; i++)
        if (h.effects[i].message->id == MESSAGE_HTTP_REQUEST) {
            assert_true (path_of (h.effects[i].message).size <= PATH_LIST_SIZE_MAX);
            assert_true (path_of (h.effects[i].message).size > PATH_LIST_SIZE_MAX - 300);
        }
    harness_free (&h);

    harness_open (&h, &usermeta_client_spec, &settings);
    read_many (&h, 1000);
    struct stand_in service = { 0 };
    serve (&h, &service, 1);
    assert_int_equal (service.asked, 1000 / READ_USERS_MAX);
    assert_int_equal (service.longest_list, READ_USERS_MAX);
    assert_int_equal (metas (&h, RESULT_OK), 1000);
    harness_free (&h);
}

static void the_longest_user_id_is_asked_for (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    static char user[USER_SIZE_MAX];
    memset (user, '%', sizeof user);
    static char keys[KEYS_SIZE_MAX + 1];
    memset (keys, ' ', KEYS_SIZE_MAX);
    read_user (&h, 1, "alice");
    read_keys (&h, 2, (struct text){ user, sizeof user }, keys);
    read_keys (&h, 3, (struct text){ user, sizeof user }, KEYS);
    user[1] = ',';
    read_keys (&h, 4, (struct text){ user, sizeof user }, keys);
    read_user (&h, 5, "bob");
    harness_turn (&h);
    next_request (&h, "/alice,bob" TAIL);
    for (int i = 0; i < 3; i++)
        assert_true (path_of (harness_take (&h, MESSAGE_HTTP_REQUEST)).size >= 3 * USER_SIZE_MAX - 2);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    harness_free (&h);
}

static void ids_that_the_list_takes_apart_go_alone (void **state)
{
    (void) state;
    static const struct {
        const char *user;
        const char *encoded;
    } ids[] = {
        { "a,b", "a%2Cb" },
        { " a", "%20a" },
        { "a\n", "a%0A" },
        { "\xc2\xa0"
          "a",
          "%C2%A0a" },
        { "a\xe3\x80\x80", "a%E3%80%80" },
    };
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        read_user (&h, 100 + i, "plain");
        read_user (&h, i, ids[i].user);
        harness_turn (&h);
        char path[128];
        snprintf (path, sizeof path, "/auth/{secret}.%s/auth,$reward$promo1", ids[i].encoded);
        uint64_t other = next_request (&h, "/plain" TAIL);
        uint64_t alone = next_request (&h, path);
        struct reply reply;
        struct packer *packer = reply_begin (&reply);
        pack_map (packer, 1);
        pack_literal (packer, ids[i].user);
        pack_map (packer, 0);
        answer_json (&h, alone, 200, packer_raw (packer));
        assert_int_equal (harness_take (&h, MESSAGE_META)->meta.request, i);
        packer = reply_begin (&reply);
        pack_map (packer, 1);
        pack_literal (packer, "plain");
        pack_map (packer, 1);
        pack_literal (packer, "auth");
        pack_literal (packer, "1");
        answer_json (&h, other, 200, packer_raw (packer));
        assert_int_equal (harness_take (&h, MESSAGE_META)->meta.result, RESULT_OK);
    }
    harness_free (&h);
}

static void spaces_within_an_id_stay_in_the_list (void **state)
{
    (void) state;
    assert_false (usermeta_user_alone (TEXT_LITERAL ("a b")));
    assert_false (usermeta_user_alone (TEXT_LITERAL ("a\0")));
    assert_false (usermeta_user_alone (TEXT_LITERAL ("\xc3\xa9")));
    assert_false (usermeta_user_alone (TEXT_LITERAL ("\xe2\x80\x8b")));
    assert_true (usermeta_user_alone (TEXT_LITERAL ("\xe2\x80\x8a")));
    assert_true (usermeta_user_alone (TEXT_LITERAL ("a\xef\xbb\xbf")));
    assert_true (usermeta_user_alone (TEXT_LITERAL ("\xa9\xe2\x80\xa9")));
}

static void ids_that_cannot_be_kept_are_refused_unasked (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "a:b");
    read_user (&h, 2, "");
    write_user (&h, 3, ":");
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    assert_refused (&h, 1, "user id contains ':'");
    assert_refused (&h, 2, "user id is empty");
    const struct message *written = harness_take (&h, MESSAGE_META_WRITTEN);
    assert_int_equal (written->meta_written.result, RESULT_REFUSED);
    assert_true (harness_says (written->meta_written.reason, "user id contains ':'"));
    harness_free (&h);
}

static void one_user_asked_for_twice_is_answered_twice (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    read_user (&h, 2, "alice");
    read_user (&h, 3, "bob");
    harness_turn (&h);
    struct stand_in service = { 0 };
    serve (&h, &service, 1);
    assert_int_equal (service.asked, 2);
    assert_int_equal (metas (&h, RESULT_OK), 3);
    harness_free (&h);
}

/*  ---- replies that cannot be believed ------------------------------------ */

static void a_missing_user_is_asked_for_alone_then_refused (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    read_user (&h, 2, "bob");
    read_user (&h, 3, "carol");
    harness_turn (&h);
    struct reply reply;
    struct packer *packer = reply_begin (&reply);
    pack_map (packer, 2);
    pack_literal (packer, "bob");
    pack_literal (packer, "not a map");
    pack_literal (packer, "carol");
    pack_map (packer, 0);
    answer_json (&h, next_request (&h, "/alice,bob,carol" TAIL), 200, packer_raw (packer));
    assert_int_equal (harness_take (&h, MESSAGE_META)->meta.request, 3);
    assert_int_equal (harness_count (&h, MESSAGE_META), 0);
    harness_turn (&h);
    uint64_t alice = next_request (&h, "/alice" TAIL);
    uint64_t bob = next_request (&h, "/bob" TAIL);
    packer = reply_begin (&reply);
    pack_map (packer, 0);
    answer_json (&h, alice, 200, packer_raw (packer));
    assert_refused (&h, 1, "no values of this user");
    packer = reply_begin (&reply);
    pack_map (packer, 1);
    pack_literal (packer, "bob");
    pack_ext (packer, EXT_CUT, TEXT_LITERAL ("\x02"));
    answer_json (&h, bob, 200, packer_raw (packer));
    assert_refused (&h, 2, "no values of this user");
    harness_free (&h);
}

static void values_beyond_the_limit_are_refused (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    harness_turn (&h);
    static char value[VALUE_SIZE_MAX];
    struct reply reply;
    struct packer *packer = reply_begin (&reply);
    pack_map (packer, 1);
    pack_literal (packer, "alice");
    pack_map (packer, 1);
    pack_literal (packer, "auth");
    pack_text (packer, (struct text){ value, sizeof value });
    answer_json (&h, next_request (&h, NULL), 200, packer_raw (packer));
    assert_refused (&h, 1, "too large");
    harness_free (&h);
}

static void a_reply_that_makes_no_sense_is_asked_again (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    for (unsigned kind = 0; kind < 6; kind++) {
        struct harness h;
        harness_open (&h, &usermeta_client_spec, &settings);
        read_user (&h, 1, "alice");
        harness_turn (&h);
        struct reply reply;
        struct packer *packer = reply_begin (&reply);
        struct http_answer answer = { .request = next_request (&h, "/alice" TAIL), .status = 200 };
        if (kind == 0)
            pack_array (packer, 0);
        if (kind == 1)
            pack_nil (packer);
        if (kind == 2) {
            pack_map (packer, 50);
            for (unsigned i = 0; i < 100; i++)
                pack_uint (packer, i);
        }
        answer.body = packer_raw (packer);
        answer.body_state = kind == 3   ? BODY_NONE
                            : kind == 4 ? BODY_NOT_JSON
                            : kind == 5 ? BODY_CUT
                                        : BODY_JSON;
        harness_deliver (&h, &(struct message){ .id = MESSAGE_HTTP_ANSWER, .http_answer = answer });
        assert_int_equal (harness_count (&h, MESSAGE_META), 0);
        struct stand_in service = { 0 };
        serve (&h, &service, 1000);
        assert_int_equal (metas (&h, RESULT_OK), 1);
        harness_free (&h);
    }
}

static void answers_late_twice_or_for_nobody_change_nothing (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    harness_turn (&h);
    uint64_t asked = next_request (&h, NULL);
    answer_status (&h, asked + 1, 500);
    answer_status (&h, 0, 401);
    answer_status (&h, UINT64_MAX, 200);
    struct reply reply;
    pack_users (reply_begin (&reply), TEXT_LITERAL ("alice"));
    answer_json (&h, asked, 200, packer_raw (&reply.packer));
    answer_json (&h, asked, 200, packer_raw (&reply.packer));
    answer_broken (&h, asked, HTTP_BROKEN);
    harness_handle (&h, &(struct message){ .id = MESSAGE_HTTP_SENT, .http_sent = { .request = asked } });
    harness_deliver (&h, &(struct message){ .id = MESSAGE_TIMER, .timer = { .timer = TIMERS_MAX - 1 } });
    assert_int_equal (harness_count (&h, MESSAGE_META), 1);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    assert_int_equal (harness_count (&h, MESSAGE_HEALTH), 0);
    harness_free (&h);
}

/*  ---- culprits and outages ----------------------------------------------- */

static void one_poisonous_id_does_not_spoil_a_hundred (void **state)
{
    (void) state;
    static const unsigned statuses[] = { 500, 400, 413, 431, 503, 401 };
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        struct settings settings = harness_settings ();
        struct harness h;
        harness_open (&h, &usermeta_client_spec, &settings);
        read_many (&h, 100);
        struct stand_in service = { .poison = "user42", .status = statuses[i] };
        serve (&h, &service, 3000);
        assert_int_equal (metas (&h, RESULT_OK), 99);
        serve (&h, &service, 30000);
        assert_int_equal (metas (&h, RESULT_OK), 99);
        assert_int_equal (metas (&h, RESULT_REFUSED), 1);
        assert_true (service.asked < 60);
        /*  The service is well, and nobody says otherwise. */
        assert_null (last_health (&h));
        harness_free (&h);
    }
}

static void an_id_that_breaks_the_service_does_not_stop_the_others (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_many (&h, 100);
    struct stand_in service = { .poison = "user42", .breaks = true };
    serve (&h, &service, 60000);
    assert_int_equal (metas (&h, RESULT_OK), 99);
    serve (&h, &service, 120000);
    assert_int_equal (metas (&h, RESULT_REFUSED), 1);
    harness_free (&h);
}

static void a_lone_culprit_is_refused_when_the_service_is_well (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 7, "user42");
    harness_turn (&h);
    struct stand_in service = { .poison = "user42", .status = 500 };
    serve (&h, &service, 5000);
    assert_int_equal (harness_count (&h, MESSAGE_META), 0);
    serve (&h, &service, 25000);
    assert_refused (&h, 7, "the service answers 500 to this user id alone");
    harness_free (&h);
}

static void an_outage_does_not_count_as_patience (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 7, "user42");
    harness_turn (&h);
    /*  It fails at the beginning of an outage of an hour, and then it alone. */
    answer_status (&h, next_request (&h, NULL), 500);
    uint64_t end = h.now.steady_ms + 3600000;
    while (h.now.steady_ms < end) {
        const struct message *request = harness_take (&h, MESSAGE_HTTP_REQUEST);
        if (request)
            answer_status (&h, request->http_request.request, 500);
        else
            assert_true (harness_fire (&h));
    }
    struct stand_in service = { .poison = "user42", .status = 500 };
    serve (&h, &service, 9000);
    assert_int_equal (harness_count (&h, MESSAGE_META), 0);
    serve (&h, &service, 25000);
    assert_refused (&h, 7, "the service answers 500 to this user id alone");
    harness_free (&h);
}

static void an_outage_of_an_hour_blames_nobody (void **state)
{
    (void) state;
    static const enum http_outcome outcomes[] = { HTTP_ANSWERED, HTTP_UNREACHED, HTTP_BROKEN, HTTP_TIMEOUT };
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
        struct settings settings = harness_settings ();
        settings.window = 2500;
        struct harness h;
        harness_open (&h, &usermeta_client_spec, &settings);
        read_many (&h, 2500);
        unsigned asked = 0;
        uint64_t end = h.now.steady_ms + 3600000;
        while (h.now.steady_ms < end) {
            const struct message *request = harness_take (&h, MESSAGE_HTTP_REQUEST);
            if (!request) {
                assert_true (harness_fire (&h));
                continue;
            }
            asked++;
            if (outcomes[i] == HTTP_ANSWERED)
                answer_status (&h, request->http_request.request, 500);
            else
                answer_broken (&h, request->http_request.request, outcomes[i]);
        }
        assert_true (asked < 3600000 / 2500 + 100);
        assert_int_equal (harness_count (&h, MESSAGE_META), 0);
        assert_int_equal (harness_count (&h, MESSAGE_HEALTH), 1);
        assert_int_equal (last_health (&h)->state, SERVICE_DOWN);
        struct stand_in service = { 0 };
        serve (&h, &service, 10000);
        assert_int_equal (metas (&h, RESULT_OK), 2500);
        assert_true (service.asked < 80);
        assert_int_equal (harness_count (&h, MESSAGE_HEALTH), 2);
        assert_int_equal (last_health (&h)->state, SERVICE_UP);
        harness_free (&h);
    }
}

/*  A proxy answers for the service, with a good status and a page for people. */
static void a_page_in_place_of_the_service_blames_nobody (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 7, "alice");
    harness_turn (&h);
    uint64_t end = h.now.steady_ms + 3600000;
    while (h.now.steady_ms < end) {
        const struct message *request = harness_take (&h, MESSAGE_HTTP_REQUEST);
        struct http_answer page = { .status = 200, .body_state = BODY_NOT_JSON };
        if (!request) {
            assert_true (harness_fire (&h));
            continue;
        }
        page.request = request->http_request.request;
        harness_deliver (&h, &(struct message){ .id = MESSAGE_HTTP_ANSWER, .http_answer = page });
    }
    assert_int_equal (harness_count (&h, MESSAGE_META), 0);
    assert_int_equal (last_health (&h)->state, SERVICE_DOWN);
    struct stand_in service = { 0 };
    serve (&h, &service, 10000);
    assert_int_equal (metas (&h, RESULT_OK), 1);
    harness_free (&h);
}

static void nobody_is_asked_about_again_before_the_service_is (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_many (&h, 2);
    answer_status (&h, next_request (&h, "/user00,user01" TAIL), 500);
    uint64_t question = next_request (&h, QUESTION);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    answer_status (&h, question, 500);
    harness_run (&h, 40);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    assert_int_equal (last_health (&h)->state, SERVICE_DOWN);
    harness_free (&h);
}

static void what_did_not_reach_the_service_goes_whole_again (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_many (&h, 2);
    answer_broken (&h, next_request (&h, "/user00,user01" TAIL), HTTP_UNREACHED);
    assert_true (harness_fire (&h));
    answer_status (&h, next_request (&h, QUESTION), 200);
    while (harness_count (&h, MESSAGE_HTTP_REQUEST) == 0)
        assert_true (harness_fire (&h));
    next_request (&h, "/user00,user01" TAIL);
    harness_free (&h);
}

static void a_read_denied_asks_about_the_secret (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "a,b");
    harness_turn (&h);
    answer_status (&h, next_request (&h, NULL), 401);
    answer_status (&h, next_request (&h, PROBE), 200);
    assert_null (last_health (&h));
    harness_free (&h);
}

static void an_outage_of_writes_is_asked_about_by_a_write (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    write_user (&h, 1, "alice");
    harness_turn (&h);
    for (unsigned i = 0; i < 1000; i++) {
        const struct message *request = harness_take (&h, MESSAGE_HTTP_REQUEST);
        if (!request) {
            assert_true (harness_fire (&h));
            continue;
        }
        assert_int_equal (request->http_request.method, METHOD_POST);
        answer_status (&h, request->http_request.request, 500);
    }
    assert_int_equal (harness_count (&h, MESSAGE_META_WRITTEN), 0);
    assert_int_equal (last_health (&h)->state, SERVICE_DOWN);
    harness_free (&h);
}

static void too_many_requests_are_waited_out (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    harness_turn (&h);
    uint64_t before = h.now.steady_ms;
    answer_later (&h, next_request (&h, NULL), 429, 7000);
    read_user (&h, 2, "bob");
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    assert_true (harness_fire (&h));
    assert_int_equal (h.now.steady_ms, before + 7000);
    uint64_t alice = next_request (&h, "/alice" TAIL);
    next_request (&h, "/bob" TAIL);
    before = h.now.steady_ms;
    answer_later (&h, alice, 503, 86400000);
    next_request (&h, QUESTION);
    assert_true (harness_fire (&h));
    assert_int_equal (h.now.steady_ms, before + RETRY_AFTER_MAX_MS);
    assert_null (last_health (&h));
    harness_free (&h);
}

/*  ---- a secret that is wrong --------------------------------------------- */

#define WRITTEN_PROBE "/auth/{secret}.guerdon-probe/$reward$promo1"

/*  Answers a read of these with no value of anybody but the probe's user, if asked. */
static void answer_nothing (struct harness *h, uint64_t request, const char *user, const char *probe_value)
{
    struct reply reply;
    struct packer *packer = reply_begin (&reply);
    pack_map (packer, probe_value ? 2 : 1);
    pack_text (packer, text_of (user));
    pack_map (packer, 0);
    if (probe_value) {
        pack_literal (packer, "guerdon-probe");
        pack_map (packer, *probe_value != '\0');
        if (*probe_value) {
            pack_literal (packer, "$reward$promo1");
            pack_text (packer, text_of (probe_value));
        }
    }
    answer_json (h, request, 200, packer_raw (packer));
    harness_turn (h);
}

static void assert_nothing_of (struct harness *h, uint64_t request)
{
    const struct message *meta = harness_take (h, MESSAGE_META);
    assert_non_null (meta);
    assert_int_equal (meta->meta.request, request);
    assert_int_equal (meta->meta.result, RESULT_OK);
    struct value values;
    assert_true (raw_value (meta->meta.values, &values) && values.type == VALUE_MAP && values.count == 0);
}

static void without_any_value_the_secret_is_proven_first (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    harness_turn (&h);
    answer_nothing (&h, next_request (&h, "/alice" TAIL), "alice", NULL);
    assert_int_equal (harness_count (&h, MESSAGE_META), 0);
    answer_status (&h, next_request (&h, WRITTEN_PROBE), 200);
    assert_true (harness_fire (&h));
    answer_nothing (&h, next_request (&h, "/alice,guerdon-probe" TAIL), "alice", "1");
    assert_nothing_of (&h, 1);
    /*  From now on one request is enough, for a while. */
    for (uint64_t i = 2; i < 1001; i++) {
        read_user (&h, i, "alice");
        harness_turn (&h);
        answer_nothing (&h, next_request (&h, "/alice,guerdon-probe" TAIL), "alice", "1");
        assert_nothing_of (&h, i);
        harness_clear (&h);
    }
    read_user (&h, 1001, "alice");
    harness_turn (&h);
    next_request (&h, "/alice" TAIL);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    assert_int_equal (harness_logs (&h, LOG_WARN), 0);
    harness_free (&h);
}

static void a_secret_that_is_changed_answers_nobody (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    harness_turn (&h);
    answer_nothing (&h, next_request (&h, "/alice" TAIL), "alice", NULL);
    read_user (&h, 2, "bob");
    for (unsigned i = 0; i < 20; i++) {
        answer_status (&h, next_request (&h, WRITTEN_PROBE), 401);
        assert_int_equal (last_health (&h)->state, SERVICE_DOWN);
        assert_true (harness_mentions (last_health (&h)->reason, "the service rejects API_SECRET (HTTP 401"));
        assert_true (harness_fire (&h));
    }
    assert_int_equal (harness_count (&h, MESSAGE_META), 0);
    answer_status (&h, next_request (&h, WRITTEN_PROBE), 200);
    assert_int_equal (last_health (&h)->state, SERVICE_UP);
    for (unsigned i = 0; i < 2; i++) {
        const struct message *asked;
        while (!(asked = harness_take (&h, MESSAGE_HTTP_REQUEST)))
            assert_true (harness_fire (&h));
        bool alice = harness_says (path_of (asked), "/alice,guerdon-probe" TAIL);
        assert_true (alice || harness_says (path_of (asked), "/bob,guerdon-probe" TAIL));
        answer_nothing (&h, asked->http_request.request, alice ? "alice" : "bob", "1");
        assert_nothing_of (&h, alice ? 1 : 2);
    }
    harness_free (&h);
}

/*  Of several instances one has another secret, say: nobody is to blame for that. */
static void a_reply_without_the_probe_s_value_is_not_believed (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    harness_turn (&h);
    answer_nothing (&h, next_request (&h, "/alice" TAIL), "alice", NULL);
    for (unsigned i = 0; i < 50; i++) {
        answer_status (&h, next_request (&h, WRITTEN_PROBE), 200);
        assert_true (harness_fire (&h));
        uint64_t again = next_request (&h, "/alice,guerdon-probe" TAIL);
        answer_nothing (&h, again, "alice", i < 49 ? "" : "1");
        assert_int_equal (harness_count (&h, MESSAGE_META), i == 49);
    }
    assert_nothing_of (&h, 1);
    assert_int_equal (harness_logs (&h, LOG_WARN), 2); /* that, and that it was asked five times */
    harness_free (&h);
}

/*  ---- writes ------------------------------------------------------------- */

static void a_write_is_a_post_of_its_value (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    write_user (&h, 5, "a/b,c");
    harness_turn (&h);
    const struct message *asked = harness_take (&h, MESSAGE_HTTP_REQUEST);
    assert_true (harness_says (path_of (asked), "/auth/{secret}.a%2Fb%2Cc/$reward$promo1"));
    assert_int_equal (asked->http_request.method, METHOD_POST);
    struct reply reply;
    struct raw body = reply_pair (&reply, "value", "1491000000123");
    assert_int_equal (asked->http_request.body.size, body.size);
    assert_memory_equal (asked->http_request.body.data, body.data, body.size);
    answer_status (&h, asked->http_request.request, 204);
    struct recorded *written = harness_take_recorded (&h, MESSAGE_META_WRITTEN);
    assert_int_equal (written->to.role, ROLE_DECISION);
    assert_int_equal (written->message->meta_written.request, 5);
    assert_int_equal (written->message->meta_written.result, RESULT_OK);
    assert_int_equal (written->message->trace, 1005);
    harness_free (&h);
}

static void a_write_refused_says_why_and_no_secret (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    write_user (&h, 5, "alice");
    harness_turn (&h);
    struct reply reply;
    struct packer *packer = reply_begin (&reply);
    pack_map (packer, 2);
    pack_literal (packer, "code");
    pack_literal (packer, "ResourceNotFound");
    pack_literal (packer, "message");
    pack_literal (packer, "/auth/s3cret.alice does not exist");
    answer_json (&h, next_request (&h, NULL), 404, packer_raw (packer));
    const struct message *written = harness_take (&h, MESSAGE_META_WRITTEN);
    assert_int_equal (written->meta_written.result, RESULT_REFUSED);
    assert_true (harness_says (written->meta_written.reason, "HTTP 404: ResourceNotFound"));
    write_user (&h, 6, "alice");
    harness_turn (&h);
    answer_json (&h, next_request (&h, NULL), 400, reply_pair (&reply, "code", "/auth/s3cret"));
    assert_true (harness_says (harness_take (&h, MESSAGE_META_WRITTEN)->meta_written.reason, "HTTP 400"));
    harness_free (&h);
}

static void a_write_fails_until_it_succeeds (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    write_user (&h, 5, "alice");
    harness_turn (&h);
    for (unsigned i = 0; i < 4; i++) {
        answer_status (&h, next_request (&h, "/auth/{secret}.alice/$reward$promo1"), 502);
        answer_status (&h, next_request (&h, PROBE), 200);
        assert_true (harness_fire (&h));
    }
    answer_status (&h, next_request (&h, "/auth/{secret}.alice/$reward$promo1"), 200);
    assert_int_equal (harness_take (&h, MESSAGE_META_WRITTEN)->meta_written.result, RESULT_OK);
    harness_free (&h);
}

static void a_secret_that_changes_is_waited_for (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    write_user (&h, 5, "alice");
    harness_turn (&h);
    answer_status (&h, next_request (&h, NULL), 401);
    answer_status (&h, next_request (&h, PROBE), 401);
    assert_int_equal (last_health (&h)->state, SERVICE_DOWN);
    assert_true (harness_says (last_health (&h)->reason, "the service rejects API_SECRET (HTTP 401)"));
    for (unsigned i = 0; i < 10; i++) {
        uint64_t before = h.now.steady_ms;
        while (harness_count (&h, MESSAGE_HTTP_REQUEST) == 0)
            assert_true (harness_fire (&h));
        assert_true (h.now.steady_ms - before >= 5000);
        answer_status (&h, next_request (&h, PROBE), 401);
    }
    while (harness_count (&h, MESSAGE_HTTP_REQUEST) == 0)
        assert_true (harness_fire (&h));
    answer_status (&h, next_request (&h, PROBE), 200);
    answer_status (&h, next_request (&h, "/auth/{secret}.alice/$reward$promo1"), 200);
    assert_int_equal (harness_take (&h, MESSAGE_META_WRITTEN)->meta_written.result, RESULT_OK);
    assert_int_equal (last_health (&h)->state, SERVICE_UP);
    assert_int_equal (harness_count (&h, MESSAGE_HEALTH), 2);
    harness_free (&h);
}

static void two_writes_of_a_user_are_not_under_way_at_once (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    write_user (&h, 1, "alice");
    write_user (&h, 2, "alice");
    write_user (&h, 3, "bob");
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 2);
    uint64_t first = next_request (&h, "/auth/{secret}.alice/$reward$promo1");
    next_request (&h, "/auth/{secret}.bob/$reward$promo1");
    harness_run (&h, 100);
    assert_int_equal (harness_count (&h, MESSAGE_HTTP_REQUEST), 0);
    answer_status (&h, first, 200);
    harness_run (&h, 100);
    answer_status (&h, next_request (&h, "/auth/{secret}.alice/$reward$promo1"), 200);
    assert_int_equal (harness_take (&h, MESSAGE_META_WRITTEN)->meta_written.request, 1);
    assert_int_equal (harness_take (&h, MESSAGE_META_WRITTEN)->meta_written.request, 2);
    harness_free (&h);
}

/*  ---- bounds ------------------------------------------------------------- */

static void what_exceeds_the_capacity_is_refused (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    settings.window = 1;
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_many (&h, 1 + REQUESTS_SPARE);
    assert_int_equal (harness_count (&h, MESSAGE_META), 0);
    read_user (&h, 1000, "zoe");
    write_user (&h, 1001, "zoe");
    assert_refused (&h, 1000, "too many requests");
    assert_int_equal (harness_take (&h, MESSAGE_META_WRITTEN)->meta_written.result, RESULT_REFUSED);
    assert_int_equal (harness_logs (&h, LOG_ERROR), 2);
    struct stand_in service = { 0 };
    serve (&h, &service, 1);
    assert_int_equal (metas (&h, RESULT_OK), 1 + REQUESTS_SPARE);
    read_user (&h, 1002, "zoe");
    harness_turn (&h);
    serve (&h, &service, 1);
    assert_int_equal (metas (&h, RESULT_OK), 2 + REQUESTS_SPARE);
    harness_free (&h);
}

static void drained_is_said_once_and_only_when_idle (void **state)
{
    (void) state;
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    read_user (&h, 1, "alice");
    harness_turn (&h);
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    write_user (&h, 2, "bob");
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_DRAINED), 0);
    struct stand_in service = { 0 };
    const struct message *read = harness_take (&h, MESSAGE_HTTP_REQUEST);
    serve_one (&h, &service, read);
    assert_int_equal (harness_count (&h, MESSAGE_DRAINED), 0);
    answer_status (&h, next_request (&h, NULL), 200);
    assert_int_equal (harness_count (&h, MESSAGE_DRAINED), 1);
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_DRAINED), 1);
    harness_free (&h);

    harness_init (&h, &usermeta_client_spec, &settings);
    harness_start (&h);
    harness_plain (&h, MESSAGE_DRAIN);
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_DRAINED), 1);
    harness_free (&h);
}

/*  The newest value of a gauge that was said since the last look; `before` when none
    was. */
static uint64_t gauge (struct harness *h, enum gauge gauge, uint64_t before)
{
    uint64_t value = before;
    for (size_t i = 0; i < h->count; i++) {
        struct recorded *effect = &h->effects[i];
        if (effect->taken || effect->message->id != MESSAGE_MEASURE ||
            effect->message->measure.gauge != gauge)
            continue;
        effect->taken = true;
        value = effect->message->measure.value;
    }
    return value;
}

static void gauges_tell_what_changed (void **state)
{
    (void) state;
    enum { UNSAID = 99 };
    struct settings settings = harness_settings ();
    struct harness h;
    harness_open (&h, &usermeta_client_spec, &settings);
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_MEASURE), 0);
    read_user (&h, 1, "alice");
    harness_turn (&h);
    harness_turn (&h);
    assert_int_equal (harness_count (&h, MESSAGE_MEASURE), 1);
    assert_int_equal (gauge (&h, GAUGE_IN_FLIGHT, UNSAID), 1);
    answer_status (&h, next_request (&h, NULL), 503);
    assert_int_equal (gauge (&h, GAUGE_RETRIES, UNSAID), 1);
    assert_int_equal (gauge (&h, GAUGE_QUEUE, UNSAID), 1);
    assert_int_equal (gauge (&h, GAUGE_CONCURRENCY, UNSAID), HTTP_CONCURRENCY_MAX / 2);
    assert_int_equal (harness_count (&h, MESSAGE_MEASURE), 0);
    struct stand_in service = { 0 };
    serve (&h, &service, 1000);
    assert_int_equal (gauge (&h, GAUGE_IN_FLIGHT, UNSAID), 0);
    assert_int_equal (gauge (&h, GAUGE_QUEUE, UNSAID), 0);
    assert_int_equal (gauge (&h, GAUGE_BREAKER, UNSAID), UNSAID);
    harness_free (&h);
}

static void the_breaker_is_told_of (void **state)
{
    (void) state;
    enum { UNSAID = 99 };
    struct settings settings = harness_settings ();
    struct harness h;
    harness_init (&h, &usermeta_client_spec, &settings);
    harness_start (&h);
    assert_int_equal (gauge (&h, GAUGE_BREAKER, UNSAID), BREAKER_HALF_OPEN);
    assert_int_equal (gauge (&h, GAUGE_CONCURRENCY, UNSAID), HTTP_CONCURRENCY_MAX);
    answer_status (&h, next_request (&h, PROBE), 200);
    assert_int_equal (gauge (&h, GAUGE_BREAKER, UNSAID), BREAKER_CLOSED);
    read_user (&h, 1, "alice");
    harness_turn (&h);
    answer_status (&h, next_request (&h, "/alice" TAIL), 500);
    assert_int_equal (gauge (&h, GAUGE_BREAKER, UNSAID), UNSAID);
    answer_status (&h, next_request (&h, QUESTION), 500);
    assert_int_equal (gauge (&h, GAUGE_BREAKER, UNSAID), BREAKER_OPEN);
    assert_int_equal (gauge (&h, GAUGE_CONCURRENCY, UNSAID), 1);
    assert_true (harness_fire (&h));
    assert_int_equal (gauge (&h, GAUGE_BREAKER, UNSAID), BREAKER_HALF_OPEN);
    answer_status (&h, next_request (&h, QUESTION), 200);
    assert_int_equal (gauge (&h, GAUGE_BREAKER, UNSAID), BREAKER_CLOSED);
    harness_free (&h);
}

/*  ---- anything goes ------------------------------------------------------ */

/*  A service that fails at random, and sometimes for a while. */
static void answer_at_random (struct harness *h, uint64_t *seed, unsigned *bad, const struct message *asked)
{
    uint64_t request = asked->http_request.request;
    if (*bad == 0 && draw (seed) % 40 == 0)
        *bad = (unsigned) (draw (seed) % 50);
    bool fails = *bad > 0 || draw (seed) % 8 == 0;
    *bad -= *bad > 0;
    static const unsigned statuses[] = { 500, 503, 429, 401, 408 };
    unsigned how = (unsigned) (draw (seed) % 9);
    struct reply reply;
    if (!fails && asked->http_request.method == METHOD_GET) {
        pack_users (reply_begin (&reply), list_of (asked->http_request.path));
        answer_json (h, request, 200, packer_raw (&reply.packer));
        harness_turn (h);
    } else if (!fails)
        answer_status (h, request, 200);
    else if (how < 5)
        answer_later (h, request, statuses[how], draw (seed) % 2 ? 0 : draw (seed) % 3000);
    else
        answer_broken (h, request, (enum http_outcome) (how - 4));
}

static void every_request_is_answered_exactly_once (void **state)
{
    (void) state;
    uint64_t first = (uint64_t) time (NULL) * 1000;
    for (uint64_t round = 0; round < 30; round++) {
        uint64_t seed = first + round;
        print_message ("seed %llu\n", (unsigned long long) seed);
        struct settings settings = harness_settings ();
        settings.window = 400;
        settings.hash_seed = seed;
        struct harness h;
        harness_open (&h, &usermeta_client_spec, &settings);
        static uint8_t answers[400];
        memset (answers, 0, sizeof answers);
        unsigned asked = 0, bad = 0, steps = 0;
        while (asked < 400 || harness_count (&h, MESSAGE_HTTP_REQUEST) ||
               harness_next_timer (&h) < TIMERS_MAX) {
            assert_true (steps++ < 200000);
            for (uint64_t n = draw (&seed) % 20; n > 0 && asked < 400; n--, asked++) {
                char user[16];
                snprintf (user, sizeof user, "u%u", (unsigned) (draw (&seed) % 100));
                if (asked % 3)
                    read_user (&h, asked, user);
                else
                    write_user (&h, asked, user);
            }
            harness_turn (&h);
            const struct message *request = harness_take (&h, MESSAGE_HTTP_REQUEST);
            if (request)
                answer_at_random (&h, &seed, &bad, request);
            else
                harness_fire (&h);
            for (size_t i = 0; i < h.count; i++) {
                const struct message *message = h.effects[i].message;
                if (h.effects[i].taken)
                    continue;
                if (message->id == MESSAGE_META)
                    assert_int_equal (answers[message->meta.request]++, 0);
                if (message->id == MESSAGE_META_WRITTEN)
                    assert_int_equal (answers[message->meta_written.request]++, 0);
                h.effects[i].taken = message->id != MESSAGE_HTTP_REQUEST;
            }
            if (harness_count (&h, MESSAGE_HTTP_REQUEST) == 0)
                harness_clear (&h);
        }
        for (unsigned i = 0; i < 400; i++)
            assert_int_equal (answers[i], 1);
        harness_free (&h);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (probe_comes_first_and_opens),
        cmocka_unit_test (probe_denied_ends_it),
        cmocka_unit_test (probe_waits_for_a_service_that_is_down),
        cmocka_unit_test (probe_answered_oddly_is_accepted_and_told),
        cmocka_unit_test (too_many_peers_are_not_remembered),
        cmocka_unit_test (nothing_goes_out_before_the_probe_is_accepted),
        cmocka_unit_test (reads_of_many_travel_as_one),
        cmocka_unit_test (reads_of_other_keys_travel_apart),
        cmocka_unit_test (a_request_is_neither_too_long_nor_of_too_many),
        cmocka_unit_test (the_longest_user_id_is_asked_for),
        cmocka_unit_test (ids_that_the_list_takes_apart_go_alone),
        cmocka_unit_test (without_any_value_the_secret_is_proven_first),
        cmocka_unit_test (a_secret_that_is_changed_answers_nobody),
        cmocka_unit_test (a_reply_without_the_probe_s_value_is_not_believed),
        cmocka_unit_test (spaces_within_an_id_stay_in_the_list),
        cmocka_unit_test (ids_that_cannot_be_kept_are_refused_unasked),
        cmocka_unit_test (one_user_asked_for_twice_is_answered_twice),
        cmocka_unit_test (a_missing_user_is_asked_for_alone_then_refused),
        cmocka_unit_test (values_beyond_the_limit_are_refused),
        cmocka_unit_test (a_reply_that_makes_no_sense_is_asked_again),
        cmocka_unit_test (answers_late_twice_or_for_nobody_change_nothing),
        cmocka_unit_test (one_poisonous_id_does_not_spoil_a_hundred),
        cmocka_unit_test (an_id_that_breaks_the_service_does_not_stop_the_others),
        cmocka_unit_test (a_lone_culprit_is_refused_when_the_service_is_well),
        cmocka_unit_test (an_outage_of_an_hour_blames_nobody),
        cmocka_unit_test (a_page_in_place_of_the_service_blames_nobody),
        cmocka_unit_test (nobody_is_asked_about_again_before_the_service_is),
        cmocka_unit_test (what_did_not_reach_the_service_goes_whole_again),
        cmocka_unit_test (a_read_denied_asks_about_the_secret),
        cmocka_unit_test (an_outage_of_writes_is_asked_about_by_a_write),
        cmocka_unit_test (too_many_requests_are_waited_out),
        cmocka_unit_test (a_write_is_a_post_of_its_value),
        cmocka_unit_test (a_write_refused_says_why_and_no_secret),
        cmocka_unit_test (a_write_fails_until_it_succeeds),
        cmocka_unit_test (a_secret_that_changes_is_waited_for),
        cmocka_unit_test (two_writes_of_a_user_are_not_under_way_at_once),
        cmocka_unit_test (what_exceeds_the_capacity_is_refused),
        cmocka_unit_test (drained_is_said_once_and_only_when_idle),
        cmocka_unit_test (gauges_tell_what_changed),
        cmocka_unit_test (the_breaker_is_told_of),
        cmocka_unit_test (an_outage_does_not_count_as_patience),
        cmocka_unit_test (every_request_is_answered_exactly_once),
    };
    return cmocka_run_group_tests_name ("usermeta_client", tests, NULL, NULL);
}
