/*  top_figures.c - see top_figures.h. */

#include "bin/top_figures.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof (array) / sizeof *(array))

/*  ---- the tables ---------------------------------------------------------- */

static const struct top_column process_columns[] = {
    { "EVENTS/s", "events_rate", "events", KIND_RATE, PROCESS_EVENTS, FORMAT_RATE },
    { "SUCCESS/s", "success_rate", "success", KIND_RATE, PROCESS_SUCCESS, FORMAT_RATE },
    { "FAILURE/s", "failure_rate", "failure", KIND_RATE, PROCESS_FAILURE, FORMAT_RATE },
    { "IGNORED/s", "ignored_rate", "ignored", KIND_RATE, PROCESS_IGNORED, FORMAT_RATE },
    { "UP", "uptime_s", NULL, KIND_AGE, PROCESS_STARTED_S, FORMAT_SECONDS },
    { "MEMORY", "resident_bytes", "memory", KIND_VALUE, PROCESS_RESIDENT_BYTES, FORMAT_BYTES },
    { NULL, "events", NULL, KIND_VALUE, PROCESS_EVENTS, FORMAT_COUNT },
    { NULL, "success", NULL, KIND_VALUE, PROCESS_SUCCESS, FORMAT_COUNT },
    { NULL, "failure", NULL, KIND_VALUE, PROCESS_FAILURE, FORMAT_COUNT },
    { NULL, "ignored", NULL, KIND_VALUE, PROCESS_IGNORED, FORMAT_COUNT },
};

static const struct top_column lag_columns[] = {
    { "UNSETTLED", "unsettled", "unsettled", KIND_UNSETTLED, 0, FORMAT_COUNT },
    { "UNACKED", "unacked", "unacked", KIND_UNACKED, 0, FORMAT_COUNT },
    { "OLDEST", "oldest_s", "oldest", KIND_VALUE, ACTOR_OLDEST_S, FORMAT_SECONDS },
    { "SEEN", "seen", NULL, KIND_VALUE, ACTOR_SEEN, FORMAT_COUNT },
    { "SETTLED", "settled", NULL, KIND_VALUE, ACTOR_SETTLED, FORMAT_COUNT },
    { "ACKED", "acked", NULL, KIND_VALUE, ACTOR_ACKED, FORMAT_COUNT },
};

static const struct top_column actor_columns[] = {
    { "IN/s", "in_rate", "in", KIND_RATE, ACTOR_IN, FORMAT_RATE },
    { "OUT/s", "out_rate", "out", KIND_RATE, ACTOR_OUT, FORMAT_RATE },
    { "IN FLIGHT", "in_flight", "in-flight", KIND_VALUE, ACTOR_IN_FLIGHT, FORMAT_COUNT },
    { "QUEUE", "queue", "queue", KIND_VALUE, ACTOR_QUEUE, FORMAT_COUNT },
    { "LIMIT", "concurrency", NULL, KIND_VALUE, ACTOR_CONCURRENCY, FORMAT_COUNT },
    { "BREAKER", "breaker", "breaker", KIND_VALUE, ACTOR_BREAKER, FORMAT_BREAKER },
    { "CREDIT", "credit", NULL, KIND_VALUE, ACTOR_CREDIT, FORMAT_COUNT },
    { "RETRIES", "retries", "retries", KIND_VALUE, ACTOR_RETRIES, FORMAT_COUNT },
    { "RETRIES/s", "retries_rate", NULL, KIND_RATE, ACTOR_RETRIES, FORMAT_RATE },
    { "DROPPED", "dropped", "dropped", KIND_VALUE, ACTOR_DROPPED, FORMAT_COUNT },
    { NULL, "in", NULL, KIND_VALUE, ACTOR_IN, FORMAT_COUNT },
    { NULL, "out", NULL, KIND_VALUE, ACTOR_OUT, FORMAT_COUNT },
};

static const struct top_column service_columns[] = {
    { "REQ/s", "requests_rate", "requests", KIND_REQUEST_RATE, 0, FORMAT_RATE },
    { "FAIL/s", "failed_rate", "failed", KIND_RATE, SERVICE_FAILED, FORMAT_RATE },
    { "P50 ms", "p50_ms", "p50", KIND_QUANTILE, 50, FORMAT_MS },
    { "P99 ms", "p99_ms", "p99", KIND_QUANTILE, 99, FORMAT_MS },
    { NULL, "p50_ms_since_start", NULL, KIND_QUANTILE_EVER, 50, FORMAT_MS },
    { NULL, "p99_ms_since_start", NULL, KIND_QUANTILE_EVER, 99, FORMAT_MS },
    { NULL, "requests", NULL, KIND_REQUESTS, 0, FORMAT_COUNT },
    { NULL, "failed", NULL, KIND_VALUE, SERVICE_FAILED, FORMAT_COUNT },
};

static const struct {
    const struct top_column *columns;
    size_t count;
} tables[TOP_TABLES] = {
    [TABLE_PROCESSES] = { process_columns, COUNT_OF (process_columns) },
    [TABLE_LAG] = { lag_columns, COUNT_OF (lag_columns) },
    [TABLE_ACTORS] = { actor_columns, COUNT_OF (actor_columns) },
    [TABLE_SERVICES] = { service_columns, COUNT_OF (service_columns) },
};

const struct top_column *top_columns (enum top_table table, size_t *count)
{
    assert (table < TOP_TABLES && count);
    *count = tables[table].count;
    return tables[table].columns;
}

/*  ---- cells --------------------------------------------------------------- */

void top_compare (struct top_process *process)
{
    uint64_t started = 0, started_before = 0;
    process->comparable = process->now.reached && process->before.reached &&
                          process->now.taken_ms > process->before.taken_ms &&
                          top_figure (&process->now.process, PROCESS_STARTED_S, &started) &&
                          top_figure (&process->before.process, PROCESS_STARTED_S, &started_before) &&
                          started == started_before;
}

static double value_of (const struct top_row *row, unsigned figure)
{
    uint64_t value;
    return top_figure (row, figure, &value) ? (double) value : NAN;
}

static double requests_of (const struct top_row *row)
{
    return value_of (row, SERVICE_GOOD) + value_of (row, SERVICE_FAILED);
}

/*  A second, from what it is and was; a counter that fell began anew. */
static double rate_of (const struct top_line *line, double now, double before)
{
    uint64_t elapsed_ms = line->process->now.taken_ms - line->process->before.taken_ms;
    if (!line->process->comparable || !(now >= before))
        return NAN;
    return (now - before) * 1000 / (double) elapsed_ms;
}

/*  Requests up to a bucket, without those before. */
static uint64_t up_to (const struct top_row *row, const struct top_row *before, size_t bucket)
{
    uint64_t count = row->buckets[bucket].count;
    if (!before || bucket >= before->bucket_count)
        return count;
    uint64_t gone = before->buckets[bucket].count;
    return gone < count ? count - gone : 0;
}

/*  As evenly spread within its bucket as Prometheus has it. Beyond the last bound
    nothing is known but that bound. */
static double quantile_of (const struct top_row *row, const struct top_row *before, unsigned percent)
{
    size_t count = row->bucket_count;
    uint64_t total = count ? up_to (row, before, count - 1) : 0;
    double rank = (double) total * percent / 100;
    double low = 0, below = 0;
    if (!total)
        return NAN;
    for (size_t i = 0; i < count; i++) {
        double upper = (double) up_to (row, before, i);
        if (upper < rank || upper <= below) {
            low = (double) row->buckets[i].bound_ms;
            below = upper;
            continue;
        }
        if (row->buckets[i].bound_ms == UINT64_MAX)
            return low;
        return low + ((double) row->buckets[i].bound_ms - low) * (rank - below) / (upper - below);
    }
    return low;
}

/*  Before anything was settled nobody knows where the settled position begins: what
    is in flight is what is not settled. */
static double unsettled_of (const struct top_row *row)
{
    double settled = value_of (row, ACTOR_SETTLED);
    double seen = value_of (row, ACTOR_SEEN);
    if (settled > 0 && seen >= settled)
        return seen - settled;
    return value_of (row, ACTOR_IN_FLIGHT);
}

/*  The same holds before anything was acknowledged. */
static double unacked_of (const struct top_row *row)
{
    double settled = value_of (row, ACTOR_SETTLED);
    double acked = value_of (row, ACTOR_ACKED);
    if (settled > 0 && acked == 0)
        return NAN;
    return settled > acked ? settled - acked : 0;
}

double top_cell (const struct top_column *column, const struct top_line *line, uint64_t now_s)
{
    const struct top_row *row = line->row;
    double value;
    switch (column->kind) {
    case KIND_VALUE:
        return value_of (row, column->figure);
    case KIND_AGE:
        value = (double) now_s - value_of (row, column->figure);
        return value < 0 ? 0 : value;
    case KIND_RATE:
        return rate_of (line, value_of (row, column->figure), value_of (line->before, column->figure));
    case KIND_REQUESTS:
        return requests_of (row);
    case KIND_REQUEST_RATE:
        return rate_of (line, requests_of (row), requests_of (line->before));
    case KIND_QUANTILE:
        return line->before ? quantile_of (row, line->before, column->figure) : NAN;
    case KIND_QUANTILE_EVER:
        return quantile_of (row, NULL, column->figure);
    case KIND_UNSETTLED:
        return unsettled_of (row);
    case KIND_UNACKED:
        return unacked_of (row);
    }
    return NAN;
}

/*  ---- lines --------------------------------------------------------------- */

/*  The rows of a process that a table shows; *before receives those of the look
    before. */
static const struct top_row *rows_of (const struct top_sample *sample, enum top_table table, size_t *count)
{
    *count = table == TABLE_PROCESSES  ? 1
             : table == TABLE_SERVICES ? sample->service_count
                                       : sample->actor_count;
    if (table == TABLE_PROCESSES)
        return &sample->process;
    return table == TABLE_SERVICES ? sample->services : sample->actors;
}

/*  The larger key first, what has none last; else as they came. */
static int compare_lines (const void *a, const void *b)
{
    const struct top_line *left = a, *right = b;
    double left_key = isnan (left->key) ? -1 : left->key;
    double right_key = isnan (right->key) ? -1 : right->key;
    if (left_key != right_key)
        return left_key > right_key ? -1 : 1;
    return left->order < right->order ? -1 : left->order > right->order;
}

static int compare_names (const void *a, const void *b)
{
    const struct top_line *left = a, *right = b;
    int order = strcmp (left->row->name, right->row->name);
    if (order != 0)
        return order;
    return left->order < right->order ? -1 : left->order > right->order;
}

static const struct top_column *column_sorted_by (enum top_table table, const char *sort)
{
    for (size_t i = 0; i < tables[table].count; i++)
        if (tables[table].columns[i].sort && strcmp (tables[table].columns[i].sort, sort) == 0)
            return &tables[table].columns[i];
    return NULL;
}

static void sort_lines (struct top_line *lines, size_t count, enum top_table table, const char *sort,
                        uint64_t now_s)
{
    const struct top_column *column = column_sorted_by (table, sort);
    if (strcmp (sort, "actor") == 0 && table != TABLE_PROCESSES)
        qsort (lines, count, sizeof *lines, compare_names);
    if (!column)
        return;
    for (size_t i = 0; i < count; i++)
        lines[i].key = top_cell (column, &lines[i], now_s);
    qsort (lines, count, sizeof *lines, compare_lines);
}

size_t top_lines (const struct top_process *processes, size_t count, enum top_table table, const char *sort,
                  uint64_t now_s, struct top_line *lines)
{
    size_t used = 0;
    assert (count <= TOP_PROCESSES_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct top_process *process = &processes[i];
        size_t row_count, before_count;
        const struct top_row *rows = rows_of (&process->now, table, &row_count);
        const struct top_row *before = rows_of (&process->before, table, &before_count);
        for (size_t row = 0; process->now.reached && row < row_count; row++) {
            if (table == TABLE_LAG && !(rows[row].has & 1u << ACTOR_SEEN))
                continue;
            lines[used] = (struct top_line){ .process = process, .row = &rows[row], .order = used };
            if (process->comparable)
                lines[used].before = top_row_named (before, before_count, rows[row].name);
            used++;
        }
    }
    sort_lines (lines, used, table, sort, now_s);
    return used;
}

bool top_sort_known (const char *sort)
{
    bool known = strcmp (sort, "process") == 0 || strcmp (sort, "actor") == 0;
    for (unsigned table = 0; table < TOP_TABLES; table++)
        known = known || column_sorted_by ((enum top_table) table, sort);
    return known;
}
