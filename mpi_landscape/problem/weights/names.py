"""From the names of a state dictionary to those of a network: wrappers, prefixes and parts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import listed, shortened, shown

# In front of every name: DataParallel and DDP, torch.compile, FSDP, Lightning Fabric.
_PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.")
_MOST_PREFIXES = 9
# Steps of a name that wrappers add, wherever in the network they sit.
_WRAPS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
# torch.optim.swa_utils.AveragedModel counts beside the network that it holds as `module`.
COUNTER = "n_averaged"
_MOST_TRIED = 20
_MOST_NAMED = 8


def without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of what a wrapper holds; one network may have been wrapped several times."""
    counter = {COUNTER: state[COUNTER]} if COUNTER in state and len(state) > 1 else {}
    state = {name: value for name, value in state.items() if name not in counter}
    # Only a prefix of all names is one of a wrapper.
    for _ in range(_MOST_PREFIXES):
        prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in state)), "")
        state = {name.removeprefix(prefix): value for name, value in state.items()} if prefix else state
    return {**state, **counter}


def part_of(state: dict[str, Tensor], part: str, *, where: str, field: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a part, without it.

    Raises:
        LandscapeError: There are none.
    """
    front = f"{part.removesuffix('.')}."
    found = {name.removeprefix(front): value for name, value in state.items() if name.startswith(front)}
    if not found:
        heads = dict.fromkeys(shortened(name.split(".")[0], 40) for name in state)
        shortlist = listed(shown(each)[1:-1] for each in itertools.islice(heads, _MOST_NAMED))
        raise LandscapeError(
            f"{where}: {field}.part is {shown(part)}, with which no name in it begins; they begin with {shortlist}"
        )
    return without_prefixes(found)


def aligned(
    state: Mapping[str, Tensor],
    needed: Sequence[str],
    expected: Iterable[str],
    twins: Mapping[str, str],
    *,
    where: str,
) -> dict[str, Tensor]:
    """A state under the network's names, where anything that wrappers do to names explains the difference.

    Args:
        state: Tensors by name.
        needed: Names of the network that must be there.
        expected: All names of the network.
        twins: Names of one memory: a name and the first one of it, which may stand for each other.
        where: For messages.

    Raises:
        LandscapeError: It holds the network more than once.
    """
    groups: dict[str, set[str]] = {}
    for name, first in twins.items():
        groups.setdefault(first, set()).add(name)

    def covers(found: Mapping[str, Tensor]) -> bool:
        return all(
            name in found or (name in twins and any(each in found for each in groups[twins[name]]))
            for name in needed
        )

    if not needed or covers(state):
        return dict(state)
    plain = _canonical(expected)
    bare = {canonical(name): value for name, value in state.items()}
    # Two names that differ in wrappers alone are two tensors, of which none is known to be the network's.
    candidates = [dict(state)] if plain is None or len(bare) < len(state) else [dict(state), bare]
    for candidate in candidates:
        own = {name: name for name in expected} if candidate is not bare or plain is None else plain
        wanted = [canonical(name) for name in needed] if candidate is bare else list(needed)
        for found in (candidate, *_shorter(candidate, wanted, where), *_longer(candidate, wanted)):
            renamed = {own.get(name, name): value for name, value in found.items()}
            if covers(renamed):
                return renamed
    return dict(state)


def canonical(name: str) -> str:
    """A name without the steps that wrappers add.

    Example:
        >>> canonical("module.encoder._orig_mod.layer.weight")
        'encoder.layer.weight'
    """
    return ".".join(step for step in name.split(".") if step not in _WRAPS) or name


def _canonical(names: Iterable[str]) -> dict[str, str] | None:
    """The network's names by what they are without wrappers; None where two are then one."""
    given = list(names)
    found = {canonical(name): name for name in given}
    return found if len(found) == len(given) else None


def _shorter(state: Mapping[str, Tensor], needed: Sequence[str], where: str) -> Iterator[dict[str, Tensor]]:
    """Without a prefix that the state has in front of the network's names; what has another one is left."""
    # The first name may be missing, as one memory has a second.
    prefixes = dict.fromkeys(
        name.removesuffix(each) for each in needed[:3] for name in state if name.endswith(f".{each}")
    )
    fitting = [
        prefix
        for prefix in prefixes
        if sum(prefix + name in state for name in needed[:3])
        and all(prefix + name in state for name in needed[3:])
    ]
    if len(fitting) > 1:
        raise LandscapeError(
            f"{where}: holds the network more than once, under {listed(map(_short, fitting[:_MOST_NAMED]))}; say which: "
            f"model.part: {_short(fitting[0]).removesuffix('.')}"
        )
    for prefix in fitting:
        yield {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _longer(state: Mapping[str, Tensor], needed: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """With a prefix that the network has in front of the state's names, as a head around a bare network has."""
    steps = [name.split(".") for name in needed]
    fronts = dict.fromkeys(".".join(each[:depth]) for depth in (1, 2) for each in steps if len(each) > depth)
    for front in itertools.islice(fronts, _MOST_TRIED):
        yield {f"{front}.{name}": value for name, value in state.items()}


def _short(prefix: str) -> str:
    return shortened(" ".join(repr(prefix)[1:-1].split()), 60)
