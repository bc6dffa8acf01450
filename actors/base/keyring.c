/*  keyring.c - see keyring.h. */

#include "actors/base/keyring.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/text.h"

/*  ---- the table ---------------------------------------------------------- */

/*  Who is let in where: the topology, as the keys see it. */
static const struct {
    const char *name;
    const char *domain;
    unsigned admits;
} parties[PARTY_COUNT] = {
    [PARTY_TAP] = { "tap", NULL, 0 },
    [ROLE_INGEST] = { "ingest", NULL, 0 },
    [ROLE_DECISION] = { "decision", "decision", PARTY_BIT (ROLE_INGEST) },
    [ROLE_USERMETA_CLIENT] = { "usermeta-client", "usermeta-client", PARTY_BIT (ROLE_DECISION) },
    [ROLE_CURRENCY_CLIENT] = { "currency-client", "currency-client", PARTY_BIT (ROLE_DECISION) },
    [ROLE_STATS] = { "stats", "stats", PARTY_BIT (ROLE_INGEST) | PARTY_BIT (ROLE_DECISION) },
    [PARTY_MIRROR] = { "mirror", "tap", PARTY_BIT (PARTY_TAP) },
};

static const char public_suffix[] = ".cert";
static const char secret_suffix[] = ".cert_secret";

const char *party_name (unsigned party)
{
    assert (party < PARTY_COUNT);
    return parties[party].name;
}

unsigned party_admits (unsigned party)
{
    assert (party < PARTY_COUNT);
    return parties[party].admits;
}

unsigned party_connects_to (unsigned party)
{
    unsigned found = 0;
    for (unsigned other = 0; other < PARTY_COUNT; other++)
        if (parties[other].admits & PARTY_BIT (party))
            found |= PARTY_BIT (other);
    return found;
}

const char *party_domain (unsigned party)
{
    assert (party < PARTY_COUNT);
    return parties[party].domain;
}

unsigned party_of_domain (const char *domain)
{
    unsigned party = 0;
    while (party < PARTY_COUNT && (!parties[party].domain || strcmp (parties[party].domain, domain) != 0))
        party++;
    return party;
}

/*  All parties of a mask that connect to others, or let others in. */
static unsigned gather (unsigned mask, unsigned (*of) (unsigned party))
{
    unsigned found = 0;
    for (unsigned party = 0; party < PARTY_COUNT; party++)
        if (mask & PARTY_BIT (party))
            found |= of (party);
    return found;
}

/*  ---- one file ----------------------------------------------------------- */

/*  Reads a certificate that must be this party's. */
static bool read_of (struct certificate *certificate, unsigned party, const char *directory, const char *name,
                     bool secret, char *reason, size_t reason_size)
{
    char path[KEYRING_PATH_MAX];
    if ((size_t) snprintf (path, sizeof path, "%s/%s", directory, name) >= sizeof path) {
        snprintf (reason, reason_size, "the path of %s is too long", name);
        return false;
    }
    if (!certificate_read (certificate, path, secret, reason, reason_size)) {
        if (access (path, F_OK) != 0 && errno == ENOENT)
            snprintf (reason, reason_size, "%s is missing: expected the %s certificate of %s", path,
                      secret ? "secret" : "public", party_name (party));
        return false;
    }
    if (certificate->role[0] && strcmp (certificate->role, party_name (party)) != 0) {
        char shown[CERTIFICATE_ROLE_SIZE_MAX * 6 + 1];
        struct builder builder;
        builder_init (&builder, shown, sizeof shown);
        builder_printable (&builder, text_of (certificate->role), CERTIFICATE_ROLE_SIZE_MAX);
        snprintf (reason, reason_size, "%s is the certificate of %s: expected that of %s", path, shown,
                  party_name (party));
        certificate_wipe (certificate);
        return false;
    }
    return true;
}

static bool read_plain (struct certificate *certificate, unsigned party, const char *directory, bool secret,
                        char *reason, size_t reason_size)
{
    char name[64];
    snprintf (name, sizeof name, "%s%s", party_name (party), secret ? secret_suffix : public_suffix);
    return read_of (certificate, party, directory, name, secret, reason, reason_size);
}

static bool ends_in (const char *name, const char *suffix)
{
    size_t size = strlen (name);
    size_t suffix_size = strlen (suffix);
    return size >= suffix_size && strcmp (name + size - suffix_size, suffix) == 0;
}

/*  The party that a file lets in: P.cert or P-anything.cert. */
static unsigned party_of_file (const char *name)
{
    if (!ends_in (name, public_suffix))
        return PARTY_COUNT;
    for (unsigned party = 0; party < PARTY_COUNT; party++) {
        size_t size = strlen (party_name (party));
        if (strncmp (name, party_name (party), size) == 0 &&
            (name[size] == '-' || strcmp (name + size, public_suffix) == 0))
            return party;
    }
    return PARTY_COUNT;
}

/*  ---- the directory ------------------------------------------------------ */

/*  Knows one more key; false when it belongs to another party already, or there
    are too many. */
static bool know_key (struct keyring *keyring, unsigned party, const uint8_t *key, const char *name,
                      char *reason, size_t reason_size)
{
    unsigned owner = keyring_who (keyring, key);
    if (owner == party)
        return true;
    if (owner != PARTY_COUNT) {
        snprintf (reason, reason_size, "%s has the key of %s too: expected one of its own", name,
                  party_name (owner));
        return false;
    }
    if (keyring->known_count == KEYRING_KNOWN_MAX) {
        snprintf (reason, reason_size, "%s is one too many: expected at most %d public certificates", name,
                  KEYRING_KNOWN_MAX);
        return false;
    }
    struct known_key *known = &keyring->known[keyring->known_count++];
    known->party = party;
    memcpy (known->key, key, CERTIFICATE_KEY_SIZE);
    return true;
}

/*  Adds the public keys of these parties. `reason` keeps what was wrong first;
    what is wrong lets nobody in. False when the directory cannot be read. */
static bool read_known (struct keyring *keyring, unsigned wanted, const char *directory, char *reason,
                        size_t reason_size)
{
    DIR *listing = opendir (directory);
    if (!listing) {
        snprintf (reason, reason_size, "%s: %s", directory, strerror (errno));
        return false;
    }
    for (const struct dirent *entry; (entry = readdir (listing)) != NULL;) {
        char wrong[KEYRING_PATH_MAX + 256];
        struct certificate certificate;
        unsigned party = party_of_file (entry->d_name);
        if (party == PARTY_COUNT || !(wanted & PARTY_BIT (party)))
            continue;
        bool good = read_of (&certificate, party, directory, entry->d_name, false, wrong, sizeof wrong) &&
                    know_key (keyring, party, certificate.public_key, entry->d_name, wrong, sizeof wrong);
        if (!good && !*reason)
            snprintf (reason, reason_size, "%s", wrong);
    }
    closedir (listing);
    return true;
}

/*  Reads the keys that are let in; then, as far as there is room, those of the
    other parties whose files happen to be here, of which nothing is asked. */
static bool read_accepted (struct keyring *keyring, const char *directory, char *reason, size_t reason_size)
{
    char ignored[KEYRING_PATH_MAX + 256] = "";
    struct keyring before = *keyring;
    unsigned wanted = gather (keyring->parties, party_admits);
    keyring->known_count = 0;
    bool read = read_known (keyring, wanted, directory, reason, reason_size);
    keyring->accepted = keyring->known_count;
    read = read && read_known (keyring, ~wanted, directory, ignored, sizeof ignored);
    if (!read)
        *keyring = before;
    keyring_wipe (&before);
    return read;
}

/*  The first party that must be let in and has no key; named in the reason. */
static bool check_accepted (const struct keyring *keyring, const char *directory, char *reason,
                            size_t reason_size)
{
    unsigned missing = gather (keyring->parties, party_admits);
    for (unsigned i = 0; i < keyring->accepted; i++)
        missing &= ~PARTY_BIT (keyring->known[i].party);
    for (unsigned party = 0; party < PARTY_COUNT; party++)
        for (unsigned server = 0; missing & PARTY_BIT (party) && server < PARTY_COUNT; server++)
            if (keyring->parties & PARTY_BIT (server) && party_admits (server) & PARTY_BIT (party)) {
                snprintf (reason, reason_size,
                          "%s/%s%s is missing: expected the public certificate of %s, which connects to %s",
                          directory, party_name (party), public_suffix, party_name (party),
                          party_name (server));
                return false;
            }
    return true;
}

bool keyring_load (struct keyring *keyring, const char *directory, unsigned mask, char *reason,
                   size_t reason_size)
{
    struct certificate certificate;
    assert (mask < PARTY_BIT (PARTY_COUNT) && reason_size > 0);
    memset (keyring, 0, sizeof *keyring);
    keyring->parties = mask;
    *reason = '\0';
    bool good = true;
    for (unsigned party = 0; good && party < PARTY_COUNT; party++)
        if (mask & PARTY_BIT (party))
            good = read_plain (&keyring->own[party], party, directory, true, reason, reason_size);
    unsigned servers = gather (mask, party_connects_to);
    for (unsigned party = 0; good && party < PARTY_COUNT; party++)
        if (servers & PARTY_BIT (party)) {
            good = read_plain (&certificate, party, directory, false, reason, reason_size);
            memcpy (keyring->servers[party], certificate.public_key, CERTIFICATE_KEY_SIZE);
        }
    good = good && read_accepted (keyring, directory, reason, reason_size) && !*reason &&
           check_accepted (keyring, directory, reason, reason_size);
    if (!good)
        keyring_wipe (keyring);
    return good;
}

bool keyring_reload (struct keyring *keyring, const char *directory, char *reason, size_t reason_size)
{
    char wrong[KEYRING_PATH_MAX + 256];
    struct certificate certificate;
    *reason = '\0';
    if (!read_accepted (keyring, directory, reason, reason_size))
        return false;
    unsigned servers = gather (keyring->parties, party_connects_to);
    for (unsigned party = 0; party < PARTY_COUNT; party++) {
        bool own = keyring->parties & PARTY_BIT (party);
        if (own && read_plain (&certificate, party, directory, true, wrong, sizeof wrong))
            keyring->own[party] = certificate;
        else if (own && !*reason)
            snprintf (reason, reason_size, "%s", wrong);
        bool server = servers & PARTY_BIT (party);
        if (server && read_plain (&certificate, party, directory, false, wrong, sizeof wrong))
            memcpy (keyring->servers[party], certificate.public_key, CERTIFICATE_KEY_SIZE);
        else if (server && !*reason)
            snprintf (reason, reason_size, "%s", wrong);
    }
    certificate_wipe (&certificate);
    if (!*reason)
        check_accepted (keyring, directory, reason, reason_size);
    return true;
}

uint64_t keyring_signature (const char *directory)
{
    uint64_t signature = 1;
    DIR *listing = opendir (directory);
    if (!listing)
        return 0;
    for (const struct dirent *entry; (entry = readdir (listing)) != NULL;) {
        struct stat status;
        if (!ends_in (entry->d_name, public_suffix) && !ends_in (entry->d_name, secret_suffix))
            continue;
        if (fstatat (dirfd (listing), entry->d_name, &status, 0) != 0)
            continue;
        /*  The time of the last change of any kind: a copy may bring along the
            time of its original, but not this one. */
        uint64_t seed = (uint64_t) status.st_ino ^ (uint64_t) status.st_ctim.tv_sec << 32 ^
                        (uint64_t) status.st_ctim.tv_nsec ^ (uint64_t) status.st_size << 48;
        signature += text_hash (text_of (entry->d_name), seed); /* a sum: their order may change */
    }
    closedir (listing);
    return signature ? signature : 1;
}

unsigned keyring_who (const struct keyring *keyring, const uint8_t key[CERTIFICATE_KEY_SIZE])
{
    for (unsigned i = 0; i < keyring->known_count; i++)
        if (memcmp (keyring->known[i].key, key, CERTIFICATE_KEY_SIZE) == 0)
            return keyring->known[i].party;
    return PARTY_COUNT;
}

void keyring_wipe (struct keyring *keyring)
{
    explicit_bzero (keyring, sizeof *keyring);
}
