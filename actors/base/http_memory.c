/*  http_memory.c - see http_memory.h.

    A block begins with a head that says its grade, which is its size in steps. Each
    thread has a list of free blocks for each grade; what is larger than the largest
    grade, or more than a thread may keep, is the C library's, and has grade 0.
*/
#include "actors/base/http_memory.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define KEEPS false
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define KEEPS false
#endif
#endif
#ifndef KEEPS
#define KEEPS true
#endif

enum {
    STEP_SIZE = 64,         /* from one grade to the next */
    GRADES = 33,            /* the largest has 2 kB */
    KEPT_SIZE_MAX = 1 << 17 /* bytes that a thread keeps */
};

struct block {
    alignas (max_align_t) size_t grade;
    struct block *next; /* while it is free */
};

/*  What is handed out begins behind the head, aligned as malloc does. */
enum { HEAD_SIZE = alignof (max_align_t) };
_Static_assert(sizeof (struct block) == HEAD_SIZE, "the head of a block keeps the alignment");

/*  What a thread keeps. */
struct kept {
    struct block *blocks[GRADES]; /* of grade 0: none */
    size_t size;
    bool known; /* the thread's end will free it */
};

static _Thread_local struct kept kept;
static pthread_key_t at_end;

static size_t size_of_grade (size_t grade)
{
    return grade * STEP_SIZE;
}

/*  The end of a thread. */
static void free_kept (void *context)
{
    struct kept *mine = context;
    for (size_t grade = 0; grade < GRADES; grade++) {
        struct block *block;
        while ((block = mine->blocks[grade]) != NULL) {
            mine->blocks[grade] = block->next;
            free (block);
        }
    }
    *mine = (struct kept){ 0 };
}

bool http_memory_init (void)
{
    return pthread_key_create (&at_end, free_kept) == 0;
}

/*  The grade of a block for so many bytes; 0 when it is not to be kept. */
static size_t grade_of (size_t size)
{
    size_t grade = size ? (size + STEP_SIZE - 1) / STEP_SIZE : 1;
    return KEEPS && grade < GRADES ? grade : 0;
}

void *http_memory_take (size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    size_t grade = grade_of (size);
    struct block *block = kept.blocks[grade];
    if (block) {
        kept.blocks[grade] = block->next;
        kept.size -= size_of_grade (grade);
        return (char *) block + HEAD_SIZE;
    }
    block = malloc (HEAD_SIZE + (grade ? size_of_grade (grade) : size));
    if (!block)
        return NULL;
    block->grade = grade;
    return (char *) block + HEAD_SIZE;
}

void http_memory_give (void *memory)
{
    if (!memory)
        return;
    struct block *block = (struct block *) ((char *) memory - HEAD_SIZE);
    size_t grade = block->grade;
    if (!kept.known)
        kept.known = pthread_setspecific (at_end, &kept) == 0;
    if (grade == 0 || !kept.known || kept.size + size_of_grade (grade) > KEPT_SIZE_MAX) {
        free (block);
        return;
    }
    block->next = kept.blocks[grade];
    kept.blocks[grade] = block;
    kept.size += size_of_grade (grade);
}

void *http_memory_resize (void *memory, size_t size)
{
    if (!memory)
        return http_memory_take (size);
    struct block *block = (struct block *) ((char *) memory - HEAD_SIZE);
    if (block->grade == 0) {
        block = size > SIZE_MAX / 2 ? NULL : realloc (block, HEAD_SIZE + size);
        return block ? (char *) block + HEAD_SIZE : NULL;
    }
    size_t before = size_of_grade (block->grade);
    if (size <= before)
        return memory;
    void *found = http_memory_take (size);
    if (found) {
        memcpy (found, memory, before);
        http_memory_give (memory);
    }
    return found;
}

char *http_memory_copy (const char *string)
{
    size_t size = strlen (string) + 1;
    char *copy = http_memory_take (size);
    return copy ? memcpy (copy, string, size) : NULL;
}

void *http_memory_take_zeroed (size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow (count, size, &bytes))
        return NULL;
    void *found = http_memory_take (bytes);
    return found ? memset (found, 0, bytes) : NULL;
}
