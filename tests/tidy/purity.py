"""purity.py NM ARCHIVE… - what the cores and all below them may use.

A core reads no clock, opens nothing, allocates nothing and remembers nothing
outside its state. The linker's view shows it: symbols that the archives need
from elsewhere are few and known, and nothing in them can be written to.
"""
import re
import subprocess
import sys

ALLOWED = re.compile(
    r"(__)?(mem(cpy|move|set|cmp|chr|rchr|mem)|v?snprintf)(_chk)?$"
    r"|str(n?len|n?cmp|r?chr|c?spn|pbrk|str|nlen)$|bcmp$"
    r"|__assert_fail$|__stack_chk_fail$|_GLOBAL_OFFSET_TABLE_$"
    r"|__(asan|ubsan|tsan|sanitizer|sancov|llvm)_")
# What the sanitizers keep of their own beside the code they watch.
INSTRUMENTED = re.compile(r"_*(asan|ubsan|tsan|sancov|odr_asan)[._]|__sanitizer_|__unnamed_\d+$")
WRITABLE = re.compile(r"\.(data|bss|tdata|tbss)(?!\.rel\.ro)|\*COM\*")


def symbols(nm, archive):
    """The symbols of an archive: name, class, section."""
    listing = subprocess.run([nm, "-f", "sysv", archive], check=True, capture_output=True, text=True)
    for line in listing.stdout.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and cells[2]:
            yield cells[0], cells[2], cells[6]


def check(nm, archives):
    """What is wrong, a line each."""
    found = {archive: list(symbols(nm, archive)) for archive in archives}
    defined = {name for table in found.values() for name, kind, _ in table if kind not in "Uwv"}
    if not defined:
        return ["no symbols at all: nothing was checked"]
    wrong = set()
    for archive, table in found.items():
        room = archive.rsplit("/", 1)[-1]
        for name, kind, section in table:
            if kind in "Uwv" and name not in defined and not ALLOWED.match(name):
                wrong.add(f"{room}: uses {name}")
            if (kind in "bBdDsSgGC" and not INSTRUMENTED.match(name)
                    and (kind == "C" or WRITABLE.match(section))):
                wrong.add(f"{room}: {name} is a global that can be written to ({section or 'common'})")
    return sorted(wrong)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: purity.py NM ARCHIVE…")
    complaints = check(sys.argv[1], sys.argv[2:])
    print("\n".join(complaints) or f"{len(sys.argv) - 2} archives are pure")
    sys.exit(1 if complaints else 0)
