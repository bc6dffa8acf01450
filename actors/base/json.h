/*  json.h - JSON at the edge: text in, msgpack inside; msgpack in, text out.

    json.c is the one place that sees yajl. Strings may hold any bytes: what is not UTF-8
    passes through, so that one bad string in a page does not spoil the page; a
    lone surrogate escape becomes bytes that are not UTF-8, never another
    character.
*/
#ifndef GUERDON_JSON_H
#define GUERDON_JSON_H

#include "proto/codec.h"

/*  Reads one JSON text, fed in pieces, into msgpack as it comes.

    A container at depth 2 or below (a value within an element of the page,
    say) that exceeds DATA_SIZE_MAX bytes of msgpack, DATA_KEYS_MAX entries, or
    nests beyond DATA_DEPTH_MAX levels of its own, is replaced as a whole by an
    ext EXT_CUT with the fault as its byte; so is a string beyond DATA_SIZE_MAX,
    also as a key. An element keeps its first DATA_KEYS_MAX entries.
    Memory: at most `size_max` of msgpack and a little more than half a megabyte
    while the text has a string too long to keep. */
struct json_reader;

/*  A reader whose result holds at most size_max bytes. NULL when out of
    memory. */
struct json_reader *json_reader_new (size_t size_max);
void json_reader_destroy (struct json_reader **reader);

/*  Forgets everything, for the next text; memory of a usual size is kept. */
void json_reader_reset (struct json_reader *reader);

/*  Takes the next piece. False when no more is needed: the text is not JSON,
    or its msgpack exceeds the size. */
bool json_reader_feed (struct json_reader *reader, const void *bytes, size_t size);

/*  Ends the text. The raw object stays valid until reset. BODY_CUT: the text
    is an array that broke or ended early, and the object is an array of its
    whole elements. */
enum body_state json_reader_finish (struct json_reader *reader, struct raw *raw);

/*  True when feeding stopped because the msgpack exceeded its size. */
bool json_reader_too_large (const struct json_reader *reader);

/*  Writes a raw object as JSON, compact, keys in their order. `secret` stands
    in for every ext EXT_SECRET. Returns memory of the caller, terminated, to
    be freed, and its length in *size; NULL when raw is not well formed or has
    something that JSON does not (binary, other ext, NaN, text not UTF-8), or
    out of memory. */
char *json_write (struct raw raw, struct text secret, size_t *size);

#endif
