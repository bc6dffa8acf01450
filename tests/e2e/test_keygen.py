"""test_keygen.py - the certificates of keygen, and a program that finds them wrong."""
import os
import re
import stat
import subprocess
import tempfile
import unittest

import harness
from harness import PROGRAM

EXIT_FAILED, EXIT_USAGE = 1, 64
ROLES = ("ingest", "decision", "usermeta-client", "currency-client", "stats")
NAMES = ROLES + ("mirror", "tap")
FILES = sorted(name + suffix for name in NAMES for suffix in (".cert", ".cert_secret"))


def keygen(*arguments, umask=0o022):
    return subprocess.run([PROGRAM, "keygen", *arguments], capture_output=True, text=True, timeout=20,
                          check=False, preexec_fn=lambda: os.umask(umask))


def read(*path):
    with open(os.path.join(*path), encoding="ascii") as file:
        return file.read()


class Keygen(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="guerdon-keygen.")
        self.addCleanup(scratch.cleanup)
        self.directory = os.path.join(scratch.name, "keys")

    def mode(self, *path):
        return stat.S_IMODE(os.stat(os.path.join(self.directory, *path)).st_mode)

    def test_every_file_and_only_for_its_owner(self):
        for umask in (0o000, 0o022, 0o077):
            with self.subTest("umask %o" % umask):
                directory = self.directory + "%o" % umask
                self.assertEqual(0, keygen(directory, umask=umask).returncode)
                self.assertEqual(FILES, sorted(os.listdir(directory)))
                self.assertEqual(0o700, self.mode(directory))
                for name in FILES:
                    self.assertEqual(0o600, self.mode(directory, name), name)

    def test_what_is_in_them(self):
        keygen(self.directory)
        keys = set()
        for name in NAMES:
            public = read(self.directory, name + ".cert")
            secret = read(self.directory, name + ".cert_secret")
            key = re.search(r'^    public-key = "(.{40})"$', public, re.M).group(1)
            self.assertIn('    public-key = "%s"\n' % key, secret)
            self.assertIn('    role = "%s"\n' % name, public)
            self.assertNotIn("secret-key", public)
            keys.add(key)
            keys.add(re.search(r'^    secret-key = "(.{40})"$', secret, re.M).group(1))
        self.assertEqual(2 * len(NAMES), len(keys))

    def test_it_says_what_goes_where_and_shows_no_secret(self):
        run = keygen(self.directory)
        self.assertEqual("", run.stderr)
        for name in FILES:
            self.assertRegex(run.stdout, r"(?m)[ ]%s( |$)" % re.escape(name))
        self.assertRegex(run.stdout, r"(?m)^ +decision\.cert_secret ingest\.cert usermeta-client\.cert "
                                     r"currency-client\.cert stats\.cert$")
        for name in NAMES:
            secret = re.search(r'secret-key = "(.{40})"', read(self.directory, name + ".cert_secret")).group(1)
            self.assertNotIn(secret, run.stdout)

    def test_nothing_is_overwritten_and_nothing_half_written(self):
        for name in (FILES[0], FILES[5], FILES[-1]):
            with self.subTest(name):
                directory = self.directory + name
                os.mkdir(directory)
                path = os.path.join(directory, name)
                with open(path, "w", encoding="ascii") as file:
                    file.write("precious")
                run = keygen(directory)
                self.assertEqual(EXIT_FAILED, run.returncode)
                self.assertIn(path, run.stderr)
                self.assertEqual([name], os.listdir(directory))
                self.assertEqual("precious", read(path))

    def test_a_second_time(self):
        keygen(self.directory)
        before = {name: read(self.directory, name) for name in FILES}
        run = keygen(self.directory)
        self.assertEqual(EXIT_FAILED, run.returncode)
        self.assertRegex(run.stderr, "exists")
        self.assertEqual(before, {name: read(self.directory, name) for name in FILES})

    def test_a_dangling_link_is_not_followed(self):
        os.mkdir(self.directory)
        os.symlink("elsewhere", os.path.join(self.directory, "tap.cert_secret"))
        self.assertEqual(EXIT_FAILED, keygen(self.directory).returncode)
        self.assertEqual(["tap.cert_secret"], os.listdir(self.directory))

    def test_where_it_cannot_write(self):
        run = keygen(os.path.join(self.directory, "a", "b"))
        self.assertEqual(EXIT_FAILED, run.returncode)
        self.assertIn(os.path.join(self.directory, "a", "b"), run.stderr)
        with open(self.directory, "w", encoding="ascii"):
            pass
        self.assertEqual(EXIT_FAILED, keygen(self.directory).returncode)
        self.assertEqual(EXIT_FAILED, keygen(os.path.dirname(self.directory) + "/" + "x" * 300).returncode)

    def test_usage(self):
        for arguments in ((), ("",), ("a", "b"), ("--force", "a")):
            with self.subTest(arguments):
                self.assertEqual(EXIT_USAGE, keygen(*arguments).returncode)
        run = keygen("--help")
        self.assertEqual(0, run.returncode)
        self.assertRegex(run.stdout, "never overwrites")
        self.assertIn("keygen", subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, timeout=20,
                                               check=False).stdout)


if __name__ == "__main__":
    harness.main()
