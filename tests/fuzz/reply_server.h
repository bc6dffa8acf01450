/*  reply_server.h - a server for targets that hold a client: on a thread of its own
    it answers whatever it is asked with the same bytes, and hangs up. */
#ifndef GUERDON_REPLY_SERVER_H
#define GUERDON_REPLY_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*  What it answers may be changed once the request before was answered. */
struct reply_server {
    int listener;
    uint16_t port;
    const uint8_t *bytes;
    size_t size;
    atomic_uint asked;    /* requests that came */
    atomic_uint answered; /* … and were answered as far as somebody read it */
};

/*  Reads a request up to the empty line, and of what follows what is there. */
static inline void reply_serve_one (struct reply_server *server, int fd)
{
    char request[8192];
    size_t used = 0;
    while (used < sizeof request - 1) {
        ssize_t got = recv (fd, request + used, sizeof request - 1 - used, 0);
        if (got <= 0)
            break;
        used += (size_t) got;
        request[used] = '\0';
        if (!strstr (request, "\r\n\r\n"))
            continue;
        atomic_fetch_add (&server->asked, 1);
        ssize_t sent = 1;
        const uint8_t *at = server->bytes;
        for (size_t left = server->size; left > 0 && sent > 0; at += sent, left -= (size_t) sent)
            sent = send (fd, at, left, MSG_NOSIGNAL);
        shutdown (fd, SHUT_WR);
        atomic_fetch_add (&server->answered, 1);
        /*  Until the other end hangs up too: a reset would take the reply along. */
        while (recv (fd, request, sizeof request, 0) > 0)
            continue;
        break;
    }
}

static inline void *reply_serve (void *context)
{
    struct reply_server *server = context;
    for (;;) {
        int fd = accept4 (server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        reply_serve_one (server, fd);
        close (fd);
    }
    return NULL;
}

/*  The next request will be answered so. */
static inline void reply_server_say (struct reply_server *server, const uint8_t *bytes, size_t size)
{
    server->bytes = bytes;
    server->size = size;
    atomic_store (&server->answered, 0);
    atomic_store (&server->asked, 0);
}

/*  Returns when the bytes are not needed any more. */
static inline void reply_server_wait (struct reply_server *server)
{
    while (atomic_load (&server->answered) < atomic_load (&server->asked))
        sched_yield ();
}

static inline void reply_server_start (struct reply_server *server)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof address;
    pthread_t thread;
    address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
    server->listener = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->listener < 0 || bind (server->listener, (struct sockaddr *) &address, sizeof address) != 0 ||
        listen (server->listener, 128) != 0 ||
        getsockname (server->listener, (struct sockaddr *) &address, &size) != 0 ||
        pthread_create (&thread, NULL, reply_serve, server) != 0)
        abort ();
    server->port = ntohs (address.sin_port);
}

#endif
