/*  users.c - a fixed store of user ids. */

#include "include/users.h"

#include <assert.h>
#include <string.h>

_Static_assert(USER_SIZE_MAX <= UINT16_MAX, "the size of an id fits its slot");

size_t users_size (uint32_t slots)
{
    size_t size = (size_t) slots * (sizeof (struct user_slot) + USER_SIZE_MAX);
    return (size + 15) / 16 * 16;
}

void users_init (struct users *users, void *memory, uint32_t slots)
{
    assert (memory || slots == 0);
    users->slots = memory;
    users->long_bytes = (char *) memory + (size_t) slots * sizeof (struct user_slot);
}

/*  Where the bytes of an id of this size lie. */
static char *place_of (const struct users *users, uint32_t slot, uint32_t size)
{
    if (size <= USER_SHORT_MAX)
        return users->slots[slot].bytes;
    return users->long_bytes + (size_t) slot * USER_SIZE_MAX;
}

void users_put (struct users *users, uint32_t slot, struct text user)
{
    assert (user.size <= USER_SIZE_MAX);
    /*  The id may be one that lies in this very store. */
    if (user.size > 0)
        memmove (place_of (users, slot, user.size), user.data, user.size);
    users->slots[slot].size = (uint16_t) user.size;
}

struct text users_get (const struct users *users, uint32_t slot)
{
    uint32_t size = users->slots[slot].size;
    assert (size <= USER_SIZE_MAX);
    return (struct text){ place_of (users, slot, size), size };
}
