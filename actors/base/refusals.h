/*  refusals.h - who was not let in, counted, and told once a minute at most.

    A stranger must not be able to fill the log. Pure: the time comes in.
*/
#ifndef GUERDON_REFUSALS_H
#define GUERDON_REFUSALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum refusal {
    REFUSED_STRANGER,  /* a key that no certificate has */
    REFUSED_ROLE,      /* the key of somebody who has no business there */
    REFUSED_HANDSHAKE, /* no CURVE, the wrong key of ours, or rubbish */
    REFUSED_CLAIM      /* let in, but claims to be somebody else */
};

enum {
    REFUSAL_COUNT = REFUSED_CLAIM + 1,
    REFUSALS_QUIET_MS = 60000, /* between two lines */
    REFUSALS_LATEST_MAX = 608  /* bytes of what is told of the latest */
};

struct refusals {
    uint64_t untold[REFUSAL_COUNT];       /* since the last line */
    char latest[REFUSALS_LATEST_MAX + 1]; /* printable */
    bool told;                            /* there was a line */
    uint64_t told_ms;                     /* when, in steady ms */
};

/*  As in guerdon_refused_total{reason="…"}. */
const char *refusal_name (enum refusal refusal);

/*  Notes some; `latest` says who, and is made printable here. */
void refusals_note (struct refusals *refusals, enum refusal refusal, uint64_t amount, const char *latest);

/*  True when a line is due, which is written and begins the next minute. */
bool refusals_tell (struct refusals *refusals, uint64_t now_ms, char *line, size_t capacity);

#endif
