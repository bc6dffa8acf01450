/*  stub.c - the three services, as fast as a process can answer.

    usage: bench_stub KIND EVENTS [RATE]

    KIND says what the events are: `ignored` (a type that no rule knows),
    `rewarded` (a LOGIN each, of a player of its own), `mixed` (of 100 events one
    of a player to be rewarded, 30 of players who were, 69 of other apps). With
    RATE they become visible one after another, so many a second, from the first
    poll on; a poll that finds none is held open for them.

    Prints "PORT n", "DONE" when every event is acknowledged, and serves until its
    standard input ends; then one line of JSON: what it was asked, the seconds from the first poll to the last thing that
    matters (a reward, or the last event acknowledged), the seconds that the first
    and the last tenth of the events took, and how long after an event was visible
    its reward was posted. It answers from arithmetic, keeps one bit a player, and so costs
    little beside the program that is measured.
*/
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, IN_SIZE = 64 * 1024, OUT_SIZE = 4 * 1024 * 1024, LATENCIES_MAX = 1000000 };
enum { HOLD_MS = 5000, LISTENER = CONNECTIONS_MAX, INPUT = CONNECTIONS_MAX + 1 };

enum kind { KIND_IGNORED, KIND_REWARDED, KIND_MIXED };

struct connection {
    int socket;
    size_t size;      /* of what came */
    uint64_t held_us; /* since when a poll waits, 0: none does */
    uint64_t after;   /* of the poll that waits */
    uint64_t limit;
    char in[IN_SIZE + 1];
};

static struct connection connections[CONNECTIONS_MAX];
static char out[OUT_SIZE];
static char body[OUT_SIZE];
static enum kind kind;
static uint64_t events;
static uint64_t rate; /* events a second; 0: all at once */
static uint64_t started_us;
static uint64_t ended_us;
static uint64_t tenth_us;  /* when the first tenth was acknowledged */
static uint64_t ninths_us; /* … and the first nine tenths */
static uint64_t polls, reads, marks, rewards, doubles, finds, others;
static uint8_t *given; /* a byte a player */
static uint32_t *latencies;
static size_t latency_count;
static bool done;   /* all are acknowledged */
static int waiting; /* the epoll */

static uint64_t now_us (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static void fail (const char *what)
{
    fprintf (stderr, "bench_stub: %s: %s\n", what, strerror (errno));
    exit (1);
}

/*  The highest event that can be seen by now. */
static uint64_t visible (uint64_t at_us)
{
    if (!rate)
        return events;
    uint64_t seen = (at_us - started_us) * rate / 1000000;
    return seen < events ? seen : events;
}

static uint64_t visible_us (uint64_t event)
{
    return started_us + (event * 1000000 + rate - 1) / rate;
}

/*  ---- answers ------------------------------------------------------------ */

static char *put_number (char *to, uint64_t number)
{
    char digits[24];
    size_t count = 0;
    do
        digits[count++] = (char) ('0' + number % 10);
    while (number /= 10);
    while (count)
        *to++ = digits[--count];
    return to;
}

static char *put (char *to, const char *string)
{
    size_t size = strlen (string);
    memcpy (to, string, size);
    return to + size;
}

static bool is_login (uint64_t id)
{
    return kind == KIND_REWARDED || (kind == KIND_MIXED && id % 100 < 31);
}

static bool is_marked (uint64_t player)
{
    return kind == KIND_MIXED && player % 100 != 0;
}

static char *put_event (char *to, uint64_t id)
{
    to = put (to, "{\"id\":");
    to = put_number (to, id);
    to = put (to, ",\"timestamp\":1491000000123,\"from\":\"");
    to = put (to, kind == KIND_MIXED && !is_login (id) ? "game-3" : "game-2");
    to = put (to, kind == KIND_IGNORED ? "\",\"type\":\"LOGOUT" : "\",\"type\":\"LOGIN");
    to = put (to, "\",\"data\":{\"userId\":\"u");
    to = put_number (to, id);
    return put (to, "\",\"aliases\":{\"name\":\"somebody\",\"email\":\"someone@example.com\"}}}");
}

static void send_all (int socket, const char *bytes, size_t size)
{
    while (size) {
        ssize_t sent = send (socket, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            continue; /* the other end reads: it asked */
        if (sent <= 0)
            return;
        bytes += sent;
        size -= (size_t) sent;
    }
}

static void answer (int socket, const char *content, size_t size)
{
    char *to = put (out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ");
    to = put_number (to, size);
    to = put (to, "\r\n\r\n");
    memcpy (to, content, size);
    send_all (socket, out, (size_t) (to - out) + size);
}

static void answer_page (int socket, uint64_t after, uint64_t limit, uint64_t last)
{
    char *to = put (body, "[");
    for (uint64_t id = after + 1; id <= last && id <= after + limit; id++) {
        if (id > after + 1)
            *to++ = ',';
        to = put_event (to, id);
    }
    to = put (to, "]");
    answer (socket, body, (size_t) (to - body));
}

/*  ---- requests ----------------------------------------------------------- */

static uint64_t number_after (const char *text, const char *name)
{
    const char *at = strstr (text, name);
    return at ? strtoull (at + strlen (name), NULL, 10) : 0;
}

/*  Everything up to an event is settled. */
static void acknowledge (uint64_t after, uint64_t now)
{
    if (!tenth_us && after >= events / 10)
        tenth_us = now;
    if (!ninths_us && after >= events - events / 10)
        ninths_us = now;
    if (after < events || done)
        return;
    done = true;
    if (kind != KIND_REWARDED)
        ended_us = now; /* for rewards it is when the last one came */
    printf ("DONE\n");
    fflush (stdout);
}

static void on_poll (struct connection *connection)
{
    uint64_t after = number_after (connection->in, "after=");
    uint64_t limit = number_after (connection->in, "limit=");
    uint64_t now = now_us ();
    polls++;
    if (!started_us)
        started_us = now;
    if (!strstr (connection->in, ".ahead&"))
        acknowledge (after, now);
    uint64_t last = visible (now);
    if (last > after) {
        answer_page (connection->socket, after, limit ? limit : 100, last);
        return;
    }
    connection->held_us = now;
    connection->after = after;
    connection->limit = limit ? limit : 100;
}

/*  GET /usermeta/v1/u1,u2/keys?... */
static void on_read (struct connection *connection)
{
    const char *at = connection->in + strlen ("GET /usermeta/v1/");
    char *to = put (body, "{");
    reads++;
    while (*at == 'u') {
        char *end;
        uint64_t player = strtoull (at + 1, &end, 10);
        if (to[-1] != '{')
            *to++ = ',';
        to = put (to, "\"u");
        to = put_number (to, player);
        to = put (to, "\":{\"auth\":\"1490999999000\"");
        if (is_marked (player) || (player <= events && given[player]))
            to = put (to, ",\"$reward$promo1\":\"1491000000123\"");
        *to++ = '}';
        at = *end == ',' ? end + 1 : strncmp (end, "%2C", 3) == 0 ? end + 3 : end;
    }
    to = put (to, "}");
    answer (connection->socket, body, (size_t) (to - body));
}

static void on_reward (struct connection *connection, const char *content)
{
    uint64_t player = number_after (content, "\"to\":\"u");
    rewards++;
    ended_us = now_us ();
    if (player <= events) {
        doubles += given[player];
        given[player] = 1;
    }
    if (rate && latency_count < LATENCIES_MAX) {
        uint64_t now = now_us ();
        uint64_t from = visible_us (player);
        latencies[latency_count++] = (uint32_t) (now > from ? now - from : 0);
    }
    answer (connection->socket, "{\"ok\":true}", 11);
}

/*  GET /virtualcurrency/v1/auth/SECRET.u7/transactions?... */
static void on_find (struct connection *connection)
{
    uint64_t player = number_after (connection->in, ".u");
    finds++;
    if ((player <= events && given[player]) || is_marked (player)) {
        int size =
            snprintf (body, sizeof body,
                      "[{\"id\":\"tx-1\",\"timestamp\":1711800000000,\"amount\":10,\"currency\":\"gold\","
                      "\"reason\":\"reward\",\"data\":{\"from\":\"rewards/v1\",\"rewardId\":\"promo1\"}}]");
        answer (connection->socket, body, (size_t) size);
    } else {
        answer (connection->socket, "[]", 2);
    }
}

static bool begins (const char *text, const char *with)
{
    return strncmp (text, with, strlen (with)) == 0;
}

static void on_request (struct connection *connection, const char *content)
{
    const char *in = connection->in;
    if (begins (in, "GET /events/")) {
        on_poll (connection);
    } else if (begins (in, "POST /usermeta/")) {
        marks++;
        answer (connection->socket, "{}", 2);
    } else if (begins (in, "GET /usermeta/")) {
        on_read (connection);
    } else if (begins (in, "POST /virtualcurrency/")) {
        on_reward (connection, content);
    } else if (strstr (in, "/transactions?")) {
        on_find (connection);
    } else {
        others++;
        answer (connection->socket, "[{\"currency\":\"gold\",\"count\":0}]", 31);
    }
}

/*  ---- connections -------------------------------------------------------- */

static void hang_up (struct connection *connection)
{
    close (connection->socket);
    connection->socket = -1;
}

/*  Answers every whole request that came. */
static void take_requests (struct connection *connection)
{
    for (;;) {
        connection->in[connection->size] = '\0';
        char *end = strstr (connection->in, "\r\n\r\n");
        if (!end)
            return;
        *end = '\0';
        size_t length = 0;
        const char *header = strcasestr (connection->in, "\r\nContent-Length:");
        if (header)
            length = strtoull (header + 17, NULL, 10);
        size_t whole = (size_t) (end - connection->in) + 4 + length;
        if (connection->size < whole) {
            *end = '\r';
            return;
        }
        char last = connection->in[whole];
        connection->in[whole] = '\0';
        on_request (connection, end + 4);
        connection->in[whole] = last;
        memmove (connection->in, connection->in + whole, connection->size - whole);
        connection->size -= whole;
    }
}

static void on_readable (struct connection *connection)
{
    ssize_t got = recv (connection->socket, connection->in + connection->size, IN_SIZE - connection->size, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        connection->held_us = 0;
        hang_up (connection);
        return;
    }
    connection->size += (size_t) got;
    take_requests (connection);
}

static void on_connect (int listener)
{
    int socket = accept4 (listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int on = 1;
    if (socket < 0)
        return;
    setsockopt (socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &connections[i];
        if (connection->socket >= 0)
            continue;
        connection->socket = socket;
        connection->size = 0;
        connection->held_us = 0;
        struct epoll_event interest = { .events = EPOLLIN, .data.u32 = i };
        if (epoll_ctl (waiting, EPOLL_CTL_ADD, socket, &interest) != 0)
            fail ("epoll_ctl");
        return;
    }
    close (socket);
}

/*  Lets polls go for which an event is visible, or that waited long enough; the
    return is how long the next may be waited for, in ms, -1 for ever. */
static int release (void)
{
    uint64_t now = now_us ();
    int wait = rate ? -1 : 1000;
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &connections[i];
        if (connection->socket < 0 || !connection->held_us)
            continue;
        uint64_t last = visible (now);
        if (last > connection->after || now > connection->held_us + HOLD_MS * UINT64_C (1000)) {
            connection->held_us = 0;
            answer_page (connection->socket, connection->after, connection->limit, last);
            take_requests (connection);
        } else if (rate && last < events) {
            wait = 0;
        }
    }
    return wait;
}

/*  ---- life --------------------------------------------------------------- */

static int listen_somewhere (void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int listener = socket (AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind (listener, (struct sockaddr *) &address, size) != 0 ||
        listen (listener, CONNECTIONS_MAX) != 0 ||
        getsockname (listener, (struct sockaddr *) &address, &size) != 0)
        fail ("listen");
    printf ("PORT %u\n", (unsigned) ntohs (address.sin_port));
    fflush (stdout);
    return listener;
}

static int by_value (const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a;
    uint32_t y = *(const uint32_t *) b;
    return x < y ? -1 : x > y;
}

static uint32_t quantile (double share)
{
    return latency_count ? latencies[(size_t) (share * (double) (latency_count - 1))] : 0;
}

static void report (void)
{
    qsort (latencies, latency_count, sizeof *latencies, by_value);
    double seconds = ended_us > started_us ? (double) (ended_us - started_us) / 1e6 : 0;
    printf ("{\"seconds\":%.6f,\"first_tenth\":%.6f,\"last_tenth\":%.6f,", seconds,
            (double) (tenth_us - started_us) / 1e6,
            ended_us > ninths_us ? (double) (ended_us - ninths_us) / 1e6 : 0);
    printf ("\"polls\":%" PRIu64 ",\"reads\":%" PRIu64 ",\"marks\":%" PRIu64 ",\"rewards\":%" PRIu64
            ",\"doubles\":%" PRIu64 ",\"finds\":%" PRIu64 ",\"others\":%" PRIu64
            ",\"p50_us\":%u,\"p99_us\":%u,\"p999_us\":%u,\"latencies\":%zu}\n",
            polls, reads, marks, rewards, doubles, finds, others, (unsigned) quantile (0.5),
            (unsigned) quantile (0.99), (unsigned) quantile (0.999), latency_count);
}

/*  While a poll waits for its event the time is looked at without pause: the
    stub's own delay is no part of what is measured. */
static void serve (int listener)
{
    struct epoll_event ready[64];
    for (;;) {
        int count = epoll_wait (waiting, ready, 64, release ());
        for (int i = 0; i < count; i++) {
            uint32_t which = ready[i].data.u32;
            if (which == INPUT) {
                char byte;
                if (read (STDIN_FILENO, &byte, 1) <= 0)
                    return;
            } else if (which == LISTENER) {
                on_connect (listener);
            } else {
                on_readable (&connections[which]);
            }
        }
    }
}

int main (int argc, char **argv)
{
    static const char *const kinds[] = { "ignored", "rewarded", "mixed" };
    int found = -1;
    for (int i = 0; argc > 2 && i < 3; i++)
        if (strcmp (argv[1], kinds[i]) == 0)
            found = i;
    if (found < 0) {
        fprintf (stderr, "usage: bench_stub ignored|rewarded|mixed EVENTS [RATE]\n");
        return 64;
    }
    kind = (enum kind) found;
    events = strtoull (argv[2], NULL, 10);
    rate = argc > 3 ? strtoull (argv[3], NULL, 10) : 0;
    given = calloc (events + 1, 1);
    latencies = calloc (LATENCIES_MAX, sizeof *latencies);
    if (!given || !latencies)
        fail ("memory");
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        connections[i].socket = -1;
    int listener = listen_somewhere ();
    waiting = epoll_create1 (EPOLL_CLOEXEC);
    struct epoll_event interest = { .events = EPOLLIN, .data.u32 = LISTENER };
    struct epoll_event input = { .events = EPOLLIN, .data.u32 = INPUT };
    if (waiting < 0 || epoll_ctl (waiting, EPOLL_CTL_ADD, listener, &interest) != 0 ||
        epoll_ctl (waiting, EPOLL_CTL_ADD, STDIN_FILENO, &input) != 0)
        fail ("epoll");
    serve (listener);
    report ();
    return 0;
}
