/*  command.h - what every command of the program shares.

    A command is a function that takes its arguments as main would: argv [0] is
    its own name, the rest is what follows. It returns the exit code. Its
    options are a table, from which come the parser and --help, so that the two
    cannot disagree.
*/
#ifndef GUERDON_COMMAND_H
#define GUERDON_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "actors/base/config.h"

/*  Exit codes of the outside contract; the last two are those of sysexits. */
enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 64, EXIT_CONFIG = 78 };

int command_run (int argc, char **argv);    /* all actors, until a signal */
int command_check (int argc, char **argv);  /* validates, prints, probes */
int command_emit (int argc, char **argv);   /* posts one event */
int command_tap (int argc, char **argv);    /* shows messages */
int command_top (int argc, char **argv);    /* shows what processes do */
int command_dlq (int argc, char **argv);    /* sees to what waits for a person */
int command_ledger (int argc, char **argv); /* shows what was given */
int command_bench (int argc, char **argv);  /* measures this program */
int command_keygen (int argc, char **argv); /* writes certificates */

/*  One option: `--name VALUE`, `--name=VALUE`, or a flag. */
struct command_option {
    const char *name;     /* without dashes */
    const char *argument; /* what --help calls the value; NULL for a flag */
    const char *help;     /* one line */
    const char **value;   /* receives the value; untouched when not given */
    bool *flag;           /* set when given; may be NULL for one with a value */
};

/*  What a command understands. `--help` and `--version` come by themselves. */
struct command_syntax {
    const char *name;    /* as typed: "emit" */
    const char *operand; /* "TYPE": exactly one, or with `operands` any number; NULL for none */
    const char *help;    /* what it does, printed by --help */
    const struct command_option *options;
    size_t count;               /* of options */
    const char **operand_value; /* receives the operand; NULL with none, or with `operands` */
    const char **operands;      /* receives any number of operands; NULL: there is exactly one */
    size_t operands_max;        /* that fit there */
    size_t *operand_count;      /* receives how many there are */
};

/*  Reads the arguments. True: go on. False: it is over, with *code to return:
    --help or --version was answered, or a mistake was named on stderr. */
bool command_parse (const struct command_syntax *syntax, int argc, char **argv, int *code);

/*  Names a mistake in the arguments on stderr; returns EXIT_USAGE. */
int command_usage (const char *command, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

/*  Loads the configuration; on problems prints all of them on stderr and
    returns false. The config is to be destroyed in both cases. */
bool command_configure (struct config *config, const struct config_request *request);

#endif
