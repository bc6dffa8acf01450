"""test_promises.py - never twice, never lost: 2,000 events each, where the script
that this program replaces loses some or pays twice. One process.

Afterwards the books of the services, the ledger and the counters agree: every
player who should has one reward, nobody two, nothing waits. $LONG=1 takes the
outage as long as it was for the script, 30 s. Where something happens at random
the seed is printed; $SEED replays it.
"""
import collections
import json
import os
import random
import subprocess
import time

import harness
import standin
from harness import wait_until

EVENTS = 2000
MANY = 10000
SETTLE_SECONDS = 60
READY_SECONDS = 10  # a bound for a machine that is busy with other things
OUTAGE_SECONDS = 30 if os.environ.get("LONG") else 3
LEDGER_SECONDS = 60
REQUESTS_MAX = 500   # of a life that is interrupted, about a tenth of all, and
MOMENT_SECONDS = 0.02  # then up to so long, so that it ends in the middle of anything


class Promises(harness.Case):
    def setUp(self):
        if harness.SHAPE.name != "one":
            self.skipTest("about one process: other shapes are for tests/chaos")
        super().setUp()

    def players(self, count=EVENTS):
        users = ["player%d" % n for n in range(count)]
        self.world.players(users)
        return users

    def ledger(self, worker):
        """Player to the states of the grants, as `guerdon ledger` tells them."""
        env = {"PATH": "/usr/bin:/bin", "STATE_DIR": worker.state_dir}
        ran = subprocess.run([harness.PROGRAM, "ledger", "--format", "json"], env=env, text=True,
                             capture_output=True, timeout=LEDGER_SECONDS, check=False)
        self.assertEqual((0, ""), (ran.returncode, ran.stderr))
        found = collections.defaultdict(list)
        for line in ran.stdout.splitlines():
            grant = json.loads(line)
            found[grant["user"]].append(grant["state"])
        return found

    def settle(self, worker, users, seconds=SETTLE_SECONDS):
        """Everything is acknowledged, and each of these has one reward and one grant."""
        last = self.events.last()
        self.wait_acked(last, seconds)
        counters = wait_until(lambda: self.at_rest(worker), seconds, "the counters are at rest")
        lost = [user for user in users if not self.currency.rewards.get(user)]
        doubled = [user for user, times in self.currency.rewards.items() if len(times) > 1]
        self.assertEqual(([], []), (lost, doubled), "lost, doubled")
        self.assert_each_once(users)
        ledger = self.ledger(worker)
        self.assertEqual({user: ["given"] for user in users}, dict(ledger))
        worker.stop()
        self.assertEqual(ledger, self.ledger(worker), "the same when it does not run")
        self.assert_each_once(users)
        return counters

    def at_rest(self, worker):
        found = worker.counters()
        return found if found[0] == sum(found[1:]) and worker.in_flight() == 0 else None

    def once(self, users, **env):
        """A worker from the start to the end, and its counters."""
        self.events.add_logins(users)
        return self.settle(self.worker(**env).wait_ready(), users)

    # -- services that fail

    def some_rewards(self, act, times):
        """The rewards of some of the players, in the middle, meet this at first."""
        users = self.players()
        rule = self.currency.misbehave(act, method="POST", times=times,
                                       when=lambda _: len(self.currency.rewards) > EVENTS // 2)
        self.assertEqual((EVENTS, EVENTS, 0, 0), self.once(users))
        self.assertEqual(times, rule.hits)

    def test_ten_rewards_answer_500(self):
        self.some_rewards(standin.status(500), 10)

    def test_ten_rewards_are_given_and_answer_500(self):
        self.some_rewards(standin.status(500, apply=True), 10)

    def test_a_reward_hangs(self):
        self.some_rewards(standin.hang(), 1)

    def test_a_reward_is_given_and_its_answer_hangs(self):
        self.some_rewards(standin.hang(apply=True), 1)

    def test_usermeta_is_gone_for_a_while(self):
        users = self.players()
        worker = self.worker().wait_ready()
        self.events.add_logins(users)
        wait_until(lambda: len(self.currency.rewards) > 100, 20, "it works")
        self.usermeta.stop()
        self.assertLess(len(self.currency.rewards), EVENTS)
        harness.holds_for(worker.alive, OUTAGE_SECONDS, "it is alive while usermeta is gone")
        self.assertLess(self.acked(), EVENTS)
        self.usermeta.start()
        self.assertEqual((EVENTS, EVENTS, 0, 0), self.settle(worker, users))

    # -- events that are odd, or come twice

    def test_each_logs_in_twice_at_once(self):
        users = self.players(EVENTS // 2)
        self.events.add_logins([user for user in users for _ in range(2)])
        counters = self.settle(self.worker().wait_ready(), users)
        self.assertEqual((EVENTS, EVENTS // 2, 0, EVENTS // 2), counters)

    def test_poisonous_events_among_the_others(self):
        """Events without data, with data that is no map, without a player, and of a
        player for whom usermeta answers 500."""
        users = self.players(EVENTS - 5)
        poison = [
            dict(raw=b'{"id":%d,"timestamp":1,"from":"game-2","type":"LOGIN"}'),
            dict(raw=b'{"id":%d,"timestamp":1,"from":"game-2","type":"LOGIN","data":null}'),
            dict(raw=b'{"id":%d,"timestamp":1,"from":"game-2","type":"LOGIN","data":[1]}'),
            dict(raw=b'{"id":%d,"timestamp":1,"from":"game-2","type":"LOGIN","data":{"userId":7}}'),
            dict(user="poison"),
        ]
        self.world.players(["poison"])
        self.usermeta.misbehave(standin.status(500), user="poison")
        events = [dict(user=user) for user in users]
        for place, event in enumerate(poison):
            events.insert(300 * (place + 1), event)
        for number, event in enumerate(events, 1):
            if "raw" in event:
                event.update(id=number, raw=event["raw"] % number)
        self.events.add_many(events)
        success, failure, ignored = self.settle(self.worker().wait_ready(), users)[1:]
        self.assertEqual(EVENTS - 5, success)
        self.assertEqual(5, failure + ignored)

    # -- the end of the process

    def seeded(self):
        seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
        print("%s: SEED=%d" % (self.id(), seed))
        return random.Random(seed)

    def interrupted(self, end, times, **env):
        """The worker ends some times, after a random number of requests, and is
        started again."""
        chance = self.seeded()
        users = self.players()
        self.events.add_logins(users)
        for _ in range(times):
            worker = self.worker(**env).wait_ready()
            self.assertLess(self.acked(), EVENTS, "there is something left to interrupt")
            until = len(self.world.requests) + chance.randrange(REQUESTS_MAX)
            wait_until(lambda until=until: len(self.world.requests) >= until, 30, "so many requests")
            moment = time.monotonic() + chance.random() * MOMENT_SECONDS
            wait_until(lambda moment=moment: time.monotonic() >= moment)
            end(worker)
        self.settle(self.worker().wait_ready(), users)

    def test_killed_in_the_middle(self):
        self.interrupted(lambda worker: worker.kill(), 8)

    def test_ended_in_the_middle(self):
        # What is in flight is finished first: a small window leaves something.
        self.interrupted(lambda worker: worker.stop(), 4, WINDOW=100)

    def test_killed_with_ten_thousand_events_in_flight(self):
        users = self.players(MANY)
        worker = self.worker(HTTP_TIMEOUT_SECONDS=60).wait_ready()
        rule = self.currency.misbehave(standin.hang(), method="POST",
                                       when=lambda request: request.users[0] in users)
        self.events.add_logins(users)
        wait_until(lambda: len(self.usermeta.writes) >= MANY, 60, "all have their marker")
        self.assertEqual(MANY, worker.in_flight())
        worker.kill()
        rule.remove()
        self.assertEqual(0, self.acked())
        states = [state for states in self.ledger(worker).values() for state in states]
        begun = time.monotonic()
        worker = self.worker(HTTP_TIMEOUT_SECONDS=60).wait_ready(READY_SECONDS)
        print("%s: ready again after %.0f ms, with %d open grants"
              % (self.id(), (time.monotonic() - begun) * 1000, states.count("intended")))
        self.assertEqual(MANY, self.settle(worker, users)[0])


if __name__ == "__main__":
    harness.main()
