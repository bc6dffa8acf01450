/*  raw.h - reads raw msgpack in place: no copies, no allocation, no trust.

    Every function is total: any bytes may be handed in, nothing outside them
    is read, and nesting deeper than RAW_DEPTH_MAX is refused. Counts in the
    bytes are never believed: a container is only as long as its bytes.
*/
#ifndef GUERDON_RAW_H
#define GUERDON_RAW_H

#include "proto/message.h"

enum value_type {
    VALUE_NIL,
    VALUE_BOOL,
    VALUE_UINT, /* an integer >= 0 */
    VALUE_INT,  /* an integer < 0 */
    VALUE_FLOAT,
    VALUE_TEXT,
    VALUE_BINARY,
    VALUE_ARRAY,
    VALUE_MAP,
    VALUE_EXT
};

/*  One scalar, or the head of a container. */
struct value {
    enum value_type type;
    int8_t ext;     /* VALUE_EXT: its type */
    uint32_t count; /* VALUE_ARRAY: elements; VALUE_MAP: pairs */
    union {
        bool boolean;
        uint64_t uint;
        int64_t integer;
        double real;
        struct text text; /* VALUE_TEXT, VALUE_BINARY, VALUE_EXT: the bytes */
    };
};

/*  A place in some bytes. Zero-initialise or use cursor_of. */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

/*  A cursor at the first byte of an object. */
struct cursor cursor_of (struct raw raw);

/*  Reads the next scalar or container head. Afterwards the cursor stands at
    what follows: for a container, its first element. False, with the cursor
    unmoved, when the bytes end or make no sense. A container that claims more
    elements than there are bytes left is refused. */
bool cursor_next (struct cursor *cursor, struct value *value);

/*  Steps over one whole object and gives it as raw (may be NULL). False, with
    the cursor unmoved, when it is not whole, not well formed, or too deep. */
bool cursor_skip (struct cursor *cursor, struct raw *skipped);

/*  Steps over one whole object, as cursor_skip does, and gives its scalar or head
    too, in one look. */
bool cursor_take (struct cursor *cursor, struct value *value, struct raw *taken);

/*  Steps over a string of at most 31 bytes, as nearly all keys and names are. False,
    with the cursor unmoved, for anything else. */
static inline bool cursor_short (struct cursor *cursor, struct text *text)
{
    enum { FIXSTR = 0xa0, FIXSTR_MASK = 0xe0 };
    if (cursor->at == cursor->end || (*cursor->at & FIXSTR_MASK) != FIXSTR)
        return false;
    uint32_t size = *cursor->at & (uint8_t) ~FIXSTR_MASK;
    if (size >= (size_t) (cursor->end - cursor->at))
        return false;
    *text = (struct text){ (const char *) cursor->at + 1, size };
    cursor->at += 1 + size;
    return true;
}

/*  True when the bytes are exactly one well-formed object. */
bool raw_valid (struct raw raw);

/*  The first object's head or scalar; false on bad bytes. Size 0 reads as
    nil. */
bool raw_value (struct raw raw, struct value *value);

/*  The value of a key in a map. When a key stands twice the last one counts,
    as in JavaScript. False when raw is not a map, or has no such key. */
bool raw_find (struct raw map, struct text key, struct raw *found);

/*  The value at a dotted path of keys, e.g. "userId" or "player.id". A key
    that itself has a dot cannot be named. False when there is none. */
bool raw_path (struct raw raw, const char *path, struct raw *found);

/*  The content of a string; false for any other type. */
bool raw_text (struct raw raw, struct text *text);

/*  The value of an integer >= 0; false for any other type. A float with an
    integral value below 2^53 counts, as JSON does not tell them apart. */
bool raw_uint (struct raw raw, uint64_t *uint);

#endif
