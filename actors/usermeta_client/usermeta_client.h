/*  usermeta_client.h - reads and writes of App 1's usermeta service.

    Reads of many users with the same keys travel as one request. User ids that
    the list route would take apart (commas, spaces at the ends) go alone by
    the token route; ids with ":" are refused without asking, as the service
    cannot keep them under their own name and falls over them. How failures
    are dealt with is told in include/client.h; a read of many users that
    fails is cut in halves until the culprit stands alone.

    A user that is missing from a reply is not taken for one without values:
    it is asked for alone, and then refused.

    Under a wrong secret a read is answered with 200 and without the values. So a
    reply with no value of anybody is not believed: the probe writes a value of its
    own user under a key that is read, which a wrong secret is not allowed to, and the
    read goes out again with that user among the others. The following ones ask for
    it, too, so that a doubt costs one more name in a request.

    A decision that came back without its memory: what it asked before is
    forgotten. A marker write that is in the air may land late, which is
    harmless: whoever writes the marker wants it there, and any value will do.

    Messages in:   START, OPEN, PEER, READ_META, WRITE_META, TURN, TIMER,
                   HTTP_ANSWER, DRAIN
    Messages out:  OPENED, META, META_WRITTEN, HTTP_REQUEST, HTTP_CANCEL, SET_TIMER,
                   HEALTH, MEASURE, LOG, DRAINED
    Overload:      more requests at once than the window and REQUESTS_SPARE are
                   answered refused, with an error in the log.
*/
#ifndef GUERDON_USERMETA_CLIENT_H
#define GUERDON_USERMETA_CLIENT_H

#include "include/actor.h"

/*  Users in one read at most; PATH_LIST_SIZE_MAX may end it earlier. */
enum { READ_USERS_MAX = 200 };

extern const struct actor_spec usermeta_client_spec;

#endif
