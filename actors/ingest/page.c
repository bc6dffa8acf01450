/*  page.c - reads an event. See page.h. */

#include "actors/ingest/page.h"

#include <string.h>

#include "proto/raw.h"

static void take_data (struct event *event, struct raw raw)
{
    struct value value;
    event->fault = FAULT_NONE;
    event->data = NO_RAW;
    if (raw.size > DATA_SIZE_MAX) {
        event->fault = FAULT_DATA_SIZE;
    } else if (raw_value (raw, &value) && value.type == VALUE_EXT && value.ext == EXT_CUT) {
        bool known = value.text.size == 1 && value.text.data[0] >= FAULT_DATA_SIZE &&
                     value.text.data[0] <= FAULT_DATA_DEPTH;
        event->fault = known ? (enum fault) value.text.data[0] : FAULT_DATA_SIZE;
    } else {
        event->data = raw;
    }
}

/*  An integer from 0 to `max`; false for anything else. */
static bool take_number (struct cursor *page, uint64_t max, uint64_t *number, bool *usable)
{
    struct raw raw;
    struct value value;
    if (!cursor_take (page, &value, &raw))
        return false;
    *number = value.uint;
    *usable = (value.type == VALUE_UINT || raw_uint (raw, number)) && *number <= max;
    return true;
}

/*  A name of an app or a type: a string of sensible length, or empty. */
static bool take_name (struct cursor *page, struct text *name)
{
    struct raw raw;
    struct value value;
    if (cursor_short (page, name))
        return true;
    if (!cursor_take (page, &value, &raw))
        return false;
    bool usable = value.type == VALUE_TEXT && value.text.size <= NAME_SIZE_MAX;
    *name = usable ? value.text : NO_TEXT;
    return true;
}

enum field { FIELD_OTHER, FIELD_ID, FIELD_TIMESTAMP, FIELD_FROM, FIELD_TYPE, FIELD_DATA };

/*  Whether a key of the same size is this one. */
#define IS(key, name) (memcmp ((key).data, name, sizeof name - 1) == 0)

static enum field field_of (struct text key)
{
    switch (key.size) { /* few keys have the size of one that counts */
    case sizeof "id" - 1:
        return IS (key, "id") ? FIELD_ID : FIELD_OTHER;
    case sizeof "timestamp" - 1:
        return IS (key, "timestamp") ? FIELD_TIMESTAMP : FIELD_OTHER;
    case sizeof "from" - 1: /* and "type", "data" */
        return IS (key, "from")   ? FIELD_FROM
               : IS (key, "type") ? FIELD_TYPE
               : IS (key, "data") ? FIELD_DATA
                                  : FIELD_OTHER;
    default:
        return FIELD_OTHER;
    }
}

/*  Reads a pair of an object into an event. A key that stands twice counts as it
    does the last time, as in JavaScript. */
static bool take_pair (struct cursor *page, struct event *event)
{
    uint64_t number;
    bool usable;
    struct raw raw;
    struct text key = NO_TEXT;
    if (!cursor_short (page, &key) && !cursor_skip (page, NULL)) /* every key that counts is short */
        return false;
    switch (field_of (key)) {
    case FIELD_OTHER:
        break;
    case FIELD_ID:
        if (!take_number (page, POSITION_MAX, &number, &usable))
            return false;
        event->position = usable ? number : 0;
        return true;
    case FIELD_TIMESTAMP:
        if (!take_number (page, INT64_MAX, &number, &usable))
            return false;
        if (usable)
            event->timestamp = (int64_t) number;
        return true;
    case FIELD_FROM:
        return take_name (page, &event->source);
    case FIELD_TYPE:
        return take_name (page, &event->type);
    case FIELD_DATA:
        if (!cursor_skip (page, &raw))
            return false;
        take_data (event, raw);
        return true;
    }
    return cursor_skip (page, NULL);
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
    for (uint32_t i = 0; i < map.count; i++)
        if (!take_pair (&element, event))
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
