"""Which examples stand for all: the outstanding ones, strata of the others, a random order within each, and what is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.plan.samples import Sample, cut
from mpi_landscape.plan.strata import relative, stratify

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def draw(
    losses: Floats, *, num: int, first: int, step: int, generator: np.random.Generator
) -> tuple[Ints, Sample]:
    scaled = relative(losses)
    weight = np.where(np.isfinite(losses), np.abs(scaled), np.inf).max(axis=0)
    certain = np.sort(np.argsort(-weight, kind="stable")[:first])
    rest = np.setdiff1d(np.arange(losses.shape[1]), certain)
    strata = [rest[members] for members in stratify(losses[:, rest], num=num - 1, step=step, least=first)]
    strata = [certain, *strata]
    order = np.concatenate([generator.permutation(members) for members in strata])
    spread, extent = [], []
    for members in strata:
        part = scaled[:, members]
        spread.append(float(part.var(axis=1).max()))
        extent.append(float((np.abs(part - part.mean(axis=1, keepdims=True)).max(axis=1)).max() ** 2))
    largest = float(np.max(np.abs(losses[np.isfinite(losses)]), initial=0.0))
    return order, cut([members.size for members in strata], first, (tuple(spread), tuple(extent), (largest,)))


def draw_without_knowledge(
    losses: Floats, *, num: int, first: int, step: int, generator: np.random.Generator
) -> tuple[Ints, Sample]:
    strata = stratify(losses, num=num, step=step, least=first)
    order = np.concatenate([generator.permutation(members) for members in strata])
    return order, cut([members.size for members in strata], first)
