"""What must hold before a surface means anything, checked on the real network and data.

A loss per example, the same loss on a second pass, and the same data on a second reading; that the loss of an example does
not depend on its batch is seen by `plain`. Each is cheap next to one point of the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import call, is_out_of_memory, raised, sizes_taken
from mpi_landscape.evaluation.engine.dataflow import Flow, observed
from mpi_landscape.evaluation.engine.watching import Footprint, footprint
from mpi_landscape.evaluation.trust import OF_MODULES
from mpi_landscape.geometry.filters import owner
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch, Examples
from mpi_landscape.loading.reading import collate, read_items
from mpi_landscape.loading.resident import Resident
from mpi_landscape.loading.results import LossFunction, losses_of, named
from mpi_landscape.vocabulary import RESERVED

# A second reading of the whole data can take as long as the first; this many examples, evenly spaced, show
# shuffling or augmentation just as well.
REREAD = 1024
# Where nothing is kept, both readings are new ones.
REREAD_STREAMED = 32
# What the values of a loss are called that are no further numbers.
_KNOWN = ("loss", "correct", "count")


def call_loss(loss: LossFunction, model: nn.Module, batch: Batch, *, gradients: bool = False) -> Any:
    """The loss function's answer for a batch; what it raises is put in words, as a LandscapeError."""
    try:
        return call(loss, model, batch.data, gradients=gradients)
    except LandscapeError:
        raise
    except Exception as error:
        sizes = "" if is_out_of_memory(error) else sizes_taken(loss, model, batch.data, gradients=gradients)
        raise raised(error, batch.data, sizes=sizes) from error


@dataclass(frozen=True, kw_only=True)
class Returned:
    """What a loss function gives besides the loss of every example.

    Attributes:
        accuracy: Whether it tells which examples are correct.
        further: Names of its further numbers per example, sorted.
    """

    accuracy: bool
    further: tuple[str, ...]


def check_loss(result: Any, num_examples: int) -> Returned:
    """Check that a loss function returned one value per example, of everything that it returned.

    Raises:
        LandscapeError: It is something else, with its type and shape, or under a name that is taken.

    Example:
        >>> check_loss({"loss": torch.zeros(3), "top5": torch.ones(3, dtype=torch.bool)}, 3)
        Returned(accuracy=False, further=('top5',))
    """
    if isinstance(result, Mapping) and "loss" not in result:
        raise LandscapeError(
            f"loss: returned a mapping without 'loss'; it has {', '.join(map(repr, result)) or 'nothing'}"
        )
    given = named(result)
    _check_shape("the loss", given["loss"], num_examples)
    if not given["loss"].is_floating_point():
        raise LandscapeError(
            f"loss: returned values of type {given['loss'].dtype}; valid are floating-point numbers"
        )
    if given.get("correct") is not None:
        _check_shape("'correct' of the loss", given["correct"], num_examples)
    counts = given.get("count")
    if counts is not None:
        _check_shape("'count' of the loss", counts, num_examples)
        if counts.is_complex() or not bool((counts >= 0).all()):
            raise LandscapeError(
                "loss: 'count' has values that are no numbers of 0 or above; valid is by how much each example counts in the mean"
            )
    further = [name for name, value in given.items() if name not in _KNOWN and value is not None]
    for name in further:
        _check_further(name, given[name], num_examples)
    return Returned(accuracy=given.get("correct") is not None, further=tuple(sorted(further)))


def _check_further(name: Any, value: Any, num_examples: int) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
        raise LandscapeError(
            f"loss: returned numbers under the name {name!r}; valid are loss, correct, count, and further names of letters, "
            f"digits and underscores that do not begin with a digit, but not {', '.join(RESERVED)}"
        )
    _check_shape(name, value, num_examples)
    if value.is_complex():
        raise LandscapeError(f"loss: {name} has values of type {value.dtype}; valid are real numbers")


def try_two_examples(
    loss: LossFunction,
    model: nn.Module,
    split: str,
    dataset: Dataset[Any],
    *,
    device: torch.device,
    dtype: torch.dtype | None,
) -> tuple[Footprint, Returned, bool]:
    """Try two examples, so that what does not fit together shows before all of the data is read.

    The model is on the device; floating-point inputs become `dtype`, or stay as they are given where it is None.

    Returns:
        What a pass holds for an example, which decides on the batch size; what the loss gives; and whether it takes
        derivatives itself.

    Raises:
        LandscapeError: Items cannot be read or collated, or the loss is not one value per example.
    """
    items = read_items(split, dataset, range(min(2, len(dataset))))  # type: ignore[arg-type]
    data = nests.map_tensors(lambda t: t.to(device), collate(split, items, dtype=dtype, dataset=dataset))
    batch = Batch(data=data, valid=len(items))
    try:
        # A network in training is called no more often than it must: it draws, and keeps statistics.
        gradients = not model.training and needs_gradients(loss, model, batch)
    except LandscapeError:
        # Without a graph, as losses are called, is what its message should be about.
        call_loss(loss, model, batch)
        raise
    returned = check_loss(call_loss(loss, model, batch, gradients=gradients), len(items))
    held = footprint(model, lambda: call_loss(loss, model, batch, gradients=gradients), len(items))
    return held, returned, gradients


def _check_shape(what: str, value: Any, num_examples: int) -> None:
    if not isinstance(value, Tensor):
        item = ", without .item()" if isinstance(value, int | float) else ""
        raise LandscapeError(
            f"loss: {what} is a {type(value).__name__}; valid is a tensor of shape ({num_examples},), one value per example{item}"
        )
    if tuple(value.shape) != (num_examples,):
        hint = "; use reduction='none'" if value.ndim == 0 else ""
        raise LandscapeError(
            f"loss: {what} has shape {tuple(value.shape)} for a batch of {num_examples} examples; "
            f"valid is ({num_examples},), one value per example{hint}"
        )


def needs_gradients(loss: LossFunction, model: nn.Module, batch: Batch) -> bool:
    """Whether a loss takes derivatives itself: it fails without a graph, or says something else.

    Raises:
        LandscapeError: It fails with a graph, too.
    """
    try:
        without = losses_of(call(loss, model, batch.data))[: batch.valid]
    except Exception:
        call_loss(loss, model, batch, gradients=True)
        return True
    try:
        found = losses_of(call(loss, model, batch.data, gradients=True))[: batch.valid]
    except Exception:  # memory, or an operation that cannot be differentiated: nobody asked it to
        return False
    return not torch.allclose(found, without, rtol=1e-5, atol=1e-7, equal_nan=True)


def check_repeatable(loss: LossFunction, model: nn.Module, batch: Batch, *, gradients: bool = False) -> None:
    """Check that a second pass over a batch leaves the batch as it was and gives every example the same loss.

    Raises:
        LandscapeError: Something in the network or the loss draws random numbers, keeps state, or writes into
            its input.
    """
    # torch counts the writes into a tensor: this sees one that changes nothing any more, such as a second
    # in-place ReLU.
    writes = [tensor._version for _, tensor in nests.tensors(batch.data)]
    first, second = (
        losses_of(call_loss(loss, model, batch, gradients=gradients))[: batch.valid] for _ in range(2)
    )
    if writes != [tensor._version for _, tensor in nests.tensors(batch.data)]:
        raise LandscapeError(
            "model: the network or the loss changes its input in place, so every pass would see other data; "
            "let it work on a copy (an operation without inplace=True or a trailing underscore)"
        )
    if not nests.equal(first, second):
        # By example: in a sum, one NaN would hide the rest.
        index = int(((first != second) & ~((first != first) & (second != second))).nonzero()[0])
        raise LandscapeError(
            f"model: two passes over the same batch give different losses ({first[index].item():.9g} and "
            f"{second[index].item():.9g} for item {index}); something is random in evaluation mode "
            f"(dropout left on?) or keeps state"
        )


def check_rereading(
    examples: Examples, dataset: Dataset[Any], device: torch.device, dtype: torch.dtype | None
) -> None:
    """Check that the data set gives the same examples when it is read again.

    Raises:
        LandscapeError: An example differs: the data set shuffles or augments at random.
    """
    most = REREAD if isinstance(examples, Resident) else REREAD_STREAMED
    if not examples.whole_rows():
        _check_rereading_batches(examples, max(1, most // examples.batch_size))
        return
    for index in nests.evenly_spaced(examples.num_examples, most):
        item = collate(
            examples.split, read_items(examples.split, dataset, [index]), dtype=dtype, dataset=dataset
        )
        if not nests.equal(nests.map_tensors(lambda t: t.to(device), item), examples.example(index)):
            raise _read_otherwise(examples.split, f"item {index}")


def _check_rereading_batches(examples: Examples, most: int) -> None:
    """The same of padded batches, of which a row depends on the longest item, and which are put together anew of their items."""
    for number in nests.evenly_spaced(examples.num_batches, most):
        start = number * examples.batch_size
        # The last batch repeats its last item.
        indices = [
            min(index, examples.num_examples - 1) for index in range(start, start + examples.batch_size)
        ]
        with closing(examples.pieces(number, number + 1)) as pieces:
            held = next(pieces)[0].data
        if not nests.equal(examples.together(indices), held):
            raise _read_otherwise(examples.split, f"batch {number}")


def _read_otherwise(split: str, what: str) -> LandscapeError:
    return LandscapeError(
        f"data: {what} of split {split!r} is another one on a second reading; a landscape needs the same examples at every "
        f"point, so turn off shuffling and random augmentation (a data set with the transforms of evaluation, a collate_fn "
        f"that draws nothing)"
    )


def seen(
    loss: LossFunction, model: nn.Module, batches: Sequence[Batch], *, gradients: bool = False
) -> Flow | None:
    """The data flow of a pass over some batches; None where its operations cannot be watched."""
    try:
        return observed(
            model, lambda network: [call(loss, network, batch.data, gradients=gradients) for batch in batches]
        )
    except Exception:  # of a kernel, or of a network that is no torch of Python's
        return None


def check_reading(loss: LossFunction, model: nn.Module, batch: Batch, *, gradients: bool = False) -> None:
    """Check that no layer goes on with a tensor that it has once made of a parameter, to be called after other passes.

    Raises:
        LandscapeError: A parameter enters no operation, and its layer keeps a tensor of the parameter's shape beside it.
    """
    flow = seen(loss, model, [batch], gradients=gradients)
    if flow is None:
        return
    parameters = dict(model.named_parameters())
    computed = frozenset[str]().union(*(each.parameters for each in flow.operations))
    for name in sorted(parameters.keys() - computed):
        layer, _ = owner(model, name)
        for key, value in vars(layer).items():
            kept = [value] if isinstance(value, Tensor) else [each for _, each in nests.tensors(value)]
            if key not in OF_MODULES and any(each.shape == parameters[name].shape for each in kept):
                raise LandscapeError(
                    f"model: a pass does not read {name} but what its layer has made of it before ({key}), so what it gives "
                    f"depends on what came before; valid is a layer that computes with its parameters in every pass"
                )
