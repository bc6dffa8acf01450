/*  json.c - yajl's events straight into msgpack.

    The text passes a filter on its way to yajl. msgpack wants counts before contents: the outermost container
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

    Nearly every token is short and far from every limit. Such a one is written at
    once, behind a single comparison: `brisk_end` is where care has to begin, and 0
    where it is needed anyway. The careful way knows every limit, and is the only
    one that does.
*/
#include "actors/base/json.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    struct level *top;    /* the innermost container; looked at only while brisk_end is not 0 */
    size_t brisk_end;     /* what ends before this breaks no limit; 0: take care */
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

/*  ---- yajl's events, with care ------------------------------------------- */

/*  Ends a scalar that was packed. */
static int scalar (struct json_reader *reader)
{
    if (!settle (reader))
        return 0;
    ended (reader);
    return 1;
}

static int careful_null (struct json_reader *reader)
{
    if (!admit (reader))
        return 1;
    if (!reserve (reader, 0))
        return 0;
    pack_nil (&reader->packer);
    return scalar (reader);
}

static int careful_boolean (struct json_reader *reader, int boolean)
{
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

static int careful_number (struct json_reader *reader, const char *digits, size_t size)
{
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

static int careful_string (struct json_reader *reader, const unsigned char *string, size_t size)
{
    if (!admit (reader))
        return 1;
    if (!pack_string (reader, string, size))
        return 0;
    return scalar (reader);
}

static int careful_key (struct json_reader *reader, const unsigned char *string, size_t size)
{
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
static int careful_open (struct json_reader *reader, bool map)
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

/*  The head of a container with few entries. */
static uint8_t slim_head (const struct level *level)
{
    enum { FIXMAP = 0x80, FIXARRAY = 0x90 };
    return (uint8_t) ((level->map ? FIXMAP : FIXARRAY) | level->count);
}

/*  Writes the head of another container that ended, after its contents. */
static bool write_head (struct json_reader *reader, const struct level *level)
{
    assert (level->count <= DATA_KEYS_MAX);
    if (level->count <= SLIM_COUNT_MAX) {
        reader->packer.data[level->head] = slim_head (level);
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
static int careful_close (struct json_reader *reader)
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

/*  ---- yajl's events, briskly --------------------------------------------- */

/*  Finds out again where care begins: the limits of the result, of its memory, and
    of the data that is open. To be called when any of them changed. */
static void set_brisk_end (struct json_reader *reader)
{
    reader->brisk_end = 0;
    if (reader->level < 2 || reader->skipping || reader->value_dropped)
        return;
    reader->top = &reader->levels[reader->level - 1];
    size_t end = reader->packer.capacity < reader->size_max ? reader->packer.capacity : reader->size_max;
    size_t data_end = reader->levels[2].head + DATA_SIZE_MAX;
    reader->brisk_end = reader->level > 2 && data_end < end ? data_end : end;
}

/*  Ends what was done with care. */
static int cared (struct json_reader *reader, int result)
{
    set_brisk_end (reader);
    return result;
}

/*  Where something of so many bytes and a head goes; NULL when it needs care. */
static inline uint8_t *brisk_place (const struct json_reader *reader, size_t size)
{
    bool brisk = reader->packer.size + SCALAR_SIZE_MAX + size <= reader->brisk_end;
    return brisk ? reader->packer.data + reader->packer.size : NULL;
}

/*  Counts one more entry, of an array a value and of a map a key. False when there are
    too many to go on briskly. */
static inline bool brisk_entry (struct json_reader *reader, bool key)
{
    bool entry = key == reader->top->map;
    if (reader->top->count + entry > DATA_KEYS_MAX)
        return false;
    reader->top->count += entry;
    return true;
}

/*  Copies a few bytes, without reading beyond them: calling a function for each string
    costs more than most strings. */
static void copy_few (uint8_t *to, const unsigned char *from, size_t size)
{
    if (size > 32) {
        memcpy (to, from, size);
    } else if (size >= 16) {
        memcpy (to, from, 16);
        memcpy (to + size - 16, from + size - 16, 16);
    } else if (size >= 8) {
        memcpy (to, from, 8);
        memcpy (to + size - 8, from + size - 8, 8);
    } else if (size >= 4) {
        memcpy (to, from, 4);
        memcpy (to + size - 4, from + size - 4, 4);
    } else {
        for (size_t i = 0; i < size; i++)
            to[i] = from[i];
    }
}

/*  Writes a string that needs no more than one byte for its size. */
static void put_text (struct json_reader *reader, uint8_t *place, const unsigned char *string, size_t size)
{
    enum { FIXSTR = 0xa0, FIXSTR_SIZE_MAX = 31, STR8 = 0xd9 };
    size_t head = 1;
    if (size <= FIXSTR_SIZE_MAX) {
        place[0] = (uint8_t) (FIXSTR | size);
    } else {
        place[0] = STR8;
        place[1] = (uint8_t) size;
        head = 2;
    }
    copy_few (place + head, string, size);
    reader->packer.size += head + size;
}

/*  Writes an integer in its shortest form. */
static void put_uint (struct json_reader *reader, uint8_t *place, uint64_t uint)
{
    enum { FIXINT_MAX = 0x7f, UINT8 = 0xcc, UINT16 = 0xcd, UINT32 = 0xce, UINT64 = 0xcf };
    unsigned width = uint <= FIXINT_MAX   ? 0
                     : uint <= UINT8_MAX  ? 1
                     : uint <= UINT16_MAX ? 2
                     : uint <= UINT32_MAX ? 4
                                          : 8;
    static const uint8_t heads[] = { 0, UINT8, UINT16, 0, UINT32, 0, 0, 0, UINT64 };
    uint64_t bytes = htobe64 (width ? uint << (64 - 8 * width) : uint << 56);
    if (width)
        *place++ = heads[width];
    memcpy (place, &bytes, sizeof bytes);
    reader->packer.size += width ? 1 + width : 1;
}

/*  Writes a value of one byte: nil, true or false. */
static bool put_byte (struct json_reader *reader, uint8_t byte)
{
    uint8_t *place = brisk_place (reader, 0);
    if (!place || !brisk_entry (reader, false))
        return false;
    *place = byte;
    reader->packer.size++;
    return true;
}

static int on_null (void *context)
{
    enum { NIL = 0xc0 };
    struct json_reader *reader = context;
    return put_byte (reader, NIL) ? 1 : cared (reader, careful_null (reader));
}

static int on_boolean (void *context, int boolean)
{
    enum { FALSE = 0xc2, TRUE = 0xc3 };
    struct json_reader *reader = context;
    return put_byte (reader, boolean ? TRUE : FALSE) ? 1 : cared (reader, careful_boolean (reader, boolean));
}

static int on_number (void *context, const char *digits, size_t size)
{
    struct json_reader *reader = context;
    uint64_t uint;
    uint8_t *place = brisk_place (reader, 0);
    if (!place || !small_uint (digits, size, &uint) || !brisk_entry (reader, false))
        return cared (reader, careful_number (reader, digits, size));
    put_uint (reader, place, uint);
    return 1;
}

static int on_string (void *context, const unsigned char *string, size_t size)
{
    struct json_reader *reader = context;
    uint8_t *place = brisk_place (reader, size);
    if (!place || size > UINT8_MAX || !brisk_entry (reader, false))
        return cared (reader, careful_string (reader, string, size));
    put_text (reader, place, string, size);
    return 1;
}

static int on_key (void *context, const unsigned char *string, size_t size)
{
    struct json_reader *reader = context;
    uint8_t *place = brisk_place (reader, size);
    if (!place || size > UINT8_MAX || !brisk_entry (reader, true))
        return cared (reader, careful_key (reader, string, size));
    put_text (reader, place, string, size);
    return 1;
}

static int open_container (struct json_reader *reader, bool map)
{
    if (!brisk_place (reader, 0) || reader->level == LEVELS_MAX || !brisk_entry (reader, false))
        return cared (reader, careful_open (reader, map));
    *++reader->top = (struct level){ .head = reader->packer.size, .map = map };
    reader->packer.size += SLIM_HEAD_SIZE;
    if (++reader->level == 3)
        set_brisk_end (reader);
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
    struct json_reader *reader = context;
    if (reader->brisk_end == 0 || reader->level <= 2 || reader->top->count > SLIM_COUNT_MAX)
        return cared (reader, careful_close (reader));
    reader->packer.data[reader->top->head] = slim_head (reader->top);
    reader->top--;
    if (--reader->level == 2)
        set_brisk_end (reader);
    return 1;
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
    reader->brisk_end = 0;
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
