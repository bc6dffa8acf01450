"""test_tap.py - guerdon tap, from outside: what it shows, what it leaves out,
what it says of what it lost, and who may look."""
import datetime
import json
import os
import re
import signal
import stat
import subprocess
import tempfile
import time

import msgpack
import zmq

import harness
import shapes
from harness import PROGRAM, ROOT, free_port, wait_until

EXIT_FAILED, EXIT_USAGE, EXIT_CONFIG = 1, 64, 78
ID_GIVE = 10
LINE = re.compile(r"^\d\d:\d\d:\d\d\.\d{6}  (?:[0-9a-f]{16}|-{1} {15})  \S+ +[-=]> \S+ +[a-z_]+", re.M)


class Tap:
    """A running guerdon tap, or another program that looks."""

    def __init__(self, arguments, environment, command=(PROGRAM, "tap")):
        self.directory = tempfile.TemporaryDirectory(prefix="guerdon-tap.")
        self.paths = [os.path.join(self.directory.name, name) for name in ("stdout", "stderr")]
        with open(self.paths[0], "wb") as out, open(self.paths[1], "wb") as err:
            self.process = subprocess.Popen([*command, *arguments], env=environment, stdout=out, stderr=err,
                                            stdin=subprocess.DEVNULL, preexec_fn=harness.die_with_parent)

    def read(self, index):
        with open(self.paths[index], encoding="utf-8") as file:
            return file.read()

    def text(self):
        return self.read(0)

    def said(self):
        return self.read(1)

    def lines(self):
        """Whole lines only: the last may be under way."""
        return self.text().split("\n")[:-1]

    def values(self):
        return [json.loads(line) for line in self.lines()]

    def wait(self, words, count=1):
        wait_until(lambda: self.text().count(words) >= count, 40, "the tap shows: " + words)

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.directory.cleanup()


class TapCase(harness.Case):
    shape = shapes.named("one")

    def tap(self, *arguments, command=(PROGRAM, "tap"), **changes):
        environment = {"PATH": "/usr/bin:/bin", "HOME": self.state_dir, "STATE_DIR": self.state_dir, **changes}
        found = Tap(arguments, environment, command)
        self.addCleanup(found.close)
        return found

    def endpoint(self):
        return "ipc://" + os.path.join(self.state_dir, "tap.sock")

    def login(self, *users):
        self.world.players(users)
        self.events.add_logins(users)
        self.wait_rewarded(users)

    def until_shown(self, taps):
        """Log-ins, one after the other, until every tap has shown some: from then
        on it sees everything."""
        for number, tap in enumerate(taps):
            count = 0
            while tap.process.poll() is None and not tap.lines():
                count += 1
                self.login("warm%d-%d" % (number, count))


class Looking(TapCase):
    def test_one_event_from_the_page_to_the_reward_reads_top_to_bottom(self):
        tap = self.tap("--format", "json")
        worker = self.worker().wait_ready()
        self.until_shown([tap])
        self.login(*("player%d" % number for number in range(50)))

        def all_settled():
            values = tap.values()
            settled = {v["trace"] for v in values if v["type"] == "settled"}
            return sum(v["trace"] in settled for v in values
                       if v["type"] == "event" and v["data"]["userId"].startswith("player")) == 50
        wait_until(all_settled, 40, "50 events are settled on the tap")
        values = tap.values()
        self.assertEqual([v["time"] for v in values], sorted(v["time"] for v in values))
        events = [v for v in values if v["type"] == "event" and v["data"]["userId"].startswith("player")]
        self.assertEqual(50, len(events))
        for event in events:
            self.assertEqual("LOGIN", event["event_type"])
            types = [v["type"] for v in values if v["trace"] == event["trace"]]
            # One read may be for many players; it has the trace of the first.
            self.assertEqual(["write_meta", "http_request", "http_answer", "meta_written", "give",
                              "http_request", "http_answer", "given", "settled"], types[-9:])
            self.assertEqual(["event", "read_meta", "meta"],
                             [name for name in types[:-9] if not name.startswith("http")])
            for name in ("time", "process", "from", "to", "type", "trace"):
                self.assertTrue(event[name], name)
        worker.stop()
        self.assertEqual(0, tap.interrupt())
        self.assertRegex(tap.said(), r"guerdon tap: \d+ shown, 0 lost\n$")

    def test_text_is_for_people(self):
        tap = self.tap()
        worker = self.worker().wait_ready()
        self.until_shown([tap])
        self.login("zoë")
        tap.wait("settled", 2)
        for line in tap.lines():
            self.assertRegex(line, LINE)
        self.assertNotIn("\033", tap.text())
        self.assertIn("user=", tap.text())
        worker.stop()

    def test_filters(self):
        wanted = [self.tap("--format", "json", *options) for options in (
            ("--user", "alice"), ("--type", "give"), ("--actor", "decision"),
            ("--actor", "decision", "--type", "give", "--user", "alice"))]
        everything = self.tap("--format", "json")
        worker = self.worker().wait_ready()
        self.until_shown([everything])
        self.world.players(["alice"])

        def all_show():
            """After one more reward for alice."""
            self.usermeta.store.pop("alice:" + harness.MARKER, None)
            self.wait_acked(self.events.add_logins(["alice"])[0])
            return all(tap.lines() for tap in wanted)
        wait_until(all_show, 40, "every tap shows alice")
        self.login("alice2", "bob")
        everything.wait('"user":"bob"', 3)
        wanted[1].wait('"user":"bob"')
        users, gives, decisions, one = (tap.values() for tap in wanted)
        traces = {v["trace"] for v in users if v["type"] == "event"}
        self.assertEqual({"alice"}, {v["user"] if "user" in v else v["data"]["userId"] for v in users
                                     if "user" in v or v["type"] == "event"})
        self.assertEqual(traces, {v["trace"] for v in users})
        # What names no player is shown by its trace.
        self.assertLessEqual({"meta", "given", "settled", "http_answer"}, {v["type"] for v in users})
        self.assertEqual({"give"}, {v["type"] for v in gives})
        self.assertTrue(all("decision/0" in (v["from"], v["to"]) for v in decisions))
        self.assertLessEqual({"event", "read_meta", "meta", "give", "given", "settled"},
                             {v["type"] for v in decisions})
        self.assertEqual({("give", "alice")}, {(v["type"], v["user"]) for v in one})
        worker.stop()

    def test_so_many_one_in_so_many_and_so_long(self):
        worker = self.worker().wait_ready()
        count = self.tap("--count", "3", "--format", "json")
        brief = self.tap("--for", "1")
        self.until_shown([count])
        self.assertEqual(0, count.process.wait(10))
        self.assertEqual(3, len(count.lines()))
        self.assertEqual(0, brief.process.wait(10))
        worker.stop()

    def test_a_sample_is_of_whole_traces(self):
        worker = self.worker().wait_ready()
        everything, *samples = (self.tap("--format", "json", *options) for options in
                                ((), ("--sample", "3"), ("--sample", "3")))
        self.until_shown([everything, *samples])
        self.login(*("player%d" % number for number in range(100)))
        self.wait_acked(self.events.last())

        def by_trace(tap):
            found = {}
            for line in tap.lines():
                found.setdefault(json.loads(line)["trace"], []).append(line)
            return found

        def whole():
            """What is shown of each of the 100, once all of it is."""
            found = {trace: lines for trace, lines in by_trace(everything).items()
                     if any('"userId":"player' in line for line in lines)}
            settled = [lines for lines in found.values() if '"type":"settled"' in lines[-1]]
            return found if len(settled) == 100 else None
        traces = wait_until(whole, 40, "all are settled")
        # One in three of each: that none or all of 100 are chosen would be one in 10^17.
        for tap in samples:
            wait_until(lambda: 0 < len(traces.keys() & by_trace(tap)) < 100 and all(
                by_trace(tap).get(trace, lines) == lines for trace, lines in traces.items()), 40,
                "whole traces are shown, or nothing of them")
        chosen = [traces.keys() & by_trace(tap) for tap in samples]
        self.assertEqual(chosen[0], chosen[1])
        worker.stop()

    def test_an_answer_is_readable_alone(self):
        worker = self.worker().wait_ready()
        text = self.tap("--type", "http_answer")
        answers = self.tap("--format", "json", "--type", "http_answer")
        self.until_shown([text, answers])
        self.login("alice")
        answers.wait('"method":"GET","path":"/alice/')
        read = [v for v in answers.values() if "alice" in v["path"]][0]
        self.assertEqual(("usermeta", 200), (read["from"], read["status"]))
        self.assertIn("elapsed_ms", read)
        wait_until(lambda: re.search(r"http_answer .*status=200.* method=POST path=/rewards$", text.text(), re.M),
                   40, "the text has it too")
        worker.stop()

    def test_it_comes_before_the_process_and_outlives_it(self):
        tap = self.tap("--format", "json", "--type", "give")
        processes = set()
        for turn in range(3):
            worker = self.worker().wait_ready()
            path = os.path.join(self.state_dir, "tap.sock")
            self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))
            number = 0
            while {v["process"] for v in tap.values()} == processes:
                number += 1
                self.login("player%d-%d" % (turn, number))
            processes = {v["process"] for v in tap.values()}
            if turn == 1:
                worker.kill()  # leaves its socket file
            else:
                worker.stop()
        self.assertEqual(3, len(processes))
        self.assertEqual(0, tap.interrupt())
        self.assertIn(" 0 lost", tap.said())

    def test_recorded_and_shown_again(self):
        path = os.path.join(self.state_dir, "recording")
        worker = self.worker().wait_ready()
        live = self.tap("--format", "json")
        recording = self.tap("--record", path)
        self.until_shown([live])
        size = os.path.getsize
        number = 0
        while not os.path.exists(path) or size(path) < 4096:
            number += 1
            self.login("early%d" % number)
        self.login("alice", "bob")
        live.wait('"user":"bob"', 3)
        worker.stop()
        self.assertEqual(0, recording.interrupt())
        self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))
        again = self.tap("--replay", path, "--format", "json")
        self.assertEqual(0, again.process.wait(10))
        self.assertGreater(len(again.lines()), 20)
        # What came behind the last of bob's may have ended with the process for one of
        # the two that looked.
        named = {line for line in again.lines() if '"user":"alice"' in line or '"user":"bob"' in line}
        self.assertEqual(6, len([line for line in named if '"direction":"sent"' in line]))
        wait_until(lambda: named <= set(live.lines()), 40, "live shows what was recorded")
        live.interrupt()
        alice = self.tap("--replay", path, "--format", "json", "--type", "give", "--user", "alice")
        self.assertEqual(0, alice.process.wait(10))
        self.assertEqual(1, len(alice.lines()))
        with open(path, "r+b") as file:
            file.truncate(size(path) - 1)
        torn = self.tap("--replay", path)
        self.assertEqual(EXIT_FAILED, torn.process.wait(10))
        self.assertIn("ends early", torn.said())

    def test_wrong_usage(self):
        for arguments in (("--actor", "nobody"), ("--type", "nothing"), ("--format", "xml"), ("--count", "0"),
                          ("--for", "x"), ("--sample", "-1"), ("--record", "a", "--replay", "b")):
            tap = self.tap(*arguments)
            self.assertEqual(EXIT_USAGE, tap.process.wait(10), arguments)
            self.assertIn(arguments[0], tap.said())
        tap = self.tap("nonsense")
        self.assertEqual(EXIT_FAILED, tap.process.wait(10))
        self.assertIn("nonsense", tap.said())

    def test_the_example_of_ten_lines(self):
        example = self.tap(self.endpoint(), "decision give", command=("/usr/bin/python3", "-B", os.path.join(
            ROOT, "docs", "tap.py")))
        worker = self.worker().wait_ready()
        self.until_shown([example])
        self.login("alice")
        example.wait(" decision/0 sent currency-client/0 decision give alice [[")
        worker.stop()


class Posing(TapCase):
    """Processes that say what the test says."""

    def pose(self, name="tap.sock"):
        """One that nobody looks at yet, and where it is."""
        context = zmq.Context()
        self.addCleanup(context.destroy, 0)
        publisher = context.socket(zmq.XPUB)
        endpoint = "ipc://" + os.path.join(self.state_dir, name)
        self.addCleanup(publisher.close, 0)
        publisher.bind(endpoint)
        return publisher, endpoint

    def wait_subscribed(self, publisher):
        self.assertTrue(publisher.poll(10000), "the tap subscribes")
        publisher.recv()
        while publisher.poll(200):
            publisher.recv()

    def say(self, publisher, time_us, sequence, lost=0, source="decision/0", process="host:1", request=0):
        give = [1, ID_GIVE, 7, [[7, request or sequence, "alice", 40, "gold", "promo1", 1]]]
        publisher.send_multipart([b"decision give alice", msgpack.packb(
            [1, time_us, process, "sent", source, "currency-client/0", sequence, lost, give])])


class Ordered(Posing):
    """Several endpoints: what each says is put in the order of time."""

    def shown(self, tap):
        return [v["request"] for v in tap.values()]

    def begin(self, *options):
        (first, one), (second, two) = self.pose("one.sock"), self.pose("two.sock")
        tap = self.tap("--format", "json", *options, one, two)
        self.wait_subscribed(first)
        self.wait_subscribed(second)
        return first, second, tap

    def test_by_time(self):
        first, second, tap = self.begin()
        for number in range(1, 251):
            self.say(second, 2 * number + 1, number, source="decision/1", process="host:2", request=2 * number + 1)
            self.say(first, 2 * number, number, request=2 * number)
        wait_until(lambda: len(tap.lines()) == 500, 40, "all is shown")
        self.assertEqual(list(range(2, 502)), self.shown(tap))
        self.assertEqual(0, tap.interrupt())
        self.assertRegex(tap.said(), r"500 shown, 0 lost\n$")

    def age_of_the_last(self, ending, *options):
        """How old the last value that was shown is when the tap ends, in ms."""
        first, second, tap = self.begin(*options)
        number = 0
        while tap.process.poll() is None:
            number += 1
            self.say((first, second)[number % 2], time.time_ns() // 1000, number)
            if ending and len(tap.lines()) > 4:
                tap.process.send_signal(ending)
                ending = None
            first.poll(1)  # until nothing comes: a moment
        ended = time.time_ns() // 1000
        self.assertEqual(0, tap.process.returncode)
        self.assertEqual(sorted(self.shown(tap)), self.shown(tap))
        first.close(0)
        second.close(0)
        said = datetime.datetime.fromisoformat(tap.values()[-1]["time"].replace("Z", "+00:00"))
        return (ended - said.timestamp() * 1e6) / 1000

    def test_what_is_held_is_shown_at_the_end(self):
        # Without that it is never younger than the time that values are held. A
        # busy machine may make it look older, so not every try must be good.
        wait_until(lambda: self.age_of_the_last(signal.SIGINT) < 90, 40, "Ctrl-C shows what is held")
        wait_until(lambda: self.age_of_the_last(None, "--for", "1") < 90, 40, "--for shows what is held")

    def test_too_late_is_told(self):
        first, second, tap = self.begin()
        self.say(first, 2000, 1)
        wait_until(lambda: len(tap.lines()) == 1, 40, "it is shown after a while")
        self.say(second, 1000, 2, source="decision/1", process="host:2")
        wait_until(lambda: len(tap.lines()) == 2, 40, "and what came too late")
        self.assertEqual(0, tap.interrupt())
        self.assertIn("2 shown, 0 lost, 1 came too late", tap.said())

    def test_no_more_than_were_asked_for(self):
        first, second, tap = self.begin("--count", "2")
        for number in (3, 2, 1):
            self.say(first if number % 2 else second, number, number)
        self.assertEqual(0, tap.process.wait(10))
        self.assertEqual([1, 2], self.shown(tap))


class Hostile(Posing):
    """A terminal is shown nothing that it would obey."""

    def test_control_bytes_in_every_text(self):
        publisher, endpoint = self.pose()
        texts = self.tap(endpoint), self.tap("--format", "json", endpoint)
        evil = "\x1b]0;owned\x07\x1b[2J\r\n\x00\x7f\x9b31m"

        def value(sequence):
            give = [1, ID_GIVE, 7, [[7, 1, evil, 40, evil, evil, 1]]]
            publisher.send_multipart([b"decision give x", msgpack.packb(
                [1, 1, evil, "sent", "decision/0" + evil, evil, sequence, 0, give])])
        number = 0
        while not all(tap.lines() for tap in texts):
            number += 1
            value(number)
            publisher.poll(10)
        for tap in texts:
            self.assertEqual(0, tap.interrupt())
            for line in tap.lines():
                self.assertFalse([c for c in line if ord(c) < 32], line)
        for line in texts[0].lines():
            self.assertFalse([c for c in line if 127 <= ord(c) < 160], line)
            self.assertEqual(5, line.count("\\x1b]0;owned"), line)


class Lost(Posing):
    """Told by a process that loses, which is easier to have in Python."""

    def publish(self, sequences_and_lost, *options):
        publisher, _ = self.pose()
        tap = self.tap("--format", "json", *options)
        self.wait_subscribed(publisher)
        for sequence, lost in sequences_and_lost:
            self.say(publisher, sequence, sequence, lost)
        wait_until(lambda: len(tap.lines()) == len(sequences_and_lost), 40, "all is shown: " + tap.text())
        self.assertEqual(0, tap.interrupt())
        publisher.close(0)
        return tap.said()

    def test_nothing(self):
        self.assertIn("2 shown, 0 lost", self.publish([(7, 3), (8, 3)]))

    def test_on_the_way(self):
        self.assertIn("3 shown, 4 lost", self.publish([(7, 0), (8, 0), (13, 0)]))

    def test_at_the_actor(self):
        self.assertIn("3 shown, 5 lost", self.publish([(7, 1), (8, 1), (9, 6)]))

    def test_what_others_get_is_not_lost(self):
        self.assertIn("2 shown, 0 lost", self.publish([(7, 0), (13, 0)], "--user", "alice"))


class Keys(TapCase):
    def setUp(self):
        super().setUp()
        self.keys = shapes.certificates(PROGRAM)
        self.address = "tcp://127.0.0.1:%d" % free_port()

    def part(self, *names):
        """A folder with some of the certificates."""
        folder = tempfile.mkdtemp(prefix="part.", dir=self.state_dir)
        for name in names:
            with open(os.path.join(self.keys, name), "rb") as source:
                path = os.path.join(folder, name)
                with open(path, "wb") as target:
                    target.write(source.read())
                os.chmod(path, 0o600)
        return folder

    def refused(self, worker):
        return sum(value for name, value in worker.metrics().items() if name.startswith("guerdon_refused_total"))

    def test_the_key_of_taps_and_no_other(self):
        worker = self.worker(CURVE_DIR=self.keys, TAP_ENDPOINT=self.address).wait_ready()
        good = self.tap(self.address, CURVE_DIR=self.part("tap.cert_secret", "mirror.cert"))
        self.until_shown([good])
        plain = self.tap(self.address)
        with open(os.path.join(self.keys, "decision.cert_secret"), encoding="ascii") as file:
            stolen = file.read()
        folder = self.part("mirror.cert")
        path = os.path.join(folder, "tap.cert_secret")
        with open(path, "w", encoding="ascii") as file:
            file.write(stolen.replace('role = "decision"', 'role = "tap"'))
        os.chmod(path, 0o600)
        other = self.tap(self.address, CURVE_DIR=folder)
        wait_until(lambda: self.refused(worker) >= 2, 40, "both are refused")
        before = len(good.lines())
        self.login("alice")
        good.wait("alice", 3)
        self.assertGreater(len(good.lines()), before)
        self.assertEqual("", plain.text())
        if other.process.poll() is None:
            other.interrupt()
        self.assertEqual("", other.text())
        worker.stop()

    def test_without_its_key(self):
        tap = self.tap(self.address, CURVE_DIR=self.part("mirror.cert"))
        self.assertEqual(EXIT_FAILED, tap.process.wait(10))
        self.assertIn("tap.cert_secret", tap.said())

    def test_beyond_loopback_only_with_keys(self):
        worker = self.worker(TAP_ENDPOINT="tcp://0.0.0.0:%d" % free_port())
        self.assertEqual(EXIT_CONFIG, worker.wait_exit())
        self.assertIn("TAP_ENDPOINT", worker.output())


class Several(TapCase):
    shape = shapes.named("ipc")

    def test_all_processes_at_once(self):
        endpoints = ["ipc://" + os.path.join(self.state_dir, place.name, "tap.sock")
                     for place in shapes.places(self.shape)]
        tap = self.tap("--format", "json", *endpoints)
        worker = self.worker().wait_ready()

        def processes():
            return {v["process"] for v in tap.values()}
        self.until_shown([tap])
        number = 0
        while len(processes()) < 4:  # stats only listens
            number += 1
            self.login("warm-up%d" % number)
        self.login("alice")
        names = {"event", "read_meta", "meta", "write_meta", "meta_written", "give", "given", "settled"}
        wait_until(lambda: names <= {v["type"] for v in self.of_user(tap, "alice")}, 40, "all is shown")
        types = [v["type"] for v in self.of_user(tap, "alice")]
        for name in names:
            self.assertEqual(1, types.count(name), "%s in %r" % (name, types))
        worker.stop()

    def of_user(self, tap, user):
        values = tap.values()
        traces = [v["trace"] for v in values if v["type"] == "event" and v["data"].get("userId") == user]
        return [v for v in values if traces and v["trace"] == traces[0]]


if __name__ == "__main__":
    harness.main()
