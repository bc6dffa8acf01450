/*  sim_campaign.c - many seeds on all processors, and what they found. */

#include "tests/sim/sim.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "include/mistake.h"

enum { WORKERS_MAX = 16, FAILURES_SHOWN_MAX = 400, TAIL_LINES = 80, SECONDS_A_SEED_MAX = 60 };

enum mistake mistake;

/*  What a worker tells: in memory that outlives it. */
struct report {
    uint64_t seed; /* at work */
    uint64_t done;
    uint64_t virtual_ms;
    uint64_t steps;
    uint64_t busy_us; /* of a processor */
    bool failed;      /* at `seed`; the worker has ended */
    char failure[512];
};

struct campaign {
    uint64_t first, last;
    unsigned faults;
    uint64_t end_us; /* of the machine's time; 0: none */
    bool first_only; /* one failure is enough */
    unsigned workers;
    struct report *reports;
    pid_t pids[WORKERS_MAX];
    uint64_t failures;
    uint64_t failed_seed; /* the lowest */
};

static uint64_t clock_us (clockid_t clock)
{
    struct timespec now;
    clock_gettime (clock, &now);
    return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static const char *faults_text (unsigned faults)
{
    static char text[64];
    static const char *const names[] = { "network", "services", "disk", "clock", "kill", "lose" };
    snprintf (text, sizeof text, "%s", faults ? "" : "none");
    for (unsigned i = 0; i < 6; i++)
        if (faults & 1u << i) {
            size_t used = strlen (text);
            snprintf (text + used, sizeof text - used, "%s%s", used ? "," : "", names[i]);
        }
    return text;
}

/*  ---- a worker ----------------------------------------------------------- */

static void run_seeds (const struct campaign *campaign, struct report *report, uint64_t seed)
{
    struct sim *sim = malloc (sizeof *sim);
    assert (sim);
    for (; seed <= campaign->last && (!campaign->end_us || clock_us (CLOCK_MONOTONIC) < campaign->end_us);
         seed += campaign->workers) {
        report->seed = seed;
        uint64_t begun_us = clock_us (CLOCK_PROCESS_CPUTIME_ID);
        alarm (SECONDS_A_SEED_MAX);
        bool good = sim_run (sim, &(struct sim_options){ .seed = seed, .faults = campaign->faults });
        report->virtual_ms += sim->now_ms;
        report->steps += sim->happened;
        report->done++;
        if (!good) {
            snprintf (report->failure, sizeof report->failure, "%s", sim->failure);
            report->failed = true;
        }
        sim_clear (sim);
        report->busy_us += clock_us (CLOCK_PROCESS_CPUTIME_ID) - begun_us;
        if (report->failed)
            break;
    }
    free (sim);
}

static void start_worker (struct campaign *campaign, unsigned worker, uint64_t seed)
{
    struct report *report = &campaign->reports[worker];
    report->failed = false;
    fflush (NULL);
    campaign->pids[worker] = fork ();
    assert (campaign->pids[worker] >= 0);
    if (campaign->pids[worker])
        return;
    if (campaign->first_only && !freopen ("/dev/null", "w", stderr))
        _exit (1); /* what an assertion says is of no interest */
    run_seeds (campaign, report, seed);
    _exit (0);
}

/*  ---- the campaign ------------------------------------------------------- */

static void note_failure (struct campaign *campaign, struct report *report, int status)
{
    if (WIFSIGNALED (status))
        snprintf (report->failure, sizeof report->failure, "ended by %s", strsignal (WTERMSIG (status)));
    else if (WEXITSTATUS (status))
        snprintf (report->failure, sizeof report->failure, "ended with %d", WEXITSTATUS (status));
    if (!campaign->failures || report->seed < campaign->failed_seed)
        campaign->failed_seed = report->seed;
    campaign->failures++;
    if (campaign->first_only || campaign->failures > FAILURES_SHOWN_MAX)
        return;
    printf ("seed %" PRIu64 ": %s\n  replay: build/bin/sim --trace %" PRIu64 " --faults %s\n", report->seed,
            report->failure, report->seed, faults_text (campaign->faults));
}

/*  Runs it; a worker that found something, or ended badly, is followed by another
    behind that seed. */
static void campaign_run (struct campaign *campaign)
{
    long processors = sysconf (_SC_NPROCESSORS_ONLN);
    campaign->workers = processors < 1 ? 1 : processors > WORKERS_MAX ? WORKERS_MAX : (unsigned) processors;
    campaign->reports = mmap (NULL, WORKERS_MAX * sizeof *campaign->reports, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert (campaign->reports != MAP_FAILED);
    for (unsigned i = 0; i < campaign->workers; i++)
        start_worker (campaign, i, campaign->first + i);
    unsigned left = campaign->workers;
    while (left) {
        int status = 0;
        pid_t pid = wait (&status);
        unsigned worker = 0;
        while (worker < campaign->workers && campaign->pids[worker] != pid)
            worker++;
        if (worker == campaign->workers)
            continue;
        struct report *report = &campaign->reports[worker];
        left--;
        if (!report->failed && WIFEXITED (status) && WEXITSTATUS (status) == 0)
            continue;
        note_failure (campaign, report, status);
        if (campaign->first_only)
            campaign->last = campaign->failed_seed; /* a lower one may be at work elsewhere */
        if (report->seed + campaign->workers > campaign->last || campaign->failures > 1000)
            continue;
        start_worker (campaign, worker, report->seed + campaign->workers);
        left++;
    }
}

static struct report campaign_sum (const struct campaign *campaign)
{
    struct report sum = { 0 };
    for (unsigned i = 0; i < campaign->workers; i++) {
        sum.done += campaign->reports[i].done;
        sum.virtual_ms += campaign->reports[i].virtual_ms;
        sum.steps += campaign->reports[i].steps;
        sum.busy_us += campaign->reports[i].busy_us;
    }
    return sum;
}

static void campaign_end (struct campaign *campaign)
{
    munmap (campaign->reports, WORKERS_MAX * sizeof *campaign->reports);
}

/*  The last lines of a seed's story, told again by a process of its own, because it
    may end badly. */
static void print_tail (uint64_t seed, unsigned faults, unsigned lines)
{
    FILE *file = tmpfile ();
    assert (file);
    fflush (NULL);
    pid_t pid = fork ();
    if (pid == 0) {
        setvbuf (file, NULL, _IOLBF, 0);
        struct sim *sim = malloc (sizeof *sim);
        alarm (SECONDS_A_SEED_MAX);
        if (sim)
            sim_run (sim, &(struct sim_options){ .seed = seed, .faults = faults, .trace = file });
        fflush (file);
        _exit (0);
    }
    waitpid (pid, NULL, 0);
    unsigned count = 0;
    rewind (file);
    for (int c = fgetc (file); c != EOF; c = fgetc (file))
        count += c == '\n';
    rewind (file);
    for (int c = fgetc (file); c != EOF; c = fgetc (file)) {
        if (!lines || count <= lines)
            putchar (c);
        count -= c == '\n';
    }
    fclose (file);
}

int campaign_trace (uint64_t seed, unsigned faults)
{
    print_tail (seed, faults, 0);
    return 0;
}

int campaign_seeds (uint64_t first, uint64_t last, unsigned faults, unsigned minutes)
{
    uint64_t begun_us = clock_us (CLOCK_MONOTONIC);
    struct campaign campaign = { .first = first, .last = last, .faults = faults };
    if (minutes)
        campaign.end_us = begun_us + (uint64_t) minutes * 60000000;
    campaign_run (&campaign);
    struct report sum = campaign_sum (&campaign);
    campaign_end (&campaign);
    uint64_t took_us = clock_us (CLOCK_MONOTONIC) - begun_us;
    printf ("%" PRIu64 " seeds from %" PRIu64 ", faults %s: %" PRIu64 " violations\n", sum.done, first,
            faults_text (faults), campaign.failures);
    printf ("%.1f h of virtual time, %" PRIu64
            " steps, in %.1f s, %.1f s of processors: one of them is %" PRIu64
            " times faster than real time\n",
            (double) sum.virtual_ms / 3600000, sum.steps, (double) took_us / 1000000,
            (double) sum.busy_us / 1000000, sum.busy_us ? sum.virtual_ms * 1000 / sum.busy_us : 0);
    if (!campaign.failures)
        return 0;
    printf ("\nthe end of seed %" PRIu64 ":\n", campaign.failed_seed);
    print_tail (campaign.failed_seed, faults, TAIL_LINES);
    return 1;
}

/*  ---- mistakes ----------------------------------------------------------- */

int campaign_mistakes (uint64_t seeds)
{
#define NAME_OF(name, what) { MISTAKE_##name, #name, what },
    static const struct {
        enum mistake mistake;
        const char *name, *what;
    } all[] = { MISTAKES (NAME_OF) };
#undef NAME_OF
    unsigned missed = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct campaign campaign = { .first = 1, .last = seeds, .faults = FAULTS_ALL, .first_only = true };
        mistake = all[i].mistake;
        campaign_run (&campaign);
        if (campaign.failures)
            printf ("found by seed %-5" PRIu64 " %s: %s\n", campaign.failed_seed, all[i].name, all[i].what);
        else
            printf ("NOT FOUND           %s: %s\n", all[i].name, all[i].what);
        missed += !campaign.failures;
        campaign_end (&campaign);
    }
    mistake = MISTAKE_NONE;
    return missed ? 1 : 0;
}
