/*  currency_client.h - gives rewards by App 1's virtualcurrency service.

    One POST /rewards a reward. Any 2xx counts as given, as nothing is known of
    the reply. A 4xx is a refusal; everything else is tried again. How failures
    are dealt with is told in include/client.h: the question here is how many
    coins nobody has, which says whether the service is there, and does not
    prove that it gives rewards. So a reward that fails is only given up after
    other rewards succeeded where it did not, time and again.

    Messages in:   START, OPEN, GIVE, TURN, TIMER, HTTP_ANSWER, DRAIN
    Messages out:  OPENED, GIVEN, HTTP_REQUEST, SET_TIMER, HEALTH, MEASURE, LOG,
                   DRAINED
    Overload:      more requests at once than the window and REQUESTS_SPARE are
                   answered refused, with an error in the log.
*/
#ifndef GUERDON_CURRENCY_CLIENT_H
#define GUERDON_CURRENCY_CLIENT_H

#include "include/actor.h"

extern const struct actor_spec currency_client_spec;

#endif
