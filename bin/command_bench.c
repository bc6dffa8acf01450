/*  command_bench.c - guerdon bench: measures this program.

    What it needs, stubs of the services and bare programs to compare with, is
    built with the tests and stands beside the program; this command only finds
    it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bin/command.h"

/*  The path of the program beside this one; false when it cannot be told. */
static bool find_beside (const char *name, char *path, size_t capacity)
{
    ssize_t size = readlink ("/proc/self/exe", path, capacity - 1);
    if (size <= 0)
        return false;
    path[size] = '\0';
    char *slash = strrchr (path, '/');
    size_t room = slash ? capacity - (size_t) (slash + 1 - path) : 0;
    return slash && (size_t) snprintf (slash + 1, room, "%s", name) < room;
}

int command_bench (int argc, char **argv)
{
    char path[4096];
    (void) argc;
    if (!find_beside ("guerdon-bench", path, sizeof path)) {
        fprintf (stderr, "guerdon bench: cannot tell where this program is\n");
        return EXIT_FAILED;
    }
    execv (path, argv);
    fprintf (stderr,
             "guerdon bench: %s: %s: it comes with the tests: in the source tree run bin/test, or build with "
             "GUERDON_TESTS=ON, and then build/bin/guerdon bench\n",
             path, strerror (errno));
    return EXIT_FAILED;
}
