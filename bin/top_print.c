/*  top_print.c - see top_print.h. */

#include "bin/top_print.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "include/policy.h"

enum { CELL_SIZE = 32, CELL_WIDTH_MIN = 7, LINE_SIZE_MAX = 2 * 1024 };

/*  ---- for people ---------------------------------------------------------- */

static void say (struct builder *out, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

static void say (struct builder *out, const char *format, ...)
{
    char line[LINE_SIZE_MAX];
    va_list arguments;
    va_start (arguments, format);
    vsnprintf (line, sizeof line, format, arguments);
    va_end (arguments);
    builder_literal (out, line);
}

static void format_bytes (char *cell, double bytes)
{
    static const char units[] = "BkMGT";
    size_t unit = 0;
    for (; bytes >= 1024 && unit + 2 < sizeof units; unit++)
        bytes /= 1024;
    snprintf (cell, CELL_SIZE, bytes < 10 && unit ? "%.1f%c" : "%.0f%c", bytes, units[unit]);
}

static void format_seconds (char *cell, double seconds)
{
    unsigned long long s = (unsigned long long) seconds;
    if (s < 60)
        snprintf (cell, CELL_SIZE, "%llus", s);
    else if (s < 3600)
        snprintf (cell, CELL_SIZE, "%llum%02llus", s / 60, s % 60);
    else if (s < 86400)
        snprintf (cell, CELL_SIZE, "%lluh%02llum", s / 3600, s % 3600 / 60);
    else
        snprintf (cell, CELL_SIZE, "%llud%02lluh", s / 86400, s % 86400 / 3600);
}

/*  Of a circuit breaker, in words; NULL when it is not one that is known, as from a
    newer version. */
static const char *breaker_name (double value)
{
    static const char *const names[] = {
        [BREAKER_CLOSED] = "closed",
        [BREAKER_HALF_OPEN] = "half-open",
        [BREAKER_OPEN] = "open",
    };
    return value < (double) (sizeof names / sizeof *names) ? names[(size_t) value] : NULL;
}

static void format_value (char *cell, enum top_format format, double value)
{
    if (isnan (value) || (format == FORMAT_BREAKER && !breaker_name (value)))
        snprintf (cell, CELL_SIZE, "-");
    else if (format == FORMAT_BREAKER)
        snprintf (cell, CELL_SIZE, "%s", breaker_name (value));
    else if (format == FORMAT_BYTES)
        format_bytes (cell, value);
    else if (format == FORMAT_SECONDS)
        format_seconds (cell, value);
    else if (format == FORMAT_COUNT)
        snprintf (cell, CELL_SIZE, "%.0f", value);
    else
        snprintf (cell, CELL_SIZE, "%.1f", value);
}

/*  A cell as it is shown. When no request ended between the two looks, times since
    the start stand in parentheses. */
static void format_cell (char *cell, const struct top_column *column, const struct top_line *line,
                         uint64_t now_s)
{
    char bare[CELL_SIZE];
    struct top_column ever = *column;
    double value = top_cell (column, line, now_s);
    ever.kind = KIND_QUANTILE_EVER;
    if (column->kind != KIND_QUANTILE || !isnan (value)) {
        format_value (cell, column->format, value);
        return;
    }
    value = top_cell (&ever, line, now_s);
    format_value (bare, column->format, value);
    snprintf (cell, CELL_SIZE, isnan (value) ? "%s" : "(%.28s)", bare);
}

static int cell_width (const struct top_column *column)
{
    size_t size = column->format == FORMAT_BREAKER ? sizeof "half-open" - 1 : strlen (column->title);
    return (int) (size > CELL_WIDTH_MIN ? size : CELL_WIDTH_MIN);
}

/*  The widest name of a process, so that tables stand below each other. */
static int process_width (const struct top_view *view)
{
    size_t width = sizeof "PROCESS" - 1;
    for (size_t i = 0; i < view->count; i++) {
        size_t size = strlen (view->processes[i].address.name);
        width = size > width ? size : width;
    }
    return (int) width;
}

static int name_width (const struct top_line *lines, size_t count, const char *title)
{
    size_t width = strlen (title);
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen (lines[i].row->name);
        width = size > width ? size : width;
    }
    return (int) width;
}

static const char *process_state (const struct top_sample *sample)
{
    uint64_t ready = 0;
    top_figure (&sample->process, PROCESS_READY, &ready);
    return sample->draining ? "draining" : ready ? "ready" : "not ready";
}

/*  Of a service: in words where /ready was read, else as the figure has it. */
static const char *service_state (const struct top_row *row)
{
    uint64_t up = 0;
    top_figure (row, SERVICE_IS_UP, &up);
    return row->state[0] ? row->state : up ? "up" : "down";
}

static void say_cells (const struct top_view *view, enum top_table table, const struct top_line *line,
                       struct builder *out)
{
    size_t count;
    const struct top_column *columns = top_columns (table, &count);
    for (size_t i = 0; i < count; i++) {
        char cell[CELL_SIZE];
        if (!columns[i].title)
            continue;
        if (line)
            format_cell (cell, &columns[i], line, view->now_s);
        else
            snprintf (cell, sizeof cell, "%s", columns[i].title);
        say (out, "  %*s", cell_width (&columns[i]), cell);
    }
}

static void say_processes (const struct top_view *view, struct builder *out)
{
    int width = process_width (view);
    size_t count =
        top_lines (view->processes, view->count, TABLE_PROCESSES, view->sort, view->now_s, view->lines);
    say (out, "%-*s  %-9s", width, "PROCESS", "STATE");
    say_cells (view, TABLE_PROCESSES, NULL, out);
    say (out, "\n");
    for (size_t i = 0; i < count; i++) {
        const struct top_line *line = &view->lines[i];
        say (out, "%-*s  %-9s", width, line->process->address.name, process_state (&line->process->now));
        say_cells (view, TABLE_PROCESSES, line, out);
        say (out, "\n");
    }
    for (size_t i = 0; i < view->count; i++)
        if (!view->processes[i].now.reached)
            say (out, "%-*s  unreachable: %s\n", width, view->processes[i].address.name,
                 view->processes[i].now.reason);
}

/*  A table of actors or services; nothing when it is empty. */
static void say_table (const struct top_view *view, enum top_table table, const char *title,
                       struct builder *out)
{
    size_t count = top_lines (view->processes, view->count, table, view->sort, view->now_s, view->lines);
    int width = process_width (view);
    int names = name_width (view->lines, count, title);
    bool services = table == TABLE_SERVICES;
    if (!count)
        return;
    say (out, "\n%-*s  %-*s%s", width, "PROCESS", names, title, services ? "  STATE  " : "");
    say_cells (view, table, NULL, out);
    say (out, "\n");
    for (size_t i = 0; i < count; i++) {
        const struct top_line *line = &view->lines[i];
        say (out, "%-*s  %-*s", width, line->process->address.name, names, line->row->name);
        if (services)
            say (out, "  %-7s", service_state (line->row));
        say_cells (view, table, line, out);
        say (out, line->row->reason[0] ? "  %s\n" : "%s\n", line->row->reason);
    }
}

/*  Peers that are there say nothing; what is shown is who is missing. */
static void say_peers (const struct top_view *view, struct builder *out)
{
    int width = process_width (view);
    bool any = false;
    for (size_t i = 0; i < view->count; i++) {
        const struct top_sample *sample = &view->processes[i].now;
        for (size_t j = 0; sample->reached && j < sample->peer_count; j++) {
            const struct top_peer *peer = &sample->peers[j];
            if (strcmp (peer->state, "up") == 0)
                continue;
            if (!any)
                say (out, "\n%-*s  %-15s  %-18s  PEER IS\n", width, "PROCESS", "ACTOR", "PEER");
            any = true;
            say (out, "%-*s  %-15s  %-18s  %s%s%s\n", width, view->processes[i].address.name, peer->of,
                 peer->peer, peer->state, peer->reason[0] ? ": " : "", peer->reason);
        }
    }
}

void top_print_text (const struct top_view *view, struct builder *out)
{
    size_t reached = 0;
    char clock[16] = "";
    struct tm parts;
    time_t now = (time_t) view->now_s;
    for (size_t i = 0; i < view->count; i++)
        reached += view->processes[i].now.reached;
    if (localtime_r (&now, &parts))
        strftime (clock, sizeof clock, "%H:%M:%S", &parts);
    say (out, "guerdon top  %s  %zu of %zu process%s answer\n\n", clock, reached, view->count,
         view->count == 1 ? "" : "es");
    say_processes (view, out);
    say_table (view, TABLE_LAG, "LAG OF", out);
    say_table (view, TABLE_ACTORS, "ACTOR", out);
    say_table (view, TABLE_SERVICES, "SERVICE", out);
    say_peers (view, out);
}

/*  ---- on a terminal ------------------------------------------------------- */

/*  Bytes of the first characters of a line that fit; one character is one column. */
static uint32_t fitting (const char *line, uint32_t size, unsigned columns)
{
    unsigned used = 0;
    uint32_t at = 0;
    while (at < size) {
        bool begins = ((unsigned char) line[at] & 0xC0) != 0x80;
        if (begins && used++ == columns)
            return at;
        at++;
    }
    return size;
}

void top_print_screen (struct text text, unsigned rows, unsigned columns, struct builder *out)
{
    builder_literal (out, "\x1b[H");
    for (unsigned row = 0; row < rows && text.size > 0; row++) {
        const char *end = memchr (text.data, '\n', text.size);
        uint32_t size = end ? (uint32_t) (end - text.data) : text.size;
        builder_literal (out, row > 0 ? "\r\n\x1b[K" : "\x1b[K");
        builder_add (out, (struct text){ text.data, fitting (text.data, size, columns) });
        size += end != NULL;
        text = (struct text){ text.data + size, text.size - size };
    }
    builder_literal (out, "\x1b[J");
}

/*  ---- for scripts --------------------------------------------------------- */

/*  Without its fraction. What a page says may be as large as any number, and a
    little larger once it is a double. */
static uint64_t whole (double value)
{
    return value < (double) UINT64_MAX ? (uint64_t) value : UINT64_MAX;
}

/*  Tenths are all that two looks can tell. */
static void pack_cell (struct packer *out, const struct top_column *column, const struct top_line *line,
                       uint64_t now_s)
{
    double value = top_cell (column, line, now_s);
    pack_literal (out, column->key);
    if (isnan (value) || (column->format == FORMAT_BREAKER && !breaker_name (value)))
        pack_nil (out);
    else if (column->format == FORMAT_BREAKER)
        pack_literal (out, breaker_name (value));
    else if (column->format == FORMAT_RATE || column->format == FORMAT_MS)
        pack_real (out, (double) whole (value * 10 + 0.5) / 10);
    else
        pack_uint (out, whole (value));
}

static void pack_cells (struct packer *out, enum top_table table, const struct top_line *line, uint64_t now_s)
{
    size_t count;
    const struct top_column *columns = top_columns (table, &count);
    for (size_t i = 0; i < count; i++)
        pack_cell (out, &columns[i], line, now_s);
}

static uint32_t cell_count (enum top_table table)
{
    size_t count;
    top_columns (table, &count);
    return (uint32_t) count;
}

static void pack_string (struct packer *out, const char *key, const char *value)
{
    pack_literal (out, key);
    pack_literal (out, value);
}

static void pack_actors (struct packer *out, const struct top_line *lines, size_t count, uint64_t now_s)
{
    pack_literal (out, "actors");
    pack_array (out, (uint32_t) count);
    for (size_t i = 0; i < count; i++) {
        pack_map (out, 1 + cell_count (TABLE_ACTORS));
        pack_string (out, "actor", lines[i].row->name);
        pack_cells (out, TABLE_ACTORS, &lines[i], now_s);
    }
}

static void pack_services (struct packer *out, const struct top_line *lines, size_t count, uint64_t now_s)
{
    pack_literal (out, "services");
    pack_array (out, (uint32_t) count);
    for (size_t i = 0; i < count; i++) {
        pack_map (out, 3 + cell_count (TABLE_SERVICES));
        pack_string (out, "service", lines[i].row->name);
        pack_string (out, "state", service_state (lines[i].row));
        pack_string (out, "reason", lines[i].row->reason);
        pack_cells (out, TABLE_SERVICES, &lines[i], now_s);
    }
}

static void pack_lag (struct packer *out, const struct top_line *lines, size_t count, uint64_t now_s)
{
    pack_literal (out, "lag");
    if (!count) {
        pack_nil (out);
        return;
    }
    pack_map (out, cell_count (TABLE_LAG));
    pack_cells (out, TABLE_LAG, &lines[0], now_s);
}

static void pack_peers (struct packer *out, const struct top_sample *sample)
{
    pack_literal (out, "peers");
    pack_array (out, (uint32_t) sample->peer_count);
    for (size_t i = 0; i < sample->peer_count; i++) {
        pack_map (out, 4);
        pack_string (out, "of", sample->peers[i].of);
        pack_string (out, "peer", sample->peers[i].peer);
        pack_string (out, "state", sample->peers[i].state);
        pack_string (out, "reason", sample->peers[i].reason);
    }
}

static void pack_unreached (struct packer *out, const struct top_process *process)
{
    pack_map (out, 7);
    pack_string (out, "process", process->address.name);
    pack_literal (out, "reachable");
    pack_bool (out, false);
    pack_string (out, "reason", process->now.reason);
    pack_literal (out, "lag");
    pack_nil (out);
    pack_literal (out, "actors");
    pack_array (out, 0);
    pack_literal (out, "services");
    pack_array (out, 0);
    pack_literal (out, "peers");
    pack_array (out, 0);
}

static void pack_process (struct packer *out, const struct top_view *view, const struct top_process *process)
{
    struct top_line *lines = view->lines;
    size_t count = top_lines (process, 1, TABLE_PROCESSES, view->sort, view->now_s, lines);
    if (!count) {
        pack_unreached (out, process);
        return;
    }
    pack_map (out, 9 + cell_count (TABLE_PROCESSES));
    pack_string (out, "process", process->address.name);
    pack_literal (out, "reachable");
    pack_bool (out, true);
    pack_string (out, "version", process->now.version);
    pack_string (out, "state", process_state (&process->now));
    pack_literal (out, "interval_ms");
    if (process->comparable)
        pack_uint (out, process->now.taken_ms - process->before.taken_ms);
    else
        pack_nil (out);
    pack_cells (out, TABLE_PROCESSES, &lines[0], view->now_s);
    count = top_lines (process, 1, TABLE_LAG, view->sort, view->now_s, lines);
    pack_lag (out, lines, count, view->now_s);
    count = top_lines (process, 1, TABLE_ACTORS, view->sort, view->now_s, lines);
    pack_actors (out, lines, count, view->now_s);
    count = top_lines (process, 1, TABLE_SERVICES, view->sort, view->now_s, lines);
    pack_services (out, lines, count, view->now_s);
    pack_peers (out, &process->now);
}

void top_print_object (const struct top_view *view, struct packer *out)
{
    char clock[40] = "";
    struct tm parts;
    time_t now = (time_t) view->now_s;
    if (gmtime_r (&now, &parts))
        strftime (clock, sizeof clock, "%Y-%m-%dT%H:%M:%SZ", &parts);
    pack_map (out, 2);
    pack_string (out, "time", clock);
    pack_literal (out, "processes");
    pack_array (out, (uint32_t) view->count);
    for (size_t i = 0; i < view->count; i++)
        pack_process (out, view, &view->processes[i]);
}
