/*  ingest.h - takes events from the events service, and acknowledges them.

    In:   CREDIT and SETTLED from decision.
    Out:  OPEN and EVENT to decision; COUNT to stats; polls over HTTP.

    Asking for what comes after an event acknowledges it (reference: events,
    `after`), so four kinds of poll are kept apart:
    -   main, under our client id: its `after` is the position up to which
        everything is settled. It acknowledges, and when nothing is in flight it
        is the long poll that waits for new events. Before there is credit it asks
        once for the state of the service, and takes nothing.
    -   ahead, under "<client id>.ahead": reads on behind events that are not
        settled yet. Its `after` acknowledges nothing of ours.
    -   gap, under the same id: an event id was skipped. Ids can become visible
        out of order, so it looks again until a grace time is over; until then
        the acknowledged position stays below the gap.
    -   check, under the same id: whether the newest event that was read is still
        there. A service that was restored begins anew with lower ids, of which
        nothing would be seen, and a main poll would overwrite the position that it
        has kept for us. So after a failure this comes first; and once a minute
        when nothing happens. When the event is gone all positions are forgotten.

    Overload: holds at most `window` events, fewer if decision's credit is
    smaller. When that many are not acknowledged, it reads no further. Events that no
    decision wants to see count only when they are three times as many.
*/
#ifndef GUERDON_INGEST_H
#define GUERDON_INGEST_H

#include "include/actor.h"

extern const struct actor_spec ingest_spec;

#endif
