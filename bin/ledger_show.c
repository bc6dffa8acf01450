/*  ledger_show.c - see ledger_show.h. */

#include "bin/ledger_show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "actors/base/json.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    SHOWN_MAX = 255, /* bytes of a text in a line; JSON has all of it */
    ESCAPED_MAX = SHOWN_MAX + 16,
    ID_SIZE = 32, /* "65535-9223372036854775807" */
    TIME_SIZE = 48,
    JSON_SIZE = 6 * USER_SIZE_MAX /* as msgpack, with every byte of each text escaped */
};

/*  What is shown of a grant and is no field of it. */
struct texts {
    char id[ID_SIZE];
    char trace[24];
    char event[TIME_SIZE];
    char intended[TIME_SIZE];
    char changed[TIME_SIZE];
};

/*  Date and time of ISO 8601; what no calendar has is shown as a number. */
static void format_time (int64_t time_ms, char *text, size_t capacity)
{
    int64_t rest = time_ms % 1000 < 0 ? time_ms % 1000 + 1000 : time_ms % 1000;
    time_t seconds = (time_t) ((time_ms - rest) / 1000);
    struct tm parts;
    char head[32];
    if (gmtime_r (&seconds, &parts) && parts.tm_year < 8100 &&
        strftime (head, sizeof head, "%Y-%m-%dT%H:%M:%S", &parts))
        snprintf (text, capacity, "%s.%03dZ", head, (int) rest);
    else
        snprintf (text, capacity, "%" PRId64 " ms", time_ms);
}

static struct texts texts_of (uint16_t shard, const struct message *message)
{
    struct texts texts;
    const struct listed *listed = &message->listed;
    snprintf (texts.id, sizeof texts.id, "%u-%" PRIu64, (unsigned) shard, listed->grant);
    snprintf (texts.trace, sizeof texts.trace, "%016" PRIx64, message->trace);
    format_time (listed->timestamp, texts.event, sizeof texts.event);
    format_time ((int64_t) listed->intended_ms, texts.intended, sizeof texts.intended);
    format_time ((int64_t) listed->changed_ms, texts.changed, sizeof texts.changed);
    return texts;
}

/*  ---- for people --------------------------------------------------------- */

static const char *escaped (struct text text, char *memory, size_t capacity)
{
    struct builder printable;
    builder_init (&printable, memory, capacity);
    builder_printable (&printable, text, SHOWN_MAX);
    return memory;
}

static void print_text (const char *name, struct text text)
{
    char memory[ESCAPED_MAX];
    if (text.size)
        printf (" %s=%s", name, escaped (text, memory, sizeof memory));
}

void ledger_show_line (uint16_t shard, const struct message *message, bool whole)
{
    const struct listed *listed = &message->listed;
    struct texts texts = texts_of (shard, message);
    printf ("%-10s  %-9s  %s ", texts.id, grant_state_name (listed->state), texts.changed);
    print_text ("user", listed->user);
    printf (" amount=%" PRId64, listed->amount);
    print_text ("currency", listed->currency);
    print_text ("reward", listed->reward);
    printf (" tries=%" PRIu64, listed->tries);
    if (whole)
        printf (" event=%" PRIu64 " event_time=%s trace=%s begun=%s", listed->position, texts.event,
                texts.trace, texts.intended);
    print_text ("who", listed->who);
    print_text ("reason", listed->reason);
    putchar ('\n');
}

static void print_field (const char *name, struct text text)
{
    char memory[ESCAPED_MAX];
    printf ("%-10s  %s\n", name, text.size ? escaped (text, memory, sizeof memory) : "-");
}

void ledger_show_fields (uint16_t shard, const struct message *message)
{
    const struct listed *listed = &message->listed;
    struct texts texts = texts_of (shard, message);
    print_field ("id", text_of (texts.id));
    print_field ("state", text_of (grant_state_name (listed->state)));
    print_field ("since", text_of (texts.changed));
    print_field ("begun", text_of (texts.intended));
    print_field ("user", listed->user);
    printf ("%-10s  %" PRId64 "\n", "amount", listed->amount);
    print_field ("currency", listed->currency);
    print_field ("reward", listed->reward);
    printf ("%-10s  %" PRIu64 "\n", "tries", listed->tries);
    print_field ("reason", listed->reason);
    print_field ("who", listed->who);
    printf ("%-10s  %" PRIu64 "\n", "event", listed->position);
    print_field ("event time", text_of (texts.event));
    print_field ("trace", text_of (texts.trace));
}

/*  ---- for scripts -------------------------------------------------------- */

/*  As it is when it is UTF-8, else escaped: JSON carries nothing else. */
static void pack_printable (struct packer *packer, const char *name, struct text text)
{
    static char memory[4 * USER_SIZE_MAX + 16];
    struct builder printable;
    pack_literal (packer, name);
    if (text_is_utf8 (text)) {
        pack_text (packer, text);
        return;
    }
    builder_init (&printable, memory, sizeof memory);
    builder_printable (&printable, text, 4 * USER_SIZE_MAX);
    pack_text (packer, builder_text (&printable));
}

static void pack_number (struct packer *packer, const char *name, int64_t number)
{
    pack_literal (packer, name);
    pack_int (packer, number);
}

void ledger_show_json (uint16_t shard, const struct message *message)
{
    static uint8_t memory[JSON_SIZE];
    const struct listed *listed = &message->listed;
    struct texts texts = texts_of (shard, message);
    struct packer packer;
    size_t size = 0;
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 14);
    pack_printable (&packer, "id", text_of (texts.id));
    pack_printable (&packer, "state", text_of (grant_state_name (listed->state)));
    pack_number (&packer, "changed_ms", (int64_t) listed->changed_ms);
    pack_number (&packer, "begun_ms", (int64_t) listed->intended_ms);
    pack_printable (&packer, "user", listed->user);
    pack_number (&packer, "amount", listed->amount);
    pack_printable (&packer, "currency", listed->currency);
    pack_printable (&packer, "reward", listed->reward);
    pack_number (&packer, "tries", (int64_t) listed->tries);
    pack_printable (&packer, "reason", listed->reason);
    pack_printable (&packer, "who", listed->who);
    pack_number (&packer, "event", (int64_t) listed->position);
    pack_number (&packer, "event_ms", listed->timestamp);
    pack_printable (&packer, "trace", text_of (texts.trace));
    char *json = json_write (packer_raw (&packer), NO_TEXT, &size);
    if (json)
        printf ("%s\n", json);
    free (json);
}
