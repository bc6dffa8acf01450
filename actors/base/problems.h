/*  problems.h - everything that is wrong with a configuration, collected.

    One line a problem, each naming the variable, or the place in a file, and
    what was expected; never a secret.
*/
#ifndef GUERDON_PROBLEMS_H
#define GUERDON_PROBLEMS_H

#include <stddef.h>

struct problems {
    char text[16384]; /* lines, each ending in a newline; terminated */
    size_t size;      /* bytes of text */
    unsigned count;   /* of all problems, also of those that did not fit */
};

/*  Adds one line, without its newline. A line that does not fit is counted
    only. */
void problems_add (struct problems *problems, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));

#endif
