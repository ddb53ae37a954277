"""Floating-point formats of an evaluation, and what a device can do with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import tf32

# Of losses in 16 bits: bfloat16 has 8 of them for the digits, and another kernel adds in another order.
_SHORT = 0.02


@dataclass(frozen=True, kw_only=True)
class Precision:
    """A format in which the network is computed.

    Attributes:
        name: What it is called in a configuration and in a file.
        data: Type of the data, of the vectors, and of the plain network that the engine is compared with.
        computed: The type that `Evaluator` takes.
        approximate: Whether its error is measured and kept in the file.
        computing: Makes the context of a computation in it, within `exact_arithmetic`.
        network: Type of the network itself; None where every tensor keeps its own.
        rounding: By how much a loss on another kind of processor may differ, relative.
    """

    name: str
    data: torch.dtype = torch.float32
    computed: torch.dtype = torch.float32
    approximate: bool = False
    computing: Callable[[], AbstractContextManager[None]] = nullcontext
    network: torch.dtype | None = torch.float32
    rounding: float = 1e-4

    @property
    def kept(self) -> bool:
        """Whether every tensor keeps its own type, and the network itself is moved."""
        return self.network is None

    @property
    def finer(self) -> torch.dtype | None:
        """The type that tells rounding from a mistake: of more bits; None where there is none."""
        if self.data == torch.float64:
            return None
        return torch.float64 if self.data.itemsize == 4 else torch.float32

    def of(self, network: nn.Module) -> Precision:
        """The same for a network: where its tensors keep their types, the data have that of most of its numbers."""
        if not self.kept:
            return self
        counts: dict[torch.dtype, int] = {}
        for each in network.parameters():
            if each.is_floating_point():
                counts[each.dtype] = counts.get(each.dtype, 0) + each.numel()
        most = max(counts, key=lambda kind: counts[kind], default=torch.float32)
        return replace(
            self, data=most, computed=most, rounding=_SHORT if most.itemsize < 4 else self.rounding
        )

    def check(self, device: torch.device) -> None:
        """Refuse it where a device cannot do it, or only by emulation.

        Raises:
            LandscapeError: The device cannot.
        """
        if self.computing is tf32 and not (
            device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        ):
            raise LandscapeError(
                f"compute.precision: tf32 needs an NVIDIA GPU of the year 2020 or later, not {device}; "
                f"valid here are float32, float64{', bfloat16' if _has_bfloat16(device) else ''}"
            )
        if self.computed == torch.bfloat16 and not self.kept and not _has_bfloat16(device):
            raise LandscapeError(
                f"compute.precision: bfloat16 is not supported by {device}; valid here are float32 and float64"
            )


_PRECISIONS = (
    Precision(name="float32"),
    Precision(name="tf32", approximate=True, computing=tf32),
    Precision(name="bfloat16", computed=torch.bfloat16, approximate=True),
    Precision(name="float64", data=torch.float64, computed=torch.float64, network=torch.float64),
    Precision(name="kept", network=None),
)


def precision_of(name: str) -> Precision:
    """The precision of this name, as `compute.precision` has it."""
    return {each.name: each for each in _PRECISIONS}[name]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.backends.mkldnn.is_available()) and bool(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
