/*  test_listing.c - a reward among the transactions of services that list them
    each in its own way. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "actors/currency_client/listing.h"
#include "proto/codec.h"
#include "proto/raw.h"

enum { MADE_MAX = 2600, PAGE_SIZE_MAX = 1 << 20 };

static const struct listing_wanted ours = {
    .from = { "rewards/v1", 10 },
    .currency = { "gold", 4 },
    .reward = { "promo1", 6 },
};

/*  ---- a service ---------------------------------------------------------- */

enum order { NEWEST_FIRST, OLDEST_FIRST, NO_ORDER };
enum before { EXCLUSIVE, INCLUSIVE, IGNORED };

struct lister {
    enum order order;
    enum before before;
    uint32_t cap;           /* transactions on a page at most, whatever is asked for */
    bool leaves_out_newest; /* when they do not all fit */
    bool limit_ignored;     /* and no cap either */
    bool text_times;        /* "1711800000000" */
    uint32_t count;
    struct made {
        uint64_t timestamp; /* ascending */
        bool ours;
    } made[MADE_MAX];
};

static void pack_made (struct packer *packer, const struct lister *service, const struct made *made)
{
    pack_map (packer, 6);
    pack_literal (packer, "id");
    pack_literal (packer, "tx");
    pack_literal (packer, "new field");
    pack_array (packer, 0);
    pack_literal (packer, "currency");
    pack_literal (packer, "gold");
    pack_literal (packer, "reason");
    pack_literal (packer, "reward");
    pack_literal (packer, "timestamp");
    if (service->text_times) {
        char text[24];
        snprintf (text, sizeof text, "%llu", (unsigned long long) made->timestamp);
        pack_literal (packer, text);
    } else
        pack_uint (packer, made->timestamp);
    pack_literal (packer, "data");
    pack_map (packer, 1);
    pack_literal (packer, "rewardId");
    pack_literal (packer, made->ours ? "promo1" : "other");
}

/*  Answers what the search asks for next. */
static struct raw answer_of (const struct lister *service, const struct listing *listing, uint8_t *memory)
{
    char query[200];
    struct builder path;
    builder_init (&path, query, sizeof query);
    listing_add_query (&path, listing, ours.currency);
    assert_false (path.overflow);
    unsigned long limit = 0;
    unsigned long long before = UINT64_MAX;
    int fields = sscanf (query, "?reasons=reward&currencies=gold&limit=%lu&before=%llu", &limit, &before);
    assert_true (fields >= 1);
    uint32_t end = 0;
    while (end < service->count && (service->before == IGNORED || service->made[end].timestamp < before ||
                                    (service->before == INCLUSIVE && service->made[end].timestamp == before)))
        end++;
    uint32_t cap = service->limit_ignored ? MADE_MAX : service->cap < limit ? service->cap : (uint32_t) limit;
    uint32_t count = end < cap ? end : cap;
    uint32_t first = service->leaves_out_newest ? 0 : end - count;
    struct packer packer;
    packer_init (&packer, memory, PAGE_SIZE_MAX);
    pack_array (&packer, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = service->order == OLDEST_FIRST   ? i
                      : service->order == NEWEST_FIRST ? count - 1 - i
                                                       : (i + count / 2) % count;
        pack_made (&packer, service, &service->made[first + at]);
    }
    assert_false (packer.overflow);
    return packer_raw (&packer);
}

static enum listing_answer search (const struct lister *service, unsigned *pages)
{
    static uint8_t memory[PAGE_SIZE_MAX];
    struct listing listing = { 0 };
    const char *why = NULL;
    for (*pages = 1;; (*pages)++) {
        struct raw body = answer_of (service, &listing, memory);
        enum listing_answer answer = listing_take (&listing, &ours, BODY_JSON, body, &why);
        assert_true ((answer == LISTING_UNCLEAR) == (why != NULL));
        if (answer != LISTING_MORE)
            return answer;
        assert_true (*pages < LISTING_PAGES_MAX);
    }
}

/*  So many transactions, `step` ms apart, none of them ours. */
static struct lister *lister_of (uint32_t count, uint64_t step)
{
    static struct lister service;
    memset (&service, 0, sizeof service);
    service.cap = MADE_MAX;
    service.count = count;
    for (uint32_t i = 0; i < count; i++)
        service.made[i].timestamp = 1711800000000 + i * step;
    return &service;
}

/*  ---- services, each with its stated answer ------------------------------ */

static void a_list_without_it_is_believed_when_it_is_whole (void **state)
{
    (void) state;
    static const uint32_t counts[] = { 0, 1, 2, 3, 50, 999, 1000, 1001, 2500 };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (enum before before = EXCLUSIVE; before <= INCLUSIVE; before++)
            for (unsigned text_times = 0; text_times < 2; text_times++) {
                unsigned pages;
                struct lister *service = lister_of (counts[i], 5);
                service->before = before;
                service->text_times = text_times;
                assert_int_equal (search (service, &pages), LISTING_NOT_THERE);
                assert_true (pages <= 2 + counts[i] / 999 + (counts[i] == 1 ? 2 : 0));
            }
}

static void it_is_found_wherever_it_stands (void **state)
{
    (void) state;
    for (uint32_t at = 0; at < 25; at++)
        for (uint32_t cap = 2; cap < 12; cap++)
            for (unsigned way = 0; way < 4; way++) {
                unsigned pages;
                struct lister *service = lister_of (25, 5);
                service->made[at].ours = true;
                service->cap = cap;
                service->order = way / 2 ? OLDEST_FIRST : NEWEST_FIRST;
                service->before = way % 2 ? INCLUSIVE : EXCLUSIVE;
                assert_int_equal (search (service, &pages), LISTING_FOUND);
                service->made[at].ours = false;
                assert_int_equal (search (service, &pages), LISTING_NOT_THERE);
            }
}

static void one_moment_on_two_pages_is_not_skipped (void **state)
{
    (void) state;
    /*  25 of which three always share a moment; pages of four and more. */
    for (uint32_t at = 0; at < 25; at++)
        for (uint32_t cap = 4; cap < 12; cap++)
            for (enum before before = EXCLUSIVE; before <= INCLUSIVE; before++) {
                unsigned pages;
                struct lister *service = lister_of (25, 5);
                for (uint32_t i = 0; i < 25; i++)
                    service->made[i].timestamp = 1711800000000 + i / 3;
                service->made[at].ours = true;
                service->cap = cap;
                service->before = before;
                enum listing_answer answer = search (service, &pages);
                assert_true (answer == LISTING_FOUND || answer == LISTING_UNCLEAR);
                if (before == EXCLUSIVE || cap > 6)
                    assert_int_equal (answer, LISTING_FOUND);
            }
}

static void a_page_full_of_one_moment_cannot_answer (void **state)
{
    (void) state;
    for (enum before before = EXCLUSIVE; before <= INCLUSIVE; before++) {
        unsigned pages;
        struct lister *service = lister_of (12, 5);
        for (uint32_t i = 4; i < 12; i++)
            service->made[i].timestamp = service->made[4].timestamp;
        service->made[4].ours = true;
        service->cap = 4;
        service->before = before;
        assert_int_equal (search (service, &pages), LISTING_UNCLEAR);
        service = lister_of (1200, 0);
        service->before = before;
        assert_int_equal (search (service, &pages), LISTING_UNCLEAR);
    }
}

static void without_before_a_short_page_is_all_and_a_full_one_cannot_answer (void **state)
{
    (void) state;
    unsigned pages;
    for (enum order order = NEWEST_FIRST; order <= NO_ORDER; order++) {
        struct lister *service = lister_of (999, 5);
        service->before = IGNORED;
        service->order = order;
        assert_int_equal (search (service, &pages), LISTING_NOT_THERE);
        service = lister_of (1, 5);
        service->before = IGNORED;
        assert_int_equal (search (service, &pages), LISTING_NOT_THERE);
        service = lister_of (1001, 5);
        service->before = IGNORED;
        service->order = order;
        service->made[0].ours = true;
        service->leaves_out_newest = false;
        assert_int_equal (search (service, &pages), LISTING_UNCLEAR);
    }
}

static void a_list_longer_than_was_asked_for_is_read_whole (void **state)
{
    (void) state;
    unsigned pages;
    struct lister *service = lister_of (2500, 5);
    service->limit_ignored = true;
    service->made[0].ours = true;
    assert_int_equal (search (service, &pages), LISTING_FOUND);
    assert_int_equal (pages, 1);
    service->made[0].ours = false;
    assert_int_equal (search (service, &pages), LISTING_NOT_THERE);
}

static void a_full_list_that_may_lack_the_newest_cannot_answer (void **state)
{
    (void) state;
    unsigned pages;
    for (enum order order = OLDEST_FIRST; order <= NO_ORDER; order++) {
        struct lister *service = lister_of (1500, 5);
        service->order = order;
        service->leaves_out_newest = true;
        service->made[1499].ours = true;
        assert_int_equal (search (service, &pages), LISTING_UNCLEAR);
    }
    /*  Oldest first is no harm when it is the oldest that are left out. */
    struct lister *service = lister_of (1500, 5);
    service->order = OLDEST_FIRST;
    assert_int_equal (search (service, &pages), LISTING_NOT_THERE);
    service->order = NO_ORDER;
    assert_int_equal (search (service, &pages), LISTING_UNCLEAR);
}

/*  ---- pages --------------------------------------------------------------- */

/*  One transaction from pieces of msgpack: NULL leaves a field out. */
struct piece {
    const char *reward;
    const char *currency;
    const char *reason;
    const char *from;
};

static enum listing_answer one (const struct piece *piece)
{
    uint8_t memory[500];
    struct packer packer;
    packer_init (&packer, memory, sizeof memory);
    pack_array (&packer, 1);
    pack_map (&packer, 1u + !!piece->currency + !!piece->reason + !!piece->reward);
    pack_literal (&packer, "timestamp");
    pack_uint (&packer, 1);
    if (piece->currency) {
        pack_literal (&packer, "currency");
        pack_literal (&packer, piece->currency);
    }
    if (piece->reason) {
        pack_literal (&packer, "reason");
        pack_literal (&packer, piece->reason);
    }
    if (piece->reward) {
        pack_literal (&packer, "data");
        pack_map (&packer, 1u + !!piece->from);
        pack_literal (&packer, "rewardId");
        pack_literal (&packer, piece->reward);
        if (piece->from) {
            pack_literal (&packer, "from");
            pack_literal (&packer, piece->from);
        }
    }
    struct listing listing = { 0 };
    const char *why;
    return listing_take (&listing, &ours, BODY_JSON, packer_raw (&packer), &why);
}

static void what_makes_a_transaction_the_reward (void **state)
{
    (void) state;
    static const struct {
        struct piece piece;
        enum listing_answer answer;
    } cases[] = {
        { { "promo1", "gold", "reward", "rewards/v1" }, LISTING_FOUND },
        { { "promo1", "gold", NULL, NULL }, LISTING_FOUND },
        { { "promo2", "gold", "reward", "rewards/v1" }, LISTING_MORE },
        { { "promo1", "silver", "reward", "rewards/v1" }, LISTING_MORE },
        { { "promo1", "gold", "purchase", "rewards/v1" }, LISTING_MORE },
        { { "promo1", "gold", "reward", "admin" }, LISTING_MORE },
        { { NULL, "gold", "reward", NULL }, LISTING_MORE },
        { { "promo1", NULL, "reward", NULL }, LISTING_UNCLEAR },
        { { "promo2", NULL, NULL, NULL }, LISTING_MORE },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (one (&cases[i].piece) != cases[i].answer)
            fail_msg ("case %u", (unsigned) i);
}

/*  A list of the elements that the bytes make. */
static enum listing_answer take (struct listing *listing, enum body_state state, const void *bytes,
                                 size_t size)
{
    const char *why = NULL;
    return listing_take (listing, &ours, state, (struct raw){ bytes, (uint32_t) size }, &why);
}

static void odd_elements_cannot_answer_unless_it_stands_beside_them (void **state)
{
    (void) state;
    /*  nil; text; {"data": text}; {"data": ext}; {"data": {"rewardId": [] }} */
    static const char *const odd[] = { "\xc0", "\xa1x",
                                       "\x81\xa4"
                                       "data\xa1x",
                                       "\x81\xa4"
                                       "data\xd4\x02\x01",
                                       "\x81\xa4"
                                       "data\x81\xa8rewardId\x90" };
    static const size_t sizes[] = { 1, 2, 8, 9, 17 };
    static const char found[] = "\x82\xa8"
                                "currency\xa4gold\xa4"
                                "data\x81\xa8rewardId\xa6promo1";
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        char bytes[200] = "\x91";
        memcpy (bytes + 1, odd[i], sizes[i]);
        struct listing listing = { 0 };
        assert_int_equal (take (&listing, BODY_JSON, bytes, 1 + sizes[i]), LISTING_UNCLEAR);
        bytes[0] = '\x92';
        memcpy (bytes + 1 + sizes[i], found, sizeof found - 1);
        listing = (struct listing){ 0 };
        assert_int_equal (take (&listing, BODY_JSON, bytes, sizes[i] + sizeof found), LISTING_FOUND);
    }
    struct listing listing = { 0 };
    assert_int_equal (take (&listing, BODY_JSON, "\x80", 1), LISTING_UNCLEAR);
    assert_int_equal (take (&listing, BODY_JSON, "\x92\x80", 2), LISTING_UNCLEAR);
    assert_int_equal (take (&listing, BODY_NONE, "\x90", 1), LISTING_UNCLEAR);
    assert_int_equal (take (&listing, BODY_NOT_JSON, "\xc0", 1), LISTING_UNCLEAR);
}

static void a_cut_page_counts_as_far_as_it_came_and_is_never_the_end (void **state)
{
    (void) state;
    static uint8_t memory[PAGE_SIZE_MAX];
    struct lister *service = lister_of (10, 5);
    struct listing listing = { 0 };
    const char *why = NULL;
    struct raw body = answer_of (service, &listing, memory);
    assert_int_equal (listing_take (&listing, &ours, BODY_CUT, body, &why), LISTING_MORE);
    body = answer_of (service, &listing, memory);
    assert_int_equal (listing_take (&listing, &ours, BODY_CUT, body, &why), LISTING_UNCLEAR);
    /*  Oldest first, it lacks the newest; without anything, it says nothing. */
    service->order = OLDEST_FIRST;
    listing = (struct listing){ 0 };
    body = answer_of (service, &listing, memory);
    assert_int_equal (listing_take (&listing, &ours, BODY_CUT, body, &why), LISTING_UNCLEAR);
    assert_int_equal (take (&listing, BODY_CUT, "\x90", 1), LISTING_UNCLEAR);
    service->made[9].ours = true;
    body = answer_of (service, &listing, memory);
    assert_int_equal (listing_take (&listing, &ours, BODY_CUT, body, &why), LISTING_FOUND);
}

static void without_times_a_short_page_is_all (void **state)
{
    (void) state;
    struct listing listing = { 0 };
    assert_int_equal (take (&listing, BODY_JSON, "\x92\x80\x80", 3), LISTING_NOT_THERE);
    char full[3 + LISTING_LIMIT] = "\xdc\x03\xe8";
    memset (full + 3, 0x80, LISTING_LIMIT);
    assert_int_equal (take (&listing, BODY_JSON, full, sizeof full), LISTING_UNCLEAR);
    /*  {"timestamp": 10}, and then one without. */
    assert_int_equal (take (&listing, BODY_JSON, "\x91\x81\xa9timestamp\x0a", 13), LISTING_MORE);
    assert_int_equal (take (&listing, BODY_JSON, "\x91\x80", 2), LISTING_UNCLEAR);
}

static void a_service_that_means_something_else_by_before_cannot_answer (void **state)
{
    (void) state;
    struct listing listing = { 0 };
    assert_int_equal (take (&listing, BODY_JSON, "\x91\x81\xa9timestamp\x0a", 13), LISTING_MORE);
    assert_int_equal (take (&listing, BODY_JSON, "\x90", 1), LISTING_UNCLEAR);
}

static void pages_without_end_cannot_answer (void **state)
{
    (void) state;
    unsigned pages = 0;
    struct lister *service = lister_of (MADE_MAX, 5);
    service->cap = 2;
    struct listing listing = { 0 };
    static uint8_t memory[PAGE_SIZE_MAX];
    const char *why = NULL;
    enum listing_answer answer;
    do
        answer = listing_take (&listing, &ours, BODY_JSON, answer_of (service, &listing, memory), &why);
    while (++pages < 1000 && answer == LISTING_MORE);
    assert_int_equal (answer, LISTING_UNCLEAR);
    assert_int_equal (pages, LISTING_PAGES_MAX);
}

/*  ---- any service that does as is said ----------------------------------- */

static uint32_t draw_below (unsigned *seed, uint32_t below)
{
    return (uint32_t) rand_r (seed) % below;
}

/*  A service that leaves out the oldest and honours `before`, or has no cap of
    its own, is never understood as not having what it has. */
static void what_is_there_is_never_taken_for_not_there (void **state)
{
    (void) state;
    unsigned first = (unsigned) time (NULL);
    unsigned found = 0, unclear = 0;
    for (unsigned round = 0; round < 20000; round++) {
        unsigned seed = first + round, pages;
        struct lister *service = lister_of (1 + draw_below (&seed, 30), 0);
        uint64_t at = 1711800000000;
        for (uint32_t i = 0; i < service->count; i++)
            service->made[i].timestamp = at += draw_below (&seed, 3);
        service->made[draw_below (&seed, service->count)].ours = true;
        service->order = (enum order) draw_below (&seed, 3);
        service->before = (enum before) draw_below (&seed, 3);
        service->text_times = draw_below (&seed, 2);
        if (service->before != IGNORED)
            service->cap = 1 + draw_below (&seed, 12);
        if (service->cap < service->count &&
            service->made[service->cap].timestamp == service->made[0].timestamp)
            continue; /* more of the oldest moment than a page holds: nobody can know */
        enum listing_answer answer = search (service, &pages);
        if (answer == LISTING_NOT_THERE)
            fail_msg ("seed %u", first + round);
        found += answer == LISTING_FOUND;
        unclear += answer == LISTING_UNCLEAR;
    }
    print_message ("seed %u: found %u, unclear %u\n", first, found, unclear);
    assert_true (found > unclear);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_list_without_it_is_believed_when_it_is_whole),
        cmocka_unit_test (it_is_found_wherever_it_stands),
        cmocka_unit_test (one_moment_on_two_pages_is_not_skipped),
        cmocka_unit_test (a_page_full_of_one_moment_cannot_answer),
        cmocka_unit_test (without_before_a_short_page_is_all_and_a_full_one_cannot_answer),
        cmocka_unit_test (a_list_longer_than_was_asked_for_is_read_whole),
        cmocka_unit_test (a_full_list_that_may_lack_the_newest_cannot_answer),
        cmocka_unit_test (what_makes_a_transaction_the_reward),
        cmocka_unit_test (odd_elements_cannot_answer_unless_it_stands_beside_them),
        cmocka_unit_test (a_cut_page_counts_as_far_as_it_came_and_is_never_the_end),
        cmocka_unit_test (without_times_a_short_page_is_all),
        cmocka_unit_test (a_service_that_means_something_else_by_before_cannot_answer),
        cmocka_unit_test (pages_without_end_cannot_answer),
        cmocka_unit_test (what_is_there_is_never_taken_for_not_there),
    };
    return cmocka_run_group_tests_name ("listing", tests, NULL, NULL);
}
