"""A state dictionary in a network: all of it or nothing, with what is to be said of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.weights import names
from mpi_landscape.wording import listed, reason, shortened

_MOST_NAMED = 3
# What libraries keep beside, or in place of, the weights that they pack into fewer bits.
_QUANTIZED = re.compile(
    r".*[.](qweight|qzeros|g_idx|absmax|quant_map|nested_absmax|SCB|weight_format|weight_scale(_inv)?|input_scale|"
    r"quant_state[.].*|weight_packed|_packed_params.*)"
)
_HINTS = (
    (
        _QUANTIZED,
        "it holds quantized weights (bitsandbytes, GPTQ, AWQ and the like); load it with the library that made it, and save "
        "what model.dequantize() gives, or take the checkpoint from before",
    ),
    (
        re.compile(r".*[.]lora_([AB]|embedding_[AB])[.].*"),
        "it holds an adapter (LoRA), whose place is in a network of PEFT; merge it into its base first: "
        "model.merge_and_unload().save_pretrained(folder)",
    ),
    (
        re.compile(r"(.*[.])?_?flat_param(_\d+)?"),
        "it holds the flat parameters of FSDP; save its full state dictionary "
        "(StateDictType.FULL_STATE_DICT, or get_model_state_dict with full_state_dict=True)",
    ),
)


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> list[str]:
    """Copy a state dictionary into a network, all of it or, if anything differs, nothing.

    Names are found as by `fitted`.

    Returns:
        Lines for people: what happened to the types.

    Raises:
        LandscapeError: As `fitted`, or the network refuses it.
    """
    aligned = fitted(model, state, where=where)
    own = model.state_dict()
    lines = _types(aligned, {name: value for name, value in own.items() if isinstance(value, Tensor)})
    try:
        model.load_state_dict({**own, **aligned})
    except Exception as error:  # A user's network may load its state in its own way.
        raise LandscapeError(f"{where}: the network refuses it ({reason(error)})") from error
    return lines


def fitted(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> dict[str, Tensor]:
    """The tensors of a state dictionary under the names of a network that they fit; their values stay where they are.

    Wrappers (DataParallel, torch.compile, FSDP, activation checkpointing) change no names, wherever in the network they sit.
    If one prefix in front of every name of the network is what the state has (as Lightning writes them:
    `model.conv1.weight`), what follows it is taken, and what has another prefix is left. Of names that are one tensor in the
    network one is enough. The counters `num_batches_tracked`, which no evaluation reads, may be missing.

    Raises:
        LandscapeError: A tensor is missing, left over, of another shape, or complex or of floating point where the network's
            is not, or two differ that are one in the network; names the first three.
    """
    # Extra state is not tensors, and is not read; see read_state.
    expected = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    twins = _twins(expected)
    aligned = names.aligned(state, needed, list(expected), twins, where=where)
    aligned = {name: value for name, value in aligned.items() if not _is_left(name, expected, model)}
    _share(aligned, twins, where)
    misfits = _misfits(aligned, expected, needed, model)
    if misfits:
        more = f"; … and {len(misfits) - _MOST_NAMED} more" if len(misfits) > _MOST_NAMED else ""
        hint = next((text for pattern, text in _HINTS if any(map(pattern.fullmatch, state))), None)
        raise LandscapeError(
            f"{where}: does not fit the network: {'; '.join(misfits[:_MOST_NAMED])}{more}; "
            f"{hint or 'expected the checkpoint of the same architecture'}"
        )
    return aligned


def _twins(expected: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of tensors that are one memory, each with the first of them."""
    first: dict[tuple[int, torch.Size], list[str]] = {}
    for name, tensor in expected.items():
        if not is_lazy(tensor) and tensor.numel() and not tensor.is_meta:
            first.setdefault((tensor.data_ptr(), tensor.shape), []).append(name)
    return {name: group[0] for group in first.values() if len(group) > 1 for name in group}


def _share(aligned: dict[str, Tensor], twins: Mapping[str, str], where: str) -> None:
    """Give every name of one memory the same values, in place."""
    groups: dict[str, list[str]] = {}
    for name, first in twins.items():
        groups.setdefault(first, []).append(name)
    for group in groups.values():
        there = [name for name in group if name in aligned]
        for name in there[1:]:
            if not _are_one(aligned[name], aligned[there[0]]):
                raise LandscapeError(
                    f"{where}: {name} differs from {there[0]}, which is the same tensor in the network; "
                    f"expected the checkpoint of the same architecture"
                )
        for name in group:
            if there and name not in aligned:
                aligned[name] = aligned[there[0]]


def _are_one(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same values, or other shapes, of which something else is said."""
    if one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride():
        return True
    return one.shape != other.shape or torch.equal(one, other.to(one.dtype))


def _is_left(name: str, expected: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Whether a name is no misfit though the network has it not."""
    if name in expected:
        return False
    # transformers' networks say so of what earlier versions wrote, such as the masks of GPT-2.
    said = getattr(model, "_keys_to_ignore_on_load_unexpected", None)
    patterns = (
        [each for each in said if isinstance(each, str)] if isinstance(said, (list, tuple, set)) else []
    )
    return name == names.COUNTER or any(re.search(each, name) for each in patterns)


def _misfits(
    aligned: Mapping[str, Tensor], expected: Mapping[str, Tensor], needed: list[str], model: nn.Module
) -> list[str]:
    shared = [(name, value, expected[name]) for name, value in aligned.items() if name in expected]
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    misfits = [f"{name} is missing" for name in needed if name not in aligned]
    misfits += [f"{shortened(name, 80)} is not in the network" for name in aligned if name not in expected]
    misfits += [
        f"{name} has shape {tuple(value.shape)}, the network's {tuple(own.shape)}"
        for name, value, own in shared
        if not is_lazy(own) and value.shape != own.shape
    ]
    misfits += [
        f"{name} is complex, the network's real"
        for name, value, own in shared
        if value.is_complex() and not own.is_complex()
    ]
    misfits += [
        f"{name} is of whole numbers ({value.dtype}), as quantized weights are, the network's {own.dtype}"
        for name, value, own in shared
        if name in parameters
        and (own.is_floating_point() or own.is_complex())
        and not (value.is_floating_point() or value.is_complex())
    ]
    return misfits


def _types(aligned: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What becomes of floating-point numbers of another type: all values are kept, or digits are lost."""
    kept: dict[tuple[str, str], int] = {}
    rounded: dict[tuple[str, str], list[str]] = {}
    for name, value in aligned.items():
        own = expected[name]
        if value.dtype == own.dtype or not value.is_floating_point() or not own.is_floating_point():
            continue
        kinds = (str(value.dtype).removeprefix("torch."), str(own.dtype).removeprefix("torch."))
        if _is_exact(value, own.dtype):
            kept[kinds] = kept.get(kinds, 0) + 1
        else:
            rounded.setdefault(kinds, []).append(name)
    lines = [f"{count} tensors of {kind} are taken exactly, as {own}" for (kind, own), count in kept.items()]
    return lines + [
        f"{len(found)} tensors of {kind} lose digits as {own}: {listed(found[:_MOST_NAMED])}"
        for (kind, own), found in rounded.items()
    ]


def _is_exact(value: Tensor, kind: torch.dtype) -> bool:
    """Whether no number of a tensor changes in another type."""
    if value.dtype.itemsize < 4 and kind in (torch.float32, torch.float64):
        return True
    wide = value.double()
    return bool(((wide.to(kind).double() == wide) | wide.isnan()).all())
