/*  fuzz_tap.c - any bytes as a recording that `guerdon tap --replay` shows.

    The first byte says how it is to be shown, and whether the head of a recording
    stands before the rest. What is shown goes nowhere. */
#include <assert.h>
#include <signal.h>
#include <string.h>

#include "bin/command.h"
#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

enum { FILE_MAX = 64 * 1024 };

static const char head[] = "guerdon tap 1\n\0"; /* and its terminator */

static int replay (char *path, uint8_t how)
{
    static char *wishes[][2] = { { "--user", "alice" },
                                 { "--type", "event" },
                                 { "--actor", "decision" },
                                 { "--sample", "2" },
                                 { "--count", "3" } };
    char *arguments[] = { "tap", "--replay", path, "--format", how & 1 ? "json" : "text", NULL, NULL, NULL };
    int count = 5;
    unsigned wish = how / 4 % 8;
    if (wish < sizeof wishes / sizeof *wishes) {
        arguments[count++] = wishes[wish][0];
        arguments[count++] = wishes[wish][1];
    }
    return command_tap (count, arguments);
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    static uint8_t content[sizeof head + FILE_MAX];
    static FILE *nowhere;
    if (!nowhere)
        nowhere = fopen ("/dev/null", "we");
    if (!nowhere || size == 0 || size > FILE_MAX)
        return 0;
    struct sigaction interrupt, terminate;
    sigaction (SIGINT, NULL, &interrupt);
    sigaction (SIGTERM, NULL, &terminate);
    size_t used = bytes[0] & 2 ? 0 : sizeof head;
    memcpy (content, head, sizeof head);
    memcpy (content + used, bytes + 1, size - 1);
    char path[MEMORY_FILE_PATH_SIZE];
    int file = memory_file (content, used + size - 1, path);
    FILE *out = stdout, *err = stderr;
    stdout = stderr = nowhere;
    int code = replay (path, bytes[0]);
    stdout = out;
    stderr = err;
    assert (code == EXIT_OK || code == EXIT_FAILED);
    close (file);
    sigaction (SIGINT, &interrupt, NULL);
    sigaction (SIGTERM, &terminate, NULL);
    return 0;
}
