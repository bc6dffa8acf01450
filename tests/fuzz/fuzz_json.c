/*  fuzz_json.c - any bytes as a JSON text, in pieces of any size.

    The first byte is the size of the pieces, the second chooses how large the
    result may be. What comes out is one well-formed object below its size, is
    the same however the text was cut, and can be read again when it can be
    written. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/json.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

/*  Reads a text in pieces. */
static enum body_state read_pieces (struct json_reader *reader, const void *text, size_t size, size_t piece,
                                    struct raw *raw)
{
    const char *at = text;
    for (; size > 0; size -= piece, at += piece) {
        if (piece > size)
            piece = size;
        if (!json_reader_feed (reader, at, piece))
            break;
    }
    return json_reader_finish (reader, raw);
}

/*  Writes what was read, and reads that. */
static void write_again (struct raw raw)
{
    size_t size;
    char *json = json_write (raw, NO_TEXT, &size);
    if (!json)
        return;
    assert (strlen (json) == size);
    struct json_reader *reader = json_reader_new (REPLY_SIZE_MAX);
    assert (reader);
    struct raw again;
    enum body_state state = read_pieces (reader, json, size, size, &again);
    assert (state == BODY_JSON && raw_valid (again));
    json_reader_destroy (&reader);
    free (json);
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    if (size < 2)
        return 0;
    size_t size_max = bytes[1] & 1 ? 64 : REPLY_SIZE_MAX;
    struct json_reader *pieces = json_reader_new (size_max);
    struct json_reader *whole = json_reader_new (size_max);
    assert (pieces && whole);
    struct raw one, other;
    enum body_state state = read_pieces (pieces, bytes + 2, size - 2, bytes[0] + 1U, &one);
    assert (read_pieces (whole, bytes + 2, size - 2, size, &other) == state);
    assert (one.size == other.size && (one.size == 0 || memcmp (one.data, other.data, one.size) == 0));
    if (state == BODY_JSON || state == BODY_CUT) {
        assert (one.size <= size_max && raw_valid (one));
        write_again (one);
    } else {
        assert (one.size == 0);
    }
    json_reader_destroy (&pieces);
    json_reader_destroy (&whole);
    return 0;
}
