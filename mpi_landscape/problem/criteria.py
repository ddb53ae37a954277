"""Losses as users have them: criteria of outputs and targets, steps of Lightning modules, networks that give their own loss."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.parted import Parted
from mpi_landscape.loading.results import Adapted
from mpi_landscape.wording import listed

# What a batch in a mapping calls its targets, in the order in which they are looked for.
TARGETS = ("target", "targets", "label", "labels", "y")
STEPS = ("training_step", "validation_step")
# First parameters of functions that take a network, and of those that take what a network gives.
_NETWORKS = ("model", "net", "network", "module")
_OUTPUTS = (
    *("input", "inputs", "output", "outputs", "pred", "preds", "prediction", "predictions", "logits"),
    *("y_pred", "y_hat", "yhat", "scores"),
)


class OfOutputs(Adapted):
    """A criterion `(outputs, targets)` as a loss `(model, batch)`.

    Args:
        function: The criterion; a module's tensors go where the outputs are.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._placed: dict[tuple[torch.device, torch.dtype], Any] = {}

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """What the criterion gives of the network's outputs."""
        outputs = self._outputs(model, batch)
        return self._on(outputs)(outputs, split_batch(batch)[2])

    def _outputs(self, model: nn.Module, batch: Any) -> Any:
        outputs, _ = outputs_and_targets(model, batch)
        if isinstance(outputs, list | tuple | Mapping):
            raise LandscapeError(
                f"loss: the network returned a {type(outputs).__name__}, and a criterion takes its outputs; valid is a function "
                f"(model, batch) that picks them, such as lambda model, batch: criterion(model(batch[0])[0], batch[1])"
            )
        return outputs

    def parted(self) -> Parted:
        """The same in two steps: the network's outputs, and the criterion of them and the targets."""

        def loss_of_outputs(outputs: Any, batch: Any) -> Any:
            # Outputs of a finer type than the data's; criteria such as binary cross-entropy take no mixture.
            targets = _of_type(split_batch(batch)[2], outputs)
            return self._on(outputs)(outputs, targets)

        return Parted(outputs=self._outputs, loss_of_outputs=loss_of_outputs)

    def _on(self, outputs: Any) -> Callable[..., Any]:
        if not isinstance(self.function, nn.Module) or not isinstance(outputs, Tensor):
            return self.function
        tensors = [*self.function.parameters(), *self.function.buffers()]
        kind = outputs.device, outputs.dtype
        if all((each.device, each.dtype) == kind or not each.is_floating_point() for each in tensors):
            return self.function
        if kind not in self._placed:
            self._placed[kind] = copy.deepcopy(self.function).to(*kind)
        placed: Callable[..., Any] = self._placed[kind]
        return placed


class OfStep(Adapted):
    """A step of a Lightning module as a loss; what it logs goes nowhere.

    Args:
        function: The method on the class, which tells one code from another.
        name: Its name; the network's own is called.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self._name = function, name
        self._takes_index = len(inspect.signature(function).parameters) > 2

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """What the step returns, or, of one that returns nothing, what it logs under a name with `loss`."""
        with _logged(model) as values:
            method = getattr(model, self._name)
            result = method(batch, 0) if self._takes_index else method(batch)
        if result is not None:
            return result
        found = {name: value for name, value in values.items() if "loss" in name.lower()}
        if len(found) != 1:
            raise LandscapeError(
                f"loss: {self._name} returned nothing and logged {listed(found or values) if values else 'nothing'}; valid is "
                f"a step that returns its loss, or logs one value under a name with loss"
            )
        return next(iter(found.values()))


class OfNetwork(Adapted):
    """The `.loss` that a network gives of a batch with labels, as those of Hugging Face do."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """The network's own loss."""
        if not isinstance(batch, Mapping):
            raise LandscapeError(
                f"loss: output calls the network with the names of a batch, and a batch is a {type(batch).__name__}; valid "
                f"is a mapping such as input_ids, attention_mask, labels"
            )
        result = model(**batch)
        found = result.get("loss") if isinstance(result, Mapping) else getattr(result, "loss", None)
        if found is None:
            raise LandscapeError(
                f"loss: the network's output has no loss for a batch with {listed(batch)}; a network of Hugging Face gives one "
                f"where the batch has labels (of a causal one: its input_ids, -100 where nothing is to be learned)"
            )
        return found


@contextmanager
def _logged(model: nn.Module) -> Iterator[dict[str, Any]]:
    """What a module logs meanwhile, by name: without a trainer there is nowhere else to go."""
    values: dict[str, Any] = {}

    def log(name: str, value: Any, *_: Any, **__: Any) -> None:
        values[name] = value

    def log_dict(named: Mapping[str, Any], *_: Any, **__: Any) -> None:
        values.update(named)

    own: dict[str, Any] = vars(model)
    before: dict[str, Any] = {name: own[name] for name in ("log", "log_dict") if name in own}
    own["log"], own["log_dict"] = log, log_dict
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield values
    finally:
        for name in ("log", "log_dict"):
            own.pop(name, None)
        own.update(before)


def _of_type(targets: Any, outputs: Any) -> Any:
    """Floating-point targets in the type of the outputs."""
    if not isinstance(targets, Tensor) or not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        return targets
    return targets.to(outputs.dtype) if targets.is_floating_point() else targets


def is_criterion(loss: Any) -> bool:
    """Whether a callable takes outputs and targets, and not a network and a batch, as its first parameter is called."""
    called = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        first = next(iter(inspect.signature(called).parameters), "")
    except (TypeError, ValueError):
        return isinstance(loss, nn.Module)
    if isinstance(loss, nn.Module):
        return first not in _NETWORKS
    return first in _OUTPUTS


def outputs_and_targets(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """A network's outputs of a batch, and its targets: the last of a tuple, or a mapping's `TARGETS`.

    The rest of the batch goes into the network: as it is, as several arguments, or by its names. Of an output with `logits`
    these count.

    Raises:
        LandscapeError: The batch has another form.
    """
    arguments, names, targets = split_batch(batch)
    outputs = model(*arguments, **names)
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    return outputs if logits is None else logits, targets


def split_batch(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """What of a batch goes into the network, by place and by name, and its targets.

    Raises:
        LandscapeError: The batch is neither a tuple of inputs and a target nor a mapping with a target.
    """
    if isinstance(batch, Mapping):
        target = next((name for name in TARGETS if name in batch), None)
        rest = {name: value for name, value in batch.items() if name != target}
        if target is not None and rest:
            if len(rest) == 1:
                return tuple(rest.values()), {}, batch[target]
            return (), rest, batch[target]
    elif isinstance(batch, list | tuple) and len(batch) >= 2:
        return tuple(batch[:-1]), {}, batch[-1]
    keys = f" with the keys {listed(batch)}" if isinstance(batch, Mapping) else ""
    raise LandscapeError(
        f"data: a batch is a {type(batch).__name__}{keys}; a named loss or a criterion expects (inputs, targets), several "
        f"inputs before the targets, or a mapping with one of {listed(TARGETS)} and inputs"
    )
