/*  tap_show.h - how a value of the tap is shown to people and to scripts. */
#ifndef GUERDON_TAP_SHOW_H
#define GUERDON_TAP_SHOW_H

#include "actors/base/tap.h"

/*  Writes one line to standard output: aligned columns, coloured by message
    when asked. Secrets are not in what taps show; what is not printable is
    escaped. */
void tap_show_text (const struct tap_record *record, const struct message_spec *spec,
                    const struct message *message, bool colour);

/*  Writes one JSON object and a newline: time, process, direction, from, to,
    type, trace, and the message's fields by name (event_type, where a field has
    the name of one of the first). */
void tap_show_json (const struct tap_record *record, const struct message_spec *spec,
                    const struct message *message);

#endif
