/*  reference.c - the least that the work costs: the library calls that cannot be
    avoided, and nothing else. No retries, no checks, no bounds.

    usage: bench_reference ignored|rewarded|reads|latency PORT EVENTS [RATE]

    ignored   fetches pages of 1000, parses them with yajl's SAX, counts by type
    rewarded  the calls of so many rewards by curl's multi interface, 16 at once:
              one read of 200 players for 200 of them, and a marker and a reward
              for each
    reads     the pages as in `ignored`, and one read for every 200 players who
              logged in
    latency   RATE times a second three calls one after another: read, marker,
              reward

    Pages and reads are as large as the largest that guerdon asks for.

    Prints one line of JSON: events, seconds, processor time in µs, peak memory
    in kB, and for `latency` the times of the three calls together.
*/
#include <curl/curl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <yajl/yajl_parse.h>

enum { PAGE_EVENTS = 1000, AT_ONCE = 16, READ_USERS = 200, URL_SIZE = 4096 };

static unsigned port;
static uint64_t events;

static void fail (const char *what)
{
    fprintf (stderr, "bench_reference: %s\n", what);
    exit (1);
}

static uint64_t now_us (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

/*  ---- pages -------------------------------------------------------------- */

/*  What the SAX callbacks keep of the event at hand. */
struct page {
    yajl_handle yajl;
    unsigned depth;
    enum { FIELD_OTHER, FIELD_ID, FIELD_TYPE, FIELD_FROM, FIELD_USER } field;
    bool login;
    bool ours;
    uint64_t id;    /* of the last event */
    uint64_t count; /* events seen */
    uint64_t due;   /* of them, those the rule looks at */
};

static int on_key (void *context, const unsigned char *key, size_t size)
{
    struct page *page = context;
    page->field = page->depth == 2 && size == 2 && memcmp (key, "id", 2) == 0       ? FIELD_ID
                  : page->depth == 2 && size == 4 && memcmp (key, "type", 4) == 0   ? FIELD_TYPE
                  : page->depth == 2 && size == 4 && memcmp (key, "from", 4) == 0   ? FIELD_FROM
                  : page->depth == 3 && size == 6 && memcmp (key, "userId", 6) == 0 ? FIELD_USER
                                                                                    : FIELD_OTHER;
    return 1;
}

static int on_string (void *context, const unsigned char *string, size_t size)
{
    struct page *page = context;
    if (page->field == FIELD_TYPE)
        page->login = size == 5 && memcmp (string, "LOGIN", 5) == 0;
    else if (page->field == FIELD_FROM)
        page->ours = size == 6 && memcmp (string, "game-2", 6) == 0;
    return 1;
}

static int on_integer (void *context, long long integer)
{
    struct page *page = context;
    if (page->field == FIELD_ID)
        page->id = (uint64_t) integer;
    return 1;
}

static int on_open (void *context)
{
    ((struct page *) context)->depth++;
    return 1;
}

static int on_close_map (void *context)
{
    struct page *page = context;
    if (--page->depth == 1) {
        page->count++;
        page->due += page->login && page->ours;
    }
    return 1;
}

static int on_close_array (void *context)
{
    ((struct page *) context)->depth--;
    return 1;
}

static const yajl_callbacks callbacks = {
    .yajl_map_key = on_key,
    .yajl_string = on_string,
    .yajl_integer = on_integer,
    .yajl_start_map = on_open,
    .yajl_end_map = on_close_map,
    .yajl_start_array = on_open,
    .yajl_end_array = on_close_array,
};

static size_t on_page_bytes (char *bytes, size_t size, size_t count, void *context)
{
    struct page *page = context;
    if (yajl_parse (page->yajl, (const unsigned char *) bytes, size * count) != yajl_status_ok)
        fail ("the page is not JSON");
    return size * count;
}

static size_t on_bytes (char *bytes, size_t size, size_t count, void *context)
{
    (void) bytes;
    (void) context;
    return size * count;
}

static void fetch (CURL *curl, const char *url)
{
    long status = 0;
    curl_easy_setopt (curl, CURLOPT_URL, url);
    if (curl_easy_perform (curl) != CURLE_OK ||
        curl_easy_getinfo (curl, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status != 200)
        fail ("a request failed");
}

static void put_users (char *url, size_t capacity, uint64_t first, uint64_t count)
{
    size_t at = (size_t) snprintf (url, capacity, "http://127.0.0.1:%u/usermeta/v1/", port);
    for (uint64_t i = 0; i < count; i++)
        at += (size_t) snprintf (url + at, capacity - at, "%su%" PRIu64, i ? "," : "", first + i);
    snprintf (url + at, capacity - at, "/auth,$reward$promo1?secret=x");
}

/*  Fetches all pages; with `reads` also what is known of the players. */
static void run_pages (bool reads)
{
    struct page page = { 0 };
    char url[URL_SIZE];
    CURL *curl = curl_easy_init ();
    CURL *meta = curl_easy_init ();
    uint64_t asked = 0;
    curl_easy_setopt (curl, CURLOPT_WRITEFUNCTION, on_page_bytes);
    curl_easy_setopt (curl, CURLOPT_WRITEDATA, &page);
    curl_easy_setopt (meta, CURLOPT_WRITEFUNCTION, on_bytes);
    while (page.count < events) {
        page.yajl = yajl_alloc (&callbacks, NULL, &page);
        yajl_config (page.yajl, yajl_dont_validate_strings, 1);
        snprintf (
            url, sizeof url,
            "http://127.0.0.1:%u/events/v1/events?clientId=c&channel=users%%2Fv1&secret=x&after=%" PRIu64
            "&limit=%d",
            port, page.id, PAGE_EVENTS);
        fetch (curl, url);
        yajl_free (page.yajl);
        for (; reads && page.due - asked >= READ_USERS; asked += READ_USERS) {
            put_users (url, sizeof url, asked, READ_USERS);
            fetch (meta, url);
        }
    }
    if (page.count != events)
        fail ("events are missing");
    curl_easy_cleanup (curl);
    curl_easy_cleanup (meta);
}

/*  ---- calls -------------------------------------------------------------- */

enum call { CALL_READ, CALL_MARK, CALL_REWARD };

/*  A call for a player; a read is for so many from this one on. */
static void prepare (CURL *curl, enum call call, uint64_t player, uint64_t readers, char *body,
                     size_t capacity)
{
    char url[URL_SIZE];
    if (call == CALL_READ) {
        put_users (url, sizeof url, player, readers);
        curl_easy_setopt (curl, CURLOPT_HTTPGET, 1L);
    } else if (call == CALL_MARK) {
        snprintf (url, sizeof url, "http://127.0.0.1:%u/usermeta/v1/auth/x.u%" PRIu64 "/$reward$promo1", port,
                  player);
        snprintf (body, capacity, "{\"value\":\"1491000000123\"}");
    } else {
        snprintf (url, sizeof url, "http://127.0.0.1:%u/virtualcurrency/v1/rewards", port);
        snprintf (body, capacity,
                  "{\"to\":\"u%" PRIu64 "\",\"from\":\"rewards/v1\",\"secret\":\"x\",\"amount\":10,"
                  "\"currency\":\"gold\",\"data\":{\"rewardId\":\"promo1\"}}",
                  player);
    }
    if (call != CALL_READ) {
        curl_easy_setopt (curl, CURLOPT_POSTFIELDSIZE, (long) strlen (body));
        curl_easy_setopt (curl, CURLOPT_POSTFIELDS, body);
    }
    curl_easy_setopt (curl, CURLOPT_URL, url);
}

/*  The n-th call of all: of every 200 players one read, then their markers and
    rewards. */
static void prepare_nth (CURL *curl, uint64_t n, char *body, size_t capacity)
{
    uint64_t group = n / (1 + 2 * READ_USERS);
    uint64_t place = n % (1 + 2 * READ_USERS);
    uint64_t first = group * READ_USERS + 1;
    if (place == 0)
        prepare (curl, CALL_READ, first, READ_USERS, body, capacity);
    else
        prepare (curl, place % 2 ? CALL_MARK : CALL_REWARD, first + (place - 1) / 2, 0, body, capacity);
}

static void run_rewarded (void)
{
    static char bodies[AT_ONCE][256];
    CURLM *multi = curl_multi_init ();
    struct curl_slist *headers = curl_slist_append (NULL, "Content-Type: application/json");
    uint64_t calls = events / READ_USERS * (1 + 2 * READ_USERS);
    uint64_t started = 0;
    uint64_t done = 0;
    curl_multi_setopt (multi, CURLMOPT_MAXCONNECTS, (long) AT_ONCE);
    for (size_t i = 0; i < AT_ONCE; i++) {
        CURL *curl = curl_easy_init ();
        curl_easy_setopt (curl, CURLOPT_WRITEFUNCTION, on_bytes);
        curl_easy_setopt (curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt (curl, CURLOPT_PRIVATE, bodies[i]);
        prepare_nth (curl, started++, bodies[i], sizeof bodies[i]);
        curl_multi_add_handle (multi, curl);
    }
    while (done < calls) {
        int running;
        int left;
        uint64_t before = done;
        CURLMsg *message;
        if (curl_multi_perform (multi, &running) != CURLM_OK)
            fail ("curl");
        while ((message = curl_multi_info_read (multi, &left))) {
            CURL *curl = message->easy_handle;
            char *body;
            if (message->data.result != CURLE_OK)
                fail ("a request failed");
            curl_easy_getinfo (curl, CURLINFO_PRIVATE, &body);
            curl_multi_remove_handle (multi, curl);
            done++;
            if (started < calls) {
                prepare_nth (curl, started++, body, sizeof *bodies);
                curl_multi_add_handle (multi, curl);
            } else {
                curl_easy_cleanup (curl);
            }
        }
        if (done == before && curl_multi_poll (multi, NULL, 0, 1000, NULL) != CURLM_OK)
            fail ("curl");
    }
    curl_multi_cleanup (multi);
    curl_slist_free_all (headers);
}

static int by_value (const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a;
    uint64_t y = *(const uint64_t *) b;
    return x < y ? -1 : x > y;
}

static uint64_t *run_latency (uint64_t rate)
{
    uint64_t *times = calloc (events, sizeof *times);
    CURL *curl = curl_easy_init ();
    char body[256];
    struct curl_slist *headers = curl_slist_append (NULL, "Content-Type: application/json");
    if (!times || !rate)
        fail ("latency needs memory and a rate");
    curl_easy_setopt (curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt (curl, CURLOPT_HTTPHEADER, headers);
    uint64_t begun = now_us ();
    for (uint64_t i = 0; i < events; i++) {
        uint64_t due = begun + i * 1000000 / rate;
        uint64_t now = now_us ();
        if (due > now) {
            struct timespec pause = { 0, (long) (due - now) * 1000 };
            nanosleep (&pause, NULL);
        }
        uint64_t from = now_us ();
        for (enum call call = CALL_READ; call <= CALL_REWARD; call++) {
            prepare (curl, call, i + 1, 1, body, sizeof body);
            if (curl_easy_perform (curl) != CURLE_OK)
                fail ("a request failed");
        }
        times[i] = now_us () - from;
    }
    qsort (times, events, sizeof *times, by_value);
    curl_easy_cleanup (curl);
    curl_slist_free_all (headers);
    return times;
}

/*  What getrusage says counts the parent's memory before exec too. */
static long peak_kb (void)
{
    char line[256];
    long peak = 0;
    FILE *file = fopen ("/proc/self/status", "r");
    while (file && fgets (line, sizeof line, file))
        if (sscanf (line, "VmHWM: %ld", &peak) == 1)
            break;
    if (file)
        fclose (file);
    return peak;
}

int main (int argc, char **argv)
{
    if (argc < 4) {
        fprintf (stderr, "usage: bench_reference ignored|rewarded|reads|latency PORT EVENTS [RATE]\n");
        return 64;
    }
    port = (unsigned) strtoul (argv[2], NULL, 10);
    events = strtoull (argv[3], NULL, 10);
    curl_global_init (CURL_GLOBAL_ALL);
    uint64_t *times = NULL;
    uint64_t begun = now_us ();
    if (strcmp (argv[1], "ignored") == 0)
        run_pages (false);
    else if (strcmp (argv[1], "reads") == 0)
        run_pages (true);
    else if (strcmp (argv[1], "rewarded") == 0)
        run_rewarded ();
    else if (strcmp (argv[1], "latency") == 0)
        times = run_latency (argc > 4 ? strtoull (argv[4], NULL, 10) : 0);
    else
        fail ("unknown scenario");
    uint64_t elapsed = now_us () - begun;
    struct rusage usage;
    getrusage (RUSAGE_SELF, &usage);
    printf ("{\"events\":%" PRIu64 ",\"seconds\":%.6f,\"cpu_us\":%ld,\"peak_kb\":%ld", events,
            (double) elapsed / 1e6,
            (long) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec +
                usage.ru_stime.tv_usec,
            peak_kb ());
    if (times)
        printf (",\"p50_us\":%" PRIu64 ",\"p99_us\":%" PRIu64 ",\"p999_us\":%" PRIu64,
                times[(events - 1) / 2], times[(events - 1) * 99 / 100], times[(events - 1) * 999 / 1000]);
    printf ("}\n");
    free (times);
    curl_global_cleanup ();
    return 0;
}
