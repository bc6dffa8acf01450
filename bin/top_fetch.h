/*  top_fetch.h - pages of status servers, many at once, over plain sockets.

    Small on purpose: it asks nobody but our own status servers, whose pages are
    a few kilobytes of text. A page is one connection and one HTTP/1.0 request;
    all of them share one wait.
*/
#ifndef GUERDON_TOP_FETCH_H
#define GUERDON_TOP_FETCH_H

#include "proto/message.h"

/*  Bounds. A page is cut by its server at 32 kB. */
enum {
    FETCHES_MAX = 128,
    FETCH_HOST_SIZE_MAX = 253,
    FETCH_REPLY_SIZE_MAX = 64 * 1024,
    FETCH_REASON_SIZE_MAX = 127
};

/*  Where a status server is. */
struct fetch_address {
    char host[FETCH_HOST_SIZE_MAX + 1]; /* name or address, without brackets */
    uint16_t port;
    char name[FETCH_HOST_SIZE_MAX + 16]; /* "host:port", as it is shown */
};

/*  Reads HOST:PORT, [IPV6]:PORT, HOST or :PORT. What is left out is
    127.0.0.1, or the given port. False for anything else. */
bool fetch_address_read (struct fetch_address *address, struct text text, uint16_t port);

/*  One page. The caller fills in the first two. */
struct fetch {
    const struct fetch_address *address;
    const char *path;                       /* from the "/" on */
    unsigned status;                        /* of the reply; 0: none came */
    struct text body;                       /* lives as long as the fetch; not terminated */
    uint64_t done_ms;                       /* steady time at which it ended */
    char reason[FETCH_REASON_SIZE_MAX + 1]; /* why none came, for people */

    struct addrinfo *found; /* the rest is its own: what the host resolves to, */
    struct addrinfo *next;  /* … what is tried next of that, */
    int fd;                 /* … the connection, or -1, */
    bool connected;
    bool ended;
    size_t sent; /* bytes of the request */
    size_t size; /* bytes of the reply */
    char request[FETCH_HOST_SIZE_MAX + 128];
    char reply[FETCH_REPLY_SIZE_MAX];
};

/*  Asks for all pages; comes back when each came or failed, at the latest when
    the time is over (but for a name server that does not answer). */
void fetch_all (struct fetch *fetches, size_t count, uint32_t timeout_ms);

#endif
