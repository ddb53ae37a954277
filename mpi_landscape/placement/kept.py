"""From a configuration to a plane around tensors that keep their types, and directions that are made anew. Collective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from mpi_landscape.configuration.sections.plane import (
    DifferenceDirection,
    Direction,
    DirectionsConfiguration,
    RandomDirection,
)
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.lending import tensors_of
from mpi_landscape.geometry.directions import names_ignored
from mpi_landscape.geometry.kept import KeptPlane, Look, for_each, look, multiple
from mpi_landscape.geometry.moving import describe, warnings_of
from mpi_landscape.geometry.recipe import Doubles, Recipe
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.center import KeptCenter
from mpi_landscape.placement.ends import NOTHING, Given, end_along, fixed_lines, left_behind
from mpi_landscape.placement.plane import check_plane
from mpi_landscape.placement.sharing import share_tensors

# What else is said of this way of computing.
_WORDS = "directions are made anew at every point, and are not in the file"


@dataclass(frozen=True, kw_only=True)
class _End:
    """The network at the end of a difference, and lines for people."""

    network: nn.Module
    lines: list[str]


def share_kept_plane(
    configuration: DirectionsConfiguration,
    model: nn.Module,
    center: KeptCenter,
    ranks: Ranks,
    *,
    where: str,
    given: Given = NOTHING,
    threads: int = 1,
) -> KeptPlane:
    """The directions as rank 0 finds them, on every rank; as `placement.plane.share_plane`. Collective.

    Rank 0 alone finds the norms of filters, whose last bits go with the processor.

    Raises:
        AgreedError: A direction cannot be made.
    """
    said = {"alpha": configuration.alpha, "beta": configuration.beta}
    axes: dict[str, Direction] = {axis: each for axis, each in said.items() if each is not None}
    found = ranks.on_root(lambda: _ends(axes, model, given, where))
    ends = found or {}
    tensors = {
        axis: share_tensors(_tensors(ends[axis], center) if ranks.is_root else None, ranks, copied=False)
        for axis, each in axes.items()
        if isinstance(each, DifferenceDirection)
    }
    recipes: dict[str, Recipe] = {}
    for axis, each in axes.items():
        against = recipes.get("alpha") if configuration.orthogonalize else None
        with ranks.together():
            recipe = _recipe(each, center, tensors.get(axis), where=f"{where}: directions.{axis}")
        fitted = ranks.on_root(partial(_fitted, recipe, against, center, threads))
        factor, scales = ranks.share(fitted) or (0.0, {})
        recipes[axis] = replace(recipe, against=against, factor=factor).with_scales(scales)
    looks = ranks.share(ranks.on_root(lambda: _looks(recipes, center, threads))) or ()
    plane = KeptPlane(layout=center.layout, center=center.tensors, directions=recipes, looks=looks)
    with ranks.together():
        check_plane(
            {axis: any(plane.moving[axis]) for axis in axes},
            plane.cosine if "beta" in axes else 0.0,
            where=where,
        )
    lines = ranks.on_root(lambda: _lines(axes, model, ends, plane, where))
    for line in lines or []:
        ranks.say(line)
    return plane


def _ends(axes: Mapping[str, Direction], model: nn.Module, given: Given, where: str) -> dict[str, _End]:
    """The networks that differences lead to: copies, in the types of the network."""
    ends = {}
    for axis, said in axes.items():
        if isinstance(said, DifferenceDirection):
            network, lines = end_along(axis, said, model, given, where=where)
            ends[axis] = _End(network=network, lines=lines)
    return ends


def _tensors(end: _End, center: KeptCenter) -> dict[str, Tensor]:
    there = tensors_of(end.network)
    return {entry.name: there[entry.name] for entry in center.layout.entries}


def _recipe(said: Direction, center: KeptCenter, end: Mapping[str, Tensor] | None, *, where: str) -> Recipe:
    """What a direction is made of, before it is orthogonalized and normalized."""
    layout = center.layout
    names = {
        entry.name
        for entry in layout.entries
        if (entry.kind != "buffer" or end is not None) and (said.only == "all" or entry.trainable)
    }
    try:
        ignored = names_ignored(layout, said.ignore) if said.ignore else frozenset()
    except LandscapeError as error:
        raise LandscapeError(f"{where}.{error}") from error
    return Recipe(
        moving=frozenset(names - ignored),
        seed=said.seed if isinstance(said, RandomDirection) else None,
        end=end,
        how=said.normalize,
    )


def _fitted(
    recipe: Recipe, against: Recipe | None, center: KeptCenter, threads: int
) -> tuple[float, dict[str, Doubles | None]]:
    """What is taken off, as a multiple of another direction, and the scales of filters."""
    layout, tensors = center.layout, center.tensors
    factor = 0.0 if against is None else multiple(recipe, against, layout, tensors)
    recipe = replace(recipe, against=against, factor=factor)
    moving = [entry for entry in layout.entries if entry.name in recipe.moving]
    return factor, for_each(moving, lambda entry: recipe.fitted(entry, tensors[entry.name]), threads=threads)


def _looks(recipes: Mapping[str, Recipe], center: KeptCenter, threads: int) -> tuple[Look, ...]:
    every = list(recipes.values())
    entries, tensors = center.layout.entries, center.tensors
    found = for_each(entries, lambda entry: look(entry, tensors[entry.name], every), threads=threads)
    return tuple(found[entry.name] for entry in entries)


def _lines(
    axes: Mapping[str, Direction], model: nn.Module, ends: Mapping[str, _End], plane: KeptPlane, where: str
) -> list[str]:
    """What moves, what does not, and ends that are not reached; as those of `placement.plane`."""
    lines, warnings = [f"weights     kept: {plane.types}; {_WORDS}"], []
    for axis, end in ends.items():
        lines += [f"end         {axis}: {line}" for line in end.lines]
        found = zip(plane.layout.entries, plane.moving[axis], strict=True)
        warnings += [
            f"{axis}: {line}"
            for line in left_behind(model, end.network, [entry.name for entry, moves in found if moves])
        ]
    return [
        *lines,
        *describe(plane),
        *fixed_lines(plane.layout, {axis: said.only for axis, said in axes.items()}),
        *(f"warning: {where}: directions.{line}" for line in [*warnings, *warnings_of(plane)]),
    ]
