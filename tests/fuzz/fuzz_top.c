/*  fuzz_top.c - any bytes as the status pages of processes that top looks at.

    The first byte splits the rest into /metrics of one look, /metrics of the next,
    and /ready. Whatever stands there: the tables fit, are text that a terminal can
    show, and the object for scripts is JSON.
*/
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/json.h"
#include "bin/top_print.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

static struct top_process processes[2];
static struct top_line lines[TOP_PROCESSES_MAX * TOP_ROWS_MAX];
static char text_memory[TOP_PRINT_SIZE_MAX], screen_memory[TOP_PRINT_SIZE_MAX];
static uint8_t object_memory[TOP_PRINT_SIZE_MAX];

static void take (struct top_sample *sample, struct text metrics, struct text ready, uint64_t at_ms)
{
    static struct json_reader *reader;
    struct raw raw;
    memset (sample, 0, sizeof *sample);
    sample->taken_ms = at_ms;
    sample->reached = top_sample_metrics (sample, metrics);
    if (!sample->reached)
        return;
    if (!reader)
        reader = json_reader_new (REPLY_SIZE_MAX);
    assert (reader);
    json_reader_reset (reader);
    json_reader_feed (reader, ready.data, ready.size);
    if (json_reader_finish (reader, &raw) == BODY_JSON)
        top_sample_ready (sample, raw);
    assert (sample->actor_count <= TOP_ROWS_MAX && sample->service_count <= TOP_ROWS_MAX);
    assert (sample->peer_count <= TOP_PEERS_MAX);
}

static void show (const char *sort)
{
    const struct top_view view = {
        .processes = processes, .count = 2, .sort = sort, .now_s = 1700000000, .lines = lines
    };
    struct builder text, screen;
    struct packer object;
    builder_init (&text, text_memory, sizeof text_memory);
    top_print_text (&view, &text);
    assert (!text.overflow && text_is_utf8 (builder_text (&text)));
    for (size_t i = 0; i < text.size; i++)
        assert ((uint8_t) text.data[i] >= ' ' || text.data[i] == '\n');
    builder_init (&screen, screen_memory, sizeof screen_memory);
    top_print_screen (builder_text (&text), 24, 80, &screen);
    assert (!screen.overflow);
    packer_init (&object, object_memory, sizeof object_memory);
    top_print_object (&view, &object);
    size_t size;
    char *json = json_write (packer_raw (&object), NO_TEXT, &size);
    assert (json && size > 2);
    free (json);
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    static const char *const sorts[] = { "process", "actor" };
    if (size == 0)
        return 0;
    uint32_t left = (uint32_t) size - 1;
    uint32_t third = (uint32_t) ((uint64_t) left * bytes[0] / 512);
    struct text first = { (const char *) bytes + 1, third };
    struct text second = { first.data + third, third };
    struct text ready = { second.data + third, left - 2 * third };
    memset (processes, 0, sizeof processes);
    for (unsigned i = 0; i < 2; i++) {
        bool read = fetch_address_read (&processes[i].address, text_of (i ? "b:1" : "a:2"), 8000);
        assert (read);
    }
    take (&processes[0].before, first, ready, 1000);
    take (&processes[0].now, second, ready, 2000);
    take (&processes[1].now, first, ready, 2000);
    top_compare (&processes[0]);
    top_compare (&processes[1]);
    show (sorts[bytes[0] % 2]);
    return 0;
}
