/*  sim_trace.c - what happens, for people. */

#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "proto/raw.h"
#include "proto/text.h"

enum { DEPTH_MAX = 6 };

static void print_place (struct sim *sim, const struct actor *actor)
{
    fprintf (sim->options.trace, "%8" PRIu64 ".%03" PRIu64 "  ", sim->now_ms / 1000, sim->now_ms % 1000);
    if (actor)
        fprintf (sim->options.trace, "%" PRIu32 " %-17s ", actor->process->number, actor->name);
    else
        fprintf (sim->options.trace, "%-19s ", "-");
}

void trace_line (struct sim *sim, const struct actor *actor, const char *format, ...)
{
    if (!sim->options.trace)
        return;
    print_place (sim, actor);
    va_list arguments;
    va_start (arguments, format);
    vfprintf (sim->options.trace, format, arguments);
    va_end (arguments);
    fputc ('\n', sim->options.trace);
}

static void print_text (FILE *file, struct text text)
{
    char memory[512];
    struct builder builder;
    builder_init (&builder, memory, sizeof memory);
    builder_printable (&builder, text, 120);
    fprintf (file, "\"%s\"", memory);
}

/*  One object, as JSON looks. */
static void print_object (FILE *file, struct cursor *cursor, unsigned depth)
{
    struct value value;
    if (depth > DEPTH_MAX || !cursor_next (cursor, &value)) {
        fputs ("…", file);
        return;
    }
    switch (value.type) {
    case VALUE_NIL:
        fputs ("nil", file);
        break;
    case VALUE_BOOL:
        fputs (value.boolean ? "true" : "false", file);
        break;
    case VALUE_UINT:
        fprintf (file, "%" PRIu64, value.uint);
        break;
    case VALUE_INT:
        fprintf (file, "%" PRId64, value.integer);
        break;
    case VALUE_FLOAT:
        fprintf (file, "%g", value.real);
        break;
    case VALUE_TEXT:
    case VALUE_BINARY:
        print_text (file, value.text);
        break;
    case VALUE_EXT:
        fprintf (file, "ext%d", value.ext);
        break;
    case VALUE_ARRAY:
    case VALUE_MAP:
        fputc (value.type == VALUE_MAP ? '{' : '[', file);
        for (uint32_t i = 0; i < value.count; i++) {
            fputs (i ? ", " : "", file);
            print_object (file, cursor, depth + 1);
            if (value.type == VALUE_MAP) {
                fputs (": ", file);
                print_object (file, cursor, depth + 1);
            }
        }
        fputc (value.type == VALUE_MAP ? '}' : ']', file);
        break;
    }
}

static void print_field (FILE *file, const struct message *message, const struct field_spec *field)
{
    const char *at = (const char *) message + field->offset;
    uint64_t uint = 0;
    int64_t integer;
    struct text text;
    struct raw raw;
    fprintf (file, " %s=", field->name);
    switch (field->type) {
    case FIELD_UINT:
        memcpy (&uint, at, sizeof uint);
        fprintf (file, "%" PRIu64, uint);
        break;
    case FIELD_INT:
        memcpy (&integer, at, sizeof integer);
        fprintf (file, "%" PRId64, integer);
        break;
    case FIELD_CHOICE: {
        unsigned number;
        memcpy (&number, at, sizeof number);
        const struct enum_value *value = enum_value (field->choice, number);
        fputs (value ? value->name : "?", file);
        break;
    }
    case FIELD_TEXT:
        memcpy (&text, at, sizeof text);
        print_text (file, text);
        break;
    case FIELD_RAW:
        memcpy (&raw, at, sizeof raw);
        struct cursor cursor = cursor_of (raw);
        if (raw.size)
            print_object (file, &cursor, 0);
        else
            fputs ("nil", file);
        break;
    }
}

void trace_message (const struct actor *actor, const char *what, struct address other,
                    const struct message *message)
{
    FILE *file = actor->sim->options.trace;
    if (!file || message->id == MESSAGE_MEASURE)
        return;
    const struct message_spec *spec = message_spec ((uint64_t) message->id);
    print_place (actor->sim, actor);
    if (other.role == ROLE_SHELL)
        fprintf (file, "%s %s", what, spec->name);
    else
        fprintf (file, "%s %s/%u %s", what, role_name (other.role), (unsigned) other.peer, spec->name);
    for (size_t i = 0; i < spec->count; i++)
        print_field (file, message, &spec->fields[i]);
    fputc ('\n', file);
}
