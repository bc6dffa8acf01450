/*  codec.h - messages to msgpack and back.

    A plain message is [version, id, trace, fields…]. A batch is
    [version, id, trace, [[trace, fields…], …]]; its own trace is that of its
    first item. The fields stand in the order of messages.def.

    Nothing here allocates. Encoding goes into memory of the caller and
    overflows softly; decoding hands out views into the bytes decoded.
*/
#ifndef GUERDON_CODEC_H
#define GUERDON_CODEC_H

#include "proto/raw.h"

/*  ---- writing msgpack ---------------------------------------------------- */

/*  Appends to fixed memory. Once something did not fit, `overflow` stays true,
    and what was written is not to be used. */
struct packer {
    uint8_t *data;
    size_t size;     /* bytes written */
    size_t capacity; /* bytes there are */
    bool overflow;
};

/*  An empty packer over memory of the caller. */
void packer_init (struct packer *packer, void *memory, size_t capacity);

/*  One scalar each. A literal is a terminated string. */
void pack_nil (struct packer *packer);
void pack_bool (struct packer *packer, bool boolean);
void pack_uint (struct packer *packer, uint64_t uint);
void pack_int (struct packer *packer, int64_t integer);
void pack_real (struct packer *packer, double real);
void pack_text (struct packer *packer, struct text text);
void pack_literal (struct packer *packer, const char *string);

/*  Head of a container; its `count` elements, or pairs, are packed next. */
void pack_array (struct packer *packer, uint32_t count);
void pack_map (struct packer *packer, uint32_t count);
void pack_ext (struct packer *packer, int8_t type, struct text bytes);

/*  The place of the API secret in a request body: the shell fills it in, so
    cores and messages never hold it. */
void pack_secret (struct packer *packer);

/*  One object that is msgpack already; nil when empty. */
void pack_raw (struct packer *packer, struct raw raw);

/*  What was packed; empty after an overflow. */
struct raw packer_raw (const struct packer *packer);

/*  ---- encoding ----------------------------------------------------------- */

enum encode_result {
    ENCODE_OK,
    ENCODE_FULL,   /* it did not fit into the packer, which is as before */
    ENCODE_INVALID /* a field exceeds its limit: a bug of the sender */
};

/*  Appends a whole message: a plain one, or a batch of one item. */
enum encode_result encode_message (struct packer *packer, const struct message *message);

/*  Appends one item, [trace, fields…], for a batch that encode_batch closes. */
enum encode_result encode_item (struct packer *packer, const struct message *message);

/*  Appends a batch message made of `count` items that encode_item packed. */
enum encode_result encode_batch (struct packer *packer, enum message_id id, uint64_t trace, struct raw items,
                                 uint32_t count);

/*  Writes another version into an encoded message that is in PROTOCOL_VERSION; other
    bytes are left alone. */
void encoded_speak (void *bytes, size_t size, unsigned version);

/*  ---- decoding ----------------------------------------------------------- */

enum decode_result {
    DECODE_OK,
    DECODE_END,     /* no more items */
    DECODE_RUBBISH, /* not msgpack, not whole, too deep, or bytes left over */
    DECODE_SIZE,    /* larger than MESSAGE_SIZE_MAX, or too many items */
    DECODE_VERSION, /* a version of the protocol that is not spoken here */
    DECODE_UNKNOWN, /* an id that this binary does not know, or a local one */
    DECODE_FIELD    /* a field of the wrong type or beyond its limit */
};

/*  A name for logs and metrics. */
const char *decode_result_name (enum decode_result result);

/*  An encoded message being read. The fields are the decoder's own. */
struct decoder {
    const struct message_spec *spec;
    uint64_t trace;
    uint32_t count; /* values left to read */
    struct cursor cursor;
};

/*  Checks the frame as a whole: size, form, depth, version, id. `local` says
    whether ids from MESSAGE_LOCAL_MIN on are let in. The bytes must outlive
    the decoder. */
enum decode_result decode_begin (struct decoder *decoder, const void *bytes, size_t size, bool local);

/*  The same for a frame that this very process encoded: it is whole, and is not
    looked through first. Rubbish is found out only where it stands, by decode_next,
    and what came before it is taken. */
enum decode_result decode_own (struct decoder *decoder, const void *bytes, size_t size);

/*  The next value: DECODE_OK, DECODE_END, or DECODE_FIELD for an item that is
    to be dropped; the next call goes on behind it. */
enum decode_result decode_next (struct decoder *decoder, struct message *message);

#endif
