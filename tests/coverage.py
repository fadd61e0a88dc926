#!/usr/bin/python3
"""Adds up what gcov says of src/: usage: coverage.py BUILD [--worst N] [--missing FILE]...

Two figures of each kind: of everything, and without what no test can run, which is

  - assert(...): its branch to the failure (a programmer's mistake, by the rule of the house);
  - abort(); on a line of its own, and the branches of the `if` above it: memory is out, which ends the
    process by design.

Exit status: 1 when fewer than 95 % of lines or 80 % of branches of the second kind are run.
"""
import argparse
import collections
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AIM_LINES, AIM_BRANCHES = 95.0, 80.0
ABORT = re.compile(r"\s*abort\(\);")
ASSERT = re.compile(r"\s*assert\(")


def gcov(build):
    """Path -> line -> [runs, [runs of each branch]], the best of all objects a line is in."""
    found = collections.defaultdict(dict)
    counters = [str(p.resolve()) for p in build.rglob("*.gcno") if "/dagward_" in str(p)]
    with tempfile.TemporaryDirectory() as folder:
        for at in range(0, len(counters), 40):
            subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--preserve-paths", "--hash-filenames", *counters[at:at + 40]], cwd=folder, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in os.listdir(folder):
            told = json.load(gzip.open(os.path.join(folder, name)))
            for file in told["files"]:
                # Which checkout a compiler cache took the object from does not matter.
                path = re.search(r"(?:^|/)(src/(?!.*/generate/).*)$", os.path.normpath(os.path.join(told["current_working_directory"], file["file"])))
                if not path or not (ROOT / path[1]).exists():
                    continue
                lines = found[path[1]]
                for line in file["lines"]:
                    have = lines.setdefault(line["line_number"], [0, []])
                    have[0] += line["count"]
                    branches = [b["count"] for b in line["branches"]]
                    if len(branches) == len(have[1]):
                        have[1] = [a + b for a, b in zip(have[1], branches)]
                    elif len(branches) > len(have[1]):
                        have[1] = branches
    return found


class Sum:
    def __init__(self):
        self.lines = self.run = self.branches = self.taken = 0

    def add(self, other):
        self.lines += other.lines
        self.run += other.run
        self.branches += other.branches
        self.taken += other.taken

    def shares(self):
        return 100.0 * self.run / max(1, self.lines), 100.0 * self.taken / max(1, self.branches)


def judge(path, lines):
    """(everything, without what cannot run, lines that did not run)"""
    text = [""] + (ROOT / path).read_text().splitlines()
    out, skipped = set(), set()
    for number in lines:
        if ABORT.match(text[number]):
            out.add(number)
            above = number - 1
            while above > 1 and not re.match(r"\s*(\}? ?else )?if \(", text[above]):
                above -= 1
            skipped.update(range(above, number))
        elif ASSERT.match(text[number]):
            skipped.add(number)
    whole, fair, missing = Sum(), Sum(), []
    for number, (runs, branches) in lines.items():
        for into, lines_count, branches_count in ((whole, True, True), (fair, number not in out, number not in out | skipped)):
            into.lines += lines_count
            into.run += lines_count and runs > 0
            into.branches += len(branches) if branches_count else 0
            into.taken += sum(b > 0 for b in branches) if branches_count else 0
        if not runs and number not in out:
            missing.append(number)
    return whole, fair, sorted(missing)


def row(name, whole, fair):
    return "%-38s %6d %6.1f %% %6.1f %%   %6d %6.1f %% %6.1f %%" % (name, fair.lines, *(whole.shares()[0], fair.shares()[0]), fair.branches, whole.shares()[1], fair.shares()[1])


def main():
    options = argparse.ArgumentParser()
    options.add_argument("build", type=Path)
    options.add_argument("--no-aim", action="store_true")
    options.add_argument("--worst", type=int, default=20)
    options.add_argument("--missing", action="append", default=[])
    options = options.parse_args()
    files = {path: judge(path, lines) for path, lines in gcov(options.build).items()}
    if not files:
        sys.exit("coverage: nothing was counted in %s" % options.build)
    for path in sorted(files):
        if any(part in path for part in options.missing):
            text = (ROOT / path).read_text().splitlines()
            for number in files[path][2]:
                print("%s:%d: %s" % (path, number, text[number - 1].strip()))
    total, folders = (Sum(), Sum()), collections.defaultdict(lambda: (Sum(), Sum()))
    for path, (whole, fair, _) in files.items():
        for sums in (total, folders[os.path.dirname(path)]):
            sums[0].add(whole)
            sums[1].add(fair)
    print("%-38s %6s %8s %8s   %8s %6s %8s" % ("", "lines", "all", "can run", "branches", "all", "can run"))
    for folder in sorted(folders):
        print(row(folder, *folders[folder]))
    print(row("src", *total))
    print("\nfiles with the most lines and branches that can run and did not:")
    for path in sorted(files, key=lambda p: -(2 * (files[p][1].lines - files[p][1].run) + files[p][1].branches - files[p][1].taken))[:options.worst]:
        print(row(path, *files[path][:2]))
    lines, branches = total[1].shares()
    good = lines >= AIM_LINES and branches >= AIM_BRANCHES
    print("\n%.2f %% of lines (aim %.0f), %.2f %% of branches (aim %.0f): %s" % (lines, AIM_LINES, branches, AIM_BRANCHES, "reached" if good else "NOT REACHED"))
    sys.exit(0 if good or options.no_aim else 1)


main()
