/*  decision.h - decides who is rewarded.

    The rule: a LOGIN from app 2 whose player has "auth" at app 1 and no
    "$reward$<id>" yet. Then the marker is written, then the reward is given;
    never the other way round.

    In:   EVENT and OPEN from ingest; OPENED, META, META_WRITTEN, GIVEN from the
          clients; RECORD, RECALLED from the journal; RETRY and DROP of people.
    Out:  CREDIT and SETTLED to ingest; OPEN, READ_META, WRITE_META, GIVE to the
          clients; REMEMBER and RECALL to the journal; DONE.

    What is done about each event and grant is one table: grant.h. Whoever cannot
    know whether a reward was given has the currency-client look first.

    Start: what the journal says is open is taken up again, and what ended last is
    remembered (past.h). There is no credit before.

    Order: the events of one player are decided one after another, and so are its
    grants that are taken up or tried again; the next waits until the first is
    finished. Players do not wait for each other.

    Overload: holds `window` unsettled events and open grants, and says so as
    credit. What exceeds it is dropped and logged; ingest keeps within it. Of
    grants that people want tried again it holds some more; who comes later is
    asked to come again.
*/
#ifndef GUERDON_DECISION_H
#define GUERDON_DECISION_H

#include "include/actor.h"

extern const struct actor_spec decision_spec;

#endif
