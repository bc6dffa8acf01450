"""test_containers.py - the deployments of several containers, at work.

No engine runs here: each container is the program on a host of its own in a
network namespace, told exactly what docker-compose would tell it. Only the
places of files are those of this machine, and the services are stand-ins.
"""
import os
import shutil
import subprocess
import tempfile

import facts
import harness
import shapes
import test_compose

FILES = ("split.yaml", "shards.yaml")
SECONDS = 60
USERS = 40
# Names are found in a file of hosts of their own.
NAMED = 'mount --bind "$0" /etc/hosts && exec "$@"'


@harness.one_process("the deployments say themselves which processes there are")
class Containers(harness.Case):
    shape = shapes.named("netns-curve")

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="guerdon-containers.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        shutil.copytree(test_compose.COMPOSE, os.path.join(cls.folder, "compose"))
        for name in ("guerdon.env", "api_secret"):
            with open(os.path.join(cls.folder, "compose", name), "w", encoding="utf-8") as file:
                file.write(harness.SECRET if name == "api_secret" else "")
        cls.deployments = {file: test_compose.resolved(cls.folder, file)["services"] for file in FILES}
        if not shapes.missing(cls.shape):
            names = {name for services in cls.deployments.values() for name in services}
            shapes.found["switch"] = shapes.netns.Switch(sorted(names))

    def address(self, name):
        return shapes.switch().hosts[name].address

    def hosts_file(self, services):
        path = os.path.join(self.state_dir, "hosts")
        with open(path, "w", encoding="utf-8") as file:
            file.write("127.0.0.1 localhost\n")
            file.writelines("%s %s\n" % (self.address(name), name) for name in services)
        return path

    def keys(self, service):
        """The one-shot container: what it runs, with the volume where it is here."""
        folder = os.path.join(self.state_dir, "keys")
        os.mkdir(folder, 0o700)
        inside = service["volumes"][0].split(":")[1]
        shell, flag = service["entrypoint"]
        command = [shell, flag, service["command"][0].replace(inside, folder)]
        env = dict(facts.BARE, PATH=os.path.dirname(os.path.abspath(harness.PROGRAM)) + ":/usr/bin:/bin")
        for _ in range(2):  # `up` again finds the keys and leaves them alone
            subprocess.run(command, env=env, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
        return folder

    def container(self, name, service, keys, hosts, *more):
        told = {key: str(value) for key, value in service["environment"].items()}
        for secret in facts.secret_files() & set(told):
            told[secret] = os.path.join(self.folder, "compose", os.path.basename(told[secret]))
        told["CURVE_DIR"] = keys
        env = harness.environment(self.world, self.state_dir, HOST=None, PORT=None, API_SECRET=None)
        env.update(told, STATE_DIR=os.path.join(self.state_dir, name))
        worker = harness.Worker(env, [*service["command"], *more], env["STATE_DIR"],
                                ("unshare", "--mount", "sh", "-c", NAMED, hosts), name, shapes.switch().hosts[name])
        self.workers.append(worker)
        return worker

    def works(self, file):
        services = self.deployments[file]
        keys, hosts = self.keys(services["keygen"]), self.hosts_file(services)
        users = ["u%d" % number for number in range(USERS)]
        self.world.players(users)
        self.events.add_logins(users)
        tap = self.container("tap", services["tap"], keys, hosts, "--count", "1")
        running = [self.container(name, service, keys, hosts) for name, service in services.items()
                   if service["command"][0] == "run"]
        for worker in running:
            worker.wait_ready()
        self.assertEqual(0, tap.wait_exit(), tap.output())
        self.wait_rewarded(users)
        self.wait_acked(self.events.last())
        for worker in running:
            worker.stop()
        self.assert_each_once(users)
        return running

    def test_a_container_each(self):
        self.works("split.yaml")

    def test_two_shards_share_the_players(self):
        running = self.works("shards.yaml")
        self.assertEqual(2, len([worker for worker in running if worker.name.startswith("decision-")]))


if __name__ == "__main__":
    harness.main()
