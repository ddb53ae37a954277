"""How much of a product is rounding: measured against the same product in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.evaluation.curvature.operators import Operator, Recorded
from mpi_landscape.evaluation.curvature.replica import Replica
from mpi_landscape.evaluation.curvature.replicas import Replicas
from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.evaluation.curvature.way import PLAIN
from mpi_landscape.evaluation.lending import tensors_of
from mpi_landscape.evaluation.replica import in_type, own_copy
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction

# By so many products a random vector is turned towards the largest eigenvalues before it is looked at.
_TURNS = 2


class Exact:
    """The network itself in float64, a copy of it that follows it.

    Args:
        model: The network, with the parameters of the space asking for a gradient.
        loss: As for `Products`.
        space: Which parameters count.
        operator: What is to be multiplied with.
        device: Where.
    """

    def __init__(
        self, model: nn.Module, loss: LossFunction, space: Space, operator: Operator, device: torch.device
    ) -> None:
        self._model, self._operator = model, operator
        self._network = in_type(own_copy(model), device, torch.float64)
        self._replica = Replica(self._network, loss, space, PLAIN)

    def product(self, batch: Batch, vector: Tensor) -> Tensor:
        """(n,) float64, where the network is now, of a batch in any type and a vector (n,)."""
        now = tensors_of(self._model)
        with torch.no_grad():
            for name, tensor in tensors_of(self._network).items():
                tensor.copy_(now[name])
        data = nests.in_precision(batch.data, torch.float64)
        recorded = self._operator(self._replica.function(Batch(data=data, valid=batch.valid)))
        return self._replica.products(recorded, vector.double()[None])[0]


def noise_of(
    replica: Replica, recorded: Recorded, size: int, like: Tensor, exact: Callable[[Tensor], Tensor] | None
) -> float:
    """The error of a product by rounding, relative to the product, of a vector near the largest eigenvalues.

    Args:
        replica: Of the network.
        recorded: The operator of a batch.
        size: Numbers of a vector, n.
        like: A tensor of the vectors' type and device.
        exact: (n,) -> (n,) float64, the same product in float64; None where there is none: then from how far the operator is
            from symmetric, |u·Hv − v·Hu| √n / |Hv|, as rounding errors of n numbers go in as many directions.

    Returns:
        0 where the operator is zero; NaN where a product is not finite.
    """

    def times(vector: Tensor) -> Tensor:
        found = replica.products(recorded, vector[None].to(like), keep=True)[0]
        return found.double()

    generator = torch.Generator().manual_seed(0)
    before = vector = torch.randn(size, generator=generator, dtype=torch.float64).to(like.device)
    for _ in range(_TURNS):
        before, found = vector, times(vector)
        length = torch.linalg.vector_norm(found)
        if not bool(length > 0):
            return float(length)  # zero, or NaN
        # Rounded, so that both are multiplied with the same vector.
        vector = (found / length).to(like.dtype).double()
    found = times(vector)
    length = torch.linalg.vector_norm(found)
    if exact is not None:
        try:
            return (
                float(torch.linalg.vector_norm(found - exact(vector)) / length) if bool(length > 0) else 0.0
            )
        except Exception as error:  # a network or a loss that does not take float64
            if is_out_of_memory(error):
                raise
    other = (before / torch.linalg.vector_norm(before)).to(like.dtype).double()
    gap = (other @ found - vector @ times(other)).abs()
    if not bool(length > 0):
        return 0.0
    # By chance it may be nothing.
    return max(torch.finfo(like.dtype).eps, float(gap * size**0.5 / length))


class Rounding:
    """The rounding of a network's products, wherever it is; a copy in float64 is made when it is first asked for.

    Args:
        replicas: Of the network, which have begun.
        exact: Makes the network in float64; None where nothing finer is to be compared with.
        like: A tensor of the vectors' type and device.
        size: Numbers of a vector, n.
    """

    def __init__(
        self, replicas: Replicas, exact: Callable[[], Exact] | None, like: Tensor, size: int
    ) -> None:
        self._replicas, self._make, self._like, self._size = replicas, exact, like, size
        self._exact: Exact | None = None

    def of(self, batch: Batch) -> float:
        """See `noise_of`; by the operator that is not compiled, as compiled code is of batches of one size."""
        replica = self._replicas.first
        recorded = self._replicas.plain(replica.function(batch))
        if self._exact is None and self._make is not None:
            self._exact = self._make()
        exact = None if self._exact is None else partial(self._exact.product, batch)
        return noise_of(replica, recorded, self._size, self._like, exact)
