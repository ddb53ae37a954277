"""The arithmetic that makes the same input give the same bits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_Settings = list[tuple[object, str, object]]


@contextmanager
def exact_arithmetic(threads: int = 1) -> Iterator[None]:
    """Deterministic algorithms, no TF32, a fixed number of threads; the caller's settings come back afterwards.

    One thread per operation, because some kernels split their sums by the number of threads, so that the bits would
    depend on it; cores are kept busy with whole batches instead (`Evaluator`).
    """
    # cuBLAS reads it when its first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    threads_before = torch.get_num_threads()
    wanted = _wanted()
    before = _read(wanted)
    try:
        # An operation that has no deterministic form is the user's choice: warn, do not refuse.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_num_threads(threads)
        _write(wanted)
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_num_threads(threads_before)
        _write(before)


@contextmanager
def tf32() -> Iterator[None]:
    """Products of float32 numbers on a GPU's tensor cores, with 10 bits of mantissa, within `exact_arithmetic`."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    wanted: _Settings = [(cudnn, "allow_tf32", True), (matmul, "allow_tf32", True)]
    if hasattr(torch.backends, "fp32_precision"):
        places: list[object] = [matmul, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
        wanted = [(place, "fp32_precision", "tf32") for place in places]
    before = _read(wanted)
    try:
        _write(wanted)
        yield
    finally:
        _write(before)


def _wanted() -> _Settings:
    """The switches of torch, with the values that make float32 products exact and repeatable."""
    settings: _Settings = [
        (torch.backends.cudnn, "benchmark", False),
        (torch.backends.cudnn, "deterministic", True),
        # Deterministic algorithms would fill every new tensor with NaN, before an operation overwrites
        # it: 17 to 26 % of a ResNet-20's time on a CPU.
        (torch.utils.deterministic, "fill_uninitialized_memory", False),
        # torch 2.9 and later compare this older switch with the newer ones below where it is read
        # (`torch.backends.cudnn.flags`), and raise where they differ: it comes first, so that both agree.
        (torch.backends.cudnn, "allow_tf32", False),
    ]
    if not hasattr(torch.backends, "fp32_precision"):
        return [*settings, (torch.backends.cuda.matmul, "allow_tf32", False)]
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    places: list[object] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
    places += [mkldnn.matmul, mkldnn.conv, mkldnn.rnn]  # type: ignore[attr-defined]
    return settings + [(place, "fp32_precision", "ieee") for place in places]


def _read(settings: _Settings) -> _Settings:
    """The same switches as they are; one that torch refuses to read, for it was set the newer way, is left out."""
    found: _Settings = []
    for place, name, _ in settings:
        try:
            found.append((place, name, getattr(place, name)))
        except RuntimeError:
            continue
    return found


def _write(settings: _Settings) -> None:
    for place, name, value in settings:
        setattr(place, name, value)
