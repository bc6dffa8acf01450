/*  http_server.c - the HTTP server, on libmicrohttpd.

    MHD keeps its connections in an epoll set of its own and is told to run by
    the one thread here, which waits for that set, for the wish to stop, for
    the handler's next tick and for kept clients to hang up: MHD does not look
    at a suspended connection, so nobody else would notice.

    The life of an exchange: MHD shows the raw target, and the exchange is
    made; it calls the access handler once with the headers, where nothing is
    answered (an answer there would close the connection), then with pieces of
    the body, then once with none left, which is when the handler of this
    server gets its request. What is not answered by then is suspended, and
    goes through the access handler once more when it is.
*/
#include "actors/base/http_server.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "proto/text.h"

enum {
    THREAD_STACK_SIZE = 256 * 1024,
    /*  Request line and headers of one connection: room for the longest path
        that the language allows, twice over. Only what is used is touched. */
    CONNECTION_MEMORY_SIZE = 64 * 1024,
    IDLE_TIMEOUT_S = 120,
    LISTEN_BACKLOG = 128,
    CONTENT_TYPE_SIZE_MAX = 64,
    REQUEST_ID_SIZE_MAX = 64,
    /*  A body that is too large is read and thrown away up to here, so that
        its sender gets to see the answer; beyond it the connection ends. */
    DISCARD_SIZE_MAX = 16 * 1024 * 1024,
    WAIT_FIXED_FDS = 2 /* MHD's set and the wish to stop */
};

/*  Where an exchange is in its life. */
enum exchange_state {
    EXCHANGE_READING,  /* headers or body are still coming */
    EXCHANGE_HANDLING, /* the handler is being called right now */
    EXCHANGE_KEPT,     /* the handler kept it; MHD has it suspended */
    EXCHANGE_ANSWERED, /* the reply is there, MHD may not have it yet */
    EXCHANGE_GONE      /* the client went away, or the server stops */
};

struct http_exchange {
    struct http_server *server;
    struct MHD_Connection *connection;
    struct http_exchange *previous; /* in the list of kept ones */
    struct http_exchange *next;
    enum exchange_state state;
    bool begun;     /* the access handler saw the headers */
    bool too_large; /* the body is being thrown away */
    int socket;     /* of a kept one, to see its client hang up */
    char request_id[REQUEST_ID_SIZE_MAX + 1];
    char *target; /* path and query, as sent */
    char *body;
    size_t body_size; /* bytes kept, or thrown away */
    size_t body_capacity;
    unsigned status; /* of the reply */
    char content_type[CONTENT_TYPE_SIZE_MAX + 1];
    char *reply; /* NULL when empty */
    size_t reply_size;
};

struct http_server {
    struct http_server_handler handler;
    struct MHD_Daemon *daemon;
    pthread_t thread;
    int wake_fd;  /* eventfd: stop */
    int epoll_fd; /* MHD's own */
    uint16_t port;
    atomic_bool stopping;
    uint64_t id_prefix; /* random: request ids of two runs differ */
    uint64_t id_count;
    struct http_exchange *kept;
    bool resumed;       /* MHD has connections to go on with at once */
    struct pollfd *fds; /* WAIT_FIXED_FDS, then one a kept exchange */
    struct http_exchange **fd_owners;
};

/*  ---- exchanges ---------------------------------------------------------- */

static void keep (struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    exchange->state = EXCHANGE_KEPT;
    exchange->previous = NULL;
    exchange->next = server->kept;
    if (server->kept)
        server->kept->previous = exchange;
    server->kept = exchange;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info (exchange->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    exchange->socket = info ? info->connect_fd : -1;
    MHD_suspend_connection (exchange->connection);
}

/*  Takes a kept exchange off the list and lets MHD call for it again. MHD does
    not wake itself for that when it has no thread of its own. */
static void unkeep (struct http_exchange *exchange, enum exchange_state state)
{
    assert (exchange->state == EXCHANGE_KEPT);
    if (exchange->previous)
        exchange->previous->next = exchange->next;
    else
        exchange->server->kept = exchange->next;
    if (exchange->next)
        exchange->next->previous = exchange->previous;
    exchange->state = state;
    exchange->server->resumed = true;
    MHD_resume_connection (exchange->connection);
}

/*  The client of a kept exchange is gone; its owner is told first. */
static void lose (struct http_exchange *exchange)
{
    const struct http_server_handler *handler = &exchange->server->handler;
    assert (handler->gone);
    handler->gone (handler->context, exchange);
    unkeep (exchange, EXCHANGE_GONE);
}

static void exchange_free (struct http_exchange *exchange)
{
    free (exchange->target);
    free (exchange->body);
    free (exchange->reply);
    free (exchange);
}

/*  MHD shows the target before it takes it apart. What is returned becomes the
    context of the request. */
static void *on_target (void *context, const char *target, struct MHD_Connection *connection)
{
    struct http_exchange *exchange = calloc (1, sizeof *exchange);
    if (!exchange)
        return NULL;
    exchange->server = context;
    exchange->connection = connection;
    exchange->target = strdup (target);
    if (exchange->target)
        return exchange;
    free (exchange);
    return NULL;
}

static void on_completed (void *context, struct MHD_Connection *connection, void **request,
                          enum MHD_RequestTerminationCode how)
{
    (void) context;
    (void) connection;
    (void) how;
    struct http_exchange *exchange = *request;
    *request = NULL;
    if (!exchange)
        return;
    assert (exchange->state != EXCHANGE_KEPT && exchange->state != EXCHANGE_HANDLING);
    exchange_free (exchange);
}

/*  Percent-encoding stays: ids may hold any byte, and MHD's strings end at a
    NUL. */
static size_t leave_escapes (void *context, struct MHD_Connection *connection, char *string)
{
    (void) context;
    (void) connection;
    return strlen (string);
}

/*  The request's own id when it is short and printable, else a new one. */
static void name_request (struct http_exchange *exchange)
{
    const char *given = MHD_lookup_connection_value (exchange->connection, MHD_HEADER_KIND, "x-request-id");
    size_t size = given ? strlen (given) : 0;
    bool usable = size > 0 && size <= REQUEST_ID_SIZE_MAX;
    for (size_t i = 0; usable && i < size; i++)
        usable = given[i] > ' ' && given[i] < 0x7f;
    if (usable) {
        memcpy (exchange->request_id, given, size + 1);
        return;
    }
    struct http_server *server = exchange->server;
    snprintf (exchange->request_id, sizeof exchange->request_id, "%016" PRIx64 "-%" PRIu64, server->id_prefix,
              ++server->id_count);
}

/*  Takes a piece of the body; false when the connection is to end. */
static bool take_body (struct http_exchange *exchange, const char *bytes, size_t size)
{
    size_t size_max = exchange->server->handler.body_size_max;
    if (!exchange->too_large && size > size_max - exchange->body_size) {
        exchange->too_large = true;
        free (exchange->body);
        exchange->body = NULL;
    }
    if (exchange->too_large) {
        exchange->body_size += size;
        return exchange->body_size <= size_max + DISCARD_SIZE_MAX;
    }
    size_t needed = exchange->body_size + size;
    if (needed > exchange->body_capacity) {
        size_t capacity = exchange->body_capacity ? exchange->body_capacity : 1024;
        while (capacity < needed)
            capacity *= 2;
        char *grown = realloc (exchange->body, capacity);
        if (!grown)
            return false;
        exchange->body = grown;
        exchange->body_capacity = capacity;
    }
    memcpy (exchange->body + exchange->body_size, bytes, size);
    exchange->body_size = needed;
    return true;
}

/*  ---- replies ------------------------------------------------------------ */

static struct MHD_Response *response_new (struct http_exchange *exchange)
{
    if (!exchange->reply)
        return MHD_create_response_from_buffer (0, (void *) (uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    struct MHD_Response *response =
        MHD_create_response_from_buffer (exchange->reply_size, exchange->reply, MHD_RESPMEM_MUST_FREE);
    if (response)
        exchange->reply = NULL;
    return response;
}

/*  Gives the reply to MHD, which sends it. */
static enum MHD_Result hand_over (struct http_exchange *exchange)
{
    struct MHD_Response *response = response_new (exchange);
    if (!response)
        return MHD_NO;
    enum MHD_Result result = MHD_NO;
    if ((!exchange->content_type[0] ||
         MHD_add_response_header (response, "content-type", exchange->content_type)) &&
        MHD_add_response_header (response, "x-request-id", exchange->request_id))
        result = MHD_queue_response (exchange->connection, exchange->status, response);
    MHD_destroy_response (response);
    return result;
}

void http_exchange_answer (struct http_exchange *exchange, unsigned status, const char *content_type,
                           struct text body)
{
    assert (exchange->state == EXCHANGE_HANDLING || exchange->state == EXCHANGE_KEPT);
    assert (status >= 200 && status <= 599);
    assert (!content_type || strlen (content_type) <= CONTENT_TYPE_SIZE_MAX);
    exchange->status = status;
    if (content_type)
        snprintf (exchange->content_type, sizeof exchange->content_type, "%s", content_type);
    if (body.size > 0) {
        exchange->reply = malloc (body.size);
        if (exchange->reply) {
            memcpy (exchange->reply, body.data, body.size);
            exchange->reply_size = body.size;
        } else {
            exchange->status = 503;
        }
    }
    if (exchange->state == EXCHANGE_KEPT)
        unkeep (exchange, EXCHANGE_ANSWERED);
    else
        exchange->state = EXCHANGE_ANSWERED;
}

/*  ---- requests ----------------------------------------------------------- */

/*  The whole request is there: asks the handler, or refuses it here. */
static enum MHD_Result handle (struct http_exchange *exchange, const char *method)
{
    const struct http_server_handler *handler = &exchange->server->handler;
    exchange->state = EXCHANGE_HANDLING;
    if (exchange->too_large) {
        http_exchange_answer (
            exchange, 413, "application/json",
            TEXT_LITERAL ("{\"code\":\"RequestEntityTooLarge\",\"message\":\"The body is too large\"}"));
        return hand_over (exchange);
    }
    struct text target = text_of (exchange->target);
    const char *mark = target.size ? memchr (target.data, '?', target.size) : NULL;
    struct http_server_request request = { .method = method, .path = target };
    request.body = (struct text){ exchange->body, (uint32_t) exchange->body_size };
    if (mark) {
        request.path.size = (uint32_t) (mark - target.data);
        request.query = (struct text){ mark + 1, target.size - request.path.size - 1 };
    }
    handler->request (handler->context, exchange, &request);
    if (exchange->state == EXCHANGE_ANSWERED)
        return hand_over (exchange);
    keep (exchange);
    return MHD_YES;
}

/*  The headers are there. A body that says it is too large to be even thrown
    away is refused before it comes. */
static enum MHD_Result begin (struct http_exchange *exchange)
{
    exchange->begun = true;
    name_request (exchange);
    const char *length =
        MHD_lookup_connection_value (exchange->connection, MHD_HEADER_KIND, "content-length");
    uint64_t size = 0;
    size_t size_max = exchange->server->handler.body_size_max;
    if (!length || text_to_uint (text_of (length), size_max + DISCARD_SIZE_MAX, &size))
        return MHD_YES;
    exchange->too_large = strlen (length) > 0;
    return exchange->too_large ? handle (exchange, "") : MHD_YES;
}

static enum MHD_Result on_access (void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **request)
{
    (void) context;
    (void) connection;
    (void) url;
    (void) version;
    struct http_exchange *exchange = *request;
    if (!exchange)
        return MHD_NO;
    if (!exchange->begun)
        return begin (exchange);
    switch (exchange->state) {
    case EXCHANGE_READING:
        break;
    case EXCHANGE_ANSWERED:
        return hand_over (exchange);
    default:
        return MHD_NO;
    }
    if (*upload_size == 0)
        return handle (exchange, method);
    size_t size = *upload_size;
    *upload_size = 0;
    return take_body (exchange, upload, size) ? MHD_YES : MHD_NO;
}

/*  ---- the thread --------------------------------------------------------- */

/*  The shorter of two waits in ms, where -1 is for ever. */
static long shorter (long a, long b)
{
    if (a < 0 || (b >= 0 && b < a))
        return b;
    return a;
}

/*  Waits until there is something to do, and sees to clients that hung up. */
static void wait_for_work (struct http_server *server, long wait_ms)
{
    size_t count = WAIT_FIXED_FDS;
    for (struct http_exchange *exchange = server->kept; exchange; exchange = exchange->next) {
        assert (count < WAIT_FIXED_FDS + server->handler.connections_max);
        server->fds[count] = (struct pollfd){ .fd = exchange->socket, .events = POLLRDHUP };
        server->fd_owners[count++] = exchange;
    }
    MHD_UNSIGNED_LONG_LONG mhd_ms = 0;
    if (MHD_get_timeout (server->daemon, &mhd_ms) == MHD_YES)
        wait_ms = shorter (wait_ms, mhd_ms > INT_MAX ? INT_MAX : (long) mhd_ms);
    int ready = poll (server->fds, count, wait_ms > INT_MAX ? INT_MAX : (int) wait_ms);
    if (ready <= 0)
        return;
    for (size_t i = WAIT_FIXED_FDS; i < count; i++)
        if (server->fds[i].revents && server->fd_owners[i]->state == EXCHANGE_KEPT)
            lose (server->fd_owners[i]);
}

static void *serve (void *context)
{
    struct http_server *server = context;
    server->fds[0] = (struct pollfd){ .fd = server->epoll_fd, .events = POLLIN };
    server->fds[1] = (struct pollfd){ .fd = server->wake_fd, .events = POLLIN };
    long tick_ms = 0;
    while (!atomic_load (&server->stopping)) {
        wait_for_work (server, server->resumed ? 0 : tick_ms);
        server->resumed = false;
        MHD_run (server->daemon);
        tick_ms = server->handler.tick ? server->handler.tick (server->handler.context) : -1;
    }
    while (server->kept)
        lose (server->kept);
    return NULL;
}

/*  Starts the thread with a small stack and without signals: those are for
    the main thread. */
static int start_thread (struct http_server *server)
{
    sigset_t all;
    sigset_t before;
    pthread_attr_t attributes;
    sigfillset (&all);
    pthread_attr_init (&attributes);
    pthread_attr_setstacksize (&attributes, THREAD_STACK_SIZE);
    pthread_sigmask (SIG_SETMASK, &all, &before);
    int failure = pthread_create (&server->thread, &attributes, serve, server);
    pthread_sigmask (SIG_SETMASK, &before, NULL);
    pthread_attr_destroy (&attributes);
    return failure;
}

/*  ---- life cycle --------------------------------------------------------- */

/*  Opens one listening socket; -1 with errno. No SO_REUSEPORT: a second server
    on the same port is to fail. */
static int listen_at (const struct addrinfo *address)
{
    int fd = socket (address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    if (setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind (fd, address->ai_addr, address->ai_addrlen) == 0 && listen (fd, LISTEN_BACKLOG) == 0)
        return fd;
    int failure = errno;
    close (fd);
    errno = failure;
    return -1;
}

/*  Writes "cannot listen on host:port: why", with the why in lower case as in
    the middle of a sentence. */
static void say_why (char *reason, size_t reason_size, const char *host, uint16_t port, const char *why)
{
    bool literal_6 = strchr (host, ':') != NULL;
    int size = snprintf (reason, reason_size, "cannot listen on %s%s%s:%u: ", literal_6 ? "[" : "", host,
                         literal_6 ? "]" : "", (unsigned) port);
    if (size < 0 || (size_t) size >= reason_size)
        return;
    snprintf (reason + size, reason_size - (size_t) size, "%s", why);
    if (why[0] >= 'A' && why[0] <= 'Z' && why[1] >= 'a')
        reason[size] = (char) (why[0] - 'A' + 'a');
}

/*  Listens on the first address of the host that works; -1 with a reason. */
static int listen_on (const char *host, uint16_t port, char *reason, size_t reason_size)
{
    char service[8];
    snprintf (service, sizeof service, "%u", (unsigned) port);
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    struct addrinfo *addresses = NULL;
    int failure = getaddrinfo (host, service, &hints, &addresses);
    if (failure) {
        say_why (reason, reason_size, host, port,
                 failure == EAI_SYSTEM ? strerror (errno) : gai_strerror (failure));
        return -1;
    }
    int fd = -1;
    int error = 0;
    for (const struct addrinfo *address = addresses; address && fd < 0; address = address->ai_next) {
        fd = listen_at (address);
        if (fd < 0)
            error = errno;
    }
    freeaddrinfo (addresses);
    if (fd < 0)
        say_why (reason, reason_size, host, port, strerror (error));
    return fd;
}

static uint16_t port_of (int fd)
{
    struct sockaddr_storage address = { 0 };
    socklen_t size = sizeof address;
    char service[NI_MAXSERV] = "0";
    uint64_t port = 0;
    if (getsockname (fd, (struct sockaddr *) &address, &size) == 0 &&
        getnameinfo ((struct sockaddr *) &address, size, NULL, 0, service, sizeof service, NI_NUMERICSERV) ==
            0)
        text_to_uint (text_of (service), UINT16_MAX, &port);
    return (uint16_t) port;
}

/*  Gives the listening socket to MHD; from then on it is MHD's, also when MHD
    does not start. */
static bool start_daemon (struct http_server *server, int listen_fd)
{
    server->daemon = MHD_start_daemon (
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_access, server, MHD_OPTION_LISTEN_SOCKET,
        listen_fd, MHD_OPTION_CONNECTION_LIMIT, server->handler.connections_max,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY_SIZE, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned) IDLE_TIMEOUT_S, MHD_OPTION_URI_LOG_CALLBACK, on_target, server,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_END);
    if (!server->daemon)
        return false;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info (server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    server->epoll_fd = info ? info->epoll_fd : -1;
    return server->epoll_fd >= 0;
}

/*  Everything but the thread; false when out of something. */
static bool prepare (struct http_server *server)
{
    size_t fds = WAIT_FIXED_FDS + server->handler.connections_max;
    server->fds = calloc (fds, sizeof *server->fds);
    server->fd_owners = calloc (fds, sizeof (struct http_exchange *));
    server->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    ssize_t random = getrandom (&server->id_prefix, sizeof server->id_prefix, 0);
    return server->fds && server->fd_owners && server->wake_fd >= 0 && random == sizeof server->id_prefix;
}

static void server_free (struct http_server *server)
{
    if (server->daemon)
        MHD_stop_daemon (server->daemon);
    if (server->wake_fd >= 0)
        close (server->wake_fd);
    free (server->fds);
    free ((void *) server->fd_owners);
    free (server);
}

struct http_server *http_server_new (const char *host, uint16_t port,
                                     const struct http_server_handler *handler, char *reason,
                                     size_t reason_size)
{
    assert (host && handler && handler->request && handler->connections_max > 0);
    assert (handler->body_size_max <= UINT32_MAX);
    int listen_fd = listen_on (host, port, reason, reason_size);
    if (listen_fd < 0)
        return NULL;
    struct http_server *server = calloc (1, sizeof *server);
    if (!server) {
        say_why (reason, reason_size, host, port, strerror (ENOMEM));
        close (listen_fd);
        return NULL;
    }
    server->handler = *handler;
    server->port = port_of (listen_fd);
    bool prepared = prepare (server);
    if (!prepared)
        close (listen_fd);
    if (!prepared || !start_daemon (server, listen_fd)) {
        say_why (reason, reason_size, host, port, "the HTTP server does not start");
        server_free (server);
        return NULL;
    }
    int failure = start_thread (server);
    if (failure) {
        say_why (reason, reason_size, host, port, strerror (failure));
        server_free (server);
        return NULL;
    }
    return server;
}

void http_server_destroy (struct http_server **server)
{
    assert (server);
    struct http_server *self = *server;
    *server = NULL;
    if (!self)
        return;
    atomic_store (&self->stopping, true);
    /*  Cannot fail: the counter is far from its end. */
    if (eventfd_write (self->wake_fd, 1) != 0)
        abort ();
    pthread_join (self->thread, NULL);
    server_free (self);
}

uint16_t http_server_port (const struct http_server *server)
{
    return server->port;
}

/*  ---- URLs --------------------------------------------------------------- */

static int hex_digit (char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

size_t http_decode (struct text text, char *out)
{
    size_t size = 0;
    for (uint32_t i = 0; i < text.size; i++) {
        out[size] = text.data[i];
        if (text.data[i] == '%' && text.size - i > 2) {
            int high = hex_digit (text.data[i + 1]);
            int low = hex_digit (text.data[i + 2]);
            if (high >= 0 && low >= 0) {
                out[size] = (char) (high * 16 + low);
                i += 2;
            }
        }
        size++;
    }
    return size;
}

bool http_query (struct text query, const char *name, struct text *value)
{
    struct text wanted = text_of (name);
    uint32_t start = 0;
    while (start < query.size) {
        uint32_t end = start;
        while (end < query.size && query.data[end] != '&')
            end++;
        uint32_t equals = start;
        while (equals < end && query.data[equals] != '=')
            equals++;
        if (text_equal ((struct text){ query.data + start, equals - start }, wanted)) {
            uint32_t from = equals < end ? equals + 1 : end;
            *value = (struct text){ query.data + from, end - from };
            return true;
        }
        start = end + 1;
    }
    return false;
}
