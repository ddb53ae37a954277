"""How a scalar loss follows from the reductions on the way to it, and what an example's part of it is then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mpi_landscape.problem.reductions import Reduction


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a scalar follows from reductions, by their places; found at one batch, it holds for all.

    Attributes:
        used: Those that the scalar depends on.
        ratio: The sum that is divided, and the one that it is divided by; None where the scalar is a sum of reductions.
        divided: Whether every example counts the same, so that its own mean is its loss.
        of_batch: Which of `used` are sums over the batch that nothing divides.
        same: The reduction that the scalar is, where nothing else tells.
    """

    used: tuple[int, ...]
    ratio: tuple[int, int] | None = None
    divided: bool = False
    of_batch: tuple[int, ...] = ()
    same: int | None = None


def apply(recipe: Recipe, scalar: Tensor, reductions: Sequence[Reduction], number: int) -> dict[str, Tensor]:
    """By example what a scalar is made of."""
    if recipe.ratio is not None:
        above, below = recipe.ratio
        return {"loss": reductions[above].sums, "count": reductions[below].sums}
    used = [reductions[place] for place in recipe.used]
    weights = [scalar.new_ones(())] if recipe.same is not None else weights_of(scalar, used)
    given = [
        torch.zeros_like(scalar, dtype=torch.float64) if each is None else each.double() for each in weights
    ]
    terms = [weight * each.value.double() for weight, each in zip(given, used, strict=True)]
    # What has no examples, such as a penalty; below this it is rounding of the sum itself.
    rest = scalar.double() - sum(terms)
    rest = torch.where(rest.abs() > 1e-6 * sum(term.abs() for term in terms), rest, torch.zeros_like(rest))
    correct, of = next(
        (
            (each.correct, each.counts)
            for each in used
            if each.correct is not None and each.counts is not None
        ),
        (None, torch.ones(())),
    )
    parts: dict[str, Tensor] = {}
    if recipe.divided:
        of_batch = [place in recipe.of_batch for place in recipe.used]
        parts["loss"] = rest + sum(
            _mean_of(each, weight, number, of_batch=whole)
            for each, weight, whole in zip(used, given, of_batch, strict=True)
        )
        if correct is not None:
            parts["correct"] = correct / of
        return parts
    first = next(each.counts for each in used if each.counts is not None)
    loss = sum(weight * each.sums for weight, each in zip(given, used, strict=True)) + rest * first
    same = torch.stack([(each.counts == first).all() for each in used if each.counts is not None]).all()
    parts |= {"loss": torch.where(same, loss, torch.nan), "count": first}
    if correct is not None:
        parts["correct"] = correct
    return parts


def _mean_of(reduction: Reduction, weight: Tensor, number: int, *, of_batch: bool) -> Tensor:
    """(N,) what each example is of a mean over examples: of a sum that is divided by their number, or of one of a batch."""
    if reduction.counts is None:
        return (weight if of_batch else weight * number) * reduction.sums
    return weight * reduction.sums / reduction.counts


def by_sequence(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every example by its own mean; one without a single element has no loss, and does not count."""
    counts = parts.get("count")
    if counts is None:
        return parts
    there = counts > 0
    means = {name: each / counts.clamp(min=1e-300) for name, each in parts.items() if name != "count"}
    return {**{name: torch.where(there, each, 0.0) for name, each in means.items()}, "count": there.double()}


def weights_of(scalar: Tensor, reductions: Sequence[Reduction]) -> list[Tensor | None]:
    """By how much the scalar changes with each reduction; None where it does not depend on it, or cannot tell."""
    if not reductions or not scalar.requires_grad:
        return [None] * len(reductions)
    with torch.enable_grad():
        found = torch.autograd.grad(
            scalar, [each.offset for each in reductions], allow_unused=True, retain_graph=True
        )
    return [None if each is None else each.detach() for each in found]


def ratio_of(
    scalar: Tensor,
    reductions: Sequence[Reduction],
    weights: Sequence[Tensor | None],
    used: Sequence[int],
) -> tuple[int, int] | None:
    """Numerator and denominator, where the scalar is one sum divided by another."""
    if len(used) != 2 or any(reductions[place].counts is not None for place in used):
        return None
    for above, below in (used, used[::-1]):
        divided, by = reductions[above].value.double(), reductions[below].value.double()
        slope = weights[above]
        if (
            slope is not None
            and torch.isclose(divided / by, scalar.detach().double(), rtol=1e-5, atol=0.0)
            and torch.isclose(slope, 1 / by, rtol=1e-5, atol=0.0)
        ):
            return above, below
    return None
