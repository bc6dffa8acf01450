"""lives.py - a scenario with a few players, in which the process dies at a crash point.

One process with its crash points (guerdon_crash). A life begins with its events
there, and ends where it is killed, or by SIGTERM when all is done: the way down has
crash points too. Another life follows on the same state and the same services, which
may be killed as well; the last one is not. Before it there is one more log-in of
each player, and a new player.

After that every player who should has one reward and one grant, nobody two,
everything is acknowledged, and the program ended with 0.
"""
import collections
import json
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

PROGRAM = os.environ.get("GUERDON_CRASH", os.path.join(ROOT, "build", "bin", "guerdon_crash"))
PLAYERS = ("alice", "bob", "cécile", "dora")
NEW = "eve"
REWARDED = "old"    # had the reward before, from a life of which no journal is left
UNREWARDED = "cut"  # has the marker of such a life, and no reward
DONE_SECONDS = 20.0
END_SECONDS = 12.0
LEDGER_SECONDS = 20
SLOW_SECONDS = 0.4  # longer than ingest waits before it acknowledges events while others are in flight
KILLED = -signal.SIGKILL


class Violation(Exception):
    pass


class Story:
    """The services, a directory of state, and one life after another."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="guerdon-points.")
        self.state_dir = os.path.join(self.directory, "state")
        os.mkdir(self.state_dir, 0o700)
        self.world = standin.World(harness.SECRET)
        self.world.events.poll_timeout = 2.0
        self.world.players(PLAYERS + (NEW, REWARDED, UNREWARDED))
        for user in (REWARDED, UNREWARDED):
            self.world.usermeta.put(user, harness.MARKER, str(int(time.time() * 1000)))
        self.world.currency.transactions.append({
            "id": "tx-0", "type": "reward", "username": REWARDED, "timestamp": int(time.time() * 1000),
            "amount": 10, "currency": "gold", "reason": "reward",
            "data": {"from": "rewards/v1", "rewardId": "promo1"}})
        # Somebody must die while nothing is decided yet and something might be
        # acknowledged: the first read takes long.
        self.world.usermeta.misbehave(standin.slow(SLOW_SECONDS), user=PLAYERS[0], times=1)
        self.world.start()
        self.lives = 0
        self.tails = []
        self.due = PLAYERS + (UNREWARDED,)
        self.add_events(PLAYERS)

    def close(self):
        self.world.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def add_events(self, players):
        events = self.world.events
        events.add_logins(players + (REWARDED, UNREWARDED))
        events.add(user=players[0], type="LOGOUT")
        events.add(user="stranger")
        events.add(user=players[0])

    def live(self, at=None):
        """One life, that dies at `at`; its exit code and the points that it passed."""
        self.lives += 1
        log = os.path.join(self.directory, "points-%d" % self.lives)
        env = harness.environment(self.world, self.state_dir, GAP_GRACE_MS="50", FIND_GRACE_MS="50",
                                  POLL_TIMEOUT_SECONDS="5", GUERDON_CRASH_AT=at,
                                  GUERDON_CRASH_LOG=log)
        worker = harness.Worker(env, state_dir=self.state_dir, program=PROGRAM)
        try:
            code = self.wait(worker)
            with open(log, encoding="utf-8") as file:
                return code, file.read().splitlines()
        finally:
            worker.kill()
            self.tails.append("life %d, %s\n%s" % (self.lives, at, worker.tail()))
            worker.discard()

    def wait(self, worker):
        """Until it has died, or all is done and it has ended; its exit code."""
        deadline = time.monotonic() + DONE_SECONDS
        while worker.alive() and not (self.done() and worker.ready()[0] == 200):
            if time.monotonic() > deadline:
                raise Violation("not done within %.0f s" % DONE_SECONDS)
            time.sleep(harness.POLL_SECONDS)
        worker.terminate()
        code = worker.wait_exit(END_SECONDS)
        if code not in (0, KILLED):
            raise Violation("it ended with %d" % code)
        return code

    def done(self):
        events = self.world.events
        return events.position(harness.CLIENT) == events.last()

    def last(self):
        """The life that goes well, and what must hold then; the points it passed."""
        self.add_events(PLAYERS + (NEW,))
        self.due += (NEW,)
        code, points = self.live()
        if code != 0 or not self.done():
            raise Violation("in the end it is killed, or something is not acknowledged")
        self.judge_books()
        self.judge_ledger()
        return points

    def judge_books(self):
        books = {user: len(times) for user, times in self.world.currency.rewards.items()}
        if books != {user: 1 for user in self.due}:
            raise Violation("the books: %r" % books)

    def judge_ledger(self):
        env = {"PATH": "/usr/bin:/bin", "STATE_DIR": self.state_dir}
        ran = subprocess.run([PROGRAM, "ledger", "--format", "json"], env=env, capture_output=True,
                             text=True, timeout=LEDGER_SECONDS, check=False)
        states = collections.defaultdict(list)
        for line in ran.stdout.splitlines():
            grant = json.loads(line)
            states[grant["user"]].append(grant["state"])
        states.pop(REWARDED, None)  # he was looked for, and found
        if ran.returncode != 0 or dict(states) != {user: ["given"] for user in self.due}:
            raise Violation("the ledger: %r %s" % (dict(states), ran.stderr))


def told(*points):
    """A story that dies at these points, each (name, number of the passing), one a life.
    How many of them were met, the points that the life after the last of them passed,
    and what is wrong: "" for nothing."""
    story = Story()
    met = 0
    try:
        for name, number in points:
            code, _ = story.live("%s:%d" % (name, number))
            met += code == KILLED
        return met, story.last(), ""
    except (Violation, AssertionError, OSError) as wrong:
        return met, [], "%s\n%s" % (wrong, "\n----\n".join(story.tails))
    finally:
        story.close()


def passings(passed):
    """Each passing of each point: (name, number), in order."""
    counts = collections.Counter()
    found = []
    for name in passed:
        counts[name] += 1
        found.append((name, counts[name]))
    return found


def counted():
    """Every passing of a life that nobody kills."""
    story = Story()
    try:
        code, passed = story.live()
        if code != 0:
            raise Violation("the scenario fails without any crash:\n" + story.tails[-1])
        story.last()
        return passings(passed)
    finally:
        story.close()
