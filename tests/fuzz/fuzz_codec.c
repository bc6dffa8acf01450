/*  fuzz_codec.c - any bytes as a frame.

    Nothing outside them is read, and whatever is let in encodes, and decodes
    to the same bytes again.
*/
#include <assert.h>
#include <string.h>

#include "proto/codec.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

/*  Encodes; a message that was let in keeps every limit. */
static struct raw encode (const struct message *message, uint8_t *memory, size_t capacity)
{
    struct packer packer;
    packer_init (&packer, memory, capacity);
    enum encode_result result = encode_message (&packer, message);
    assert (result == ENCODE_OK);
    return packer_raw (&packer);
}

static void round_trip (const struct message *message)
{
    static uint8_t first[MESSAGE_SIZE_MAX + 64], second[MESSAGE_SIZE_MAX + 64];
    struct raw once = encode (message, first, sizeof (first));
    struct decoder decoder;
    struct message twin;
    enum decode_result result = decode_begin (&decoder, once.data, once.size, true);
    assert (result == DECODE_OK);
    result = decode_next (&decoder, &twin);
    assert (result == DECODE_OK);
    struct raw twice = encode (&twin, second, sizeof (second));
    assert (once.size == twice.size && memcmp (once.data, twice.data, once.size) == 0);
}

/*  The bytes as a frame of our own, which is not looked through first. */
static void read_own (const uint8_t *bytes, size_t size)
{
    struct decoder decoder;
    struct message message;
    enum decode_result result = decode_own (&decoder, bytes, size);
    for (uint32_t count = 0; result == DECODE_OK || result == DECODE_FIELD; count++) {
        assert (count <= BATCH_ITEMS_MAX);
        result = decode_next (&decoder, &message);
    }
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    struct decoder decoder;
    struct message message;
    read_own (bytes, size);
    if (decode_begin (&decoder, bytes, size, true) != DECODE_OK)
        return 0;
    assert (raw_valid ((struct raw){ bytes, (uint32_t) size }));
    for (uint32_t count = 0;; count++) {
        enum decode_result result = decode_next (&decoder, &message);
        if (result == DECODE_END)
            break;
        assert (count < BATCH_ITEMS_MAX);
        assert (result == DECODE_OK || result == DECODE_FIELD);
        if (result == DECODE_OK)
            round_trip (&message);
    }
    return 0;
}
