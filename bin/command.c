/*  command.c - arguments, --help and mistakes, the same way for every command.
*/
#include "bin/command.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int command_usage (const char *command, const char *format, ...)
{
    assert (command && format);
    va_list arguments;
    fprintf (stderr, "guerdon %s: ", command);
    va_start (arguments, format);
    vfprintf (stderr, format, arguments);
    va_end (arguments);
    fprintf (stderr, "\nSee: guerdon %s --help\n", command);
    return EXIT_USAGE;
}

static void print_option (const char *name, const char *argument, const char *help)
{
    enum { COLUMN = 20 };
    char left[64];
    snprintf (left, sizeof left, "--%s%s%s", name, argument ? " " : "", argument ? argument : "");
    printf ("  %-*s  %s\n", COLUMN, left, help);
}

static void print_help (const struct command_syntax *syntax)
{
    printf ("Usage: guerdon %s%s%s%s\n\n%s\n", syntax->name, syntax->operand ? " " : "",
            syntax->operand ? syntax->operand : "", syntax->count > 0 ? " [OPTION…]" : "", syntax->help);
    printf ("\nOptions:\n");
    for (size_t i = 0; i < syntax->count; i++) {
        print_option (syntax->options[i].name, syntax->options[i].argument, syntax->options[i].help);
    }
    print_option ("help", NULL, "say this");
    print_option ("version", NULL, "say which version this is");
}

/*  The option with this name, of `size` bytes, or NULL. */
static const struct command_option *find_option (const struct command_syntax *syntax, const char *name,
                                                 size_t size)
{
    for (size_t i = 0; i < syntax->count; i++) {
        const char *candidate = syntax->options[i].name;
        if (strlen (candidate) == size && memcmp (candidate, name, size) == 0) {
            return &syntax->options[i];
        }
    }
    return NULL;
}

/*  Where the parser stands. */
struct parsing {
    const struct command_syntax *syntax;
    int argc;
    char **argv;
    int at;   /* the argument being read */
    int code; /* to return once it is over */
    bool over;
};

static void end (struct parsing *parsing, int code)
{
    parsing->over = true;
    parsing->code = code;
}

/*  One argument that begins with "--". */
static void parse_option (struct parsing *parsing)
{
    const struct command_syntax *syntax = parsing->syntax;
    const char *argument = parsing->argv[parsing->at];
    const char *name = argument + 2;
    size_t size = strcspn (name, "=");
    const char *value = name[size] == '=' ? name + size + 1 : NULL;
    const struct command_option *option = find_option (syntax, name, size);

    if (!option) {
        end (parsing, command_usage (syntax->name, "unknown option %.*s", (int) (size + 2), argument));
    } else if (!option->argument && value) {
        end (parsing, command_usage (syntax->name, "--%s takes no value", option->name));
    } else if (!option->argument) {
        *option->flag = true;
    } else if (!value && parsing->at + 1 == parsing->argc) {
        end (parsing, command_usage (syntax->name, "--%s needs a value: %s", option->name, option->argument));
    } else {
        *option->value = value ? value : parsing->argv[++parsing->at];
        if (option->flag) {
            *option->flag = true;
        }
    }
}

static void parse_operand (struct parsing *parsing)
{
    const struct command_syntax *syntax = parsing->syntax;
    const char *argument = parsing->argv[parsing->at];
    if (syntax->operands && *syntax->operand_count < syntax->operands_max) {
        syntax->operands[(*syntax->operand_count)++] = argument;
        return;
    }
    if (!syntax->operand || syntax->operands || *syntax->operand_value) {
        end (parsing, command_usage (syntax->name, "unexpected argument \"%s\"", argument));
        return;
    }
    *syntax->operand_value = argument;
}

/*  Reads one argument; true once "--" ended the options. */
static bool parse_argument (struct parsing *parsing, bool operands_only)
{
    const char *argument = parsing->argv[parsing->at];
    if (operands_only || argument[0] != '-' || argument[1] == '\0') {
        parse_operand (parsing);
    } else if (strcmp (argument, "--") == 0) {
        return true;
    } else if (strcmp (argument, "--help") == 0 || strcmp (argument, "-h") == 0) {
        print_help (parsing->syntax);
        end (parsing, EXIT_OK);
    } else if (strcmp (argument, "--version") == 0) {
        printf ("guerdon %s\n", GUERDON_VERSION);
        end (parsing, EXIT_OK);
    } else if (argument[1] != '-') {
        end (parsing, command_usage (parsing->syntax->name, "unknown option %s", argument));
    } else {
        parse_option (parsing);
    }
    return operands_only;
}

bool command_parse (const struct command_syntax *syntax, int argc, char **argv, int *code)
{
    assert (syntax && argv && code);
    assert (!syntax->operand || syntax->operand_value || (syntax->operands && syntax->operand_count));
    struct parsing parsing = { .syntax = syntax, .argc = argc, .argv = argv, .at = 1 };
    bool operands_only = false;
    for (; parsing.at < argc && !parsing.over; parsing.at++) {
        operands_only = parse_argument (&parsing, operands_only);
    }
    if (!parsing.over && syntax->operand && !syntax->operands && !*syntax->operand_value) {
        end (&parsing, command_usage (syntax->name, "%s is missing", syntax->operand));
    }
    *code = parsing.code;
    return !parsing.over;
}

bool command_configure (struct config *config, const struct config_request *request)
{
    assert (config && request);
    struct problems problems;
    if (config_load (config, request, &problems)) {
        return true;
    }
    fprintf (stderr, "guerdon: the configuration has %u problem%s\n%s", problems.count,
             problems.count == 1 ? "" : "s", problems.text);
    return false;
}
