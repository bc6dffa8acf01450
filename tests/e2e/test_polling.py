"""test_polling.py - how often the worker asks for events, how soon it sees one,
and what it does about ids that are missing. Runs alone: it measures."""
import time

import harness
import standin
from harness import CLIENT, wait_until

POLLS_A_SECOND_MAX = 6
CPU_SHARE_MAX = 0.005
LATENCY_SECONDS_MAX = 0.3


class Pace(harness.Case):
    def window(self, seconds):
        """Lets time pass, in which polls are counted."""
        start, count = time.monotonic(), len(self.events.polls)
        wait_until(lambda: time.monotonic() - start >= seconds, seconds + 1)
        return (len(self.events.polls) - count) / (time.monotonic() - start)

    def idle_worker(self):
        worker = self.worker().wait_ready()
        wait_until(lambda: len(self.events.polls) > 3, 10, "it polls")
        self.window(1)  # the start is over
        return worker

    @harness.one_process("processor time of one that holds all actors")
    def test_empty_answers_at_once_are_paced(self):
        self.events.immediate_empty = True
        worker = self.idle_worker()
        spent = worker.cpu_seconds()
        start = time.monotonic()
        rate = self.window(4)
        share = (worker.cpu_seconds() - spent) / (time.monotonic() - start)
        print("idle: %.1f polls a second, %.2f%% of a core" % (rate, share * 100))
        self.assertGreater(rate, 0.5)
        self.assertLessEqual(rate, POLLS_A_SECOND_MAX)
        if not harness.sanitized():
            self.assertLess(share, CPU_SHARE_MAX)

    def test_a_new_event_is_seen_soon_although_polls_are_paced(self):
        self.events.immediate_empty = True
        self.idle_worker()
        slowest = 0
        for number in range(10):
            user = "player%d" % number
            added = time.monotonic()
            self.events.add(user)
            wait_until(lambda: self.reads_of(user), 5, "usermeta is asked for " + user)
            slowest = max(slowest, self.reads_of(user)[0].at - added)
        print("seen after %.0f ms at the slowest" % (slowest * 1000))
        self.assertLess(slowest, LATENCY_SECONDS_MAX)

    def test_a_long_poll_is_not_repeated_before_it_ends(self):
        self.events.poll_timeout = 30
        worker = self.worker().wait_ready()
        wait_until(lambda: self.events.waiters, 10, "a poll waits")
        self.window(0.5)
        count = len(self.events.polls)
        self.window(1.5)
        self.assertEqual(count, len(self.events.polls))
        added = time.monotonic()
        self.events.add("alice")
        wait_until(lambda: self.reads_of("alice"), 5, "the event is seen")
        self.assertLess(self.reads_of("alice")[0].at - added, LATENCY_SECONDS_MAX)
        worker.stop()

    def test_full_pages_are_not_slowed_down(self):
        users = ["u%d" % n for n in range(5000)]
        self.events.add_logins(users)  # strangers: only reads
        start = time.monotonic()
        worker = self.worker(WINDOW=200)
        self.wait_acked(5000, 30)
        rate = 5000 / (time.monotonic() - start)
        print("ignored: %.0f events a second through a window of 200" % rate)
        self.assertGreater(rate, 500)
        worker.stop()

    def test_a_poll_that_never_ends_is_given_up(self):
        rule = self.events.misbehave(standin.hang())
        self.world.players(["alice"])
        worker = self.worker(POLL_TIMEOUT_SECONDS=1)
        wait_until(lambda: rule.hits >= 2, 10, "it asks again")
        self.events.add("alice")
        rule.remove()
        self.wait_rewarded(["alice"])
        self.wait_acked(1)
        worker.stop()


class Gaps(harness.Case):
    """Ids can become visible out of order."""

    def main_acks(self):
        return [int(text) for _, client, _, text in self.events.acks if client == CLIENT]

    def test_the_acknowledgement_waits_below_a_gap_and_the_late_one_is_served(self):
        self.world.players(["one", "two", "three", "four"])
        self.events.add("one", id=1)
        worker = self.worker(GAP_GRACE_MS=20000)
        self.wait_acked(1)
        self.events.add("three", id=3)
        self.events.add("four", id=4)
        self.wait_rewarded(["three", "four"])
        harness.holds_for(lambda: self.acked() == 1, 0.5, "the position stays below the gap")
        self.events.add("two", id=2)
        self.wait_rewarded(["two"], 10)
        self.wait_acked(4)
        self.assert_each_once(["one", "two", "three", "four"])
        self.assertEqual((4, 4, 0, 0), self.wait_rest(worker, 4))
        worker.stop()

    def test_a_gap_that_stays_is_passed_after_the_grace(self):
        self.world.players(["one", "three"])
        self.events.add("one", id=1)
        worker = self.worker(GAP_GRACE_MS=600)
        self.wait_acked(1)
        added = time.monotonic()
        self.events.add("three", id=3)
        self.wait_rewarded(["three"])
        self.wait_acked(3)
        passed = [at for at, client, _, text in self.events.acks
                  if client == CLIENT and int(text) == 3][0]
        self.assertGreater(passed - added, 0.4)
        self.assertEqual((2, 2, 0, 0), self.wait_rest(worker, 2))
        worker.stop()

    def test_many_gaps_at_once(self):
        ids = [1, 3, 5, 7, 20, 21, 40]
        users = ["u%d" % number for number in ids]
        self.world.players(users)
        self.events.add_many([dict(user=user, id=number) for user, number in zip(users, ids)])
        worker = self.worker(GAP_GRACE_MS=200)
        self.wait_rewarded(users)
        self.wait_acked(40)
        self.assert_each_once(users)
        self.assertEqual(sorted(self.main_acks()), self.main_acks(), "the position never goes back")
        worker.stop()

    def test_a_history_that_begins_late_is_no_gap_worth_waiting_for_long(self):
        self.world.players(["alice"])
        self.events.add("alice", id=123456)
        self.worker(GAP_GRACE_MS=300)
        self.wait_acked(123456, 10)
        self.assert_each_once(["alice"])


if __name__ == "__main__":
    harness.main()
