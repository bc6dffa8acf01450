"""test_network.py - five hosts on a switch, and what happens when links are cut,
processes killed, and one direction lost.

Whatever happens: nobody loses a reward, nobody has two, a player's events are
decided one after another, memory stays bounded, and the flow is back within
RECOVERY_SECONDS after the network heals.

A cut lasts longer than it takes to give the other end up. With CAMPAIGN=1
every cut lasts ten seconds; without, one does.
"""
import os
import threading
import time

import harness
import shapes
from harness import wait_until
from shapes import CURRENCY, DECISION, INGEST, STATS, USERMETA

CAMPAIGN = os.environ.get("CAMPAIGN") == "1"
CUT_SECONDS = 10 if CAMPAIGN else 3  # SESSION_LOST_MS is 2000
LONG_CUT_SECONDS = 10
RECOVERY_SECONDS = 8 if harness.sanitized() else 2
# A service that was out of reach is asked again after a pause of up to 5 s.
SERVICE_RECOVERY_SECONDS = RECOVERY_SECONDS + 5
LOGINS_A_PLAYER = 3
PLAYERS_A_SECOND = 25
RSS_GROWTH_KB_MAX = 16 << 10
# Who talks to whom.
PAIRS = ((INGEST, DECISION), (INGEST, STATS), (DECISION, USERMETA), (DECISION, CURRENCY),
         (DECISION, STATS))


class Feeder:
    """Players log in, each three times, at a steady rate, while a test goes on."""

    def __init__(self, case):
        self.case, self.users, self.count = case, [], 0
        self.lock, self.over = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self.feed, daemon=True)
        self.thread.start()

    def feed(self):
        while not self.over.wait(1 / PLAYERS_A_SECOND):
            self.add("player")

    def add(self, kind):
        """A new player; the log-ins come between those of players before."""
        with self.lock:
            user = "%s%d" % (kind, len(self.users))
            self.users.append(user)
            self.case.world.players([user])
            again = self.users[-LOGINS_A_PLAYER:]
            self.case.events.add_logins(again)
            self.count += len(again)
        return user

    def stop(self):
        self.over.set()
        self.thread.join(10)
        return self.count


class Network(harness.Case):
    shape = shapes.SHAPES["netns-curve"]

    def setUp(self):
        super().setUp()
        if self.shape.hosts:
            self.switch = shapes.switch()
            self.addCleanup(self.switch.heal)

    def flow(self, **env):
        """A worker of five hosts with players logging in."""
        self.events.poll_timeout = 1.0
        env = dict({"POLL_TIMEOUT_SECONDS": 2, "WINDOW": 2000}, **env)
        self.fleet = self.worker(**env).wait_ready(20)
        self.feeder = Feeder(self)
        self.addCleanup(self.feeder.stop)
        wait_until(lambda: len(self.currency.rewards) > 10, 10, "rewards flow")
        self.rss_before = {member.name: member.rss_kb() for member in self.fleet}

    def pass_time(self, seconds, still=False):
        """All processes live; `still`: and no reward comes once what was under
        way is finished, or the link was not cut at all."""
        before = 0
        for span in (seconds / 2, seconds / 2):
            before = len(self.currency.rewards)
            harness.holds_for(lambda: self.fleet.check_alive() is None, span, "all processes live")
        if still:
            self.assertEqual(before, len(self.currency.rewards), "rewards although it was cut off")

    def recovered(self, what, seconds=RECOVERY_SECONDS):
        """A player who logs in now, after everybody who waits, is served in time."""
        healed = time.monotonic()
        probe = self.feeder.add("probe")
        wait_until(lambda: self.rewards_of(probe), 30, "the flow is back after " + what)
        took = self.currency.rewards[probe][0] - healed
        print("%-58s back after %5.2f s" % (what, took))
        self.slow = getattr(self, "slow", [])
        if took > seconds:
            self.slow.append("%s: back after %.2f s, more than %.1f" % (what, took, seconds))

    def finish(self, counted=True):
        """Everything comes to rest, and what must hold does; the players with
        no reward and those with more than one."""
        count = self.feeder.stop()
        wait_until(lambda: self.acked() >= self.events.last(), 20, "all is acknowledged")
        self.assertEqual(count, self.events.last())
        if counted:
            players = len(self.feeder.users)
            self.assertEqual((count, players, 0, count - players),
                             self.wait_rest(self.fleet, count))
        self.check_order()
        self.check_memory()
        self.fleet.stop()
        self.assertEqual([], getattr(self, "slow", []))
        given = self.rewarded()
        return ([user for user in self.feeder.users if user not in given],
                [user for user, times in given.items() if times > 1])

    def check_order(self):
        """No process decides a player's later event before an earlier one. What
        was decided may be decided again: for an ingest that was killed."""
        for member in self.fleet.everybody():
            last, seen = {}, set()
            for line in member.log_lines():
                user, number = line.get("user"), line.get("event")
                if not member.name.startswith(DECISION) or not user or not number or number in seen:
                    continue
                seen.add(number)
                self.assertGreaterEqual(number, last.get(user, 0), "%s: %s" % (user, line))
                last[user] = number
            if member.name == DECISION:
                self.assertTrue(seen, "the log tells the events")

    def check_memory(self):
        for member in self.fleet:
            growth = member.rss_kb() - self.rss_before[member.name]
            if not harness.sanitized():
                self.assertLess(growth, RSS_GROWTH_KB_MAX, "kB more in " + member.name)


class Cut(Network):
    """A host is out of reach of the others for a while, then is back."""

    def cut_each(self, seconds, names, services, recovery):
        self.flow()
        for name in names:
            self.switch.cut(name, services)
            self.pass_time(seconds, still=name != STATS)
            self.switch.heal()
            self.recovered("%s cut off %s, %.0f s" % (
                name, "altogether" if services else "from the others", seconds), recovery)
        self.assertEqual(([], []), self.finish())

    def test_each_host_from_the_others(self):
        self.cut_each(CUT_SECONDS, (INGEST, DECISION, USERMETA, CURRENCY, STATS), False,
                      RECOVERY_SECONDS)

    def test_one_for_ten_seconds(self):
        self.cut_each(LONG_CUT_SECONDS, (DECISION,), False, RECOVERY_SECONDS)

    def test_hosts_from_services_too(self):
        self.cut_each(CUT_SECONDS, (INGEST, DECISION, USERMETA, STATS), True,
                      SERVICE_RECOVERY_SECONDS)

    def test_the_currency_client_altogether(self):
        self.flow()
        begun = time.monotonic()
        self.switch.cut(CURRENCY, True)
        self.pass_time(CUT_SECONDS, still=True)
        self.switch.heal()
        self.recovered(CURRENCY + " cut off altogether", SERVICE_RECOVERY_SECONDS)
        lost, twice = self.finish()
        self.assertEqual([], lost)
        for user in twice:
            times = self.currency.rewards[user]
            self.assertLess(abs(times[0] - begun), 1, "%s has two, with no reason" % user)


class OneWay(Network):
    """What one sends the other does not get; the other direction works."""

    def directions(self, *pairs):
        self.flow()
        for pair in pairs:
            for source, target in (pair, pair[::-1]):
                self.switch.drop((source, target))
                self.pass_time(CUT_SECONDS, still=pair in PAIRS and STATS not in pair)
                self.switch.heal()
                self.recovered("%s -x-> %s, %.0f s" % (source, target, CUT_SECONDS))
        self.assertEqual(([], []), self.finish())

    def test_ingest_and_decision(self):
        self.directions((INGEST, DECISION))

    def test_decision_and_clients(self):
        self.directions((DECISION, USERMETA), (DECISION, CURRENCY))

    def test_stats_and_those_who_count(self):
        self.directions((INGEST, STATS), (DECISION, STATS))

    @harness.unittest.skipUnless(CAMPAIGN, "in the campaign: those who never talk")
    def test_those_who_never_talk(self):
        names = shapes.ROLES
        self.directions(*[(one, other) for index, one in enumerate(names)
                          for other in names[index + 1:]
                          if (one, other) not in PAIRS])

    def test_a_link_that_flaps(self):
        self.flow()
        for _ in range(8):
            self.switch.cut(DECISION)
            self.pass_time(0.4)
            self.switch.heal()
            self.pass_time(0.4)
        self.recovered("a link that flapped")
        self.assertEqual(([], []), self.finish())


class Killing(Network):
    """kill -9, and the same program again in its place."""

    def killed(self, name, down_seconds=0.0):
        self.flow()
        self.fleet[name].kill()
        self.pass_rest(name, down_seconds)
        self.fleet.replace(name).wait_ready(10)
        self.rss_before[name] = self.fleet[name].rss_kb()
        self.recovered("%s killed, away for %.0f s" % (name, down_seconds), RECOVERY_SECONDS)

    def pass_rest(self, name, seconds):
        harness.holds_for(lambda: all(member.alive() for member in self.fleet
                                      if member.name != name), seconds, "the others live")


class Killed(Killing):
    def test_ingest(self):
        self.killed(INGEST)
        # It counts again what was not acknowledged.
        self.assertEqual(([], []), self.finish(counted=False))

    def test_decision(self):
        self.killed(DECISION)
        self.assertEqual(([], []), self.finish())

    def test_usermeta_client(self):
        self.killed(USERMETA)
        self.assertEqual(([], []), self.finish())

    def test_usermeta_client_away_for_a_while(self):
        self.killed(USERMETA, CUT_SECONDS)
        self.assertEqual(([], []), self.finish())

    def test_currency_client(self):
        self.killed(CURRENCY)
        self.assertEqual(([], []), self.finish())

    def test_stats(self):
        self.killed(STATS)
        # What it had counted is gone with it.
        self.assertEqual(([], []), self.finish(counted=False))

    def test_everybody_one_after_another(self):
        self.flow()
        for name in (STATS, USERMETA, INGEST):
            self.fleet.restart(name).wait_ready(10)
            self.rss_before[name] = self.fleet[name].rss_kb()
            self.recovered("%s restarted among others" % name)
        self.assertEqual(([], []), self.finish(counted=False))


class KilledAmongMany(Killing):
    """One of several shards or workers: those of the others are served meanwhile."""
    shape = shapes.SHAPES["shards"]

    def pass_rest(self, name, seconds):
        super().pass_rest(name, seconds / 2)
        before = len(self.currency.rewards)
        super().pass_rest(name, seconds / 2)
        self.assertGreater(len(self.currency.rewards) - before, PLAYERS_A_SECOND * seconds / 10)

    def test_a_decision_shard(self):
        self.killed(DECISION + "-1", CUT_SECONDS)
        self.assertEqual(([], []), self.finish())

    def test_a_usermeta_worker(self):
        self.killed(USERMETA + "-0", CUT_SECONDS)
        self.assertEqual(([], []), self.finish())

    def test_a_currency_worker(self):
        self.killed(CURRENCY + "-1", CUT_SECONDS)
        self.assertEqual(([], []), self.finish())


if __name__ == "__main__":
    harness.main()
