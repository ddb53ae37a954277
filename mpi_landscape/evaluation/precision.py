"""Floating-point formats of an evaluation, and what a device can do with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import tf32

# Name to the type that `Evaluator` takes.
COMPUTED = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def data_type(precision: str) -> torch.dtype:
    """The type of the data, of the vectors, and of the plain network that the engine is compared with."""
    return torch.float64 if precision == "float64" else torch.float32


def is_approximate(precision: str) -> bool:
    """Whether its error is measured and kept in the file."""
    return precision in ("tf32", "bfloat16")


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a format that a device cannot do.

    Raises:
        LandscapeError: It cannot, or only by emulation.
    """
    if precision == "tf32" and not (
        device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    ):
        raise LandscapeError(
            f"compute.precision: tf32 needs an NVIDIA GPU of the year 2020 or later, not {device}; "
            f"valid here are float32, float64{', bfloat16' if _has_bfloat16(device) else ''}"
        )
    if precision == "bfloat16" and not _has_bfloat16(device):
        raise LandscapeError(
            f"compute.precision: bfloat16 is not supported by {device}; valid here are float32 and float64"
        )


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.backends.mkldnn.is_available()) and bool(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """What torch must be told for a format, within `exact_arithmetic`; nothing for all but tf32."""
    if precision != "tf32":
        yield
        return
    with tf32():
        yield
