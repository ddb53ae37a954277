"""Several checkpoints in one configuration: a list in place of `model.checkpoint`, and a surface for each of them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from mpi_landscape.configuration.sections.fields import MOST_CHECKPOINTS
from mpi_landscape.configuration.sweeps import Member
from mpi_landscape.configuration.swept_fields import Where
from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import shown

_KEY = "model.checkpoint"
PLACE = "{checkpoint}"


def members(values: Mapping[str, Any], *, where: Where) -> tuple[Member, ...]:
    """A configuration for every checkpoint in the order of the list; a single one where there is none.

    The output of each is that of the file with the checkpoint's name in place of `{checkpoint}`: its own, without its ending,
    and of its path what tells it from the others, joined by "_". Without that word the number in the list, from 1, comes
    before the ending: `mine.h5` is `mine-1.h5`, `mine-2.h5`.

    Raises:
        LandscapeError: The list is empty, has something else than names, or one twice; or no output is given.
    """
    found = _list(values)
    if found is None:
        return (Member(name="", values=values),)
    _check(found, where)
    output = _output(values, where)
    made = []
    for number, (checkpoint, name) in enumerate(zip(found, names_of(found), strict=True), start=1):
        own = output.replace(PLACE, name)
        if PLACE not in output:
            path = PurePath(output)
            own = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        changed = {**values, "model": {**values["model"], "checkpoint": checkpoint}, "output": own}
        made.append(Member(name=f"checkpoint={name}", values=changed, places={_KEY: f"{_KEY}[{number - 1}]"}))
    return tuple(made)


def refuse(values: Mapping[str, Any], *, where: Where) -> None:
    """Refuse several checkpoints where a single one is expected."""
    found = _list(values)
    if found is not None:
        raise LandscapeError(
            f"{where(_KEY)}: {_KEY} is a list of {len(found)}; only surface takes several, a surface file for each; expected one "
            f"name"
        )


def _list(values: Mapping[str, Any]) -> Sequence[Any] | None:
    model = values.get("model")
    found = model.get("checkpoint") if isinstance(model, Mapping) else None
    return found if isinstance(found, (list, tuple)) else None


def _check(found: Sequence[Any], where: Where) -> None:
    if not 1 <= len(found) <= MOST_CHECKPOINTS:
        raise LandscapeError(
            f"{where(_KEY)}: {_KEY} is a list of {len(found)}; expected 1 to {MOST_CHECKPOINTS} names of files or folders"
        )
    for number, each in enumerate(found):
        # What a name must be is left to the validation of each, but for what the outputs are made of.
        if not isinstance(each, str) or not PurePath(each).name:
            raise LandscapeError(
                f"{where(_KEY)}: {_KEY}[{number}] is {shown(each)}; expected the name of a file or folder"
            )
        if each in found[:number]:
            raise LandscapeError(f"{where(_KEY)}: {_KEY} has {shown(each)} twice; expected each once")


def _output(values: Mapping[str, Any], where: Where) -> str:
    output = values.get("output")
    training = values.get("training")
    if output is None and isinstance(training, Mapping) and isinstance(training.get("output"), str):
        output = str(PurePath(training["output"], "surface.h5"))
    if not isinstance(output, str) or not PurePath(output).name:
        raise LandscapeError(
            f"{where('output')}: output is {shown(output)}, with several checkpoints in {_KEY}; expected the name of a file, "
            f"such as surfaces/{PLACE}.h5"
        )
    return output


def names_of(checkpoints: Sequence[str]) -> list[str]:
    """A name for each, of as many of the last steps of its path as tell all of them apart."""
    paths = [PurePath(each) for each in checkpoints]
    deepest = max(len(path.parts) for path in paths)
    for depth in range(1, deepest + 1):
        names = ["_".join((*path.parts[-depth:-1], _stem(path))) for path in paths]
        names = [re.sub(r"[/\\]", "", name) for name in names]
        if len(set(names)) == len(names):
            return names
    # Two that differ in their endings alone, or in what a name cannot show.
    return [f"{name}-{number}" for number, name in enumerate(names, start=1)]


def _stem(path: PurePath) -> str:
    """The name without the ending of a file of weights; that of a folder may have a dot: checkpoint-v1.5."""
    return re.sub(
        r"[.](pt|pth|ckpt|bin|pkl|t7|tar|npz|safetensors|pth[.]tar|safetensors[.]index[.]json|bin[.]index[.]json)$",
        "",
        path.name,
    )
