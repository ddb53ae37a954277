"""The two parts of the Hessian of a loss ℓ(f(θ)) of a network's outputs f.

    H = G + R,    G = Σ Jᵀ ℓ''(f) J,    R = Σ_k c_k ∇²f_k    with J = ∂f/∂θ and c = ∂ℓ/∂f

G, the generalized Gauss-Newton matrix (Schraudolph 2002, "Fast curvature matrix-vector products for second-order gradient
descent"; Martens 2014, arXiv:1412.1193, section 8), is the Hessian of the loss of the network that is made linear at θ: positive
semidefinite where ℓ is convex. R, the remainder, is the curvature of the network itself, weighted by how much the loss still
pulls at each output; of a network that is linear in its parameters it is zero. Both are means over the examples as the loss is,
by how much each counts.

What is done with outputs alone, ℓ, c and ℓ'', is done in float64, whatever the network is computed in: at a small loss c is the
small difference of numbers near one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.operators import OfBatch, Tensors, Twice
from mpi_landscape.loading import nests
from mpi_landscape.loading.parted import Parted, parted
from mpi_landscape.loading.results import LossFunction, counts_of, losses_of, users_own
from mpi_landscape.wording import one_line

# Relative, of a loss and the same in two steps: float32 against float64 on the same outputs.
_SAME = 1e-4


class GaussNewton:
    """Products with the Gauss-Newton part: J v, then ℓ'' times that, then Jᵀ times that.

    Jᵀ c is recorded once, as a function of c; it is linear, so that its derivative by c, taken backward, is J, and all vectors
    use the same graph, on any number of threads: torch's forward mode, which has one level for a whole process, would compute the
    outputs anew for each vector and one batch at a time. Every network that has products with its Hessian has these.

    Example:
        The cross-entropy of two logits w and 0 of one example, at w = 0, has the second derivative p (1 − p) = 1/4:

        >>> from torch import nn
        >>> from mpi_landscape.loading.batches import Batch
        >>> def loss(model, x): ...
        >>> loss.outputs = lambda model, x: torch.cat([model(x), torch.zeros(1, 1)], 1)
        >>> loss.loss_of_outputs = lambda outputs, x: nn.functional.cross_entropy(outputs, torch.tensor([0]), reduction="none")
        >>> model = nn.Linear(1, 1, bias=False)
        >>> batch = Batch(data=torch.ones(1, 1), valid=1)
        >>> function = OfBatch(network=model, loss=loss, batch=batch, parameters=[model.weight])
        >>> _ = nn.init.zeros_(model.weight)
        >>> GaussNewton(function).times([torch.ones(1, 1)], last=True)[0].item()
        0.25
    """

    def __init__(self, function: OfBatch) -> None:
        self._cut = _Cut(function, bent=True)
        self.count, self.total = self._cut.count, self._cut.total.detach()
        self._parameters = function.parameters
        self._weights = [torch.zeros_like(each, requires_grad=True) for each in self._cut.outputs]
        self._back: Tensors = [None] * len(self._parameters)
        if self._cut.outputs:
            with torch.enable_grad():
                self._back = torch.autograd.grad(
                    self._cut.outputs,
                    self._parameters,
                    grad_outputs=self._weights,
                    create_graph=True,
                    allow_unused=True,
                )
        self._used = [place for place, each in enumerate(self._back) if each is not None]

    def times(self, vector: Sequence[Tensor], *, last: bool) -> Tensors:
        """See `Recorded`."""
        if not self._used or self._cut.is_flat:
            return [None] * len(self._parameters)
        along = torch.autograd.grad(
            [each for place in self._used if (each := self._back[place]) is not None],
            self._weights,
            grad_outputs=[vector[place] for place in self._used],
            retain_graph=not last,
            allow_unused=True,
        )
        return torch.autograd.grad(
            self._cut.outputs,
            self._parameters,
            grad_outputs=self._cut.second(along, last=last),
            retain_graph=not last,
            allow_unused=True,
        )


class Remainder:
    """Products with the remainder: the Hessian of Σ c f(θ), in which c = ∂ℓ/∂f is held at its value.

    It is one product as those of the Hessian are, without a difference of two: H v − G v would have the rounding of both. What
    the outputs depend on linearly, such as a last bias, has none.
    """

    def __init__(self, function: OfBatch) -> None:
        cut = _Cut(function, bent=False)
        self.count, self.total = cut.count, cut.total.detach()
        with torch.enable_grad():
            linear = torch.zeros((), dtype=torch.float64, device=cut.total.device)
            for slope, outputs in zip(cut.slopes, cut.outputs, strict=True):
                if slope is not None:
                    linear = linear + (slope.conj() * outputs.to(slope.dtype)).real.sum()
        self._twice = Twice(linear, function.parameters)

    def times(self, vector: Sequence[Tensor], *, last: bool) -> Tensors:
        """See `Recorded`."""
        return self._twice.times(vector, last=last)


class _Cut:
    """A batch's loss, cut at the outputs.

    Args:
        function: The loss of the batch.
        bent: Whether second derivatives by the outputs are asked for.

    Attributes:
        outputs: Those that depend on the parameters, with their graph.
        total: The sum of the valid examples' losses, () float64, a function of the outputs' values alone.
        count: By how much these examples count.
        slopes: c, the derivative of the total by each of `outputs`, float64 or complex128; None where it does not depend on one.
        is_flat: Whether ℓ'' is zero, as of what is piecewise linear.
    """

    def __init__(self, function: OfBatch, *, bent: bool) -> None:
        known, self._batch = known_parts(function.loss), function.batch
        with torch.enable_grad():
            given = known.outputs(function.network, nests.fresh(function.batch.data))
            found = [leaf for _, leaf in nests.tensors(given)]
            self.outputs = [leaf for leaf in found if leaf.requires_grad]
            self.total, self.count, self._leaves = _total(known, given, function)
            self.slopes: Tensors = [None] * len(self._leaves)
            if self.total.requires_grad and self._leaves:
                self.slopes = torch.autograd.grad(
                    self.total, self._leaves, create_graph=bent, allow_unused=True
                )
        self._second = known.second
        self._bent = [
            place for place, each in enumerate(self.slopes) if each is not None and each.requires_grad
        ]
        self.is_flat = bent and not self._bent

    def second(self, along: Tensors, *, last: bool) -> list[Tensor]:
        """ℓ'' times J v: for each of `outputs` a tensor of its shape and type."""
        moved = [
            torch.zeros_like(leaf) if each is None else each.detach().to(leaf.dtype)
            for each, leaf in zip(along, self._leaves, strict=True)
        ]
        if self._second is not None and len(moved) == 1:
            valid = self._batch.valid
            leaf = self._leaves[0].detach()
            known = self._second(leaf[:valid], nests.rows(self._batch.data, 0, valid), moved[0][:valid])
            result: Tensors = [torch.cat([known, torch.zeros_like(leaf[valid:])])]
        else:
            result = torch.autograd.grad(
                [each for place in self._bent if (each := self.slopes[place]) is not None],
                self._leaves,
                grad_outputs=[moved[place] for place in self._bent],
                retain_graph=not last,
                allow_unused=True,
            )
        return [
            torch.zeros_like(outputs) if each is None else each.to(outputs.dtype)
            for each, outputs in zip(result, self.outputs, strict=True)
        ]


def _total(known: Parted, given: Any, function: OfBatch) -> tuple[Tensor, float, list[Tensor]]:
    """The sum of the valid losses, by how much they count, and the outputs' values as leaves, in float64 if it takes that."""
    batch = function.batch

    def tried(finer: bool) -> tuple[Tensor, float, list[Tensor]]:
        leaves: list[Tensor] = []

        def leaf_of(tensor: Tensor) -> Tensor:
            value = tensor.detach()
            if finer and (tensor.is_floating_point() or tensor.is_complex()):
                value = value.to(torch.complex128 if tensor.is_complex() else torch.float64)
            if not tensor.requires_grad:
                return value
            leaves.append(value.clone().requires_grad_())
            return leaves[-1]

        result = known.loss_of_outputs(nests.map_tensors(leaf_of, given), nests.fresh(batch.data))
        losses, counts = losses_of(result)[: batch.valid], counts_of(result)
        count = float(batch.valid) if counts is None else float(counts[: batch.valid].detach().double().sum())
        return losses.double().sum(), count, leaves

    try:
        return tried(True)
    except RuntimeError:
        # A user's own that does not mix float64 with what is in the batch.
        return tried(False)


def known_parts(loss: LossFunction, operator: str = "gauss_newton") -> Parted:
    """A loss in two steps.

    Raises:
        LandscapeError: It does not say what its outputs are.
    """
    found = parted(loss)
    if found is None:
        own = users_own(loss)
        name = str(getattr(own, "__name__", None) or type(own).__name__)
        raise LandscapeError(
            f"hessian.operator: {operator} for a loss whose outputs are not known, {name}; valid is a named loss, a criterion of "
            f"outputs and targets, or one that says it by outputs(model, batch) and loss_of_outputs(outputs, batch); or "
            f"operator: hessian"
        )
    return found


def check_parts(operator: str, function: OfBatch) -> None:
    """Try a loss in two steps on a batch, where a part of the Hessian is asked for.

    Raises:
        LandscapeError: The outputs are not known, or the loss is not a function of them.
    """
    where = f"hessian.operator: {operator}"
    known_parts(function.loss, operator)
    total, count = function.total()
    try:
        cut = _Cut(function, bent=True)
    except LandscapeError:
        raise
    except Exception as error:
        raise LandscapeError(
            f"{where}: outputs and loss_of_outputs of the loss raised {type(error).__name__}: {one_line(error)}"
        ) from error
    if not cut.outputs:
        raise LandscapeError(
            f"{where}: outputs of the loss gives nothing that depends on the parameters; valid is a tensor, or a tuple, a list "
            f"or a mapping of tensors"
        )
    wanted, found = float(total.detach()), float(cut.total.detach())
    same = abs(found - wanted) <= _SAME * max(abs(wanted), abs(found)) + 1e-9
    if (math.isfinite(wanted) and not same) or abs(cut.count - count) > _SAME * count:
        raise LandscapeError(
            f"{where}: loss_of_outputs gives {found:.9g} for a batch, and the loss itself {wanted:.9g}; valid is a loss that is "
            f"a function of its outputs, without penalties on parameters"
        )
    direct = (
        torch.autograd.grad(cut.total, function.parameters, allow_unused=True, retain_graph=True)
        if cut.total.requires_grad
        else ()
    )
    if any(each is not None for each in direct):
        raise LandscapeError(
            f"{where}: loss_of_outputs depends on parameters of the network besides the outputs; valid is a function of outputs "
            f"and batch alone"
        )
