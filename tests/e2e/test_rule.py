"""test_rule.py - who is rewarded, and how it is counted."""
import json

import harness
import standin
from harness import MARKER, wait_until


class Rule(harness.Case):
    def served(self, users, **env):
        """LOGINs of these in one page, to the end; (worker, counters)."""
        self.events.add_logins(users)
        worker = self.worker(**env)
        counters = self.wait_rest(worker, len(users))
        self.wait_acked(self.events.last())
        return worker, counters

    def test_who_never_played_the_first_app_is_ignored(self):
        _, counters = self.served(["stranger"])
        self.assertEqual((1, 0, 0, 1), counters)
        self.assertEqual([], self.marker_writes("stranger"))
        self.assertEqual([], self.posts_of("stranger"))

    def test_truth_of_the_marker(self):
        values = {"empty": "", "zero": "0", "false": "false", "null": "null", "space": " ",
                  "time": "1491000000123"}
        self.world.players(values)
        for user, value in values.items():
            self.usermeta.put(user, MARKER, value)
        _, counters = self.served(list(values))
        self.assert_each_once(["empty"])
        self.assertEqual((6, 1, 0, 5), counters)

    def test_truth_of_auth(self):
        values = {"empty": "", "zero": "0", "false": "false", "time": "1491000000123"}
        for user, value in values.items():
            self.usermeta.put(user, "auth", value)
        _, counters = self.served(list(values) + ["absent"])
        self.assert_each_once(["zero", "false", "time"])
        self.assertEqual((5, 3, 0, 2), counters)

    def test_other_events_are_ignored_without_asking(self):
        self.world.players(["alice"])
        self.events.add_many([
            dict(user="alice", type="CREATE"), dict(user="alice", type="login"),
            dict(user="alice", type="LOGIN "), dict(user="alice", source="game-1"),
            dict(user="alice", source="game-22"), dict(user="alice", source="Game-2"),
            dict(user="alice", type="CHANGE", source="game-3")])
        worker = self.worker()
        self.assertEqual((7, 0, 0, 7), self.wait_rest(worker, 7))
        self.wait_acked(7)
        self.assertEqual([], self.reads_of("alice"))

    def test_twice_in_one_page(self):
        self.world.players(["alice"])
        _, counters = self.served(["alice", "alice"])
        self.assert_each_once(["alice"])
        self.assertEqual((2, 1, 0, 1), counters)

    def test_many_times_in_one_page_among_others(self):
        users = ["u%d" % (n % 7) for n in range(70)]
        self.world.players(users)
        _, counters = self.served(users)
        self.assert_each_once(set(users))
        self.assertEqual((70, 7, 0, 63), counters)

    def test_twice_in_two_pages(self):
        self.world.players(["alice"])
        worker, _ = self.served(["alice"])
        self.events.add("alice")
        self.wait_acked(2)
        self.assert_each_once(["alice"])
        self.assertEqual((2, 1, 0, 1), self.wait_rest(worker, 2))

    def again_while(self, rule):
        """A second LOGIN while the first is held by this rule."""
        self.world.players(["alice"])
        self.events.add("alice")
        worker = self.worker(HTTP_TIMEOUT_SECONDS=20)
        wait_until(lambda: rule.held, 10, "the first one hangs")
        self.events.add("alice")
        wait_until(lambda: worker.counters()[0] == 2, 10, "the second one is received")
        self.assertEqual(0, self.acked())
        rule.release()
        self.assertEqual((2, 1, 0, 1), self.wait_rest(worker, 2))
        self.wait_acked(2)
        self.assert_each_once(["alice"])
        self.assertEqual(1, len(self.marker_writes("alice")))

    def test_again_while_the_first_is_read(self):
        self.again_while(self.usermeta.misbehave(standin.hang(), method="GET", user="alice"))

    def test_again_while_the_first_is_marked(self):
        self.again_while(self.usermeta.misbehave(standin.hang(), method="POST", user="alice"))

    def test_again_while_the_first_is_given(self):
        self.again_while(self.currency.misbehave(standin.hang(), method="POST"))

    def test_again_after_a_restart(self):
        self.world.players(["alice"])
        worker, _ = self.served(["alice"])
        worker.stop()
        self.events.add("alice")
        worker = self.worker()
        self.assertEqual((1, 0, 0, 1), self.wait_rest(worker, 1))
        self.wait_acked(2)
        self.assert_each_once(["alice"])

    def test_a_poisonous_id_among_a_hundred(self):
        users = ["u%02d" % n for n in range(99)]
        users.insert(50, "poison")
        self.world.players(users)
        self.usermeta.misbehave(standin.status(500), user="poison")
        _, counters = self.served(users)
        self.assert_each_once([user for user in users if user != "poison"])
        self.assertEqual((100, 99, 1, 0), counters)
        self.assertEqual([], self.posts_of("poison"))

    def test_an_id_that_makes_the_read_a_bad_request(self):
        users = ["u%02d" % n for n in range(30)] + ["bad"]
        self.world.players(users)
        self.usermeta.misbehave(standin.status(400), user="bad", method="GET")
        _, counters = self.served(users)
        self.assert_each_once(users[:-1])
        self.assertEqual((31, 30, 1, 0), counters)

    def test_an_id_that_the_answer_leaves_out_is_not_taken_for_a_stranger(self):
        users = ["u%02d" % n for n in range(10)] + ["missing"]
        self.world.players(users)

        def without(right):
            found = json.loads(right)
            found.pop("missing", None)
            return json.dumps(found).encode()
        self.usermeta.misbehave(standin.body(without), user="missing", method="GET")
        _, counters = self.served(users)
        self.assertEqual((11, 10, 1, 0), counters)

    def test_an_id_with_a_colon_is_never_asked_for(self):
        users = ["alice", "a:b", ":", "bob"]
        self.world.players(["alice", "bob"])
        _, counters = self.served(users)
        self.assert_each_once(["alice", "bob"])
        self.assertEqual((4, 2, 2, 0), counters)
        for request in self.usermeta.requests + self.currency.requests:
            self.assertNotIn(b":", request.target)
            self.assertNotIn(b"%3A", request.target.upper())
            for user in request.users:
                self.assertNotIn(":", user)

    def test_a_refused_reward_is_a_failure_and_is_not_asked_again(self):
        users = ["alice", "banned", "bob"]
        self.world.players(users)
        self.currency.misbehave(standin.status(400), user="banned", method="POST")
        _, counters = self.served(users)
        self.assertEqual((3, 2, 1, 0), counters)
        self.assert_each_once(["alice", "bob"])
        self.assertEqual(1, len(self.posts_of("banned")))

    def test_a_refused_marker_means_no_reward(self):
        users = ["alice", "banned", "bob"]
        self.world.players(users)
        self.usermeta.misbehave(standin.status(413), user="banned", method="POST")
        _, counters = self.served(users)
        self.assertEqual((3, 2, 1, 0), counters)
        self.assertEqual([], self.posts_of("banned"))

    def test_thousands_each_once(self):
        users = ["player%d" % n for n in range(3000)]
        self.world.players(users)
        _, counters = self.served(users)
        self.assert_each_once(users)
        self.assertEqual((3000, 3000, 0, 0), counters)


if __name__ == "__main__":
    harness.main()
