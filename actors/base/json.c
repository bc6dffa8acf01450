/*  json.c - yajl's events straight into msgpack, and msgpack through yajl's
    generator.

    Reading. The text passes a filter on its way to yajl. msgpack wants counts before contents: the outermost container
    gets a head of five bytes, every other one a head of one byte that is
    widened at its end in the rare case that it has more than 15 entries.

    Levels: the outermost container is level 0 (a page), its elements are level
    1 (events), what they hold is level 2 (an event's data).
    -   A container of level 2 that breaks a limit of data, anywhere inside it,
        is taken back as a whole and replaced by an ext EXT_CUT; the rest of it
        is skipped without being stored.
    -   A container of level 1 keeps its first DATA_KEYS_MAX entries; the rest
        is skipped.
    -   The outermost container is bounded by size_max alone.
*/
#include "actors/base/json.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_gen.h>
#include <yajl/yajl_parse.h>

#include "actors/base/json_filter.h"
#include "actors/base/log.h"
#include "proto/text.h"

enum {
    /*  Containers whose contents are written: page, event, and data. */
    LEVELS_MAX = 2 + DATA_DEPTH_MAX,

    /*  Containers open at once, skipped ones included, before the text counts
        as broken. yajl keeps one byte for each. */
    NESTING_MAX = 65536,

    /*  Memory for the result: at the start, and what a reset keeps. */
    RESULT_SIZE_MIN = 4096,
    RESULT_SIZE_KEPT = 256 * 1024,

    /*  More than any head or scalar but a string's bytes takes in msgpack. */
    SCALAR_SIZE_MAX = 16,

    /*  The head of the outermost container, and of every other at first. */
    WIDE_HEAD_SIZE = 5,
    SLIM_HEAD_SIZE = 1,
    SLIM_COUNT_MAX = 15
};

/*  A container whose contents are being written. */
struct level {
    size_t head;    /* where it begins in the result */
    uint32_t count; /* entries so far */
    bool map;
};

struct json_reader {
    yajl_handle yajl; /* made with the first byte of a text */
    size_t size_max;  /* bytes of result */

    struct json_filter filter;

    struct packer packer; /* the result; its capacity is what is allocated */
    struct level levels[LEVELS_MAX];
    uint32_t level;       /* containers open, skipped ones included */
    bool skipping;        /* until only two containers are open again */
    bool value_dropped;   /* the value of the key just seen is left out */
    size_t whole_size;    /* result up to the last whole element of level 1 */
    uint32_t whole_count; /* those elements */

    bool begun;     /* something else than white space came */
    bool broken;    /* no more is wanted */
    bool too_large; /* … because of size_max */
    bool whole;     /* the outermost value ended */
    bool page;      /* the outermost value is an array */
};

/*  ---- memory ------------------------------------------------------------- */

/*  yajl does not look whether it got memory, and would write to nowhere. */
static void *take_memory (void *context, size_t size)
{
    (void) context;
    void *found = malloc (size);
    if (!found && size > 0)
        log_no_memory ("json");
    return found;
}

static void *take_more_memory (void *context, void *before, size_t size)
{
    (void) context;
    void *found = realloc (before, size);
    if (!found && size > 0)
        log_no_memory ("json");
    return found;
}

static void give_back (void *context, void *memory)
{
    (void) context;
    free (memory);
}

static yajl_alloc_funcs memory = { .malloc = take_memory, .realloc = take_more_memory, .free = give_back };

/*  ---- the result --------------------------------------------------------- */

/*  Makes room for so many bytes; they may exceed size_max for a moment, until
    settle has looked. */
static bool reserve (struct json_reader *reader, size_t size)
{
    struct packer *packer = &reader->packer;
    size_t wanted = packer->size + size + SCALAR_SIZE_MAX;
    if (wanted <= packer->capacity)
        return true;
    size_t capacity = packer->capacity ? packer->capacity : RESULT_SIZE_MIN;
    while (capacity < wanted)
        capacity *= 2;
    size_t limit = reader->size_max + DATA_SIZE_MAX + 2 * SCALAR_SIZE_MAX;
    if (capacity > limit)
        capacity = limit;
    assert (capacity >= wanted);
    uint8_t *data = realloc (packer->data, capacity);
    if (!data) {
        reader->too_large = true;
        return false;
    }
    packer->data = data;
    packer->capacity = capacity;
    return true;
}

/*  Replaces the open container of level 2 by an ext that names the fault. */
static void cut (struct json_reader *reader, enum fault fault)
{
    assert (reader->level > 2 && !reader->skipping);
    const char byte = (char) fault;
    reader->packer.size = reader->levels[2].head;
    pack_ext (&reader->packer, EXT_CUT, (struct text){ &byte, 1 });
    reader->skipping = true;
}

/*  Looks at the sizes after something was written; false ends the parsing. */
static bool settle (struct json_reader *reader)
{
    struct packer *packer = &reader->packer;
    assert (!packer->overflow);
    if (reader->level > 2 && !reader->skipping && packer->size - reader->levels[2].head > DATA_SIZE_MAX)
        cut (reader, FAULT_DATA_SIZE);
    if (packer->size > reader->size_max) {
        reader->too_large = true;
        return false;
    }
    return true;
}

/*  Notes that a value ended: with it maybe an element of the page. */
static void ended (struct json_reader *reader)
{
    if (reader->level == 0)
        reader->whole = true;
    if (reader->level == 1) {
        reader->whole_size = reader->packer.size;
        reader->whole_count = reader->levels[0].count;
    }
}

/*  Counts one more entry of the innermost container. False when it is to be
    left out. */
static bool enter (struct json_reader *reader)
{
    assert (reader->level > 0 && !reader->skipping);
    struct level *level = &reader->levels[reader->level - 1];
    if (reader->level >= 2 && level->count == DATA_KEYS_MAX) {
        if (reader->level > 2)
            cut (reader, FAULT_DATA_KEYS);
        return false;
    }
    level->count++;
    return true;
}

/*  Decides at the begin of a value whether it is written. */
static bool admit (struct json_reader *reader)
{
    if (reader->skipping)
        return false;
    if (reader->level == 0)
        return true;
    if (!reader->levels[reader->level - 1].map)
        return enter (reader);
    bool dropped = reader->value_dropped;
    reader->value_dropped = false;
    return !dropped;
}

/*  ---- yajl's events ------------------------------------------------------ */

/*  Ends a scalar that was packed. */
static int scalar (struct json_reader *reader)
{
    if (!settle (reader))
        return 0;
    ended (reader);
    return 1;
}

static int on_null (void *context)
{
    struct json_reader *reader = context;
    if (!admit (reader))
        return 1;
    if (!reserve (reader, 0))
        return 0;
    pack_nil (&reader->packer);
    return scalar (reader);
}

static int on_boolean (void *context, int boolean)
{
    struct json_reader *reader = context;
    if (!admit (reader))
        return 1;
    if (!reserve (reader, 0))
        return 0;
    pack_bool (&reader->packer, boolean != 0);
    return scalar (reader);
}

/*  Packs a number: exactly when it is an integer of 64 bits, else as a double.
    One beyond the range of a double becomes nil, as JavaScript writes it, for
    JSON has no infinity. */
static void pack_number (struct packer *packer, const char *number, bool integral)
{
    if (integral) {
        bool negative = number[0] == '-';
        errno = 0;
        if (negative) {
            long long integer = strtoll (number, NULL, 10);
            if (errno == 0) {
                pack_int (packer, integer);
                return;
            }
        } else {
            unsigned long long uint = strtoull (number, NULL, 10);
            if (errno == 0) {
                pack_uint (packer, uint);
                return;
            }
        }
    }
    double real = strtod (number, NULL);
    if (isfinite (real))
        pack_real (packer, real);
    else
        pack_nil (packer);
}

/*  Most numbers are digits, and few: less than what 64 bits hold for certain. */
static bool small_uint (const char *digits, size_t size, uint64_t *uint)
{
    enum { DIGITS_MAX = 19 };
    *uint = 0;
    for (size_t i = 0; i < size && i < DIGITS_MAX; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return false;
        *uint = *uint * 10 + (uint64_t) (digits[i] - '0');
    }
    return size <= DIGITS_MAX;
}

static int on_number (void *context, const char *digits, size_t size)
{
    struct json_reader *reader = context;
    uint64_t uint;
    if (!admit (reader))
        return 1;
    if (small_uint (digits, size, &uint)) {
        if (!reserve (reader, 0))
            return 0;
        pack_uint (&reader->packer, uint);
        return scalar (reader);
    }
    char number[JSON_WORD_SIZE_MAX + 1];
    if (size > JSON_WORD_SIZE_MAX || !reserve (reader, 0))
        return 0;
    memcpy (number, digits, size);
    number[size] = '\0';
    pack_number (&reader->packer, number, strpbrk (number, ".eE") == NULL);
    return scalar (reader);
}

/*  Packs a string, or what stands for one that is too long. */
static bool pack_string (struct json_reader *reader, const unsigned char *string, size_t size)
{
    if (size > DATA_SIZE_MAX) {
        if (reader->level > 2) {
            cut (reader, FAULT_DATA_SIZE);
            return true;
        }
        const char byte = FAULT_DATA_SIZE;
        if (!reserve (reader, 0))
            return false;
        pack_ext (&reader->packer, EXT_CUT, (struct text){ &byte, 1 });
        return true;
    }
    if (!reserve (reader, size))
        return false;
    pack_text (&reader->packer, (struct text){ (const char *) string, (uint32_t) size });
    return true;
}

static int on_string (void *context, const unsigned char *string, size_t size)
{
    struct json_reader *reader = context;
    if (!admit (reader))
        return 1;
    if (!pack_string (reader, string, size))
        return 0;
    return scalar (reader);
}

static int on_key (void *context, const unsigned char *string, size_t size)
{
    struct json_reader *reader = context;
    if (reader->skipping)
        return 1;
    reader->value_dropped = !enter (reader);
    if (reader->value_dropped)
        return 1;
    if (!pack_string (reader, string, size))
        return 0;
    return settle (reader);
}

/*  A container begins. */
static int open_container (struct json_reader *reader, bool map)
{
    bool admitted = admit (reader);
    if (admitted && reader->level == LEVELS_MAX) {
        cut (reader, FAULT_DATA_DEPTH);
        admitted = false;
    }
    if (reader->level == NESTING_MAX)
        return 0;
    uint32_t at = reader->level++;
    if (at == 0)
        reader->page = !map;
    if (!admitted) {
        reader->skipping = true;
        return 1;
    }
    if (!reserve (reader, 0))
        return 0;
    reader->levels[at] = (struct level){ .head = reader->packer.size, .map = map };
    reader->packer.size += at == 0 ? WIDE_HEAD_SIZE : SLIM_HEAD_SIZE;
    return settle (reader);
}

/*  Writes the head of the outermost container. */
static void write_wide_head (struct json_reader *reader, uint32_t count)
{
    const struct level *level = &reader->levels[0];
    uint8_t *head = reader->packer.data + level->head;
    head[0] = level->map ? 0xdf : 0xdd;
    for (unsigned i = 0; i < 4; i++)
        head[1 + i] = (uint8_t) (count >> (24 - 8 * i));
}

/*  Writes the head of another container that ended, after its contents. */
static bool write_head (struct json_reader *reader, const struct level *level)
{
    assert (level->count <= DATA_KEYS_MAX);
    if (level->count <= SLIM_COUNT_MAX) {
        reader->packer.data[level->head] = (uint8_t) ((level->map ? 0x80 : 0x90) | level->count);
        return true;
    }
    enum { MORE = 2 };
    if (!reserve (reader, MORE))
        return false;
    uint8_t *head = reader->packer.data + level->head;
    size_t contents = reader->packer.size - level->head - SLIM_HEAD_SIZE;
    memmove (head + SLIM_HEAD_SIZE + MORE, head + SLIM_HEAD_SIZE, contents);
    reader->packer.size += MORE;
    head[0] = level->map ? 0xde : 0xdc;
    head[1] = (uint8_t) (level->count >> 8);
    head[2] = (uint8_t) level->count;
    return true;
}

/*  A container ends. */
static int close_container (struct json_reader *reader)
{
    assert (reader->level > 0);
    const struct level *level = NULL;
    if (!reader->skipping) {
        level = &reader->levels[reader->level - 1];
        if (reader->level == 1)
            write_wide_head (reader, level->count);
        else if (!write_head (reader, level))
            return 0;
        if (!settle (reader))
            return 0;
    }
    reader->level--;
    if (reader->level == 2)
        reader->skipping = false;
    ended (reader);
    return 1;
}

static int on_start_map (void *context)
{
    return open_container (context, true);
}

static int on_start_array (void *context)
{
    return open_container (context, false);
}

static int on_end (void *context)
{
    return close_container (context);
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_boolean,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_start_map,
    .yajl_map_key = on_key,
    .yajl_end_map = on_end,
    .yajl_start_array = on_start_array,
    .yajl_end_array = on_end,
};

/*  ---- the reader --------------------------------------------------------- */

/*  The filter's sink. */
static bool parse (void *context, const unsigned char *bytes, size_t size)
{
    struct json_reader *reader = context;
    return yajl_parse (reader->yajl, bytes, size) == yajl_status_ok;
}

struct json_reader *json_reader_new (size_t size_max)
{
    assert (size_max > 0);
    struct json_reader *reader = calloc (1, sizeof *reader);
    if (!reader)
        return NULL;
    reader->size_max = size_max;
    json_filter_init (&reader->filter, parse, reader);
    return reader;
}

void json_reader_destroy (struct json_reader **reader)
{
    assert (reader);
    if (!*reader)
        return;
    if ((*reader)->yajl)
        yajl_free ((*reader)->yajl);
    free ((*reader)->packer.data);
    free (*reader);
    *reader = NULL;
}

void json_reader_reset (struct json_reader *reader)
{
    assert (reader);
    struct packer packer = reader->packer;
    if (packer.capacity > RESULT_SIZE_KEPT) {
        free (packer.data);
        packer = (struct packer){ 0 };
    }
    packer.size = 0;
    packer.overflow = false;
    if (reader->yajl)
        yajl_free (reader->yajl);
    reader->yajl = NULL;
    reader->packer = packer;
    json_filter_init (&reader->filter, parse, reader);
    reader->level = 0;
    reader->whole_size = 0;
    reader->whole_count = 0;
    reader->skipping = reader->value_dropped = false;
    reader->broken = reader->too_large = reader->whole = reader->page = false;
}

/*  yajl has no way to begin again, so each text gets a parser of its own. */
static bool begin (struct json_reader *reader)
{
    if (reader->yajl)
        return true;
    reader->yajl = yajl_alloc (&callbacks, &memory, reader);
    if (!reader->yajl) {
        reader->broken = true;
        return false;
    }
    yajl_config (reader->yajl, yajl_dont_validate_strings, 1);
    return true;
}

bool json_reader_feed (struct json_reader *reader, const void *bytes, size_t size)
{
    assert (reader && (bytes || size == 0));
    if (reader->broken)
        return false;
    if (size == 0)
        return true;
    if (!begin (reader) || !json_filter_feed (&reader->filter, bytes, size))
        reader->broken = true;
    return !reader->broken;
}

/*  Reads what is left; true when the text was one whole JSON value. What
    yajl makes of the very end of a text that is not whole does not count: a
    number there may have lost digits. */
static bool complete (struct json_reader *reader)
{
    if (!json_filter_finish (&reader->filter) || reader->broken)
        return false;
    size_t whole_size = reader->whole_size;
    uint32_t whole_count = reader->whole_count;
    if (yajl_complete_parse (reader->yajl) == yajl_status_ok && reader->whole && !reader->too_large)
        return true;
    reader->whole_size = whole_size;
    reader->whole_count = whole_count;
    return false;
}

enum body_state json_reader_finish (struct json_reader *reader, struct raw *raw)
{
    assert (reader && raw);
    *raw = NO_RAW;
    if (!reader->filter.begun && !reader->broken)
        return BODY_NONE;
    if (complete (reader)) {
        *raw = packer_raw (&reader->packer);
        return BODY_JSON;
    }
    reader->broken = true;
    if (!reader->page)
        return BODY_NOT_JSON;
    assert (reader->packer.size >= WIDE_HEAD_SIZE);
    write_wide_head (reader, reader->whole_count);
    *raw = (struct raw){ reader->packer.data,
                         (uint32_t) (reader->whole_count ? reader->whole_size : WIDE_HEAD_SIZE) };
    return BODY_CUT;
}

bool json_reader_too_large (const struct json_reader *reader)
{
    assert (reader);
    return reader->too_large;
}

/*  ---- writing ------------------------------------------------------------ */

/*  A container being written. */
struct writing {
    uint32_t left; /* values still to come; keys count */
    bool map;
};

/*  A writer at work. */
struct writer {
    yajl_gen gen;
    struct text secret;
    struct writing stack[RAW_DEPTH_MAX + 1];
    uint32_t depth;
};

static bool write_text (struct writer *writer, struct text text)
{
    const char *bytes = text.size ? text.data : "";
    return text_is_utf8 (text) &&
           yajl_gen_string (writer->gen, (const unsigned char *) bytes, text.size) == yajl_gen_status_ok;
}

/*  The shortest of the usual forms that reads back as the same double. */
static bool write_real (struct writer *writer, double real)
{
    char number[32];
    if (!isfinite (real))
        return false;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf (number, sizeof number, "%.*g", digits, real);
        if (memcmp (&(double){ strtod (number, NULL) }, &real, sizeof real) == 0)
            break;
    }
    return yajl_gen_number (writer->gen, number, strlen (number)) == yajl_gen_status_ok;
}

static bool write_uint (struct writer *writer, uint64_t uint)
{
    char number[24];
    int size = snprintf (number, sizeof number, "%llu", (unsigned long long) uint);
    return yajl_gen_number (writer->gen, number, (size_t) size) == yajl_gen_status_ok;
}

static bool write_scalar (struct writer *writer, const struct value *value)
{
    switch (value->type) {
    case VALUE_NIL:
        return yajl_gen_null (writer->gen) == yajl_gen_status_ok;
    case VALUE_BOOL:
        return yajl_gen_bool (writer->gen, value->boolean) == yajl_gen_status_ok;
    case VALUE_UINT:
        return write_uint (writer, value->uint);
    case VALUE_INT:
        return yajl_gen_integer (writer->gen, value->integer) == yajl_gen_status_ok;
    case VALUE_FLOAT:
        return write_real (writer, value->real);
    case VALUE_TEXT:
        return write_text (writer, value->text);
    case VALUE_EXT:
        return value->ext == EXT_SECRET && write_text (writer, writer->secret);
    case VALUE_BINARY:
    case VALUE_ARRAY:
    case VALUE_MAP:
        break;
    }
    return false;
}

/*  Ends every container that has nothing left. */
static bool write_ends (struct writer *writer)
{
    while (writer->depth > 0 && writer->stack[writer->depth - 1].left == 0) {
        bool map = writer->stack[--writer->depth].map;
        yajl_gen_status status = map ? yajl_gen_map_close (writer->gen) : yajl_gen_array_close (writer->gen);
        if (status != yajl_gen_status_ok)
            return false;
    }
    return true;
}

/*  Writes a scalar, or begins a container. */
static bool write_value (struct writer *writer, const struct value *value)
{
    if (writer->depth > 0)
        writer->stack[writer->depth - 1].left--;
    bool map = value->type == VALUE_MAP;
    if (!map && value->type != VALUE_ARRAY)
        return write_scalar (writer, value) && write_ends (writer);
    if (writer->depth > RAW_DEPTH_MAX)
        return false;
    yajl_gen_status status = map ? yajl_gen_map_open (writer->gen) : yajl_gen_array_open (writer->gen);
    if (status != yajl_gen_status_ok)
        return false;
    uint32_t left = map ? 2 * value->count : value->count;
    writer->stack[writer->depth++] = (struct writing){ left, map };
    return write_ends (writer);
}

static bool write_all (struct writer *writer, struct raw raw)
{
    static const struct value nil = { .type = VALUE_NIL };
    if (raw.size == 0)
        return write_value (writer, &nil);
    if (!raw_valid (raw))
        return false;
    struct cursor cursor = cursor_of (raw);
    struct value value;
    while (cursor.at < cursor.end) {
        if (!cursor_next (&cursor, &value) || !write_value (writer, &value))
            return false;
    }
    return writer->depth == 0;
}

char *json_write (struct raw raw, struct text secret, size_t *size)
{
    assert (size);
    struct writer writer = { .gen = yajl_gen_alloc (&memory), .secret = secret };
    if (!writer.gen)
        return NULL;
    char *json = NULL;
    const unsigned char *bytes;
    if (write_all (&writer, raw) && yajl_gen_get_buf (writer.gen, &bytes, size) == yajl_gen_status_ok)
        json = malloc (*size + 1);
    if (json) {
        memcpy (json, bytes, *size);
        json[*size] = '\0';
    }
    yajl_gen_free (writer.gen);
    return json;
}
