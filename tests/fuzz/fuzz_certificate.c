/*  fuzz_certificate.c - any bytes as a file with a certificate.

    The first byte says whether it is to be a secret one. What is let in has a key
    pair that belongs together, and reads the same again when it is written; what
    is not leaves no key behind, neither in memory nor in the reason.
*/
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <zmq.h>

#include "actors/base/certificate.h"
#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

/*  Of the key pair that the seeds have. */
static const char secret_text[] = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";

static void check_good (const struct certificate *certificate, bool secret)
{
    char public_text[41], private_text[41], derived[41];
    assert (memchr (certificate->role, '\0', sizeof certificate->role));
    zmq_z85_encode (public_text, certificate->public_key, CERTIFICATE_KEY_SIZE);
    if (!secret)
        return;
    zmq_z85_encode (private_text, certificate->secret_key, CERTIFICATE_KEY_SIZE);
    int result = zmq_curve_public (derived, private_text);
    assert (result == 0 && strcmp (derived, public_text) == 0);
}

static bool is_wiped (const struct certificate *certificate)
{
    static const struct certificate empty;
    return memcmp (certificate, &empty, sizeof empty) == 0;
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    struct certificate certificate;
    char path[MEMORY_FILE_PATH_SIZE], reason[256] = "";
    if (size == 0)
        return 0;
    bool secret = bytes[0] & 1;
    int file = memory_file (bytes + 1, size - 1, path);
    if (certificate_read (&certificate, path, secret, reason, sizeof reason)) {
        check_good (&certificate, secret);
    } else {
        assert (is_wiped (&certificate));
        assert (strncmp (reason, path, strlen (path)) == 0 && !strstr (reason, secret_text));
    }
    close (file);
    return 0;
}
