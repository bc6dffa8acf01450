/*  effects.c - short ways to put the usual effects. */

#include "include/effects.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

void put (const struct effects *effects, struct address to, const struct message *message)
{
    assert (effects->put && message);
    effects->put (effects->sink, to, message);
}

void put_timer (const struct effects *effects, uint64_t timer, uint64_t at_ms)
{
    assert (timer < TIMERS_MAX);
    put (effects, TO_SHELL,
         &(struct message){ .id = MESSAGE_SET_TIMER, .set_timer = { .timer = timer, .at_ms = at_ms } });
}

void put_count (const struct effects *effects, enum counter counter, uint64_t amount)
{
    put (effects, (struct address){ ROLE_STATS, 0 },
         &(struct message){ .id = MESSAGE_COUNT, .count = { .counter = counter, .amount = amount } });
}

void put_gauge (const struct effects *effects, enum gauge gauge, uint64_t value)
{
    put (effects, TO_SHELL,
         &(struct message){ .id = MESSAGE_MEASURE, .measure = { .gauge = gauge, .value = value } });
}

/*  A text of the outside may be longer than its field. The cut falls between
    two characters when the text is UTF-8. */
static struct text cut (struct text text, uint32_t max)
{
    if (text.size <= max)
        return text;
    uint32_t size = max;
    while (size > 0 && max - size < 3 && ((uint8_t) text.data[size] & 0xc0) == 0x80)
        size--;
    return (struct text){ text.data, size };
}

void put_health (const struct effects *effects, enum service service, enum service_state state,
                 struct text reason)
{
    put (effects, TO_SHELL,
         &(struct message){
             .id = MESSAGE_HEALTH,
             .health = { .service = service, .state = state, .reason = cut (reason, REASON_SIZE_MAX) } });
}

void put_log (const struct effects *effects, enum log_level level, struct about about, const char *format,
              ...)
{
    if (level < effects->log_level)
        return;
    /*  One byte more than a line holds, so that a cut sees what it cuts. */
    char line[LOG_SIZE_MAX + 2];
    va_list arguments;
    va_start (arguments, format);
    int size = vsnprintf (line, sizeof (line), format, arguments);
    va_end (arguments);

    struct text text = TEXT_LITERAL ("a log line that cannot be formatted");
    if (size >= 0) {
        uint32_t written = (size_t) size < sizeof (line) ? (uint32_t) size : (uint32_t) sizeof (line) - 1;
        text = cut ((struct text){ line, written }, LOG_SIZE_MAX);
    }
    put (effects, TO_SHELL,
         &(struct message){ .id = MESSAGE_LOG,
                            .trace = about.trace,
                            .log = { .level = level,
                                     .position = about.position,
                                     .user = cut (about.user, USER_SIZE_MAX),
                                     .text = text } });
}

void put_plain (const struct effects *effects, struct address to, enum message_id id)
{
    assert (message_spec (id) && message_spec (id)->count == 0);
    put (effects, to, &(struct message){ .id = id });
}
