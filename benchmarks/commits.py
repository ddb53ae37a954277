"""What it costs that every tile is safe in the file when it is finished, against a file that is written at the end only.

python benchmarks/commits.py
python benchmarks/commits.py --points-per-tile 1 --points 41 31 --repeats 9

Both sides are the same program on the same surface; on one of them everything that is to be written is kept in memory and
written when the last tile is in. The runs alternate, each in a process of its own, with one thread a rank. Measured are
the seconds from the first tile to the closed file, so the late writing counts too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDES = ("every tile", "at the end")


def main() -> None:
    """Run both sides, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--writer", choices=("root", "parallel"), default="root")
    parser.add_argument("--network", default="resnet14", help="by name; it gets images of 8 x 8")
    parser.add_argument("--points", type=int, nargs=2, default=[31, 21], metavar=("ALPHA", "BETA"))
    parser.add_argument("--points-per-tile", default="1", help="or auto, as the program chooses itself")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        play(options.side, options.folder, options.writer)
        return
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        write_configuration(Path(folder), options)
        for number in range(options.repeats):
            for side in SIDES if number % 2 else SIDES[::-1]:
                found[side].append(run(side, Path(folder), options))
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {options.ranks} ranks of one thread"
    )
    print(
        f"{options.network} on the digits, {options.points[0]} x {options.points[1]} points, "
        f"{found[SIDES[0]][0]['tiles']:.0f} tiles, {options.writer} writer, medians of {options.repeats} runs\n"
    )
    print("\n".join(table({side: [each["seconds"] for each in runs] for side, runs in found.items()})))


def table(seconds: dict[str, list[float]]) -> list[str]:
    """Lines for people, from the seconds of every run of both sides, in their order."""
    medians = {side: statistics.median(runs) for side, runs in seconds.items()}
    # Runs that stand beside each other met the same machine.
    pairs = [one / other - 1 for one, other in zip(seconds[SIDES[0]], seconds[SIDES[1]], strict=True)]
    lines = ["| written | seconds | least | most |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {side} | {medians[side]:.3f} | {min(runs):.3f} | {max(runs):.3f} |"
        for side, runs in seconds.items()
    ]
    gap = medians[SIDES[0]] / medians[SIDES[1]] - 1
    lines += [
        "",
        f"every tile takes {100 * gap:+.2f} % (median of pairs {100 * statistics.median(pairs):+.2f} %)",
    ]
    return lines


def write_configuration(folder: Path, options: argparse.Namespace) -> None:
    """A surface of an untrained network on the digits, whose speed is that of a trained one."""
    alpha, beta = options.points
    (folder / "commits.yaml").write_text(
        f"model: {{name: {options.network}, arguments: {{width: 8, input_size: [1, 8, 8]}}}}\n"
        f"data: {{name: digits}}\n"
        f"grid: {{alpha: [-1, 1, {alpha}], beta: [-1, 1, {beta}]}}\n"
        f"compute: {{device: cpu, threads: 1, data_shards: 1, points_per_tile: {options.points_per_tile}}}\n"
        f"output: {folder}/commits.h5\n"
    )


def run(side: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """One run of a side, in processes of its own."""
    own = Path(sys.executable).parent / "mpiexec"
    launcher = str(own) if own.exists() else shutil.which("mpiexec") or "mpiexec"
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--writer", options.writer]
    done = subprocess.run(
        [launcher, "-n", str(options.ranks), *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    result = folder / "result.json"
    if done.returncode or not result.exists():
        sys.exit(done.stderr)
    measured: dict[str, float] = json.loads(result.read_text())
    result.unlink()
    return measured


class Late:
    """Cells that write nothing before they are closed."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._calls: list[Callable[[], None]] = []
        self.note = store.note

    def __enter__(self) -> Late:
        return self

    def __exit__(self, *error: object) -> None:
        flush, self._store._flush = self._store._flush, lambda: None
        for call in self._calls:
            call()
        flush()
        self._store.__exit__(*error)

    def write(self, item: int, row: Any) -> None:
        """Keep it for later."""
        kept = row.copy()
        self._calls.append(lambda: self._store.write(item, kept))

    def publish(self, known: Any) -> None:
        """Keep it for later."""
        self._calls.append(lambda: self._store.publish(known))


class Timed:
    """A job's file that says when it was opened for writing, and may give cells that write at the end."""

    def __init__(self, kept: Any, side: str) -> None:
        self._kept, self._side = kept, side
        self.path, self.notes, self.ensure = kept.path, kept.notes, kept.ensure
        self.opened = 0.0

    def open(self, comm: Any, mode: str) -> Any:
        """As the file does."""
        store = self._kept.open(comm, mode)
        if mode == "r":
            return store
        self.opened = time.perf_counter()
        return Late(store) if self._side == "at the end" else store


def play(side: str, folder: Path, writer: str) -> None:
    """Be one rank of a run, and on rank 0 write down how long it took."""
    from mpi_landscape import surface
    from mpi_landscape.surfaces import computing
    from mpi_landscape.work import running

    def complete(job: Any, kept: Any, ranks: Any, **rest: Any) -> Any:
        timed = Timed(kept, side)
        ending = running.complete(job, timed, ranks, **rest)
        if ranks.is_root:
            measured = {"seconds": time.perf_counter() - timed.opened, "tiles": job.num_items}
            (folder / "result.json").write_text(json.dumps(measured))
        return ending

    computing.complete = complete
    surface.main([str(folder / "commits.yaml"), "--overwrite", "--writer", writer])


if __name__ == "__main__":
    main()
