/*  currency_client.h - gives rewards by App 1's virtualcurrency service.

    One POST /rewards a reward. Any 2xx counts as given, as nothing is known of
    the reply. A 4xx but those of include/verdict.h is a refusal. Without a
    connection it is posted again. After anything else nobody knows whether the
    reward was given, so it is looked for before it is posted again: the reward
    transactions of the player are listed, not before FIND_GRACE_MS after the
    attempt ended, as a list may be behind for a moment. GIVE says with `check`
    that somebody else may have tried before; then it is looked for first.

    | the list                                       | then                         |
    |------------------------------------------------|------------------------------|
    | has the reward: reason reward or none, the     | given; `found` is 1 unless   |
    | currency, data.rewardId, data.from ours or none| this GIVE posted it          |
    | is whole, and has it not (see listing.h)       | posted again, with backoff   |
    | goes on on another page                        | that page                    |
    | cannot tell (listing.h), is refused (404, 405, | asked again with backoff,    |
    | 414 or any 4xx), fails, is too large           | from its beginning           |
    | ... for FIND_PATIENCE_SECONDS                  | uncertain, with the reason   |

    Time counts only while the service is there: not while it leaves the question
    unanswered, nor while its list and every reward fail.

    How failures are dealt with is told in include/client.h: the question here is
    how many coins nobody has, which says whether the service is there, and does
    not prove that it gives rewards. So a reward that fails is only given up after
    other rewards succeeded where it did not, time and again. It is looked for a
    last time then: refused when it is not there, uncertain when that cannot be
    said.

    A player has one request in the air at most. When a decision came back without
    its memory, what it asked is forgotten but for a POST in the air; whatever is
    asked for that player meanwhile waits for its end and the grace, and is looked
    for first.

    Messages in:   START, OPEN, PEER, GIVE, TURN, TIMER, HTTP_ANSWER, DRAIN
    Messages out:  OPENED, GIVEN, HTTP_REQUEST, HTTP_CANCEL, SET_TIMER, HEALTH,
                   MEASURE, LOG, DRAINED
    Overload:      more requests at once than the window and REQUESTS_SPARE are
                   answered refused, with an error in the log.
*/
#ifndef GUERDON_CURRENCY_CLIENT_H
#define GUERDON_CURRENCY_CLIENT_H

#include "include/actor.h"

extern const struct actor_spec currency_client_spec;

#endif
