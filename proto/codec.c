/*  codec.c - messages to msgpack and back, driven by the table.

    The one place that sees msgpack's library, and only to write: its inline
    functions, over memory of the caller. Reading is raw.c's cursor.
*/
#include "proto/codec.h"

#include <assert.h>
#include <string.h>

#include <msgpack.h>

_Static_assert(sizeof (enum role) == sizeof (unsigned), "enum fields are read and written as unsigned");

/*  ---- writing msgpack ---------------------------------------------------- */

void packer_init (struct packer *packer, void *memory, size_t capacity)
{
    assert (memory || capacity == 0);
    *packer = (struct packer){ .data = memory, .capacity = capacity };
}

/*  The library's way out: appends, or says that it did not fit. */
static int append (void *sink, const char *bytes, size_t size)
{
    struct packer *packer = sink;
    if (packer->overflow || packer->capacity - packer->size < size) {
        packer->overflow = true;
        return -1;
    }
    if (size > 0)
        memcpy (packer->data + packer->size, bytes, size);
    packer->size += size;
    return 0;
}

static msgpack_packer writer (struct packer *packer)
{
    return (msgpack_packer){ .data = packer, .callback = append };
}

void pack_nil (struct packer *packer)
{
    msgpack_packer out = writer (packer);
    msgpack_pack_nil (&out);
}

void pack_bool (struct packer *packer, bool boolean)
{
    msgpack_packer out = writer (packer);
    if (boolean)
        msgpack_pack_true (&out);
    else
        msgpack_pack_false (&out);
}

/*  One byte, when there is room; the small heads are most of all that is packed. */
static bool pack_byte (struct packer *packer, uint8_t byte)
{
    if (packer->overflow || packer->size == packer->capacity)
        return false;
    packer->data[packer->size++] = byte;
    return true;
}

void pack_uint (struct packer *packer, uint64_t uint)
{
    enum { FIXINT_MAX = 0x7f };
    if (uint <= FIXINT_MAX && pack_byte (packer, (uint8_t) uint))
        return;
    msgpack_packer out = writer (packer);
    msgpack_pack_uint64 (&out, uint);
}

void pack_int (struct packer *packer, int64_t integer)
{
    msgpack_packer out = writer (packer);
    msgpack_pack_int64 (&out, integer);
}

void pack_real (struct packer *packer, double real)
{
    msgpack_packer out = writer (packer);
    msgpack_pack_double (&out, real);
}

void pack_text (struct packer *packer, struct text text)
{
    enum { FIXSTR = 0xa0, FIXSTR_SIZE_MAX = 31 };
    bool fits = !packer->overflow && packer->capacity - packer->size > text.size;
    if (text.size > 0 && text.size <= FIXSTR_SIZE_MAX && fits) {
        uint8_t *to = packer->data + packer->size;
        to[0] = (uint8_t) (FIXSTR | text.size);
        memcpy (to + 1, text.data, text.size);
        packer->size += 1 + text.size;
        return;
    }
    msgpack_packer out = writer (packer);
    msgpack_pack_str (&out, text.size);
    append (packer, text.data, text.size);
}

void pack_literal (struct packer *packer, const char *string)
{
    size_t size = strlen (string);
    assert (size <= UINT32_MAX);
    pack_text (packer, (struct text){ string, (uint32_t) size });
}

void pack_array (struct packer *packer, uint32_t count)
{
    msgpack_packer out = writer (packer);
    msgpack_pack_array (&out, count);
}

void pack_map (struct packer *packer, uint32_t count)
{
    msgpack_packer out = writer (packer);
    msgpack_pack_map (&out, count);
}

void pack_ext (struct packer *packer, int8_t type, struct text bytes)
{
    msgpack_packer out = writer (packer);
    msgpack_pack_ext (&out, bytes.size, type);
    append (packer, bytes.data, bytes.size);
}

void pack_secret (struct packer *packer)
{
    pack_ext (packer, EXT_SECRET, NO_TEXT);
}

void pack_raw (struct packer *packer, struct raw raw)
{
    if (raw.size == 0)
        pack_nil (packer);
    else
        append (packer, (const char *) raw.data, raw.size);
}

struct raw packer_raw (const struct packer *packer)
{
    if (packer->overflow || packer->size > UINT32_MAX)
        return NO_RAW;
    return (struct raw){ packer->data, (uint32_t) packer->size };
}

/*  ---- encoding ----------------------------------------------------------- */

static const void *field_of (const struct message *message, const struct field_spec *field)
{
    return (const char *) message + field->offset;
}

static bool encode_uint (struct packer *packer, const struct field_spec *field, const uint64_t *uint)
{
    pack_uint (packer, *uint);
    return *uint <= field->max;
}

static bool encode_choice (struct packer *packer, const struct field_spec *field, const unsigned *number)
{
    pack_uint (packer, *number);
    return enum_value (field->choice, *number) != NULL;
}

static bool encode_text (struct packer *packer, const struct field_spec *field, const struct text *text)
{
    pack_text (packer, *text);
    return text->size <= field->max;
}

static bool encode_raw (struct packer *packer, const struct field_spec *field, const struct raw *raw)
{
    pack_raw (packer, *raw);
    return raw->size <= field->max;
}

/*  Packs a field; false when it exceeds its limit. */
static bool encode_field (struct packer *packer, const struct field_spec *field,
                          const struct message *message)
{
    const void *from = field_of (message, field);
    switch (field->type) {
    case FIELD_UINT:
        return encode_uint (packer, field, from);
    case FIELD_INT:
        pack_int (packer, *(const int64_t *) from);
        return true;
    case FIELD_CHOICE:
        return encode_choice (packer, field, from);
    case FIELD_TEXT:
        return encode_text (packer, field, from);
    case FIELD_RAW:
        return encode_raw (packer, field, from);
    }
    return false;
}

static bool encode_fields (struct packer *packer, const struct message_spec *spec,
                           const struct message *message)
{
    bool within = true;
    for (size_t i = 0; i < spec->count; i++)
        within = encode_field (packer, &spec->fields[i], message) && within;
    for (int i = 0; i < PROTOCOL_FIELDS_MORE; i++)
        pack_literal (packer, "of a version to come");
    return within;
}

static bool encode_one (struct packer *packer, const struct message_spec *spec, const struct message *message)
{
    pack_array (packer, (uint32_t) spec->count + PROTOCOL_FIELDS_MORE + 1);
    pack_uint (packer, message->trace);
    return encode_fields (packer, spec, message);
}

/*  The head of a message, up to its trace. */
static void encode_head (struct packer *packer, uint32_t count, enum message_id id, uint64_t trace)
{
    pack_array (packer, count);
    pack_uint (packer, PROTOCOL_VERSION);
    pack_uint (packer, id);
    pack_uint (packer, trace);
}

/*  Keeps what was packed since `before`, or takes it back and says why. */
static enum encode_result encode_end (struct packer *packer, struct packer before, bool within)
{
    bool full = packer->overflow;
    if (!full && within && packer->size - before.size <= MESSAGE_SIZE_MAX)
        return ENCODE_OK;
    *packer = before;
    return within && full ? ENCODE_FULL : ENCODE_INVALID;
}

enum encode_result encode_message (struct packer *packer, const struct message *message)
{
    const struct message_spec *spec = message_spec (message->id);
    assert (spec);
    struct packer before = *packer;
    bool within;
    if (spec->batch) {
        encode_head (packer, 4, spec->id, message->trace);
        pack_array (packer, 1);
        within = encode_one (packer, spec, message);
    } else {
        encode_head (packer, (uint32_t) spec->count + PROTOCOL_FIELDS_MORE + 3, spec->id, message->trace);
        within = encode_fields (packer, spec, message);
    }
    return encode_end (packer, before, within);
}

enum encode_result encode_item (struct packer *packer, const struct message *message)
{
    const struct message_spec *spec = message_spec (message->id);
    assert (spec && spec->batch);
    struct packer before = *packer;
    bool within = encode_one (packer, spec, message);
    return encode_end (packer, before, within);
}

enum encode_result encode_batch (struct packer *packer, enum message_id id, uint64_t trace, struct raw items,
                                 uint32_t count)
{
    assert (message_spec (id) && message_spec (id)->batch);
    struct packer before = *packer;
    encode_head (packer, 4, id, trace);
    pack_array (packer, count);
    append (packer, (const char *) items.data, items.size);
    return encode_end (packer, before, count <= BATCH_ITEMS_MAX);
}

void encoded_speak (void *bytes, size_t size, unsigned version)
{
    _Static_assert(PROTOCOL_MIN > 0 && PROTOCOL_MAX < 128, "a version is one byte of msgpack");
    struct cursor cursor = cursor_of ((struct raw){ bytes, (uint32_t) size });
    struct value array;
    assert (version > 0 && version < 128);
    if (!cursor_next (&cursor, &array) || array.type != VALUE_ARRAY || array.count < 3)
        return;
    uint8_t *at = (uint8_t *) bytes + (cursor.at - (const uint8_t *) bytes);
    if (cursor.at < cursor.end && *at == PROTOCOL_VERSION)
        *at = (uint8_t) version;
}

/*  ---- decoding: the frame ------------------------------------------------ */

const char *decode_result_name (enum decode_result result)
{
    static const char *const names[] = {
        [DECODE_OK] = "ok",       [DECODE_END] = "end",         [DECODE_RUBBISH] = "rubbish",
        [DECODE_SIZE] = "size",   [DECODE_VERSION] = "version", [DECODE_UNKNOWN] = "unknown",
        [DECODE_FIELD] = "field",
    };
    return (unsigned) result < sizeof (names) / sizeof (*names) ? names[result] : "?";
}

static bool uint_next (struct cursor *cursor, uint64_t *uint)
{
    struct value value;
    if (!cursor_next (cursor, &value) || value.type != VALUE_UINT)
        return false;
    *uint = value.uint;
    return true;
}

/*  Goes to the first item of a batch. Without items there is nothing to read. */
static enum decode_result batch_begin (struct decoder *decoder)
{
    struct value items;
    decoder->count = 0;
    if (decoder->cursor.at == decoder->cursor.end)
        return DECODE_OK;
    if (!cursor_next (&decoder->cursor, &items) || items.type != VALUE_ARRAY)
        return DECODE_RUBBISH;
    if (items.count > BATCH_ITEMS_MAX)
        return DECODE_SIZE;
    decoder->count = items.count;
    return DECODE_OK;
}

/*  Reads version, id and trace of a frame that is known to be whole. */
static enum decode_result head_begin (struct decoder *decoder, bool local)
{
    struct value head;
    uint64_t version, id;
    if (!cursor_next (&decoder->cursor, &head) || head.type != VALUE_ARRAY || head.count == 0)
        return DECODE_RUBBISH;
    if (!uint_next (&decoder->cursor, &version))
        return DECODE_RUBBISH;
    if (version < PROTOCOL_MIN || version > PROTOCOL_MAX)
        return DECODE_VERSION;
    if (head.count < 3 || !uint_next (&decoder->cursor, &id))
        return DECODE_RUBBISH;
    const struct message_spec *spec = message_spec (id);
    if (!spec || (id >= MESSAGE_LOCAL_MIN && !local))
        return DECODE_UNKNOWN;
    if (!uint_next (&decoder->cursor, &decoder->trace))
        return DECODE_RUBBISH;
    decoder->spec = spec;
    decoder->count = 1;
    return spec->batch ? batch_begin (decoder) : DECODE_OK;
}

static enum decode_result frame_begin (struct decoder *decoder, struct raw frame, bool local)
{
    decoder->cursor = cursor_of (frame);
    enum decode_result result = head_begin (decoder, local);
    if (result != DECODE_OK)
        decoder->count = 0;
    return result;
}

enum decode_result decode_begin (struct decoder *decoder, const void *bytes, size_t size, bool local)
{
    *decoder = (struct decoder){ 0 };
    if (size > MESSAGE_SIZE_MAX)
        return DECODE_SIZE;
    struct raw frame = { bytes, (uint32_t) size };
    return raw_valid (frame) ? frame_begin (decoder, frame, local) : DECODE_RUBBISH;
}

enum decode_result decode_own (struct decoder *decoder, const void *bytes, size_t size)
{
    *decoder = (struct decoder){ 0 };
    if (size > MESSAGE_SIZE_MAX)
        return DECODE_SIZE;
    return frame_begin (decoder, (struct raw){ bytes, (uint32_t) size }, false);
}

/*  ---- decoding: fields --------------------------------------------------- */

static bool decode_uint (const struct field_spec *field, const struct value *value, uint64_t *uint)
{
    if (value->type != VALUE_UINT || value->uint > field->max)
        return false;
    *uint = value->uint;
    return true;
}

static bool decode_int (const struct value *value, int64_t *integer)
{
    bool positive = value->type == VALUE_UINT && value->uint <= INT64_MAX;
    if (!positive && value->type != VALUE_INT)
        return false;
    *integer = positive ? (int64_t) value->uint : value->integer;
    return true;
}

static bool decode_choice (const struct field_spec *field, const struct value *value, unsigned *number)
{
    if (value->type != VALUE_UINT || value->uint > field->max || !enum_value (field->choice, value->uint))
        return false;
    *number = (unsigned) value->uint;
    return true;
}

static bool decode_text (const struct field_spec *field, const struct value *value, struct text *text)
{
    if (value->type != VALUE_TEXT || value->text.size > field->max)
        return false;
    *text = value->text;
    return true;
}

/*  A nil reads as empty, so that both ways to say nothing are one. */
static bool decode_raw (struct cursor *cursor, const struct field_spec *field, struct raw *raw)
{
    struct value head;
    if (!cursor_skip (cursor, raw) || raw->size > field->max)
        return false;
    if (raw_value (*raw, &head) && head.type == VALUE_NIL)
        *raw = NO_RAW;
    return true;
}

/*  Reads one field; false when it is of the wrong type or beyond its limit. */
static bool decode_field (struct cursor *cursor, const struct field_spec *field, struct message *message)
{
    void *to = (char *) message + field->offset;
    struct value value;
    if (field->type == FIELD_RAW)
        return decode_raw (cursor, field, to);
    if (!cursor_next (cursor, &value))
        return false;
    switch (field->type) {
    case FIELD_UINT:
        return decode_uint (field, &value, to);
    case FIELD_INT:
        return decode_int (&value, to);
    case FIELD_CHOICE:
        return decode_choice (field, &value, to);
    case FIELD_TEXT:
        return decode_text (field, &value, to);
    case FIELD_RAW:
        break;
    }
    return false;
}

/*  A field that is not there stays zero; that is no value of every enum. */
static bool missing_field (const struct field_spec *field)
{
    return field->type != FIELD_CHOICE || enum_value (field->choice, 0);
}

/*  Reads the fields among the next `left` objects, at most up to the end of
    the bytes, and steps over those that this binary does not know. */
static bool decode_fields (struct cursor *cursor, const struct message_spec *spec, uint32_t left,
                           struct message *message)
{
    for (size_t i = 0; i < spec->count; i++) {
        bool there = left > 0 && cursor->at != cursor->end;
        if (!(there ? decode_field (cursor, &spec->fields[i], message) : missing_field (&spec->fields[i])))
            return false;
        left -= there;
    }
    while (left > 0 && cursor->at != cursor->end) {
        if (!cursor_skip (cursor, NULL))
            return false;
        left--;
    }
    return true;
}

static bool decode_item (struct cursor *cursor, const struct message_spec *spec, struct message *message)
{
    struct value head;
    if (!cursor_next (cursor, &head) || head.type != VALUE_ARRAY)
        return false;
    if (head.count > 0 && !uint_next (cursor, &message->trace))
        return false;
    return decode_fields (cursor, spec, head.count > 0 ? head.count - 1 : 0, message);
}

enum decode_result decode_next (struct decoder *decoder, struct message *message)
{
    if (decoder->count == 0)
        return DECODE_END;
    decoder->count--;
    const struct message_spec *spec = decoder->spec;
    *message = (struct message){ .id = spec->id, .trace = decoder->trace };
    if (!spec->batch)
        return decode_fields (&decoder->cursor, spec, UINT32_MAX, message) ? DECODE_OK : DECODE_FIELD;

    message->trace = 0;
    struct cursor item = decoder->cursor;
    if (decode_item (&item, spec, message)) {
        decoder->cursor = item;
        return DECODE_OK;
    }
    /*  The frame was seen to be whole, so there is a next item to go to. */
    if (!cursor_skip (&decoder->cursor, NULL))
        decoder->count = 0;
    return DECODE_FIELD;
}
