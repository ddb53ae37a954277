"""Settings from outside."""

import contextlib
import os
import threading
from pathlib import Path

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tests.relatives.case import Asked, right
from tests.relatives.small import cnn, images, mlp, vectors

KIND, TITLE = 14, "settings from outside"


def setting(get, put, value):
    """A context in which a setting of the process is another one."""

    @contextlib.contextmanager
    def around():
        before = get()
        put(value)
        try:
            yield
        finally:
            now = get()
            put(before)
            if now != value:
                raise AssertionError(f"the setting was left as {now!r}, not as the {value!r} that it was")

    return around


def asked(around, **options):
    net = nn.Sequential(*cnn()[:-1], nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3))
    return Asked(net=net, data=images(), around=around, options=options)


@right("set_float32_matmul_precision('medium')")
def matmul_precision(folder):
    return asked(setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"))


@right("fp32_precision of the CPU's library set to bf16")
def library_precision(folder):
    backend = torch.backends.mkldnn.matmul
    return asked(
        setting(
            lambda: backend.fp32_precision, lambda value: setattr(backend, "fp32_precision", value), "bf16"
        )
    )


@right("the default type is float64")
def default_type(folder):
    return asked(setting(torch.get_default_dtype, torch.set_default_dtype, torch.float64))


@right("the default device is meta")
def default_device(folder):
    return asked(lambda: torch.device("meta"))


@right("autocast to bfloat16")
def autocast(folder):
    return asked(lambda: torch.autocast("cpu", dtype=torch.bfloat16))


@right("deterministic algorithms")
def deterministic(folder):
    return asked(
        setting(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True)
    )


@right("torch's threads")
def threads(folder):
    return asked(setting(torch.get_num_threads, torch.set_num_threads, 2))


@right("inference mode")
def inference(folder):
    return asked(torch.inference_mode)


@right("gradients are switched off")
def no_gradients(folder):
    return asked(setting(torch.is_grad_enabled, torch.set_grad_enabled, False))


@right("anomaly detection")
def anomaly(folder):
    return asked(torch.autograd.detect_anomaly)


@right("oneDNN is switched off")
def without_onednn(folder):
    backend = torch.backends.mkldnn
    return asked(lambda: backend.flags(enabled=False))


@right("denormal numbers are flushed")
def flushed(folder):
    @contextlib.contextmanager
    def around():
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)

    return asked(around)


@right("a mode that rewrites functions of torch, of which other threads see nothing")
def function_mode(folder):
    class Doubled(TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), named=None):
            result = function(*arguments, **(named or {}))
            return result * 2 if function is torch.nn.functional.relu else result

    net = nn.Sequential(*cnn()[:-1], nn.Linear(6, 3))
    return Asked(net=net, data=images(), around=Doubled, within=True)


@right("called from a thread that is not the main one")
def from_a_thread(folder):
    return Asked(net=mlp(), data=vectors(), around=lambda: contextlib.nullcontext(threading.current_thread()))


@right("a seed of the global generator, which must be left as it was")
def generator_left(folder):
    @contextlib.contextmanager
    def around():
        before = torch.get_rng_state()
        yield
        if not torch.equal(before, torch.get_rng_state()):
            raise AssertionError("the global generator was moved")

    return asked(around)


@right("another working directory, and a relative output")
def elsewhere(folder):
    @contextlib.contextmanager
    def around():
        before = Path.cwd()
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)

    return asked(around)
