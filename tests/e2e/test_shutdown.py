"""test_shutdown.py - SIGTERM, SIGINT and kill: what is taken is finished, and
the position is told."""
import signal
import time

import harness
import shapes
import standin
from harness import wait_until

USERS = ["player%d" % n for n in range(20)]


class Shutdown(harness.Case):
    # Processes end one after another, each within the bound of one.
    stages = 1 if harness.SHAPE.name == "one" else len(shapes.STAGES)

    def test_in_the_wait_for_events(self):
        self.events.poll_timeout = 60
        worker = self.worker(POLL_TIMEOUT_SECONDS=90).wait_ready()
        wait_until(lambda: self.events.waiters, 10, "it waits for events")
        self.assertLess(worker.stop(), self.stages)

    @harness.one_process("a signal is to one")
    def test_interrupt_ends_it_as_well(self):
        worker = self.worker().wait_ready()
        worker.process.send_signal(signal.SIGINT)
        self.assertEqual(0, worker.wait_exit(2))

    def test_before_it_is_ready(self):
        for service in self.world.services:
            service.stop()
        worker = self.worker()
        wait_until(lambda: worker.ready()[0] == 503, 10, "it is up and not ready")
        self.assertLess(worker.stop(), self.stages)

    def test_while_a_service_hangs_at_the_start(self):
        for service in self.world.services:
            service.misbehave(standin.hang())
        worker = self.worker(HTTP_TIMEOUT_SECONDS=60)
        wait_until(lambda: self.usermeta.requests, 10, "a probe hangs")
        self.assertLess(worker.stop(), self.stages)

    def held(self, **env):
        """A worker that holds 20 logins of which no reward is answered."""
        self.world.players(USERS)
        rule = self.currency.misbehave(standin.hang(), method="POST")
        # All of it is there: what waits for a shard that is not is left for later.
        worker = self.worker(HTTP_TIMEOUT_SECONDS=60, **env).wait_ready()
        self.events.add_logins(USERS)
        wait_until(lambda: rule.held, 10, "rewards hang")
        wait_until(lambda: worker.counters()[0] == len(USERS), 10, "all are received")
        return worker, rule

    def test_work_in_flight_is_finished_first_and_acknowledged(self):
        worker, rule = self.held(DRAIN_SECONDS=20)
        worker.terminate()
        wait_until(lambda: worker.ready()[0] == 503, 5, "not ready any more")
        self.events.add("late")
        self.world.players(["late"])
        self.assertTrue(worker.alive())
        rule.release()
        self.assertEqual(0, worker.wait_exit(10))
        self.assert_each_once(USERS)
        self.assertEqual(len(USERS), self.acked())
        self.assertEqual([], self.reads_of("late"))
        worker = self.worker()
        self.wait_rewarded(["late"])
        self.assert_each_once(USERS + ["late"])
        self.assertEqual((1, 1, 0, 0), self.wait_rest(worker, 1))

    def test_a_hung_service_is_not_waited_for_beyond_the_grace(self):
        worker, rule = self.held(DRAIN_SECONDS=1)
        took = worker.stop(5)
        self.assertGreater(took, 0.8)
        self.assertLess(took, 2 + self.stages)  # each stage may use up its grace
        self.assertEqual(0, self.acked())
        late = [line["msg"].split()[0] for line in worker.log_lines()
                if "did not finish within DRAIN_SECONDS" in line["msg"]]
        self.assertEqual(["currency-client", "decision", "ingest"], sorted(set(late)))
        rule.remove()

    @harness.one_process("a second signal is to one")
    def test_a_second_signal_stops_at_once(self):
        worker, _ = self.held(DRAIN_SECONDS=60)
        worker.terminate()
        wait_until(lambda: worker.ready()[0] == 503, 5, "not ready any more")
        start = time.monotonic()
        worker.terminate()
        code = worker.wait_exit(3)
        self.assertLess(time.monotonic() - start, 1)
        self.assertNotIn(code, (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL))
        self.assertEqual(0, self.acked())

    def test_killed_before_the_marker_nothing_is_lost(self):
        self.world.players(USERS)
        rule = self.usermeta.misbehave(standin.hang(), method="POST",
                                       when=lambda request: request.users[0] in USERS)
        self.events.add_logins(USERS)
        worker = self.worker(HTTP_TIMEOUT_SECONDS=60)
        wait_until(lambda: rule.held, 10, "markers hang")
        worker.kill()
        rule.remove()
        self.assertEqual(0, self.acked())
        worker = self.worker()
        self.wait_rewarded(USERS)
        self.wait_acked(len(USERS))
        self.assert_each_once(USERS)

    def test_stopped_and_started_under_load_everybody_gets_one(self):
        users = ["load%d" % n for n in range(1500)]
        self.world.players(users)
        self.events.add_logins(users)
        for _ in range(3):
            worker = self.worker(WINDOW=200)
            before = len(self.currency.rewards)
            wait_until(lambda: len(self.currency.rewards) > before + 100
                       or len(self.currency.rewards) == len(users), 20, "it works")
            worker.stop()
        worker = self.worker()
        self.wait_rewarded(users)
        self.wait_acked(len(users))
        self.assert_each_once(users)
        worker.stop()


if __name__ == "__main__":
    harness.main()
