/*  memory_file.h - bytes as a file that has a path and no place on a disk. */
#ifndef GUERDON_MEMORY_FILE_H
#define GUERDON_MEMORY_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MEMORY_FILE_PATH_SIZE = 32 };

/*  Makes one that only its owner may read; its descriptor is to be closed, and its
    path is good until then. */
static inline int memory_file (const uint8_t *bytes, size_t size, char path[MEMORY_FILE_PATH_SIZE])
{
    int file = memfd_create ("fuzz", MFD_CLOEXEC);
    if (file < 0 || fchmod (file, S_IRUSR | S_IWUSR) != 0 || write (file, bytes, size) != (ssize_t) size)
        abort ();
    snprintf (path, MEMORY_FILE_PATH_SIZE, "/dev/fd/%d", file);
    return file;
}

#endif
