/*  rule.c - what the rule says. See rule.h. */

#include "actors/decision/rule.h"

#include "proto/raw.h"
#include "proto/text.h"

static struct verdict no (enum outcome outcome, const char *reason)
{
    return (struct verdict){ false, outcome, reason, NO_TEXT };
}

struct verdict rule_judge (const struct event *event, struct text app)
{
    static const char *const data_faults[] = {
        [FAULT_DATA_SIZE] = "data is larger than 64 kB",
        [FAULT_DATA_KEYS] = "data has a container of more than 1024 entries",
        [FAULT_DATA_DEPTH] = "data is nested deeper than 32 levels",
    };
    if (event->fault == FAULT_NAME)
        return no (OUTCOME_IGNORED, "from or type is not a usable string");
    if (!text_equal (event->type, TEXT_LITERAL (RULE_TYPE)) || !text_equal (event->source, app))
        return no (OUTCOME_IGNORED, NULL);
    if (event->fault != FAULT_NONE)
        return no (OUTCOME_FAILURE, data_faults[event->fault]);

    struct raw found;
    struct value value;
    if (!raw_path (event->data, "userId", &found) || !raw_value (found, &value))
        return no (OUTCOME_IGNORED, "data.userId is missing");
    if (value.type == VALUE_EXT)
        return no (OUTCOME_FAILURE, "data.userId is too long");
    if (value.type != VALUE_TEXT || value.text.size == 0)
        return no (OUTCOME_IGNORED, "data.userId is not a non-empty string");
    if (value.text.size > USER_SIZE_MAX)
        return no (OUTCOME_FAILURE, "data.userId is longer than 8000 bytes");
    if (!text_is_utf8 (value.text))
        return no (OUTCOME_FAILURE, "data.userId is not UTF-8");
    return (struct verdict){ true, OUTCOME_IGNORED, NULL, value.text };
}

bool rule_is_true (struct raw values, struct text name, struct text *text)
{
    struct raw found;
    struct value value;
    if (!raw_find (values, name, &found) || !raw_value (found, &value))
        return false;
    *text = value.type == VALUE_TEXT ? value.text : TEXT_LITERAL ("not a string");
    switch (value.type) {
    case VALUE_NIL:
        return false;
    case VALUE_BOOL:
        return value.boolean;
    case VALUE_UINT:
        return value.uint != 0;
    case VALUE_TEXT:
        return value.text.size != 0;
    default:
        return true;
    }
}
