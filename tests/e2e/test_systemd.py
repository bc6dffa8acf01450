"""test_systemd.py - the units: well formed, hardened, and the program can live with it.

No systemd runs here, so the program is run under the rules of the unit by
confine.py, and systemd-analyze judges the rest.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import confine
import facts
import harness
import shapes
from harness import wait_until

UNITS = os.path.join(harness.ROOT, "compose", "systemd")
TEMPLATE = os.path.join(UNITS, "guerdon@.service")
CONFINE = os.path.join(harness.ROOT, "tests", "e2e", "confine.py")
# Instances that are no roles, each with a drop-in.
SPECIAL = ("all", "sandbox")
EXPOSURE_MAX = 1.5
SECONDS = 60


def analyze(*arguments, folder=UNITS):
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SYSTEMD_UNIT_PATH": folder + ":"}
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], env=env, capture_output=True, text=True,
                          timeout=SECONDS, check=False)


def exposure(path):
    ran = analyze("security", "--offline=true", path)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", ran.stdout)
    if not found:
        raise AssertionError(ran.stdout + ran.stderr)
    return float(found[1])


def dropin(instance):
    return os.path.join(UNITS, "guerdon@%s.service.d" % instance, "role.conf")


def effective(instance):
    """The settings of an instance: the template, and its drop-in after it."""
    with tempfile.NamedTemporaryFile("w", suffix=".service") as file:
        for path in [TEMPLATE] + [dropin(instance)] * (instance in SPECIAL):
            with open(path, encoding="utf-8") as part:
                file.write(part.read())
        file.flush()
        return confine.settings(file.name)


class Units(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="guerdon-units.")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def instances(self):
        return [*facts.roles(), *SPECIAL]

    def copied(self, change=lambda text: text):
        """The units, with the program where it is here."""
        folder = os.path.join(self.folder, "units")
        shutil.copytree(UNITS, folder)
        for path, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(path, name), "r+", encoding="utf-8") as file:
                    text = change(file.read().replace("/usr/bin/guerdon", harness.PROGRAM))
                    file.seek(0)
                    file.truncate()
                    file.write(text)
        return folder

    def verify(self, folder):
        """What systemd-analyze has to say of every instance."""
        said = []
        for instance in self.instances():
            path = os.path.join(folder, "guerdon@%s.service" % instance)
            os.symlink("guerdon@.service", path)
            ran = analyze("verify", "--man=no", path, folder=folder)
            said += [line for line in (ran.stdout + ran.stderr).splitlines() if "guerdon" in line]
        return said

    def test_they_are_well_formed(self):
        self.assertEqual([], self.verify(self.copied()))

    def test_a_mistake_is_seen(self):
        said = self.verify(self.copied(lambda text: text.replace("TimeoutStopSec=", "TimeoutStopSecs=")))
        self.assertIn("TimeoutStopSecs", " ".join(said))

    def test_they_are_hardly_exposed(self):
        self.assertLessEqual(exposure(TEMPLATE), EXPOSURE_MAX)
        for instance in SPECIAL:
            # A drop-in may say how it is started, and loosen nothing.
            with open(dropin(instance), encoding="utf-8") as file:
                self.assertLessEqual(set(re.findall(r"^(\w+)=", file.read(), re.M)),
                                     {"ExecStart", "Environment", "EnvironmentFile", "LoadCredential"})

    def test_exposure_is_seen(self):
        path = os.path.join(self.folder, "guerdon@.service")
        with open(path, "w", encoding="utf-8") as file:
            file.write(re.sub(r"^(CapabilityBoundingSet|SystemCallFilter|ProtectSystem)=.*\n", "",
                              facts.read("compose", "systemd", "guerdon@.service"), flags=re.M))
        self.assertGreater(exposure(path), EXPOSURE_MAX)

    def test_there_is_a_drop_in_for_each_instance_that_is_no_role(self):
        found = re.findall(r"guerdon@(\w+)\.service\.d", " ".join(os.listdir(UNITS)))
        self.assertEqual(sorted(SPECIAL), sorted(found))
        self.assertFalse(set(SPECIAL) & set(facts.roles()))

    def test_they_start_the_program_as_it_wants_to_be_started(self):
        for instance in self.instances():
            starts = effective(instance)["ExecStart"]
            self.assertEqual(1, len(starts), instance)
            program, command, *rest = starts[0].replace("%i", instance).split()
            self.assertEqual("/usr/bin/guerdon", program)
            self.assertIn(command, facts.commands())
            self.assertLessEqual({word for word in rest if word.startswith("--")}, set(facts.options(command)))
            if "--role" in rest:
                self.assertIn(rest[rest.index("--role") + 1], facts.roles())

    def test_every_variable_is_one_the_program_knows(self):
        for instance in self.instances():
            for line in effective(instance)["Environment"]:
                self.assertIn(line.partition("=")[0], set(facts.variables()) | facts.secret_files())

    def test_only_the_secret_is_a_credential_and_only_a_file(self):
        for instance in self.instances():
            unit = effective(instance)
            named = [line.partition("=")[2] for line in unit["Environment"]
                     if line.partition("=")[0] in facts.secret_files()]
            loaded = ["%d/" + line.partition(":")[0] for line in unit["LoadCredential"]]
            self.assertEqual(loaded, named, instance)

    def test_the_end_is_waited_for(self):
        drain = int(facts.variables()["DRAIN_SECONDS"])
        self.assertGreater(int(effective("all")["TimeoutStopSec"][-1]), drain)

    def test_it_is_not_started_again_when_that_cannot_help(self):
        unit = effective("all")
        codes = facts.exit_codes()
        self.assertEqual(["on-failure"], unit["Restart"])
        self.assertEqual({codes["usage"], codes["configuration"]},
                         {int(code) for code in unit["RestartPreventExitStatus"][-1].split()})

    def test_settings_are_where_the_package_puts_them(self):
        listed = facts.read("compose", "debian", "conffiles").split()
        self.assertIn(listed[0], [line.lstrip("-") for line in effective("decision")["EnvironmentFile"]])


@harness.one_process("it starts the shapes that it is about")
class Confined(harness.Case):
    """The program under the rules of the unit: a call too many would kill it."""

    def confined(self):
        return (sys.executable, "-B", CONFINE, TEMPLATE, self.state_dir)

    def run_confined(self, *command):
        return subprocess.run([*self.confined(), *command], capture_output=True, text=True, timeout=SECONDS,
                              check=False, cwd="/")

    def rewarded_in(self, shape):
        users = ["u%d" % number for number in range(20)]
        self.world.players(users)
        self.events.add_logins(users)
        self.shape = shapes.named(shape)
        worker = self.worker(wrap=self.confined()).wait_ready()
        self.wait_rest(worker, len(users))
        worker.stop()
        self.assert_each_once(users)

    def test_all_actors_in_one_process(self):
        self.rewarded_in("one")

    def test_a_process_each_with_certificates(self):
        self.hand_over(shapes.certificates(harness.PROGRAM))
        self.rewarded_in("tcp-curve")

    def hand_over(self, folder):
        """As docs/deploy.md says: root's, and readable for the group of the services."""
        os.chmod(os.path.dirname(folder), 0o755)
        for path in [folder, *(os.path.join(folder, name) for name in os.listdir(folder))]:
            os.chown(path, -1, confine.NOBODY if os.geteuid() == 0 else -1)
            os.chmod(path, 0o750 if path == folder else 0o640 if os.geteuid() == 0 else 0o600)

    def test_the_sandbox(self):
        env = {"PATH": "/usr/bin:/bin", "HOME": "/", "STATE_DIR": self.state_dir, "PORT": str(harness.free_port()),
               "SANDBOX_PORT": "0", "LOG_FORMAT": "json"}
        worker = harness.Worker(env, ("run", "--sandbox"), self.state_dir, self.confined())
        self.workers.append(worker)
        worker.wait_ready()
        for app in ("game-1", "game-2"):
            facts.ask("emit", "LOGIN", "--user", "alice", "--from", app, env=env)
        wait_until(lambda: worker.counters() == (2, 1, 0, 1), 10, "alice is rewarded")
        worker.stop()

    def test_a_call_beyond_the_filter_is_seen(self):
        self.assertEqual(-signal.SIGSYS, self.run_confined("/usr/bin/nice", "-n", "1", "/usr/bin/true").returncode)

    def test_files_and_programs_are_out_of_reach(self):
        if os.geteuid() != 0:
            self.skipTest("only root can hide files")
        ran = self.run_confined("/usr/bin/touch", os.path.join(self.state_dir, "kept"))
        self.assertEqual((0, ""), (ran.returncode, ran.stderr))
        ran = self.run_confined("/usr/bin/touch", "/var/tmp/guerdon-confined")
        self.assertIn("Read-only file system", ran.stderr)
        ran = self.run_confined("/usr/bin/env", "/usr/bin/true")
        self.assertIn("Permission denied", ran.stderr)


if __name__ == "__main__":
    harness.main()
