"""What must hold before a surface means anything, checked on the real network and data.

A loss per example, the same loss on a second pass, the same data on a second reading, and a loss of an example that
does not depend on its batch. Each is cheap next to one point of the grid or costs one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.activations import largest_output
from mpi_landscape.evaluation.replica import LossFunction, own_copy
from mpi_landscape.evaluation.sums import NUM_SUMS, example_sums
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch, Examples
from mpi_landscape.loading.reading import collate, read_items
from mpi_landscape.loading.resident import Resident
from mpi_landscape.wording import one_line

# A second reading of the whole data can take as long as the first; this many examples, evenly spaced, show
# shuffling or augmentation just as well.
REREAD = 1024
# Where nothing is kept, both readings are new ones.
REREAD_STREAMED = 32


def call_loss(loss: LossFunction, model: nn.Module, batch: Batch) -> Any:
    """The loss function's answer for a batch, its exceptions put in words.

    Raises:
        LandscapeError: It raised.
    """
    try:
        with torch.no_grad():
            return loss(model, batch.data)
    except LandscapeError:
        raise
    except Exception as error:
        shapes = ", ".join(
            f"{place[1:] or 'batch'} {tuple(t.shape)}" for place, t in nests.tensors(batch.data)
        )
        raise LandscapeError(
            f"loss: calling it on the network and a batch ({shapes}) raised "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error


def check_loss(result: Any, num_examples: int) -> bool:
    """Check that a loss function returned one value per example.

    Args:
        result: What it returned for a batch.
        num_examples: Examples in that batch.

    Returns:
        Whether it also tells which examples are correct.

    Raises:
        LandscapeError: It is something else, with its type and shape.
    """
    if isinstance(result, Mapping) and "loss" not in result:
        raise LandscapeError(
            f"loss: returned a mapping without 'loss'; it has {', '.join(map(repr, result)) or 'nothing'}"
        )
    loss = result["loss"] if isinstance(result, Mapping) else result
    _check_shape("the loss", loss, num_examples)
    if not loss.is_floating_point():
        raise LandscapeError(f"loss: returned values of type {loss.dtype}; valid are floating-point numbers")
    if not isinstance(result, Mapping) or result.get("correct") is None:
        return False
    _check_shape("'correct' of the loss", result["correct"], num_examples)
    return True


def check_first_examples(
    loss: LossFunction,
    model: nn.Module,
    split: str,
    dataset: Dataset[Any],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> int:
    """Try two examples, so that what does not fit together shows before all of the data is read.

    Args:
        loss: Called as `loss(model, batch)`.
        model: On `device`, in `dtype`.
        split: Name, for messages.
        dataset: Map-style, at least one item.
        device: Where the model is.
        dtype: Floating-point type of the batch.

    Returns:
        Numbers per example in the largest tensor that a layer gives: what decides on the batch size.

    Raises:
        LandscapeError: Items cannot be read or collated, or the loss is not one value per example.
    """
    items = read_items(split, dataset, range(min(2, len(dataset))))  # type: ignore[arg-type]
    data = nests.map_tensors(lambda t: t.to(device), collate(split, items, dtype=dtype))
    batch = Batch(data=data, valid=len(items))
    check_loss(call_loss(loss, model, batch), len(items))
    return largest_output(model, lambda: call_loss(loss, model, batch), len(items))


def _check_shape(what: str, value: Any, num_examples: int) -> None:
    if not isinstance(value, Tensor):
        raise LandscapeError(
            f"loss: {what} is a {type(value).__name__}; valid is a tensor of shape ({num_examples},), one value per example"
        )
    if tuple(value.shape) != (num_examples,):
        hint = "; use reduction='none'" if value.ndim == 0 else ""
        raise LandscapeError(
            f"loss: {what} has shape {tuple(value.shape)} for a batch of {num_examples} examples; "
            f"valid is ({num_examples},), one value per example{hint}"
        )


def check_repeatable(loss: LossFunction, model: nn.Module, batch: Batch) -> None:
    """Check that a second pass over a batch leaves the batch as it was and gives every example the same loss.

    Raises:
        LandscapeError: Something in the network or the loss draws random numbers, keeps state, or writes into
            its input.
    """
    # torch counts the writes into a tensor: this sees one that changes nothing any more, such as a second
    # in-place ReLU.
    writes = [tensor._version for _, tensor in nests.tensors(batch.data)]
    first, second = (_losses(call_loss(loss, model, batch))[: batch.valid] for _ in range(2))
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


def _losses(result: Any) -> Tensor:
    losses: Tensor = result["loss"] if isinstance(result, Mapping) else result
    return losses


def check_rereading(
    examples: Examples, dataset: Dataset[Any], device: torch.device, dtype: torch.dtype
) -> None:
    """Check that the data set gives the same examples when it is read again.

    Raises:
        LandscapeError: An example differs: the data set shuffles or augments at random.
    """
    most = REREAD if isinstance(examples, Resident) else REREAD_STREAMED
    for index in nests.evenly_spaced(examples.num_examples, most):
        item = collate(examples.split, read_items(examples.split, dataset, [index]), dtype=dtype)
        if not nests.equal(nests.map_tensors(lambda t: t.to(device), item), examples.example(index)):
            raise LandscapeError(
                f"data: item {index} of split {examples.split!r} is another one on a second reading; a landscape "
                f"needs the same examples at every point, so turn off shuffling and random augmentation"
            )


def plain_sums(
    model: nn.Module,
    loss: LossFunction,
    batches: Sequence[Batch],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> NDArray[np.float64]:
    """The sums of each batch by the plain network: no flat vector, no padding, no threads.

    Each batch goes through in two uneven pieces, so that a loss which depends on an example's batch shows itself.

    Args:
        model: The trained network; left untouched.
        loss: As for `Evaluator`.
        batches: Any of a split's batches.
        device: Where the batches lie.
        dtype: Their floating-point type.

    Returns:
        (len(batches), NUM_SUMS) float64: as `Evaluator.batch_sums`.

    Raises:
        LandscapeError: The loss function raised, perhaps for a piece of one example, or refuses its size.
    """
    network = own_copy(model).to(device=device, dtype=dtype).eval()
    sums = np.zeros((len(batches), NUM_SUMS))
    for row, batch in enumerate(batches):
        cut = (batch.valid + 2) // 3
        for start, stop in ((0, cut), (cut, batch.valid)):
            if start < stop:
                piece = Batch(data=nests.rows(batch.data, start, stop), valid=stop - start)
                result = call_loss(loss, network, piece)
                check_loss(result, piece.valid)
                sums[row] += example_sums(result, piece.valid).cpu().numpy()
    return sums


def check_plain(split: str, engine: float, plain: float, *, tolerance: float = 1e-3) -> None:
    """Compare the center's loss as the engine computes it with that of the plain network.

    Args:
        split: For the message.
        engine: Mean loss by `Evaluator`.
        plain: Mean loss by `plain_sums`.
        tolerance: Relative, of losses above 2e-4; float32 rounding stays three orders below it, a dependence on
            the batch does not. Below 2e-4 the steps of float32 show: a cross-entropy near zero is a multiple
            of 2^-23, about 1.2e-7.

    Raises:
        LandscapeError: They differ by more, or one is finite or NaN and the other is not.
    """
    same = engine == plain or (np.isnan(engine) and np.isnan(plain))
    finite = np.isfinite(engine) and np.isfinite(plain)
    if not same and not (finite and abs(engine - plain) <= tolerance * max(abs(plain), 2e-4)):
        raise LandscapeError(
            f"model: the {split} loss at the center is {engine:.9g} in batches of one size and {plain:.9g} in another; "
            f"the loss of an example must not depend on the other examples of its batch"
        )
