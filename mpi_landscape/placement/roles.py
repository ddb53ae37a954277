"""What the tensors of a network are: seen in a pass over real examples, or said by rules. Collective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import torch

from mpi_landscape.configuration.sections.plane import TensorRule
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import call
from mpi_landscape.evaluation.engine.dataflow import observed
from mpi_landscape.evaluation.roles import roles_of
from mpi_landscape.geometry.filters import Division, Kind, division, owner, whole
from mpi_landscape.geometry.naming import wrapping
from mpi_landscape.loading import nests
from mpi_landscape.loading.reading import collate, read_items
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.problem.build import Problem
from mpi_landscape.wording import one_line

# Examples of the pass that is watched.
_EXAMPLES = 2


def share_roles(problem: Problem, rules: Sequence[TensorRule], ranks: Ranks) -> Mapping[str, Division]:
    """What differs from the table in `geometry.filters`, by name, the same on every rank: for `layout_of`. Collective.

    Rank 0 watches a pass of its network. One that raises is no reason to refuse: the premises, which come later, say why.

    Raises:
        AgreedError: A rule does not fit the network, or it keeps what it makes of its parameters.
    """
    found: Mapping[str, Division] | None = None
    stale: tuple[str, ...] = ()
    if ranks.is_root:
        found, stale = _watched(problem, ranks)
    ranks.on_root(lambda: _refuse_stale(stale))
    ruled_ones = ranks.on_root(lambda: ruled(problem, rules, found or {}))
    return ranks.share(ruled_ones) or {}


def _watched(problem: Problem, ranks: Ranks) -> tuple[Mapping[str, Division], tuple[str, ...]]:
    """What tensors are, and those that the first pass uses and the next one does not."""
    split, dataset = next(iter(problem.splits.items()))

    def run(network: torch.nn.Module) -> None:
        items = read_items(split, dataset, range(min(_EXAMPLES, len(dataset))))  # type: ignore[arg-type]
        device = next(problem.model.parameters()).device
        data = nests.moved(collate(split, items, dtype=torch.float32, dataset=dataset), device)
        call(problem.loss, network, data, gradients=True)

    buffers = [(each, each.detach().clone()) for each in problem.model.buffers()]
    try:
        stale = _stale(problem.model, run)
        return roles_of(problem.model, run), stale
    except Exception as error:
        ranks.say(
            f"warning: what the network's own tensors are cannot be seen ({type(error).__name__}: {one_line(error)}); "
            f"their filters go by class and shape, or by directions.rules"
        )
        return {}, ()
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _stale(network: torch.nn.Module, run: Callable[[torch.nn.Module], None]) -> tuple[str, ...]:
    """Parameters that the very first pass uses and a later one does not, though they have been written to in between.

    The second one may be the first that sees where a parameter lies, so there is a third.
    """
    first = later = observed(network, run).unused
    for _ in range(2):
        with torch.no_grad():
            for each in network.parameters():
                each.copy_(each.clone())
        later = observed(network, run).unused
    return tuple(name for name in later if name not in first)


def _refuse_stale(names: Sequence[str]) -> None:
    """Refuse a network that would not follow its parameters.

    Raises:
        LandscapeError: There are such names.
    """
    if names:
        raise LandscapeError(
            f"model: {names[0]} is used by the first pass and not by later ones; the network keeps what it has made of it, so "
            f"its loss would not change as it moves: valid is a network that makes it anew at every pass (without a cache)"
        )


def ruled(
    problem: Problem, rules: Sequence[TensorRule], found: Mapping[str, Division]
) -> dict[str, Division]:
    """What has been found of tensors, and what rules say over it; of several for a tensor the last counts.

    Raises:
        LandscapeError: A rule matches no tensor, or a tensor has no such axis.
    """
    parameters = dict(problem.model.named_parameters())
    prefix, result = wrapping(problem.model, parameters), dict(found)
    for number, rule in enumerate(rules):
        here = f"{problem.where}: directions.rules[{number}]"
        names = [
            name
            for name in parameters
            if fnmatchcase(name, rule.tensors) or fnmatchcase(name.removeprefix(prefix), rule.tensors)
        ]
        if not names:
            some = ", ".join(list(parameters)[:5]) + (", ..." if len(parameters) > 5 else "")
            raise LandscapeError(
                f"{here}: {rule.tensors!r} matches no tensor; valid are globs of these names: {some}"
            )
        for name in names:
            shape = tuple(parameters[name].shape)
            before = result.get(name) or division(*owner(problem.model, name), shape)
            result[name] = _by_rule(rule, before, name, shape, here)
    return result


def _by_rule(rule: TensorRule, before: Division, name: str, shape: tuple[int, ...], here: str) -> Division:
    kind = rule.kind or before.kind
    if rule.axis is not None:
        axes = (rule.axis,) if isinstance(rule.axis, int) else rule.axis
        if any(not -len(shape) <= axis < len(shape) for axis in axes):
            valid = f"from {-len(shape)} to {len(shape) - 1}" if shape else "whole: true"
            raise LandscapeError(f"{here}: {name} of shape {shape} has no axis {rule.axis}; valid is {valid}")
        chosen = tuple(sorted({axis % len(shape) for axis in axes}))
        if rule.groups is not None:
            return _grouped(kind, shape, chosen[0], rule.groups, f"{here}: {name}")
        return Division(kind=kind, view=shape, axes=chosen)
    if rule.whole or kind != "weight":
        return whole(kind, shape)
    if before.kind == "weight":
        return replace(before, kind=kind)
    return Division(kind=kind, view=shape, axes=(0,)) if len(shape) > 1 else whole(kind, shape)


def _grouped(kind: Kind, shape: tuple[int, ...], axis: int, groups: int, subject: str) -> Division:
    """Neighbors along an axis as one filter, such as the rows of a head."""
    length = shape[axis]
    if length % groups:
        raise LandscapeError(
            f"{subject} of shape {shape} has {length} along axis {axis}, which is not {groups} groups of one size; valid are "
            f"numbers that divide {length}"
        )
    return Division(
        kind=kind, view=(*shape[:axis], groups, length // groups, *shape[axis + 1 :]), axes=(axis,)
    )
