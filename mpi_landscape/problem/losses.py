"""Losses, one value per example: the named ones, and a user's own.

A loss is called `loss(model, batch)`. For the named ones, a batch is `(inputs, targets)` or a mapping
with "input" and "target"; they return a mapping with

    loss     (N,) float32 (float64 for float64 outputs), nats for cross_entropy and nll
    correct  (N,) bool, whether the largest output is that of the label; only for integer targets
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mpi_landscape.configuration.sections.sources import LossConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.per_example import INTEGERS, LOSSES
from mpi_landscape.problem.targets import check_arguments, resolve
from mpi_landscape.wording import listed, shown, suggestion

LossFunction: TypeAlias = Callable[[nn.Module, Any], Tensor | Mapping[str, Tensor]]

_HALVES = (torch.float16, torch.bfloat16)


def build_loss(configuration: LossConfiguration, *, where: str, folders: Sequence[Path]) -> LossFunction:
    """Find the loss that a configuration names: a function of a network and a batch.

    Args:
        configuration: A name of `LOSSES`, or a target that is itself the function `loss(model, batch, **arguments)`
            and returns a tensor (N,), or a mapping with "loss" (N,) and optionally "correct" (N,).
        where: The configuration's file, for messages.
        folders: Where a target's module is looked for, besides the working folder and installed packages.

    Raises:
        LandscapeError: The name is unknown, a target is not found, or the arguments do not fit.
    """
    section = f"{where}: loss"
    arguments = configuration.arguments
    if configuration.target is not None:
        function = resolve(configuration.target, where=f"{section}.target", folders=folders)
        if isinstance(function, type):
            raise LandscapeError(
                f"{section}.target {shown(configuration.target)}: is a class; expected a function (model, batch)"
            )
        check_arguments(
            function, arguments, where=section, called=configuration.target, given=("model", "batch")
        )
        return functools.partial(function, **arguments)
    name = str(configuration.name)
    if name not in LOSSES:
        raise LandscapeError(
            f"{section}.name is {shown(name)}; valid names are {listed(LOSSES)}"
            f"{suggestion(name, list(LOSSES))}; your own is given as target: package.module:function"
        )
    check_arguments(LOSSES[name], arguments, where=section, called=name, given=("outputs", "targets"))
    for argument, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise LandscapeError(f"{section}.arguments.{argument} is {shown(value)}; expected a number")
    return functools.partial(evaluate, name=name, arguments=dict(arguments))


def evaluate(model: nn.Module, batch: Any, *, name: str, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """Evaluate the loss of a name in `LOSSES`, with further arguments, of a network with outputs (N, C).

    Returns:
        "loss" (N,) and, for integer targets, "correct" (N,) bool.

    Raises:
        LandscapeError: The batch has another form, or outputs and targets do not fit each other.
    """
    inputs, targets = split_batch(batch)
    outputs = model(inputs)
    _check_form(name, outputs, targets, name)
    if outputs.dtype in _HALVES:
        # A sum of exponentials in 8 or 11 bits would be the largest error of all.
        outputs = outputs.float()
    results = {"loss": LOSSES[name](outputs, targets, **arguments)}
    if targets.dtype in INTEGERS:
        largest, label = outputs.max(dim=1)
        # The largest of outputs with a NaN is that NaN, which answers nothing.
        results["correct"] = (label == targets) & ~largest.isnan()
    return results


def split_batch(batch: Any) -> tuple[Any, Tensor]:
    """Inputs and targets of a batch: a list or tuple of both, or a mapping with "input" and "target".

    Raises:
        LandscapeError: The batch is anything else.
    """
    if isinstance(batch, Mapping) and {"input", "target"} <= batch.keys():
        inputs, targets = batch["input"], batch["target"]
    elif isinstance(batch, (list, tuple)) and len(batch) == 2:
        inputs, targets = batch
    else:
        keys = f" with the keys {listed(batch)}" if isinstance(batch, Mapping) else ""
        raise LandscapeError(
            f"data: a batch is a {type(batch).__name__}{keys}; a named loss expects (inputs, targets), or a "
            "mapping with input and target"
        )
    if not isinstance(targets, Tensor):
        raise LandscapeError(
            f"data: the targets of a batch are a {type(targets).__name__}; expected a tensor"
        )
    return inputs, targets


def check_targets(name: str, outputs: Tensor, targets: Tensor, *, where: str) -> None:
    """Refuse targets that a named loss cannot take; on a GPU, PyTorch would stop the whole process.

    Args:
        name: One of `LOSSES`; of any other nothing is known, and nothing is checked.
        outputs: (N, C), the network's.
        targets: (N,) or as the loss takes them.
        where: What to call them in messages, such as "mine.yaml: data, split train".

    Raises:
        LandscapeError: The types or shapes do not fit, or a label is not in [0, C); names the first.
    """
    if name not in LOSSES:
        return
    _check_form(name, outputs, targets, where)
    if targets.dtype not in INTEGERS:
        return
    num_classes = outputs.shape[1]
    bad = ((targets < 0) | (targets >= num_classes)).nonzero()
    if len(bad):
        index = int(bad[0, 0])
        raise LandscapeError(
            f"{where}: the label at index {index} is {int(targets[index])}; the network has {num_classes} "
            f"outputs, so labels go from 0 to {num_classes - 1}"
        )


def _check_form(name: str, outputs: Any, targets: Tensor, where: str) -> None:
    if not isinstance(outputs, Tensor):
        raise LandscapeError(
            f"{where}: the network returned a {type(outputs).__name__}; {name} expects a tensor (N, C); "
            "other networks need a loss of their own, given as target: package.module:function"
        )
    if name == "mse" and targets.is_floating_point():
        fits = targets.shape == outputs.shape or {targets.shape, outputs.shape} == {
            targets.shape[:1],
            (*targets.shape[:1], 1),
        }
        needed = "integer targets (N,), or floating-point targets of the outputs' shape"
    else:
        fits = targets.dtype in INTEGERS and outputs.ndim == 2 and targets.shape == outputs.shape[:1]
        needed = "outputs (N, C) and integer targets (N,)"
    if not fits:
        raise LandscapeError(
            f"{where}: outputs have shape {tuple(outputs.shape)}, targets {tuple(targets.shape)} of "
            f"{str(targets.dtype).removeprefix('torch.')}; {name} expects {needed}"
        )
