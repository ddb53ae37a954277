"""Whether two commits of this project compute the same bits: every array of every file, on one machine.

python benchmarks/bits.py HEAD~1 HEAD
python benchmarks/bits.py v0.1.0 . --keep /tmp/bits                  # a folder is taken as it is
python benchmarks/bits.py main . --only training,surface             # some of the runs

Both sides run the same trainings and surfaces by this interpreter, in a folder of their own and with the same words, one
after the other. Then every dataset and attribute of every HDF5 file, every tensor of every checkpoint and every written
configuration is compared bit for bit. The exit status is 1 where anything differs, texts too unless they may.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
# Of the place and the hour of a run, and of what is installed: not of what was computed.
ELSEWHERE = ("created", "folder", "host", "platform", "version_")
# A clock's readings.
CLOCKS = ("seconds",)

# Written into both folders. Points per tile are given because a rule measures the cost of a point to choose them.
FILES = {
    "nets.py": """from torch import nn

def build(width):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(0.2),
        nn.Conv2d(width, width, 3, stride=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(9 * width, 10),
    )
""",
    "phases.yaml": """model: {target: "nets:build", arguments: {width: 6}}
data: {name: digits, arguments: {limit: 400}}
training:
  batch_size: 50
  seed: [0, 3]
  learning_rate: 0.05
  augmentation: {shift: 1, flip: true}
  phases:
    - {epochs: 2, schedule: {milestones: [1], factor: 0.5}, nesterov: true}
    - {epochs: 2, optimizer: adam, learning_rate: 1e-3, augmentation: null}
  output: runs/phases
""",
    "between.yaml": """model: {target: "nets:build", arguments: {width: 6}, checkpoint: runs/phases/seed=0/phase_1.pt}
data: {name: digits, arguments: {limit: 400}}
directions:
  alpha: {kind: difference, to: runs/phases/seed=3/final.pt, seed: null, normalize: none}
  normalization_buffers: true
grid: {alpha: [-0.5, 1.5, 7], beta: null}
compute: {points_per_tile: 2}
""",
    "perceptron.yaml": """model: {name: mlp, arguments: {hidden: [20, 12], input_size: [1, 8, 8]}}
data: {name: digits, arguments: {limit: 500}}
loss: mse
directions: {alpha: {normalize: layer}, beta: {seed: 5, normalize: weight, ignore: []}}
grid: {alpha: [-1, 1, 9], beta: [-0.5, 1.25, 7]}
compute: {points_per_tile: 5, batch_size: 100, data_shards: 2}
training: {epochs: 3, batch_size: all, learning_rate: 0.2, momentum: 0.0, nesterov: false, output: runs/perceptron}
""",
}
SURFACE = ("mpi_landscape.surface", "quickstart.yaml", "--alpha=-1:1:9")
SECOND = "--beta=-0.5:1.25:7"
TILES = ("--set", "compute.points_per_tile=5")


@dataclass(frozen=True)
class Run:
    """One program with its words, on so many ranks."""

    words: Sequence[str]
    ranks: int = 1


def _surface(name: str, *words: str, ranks: int = 1, second: str = SECOND) -> Run:
    return Run((*SURFACE, second, *TILES, *words, "--output", f"{name}.h5"), ranks)


# In this order: surfaces take what the trainings left.
RUNS = {
    "training": Run(("mpi_landscape.train", "quickstart.yaml")),
    "surface": _surface("surface"),
    "two_ranks": _surface("two_ranks", ranks=2),
    "sampled": Run((*SURFACE, SECOND, "--relative-error", "0.05", "--output", "sampled.h5")),
    "line": _surface("line", second="--line"),
    "streamed": _surface("streamed", "--set", "compute.data=streamed"),
    "bfloat16": _surface("bfloat16", "--set", "compute.precision=bfloat16"),
    "float64": _surface("float64", "--set", "compute.precision=float64"),
    "plain": _surface("plain", "--set", "compute.engine=plain"),
    "phases": Run(("mpi_landscape.train", "phases.yaml"), ranks=2),
    "between": Run(("mpi_landscape.surface", "between.yaml", "--output", "between.h5")),
    "perceptron": Run(("mpi_landscape.train", "perceptron.yaml")),
    "first_layer": Run(("mpi_landscape.surface", "perceptron.yaml", "--output", "first_layer.h5"), ranks=2),
}


def main() -> None:
    """Run both sides and compare what they wrote."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", metavar="OLD", help="commit, or folder of a checkout")
    parser.add_argument("new", metavar="NEW", help="likewise")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="where the files of both sides stay")
    parser.add_argument("--only", metavar="RUNS", default=",".join(RUNS), help="of %(default)s")
    parser.add_argument(
        "--texts-may-differ", action="store_true", help="only numbers count: configurations gain fields"
    )
    options = parser.parse_args()
    names = options.only.split(",")
    for name in names:
        if name not in RUNS:
            parser.error(f"--only {name!r} is no run; valid are {', '.join(RUNS)}")
    with contextlib.ExitStack() as stack:
        sources = [checkout(each, stack) for each in (options.old, options.new)]
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bits-")))
        sides = [prepare(folder / name, sources[0]) for name in ("old", "new")]
        for name in names:
            for source, side in zip(sources, sides, strict=True):
                execute(RUNS[name], source, side)
            print(f"ran {name}", file=sys.stderr, flush=True)
        found = compare_folders(*sides)
    sys.exit(report(found, texts_may_differ=options.texts_may_differ))


def checkout(said: str, stack: contextlib.ExitStack) -> Path:
    """The folder of a side: the one that is named, or a commit's files in a temporary one."""
    if Path(said).is_dir():
        return Path(said).resolve()
    # An archive, not a worktree: nothing of it stays in the repository if this process is killed.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="checkout-")))
    archive = folder / "commit.tar"
    command = ["git", "-C", str(REPOSITORY), "archive", "--output", str(archive), said]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"bits.py: {said!r} is neither a folder nor a commit")
    shutil.unpack_archive(archive, folder, filter="data")
    return folder


def prepare(folder: Path, source: Path) -> Path:
    """A side's folder with the configurations, which both have from the old side.

    Raises:
        SystemExit: Something is there already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"bits.py: {folder} is not empty")
    shutil.copy(source / "configs" / "quickstart.yaml", folder)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def execute(run: Run, source: Path, folder: Path) -> None:
    """Run a program of a checkout in a side's folder.

    Raises:
        SystemExit: It fails, or is not that checkout's.
    """
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    asked = [sys.executable, "-c", "import mpi_landscape; print(mpi_landscape.__file__)"]
    place = subprocess.run(
        asked, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout
    if not Path(place.strip()).is_relative_to(source):
        sys.exit(f"bits.py: {source} is not what Python imports, but {place.strip()}")
    command = [sys.executable, "-m", *run.words]
    if run.ranks > 1:
        beside = Path(sys.executable).with_name("mpiexec")
        command = [str(beside) if beside.exists() else "mpiexec", "-n", str(run.ranks), *command]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bits.py: {source}: {' '.join(run.words)} failed:\n{done.stdout}{done.stderr}")


@dataclass(frozen=True)
class Difference:
    """Something that is not the same on both sides: its name and what is known of it; numbers, or a text about them."""

    name: str
    known: str
    is_text: bool = False


def compare_folders(old: Path, new: Path) -> dict[str, list[Difference]]:
    """What differs, by file of either side; an empty list for what is the same."""
    names = sorted(
        {
            str(path.relative_to(side))
            for side in (old, new)
            for path in side.rglob("*")
            if path.suffix in (".h5", ".pt") or path.name == "configuration.yaml"
        }
    )
    found = {}
    for name in names:
        absent = [side for side in (old, new) if not (side / name).exists()]
        found[name] = (
            [Difference("the file", f"missing on the side {absent[0].name}")]
            if absent
            else differences(old / name, new / name)
        )
    return found


def differences(old: Path, new: Path) -> list[Difference]:
    """What is not the same in two files."""
    one, other = contents(old), contents(new)
    found = [Difference(name, "on one side alone") for name in sorted(one.keys() ^ other.keys())]
    for name in sorted(one.keys() & other.keys()):
        if one[name] == other[name]:
            continue
        if one[name][0] is TEXT and other[name][0] is TEXT:
            pair = [side[name][1].splitlines() for side in (one, other)]
            lines = [line for line in difflib.ndiff(*pair) if line[0] in "+-"]
            found.append(Difference(name, "; ".join(lines)[:400], is_text=True))
        else:
            texts = [" ".join(map(str, side[name][:2]))[:90] for side in (one, other)]
            found.append(Difference(name, " | ".join(texts)))
    return found


# What is compared of a thing: what people may read first, then all of its bytes.
Kept = tuple[Any, ...]
TEXT = "text"  # the first entry of a text, whose second is all of it


def contents(path: Path) -> dict[str, Kept]:
    """Everything in a file that shall be the same, by name."""
    if path.suffix == ".h5":
        return dict(_of_hdf5(path))
    if path.suffix == ".pt":
        import torch

        return dict(_of_nest("", torch.load(path, weights_only=True)))
    return {"all of it": (TEXT, path.read_text())}


def _of_hdf5(path: Path) -> Iterator[tuple[str, Kept]]:
    import h5py

    with h5py.File(path) as file:
        things: list[tuple[str, Any]] = [("", file)]
        file.visititems(lambda name, thing: things.append((name, thing)))
        for name, thing in things:
            if name in CLOCKS:
                continue
            if isinstance(thing, h5py.Dataset):
                yield name, _of_array(thing[()], thing.dtype)
            for attribute in thing.attrs:
                if not attribute.startswith(ELSEWHERE):
                    yield f"{name}@{attribute}", _of_attribute(file, thing, attribute)


def _of_array(array: Any, dtype: Any) -> Kept:
    return (str(dtype), array.shape, array.tobytes())


def _of_attribute(file: Any, thing: Any, name: str) -> Kept:
    import h5py
    import numpy as np

    value = thing.attrs[name]
    if name in ("DIMENSION_LIST", "REFERENCE_LIST"):
        # References are addresses in the file; what they lead to is compared.
        lists = [np.atleast_1d(each) for each in value] if name == "DIMENSION_LIST" else [value["dataset"]]
        return ([sorted(file[each].name for each in references) for references in lists],)
    if isinstance(value, bytes | str):
        return (TEXT, value.decode() if isinstance(value, bytes) else value)
    kind = h5py.h5a.open(thing.id, name.encode()).dtype
    return (str(value), str(kind), np.asarray(value).tobytes())


def _of_nest(name: str, value: Any) -> Iterator[tuple[str, Kept]]:
    """The leaves of what torch.load gives."""
    import torch

    if isinstance(value, torch.Tensor):
        numbers = value.detach().reshape(-1).contiguous().view(torch.uint8).numpy()
        yield name, (str(value.dtype), (tuple(value.shape), value.stride()), numbers.tobytes())
    elif isinstance(value, dict):
        yield f"{name}/keys", (str(list(value)),)
        for key, each in value.items():
            yield from _of_nest(f"{name}/{key}", each)
    elif isinstance(value, list | tuple):
        yield f"{name}/length", (len(value),)
        for number, each in enumerate(value):
            yield from _of_nest(f"{name}/{number}", each)
    else:
        yield name, (repr(value),)


def report(found: dict[str, list[Difference]], *, texts_may_differ: bool = False) -> int:
    """Print a line for each file, what differs, and a summary; returns the exit status."""
    for name, all_of_it in found.items():
        print(f"{'differs' if all_of_it else 'same':8}{name}")
        for each in all_of_it:
            print(f"            {each.name}: {each.known}")
    in_numbers = sum(any(not each.is_text for each in all_of_it) for all_of_it in found.values())
    in_texts = sum(map(bool, found.values())) - in_numbers
    print(f"{len(found)} files: {in_numbers} differ in numbers, {in_texts} in texts alone")
    print(
        f"not compared: attributes {', '.join(ELSEWHERE)}... (place, hour, what is installed); "
        f"dataset {', '.join(CLOCKS)} (a clock's)"
    )
    return int(not found or in_numbers > 0 or (in_texts > 0 and not texts_may_differ))


if __name__ == "__main__":
    main()
