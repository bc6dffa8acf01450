"""shapes.py - the same worker in other shapes: which processes there are, where
each is, and what it is told.

    one          all actors in one process
    ipc          five processes, on ipc
    tcp-curve    five processes on tcp over loopback, with CURVE
    netns-curve  five hosts on a switch (netns.py), with CURVE
    shards       three decision shards and two workers of each client, on ipc
    shards-curve the same on tcp, with CURVE

A Fleet is several programs that look like one worker to a test: it is ready
when all are, its counters are the sum, and its end is in the order of the flow.
"""
import atexit
import collections
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import netns
import standin

INGEST, DECISION, USERMETA, CURRENCY, STATS = ROLES = (
    "ingest", "decision", "usermeta-client", "currency-client", "stats")
# In this order they are told to end: each stage when the one before has ended.
STAGES = ((INGEST,), (DECISION,), (USERMETA, CURRENCY), (STATS,))
BOUND = ROLES[1:]
PORT_TCP = 7700  # on a host of its own every actor has the same port
KEYGEN_SECONDS = 20
POLL_SECONDS = 0.005

Shape = collections.namedtuple("Shape", "name transport curve hosts counts")
MANY = {DECISION: 3, USERMETA: 2, CURRENCY: 2}
SHAPES = {shape.name: shape for shape in (
    Shape("one", "inproc", False, False, {}),
    Shape("ipc", "ipc", False, False, {}),
    Shape("tcp-curve", "tcp", True, False, {}),
    Shape("netns-curve", "tcp", True, True, {}),
    Shape("shards", "ipc", False, False, MANY),
    Shape("shards-curve", "tcp", True, False, MANY),
)}
# One process of a worker: its roles, which of them it is, and its place.
Place = collections.namedtuple("Place", "role index name host")

found = {}  # what is made once a test program: the switch, the certificates


def named(name):
    if name not in SHAPES:
        raise SystemExit("SHAPE is one of %s, not %s" % (", ".join(SHAPES), name))
    return SHAPES[name]


def variable(role):
    return role.upper().replace("-", "_")


def index_variable(role):
    return "DECISION_SHARD" if role == DECISION else variable(role) + "_WORKER"


def places(shape):
    """The processes of a shape, in the order of the flow."""
    if shape.transport == "inproc":
        return [Place(None, 0, "all", None)]
    wanted = []
    for role in ROLES:
        count = shape.counts.get(role, 1)
        for index in range(count):
            name = role if count == 1 else "%s-%d" % (role, index)
            wanted.append(Place(role, index, name, role if shape.hosts else None))
    return wanted


def switch():
    """The hosts, made when they are first asked for."""
    if "switch" not in found:
        found["switch"] = netns.Switch(ROLES)
    return found["switch"]


def missing(shape):
    """Why this shape cannot be tried here; None when it can."""
    return netns.missing() if shape.hosts else None


def prepare(shape):
    """To be called before any socket is made. Where the services listen."""
    if not shape.hosts:
        return "127.0.0.1"
    switch()
    return netns.HOME_ADDRESS


def free_port():
    listener = standin.listening_socket()
    port = listener.getsockname()[1]
    listener.close()
    return port


def certificates(program):
    """The folder that keygen wrote, made once a test program."""
    if "certificates" not in found:
        folder = tempfile.mkdtemp(prefix="guerdon-curve.")
        atexit.register(shutil.rmtree, folder, True)
        found["certificates"] = keygen(program, os.path.join(folder, "curve"))
    return found["certificates"]


def keygen(program, folder):
    ran = subprocess.run([program, "keygen", folder], capture_output=True, text=True,
                         timeout=KEYGEN_SECONDS, check=False,
                         env={"PATH": "/usr/bin:/bin", "HOME": os.path.dirname(folder)})
    if ran.returncode != 0:
        raise AssertionError("keygen ended with %d: %s%s" % (ran.returncode, ran.stdout,
                                                             ran.stderr))
    return folder


def endpoint(shape, place, state_dir):
    if shape.transport == "ipc":
        return "ipc://%s/%s.sock" % (state_dir, place.name)
    if shape.hosts:
        return "tcp://%s:%d" % (switch().hosts[place.host].address, PORT_TCP)
    return "tcp://127.0.0.1:%d" % free_port()


def deployment(shape, state_dir, program):
    """The variables that are the same in every process: who is where, and the
    keys. To be kept for a process that is started again."""
    told = {}
    for role in BOUND:
        told[variable(role) + "_ENDPOINT"] = ",".join(
            endpoint(shape, place, state_dir) for place in places(shape) if place.role == role)
    if shape.curve:
        told["CURVE_DIR"] = certificates(program)
    return told


def own_variables(shape, place, state_dir):
    """Those that tell one process who it is."""
    told = {"STATE_DIR": os.path.join(state_dir, place.name)}
    if shape.counts.get(place.role, 1) > 1:
        told[index_variable(place.role)] = str(place.index)
    return told


class Fleet:
    """Several programs that look like one worker. `start` starts the program of
    a place and gives it; it must be a harness.Worker."""

    def __init__(self, wanted, start):
        self.started = time.monotonic()
        self.start_one = start
        self.places = list(wanted)
        self.members = {place.name: start(place) for place in wanted}
        self.gone = []  # those that were replaced
        self.lock = threading.Lock()
        self.ending = None
        self.hurry = False
        first = self.members[self.places[0].name]
        self.pid, self.port, self.env = first.pid, first.port, first.env
        self.process = first.process

    def __iter__(self):
        return iter(list(self.members.values()))

    def __getitem__(self, name):
        return self.members[name]

    def of(self, *roles):
        return [self.members[place.name] for place in self.places if place.role in roles]

    def restart(self, name):
        """kill -9, and the same program again in the same place."""
        self.members[name].kill()
        return self.replace(name)

    def replace(self, name):
        """Starts what is in this place anew; the old one has ended."""
        place = next(place for place in self.places if place.name == name)
        self.gone.append(self.members[name])
        self.members[name] = self.start_one(place)
        return self.members[name]

    # -- what they say

    def everybody(self):
        return [*self.gone, *self]

    def stdout(self):
        return b"".join(member.stdout() for member in self.everybody())

    def stderr(self):
        return b"".join(member.stderr() for member in self.everybody())

    def output(self):
        return "".join(member.output() for member in self.everybody())

    def log_lines(self):
        return [line for member in self.everybody() for line in member.log_lines()]

    def get(self, path, method="GET"):
        return self.members[self.places[0].name].get(path, method)

    def ready(self):
        """200 when every one is; what they say of services and peers, together."""
        code, services, rest = 200, {}, {}
        for member in self:
            status, text = member.ready()
            if status == 0:
                return 0, ""
            code = max(code, status)
            try:
                said = json.loads(text)
            except ValueError:
                return 503, text
            services.update(said.pop("services", {}))
            rest[member.name] = said
        return code, json.dumps({"services": services, "processes": rest})

    def metrics(self):
        """The sum; those that do not answer are left out."""
        total, answered = collections.Counter(), False
        for member in self:
            try:
                total.update(member.metrics())
                answered = True
            except OSError:
                continue
        if not answered:
            raise OSError("nobody answers")
        return total

    def check_alive(self):
        for member in self:
            if member.process.poll() not in (None, 0):
                raise AssertionError("%s ended with %d" % (member.name, member.process.returncode))

    def counters(self):
        self.check_alive()
        try:
            numbers = self.metrics()
        except OSError:
            numbers = {}
        return tuple(int(numbers.get("guerdon_%s_total" % name, 0))
                     for name in ("events", "success", "failure", "ignored"))

    def in_flight(self):
        try:
            return int(self.metrics().get('guerdon_in_flight{actor="ingest"}', 0))
        except OSError:
            return 0

    # -- what they cost

    def rss_kb(self):
        return max(member.rss_kb() for member in self)

    def cpu_seconds(self):
        return sum(member.cpu_seconds() for member in self)

    # -- their life

    def alive(self):
        return any(member.alive() for member in self)

    def wait_ready(self, seconds=10.0):
        deadline = time.monotonic() + seconds
        for member in self:
            member.wait_ready(max(0.1, deadline - time.monotonic()))
        return self

    def terminate(self):
        """SIGTERM in the order of the flow; again: nobody waits any more."""
        if self.ending:
            self.hurry = True
            for member in self:
                member.terminate()
            return
        self.signal_stage(STAGES[0])
        self.ending = threading.Thread(target=self.end_in_order, daemon=True)
        self.ending.start()

    def signal_stage(self, roles):
        for member in self.of(*roles):
            if member.alive():
                member.process.send_signal(signal.SIGTERM)

    def end_in_order(self):
        for index, roles in enumerate(STAGES):
            if index > 0:
                self.signal_stage(roles)
            while any(member.alive() for member in self.of(*roles)):
                time.sleep(POLL_SECONDS)
                if self.hurry:
                    break

    def wait_exit(self, seconds=10.0):
        """The exit code of them all: 0 when each has ended with 0, else the
        first other one; then the rest is ended too."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            codes = [member.process.poll() for member in self]
            failed = [code for code in codes if code not in (None, 0)]
            if failed:
                self.kill()
                return failed[0]
            if None not in codes:
                return 0
            time.sleep(POLL_SECONDS)
        raise AssertionError("still there after %.1f s: %s" % (seconds, ", ".join(
            member.name for member in self if member.alive())))

    def stop(self, seconds=15.0, code=0):
        start = time.monotonic()
        self.terminate()
        got = self.wait_exit(seconds)
        if got != code:
            raise AssertionError("exit code %d instead of %d" % (got, code))
        return time.monotonic() - start

    def kill(self):
        for member in self:
            member.kill()

    def tail(self):
        return "\n".join("-- %s (ended: %s)\n%s" % (member.name, member.process.poll(), member.tail())
                         for member in self.everybody())

    def discard(self):
        for member in self.everybody():
            member.discard()
