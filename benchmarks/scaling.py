"""Points per second of the real program on several ranks against one, under mpiexec.

python benchmarks/scaling.py                                   # 1 and 2 ranks
python benchmarks/scaling.py --ranks 1 2 4 8 16 --points 101 101 --repeats 5

Every rank has one thread, so give no more ranks than there are cores. The runs alternate between the numbers of ranks, and
medians are shown. The rate is the one that the program itself reports: from the first tile to the last, without start-up,
reading and checking. Efficiency is the speed-up over one rank, divided by the number of ranks.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RATE = re.compile(r"100 %.* ([0-9.e+-]+) points/s")


def main() -> None:
    """Run all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--network", default="resnet14", help="by name; it gets images of 8 x 8")
    parser.add_argument("--points", type=int, nargs=2, default=[31, 21], metavar=("ALPHA", "BETA"))
    parser.add_argument("--repeats", type=int, default=3, help="runs of each number of ranks")
    parser.add_argument("--launcher", default="", help="before the number of ranks; mpiexec -n by default")
    options = parser.parse_args()
    counts = sorted({1, *options.ranks})
    rates: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        configuration = write_configuration(Path(folder), options.network, options.points)
        for _ in range(options.repeats):
            for count in counts:
                rates[count].append(run(configuration, count, options.launcher))
    for count in counts:
        print(f"{count} ranks: {sorted(rates[count])}", file=sys.stderr)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread per rank")
    print(
        f"{options.network} on the digits, {options.points[0]} x {options.points[1]} points, "
        f"medians of {options.repeats} runs\n"
    )
    print("\n".join(table({count: statistics.median(found) for count, found in rates.items()})))


def table(rates: dict[int, float]) -> list[str]:
    """Lines for people, from the points per second of every number of ranks, 1 among them."""
    lines = ["| ranks | points/s | speed-up | efficiency |", "| ---: | ---: | ---: | ---: |"]
    for count, rate in rates.items():
        gain = rate / rates[1]
        lines.append(f"| {count} | {rate:.3g} | {gain:.2f} | {100 * gain / count:.1f} % |")
    return lines


def write_configuration(folder: Path, network: str, points: list[int]) -> Path:
    """A surface of an untrained network on the digits, whose speed is that of a trained one."""
    path = folder / "scaling.yaml"
    path.write_text(
        f"model: {{name: {network}, arguments: {{width: 8, input_size: [1, 8, 8]}}}}\n"
        f"data: {{name: digits}}\n"
        f"grid: {{alpha: [-1, 1, {points[0]}], beta: [-1, 1, {points[1]}]}}\n"
        f"compute: {{device: cpu, threads: 1}}\n"
        f"output: {folder}/scaling.h5\n"
    )
    return path


def run(configuration: Path, ranks: int, launcher: str) -> float:
    """Points per second of one run."""
    own = Path(sys.executable).parent / "mpiexec"
    words = launcher.split() or [str(own) if own.exists() else shutil.which("mpiexec") or "mpiexec", "-n"]
    done = subprocess.run(
        [
            *words,
            str(ranks),
            sys.executable,
            "-m",
            "mpi_landscape.surface",
            str(configuration),
            "--overwrite",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        sys.exit(done.stderr)
    return float(RATE.findall(done.stderr)[-1])


if __name__ == "__main__":
    main()
