/*  certificate.h - a CURVE key pair, or its public half, in a file.

    The files are CZMQ's certificates (ZPL), so that CZMQ's tools read ours and
    we read theirs: NAME.cert has the public key, NAME.cert_secret both keys.
    In the metadata stands whose it is.
*/
#ifndef GUERDON_CERTIFICATE_H
#define GUERDON_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CERTIFICATE_KEY_SIZE = 32,
    CERTIFICATE_ROLE_SIZE_MAX = 31,
    CERTIFICATE_FILE_SIZE_MAX = 16384 /* bytes of a file that is read */
};

struct certificate {
    char role[CERTIFICATE_ROLE_SIZE_MAX + 1]; /* whose it is; empty when the file does not say */
    uint8_t public_key[CERTIFICATE_KEY_SIZE];
    uint8_t secret_key[CERTIFICATE_KEY_SIZE]; /* zeros in a public one */
};

/*  A new key pair. False when there is no CURVE in this build of ZeroMQ. */
bool certificate_generate (struct certificate *certificate, const char *role);

/*  Reads a file. A secret one has both keys, which must belong together, and
    nobody else may be able to read it: no right for group or others, but that
    a file of root may be readable by its group. False with a reason that names
    the file and never shows a key. */
bool certificate_read (struct certificate *certificate, const char *path, bool secret, char *reason,
                       size_t reason_size);

/*  Writes a new file, 0600, on the disk when it returns. False with a reason,
    also when the file exists; then errno is EEXIST. */
bool certificate_write (const struct certificate *certificate, const char *path, bool secret, char *reason,
                        size_t reason_size);

/*  Overwrites the keys. */
void certificate_wipe (struct certificate *certificate);

#endif
