"""test_journal.py - what the journal is for, seen from outside: rewards are given once
through kill -9, a disk that fills stops everything and loses nothing, and a file that
cannot be believed is refused as it is."""
import os
import resource
import shutil
import signal
import sqlite3

import harness
import standin
from harness import wait_until

EXIT_FAILED = 1
INTENDED, GIVEN, REFUSED, UNCERTAIN, DROPPED = 1, 2, 3, 4, 5
UNLIMITED = resource.RLIM_INFINITY
# A file of this size holds some hundreds of grants, so that a disk fills on the way.
GROWN = 64 * 1024


@harness.one_process("the file of one journal")
class Journal(harness.Case):
    def path(self, ending=".db", shard=0):
        return os.path.join(self.state_dir, "journal-%d%s" % (shard, ending))

    def rows(self, sql="SELECT user, state FROM grants ORDER BY id"):
        """What is in the journal, also while it is in use."""
        journal = sqlite3.connect("file:%s?mode=ro" % self.path(), uri=True)
        try:
            return journal.execute(sql).fetchall()
        finally:
            journal.close()

    def log_in(self, count, prefix="player"):
        users = ["%s%d" % (prefix, number) for number in range(count)]
        self.world.players(users)
        self.events.add_logins(users)
        return users

    def assert_given(self, users):
        """Each once, and the journal says the same."""
        self.assert_each_once(users)
        wait_until(lambda: not self.rows("SELECT 1 FROM grants WHERE state = %d" % INTENDED), 10,
                   "every grant has an end")
        self.assertEqual([(user, GIVEN) for user in sorted(users)], sorted(self.rows()))


class Restarts(Journal):
    def test_what_was_given_stays_given_after_kill(self):
        users = self.log_in(50)
        worker = self.worker().wait_ready()
        self.wait_rewarded(users)
        self.wait_rest(worker, len(users))
        worker.kill()
        worker = self.worker().wait_ready(2)
        more = self.log_in(5, "later")
        self.wait_rewarded(more)
        self.wait_rest(worker, len(more))
        self.assert_given(users + more)
        self.wait_acked(len(users + more))
        worker.stop()

    def test_killed_again_and_again_while_rewards_are_given(self):
        users = self.log_in(600)
        for step in range(1, 6):
            worker = self.worker(FIND_GRACE_MS=100)
            wait_until(lambda: len(self.currency.rewards) >= min(step * 100, 600), 30, "some are given")
            worker.kill()
        worker = self.worker(FIND_GRACE_MS=100).wait_ready()
        self.wait_rewarded(users, 60)
        self.wait_rest(worker, 0)
        self.assert_each_once(users)
        worker.stop()
        self.assertEqual([], self.rows("SELECT id FROM grants WHERE state <> %d" % GIVEN))

    def test_an_open_grant_without_an_event_is_finished_by_the_next_process(self):
        """As a dead letter that is tried again: no event brings it back."""
        self.world.players(["alice"])
        rule = self.currency.misbehave(standin.hang(), method="POST")
        self.events.add_logins(["alice"])
        worker = self.worker(HTTP_TIMEOUT_SECONDS=60).wait_ready()
        wait_until(lambda: rule.held, 10, "the reward hangs")
        self.assertEqual([("alice", INTENDED)], self.rows())
        worker.kill()
        rule.remove()
        self.events.positions[(harness.CLIENT, "users/v1")] = 1
        worker = self.worker(FIND_GRACE_MS=100).wait_ready()
        wait_until(lambda: self.rows() == [("alice", GIVEN)], 20, "it is finished")
        self.assert_each_once(["alice"])
        worker.stop()


class Disks(Journal):
    def limit(self, worker, size):
        """No file of the process may grow beyond this."""
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, UNLIMITED))

    def test_a_full_disk_stops_everything_and_loses_nothing(self):
        worker = self.worker().wait_ready()
        few = self.log_in(20)
        self.wait_rewarded(few)
        self.wait_rest(worker, len(few))
        self.limit(worker, 4096)
        many = self.log_in(2000, "many")
        found = wait_until(lambda: worker.ready() if worker.ready()[0] == 503 else None, 30, "/ready says 503")
        self.assertIn('"journal":{"state":"failing","reason":"', found[1])
        self.assertEqual(1, worker.metrics()["guerdon_journal_failing"])
        harness.holds_for(lambda: worker.ready()[0] == 503 and worker.alive(), 0.5, "it waits for room")
        self.assert_each_once(few)
        self.limit(worker, UNLIMITED)
        wait_until(lambda: worker.ready()[0] == 200, 10, "/ready says 200")
        self.assertEqual(0, worker.metrics()["guerdon_journal_failing"])
        self.wait_rewarded(many, 60)
        self.wait_rest(worker, len(few + many), 60)
        self.assert_given(few + many)
        self.wait_acked(len(few + many))
        worker.stop()

    def test_killed_while_the_disk_is_full(self):
        worker = self.worker().wait_ready()
        self.limit(worker, GROWN)
        users = self.log_in(2000)
        wait_until(lambda: worker.ready()[0] == 503, 30, "/ready says 503")
        worker.kill()
        worker = self.worker(FIND_GRACE_MS=100).wait_ready()
        self.wait_rewarded(users, 60)
        self.wait_rest(worker, 0, 60)
        self.assert_each_once(users)
        worker.stop()

    def test_ended_while_the_disk_is_full(self):
        worker = self.worker(DRAIN_SECONDS=1).wait_ready()
        self.limit(worker, GROWN)
        users = self.log_in(2000)
        wait_until(lambda: worker.ready()[0] == 503, 30, "/ready says 503")
        worker.stop(5)
        self.assertLess(self.acked(), len(users))
        worker = self.worker(FIND_GRACE_MS=100).wait_ready()
        self.wait_rewarded(users, 60)
        self.wait_rest(worker, 0, 60)
        self.assert_each_once(users)
        worker.stop()

    def test_a_start_on_a_full_disk_waits_for_room(self):
        """With and without a journal; nothing is taken before."""
        for number in range(2):
            worker = self.worker(wrap=("prlimit", "--fsize=8192:unlimited"))
            users = self.log_in(5, "start%d" % number)
            found = wait_until(lambda: worker.ready() if "journal" in worker.ready()[1] else None, 10,
                               "/ready names the journal")
            self.assertEqual(503, found[0])
            self.assertIn('"journal":{"state":"failing","reason":"cannot open', found[1])
            self.assertIn("File too large", found[1])
            harness.holds_for(lambda: worker.ready()[0] == 503 and worker.alive(), 0.3, "it waits for room")
            self.assertNotIn("damaged", worker.output())
            self.assertEqual(0, sum(self.rewards_of(user) for user in users))
            self.limit(worker, UNLIMITED)
            wait_until(lambda: worker.ready()[0] == 200, 10, "/ready says 200")
            self.wait_rewarded(users)
            self.wait_rest(worker, len(users))
            worker.stop()

    def test_a_journal_that_is_moved_away_is_waited_for(self):
        worker = self.worker().wait_ready()
        users = self.log_in(3)
        self.wait_rewarded(users)
        self.wait_rest(worker, len(users))
        os.rename(self.path(), self.path(".aside"))
        more = self.log_in(3, "more")
        found = wait_until(lambda: worker.ready() if worker.ready()[0] == 503 else None, 10, "/ready says 503")
        self.assertIn("removed or replaced", found[1])
        self.assertFalse(os.path.exists(self.path()))
        self.assertEqual(len(users), len(self.currency.rewards))
        os.rename(self.path(".aside"), self.path())
        self.wait_rewarded(more)
        self.wait_rest(worker, len(users + more))
        self.assert_given(users + more)
        worker.stop()


class Refusals(Journal):
    def used(self):
        """A journal with something in it, closed."""
        users = self.log_in(10)
        worker = self.worker().wait_ready()
        self.wait_rewarded(users)
        self.wait_rest(worker, len(users))
        worker.stop()
        with open(self.path(), "rb") as file:
            return file.read()

    def refused(self, content, word):
        """Ends with 1 and says what is wrong and what to do; not a byte is changed."""
        with open(self.path(), "wb") as file:
            file.write(content)
        asked = len(self.world.requests)
        worker = self.worker()
        self.assertEqual(EXIT_FAILED, worker.wait_exit(10), worker.output())
        said = worker.stderr().decode()
        for part in (self.path(), word, "left as it is", "move it"):
            self.assertIn(part, said)
        with open(self.path(), "rb") as file:
            self.assertEqual(content, file.read())
        self.assertEqual(asked, len(self.world.requests))

    def test_a_file_that_cannot_be_believed_is_refused_as_it_is(self):
        good = self.used()
        self.refused(b"", "is no journal")
        self.refused(b"something else entirely\n" * 1000, "is no journal")
        self.refused(good[:len(good) - 4096], "its end is missing")
        for page in range(1, len(good) // 4096):
            self.refused(good[:page * 4096] + bytes(4096) + good[page * 4096 + 4096:], "is damaged")
        self.refused(good[:60] + b"\0\0\1\0" + good[64:], "newer")

    def test_moved_away_a_new_one_is_begun_and_nobody_is_rewarded_twice(self):
        good = self.used()
        self.refused(good[:4096] + bytes(4096) + good[8192:], "is damaged")
        shutil.move(self.path(), self.path(".old"))
        for ending in (".db-wal", ".db-shm"):
            if os.path.exists(self.path(ending)):
                os.unlink(self.path(ending))
        worker = self.worker(FIND_GRACE_MS=100).wait_ready()
        users = sorted(self.currency.rewards)
        self.events.add_logins(users)
        self.wait_rest(worker, len(users))
        self.assert_each_once(users)
        worker.stop()

    def test_a_second_process_is_told_who_has_it(self):
        first = self.worker().wait_ready()
        second = self.worker()
        self.assertEqual(EXIT_FAILED, second.wait_exit(10))
        said = second.stderr().decode()
        self.assertIn("process %d has the lock" % first.pid, said)
        self.assertIn("STATE_DIR", said)
        users = self.log_in(3)
        self.wait_rewarded(users)
        first.stop()

    def test_a_journal_that_no_decision_takes_up_is_named(self):
        self.used()
        journal = sqlite3.connect(self.path())
        journal.execute("UPDATE grants SET state = %d WHERE id = (SELECT max (id) FROM grants)" % REFUSED)
        journal.commit()
        journal.close()
        shutil.copy(self.path(), self.path(shard=7))
        worker = self.worker().wait_ready()
        warnings = [line["msg"] for line in worker.log_lines() if "journal-7.db" in line["msg"]]
        self.assertEqual(1, len(warnings))
        self.assertIn("0 open and 1 parked", warnings[0])
        worker.stop()

    def test_a_role_without_a_decision_has_none(self):
        worker = self.worker(("run", "--role", "stats"), STATS_ENDPOINT="ipc://%s/s" % self.state_dir)
        worker.wait_ready()
        self.assertFalse(os.path.exists(self.path()))
        self.assertNotIn("guerdon_journal_failing", worker.metrics())
        worker.process.send_signal(signal.SIGTERM)
        self.assertEqual(0, worker.wait_exit(5))


if __name__ == "__main__":
    harness.main()
