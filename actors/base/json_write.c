/*  json_write.c - msgpack as JSON, for json.h.

    In one pass, and without yajl's generator, which takes memory several times for
    each text and copies it at the end: the body of every request is written here.
*/
#include "actors/base/json.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

enum {
    /*  Of one byte of a string: \u001f. */
    ESCAPE_SIZE_MAX = 6,

    /*  A number, a word, or a bracket, and the comma or colon before it. */
    SCALAR_SIZE_MAX = 32,

    /*  Text is longer than msgpack by quotes, commas and digits: at first there is
        room for so much more than twice of it. */
    SPARE_SIZE = 128
};

/*  A container whose contents are being written. */
struct writing {
    uint32_t count; /* what it has; keys count */
    uint32_t left;  /* … still to come */
    bool map;
};

struct writer {
    char *data;
    size_t size;
    size_t capacity;
    struct text secret;
    struct writing stack[RAW_DEPTH_MAX];
    uint32_t depth;
};

/*  Makes room for so many bytes more. What is left behind may hold the secret. */
static bool reserve (struct writer *writer, size_t size)
{
    if (writer->capacity - writer->size >= size)
        return true;
    size_t capacity = 2 * writer->capacity + size;
    char *data = malloc (capacity);
    if (!data)
        return false;
    memcpy (data, writer->data, writer->size);
    explicit_bzero (writer->data, writer->size);
    free (writer->data);
    writer->data = data;
    writer->capacity = capacity;
    return true;
}

static void add (struct writer *writer, const char *bytes, size_t size)
{
    assert (writer->capacity - writer->size >= size);
    memcpy (writer->data + writer->size, bytes, size);
    writer->size += size;
}

static void add_byte (struct writer *writer, char byte)
{
    assert (writer->size < writer->capacity);
    writer->data[writer->size++] = byte;
}

/*  A character that JSON has no plain form for. */
static void add_escape (struct writer *writer, char byte)
{
    static const char plain[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    static const char hex[] = "0123456789ABCDEF";
    const char *found = strchr (plain, byte);
    add_byte (writer, '\\');
    if (byte != '\0' && found) {
        add_byte (writer, letters[found - plain]);
        return;
    }
    add (writer, "u00", 3);
    add_byte (writer, hex[(unsigned char) byte >> 4]);
    add_byte (writer, hex[(unsigned char) byte & 15]);
}

/*  True for a character of one byte that stands for itself. */
static bool is_plain (char byte)
{
    return (unsigned char) byte >= ' ' && (unsigned char) byte < 0x80 && byte != '"' && byte != '\\';
}

/*  The rest of a string, from its first byte that is not plain; leaves room for its
    end. */
static bool write_rest (struct writer *writer, struct text text)
{
    if (!text_is_utf8 (text))
        return false;
    for (uint32_t i = 0; i < text.size; i++) {
        char byte = text.data[i];
        if (!reserve (writer, (size_t) (text.size - i) + ESCAPE_SIZE_MAX))
            return false;
        if (is_plain (byte) || (unsigned char) byte >= 0x80)
            add_byte (writer, byte);
        else
            add_escape (writer, byte);
    }
    return true;
}

static bool write_text (struct writer *writer, struct text text)
{
    if (!reserve (writer, (size_t) text.size + 2))
        return false;
    add_byte (writer, '"');
    char *out = writer->data + writer->size;
    uint32_t at = 0;
    for (; at < text.size && is_plain (text.data[at]); at++)
        out[at] = text.data[at];
    writer->size += at;
    if (at < text.size && !write_rest (writer, (struct text){ text.data + at, text.size - at }))
        return false;
    add_byte (writer, '"');
    return true;
}

/*  The shortest of the usual forms that reads back as the same double. */
static bool write_real (struct writer *writer, double real)
{
    char number[SCALAR_SIZE_MAX];
    if (!isfinite (real))
        return false;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf (number, sizeof number, "%.*g", digits, real);
        if (memcmp (&(double){ strtod (number, NULL) }, &real, sizeof real) == 0)
            break;
    }
    add (writer, number, strlen (number));
    return true;
}

static void write_number (struct writer *writer, const struct value *value)
{
    char memory[SCALAR_SIZE_MAX];
    struct builder number;
    builder_init (&number, memory, sizeof memory);
    if (value->type == VALUE_UINT)
        builder_uint (&number, value->uint);
    else
        builder_int (&number, value->integer);
    add (writer, memory, builder_text (&number).size);
}

static bool write_scalar (struct writer *writer, const struct value *value)
{
    switch (value->type) {
    case VALUE_NIL:
        add (writer, "null", 4);
        return true;
    case VALUE_BOOL:
        add (writer, value->boolean ? "true" : "false", value->boolean ? 4 : 5);
        return true;
    case VALUE_UINT:
    case VALUE_INT:
        write_number (writer, value);
        return true;
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

/*  What stands between this value and the one before. False for a key that is no
    string. */
static bool write_mark (struct writer *writer, const struct value *value)
{
    if (writer->depth == 0)
        return true;
    struct writing *within = &writer->stack[writer->depth - 1];
    bool key = within->map && within->left % 2 == 0;
    if (within->left < within->count)
        add_byte (writer, !within->map || key ? ',' : ':');
    within->left--;
    return !key || value->type == VALUE_TEXT || value->type == VALUE_EXT;
}

/*  Writes a scalar, or begins a container. */
static bool write_value (struct writer *writer, const struct value *value)
{
    if (!reserve (writer, SCALAR_SIZE_MAX) || !write_mark (writer, value))
        return false;
    bool map = value->type == VALUE_MAP;
    if (!map && value->type != VALUE_ARRAY)
        return write_scalar (writer, value);
    if (writer->depth == RAW_DEPTH_MAX)
        return false;
    uint32_t count = map ? 2 * value->count : value->count;
    writer->stack[writer->depth++] = (struct writing){ count, count, map };
    add_byte (writer, map ? '{' : '[');
    return true;
}

/*  Ends every container that has nothing left. */
static bool write_ends (struct writer *writer)
{
    while (writer->depth > 0 && writer->stack[writer->depth - 1].left == 0) {
        if (!reserve (writer, 1))
            return false;
        add_byte (writer, writer->stack[--writer->depth].map ? '}' : ']');
    }
    return true;
}

/*  One whole object, and nothing behind it. */
static bool write_all (struct writer *writer, struct raw raw)
{
    struct value value = { .type = VALUE_NIL };
    if (raw.size == 0)
        return write_value (writer, &value);
    struct cursor cursor = cursor_of (raw);
    do {
        if (!cursor_next (&cursor, &value) || !write_value (writer, &value) || !write_ends (writer))
            return false;
    } while (writer->depth > 0);
    return cursor.at == cursor.end;
}

char *json_write (struct raw raw, struct text secret, size_t *size)
{
    assert (size);
    struct writer writer;
    writer.secret = secret;
    writer.size = writer.depth = 0;
    writer.capacity = 2 * (size_t) raw.size + secret.size + SPARE_SIZE;
    writer.data = malloc (writer.capacity);
    if (writer.data && write_all (&writer, raw) && reserve (&writer, 1)) {
        *size = writer.size;
        add_byte (&writer, '\0');
        return writer.data;
    }
    if (writer.data)
        explicit_bzero (writer.data, writer.size);
    free (writer.data);
    return NULL;
}
