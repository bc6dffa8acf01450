/*  page.c - reads an event. See page.h. */

#include "actors/ingest/page.h"

#include "proto/raw.h"
#include "proto/text.h"

/*  A name of an app or a type: a string of sensible length, or empty. */
static struct text name_of (const struct value *value)
{
    bool usable = value->type == VALUE_TEXT && value->text.size <= NAME_SIZE_MAX;
    return usable ? value->text : NO_TEXT;
}

static void take_data (struct event *event, struct raw raw, const struct value *value)
{
    event->fault = FAULT_NONE;
    event->data = NO_RAW;
    if (value->type == VALUE_EXT && value->ext == EXT_CUT) {
        bool known = value->text.size == 1 && value->text.data[0] >= FAULT_DATA_SIZE &&
                     value->text.data[0] <= FAULT_DATA_DEPTH;
        event->fault = known ? (enum fault) value->text.data[0] : FAULT_DATA_SIZE;
    } else if (raw.size > DATA_SIZE_MAX) {
        event->fault = FAULT_DATA_SIZE;
    } else {
        event->data = raw;
    }
}

/*  A key that stands twice counts as it does the last time, as in JavaScript. */
static void take_field (struct event *event, struct text key, struct raw raw, const struct value *value)
{
    uint64_t number;
    if (text_equal (key, TEXT_LITERAL ("id"))) {
        event->position = raw_uint (raw, &number) && number <= POSITION_MAX ? number : 0;
    } else if (text_equal (key, TEXT_LITERAL ("timestamp"))) {
        if (raw_uint (raw, &number) && number <= INT64_MAX)
            event->timestamp = (int64_t) number;
    } else if (text_equal (key, TEXT_LITERAL ("from"))) {
        event->source = name_of (value);
    } else if (text_equal (key, TEXT_LITERAL ("type"))) {
        event->type = name_of (value);
    } else if (text_equal (key, TEXT_LITERAL ("data"))) {
        take_data (event, raw, value);
    }
}

bool page_event (struct raw element, struct event *event)
{
    *event = (struct event){ .position = 0 };
    struct cursor cursor = cursor_of (element);
    struct value map;
    if (!cursor_next (&cursor, &map) || map.type != VALUE_MAP)
        return false;
    for (uint32_t i = 0; i < map.count; i++) {
        struct raw key;
        struct raw raw;
        struct value value;
        struct text name;
        if (!cursor_skip (&cursor, &key) || !cursor_skip (&cursor, &raw) || !raw_value (raw, &value))
            return false;
        if (raw_text (key, &name))
            take_field (event, name, raw, &value);
    }
    if (event->source.size == 0 || event->type.size == 0) {
        event->fault = FAULT_NAME;
        event->source = NO_TEXT;
        event->type = NO_TEXT;
        event->data = NO_RAW;
    }
    return event->position > 0;
}
