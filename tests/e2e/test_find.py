"""test_find.py - rewards whose outcome nobody was told: everybody has exactly one
in the end, or it is uncertain, and nobody has two."""
import harness
import standin
from harness import wait_until

USERS = ["player%d" % n for n in range(20)]


class Found(harness.Case):
    """Every POST goes wrong at first; the books of the service are right at the
    end, and so are the counts."""

    def unheard(self, act, times=len(USERS), finds=True, **env):
        """The first POSTs end in this way. The worker, at rest."""
        self.world.players(USERS)
        rule = self.currency.misbehave(act, method="POST", times=times)
        self.events.add_logins(USERS)
        worker = self.worker(**env)
        self.assertEqual((20, 20, 0, 0), self.wait_rest(worker, len(USERS), 40))
        self.assertEqual(times, rule.hits)
        self.assert_each_once(USERS)
        self.assertEqual(finds, any(map(standin.lists, self.currency.requests)))
        self.wait_acked(len(USERS))
        worker.stop()

    def test_given_and_answered_500(self):
        self.unheard(standin.status(500, apply=True))

    def test_given_and_reset(self):
        self.unheard(standin.reset(apply=True))

    def test_given_and_no_answer(self):
        self.unheard(standin.hang(apply=True))

    def test_given_after_nobody_waited_any_more(self):
        self.unheard(standin.late(1.2), FIND_GRACE_MS=1000)

    def test_not_given_and_answered_500(self):
        self.unheard(standin.status(500))

    def test_not_given_and_reset(self):
        self.unheard(standin.reset())

    def test_lists_that_lag_behind(self):
        self.currency.stale = 0.5
        self.unheard(standin.status(500, apply=True), FIND_GRACE_MS=1000)

    def small_pages(self, oldest_first):
        """Up to nine transactions a player, three of each moment, four a page."""
        self.currency.page_max = 4
        self.currency.oldest_first = oldest_first
        for number, user in enumerate(USERS):
            self.currency.transactions += [
                {"id": "old-%d" % n, "username": user, "timestamp": 1000 + n // 3,
                 "amount": 1, "currency": "gold", "reason": "reward",
                 "data": {"rewardId": "other", "from": "rewards/v1"}}
                for n in range(number % 10)]
        self.unheard(standin.status(500))

    def test_lists_on_small_pages_newest_first(self):
        self.small_pages(False)

    def test_lists_on_small_pages_oldest_first(self):
        self.small_pages(True)

    def test_nothing_is_looked_for_when_no_connection_stood(self):
        self.world.players(USERS)
        worker = self.worker().wait_ready()
        self.currency.stop()
        self.events.add_logins(USERS)
        wait_until(lambda: worker.ready()[0] == 503, 15, "/ready says that it is gone")
        self.currency.start()
        self.assertEqual((20, 20, 0, 0), self.wait_rest(worker, len(USERS)))
        self.assert_each_once(USERS)
        self.assertFalse(any(map(standin.lists, self.currency.requests)))
        worker.stop()


class Uncertain(harness.Case):
    """Nobody can say whether it was given: it is not given again."""

    def parked(self, act, **env):
        self.world.players(USERS)
        self.currency.misbehave(act, method="POST", user="player0")
        self.events.add_logins(USERS)
        worker = self.worker(FIND_PATIENCE_SECONDS=1, **env)
        self.assertEqual((20, 19, 1, 0), self.wait_rest(worker, len(USERS), 30))
        self.assertEqual(1, len(self.posts_of("player0")))
        self.wait_acked(len(USERS))
        worker.stop()
        return [line["msg"] for line in worker.log_lines()
                if line["level"] >= 40 and "uncertain" in line["msg"]]

    def test_lists_that_are_missing(self):
        self.currency.misbehave(standin.status(404), when=standin.lists)
        said = self.parked(standin.status(500))
        self.assertTrue(any("HTTP 404" in line for line in said), said)
        self.assertEqual(0, self.rewards_of("player0"))

    def test_lists_that_are_rubbish_of_a_reward_that_was_given(self):
        self.currency.misbehave(standin.not_json(), when=standin.lists)
        said = self.parked(standin.reset(apply=True))
        self.assertTrue(any("no list" in line for line in said), said)
        self.assertEqual(1, self.rewards_of("player0"))

    def test_lists_that_are_full_and_cannot_be_paged(self):
        self.currency.before_ignored = True
        self.currency.transactions += [
            {"id": "old-%d" % n, "username": "player0", "timestamp": n, "amount": 1,
             "currency": "gold", "reason": "reward", "data": {"rewardId": "other"}}
            for n in range(1000)]
        self.parked(standin.status(500))
        self.assertEqual(0, self.rewards_of("player0"))


if __name__ == "__main__":
    harness.main()
