/*  fuzz_replies.c - any bytes as the reply of a service to the HTTP client.

    The first byte says what is asked, the rest is what the service sends before it
    hangs up. Whatever it is: one answer comes, within the bounds of the language;
    a POST went out once; and the body, taken for a page, has events that keep every
    limit.
*/
#include <assert.h>
#include <poll.h>
#include <stdio.h>

#include "actors/base/http_client.h"
#include "actors/ingest/page.h"
#include "proto/codec.h"
#include "tests/fuzz/reply_server.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize (int *argc, char ***argv);

enum { TIMEOUT_MS = 10000 };

static struct reply_server server;
static struct http_client *client;
static unsigned answers;
static enum http_outcome outcome;

static void take_page (struct raw page)
{
    struct cursor cursor = cursor_of (page);
    struct value head;
    struct event event;
    if (!cursor_next (&cursor, &head) || head.type != VALUE_ARRAY)
        return;
    for (uint32_t i = 0; i < head.count && page_next (&cursor, &event); i++)
        assert (event.position <= POSITION_MAX);
}

static void deliver (void *context, const struct message *message)
{
    (void) context;
    if (message->id == MESSAGE_HTTP_SENT)
        return;
    const struct http_answer *answer = &message->http_answer;
    assert (message->id == MESSAGE_HTTP_ANSWER && answer->request == 7);
    assert (answer->status <= 999 && answer->retry_after_ms <= 86400000);
    assert (answer->reason.size <= REASON_SIZE_MAX && answer->body.size <= REPLY_SIZE_MAX);
    assert ((answer->outcome == HTTP_ANSWERED) == (answer->status != 0));
    assert ((answer->outcome == HTTP_ANSWERED) == (answer->reason.size == 0));
    bool has_body = answer->body_state == BODY_JSON || answer->body_state == BODY_CUT;
    assert (has_body == (answer->body.size > 0) && (!has_body || raw_valid (answer->body)));
    outcome = answer->outcome;
    answers++;
    take_page (answer->body);
}

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void) argc;
    (void) argv;
    static char base[64];
    char reason[256];
    reply_server_start (&server);
    snprintf (base, sizeof base, "http://127.0.0.1:%u/x", (unsigned) server.port);
    const struct http_target target = { SERVICE_EVENTS, base, "s3cret" };
    if (!http_client_global_init ())
        abort ();
    client = http_client_new (&target, 1, deliver, NULL, reason, sizeof reason);
    if (!client)
        abort ();
    return 0;
}

static void ask (bool post)
{
    uint8_t memory[64];
    struct packer packer;
    struct message message = { .id = MESSAGE_HTTP_REQUEST };
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 1);
    pack_literal (&packer, "secret");
    pack_secret (&packer);
    message.http_request = (struct http_request){ .request = 7,
                                                  .service = SERVICE_EVENTS,
                                                  .method = post ? METHOD_POST : METHOD_GET,
                                                  .path = TEXT_LITERAL ("/page?secret={secret}"),
                                                  .timeout_ms = TIMEOUT_MS };
    if (post)
        message.http_request.body = packer_raw (&packer);
    http_client_put (client, &message);
    http_client_start (client);
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return 0;
    bool post = bytes[0] & 1;
    reply_server_say (&server, bytes + 1, size - 1);
    answers = 0;
    ask (post);
    while (answers == 0) {
        struct pollfd item = { .fd = http_client_fd (client), .events = POLLIN };
        poll (&item, 1, (int) http_client_wait_ms (client));
        http_client_work (client);
    }
    reply_server_wait (&server);
    assert (answers == 1 && http_client_in_flight (client) == 0);
    assert (outcome != HTTP_TIMEOUT && outcome != HTTP_UNREACHED);
    assert (!post || atomic_load (&server.asked) == 1);
    return 0;
}
