/*  http_client.h - HTTP requests of one actor, on one libcurl multi handle.

    The one place that sees curl. No thread of its own: it is driven by whoever
    waits for its descriptor. Connections are kept alive, bounded in number,
    and reused; replies are bounded in size and turned into msgpack as they
    come. A POST is never repeated by itself, also not on a connection that
    the server had just closed.

    What an answer has beyond the language's own description: a reply with a
    good status that broke off, grew too large or did not end in time is not
    answered, and still brings the whole elements of its page in `body`
    (body_state cut); a reply with an error status that broke off brings
    nothing. A request waits for a connection at most its own time and is
    answered as unreached then. A request is also unreached, and was not sent,
    when bytes that nobody asked for wait on its connection.

    TLS is verified against the system's authorities, or those in the file that
    the environment's SSL_CERT_FILE names. Proxies of the environment are not
    used.

    Secrets: `{secret}` in a path is replaced by the percent-encoded secret,
    EXT_SECRET in a body by the secret itself, here and nowhere earlier; no
    reason or log line names either.
*/
#ifndef GUERDON_HTTP_CLIENT_H
#define GUERDON_HTTP_CLIENT_H

#include "proto/message.h"

/*  A service: where it is. Strings outlive the client. */
struct http_target {
    enum service service;
    const char *base;   /* "http://host:port/prefix", no trailing slash */
    const char *secret; /* the API secret, as it is */
};

/*  Hands over an HTTP_SENT or HTTP_ANSWER; views live until it returns. */
typedef void http_client_deliver (void *context, const struct message *message);

struct http_client;

/*  A client of one service with at most so many connections; requests beyond
    wait for one. NULL with a reason on failure. */
struct http_client *http_client_new (const struct http_target *target, unsigned connections_max,
                                     http_client_deliver *deliver, void *context, char *reason,
                                     size_t reason_size);

/*  Ends every request under way without an answer. Nulls the caller. */
void http_client_destroy (struct http_client **client);

/*  Takes an HTTP_REQUEST, but holds it back until http_client_start, so that
    a commit can come in between. A request that cannot be made (a body that
    is not JSON-able, out of memory) is answered as unreached, with a reason. */
void http_client_put (struct http_client *client, const struct message *request);

/*  Ends a request, held back or under way; no answer comes. */
void http_client_cancel (struct http_client *client, uint64_t request);

/*  Lets everything held back go out. */
void http_client_start (struct http_client *client);

/*  Readable when http_client_work has something to do. */
int http_client_fd (const struct http_client *client);

/*  Milliseconds until http_client_work is due at the latest; -1: not at all. */
long http_client_wait_ms (const struct http_client *client);

/*  Does what is due, never blocks, and delivers what came. */
void http_client_work (struct http_client *client);

/*  Requests held back or under way. */
unsigned http_client_in_flight (const struct http_client *client);

/*  Must be called once in a process, before the first client and before there
    are threads; false on failure. */
bool http_client_global_init (void);

#endif
