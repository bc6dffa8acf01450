"""test_moves.py - what becomes of positions and journals in the hands of people: the
number of decisions is changed, also by somebody who does not wait for the end; a host
is lost with its disk; an old copy is put back; the events service is put back too.
Everybody has one reward, nobody two."""
import contextlib
import os
import shutil
import sqlite3

import harness
import shapes
import standin
from harness import wait_until

CHANNEL = "users/v1"
JOURNAL = "journal-0.db"
SHARDS = shapes.named("shards")
# Long enough for a reward to show up among the transactions, which here is at once.
FINDING = {"FIND_GRACE_MS": 100}
PATIENT = {"HTTP_TIMEOUT_SECONDS": 30}


@harness.one_process("it is started in more than one shape")
class Moves(harness.Case):
    def log_in(self, count, prefix="player"):
        users = ["%s%d" % (prefix, number) for number in range(count)]
        self.world.players(users)
        self.events.add_logins(users)
        return users

    def start(self, shape=None, folder="", **changes):
        """A worker in this shape, its data in this folder."""
        folder = os.path.join(self.state_dir, folder)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        worker = harness.start_worker(self.world, folder, ("run",), (), shape or self.shape,
                                      **{**FINDING, **changes})
        self.workers.append(worker)
        return worker

    def kill_in_the_middle(self, worker):
        """Some are rewarded, some were and nobody was told, some are not; killed."""
        worker.wait_ready()
        done = self.log_in(10, "done")
        self.wait_rewarded(done)
        self.wait_rest(worker, len(done))
        self.currency.misbehave(standin.hang(apply=True), method="POST")
        given = len(self.rewarded())
        users = done + self.log_in(60, "open")
        wait_until(lambda: len(self.rewarded()) >= given + 10, 10, "some of them have it")
        for process in worker:
            process.kill()
        self.currency.well()
        self.assertLess(len(self.rewarded()), given + 60)
        return users

    def move(self, source, target):
        """The journal with its log, as docs/deploy.md says."""
        os.makedirs(os.path.join(self.state_dir, target), mode=0o700)
        for ending in ("", "-wal"):
            os.rename(os.path.join(self.state_dir, source, JOURNAL + ending),
                      os.path.join(self.state_dir, target, JOURNAL + ending))

    def finish(self, worker, users):
        worker.wait_ready()
        self.wait_rewarded(users, 30)
        self.wait_rest(worker, 0)
        self.assert_each_once(users)
        self.events.add_logins(users)
        self.wait_acked(self.events.last(CHANNEL))
        self.assert_each_once(users)
        worker.stop()

    def test_more_decisions_without_waiting_for_the_end(self):
        users = self.kill_in_the_middle(self.start(folder="one", **PATIENT))
        self.move("one", "three/decision-0")
        self.finish(self.start(SHARDS, "three"), users)

    def test_fewer_decisions_without_waiting_for_the_end(self):
        users = self.kill_in_the_middle(self.start(SHARDS, "three", **PATIENT))
        self.move("three/decision-0", "one")
        self.finish(self.start(folder="one"), users)

    def test_a_host_is_lost_with_its_journal(self):
        users = self.kill_in_the_middle(self.start(folder="lost", **PATIENT))
        shutil.rmtree(os.path.join(self.state_dir, "lost"))
        self.finish(self.start(folder="new"), users)

    def test_an_old_copy_of_the_journal_is_put_back(self):
        path = os.path.join(self.state_dir, JOURNAL)
        users = self.log_in(30)
        worker = self.start(**PATIENT).wait_ready()
        self.wait_rest(worker, len(users))
        with contextlib.closing(sqlite3.connect(path)) as journal, \
                contextlib.closing(sqlite3.connect(path + ".copy")) as copy:
            journal.backup(copy)
        users += self.kill_in_the_middle(worker)
        for ending in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + ending)
        os.rename(path + ".copy", path)
        self.finish(self.start(), users)

    def test_the_position_at_the_service_goes_backwards(self):
        users = self.log_in(30)
        worker = self.start().wait_ready()
        self.wait_rest(worker, len(users))
        self.wait_acked(len(users))
        worker.stop()
        self.world.call(lambda: self.events.positions.update({(harness.CLIENT, CHANNEL): 5}))
        worker = self.start().wait_ready()
        self.assertEqual((25, 25, 0, 0), self.wait_rest(worker, 25))
        self.finish(worker, users)

    def test_the_events_service_begins_anew(self):
        users = self.log_in(30)
        worker = self.start().wait_ready()
        self.wait_rest(worker, len(users))
        self.wait_acked(len(users))
        worker.stop()
        self.world.call(lambda: (self.events.channels.clear(), self.events.positions.clear()))
        more = self.log_in(5, "more")
        self.assertEqual(5, self.events.last(CHANNEL))
        self.invariants = False  # positions are those of other events now
        self.finish(self.start(), users + more)

    def test_the_events_service_begins_anew_while_it_runs(self):
        users = self.log_in(30)
        worker = self.start().wait_ready()
        self.wait_rest(worker, len(users))
        self.wait_acked(len(users))
        self.events.stop()
        wait_until(lambda: worker.ready()[0] == 503, 10, "/ready says 503")
        self.world.call(lambda: (self.events.channels.clear(), self.events.positions.clear()))
        self.events.start()
        self.invariants = False  # positions are those of other events now
        more = self.log_in(5, "more")
        self.wait_rewarded(more, 20)
        self.finish(worker, users + more)


harness.main()
