"""The arithmetic that makes the same input give the same bits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_arithmetic(threads: int = 1) -> Iterator[None]:
    """Deterministic algorithms, no TF32, a fixed number of threads; the caller's settings come back afterwards.

    Args:
        threads: Per operation. One per operation because some kernels split their sums by the number of threads, so that the bits would
    depend on it; cores are kept busy with whole batches instead (`Evaluator`).
    """
    # cuBLAS reads it when its first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, cudnn_deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    threads_before = torch.get_num_threads()
    precision = _full_float32()
    # An operation that has no deterministic form is the user's choice: warn, do not refuse.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, cudnn_deterministic
        torch.set_num_threads(threads_before)
        _restore_float32(precision)


def _float32_settings() -> list[tuple[object, str, object]]:
    """The switches that would let float32 products run in TF32, with the value that forbids it."""
    if hasattr(torch.backends, "fp32_precision"):
        # torch 2.9 and later; mixing them with the older `allow_tf32` raises.
        places: list[object] = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]  # type: ignore[attr-defined]
        places += [torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv, torch.backends.mkldnn.rnn]  # type: ignore[attr-defined]
        return [(place, "fp32_precision", "ieee") for place in places]
    return [(torch.backends.cuda.matmul, "allow_tf32", False), (torch.backends.cudnn, "allow_tf32", False)]


def _full_float32() -> list[tuple[object, str, object]]:
    """Forbid TF32; the settings as they were."""
    settings = _float32_settings()
    before = [(place, name, getattr(place, name)) for place, name, _ in settings]
    _restore_float32(settings)
    return before


def _restore_float32(settings: list[tuple[object, str, object]]) -> None:
    for place, name, value in settings:
        setattr(place, name, value)
