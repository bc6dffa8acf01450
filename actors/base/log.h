/*  log.h - the log of the process, on standard output.

    JSON lines that bunyan's tools read, or text for people. One line is one
    write. Safe from any thread once opened.
*/
#ifndef GUERDON_LOG_H
#define GUERDON_LOG_H

#include <stdint.h>

#include "include/effects.h"

enum log_format { LOG_FORMAT_JSON, LOG_FORMAT_TEXT };

/*  Sets how to write, before there are threads. Until then: text, INFO. */
void log_open (enum log_level level, enum log_format format);

/*  True when lines of this level are written. */
bool log_wants (enum log_level level);

/*  The lowest level that is written. */
enum log_level log_least (void);

/*  Writes a line of an actor, or of "guerdon" itself. `about` may be empty. */
void log_write (const char *actor, enum log_level level, struct about about, struct text text);

/*  The same with printf's format and nothing it is about. */
void log_say (const char *actor, enum log_level level, const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));

/*  Says that there is no memory left, and aborts: for those who can neither go on
    without nor tell whoever waits for them. Whoever starts it again loses nothing. */
_Noreturn void log_no_memory (const char *actor);

/*  Lines that could not be written, because the reader of standard output is
    gone or does not keep up: they are dropped, never waited for. */
uint64_t log_dropped (void);

#endif
