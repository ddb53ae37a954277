"""How well the work is shared out over 64 to 65,536 ranks: the real coordinator against simulated workers.

python benchmarks/ranks.py
python benchmarks/ranks.py --ranks 4096 --points 101 101 --batch-seconds 0.02 --writer parallel --network

A loss surface of a ResNet-56 on CIFAR-10 (50,000 and 10,000 images in batches of 64), cut as the program would cut it.
Measured here first, in the same run, in processor time: a batch of the network on one core (plain; the program's engine is
faster), what rank 0's own code needs for a request and for a result, and writing a tile to a real file. MPI's own time per
message is assumed. Efficiency is the time that the summed speed of all ranks would need, divided by the time until the last
result is recorded.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from simulated_ranks import Costs, Outcome, simulate

from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.rules import choose_points_per_tile, choose_shards
from mpi_landscape.plan.tiles import Plan, shard_bounds

EXAMPLES = {"train": 50_000, "test": 10_000}
BATCH_SIZE = 64
# mpi4py's calls for a message and its answer, and a message's way: in shared memory, and on a network.
MPI_SECONDS = {"shared memory": 4e-6, "network": 15e-6}
LATENCY = {"shared memory": 2e-6, "network": 15e-6}

CASES: dict[str, tuple[Callable[[int], float], float]] = {
    "equal": (lambda _: 1.0, 0.0),
    "equal, jitter 5 %": (lambda _: 1.0, 0.05),
    "every 10th at half speed": (lambda rank: 0.5 if rank % 10 == 5 else 1.0, 0.02),
    "every 64th ten times slower": (lambda rank: 0.1 if rank % 64 == 33 else 1.0, 0.02),
}


def main() -> None:
    """Measure, simulate, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[64, 512, 4096, 65536])
    parser.add_argument("--points", type=int, nargs=2, default=[51, 51], metavar=("ALPHA", "BETA"))
    parser.add_argument("--batch-seconds", type=float, help="of a batch on one rank; measured by default")
    parser.add_argument("--writer", choices=("root", "parallel"), default="root")
    parser.add_argument(
        "--network", action="store_true", help="messages over a network, not in shared memory"
    )
    options = parser.parse_args()
    kind = "network" if options.network else "shared memory"
    batch = options.batch_seconds or measure_batch()
    grid = Grid(Axis(-1.0, 1.0, options.points[0]), Axis(-1.0, 1.0, options.points[1]))
    plan, batches = make_plan(grid, batch)
    request, result = measure_messages()
    write = measure_write(grid, plan)
    costs = Costs(
        latency=LATENCY[kind],
        request=request + MPI_SECONDS[kind],
        result=result + MPI_SECONDS[kind] / 2,
        write=write,
        root_writes=options.writer == "root",
    )
    print(
        f"{grid.shape[0]} x {grid.shape[1]} points, shards {dict(plan.shards)}, {plan.num_tiles:,} tiles of ",
        end="",
    )
    print(f"{plan.points_per_tile} points; {batch * 1e3:.3g} ms a batch, {options.writer} writer, {kind}")
    print(
        f"rank 0: {costs.request * 1e6:.3g} µs a request, {costs.result * 1e6:.3g} µs a result, "
        f"{write * 1e6:.3g} µs to write a tile\n"
    )
    print("| ranks | case | tiles | s a tile | s in all | efficiency | messages/s | idle in the tail |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for size in options.ranks:
        for name, (speed, jitter) in CASES.items():
            speeds = [speed(rank) for rank in range(size)]
            done = simulate(
                range(plan.num_tiles),
                speeds,
                batches=batches,
                batch_seconds=batch,
                costs=costs,
                jitter=jitter,
            )
            print(row(name, done, speeds, plan, batches, batch), flush=True)


def row(
    name: str, done: Outcome, speeds: Sequence[float], plan: Plan, batches: Callable[[int], int], batch: float
) -> str:
    """One line of the table.

    The tail begins when the first rank has finished its last tile; what is idle from then on is counted against all of the time
    of all ranks.
    """
    assert sorted(tile for _, tile in done.evaluated) == list(range(plan.num_tiles))
    work = sum(batches(tile) for tile in range(plan.num_tiles)) * batch
    ideal = work / sum(speeds)
    ended = [when for when in done.ended if when > 0] or [0.0]
    idle = sum(done.seconds - when for when in ended) / (len(speeds) * done.seconds)
    return (
        f"| {len(speeds):,} | {name} | {plan.num_tiles:,} | {work / plan.num_tiles:.3g} | {done.seconds:.4g} | "
        f"{100 * ideal / done.seconds:.1f} % | {done.messages / done.seconds:,.0f} | {100 * idle:.1f} % |"
    )


def make_plan(grid: Grid, batch: float) -> tuple[Plan, Callable[[int], int]]:
    """The program's plan, and how many batches a tile has."""
    count = {split: -(-examples // BATCH_SIZE) for split, examples in EXAMPLES.items()}
    shards = choose_shards(grid.num_points, count)
    seconds = sum(count.values()) * batch
    longest = max(-(-count[split] // shards[split]) for split in count) / sum(count.values())
    per_tile = choose_points_per_tile(grid.num_points, sum(shards.values()), seconds, longest)
    plan = Plan(num_points=grid.num_points, points_per_tile=per_tile, shards=tuple(shards.items()))

    def batches(index: int) -> int:
        tile = plan.tile(index)
        first, stop = shard_bounds(count[tile.split], shards[tile.split], tile.shard)
        return (stop - first) * tile.num_points

    table = [batches(index) for index in range(plan.num_tiles)]
    return plan, table.__getitem__


def measure_batch() -> float:
    """Seconds of a ResNet-56's forward pass over a batch on one core, as the plain network does it."""
    import torch

    from mpi_landscape.configuration.sections.sources import ModelConfiguration
    from mpi_landscape.problem.networks.table import build_network

    torch.set_num_threads(1)
    model = build_network(ModelConfiguration(name="resnet56"), where="benchmark", folders=[]).eval()
    images = torch.randn(BATCH_SIZE, 3, 32, 32)
    with torch.inference_mode():
        return median_seconds(lambda: model(images), 5)


def measure_messages(count: int = 20_000) -> tuple[float, float]:
    """Seconds of rank 0's own code per request with its answer, and per result: two runs on messages from memory."""
    from mpi4py import MPI

    from mpi_landscape.parallel.ranks import Ranks
    from mpi_landscape.parallel.root import Coordinator
    from mpi_landscape.parallel.worker import REQUEST, RESULT

    class Mail:
        """A communicator whose messages are there already."""

        def __init__(self) -> None:
            self.todo: list[tuple[int, int]] = []

        def Iprobe(self, status: Any) -> bool:  # noqa: N802
            if not self.todo:
                return False
            status.Set_source(self.todo[-1][0])
            status.Set_tag(self.todo[-1][1])
            status.Set_elements(MPI.DOUBLE, 5)
            return True

        def Recv(self, buffer: Any, **_: Any) -> None:  # noqa: N802
            self.todo.pop()
            buffer[:5] = 0

        def Isend(self, *_: Any, **__: Any) -> Any:  # noqa: N802
            return self

        def Test(self) -> bool:  # noqa: N802
            return True

    class Never:
        reason = None

    mail = Mail()
    coordinator = Coordinator(
        Ranks(comm=mail, size=count + 1), iter(range(10**9)), 10**9, 4, lambda *_: None, Never()
    )
    seconds = []
    for tag in (REQUEST, RESULT):
        mail.todo = [(rank, tag) for rank in range(count, 0, -1)]
        start = time.process_time()
        coordinator._serve()
        seconds.append((time.process_time() - start) / count)
    return seconds[0], seconds[1]


def measure_write(grid: Grid, plan: Plan, count: int = 300) -> float:
    """Seconds to write a tile to a real file, its points too where it is the last of their shards."""
    from mpi_landscape.storage.surface.creation import Contents, create
    from mpi_landscape.storage.surface.tiles import open_tiles
    from mpi_landscape.surfaces.account import Exact

    quantities = Quantities(accuracy=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "surface.h5"
        vector = np.zeros(10, np.float32)
        create(
            path,
            Contents(
                grid=grid,
                plan=plan,
                quantities=quantities,
                center=vector,
                directions={"alpha": vector, "beta": vector},
                layout=[],
                attributes={},
            ),
        )
        account = Exact(grid, plan, quantities)
        with open_tiles(path) as store:
            start = time.process_time()
            for index in range(min(count, plan.num_tiles)):
                row = np.ones((plan.tile(index).num_points, len(quantities.columns)))
                store.write(index, row)
                known = account.add(index, row)
                if known is not None:
                    store.publish(known)
            return (time.process_time() - start) / min(count, plan.num_tiles)


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """The median of some runs after one that is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
