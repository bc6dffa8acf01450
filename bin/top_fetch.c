/*  top_fetch.c - see top_fetch.h. */

#include "bin/top_fetch.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "actors/base/clock.h"
#include "actors/base/config_check.h"
#include "proto/text.h"

/*  ---- addresses ----------------------------------------------------------- */

/*  Splits in front of the port; *port is empty without one. False when a bracket
    is not closed, or something else than a port follows it. */
static bool split (struct text text, struct text *host, struct text *port)
{
    const char *first = memchr (text.data, ':', text.size);
    const char *last = memrchr (text.data, ':', text.size);
    const char *end = text.data + text.size;
    *host = text;
    *port = NO_TEXT;
    if (text.data[0] == '[') {
        const char *bracket = memchr (text.data, ']', text.size);
        if (!bracket || (bracket + 1 < end && bracket[1] != ':'))
            return false;
        *host = (struct text){ text.data + 1, (uint32_t) (bracket - text.data - 1) };
        last = bracket + 1 < end ? bracket + 1 : NULL;
    } else if (first != last) {
        return true; /* an IPv6 address without brackets has no port */
    } else if (last) {
        host->size = (uint32_t) (last - text.data);
    }
    if (last)
        *port = (struct text){ last + 1, (uint32_t) (end - last - 1) };
    return !last || port->size > 0;
}

bool fetch_address_read (struct fetch_address *address, struct text text, uint16_t port)
{
    struct text host, digits;
    int64_t number = port;
    if (text.size == 0 || text_has (text, '\0') || !split (text, &host, &digits))
        return false;
    if (host.size == 0 && text.data[0] == ':')
        host = TEXT_LITERAL ("127.0.0.1");
    if (host.size == 0 || !check_host (host, 1, FETCH_HOST_SIZE_MAX, &(int64_t){ 0 }))
        return false;
    if (digits.size > 0 && !check_number (digits, 1, UINT16_MAX, &number))
        return false;
    *address = (struct fetch_address){ .port = (uint16_t) number };
    memcpy (address->host, host.data, host.size);
    snprintf (address->name, sizeof address->name, text_has (host, ':') ? "[%s]:%u" : "%s:%u", address->host,
              (unsigned) address->port);
    return true;
}

/*  ---- one page ------------------------------------------------------------ */

/*  Ends without a page. */
static void fail (struct fetch *fetch, const char *reason)
{
    fetch->ended = true;
    fetch->status = 0;
    fetch->body = NO_TEXT;
    snprintf (fetch->reason, sizeof fetch->reason, "%s", reason);
}

/*  Begins to connect to the next address; fails with the reason of the one
    before when there is none left. */
static void try_next (struct fetch *fetch, const char *reason)
{
    if (fetch->fd >= 0)
        close (fetch->fd);
    fetch->fd = -1;
    while (fetch->next) {
        const struct addrinfo *to = fetch->next;
        fetch->next = to->ai_next;
        fetch->fd = socket (to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fetch->fd >= 0 && (connect (fetch->fd, to->ai_addr, to->ai_addrlen) == 0 || errno == EINPROGRESS))
            return;
        reason = strerror (errno);
        if (fetch->fd >= 0)
            close (fetch->fd);
        fetch->fd = -1;
    }
    fail (fetch, reason);
}

/*  Two pages of one server, next to each other, share what its name resolves to. */
static void begin (struct fetch *fetch, const struct fetch *before)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    char port[8];
    fetch->fd = -1;
    fetch->connected = fetch->ended = false;
    fetch->status = 0;
    fetch->sent = fetch->size = 0;
    fetch->body = NO_TEXT;
    fetch->reason[0] = '\0';
    fetch->found = NULL;
    snprintf (fetch->request, sizeof fetch->request, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", fetch->path,
              fetch->address->name);
    if (before && before->address == fetch->address && before->found) {
        fetch->next = before->found;
        try_next (fetch, "");
        return;
    }
    snprintf (port, sizeof port, "%u", (unsigned) fetch->address->port);
    int error = getaddrinfo (fetch->address->host, port, &hints, &fetch->found);
    fetch->next = fetch->found;
    if (error)
        fail (fetch, gai_strerror (error));
    else
        try_next (fetch, "no address");
}

/*  The value of a header as a number; false without it. */
static bool content_length (const char *head, const char *end, size_t *length)
{
    static const char name[] = "\ncontent-length:";
    const size_t size = sizeof name - 1;
    for (const char *at = head; at + size < end; at++) {
        if (strncasecmp (at, name, size) != 0)
            continue;
        const char *digits = at + size;
        digits += strspn (digits, " ");
        uint64_t number;
        if (!text_to_uint ((struct text){ digits, (uint32_t) strcspn (digits, "\r\n ") },
                           FETCH_REPLY_SIZE_MAX, &number))
            return false;
        *length = (size_t) number;
        return true;
    }
    return false;
}

/*  Looks whether the reply is whole; `closed` says that no more will come. */
static void look (struct fetch *fetch, bool closed)
{
    const char *head = fetch->reply;
    const char *blank = memmem (head, fetch->size, "\r\n\r\n", 4);
    size_t length = 0;
    if (!blank) {
        if (closed)
            fail (fetch, fetch->size ? "its answer is no HTTP" : "it hung up without an answer");
        return;
    }
    size_t body_size = fetch->size - (size_t) (blank + 4 - head);
    bool counted = content_length (head, blank + 4, &length);
    if (closed && counted && body_size < length) {
        fail (fetch, "its answer broke off");
        return;
    }
    if (!closed && (!counted || body_size < length))
        return;
    if (strncmp (head, "HTTP/1.", 7) != 0 || head[8] != ' ' || head[9] == '0' ||
        strspn (head + 9, "0123456789") != 3) {
        fail (fetch, "its answer is no HTTP");
        return;
    }
    fetch->ended = true;
    fetch->status =
        (unsigned) (head[9] - '0') * 100 + (unsigned) (head[10] - '0') * 10 + (unsigned) (head[11] - '0');
    fetch->body = (struct text){ blank + 4, (uint32_t) (counted ? length : body_size) };
}

static void read_reply (struct fetch *fetch)
{
    /*  One byte stays free for the terminator that the searches in it need. */
    size_t room = sizeof fetch->reply - 1 - fetch->size;
    if (room == 0) {
        fail (fetch, "its answer is larger than a status page");
        return;
    }
    ssize_t got = recv (fetch->fd, fetch->reply + fetch->size, room, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got < 0) {
        fail (fetch, strerror (errno));
        return;
    }
    fetch->size += (size_t) got;
    fetch->reply[fetch->size] = '\0';
    look (fetch, got == 0);
}

/*  Does what can be done without waiting. */
static void work (struct fetch *fetch)
{
    int error = 0;
    socklen_t error_size = sizeof error;
    if (!fetch->connected) {
        if (getsockopt (fetch->fd, SOL_SOCKET, SO_ERROR, &error, &error_size) != 0)
            error = errno;
        if (error) {
            try_next (fetch, strerror (error));
            return;
        }
        fetch->connected = true;
    }
    size_t size = strlen (fetch->request);
    if (fetch->sent == size) {
        read_reply (fetch);
        return;
    }
    ssize_t sent = send (fetch->fd, fetch->request + fetch->sent, size - fetch->sent, MSG_NOSIGNAL);
    if (sent >= 0)
        fetch->sent += (size_t) sent;
    else if (errno != EAGAIN && errno != EINTR)
        fail (fetch, strerror (errno));
}

/*  ---- all of them --------------------------------------------------------- */

static void finish (struct fetch *fetch, uint64_t now_ms)
{
    fetch->done_ms = now_ms;
    if (fetch->fd >= 0)
        close (fetch->fd);
    fetch->fd = -1;
}

/*  One wait for all that are open; false when there are none. */
static bool turn (struct fetch *fetches, size_t count, uint64_t deadline_ms)
{
    struct pollfd items[FETCHES_MAX];
    struct fetch *of[FETCHES_MAX];
    nfds_t open = 0;
    uint64_t now_ms = clock_steady_ms ();
    for (size_t i = 0; i < count; i++) {
        struct fetch *fetch = &fetches[i];
        if (!fetch->ended && now_ms >= deadline_ms)
            fail (fetch, fetch->connected ? "no answer in time" : "no connection in time");
        if (fetch->ended && fetch->done_ms == 0)
            finish (fetch, now_ms);
        if (fetch->ended)
            continue;
        bool reads = fetch->connected && fetch->sent == strlen (fetch->request);
        of[open] = fetch;
        items[open++] = (struct pollfd){ .fd = fetch->fd, .events = reads ? POLLIN : POLLOUT };
    }
    if (open > 0 && poll (items, open, (int) (deadline_ms - now_ms)) > 0)
        for (nfds_t i = 0; i < open; i++)
            if (items[i].revents)
                work (of[i]);
    return open > 0;
}

void fetch_all (struct fetch *fetches, size_t count, uint32_t timeout_ms)
{
    assert (fetches && count <= FETCHES_MAX);
    for (size_t i = 0; i < count; i++) {
        begin (&fetches[i], i > 0 ? &fetches[i - 1] : NULL);
        fetches[i].done_ms = 0;
    }
    uint64_t deadline_ms = clock_steady_ms () + timeout_ms;
    while (turn (fetches, count, deadline_ms))
        continue;
    for (size_t i = 0; i < count; i++) {
        if (fetches[i].found)
            freeaddrinfo (fetches[i].found);
        fetches[i].found = NULL;
    }
}
