import contextlib
import os

import pytest
import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic, measure_arithmetic, tf32

NEWER = hasattr(torch.backends, "fp32_precision")


def settings():
    """Every switch that the context may touch, as a caller can read it."""
    found = {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn": torch.backends.cudnn.deterministic,
        "threads": torch.get_num_threads(),
        "matmul": torch.get_float32_matmul_precision(),
        "cuda_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
    }
    return {**found, **newer()}


def newer():
    if not NEWER:
        return {}
    backends = torch.backends
    places = {
        "cuda.matmul": backends.cuda.matmul,
        "cudnn.conv": backends.cudnn.conv,
        "cudnn.rnn": backends.cudnn.rnn,
        "mkldnn.matmul": backends.mkldnn.matmul,
        "mkldnn.conv": backends.mkldnn.conv,
        "mkldnn.rnn": backends.mkldnn.rnn,
    }
    return {name: place.fp32_precision for name, place in places.items()}


@pytest.fixture(autouse=True)
def untouched():
    """Whatever a test sets is undone by hand: not by the code under test."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    tf32, benchmark = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = tf32, benchmark
    torch.backends.cudnn.deterministic = False


def nothing():
    pass


def fast():
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(3)


def strict():
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def older():
    torch.backends.cuda.matmul.allow_tf32 = True


CALLERS = pytest.mark.parametrize("caller", [nothing, fast, strict, older])


@CALLERS
@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_the_callers_settings_come_back(caller, error):
    caller()
    before = settings()
    with contextlib.suppress(ZeroDivisionError), exact_arithmetic(2):
        if error:
            raise error
    assert settings() == before


@CALLERS
def test_within_nothing_is_inexact_or_left_to_chance(caller):
    caller()
    with exact_arithmetic():
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.deterministic
        assert torch.get_num_threads() == 1
        if NEWER:
            assert set(newer().values()) == {"ieee"}
        else:
            assert not torch.backends.cuda.matmul.allow_tf32
            assert not torch.backends.cudnn.allow_tf32


def test_the_number_of_threads_can_be_chosen():
    with exact_arithmetic(threads=3):
        assert torch.get_num_threads() == 3


def test_settings_come_back_even_where_the_context_cannot_be_entered():
    before = settings()
    with pytest.raises(RuntimeError), exact_arithmetic(threads=0):
        pass
    assert settings() == before


def test_the_context_can_be_entered_within_itself():
    before = settings()
    with exact_arithmetic(3):
        between = (torch.get_num_threads(), newer())
        with exact_arithmetic(1):
            assert torch.get_num_threads() == 1
        assert (torch.get_num_threads(), newer()) == between
        assert torch.are_deterministic_algorithms_enabled()
    assert settings() == before


def test_a_network_may_switch_cudnn_off_within():
    # torch 2.9 and later raise where older and newer switches disagree.
    with exact_arithmetic(), torch.backends.cudnn.flags(enabled=False):
        pass


def test_new_tensors_are_not_filled_before_use():
    # 17 to 26 % of a ResNet-20's time on a CPU went into filling them with NaN.
    with exact_arithmetic():
        assert not torch.utils.deterministic.fill_uninitialized_memory


def test_a_product_is_that_of_float32_even_where_the_caller_allows_less():
    torch.set_float32_matmul_precision("medium")
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(64, 64, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    with exact_arithmetic():
        error = (left @ right - exact).abs().max()
    assert error < 1e-4  # bfloat16 products would be off by 1e-2


def test_the_callers_modes_end_within_and_come_back():
    inner = nn.Linear(3, 2)
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        torch.no_grad(),
        torch.device("meta"),
        exact_arithmetic(),
    ):
        assert not torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
        assert inner(torch.ones(1, 3)).device.type == "cpu"
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad(), torch.device("meta"):
        with exact_arithmetic():
            pass
        assert torch.is_autocast_enabled("cpu")
        assert not torch.is_grad_enabled()
        assert torch.ones(1).device.type == "meta"
    with torch.inference_mode():
        with exact_arithmetic():
            assert not torch.ones(1).is_inference()
        assert torch.ones(1).is_inference()


def test_an_autocast_of_the_network_keeps_no_weights_from_call_to_call():
    # Within another autocast, even a disabled one, it would: the second product would be the first.
    layer = nn.Linear(1, 1, bias=False)
    products = []
    with torch.autocast("cpu", dtype=torch.bfloat16), exact_arithmetic():
        for weight in (1.0, 2.0):
            layer.weight.data.fill_(weight)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                products.append(layer(torch.ones(1, 1)).item())
    assert products == [1.0, 2.0]


def test_an_autocast_of_the_caller_forgets_what_it_has_cast():
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(torch.ones(1, 1))
        with exact_arithmetic():
            layer.weight.data.fill_(2)
        assert layer(torch.ones(1, 1)).item() == 2
        # The caller's is still the outermost one.
        assert torch.autocast_increment_nesting() == 2
        torch.autocast_decrement_nesting()


def test_small_numbers_are_kept_and_flushed_again_afterwards():
    small = torch.full((1,), 2.0**-140)
    torch.set_flush_denormal(True)
    try:
        assert small.mul(1).item() == 0
        with exact_arithmetic():
            assert small.mul(1).item() == 2.0**-140
        assert small.mul(1).item() == 0
    finally:
        torch.set_flush_denormal(False)


def test_the_environment_cannot_ask_for_tf32_and_comes_back(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with exact_arithmetic():
        assert "NVIDIA_TF32_OVERRIDE" not in os.environ
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "1"


def rounded(tensor, bits):
    """With so many bits after the leading one, as tensor cores take their operands."""
    step = 2.0 ** (torch.frexp(tensor)[1] - 1 - bits)
    return (tensor / step).round() * step


@pytest.mark.parametrize("bits", [7, 10, 13])
@pytest.mark.parametrize("operation", ["linear", "conv2d"])
def test_products_of_fewer_bits_are_refused_in_one_line(monkeypatch, bits, operation):
    right = getattr(torch.nn.functional, operation)

    def fewer(inputs, weight, *rest):
        return right(rounded(inputs, bits), rounded(weight, bits), *rest)

    with exact_arithmetic():
        assert measure_arithmetic(torch.device("cpu")).startswith("float32 measured")
        monkeypatch.setattr(torch.nn.functional, operation, fewer)
        with pytest.raises(
            LandscapeError, match=r"^compute.precision: .* in float32 are off by .*e-05 on cpu"
        ):
            measure_arithmetic(torch.device("cpu"))


def test_arithmetic_in_bfloat16_is_seen():
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(LandscapeError, match="off by"):
        measure_arithmetic(torch.device("cpu"))


def test_what_is_measured_draws_no_random_numbers():
    before = torch.get_rng_state()
    with exact_arithmetic():
        measure_arithmetic(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_tf32_on_a_gpu_is_seen():
    with exact_arithmetic():
        measure_arithmetic(torch.device("cuda"))
        with tf32(), pytest.raises(LandscapeError, match="off by"):
            measure_arithmetic(torch.device("cuda"))
