"""A surface made by the real storage code and the real coordinator, without a network: cheap to start, so cheap to kill.

    mpiexec -n 2 python -m tests.faults.light_job surface.h5 --writer root --log finished.txt

Locks, creates or resumes, takes over, hands out tiles and writes as `mpi_landscape.surfaces.computing` does, in its order;
only the losses are a formula instead of a network, so that no torch is imported and a start takes a fraction of a second.
Tiles are noted in the log when the call that writes them has returned: from then on they must never be lost.
"""

import argparse
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.command import execution as program
from mpi_landscape.parallel import coordinator
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import STOPPED, Stopping
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.plan.tiles import Plan, Tile
from mpi_landscape.storage import cells, identity
from mpi_landscape.storage.claim import claimed
from mpi_landscape.storage.provenance import provenance
from mpi_landscape.storage.surface import schema
from mpi_landscape.storage.surface.reader import check_constants, read_attributes
from mpi_landscape.surfaces.account import Exact

# 25 tiles: five chunks of points, train in four shards and test in one.
GRID = Grid(Axis(-0.5, 1.0, 7), Axis(0.0, 2.0, 4))
PLAN = Plan(num_points=GRID.num_points, points_per_tile=6, shards=(("train", 4), ("test", 1)))
PARAMETERS = 300


def sums_of(tile: Tile) -> NDArray[np.float64]:
    """The sums of a tile: irrational numbers, so that a bit that is lost shows."""
    place = np.arange(tile.start, tile.stop) + 1.0
    offset = 3.0 if tile.split == "train" else 7.0
    loss = np.sqrt(place * (tile.shard + offset))
    examples = np.full(place.size, 10.0 + tile.shard)
    return np.stack([loss, np.floor(place) % 10, examples, loss**2 / 3], axis=1)


def made() -> schema.Contents:
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
    return schema.Contents(
        grid=GRID,
        plan=PLAN,
        accuracy=True,
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


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Complete the file; returns the exit status. Collective."""
    path, everyone_writes = options.file, options.writer == "parallel"
    note = _notes(options.log)
    note(f"rank {ranks.rank} {os.getpid()}")
    with ExitStack() as resources:
        ranks.on_root(lambda: resources.enter_context(claimed(path, overwrite=False)))
        ranks.on_root(lambda: _ensure_file(path))
        account = Exact(PLAN, accuracy=True) if ranks.is_root else None
        unpublished = ranks.on_root(lambda: _take_over(path, account)) or []
        num_left = ranks.share(account.num_left if account else 0)
        if num_left == 0 and not ranks.share(bool(unpublished)):
            return program.DONE
        comm = ranks.comm if everyone_writes else None
        opens = everyone_writes or ranks.is_root
        with ranks.together():
            store = cells.open_cells(path, comm) if opens else None
        with store or nullcontext(), Stopping() as stopping:
            for tile, values in unpublished:
                store.write_values(tile, values)
            note("begun")
            stopped = coordinator.run(
                ranks,
                tiles=iter(account or ()),
                num_tiles=num_left,
                sums_size=len(schema.SUMS) * PLAN.points_per_tile,
                evaluate=_evaluation(options),
                keep=_keeping(store, note) if everyone_writes else lambda index, sums: None,
                record=_recording(store, account, note, everyone_writes),
                stopping=stopping,
            )
    return STOPPED if stopped else program.DONE


def _ensure_file(path: Path) -> None:
    contents = made()
    if path.exists():
        now = identity.of_attributes(contents.attributes)
        identity.check_same(path, read_attributes(path), now)
        check_constants(path, GRID, PLAN)
    else:
        schema.create(path, contents)


def _take_over(path: Path, account: Exact) -> list:
    with cells.open_cells(path, mode="r") as store:
        for index in store.marked():
            tile = PLAN.tile(int(index))
            sums = store.read_tile(tile)
            if sums is not None:
                account.take_over(tile, sums)
        return [(tile, values) for tile, values in account.begin() if not store.holds_values(tile, values)]


def _evaluation(options: argparse.Namespace) -> Callable[..., NDArray[np.float64]]:
    def evaluate(index: int, between: Callable[[], None]) -> NDArray[np.float64]:
        time.sleep(options.pause)
        while options.gate and not options.gate.exists():
            time.sleep(0.01)
            between()
        between()
        return sums_of(PLAN.tile(index))

    return evaluate


def _keeping(store: cells.Cells, note: Callable[[str], None]) -> Callable[..., None]:
    def keep(index: int, sums: NDArray[np.float64]) -> None:
        store.write_tile(PLAN.tile(index), sums)
        note(f"tile {index}")

    return keep


def _recording(store, account, note, everyone_writes) -> Callable[..., None]:
    def record(index: int, sums: NDArray[np.float64]) -> None:
        tile = PLAN.tile(index)
        sums = sums.reshape(tile.num_points, len(schema.SUMS))
        if not everyone_writes:
            store.write_tile(tile, sums)
            note(f"tile {index}")
        values = account.add(tile, sums)
        if values is not None:
            store.write_values(tile, values)

    return record


def _notes(log: Path | None) -> Callable[[str], None]:
    """Lines of a log that survive a kill of whoever writes them, and of several ranks at once."""
    if log is None:
        return lambda line: None
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    return lambda line: os.write(descriptor, f"{line}\n".encode()) and None


def parser() -> argparse.ArgumentParser:
    """The options."""
    made_parser = program.Parser(prog="python -m tests.faults.light_job", description=__doc__.splitlines()[0])
    made_parser.add_argument("file", type=Path, help="the surface file")
    made_parser.add_argument("--writer", choices=("root", "parallel"), default="root")
    made_parser.add_argument("--log", type=Path, help="gets a line for every finished tile")
    made_parser.add_argument("--pause", type=float, default=0.0, help="seconds that a tile takes")
    made_parser.add_argument("--gate", type=Path, help="no tile is finished before this file exists")
    made_parser.add_argument("--debug", action="store_true")
    return made_parser


if __name__ == "__main__":
    program.execute(parser(), run)
