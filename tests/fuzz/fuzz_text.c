/*  fuzz_text.c - any bytes through what reads and writes small texts.

    Numbers read as the standard library reads them; percent-encoding comes back as
    it was; what is made printable is, and is as short as was asked for; parts of
    queries and addresses lie in what they are parts of.
*/
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/http_server.h"
#include "actors/usermeta_client/usermeta_path.h"
#include "bin/top_fetch.h"
#include "proto/text.h"

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size);

enum { TEXT_MAX = 512 };

static void numbers (struct text text)
{
    uint64_t uint;
    int64_t integer;
    char printed[32];
    if (text_to_uint (text, UINT64_MAX, &uint)) {
        int length = snprintf (printed, sizeof printed, "%" PRIu64, uint);
        assert ((uint32_t) length == text.size && memcmp (printed, text.data, text.size) == 0);
    }
    bool small = text_to_uint (text, 1000, &uint);
    assert (!small || uint <= 1000);
    if (text_to_int (text, &integer)) {
        int length = snprintf (printed, sizeof printed, "%" PRId64, integer);
        assert ((uint32_t) length == text.size && memcmp (printed, text.data, text.size) == 0);
    }
}

static void percent (struct text text)
{
    char coded[3 * TEXT_MAX + 1], decoded[3 * TEXT_MAX];
    struct builder builder;
    builder_init (&builder, coded, sizeof coded);
    builder_percent (&builder, text);
    assert (!builder.overflow);
    for (size_t i = 0; i < builder.size; i++)
        assert (coded[i] > ' ' && coded[i] < 0x7f && !strchr ("&/?#+,;=:@\"<>", coded[i]));
    size_t size = http_decode (builder_text (&builder), decoded);
    assert (size == text.size && (size == 0 || memcmp (decoded, text.data, size) == 0));
    size = http_decode (text, decoded);
    assert (size <= text.size);
}

static void printable (struct text text, size_t max)
{
    char memory[4 * TEXT_MAX + 8];
    struct builder builder;
    builder_init (&builder, memory, sizeof memory);
    builder_printable (&builder, text, max);
    struct text shown = builder_text (&builder);
    assert (!builder.overflow && shown.size <= max && text_is_utf8 (shown));
    for (uint32_t i = 0; i < shown.size; i++)
        assert ((uint8_t) shown.data[i] >= ' ' && shown.data[i] != 0x7f);
    /*  Little memory cuts, and never breaks. */
    char little[16];
    builder_init (&builder, little, 1 + max % sizeof little);
    builder_printable (&builder, text, max);
    builder_percent (&builder, text);
    assert (builder.size < builder.capacity && little[builder.size] == '\0');
}

static void parts (struct text text)
{
    struct text value;
    struct fetch_address address;
    if (http_query (text, "after", &value))
        assert (value.data >= text.data && value.data + value.size <= text.data + text.size);
    if (fetch_address_read (&address, text, 8000)) {
        struct fetch_address again;
        bool read = fetch_address_read (&again, text_of (address.name), 1);
        assert (read && again.port == address.port && strcmp (again.host, address.host) == 0);
    }
}

static void path (struct text text)
{
    char memory[3 * TEXT_MAX + 1];
    struct builder builder;
    builder_init (&builder, memory, sizeof memory);
    usermeta_add_keys (&builder, text);
    assert (!builder.overflow && !strpbrk (memory, " /?#&"));
    usermeta_user_alone (text);
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return 0;
    size_t max = bytes[0];
    struct text text = { (const char *) bytes + 1, (uint32_t) (size - 1 < TEXT_MAX ? size - 1 : TEXT_MAX) };
    numbers (text);
    percent (text);
    printable (text, max);
    path (text);
    if (text.size > 0)
        parts (text);
    return 0;
}
