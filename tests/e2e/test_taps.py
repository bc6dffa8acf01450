"""test_taps.py - a hundred taps, one of them stopped dead: the flow goes on as
fast, and memory stays bounded. Runs alone.

How fast is measured in pairs, one after the other on the same running program,
since the machine is never the same for long: a batch of events with the taps
stopped dead or gone, and one with all of them there.
"""
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
TRIES = 3
# On a machine that is shared, a ratio of two runs of half a second says little: in
# every test run it shows that no tap, not even one that is stopped dead, holds up
# the flow. TAPS_LOSS_MAX=0.10 asks for what holds on a quiet machine.
LOSS_MAX = float(os.environ.get("TAPS_LOSS_MAX", "0.70"))
GROWTH_KB_MAX = 128 << 10  # the bound that tests/shell/test_tap_bounds.c proves


class Taps(TapCase):
    shape = shapes.named("one")

    def timed_batch(self):
        """Events a second of a batch of log-ins of players without a game."""
        users = ["stranger%06d" % (self.served + n) for n in range(BATCH)]
        self.served += BATCH
        start = time.monotonic()
        last = self.events.add_logins(users)[-1]
        self.wait_acked(last, 60)
        return BATCH / (time.monotonic() - start)

    def open_taps(self, count, *options):
        found = [self.tap(*options) for _ in range(count)]
        wait_until(lambda: self.connected() >= count, 20, "%d taps are connected" % count)
        return found

    def connected(self):
        """Connections to the tap's socket, as the kernel has them."""
        with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
            # The socket that listens has this name, and so has every accepted one.
            return sum(line.rstrip().endswith(self.endpoint()[len("ipc://"):]) for line in file) - 1

    def test_a_hundred_taps_one_of_them_stopped(self):
        self.served = 0
        worker = self.worker(LOG_LEVEL="WARN").wait_ready()
        self.timed_batch()
        losses = []
        for _ in range(TRIES):
            pairs = [self.pair(worker) for _ in range(PAIRS)]
            losses.append(1 - statistics.median(busy / free for free, busy in pairs))
            print("a hundred taps: %+.1f%% (events/s %s)" % (
                -100 * losses[-1], " ".join("%d:%d" % pair for pair in pairs)))
            if losses[-1] < LOSS_MAX:
                break
        if not harness.sanitized():
            self.assertLess(min(losses), LOSS_MAX)
        worker.stop()

    def pair(self, worker):
        """(alone, watched)"""
        free = self.timed_batch()
        before = worker.rss_kb()
        # One looks at everything and stands still; the others look for a player.
        stopped = self.open_taps(1)[0]
        os.kill(stopped.process.pid, signal.SIGSTOP)
        others = self.open_taps(TAPS - 1, "--user", "nobody-in-particular")
        busy = self.timed_batch()
        grown = worker.rss_kb() - before
        for tap in (stopped, *others):
            tap.close()
        wait_until(lambda: self.connected() <= 0, 20, "the taps are gone")
        print("grown by %d kB" % grown)
        if not harness.sanitized():
            self.assertLess(grown, GROWTH_KB_MAX)
        return free, busy


if __name__ == "__main__":
    harness.main()
