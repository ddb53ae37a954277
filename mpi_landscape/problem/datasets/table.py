"""Data sets from a configuration: the named ones, or the splits that a user's own target returns."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from mpi_landscape.configuration.sections.sources import DataConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.forms import splits_of
from mpi_landscape.problem.datasets.given import EXPECTED, Given
from mpi_landscape.problem.datasets.image_folders import image_folder, imagenet
from mpi_landscape.problem.datasets.images import digits
from mpi_landscape.problem.datasets.signals import mnist1d
from mpi_landscape.problem.datasets.texts import python, text
from mpi_landscape.problem.datasets.torchvision_sets import SETS, small_images
from mpi_landscape.problem.sizes import checked_count, is_number
from mpi_landscape.problem.targets import call, invoke
from mpi_landscape.wording import listed, shown, suggestion


def constant(*, target: float = 0.0, count: int = 1) -> dict[str, TensorDataset]:
    """Make examples that are all the same, for networks whose output does not depend on their input.

    With the networks `product1` and `product2`, the loss `mse` and a target of 0 they give the toys w² and
    (w₁ w₂)².

    Returns:
        "train": as many as `count`, with inputs (1,) of zero and the target () float32.
    """
    if not is_number(target) or not math.isfinite(target):
        raise LandscapeError(f"target is {shown(target)}; expected a finite number")
    checked_count(count, "count")
    return {"train": TensorDataset(torch.zeros(count, 1), torch.full((count,), float(target)))}


DATASETS: dict[str, Callable[..., Mapping[str, Any]]] = {
    "digits": digits,
    **{name: functools.partial(small_images, which) for name, which in SETS.items()},
    "imagenet": imagenet,
    "image_folder": image_folder,
    "text": text,
    "python": python,
    "mnist1d": mnist1d,
    "constant": constant,
}
_IN_MEMORY = ("digits", "python", "mnist1d", "constant")


def build_splits(
    configuration: DataConfiguration, *, where: str, folders: Sequence[Path]
) -> dict[str, Dataset[Any]]:
    """Build the splits of the data that a configuration names; see `build_data`."""
    return dict(build_data(configuration, where=where, folders=folders).splits)


def build_data(configuration: DataConfiguration, *, where: str, folders: Sequence[Path]) -> Given:
    """Build the data that a configuration names.

    Several processes must not download the same data at once: let one build before the others. A target
    returns data in any form that `splits_of` takes; `where` and `folders` are as in `problem.build.build`.

    Returns:
        Data sets by split, in the order of `splits` or else of the data set; none of them is empty.

    Raises:
        LandscapeError: The name is unknown, the data is not there, the arguments do not fit, a target returns
            something else, or a split is unknown or empty.
    """
    section = f"{where}: data"
    given = _offered(configuration, section, folders)
    offered = given.splits
    names = tuple(offered) if configuration.splits is None else configuration.splits
    for name in names:
        if name not in offered:
            raise LandscapeError(
                f"{section}.splits has unknown split {shown(name)}; valid splits are "
                f"{listed(offered)}{suggestion(name, list(offered))}"
            )
    return replace(given, splits={name: check_split(offered[name], name, section) for name in names})


def _offered(configuration: DataConfiguration, section: str, folders: Sequence[Path]) -> Given:
    arguments = configuration.arguments
    if configuration.target is not None:
        data = call(configuration.target, arguments, where=section, folders=folders)
        subject = f"{section}.target {shown(configuration.target)}"
        if data is None:
            raise LandscapeError(f"{subject}: returned nothing; {EXPECTED}")
        given = splits_of(data, where=subject)
        check_names(given.splits, subject)
        return given
    name = str(configuration.name)
    if name not in DATASETS:
        raise LandscapeError(
            f"{section}.name is {shown(name)}; valid names are {listed(DATASETS)}"
            f"{suggestion(name, list(DATASETS))}; your own is given as target: package.module:function"
        )
    place: dict[str, Any] = {}
    if name not in _IN_MEMORY:
        if configuration.root is None:
            raise LandscapeError(
                f"{section}.root is missing; {name} needs the folder that holds it, or shall hold it"
            )
        place = {"root": Path(configuration.root), "download": configuration.download}
        twice = [each for each in place if each in arguments]
        if twice:
            raise LandscapeError(
                f"{section}.arguments has {twice[0]}; it belongs one level up, as data.{twice[0]}"
            )
    return Given(splits=invoke(DATASETS[name], {**place, **arguments}, where=section, called=name))


def check_names(splits: Mapping[Any, Any], where: str) -> None:
    """Refuse names of splits that cannot be names of a file's variables, such as train_loss."""
    for name in splits:
        if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
            raise LandscapeError(f"{where}: has a split named {shown(name)}; expected letters, digits and _")


def check_split(split: Any, name: str, section: str) -> Dataset[Any]:
    """A split, refused where it is no map-style data set, or is empty."""
    kind = type(split).__name__
    has_both = hasattr(split, "__len__") and hasattr(split, "__getitem__")
    if isinstance(split, IterableDataset) or not has_both:
        raise LandscapeError(
            f"{section}: split {name} is a {kind}; expected a data set with __len__ and __getitem__"
        )
    try:
        num_examples = len(split)
    except (TypeError, NotImplementedError) as error:
        raise LandscapeError(f"{section}: split {name}, a {kind}, does not know its length") from error
    if num_examples == 0:
        raise LandscapeError(f"{section}: split {name} is empty; expected at least one example")
    checked: Dataset[Any] = split
    return checked
