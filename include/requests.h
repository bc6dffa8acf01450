/*  requests.h - what a client room holds: requests in fixed memory.

    A request lives in a slot from its arrival until its answer. Slots are
    joined to jobs: a job is what goes out as one HTTP request, and is named by
    its first slot. A job is at one place at a time: in a list, in order of
    arrival; waiting for a time; or under way, which is its owner's to know.

    Pure, and bounded by the capacity given at init. Memory that no request
    has used yet is not touched.
*/
#ifndef GUERDON_REQUESTS_H
#define GUERDON_REQUESTS_H

#include "include/users.h"

/*  No slot, no job. */
#define REQUEST_NONE UINT32_MAX

/*  What a request carries beyond its user: bytes that the room lays out. */
enum { REQUEST_WHAT_MAX = KEY_SIZE_MAX + VALUE_SIZE_MAX + 8 };
_Static_assert(REQUEST_WHAT_MAX <= USER_SIZE_MAX, "what a request carries is kept like a user id");

/*  Kinds of requests: who asks for a write a second time may do a second thing. */
enum { KIND_READ, KIND_WRITE, KINDS_MAX };

/*  One request. Fields below `members` describe the job and count in its first
    slot only. */
struct pending {
    uint64_t request;              /* the sender's number for it */
    uint64_t trace;                /* the event it is for */
    uint64_t serial;               /* grows with every request taken: tells them apart, orders them */
    int64_t amount;                /* a number that the room may need */
    struct address from;           /* who wants the answer */
    bool forgotten;                /* ... and has forgotten that it asked: nobody is answered */
    uint32_t next;                 /* in a list of jobs, or of free slots */
    uint32_t member;               /* the next request of the same job */
    uint32_t members;              /* requests in the job */
    uint64_t due_ms;               /* steady time it waits for */
    uint64_t hold_ms;              /* steady time before which it must not go out; 0: none */
    uint64_t failed_ms;            /* the client's served time at its first failure, and 1; 0: none yet */
    uint64_t good_seen[KINDS_MAX]; /* good answers of each kind, when it was sent first or failed last */
    uint32_t attempts;             /* failures in a row */
    uint8_t strikes;               /* failures that are its own fault, as far as one can tell */
    uint8_t kind;                  /* KIND_READ, KIND_WRITE */
    bool suspect;                  /* it may be its own fault */
    bool repeated;                 /* it waits to be tried again, which has to be paid for */
};

/*  Jobs in order. */
struct request_list {
    uint32_t head; /* REQUEST_NONE when empty */
    uint32_t tail;
};

struct requests {
    struct pending *slots;
    struct users users; /* the user of each slot */
    struct users what;  /* and what else it carries */
    uint32_t *heap;     /* jobs that wait, the first due on top */
    uint32_t heap_size;
    uint32_t capacity; /* slots */
    uint32_t count;    /* slots in use */
    uint32_t touched;  /* slots below were in use at some time */
    uint32_t free;     /* list of slots that were given back */
    uint64_t serial;   /* of the newest request */
};

/*  Bytes of memory for so many slots, a multiple of 16. */
size_t requests_size (uint32_t capacity);

/*  Lays the store out in zeroed memory of requests_size bytes, aligned for any
    type. */
void requests_init (struct requests *requests, void *memory, uint32_t capacity);

/*  Keeps a request from a message: its sender, trace and user, and what it
    carries, at most REQUEST_WHAT_MAX bytes. A job of its own, in no list.
    REQUEST_NONE when all slots are in use. */
uint32_t requests_keep (struct requests *requests, const struct message *message, struct text user,
                        struct text what);

/*  Gives the slot of an answered request back; it is in no list and no job. */
void requests_drop (struct requests *requests, uint32_t slot);

/*  The request in a slot that is or was in use. */
struct pending *requests_at (const struct requests *requests, uint32_t slot);

/*  Its user; valid until the slot is used again. */
struct text requests_user (const struct requests *requests, uint32_t slot);

/*  What else it carries; valid as long. */
struct text requests_what (const struct requests *requests, uint32_t slot);

/*  Adds a job of one request, in no list, to a job whose last request is
    `last`. */
void requests_join (struct requests *requests, uint32_t job, uint32_t last, uint32_t added);

/*  Takes the first request off a job; what is left is the job returned, or
    REQUEST_NONE. The one taken is a job of its own. */
uint32_t requests_unjoin (struct requests *requests, uint32_t job);

/*  Cuts a job of two or more in halves: `job` keeps the first, the other is
    returned. Both are as if they had never been tried. */
uint32_t requests_halve (struct requests *requests, uint32_t job);

/*  True when a request of the job comes from this sender. */
bool requests_from (const struct requests *requests, uint32_t job, struct address from);

/*  Drops what a sender asked out of a job that is at no place. What is left is
    the job returned, or REQUEST_NONE; without its first request it is as if it
    had never been tried. */
uint32_t requests_without (struct requests *requests, uint32_t job, struct address from);

/*  The same for every job that waits for a time, and for every job of a list. */
void requests_forget (struct requests *requests, struct address from);
void request_list_forget (struct requests *requests, struct request_list *list, struct address from);

/*  An empty list. */
void request_list_init (struct request_list *list);

/*  Appends a job that is nowhere else. */
void request_list_push (struct requests *requests, struct request_list *list, uint32_t job);

/*  The oldest job, or REQUEST_NONE. */
uint32_t request_list_pop (struct requests *requests, struct request_list *list);

/*  Takes the job behind `previous`, which is in the list and not its tail. */
uint32_t request_list_pop_behind (struct requests *requests, struct request_list *list, uint32_t previous);

/*  Lets a job wait for a steady time. */
void requests_wait (struct requests *requests, uint32_t job, uint64_t due_ms);

/*  A job whose time has come, taken out; the first due first, then the oldest.
    REQUEST_NONE when there is none. */
uint32_t requests_wake (struct requests *requests, uint64_t now_ms);

/*  When the next job is due; 0 when none waits. */
uint64_t requests_due (const struct requests *requests);

#endif
