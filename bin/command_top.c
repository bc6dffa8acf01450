/*  command_top.c - guerdon top: what every process and actor is doing just now.

    It reads the status pages, which are there anyway, and keeps nothing but the
    look before: whatever it shows can be scraped as well.
*/
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "actors/base/config_check.h"
#include "actors/base/json.h"
#include "bin/command.h"
#include "bin/top_print.h"

enum {
    PORT_DEFAULT = 8000,
    FETCH_TIMEOUT_MS = 2000,
    FIRST_INTERVAL_MS = 500, /* between the two looks that the first figures need */
    INTERVAL_MS = 2000,
    INTERVAL_MS_MIN = 100,
    INTERVAL_S_MAX = 3600,
    READY_SIZE_MAX = 256 * 1024, /* of /ready as msgpack */
    LINES_MAX = TOP_PROCESSES_MAX * TOP_ROWS_MAX
};

static const char *const help =
    "Shows what every process and actor is doing: rates, what is in flight, retries, how long the\n"
    "services take, how far it lags behind the events. It reads the status pages (HOST and PORT) of the\n"
    "processes given; without any, that of 127.0.0.1 at PORT, which is 8000 unless the environment says\n"
    "otherwise. On a terminal it refreshes in place; Ctrl-C ends it.\n"
    "KEY is process, actor, or what a column shows: memory, events, success, failure, ignored, unsettled,\n"
    "unacked, oldest, in, out, in-flight, queue, breaker, retries, dropped, requests, failed, p50 or p99;\n"
    "largest first.\n"
    "Exit codes: 0 ended, 1 with --once no process answers, 64 usage, 78 PORT is wrong.";

static const char cursor_off[] = "\x1b[?25l";
static const char cursor_on[] = "\x1b[?25h\n";

/*  What was asked for. */
struct wishes {
    const char *addresses[TOP_PROCESSES_MAX];
    size_t address_count;
    const char *interval;
    const char *format;
    const char *sort;
    bool once;
    bool json;
    uint32_t interval_ms;
};

/*  Everything it holds; taken once, at the start. */
struct top {
    struct top_process processes[TOP_PROCESSES_MAX];
    size_t count;
    struct fetch fetches[FETCHES_MAX]; /* /metrics and /ready of each in turn */
    struct json_reader *reader;
    struct top_line lines[LINES_MAX];
    char text[TOP_PRINT_SIZE_MAX];
    char screen[TOP_PRINT_SIZE_MAX];
};

/*  ---- arguments ----------------------------------------------------------- */

/*  Seconds with at most three decimals: "2", "0.5". */
static bool read_interval (const char *string, uint32_t *interval_ms)
{
    size_t whole = strcspn (string, ".");
    const char *decimals = string[whole] ? string + whole + 1 : "0";
    size_t count = strlen (decimals);
    uint64_t seconds, fraction_ms = 0;
    if (count < 1 || count > 3 || strspn (decimals, "0123456789") != count)
        return false;
    if (!text_to_uint ((struct text){ string, (uint32_t) whole }, INTERVAL_S_MAX, &seconds))
        return false;
    for (size_t i = 0; i < 3; i++)
        fraction_ms = fraction_ms * 10 + (i < count ? (uint64_t) (decimals[i] - '0') : 0);
    *interval_ms = (uint32_t) (seconds * 1000 + fraction_ms);
    return *interval_ms >= INTERVAL_MS_MIN && *interval_ms <= INTERVAL_S_MAX * 1000;
}

static bool check_wishes (struct wishes *wishes, int *code)
{
    if (wishes->interval && !read_interval (wishes->interval, &wishes->interval_ms))
        *code = command_usage ("top", "--interval %s: expected seconds, 0.1 to %d", wishes->interval,
                               INTERVAL_S_MAX);
    else if (wishes->format && strcmp (wishes->format, "text") != 0 && strcmp (wishes->format, "json") != 0)
        *code = command_usage ("top", "--format %s: expected text or json", wishes->format);
    else if (!top_sort_known (wishes->sort))
        *code = command_usage ("top", "--sort %s: expected one of those that --help names", wishes->sort);
    else
        return true;
    return false;
}

/*  The port of the status pages in this environment; nothing else of the
    configuration is needed. */
static bool read_port (uint16_t *port)
{
    const char *string = getenv ("PORT");
    int64_t number = PORT_DEFAULT;
    bool good = !string || (*string && check_number (text_of (string), 1, UINT16_MAX, &number));
    if (!good)
        fprintf (stderr, "guerdon top: PORT=%s: expected a port, 1 to 65535, or HOST:PORT as an argument\n",
                 string);
    *port = (uint16_t) number;
    return good;
}

/*  Reads the addresses; false with *code when one is none. */
static bool read_addresses (struct top *top, const struct wishes *wishes, int *code)
{
    static const char *const own[] = { "127.0.0.1" };
    size_t count = wishes->address_count ? wishes->address_count : 1;
    const char *const *addresses = wishes->address_count ? wishes->addresses : own;
    uint16_t port = PORT_DEFAULT;
    if (!wishes->address_count && !read_port (&port)) {
        *code = EXIT_CONFIG;
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (fetch_address_read (&top->processes[i].address, text_of (addresses[i]), port))
            continue;
        *code = command_usage ("top", "%s: expected HOST:PORT", addresses[i]);
        return false;
    }
    top->count = count;
    return true;
}

/*  ---- looking ------------------------------------------------------------- */

static void take_pages (struct top *top, struct top_process *process, const struct fetch *metrics,
                        const struct fetch *ready)
{
    struct top_sample *now = &process->now;
    struct raw raw;
    memset (now, 0, sizeof *now);
    now->taken_ms = metrics->done_ms;
    now->reached = metrics->status == 200 && top_sample_metrics (now, metrics->body);
    if (!metrics->status)
        snprintf (now->reason, sizeof now->reason, "%s", metrics->reason);
    else if (!now->reached)
        snprintf (now->reason, sizeof now->reason, "what answers is not guerdon");
    if (!now->reached || !ready->status)
        return;
    json_reader_reset (top->reader);
    json_reader_feed (top->reader, ready->body.data, ready->body.size);
    if (json_reader_finish (top->reader, &raw) == BODY_JSON)
        top_sample_ready (now, raw);
}

static void look (struct top *top)
{
    for (size_t i = 0; i < top->count; i++) {
        top->fetches[2 * i].address = top->fetches[2 * i + 1].address = &top->processes[i].address;
        top->fetches[2 * i].path = "/metrics";
        top->fetches[2 * i + 1].path = "/ready";
    }
    fetch_all (top->fetches, 2 * top->count, FETCH_TIMEOUT_MS);
    for (size_t i = 0; i < top->count; i++) {
        struct top_process *process = &top->processes[i];
        process->before = process->now;
        take_pages (top, process, &top->fetches[2 * i], &top->fetches[2 * i + 1]);
        top_compare (process);
    }
}

static size_t reached (const struct top *top)
{
    size_t count = 0;
    for (size_t i = 0; i < top->count; i++)
        count += top->processes[i].now.reached;
    return count;
}

/*  ---- showing ------------------------------------------------------------- */

static bool write_out (const char *data, size_t size)
{
    return fwrite (data, 1, size, stdout) == size && fflush (stdout) == 0;
}

static bool show_json (struct top *top, const struct top_view *view)
{
    struct packer packer;
    size_t size = 0;
    packer_init (&packer, top->text, sizeof top->text);
    top_print_object (view, &packer);
    char *json = json_write (packer_raw (&packer), NO_TEXT, &size);
    bool good = json && fwrite (json, 1, size, stdout) == size && write_out ("\n", 1);
    free (json);
    return good;
}

/*  In place on a terminal, a block after the other elsewhere. */
static bool show_text (struct top *top, const struct top_view *view, bool in_place)
{
    struct builder text, screen;
    struct winsize size = { .ws_row = 24, .ws_col = 80 };
    builder_init (&text, top->text, sizeof top->text);
    top_print_text (view, &text);
    if (!in_place)
        return write_out (text.data, text.size) && write_out ("\n", 1);
    if (ioctl (STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0)
        size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
    builder_init (&screen, top->screen, sizeof top->screen);
    top_print_screen (builder_text (&text), size.ws_row, size.ws_col, &screen);
    return write_out (screen.data, screen.size);
}

static bool show (struct top *top, const struct wishes *wishes, bool in_place)
{
    const struct top_view view = { .processes = top->processes,
                                   .count = top->count,
                                   .sort = wishes->sort,
                                   .now_s = (uint64_t) time (NULL),
                                   .lines = top->lines };
    return wishes->json ? show_json (top, &view) : show_text (top, &view, in_place);
}

/*  ---- the command --------------------------------------------------------- */

/*  Ends it wherever it is, also within a look-up that hangs: there is nothing to put
    in order but the cursor. */
static void end_plain (int number)
{
    (void) number;
    _exit (EXIT_OK);
}

static void end_in_place (int number)
{
    (void) number;
    _exit (write (STDOUT_FILENO, cursor_on, sizeof cursor_on - 1) < 0 ? EXIT_FAILED : EXIT_OK);
}

static int run (struct top *top, const struct wishes *wishes)
{
    bool in_place = !wishes->once && !wishes->json && isatty (STDOUT_FILENO);
    struct sigaction action = { .sa_handler = in_place ? end_in_place : end_plain };
    if (!wishes->once) {
        sigaction (SIGINT, &action, NULL);
        sigaction (SIGTERM, &action, NULL);
    }
    if (in_place && !write_out (cursor_off, sizeof cursor_off - 1))
        return EXIT_FAILED;
    look (top);
    if (reached (top) || !wishes->once) { /* else there is nothing to compare */
        poll (NULL, 0, FIRST_INTERVAL_MS);
        look (top);
    }
    bool good = show (top, wishes, in_place);
    while (good && !wishes->once) {
        poll (NULL, 0, (int) wishes->interval_ms);
        look (top);
        good = show (top, wishes, in_place);
    }
    return good && reached (top) ? EXIT_OK : EXIT_FAILED;
}

static int look_and_show (const struct wishes *wishes)
{
    struct top *top = calloc (1, sizeof *top);
    int code = EXIT_FAILED;
    if (top)
        top->reader = json_reader_new (READY_SIZE_MAX);
    if (!top || !top->reader)
        fprintf (stderr, "guerdon top: out of memory\n");
    else if (read_addresses (top, wishes, &code))
        code = run (top, wishes);
    if (top && top->reader)
        json_reader_destroy (&top->reader);
    free (top);
    return code;
}

int command_top (int argc, char **argv)
{
    struct wishes wishes = { .sort = "process", .interval_ms = INTERVAL_MS };
    const struct command_option options[] = {
        { "once", NULL, "look for half a second, print, and end", NULL, &wishes.once },
        { "interval", "S", "seconds between two looks, 0.1 to 3600: 2 unless given", &wishes.interval, NULL },
        { "format", "text|json", "tables for people, or JSON lines for scripts", &wishes.format, NULL },
        { "sort", "KEY", "what the tables are sorted by", &wishes.sort, NULL },
    };
    const struct command_syntax syntax = { .name = "top",
                                           .operand = "[HOST:PORT…]",
                                           .help = help,
                                           .options = options,
                                           .count = sizeof options / sizeof *options,
                                           .operands = wishes.addresses,
                                           .operands_max = TOP_PROCESSES_MAX,
                                           .operand_count = &wishes.address_count };
    int code = EXIT_OK;
    if (!command_parse (&syntax, argc, argv, &code) || !check_wishes (&wishes, &code))
        return code;
    wishes.json = wishes.format && strcmp (wishes.format, "json") == 0;
    return look_and_show (&wishes);
}
