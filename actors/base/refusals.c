/*  refusals.c - see refusals.h. */

#include "actors/base/refusals.h"

#include <assert.h>
#include <string.h>

#include "proto/text.h"

static const struct {
    const char *name;
    const char *words; /* in the log */
} rows[REFUSAL_COUNT] = {
    [REFUSED_STRANGER] = { "unknown_key", "with a key that no certificate has" },
    [REFUSED_ROLE] = { "wrong_role", "with the key of a role that may not connect there" },
    [REFUSED_HANDSHAKE] = { "handshake", "without CURVE, or with a wrong key of ours" },
    [REFUSED_CLAIM] = { "claim", "that were let in, and claimed to be another role" },
};

const char *refusal_name (enum refusal refusal)
{
    assert ((int) refusal < REFUSAL_COUNT);
    return rows[refusal].name;
}

void refusals_note (struct refusals *refusals, enum refusal refusal, uint64_t amount, const char *latest)
{
    assert ((int) refusal < REFUSAL_COUNT);
    struct builder builder;
    refusals->untold[refusal] += amount;
    builder_init (&builder, refusals->latest, sizeof refusals->latest);
    builder_printable (&builder, text_of (latest), (REFUSALS_LATEST_MAX - 8) / 6);
}

bool refusals_tell (struct refusals *refusals, uint64_t now_ms, char *line, size_t capacity)
{
    struct builder builder;
    bool any = false;
    if (refusals->told && now_ms - refusals->told_ms < REFUSALS_QUIET_MS)
        return false;
    builder_init (&builder, line, capacity);
    builder_literal (&builder, "refused connections: ");
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        if (refusals->untold[i] == 0)
            continue;
        builder_literal (&builder, any ? ", " : "");
        builder_uint (&builder, refusals->untold[i]);
        builder_literal (&builder, " ");
        builder_literal (&builder, rows[i].words);
        any = true;
    }
    if (!any)
        return false;
    if (refusals->latest[0]) {
        builder_literal (&builder, "; the latest: ");
        builder_literal (&builder, refusals->latest);
    }
    memset (refusals->untold, 0, sizeof refusals->untold);
    refusals->latest[0] = '\0';
    refusals->told = true;
    refusals->told_ms = now_ms;
    return true;
}
