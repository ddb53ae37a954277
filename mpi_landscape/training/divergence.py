"""The losses of the steps, watched for the first that is not finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError

# Reading a loss waits for the GPU, which then waits for its next order; on a CPU it costs nothing.
_STEPS_BETWEEN_READINGS = 16


class DivergedError(LandscapeError):
    """The training loss is not finite any more."""


class LossWatch:
    """Losses of the steps of an epoch.

    Args:
        device: On a CPU, every loss is read at once, so that the step of one that is not finite is never made. On
            others, several later steps may have been made.
    """

    def __init__(self, device: torch.device) -> None:
        self._size = 1 if device.type == "cpu" else _STEPS_BETWEEN_READINGS
        self._kept: list[tuple[int, int, Tensor]] = []

    def note(self, loss: Tensor, *, step: int, epoch: int) -> None:
        """Keep the mean loss of a batch, and `read` when there are enough of them."""
        self._kept.append((step, epoch, loss))
        if len(self._kept) >= self._size:
            self.read()

    def read(self) -> None:
        """Read the losses that were kept.

        Raises:
            DivergedError: One is not finite; the message names the first.
        """
        kept, self._kept = self._kept, []
        values = torch.stack([loss for *_, loss in kept]).tolist() if kept else []
        for (step, epoch, _), value in zip(kept, values, strict=True):
            if not math.isfinite(value):
                raise DivergedError(f"the loss is {value} at step {step} of epoch {epoch}")
