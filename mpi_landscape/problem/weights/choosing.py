"""Which of the mappings in a file is the state dictionary, and what is said where there are several."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.pickled.tensors import Unread
from mpi_landscape.problem.weights.source import TOP, Source
from mpi_landscape.wording import listed, shortened, shown

# Where training scripts keep the parameters: the code of Li et al., Lightning, timm, fairseq, tutorials, DeepSpeed.
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params"),
    "module",
)
# Where they keep averages of them: ema, state_dict_ema, ema_state_dict, model_ema, params_ema, averaged_model, swa_model.
_AVERAGED = re.compile(r"(?i)(.*_)?(ema|averaged?|avg|swa|shadow)(_.*)?")
# What else has tensors by name.
_OTHERWISE = re.compile(
    r"(?i).*(optim|sched|scaler|rng|random|loss|metric|grad|history|stat(istic)?s$|buffers|ema_updat)"
)
# One inside another: a checkpoint of a checkpoint is known, more is not.
_MOST_WRAPPERS = 3
_MOST_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class Found:
    """A state dictionary in a file: where it is, as a dotted key, and whether its names say that it is an average."""

    key: str
    state: Mapping[str, Any]
    averaged: bool


def chosen(content: Any, source: Source, where: str) -> tuple[Mapping[str, Any], list[str]]:
    """The state dictionary of a file, and lines for people where another could have been meant.

    The one that `source.key` leads to; or the only one under a usual name, before averages, which are never taken without
    a word; or the only one at all.

    Raises:
        LandscapeError: There is none, or several, and no key says which.
    """
    key = source.key if source.key != TOP else None
    if key is not None:
        content = _at(content, key, source, where)
    found = _distinct(_search(content, key or "", 0, {}))
    plain = [each for each in found if not each.averaged]
    averaged = [each for each in found if each.averaged]
    if key is not None and not plain:
        plain, averaged = averaged, []
    if not plain and not averaged:
        plain = _distinct(_elsewhere(content, key or ""))
    if len(plain) > 1 or (not plain and len(averaged) > 1):
        keys = [_short(each.key) for each in (plain or averaged)[:_MOST_NAMED]]
        raise LandscapeError(
            f"{where}: holds several state dictionaries, under {listed(keys)}; say which: {source.field}.key: {keys[0]}"
        )
    if not plain and not averaged:
        raise LandscapeError(f"{where}: {_nothing(content)}")
    taken, *_ = plain or averaged
    return taken.state, _lines(taken, plain, averaged, source, key)


def _lines(
    taken: Found, plain: list[Found], averaged: list[Found], source: Source, key: str | None
) -> list[str]:
    if plain and averaged:
        keys = [_short(each.key) for each in averaged[:_MOST_NAMED]]
        said = f"{_short(taken.key)} is taken" if taken.key else "the plain weights are taken"
        return [
            f"{said}; averaged weights are under {listed(keys)}, which {source.field}.key: {keys[0]} takes"
        ]
    if averaged:
        return [f"{_short(taken.key)} is taken, averaged weights: there are no others"]
    if key is None and taken.key and taken.key.split(".")[0] not in _WRAPPERS:
        return [f"{_short(taken.key)} is taken, the only state dictionary in it"]
    return []


def _search(content: Any, path: str, depth: int, seen: dict[int, int]) -> Iterator[Found]:
    """State dictionaries under usual names, and under those of averages."""
    # One mapping may be held under many names, in which it would be looked through again and again.
    if (
        not isinstance(content, Mapping)
        or depth > _MOST_WRAPPERS
        or seen.get(id(content), depth + 1) <= depth
    ):
        return
    seen[id(content)] = depth
    if is_state(content):
        averaged = any(map(_AVERAGED.fullmatch, path.split(".")))
        yield Found(key=path, state=content, averaged=averaged)
        return
    names = [name for name in _WRAPPERS if name in content]
    names += [
        name
        for name, value in content.items()
        if isinstance(value, Mapping) and isinstance(name, str) and _AVERAGED.fullmatch(name[:100])
        if name not in _WRAPPERS and not _OTHERWISE.match(name[:100])
    ]
    for name in names:
        yield from _search(content[name], f"{path}.{name}" if path else name, depth + 1, seen)


def _elsewhere(content: Any, path: str) -> Iterator[Found]:
    """State dictionaries under any other name, but for those that are of optimizers and the like."""
    for name, value in content.items() if isinstance(content, Mapping) else ():
        if not isinstance(name, str) or _OTHERWISE.match(name[:100]):
            continue
        where = f"{path}.{name}" if path else name
        for each in _search(value, where, 1, {}):
            yield Found(key=each.key, state=each.state, averaged=False)


def is_state(content: Mapping[Any, Any]) -> bool:
    """Whether all values of a mapping are tensors by name, extra state left out."""
    if not content or not all(isinstance(name, str) for name in content):
        return False
    values = [value for name, value in content.items() if not name.endswith("_extra_state")]
    return bool(values) and all(
        isinstance(value, (Tensor, np.ndarray)) or (isinstance(value, Unread) and value.is_tensor)
        for value in values
    )


def _distinct(found: Iterator[Found]) -> list[Found]:
    """Without those that are another one once more, as where a framework keeps its weights under two names."""
    kept: list[Found] = []
    for each in found:
        if not any(_same(each.state, other.state) for other in kept):
            kept.append(each)
    return kept


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(_is_same(value, other[name]) for name, value in one.items())


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    return one is other


def _at(content: Any, key: str, source: Source, where: str) -> Any:
    """What a dotted key leads to; names may have dots themselves, and the longest that is there counts."""
    steps = key.split(".")
    while steps:
        length = next((n for n in range(len(steps), 0, -1) if _has(content, ".".join(steps[:n]))), 0)
        if not length:
            done = key.removesuffix(".".join(steps)).removesuffix(".")
            there = f"under {_short(done)} are" if done else "it holds"
            raise LandscapeError(
                f"{where}: {source.field}.key is {shown(key)}, which it has not; {there} {_held(content)}"
            )
        content = content[".".join(steps[:length])]
        steps = steps[length:]
    return content


def _has(content: Any, name: str) -> bool:
    return isinstance(content, Mapping) and name in content


def _nothing(content: Any) -> str:
    """Why nothing is taken."""
    if isinstance(content, Unread):
        return (
            f"has no state dictionary: it holds a whole Python object ({content.kind}), which is not loaded since it could run "
            f"code; where its classes are, save only the tensors: torch.save(model.state_dict(), path)"
        )
    whole = next(
        (
            (name, value.kind)
            for name in (*_WRAPPERS, "ema")
            if isinstance(content, Mapping) and isinstance(value := content.get(name), Unread)
        ),
        None,
    )
    if whole is not None:
        return (
            f"has no state dictionary: under {whole[0]} is a whole Python object ({whole[1]}), which is not loaded since it "
            f"could run code; where its classes are, save only the tensors: torch.save(model.state_dict(), path)"
        )
    return (
        f"has no state dictionary: it holds {_held(content)}; expected tensors by name, or a mapping that holds them under "
        f"one of {listed(_WRAPPERS)}"
    )


def _held(content: Any) -> str:
    first = itertools.islice(content, 8) if isinstance(content, Mapping) else ()
    keys = [_key(key) for key in first]
    return f"the keys {listed(keys)}" if keys else f"an object of type {type(content).__name__}"


def _short(key: str) -> str:
    return shortened(" ".join(repr(key)[1:-1].split()), 60)


def _key(key: Any) -> str:
    """A key for messages; the text of a tuple may be a thousand times as long as the file."""
    is_plain = key is None or isinstance(key, (str, int, float))
    return shortened(
        " ".join(repr(str(key)[:100])[1:-1].split()) if is_plain else f"a {type(key).__name__}", 40
    )
