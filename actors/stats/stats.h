/*  stats.h - counts, and tells StatsD.

    In:   COUNT from ingest.
    Out:  DATAGRAM: "<prefix><name>:<amount>|c", one line a counter, several
          lines in a datagram.

    Increments are summed up for FLUSH_MS and sent together; totals are exact.
    An ingest that comes back without its memory reads events again that it had
    counted and that have no outcome yet: so many `events` are left out, and the
    sum holds.
    Overload: there is nothing to overflow, counts only add up.
*/
#ifndef GUERDON_STATS_H
#define GUERDON_STATS_H

#include "include/actor.h"

extern const struct actor_spec stats_spec;

#endif
