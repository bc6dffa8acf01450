/*  fuzz_tap_reader.c - any bytes as what a process shows on its tap.

    The bytes are a script of messages with any number of frames. Whatever comes:
    what is handed on lies in its message, and what is good is still found behind
    what is not.
*/
#include <assert.h>
#include <string.h>

#include <zmq.h>

#include "actors/base/tap.h"
#include "proto/codec.h"
#include "proto/text.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize (int *argc, char ***argv);

enum { MESSAGES_MAX = 64, LAST_WAIT_MS = 10000, SIGNALS_MAX = 16 /* of the fuzzer's clock */ };

static const char endpoint[] = "inproc://tap";
static void *publisher;
static struct tap_reader *reader;
static uint8_t last[128];
static size_t last_size;

/*  A good value, with a number that no script can know: the fuzzer learns what is
    compared, so it is another one every time. */
static void make_last (void)
{
    static const char *const texts[] = { "process", "sent", "ingest/0", "decision/0" };
    static uint64_t count;
    uint64_t number = text_hash ((struct text){ (const char *) &count, sizeof count }, 4711);
    struct packer packer;
    count++;
    packer_init (&packer, last, sizeof last);
    pack_array (&packer, 9);
    pack_uint (&packer, 1);
    pack_uint (&packer, number);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        pack_literal (&packer, texts[i]);
    pack_uint (&packer, number);
    pack_uint (&packer, 0);
    pack_nil (&packer);
    last_size = packer.size;
}

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void) argc;
    (void) argv;
    char reason[256];
    const char *const endpoints[] = { endpoint };
    uint8_t subscription[64];
    void *context = zmq_ctx_new ();
    publisher = zmq_socket (context, ZMQ_XPUB);
    assert (publisher);
    int result = zmq_bind (publisher, endpoint);
    assert (result == 0);
    reader = tap_reader_new (context, endpoints, 1, NULL, reason, sizeof reason);
    assert (reader);
    bool wanted = tap_reader_want (reader, NO_TEXT);
    assert (wanted);
    do { /* what it wants comes behind that it is there */
        result = zmq_recv (publisher, subscription, sizeof subscription, 0);
        assert (result > 0);
    } while (result != 1);
    return 0;
}

static void check (const struct tap_record *record)
{
    const struct text texts[] = { record->process, record->direction, record->from, record->to };
    const char *begin = (const char *) record->body.data, *end = begin + record->body.size;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert (texts[i].size == 0 || (texts[i].data > begin && texts[i].data + texts[i].size <= end));
    const uint8_t *message_end = record->message.data + record->message.size;
    assert (message_end <= record->body.data + record->body.size && raw_valid (record->message));
}

/*  A message out of the script: how many frames, then size and bytes of each. */
static void publish (const uint8_t **at, const uint8_t *end)
{
    unsigned frames = 1U + *(*at)++ % 4;
    if (frames > 2)
        frames = *(*at - 1) < 32 ? frames : 2; /* two are the rule */
    for (unsigned i = 0; i < frames; i++) {
        size_t size = *at < end ? *(*at)++ : 0;
        size_t left = (size_t) (end - *at);
        size = size < left ? size : left;
        int sent = zmq_send (publisher, *at, size, i + 1 < frames ? ZMQ_SNDMORE : 0);
        assert (sent >= 0);
        *at += size;
    }
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    const uint8_t *at = bytes, *end = bytes + size;
    struct tap_record record;
    unsigned messages = 1, tries = 0;
    for (; at < end && messages < MESSAGES_MAX; messages++)
        publish (&at, end);
    make_last ();
    zmq_send (publisher, "", 0, ZMQ_SNDMORE);
    zmq_send (publisher, last, last_size, 0);
    for (;;) {
        bool came = tap_reader_next (reader, LAST_WAIT_MS, &record);
        assert (came || ++tries <= messages + SIGNALS_MAX);
        if (!came)
            continue;
        check (&record);
        if (record.body.size == last_size && memcmp (record.body.data, last, last_size) == 0)
            break;
    }
    return 0;
}
