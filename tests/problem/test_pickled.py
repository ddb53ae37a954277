"""What is read of a file of torch.save against what torch.load makes of it."""

import argparse
import io
import struct
import zipfile
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mpi_landscape.problem.checkpoints import read_content, read_state


def same(found, expected):
    """Equal in every value, and for tensors in type, shape, strides and whether they are trained."""
    if isinstance(expected, torch.Tensor):
        looked = [(each.dtype, each.shape, each.stride(), each.requires_grad) for each in (found, expected)]
        return looked[0] == looked[1] and torch.equal(found, expected)
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected)
    if isinstance(expected, argparse.Namespace):
        return same(vars(found), vars(expected))
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, (list, tuple)):
        return (
            type(found) is type(expected) and len(found) == len(expected) and all(map(same, found, expected))
        )
    return type(found) is type(expected) and (found == expected or found != found)


def trained():
    """A network with what optimizers, schedulers and scalers keep of it after two steps."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))
    kept = {"model": model.state_dict(), "epoch": 2}
    for make in (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        torch.optim.Adam,
        lambda p: torch.optim.AdamW(p, amsgrad=True),
        torch.optim.LBFGS,
        torch.optim.Adagrad,
    ):
        optimizer = make(list(model.parameters()))
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 1, 3])

        def closure(optimizer=optimizer):
            optimizer.zero_grad()
            loss = model(torch.ones(2, 1, 3, 3)).square().sum()
            loss.backward()
            return loss

        for _ in range(2):
            optimizer.step(closure)
            scheduler.step()
        name = type(optimizer).__name__
        kept[name] = optimizer.state_dict()
        kept[f"{name} rates"] = scheduler.state_dict()
    kept["scaler"] = torch.amp.GradScaler("cpu").state_dict()
    return kept


RAW = torch.arange(60, dtype=torch.float32)
CONTENTS = {
    "a training with optimizers and schedulers": trained(),
    "arguments": {"args": argparse.Namespace(lr=0.1, steps=[1, 2], inner=argparse.Namespace(a=None))},
    "numbers of numpy": {"a": np.float64(3), "b": np.int64(-1), "c": [np.float32(0.5), np.bool_(True)]},
    "arrays of numpy": {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "c": np.arange(3, dtype=">i4"),
        "e": np.array(2 + 1j),
        "f": [np.arange(4, dtype="u1")] * 2,
    },
    "containers": {
        "a": OrderedDict(x=1, y=(2, (3, 4))),
        "b": {1, 2, 3},
        "c": bytearray(b"ab\xff"),
        "d": b"bytes\x00\xff",
        "e": 1 + 2j,
        "f": [None, True, False, -1, 2**40, -(2**70), 0.1, float("inf"), "δ\U0001f600", ""],
        "g": torch.Size([2, 3]),
        ("a", 1): {2: (), 3.5: [], None: {}},
    },
    "views of one storage": {"a": RAW[3:9], "b": RAW.view(6, 10).t(), "c": RAW[::7], "d": RAW[:0], "e": RAW[59]},
    "a stride of nothing": {"a": torch.ones(1).expand(3, 4)},
    "channels last": {"a": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)},
    "parameters": {"a": nn.Parameter(torch.ones(2)), "b": nn.Parameter(torch.ones(2), requires_grad=False)},
    "tensors that are trained": {"a": torch.ones(2, requires_grad=True)},
    "types of numbers": {
        str(kind): torch.ones(3).to(kind)
        for kind in (
            *(torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8, torch.int8, torch.int16),
            *(torch.int32, torch.int64, torch.complex64, torch.complex128),
        )
    },
    "a conjugate": {"a": torch.tensor([1 + 2j, 3 - 1j]).conj()},
    "no dimension": {"a": torch.tensor(3.0), "b": torch.zeros(2, 0, 3)},
    "a long text": {"a": "x" * 100_000, "b": "ö" * 70_000},
    "a list of many": {"a": list(range(5000)), "b": {f"n{n}": n for n in range(3000)}},
}  # fmt: skip


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_read_is_what_torch_load_reads(tmp_path, name, is_new):
    path = tmp_path / "a.pt"
    torch.save(CONTENTS[name], path, _use_new_zipfile_serialization=is_new)
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?", "c16", ">i4")]
    moved = [np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0], np.ndarray, np.dtype]
    with torch.serialization.safe_globals([*moved, *kinds, argparse.Namespace]):
        expected = torch.load(path, weights_only=True)
    assert same(read_content(path), expected)


def test_numbers_of_newer_types_are_read_where_torch_load_reads_them_and_in_the_older_form_too(tmp_path):
    content = {"a": torch.arange(3).to(torch.uint16), "b": torch.ones(2).to(torch.float8_e4m3fn)}
    for is_new in (True, False):
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=is_new)
        assert all(
            each.dtype == content[name].dtype and each.tolist() == content[name].tolist()
            for name, each in read_content(tmp_path / "a.pt").items()
        )


def test_a_counter_and_a_mapping_with_a_default_are_plain_mappings(tmp_path):
    torch.save({"a": Counter([1, 1, 3]), "b": defaultdict(None, x=2)}, tmp_path / "a.pt")
    assert read_content(tmp_path / "a.pt") == {"a": {1: 2, 3: 1}, "b": {"x": 2}}


def test_what_lies_on_one_storage_still_does(tmp_path):
    for is_new in (True, False):
        torch.save({"a": RAW, "b": RAW[10:]}, tmp_path / "a.pt", _use_new_zipfile_serialization=is_new)
        found = read_content(tmp_path / "a.pt")
        found["a"][12] = -1
        assert found["b"][2] == -1
        assert read_content(tmp_path / "a.pt")["a"][12] == 12, "the file itself has changed"


def test_attributes_of_a_tensor_are_left(tmp_path):
    value = nn.Parameter(torch.ones(3))
    value.note = "kept by a library"
    torch.save({"a": value}, tmp_path / "a.pt")
    assert same(read_content(tmp_path / "a.pt"), {"a": nn.Parameter(torch.ones(3))})


def test_a_file_in_the_other_order_of_bytes_is_read(tmp_path):
    values = torch.tensor([1.5, -2.0, 3.25])
    torch.save({"a": values}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as made:
        for each in source.namelist():
            data = {"a/byteorder": b"big", "a/data/0": struct.pack(">3f", *values)}.get(
                each, source.read(each)
            )
            made.writestr(each, data)
    assert torch.equal(read_state(tmp_path / "b.pt")["a"], values)


def test_an_archive_of_many_entries_and_one_of_64_bits_are_read(tmp_path):
    """More than 65,535 entries stand in the directory of 64 bits alone, and so do sizes that are said so."""
    many = {f"n{n}": torch.tensor([n]) for n in range(70_000)}
    torch.save(many, tmp_path / "many.pt")
    found = read_state(tmp_path / "many.pt")
    assert len(found) == 70_000
    assert found["n69999"] == 69_999
    torch.save({"a": RAW}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as made:
        for each in source.infolist():
            with made.open(each.filename, "w", force_zip64=True) as target:
                target.write(source.read(each))
    assert torch.equal(read_state(tmp_path / "b.pt")["a"], RAW)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20)
KEYS = st.text() | st.integers() | st.tuples(st.text(), st.integers())
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.tuples(inner, inner),
    max_leaves=30,
)


@given(content=NESTED, is_new=st.booleans())
def test_any_nest_of_values_is_read_as_torch_load_reads_it(tmp_path_factory, content, is_new):
    path = tmp_path_factory.mktemp("nest") / "a.pt"
    stream = io.BytesIO()
    torch.save({"a": content}, stream, _use_new_zipfile_serialization=is_new)
    path.write_bytes(stream.getvalue())
    try:
        expected = torch.load(path, weights_only=True)
    except Exception:
        # Whole numbers of more than 255 bytes, and no bytes at all, are beyond it.
        return
    assert same(read_content(path), expected)
