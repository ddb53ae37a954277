"""A problem on its device: network and data where they are evaluated, the same on every rank. Collective."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import measure_arithmetic
from mpi_landscape.evaluation.engine.watching import Footprint
from mpi_landscape.evaluation.inputs import Inputs
from mpi_landscape.evaluation.lending import is_there, moved_to
from mpi_landscape.evaluation.precision import Precision, precision_of
from mpi_landscape.evaluation.reach import reach_of
from mpi_landscape.loading.batches import Examples
from mpi_landscape.parallel import devices
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.shared_memory import Node
from mpi_landscape.placement.data import hold
from mpi_landscape.placement.lengths import sorted_by_length
from mpi_landscape.placement.memory import choose_batch
from mpi_landscape.placement.premises import check_premises, try_problem
from mpi_landscape.plan.decisions import Decisions
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.problem.build import Problem
from mpi_landscape.wording import amount


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A problem whose premises hold, ready to be evaluated.

    Attributes:
        problem: Network, loss and data.
        device: Where this rank evaluates.
        precision: In which it is evaluated.
        arithmetic: What was measured of products in 32 bits, in words.
        threads: Of this rank, on a CPU.
        splits: The data by split, in batches.
        batch_size: Examples in a batch, as decided for all splits.
        quantities: What is known at a point.
        gradients: Whether the loss takes derivatives itself.
        held: In words, where the data are.
        data_bytes: This rank's share of them.
        activation_bytes: Of one batch.
        free_bytes: Free on the device for this rank before anything was put there.
    """

    problem: Problem
    device: torch.device
    precision: Precision
    arithmetic: str
    threads: int
    splits: Mapping[str, Examples]
    batch_size: int
    quantities: Quantities
    gradients: bool
    held: str
    data_bytes: int
    activation_bytes: int
    free_bytes: int

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU evaluates."""
        return self.device.type == "cuda"


@contextmanager
def placed(
    problem: Problem,
    ranks: Ranks,
    compute: ComputeConfiguration,
    decided: Decisions,
    *,
    most_per_batch: int | None = None,
    computed: Collection[str] = (),
) -> Iterator[Placed]:
    """Put a problem on its device, check its premises, and say who computes. Collective.

    Args:
        problem: The same on every rank.
        ranks: Who computes.
        compute: Precision, device, threads, batch size, where the data go.
        decided: What a file that may be continued was made with.
        most_per_batch: Examples in a batch at most, where no size is asked for or decided.
        computed: Names of quantities that a program computes besides those that are asked for.

    Raises:
        AgreedError: A premise does not hold.
    """
    precision = precision_of(compute.precision).of(problem.model)
    with ranks.together():
        device = devices.choose_device(compute.device, ranks)
        precision.check(device)
        _check_movable(problem, device, precision)
        arithmetic = measure_arithmetic(device)
    threads = devices.thread_share(ranks, compute.threads)
    ranks.say(_who(ranks, device, threads))
    for line in problem.notes:
        ranks.say(f"given       {line}")
    problem = sorted_by_length(problem, ranks)
    warning = devices.shared_device_warning(device, ranks)
    if warning:
        ranks.say(f"warning: {warning}")
    memory = devices.memory_of(device, ranks)
    kinds = {each.dtype for each in problem.model.parameters() if each.is_floating_point()}
    with moved_to(problem.model, device, precision.network), Node(ranks) as node:
        tried = ranks.on_root(
            lambda: _tried(
                problem, device, precision, kinds, (*compute.quantities, *computed), decided.returned
            )
        )
        footprint, quantities, gradients, inputs = ranks.share(tried) or (
            Footprint(),
            Quantities(),
            False,
            {},
        )
        for line in _inputs(inputs):
            ranks.say(line)
        if getattr(problem.loss, "is_one_by_one", False):
            ranks.say(
                "warning: loss: no reduction leads to its number, so every example is a batch of its own, which is slow; a loss "
                "that returns one value per example goes through the network once for all"
            )
        num_examples = max(len(dataset) for dataset in problem.splits.values())  # type: ignore[arg-type]
        with ranks.together():
            batch = choose_batch(
                footprint, num_examples, compute.batch_size, precision, device, memory,
                threads=compute.threads if device.type == "cpu" else 1, available=threads,
                decided=decided.batch_size, most=most_per_batch, given=problem.batch_size,
            )  # fmt: skip
        batch_size, usable = batch.size, batch.threads if device.type == "cpu" else threads
        if any(ranks.gather(usable < threads)):
            ranks.say(
                f"threads     {usable} of a rank: a batch of {batch_size} takes {amount(batch.bytes)} in each, and "
                f"{amount(memory.free)} are free for {memory.users} rank{'s' if memory.users > 1 else ''}"
            )
        threads = usable
        held = hold(
            problem.splits,
            ranks,
            node,
            request=compute.data,
            batch_size=batch_size,
            device=device,
            dtypes={split: each.dtype for split, each in inputs.items()},
            readers=threads,
        )
        with ranks.together():
            check_premises(problem, ranks, held.splits, quantities, device, inputs, gradients=gradients)
        yield Placed(
            problem=problem,
            device=device,
            precision=precision,
            arithmetic=arithmetic,
            threads=threads,
            splits=held.splits,
            batch_size=batch_size,
            quantities=quantities,
            gradients=gradients,
            held=held.text,
            data_bytes=held.bytes,
            activation_bytes=batch.bytes * (threads if device.type == "cpu" else 1),
            free_bytes=memory.free // memory.users,
        )


def _tried(
    problem: Problem,
    device: torch.device,
    precision: Precision,
    kinds: Collection[torch.dtype],
    asked: Collection[str],
    decided: Collection[str] | None,
) -> tuple[Footprint, Quantities, bool, dict[str, Inputs]]:
    """As `try_problem`; a network with parameters of several types that fails in one learns of the type that holds all.

    Raises:
        LandscapeError: Network, loss and data do not fit together.
    """
    try:
        return try_problem(problem, device, precision.data, asked=asked, decided=decided)
    except LandscapeError as error:
        if torch.float64 not in kinds or len(kinds) == 1 or precision.network != torch.float32:
            raise
        raise LandscapeError(
            f"{error}; a part of the network is in float64, and {precision.name} computes it in float32: valid is "
            f"compute.precision: float64, which computes all of it in float64"
        ) from error


def _check_movable(problem: Problem, device: torch.device, precision: Precision) -> None:
    """Refuse a network that must be moved elsewhere, and to which something leads that would stay behind.

    Raises:
        LandscapeError: So it is.
    """
    if is_there(problem.model, device, precision.network):
        return
    reach = reach_of(problem.model, problem.loss)
    if reach.network is not None:
        kinds = ", ".join(sorted({f"{each.dtype} on {each.device}" for each in problem.model.parameters()}))
        raise LandscapeError(
            f"model: {reach.network}, and its parameters ({kinds}) would have to be moved to {precision.name} on {device}; "
            f"valid is a network that is there already, or a compute.precision and a compute.device that are its own"
        )


def _who(ranks: Ranks, device: torch.device, threads: int) -> str:
    """Who computes, in a line for people: ranks, hosts, devices, threads. Collective."""
    names = ranks.gather((ranks.host, devices.device_name(device), threads))
    hosts, found = len({host for host, _, _ in names}), devices.distinct([name for _, name, _ in names])
    spread = sorted({threads for _, _, threads in names})
    each = f"{spread[0]}" if len(spread) == 1 else f"{spread[0]} to {spread[-1]}"
    return (
        f"ranks       {ranks.size} on {hosts} host{'s' if hosts > 1 else ''}: {found}; "
        f"{each} thread{'s' if spread[-1] > 1 else ''} each"
    )


def _inputs(inputs: Mapping[str, Inputs]) -> list[str]:
    """In which type the data are evaluated, where it is not the precision's; splits that are alike in one line."""
    words = {split: each.words() for split, each in inputs.items()}
    return [
        f"inputs      {', '.join(split for split in words if words[split] == text)}: {text}"
        for text in dict.fromkeys(words.values())
        if text
    ]
