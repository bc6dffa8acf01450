"""test_compose.py - the deployments in compose/: good as docker-compose reads them,
and nothing in them that the program does not know.

No engine runs here. So each container is read as docker-compose resolves it,
and what it would be told is told to the program itself.
"""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import yaml

import facts
import harness

COMPOSE = os.path.join(harness.ROOT, "compose")
SECONDS = 60
FILES = sorted(name for name in os.listdir(COMPOSE) if name.endswith(".yaml"))
# Words in capitals that are no variables.
UNIT_WORDS = {"INSTANCE", "ROLE"}
OURS = re.compile(r"(?:tcp|ipc|inproc)://[^,\s]+")


def resolved(folder, name, *arguments):
    """The deployment as docker-compose has it; fails with what it says."""
    env = {"PATH": os.environ["PATH"], "HOME": folder}
    ran = subprocess.run(["docker-compose", "-f", os.path.join(folder, "compose", name), *arguments, "config"],
                         env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    if ran.returncode != 0 or ran.stderr.strip():
        raise AssertionError("%s: %s" % (name, ran.stderr + ran.stdout))
    return yaml.safe_load(ran.stdout)


class Deployments(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="guerdon-compose.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        shutil.copytree(COMPOSE, os.path.join(cls.folder, "compose"))
        with open(os.path.join(cls.folder, "compose", "guerdon.env"), "w", encoding="utf-8") as file:
            file.writelines("%s=%s\n" % pair for pair in facts.example_environment().items())
        with open(os.path.join(cls.folder, "compose", "api_secret"), "w", encoding="utf-8") as file:
            file.write("k4nary\n")
        cls.found = {name: resolved(cls.folder, name) for name in FILES}

    def services(self):
        """(file, name, service) of all."""
        return [(file, name, service) for file, deployment in self.found.items()
                for name, service in deployment["services"].items()]

    def environment(self, service):
        """What the container is told, with the files where they are here."""
        env = {name: str(value) for name, value in service.get("environment", {}).items()}
        for name in facts.secret_files() & set(env):
            self.assertRegex(env[name], "^/run/secrets/")
            self.assertIn(os.path.basename(env[name]), [one["source"] for one in service["secrets"]])
            env[name] = os.path.join(self.folder, "compose", os.path.basename(env[name]))
        return env

    def runs(self):
        """Those whose container runs the worker: (file, name, service, roles)."""
        found = []
        for file, name, service in self.services():
            command = service.get("command", [])
            if command[:1] == ["run"]:
                role = command[command.index("--role") + 1] if "--role" in command else None
                found.append((file, name, service, role.split(",") if role else facts.roles()))
        return found

    def test_all_shapes_are_there(self):
        self.assertEqual(["all-in-one.sandbox.yaml", "all-in-one.yaml", "shards.yaml", "split.yaml"],
                         FILES)

    def test_every_variable_and_value_is_one_the_program_takes(self):
        for _, _, service, _ in self.runs():
            env = self.environment(service)
            arguments = ["--sandbox"] if "--sandbox" in service["command"] else []
            known = facts.configuration(env, *arguments)
            for name in set(env) - facts.secret_files():
                self.assertIn(name, known, "a variable the program does not know")
                self.assertEqual("environment", known[name][1])

    def test_the_other_containers_have_only_variables_the_program_knows(self):
        for _, _, service in self.services():
            names = set(service.get("environment") or {})
            self.assertLessEqual(names, set(facts.variables()) | facts.secret_files())

    def test_every_command_option_and_role_is_one_the_program_has(self):
        for _, _, service in self.services():
            words = service["command"]
            if service.get("entrypoint"):
                words = words[0].partition("guerdon ")[2].split()
            command, *rest = words
            self.assertIn(command, facts.commands())
            for word in rest:
                if word.startswith("--"):
                    self.assertIn(word, facts.options(command))
        for _, _, _, roles in self.runs():
            self.assertLessEqual(set(roles), set(facts.roles()))

    def test_every_role_runs_and_is_found_where_it_is_bound(self):
        for file, deployment in self.found.items():
            running = [(name, service, roles) for which, name, service, roles in self.runs() if which == file]
            with self.subTest(file=file):
                self.assertEqual(set(facts.roles()), {role for _, _, roles in running for role in roles})
                for name, service, roles in running:
                    if len(roles) == 1:
                        self.check_bound(deployment, name, service["environment"], roles[0])

    def check_bound(self, deployment, name, env, role):
        """Its entry of the list is its own name, and the port it binds."""
        variable = role.upper().replace("-", "_")
        if variable + "_ENDPOINT" not in facts.variables():
            self.assertNotIn(variable + "_BIND", env)  # bound nowhere
            return
        entries = env[variable + "_ENDPOINT"].split(",")
        index = int(env.get("DECISION_SHARD", 0)) if role == "decision" else 0
        host, port = re.fullmatch(r"tcp://([\w-]+):(\d+)", entries[index]).groups()
        self.assertEqual(name, host)
        self.assertEqual("tcp://0.0.0.0:" + port, env[variable + "_BIND"])
        for entry in entries:
            self.assertIn(OURS.fullmatch(entry)[0].split("/")[2].split(":")[0], deployment["services"])

    def test_all_containers_agree_on_where_everybody_is(self):
        for file in FILES:
            told = [{key: value for key, value in service["environment"].items() if key.endswith("_ENDPOINT")}
                    for which, _, service, _ in self.runs() if which == file]
            self.assertEqual([told[0]] * len(told), told, file)

    def test_the_shards_are_numbered_without_a_gap(self):
        shards = [service["environment"] for file, _, service, roles in self.runs()
                  if file == "shards.yaml" and roles == ["decision"]]
        self.assertEqual(["0", "1"], sorted(env["DECISION_SHARD"] for env in shards))
        self.assertEqual(len(shards), len(shards[0]["DECISION_ENDPOINT"].split(",")))

    def test_each_decision_has_a_volume_of_its_own_for_its_journal(self):
        for file in FILES:
            found = []
            for which, _, service, roles in self.runs():
                if which == file and "decision" in roles:
                    volumes = [mount for mount in map(str, service["volumes"]) if "/var/lib/guerdon" in mount]
                    self.assertEqual(1, len(volumes), service)
                    self.assertFalse(service.get("tmpfs"))
                    found += volumes
            self.assertTrue(found, file)
            self.assertEqual(len(found), len(set(found)), file)

    def test_what_leaves_a_container_is_encrypted(self):
        for _, _, service, _ in self.runs():
            env = service.get("environment", {})
            if any("tcp://" in value for name, value in env.items() if name.endswith(("_ENDPOINT", "_BIND"))):
                self.assertIn("CURVE_DIR", env)
                keys = [one for one in service["volumes"] if env["CURVE_DIR"] in one]
                self.assertEqual(1, len(keys))
                self.assertTrue(keys[0].endswith(":ro"))
            self.assertNotIn("ALLOW_PLAINTEXT", env)

    def test_the_tap_looks_at_every_process(self):
        for file, deployment in self.found.items():
            if "tap" not in deployment["services"]:
                continue
            asked = [word for word in deployment["services"]["tap"]["command"] if "://" in word]
            running = {name: service["environment"]["TAP_ENDPOINT"]
                       for which, name, service, _ in self.runs() if which == file}
            self.assertEqual(sorted("tcp://%s:%s" % (name, bound.rpartition(":")[2])
                                    for name, bound in running.items()), sorted(asked))

    def test_published_ports_are_the_status_pages_on_loopback(self):
        for file, deployment in self.found.items():
            outside = []
            for service in deployment["services"].values():
                for published in service.get("ports", ()):
                    address, port, inside = published.split(":")
                    self.assertEqual("127.0.0.1", address)
                    self.assertEqual(facts.variables()["PORT"], inside.partition("/")[0])
                    outside.append(port)
            self.assertEqual(len(set(outside)), len(outside), file)
        for _, _, service, _ in self.runs():
            arguments = ["--sandbox"] if "--sandbox" in service["command"] else []
            heard = facts.configuration(self.environment(service), *arguments)["HOST"][0]
            self.assertEqual("0.0.0.0", heard, "nobody outside the container would reach it")

    def test_no_container_can_do_more_than_it_needs(self):
        for _, _, service in self.services():
            self.assertTrue(service["read_only"])
            self.assertEqual(["ALL"], service["cap_drop"])
            self.assertEqual(["no-new-privileges:true"], service["security_opt"])
            self.assertNotIn("privileged", service)
            self.assertNotIn("user", service, "the image has its own")

    def test_what_is_under_way_may_be_finished(self):
        drain = int(facts.variables()["DRAIN_SECONDS"])
        for _, _, service, _ in self.runs():
            self.assertGreater(int(re.fullmatch(r"(\d+)s", service["stop_grace_period"])[1]), drain)

    def test_state_has_a_place_that_can_be_written(self):
        image = facts.read("compose", "Dockerfile")
        state = re.search(r"STATE_DIR=(\S+)", image)[1]
        for _, _, service, _ in self.runs():
            mounts = [one.split(":")[1] for one in service.get("volumes", ())] + \
                     [one.split(":")[0] for one in service.get("tmpfs", ())]
            self.assertIn(service.get("environment", {}).get("STATE_DIR", state), mounts)

    def test_secrets_are_in_no_file(self):
        for name in FILES + ["Dockerfile", "guerdon.env.example"]:
            text = facts.read("compose", name)
            for variable in (secret[:-len("_FILE")] for secret in facts.secret_files()):
                self.assertNotRegex(text, r"\b%s\b *[:=]" % variable)

    def test_a_mistake_is_seen(self):
        """What the others lean on: docker-compose and the program do complain."""
        folder = tempfile.mkdtemp(prefix="guerdon-compose.")
        self.addCleanup(shutil.rmtree, folder, True)
        os.mkdir(os.path.join(folder, "compose"))
        with open(os.path.join(folder, "compose", "bad.yaml"), "w", encoding="utf-8") as file:
            file.write(facts.read("compose", "all-in-one.sandbox.yaml").replace("read_only", "readonly"))
        with self.assertRaisesRegex(AssertionError, "readonly"):
            resolved(folder, "bad.yaml")
        with self.assertRaisesRegex(AssertionError, "DECISION_ENDPOINT"):
            facts.configuration({"DECISION_ENDPOINT": "udp://decision:1"}, "--sandbox")


class Example(unittest.TestCase):
    def test_the_example_is_a_configuration_once_it_is_filled_in(self):
        example = facts.example_environment()
        found = facts.configuration(dict(example, API_SECRET="k4nary"))
        for name, value in example.items():
            self.assertEqual((value, "environment"), found[name])

    def test_nothing_is_set_before_it_is_filled_in(self):
        for line in facts.read("compose", "guerdon.env.example").splitlines():
            self.assertRegex(line, r"^(#.*)?$")

    def test_an_env_file_means_the_same_to_the_program(self):
        with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
            file.writelines("%s=%s\n" % pair for pair in facts.example_environment().items())
            file.write("API_SECRET=k4nary\n")
            file.flush()
            found = facts.configuration(None, "--env-file", file.name)
        for name, value in facts.example_environment().items():
            self.assertEqual((value, "file"), found[name])


class Image(unittest.TestCase):
    text = facts.read("compose", "Dockerfile").replace("\\\n", " ")

    def installed(self):
        """What the Dockerfile itself asks apt-get for."""
        found = set()
        for words in re.findall(r"apt-get [^&\n]*?install ([^&\n]*)", self.text):
            found |= {word for word in words.split() if not word.startswith("-")}
        return found

    def test_its_packages_are_those_of_the_project(self):
        self.assertIn("bin/setup --packages", self.text)
        found = self.installed()
        ours = {word for word in found if word.startswith("/tmp/guerdon_")}
        self.assertEqual(1, len(ours), "the last stage installs our package")
        self.assertLessEqual(found - ours, facts.packages("build", "test"))

    def test_it_builds_in_stages_on_slim_debian_and_runs_as_a_user(self):
        self.assertEqual({"debian:bookworm-slim"}, set(re.findall(r"^FROM (\S+)", self.text, re.M)))
        self.assertEqual(2, len(re.findall(r"^FROM ", self.text, re.M)))
        user = re.findall(r"^USER (\S+)", self.text, re.M)
        self.assertEqual(1, len(user))
        self.assertRegex(self.text, r"useradd [^&]*\b%s\b" % user[0])

    def test_the_health_check_asks_a_page_that_the_program_has(self):
        check = re.search(r"^HEALTHCHECK .*? CMD (.*)$", self.text, re.M)[1]
        self.assertIn("${PORT:-%s}/health" % facts.variables()["PORT"], check)
        self.assertIn(facts.variables()["PORT"], re.findall(r"^EXPOSE (\d+)", self.text, re.M))
        folder = tempfile.mkdtemp(prefix="guerdon-state.")
        self.addCleanup(shutil.rmtree, folder, True)
        port = harness.free_port()
        env = {"PATH": "/usr/bin:/bin", "HOME": folder, "STATE_DIR": folder, "PORT": str(port), "SANDBOX_PORT": "0"}
        self.assertNotEqual(0, subprocess.run(["sh", "-c", check], env=env, capture_output=True, timeout=SECONDS,
                                              check=False).returncode)
        worker = harness.Worker(env, ("run", "--sandbox"), folder)
        self.addCleanup(worker.discard)
        worker.wait_ready()
        subprocess.run(["sh", "-c", check], env=env, check=True, timeout=SECONDS)
        worker.stop()

    def test_its_variables_and_command_are_ones_the_program_knows(self):
        for name in re.findall(r"^ENV (\w+)=", self.text, re.M):
            self.assertIn(name, facts.variables())
        self.assertIn(re.search(r'^CMD \["(\w+)"\]', self.text, re.M)[1], facts.commands())

    def test_every_file_that_it_copies_is_there(self):
        for words in re.findall(r"^COPY (?!--from)(.*) \S+$", self.text, re.M):
            for path in words.split():
                self.assertTrue(os.path.exists(os.path.join(harness.ROOT, path)), path)


class Document(unittest.TestCase):
    """docs/deploy.md keeps its word."""
    text = facts.read("docs", "deploy.md")

    def blocks(self, info):
        return re.findall(r"^ *```%s\n(.*?)^ *```$" % info, self.text, re.M | re.S)

    def test_every_command_option_and_role_is_one_the_program_has(self):
        lines = [line for block in self.blocks("sh") + self.blocks("ini") for line in block.splitlines()]
        found = re.findall(r"(?:^ *(?:[A-Z_]+=\S+ )*|/usr/bin/)guerdon (\S+)(.*)$", "\n".join(lines), re.M)
        self.assertGreater(len(found), 5)
        for command, rest in found:
            self.assertIn(command, facts.commands())
            self.assertLessEqual(set(re.findall(r"--[a-z-]+", rest)), set(facts.options(command)))
            for roles in re.findall(r"--role (\S+)", rest):
                self.assertLessEqual(set(roles.split(",")), set(facts.roles()))

    def test_every_variable_and_value_is_one_the_program_takes(self):
        blocks = self.blocks("sh env")
        self.assertGreater(len(blocks), 3)
        for block in blocks:
            told = dict(line.strip().split("=", 1) for line in block.splitlines())
            known = facts.configuration(told, "--sandbox")
            self.assertEqual({name: (value, "environment") for name, value in told.items()},
                             {name: known.get(name) for name in told})
        for name in re.findall(r"`([A-Z][A-Z_]{3,})(?:=\S*)?`", self.text):
            self.assertIn(name, set(facts.variables()) | facts.secret_files() | UNIT_WORDS)

    def test_every_deployment_and_instance_is_told(self):
        self.assertEqual(sorted(FILES), sorted(re.findall(r"^\| `compose/(\S+)`", self.text, re.M)))
        units = os.listdir(os.path.join(COMPOSE, "systemd"))
        for instance in re.findall(r"guerdon@(\w+)\.service\.d", " ".join(units)):
            self.assertIn("`guerdon@%s.service`" % instance, self.text)

    def test_a_user_of_the_image_is_the_one_of_the_document(self):
        user = re.search(r"--uid (\d+)", Image.text)[1]
        self.assertIn("user %s" % user, self.text)
        for name in FILES:
            for owner in re.findall(r"(?:-o |uid=)(\d+)", facts.read("compose", name)):
                self.assertEqual(user, owner)


if __name__ == "__main__":
    harness.main()
