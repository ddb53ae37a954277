"""The reductions on the way to a scalar loss: what each has added up, by example.

Torch's own losses, and `mean` and `sum` over everything, are computed once more without their reduction while they run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import _reduction
from torch.overrides import TorchFunctionMode

# Of torch's losses those that are a sum over elements, divided by their number, by examples or by weights.
_ELEMENTWISE = frozenset(
    getattr(F, name)
    for name in (
        *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "kl_div"),
        *("binary_cross_entropy_with_logits", "soft_margin_loss", "poisson_nll_loss", "gaussian_nll_loss"),
        *("multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss"),
        *("hinge_embedding_loss", "margin_ranking_loss", "cosine_embedding_loss", "triplet_margin_loss"),
        "triplet_margin_with_distance_loss",
    )
)
_CLASSES = frozenset((F.cross_entropy, F.nll_loss))
_MEANS = frozenset((torch.mean, Tensor.mean))
_SUMS = frozenset((torch.sum, Tensor.sum))
_REDUCING = _ELEMENTWISE | _CLASSES | _MEANS | _SUMS


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """One reduction on the way to a loss, by example.

    Attributes:
        sums: (N,) float64, what each example adds.
        counts: (N,) float64, by what it counts in the mean; None for a sum.
        fixed: Whether the counts follow from shapes alone.
        offset: (), a zero that was added to what it gave.
        value: (), what it gave.
        correct: (N,) float64, how many of an example's labels the largest output names; None where there are none.
        likelihood: Whether it is the mean of −ln p of labels, in nats.
    """

    sums: Tensor
    counts: Tensor | None
    fixed: bool
    offset: Tensor
    value: Tensor
    correct: Tensor | None = None
    likelihood: bool = False


@contextmanager
def watched(number: int) -> Iterator[list[Reduction]]:
    """Watch the reductions of what is computed inside, for a batch of so many examples."""
    enabled = torch.is_grad_enabled()
    try:
        with _Watch(number) as watch:
            yield watch.found
    finally:
        torch.set_grad_enabled(enabled)


class _Watch(TorchFunctionMode):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.found: list[Reduction] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in _REDUCING and isinstance(result, Tensor) and result.ndim == 0:
            return self._noted(func, args, kwargs, result)
        return result

    def _noted(self, func: Any, args: Any, kwargs: Any, result: Tensor) -> Tensor:
        parts = _parts_of(func, args, kwargs, self.number)
        if parts is None:
            return result
        # From here on a graph, though of numbers alone: by it the loss tells how it follows from this one.
        torch.set_grad_enabled(True)
        offset = torch.zeros((), dtype=torch.float64, device=result.device, requires_grad=True)
        moved = result + offset.to(result.dtype if result.is_floating_point() else torch.float32)
        self.found.append(Reduction(**parts, offset=offset, value=result))
        return moved


def _parts_of(func: Any, args: Any, kwargs: Mapping[str, Any], number: int) -> dict[str, Any] | None:
    """By example what a reduction has added up; None where its elements are not in the rows of examples."""
    if func in _MEANS or func in _SUMS:
        values = args[0] if args else kwargs.get("input")
        if len(args) > 1 or kwargs.keys() - {"input", "dtype"} or not isinstance(values, Tensor):
            return None
        rows = _rows(values, number)
        if rows is None:
            return None
        each = torch.full_like(rows[:, 0], rows.shape[1]) if func in _MEANS else None
        return {"sums": rows.sum(1), "counts": each, "fixed": True}
    said = inspect.signature(func).bind(*args, **kwargs)
    said.apply_defaults()
    named = said.arguments
    size_average, reduce = named.get("size_average"), named.get("reduce")
    reduction = (
        named.get("reduction")
        if size_average is None and reduce is None
        else _reduction.legacy_get_string(size_average, reduce, emit_warning=False)
    )
    own = {**named, "reduction": "none"}
    own |= {name: None for name in ("size_average", "reduce") if name in own}
    values = func(**own)
    rows = _rows(values, number)
    if rows is None or reduction not in ("mean", "sum", "batchmean"):
        return None
    counts = None
    fixed, correct = True, None
    if func in _CLASSES:
        weighed, fixed = _counts_of_classes(named, values)
        correct = _correct(named, values, number) if named["weight"] is None else None
        counts = _rows(weighed, number).sum(1) if reduction == "mean" else None  # type: ignore[union-attr]
    elif reduction == "mean":
        counts = torch.full_like(rows[:, 0], rows.shape[1])
    elif reduction == "batchmean":
        counts = torch.ones_like(rows[:, 0])
    if reduction == "sum":
        correct = None
    likelihood = correct is not None and not named.get("label_smoothing")
    return {
        "sums": rows.sum(1),
        "counts": counts,
        "fixed": fixed,
        "correct": correct,
        "likelihood": likelihood,
    }


def _rows(values: Any, number: int) -> Tensor | None:
    """(N, n) float64: elements by example; None where they are not some for each."""
    if not isinstance(values, Tensor) or values.ndim == 0 or not values.numel() or values.shape[0] % number:
        return None
    if values.is_complex():
        return None
    return values.reshape(number, -1).double()


def _counts_of_classes(named: Mapping[str, Any], values: Tensor) -> tuple[Tensor, bool]:
    """By what each element counts in a mean over classes, and whether that follows from shapes alone."""
    target, weight = named["target"], named["weight"]
    if target.is_floating_point():  # probabilities
        return torch.ones_like(values), True
    counted = target != named["ignore_index"]
    if weight is None:
        return counted.double(), False
    return torch.where(counted, weight[torch.where(counted, target, 0)].double(), 0.0), False


def _correct(named: Mapping[str, Any], values: Tensor, number: int) -> Tensor | None:
    """(N,) how many labels the largest output names."""
    outputs, target = named["input"], named["target"]
    if target.is_floating_point() or outputs.ndim < 2:
        return None
    largest, label = outputs.detach().max(dim=1)
    right = (label == target) & (target != named["ignore_index"]) & ~largest.isnan()
    rows = _rows(right.double().reshape(values.shape), number)
    return None if rows is None else rows.sum(1)
