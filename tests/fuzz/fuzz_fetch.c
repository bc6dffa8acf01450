/*  fuzz_fetch.c - any bytes as what top is answered when it asks for a page.

    Whatever they are: it ends, with a page whose body lies in what came, or with a
    reason. */
#include <assert.h>

#include "bin/top_fetch.h"
#include "proto/text.h"
#include "tests/fuzz/reply_server.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize (int *argc, char ***argv);

enum { TIMEOUT_MS = 10000 };

static struct reply_server server;
static struct fetch_address address;

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void) argc;
    (void) argv;
    reply_server_start (&server);
    if (!fetch_address_read (&address, TEXT_LITERAL ("127.0.0.1"), server.port))
        abort ();
    return 0;
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    static struct fetch fetch;
    reply_server_say (&server, bytes, size);
    fetch.address = &address;
    fetch.path = "/metrics";
    fetch_all (&fetch, 1, TIMEOUT_MS);
    reply_server_wait (&server);
    assert (fetch.ended && fetch.fd < 0 && !fetch.found);
    if (fetch.status == 0) {
        assert (fetch.reason[0] && fetch.body.size == 0 && !strstr (fetch.reason, "in time"));
        return 0;
    }
    assert (fetch.status <= 999 && fetch.reason[0] == '\0' && size > 12);
    const char *begin = fetch.reply, *end = fetch.reply + fetch.size;
    assert (fetch.body.data > begin && fetch.body.data + fetch.body.size <= end);
    return 0;
}
