"""A surface made by the real loop, storage and coordinator, without a network: cheap to start, so cheap to kill.

    mpiexec -n 2 python -m tests.faults.light_job surface.h5 --writer root --log finished.txt

Only the losses are a formula instead of a network, so that no torch is imported and a start takes a fraction of a second.
Tiles are noted in the log when the call that writes them has returned: from then on they must never be lost.
"""

import argparse
import contextlib
import io
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.command import execution as program
from mpi_landscape.command.parser import Parser
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import STOPPED, Stopping
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.tiles import Plan, Tile
from mpi_landscape.storage import identity
from mpi_landscape.storage.cells import Cells
from mpi_landscape.storage.claim import claimed
from mpi_landscape.storage.provenance import provenance
from mpi_landscape.storage.surface.constants import check_constants
from mpi_landscape.storage.surface.creation import Contents, create
from mpi_landscape.storage.surface.reader import read_attributes
from mpi_landscape.storage.surface.tiles import open_tiles
from mpi_landscape.surfaces.account import Exact
from mpi_landscape.work.job import Job
from mpi_landscape.work.running import complete

# 25 tiles: five chunks of points, train in four shards and test in one.
GRID = Grid(Axis(-0.5, 1.0, 7), Axis(0.0, 2.0, 4))
PLAN = Plan(num_points=GRID.num_points, points_per_tile=6, shards=(("train", 4), ("test", 1)))
QUANTITIES = Quantities(accuracy=True)
PARAMETERS = 300


def sums_of(tile: Tile) -> NDArray[np.float64]:
    """The sums of a tile: irrational numbers, so that a bit that is lost shows."""
    place = np.arange(tile.start, tile.stop) + 1.0
    offset = 3.0 if tile.split == "train" else 7.0
    loss = np.sqrt(place * (tile.shard + offset))
    examples = np.full(place.size, 10.0 + tile.shard)
    return np.stack([loss, np.floor(place) % 10, examples, loss**2 / 3], axis=1)


def made() -> Contents:
    """What the file holds before the first tile."""
    center = np.sin(np.arange(PARAMETERS, dtype=np.float32))
    directions = {
        "alpha": np.cos(np.arange(PARAMETERS, dtype=np.float32)),
        "beta": np.cos(2 * np.arange(PARAMETERS, dtype=np.float32)),
    }
    who = {
        "grid": identity.fingerprint(GRID.alpha.values, GRID.beta.values),
        "center": identity.fingerprint(center),
        **{f"direction_{name}": identity.fingerprint(vector) for name, vector in directions.items()},
        "plan": f"tiles of {PLAN.points_per_tile} points, shards {dict(PLAN.shards)}",
    }
    return Contents(
        grid=GRID,
        plan=PLAN,
        quantities=QUANTITIES,
        center=center,
        directions=directions,
        layout=[
            {"name": "dense.weight", "shape": (10, 29), "offset": 0, "kind": "weight"},
            {"name": "dense.bias", "shape": (10,), "offset": 290, "kind": "bias"},
        ],
        attributes={
            "title": "a formula",
            "configuration": "model: none  # as long as a real one\n" * 20,
            **provenance(packages=("numpy", "h5py")),
            **identity.as_attributes(who),
        },
    )


@dataclass(frozen=True, kw_only=True)
class LightFile:
    """The surface file; notes what is written into it."""

    path: Path
    note: Callable[[str], None]
    notes = MappingProxyType({})

    def ensure(self) -> None:
        """Make it, or see that it is this job's."""
        contents = made()
        if self.path.exists():
            self.check()
            check_constants(self.path, GRID, PLAN)
        else:
            create(self.path, contents)

    def check(self) -> None:
        """See that it is still this job's."""
        now = identity.of_attributes(made().attributes)
        identity.check_same(self.path, read_attributes(self.path), now)

    def open(self, comm: Any, mode: str) -> Cells:
        """Open it; a tile is noted when the call that writes it has returned."""
        store = open_tiles(self.path, comm, mode=mode)
        write = store.write

        def noting(item: int, row: NDArray[np.float64]) -> None:
            write(item, row)
            self.note(f"tile {item}")

        store.write = noting
        return store


class Begun:
    """A reason to stop that is noted to have been asked for: by every rank, before its first tile."""

    def __init__(self, stopping: Stopping, note: Callable[[str], None]) -> None:
        self._stopping, self._note = stopping, note

    @property
    def reason(self) -> str | None:
        """Why to stop."""
        note, self._note = self._note, lambda _: None
        note("begun")
        return self._stopping.reason


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Complete the file; returns the exit status. Collective."""
    note = _notes(options.log)
    note(f"rank {ranks.rank} {os.getpid()}")

    def evaluate(index: int, between: Callable[[], None]) -> NDArray[np.float64]:
        time.sleep(options.pause)
        while options.gate and not options.gate.exists():
            time.sleep(0.01)
            between()
        between()
        return sums_of(PLAN.tile(index))

    job = Job(
        num_items=PLAN.num_tiles,
        row_size=len(QUANTITIES.columns) * PLAN.points_per_tile,
        evaluate=evaluate,
        account=lambda: Exact(GRID, PLAN, QUANTITIES),
        is_shown=False,
    )
    with ExitStack() as resources:
        ranks.on_root(lambda: resources.enter_context(claimed(options.file, overwrite=False)))
        stopping = Begun(resources.enter_context(Stopping()), note)
        kept = LightFile(path=options.file, note=note)
        ending = complete(job, kept, ranks, writer=options.writer, stopping=stopping)
    return STOPPED if ending.stopped else program.DONE


def resume(path: Path) -> None:
    """Complete a file in this process, by the root writer, without a word."""
    with contextlib.redirect_stdout(io.StringIO()):
        run(parser().parse_args([str(path)]), Ranks())


def _notes(log: Path | None) -> Callable[[str], None]:
    """Lines of a log that survive a kill of whoever writes them, and of several ranks at once."""
    if log is None:
        return lambda line: None
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    return lambda line: os.write(descriptor, f"{line}\n".encode()) and None


def parser() -> argparse.ArgumentParser:
    """The options."""
    made_parser = Parser(prog="python -m tests.faults.light_job", description=__doc__.splitlines()[0])
    made_parser.add_argument("file", type=Path, help="the surface file")
    made_parser.add_argument("--writer", choices=("root", "parallel"), default="root")
    made_parser.add_argument("--log", type=Path, help="gets a line for every finished tile")
    made_parser.add_argument("--pause", type=float, default=0.0, help="seconds that a tile takes")
    made_parser.add_argument("--gate", type=Path, help="no tile is finished before this file exists")
    made_parser.add_argument("--debug", action="store_true")
    return made_parser


if __name__ == "__main__":
    program.execute(parser(), run)
