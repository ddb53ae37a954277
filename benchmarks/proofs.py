"""What it costs to prove that the numbers are right: before the first tile, and while the work goes on.

OMP_NUM_THREADS=1 python benchmarks/proofs.py configs/quickstart.yaml
OMP_NUM_THREADS=1 mpiexec -n 2 python benchmarks/proofs.py configs/quickstart.yaml --set grid.alpha.num=11

It runs `python -m mpi_landscape.surface CONFIG`, whose options may follow, with a clock around the parts that compare the engine
with the network itself. Of a job of several ranks rank 0 is shown, which does the most of it. CPU only.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpi_landscape import surface
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.surfaces import computing, losses
from mpi_landscape.surfaces.losses import Losses
from mpi_landscape.surfaces.watching import Watch

PROOFS = ("choosing an engine", "certificate away from the center", "ends", "a last look after the work")

seconds: Counter[str] = Counter()


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same with its time added to a name."""

    def run(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds[name] += time.perf_counter() - start

    return run


def main() -> None:
    """Run the program and print the table."""
    losses.agree = timed("choosing an engine", losses.agree)
    losses.certify_points = timed("certificate away from the center", losses.certify_points)
    losses.certify_ends = timed("ends", losses.certify_ends)
    losses.certify = timed("center (every surface has it)", losses.certify)
    computing.check_unchanged = timed("a last look after the work", computing.check_unchanged)
    Watch.look = timed("watching", Watch.look)  # type: ignore[method-assign]
    Losses.row = timed("tiles, watched", Losses.row)  # type: ignore[method-assign]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        own = [] if "--output" in sys.argv else ["--output", str(Path(folder) / "surface.h5")]
        try:
            surface.main([*sys.argv[1:], *own])
        except SystemExit as end:
            if end.code:
                raise
    whole = time.perf_counter() - start
    if not open_ranks().is_root:
        return
    tiles = seconds["tiles, watched"] - seconds["watching"]
    proofs = sum(seconds[name] for name in PROOFS)
    print("\n| part | seconds | of all |\n| --- | ---: | ---: |")
    for name, took in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"| {name} | {took:.2f} | {took / whole:.1%} |")
    print(f"| all | {whole:.2f} | 100 % |")
    share, watching = proofs / whole, seconds["watching"] / tiles
    print(f"\nproofs before and after the tiles: {share:.1%} of all; watching: {watching:.2%} of the tiles")


if __name__ == "__main__":
    main()
