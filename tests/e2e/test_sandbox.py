"""test_sandbox.py - the newcomer's way: everything in one process, with embedded
services, and events sent by hand."""
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import unittest

import harness
from harness import PROGRAM, wait_until


@harness.one_process("the sandbox runs all actors")
class Sandbox(unittest.TestCase):
    def setUp(self):
        self.state_dir = tempfile.mkdtemp(prefix="guerdon-state.")
        self.addCleanup(shutil.rmtree, self.state_dir, True)
        self.workers = []
        self.addCleanup(lambda: [worker.discard() for worker in self.workers])
        self.env = {"PATH": "/usr/bin:/bin", "HOME": self.state_dir, "STATE_DIR": self.state_dir}

    def start(self, **env):
        env = dict(self.env, PORT=str(harness.free_port()), SANDBOX_PORT="0", LOG_LEVEL="DEBUG",
                   LOG_FORMAT="json", **env)
        worker = harness.Worker(env, ("run", "--sandbox"), self.state_dir)
        self.workers.append(worker)
        try:
            worker.wait_ready()
        except AssertionError as error:
            raise AssertionError("%s\n%s" % (error, worker.tail())) from None
        return worker

    def variables(self):
        """What the sandbox wrote for others to find it."""
        with open(os.path.join(self.state_dir, "sandbox.env"), encoding="utf-8") as file:
            return dict(word.split("=", 1) for word in shlex.split(file.read(), comments=True))

    def emit(self, *arguments):
        found = subprocess.run([PROGRAM, "emit", *arguments], capture_output=True, text=True,
                               env=self.env, timeout=10, stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(0, found.returncode, found.stdout + found.stderr)
        return found.stdout

    def coins(self, user):
        names = self.variables()
        code, _, content = harness.http_get(
            int(names["APP_1_VIRTUALCURRENCY_PORT_8000_TCP_PORT"]),
            "/virtualcurrency/v1/auth/%s.%s/coins/gold/count" % (names["API_SECRET"], user))
        self.assertEqual(200, code)
        found = {item["currency"]: item["count"] for item in json.loads(content)}
        return found.get("gold", 0)

    def rest(self, worker, wanted):
        try:
            wait_until(lambda: worker.counters() == wanted, 10)
        except AssertionError:
            self.assertEqual(wanted, worker.counters(), worker.tail())

    def test_first_login_brings_gold_the_second_nothing_and_it_says_why(self):
        worker = self.start()
        self.assertEqual(0, self.coins("alice"))
        self.assertIn("alice", self.emit("LOGIN", "--user", "alice", "--from", "game-1"))
        self.assertIn("game-2", self.emit("LOGIN", "--user", "alice"))
        self.rest(worker, (2, 1, 0, 1))
        self.assertEqual(10, self.coins("alice"))
        self.emit("LOGIN", "--user", "alice")
        self.rest(worker, (3, 1, 0, 2))
        self.assertEqual(10, self.coins("alice"))
        wait_until(lambda: [line for line in worker.log_lines() if line.get("event") == 3
                            and "already" in line["msg"].lower()], 5,
                   "a log line says that she is already rewarded\n" + worker.tail())
        self.emit("LOGIN", "--user", "stranger")
        self.rest(worker, (4, 1, 0, 3))
        self.assertEqual(0, self.coins("stranger"))
        worker.stop()

    def test_data_outlives_the_process(self):
        worker = self.start()
        self.emit("LOGIN", "--user", "alice", "--from", "game-1")
        self.emit("LOGIN", "--user", "alice")
        self.rest(worker, (2, 1, 0, 1))
        worker.stop()
        worker = self.start()
        self.assertEqual(10, self.coins("alice"))
        self.emit("LOGIN", "--user", "alice")
        self.rest(worker, (1, 0, 0, 1))
        self.assertEqual(10, self.coins("alice"))
        worker.stop()

    def test_odd_players(self):
        worker = self.start()
        users = ["a/b é", "..", "a,b", " x ", "100%", "?#&+"]
        for user in users:
            self.emit("LOGIN", "--user", user, "--from", "game-1")
            self.emit("LOGIN", "--user", user)
        self.rest(worker, (12, 6, 0, 6))
        for user in users:
            self.assertEqual(10, self.coins(harness.quoted(user)), user)
        worker.stop()

    def test_emit_without_a_sandbox_says_what_to_do(self):
        found = subprocess.run([PROGRAM, "emit", "LOGIN", "--user", "x"], capture_output=True,
                               text=True, env=self.env, timeout=10, check=False)
        self.assertEqual(78, found.returncode)
        self.assertIn("guerdon run --sandbox", found.stderr)

    def test_emit_to_nobody_names_the_address(self):
        port = harness.free_port()
        env = dict(self.env, API_SECRET="s", APP_2_NAME="game-2", EVENTS_CHANNEL="users/v1",
                   EVENTS_PORT_8000_TCP_ADDR="127.0.0.1", EVENTS_PORT_8000_TCP_PORT=str(port))
        found = subprocess.run([PROGRAM, "emit", "LOGIN", "--user", "x"], capture_output=True,
                               text=True, env=env, timeout=10, check=False)
        self.assertEqual(1, found.returncode)
        self.assertIn("127.0.0.1:%d" % port, found.stderr)

    def test_stops_at_once_when_idle(self):
        worker = self.start()
        self.assertLess(worker.stop(), 1)


if __name__ == "__main__":
    harness.main()
