/*  sim_main.c - the command line of the simulator. */

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

static const char usage[] =
    "usage: sim [--seeds A-B | --minutes M | --trace SEED] [--faults LIST]\n"
    "       sim --mistakes [SEEDS]\n"
    "       sim --crash-points [STRIDE]\n"
    "       sim --crash NUMBERS\n"
    "\n"
    "Runs the cores of all actors under virtual time, with a network, services,\n"
    "disks, clocks and processes that fail as the seed says, and checks what is\n"
    "promised after every step. See docs/simulation.md.\n"
    "\n"
    "  --seeds A-B       these seeds (default 1-1000)\n"
    "  --minutes M       seeds from 1 on, for so many minutes\n"
    "  --trace SEED      tells the whole story of a seed\n"
    "  --faults LIST     of network,services,disk,clock,kill,lose (default: all; none)\n"
    "  --mistakes SEEDS  switches deliberate mistakes on, one at a time: each must be\n"
    "                    found within so many seeds (default 1000)\n"
    "  --crash-points STRIDE\n"
    "                    kills a process at every point of a story, and at every\n"
    "                    STRIDEth point of the recovery (default 1: all pairs)\n"
    "  --crash NUMBERS   tells the story of one pair, as a violation names it\n"
    "\n"
    "Exit code: 0 nothing found, 1 a promise was broken, 64 usage.\n";

static int refuse (const char *what, const char *expected)
{
    fprintf (stderr, "sim: \"%s\": expected %s; see --help\n", what, expected);
    return 64;
}

static bool read_number (const char *text, char end, uint64_t *number, const char **rest)
{
    char *stop;
    errno = 0;
    *number = strtoull (text, &stop, 10);
    if (rest)
        *rest = stop + 1;
    return errno == 0 && *text >= '0' && *text <= '9' && *stop == end;
}

static bool read_faults (const char *list, unsigned *faults)
{
    static const char *const names[] = { "network", "services", "disk", "clock", "kill", "lose" };
    *faults = 0;
    if (strcmp (list, "none") == 0)
        return true;
    while (*list) {
        size_t size = strcspn (list, ",");
        unsigned i = 0;
        while (i < 6 && (strlen (names[i]) != size || memcmp (names[i], list, size) != 0))
            i++;
        if (i == 6)
            return false;
        *faults |= 1u << i;
        list += size + (list[size] == ',');
    }
    return *faults != 0;
}

/*  A command that stands alone, with a number or without. */
static int run_alone (const char *command, const char *value)
{
    bool mistakes = strcmp (command, "--mistakes") == 0;
    uint64_t number = mistakes ? 1000 : 1;
    if (value && (!read_number (value, '\0', &number, NULL) || !number || number > 100000))
        return refuse (value, "a number from 1 to 100000");
    return mistakes ? campaign_mistakes (number) : crash_points ((unsigned) number);
}

int main (int argc, char **argv)
{
    uint64_t first = 1, last = 1000, seed = 0, minutes = 0;
    unsigned faults = FAULTS_ALL;
    bool trace = false;
    /*  Large blocks are mapped every time, so that only what is touched is cleared. */
    mallopt (M_MMAP_THRESHOLD, 128 * 1024);
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *rest = "", *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp (name, "--help") == 0) {
            fputs (usage, stdout);
            return 0;
        }
        if (strcmp (name, "--mistakes") == 0 || strcmp (name, "--crash-points") == 0)
            return argc > 3 || i > 1 ? refuse (argv[argc - 1], "nothing more") : run_alone (name, value);
        if (!value)
            return refuse (name, "an option with its value");
        if (strcmp (name, "--seeds") == 0) {
            if (!read_number (value, '-', &first, &rest) || !read_number (rest, '\0', &last, NULL) ||
                last < first)
                return refuse (value, "two numbers, as in 1-1000");
        } else if (strcmp (name, "--minutes") == 0) {
            if (!read_number (value, '\0', &minutes, NULL) || !minutes || minutes > 10000)
                return refuse (value, "minutes, from 1 to 10000");
            last = UINT64_MAX / 2;
        } else if (strcmp (name, "--trace") == 0) {
            if (!read_number (value, '\0', &seed, NULL))
                return refuse (value, "a seed");
            trace = true;
        } else if (strcmp (name, "--faults") == 0) {
            if (!read_faults (value, &faults))
                return refuse (value, "a list of network, services, disk, clock, kill, lose; or none");
        } else if (strcmp (name, "--crash") == 0) {
            return crash_trace (value) ? 0 : refuse (value, "five numbers, as a violation names them");
        } else {
            return refuse (name, "an option");
        }
    }
    return trace ? campaign_trace (seed, faults) : campaign_seeds (first, last, faults, (unsigned) minutes);
}
