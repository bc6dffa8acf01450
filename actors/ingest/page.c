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

/*  An integer >= 0; false for anything else. */
static bool number_of (struct raw raw, const struct value *value, uint64_t *number)
{
    *number = value->uint;
    return value->type == VALUE_UINT || raw_uint (raw, number);
}

/*  A key that stands twice counts as it does the last time, as in JavaScript. */
static void take_field (struct event *event, struct text key, struct raw raw, const struct value *value)
{
    uint64_t number;
    switch (key.size) { /* few keys have the size of one that counts */
    case sizeof "id" - 1:
        if (text_equal (key, TEXT_LITERAL ("id")))
            event->position = number_of (raw, value, &number) && number <= POSITION_MAX ? number : 0;
        break;
    case sizeof "timestamp" - 1:
        if (text_equal (key, TEXT_LITERAL ("timestamp")) && number_of (raw, value, &number) &&
            number <= INT64_MAX)
            event->timestamp = (int64_t) number;
        break;
    case sizeof "from" - 1: /* and "type", "data" */
        if (text_equal (key, TEXT_LITERAL ("from")))
            event->source = name_of (value);
        else if (text_equal (key, TEXT_LITERAL ("type")))
            event->type = name_of (value);
        else if (text_equal (key, TEXT_LITERAL ("data")))
            take_data (event, raw, value);
        break;
    default:
        break;
    }
}

/*  Reads the pairs of an object into an event. */
static bool take_fields (struct cursor *page, uint32_t count, struct event *event)
{
    for (uint32_t i = 0; i < count; i++) {
        struct raw raw;
        struct value key;
        struct value value;
        if (!cursor_take (page, &key, &raw) || !cursor_take (page, &value, &raw))
            return false;
        if (key.type == VALUE_TEXT)
            take_field (event, key.text, raw, &value);
    }
    return true;
}

bool page_next (struct cursor *page, struct event *event)
{
    struct cursor element = *page;
    struct value map;
    *event = (struct event){ .position = 0 };
    if (!cursor_next (&element, &map))
        return false;
    if (map.type != VALUE_MAP)
        return cursor_skip (page, NULL);
    if (!take_fields (&element, map.count, event))
        return false;
    *page = element;
    if (event->source.size == 0 || event->type.size == 0) {
        event->fault = FAULT_NAME;
        event->source = NO_TEXT;
        event->type = NO_TEXT;
        event->data = NO_RAW;
    }
    return true;
}
