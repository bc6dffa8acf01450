/*  datagram.c - see datagram.h. */

#include "actors/base/datagram.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int connect_first (const struct addrinfo *list)
{
    for (const struct addrinfo *at = list; at; at = at->ai_next) {
        int fd = socket (at->ai_family, at->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol);
        if (fd >= 0 && connect (fd, at->ai_addr, at->ai_addrlen) == 0)
            return fd;
        if (fd >= 0)
            close (fd);
    }
    return -1;
}

int datagram_open (const char *host, uint16_t port, char *reason, size_t reason_size)
{
    char service[8];
    snprintf (service, sizeof service, "%u", (unsigned) port);
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM };
    struct addrinfo *list = NULL;
    int error = getaddrinfo (host, service, &hints, &list);
    if (error) {
        snprintf (reason, reason_size, "%s:%s: %s", host, service, gai_strerror (error));
        return -1;
    }
    int fd = connect_first (list);
    if (fd < 0)
        snprintf (reason, reason_size, "%s:%s: %s", host, service, strerror (errno));
    freeaddrinfo (list);
    return fd;
}

bool datagram_send (int socket, struct text payload)
{
    /*  ECONNREFUSED tells of an earlier datagram that nobody took; try once
        more for this one. */
    for (int attempt = 0; attempt < 2; attempt++)
        if (send (socket, payload.data, payload.size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return true;
    return errno == ECONNREFUSED;
}
