"""A network's parameters and buffers at one moment, copied to the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import shown

# Fewer bits in which to keep floating-point numbers.
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_COMPILED = "_orig_mod"
_FULL_STATE = (
    "gather all of it on every rank, torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
    "options=StateDictOptions(full_state_dict=True, cpu_offload=True)), and give that to the recorder in place of the network"
)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What is kept of an epoch.

    Attributes:
        state: Tensors by name, on the CPU and in memory of their own; two names of one tensor share it.
        parameters: Names of those that are parameters, each memory once.
    """

    state: Mapping[str, Tensor]
    parameters: tuple[str, ...]

    @property
    def weight_norm(self) -> float:
        """The Euclidean norm of the parameters that are kept, in float64; NaN where it is not known which they are."""
        squares = [float(torch.linalg.vector_norm(self.state[name], dtype=_norm_type(self.state[name]))) ** 2
                   for name in self.parameters]  # fmt: skip
        return sum(squares) ** 0.5 if squares else float("nan")


def _norm_type(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64


def snapshot(
    model: nn.Module | Mapping[str, Any], *, dtype: torch.dtype | None = None, trainable_only: bool = False
) -> Snapshot:
    """Copy a network, which may be trained on as soon as this returns.

    The names are those of the network without DataParallel, DistributedDataParallel and torch.compile around it.

    Args:
        model: The network; or tensors by name, such as a state dictionary that was gathered.
        dtype: For floating-point tensors with more bits; None for their own.
        trainable_only: Leave parameters out that no training moves; buffers stay.

    Raises:
        LandscapeError: No rank has all of the network, or a number is beyond the type.

    Example:
        >>> layer = torch.compile(nn.Linear(2, 1))
        >>> sorted(snapshot(layer).state)
        ['bias', 'weight']
    """
    if isinstance(model, Mapping):
        if trainable_only:
            raise LandscapeError(
                "recorder: trainable_only needs the network, and was given a state dictionary"
            )
        state, parameters, frozen = dict(model), {}, set[str]()
    elif isinstance(model, nn.Module):
        _check_whole(model)
        model = unwrapped(model)
        state = model.state_dict()
        parameters = {_clean(name): value for name, value in model.named_parameters(remove_duplicate=False)}
        frozen = {name for name, value in parameters.items() if trainable_only and not value.requires_grad}
    else:
        raise LandscapeError(
            f"recorder: got a {type(model).__name__}; expected the network, or its state dictionary"
        )
    found: dict[str, Tensor] = {}
    copies: dict[tuple[Any, ...], tuple[str, Tensor]] = {}
    first: list[str] = []
    for given, value in state.items():
        name = _clean(str(given))
        # What a module keeps besides tensors (extra state) may be anything, also code.
        if not isinstance(value, Tensor) or name in frozen:
            continue
        _check_here(name, value)
        key = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        if value.numel() and key in copies:
            found[name] = copies[key][1]
            continue
        found[name] = _copied(name, value, dtype)
        copies[key] = (name, found[name])
        if name in parameters:
            first.append(name)
    return Snapshot(state=found, parameters=tuple(first))


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> unwrapped(nn.DataParallel(torch.compile(layer))) is layer
        True
    """
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, _COMPILED, None), nn.Module):
            model = getattr(model, _COMPILED)
        else:
            return model


def _clean(name: str) -> str:
    # Parts of a network may be compiled, too.
    return name.replace(f"{_COMPILED}.", "")


def _check_whole(model: nn.Module) -> None:
    """Refuse a network of which this process has a part; by names, as these parts of torch take seconds to import."""
    sharded = any(type(each).__name__ == "FullyShardedDataParallel" for each in model.modules())
    for name, value in model.named_parameters():
        if sharded or hasattr(value, "device_mesh") or hasattr(value, "ds_id"):
            by = (
                "DeepSpeed"
                if hasattr(value, "ds_id")
                else "FSDP"
                if sharded
                else "FSDP or tensor parallelism"
            )
            raise LandscapeError(
                f"recorder: {_clean(name)} is sharded by {by}, so no rank has all of it; {_FULL_STATE}"
            )


def _check_here(name: str, value: Tensor) -> None:
    if hasattr(value, "device_mesh"):
        raise LandscapeError(f"recorder: {name} is sharded, so no rank has all of it; {_FULL_STATE}")
    if value.is_meta:
        raise LandscapeError(f"recorder: {name} is on the meta device and has no values")


def _copied(name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = value.detach()
    if dtype is None or not value.is_floating_point() or value.element_size() <= dtype.itemsize:
        return value.to("cpu", copy=True).contiguous()
    copy = value.to(dtype).to("cpu").contiguous()
    if bool((copy.isinf() & ~value.isinf().cpu()).any()):
        most = float(value[value.isfinite()].abs().max())
        raise LandscapeError(
            f"recorder: {name} has a number of size {most:g}, beyond {shown(str(dtype).removeprefix('torch.'))}; valid is "
            f"dtype bfloat16, or None"
        )
    return copy
