"""The loss by the network itself at the center, which shows whether an example's loss depends on its batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.lending import in_evaluation, moved_to
from mpi_landscape.evaluation.premises import call_loss, check_loss
from mpi_landscape.evaluation.sums import NUM_SUMS, Floats, example_sums
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction


def plain_sums(
    model: nn.Module,
    loss: LossFunction,
    batches: Sequence[Batch],
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    returned: Sequence[str] = (),
    gradients: bool = False,
    in_pieces: bool = True,
) -> Floats:
    """The sums of each batch by the network itself, where it is: no flat vector, no padding, no threads.

    Each batch goes through in two uneven pieces, unless it is to stay whole, so that a loss which depends on an example's
    batch shows itself.
    Device and type are those of the batches; None where every tensor of the network keeps its own.

    Returns:
        (len(batches), NUM_SUMS + len(returned)) float64: as `Evaluator.batch_sums`.

    Raises:
        LandscapeError: The loss function raised, perhaps for a piece of one example, or refuses its size.
    """
    sums = np.zeros((len(batches), NUM_SUMS + len(returned)))
    with in_evaluation(model), moved_to(model, device, dtype):
        for row, batch in enumerate(batches):
            cut = (batch.valid + 2) // 3 if in_pieces else batch.valid
            for start, stop in ((0, cut), (cut, batch.valid)):
                if start < stop:
                    piece = Batch(data=nests.rows(batch.data, start, stop), valid=stop - start)
                    result = call_loss(loss, model, piece, gradients=gradients)
                    check_loss(result, piece.valid)
                    sums[row] += example_sums(result, piece.valid, returned).cpu().numpy()
    return sums


def far_batches(engine: Floats, plain: Floats, *, tolerance: float = 1e-4) -> NDArray[np.bool_]:
    """(batches,) where the two differ; see `check_batches`."""
    # A batch in which nothing counts has no mean, and is not far.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        root, wanted = (np.sqrt(rows[:, 3] / rows[:, 2]) for rows in (engine, plain))
        allowed = tolerance * np.maximum(wanted, 2e-3)
        far: NDArray[np.bool_] = np.abs(engine[:, 0] - plain[:, 0]) / plain[:, 2] > allowed
        far |= np.abs(root - wanted) > allowed
    return far


def check_batches(split: str, engine: Floats, plain: Floats, *, tolerance: float = 1e-4) -> None:
    """Compare the losses of each batch at the center, by the engine and by the network itself.

    In a mean over a split a few examples that are wrong do not show. The tolerance is relative, of losses above 2e-3, as
    for `check_plain`; by sums of squares one example counts more than by sums.

    Args:
        split: For the message.
        engine: (batches, columns) as `Evaluator.batch_sums`.
        plain: Likewise, of `plain_sums`.
        tolerance: See above.

    Raises:
        LandscapeError: A batch differs.
    """
    far = far_batches(engine, plain, tolerance=tolerance)
    if far.any():
        number = int(np.argmax(far))
        means = engine[number, 0] / engine[number, 2], plain[number, 0] / plain[number, 2]
        raise LandscapeError(
            f"model: the loss of batch {number} of split {split!r} at the center is {means[0]:.9g} in one piece and "
            f"{means[1]:.9g} in two; the loss of an example must not depend on the other examples of its batch"
        )


def check_plain(split: str, engine: float, plain: float, *, tolerance: float = 1e-3) -> None:
    """Compare a split's mean loss at the center as the engine computes it with that of the plain network.

    The tolerance is relative, of losses above 2e-4: float32 rounding stays three orders below it, a dependence on
    the batch does not. Smaller ones show the steps of float32: a cross-entropy near zero is a multiple of 2^-23.

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
