import argparse
import collections
import dataclasses
import datetime
import enum
import json
import os
import pathlib
import pickle
import random
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.checkpoints import load_state, read_content, read_state


def network(width=3):
    return nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width * 4, 5))


def filled(seed=0):
    """A network no two tensors of which are alike, running statistics included."""
    built = network()
    generator = torch.Generator().manual_seed(seed)
    for value in built.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator))
    return built


def refusal(call, *arguments, **named):
    with pytest.raises(LandscapeError) as caught:
        call(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Settings:
    rate: float = 0.1
    color: Color = Color.RED


STATE = filled().state_dict()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (STATE, "as it is"),
        ({"acc": 93.0, "epoch": 300, "state_dict": STATE}, "the reference code of Li et al."),
        ({"model_state_dict": STATE, "optimizer_state_dict": {"state": {}}, "epoch": 3}, "a tutorial"),
        ({"model": STATE, "args": argparse.Namespace(lr=0.1)}, "a training script with its arguments"),
        ({"net": STATE, "acc": np.float64(93.0), "history": np.arange(3.0)}, "numbers of numpy"),
        ({"net": STATE, "random": np.random.RandomState(3).get_state()}, "numpy's random state"),
        (
            {
                "net": STATE,
                "random": np.random.RandomState(3).get_state(legacy=False),
                "python": random.getstate(),
                "torch": torch.get_rng_state(),
                "generator": np.random.default_rng(3).bit_generator.state,
            },
            "every random state",
        ),
        ({"net": STATE, "random": np.random.default_rng(3), "old": np.random.RandomState(3)}, "generators"),
        (
            {
                "net": STATE,
                "classes": np.array(["a"]),
                "when": np.datetime64("2020-01-01"),
                "any": np.array([None]),
            },
            "arrays of no numbers",
        ),
        (
            {
                "net": STATE,
                "path": pathlib.Path("runs/a"),
                "when": [datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(3)],
                "last": collections.deque([1, 2], maxlen=3),
                "some": collections.defaultdict(list, a=[1]),
                "kinds": frozenset((1, (2, 3))),
                "version": torch.__version__,
                "space": types.SimpleNamespace(a=1),
                "optimizer": torch.optim.SGD([torch.zeros(1)], lr=0.1),
                "color": Color.RED,
                "settings": Settings(),
            },
            "objects of data",
        ),
        ({"net": STATE, "few": [np.uint16(1), np.uint32(2), np.complex64(1j)]}, "further numbers of numpy"),
        ({"model": {"state_dict": STATE}}, "twice wrapped"),
        ({f"module.{name}": value for name, value in STATE.items()}, "DataParallel"),
        ({f"_orig_mod.module.{name}": value for name, value in STATE.items()}, "compiled and DataParallel"),
        ({f"module._orig_mod.{name}": value for name, value in STATE.items()}, "the other way round"),
        ({"state_dict": {f"model.{name}": value for name, value in STATE.items()}}, "Lightning"),
        (
            {
                "state_dict": {
                    **{f"net.{name}": value for name, value in STATE.items()},
                    "metric.sum": torch.ones(1),
                }
            },
            "Lightning with a metric",
        ),
        ({name: value for name, value in STATE.items() if "num_batches" not in name}, "no counters"),
        ({**STATE, "extra_extra_state": {"a": 1}}, "with state that is not tensors"),
        ({name: value.double() for name, value in STATE.items()}, "another precision"),
        ({name: nn.Parameter(value, requires_grad=False) for name, value in STATE.items()}, "parameters"),
    ],
)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_checkpoint_of_any_common_form_is_loaded(tmp_path, content, why, is_new):
    path = tmp_path / "checkpoint.t7"
    torch.save(content, path, _use_new_zipfile_serialization=is_new)
    model = filled(seed=1)
    load_state(model, read_state(path), where=str(path))
    for name, value in model.state_dict().items():
        assert torch.equal(value, STATE[name]), f"{why}: {name}"
        assert value.dtype == STATE[name].dtype


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_any_protocol_of_pickle_is_read(tmp_path, protocol):
    kept = {
        "net": STATE,
        "array": np.arange(300.0),
        "set": {1, 2},
        "bytes": [b"a", bytes(300), bytearray(3)],
        "ö": 2**70,
    }
    torch.save(kept, tmp_path / "a.pt", pickle_protocol=protocol)
    found = read_content(tmp_path / "a.pt")
    assert torch.equal(found["net"]["0.weight"], STATE["0.weight"])
    assert np.array_equal(found["array"], kept["array"])
    assert [found[name] for name in ("set", "bytes", "ö")] == [kept[name] for name in ("set", "bytes", "ö")]


def test_what_stands_beside_the_weights_is_neither_imported_nor_made(tmp_path, monkeypatch):
    """A package that is only named; its import would end the test."""
    (tmp_path / "absent_package.py").write_text(
        "class Thing:\n    def __setstate__(self, state):\n        1 / 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import absent_package

    torch.save({"net": STATE, "thing": absent_package.Thing()}, tmp_path / "a.pt")
    del sys.modules["absent_package"]
    (tmp_path / "absent_package.py").write_text("raise SystemExit")
    assert read_content(tmp_path / "a.pt")["thing"].kind == "absent_package.Thing"
    assert "absent_package" not in sys.modules


def test_a_network_whose_own_tensors_begin_with_module_is_loaded(tmp_path):
    torch.save(nn.DataParallel(filled()).state_dict(), tmp_path / "a.pt")
    model = nn.DataParallel(filled(seed=1))
    load_state(model, read_state(tmp_path / "a.pt"), where="x")
    assert torch.equal(model.state_dict()["module.0.weight"], STATE["0.weight"])


class Calls:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Runs:
    def __reduce__(self):
        return (print, ("this must not run",))


def saved(content, **options):
    def write(path):
        torch.save(content, path, **options)

    return write


def cut(share, **options):
    def write(path):
        torch.save(STATE, path, **options)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return write


def written(content):
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "words", "why"),
    [
        (lambda path: None, ["no such checkpoint"], "absent"),
        (lambda path: path.mkdir(), ["is a folder"], "a folder"),
        (written(b""), ["is empty"], "empty"),
        (cut(0.01), ["damaged"], "cut at the start"),
        (cut(0.5), ["damaged"], "cut in the middle"),
        (cut(0.99), ["damaged"], "cut at the end"),
        (cut(0.002, _use_new_zipfile_serialization=False), ["damaged"], "old format, cut at the start"),
        (cut(0.6, _use_new_zipfile_serialization=False), ["damaged"], "old format, cut in the middle"),
        (written(b"model: resnet20\n"), ["not a checkpoint"], "a text"),
        (written(b"\x89HDF\r\n\x1a\n" + bytes(2000)), ["not a checkpoint"], "a surface"),
        (written(b"PK\x03\x04" + bytes(300)), ["not a checkpoint"], "the start of an archive"),
        (written(pickle.dumps({"a": 1})), ["no state dictionary", "keys a"], "a plain pickle"),
        (written(bytes(100)), ["not a checkpoint"], "zeros"),
        (written(json.dumps({"a": 1}).encode()), ["not a checkpoint"], "JSON"),
        (saved(network()), ["Python objects", "state_dict"], "a whole network"),
        (saved({"state_dict": STATE, "hook": Runs()}), ["Python objects", "run code"], "code"),
        (saved({"net": STATE, "cwd": Calls(os.getcwd)}), ["Python objects (posix.getcwd)"], "code of posix"),
        (saved({"net": STATE, "x": Calls(np.load, "x")}), ["Python objects (numpy.load)"], "code of numpy"),
        (saved({"epoch": 3, "lr": 0.1}), ["no state dictionary", "keys epoch, lr"], "no tensors"),
        (saved(torch.zeros(3)), ["no state dictionary", "Tensor"], "one tensor"),
        (saved({}), ["no state dictionary"], "an empty mapping"),
        (saved({"state_dict": {}}), ["no state dictionary"], "an empty state"),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_its_name(tmp_path, write, words, why, capsys):
    path = tmp_path / "checkpoint.pt"
    write(path)
    message = refusal(read_state, path)
    assert message.startswith(f"{path}: "), why
    for word in words:
        assert word in message, why
    assert "must not run" not in capsys.readouterr().out


def test_the_files_of_other_tools_are_named_for_what_they_are(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"x")
    assert "safetensors" in refusal(read_state, tmp_path / "a.safetensors")
    with warnings.catch_warnings():
        # What torch says about writing such archives is not the matter here.
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "a.pt")
    assert "TorchScript" in refusal(read_state, tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("state", "words", "why"),
    [
        (
            network(width=4).state_dict(),
            ["0.weight has shape (4, 2, 3, 3), the network's (3, 2, 3, 3)"],
            "wider",
        ),
        ({**STATE, "4.weight": torch.ones(2)}, ["4.weight is not in the network"], "one more layer"),
        (
            {name: v for name, v in STATE.items() if name != "3.bias"},
            ["3.bias is missing"],
            "one tensor less",
        ),
        (
            {"a.b": torch.ones(1)},
            ["0.weight is missing", "… and 6 more"],
            "another network; the first are named",
        ),
        (
            {f"{prefix}.{name}": value for prefix in ("model", "ema") for name, value in STATE.items()},
            ["more than once", "model., ema."],
            "a network and its average",
        ),
        (
            {f"model.{name}": value for name, value in STATE.items() if name != "1.running_var"},
            ["is missing"],
            "a prefix does not hide what is missing",
        ),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused(state, words, why):
    model = filled(seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    message = refusal(load_state, model, state, where="checkpoint.pt")
    assert message.startswith("checkpoint.pt: "), why
    for word in words:
        assert word in message, why
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), f"{why}: {name} was changed all the same"


def test_complex_buffers_are_read(tmp_path):
    network = nn.Module()
    network.register_buffer("turn", torch.tensor([1 + 2j]))
    torch.save(network.state_dict(), tmp_path / "a.pt")
    other = nn.Module()
    other.register_buffer("turn", torch.zeros(1, dtype=torch.complex64))
    load_state(other, read_state(tmp_path / "a.pt"), where="a.pt")
    assert other.turn.item() == 1 + 2j
