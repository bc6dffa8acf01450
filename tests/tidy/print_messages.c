/*  print_messages.c - prints docs/messages.md from the tables.

    Everything that the codec follows is read here from where the codec reads
    it, the examples are encoded by it; so the document cannot say anything
    else than the program does.
*/
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/codec.h"

/*  ---- the prose ---------------------------------------------------------- */

static const char introduction[] =
    "<!-- Printed from the tables in proto/ by print_messages; do not edit. -->\n"
    "# Messages\n"
    "\n"
    "Actors talk in these messages and in nothing else. Each is one ZeroMQ frame, and each frame is one\n"
    "[msgpack](https://msgpack.org) object. The table they come from is `proto/messages.def`.\n"
    "\n"
    "## On the wire\n"
    "\n"
    "A **plain** message is one value:\n"
    "\n"
    "    [version, id, trace, field, field, …]\n"
    "\n"
    "A **batch** carries many values of one kind, each with a trace of its own:\n"
    "\n"
    "    [version, id, trace, [[trace, field, field, …], [trace, field, field, …], …]]\n"
    "\n"
    "- `version` is %d. Between processes it is the newest that both ends of the hop speak (see HELLO). A "
    "frame of a\n"
    "  version that its receiver does not speak is dropped and counted.\n"
    "- `id` says which message it is, and with it whether it is plain or a batch.\n"
    "- `trace` is an integer that follows one event from the page it came in to the reward; 0 for none.\n"
    "  A batch as a whole has the trace of its first item.\n"
    "- Fields stand in the order of the tables below. The number in the first column is the place in the\n"
    "  array, counted from 0: in the whole array of a plain message, in the item's array of a batch.\n"
    "\n"
    "Rules for readers, by which old and new programs understand each other:\n"
    "\n"
    "- Elements behind the last field that you know are ignored, in the message and in each item.\n"
    "- Fields that are missing at the end are zero, empty or nil. A `choice` whose enum has no 0 must be "
    "there.\n"
    "- A field of the wrong type or beyond its limit spoils its value only: a plain message is dropped, of "
    "a\n"
    "  batch the one item.\n"
    "- A frame is refused as a whole when it is larger than MESSAGE_SIZE_MAX, is not exactly one whole "
    "msgpack\n"
    "  object, is nested deeper than RAW_DEPTH_MAX, or has more than BATCH_ITEMS_MAX items.\n"
    "- Ids are never reused, and fields are only ever appended.\n"
    "\n"
    "### Types\n"
    "\n"
    "| type | in msgpack | limit |\n"
    "|---|---|---|\n"
    "| `uint` | an integer, not negative, in any of msgpack's widths | its greatest value |\n"
    "| `int` | an integer from -2^63 to 2^63 - 1 | |\n"
    "| `choice` | an integer that is a number of the enum named | |\n"
    "| `text` | a str of any bytes: mostly UTF-8, but nobody vouches for it | its size in bytes |\n"
    "| `raw` | any one object, in place; nil when there is none | its size in bytes, encoded |\n"
    "\n"
    "A float is never an integer, not even 1.0. In Python, a `text` that is not UTF-8 needs\n"
    "`msgpack.unpackb (frame, unicode_errors=\"surrogateescape\", strict_map_key=False)`.\n"
    "\n"
    "Inside `raw`, two ext types have a meaning: %d stands for the API secret in a request body, which the\n"
    "shell fills in on the way out; %d stands for what was left out of a reply, its one byte is a `fault`.\n";

/*  ---- limits ------------------------------------------------------------- */

#define LIMIT(name)                                                                                          \
    {                                                                                                        \
#name, (uint64_t) (name)                                                                             \
    }

/*  Those of limits.h that bear on the bytes of a message. */
static const struct {
    const char *name;
    uint64_t value;
} limits[] = {
    LIMIT (MESSAGE_SIZE_MAX), LIMIT (BATCH_ITEMS_MAX), LIMIT (RAW_DEPTH_MAX),   LIMIT (POSITION_MAX),
    LIMIT (USER_SIZE_MAX),    LIMIT (NAME_SIZE_MAX),   LIMIT (REWARD_SIZE_MAX), LIMIT (KEY_SIZE_MAX),
    LIMIT (KEYS_SIZE_MAX),    LIMIT (VALUE_SIZE_MAX),  LIMIT (DATA_SIZE_MAX),   LIMIT (DATA_KEYS_MAX),
    LIMIT (DATA_DEPTH_MAX),   LIMIT (REASON_SIZE_MAX), LIMIT (WINDOW_MAX),
};

static void print_limits (void)
{
    printf ("\n### Limits\n\nSizes are bytes.\n\n| name | value |\n|---|---|\n");
    for (size_t i = 0; i < sizeof (limits) / sizeof (*limits); i++)
        printf ("| %s | %" PRIu64 " |\n", limits[i].name, limits[i].value);
}

/*  ---- examples ----------------------------------------------------------- */

static const char *const type_names[] = {
    [VALUE_NIL] = "nil",     [VALUE_BOOL] = "bool", [VALUE_UINT] = "integer",  [VALUE_INT] = "integer",
    [VALUE_FLOAT] = "float", [VALUE_TEXT] = "text", [VALUE_BINARY] = "binary", [VALUE_ARRAY] = "array",
    [VALUE_MAP] = "map",     [VALUE_EXT] = "ext",
};

static void print_value (const struct value *value)
{
    printf ("%s", type_names[value->type]);
    if (value->type == VALUE_UINT)
        printf (" %" PRIu64, value->uint);
    else if (value->type == VALUE_INT)
        printf (" %" PRId64, value->integer);
    else if (value->type == VALUE_TEXT)
        printf (" \"%.*s\"", (int) value->text.size, value->text.data);
    else if (value->type == VALUE_ARRAY || value->type == VALUE_MAP)
        printf (" of %" PRIu32, value->count);
    printf ("\n");
}

static void print_bytes (const uint8_t *from, const uint8_t *to)
{
    for (; from < to; from++)
        printf ("%02x%s", *from, from + 1 < to ? " " : "");
}

/*  Prints the object at the cursor, a line a head, its elements indented. */
static void print_object (struct cursor *cursor, int depth)
{
    struct value value;
    const uint8_t *from = cursor->at;
    assert (depth < RAW_DEPTH_MAX);
    if (!cursor_next (cursor, &value))
        return;
    printf ("    %*s", 3 * depth, "");
    print_bytes (from, cursor->at);
    printf ("  ");
    print_value (&value);
    uint32_t children = 0;
    if (value.type == VALUE_ARRAY || value.type == VALUE_MAP)
        children = value.type == VALUE_MAP ? 2 * value.count : value.count;
    for (uint32_t i = 0; i < children; i++)
        print_object (cursor, depth + 1);
}

static void print_example (const char *text, struct raw bytes)
{
    struct cursor cursor = cursor_of (bytes);
    printf ("\n%s\n\n    ", text);
    print_bytes (bytes.data, bytes.data + bytes.size);
    printf ("\n\nand taken apart:\n\n");
    print_object (&cursor, 0);
}

static void print_plain_example (void)
{
    uint8_t memory[64];
    struct packer packer;
    struct message credit = { .id = MESSAGE_CREDIT, .credit = { .capacity = 1000 } };
    packer_init (&packer, memory, sizeof (memory));
    enum encode_result result = encode_message (&packer, &credit);
    assert (result == ENCODE_OK);
    print_example ("CREDIT, with trace 0 and a capacity of 1000:", packer_raw (&packer));
}

static void print_batch_example (void)
{
    uint8_t memory[512], items_memory[256], data_memory[64];
    struct packer packer, items, data;
    packer_init (&data, data_memory, sizeof (data_memory));
    pack_map (&data, 1);
    pack_literal (&data, "userId");
    pack_literal (&data, "alice");
    struct message login = { .id = MESSAGE_EVENT,
                             .trace = 7,
                             .event = { .position = 41,
                                        .timestamp = 1491000000123,
                                        .source = TEXT_LITERAL ("game-two"),
                                        .type = TEXT_LITERAL ("LOGIN"),
                                        .data = packer_raw (&data),
                                        .fault = FAULT_NONE } };
    struct message faulty = { .id = MESSAGE_EVENT,
                              .trace = 8,
                              .event = { .position = 42, .timestamp = -1, .fault = FAULT_NAME } };
    packer_init (&items, items_memory, sizeof (items_memory));
    enum encode_result first = encode_item (&items, &login);
    enum encode_result second = encode_item (&items, &faulty);
    packer_init (&packer, memory, sizeof (memory));
    enum encode_result whole = encode_batch (&packer, MESSAGE_EVENT, login.trace, packer_raw (&items), 2);
    assert (first == ENCODE_OK && second == ENCODE_OK && whole == ENCODE_OK);
    print_example ("EVENT, a batch of two: a log-in, and an event without names:", packer_raw (&packer));
}

/*  ---- tables ------------------------------------------------------------- */

/*  The documentation of the tables stands in cells, where "|" ends a cell. */
static void print_cell (const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            putchar ('\\');
        putchar (*text);
    }
}

static void print_upper (const char *name)
{
    for (; *name; name++)
        putchar (*name >= 'a' && *name <= 'z' ? *name - 'a' + 'A' : *name);
}

static void print_enums (void)
{
    size_t count;
    const struct enum_spec *const *specs = enum_specs (&count);
    printf ("\n## Enums\n");
    for (size_t i = 0; i < count; i++) {
        printf ("\n### Enum %s\n\n%s\n\n| number | name | meaning |\n|---|---|---|\n", specs[i]->name,
                specs[i]->doc);
        for (size_t j = 0; j < specs[i]->count; j++) {
            printf ("| %" PRIu64 " | %s | ", specs[i]->values[j].number, specs[i]->values[j].name);
            print_cell (specs[i]->values[j].doc);
            printf (" |\n");
        }
    }
}

/*  Type and limit of a field, two cells. */
static void print_type (const struct field_spec *field)
{
    switch (field->type) {
    case FIELD_UINT:
        printf ("uint | ");
        if (field->max == UINT64_MAX)
            printf ("2^64 - 1");
        else
            printf ("%" PRIu64, field->max);
        break;
    case FIELD_INT:
        printf ("int |");
        break;
    case FIELD_CHOICE:
        printf ("choice of [%s](#enum-%s) |", field->choice->name, field->choice->name);
        break;
    case FIELD_TEXT:
        printf ("text | %" PRIu64 " bytes", field->max);
        break;
    case FIELD_RAW:
        printf ("raw | %" PRIu64 " bytes", field->max);
        break;
    }
}

static void print_fields (const struct message_spec *spec)
{
    if (spec->count == 0) {
        printf ("No fields.\n");
        return;
    }
    printf ("| place | field | type | limit | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < spec->count; i++) {
        printf ("| %zu | %s | ", i + (spec->batch ? 1 : 3), spec->fields[i].name);
        print_type (&spec->fields[i]);
        printf (" | ");
        print_cell (spec->fields[i].doc);
        printf (" |\n");
    }
}

static void print_message (const struct message_spec *spec)
{
    printf ("\n### %d ", (int) spec->id);
    print_upper (spec->name);
    printf ("\n\n%s, %s. %s\n\n", spec->batch ? "Batch" : "Plain", spec->route, spec->doc);
    print_fields (spec);
}

static void print_messages (uint64_t from, uint64_t to)
{
    for (uint64_t id = from; id <= to; id++)
        if (message_spec (id))
            print_message (message_spec (id));
}

int main (void)
{
    printf (introduction, PROTOCOL_VERSION, (int) EXT_SECRET, (int) EXT_CUT);
    print_limits ();
    printf ("\n### Examples\n");
    print_plain_example ();
    print_batch_example ();
    print_enums ();
    printf ("\n## Messages that cross the bus\n\nTheir ids are below %d.\n", (int) MESSAGE_LOCAL_MIN);
    print_messages (0, MESSAGE_LOCAL_MIN - 1);
    printf (
        "## Local messages\n\n"
        "They pass between a core and its own shell and **never leave a process**: whoever sends one over\n"
        "the bus is not heard. Their ids begin at %d.\n",
        (int) MESSAGE_LOCAL_MIN);
    print_messages (MESSAGE_LOCAL_MIN, MESSAGE_ID_MAX);
    return fflush (stdout) == 0 && !ferror (stdout) ? 0 : 1;
}
