#!/usr/bin/env python3
"""Instructions an event, counted by callgrind, against the committed baseline.

usage: instructions.py BUILD_BIN_DIR BASELINE [--write]

Each scenario runs with few and with more events; the difference, by the events
between, is what one costs, without the start and the end. More than 10% above the
baseline is a failure. --write makes the figures of this run the baseline."""
import importlib.machinery
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

TOLERANCE = 0.10
SIZES = {"ignored": (10000, 60000), "rewarded": (200, 1200)}


def load_bench(directory):
    loader = importlib.machinery.SourceFileLoader("bench", os.path.join(directory, "guerdon-bench"))
    spec = importlib.util.spec_from_loader("bench", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def count(bench, kind, events):
    """Instructions of a whole run."""
    with tempfile.TemporaryDirectory(prefix="guerdon-bench.") as directory, \
            bench.stub(kind, events) as (port, seen):
        env = bench.environment(port, directory)
        errors = os.path.join(directory, "stderr")
        with open(errors, "wb") as stream:
            process = subprocess.Popen(["/usr/bin/valgrind", "--tool=callgrind",
                                        "--callgrind-out-file=" + os.path.join(directory, "out"),
                                        bench.GUERDON, "run"], env=env, stdout=subprocess.DEVNULL, stderr=stream)
        try:
            bench.wait_for(seen.all_acknowledged, [process])
            process.send_signal(signal.SIGTERM)
            if process.wait(timeout=60) != 0:
                raise bench.Broken("the program failed")
        finally:
            process.kill()
        with open(errors, encoding="utf-8", errors="replace") as stream:
            return int(re.search(r"Collected : (\d+)", stream.read()).group(1))


def cost(bench, kind):
    few, more = SIZES[kind]
    return round((count(bench, kind, more) - count(bench, kind, few)) / (more - few))


def main():
    directory, path = sys.argv[1:3]
    bench = load_bench(directory)
    figures = {kind: cost(bench, kind) for kind in SIZES}
    if "--write" in sys.argv:
        with open(path, "w", encoding="ascii") as stream:
            json.dump(figures, stream, indent=1)
            stream.write("\n")
    with open(path, encoding="ascii") as stream:
        baseline = json.load(stream)
    code = 0
    for kind, figure in figures.items():
        if figure > baseline[kind] * (1 + TOLERANCE):  # once more: threads meet differently each time
            figure = min(figure, cost(bench, kind))
        change = figure / baseline[kind] - 1
        print(f"{kind}: {figure} instructions an event, baseline {baseline[kind]}, {change:+.1%}")
        if change > TOLERANCE:
            print(f"{kind}: more than {TOLERANCE:.0%} above the baseline: find out why, or, when it is worth it, "
                  "run this with --write", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
