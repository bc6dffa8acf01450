/*  decision_harness.h - the world around the core that decides: events, answers of
    the clients, a journal, and what the core is expected to put.
*/
#ifndef GUERDON_DECISION_HARNESS_H
#define GUERDON_DECISION_HARNESS_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "actors/decision/decision.h"
#include "tests/unit/core_harness.h"

static struct harness h;

static const struct address ingest = { ROLE_INGEST, 0 };

/*  ---- the world around the core ------------------------------------------ */

static inline void from (enum role role, uint16_t peer, enum message_id id)
{
    harness_deliver (&h, &(struct message){ .id = id, .from = { role, peer } });
}

static inline void begin_window (uint32_t window)
{
    struct settings settings = harness_settings ();
    settings.window = window;
    harness_init (&h, &decision_spec, &settings);
    harness_start (&h);
}

static inline int begin (void **state)
{
    (void) state;
    begin_window (8);
    return 0;
}

static inline int end (void **state)
{
    (void) state;
    harness_free (&h);
    return 0;
}

/*  When the events service took the event of this number. */
static inline int64_t time_of (uint64_t position)
{
    return 1794000000000 + (int64_t) position;
}

/*  An event with these data, as msgpack. */
static inline void raw_event (uint64_t position, const char *source, const char *type, struct raw data,
                              enum fault fault)
{
    struct message message = { .id = MESSAGE_EVENT, .trace = 1000 + position, .from = ingest };
    message.event.position = position;
    message.event.timestamp = time_of (position);
    message.event.source = text_of (source);
    message.event.type = text_of (type);
    message.event.data = data;
    message.event.fault = fault;
    harness_deliver (&h, &message);
}

/*  A login of app 2 whose user id is these bytes. */
static inline void login_bytes (uint64_t position, struct text user)
{
    static uint8_t memory[2 * USER_SIZE_MAX];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, 2);
    pack_literal (&packer, "userId");
    pack_text (&packer, user);
    pack_literal (&packer, "aliases");
    pack_map (&packer, 0);
    raw_event (position, "game-two", "LOGIN", packer_raw (&packer), FAULT_NONE);
}

static inline void login (uint64_t position, const char *user)
{
    login_bytes (position, text_of (user));
}

/*  The next effect of this id, which goes there. */
static inline const struct message *expect (enum message_id id, enum role to)
{
    struct recorded *effect = harness_take_recorded (&h, id);
    if (!effect) {
        harness_print (&h);
        fail_msg ("no %s", message_spec ((uint64_t) id)->name);
    }
    assert_int_equal (effect->to.role, to);
    return effect->message;
}

static inline const struct message *expect_read (const char *user)
{
    const struct message *read = expect (MESSAGE_READ_META, ROLE_USERMETA_CLIENT);
    assert_true (harness_says (read->read_meta.user, user));
    assert_true (harness_says (read->read_meta.keys, "auth,$reward$promo1"));
    assert_true (read->read_meta.request > 0);
    return read;
}

static inline const struct message *expect_write (const char *user)
{
    const struct message *write = expect (MESSAGE_WRITE_META, ROLE_USERMETA_CLIENT);
    assert_true (harness_says (write->write_meta.user, user));
    assert_true (harness_says (write->write_meta.key, "$reward$promo1"));
    return write;
}

static inline const struct message *expect_give (const char *user)
{
    const struct message *give = expect (MESSAGE_GIVE, ROLE_CURRENCY_CLIENT);
    assert_true (harness_says (give->give.user, user));
    assert_true (harness_says (give->give.currency, "gold"));
    assert_true (harness_says (give->give.reward, "promo1"));
    assert_int_equal (give->give.amount, 10);
    return give;
}

static inline const struct message *expect_record (enum grant_state state, uint64_t position)
{
    const struct message *record = expect (MESSAGE_REMEMBER, ROLE_SHELL);
    assert_int_equal (record->remember.state, state);
    assert_int_equal (record->remember.position, position);
    assert_true (harness_says (record->remember.reward, "promo1"));
    return record;
}

/*  The event was settled like this. */
static inline void expect_settled (uint64_t position, enum outcome outcome)
{
    const struct message *settled = expect (MESSAGE_SETTLED, ROLE_INGEST);
    assert_int_equal (settled->settled.position, position);
    assert_int_equal (settled->settled.outcome, outcome);
    assert_int_equal (settled->trace, 1000 + position);
}

static inline void nothing_asked (void)
{
    assert_int_equal (harness_count (&h, MESSAGE_READ_META), 0);
    assert_int_equal (harness_count (&h, MESSAGE_WRITE_META), 0);
    assert_int_equal (harness_count (&h, MESSAGE_GIVE), 0);
}

static inline void nothing_settled (void)
{
    assert_int_equal (harness_count (&h, MESSAGE_SETTLED), 0);
}

/*  Usermeta's answer: the values given, NULL for an absent one. */
static inline void meta (uint64_t request, const char *auth, const char *marker)
{
    uint8_t memory[512];
    struct packer packer;
    struct message message = { .id = MESSAGE_META, .from = { ROLE_USERMETA_CLIENT, 0 } };
    packer_init (&packer, memory, sizeof memory);
    pack_map (&packer, (uint32_t) ((auth != NULL) + (marker != NULL)));
    if (auth) {
        pack_literal (&packer, "auth");
        pack_literal (&packer, auth);
    }
    if (marker) {
        pack_literal (&packer, "$reward$promo1");
        pack_literal (&packer, marker);
    }
    message.meta.request = request;
    message.meta.values = packer_raw (&packer);
    harness_deliver (&h, &message);
}

static inline void meta_refused (uint64_t request)
{
    struct message message = { .id = MESSAGE_META, .from = { ROLE_USERMETA_CLIENT, 0 } };
    message.meta.request = request;
    message.meta.result = RESULT_REFUSED;
    message.meta.reason = TEXT_LITERAL ("HTTP 400");
    harness_deliver (&h, &message);
}

static inline void written (uint64_t request, enum result result)
{
    struct message message = { .id = MESSAGE_META_WRITTEN, .from = { ROLE_USERMETA_CLIENT, 0 } };
    message.meta_written.request = request;
    message.meta_written.result = result;
    message.meta_written.reason = result == RESULT_OK ? NO_TEXT : TEXT_LITERAL ("HTTP 413");
    harness_deliver (&h, &message);
}

static inline void given_or_found (uint64_t request, enum result result, bool found)
{
    struct message message = { .id = MESSAGE_GIVEN, .from = { ROLE_CURRENCY_CLIENT, 0 } };
    message.given.request = request;
    message.given.result = result;
    message.given.reason = result == RESULT_OK ? NO_TEXT : TEXT_LITERAL ("HTTP 400");
    message.given.found = found;
    harness_deliver (&h, &message);
}

static inline void given (uint64_t request, enum result result)
{
    given_or_found (request, result, false);
}

/*  Takes a player from a login that was just read to the end. */
static inline void reward (uint64_t position, const char *user)
{
    meta (expect_read (user)->read_meta.request, "1", NULL);
    written (expect_write (user)->write_meta.request, RESULT_OK);
    given (expect_give (user)->give.request, RESULT_OK);
    expect_settled (position, OUTCOME_SUCCESS);
}

/*  So many events have come that none of those that follow can have been in flight
    before the start: those below LATE. */
enum { LATE = 1000 };

static inline void pass_early (void)
{
    uint64_t events = h.settings.window + 128;
    assert_true (events < LATE);
    from (ROLE_INGEST, 0, MESSAGE_OPEN);
    for (uint64_t position = 1; position <= events; position++)
        raw_event (position, "game-two", "CREATE", NO_RAW, FAULT_NONE);
    harness_clear (&h);
}

static inline int begin_late (void **state)
{
    begin (state);
    pass_early ();
    return 0;
}

/*  The place of the first effect of this id among the effects. */
static inline size_t place_of (enum message_id id)
{
    for (size_t i = 0; i < h.count; i++)
        if (h.effects[i].message->id == id)
            return i;
    fail_msg ("no %s", message_spec ((uint64_t) id)->name);
    return 0;
}

static inline void expect_credit (uint64_t capacity, uint16_t peer)
{
    struct recorded *effect = harness_take_recorded (&h, MESSAGE_CREDIT);
    assert_non_null (effect);
    assert_int_equal (effect->to.role, ROLE_INGEST);
    assert_int_equal (effect->to.peer, peer);
    assert_int_equal (effect->message->credit.capacity, capacity);
}

static inline void no_credit (void)
{
    assert_int_equal (harness_count (&h, MESSAGE_CREDIT), 0);
}

static inline void peer (enum role role, uint16_t index, enum peer_state state)
{
    struct message message = { .id = MESSAGE_PEER, .from = { role, index } };
    message.peer.state = state;
    harness_deliver (&h, &message);
}

/*  ---- a journal ---------------------------------------------------------- */

enum { KEPT_MAX = 40000 };

/*  A grant on disk. */
struct kept {
    struct record record; /* its texts point to what follows */
    uint64_t trace;
    char user[64], reward[32], currency[16], reason[64], who[16];
};

static struct journal_model {
    struct kept kept[KEPT_MAX];
    size_t count;
    size_t committed; /* effects of the harness that were looked at */
} journal;

static inline struct text keep_text (char *to, size_t size, struct text text)
{
    assert_true (text.size < size);
    if (text.size)
        memcpy (to, text.data, text.size);
    to[text.size] = '\0';
    return (struct text){ to, text.size };
}

/*  The grant of that number, or NULL. */
static inline struct kept *journal_find (uint64_t grant)
{
    for (size_t i = journal.count; i > 0; i--)
        if (journal.kept[i - 1].record.grant == grant)
            return &journal.kept[i - 1];
    return NULL;
}

static inline void journal_remember (uint64_t trace, const struct remember *remember)
{
    struct kept *kept = journal_find (remember->grant);
    if (!kept) {
        assert_true (remember->state == GRANT_INTENDED && journal.count < KEPT_MAX);
        kept = &journal.kept[journal.count++];
        kept->trace = trace;
        kept->record.grant = remember->grant;
        kept->record.position = remember->position;
        kept->record.timestamp = remember->timestamp;
        kept->record.user = keep_text (kept->user, sizeof kept->user, remember->user);
        kept->record.reward = keep_text (kept->reward, sizeof kept->reward, remember->reward);
        kept->record.amount = remember->amount;
        kept->record.currency = keep_text (kept->currency, sizeof kept->currency, remember->currency);
    } else if (remember->state == GRANT_INTENDED) {
        assert_true (harness_says (remember->reason, "retry"));
        assert_true (kept->record.state == GRANT_REFUSED || kept->record.state == GRANT_UNCERTAIN);
    } else {
        assert_int_equal (kept->record.state == GRANT_INTENDED, remember->state != GRANT_DROPPED);
    }
    kept->record.state = remember->state;
    kept->record.at_ms = remember->at_ms;
    keep_text (kept->reason, sizeof kept->reason, remember->reason);
    keep_text (kept->who, sizeof kept->who, remember->who);
}

/*  Makes everything durable that the core asked for since the last time. */
static inline void journal_commit (void)
{
    for (; journal.committed < h.count; journal.committed++) {
        const struct message *message = h.effects[journal.committed].message;
        if (message->id == MESSAGE_REMEMBER)
            journal_remember (message->trace, &message->remember);
    }
}

static inline void journal_record (struct harness *harness, const struct kept *kept)
{
    harness_handle (
        harness, &(struct message){
                     .id = MESSAGE_RECORD, .trace = kept->trace, .from = TO_SHELL, .record = kept->record });
}

static inline void journal_recall (struct harness *harness, const struct recall *asked)
{
    struct message recalled = { .id = MESSAGE_RECALLED, .from = TO_SHELL };
    uint64_t count = 0;
    for (size_t i = 0; i < journal.count; i++) {
        bool open = asked->which == RECALL_OPEN;
        const struct kept *kept = &journal.kept[open ? i : journal.count - 1 - i];
        if (kept->record.grant > recalled.recalled.newest)
            recalled.recalled.newest = kept->record.grant;
        if ((kept->record.state == GRANT_INTENDED) != open || (open && kept->record.grant <= asked->after))
            continue;
        if (count == asked->count)
            recalled.recalled.more = 1;
        else
            journal_record (harness, kept);
        count += count < asked->count;
    }
    recalled.recalled.which = asked->which;
    harness_handle (harness, &recalled);
}

/*  Makes durable what the core asked for, and forgets what it put. */
static inline void clear (void)
{
    journal_commit ();
    journal.committed = 0;
    harness_clear (&h);
}

/*  A life of the core with this journal, at that time. */
static inline void begin_life (const struct settings *settings, struct moment now)
{
    harness_init (&h, &decision_spec, settings);
    if (now.steady_ms)
        h.now = now;
    h.recall = journal_recall;
    journal.committed = 0;
    harness_start (&h);
}

/*  The core ends at once, and another begins, with the journal or with an empty one. */
static inline void restart (bool keeps_journal)
{
    struct settings settings = h.settings;
    struct moment now = h.now;
    journal_commit ();
    if (!keeps_journal)
        journal.count = 0;
    harness_free (&h);
    settings.hash_seed = settings.hash_seed * UINT64_C (6364136223846793005) + 1;
    begin_life (&settings, now);
}

/*  With an empty journal, behind the time in which an attempt of an earlier life
    might still show up. */
static inline int begin_journal (void **state)
{
    struct settings settings = harness_settings ();
    (void) state;
    settings.window = 8;
    journal.count = 0;
    begin_life (&settings, (struct moment){ 0 });
    harness_advance (&h, settings.find_grace_ms);
    return 0;
}

#endif
