/*  text.h - bytes that are text: comparison, UTF-8, numbers, percent-encoding.
*/
#ifndef GUERDON_TEXT_H
#define GUERDON_TEXT_H

#include "proto/message.h"

/*  A view of a terminated string; NULL gives the empty text. */
struct text text_of (const char *string);

/*  True when both are the same bytes. */
bool text_equal (struct text a, struct text b);

/*  True when the bytes are valid UTF-8 (no surrogates, no overlong forms, not
    beyond U+10FFFF). */
bool text_is_utf8 (struct text text);

/*  True when `byte` stands in the text. */
bool text_has (struct text text, char byte);

/*  A canonical decimal number: digits only, no leading zero but "0" itself,
    at most `max`. */
bool text_to_uint (struct text text, uint64_t max, uint64_t *uint);

/*  A canonical decimal integer, "-" allowed, no "+", no "-0". */
bool text_to_int (struct text text, int64_t *integer);

/*  A 64-bit hash, seeded so that nobody outside can choose collisions. */
uint64_t text_hash (struct text text, uint64_t seed);

/*  Appends to fixed memory. Once something did not fit `overflow` stays true.
    The bytes are always terminated while capacity > 0. */
struct builder {
    char *data;
    size_t size;     /* bytes, without the terminator */
    size_t capacity; /* bytes, with the terminator */
    bool overflow;
};

/*  An empty builder over memory of the caller. */
void builder_init (struct builder *builder, char *memory, size_t capacity);

/*  Each adds one piece: bytes, a terminated string, a decimal number. */
void builder_add (struct builder *builder, struct text text);
void builder_literal (struct builder *builder, const char *string);
void builder_uint (struct builder *builder, uint64_t uint);
void builder_int (struct builder *builder, int64_t integer);

/*  Percent-encodes every byte but A-Z a-z 0-9 - _ . ! ~ * ' ( ), which is what
    JavaScript's encodeURIComponent leaves. */
void builder_percent (struct builder *builder, struct text text);

/*  Escapes control bytes and non-UTF-8 for a log line, and cuts at `max`
    bytes with "…". */
void builder_printable (struct builder *builder, struct text text, size_t max);

/*  A view of what was built. */
struct text builder_text (const struct builder *builder);

#endif
