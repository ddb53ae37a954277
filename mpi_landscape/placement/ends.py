"""Ends of differences: checkpoints that a surface leads to, and what of them a flat vector does not hold. Collective."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from mpi_landscape.configuration.sections.plane import (
    DifferenceDirection,
    DirectionsConfiguration,
    FileDirection,
)
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.lending import tensors_of
from mpi_landscape.evaluation.replica import own_copy
from mpi_landscape.geometry.layout import Layout, layout_of
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.problem.checkpoints import Source, Weights, load_state, read_weights
from mpi_landscape.storage.vectors import read_names
from mpi_landscape.wording import listed

SURFACES = (".h5", ".hdf5", ".nc")
_MOST_NAMED = 3


# What a script hands over in place of a file, by axis.
Given = Mapping[str, Mapping[str, Tensor]]
NOTHING: Given = MappingProxyType({})


def ends_of(configuration: DirectionsConfiguration) -> dict[str, DifferenceDirection]:
    """The directions with a checkpoint at coordinate 1, by axis: differences that are neither normalized nor changed.

    Example:
        >>> alpha = DifferenceDirection(to="other.pt")
        >>> [said.to for said in ends_of(DirectionsConfiguration(alpha=alpha, beta=None)).values()]
        ['other.pt']
    """
    axes = {"alpha": configuration.alpha}
    if configuration.beta is not None and not configuration.orthogonalize:
        axes["beta"] = configuration.beta
    return {
        axis: said
        for axis, said in axes.items()
        if isinstance(said, DifferenceDirection)
        and said.normalize == "none"
        and not said.ignore
        and said.only == "all"
    }


def weights_of(axis: str, said: DifferenceDirection | FileDirection, given: Given) -> Weights:
    """The tensors that a direction names, of a file or as a script has handed them over.

    Raises:
        LandscapeError: The file cannot be read.
    """
    if axis in given:
        return Weights(state=dict(given[axis]))
    path = said.to if isinstance(said, DifferenceDirection) else said.path
    return read_weights(Source(path=path, key=said.key, part=said.part, field=f"directions.{axis}"))


def end_of(model: nn.Module, weights: Weights, *, where: str) -> tuple[nn.Module, list[str]]:
    """A copy of the network with the parameters and buffers of a checkpoint, and lines for people.

    Raises:
        LandscapeError: The checkpoint is another network's, or has two values for one tensor.
    """
    end = own_copy(model)
    lines = load_state(end, weights.state, where=where)
    return end, [*weights.lines, *lines]


def end_along(
    axis: str, said: DifferenceDirection, model: nn.Module, given: Given, *, where: str
) -> tuple[nn.Module, list[str]]:
    """The network at the end of a difference, and lines for people; messages begin with `where`.

    Raises:
        LandscapeError: As `weights_of` and `end_of`, or weights in whole numbers would have to move.
    """
    here = f"{where}: directions.{axis}.to"
    here = here if axis in given else f"{here}: {said.to}"
    end, lines = end_of(model, weights_of(axis, said, given), where=here)
    _refuse_whole_numbers(model, end, where=here)
    return end, lines


def _refuse_whole_numbers(model: nn.Module, end: nn.Module, *, where: str) -> None:
    """Refuse an end with other weights of int8 and the like; a buffer of wider integers counts something, and is said later."""
    there = tensors_of(end)
    parameters = {name for name, _ in model.named_parameters()}
    for name, tensor in tensors_of(model).items():
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            continue
        is_weight = name in parameters or tensor.dtype.itemsize == 1
        if is_weight and name in there and not torch.equal(tensor, there[name]):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise LandscapeError(
                f"{where}: {name} is another there, and of {kind}: weights in whole numbers, such as quantized ones, cannot "
                f"move; valid is a line between networks in floating-point numbers, dequantized"
            )


def buffers_move(
    configuration: DirectionsConfiguration,
    model: nn.Module,
    ranks: Ranks,
    *,
    where: str,
    given: Given = NOTHING,
) -> bool:
    """Whether running statistics are a part of the flat vectors: as said, or where an end has others. Collective.

    Raises:
        AgreedError: A checkpoint or a file of a direction cannot be read.
    """
    said = configuration.normalization_buffers
    if isinstance(said, bool):
        return said
    return bool(ranks.share(ranks.on_root(lambda: _needs_buffers(configuration, model, where, given))))


def _needs_buffers(
    configuration: DirectionsConfiguration, model: nn.Module, where: str, given: Given
) -> bool:
    full = layout_of(model, normalization_buffers=True)
    statistics = {entry.name for entry in full.entries if entry.kind == "buffer"}
    if not statistics:
        return False
    for axis, difference in ends_of(configuration).items():
        end, _ = end_along(axis, difference, model, given, where=where)
        if statistics & set(_differing(model, end)):
            return True
    for said in (configuration.alpha, configuration.beta):
        # A direction of a surface that has moved them.
        if (
            isinstance(said, FileDirection)
            and said.path.endswith(SURFACES)
            and statistics <= set(read_names(said.path))
        ):
            return True
    return False


def left_behind(
    model: nn.Module, end: nn.Module, moved: Collection[str], *, recomputed: bool = False
) -> list[str]:
    """Buffers of an end that its direction does not lead to, in lines for people; integers, which count, are left out.

    Args:
        model: The network at the center.
        end: The network at the end.
        moved: Names of the tensors that the direction moves.
        recomputed: Whether running statistics are made anew at every point.
    """
    missed = [name for name in _differing(model, end) if name not in moved]
    statistics = {
        entry.name for entry in layout_of(model, normalization_buffers=True).entries if entry.kind == "buffer"
    }
    lines = []
    running = [name for name in missed if name in statistics]
    if running and not recomputed:
        lines.append(
            f"running statistics stay at the center's, and differ at the end ({_some(running)}): the loss there is not that "
            f"of the checkpoint; directions.normalization_buffers: auto takes them along"
        )
    others = [name for name in missed if name not in statistics]
    if others:
        lines.append(
            f"buffers stay at the center's, and differ at the end ({_some(others)}): the loss there is not that of the "
            f"checkpoint"
        )
    return lines


def _differing(model: nn.Module, end: nn.Module) -> Iterator[str]:
    """Names of floating-point and complex buffers that are not the same in both."""
    there = dict(end.named_buffers())
    for name, buffer in model.named_buffers():
        if not (buffer.is_floating_point() or buffer.is_complex()):
            continue
        if name not in there or not torch.equal(buffer, there[name].to(buffer.dtype)):
            yield name


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return listed(names[:_MOST_NAMED]) + more


def fixed_lines(layout: Layout, only: Mapping[str, str]) -> list[str]:
    """What of the parameters never moves, in lines for people.

    Args:
        layout: The order of the flat vectors.
        only: `trainable` or `all`, by axis.
    """
    lines = []
    axes = [axis for axis, which in only.items() if which == "trainable"]
    frozen = [entry.name for entry in layout.entries if not entry.trainable]
    if frozen and axes:
        lines.append(
            f"frozen      {_some(frozen)}: not trainable, left at the center along {' and '.join(axes)} (only: trainable)"
        )
    if layout.is_frozen and axes:
        lines.append("frozen      no parameter is trainable (requires_grad), so all of them move")
    if layout.fixed:
        lines.append(f"fixed       {_some(list(layout.fixed))}: no floating-point numbers, left as they are")
    if layout.tied:
        pairs = [f"{name} is {first}" for name, first in layout.tied]
        lines.append(f"tied        {_some(pairs)}: one memory, one tensor")
    return lines
