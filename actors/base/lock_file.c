/*  lock_file.c - see lock_file.h. */

#include "actors/base/lock_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RETRY_MS = 10 };

/*  The number in the file; 0 when there is none. */
static long read_holder (int fd)
{
    char text[32] = "";
    ssize_t size = pread (fd, text, sizeof text - 1, 0);
    return size > 0 ? strtol (text, NULL, 10) : 0;
}

/*  Whoever is refused can say who has it. That it cannot be said does not matter:
    the lock holds without. */
static void write_holder (int fd)
{
    char text[32];
    int size = snprintf (text, sizeof text, "%ld\n", (long) getpid ());
    if (ftruncate (fd, 0) != 0 || pwrite (fd, text, (size_t) size, 0) != size)
        return;
}

static void say_holder (int fd, const char *path, char *reason, size_t reason_size)
{
    long holder = read_holder (fd);
    if (holder > 0)
        snprintf (reason, reason_size, "process %ld has the lock %s", holder, path);
    else
        snprintf (reason, reason_size, "another process has the lock %s", path);
}

int lock_file_take (const char *path, char *reason, size_t reason_size)
{
    int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    int failure = errno;
    if (fd < 0) {
        snprintf (reason, reason_size, "cannot open %s: %s", path, strerror (failure));
        errno = failure;
        return -1;
    }
    if (flock (fd, LOCK_EX | LOCK_NB) == 0) {
        write_holder (fd);
        return fd;
    }
    failure = errno;
    if (failure == EWOULDBLOCK)
        say_holder (fd, path, reason, reason_size);
    else
        snprintf (reason, reason_size, "cannot lock %s: %s", path, strerror (failure));
    close (fd);
    errno = failure;
    return -1;
}

int lock_file_wait (const char *path, unsigned wait_ms, char *reason, size_t reason_size)
{
    int lock = lock_file_take (path, reason, reason_size);
    for (unsigned waited_ms = 0; lock < 0 && errno == EWOULDBLOCK && waited_ms < wait_ms;
         waited_ms += RETRY_MS) {
        poll (NULL, 0, RETRY_MS);
        lock = lock_file_take (path, reason, reason_size);
    }
    return lock;
}

void lock_file_release (int *lock)
{
    if (*lock >= 0)
        close (*lock);
    *lock = -1;
}
