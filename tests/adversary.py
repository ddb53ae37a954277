"""Races, links, bombs and limits, as a table: what was done to the program, how often, and whether it did as it must.

    python -m tests.adversary                    # the table, in Markdown
    python -m tests.adversary --times 10         # every race ten times
    python -m tests.adversary --reports FOLDER   # of tests that have been run with MPI_LANDSCAPE_REPORTS=FOLDER

Each row is a test, whose name is what must be; what it notes of itself (`record_property`) stands in the last column.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
# What is repeated is what time and chance may change.
KINDS = {
    "races": ("tests/faults/test_lost_files.py", "tests/faults/test_suspended.py"),
    "links and locks": ("tests/storage/test_places.py",),
    "bombs": (
        "tests/trust/test_checkpoints.py",
        "tests/trust/test_surface_files.py",
        "tests/trust/test_configurations.py",
    ),
    "limits": ("tests/programs/test_limits.py",),
}
# Of files that hold other tests, too: words of their names.
CHOSEN = {
    "bombs": (
        *(
            "stands_for_more",
            "larger_than_its_storage",
            "compressed_archive",
            "claims",
            "deep",
            "is_no_command",
        ),
    )
}
REPEATED = ("races",)


@dataclass
class Row:
    """A test, or one of its parameters."""

    outcomes: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> int:
        """How often it was as it must be."""
        return self.outcomes.count("passed")


def main() -> None:
    """Run the tests and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--times", type=int, default=3, help="how often each race is run (default: %(default)s)"
    )
    parser.add_argument("--reports", type=Path, help="folder of what tests that have been run have reported")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of %(default)s")
    options = parser.parse_args()
    names = options.kinds.split(",")
    if unknown := set(names) - set(KINDS):
        parser.error(f"--kinds: no {unknown.pop()!r}; valid are {', '.join(KINDS)}")
    failed = 0
    for kind in names:
        rows: dict[str, Row] = {}
        for _ in range(options.times if kind in REPEATED and not options.reports else 1):
            for name, outcome, notes in _read(options.reports, kind) if options.reports else _run(kind):
                row = rows.setdefault(name, Row())
                row.outcomes.append(outcome)
                row.notes |= notes
        failed += sum(row.outcomes.count("failed") for row in rows.values())
        sys.stdout.write("\n".join(_table(kind, rows)) + "\n\n")
        sys.stdout.flush()
    sys.exit(int(bool(failed)))


def _run(kind: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name, outcome and notes of each test."""
    files = [name for name in KINDS[kind] if (HOUSE / name).exists()]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", f"--junitxml={report}", *files]
        command += ["-k", " or ".join(CHOSEN[kind])] if kind in CHOSEN else []
        done = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, check=False)
        if not report.exists() or done.returncode not in (0, 1):
            sys.exit(f"pytest ended with exit status {done.returncode}: {done.stdout}{done.stderr}")
        if done.returncode:
            sys.stderr.write(done.stdout)
        yield from _cases(report)


def _read(folder: Path, kind: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Those of a kind, from tests that have been run."""
    modules = {name.removesuffix(".py").replace("/", ".") for name in KINDS[kind]}
    for report in sorted(folder.glob("*.xml")):
        for name, outcome, notes in _cases(report, modules):
            if kind not in CHOSEN or any(word in name for word in CHOSEN[kind]):
                yield name, outcome, notes


def _cases(report: Path, modules: Collection[str] | None = None) -> Iterator[tuple[str, str, dict[str, str]]]:
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        if modules is not None and case.get("classname", "") not in modules:
            continue
        found = {child.tag for child in case}
        outcome = "failed" if found & {"failure", "error"} else "skipped" if "skipped" in found else "passed"
        notes = {each.get("name", ""): each.get("value", "") for each in case.iter("property")}
        yield case.get("name", ""), outcome, notes


def _table(kind: str, rows: dict[str, Row]) -> list[str]:
    lines = [f"**{kind}**", "", "| what | runs | as it must be | found |", "| --- | --- | --- | --- |"]
    for name, row in rows.items():
        what, _, parameters = name.removeprefix("test_").partition("[")
        text = what.replace("_", " ") + (f": {parameters.removesuffix(']')}" if parameters else "")
        runs = len(row.outcomes) - row.outcomes.count("skipped")
        found = "; ".join(f"{each} {value}".strip() for each, value in row.notes.items())
        if not runs:
            found = "not run here"
        lines.append(f"| {text.replace('|', '/')} | {runs} | {row.good} | {found or '–'} |")
    return lines


if __name__ == "__main__":
    main()
