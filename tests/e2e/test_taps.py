"""test_taps.py - a hundred taps that look at everything, one of them stopped dead:
the flow goes on as fast, and memory stays bounded. Runs alone.

What the flow loses is measured in pairs, one batch of events after the other on
the same running program, since the machine is never the same for long: without
taps, and with all of them there. Two things are compared: the processor time that
the actors' threads spend on an event, which hardly depends on what else the
machine does, and events a second, which do.
"""
import collections
import os
import signal
import statistics
import time

import harness
import shapes
from harness import wait_until
from test_tap import TapCase

TAPS = 100
BATCH = 40000
PAIRS = 3
TRIES = 5
COST_MAX = 0.10  # of processor time
# Of events a second. On a machine that is shared a ratio of two runs of a second says
# little. TAPS_LOSS_MAX=0.10 asks for what holds on a quiet one.
LOSS_MAX = float(os.environ.get("TAPS_LOSS_MAX", "0.25"))
GROWTH_KB_MAX = 128 << 10  # the bound that tests/shell/test_tap_bounds.c proves

Batch = collections.namedtuple("Batch", "rate cost")


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


class Taps(TapCase):
    shape = shapes.named("one")

    def actors_ns(self):
        """Processor time of the actors' threads so far."""
        threads = ["/proc/%d/task/%s/" % (self.program.pid, thread)
                   for thread in os.listdir("/proc/%d/task" % self.program.pid)]
        found = [int(read(thread + "schedstat").split()[0]) for thread in threads
                 if read(thread + "comm").strip() in shapes.ROLES]
        self.assertEqual(len(shapes.ROLES), len(found))
        return sum(found)

    def timed_batch(self):
        """Log-ins of players without a game."""
        users = ["stranger%06d" % (self.served + n) for n in range(BATCH)]
        self.served += BATCH
        spent, start = self.actors_ns(), time.monotonic()
        last = self.events.add_logins(users)[-1]
        self.wait_acked(last, 60)
        return Batch(BATCH / (time.monotonic() - start), (self.actors_ns() - spent) / BATCH)

    def connected(self):
        """Connections to the tap's socket, as the kernel has them."""
        with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
            # The socket that listens has this name, and so has every accepted one.
            return sum(line.rstrip().endswith(self.endpoint()[len("ipc://"):]) for line in file) - 1

    def test_a_hundred_taps_one_of_them_stopped(self):
        self.served = 0
        self.program = self.worker(LOG_LEVEL="WARN").wait_ready()
        self.timed_batch()
        losses, costs = [], []
        for _ in range(TRIES):
            pairs = [self.pair() for _ in range(PAIRS)]
            losses.append(1 - statistics.median(busy.rate / free.rate for free, busy in pairs))
            costs.append(statistics.median(busy.cost / free.cost for free, busy in pairs) - 1)
            print("a hundred taps: %+.1f%% events/s (%s), %+.1f%% processor time of the actors (%s us)" % (
                -100 * losses[-1], " ".join("%d:%d" % (free.rate, busy.rate) for free, busy in pairs),
                100 * costs[-1], " ".join("%.2f:%.2f" % (free.cost / 1000, busy.cost / 1000)
                                          for free, busy in pairs)))
            if min(losses) < LOSS_MAX and min(costs) < COST_MAX:
                break
        if not harness.sanitized():
            self.assertLess(min(costs), COST_MAX)
            self.assertLess(min(losses), LOSS_MAX)
        self.program.stop()

    def pair(self):
        """(alone, watched)"""
        free = self.timed_batch()
        before = self.program.rss_kb()
        taps = [self.tap() for _ in range(TAPS)]
        wait_until(lambda: self.connected() >= TAPS, 60, "%d taps are connected" % TAPS)
        os.kill(taps[0].process.pid, signal.SIGSTOP)
        busy = self.timed_batch()
        grown = self.program.rss_kb() - before
        wait_until(lambda: any(tap.text() for tap in taps[1:]), 60, "some tap shows something")
        for tap in taps:
            tap.close()
        wait_until(lambda: self.connected() <= 0, 60, "the taps are gone")
        print("grown by %d kB" % grown)
        if not harness.sanitized():
            self.assertLess(grown, GROWTH_KB_MAX)
        return free, busy


if __name__ == "__main__":
    harness.main()
