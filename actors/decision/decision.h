/*  decision.h - decides who is rewarded.

    The rule: a LOGIN from app 2 whose player has "auth" at app 1 and no
    "$reward$<id>" yet. Then the marker is written, then the reward is given;
    never the other way round.

    In:   EVENT and OPEN from ingest; OPENED, META, META_WRITTEN, GIVEN from the
          clients.
    Out:  CREDIT and SETTLED to ingest; OPEN, READ_META, WRITE_META, GIVE to the
          clients; REMEMBER.

    Order: the events of one player are decided one after another; a second
    event waits until the first is settled. Players do not wait for each other.

    Overload: holds `window` unsettled events, and says so as credit. What
    exceeds it is dropped and logged; ingest keeps within it.
*/
#ifndef GUERDON_DECISION_H
#define GUERDON_DECISION_H

#include "include/actor.h"

extern const struct actor_spec decision_spec;

#endif
