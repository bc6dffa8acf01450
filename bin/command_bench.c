/*  command_bench.c - guerdon bench: measures this program.

    What it needs, stubs of the services and bare programs to compare with, is
    built with the tests and stands beside the program; this command only finds
    it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bin/command.h"

enum { SCENARIOS_MAX = 64 };

static const char *const help =
    "Measures this program: each scenario runs in turn with a bare program that makes only the\n"
    "library calls that cannot be avoided, against the same stubs of the services. Prints medians,\n"
    "their spread, and the ratio. Part of the source tree: built with the tests.";

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

/*  Becomes the tool beside this program. Returns only when there is none. */
static int become (char *const *arguments)
{
    char path[4096];
    if (!find_beside ("guerdon-bench", path, sizeof path)) {
        fprintf (stderr, "guerdon bench: cannot tell where this program is\n");
        return EXIT_FAILED;
    }
    execv (path, arguments);
    fprintf (stderr,
             "guerdon bench: %s: %s: it comes with the tests: in the source tree run bin/test, or build with "
             "GUERDON_TESTS=ON, and then build/bin/guerdon bench\n",
             path, strerror (errno));
    return EXIT_FAILED;
}

int command_bench (int argc, char **argv)
{
    const char *scenarios[SCENARIOS_MAX];
    const char *runs = NULL;
    const char *plot = NULL;
    bool small = false;
    bool json = false;
    bool list = false;
    size_t count = 0;
    const struct command_option options[] = {
        { "runs", "N", "run each scenario so many times, after one to warm up (5)", &runs, NULL },
        { "small", NULL, "show that it works; the figures mean little", NULL, &small },
        { "json", NULL, "print all figures as JSON", NULL, &json },
        { "plot", "DIR", "draw each scenario as an SVG there, with gnuplot", &plot, NULL },
        { "list", NULL, "name the scenarios", NULL, &list },
    };
    const struct command_syntax syntax = { .name = "bench",
                                           .operand = "[SCENARIO…]",
                                           .help = help,
                                           .options = options,
                                           .count = sizeof options / sizeof *options,
                                           .operands = scenarios,
                                           .operands_max = SCENARIOS_MAX,
                                           .operand_count = &count };
    int code = EXIT_OK;
    if (!command_parse (&syntax, argc, argv, &code))
        return code;
    return become (argv); /* it reads them again */
}
