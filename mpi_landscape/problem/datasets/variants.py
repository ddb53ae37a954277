"""What the arguments that all named data sets share make of one: its first examples, label noise, raw pixels."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.sizes import checked_count, is_count, is_number
from mpi_landscape.wording import listed, shown, suggestion

TRAINING = "train"
Labels = NDArray[np.int64]
Statistics = tuple[Sequence[float], Sequence[float]]
_LARGEST_SEED = 2**63 - 1

Build = TypeVar("Build", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A variant of a data set; mean and std are those of `read_variant`.

    Attributes:
        limit: Most examples per split; a split that it does not name is whole.
        noise: Fraction of the training labels that are drawn anew, in [0, 1].
        seed: Decides which, and the labels.
    """

    limit: Mapping[str, int]
    noise: float
    seed: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_variant(
    splits: Sequence[str],
    usual: Statistics,
    *,
    limit: int | Mapping[str, int] | None = None,
    random_labels: float | Mapping[str, Any] = 0.0,
    preprocessing: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Variant:
    """Check the arguments that all named data sets of images share, before anything is read.

    Args:
        splits: Names of the splits that there are.
        usual: Mean and standard deviation of this data set, by channel.
        limit: Most examples of every split, or a mapping of split names to such, such as {train: 32}: the first ones.
        random_labels: Fraction of the training labels drawn at random, or {fraction: 1.0, seed: 0}; see `first_labels`.
        preprocessing: False leaves the pixels as they are, from 0 to 1: the mean is 0 and the std 1.
        mean: Subtracted from the pixels, which go from 0 to 1; one value per channel; the usual ones unless given.
        std: What they are divided by then, likewise.

    Raises:
        LandscapeError: An argument is not valid, names a split that there is not, or has no effect.
    """
    noise, seed = _noise(random_labels)
    if noise > 0 and TRAINING not in splits:
        raise LandscapeError(
            f"random_labels is {shown(random_labels)}, which is for split {TRAINING}; there is none among "
            f"{listed(splits)}"
        )
    means, stds = _statistics(preprocessing, mean, std, usual)
    return Variant(limit=read_limit(limit, splits), noise=noise, seed=seed, mean=means, std=stds)


def passing_on(to: Callable[..., Any]) -> Callable[[Build], Build]:
    """Name in a data set's signature the arguments that it passes on, so that others are refused."""

    def named_in(build: Build) -> Build:
        own = inspect.signature(build)
        named = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        shared = inspect.signature(to).parameters.values()
        named += [each for each in shared if each.kind is each.KEYWORD_ONLY]
        build.__signature__ = own.replace(parameters=named)  # type: ignore[attr-defined]
        return build

    return named_in


# Of images: `**variant`.
varied = passing_on(read_variant)


def first_labels(variant: Variant, split: str, labels: Labels, *, num_classes: int) -> Labels:
    """The labels of a split as a variant has them: of its first examples, in training with noise.

    Source: Zhang, Bengio, Hardt, Recht and Vinyals (2017), "Understanding deep learning requires rethinking
    generalization", arXiv:1611.03530, section 2.1, "partially corrupted labels".
    With probability `noise`, independently for every example, the label is drawn anew from all classes alike, so
    that it is the true one again for one in `num_classes` of them.
    An example's label depends on the seed and its index only: neither on a limit nor on the fraction, a higher
    one adding examples to those that a lower one has chosen.

    Args:
        variant: The variant.
        split: Its name; any but "train" keeps its labels.
        labels: (N,) int64, of the whole split in its order.
        num_classes: Labels go from 0 to num_classes − 1.

    Returns:
        (min(N, limit),) int64; as many examples does the variant have.
    """
    kept = labels[: variant.limit.get(split, len(labels))]
    if split != TRAINING:
        return kept
    # Two draws per example, used or not. Raw bits: NumPy promises to keep those (NEP 19), not what it makes of them.
    bits = np.random.PCG64(variant.seed).random_raw(2 * len(kept)).reshape(-1, 2)
    choice, label = ((bits >> np.uint64(11)) * 2.0**-53).T
    drawn = np.floor(label * num_classes).astype(np.int64)
    return np.where(choice < variant.noise, drawn, kept)


def read_limit(limit: Any, splits: Sequence[str]) -> dict[str, int]:
    """The most examples of each split, from one number or a mapping; a split that it does not name is whole."""
    if limit is None:
        return {}
    if not isinstance(limit, Mapping):
        if not is_count(limit):
            raise LandscapeError(
                f"limit is {shown(limit)}; expected a whole number of at least 1, or one per split such as "
                f"{{{next(iter(splits))}: 32}}"
            )
        return dict.fromkeys(splits, limit)
    for split, count in limit.items():
        if split not in splits:
            raise LandscapeError(
                f"limit has unknown split {shown(split)}; valid splits are {listed(splits)}"
                f"{suggestion(split, splits)}"
            )
        checked_count(count, f"limit.{split}")
    return dict(limit)


def _noise(random_labels: Any) -> tuple[float, int]:
    given: Any = random_labels if isinstance(random_labels, Mapping) else {"fraction": random_labels}
    valid = ("fraction", "seed")
    for name in given:
        if name not in valid:
            raise LandscapeError(
                f"random_labels has unknown field {shown(name)}; valid fields are {listed(valid)}"
                f"{suggestion(name, valid)}"
            )
    if "fraction" not in given:
        raise LandscapeError(f"random_labels is {shown(dict(given))}; it needs a fraction from 0 to 1")
    fraction, seed = given["fraction"], given.get("seed", 0)
    if not is_number(fraction) or not 0 <= fraction <= 1:
        raise LandscapeError(
            f"random_labels is {shown(fraction)}; expected a fraction from 0 to 1, or a mapping such as "
            "{fraction: 1.0, seed: 0}"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _LARGEST_SEED:
        raise LandscapeError(
            f"random_labels.seed is {shown(seed)}; expected a whole number of at least 0 (63 bits)"
        )
    return float(fraction), seed


def _statistics(
    preprocessing: Any, mean: Any, std: Any, usual: Statistics
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not isinstance(preprocessing, bool):
        raise LandscapeError(f"preprocessing is {shown(preprocessing)}; expected true or false")
    num_channels = len(usual[0])
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and not preprocessing:
            raise LandscapeError(
                f"{name} is {shown(values)}, but without preprocessing it has no effect; leave out one of them"
            )
        if values is not None:
            _check_statistics(name, values, num_channels)
    if not preprocessing:
        return (0.0,) * num_channels, (1.0,) * num_channels
    return tuple(usual[0] if mean is None else mean), tuple(usual[1] if std is None else std)


def _check_statistics(name: str, values: Any, num_channels: int) -> None:
    fits = isinstance(values, list | tuple) and len(values) == num_channels and all(map(is_number, values))
    if not fits:
        raise LandscapeError(
            f"{name} is {shown(values)}; expected one number per channel, {num_channels} in a list"
        )
    if not all(math.isfinite(value) for value in values):
        raise LandscapeError(f"{name} is {shown(values)}; expected finite numbers")
    if name == "std" and not all(value > 0 for value in values):
        raise LandscapeError(f"std is {shown(values)}; expected numbers above 0")
