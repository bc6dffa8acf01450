/*  stats.h - counts, and tells StatsD.

    In:   COUNT from ingest and decision.
    Out:  DATAGRAM: "<prefix><name>:<amount>|c", one line a counter, several
          lines in a datagram.

    Increments are summed up for FLUSH_MS and sent together; totals are exact.
    Overload: there is nothing to overflow, counts only add up.
*/
#ifndef GUERDON_STATS_H
#define GUERDON_STATS_H

#include "include/actor.h"

extern const struct actor_spec stats_spec;

#endif
