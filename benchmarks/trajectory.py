"""What principal axes of many checkpoints cost: readings of each file, peak memory, time against reading the files twice.

python benchmarks/trajectory.py                                              # small: 40 checkpoints of 2 million numbers
python benchmarks/trajectory.py --checkpoints 300 --parameters 25000000     # 30 GB of files

Checkpoints of a random walk are generated (files of torch.save, kept in --folder if that is given); then they are read twice
from end to end, plainly, and the axes are found on each number of ranks. Every measurement is a process of its own. Readings
are counted by the system (`rchar` of /proc/self/io: what read calls return, from the disk or not); memory is the peak of
the resident set over that before the first checkpoint is opened (VmHWM), so what torch itself takes is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

MIB = 2**20


class Numbers(nn.Module):
    """Layers of so many numbers in all."""

    def __init__(self, count: int) -> None:
        super().__init__()
        side = 1024
        rows = [side] * (count // side**2)
        rest = count - side * sum(rows)
        self.layers = nn.ParameterList(
            nn.Parameter(torch.zeros(each, side if number < len(rows) else 1))
            for number, each in enumerate([*rows, *[rest] * bool(rest)])
        )


def generate(folder: Path, checkpoints: int, parameters: int) -> None:
    """A walk with a drift, so that two components stand out."""
    folder.mkdir(parents=True, exist_ok=True)
    model, generator = Numbers(parameters), torch.Generator().manual_seed(1)
    with torch.no_grad():
        drift = [torch.randn(each.shape, generator=generator) for each in model.parameters()]
        for number in range(checkpoints):
            path = folder / f"epoch_{number:04d}.pt"
            for parameter, along in zip(model.parameters(), drift, strict=True):
                parameter.add_(along, alpha=0.1 / (1 + number))
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.01)
            if not path.exists():
                torch.save(model.state_dict(), path)


def counted() -> dict[str, float]:
    """Bytes that this process has read, and its peak of memory."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    status = Path("/proc/self/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return {"read": float(fields["rchar"]), "disk": float(fields["read_bytes"]), "peak": float(peak) * 1024}


def read_twice(folder: Path) -> float:
    """Seconds to read all files from end to end, twice."""
    room = bytearray(4 * MIB)
    start = time.perf_counter()
    for _ in range(2):
        for path in sorted(folder.glob("epoch_*.pt")):
            with path.open("rb", buffering=0) as file:
                while file.readinto(room):
                    pass
    return time.perf_counter() - start


def measure(folder: Path, parameters: int, threads: int) -> None:
    """Find the axes on the ranks of this job, and print what it took as JSON."""
    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.geometry.layout import layout_of
    from mpi_landscape.geometry.principal import nearest, principal
    from mpi_landscape.parallel.launcher import open_ranks
    from mpi_landscape.placement.columns import stored_vector
    from mpi_landscape.problem.checkpoints import Source
    from mpi_landscape.storage.identity import fingerprint
    from mpi_landscape.trajectories.passes import Rows, components, products

    ranks = open_ranks()
    with exact_arithmetic():
        model = Numbers(parameters)
        layout = layout_of(model)
        # What a first call of the libraries takes is none of the work.
        torch.linalg.eigh(torch.eye(300, dtype=torch.float64))
        before = counted()
        ranks.meet()
        start = time.perf_counter()
        paths = sorted(folder.glob("epoch_*.pt"))
        vectors = [stored_vector(model, layout, Source(path=str(path)))[0] for path in paths]
        opened = time.perf_counter()
        center = torch.empty(layout.size)
        vectors[-1].read(0, center)
        rows = Rows(vectors=vectors[:-1], center=center, ranks=ranks, threads=threads)
        gram = products(rows)
        first = time.perf_counter()
        found = ranks.share(principal(gram))
        axes, with_axes, squares = components(rows, found)
        places, _ = nearest(squares, with_axes.with_axes, with_axes.of_axes)
        ranks.meet()
        end = time.perf_counter()
    after = counted()
    own = {"read": after["read"] - before["read"], "peak": after["peak"] - before["peak"]}
    every = ranks.gather(own)
    if ranks.is_root:
        text = {
            "seconds": end - start,
            "open": opened - start,
            "first": first - opened,
            "second": end - first,
            "read": sum(each["read"] for each in every),
            "peak": max(each["peak"] for each in every),
            "variation": found.variation[:2].tolist(),
            "fingerprint": fingerprint(*(axis.numpy() for axis in axes), places),
        }
        sys.stdout.write(json.dumps(text) + "\n")


def launched(size: int, threads: int, folder: Path, parameters: int) -> dict[str, float]:
    """`measure` on so many ranks of so many threads."""
    words = [__file__, "--measure", "--folder", str(folder), "--parameters", str(parameters)]
    words += ["--threads", str(threads)]
    house = str(Path(__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": house}
    command = [sys.executable, *words]
    if size > 1:
        own = Path(sys.executable).parent / "mpiexec"
        command = [str(own) if own.exists() else str(shutil.which("mpiexec")), "-n", str(size), *command]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Generate, read, measure, and print a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=40)
    parser.add_argument("--parameters", type=int, default=2_000_000)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 1])
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 1, 2], help="of a rank, beside each of --ranks"
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.folder, options.parameters, options.threads[0])
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        generate(folder, options.checkpoints, options.parameters)
        size = sum(path.stat().st_size for path in folder.glob("epoch_*.pt"))
        vector = 4 * options.parameters
        twice = read_twice(folder)
        say = sys.stdout.write
        say(f"{options.checkpoints} checkpoints of {options.parameters:,} numbers, {size / 2**30:.2f} GiB\n")
        say(f"reading them twice, plainly: {twice:.2f} s\n")
        say(
            "ranks  threads  seconds  of reading twice  speedup  readings of a file  peak of a rank, vectors  the same bits\n"
        )
        alone: dict[str, float] = {}
        for number, threads in zip(options.ranks, options.threads, strict=True):
            found = launched(number, threads, folder, options.parameters)
            alone = alone or found
            say(
                f"{number:5d}  {threads:7d}  {found['seconds']:7.2f}  {found['seconds'] / twice:16.2f}  "
                f"{alone['seconds'] / found['seconds']:7.2f}  {found['read'] / size:18.3f}  {found['peak'] / vector:23.2f}  "
                f"{found['fingerprint'] == alone['fingerprint']}   (open {found['open']:.2f}, first pass {found['first']:.2f}, "
                f"second {found['second']:.2f} s)\n"
            )


if __name__ == "__main__":
    main()
