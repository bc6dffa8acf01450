/*  main.c - the program: finds the command and hands over.
*/
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bin/command.h"

struct command {
    const char *name;
    int (*run) (int argc, char **argv);
    const char *help; /* one line */
};

static const struct command commands[] = {
    { "run", command_run, "watch events and hand out rewards, until stopped" },
    { "check", command_check, "check and print the configuration, and probe the services" },
    { "emit", command_emit, "post an event to the events service" },
    { "tap", command_tap, "show every message as it happens" },
    { "top", command_top, "show what every process and actor is doing" },
    { "dlq", command_dlq, "list, retry and drop rewards that were refused or are uncertain" },
    { "ledger", command_ledger, "show what was given to whom, and why" },
    { "bench", command_bench, "measure this program against the least its work could cost" },
    { "keygen", command_keygen, "write the certificates of encrypted connections" },
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void print_commands (FILE *stream)
{
    fprintf (stream, "Commands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        fprintf (stream, "  %-8s %s\n", commands[i].name, commands[i].help);
    }
    fprintf (stream, "\nEach has --help. Exit codes: 0 ok, 1 failed, 64 usage, 78 configuration.\n");
}

static int print_help (void)
{
    printf ("Usage: guerdon COMMAND [OPTION…]\n\n"
            "Watches player events and hands out what players earned.\n\n");
    print_commands (stdout);
    printf ("\nA newcomer begins with: guerdon run --sandbox\n");
    return EXIT_OK;
}

static bool is_any (const char *argument, const char *a, const char *b)
{
    return strcmp (argument, a) == 0 || strcmp (argument, b) == 0;
}

int main (int argc, char **argv)
{
    /*  A peer or reader that went away is an error of the call that wrote. */
    signal (SIGPIPE, SIG_IGN);
    /*  So is a file that may grow no further, as on a full disk. */
    signal (SIGXFSZ, SIG_IGN);

    if (argc < 2) {
        fprintf (stderr, "guerdon: which command?\n\n");
        print_commands (stderr);
        return EXIT_USAGE;
    }
    if (is_any (argv[1], "--help", "-h") || strcmp (argv[1], "help") == 0) {
        return print_help ();
    }
    if (is_any (argv[1], "--version", "version")) {
        printf ("guerdon %s\n", GUERDON_VERSION);
        return EXIT_OK;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp (argv[1], commands[i].name) == 0) {
            return commands[i].run (argc - 1, argv + 1);
        }
    }
    fprintf (stderr, "guerdon: unknown command \"%s\"\n\n", argv[1]);
    print_commands (stderr);
    return EXIT_USAGE;
}
