/*  env_file.h - a file of NAME=value lines.

    Blank lines and lines that begin with "#" are skipped. A name may have
    `export ` before it. A value may stand in single or double quotes, and is
    then taken as it is up to the closing one; without, spaces around it go.
    There are no escapes, no expansions, and no comments behind a value: "#" is
    an ordinary byte of a secret. When a name stands twice the last one counts.
*/
#ifndef GUERDON_ENV_FILE_H
#define GUERDON_ENV_FILE_H

#include "actors/base/problems.h"
#include "proto/message.h"

enum { ENV_FILE_SIZE_MAX = 65536, ENV_FILE_ENTRIES_MAX = 512 };

/*  One line. */
struct env_entry {
    struct text name;
    struct text value;
};

struct env_file {
    char *memory; /* the file's bytes, which the entries point into */
    size_t size;  /* of the memory */
    struct env_entry entries[ENV_FILE_ENTRIES_MAX];
    size_t count;
};

/*  Reads the file; what is wrong with it is added to the problems, with its
    line, and the rest of it is still read. `path` may be NULL: no file. To be
    closed in any case. */
void env_file_open (struct env_file *file, const char *path, struct problems *problems);

/*  The value of a name; false when it has none. */
bool env_file_find (const struct env_file *file, const char *name, struct text *value);

/*  Wipes and frees the memory, for the file may hold the secret. */
void env_file_close (struct env_file *file);

/*  Reads a whole file of at most size_max bytes. Returns memory of the caller
    of size_max bytes, to be wiped and freed, with the file's size in *size;
    NULL with errno set, EFBIG for a file that is larger. */
char *env_file_slurp (const char *path, size_t size_max, size_t *size);

#endif
