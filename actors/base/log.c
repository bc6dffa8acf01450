/*  log.c - one line, one write, no allocation.

    What is logged comes from peers as often as from us, so every string is
    made safe here: a user id with a newline cannot forge a line, bytes that
    are not UTF-8 cannot spoil the JSON, and a terminal gets no control bytes.
*/
#include "actors/base/log.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "proto/text.h"

enum {
    /*  A pipe takes so much at once or not at all, so lines of several threads
        do not mix. The bounds below add up to less. */
    LINE_SIZE_MAX = 4096,
    ESCAPED_SIZE_MAX = 2400, /* bytes of JSON that a message may become */
    USER_SHOWN_MAX = 100,    /* bytes of a user id in a line, before escaping */
    ACTOR_SHOWN_MAX = 32,    /* bytes of an actor's name */
    HOSTNAME_SIZE_MAX = 65,  /* with its terminator; Linux allows 64 */
    ACTOR_COLUMN = 16        /* where text lines are aligned */
};

_Static_assert(LINE_SIZE_MAX <= PIPE_BUF, "a line is one write");

/*  Set by log_open before there are threads; read-only after. */
static struct {
    enum log_level level;
    enum log_format format;
    bool colour;
    char hostname[HOSTNAME_SIZE_MAX];
} settings = { .level = LOG_INFO, .format = LOG_FORMAT_TEXT };

static atomic_uint_fast64_t dropped;

/*  A line was cut off in the middle: the next one starts with a newline. */
static atomic_bool torn;

void log_open (enum log_level level, enum log_format format)
{
    settings.level = level;
    settings.format = format;
    settings.colour = isatty (STDOUT_FILENO) == 1;
    if (gethostname (settings.hostname, sizeof settings.hostname - 1) != 0) {
        settings.hostname[0] = '\0';
    }
}

bool log_wants (enum log_level level)
{
    return level >= settings.level;
}

enum log_level log_least (void)
{
    return settings.level;
}

uint64_t log_dropped (void)
{
    return atomic_load (&dropped);
}

/*  ---- JSON ---------------------------------------------------------------- */

/*  At most `max` bytes, never half a character. The text is UTF-8. */
static struct text cut_utf8 (struct text text, uint32_t max)
{
    if (text.size <= max) {
        return text;
    }
    text.size = max;
    while (text.size > 0 && ((unsigned char) text.data[text.size] & 0xC0) == 0x80) {
        text.size--;
    }
    return text;
}

static void add_json_byte (struct builder *line, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";
    static const char *const names[0x20] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"
    };
    if (byte == '"' || byte == '\\') {
        builder_add (line, (struct text){ (const char[]){ '\\', (char) byte }, 2 });
    } else if (byte >= 0x20 && byte != 0x7F) {
        builder_add (line, (struct text){ (const char *) &byte, 1 });
    } else if (byte < 0x20 && names[byte]) {
        builder_literal (line, names[byte]);
    } else {
        builder_literal (line, "\\u00");
        builder_add (line, (struct text){ (const char[]){ digits[byte >> 4], digits[byte & 15] }, 2 });
    }
}

/*  Appends the text escaped, until that takes ESCAPED_SIZE_MAX bytes; false
    when it did not all fit. Never half a character. */
static bool add_escaped (struct builder *line, struct text text)
{
    enum { CHARACTER_SIZE_MAX = 6 }; /* as JSON: four bytes of UTF-8, or \u00XX */
    size_t start = line->size;
    for (uint32_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char) text.data[i];
        bool begins = (byte & 0xC0) != 0x80;
        if (begins && line->size - start + CHARACTER_SIZE_MAX > ESCAPED_SIZE_MAX) {
            return false;
        }
        add_json_byte (line, byte);
    }
    return true;
}

/*  A JSON string of at most `max` bytes of the text. What is UTF-8 is given
    exactly; what is not, as it would be shown to people. */
static void add_json (struct builder *line, struct text text, uint32_t max)
{
    char memory[LOG_SIZE_MAX + 8];
    assert (max < sizeof memory - 4);
    bool cut = text.size > max;
    if (text_is_utf8 (text)) {
        text = cut_utf8 (text, max);
    } else {
        struct builder shown;
        builder_init (&shown, memory, sizeof memory);
        builder_printable (&shown, text, max);
        text = builder_text (&shown);
        cut = false; /* builder_printable says so by itself */
    }
    builder_literal (line, "\"");
    cut = !add_escaped (line, text) || cut;
    builder_literal (line, cut ? "…\"" : "\"");
}

static void add_padded (struct builder *line, uint64_t number, unsigned digits)
{
    char memory[24];
    int size = snprintf (memory, sizeof memory, "%0*llu", (int) digits, (unsigned long long) number);
    assert (size > 0 && (size_t) size < sizeof memory);
    builder_add (line, (struct text){ memory, (uint32_t) size });
}

static void add_trace (struct builder *line, uint64_t trace)
{
    char memory[17];
    snprintf (memory, sizeof memory, "%016llx", (unsigned long long) trace);
    builder_literal (line, memory);
}

/*  "12:00:01.123" */
static void add_clock (struct builder *line, const struct tm *date, const struct timespec *now)
{
    add_padded (line, (uint64_t) date->tm_hour, 2);
    builder_literal (line, ":");
    add_padded (line, (uint64_t) date->tm_min, 2);
    builder_literal (line, ":");
    add_padded (line, (uint64_t) date->tm_sec, 2);
    builder_literal (line, ".");
    add_padded (line, (uint64_t) now->tv_nsec / 1000000, 3);
}

static void add_time_utc (struct builder *line, const struct timespec *now)
{
    struct tm date;
    gmtime_r (&now->tv_sec, &date);
    add_padded (line, (uint64_t) date.tm_year + 1900, 4);
    builder_literal (line, "-");
    add_padded (line, (uint64_t) date.tm_mon + 1, 2);
    builder_literal (line, "-");
    add_padded (line, (uint64_t) date.tm_mday, 2);
    builder_literal (line, "T");
    add_clock (line, &date, now);
    builder_literal (line, "Z");
}

/*  The fields of bunyan, version 0, with ours between. */
static void json_line (struct builder *line, const struct timespec *now, const char *actor,
                       enum log_level level, struct about about, struct text text)
{
    builder_literal (line, "{\"name\":\"guerdon\",\"hostname\":");
    add_json (line, text_of (settings.hostname), HOSTNAME_SIZE_MAX);
    builder_literal (line, ",\"pid\":");
    builder_uint (line, (uint64_t) getpid ());
    builder_literal (line, ",\"level\":");
    builder_uint (line, (uint64_t) level);
    builder_literal (line, ",\"actor\":");
    add_json (line, text_of (actor), ACTOR_SHOWN_MAX);
    if (about.position > 0) {
        builder_literal (line, ",\"event\":");
        builder_uint (line, about.position);
    }
    if (about.user.size > 0) {
        builder_literal (line, ",\"user\":");
        add_json (line, about.user, USER_SHOWN_MAX);
    }
    if (about.trace != 0) {
        builder_literal (line, ",\"trace\":\"");
        add_trace (line, about.trace);
        builder_literal (line, "\"");
    }
    builder_literal (line, ",\"msg\":");
    add_json (line, text, LOG_SIZE_MAX);
    builder_literal (line, ",\"time\":\"");
    add_time_utc (line, now);
    builder_literal (line, "\",\"v\":0}\n");
}

/*  ---- text ---------------------------------------------------------------- */

static const char *colour_of (enum log_level level)
{
    if (level >= LOG_ERROR) {
        return "\033[31m";
    }
    if (level >= LOG_WARN) {
        return "\033[33m";
    }
    return level >= LOG_INFO ? "\033[32m" : "\033[90m";
}

static void add_spaces (struct builder *line, size_t from, size_t column)
{
    for (size_t i = from; i < column; i++) {
        builder_literal (line, " ");
    }
}

static void add_level (struct builder *line, enum log_level level)
{
    enum { LEVEL_COLUMN = 5 };
    struct text name = text_of (log_level_name (level));
    if (settings.colour) {
        builder_literal (line, colour_of (level));
    }
    builder_add (line, name);
    if (settings.colour) {
        builder_literal (line, "\033[0m");
    }
    add_spaces (line, name.size, LEVEL_COLUMN);
}

/*  Local time, as people read it: "12:00:01.123 INFO  decision …". */
static void text_line (struct builder *line, const struct timespec *now, const char *actor,
                       enum log_level level, struct about about, struct text text)
{
    struct tm date;
    localtime_r (&now->tv_sec, &date);
    add_clock (line, &date, now);
    builder_literal (line, " ");
    add_level (line, level);
    builder_literal (line, " ");
    size_t start = line->size;
    builder_printable (line, text_of (actor), ACTOR_SHOWN_MAX);
    add_spaces (line, line->size - start, ACTOR_COLUMN);
    if (about.position > 0) {
        builder_literal (line, " event ");
        builder_uint (line, about.position);
    }
    if (about.user.size > 0) {
        builder_literal (line, " ");
        builder_printable (line, about.user, USER_SHOWN_MAX);
    }
    builder_literal (line, about.position > 0 || about.user.size > 0 ? ": " : " ");
    builder_printable (line, text, LOG_SIZE_MAX);
    builder_literal (line, "\n");
}

/*  ---- writing ------------------------------------------------------------- */

/*  Writes it all, or counts the line as dropped. `line` has room for one byte
    in front. */
static void write_line (char *line, size_t size)
{
    bool was_torn = atomic_exchange (&torn, false);
    if (was_torn) {
        *--line = '\n';
        size++;
    }
    size_t written = 0;
    while (written < size) {
        ssize_t result = write (STDOUT_FILENO, line + written, size - written);
        if (result > 0) {
            written += (size_t) result;
        } else if (result == 0 || errno != EINTR) {
            atomic_fetch_add (&dropped, 1);
            if (was_torn || written > 0) {
                atomic_store (&torn, true);
            }
            return;
        }
    }
}

void log_write (const char *actor, enum log_level level, struct about about, struct text text)
{
    assert (actor);
    if (!log_wants (level)) {
        return;
    }
    int saved = errno;
    struct timespec now;
    clock_gettime (CLOCK_REALTIME, &now);

    char memory[LINE_SIZE_MAX];
    struct builder line;
    builder_init (&line, memory + 1, sizeof memory - 1); /* room for write_line's newline */
    if (settings.format == LOG_FORMAT_JSON) {
        json_line (&line, &now, actor, level, about, text);
    } else {
        text_line (&line, &now, actor, level, about, text);
    }
    assert (!line.overflow);
    write_line (memory + 1, line.size);
    errno = saved;
}

void log_say (const char *actor, enum log_level level, const char *format, ...)
{
    assert (format);
    if (!log_wants (level)) {
        return;
    }
    char text[LOG_SIZE_MAX + 1];
    va_list arguments;
    va_start (arguments, format);
    int size = vsnprintf (text, sizeof text, format, arguments);
    va_end (arguments);
    if (size < 0) {
        return;
    }
    log_write (actor, level, (struct about){ 0 }, text_of (text));
}

void log_no_memory (const char *actor)
{
    log_say (actor, LOG_FATAL, "out of memory: the process ends, and what is unfinished will come again");
    abort ();
}
