/*  json_filter.c - a scanner that knows strings and escapes, and nothing else of
    JSON. */
#include "actors/base/json_filter.h"

#include <assert.h>
#include <string.h>

enum {
    /*  Bytes of a string that are stepped over at once. */
    RUN_MAX = 1024,

    /*  Bytes of a string as it stands in the text. What exceeds this is
        dropped: a byte of the string takes at most six in the text, so what is
        left of it still exceeds DATA_SIZE_MAX, and the reader cuts it. */
    STRING_TEXT_MAX = 6 * (DATA_SIZE_MAX + 4) + RUN_MAX,

    /*  Text of at least so many bytes is worth a look as a whole. */
    PLAIN_SIZE_MIN = 64,

    /*  With a quote in each of these nothing between two of them is too long a word. */
    PLAIN_WINDOW = JSON_WORD_SIZE_MAX / 2
};

/*  Hands the block on. */
static void flush (struct json_filter *filter)
{
    size_t size = filter->block_size;
    filter->block_size = 0;
    if (size == 0 || filter->stopped)
        return;
    if (!filter->sink (filter->context, filter->block, size))
        filter->stopped = true;
}

/*  Lets bytes through. */
static void pass (struct json_filter *filter, const char *bytes, size_t size)
{
    assert (size <= JSON_BLOCK_SIZE);
    if (filter->block_size + size > JSON_BLOCK_SIZE)
        flush (filter);
    memcpy (filter->block + filter->block_size, bytes, size);
    filter->block_size += size;
}

/*  Lets bytes of a string through, as long as they count. */
static void pass_string (struct json_filter *filter, const char *bytes, size_t size)
{
    if (filter->string_size + size > STRING_TEXT_MAX) {
        filter->string_size = STRING_TEXT_MAX;
        return;
    }
    filter->string_size += size;
    pass (filter, bytes, size);
}

/*  Lets so many of the held bytes through: as they are, or, for a surrogate
    without its other half, as bytes that no UTF-8 has. yajl would make a "?"
    of it, and so one user of another. */
static void release (struct json_filter *filter, size_t size, bool lone)
{
    static const char not_utf8[JSON_ESCAPE_SIZE] = { '\xff', '\xff', '\xff', '\xff', '\xff', '\xff' };
    if (size == 0)
        return;
    assert (size <= filter->held_size && (!lone || size == JSON_ESCAPE_SIZE));
    pass_string (filter, lone ? not_utf8 : filter->held, size);
    filter->held_size -= size;
    memmove (filter->held, filter->held + size, filter->held_size);
    filter->high = false;
}

/*  The code unit of the escape at the end of what is held; false when its
    digits are none. */
static bool held_unit (const struct json_filter *filter, unsigned *unit)
{
    *unit = 0;
    for (size_t i = filter->held_size - 4; i < filter->held_size; i++) {
        static const char digits[] = "0123456789abcdef";
        char byte = filter->held[i];
        const char *digit = byte ? strchr (digits, byte >= 'A' && byte <= 'F' ? byte + 32 : byte) : NULL;
        if (!digit)
            return false;
        *unit = *unit << 4 | (unsigned) (digit - digits);
    }
    return true;
}

/*  A whole escape is held: decides what it is. */
static void on_escape (struct json_filter *filter)
{
    unsigned unit;
    bool known = held_unit (filter, &unit);
    bool low = known && unit >= 0xdc00 && unit <= 0xdfff;
    bool high = known && unit >= 0xd800 && unit <= 0xdbff;
    filter->state = JSON_STRING;
    if (filter->high && low) {
        release (filter, JSON_PAIR_SIZE, false);
        return;
    }
    if (filter->high)
        release (filter, JSON_ESCAPE_SIZE, true);
    if (high)
        filter->high = true;
    else
        release (filter, JSON_ESCAPE_SIZE, low);
}

/*  One byte within an escape. */
static void filter_escape (struct json_filter *filter, char byte)
{
    filter->held[filter->held_size++] = byte;
    if (filter->state == JSON_ESCAPE) {
        if (byte == 'u') {
            filter->state = JSON_HEX;
            return;
        }
        if (filter->high)
            release (filter, JSON_ESCAPE_SIZE, true);
        release (filter, filter->held_size, false);
        filter->state = JSON_STRING;
        return;
    }
    if (filter->held_size % JSON_ESCAPE_SIZE == 0)
        on_escape (filter);
}

/*  The next byte of a string: steps over everything up to a quote or a
    backslash at once. Returns the bytes taken. */
static size_t filter_string (struct json_filter *filter, const char *bytes, size_t size)
{
    if (filter->high && bytes[0] != '\\')
        release (filter, JSON_ESCAPE_SIZE, true);
    if (bytes[0] == '\\') {
        filter->held[filter->held_size++] = '\\';
        filter->state = JSON_ESCAPE;
        return 1;
    }
    if (bytes[0] == '"') {
        filter->state = JSON_OUTSIDE;
        pass (filter, bytes, 1);
        return 1;
    }
    size_t run = 1;
    while (run < size && run < RUN_MAX && bytes[run] != '"' && bytes[run] != '\\')
        run++;
    pass_string (filter, bytes, run);
    return run;
}

/*  What stands between strings, up to the next one. */
static size_t filter_outside (struct json_filter *filter, const char *bytes, size_t size)
{
    size_t run = 0;
    while (run < size && run < JSON_BLOCK_SIZE / 2 && bytes[run] != '"') {
        char byte = bytes[run++];
        bool space = byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
        bool mark = byte == ',' || byte == ':' || byte == '[' || byte == ']' || byte == '{' || byte == '}';
        filter->begun |= !space;
        filter->word_size = space || mark ? 0 : filter->word_size + 1;
        if (filter->word_size > JSON_WORD_SIZE_MAX) {
            /*  As much of the word as would be through by now had it come byte by
                byte: what is made of a text is the same however it comes. */
            pass (filter, bytes, run - 1);
            flush (filter);
            filter->stopped = true;
            return size;
        }
    }
    if (run < size && bytes[run] == '"') {
        filter->begun = true;
        run++;
        filter->word_size = 0;
        filter->string_size = 0;
        filter->state = JSON_STRING;
    }
    pass (filter, bytes, run);
    return run;
}

/*  ---- text without escapes ----------------------------------------------- */

/*  Bytes that are looked at side by side, where the processor can. */
typedef uint8_t lanes __attribute__ ((vector_size (16)));

/*  Whether the number of quotes is odd. */
static bool quotes_odd (const char *bytes, size_t size)
{
    lanes marks = { 0 }; /* all bits of a lane that saw an odd number of them */
    size_t at = 0;
    for (; at + sizeof marks <= size; at += sizeof marks) {
        lanes some;
        memcpy (&some, bytes + at, sizeof some);
        marks ^= (lanes) (some == '"');
    }
    unsigned odd = 0;
    for (; at < size; at++)
        odd ^= bytes[at] == '"';
    for (size_t lane = 0; lane < sizeof marks; lane++)
        odd ^= marks[lane] & 1;
    return odd;
}

/*  Bytes of the number or literal that a text outside of strings ends with. */
static size_t last_word (const char *bytes, size_t size)
{
    size_t word = 0;
    while (word < size && !strchr (" \t\n\r,:[]{}\"", bytes[size - 1 - word]))
        word++;
    return word;
}

/*  False when there may be a word between quotes that is too long. */
static bool words_short (const char *bytes, size_t size)
{
    for (; size >= PLAIN_WINDOW; bytes += PLAIN_WINDOW, size -= PLAIN_WINDOW)
        if (!memchr (bytes, '"', PLAIN_WINDOW))
            return false;
    return true;
}

/*  Most text has no escape for kilobytes, and then there is nothing to decide: how
    it ends follows from whether its quotes are even. Returns the bytes taken, 0
    where byte by byte is the way. */
static size_t filter_plain (struct json_filter *filter, const char *bytes, size_t size)
{
    if (filter->high || size < PLAIN_SIZE_MIN)
        return 0;
    if (size > JSON_BLOCK_SIZE)
        size = JSON_BLOCK_SIZE;
    const char *escape = memchr (bytes, '\\', size);
    if (escape)
        size = (size_t) (escape - bytes);
    const char *first = memchr (bytes, '"', size);
    if (size < PLAIN_SIZE_MIN || !first)
        return 0;
    bool within = filter->state == JSON_STRING;
    size_t before = (size_t) (first - bytes);
    size_t behind = size - 1 - (size_t) ((const char *) memrchr (bytes, '"', size) - bytes);
    if (within ? filter->string_size + before > STRING_TEXT_MAX
               : filter->word_size + before > JSON_WORD_SIZE_MAX)
        return 0;
    if (!words_short (bytes, size))
        return 0;
    within ^= quotes_odd (bytes, size);
    size_t word = within ? 0 : last_word (bytes + size - behind, behind);
    if (word > JSON_WORD_SIZE_MAX)
        return 0;
    filter->begun = true;
    filter->state = within ? JSON_STRING : JSON_OUTSIDE;
    filter->string_size = within ? behind : 0;
    filter->word_size = word;
    pass (filter, bytes, size);
    return size;
}

void json_filter_init (struct json_filter *filter, json_filter_sink *sink, void *context)
{
    assert (filter && sink);
    filter->state = JSON_OUTSIDE;
    filter->held_size = filter->string_size = filter->word_size = filter->block_size = 0;
    filter->high = filter->begun = filter->stopped = false;
    filter->sink = sink;
    filter->context = context;
}

bool json_filter_feed (struct json_filter *filter, const char *bytes, size_t size)
{
    assert (filter && (bytes || size == 0));
    while (size > 0 && !filter->stopped) {
        size_t taken = 1;
        switch (filter->state) {
        case JSON_OUTSIDE:
            taken = filter_plain (filter, bytes, size);
            if (!taken)
                taken = filter_outside (filter, bytes, size);
            break;
        case JSON_STRING:
            taken = filter_plain (filter, bytes, size);
            if (!taken)
                taken = filter_string (filter, bytes, size);
            break;
        case JSON_ESCAPE:
        case JSON_HEX:
            filter_escape (filter, *bytes);
            break;
        }
        bytes += taken;
        size -= taken;
    }
    return !filter->stopped;
}

bool json_filter_finish (struct json_filter *filter)
{
    assert (filter);
    flush (filter);
    return !filter->stopped && filter->state == JSON_OUTSIDE;
}
