/*  raw.c - a cursor over msgpack bytes.

    The format in two sentences: the first byte of an object says what it is
    and may already hold a small number or size; else a big-endian number or
    size of 1, 2, 4 or 8 bytes follows, and then the bytes or the elements.
    The library's own unpacker is not used: it allocates what a header of five
    bytes claims, half a gigabyte for instance, before it looks for the rest.
*/
#include "proto/raw.h"

#include <string.h>

/*  ---- heads -------------------------------------------------------------- */

enum shape_kind {
    SHAPE_NONE, /* the one byte that msgpack never uses */
    SHAPE_NIL,
    SHAPE_BOOL,
    SHAPE_UINT,
    SHAPE_INT,
    SHAPE_FLOAT,
    SHAPE_TEXT,
    SHAPE_BINARY,
    SHAPE_ARRAY,
    SHAPE_MAP,
    SHAPE_EXT,
    SHAPE_FIXED_EXT
};

/*  What follows one of the first bytes 0xc0 to 0xdf. */
struct shape {
    uint8_t kind;  /* enum shape_kind */
    uint8_t width; /* bytes of the number, or of the size */
    uint8_t value; /* BOOL: the value; FIXED_EXT: the size */
};

enum { SHAPED_MIN = 0xc0, SHAPED_MAX = 0xdf };

static const struct shape shapes[SHAPED_MAX - SHAPED_MIN + 1] = {
    { SHAPE_NIL, 0, 0 },        { SHAPE_NONE, 0, 0 },      { SHAPE_BOOL, 0, 0 },
    { SHAPE_BOOL, 0, 1 },       { SHAPE_BINARY, 1, 0 },    { SHAPE_BINARY, 2, 0 },
    { SHAPE_BINARY, 4, 0 },     { SHAPE_EXT, 1, 0 },       { SHAPE_EXT, 2, 0 },
    { SHAPE_EXT, 4, 0 },        { SHAPE_FLOAT, 4, 0 },     { SHAPE_FLOAT, 8, 0 },
    { SHAPE_UINT, 1, 0 },       { SHAPE_UINT, 2, 0 },      { SHAPE_UINT, 4, 0 },
    { SHAPE_UINT, 8, 0 },       { SHAPE_INT, 1, 0 },       { SHAPE_INT, 2, 0 },
    { SHAPE_INT, 4, 0 },        { SHAPE_INT, 8, 0 },       { SHAPE_FIXED_EXT, 0, 1 },
    { SHAPE_FIXED_EXT, 0, 2 },  { SHAPE_FIXED_EXT, 0, 4 }, { SHAPE_FIXED_EXT, 0, 8 },
    { SHAPE_FIXED_EXT, 0, 16 }, { SHAPE_TEXT, 1, 0 },      { SHAPE_TEXT, 2, 0 },
    { SHAPE_TEXT, 4, 0 },       { SHAPE_ARRAY, 2, 0 },     { SHAPE_ARRAY, 4, 0 },
    { SHAPE_MAP, 2, 0 },        { SHAPE_MAP, 4, 0 },
};

struct cursor cursor_of (struct raw raw)
{
    struct cursor cursor = { raw.data, raw.data };
    if (raw.size > 0)
        cursor.end += raw.size;
    return cursor;
}

static size_t bytes_left (const struct cursor *cursor)
{
    return (size_t) (cursor->end - cursor->at);
}

/*  A big-endian number of 8 bytes, written so that compilers make one load of it. */
static uint64_t eight_bytes (const uint8_t *at)
{
    return (uint64_t) at[0] << 56 | (uint64_t) at[1] << 48 | (uint64_t) at[2] << 40 | (uint64_t) at[3] << 32 |
           (uint64_t) at[4] << 24 | (uint64_t) at[5] << 16 | (uint64_t) at[6] << 8 | (uint64_t) at[7];
}

/*  A big-endian number of `width` bytes: 0, 1, 2, 4 or 8. */
static bool take_number (struct cursor *cursor, size_t width, uint64_t *number)
{
    if (bytes_left (cursor) < width)
        return false;
    uint64_t sum = 0;
    if (width == sizeof sum) /* most numbers: positions and times */
        sum = eight_bytes (cursor->at);
    else
        for (size_t i = 0; i < width; i++)
            sum = sum << 8 | cursor->at[i];
    cursor->at += width;
    *number = sum;
    return true;
}

/*  `size` bytes that belong to a value of this type. */
static bool take_bytes (struct cursor *cursor, enum value_type type, uint64_t size, struct value *value)
{
    if (size > bytes_left (cursor))
        return false;
    value->type = type;
    value->text = (struct text){ (const char *) cursor->at, (uint32_t) size };
    cursor->at += size;
    return true;
}

static bool take_ext (struct cursor *cursor, uint64_t size, struct value *value)
{
    uint64_t type;
    if (!take_number (cursor, 1, &type))
        return false;
    value->ext = (int8_t) (uint8_t) type;
    return take_bytes (cursor, VALUE_EXT, size, value);
}

/*  Every element is one byte at least, so a head that promises more elements
    than there are bytes lies. */
static bool take_container (struct cursor *cursor, enum value_type type, uint64_t count, struct value *value)
{
    if (count * (type == VALUE_MAP ? 2 : 1) > bytes_left (cursor))
        return false;
    value->type = type;
    value->count = (uint32_t) count;
    return true;
}

static bool take_uint (uint64_t uint, struct value *value)
{
    value->type = VALUE_UINT;
    value->uint = uint;
    return true;
}

/*  A two's complement number of `width` bytes; not negative counts as UINT, so
    that a number has one type however it was packed. */
static bool take_int (uint64_t bits, size_t width, struct value *value)
{
    uint64_t sign = UINT64_C (1) << (8 * width - 1);
    if (!(bits & sign))
        return take_uint (bits, value);
    value->type = VALUE_INT;
    value->integer = -(int64_t) (~(bits | ~(sign - 1))) - 1;
    return true;
}

static bool take_float (uint64_t bits, size_t width, struct value *value)
{
    value->type = VALUE_FLOAT;
    if (width == sizeof (float)) {
        uint32_t half = (uint32_t) bits;
        float single;
        memcpy (&single, &half, sizeof (single));
        value->real = (double) single;
    } else
        memcpy (&value->real, &bits, sizeof (bits));
    return true;
}

/*  The objects whose first byte only says what they are. */
static bool take_shaped (struct cursor *cursor, struct shape shape, struct value *value)
{
    uint64_t number = 0;
    if (!take_number (cursor, shape.width, &number))
        return false;
    switch ((enum shape_kind) shape.kind) {
    case SHAPE_NONE:
        return false;
    case SHAPE_NIL:
        value->type = VALUE_NIL;
        return true;
    case SHAPE_BOOL:
        value->type = VALUE_BOOL;
        value->boolean = shape.value;
        return true;
    case SHAPE_UINT:
        return take_uint (number, value);
    case SHAPE_INT:
        return take_int (number, shape.width, value);
    case SHAPE_FLOAT:
        return take_float (number, shape.width, value);
    case SHAPE_TEXT:
        return take_bytes (cursor, VALUE_TEXT, number, value);
    case SHAPE_BINARY:
        return take_bytes (cursor, VALUE_BINARY, number, value);
    case SHAPE_ARRAY:
        return take_container (cursor, VALUE_ARRAY, number, value);
    case SHAPE_MAP:
        return take_container (cursor, VALUE_MAP, number, value);
    case SHAPE_EXT:
        return take_ext (cursor, number, value);
    case SHAPE_FIXED_EXT:
        return take_ext (cursor, shape.value, value);
    }
    return false;
}

/*  The objects whose first byte holds their value or size as well. */
static bool take_head (struct cursor *cursor, struct value *value)
{
    uint8_t head = *cursor->at++;
    if (head < 0x80)
        return take_uint (head, value);
    if (head < 0x90)
        return take_container (cursor, VALUE_MAP, head & 0x0f, value);
    if (head < 0xa0)
        return take_container (cursor, VALUE_ARRAY, head & 0x0f, value);
    if (head < SHAPED_MIN)
        return take_bytes (cursor, VALUE_TEXT, head & 0x1f, value);
    if (head > SHAPED_MAX)
        return take_int (head, 1, value);
    return take_shaped (cursor, shapes[head - SHAPED_MIN], value);
}

bool cursor_next (struct cursor *cursor, struct value *value)
{
    if (cursor->at == cursor->end)
        return false;
    const uint8_t *before = cursor->at;
    if (take_head (cursor, value))
        return true;
    cursor->at = before;
    return false;
}

/*  ---- whole objects ------------------------------------------------------ */

/*  How many objects follow the head that belong to it. */
static uint64_t children (const struct value *value)
{
    if (value->type == VALUE_MAP)
        return 2 * (uint64_t) value->count;
    return value->type == VALUE_ARRAY ? value->count : 0;
}

bool cursor_skip (struct cursor *cursor, struct raw *skipped)
{
    struct cursor next = *cursor;
    uint64_t open[RAW_DEPTH_MAX]; /* objects left to read around the container at hand, a level each */
    size_t depth = 0;
    uint64_t left = 1; /* … and within it */
    for (;;) {
        struct text text;
        while (left > 0 && cursor_short (&next, &text)) /* most objects are short strings */
            left--;
        if (left == 0) {
            if (depth == 0)
                break;
            left = open[--depth];
            continue;
        }
        struct value value;
        if (!cursor_next (&next, &value))
            return false;
        left--;
        if (value.type != VALUE_ARRAY && value.type != VALUE_MAP)
            continue;
        if (depth == RAW_DEPTH_MAX)
            return false;
        open[depth++] = left;
        left = children (&value);
    }

    if (next.at - cursor->at > UINT32_MAX)
        return false;
    if (skipped)
        *skipped = (struct raw){ cursor->at, (uint32_t) (next.at - cursor->at) };
    *cursor = next;
    return true;
}

bool cursor_take (struct cursor *cursor, struct value *value, struct raw *taken)
{
    const uint8_t *before = cursor->at;
    if (cursor_short (cursor, &value->text)) {
        value->type = VALUE_TEXT;
        *taken = (struct raw){ before, (uint32_t) (cursor->at - before) };
        return true;
    }
    struct cursor next = *cursor;
    if (!cursor_next (&next, value))
        return false;
    if (value->type == VALUE_ARRAY || value->type == VALUE_MAP)
        return cursor_skip (cursor, taken);
    *taken = (struct raw){ cursor->at, (uint32_t) (next.at - cursor->at) };
    *cursor = next;
    return true;
}

bool raw_valid (struct raw raw)
{
    struct cursor cursor = cursor_of (raw);
    return cursor_skip (&cursor, NULL) && cursor.at == cursor.end;
}

bool raw_value (struct raw raw, struct value *value)
{
    if (raw.size == 0) {
        *value = (struct value){ .type = VALUE_NIL };
        return true;
    }
    struct cursor cursor = cursor_of (raw);
    return cursor_next (&cursor, value);
}

/*  ---- looking inside ----------------------------------------------------- */

/*  Steps over the key of a pair; says whether it is this one. */
static bool key_next (struct cursor *cursor, struct text key, bool *same)
{
    struct cursor peek = *cursor;
    struct value value;
    if (!cursor_next (&peek, &value))
        return false;
    *same = false;
    if (value.type != VALUE_TEXT)
        return cursor_skip (cursor, NULL);
    *same =
        value.text.size == key.size && (key.size == 0 || memcmp (value.text.data, key.data, key.size) == 0);
    *cursor = peek;
    return true;
}

bool raw_find (struct raw map, struct text key, struct raw *found)
{
    struct cursor cursor = cursor_of (map);
    struct value head;
    if (!cursor_next (&cursor, &head) || head.type != VALUE_MAP)
        return false;
    struct raw last = NO_RAW;
    for (uint32_t i = 0; i < head.count; i++) {
        bool same;
        struct raw value;
        if (!key_next (&cursor, key, &same) || !cursor_skip (&cursor, &value))
            return false;
        if (same)
            last = value;
    }
    if (last.size == 0)
        return false;
    *found = last;
    return true;
}

bool raw_path (struct raw raw, const char *path, struct raw *found)
{
    for (;;) {
        size_t size = strcspn (path, ".");
        if (!raw_find (raw, (struct text){ path, (uint32_t) size }, &raw))
            return false;
        if (path[size] == '\0')
            break;
        path += size + 1;
    }
    *found = raw;
    return true;
}

bool raw_text (struct raw raw, struct text *text)
{
    struct value value;
    if (!raw_value (raw, &value) || value.type != VALUE_TEXT)
        return false;
    *text = value.text;
    return true;
}

bool raw_uint (struct raw raw, uint64_t *uint)
{
    struct value value;
    if (!raw_value (raw, &value))
        return false;
    if (value.type == VALUE_FLOAT) {
        /*  The bounds come first: beyond them the conversion is undefined. */
        if (!(value.real >= 0 && value.real < (double) (POSITION_MAX + 1)))
            return false;
        uint64_t whole = (uint64_t) value.real;
        if ((double) whole < value.real)
            return false;
        *uint = whole;
        return true;
    }
    if (value.type != VALUE_UINT)
        return false;
    *uint = value.uint;
    return true;
}
