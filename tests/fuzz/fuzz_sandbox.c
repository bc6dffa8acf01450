/*  fuzz_sandbox.c - any bytes as requests to the sandbox: target and body.

    The first byte says the method and whether the client hangs up early; then a
    target up to a newline, then the body. They go over a connection to the real
    sandbox, on a database in memory that is made anew after a while. Whatever
    comes: it answers HTTP, with JSON, and never that its database fails.
*/
#include <stdio.h>

#include "actors/base/json.h"
#include "actors/sandbox/sandbox.h"
#include "proto/raw.h"
#include "tests/fuzz/http_fuzz.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize (int *argc, char ***argv);

enum { TARGET_MAX = 4096, REQUEST_MAX = 64 * 1024, LIVES = 8192 };

static char directory[64];
static struct sandbox *sandbox;
static struct json_reader *reader;

static void clean_up (void)
{
    static const char *const names[] = { "sandbox.db", "sandbox.db-wal", "sandbox.db-shm" };
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf (path, sizeof path, "%s/%s", directory, names[i]);
        unlink (path);
    }
}

static void leave (void)
{
    sandbox_destroy (&sandbox);
    clean_up ();
    rmdir (directory);
}

/*  An empty one. */
static void begin (void)
{
    char reason[256];
    const struct sandbox_options options = {
        .state_dir = directory, .api_secret = "s3cret", .app_1_name = "one", .poll_timeout_ms = 1
    };
    sandbox_destroy (&sandbox);
    clean_up ();
    sandbox = sandbox_new (&options, reason, sizeof reason);
    if (!sandbox)
        abort ();
}

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void) argc;
    (void) argv;
    snprintf (directory, sizeof directory, "/dev/shm/fuzz-sandbox-XXXXXX");
    reader = json_reader_new (REPLY_SIZE_MAX);
    if (!reader || !mkdtemp (directory))
        abort ();
    begin ();
    atexit (leave);
    return 0;
}

/*  Makes a request of it; the target has no byte that would end it. */
static size_t request (char *out, bool post, const uint8_t *bytes, size_t size)
{
    const uint8_t *newline = size ? memchr (bytes, '\n', size) : NULL;
    size_t target = newline ? (size_t) (newline - bytes) : size;
    const uint8_t *body = bytes + target + (newline ? 1 : 0);
    size_t body_size = size - (size_t) (body - bytes);
    if (target > TARGET_MAX)
        target = TARGET_MAX;
    if (body_size > REQUEST_MAX - 2 * TARGET_MAX)
        body_size = REQUEST_MAX - 2 * TARGET_MAX;
    size_t used = (size_t) snprintf (out, REQUEST_MAX, "%s /", post ? "POST" : "GET");
    for (size_t i = 0; i < target; i++)
        out[used++] = bytes[i] > ' ' && bytes[i] < 0x7f ? (char) bytes[i] : '!';
    used += (size_t) snprintf (out + used, REQUEST_MAX - used,
                               " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
                               post ? body_size : 0);
    if (post && body_size > 0)
        memcpy (out + used, body, body_size);
    return used + (post ? body_size : 0);
}

/*  A client that hung up early may get nothing; others get JSON. */
static void check (const struct talk_reply *reply, bool early)
{
    if (early && reply->size == 0)
        return;
    assert (strncmp (reply->bytes, "HTTP/1.1 ", 9) == 0);
    assert (
        !strstr (reply->bytes, "\"message\":\"The database fails\"")); /* a quote that came back is escaped */
    const char *body = strstr (reply->bytes, "\r\n\r\n");
    assert (body);
    struct raw raw;
    json_reader_reset (reader);
    json_reader_feed (reader, body + 4, reply->size - (size_t) (body + 4 - reply->bytes));
    enum body_state state = json_reader_finish (reader, &raw);
    assert ((state == BODY_JSON && raw_valid (raw)) || (state == BODY_NONE && reply->bytes[9] == '2'));
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    static char out[REQUEST_MAX];
    static struct talk_reply reply;
    static unsigned count;
    if (size == 0)
        return 0;
    if (++count % LIVES == 0)
        begin ();
    bool early = bytes[0] & 2;
    size_t used = request (out, bytes[0] & 1, bytes + 1, size - 1);
    talk_whole (sandbox_port (sandbox), out, used, early, &reply);
    check (&reply, early);
    return 0;
}
