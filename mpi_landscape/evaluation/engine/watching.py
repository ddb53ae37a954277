"""One pass of a network with hooks on its modules, which are gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle


def watched(hooks: Sequence[RemovableHandle], run: Callable[[], Any]) -> None:
    """Call a network without gradients, and take the hooks away, also where it raises.

    Args:
        hooks: Registered already.
        run: Calls the network.
    """
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
