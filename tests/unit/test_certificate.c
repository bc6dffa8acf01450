/*  test_certificate.c - key pairs in files: ours, CZMQ's, broken, unguarded. */

#include <errno.h>
#include <fcntl.h>
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
#include <czmq.h>

#include "actors/base/certificate.h"

static char directory[] = "/tmp/test_certificate_XXXXXX";
static char path[128], secret_path[128], reason[512];

static int begin (void **state)
{
    (void) state;
    memcpy (directory + strlen (directory) - 6, "XXXXXX", 6);
    if (!mkdtemp (directory))
        return -1;
    snprintf (path, sizeof path, "%s/a.cert", directory);
    snprintf (secret_path, sizeof secret_path, "%s/a.cert_secret", directory);
    return 0;
}

static int end (void **state)
{
    (void) state;
    unlink (path);
    unlink (secret_path);
    return rmdir (directory);
}

static void write_text (const char *to, const char *text, mode_t mode)
{
    unlink (to);
    int file = open (to, O_WRONLY | O_CREAT | O_TRUNC, mode);
    assert_true (file >= 0 && write (file, text, strlen (text)) == (ssize_t) strlen (text));
    assert_int_equal (fchmod (file, mode), 0);
    close (file);
}

static void write_both (struct certificate *certificate)
{
    assert_true (certificate_generate (certificate, "decision"));
    assert_true (certificate_write (certificate, path, false, reason, sizeof reason));
    assert_true (certificate_write (certificate, secret_path, true, reason, sizeof reason));
}

static void test_what_was_written_is_read (void **state)
{
    (void) state;
    struct certificate made, read;
    struct stat status;
    static const uint8_t zeros[CERTIFICATE_KEY_SIZE];
    write_both (&made);
    assert_true (certificate_read (&read, secret_path, true, reason, sizeof reason));
    assert_memory_equal (&read, &made, sizeof read);
    assert_true (certificate_read (&read, path, false, reason, sizeof reason));
    assert_string_equal (read.role, "decision");
    assert_memory_equal (read.public_key, made.public_key, CERTIFICATE_KEY_SIZE);
    assert_memory_equal (read.secret_key, zeros, CERTIFICATE_KEY_SIZE);
    assert_true (stat (path, &status) == 0 && (status.st_mode & 07777) == 0600);
    assert_true (stat (secret_path, &status) == 0 && (status.st_mode & 07777) == 0600);
    certificate_wipe (&read);
    assert_memory_equal (read.public_key, zeros, CERTIFICATE_KEY_SIZE);
}

static void test_two_pairs_are_not_the_same (void **state)
{
    (void) state;
    struct certificate first, second;
    assert_true (certificate_generate (&first, "tap") && certificate_generate (&second, "tap"));
    assert_memory_not_equal (first.public_key, second.public_key, CERTIFICATE_KEY_SIZE);
    assert_memory_not_equal (first.secret_key, second.secret_key, CERTIFICATE_KEY_SIZE);
    assert_memory_not_equal (first.secret_key, first.public_key, CERTIFICATE_KEY_SIZE);
}

static void test_a_public_file_has_no_secret (void **state)
{
    (void) state;
    struct certificate made;
    char text[CERTIFICATE_FILE_SIZE_MAX] = "";
    write_both (&made);
    FILE *file = fopen (path, "r");
    assert_non_null (file);
    assert_true (fread (text, 1, sizeof text - 1, file) > 0);
    fclose (file);
    assert_non_null (strstr (text, "public-key"));
    assert_null (strstr (text, "secret-key"));
}

static void test_czmq_reads_ours (void **state)
{
    (void) state;
    struct certificate made;
    write_both (&made);
    zcert_t *certificate = zcert_load (path); /* takes the secret file beside it */
    assert_non_null (certificate);
    assert_memory_equal (zcert_public_key (certificate), made.public_key, CERTIFICATE_KEY_SIZE);
    assert_memory_equal (zcert_secret_key (certificate), made.secret_key, CERTIFICATE_KEY_SIZE);
    assert_string_equal (zcert_meta (certificate, "role"), "decision");
    zcert_destroy (&certificate);
    unlink (secret_path);
    certificate = zcert_load (path);
    assert_non_null (certificate);
    assert_memory_equal (zcert_public_key (certificate), made.public_key, CERTIFICATE_KEY_SIZE);
    zcert_destroy (&certificate);
}

static void test_we_read_czmqs (void **state)
{
    (void) state;
    struct certificate read;
    zcert_t *certificate = zcert_new ();
    assert_non_null (certificate);
    zcert_set_meta (certificate, "name", "%s", "somebody \"else\"");
    zcert_set_meta (certificate, "role", "%s", "stats");
    assert_int_equal (zcert_save (certificate, path), 0);
    assert_true (certificate_read (&read, path, false, reason, sizeof reason));
    assert_string_equal (read.role, "stats");
    assert_memory_equal (read.public_key, zcert_public_key (certificate), CERTIFICATE_KEY_SIZE);
    assert_true (certificate_read (&read, secret_path, true, reason, sizeof reason));
    assert_memory_equal (read.secret_key, zcert_secret_key (certificate), CERTIFICATE_KEY_SIZE);
    zcert_destroy (&certificate);
}

static void test_a_file_that_exists_is_left_alone (void **state)
{
    (void) state;
    struct certificate made, other, read;
    write_both (&made);
    assert_true (certificate_generate (&other, "decision"));
    assert_false (certificate_write (&other, secret_path, true, reason, sizeof reason));
    assert_int_equal (errno, EEXIST);
    assert_non_null (strstr (reason, secret_path));
    assert_true (certificate_read (&read, secret_path, true, reason, sizeof reason));
    assert_memory_equal (&read, &made, sizeof read);
}

static void check_mode (mode_t mode, bool good)
{
    struct certificate read;
    assert_int_equal (chmod (secret_path, mode), 0);
    assert_int_equal (certificate_read (&read, secret_path, true, reason, sizeof reason), good);
    if (!good) {
        assert_non_null (strstr (reason, secret_path));
        assert_non_null (strstr (reason, "0600"));
    }
}

static void test_a_secret_that_others_can_read_is_refused (void **state)
{
    (void) state;
    struct certificate made, read;
    write_both (&made);
    check_mode (0600, true);
    check_mode (0400, true);
    check_mode (0640, geteuid () == 0); /* root may leave it to a group */
    check_mode (0660, false);
    check_mode (0604, false);
    check_mode (0620, false);
    check_mode (0644, false);
    assert_int_equal (chmod (path, 0644), 0);
    assert_true (certificate_read (&read, path, false, reason, sizeof reason));
    assert_int_equal (chmod (path, 0646), 0);
    assert_false (certificate_read (&read, path, false, reason, sizeof reason));
}

/*  A rejected file: its reason names it, has the words, and shows no key. */
static void check_refused (bool secret, const char *words)
{
    struct certificate read;
    assert_false (certificate_read (&read, secret ? secret_path : path, secret, reason, sizeof reason));
    assert_non_null (strstr (reason, secret ? secret_path : path));
    if (!strstr (reason, words))
        fail_msg ("\"%s\" does not say \"%s\"", reason, words);
    assert_null (strstr (reason, "rq:rM>}U"));
}

/*  The keys of ZeroMQ's own manual. */
#define SERVER_PUBLIC "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define SERVER_SECRET "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"
#define CLIENT_SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"

static void test_rubbish_is_refused_and_named (void **state)
{
    (void) state;
    static const char *const rubbish[] = {
        "",
        "\n\n\n",
        "curve\n",
        "curve\n    public-key\n",
        "curve\n    public-key =\n",
        "curve\n    public-key = \"\"\n",
        "curve\n    public-key = \"short\"\n",
        "curve\n    public-key = \"" SERVER_PUBLIC SERVER_PUBLIC "\"\n",
        "curve\n    public-key = \"~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\"\n",
        "curve\n    public-key = "
        "\"\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80"
        "\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\x80\xff\"\n",
        "metadata\n    public-key = \"" SERVER_PUBLIC "\"\n",
        "public-key = \"" SERVER_PUBLIC "\"\n",
        "# curve\n    public-key = \"" SERVER_PUBLIC "\"\n",
        "curve\n#    public-key = \"" SERVER_PUBLIC "\"\n",
    };
    for (size_t i = 0; i < sizeof rubbish / sizeof *rubbish; i++) {
        write_text (path, rubbish[i], 0600);
        check_refused (false, "public-key");
    }
    char large[CERTIFICATE_FILE_SIZE_MAX + 2];
    memset (large, '#', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    write_text (path, large, 0600);
    check_refused (false, strerror (EFBIG));
    unlink (path);
    check_refused (false, strerror (ENOENT));
}

static void test_other_ways_to_write_the_same (void **state)
{
    (void) state;
    static const char *const ways[] = {
        "curve\n    public-key = \"" SERVER_PUBLIC "\"\n    secret-key = \"" SERVER_SECRET "\"\n",
        "curve\r\n\tpublic-key='" SERVER_PUBLIC "'\r\n\tsecret-key='" SERVER_SECRET "'",
        "# a comment\n\ncurve\n  secret-key = " SERVER_SECRET "\n  public-key = " SERVER_PUBLIC
        "  \nmore\n  a = b",
    };
    struct certificate first, read;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        write_text (secret_path, ways[i], 0600);
        if (!certificate_read (&read, secret_path, true, reason, sizeof reason))
            fail_msg ("%zu: %s", i, reason);
        assert_string_equal (read.role, "");
        if (i == 0)
            first = read;
        assert_memory_equal (&read, &first, sizeof read);
    }
}

static void test_two_halves_of_different_pairs (void **state)
{
    (void) state;
    write_text (secret_path,
                "curve\n    public-key = \"" SERVER_PUBLIC "\"\n    secret-key = \"" CLIENT_SECRET "\"\n",
                0600);
    check_refused (true, "do not belong together");
    write_text (secret_path, "curve\n    public-key = \"" SERVER_PUBLIC "\"\n", 0600);
    check_refused (true, "secret-key");
}

static void test_what_is_no_file_holds_nobody_up (void **state)
{
    (void) state;
    assert_int_equal (mkfifo (path, 0600), 0);
    check_refused (false, "not a file");
    unlink (path);
    assert_int_equal (mkdir (path, 0700), 0);
    check_refused (false, "not a file");
    assert_int_equal (rmdir (path), 0);
}

int main (void)
{
    zsys_handler_set (NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (test_what_was_written_is_read, begin, end),
        cmocka_unit_test_setup_teardown (test_two_pairs_are_not_the_same, begin, end),
        cmocka_unit_test_setup_teardown (test_a_public_file_has_no_secret, begin, end),
        cmocka_unit_test_setup_teardown (test_czmq_reads_ours, begin, end),
        cmocka_unit_test_setup_teardown (test_we_read_czmqs, begin, end),
        cmocka_unit_test_setup_teardown (test_a_file_that_exists_is_left_alone, begin, end),
        cmocka_unit_test_setup_teardown (test_a_secret_that_others_can_read_is_refused, begin, end),
        cmocka_unit_test_setup_teardown (test_rubbish_is_refused_and_named, begin, end),
        cmocka_unit_test_setup_teardown (test_other_ways_to_write_the_same, begin, end),
        cmocka_unit_test_setup_teardown (test_two_halves_of_different_pairs, begin, end),
        cmocka_unit_test_setup_teardown (test_what_is_no_file_holds_nobody_up, begin, end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
