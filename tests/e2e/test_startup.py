"""test_startup.py - configuration, secrets and services that are not there yet."""
import json
import os
import subprocess
import time

import harness
import standin
from harness import CANARY, CLIENT, PROGRAM, wait_until

EXIT_FAILED, EXIT_USAGE, EXIT_CONFIG = 1, 64, 78


class Configuration(harness.Case):
    def refused(self, arguments=("run",), **env):
        """What it says when it refuses this configuration."""
        worker = self.worker(arguments, **env)
        self.assertEqual(EXIT_CONFIG, worker.wait_exit(5), worker.output())
        self.assertEqual([], self.world.requests)
        return worker.output()

    def test_every_problem_at_once(self):
        text = self.refused(
            API_SECRET=None, APP_1_NAME="", APP_2_NAME=None,
            REWARD_APP_1_USER_LOGIN_APP_2_ID="a:b", REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT="010",
            REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY="", EVENTS_CLIENT_ID="", EVENTS_CHANNEL="",
            EVENTS_PREFIX="/events?x", APP_1_USERMETA_PREFIX="no-slash",
            APP_1_VIRTUALCURRENCY_PREFIX="/v#f", PORT="eighty", LOG_LEVEL="LOUD", WINDOW="0",
            DRAIN_SECONDS="-1", STATSD_HOST="127.0.0.1", STATSD_PORT="70000", STATSD_PREFIX="",
            EVENTS_PORT_8000_TCP_PROTOCOL="tcp", EVENTS_PORT_8000_TCP_PORT="0")
        for name in ("API_SECRET", "APP_1_NAME", "APP_2_NAME", "REWARD_APP_1_USER_LOGIN_APP_2_ID",
                     "REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT",
                     "REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY", "EVENTS_CLIENT_ID",
                     "EVENTS_CHANNEL", "EVENTS_PREFIX", "APP_1_USERMETA_PREFIX",
                     "APP_1_VIRTUALCURRENCY_PREFIX", r"\bPORT", "LOG_LEVEL", "WINDOW",
                     "DRAIN_SECONDS", "STATSD_PORT", "STATSD_PREFIX",
                     "EVENTS_PORT_8000_TCP_PROTOCOL", "EVENTS_PORT_8000_TCP_PORT"):
            self.assertRegex(text, r"(?m)(^|[^A-Z_0-9])%s\b" % name)
        self.assertRegex(text, "APP_2_NAME is missing")
        self.assertRegex(text, "APP_1_NAME is empty")

    def test_amounts_that_are_not_canonical(self):
        for amount in ("010", "+10", "10.0", " 10", "10 ", "1e3", "0x10", "ten", "-0",
                       "9007199254740993", "99999999999999999999"):
            with self.subTest(amount):
                self.assertIn("REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT",
                              self.refused(REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT=amount))

    def test_reward_ids_that_usermeta_cannot_store(self):
        for name in ("a:b", "a,b", "a/b", "a b", " a", "a ", "", "é", "a$b", "x" * 201):
            with self.subTest(name):
                self.assertIn("REWARD_APP_1_USER_LOGIN_APP_2_ID",
                              self.refused(REWARD_APP_1_USER_LOGIN_APP_2_ID=name))

    def test_secret_both_ways_or_from_nowhere(self):
        path = os.path.join(self.state_dir, "secret")
        self.assertIn("API_SECRET_FILE", self.refused(API_SECRET=None, API_SECRET_FILE=path))
        with open(path, "w", encoding="ascii") as file:
            file.write("\n")
        self.assertIn("API_SECRET_FILE", self.refused(API_SECRET=None, API_SECRET_FILE=path))
        self.assertIn("API_SECRET", self.refused(API_SECRET_FILE=path))

    def test_a_bad_env_file_is_named_with_its_line(self):
        path = os.path.join(self.state_dir, "x.env")
        with open(path, "w", encoding="ascii") as file:
            file.write("A=1\nthis is no assignment\n")
        self.assertRegex(self.refused(("run", "--env-file", path)), r"x\.env:2")
        self.assertIn("nowhere.env", self.refused(("run", "--env-file",
                                                   self.state_dir + "/nowhere.env")))

    def test_empty_links_host_and_level_mean_their_defaults(self):
        worker = self.worker(HOST="", LOG_LEVEL="", EVENTS_PORT_8000_TCP_PROTOCOL="",
                             APP_1_USERMETA_PORT_8000_TCP_PROTOCOL="")
        worker.wait_ready()
        worker.stop()

    def test_check_says_the_same_without_running(self):
        worker = self.worker(("check",))
        self.assertEqual(0, worker.wait_exit(5), worker.output())
        self.assertRegex(worker.output(), r"APP_2_NAME\s*=\s*game-2")
        worker = self.worker(("check",), APP_2_NAME="")
        self.assertEqual(EXIT_CONFIG, worker.wait_exit(5))
        self.assertIn("APP_2_NAME is empty", worker.output())
        self.assertEqual([], self.world.requests)

    def test_check_online_asks_every_service(self):
        self.events.immediate_empty = True
        worker = self.worker(("check", "--online"))
        self.assertEqual(0, worker.wait_exit(10), worker.output())
        for service in self.world.services:
            self.assertTrue(service.requests, service.name)
        self.assertEqual([], self.events.acks)
        self.usermeta.secret = "another"
        worker = self.worker(("check", "--online"))
        self.assertEqual(EXIT_CONFIG, worker.wait_exit(10), worker.output())
        self.usermeta.secret = self.secret
        self.currency.stop()
        worker = self.worker(("check", "--online"))
        self.assertEqual(EXIT_FAILED, worker.wait_exit(10), worker.output())
        self.assertIn("virtualcurrency", worker.output())


    def test_check_online_takes_a_poll_that_is_held_for_an_answer(self):
        self.events.poll_timeout = 30
        for seconds in (1, 5):
            worker = self.worker(("check", "--online"), HTTP_TIMEOUT_SECONDS=seconds)
            self.assertEqual(0, worker.wait_exit(10), worker.output())
        self.assertEqual([], self.events.acks)


@harness.one_process("commands that only talk")
class CommandLine(harness.Case):
    def said(self, *arguments):
        found = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=10,
                               env={"PATH": "/usr/bin:/bin", "HOME": self.state_dir},
                               stdin=subprocess.DEVNULL, check=False)
        return found.returncode, found.stdout, found.stderr

    def test_help_and_version(self):
        code, out, _ = self.said("--help")
        self.assertEqual(0, code)
        for command in ("run", "check", "emit"):
            self.assertIn(command, out)
            code, text, _ = self.said(command, "--help")
            self.assertEqual(0, code)
            self.assertIn(command, text)
            code, text, _ = self.said(command, "--version")
            self.assertEqual(0, code)
            self.assertRegex(text, r"\d+\.\d+\.\d+")
        code, out, _ = self.said("--version")
        self.assertEqual(0, code)
        self.assertRegex(out, r"\A\S*guerdon\S* \d+\.\d+\.\d+")

    def test_wrong_use(self):
        for arguments in (("juggle",), ("run", "--nonsense"), ("run", "surplus"),
                          ("run", "--env-file"), ("emit",), ("emit", "LOGIN"),
                          ("emit", "LOGIN", "--user", ""), ("check", "--offline"), ()):
            with self.subTest(arguments):
                code, _, err = self.said(*arguments)
                self.assertEqual(EXIT_USAGE, code)
                self.assertTrue(err)


class Services(harness.Case):
    def nothing_taken(self, user):
        self.assertEqual([], self.reads_of(user))
        self.assertEqual([], self.marker_writes(user))
        self.assertEqual([], self.posts_of(user))
        self.assertEqual(0, self.acked())
        self.assertEqual([], [ack for ack in self.events.acks if int(ack[3]) > 0])

    def state(self, worker, service):
        """What /ready says of a service; "" when nobody answers."""
        text = worker.ready()[1]
        return json.loads(text)["services"].get(service.name, {}).get("state") if text else ""

    def rejected_by(self, service):
        self.world.players(["alice"])
        self.events.add("alice")
        service.secret = "another"
        worker = self.worker()
        self.assertEqual(EXIT_CONFIG, worker.wait_exit(10), worker.output())
        text = worker.output()
        self.assertIn(service.name, text)
        self.assertIn("API_SECRET", text)
        self.nothing_taken("alice")

    def test_secret_rejected_by_events(self):
        self.rejected_by(self.events)

    def test_secret_rejected_by_usermeta(self):
        self.rejected_by(self.usermeta)

    def test_secret_rejected_by_virtualcurrency(self):
        self.rejected_by(self.currency)

    def test_services_that_are_down_are_named_and_waited_for(self):
        self.world.players(["alice"])
        self.events.add("alice")
        for service in self.world.services:
            service.stop()
        worker = self.worker()
        for service in self.world.services:
            wait_until(lambda: self.state(worker, service) == "down", 10,
                       "/ready names %s while the others are down, too" % service.name)
        for service in (self.usermeta, self.currency, self.events):
            wait_until(lambda: self.state(worker, service) == "down", 10,
                       "/ready says that %s is down" % service.name)
            self.assertEqual((503, 200), (worker.ready()[0], worker.get("/health")[0]))
            service.start()
            wait_until(lambda: self.state(worker, service) == "up", 15,
                       "/ready says that %s is up" % service.name)
        self.wait_rewarded(["alice"])
        self.wait_acked(1)
        worker.wait_ready()
        self.assert_each_once(["alice"])

    def test_never_ready_before_the_services_answered(self):
        for service in self.world.services:
            service.stop()
        for _ in range(10):
            worker = self.worker()
            code, text = wait_until(lambda: (lambda found: found[0] and found)(worker.ready()), 5,
                                    "/ready answers")
            self.assertEqual(503, code, text)
            wait_until(lambda: self.state(worker, self.usermeta) == "down", 5, "usermeta is down")
            worker.kill()

    def test_a_service_with_errors_at_start_is_waited_for(self):
        self.world.players(["alice"])
        self.events.add("alice")
        for service in self.world.services:
            service.misbehave(standin.status(503), times=2)
        worker = self.worker().wait_ready(20)
        self.wait_rewarded(["alice"])
        self.assert_each_once(["alice"])
        worker.stop()

    def test_a_service_lost_later_is_named_and_recovers(self):
        worker = self.worker().wait_ready()
        self.events.stop()
        wait_until(lambda: (lambda code, text: code == 503 and "events" in text)(*worker.ready()),
                   10, "/ready names events")
        self.events.start()
        worker.wait_ready(15)
        worker.stop()

    @harness.one_process("two of them at one port")
    def test_a_second_instance_on_the_same_port(self):
        first = self.worker().wait_ready()
        polls = len(self.events.polls)
        port = str(first.port)
        second = self.worker(PORT=port, EVENTS_CLIENT_ID="second")
        self.assertEqual(EXIT_FAILED, second.wait_exit(5), second.output())
        self.assertRegex(second.output(), r"(?i)%s.*(in use)|(in use).*%s" % (port, port))
        self.assertEqual([], [request for request in self.events.polls[polls:]
                              if request.params()["clientId"] != CLIENT
                              and "second" in request.params()["clientId"]])
        self.assertEqual(200, first.ready()[0])
        first.stop()

    def test_start_to_ready(self):
        times = []
        for _ in range(3):
            worker = self.worker()
            wait_until(lambda: worker.ready()[0] == 200, 10, "/ready answers 200")
            times.append(time.monotonic() - worker.started)
            worker.stop()
        print("start to ready: %s ms" % ", ".join("%.0f" % (span * 1000) for span in times))
        self.assertLess(min(times), 2)


class Secrets(harness.Case):
    def test_the_secret_is_nowhere_to_be_seen(self):
        users = ["alice", "bob", "a:b", CANARY.replace("k", "K")]
        self.world.players(users)
        for service in self.world.services:
            service.misbehave(standin.status(500), times=2)
            service.misbehave(standin.reset(), times=2)
            service.misbehave(standin.not_json(apply=True), times=2)
        self.events.add_logins(users)
        worker = self.worker(LOG_LEVEL="TRACE")
        self.wait_rewarded(["alice", "bob"], 30)
        self.wait_acked(4)
        for process in worker:
            with open("/proc/%d/cmdline" % process.pid, "rb") as file:
                self.assertNotIn(CANARY.encode(), file.read())
            for path in ("/metrics", "/ready", "/about", "/health", "/nowhere"):
                self.assertNotIn(CANARY.encode(), process.get(path)[2])
        for service in self.world.services:
            service.stop()
        wait_until(lambda: worker.ready()[0] == 503, 10, "services are missed")
        self.assertNotIn(CANARY, worker.ready()[1])
        worker.stop()
        self.assertGreater(len(worker.log_lines()), 10)
        for directory, _, names in os.walk(self.state_dir):
            for name in names:
                if not os.path.isfile(os.path.join(directory, name)):
                    continue  # the tap's socket
                with open(os.path.join(directory, name), "rb") as file:
                    self.assertNotIn(CANARY.encode(), file.read(), name)

    def test_the_secret_is_masked_in_check_and_in_problems(self):
        for env in ({}, {"APP_2_NAME": ""}, {"API_SECRET": CANARY + "\x01"}):
            worker = self.worker(("check",), **env)
            worker.wait_exit(5)
            self.assertNotIn(CANARY, worker.output())
            self.assertTrue(worker.output())


if __name__ == "__main__":
    harness.main()
