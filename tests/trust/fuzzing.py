"""Checkpoints, configurations and surface files made by chance, each read by the code that reads them in earnest.

    python -m tests.trust.fuzzing --seconds 600 --seed 0

A process of its own reads them, with a gigabyte beyond the file's size and ten seconds of processor time for each: it may take or
refuse a file, by a LandscapeError. Whatever else happens is a finding, printed with its input.
"""

import argparse
import base64
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase

import mpi_landscape
from tests.trust import chance

HERE = Path(__file__).parent
KINDS = tuple(chance.INPUTS)
# Wall-clock seconds after which a process is taken for stuck that does not use its processor.
_STUCK = 300
_EXAMPLES_OF_A_ROUND = 100
_LONGEST_SHOWN = 3000


@dataclass
class Count:
    """What became of the inputs of one kind; memory in bytes beyond the file's size."""

    tried: int = 0
    accepted: int = 0
    refused: int = 0
    crashes: int = 0
    hangs: int = 0
    too_much: int = 0
    others: int = 0
    memory: int = 0
    findings: list[tuple[str, bytes]] = field(default_factory=list)


class Reader:
    """The process that reads, begun again whenever it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def read(self, kind: str, path: Path) -> dict:
        """How reading a file ended: `outcome` is a field of `Count`."""
        process = self._begun()
        process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], _STUCK)[0]:
            self.end()
            return {"outcome": "hangs", "said": f"nothing for {_STUCK} s", "memory": 0}
        answer = process.stdout.readline()
        if answer:
            return json.loads(answer)
        status = process.wait()
        self._process = None
        # SIGPROF: the ten seconds are over.
        outcome = "hangs" if status == -27 else "crashes"
        return {"outcome": outcome, "said": f"ended with {status}", "memory": 0}

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _begun(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            house = str(Path(mpi_landscape.__file__).parents[1])
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "reading.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONPATH": house, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        return self._process


@contextlib.contextmanager
def reader() -> Iterator[Reader]:
    made = Reader()
    try:
        yield made
    finally:
        made.end()


def fuzz(seconds: float, seed: int, seeds: chance.Seeds, kinds: tuple[str, ...] = KINDS) -> dict[str, Count]:
    """Try inputs of all kinds in turns until the time is over; each kind has one round at least."""
    counts = {kind: Count() for kind in kinds}
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, reader() as reading:
        number = 0
        while number < len(kinds) or time.monotonic() < end:
            kind = kinds[number % len(kinds)]
            _round(kind, seed * 1_000_003 + number, seeds, Path(folder), reading, counts[kind], end)
            number += 1
    return counts


def _round(
    kind: str, seed: int, seeds: chance.Seeds, folder: Path, reading: Reader, count: Count, end: float
) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=_EXAMPLES_OF_A_ROUND,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(content=chance.INPUTS[kind](seeds))
    def one(content: bytes) -> None:
        if time.monotonic() > end and count.tried >= 10:
            return
        path = folder / f"fuzzed{chance.SUFFIXES[kind]}"
        path.write_bytes(content)
        ended = reading.read(kind, path)
        count.tried += 1
        setattr(count, ended["outcome"], getattr(count, ended["outcome"]) + 1)
        count.memory = max(count.memory, ended["memory"])
        if ended["outcome"] not in ("accepted", "refused"):
            count.findings.append((f"{ended['outcome']}: {ended['said']}", content))

    one()


def table(counts: dict[str, Count]) -> str:
    """The counts for people."""
    names = ("tried", "accepted", "refused", "crashes", "hangs", "too_much", "others")
    lines = ["kind           " + "".join(f"{name.replace('_', ' '):>10}" for name in names) + "  most memory"]
    for kind, count in counts.items():
        numbers = "".join(f"{getattr(count, name):>10}" for name in names)
        lines.append(f"{kind:<15}{numbers}  {count.memory / 2**20:8.1f} MiB")
    return "\n".join(lines)


def shown(kind: str, said: str, content: bytes) -> str:
    """A finding with its input, which `zlib.decompress(base64.b64decode(...))` gives again."""
    packed = base64.b64encode(zlib.compress(content, 9)).decode()
    end = "" if len(packed) <= _LONGEST_SHOWN else f" and {len(packed) - _LONGEST_SHOWN} letters more"
    return f"{kind}: {said}\n  {len(content)} bytes, zlib, base64: {packed[:_LONGEST_SHOWN]}{end}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Read files made by chance.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs of findings")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = chance.seeds_of(Path(folder))
        counts = fuzz(options.seconds, options.seed, seeds, tuple(options.kind or KINDS))
    for kind, count in counts.items():
        for number, (said, content) in enumerate(count.findings):
            sys.stdout.write(shown(kind, said, content) + "\n")
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{kind}{number}{chance.SUFFIXES[kind]}").write_bytes(content)
    sys.stdout.write(table(counts) + "\n")
    return int(any(count.findings for count in counts.values()))


if __name__ == "__main__":
    raise SystemExit(main())
