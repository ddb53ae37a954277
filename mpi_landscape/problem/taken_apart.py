"""Scalar losses taken apart: what of the mean over a batch is each example's.

A criterion, a training step or a network's own loss gives one number for a batch. The reductions on the way to it are watched,
and how the number follows from them says the derivative by each. Nothing else is assumed of the function; what is found is
compared with the number itself, and that an example's loss is the same in other batches is a premise which is checked of
every loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.parted import Parted, parted
from mpi_landscape.loading.results import Adapted
from mpi_landscape.problem.recipes import Recipe, apply, by_sequence, ratio_of, weights_of
from mpi_landscape.problem.reductions import Reduction, watched

# Relative, of the number that the function gave: float32 sums in another order.
_TOLERANCE = 1e-4
_EXPECTED = (
    "valid is one value per example, shape (N,); {'loss': sums, 'count': counts} with one of each per example; or a scalar "
    "that is a mean over the batch"
)


# Every example is a batch of its own.
_ALONE = Recipe(used=())


class TakenApart(Adapted):
    """A loss that is a scalar of a batch, as one that has a value per example.

    What it finds at its first batch of several examples, it holds for all: whether there is anything to be taken apart, and
    how. So a pass does not go by values, and it can be watched and recorded like any other.

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
        # By the number of reductions: a network may take another way for another batch.
        self._recipes: dict[int, Recipe] = {}

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """The loss of every example, by how much each counts, and how much of it is correct, as far as that is known.

        Raises:
            LandscapeError: The scalar cannot be taken apart.
        """
        return self._of(lambda data: self.function(model, data), batch, num_rows(batch))

    def parted(self) -> Parted | None:
        """The same in two steps, where the function says what its outputs are."""
        inner = parted(self.function)
        if inner is None:
            return None

        def loss_of_outputs(outputs: Any, batch: Any) -> Any:
            def whole(data: Any) -> Any:
                return inner.loss_of_outputs(*data)

            # The rows of outputs are turned, and taken alone, with those of the batch.
            return self._of(whole, (outputs, batch), num_rows(batch))

        return Parted(outputs=inner.outputs, loss_of_outputs=loss_of_outputs)

    def _of(self, call: Callable[[Any], Any], batch: Any, number: int) -> Any:
        if self._is_scalar is None:
            result = call(nests.fresh(batch))
            # Of one example, a value per example and a scalar may look alike.
            if number > 1:
                self._is_scalar = _scalar_of(result) is not None
            elif _scalar_of(result) is None:
                return result
        if self._is_scalar is False:
            return call(batch)
        given = nests.fresh(batch)
        with watched(number) as reductions:
            scalar = _scalar_of(call(batch))
        if scalar is None:
            raise LandscapeError(
                f"loss: {self.name} gives a number for one batch and something else for another; {_EXPECTED}"
            )
        recipe = self._recipes.get(len(reductions))
        if recipe is None:
            recipe = self._recipe(scalar, reductions, call, given, number)
            if number > 1:
                self._recipes[len(reductions)] = recipe
        if recipe is _ALONE:
            return self._one_by_one(call, given, number)
        parts = apply(recipe, scalar, reductions, number)
        return by_sequence(parts) if self.per_sequence else parts

    @property
    def is_one_by_one(self) -> bool:
        """Whether batches were met that go through the network example by example."""
        return any(each is _ALONE for each in self._recipes.values())

    def _recipe(
        self, scalar: Tensor, reductions: list[Reduction], call: Callable[[Any], Any], batch: Any, number: int
    ) -> Recipe:
        """How the scalar follows from the reductions.

        Raises:
            LandscapeError: In no way that has examples.
        """
        of_examples = self._over_examples(reductions, call, batch, number)
        weights = weights_of(scalar, reductions)
        places = range(len(reductions))
        used = tuple(
            place
            for place in places
            if of_examples[place] is not False and (each := weights[place]) is not None and bool(each != 0)
        )
        same: int | None = None
        if not used and not scalar.requires_grad:
            # Cut off since: one that it equals is what it is.
            same = next((place for place in places if bool(reductions[place].value.double() == scalar)), None)
            used = () if same is None else (same,)
        if not used or any(of_examples[place] is None for place in used):
            self._check_alone(scalar, call, batch, number)
            return _ALONE
        recipe = Recipe(
            used=used,
            ratio=ratio_of(scalar, reductions, weights, used),
            divided=all(self._divides(reductions[place], alone=len(used) == 1) for place in used),
            of_batch=tuple(
                place for place in used if (each := weights[place]) is not None and bool(each == 1)
            ),
            same=same,
        )
        if recipe.ratio is None and not recipe.divided:
            self._check_counts([reductions[place].counts for place in used])
        self._check(scalar, apply(recipe, scalar, reductions, number), number)
        if (
            not recipe.divided
            and not self.per_sequence
            and _is_likelihood(scalar, [reductions[place] for place in used])
        ):
            self.units = (
                f"nats per {'token' if isinstance(batch, Mapping) and 'input_ids' in batch else 'element'}"
            )
        return recipe

    def _over_examples(
        self, reductions: list[Reduction], call: Callable[[Any], Any], batch: Any, number: int
    ) -> Sequence[bool | None]:
        """Which reductions go over examples: these change places with the rows of the batch, and parameters do not.

        None for one that does neither, as elements do that a mask has picked out: how many are an example's is not known.
        """
        if number < 2:
            return [True] * len(reductions)
        rows = torch.arange(number - 1, -1, -1)
        turned = nests.mapped(
            lambda leaf: leaf[rows.to(leaf.device)] if isinstance(leaf, Tensor) else leaf[::-1], batch
        )
        with watched(number) as again:
            call(turned)
        if len(again) != len(reductions):
            return [None] * len(reductions)
        return [
            True
            if _close(first.sums.flip(0), second.sums)
            else False
            if _close(first.sums, second.sums)
            else None
            for first, second in zip(reductions, again, strict=True)
        ]

    def _divides(self, reduction: Reduction, *, alone: bool) -> bool:
        """Whether every example counts the same, so that its own mean is its loss."""
        if reduction.counts is None or (reduction.fixed and not self.ragged):
            return True
        # Beside others, labels that all count; one that does not makes its loss NaN.
        return not alone and bool((reduction.counts == 1).all())

    def _check_counts(self, counts: Sequence[Tensor | None]) -> None:
        first = next(each for each in counts if each is not None)
        if any(each is None or not torch.equal(each, first) for each in counts):
            raise LandscapeError(
                f"loss: {self.name} is a sum of means over different numbers of elements, which no mean over examples is; "
                f"{_EXPECTED}"
            )

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

    def _check_alone(self, scalar: Tensor, call: Callable[[Any], Any], batch: Any, number: int) -> None:
        """Refuse a scalar that is not the mean of those of its examples alone."""
        parts = self._one_by_one(call, batch, number)
        counts = parts.get("count", torch.ones(number))
        if not _close(parts["loss"].double().sum() / counts.sum(), scalar.double()):
            raise LandscapeError(
                f"loss: {self.name} gives one number for a batch, and which part of it is an example's cannot be seen: no "
                f"loss of torch, no mean and no sum leads to it, and it is not the mean of the numbers of its examples alone; "
                f"{_EXPECTED}"
            )

    def _one_by_one(self, call: Callable[[Any], Any], batch: Any, number: int) -> dict[str, Tensor]:
        """Every example as a batch of its own: what it adds, and by how much it counts where a mean says that."""
        found = [self._alone(call, nests.rows(batch, row, row + 1)) for row in range(number)]
        losses = torch.stack([loss for loss, _ in found])
        known = [count for _, count in found if count is not None]
        if not known:
            return {"loss": losses}
        # Where nothing is left of an example, as of one that a mask takes away, its mean is NaN and no element leads to it.
        counts = torch.stack([known[0].new_zeros(()) if count is None else count for _, count in found])
        return {"loss": torch.where(counts > 0, losses, 0.0), "count": counts}

    def _alone(self, call: Callable[[Any], Any], example: Any) -> tuple[Tensor, Tensor | None]:
        with watched(1) as reductions:
            scalar = _scalar_of(call(example))
        if scalar is None:
            raise LandscapeError(f"loss: {self.name} gives no number for one example alone; {_EXPECTED}")
        used = [
            (each, weight)
            for each, weight in zip(reductions, weights_of(scalar, reductions), strict=True)
            if weight is not None and bool(weight != 0)
        ]
        if len(used) != 1 or used[0][0].counts is None:
            return scalar.double(), None
        (reduction, weight), counts = used[0], used[0][0].counts
        rest = scalar.double() - weight.double() * reduction.value.double()
        return (weight.double() * reduction.sums + rest * counts)[0], counts[0]


def _is_likelihood(scalar: Tensor, used: Sequence[Reduction]) -> bool:
    """Whether a scalar is one mean of −ln p of labels, and nothing else: no penalty, no smoothed label."""
    return len(used) == 1 and used[0].likelihood and bool(used[0].value.double() == scalar.detach().double())


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
