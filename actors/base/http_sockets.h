/*  http_sockets.h - the sockets of an HTTP client, by their local port.

    curl makes and closes sockets through this table, because it does not say on
    which of its connections a request goes out, only from which port. So the
    client can look whether something already waits there: bytes that answer
    nothing that was asked, and would be taken for the answer to the request, or
    the end of the connection.
*/
#ifndef GUERDON_HTTP_SOCKETS_H
#define GUERDON_HTTP_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

/*  Sockets remembered; what exceeds this works, and is not looked at. */
enum { HTTP_SOCKETS_MAX = 512 };

struct http_socket {
    int fd;
    int port; /* its local port; 0: not asked yet */
};

struct http_sockets {
    struct http_socket sockets[HTTP_SOCKETS_MAX];
    size_t count;
};

/*  Makes a socket; -1 on failure. */
int http_sockets_open (struct http_sockets *sockets, int family, int type, int protocol);

/*  Closes one. Returns 0, or -1 on failure. */
int http_sockets_close (struct http_sockets *sockets, int fd);

/*  True when nothing waits to be read on the socket with this local port. */
bool http_sockets_quiet (struct http_sockets *sockets, int port);

#endif
