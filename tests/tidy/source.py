"""source.py RULE ROOT - the rules of the house that a look at the source can check.

Each rule is a function over the files; it gives complaints of the form
path:line: what is wrong.
"""
import os
import re
import subprocess
import sys

FLOORS = ("proto", "include", "actors", "bin", "tests")
LENGTH_MAX = 70

# The files that see each library, one where that is possible; tests may see any.
LIBRARIES = {
    "msgpack": ("proto/codec.c",),
    "zmq": ("actors/base/bus.c", "actors/base/tap.c", "actors/base/desk.c", "actors/base/curve.c",
            "actors/base/certificate.c"),
    "czmq": (),
    "curl": ("actors/base/http_client.c",),
    "microhttpd": ("actors/base/http_server.c",),
    "sqlite3": ("actors/base/store.c",),
    "yajl": ("actors/base/json.c",),
}
# What the floors of the pure cores may include of the system.
PURE_HEADERS = {"assert.h", "inttypes.h", "limits.h", "stdarg.h", "stdbool.h", "stddef.h", "stdint.h",
                "stdio.h", "string.h"}
BANNED = ("strcpy", "strcat", "sprintf", "vsprintf", "gets", "atoi", "atol", "strtok", "sleep", "usleep")
# Tables in the form of macros, laid out by hand.
UNFORMATTED = {"proto/message.c", "proto/message.h"}
PRIVATE_PATHS = tuple(f"/{name}/" for name in ("work", "root", "home"))


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def sources(root):
    """Every .c and .h of the house, by its path from the root."""
    for floor in FLOORS:
        for folder, folders, files in os.walk(os.path.join(root, floor)):
            folders.sort()
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def blank(match):
    """As many lines, and nothing in them."""
    return re.sub(r"[^\n]", " ", match.group(0))


def without_comments(text, strings=True):
    """The code alone, every line in its place; strings too are blanked, but in includes."""
    pattern = r"/\*.*?\*/|//[^\n]*"
    literal = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def replace(match):
        piece = match.group(0)
        if piece[0] == "/" or strings:
            return blank(match)
        return piece
    return re.sub(f"{pattern}|{literal}", replace, text, flags=re.S)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def includes(root, path):
    """Line, quoted or not, and name of every include."""
    code = without_comments(read(root, path), strings=False)
    for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', code, re.M):
        yield line_of(code, match.start()), match.group(1) == '"', match.group(2)


def place(path):
    """The floor of a file, and its room on the floor of actors."""
    parts = path.split("/")
    return parts[0], parts[1] if parts[0] == "actors" and len(parts) > 2 else ""


def may_include(path, other):
    """Includes go down, never up or sideways."""
    (floor, room), (other_floor, other_room) = place(path), place(other)
    if other_floor not in FLOORS or FLOORS.index(other_floor) > FLOORS.index(floor):
        return False
    if floor == "actors" == other_floor:
        return room == other_room or (room == "sandbox" and other_room == "base")
    return True


def is_pure(path):
    floor, room = place(path)
    return floor in ("proto", "include") or (floor == "actors" and room not in ("base", "sandbox"))


def directions(root):
    for path in sources(root):
        for line, quoted, name in includes(root, path):
            if quoted and not os.path.isfile(os.path.join(root, name)):
                yield f"{path}:{line}: \"{name}\" is not a path from the root"
            elif quoted and not may_include(path, name):
                yield f"{path}:{line}: \"{name}\" is not below {os.path.dirname(path)}"
            elif not quoted and is_pure(path) and name not in PURE_HEADERS and library(name) is None:
                yield f"{path}:{line}: <{name}> has no place in what is pure"


def library(name):
    return next((key for key in LIBRARIES if re.match(rf"{key}(\.h|/|_)", name)), None)


def libraries(root):
    for path in sources(root):
        for line, _, name in includes(root, path):
            owners = LIBRARIES.get(library(name) or "", (path,))
            if path not in owners and place(path)[0] != "tests":
                yield f"{path}:{line}: <{name}> belongs to {' and '.join(owners) or 'the tests'} alone"


def declarations(text):
    """Line from, line to (from 0) and code of each declaration at the top of a header."""
    code = without_comments(text)
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, code, flags=re.M)
    start, depth = None, 0
    for at, char in enumerate(code):
        if start is None and not char.isspace():
            start = at
        if start is None:
            continue
        depth += (char in "{(") - (char in "})")
        body_ends = char == "}" and depth == 0 and re.search(r"\)\s*\{", code[start:at])
        if depth == 0 and (char == ";" or body_ends):
            yield line_of(code, start) - 1, line_of(code, at) - 1, code[start:at + 1]
            start = None


def prototypes(root):
    """A comment right above a prototype, or above the group that it stands in."""
    for path in sources(root):
        if not path.endswith(".h") or path.startswith("tests/"):
            continue
        text = read(root, path)
        lines = text.splitlines()
        group_ends = None  # the last line of a declaration that has its comment
        for first, last, code in declarations(text):
            above = lines[first - 1].strip() if first > 0 else ""
            documented = above.endswith("*/") or "/*" in lines[last] or group_ends == first - 1
            if documented:
                group_ends = last
            elif "(" in code and not re.match(r"(struct|union|enum)\b[^(]*\{|typedef\b|_Static_assert", code):
                name = re.search(r"(\w+)\s*\(", code)
                yield f"{path}:{first + 1}: {name.group(1) if name else code} has no comment"


def banned(root):
    call = re.compile(rf"\b({'|'.join(BANNED)})\s*\(")
    for path in sources(root):
        code = without_comments(read(root, path))
        for match in call.finditer(code):
            yield f"{path}:{line_of(code, match.start())}: {match.group(1)} is banned"


def length(root):
    """From the brace on its own line to the one that closes it."""
    for path in sources(root):
        lines = without_comments(read(root, path)).splitlines()
        start = None
        for number, line in enumerate(lines):
            if line.startswith("{"):
                start = number
            elif line.startswith("}") and start is not None:
                if number - start - 1 > LENGTH_MAX:
                    yield f"{path}:{start}: a function of {number - start - 1} lines, more than {LENGTH_MAX}"
                start = None


def tracked(root):
    """What is under version control; without it, what there is."""
    listing = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, check=False)
    if listing.returncode == 0 and listing.stdout:
        paths = listing.stdout.decode("utf-8", "surrogateescape").split("\0")
        return [path for path in paths if path and os.path.isfile(os.path.join(root, path))]
    return list(sources(root))


def words(root):
    """Paths of the machine that something was made on."""
    for path in tracked(root):
        for number, line in enumerate(read(root, path).splitlines(), 1):
            for word in PRIVATE_PATHS:
                if word in line:
                    yield f"{path}:{number}: {word} is a path of one machine"


def format_(root):
    paths = [path for path in sources(root) if path not in UNFORMATTED]
    if not paths:
        return
    try:
        run = subprocess.run(["clang-format", "--dry-run", "-Werror", "--ferror-limit=1", *paths], cwd=root,
                             capture_output=True, text=True, check=False)
    except FileNotFoundError:
        yield "clang-format is not installed"
        return
    for line in run.stderr.splitlines():
        if re.match(r"\S+:\d+:\d+: ", line):
            yield line
    if run.returncode != 0 and not run.stderr:
        yield f"clang-format failed with {run.returncode}"


RULES = {"directions": directions, "libraries": libraries, "prototypes": prototypes, "banned": banned,
         "length": length, "words": words, "format": format_}


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in RULES:
        print(f"usage: source.py {'|'.join(RULES)} ROOT", file=sys.stderr)
        return 64
    if not list(sources(arguments[1])):
        print(f"no source below {arguments[1]}")
        return 1
    complaints = list(RULES[arguments[0]](arguments[1]))
    print("\n".join(complaints) or f"{arguments[0]}: nothing to complain of")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
