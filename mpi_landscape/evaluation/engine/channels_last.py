"""Weights of convolutions in channels-last order, in the flat vectors themselves, and so the activations.

A convolution on a processor or a tensor core reads all channels of a pixel at once. Weights that lie so need not be turned
around in every pass, and a convolution's result lies as its weight does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.dataflow import moving_tensors, observed
from mpi_landscape.evaluation.engine.description import Engine, Probe, Step
from mpi_landscape.evaluation.vectors import Rows, row_blocks
from mpi_landscape.geometry.layout import Layout

# Convolutions of two axes, whose weights can lie in channels-last order.
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def convolution_weights(network: nn.Module, layout: Layout) -> list[str]:
    """The entries that are weights of two-dimensional convolutions."""
    names = {
        f"{name}.weight" for name, module in network.named_modules() if isinstance(module, _CONVOLUTIONS)
    }
    return [entry.name for entry in layout.entries if entry.name in names and len(entry.shape) == 4]


def reorder(vectors: Sequence[Tensor], layout: Layout, names: Collection[str]) -> None:
    """Bring entries into channels-last order, in place."""
    for vector in vectors:
        views = layout.views(vector)
        for name in names:
            for block in row_blocks(views[name]):
                block.view(-1).copy_(block.permute(0, 2, 3, 1).reshape(-1))


def _proposal(_: Engine, probe: Probe) -> bool | None:
    if not convolution_weights(probe.network, probe.layout):
        return None
    if probe.device.type == "cpu":
        flow = observed(probe.network, probe.run, moving=moving_tensors(probe))
        if any(each.text.startswith("native_group_norm(") for each in flow.operations):
            # The mean of squares less the square of the mean: it loses what is left of a mean of many deviations.
            raise LandscapeError("group normalization on a CPU rounds too much in this order")
    return True


def _on_vectors(_: Any, network: nn.Module, rows: Rows) -> Rows:
    names = convolution_weights(network, rows.layout)
    reorder([rows.center, *rows.directions], rows.layout, names)
    return replace(rows, channels_last=frozenset(names))


CHANNELS_LAST = Step(
    name="channels_last",
    proposal=_proposal,
    words=lambda _: "channels-last",
    on_vectors=_on_vectors,
    writes_vectors=True,
)
