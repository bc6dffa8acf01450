/*  command_keygen.c - guerdon keygen: a certificate for everybody who needs one.
*/
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/base/keyring.h"
#include "bin/command.h"

enum { FILES = 2 * PARTY_COUNT };

static const char *const help =
    "Writes the certificates of CURVE into DIR: for each actor, for taps, and for the ends that taps look\n"
    "at, a public one (NAME.cert) and a secret one (NAME.cert_secret). It never overwrites a file. "
    "CURVE_DIR\n"
    "names DIR, or a directory with the part of it that a host needs; which part is printed.\n"
    "Exit codes: 0 written, 1 a file exists or could not be written, 64 usage.";

/*  The files, a public and a secret one a party. */
static bool file_path (char *path, size_t capacity, const char *directory, unsigned index)
{
    int size = snprintf (path, capacity, "%s/%s.%s", directory, party_name (index / 2),
                         index % 2 ? "cert_secret" : "cert");
    return size > 0 && (size_t) size < capacity;
}

static int fail (const char *what, const char *why)
{
    fprintf (stderr, "guerdon keygen: %s: %s\n", what, why);
    return EXIT_FAILED;
}

/*  Looks before anything is written, so that it is all or nothing. */
static int check_free (const char *directory)
{
    char path[KEYRING_PATH_MAX];
    struct stat status;
    for (unsigned i = 0; i < FILES; i++) {
        if (!file_path (path, sizeof path, directory, i))
            return fail (directory, "the path is too long");
        if (lstat (path, &status) == 0)
            return fail (path,
                         "it exists, and certificates are never overwritten: expected another directory");
    }
    return EXIT_OK;
}

static bool write_pair (const char *directory, unsigned party, unsigned *written, char *reason,
                        size_t reason_size)
{
    char path[KEYRING_PATH_MAX];
    struct certificate certificate;
    if (!certificate_generate (&certificate, party_name (party))) {
        snprintf (reason, reason_size, "this ZeroMQ has no CURVE");
        return false;
    }
    bool good = true;
    for (unsigned i = 0; good && i < 2; i++) {
        good = file_path (path, sizeof path, directory, *written) &&
               certificate_write (&certificate, path, i == 1, reason, reason_size);
        *written += good;
    }
    certificate_wipe (&certificate);
    return good;
}

static int write_all (const char *directory)
{
    char path[KEYRING_PATH_MAX];
    char reason[KEYRING_PATH_MAX + 256] = "";
    unsigned written = 0;
    for (unsigned party = 0; party < PARTY_COUNT; party++)
        if (!write_pair (directory, party, &written, reason, sizeof reason)) {
            while (written-- > 0)
                if (file_path (path, sizeof path, directory, written))
                    unlink (path);
            fprintf (stderr, "guerdon keygen: %s\n", reason);
            return EXIT_FAILED;
        }
    return EXIT_OK;
}

/*  What a party needs on its host, and what for. */
static void print_needs (unsigned party)
{
    unsigned others = party_admits (party) | party_connects_to (party);
    const char *name = party_name (party);
    if (party == PARTY_TAP)
        printf ("  %-16s who runs guerdon tap against tcp endpoints\n", name);
    else if (party == PARTY_MIRROR)
        printf ("  %-16s every host with a TAP_ENDPOINT of tcp\n", name);
    else
        printf ("  %-16s the host of %s\n", name, name);
    printf ("  %-16s   %s.cert_secret", "", name);
    for (unsigned other = 0; other < PARTY_COUNT; other++)
        if (others & PARTY_BIT (other))
            printf (" %s.cert", party_name (other));
    printf ("\n");
}

static int generate (const char *directory)
{
    if (mkdir (directory, 0700) != 0 && errno != EEXIST)
        return fail (directory, strerror (errno));
    int code = check_free (directory);
    if (code == EXIT_OK)
        code = write_all (directory);
    if (code != EXIT_OK)
        return code;
    printf (
        "%d certificates are in %s. On one host CURVE_DIR=%s does for all.\n"
        "On several, copy to the CURVE_DIR of each host what its actors need and no more, and let nobody\n"
        "but guerdon read what is secret:\n\n",
        PARTY_COUNT, directory, directory);
    for (unsigned party = ROLE_INGEST; party < PARTY_COUNT; party++)
        print_needs (party);
    print_needs (PARTY_TAP);
    printf ("\nWho has a .cert_secret can act as what it is named after. Keep this directory where you\n"
            "keep secrets, and off the hosts.\n");
    return EXIT_OK;
}

int command_keygen (int argc, char **argv)
{
    const char *directory = NULL;
    const struct command_syntax syntax = {
        .name = "keygen", .operand = "DIR", .help = help, .operand_value = &directory
    };
    int code;
    if (!command_parse (&syntax, argc, argv, &code))
        return code;
    if (!*directory)
        return command_usage ("keygen", "DIR is empty");
    return generate (directory);
}
