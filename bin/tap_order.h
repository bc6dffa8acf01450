/*  tap_order.h - puts the values of several taps in the order of time.

    Each is held for TAP_ORDER_HOLD_MS, so that an earlier one of another process
    can still come before it. What is held is bounded: when it is full the
    earliest goes out at once. What comes later still goes out when it comes, and
    is counted as late. No clock of its own.
*/
#ifndef GUERDON_TAP_ORDER_H
#define GUERDON_TAP_ORDER_H

#include "proto/message.h"

enum {
    TAP_ORDER_HOLD_MS = 100,
    TAP_ORDER_VALUES_MAX = 1 << 16,
    TAP_ORDER_BYTES_MAX = 32 << 20 /* of their bodies */
};

struct tap_order;

/*  NULL when out of memory. */
struct tap_order *tap_order_new (void);
void tap_order_destroy (struct tap_order **order);

/*  Holds a copy of a value that was said at time_us and came now. False when there
    is no memory for it: it is lost. */
bool tap_order_put (struct tap_order *order, uint64_t time_us, struct raw body, uint64_t now_ms);

/*  Takes the earliest, if it is due now; all are with `flush`. The body lives until
    the next call. */
bool tap_order_take (struct tap_order *order, uint64_t now_ms, bool flush, struct raw *body);

/*  When there will be something to take; 0 when more is held than may be,
    UINT64_MAX when nothing is. */
uint64_t tap_order_due_ms (const struct tap_order *order);

/*  How many went out behind one that was said after them. */
uint64_t tap_order_late (const struct tap_order *order);

#endif
