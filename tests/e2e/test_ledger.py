"""test_ledger.py - guerdon dlq and guerdon ledger, asked of a running worker and of
a stopped one: what was given, what waits for a person, and what a person does
about it. In the shape with three decisions each has a journal of its own."""
import json
import os
import re
import signal
import sqlite3
import subprocess
import time

import harness
import shapes
import standin
from harness import wait_until

SECONDS = 60
FINDING = {"FIND_GRACE_MS": "200", "FIND_PATIENCE_SECONDS": "1"}
FIELDS = {"id", "state", "changed_ms", "begun_ms", "user", "amount", "currency", "reward", "tries",
          "reason", "who", "event", "event_ms", "trace"}
INSERT = "INSERT INTO grants VALUES (?, ?, ?, ?, ?, 'promo1', 10, 'gold', ?, ?, ?, 1, ?, '')"
GIVEN, REFUSED, UNCERTAIN = 2, 3, 4


def is_listing(request):
    return request.method == "GET" and b"/transactions" in request.path


class Asking(harness.Case):
    retried = False

    def deciders(self, worker):
        """The programs that have a journal."""
        return worker.of(shapes.DECISION) if hasattr(worker, "of") else [worker]

    def ask(self, worker, *arguments, code=0):
        """What a command prints of all the journals, one after another, and what it
        says on stderr. `code` is that of each, or of any when it is not 0."""
        self.retried = self.retried or "retry" in arguments
        printed, said, codes = "", "", []
        for decider in self.deciders(worker):
            env = {"PATH": "/usr/bin:/bin", "STATE_DIR": decider.env["STATE_DIR"], "USER": "ann"}
            ran = subprocess.run([harness.PROGRAM, *arguments], env=env, capture_output=True, text=True,
                                 timeout=SECONDS, stdin=subprocess.DEVNULL, check=False)
            printed, said = printed + ran.stdout, said + ran.stderr
            codes.append(ran.returncode)
        if not (code in codes if code else set(codes) == {0}):
            raise AssertionError("guerdon %s: %r instead of %d\n%s%s" % (
                " ".join(arguments), codes, code, printed, said))
        return printed, said

    def listed(self, worker, *arguments):
        """The grants that a command shows, by player."""
        printed, _ = self.ask(worker, *arguments, "--format", "json")
        found = [json.loads(line) for line in printed.splitlines()]
        for grant in found:
            self.assertEqual(FIELDS, set(grant))
        return {grant["user"]: grant for grant in found}

    def parked(self, worker):
        return self.listed(worker, "dlq", "ls")

    def wait_state(self, worker, user, state):
        return wait_until(lambda: next((grant for grant in [self.listed(worker, "ledger").get(user)]
                                        if grant and grant["state"] == state), None),
                          SECONDS, "%s's reward is %s" % (user, state))

    def order(self, worker, action, *grants, code=0):
        """Each decision is told of its own grants."""
        printed, said = "", ""
        for decider in self.deciders(worker):
            own = [grant["id"] for grant in grants if self.is_of(decider, grant)]
            if own:
                out, err = self.ask(decider, "dlq", action, *own, code=code)
                printed, said = printed + out, said + err
        return printed, said

    def is_of(self, decider, grant):
        return os.path.exists(os.path.join(decider.env["STATE_DIR"],
                                           "journal-%s.db" % grant["id"].split("-")[0]))

    def end(self, worker):
        worker.stop()
        return worker


class Ledger(Asking):
    def check_acks(self):
        """What a person has tried again is given after its event was acknowledged,
        which was settled as a failure."""
        if not self.retried:
            super().check_acks()

    # -- what was given

    def test_what_was_given_and_why(self):
        users = ["player%d" % n for n in range(12)]
        self.world.players(users)
        worker = self.worker().wait_ready()
        self.events.add_logins(users)
        self.wait_rest(worker, len(users))
        for when in ("running", "stopped"):
            found = self.listed(worker, "ledger")
            self.assertEqual(set(users), set(found), when)
            for number, user in enumerate(users, 1):
                grant = found[user]
                self.assertEqual(("given", 10, "gold", "promo1", 1, number, "", ""), tuple(grant[name] for name in (
                    "state", "amount", "currency", "reward", "tries", "event", "reason", "who")), when)
                self.assertLessEqual(grant["begun_ms"], grant["changed_ms"])
                self.assertLessEqual(grant["event_ms"], grant["begun_ms"])
                self.assertRegex(grant["trace"], "^[0-9a-f]{16}$")
            self.assertEqual(["player7"], list(self.listed(worker, "ledger", "--user", "player7")))
            self.assertEqual({}, self.listed(worker, "ledger", "--user", "nobody"))
            self.assertEqual({}, self.parked(worker))
            printed, _ = self.ask(worker, "ledger", "--user", "player7")
            self.assertRegex(printed, r"^[0-2]-\d+ +given +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  user=player7 "
                             r"amount=10 currency=gold reward=promo1 tries=1 event=8 event_time=\S+Z "
                             r"trace=%s begun=\S+Z\n$" % found["player7"]["trace"])
            if worker.alive():
                self.end(worker)

    # -- what was refused

    def refuse(self, *users):
        for user in users:
            self.currency.misbehave(standin.status(400, b'{"code":"InvalidContent"}'), user=user,
                                    method="POST")

    def refused(self, *users, **changes):
        """A worker whose rewards for these were refused; each is listed."""
        self.world.players(users)
        self.refuse(*users)
        worker = self.worker(**FINDING, **changes).wait_ready()
        self.events.add_logins(users)
        self.assertEqual((len(users), 0, len(users), 0), self.wait_rest(worker, len(users)))
        found = self.parked(worker)
        self.assertEqual(set(users), set(found))
        for grant in found.values():
            self.assertEqual(("refused", 1, ""), (grant["state"], grant["tries"], grant["who"]))
            self.assertIn("400", grant["reason"])
        return worker, found

    def test_a_refused_reward_is_tried_again(self):
        worker, found = self.refused("alice", "bob")
        printed, _ = self.order(worker, "show", found["bob"])
        for line in (r"id +\d-\d+", "state +refused", "user +bob", "amount +10", "currency +gold", "reason +.*400",
                     "who +-", "event +2"):
            self.assertRegex(printed, "(?m)^%s" % line)
        # As long as the service refuses, it is parked again.
        printed, _ = self.order(worker, "retry", found["alice"])
        self.assertEqual("%s is tried again\n" % found["alice"]["id"], printed)
        again = wait_until(lambda: next((grant for user, grant in self.parked(worker).items()
                                         if user == "alice" and grant["tries"] == 2), None),
                           SECONDS, "alice's is parked again")
        self.assertEqual(("refused", "ann"), (again["state"], again["who"]))
        self.currency.well()
        self.order(worker, "retry", found["alice"])
        grant = self.wait_state(worker, "alice", "given")
        self.assertEqual((3, "ann", found["alice"]["id"]), (grant["tries"], grant["who"], grant["id"]))
        self.assertEqual({"alice": 1}, self.rewarded())
        self.assertEqual({"bob"}, set(self.parked(worker)))
        _, said = self.order(worker, "retry", found["alice"], code=1)
        self.assertIn("%s: it was given" % found["alice"]["id"], said)
        self.end(worker)

    def test_while_nobody_runs_it_is_tried_again_at_the_next_start(self):
        worker, found = self.refused("alice", "bob")
        self.end(worker)
        self.currency.well()
        self.assertEqual(found, self.parked(worker))
        printed, _ = self.order(worker, "retry", found["alice"])
        self.assertEqual("%s is tried again at the next start of decision %s\n"
                         % (found["alice"]["id"], found["alice"]["id"].split("-")[0]), printed)
        _, said = self.order(worker, "retry", found["alice"], code=1)
        self.assertIn("it is being tried already", said)
        self.assertEqual("intended", self.listed(worker, "ledger")["alice"]["state"])
        worker = self.worker(**FINDING).wait_ready()
        grant = self.wait_state(worker, "alice", "given")
        self.assertEqual((2, "ann"), (grant["tries"], grant["who"]))
        self.assertEqual({"alice": 1}, self.rewarded())
        self.assertEqual({"bob"}, set(self.parked(worker)))
        self.end(worker)

    def test_all_of_them(self):
        users = ["player%d" % n for n in range(100)]
        worker, _ = self.refused(*users, WINDOW="20")
        self.currency.well()
        printed, _ = self.ask(worker, "dlq", "retry", "--all")
        self.assertEqual(len(users), len(printed.splitlines()))
        wait_until(lambda: len(self.rewarded()) == len(users), SECONDS, "all are rewarded")
        wait_until(lambda: not self.parked(worker), SECONDS, "nothing is parked")
        self.assert_each_once(users)
        self.end(worker)

    # -- what is given up

    def test_who_dropped_it_and_when(self):
        worker, found = self.refused("alice", "bob")
        for user in ("alice", "bob"):
            printed, _ = self.order(worker, "drop", found[user])
            self.assertEqual("%s is dropped\n" % found[user]["id"], printed)
            grant = self.listed(worker, "ledger")[user]
            self.assertEqual(("dropped", "ann", 1), (grant["state"], grant["who"], grant["tries"]))
            self.assertGreaterEqual(grant["changed_ms"], found[user]["changed_ms"])
            self.assertIn("400", grant["reason"], "why it was refused is still to be seen")
            for action in ("drop", "retry"):
                _, said = self.order(worker, action, found[user], code=1)
                self.assertIn("it was dropped", said)
            if worker.alive():
                self.end(worker)
        self.assertEqual({}, self.parked(worker))
        self.currency.well()
        worker = self.worker(**FINDING).wait_ready()
        self.events.add_logins(["alice"])
        self.wait_rest(worker, 1)
        self.assertEqual({}, self.rewarded())
        self.end(worker)

    # -- what is uncertain

    def uncertain(self, user, apply):
        """A worker that cannot know whether the reward was given."""
        self.world.players([user])
        self.currency.misbehave(standin.status(404), when=is_listing)
        self.currency.misbehave(standin.reset(apply=apply), user=user, method="POST")
        worker = self.worker(**FINDING).wait_ready()
        self.events.add_logins([user])
        self.assertEqual((1, 0, 1, 0), self.wait_rest(worker, 1, SECONDS))
        grant = self.parked(worker)[user]
        self.assertEqual("uncertain", grant["state"])
        self.assertNotEqual("", grant["reason"])
        self.currency.well()
        return worker, grant

    def test_what_was_given_after_all_is_found(self):
        worker, grant = self.uncertain("alice", apply=True)
        self.order(worker, "retry", grant)
        self.wait_state(worker, "alice", "given")
        self.assertEqual({"alice": 1}, self.rewarded())
        self.assertEqual(1, len(self.posts_of("alice")), "it was not even asked for again")
        self.end(worker)

    def test_what_was_not_given_is_given(self):
        worker, grant = self.uncertain("alice", apply=False)
        self.end(worker)
        self.order(worker, "retry", grant)
        worker = self.worker(**FINDING).wait_ready()
        self.wait_state(worker, "alice", "given")
        self.assertEqual({"alice": 1}, self.rewarded())
        self.end(worker)


@harness.one_process("the file of a journal is written by hand")
class ByHand(Asking):
    """Journals with records that no test could bring about in time."""

    def stopped(self, rows=()):
        """A worker that has ended, and these rows in its journal."""
        worker = self.end(self.worker().wait_ready())
        self.insert(worker, rows)
        return worker

    def path(self, worker, shard=0):
        return os.path.join(worker.env["STATE_DIR"], "journal-%d.db" % shard)

    def insert(self, worker, rows, shard=0):
        with sqlite3.connect(self.path(worker, shard)) as journal:
            journal.executemany(INSERT, rows)
        journal.close()

    def row(self, number, user, state=GIVEN, reason=""):
        now = int(time.time() * 1000)  # what is old is pruned
        return (number, number, now, number, user, state, now, now, reason)

    def test_bytes_that_are_no_text(self):
        users = ["a\nb", "\x1b[31mred", "é" * 4000, 'say "no" \\', "\u202egnp"]
        worker = self.stopped([self.row(n, user, REFUSED, "\x07\n" + user[:100]) for n, user in enumerate(users, 1)])
        for attempt in ("stopped", "running"):
            for command in (("dlq", "ls"), ("ledger",)):
                self.assertEqual(users, list(self.listed(worker, *command)), attempt)
                printed, _ = self.ask(worker, *command)
                self.assertEqual(len(users), len(printed.splitlines()))
                self.assertNotRegex(printed, "[\x00-\x09\x0b-\x1f\x7f]")
            printed, _ = self.ask(worker, "dlq", "show", "0-2")
            self.assertNotIn("\x1b", printed)
            self.assertIn(r"user        \x1b[31mred", printed)
            worker = self.worker().wait_ready() if attempt == "stopped" else self.end(worker)

    def peak_kb(self, worker, count):
        """Reads the whole ledger, `count` records in their order; the memory that the
        command has taken shortly before its end."""
        process = subprocess.Popen([harness.PROGRAM, "ledger", "--format", "json"], stdout=subprocess.PIPE, text=True,
                                   env={"PATH": "/usr/bin:/bin", "STATE_DIR": worker.env["STATE_DIR"]})
        for number, line in enumerate(process.stdout, 1):
            self.assertTrue(line.startswith('{"id":"0-%d",' % number), line)
            if number == count * 9 // 10:
                with open("/proc/%d/status" % process.pid, encoding="utf-8") as file:
                    peak = int(re.search(r"VmHWM:\s+(\d+)", file.read())[1])
        process.stdout.close()
        self.assertEqual((0, count), (process.wait(SECONDS), number))
        return peak

    def test_a_long_ledger_takes_little_memory(self):
        count = 100000
        worker = self.stopped(self.row(n, "player%d" % (n % 1000)) for n in range(1, count + 1))
        for attempt in ("stopped", "running"):
            peak = self.peak_kb(worker, count)
            print("%d records, %s: %d kB" % (count, attempt, peak))
            if not harness.sanitized():
                self.assertLess(peak, 20000)
            printed, _ = self.ask(worker, "ledger", "--user", "player7")
            self.assertEqual(count // 1000, len(printed.splitlines()))
            if attempt == "stopped":
                worker = self.worker().wait_ready()
        self.end(worker)

    def test_the_journal_of_a_decision_that_is_no_more(self):
        worker = self.stopped([self.row(1, "alice", REFUSED), self.row(2, "bob", REFUSED),
                               self.row(3, "carol", REFUSED)])
        os.rename(self.path(worker), self.path(worker, 5))
        worker = self.worker().wait_ready()
        self.assertEqual("5-1", self.parked(worker)["alice"]["id"])
        printed, said = self.ask(worker, "dlq", "retry", "5-2", "5-3")
        self.assertEqual(["5-%d is tried again at the next start of decision 5" % n for n in (2, 3)],
                         printed.splitlines())
        self.assertRegex(said, "no process has journal-5.db, .*nobody takes up .*with the list of before")
        self.assertEqual(1, len(said.splitlines()), "once a journal")
        for shard in (0, 5):  # one is asked of the decision, the other in the file
            _, said = self.ask(worker, "dlq", "show", "%d-9" % shard, code=1)
            self.assertEqual("guerdon dlq: %d-9: no such record\n" % shard, said)
        printed, said = self.ask(worker, "dlq", "drop", "5-1", "0-1", "7-1", code=1)
        self.assertEqual("5-1 is dropped\n", printed)
        self.assertRegex(said, r"0-1: no such record\n.*7-1: no such record: no journal-7\.db is in ")
        self.end(worker)

    def test_a_decision_that_hangs_is_named(self):
        self.invariants = False
        worker = self.worker().wait_ready()
        worker.process.send_signal(signal.SIGSTOP)
        try:
            _, said = self.ask(worker, "ledger", code=1)
        finally:
            worker.process.send_signal(signal.SIGCONT)
        self.assertRegex(said, r"process %d has the lock .*journal-0\.lock, and does not answer at .*journal-0\.sock"
                         % worker.pid)
        self.ask(worker, "ledger")
        self.end(worker)

    def test_what_a_killed_worker_left(self):
        worker = self.stopped([self.row(1, "alice", UNCERTAIN, "why")])
        worker = self.worker().wait_ready()
        worker.kill()
        self.assertTrue(os.path.exists(os.path.join(worker.env["STATE_DIR"], "journal-0.sock")))
        self.assertEqual({"alice"}, set(self.parked(worker)))
        self.ask(worker, "dlq", "drop", "--all", "--who", "bob")
        self.assertEqual("bob", self.listed(worker, "ledger")["alice"]["who"])

    def test_a_damaged_journal_does_not_hide_the_others(self):
        worker = self.stopped([self.row(1, "alice", REFUSED)])
        with open(self.path(worker, 3), "wb") as file:
            file.write(b"rubbish " * 1000)
        printed, said = self.ask(worker, "dlq", "ls", code=1)
        self.assertIn("user=alice", printed)
        self.assertIn("journal-3.db", said)
        printed, said = self.ask(worker, "dlq", "retry", "--all", code=1)
        self.assertEqual("0-1 is tried again at the next start of decision 0\n", printed)
        with open(self.path(worker, 3), "rb") as file:
            self.assertEqual(b"rubbish " * 1000, file.read())

    def test_without_room_it_can_be_read_and_nothing_is_ordered(self):
        worker = self.stopped([self.row(1, "alice", REFUSED)])
        env = {"PATH": "/usr/bin:/bin", "STATE_DIR": worker.env["STATE_DIR"]}

        def full(*arguments):
            return subprocess.run(["prlimit", "--fsize=0:unlimited", harness.PROGRAM, *arguments], env=env,
                                  capture_output=True, text=True, timeout=SECONDS, check=False)
        for command in (("dlq", "ls"), ("ledger",)):
            ran = full(*command)
            self.assertEqual((0, ""), (ran.returncode, ran.stderr))
            self.assertIn("user=alice", ran.stdout)
        ran = full("dlq", "drop", "0-1")
        self.assertEqual((1, ""), (ran.returncode, ran.stdout))
        self.assertRegex(ran.stderr, "0-1: .*File too large")
        self.assertNotIn("damaged", ran.stderr)
        self.assertEqual("refused", self.listed(worker, "ledger")["alice"]["state"])

    def test_who_stops_reading(self):
        worker = self.stopped(self.row(n, "player%d" % n) for n in range(1, 20001))
        script = '"$0" ledger | head -n 1'
        env = {"PATH": "/usr/bin:/bin", "STATE_DIR": worker.env["STATE_DIR"]}
        ran = subprocess.run(["bash", "-o", "pipefail", "-c", script, harness.PROGRAM], env=env, capture_output=True,
                             text=True, timeout=SECONDS, check=False)
        self.assertEqual((1, 1), (ran.returncode, len(ran.stdout.splitlines())))
        self.assertIn("Broken pipe", ran.stderr)


class Usage(harness.Case):
    def run_command(self, *arguments, **env):
        return subprocess.run([harness.PROGRAM, *arguments], env={"PATH": "/usr/bin:/bin", **env}, capture_output=True,
                              text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, check=False)

    def test_mistakes_are_named(self):
        for arguments, expected in (
                (("dlq",), "expected ls, show, retry or drop"), (("dlq", "list"), "list: expected ls"),
                (("dlq", "ls", "0-1"), "ls takes no ID"), (("dlq", "show"), "show needs an ID"),
                (("dlq", "show", "--all"), "show takes no --all"), (("dlq", "retry"), "either IDs or --all"),
                (("dlq", "drop", "0-1", "--all"), "either IDs or --all"), (("dlq", "show", "17"), "such as 0-17"),
                (("dlq", "show", "0-0"), "such as 0-17"), (("dlq", "show", "65536-1"), "such as 0-17"),
                (("dlq", "show", "0-9223372036854775808"), "such as 0-17"),
                (("dlq", "ls", "--format", "xml"), "expected text or json"), (("dlq", "drop", "0-1", "--who", ""), "--who"),
                (("ledger", "--format", "xml"), "expected text or json"), (("ledger", "--user", ""), "--user"),
                (("ledger", "alice"), "unexpected argument")):
            ran = self.run_command(*arguments, STATE_DIR=self.state_dir)
            self.assertEqual((64, ""), (ran.returncode, ran.stdout), arguments)
            self.assertIn(expected.lower(), ran.stderr.lower())

    def test_where_no_journal_is(self):
        missing = os.path.join(self.state_dir, "missing")
        settings = os.path.join(self.state_dir, "settings.env")
        with open(settings, "w", encoding="utf-8") as file:
            file.write("STATE_DIR=%s\n" % missing)
        for command in (("dlq", "ls"), ("ledger",)):
            ran = self.run_command(*command, STATE_DIR=self.state_dir)
            self.assertEqual(1, ran.returncode)
            self.assertIn("no journal is here", ran.stderr)
            ran = self.run_command(*command, "--env-file", settings)
            self.assertEqual(1, ran.returncode)
            self.assertIn(missing, ran.stderr)
            ran = self.run_command(*command, "--env-file", missing)
            self.assertEqual(78, ran.returncode)
            self.assertIn(missing, ran.stderr)


if __name__ == "__main__":
    harness.main()
