"""valgrind_job.py - a short main job with everything in it, under valgrind; see
the script valgrind."""
import os
import sys

import harness
import standin

VALGRIND = ("valgrind", "--leak-check=full", "--show-leak-kinds=definite,possible",
            "--errors-for-leak-kinds=definite,possible", "--error-exitcode=99",
            "--track-fds=no", "--num-callers=30")
# It is some thirty times slower there.
PATIENCE_SECONDS = 120


class Valgrind(harness.Case):
    def test_a_short_job_leaks_nothing(self):
        users = ["player%d" % n for n in range(200)] + ["a,b", "a:b", "x" * 7000]
        self.world.players(users)
        for service in self.world.services:
            service.misbehave(standin.status(500), times=2)
            service.misbehave(standin.reset(), times=1)
        self.usermeta.misbehave(standin.truncated_json(), method="GET", times=1)
        self.events.misbehave(standin.truncated_json(), method="GET", times=1)
        self.events.add_logins(users + users[:100])
        worker = self.worker(wrap=VALGRIND, HTTP_TIMEOUT_SECONDS=30)
        self.wait_acked(len(users) + 100, PATIENCE_SECONDS)
        for path in ("/metrics", "/ready", "/about", "/ping/x", "/nowhere"):
            worker.get(path)
        worker.terminate()
        code = worker.wait_exit(PATIENCE_SECONDS)
        report = worker.stderr().decode("utf-8", "replace")
        self.assertEqual(0, code, report[-8000:])
        self.assertIn("ERROR SUMMARY: 0 errors", report)
        self.assert_each_once([user for user in users if ":" not in user])


if __name__ == "__main__":
    if not os.path.exists(harness.PROGRAM):
        sys.exit("valgrind: no program at " + harness.PROGRAM)
    harness.main()
