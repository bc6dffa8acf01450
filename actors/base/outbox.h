/*  outbox.h - what a turn sends, held back until the turn is committed.

    Messages for one peer with one id are joined in batches as they are put, so
    cores need not think of batching. The memory is kept from turn to turn.
*/
#ifndef GUERDON_OUTBOX_H
#define GUERDON_OUTBOX_H

#include "proto/codec.h"

/*  Different (peer, id) pairs that are joined at the same time; one more closes
    the oldest. Enough for a decision with 16 workers of either client, which puts
    three ids for them: were it fewer, their batches would fall apart. */
enum { OUTBOX_OPEN_MAX = 64 };

struct outbox;

/*  NULL when out of memory. */
struct outbox *outbox_new (void);
void outbox_destroy (struct outbox **outbox);

/*  Encodes a message into its batch. False when it breaks a limit of the
    language, or there is no memory: nothing was taken. */
bool outbox_put (struct outbox *outbox, struct address to, const struct message *message);

/*  Forgets what is held for a peer. */
void outbox_forget (struct outbox *outbox, struct address to);

/*  Hands every frame to `send`, in the order in which they were begun, until it
    returns false for one: that one and those behind it stay for the next flush.
    True when the outbox is empty. */
bool outbox_flush (struct outbox *outbox,
                   bool (*send) (void *context, struct address to, const void *bytes, size_t size),
                   void *context);

/*  Encodes a COUNT by itself: counts are added up and sent behind the turns, so they
    are in no batch. Its size in `frame`; 0 when it breaks a limit of the language. */
enum { COUNT_FRAME_SIZE = 64 };
size_t count_frame (uint8_t frame[COUNT_FRAME_SIZE], enum counter counter, uint64_t amount);

#endif
