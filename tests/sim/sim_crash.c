/*  sim_crash.c - every place where a process may die: a small story, in which one
    process is killed before and after every effect that its shell performs, and
    then again at every such point of its second life. */

#include "tests/sim/sim.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS_MAX = 16, SHOWN_MAX = 5, USERS_DUE = 3, VARIANTS = 3, SECONDS_A_STORY_MAX = 20 };

/*  A story, and who dies in it. */
static const struct scene {
    const char *name;
    enum layout layout;
    uint32_t victim; /* process */
    bool has_disk;   /* that may be lost */
} scenes[] = {
    { "all in one process", LAYOUT_ONE, 0, true },       { "decision alone", LAYOUT_SPLIT, 1, true },
    { "ingest alone", LAYOUT_SPLIT, 0, false },          { "usermeta-client alone", LAYOUT_SPLIT, 2, false },
    { "currency-client alone", LAYOUT_SPLIT, 3, false },
};

enum { SCENES = sizeof scenes / sizeof *scenes };

/*  What a worker found, in memory that outlives it. */
struct finding {
    uint64_t points, pairs, violations;
    uint64_t at[2]; /* the story at work */
    unsigned loses, variant;
    bool busy;
};

static struct sim_options options_of (unsigned scene, unsigned loses, unsigned variant, uint64_t first,
                                      uint64_t second)
{
    return (struct sim_options){ .seed = 1,
                                 .calm = true,
                                 .layout = scenes[scene].layout,
                                 .calm_users = USERS_DUE,
                                 .victim = scenes[scene].victim,
                                 .kill_at = { first, second },
                                 .loses = { loses & 1, loses >> 1 & 1 },
                                 .variant = variant };
}

static void tell_violation (unsigned scene, const struct finding *result, const char *what)
{
    if (result->violations > SHOWN_MAX)
        return;
    printf ("%s: %s\n  replay: build/bin/sim --crash %u,%u,%u,%" PRIu64 ",%" PRIu64 "\n", scenes[scene].name,
            what, scene, result->loses, result->variant, result->at[0], result->at[1]);
    fflush (stdout);
}

/*  Tells a story; the points of the victim's last life, as far as it came. */
static uint64_t tell (struct sim *sim, unsigned scene, struct finding *result)
{
    const struct sim_options options =
        options_of (scene, result->loses, result->variant, result->at[0], result->at[1]);
    alarm (SECONDS_A_STORY_MAX);
    if (!sim_run (sim, &options)) {
        result->violations++;
        tell_violation (scene, result, sim->failure);
    }
    uint64_t points = sim->processes[options.victim].points;
    sim_clear (sim);
    return points;
}

/*  All second deaths after one first death. */
static void die_twice (struct sim *sim, unsigned scene, struct finding *result, unsigned stride)
{
    result->at[1] = 0;
    result->points++;
    uint64_t points = tell (sim, scene, result);
    for (uint64_t second = 1 + (result->at[0] + result->variant) % stride; second <= points;
         second += stride) {
        result->at[1] = second;
        result->pairs++;
        tell (sim, scene, result);
    }
}

/*  One worker takes every `workers`th point. The disk is kept, or lost with either
    death or with both. */
static void work (unsigned scene, unsigned worker, unsigned workers, unsigned stride, struct finding *result)
{
    struct sim *sim = malloc (sizeof *sim);
    assert (sim);
    result->busy = true;
    for (result->loses = 0; result->loses < (scenes[scene].has_disk ? 4u : 1u); result->loses++) {
        for (result->variant = 0; result->variant < VARIANTS; result->variant++) {
            result->at[0] = result->at[1] = 0;
            uint64_t points = tell (sim, scene, result);
            for (uint64_t first = 1 + worker; first <= points; first += workers) {
                result->at[0] = first;
                die_twice (sim, scene, result, stride);
            }
        }
    }
    result->busy = false;
    free (sim);
}

static void run_scene (unsigned scene, unsigned stride, struct finding *results, unsigned workers)
{
    memset (results, 0, workers * sizeof *results);
    fflush (NULL);
    for (unsigned i = 0; i < workers; i++) {
        pid_t pid = fork ();
        assert (pid >= 0);
        if (pid == 0) {
            work (scene, i, workers, stride, &results[i]);
            _exit (0);
        }
    }
    for (unsigned i = 0; i < workers; i++)
        wait (NULL);
    for (unsigned i = 0; i < workers; i++)
        if (results[i].busy) { /* it ended badly, in the middle of a story */
            results[i].violations++;
            tell_violation (scene, &results[i], "ended by a signal");
        }
}

int crash_points (unsigned stride)
{
    long processors = sysconf (_SC_NPROCESSORS_ONLN);
    unsigned workers = processors < 1 ? 1 : processors > WORKERS_MAX ? WORKERS_MAX : (unsigned) processors;
    struct finding *results =
        mmap (NULL, WORKERS_MAX * sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert (results != MAP_FAILED);
    uint64_t violations = 0;
    for (unsigned scene = 0; scene < SCENES; scene++) {
        struct timespec begun, ended;
        clock_gettime (CLOCK_MONOTONIC, &begun);
        run_scene (scene, stride, results, workers);
        clock_gettime (CLOCK_MONOTONIC, &ended);
        struct finding sum = { 0 };
        for (unsigned i = 0; i < workers; i++) {
            sum.points += results[i].points;
            sum.pairs += results[i].pairs;
            sum.violations += results[i].violations;
        }
        printf ("%s: killed at %" PRIu64 " points and %" PRIu64 " pairs of points (one of %u), %" PRIu64
                " violations, in %ld s\n",
                scenes[scene].name, sum.points, sum.pairs, stride, sum.violations,
                (long) (ended.tv_sec - begun.tv_sec));
        violations += sum.violations;
    }
    munmap (results, WORKERS_MAX * sizeof *results);
    return violations ? 1 : 0;
}

bool crash_trace (const char *text)
{
    unsigned long numbers[5];
    for (unsigned i = 0; i < 5; i++) {
        char *end;
        if (*text < '0' || *text > '9')
            return false;
        numbers[i] = strtoul (text, &end, 10);
        if (*end != (i < 4 ? ',' : '\0'))
            return false;
        text = end + 1;
    }
    if (numbers[0] >= SCENES || numbers[1] > 3 || numbers[2] >= VARIANTS)
        return false;
    struct sim *sim = malloc (sizeof *sim);
    assert (sim);
    struct sim_options options = options_of ((unsigned) numbers[0], (unsigned) numbers[1],
                                             (unsigned) numbers[2], numbers[3], numbers[4]);
    options.trace = stdout;
    sim_run (sim, &options);
    sim_clear (sim);
    free (sim);
    return true;
}
