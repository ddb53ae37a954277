"""The loss of a network with any parameters and buffers: at a checkpoint or on a bent path, where there is no plane.

It is the user's own network and loss, in the memory that the network has, so that whatever else leads to its parameters sees
them, too; nothing is rewritten. Where nothing else leads there, further threads have copies of its modules, whose parameters
lie in the same memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.batch_norm import (
    Moments,
    averaged,
    forget,
    gathering,
    normalizations,
    seen,
)
from mpi_landscape.evaluation.calling import call, is_out_of_memory, raised
from mpi_landscape.evaluation.lending import in_evaluation, restore, tensors_of
from mpi_landscape.evaluation.moves import write, write_state
from mpi_landscape.evaluation.reach import reach_of
from mpi_landscape.evaluation.replica import sharing_copy
from mpi_landscape.evaluation.sums import NUM_SUMS, Floats, example_sums
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.loading.sharing import Pause, Workers

# Relative: the same operations in another memory.
_SAME = 1e-5


class Anywhere:
    """Sums of the loss over batches, wherever the network is put; at the end of `with` it is where it was, bit for bit.

    The bits depend on the batches alone, not on the number of threads (within `exact_arithmetic`).

    Args:
        model: The network, where it is to be evaluated and in the type in which it is.
        loss: As for `Evaluator`.
        threads: Batches evaluated at once; 1 on a GPU.
        returned: Names of the further numbers per example that are summed, too.
        gradients: Whether the loss takes derivatives itself.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1, bias=False)
        >>> before = model.weight.item()
        >>> batch = Batch(data=torch.tensor([[1.0], [10.0]]), valid=2)
        >>> with Anywhere(model, lambda model, x: model(x)[:, 0]) as anywhere:
        ...     anywhere.put({"weight": torch.tensor([[4.0]])})
        ...     float(anywhere.sums([[batch]])[0])
        44.0
        >>> model.weight.item() == before
        True
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        *,
        threads: int = 1,
        returned: Sequence[str] = (),
        gradients: bool = False,
    ) -> None:
        self._model, self._loss = model, loss
        self._returned, self._gradients = tuple(returned), gradients
        self._tensors = tensors_of(model)
        self._before = {name: tensor.detach().clone() for name, tensor in self._tensors.items()}
        self._lent = in_evaluation(model)
        self._networks = [model]
        if threads > 1 and _is_alone(model, loss):
            self._networks += [sharing_copy(model) for _ in range(threads - 1)]
        self._compared = len(self._networks) == 1
        self._workers: Workers[nn.Module] | None = None

    def __enter__(self) -> Anywhere:
        self._lent.__enter__()
        for network in self._networks[1:]:
            network.eval()
        self._workers = Workers(self._networks)
        return self

    def __exit__(self, *error: Any) -> None:
        assert self._workers is not None
        self._workers.close()
        restore(self._model, self._before)
        self._lent.__exit__(*error)

    def put(self, state: Mapping[str, Tensor]) -> None:
        """Give the network other parameters and buffers; those that are not named stay as they are now.

        Args:
            state: By the names of `named_parameters()` and `named_buffers()`, in the network's shapes and of any type; they
                are copied.

        Raises:
            LandscapeError: The network has no tensor of a name, or one of another shape.
        """
        write_state(self._tensors, state)
        self._hand_on()

    def put_back(self) -> None:
        """Give the network the parameters and buffers with which it came."""
        self.put(self._before)

    def sums(self, pieces: Iterable[Sequence[Batch]], between: Pause | None = None) -> Floats:
        """Sums over batches, added in their order.

        Args:
            pieces: The batches, in sequences of which one at a time is in memory.
            between: Called between batches in the caller's thread; what it raises ends the evaluation.

        Returns:
            (NUM_SUMS + len(returned),) float64: loss sum, correct count, example count, sum of squared losses, and the
            sums of what else is returned.

        Raises:
            LandscapeError: The network or the loss raised for a batch.
        """
        total: Floats | None = None
        for piece in pieces:
            for row in self.batch_sums(piece, between):
                with np.errstate(invalid="ignore", over="ignore"):
                    total = row if total is None else total + row
        return np.zeros(NUM_SUMS + len(self._returned)) if total is None else total

    def batch_sums(self, batches: Sequence[Batch], between: Pause | None = None) -> Floats:
        """(len(batches), NUM_SUMS + len(returned)) float64: the same of each batch."""
        self._compare(batches)
        return np.stack(self._each(batches, self._sums_of, between))

    def recompute_statistics(
        self, pieces: Iterable[Sequence[Batch]], between: Pause | None = None
    ) -> dict[str, Tensor]:
        """Give normalizations the statistics of the data where the network is now; see `evaluation.batch_norm`.

        A last batch of a single example has no variance, and is left out where there are others.

        Args:
            pieces: The batches of the training data, as for `sums`.
            between: As for `sums`.

        Returns:
            The statistics by the names of their buffers, float64 on the network's device; none where it has no such modules.

        Raises:
            LandscapeError: A module gathers them in a way of its own, or the network raised for a batch.
        """
        names = list(normalizations(self._model))
        if not names:
            return {}
        if getattr(self._loss, "is_one_by_one", False):
            raise LandscapeError(
                "compute.batch_norm: recomputed: the loss goes through the network example by example, and one example has no "
                "variance; valid is a loss that returns one value per example, or stored or interpolated"
            )
        gathered: list[list[Moments | None]] = []
        for piece in pieces:
            batches = [batch for batch in piece if batch.valid > 1 or not (gathered or len(piece) > 1)]
            gathered += self._each(batches, self._gather(names), between)
        found = {
            f"{name}.{buffer}".removeprefix("."): value
            for name, moments in zip(names, averaged(gathered), strict=True)
            if moments is not None
            for buffer, value in zip(("running_mean", "running_var"), moments, strict=True)
        }
        for name, value in found.items():
            write(name, self._tensors[name], value)
        self._hand_on()
        return found

    def _gather(self, names: Sequence[str]) -> Any:
        """What gathers the statistics of one batch; those that the network has are afterwards as before."""

        def gather(network: nn.Module, batch: Batch) -> list[Moments | None]:
            own = normalizations(network)
            modules = [own[name] for name in names]
            kept = [
                (buffer, buffer.clone()) for module in modules for buffer in module.buffers(recurse=False)
            ]
            try:
                with gathering(modules):
                    forget(modules)
                    self._call(network, nests.rows(batch.data, 0, batch.valid))
                    return seen(modules)
            finally:
                for buffer, before in kept:
                    buffer.copy_(before)

        return gather

    def _sums_of(self, network: nn.Module, batch: Batch) -> Floats:
        found: Floats = (
            example_sums(self._call(network, batch.data), batch.valid, self._returned).cpu().numpy()
        )
        return found

    def _call(self, network: nn.Module, data: Any) -> Any:
        try:
            return call(self._loss, network, data, gradients=self._gradients)
        except LandscapeError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise raised(error, data) from error

    def _each(self, batches: Sequence[Batch], work: Any, between: Pause | None) -> list[Any]:
        """What `work` makes of every batch, in their order."""
        assert self._workers is not None

        def one(network: nn.Module, batch: Batch, pause: Pause) -> Any:
            made = work(network, batch)
            pause()
            return made

        return self._workers.share_out(batches, one, between)

    def _hand_on(self) -> None:
        """Buffers of the network into those of its copies; parameters they share."""
        own = dict(self._model.named_buffers())
        for network in self._networks[1:]:
            for name, buffer in network.named_buffers():
                buffer.copy_(own[name])

    def _compare(self, piece: Sequence[Batch]) -> None:
        """Do without copies that do not say of a batch what the network says; asked once."""
        if self._compared or not len(piece):
            return
        self._compared = True
        wanted = self._sums_of(self._model, piece[0])
        found = self._sums_of(self._networks[1], piece[0])
        if not np.allclose(found, wanted, rtol=_SAME, atol=0, equal_nan=True):
            assert self._workers is not None
            self._workers.close()
            self._networks = self._networks[:1]
            self._workers = Workers(self._networks)


def _is_alone(model: nn.Module, loss: LossFunction) -> bool:
    """Whether copies of the network are all that a pass over them needs, and write to nothing that they share."""
    reach = reach_of(model, loss)
    return reach.network is None and reach.shared is None and not reach.tensors
