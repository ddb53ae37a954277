"""Whether a loss can be differentiated twice: tried on a batch before any work, with the operation named that cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.evaluation.curvature.choosing import fewer
from mpi_landscape.evaluation.curvature.graphs import graph_bytes
from mpi_landscape.evaluation.curvature.operators import OfBatch
from mpi_landscape.evaluation.curvature.parts import check_parts
from mpi_landscape.evaluation.curvature.preparing import differentiable, plain_kernels, retie
from mpi_landscape.evaluation.curvature.replica import Replica
from mpi_landscape.evaluation.curvature.replicas import OPERATORS
from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.evaluation.curvature.symmetry import check_symmetric
from mpi_landscape.evaluation.curvature.way import PLAIN
from mpi_landscape.evaluation.lending import in_evaluation, kept_as_it_is, moved_to, tensors_of
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.wording import listed, one_line

# Operations that are smooth in pieces only, as torch calls them.
_PIECEWISE = {
    "ReluBackward": "relu",
    "ThresholdBackward": "relu",
    "LeakyReluBackward": "leaky_relu",
    "PreluKernelBackward": "prelu",
    "HardtanhBackward": "hardtanh",
    "HardswishBackward": "hardswish",
    "HardsigmoidBackward": "hardsigmoid",
    "EluBackward": "elu",
    "MaxPool": "max_pool",
    "AdaptiveMaxPool": "max_pool",
    "AbsBackward": "abs",
    "SgnBackward": "abs",
    "ClampBackward": "clamp",
    "ClampMinBackward": "clamp",
    "ClampMaxBackward": "clamp",
    "MaximumBackward": "maximum",
    "MinimumBackward": "minimum",
    "MaxBackward": "max",
    "SmoothL1LossBackward": "smooth_l1_loss",
    "HuberLossBackward": "huber_loss",
}
# Examples by which symmetry is seen.
_TRIED = 16
_MISSING = re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented")
# What marks a function: the code that stands in the place of its backward.
_ONCE = once_differentiable(lambda *_: None).__code__
_KNOWN = {
    "multi_margin_loss_backward": "multi_margin_loss, which has kinks,",
    "_embedding_bag_backward": "EmbeddingBag",
    "_embedding_bag_dense_backward": "EmbeddingBag",
}


def check_twice_differentiable(
    model: nn.Module,
    loss: LossFunction,
    batch: Batch,
    space: Space,
    *,
    operator: str = "hessian",
    where: str = "hessian",
) -> tuple[str, ...]:
    """Try one batch, so that a loss without second derivatives shows before the work begins.

    Args:
        model: The network, where the batch is; afterwards it is as it was.
        loss: Called as `loss(model, batch)`.
        batch: Some examples.
        space: Which parameters count.
        operator: As for `Products`.
        where: For messages.

    Returns:
        Names of operations that are smooth in pieces only, such as relu: what is computed is the curvature within a piece.

    Raises:
        LandscapeError: An operation has no second derivative, or one that is not symmetric; the loss has no gradient, or a kink
            exactly at the data.
    """
    with _prepared(model, loss, batch, space) as (replica, data):
        function = replica.function(data)
        pieces = _kinks(model, function, where)
        try:
            if operator != "hessian":
                check_parts(operator, function)
            recorded = OPERATORS[operator](function)
            first = function.parameters[0]
            dtype = torch.float64 if first.dtype in (torch.float64, torch.complex128) else torch.float32
            replica.products(recorded, torch.ones(1, space.size, dtype=dtype, device=first.device))
            few = fewer(data, _TRIED, replica)
            mean = float(recorded.total) / (recorded.count or 1.0)
            check_symmetric(model, replica, few, space, OPERATORS[operator], mean=mean, where=where)
        except LandscapeError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise _refusal(error, where) from error
    return pieces


def bytes_of_example(
    model: nn.Module, loss: LossFunction, batch: Batch, space: Space, *, operator: str = "hessian"
) -> int:
    """Memory that an example takes in the graph of a batch, of the network itself; folding halves it at best.

    Args:
        model: As for `check_twice_differentiable`, as all that is not told here.
        loss: As there.
        batch: At least two examples, of which the second is weighed.
        space: As there.
        operator: As there.
    """
    with _prepared(model, loss, batch, space) as (replica, data):

        def taken(number: int) -> int:
            few = Batch(data=nests.rows(data.data, 0, number), valid=number)
            besides = [*tensors_of(model).values(), *(each for _, each in nests.tensors(data.data))]
            return graph_bytes(lambda: OPERATORS[operator](replica.function(few)), besides)

        return max(1, taken(2) - taken(1))


@contextmanager
def _prepared(
    model: nn.Module, loss: LossFunction, batch: Batch, space: Space
) -> Iterator[tuple[Replica, Batch]]:
    """The network itself, ready for second derivatives, and the batch in its type."""
    with ExitStack() as lent:
        lent.enter_context(in_evaluation(model))
        device, dtype = _kind_of(model, batch)
        lent.enter_context(moved_to(model, device, dtype))
        retie(model, space.layout)
        lent.enter_context(kept_as_it_is(model))
        lent.enter_context(differentiable(model, space))
        lent.enter_context(plain_kernels(model)())
        data = nests.in_precision(batch.data, dtype)
        yield Replica(model, loss, space, PLAIN), Batch(data=data, valid=batch.valid)


def _kind_of(model: nn.Module, batch: Batch) -> tuple[torch.device, torch.dtype]:
    """Where and in which type to try it."""
    parameter = next(model.parameters())
    types = [each.dtype for _, each in nests.tensors(batch.data) if each.is_floating_point()]
    wide = torch.float64 in (types or [parameter.dtype])
    place = next((each.device for _, each in nests.tensors(batch.data)), parameter.device)
    return place, torch.float64 if wide else torch.float32


def _kinks(model: nn.Module, function: OfBatch, where: str) -> tuple[str, ...]:
    """What is smooth in pieces only; refuses a loss without a gradient, and one that is exactly at a kink."""
    outputs: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        nest = [output] if isinstance(output, Tensor) else output
        outputs.extend(each for _, each in nests.tensors(nest) if each.grad_fn is not None)

    hook = model.register_forward_hook(note)
    try:
        total, _ = function.total()
        found = (
            torch.autograd.grad(total, function.parameters, allow_unused=True, retain_graph=True)
            if total.requires_grad
            else [None]
        )
    except LandscapeError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _refusal(error, where, "gradient") from error
    finally:
        hook.remove()
    if all(each is None for each in found):
        raise LandscapeError(
            f"{where}: the loss has no gradient with respect to the parameters that count; leave out of the network and the loss "
            f"what cuts it off (detach(), .data, argmax and other counts, torch.no_grad())"
        )
    network = {each.grad_fn for each in outputs}
    for node in _nodes(total.grad_fn, network):
        zeros = _zeros(node)
        if zeros:
            raise LandscapeError(
                f"{where}: the loss has a kink at the data: {zeros} of its absolute values are of exactly 0, where there is no "
                f"curvature; valid is a loss that is smooth there, such as mse or smooth_l1_loss"
            )
    nodes = list(_nodes(total.grad_fn, set()))
    for node in nodes:
        _check_function(node, where)
    names = {
        words for node in nodes for prefix, words in _PIECEWISE.items() if node.name().startswith(prefix)
    }
    return tuple(sorted(names))


def _check_function(node: Any, where: str) -> None:
    """Refuse a user's function that may be differentiated once: torch says so only where its gradient depends on more."""
    backward = getattr(getattr(type(node), "_forward_cls", None), "backward", None)
    code = getattr(backward, "__code__", None)
    if code is not None and code.co_filename == _ONCE.co_filename and code.co_name == _ONCE.co_name:
        raise LandscapeError(
            f"{where}: {type(node)._forward_cls.__name__}, a torch.autograd.Function marked as once_differentiable, has no "
            f"second derivative; valid is a backward made of torch's operations, without that mark"
        )


def _zeros(node: Any) -> int:
    """How many absolute values are of exactly zero."""
    saved = getattr(node, "_saved_self", None) if node.name().startswith("AbsBackward") else None
    return int((saved == 0).sum()) if isinstance(saved, Tensor) else 0


def _nodes(root: Any, ends: set[Any]) -> Iterator[Any]:
    """The operations that lead to one, it among them, up to others."""
    seen, left = {root}, [root]
    while left:
        node = left.pop()
        if node in ends:
            continue
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                left.append(following)


def _refusal(error: Exception, where: str, what: str = "second derivative") -> LandscapeError:
    text = one_line(error)
    missing = _MISSING.search(text)
    if missing is not None:
        name = missing.group(1)
        return LandscapeError(
            f"{where}: {_KNOWN.get(name, name.removesuffix('_backward').strip('_'))} has no second derivative in torch; valid is "
            f"a network and a loss of operations that have one, such as {listed(['cross_entropy', 'mse'])}"
        )
    return LandscapeError(
        f"{where}: the {what} of the loss raised {type(error).__name__}: {one_line(error, 160)}; valid is a network and a loss "
        f"that torch can differentiate twice in evaluation mode"
    )
