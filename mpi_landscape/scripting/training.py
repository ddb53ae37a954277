"""A training from a Python script."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpi_landscape.command.door import in_one_line
from mpi_landscape.configuration.reading import from_mapping
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.errors import AgreedError, LandscapeError
from mpi_landscape.evaluation.lending import restore, tensors_of
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.placement.sharing import share_tensors
from mpi_landscape.problem.arguments import check_data, check_loss, check_network, given_loss
from mpi_landscape.problem.build import is_ragged
from mpi_landscape.problem.datasets.given import Given
from mpi_landscape.scripting.together import check_title_and_limit, opened
from mpi_landscape.solutions.member import Handed, Member
from mpi_landscape.solutions.newest import BEGINNING, beginning_of, fingerprint_of, history_of, newest
from mpi_landscape.solutions.sweep import Data, check, train_all
from mpi_landscape.storage.history.solution import Solution
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.wording import shown

_WHERE = "train()"
# Where neither the call nor a loader says it.
_BATCH = 128


@in_one_line
def train(
    model: nn.Module,
    loss: str | Mapping[str, Any] | Callable[..., Any],
    data: Any,
    output: str | Path,
    *,
    epochs: int | None = None,
    optimizer: str = "sgd",
    batch_size: int | str | None = None,
    learning_rate: float | None = None,
    momentum: float | None = None,
    nesterov: bool = False,
    weight_decay: float | None = None,
    schedule: Mapping[str, Any] | None = None,
    augmentation: Mapping[str, Any] | None = None,
    phases: Sequence[Mapping[str, Any]] | None = None,
    seed: int = 0,
    piece_size: int | str = "auto",
    checkpoint_every: int = 1,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    compute: Mapping[str, Any] | None = None,
    title: str | None = None,
    overwrite: bool = False,
    time_limit: float | None = None,
) -> Solution:
    """Train a network, and keep the checkpoints that surfaces, lines and trajectories need.

    The network is trained in place, from the parameters that it has, in float32. The folder gets a checkpoint per epoch
    (`epoch_0000.pt` is the beginning), `final.pt` and `history.h5`, as from `python -m mpi_landscape.train`. The same call
    again goes on where the last one came to, to the same bits, or only reads what is finished; the network has the newest
    parameters afterwards. Under mpiexec every rank calls it with the same arguments; one trains, and all have the result.

    A training of one's own, in a loop, by Lightning or transformers, is recorded by `mpi_landscape.Recorder` instead.

    Args:
        model: Any network, its parameters in float32; those with `requires_grad` are trained.
        loss: As in `landscape()`.
        data: As in `landscape()`; a split `train` is trained on, the others are looked at after every epoch.
        output: The folder.
        epochs: Passes over the data; needed here or in every phase.
        optimizer: `sgd` or `adam`.
        batch_size: Examples in a step; `all` for plain gradient descent; None for that of the DataLoader, or
            128, or `all` where there are no more.
        learning_rate: None for 0.1 with SGD and 0.001 with Adam.
        momentum: Of SGD; None for 0.9.
        nesterov: Whether Nesterov's momentum is used.
        weight_decay: λ; λθ is added to the gradient. None for 0.0005 with SGD and 0 with Adam.
        schedule: {"milestones": [60, 120], "factor": 0.1}: epochs after which the learning rate is multiplied.
        augmentation: {"shift": 4, "flip": True}, of images.
        phases: One after another, each with what it says otherwise than the arguments above.
        seed: Of the order of the examples, dropout and augmentation.
        piece_size: Examples that go through the network at once; `auto` for what fits.
        checkpoint_every: Epochs from one checkpoint to the next.
        collate_fn: Makes a batch of items of several sizes.
        compute: As in a configuration: device and threads.
        title: What pictures are to say; the network's class by default.
        overwrite: Whether another training in the folder is replaced.
        time_limit: Seconds after which to stop; the solution that is returned is unfinished then.

    Returns:
        The solution, on every rank: its folder, its history, `solution.train_loss`, `solution.ending`, ...

    Raises:
        LandscapeError: Bad input, or a training that diverged, in one line, on every rank.

    Example:
        >>> solution = train(model, "cross_entropy", {"train": train_set}, "runs/mine", epochs=10)  # doctest: +SKIP
        >>> solution.plot()  # doctest: +SKIP
        >>> landscape(model, "cross_entropy", train_set).plot()  # doctest: +SKIP
    """
    with ExitStack() as resources:
        ranks = resources.enter_context(opened(_WHERE))
        with ranks.together():
            folder = _checked(output, title, time_limit)
            check_network(model, where=_WHERE)
            _check_float32(model)
            check_loss(loss, where=_WHERE)
            given = check_data(data, where=_WHERE, collate_fn=collate_fn)
            training = {
                "epochs": epochs,
                "optimizer": optimizer,
                "batch_size": batch_size if batch_size is not None else _usual_batch(given),
                "learning_rate": learning_rate,
                "momentum": momentum,
                "nesterov": nesterov,
                "weight_decay": weight_decay,
                "schedule": schedule,
                "augmentation": augmentation,
                "phases": phases,
                "seed": seed,
                "piece_size": piece_size,
                "checkpoint_every": checkpoint_every,
            }
            configuration = _configuration(loss, folder, training, compute)
        resources.enter_context(_as_it_was(model))
        restore(model, share_tensors(tensors_of(model) if ranks.is_root else None, ranks))
        with ranks.together():
            member = _member(model, loss, given, configuration, folder, title, overwrite=overwrite)
        for note in given.notes:
            ranks.say(f"given       {note}")
        data_of_members = Data()
        ranks.on_root(lambda: check([member], data_of_members, ranks.say, overwrite=overwrite))
        stopping = resources.enter_context(Stopping(time_limit))
        reason, diverged = train_all([member], data_of_members, ranks, overwrite=overwrite, stopping=stopping)
        if diverged:
            raise AgreedError(f"{_WHERE}: the training diverged; the last checkpoint in {folder} is good")
        kept = ranks.on_root(lambda: newest(folder))
        # Of tied ones a state dictionary has every name.
        known = tensors_of(model)
        found = share_tensors((kept or {}) if ranks.is_root else None, ranks, copied=False)
        restore(model, {name: value for name, value in found.items() if name in known})
        if reason is not None:
            ranks.say(f"stopped by {reason}; call it again with output={str(folder)!r} to go on")
        history = ranks.share(history_of(folder, list(given.splits)) if ranks.is_root else None)
        assert history is not None
        return Solution(folder=folder, history=history, ending=Ended.of(reason))


def _checked(output: Any, title: Any, time_limit: Any) -> Path:
    """The folder; refuses what is no part of a configuration."""
    if not isinstance(output, str | os.PathLike) or not str(output):
        raise LandscapeError(f"{_WHERE}: output is {shown(output)}; expected the path of a folder")
    check_title_and_limit(title, time_limit, where=_WHERE)
    return Path(output)


def _usual_batch(given: Given) -> int | str:
    size = given.batch_size or _BATCH
    return "all" if "train" in given.splits and len(given.splits["train"]) <= size else size


def _check_float32(model: nn.Module) -> None:
    other = next(
        (
            (name, each.dtype)
            for name, each in model.named_parameters()
            if each.requires_grad and each.dtype not in (torch.float32, torch.complex64)
        ),
        None,
    )
    if other is not None:
        raise LandscapeError(
            f"{_WHERE}: model: {other[0]} is in {str(other[1]).removeprefix('torch.')}; trainings are in float32; valid is "
            f"model.float()"
        )


def _configuration(
    loss: Any, folder: Path, training: Mapping[str, Any], compute: Mapping[str, Any] | None
) -> Configuration:
    """The arguments as a configuration: checked like a file, and kept in the history."""
    sections: dict[str, Any] = {
        "model": {"target": "python:model"},
        "data": {"target": "python:data"},
        "loss": loss if isinstance(loss, str | Mapping) else {"target": "python:loss"},
        "training": {
            "output": str(folder),
            **{name: value for name, value in training.items() if value is not None},
        },
    }
    if compute is not None:
        sections["compute"] = compute
    return from_mapping(sections, where=_WHERE)


def _member(
    model: nn.Module,
    loss: Any,
    given: Given,
    configuration: Configuration,
    folder: Path,
    title: str | None,
    *,
    overwrite: bool,
) -> Member:
    named = configuration.loss if isinstance(loss, str | Mapping) else None
    function, _, text = given_loss(loss, model, named, ragged=is_ragged(given.splits), where=_WHERE)
    beginning = fingerprint_of(model.state_dict())
    return Member(
        where=_WHERE,
        configuration=configuration,
        handed=Handed(
            model=model,
            loss=function,
            splits=given.splits,
            identity={
                "loss": text,
                BEGINNING: beginning if overwrite else beginning_of(folder, beginning),
            },
            title=title or type(model).__name__,
        ),
    )


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Modes, gradients and devices are afterwards what they were; values are not."""
    modes = [(module, module.training) for module in model.modules()]
    places = [(tensor, tensor.device) for tensor in tensors_of(model).values()]
    gradients = [(each, each.grad) for each in model.parameters()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for tensor, device in places:
            if tensor.device != device:
                tensor.data = tensor.data.to(device)
        for parameter, gradient in gradients:
            parameter.grad = gradient
