"""test_taps.py - a hundred taps that look at everything, one of them stopped dead:
rewards go out as fast, and memory stays bounded. Runs alone.

What the flow loses is measured in pairs, one batch of events after the other on
the same running program, since the machine is never the same for long: without
taps, and with all of them there. Every event is a log-in that is rewarded; who
answers for players and rewards is the stub of the benchmark, so that the program
has the processors and not a stand-in.

Three things are compared: the processor time that the actors' threads spend on an
event, and that of the whole program, which hardly depend on what else the machine
does, and events a second, which do. The taps are on the same machine, and yield
to all others as guerdon tap does.
"""
import collections
import os
import signal
import statistics
import subprocess
import time

import harness
import shapes
from harness import wait_until
from test_tap import TapCase

TAPS = 100
BATCH = 30000
PAIRS = 3
TRIES = 5
COST_MAX = 0.10  # of the actors' processor time
WHOLE_MAX = 0.25  # of all of the program's
# Of events a second. On a machine that is shared a ratio of two runs of a second says
# little. TAPS_LOSS_MAX=0.10 asks for what holds on a quiet one.
LOSS_MAX = float(os.environ.get("TAPS_LOSS_MAX", "0.25"))
GROWTH_KB_MAX = 128 << 10  # the bound that tests/shell/test_tap_bounds.c proves
STUB = os.path.join(os.path.dirname(harness.PROGRAM), "bench_stub")

Batch = collections.namedtuple("Batch", "rate cost whole")


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


class Taps(TapCase):
    shape = shapes.named("one")

    def services(self):
        """The port of a stub that answers for players and rewards."""
        stub = subprocess.Popen([STUB, "rewarded", str(BATCH * (1 + 2 * PAIRS * TRIES))], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True, preexec_fn=harness.die_with_parent)
        self.addCleanup(lambda: (stub.kill(), stub.communicate()))
        return stub.stdout.readline().split()[1]

    def spent_ns(self):
        """Processor time so far: of the actors' threads, and of all of them."""
        actors = everything = found = 0
        for thread in os.listdir("/proc/%d/task" % self.program.pid):
            path = "/proc/%d/task/%s/" % (self.program.pid, thread)
            spent = int(read(path + "schedstat").split()[0])
            everything += spent
            if read(path + "comm").strip() in shapes.ROLES:
                actors += spent
                found += 1
        self.assertEqual(len(shapes.ROLES), found)
        return actors, everything

    def timed_batch(self):
        """Log-ins of players who are rewarded."""
        users = ["u%d" % (self.served + n) for n in range(1, BATCH + 1)]
        self.served += BATCH
        before, start = self.spent_ns(), time.monotonic()
        last = self.events.add_logins(users)[-1]
        self.wait_acked(last, 60)
        rate = BATCH / (time.monotonic() - start)
        return Batch(rate, *((after - ago) / BATCH for after, ago in zip(self.spent_ns(), before)))

    def connected(self):
        """Connections to the tap's socket, as the kernel has them."""
        with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
            # The socket that listens has this name, and so has every accepted one.
            return sum(line.rstrip().endswith(self.endpoint()[len("ipc://"):]) for line in file) - 1

    def test_a_hundred_taps_one_of_them_stopped(self):
        self.served = 0
        port = self.services()
        local = {"APP_1_%s_PORT_8000_TCP_%s" % (service, part): value
                 for service in ("USERMETA", "VIRTUALCURRENCY")
                 for part, value in (("ADDR", "127.0.0.1"), ("PORT", port))}
        self.program = self.worker(LOG_LEVEL="WARN", **local).wait_ready()
        self.timed_batch()
        least = Batch(1, 1, 1)
        for _ in range(TRIES):
            pairs = [self.pair() for _ in range(PAIRS)]
            loss = Batch(1 - statistics.median(busy.rate / free.rate for free, busy in pairs),
                         *(statistics.median(busy[n] / free[n] for free, busy in pairs) - 1 for n in (1, 2)))
            print("a hundred taps: %+.1f%% events/s (%s), processor time of the actors %+.1f%% (%s us), "
                  "of the program %+.1f%% (%s us)" % (
                      -100 * loss.rate, " ".join("%d:%d" % (free.rate, busy.rate) for free, busy in pairs),
                      100 * loss.cost, " ".join("%.1f:%.1f" % (free.cost / 1000, busy.cost / 1000)
                                                for free, busy in pairs),
                      100 * loss.whole, " ".join("%.1f:%.1f" % (free.whole / 1000, busy.whole / 1000)
                                                 for free, busy in pairs)), flush=True)
            least = Batch(*map(min, least, loss))
            if least.rate < LOSS_MAX and least.cost < COST_MAX and least.whole < WHOLE_MAX:
                break
        self.assertEqual(self.served, self.program.counters()[1])
        if not harness.sanitized():
            self.assertLess(least.cost, COST_MAX)
            self.assertLess(least.whole, WHOLE_MAX)
            self.assertLess(least.rate, LOSS_MAX)
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
