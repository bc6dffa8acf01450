/*  http_talk.h - a plain HTTP client for tests: one socket, bytes as they are.

    Every read has a deadline, so a server that says nothing fails the test
    instead of hanging it.
*/
#ifndef GUERDON_TEST_HTTP_TALK_H
#define GUERDON_TEST_HTTP_TALK_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

enum { TALK_DEADLINE_S = 10, TALK_SIZE_MAX = 8 * 1024 * 1024 };

/*  A reply: head and body point into one piece of memory, `memory`. */
struct talk_reply {
    int status;
    char *head;
    char *body;
    size_t body_size;
    char *memory;
};

static inline int talk_open (uint16_t port)
{
    int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons (port) };
    struct timeval deadline = { .tv_sec = TALK_DEADLINE_S };
    address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
    assert_true (fd >= 0);
    setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline);
    /*  Head and body are sent apart: none is to wait for the other. */
    int on = 1;
    setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    assert_int_equal (connect (fd, (struct sockaddr *) &address, sizeof address), 0);
    return fd;
}

/*  Sends all bytes; false when the other side closed. */
static inline bool talk_send (int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t sent = send (fd, at, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        size -= (size_t) sent;
    }
    return true;
}

/*  Sends a request; `headers` are lines that end in CRLF. */
static inline void talk_ask (int fd, const char *method, const char *target, const char *headers,
                             const char *body, size_t body_size)
{
    size_t capacity = strlen (target) + strlen (headers) + 256;
    char *head = malloc (capacity);
    assert_non_null (head);
    int size = snprintf (head, capacity, "%s %s HTTP/1.1\r\nHost: test\r\n%s", method, target, headers);
    if (body)
        size += snprintf (head + size, capacity - (size_t) size, "Content-Length: %zu\r\n", body_size);
    size += snprintf (head + size, capacity - (size_t) size, "\r\n");
    assert_true (talk_send (fd, head, (size_t) size));
    if (body)
        talk_send (fd, body, body_size);
    free (head);
}

/*  The body's size from the head, 0 without one. */
static inline size_t talk_length (const char *head)
{
    const char *line = strcasestr (head, "\r\ncontent-length:");
    return line ? strtoul (strchr (line, ':') + 1, NULL, 10) : 0;
}

/*  Reads one reply; status 0 when the connection ended before it was whole. */
static inline struct talk_reply talk_hear (int fd, bool head_only)
{
    struct talk_reply reply = { 0 };
    size_t size = 0;
    size_t wanted = 0;
    reply.memory = malloc (TALK_SIZE_MAX + 1);
    assert_non_null (reply.memory);
    while (!reply.body || size < wanted) {
        /*  Byte by byte up to the body, so that nothing of the next reply is
            taken. */
        ssize_t got = recv (fd, reply.memory + size, reply.body ? wanted - size : 1, 0);
        if (got <= 0)
            return reply;
        size += (size_t) got;
        assert_true (size < TALK_SIZE_MAX);
        reply.memory[size] = 0;
        if (!reply.body && size > 3 && memcmp (reply.memory + size - 4, "\r\n\r\n", 4) == 0) {
            reply.body = reply.memory + size;
            reply.body_size = head_only ? 0 : talk_length (reply.memory);
            wanted = size + reply.body_size;
        }
    }
    reply.head = reply.memory;
    reply.status = (int) strtol (reply.memory + strlen ("HTTP/1.1 "), NULL, 10);
    reply.body[reply.body_size] = 0;
    return reply;
}

/*  Asks on a connection that is open and checks the status; the reply's memory
    is to be freed. */
static inline struct talk_reply talk_on (int fd, const char *method, const char *target, const char *body,
                                         int status)
{
    talk_ask (fd, method, target, "", body, body ? strlen (body) : 0);
    struct talk_reply reply = talk_hear (fd, strcmp (method, "HEAD") == 0);
    if (reply.status != status)
        print_error ("%s %s: %d %s\n", method, target, reply.status, reply.body ? reply.body : "");
    assert_int_equal (reply.status, status);
    return reply;
}

#endif
