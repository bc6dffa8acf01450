/*  journal.c - see journal.h. */

#include "actors/base/journal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "actors/base/clock.h"
#include "actors/base/crash_point.h"
#include "actors/base/journal_file.h"
#include "actors/base/journal_read.h"
#include "actors/base/lock_file.h"
#include "actors/base/log.h"
#include "actors/base/monitor.h"

enum {
    LOCK_WAIT_MS = 500,            /* people who look at a journal that nobody has are soon done */
    PENDING_MIN = 4096,            /* bytes of a turn's records, to begin with */
    PENDING_IDLE_MAX = 256 * 1024, /* … that are kept from one turn to the next */
    LOG_LARGE = 8 * 1024 * 1024,   /* a log that a slow reader made grow */
    WRITE_MANY = 16,               /* records that one statement writes */
    ROW_PARAMETERS = 13,           /* of each */
    PRUNE_ROWS = 1000,             /* looked at in one call */
    PRUNE_REST = 60,               /* calls between two walks over what may be old */
    TROUBLE_SIZE = REASON_SIZE_MAX + 1
};

#define DAY_MS (UINT64_C (24) * 60 * 60 * 1000)

/*  A file as the system knows it, whatever its name. */
struct identity {
    dev_t device;
    ino_t inode;
};

/*  A record of the open transaction; its texts stand behind it, in this order: user,
    reward, currency, reason, who. */
struct pending {
    uint64_t trace;
    struct remember remember;
};

struct journal {
    struct journal_options options;
    char path[JOURNAL_PATH_SIZE];
    char log_path[JOURNAL_PATH_SIZE + 4]; /* SQLite's write-ahead log */
    int lock;
    struct identity file;
    struct identity log;

    struct store *store; /* NULL after a failure, until it is opened again */
    bool begun;          /* it was open once */
    struct store_query *begin;
    struct store_query *write;      /* a record */
    struct store_query *write_many; /* WRITE_MANY of them, which is cheaper than one by one */
    struct store_query *commit;
    struct store_query *open;   /* grants without an end */
    struct store_query *recent; /* grants with one */
    struct store_query *old;    /* what may be pruned */
    struct store_query *prune;

    uint8_t *pending; /* the open transaction */
    size_t pending_size;
    size_t pending_capacity;
    uint64_t records;
    uint64_t newest_pending;

    uint64_t newest; /* the highest number that is committed */
    uint64_t pruned_to;
    unsigned prune_rest;
    char trouble[TROUBLE_SIZE];
};

/*  ---- opening and closing ------------------------------------------------ */

/*  A record that begins or changes; its parameters are those of bind_record. */
#define ROW "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?)"
#define ROWS_4 ROW ", " ROW ", " ROW ", " ROW
#define ROWS_16 ROWS_4 ", " ROWS_4 ", " ROWS_4 ", " ROWS_4
#define WRITE(rows)                                                                                                                     \
    "INSERT INTO grants (id, position, event_ms, trace, user, reward, amount, currency, state, intended_ms,"                            \
    " changed_ms, tries, reason, who) VALUES " rows                                                                                     \
    " ON CONFLICT (id) DO UPDATE SET tries = tries + (excluded.state = 1 AND state <> 1),"                                              \
    " state = excluded.state, changed_ms = excluded.changed_ms," /*  Why it was parked is still to be seen when a person gave it up. */ \
    " reason = CASE WHEN excluded.state = 5 AND excluded.reason = '' THEN reason ELSE excluded.reason END,"                             \
    " who = CASE excluded.who WHEN '' THEN who ELSE excluded.who END"

static const char *const open_sql = "SELECT " JOURNAL_COLUMNS " FROM grants INDEXED BY grants_open"
                                    " WHERE state = 1 AND id > ?1 ORDER BY id LIMIT ?2";

static const char *const recent_sql = "SELECT " JOURNAL_COLUMNS " FROM grants"
                                      " WHERE state <> 1 AND id <= ?1 ORDER BY id DESC LIMIT ?2";

static const char *const old_sql = "SELECT id, state, intended_ms, changed_ms FROM grants"
                                   " WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";

static bool fail (struct journal *self, const char *why)
{
    snprintf (self->trouble, sizeof self->trouble, "%.*s", TROUBLE_SIZE - 1, why);
    return false;
}

static bool identify (const char *path, struct identity *identity)
{
    struct stat status;
    if (stat (path, &status) != 0)
        return false;
    *identity = (struct identity){ status.st_dev, status.st_ino };
    return true;
}

static bool is_there (const char *path, struct identity wanted)
{
    struct identity found;
    return identify (path, &found) && found.device == wanted.device && found.inode == wanted.inode;
}

/*  Prepares what is asked of a store that was just opened, and takes it. */
static bool take_store (struct journal *self, struct store *store)
{
    const struct {
        struct store_query **query;
        const char *sql;
    } queries[] = {
        { &self->begin, "BEGIN IMMEDIATE" },
        { &self->write, WRITE (ROW) },
        { &self->write_many, WRITE (ROWS_16) },
        { &self->commit, "COMMIT" },
        { &self->open, open_sql },
        { &self->recent, recent_sql },
        { &self->old, old_sql },
        { &self->prune, "DELETE FROM grants WHERE id = ?1" },
    };
    bool good = identify (self->path, &self->file) && identify (self->log_path, &self->log);
    for (size_t i = 0; good && i < sizeof queries / sizeof *queries; i++)
        good = (*queries[i].query = store_prepare (store, queries[i].sql)) != NULL;
    if (!good) {
        fail (self, *store_reason (store) ? store_reason (store) : "it is gone");
        store_close (&store);
    }
    self->store = store;
    return good;
}

static bool read_newest (struct journal *self)
{
    struct store_query *query = store_prepare (self->store, "SELECT coalesce (max (id), 0) FROM grants");
    bool good = query && store_step (query) == STORE_ROW;
    if (good)
        self->newest = (uint64_t) store_int (query, 0);
    else
        fail (self, store_reason (self->store));
    store_query_destroy (&query);
    return good;
}

/*  Opens the file for the first time. False with a reason and errno, as
    journal_file_open. */
static bool open_file (struct journal *self, char *reason, size_t reason_size)
{
    struct store *store = journal_file_open (self->path, reason, reason_size);
    if (!store)
        return false;
    self->begun = take_store (self, store) && read_newest (self);
    if (!self->begun) {
        int error = self->store ? store_error (self->store) : 0;
        store_close (&self->store);
        snprintf (reason, reason_size, "cannot open %s: %s", self->path, self->trouble);
        errno = error;
    }
    return self->begun;
}

static void report_size (const struct journal *self)
{
    struct stat file = { .st_size = 0 };
    struct stat log = { .st_size = 0 };
    if (!self->options.monitor)
        return;
    if (stat (self->path, &file) == 0 && stat (self->log_path, &log) == 0)
        monitor_journal_size (self->options.monitor, (uint64_t) file.st_size, (uint64_t) log.st_size);
}

static bool open_all (struct journal *self, char *reason, size_t reason_size)
{
    char lock_path[JOURNAL_PATH_SIZE];
    char why[JOURNAL_PATH_SIZE + 256];
    const struct journal_options *options = &self->options;
    if (!journal_file (self->path, sizeof self->path, options->state_dir, options->shard, "db") ||
        !journal_file (lock_path, sizeof lock_path, options->state_dir, options->shard, "lock")) {
        snprintf (reason, reason_size, "%s: the path is too long", options->state_dir);
        return false;
    }
    snprintf (self->log_path, sizeof self->log_path, "%s-wal", self->path);
    self->lock = lock_file_wait (lock_path, LOCK_WAIT_MS, why, sizeof why);
    if (self->lock < 0) {
        snprintf (
            reason, reason_size,
            "%s is not free: %s; a decision needs a journal of its own: end the other one, or give this "
            "one another STATE_DIR or DECISION_SHARD",
            self->path, why);
        return false;
    }
    if (open_file (self, reason, reason_size))
        return true;
    /*  Room is waited for, as it is later. */
    return store_no_room (errno) && !fail (self, reason);
}

struct journal *journal_open (const struct journal_options *options, char *reason, size_t reason_size)
{
    assert (options->state_dir && reason && reason_size > 0);
    struct journal *self = calloc (1, sizeof *self);
    if (!self) {
        snprintf (reason, reason_size, "out of memory");
        return NULL;
    }
    self->options = *options;
    self->lock = -1;
    if (!open_all (self, reason, reason_size))
        journal_close (&self);
    else
        report_size (self);
    return self;
}

void journal_close (struct journal **journal)
{
    struct journal *self = *journal;
    *journal = NULL;
    if (!self)
        return;
    store_close (&self->store);
    lock_file_release (&self->lock);
    free (self->pending);
    free (self);
}

/*  ---- the open transaction ----------------------------------------------- */

/*  Room for one more record. The shell holds a turn that cannot be remembered, and a
    turn that cannot even be noted down must not go on at all. */
static uint8_t *grow (struct journal *self, size_t size)
{
    size_t needed = self->pending_size + size;
    size_t capacity = self->pending_capacity ? self->pending_capacity : PENDING_MIN;
    while (capacity < needed)
        capacity *= 2;
    if (capacity > self->pending_capacity) {
        uint8_t *bytes = realloc (self->pending, capacity);
        if (!bytes) {
            log_say ("journal", LOG_FATAL, "no memory for what must be remembered");
            abort ();
        }
        self->pending = bytes;
        self->pending_capacity = capacity;
    }
    uint8_t *place = self->pending + self->pending_size;
    self->pending_size = needed;
    return place;
}

static uint8_t *copy_text (uint8_t *place, struct text text)
{
    if (text.size)
        memcpy (place, text.data, text.size);
    return place + text.size;
}

void journal_append (struct journal *self, const struct message *message)
{
    assert (message->id == MESSAGE_REMEMBER);
    const struct remember *remember = &message->remember;
    struct pending pending = { message->trace, *remember };
    size_t size = sizeof pending + remember->user.size + remember->reward.size + remember->currency.size +
                  remember->reason.size + remember->who.size;
    uint8_t *place = grow (self, size);
    memcpy (place, &pending, sizeof pending);
    place = copy_text (place + sizeof pending, remember->user);
    place = copy_text (place, remember->reward);
    place = copy_text (place, remember->currency);
    place = copy_text (place, remember->reason);
    copy_text (place, remember->who);
    self->records++;
    if (remember->grant > self->newest_pending)
        self->newest_pending = remember->grant;
}

static const uint8_t *find_text (const uint8_t *place, struct text *text)
{
    text->data = (const char *) place;
    return place + text->size;
}

/*  The record at this place, and the place behind it. */
static const uint8_t *read_pending (const uint8_t *place, struct pending *pending)
{
    memcpy (pending, place, sizeof *pending);
    place = find_text (place + sizeof *pending, &pending->remember.user);
    place = find_text (place, &pending->remember.reward);
    place = find_text (place, &pending->remember.currency);
    place = find_text (place, &pending->remember.reason);
    return find_text (place, &pending->remember.who);
}

static void forget_pending (struct journal *self)
{
    self->pending_size = 0;
    self->records = 0;
    self->newest_pending = 0;
    if (self->pending_capacity > PENDING_IDLE_MAX) {
        free (self->pending);
        self->pending = NULL;
        self->pending_capacity = 0;
    }
}

/*  ---- committing --------------------------------------------------------- */

/*  Closes the file, which undoes the open transaction; what was appended is written
    anew when it is open again. */
static bool give_up (struct journal *self)
{
    char why[TROUBLE_SIZE];
    snprintf (why, sizeof why, "%s", store_reason (self->store));
    store_close (&self->store);
    return fail (self, why);
}

/*  Whether the file and its log still have their names. What is written to one that
    has not is lost with the process. */
static bool is_in_place (struct journal *self)
{
    if (!is_there (self->path, self->file))
        return fail (self,
                     "the file was removed or replaced while it was in use: put it back, or start again "
                     "to begin a new one");
    if (!self->store || is_there (self->log_path, self->log))
        return true;
    if (!store_run (self->store, "PRAGMA wal_checkpoint (PASSIVE)")) /* saves what is only there */
        log_say ("journal", LOG_ERROR, "%s: %s", self->path, store_reason (self->store));
    return fail (self, "its -wal was removed while it was in use: put it back, or start again");
}

/*  Opens the file again if a failure closed it. */
static bool is_open (struct journal *self)
{
    char why[2 * JOURNAL_PATH_SIZE + TROUBLE_SIZE];
    if (!self->begun)
        return open_file (self, why, sizeof why) || fail (self, why);
    if (!is_in_place (self))
        return false;
    if (self->store)
        return true;
    struct store *store = journal_file_reopen (self->path, why, sizeof why);
    return store ? take_store (self, store) : fail (self, why);
}

static bool run (struct store_query *query)
{
    return store_step (query) == STORE_DONE;
}

/*  Fills in a row of a statement. The texts stay where they are until the whole
    transaction is committed. */
static bool bind_record (struct store_query *query, int row, const struct pending *pending)
{
    const struct remember *remember = &pending->remember;
    int at = row * ROW_PARAMETERS;
    return store_bind_int (query, at + 1, (int64_t) remember->grant) &&
           store_bind_int (query, at + 2, (int64_t) remember->position) &&
           store_bind_int (query, at + 3, remember->timestamp) &&
           store_bind_int (query, at + 4, (int64_t) pending->trace) &&
           store_lend_text (query, at + 5, remember->user) &&
           store_lend_text (query, at + 6, remember->reward) &&
           store_bind_int (query, at + 7, remember->amount) &&
           store_lend_text (query, at + 8, remember->currency) &&
           store_bind_int (query, at + 9, (int64_t) remember->state) &&
           store_bind_int (query, at + 10, (int64_t) remember->at_ms) && /* when it was intended */
           store_bind_int (query, at + 11, (int64_t) remember->at_ms) && /* … and changed */
           store_lend_text (query, at + 12, remember->reason) &&
           store_lend_text (query, at + 13, remember->who);
}

/*  Writes the records at a place, as many as the query takes; *place is then behind
    them. */
static bool write_records (struct store_query *query, int rows, const uint8_t **place)
{
    bool good = true;
    for (int row = 0; good && row < rows; row++) {
        struct pending pending;
        *place = read_pending (*place, &pending);
        good = bind_record (query, row, &pending);
    }
    return good && run (query);
}

static bool write_all (struct journal *self)
{
    const uint8_t *place = self->pending;
    uint64_t left = self->records;
    CRASH_POINT ("journal", "before-begin");
    bool good = run (self->begin);
    CRASH_POINT ("journal", "after-begin");
    while (good && left) {
        bool many = left >= WRITE_MANY;
        good = write_records (many ? self->write_many : self->write, many ? WRITE_MANY : 1, &place);
        left -= many ? WRITE_MANY : 1;
        CRASH_POINT ("journal", "after-insert");
    }
    CRASH_POINT ("journal", "before-commit");
    good = good && run (self->commit);
    CRASH_POINT ("journal", "after-commit");
    return good;
}

bool journal_commit (struct journal *self)
{
    if (!self->records)
        return true;
    uint64_t began_us = clock_steady_us ();
    if (!is_open (self))
        return false;
    if (!write_all (self))
        return give_up (self);
    if (!is_in_place (self))
        return false;
    if (self->newest_pending > self->newest)
        self->newest = self->newest_pending;
    if (self->options.monitor)
        monitor_journal_commit (self->options.monitor, self->records, clock_steady_us () - began_us);
    forget_pending (self);
    self->trouble[0] = '\0';
    return true;
}

const char *journal_trouble (const struct journal *self)
{
    return self->trouble;
}

/*  ---- recalling ---------------------------------------------------------- */

/*  Where a question goes on behind a record that was handed over. */
static void move_on (struct recall *recall, uint64_t grant)
{
    recall->after = grant;
    recall->count--;
}

static bool start_recall (struct store_query *query, const struct recall *recall)
{
    uint64_t bound = recall->after;
    if (recall->which == RECALL_RECENT)
        bound = recall->after ? recall->after - 1 : GRANT_MAX;
    return store_bind_int (query, 1, (int64_t) bound) &&
           store_bind_int (query, 2, (int64_t) recall->count + 1);
}

/*  Hands over what is asked for, and one more is there or not. */
static bool hand_over (struct journal *self, struct store_query *query, struct recall *recall,
                       struct message *recalled, void (*hand) (void *context, const struct message *message),
                       void *context)
{
    enum store_step step = STORE_FAILED;
    struct message record;
    if (!start_recall (query, recall))
        return give_up (self);
    while ((step = store_step (query)) == STORE_ROW) {
        if (!journal_file_record (query, &record)) {
            char why[TROUBLE_SIZE];
            snprintf (why, sizeof why, "record %" PRId64 " is damaged", store_int (query, 0));
            store_reset (query);
            return fail (self, why);
        }
        recalled->recalled.more = recall->count == 0;
        if (recall->count == 0)
            break;
        hand (context, &record);
        move_on (recall, record.record.grant);
    }
    if (step == STORE_FAILED)
        return give_up (self);
    store_reset (query);
    return true;
}

bool journal_recall (struct journal *self, struct message *message,
                     void (*hand) (void *context, const struct message *message), void *context)
{
    assert (message->id == MESSAGE_RECALL);
    struct recall *recall = &message->recall;
    struct message recalled = { .id = MESSAGE_RECALLED };
    if (!is_open (self))
        return false;
    if (!hand_over (self, recall->which == RECALL_OPEN ? self->open : self->recent, recall, &recalled, hand,
                    context))
        return false;
    recalled.recalled.which = recall->which;
    recalled.recalled.newest = self->newest;
    hand (context, &recalled);
    return true;
}

/*  ---- tending ------------------------------------------------------------ */

/*  Looks at the next rows for those that are old and finished; the return is how
    many. Numbers grow with time, so behind a record that is young nothing is old,
    unless the clock stands before it. */
static size_t find_old (struct journal *self, uint64_t wall_ms, int64_t ids[PRUNE_ROWS])
{
    uint64_t age_ms = self->options.ledger_days * DAY_MS;
    int64_t limit_ms = wall_ms > age_ms ? (int64_t) (wall_ms - age_ms) : 0;
    uint64_t last = self->newest > self->options.keep ? self->newest - self->options.keep : 0;
    size_t count = 0;
    unsigned rows = 0;
    if (!store_bind_int (self->old, 1, (int64_t) self->pruned_to) ||
        !store_bind_int (self->old, 2, (int64_t) last) || !store_bind_int (self->old, 3, PRUNE_ROWS))
        return 0;
    while (store_step (self->old) == STORE_ROW) {
        int64_t state = store_int (self->old, 1);
        int64_t intended_ms = store_int (self->old, 2);
        if (intended_ms >= limit_ms && intended_ms <= (int64_t) wall_ms)
            break;
        self->pruned_to = (uint64_t) store_int (self->old, 0);
        rows++;
        if ((state == GRANT_GIVEN || state == GRANT_DROPPED) && store_int (self->old, 3) < limit_ms)
            ids[count++] = store_int (self->old, 0);
    }
    store_reset (self->old);
    if (rows < PRUNE_ROWS) {
        self->pruned_to = 0;
        self->prune_rest = PRUNE_REST;
    }
    return count;
}

static void prune (struct journal *self, uint64_t wall_ms)
{
    int64_t ids[PRUNE_ROWS];
    if (self->prune_rest) {
        self->prune_rest--;
        return;
    }
    size_t count = find_old (self, wall_ms, ids);
    if (!count)
        return;
    bool good = run (self->begin);
    for (size_t i = 0; good && i < count; i++)
        good = store_bind_int (self->prune, 1, ids[i]) && run (self->prune);
    if (good && run (self->commit))
        return;
    /*  Nothing is lost by that; what is in the way of writing is told by a commit. */
    log_say ("journal", LOG_WARN, "%s: old records cannot be removed now: %s", self->path,
             store_reason (self->store));
    store_close (&self->store);
}

void journal_tend (struct journal *self, uint64_t wall_ms)
{
    struct stat log;
    assert (!self->records);
    if (!self->store || !is_there (self->path, self->file))
        return;
    report_size (self);
    /*  Commits move the log into the file when it has grown; when a reader was in the
        way and then nothing was written any more, this does. */
    if (stat (self->log_path, &log) == 0 && log.st_size > LOG_LARGE &&
        !store_run (self->store, "PRAGMA wal_checkpoint (PASSIVE)"))
        log_say ("journal", LOG_WARN, "%s: %s", self->path, store_reason (self->store));
    prune (self, wall_ms);
}
