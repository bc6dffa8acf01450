/*  listing.c - is a reward among the transactions that a service lists? */

#include "actors/currency_client/listing.h"

#include "proto/raw.h"

/*  ---- asking ------------------------------------------------------------- */

static bool plain_in_a_list (struct text currency)
{
    return currency.size && !text_has (currency, ',') && (uint8_t) currency.data[0] > ' ' &&
           (uint8_t) currency.data[0] < 0x80 && (uint8_t) currency.data[currency.size - 1] > ' ' &&
           (uint8_t) currency.data[currency.size - 1] < 0x80;
}

void listing_add_query (struct builder *path, const struct listing *listing, struct text currency)
{
    builder_literal (path, "?reasons=reward");
    if (plain_in_a_list (currency)) {
        builder_literal (path, "&currencies=");
        builder_percent (path, currency);
    }
    builder_literal (path, "&limit=");
    builder_uint (path, LISTING_LIMIT);
    if (listing->step == LISTING_FIRST)
        return;
    builder_literal (path, "&before=");
    if (listing->step == LISTING_OLDER)
        builder_uint (path, listing->oldest + 1);
    else
        builder_uint (path, listing->oldest - (listing->step == LISTING_UNDER ? 1 : 0));
}

/*  ---- one transaction ---------------------------------------------------- */

/*  What a field says about the question. */
enum match { MATCH_YES, MATCH_NO, MATCH_ABSENT, MATCH_UNCLEAR };

/*  True when the number, as JavaScript prints it, is this text. */
static bool number_is (struct value value, struct text wanted)
{
    char memory[24];
    struct builder number;
    builder_init (&number, memory, sizeof memory);
    if (value.type == VALUE_UINT)
        builder_uint (&number, value.uint);
    else
        builder_int (&number, value.integer);
    return text_equal (builder_text (&number), wanted);
}

static enum match match (struct raw map, const char *key, struct text wanted)
{
    struct raw found;
    struct value value;
    if (!raw_find (map, text_of (key), &found))
        return MATCH_ABSENT;
    if (!raw_value (found, &value))
        return MATCH_UNCLEAR;
    switch (value.type) {
    case VALUE_NIL:
        return MATCH_ABSENT;
    case VALUE_TEXT:
        return text_equal (value.text, wanted) ? MATCH_YES : MATCH_NO;
    case VALUE_UINT:
    case VALUE_INT:
        return number_is (value, wanted) ? MATCH_YES : MATCH_NO;
    default:
        return MATCH_UNCLEAR;
    }
}

/*  Is this transaction the reward? The reward id comes first: where that is
    another one, nothing else matters. */
static enum match matches (struct raw element, const struct listing_wanted *wanted)
{
    struct raw data;
    struct value head;
    if (!raw_value (element, &head) || head.type != VALUE_MAP)
        return MATCH_UNCLEAR;
    if (!raw_find (element, TEXT_LITERAL ("data"), &data))
        return MATCH_NO;
    if (!raw_value (data, &head) || (head.type != VALUE_MAP && head.type != VALUE_NIL))
        return MATCH_UNCLEAR;
    if (head.type == VALUE_NIL)
        return MATCH_NO;
    enum match reward = match (data, "rewardId", wanted->reward);
    if (reward != MATCH_YES)
        return reward == MATCH_UNCLEAR ? MATCH_UNCLEAR : MATCH_NO;
    enum match from = match (data, "from", wanted->from);
    enum match reason = match (element, "reason", TEXT_LITERAL ("reward"));
    enum match currency = match (element, "currency", wanted->currency);
    if (from == MATCH_NO || reason == MATCH_NO || currency == MATCH_NO)
        return MATCH_NO;
    bool clear = from != MATCH_UNCLEAR && reason != MATCH_UNCLEAR && currency == MATCH_YES;
    return clear ? MATCH_YES : MATCH_UNCLEAR;
}

/*  Milliseconds, as a number or as text. False when there is no such. */
static bool read_timestamp (struct raw element, uint64_t *timestamp)
{
    struct raw found;
    struct value value;
    *timestamp = 0;
    if (!raw_find (element, TEXT_LITERAL ("timestamp"), &found) || !raw_value (found, &value))
        return false;
    if (value.type == VALUE_FLOAT && value.real >= 0 && value.real < (double) POSITION_MAX)
        *timestamp = (uint64_t) value.real;
    else if (value.type == VALUE_TEXT)
        return text_to_uint (value.text, POSITION_MAX - 1, timestamp);
    else if (!raw_uint (found, timestamp))
        return false;
    return *timestamp < POSITION_MAX;
}

/*  ---- one page ----------------------------------------------------------- */

struct page {
    uint32_t count;
    uint64_t oldest;
    uint64_t newest;
    uint64_t last;
    bool found;
    bool unclear;      /* something on it makes no sense */
    bool timeless;     /* something on it has no timestamp */
    bool newest_first; /* as far as it shows */
    bool oldest_first;
    bool cut;
};

static void read_element (struct page *page, struct raw element, const struct listing_wanted *wanted)
{
    enum match match = matches (element, wanted);
    page->found |= match == MATCH_YES;
    page->unclear |= match == MATCH_UNCLEAR;
    page->count++;
    uint64_t timestamp;
    if (!read_timestamp (element, &timestamp)) {
        page->timeless = true;
        return;
    }
    bool first = page->count == 1;
    page->newest_first &= first || timestamp <= page->last;
    page->oldest_first &= first || timestamp >= page->last;
    page->last = timestamp;
    page->oldest = timestamp < page->oldest ? timestamp : page->oldest;
    page->newest = timestamp > page->newest ? timestamp : page->newest;
}

/*  False when it is not an array. */
static bool read_page (struct page *page, const struct listing_wanted *wanted, enum body_state state,
                       struct raw body)
{
    *page = (struct page){
        .oldest = UINT64_MAX, .newest_first = true, .oldest_first = true, .cut = state == BODY_CUT
    };
    struct cursor cursor = cursor_of (body);
    struct value head;
    if ((state != BODY_JSON && state != BODY_CUT) || !cursor_next (&cursor, &head) ||
        head.type != VALUE_ARRAY)
        return false;
    for (uint32_t i = 0; i < head.count; i++) {
        struct raw element;
        if (!cursor_skip (&cursor, &element)) {
            page->unclear = true;
            break;
        }
        read_element (page, element, wanted);
    }
    return true;
}

/*  ---- the search --------------------------------------------------------- */

static enum listing_answer unclear (const char **why, const char *text)
{
    *why = text;
    return LISTING_UNCLEAR;
}

/*  Where pages cannot be asked for, a page that is not full is all there is. */
static enum listing_answer only_page (const struct page *page, const char **why)
{
    if (page->count < LISTING_LIMIT && !page->cut)
        return LISTING_NOT_THERE;
    return unclear (why, "the list of transactions is full and cannot be paged");
}

static enum listing_answer first_page (struct listing *listing, const struct page *page, const char **why)
{
    if (page->count == 0 && !page->cut)
        return LISTING_NOT_THERE;
    if (page->timeless)
        return only_page (page, why);
    listing->newest_may_be_missing = page->count >= LISTING_LIMIT && !page->newest_first;
    listing->step = LISTING_OLDER;
    return LISTING_MORE;
}

/*  What lies before the oldest that was seen, and the oldest itself again. */
static enum listing_answer older_page (struct listing *listing, const struct page *page, const char **why)
{
    if (page->newest > listing->oldest + 1 && listing->pages == 1)
        return only_page (page, why);
    if (page->newest > listing->oldest + 1 || page->oldest > listing->oldest)
        return unclear (why, "the list of transactions has something else on each page than was asked for");
    if (page->oldest < listing->oldest && listing->unsorted)
        return unclear (why, "the list of transactions is paged and in no order");
    if (page->oldest < listing->oldest) {
        listing->newest_may_be_missing = false;
        return LISTING_MORE;
    }
    if (page->cut || listing->newest_may_be_missing)
        return unclear (why, "the list of transactions is cut, and nobody knows where");
    if (page->count < listing->count_max || listing->oldest == 0)
        return LISTING_NOT_THERE;
    if (page->count >= LISTING_LIMIT)
        return unclear (why, "the list of transactions has a full page of one moment");
    listing->step = LISTING_BELOW;
    return LISTING_MORE;
}

/*  What lies below the oldest moment, of which a page may have been full. */
static enum listing_answer below_page (struct listing *listing, const struct page *page, const char **why)
{
    uint64_t before = listing->step == LISTING_BELOW ? listing->oldest : listing->oldest - 1;
    if (page->count == 0 && !page->cut)
        return LISTING_NOT_THERE;
    if (page->newest > before)
        return only_page (page, why);
    if (page->oldest < listing->oldest || listing->step == LISTING_UNDER || page->cut)
        return unclear (why, "the list of transactions may have more of one moment than a page holds");
    listing->step = LISTING_UNDER;
    return LISTING_MORE;
}

enum listing_answer listing_take (struct listing *listing, const struct listing_wanted *wanted,
                                  enum body_state state, struct raw body, const char **why)
{
    struct page page;
    enum listing_answer answer;
    if (!read_page (&page, wanted, state, body))
        return unclear (why, "the list of transactions is no list");
    if (page.found)
        return LISTING_FOUND;
    if (page.unclear)
        return unclear (why, "the list of transactions has something in it that makes no sense");
    if (page.cut && (page.count == 0 || page.timeless || !page.newest_first))
        return unclear (why, "the list of transactions came in part");
    if (listing->step == LISTING_FIRST)
        answer = first_page (listing, &page, why);
    else if (page.timeless)
        return unclear (why, "the list of transactions has times on some pages only");
    else if (listing->step == LISTING_OLDER)
        answer = older_page (listing, &page, why);
    else
        answer = below_page (listing, &page, why);
    if (answer != LISTING_MORE)
        return answer;
    if (++listing->pages == LISTING_PAGES_MAX)
        return unclear (why, "the list of transactions has too many pages");
    listing->unsorted = !page.newest_first && !page.oldest_first;
    listing->count_max = page.count > listing->count_max ? page.count : listing->count_max;
    if (listing->pages == 1 || page.oldest < listing->oldest)
        listing->oldest = page.oldest;
    return LISTING_MORE;
}
