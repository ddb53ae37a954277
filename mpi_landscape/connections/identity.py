"""What defines a path, and what defines the losses along it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from mpi_landscape.configuration.sections.connect import DEFAULTS, ConnectConfiguration
from mpi_landscape.connections.request import Request
from mpi_landscape.placement.placing import Placed
from mpi_landscape.storage.identity import fingerprint


def of_path(request: Request, placed: Placed) -> dict[str, str]:
    """By name, in the order in which differences are told: what a search is of, and how it is made."""
    problem, settings, threads = placed.problem, request.settings, request.compute.threads
    # Those of an operation are a part of its bits; of a straight line nothing is sought.
    split = settings.method != "line" and threads not in ("auto", 1)
    return {
        "start": fingerprint_of(dict(problem.model.state_dict())),
        "end": fingerprint_of(request.end),
        "method": settings.method,
        "align": settings.align,
        **{name: _text(getattr(settings, name)) for name in DEFAULTS[settings.method]},
        **{f"data_{split}": examples.identity for split, examples in placed.splits.items()},
        "precision": request.compute.precision,
        **({"threads": str(threads)} if split else {}),
        "loss": problem.loss_text,
    }


def of_losses(path: Mapping[str, str], settings: ConnectConfiguration, batch_norm: str) -> dict[str, str]:
    """The same with what the losses along the path are."""
    return {**path, "num_points": str(settings.num_points), "batch_norm": batch_norm}


def fingerprint_of(state: Mapping[str, Any]) -> str:
    """Of the tensors of a state, whatever their order."""
    return fingerprint(*(_bytes_of(each) for _, each in sorted(state.items()) if isinstance(each, Tensor)))


def _bytes_of(tensor: Tensor) -> Any:
    # numpy has no bfloat16.
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _text(value: Any) -> str:
    """A value of a section in a few words."""
    if isinstance(value, tuple):
        return " + ".join(map(_text, value))
    if hasattr(value, "__dataclass_fields__"):
        return ", ".join(f"{each.name} {getattr(value, each.name)}" for each in fields(value))
    return str(value)
