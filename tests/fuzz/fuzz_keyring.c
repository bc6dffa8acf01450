/*  fuzz_keyring.c - a directory with any files in it, read as keys and read again.

    The bytes are a script: which parties run here, then files, each with a name
    out of a table and a content that is a good certificate or any bytes; then
    files once more, as somebody may change them under a running process.
*/
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/base/keyring.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize (int *argc, char ***argv);

enum { FILES_MAX = 24, CONTENT_MAX = 1024 };

struct script {
    const uint8_t *at;
    const uint8_t *end;
};

static char directory[64];
/*  Good certificates, a public and a secret one of each party. */
static char good[PARTY_COUNT][2][CONTENT_MAX];
static size_t good_size[PARTY_COUNT][2];

static uint8_t byte_next (struct script *script)
{
    return script->at < script->end ? *script->at++ : 0;
}

static void path_of (char path[128], const char *name)
{
    snprintf (path, 128, "%s/%s", directory, name);
}

static void make_good (unsigned party, bool secret)
{
    char path[128], reason[256];
    static struct certificate certificate;
    path_of (path, "made");
    if (!secret && !certificate_generate (&certificate, party_name (party)))
        abort ();
    if (!certificate_write (&certificate, path, secret, reason, sizeof reason))
        abort ();
    int file = open (path, O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : read (file, good[party][secret], CONTENT_MAX);
    if (size <= 0)
        abort ();
    good_size[party][secret] = (size_t) size;
    close (file);
    unlink (path);
}

static void leave (void)
{
    rmdir (directory);
}

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void) argc;
    (void) argv;
    snprintf (directory, sizeof directory, "/dev/shm/fuzz-keyring-XXXXXX");
    if (!mkdtemp (directory))
        abort ();
    atexit (leave);
    for (unsigned party = 0; party < PARTY_COUNT; party++) {
        make_good (party, false);
        make_good (party, true);
    }
    return 0;
}

/*  One of the names that count, or nearly. */
static void name_of (char name[64], uint8_t which)
{
    static const char *const endings[] = { ".cert", ".cert_secret", "-2.cert", "-.cert", "x.cert", ".cert2" };
    snprintf (name, 64, "%s%s", party_name (which % PARTY_COUNT), endings[which / PARTY_COUNT % 6]);
}

static void write_file (struct script *script)
{
    char name[64], path[128];
    name_of (name, byte_next (script));
    path_of (path, name);
    uint8_t what = byte_next (script);
    const char *content = (const char *) script->at;
    size_t size = (size_t) (script->end - script->at);
    if (what < 224) {
        content = good[what % PARTY_COUNT][what / 8 % 2];
        size = good_size[what % PARTY_COUNT][what / 8 % 2];
    } else {
        size = size < (size_t) what ? size : (size_t) what;
        script->at += size;
    }
    int file = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, what == 0 ? 0666 : 0600);
    if (file < 0 || write (file, content, size) != (ssize_t) size)
        abort ();
    close (file);
}

static void check (const struct keyring *keyring)
{
    assert (keyring->accepted <= keyring->known_count && keyring->known_count <= KEYRING_KNOWN_MAX);
    for (unsigned i = 0; i < keyring->known_count; i++) {
        const struct known_key *known = &keyring->known[i];
        assert (known->party < PARTY_COUNT && keyring_who (keyring, known->key) == known->party);
        bool admitted = false;
        for (unsigned party = 0; party < PARTY_COUNT; party++)
            admitted |=
                keyring->parties & PARTY_BIT (party) && party_admits (party) & PARTY_BIT (known->party);
        assert (i >= keyring->accepted || admitted);
    }
}

static void clean_up (void)
{
    char name[64], path[128];
    for (unsigned which = 0; which < 6 * PARTY_COUNT; which++) {
        name_of (name, (uint8_t) which);
        path_of (path, name);
        unlink (path);
    }
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    static struct keyring keyring, empty;
    char reason[KEYRING_PATH_MAX + 256];
    struct script script = { bytes, bytes + size };
    unsigned parties = byte_next (&script) % PARTY_BIT (PARTY_COUNT);
    unsigned files = byte_next (&script) % FILES_MAX;
    for (unsigned i = 0; i < files && script.at < script.end; i++)
        write_file (&script);
    bool loaded = keyring_load (&keyring, directory, parties, reason, sizeof reason);
    assert (loaded == (reason[0] == '\0'));
    assert (loaded || memcmp (&keyring, &empty, sizeof empty) == 0);
    uint64_t signature = keyring_signature (directory);
    assert (signature != 0 && signature == keyring_signature (directory));
    if (loaded) {
        check (&keyring);
        while (script.at < script.end)
            write_file (&script);
        bool again = keyring_reload (&keyring, directory, reason, sizeof reason);
        assert (again && keyring.parties == parties);
        check (&keyring);
    }
    keyring_wipe (&keyring);
    clean_up ();
    return 0;
}
