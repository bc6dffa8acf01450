/*  test_keyring.c - who may connect to whom, and what is missing for it. */

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/base/keyring.h"
#include "bin/command.h"
#include "bin/topology.h"

enum { ALL = (1 << PARTY_COUNT) - 1 };

static char root[] = "/tmp/test_keyring_XXXXXX";
static char keys[64], part[64]; /* what keygen wrote; a host's part of it */
static char reason[2048];
static struct keyring keyring;

static void empty (const char *directory)
{
    DIR *listing = opendir (directory);
    for (const struct dirent *entry; listing && (entry = readdir (listing)) != NULL;)
        if (entry->d_name[0] != '.')
            unlinkat (dirfd (listing), entry->d_name, 0);
    if (listing)
        closedir (listing);
}

static int begin_all (void **state)
{
    (void) state;
    char *arguments[] = { "keygen", keys, NULL };
    if (!mkdtemp (root))
        return -1;
    snprintf (keys, sizeof keys, "%s/keys", root);
    snprintf (part, sizeof part, "%s/part", root);
    FILE *output = stdout;
    stdout = fopen ("/dev/null", "w");
    int code = command_keygen (2, arguments);
    fclose (stdout);
    stdout = output;
    return code == EXIT_OK ? mkdir (part, 0700) : -1;
}

static int end_all (void **state)
{
    (void) state;
    empty (keys);
    return rmdir (keys) || rmdir (part) || rmdir (root);
}

static int begin (void **state)
{
    (void) state;
    empty (part);
    return 0;
}

static int end (void **state)
{
    (void) state;
    keyring_wipe (&keyring);
    empty (part);
    return 0;
}

static const char *in (const char *directory, const char *name)
{
    static char paths[2][128];
    static unsigned turn;
    turn = !turn;
    snprintf (paths[turn], sizeof paths[turn], "%s/%s", directory, name);
    return paths[turn];
}

/*  Copies a file that keygen wrote, under the same name or another. A copy with
    its own inode, like one that came over the network. */
static void copy_as (const char *name, const char *as)
{
    char bytes[4096];
    FILE *from = fopen (in (keys, name), "r");
    assert_non_null (from);
    size_t size = fread (bytes, 1, sizeof bytes, from);
    fclose (from);
    char partial[128];
    snprintf (partial, sizeof partial, "%s/.partial", part);
    FILE *to = fopen (partial, "w");
    assert_true (to && fwrite (bytes, 1, size, to) == size && fclose (to) == 0);
    assert_int_equal (chmod (partial, 0600), 0);
    assert_int_equal (rename (partial, in (part, as)), 0);
}

static void copy (const char *name)
{
    copy_as (name, name);
}

static void new_pair (const char *role, const char *public_name, const char *secret_name)
{
    struct certificate certificate;
    assert_true (certificate_generate (&certificate, role));
    if (public_name)
        assert_true (certificate_write (&certificate, in (part, public_name), false, reason, sizeof reason));
    if (secret_name)
        assert_true (certificate_write (&certificate, in (part, secret_name), true, reason, sizeof reason));
}

static void copy_decisions_part (void)
{
    copy ("decision.cert_secret");
    copy ("ingest.cert");
    copy ("usermeta-client.cert");
    copy ("currency-client.cert");
    copy ("stats.cert");
}

static void check_loads (unsigned mask)
{
    if (!keyring_load (&keyring, part, mask, reason, sizeof reason))
        fail_msg ("%s", reason);
    assert_string_equal (reason, "");
}

static void check_refused (unsigned mask, const char *first, const char *second)
{
    static const struct keyring nothing;
    assert_false (keyring_load (&keyring, part, mask, reason, sizeof reason));
    if (!strstr (reason, first) || !strstr (reason, second))
        fail_msg ("\"%s\" does not say \"%s\" and \"%s\"", reason, first, second);
    assert_memory_equal (&keyring, &nothing, sizeof keyring);
}

/*  ---- who may what -------------------------------------------------------- */

static void test_the_keys_follow_the_topology (void **state)
{
    (void) state;
    for (unsigned i = 0; i < topology_count; i++) {
        enum role role = topology[i].spec->role;
        assert_int_equal (party_admits (role), topology_callers (role));
        assert_string_equal (party_name (role), role_name (role));
        if (topology_callers (role))
            assert_string_equal (party_domain (role), role_name (role));
    }
    assert_int_equal (topology_count, PARTY_COUNT - 2); /* no role without a certificate */
}

static void test_a_tap_can_only_tap (void **state)
{
    (void) state;
    assert_int_equal (party_connects_to (PARTY_TAP), PARTY_BIT (PARTY_MIRROR));
    assert_int_equal (party_admits (PARTY_MIRROR), PARTY_BIT (PARTY_TAP));
    assert_int_equal (party_admits (PARTY_TAP), 0);
    assert_int_equal (party_connects_to (PARTY_MIRROR), 0);
    assert_int_equal (party_of_domain ("tap"), PARTY_MIRROR);
    assert_int_equal (party_of_domain ("ingest"), PARTY_COUNT);
    assert_int_equal (party_of_domain (""), PARTY_COUNT);
}

/*  ---- loading ------------------------------------------------------------- */

static void test_the_whole_folder_works_for_any_party (void **state)
{
    (void) state;
    for (unsigned party = 0; party < PARTY_COUNT; party++) {
        assert_true (keyring_load (&keyring, keys, PARTY_BIT (party), reason, sizeof reason));
        assert_string_equal (keyring.own[party].role, party_name (party));
    }
    assert_true (keyring_load (&keyring, keys, ALL, reason, sizeof reason));
    /*  Nobody lets a mirror or a client's actor in; they are known all the same. */
    assert_int_equal (keyring.accepted, 3);
    assert_int_equal (keyring.known_count, PARTY_COUNT);
    assert_int_equal (keyring_who (&keyring, keyring.own[ROLE_INGEST].public_key), ROLE_INGEST);
    assert_int_equal (keyring_who (&keyring, keyring.own[PARTY_TAP].public_key), PARTY_TAP);
    assert_int_equal (keyring_who (&keyring, keyring.own[PARTY_MIRROR].public_key), PARTY_MIRROR);
    assert_int_equal (keyring_who (&keyring, keyring.own[ROLE_STATS].public_key), ROLE_STATS);
}

static void test_a_host_needs_only_its_part (void **state)
{
    (void) state;
    copy_decisions_part ();
    check_loads (PARTY_BIT (ROLE_DECISION));
    static const char *const names[] = { "decision.cert_secret", "ingest.cert", "usermeta-client.cert",
                                         "currency-client.cert", "stats.cert" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unlink (in (part, names[i]));
        char missing[64];
        snprintf (missing, sizeof missing, "/%s is missing", names[i]);
        check_refused (PARTY_BIT (ROLE_DECISION), missing, "expected the ");
        copy (names[i]);
        check_loads (PARTY_BIT (ROLE_DECISION));
    }
}

static void test_a_missing_directory_is_named (void **state)
{
    (void) state;
    assert_false (keyring_load (&keyring, "/nonexistent", PARTY_BIT (ROLE_STATS), reason, sizeof reason));
    assert_non_null (strstr (reason, "/nonexistent/stats.cert_secret is missing"));
    char path[KEYRING_PATH_MAX + 1];
    memset (path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    assert_false (keyring_load (&keyring, path, PARTY_BIT (ROLE_STATS), reason, sizeof reason));
    assert_non_null (strstr (reason, "too long"));
}

static void test_a_certificate_of_another_role_is_named (void **state)
{
    (void) state;
    copy_decisions_part ();
    copy_as ("stats.cert_secret", "decision.cert_secret");
    check_refused (PARTY_BIT (ROLE_DECISION), "decision.cert_secret is the certificate of stats",
                   "expected that of decision");
    copy ("decision.cert_secret");
    copy_as ("tap.cert", "ingest.cert");
    check_refused (PARTY_BIT (ROLE_DECISION), "ingest.cert is the certificate of tap",
                   "expected that of ingest");
    copy ("ingest.cert");
    copy_as ("ingest.cert", "stats.cert");
    check_refused (PARTY_BIT (ROLE_DECISION), "stats.cert is the certificate of ingest",
                   "expected that of stats");
    copy_as ("decision.cert", "decision.cert_secret");
    check_refused (PARTY_BIT (ROLE_DECISION), "decision.cert_secret", "secret-key");
}

static void test_one_key_cannot_be_two_roles (void **state)
{
    (void) state;
    copy ("stats.cert_secret");
    copy ("ingest.cert");
    char text[1024];
    FILE *from = fopen (in (keys, "ingest.cert"), "r");
    size_t size = fread (text, 1, sizeof text - 1, from);
    fclose (from);
    text[size] = '\0';
    FILE *to = fopen (in (part, "decision.cert"), "w"); /* the same key, and no word whose it is */
    fputs (strstr (text, "curve"), to);
    fclose (to);
    check_refused (PARTY_BIT (ROLE_STATS), "has the key of", "one of its own");
}

static void test_a_secret_that_others_can_read_is_refused (void **state)
{
    (void) state;
    copy_decisions_part ();
    assert_int_equal (chmod (in (part, "decision.cert_secret"), 0644), 0);
    check_refused (PARTY_BIT (ROLE_DECISION), "decision.cert_secret has mode 0644", "0600");
}

static void test_several_keys_of_one_party_and_other_files (void **state)
{
    (void) state;
    copy ("stats.cert_secret");
    copy ("ingest.cert");
    copy ("decision.cert");
    new_pair ("decision", "decision-2.cert", NULL);
    new_pair ("decision", "decision-next.cert", NULL);
    new_pair ("stats", "decisions.cert", NULL); /* these are nobody's */
    new_pair ("stats", "decision.cert.old", NULL);
    new_pair ("stats", "decision.cert~", NULL);
    new_pair ("stats", "x.cert", NULL);
    check_loads (PARTY_BIT (ROLE_STATS));
    assert_int_equal (keyring.accepted, 4);
}

static void test_more_keys_than_are_taken (void **state)
{
    (void) state;
    copy ("usermeta-client.cert_secret");
    for (unsigned i = 0; i < KEYRING_KNOWN_MAX; i++) {
        char name[32];
        snprintf (name, sizeof name, "decision-%u.cert", i);
        new_pair ("decision", name, NULL);
    }
    check_loads (PARTY_BIT (ROLE_USERMETA_CLIENT));
    assert_int_equal (keyring.accepted, KEYRING_KNOWN_MAX);
    new_pair ("decision", "decision-more.cert", NULL);
    check_refused (PARTY_BIT (ROLE_USERMETA_CLIENT), "one too many", "at most 64");
}

static void test_files_that_are_not_needed_may_be_wrong (void **state)
{
    (void) state;
    copy_decisions_part ();
    copy_as ("stats.cert", "tap.cert");
    fclose (fopen (in (part, "mirror.cert"), "w"));
    copy ("decision.cert");
    check_loads (PARTY_BIT (ROLE_DECISION));
    assert_int_equal (keyring.accepted, 1);
    assert_int_equal (keyring.known_count, 5);
}

/*  ---- loading again ------------------------------------------------------- */

/*  The signature tells a change, and only a change. */
static void check_changed (uint64_t *signature, bool changed)
{
    uint64_t now = keyring_signature (part);
    assert_int_not_equal (now, 0);
    assert_int_equal (now != *signature, changed);
    *signature = now;
}

static void test_a_change_in_the_directory_is_seen (void **state)
{
    (void) state;
    uint64_t signature = keyring_signature (part);
    assert_int_equal (keyring_signature ("/nonexistent"), 0);
    copy ("decision.cert");
    check_changed (&signature, true);
    check_changed (&signature, false);
    copy ("decision.cert"); /* the same again is another file */
    check_changed (&signature, true);
    new_pair ("decision", "decision-2.cert", NULL);
    check_changed (&signature, true);
    assert_int_equal (chmod (in (part, "decision-2.cert"), 0644), 0);
    check_changed (&signature, true);
    assert_int_equal (rename (in (part, "decision-2.cert"), in (part, "decision-3.cert")), 0);
    check_changed (&signature, true);
    unlink (in (part, "decision-3.cert"));
    check_changed (&signature, true);
    fclose (fopen (in (part, "notes.txt"), "w"));
    check_changed (&signature, false);
}

static void reload (const char *words)
{
    assert_true (keyring_reload (&keyring, part, reason, sizeof reason));
    if (!*words)
        assert_string_equal (reason, "");
    else if (!strstr (reason, words))
        fail_msg ("\"%s\" does not say \"%s\"", reason, words);
}

static void test_keys_come_and_go_with_their_files (void **state)
{
    (void) state;
    struct certificate second;
    copy_decisions_part ();
    check_loads (PARTY_BIT (ROLE_DECISION));
    new_pair ("ingest", "ingest-2.cert", NULL);
    assert_true (certificate_read (&second, in (part, "ingest-2.cert"), false, reason, sizeof reason));
    assert_int_equal (keyring_who (&keyring, second.public_key), PARTY_COUNT);
    reload ("");
    assert_int_equal (keyring_who (&keyring, second.public_key), ROLE_INGEST);
    assert_int_equal (keyring.accepted, 2);
    unlink (in (part, "ingest-2.cert"));
    reload ("");
    assert_int_equal (keyring_who (&keyring, second.public_key), PARTY_COUNT);
    unlink (in (part, "ingest.cert"));
    reload ("ingest.cert is missing");
    assert_int_equal (keyring.accepted, 0);
}

static void test_own_keys_stay_while_their_file_is_gone_or_broken (void **state)
{
    (void) state;
    copy_decisions_part ();
    check_loads (PARTY_BIT (ROLE_DECISION));
    struct keyring before = keyring;
    unlink (in (part, "decision.cert_secret"));
    unlink (in (part, "stats.cert"));
    reload ("decision.cert_secret is missing");
    assert_memory_equal (&keyring.own, &before.own, sizeof keyring.own);
    assert_memory_equal (&keyring.servers, &before.servers, sizeof keyring.servers);
    copy_as ("stats.cert_secret", "decision.cert_secret");
    reload ("is the certificate of stats");
    assert_memory_equal (&keyring.own, &before.own, sizeof keyring.own);
    unlink (in (part, "decision.cert_secret"));
    new_pair ("decision", NULL, "decision.cert_secret");
    copy ("stats.cert");
    reload ("");
    assert_memory_not_equal (keyring.own[ROLE_DECISION].public_key, before.own[ROLE_DECISION].public_key,
                             CERTIFICATE_KEY_SIZE);
}

static void test_a_directory_that_is_gone_changes_nothing (void **state)
{
    (void) state;
    copy_decisions_part ();
    check_loads (PARTY_BIT (ROLE_DECISION));
    struct keyring before = keyring;
    assert_false (keyring_reload (&keyring, "/nonexistent", reason, sizeof reason));
    assert_non_null (strstr (reason, "/nonexistent"));
    assert_memory_equal (&keyring, &before, sizeof keyring);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_the_keys_follow_the_topology),
        cmocka_unit_test (test_a_tap_can_only_tap),
        cmocka_unit_test_setup_teardown (test_the_whole_folder_works_for_any_party, begin, end),
        cmocka_unit_test_setup_teardown (test_a_host_needs_only_its_part, begin, end),
        cmocka_unit_test_setup_teardown (test_a_missing_directory_is_named, begin, end),
        cmocka_unit_test_setup_teardown (test_a_certificate_of_another_role_is_named, begin, end),
        cmocka_unit_test_setup_teardown (test_one_key_cannot_be_two_roles, begin, end),
        cmocka_unit_test_setup_teardown (test_a_secret_that_others_can_read_is_refused, begin, end),
        cmocka_unit_test_setup_teardown (test_several_keys_of_one_party_and_other_files, begin, end),
        cmocka_unit_test_setup_teardown (test_more_keys_than_are_taken, begin, end),
        cmocka_unit_test_setup_teardown (test_files_that_are_not_needed_may_be_wrong, begin, end),
        cmocka_unit_test_setup_teardown (test_a_change_in_the_directory_is_seen, begin, end),
        cmocka_unit_test_setup_teardown (test_keys_come_and_go_with_their_files, begin, end),
        cmocka_unit_test_setup_teardown (test_own_keys_stay_while_their_file_is_gone_or_broken, begin, end),
        cmocka_unit_test_setup_teardown (test_a_directory_that_is_gone_changes_nothing, begin, end),
    };
    return cmocka_run_group_tests (tests, begin_all, end_all);
}
