"""storm.py - a round of chaos: a deployment of several processes, services that
misbehave, processes that are killed and frozen, disks that fill and get lost.

Events keep coming meanwhile. Then every fault ends, everything settles, and what is
in the books of the services, in the ledgers and in the counters is compared.

Everything that is chosen is chosen from one seed; when exactly it happens is the
machine's. The services keep to what docs/decisions/0018 asks of them: a transaction
is listed FIND_GRACE_MS after the service stopped working on it, and it stops when
the connection broke.
"""
import bisect
import collections
import ctypes
import errno
import heapq
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import harness  # noqa: E402
import shapes  # noqa: E402
import standin  # noqa: E402

SHAPES = ("ipc", "tcp-curve", "shards", "shards-curve")
LIBRARY = os.environ.get("INJECT", os.path.join(ROOT, "build", "lib", "inject.so"))
DISK_CALLS = {"write", "pwrite64", "fsync", "fdatasync", "ftruncate64", "pread64", "fcntl64", "unlink"}
DISK_BYTES = 32 << 20
FIND_GRACE_SECONDS = 0.3
STALE_SECONDS = 0.2  # less than that: until a transaction is on the list
LATE_SECONDS = 0.1   # a service that is slower than that to take a request looks whether it is wanted
BEAT_SECONDS = 0.02
GAP_SECONDS = 0.1    # until an id that was left out shows up
EVENTS_A_SECOND = 40
PAUSE_SECONDS = 0.5  # between two faults, on average
SETTLE_SECONDS = 120
LEDGER_SECONDS = 60
CLONE_NEWNS = 0x20000
MS_PRIVATE_ALL = (1 << 14) | (1 << 18)
MNT_DETACH = 2

libc = ctypes.CDLL(None, use_errno=True)


def may_mount():
    """Takes this program, and what it starts, out of the mounts of the others: what it
    mounts is gone with it. To be called before there are threads."""
    return (os.geteuid() == 0 and libc.unshare(CLONE_NEWNS) == 0
            and libc.mount(b"none", b"/", None, MS_PRIVATE_ALL, None) == 0)


class Services(standin.World):
    """Services that stop working on a request when its connection broke, also where
    this machine is too slow for that: a request that lay there for a while is dropped
    when nobody is there any more."""

    def __init__(self, secret):
        super().__init__(secret)
        self.beat = time.monotonic()
        self.dropped = 0
        self.latest_beat = 0.0
        self.loop.call_soon_threadsafe(self.tick)
        self.currency.take = self.take_reward

    def tick(self):
        now = time.monotonic()
        self.latest_beat = max(self.latest_beat, now - self.beat)
        self.beat = now
        self.loop.call_later(BEAT_SECONDS, self.tick)

    def take_reward(self, connection, request):
        if time.monotonic() - self.beat > LATE_SECONDS and is_gone(connection):
            self.dropped += 1
            connection.transport.abort()
            return
        standin.Service.take(self.currency, connection, request)


def is_gone(connection):
    raw = connection.transport.get_extra_info("socket")
    try:
        return socket.socket(fileno=os.dup(raw.fileno())).recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def is_disk_call(words):
    """Of a line of inject.c: the key, the function, and its stack from the caller on.
    The same functions also wake threads, in ZeroMQ; that is another matter."""
    if len(words) < 3 or words[1] not in DISK_CALLS:
        return False
    return words[2].startswith("libsqlite3") or (words[1] == "fsync" and words[2].startswith("+"))


class Violation(Exception):
    pass


class Storm:
    def __init__(self, seed, shape=None, mounts=False):
        self.seed, self.mounts = seed, mounts
        self.chance = random.Random(seed)
        drawn = self.chance.choice(SHAPES)
        self.shape = shapes.named(shape or drawn)
        self.spares_stats = self.chance.random() < 0.5
        self.directory = tempfile.mkdtemp(prefix="guerdon-chaos.")
        self.begun = time.monotonic()
        self.done = []  # (seconds, what)
        self.did = collections.Counter()
        self.agenda, self.order = [], 0  # what is to happen: (when, order, function)
        self.users = 0
        self.due = set()
        self.down = {}      # place -> None until it has ended, or when it is started again
        self.told = {}      # place -> exit codes that are all right
        self.frozen = set()
        self.injected = set()
        self.filled = set()
        self.lost = set()   # decisions whose disk was lost
        self.stats_hit = False
        self.rules = []

    # -- beginning and end

    def __enter__(self):
        self.world = Services(harness.SECRET)
        self.world.events.poll_timeout = 5.0
        self.world.start()
        self.statsd = harness.Statsd()
        told = shapes.deployment(self.shape, self.directory, harness.PROGRAM)
        self.variables = {place.name: self.environment(place, told)
                          for place in shapes.places(self.shape)}
        self.places = list(self.variables)
        self.deciders = [place.name for place in shapes.places(self.shape)
                         if place.role == shapes.DECISION]
        for name in self.deciders:
            self.make_disk(name)
        self.fleet = shapes.Fleet(shapes.places(self.shape), self.start)
        self.fleet.wait_ready(30)
        return self

    def environment(self, place, told):
        own = shapes.own_variables(self.shape, place, self.directory)
        return harness.environment(
            self.world, self.directory, **{
                **told, **own, "FIND_GRACE_MS": str(int(FIND_GRACE_SECONDS * 1000)),
                "FIND_PATIENCE_SECONDS": "600", "GAP_GRACE_MS": "3000", "DRAIN_SECONDS": "2",
                "POLL_TIMEOUT_SECONDS": "10", "STATSD_HOST": self.statsd.name,
                "STATSD_PORT": str(self.statsd.port), "STATSD_PREFIX": "chaos."})

    def start(self, place, **more):
        env = dict(self.variables[place.name], **more)
        return harness.Worker(env, ("run", "--role", place.role), env["STATE_DIR"], (), place.name)

    def __exit__(self, *_):
        for member in self.fleet.everybody():
            member.kill()
        for name in self.deciders:
            if self.mounts:
                libc.umount2(self.disk(name).encode(), MNT_DETACH)
        self.world.close()
        self.statsd.close()
        for member in self.fleet.everybody():
            member.discard()
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- disks

    def disk(self, name):
        return self.variables[name]["STATE_DIR"]

    def make_disk(self, name):
        os.makedirs(self.disk(name), mode=0o700)
        options = b"size=%d,mode=0700" % DISK_BYTES
        if self.mounts and libc.mount(b"tmpfs", self.disk(name).encode(), b"tmpfs", 0, options) != 0:
            raise OSError(ctypes.get_errno(), "cannot mount a tmpfs")

    def fill(self, name):
        """No byte is left; without a disk of its own, no file may grow."""
        self.filled.add(name)
        if not self.mounts:
            self.limit_files(name, 0)
            return
        filler = os.open(os.path.join(self.disk(name), "filler"), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while True:
                os.write(filler, bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(filler)

    def free(self, name):
        self.filled.discard(name)
        if not self.mounts:
            self.limit_files(name, resource.RLIM_INFINITY)
        elif os.path.exists(os.path.join(self.disk(name), "filler")):
            os.unlink(os.path.join(self.disk(name), "filler"))

    def limit_files(self, name, size):
        try:
            hard = resource.prlimit(self.fleet[name].pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(self.fleet[name].pid, resource.RLIMIT_FSIZE, (size, hard))
        except ProcessLookupError:
            pass

    def wipe(self, name):
        for entry in os.listdir(self.disk(name)):
            os.unlink(os.path.join(self.disk(name), entry))
        self.filled.discard(name)
        self.lost.add(name)

    # -- what happens

    def say(self, text):
        self.done.append((time.monotonic() - self.begun, text))

    def later(self, seconds, function):
        self.order += 1
        heapq.heappush(self.agenda, (time.monotonic() + seconds, self.order, function))

    def services(self):
        return self.world.services

    def trouble(self):
        """A service does something wrong, with some of what it is asked."""
        service = self.chance.choice(self.services())
        name, act = self.chance.choice((
            ("answers 500", standin.status(500)),
            ("does it and answers 500", standin.status(500, apply=True)),
            ("answers 503", standin.status(503)),
            ("answers 429", standin.status(429, headers=((b"Retry-After", b"1"),))),
            ("resets", standin.reset()), ("does it and resets", standin.reset(apply=True)),
            ("closes", standin.close()), ("does it and closes", standin.close(apply=True)),
            ("hangs", standin.hang()), ("does it and hangs", standin.hang(apply=True)),
            ("is slow", standin.slow(self.chance.uniform(0.05, 0.9))),
            ("does it and answers half", standin.half()),
            ("does it and answers no JSON", standin.not_json(apply=True))))
        share, seconds = self.chance.choice((0.1, 0.5, 1.0)), self.chance.uniform(0.1, 2.0)
        dice = random.Random(self.chance.random())
        self.say("%s %s, %.0f%% for %.1f s" % (service.name, name, share * 100, seconds))
        rule = service.misbehave(act, when=lambda _: dice.random() < share)
        self.rules.append(rule)
        self.later(seconds, rule.release)
        return "trouble at a service"

    def gone(self):
        service = self.chance.choice(self.services())
        if not service.server:
            return None
        seconds = self.chance.uniform(0.1, 2.0)
        self.say("%s is gone for %.1f s" % (service.name, seconds))
        service.stop()
        self.later(seconds, service.start)
        return "service gone"

    def stale(self):
        self.world.currency.stale = self.chance.uniform(0, STALE_SECONDS)
        self.say("the list is stale by %.2f s" % self.world.currency.stale)

        def fresh():
            self.world.currency.stale = 0.0
        self.later(self.chance.uniform(0.5, 3.0), fresh)
        return "stale list"

    def victims(self):
        """Places that are up."""
        return [name for name in self.places if name not in self.down
                and not (self.spares_stats and name.startswith(shapes.STATS))]

    def take_down(self, name, code, signal_number):
        """Sends the signal; the place is started again when it has ended."""
        self.stats_hit |= name.startswith(shapes.STATS)
        self.down[name] = None
        self.told.setdefault(name, set()).add(code)
        self.frozen.discard(name)
        self.fleet[name].process.send_signal(signal_number)

    def kill(self, *names):
        for name in names:
            self.say("kill %s" % name)
            self.take_down(name, -signal.SIGKILL, signal.SIGKILL)

    def kill_one(self):
        up = self.victims()
        if not up:
            return None
        self.kill(self.chance.choice(up))
        return "kill -9"

    def kill_some(self):
        up = self.victims()
        if len(up) < 2:
            return None
        self.kill(*self.chance.sample(up, self.chance.randrange(2, len(up) + 1)))
        return "kill -9 of several at once"

    def terminate(self):
        up = [name for name in self.victims() if name not in self.frozen]
        if not up or not self.booted(name := self.chance.choice(up)):
            return None
        self.say("terminate %s" % name)
        self.take_down(name, 0, signal.SIGTERM)
        return "SIGTERM"

    def booted(self, name):
        """It takes signals as it should, and ends with 0."""
        return self.fleet[name].ready()[0] != 0

    def freeze(self):
        up = [name for name in self.victims() if name not in self.frozen]
        if not up:
            return None
        name, seconds = self.chance.choice(up), self.chance.uniform(0.1, 4.0)
        self.say("freeze %s for %.1f s" % (name, seconds))
        member = self.fleet[name]
        member.process.send_signal(signal.SIGSTOP)
        self.frozen.add(name)
        self.stats_hit |= name.startswith(shapes.STATS)
        self.later(seconds, lambda: self.thaw(name, member))
        return "SIGSTOP"

    def thaw(self, name, member):
        if self.fleet[name] is member:
            self.frozen.discard(name)
        if member.alive():
            member.process.send_signal(signal.SIGCONT)

    def full(self):
        name = self.chance.choice(self.deciders)
        if name in self.filled or name in self.down:
            return None
        seconds = self.chance.uniform(0.3, 3.0)
        self.say("the disk of %s is full for %.1f s" % (name, seconds))
        self.fill(name)
        self.later(seconds, lambda: self.free(name))
        return "disk full"

    def disk_lost(self):
        name = self.chance.choice(self.deciders)
        if name in self.down:
            return None
        self.say("the disk of %s is lost" % name)
        self.kill(name)
        self.fleet[name].process.wait()
        self.wipe(name)
        return "disk lost"

    def disk_calls(self):
        """One call of a decision to its disk will fail, from its next start on. The
        first time what calls there are is found out."""
        name = self.chance.choice(self.deciders)
        if name in self.down or not os.path.exists(LIBRARY):
            return None
        self.injected.add(name)
        self.kill(name)
        return "start with a disk call that may fail"

    def calls_path(self):
        return os.path.join(self.directory, "calls")

    def calls(self):
        """The lines that inject.c wrote, as words."""
        if not os.path.exists(self.calls_path()):
            return []
        with open(self.calls_path(), encoding="utf-8") as file:
            return [line.split() for line in file]

    def injection(self):
        keys = sorted({words[0] for words in self.calls() if is_disk_call(words)})
        more = {"LD_PRELOAD": LIBRARY, "FAULTS_LOG": self.calls_path()}
        if keys:
            more.update(FAULTS_KEY=self.chance.choice(keys), FAULTS_SKIP=str(self.chance.randrange(40)))
        return more

    KINDS = ((6, trouble), (1, gone), (1, stale), (5, kill_one), (1, kill_some), (2, terminate), (2, freeze),
             (1, full), (1, disk_lost), (1, disk_calls))

    # -- players

    def feed(self, number):
        """So many events: new players, some twice, some again, some out of order, and
        what is none of our business."""
        events, world = [], self.world
        for _ in range(number):
            dice = self.chance.random()
            if dice < 0.15 and self.users:
                events.append(dict(user="player%d" % self.chance.randrange(self.users)))
            elif dice < 0.25:
                events.append(dict(user="stranger%d" % self.users))
            elif dice < 0.3:
                events.append(dict(user="player0", type="LOGOUT"))
            else:
                user = "player%d" % self.users
                self.users += 1
                self.due.add(user)
                world.players([user])
                events += [dict(user=user)] * (2 if dice > 0.85 else 1)
        if self.chance.random() < 0.05 and events:
            self.out_of_order(events)
        else:
            world.events.add_many(events)

    def out_of_order(self, events):
        """The first of them shows up after the others."""
        world = self.world

        def now():
            first = dict(events[0], id=world.events.last() + 1)
            world.events.add_many([dict(event, id=first["id"] + number)
                                   for number, event in enumerate(events[1:], 1)])
            world.loop.call_later(GAP_SECONDS, world.events.add_many, [first])
        if len(events) > 1:
            world.call(now)
        else:
            world.events.add_many(events)

    # -- the round

    def supervise(self):
        """Starts again what has ended. Nothing may end by itself."""
        for name in self.places:
            member = self.fleet[name]
            code = member.process.poll()
            if code is None:
                continue
            if name not in self.down:
                if "LD_PRELOAD" not in member.env or code == 0:
                    raise Violation("%s ended by itself, with %d" % (name, code))
                self.say("%s ended with %d, since a disk call failed" % (name, code))
                self.down[name], self.told[name] = None, {code}
            if self.down[name] is None:
                # One with a failing call may end of it before it is killed.
                failing = "LD_PRELOAD" in member.env and code != 0
                if not failing and code not in self.told[name] | {-signal.SIGKILL}:
                    raise Violation("%s ended with %d, and should have with one of %r"
                                    % (name, code, self.told[name]))
                self.down[name] = time.monotonic() + self.chance.choice((0, 0.05, 1.0)) * self.chance.random()
            elif time.monotonic() >= self.down[name]:
                self.bring_up(name)

    def bring_up(self, name):
        del self.down[name]
        self.told.pop(name, None)
        self.free(name)
        place = next(place for place in self.fleet.places if place.name == name)
        self.fleet.gone.append(self.fleet.members[name])
        more = self.injection() if name in self.injected else {}
        self.injected.discard(name)
        self.fleet.members[name] = self.start(place, **more)
        self.say("start %s %s" % (name, more.get("FAULTS_KEY", "")))

    def blow(self, seconds):
        """The storm itself."""
        start = time.monotonic()
        fed, next_fault = 0, start
        weights, kinds = zip(*self.KINDS)
        while (now := time.monotonic()) < start + seconds:
            while self.agenda and self.agenda[0][0] <= now:
                heapq.heappop(self.agenda)[2]()
            if now >= next_fault:
                what = self.chance.choices(kinds, weights)[0](self)
                if what:
                    self.did[what] += 1
                next_fault = now + self.chance.expovariate(1 / PAUSE_SECONDS)
            self.supervise()
            wanted = int((now - start) * EVENTS_A_SECOND)
            if wanted > fed:
                self.feed(wanted - fed)
                fed = wanted
            time.sleep(harness.POLL_SECONDS)

    def calm(self):
        """Every fault ends, and everything that is down comes up."""
        self.say("the storm is over")
        while self.agenda:
            heapq.heappop(self.agenda)[2]()
        for name in self.deciders:
            self.free(name)
        deadline = time.monotonic() + SETTLE_SECONDS
        while not self.settled():
            self.supervise()
            if time.monotonic() > deadline:
                raise Violation("not settled within %d s: %s" % (SETTLE_SECONDS, self.state()))
            time.sleep(harness.POLL_SECONDS)

    def settled(self):
        if self.down or self.world.events.position(harness.CLIENT) < self.world.events.last():
            return False
        if self.fleet.ready()[0] != 200 or self.fleet.in_flight():
            return False
        counters = self.fleet.counters()
        return counters[0] == sum(counters[1:]) and (not self.counts_hold() or self.statsd_holds())

    def counts_hold(self):
        """Whether what stats said must add up: what a process that was killed had not
        said is lost."""
        return not self.stats_hit

    def statsd_totals(self):
        totals = self.statsd.totals()
        return tuple(totals.get("chaos." + name, 0) for name in ("events", "success", "failure", "ignored"))

    def statsd_holds(self):
        totals = self.statsd_totals()
        return totals[0] == sum(totals[1:])

    def state(self):
        return "position %d of %d, down %r, counters %r, StatsD %r, %s" % (
            self.world.events.position(harness.CLIENT), self.world.events.last(), self.down,
            self.fleet.counters(), self.statsd_totals(), self.fleet.ready()[1])

    # -- the verdict

    def compare(self):
        """Raises Violation for what is wrong; gives the figures."""
        books = {user: len(times) for user, times in self.world.currency.rewards.items()}
        lost = sorted(self.due - set(books))
        doubled = sorted(user for user, count in books.items() if count > 1)
        others = sorted(set(books) - self.due)
        if lost or doubled or others:
            self.suspects = (lost + doubled + others)[:20]
            raise Violation("lost %d %r, doubled %d %r, not due %r" % (
                len(lost), lost[:10], len(doubled), doubled[:10], others[:10]))
        self.compare_ledgers()
        self.check_acks()
        counters, totals = self.fleet.counters(), self.statsd_totals()
        if counters[2] or totals[2]:
            raise Violation("failures are counted: %r %r" % (counters, totals))
        return {"events": len(self.world.events.users), "players": len(self.due), "rewarded": len(books),
                "requests": len(self.world.requests), "finds": self.finds(), "statsd": totals,
                "failed calls": sum(words[1:2] == ["FAILED"] for words in self.calls())}

    def finds(self):
        return sum(standin.lists(request) for request in self.world.currency.requests)

    def compare_ledgers(self):
        """In each every player at most once, and given; in all of them, if none was
        lost, everybody."""
        found = {}
        for name in self.deciders:
            ran = subprocess.run(
                [harness.PROGRAM, "ledger", "--format", "json"], text=True, capture_output=True,
                env={"PATH": "/usr/bin:/bin", "STATE_DIR": self.disk(name),
                     "DECISION_SHARD": self.variables[name].get("DECISION_SHARD", "0")},
                timeout=LEDGER_SECONDS, check=False)
            if ran.returncode != 0:
                raise Violation("the ledger of %s: %s" % (name, ran.stderr))
            for line in ran.stdout.splitlines():
                grant = json.loads(line)
                if grant["user"] in found or grant["state"] != "given":
                    self.suspects = [grant["user"]]
                    raise Violation("the ledger of %s: %r" % (name, grant))
                found[grant["user"]] = name
        missing = self.due - set(found)
        if set(found) - self.due or (missing and not self.lost):
            self.suspects = sorted(missing)[:20]
            raise Violation("the ledgers miss %r, and have %r" % (
                sorted(missing)[:10], sorted(set(found) - self.due)[:10]))

    def check_acks(self):
        """No event was acknowledged before its reward."""
        acks, highest = [], 0
        for at, client, _, text in self.world.events.acks:
            if client == harness.CLIENT and int(text) > highest:
                highest = int(text)
                acks.append((highest, at))
        for user, times in self.world.currency.rewards.items():
            index = bisect.bisect_left(acks, (self.world.events.logins[user], 0.0))
            if index < len(acks) and acks[index][1] < times[0]:
                self.suspects = [user]
                raise Violation("%s was acknowledged before the reward" % user)

    # -- what is kept of a round that went wrong

    def keep(self, why):
        kept = tempfile.mkdtemp(prefix="guerdon-chaos-kept.")
        with open(os.path.join(kept, "story"), "w", encoding="utf-8") as file:
            file.write("seed %d, %s: %s\n" % (self.seed, self.shape.name, why))
            for at, text in self.done:
                file.write("%8.3f %s\n" % (at, text))
        with open(os.path.join(kept, "requests"), "w", encoding="utf-8") as file:
            suspects = set(getattr(self, "suspects", ()))
            for request in self.world.requests:
                if suspects & set(request.users):
                    file.write("%8.3f %8.3f %r\n" % (request.at - self.begun, (request.answered_at or 0)
                                                     - self.begun, request))
        for number, member in enumerate(self.fleet.everybody()):
            with open(os.path.join(kept, "%04d-%s" % (number, member.name)), "w", encoding="utf-8") as file:
                file.write("from %.3f, ended: %s\n%s" % (member.started - self.begun, member.process.poll(),
                                                         member.output()))
        for name in self.deciders:
            shutil.copytree(self.disk(name), os.path.join(kept, "disk-" + name),
                            ignore=shutil.ignore_patterns("*.sock", "filler"))
        return kept


def run(seed, seconds, shape=None, mounts=False):
    """A round; its figures, what was done, and what is wrong: "" for nothing."""
    with Storm(seed, shape, mounts) as storm:
        try:
            storm.blow(seconds)
            settling = time.monotonic()
            storm.calm()
            figures = dict(storm.compare(), settled=time.monotonic() - settling)
            return storm, figures, ""
        except (Violation, AssertionError) as wrong:
            return storm, {}, "%s\nkept in %s" % (wrong, storm.keep(wrong))
