/*  fuzz_status.c - any bytes as what a client sends to the status pages.

    They go over a connection to the real server. Whatever comes: it answers HTTP or
    nothing, what it says is JSON is JSON, and afterwards it still answers others.
*/
#include "actors/base/json.h"
#include "actors/base/status.h"
#include "proto/raw.h"
#include "proto/text.h"
#include "tests/fuzz/http_fuzz.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize (int *argc, char ***argv);

static struct status *status;
static struct json_reader *reader;

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void) argc;
    (void) argv;
    char reason[256];
    struct monitor *monitor = monitor_new ();
    if (!monitor)
        abort ();
    for (enum role role = ROLE_INGEST; role <= ROLE_STATS; role++)
        monitor_expect (monitor, role);
    monitor_expect_service (monitor, SERVICE_EVENTS);
    monitor_health (monitor, SERVICE_EVENTS, SERVICE_DOWN, TEXT_LITERAL ("a \"reason\"\x01\xff"));
    monitor_expect_peer (monitor, ROLE_INGEST, (struct address){ ROLE_DECISION, 3 });
    status = status_new ("127.0.0.1", 0, monitor, reason, sizeof reason);
    reader = json_reader_new (REPLY_SIZE_MAX);
    if (!status || !reader)
        abort ();
    return 0;
}

/*  Looks at the first of the replies; to HEAD there is no body, and who asks several
    things at once gets several. */
static void check (const struct talk_reply *reply)
{
    if (reply->size == 0)
        return;
    assert (strncmp (reply->bytes, "HTTP/1.", 7) == 0 && strspn (reply->bytes + 9, "0123456789") == 3);
    const char *body = strstr (reply->bytes, "\r\n\r\n");
    assert (body);
    const char *type = strcasestr (reply->bytes, "content-type: application/json");
    const char *length = strcasestr (reply->bytes, "content-length: ");
    body += 4;
    size_t size = reply->size - (size_t) (body - reply->bytes);
    if (!type || type > body || !length || length > body || strtoul (length + 16, NULL, 10) != size ||
        size == 0)
        return;
    struct raw raw;
    json_reader_reset (reader);
    json_reader_feed (reader, body, size);
    enum body_state state = json_reader_finish (reader, &raw);
    assert (state == BODY_JSON && raw_valid (raw));
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    static struct talk_reply reply;
    static const char health[] = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    static unsigned count;
    talk_any (status_port (status), bytes, size, &reply);
    check (&reply);
    if (++count % 64 == 0) {
        talk_whole (status_port (status), health, sizeof health - 1, false, &reply);
        assert (strncmp (reply.bytes, "HTTP/1.1 200", 12) == 0);
    }
    return 0;
}
