/*  http_memory.h - memory for curl, which takes and gives back about forty blocks
    for each request: what it gives back is kept for the thread, by size.

    A thread keeps at most 128 kB. A block may be given back by another thread than
    took it; then that thread keeps it. Under a sanitizer every call goes to the C library, so that it sees them.
*/
#ifndef GUERDON_HTTP_MEMORY_H
#define GUERDON_HTTP_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/*  Once in a process, before the rest; false on failure. */
bool http_memory_init (void);

/*  As malloc, free, realloc, strdup and calloc. */
void *http_memory_take (size_t size);
void http_memory_give (void *memory);
void *http_memory_resize (void *memory, size_t size);
char *http_memory_copy (const char *string);
void *http_memory_take_zeroed (size_t count, size_t size);

#endif
