/*  http_server.h - a small HTTP server on one thread of its own.

    The one place that sees libmicrohttpd. The thread runs an external loop over
    MHD_run (reference: platform, the stall at 128 connections), keeps
    connections open between requests, and calls the handler for every whole
    request. The handler answers at once, or keeps the exchange and answers it
    later from the same thread: in another handler call or in `tick`.
*/
#ifndef GUERDON_HTTP_SERVER_H
#define GUERDON_HTTP_SERVER_H

#include "proto/message.h"

/*  A request that is to be answered exactly once. */
struct http_exchange;

struct http_server_request {
    const char *method; /* "GET", "HEAD", "POST", … */
    struct text path;   /* as it was sent: percent-encoded, without the query */
    struct text query;  /* behind "?", as it was sent */
    struct text body;
};

struct http_server_handler {
    /*  A whole request. Views live until it is answered. */
    void (*request) (void *context, struct http_exchange *exchange,
                     const struct http_server_request *request);
    /*  A kept exchange whose client went away: it is not to be answered any
        more. May be NULL when no exchange is ever kept. */
    void (*gone) (void *context, struct http_exchange *exchange);
    /*  Called after every wake-up; returns the milliseconds until it wants to
        be called again, or -1. May be NULL. */
    long (*tick) (void *context);
    void *context;
    size_t body_size_max;     /* larger bodies are answered 413 */
    unsigned connections_max; /* more are refused */
};

struct http_server;

/*  Binds and starts. `port` 0 lets the system choose. NULL with a reason that
    names the address when it cannot. */
struct http_server *http_server_new (const char *host, uint16_t port,
                                     const struct http_server_handler *handler, char *reason,
                                     size_t reason_size);

/*  Stops the thread, drops connections and kept exchanges. */
void http_server_destroy (struct http_server **server);

/*  The port it is bound to. */
uint16_t http_server_port (const struct http_server *server);

/*  Answers; the body is copied. HEAD gets the headers only. Every reply has an
    x-request-id header. */
void http_exchange_answer (struct http_exchange *exchange, unsigned status, const char *content_type,
                           struct text body);

/*  Percent-decodes into memory of at least text.size bytes; "+" stays. Returns
    the size; a bad escape stays as it is. */
size_t http_decode (struct text text, char *out);

/*  The still encoded value of a query parameter; false when the name is not
    there at all. */
bool http_query (struct text query, const char *name, struct text *value);

#endif
