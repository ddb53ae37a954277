"""`mpi_landscape.surface` as users run it, with a clock around the evaluation of the tiles.

The clock starts where the first tile is handed out and stops when every rank is done: moves, passes, messages and writes are
counted; imports, reading, premises and calibration are not. Started by engine.py under mpiexec.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mpi_landscape import surface
from mpi_landscape.parallel import coordinator
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.storage.surface.reader import read_surface

# What is the network's own work: every engine calls a module. The time of nested calls counts once.
FORWARD = ("torch/nn/modules/module.py", "_wrapped_call_impl")


def main() -> None:
    """Run the program, then write its time and its losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--profile", action="store_true")
    options, rest = parser.parse_known_args()
    clock = timed([*rest, "--output", str(options.output), "--overwrite"], profile=options.profile)
    if clock.is_root:
        options.result.write_text(json.dumps(clock.found() | losses_of(options.output)))


def timed(words: Sequence[str], *, profile: bool = False) -> Clock:
    """Run the program in this process, with a clock around the evaluation of its tiles.

    Raises:
        SystemExit: The program refused or failed.
    """
    clock = Clock(profile)
    original = coordinator.run
    coordinator.run = lambda ranks, **arguments: clock.around(original, ranks, arguments)
    try:
        surface.main(words)
    except SystemExit as end:
        if end.code:
            raise
    finally:
        coordinator.run = original
    if clock.seconds is None:
        sys.exit(
            "the program finished without mpi_landscape.parallel.coordinator.run; the clock belongs around its successor"
        )
    return clock


class Clock:
    """Measures one call of the coordinator.

    Args:
        profile: Whether Python's profiler runs meanwhile.
    """

    def __init__(self, profile: bool) -> None:
        self.seconds: float | None = None
        self.is_root = False
        self._profile = cProfile.Profile() if profile else None

    def around(self, original: Any, ranks: Ranks, arguments: dict[str, Any]) -> Any:
        """Call the coordinator between two clock readings."""
        self.is_root = ranks.is_root
        ranks.meet()
        start = time.perf_counter()
        profiled = original if self._profile is None else partial(self._profile.runcall, original)
        result = profiled(ranks, **arguments)
        ranks.meet()
        self.seconds = time.perf_counter() - start
        return result

    def found(self) -> dict[str, Any]:
        """Seconds, and with the profiler the share of the forward pass and of the functions beside it."""
        found: dict[str, Any] = {"seconds": self.seconds}
        if self._profile is None:
            return found
        statistics: dict[Any, Any] = pstats.Stats(self._profile).stats  # type: ignore[attr-defined]
        whole = sum(own for _, _, own, _, _ in statistics.values())
        forward = sum(
            cumulative
            for (file, _, name), (_, _, _, cumulative, _) in statistics.items()
            if file.endswith(FORWARD[0]) and name == FORWARD[1]
        )
        lines = [
            (own / whole, f"{'/'.join(Path(file).parts[-2:])}:{line} {name}" if line else name)
            for (file, line, name), (_, _, own, _, _) in statistics.items()
        ]
        return found | {"forward": forward / whole, "functions": sorted(lines, reverse=True)[:15]}


def losses_of(path: Path) -> dict[str, Any]:
    """The losses in the file, as [alpha, beta, loss], and what it says of its engine."""
    found = read_surface(path)
    assert found.beta is not None
    values = found.values["train_loss"]
    rows = [
        [float(alpha), float(beta), float(values[i, j])]
        for i, alpha in enumerate(found.alpha)
        for j, beta in enumerate(found.beta)
    ]
    said = {
        name: str(found.attributes[f"identity_{name}"])
        for name in ("engine", "plan", "precision")
        if f"identity_{name}" in found.attributes
    }
    return {"points": len(rows), "losses": rows, "said": said}


if __name__ == "__main__":
    main()
