/*  crash_point.c - see crash_point.h. For builds with GUERDON_CRASH_POINTS only.

        GUERDON_CRASH_AT   ACTOR/NAME:N, the point where the process is killed by
                           SIGKILL, the N-th time it is passed, from 1
        GUERDON_CRASH_LOG  a file that gets a line, ACTOR/NAME, each time a point is
                           passed

    A point whose N-th time does not come does not kill.
*/
#include "actors/base/crash_point.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME_SIZE = 128 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char wanted[NAME_SIZE]; /* "" for nowhere */
static long wanted_at;
static atomic_long passed;
static int log_file = -1;

/*  A process that is told a point that makes no sense must not seem to have survived
    it. */
static void give_up (const char *why)
{
    fprintf (stderr, "crash point: %s\n", why);
    abort ();
}

static void read_environment (void)
{
    const char *at = getenv ("GUERDON_CRASH_AT");
    const char *log = getenv ("GUERDON_CRASH_LOG");
    if (log)
        log_file = open (log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log && log_file < 0)
        give_up ("cannot open GUERDON_CRASH_LOG");
    if (!at)
        return;
    const char *colon = strrchr (at, ':');
    char *end = NULL;
    wanted_at = colon ? strtol (colon + 1, &end, 10) : 0;
    if (!colon || wanted_at < 1 || *end || colon - at >= NAME_SIZE)
        give_up ("GUERDON_CRASH_AT is ACTOR/NAME:N, N from 1");
    memcpy (wanted, at, (size_t) (colon - at));
}

void crash_point_pass (const char *actor, const char *name)
{
    char place[NAME_SIZE + 1];
    pthread_once (&once, read_environment);
    int size = snprintf (place, NAME_SIZE, "%s/%s", actor, name);
    if (size <= 0 || size >= NAME_SIZE)
        give_up ("a name is too long");
    if (!strcmp (place, wanted) && atomic_fetch_add (&passed, 1) + 1 == wanted_at)
        kill (getpid (), SIGKILL);
    place[size] = '\n';
    if (log_file >= 0 && write (log_file, place, (size_t) size + 1) != size + 1)
        give_up ("cannot write GUERDON_CRASH_LOG");
}
