/*  inject.c - a library to preload, that makes one call of one place in a program fail.

    A place is a function of the C library and the innermost frames of the stack that
    called it. In a first run the library writes down every place it sees, once; in
    the runs after that it makes one of them fail the first time it is reached:
    malloc gives NULL, write finds the disk full, and so on.

        FAULTS_LOG   where places are written, a line each: key, function, frames
        FAULTS_KEY   the key of the place that fails; that it did is written too
        FAULTS_SKIP  how often it goes well before that, 0 without

    Frames are offsets into their module, so a place has the same key in every run.
    Only what the program and its libraries ask of the C library is seen, not what
    the C library does within itself. Nothing here allocates; places seen before
    the library is ready are left out.
*/
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum {
    FRAMES = 6,      /* of a place */
    FRAMES_OWN = 2,  /* of this library, above them */
    PLACES = 1 << 16 /* there is room for; more are not seen */
};

/*  One module that frames lie in. */
struct module {
    uintptr_t from;
    uintptr_t to;
    const char *name;
};

struct search {
    uintptr_t address;
    struct module found;
};

static atomic_bool ready;
static int log_file = -1;
static uint64_t wanted;
static atomic_long skip;
static atomic_bool fired;
static _Atomic uint64_t places[PLACES]; /* keys that were seen; 0: free */
static _Atomic uint64_t stacks[PLACES]; /* stacks that were seen, as they lie in this run; 0: free */
static _Atomic uint64_t keys[PLACES];   /* of each of those the key; 0: not known yet */
static __thread bool inside __attribute__ ((tls_model ("initial-exec")));

/*  ---- places -------------------------------------------------------------- */

static int look_at_module (struct dl_phdr_info *info, size_t size, void *context)
{
    (void) size;
    struct search *search = context;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        uintptr_t to = from + info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type != PT_LOAD || search->address < from || search->address >= to)
            continue;
        const char *slash = strrchr (info->dlpi_name, '/');
        search->found = (struct module){ info->dlpi_addr, to, slash ? slash + 1 : info->dlpi_name };
        return 1;
    }
    return 0;
}

/*  Where a frame lies: the program itself has an empty name. */
static struct module module_of (void *frame)
{
    struct search search = { .address = (uintptr_t) frame, .found = { 0, 0, "?" } };
    dl_iterate_phdr (look_at_module, &search);
    return search.found;
}

static uint64_t mix (uint64_t hash, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ at[i]) * UINT64_C (0x100000001b3);
    return hash;
}

/*  Where a hash stands in a table, or is put now; PLACES when the table is full. */
static size_t slot_of (_Atomic uint64_t *table, uint64_t hash, bool *new)
{
    *new = false;
    for (size_t i = 0; i < PLACES; i++) {
        size_t slot = (hash + i) % PLACES;
        uint64_t there = 0;
        *new = atomic_compare_exchange_strong (&table[slot], &there, hash);
        if (*new || there == hash)
            return slot;
    }
    return PLACES;
}

static void write_line (const char *line, size_t size)
{
    if (log_file >= 0)
        syscall (SYS_write, log_file, line, size);
}

static void write_place (uint64_t key, const char *function, void *const *frames,
                         const struct module *modules, int count)
{
    char line[1024];
    size_t used = (size_t) snprintf (line, sizeof line, "%016lx %s", (unsigned long) key, function);
    for (int i = 0; i < count && used < sizeof line - 128; i++)
        used += (size_t) snprintf (line + used, sizeof line - used, " %.90s+0x%lx", modules[i].name,
                                   (unsigned long) ((uintptr_t) frames[i] - modules[i].from));
    line[used++] = '\n';
    write_line (line, used);
}

/*  The key of a place; it is written down when it is new, or fails. */
static uint64_t key_of (const char *function, void *const *frames, int count, bool fails)
{
    struct module modules[FRAMES];
    bool new;
    uint64_t key = mix (UINT64_C (0xcbf29ce484222325), function, strlen (function));
    for (int i = 0; i < count; i++) {
        modules[i] = module_of (frames[i]);
        uintptr_t offset = (uintptr_t) frames[i] - modules[i].from;
        key = mix (mix (key, modules[i].name, strlen (modules[i].name)), &offset, sizeof offset);
    }
    key += key == 0;
    slot_of (places, key, &new);
    if (new || fails)
        write_place (key, fails ? "FAILED" : function, frames, modules, count);
    return key;
}

/*  Looks at the place that called; true when it is to fail now. */
static __attribute__ ((noinline)) bool look (const char *function)
{
    void *frames[FRAMES + FRAMES_OWN];
    bool new;
    int count = backtrace (frames, FRAMES + FRAMES_OWN) - FRAMES_OWN;
    count = count < 0 ? 0 : count;
    uint64_t stack = mix ((uintptr_t) function, frames + FRAMES_OWN, (size_t) count * sizeof *frames);
    size_t slot = slot_of (stacks, stack + (stack == 0), &new);
    uint64_t key = slot < PLACES ? atomic_load (&keys[slot]) : 0;
    if (key == 0)
        key = key_of (function, frames + FRAMES_OWN, count, false);
    if (slot < PLACES)
        atomic_store (&keys[slot], key);
    if (key != wanted || atomic_fetch_sub (&skip, 1) > 0 || atomic_exchange (&fired, true))
        return false;
    key_of (function, frames + FRAMES_OWN, count, true);
    return true;
}

/*  True when this call is to fail. What the looking itself calls goes well. */
static inline bool fault (const char *function)
{
    if (!atomic_load_explicit (&ready, memory_order_relaxed) || inside)
        return false;
    int saved = errno;
    inside = true;
    bool fails = look (function);
    inside = false;
    errno = saved;
    return fails;
}

static __attribute__ ((constructor)) void prepare (void)
{
    void *frames[4];
    const char *log = getenv ("FAULTS_LOG");
    const char *key = getenv ("FAULTS_KEY");
    const char *times = getenv ("FAULTS_SKIP");
    if (log)
        log_file = (int) syscall (SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    wanted = key ? strtoull (key, NULL, 16) : 0;
    atomic_store (&skip, times ? strtol (times, NULL, 10) : 0);
    backtrace (frames, 4); /* loads what it needs */
    atomic_store (&ready, log_file >= 0);
}

/*  ---- memory -------------------------------------------------------------- */

void *__libc_malloc (size_t size);
void *__libc_calloc (size_t count, size_t size);
void *__libc_realloc (void *memory, size_t size);
void *__libc_memalign (size_t alignment, size_t size);

void *malloc (size_t size)
{
    if (!fault ("malloc"))
        return __libc_malloc (size);
    errno = ENOMEM;
    return NULL;
}

void *calloc (size_t count, size_t size)
{
    if (!fault ("calloc"))
        return __libc_calloc (count, size);
    errno = ENOMEM;
    return NULL;
}

void *realloc (void *memory, size_t size)
{
    if (!fault ("realloc"))
        return __libc_realloc (memory, size);
    errno = ENOMEM;
    return NULL;
}

int posix_memalign (void **memory, size_t alignment, size_t size)
{
    void *found = fault ("posix_memalign") ? NULL : __libc_memalign (alignment, size);
    if (!found)
        return ENOMEM;
    *memory = found;
    return 0;
}

/*  ---- system calls -------------------------------------------------------- */

/*  The function that would have been called. */
static void find_real (void *pointer, const char *name)
{
    bool before = inside;
    inside = true;
    void *found = dlsym (RTLD_NEXT, name);
    inside = before;
    if (!found)
        abort ();
    memcpy (pointer, &found, sizeof found);
}

/*  A function that fails with -1 and an error. Pointers have the type void * where no
    header that is included here says otherwise. */
#define WRAP(type, name, error, parameters, arguments)                                                       \
    type name parameters;                                                                                    \
    type name parameters                                                                                     \
    {                                                                                                        \
        static type (*real) parameters;                                                                      \
        if (!real)                                                                                           \
            find_real (&real, #name);                                                                        \
        if (!fault (#name))                                                                                  \
            return real arguments;                                                                           \
        errno = (error);                                                                                     \
        return (type) -1;                                                                                    \
    }

/*  The same for one whose last argument may be missing. */
#define WRAP_MORE(name, error, parameters, arguments, last)                                                  \
    int name parameters;                                                                                     \
    int name parameters                                                                                      \
    {                                                                                                        \
        static int (*real) parameters;                                                                       \
        va_list list;                                                                                        \
        va_start (list, last);                                                                               \
        void *more = va_arg (list, void *);                                                                  \
        va_end (list);                                                                                       \
        if (!real)                                                                                           \
            find_real (&real, #name);                                                                        \
        if (!fault (#name))                                                                                  \
            return real arguments;                                                                           \
        errno = (error);                                                                                     \
        return -1;                                                                                           \
    }

/*  The same for one that gives its error instead of -1. */
#define WRAP_CODE(name, code, parameters, arguments)                                                         \
    int name parameters;                                                                                     \
    int name parameters                                                                                      \
    {                                                                                                        \
        static int (*real) parameters;                                                                       \
        if (!real)                                                                                           \
            find_real (&real, #name);                                                                        \
        return fault (#name) ? (code) : real arguments;                                                      \
    }

/*  The same for one that gives a pointer, NULL when it fails. */
#define WRAP_NULL(type, name, error, parameters, arguments)                                                  \
    type *name parameters;                                                                                   \
    type *name parameters                                                                                    \
    {                                                                                                        \
        static type *(*real) parameters;                                                                     \
        if (!real)                                                                                           \
            find_real (&real, #name);                                                                        \
        if (!fault (#name))                                                                                  \
            return real arguments;                                                                           \
        errno = (error);                                                                                     \
        return NULL;                                                                                         \
    }

/*  Files and memory. */
WRAP_MORE (open, EMFILE, (const char *path, int flags, ...), (path, flags, more), flags)
WRAP_MORE (open64, EMFILE, (const char *path, int flags, ...), (path, flags, more), flags)
WRAP_MORE (fcntl, EAGAIN, (int fd, int what, ...), (fd, what, more), what)
WRAP_MORE (fcntl64, ENOLCK, (int fd, int what, ...), (fd, what, more), what)
WRAP (ssize_t, read, EIO, (int fd, void *bytes, size_t size), (fd, bytes, size))
WRAP (ssize_t, pread64, EIO, (int fd, void *bytes, size_t size, off64_t at), (fd, bytes, size, at))
WRAP (ssize_t, write, ENOSPC, (int fd, const void *bytes, size_t size), (fd, bytes, size))
WRAP (ssize_t, pwrite64, ENOSPC, (int fd, const void *bytes, size_t size, off64_t at), (fd, bytes, size, at))
WRAP (int, fsync, EIO, (int fd), (fd))
WRAP (int, fdatasync, EIO, (int fd), (fd))
WRAP (int, ftruncate64, ENOSPC, (int fd, off64_t size), (fd, size))
WRAP (int, unlink, EIO, (const char *path), (path))
WRAP (int, mkdir, ENOSPC, (const char *path, mode_t mode), (path, mode))
WRAP (int, chmod, EIO, (const char *path, mode_t mode), (path, mode))
WRAP (int, stat, EIO, (const char *path, void *status), (path, status))
WRAP (int, stat64, EIO, (const char *path, void *status), (path, status))
WRAP (int, lstat, EIO, (const char *path, void *status), (path, status))
WRAP (int, lstat64, EIO, (const char *path, void *status), (path, status))
WRAP (int, fstat, EIO, (int fd, void *status), (fd, status))
WRAP (int, fstat64, EIO, (int fd, void *status), (fd, status))
WRAP (int, flock, ENOLCK, (int fd, int how), (fd, how))
WRAP (void *, mmap, ENOMEM, (void *at, size_t size, int may, int flags, int fd, off64_t from),
      (at, size, may, flags, fd, from))
WRAP (void *, mmap64, ENOMEM, (void *at, size_t size, int may, int flags, int fd, off64_t from),
      (at, size, may, flags, fd, from))
WRAP_NULL (void, opendir, EMFILE, (const char *path), (path))
WRAP_NULL (FILE, fdopen, ENOMEM, (int fd, const char *mode), (fd, mode))

/*  Sockets. */
WRAP (int, socket, EMFILE, (int family, int type, int protocol), (family, type, protocol))
WRAP (int, socketpair, EMFILE, (int family, int type, int protocol, void *pair),
      (family, type, protocol, pair))
WRAP (int, bind, EADDRINUSE, (int fd, const void *address, unsigned size), (fd, address, size))
WRAP (int, listen, EADDRINUSE, (int fd, int backlog), (fd, backlog))
WRAP (int, connect, ENETUNREACH, (int fd, const void *address, unsigned size), (fd, address, size))
WRAP (int, accept, EMFILE, (int fd, void *address, void *size), (fd, address, size))
WRAP (int, accept4, EMFILE, (int fd, void *address, void *size, int flags), (fd, address, size, flags))
WRAP (ssize_t, send, ECONNRESET, (int fd, const void *bytes, size_t size, int how), (fd, bytes, size, how))
WRAP (ssize_t, sendto, ENOBUFS,
      (int fd, const void *bytes, size_t size, int how, const void *to, unsigned to_size),
      (fd, bytes, size, how, to, to_size))
WRAP (ssize_t, sendmsg, ECONNRESET, (int fd, const void *message, int how), (fd, message, how))
WRAP (ssize_t, recv, ECONNRESET, (int fd, void *bytes, size_t size, int how), (fd, bytes, size, how))
WRAP (ssize_t, recvfrom, ECONNRESET, (int fd, void *bytes, size_t size, int how, void *from, void *from_size),
      (fd, bytes, size, how, from, from_size))
WRAP (ssize_t, recvmsg, ECONNRESET, (int fd, void *message, int how), (fd, message, how))
WRAP_CODE (getaddrinfo, -10 /* EAI_MEMORY */,
           (const char *host, const char *service, const void *hints, void *found),
           (host, service, hints, found))

/*  Waiting, waking, threads. */
WRAP (int, epoll_create1, EMFILE, (int flags), (flags))
WRAP (int, epoll_ctl, ENOMEM, (int epoll, int what, int fd, void *event), (epoll, what, fd, event))
WRAP (int, epoll_wait, EINTR, (int epoll, void *events, int count, int timeout),
      (epoll, events, count, timeout))
WRAP (int, poll, EINTR, (void *items, unsigned long count, int timeout), (items, count, timeout))
WRAP (int, eventfd, EMFILE, (unsigned first, int flags), (first, flags))
WRAP (int, signalfd, EMFILE, (int fd, const void *mask, int flags), (fd, mask, flags))
WRAP (ssize_t, getrandom, EINTR, (void *bytes, size_t size, unsigned flags), (bytes, size, flags))
WRAP_CODE (pthread_create, EAGAIN,
           (void *thread, const void *attributes, void *(*run) (void *), void *context),
           (thread, attributes, run, context))

/*  What a fortified program calls instead; the size was checked, or is here. */
ssize_t __read_chk (int fd, void *bytes, size_t size, size_t capacity);
ssize_t __read_chk (int fd, void *bytes, size_t size, size_t capacity)
{
    if (size > capacity)
        abort ();
    return read (fd, bytes, size);
}

int __poll_chk (void *items, unsigned long count, int timeout, size_t capacity);
int __poll_chk (void *items, unsigned long count, int timeout, size_t capacity)
{
    if (count > capacity / 8 /* bytes of an item */)
        abort ();
    return poll (items, count, timeout);
}
