/*  top_figures.h - what `guerdon top` shows, worked out of two looks. Pure.

    Every figure is a column of a table: its title for people, its key for
    scripts, and the name it is sorted by come from one row.
*/
#ifndef GUERDON_TOP_FIGURES_H
#define GUERDON_TOP_FIGURES_H

#include "bin/top_fetch.h"
#include "bin/top_sample.h"

enum { TOP_PROCESSES_MAX = FETCHES_MAX / 2 };

/*  A process that is looked at. */
struct top_process {
    struct fetch_address address;
    struct top_sample now;
    struct top_sample before; /* the look before this one */
    bool comparable;          /* … was at the same run of the process */
};

/*  To be called when `now` is filled: says whether it can be compared. */
void top_compare (struct top_process *process);

/*  How a figure is worked out, and how people read it. */
enum top_kind {
    KIND_VALUE,    /* as the page says */
    KIND_AGE,      /* from a wall time in s until now */
    KIND_RATE,     /* a second, between the two looks */
    KIND_REQUESTS, /* requests that ended since the start, good or not */
    KIND_REQUEST_RATE,
    KIND_QUANTILE,      /* of the times of the requests between the two looks, in ms */
    KIND_QUANTILE_EVER, /* … since the start of the process */
    KIND_UNSETTLED,     /* events read and not settled */
    KIND_UNACKED        /* events settled and not acknowledged */
};
enum top_format { FORMAT_COUNT, FORMAT_RATE, FORMAT_MS, FORMAT_BYTES, FORMAT_SECONDS, FORMAT_BREAKER };

struct top_column {
    const char *title; /* for people; NULL: only for scripts */
    const char *key;   /* for scripts: a name in JSON */
    const char *sort;  /* as given to --sort; NULL: it is not sorted by */
    enum top_kind kind;
    unsigned figure; /* of the scope of the table; of a quantile: percent */
    enum top_format format;
};

/*  A row as it is shown. */
struct top_line {
    const struct top_process *process;
    const struct top_row *row;
    const struct top_row *before; /* NULL: cannot be compared */
    double key;                   /* what it is sorted by; a larger one comes first */
    size_t order;                 /* among equals */
};

/*  The tables. Lag has the rows of actors that have positions. */
enum top_table { TABLE_PROCESSES, TABLE_LAG, TABLE_ACTORS, TABLE_SERVICES, TOP_TABLES };

/*  The columns of a table; *count receives how many. */
const struct top_column *top_columns (enum top_table table, size_t *count);

/*  A figure; NAN when it is not known. The wall time is in s since the epoch. */
double top_cell (const struct top_column *column, const struct top_line *line, uint64_t now_s);

/*  Fills in the lines of a table, of processes that were reached, sorted by a key that
    top_sort_known accepts; returns how many there are, at most
    TOP_PROCESSES_MAX * TOP_ROWS_MAX. In a table without that key they stay in the
    order of the processes. */
size_t top_lines (const struct top_process *processes, size_t count, enum top_table table, const char *sort,
                  uint64_t now_s, struct top_line *lines);

/*  Whether there is something to sort by under this name: a column, "process" or
    "actor". */
bool top_sort_known (const char *sort);

#endif
