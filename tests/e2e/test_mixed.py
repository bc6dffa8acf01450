"""test_mixed.py - processes of different versions in one deployment: they work
together, or refuse each other and say which versions they are.

Besides the program there are two more beside it, as later versions will be:
guerdon_next speaks protocols 1 and 2, guerdon_later 2 and 3. Both say more than
the program knows: fields behind every message's own, and bits in HELLO.
"""
import os
import subprocess

import msgpack
import zmq

import harness
import shapes
from harness import PROGRAM, wait_until
from shapes import CURRENCY, DECISION, INGEST, STATS, USERMETA

NOW = PROGRAM
NEXT, LATER = (os.path.join(os.path.dirname(PROGRAM), name) for name in ("guerdon_next", "guerdon_later"))
SHAPE = shapes.named("ipc")
ID_GIVE = 10
USERS = ["player%d" % number for number in range(20)]


class MixedCase(harness.Case):
    shape = SHAPE

    def fleet(self, others, **programs):
        """Each role in the program named for it, or in `others`."""
        self.programs = {role: programs.get(shapes.variable(role).lower(), others) for role in shapes.ROLES}
        told = shapes.deployment(SHAPE, self.state_dir, PROGRAM)

        def start(place):
            env = harness.environment(self.world, self.state_dir, **told, **shapes.own_variables(
                SHAPE, place, self.state_dir))
            return harness.Worker(env, ("run", "--role", place.role), env["STATE_DIR"], name=place.name,
                                  program=self.programs[place.role])
        found = shapes.Fleet(shapes.places(SHAPE), start)
        self.workers.append(found)
        return found


class Mixed(MixedCase):
    def rewards_flow(self, fleet):
        fleet.wait_ready()
        self.world.players(USERS)
        self.events.add_logins(USERS)
        self.wait_rewarded(USERS)
        self.wait_acked(self.events.last())
        self.wait_rest(fleet, len(USERS))
        self.assert_each_once(USERS)
        for member in fleet:
            dropped = [value for name, value in member.metrics().items()
                       if name.startswith("guerdon_messages_total") and 'direction="dropped"' in name]
            self.assertTrue(dropped and not any(dropped), (member.name, dropped))
        fleet.stop()

    def test_a_newer_decision(self):
        self.rewards_flow(self.fleet(NOW, decision=NEXT))

    def test_an_older_decision(self):
        self.rewards_flow(self.fleet(NEXT, decision=NOW))

    def test_three_versions_of_which_only_neighbours_overlap(self):
        self.rewards_flow(self.fleet(NEXT, ingest=NOW, usermeta_client=LATER, currency_client=LATER))

    def test_one_after_another_is_renewed(self):
        fleet = self.fleet(NOW).wait_ready()
        rewarded = []
        for turn, role in enumerate((STATS, CURRENCY, USERMETA, DECISION, INGEST)):
            self.programs[role] = NEXT
            fleet[role].stop()
            fleet.replace(role)
            users = ["player%d-%d" % (turn, number) for number in range(5)]
            self.world.players(users)
            self.events.add_logins(users)
            self.wait_rewarded(users)
            rewarded += users
        self.wait_acked(self.events.last())
        self.assert_each_once(rewarded)

    def test_apart_they_refuse_each_other(self):
        self.world.players(USERS)
        fleet = self.fleet(NOW, decision=LATER)
        self.events.add_logins(USERS)
        version = subprocess.check_output((PROGRAM, "--version"), text=True).split()[-1]
        said = ("this is guerdon 0.3.0 speaking protocol 2 to 3, the other end is %s speaking 1" % version,
                "this is guerdon %s speaking protocol 1, the other end is 0.3.0 speaking 2 to 3" % version)

        def named(text):
            return any(words in text for words in said)
        # Either end may have said it first; stats has to do with ingest too, and that
        # is of its version.
        for member in fleet:
            wait_until(lambda: named(member.ready()[1]), 20,
                       "/ready of %s names both versions: %s" % (member.name, member.ready()))
            wait_until(lambda: any("cannot work with us" in line["msg"] and named(line["msg"])
                                   for line in member.log_lines()), 20,
                       "the log of %s names both versions" % member.name)
        for name in (INGEST, DECISION):
            self.assertEqual(503, fleet[name].ready()[0], name)
        self.assertEqual({}, self.rewarded())
        self.assertLessEqual(self.acked(), 0)
        # With a decision that they understand everything goes on.
        self.programs[DECISION] = NEXT
        fleet.restart(DECISION)
        self.wait_rewarded(USERS, 30)
        self.wait_acked(self.events.last())
        self.assert_each_once(USERS)


class Later(MixedCase):
    def test_a_later_version_says_more(self):
        """The programs that these tests rest on are what they are said to be."""
        counts = {}
        for program in (NOW, NEXT):
            fleet = self.fleet(program)
            tap = zmq.Context()
            self.addCleanup(tap.destroy, 0)
            socket = tap.socket(zmq.SUB)
            self.addCleanup(socket.close, 0)
            socket.connect("ipc://" + os.path.join(self.state_dir, DECISION, "tap.sock"))
            socket.subscribe("decision give")
            fleet.wait_ready()
            number = 0
            while not socket.poll(10):
                number += 1
                user = "%s-%d" % (os.path.basename(program), number)
                self.world.players([user])
                self.events.add_logins([user])
                self.wait_rewarded([user])
            message = msgpack.unpackb(socket.recv_multipart()[1])[8]
            self.assertEqual(ID_GIVE, message[1])
            counts[program] = len(message[3][0])
            fleet.stop()
            fleet.discard()
            self.workers.remove(fleet)
        self.assertEqual(2, counts[NEXT] - counts[NOW])


if __name__ == "__main__":
    harness.main()
