/*  effects.h - short ways to put the usual effects. Pure; for cores. */
#ifndef GUERDON_EFFECTS_H
#define GUERDON_EFFECTS_H

#include "include/actor.h"

/*  Puts any message. */
void put (const struct effects *effects, struct address to, const struct message *message);

/*  Sets a timer to a steady time in ms; 0 unsets it. */
void put_timer (const struct effects *effects, uint64_t timer, uint64_t at_ms);

/*  Adds to one of the four counters, at stats. */
void put_count (const struct effects *effects, enum counter counter, uint64_t amount);

/*  Says the value of a gauge. */
void put_gauge (const struct effects *effects, enum gauge gauge, uint64_t value);

/*  Says what is known of a service; `reason` may be empty. */
void put_health (const struct effects *effects, enum service service, enum service_state state,
                 struct text reason);

/*  What a log line is about. Zero means nothing in particular. */
struct about {
    uint64_t trace;
    uint64_t position; /* event id */
    struct text user;
};

/*  A log line, in printf's format, cut at LOG_SIZE_MAX; one that nobody wants is not
    even made. */
void put_log (const struct effects *effects, enum log_level level, struct about about, const char *format,
              ...) __attribute__ ((format (printf, 4, 5)));

/*  A message without fields: OPEN, OPENED, DRAINED. */
void put_plain (const struct effects *effects, struct address to, enum message_id id);

#endif
