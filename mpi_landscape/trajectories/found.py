"""The checkpoints of trajectories: which files, of which epochs, with which learning rates; no torch."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from mpi_landscape.configuration.reading import load_text
from mpi_landscape.configuration.sections.fields import MOST_CHECKPOINTS
from mpi_landscape.configuration.sections.trajectory import Place, TrajectoryConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.checkpoints import HISTORY, epoch_name
from mpi_landscape.storage.history.records import History, read_history

_EPOCH = re.compile(r"epoch_(\d+)[.]pt")
_WEIGHTS = re.compile(r".*[.](pt|pth|ckpt|bin|pkl|t7|tar|npz|safetensors)")
# What lies beside weights under their endings, and is none.
_BESIDE = re.compile(
    r"(state|phase_\d+|optimizer|scheduler|scaler|rng_state(_\d+)?|training_args|latest)[.].*"
)
_STEPS = re.compile(r"checkpoint-\d+|step_?\d+|epoch_?\d+")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, kw_only=True)
class Way:
    """The checkpoints of a training, in order.

    Attributes:
        name: As the configuration calls it; "" for a single one.
        paths: The files or folders of weights.
        epochs: Of each, at least two, increasing.
        rates: The learning rate of each epoch; NaN where it is not known.
        lines: What is to be said of them, for people.
    """

    name: str
    paths: tuple[str, ...]
    epochs: tuple[int, ...]
    rates: tuple[float, ...]
    lines: tuple[str, ...] = ()


def find(said: TrajectoryConfiguration, places: Mapping[str, Place], *, where: str) -> list[Way]:
    """The checkpoints of every trajectory.

    Raises:
        LandscapeError: There are none, or a file of a sequence is missing.
    """
    found = []
    for name, place in places.items():
        here = f"{where}: trajectory.checkpoints" + (f".{name}" if name else "")
        found.append(_every(_way(name, place, here), said.every))
    total = sum(len(way.paths) for way in found)
    if total > MOST_CHECKPOINTS:
        raise LandscapeError(
            f"{where}: trajectory.checkpoints are {total}; expected at most {MOST_CHECKPOINTS}, such as with trajectory.every: "
            f"{-(-total // MOST_CHECKPOINTS) * said.every}"
        )
    return found


def folder_of(place: Place) -> Path | None:
    """The folder that a trajectory is said by; None where it is a pattern or a list."""
    return Path(place) if isinstance(place, str) and Path(place).is_dir() else None


def _way(name: str, place: Place, here: str) -> Way:
    if not isinstance(place, str):
        return _numbered(name, list(place), here)
    folder = folder_of(place)
    if folder is None:
        return _numbered(name, _matching(place, here), here)
    own = sorted(
        (int(match[1]), path)
        for path in _inside(folder, here)
        if (match := _EPOCH.fullmatch(path.name)) is not None
    )
    return _of_training(name, folder, own, here) if own else _numbered(name, _weights_in(folder, here), here)


def _of_training(name: str, folder: Path, own: Sequence[tuple[int, Path]], here: str) -> Way:
    """A folder of `train` or of a `Recorder`."""
    epochs, lines = [epoch for epoch, _ in own], []
    history = read_history(folder / HISTORY) if (folder / HISTORY).exists() else None
    due = None if history is None else _due(history, epochs[-1])
    absent = sorted(set(due or ()) - set(epochs))
    if absent:
        raise LandscapeError(
            f"{here}: {folder / epoch_name(absent[0])} is missing, and the training has left it"
            + (f" ({len(absent)} of its checkpoints are missing)" if len(absent) > 1 else "")
            + "; valid is the whole folder, or a list of the files to take"
        )
    gaps = sorted({after - before for before, after in pairwise(epochs)})
    if gaps and gaps[-1] > 1:
        steps = f"{gaps[0]}" if len(gaps) == 1 else f"{gaps[0]} to {gaps[-1]}"
        lines.append(f"the training left a checkpoint every {steps} epochs: the way between them is not seen")
    rates = [math.nan] * len(epochs)
    if history is not None:
        known = history.values["learning_rate"]
        rates = [float(known[epoch]) if epoch < len(known) else math.nan for epoch in epochs]
    return Way(
        name=name,
        paths=tuple(str(path) for _, path in own),
        epochs=tuple(epochs),
        rates=tuple(rates),
        lines=tuple(lines),
    )


def _due(history: History, last: int) -> list[int] | None:
    """The epochs, up to the last one that is there, of which a training leaves checkpoints; None where it does not say so."""
    try:
        training = load_text(str(history.attributes.get("configuration", "")), where=history.path).training
    except LandscapeError:
        return None
    if training is None:
        return None
    ends = accumulate(phase.epochs for phase in training.plan)
    due = {*range(0, last + 1, training.checkpoint_every), *ends}
    done = int(history.done.nonzero()[0][-1]) if history.done.any() else 0
    return sorted(epoch for epoch in due if epoch <= min(last, done))


def _matching(pattern: str, here: str) -> list[str]:
    if Path(pattern).exists():
        raise LandscapeError(
            f"{here}: {pattern} is a single file; expected a folder, a pattern or a list of files"
        )
    found = sorted(glob.glob(pattern, recursive=True), key=_natural)  # noqa: PTH207 - a pattern may be absolute
    if not found:
        hint = "no file has such a name" if glob.has_magic(pattern) else "there is no such folder"
        raise LandscapeError(f"{here}: {pattern}: {hint} (working folder {Path.cwd()})")
    return found


def _inside(folder: Path, here: str) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise LandscapeError(f"{here}: {folder}: cannot be read ({error.strerror})") from error


def _weights_in(folder: Path, here: str) -> list[str]:
    """The files of weights in anybody's folder, or its folders of weights, in natural order."""
    paths = _inside(folder, here)
    files = [
        path
        for path in paths
        if path.is_file() and _WEIGHTS.fullmatch(path.name) and not _BESIDE.fullmatch(path.name)
    ]
    numbered = [path for path in files if _NUMBER.search(path.name)]
    # `best.pt` and `last.pt` beside them are copies of some.
    chosen = numbered or files or [path for path in paths if path.is_dir() and _STEPS.fullmatch(path.name)]
    if not chosen:
        raise LandscapeError(
            f"{here}: {folder} has no files of weights (.pt, .pth, .ckpt, .safetensors and the like); expected a folder with a "
            f"checkpoint for each epoch"
        )
    return sorted(map(str, chosen), key=_natural)


def _numbered(name: str, paths: Sequence[str], here: str) -> Way:
    """Files in order, with the epochs that their names say, where all do, and these increase."""
    absent = next((path for path in paths if not Path(path).exists()), None)
    if absent is not None:
        raise LandscapeError(f"{here}: {absent}: there is no such file (working folder {Path.cwd()})")
    twice = next((path for number, path in enumerate(paths) if path in paths[:number]), None)
    if twice is not None:
        raise LandscapeError(f"{here}: has {twice} twice; expected each once")
    numbers = _epochs([Path(path).name for path in paths])
    lines = [] if numbers else ["no number in the files' names increases: they count as epochs 0, 1, 2, ..."]
    epochs = numbers or list(range(len(paths)))
    return Way(
        name=name,
        paths=tuple(paths),
        epochs=tuple(epochs),
        rates=(math.nan,) * len(paths),
        lines=tuple(lines),
    )


def _epochs(names: Sequence[str]) -> list[int] | None:
    """The numbers in files' names that increase from each to the next, such as 10 in resnet56_epoch_10_loss_0.3.ckpt.

    Example:
        >>> _epochs(["resnet56_9_loss_0.3.pt", "resnet56_10_loss_0.2.pt"])
        [9, 10]
    """
    said = [[int(each[-15:]) for each in _NUMBER.findall(name)] for name in names]
    for place in range(min(map(len, said))):
        numbers = [each[place] for each in said]
        if all(before < after for before, after in pairwise(numbers)):
            return numbers
    return None


def _natural(path: str) -> list[tuple[bool, int, str]]:
    """So that 9 comes before 10."""
    return [
        (not part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in re.split(r"(\d+)", path)
        if part
    ]


def _every(way: Way, step: int) -> Way:
    """Every so many of them, from the first on, and the last."""
    count = len(way.paths)
    chosen = sorted({*range(0, count, step), count - 1})
    return Way(
        name=way.name,
        paths=tuple(way.paths[each] for each in chosen),
        epochs=tuple(way.epochs[each] for each in chosen),
        rates=tuple(way.rates[each] for each in chosen),
        lines=way.lines,
    )


def said_lines(ways: Sequence[Way]) -> list[str]:
    """What is to be said of them, for people."""
    lines = []
    for way in ways:
        named = f"{way.name}: " if way.name else ""
        lines.append(
            f"checkpoints {named}{len(way.paths)}, epochs {way.epochs[0]} to {way.epochs[-1]}, "
            f"{way.paths[0]} to {Path(way.paths[-1]).name}"
        )
        lines += [f"checkpoints {named}{line}" for line in way.lines]
    return lines
