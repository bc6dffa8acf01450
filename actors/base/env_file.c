/*  env_file.c - reads NAME=value lines in place.

    A line that makes no sense is named by its number only: it may well be a
    secret that was pasted badly.
*/
#include "actors/base/env_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/text.h"

/*  Bad lines that are told one by one. */
enum { BAD_LINES_MAX = 16 };

/*  Reads until the end of the file or of the memory; bytes read, or -1. */
static ssize_t read_all (int fd, char *memory, size_t capacity)
{
    size_t size = 0;
    while (size < capacity) {
        ssize_t result = read (fd, memory + size, capacity - size);
        if (result < 0 && errno == EINTR) {
            continue;
        }
        if (result < 0) {
            return -1;
        }
        if (result == 0) {
            break;
        }
        size += (size_t) result;
    }
    return (ssize_t) size;
}

char *env_file_slurp (const char *path, size_t size_max, size_t *size)
{
    assert (path && size_max > 0 && size);
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return NULL;
    }
    /*  One byte more than may be there shows a file that is too large. */
    char *memory = malloc (size_max + 1);
    ssize_t result = memory ? read_all (fd, memory, size_max + 1) : -1;
    int reason = memory ? errno : ENOMEM;
    close (fd);
    if (result >= 0 && (size_t) result <= size_max) {
        *size = (size_t) result;
        return memory;
    }
    if (memory) {
        explicit_bzero (memory, size_max + 1);
    }
    free (memory);
    errno = result >= 0 ? EFBIG : reason;
    return NULL;
}

/*  ---- lines --------------------------------------------------------------- */

static bool is_space (char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

static struct text trim (struct text text)
{
    while (text.size > 0 && is_space (text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && is_space (text.data[text.size - 1])) {
        text.size--;
    }
    return text;
}

static bool is_name (struct text text)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    for (uint32_t i = 0; i < text.size; i++) {
        if (!memchr (letters, text.data[i], sizeof letters - 1)) {
            return false;
        }
    }
    return text.size > 0 && (text.data[0] < '0' || text.data[0] > '9');
}

/*  Takes quotes off; false when the opening one is not closed by the last
    byte, or closed before it. */
static bool unquote (struct text *value)
{
    if (value->size == 0 || (value->data[0] != '"' && value->data[0] != '\'')) {
        return true;
    }
    char quote = value->data[0];
    if (value->size < 2 || value->data[value->size - 1] != quote) {
        return false;
    }
    value->data++;
    value->size -= 2;
    return !text_has (*value, quote);
}

/*  Reads one trimmed line that is neither blank nor a comment. */
static bool read_line (struct text line, struct env_entry *entry)
{
    const struct text export = TEXT_LITERAL ("export");
    if (line.size > export.size && memcmp (line.data, export.data, export.size) == 0 &&
        is_space (line.data[export.size])) {
        line = trim ((struct text){ line.data + export.size, line.size - export.size });
    }
    const char *equals = memchr (line.data, '=', line.size);
    if (!equals || text_has (line, '\0')) {
        return false;
    }
    uint32_t size = (uint32_t) (equals - line.data);
    entry->name = trim ((struct text){ line.data, size });
    entry->value = trim ((struct text){ equals + 1, line.size - size - 1 });
    return is_name (entry->name) && unquote (&entry->value);
}

/*  Cuts the next line off the rest. */
static struct text next_line (struct text *rest)
{
    const char *newline = memchr (rest->data, '\n', rest->size);
    uint32_t size = newline ? (uint32_t) (newline - rest->data) : rest->size;
    struct text line = { rest->data, size };
    uint32_t taken = newline ? size + 1 : size;
    rest->data += taken;
    rest->size -= taken;
    return line;
}

static void read_lines (struct env_file *file, const char *path, struct problems *problems)
{
    struct text rest = { file->memory, (uint32_t) file->size };
    unsigned bad = 0;
    for (unsigned number = 1; rest.size > 0; number++) {
        struct text line = trim (next_line (&rest));
        if (line.size == 0 || line.data[0] == '#') {
            continue;
        }
        if (file->count == ENV_FILE_ENTRIES_MAX) {
            problems_add (problems, "%s:%u: expected at most %d variables", path, number,
                          ENV_FILE_ENTRIES_MAX);
            return;
        }
        if (read_line (line, &file->entries[file->count])) {
            file->count++;
        } else if (++bad <= BAD_LINES_MAX) {
            problems_add (problems, "%s:%u: expected NAME=value, or NAME=\"value\"", path, number);
        }
    }
    if (bad > BAD_LINES_MAX) {
        problems_add (problems, "%s: %u more lines like these", path, bad - BAD_LINES_MAX);
    }
}

/*  ---- the file ------------------------------------------------------------ */

void env_file_open (struct env_file *file, const char *path, struct problems *problems)
{
    assert (file && problems);
    file->memory = NULL;
    file->size = 0;
    file->count = 0;
    if (!path) {
        return;
    }
    char memory[1024];
    struct builder shown;
    builder_init (&shown, memory, sizeof memory);
    builder_printable (&shown, text_of (path), sizeof memory / 6);

    file->memory = env_file_slurp (path, ENV_FILE_SIZE_MAX, &file->size);
    if (!file->memory) {
        problems_add (problems, "%s: cannot be read as an env-file: %s", memory, strerror (errno));
        return;
    }
    read_lines (file, memory, problems);
}

bool env_file_find (const struct env_file *file, const char *name, struct text *value)
{
    assert (file && name && value);
    for (size_t i = file->count; i > 0; i--) {
        const struct env_entry *entry = &file->entries[i - 1];
        if (text_equal (entry->name, text_of (name))) {
            *value = entry->value;
            return true;
        }
    }
    return false;
}

void env_file_close (struct env_file *file)
{
    assert (file);
    if (file->memory) {
        explicit_bzero (file->memory, file->size);
        free (file->memory);
    }
    explicit_bzero (file, sizeof *file);
}
