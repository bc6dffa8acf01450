/*  outbox.c - see outbox.h. */

#include "actors/base/outbox.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*  What a parcel begins with, bytes. */
enum { FIRST_CAPACITY = 4096 };

/*  Messages that wait; a batch is open while it takes more items. */
struct parcel {
    struct address to;
    enum message_id id;
    uint64_t trace;
    uint32_t count; /* items; 0: a plain message, whole in `bytes` */
    uint8_t *bytes;
    size_t size;
    size_t capacity;
};

struct outbox {
    struct parcel *parcels; /* in the order they were begun */
    size_t count;
    size_t capacity;  /* of them, those behind `count` keep their bytes */
    size_t sent;      /* of them, by a flush that was cut short */
    size_t open_from; /* older ones take no more items */
    uint8_t frame[MESSAGE_SIZE_MAX];
};

struct outbox *outbox_new (void)
{
    return calloc (1, sizeof (struct outbox));
}

void outbox_destroy (struct outbox **outbox)
{
    if (!*outbox)
        return;
    for (size_t i = 0; i < (*outbox)->capacity; i++)
        free ((*outbox)->parcels[i].bytes);
    free ((*outbox)->parcels);
    free (*outbox);
    *outbox = NULL;
}

static struct parcel *parcel_begin (struct outbox *outbox, struct address to, const struct message *message)
{
    if (outbox->count == outbox->capacity) {
        size_t capacity = outbox->capacity ? outbox->capacity * 2 : 16;
        struct parcel *parcels = realloc (outbox->parcels, capacity * sizeof *parcels);
        if (!parcels)
            return NULL;
        memset (parcels + outbox->capacity, 0, (capacity - outbox->capacity) * sizeof *parcels);
        outbox->parcels = parcels;
        outbox->capacity = capacity;
    }
    struct parcel *parcel = &outbox->parcels[outbox->count++];
    if (outbox->count > outbox->open_from + OUTBOX_OPEN_MAX)
        outbox->open_from = outbox->count - OUTBOX_OPEN_MAX;
    parcel->to = to;
    parcel->id = message->id;
    parcel->trace = message->trace;
    parcel->count = 0;
    parcel->size = 0;
    return parcel;
}

static struct parcel *parcel_find (struct outbox *outbox, struct address to, enum message_id id)
{
    for (size_t i = outbox->count; i > outbox->open_from; i--) {
        struct parcel *parcel = &outbox->parcels[i - 1];
        bool same = parcel->id == id && parcel->to.role == to.role && parcel->to.peer == to.peer;
        if (same && parcel->count)
            return parcel->count < BATCH_ITEMS_MAX && parcel->size < BATCH_SIZE_SOFT_MAX ? parcel : NULL;
    }
    return NULL;
}

static bool parcel_grow (struct parcel *parcel)
{
    size_t capacity = parcel->capacity ? parcel->capacity * 2 : FIRST_CAPACITY;
    if (capacity > MESSAGE_SIZE_MAX)
        return false;
    uint8_t *bytes = realloc (parcel->bytes, capacity);
    if (!bytes)
        return false;
    parcel->bytes = bytes;
    parcel->capacity = capacity;
    return true;
}

static bool parcel_add (struct parcel *parcel, const struct message *message, bool batch)
{
    for (;;) {
        struct packer packer;
        packer_init (&packer, parcel->bytes + parcel->size, parcel->capacity - parcel->size);
        enum encode_result result = parcel->capacity == 0 ? ENCODE_FULL
                                    : batch               ? encode_item (&packer, message)
                                                          : encode_message (&packer, message);
        if (result == ENCODE_OK) {
            parcel->size += packer.size;
            parcel->count += batch;
            return true;
        }
        if (result == ENCODE_INVALID || !parcel_grow (parcel))
            return false;
    }
}

bool outbox_put (struct outbox *outbox, struct address to, const struct message *message)
{
    const struct message_spec *spec = message_spec ((uint64_t) message->id);
    if (!spec)
        return false;
    struct parcel *parcel = spec->batch ? parcel_find (outbox, to, message->id) : NULL;
    bool fresh = !parcel;
    if (fresh)
        parcel = parcel_begin (outbox, to, message);
    if (!parcel)
        return false;
    if (parcel_add (parcel, message, spec->batch))
        return true;
    if (fresh)
        outbox->count--;
    return false;
}

void outbox_forget (struct outbox *outbox, struct address to)
{
    size_t kept = outbox->sent;
    for (size_t i = outbox->sent; i < outbox->count; i++) {
        struct parcel parcel = outbox->parcels[i];
        if (parcel.to.role == to.role && parcel.to.peer == to.peer)
            continue;
        outbox->parcels[i] = outbox->parcels[kept]; /* its bytes are used again */
        outbox->parcels[kept++] = parcel;
    }
    outbox->count = kept;
    outbox->open_from = kept;
}

/*  Sends one parcel as a frame. */
static bool parcel_send (struct outbox *outbox, const struct parcel *parcel,
                         bool (*send) (void *context, struct address to, const void *bytes, size_t size),
                         void *context)
{
    if (!parcel->count)
        return send (context, parcel->to, parcel->bytes, parcel->size);
    struct packer packer;
    struct raw items = { parcel->bytes, (uint32_t) parcel->size };
    packer_init (&packer, outbox->frame, sizeof outbox->frame);
    enum encode_result result = encode_batch (&packer, parcel->id, parcel->trace, items, parcel->count);
    assert (result == ENCODE_OK); /* items are bounded well below a frame */
    return send (context, parcel->to, packer.data, packer.size);
}

bool outbox_flush (struct outbox *outbox,
                   bool (*send) (void *context, struct address to, const void *bytes, size_t size),
                   void *context)
{
    while (outbox->sent < outbox->count) {
        if (!parcel_send (outbox, &outbox->parcels[outbox->sent], send, context)) {
            outbox->open_from = outbox->count; /* nothing joins what is on its way */
            return false;
        }
        outbox->sent++;
    }
    outbox->sent = 0;
    outbox->count = 0;
    outbox->open_from = 0;
    return true;
}

size_t count_frame (uint8_t frame[COUNT_FRAME_SIZE], enum counter counter, uint64_t amount)
{
    struct packer packer;
    struct message count = { .id = MESSAGE_COUNT };
    count.count.counter = counter;
    count.count.amount = amount;
    packer_init (&packer, frame, COUNT_FRAME_SIZE);
    return encode_message (&packer, &count) == ENCODE_OK ? packer.size : 0;
}
