/*  store.c - SQLite, thinly.

    A query knows its store and stands in its list, so that closing the store
    frees what was forgotten. The reason of the last failure is kept as text:
    resetting a statement may change what SQLite would say.
*/
#include "actors/base/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

enum {
    /*  How long a lock of another process is waited for. */
    BUSY_TIMEOUT_MS = 2000,
    STORE_REASON_SIZE = 256
};

struct store_query {
    struct store *store;
    sqlite3_stmt *statement;
    struct store_query *previous; /* in the store's list */
    struct store_query *next;
};

struct store {
    sqlite3 *database;
    struct store_query *queries;
    int error; /* of the last failure */
    char reason[STORE_REASON_SIZE];
};

/*  ---- life cycle --------------------------------------------------------- */

/*  Makes the file before SQLite does, so that it, its journal and its shared
    memory are for the owner only from the first moment. One that is there is
    not opened: closing it would end the locks that another connection of this
    process has on it. 0 or an errno. */
static int create_file (const char *path)
{
    struct stat status;
    int fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd >= 0) {
        close (fd);
        return 0;
    }
    if (errno != EEXIST || lstat (path, &status) != 0)
        return errno;
    if (S_ISLNK (status.st_mode))
        return ELOOP;
    return 0;
}

/*  What SQLite says, and of the system what it said to SQLite. */
static void say_failure (sqlite3 *database, char *reason, size_t reason_size)
{
    int kind = sqlite3_errcode (database);
    int number = sqlite3_system_errno (database);
    if (number && (kind == SQLITE_IOERR || kind == SQLITE_CANTOPEN))
        snprintf (reason, reason_size, "%s: %s", sqlite3_errmsg (database), strerror (number));
    else
        snprintf (reason, reason_size, "%s", sqlite3_errmsg (database));
}

/*  An errno for a failure that the content of the file is not to blame for, else 0. */
static int error_of (sqlite3 *database)
{
    switch (sqlite3_errcode (database)) {
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_NOMEM:
        return ENOMEM;
    case SQLITE_BUSY:
        return EBUSY;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return sqlite3_system_errno (database);
    default:
        return 0;
    }
}

/*  Remembers it; false, for returning. */
static bool failed (struct store *store)
{
    store->error = error_of (store->database);
    say_failure (store->database, store->reason, sizeof store->reason);
    return false;
}

/*  Says why a file cannot be opened, and closes what there is of it; NULL with errno,
    for returning. */
static struct store *not_opened (struct store *store, const char *path, const char *why, int error,
                                 char *reason, size_t reason_size)
{
    snprintf (reason, reason_size, "cannot open %s: %s", path, why);
    store_close (&store);
    errno = error;
    return NULL;
}

/*  The same, for the reason that a call has left. */
static struct store *not_usable (struct store *store, const char *path, char *reason, size_t reason_size)
{
    return not_opened (store, path, store->reason, store->error, reason, reason_size);
}

/*  SQLite counts every allocation under a lock, for statistics that nobody asks for.
    That can only be said before it does anything else. */
static void configure (void)
{
    sqlite3_config (SQLITE_CONFIG_MEMSTATUS, 0); /* else it costs a little more */
}

static struct store *open_file (const char *path, int flags, char *reason, size_t reason_size)
{
    static pthread_once_t configured = PTHREAD_ONCE_INIT;
    pthread_once (&configured, configure);
    struct store *store = calloc (1, sizeof *store);
    if (!store)
        return not_opened (NULL, path, strerror (ENOMEM), ENOMEM, reason, reason_size);
    int result = sqlite3_open_v2 (path, &store->database, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (!store->database)
        return not_opened (store, path, sqlite3_errstr (result), ENOMEM, reason, reason_size);
    if (result != SQLITE_OK) {
        failed (store);
        return not_usable (store, path, reason, reason_size);
    }
    sqlite3_busy_timeout (store->database, BUSY_TIMEOUT_MS);
    return store;
}

/*  A first look at the content: a file that is no database is found here. */
static const char *const first_look = "SELECT count (*) FROM sqlite_master";

struct store *store_open (const char *path, bool full, char *reason, size_t reason_size)
{
    assert (path && reason && reason_size > 0);
    int failure = create_file (path);
    if (failure)
        return not_opened (NULL, path, strerror (failure), failure, reason, reason_size);
    struct store *store = open_file (path, SQLITE_OPEN_READWRITE, reason, reason_size);
    /*  WAL for readers beside the writer. */
    if (!store || (store_run (store, "PRAGMA journal_mode = WAL") &&
                   store_run (store, full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL") &&
                   store_run (store, first_look)))
        return store;
    return not_usable (store, path, reason, reason_size);
}

struct store *store_open_read (const char *path, char *reason, size_t reason_size)
{
    assert (path && reason && reason_size > 0);
    struct store *store = open_file (path, SQLITE_OPEN_READONLY, reason, reason_size);
    if (!store || store_run (store, first_look))
        return store;
    return not_usable (store, path, reason, reason_size);
}

bool store_no_room (int error)
{
    return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

/*  Readers of a file in WAL mode share an index of the log, which is made when it is
    not there and needs room. Who has the file alone keeps it in memory; that asks for
    a connection that could write, and this one is told not to, at its end neither. */
struct store *store_open_alone (const char *path, char *reason, size_t reason_size)
{
    struct store *store = store_open_read (path, reason, reason_size);
    if (store || !store_no_room (errno))
        return store;
    store = open_file (path, SQLITE_OPEN_READWRITE, reason, reason_size);
    if (!store ||
        (sqlite3_db_config (store->database, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) == SQLITE_OK &&
         store_run (store, "PRAGMA locking_mode = EXCLUSIVE") &&
         store_run (store, "PRAGMA query_only = ON") && store_run (store, first_look)))
        return store;
    return not_usable (store, path, reason, reason_size);
}

void store_close (struct store **store)
{
    assert (store);
    struct store *self = *store;
    *store = NULL;
    if (!self)
        return;
    struct store_query *next;
    for (struct store_query *query = self->queries; query; query = next) {
        next = query->next;
        sqlite3_finalize (query->statement);
        free (query);
    }
    int result = sqlite3_close (self->database);
    assert (result == SQLITE_OK); /* all statements are gone */
    (void) result;
    free (self);
}

bool store_run (struct store *store, const char *sql)
{
    if (sqlite3_exec (store->database, sql, NULL, NULL, NULL) == SQLITE_OK)
        return true;
    return failed (store);
}

/*  ---- queries ------------------------------------------------------------ */

struct store_query *store_prepare (struct store *store, const char *sql)
{
    struct store_query *query = calloc (1, sizeof *query);
    if (!query) {
        snprintf (store->reason, sizeof store->reason, "%s", strerror (ENOMEM));
        store->error = ENOMEM;
        return NULL;
    }
    if (sqlite3_prepare_v3 (store->database, sql, -1, SQLITE_PREPARE_PERSISTENT, &query->statement, NULL) !=
        SQLITE_OK) {
        failed (store);
        free (query);
        return NULL;
    }
    query->store = store;
    query->next = store->queries;
    if (store->queries)
        store->queries->previous = query;
    store->queries = query;
    return query;
}

void store_query_destroy (struct store_query **query)
{
    assert (query);
    struct store_query *self = *query;
    *query = NULL;
    if (!self)
        return;
    if (self->previous)
        self->previous->next = self->next;
    else
        self->store->queries = self->next;
    if (self->next)
        self->next->previous = self->previous;
    sqlite3_finalize (self->statement);
    free (self);
}

static bool bind_text (struct store_query *query, int parameter, struct text text,
                       sqlite3_destructor_type keep)
{
    if (text.size > INT_MAX) {
        snprintf (query->store->reason, sizeof query->store->reason, "a text is too large");
        return false;
    }
    /*  A NULL pointer would bind NULL, and an empty text is not that. */
    const char *bytes = text.size ? text.data : "";
    if (sqlite3_bind_text (query->statement, parameter, bytes, (int) text.size, keep) == SQLITE_OK)
        return true;
    return failed (query->store);
}

bool store_bind_text (struct store_query *query, int parameter, struct text text)
{
    return bind_text (query, parameter, text, SQLITE_TRANSIENT);
}

bool store_lend_text (struct store_query *query, int parameter, struct text text)
{
    return bind_text (query, parameter, text, SQLITE_STATIC);
}

bool store_bind_int (struct store_query *query, int parameter, int64_t integer)
{
    if (sqlite3_bind_int64 (query->statement, parameter, integer) == SQLITE_OK)
        return true;
    return failed (query->store);
}

bool store_bind_null (struct store_query *query, int parameter)
{
    if (sqlite3_bind_null (query->statement, parameter) == SQLITE_OK)
        return true;
    return failed (query->store);
}

enum store_step store_step (struct store_query *query)
{
    int result = sqlite3_step (query->statement);
    if (result == SQLITE_ROW)
        return STORE_ROW;
    if (result != SQLITE_DONE)
        failed (query->store);
    sqlite3_reset (query->statement);
    return result == SQLITE_DONE ? STORE_DONE : STORE_FAILED;
}

void store_reset (struct store_query *query)
{
    /*  Repeats the result of the last step, which was already told. */
    sqlite3_reset (query->statement);
    sqlite3_clear_bindings (query->statement);
}

struct text store_text (struct store_query *query, int column)
{
    const unsigned char *bytes = sqlite3_column_text (query->statement, column);
    int size = sqlite3_column_bytes (query->statement, column);
    if (!bytes || size <= 0)
        return NO_TEXT;
    return (struct text){ (const char *) bytes, (uint32_t) size };
}

int64_t store_int (struct store_query *query, int column)
{
    return sqlite3_column_int64 (query->statement, column);
}

bool store_is_null (struct store_query *query, int column)
{
    return sqlite3_column_type (query->statement, column) == SQLITE_NULL;
}

int64_t store_last_id (const struct store *store)
{
    return sqlite3_last_insert_rowid (store->database);
}

const char *store_reason (const struct store *store)
{
    return store->reason;
}

int store_error (const struct store *store)
{
    return store->error;
}
