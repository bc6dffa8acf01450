/*  slow_sync.c - a disk whose fsync takes its time, for LD_PRELOAD.

    SYNC_DELAY_US says how long fsync and fdatasync wait before they do what they
    always do. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int fsync (int descriptor);
int fdatasync (int descriptor);

static int delayed (const char *name, int descriptor)
{
    int (*real) (int);
    *(void **) &real = dlsym (RTLD_NEXT, name);
    const char *text = getenv ("SYNC_DELAY_US");
    long delay_us = text ? strtol (text, NULL, 10) : 0;
    struct timespec delay = { delay_us / 1000000, delay_us % 1000000 * 1000 };
    nanosleep (&delay, NULL);
    return real (descriptor);
}

int fsync (int descriptor)
{
    return delayed ("fsync", descriptor);
}

int fdatasync (int descriptor)
{
    return delayed ("fdatasync", descriptor);
}
