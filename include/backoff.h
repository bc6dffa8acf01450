/*  backoff.h - how long to wait before an attempt is made again.

    Exponential with jitter, from 100 ms to 5 s. Pure: the jitter comes from a
    salt of the caller, so that two requests, or two processes, that failed
    together do not come back together.
*/
#ifndef GUERDON_BACKOFF_H
#define GUERDON_BACKOFF_H

#include <stdint.h>

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 5000 };

/*  The wait in ms after `attempts` failures in a row (1 and up): between half
    and all of the step, which doubles with each. `salt` is any number that
    differs between the waiters. */
uint32_t backoff_ms (uint32_t attempts, uint64_t salt);

#endif
