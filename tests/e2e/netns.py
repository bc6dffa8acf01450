"""netns.py - hosts on a switch: network namespaces that end with the test.

    home (the test and its stand-ins) 10.77.0.1 ─┐
    ingest                            10.77.0.2 ─┤
    decision                          10.77.0.3 ─┼─ a bridge in a namespace of its own,
    …                                            │  where links are cut and healed
                                                ─┘

A namespace here has no name in the file system: a descriptor of this process
is all that keeps it, so however the test ends, the kernel takes everything
back. The test itself moves into `home`, where its stand-ins listen; nothing of
the machine's own network is touched.

Cutting is done inside the switch and in silence: neither end is told, as when
somebody trips over a cable behind the next wall.
"""
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess

CLONE_NEWNET = 0x40000000
SUBNET = "10.77.0."
HOME = "home"
HOME_ADDRESS = SUBNET + "1"
COMMAND_SECONDS = 20
# What the switch needs: pairs of ports between which nothing passes.
SWITCH_RULES = """
table bridge wire {
    set dropped { type ifname . ifname; }
    chain passing {
        type filter hook forward priority 0; policy accept;
        iifname . oifname @dropped drop
    }
}
"""

libc = ctypes.CDLL(None, use_errno=True)


def checked(code, what):
    if code != 0:
        error = ctypes.get_errno()
        raise OSError(error, "%s: %s" % (what, os.strerror(error)))


def current():
    """A descriptor of the namespace that this thread is in."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def move_to(descriptor):
    checked(libc.setns(descriptor, CLONE_NEWNET), "setns")


@contextlib.contextmanager
def inside(descriptor):
    """This thread is there for a while; the sockets it makes stay there."""
    before = current()
    move_to(descriptor)
    try:
        yield
    finally:
        move_to(before)
        os.close(before)


def made():
    """A descriptor of a namespace that nobody else knows."""
    before = current()
    checked(libc.unshare(CLONE_NEWNET), "unshare")
    descriptor = current()
    move_to(before)
    os.close(before)
    return descriptor


def run_in(descriptor, *command, text=None):
    subprocess.run(command, check=True, timeout=COMMAND_SECONDS, input=text, text=True,
                   stdout=subprocess.DEVNULL, preexec_fn=lambda: move_to(descriptor))


def missing():
    """Why there can be no namespaces here; None when there can be."""
    for tool in ("ip", "nft"):
        if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return "%s is not installed" % tool
    if os.geteuid() != 0:
        return "network namespaces are made by root"
    return None


class Host:
    """One host: a namespace with one link to the switch, named after it."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.descriptor = made()

    def enter(self):
        """For preexec_fn: what is started is on this host."""
        move_to(self.descriptor)

    def connect(self, address, timeout=5):
        """A connection from this host."""
        with inside(self.descriptor):
            made_socket = socket.socket()
        try:
            made_socket.settimeout(timeout)
            made_socket.connect(address)
        except OSError:
            made_socket.close()
            raise
        return made_socket


class Switch:
    """The hosts and what lies between them. Made once a test program: the test
    moves into `home` and stays there."""

    def __init__(self, names):
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        self.hosts = {name: Host(name, SUBNET + str(number))
                      for number, name in enumerate((HOME, *names), 1)}
        self.descriptor = made()
        self.dropped = set()
        run_in(self.descriptor, "ip", "-batch", "-", text="link set lo up\n"
               "link add wire type bridge forward_delay 0\nlink set wire up\n")
        run_in(self.descriptor, "nft", "-f", "-", text=SWITCH_RULES)
        for host in self.hosts.values():
            self.plug(host)
        move_to(self.hosts[HOME].descriptor)

    def plug(self, host):
        there = "/proc/%d/fd/%d" % (os.getpid(), self.descriptor)
        run_in(host.descriptor, "ip", "-batch", "-", text=(
            "link set lo up\n"
            "link add eth0 type veth peer name {name} netns {there}\n"
            "address add {address}/24 dev eth0\n"
            "link set eth0 up\n").format(name=host.name, there=there, address=host.address))
        run_in(self.descriptor, "ip", "-batch", "-", text=(
            "link set {name} master wire\nlink set {name} up\n").format(name=host.name))

    def change(self, word, pairs):
        elements = ", ".join('"%s" . "%s"' % pair for pair in sorted(pairs))
        run_in(self.descriptor, "nft", "-f", "-",
               text="%s element bridge wire dropped { %s }\n" % (word, elements))

    def drop(self, *pairs):
        """From now on nothing passes from the first to the second of each pair."""
        added = set(pairs) - self.dropped
        if added:
            self.change("add", added)
        self.dropped |= added

    def cut(self, name, services=False):
        """Nothing passes between this host and the others, in both directions;
        with `services`, the services are out of reach too."""
        others = [other for other in self.hosts if other != name and (services or other != HOME)]
        self.drop(*[pair for other in others for pair in ((name, other), (other, name))])

    def heal(self):
        """Everything passes again."""
        if self.dropped:
            self.change("delete", self.dropped)
        self.dropped = set()
