"""test_top.py - guerdon top: what it shows of processes that work, wait, went
away, came back, or are something else."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
import unittest

import harness
import shapes
import standin
from harness import PROGRAM, free_port, wait_until

ONCE_SECONDS = 20
HANG_SECONDS_MAX = 2.0 + (5 if harness.sanitized() else 2)
ACTORS = ["ingest", "decision", "usermeta-client", "currency-client", "stats"]
SERVICES = ["events", "usermeta", "virtualcurrency"]
ROWS, COLUMNS = 20, 60


def environment(**changes):
    """No configuration at all, unless one is given."""
    return {"PATH": "/usr/bin:/bin", **changes}


def top(*arguments, code=0, seconds=ONCE_SECONDS, **env):
    """What it prints, and what it complains of."""
    run = subprocess.run([PROGRAM, "top", *arguments], env=environment(**env), capture_output=True,
                         timeout=seconds, check=False, stdin=subprocess.DEVNULL)
    if run.returncode != code:
        raise AssertionError("exit code %d instead of %d: %r" % (run.returncode, code, run.stderr))
    return run.stdout.decode(), run.stderr.decode()


def looked(*arguments, code=0):
    """The processes that --format json tells of."""
    lines = top("--once", "--format", "json", *arguments, code=code)[0].splitlines()
    if len(lines) != 1:
        raise AssertionError("%d lines instead of one" % len(lines))
    return json.loads(lines[0])["processes"]


def named(rows, key, name):
    return next(row for row in rows if row[key] == name)


class Live:
    """A top that goes on, in JSON lines."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([PROGRAM, "top", "--format", "json", "--interval", "0.1", *arguments],
                                        env=environment(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                        preexec_fn=harness.die_with_parent)
        self.seen = []

    def next(self):
        ready, _, _ = select.select([self.process.stdout], [], [], ONCE_SECONDS)
        if not ready:
            raise AssertionError("it says nothing more")
        self.seen.append(json.loads(self.process.stdout.readline())["processes"])
        return self.seen[-1]

    def until(self, condition, looks=400):
        for _ in range(looks):
            found = self.next()
            if condition(found):
                return found
        raise AssertionError("not in %d looks, last %r" % (looks, self.seen[-1]))

    def end(self, number=signal.SIGINT):
        """Its exit code."""
        self.process.send_signal(number)
        self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(ONCE_SECONDS)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class OneProcess(harness.Case):
    def address(self, worker):
        return "127.0.0.1:%d" % worker.port

    def test_what_a_process_says_of_itself(self):
        users = ["alice", "bob"]
        self.world.players(users)
        self.events.add_many([dict(user="alice"), dict(user="bob"), dict(user="stranger"), dict(type="CREATE")])
        worker = self.worker().wait_ready()
        self.assertEqual((4, 2, 0, 2), self.wait_rest(worker, 4))
        self.wait_acked(4)
        process, = looked(self.address(worker))
        self.assertEqual((True, "ready", self.address(worker)),
                         (process["reachable"], process["state"], process["process"]))
        self.assertEqual((4, 2, 0, 2), tuple(process[name] for name in
                                             ("events", "success", "failure", "ignored")))
        self.assertGreaterEqual(process["interval_ms"], 500)
        self.assertGreater(process["resident_bytes"], 1 << 20)
        self.assertEqual((0, 0, 4), (process["events_rate"], process["lag"]["unsettled"],
                                     process["lag"]["seen"]))
        self.assertEqual(ACTORS, [actor["actor"] for actor in process["actors"]])
        self.assertEqual(10000, named(process["actors"], "actor", "ingest")["credit"])
        for actor in ("usermeta-client", "currency-client"):
            client = named(process["actors"], "actor", actor)
            self.assertEqual((0, 16, "closed"), tuple(client[name] for name in ("queue", "concurrency", "breaker")))
        self.assertEqual(SERVICES, [service["service"] for service in process["services"]])
        for service in process["services"]:
            self.assertEqual(("up", "", 0), tuple(service[name] for name in ("state", "reason", "failed")))
        currency = named(process["services"], "service", "virtualcurrency")
        self.assertIsNone(currency["p50_ms"])
        self.assertGreater(currency["p99_ms_since_start"], 0)
        self.assertEqual(worker.metrics()['guerdon_http_milliseconds_count{service="virtualcurrency"}'],
                         currency["requests"])

    def test_the_port_is_that_of_the_environment(self):
        worker = self.worker().wait_ready()
        text, _ = top("--once", PORT=str(worker.port))
        self.assertIn("1 of 1 process answer", text)
        for word in (*ACTORS, *SERVICES, self.address(worker), "UNSETTLED", "P99 ms"):
            self.assertIn(word, text)
        self.assertNotIn("\x1b", text)

    def test_rates_while_players_come(self):
        worker = self.worker().wait_ready()
        over = threading.Event()

        def come():
            number = 0
            while not over.wait(0.01):
                number += 1
                self.events.add("player%d" % number)
        thread = threading.Thread(target=come)
        thread.start()
        try:
            wait_until(lambda: worker.counters()[0] > 3, what="events come")
            process, = looked(self.address(worker))
        finally:
            over.set()
            thread.join()
        self.assertGreater(process["events_rate"], 1)
        self.assertLess(process["events_rate"], 1000)
        self.assertGreater(named(process["actors"], "actor", "decision")["in_rate"], 1)
        usermeta = named(process["services"], "service", "usermeta")
        self.assertGreater(usermeta["requests_rate"], 1)
        self.assertLessEqual(0, usermeta["p50_ms"])
        self.assertLessEqual(usermeta["p50_ms"], usermeta["p99_ms"])

    def test_lag_while_a_service_is_down(self):
        worker = self.worker().wait_ready()
        self.world.players(["p%d" % n for n in range(7)])
        rule = self.usermeta.misbehave(standin.status(503))
        self.events.add_logins(["p%d" % n for n in range(7)])

        def waiting():
            process, = looked(self.address(worker))
            usermeta = named(process["services"], "service", "usermeta")
            good = usermeta["state"] == "down" and process["lag"]["oldest_s"] >= 1 and usermeta["failed_rate"]
            return process if good else None
        process = wait_until(waiting, 20, "what waits is a second old")
        self.assertEqual("not ready", process["state"])
        self.assertEqual((7, 0), (process["lag"]["unsettled"], process["lag"]["unacked"]))
        self.assertLess(process["lag"]["oldest_s"], 30)
        usermeta = named(process["services"], "service", "usermeta")
        self.assertIn("503", usermeta["reason"])
        self.assertGreater(usermeta["failed"], 0)
        client = named(process["actors"], "actor", "usermeta-client")
        self.assertEqual((7, 7, 1), tuple(client[name] for name in ("in_flight", "queue", "concurrency")))
        self.assertIn(client["breaker"], ("open", "half-open"))
        self.assertEqual("closed", named(process["actors"], "actor", "currency-client")["breaker"])
        self.assertEqual((None, None), tuple(named(process["actors"], "actor", "decision")[name]
                                             for name in ("queue", "breaker")))
        self.assertEqual(10000 - 7, named(process["actors"], "actor", "ingest")["credit"])
        self.assertRegex(top("--once", self.address(worker))[0], r"(?m)^\S+ +usermeta +down .*503")
        rule.release()
        self.wait_acked(7)
        process, = looked(self.address(worker))
        self.assertEqual((0, 0), (process["lag"]["unsettled"], process["lag"]["oldest_s"]))
        client = named(process["actors"], "actor", "usermeta-client")
        self.assertGreater(client["retries"], 0)
        self.assertEqual((0, "closed"), (client["queue"], client["breaker"]))

    def test_one_that_goes_and_comes_back(self):
        port = free_port()
        worker = self.worker(PORT=port).wait_ready()
        live = Live(self.address(worker))
        self.addCleanup(live.kill)
        live.until(lambda found: found[0]["reachable"])
        self.events.add_many([dict(type="CREATE")] * 50)
        live.until(lambda found: found[0]["reachable"] and found[0]["events"] == 50)
        worker.kill()
        self.assertTrue(live.until(lambda found: not found[0]["reachable"])[0]["reason"])
        self.worker(PORT=port).wait_ready()
        back = live.until(lambda found: found[0]["reachable"])
        self.assertEqual((None, None), (back[0]["events_rate"], back[0]["interval_ms"]))
        live.until(lambda found: found[0]["events_rate"] is not None)
        rates = [found[0]["events_rate"] for found in live.seen if found[0]["reachable"]]
        self.assertGreaterEqual(min(rate for rate in rates if rate is not None), 0)
        self.assertEqual(0, live.end())

    def test_processes_that_are_there_and_others(self):
        worker = self.worker().wait_ready()
        gone = "127.0.0.1:%d" % free_port()
        first, second = looked(gone, self.address(worker))
        self.assertEqual((False, True), (first["reachable"], second["reachable"]))
        self.assertEqual("Connection refused", first["reason"])
        self.assertEqual((None, [], [], []), tuple(first[key] for key in ("lag", "actors", "services", "peers")))
        text, _ = top("--once", gone, self.address(worker))
        self.assertIn("1 of 2 processes answer", text)
        self.assertRegex(text, r"(?m)^%s +unreachable: Connection refused$" % re.escape(gone))
        top("--once", gone, code=1)

    # -- on a terminal

    def on_terminal(self, *arguments):
        """A top on a terminal; its process and the other end."""
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen([PROGRAM, "top", *arguments], env=environment(TERM="xterm"), stdin=theirs,
                                   stdout=theirs, stderr=theirs, start_new_session=True,
                                   preexec_fn=lambda: (harness.die_with_parent(),
                                                       fcntl.ioctl(0, termios.TIOCSCTTY, 0)))
        os.close(theirs)
        self.addCleanup(process.kill)
        return process, ours

    def read_until(self, terminal, condition):
        found = b""
        deadline = time.monotonic() + ONCE_SECONDS
        while not condition(found):
            ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError("only this came: %r" % found)
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the other end was closed
                piece = b""
            if not piece:
                if condition(found):
                    break
                raise AssertionError("it ended with only this: %r" % found)
            found += piece
        return found

    def test_it_refreshes_in_place_on_a_terminal_until_ctrl_c(self):
        worker = self.worker().wait_ready()
        process, terminal = self.on_terminal("--interval", "0.2", self.address(worker))
        found = self.read_until(terminal, lambda text: text.count(b"\x1b[H") >= 3 and text.endswith(b"\x1b[J"))
        self.assertTrue(found.startswith(b"\x1b[?25l\x1b[H"))
        for screen in found.decode().split("\x1b[H")[1:]:
            self.assertTrue(screen.endswith("\x1b[J"))
            lines = screen.replace("\x1b[K", "").replace("\x1b[J", "").replace("\r\r\n", "\r\n").split("\r\n")
            self.assertLessEqual(len(lines), ROWS)
            self.assertLessEqual(max(len(line) for line in lines), COLUMNS)
            self.assertNotIn("\x1b", "".join(lines))
        os.write(terminal, b"\x03")  # Ctrl-C, as the terminal turns it into a signal
        self.read_until(terminal, lambda text: b"\x1b[?25h" in text)
        self.assertEqual(0, process.wait(ONCE_SECONDS))

    def test_it_ends_well_on_signals_also_off_a_terminal(self):
        worker = self.worker().wait_ready()
        for number in (signal.SIGINT, signal.SIGTERM):
            live = Live(self.address(worker))
            self.addCleanup(live.kill)
            live.next()
            self.assertEqual(0, live.end(number))

    def test_blocks_where_there_is_no_terminal(self):
        worker = self.worker().wait_ready()
        process = subprocess.Popen([PROGRAM, "top", "--interval", "0.1", self.address(worker)], env=environment(),
                                   stdout=subprocess.PIPE, preexec_fn=harness.die_with_parent)
        self.addCleanup(process.kill)
        blocks, lines = 0, []
        while blocks < 3:
            lines.append(process.stdout.readline().decode())
            self.assertTrue(lines[-1])
            blocks += lines[-1].startswith("guerdon top")
        self.assertNotIn("\x1b", "".join(lines))
        process.stdout.close()  # it notices by itself
        self.assertIn(process.wait(ONCE_SECONDS), (0, 1))


class ManyProcesses(harness.Case):
    shape = shapes.SHAPES["ipc"]

    def test_who_is_missing(self):
        self.world.players(["alice"])
        self.events.add("alice")
        fleet = self.worker().wait_ready()
        addresses = ["127.0.0.1:%d" % member.port for member in fleet]
        self.wait_rewarded(["alice"])
        found = looked(*addresses)
        self.assertEqual([[name] for name in ACTORS], [[actor["actor"] for actor in process["actors"]]
                                                       for process in found])
        self.assertEqual([True] + [False] * 4, [process["lag"] is not None for process in found])
        self.assertEqual({"up"}, {peer["state"] for process in found for peer in process["peers"]})
        self.assertIn(("ingest", "decision/0"), [(peer["of"], peer["peer"]) for peer in found[0]["peers"]])
        self.assertNotIn("PEER IS", top("--once", *addresses)[0])
        fleet["decision"].kill()

        def lost():
            process = looked(*addresses)
            return not process[1]["reachable"] and [peer for peer in process[0]["peers"]
                                                    if (peer["peer"], peer["state"]) == ("decision/0", "lost")]
        wait_until(lost, 20, "the decision is lost")
        text, _ = top("--once", *addresses)
        self.assertRegex(text, r"(?m)^%s +ingest +decision/0 +lost" % re.escape(addresses[0]))
        self.assertRegex(text, r"(?m)^%s +unreachable" % re.escape(addresses[1]))
        self.assertRegex(text, r"(?m)^%s +not ready" % re.escape(addresses[0]))


class Impostor:
    """Says the same to everyone; None: nothing, and keeps the line open."""

    def __init__(self, answer, pieces=False):
        self.answer, self.pieces, self.kept = answer, pieces, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.kept.append(connection)
            try:
                self.serve(connection)
            except OSError:
                pass

    def serve(self, connection):
        connection.settimeout(ONCE_SECONDS)
        asked = connection.recv(4096)
        if self.answer is None:
            return
        answer = self.answer(asked) if callable(self.answer) else self.answer
        if self.pieces:
            for at in range(len(answer)):
                connection.sendall(answer[at:at + 1])
        else:
            connection.sendall(answer)
        connection.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(ONCE_SECONDS)
        for connection in self.kept:
            connection.close()


def reply(body, code=200, length=None):
    length = len(body) if length is None else length
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (code, length, body)


METRICS = (b'guerdon_build_info{version="9"} 1\nguerdon_ready 1\nprocess_start_time_seconds 5\n'
           b'guerdon_service_up{service="events"} 0\n')


class Impostors(unittest.TestCase):
    def impostor(self, *arguments):
        found = Impostor(*arguments)
        self.addCleanup(found.close)
        return found.address

    def test_what_is_no_status_page_is_told_and_waited_for_no_longer_than_two_seconds(self):
        answers = [(b"", "hung up"), (b"rubbish", "no HTTP"), (b"\r\n\r\n", "no HTTP"),
                   (b"HTTP/1.1 abc\r\n\r\n", "no HTTP"), (reply(b""), "not guerdon"),
                   (reply(b"<html>"), "not guerdon"), (reply(METRICS, 500), "not guerdon"),
                   (reply(METRICS, length=len(METRICS) + 1), "broke off"),
                   (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100000, "larger"),
                   (reply(METRICS + b"#" * 100000), "larger"), (None, "no answer in time")]
        addresses = [self.impostor(answer) for answer, _ in answers]
        start = time.monotonic()
        found = looked(*addresses, code=1)
        self.assertLess(time.monotonic() - start, HANG_SECONDS_MAX)
        for process, (answer, reason) in zip(found, answers):
            self.assertFalse(process["reachable"], answer)
            self.assertIn(reason, process["reason"], answer)

    def test_pages_in_pieces_and_without_a_length(self):
        for address in (self.impostor(reply(METRICS), True),
                        self.impostor(b"HTTP/1.0 200 OK\r\n\r\n" + METRICS)):
            process, = looked(address)
            self.assertEqual(("9", "ready"), (process["version"], process["state"]))

    def test_what_is_asked_is_plain(self):
        asked = []

        def answer(request):
            asked.append(request)
            return reply(METRICS)
        address = self.impostor(answer)
        looked(address)
        self.assertEqual({b"GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" % (path, address.encode())
                          for path in (b"/metrics", b"/ready")}, set(asked))
        self.assertEqual(4, len(asked))

    def test_words_of_others_do_not_reach_the_terminal_as_they_are(self):
        def answer(request):
            if b"/metrics" in request:
                return reply(METRICS + b'guerdon_in_flight{actor="x\x1b[31m"} 1\n')
            events = {"state": "down", "reason": "\x1b]0;x\x07\r\n"}
            return reply(json.dumps({"services": {"events": events}}).encode(), 503)
        address = self.impostor(answer)
        text, _ = top("--once", address)
        self.assertIn("down", text)
        self.assertNotRegex(text, r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
        self.assertEqual("down", looked(address)[0]["services"][0]["state"])


class Documents(unittest.TestCase):
    """docs/top.md says what there is."""

    def test_every_key_is_explained(self):
        with open(os.path.join(harness.ROOT, "docs", "top.md"), encoding="utf-8") as file:
            text = file.read()
        sorted_by = re.search(r"(?s)what a column shows: (.*?);", top("--help")[0])[1]
        for key in re.findall(r"[a-z0-9-]+", sorted_by.replace(" or ", " ")):
            top("--once", "--sort", key, "127.0.0.1:%d" % free_port(), code=1)
        columns = set(re.findall(r"`([a-z0-9_]+)`", text))
        for key in ("unsettled", "unacked", "oldest_s", "in_flight", "queue", "concurrency", "breaker", "credit", "p50_ms", "p99_ms", "interval_ms"):
            self.assertIn(key, columns)

    def test_the_script_in_it_runs(self):
        with open(os.path.join(harness.ROOT, "docs", "top.md"), encoding="utf-8") as file:
            script = re.search(r"(?s)python3 -c '\n(.*?)'\n```", file.read())[1]
        lag = {"oldest_s": 61, "unsettled": 7}
        for found, code in (([{"process": "a", "lag": lag}], 1), ([{"process": "a", "lag": None}], 0),
                            ([{"process": "a", "lag": dict(lag, oldest_s=60)}], 0)):
            run = subprocess.run(["/usr/bin/python3", "-c", script], input=json.dumps({"processes": found}), text=True,
                                 capture_output=True, timeout=ONCE_SECONDS, check=False)
            self.assertEqual((code, "a: 7 events wait, the oldest for 61 s\n" if code else ""),
                             (run.returncode, run.stderr))


class Mistakes(unittest.TestCase):
    def test_each_is_named(self):
        for arguments, words in ((["--interval", "0"], "--interval 0"), (["--interval", "3601"], "--interval"),
                                 (["--interval", "1e3"], "--interval"), (["--interval", "-1"], "--interval"),
                                 (["--interval", "1."], "--interval"), (["--interval", ""], "--interval"),
                                 (["--interval", "0.0999"], "--interval"), (["--format", "xml"], "--format xml"),
                                 (["--sort", "beauty"], "--sort beauty"), (["host:port"], "host:port"),
                                 (["http://a:1"], "http://a:1"), ([""], "HOST:PORT"), (["--bogus"], "--bogus"),
                                 (["a:1"] * 65, "unexpected")):
            output, errors = top("--once", *arguments, code=64)
            self.assertEqual("", output)
            self.assertIn(words, errors)

    def test_a_port_in_the_environment_that_is_none(self):
        for port in ("", "0", "65536", "x", "8000 "):
            output, errors = top("--once", code=78, PORT=port)
            self.assertEqual("", output)
            self.assertIn("PORT", errors)
        top("--once", "127.0.0.1:%d" % free_port(), code=1, PORT="x")  # it is not needed


if __name__ == "__main__":
    harness.main()
