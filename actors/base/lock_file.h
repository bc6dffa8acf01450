/*  lock_file.h - a file that says that something belongs to one process.

    The lock ends with the process, however that ends. The file stays, and its
    content is the number of the process that had it last.
*/
#ifndef GUERDON_LOCK_FILE_H
#define GUERDON_LOCK_FILE_H

#include <stddef.h>

/*  Takes the lock, making the file (0600) when it is not there. The return is a
    descriptor to be given to lock_file_release; -1 with a reason that names the
    file and, when another process has it, that one's number (errno is EWOULDBLOCK
    then). Does not wait. */
int lock_file_take (const char *path, char *reason, size_t reason_size);

/*  The same, and waits so long when another process has it. */
int lock_file_wait (const char *path, unsigned wait_ms, char *reason, size_t reason_size);

/*  Gives it back; -1 for nothing. */
void lock_file_release (int *lock);

#endif
