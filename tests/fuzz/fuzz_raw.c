/*  fuzz_raw.c - any bytes as raw msgpack, and as text.

    Nothing outside them is read, and the ways to read one thing agree.
*/
#include <assert.h>
#include <string.h>

#include "proto/raw.h"
#include "proto/text.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

static bool within (struct raw inner, struct raw outer)
{
    return inner.data >= outer.data && inner.data + inner.size <= outer.data + outer.size;
}

/*  Reads head by head; every step is forward. */
static void walk (struct raw raw)
{
    struct cursor cursor = cursor_of (raw);
    struct value value;
    const uint8_t *before = cursor.at;
    while (cursor_next (&cursor, &value)) {
        assert (cursor.at > before && cursor.at <= cursor.end);
        before = cursor.at;
        if (value.type == VALUE_TEXT || value.type == VALUE_BINARY || value.type == VALUE_EXT)
            assert (within ((struct raw){ (const uint8_t *) value.text.data, value.text.size }, raw));
        if (value.type == VALUE_ARRAY || value.type == VALUE_MAP)
            assert (value.count <= (size_t) (cursor.end - cursor.at));
    }
    assert (cursor.at == before);
}

static void look (struct raw raw)
{
    static const char *const paths[] = { "userId", "a.b", "", "." };
    struct raw found;
    uint64_t uint;
    for (size_t i = 0; i < sizeof (paths) / sizeof (*paths); i++)
        if (raw_path (raw, paths[i], &found)) {
            assert (within (found, raw) && raw_valid (found));
            raw_uint (found, &uint);
        }
    struct text text;
    if (raw_text (raw, &text))
        assert (within ((struct raw){ (const uint8_t *) text.data, text.size }, raw));
    if (raw_uint (raw, &uint))
        assert (raw.size > 0);
}

/*  What is printable is UTF-8 without control bytes, and within its bound. */
static void print (struct text text)
{
    static char memory[4096];
    struct builder builder;
    size_t max = text.size % 200;
    builder_init (&builder, memory, sizeof (memory));
    builder_printable (&builder, text, max);
    assert (!builder.overflow && builder.size <= max);
    assert (text_is_utf8 (builder_text (&builder)));
    for (size_t i = 0; i < builder.size; i++)
        assert ((uint8_t) memory[i] >= 0x20 && memory[i] != 0x7f);
    builder_init (&builder, memory, sizeof (memory));
    builder_percent (&builder, text);
    assert (builder.overflow ? builder.size == 0 : builder.size >= text.size);
}

static void read_number (struct text text)
{
    static char memory[32];
    struct builder builder;
    int64_t integer;
    builder_init (&builder, memory, sizeof (memory));
    if (!text_to_int (text, &integer))
        return;
    builder_int (&builder, integer);
    assert (text_equal (builder_text (&builder), text));
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    struct raw raw = { bytes, (uint32_t) size }, skipped;
    struct cursor cursor = cursor_of (raw);
    bool whole = cursor_skip (&cursor, &skipped);
    assert (!whole || raw_valid (skipped));
    assert (raw_valid (raw) == (whole && skipped.size == raw.size));
    walk (raw);
    look (raw);
    print ((struct text){ (const char *) bytes, (uint32_t) size });
    read_number ((struct text){ (const char *) bytes, (uint32_t) size });
    return 0;
}
