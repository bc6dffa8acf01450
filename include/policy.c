/*  policy.c - how much a service is asked, and when not at all. */

#include "include/policy.h"

#include <assert.h>

#include "include/backoff.h"
#include "include/mistake.h"

/*  ---- the breaker -------------------------------------------------------- */

static void open_for (struct breaker *breaker, uint64_t now_ms, uint64_t wait_ms)
{
    uint64_t until_ms = wait_ms < UINT64_MAX - now_ms ? now_ms + wait_ms : UINT64_MAX;
    breaker->failures += breaker->failures < UINT32_MAX;
    breaker->until_ms = until_ms;
    breaker->state = BREAKER_OPEN;
}

void breaker_init (struct breaker *breaker)
{
    *breaker = (struct breaker){ .state = BREAKER_HALF_OPEN, .asking = true };
}

void breaker_down (struct breaker *breaker, uint64_t now_ms, uint64_t wait_ms)
{
    breaker->asking = true;
    open_for (breaker, now_ms, wait_ms);
}

void breaker_trip (struct breaker *breaker, uint64_t now_ms, uint64_t wait_ms)
{
    breaker->trial = true;
    if (!breaker->asking && breaker->state != BREAKER_OPEN)
        open_for (breaker, now_ms, wait_ms);
}

void breaker_ask (struct breaker *breaker)
{
    breaker->trial = false;
    if (breaker->asking || breaker->state == BREAKER_CLOSED)
        return;
    breaker->asking = true;
    breaker->state = BREAKER_HALF_OPEN;
}

void breaker_tick (struct breaker *breaker, uint64_t now_ms)
{
    if (breaker->state == BREAKER_OPEN && now_ms >= breaker->until_ms && !MISTAKE (BREAKER_STAYS_OPEN))
        breaker->state = BREAKER_HALF_OPEN;
}

void breaker_answered (struct breaker *breaker)
{
    breaker->asking = false;
    if (!breaker->trial)
        breaker_good (breaker);
}

void breaker_good (struct breaker *breaker)
{
    breaker->asking = false;
    breaker->trial = false;
    breaker->failures = 0;
    breaker->state = BREAKER_CLOSED;
}

uint32_t breaker_allows (const struct breaker *breaker, uint32_t limit)
{
    if (breaker->state == BREAKER_CLOSED)
        return limit;
    return breaker->state == BREAKER_HALF_OPEN && !breaker->asking ? 1 : 0;
}

/*  ---- the limiter -------------------------------------------------------- */

/*  The service is slow when requests lately took this many times what they take
    when it has little to do, and a little more: a few ms are noise. */
enum { SLOW_TIMES = 3, SLOW_SLACK_US = 20000 };

/*  How fast the averages follow: each answer moves them by one part in so many.
    What is usual falls only, and slowly, so that some lucky answers do not make
    the others look slow. */
enum { RECENT_PARTS = 16, USUAL_PARTS = 32 };

/*  Longer than any request may take: keeps the averages from overflowing. */
enum { TOOK_MAX_MS = 3600000 };

void limiter_init (struct limiter *limiter)
{
    *limiter = (struct limiter){ .limit = HTTP_CONCURRENCY_MAX };
}

void limiter_restart (struct limiter *limiter)
{
    uint64_t settled = limiter->settled;
    *limiter = (struct limiter){ .limit = 1, .settled = settled };
}

/*  Shrinks once for all requests that were under way together: what they met is
    one and the same overload. */
static void shrink (struct limiter *limiter, const struct sample *sample, uint32_t limit)
{
    if (sample->number <= limiter->settled)
        return;
    limiter->settled = sample->newest;
    limiter->good = 0;
    limiter->limit = limit > 0 ? limit : 1;
}

static uint64_t towards (uint64_t average, uint64_t value, uint64_t parts)
{
    return (average * (parts - 1) + value) / parts;
}

/*  Takes note of how long a request took; true when that has become too long. */
static bool slow (struct latency *latency, uint64_t took_us)
{
    if (latency->usual_us == 0)
        latency->recent_us = latency->usual_us = took_us;
    latency->recent_us = towards (latency->recent_us, took_us, RECENT_PARTS);
    if (latency->recent_us < latency->usual_us)
        latency->usual_us = towards (latency->usual_us, latency->recent_us, USUAL_PARTS) + 1;
    return latency->recent_us > SLOW_TIMES * latency->usual_us + SLOW_SLACK_US;
}

void limiter_good (struct limiter *limiter, const struct sample *sample)
{
    assert (sample->kind < POLICY_KINDS_MAX && sample->number <= sample->newest);
    /*  A higher limit made that one wait. */
    if (sample->number <= limiter->settled)
        return;
    struct latency *latency = &limiter->latency[sample->kind];
    /*  At least 1: 0 is unknown. */
    uint64_t took_us = (sample->took_ms < TOOK_MAX_MS ? sample->took_ms : TOOK_MAX_MS) * 1000 + 1;
    bool is_slow = slow (latency, took_us);
    /*  A limit that is not reached says nothing, neither about a higher nor about a
        lower one. */
    if (!sample->full)
        return;
    if (is_slow && limiter->limit > 1) {
        shrink (limiter, sample, limiter->limit * 3 / 4);
        latency->recent_us = latency->usual_us;
        return;
    }
    /*  What takes long even alone does so for reasons that going easy cannot help. */
    if (is_slow)
        latency->recent_us = latency->usual_us = took_us;
    if (++limiter->good < limiter->limit)
        return;
    limiter->good = 0;
    limiter->limit += limiter->limit < HTTP_CONCURRENCY_MAX;
}

void limiter_overloaded (struct limiter *limiter, const struct sample *sample)
{
    shrink (limiter, sample, limiter->limit / 2);
}

/*  ---- the budget --------------------------------------------------------- */

enum { BUDGET_MAX = BUDGET_BURST * BUDGET_COST };

static void add (struct budget *budget, uint64_t tokens)
{
    budget->tokens = tokens < BUDGET_MAX - budget->tokens ? budget->tokens + tokens : BUDGET_MAX;
}

/*  A second brings BUDGET_PER_SECOND repetitions, a ms a thousandth of that. */
_Static_assert(BUDGET_COST == 1000, "what a ms brings is a whole number of tokens");

static void pass (struct budget *budget, uint64_t now_ms)
{
    if (now_ms <= budget->at_ms)
        return;
    uint64_t ms = now_ms - budget->at_ms;
    add (budget, ms < BUDGET_MAX ? ms * BUDGET_PER_SECOND : BUDGET_MAX);
    budget->at_ms = now_ms;
}

void budget_init (struct budget *budget)
{
    *budget = (struct budget){ .tokens = BUDGET_MAX };
}

void budget_good (struct budget *budget)
{
    add (budget, BUDGET_SHARE);
}

bool budget_take (struct budget *budget, uint64_t now_ms)
{
    pass (budget, now_ms);
    if (budget->tokens < BUDGET_COST)
        return false;
    budget->tokens -= BUDGET_COST;
    return true;
}

uint64_t budget_due (const struct budget *budget, uint64_t now_ms)
{
    struct budget then = *budget;
    pass (&then, now_ms);
    if (then.tokens >= BUDGET_COST)
        return now_ms;
    return now_ms + (BUDGET_COST - then.tokens + BUDGET_PER_SECOND - 1) / BUDGET_PER_SECOND;
}

/*  ---- waiting ------------------------------------------------------------ */

uint64_t policy_wait_ms (uint32_t failures, uint64_t salt, uint64_t retry_after_ms)
{
    uint64_t wait_ms = backoff_ms (failures, salt);
    if (retry_after_ms > RETRY_AFTER_MAX_MS)
        retry_after_ms = RETRY_AFTER_MAX_MS;
    return wait_ms > retry_after_ms ? wait_ms : retry_after_ms;
}
