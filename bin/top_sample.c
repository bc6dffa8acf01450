/*  top_sample.c - see top_sample.h. */

#include "bin/top_sample.h"

#include <assert.h>
#include <string.h>

#include "proto/raw.h"
#include "proto/text.h"

/*  Room for the escapes that builder_printable may add to what it cuts. */
enum { PRINTABLE_SPARE = 8, LABELS_MAX = 4 };

/*  ---- the table ----------------------------------------------------------- */

enum scope { SCOPE_PROCESS, SCOPE_ACTOR, SCOPE_SERVICE };

/*  The first row that fits a line counts; lines of one figure add up. */
static const struct {
    const char *metric;
    enum scope scope;
    unsigned figure;
    const char *label; /* one more that must be there; NULL: any */
    const char *value; /* … and what it must be; NULL: anything */
} rows[] = {
    { "guerdon_events_total", SCOPE_PROCESS, PROCESS_EVENTS, NULL, NULL },
    { "guerdon_success_total", SCOPE_PROCESS, PROCESS_SUCCESS, NULL, NULL },
    { "guerdon_failure_total", SCOPE_PROCESS, PROCESS_FAILURE, NULL, NULL },
    { "guerdon_ignored_total", SCOPE_PROCESS, PROCESS_IGNORED, NULL, NULL },
    { "guerdon_ready", SCOPE_PROCESS, PROCESS_READY, NULL, NULL },
    { "process_start_time_seconds", SCOPE_PROCESS, PROCESS_STARTED_S, NULL, NULL },
    { "process_resident_memory_bytes", SCOPE_PROCESS, PROCESS_RESIDENT_BYTES, NULL, NULL },
    { "guerdon_messages_total", SCOPE_ACTOR, ACTOR_IN, "direction", "in" },
    { "guerdon_messages_total", SCOPE_ACTOR, ACTOR_OUT, "direction", "out" },
    { "guerdon_messages_total", SCOPE_ACTOR, ACTOR_DROPPED, "direction", "dropped" },
    { "guerdon_in_flight", SCOPE_ACTOR, ACTOR_IN_FLIGHT, NULL, NULL },
    { "guerdon_credit", SCOPE_ACTOR, ACTOR_CREDIT, NULL, NULL },
    { "guerdon_retries_total", SCOPE_ACTOR, ACTOR_RETRIES, NULL, NULL },
    { "guerdon_queue", SCOPE_ACTOR, ACTOR_QUEUE, NULL, NULL },
    { "guerdon_breaker", SCOPE_ACTOR, ACTOR_BREAKER, NULL, NULL },
    { "guerdon_concurrency", SCOPE_ACTOR, ACTOR_CONCURRENCY, NULL, NULL },
    { "guerdon_position_seen", SCOPE_ACTOR, ACTOR_SEEN, NULL, NULL },
    { "guerdon_position_settled", SCOPE_ACTOR, ACTOR_SETTLED, NULL, NULL },
    { "guerdon_position_acked", SCOPE_ACTOR, ACTOR_ACKED, NULL, NULL },
    { "guerdon_oldest_seconds", SCOPE_ACTOR, ACTOR_OLDEST_S, NULL, NULL },
    { "guerdon_service_up", SCOPE_SERVICE, SERVICE_IS_UP, NULL, NULL },
    { "guerdon_http_requests_total", SCOPE_SERVICE, SERVICE_GOOD, "result", "1xx" },
    { "guerdon_http_requests_total", SCOPE_SERVICE, SERVICE_GOOD, "result", "2xx" },
    { "guerdon_http_requests_total", SCOPE_SERVICE, SERVICE_GOOD, "result", "3xx" },
    { "guerdon_http_requests_total", SCOPE_SERVICE, SERVICE_FAILED, "result", NULL },
};

static const char bucket_metric[] = "guerdon_http_milliseconds_bucket";
static const char version_metric[] = "guerdon_build_info";

/*  The label that names the row, by scope. */
static const char *const row_labels[] = { NULL, "actor", "service" };

/*  ---- a line of /metrics -------------------------------------------------- */

struct label {
    struct text name;
    struct text value;
};

struct line {
    struct text metric;
    struct label labels[LABELS_MAX];
    size_t label_count;
    struct text number;
};

/*  Everything in front of the first of these bytes; *rest begins at it. */
static struct text until (struct text *rest, const char *stops)
{
    struct text found = { rest->data, 0 };
    while (found.size < rest->size && (!rest->data[found.size] || !strchr (stops, rest->data[found.size])))
        found.size++;
    *rest = (struct text){ rest->data + found.size, rest->size - found.size };
    return found;
}

/*  Steps over one byte, if it is this one. */
static bool take (struct text *rest, char byte)
{
    if (rest->size == 0 || rest->data[0] != byte)
        return false;
    *rest = (struct text){ rest->data + 1, rest->size - 1 };
    return true;
}

/*  Reads `metric{name="value",…} number`. Our pages have no escapes in values. */
static bool read_line (struct line *line, struct text rest)
{
    line->label_count = 0;
    line->metric = until (&rest, "{ ");
    if (line->metric.size == 0 || line->metric.data[0] == '#')
        return false;
    bool more = take (&rest, '{');
    while (more) {
        struct label label;
        if (line->label_count == LABELS_MAX)
            return false;
        label.name = until (&rest, "=");
        if (!take (&rest, '=') || !take (&rest, '"'))
            return false;
        label.value = until (&rest, "\"");
        if (!take (&rest, '"'))
            return false;
        line->labels[line->label_count++] = label;
        more = take (&rest, ',');
        if (!more && !take (&rest, '}'))
            return false;
    }
    line->number = rest;
    return take (&line->number, ' ');
}

/*  The value of a label; false when the line has none of that name. */
static bool label_of (const struct line *line, const char *name, struct text *value)
{
    for (size_t i = 0; i < line->label_count; i++) {
        if (!text_equal (line->labels[i].name, text_of (name)))
            continue;
        *value = line->labels[i].value;
        return true;
    }
    return false;
}

/*  ---- names --------------------------------------------------------------- */

static void set_name (char *memory, struct text text, size_t size_max)
{
    char printable[REASON_SIZE_MAX + 1 + PRINTABLE_SPARE];
    struct builder builder;
    assert (size_max <= REASON_SIZE_MAX);
    builder_init (&builder, printable, sizeof printable);
    builder_printable (&builder, text, size_max);
    size_t size = builder.size <= size_max ? builder.size : 0;
    memcpy (memory, printable, size);
    memory[size] = '\0';
}

const struct top_row *top_row_named (const struct top_row *found, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp (found[i].name, name) == 0)
            return &found[i];
    return NULL;
}

/*  The row that a line is about, made when it is not there; NULL for none. */
static struct top_row *row_of (struct top_sample *sample, enum scope scope, const struct line *line)
{
    struct top_row *found = scope == SCOPE_ACTOR ? sample->actors : sample->services;
    size_t *count = scope == SCOPE_ACTOR ? &sample->actor_count : &sample->service_count;
    char name[TOP_NAME_SIZE_MAX + 1];
    struct text text;
    if (scope == SCOPE_PROCESS)
        return &sample->process;
    if (!label_of (line, row_labels[scope], &text))
        return NULL;
    set_name (name, text, TOP_NAME_SIZE_MAX);
    for (size_t i = 0; i < *count; i++)
        if (strcmp (found[i].name, name) == 0)
            return &found[i];
    if (*count == TOP_ROWS_MAX)
        return NULL;
    struct top_row *row = &found[(*count)++];
    *row = (struct top_row){ .has = 0 };
    memcpy (row->name, name, sizeof name);
    return row;
}

/*  ---- /metrics ------------------------------------------------------------ */

static bool fits (size_t index, const struct line *line)
{
    struct text value;
    if (!text_equal (line->metric, text_of (rows[index].metric)))
        return false;
    if (!rows[index].label)
        return true;
    return label_of (line, rows[index].label, &value) &&
           (!rows[index].value || text_equal (value, text_of (rows[index].value)));
}

/*  Bounds come in rising order and with rising counts; others are left out. */
static void take_bucket (struct top_sample *sample, const struct line *line, uint64_t number)
{
    struct top_row *row = row_of (sample, SCOPE_SERVICE, line);
    struct text text;
    struct top_bucket bucket = { UINT64_MAX, number };
    if (!row || row->bucket_count == TOP_BUCKETS_MAX || !label_of (line, "le", &text))
        return;
    if (!text_equal (text, TEXT_LITERAL ("+Inf")) && !text_to_uint (text, UINT64_MAX - 1, &bucket.bound_ms))
        return;
    const struct top_bucket *last = row->bucket_count ? &row->buckets[row->bucket_count - 1] : NULL;
    if (last && (last->bound_ms >= bucket.bound_ms || last->count > bucket.count))
        return;
    row->buckets[row->bucket_count++] = bucket;
}

static void take_line (struct top_sample *sample, const struct line *line, uint64_t number)
{
    if (text_equal (line->metric, text_of (bucket_metric))) {
        take_bucket (sample, line, number);
        return;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!fits (i, line))
            continue;
        struct top_row *row = row_of (sample, rows[i].scope, line);
        if (row) {
            row->figures[rows[i].figure] += number;
            row->has |= 1u << rows[i].figure;
        }
        return;
    }
}

bool top_sample_metrics (struct top_sample *sample, struct text page)
{
    bool ours = false;
    while (page.size > 0) {
        struct line line;
        struct text text = until (&page, "\n");
        struct text version;
        uint64_t number;
        take (&page, '\n');
        if (!read_line (&line, text) || !text_to_uint (line.number, UINT64_MAX, &number))
            continue;
        if (text_equal (line.metric, text_of (version_metric)) && label_of (&line, "version", &version)) {
            set_name (sample->version, version, TOP_NAME_SIZE_MAX);
            ours = true;
        }
        take_line (sample, &line, number);
    }
    return ours;
}

/*  ---- /ready -------------------------------------------------------------- */

/*  A text of a map, made printable; empty without one. */
static void set_from (char *memory, struct raw map, const char *key, size_t size_max)
{
    struct raw found;
    struct text text = NO_TEXT;
    if (raw_find (map, text_of (key), &found))
        raw_text (found, &text);
    set_name (memory, text, size_max);
}

static void take_peers (struct top_sample *sample, struct raw peers)
{
    struct cursor cursor = cursor_of (peers);
    struct value head;
    struct raw peer;
    if (!cursor_next (&cursor, &head) || head.type != VALUE_ARRAY)
        return;
    while (sample->peer_count < TOP_PEERS_MAX && cursor_skip (&cursor, &peer)) {
        struct top_peer *row = &sample->peers[sample->peer_count++];
        set_from (row->of, peer, "of", TOP_NAME_SIZE_MAX);
        set_from (row->peer, peer, "peer", TOP_NAME_SIZE_MAX);
        set_from (row->state, peer, "state", TOP_NAME_SIZE_MAX);
        set_from (row->reason, peer, "reason", REASON_SIZE_MAX);
    }
}

void top_sample_ready (struct top_sample *sample, struct raw page)
{
    struct raw found, service;
    struct value value;
    if (raw_find (page, TEXT_LITERAL ("draining"), &found) && raw_value (found, &value))
        sample->draining = value.type == VALUE_BOOL && value.boolean;
    if (raw_find (page, TEXT_LITERAL ("services"), &found)) {
        for (size_t i = 0; i < sample->service_count; i++) {
            struct top_row *row = &sample->services[i];
            if (!raw_find (found, text_of (row->name), &service))
                continue;
            set_from (row->state, service, "state", TOP_NAME_SIZE_MAX);
            set_from (row->reason, service, "reason", REASON_SIZE_MAX);
        }
    }
    if (raw_find (page, TEXT_LITERAL ("peers"), &found))
        take_peers (sample, found);
}

bool top_figure (const struct top_row *row, unsigned figure, uint64_t *value)
{
    assert (figure < FIGURES_MAX);
    if (!row || !(row->has & 1u << figure))
        return false;
    *value = row->figures[figure];
    return true;
}
