/*  flight.h - the events in flight, in the order of their ids.

    A ring of fixed size. It knows up to where everything is settled (that may
    be acknowledged) and below which events an id is missing. Events that were passed
    over, since nobody wants to see them, only wait for those below them; how many
    others there may be has a bound of its own.
*/
#ifndef GUERDON_FLIGHT_H
#define GUERDON_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flight_entry {
    uint64_t position;
    uint64_t seen_ms; /* steady time it was read at */
    bool settled;
    bool gap;      /* the id below it may still appear */
    bool waiting;  /* unsettled, and to be handed on when it is read again */
    bool passed;   /* settled without having been handed on */
    uint8_t shard; /* which decision it belongs to; the owner's to set */
};

struct flight {
    struct flight_entry *entries;
    uint32_t capacity;
    uint32_t held_max; /* entries at most that are not passed over */
    uint32_t head;     /* place of the oldest */
    uint32_t count;
    uint32_t passed;    /* entries that are passed over */
    uint32_t gaps;      /* entries with `gap` */
    uint32_t unsettled; /* entries that are not settled */
    uint32_t waiting;   /* of them, those that are waiting */
    bool has_ack;       /* false: nothing was ever settled; ack is unknown */
    uint64_t ack;       /* everything up to here is settled */
    uint64_t seen;      /* the highest position ever added */
};

enum flight_add { FLIGHT_ADDED, FLIGHT_KNOWN, FLIGHT_BEHIND, FLIGHT_FULL };

/*  Lays the ring over zeroed memory for `capacity` entries, of which at most
    `held_max` may be others than passed over. */
void flight_init (struct flight *flight, struct flight_entry *entries, uint32_t capacity, uint32_t held_max);

/*  Entries that are not passed over. */
uint32_t flight_held (const struct flight *flight);

/*  Takes an event in. KNOWN: it is in flight already. BEHIND: it lies at or
    below what is settled. FULL: there is no room for it, nor for one that may have
    to be held. */
enum flight_add flight_add (struct flight *flight, uint64_t position, uint64_t now_ms);

/*  Marks an event as settled and moves the settled position on. False when it
    is not in flight, or is settled already. */
bool flight_settle (struct flight *flight, uint64_t position);

/*  Passes over an unsettled event that nobody wants to see: it is settled. */
void flight_pass (struct flight *flight, struct flight_entry *entry);

/*  Closes the gap below every event above `above` and up to `position` that was
    read at or before `seen_ms`, and moves the settled position on. */
void flight_close_gaps (struct flight *flight, uint64_t above, uint64_t position, uint64_t seen_ms);

/*  Forgets the highest event, if it is settled and cannot be acknowledged yet, to
    make room for a lower one; it lies ahead again. False when it is not settled. */
bool flight_forget_highest (struct flight *flight);

/*  The lowest event with a gap below it; NULL without one. *below receives the
    id under the gap; false in *has_below when that is unknown. */
const struct flight_entry *flight_first_gap (const struct flight *flight, uint64_t *below, bool *has_below);

/*  The entry of an event in flight; NULL when it is not. Valid until the next
    change. */
struct flight_entry *flight_find (const struct flight *flight, uint64_t position);

/*  Says whether an unsettled event is waiting to be handed on. */
void flight_wait (struct flight *flight, struct flight_entry *entry, bool waiting);

/*  Lets every unsettled event of a shard wait to be handed on again. */
void flight_take_back (struct flight *flight, uint8_t shard);

/*  The lowest event that waits for one of these shards (bit 1 << shard each);
    NULL without one. *below and *has_below as in flight_first_gap. */
const struct flight_entry *flight_first_waiting (const struct flight *flight, uint32_t shards,
                                                 uint64_t *below, bool *has_below);

/*  When the oldest event that is not settled was read; false without one. */
bool flight_oldest (const struct flight *flight, uint64_t *seen_ms);

#endif
