"""How the weights of checkpoints are distributed, and how long they are, tensor by tensor (Li et al. 2018, figure 2 c and f).

A checkpoint is read twice, as the bins are those of all: once for its ends and norms, once to be counted. One is in memory at a
time, and of it a piece in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.checkpoints import Source, read_weights
from mpi_landscape.storage.weights_file import WeightCounts
from mpi_landscape.wording import listed, telling_parts

# What normalizations gather: no weights.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# Numbers that are in float64 at a time.
_PIECE = 2**20


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be counted.

    Attributes:
        bins: How many.
        ends: Of the first and the last bin; None for the least and the greatest of all weights.
        tensors: Globs of names whose numbers are counted; empty for all tensors of two axes or more, so without biases and
            normalizations.
        key: As for a `Source`, like `part`.
        part: Likewise.
    """

    bins: int = 2000
    ends: tuple[float, float] | None = None
    tensors: tuple[str, ...] = ()
    key: str | None = None
    part: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """What a first reading of a checkpoint finds."""

    shapes: dict[str, tuple[int, ...]]
    norms: list[float]
    low: float
    high: float
    not_finite: int


def count_weights(paths: Sequence[str], asked: Asked) -> WeightCounts:
    """Count the weights of several checkpoints of one network in common bins.

    Running statistics and whole numbers are no weights; a tensor under two names (tied) counts once.

    Args:
        paths: Checkpoints of any kind that is read elsewhere.
        asked: What is to be counted.

    Raises:
        LandscapeError: One cannot be read, or has other tensors than the first; no tensor fits; or no weight is finite.
    """
    looked: list[_Looked] = []
    for path in paths:
        looked.append(_look(path, asked))
        _check_alike(paths[0], looked[0], path, looked[-1])
    names = list(looked[0].shapes)
    counted = _counted(looked[0].shapes, asked)
    low, high = min(each.low for each in looked), max(each.high for each in looked)
    if asked.ends is None and not low <= high:
        raise LandscapeError(f"{paths[0]}: none of its weights is finite, so there is nothing to count")
    ends = np.array([low, high] if asked.ends is None else asked.ends)
    # Ends that coincide are set apart as numpy does it.
    edges: NDArray[np.float64] = np.histogram_bin_edges(ends, asked.bins, (ends[0], ends[1]))
    counts = [_count(path, asked, counted, edges) for path in paths]
    parts = telling_parts(paths)
    return WeightCounts(
        path="",
        checkpoints=tuple(part or PurePath(path).stem for part, path in zip(parts, paths, strict=True)),
        sources=tuple(paths),
        tensors=tuple(names),
        sizes=np.array([math.prod(shape) for shape in looked[0].shapes.values()], dtype=np.int64),
        counted=np.array([name in counted for name in names]),
        bin_edges=edges,
        count=np.stack([count for count, _, _ in counts]),
        below=np.array([below for _, below, _ in counts], dtype=np.int64),
        above=np.array([above for _, _, above in counts], dtype=np.int64),
        not_finite=np.array([each.not_finite for each in looked], dtype=np.int64),
        norm=np.array([each.norms for each in looked]),
    )


def _state(path: str, asked: Asked) -> dict[str, Tensor]:
    """The weights of a checkpoint by name."""
    state = read_weights(Source(path=path, key=asked.key, part=asked.part, field="--key or --part")).state
    found: dict[str, Tensor] = {}
    seen = set()
    for name, tensor in state.items():
        is_number = tensor.is_floating_point() or tensor.is_complex()
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if (
            is_number
            and name.split(".")[-1] not in _STATISTICS
            and (tensor.numel() == 0 or place not in seen)
        ):
            found[name] = tensor
            seen.add(place)
    if not found:
        raise LandscapeError(f"{path}: holds no floating-point weights")
    return found


def _counted(shapes: dict[str, tuple[int, ...]], asked: Asked) -> set[str]:
    if not asked.tensors:
        return {name for name, shape in shapes.items() if len(shape) > 1} or set(shapes)
    for pattern in asked.tensors:
        if not any(fnmatchcase(name, pattern) for name in shapes):
            raise LandscapeError(
                f"--tensors {pattern!r}: matches none; valid are globs of names such as {listed(list(shapes)[:3])}"
            )
    return {name for name in shapes if any(fnmatchcase(name, pattern) for pattern in asked.tensors)}


def _look(path: str, asked: Asked) -> _Looked:
    state = _state(path, asked)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    counted, norms, lows, highs, not_finite = _counted(shapes, asked), [], [np.inf], [-np.inf], 0
    for name, tensor in state.items():
        squares = []
        for piece in _pieces(tensor):
            with np.errstate(over="ignore"):
                squares.append(float(np.sum(piece * piece)))
            finite = np.isfinite(piece)
            if name in counted:
                not_finite += int((~finite).sum())
                lows.append(float(piece.min(initial=np.inf, where=finite)))
                highs.append(float(piece.max(initial=-np.inf, where=finite)))
        # fsum refuses infinities of both signs; squares have one.
        norms.append(math.sqrt(math.fsum(squares)) if np.isfinite(squares).all() else float(np.sum(squares)))
    return _Looked(shapes=shapes, norms=norms, low=min(lows), high=max(highs), not_finite=not_finite)


def _count(
    path: str, asked: Asked, counted: set[str], edges: NDArray[np.float64]
) -> tuple[NDArray[np.int64], int, int]:
    """(bins,) weights in each bin, the last of which has both ends; and how many lie below and above all."""
    count, below, above = np.zeros(len(edges) - 1, dtype=np.int64), 0, 0
    for name, tensor in _state(path, asked).items():
        for piece in _pieces(tensor) if name in counted else ():
            finite = piece[np.isfinite(piece)]
            count += np.histogram(finite, bins=edges)[0]
            below += int((finite < edges[0]).sum())
            above += int((finite > edges[-1]).sum())
    return count, below, above


def _pieces(tensor: Tensor) -> Iterator[NDArray[np.float64]]:
    """The numbers of a tensor in float64, real and imaginary parts of complex ones."""
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    for piece in torch.split(real.reshape(-1), _PIECE):
        yield piece.double().numpy()


def _check_alike(first: str, one: _Looked, path: str, other: _Looked) -> None:
    """Refuse another network, by the first difference."""
    for name in dict.fromkeys([*one.shapes, *other.shapes]):
        shapes = [each.shapes.get(name) for each in (one, other)]
        if shapes[0] != shapes[1]:
            words = ["none" if shape is None else f"one of shape {shape}" for shape in shapes]
            raise LandscapeError(
                f"{path}: is of another network than {first}: of tensor {name} it has {words[1]}, and that has {words[0]}; "
                f"valid are checkpoints of one network"
            )
