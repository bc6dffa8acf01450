/*  rule.h - what the rule says: of an event by itself, and of usermeta's values. */
#ifndef GUERDON_RULE_H
#define GUERDON_RULE_H

#include <stdbool.h>

#include "proto/message.h"

/*  The type of the events that count. */
#define RULE_TYPE "LOGIN"

/*  What the rule says of an event by itself, before anything is read. */
struct verdict {
    bool due; /* the player is to be looked up */
    enum outcome outcome;
    const char *reason; /* NULL: not worth a log line */
    struct text user;
};

/*  Judges an event: one of RULE_TYPE of the app of that name with a usable user id is due. */
struct verdict rule_judge (const struct event *event, struct text app);

/*  Whether a value is there and true; *text receives it, for a log line. Usermeta
    holds strings, of which only the empty one is false; should it ever answer with
    something else, what would be true in JavaScript is true, so that no marker is
    overlooked. */
bool rule_is_true (struct raw values, struct text name, struct text *text);

#endif
