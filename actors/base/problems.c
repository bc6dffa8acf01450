/*  problems.c - collects lines in fixed memory.
*/
#include "actors/base/problems.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

void problems_add (struct problems *problems, const char *format, ...)
{
    assert (problems && format);
    problems->count++;

    size_t room = sizeof problems->text - problems->size;
    char *at = problems->text + problems->size;
    va_list arguments;
    va_start (arguments, format);
    int size = vsnprintf (at, room, format, arguments);
    va_end (arguments);
    if (size < 0 || (size_t) size + 1 >= room) { /* the newline needs a byte, too */
        *at = '\0';
        return;
    }
    at[size] = '\n';
    at[size + 1] = '\0';
    problems->size += (size_t) size + 1;
}
