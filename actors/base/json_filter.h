/*  json_filter.h - what JSON text passes on its way to the parser.

    The parser (yajl) has three habits that a service must not be able to play
    on. It turns a surrogate escape without its other half into "?", and so one
    user's id into another's: the filter replaces such an escape by bytes that
    no UTF-8 has. It stores a string of any length before it says so: the
    filter drops the end of one that is too long anyhow. It reads a token that
    spans pieces again from its start with every piece: the filter hands the
    text on in large blocks.
*/
#ifndef GUERDON_JSON_FILTER_H
#define GUERDON_JSON_FILTER_H

#include "proto/message.h"

enum {
    /*  Bytes handed on at once. */
    JSON_BLOCK_SIZE = 16384,

    /*  Bytes of a number, true, false or null. Longer ones are no JSON that
        anybody means: the text counts as broken there. */
    JSON_WORD_SIZE_MAX = 1024,

    /*  Bytes of an escape, "\u1234", and of a pair of them. */
    JSON_ESCAPE_SIZE = 6,
    JSON_PAIR_SIZE = 2 * JSON_ESCAPE_SIZE
};

/*  Takes the next block; false when no more is wanted. */
typedef bool json_filter_sink (void *context, const unsigned char *bytes, size_t size);

/*  Where the filter stands. */
enum json_filter_state {
    JSON_OUTSIDE, /* not in a string */
    JSON_STRING,  /* in a string */
    JSON_ESCAPE,  /* behind a backslash */
    JSON_HEX      /* among the four digits of an escape */
};

struct json_filter {
    enum json_filter_state state;
    char held[JSON_PAIR_SIZE]; /* an unfinished escape, maybe behind a high surrogate */
    size_t held_size;
    bool high;          /* held begins with a whole high surrogate */
    size_t string_size; /* bytes of this string let through */
    size_t word_size;   /* bytes of this number or literal */
    bool begun;         /* something else than white space came */
    bool stopped;       /* the sink wants no more, or the text is broken */
    json_filter_sink *sink;
    void *context;
    unsigned char block[JSON_BLOCK_SIZE];
    size_t block_size;
};

/*  Begins a text. */
void json_filter_init (struct json_filter *filter, json_filter_sink *sink, void *context);

/*  Takes the next piece; false when no more is wanted. */
bool json_filter_feed (struct json_filter *filter, const char *bytes, size_t size);

/*  Hands on what is left. True when the text did not stop early and does not
    end within a string. */
bool json_filter_finish (struct json_filter *filter);

#endif
