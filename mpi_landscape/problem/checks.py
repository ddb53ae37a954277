"""What can be refused by looking at two examples, before the passes over all of them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.build import Problem
from mpi_landscape.problem.losses import check_targets, loss_name, split_batch
from mpi_landscape.problem.messages import listed, reason


def check_problem(problem: Problem, *, where: str) -> None:
    """Evaluate the loss of up to two examples of each split, to refuse early what does not fit together.

    Args:
        problem: Left as it is; evaluated on the device of the network's first parameter.
        where: The configuration's file, for messages.

    Raises:
        LandscapeError: If the examples cannot be put into a batch or change from one reading to the next,
            the network or the loss raises, a label has no output, or the loss is not one value per example.
    """
    device = next((parameter.device for parameter in problem.model.parameters()), torch.device("cpu"))
    for name, split in problem.splits.items():
        subject = f"{where}: split {name}"
        num_examples = min(2, len(split))  # type: ignore[arg-type]  # Dataset itself has no length
        batch = _batch(split, num_examples, subject)
        if not _same(batch, _batch(split, num_examples, subject)):
            raise LandscapeError(
                f"{subject}: an example changes from one reading to the next, and the loss with it; "
                "leave random transformations out"
            )
        check_result(_result(problem, _moved(batch, device), subject), num_examples, where=subject)


def check_result(result: Any, num_examples: int, *, where: str) -> None:
    """Refuse what a loss must not return.

    Args:
        result: What it returned.
        num_examples: N, the number of examples in the batch.
        where: The split or the loss, for messages.

    Raises:
        LandscapeError: If it is neither a floating-point tensor (N,) nor a mapping with such a "loss" and at
            most a "correct" (N,) besides.
    """
    values = result if isinstance(result, Mapping) else {"loss": result}
    if "loss" not in values or not values.keys() <= {"loss", "correct"}:
        raise LandscapeError(
            f"{where}: the loss returned the keys {listed(values)}; expected loss and, where known, correct"
        )
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.shape != (num_examples,):
            raise LandscapeError(
                f"{where}: the loss returned {_form(value)} as {name} of {num_examples} examples; "
                "expected one value per example, shape (N,) (in PyTorch: reduction='none')"
            )
    if not values["loss"].is_floating_point():
        raise LandscapeError(
            f"{where}: the loss returned values of {values['loss'].dtype}; expected floating point"
        )


def _batch(split: Dataset[Any], num_examples: int, subject: str) -> Any:
    try:
        return default_collate([split[index] for index in range(num_examples)])
    except Exception as error:  # A user's data set may raise anything.
        raise LandscapeError(f"{subject}: its examples do not make a batch ({reason(error)})") from error


def _result(problem: Problem, batch: Any, subject: str) -> Any:
    name = loss_name(problem.loss)
    try:
        with torch.no_grad():
            if name is not None:
                inputs, targets = split_batch(batch)
                check_targets(name, problem.model(inputs), targets, where=subject)
            return problem.loss(problem.model, batch)
    except LandscapeError as error:
        text = str(error)
        raise LandscapeError(text if text.startswith(subject) else f"{subject}: {text}") from error
    except Exception as error:  # So may a network or a loss.
        inputs = batch.get("input") if isinstance(batch, Mapping) else batch[0] if len(batch) else batch
        raise LandscapeError(
            f"{subject}: the network or the loss raised {reason(error)}; the inputs are {_form(inputs)} "
            "(named networks take the argument input_size: [channels, height, width])"
        ) from error


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return [_moved(value, device) for value in batch]
    return batch


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
