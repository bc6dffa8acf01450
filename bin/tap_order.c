/*  tap_order.c - see tap_order.h. A heap by time, and a list by arrival. */

#include "bin/tap_order.h"

#include <stdlib.h>
#include <string.h>

struct held {
    struct held *before; /* came before it */
    struct held *after;  /* … and after it */
    uint64_t time_us;
    uint64_t number; /* the how manieth it is: what has one time stays as it came */
    uint64_t came_ms;
    uint32_t size;
    uint8_t bytes[];
};

struct tap_order {
    struct held *first; /* by arrival */
    struct held *last;
    struct held *taken; /* whose body was given out */
    size_t count;
    size_t bytes;
    uint64_t number;
    uint64_t late;
    uint64_t taken_us;                           /* the latest time that went out */
    struct held *heap[TAP_ORDER_VALUES_MAX + 1]; /* the earliest is at 0 */
};

struct tap_order *tap_order_new (void)
{
    return calloc (1, sizeof (struct tap_order));
}

void tap_order_destroy (struct tap_order **order)
{
    if (!*order)
        return;
    for (size_t i = 0; i < (*order)->count; i++)
        free ((*order)->heap[i]);
    free ((*order)->taken);
    free (*order);
    *order = NULL;
}

static bool is_earlier (const struct held *a, const struct held *b)
{
    return a->time_us != b->time_us ? a->time_us < b->time_us : a->number < b->number;
}

static void heap_push (struct tap_order *order, struct held *held)
{
    size_t at = order->count++;
    for (; at > 0 && is_earlier (held, order->heap[(at - 1) / 2]); at = (at - 1) / 2)
        order->heap[at] = order->heap[(at - 1) / 2];
    order->heap[at] = held;
}

static struct held *heap_pop (struct tap_order *order)
{
    struct held *top = order->heap[0];
    struct held *moved = order->heap[--order->count];
    size_t at = 0;
    for (size_t child = 1; child < order->count; child = 2 * at + 1) {
        child += child + 1 < order->count && is_earlier (order->heap[child + 1], order->heap[child]);
        if (!is_earlier (order->heap[child], moved))
            break;
        order->heap[at] = order->heap[child];
        at = child;
    }
    order->heap[at] = moved;
    return top;
}

static bool is_full (const struct tap_order *order)
{
    return order->count > TAP_ORDER_VALUES_MAX || order->bytes > TAP_ORDER_BYTES_MAX;
}

bool tap_order_put (struct tap_order *order, uint64_t time_us, struct raw body, uint64_t now_ms)
{
    struct held *held = order->count <= TAP_ORDER_VALUES_MAX ? malloc (sizeof *held + body.size) : NULL;
    if (!held)
        return false;
    held->before = order->last;
    held->after = NULL;
    held->time_us = time_us;
    held->number = order->number++;
    held->came_ms = now_ms;
    held->size = body.size;
    memcpy (held->bytes, body.data, body.size);
    if (order->last)
        order->last->after = held;
    else
        order->first = held;
    order->last = held;
    order->bytes += body.size;
    heap_push (order, held);
    return true;
}

uint64_t tap_order_due_ms (const struct tap_order *order)
{
    if (!order->count)
        return UINT64_MAX;
    return is_full (order) ? 0 : order->first->came_ms + TAP_ORDER_HOLD_MS;
}

bool tap_order_take (struct tap_order *order, uint64_t now_ms, bool flush, struct raw *body)
{
    free (order->taken);
    order->taken = NULL;
    if (!order->count || (!flush && now_ms < tap_order_due_ms (order)))
        return false;
    struct held *held = heap_pop (order);
    if (held->before)
        held->before->after = held->after;
    else
        order->first = held->after;
    if (held->after)
        held->after->before = held->before;
    else
        order->last = held->before;
    order->bytes -= held->size;
    order->late += held->time_us < order->taken_us;
    order->taken_us = held->time_us > order->taken_us ? held->time_us : order->taken_us;
    order->taken = held;
    *body = (struct raw){ held->bytes, held->size };
    return true;
}

uint64_t tap_order_late (const struct tap_order *order)
{
    return order->late;
}
