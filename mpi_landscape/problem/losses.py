"""Losses, one value per example: the named ones, and a user's own.

A loss is called `loss(model, batch)`. For the named ones, a batch is as `criteria.split_batch` takes it; they return a
mapping with

    loss     (N,) float32 (float64 for float64 outputs), nats for cross_entropy and nll
    correct  (N,) bool, whether the largest output is that of the label; only for integer targets

Outputs are (N, C) floating point, and targets (N,) integers in [0, C), where a loss does not say otherwise.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpi_landscape.configuration.sections.sources import LossConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.problem.criteria import (
    STEPS,
    OfNetwork,
    OfOutputs,
    OfStep,
    is_criterion,
    outputs_and_targets,
    split_batch,
)
from mpi_landscape.problem.second import SECOND, hinge_by_parts
from mpi_landscape.problem.taken_apart import TakenApart
from mpi_landscape.problem.targets import check_arguments, invoke, resolve
from mpi_landscape.wording import listed, shown, suggestion

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_HALVES = (torch.float16, torch.bfloat16)


def cross_entropy(outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the softmax of the outputs in nats, as torch.nn.CrossEntropyLoss for each example.

    The uniform distribution is mixed into the target with the weight `label_smoothing`, in [0, 1].
    """
    return F.cross_entropy(outputs, targets.long(), reduction="none", label_smoothing=label_smoothing)


def nll(outputs: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood in nats of log-probabilities, as torch.nn.NLLLoss for each example."""
    return F.nll_loss(outputs, targets.long(), reduction="none")


def hinge(outputs: Tensor, targets: Tensor, *, margin: float = 1.0) -> Tensor:
    """Multi-class hinge of scores z, in their units, as torch.nn.MultiMarginLoss for each example, labeled y.

    Source: Weston and Watkins (1999), "Support vector machines for multi-class pattern recognition",
    divided by the number of classes: 1/C · Σ_{j≠y} max(0, margin − z_y + z_j).
    """
    return F.multi_margin_loss(outputs, targets.long(), margin=margin, reduction="none")


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error, as torch.nn.MSELoss for each example: the mean over the outputs of an example.

    Integer targets stand for their one-hot vectors. Outputs with floating-point targets are (N, ...), and
    these of the same shape, where (N,) and (N, 1) are the same. The unit is that of the outputs, squared.
    """
    if targets.dtype in _INTEGERS:
        targets = F.one_hot(targets.long(), outputs.shape[1])
    difference = outputs - targets.to(outputs.dtype).reshape(outputs.shape)
    return difference.square().flatten(1).mean(1) if difference.ndim > 1 else difference.square()


LOSSES: dict[str, Callable[..., Tensor]] = {each.__name__: each for each in (cross_entropy, mse, hinge, nll)}


# Losses that a network brings along.
OF_NETWORKS = (*STEPS, "output")


def build_loss(
    configuration: LossConfiguration,
    *,
    where: str,
    folders: Sequence[Path],
    model: nn.Module | None = None,
    ragged: bool = False,
) -> LossFunction:
    """Find the loss that a configuration names: a function of a network and a batch.

    A name is one of `LOSSES`, or of `OF_NETWORKS`. A target is a function `loss(model, batch, **arguments)`, which
    returns a tensor (N,), a mapping with "loss" (N,) and optionally "correct" and "count" (N,), or a scalar that can be taken
    apart; or a criterion `(outputs, targets)`, such as torch.nn:CrossEntropyLoss, a class that is made with the arguments.
    `where` and `folders` are as in `problem.build.build`.

    Args:
        configuration: What names it.
        where: As above.
        folders: As above.
        model: The network, for losses that it brings along; None to check all else.
        ragged: Whether examples have several sizes.

    Raises:
        LandscapeError: The name is unknown, a target is not found, or the arguments do not fit.
    """
    section = f"{where}: loss"
    arguments, target = dict(configuration.arguments), configuration.target
    if target is not None:
        function = resolve(target, where=f"{section}.target", folders=folders)
        if isinstance(function, type):
            if not issubclass(function, nn.Module):
                raise LandscapeError(
                    f"{section}.target {shown(target)}: is a class; expected a function (model, batch), or a criterion, a "
                    "class of torch.nn.Module whose instances take (outputs, targets)"
                )
            return adapted(invoke(function, arguments, where=section, called=target), ragged=ragged)
        check_arguments(function, arguments, where=section, called=target, given=("model", "batch"))
        # Named after its first parameter, which a partial still has.
        return adapted(functools.partial(function, **arguments) if arguments else function, ragged=ragged)
    name = str(configuration.name)
    if name in OF_NETWORKS:
        per = arguments.pop("per", None)
        if arguments or per not in (None, "element", "sequence"):
            raise LandscapeError(
                f"{section}.arguments: {shown(arguments or per)}; valid is per: element, each of an example's elements "
                "(tokens) counting the same as in training, or per: sequence, each example counting the same"
            )
        if model is None:
            return functools.partial(evaluate, name=name, arguments={})
        return of_network(name, model, where=section, ragged=ragged, per_sequence=per == "sequence")
    if name not in LOSSES:
        raise LandscapeError(
            f"{section}.name is {shown(name)}; valid names are {listed([*LOSSES, *OF_NETWORKS])}"
            f"{suggestion(name, [*LOSSES, *OF_NETWORKS])}; your own is given as target: package.module:function"
        )
    check_arguments(LOSSES[name], arguments, where=section, called=name, given=("outputs", "targets"))
    for argument, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise LandscapeError(f"{section}.arguments.{argument} is {shown(value)}; expected a number")
    return functools.partial(evaluate, name=name, arguments=arguments)


def adapted(loss: Callable[..., Any], *, ragged: bool = False) -> LossFunction:
    """A user's function (model, batch) or criterion (outputs, targets), with a value per example."""
    name = str(getattr(loss, "__name__", None) or getattr(loss, "func", loss).__class__.__name__)
    if not is_criterion(loss):
        return TakenApart(loss, name=name, ragged=ragged)
    if isinstance(loss, nn.Module):
        name = type(loss).__name__
    return TakenApart(OfOutputs(loss), name=name, ragged=ragged)


def of_network(
    name: str, model: nn.Module, *, where: str, ragged: bool = False, per_sequence: bool = False
) -> LossFunction:
    """A loss that a network brings along: a step of a Lightning module, or the `.loss` of its output.

    Raises:
        LandscapeError: The network has no such step.
    """
    kind = type(model)
    if name == "output":
        return TakenApart(
            OfNetwork(kind.forward), name="the network's output", ragged=ragged, per_sequence=per_sequence
        )
    step = getattr(kind, name, None)
    if not callable(step):
        raise LandscapeError(
            f"{where} is {name}, and the network, a {kind.__name__}, has none; valid is a LightningModule that has one"
        )
    return TakenApart(OfStep(step, name), name=name, ragged=ragged, per_sequence=per_sequence)


def evaluate(model: nn.Module, batch: Any, *, name: str, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """Evaluate a named loss, one of `LOSSES`, of a network with outputs (N, C), or (N, C, ...) for cross-entropies.

    Returns:
        "loss" (N,) and, for integer targets, "correct" (N,): whether the largest output is the label's, or the share of the
        labels of an example of which it is.

    Raises:
        LandscapeError: The batch has another form, or outputs and targets do not fit each other.
    """
    outputs, targets = outputs_and_targets(model, batch)
    return of_outputs(outputs, targets, name=name, arguments=arguments, function=LOSSES[name])


def of_outputs(
    outputs: Any,
    targets: Any,
    *,
    name: str,
    arguments: Mapping[str, Any],
    function: Callable[..., Tensor],
) -> dict[str, Tensor]:
    """The same of a network's outputs, and targets, by a function that stands for the name."""
    targets = _checked_targets(targets)
    _check_form(name, outputs, targets, name)
    if outputs.dtype in _HALVES:
        # A sum of exponentials in 8 or 11 bits would be the largest error of all.
        outputs = outputs.float()
    losses = function(outputs, targets, **arguments)
    results = {"loss": losses.flatten(1).mean(1) if losses.ndim > 1 else losses}
    if targets.dtype in _INTEGERS:
        largest, label = outputs.max(dim=1)
        # The largest of outputs with a NaN is that NaN, which answers nothing.
        correct = (label == targets) & ~largest.isnan()
        results["correct"] = correct.float().flatten(1).mean(1) if correct.ndim > 1 else correct
    return results


def _outputs(model: nn.Module, batch: Any) -> Any:
    return outputs_and_targets(model, batch)[0]


def _loss_of_outputs(
    outputs: Any, batch: Any, *, name: str, arguments: Mapping[str, Any]
) -> dict[str, Tensor]:
    function = hinge_by_parts if name == "hinge" else LOSSES[name]
    return of_outputs(outputs, split_batch(batch)[2], name=name, arguments=arguments, function=function)


def _second_of_outputs(outputs: Tensor, _: Any, vector: Tensor, *, name: str) -> Tensor:
    return SECOND[name](outputs, vector)


# A named loss in two steps, see `loading.parted`.
vars(evaluate).update(
    outputs=_outputs, loss_of_outputs=_loss_of_outputs, second_of_outputs=_second_of_outputs
)


def _checked_targets(targets: Any) -> Tensor:
    if not isinstance(targets, Tensor):
        raise LandscapeError(
            f"data: the targets of a batch are a {type(targets).__name__}; expected a tensor"
        )
    return targets


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
    targets = _checked_targets(targets)
    _check_form(name, outputs, targets, where)
    if targets.dtype not in _INTEGERS:
        return
    num_classes = outputs.shape[1]
    bad = ((targets < 0) | (targets >= num_classes)).nonzero()
    if len(bad):
        index = int(bad[0, 0])
        raise LandscapeError(
            f"{where}: the label at index {index} is {int(targets[tuple(bad[0])])}; the network has {num_classes} "
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
        # A segmentation has a label at every place.
        dense = name in ("cross_entropy", "nll") and outputs.ndim > 2
        fits = targets.dtype in _INTEGERS and (outputs.ndim == 2 or dense)
        fits = fits and targets.shape == outputs.shape[:1] + outputs.shape[2:]
        needed = "outputs (N, C) and integer targets (N,)"
        if name in ("cross_entropy", "nll"):
            needed += ", or outputs (N, C, ...) and integer targets (N, ...)"
    if not fits:
        raise LandscapeError(
            f"{where}: outputs have shape {tuple(outputs.shape)}, targets {tuple(targets.shape)} of "
            f"{str(targets.dtype).removeprefix('torch.')}; {name} expects {needed}"
        )
