/*  test_sandbox.c - the sandbox over HTTP, request by request as the services
    it stands for are described. Every test has a directory of its own.
*/
#include "tests/shell/http_talk.h"

#include <time.h>

#include "actors/sandbox/sandbox.h"

#define EVENTS "/events/v1/events"
#define AS_CLIENT "?secret=s3.cret&clientId=c&channel=users%2Fv1"
#define POSTED "\"secret\":\"s3.cret\",\"clientId\":\"c\",\"channel\":\"users/v1\","
#define UNAUTHORIZED "{\"code\":\"InvalidCredentialsError\",\"message\":\"Invalid credentials\"}"

enum { POLL_TIMEOUT_MS = 300 };

static char directory[64];
static struct sandbox *sandbox;
static int connection;

static void open_sandbox (uint32_t poll_timeout_ms)
{
    char reason[256] = "";
    const struct sandbox_options options = { .state_dir = directory,
                                             .api_secret = "s3.cret",
                                             .app_1_name = "game-1",
                                             .poll_timeout_ms = poll_timeout_ms };
    sandbox = sandbox_new (&options, reason, sizeof reason);
    if (!sandbox)
        print_error ("%s\n", reason);
    assert_non_null (sandbox);
    connection = talk_open (sandbox_port (sandbox));
}

static void close_sandbox (void)
{
    close (connection);
    sandbox_destroy (&sandbox);
    assert_null (sandbox);
}

static int start (void **state)
{
    (void) state;
    snprintf (directory, sizeof directory, "/tmp/test_sandbox_XXXXXX");
    if (!mkdtemp (directory))
        return -1;
    open_sandbox (POLL_TIMEOUT_MS);
    return 0;
}

static int stop (void **state)
{
    (void) state;
    char file[128];
    static const char *names[] = { "sandbox.db", "sandbox.db-wal", "sandbox.db-shm" };
    close_sandbox ();
    for (size_t i = 0; i < 3; i++) {
        snprintf (file, sizeof file, "%s/%s", directory, names[i]);
        unlink (file);
    }
    return rmdir (directory);
}

/*  Asks and compares status and body. */
static void answers (const char *method, const char *target, const char *body, int status, const char *wanted)
{
    struct talk_reply reply = talk_on (connection, method, target, body, status);
    assert_string_equal (reply.body, wanted);
    free (reply.memory);
}

static void get (const char *target, int status, const char *wanted)
{
    answers ("GET", target, NULL, status, wanted);
}

static void post (const char *target, const char *body, int status, const char *wanted)
{
    answers ("POST", target, body, status, wanted);
}

/*  Asks and checks that the body has, or has not, a piece of text. */
static void mentions (const char *target, const char *piece, bool there)
{
    struct talk_reply reply = talk_on (connection, "GET", target, NULL, 200);
    if ((strstr (reply.body, piece) != NULL) != there)
        print_error ("%s\n", reply.body);
    assert_int_equal (strstr (reply.body, piece) != NULL, there);
    free (reply.memory);
}

static void publish (const char *rest)
{
    char body[4096];
    snprintf (body, sizeof body, "{" POSTED "%s}", rest);
    free (talk_on (connection, "POST", EVENTS, body, 200).memory);
}

static void login (const char *from, const char *user)
{
    char rest[512];
    snprintf (rest, sizeof rest, "\"from\":\"%s\",\"type\":\"LOGIN\",\"data\":{\"userId\":\"%s\"}", from,
              user);
    publish (rest);
}

/*  The ids of a page: "1,2,3". */
static void ids (const char *target, const char *wanted)
{
    char found[256] = "";
    struct talk_reply reply = talk_on (connection, "GET", target, NULL, 200);
    for (char *at = strstr (reply.body, "{\"id\":"); at; at = strstr (at + 1, "{\"id\":"))
        snprintf (found + strlen (found), sizeof found - strlen (found), "%s%ld", *found ? "," : "",
                  strtol (at + 6, NULL, 10));
    assert_string_equal (found, wanted);
    free (reply.memory);
}

static uint64_t now_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/*  ---- events -------------------------------------------------------------- */

static void test_event_comes_back_as_it_was_posted (void **state)
{
    (void) state;
    struct talk_reply posted = talk_on (
        connection, "POST", EVENTS,
        "{" POSTED "\"from\":\"g\",\"type\":\"T\",\"data\":{\"b\":[1,null,2.5],\"a\":\"\xc3\xa9\\u0000\"},"
        "\"req_id\":7}",
        200);
    assert_non_null (strstr (posted.body, "{\"id\":1,\"timestamp\":1"));
    assert_non_null (
        strstr (posted.body, "\"from\":\"g\",\"type\":\"T\",\"data\":{\"b\":[1,null,2.5],\"a\":\""));
    assert_null (strstr (posted.body, "req_id"));
    assert_null (strstr (posted.body, "s3.cret"));
    char page[1024];
    snprintf (page, sizeof page, "[%s]", posted.body);
    get (EVENTS AS_CLIENT "&after=0", 200, page);
    free (posted.memory);
}

static void test_event_without_data_or_with_an_array (void **state)
{
    (void) state;
    publish ("\"from\":\"g\",\"type\":\"T\"");
    publish ("\"from\":\"g\",\"type\":\"T\",\"data\":[]");
    mentions (EVENTS AS_CLIENT "&after=0&limit=1", "data", false);
    mentions (EVENTS AS_CLIENT "&after=1", "\"data\":[]", true);
}

static void test_wrong_secret_comes_before_all_else (void **state)
{
    (void) state;
    static const char *secrets[] = { "", "?secret=", "?secret=S3.cret", "?secret=s3.cre",
                                     "?secret=s3.crett" };
    char target[128];
    for (size_t i = 0; i < 5; i++) {
        snprintf (target, sizeof target, EVENTS "%s", secrets[i]);
        get (target, 401, UNAUTHORIZED);
        snprintf (target, sizeof target, "/events/v1/latest%s", secrets[i]);
        get (target, 401, UNAUTHORIZED);
    }
    post (EVENTS, "{\"secret\":\"no\"}", 401, UNAUTHORIZED);
    post (EVENTS, "{\"secret\":7}", 401, UNAUTHORIZED);
    post (EVENTS, "[]", 401, UNAUTHORIZED);
}

static void test_poll_without_names (void **state)
{
    (void) state;
    static const char *no_client = "{\"code\":\"InvalidContent\",\"message\":\"Invalid Client ID\"}";
    static const char *no_channel = "{\"code\":\"InvalidContent\",\"message\":\"Invalid Channel\"}";
    get (EVENTS "?secret=s3.cret", 400, no_client);
    get (EVENTS "?secret=s3.cret&clientId=&channel=x", 400, no_client);
    get (EVENTS "?secret=s3.cret&clientId=c&channel=", 400, no_channel);
    get ("/events/v1/latest?secret=s3.cret", 400, no_channel);
}

static void refuses_post (const char *rest, const char *message)
{
    char body[1024];
    char wanted[256];
    snprintf (body, sizeof body, "{\"secret\":\"s3.cret\"%s}", rest);
    snprintf (wanted, sizeof wanted, "{\"code\":\"InvalidContent\",\"message\":\"%s\"}", message);
    post (EVENTS, body, 400, wanted);
}

static void test_posts_that_are_no_events (void **state)
{
    (void) state;
#define NAMED ",\"clientId\":\"c\",\"channel\":\"h\""
#define TYPED NAMED ",\"from\":\"g\",\"type\":\"T\""
    refuses_post ("", "Invalid Client ID");
    refuses_post (",\"clientId\":7,\"channel\":\"h\"", "Invalid Client ID");
    refuses_post (",\"clientId\":\"c\"", "Invalid Channel");
    refuses_post (NAMED, "Invalid from");
    refuses_post (NAMED ",\"from\":\"\",\"type\":\"T\"", "Invalid from");
    refuses_post (NAMED ",\"from\":\"g\",\"type\":[]", "Invalid type");
    refuses_post (TYPED ",\"data\":null", "Invalid data");
    refuses_post (TYPED ",\"data\":\"text\"", "Invalid data");
    refuses_post (TYPED ",\"data\":5", "Invalid data");
    refuses_post (TYPED ",\"data\":{\"a\":\"\xff\"}", "Invalid data");
    mentions ("/events/v1/latest?secret=s3.cret&channel=h", "id", false);
}

static void test_bodies_that_are_not_json (void **state)
{
    (void) state;
    static const char *bodies[] = {
        "", "{", "nonsense", "{\"secret\":\"s3.cret\"} x", "\"text\"", "7", "null"
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        post (EVENTS, bodies[i], 401, UNAUTHORIZED);
}

static void test_position_is_stored_by_asking_for_what_follows (void **state)
{
    (void) state;
    for (int i = 0; i < 5; i++)
        publish ("\"from\":\"g\",\"type\":\"T\"");
    ids (EVENTS AS_CLIENT, "1,2,3,4,5");
    ids (EVENTS AS_CLIENT, "1,2,3,4,5");
    ids (EVENTS AS_CLIENT "&after=3", "4,5");
    ids (EVENTS AS_CLIENT, "4,5");
    ids (EVENTS "?secret=s3.cret&clientId=other&channel=users%2Fv1", "1,2,3,4,5");
    ids (EVENTS AS_CLIENT "&after=1&limit=2", "2,3");
    ids (EVENTS AS_CLIENT "&limit=1", "2");
}

static void test_position_that_makes_no_sense_rewinds (void **state)
{
    (void) state;
    static const char *bad[] = { "", "=", "=abc", "=1.5", "=-1", "=007", "=9007199254740992", "=%31x" };
    char target[256];
    for (int i = 0; i < 3; i++)
        publish ("\"from\":\"g\",\"type\":\"T\"");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ids (EVENTS AS_CLIENT "&after=2", "3");
        snprintf (target, sizeof target, "%s&after%s", EVENTS AS_CLIENT, bad[i]);
        ids (target, "1,2,3");
        ids (EVENTS AS_CLIENT, "1,2,3");
    }
}

static void test_limit_that_makes_no_sense_is_a_hundred (void **state)
{
    (void) state;
    char all[512] = "1";
    for (int i = 2; i <= 100; i++)
        snprintf (all + strlen (all), sizeof all - strlen (all), ",%d", i);
    for (int i = 0; i < 101; i++)
        publish ("\"from\":\"g\",\"type\":\"T\"");
    struct talk_reply reply = talk_on (connection, "GET", EVENTS AS_CLIENT "&limit=101", NULL, 200);
    assert_non_null (strstr (reply.body, "{\"id\":101,"));
    free (reply.memory);
    static const char *limits[] = { "", "&limit=0", "&limit=-1", "&limit=x", "&limit=" };
    for (size_t i = 0; i < 5; i++) {
        char target[256];
        snprintf (target, sizeof target, "%s%s", EVENTS AS_CLIENT, limits[i]);
        mentions (target, "{\"id\":100,", true);
        mentions (target, "{\"id\":101,", false);
    }
}

static void test_latest_neither_waits_nor_stores (void **state)
{
    (void) state;
    get ("/events/v1/latest?secret=s3.cret&channel=users%2Fv1", 200, "[]");
    for (int i = 0; i < 4; i++)
        publish ("\"from\":\"g\",\"type\":\"T\"");
    ids ("/events/v1/latest?secret=s3.cret&channel=users%2Fv1&limit=2", "3,4");
    ids ("/events/v1/latest?secret=s3.cret&channel=users%2Fv1", "1,2,3,4");
    ids (EVENTS AS_CLIENT, "1,2,3,4");
}

static void test_channels_count_for_themselves (void **state)
{
    (void) state;
    publish ("\"from\":\"g\",\"type\":\"T\"");
    free (
        talk_on (
            connection, "POST", EVENTS,
            "{\"secret\":\"s3.cret\",\"clientId\":\"c\",\"channel\":\"other\",\"from\":\"g\",\"type\":\"T\"}",
            200)
            .memory);
    ids (EVENTS "?secret=s3.cret&clientId=c&channel=other", "1");
    ids (EVENTS AS_CLIENT, "1");
}

static void test_empty_poll_waits_until_its_time_is_over (void **state)
{
    (void) state;
    uint64_t begun = now_ms ();
    get (EVENTS AS_CLIENT "&after=0", 200, "[]");
    assert_true (now_ms () - begun >= POLL_TIMEOUT_MS);
}

static void test_poll_is_answered_when_something_comes (void **state)
{
    (void) state;
    close_sandbox ();
    open_sandbox (60000);
    int polls[3];
    static const char *targets[3] = { EVENTS AS_CLIENT, EVENTS AS_CLIENT "&after=0",
                                      EVENTS "?secret=s3.cret&clientId=d&channel=elsewhere" };
    for (int i = 0; i < 3; i++) {
        polls[i] = talk_open (sandbox_port (sandbox));
        talk_ask (polls[i], "GET", targets[i], "", NULL, 0);
    }
    /*  A poll that comes after the event finds it at once, so whichever comes
        first, both are answered. */
    publish ("\"from\":\"g\",\"type\":\"T\"");
    for (int i = 0; i < 2; i++) {
        struct talk_reply reply = talk_hear (polls[i], false);
        assert_int_equal (reply.status, 200);
        assert_non_null (strstr (reply.body, "[{\"id\":1,"));
        free (reply.memory);
    }
    char byte;
    assert_int_equal (recv (polls[2], &byte, 1, MSG_DONTWAIT), -1);
    for (int i = 0; i < 3; i++)
        close (polls[i]);
}

static void test_many_polls_that_hang_up_leave_their_places (void **state)
{
    (void) state;
    close_sandbox ();
    open_sandbox (60000);
    for (int round = 0; round < 4; round++) {
        int polls[100];
        for (int i = 0; i < 100; i++) {
            polls[i] = talk_open (sandbox_port (sandbox));
            talk_ask (polls[i], "GET", EVENTS AS_CLIENT, "", NULL, 0);
        }
        for (int i = 0; i < 100; i++)
            close (polls[i]);
        get ("/events/v1/latest?secret=s3.cret&channel=x", 200, "[]");
    }
    publish ("\"from\":\"g\",\"type\":\"T\"");
    ids (EVENTS AS_CLIENT, "1");
}

/*  ---- usermeta ------------------------------------------------------------ */

static void test_values_are_written_and_read (void **state)
{
    (void) state;
    get ("/usermeta/v1/alice,bob/auth,x?secret=s3.cret", 200, "{\"alice\":{},\"bob\":{}}");
    post ("/usermeta/v1/auth/s3.cret.alice/auth", "{\"value\":\"123\"}", 200, "{}");
    post ("/usermeta/v1/auth/s3.cret.bob", "{\"auth\":\"\",\"$reward$x\":\"1\"}", 200, "{}");
    get ("/usermeta/v1/alice,bob/auth,%24reward%24x?secret=s3.cret", 200,
         "{\"alice\":{\"auth\":\"123\"},\"bob\":{\"auth\":\"\",\"$reward$x\":\"1\"}}");
    get ("/usermeta/v1/auth/s3.cret.bob/auth,nothing", 200, "{\"bob\":{\"auth\":\"\"}}");
    post ("/usermeta/v1/auth/s3.cret.alice/auth", "{\"value\":\"124\"}", 200, "{}");
    get ("/usermeta/v1/alice/auth?secret=s3.cret", 200, "{\"alice\":{\"auth\":\"124\"}}");
}

static void test_wrong_secret_reads_nothing_and_says_nothing (void **state)
{
    (void) state;
    post ("/usermeta/v1/auth/s3.cret.alice/auth", "{\"value\":\"123\"}", 200, "{}");
    get ("/usermeta/v1/alice/auth?secret=wrong", 200, "{\"alice\":{}}");
    get ("/usermeta/v1/alice/auth", 200, "{\"alice\":{}}");
}

static void test_token_that_is_wrong_is_401 (void **state)
{
    (void) state;
    static const char *tokens[] = { "alice",    "wrong.alice",  "s3.cret",
                                    "s3.cret.", "s3.cretalice", "s3..cret.alice" };
    char target[128];
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        snprintf (target, sizeof target, "/usermeta/v1/auth/%s/auth", tokens[i]);
        post (target, "{\"value\":\"1\"}", 401, UNAUTHORIZED);
        get (target, 401, UNAUTHORIZED);
        snprintf (target, sizeof target, "/usermeta/v1/auth/%s", tokens[i]);
        post (target, "{\"auth\":\"1\"}", 401, UNAUTHORIZED);
    }
    get ("/usermeta/v1/alice/auth?secret=s3.cret", 200, "{\"alice\":{}}");
}

static void test_lists_are_trimmed_and_have_no_empty_items (void **state)
{
    (void) state;
    static const char *users = "{\"code\":\"InvalidUserIds\",\"message\":\"Invalid list of user ids\"}";
    static const char *keys = "{\"code\":\"InvalidMetanames\",\"message\":\"Invalid list of keys\"}";
    post ("/usermeta/v1/auth/s3.cret.alice/auth", "{\"value\":\"1\"}", 200, "{}");
    get ("/usermeta/v1/%20alice%20%2C%09bob/%20auth%0a?secret=s3.cret", 200,
         "{\"alice\":{\"auth\":\"1\"},\"bob\":{}}");
    get ("/usermeta/v1/alice,alice/auth,auth?secret=s3.cret", 200, "{\"alice\":{\"auth\":\"1\"}}");
    get ("/usermeta/v1/alice,/auth?secret=s3.cret", 400, users);
    get ("/usermeta/v1/,alice/auth?secret=s3.cret", 400, users);
    get ("/usermeta/v1/alice,%20,bob/auth?secret=s3.cret", 400, users);
    get ("/usermeta/v1//auth?secret=s3.cret", 400, users);
    get ("/usermeta/v1/%ff/auth?secret=s3.cret", 400, users);
    get ("/usermeta/v1/alice/auth,?secret=s3.cret", 400, keys);
    get ("/usermeta/v1/alice/%20?secret=s3.cret", 400, keys);
}

static void test_ids_of_any_bytes_work_with_a_token (void **state)
{
    (void) state;
    static const struct {
        const char *encoded;
        const char *json;
    } cases[] = { { "a%2Fb%20%C3%A9", "a/b \xc3\xa9" },
                  { "..%2Fx", "../x" },
                  { ".", "." },
                  { "%3F%23%25%2B", "?#%+" },
                  { "%2C%20", ", " },
                  { "%00", "\\u0000" },
                  { "%0A", "\\n" },
                  { "a.b", "a.b" },
                  { "auth", "auth" },
                  { "%22%5C", "\\\"\\\\" } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char target[256];
        char wanted[256];
        snprintf (target, sizeof target, "/usermeta/v1/auth/s3.cret.%s/k", cases[i].encoded);
        snprintf (wanted, sizeof wanted, "{\"%s\":{\"k\":\"%zu\"}}", cases[i].json, i);
        char value[64];
        snprintf (value, sizeof value, "{\"value\":\"%zu\"}", i);
        post (target, value, 200, "{}");
        get (target, 200, wanted);
    }
}

static void test_user_id_of_7000_bytes (void **state)
{
    (void) state;
    enum { SIZE = 7000 };
    char *target = malloc (SIZE + 64);
    int size = snprintf (target, 64, "/usermeta/v1/auth/s3.cret.");
    memset (target + size, 'u', SIZE);
    snprintf (target + size + SIZE, 8, "/k");
    post (target, "{\"value\":\"x\"}", 200, "{}");
    struct talk_reply reply = talk_on (connection, "GET", target, NULL, 200);
    assert_non_null (strstr (reply.body, "u\":{\"k\":\"x\"}}"));
    free (reply.memory);
    free (target);
}

static void test_values_that_are_no_strings (void **state)
{
    (void) state;
    static const char *one = "{\"code\":\"InvalidValue\",\"message\":\"The value is not a string\"}";
    static const char *many =
        "{\"code\":\"InvalidValue\",\"message\":\"The body is not an object of strings\"}";
    static const char *bodies[] = {
        "{\"value\":7}", "{\"value\":null}", "{}", "[]", "", "{\"value\":{}}", "x"
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        post ("/usermeta/v1/auth/s3.cret.a/k", bodies[i], 400, one);
        post ("/usermeta/v1/auth/s3.cret.a", bodies[i], 400, many);
    }
    post ("/usermeta/v1/auth/s3.cret.a", "{\"k\":\"good\",\"l\":7}", 400, many);
    get ("/usermeta/v1/a/k,l,value?secret=s3.cret", 200, "{\"a\":{}}");
}

static void test_user_id_with_a_colon_breaks_only_its_request (void **state)
{
    (void) state;
    static const char *broken =
        "{\"code\":\"InternalError\",\"message\":\"A user id with a colon breaks this service\"}";
    get ("/usermeta/v1/alice,a%3Ab/auth?secret=s3.cret", 500, broken);
    get ("/usermeta/v1/auth/s3.cret.a:b/auth", 500, broken);
    post ("/usermeta/v1/auth/s3.cret.a:b/auth", "{\"value\":\"1\"}", 500, broken);
    post ("/usermeta/v1/auth/s3.cret.a:b", "{\"auth\":\"1\"}", 500, broken);
    get ("/usermeta/v1/alice/auth?secret=s3.cret", 200, "{\"alice\":{}}");
}

static void test_key_with_a_colon_is_not_read_back_under_its_name (void **state)
{
    (void) state;
    post ("/usermeta/v1/auth/s3.cret.a/x%3Ay", "{\"value\":\"1\"}", 200, "{}");
    get ("/usermeta/v1/a/x%3Ay?secret=s3.cret", 200, "{\"a\":{\"x\":\"1\"}}");
}

/*  ---- the users service ---------------------------------------------------- */

static void test_login_from_app_1_sets_auth (void **state)
{
    (void) state;
    login ("game-1", "alice");
    mentions ("/usermeta/v1/alice/auth?secret=s3.cret", "{\"alice\":{\"auth\":\"1", true);
}

static void test_other_events_do_not_set_auth (void **state)
{
    (void) state;
    login ("game-2", "alice");
    publish ("\"from\":\"game-1\",\"type\":\"CREATE\",\"data\":{\"userId\":\"alice\"}");
    publish ("\"from\":\"game-1\",\"type\":\"LOGIN\",\"data\":{\"userId\":7}");
    publish ("\"from\":\"game-1\",\"type\":\"LOGIN\",\"data\":[]");
    publish ("\"from\":\"game-1\",\"type\":\"LOGIN\"");
    login ("game-1", "");
    free (talk_on (connection, "POST", EVENTS,
                   "{\"secret\":\"s3.cret\",\"clientId\":\"c\",\"channel\":\"other\",\"from\":\"game-1\","
                   "\"type\":\"LOGIN\",\"data\":{\"userId\":\"alice\"}}",
                   200)
              .memory);
    get ("/usermeta/v1/alice/auth?secret=s3.cret", 200, "{\"alice\":{}}");
}

/*  ---- virtualcurrency ------------------------------------------------------ */

static void reward (const char *to, const char *amount, const char *currency)
{
    char body[512];
    snprintf (
        body, sizeof body,
        "{\"secret\":\"s3.cret\",\"from\":\"rewards/v1\",\"to\":\"%s\",\"amount\":%s,\"currency\":\"%s\","
        "\"data\":{\"rewardId\":\"promo\"}}",
        to, amount, currency);
    free (talk_on (connection, "POST", "/virtualcurrency/v1/rewards", body, 200).memory);
}

static void test_rewards_add_up (void **state)
{
    (void) state;
    get ("/virtualcurrency/v1/auth/s3.cret.alice/coins/gold/count", 200,
         "[{\"currency\":\"gold\",\"count\":0}]");
    reward ("alice", "10", "gold");
    reward ("alice", "5.0", "gold");
    reward ("alice", "-3", "silver");
    reward ("bob", "7", "gold");
    get ("/virtualcurrency/v1/auth/s3.cret.alice/coins/gold,silver/count", 200,
         "[{\"currency\":\"gold\",\"count\":15},{\"currency\":\"silver\",\"count\":-3}]");
}

static void test_reward_is_listed_with_what_it_was_given_for (void **state)
{
    (void) state;
    reward ("a/b,c", "10", "gold");
    struct talk_reply reply =
        talk_on (connection, "GET", "/virtualcurrency/v1/auth/s3.cret.a%2Fb%2Cc/transactions?reasons=reward",
                 NULL, 200);
    assert_non_null (
        strstr (reply.body, "[{\"id\":\"tx-1\",\"type\":\"reward\",\"username\":\"a/b,c\",\"timestamp\":1"));
    assert_non_null (strstr (reply.body, ",\"amount\":10,\"currency\":\"gold\",\"reason\":\"reward\","
                                         "\"data\":{\"from\":\"rewards/v1\",\"rewardId\":\"promo\"}}]"));
    free (reply.memory);
}

static void test_transactions_are_filtered (void **state)
{
    (void) state;
#define LIST "/virtualcurrency/v1/auth/s3.cret.alice/transactions"
    reward ("alice", "1", "gold");
    reward ("alice", "2", "silver");
    reward ("bob", "3", "gold");
    reward ("alice", "4", "gold");
    mentions (LIST "?currencies=gold", "\"amount\":2,", false);
    mentions (LIST "?currencies=gold,%20silver", "\"amount\":2,", true);
    mentions (LIST "?currencies=gold&limit=1", "\"amount\":4,", true);
    mentions (LIST "?currencies=gold&limit=1", "\"amount\":1,", false);
    mentions (LIST, "\"amount\":3,", false);
    get (LIST "?reasons=purchase", 200, "[]");
    get (LIST "?before=1", 200, "[]");
    mentions (LIST "?before=9007199254740991", "\"amount\":1,", true);
    get (LIST "?currencies=,", 400, "{\"code\":\"InvalidContent\",\"message\":\"Invalid list\"}");
    get ("/virtualcurrency/v1/auth/wrong.alice/transactions", 401, UNAUTHORIZED);
    get ("/virtualcurrency/v1/auth/wrong.alice/coins/gold/count", 401, UNAUTHORIZED);
}

static void test_rewards_that_are_none (void **state)
{
    (void) state;
#define REWARDS "/virtualcurrency/v1/rewards"
#define INVALID(what) "{\"code\":\"InvalidContent\",\"message\":\"Invalid " what "\"}"
#define GOOD "{\"secret\":\"s3.cret\",\"from\":\"f\",\"to\":\"a\",\"currency\":\"gold\""
    post (REWARDS, "{\"secret\":\"no\",\"to\":\"a\",\"currency\":\"gold\",\"amount\":1}", 401, UNAUTHORIZED);
    post (REWARDS "?secret=s3.cret", "{\"to\":\"a\"}", 401, UNAUTHORIZED);
    post (REWARDS, "{\"secret\":\"s3.cret\",\"to\":\"\"}", 400, INVALID ("to"));
    post (REWARDS, "{\"secret\":\"s3.cret\",\"to\":\"a\"}", 400, INVALID ("currency"));
    post (REWARDS, GOOD "}", 400, INVALID ("amount"));
    post (REWARDS, GOOD ",\"amount\":\"10\"}", 400, INVALID ("amount"));
    post (REWARDS, GOOD ",\"amount\":1.5}", 400, INVALID ("amount"));
    post (REWARDS, GOOD ",\"amount\":9007199254740992}", 400, INVALID ("amount"));
    post (REWARDS, GOOD ",\"amount\":1,\"data\":[]}", 400, INVALID ("data"));
    post (REWARDS, GOOD ",\"amount\":1,\"data\":{\"a\":\"\xff\"}}", 400, INVALID ("content"));
    get ("/virtualcurrency/v1/auth/s3.cret.a/transactions", 200, "[]");
}

/*  ---- all of it ------------------------------------------------------------ */

static void test_paths_and_methods_that_are_not_there (void **state)
{
    (void) state;
    static const char *paths[] = { "/",
                                   "/events/v1",
                                   "/events/v1/event",
                                   "/events/v1/events/events",
                                   "/usermeta/v1/a",
                                   "/usermeta/v1/a/b/c",
                                   "/events%2Fv1/events",
                                   "/virtualcurrency/v1/auth/s3.cret.a/coins/gold" };
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        get (paths[i], 404, "{\"code\":\"ResourceNotFound\",\"message\":\"There is no such path\"}");
    free (talk_on (connection, "DELETE", EVENTS, NULL, 405).memory);
    free (talk_on (connection, "GET", "/virtualcurrency/v1/rewards", NULL, 405).memory);
}

static void test_data_is_there_after_a_restart (void **state)
{
    (void) state;
    login ("game-1", "alice");
    reward ("alice", "10", "gold");
    ids (EVENTS AS_CLIENT "&after=0", "1");
    free (talk_on (connection, "GET", EVENTS AS_CLIENT "&after=1", NULL, 200).memory);
    close_sandbox ();
    open_sandbox (POLL_TIMEOUT_MS);
    login ("game-2", "alice");
    ids (EVENTS AS_CLIENT, "2");
    get ("/virtualcurrency/v1/auth/s3.cret.alice/coins/gold/count", 200,
         "[{\"currency\":\"gold\",\"count\":10}]");
    mentions ("/usermeta/v1/alice/auth?secret=s3.cret", "\"auth\":\"1", true);
}

static void test_sandbox_that_cannot_start_says_why (void **state)
{
    (void) state;
    char reason[256];
    struct sandbox_options options = { .state_dir = "/nonexistent", .api_secret = "s", .app_1_name = "a" };
    assert_null (sandbox_new (&options, reason, sizeof reason));
    assert_string_equal (reason, "cannot open /nonexistent/sandbox.db: No such file or directory");
    options.state_dir = directory;
    options.port = sandbox_port (sandbox);
    assert_null (sandbox_new (&options, reason, sizeof reason));
    assert_non_null (strstr (reason, "address already in use"));
}

#define SERVED(test) cmocka_unit_test_setup_teardown (test, start, stop)

int main (void)
{
    const struct CMUnitTest tests[] = {
        SERVED (test_event_comes_back_as_it_was_posted),
        SERVED (test_event_without_data_or_with_an_array),
        SERVED (test_wrong_secret_comes_before_all_else),
        SERVED (test_poll_without_names),
        SERVED (test_posts_that_are_no_events),
        SERVED (test_bodies_that_are_not_json),
        SERVED (test_position_is_stored_by_asking_for_what_follows),
        SERVED (test_position_that_makes_no_sense_rewinds),
        SERVED (test_limit_that_makes_no_sense_is_a_hundred),
        SERVED (test_latest_neither_waits_nor_stores),
        SERVED (test_channels_count_for_themselves),
        SERVED (test_empty_poll_waits_until_its_time_is_over),
        SERVED (test_poll_is_answered_when_something_comes),
        SERVED (test_many_polls_that_hang_up_leave_their_places),
        SERVED (test_values_are_written_and_read),
        SERVED (test_wrong_secret_reads_nothing_and_says_nothing),
        SERVED (test_token_that_is_wrong_is_401),
        SERVED (test_lists_are_trimmed_and_have_no_empty_items),
        SERVED (test_ids_of_any_bytes_work_with_a_token),
        SERVED (test_user_id_of_7000_bytes),
        SERVED (test_values_that_are_no_strings),
        SERVED (test_user_id_with_a_colon_breaks_only_its_request),
        SERVED (test_key_with_a_colon_is_not_read_back_under_its_name),
        SERVED (test_login_from_app_1_sets_auth),
        SERVED (test_other_events_do_not_set_auth),
        SERVED (test_rewards_add_up),
        SERVED (test_reward_is_listed_with_what_it_was_given_for),
        SERVED (test_transactions_are_filtered),
        SERVED (test_rewards_that_are_none),
        SERVED (test_paths_and_methods_that_are_not_there),
        SERVED (test_data_is_there_after_a_restart),
        SERVED (test_sandbox_that_cannot_start_says_why),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
