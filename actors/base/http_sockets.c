/*  http_sockets.c - see http_sockets.h. */
#include "actors/base/http_sockets.h"

#include <assert.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

int http_sockets_open (struct http_sockets *sockets, int family, int type, int protocol)
{
    assert (sockets);
    int fd = socket (family, type | SOCK_CLOEXEC, protocol);
    if (fd >= 0 && sockets->count < HTTP_SOCKETS_MAX)
        sockets->sockets[sockets->count++] = (struct http_socket){ .fd = fd };
    return fd;
}

int http_sockets_close (struct http_sockets *sockets, int fd)
{
    assert (sockets);
    for (size_t i = 0; i < sockets->count; i++) {
        if (sockets->sockets[i].fd == fd) {
            sockets->sockets[i] = sockets->sockets[--sockets->count];
            break;
        }
    }
    return close (fd);
}

/*  The local port of a connected socket; 0 when it has none. */
static int local_port (int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } address = { .any.sa_family = AF_UNSPEC };
    socklen_t size = sizeof address;
    if (getsockname (fd, &address.any, &size) != 0)
        return 0;
    if (address.any.sa_family == AF_INET)
        return ntohs (address.four.sin_port);
    return address.any.sa_family == AF_INET6 ? ntohs (address.six.sin6_port) : 0;
}

bool http_sockets_quiet (struct http_sockets *sockets, int port)
{
    assert (sockets);
    for (size_t i = 0; i < sockets->count; i++) {
        struct http_socket *one = &sockets->sockets[i];
        if (one->port == 0)
            one->port = local_port (one->fd);
        char byte;
        if (one->port == port && recv (one->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
            return false;
    }
    return true;
}
