/*  fuzz_page.c - any bytes as a page of the events service, all the way: JSON in
    pieces, through the filter and the parser, to events as ingest hands them on.

    Whatever is taken for an event keeps every limit of the language, and reads the
    same however the page was cut into pieces.
*/
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/json.h"
#include "actors/ingest/page.h"
#include "proto/codec.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

static uint8_t encoded[MESSAGE_SIZE_MAX];

/*  An event that was let in can be sent, and arrives. */
static void send_event (const struct event *event)
{
    struct message message = { .id = MESSAGE_EVENT, .event = *event }, twin;
    struct packer packer;
    struct decoder decoder;
    assert (event->position <= POSITION_MAX && event->timestamp >= 0);
    assert ((event->fault == FAULT_NAME) == (event->source.size == 0 || event->type.size == 0));
    assert (event->fault == FAULT_NONE || event->data.size == 0);
    packer_init (&packer, encoded, sizeof encoded);
    enum encode_result result = encode_message (&packer, &message);
    assert (result == ENCODE_OK);
    enum decode_result begun = decode_begin (&decoder, packer.data, packer.size, false);
    assert (begun == DECODE_OK);
    enum decode_result decoded = decode_next (&decoder, &twin);
    assert (decoded == DECODE_OK && twin.event.position == event->position);
}

static void take_page (struct raw page)
{
    struct cursor cursor = cursor_of (page);
    struct value head;
    struct event event;
    if (!cursor_next (&cursor, &head) || head.type != VALUE_ARRAY)
        return;
    uint32_t count = 0;
    for (; count < head.count && page_next (&cursor, &event); count++)
        if (event.position > 0)
            send_event (&event);
    assert (count == head.count && cursor.at == cursor.end);
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    static struct json_reader *reader;
    if (!reader)
        reader = json_reader_new (REPLY_SIZE_MAX);
    if (!reader || size == 0)
        return 0;
    size_t piece = bytes[0] + 1U;
    const uint8_t *at = bytes + 1;
    size_t left = size - 1;
    json_reader_reset (reader);
    for (; left > 0; at += piece, left -= piece) {
        piece = piece < left ? piece : left;
        if (!json_reader_feed (reader, at, piece))
            break;
    }
    struct raw page;
    enum body_state state = json_reader_finish (reader, &page);
    if (state == BODY_JSON || state == BODY_CUT)
        take_page (page);
    return 0;
}
