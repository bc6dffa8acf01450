"""test_package.py - the Debian package: it is built, installed, run and removed.

dpkg installs it into a directory, with a copy of the machine's list of what is
installed: so dependencies are checked for real, the maintainer scripts run, and
the machine stays as it is.
"""
import gzip
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import facts
import harness

BUILD = os.path.dirname(os.path.dirname(os.path.abspath(harness.PROGRAM)))
SECONDS = 120
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"}


def run(*command, code=0, env=None, cwd=None):
    ran = subprocess.run(command, env=dict(ENVIRONMENT, **(env or {})), capture_output=True, text=True,
                         timeout=SECONDS, stdin=subprocess.DEVNULL, check=False, cwd=cwd)
    if ran.returncode != code:
        raise AssertionError("%s: exit %d\n%s%s" % (" ".join(command), ran.returncode, ran.stdout, ran.stderr))
    return ran.stdout


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="guerdon-package.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.file = cls.built("first")
        cls.control = dict(re.findall(r"^([\w-]+): (.*)$", run("dpkg-deb", "--field", cls.file), re.M))

    @classmethod
    def built(cls, name):
        """A package, made in a directory of that name."""
        folder = os.path.join(cls.folder, name)
        run("cpack", "-G", "DEB", "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-B", folder, cwd=BUILD)
        found = [one for one in os.listdir(folder) if one.endswith(".deb")]
        if len(found) != 1:
            raise AssertionError("cpack made %r" % found)
        return os.path.join(folder, found[0])

    def dpkg(self, root, *arguments, code=0):
        """dpkg on a root of its own, with a copy of the machine's database."""
        admin = os.path.join(root, "var", "lib", "dpkg")
        if not os.path.exists(admin):
            shutil.copytree("/var/lib/dpkg", admin, ignore=shutil.ignore_patterns("lock*", "info", "*-old"))
            os.mkdir(os.path.join(admin, "info"))
        return run("dpkg", "--root=" + root, "--force-not-root", "--force-script-chrootless",
                   "--log=" + os.path.join(root, "dpkg.log"), *arguments, code=code)

    def files(self, root):
        """What is there below the root, but for dpkg's own."""
        found = set()
        for folder, folders, names in os.walk(root):
            if folder == root:
                folders[:] = [one for one in folders if one != "var"]
            found |= {os.path.relpath(os.path.join(folder, one), root) for one in names}
        return found - {"dpkg.log"}

    def listing(self):
        """Path to (mode, owner) of what is in the package."""
        rows = re.findall(r"^(\S+) (\S+) +\d+ \S+ \S+ \./(\S+)$", run("dpkg-deb", "--contents", self.file), re.M)
        return {path: (mode, owner) for mode, owner, path in rows}

    def test_its_name_says_version_and_architecture(self):
        machine = run("dpkg", "--print-architecture").strip()
        self.assertEqual("guerdon_%s_%s.deb" % (facts.version(), machine), os.path.basename(self.file))
        self.assertEqual(("guerdon", facts.version(), machine),
                         tuple(self.control[name] for name in ("Package", "Version", "Architecture")))

    def test_it_holds_all_that_belongs_to_the_program(self):
        found = self.listing()
        for path in ("usr/bin/guerdon", "usr/lib/systemd/system/guerdon@.service",
                     "usr/lib/systemd/system/guerdon@all.service.d/role.conf",
                     "usr/lib/systemd/system/guerdon@sandbox.service.d/role.conf",
                     "usr/share/man/man1/guerdon.1.gz", "usr/share/bash-completion/completions/guerdon",
                     "etc/guerdon/guerdon.env"):
            self.assertIn(path, found)

    def test_everything_is_roots_and_can_be_read(self):
        for path, (mode, owner) in self.listing().items():
            expected = "drwxr-xr-x" if path.endswith("/") else \
                       "-rwxr-xr-x" if path.startswith("usr/bin/") else "-rw-r--r--"
            self.assertEqual((expected, "root/root"), (mode, owner), path)

    def test_it_depends_on_every_library_that_the_program_loads(self):
        wanted = re.findall(r"NEEDED.*\[(\S+)\]", run("readelf", "-d", harness.PROGRAM))
        self.assertGreater(len(wanted), 3)
        depends = set(re.findall(r"(?:^|, )([\w.+-]+)", self.control["Depends"]))
        for library in wanted:
            owners = {line.split(":")[0] for line in run("dpkg", "-S", "*/" + library).splitlines()}
            self.assertTrue(owners & depends, "%s is in %s, Depends is %s" % (library, owners, depends))
        self.assertIn("ca-certificates", depends)

    def test_two_builds_hold_the_same_bytes(self):
        other = self.built("second")
        sums = [run("sh", "-c", 'dpkg-deb --ctrl-tarfile "$1" | tar -xO ./md5sums', "sh", one)
                for one in (self.file, other)]
        self.assertEqual(*sums)

    def test_it_is_installed_runs_and_is_removed(self):
        root = os.path.join(self.folder, "root")
        self.dpkg(root, "--install", self.file)
        program = os.path.join(root, "usr", "bin", "guerdon")
        self.assertIn("install ok installed", self.dpkg(root, "--status", "guerdon"))
        self.assertEqual("guerdon %s\n" % facts.version(), run(program, "--version"))
        self.assertIn("API_SECRET=***", run(program, "check", "--sandbox"))
        # As it is installed nothing is set, and it says so.
        settings = os.path.join(root, "etc", "guerdon", "guerdon.env")
        run(program, "check", "--env-file", settings, code=facts.exit_codes()["configuration"])
        self.check_runs(program)
        with open(settings, "a", encoding="utf-8") as file:
            file.write("APP_1_NAME=game-one\n")
        self.dpkg(root, "--remove", "guerdon")
        self.assertEqual({"etc/guerdon/guerdon.env"}, self.files(root), "settings stay until they are purged")
        self.dpkg(root, "--purge", "guerdon")
        self.assertEqual(set(), self.files(root))

    def check_runs(self, program):
        """The installed program gives a reward."""
        state = os.path.join(self.folder, "state")
        os.mkdir(state)
        env = dict(ENVIRONMENT, STATE_DIR=state, PORT=str(harness.free_port()), SANDBOX_PORT="0")
        started = harness.PROGRAM
        self.addCleanup(setattr, harness, "PROGRAM", started)
        harness.PROGRAM = program
        worker = harness.Worker(env, ("run", "--sandbox"), state)
        harness.PROGRAM = started
        self.addCleanup(worker.discard)
        worker.wait_ready()
        for app in ("game-1", "game-2"):
            run(program, "emit", "LOGIN", "--user", "alice", "--from", app, env={"STATE_DIR": state})
        harness.wait_until(lambda: worker.counters() == (2, 1, 0, 1), 10, "alice is rewarded")
        worker.stop()

    def test_settings_of_the_operator_outlive_an_upgrade(self):
        root = os.path.join(self.folder, "upgraded")
        self.dpkg(root, "--install", self.file)
        settings = os.path.join(root, "etc", "guerdon", "guerdon.env")
        with open(settings, "a", encoding="utf-8") as file:
            file.write("APP_1_NAME=game-one\n")
        self.dpkg(root, "--install", self.file)
        with open(settings, encoding="utf-8") as file:
            self.assertIn("APP_1_NAME=game-one", file.read())

    def test_without_a_library_it_is_not_installed(self):
        """What the test of dependencies leans on: dpkg does look."""
        root = os.path.join(self.folder, "poor")
        self.dpkg(root, "--status", "dpkg")
        path = os.path.join(root, "var", "lib", "dpkg", "status")
        with open(path, encoding="utf-8") as file:
            kept = [one for one in file.read().split("\n\n") if not one.startswith("Package: libzmq5\n")]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n\n".join(kept))
        self.dpkg(root, "--install", self.file, code=1)

    def test_maintainer_scripts_are_clean(self):
        scripts = [os.path.join(harness.ROOT, "compose", "debian", name) for name in ("postinst", "prerm", "postrm")]
        run("shellcheck", *scripts, os.path.join(harness.ROOT, "compose", "completion", "guerdon.bash"))


class Manual(unittest.TestCase):
    """The manual page says what the program says."""
    path = os.path.join(harness.ROOT, "docs", "guerdon.1")
    text = facts.read("docs", "guerdon.1").replace("\\-", "-")

    def section(self, name):
        return re.search(r'^\.SH "?%s"?\n(.*?)(?=^\.SH|\Z)' % name, self.text, re.M | re.S)[1]

    def test_it_is_well_formed(self):
        ran = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", self.path], capture_output=True, text=True,
                             timeout=SECONDS, check=False)
        self.assertEqual((0, ""), (ran.returncode, ran.stderr))

    def test_it_has_every_command_and_no_other(self):
        found = re.findall(r"^\.SS guerdon (\w+)(.*)$", self.section("COMMANDS"), re.M)
        self.assertEqual(list(facts.commands()), [name for name, _ in found])
        for name, rest in found:
            self.assertEqual(facts.operand(name).replace("…", "..."), re.sub(r" ?\[OPTION\]\.\.\.", "", rest).strip(), name)

    def test_it_has_every_option_of_each_command_and_no_other(self):
        for part in self.section("COMMANDS").split(".SS guerdon ")[1:]:
            command = part.split()[0]
            found = re.findall(r"^\.BI? (--[a-z-]+)", part, re.M)
            wanted = [name for name in facts.options(command) if name not in ("--help", "--version")]
            self.assertEqual(wanted, found, command)

    def test_it_has_every_role(self):
        text = self.section("COMMANDS").partition("--role")[2].partition(".TP")[0]
        self.assertEqual(facts.roles(), re.findall(r"^\.BR ([a-z-]+) [,.]", text, re.M))

    def test_it_has_every_variable_and_no_other(self):
        found = re.findall(r"^\.T[PQ]\n\.B ([A-Z0-9_]+)$", self.section("ENVIRONMENT"), re.M)
        self.assertEqual(sorted(facts.variables()), sorted(found))

    def test_it_has_every_exit_code(self):
        found = re.findall(r"^\.B (\d+)$", self.section("EXIT STATUS"), re.M)
        self.assertEqual(sorted(facts.exit_codes().values()), [int(code) for code in found])

    def test_the_packed_page_is_this_one(self):
        with gzip.open(os.path.join(BUILD, "guerdon.1.gz"), "rt", encoding="utf-8") as file:
            self.assertEqual(facts.read("docs", "guerdon.1"), file.read())


class Completion(unittest.TestCase):
    def complete(self, *words):
        """What bash would offer for the last word; "=" is a word of its own, as in bash."""
        script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _guerdon; ' \
                 'printf "%s\\n" "${COMPREPLY[@]}"'
        path = os.path.join(harness.ROOT, "compose", "completion", "guerdon.bash")
        printed = run("bash", "-c", script, "bash", path, harness.PROGRAM, *words, cwd=self.folder)
        return sorted(line for line in printed.splitlines() if line)

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="guerdon-completion.")
        self.addCleanup(shutil.rmtree, self.folder, True)
        os.mkdir(os.path.join(self.folder, "keys"))
        with open(os.path.join(self.folder, "kept.env"), "w", encoding="utf-8"):
            pass

    def test_commands(self):
        self.assertEqual(sorted([*facts.commands(), "--help", "--version"]), self.complete(""))
        self.assertEqual(["check"], self.complete("che"))

    def test_options_of_every_command(self):
        for command in facts.commands():
            self.assertEqual(sorted(facts.options(command)), self.complete(command, "--"), command)
        self.assertEqual(["--env-file"], self.complete("run", "--env"))
        self.assertEqual([], self.complete("run", ""))

    def test_roles_and_lists_of_them(self):
        self.assertEqual(sorted(facts.roles()), self.complete("run", "--role", ""))
        self.assertEqual(["decision"], self.complete("run", "--role", "d"))
        self.assertEqual(["ingest,stats"], self.complete("run", "--role", "ingest,st"))
        self.assertEqual(["decision"], self.complete("run", "--role", "=", "d"))
        self.assertEqual(sorted(facts.roles()), self.complete("run", "--role", "="))

    def test_files_and_directories(self):
        self.assertEqual(["kept.env", "keys"], self.complete("run", "--env-file", "ke"))
        self.assertEqual(["kept.env", "keys"], self.complete("check", "--env-file", "=", "ke"))
        for command in facts.commands():
            wanted = ["keys"] if facts.operand(command) == "DIR" else []
            self.assertEqual(wanted, self.complete(command, "ke"), command)

    def test_choices(self):
        for command in facts.commands():
            for name, (argument, _) in facts.options(command).items():
                if "|" in argument:
                    self.assertEqual(sorted(argument.split("|")), self.complete(command, name, ""))

    def test_what_a_command_is_to_do(self):
        self.assertEqual(["drop", "ls", "retry", "show"], self.complete("dlq", ""))
        self.assertEqual(["show"], self.complete("dlq", "s"))
        self.assertEqual([], self.complete("dlq", "ls", ""))

    def test_what_is_no_command_brings_nothing(self):
        self.assertEqual([], self.complete("nothing", "--"))


if __name__ == "__main__":
    harness.main()
