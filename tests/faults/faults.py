"""faults.py - one life of the program in which one call of one place fails, judged.

The scenario: a stand-in of the services has a few players and their events. The
program starts, rewards whom it should, and is told to end. In a first life every
place is noted where the program or one of its libraries asks for memory or calls
the system (inject.c). Then each place has a life in which it fails once, on a new
world, followed by a plain start on what that left, with one event more for each
player and one new player.

After that every player who should has one reward, nobody two, everything is
acknowledged, and the program ends by itself with 0 when it is told to. The life
with the fault may end early, but not as if nothing were wrong: not with 0, not by
SIGSEGV, not without a word. It must not hang, and not count a success that is not
in the books.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import harness  # noqa: E402
import standin  # noqa: E402

PLAYERS = ("alice", "bob", "cécile")
NEW_PLAYER = "dora"
LIBRARY = os.environ.get("INJECT", os.path.join(ROOT, "build", "lib", "inject.so"))
PROGRESS_SECONDS = 20.0  # in which all is done, faults and retries included
END_SECONDS = 12.0       # from SIGTERM on; DRAIN_SECONDS of harness is 10
LIVES_MAX = 4            # of a place that is not met, for its call comes at some times only
# How a life with a fault may go.
WENT_ON, ENDED, ABORTED, DIED, NOT_MET = ("went on", "ended with a message", "aborted with a message",
                                          "died in a library", "not met")
# Libraries that write to nowhere without memory, and what is lost by it.
DEADLY = {
    "libpgm-5.3.so.0": "getprotobyname, which ZeroMQ's libpgm asks as it starts: nothing was begun yet",
}


class Violation(Exception):
    pass


class Place:
    """Where a call is made: the key that inject.c knows it by, and its stack."""

    def __init__(self, line):
        self.key, self.function, *self.frames = line.split(" ")

    def __str__(self):
        return "%s %s" % (self.key, self.function)

    def stack(self):
        """Each frame with the name of its function, where that is known."""
        lines = []
        for frame in self.frames:
            module, _, offset = frame.partition("+")
            lines.append("    %s %s" % (frame, "" if module else symbol(offset)))
        return "\n".join(lines)


def symbol(offset):
    """Function and line of the program; the call is before where it returns to."""
    try:
        found = subprocess.run(["addr2line", "-fpe", harness.PROGRAM, hex(int(offset, 16) - 1)],
                               capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        found = ""
    return found


class Life:
    """A world, a directory of state, and the lives of the program in them."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="guerdon-faults.")
        self.state_dir = os.path.join(self.directory, "state")
        os.mkdir(self.state_dir, 0o700)
        self.log = os.path.join(self.directory, "places")
        self.world = standin.World(harness.SECRET)
        self.world.events.poll_timeout = 2.0
        self.world.players(PLAYERS + (NEW_PLAYER,))
        self.world.start()
        self.worker = None

    def close(self):
        if self.worker:
            self.worker.discard()
        self.world.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def add_events(self, players):
        events = self.world.events
        events.add_logins(players)
        events.add(user=players[0], type="LOGOUT")
        events.add(user="nobody")
        events.add(user=players[0])

    def start(self, **changes):
        env = harness.environment(self.world, self.state_dir, GAP_GRACE_MS="50",
                                  POLL_TIMEOUT_SECONDS="5", FIND_GRACE_MS="50", **changes)
        if self.worker:
            self.worker.discard()
        self.worker = harness.Worker(env, state_dir=self.state_dir)

    def done(self):
        """Everybody is rewarded and everything is acknowledged."""
        events = self.world.events
        return events.position(harness.CLIENT) == events.last()

    def books(self):
        return {user: len(times) for user, times in self.world.currency.rewards.items()}

    def wait(self, seconds):
        """Until all is done, or the program has ended; false when neither happens."""
        deadline = time.monotonic() + seconds
        while not self.done() and self.worker.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(harness.POLL_SECONDS)
        return True

    def end(self):
        """SIGTERM; the exit code."""
        if self.worker.alive():
            self.worker.terminate()
        try:
            return self.worker.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise Violation("it does not end within %.0f s of SIGTERM" % END_SECONDS) from None

    def successes(self):
        """As it counts them, while it still answers."""
        try:
            return self.worker.counters()[1]
        except (OSError, AssertionError, ValueError):
            return 0

    def said(self):
        """True when it told what is wrong."""
        if self.worker.stderr().strip():
            return True
        if any(line.get("level", 0) >= 40 for line in self.worker.log_lines()):
            return True
        return any(line and not line.startswith(b"{") for line in self.worker.stdout().splitlines())

    # -- judging

    def judge_books(self, players, complete):
        books = self.books()
        twice = sorted(user for user, count in books.items() if count > 1)
        wrong = sorted(set(books) - set(players))
        missing = sorted(set(players) - set(books))
        if twice:
            raise Violation("rewarded twice: %s" % ", ".join(twice))
        if wrong:
            raise Violation("rewarded, and should not be: %s" % ", ".join(wrong))
        if missing and complete:
            raise Violation("not rewarded: %s" % ", ".join(missing))

    def judge_end(self, place, early, code):
        """How a life with a fault ended."""
        if code == -signal.SIGSEGV and DEADLY.keys() & {frame.partition("+")[0]
                                                        for frame in place.frames}:
            return DIED
        if code == 0 and early:
            raise Violation("it ended by itself, with 0")
        if code not in (0, -signal.SIGABRT) and code < 0:
            raise Violation("it ended by signal %d" % -code)
        if code != 0 and not self.said():
            raise Violation("it ended with %d and said nothing" % code)
        return WENT_ON if code == 0 else ABORTED if code < 0 else ENDED

    def with_fault(self, place):
        """The life in which the place fails; how it went."""
        self.add_events(PLAYERS)
        self.start(LD_PRELOAD=LIBRARY, FAULTS_LOG=self.log, FAULTS_KEY=place.key)
        finished = self.wait(PROGRESS_SECONDS)
        early = not self.worker.alive()
        if not finished:
            self.worker.tail()
            raise Violation("it neither went on nor ended within %.0f s" % PROGRESS_SECONDS)
        successes = 0 if early else self.successes()
        if successes > sum(self.books().values()):
            raise Violation("it counts %d successes of %r" % (successes, self.books()))
        how = self.judge_end(place, early, self.end())
        self.judge_books(PLAYERS, self.done())
        with open(self.log, encoding="utf-8") as file:
            met = any(line.split(" ", 2)[1] == "FAILED" for line in file if line.count(" ") > 1)
        return how if met else NOT_MET

    def without(self):
        """The plain start that follows."""
        self.add_events(PLAYERS + (NEW_PLAYER,))
        self.start()
        if not self.wait(PROGRESS_SECONDS):
            raise Violation("after a restart it is not done within %.0f s" % PROGRESS_SECONDS)
        code = self.end()
        if code != 0:
            raise Violation("after a restart it ends with %d" % code)
        self.judge_books(PLAYERS + (NEW_PLAYER,), True)


def find_places(lives=2):
    """Every place that some life without a fault comes by, in the order they are met."""
    found = {}
    for _ in range(lives):
        life = Life()
        try:
            life.add_events(PLAYERS)
            life.start(LD_PRELOAD=LIBRARY, FAULTS_LOG=life.log)
            if not life.wait(PROGRESS_SECONDS) or life.end() != 0:
                raise Violation("the scenario fails without any fault:\n" + life.worker.tail())
            life.judge_books(PLAYERS, True)
            with open(life.log, encoding="utf-8") as file:
                for line in file:
                    place = Place(line.rstrip("\n"))
                    found.setdefault(place.key, place)
        finally:
            life.close()
    return list(found.values())


def try_place(place):
    """(place, how it went, None), or (place, what is wrong, the end of the log)."""
    for _ in range(LIVES_MAX):
        found = try_once(place)
        if found[1] != NOT_MET:
            break
    return found


def try_once(place):
    life = Life()
    tail = ""
    try:
        how = life.with_fault(place)
        tail = life.worker.tail()
        life.without()
        return place, how, None
    except Violation as violation:
        if life.worker:
            tail += "\n----\n" + life.worker.tail()
        return place, str(violation), tail
    finally:
        life.close()
