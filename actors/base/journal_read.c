/*  journal_read.c - see journal_read.h. */

#include "actors/base/journal_read.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/base/journal_file.h"
#include "actors/base/lock_file.h"
#include "actors/base/store.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    SCAN_MAX = 8192,         /* records that a page looks at */
    PAGE_SIZE = 128 * 1024,  /* a page is whole when it has so much */
    RECORD_SIZE_MAX = 12288, /* of one as msgpack, with all its texts at their limits */
    FRAME_SIZE = PAGE_SIZE + RECORD_SIZE_MAX + 64
};

struct journal_reader {
    struct store *store;
    struct store_query *queries[LIST_ONE + 1];
    char reason[REASON_SIZE_MAX + 1];
    uint8_t items[PAGE_SIZE + RECORD_SIZE_MAX];
    uint8_t frame[FRAME_SIZE];
};

#define SELECT                                                                                               \
    "SELECT id, trace, position, event_ms, user, reward, amount, currency, state, intended_ms, "             \
    "changed_ms, tries, reason, who FROM grants WHERE "

static const char *const selects[] = {
    [LIST_ALL] = SELECT "id > ?1 ORDER BY id",
    [LIST_PARKED] = SELECT "id > ?1 AND state IN (3, 4) ORDER BY id",
    [LIST_ONE] = SELECT "id = ?1 + 1",
};

bool journal_file (char *path, size_t capacity, const char *state_dir, uint16_t shard, const char *ending)
{
    int size = snprintf (path, capacity, "%s/journal-%u.%s", state_dir, (unsigned) shard, ending);
    return size > 0 && (size_t) size < capacity;
}

/*  ---- reading ------------------------------------------------------------ */

struct journal_reader *journal_reader_open (const char *path, bool alone, char *reason, size_t reason_size)
{
    assert (path && reason && reason_size > 0);
    struct journal_reader *self = calloc (1, sizeof *self);
    if (!self) {
        snprintf (reason, reason_size, "cannot open %s: out of memory", path);
        return NULL;
    }
    self->store =
        alone ? store_open_alone (path, reason, reason_size) : store_open_read (path, reason, reason_size);
    bool good = self->store != NULL;
    for (size_t i = 0; good && i < sizeof selects / sizeof *selects; i++) {
        self->queries[i] = store_prepare (self->store, selects[i]);
        good = self->queries[i] != NULL;
        if (!good)
            snprintf (reason, reason_size, "%s is no journal of this version: %s", path,
                      store_reason (self->store));
    }
    if (!good)
        journal_reader_close (&self);
    return self;
}

void journal_reader_close (struct journal_reader **reader)
{
    if (!*reader)
        return;
    store_close (&(*reader)->store);
    free (*reader);
    *reader = NULL;
}

/*  A number that the language has no negative ones of: then it is beyond any limit. */
static uint64_t uint_at (struct store_query *query, int column)
{
    return (uint64_t) store_int (query, column);
}

/*  The record that the query stands at. */
static void read_record (struct store_query *query, struct message *message)
{
    *message = (struct message){ .id = MESSAGE_LISTED, .trace = uint_at (query, 1) };
    struct listed *listed = &message->listed;
    listed->grant = uint_at (query, 0);
    listed->position = uint_at (query, 2);
    listed->timestamp = store_int (query, 3);
    listed->user = store_text (query, 4);
    listed->reward = store_text (query, 5);
    listed->amount = store_int (query, 6);
    listed->currency = store_text (query, 7);
    listed->state = (enum grant_state) store_int (query, 8);
    listed->intended_ms = uint_at (query, 9);
    listed->changed_ms = uint_at (query, 10);
    listed->tries = uint_at (query, 11);
    listed->reason = store_text (query, 12);
    listed->who = store_text (query, 13);
}

/*  A page that is being filled. */
struct page {
    const struct look *look;
    struct packer items;
    uint32_t count;
    unsigned scanned;
    uint64_t trace; /* of the first */
    struct looked *looked;
};

/*  Takes the record that the query stands at, if it is asked for. False when it
    breaks the language, which no record that we wrote does. */
static bool take_record (struct page *page, struct store_query *query)
{
    struct text user = page->look->user;
    uint64_t grant = uint_at (query, 0);
    page->scanned++;
    if (!user.size || text_equal (store_text (query, 4), user)) {
        struct message message;
        read_record (query, &message);
        if (encode_item (&page->items, &message) != ENCODE_OK)
            return false;
        page->trace = page->count++ ? page->trace : message.trace;
    }
    page->looked->after = grant;
    return true;
}

static bool is_full (const struct page *page)
{
    return page->count == BATCH_ITEMS_MAX || page->items.size >= PAGE_SIZE || page->scanned == SCAN_MAX;
}

static void fill_page (struct journal_reader *self, struct page *page)
{
    struct store_query *query = self->queries[page->look->which];
    enum store_step step = STORE_FAILED;
    bool good = store_bind_int (query, 1, (int64_t) page->look->after);
    bool sense = true;
    while (good && sense && !is_full (page) && (step = store_step (query)) == STORE_ROW)
        sense = take_record (page, query);
    if (!sense)
        snprintf (self->reason, sizeof self->reason, "record %" PRId64 " makes no sense",
                  store_int (query, 0));
    else if (!good || step == STORE_FAILED)
        snprintf (self->reason, sizeof self->reason, "%s", store_reason (self->store));
    page->looked->more = step == STORE_ROW && page->look->which != LIST_ONE;
    store_reset (query);
}

void journal_reader_look (struct journal_reader *reader, const struct look *look, struct message *looked,
                          struct raw *listed)
{
    assert (look->which <= LIST_ONE);
    struct page page = { .look = look, .looked = &looked->looked };
    struct packer frame;
    packer_init (&page.items, reader->items, sizeof reader->items);
    packer_init (&frame, reader->frame, sizeof reader->frame);
    *looked = (struct message){ .id = MESSAGE_LOOKED };
    looked->looked.request = look->request;
    looked->looked.after = look->after;
    reader->reason[0] = '\0';
    fill_page (reader, &page);
    looked->looked.reason = text_of (reader->reason);
    *listed = NO_RAW;
    if (page.count &&
        encode_batch (&frame, MESSAGE_LISTED, page.trace, packer_raw (&page.items), page.count) == ENCODE_OK)
        *listed = packer_raw (&frame);
}

const char *journal_refusal (enum grant_state state)
{
    switch (state) {
    case GRANT_REFUSED:
    case GRANT_UNCERTAIN:
        return NULL;
    case GRANT_INTENDED:
        return "it is being tried already";
    case GRANT_GIVEN:
        return "it was given";
    case GRANT_DROPPED:
        return "it was dropped";
    }
    return "its state makes no sense";
}

/*  ---- settling, while no decision has it --------------------------------- */

int journal_lock (const char *state_dir, uint16_t shard, char *reason, size_t reason_size)
{
    char path[JOURNAL_PATH_SIZE];
    struct stat journal;
    errno = ENAMETOOLONG;
    if (!journal_file (path, sizeof path, state_dir, shard, "db") || stat (path, &journal) != 0 ||
        !journal_file (path, sizeof path, state_dir, shard, "lock")) {
        int failure = errno;
        snprintf (reason, reason_size, "cannot open %s: %s", path, strerror (failure));
        errno = failure;
        return -1;
    }
    int lock = lock_file_take (path, reason, reason_size);
    /*  What root makes here is for the decision, which need not be root. */
    if (lock >= 0 && geteuid () == 0 && fchown (lock, journal.st_uid, journal.st_gid) != 0) {
        int failure = errno;
        snprintf (reason, reason_size, "cannot give away %s: %s", path, strerror (failure));
        lock_file_release (&lock);
        errno = failure;
    }
    return lock;
}

struct journal_editor {
    struct store *store;
    struct store_query *find;
    struct store_query *redo;
    struct store_query *forgo;
};

struct journal_editor *journal_editor_open (const char *path, char *reason, size_t reason_size)
{
    struct journal_editor *self = calloc (1, sizeof *self);
    if (!self) {
        snprintf (reason, reason_size, "cannot open %s: out of memory", path);
        return NULL;
    }
    self->store = journal_file_open (path, reason, reason_size);
    if (self->store) {
        self->find = store_prepare (self->store, "SELECT state FROM grants WHERE id = ?1");
        /*  What the decision would have written. */
        self->redo = store_prepare (self->store, "UPDATE grants SET state = 1, tries = tries + 1, "
                                                 "reason = 'retry', who = ?2, changed_ms = ?3 WHERE id = ?1");
        self->forgo = store_prepare (self->store,
                                     "UPDATE grants SET state = 5, who = ?2, changed_ms = ?3 WHERE id = ?1");
        if (!self->find || !self->redo || !self->forgo)
            snprintf (reason, reason_size, "%s is no journal of this version: %s", path,
                      store_reason (self->store));
    }
    if (!self->forgo || !self->redo || !self->find)
        journal_editor_close (&self);
    return self;
}

void journal_editor_close (struct journal_editor **editor)
{
    if (!*editor)
        return;
    store_close (&(*editor)->store);
    free (*editor);
    *editor = NULL;
}

/*  Why the grant cannot be settled; NULL when it waits for a person. */
static const char *why_not (struct journal_editor *self, uint64_t grant)
{
    const char *refusal = "no such record";
    if (!store_bind_int (self->find, 1, (int64_t) grant))
        return store_reason (self->store);
    enum store_step step = store_step (self->find);
    if (step == STORE_ROW)
        refusal = journal_refusal ((enum grant_state) store_int (self->find, 0));
    else if (step == STORE_FAILED)
        refusal = store_reason (self->store);
    store_reset (self->find);
    return refusal;
}

/*  One statement is one transaction. */
static bool settle (struct store_query *query, uint64_t grant, struct text who, uint64_t wall_ms)
{
    return store_bind_int (query, 1, (int64_t) grant) && store_bind_text (query, 2, who) &&
           store_bind_int (query, 3, (int64_t) wall_ms) && store_step (query) == STORE_DONE;
}

bool journal_editor_settle (struct journal_editor *editor, const struct message *order, uint64_t wall_ms,
                            char *reason, size_t reason_size)
{
    assert (order->id == MESSAGE_REDO || order->id == MESSAGE_FORGO);
    bool again = order->id == MESSAGE_REDO;
    uint64_t grant = again ? order->redo.grant : order->forgo.grant;
    const char *refusal = why_not (editor, grant);
    if (!refusal && !settle (again ? editor->redo : editor->forgo, grant,
                             again ? order->redo.who : order->forgo.who, wall_ms))
        refusal = store_reason (editor->store);
    if (refusal)
        snprintf (reason, reason_size, "%s", refusal);
    return refusal == NULL;
}
