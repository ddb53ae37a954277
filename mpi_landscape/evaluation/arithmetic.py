"""The arithmetic that makes the same input give the same bits, whatever has been set outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine import packing

_Settings = list[tuple[object, str, object]]

# What NVIDIA's libraries read when they are first used, above all switches; 0 leaves float32 alone. (What oneDNN reads, it has
# read when torch is imported: programs see to that, see `command.execution`.)
_TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
# Relative, on average: the rounding of an algorithm in float32, such as that of Winograd, goes both ways and averages to less
# than 1e-6; operands of 16 bits or fewer are all too small here, by 3e-5.
_ROUNDING = 1e-5


@contextmanager
def exact_arithmetic(threads: int = 1) -> Iterator[None]:
    """Deterministic algorithms, no TF32, a fixed number of threads; the caller's settings come back afterwards.

    The caller's autocast, inference mode, no_grad, default device and flushing of small numbers to zero end within, too. Their
    default type is theirs: a network may count on it.

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
    with ExitStack() as modes:
        try:
            # An operation that has no deterministic form is the user's choice: warn, do not refuse.
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.set_num_threads(threads)
            _write(wanted)
            for mode in (_strict_environment, _without_autocast, _ordinary_tensors, _with_small_numbers):
                modes.enter_context(mode())
            yield
        finally:
            modes.close()
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


def measure_arithmetic(device: torch.device) -> str:
    """Multiply and convolve float32 numbers whose results are known, and that 16 bits of mantissa do not hold.

    What a library does with float32 cannot all be asked for. The products are of 1 + n / 2^17, for n from 1 to 7, with 1 and 2,
    in sums that float32 holds exactly in whichever order.

    Args:
        device: Where; within `exact_arithmetic`.

    Returns:
        What was found, for a file.

    Raises:
        LandscapeError: The device computes with fewer bits.

    Example:
        >>> with exact_arithmetic():
        ...     measure_arithmetic(torch.device("cpu"))
        'float32 measured: products exact, convolutions and an LSTM within 1e-05'
    """
    with torch.no_grad():
        errors = {"products": _product_error(device)}
        rounded = {"convolutions": _convolution_error(device)}
        if device.type == "cpu":
            # On a GPU, whose functions near zero may be rounded more, its switch is set, and its products are measured above.
            rounded["an LSTM"] = _recurrent_error()
    errors |= {what: error for what, error in rounded.items() if error > _ROUNDING}
    what = max(errors, key=errors.__getitem__)
    if errors[what]:
        cause = _TF32_OVERRIDE if device.type == "cuda" else "ONEDNN_DEFAULT_FPMATH_MODE"
        raise LandscapeError(
            f"compute.precision: {what} in float32 are off by {errors[what]:.1e} on {device}: something has let a library "
            f"compute with fewer bits before this began; unset {cause}, or start Python without what sets it"
        )
    return f"float32 measured: products exact, {' and '.join(rounded)} within {_ROUNDING:g}"


def _product_error(device: torch.device) -> float:
    left, right = _operands((64, 32), (96, 32))
    exact = (left @ right.T).to(device)
    left, right = left.float().to(device), right.float().to(device)
    bias = torch.zeros(len(right), dtype=torch.float32, device=device)
    batched = torch.bmm(left.expand(2, *left.shape), right.T.expand(2, *right.T.shape))[1]
    products = [F.linear(left, right), F.linear(left, right, bias), left @ right.T, batched]
    if device.type == "cpu" and packing.is_offered():
        products.append(packing.packed_linear(left, packing.packed_weight(right), bias))
    return max(_error(found, exact) for found in products)


def _convolution_error(device: torch.device) -> float:
    images, kernels = _operands((2, 32, 12, 12), (32, 32, 3, 3))
    # As a product of matrices, in float64.
    exact = (kernels.flatten(1) @ F.unfold(images, 3)).reshape(2, 32, 10, 10).to(device)
    images, kernels = images.float().to(device), kernels.float().to(device)
    found = [
        F.conv2d(images.to(memory_format=each), kernels)
        for each in (torch.contiguous_format, torch.channels_last)
    ]
    return max(abs(float(((each.double() - exact) / exact).mean())) for each in found)


def _recurrent_error() -> float:
    """Of one step of an LSTM, whose formulas are those of Hochreiter and Schmidhuber (1997), as torch orders them."""
    inputs, weights = _operands((1, 16, 32), (4 * 32, 32))
    weights = (weights - 1.5) / 16
    given, _, cell, out = (inputs[0] @ weights.T).chunk(4, dim=1)
    exact = out.sigmoid() * (given.sigmoid() * cell.tanh()).tanh()
    # Not initialized, which would draw random numbers.
    layer = nn.LSTM(32, 32, bias=False, dtype=torch.float32, device="meta").to_empty(device="cpu")
    for parameter in layer.parameters():
        parameter.copy_(weights)
    return _error(layer(inputs.float())[0][0], exact)


def _operands(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Two float64 tensors: of 1 + n / 2^17, n from 1 to 7; and of 1 and 2."""
    numbers = torch.arange(torch.Size(first).numel(), dtype=torch.float64).reshape(first)
    others = torch.arange(torch.Size(second).numel(), dtype=torch.float64).reshape(second)
    return 1 + (1 + numbers % 7) / 2**17, 1 + others % 2


def _error(found: Tensor, exact: Tensor) -> float:
    return float(((found.double() - exact) / exact).abs().max())


@contextmanager
def _strict_environment() -> Iterator[None]:
    """No TF32 by the environment, where a library may still read it."""
    asked = os.environ.get(_TF32_OVERRIDE)
    if asked in (None, "0"):
        yield
        return
    del os.environ[_TF32_OVERRIDE]
    try:
        yield
    finally:
        os.environ[_TF32_OVERRIDE] = asked


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Outside of the caller's autocast, and of its cache of weights.

    Not by an autocast that is disabled: within it, one of the network's own would keep its cast weights from point to point, as
    it does not end the outermost one.
    """
    kinds = ("cpu", "cuda")
    enabled = {kind: torch.is_autocast_enabled(kind) for kind in kinds}
    torch.autocast_increment_nesting()
    depth = torch.autocast_decrement_nesting()
    for _ in range(depth):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()
    for kind in kinds:
        torch.set_autocast_enabled(kind, False)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        for kind in kinds:
            torch.set_autocast_enabled(kind, enabled[kind])
        for _ in range(depth):
            torch.autocast_increment_nesting()


@contextmanager
def _ordinary_tensors() -> Iterator[None]:
    """Tensors as usual: on the CPU where nothing else is said, and such that a gradient can be asked for."""
    with ExitStack() as modes:
        if torch.is_inference_mode_enabled():
            modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        # Every call of torch goes through such a mode once there is one.
        if torch.get_default_device().type != "cpu":
            modes.enter_context(torch.device("cpu"))
        yield


@contextmanager
def _with_small_numbers() -> Iterator[None]:
    """Numbers below 1e-38 as they are: some libraries that are built for speed let the processor round them to zero."""
    flushed = not torch.full((1,), 2.0**-140, dtype=torch.float32, device="cpu").mul(1).item()
    if not flushed:
        yield
        return
    torch.set_flush_denormal(False)
    try:
        yield
    finally:
        torch.set_flush_denormal(True)


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
