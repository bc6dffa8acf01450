/*  command_tap.c - guerdon tap: shows every message of one process or many. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/base/bus.h"
#include "actors/base/clock.h"
#include "actors/base/curve.h"
#include "bin/command.h"
#include "bin/tap_order.h"
#include "bin/tap_show.h"
#include "bin/topology.h"
#include "proto/codec.h"
#include "proto/text.h"

enum {
    WAIT_MS = 100,        /* between two looks at the clock and at signals */
    STREAMS_MAX = 4096,   /* process, actor and message, each counted by itself */
    TWINS_MAX = 8192,     /* values whose other end may still show them */
    TRACES_MAX = 8192,    /* of the player that is looked for */
    USER_ASKED_MAX = 256, /* bytes of a player's id in a topic; the rest is looked at here */
    RECORD_HEAD_SIZE = 16 /* of a recording */
};

static const char record_head[RECORD_HEAD_SIZE + 1] = "guerdon tap 1\n\0\0";

static const char *const help =
    "Shows every message that the actors of a process say and hear, as it happens: at ENDPOINT, or at\n"
    "several, or where this configuration has its tap (TAP_ENDPOINT, or tap.sock in STATE_DIR). The\n"
    "process may start later and come back; Ctrl-C ends it.\n"
    "Exit codes: 0 ended, 1 could not look, 64 usage.";

/*  What was asked for. */
struct wishes {
    const char *endpoints[TAP_ENDPOINTS_MAX];
    size_t endpoint_count;
    const char *actor;
    const char *type;
    const char *user;
    const char *format;
    const char *count;
    const char *seconds;
    const char *sample;
    const char *record;
    const char *replay;
    bool json;
    bool colour;
    uint64_t count_max;   /* UINT64_MAX: no bound */
    uint64_t seconds_max; /* UINT64_MAX: no bound */
    uint64_t one_in;
};

/*  One stream of values, whose numbers tell what was lost. */
struct stream {
    uint64_t hash; /* of process and actor, for numbers of values of the message too; 0: free */
    uint64_t number;
};

/*  A value that one end of a hop has shown: the other end's is the same. */
struct twin {
    uint64_t hash; /* of both ends and the message */
    uint32_t count;
    bool sent; /* which end it was */
};

struct looking {
    const struct wishes *wishes;
    FILE *recording;
    struct tap_order *order; /* of several endpoints; NULL: as they come */
    uint64_t shown;
    uint64_t untraced; /* values that belong to no trace, so far */
    uint64_t lost;
    uint64_t told_lost;
    bool gaps_count; /* without a filter by user every number is seen */
    struct stream streams[STREAMS_MAX];
    struct twin twins[TWINS_MAX];
    uint64_t traces[TRACES_MAX]; /* of messages about the player, each where its value says */
};

static volatile sig_atomic_t interrupted;

static void on_signal (int number)
{
    (void) number;
    interrupted = 1;
}

/*  ---- one value ---------------------------------------------------------- */

/*  The actor of the process that showed it: who sent or who received. */
static struct text actor_of (const struct tap_record *record)
{
    struct text side = text_equal (record->direction, TEXT_LITERAL ("sent")) ? record->from : record->to;
    for (uint32_t i = 0; i < side.size; i++)
        if (side.data[i] == '/')
            return (struct text){ side.data, i };
    return side;
}

/*  Remembers a number of a stream; the one before it, or this one when the
    stream is new. */
static uint64_t swap_number (struct looking *looking, uint64_t hash, uint64_t number)
{
    struct stream *stream = &looking->streams[hash % STREAMS_MAX];
    uint64_t before = stream->hash == hash ? stream->number : number;
    *stream = (struct stream){ hash, number };
    return before;
}

/*  Counts what is missing between this value and the one before it: what was
    lost on the way here, and what the actor could not hand to its tap. */
static void count_lost (struct looking *looking, const struct tap_record *record,
                        const struct message_spec *spec)
{
    uint64_t actor = text_hash (record->process, 1) ^ text_hash (actor_of (record), 2);
    uint64_t before = swap_number (looking, actor ^ (uint64_t) spec->id * 7919, record->sequence);
    if (looking->gaps_count && record->sequence > before + 1)
        looking->lost += record->sequence - before - 1;
    before = swap_number (looking, actor, record->lost);
    if (record->lost > before)
        looking->lost += record->lost - before;
}

/*  Whether messages of this name say which player they are about. */
static bool has_user (const struct message_spec *spec)
{
    bool found = spec->id == MESSAGE_EVENT;
    for (size_t i = 0; i < spec->count; i++)
        found |= spec->fields[i].type == FIELD_TEXT && strcmp (spec->fields[i].name, "user") == 0;
    return found;
}

/*  Whether a value was shown already, by the tap at the other end of its hop. With
    an equal number of both, each is shown once, whichever comes first. */
static bool is_twin (struct looking *looking, const struct tap_record *record)
{
    struct text message = { (const char *) record->message.data, record->message.size };
    uint64_t hash = text_hash (message, text_hash (record->from, 1) ^ text_hash (record->to, 2) * 3);
    bool sent = text_equal (record->direction, TEXT_LITERAL ("sent"));
    struct twin *twin = &looking->twins[hash % TWINS_MAX];
    if (twin->hash != hash || !twin->count) {
        *twin = (struct twin){ hash, 1, sent };
        return false;
    }
    if (twin->sent == sent) {
        twin->count++;
        return false;
    }
    twin->count--;
    return true;
}

/*  Answers name no player, but follow a message that did, under its trace. */
static bool is_about (struct looking *looking, const struct message_spec *spec, const struct message *message,
                      struct text user)
{
    uint64_t *trace = &looking->traces[message->trace % TRACES_MAX];
    struct text named = tap_user (spec, message);
    if (!named.size || !text_equal (named, user))
        return !has_user (spec) && message->trace && *trace == message->trace;
    *trace = message->trace;
    return true;
}

static bool is_role (struct text address, const char *role)
{
    size_t size = strlen (role);
    return address.size > size && memcmp (address.data, role, size) == 0 && address.data[size] == '/';
}

static bool is_wanted (struct looking *looking, const struct tap_record *record,
                       const struct message_spec *spec, const struct message *message)
{
    const struct wishes *wishes = looking->wishes;
    if (wishes->user && !is_about (looking, spec, message, text_of (wishes->user)))
        return false;
    if (wishes->actor && !is_role (record->from, wishes->actor) && !is_role (record->to, wishes->actor))
        return false;
    if (wishes->type && strcmp (wishes->type, spec->name) != 0)
        return false;
    /*  Both ends of a hop may be tapped: one is enough. A recording has just one. */
    return wishes->replay || message->id >= (enum message_id) MESSAGE_LOCAL_MIN || !is_twin (looking, record);
}

/*  One in so many: whole traces, and the same ones in every tap. What belongs to
    none is taken one by one. */
static bool is_sampled (struct looking *looking, const struct message *message)
{
    uint64_t one_in = looking->wishes->one_in;
    if (!message->trace)
        return looking->untraced++ % one_in == 0;
    return text_hash ((struct text){ (const char *) &message->trace, sizeof message->trace }, 1) % one_in ==
           0;
}

static void record_value (struct looking *looking, struct raw body)
{
    uint8_t size[4] = { (uint8_t) body.size, (uint8_t) (body.size >> 8), (uint8_t) (body.size >> 16),
                        (uint8_t) (body.size >> 24) };
    fwrite (size, 1, sizeof size, looking->recording);
    fwrite (body.data, 1, body.size, looking->recording);
}

static void show (struct looking *looking, const struct tap_record *record)
{
    const struct wishes *wishes = looking->wishes;
    struct decoder decoder;
    struct message message;
    if (decode_begin (&decoder, record->message.data, record->message.size, true) != DECODE_OK ||
        decode_next (&decoder, &message) != DECODE_OK)
        return;
    count_lost (looking, record, decoder.spec);
    if (!is_wanted (looking, record, decoder.spec, &message) || !is_sampled (looking, &message))
        return;
    looking->shown++;
    if (looking->recording)
        record_value (looking, record->body);
    else if (wishes->json)
        tap_show_json (record, decoder.spec, &message);
    else
        tap_show_text (record, decoder.spec, &message, wishes->colour);
}

/*  ---- looking ------------------------------------------------------------ */

/*  Whether what one actor says may be for another, by who talks to whom. */
static bool may_talk (enum role from, enum role to)
{
    return topology_callers (to) & 1u << from || topology_callers (from) & 1u << to;
}

/*  One topic for each message of an actor that may be asked for. */
static bool subscribe_actor (struct tap_reader *reader, const struct wishes *wishes, const char *actor)
{
    bool good = true;
    for (unsigned id = 1; good && id <= MESSAGE_ID_MAX; id++) {
        const struct message_spec *spec = message_spec (id);
        /*  A player's trace is followed through types that are not shown. */
        if (!spec || (wishes->type && !wishes->user && strcmp (wishes->type, spec->name) != 0))
            continue;
        char topic[TAP_TOPIC_SIZE_MAX];
        int size = snprintf (topic, sizeof topic, "%s %s %.*s", actor, spec->name, USER_ASKED_MAX,
                             wishes->user && has_user (spec) ? wishes->user : "");
        good = size > 0 && (size_t) size < sizeof topic &&
               tap_reader_want (reader, (struct text){ topic, (uint32_t) size });
    }
    return good;
}

/*  The topics that bring what is asked for and as little else as prefixes allow:
    a topic names the actor that shows a message, and within a process that is
    the one that says it. */
static bool subscribe (struct tap_reader *reader, const struct wishes *wishes)
{
    bool good = true;
    if (!wishes->actor && !wishes->type && !wishes->user)
        return tap_reader_want (reader, NO_TEXT);
    enum role wanted = wishes->actor ? topology_role (text_of (wishes->actor)) : ROLE_SHELL;
    for (unsigned i = 0; good && i < topology_count; i++) {
        enum role role = topology[i].spec->role;
        if (wanted == ROLE_SHELL || wanted == role || may_talk (role, wanted))
            good = subscribe_actor (reader, wishes, role_name (role));
    }
    return good;
}

static void tell_lost (struct looking *looking)
{
    if (looking->lost == looking->told_lost)
        return;
    fflush (stdout);
    fprintf (stderr, "guerdon tap: %" PRIu64 " values were lost so far: this tap is too slow for them\n",
             looking->lost);
    looking->told_lost = looking->lost;
}

/*  The last words. */
static void tell_all (const struct looking *looking)
{
    uint64_t late = looking->order ? tap_order_late (looking->order) : 0;
    fprintf (stderr, "guerdon tap: %" PRIu64 " shown, %" PRIu64 " lost", looking->shown, looking->lost);
    if (late)
        fprintf (stderr, ", %" PRIu64 " came too late to be shown in the order of time", late);
    fputc ('\n', stderr);
}

static bool is_done (const struct looking *looking)
{
    return looking->shown >= looking->wishes->count_max || ferror (stdout);
}

/*  Shows what was held long enough, or everything. */
static void let_out (struct looking *looking, bool everything)
{
    struct raw body;
    struct tap_record record;
    while (looking->order && !is_done (looking) &&
           tap_order_take (looking->order, clock_steady_ms (), everything, &body))
        if (tap_record_read (body, &record))
            show (looking, &record);
}

/*  Takes one value; false when none came. What is held goes out when nothing more
    waits, or there is no more room. */
static bool take (struct looking *looking, struct tap_reader *reader)
{
    struct tap_record record;
    uint64_t now_ms = clock_steady_ms ();
    uint64_t due_ms = looking->order ? tap_order_due_ms (looking->order) : UINT64_MAX;
    uint64_t left_ms = due_ms > now_ms ? due_ms - now_ms : 0;
    if (!tap_reader_next (reader, left_ms < WAIT_MS ? (long) left_ms : WAIT_MS, &record)) {
        let_out (looking, false);
        return false;
    }
    if (!looking->order) {
        show (looking, &record);
        return true;
    }
    looking->lost += !tap_order_put (looking->order, record.time_us, record.body, clock_steady_ms ());
    if (tap_order_due_ms (looking->order) == 0)
        let_out (looking, false);
    return true;
}

static void look (struct looking *looking, struct tap_reader *reader)
{
    const struct wishes *wishes = looking->wishes;
    uint64_t begun_ms = clock_steady_ms ();
    uint64_t told_ms = begun_ms;
    while (!interrupted && !is_done (looking)) {
        uint64_t now_ms = clock_steady_ms ();
        if (wishes->seconds_max != UINT64_MAX && now_ms - begun_ms >= wishes->seconds_max * 1000)
            break;
        if (!take (looking, reader))
            fflush (looking->recording ? looking->recording : stdout);
        if (now_ms - told_ms >= 1000) {
            told_ms = now_ms;
            tell_lost (looking);
        }
    }
    let_out (looking, true);
}

/*  ---- a recording -------------------------------------------------------- */

static int replay (struct looking *looking)
{
    const struct wishes *wishes = looking->wishes;
    char head[RECORD_HEAD_SIZE];
    uint8_t size[4];
    static uint8_t body[TAP_BODY_SIZE_MAX];
    FILE *file = fopen (wishes->replay, "re");
    if (!file) {
        fprintf (stderr, "guerdon tap: %s: %s\n", wishes->replay, strerror (errno));
        return EXIT_FAILED;
    }
    bool good =
        fread (head, 1, sizeof head, file) == sizeof head && memcmp (head, record_head, sizeof head) == 0;
    while (good && looking->shown < wishes->count_max && !interrupted &&
           fread (size, 1, sizeof size, file) == sizeof size) {
        uint32_t bytes =
            size[0] | (uint32_t) size[1] << 8 | (uint32_t) size[2] << 16 | (uint32_t) size[3] << 24;
        struct tap_record record;
        good = bytes <= sizeof body && fread (body, 1, bytes, file) == bytes &&
               tap_record_read ((struct raw){ body, bytes }, &record);
        if (good)
            show (looking, &record);
    }
    fclose (file);
    if (!good)
        fprintf (stderr, "guerdon tap: %s: not a recording of this version, or it ends early\n",
                 wishes->replay);
    return good ? EXIT_OK : EXIT_FAILED;
}

/*  ---- the command -------------------------------------------------------- */

/*  Reads a number from 1 on; false after naming the option. */
static bool read_number (const char *option, const char *text, uint64_t *number, int *code)
{
    if (!text || (text_to_uint (text_of (text), UINT32_MAX, number) && *number > 0))
        return true;
    *code = command_usage ("tap", "--%s %s: expected a whole number from 1", option, text);
    return false;
}

static bool check_wishes (struct wishes *wishes, int *code)
{
    bool known_type = !wishes->type;
    for (unsigned id = 1; id <= MESSAGE_ID_MAX; id++)
        known_type |=
            wishes->type && message_spec (id) && strcmp (message_spec (id)->name, wishes->type) == 0;
    wishes->json = wishes->format && strcmp (wishes->format, "json") == 0;
    wishes->colour = !wishes->json && isatty (STDOUT_FILENO) == 1;
    wishes->count_max = wishes->seconds_max = UINT64_MAX;
    wishes->one_in = 1;
    if (wishes->format && !wishes->json && strcmp (wishes->format, "text") != 0)
        *code = command_usage ("tap", "--format %s: expected text or json", wishes->format);
    else if (wishes->actor && topology_role (text_of (wishes->actor)) == ROLE_SHELL)
        *code = command_usage (
            "tap", "--actor %s: expected ingest, decision, usermeta-client, currency-client or stats",
            wishes->actor);
    else if (!known_type)
        *code = command_usage ("tap", "--type %s: expected the name of a message, such as event or settled",
                               wishes->type);
    else if (wishes->record && wishes->replay)
        *code = command_usage ("tap", "--record and --replay exclude each other");
    else
        return read_number ("count", wishes->count, &wishes->count_max, code) &&
               read_number ("for", wishes->seconds, &wishes->seconds_max, code) &&
               read_number ("sample", wishes->sample, &wishes->one_in, code);
    return false;
}

/*  Without an endpoint: where this configuration has its tap. */
static bool find_endpoint (struct wishes *wishes, char *memory, size_t capacity)
{
    const char *given = getenv ("TAP_ENDPOINT");
    char directory[2048];
    if (wishes->endpoint_count)
        return true;
    if (given && *given)
        snprintf (memory, capacity, "%s", given);
    else if (config_state_dir (directory, sizeof directory))
        snprintf (memory, capacity, "ipc://%s/tap.sock", directory);
    else
        return false;
    wishes->endpoints[wishes->endpoint_count++] = memory;
    return true;
}

static bool needs_keys (const struct wishes *wishes)
{
    for (size_t i = 0; i < wishes->endpoint_count; i++)
        if (strncmp (wishes->endpoints[i], "tcp:", 4) == 0)
            return getenv ("CURVE_DIR") != NULL;
    return false;
}

/*  Who looks yields to who works, on the same host: it runs when a processor has
    nothing else to do, as what publishes does. */
static void yield_to_work (void)
{
    const struct sched_param none = { 0 };
    if (sched_setscheduler (0, SCHED_IDLE, &none) != 0)
        fprintf (stderr, "guerdon tap: priority: %s\n", strerror (errno));
}

static int attach (struct looking *looking)
{
    const struct wishes *wishes = looking->wishes;
    char reason[512] = "out of memory";
    struct curve *curve = NULL;
    struct tap_reader *reader = NULL;
    void *context = bus_context_new ();
    bool good = context != NULL;
    yield_to_work ();
    if (good && needs_keys (wishes)) {
        curve = curve_open (context, getenv ("CURVE_DIR"), PARTY_BIT (PARTY_TAP), reason, sizeof reason);
        good = curve != NULL;
    }
    if (good)
        reader =
            tap_reader_new (context, wishes->endpoints, wishes->endpoint_count, curve, reason, sizeof reason);
    if (wishes->endpoint_count > 1)
        looking->order = tap_order_new ();
    good = reader && subscribe (reader, wishes) && (looking->order || wishes->endpoint_count == 1);
    if (good)
        look (looking, reader);
    else
        fprintf (stderr, "guerdon tap: %s\n", reason);
    tap_reader_destroy (&reader);
    curve_close (&curve);
    if (context)
        bus_context_destroy (&context);
    return good ? EXIT_OK : EXIT_FAILED;
}

/*  Begins a recording; it names players, so it is for its owner only. */
static bool begin_recording (struct looking *looking)
{
    const char *path = looking->wishes->record;
    int file = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    looking->recording = file >= 0 ? fdopen (file, "w") : NULL;
    if (looking->recording &&
        fwrite (record_head, 1, RECORD_HEAD_SIZE, looking->recording) == RECORD_HEAD_SIZE)
        return true;
    fprintf (stderr, "guerdon tap: %s: %s\n", path, strerror (errno));
    return false;
}

static int run (struct wishes *wishes)
{
    static struct looking looking;
    char memory[2304];
    looking.wishes = wishes;
    looking.gaps_count = !wishes->user;
    if (wishes->replay)
        return replay (&looking);
    if (!find_endpoint (wishes, memory, sizeof memory)) {
        fprintf (stderr, "guerdon tap: no ENDPOINT, and neither TAP_ENDPOINT nor HOME says where one is\n");
        return EXIT_FAILED;
    }
    if (wishes->record && !begin_recording (&looking))
        return EXIT_FAILED;
    int code = attach (&looking);
    if (looking.recording && fclose (looking.recording) != 0) {
        fprintf (stderr, "guerdon tap: %s: %s\n", wishes->record, strerror (errno));
        code = EXIT_FAILED;
    }
    fflush (stdout);
    if (code == EXIT_OK)
        tell_all (&looking);
    tap_order_destroy (&looking.order);
    return code;
}

int command_tap (int argc, char **argv)
{
    struct wishes wishes = { 0 };
    const struct command_option options[] = {
        { "actor", "A", "only what this actor says or hears", &wishes.actor, NULL },
        { "type", "T", "only messages of this name", &wishes.type, NULL },
        { "user", "U", "only messages about this player", &wishes.user, NULL },
        { "format", "text|json", "lines for people, or JSON lines", &wishes.format, NULL },
        { "count", "N", "end after so many", &wishes.count, NULL },
        { "for", "SECONDS", "end after so long", &wishes.seconds, NULL },
        { "sample", "N", "show one trace in so many", &wishes.sample, NULL },
        { "record", "FILE", "write what comes to FILE instead of showing it", &wishes.record, NULL },
        { "replay", "FILE", "show what was recorded", &wishes.replay, NULL },
    };
    const struct command_syntax syntax = { .name = "tap",
                                           .operand = "[ENDPOINT…]",
                                           .help = help,
                                           .options = options,
                                           .count = sizeof options / sizeof *options,
                                           .operands = wishes.endpoints,
                                           .operands_max = TAP_ENDPOINTS_MAX,
                                           .operand_count = &wishes.endpoint_count };
    int code = EXIT_OK;
    if (!command_parse (&syntax, argc, argv, &code) || !check_wishes (&wishes, &code))
        return code;
    struct sigaction action = { .sa_handler = on_signal };
    sigaction (SIGINT, &action, NULL);
    sigaction (SIGTERM, &action, NULL);
    return run (&wishes);
}
