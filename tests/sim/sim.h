/*  sim.h - the whole system in one thread, under virtual time, from one seed.

    The cores are those of the rooms, the sessions and the outbox those of the
    shared shell. Around them everything is simulated: the shell's turn
    (sim_shell.c), the network below the sessions (sim_net.c), the disks
    (sim_disk.c), the services (sim_http.c, sim_events.c, sim_usermeta.c,
    sim_currency.c), the processes and what befalls them (sim_world.c,
    sim_plan.c). sim_check.c watches what is promised.

    Nothing here reads a clock or draws from anything but the seed, so a seed
    replays to the byte.
*/
#ifndef GUERDON_SIM_H
#define GUERDON_SIM_H

#include <stdio.h>

#include "actors/base/outbox.h"
#include "actors/base/session.h"
#include "include/actor.h"

enum {
    PROCESSES_MAX = 8,
    ACTORS_MAX = 12,
    HOPS_MAX = 12,
    SHARDS_MAX = 3,
    USERS_MAX = 40,
    POSTINGS_MAX = 160,
    MISHAPS_MAX = 96,
    USER_TEXT_MAX = 24,
    GRANTS_MAX = 256,
    PENDING_MAX = 96
};

/*  What may befall: bits of --faults. */
enum {
    FAULTS_NETWORK = 1,
    FAULTS_SERVICES = 2,
    FAULTS_DISK = 4,
    FAULTS_CLOCK = 8,
    FAULTS_KILL = 16,
    FAULTS_LOSE = 32,
    FAULTS_ALL = 63
};

struct sim;
struct process;

/*  ---- time --------------------------------------------------------------- */

enum alarm_kind {
    ALARM_TURN,   /* an actor takes a turn */
    ALARM_FRAME,  /* a frame of a session arrives */
    ALARM_CALL,   /* an HTTP call takes its next step */
    ALARM_EVENT,  /* an event becomes visible */
    ALARM_MISHAP, /* something befalls */
    ALARM_START,  /* a process starts */
    ALARM_LOOK    /* time to see whether all is at rest */
};

struct alarm {
    uint64_t at_ms;
    uint64_t order; /* of those at one time, as they were set */
    enum alarm_kind kind;
    uint32_t who;  /* actor, process, event or mishap */
    uint64_t life; /* of the process or the step of a call; another one is stale */
    void *what;    /* frame or call */
};

/*  ---- HTTP --------------------------------------------------------------- */

/*  What becomes of a request: drawn when it starts. */
enum fate {
    FATE_GOOD,
    FATE_REFUSED,      /* no connection */
    FATE_ERROR_BEFORE, /* 500, and nothing was done */
    FATE_ERROR_AFTER,  /* done, and 500 */
    FATE_RESET_BEFORE, /* the connection breaks, nothing was done */
    FATE_RESET_AFTER,  /* done, and the connection breaks */
    FATE_HANG_BEFORE,  /* no answer, nothing was done */
    FATE_HANG_AFTER,   /* done, and no answer */
    FATE_HANG_LATE,    /* done only when the connection ends, or shortly after */
    FATE_GARBAGE,      /* a read: no JSON */
    FATE_CUT,          /* a read of a list: breaks off in the middle */
    FATE_SLOW_DOWN,    /* 429 or 503 with Retry-After, nothing was done */
    FATE_DENIED,       /* a read of usermeta: the secret is wrong */
    FATES
};

enum call_step { CALL_CONNECT, CALL_ARRIVE, CALL_HOLD, CALL_ANSWER, CALL_LATE, CALL_TIMEOUT };

struct call {
    struct call *all;     /* of the world's */
    struct call *next;    /* of its actor's, or the next free one */
    struct call *poll;    /* of those that the events service holds */
    struct actor *client; /* NULL when the connection has ended */
    uint64_t step;        /* alarms of other steps are stale */
    enum call_step due;
    uint64_t id;
    uint64_t trace;
    enum service service;
    enum method method;
    char *path; /* terminated */
    uint8_t *body;
    uint32_t body_size;
    uint64_t timeout_ms;
    uint64_t started_ms;
    enum fate fate;
    bool started, connected, arrived, held;
    struct http_answer answer; /* its body points to answer_bytes */
    uint8_t *answer_bytes;
};

/*  ---- actors ------------------------------------------------------------- */

/*  Something that waits in a mailbox. */
struct mail {
    struct mail *next;
    struct address from;
    bool remote;
    uint32_t actor;   /* who that is */
    uint64_t life;    /* of its process */
    size_t head_size; /* of a frame of a session */
    size_t size;      /* of the payload, behind the head; 0: none */
    uint8_t bytes[];
};

struct hop {
    struct address peer;
    uint32_t actor; /* who that is */
    struct session *session;
    uint64_t last_ms; /* when the last frame in order arrives there */
};

struct happening { /* HTTP that waits to be handed over */
    struct happening *next;
    struct message message;
    uint8_t bytes[];
};

struct actor {
    struct sim *sim;
    uint32_t number; /* in the world */
    struct process *process;
    const struct actor_spec *spec;
    struct address self;
    char name[24];

    void *state; /* NULL: not running */
    size_t state_size;
    struct effects effects;
    struct settings settings;
    struct outbox *outbox;
    struct moment now;
    uint64_t timers[TIMERS_MAX];
    uint64_t counts[COUNTER_IGNORED + 1];
    struct message recalls[4];
    unsigned recall_count;
    struct mail *mail, **mail_end;
    struct happening *http, **http_end;
    struct call *calls; /* held back or under way */
    struct hop hops[HOPS_MAX];
    unsigned hop_count;
    uint64_t heard[ACTORS_MAX]; /* the newest life of each that was heard */
    uint64_t turn_ms;           /* when the next turn is; UINT64_MAX: none */
    uint64_t retry_commit_ms;
    bool fresh; /* START is still to come */
    bool busy, uncommitted, blocked, drained;
    uint64_t in_flight; /* as its gauge says */
};

struct process {
    uint32_t number;
    bool up;
    bool doomed;    /* dies as soon as the turn unwinds */
    uint64_t life;  /* starts and ends, ever */
    unsigned lives; /* starts */
    uint64_t steady_base_ms;
    int64_t wall_jump_ms;
    uint64_t points;  /* in this life: places where it could be killed */
    uint64_t kill_at; /* dies at this point; 0: not */
    bool loses_disk;  /* when it dies */
    uint64_t down_ms; /* how long it stays dead */
    bool drains;
};

/*  ---- disks -------------------------------------------------------------- */

struct grant_record {
    uint64_t grant, position, trace, at_ms;
    int64_t timestamp, amount;
    enum grant_state state;
    char user[USER_TEXT_MAX], reward[32], currency[32];
};

enum disk_trouble { DISK_GOOD, DISK_FULL, DISK_SYNC };

struct disk {
    struct grant_record grants[GRANTS_MAX]; /* durable */
    uint32_t count;
    uint64_t newest;
    struct grant_record pending[PENDING_MAX]; /* of the transaction */
    uint32_t pending_count;
    enum disk_trouble trouble;
    /*  As the desk keeps them: what a person asked for, of each grant; 0: nothing, or it
        was told that it is done. Two orders for one grant are not taken at once. */
    uint64_t orders[GRANTS_MAX];
    uint32_t answered; /* of them, those that are done when the turn is committed */
};

/*  ---- the services' books ------------------------------------------------ */

enum event_kind { EVENT_LOGIN, EVENT_OTHER_APP, EVENT_OTHER_TYPE, EVENT_NO_USER, EVENT_NEVER };

struct posting {
    enum event_kind kind;
    uint32_t user;
    uint64_t visible_ms; /* world time */
    bool visible;
    bool settled; /* a decision said so */
    bool loose;   /* a process that had it is gone, so its turn is not known any more */
};

enum user_kind {
    USER_DUE,      /* is to be rewarded, once */
    USER_NO_AUTH,  /* is no player of app 1 */
    USER_EMPTY,    /* has an empty auth */
    USER_REWARDED, /* was rewarded before the story begins */
    USER_UNFIT,    /* an id that usermeta cannot store */
    USER_POISON    /* the service refuses the reward for good */
};

struct reward_entry {
    uint64_t number;
    uint64_t visible_ms;
    uint64_t timestamp;
};

struct user {
    char id[USER_TEXT_MAX];
    enum user_kind kind;
    char marker[24]; /* empty: none */
    bool marked;
    struct reward_entry rewards[4];
    uint32_t reward_count;
    uint32_t logins;              /* visible events that make it due */
    bool intended;                /* a journal said so at some time */
    bool parked;                  /* a journal says refused or uncertain, or said so */
    bool given_up;                /* by a person, or what was parked is lost with its disk */
    uint32_t tries;               /* that a person asked for */
    uint32_t queue[POSTINGS_MAX]; /* its events that a decision has and has not settled, as they came */
    uint32_t queue_count;
};

/*  ---- what befalls ------------------------------------------------------- */

enum mishap_kind {
    MISHAP_KILL,
    MISHAP_PARTITION,
    MISHAP_SERVICE,
    MISHAP_DISK,
    MISHAP_CLOCK,
    MISHAP_PERSON, /* looks at what is parked */
    MISHAP_HEAL    /* the end of one of those */
};

struct mishap {
    enum mishap_kind kind;
    uint64_t at_ms;
    uint64_t until_ms;
    uint32_t a, b;       /* processes, a service, a shard */
    uint64_t amount;     /* of a jump, a number of points, a probability */
    uint32_t fate;       /* of requests: which fates, bits */
    bool loses, one_way; /* disk; direction */
    enum mishap_kind ends;
};

struct trouble { /* of a service, now */
    uint32_t permille;
    uint32_t fates; /* bits */
};

/*  ---- the world ---------------------------------------------------------- */

enum layout { LAYOUT_ONE, LAYOUT_SPLIT, LAYOUT_SHARDS, LAYOUT_MIXED, LAYOUTS };

struct sim_options {
    uint64_t seed;
    unsigned faults;
    bool calm; /* crash points: a fixed story, nothing is drawn */
    enum layout layout;
    unsigned calm_users;
    uint32_t victim;     /* process */
    uint64_t kill_at[2]; /* points, of its first and second life */
    bool loses[2];       /* the disk goes with it */
    unsigned variant;    /* of requests that were under way: 0 not done, 1 done at once, 2 done late */
    FILE *trace;         /* NULL: nobody looks */
};

struct sim {
    struct sim_options options;
    uint64_t random;
    uint64_t now_ms;
    struct settings settings;

    struct alarm *heap;
    uint32_t heap_count, heap_capacity;
    uint64_t order;

    struct process processes[PROCESSES_MAX];
    uint32_t process_count;
    struct actor actors[ACTORS_MAX];
    uint32_t actor_count;
    struct disk disks[SHARDS_MAX];

    struct mishap mishaps[MISHAPS_MAX];
    uint32_t mishap_count;
    uint64_t heal_ms; /* nothing befalls from here on */
    uint64_t rest_since_ms;
    uint32_t loss, twice, shuffle;              /* permille of frames */
    uint64_t cut[PROCESSES_MAX][PROCESSES_MAX]; /* until when frames do not pass */
    struct trouble trouble[SERVICE_CURRENCY + 1];

    struct posting events[POSTINGS_MAX + 1]; /* by id */
    uint32_t event_count;
    uint64_t hold_ms; /* how long the events service holds a poll */
    uint64_t acked;   /* the position stored for our client id */
    bool has_acked;
    uint64_t checked;   /* up to here acknowledgements were looked at */
    struct call *polls; /* held */
    struct call *all_calls, *free_calls;
    struct user users[USERS_MAX];
    uint32_t user_count;
    bool probed; /* usermeta has a value of the probe's user */
    uint64_t reward_number;
    bool no_listing, listing_ascends, knows_before;
    uint32_t listing_page;

    uint64_t totals[COUNTER_IGNORED + 1]; /* as StatsD was told */
    uint64_t happened;                    /* alarms that went off */
    uint64_t asked, answered;             /* by a person, and to one */
    uint64_t person_ms;                   /* when a person looks next, after the story */
    bool drops_counts;                    /* somebody who counts was killed */
    bool may_park;
    bool done;
    bool failed;
    char failure[512];
};

/*  sim_world.c */
uint64_t draw (struct sim *sim, uint64_t bound); /* 0 … bound - 1 */
bool chance (struct sim *sim, uint32_t permille);
uint64_t between (struct sim *sim, uint64_t low, uint64_t high);
void set_alarm (struct sim *sim, uint64_t at_ms, enum alarm_kind kind, uint32_t who, uint64_t life,
                void *what);
struct actor *actor_at (struct sim *sim, struct address address);
void process_start (struct sim *sim, struct process *process);
void process_kill (struct sim *sim, struct process *process);
bool sim_run (struct sim *sim, const struct sim_options *options); /* false: a promise was broken */
void sim_clear (struct sim *sim);

/*  sim_plan.c: who is there, what happens when */
void plan_world (struct sim *sim);
void befall (struct sim *sim, struct mishap *mishap);

/*  sim_shell.c */
void actor_start (struct actor *actor);
void actor_stop (struct actor *actor);
void actor_turn (struct actor *actor);
void actor_wake (struct actor *actor, uint64_t at_ms);
void actor_post (struct actor *actor, const struct message *message); /* its texts outlive the world */
bool point (struct actor *actor);                                     /* false: the process was killed here */

/*  sim_net.c */
void net_open (struct actor *actor);
void net_close (struct actor *actor);
bool net_send (struct actor *actor, struct address to, const void *bytes, size_t size);
void net_work (struct actor *actor);
uint64_t net_due (const struct actor *actor);
void net_arrive (struct actor *actor, struct mail *mail);
enum session_input net_take (struct actor *actor, struct mail *mail, bool held);
bool net_lost (struct actor *actor, struct address *peer);
uint32_t net_unacknowledged (struct actor *actor, struct address peer);

/*  sim_disk.c */
void disk_append (struct sim *sim, uint32_t shard, const struct message *message);
bool disk_commit (struct sim *sim, uint32_t shard);
void disk_recall (struct actor *actor, const struct message *recall,
                  void (*hand) (struct actor *actor, const struct message *message));
void disk_die (struct sim *sim, uint32_t shard, bool lost);

/*  The decision answered a person, who hears of it when that is committed. */
void disk_done (struct sim *sim, uint32_t shard, uint64_t request);
void disk_person (struct sim *sim, uint32_t shard); /* has what is parked tried again, or gives it up */

/*  sim_http.c */
void http_put (struct actor *actor, const struct message *request);
void http_cancel (struct actor *actor, uint64_t request);
void http_start (struct actor *actor);
void http_stop (struct actor *actor);
void http_clear (struct sim *sim);
void call_due (struct sim *sim, struct call *call, uint64_t step);
void call_answer (struct sim *sim, struct call *call, uint64_t delay_ms);
void call_hold (struct sim *sim, struct call *call, uint64_t until_ms);
void set_answer (struct call *call, unsigned status, const struct packer *packer);
void set_status (struct call *call, unsigned status);
uint32_t path_part (const char *path, unsigned index, char *memory, size_t size); /* percent-decoded */
bool path_query (const char *path, const char *name, char *memory, size_t size);
struct user *user_named (struct sim *sim, const char *id);

/*  The services: each does what is asked and sets the answer. */
void events_serve (struct sim *sim, struct call *call);
void events_visible (struct sim *sim, uint32_t id);
void usermeta_serve (struct sim *sim, struct call *call);
void currency_serve (struct sim *sim, struct call *call);

/*  sim_check.c */
void violate (struct sim *sim, const char *format, ...) __attribute__ ((format (printf, 2, 3)));
void check_handed (struct actor *actor, const struct message *message);
void check_put (struct actor *actor, struct address to, const struct message *message);
void check_acked (struct sim *sim, uint64_t after);
void check_marked (struct sim *sim, const struct user *user);
void check_rewarded (struct sim *sim, const struct user *user);
void check_grant (struct sim *sim, const struct grant_record *before, const struct grant_record *after);
void check_forgot (struct sim *sim, const struct process *process);
void check_rest (struct sim *sim);

/*  sim_trace.c */
void trace_line (struct sim *sim, const struct actor *actor, const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));
void trace_message (const struct actor *actor, const char *what, struct address other,
                    const struct message *message);

/*  sim_campaign.c: many seeds on both processors, and what they found */
int campaign_seeds (uint64_t first, uint64_t last, unsigned faults, unsigned minutes);
int campaign_trace (uint64_t seed, unsigned faults);
int campaign_mistakes (uint64_t seeds);

/*  sim_crash.c: every place where a process may die */
int crash_points (unsigned stride);
bool crash_trace (const char *numbers); /* false: they name no story */

#endif
