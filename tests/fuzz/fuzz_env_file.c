/*  fuzz_env_file.c - any bytes as a file of NAME=value lines.

    Every entry is a name and a value that stands in the file, the last of a name
    counts, and what is said of a bad line shows nothing of it.
*/
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/env_file.h"
#include "proto/text.h"
#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

static bool lies_in (const struct env_file *file, struct text text)
{
    return text.size == 0 ||
           (text.data >= file->memory && text.data + text.size <= file->memory + file->size);
}

static void check_entry (const struct env_file *file, const struct env_entry *entry)
{
    struct text name = entry->name;
    assert (name.size > 0 && (name.data[0] < '0' || name.data[0] > '9'));
    assert (lies_in (file, name) && lies_in (file, entry->value));
    for (uint32_t i = 0; i < name.size; i++)
        assert (name.data[i] == '_' || (name.data[i] >= '0' && name.data[i] <= '9') ||
                (name.data[i] >= 'A' && name.data[i] <= 'Z') || (name.data[i] >= 'a' && name.data[i] <= 'z'));
    assert (!text_has (entry->value, '\n') && !text_has (entry->value, '\0'));
}

/*  What is found under a name is the last value of that name. */
static void check_found (const struct env_file *file, size_t index)
{
    char name[256];
    struct text text = file->entries[index].name, value, last = file->entries[index].value;
    if (text.size >= sizeof name)
        return;
    memcpy (name, text.data, text.size);
    name[text.size] = '\0';
    for (size_t i = index + 1; i < file->count; i++)
        if (text_equal (file->entries[i].name, text))
            last = file->entries[i].value;
    bool found = env_file_find (file, name, &value);
    assert (found && value.data == last.data && value.size == last.size);
}

/*  Path, number and what was expected: a line says no more. */
static void check_problems (const struct problems *problems, const char *path)
{
    static const char *const expected[] = { "expected NAME=value, or NAME=\"value\"\n",
                                            "expected at most 512 variables\n", "more lines like these\n",
                                            "cannot be read as an env-file: File too large\n" };
    for (const char *line = problems->text; *line; line = strchr (line, '\n') + 1) {
        assert (strncmp (line, path, strlen (path)) == 0);
        const char *said = line + strlen (path);
        said += strspn (said, ":0123456789 ");
        bool known = false;
        for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
            known |= strncmp (said, expected[i], strlen (expected[i])) == 0;
        assert (known);
    }
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    static struct env_file file;
    static struct problems problems;
    struct text value;
    char path[MEMORY_FILE_PATH_SIZE];
    int memory = memory_file (bytes, size, path);
    problems = (struct problems){ .count = 0 };
    env_file_open (&file, path, &problems);
    assert (file.count <= ENV_FILE_ENTRIES_MAX && problems.size < sizeof problems.text);
    assert (size <= ENV_FILE_SIZE_MAX ? file.size == size : problems.count == 1 && file.count == 0);
    for (size_t i = 0; i < file.count; i++)
        check_entry (&file, &file.entries[i]);
    for (size_t i = 0; i < file.count; i += 1 + file.count / 8)
        check_found (&file, i);
    bool found = env_file_find (&file, "no name", &value);
    assert (!found);
    check_problems (&problems, path);
    env_file_close (&file);
    close (memory);
    return 0;
}
