/*  grant.c - the table of a grant. See grant.h. */

#include "actors/decision/grant.h"

#include <assert.h>

/* clang-format off */

/*  What can stand in a cell. NEVER: it cannot happen, because at that stage nothing
    was asked that would bring it. */
#define NEVER              { 0 }
#define READ               { STAGE_READING, DO_READ, CHECK_KEEP, 0, 0 }
#define MARK(how)          { STAGE_MARKING, DO_MARK, CHECK_##how, 0, 0 }
#define GIVE(how)          { STAGE_GIVING, DO_GIVE, CHECK_##how, 0, 0 }
#define INTEND_MARK(how)   { STAGE_MARKING, DO_INTEND | DO_MARK, CHECK_##how, 0, 0 }
#define INTEND_GIVE(how)   { STAGE_GIVING, DO_INTEND | DO_GIVE, CHECK_##how, 0, 0 }
#define SETTLE(as)         { STAGE_ENDED, DO_SETTLE, CHECK_KEEP, 0, OUTCOME_##as }
#define END(state, as)     { STAGE_ENDED, DO_RECORD | DO_SETTLE, CHECK_KEEP, GRANT_##state, OUTCOME_##as }

/*  What happens at which stage. An ended grant is gone: nothing happens to it. */
static const struct grant_cell cells[HAPPENINGS][STAGE_ENDED] = {
    /*                    new               reading              marking                   giving */
    [ON_EVENT] =        { READ,             NEVER,               NEVER,                    NEVER },
    [ON_RESUMED] =      { MARK (GRACE),     NEVER,               NEVER,                    NEVER },
    [ON_RETRIED] =      { MARK (QUIET),     NEVER,               NEVER,                    NEVER },

    [ON_UNREADABLE] =   { NEVER,            SETTLE (FAILURE),    NEVER,                    NEVER },
    [ON_NOT_DUE] =      { SETTLE (IGNORED), SETTLE (IGNORED),    NEVER,                    NEVER },
    [ON_OWN_GIVEN] =    { SETTLE (SUCCESS), SETTLE (SUCCESS),    NEVER,                    NEVER },
    [ON_OWN_PARKED] =   { SETTLE (FAILURE), SETTLE (FAILURE),    NEVER,                    NEVER },
    [ON_DUE] =          { NEVER,            INTEND_MARK (NONE),  NEVER,                    NEVER },
    [ON_DUE_AGAIN] =    { NEVER,            INTEND_MARK (QUIET), NEVER,                    NEVER },
    [ON_UNEXPLAINED] =  { NEVER,            INTEND_GIVE (QUIET), NEVER,                    NEVER },

    [ON_MARKED] =       { NEVER,            NEVER,               GIVE (KEEP),              NEVER },
    [ON_NOT_MARKED] =   { NEVER,            NEVER,               END (REFUSED, FAILURE),   NEVER },
    [ON_MAYBE_MARKED] = { NEVER,            NEVER,               END (UNCERTAIN, FAILURE), NEVER },

    [ON_GIVEN] =        { NEVER,            NEVER,               NEVER,                    END (GIVEN, SUCCESS) },
    [ON_FOUND] =        { NEVER,            NEVER,               NEVER,                    END (GIVEN, SUCCESS) },
    [ON_FOUND_OTHER] =  { NEVER,            NEVER,               NEVER,                    END (GIVEN, IGNORED) },
    [ON_REFUSED] =      { NEVER,            NEVER,               NEVER,                    END (REFUSED, FAILURE) },
    [ON_UNCERTAIN] =    { NEVER,            NEVER,               NEVER,                    END (UNCERTAIN, FAILURE) },

    [ON_FORGOTTEN] =    { NEVER,            READ,                MARK (KEEP),              GIVE (GRACE) },
};

/* clang-format on */

const struct grant_cell *grant_cell (enum stage stage, enum happening happening)
{
    assert ((unsigned) happening < HAPPENINGS);
    if ((unsigned) stage >= STAGE_ENDED)
        return NULL;
    const struct grant_cell *cell = &cells[happening][stage];
    return cell->does ? cell : NULL;
}

const char *stage_name (enum stage stage)
{
    static const char *const names[] = { "new", "reading", "marking", "giving", "ended" };
    assert ((unsigned) stage <= STAGE_ENDED);
    return names[stage];
}
