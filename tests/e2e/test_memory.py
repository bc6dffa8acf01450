"""test_memory.py - how much memory it takes, idle, full, and while a service is
down. Runs alone."""
import harness
import standin
from harness import wait_until

IDLE_KB_MAX = 16 << 10
FULL_KB_MAX = 64 << 10


@harness.one_process("bounds of one that holds all actors")
class Memory(harness.Case):
    def bounded(self, worker, kb_max, when):
        kb = worker.rss_kb()
        print("resident, %s: %.1f MB" % (when, kb / 1024))
        if not harness.sanitized():
            self.assertLess(kb, kb_max)

    def test_idle(self):
        worker = self.worker(WINDOW=10000).wait_ready()
        wait_until(lambda: self.events.waiters, 10, "it waits for events")
        self.bounded(worker, IDLE_KB_MAX, "idle")
        worker.stop()

    def test_ten_thousand_in_flight(self):
        users = ["player%05d" % n for n in range(10000)]
        self.world.players(users)
        rule = self.usermeta.misbehave(standin.hang(), method="GET")
        self.events.add_logins(users)
        worker = self.worker(WINDOW=10000, HTTP_TIMEOUT_SECONDS=60)
        wait_until(lambda: worker.in_flight() == 10000, 20, "10,000 events are in flight")
        self.bounded(worker, FULL_KB_MAX, "10,000 in flight")
        self.assertEqual(0, self.acked())
        rule.release()
        self.wait_acked(10000, 60)
        self.assert_each_once(users)
        self.bounded(worker, FULL_KB_MAX, "after 10,000 were served")
        self.assertEqual((10000, 10000, 0, 0), self.wait_rest(worker, 10000))
        worker.stop()

    def test_a_service_is_down_and_twenty_thousand_wait(self):
        users = ["player%05d" % n for n in range(20000)]
        served = users[::10]
        self.world.players(served)  # the others are strangers: one read is all they need
        worker = self.worker(WINDOW=1000).wait_ready()
        self.usermeta.stop()
        self.events.add_logins(users)
        wait_until(lambda: worker.in_flight() == 1000, 20, "the window is full")
        handed = len(self.events.polls)
        before = worker.rss_kb()

        def bounded():
            self.assertLessEqual(worker.in_flight(), 1000)
            return len(self.events.polls) - handed <= 10
        harness.holds_for(bounded, 2.5, "polling stops while the window is full")
        self.assertEqual(0, self.acked())
        self.bounded(worker, FULL_KB_MAX, "1,000 in flight, usermeta down")
        if not harness.sanitized():
            self.assertLess(worker.rss_kb() - before, 2048)
        self.usermeta.start()
        self.wait_acked(20000, 60)
        self.assertEqual((20000, 2000, 0, 18000), self.wait_rest(worker, 20000))
        self.assert_each_once(served)
        self.bounded(worker, FULL_KB_MAX, "after 20,000 were served")
        worker.stop()


if __name__ == "__main__":
    harness.main()
