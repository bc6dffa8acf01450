"""test_canaries.py - the secret is nowhere but in requests to the services, and
secret keys are nowhere: looked for in every tap, log, page, argument and
recording, while everything goes wrong that can, and in what is left of a process
that crashes. Players are named by taps, recordings and logs only."""
import os
import re
import resource
import signal
import subprocess
import urllib.parse

import harness
import shapes
import standin
from harness import CANARY, PROGRAM, wait_until
from test_tap import TapCase

PAGES = ("/about", "/ready", "/health", "/metrics", "/ping/x", "/nowhere", "/rewards/v1/about")
SIZE_MAX = 1 << 30
PLAYER = "pl4yer"


def read(path):
    with open(path, "rb") as file:
        return file.read()


def has_canary(content, canary=CANARY):
    """As it is, or percent-encoded in any way."""
    return canary.encode() in content or canary.encode() in urllib.parse.unquote_to_bytes(content)


def secret_keys(shape):
    """Those that the processes of a shape have."""
    if not shape.curve:
        return []
    folder = shapes.certificates(PROGRAM)
    found = [re.findall(r'secret-key = "(.+)"', read(os.path.join(folder, name)).decode())
             for name in os.listdir(folder) if name.endswith(".cert_secret")]
    assert found and all(len(keys) == 1 for keys in found), found
    return [keys[0] for keys in found]


class Canaries(TapCase):
    def look(self, name, content):
        self.assertFalse(has_canary(content), "the secret is in " + name)
        for key in secret_keys(self.shape):
            self.assertNotIn(key.encode(), content, "a secret key is in " + name)

    def look_for_players(self, name, content):
        self.assertFalse(has_canary(content, PLAYER), "a player is in " + name)

    def misfortunes(self):
        """The services fail in every way that is told of, some with the URL in their answer."""
        echo = ('{"code":"E","message":"GET /x?secret=%s"}' % urllib.parse.quote(harness.SECRET)).encode()
        for service in (self.usermeta, self.currency, self.events):
            for act in (standin.status(500), standin.status(500, echo), standin.reset(), standin.not_json()):
                service.misbehave(act, times=1)

    def of_process(self, pid):
        found = [read("/proc/%d/cmdline" % pid)]
        for thread in os.listdir("/proc/%d/task" % pid):
            found.append(read("/proc/%d/task/%s/comm" % (pid, thread)))
        return b"\n".join(found)

    def all_of(self, worker, taps, recording):
        for member in worker:
            self.look("the output of " + member.name, member.stdout() + member.stderr())
            self.look("the process " + member.name, self.of_process(member.pid))
            self.look_for_players("the process " + member.name, self.of_process(member.pid))
            for page in PAGES:
                status, headers, body = member.get(page)
                self.look(page, repr((status, headers)).encode() + body)
                self.look_for_players(page, repr((status, headers)).encode() + body)
        for tap in taps:
            self.look("a tap", (tap.text() + tap.said()).encode())
        self.look("a recording", read(recording))

    def flow(self, shape):
        self.shape = shapes.named(shape)
        recording = os.path.join(self.state_dir, "recording")
        if shape == "one":
            endpoints = [self.endpoint()]
        else:
            endpoints = ["ipc://%s/%s/tap.sock" % (self.state_dir, place.name)
                         for place in shapes.places(self.shape)]
        taps = [self.tap("--format", "json", *endpoints), self.tap(*endpoints)]
        recorder = self.tap("--record", recording, *endpoints)
        worker = self.worker(LOG_LEVEL="TRACE").wait_ready()
        self.until_shown(taps)
        self.misfortunes()
        users = ["%s%d" % (PLAYER, number) for number in range(30)]
        self.world.players(users)
        self.wait_rest(worker, self.events.add_logins(users)[-1])
        for tap in taps:
            wait_until(lambda tap=tap: tap.text().count("{secret}") > 3, 10, "requests are on the tap")
        wait_until(lambda: b"{secret}" in read(recording), 10, "requests are in the recording")
        self.all_of(worker, taps, recording)
        worker.stop()
        recorder.interrupt()
        self.look("the recording in the end", read(recording))
        # Whoever looks so finds them, where they must be.
        self.assertTrue(has_canary(taps[0].text().encode(), PLAYER))
        self.assertTrue(has_canary(b" ".join(request.target for request in self.events.requests)))

    def test_one_process(self):
        self.flow("one")

    def test_five_processes_with_keys(self):
        self.flow("tcp-curve")

    def test_commands_that_fail(self):
        environment = harness.environment(self.world, self.state_dir, PORT="nonsense", WINDOW="0")
        for arguments in (("run",), ("check",), ("check", "--online"), ("emit", "LOGIN", "--user", "alice")):
            for changes in ({}, {"API_SECRET": harness.SECRET * 200}, {"API_SECRET_FILE": harness.SECRET}):
                ran = subprocess.run([PROGRAM, *arguments], env={**environment, **changes},
                                     capture_output=True, timeout=20, check=False)
                if arguments[0] != "emit":
                    self.assertNotEqual(0, ran.returncode, arguments)
                self.look(" ".join(arguments), ran.stdout + ran.stderr)

    def crash(self, command, environment, ready):
        """Whether the kernel dumped core."""
        def limits():
            harness.die_with_parent()
            resource.setrlimit(resource.RLIMIT_CORE, (SIZE_MAX, SIZE_MAX))
        process = subprocess.Popen(command, env=environment, cwd=self.state_dir, preexec_fn=limits,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ready(process)
        os.kill(process.pid, signal.SIGABRT)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = 0
        self.assertEqual(signal.SIGABRT, os.WTERMSIG(status))
        for name in os.listdir(self.state_dir):
            if re.match(r"core", name):
                os.unlink(os.path.join(self.state_dir, name))
                return True
        return os.WCOREDUMP(status)

    def test_a_crash_leaves_no_core_dump(self):
        def starts(process):
            wait_until(lambda: b"sleep" in read("/proc/%d/comm" % process.pid), 10, "it starts")

        def is_ready(_process):
            def answers():
                try:
                    return harness.http_get(int(environment["PORT"]), "/ready")[0] == 200
                except OSError:
                    return False
            wait_until(answers, 10, "it is ready")
        environment = harness.environment(self.world, self.state_dir)
        if not self.crash(["/usr/bin/sleep", "60"], environment, starts):
            self.skipTest("this machine dumps no core at all")
        self.assertFalse(self.crash([PROGRAM, "run"], environment, is_ready))


if __name__ == "__main__":
    harness.main()
