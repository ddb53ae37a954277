"""Tensors that a pass reads and that are no part of the network: whether something writes to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Numbers of which a copy is kept; of more, torch's count of the writes must do, which does not see those through `.data`.
_MOST_COPIED = 2**20


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A tensor as it was.

    Attributes:
        path: How it is reached, in words.
        tensor: It.
        version: How often it was written to; -1 where torch does not count.
        copy: Its numbers; None where they are many.

    Example:
        >>> table = torch.zeros(3)
        >>> before = Outside.of("table", table)
        >>> before.is_written(), table.data.add_(1).sum().item(), before.is_written()
        (False, 3.0, True)
    """

    path: str
    tensor: Tensor
    version: int
    copy: Tensor | None

    @classmethod
    def of(cls, path: str, tensor: Tensor) -> Outside:
        """A tensor as it is now."""
        few = tensor.numel() <= _MOST_COPIED
        copy = tensor.detach().clone() if few and not tensor.is_meta else None
        return cls(path=path, tensor=tensor, version=_version(tensor), copy=copy)

    def is_written(self) -> bool:
        """Whether something has been written to it since."""
        if _version(self.tensor) != self.version:
            return True
        if self.copy is None:
            return False
        # NaN is what it was, too.
        return not torch.allclose(self.tensor.detach(), self.copy, rtol=0, atol=0, equal_nan=True)


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version
