"""facts.py - what the program says of itself: commands, options, variables, roles.

What is written beside the program (deployments, units, the manual page) is
compared with this, so no test keeps a copy of its own.
"""
import functools
import os
import re
import subprocess

import harness

SECONDS = 10
BARE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


def ask(*arguments, env=None, code=0):
    """What the program prints."""
    ran = subprocess.run([harness.PROGRAM, *arguments], env=env or BARE, capture_output=True,
                         text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, check=False)
    if ran.returncode != code:
        raise AssertionError("guerdon %s: exit %d\n%s%s" % (" ".join(arguments), ran.returncode,
                                                            ran.stdout, ran.stderr))
    return ran.stdout


@functools.cache
def version():
    return ask("--version").split()[1]


@functools.cache
def commands():
    """Name to the line that --help has for it."""
    listed = ask("--help").split("Commands:\n")[1].split("\n\n")[0]
    return dict(line.split(None, 1) for line in listed.splitlines())


@functools.cache
def options(command):
    """Name with dashes to (argument or "", help)."""
    listed = ask(command, "--help").split("\nOptions:\n")[1]
    found = {}
    for line in listed.splitlines():
        match = re.match(r"  (--[a-z-]+)(?: (\S+))? {2,}(\S.*)$", line)
        if match:
            found[match[1]] = (match[2] or "", match[3])
    return found


@functools.cache
def operand(command):
    """What stands behind the command in its usage; "" for none."""
    usage = ask(command, "--help").splitlines()[0]
    return usage.partition("guerdon %s" % command)[2].replace("[OPTION…]", "").strip()


@functools.cache
def roles():
    """As the help of --role lists them."""
    _, text = options("run").get("--role", ("", ""))
    return re.findall(r"[a-z-]+", text.rpartition(":")[2])


@functools.cache
def exit_codes():
    """Meaning to number, from --help."""
    return {meaning: int(code) for code, meaning in
            re.findall(r"(\d+) (\w+)", ask("--help").split("Exit codes:")[1].split(".")[0])}


def configuration(env=None, *arguments):
    """Name to (value, origin), as `check` prints it."""
    printed = ask("check", *arguments, env=dict(BARE, **(env or {})))
    rows = re.findall(r"^([A-Z0-9_]+)=(.*?) +(not set|environment|file|default|sandbox)$",
                      printed, re.M)
    return {name: (value, origin) for name, value, origin in rows}


@functools.cache
def variables():
    """Every variable, to its default."""
    return {name: value for name, (value, _) in configuration(None, "--sandbox").items()}


@functools.cache
def secret_files():
    """NAME_FILE of every secret: those whose value is masked."""
    return {name + "_FILE" for name, value in variables().items() if value == "***"}


def read(*path):
    """A file of the repository."""
    with open(os.path.join(harness.ROOT, *path), encoding="utf-8") as file:
        return file.read()


def packages(*sections):
    """The packages of bin/packages, of the sections named."""
    found, section = set(), None
    for line in read("bin", "packages").splitlines():
        word = line.partition("#")[0].strip()
        if word.startswith("["):
            section = word.strip("[]")
        elif word and section in sections:
            found.add(word)
    return found


def example_environment():
    """The example of an env-file with everything in it set."""
    lines = re.findall(r"^#([A-Z0-9_]+)=(.*)$", read("compose", "guerdon.env.example"), re.M)
    return dict(lines)
