/*  test_decision_walk.c - the core that decides in a world of chance: services that
    refuse or do not know, workers, an ingest and the core itself that come back
    without their memory, a journal that is lost, people who try again and give up.

    Whatever happens: nobody is given a reward twice, nothing is given at once that
    somebody may have given before, a player has one request under way, its events
    are settled in order, each once, and in the end everybody who is due has got
    the reward. SEED=n in the environment replays a walk.
*/

#include "tests/unit/decision_harness.h"

enum {
    STEPS = 20000,
    ACTIVE = 24,        /* players who log in at a time */
    PLAYERS_MAX = 6000, /* over time */
    WINDOW_MAX_HERE = 32,
    ASKED_MAX = WINDOW_MAX_HERE + 16,
    GRACE_MS = 2000,
    NOBODY = PLAYERS_MAX
};

/*  A player, and what the services know of it. */
struct world_player {
    bool auth;
    bool marker;
    unsigned rewards;   /* in the books */
    uint64_t listed_ms; /* the listing shows the reward from then on */
    unsigned tried;     /* requests to give that were not answered as refused */
    unsigned under_way; /* requests */
    bool excused;       /* that there is no reward in the end has a stated reason */
    bool logged_in;
    uint64_t decided; /* the highest position that was decided */
};

/*  A request that a client has not answered yet. */
struct asked {
    enum message_id id;
    uint64_t request;
    unsigned player;
    struct address worker;
    uint64_t check;
    uint64_t due_ms; /* not answered before */
};

/*  An event. */
struct world_event {
    unsigned player;
    bool handed;  /* decision owes an answer */
    bool decided; /* once at least */
    bool settled; /* and ingest knows it */
};

static struct world {
    uint64_t random;
    unsigned window;
    uint16_t workers;
    bool loses_journal;
    bool loses_markers; /* somebody removes markers now and then */
    bool calm;          /* everybody answers, and well */
    struct world_player players[PLAYERS_MAX];
    unsigned player_count;
    unsigned active[ACTIVE];
    struct world_event events[STEPS + 1];
    uint64_t position;
    uint64_t first_unsettled; /* everything below is settled */
    unsigned credit;
    unsigned handed;
    struct asked asked[ASKED_MAX];
    unsigned asked_count;
    uint64_t outcomes[OUTCOME_FAILURE + 1];
    unsigned restarts, finds;
} world;

static uint32_t draw (uint32_t below)
{
    world.random = world.random * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
    return (uint32_t) (world.random >> 33) % below;
}

static unsigned new_player (void)
{
    unsigned number = world.player_count < PLAYERS_MAX ? world.player_count++ : draw (PLAYERS_MAX);
    if (!world.players[number].logged_in)
        world.players[number].auth = draw (4) > 0;
    return number;
}

static unsigned player_number (struct text user)
{
    uint64_t number = 0;
    assert_true (user.size > 1 && user.data[0] == 'u');
    assert_true (text_to_uint ((struct text){ user.data + 1, user.size - 1 }, PLAYERS_MAX - 1, &number));
    return (unsigned) number;
}

/*  ---- what the core does ------------------------------------------------- */

/*  A grant of the player that is intended on disk, or NULL. */
static const struct kept *intent_of (unsigned player)
{
    for (size_t i = journal.count; i > 0; i--)
        if (journal.kept[i - 1].record.state == GRANT_INTENDED &&
            player_number (journal.kept[i - 1].record.user) == player)
            return &journal.kept[i - 1];
    return NULL;
}

static void on_asked (struct address to, enum message_id id, uint64_t request, struct text user,
                      uint64_t check)
{
    unsigned number = player_number (user);
    struct world_player *player = &world.players[number];
    assert_int_equal (player->under_way, 0);
    player->under_way++;
    assert_true (world.asked_count < ASKED_MAX && to.peer < world.workers);
    world.asked[world.asked_count++] =
        (struct asked){ id, request, number, to, check, h.now.steady_ms + check };
    if (id != MESSAGE_READ_META)
        assert_non_null (intent_of (number));
    if (id != MESSAGE_GIVE)
        return;
    assert_true (player->marker || world.loses_markers);
    if (check == 0)
        assert_int_equal (player->tried, 0);
    player->tried++;
}

/*  An event is decided, as the log says: the player's before it were. Whether ingest
    hears of it, and how often, is another matter. */
static void on_decided (uint64_t position)
{
    struct world_event *event = &world.events[position];
    if (event->decided || event->player == NOBODY)
        return;
    event->decided = true;
    struct world_player *player = &world.players[event->player];
    if (position <= player->decided)
        fail_msg ("event %" PRIu64 " is decided behind %" PRIu64, position, player->decided);
    player->decided = position;
}

static void on_settled (uint64_t position, enum outcome outcome)
{
    struct world_event *event = &world.events[position];
    assert_true (position >= 1 && position <= world.position);
    assert_true (event->handed); /* whoever has forgotten it is not told */
    assert_true (event->decided || event->player == NOBODY);
    event->handed = false;
    world.handed--;
    if (event->settled)
        return;
    event->settled = true;
    world.outcomes[outcome]++;
}

static void on_effect (struct address to, const struct message *message)
{
    if (message->id == MESSAGE_READ_META)
        on_asked (to, MESSAGE_READ_META, message->read_meta.request, message->read_meta.user, 0);
    else if (message->id == MESSAGE_WRITE_META)
        on_asked (to, MESSAGE_WRITE_META, message->write_meta.request, message->write_meta.user, 0);
    else if (message->id == MESSAGE_GIVE)
        on_asked (to, MESSAGE_GIVE, message->give.request, message->give.user, message->give.check);
    else if (message->id == MESSAGE_SETTLED)
        on_settled (message->settled.position, message->settled.outcome);
    else if (message->id == MESSAGE_CREDIT)
        world.credit = (unsigned) message->credit.capacity;
    if (message->id != MESSAGE_LOG)
        return;
    assert_false (harness_mentions (message->log.text, "dropped: "));
    if (harness_mentions (message->log.text, "-> ended"))
        on_decided (message->log.position);
}

/*  Everything is durable first, and then let out. */
static void take_effects (void)
{
    journal_commit ();
    for (size_t i = 0; i < h.count; i++)
        on_effect (h.effects[i].to, h.effects[i].message);
    clear ();
}

/*  ---- ingest ------------------------------------------------------------- */

/*  Hands on, lowest first, what is not settled and was not handed on. */
static void hand_on (void)
{
    while (world.first_unsettled <= world.position && world.events[world.first_unsettled].settled &&
           !world.events[world.first_unsettled].handed)
        world.first_unsettled++;
    for (uint64_t position = world.first_unsettled; position <= world.position; position++) {
        struct world_event *event = &world.events[position];
        char name[16];
        if (event->settled || event->handed)
            continue;
        if (world.handed >= world.credit)
            return;
        event->handed = true;
        world.handed++;
        if (event->player == NOBODY) {
            raw_event (position, "game-two", "CREATE", NO_RAW, FAULT_NONE);
        } else {
            snprintf (name, sizeof name, "u%u", event->player);
            world.players[event->player].logged_in = true;
            login (position, name);
        }
        take_effects ();
    }
}

static void publish (unsigned player)
{
    if (world.position == STEPS)
        return;
    world.position++;
    world.events[world.position] = (struct world_event){ .player = player };
}

/*  Ingest is gone, comes back, and reads again what it has not acknowledged: also
    some that are settled. */
static void ingest_restarts (void)
{
    uint64_t from_here = world.first_unsettled;
    for (uint64_t position = from_here; position <= world.position; position++)
        if (world.events[position].handed) {
            world.events[position].handed = false;
            world.handed--;
        }
    world.credit = 0;
    peer (ROLE_INGEST, 0, PEER_RESTARTED);
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    take_effects ();
    for (uint64_t position = from_here; position <= world.position && world.handed < world.credit;
         position++) {
        struct world_event *event = &world.events[position];
        char name[16];
        if (event->player == NOBODY)
            continue;
        event->handed = true;
        world.handed++;
        snprintf (name, sizeof name, "u%u", event->player);
        world.players[event->player].logged_in = true;
        login (position, name);
        take_effects ();
    }
}

/*  ---- the clients and the services --------------------------------------- */

/*  The service gives, and lists it at some time within the grace. */
static void apply (unsigned number)
{
    struct world_player *player = &world.players[number];
    assert_true (player->auth);
    if (player->rewards++)
        fail_msg ("u%u was given the reward twice", number);
    player->listed_ms = h.now.steady_ms + draw (GRACE_MS);
}

static enum result any_result (void)
{
    return world.calm || draw (12) ? RESULT_OK : RESULT_REFUSED;
}

static void answer_give (const struct asked *asked)
{
    struct world_player *player = &world.players[asked->player];
    enum result result = any_result ();
    if (asked->check && player->rewards && player->listed_ms <= h.now.steady_ms) {
        world.finds++;
        given_or_found (asked->request, RESULT_OK, true);
        return;
    }
    if (result == RESULT_REFUSED && draw (2)) {
        if (draw (2))
            apply (asked->player);
        given (asked->request, RESULT_UNCERTAIN);
        return;
    }
    if (result == RESULT_OK)
        apply (asked->player);
    else
        player->tried = asked->check ? 0 : player->tried - 1; /* and nothing was found before */
    given (asked->request, result);
}

static void answer (unsigned index)
{
    struct asked asked = world.asked[index];
    struct world_player *player = &world.players[asked.player];
    if (asked.due_ms > h.now.steady_ms) {
        if (!world.calm)
            return;
        harness_advance (&h, asked.due_ms - h.now.steady_ms);
    }
    world.asked[index] = world.asked[--world.asked_count];
    player->under_way--;
    enum result result = asked.id == MESSAGE_GIVE ? RESULT_OK : any_result ();
    if (asked.id == MESSAGE_GIVE) {
        answer_give (&asked);
    } else if (asked.id == MESSAGE_WRITE_META) {
        player->marker |= result == RESULT_OK;
        written (asked.request, result);
    } else if (result == RESULT_OK) {
        meta (asked.request, player->auth ? "1" : NULL, player->marker ? "1795000000000" : NULL);
    } else {
        player->excused = true;
        meta_refused (asked.request);
    }
}

/*  Whoever was asked, or asks, is gone: what is under way was done, or not. */
static void abandon (unsigned index)
{
    struct asked asked = world.asked[index];
    struct world_player *player = &world.players[asked.player];
    world.asked[index] = world.asked[--world.asked_count];
    player->under_way--;
    if (asked.id == MESSAGE_WRITE_META)
        player->marker |= draw (2) > 0;
    if (asked.id == MESSAGE_GIVE && !asked.check && draw (2))
        apply (asked.player);
}

static void worker_restarts (void)
{
    struct address worker = { draw (2) ? ROLE_USERMETA_CLIENT : ROLE_CURRENCY_CLIENT,
                              (uint16_t) draw (world.workers) };
    for (unsigned i = 0; i < world.asked_count;) {
        if (world.asked[i].worker.role == worker.role && world.asked[i].worker.peer == worker.peer)
            abandon (i);
        else
            i++;
    }
    peer (worker.role, worker.peer, PEER_RESTARTED);
}

/*  ---- the core ends ------------------------------------------------------ */

static void everybody_opens (void)
{
    for (uint16_t worker = 0; worker < world.workers; worker++) {
        from (ROLE_USERMETA_CLIENT, worker, MESSAGE_OPENED);
        from (ROLE_CURRENCY_CLIENT, worker, MESSAGE_OPENED);
    }
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
}

/*  Who was parked, or was tried again by a person, and is known to the journal only. */
static void excuse_what_is_lost (void)
{
    for (size_t i = 0; i < journal.count; i++) {
        const struct record *record = &journal.kept[i].record;
        if (record->state != GRANT_GIVEN && world.events[record->position].settled)
            world.players[player_number (record->user)].excused = true;
    }
}

/*  What the core put last is on disk, and has not left the process. */
static void core_restarts (void)
{
    bool keeps = !world.loses_journal || draw (3);
    journal_commit ();
    while (world.asked_count)
        abandon (world.asked_count - 1);
    if (!keeps)
        excuse_what_is_lost ();
    for (uint64_t position = world.first_unsettled; position <= world.position; position++)
        world.events[position].handed = false;
    world.handed = 0;
    world.credit = 0;
    world.restarts++;
    restart (keeps);
    take_effects ();
    everybody_opens ();
    take_effects ();
}

/*  ---- people ------------------------------------------------------------- */

/*  Wants a parked grant tried again, or gives it up. True when there is one. */
static bool see_to (struct kept *kept, bool again)
{
    struct message message = { .id = again ? MESSAGE_RETRY : MESSAGE_DROP, .from = TO_SHELL };
    const struct record *record = &kept->record;
    if (record->state != GRANT_REFUSED && record->state != GRANT_UNCERTAIN)
        return false;
    if (again) {
        message.trace = kept->trace;
        message.retry = (struct retry){ .request = 1,
                                        .grant = record->grant,
                                        .position = record->position,
                                        .timestamp = record->timestamp,
                                        .user = record->user,
                                        .reward = record->reward,
                                        .amount = record->amount,
                                        .currency = record->currency,
                                        .who = TEXT_LITERAL ("op") };
    } else {
        message.drop = (struct drop){ .request = 1,
                                      .grant = record->grant,
                                      .user = record->user,
                                      .reward = record->reward,
                                      .who = TEXT_LITERAL ("op") };
        world.players[player_number (record->user)].excused = true;
    }
    harness_deliver (&h, &message);
    const struct message *done = harness_take (&h, MESSAGE_DONE);
    assert_non_null (done);
    bool good = done->done.result == RESULT_OK;
    take_effects ();
    if (good && !again)
        assert_int_equal (record->state, GRANT_DROPPED);
    return true;
}

static void somebody_looks (void)
{
    if (journal.count)
        see_to (&journal.kept[draw ((uint32_t) journal.count)], draw (4) > 0);
}

/*  Somebody removes a marker. The journal remembers so many grants that everybody
    is among them. */
static void marker_goes (void)
{
    if (world.loses_markers && journal.count <= 2 * world.window)
        world.players[draw (world.player_count)].marker = false;
}

/*  ---- the walk ----------------------------------------------------------- */

static void step (void)
{
    uint32_t what = draw (1000);
    unsigned place = draw (ACTIVE);
    harness_advance (&h, draw (80));
    if (what < 400) {
        publish (world.active[place]);
        hand_on ();
    } else if (what < 430) {
        publish (NOBODY);
        hand_on ();
    } else if (what < 450 && !world.loses_markers) {
        world.active[place] = new_player ();
    } else if (what < 454) {
        worker_restarts ();
    } else if (what < 456) {
        ingest_restarts ();
    } else if (what < 460) {
        core_restarts ();
    } else if (what < 470) {
        somebody_looks ();
    } else if (what < 475) {
        marker_goes ();
    } else if (world.asked_count) {
        answer (draw (world.asked_count));
    }
    if (draw (200) == 0)
        core_restarts (); /* before anything of that left the process */
    take_effects ();
    hand_on ();
}

static bool is_at_rest (void)
{
    if (world.asked_count)
        return false;
    for (uint64_t position = world.first_unsettled; position <= world.position; position++)
        if (!world.events[position].settled)
            return false;
    return true;
}

static void to_rest (void)
{
    for (unsigned i = 0; !is_at_rest (); i++) {
        assert_true (i < 100000);
        if (world.asked_count)
            answer (draw (world.asked_count));
        take_effects ();
        hand_on ();
    }
}

/*  Everything is answered, every parked grant is tried again, and then everybody
    has what is due. */
static void at_the_end (void)
{
    world.calm = true;
    to_rest ();
    for (size_t i = 0; i < journal.count; i++) {
        see_to (&journal.kept[i], true);
        to_rest ();
    }
    for (size_t i = 0; i < journal.count; i++) {
        assert_true (journal.kept[i].record.state == GRANT_GIVEN ||
                     journal.kept[i].record.state == GRANT_DROPPED);
    }
    assert_int_equal (world.handed, 0);
    assert_int_equal (world.outcomes[OUTCOME_SUCCESS] + world.outcomes[OUTCOME_FAILURE] +
                          world.outcomes[OUTCOME_IGNORED],
                      world.position);
    for (unsigned i = 0; i < world.player_count; i++) {
        const struct world_player *player = &world.players[i];
        assert_int_equal (player->under_way, 0);
        if (player->logged_in && player->auth && !player->excused && player->rewards != 1)
            fail_msg ("u%u has %u rewards", i, player->rewards);
        assert_true (player->rewards <= (unsigned) (player->auth && player->logged_in));
    }
    assert_int_equal (world.credit, world.window);
}

static void walk (uint64_t seed)
{
    memset (&world, 0, sizeof world);
    world.random = seed;
    world.first_unsettled = 1;
    world.loses_journal = draw (2);
    world.loses_markers = !world.loses_journal && draw (2);
    world.window = world.loses_markers ? WINDOW_MAX_HERE : draw (4) ? 1 + draw (WINDOW_MAX_HERE) : 1;
    world.workers = (uint16_t) (1 + draw (3));
    for (unsigned i = 0; i < ACTIVE; i++)
        world.active[i] = new_player ();
    struct settings settings = harness_settings ();
    settings.window = world.window;
    settings.usermeta_clients = world.workers;
    settings.currency_clients = world.workers;
    settings.hash_seed = seed;
    journal.count = 0;
    begin_life (&settings, (struct moment){ 0 });
    take_effects ();
    everybody_opens ();
    take_effects ();
    for (unsigned i = 0; i < STEPS; i++)
        step ();
    at_the_end ();
    assert_true (world.restarts > 10 && world.finds > 0);
    end (NULL);
}

static void test_a_walk_at_random (void **state)
{
    (void) state;
    const char *given_seed = getenv ("SEED");
    uint64_t seed = given_seed ? strtoull (given_seed, NULL, 10) : (uint64_t) time (NULL) * 1000;
    for (unsigned i = 0; i < (given_seed ? 1 : 8); i++, seed++) {
        print_message ("SEED=%" PRIu64 "\n", seed);
        walk (seed);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_a_walk_at_random),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
