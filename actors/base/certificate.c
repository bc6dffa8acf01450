/*  certificate.c - see certificate.h. */

#include "actors/base/certificate.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zmq.h>

enum { Z85_SIZE = 40, LINES_MAX = 256 };

bool certificate_generate (struct certificate *certificate, const char *role)
{
    char public_text[Z85_SIZE + 1];
    char secret_text[Z85_SIZE + 1];
    assert (strlen (role) <= CERTIFICATE_ROLE_SIZE_MAX);
    memset (certificate, 0, sizeof *certificate);
    if (zmq_curve_keypair (public_text, secret_text) != 0)
        return false;
    memcpy (certificate->role, role, strlen (role));
    bool good = zmq_z85_decode (certificate->public_key, public_text) &&
                zmq_z85_decode (certificate->secret_key, secret_text);
    explicit_bzero (secret_text, sizeof secret_text);
    return good;
}

void certificate_wipe (struct certificate *certificate)
{
    explicit_bzero (certificate, sizeof *certificate);
}

/*  ---- reading ------------------------------------------------------------ */

/*  What a file says, before it is believed. Views into its bytes. */
struct fields {
    char role[CERTIFICATE_ROLE_SIZE_MAX + 1];
    char public_text[Z85_SIZE + 1];
    char secret_text[Z85_SIZE + 1];
};

/*  Takes a value, with or without quotes. One that is too long becomes empty,
    and is missed later. */
static void take_value (const char *from, size_t size, char *to, size_t capacity)
{
    while (size > 0 && (*from == ' ' || *from == '\t')) {
        from++;
        size--;
    }
    char quote = size > 0 && (*from == '"' || *from == '\'') ? *from : '\0';
    from += quote != '\0';
    size -= quote != '\0';
    size_t used = 0;
    while (used < size && from[used] != quote && (quote || (from[used] != ' ' && from[used] != '\t')))
        used++;
    if (used >= capacity || memchr (from, '\0', used))
        used = 0;
    memcpy (to, from, used);
    to[used] = '\0';
}

static bool is_word (const char *line, size_t size, const char *word)
{
    return size == strlen (word) && memcmp (line, word, size) == 0;
}

/*  One line of ZPL: a section at the margin, "name = value" below it. Section
    is 'c' for curve, 'm' for metadata. */
static void parse_line (struct fields *fields, char *section, const char *line, size_t size)
{
    size_t indent = 0;
    while (indent < size && (line[indent] == ' ' || line[indent] == '\t'))
        indent++;
    if (indent == size || line[indent] == '#')
        return;
    const char *name = line + indent;
    size_t left = size - indent;
    size_t length = 0;
    while (length < left && name[length] != ' ' && name[length] != '\t' && name[length] != '=')
        length++;
    if (indent == 0) {
        *section = is_word (name, length, "curve") ? 'c' : is_word (name, length, "metadata") ? 'm' : '\0';
        return;
    }
    const char *equals = memchr (name, '=', left);
    if (!equals)
        return;
    const char *value = equals + 1;
    size_t value_size = left - (size_t) (value - name);
    if (*section == 'm' && is_word (name, length, "role"))
        take_value (value, value_size, fields->role, sizeof fields->role);
    if (*section == 'c' && is_word (name, length, "public-key"))
        take_value (value, value_size, fields->public_text, sizeof fields->public_text);
    if (*section == 'c' && is_word (name, length, "secret-key"))
        take_value (value, value_size, fields->secret_text, sizeof fields->secret_text);
}

static void parse (struct fields *fields, const char *bytes, size_t size)
{
    char section = '\0';
    memset (fields, 0, sizeof *fields);
    for (size_t at = 0, lines = 0; at < size && lines < LINES_MAX; lines++) {
        const char *end = memchr (bytes + at, '\n', size - at);
        size_t length = end ? (size_t) (end - bytes) - at : size - at;
        size_t cut = length > 0 && bytes[at + length - 1] == '\r' ? 1 : 0;
        parse_line (fields, &section, bytes + at, length - cut);
        at += length + 1;
    }
}

/*  What is wrong with the fields, or NULL when the certificate is filled. */
static const char *check (struct certificate *certificate, const struct fields *fields, bool secret)
{
    char derived[Z85_SIZE + 1];
    memset (certificate, 0, sizeof *certificate);
    memcpy (certificate->role, fields->role, sizeof fields->role);
    if (strlen (fields->public_text) != Z85_SIZE ||
        !zmq_z85_decode (certificate->public_key, fields->public_text))
        return "has no good public-key: expected 40 characters of Z85 below \"curve\"";
    if (!secret)
        return NULL;
    if (strlen (fields->secret_text) != Z85_SIZE ||
        !zmq_z85_decode (certificate->secret_key, fields->secret_text))
        return "has no good secret-key: expected 40 characters of Z85 below \"curve\"";
    if (zmq_curve_public (derived, fields->secret_text) != 0 || strcmp (derived, fields->public_text) != 0)
        return "has two keys that do not belong together: expected a pair";
    return NULL;
}

/*  Bytes read, or -1 with errno. Rights are looked at on the open file, so that
    it cannot be another one. */
static ssize_t slurp (const char *path, bool secret, char *bytes, size_t capacity, struct stat *status)
{
    /*  Without waiting: a pipe in this place must not hold the start up. */
    int file = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return -1;
    ssize_t size = -1;
    mode_t forbidden = S_IWOTH;
    if (fstat (file, status) != 0 || !S_ISREG (status->st_mode)) {
        errno = EINVAL;
    } else {
        if (secret)
            forbidden = status->st_uid == 0 ? S_IRWXO | S_IWGRP | S_IXGRP : S_IRWXO | S_IRWXG;
        if (status->st_mode & forbidden) {
            errno = EPERM;
        } else {
            size = read (file, bytes, capacity);
            if (size == (ssize_t) capacity) {
                size = -1;
                errno = EFBIG;
            }
        }
    }
    int saved = errno;
    close (file);
    errno = saved;
    return size;
}

bool certificate_read (struct certificate *certificate, const char *path, bool secret, char *reason,
                       size_t reason_size)
{
    char bytes[CERTIFICATE_FILE_SIZE_MAX];
    struct stat status;
    struct fields fields;
    memset (certificate, 0, sizeof *certificate);
    ssize_t size = slurp (path, secret, bytes, sizeof bytes, &status);
    if (size < 0 && errno == EPERM) {
        snprintf (reason, reason_size, "%s has mode %04o: expected %s", path,
                  (unsigned) status.st_mode & 07777,
                  secret ? "0600, nobody else may read a secret" : "that not everybody can write it");
        return false;
    }
    if (size < 0) {
        snprintf (reason, reason_size, "%s: %s", path,
                  errno == EINVAL ? "it is not a file" : strerror (errno));
        return false;
    }
    parse (&fields, bytes, (size_t) size);
    const char *wrong = check (certificate, &fields, secret);
    if (wrong) {
        snprintf (reason, reason_size, "%s %s", path, wrong);
        certificate_wipe (certificate);
    }
    explicit_bzero (bytes, sizeof bytes);
    explicit_bzero (&fields, sizeof fields);
    return !wrong;
}

/*  ---- writing ------------------------------------------------------------ */

static bool write_all (int file, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write (file, bytes, size);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            bytes += written;
            size -= (size_t) written;
        }
    }
    return true;
}

static int print (const struct certificate *certificate, bool secret, char *bytes, size_t capacity)
{
    char public_text[Z85_SIZE + 1];
    char secret_text[Z85_SIZE + 1];
    zmq_z85_encode (public_text, certificate->public_key, CERTIFICATE_KEY_SIZE);
    zmq_z85_encode (secret_text, certificate->secret_key, CERTIFICATE_KEY_SIZE);
    int size = snprintf (bytes, capacity,
                         "#   ZeroMQ CURVE %s certificate of %s\n"
                         "#   %s\n\n"
                         "metadata\n"
                         "    role = \"%s\"\n"
                         "curve\n"
                         "    public-key = \"%s\"\n",
                         secret ? "**secret**" : "public", certificate->role,
                         secret ? "Whoever reads it can act as this role: leave it 0600."
                                : "It may be shown, but must come unchanged to where it goes.",
                         certificate->role, public_text);
    if (secret)
        size += snprintf (bytes + size, capacity - (size_t) size, "    secret-key = \"%s\"\n", secret_text);
    explicit_bzero (secret_text, sizeof secret_text);
    assert ((size_t) size < capacity);
    return size;
}

bool certificate_write (const struct certificate *certificate, const char *path, bool secret, char *reason,
                        size_t reason_size)
{
    char bytes[1024];
    int file = open (path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) {
        int saved = errno;
        snprintf (reason, reason_size, "%s: %s", path, strerror (errno));
        errno = saved;
        return false;
    }
    int size = print (certificate, secret, bytes, sizeof bytes);
    bool good = write_all (file, bytes, (size_t) size) && fsync (file) == 0;
    int saved = errno;
    explicit_bzero (bytes, sizeof bytes);
    if (close (file) != 0 && good) {
        good = false;
        saved = errno;
    }
    if (!good) {
        unlink (path);
        snprintf (reason, reason_size, "%s: %s", path, strerror (saved));
        errno = saved;
    }
    return good;
}
