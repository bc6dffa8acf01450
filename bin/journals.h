/*  journals.h - the journals of a state directory, asked wherever they are: of the
    decision that has one, or in the file when no process does.
*/
#ifndef GUERDON_JOURNALS_H
#define GUERDON_JOURNALS_H

#include "proto/message.h"

enum { JOURNALS_MAX = 256, STATE_DIR_SIZE = 1100 };

/*  The journals there are, also of decisions that exist no more. */
struct journals {
    char state_dir[STATE_DIR_SIZE];
    uint16_t shards[JOURNALS_MAX]; /* in their order */
    unsigned count;
};

/*  Looks for them in STATE_DIR of the environment, of the env-file (NULL: none), or
    its default. EXIT_OK; or an exit code, after the mistake was named on stderr. That
    there are none is a mistake: the wrong directory, mostly. */
int journals_find (struct journals *journals, const char *command, const char *env_file);

/*  Whoever asks one journal after the other, and page by page. A journal may go from
    a process to none and back between two questions. */
struct inquiry;

/*  NULL when out of memory. The journals outlive it. */
struct inquiry *inquiry_new (const struct journals *journals);
void inquiry_destroy (struct inquiry **inquiry);

/*  Hands over the grants of a journal that `look` asks for, page by page; an order
    may be given meanwhile. Ends early when it is told so by false. False with a reason
    when the journal cannot be read. */
bool inquiry_walk (struct inquiry *inquiry, uint16_t shard, struct look look,
                   bool (*take) (void *context, uint16_t shard, const struct message *listed), void *context,
                   char *reason, size_t reason_size);

/*  What came of an order. */
enum order_result {
    ORDER_DONE,     /* by the decision */
    ORDER_FILED,    /* in the file: the next start goes on with it */
    ORDER_LATER,    /* refused for want of room: ask again */
    ORDER_REFUSED,  /* nothing was done */
    ORDER_UNCERTAIN /* no answer: it may still be done */
};

/*  Gives an order, REDO or FORGO, to a journal; a reason for what is not done. */
enum order_result inquiry_order (struct inquiry *inquiry, uint16_t shard, const struct message *order,
                                 char *reason, size_t reason_size);

/*  Whether a process has another journal of the directory: then nobody has this one
    because its decision is away, or exists no more. */
bool inquiry_others_run (const struct inquiry *inquiry, uint16_t shard);

#endif
