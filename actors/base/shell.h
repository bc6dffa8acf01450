/*  shell.h - runs one actor: any core, on a thread of its own.

    The thread waits in one place for messages, HTTP, timers and orders; hands
    everything that came to the core; commits what the core asked to remember;
    and only then lets its messages and HTTP requests go out. That is a turn. While
    much is in flight and there is much to remember, turns are not taken one right after
    the other but every 2 ms, so that each commit is shared by more.
*/
#ifndef GUERDON_SHELL_H
#define GUERDON_SHELL_H

#include "actors/base/bus.h"
#include "actors/base/http_client.h"
#include "actors/base/monitor.h"
#include "actors/base/tap.h"
#include "include/actor.h"

/*  Where REMEMBER goes and RECALL is answered: the functions of journal.h, or
    others with the same promises. Called from the actor's thread only. While
    `commit` refuses, or `recall` cannot be answered, the shell holds the turn back,
    takes nothing new, says so in /ready, and tries again. */
struct journal_port {
    void *journal;
    void (*append) (void *journal, const struct message *remember);
    bool (*commit) (void *journal);
    const char *(*trouble) (const void *journal);
    bool (*recall) (void *journal, struct message *recall,
                    void (*hand) (void *context, const struct message *message), void *context);
    void (*tend) (void *journal, uint64_t wall_ms);
};

struct shell_options {
    const struct actor_spec *spec;
    const struct settings *settings;
    struct bus_options bus;
    struct http_target target; /* where spec->service is */
    const char *statsd_host;   /* NULL: datagrams are dropped */
    uint16_t statsd_port;
    struct journal_port journal; /* journal NULL: nothing is remembered */
    struct tap *tap;             /* NULL: nobody can look */
    struct monitor *monitor;

    /*  Told, from the actor's thread, of every HEALTH, DONE and DRAINED of the core;
        of DONE and DRAINED only when everything before them is on disk and out. */
    void (*notify) (void *context, enum role role, const struct message *message);
    void *notify_context;
};

struct shell;

/*  Opens everything the actor needs; nothing runs yet. NULL with a reason. The
    options are copied; what they point to outlives the shell. */
struct shell *shell_new (const struct shell_options *options, char *reason, size_t reason_size);

/*  Starts the thread, with START as the core's first message. */
bool shell_start (struct shell *shell);

/*  Hands the core a message of its shell, such as RETRY, in its next turn. From any
    thread. False when the message does not fit its limits, or too many wait. */
bool shell_post (struct shell *shell, const struct message *message);

/*  Hands the core a DRAIN. From any thread; later calls do nothing. */
void shell_drain (struct shell *shell);

/*  Ends the thread after its current turn, closes everything. */
void shell_destroy (struct shell **shell);

#endif
