/*  journal_file.c - see journal_file.h. */

#include "actors/base/journal_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/base/journal_read.h"
#include "actors/base/log.h"
#include "proto/text.h"

enum {
    APPLICATION_ID = 0x67756572, /* "guer" */
    SCHEMA_VERSION = 1,
    HEADER_SIZE = 100,            /* of a SQLite file: https://sqlite.org/fileformat.html 1.3 */
    WHOLE_MAX = 16 * 1024 * 1024, /* a file up to this is read as a whole at the start */
    WHY_SIZE = 256,
    NAME_SIZE = JOURNAL_PATH_SIZE + 16 /* with "-wal" and the like */
};

/*  What the file of a version before needs to become the next: the place in the
    table is the version that it is for. */
static const char *const migrations[SCHEMA_VERSION] = {
    "ALTER TABLE grants ADD COLUMN tries INTEGER NOT NULL DEFAULT 1;"
    "ALTER TABLE grants ADD COLUMN who TEXT NOT NULL DEFAULT '';"
    "PRAGMA user_version = 1",
};

/*  Numbers only grow, so a record goes to the end of the table. The indexes hold what
    is looked for, which is little: there is none by user. */
static const char *const schema =
    "BEGIN;"
    "PRAGMA application_id = 0x67756572;"
    "CREATE TABLE grants (id INTEGER PRIMARY KEY, position INTEGER NOT NULL, event_ms INTEGER NOT NULL,"
    " trace INTEGER NOT NULL, user TEXT NOT NULL, reward TEXT NOT NULL, amount INTEGER NOT NULL,"
    " currency TEXT NOT NULL, state INTEGER NOT NULL, intended_ms INTEGER NOT NULL,"
    " changed_ms INTEGER NOT NULL, tries INTEGER NOT NULL, reason TEXT NOT NULL, who TEXT NOT NULL);"
    "CREATE INDEX grants_open ON grants (id) WHERE state = 1;"
    "CREATE INDEX grants_parked ON grants (id) WHERE state IN (3, 4);"
    "PRAGMA user_version = 1;"
    "COMMIT";

/*  The columns by name, however they came to be there. */
static const char *const columns_are =
    "SELECT group_concat (line, ', ') = 'amount INTEGER 0, changed_ms INTEGER 0, currency TEXT 0,"
    " event_ms INTEGER 0, id INTEGER 1, intended_ms INTEGER 0, position INTEGER 0, reason TEXT 0,"
    " reward TEXT 0, state INTEGER 0, trace INTEGER 0, tries INTEGER 0, user TEXT 0, who TEXT 0' FROM"
    " (SELECT name || ' ' || type || ' ' || pk AS line FROM pragma_table_info ('grants') ORDER BY name)";

/*  A trigger or a view is not ours, and would run with our writes. */
static const char *const nothing_else =
    "SELECT count (*) = 0 FROM sqlite_master WHERE type IN ('trigger', 'view')";

/*  How a writer uses the file: a small cache and no mapping, since the program's
    memory is bounded and the newest pages are all that is needed; a log that does not
    stay large once a slow reader made it so. A lock of somebody else's tool is not
    waited for long, because the actor's thread stands still meanwhile. */
static const char *const writer_settings = "PRAGMA busy_timeout = 200;"
                                           "PRAGMA cache_size = -1024;"
                                           "PRAGMA mmap_size = 0;"
                                           "PRAGMA temp_store = MEMORY;"
                                           "PRAGMA trusted_schema = OFF;"
                                           "PRAGMA cell_size_check = ON;"
                                           "PRAGMA wal_autocheckpoint = 1000;"
                                           "PRAGMA journal_size_limit = 16777216";

/*  The size of a file that goes with the journal; -1 when it is not there. */
static int64_t size_of (const char *path, const char *ending)
{
    char name[NAME_SIZE];
    struct stat status;
    snprintf (name, sizeof name, "%s%s", path, ending);
    return stat (name, &status) == 0 ? (int64_t) status.st_size : -1;
}

/*  Says that a file cannot be read and that its content is not to blame; false with
    errno, for returning. */
static bool blame_system (const char *why, int error, char *reason, size_t reason_size)
{
    snprintf (reason, reason_size, "%s; nothing is known to be wrong with the file: leave it where it is%s",
              why, store_no_room (error) ? ", and make room" : "");
    errno = error;
    return false;
}

/*  Says what is wrong with a file and what can be done; false, for returning. */
static bool refuse (const char *path, const char *why, char *reason, size_t reason_size)
{
    errno = 0;
    snprintf (
        reason, reason_size,
        "%s %s; it is left as it is. Put a good copy in its place, or move it and its -wal away to begin "
        "a new one: rewards that may be half done are then looked for at the virtualcurrency service "
        "before they are given, and what was parked stays in the old file",
        path, why);
    return false;
}

/*  ---- the header --------------------------------------------------------- */

static uint32_t number_at (const uint8_t *header, size_t offset)
{
    const uint8_t *bytes = header + offset;
    return (uint32_t) bytes[0] << 24 | (uint32_t) bytes[1] << 16 | (uint32_t) bytes[2] << 8 | bytes[3];
}

/*  Whether the file is shorter than its header says. Beside a log it may be, until
    the log is emptied into it. */
static bool is_cut (const char *path, const uint8_t *header)
{
    int64_t page_size = (int64_t) header[16] << 8 | header[17];
    if (page_size == 1)
        page_size = 65536;
    bool said = number_at (header, 24) == number_at (header, 92); /* the number of pages counts */
    return said && size_of (path, "-wal") <= 0 && size_of (path, "") < page_size * number_at (header, 28);
}

/*  A copy that VACUUM INTO made is not in WAL mode, and becomes so when it is opened.
    With a log of either kind beside it that is no copy: SQLite would play a rollback
    journal back, or leave out what is in the log. */
static bool is_of_a_mode (const char *path, const uint8_t *header)
{
    if (header[18] == 2 && header[19] == 2)
        return true;
    return header[18] == 1 && header[19] == 1 && size_of (path, "-wal") <= 0 &&
           size_of (path, "-journal") <= 0;
}

/*  Looks at the bytes themselves: SQLite would replay a log into a file that is not
    ours. Only for a file that this process has not opened otherwise. */
static bool look_at_header (const char *path, char *reason, size_t reason_size)
{
    uint8_t header[HEADER_SIZE];
    char why[WHY_SIZE];
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t size = fd >= 0 ? pread (fd, header, sizeof header, 0) : -1;
    int error = errno;
    if (fd >= 0)
        close (fd);
    if (size < 0) {
        snprintf (reason, reason_size, "cannot read %s: %s", path, strerror (error));
        errno = error;
        return false;
    }
    if (size < (ssize_t) sizeof header || memcmp (header, "SQLite format 3", 16) != 0 ||
        number_at (header, 68) != APPLICATION_ID)
        return refuse (path, "is no journal of guerdon, or its beginning is damaged", reason, reason_size);
    if (number_at (header, 60) > SCHEMA_VERSION) {
        snprintf (why, sizeof why,
                  "was written by a newer guerdon (schema %" PRIu32 ", this one knows %d): run that one",
                  number_at (header, 60), SCHEMA_VERSION);
        return refuse (path, why, reason, reason_size);
    }
    if (!is_of_a_mode (path, header))
        return refuse (path, "is damaged: it is not in WAL mode", reason, reason_size);
    if (is_cut (path, header))
        return refuse (path, "is damaged: its end is missing", reason, reason_size);
    return true;
}

/*  ---- the content -------------------------------------------------------- */

/*  One number from a query; false when there is none. */
static bool ask_number (struct store *store, const char *sql, int64_t *number)
{
    struct store_query *query = store_prepare (store, sql);
    bool good = query && store_step (query) == STORE_ROW;
    if (good)
        *number = store_int (query, 0);
    store_query_destroy (&query);
    return good;
}

static bool ask_bool (struct store *store, const char *sql)
{
    int64_t number = 0;
    return ask_number (store, sql, &number) && number == 1;
}

bool journal_file_record (struct store_query *row, struct message *message)
{
    *message = (struct message){ .id = MESSAGE_RECORD, .trace = (uint64_t) store_int (row, 3) };
    struct record *record = &message->record;
    int64_t id = store_int (row, 0);
    int64_t position = store_int (row, 1);
    int64_t state = store_int (row, 8);
    int64_t changed_ms = store_int (row, 9);
    record->timestamp = store_int (row, 2);
    record->user = store_text (row, 4);
    record->reward = store_text (row, 5);
    record->amount = store_int (row, 6);
    record->currency = store_text (row, 7);
    if (id < 0 || position < 0 || (uint64_t) position > POSITION_MAX || changed_ms < 0 ||
        state < GRANT_INTENDED || state > GRANT_DROPPED)
        return false;
    record->grant = (uint64_t) id;
    record->position = (uint64_t) position;
    record->state = (enum grant_state) state;
    record->at_ms = (uint64_t) changed_ms;
    return record->user.size <= USER_SIZE_MAX && record->reward.size <= REWARD_SIZE_MAX &&
           record->currency.size <= NAME_SIZE_MAX;
}

/*  Reads the rows of a query; false when one cannot be read or is not sound. */
static bool rows_are_sound (struct store *store, const char *sql)
{
    struct store_query *query = store_prepare (store, sql);
    enum store_step step = STORE_FAILED;
    struct message record;
    if (query)
        while ((step = store_step (query)) == STORE_ROW && journal_file_record (query, &record))
            continue;
    store_query_destroy (&query);
    return step == STORE_DONE;
}

static bool records_are_sound (struct store *store)
{
    return rows_are_sound (store, "SELECT " JOURNAL_COLUMNS " FROM grants ORDER BY id DESC LIMIT 1000") &&
           rows_are_sound (store, "SELECT " JOURNAL_COLUMNS " FROM grants INDEXED BY grants_open"
                                  " WHERE state = 1 ORDER BY id LIMIT 1000") &&
           rows_are_sound (store, "SELECT " JOURNAL_COLUMNS " FROM grants INDEXED BY grants_parked"
                                  " WHERE state IN (3, 4) ORDER BY id LIMIT 1000");
}

/*  Reads the whole file, if that is quick. */
static bool is_whole (struct store *store, const char *path)
{
    if (size_of (path, "") + size_of (path, "-wal") > WHOLE_MAX)
        return true;
    struct store_query *query = store_prepare (store, "PRAGMA quick_check (1)");
    bool good =
        query && store_step (query) == STORE_ROW && text_equal (store_text (query, 0), TEXT_LITERAL ("ok"));
    store_query_destroy (&query);
    return good;
}

/*  What is wrong with the content of a file of this version; NULL when nothing is. */
static const char *find_damage (struct store *store, const char *path)
{
    if (!ask_bool (store, columns_are) || !ask_bool (store, nothing_else))
        return "is damaged: its tables are not those of a journal";
    if (!is_whole (store, path))
        return "is damaged: SQLite's check of the file fails";
    if (!records_are_sound (store))
        return "is damaged: records in it cannot be read, or make no sense";
    return NULL;
}

/*  Reads only, so that a file that is refused is as it was. An older version is
    looked at when it has become this one. */
static bool look_at_content (const char *path, char *reason, size_t reason_size)
{
    char why[NAME_SIZE + WHY_SIZE];
    char text[NAME_SIZE + WHY_SIZE + 32];
    int64_t version = 0;
    struct store *store = store_open_alone (path, why, sizeof why);
    if (!store && errno)
        return blame_system (why, errno, reason, reason_size);
    if (!store) {
        snprintf (text, sizeof text, "is damaged or cannot be read (%s)", why);
        return refuse (path, text, reason, reason_size);
    }
    const char *damage = NULL;
    if (!store_run (store, "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON") ||
        !ask_number (store, "PRAGMA user_version", &version))
        damage = "is damaged: it cannot be read";
    else if (version < 0 || version > SCHEMA_VERSION)
        damage = "was written by a newer guerdon: run that one";
    else if (version == SCHEMA_VERSION)
        damage = find_damage (store, path);
    int error = damage ? store_error (store) : 0;
    snprintf (text, sizeof text, "cannot read %s: %s", path, store_reason (store));
    store_close (&store);
    if (error)
        return blame_system (text, error, reason, reason_size);
    return !damage || refuse (path, damage, reason, reason_size);
}

/*  ---- opening ------------------------------------------------------------ */

/*  Moves everything from the log to the file, both durable; false when that failed
    or a reader is in the way. */
static bool empty_log (struct store *store)
{
    int64_t busy = 1;
    return ask_number (store, "PRAGMA wal_checkpoint (TRUNCATE)", &busy) && busy == 0;
}

/*  Makes the names of the files durable; SQLite does it too, and does not mind when
    that fails. False with errno. */
static bool sync_directory_of (const char *path)
{
    char name[NAME_SIZE];
    snprintf (name, sizeof name, "%s", path);
    char *slash = strrchr (name, '/');
    if (slash)
        slash[slash == name] = '\0';
    int fd = open (slash ? name : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync (fd) == 0;
    int error = errno;
    if (fd >= 0)
        close (fd);
    errno = error;
    return good;
}

/*  Begins a journal under another name and gives it its own when it is whole. A log
    that lies there without its file belongs to a journal that was moved without it,
    and would be taken for ours. */
static bool begin (const char *path, char *reason, size_t reason_size)
{
    static const char *const endings[] = { "", "-wal", "-shm", "-journal" };
    char name[NAME_SIZE];
    char rest[NAME_SIZE + 16];
    if (size_of (path, "-wal") > 0) {
        snprintf (reason, reason_size,
                  "%s is gone, but its %s-wal is there: put the file back, or move the -wal to where it is",
                  path, path);
        errno = 0;
        return false;
    }
    snprintf (name, sizeof name, "%s.new", path);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        snprintf (rest, sizeof rest, "%s%s", name, endings[i]);
        unlink (rest); /* of a process that ended in the middle of this */
    }
    struct store *store = store_open (name, true, reason, reason_size);
    if (!store)
        return false;
    bool good = store_run (store, schema) && empty_log (store);
    int error = store_error (store);
    if (!good)
        snprintf (reason, reason_size, "cannot begin %s: %s", path, store_reason (store));
    store_close (&store);
    if (good && rename (name, path) != 0) {
        error = errno;
        snprintf (reason, reason_size, "cannot begin %s: %s", path, strerror (error));
        good = false;
    }
    errno = error;
    return good;
}

static bool migrate (struct store *store, const char *path, int64_t version, char *reason, size_t reason_size)
{
    bool good = store_run (store, "BEGIN IMMEDIATE");
    for (int64_t step = version; good && step < SCHEMA_VERSION; step++)
        good = store_run (store, migrations[step]);
    if (good) {
        const char *damage = find_damage (store, path);
        if (damage)
            return refuse (path, damage, reason, reason_size); /* closing undoes it */
        good = store_run (store, "COMMIT");
    }
    if (!good)
        snprintf (reason, reason_size, "cannot bring %s from schema %" PRId64 " to %d: %s", path, version,
                  SCHEMA_VERSION, store_reason (store));
    else
        log_say ("journal", LOG_INFO, "%s: schema %" PRId64 " is now %d", path, version, SCHEMA_VERSION);
    return good;
}

struct store *journal_file_reopen (const char *path, char *reason, size_t reason_size)
{
    struct store *store = store_open (path, true, reason, reason_size);
    if (!store)
        return NULL;
    bool good = store_run (store, writer_settings) && empty_log (store);
    if (good && sync_directory_of (path))
        return store;
    int error = good ? errno : store_error (store);
    snprintf (reason, reason_size, "cannot write %s: %s", path,
              good                    ? strerror (error)
              : *store_reason (store) ? store_reason (store)
                                      : "a reader keeps its log in use");
    store_close (&store);
    errno = error;
    return NULL;
}

struct store *journal_file_open (const char *path, char *reason, size_t reason_size)
{
    if (size_of (path, "") < 0 && errno == ENOENT) {
        if (!begin (path, reason, reason_size))
            return NULL;
    } else if (!look_at_header (path, reason, reason_size) || !look_at_content (path, reason, reason_size)) {
        return NULL;
    }
    int64_t version = 0;
    struct store *store = journal_file_reopen (path, reason, reason_size);
    if (!store)
        return NULL;
    bool good = ask_number (store, "PRAGMA user_version", &version);
    if (!good)
        snprintf (reason, reason_size, "cannot read %s: %s", path, store_reason (store));
    if (good && version < SCHEMA_VERSION)
        good = migrate (store, path, version, reason, reason_size);
    int error = store_error (store);
    if (!good)
        store_close (&store);
    errno = error;
    return store;
}

bool journal_file_left (const char *path, uint64_t *open, uint64_t *parked)
{
    char reason[WHY_SIZE];
    int64_t numbers[2] = { 0, 0 };
    if (!look_at_header (path, reason, sizeof reason))
        return false;
    struct store *store = store_open_read (path, reason, sizeof reason);
    bool good = store &&
                ask_number (store, "SELECT count (*) FROM grants INDEXED BY grants_open WHERE state = 1",
                            &numbers[0]) &&
                ask_number (store,
                            "SELECT count (*) FROM grants INDEXED BY grants_parked"
                            " WHERE state IN (3, 4)",
                            &numbers[1]);
    store_close (&store);
    *open = (uint64_t) numbers[0];
    *parked = (uint64_t) numbers[1];
    return good;
}
