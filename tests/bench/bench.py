#!/usr/bin/env python3
"""guerdon bench: how fast, and how near to what the libraries cost at all.

usage: guerdon bench [SCENARIO…] [--runs N] [--small] [--json] [--plot DIR]

Each scenario runs together with its reference: a bare program that makes only the
library calls that cannot be avoided, against the same stub of the services. Runs
alternate, the first of each is a warm-up; what is printed are medians, with the
spread, and the ratio. --small is for tests: it shows that a scenario works, and
its figures mean little. --plot writes an SVG for each scenario (gnuplot).
Without a scenario all run; --list names them."""
import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.realpath(__file__))
GUERDON = os.path.join(HERE, "guerdon")
DEADLINE_S = 600


class Broken(Exception):
    """A run did not do its work: its figures mean nothing."""


def tool(name):
    path = os.path.join(HERE, name)
    if not os.path.exists(path):
        raise Broken(f"{path} is missing: build with GUERDON_TESTS=ON")
    return path


# ---- the pieces of a run --------------------------------------------------------


@contextlib.contextmanager
def stub(kind, events, rate=None):
    """The services; yields the port, and an object that tells what they saw."""
    process = subprocess.Popen([tool("bench_stub"), kind, str(events), *([str(rate)] if rate else [])],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline().split()[1]), Seen(process)
    finally:
        process.kill()
        process.wait()


class Seen:
    """What the stub of the services saw."""

    def __init__(self, process):
        self.process, self.lines = process, []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def all_acknowledged(self):
        """Nobody is asked: the process that is measured is left alone."""
        return "DONE\n" in self.lines

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def report(self):
        self.process.stdin.close()
        self.reader.join()
        return json.loads(self.lines[-1])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(port, directory, **changes):
    found = {
        "PATH": "/usr/bin:/bin", "HOME": directory, "STATE_DIR": directory, "API_SECRET": "x",
        "APP_1_NAME": "game-1", "APP_2_NAME": "game-2", "EVENTS_CLIENT_ID": "bench",
        "REWARD_APP_1_USER_LOGIN_APP_2_ID": "promo1", "REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT": "10",
        "REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY": "gold", "HOST": "127.0.0.1",
        "PORT": str(free_port()), "LOG_LEVEL": "ERROR", "LOG_FORMAT": "json",
    }
    for service in ("EVENTS", "APP_1_USERMETA", "APP_1_VIRTUALCURRENCY"):
        found[service + "_PORT_8000_TCP_PORT"] = str(port)
    found.update({name: str(value) for name, value in changes.items() if value is not None})
    return found


def page(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return ""


def wait_for(condition, processes):
    until = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > until:
            raise Broken("the work was not done in time")
        if any(process.poll() is not None for process in processes):
            raise Broken("a process ended")
        time.sleep(0.02)


class Fleet:
    """One process with all roles, or one a role."""

    def __init__(self, port, directory, split=False, preload=None, **changes):
        self.processes, self.envs, self.used = [], [], {"cpu_us": 0, "peak_kb": 0}
        shared = {}
        if split:
            shared = {name + "_ENDPOINT": f"tcp://127.0.0.1:{free_port()}" for name in
                      ("DECISION", "USERMETA_CLIENT", "CURRENCY_CLIENT", "STATS")}
        roles = ("stats", "currency-client", "usermeta-client", "decision", "ingest") if split else (None,)
        for role in roles:
            own = os.path.join(directory, role or "all")
            env = environment(port, own, **shared, **changes)
            env["LD_PRELOAD"] = preload or ""
            os.makedirs(own, exist_ok=True)
            arguments = [GUERDON, "run"] + (["--role", role] if role else [])
            self.processes.append(subprocess.Popen(arguments, env=env, stdout=subprocess.DEVNULL))
            self.envs.append(env)

    def ready(self):
        return all('"ready":true' in page(env["PORT"], "/ready") for env in self.envs)

    def memory_kb(self, field):
        """VmRSS, resident now, or VmHWM, at most so far; of all processes."""
        total = 0
        for process in self.processes:
            with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                total += next((int(line.split()[1]) for line in file if line.startswith(field)), 0)
        return total

    def end(self, how=signal.SIGTERM):
        if how == signal.SIGTERM:
            self.used["peak_kb"] = self.memory_kb("VmHWM")
        for process in reversed(self.processes):
            if process.returncode is not None:
                continue
            process.send_signal(how)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.used["cpu_us"] += int((usage.ru_utime + usage.ru_stime) * 1e6)
        return self.used


@contextlib.contextmanager
def fleet(port, **options):
    directory = tempfile.mkdtemp(prefix="guerdon-bench.")
    found = None
    try:
        found = Fleet(port, options.pop("directory", None) or directory, **options)
        yield found
    finally:
        if found:
            found.end(signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


def run_guerdon(kind, events, rate=None, **options):
    """All events through guerdon; what the stub and the system say of it."""
    with stub(kind, events, rate) as (port, seen), fleet(port, **options) as worker:
        wait_for(seen.all_acknowledged, worker.processes)
        figures = dict(worker.end())
        said = seen.report()
    due = {"ignored": 0, "rewarded": events, "mixed": events // 100}[kind]
    if said["rewards"] != due or said["doubles"]:
        raise Broken(f"{said['rewards']} rewards and {said['doubles']} doubles, expected {due} and 0")
    figures.update(said, events_s=events / said["seconds"], cpu_us_event=figures["cpu_us"] / events)
    return figures


def run_reference(mode, kind, events, rate=None):
    with stub(kind, events) as (port, _):
        done = subprocess.run([tool("bench_reference"), mode, str(port), str(events),
                               *([str(rate)] if rate else [])], stdout=subprocess.PIPE, check=True, text=True)
    figures = json.loads(done.stdout)
    figures.update(events_s=events / figures["seconds"], cpu_us_event=figures["cpu_us"] / events)
    return figures


# ---- scenarios --------------------------------------------------------------------


class Scenario:
    """Two ways to do the same; `goal` is what the ratio is to be."""

    def __init__(self, title, ours, reference, figure="events_s", goal=None, more_is_better=True):
        self.title, self.ours, self.reference = title, ours, reference
        self.figure, self.goal, self.more_is_better = figure, goal, more_is_better


def hop(kind):
    def run(small, which):
        directory = tempfile.mkdtemp(prefix="guerdon-bench.")
        try:
            subprocess.run([GUERDON, "keygen", directory + "/keys"], stdout=subprocess.DEVNULL, check=True)
            done = subprocess.run([tool("bench_hop"), kind, "500" if small else "20000"], text=True,
                                  stdout=subprocess.PIPE, check=True, timeout=DEADLINE_S,
                                  env={**os.environ, "CURVE_DIR": directory + "/keys"})
        finally:
            shutil.rmtree(directory)
        return {"events_s": json.loads(done.stdout)[which]}
    return Scenario(f"one hop over {kind}, batches of 64", lambda small: run(small, "ours"),
                    lambda small: run(small, "bare"), goal=0.5)


def size(small, full, tiny):
    return tiny if small else full


def backlog(small):
    """The rate of the last tenth, as ours, against that of the first."""
    events = size(small, 10000000, 50000)
    return run_guerdon("ignored", events)


def of_tenth(name):
    def run(small):
        figures = backlog(small)
        return {"events_s": size(small, 1000000, 5000) / max(figures[name], 1e-6), "peak_kb": figures["peak_kb"]}
    return run


def fill_journal(directory, records):
    """A journal with so many finished records, made by guerdon and filled here."""
    import sqlite3
    with stub("ignored", 1) as (port, seen), fleet(port, directory=directory) as worker:
        wait_for(seen.all_acknowledged, worker.processes)
    path = os.path.join(directory, "all", "journal-0.db")
    database = sqlite3.connect(path)
    now = int(time.time() * 1000)
    database.execute("PRAGMA synchronous=OFF")
    columns = [row[1] for row in database.execute("PRAGMA table_info(grants)")]
    values = {"id": "n", "position": "n", "event_ms": str(now), "trace": "n", "user": "'old' || n",
              "reward": "'promo1'", "amount": "10", "currency": "'gold'", "state": "2",
              "intended_ms": str(now), "changed_ms": str(now), "tries": "1", "reason": "''", "who": "''"}
    database.execute(f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {records}) "
                     f"INSERT INTO grants ({', '.join(columns)}) SELECT "
                     + ", ".join(values[column] for column in columns) + " FROM c")
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    with open(path, "rb+") as file:  # else the disk still writes it while the run is measured
        os.fsync(file.fileno())


def with_ledger(small):
    directory = tempfile.mkdtemp(prefix="guerdon-bench.")
    try:
        fill_journal(directory, size(small, 10000000, 5000))
        begun = time.monotonic()
        with stub("ignored", 1) as (port, _), fleet(port, directory=directory) as worker:
            wait_for(worker.ready, worker.processes)
            restart = time.monotonic() - begun
        figures = run_guerdon("rewarded", size(small, 20000, 100), directory=directory)
        figures["restart_s"] = restart
        return figures
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def memory(small):
    """Resident memory: idle, with 10,000 in flight, and one role idle. In kB."""
    with stub("ignored", 1) as (port, seen), fleet(port) as worker:
        wait_for(seen.all_acknowledged, worker.processes)
        time.sleep(1)
        idle = worker.memory_kb("VmRSS")
    with stub("ignored", 1) as (port, _), fleet(port, split=True) as worker:
        wait_for(worker.ready, worker.processes)
        time.sleep(1)
        roles = worker.memory_kb("VmRSS") / len(worker.processes)
    flight = run_guerdon("rewarded", size(small, 20000, 200))["peak_kb"]
    return {"idle_kb": idle, "role_kb": roles, "in_flight_kb": flight}


def start(small):
    """From exec to ready, in ms: the probes' round trips are loopback's."""
    del small
    with stub("ignored", 1) as (port, _):
        begun = time.monotonic()
        with fleet(port) as worker:
            url = worker.envs[0]["PORT"]
            while '"ready":true' not in page(url, "/ready"):
                if time.monotonic() > begun + 10:
                    raise Broken("not ready")
            return {"ready_ms": (time.monotonic() - begun) * 1000}


def tapped(taps):
    def run(small):
        directory = tempfile.mkdtemp(prefix="guerdon-bench.")
        events = size(small, 20000, 200)
        watchers = []
        try:
            env = environment(1, os.path.join(directory, "all"))
            watchers = [subprocess.Popen([GUERDON, "tap", f"ipc://{directory}/all/tap.sock"], env=env,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                        for _ in range(taps)]
            return run_guerdon("rewarded", events, directory=directory)
        finally:
            for watcher in watchers:
                watcher.kill()
                watcher.wait()
            shutil.rmtree(directory, ignore_errors=True)
    return run


class Shards:
    """Decision shards, each with a client of either kind, on a simulated cluster of 16 cores. What
    a role costs is measured in the same run: on this program, with a process a role. WINDOW is as
    docs/deploy.md has it, 10,000 a shard; `one_window_8` shares 10,000 among 8, and in `alone_N` each
    actor has a core."""

    ROLES = {"ingest": "events", "decision": None, "usermeta-client": "usermeta",
             "currency-client": "virtualcurrency", "stats": None}
    COUNTS = (1, 2, 4, 8)
    CORES = 16
    WINDOW = 10000

    def __init__(self):
        self.linear = {}

    @staticmethod
    def threads(pid):
        """µs of processor time, and waits that ended, of each thread by its name."""
        found = {}
        for task in os.listdir(f"/proc/{pid}/task"):
            texts = []
            for name in ("comm", "schedstat", "status"):
                with open(f"/proc/{pid}/task/{task}/{name}", encoding="ascii") as file:
                    texts.append(file.read())
            waits = next(line for line in texts[2].splitlines() if line.startswith("voluntary"))
            found[texts[0].strip()] = int(texts[1].split()[0]) / 1000, int(waits.split()[1])
        return found

    @staticmethod
    def load(events, rate):
        """What each role did: µs of its own thread and of ZeroMQ's, waits, frames, units of work."""
        found = {}
        with stub("rewarded", events, rate) as (port, seen), fleet(port, split=True) as worker:
            wait_for(seen.all_acknowledged, worker.processes)
            for process, env in zip(worker.processes, worker.envs):
                threads = Shards.threads(process.pid)
                role = next(role for role in Shards.ROLES if role in threads)
                lines = dict(line.rsplit(" ", 1) for line in page(env["PORT"], "/metrics").splitlines())
                taken, sent = (int(lines[f'guerdon_messages_total{{actor="{role}",direction="{way}"}}'])
                               for way in ("in", "out"))
                units = taken if role == "stats" else events
                if role.endswith("client"):
                    units = int(lines[f'guerdon_http_milliseconds_count{{service="{Shards.ROLES[role]}"}}'])
                own, zmq = threads[role], threads["ZMQbg/IO/0"]
                if not units:
                    raise Broken(f"{role} did nothing")
                found[role] = {"us": own[0] + zmq[0], "zmq_us": zmq[0], "waits": own[1], "units": units,
                               "frames": taken + sent}
        return found

    @staticmethod
    def costs(full, lone):
        """µs of a role: a unit of work, a frame, a wait that ends; from a load as heavy as can be and
        one of lone events. A frame costs what ZeroMQ's thread needs for one that comes alone, which
        is the dearest; for the rest there are two equations."""
        frame = lone["zmq_us"] / max(lone["frames"], 1)
        rest, waits = zip(*(((run["us"] - frame * run["frames"]) / run["units"], run["waits"] / run["units"])
                            for run in (full, lone)))
        wait = max(0, (rest[1] - rest[0]) / (waits[1] - waits[0])) if waits[1] > waits[0] else 0
        return max(0, rest[0] - wait * waits[0]), frame, wait

    @staticmethod
    def simulate(count, costs, events, cores, window):
        """The rate is that of the middle of the run. One shard begins with large batches, because the
        window fills at once: with 20,000 events it seems 7% faster than it is in the long run, with
        100,000 2%."""
        arguments = {"decisions": count, "clients": count, "cores": cores, "events": events * count,
                     "window": window}
        arguments.update({role: ",".join(str(round(part * 1000)) for part in parts)
                          for role, parts in costs.items()})
        words = [word for name, value in arguments.items() for word in ("--" + name, str(value))]
        done = subprocess.run([tool("bench_cluster"), *words], stdout=subprocess.PIPE, check=True, text=True,
                              timeout=DEADLINE_S)
        return json.loads(done.stdout), words

    def ours(self, small):
        events = size(small, 20000, 300)
        full, lone = self.load(events, None), self.load(size(small, 2000, 60), 500)
        costs = {role: self.costs(full[role], lone[role]) for role in self.ROLES}
        figures = {f"{role}_us": full[role]["us"] / events for role in self.ROLES}
        events = size(small, 100000, 300)
        for count in self.COUNTS:
            window = self.WINDOW * count
            found, words = self.simulate(count, costs, events, 0, window)
            figures[f"alone_{count}"] = found["events_s"]
            if 3 * count + 2 > self.CORES:  # with fewer actors than cores it is the same
                found, words = self.simulate(count, costs, events, self.CORES, window)
                shared, _ = self.simulate(count, costs, events, self.CORES, self.WINDOW)
                figures[f"one_window_{count}"] = shared["events_s"]
            figures[f"shards_{count}"] = found["events_s"]
        if small and self.simulate(count, costs, events, self.CORES, window)[0] != found:
            raise Broken(f"bench_cluster {' '.join(words)}: the same arguments do not give the same figures")
        self.linear = {"events_s": figures["shards_1"] * self.COUNTS[-1]}
        figures.update(events_s=figures["shards_8"])
        return figures

    def reference(self, small):
        del small
        return self.linear


SHARDS = Shards()


def rewarded(small, **options):
    return run_guerdon("rewarded", size(small, 50000, 300), **options)


SCENARIOS = {
    "ignored": Scenario("events ignored by type", lambda small: run_guerdon("ignored", size(small, 2000000, 5000)),
                        lambda small: run_reference("ignored", "ignored", size(small, 2000000, 5000)), goal=0.6),
    "rewarded": Scenario("rewarded events, distinct players", rewarded,
                         lambda small: run_reference("rewarded", "rewarded", size(small, 50000, 300)), goal=0.75),
    "slow-disk": Scenario("the same with an fsync of 5 ms, against without",
                          lambda small: rewarded(small, preload=tool("libslow_sync.so"), SYNC_DELAY_US=5000),
                          rewarded, goal=0.95),
    "mixed": Scenario("1% rewarded, 30% rewarded before, the rest of other apps",
                      lambda small: run_guerdon("mixed", size(small, 50000, 1000)),
                      lambda small: run_reference("reads", "mixed", size(small, 50000, 1000)), goal=0.75),
    "latency": Scenario("from visible to rewarded at 100 events/s, p50 in µs",
                        lambda small: run_guerdon("rewarded", size(small, 1000, 30), rate=100),
                        lambda small: run_reference("latency", "rewarded", size(small, 1000, 30), rate=100),
                        figure="p50_us", more_is_better=False),
    "hop-inproc": hop("inproc"), "hop-ipc": hop("ipc"), "hop-tcp": hop("tcp"), "hop-curve": hop("curve"),
    "split": Scenario("five processes on loopback tcp, against one",
                      lambda small: rewarded(small, split=True), rewarded, goal=0.5),
    "backlog": Scenario("the last tenth of a backlog, against the first", of_tenth("last_tenth"),
                        of_tenth("first_tenth"), goal=0.95),
    "ledger": Scenario("a journal with 10,000,000 finished records, against an empty one", with_ledger,
                       lambda small: run_guerdon("rewarded", size(small, 20000, 100)), goal=0.9),
    "shards": Scenario("8 decision shards on a simulated cluster of 16 cores, against 8 times one", SHARDS.ours,
                       SHARDS.reference, goal=0.85),
    "memory": Scenario("resident memory, kB", memory, None),
    "start": Scenario("start to ready, ms", start, None),
    "tap-1": Scenario("one text tap against none, CPU µs an event", tapped(1), tapped(0),
                      figure="cpu_us_event", goal=1.1, more_is_better=False),
    "tap-100": Scenario("100 text taps against none, CPU µs an event", tapped(100), tapped(0),
                        figure="cpu_us_event", goal=1.25, more_is_better=False),
}


# ---- measuring and telling ----------------------------------------------------------


def measure(scenario, runs, small):
    """Runs both in turn; a run beforehand warms up."""
    kept = {"ours": [], "reference": []}
    for number in range(runs + (0 if small else 1)):
        for side, run in (("ours", scenario.ours), ("reference", scenario.reference)):
            if run is None:
                continue
            try:
                figures = run(small)
            except Broken:  # somebody else may have taken a port that was free
                figures = run(small)
            if small or number:
                kept[side].append(figures)
    return kept


def summary(scenario, kept):
    told = {"title": scenario.title, "figure": scenario.figure, "goal": scenario.goal}
    for side, runs in kept.items():
        if not runs:
            continue
        names = [name for name in runs[0] if isinstance(runs[0][name], (int, float))]
        told[side] = {name: {"median": statistics.median(run[name] for run in runs),
                             "min": min(run[name] for run in runs), "max": max(run[name] for run in runs)}
                      for name in names}
    if "reference" in told:
        ours, reference = (told[side][scenario.figure]["median"] for side in ("ours", "reference"))
        told["ratio"] = ours / reference if reference else None
        if scenario.goal:
            met = told["ratio"] >= scenario.goal if scenario.more_is_better else told["ratio"] <= scenario.goal
            told["met"] = met
    return told


SHOWN = (("events_s", "events/s", 0), ("cpu_us_event", "µs CPU/event", 2), ("peak_kb", "peak kB", 0),
         ("p50_us", "p50 µs", 0), ("p99_us", "p99 µs", 0), ("p999_us", "p999 µs", 0),
         ("restart_s", "restart s", 3), ("idle_kb", "idle kB", 0), ("role_kb", "one role idle kB", 0),
         ("in_flight_kb", "in flight kB", 0), ("ready_ms", "ready ms", 1), ("ingest_us", "ingest µs/event", 2),
         ("decision_us", "decision µs/event", 2), ("usermeta-client_us", "usermeta-client µs/event", 2),
         ("currency-client_us", "currency-client µs/event", 2), ("stats_us", "stats µs/event", 2),
         ("shards_1", "1 shard on 16 cores events/s", 0), ("shards_2", "2", 0), ("shards_4", "4", 0),
         ("shards_8", "8", 0), ("one_window_8", "8 with one WINDOW of 10,000 for all", 0),
         ("alone_1", "1 shard and a core for each actor events/s", 0), ("alone_2", "2", 0),
         ("alone_4", "4", 0), ("alone_8", "8", 0))


def tell(name, told):
    print(f"{name}: {told['title']}")
    for side in ("ours", "reference"):
        figures = told.get(side, {})
        parts = [f"{label} {figures[key]['median']:,.{digits}f} ({figures[key]['min']:,.{digits}f}"
                 f"–{figures[key]['max']:,.{digits}f})"
                 for key, label, digits in SHOWN if key in figures and figures[key]["max"]]
        if parts:
            print(f"  {side:<10}" + ", ".join(parts))
    if told.get("ratio") is not None:
        goal = "" if told["goal"] is None else f", goal {told['goal']:.0%}: {'met' if told['met'] else 'missed'}"
        print(f"  ratio     {told['ratio']:.1%}{goal}")
    sys.stdout.flush()


def plot(name, told, directory):
    """Bars for ours and the reference, with the spread."""
    if "reference" not in told:
        return
    figure = told["figure"]
    rows = "".join(f'"{side}" {told[side][figure]["median"]} {told[side][figure]["min"]} '
                   f'{told[side][figure]["max"]}\n' for side in ("reference", "ours"))
    script = (f'set terminal svg size 480,300 dynamic\nset output "{directory}/{name}.svg"\n'
              f'set title "{told["title"]}"\nset style fill solid 0.6\nset boxwidth 0.5\nset yrange [0:*]\n'
              f'set ylabel "{figure}"\nunset key\n$data << EOD\n{rows}EOD\n'
              'plot $data using 0:2:xtic(1) with boxes, "" using 0:2:3:4 with yerrorbars\n')
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def main():
    parser = argparse.ArgumentParser(prog="guerdon bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", metavar="DIR")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        for name, scenario in SCENARIOS.items():
            print(f"{name:<12}{scenario.title}")
        return 0
    for name in options.scenarios:
        if name not in SCENARIOS:
            print(f"guerdon bench: {name}: expected one of {', '.join(SCENARIOS)}", file=sys.stderr)
            return 64
    code, everything = 0, {}
    for name in options.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        try:
            told = summary(scenario, measure(scenario, options.runs, options.small))
        except (Broken, subprocess.SubprocessError, OSError) as error:
            print(f"guerdon bench: {name}: {error}", file=sys.stderr)
            code = 1
            continue
        everything[name] = told
        if not options.json:
            tell(name, told)
        if options.plot:
            plot(name, told, options.plot)
    if options.json:
        print(json.dumps(everything, indent=1))
    return code


if __name__ == "__main__":
    sys.exit(main())
