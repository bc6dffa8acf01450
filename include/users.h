/*  users.h - a fixed store of user ids, one a slot.

    Ids are mostly short, and may be as long as USER_SIZE_MAX. Short ones lie
    in the slot; long ones in a second region with USER_SIZE_MAX bytes a slot,
    of which only what is used is ever touched, so that it costs address space
    and no memory. Bound: slots * (USER_SHORT_MAX + USER_SIZE_MAX) bytes.
*/
#ifndef GUERDON_USERS_H
#define GUERDON_USERS_H

#include "proto/message.h"

enum { USER_SHORT_MAX = 46 };

struct user_slot {
    uint16_t size;
    char bytes[USER_SHORT_MAX];
};

struct users {
    struct user_slot *slots;
    char *long_bytes; /* slots * USER_SIZE_MAX */
};

/*  Bytes of memory for so many slots, rounded up to a multiple of 16. */
size_t users_size (uint32_t slots);

/*  Lays the store out in zeroed memory of users_size bytes. */
void users_init (struct users *users, void *memory, uint32_t slots);

/*  Keeps an id of at most USER_SIZE_MAX bytes in a slot. */
void users_put (struct users *users, uint32_t slot, struct text user);

/*  The id in a slot; valid until the slot is put again. */
struct text users_get (const struct users *users, uint32_t slot);

#endif
