"""Premises of every evaluation, looked at on real examples before any work."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation import premises
from mpi_landscape.evaluation.computed import KINDS
from mpi_landscape.evaluation.engine.watching import Footprint
from mpi_landscape.evaluation.inputs import Inputs, find_inputs
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Examples
from mpi_landscape.loading.resident import Resident
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.problem.build import Problem, units_of_loss
from mpi_landscape.problem.criteria import outputs_and_targets, split_batch
from mpi_landscape.problem.losses import check_targets
from mpi_landscape.vocabulary import COMPUTED, OF_THE_HESSIAN
from mpi_landscape.wording import listed

# Labels of a streamed split that are looked at, the first ones: reading all of it costs as much as a point.
_STREAMED = 1024


def try_problem(
    problem: Problem,
    device: torch.device,
    dtype: torch.dtype,
    *,
    asked: Collection[str],
    decided: Collection[str] | None = None,
) -> tuple[Footprint, Quantities, bool, dict[str, Inputs]]:
    """Try two examples of every split, before the data is read.

    Quantities are `asked` for by name; `decided` are the further numbers of the loss that a file keeps which may be
    continued, None without one.

    Returns:
        What a pass holds for an example; what will be known at a point; whether the loss takes derivatives itself; and in
        which type each split is evaluated.

    Raises:
        LandscapeError: Network, loss and data do not fit together, or a quantity cannot be known.
    """
    model, loss = problem.model, problem.loss
    tried, inputs = {}, {}
    for split, dataset in problem.splits.items():
        inputs[split] = find_inputs(loss, model, split, dataset, device=device, dtype=dtype)
        tried[split] = premises.try_two_examples(
            loss, model, split, dataset, device=device, dtype=inputs[split].dtype
        )
    returned = {split: each for split, (_, each, _) in tried.items()}
    return (
        reduce(Footprint.with_, (held for held, _, _ in tried.values())),
        _quantities(problem, returned, asked, decided),
        any(each for _, _, each in tried.values()),
        inputs,
    )


def check_premises(
    problem: Problem,
    ranks: Ranks,
    splits: Mapping[str, Examples],
    quantities: Quantities,
    device: torch.device,
    inputs: Mapping[str, Inputs],
    *,
    gradients: bool = False,
) -> None:
    """Every rank tries one batch; rank 0 alone looks at the data again.

    Raises:
        LandscapeError: A premise does not hold.
    """
    network = problem.model
    for split, examples in splits.items():
        with closing(examples.pieces(0, 1)) as pieces:
            batch = next(pieces)[0]
        if ranks.is_root:
            _check_labels(problem, network, examples)
        result = premises.call_loss(problem.loss, network, batch, gradients=gradients)
        premises.check_loss(result, examples.batch_size)
        premises.check_repeatable(problem.loss, network, batch, gradients=gradients)
        for name in KINDS.keys() & {*quantities.computed}:
            KINDS[name].check(problem.loss, network, batch)
        if ranks.is_root:
            premises.check_rereading(examples, problem.splits[split], device, inputs[split].dtype)


def _check_labels(problem: Problem, network: nn.Module, examples: Examples) -> None:
    """Refuse labels of a split that the problem's loss cannot take; of a user's own loss nothing is known."""
    if problem.loss_name is None:
        return
    stop = examples.num_batches
    if not isinstance(examples, Resident):
        stop = min(stop, -(-_STREAMED // examples.batch_size))
    with closing(examples.pieces(0, stop)) as pieces:
        batches = enumerate(batch.data for piece in pieces for batch in piece)
        refuse_labels(
            problem.loss_name,
            network,
            ((f"batch {number} of {examples.batch_size}", data) for number, data in batches),
            where=f"{problem.where}: data, split {examples.split}",
        )


def refuse_labels(loss: str, network: nn.Module, batches: Iterable[tuple[str, Any]], *, where: str) -> None:
    """Refuse labels that a named loss cannot take before the first loss: on a GPU one ends the whole process.

    Args:
        loss: The name of the loss.
        network: In evaluation mode, where the batches are; called once, with two examples.
        batches: Each with what messages call it, in the order of the examples.
        where: What they are batches of, for messages.

    Raises:
        LandscapeError: There is one; the message names the first.
    """
    outputs = None
    for name, batch in batches:
        _, _, targets = split_batch(batch)
        if outputs is None:
            with torch.no_grad():
                outputs, _ = outputs_and_targets(network, nests.rows(batch, 0, 2))
        check_targets(loss, _as_many(outputs, len(targets)), targets, where=f"{where}, {name}")


def _as_many(outputs: Any, number: int) -> Any:
    """Outputs of so many examples, of which only the shape counts; of another kind as they are, to be refused."""
    if isinstance(outputs, Tensor) and outputs.ndim:
        return outputs[:1].expand(number, *outputs.shape[1:])
    return outputs


def _quantities(
    problem: Problem,
    returned: Mapping[str, premises.Returned],
    asked: Collection[str],
    decided: Collection[str] | None,
) -> Quantities:
    further = {split: each.further for split, each in returned.items()}
    if len(set(further.values())) > 1:
        found = "; ".join(f"{', '.join(names) or 'none'} on {split}" for split, names in further.items())
        raise LandscapeError(
            f"loss: returns other numbers on one split than on another ({found}); valid are the same names on every split"
        )
    names = next(iter(further.values()))
    accuracy = all(each.accuracy for each in returned.values())
    there = ["loss", *["accuracy"] * accuracy, *names, *COMPUTED]
    unknown = [name for name in asked if name not in there]
    if unknown:
        raise LandscapeError(
            f"{problem.where}: compute.quantities: {unknown[0]!r} is neither returned by the loss nor known here; "
            f"valid are {listed(name for name in there if name not in OF_THE_HESSIAN)}"
        )
    return Quantities(
        accuracy=accuracy,
        # A file of before further numbers were kept goes on without them.
        returned=tuple(name for name in names if decided is None or name in decided),
        computed=tuple(name for name in COMPUTED if name in asked),
        loss_units=units_of_loss(problem.loss, problem.loss_name),
    )
