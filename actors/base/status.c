/*  status.c - see status.h. */

#include "actors/base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "actors/base/http_server.h"
#include "actors/base/json.h"
#include "proto/codec.h"
#include "proto/text.h"

enum { PAGE_SIZE_MAX = 32 * 1024, TOKEN_SIZE_MAX = 1024, CONNECTIONS_MAX = 256, BODY_SIZE_MAX = 1024 };

static const char json_type[] = "application/json; charset=UTF-8";

struct status {
    struct http_server *server;
    struct monitor *monitor;
    char hostname[256];
    char start_date[32];      /* ISO 8601 with milliseconds and Z */
    char page[PAGE_SIZE_MAX]; /* of the server's one thread */
};

static void answer (struct http_exchange *exchange, unsigned status, const char *type, const char *body,
                    size_t size)
{
    http_exchange_answer (exchange, status, type, (struct text){ body, (uint32_t) size });
}

/*  Answers with a value as JSON. */
static void answer_value (struct http_exchange *exchange, unsigned status, const struct packer *packer)
{
    size_t size = 0;
    char *json = json_write (packer_raw (packer), NO_TEXT, &size);
    if (json)
        answer (exchange, status, json_type, json, size);
    else
        answer (exchange, 400, json_type, "{\"code\":\"BadRequest\",\"message\":\"not UTF-8\"}", 43);
    free (json);
}

static void answer_error (struct http_exchange *exchange, unsigned status, const char *code,
                          const char *message)
{
    uint8_t memory[512];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 2);
    pack_literal (&packer, "code");
    pack_literal (&packer, code);
    pack_literal (&packer, "message");
    pack_literal (&packer, message);
    answer_value (exchange, status, &packer);
}

/*  ---- pages -------------------------------------------------------------- */

static void on_about (struct status *self, struct http_exchange *exchange, struct text rest)
{
    (void) rest;
    uint8_t memory[1024];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    const char *const rows[][2] = {
        { "hostname", self->hostname },
        { "type", "rewards" },
        { "version", GUERDON_VERSION },
        { "description", "guerdon: watches player events and hands out what players earned" },
        { "startDate", self->start_date },
    };
    pack_map (&packer, sizeof rows / sizeof *rows);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pack_literal (&packer, rows[i][0]);
        pack_literal (&packer, rows[i][1]);
    }
    answer_value (exchange, 200, &packer);
}

static void on_ping (struct status *self, struct http_exchange *exchange, struct text token)
{
    (void) self;
    char pong[TOKEN_SIZE_MAX + 8] = "pong/";
    uint8_t memory[TOKEN_SIZE_MAX + 32];
    if (token.size > TOKEN_SIZE_MAX) {
        answer_error (exchange, 414, "UriTooLong", "the token is longer than 1024 bytes");
        return;
    }
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    size_t size = 5 + http_decode (token, pong + 5);
    pack_text (&packer, (struct text){ pong, (uint32_t) size });
    answer_value (exchange, 200, &packer);
}

static void on_health (struct status *self, struct http_exchange *exchange, struct text rest)
{
    (void) self;
    (void) rest;
    answer (exchange, 200, json_type, "{\"healthy\":true}\n", 17);
}

static void on_ready (struct status *self, struct http_exchange *exchange, struct text rest)
{
    (void) rest;
    bool ready = monitor_ready (self->monitor);
    size_t size = monitor_ready_page (self->monitor, self->page, sizeof self->page);
    answer (exchange, ready ? 200 : 503, json_type, self->page, size);
}

static void on_metrics (struct status *self, struct http_exchange *exchange, struct text rest)
{
    (void) rest;
    size_t size = monitor_metrics_page (self->monitor, self->page, sizeof self->page);
    answer (exchange, 200, "text/plain; version=0.0.4; charset=utf-8", self->page, size);
}

static const struct {
    const char *path; /* a trailing "/" takes one more segment */
    void (*answer) (struct status *self, struct http_exchange *exchange, struct text rest);
} pages[] = {
    { "/about", on_about },           { "/rewards/v1/about", on_about }, { "/ping/", on_ping },
    { "/rewards/v1/ping/", on_ping }, { "/health", on_health },          { "/ready", on_ready },
    { "/metrics", on_metrics },
};

/*  True when a request's path is this page's; *rest receives the segment. */
static bool page_matches (const char *page, struct text path, struct text *rest)
{
    struct text own = text_of (page);
    if (own.data[own.size - 1] != '/')
        return text_equal (path, own);
    if (path.size < own.size || memcmp (path.data, own.data, own.size) != 0)
        return false;
    *rest = (struct text){ path.data + own.size, path.size - own.size };
    return !text_has (*rest, '/');
}

static void on_request (void *context, struct http_exchange *exchange,
                        const struct http_server_request *request)
{
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        struct text rest = NO_TEXT;
        if (!page_matches (pages[i].path, request->path, &rest))
            continue;
        if (strcmp (request->method, "GET") == 0 || strcmp (request->method, "HEAD") == 0)
            pages[i].answer (context, exchange, rest);
        else
            answer_error (exchange, 405, "MethodNotAllowed", "only GET and HEAD are served here");
        return;
    }
    answer_error (exchange, 404, "ResourceNotFound",
                  "served are /about, /ping/:token, /health, /ready and /metrics");
}

/*  ---- life --------------------------------------------------------------- */

static void write_start_date (char *text, size_t size)
{
    struct timespec now;
    struct tm parts;
    clock_gettime (CLOCK_REALTIME, &now);
    gmtime_r (&now.tv_sec, &parts);
    size_t used = strftime (text, size, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf (text + used, size - used, ".%03ldZ", now.tv_nsec / 1000000);
}

struct status *status_new (const char *host, uint16_t port, struct monitor *monitor, char *reason,
                           size_t reason_size)
{
    struct status *self = calloc (1, sizeof *self);
    if (!self) {
        snprintf (reason, reason_size, "out of memory");
        return NULL;
    }
    self->monitor = monitor;
    gethostname (self->hostname, sizeof self->hostname - 1);
    write_start_date (self->start_date, sizeof self->start_date);
    const struct http_server_handler handler = {
        .request = on_request,
        .context = self,
        .body_size_max = BODY_SIZE_MAX,
        .connections_max = CONNECTIONS_MAX,
    };
    self->server = http_server_new (host, port, &handler, reason, reason_size);
    if (!self->server)
        status_destroy (&self);
    return self;
}

void status_destroy (struct status **status)
{
    if (!*status)
        return;
    http_server_destroy (&(*status)->server);
    free (*status);
    *status = NULL;
}

uint16_t status_port (const struct status *status)
{
    return http_server_port (status->server);
}
