/*  mistake.h - deliberate mistakes, for the test that they are found.

    In every build but the simulator's MISTAKE is 0, and the compiler leaves
    nothing of it. The simulator compiles the rooms a second time, with
    GUERDON_MISTAKES, and switches one mistake on at a time: a campaign that does
    not find it is no proof of anything.
*/
#ifndef GUERDON_MISTAKE_H
#define GUERDON_MISTAKE_H

/*  name, what is wrong then */
#define MISTAKES(_)                                                                                          \
    _ (ACK_BEFORE_SETTLE, "an event counts as settled when it is handed on")                                 \
    _ (GIVE_WITHOUT_FIND, "a reward whose outcome is unknown is given again without asking")                 \
    _ (NO_DEDUPE, "what a hop repeats is delivered again")                                                   \
    _ (COMMIT_AFTER_SEND, "a turn's messages leave before its records are on disk")                          \
    _ (ORDER_BROKEN, "the newest event of a player goes first")                                              \
    _ (RETRY_REFUSED, "a request that was refused for good is made again for ever")                          \
    _ (SAVED_TOO_EARLY, "what was read ahead is acknowledged")                                               \
    _ (GAP_IGNORED, "an id that is missing is passed over at once")                                          \
    _ (BREAKER_STAYS_OPEN, "a service that was down stays down")                                             \
    _ (COUNTED_TWICE, "an outcome is counted twice")

#ifdef GUERDON_MISTAKES
#define MISTAKE_NAME(name, what) MISTAKE_##name,
enum mistake { MISTAKE_NONE, MISTAKES (MISTAKE_NAME) MISTAKE_COUNT };
#undef MISTAKE_NAME

/*  The one that is switched on. */
extern enum mistake mistake;
#define MISTAKE(name) (mistake == MISTAKE_##name)
#else
#define MISTAKE(name) 0
#endif

#endif
