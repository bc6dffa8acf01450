"""test_keys.py - the keys of running processes: new ones without a restart, and
what a process says that does not find what it needs.
"""
import os
import shutil

import harness
import shapes
from harness import PROGRAM, free_port, wait_until

EXIT_CONFIG = 78
LOGINS_BETWEEN = 20


class Keys(harness.Case):
    shape = shapes.named("tcp-curve")

    def setUp(self):
        super().setUp()
        self.keys = shapes.keygen(PROGRAM, os.path.join(self.state_dir, "keys"))
        self.served = []

    def serve(self, worker, name):
        """Some more players log in, and are rewarded."""
        users = ["%s-%d" % (name, number) for number in range(LOGINS_BETWEEN)]
        self.world.players(users)
        self.events.add_logins(users)
        self.served += users
        self.wait_rest(worker, len(self.served))

    def replace_keys(self, names):
        """A fresh key pair in place of the old one, one file after the other."""
        fresh = shapes.keygen(PROGRAM, os.path.join(self.state_dir, "fresh"))
        for name in names:
            os.replace(os.path.join(fresh, name), os.path.join(self.keys, name))
        shutil.rmtree(fresh)

    def wait_said(self, member, words, count=1):
        wait_until(lambda: member.output().count(words) >= count, 10, "%s says: %s" % (member.name, words))

    def test_all_keys_are_replaced_under_a_running_worker(self):
        worker = self.worker(CURVE_DIR=self.keys).wait_ready()
        self.serve(worker, "before")
        names = sorted(os.listdir(self.keys))
        for turn in range(3):
            if turn == 2:
                names.reverse()
            self.replace_keys(names)
            self.serve(worker, "turn-%d" % turn)
        for member in worker:
            self.wait_said(member, "certificates have changed")
        # Each proves, to peers that went on, that the old keys are gone on both sides.
        for name in ("ingest", "decision", "stats"):
            worker.restart(name).wait_ready()
            worker.wait_ready()
        self.world.players(["after"])
        self.events.add_logins(["after"])
        self.wait_rewarded(self.served + ["after"])
        self.assert_each_once(self.served + ["after"])
        worker.stop()

    def test_a_process_whose_key_is_not_known_yet_waits_for_it(self):
        parts = {}
        for role in shapes.ROLES:
            parts[role] = os.path.join(self.state_dir, "part-" + role)
            shutil.copytree(self.keys, parts[role])
        fresh = shapes.keygen(PROGRAM, os.path.join(self.state_dir, "fresh"))
        shutil.copy(os.path.join(fresh, "ingest.cert_secret"), parts["ingest"])
        told = shapes.deployment(self.shape, self.state_dir, PROGRAM)

        def start(place):
            env = harness.environment(self.world, self.state_dir, **{
                **told, **shapes.own_variables(self.shape, place, self.state_dir),
                "CURVE_DIR": parts[place.role]})
            return harness.Worker(env, ("run", "--role", place.role), env["STATE_DIR"], (), place.name)
        worker = shapes.Fleet(shapes.places(self.shape), start)
        self.workers.append(worker)
        self.wait_said(worker["ingest"], "does not let us in")
        self.assertEqual(503, worker["ingest"].ready()[0])
        self.wait_said(worker["decision"], "a stranger to decision")
        self.assertEqual(1, worker["decision"].output().count("refused connections"))
        self.assertGreater(worker["decision"].metrics()['guerdon_refused_total{reason="unknown_key"}'], 0)
        for role in ("decision", "stats"):
            shutil.copy(os.path.join(fresh, "ingest.cert"), os.path.join(parts[role], "ingest-2.cert"))
        worker.wait_ready()
        self.serve(worker, "late")
        self.assert_each_once(self.served)

    # -- what is missing or wrong at the start

    def environment(self, **changes):
        told = {name + "_ENDPOINT": "tcp://127.0.0.1:%d" % free_port()
                for name in ("DECISION", "USERMETA_CLIENT", "CURRENCY_CLIENT", "STATS")}
        return harness.environment(self.world, self.state_dir, **{**told, "CURVE_DIR": self.keys, **changes})

    def refused(self, role="decision", code=EXIT_CONFIG, **changes):
        env = self.environment(**changes)
        worker = harness.Worker(env, ("run", "--role", role), self.state_dir)
        self.workers.append(worker)
        self.assertEqual(code, worker.wait_exit(5), worker.output())
        return worker.stderr().decode()

    def test_a_missing_certificate_is_named(self):
        for name in ("decision.cert_secret", "ingest.cert", "usermeta-client.cert"):
            with self.subTest(name):
                path = os.path.join(self.keys, name)
                os.rename(path, path + ".away")
                self.assertRegex(self.refused(), "%s is missing: expected the (public|secret) certificate of %s"
                                 % (path, name.split(".")[0]))
                os.rename(path + ".away", path)
        self.assertRegex(self.refused(CURVE_DIR="/nonexistent"), "/nonexistent/decision.cert_secret is missing")

    def test_a_certificate_of_another_role_is_named(self):
        path = os.path.join(self.keys, "decision.cert_secret")
        shutil.copy(os.path.join(self.keys, "stats.cert_secret"), path)
        self.assertRegex(self.refused(), path + " is the certificate of stats: expected that of decision")

    def test_a_secret_that_others_can_read_is_refused(self):
        path = os.path.join(self.keys, "decision.cert_secret")
        os.chmod(path, 0o644)
        text = self.refused()
        self.assertRegex(text, path + " has mode 0644: expected 0600")
        self.assertNotRegex(text, "[^ /]{40}")

    def test_plaintext_beyond_loopback_is_refused(self):
        text = self.refused(CURVE_DIR=None, DECISION_BIND="tcp://0.0.0.0:%d" % free_port(),
                            STATS_ENDPOINT="tcp://stats.example:7000")
        self.assertRegex(text, "DECISION_BIND: tcp://0.0.0.0:[0-9]+ is beyond loopback, and CURVE_DIR is not set")
        self.assertRegex(text, "STATS_ENDPOINT: tcp://stats.example:7000 is beyond loopback")
        self.assertIn("ALLOW_PLAINTEXT=1", text)

    def test_plaintext_that_is_allowed_is_told_at_every_start(self):
        # Loopback, but not written in a way that is believed.
        env = self.environment(ALLOW_PLAINTEXT="1", CURVE_DIR=None, STATS_ENDPOINT="tcp://127.1:%d" % free_port())
        for _ in range(2):
            worker = harness.Worker(env, ("run", "--role", "decision"), self.state_dir)
            self.workers.append(worker)
            wait_until(lambda: "ALLOW_PLAINTEXT is set" in worker.output(), 10, "the warning")
            self.assertEqual(40, [line for line in worker.log_lines()
                                  if "ALLOW_PLAINTEXT" in line["msg"]][0]["level"])
            worker.kill()


if __name__ == "__main__":
    harness.main()
