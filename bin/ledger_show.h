/*  ledger_show.h - how a grant is shown to people and to scripts. */
#ifndef GUERDON_LEDGER_SHOW_H
#define GUERDON_LEDGER_SHOW_H

#include "proto/message.h"

/*  Each writes a LISTED of this shard to standard output. What is not printable is
    escaped.

    A line: id, state and when it came to it, and then its fields by name, without
    those that are empty. `whole` adds what explains it: the event, the trace, when it
    began, and who. */
void ledger_show_line (uint16_t shard, const struct message *message, bool whole);

/*  A field a line, all of them. */
void ledger_show_fields (uint16_t shard, const struct message *message);

/*  One JSON object and a newline; times in ms since the epoch. */
void ledger_show_json (uint16_t shard, const struct message *message);

#endif
