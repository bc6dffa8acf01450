"""harness.py - runs the program against the stand-in, and looks at it from outside.

A test is a method of a Case. It gets a World of services (self.world), starts
the program with self.worker (NAME=value…), and waits for conditions with
deadlines; nothing sleeps for a fixed time. At the end of every test what must
always hold is checked: see Case.check_invariants. When a test fails, the log
of every program it started is printed.

The program is $GUERDON, else build/bin/guerdon of the repository. $SHAPE says
in which shape the worker is tried (shapes.py): one process unless it is set.
"""
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import shapes  # noqa: E402
import standin  # noqa: E402
from shapes import free_port  # noqa: E402,F401

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("GUERDON", os.path.join(ROOT, "build", "bin", "guerdon"))
# In every secret of these tests, so that it can be looked for.
CANARY = "k4nary"
SECRET = CANARY + "&/%+é?#=;"
POLL_SECONDS = 0.005
LOG_TAIL_LINES = 60
CLIENT = "worker"
MARKER = "$reward$promo1"
PR_SET_PDEATHSIG = 1
SHAPE = shapes.named(os.environ.get("SHAPE", "one"))

libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition, seconds=10.0, what="the condition"):
    """Its first true value; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("after %.1f s still not: %s" % (seconds, what))
        time.sleep(POLL_SECONDS)


def holds_for(condition, seconds, what="the condition"):
    """Fails as soon as it does not hold."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise AssertionError("did not hold: " + what)
        time.sleep(POLL_SECONDS)


def one_process(reason):
    """For a test or a Case that is about one process only: not tried in other
    shapes, for this reason."""
    return unittest.skipIf(SHAPE.name != "one", "about one process: " + reason)


def http_get(port, path, method="GET", timeout=5, host=None):
    """(status, headers, body) of a request to the program; the path goes as it
    is. A program on a host of its own is asked from there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        if host:
            connection.sock = host.connect(("127.0.0.1", port), timeout)
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in
                               answer.getheaders()}, answer.read()
    finally:
        connection.close()


def sanitized():
    """True when the program is built with a sanitizer: measures mean nothing."""
    with open(PROGRAM, "rb") as file:
        content = file.read()
    return b"__asan_init" in content or b"__tsan_init" in content


def environment(world, state_dir, **changes):
    """A clean environment: what the worker needs, nothing of ours. None removes."""
    found = {
        "PATH": "/usr/bin:/bin", "HOME": state_dir, "STATE_DIR": state_dir,
        "API_SECRET": world.secret if world else SECRET,
        "APP_1_NAME": "game-1", "APP_2_NAME": "game-2",
        "REWARD_APP_1_USER_LOGIN_APP_2_ID": "promo1",
        "REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT": "10",
        "REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY": "gold",
        "EVENTS_CLIENT_ID": CLIENT, "HOST": "127.0.0.1", "PORT": str(free_port()),
        "LOG_FORMAT": "json", "LOG_LEVEL": "INFO",
        "HTTP_TIMEOUT_SECONDS": "1", "POLL_TIMEOUT_SECONDS": "20", "GAP_GRACE_MS": "200",
        "FIND_GRACE_MS": "100",
        "DRAIN_SECONDS": "10",
    }
    if world:
        for name, service in (("EVENTS", world.events), ("APP_1_USERMETA", world.usermeta),
                              ("APP_1_VIRTUALCURRENCY", world.currency)):
            found[name + "_PORT_8000_TCP_ADDR"] = world.address
            found[name + "_PORT_8000_TCP_PORT"] = str(service.port)
            found[name + "_PORT_8000_TCP_PROTOCOL"] = "http"
    for name, value in changes.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = str(value)
    return found


class Worker:
    """A running program; `host` is where, when it is not the test's own."""

    def __init__(self, env, arguments=("run",), state_dir=None, wrap=(), name="guerdon", host=None,
                 program=PROGRAM):
        self.env, self.state_dir, self.name, self.host = env, state_dir, name, host
        self.port = int(env["PORT"]) if env.get("PORT", "").isdigit() else 8000
        self.directory = tempfile.mkdtemp(prefix="guerdon-log.")
        self.paths = [os.path.join(self.directory, name) for name in ("stdout", "stderr")]
        self.started = time.monotonic()
        with open(self.paths[0], "wb") as out, open(self.paths[1], "wb") as err:
            self.process = subprocess.Popen([*wrap, program, *arguments], env=env, stdout=out,
                                            stderr=err, stdin=subprocess.DEVNULL,
                                            cwd=self.directory, preexec_fn=self.before_exec)
        self.pid = self.process.pid

    def before_exec(self):
        if self.host:
            self.host.enter()
        die_with_parent()

    def __iter__(self):
        """Its processes, as those of a shapes.Fleet."""
        return iter((self,))

    # -- what it says

    def stdout(self):
        with open(self.paths[0], "rb") as file:
            return file.read()

    def stderr(self):
        with open(self.paths[1], "rb") as file:
            return file.read()

    def output(self):
        return (self.stdout() + self.stderr()).decode("utf-8", "replace")

    def log_lines(self):
        """The JSON log lines; a line that is not JSON is left out."""
        found = []
        for line in self.stdout().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                pass
        return [line for line in found if isinstance(line, dict)]

    def get(self, path, method="GET"):
        return http_get(self.port, path, method, host=self.host)

    def ready(self):
        """(status, text) of /ready; (0, "") when nobody answers."""
        try:
            code, _, content = self.get("/ready")
            return code, content.decode("utf-8", "replace")
        except OSError:
            return 0, ""

    def metrics(self):
        """Name with labels -> number."""
        found = {}
        for line in self.get("/metrics")[2].decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def counters(self):
        """(events, success, failure, ignored); zeros as long as nobody answers."""
        try:
            found = self.metrics()
        except OSError:
            if not self.alive():
                raise AssertionError("it ended with %d" % self.process.returncode) from None
            found = {}
        return tuple(int(found.get("guerdon_%s_total" % name, 0))
                     for name in ("events", "success", "failure", "ignored"))

    def in_flight(self):
        """As ingest tells it; zero as long as nobody answers."""
        try:
            return int(self.metrics().get('guerdon_in_flight{actor="ingest"}', 0))
        except OSError:
            if not self.alive():
                raise AssertionError("it ended with %d" % self.process.returncode) from None
            return 0

    # -- what it costs

    def rss_kb(self):
        with open("/proc/%d/status" % self.pid) as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    def cpu_seconds(self):
        """Of all its threads, to the nanosecond where the kernel tells."""
        threads = "/proc/%d/task" % self.pid
        try:
            spent = 0
            for thread in os.listdir(threads):
                with open("%s/%s/schedstat" % (threads, thread)) as file:
                    spent += int(file.read().split()[0])
            return spent / 1e9
        except OSError:
            pass
        with open("/proc/%d/stat" % self.pid) as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # -- its life

    def alive(self):
        return self.process.poll() is None

    def wait_ready(self, seconds=10.0):
        def answer():
            if not self.alive():
                raise AssertionError("it ended with %d instead of being ready"
                                     % self.process.returncode)
            return self.ready()[0] == 200
        wait_until(answer, seconds, "/ready answers 200")
        return self

    def wait_exit(self, seconds=10.0):
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError("it does not end within %.1f s" % seconds) from None

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds=15.0, code=0):
        """SIGTERM, and the exit code is right; how long it took."""
        start = time.monotonic()
        self.terminate()
        found = self.wait_exit(seconds)
        if found != code:
            raise AssertionError("exit code %d instead of %d" % (found, code))
        return time.monotonic() - start

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()

    def tail(self):
        lines = self.output().splitlines()
        return "\n".join(line[:400] for line in lines[-LOG_TAIL_LINES:])

    def discard(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def start_worker(world, state_dir, arguments=("run",), wrap=(), shape=SHAPE, **changes):
    """Starts the worker in the shape under test. Every test comes through here,
    and none need know more of the shape. Commands other than `run` are one
    process in every shape."""
    if shape.name == "one" or arguments[0] != "run":
        return Worker(environment(world, state_dir, **changes), arguments, state_dir, wrap)
    told = shapes.deployment(shape, state_dir, PROGRAM)

    def start(place):
        host = shapes.switch().hosts[place.host] if place.host else None
        env = environment(world, state_dir, **{
            **told, **shapes.own_variables(shape, place, state_dir), **changes})
        return Worker(env, (*arguments, "--role", place.role), env["STATE_DIR"], wrap, place.name,
                      host)
    return shapes.Fleet(shapes.places(shape), start)


class Statsd:
    """A StatsD server that only remembers."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.address = shapes.prepare(SHAPE)
        self.socket.bind((self.address, 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self.name = self.address if SHAPE.hosts else "localhost"
        self.datagrams = []

    def read(self):
        while True:
            try:
                self.datagrams.append(self.socket.recv(65536))
            except BlockingIOError:
                return self.datagrams

    def totals(self):
        """Name with prefix -> sum. A line that is not a counter raises."""
        found = {}
        for datagram in self.read():
            for line in datagram.decode().split("\n"):
                name, value, kind = re.fullmatch(r"([^:|\n]+):(\d+)\|(c)", line).groups()
                found[name] = found.get(name, 0) + int(value)
        return found

    def close(self):
        self.socket.close()


class Case(unittest.TestCase):
    """A test with a world of services and programs that end with it."""
    secret = SECRET
    shape = SHAPE
    maxDiff = 2000

    def run(self, result=None):
        result = result or self.defaultTestResult()
        self.tails = []
        before = len(result.failures) + len(result.errors)
        start = time.monotonic()
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            for tail in self.tails:
                print("---- %s: the end of a program's log\n%s\n----" % (self.id(), tail),
                      file=sys.stderr)
        print("%-70s %5.2f s" % (self.id(), time.monotonic() - start), file=sys.stderr)
        return result

    def setUp(self):
        self.invariants = True
        self.workers = []
        self.addCleanup(self.end_workers)
        self.state_dir = tempfile.mkdtemp(prefix="guerdon-state.")
        self.addCleanup(shutil.rmtree, self.state_dir, True)
        if shapes.missing(self.shape):
            self.skipTest(shapes.missing(self.shape))
        self.world = standin.World(self.secret, shapes.prepare(self.shape))
        self.addCleanup(self.world.close)
        self.prepare()
        self.world.start()
        self.events, self.usermeta, self.currency = self.world.services

    def prepare(self):
        """For what must be set before the services start."""

    def tearDown(self):
        try:
            self.check_invariants()
        finally:
            for worker in self.workers:
                worker.kill()

    def end_workers(self):
        for worker in self.workers:
            worker.kill()
            self.tails.append(worker.tail())
            worker.discard()

    def worker(self, arguments=("run",), wrap=(), **changes):
        found = start_worker(self.world, self.state_dir, arguments, wrap, self.shape, **changes)
        self.workers.append(found)
        return found

    # -- what the services saw

    def acked(self):
        return self.events.position(CLIENT)

    def rewards_of(self, user):
        return len(self.currency.rewards.get(user, ()))

    def rewarded(self):
        return {user: len(times) for user, times in self.currency.rewards.items()}

    def reads_of(self, user):
        return [request for request in self.usermeta.requests
                if request.method == "GET" and user in request.users]

    def marker_writes(self, user):
        return [request for request in self.usermeta.requests
                if request.method == "POST" and user in request.users]

    def posts_of(self, user):
        return [request for request in self.currency.requests
                if request.method == "POST" and user in request.users]

    def wait_rewarded(self, users, seconds=20.0):
        wait_until(lambda: all(self.currency.rewards.get(user) for user in users), seconds,
                   "a reward for each of %d users" % len(users))

    def wait_acked(self, position, seconds=10.0):
        wait_until(lambda: self.acked() >= position, seconds, "event %d is acknowledged" % position)

    def wait_rest(self, worker, events, seconds=20.0):
        """Waits until so many events came and all are finished; the counters."""
        def rest():
            found = worker.counters()
            return found if found[0] >= events and found[0] == sum(found[1:]) else None
        try:
            return wait_until(rest, seconds, "%d events are finished" % events)
        except AssertionError as error:
            raise AssertionError("%s: counters %r" % (error, worker.counters())) from None

    def assert_each_once(self, users):
        self.assertEqual({user: 1 for user in users}, self.rewarded())

    # -- what always holds

    def check_invariants(self):
        """After every test: no `after` but canonical integers; no
        acknowledgement before its event was settled; no word of the secret."""
        if not self.invariants:
            return
        for _, client, _, text in self.events.acks:
            self.assertRegex(text, standin.CANONICAL, "`after` of " + client)
            self.assertLessEqual(int(text), standin.POSITION_MAX)
        self.check_acks()
        for worker in self.workers:
            self.check_secret(worker)

    def check_acks(self):
        """An event that brought a reward is acknowledged after the reward."""
        pending = sorted((self.events.logins[user], times[0], user)
                         for user, times in self.currency.rewards.items()
                         if user in self.events.logins)
        latest = []  # of the rewards up to each id, the latest first time
        worst = 0.0
        for number, at, user in pending:
            worst = max(worst, at)
            latest.append((number, worst, user))
        index = -1
        for at, client, _, text in sorted(self.events.acks, key=lambda ack: int(ack[3] or 0)):
            while index + 1 < len(latest) and latest[index + 1][0] <= int(text):
                index += 1
            if client == CLIENT and index >= 0:
                self.assertGreaterEqual(at, latest[index][1],
                                        "event %d or one before it was acknowledged before its "
                                        "reward" % latest[index][0])

    def check_secret(self, worker):
        self.assertNotIn(CANARY.encode(), worker.stdout())
        self.assertNotIn(CANARY.encode(), worker.stderr())


def quoted(text):
    """As encodeURIComponent, for comparing; `!'()*` may be escaped or not."""
    return urllib.parse.quote(text, safe="-_.~!'()*")


def main():
    unittest.main(verbosity=0)
