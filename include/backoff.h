/*  backoff.h - how long to wait before an attempt is made again.

    Exponential with full jitter: anything up to a step that doubles from
    100 ms to 5 s. Pure: the jitter comes from a salt of the caller, so that two
    requests, or two processes, that failed together do not come back together.
    Waiters that all wait about as long as the step would still come in a
    crowd; spread over all of it, they come evenly.
*/
#ifndef GUERDON_BACKOFF_H
#define GUERDON_BACKOFF_H

#include <stdint.h>

/*  The first and the last step, and the shortest wait: without that, luck would
    make an attempt follow at once on one that failed at once. */
enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 5000, BACKOFF_FLOOR_MS = 10 };

/*  The wait in ms after `attempts` failures in a row (1 and up): between
    BACKOFF_FLOOR_MS and the step, which doubles with each. `salt` is any number
    that differs between the waiters. */
uint32_t backoff_ms (uint32_t attempts, uint64_t salt);

#endif
