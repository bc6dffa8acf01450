/*  text.c - bytes that are text. */

#include "proto/text.h"

#include <assert.h>
#include <string.h>

/*  ---- views -------------------------------------------------------------- */

struct text text_of (const char *string)
{
    if (!string)
        return NO_TEXT;
    size_t size = strlen (string);
    assert (size <= UINT32_MAX);
    return (struct text){ string, (uint32_t) size };
}

bool text_equal (struct text a, struct text b)
{
    return a.size == b.size && (a.size == 0 || memcmp (a.data, b.data, a.size) == 0);
}

bool text_has (struct text text, char byte)
{
    return text.size > 0 && memchr (text.data, byte, text.size) != NULL;
}

/*  ---- UTF-8 -------------------------------------------------------------- */

static bool continues (uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/*  The bytes of the character at the start, or 0 when there is none that is
    valid. The second byte alone tells overlong forms, surrogates and what is
    beyond U+10FFFF from the rest (Unicode, table of well-formed sequences). */
static size_t utf8_size (const uint8_t *bytes, size_t left)
{
    uint8_t lead = bytes[0];
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    size_t size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (left < size)
        return 0;
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if (!continues (bytes[i]))
            return 0;
    return size;
}

bool text_is_utf8 (struct text text)
{
    const uint8_t *bytes = (const uint8_t *) text.data;
    size_t at = 0;
    while (at < text.size) {
        size_t size = utf8_size (bytes + at, text.size - at);
        if (size == 0)
            return false;
        at += size;
    }
    return true;
}

/*  ---- numbers ------------------------------------------------------------ */

bool text_to_uint (struct text text, uint64_t max, uint64_t *uint)
{
    if (text.size == 0 || (text.size > 1 && text.data[0] == '0'))
        return false;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        uint64_t digit = (uint64_t) (text.data[i] - '0');
        if (digit > max || sum > (max - digit) / 10)
            return false;
        sum = 10 * sum + digit;
    }
    *uint = sum;
    return true;
}

bool text_to_int (struct text text, int64_t *integer)
{
    uint64_t uint;
    if (text.size == 0 || text.data[0] != '-') {
        if (!text_to_uint (text, INT64_MAX, &uint))
            return false;
        *integer = (int64_t) uint;
        return true;
    }
    struct text digits = { text.data + 1, text.size - 1 };
    if (!text_to_uint (digits, (uint64_t) INT64_MAX + 1, &uint) || uint == 0)
        return false;
    *integer = -(int64_t) (uint - 1) - 1;
    return true;
}

/*  ---- hash --------------------------------------------------------------- */

static uint64_t rotate (uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

/*  One round of SipHash. */
static void sip_round (uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate (v[1], 13) ^ v[0];
    v[3] = rotate (v[3], 16) ^ v[2];
    v[0] = rotate (v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate (v[1], 17) ^ v[2];
    v[3] = rotate (v[3], 21) ^ v[0];
    v[2] = rotate (v[2], 32);
}

static void sip_word (uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round (v);
    v[0] ^= word;
}

/*  Up to 8 bytes, little-endian. */
static uint64_t word_of (const char *bytes, size_t size)
{
    uint64_t word = 0;
    for (size_t i = 0; i < size; i++)
        word |= (uint64_t) (uint8_t) bytes[i] << (8 * i);
    return word;
}

/*  SipHash-1-3, as in the paper by Aumasson and Bernstein: players choose the
    ids that are hashed, so a hash without a secret would let them choose the
    collisions too. The second half of its key follows from the first. */
uint64_t text_hash (struct text text, uint64_t seed)
{
    uint64_t second = rotate (seed, 32) ^ UINT64_C (0x9e3779b97f4a7c15);
    uint64_t v[4] = {
        seed ^ UINT64_C (0x736f6d6570736575),
        second ^ UINT64_C (0x646f72616e646f6d),
        seed ^ UINT64_C (0x6c7967656e657261),
        second ^ UINT64_C (0x7465646279746573),
    };
    size_t at = 0;
    for (; text.size - at >= 8; at += 8)
        sip_word (v, word_of (text.data + at, 8));
    uint64_t last = (uint64_t) text.size << 56;
    if (at < text.size)
        last |= word_of (text.data + at, text.size - at);
    sip_word (v, last);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round (v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/*  ---- builder ------------------------------------------------------------ */

void builder_init (struct builder *builder, char *memory, size_t capacity)
{
    assert (memory || capacity == 0);
    *builder = (struct builder){ .data = memory, .capacity = capacity };
    if (capacity > 0)
        memory[0] = '\0';
}

/*  Takes back what was added since the builder had this size. */
static void cut_back (struct builder *builder, size_t size)
{
    assert (size <= builder->size);
    builder->size = size;
    if (builder->capacity > 0)
        builder->data[size] = '\0';
}

/*  A text is added whole or not at all, and after the first that did not fit
    nothing is: what stands there is always a prefix made of whole pieces. */
void builder_add (struct builder *builder, struct text text)
{
    if (builder->overflow || text.size == 0)
        return;
    if (builder->capacity - builder->size <= text.size) {
        builder->overflow = true;
        return;
    }
    memcpy (builder->data + builder->size, text.data, text.size);
    builder->size += text.size;
    builder->data[builder->size] = '\0';
}

void builder_literal (struct builder *builder, const char *string)
{
    builder_add (builder, text_of (string));
}

void builder_uint (struct builder *builder, uint64_t uint)
{
    char digits[20]; /* 2^64 - 1 has so many */
    size_t at = sizeof (digits);
    do {
        digits[--at] = (char) ('0' + uint % 10);
        uint /= 10;
    } while (uint > 0);
    builder_add (builder, (struct text){ digits + at, (uint32_t) (sizeof (digits) - at) });
}

void builder_int (struct builder *builder, int64_t integer)
{
    if (integer >= 0) {
        builder_uint (builder, (uint64_t) integer);
        return;
    }
    size_t before = builder->size;
    builder_literal (builder, "-");
    builder_uint (builder, (uint64_t) (-(integer + 1)) + 1);
    if (builder->overflow)
        cut_back (builder, before);
}

/*  What encodeURIComponent leaves as it is. */
static bool is_unreserved (char byte)
{
    static const char marks[] = "-_.!~*'()";
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           memchr (marks, byte, sizeof (marks) - 1) != NULL;
}

/*  One byte as two digits behind a prefix of one or two bytes. */
static void add_escape (struct builder *builder, const char *prefix, const char *digits, char byte)
{
    uint8_t bits = (uint8_t) byte;
    char pair[2] = { digits[bits >> 4], digits[bits & 0x0f] };
    builder_literal (builder, prefix);
    builder_add (builder, (struct text){ pair, sizeof (pair) });
}

void builder_percent (struct builder *builder, struct text text)
{
    size_t before = builder->size;
    uint32_t plain = 0; /* where the bytes begin that stay as they are */
    for (uint32_t i = 0; i < text.size && !builder->overflow; i++) {
        if (is_unreserved (text.data[i]))
            continue;
        builder_add (builder, (struct text){ text.data + plain, i - plain });
        add_escape (builder, "%", "0123456789ABCDEF", text.data[i]);
        plain = i + 1;
    }
    if (text.size > plain)
        builder_add (builder, (struct text){ text.data + plain, text.size - plain });
    if (builder->overflow)
        cut_back (builder, before);
}

/*  How many bytes may stand in a line of a log as they are: 0 when the byte at
    the start is a control character, part of one (U+0080 to U+009F move the
    cursor of some terminals), or not UTF-8. */
static size_t printable_size (const char *at, size_t left)
{
    const uint8_t *bytes = (const uint8_t *) at;
    size_t size = utf8_size (bytes, left);
    if (size == 1 && (bytes[0] < 0x20 || bytes[0] == 0x7f))
        return 0;
    if (size == 2 && bytes[0] == 0xc2 && bytes[1] < 0xa0)
        return 0;
    return size;
}

void builder_printable (struct builder *builder, struct text text, size_t max)
{
    static const struct text ellipsis = { "\xe2\x80\xa6", 3 };
    size_t before = builder->size;
    size_t fit = before; /* up to here there is room for the ellipsis too */
    bool cut = false;
    for (uint32_t i = 0; i < text.size && !cut && !builder->overflow;) {
        size_t size = printable_size (text.data + i, text.size - i);
        if (size > 0)
            builder_add (builder, (struct text){ text.data + i, (uint32_t) size });
        else
            add_escape (builder, "\\x", "0123456789abcdef", text.data[i]);
        i += size > 0 ? (uint32_t) size : 1;
        if (builder->size - before + ellipsis.size <= max)
            fit = builder->size;
        cut = builder->size - before > max;
    }
    if (builder->overflow)
        cut_back (builder, before);
    else if (cut) {
        cut_back (builder, fit);
        if (max >= ellipsis.size)
            builder_add (builder, ellipsis);
    }
}

struct text builder_text (const struct builder *builder)
{
    return (struct text){ builder->data, (uint32_t) builder->size };
}
