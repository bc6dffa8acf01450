/*  journals.c - see journals.h. */

#include "bin/journals.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/base/bus.h"
#include "actors/base/clock.h"
#include "actors/base/config.h"
#include "actors/base/desk.h"
#include "actors/base/env_file.h"
#include "actors/base/journal_read.h"
#include "actors/base/lock_file.h"
#include "bin/command.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    LOOK_MS = 1000,  /* a page is waited for; then it is seen who has the journal now */
    LOOKS_MAX = 5,   /* so often */
    ORDER_MS = 15000 /* an order is waited for: longer than the desk waits for the decision */
};

/*  ---- finding ------------------------------------------------------------ */

/*  STATE_DIR of the env-file; empty when it has none. */
static int read_env_file (const char *command, const char *env_file, char *path, size_t capacity)
{
    static struct env_file file;
    struct problems problems = { .size = 0 };
    struct text value = NO_TEXT;
    env_file_open (&file, env_file, &problems);
    env_file_find (&file, "STATE_DIR", &value);
    int size = snprintf (path, capacity, "%.*s", (int) value.size, value.size ? value.data : "");
    if (size < 0 || (size_t) size >= capacity)
        problems_add (&problems, "STATE_DIR is too long: expected at most %zu bytes", capacity - 1);
    if (problems.count)
        fprintf (stderr, "guerdon %s: %u problem%s in the configuration:\n%s", command, problems.count,
                 problems.count == 1 ? "" : "s", problems.text);
    env_file_close (&file);
    return problems.count ? EXIT_CONFIG : EXIT_OK;
}

/*  The environment wins over the file, and that over the default. */
static int find_state_dir (struct journals *journals, const char *command, const char *env_file)
{
    const char *given = getenv ("STATE_DIR");
    journals->state_dir[0] = '\0';
    if (env_file && !(given && *given)) {
        int code = read_env_file (command, env_file, journals->state_dir, sizeof journals->state_dir);
        if (code != EXIT_OK || journals->state_dir[0])
            return code;
    }
    if (config_state_dir (journals->state_dir, sizeof journals->state_dir))
        return EXIT_OK;
    fprintf (stderr, "guerdon %s: neither STATE_DIR nor HOME says where the journals are\n", command);
    return EXIT_CONFIG;
}

/*  The shard of a file that is a journal by its name, journal-<shard>.db. */
static bool shard_of (const char *name, uint16_t *shard)
{
    static const char head[] = "journal-";
    static const char tail[] = ".db";
    size_t size = strlen (name);
    size_t rest = sizeof head - 1 + sizeof tail - 1;
    uint64_t number;
    if (size <= rest || strncmp (name, head, sizeof head - 1) != 0 ||
        strcmp (name + size - (sizeof tail - 1), tail) != 0 ||
        !text_to_uint ((struct text){ name + sizeof head - 1, (uint32_t) (size - rest) }, UINT16_MAX,
                       &number))
        return false;
    *shard = (uint16_t) number;
    return true;
}

static int compare_shards (const void *left, const void *right)
{
    return *(const uint16_t *) left - *(const uint16_t *) right;
}

int journals_find (struct journals *journals, const char *command, const char *env_file)
{
    journals->count = 0;
    int code = find_state_dir (journals, command, env_file);
    if (code != EXIT_OK)
        return code;
    DIR *directory = opendir (journals->state_dir);
    if (!directory) {
        fprintf (stderr, "guerdon %s: STATE_DIR: %s: %s\n", command, journals->state_dir, strerror (errno));
        return EXIT_FAILED;
    }
    const struct dirent *entry;
    while ((entry = readdir (directory)) != NULL && journals->count < JOURNALS_MAX)
        if (shard_of (entry->d_name, &journals->shards[journals->count]))
            journals->count++;
    bool all = entry == NULL;
    closedir (directory);
    qsort (journals->shards, journals->count, sizeof *journals->shards, compare_shards);
    if (all && journals->count)
        return EXIT_OK;
    fprintf (stderr, "guerdon %s: %s: %s\n", command, journals->state_dir,
             all ? "no journal is here: expected the STATE_DIR of a decision" : "too many journals");
    return EXIT_FAILED;
}

/*  ---- asking ------------------------------------------------------------- */

struct inquiry {
    const struct journals *journals;
    void *context;                 /* of ZeroMQ, once a process was asked */
    struct desk_caller *caller;    /* at the desk of `shard` */
    struct journal_editor *editor; /* of `shard`, whose lock is had: orders come in rows */
    int lock;
    uint16_t shard;
    uint8_t page[MESSAGE_SIZE_MAX];
};

struct inquiry *inquiry_new (const struct journals *journals)
{
    struct inquiry *self = calloc (1, sizeof *self);
    if (self) {
        self->journals = journals;
        self->lock = -1;
    }
    return self;
}

/*  Leaves the journal that orders were written to. */
static void leave (struct inquiry *self)
{
    journal_editor_close (&self->editor);
    lock_file_release (&self->lock);
}

void inquiry_destroy (struct inquiry **inquiry)
{
    if (!*inquiry)
        return;
    leave (*inquiry);
    desk_caller_destroy (&(*inquiry)->caller);
    if ((*inquiry)->context)
        bus_context_destroy (&(*inquiry)->context);
    free (*inquiry);
    *inquiry = NULL;
}

/*  From now on it is about this journal: the desk of another is left. */
static void turn_to (struct inquiry *self, uint16_t shard)
{
    if (self->shard != shard)
        desk_caller_destroy (&self->caller);
    self->shard = shard;
}

/*  Goes to the desk of a journal, if it is not there already. */
static bool go_to_desk (struct inquiry *self, uint16_t shard, char *reason, size_t reason_size)
{
    turn_to (self, shard);
    if (self->caller)
        return true;
    if (!self->context)
        self->context = bus_context_new ();
    if (!self->context) {
        snprintf (reason, reason_size, "ZeroMQ: %s", strerror (errno));
        return false;
    }
    self->shard = shard;
    self->caller = desk_caller_new (self->context, self->journals->state_dir, shard, reason, reason_size);
    return self->caller != NULL;
}

/*  Keeps a frame for whoever asked. */
static void keep (struct inquiry *self, struct raw frame, struct raw *listed)
{
    assert (frame.size <= sizeof self->page);
    if (frame.size)
        memcpy (self->page, frame.data, frame.size);
    *listed = (struct raw){ self->page, frame.size };
}

/*  Reads a page from the file, whose lock is had. It is opened for the page only:
    while it is shown a process may start, and have its journal. */
static bool look_into (struct inquiry *self, uint16_t shard, const struct look *look, struct looked *looked,
                       struct raw *listed, char *reason, size_t reason_size)
{
    char path[JOURNAL_PATH_SIZE];
    struct message answer;
    struct raw frame;
    if (!journal_file (path, sizeof path, self->journals->state_dir, shard, "db"))
        return false;
    struct journal_reader *reader = journal_reader_open (path, true, reason, reason_size);
    if (!reader)
        return false;
    journal_reader_look (reader, look, &answer, &frame);
    keep (self, frame, listed);
    *looked = answer.looked;
    bool good = answer.looked.reason.size == 0;
    if (!good)
        snprintf (reason, reason_size, "%s: %.*s", path, (int) answer.looked.reason.size,
                  answer.looked.reason.data);
    looked->reason = NO_TEXT;
    journal_reader_close (&reader);
    return good;
}

/*  Adds to a reason that says who has the lock. */
static void say_silent (const struct inquiry *self, uint16_t shard, char *reason, size_t reason_size)
{
    size_t size = strlen (reason);
    snprintf (reason + size, reason_size - size, ", and does not answer at %s/journal-%u.sock",
              self->journals->state_dir, (unsigned) shard);
}

/*  Asks for a page. False with a reason; the frame lives until the next page. */
static bool look_at (struct inquiry *inquiry, uint16_t shard, const struct look *look, struct looked *looked,
                     struct raw *listed, char *reason, size_t reason_size)
{
    const struct message question = { .id = MESSAGE_LOOK, .look = *look };
    struct message answer;
    struct raw frame;
    leave (inquiry);
    for (unsigned i = 0; i < LOOKS_MAX; i++) {
        int lock = journal_lock (inquiry->journals->state_dir, shard, reason, reason_size);
        if (lock >= 0) {
            bool good = look_into (inquiry, shard, look, looked, listed, reason, reason_size);
            lock_file_release (&lock);
            return good;
        }
        if (errno != EWOULDBLOCK)
            return false;
        char why[REASON_SIZE_MAX + 1];
        if (!go_to_desk (inquiry, shard, why, sizeof why)) {
            snprintf (reason, reason_size, "%s", why);
            return false;
        }
        if (!desk_ask (inquiry->caller, &question, LOOK_MS, &answer, &frame) || answer.id != MESSAGE_LOOKED)
            continue;
        keep (inquiry, frame, listed);
        *looked = answer.looked;
        looked->reason = NO_TEXT;
        if (answer.looked.reason.size)
            snprintf (reason, reason_size, "%.*s", (int) answer.looked.reason.size,
                      answer.looked.reason.data);
        return answer.looked.reason.size == 0;
    }
    say_silent (inquiry, shard, reason, reason_size);
    return false;
}

/*  Hands over what is on a page; false when it is enough. */
static bool take_page (struct raw page, uint16_t shard,
                       bool (*take) (void *context, uint16_t shard, const struct message *listed),
                       void *context)
{
    struct decoder decoder;
    struct message message;
    enum decode_result result = DECODE_END;
    if (page.size && decode_begin (&decoder, page.data, page.size, false) == DECODE_OK)
        result = decode_next (&decoder, &message);
    for (; result != DECODE_END; result = decode_next (&decoder, &message))
        if (result == DECODE_OK && message.id == MESSAGE_LISTED && !take (context, shard, &message))
            return false;
    return true;
}

bool inquiry_walk (struct inquiry *inquiry, uint16_t shard, struct look look,
                   bool (*take) (void *context, uint16_t shard, const struct message *listed), void *context,
                   char *reason, size_t reason_size)
{
    struct looked looked = { .more = 1 };
    while (looked.more) {
        struct raw page;
        if (!look_at (inquiry, shard, &look, &looked, &page, reason, reason_size))
            return false;
        look.after = looked.after;
        if (!take_page (page, shard, take, context))
            return true;
    }
    return true;
}

/*  Has the journal to write to, if no process has it. False with a reason, and then
    *busy says whether one does. */
static bool enter (struct inquiry *self, uint16_t shard, bool *busy, char *reason, size_t reason_size)
{
    char path[JOURNAL_PATH_SIZE];
    *busy = false;
    if (self->editor && self->shard == shard)
        return true;
    leave (self);
    self->lock = journal_lock (self->journals->state_dir, shard, reason, reason_size);
    *busy = self->lock < 0 && errno == EWOULDBLOCK;
    if (self->lock < 0 || !journal_file (path, sizeof path, self->journals->state_dir, shard, "db"))
        return false;
    self->editor = journal_editor_open (path, reason, reason_size);
    if (!self->editor)
        leave (self);
    else
        turn_to (self, shard);
    return self->editor != NULL;
}

/*  Gives an order to the desk of a running decision; `reason` says who has the lock. */
static enum order_result order_at_desk (struct inquiry *self, uint16_t shard, const struct message *order,
                                        char *reason, size_t reason_size)
{
    char why[REASON_SIZE_MAX + 1];
    struct message answer;
    struct raw nothing;
    if (!go_to_desk (self, shard, why, sizeof why)) {
        snprintf (reason, reason_size, "%s", why);
        return ORDER_REFUSED;
    }
    if (!desk_ask (self->caller, order, ORDER_MS, &answer, &nothing) || answer.id != MESSAGE_ANSWERED) {
        say_silent (self, shard, reason, reason_size);
        return ORDER_UNCERTAIN;
    }
    snprintf (reason, reason_size, "%.*s", (int) answer.answered.reason.size,
              answer.answered.reason.size ? answer.answered.reason.data : "");
    if (answer.answered.result == RESULT_OK)
        return ORDER_DONE;
    if (answer.answered.result == RESULT_UNCERTAIN)
        return ORDER_UNCERTAIN;
    return answer.answered.later ? ORDER_LATER : ORDER_REFUSED;
}

bool inquiry_others_run (const struct inquiry *inquiry, uint16_t shard)
{
    const struct journals *journals = inquiry->journals;
    char reason[JOURNAL_PATH_SIZE + 256];
    for (unsigned i = 0; i < journals->count; i++) {
        if (journals->shards[i] == shard)
            continue;
        int lock = journal_lock (journals->state_dir, journals->shards[i], reason, sizeof reason);
        bool busy = lock < 0 && errno == EWOULDBLOCK;
        lock_file_release (&lock);
        if (busy)
            return true;
    }
    return false;
}

enum order_result inquiry_order (struct inquiry *inquiry, uint16_t shard, const struct message *order,
                                 char *reason, size_t reason_size)
{
    bool busy = false;
    if (enter (inquiry, shard, &busy, reason, reason_size))
        return journal_editor_settle (inquiry->editor, order, clock_wall_ms (), reason, reason_size)
                   ? ORDER_FILED
                   : ORDER_REFUSED;
    return busy ? order_at_desk (inquiry, shard, order, reason, reason_size) : ORDER_REFUSED;
}
