/*  http_fuzz.h - a client for targets that hold a server: bytes go there on a
    connection of their own, and what comes back is read to its end.

    A server that does not answer a whole request within some seconds hangs, and that
    is a finding. Every connection comes from another loopback address, so that
    ports which the kernel keeps for a while do not run out.
*/
#ifndef GUERDON_HTTP_FUZZ_H
#define GUERDON_HTTP_FUZZ_H

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    TALK_DEADLINE_US = 20 * 1000000, /* of a whole request: then it hangs */
    TALK_SILENCE_US = 3000,          /* after which a server that may wait for more does */
    TALK_BEFORE_END_US = 100,        /* so that the end comes after the bytes, mostly */
    TALK_REPLY_MAX = 1 << 20
};

/*  What came back; terminated. */
struct talk_reply {
    size_t size;
    char bytes[TALK_REPLY_MAX + 1];
};

static inline int talk_open (uint16_t port)
{
    static uint32_t count;
    struct sockaddr_in from = { .sin_family = AF_INET };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons (port) };
    int on = 1;
    from.sin_addr.s_addr = htonl (INADDR_LOOPBACK + ++count % 0xfffff);
    to.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
    int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt (fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
        bind (fd, (struct sockaddr *) &from, sizeof from) != 0 ||
        connect (fd, (struct sockaddr *) &to, sizeof to) != 0)
        abort ();
    return fd;
}

static inline void talk_send (int fd, const void *bytes, size_t size)
{
    ssize_t got = 1;
    const char *at = bytes;
    for (size_t left = size; left > 0 && got > 0; at += got, left -= (size_t) got)
        got = send (fd, at, left, MSG_NOSIGNAL);
}

/*  Waits for bytes or the end at most so long; false when neither came. */
static inline bool talk_wait (int fd, long us)
{
    struct pollfd item = { .fd = fd, .events = POLLIN };
    struct timespec time = { us / 1000000, us % 1000000 * 1000 };
    return ppoll (&item, 1, &time, NULL) != 0;
}

/*  Reads to the end, or until nothing comes for so long; false then. */
static inline bool talk_read (int fd, long us, struct talk_reply *reply)
{
    ssize_t got = 1;
    reply->size = 0;
    while (got > 0 && reply->size < TALK_REPLY_MAX) {
        if (!talk_wait (fd, us))
            break;
        got = recv (fd, reply->bytes + reply->size, TALK_REPLY_MAX - reply->size, 0);
        reply->size += got > 0 ? (size_t) got : 0;
    }
    assert (reply->size < TALK_REPLY_MAX);
    reply->bytes[reply->size] = '\0';
    return got <= 0;
}

/*  A request that is whole and says that it is the last: reads until the server hangs
    up. `early` hangs up first, and may get nothing. */
static inline void talk_whole (uint16_t port, const void *bytes, size_t size, bool early,
                               struct talk_reply *reply)
{
    int fd = talk_open (port);
    talk_send (fd, bytes, size);
    if (early)
        shutdown (fd, SHUT_WR);
    bool ended = talk_read (fd, TALK_DEADLINE_US, reply);
    assert (ended);
    close (fd);
}

/*  Any bytes: when the server has nothing more to say, or waits for more, the
    connection is reset. */
static inline void talk_any (uint16_t port, const void *bytes, size_t size, struct talk_reply *reply)
{
    int fd = talk_open (port);
    struct linger reset = { .l_onoff = 1, .l_linger = 0 };
    talk_send (fd, bytes, size);
    talk_wait (fd, TALK_BEFORE_END_US);
    shutdown (fd, SHUT_WR);
    if (!talk_read (fd, TALK_SILENCE_US, reply))
        setsockopt (fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close (fd);
}

#endif
