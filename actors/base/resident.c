/*  resident.c - see resident.h.

    Read-only parts of a program that were written once (relocated data, made
    read-only afterwards) look like the others in the list of mappings; their
    pages are anonymous by then, and dropping them would bring back the bytes of
    the file. So only mappings without a single anonymous page are dropped.
*/
#include "actors/base/resident.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/*  One mapping, as the lines of smaps tell it. */
struct mapping {
    uintptr_t from;
    uintptr_t to;
    bool clean_file; /* a private, read-only view of a file */
};

/*  Reads the line that begins a mapping; false for any other line. */
static bool read_head (const char *line, struct mapping *mapping)
{
    char access[8] = "";
    char path[8] = "";
    uintptr_t from;
    uintptr_t to;
    int fields = sscanf (line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %*s %7s", &from, &to, access, path);
    if (fields < 3)
        return false;
    mapping->from = from;
    mapping->to = to;
    mapping->clean_file =
        fields == 4 && access[0] == 'r' && access[1] == '-' && access[3] == 'p' && path[0] == '/';
    return true;
}

void resident_trim (void)
{
    malloc_trim (0);
    FILE *smaps = fopen ("/proc/self/smaps", "re");
    char line[4400];
    struct mapping mapping = { 0 };
    unsigned long anonymous_kb;
    if (!smaps)
        return;
    while (fgets (line, sizeof line, smaps)) {
        if (read_head (line, &mapping))
            continue;
        if (sscanf (line, "Anonymous: %lu kB", &anonymous_kb) == 1 && anonymous_kb == 0 && mapping.clean_file)
            madvise ((void *) mapping.from, mapping.to - mapping.from, MADV_DONTNEED);
    }
    fclose (smaps);
}
