/*  keyring.h - who may connect to whom, and with which keys.

    A party is somebody with a certificate: each role, the tap (who looks), and
    the mirror (the end of a process that taps look at). One table says which
    parties each of them lets in. A keyring holds the keys of some parties that
    run here: their own, those of whom they let in, and those of whom they
    connect to.

    In a directory, for a party P:
        P.cert_secret     its key pair; only where P runs
        P.cert            its public key: who connects to P expects it there
        P.cert, P-*.cert  public keys under which P is let in
*/
#ifndef GUERDON_KEYRING_H
#define GUERDON_KEYRING_H

#include "actors/base/certificate.h"
#include "proto/message.h"

/*  Parties that are roles have the role's number; 0 is the tap. */
enum { PARTY_TAP = ROLE_SHELL, PARTY_MIRROR = ROLE_STATS + 1, PARTY_COUNT };

enum {
    KEYRING_KNOWN_MAX = 64, /* public keys */
    KEYRING_PATH_MAX = 1280 /* of a file in the directory */
};

#define PARTY_BIT(party) (1u << (party))

/*  Whose a public key is. */
struct known_key {
    unsigned party;
    uint8_t key[CERTIFICATE_KEY_SIZE];
};

struct keyring {
    unsigned parties;                                   /* that run here, by PARTY_BIT */
    struct certificate own[PARTY_COUNT];                /* of those that run here */
    uint8_t servers[PARTY_COUNT][CERTIFICATE_KEY_SIZE]; /* of those they connect to */
    struct known_key known[KEYRING_KNOWN_MAX];
    unsigned accepted; /* of these so many are let in here; the rest are told by name when they try */
    unsigned known_count;
};

/*  Its name, as in the names of its files: "decision", "tap". */
const char *party_name (unsigned party);

/*  The parties that a party lets in, and those that it connects to. */
unsigned party_admits (unsigned party);
unsigned party_connects_to (unsigned party);

/*  What is asked for at the other end, in ZAP's words: the role that is bound,
    "tap" for the mirror; NULL for who is never bound. */
const char *party_domain (unsigned party);

/*  The party that is bound as this domain; PARTY_COUNT for none. */
unsigned party_of_domain (const char *domain);

/*  Loads what these parties need from a directory. False with a reason that
    names the first file that is missing or wrong, and what was expected. */
bool keyring_load (struct keyring *keyring, const char *directory, unsigned parties, char *reason,
                   size_t reason_size);

/*  Loads again, when the directory has changed under a running process. Own
    keys and those of servers that are gone or wrong stay as they were; a key
    that is let in counts only as long as its file is there and good. The reason
    is empty when all is well. False when the directory cannot be read: then
    nothing has changed. */
bool keyring_reload (struct keyring *keyring, const char *directory, char *reason, size_t reason_size);

/*  A number that changes when a certificate in the directory does; 0 when the
    directory cannot be read. */
uint64_t keyring_signature (const char *directory);

/*  Who has this public key; PARTY_COUNT for a stranger. */
unsigned keyring_who (const struct keyring *keyring, const uint8_t key[CERTIFICATE_KEY_SIZE]);

/*  Overwrites the keys. */
void keyring_wipe (struct keyring *keyring);

#endif
