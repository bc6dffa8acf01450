/*  tap_show.c - see tap_show.h. */

#include "bin/tap_show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "actors/base/json.h"
#include "proto/codec.h"
#include "proto/text.h"

enum { ADDRESS_WIDTH = 17, SHOWN_MAX = 120, VALUE_MAX = 2 * USER_SIZE_MAX, ESCAPED_MAX = 6 * SHOWN_MAX + 16 };

/*  ---- time --------------------------------------------------------------- */

/*  The time of day, or date and time of ISO 8601. */
static void format_time (uint64_t time_us, bool date, char *text, size_t capacity)
{
    time_t seconds = (time_t) (time_us / 1000000);
    struct tm parts;
    char head[32];
    gmtime_r (&seconds, &parts);
    if (date)
        strftime (head, sizeof head, "%Y-%m-%dT%H:%M:%S", &parts);
    else
        strftime (head, sizeof head, "%H:%M:%S", &parts);
    snprintf (text, capacity, "%s.%06u%s", head, (unsigned) (time_us % 1000000), date ? "Z" : "");
}

/*  ---- fields ------------------------------------------------------------- */

static const void *field_at (const struct message *message, const struct field_spec *field)
{
    return (const char *) message + field->offset;
}

/*  The number of a field that has one; an enum lies there as an int. */
static uint64_t number_of (const struct message *message, const struct field_spec *field)
{
    if (field->type == FIELD_CHOICE)
        return (uint64_t) * (const unsigned *) field_at (message, field);
    return *(const uint64_t *) field_at (message, field);
}

static const char *choice_name (const struct message *message, const struct field_spec *field)
{
    const struct enum_value *value = enum_value (field->choice, number_of (message, field));
    return value ? value->name : "?";
}

/*  Text as JSON can carry it: as it is when it is UTF-8, else escaped. */
static void pack_printable (struct packer *packer, struct text text)
{
    if (text_is_utf8 (text)) {
        pack_text (packer, text);
        return;
    }
    char memory[VALUE_MAX];
    struct builder printable;
    builder_init (&printable, memory, sizeof memory);
    builder_printable (&printable, text, sizeof memory / 6);
    pack_text (packer, builder_text (&printable));
}

/*  Raw data as JSON can carry it; what it cannot is told. */
static void pack_data (struct packer *packer, struct raw raw)
{
    size_t size = 0;
    char *json = json_write (raw, TEXT_LITERAL ("***"), &size);
    if (json)
        pack_raw (packer, raw);
    else
        pack_literal (packer, "(not JSON)");
    free (json);
}

static void pack_field (struct packer *packer, const struct message *message, const struct field_spec *field)
{
    switch (field->type) {
    case FIELD_UINT:
        pack_uint (packer, number_of (message, field));
        break;
    case FIELD_INT:
        pack_int (packer, *(const int64_t *) field_at (message, field));
        break;
    case FIELD_CHOICE:
        pack_literal (packer, choice_name (message, field));
        break;
    case FIELD_TEXT:
        pack_printable (packer, *(const struct text *) field_at (message, field));
        break;
    case FIELD_RAW:
        pack_data (packer, *(const struct raw *) field_at (message, field));
        break;
    }
}

/*  ---- JSON --------------------------------------------------------------- */

static const char *const head_names[] = { "time", "process", "direction", "from", "to", "type", "trace" };

enum { HEAD = sizeof head_names / sizeof *head_names };

/*  A field named as one of those has its message's name before it: no name
    stands twice. */
static void pack_name (struct packer *packer, const struct message_spec *spec, const struct field_spec *field)
{
    char name[64];
    bool taken = false;
    for (size_t i = 0; i < HEAD; i++)
        taken |= strcmp (field->name, head_names[i]) == 0;
    snprintf (name, sizeof name, "%s%s%s", taken ? spec->name : "", taken ? "_" : "", field->name);
    pack_literal (packer, name);
}

void tap_show_json (const struct tap_record *record, const struct message_spec *spec,
                    const struct message *message)
{
    static uint8_t memory[2 * MESSAGE_SIZE_MAX];
    char time[64];
    char trace[24];
    struct packer packer;
    format_time (record->time_us, true, time, sizeof time);
    snprintf (trace, sizeof trace, "%016" PRIx64, message->trace);
    const struct text head[HEAD] = { text_of (time), record->process,      record->direction, record->from,
                                     record->to,     text_of (spec->name), text_of (trace) };
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, (uint32_t) (HEAD + spec->count));
    for (size_t i = 0; i < HEAD; i++) {
        pack_literal (&packer, head_names[i]);
        pack_printable (&packer, head[i]);
    }
    for (size_t i = 0; i < spec->count; i++) {
        pack_name (&packer, spec, &spec->fields[i]);
        pack_field (&packer, message, &spec->fields[i]);
    }
    size_t size = 0;
    char *json = json_write (packer_raw (&packer), TEXT_LITERAL ("***"), &size);
    if (json)
        printf ("%s\n", json);
    free (json);
}

/*  ---- text --------------------------------------------------------------- */

/*  Whatever a process says may be hostile to a terminal. Padded to so many bytes. */
static void print_escaped (struct text text, int width)
{
    char memory[ESCAPED_MAX];
    struct builder printable;
    builder_init (&printable, memory, sizeof memory);
    builder_printable (&printable, text, SHOWN_MAX);
    printf ("%-*s", width, memory);
}

static void print_data (struct raw raw)
{
    size_t size = 0;
    char *json = json_write (raw, TEXT_LITERAL ("***"), &size);
    if (json)
        print_escaped ((struct text){ json, (uint32_t) size }, 0);
    else
        fputs ("(not JSON)", stdout);
    free (json);
}

/*  One field; those that say nothing are left out. */
static void print_field (const struct message *message, const struct field_spec *field)
{
    const struct text *text = field_at (message, field);
    const struct raw *raw = field_at (message, field);
    if ((field->type == FIELD_TEXT && !text->size) || (field->type == FIELD_RAW && !raw->size))
        return;
    printf (" %s=", field->name);
    switch (field->type) {
    case FIELD_UINT:
        printf ("%" PRIu64, number_of (message, field));
        break;
    case FIELD_INT:
        printf ("%" PRId64, *(const int64_t *) field_at (message, field));
        break;
    case FIELD_CHOICE:
        fputs (choice_name (message, field), stdout);
        break;
    case FIELD_TEXT:
        print_escaped (*text, 0);
        break;
    case FIELD_RAW:
        print_data (*raw);
        break;
    }
}

/*  A colour for each message, so that the eye finds the same one again. */
static int colour_of (const struct message_spec *spec)
{
    static const int colours[] = { 36, 32, 33, 35, 34, 96, 92, 93, 95, 94 };
    return colours[(unsigned) spec->id % (sizeof colours / sizeof *colours)];
}

void tap_show_text (const struct tap_record *record, const struct message_spec *spec,
                    const struct message *message, bool colour)
{
    char time[64];
    format_time (record->time_us, false, time, sizeof time);
    printf ("%s  ", time);
    if (message->trace)
        printf ("%016" PRIx64, message->trace);
    else
        printf ("%-16s", "-");
    printf ("  ");
    print_escaped (record->from, ADDRESS_WIDTH);
    printf (" %s ", record->direction.size == 4 ? "->" : "=>");
    print_escaped (record->to, ADDRESS_WIDTH);
    putchar (' ');
    if (colour)
        printf ("\033[%dm%-12s\033[0m", colour_of (spec), spec->name);
    else
        printf ("%-12s", spec->name);
    for (size_t i = 0; i < spec->count; i++)
        print_field (message, &spec->fields[i]);
    putchar ('\n');
}
