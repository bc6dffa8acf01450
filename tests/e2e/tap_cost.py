"""tap_cost.py - what a tap that nobody looks at costs: the same small job with
a tap and without, counted in instructions; see the script tap_cost."""
import os
import re
import sys

import harness

EVENTS = 20000
PLAYERS = 1000  # of whom each is rewarded once a turn: with HTTP calls
COST_MAX = 0.02
TURNS = 2
PATIENCE_SECONDS = 240


class Cost(harness.Case):
    def count(self, turn, has_tap):
        """Instructions of the whole process, from its start to its end."""
        path = os.path.join(self.state_dir, "callgrind.%s" % turn)
        wrap = ("valgrind", "--tool=callgrind", "--callgrind-out-file=" + path)
        state = os.path.join(self.state_dir, turn)
        if not has_tap:  # a directory in its place: no tap can be opened
            os.makedirs(os.path.join(state, "tap.sock", "full"))
        client = "worker-" + turn
        worker = self.worker(wrap=wrap, STATE_DIR=state, EVENTS_CLIENT_ID=client)
        harness.wait_until(lambda: self.events.position(client) >= EVENTS + PLAYERS, PATIENCE_SECONDS,
                           "all events are acknowledged")
        worker.terminate()
        self.assertEqual(0, worker.wait_exit(PATIENCE_SECONDS))
        self.assertEqual(not has_tap, "no tap" in worker.output())
        found = re.search(r"Collected : (\d+)", worker.stderr().decode("utf-8", "replace"))
        self.workers.remove(worker)
        worker.discard()
        self.assertEqual(PLAYERS, len(self.currency.rewards))
        self.currency.rewards.clear()
        for user in self.users:
            self.usermeta.store.pop("%s:%s" % (user, harness.MARKER), None)
        return int(found.group(1))

    def test_nobody_looks(self):
        self.users = ["player%d" % n for n in range(PLAYERS)]
        self.world.players(self.users)
        self.events.add_many([{"user": "player%d" % n, "type": "LOGOUT"} for n in range(EVENTS)])
        self.events.add_logins(self.users)
        ratios = []
        for turn in range(TURNS):
            without = self.count("without%d" % turn, False)
            with_tap = self.count("with%d" % turn, True)
            ratios.append(with_tap / without - 1)
            print("tap_cost: %d without, %d with: %+.2f%%" % (without, with_tap, 100 * ratios[-1]))
        self.assertLess(min(ratios), COST_MAX)


if __name__ == "__main__":
    if not os.path.exists(harness.PROGRAM):
        sys.exit("tap_cost: no program at " + harness.PROGRAM)
    harness.main()
