#!/usr/bin/env python3
"""confine.py UNIT WRITABLE COMMAND… - runs a command under the rules of a systemd unit.

There is no systemd to ask where tests run, so what it would do is done here,
from the lines of the unit: the filters of system calls, of socket families and
of memory that is written and executed; and for root, another user without
capabilities, and file systems that are read-only and without programs but for
what the unit names. WRITABLE is the one directory that stays writable.

A system call beyond the filter kills the process with SIGSYS here, where the
unit would answer with an error: so a test cannot miss it.
"""
import ctypes
import os
import signal
import socket
import subprocess
import sys

KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
EQUAL, MASKED_EQUAL = 4, 7
PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
FAMILIES = 46  # the kernel's AF_MAX
EAFNOSUPPORT = 97
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
AT_FDCWD, AT_RECURSIVE, MOUNT_SETATTR = -100, 0x8000, 442
ATTR_RDONLY, ATTR_NOSUID, ATTR_NOEXEC = 1, 2, 8
NOBODY = 65534

libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result != 0:
        code = -result if result < -1 else ctypes.get_errno()
        raise OSError(code, "%s: %s" % (what, os.strerror(code)))


# ---- the unit ----------------------------------------------------------------


def settings(path):
    """Name to its values in order; an empty value forgets those before it."""
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, equals, value = line.strip().partition("=")
            if equals and not line.startswith(("#", ";")):
                found[name] = found.get(name, []) + [value] if value else []
    return found


def calls_of(name):
    """The system calls of a name, which may be a group of groups."""
    if not name.startswith("@"):
        return {name}
    listing = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", name], check=True,
                             capture_output=True, text=True).stdout
    names = [line.split()[0] for line in listing.splitlines()[1:]
             if line.strip() and not line.strip().startswith("#")]
    return set().union(*(calls_of(one) for one in names))


def allowed_calls(unit):
    """What is left after the lines in their order: an allow list, `~` takes away."""
    found = calls_of("@default")
    for line in unit["SystemCallFilter"]:
        calls = set().union(*(calls_of(name) for name in line.lstrip("~").split()))
        found = found - calls if line.startswith("~") else found | calls
    return found


# ---- system calls ------------------------------------------------------------


class Compare(ctypes.Structure):
    """libseccomp's struct scmp_arg_cmp."""
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int),
                ("first", ctypes.c_uint64), ("second", ctypes.c_uint64)]


class Filter:
    """A filter of libseccomp; each one loaded can only take more away."""

    def __init__(self, action):
        self.library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self.library.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.library.seccomp_init(ctypes.c_uint32(action)))

    def rule(self, action, name, *compares):
        number = self.library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # of another architecture or a newer kernel
        array = (Compare * len(compares))(*compares)
        check(self.library.seccomp_rule_add_array(self.context, ctypes.c_uint32(action), number,
                                                  len(compares), array), name)

    def load(self):
        check(self.library.seccomp_load(self.context), "seccomp")


def filter_calls(calls):
    found = Filter(KILL)
    for name in sorted(calls):
        found.rule(ALLOW, name)
    found.load()


def filter_families(unit):
    wanted = {int(getattr(socket, name)) for line in unit["RestrictAddressFamilies"]
              for name in line.split()}
    found = Filter(ALLOW)
    for family in set(range(FAMILIES)) - wanted:
        found.rule(ERRNO | EAFNOSUPPORT, "socket", Compare(0, EQUAL, family, 0))
    found.load()


def filter_memory():
    found = Filter(ALLOW)
    both = PROT_WRITE | PROT_EXEC
    found.rule(KILL, "mmap", Compare(2, MASKED_EQUAL, both, both))
    found.rule(KILL, "mprotect", Compare(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC))
    found.rule(KILL, "pkey_mprotect", Compare(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC))
    found.rule(KILL, "shmat", Compare(2, MASKED_EQUAL, SHM_EXEC, SHM_EXEC))
    found.load()


# ---- file systems and user ---------------------------------------------------


def bind(path):
    check(libc.mount(path.encode(), path.encode(), None, MS_BIND, None), "mount " + path)


def change(path, give=0, take=0, flags=0):
    attributes = (ctypes.c_uint64 * 4)(give, take, 0, 0)
    check(libc.syscall(MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, attributes, 32),
          "mount_setattr " + path)


def hide_files(unit, writable, program):
    """Everything is read-only but one directory, and nothing can be executed but
    what the unit names; the program stands for /usr/bin/guerdon."""
    check(libc.unshare(CLONE_NEWNS), "unshare")
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
    programs = [os.path.realpath(path) for line in unit["ExecPaths"] for path in line.split()
                if path != "/usr/bin/guerdon"] + [os.path.realpath(program)]
    for path in programs + [writable]:
        bind(path)
    change("/", give=ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC, flags=AT_RECURSIVE)
    for path in programs:
        change(path, take=ATTR_NOEXEC)
    change(writable, take=ATTR_RDONLY)
    for path, _, _ in os.walk(writable):
        os.chown(path, NOBODY, NOBODY)
    os.chdir("/")


def become_nobody():
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for capability in range(last + 1):
        check(libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def main(path, writable, *command):
    unit = settings(path)
    calls = allowed_calls(unit)
    if os.geteuid() == 0:
        hide_files(unit, writable, command[0])
        become_nobody()
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    os.umask(int(unit["UMask"][-1], 8))
    filter_families(unit)
    filter_memory()
    filter_calls(calls)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
