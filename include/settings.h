/*  settings.h - what a core is told of the configuration.

    Plain values, checked by the shell before any core sees them; no addresses
    and no secrets. Strings are terminated and outlive every core.
*/
#ifndef GUERDON_SETTINGS_H
#define GUERDON_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

struct settings {
    const char *app_1_name; /* rewards go to this app's players; for logs */
    const char *app_2_name; /* `from` of the events that count */

    const char *reward_id;       /* 1..REWARD_SIZE_MAX bytes of [A-Za-z0-9_.-] */
    int64_t reward_amount;       /* may be negative (reference 2) */
    const char *reward_currency; /* 1..NAME_SIZE_MAX bytes */

    const char *events_client_id; /* our name at the events service */
    const char *events_channel;
    uint32_t poll_timeout_ms; /* how long one poll may hang */
    uint32_t gap_grace_ms;    /* how long an event id may be missing */

    uint32_t http_timeout_ms; /* for one request to usermeta, virtualcurrency */
    uint32_t window;          /* events in flight at most, 1..WINDOW_MAX */

    uint32_t find_grace_ms;    /* how long after an attempt to give it may still show up as given */
    uint32_t find_patience_ms; /* how long to look for a reward of unknown outcome before it is parked */

    const char *statsd_prefix;
    bool statsd; /* false: nothing is sent */

    uint16_t decisions;        /* how many shards there are, from 1 */
    uint16_t usermeta_clients; /* how many workers there are, from 1 */
    uint16_t currency_clients;

    uint64_t hash_seed; /* random, new at every start */
};

#endif
