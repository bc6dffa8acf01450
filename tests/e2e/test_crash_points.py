"""test_crash_points.py - the program that people run cannot be told to kill itself.
What dies at crash points is tests/chaos/points."""
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

import harness

CRASHING = os.environ.get("GUERDON_CRASH",
                          os.path.join(harness.ROOT, "build", "bin", "guerdon_crash"))
NAMES = (b"GUERDON_CRASH", b"crash_point", b"before-hand-over")


def content(path):
    with open(path, "rb") as file:
        return file.read()


class CrashPoints(unittest.TestCase):
    def test_the_program_has_none(self):
        found = content(harness.PROGRAM)
        for name in NAMES:
            self.assertNotIn(name, found)

    def test_the_other_one_has_them(self):
        found = content(CRASHING)
        for name in NAMES:
            self.assertIn(name, found)

    def test_a_point_that_makes_no_sense(self):
        directory = tempfile.mkdtemp(prefix="guerdon-state.")
        self.addCleanup(shutil.rmtree, directory, True)
        env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "STATE_DIR": directory}
        for point in ("", "ingest/before-send", "ingest/before-send:", "ingest/before-send:0",
                      "ingest/before-send:1x"):
            ran = subprocess.run([CRASHING, "run", "--sandbox"], capture_output=True, text=True,
                                 timeout=20, check=False,
                                 env=dict(env, GUERDON_CRASH_AT=point,
                                          PORT=str(harness.free_port()),
                                          SANDBOX_PORT=str(harness.free_port())))
            self.assertEqual(-signal.SIGABRT, ran.returncode, point)
            self.assertIn("GUERDON_CRASH_AT is ACTOR/NAME:N", ran.stderr)


if __name__ == "__main__":
    harness.main()
