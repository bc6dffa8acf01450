/*  test_curve.c - tcp sockets with keys: the right one, wrong ones, none; new
    ones while it runs; strangers in numbers.
*/
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "actors/base/curve.h"

enum { DEADLINE_MS = 20000, PAGE_SIZE = 65536, CROWD = 1000, ENFORCE_DOMAIN = 93 };

static char directory[] = "/tmp/test_curve_XXXXXX";
static struct certificate certificates[PARTY_COUNT];
static void *context;
static struct curve *curve;
static struct monitor *monitor;
static char reason[2048];

/*  ---- files --------------------------------------------------------------- */

static const char *in_directory (const char *name)
{
    static char paths[2][128];
    static unsigned turn;
    turn = !turn;
    snprintf (paths[turn], sizeof paths[turn], "%s/%s", directory, name);
    return paths[turn];
}

static const char *file_of (const char *party, const char *suffix)
{
    char name[64];
    snprintf (name, sizeof name, "%.32s%s", party, suffix);
    return in_directory (name);
}

/*  Puts a certificate in place of another at once, as one does it by hand. */
static void put (const struct certificate *certificate, const char *path, bool secret)
{
    const char *partial = in_directory ("partial");
    assert_true (certificate_write (certificate, partial, secret, reason, sizeof reason));
    assert_int_equal (rename (partial, path), 0);
}

static void put_pair (const struct certificate *certificate)
{
    put (certificate, file_of (certificate->role, ".cert"), false);
    put (certificate, file_of (certificate->role, ".cert_secret"), true);
}

static int begin (void **state)
{
    (void) state;
    memcpy (directory + strlen (directory) - 6, "XXXXXX", 6);
    if (!mkdtemp (directory))
        return -1;
    for (unsigned party = 0; party < PARTY_COUNT; party++) {
        certificate_generate (&certificates[party], party_name (party));
        put_pair (&certificates[party]);
    }
    context = zmq_ctx_new ();
    monitor = monitor_new ();
    curve = curve_open (context, directory, PARTY_BIT (PARTY_COUNT) - 1, reason, sizeof reason);
    if (!curve || !monitor)
        return -1;
    curve_report (curve, monitor);
    return 0;
}

static int end (void **state)
{
    (void) state;
    curve_close (&curve);
    assert_null (curve);
    zmq_ctx_term (context);
    monitor_destroy (&monitor);
    DIR *listing = opendir (directory);
    for (const struct dirent *entry; listing && (entry = readdir (listing)) != NULL;)
        if (entry->d_name[0] != '.')
            unlinkat (dirfd (listing), entry->d_name, 0);
    closedir (listing);
    return rmdir (directory);
}

/*  ---- sockets ------------------------------------------------------------- */

static uint64_t now_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

static void set (void *socket, int option, int value)
{
    assert_int_equal (zmq_setsockopt (socket, option, &value, sizeof value), 0);
}

struct server {
    void *socket;
    char endpoint[64];
};

static struct server open_server (const char *domain)
{
    struct server server = { zmq_socket (context, ZMQ_ROUTER), "" };
    size_t size = sizeof server.endpoint;
    set (server.socket, ZMQ_LINGER, 0);
    if (domain)
        assert_true (curve_server (curve, server.socket, domain));
    assert_int_equal (zmq_bind (server.socket, "tcp://127.0.0.1:*"), 0);
    assert_int_equal (zmq_getsockopt (server.socket, ZMQ_LAST_ENDPOINT, server.endpoint, &size), 0);
    return server;
}

/*  A client that takes its keys from curve, like every actor. */
static void *open_client (const char *own, const char *domain, const char *endpoint)
{
    void *client = zmq_socket (context, ZMQ_DEALER);
    set (client, ZMQ_LINGER, 0);
    set (client, ZMQ_RECONNECT_IVL, 20);
    assert_true (curve_client (curve, client, own, domain));
    assert_int_equal (zmq_connect (client, endpoint), 0);
    return client;
}

/*  A client that takes the keys it likes, and tries once. NULL: no CURVE. */
static void *open_stranger (const struct certificate *own, const struct certificate *server,
                            const char *endpoint)
{
    void *client = zmq_socket (context, ZMQ_DEALER);
    set (client, ZMQ_LINGER, 0);
    set (client, ZMQ_RECONNECT_IVL, -1);
    if (own) {
        zmq_setsockopt (client, ZMQ_CURVE_SERVERKEY, server->public_key, CERTIFICATE_KEY_SIZE);
        zmq_setsockopt (client, ZMQ_CURVE_PUBLICKEY, own->public_key, CERTIFICATE_KEY_SIZE);
        zmq_setsockopt (client, ZMQ_CURVE_SECRETKEY, own->secret_key, CERTIFICATE_KEY_SIZE);
    }
    assert_int_equal (zmq_connect (client, endpoint), 0);
    zmq_send (client, "let me in", 9, ZMQ_DONTWAIT); /* fails when it is turned away already */
    return client;
}

/*  A message and the user that it came from. */
struct taken {
    char text[64];
    char user[64];
};

/*  Takes what waits at a server, answers it; false when nothing does. */
static bool serve (void *server, struct taken *taken)
{
    char identity[256];
    zmq_msg_t message;
    int size = zmq_recv (server, identity, sizeof identity, ZMQ_DONTWAIT);
    if (size < 0)
        return false;
    zmq_msg_init (&message);
    assert_true (zmq_msg_recv (&message, server, 0) >= 0);
    size_t length = zmq_msg_size (&message) < sizeof taken->text ? zmq_msg_size (&message) : 0;
    memcpy (taken->text, zmq_msg_data (&message), length);
    taken->text[length] = '\0';
    const char *user = zmq_msg_gets (&message, "User-Id");
    snprintf (taken->user, sizeof taken->user, "%s", user ? user : "");
    zmq_msg_close (&message);
    zmq_send (server, identity, (size_t) size, ZMQ_SNDMORE);
    zmq_send (server, "answer", 6, 0);
    return true;
}

/*  Renews both sockets as their actors would, until a question got its answer.
    What is lost on the way is asked again. */
static void check_talk (void *client, void *server, const char *user)
{
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    uint64_t asked_ms = 0;
    struct taken taken;
    char answer[16];
    while (zmq_recv (client, answer, sizeof answer, ZMQ_DONTWAIT) != 6) {
        if (now_ms () > deadline_ms)
            fail_msg ("no answer");
        if (now_ms () - asked_ms > 200) {
            zmq_send (client, "question", 8, ZMQ_DONTWAIT);
            asked_ms = now_ms ();
        }
        curve_renew (curve, client);
        curve_renew (curve, server);
        zmq_pollitem_t items[] = { { .socket = server, .events = ZMQ_POLLIN },
                                   { .socket = client, .events = ZMQ_POLLIN } };
        zmq_poll (items, 2, 20);
        while (serve (server, &taken))
            assert_string_equal (taken.user, user);
    }
    while (zmq_recv (client, answer, sizeof answer, ZMQ_DONTWAIT) == 6)
        continue;
}

static unsigned long refused (const char *name)
{
    static char page[PAGE_SIZE];
    char label[64];
    size_t size = monitor_metrics_page (monitor, page, sizeof page - 1);
    page[size] = '\0';
    snprintf (label, sizeof label, "guerdon_refused_total{reason=\"%s\"} ", name);
    const char *found = strstr (page, label);
    assert_non_null (found);
    return strtoul (found + strlen (label), NULL, 10);
}

static void wait_refused (const char *name, unsigned long count)
{
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (refused (name) < count) {
        if (now_ms () > deadline_ms)
            fail_msg ("%s: %lu, expected %lu", name, refused (name), count);
        zmq_poll (NULL, 0, 10);
    }
    assert_int_equal (refused (name), count);
}

/*  ---- the right key, and others ------------------------------------------- */

static void test_the_right_key_is_let_in_and_named (void **state)
{
    (void) state;
    struct server decision = open_server ("decision");
    struct server tap = open_server ("tap");
    void *ingest = open_client ("ingest", "decision", decision.endpoint);
    void *looker = open_client ("tap", "tap", tap.endpoint);
    check_talk (ingest, decision.socket, "ingest");
    check_talk (looker, tap.socket, "tap");
    int enforced = 0;
    size_t size = sizeof enforced;
    assert_int_equal (zmq_getsockopt (decision.socket, ENFORCE_DOMAIN, &enforced, &size), 0);
    assert_int_equal (enforced, 1);
    zmq_close (ingest);
    zmq_close (looker);
    zmq_close (decision.socket);
    zmq_close (tap.socket);
    assert_int_equal (refused ("unknown_key") + refused ("wrong_role") + refused ("handshake"), 0);
}

/*  Everybody knocks everywhere, and is let in where the table says. */
static void test_every_key_everywhere (void **state)
{
    (void) state;
    void *clients[PARTY_COUNT * PARTY_COUNT];
    struct server servers[PARTY_COUNT] = { { .socket = NULL } };
    unsigned count = 0, welcome[PARTY_COUNT] = { 0 };
    unsigned long turned_away = 0, let_in = 0;
    for (unsigned server = 0; server < PARTY_COUNT; server++) {
        if (!party_domain (server))
            continue;
        servers[server] = open_server (party_domain (server));
        for (unsigned client = 0; client < PARTY_COUNT; client++) {
            clients[count++] =
                open_stranger (&certificates[client], &certificates[server], servers[server].endpoint);
            bool may = party_admits (server) & PARTY_BIT (client);
            let_in += may;
            turned_away += !may;
        }
    }
    /*  Who runs a role without being let in anywhere is a stranger to ZAP. */
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (refused ("unknown_key") + refused ("wrong_role") < turned_away || let_in > 0) {
        assert_true (now_ms () < deadline_ms);
        struct taken taken;
        for (unsigned server = 0; server < PARTY_COUNT; server++)
            while (servers[server].socket && serve (servers[server].socket, &taken)) {
                unsigned client = 0;
                while (client < PARTY_COUNT && strcmp (party_name (client), taken.user) != 0)
                    client++;
                assert_true (client < PARTY_COUNT && party_admits (server) & PARTY_BIT (client));
                assert_false (welcome[server] & PARTY_BIT (client));
                welcome[server] |= PARTY_BIT (client);
                let_in--;
            }
        zmq_poll (NULL, 0, 5);
    }
    assert_int_equal (refused ("unknown_key") + refused ("wrong_role"), turned_away);
    for (unsigned i = 0; i < count; i++)
        zmq_close (clients[i]);
    for (unsigned server = 0; server < PARTY_COUNT; server++) {
        assert_int_equal (welcome[server], party_admits (server));
        if (servers[server].socket)
            zmq_close (servers[server].socket);
    }
}

/*  ---- strangers ----------------------------------------------------------- */

static int knock (const char *endpoint)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
    address.sin_port = htons ((uint16_t) strtoul (strrchr (endpoint, ':') + 1, NULL, 10));
    int stranger = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true (stranger >= 0);
    assert_int_equal (connect (stranger, (struct sockaddr *) &address, sizeof address), 0);
    return stranger;
}

/*  Says something, and waits until the other end hangs up. */
static void say_rubbish (const char *endpoint, const void *bytes, size_t size)
{
    char ignored[256];
    int stranger = knock (endpoint);
    assert_int_equal (send (stranger, bytes, size, MSG_NOSIGNAL), size);
    shutdown (stranger, SHUT_WR);
    while (recv (stranger, ignored, sizeof ignored, 0) > 0)
        continue;
    close (stranger);
}

static void test_strangers_are_refused_counted_and_change_nothing (void **state)
{
    (void) state;
    struct certificate unknown;
    struct taken taken;
    assert_true (certificate_generate (&unknown, "ingest"));
    struct server decision = open_server ("decision");
    void *ingest = open_client ("ingest", "decision", decision.endpoint);
    check_talk (ingest, decision.socket, "ingest");

    void *wrong_key = open_stranger (&unknown, &certificates[ROLE_DECISION], decision.endpoint);
    wait_refused ("unknown_key", 1);
    void *wrong_role =
        open_stranger (&certificates[ROLE_DECISION], &certificates[ROLE_DECISION], decision.endpoint);
    void *tap = open_stranger (&certificates[PARTY_TAP], &certificates[ROLE_DECISION], decision.endpoint);
    wait_refused ("wrong_role", 2); /* decision's key is let in at others, the tap's at mirrors */
    void *no_key = open_stranger (NULL, NULL, decision.endpoint);
    wait_refused ("handshake", 1);
    void *wrong_server = open_stranger (&certificates[ROLE_INGEST], &unknown, decision.endpoint);
    wait_refused ("handshake", 2);
    assert_false (serve (decision.socket, &taken));

    check_talk (ingest, decision.socket, "ingest");
    zmq_close (wrong_key);
    zmq_close (wrong_role);
    zmq_close (tap);
    zmq_close (no_key);
    zmq_close (wrong_server);
    zmq_close (ingest);
    zmq_close (decision.socket);
}

static void test_who_talks_no_zeromq_is_counted_too (void **state)
{
    (void) state;
    static const char web[] =
        "GET / HTTP/1.1\r\nHost: decision\r\nAccept: everything, really everything\r\n\r\n";
    static const char zmtp[] =
        "\xff\0\0\0\0\0\0\0\1\x7f\3\1CURVE\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        "\0\0\0\0\0\0\0\0\0\0\4\377HELLO and then some more that makes no sense at all";
    uint8_t noise[4096];
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t) ((random = random * 1664525 + 1013904223) >> 24);
    struct server decision = open_server ("decision");
    void *ingest = open_client ("ingest", "decision", decision.endpoint);
    check_talk (ingest, decision.socket, "ingest");
    say_rubbish (decision.endpoint, web, sizeof web - 1);
    wait_refused ("handshake", 1);
    say_rubbish (decision.endpoint, zmtp, sizeof zmtp - 1);
    wait_refused ("handshake", 2);
    say_rubbish (decision.endpoint, noise, sizeof noise);
    wait_refused ("handshake", 3);
    close (knock (decision.endpoint));
    wait_refused ("handshake", 4);
    check_talk (ingest, decision.socket, "ingest");
    /*  A friend who leaves was not refused. */
    zmq_close (ingest);
    ingest = open_client ("ingest", "decision", decision.endpoint);
    check_talk (ingest, decision.socket, "ingest");
    wait_refused ("handshake", 4);
    zmq_close (ingest);
    zmq_close (decision.socket);
}

static void test_a_crowd_of_strangers_keeps_nobody_out (void **state)
{
    (void) state;
    static int crowd[CROWD];
    struct rlimit limit;
    assert_int_equal (getrlimit (RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    setrlimit (RLIMIT_NOFILE, &limit);
    unsigned count = limit.rlim_max > 3 * CROWD ? CROWD : (unsigned) limit.rlim_max / 3;
    struct server decision = open_server ("decision");
    for (unsigned i = 0; i < count; i++) {
        crowd[i] = knock (decision.endpoint);
        if (i % 2)
            assert_int_equal (send (crowd[i], "\xff\0\0\0\0\0\0\0\1\x7f", 10, MSG_NOSIGNAL), 10);
    }
    void *ingest = open_client ("ingest", "decision", decision.endpoint);
    check_talk (ingest, decision.socket, "ingest");
    for (unsigned i = 0; i < count; i++)
        close (crowd[i]);
    wait_refused ("handshake", count);
    check_talk (ingest, decision.socket, "ingest");
    zmq_close (ingest);
    zmq_close (decision.socket);
}

static void test_hostile_bytes_with_a_valid_key (void **state)
{
    (void) state;
    struct taken taken;
    struct server decision = open_server ("decision");
    void *hostile = open_client ("ingest", "decision", decision.endpoint);
    static uint8_t bytes[70000];
    unsigned count = 0;
    check_talk (hostile, decision.socket, "ingest");
    for (size_t size = 0; size < sizeof bytes; size = size * 3 + 1, count++)
        assert_int_equal (zmq_send (hostile, bytes, size, 0), size);
    void *ingest = open_client ("ingest", "decision", decision.endpoint);
    check_talk (ingest, decision.socket, "ingest");
    for (unsigned i = 0; i < count && serve (decision.socket, &taken); i++)
        assert_string_equal (taken.user, "ingest");
    check_talk (ingest, decision.socket, "ingest");
    zmq_close (hostile);
    zmq_close (ingest);
    zmq_close (decision.socket);
}

static void test_a_false_claim_is_counted (void **state)
{
    (void) state;
    curve_false_claim (curve);
    curve_false_claim (curve);
    wait_refused ("claim", 2);
}

/*  ---- the log ------------------------------------------------------------- */

static int real_output;

static void catch_output (void)
{
    fflush (stdout);
    real_output = dup (STDOUT_FILENO);
    int file = open (in_directory ("log"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true (file >= 0 && dup2 (file, STDOUT_FILENO) >= 0);
    close (file);
}

/*  Lines with these words; the output stays caught. */
static unsigned lines_with (const char *words)
{
    static char text[PAGE_SIZE];
    unsigned count = 0;
    int file = open (in_directory ("log"), O_RDONLY);
    ssize_t size = read (file, text, sizeof text - 1);
    close (file);
    text[size > 0 ? size : 0] = '\0';
    for (const char *at = text; (at = strstr (at, words)) != NULL; at++)
        count++;
    return count;
}

static void wait_line (const char *words)
{
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (lines_with (words) == 0 && now_ms () < deadline_ms)
        zmq_poll (NULL, 0, 10);
}

static void release_output (void)
{
    dup2 (real_output, STDOUT_FILENO);
    close (real_output);
}

static void test_a_hundred_refusals_are_one_line (void **state)
{
    (void) state;
    struct certificate unknown;
    assert_true (certificate_generate (&unknown, "ingest"));
    struct server decision = open_server ("decision");
    catch_output ();
    void *strangers[100];
    for (unsigned i = 0; i < 100; i++) {
        strangers[i] = open_stranger (&unknown, &certificates[ROLE_DECISION], decision.endpoint);
        if (i == 0)
            wait_line ("refused connections");
    }
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (refused ("unknown_key") < 100 && now_ms () < deadline_ms)
        zmq_poll (NULL, 0, 10);
    /*  Another sign of life of the thread, a second later. */
    put_pair (&certificates[ROLE_DECISION]);
    wait_line ("certificates have changed");
    unsigned lines = lines_with ("refused connections"),
             named = lines_with ("127.0.0.1, a stranger to decision");
    release_output ();
    assert_int_equal (refused ("unknown_key"), 100);
    assert_int_equal (lines, 1);
    assert_int_equal (named, 1);
    for (unsigned i = 0; i < 100; i++)
        zmq_close (strangers[i]);
    zmq_close (decision.socket);
}

static void test_a_client_that_is_not_let_in_says_so_and_goes_on_trying (void **state)
{
    (void) state;
    struct server plain = open_server (NULL);
    struct server decision = open_server ("decision");
    struct certificate other, kept = certificates[ROLE_DECISION];
    assert_true (certificate_generate (&other, "decision"));
    catch_output ();
    put (&other, file_of ("decision", ".cert"), false); /* not the key that decision has */
    wait_line ("certificates have changed");
    void *ingest = open_client ("ingest", "decision", decision.endpoint);
    wait_line ("does not let us in");
    void *second = open_client ("ingest", "stats", plain.endpoint);
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    while (lines_with ("does not use CURVE") == 0 && now_ms () < deadline_ms) {
        curve_renew (curve, second); /* ZeroMQ alone would not try again */
        zmq_poll (NULL, 0, 10);
    }
    unsigned refusals = lines_with ("does not let us in"), plains = lines_with ("does not use CURVE");
    put (&kept, file_of ("decision", ".cert"), false);
    check_talk (ingest, decision.socket, "ingest");
    wait_line ("lets us in now");
    unsigned healed = lines_with ("lets us in now");
    release_output ();
    assert_int_equal (refusals, 1);
    assert_int_equal (plains, 1);
    assert_int_equal (healed, 1);
    zmq_close (ingest);
    zmq_close (second);
    zmq_close (decision.socket);
    zmq_close (plain.socket);
}

/*  ---- new keys while it runs ---------------------------------------------- */

static void test_a_new_client_key_beside_the_old_one (void **state)
{
    (void) state;
    struct certificate second;
    assert_true (certificate_generate (&second, "ingest"));
    struct server decision = open_server ("decision");
    void *ingest = open_client ("ingest", "decision", decision.endpoint);
    check_talk (ingest, decision.socket, "ingest");
    void *early = open_stranger (&second, &certificates[ROLE_DECISION], decision.endpoint);
    set (early, ZMQ_RECONNECT_IVL, 20);
    wait_refused ("unknown_key", 1);
    zmq_close (early);

    put (&second, file_of ("ingest-2", ".cert"), false);
    void *late = open_stranger (&second, &certificates[ROLE_DECISION], decision.endpoint);
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    struct taken taken;
    while (!serve (decision.socket, &taken)) { /* refused until the directory was looked at */
        assert_true (now_ms () < deadline_ms);
        zmq_close (late);
        late = open_stranger (&second, &certificates[ROLE_DECISION], decision.endpoint);
        zmq_pollitem_t item = { .socket = decision.socket, .events = ZMQ_POLLIN };
        zmq_poll (&item, 1, 200);
    }
    assert_string_equal (taken.user, "ingest");
    check_talk (ingest, decision.socket, "ingest"); /* the old one still counts */

    unlink (file_of ("ingest", ".cert"));
    put (&second, file_of ("ingest", ".cert_secret"), true); /* the actor's own key changes */
    put_pair (&certificates[ROLE_STATS]);
    zmq_close (ingest);
    ingest = open_client ("ingest", "decision", decision.endpoint);
    check_talk (ingest, decision.socket, "ingest");
    zmq_close (late);
    zmq_close (ingest);
    zmq_close (decision.socket);
}

static void test_a_key_that_is_taken_away_opens_nothing_any_more (void **state)
{
    (void) state;
    struct server decision = open_server ("decision");
    void *ingest = open_client ("ingest", "decision", decision.endpoint);
    check_talk (ingest, decision.socket, "ingest");
    catch_output ();
    unlink (file_of ("ingest", ".cert"));
    wait_line ("certificates have changed");
    release_output ();
    void *late = open_stranger (&certificates[ROLE_INGEST], &certificates[ROLE_DECISION], decision.endpoint);
    wait_refused ("unknown_key", 1);
    zmq_close (late);
    zmq_close (ingest);
    zmq_close (decision.socket);
}

static void test_a_new_server_key_without_a_restart (void **state)
{
    (void) state;
    struct certificate second;
    assert_true (certificate_generate (&second, "decision"));
    struct server decision = open_server ("decision");
    void *ingest = open_client ("ingest", "decision", decision.endpoint);
    check_talk (ingest, decision.socket, "ingest");
    put (&second, file_of ("decision", ".cert_secret"), true);
    put (&second, file_of ("decision", ".cert"), false);
    check_talk (ingest, decision.socket, "ingest"); /* whatever is read first */
    /*  Sooner or later only the new key opens. */
    uint64_t deadline_ms = now_ms () + DEADLINE_MS;
    struct taken taken = { .text = "" };
    while (strcmp (taken.text, "let me in") != 0) {
        assert_true (now_ms () < deadline_ms);
        curve_renew (curve, decision.socket);
        curve_renew (curve, ingest);
        void *client = open_stranger (&certificates[ROLE_INGEST], &second, decision.endpoint);
        zmq_pollitem_t item = { .socket = decision.socket, .events = ZMQ_POLLIN };
        zmq_poll (&item, 1, 100);
        serve (decision.socket, &taken);
        zmq_close (client);
    }
    check_talk (ingest, decision.socket, "ingest");
    unsigned long before = refused ("handshake");
    void *old = open_stranger (&certificates[ROLE_INGEST], &certificates[ROLE_DECISION], decision.endpoint);
    wait_refused ("handshake", before + 1);
    zmq_close (old);
    zmq_close (ingest);
    zmq_close (decision.socket);
}

/*  ---- opening and closing -------------------------------------------------- */

static void test_what_cannot_be_opened_says_why (void **state)
{
    (void) state;
    assert_null (curve_open (context, directory, PARTY_BIT (ROLE_STATS), reason, sizeof reason));
    assert_non_null (strstr (reason, "CURVE")); /* one is open already */
    void *other = zmq_ctx_new ();
    assert_null (curve_open (other, "/nonexistent", PARTY_BIT (ROLE_STATS), reason, sizeof reason));
    assert_non_null (strstr (reason, "/nonexistent/stats.cert_secret is missing"));
    zmq_ctx_term (other);
}

static void test_opened_and_closed_many_times (void **state)
{
    (void) state;
    for (unsigned i = 0; i < 100; i++) {
        curve_close (&curve);
        curve = curve_open (context, directory, PARTY_BIT (PARTY_COUNT) - 1, reason, sizeof reason);
        if (!curve)
            fail_msg ("%s", reason);
    }
    for (unsigned i = 0; i < 3 * CURVE_SOCKETS_MAX; i++) { /* rows are given back */
        void *socket = zmq_socket (context, ZMQ_DEALER);
        uint64_t deadline_ms = now_ms () + DEADLINE_MS;
        while (!curve_client (curve, socket, "ingest", "decision")) {
            assert_true (errno == EMFILE && now_ms () < deadline_ms);
            zmq_poll (NULL, 0, 5);
        }
        zmq_close (socket);
    }
}

static void test_who_has_no_business_there_is_told_so (void **state)
{
    (void) state;
    void *socket = zmq_socket (context, ZMQ_DEALER);
    assert_false (curve_client (curve, socket, "ingest", "currency-client"));
    assert_int_equal (errno, EINVAL);
    assert_false (curve_client (curve, socket, "nobody", "decision"));
    assert_false (curve_client (curve, socket, "ingest", "nowhere"));
    assert_false (curve_server (curve, socket, "ingest"));
    zmq_close (socket);
    curve_close (&curve);
    curve = curve_open (context, directory, PARTY_BIT (ROLE_STATS), reason, sizeof reason);
    assert_non_null (curve);
    socket = zmq_socket (context, ZMQ_ROUTER);
    assert_false (curve_server (curve, socket, "decision")); /* not opened */
    assert_int_equal (errno, EINVAL);
    assert_true (curve_server (curve, socket, "stats"));
    assert_true (curve_renew (curve, socket));
    zmq_close (socket);
}

/*  Signals belong to the main thread: none may be caught here. */
static void test_its_thread_takes_no_signals (void **state)
{
    (void) state;
    unsigned threads = 0;
    DIR *tasks = opendir ("/proc/self/task");
    assert_non_null (tasks);
    for (const struct dirent *entry; (entry = readdir (tasks)) != NULL;) {
        char path[128], line[256];
        unsigned long long blocked = ~0ull; /* of a thread that ends meanwhile nothing is read */
        if (entry->d_name[0] == '.' || strtol (entry->d_name, NULL, 10) == (long) getpid ())
            continue;
        snprintf (path, sizeof path, "/proc/self/task/%.20s/status", entry->d_name);
        FILE *file = fopen (path, "r");
        while (file && fgets (line, sizeof line, file))
            sscanf (line, "SigBlk: %llx", &blocked);
        if (file)
            fclose (file);
        assert_true (blocked & 1ull << (SIGTERM - 1));
        threads++;
    }
    closedir (tasks);
    assert_true (threads > 0);
}

/*  ---- endpoints ------------------------------------------------------------ */

static void test_plaintext_beyond_loopback_is_refused (void **state)
{
    (void) state;
    static const struct {
        const char *endpoint;
        bool near; /* needs no keys */
    } rows[] = {
        { "inproc://decision", true },
        { "ipc:///run/guerdon/decision.sock", true },
        { "ipc://@abstract", true },
        { "tcp://127.0.0.1:5571", true },
        { "tcp://127.255.3.4:5571", true },
        { "tcp://localhost:5571", true },
        { "tcp://LocalHost:5571", true },
        { "tcp://[::1]:5571", true },
        { "tcp://::1:5571", true },
        { "tcp://[::ffff:127.0.0.1]:5571", true },
        { "tcp://eth0;127.0.0.1:5571", true },
        { "tcp://*:5571", false },
        { "tcp://0.0.0.0:5571", false },
        { "tcp://[::]:5571", false },
        { "tcp://[::ffff:10.0.0.1]:5571", false },
        { "tcp://10.0.0.1:5571", false },
        { "tcp://128.0.0.1:5571", false },
        { "tcp://eth0:5571", false },
        { "tcp://lo:5571", false },
        { "tcp://decision:5571", false },
        { "tcp://localhost.example:5571", false },
        { "tcp://127.0.0.1.example:5571", false },
        { "tcp://127.1:5571", false },
        { "tcp://127.0.0.1;10.0.0.1:5571", false },
        { "tcp://:5571", false },
        { "tcp://", false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *endpoint = rows[i].endpoint;
        print_message ("%s\n", endpoint);
        assert_int_equal (curve_endpoint_allowed (endpoint, false, false, reason, sizeof reason),
                          rows[i].near);
        assert_int_equal (*reason == '\0', rows[i].near);
        if (!rows[i].near)
            assert_true (strstr (reason, endpoint) && strstr (reason, "CURVE_DIR") &&
                         strstr (reason, "ALLOW_PLAINTEXT=1"));
        assert_true (curve_endpoint_allowed (endpoint, true, false, reason, sizeof reason));
        assert_string_equal (reason, "");
        assert_true (curve_endpoint_allowed (endpoint, false, true, reason, sizeof reason));
        assert_int_equal (*reason == '\0', rows[i].near); /* else a warning */
    }
    char large[400] = "tcp://";
    memset (large + 6, '1', sizeof large - 7);
    assert_false (curve_endpoint_allowed (large, false, false, reason, sizeof reason));
    assert_false (curve_endpoint_allowed ("udp://127.0.0.1:1", true, true, reason, sizeof reason));
    assert_non_null (strstr (reason, "expected tcp://"));
    assert_false (curve_endpoint_allowed ("", true, true, reason, sizeof reason));
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_the_right_key_is_let_in_and_named, begin, end),
        cmocka_unit_test_setup_teardown (test_every_key_everywhere, begin, end),
        cmocka_unit_test_setup_teardown (test_strangers_are_refused_counted_and_change_nothing, begin, end),
        cmocka_unit_test_setup_teardown (test_who_talks_no_zeromq_is_counted_too, begin, end),
        cmocka_unit_test_setup_teardown (test_a_crowd_of_strangers_keeps_nobody_out, begin, end),
        cmocka_unit_test_setup_teardown (test_hostile_bytes_with_a_valid_key, begin, end),
        cmocka_unit_test_setup_teardown (test_a_false_claim_is_counted, begin, end),
        cmocka_unit_test_setup_teardown (test_a_hundred_refusals_are_one_line, begin, end),
        cmocka_unit_test_setup_teardown (test_a_client_that_is_not_let_in_says_so_and_goes_on_trying, begin,
                                         end),
        cmocka_unit_test_setup_teardown (test_a_new_client_key_beside_the_old_one, begin, end),
        cmocka_unit_test_setup_teardown (test_a_key_that_is_taken_away_opens_nothing_any_more, begin, end),
        cmocka_unit_test_setup_teardown (test_a_new_server_key_without_a_restart, begin, end),
        cmocka_unit_test_setup_teardown (test_what_cannot_be_opened_says_why, begin, end),
        cmocka_unit_test_setup_teardown (test_opened_and_closed_many_times, begin, end),
        cmocka_unit_test_setup_teardown (test_who_has_no_business_there_is_told_so, begin, end),
        cmocka_unit_test_setup_teardown (test_its_thread_takes_no_signals, begin, end),
        cmocka_unit_test (test_plaintext_beyond_loopback_is_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
