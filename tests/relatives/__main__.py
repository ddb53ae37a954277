"""Prints the table: `python -m tests.relatives [NAME ...] [--kind NUMBER] [--write]`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.relatives.judging import Outcome, judge
from tests.relatives.page import PAGE, page
from tests.relatives.table import all_cases


def main() -> int:
    """The exit status: 1 where a case is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.relatives", description=__doc__)
    parser.add_argument("names", nargs="*", help="cases; all by default")
    parser.add_argument("--kind", type=int, action="append", help="cases of a kind")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    own = Path(sys.executable).parent / "mpiexec"
    launcher = str(own) if own.exists() else shutil.which("mpiexec")
    outcomes = []
    for case in all_cases():
        wanted = case.name in asked.names if asked.names else not asked.kind or case.kind in asked.kind
        if not wanted or (case.ranks > 1 and launcher is None):
            continue
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(judge(case, Path(folder), launcher))
        sys.stdout.write(f"{_line(outcomes[-1])}   [{time.perf_counter() - start:.1f} s]\n")
        sys.stdout.flush()
    bad = [each for each in outcomes if not each.good]
    sys.stdout.write(f"{len(outcomes)} cases, {len(bad)} not as they should be\n")
    for each in bad:
        sys.stdout.write(f"  {_line(each)}\n")
    if asked.write:
        (Path(__file__).parents[2] / PAGE).write_text(page(outcomes), encoding="utf-8")
    return int(bool(bad))


def _line(outcome: Outcome) -> str:
    mark = " " if outcome.good else "!"
    error = "" if outcome.error is None else f"{outcome.error:.0e}"
    case = outcome.case
    return f"{mark} {case.kind:>2} {case.name:<24} {outcome.found:<8} {error:<6} {outcome.words}"


if __name__ == "__main__":
    sys.exit(main())
