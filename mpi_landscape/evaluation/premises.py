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
from mpi_landscape.evaluation import batches as nests
from mpi_landscape.evaluation.evaluator import LossFunction, example_sums, own_copy
from mpi_landscape.evaluation.resident import Batch, Resident, collate, read_items

# A second reading of the whole data can take as long as the first; this many examples, evenly spaced, show
# shuffling or augmentation just as well.
REREAD = 1024


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
        shapes = ", ".join(f"{place[1:] or 'batch'} {tuple(t.shape)}" for place, t in nests.tensors(batch.data))
        raise LandscapeError(
            f"loss: calling it on the network and a batch ({shapes}) raised "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
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
    if isinstance(result, Mapping):
        if "loss" not in result:
            raise LandscapeError(f"loss: returned a mapping without 'loss'; it has {', '.join(map(repr, result)) or 'nothing'}")
        check_loss(result["loss"], num_examples)
        if result.get("correct") is None:
            return False
        _check_shape("'correct' of the loss", result["correct"], num_examples)
        return True
    _check_shape("the loss", result, num_examples)
    if not result.is_floating_point():
        raise LandscapeError(f"loss: returned values of type {result.dtype}; valid are floating-point numbers")
    return False


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
    """Check that a second pass over a batch gives the same loss, bit for bit.

    Raises:
        LandscapeError: It does not: something in the network or the loss draws random numbers or keeps state.
    """
    first, second = (example_sums(call_loss(loss, model, batch), batch.valid)[0].item() for _ in range(2))
    if first != second and not (np.isnan(first) and np.isnan(second)):
        raise LandscapeError(
            f"model: two passes over the same batch give different losses ({first / batch.valid:.9g} and "
            f"{second / batch.valid:.9g}); something is random in evaluation mode (dropout left on?) or keeps state"
        )


def check_rereading(resident: Resident, dataset: Dataset[Any], device: torch.device, dtype: torch.dtype) -> None:
    """Check that the data set gives the same examples when it is read again.

    Raises:
        LandscapeError: An example differs: the data set shuffles or augments at random.
    """
    chosen = np.unique(np.linspace(0, resident.num_examples - 1, REREAD).astype(int)).tolist()
    for index in chosen:
        item = collate(resident.split, read_items(resident.split, dataset, [index]), dtype=dtype)
        batch, row = divmod(index, resident.batch_size)
        kept = nests.rows(resident.batches[batch].data, row, row + 1)
        if not nests.equal(nests.map_tensors(lambda t: t.to(device), item), kept):
            raise LandscapeError(
                f"data: item {index} of split {resident.split!r} is another one on a second reading; a landscape needs "
                f"the same examples at every point, so turn off shuffling and random augmentation"
            )


def plain_sums(model: nn.Module, loss: LossFunction, batches: Sequence[Batch], *, device: torch.device, dtype: torch.dtype) -> NDArray[np.float64]:
    """The sums of each batch by the plain network: no flat vector, no padding, no threads.

    Each batch goes through in two uneven pieces, so that a loss which depends on an example's batch shows itself.

    Args:
        model: The trained network; left untouched.
        loss: As for `Evaluator`.
        batches: Any of a split's batches.
        device: Where the batches lie.
        dtype: Their floating-point type.

    Returns:
        (len(batches), 3) float64: loss sum, correct count, example count.
    """
    network = own_copy(model).to(device=device, dtype=dtype).eval()
    sums = np.zeros((len(batches), 3))
    with torch.no_grad():
        for row, batch in enumerate(batches):
            cut = (batch.valid + 2) // 3
            for start, stop in ((0, cut), (cut, batch.valid)):
                if start < stop:
                    piece = nests.rows(batch.data, start, stop)
                    sums[row] += example_sums(loss(network, piece), stop - start).cpu().numpy()
    return sums


def check_plain(split: str, engine: float, plain: float, *, tolerance: float = 1e-3) -> None:
    """Compare the center's loss as the engine computes it with that of the plain network.

    Args:
        split: For the message.
        engine: Mean loss by `Evaluator`.
        plain: Mean loss by `plain_sums`.
        tolerance: Relative; float32 rounding stays three orders below it, a dependence on the batch does not.

    Raises:
        LandscapeError: They differ by more.
    """
    if np.isfinite(plain) and np.isfinite(engine) and abs(engine - plain) > tolerance * max(abs(plain), 1e-6):
        raise LandscapeError(
            f"model: the {split} loss at the center is {engine:.9g} in batches of one size and {plain:.9g} in another; "
            f"the loss of an example must not depend on the other examples of its batch"
        )


