/*  grant.h - what is done about a player's event or grant, as one table: stage and
    what happened give the next stage and what is to be done.

    A grant is one try to reward one player. In memory it goes from stage to
    stage; in the journal it is intended, and then given, refused, uncertain or
    dropped. Whoever cannot know whether a reward was given asks before giving
    it: that is `check`.
*/
#ifndef GUERDON_GRANT_H
#define GUERDON_GRANT_H

#include "proto/message.h"

/*  Where the first of a player's queue stands. */
enum stage { STAGE_NEW, STAGE_READING, STAGE_MARKING, STAGE_GIVING, STAGE_ENDED };

/*  What may happen to it. */
enum happening {
    ON_EVENT,        /* an event is the first of its player */
    ON_RESUMED,      /* a grant is, that the journal says is open */
    ON_RETRIED,      /* a grant is, that a person wants tried again */
    ON_UNREADABLE,   /* usermeta refused to be read */
    ON_NOT_DUE,      /* the rule says no, or the marker is there for another event or long since */
    ON_OWN_GIVEN,    /* the marker is there, and this very event was given for */
    ON_OWN_PARKED,   /* the marker is there, and the grant of this event was parked */
    ON_DUE,          /* the rule says yes, and nobody tried before */
    ON_DUE_AGAIN,    /* the rule says yes, but an earlier grant may have been given */
    ON_UNEXPLAINED,  /* the marker is there, no grant explains it, and it may be of this event */
    ON_MARKED,       /* the marker is written */
    ON_NOT_MARKED,   /* the marker was refused, and nobody tried to give before */
    ON_MAYBE_MARKED, /* the marker was refused, and somebody may have given before */
    ON_GIVEN,        /* the reward is given */
    ON_FOUND,        /* it was given already, by an earlier attempt of this grant */
    ON_FOUND_OTHER,  /* it was given already, by another grant */
    ON_REFUSED,      /* it was refused for good */
    ON_UNCERTAIN,    /* nobody can say whether it was given */
    ON_FORGOTTEN,    /* the worker that was asked came back without its memory */
    HAPPENINGS
};

/*  What to do, in this order. */
enum {
    DO_INTEND = 1 << 0, /* begin a grant in the journal */
    DO_RECORD = 1 << 1, /* end it there, as `ends` */
    DO_READ = 1 << 2,   /* ask usermeta for the player */
    DO_MARK = 1 << 3,   /* write the marker */
    DO_GIVE = 1 << 4,   /* give the reward */
    DO_SETTLE = 1 << 5  /* it is finished; its event, if it has one, is settled with `outcome` */
};

/*  What a GIVE says of attempts before it. KEEP: what was said last. */
enum check {
    CHECK_KEEP,
    CHECK_NONE,  /* there was none: give at once */
    CHECK_QUIET, /* there may have been one, by a grant that ended or a life before: find first */
    CHECK_GRACE  /* there may be one until now: find first, after the grace */
};

/*  One cell of the table. */
struct grant_cell {
    enum stage next;
    unsigned does; /* DO_ of everything that is done */
    enum check check;
    enum grant_state ends; /* with DO_RECORD */
    enum outcome outcome;  /* with DO_SETTLE */
};

/*  The cell; NULL when that cannot happen at that stage. */
const struct grant_cell *grant_cell (enum stage stage, enum happening happening);

/*  The name of a stage, for logs. */
const char *stage_name (enum stage stage);

#endif
