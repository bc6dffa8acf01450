/*  http_client.c - curl's multi interface behind one epoll descriptor.

    A request passes these places in turn: held (put, not started), queued
    (waiting for a connection), a slot (under way), done (waiting to be
    delivered). A slot is an easy handle and a reader, made when first needed;
    there are as many as there may be connections. A handle is used again after a
    reply that came whole at the first try, and thrown away after all else.

    curl forbids calls from within its callbacks, and whoever is delivered to
    may put, start and cancel. So the callbacks only take notes, and everything
    is delivered at the end of http_client_work, from lists that a cancel finds
    things in.

    A POST is sent once. curl repeats a request in silence when a connection
    that it used again closes without a reply. It asks the pre-request callback
    whenever it is about to send, and there the second time is refused.
*/
#include "actors/base/http_client.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <curl/curl.h>

#include "actors/base/clock.h"
#include "actors/base/crash_point.h"
#include "actors/base/http_call.h"
#include "actors/base/http_sockets.h"
#include "actors/base/json.h"
#include "actors/base/log.h"
#include "proto/text.h"

enum {
    /*  Connections of one client. */
    CONNECTIONS_MAX = 256,

    /*  Requests held, queued, under way and done together; more are answered
        as unreached. */
    REQUESTS_MAX = 65536,

    /*  A connection that takes longer than this is not going to stand. */
    CONNECT_TIMEOUT_MS_MAX = 3000,

    /*  Headers of one reply, interim replies and trailers included. */
    HEADERS_SIZE_MAX = 64 * 1024,

    /*  What a request that is not in use keeps of its memory. */
    TARGET_SIZE_KEPT = 8 * 1024,

    /*  curl takes a buffer of this size for each reply and gives it back at its
        end. A small one, curl's least, comes out of the allocator's cache of the
        thread; the answer to a POST is short. */
    BUFFER_SIZE_READ = 16 * 1024,
    BUFFER_SIZE_WRITE = 1024,

    /*  Above that curl waits for "100 Continue" before it sends a body. */
    BODY_SIZE_UNASKED = 1024 * 1024,

    /*  A byte of msgpack takes at most six as JSON: \u001f. */
    BODY_SIZE_MAX = 6 * (REQUEST_BODY_SIZE_MAX),

    /*  curl sends a GET again when a used connection ends without a reply. Only at once,
        which is a service that had enough of the connection. One that ends after it
        held a poll may stand up as another, restored one, and the core is to know. */
    RESENT_MS_MAX = 250,

    /*  Descriptors looked at in one call; what is left keeps ours readable. */
    EVENTS_MAX = 64,

    RETRY_AFTER_SECONDS_MAX = 86400
};

_Static_assert(BODY_SIZE_MAX < BODY_SIZE_UNASKED, "a body is sent without being asked for");

struct http_slot {
    struct http_client *client;
    CURL *easy;
    struct json_reader *reader;
    struct http_call *request; /* NULL: free */
    bool attached;             /* in the multi handle */
    bool sent;                 /* a connection stood and the request went out on it */
    uint64_t sent_ms;          /* … at that time */
    bool sent_due;             /* … and that is still to be told */
    bool resent;               /* … and once more, on another connection */
    bool whole;                /* it ended well: the handle may be used again */
    bool too_large;            /* the reply, its header or its msgpack */
    bool line_broken;          /* the last piece of the header did not end its line */
    bool body_due;             /* what comes now is the body */
    bool headers_whole;        /* the empty line at their end came */
    size_t headers_size;
    size_t reply_size;
    char error[CURL_ERROR_SIZE];
};

struct http_client {
    enum service service;
    struct http_place place;
    http_client_deliver *deliver;
    void *context;
    const char *base; /* as in struct http_target */
    bool tls;         /* … which begins with https */
    CURLM *multi;
    CURLU *origin; /* the base without its path; NULL: it is no URL */
    struct http_sockets sockets;
    int epoll;
    struct curl_slist *get_headers;
    struct curl_slist *post_headers;
    uint64_t timer_at_ms;  /* when curl wants to be called; 0: not at all */
    uint64_t queue_due_ms; /* when the first queued request may have waited too long */

    struct http_calls held;
    struct http_calls queued;
    struct http_calls done;
    struct http_calls spare;
    struct http_call *delivering; /* the one whose answer is being delivered */
    bool delivering_cancelled;
    bool working;
    unsigned in_flight;

    unsigned slots_max;
    struct http_slot slots[];
};

/*  ---- small things ------------------------------------------------------- */

static void reason_set (struct http_call *request, const char *reason)
{
    snprintf (request->reason, sizeof request->reason, "%s", reason);
}

/*  ---- requests ----------------------------------------------------------- */

/*  An unused request. Without memory for one the process ends: a core waits for
    the answer to every request, and this one could get none. */
static struct http_call *request_take (struct http_client *client)
{
    struct http_call *request = http_calls_pop (&client->spare);
    if (!request)
        request = calloc (1, sizeof *request);
    if (!request)
        log_no_memory (service_name (client->service));
    client->in_flight++;
    return request;
}

/*  Gives a request back. */
static void request_drop (struct http_client *client, struct http_call *request)
{
    assert (client->in_flight > 0 && !request->slot);
    client->in_flight--;
    http_call_wipe (request, TARGET_SIZE_KEPT);
    if (client->spare.count < client->slots_max) {
        http_calls_push (&client->spare, request);
        return;
    }
    http_call_wipe (request, 0);
    free (request);
}

/*  Ends a request that no connection ever saw. */
static void request_fail (struct http_client *client, struct http_call *request, const char *reason)
{
    http_call_unreached (request, reason);
    http_calls_push (&client->done, request);
}

/*  ---- what curl calls ---------------------------------------------------- */

/*  A descriptor is to be watched, or not any more. `known` is not NULL once it
    was; the kernel may know better, after a descriptor was closed and its
    number used again. */
static int on_socket (CURL *easy, curl_socket_t fd, int what, void *context, void *known)
{
    (void) easy;
    struct http_client *client = context;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl (client->epoll, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    struct epoll_event event = { .data.fd = fd };
    if (what & CURL_POLL_IN)
        event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        event.events |= EPOLLOUT;
    int first = known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    int second = known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl (client->epoll, first, fd, &event) != 0)
        epoll_ctl (client->epoll, second, fd, &event);
    if (!known)
        curl_multi_assign (client->multi, fd, client);
    return 0;
}

static int on_timer (CURLM *multi, long timeout_ms, void *context)
{
    (void) multi;
    struct http_client *client = context;
    client->timer_at_ms = timeout_ms < 0 ? 0 : clock_steady_ms () + (uint64_t) timeout_ms;
    return 0;
}

/*  curl makes a socket. */
static curl_socket_t on_open (void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void) purpose;
    struct http_client *client = context;
    return http_sockets_open (&client->sockets, address->family, address->socktype, address->protocol);
}

/*  curl closes a socket. */
static int on_close (void *context, curl_socket_t fd)
{
    struct http_client *client = context;
    return http_sockets_close (&client->sockets, fd);
}

/*  A connection stands, and the request is about to go out on it. */
static int on_sending (void *context, char *remote, char *local, int remote_port, int local_port)
{
    (void) remote;
    (void) local;
    (void) remote_port;
    struct http_slot *slot = context;
    struct http_client *client = slot->client;
    assert (slot->request);
    if (slot->sent) {
        slot->resent = true;
        bool at_once = clock_steady_ms () - slot->sent_ms <= RESENT_MS_MAX;
        return slot->request->method == METHOD_GET && at_once ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
    }
    /*  Under TLS the bytes that wait may be the protocol's own. */
    if (!client->tls && !http_sockets_quiet (&client->sockets, local_port))
        return CURL_PREREQFUNC_ABORT;
    slot->sent = slot->sent_due = true;
    slot->sent_ms = clock_steady_ms ();
    CRASH_POINT (service_name (client->service), "before-http-send");
    return CURL_PREREQFUNC_OK;
}

/*  A line of the header, the second time. curl takes a reply that ends within its
    header for a whole one. */
static size_t on_header (char *bytes, size_t one, size_t size, void *context)
{
    (void) one;
    struct http_slot *slot = context;
    if (size >= 5 && memcmp (bytes, "HTTP/", 5) == 0) {
        slot->headers_whole = false;
    } else if (size > 0 && size <= 2 && bytes[size - 1] == '\n') {
        long status = 0;
        curl_easy_getinfo (slot->easy, CURLINFO_RESPONSE_CODE, &status);
        slot->headers_whole = true;
        slot->body_due = status >= 200;
    }
    slot->headers_size += size;
    if (slot->headers_size <= HEADERS_SIZE_MAX)
        return size;
    slot->too_large = true;
    return 0;
}

/*  A line of the header, or a piece of a very long one, before curl stores it. curl
    would hook a continuation to the line before, and up to curl 8.1.0 that can be the
    last line of the reply before, freed by then (curl issue 11101). HTTP has given
    continuations up (RFC 9112, 5.2), so none is admitted. */
static bool header_admissible (struct http_slot *slot, const char *bytes, size_t size)
{
    bool begins = !slot->line_broken;
    slot->line_broken = bytes[size - 1] != '\n';
    return !begins || (bytes[0] != ' ' && bytes[0] != '\t');
}

/*  A piece of the reply, its header first. What is not JSON is still read to its
    end, so that the status counts and the connection can be used again. */
static size_t on_reply (char *bytes, size_t one, size_t size, void *context)
{
    (void) one;
    struct http_slot *slot = context;
    if (!slot->body_due && size > 0)
        return header_admissible (slot, bytes, size) ? size : 0;
    slot->reply_size += size;
    if (slot->reply_size > REPLY_BYTES_MAX)
        slot->too_large = true;
    else if (!json_reader_feed (slot->reader, bytes, size))
        slot->too_large = json_reader_too_large (slot->reader);
    return slot->too_large ? 0 : size;
}

/*  ---- slots -------------------------------------------------------------- */

/*  Options that are the same for every request. */
static void slot_options (struct http_slot *slot)
{
    CURL *easy = slot->easy;
    curl_easy_setopt (easy, CURLOPT_PRIVATE, slot);
    curl_easy_setopt (easy, CURLOPT_ERRORBUFFER, slot->error);
    curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
    /*  A name that does not resolve must not hold up the thread that gives up on it. */
    curl_easy_setopt (easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt (easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt (easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    curl_easy_setopt (easy, CURLOPT_FOLLOWLOCATION, 0L);
    /*  Where to connect is said here, once, and the path is the request's: curl
        would put the whole URL together for each request, byte by byte. */
    if (slot->client->origin)
        curl_easy_setopt (easy, CURLOPT_CURLU, slot->client->origin);
    else
        curl_easy_setopt (easy, CURLOPT_URL, slot->client->base);
    /*  URLs hold secrets: they go to the service and to nobody between. */
    curl_easy_setopt (easy, CURLOPT_PROXY, "");
    curl_easy_setopt (easy, CURLOPT_NOPROXY, "*"); /* else it asks the environment each time */
    curl_easy_setopt (easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
    curl_easy_setopt (easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) REPLY_BYTES_MAX);
    curl_easy_setopt (easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt (easy, CURLOPT_OPENSOCKETDATA, slot->client);
    curl_easy_setopt (easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    curl_easy_setopt (easy, CURLOPT_CLOSESOCKETDATA, slot->client);
    curl_easy_setopt (easy, CURLOPT_PREREQFUNCTION, on_sending);
    curl_easy_setopt (easy, CURLOPT_PREREQDATA, slot);
    /*  The header goes to on_reply as well, before curl has stored it. */
    curl_easy_setopt (easy, CURLOPT_HEADER, 1L);
    curl_easy_setopt (easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt (easy, CURLOPT_HEADERDATA, slot);
    curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, on_reply);
    curl_easy_setopt (easy, CURLOPT_WRITEDATA, slot);
    /*  OpenSSL's own name for it. */
    const char *trusted = getenv ("SSL_CERT_FILE");
    if (trusted && *trusted)
        curl_easy_setopt (easy, CURLOPT_CAINFO, trusted);
}

/*  Makes what a slot needs and has not. */
static bool slot_ready (struct http_slot *slot)
{
    if (!slot->reader)
        slot->reader = json_reader_new (REPLY_SIZE_MAX);
    if (!slot->reader || slot->easy)
        return slot->reader != NULL;
    slot->easy = curl_easy_init ();
    if (slot->easy)
        slot_options (slot);
    return slot->easy != NULL;
}

/*  Options of this request. */
static bool slot_aim (struct http_slot *slot, uint64_t now)
{
    CURL *easy = slot->easy;
    const struct http_call *request = slot->request;
    uint64_t waited = now - request->started_ms;
    long left_ms = waited < request->timeout_ms ? (long) (request->timeout_ms - waited) : 1;
    long connect_ms = left_ms < CONNECT_TIMEOUT_MS_MAX ? left_ms : CONNECT_TIMEOUT_MS_MAX;
    curl_easy_setopt (easy, CURLOPT_TIMEOUT_MS, left_ms);
    curl_easy_setopt (easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    if (request->method == METHOD_POST) {
        /*  In memory, so that head and body leave in one piece; on_sending is what
            keeps them from leaving twice. */
        curl_easy_setopt (easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_size);
        curl_easy_setopt (easy, CURLOPT_POSTFIELDS, request->body ? request->body : "");
        curl_easy_setopt (easy, CURLOPT_HTTPHEADER, slot->client->post_headers);
        curl_easy_setopt (easy, CURLOPT_BUFFERSIZE, (long) BUFFER_SIZE_WRITE);
    } else {
        curl_easy_setopt (easy, CURLOPT_POSTFIELDS, NULL);
        curl_easy_setopt (easy, CURLOPT_HTTPGET, 1L);
        curl_easy_setopt (easy, CURLOPT_HTTPHEADER, slot->client->get_headers);
        curl_easy_setopt (easy, CURLOPT_BUFFERSIZE, (long) BUFFER_SIZE_READ);
    }
    return curl_easy_setopt (easy, CURLOPT_REQUEST_TARGET, request->target) == CURLE_OK;
}

/*  Frees a slot for the next request. */
static void slot_release (struct http_slot *slot)
{
    if (slot->attached)
        curl_multi_remove_handle (slot->client->multi, slot->easy);
    if (slot->request)
        slot->request->slot = NULL;
    if (slot->easy && !slot->whole) {
        curl_easy_cleanup (slot->easy);
        slot->easy = NULL;
    }
    slot->request = NULL;
    slot->attached = slot->sent = slot->sent_due = slot->resent = slot->whole = false;
    slot->too_large = slot->line_broken = slot->body_due = slot->headers_whole = false;
    slot->headers_size = slot->reply_size = 0;
    slot->error[0] = '\0';
    if (slot->reader)
        json_reader_reset (slot->reader);
}

static struct http_slot *slot_free (struct http_client *client)
{
    for (unsigned i = 0; i < client->slots_max; i++) {
        if (!client->slots[i].request)
            return &client->slots[i];
    }
    return NULL;
}

/*  Sends queued requests as far as there are connections. */
static void launch (struct http_client *client)
{
    uint64_t now = clock_steady_ms ();
    struct http_slot *slot;
    while (client->queued.first && (slot = slot_free (client)) != NULL) {
        struct http_call *request = http_calls_pop (&client->queued);
        slot->request = request;
        request->slot = slot;
        CRASH_POINT (service_name (client->service), "before-http-start");
        slot->attached = slot_ready (slot) && slot_aim (slot, now) &&
                         curl_multi_add_handle (client->multi, slot->easy) == CURLM_OK;
        CRASH_POINT (service_name (client->service), "after-http-start");
        if (slot->attached)
            continue;
        slot_release (slot);
        request_fail (client, request, "out of memory");
    }
}

/*  ---- how a request ended ------------------------------------------------ */

static enum http_outcome outcome_of (const struct http_slot *slot, CURLcode code)
{
    if (code == CURLE_OK)
        return HTTP_ANSWERED;
    if (slot->too_large || code == CURLE_FILESIZE_EXCEEDED)
        return HTTP_TOO_LARGE;
    if (!slot->sent)
        return HTTP_UNREACHED;
    return code == CURLE_OPERATION_TIMEDOUT ? HTTP_TIMEOUT : HTTP_BROKEN;
}

/*  What curl's codes mean to people. None of these texts holds a URL. */
static const struct {
    CURLcode code;
    const char *text;
} code_reasons[] = {
    { CURLE_COULDNT_RESOLVE_HOST, "the host name cannot be resolved" },
    { CURLE_URL_MALFORMAT, "the address is malformed" },
    { CURLE_UNSUPPORTED_PROTOCOL, "this is not HTTP/1" },
    { CURLE_WEIRD_SERVER_REPLY, "the reply is not HTTP" },
    { CURLE_GOT_NOTHING, "the connection was closed without a reply" },
    { CURLE_ABORTED_BY_CALLBACK, "the connection was not usable any more" },
    { CURLE_PARTIAL_FILE, "the reply ended early" },
    { CURLE_SEND_ERROR, "the connection broke while the request was sent" },
    { CURLE_RECV_ERROR, "the connection broke while the reply was read" },
    { CURLE_WRITE_ERROR, "the header of the reply has a continuation" },
    { CURLE_SSL_CACERT_BADFILE, "TLS: the file of trusted certificates cannot be read" },
    { CURLE_OUT_OF_MEMORY, "out of memory" },
};

/*  Reasons that need more than the code. */
static bool reason_special (struct http_slot *slot, CURLcode code)
{
    struct http_call *request = slot->request;
    char *out = request->reason;
    size_t size = sizeof request->reason;
    if (request->answer.outcome == HTTP_TOO_LARGE)
        reason_set (request, "the reply is too large");
    else if (code == CURLE_ABORTED_BY_CALLBACK && slot->sent)
        reason_set (request, "the connection was closed without a reply");
    else if (code == CURLE_OPERATION_TIMEDOUT)
        snprintf (out, size, slot->sent ? "no whole reply within %u ms" : "no connection within %u ms",
                  (unsigned) request->answer.elapsed_ms);
    else if (code == CURLE_COULDNT_CONNECT) {
        long error = 0;
        curl_easy_getinfo (slot->easy, CURLINFO_OS_ERRNO, &error);
        snprintf (out, size, "cannot connect: %s", error ? strerror ((int) error) : "no address answers");
    } else if (code == CURLE_PEER_FAILED_VERIFICATION)
        snprintf (out, size, "TLS: the certificate is not trusted (%.200s)", slot->error);
    else if (code == CURLE_SSL_CONNECT_ERROR)
        snprintf (out, size, "TLS: %.240s", slot->error);
    else
        return false;
    return true;
}

static void reason_fill (struct http_slot *slot, CURLcode code)
{
    if (code == CURLE_OK) {
        slot->request->reason[0] = '\0';
        return;
    }
    if (reason_special (slot, code))
        return;
    for (size_t i = 0; i < sizeof code_reasons / sizeof *code_reasons; i++) {
        if (code_reasons[i].code == code) {
            reason_set (slot->request, code_reasons[i].text);
            return;
        }
    }
    reason_set (slot->request, curl_easy_strerror (code));
}

/*  The body as far as it may be used: all of a reply that came, and the whole
    elements of a page that broke off, when its status was a good one. */
static void body_fill (struct http_slot *slot, struct http_answer *answer, long status)
{
    answer->body_state = BODY_NONE;
    answer->body = NO_RAW;
    bool good = status >= 200 && status <= 299;
    if (answer->outcome != HTTP_ANSWERED && !good)
        return;
    answer->body_state = json_reader_finish (slot->reader, &answer->body);
}

/*  Notes how a request ended. It keeps its slot until it is delivered, because
    its body lies there. */
static void settle (struct http_slot *slot, CURLcode code)
{
    struct http_call *request = slot->request;
    struct http_client *client = slot->client;
    curl_multi_remove_handle (client->multi, slot->easy);
    slot->attached = false;
    long status = 0;
    curl_off_t seconds = 0;
    curl_easy_getinfo (slot->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo (slot->easy, CURLINFO_RETRY_AFTER, &seconds);
    /*  Half a header is no reply, an interim reply is none either, nor is one with
        a status of more than three digits. */
    if (code == CURLE_OK && (!slot->headers_whole || status < 200 || status > 999))
        code = CURLE_PARTIAL_FILE;
    slot->whole = code == CURLE_OK && !slot->resent;
    if (seconds < 0)
        seconds = 0;
    if (seconds > RETRY_AFTER_SECONDS_MAX)
        seconds = RETRY_AFTER_SECONDS_MAX;
    struct http_answer *answer = &request->answer;
    *answer = (struct http_answer){ .request = request->id,
                                    .outcome = outcome_of (slot, code),
                                    .elapsed_ms = clock_steady_ms () - request->started_ms,
                                    .retry_after_ms = (uint64_t) seconds * 1000 };
    bool answered = answer->outcome == HTTP_ANSWERED;
    answer->status = answered ? (uint64_t) status : 0;
    body_fill (slot, answer, status);
    reason_fill (slot, code);
    http_calls_push (&client->done, request);
}

/*  ---- delivering --------------------------------------------------------- */

static void deliver_sent (struct http_client *client, struct http_slot *slot)
{
    slot->sent_due = false;
    struct message message = { .id = MESSAGE_HTTP_SENT,
                               .trace = slot->request->trace,
                               .http_sent = { .request = slot->request->id } };
    client->deliver (client->context, &message);
}

/*  Delivers one answer, unless the receiver cancels the request when it hears
    that it was sent. */
static void deliver_answer (struct http_client *client, struct http_call *request)
{
    client->delivering = request;
    client->delivering_cancelled = false;
    if (request->slot && request->slot->sent_due)
        deliver_sent (client, request->slot);
    client->delivering = NULL;
    struct message message = { .id = MESSAGE_HTTP_ANSWER,
                               .trace = request->trace,
                               .http_answer = request->answer };
    message.http_answer.reason = text_of (request->reason);
    if (!client->delivering_cancelled)
        client->deliver (client->context, &message);
    if (request->slot)
        slot_release (request->slot);
    request_drop (client, request);
}

/*  Delivers what there is now; what the receiver causes meanwhile waits for
    the next time. */
static void deliver_all (struct http_client *client)
{
    for (unsigned i = 0; i < client->slots_max; i++) {
        struct http_slot *slot = &client->slots[i];
        if (slot->sent_due && slot->attached)
            deliver_sent (client, slot);
    }
    unsigned count = client->done.count;
    struct http_call *request;
    while (count-- > 0 && (request = http_calls_pop (&client->done)) != NULL)
        deliver_answer (client, request);
}

/*  ---- the client --------------------------------------------------------- */

bool http_client_global_init (void)
{
    /*  A TLS connection that the service closed must not end the process. */
    signal (SIGPIPE, SIG_IGN);
    return curl_global_init (CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

/*  Makes a list of headers; NULL when out of memory. A POST has none that can be
    left out: curl spends 100 instructions on each byte. */
static struct curl_slist *header_list (bool post)
{
    static const char *const get_headers[] = { "Accept: application/json",
                                               "User-Agent: guerdon/" GUERDON_VERSION };
    static const char *const post_headers[] = { "Content-Type: application/json" };
    struct curl_slist *list = NULL;
    for (size_t i = 0; i < (post ? 1 : 2); i++) {
        struct curl_slist *longer = curl_slist_append (list, (post ? post_headers : get_headers)[i]);
        if (!longer) {
            curl_slist_free_all (list);
            return NULL;
        }
        list = longer;
    }
    return list;
}

/*  Where to connect. NULL when the base is no URL, and curl will say why. */
static CURLU *origin_of (const char *base)
{
    CURLU *origin = curl_url ();
    if (origin && curl_url_set (origin, CURLUPART_URL, base, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
        curl_url_set (origin, CURLUPART_PATH, "/", 0) == CURLUE_OK)
        return origin;
    curl_url_cleanup (origin);
    return NULL;
}

static void multi_options (struct http_client *client)
{
    long connections = (long) client->slots_max;
    curl_multi_setopt (client->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt (client->multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt (client->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt (client->multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt (client->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
    curl_multi_setopt (client->multi, CURLMOPT_MAX_HOST_CONNECTIONS, connections);
    curl_multi_setopt (client->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections);
    /*  Fewer than are in use would close and open them all the time. */
    curl_multi_setopt (client->multi, CURLMOPT_MAXCONNECTS, connections);
}

struct http_client *http_client_new (const struct http_target *target, unsigned connections_max,
                                     http_client_deliver *deliver, void *context, char *reason,
                                     size_t reason_size)
{
    assert (target && target->base && target->secret && deliver && reason);
    assert (connections_max > 0 && connections_max <= CONNECTIONS_MAX);
    struct http_client *client = calloc (1, sizeof *client + connections_max * sizeof (struct http_slot));
    if (!client) {
        snprintf (reason, reason_size, "HTTP client: out of memory");
        return NULL;
    }
    client->service = target->service;
    client->base = target->base;
    client->tls = strncasecmp (target->base, "https:", 6) == 0;
    client->deliver = deliver;
    client->context = context;
    client->slots_max = connections_max;
    for (unsigned i = 0; i < connections_max; i++)
        client->slots[i].client = client;
    http_calls_init (&client->held);
    http_calls_init (&client->queued);
    http_calls_init (&client->done);
    http_calls_init (&client->spare);
    client->epoll = epoll_create1 (EPOLL_CLOEXEC);
    int error = client->epoll < 0 ? errno : ENOMEM;
    client->multi = curl_multi_init ();
    client->origin = origin_of (target->base);
    bool placed = http_place_init (&client->place, target);
    client->get_headers = header_list (false);
    client->post_headers = header_list (true);
    if (client->epoll < 0 || !client->multi || !placed || !client->get_headers || !client->post_headers) {
        snprintf (reason, reason_size, "HTTP client: %s", strerror (error));
        http_client_destroy (&client);
        return NULL;
    }
    multi_options (client);
    return client;
}

void http_client_destroy (struct http_client **self)
{
    assert (self);
    struct http_client *client = *self;
    if (!client)
        return;
    assert (!client->working);
    for (unsigned i = 0; i < client->slots_max; i++) {
        struct http_slot *slot = &client->slots[i];
        /*  One that is done is in its list as well. */
        struct http_call *request = slot->attached ? slot->request : NULL;
        slot_release (slot);
        curl_easy_cleanup (slot->easy);
        if (request)
            http_calls_push (&client->spare, request);
        json_reader_destroy (&slot->reader);
    }
    http_calls_clear (&client->held);
    http_calls_clear (&client->queued);
    http_calls_clear (&client->done);
    http_calls_clear (&client->spare);
    if (client->multi)
        curl_multi_cleanup (client->multi);
    curl_url_cleanup (client->origin);
    if (client->epoll >= 0)
        close (client->epoll);
    curl_slist_free_all (client->get_headers);
    curl_slist_free_all (client->post_headers);
    http_place_destroy (&client->place);
    free (client);
    *self = NULL;
}

void http_client_put (struct http_client *client, const struct message *message)
{
    assert (client && message && message->id == MESSAGE_HTTP_REQUEST);
    assert (message->http_request.service == client->service);
    struct http_call *request = request_take (client);
    const char *wrong = http_call_fill (request, &client->place, message);
    if (!wrong && client->in_flight > REQUESTS_MAX)
        wrong = "too many requests under way";
    if (wrong)
        request_fail (client, request, wrong);
    else
        http_calls_push (&client->held, request);
}

void http_client_cancel (struct http_client *client, uint64_t id)
{
    assert (client);
    if (client->delivering && client->delivering->id == id) {
        client->delivering_cancelled = true;
        return;
    }
    struct http_call *request = http_calls_take (&client->held, id);
    if (!request)
        request = http_calls_take (&client->queued, id);
    if (!request)
        request = http_calls_take (&client->done, id);
    for (unsigned i = 0; !request && i < client->slots_max; i++) {
        struct http_slot *slot = &client->slots[i];
        if (slot->attached && slot->request->id == id)
            request = slot->request;
    }
    if (!request)
        return;
    if (request->slot)
        slot_release (request->slot);
    request_drop (client, request);
}

void http_client_start (struct http_client *client)
{
    assert (client);
    if (!client->held.first)
        return;
    uint64_t now = clock_steady_ms ();
    struct http_call *request;
    while ((request = http_calls_pop (&client->held)) != NULL) {
        request->started_ms = now;
        uint64_t due = now + request->timeout_ms;
        if (!client->queued.first || due < client->queue_due_ms)
            client->queue_due_ms = due;
        http_calls_push (&client->queued, request);
    }
    launch (client);
}

int http_client_fd (const struct http_client *client)
{
    assert (client);
    return client->epoll;
}

long http_client_wait_ms (const struct http_client *client)
{
    assert (client);
    if (client->done.first)
        return 0;
    uint64_t due = client->timer_at_ms;
    if (client->queued.first && (due == 0 || client->queue_due_ms < due))
        due = client->queue_due_ms;
    if (due == 0)
        return -1;
    uint64_t now = clock_steady_ms ();
    return due > now ? (long) (due - now) : 0;
}

/*  Gives up on queued requests that have waited for their whole time. */
static void expire (struct http_client *client)
{
    uint64_t now = clock_steady_ms ();
    if (!client->queued.first || now < client->queue_due_ms)
        return;
    client->queue_due_ms = UINT64_MAX;
    for (unsigned count = client->queued.count; count > 0; count--) {
        struct http_call *request = http_calls_pop (&client->queued);
        uint64_t due = request->started_ms + request->timeout_ms;
        if (due <= now) {
            request_fail (client, request, "no connection was free in time");
            request->answer.elapsed_ms = now - request->started_ms;
            continue;
        }
        if (due < client->queue_due_ms)
            client->queue_due_ms = due;
        http_calls_push (&client->queued, request);
    }
}

/*  Tells curl that something happened. Without memory for what it has to note it
    forgets to watch a connection, and the request on it would never end. */
static void act (struct http_client *client, curl_socket_t fd, int what)
{
    int running;
    if (curl_multi_socket_action (client->multi, fd, what, &running) == CURLM_OUT_OF_MEMORY)
        log_no_memory (service_name (client->service));
}

/*  Tells curl what happened on its descriptors, and that time passed. */
static void drive (struct http_client *client)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait (client->epoll, events, EVENTS_MAX, 0);
    for (int i = 0; i < count; i++) {
        int what = 0;
        if (events[i].events & EPOLLIN)
            what |= CURL_CSELECT_IN;
        if (events[i].events & EPOLLOUT)
            what |= CURL_CSELECT_OUT;
        if (events[i].events & (EPOLLERR | EPOLLHUP))
            what |= CURL_CSELECT_ERR;
        act (client, events[i].data.fd, what);
    }
    if (client->timer_at_ms == 0 || clock_steady_ms () < client->timer_at_ms)
        return;
    client->timer_at_ms = 0;
    act (client, CURL_SOCKET_TIMEOUT, 0);
}

void http_client_work (struct http_client *client)
{
    assert (client && !client->working);
    client->working = true;
    drive (client);
    CURLMsg *ended;
    int left;
    while ((ended = curl_multi_info_read (client->multi, &left)) != NULL) {
        if (ended->msg != CURLMSG_DONE)
            continue;
        CURLcode code = ended->data.result;
        struct http_slot *slot = NULL;
        curl_easy_getinfo (ended->easy_handle, CURLINFO_PRIVATE, (char **) &slot);
        assert (slot && slot->attached);
        settle (slot, code);
    }
    expire (client);
    deliver_all (client);
    launch (client);
    client->working = false;
}

unsigned http_client_in_flight (const struct http_client *client)
{
    assert (client);
    return client->in_flight;
}
