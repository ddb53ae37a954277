"""A path sought from its beginning or from where an earlier start came to. Collective."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpi_landscape.connections import folder as files
from mpi_landscape.connections.passes import Passes
from mpi_landscape.connections.searching.rounds import Answer, Round, Search, mean_loss
from mpi_landscape.errors import AgreedError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Reason
from mpi_landscape.placement.sharing import share_tensors
from mpi_landscape.work.progress import Progress

# Seconds of work that a kill may cost; the numbers are the same wherever a search goes on from.
_SAVE = 60.0


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Where a search keeps how far it has come.

    Attributes:
        folder: Its folder.
        identity: What defines the search.
        facts: Decisions that are a part of its bits.
        before: What an earlier start left, on every rank; None begins anew.
    """

    folder: Path
    identity: Mapping[str, str]
    facts: Mapping[str, int]
    before: Mapping[str, Any] | None = field(default=None)


def read_before(folder: Path, identity: Mapping[str, str], ranks: Ranks) -> dict[str, Any] | None:
    """What an earlier start of this search left, on every rank; None where there is nothing. Collective.

    Raises:
        AgreedError: It is damaged, or another search's.
    """
    found = ranks.on_root(lambda: files.read_path(folder, identity))
    plain = ranks.share(_of_kind(found, tensors=False) if found is not None else None)
    if plain is None:
        return None
    tensors = share_tensors(_of_kind(found, tensors=True) if found is not None else None, ranks, copied=False)
    return {**plain, **tensors}


def _of_kind(content: Mapping[str, Any], *, tensors: bool) -> dict[str, Any]:
    return {name: value for name, value in content.items() if isinstance(value, Tensor) == tensors}


def find(search: Search, passes: Passes, kept: Kept, ranks: Ranks, *, stopping: Reason) -> str | None:
    """Go on with a search to its end. Collective.

    Args:
        search: At its beginning.
        passes: What answers its rounds.
        kept: Where it is kept.
        ranks: Who computes.
        stopping: Asked after every round on every rank; a reason on any of them stops all.

    Returns:
        Why it stopped early, the same words on every rank; None at its end.

    Raises:
        AgreedError: A loss on the path is not finite, or the state cannot be written.
    """
    if kept.before is not None:
        device = next(passes.model.parameters()).device
        search.restore(
            {
                name: value.to(device) if isinstance(value, Tensor) else value
                for name, value in kept.before.items()
            }
        )
        passes.examples.update(
            {True: int(kept.before["with_gradient"]), False: int(kept.before["without_gradient"])}
        )
    saved = time.monotonic()
    with Progress(
        search.num_steps,
        initial=search.step,
        points_per_unit=1,
        units="steps",
        points="steps",
        shown=ranks.is_root,
    ) as progress:
        while not search.is_done:
            asked = search.next_round()
            answers = passes.answers(search.curve, asked)
            _check_finite(asked, answers, search.step)
            before = search.step
            search.take(answers)
            progress.advance(search.step - before)
            reasons = ranks.gather(stopping.reason)
            rank, reason = next(
                ((rank, text) for rank, text in enumerate(reasons) if text is not None), (0, None)
            )
            if reason is not None and not search.is_done:
                _keep(search, passes, kept, ranks)
                return reason if rank == 0 else f"{reason} on rank {rank}"
            # Rank 0's clock decides, and it alone writes: nobody waits for it but at the next gradient.
            if ranks.is_root and time.monotonic() - saved >= _SAVE:
                files.keep_path(kept.folder, _content(search, passes, kept), kept.identity)
                saved = time.monotonic()
    if kept.before is None or not kept.before["is_done"]:
        _keep(search, passes, kept, ranks)
    return None


def _keep(search: Search, passes: Passes, kept: Kept, ranks: Ranks) -> None:
    ranks.on_root(lambda: files.keep_path(kept.folder, _content(search, passes, kept), kept.identity))


def _content(search: Search, passes: Passes, kept: Kept) -> dict[str, Any]:
    state = search.state()
    return {
        **{
            name: value.detach().cpu() if isinstance(value, torch.Tensor) else value
            for name, value in state.items()
        },
        **kept.facts,
        "with_gradient": passes.examples[True],
        "without_gradient": passes.examples[False],
        "is_done": search.is_done,
    }


def _check_finite(asked: Round, answers: Sequence[Answer], step: int) -> None:
    for task, answer in zip(asked.tasks, answers, strict=True):
        loss = mean_loss(answer)
        if not math.isfinite(loss):
            raise AgreedError(
                f"connect: the training loss is {loss} at t = {task.t:.6g} of the path, after {step} steps; valid are a smaller "
                f"learning_rate, or ends between which there is a path"
            )
