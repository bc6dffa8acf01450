/*  clock.h - the time, in the units that shells and programs count in.

    Two clocks. The steady one never goes back and nobody sets it; it begins at some
    moment of the machine (its start, on Linux), stands still while that sleeps, and
    says nothing to another machine. Deadlines and durations are of it. The wall's
    counts from the epoch, UTC; whoever sets it makes it jump, ahead or back. What
    is shown, sent or kept is stamped with it.

    Both are cut to the unit, never rounded up, and cannot fail. A core has no use for
    this file: its shell hands it the moment (include/actor.h).
*/
#ifndef GUERDON_CLOCK_H
#define GUERDON_CLOCK_H

#include <stdint.h>
#include <time.h>

/*  What a clock shows, in nanoseconds: one of the two, or one that counts processor
    time (CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID). */
static inline uint64_t clock_read_ns (clockid_t clock)
{
    struct timespec now;
    clock_gettime (clock, &now);
    return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}

/*  The steady clock, in microseconds. */
static inline uint64_t clock_steady_us (void)
{
    return clock_read_ns (CLOCK_MONOTONIC) / 1000;
}

/*  The steady clock, in milliseconds. */
static inline uint64_t clock_steady_ms (void)
{
    return clock_steady_us () / 1000;
}

/*  The wall's clock, in microseconds since the epoch; may jump. */
static inline uint64_t clock_wall_us (void)
{
    return clock_read_ns (CLOCK_REALTIME) / 1000;
}

/*  The wall's clock, in milliseconds since the epoch; may jump. */
static inline uint64_t clock_wall_ms (void)
{
    return clock_wall_us () / 1000;
}

#endif
