/*  backoff.c - how long to wait before an attempt is made again. */

#include "include/backoff.h"

#include <assert.h>

/*  Spreads a number over 64 bits: the finaliser of SplitMix64. */
static uint64_t spread (uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint32_t backoff_ms (uint32_t attempts, uint64_t salt)
{
    assert (attempts > 0);
    uint32_t step = BACKOFF_MIN_MS;
    for (uint32_t i = 1; i < attempts && step < BACKOFF_MAX_MS; i++)
        step *= 2;
    if (step > BACKOFF_MAX_MS)
        step = BACKOFF_MAX_MS;

    /*  The attempt goes into the jitter as well, so that two waiters that come
        close once do not stay together. */
    uint64_t noise = spread (salt + (attempts * UINT64_C (0x9e3779b97f4a7c15)));
    return BACKOFF_FLOOR_MS + (uint32_t) (noise % (step - BACKOFF_FLOOR_MS + 1));
}
