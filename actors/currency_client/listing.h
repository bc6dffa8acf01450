/*  listing.h - is a reward among the transactions that a service lists?

    The list comes in pages, as the service likes: newest first or oldest first,
    fewer than were asked for, with or without an understanding of `before`. What
    is on a page counts at once. That something is on none is said only when the
    pages show that they were all:

    -   An empty first page is all.
    -   After any other the list is asked for before the oldest timestamp seen,
        and one ms: whether the service takes `before` with or without that
        moment itself, transactions of the same ms are not skipped. It has to
        list the oldest one again; a service that does not means something else by
        `before`, and cannot answer.
    -   Something older on it: it goes on from there. Nothing older, and fewer
        than the service has shown on a page: there was room and nothing left, it
        is all. As many: the page may have been full of one moment, so what is
        below that moment is asked for. Nothing is there: it is all. Something:
        there may be more of that moment than a page holds, and the list cannot
        answer.
    -   A service that lists newer transactions than asked for ignores `before`:
        a page shorter than LISTING_LIMIT is all, a full one cannot answer.
        So is it when transactions have no timestamps.
    -   A full page that is not newest first, with nothing older, may lack the
        newest; and of a page in no order at all, with something older, nobody
        knows what it lacks: it cannot answer.
    -   Of a page that was cut (by a broken reply) the part that came counts when
        it is newest first, and is never taken for the end.
    -   No array, an element that is no object, a data that is none: cannot
        answer, unless the reward is found beside it.

    What this relies on: a service that lists fewer than LISTING_LIMIT although it
    has more leaves out the oldest, honours `before`, and lists no fewer at once
    than the player has transactions of the oldest ms.

    Pure.
*/
#ifndef GUERDON_LISTING_H
#define GUERDON_LISTING_H

#include "proto/message.h"
#include "proto/text.h"

/*  Transactions asked for at once, and pages of one search at most. */
enum { LISTING_LIMIT = 1000, LISTING_PAGES_MAX = 64 };

/*  What the next page is asked for. */
enum listing_step {
    LISTING_FIRST, /* the list */
    LISTING_OLDER, /* what is older, with the oldest moment itself */
    LISTING_BELOW, /* what is older, without it, if `before` is exclusive */
    LISTING_UNDER  /* the same if it is inclusive */
};

/*  A search while it goes on. All zero: from the beginning. */
struct listing {
    enum listing_step step;
    uint32_t pages;             /* so far */
    uint32_t count_max;         /* transactions on one of them, at most */
    uint64_t oldest;            /* timestamp, of all that was seen */
    bool newest_may_be_missing; /* from the first page, which was full */
    bool unsorted;              /* the page before was neither newest nor oldest first */
};

/*  What is looked for. `from` of a reward is ours, or is not told. */
struct listing_wanted {
    struct text from;
    struct text currency;
    struct text reward;
};

enum listing_answer {
    LISTING_FOUND,
    LISTING_NOT_THERE,
    LISTING_MORE,   /* the next page has to be asked for */
    LISTING_UNCLEAR /* cannot be said */
};

/*  Appends the query that asks for the next page. A currency that a service would
    take for two, or trim, is not asked for by name. */
void listing_add_query (struct builder *path, const struct listing *listing, struct text currency);

/*  Takes the page that was asked for. `*why` says what is wrong when it is
    unclear; a constant. */
enum listing_answer listing_take (struct listing *listing, const struct listing_wanted *wanted,
                                  enum body_state state, struct raw body, const char **why);

#endif
