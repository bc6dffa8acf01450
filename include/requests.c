/*  requests.c - slots, jobs, and a binary heap of those that wait. */

#include "include/requests.h"

#include <assert.h>
#include <string.h>

static size_t aligned (size_t size)
{
    return (size + 15) / 16 * 16;
}

size_t requests_size (uint32_t capacity)
{
    return aligned (capacity * sizeof (struct pending)) + aligned (capacity * sizeof (uint32_t)) +
           2 * users_size (capacity);
}

void requests_init (struct requests *requests, void *memory, uint32_t capacity)
{
    assert (capacity > 0 && capacity < REQUEST_NONE);
    char *at = memory;
    requests->slots = (struct pending *) (void *) at;
    at += aligned (capacity * sizeof (struct pending));
    requests->heap = (uint32_t *) (void *) at;
    at += aligned (capacity * sizeof (uint32_t));
    users_init (&requests->users, at, capacity);
    at += users_size (capacity);
    users_init (&requests->what, at, capacity);
    requests->heap_size = 0;
    requests->capacity = capacity;
    requests->count = 0;
    requests->touched = 0;
    requests->free = REQUEST_NONE;
    requests->serial = 0;
}

struct pending *requests_at (const struct requests *requests, uint32_t slot)
{
    assert (slot < requests->touched);
    return &requests->slots[slot];
}

struct text requests_user (const struct requests *requests, uint32_t slot)
{
    return users_get (&requests->users, slot);
}

struct text requests_what (const struct requests *requests, uint32_t slot)
{
    return users_get (&requests->what, slot);
}

/*  ---- slots -------------------------------------------------------------- */

static uint32_t free_slot (struct requests *requests)
{
    uint32_t slot = requests->free;
    if (slot != REQUEST_NONE) {
        requests->free = requests->slots[slot].next;
        return slot;
    }
    return requests->touched < requests->capacity ? requests->touched++ : REQUEST_NONE;
}

uint32_t requests_keep (struct requests *requests, const struct message *message, struct text user,
                        struct text what)
{
    assert (what.size <= REQUEST_WHAT_MAX);
    uint32_t slot = free_slot (requests);
    if (slot == REQUEST_NONE)
        return REQUEST_NONE;
    struct pending *pending = &requests->slots[slot];
    *pending = (struct pending){
        .trace = message->trace,
        .serial = ++requests->serial,
        .from = message->from,
        .next = REQUEST_NONE,
        .member = REQUEST_NONE,
        .members = 1,
    };
    users_put (&requests->users, slot, user);
    users_put (&requests->what, slot, what);
    requests->count++;
    return slot;
}

void requests_drop (struct requests *requests, uint32_t slot)
{
    struct pending *pending = requests_at (requests, slot);
    assert (requests->count > 0 && pending->members == 1 && pending->member == REQUEST_NONE);
    pending->members = 0;
    pending->next = requests->free;
    requests->free = slot;
    requests->count--;
}

/*  ---- jobs --------------------------------------------------------------- */

/*  A job as it was before it was tried. */
static void untried (struct pending *job, uint32_t members)
{
    job->members = members;
    job->attempts = 0;
    job->strikes = 0;
    job->failed_ms = 0;
    memset (job->good_seen, 0, sizeof job->good_seen);
    job->suspect = false;
    job->repeated = false;
}

void requests_join (struct requests *requests, uint32_t job, uint32_t last, uint32_t added)
{
    assert (requests_at (requests, added)->members == 1);
    assert (requests_at (requests, last)->member == REQUEST_NONE);
    requests_at (requests, last)->member = added;
    requests_at (requests, job)->members++;
}

uint32_t requests_unjoin (struct requests *requests, uint32_t job)
{
    struct pending *first = requests_at (requests, job);
    uint32_t rest = first->member;
    if (rest != REQUEST_NONE)
        untried (requests_at (requests, rest), first->members - 1);
    first->member = REQUEST_NONE;
    first->members = 1;
    return rest;
}

uint32_t requests_halve (struct requests *requests, uint32_t job)
{
    struct pending *first = requests_at (requests, job);
    uint32_t members = first->members;
    assert (members > 1);
    uint32_t kept = members / 2;
    struct pending *last = first;
    for (uint32_t i = 1; i < kept; i++)
        last = requests_at (requests, last->member);
    uint32_t other = last->member;
    last->member = REQUEST_NONE;
    untried (first, kept);
    untried (requests_at (requests, other), members - kept);
    return other;
}

static bool same (struct address a, struct address b)
{
    return a.role == b.role && a.peer == b.peer;
}

bool requests_from (const struct requests *requests, uint32_t job, struct address from)
{
    for (uint32_t slot = job; slot != REQUEST_NONE; slot = requests_at (requests, slot)->member)
        if (same (requests_at (requests, slot)->from, from))
            return true;
    return false;
}

uint32_t requests_without (struct requests *requests, uint32_t job, struct address from)
{
    if (!requests_from (requests, job, from))
        return job;
    struct pending head = *requests_at (requests, job);
    uint32_t first = REQUEST_NONE, last = REQUEST_NONE, left = 0, next;
    for (uint32_t slot = job; slot != REQUEST_NONE; slot = next) {
        struct pending *pending = requests_at (requests, slot);
        next = pending->member;
        pending->member = REQUEST_NONE;
        if (same (pending->from, from)) {
            pending->members = 1;
            requests_drop (requests, slot);
            continue;
        }
        if (first == REQUEST_NONE)
            first = slot;
        else
            requests_at (requests, last)->member = slot;
        last = slot;
        left++;
    }
    if (first == REQUEST_NONE)
        return REQUEST_NONE;
    struct pending *rest = requests_at (requests, first);
    rest->members = left;
    rest->due_ms = head.due_ms;
    if (first != job)
        untried (rest, left);
    return first;
}

void requests_forget (struct requests *requests, struct address from)
{
    /*  What is left is put in again one by one, below what is still to come. */
    uint32_t size = requests->heap_size;
    requests->heap_size = 0;
    for (uint32_t i = 0; i < size; i++) {
        uint32_t job = requests_without (requests, requests->heap[i], from);
        if (job != REQUEST_NONE)
            requests_wait (requests, job, requests_at (requests, job)->due_ms);
    }
}

void request_list_forget (struct requests *requests, struct request_list *list, struct address from)
{
    struct request_list left;
    request_list_init (&left);
    uint32_t job;
    while ((job = request_list_pop (requests, list)) != REQUEST_NONE)
        if ((job = requests_without (requests, job, from)) != REQUEST_NONE)
            request_list_push (requests, &left, job);
    *list = left;
}

/*  ---- lists -------------------------------------------------------------- */

void request_list_init (struct request_list *list)
{
    list->head = list->tail = REQUEST_NONE;
}

void request_list_push (struct requests *requests, struct request_list *list, uint32_t job)
{
    requests_at (requests, job)->next = REQUEST_NONE;
    if (list->tail == REQUEST_NONE)
        list->head = job;
    else
        requests_at (requests, list->tail)->next = job;
    list->tail = job;
}

uint32_t request_list_pop (struct requests *requests, struct request_list *list)
{
    uint32_t job = list->head;
    if (job == REQUEST_NONE)
        return REQUEST_NONE;
    list->head = requests_at (requests, job)->next;
    if (list->head == REQUEST_NONE)
        list->tail = REQUEST_NONE;
    return job;
}

uint32_t request_list_pop_behind (struct requests *requests, struct request_list *list, uint32_t previous)
{
    uint32_t job = requests_at (requests, previous)->next;
    assert (job != REQUEST_NONE);
    requests_at (requests, previous)->next = requests_at (requests, job)->next;
    if (list->tail == job)
        list->tail = previous;
    return job;
}

/*  ---- waiting ------------------------------------------------------------ */

static bool before (const struct requests *requests, uint32_t a, uint32_t b)
{
    const struct pending *left = &requests->slots[a];
    const struct pending *right = &requests->slots[b];
    return left->due_ms != right->due_ms ? left->due_ms < right->due_ms : left->serial < right->serial;
}

static void swap (uint32_t *heap, uint32_t a, uint32_t b)
{
    uint32_t job = heap[a];
    heap[a] = heap[b];
    heap[b] = job;
}

void requests_wait (struct requests *requests, uint32_t job, uint64_t due_ms)
{
    assert (requests->heap_size < requests->capacity);
    requests_at (requests, job)->due_ms = due_ms;
    uint32_t at = requests->heap_size++;
    requests->heap[at] = job;
    while (at > 0 && before (requests, requests->heap[at], requests->heap[(at - 1) / 2])) {
        swap (requests->heap, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

/*  Takes the top off and lets the last one sink to its place. */
static uint32_t heap_pop (struct requests *requests)
{
    uint32_t *heap = requests->heap;
    uint32_t top = heap[0];
    uint32_t size = --requests->heap_size;
    heap[0] = heap[size];
    for (uint32_t at = 0;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < size && before (requests, heap[child + 1], heap[child]))
            child++;
        if (child >= size || !before (requests, heap[child], heap[at]))
            return top;
        swap (heap, at, child);
        at = child;
    }
}

uint32_t requests_wake (struct requests *requests, uint64_t now_ms)
{
    if (requests->heap_size == 0 || requests->slots[requests->heap[0]].due_ms > now_ms)
        return REQUEST_NONE;
    return heap_pop (requests);
}

uint64_t requests_due (const struct requests *requests)
{
    return requests->heap_size ? requests->slots[requests->heap[0]].due_ms : 0;
}
