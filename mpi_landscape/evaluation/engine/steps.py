"""The steps of an engine, in the order in which they are tried and applied."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.channels_last import CHANNELS_LAST
from mpi_landscape.evaluation.engine.description import ABSENT, Engine
from mpi_landscape.evaluation.engine.first_layer import FIRST_LAYER
from mpi_landscape.evaluation.engine.folding import FOLDED
from mpi_landscape.evaluation.engine.fusing import FUSED
from mpi_landscape.evaluation.engine.graphs import COMPILED, GRAPHED
from mpi_landscape.evaluation.engine.packing import PACKED

STEPS = {step.name: step for step in (FOLDED, CHANNELS_LAST, FUSED, COMPILED, GRAPHED, FIRST_LAYER, PACKED)}
# Those that are tried unless asked otherwise. A compiled network needs a C++ compiler where it runs, which one node may
# have and another not.
USUAL = ("folded", "channels_last", "fused", "first_layer", "packed")


def steps_of(
    request: str | Iterable[str], *, plain_gpu: bool = False, large: bool = False
) -> tuple[str, ...]:
    """The steps that may be tried.

    Args:
        request: `auto`, `plain`, or names of STEPS.
        plain_gpu: Whether a GPU computes, and not on its tensor cores: there, of what is usual, channels-last order slows
            convolutions down.
        large: Whether a copy of the network is worth saving: packed weights are one, and of a network that nothing rewrites
            there may be none at all.
    """
    if request == "auto":
        left_out = ["channels_last"] * plain_gpu + ["packed"] * large
        return tuple(step for step in USUAL if step not in left_out)
    return () if request == "plain" else tuple(step for step in STEPS if step in tuple(request))


def engine_of(text: str) -> Engine:
    """The inverse of `Engine.text`.

    Raises:
        LandscapeError: It is something else.
    """
    try:
        found: dict[str, Any] = json.loads(text)
        missing = ABSENT.keys() - found.keys() - {"points_per_pass"}
        if missing or found.pop("points_per_pass", 1) != 1:
            raise ValueError
        taken = [(step, step.read(found.pop(step.name, ()))) for step in STEPS.values()]
        if found:
            raise ValueError
        return Engine(taken=tuple((step, value) for step, value in taken if value))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise LandscapeError(f"{text[:60]!r} is no engine of this version") from error
