"""Scalar losses taken apart: what of the mean over a batch is each example's.

A criterion, a training step or a network's own loss gives one number for a batch. The reductions on the way to it are watched,
and how the number follows from them says the derivative by each. Nothing else is assumed of the function; what is found is
compared with the number itself, and that an example's loss is the same in other batches is a premise which is checked of
every loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.results import Adapted
from mpi_landscape.problem.reductions import Reduction, watched

# Relative, of the number that the function gave: float32 sums in another order.
_TOLERANCE = 1e-4
_EXPECTED = (
    "valid is one value per example, shape (N,); {'loss': sums, 'count': counts} with one of each per example; or a scalar "
    "that is a mean over the batch"
)


class TakenApart(Adapted):
    """A loss that is a scalar of a batch, as one that has a value per example.

    What it finds at its first batch, it holds for all: whether there is anything to be taken apart, and which reductions go
    over examples rather than over parameters.

    Args:
        function: Called as `function(model, batch)`; a tensor, or a mapping with `loss`. What has a value per example already
            is handed on.
        name: What messages call the function.
        ragged: Whether examples have several sizes: a mean over all elements then weights long ones more.
        per_sequence: Whether every example counts the same, however many elements it has.
    """

    def __init__(
        self,
        function: Callable[[nn.Module, Any], Any],
        *,
        name: str,
        ragged: bool = False,
        per_sequence: bool = False,
    ) -> None:
        self.function, self.name, self.ragged, self.per_sequence = function, name, ragged, per_sequence
        # Known after the first batch: of a mean of −ln p over what examples have several of.
        self.units: str | None = None
        self._is_scalar: bool | None = None
        self._of_examples: dict[int, tuple[bool, ...]] = {}

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """The loss of every example, by how much each counts, and how much of it is correct, as far as that is known.

        Raises:
            LandscapeError: The scalar cannot be taken apart.
        """
        number = num_rows(batch)
        if self._is_scalar is None:
            result = self.function(model, nests.fresh(batch))
            # Of one example, a value per example and a scalar may look alike.
            if number > 1:
                self._is_scalar = _scalar_of(result) is not None
            elif _scalar_of(result) is None:
                return result
        if self._is_scalar is False:
            return self.function(model, batch)
        given = nests.fresh(batch)
        with watched(number) as reductions:
            scalar = _scalar_of(self.function(model, batch))
        if scalar is None:
            raise LandscapeError(
                f"loss: {self.name} gives a number for one batch and something else for another; {_EXPECTED}"
            )
        parts = self._parts(scalar, reductions, model, given, number)
        return parts or self._one_by_one(scalar, model, given, number)

    def _parts(
        self, scalar: Tensor, reductions: list[Reduction], model: nn.Module, batch: Any, number: int
    ) -> dict[str, Tensor] | None:
        """By example what the scalar is made of; None where no reduction leads to it."""
        of_examples = self._seen(reductions, model, batch, number)
        weights = _weights(scalar, reductions)
        used = [
            (each, weight)
            for each, weight, counts in zip(reductions, weights, of_examples, strict=True)
            if counts and weight is not None and bool(weight != 0)
        ]
        if not used:
            return None
        ratio = _ratio(scalar, used)
        parts = (
            self._linear(scalar, used, number)
            if ratio is None
            else {"loss": ratio[0].sums, "count": ratio[1].sums}
        )
        self._check(scalar, parts, number)
        if "count" in parts and not self.per_sequence and ratio is None and _is_likelihood(scalar, used):
            self.units = (
                f"nats per {'token' if isinstance(batch, Mapping) and 'input_ids' in batch else 'element'}"
            )
        return _per_sequence(parts) if self.per_sequence else parts

    def _seen(
        self, reductions: list[Reduction], model: nn.Module, batch: Any, number: int
    ) -> tuple[bool, ...]:
        """Which reductions go over examples: these change places with the rows of the batch, and parameters do not."""
        known = self._of_examples.get(len(reductions))
        if known is not None or number < 2:
            return known or (True,) * len(reductions)
        rows = torch.arange(number - 1, -1, -1)
        turned = nests.mapped(
            lambda leaf: leaf[rows.to(leaf.device)] if isinstance(leaf, Tensor) else leaf[::-1], batch
        )
        with watched(number) as again:
            self.function(model, turned)
        found = (
            tuple(
                _close(first.sums.flip(0), second.sums) or not _close(first.sums, second.sums)
                for first, second in zip(reductions, again, strict=True)
            )
            if len(again) == len(reductions)
            else (True,) * len(reductions)
        )
        self._of_examples[len(reductions)] = found
        return found

    def _linear(self, scalar: Tensor, used: list[tuple[Reduction, Tensor]], number: int) -> dict[str, Tensor]:
        """A sum of reductions, and what remains as a part of its own that has no examples, such as a penalty."""
        terms = [weight.double() * each.value.double() for each, weight in used]
        rest = scalar.double() - sum(terms)
        # Rounding of the sum itself.
        rest = torch.where(
            rest.abs() > 1e-6 * sum(term.abs() for term in terms), rest, torch.zeros_like(rest)
        )
        counts = [each.counts for each, _ in used]
        correct, of = next(
            ((each.correct, each.counts) for each, _ in used if each.correct is not None), (None, None)
        )
        if all(self._divides(each) for each, _ in used):
            parts = {"loss": sum(_alone(each, weight, number) for each, weight in used) + rest}
            if correct is not None and of is not None:
                parts["correct"] = correct / of
            return parts
        first = next(each for each in counts if each is not None)
        if any(each is None or not torch.equal(each, first) for each in counts):
            raise LandscapeError(
                f"loss: {self.name} is a sum of means over different numbers of elements, which no mean over examples is; "
                f"{_EXPECTED}"
            )
        loss = sum(weight.double() * each.sums for each, weight in used) + rest * first
        return {
            "loss": loss,
            "count": first,
            **({} if correct is None else {"correct": correct}),
        }

    def _divides(self, reduction: Reduction) -> bool:
        """Whether every example counts the same, so that its own mean is its loss."""
        return reduction.counts is None or (reduction.fixed and not self.ragged)

    def _check(self, scalar: Tensor, parts: Mapping[str, Tensor], number: int) -> None:
        """Refuse parts that do not make up the number, as where rows are not examples."""
        counts = parts.get("count")
        total = parts["loss"].detach().sum()
        mean = total / (number if counts is None else counts.sum())
        wanted = scalar.detach().double()
        if not _close(mean, wanted) and not _close(total, wanted) and bool(torch.isfinite(wanted)):
            raise LandscapeError(
                f"loss: {self.name} gives {float(wanted):.9g} for a batch, and the parts of its {number} examples make "
                f"{float(mean):.9g}; {_EXPECTED}"
            )

    def _one_by_one(self, scalar: Tensor, model: nn.Module, batch: Any, number: int) -> dict[str, Tensor]:
        """Every example as a batch of its own, where the scalar is the mean of these."""
        alone = [_scalar_of(self.function(model, nests.rows(batch, row, row + 1))) for row in range(number)]
        losses = torch.stack([each.reshape(()) for each in alone if each is not None])
        if len(losses) != number or not _close(losses.double().mean(), scalar.double()):
            raise LandscapeError(
                f"loss: {self.name} gives one number for a batch, and which part of it is an example's cannot be seen: no "
                f"loss of torch, no mean and no sum leads to it, and it is not the mean of the numbers of its examples alone; "
                f"{_EXPECTED}"
            )
        return {"loss": losses}


def _is_likelihood(scalar: Tensor, used: list[tuple[Reduction, Tensor]]) -> bool:
    """Whether a scalar is one mean of −ln p of labels, and nothing else: no penalty, no smoothed label."""
    each = used[0][0]
    return len(used) == 1 and each.likelihood and bool(each.value.double() == scalar.detach().double())


def _alone(reduction: Reduction, weight: Tensor, number: int) -> Tensor:
    """(N,) what each example is of a mean over examples."""
    if reduction.counts is None:
        # A sum divided by the number of examples, or, divided by nothing, that of a batch.
        factor = weight.double() if bool(weight == 1) else weight.double() * number
        return factor * reduction.sums
    return weight.double() * reduction.sums / reduction.counts


def _per_sequence(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every example by its own mean; one without a single element has no loss, and does not count."""
    counts = parts.get("count")
    if counts is None:
        return parts
    there = counts > 0
    means = {name: each / counts.clamp(min=1e-300) for name, each in parts.items() if name != "count"}
    return {**{name: torch.where(there, each, 0.0) for name, each in means.items()}, "count": there.double()}


def _scalar_of(result: Any) -> Tensor | None:
    """What stands for a whole batch: a tensor of one number, or one under `loss`; None where there is none."""
    found = result.get("loss") if isinstance(result, Mapping) else result
    return found if isinstance(found, Tensor) and found.ndim == 0 else None


def _close(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(
        first.detach().double(), second.detach().double(), rtol=_TOLERANCE, atol=1e-7, equal_nan=True
    )


def num_rows(batch: Any) -> int:
    """The examples in a batch: the rows of its first tensor."""
    return next((leaf.shape[0] for _, leaf in nests.tensors(batch) if leaf.ndim), 1)


def _weights(scalar: Tensor, reductions: list[Reduction]) -> list[Tensor | None]:
    """By how much the scalar changes with each reduction; None where it does not depend on it."""
    if not reductions:
        return []
    if not scalar.requires_grad:
        # Cut off since: one that it equals is what it is.
        same = [bool(each.value.double() == scalar.double()) for each in reductions]
        one = scalar.new_ones(())
        return [one if each and not any(same[:place]) else None for place, each in enumerate(same)]
    with torch.enable_grad():
        found = torch.autograd.grad(
            scalar, [each.offset for each in reductions], allow_unused=True, retain_graph=True
        )
    return [None if each is None else each.detach() for each in found]


def _ratio(scalar: Tensor, used: list[tuple[Reduction, Tensor]]) -> tuple[Reduction, Reduction] | None:
    """Numerator and denominator, where the scalar is one sum divided by another."""
    if len(used) != 2 or any(each.counts is not None for each, _ in used):
        return None
    for (above, slope), (below, _) in (used, used[::-1]):
        value = above.value.double() / below.value.double()
        if torch.isclose(value, scalar.detach().double(), rtol=1e-5, atol=0.0) and torch.isclose(
            slope, 1 / below.value.double(), rtol=1e-5, atol=0.0
        ):
            return above, below
    return None
