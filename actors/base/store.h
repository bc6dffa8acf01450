/*  store.h - SQLite, thinly: the one place that sees it.

    Every function returns false on failure, and store_reason says why. A store
    is used from one thread at a time.
*/
#ifndef GUERDON_STORE_H
#define GUERDON_STORE_H

#include "proto/message.h"

struct store;
struct store_query;

/*  Opens or creates a database file (0600) in WAL mode; `full` asks for an
    fsync at every commit, else at checkpoints. NULL with a reason, and then errno is
    what store_error would say. */
struct store *store_open (const char *path, bool full, char *reason, size_t reason_size);
void store_close (struct store **store);

/*  Opens a database file that is there, for reading only, beside whoever writes
    it: nothing is made, and no lock of this process is touched. */
struct store *store_open_read (const char *path, char *reason, size_t reason_size);

/*  The same for a file that nobody writes and this process has not opened otherwise:
    it can be read when the disk is full, too. */
struct store *store_open_alone (const char *path, char *reason, size_t reason_size);

/*  Whether an errno says that a file cannot grow: the disk or the quota is full, or
    the file as large as it may be. */
bool store_no_room (int error);

/*  Runs statements without parameters or rows. */
bool store_run (struct store *store, const char *sql);

/*  Prepares a statement; NULL on failure. Freed by store_close at the latest. */
struct store_query *store_prepare (struct store *store, const char *sql);
void store_query_destroy (struct store_query **query);

/*  Parameters are numbered from 1. Texts are copied. */
bool store_bind_text (struct store_query *query, int parameter, struct text text);

/*  Binds a text that is not copied: it lives until the query is done or reset, and is
    bound anew before the next step. */
bool store_lend_text (struct store_query *query, int parameter, struct text text);
bool store_bind_int (struct store_query *query, int parameter, int64_t integer);
bool store_bind_null (struct store_query *query, int parameter);

enum store_step { STORE_ROW, STORE_DONE, STORE_FAILED };

/*  The next row. After DONE or FAILED the query is reset and may be bound and
    stepped again. */
enum store_step store_step (struct store_query *query);

/*  Forgets the rows that are left and the parameters. */
void store_reset (struct store_query *query);

/*  Columns are numbered from 0; texts live until the next step or reset. */
struct text store_text (struct store_query *query, int column);
int64_t store_int (struct store_query *query, int column);
bool store_is_null (struct store_query *query, int column);

/*  The row id of the last insert. */
int64_t store_last_id (const struct store *store);

/*  Why the last call failed. */
const char *store_reason (const struct store *store);

/*  What the system or a lock did to the last call that failed, as an errno; ENOSPC when
    the disk is full, whoever found out. 0 when nothing failed, or the content of the
    file is to blame. */
int store_error (const struct store *store);

#endif
