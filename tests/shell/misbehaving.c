/*  misbehaving.c - see misbehaving.h. Included by the tests that use it, since
    each test is one file to the build. */
#include "tests/shell/misbehaving.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STEPS_MAX = 64, REQUEST_TEXT_MAX = 128 * 1024 };

/*  One connection and the thread that serves it. */
struct visitor {
    struct misbehaving *server;
    int fd;
    pthread_t thread;
};

struct misbehaving {
    struct misbehaving_step steps[STEPS_MAX];
    size_t steps_count;
    int listener;
    int stop; /* an eventfd, readable once the server is to end */
    uint16_t port;
    pthread_t acceptor;
    pthread_mutex_t lock;
    pthread_cond_t came;
    char *requests[MISBEHAVING_REQUESTS_MAX];
    size_t requests_count;
    size_t taken_count;
    struct visitor visitors[MISBEHAVING_CONNECTIONS_MAX];
    size_t visitors_count;
};

/*  ---- a connection ------------------------------------------------------- */

/*  Waits for a descriptor; false when the server ends or time is up. */
static bool wait_for (const struct misbehaving *server, int fd, short events, int timeout_ms)
{
    struct pollfd fds[2] = { { .fd = server->stop, .events = POLLIN }, { .fd = fd, .events = events } };
    int ready = poll (fds, 2, timeout_ms);
    return ready > 0 && fds[0].revents == 0;
}

/*  Sends all; false when the other side or the server is gone. */
static bool send_all (const struct visitor *visitor, const char *bytes, size_t size)
{
    while (size > 0) {
        if (!wait_for (visitor->server, visitor->fd, POLLOUT, -1))
            return false;
        ssize_t sent = send (visitor->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            return false;
        if (sent > 0) {
            bytes += sent;
            size -= (size_t) sent;
        }
    }
    return true;
}

static bool send_text (const struct visitor *visitor, const char *text)
{
    return send_all (visitor, text, strlen (text));
}

/*  The size of the body that a header promises. */
static size_t promised (const char *header)
{
    const char *line = strcasestr (header, "\r\nContent-Length:");
    return line ? strtoul (line + sizeof "\r\nContent-Length:" - 1, NULL, 10) : 0;
}

/*  Reads one whole request; NULL when none came. To be freed. */
static char *read_request (const struct visitor *visitor)
{
    char *text = malloc (REQUEST_TEXT_MAX + 1);
    size_t size = 0;
    while (text && size < REQUEST_TEXT_MAX) {
        if (!wait_for (visitor->server, visitor->fd, POLLIN, -1))
            break;
        ssize_t got = recv (visitor->fd, text + size, REQUEST_TEXT_MAX - size, 0);
        if (got <= 0)
            break;
        size += (size_t) got;
        text[size] = '\0';
        const char *end = strstr (text, "\r\n\r\n");
        if (end && size >= (size_t) (end - text) + 4 + promised (text))
            return text;
    }
    free (text);
    return NULL;
}

/*  Notes a request and says which step it gets. */
static struct misbehaving_step note_request (struct misbehaving *server, char *text)
{
    pthread_mutex_lock (&server->lock);
    assert (server->requests_count < MISBEHAVING_REQUESTS_MAX);
    size_t n = server->requests_count++;
    server->requests[n] = text;
    struct misbehaving_step step = server->steps[n < server->steps_count ? n : server->steps_count - 1];
    pthread_cond_broadcast (&server->came);
    pthread_mutex_unlock (&server->lock);
    return step;
}

/*  ---- steps -------------------------------------------------------------- */

/*  Sends the header of a reply; `length` < 0 leaves the size out. */
static bool send_header (const struct visitor *visitor, const struct misbehaving_step *step, long long length)
{
    char header[4096];
    int size =
        snprintf (header, sizeof header, "HTTP/1.1 %u Whatever\r\nContent-Type: application/json\r\n%s",
                  step->status ? step->status : 200, step->headers ? step->headers : "");
    assert (size > 0 && (size_t) size < sizeof header);
    if (!send_text (visitor, header))
        return false;
    if (length >= 0) {
        snprintf (header, sizeof header, "Content-Length: %lld\r\n", length);
        if (!send_text (visitor, header))
            return false;
    }
    return send_text (visitor, "\r\n");
}

/*  A whole reply whose header promises `promise` bytes. */
static bool send_reply (const struct visitor *visitor, const struct misbehaving_step *step, size_t promise)
{
    return send_header (visitor, step, (long long) promise) && send_text (visitor, step->body);
}

static bool send_chunked (const struct visitor *visitor, const struct misbehaving_step *step, bool whole)
{
    struct misbehaving_step chunked = *step;
    chunked.headers = "Transfer-Encoding: chunked\r\n";
    if (!send_header (visitor, &chunked, -1))
        return false;
    for (const char *at = step->body; *at; at++) {
        char chunk[] = { '1', '\r', '\n', *at, '\r', '\n' };
        if (!send_all (visitor, chunk, sizeof chunk))
            return false;
    }
    return whole ? send_text (visitor, "0\r\n\r\n") : send_text (visitor, "5\r\nab");
}

static bool send_slowly (const struct visitor *visitor, const struct misbehaving_step *step)
{
    if (!send_header (visitor, step, (long long) strlen (step->body)))
        return false;
    for (const char *at = step->body; *at; at++) {
        if (!send_all (visitor, at, 1))
            return false;
        wait_for (visitor->server, -1, 0, 1);
    }
    return true;
}

/*  Sends a text again and again; ends with the connection. */
static void send_endless (const struct visitor *visitor, const char *text)
{
    char block[16384];
    size_t one = strlen (text);
    size_t size = 0;
    assert (one > 0 && one <= sizeof block);
    for (; size + one <= sizeof block; size += one)
        memcpy (block + size, text, one);
    while (send_all (visitor, block, size))
        continue;
}

static void reset (const struct visitor *visitor)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };
    setsockopt (visitor->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/*  Waits until the client or the server gives up. */
static void hang (const struct visitor *visitor)
{
    char byte;
    while (wait_for (visitor->server, visitor->fd, POLLIN, -1)) {
        if (recv (visitor->fd, &byte, 1, 0) <= 0)
            break;
    }
}

/*  Promises and sends half a body; the other half follows when the client has
    had time to take the first for the whole. */
static bool send_too_much (const struct visitor *visitor, const struct misbehaving_step *step, size_t size)
{
    if (!send_header (visitor, step, (long long) (size / 2)) || !send_all (visitor, step->body, size / 2))
        return false;
    wait_for (visitor->server, -1, 0, 50);
    return send_text (visitor, step->body + size / 2);
}

/*  Takes one step; false when the connection is to be closed. */
static bool take_step (const struct visitor *visitor, const struct misbehaving_step *step)
{
    size_t size = strlen (step->body);
    switch (step->how) {
    case STEP_ANSWER:
        return send_reply (visitor, step, size);
    case STEP_OWN_HEADER:
        return send_text (visitor, step->headers) && send_text (visitor, step->body);
    case STEP_CHUNKED:
        return send_chunked (visitor, step, true);
    case STEP_SLOW:
        return send_slowly (visitor, step);
    case STEP_SHORT_LENGTH:
        return send_too_much (visitor, step, size);
    case STEP_LEAVE:
        send_reply (visitor, step, size);
        break;
    case STEP_LONG_LENGTH:
        send_reply (visitor, step, 2 * size);
        break;
    case STEP_HANG_IN_BODY:
        send_reply (visitor, step, 2 * size);
        hang (visitor);
        break;
    case STEP_HANG:
        hang (visitor);
        break;
    case STEP_RESET:
        reset (visitor);
        break;
    case STEP_HALF_HEADER:
        send_text (visitor, "HTTP/1.1 200 OK\r\nContent-Le");
        break;
    case STEP_HALF_CHUNK:
        send_chunked (visitor, step, false);
        break;
    case STEP_HUGE_LENGTH:
        send_header (visitor, step, 1000000000000);
        hang (visitor);
        break;
    case STEP_ENDLESS_BODY:
        send_header (visitor, step, -1);
        send_endless (visitor, step->body);
        break;
    case STEP_ENDLESS_HEADER:
        send_text (visitor, "HTTP/1.1 200 OK\r\n");
        send_endless (visitor, "X-More: 0123456789012345678901234567890123456789\r\n");
        break;
    case STEP_GARBAGE:
        send_text (visitor, "\x16\x03\x01 this is not a web server\r\n\r\n");
        break;
    case STEP_CLOSE_LATE:
        wait_for (visitor->server, -1, 0, 500);
        return false;
    case STEP_CLOSE:
        break;
    }
    return false;
}

/*  The thread of a connection. */
static void *serve (void *context)
{
    struct visitor *visitor = context;
    int on = 1;
    setsockopt (visitor->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char *text;
    bool open = true;
    while (open && (text = read_request (visitor)) != NULL) {
        struct misbehaving_step step = note_request (visitor->server, text);
        open = take_step (visitor, &step);
        pthread_mutex_lock (&visitor->server->lock);
        visitor->server->taken_count++;
        pthread_cond_broadcast (&visitor->server->came);
        pthread_mutex_unlock (&visitor->server->lock);
    }
    close (visitor->fd);
    return NULL;
}

/*  ---- the server --------------------------------------------------------- */

/*  The thread that takes connections. */
static void *accept_all (void *context)
{
    struct misbehaving *server = context;
    while (wait_for (server, server->listener, POLLIN, -1)) {
        int fd = accept4 (server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        pthread_mutex_lock (&server->lock);
        assert (server->visitors_count < MISBEHAVING_CONNECTIONS_MAX);
        struct visitor *visitor = &server->visitors[server->visitors_count++];
        *visitor = (struct visitor){ .server = server, .fd = fd };
        int failed = pthread_create (&visitor->thread, NULL, serve, visitor);
        assert (failed == 0);
        (void) failed;
        pthread_mutex_unlock (&server->lock);
    }
    return NULL;
}

/*  Binds to a loopback port of the system's choice. */
static void listen_somewhere (struct misbehaving *server)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    server->listener = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->listener < 0 || bind (server->listener, (struct sockaddr *) &address, size) != 0 ||
        listen (server->listener, 128) != 0 ||
        getsockname (server->listener, (struct sockaddr *) &address, &size) != 0) {
        perror ("misbehaving server");
        abort ();
    }
    server->port = ntohs (address.sin_port);
}

struct misbehaving *misbehaving_new (const struct misbehaving_step *steps, size_t count)
{
    assert (count > 0 && count <= STEPS_MAX);
    struct misbehaving *server = calloc (1, sizeof *server);
    assert (server);
    for (size_t i = 0; i < count; i++) {
        server->steps[i] = steps[i];
        if (!server->steps[i].body)
            server->steps[i].body = "";
    }
    server->steps_count = count;
    listen_somewhere (server);
    server->stop = eventfd (0, EFD_CLOEXEC);
    assert (server->stop >= 0);
    pthread_condattr_t steady;
    pthread_condattr_init (&steady);
    pthread_condattr_setclock (&steady, CLOCK_MONOTONIC);
    pthread_cond_init (&server->came, &steady);
    pthread_condattr_destroy (&steady);
    pthread_mutex_init (&server->lock, NULL);
    int failed = pthread_create (&server->acceptor, NULL, accept_all, server);
    assert (failed == 0);
    (void) failed;
    return server;
}

void misbehaving_destroy (struct misbehaving **self)
{
    struct misbehaving *server = *self;
    if (!server)
        return;
    uint64_t one = 1;
    ssize_t written = write (server->stop, &one, sizeof one);
    assert (written == sizeof one);
    (void) written;
    pthread_join (server->acceptor, NULL);
    for (size_t i = 0; i < server->visitors_count; i++)
        pthread_join (server->visitors[i].thread, NULL);
    for (size_t i = 0; i < server->requests_count; i++)
        free (server->requests[i]);
    close (server->listener);
    close (server->stop);
    pthread_cond_destroy (&server->came);
    pthread_mutex_destroy (&server->lock);
    free (server);
    *self = NULL;
}

uint16_t misbehaving_port (const struct misbehaving *server)
{
    return server->port;
}

size_t misbehaving_requests (struct misbehaving *server)
{
    pthread_mutex_lock (&server->lock);
    size_t count = server->requests_count;
    pthread_mutex_unlock (&server->lock);
    return count;
}

size_t misbehaving_connections (struct misbehaving *server)
{
    pthread_mutex_lock (&server->lock);
    size_t count = server->visitors_count;
    pthread_mutex_unlock (&server->lock);
    return count;
}

/*  Waits until a counter of the server is so high. */
static bool wait_count (struct misbehaving *server, const size_t *counter, size_t count, unsigned timeout_ms)
{
    struct timespec until;
    clock_gettime (CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long) (timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock (&server->lock);
    while (*counter < count) {
        if (pthread_cond_timedwait (&server->came, &server->lock, &until) != 0)
            break;
    }
    bool reached = *counter >= count;
    pthread_mutex_unlock (&server->lock);
    return reached;
}

bool misbehaving_wait (struct misbehaving *server, size_t count, unsigned timeout_ms)
{
    return wait_count (server, &server->requests_count, count, timeout_ms);
}

bool misbehaving_wait_taken (struct misbehaving *server, size_t count, unsigned timeout_ms)
{
    return wait_count (server, &server->taken_count, count, timeout_ms);
}

const char *misbehaving_request (struct misbehaving *server, size_t n)
{
    pthread_mutex_lock (&server->lock);
    const char *text = n < server->requests_count ? server->requests[n] : NULL;
    pthread_mutex_unlock (&server->lock);
    return text;
}
