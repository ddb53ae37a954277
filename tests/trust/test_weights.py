"""Weights in other forms that mean harm: headers, indexes and archives that claim, nest, repeat and lead elsewhere."""

import io
import json
import os
import random
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.checkpoints import read_state
from tests.exhaustive import values


def state():
    generator = torch.Generator().manual_seed(3)
    return {"weight": torch.randn(3, 4, generator=generator), "bias": torch.randn(5, generator=generator)}


def headed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape, begin, end, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def many(count, shape="[0]"):
    """A header of many tensors of nothing, some 60 bytes each."""
    each = (f'"{n:x}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}' for n in range(count))
    return headed(("{" + ",".join(each) + "}").encode())


SAFETENSORS = {
    "nothing": lambda: b"",
    "seven bytes": lambda: bytes(7),
    "a length alone": lambda: struct.pack("<Q", 8),
    "a length of 64 bits": lambda: struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header of zeros": lambda: headed(bytes(100)),
    "no mapping": lambda: headed([1, 2]),
    "no tensors": lambda: headed({}),
    "brackets": lambda: headed(b"[" * 2_000_000),
    "mappings in mappings": lambda: headed(b'{"a":' * 1_000_000),
    "a shape beyond the data": lambda: headed({"weight": entry([3, 4], 0, 48)}, bytes(40)),
    "a shape of ten to the twelve": lambda: headed({"weight": entry([10**6, 10**6], 0, 48)}, bytes(48)),
    "a shape beyond 64 bits": lambda: headed({"weight": entry([2**40, 2**40], 0, 48)}, bytes(48)),
    "a negative shape": lambda: headed({"weight": entry([-3, -4], 0, 48)}, bytes(48)),
    "offsets backwards": lambda: headed({"weight": entry([3, 4], 48, 0)}, bytes(48)),
    "a hole": lambda: headed({"weight": entry([3, 4], 48, 96)}, bytes(96)),
    "a type that is none": lambda: headed({"weight": entry([3, 4], 0, 48, "F33")}, bytes(48)),
    "a type of four bits": lambda: headed({"weight": entry([3, 4], 0, 6, "F4")}, bytes(6)),
    "a name twice": lambda: headed(
        b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
    ),
    "half a million tensors of nothing": lambda: many(500_000),
    "two million tensors of nothing": lambda: many(2_000_000),
    "shapes of a thousand ones": lambda: many(8_000, "[0" + ",1" * 1000 + "]"),
    "cut": lambda: save(state())[:-1],
    "more than there should be": lambda: save(state()) + b"x",
}  # fmt: skip
INDEXES = {
    "nothing": "",
    "no mapping": "[]",
    "no places": "{}",
    "places that are no names": '{"weight_map": {"weight": 3}}',
    "places in places": '{"weight_map": {"weight": {"a": "b"}}}',
    "brackets": "[" * 1_000_000,
    "lists of nothing": "[" + "[]," * 4_000_000 + "[]]",
    "too long": '{"a": "' + "x" * 2**24 + '"}',
    "a name twice": '{"weight_map": {"weight": "a.bin", "weight": "b.bin"}}',
    "the folder": '{"weight_map": {"weight": "."}}',
    "the folder above": '{"weight_map": {"weight": ".."}}',
    "a file above": '{"weight_map": {"weight": "../whole.pt"}}',
    "an absolute file": '{"weight_map": {"weight": "/dev/zero"}}',
    "a NUL": '{"weight_map": {"weight": "a\\u0000b"}}',
    "a device by a link": '{"weight_map": {"weight": "zero.bin"}}',
    "a file by a link": '{"weight_map": {"weight": "link.bin"}}',
    "itself": '{"weight_map": {"weight": "pytorch_model.bin.index.json"}}',
    "an escape sequence": '{"weight_map": {"weight": "\\u001b[2J"}}',
    "a long name": '{"weight_map": {"weight": "' + "x" * 100_000 + '"}}',
}


@pytest.mark.parametrize(
    "name", values(SAFETENSORS, "brackets", "a shape beyond the data", "two million tensors of nothing")
)
def test_safetensors_that_mean_harm_are_refused(study, refused, name):
    (study.folder / "center.safetensors").write_bytes(SAFETENSORS[name]())
    argv = ("study.yaml", "--dry-run", "--set", "model.checkpoint=center.safetensors")
    assert "center.safetensors" in refused("surface", *argv, folder=study.folder)


@pytest.mark.parametrize(
    "name", values(INDEXES, "brackets", "lists of nothing", "a file by a link", "an absolute file")
)
def test_an_index_that_means_harm_is_refused(study, refused, name):
    folder = study.folder / "center"
    folder.mkdir()
    (study.folder / "center.pt").rename(study.folder / "whole.pt")
    (folder / "zero.bin").symlink_to("/dev/zero")
    (folder / "link.bin").symlink_to("../whole.pt")
    (folder / "pytorch_model.bin.index.json").write_text(INDEXES[name])
    argv = ("study.yaml", "--dry-run", "--set", "model.checkpoint=center")
    assert "center" in refused("surface", *argv, folder=study.folder)


def header(shape, kind="<f4", order="False"):
    text = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npz(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as made:
        for name, content in members.items():
            made.writestr(f"{name}.npy", content)
    return stream.getvalue()


ARRAYS = {
    "no array": lambda: npz(weight=b"x"),
    "nothing": lambda: npz(weight=b""),
    "more than there is": lambda: npz(weight=header("(1000000, 1000000)") + bytes(48)),
    "beyond 64 bits": lambda: npz(weight=header("(4611686018427387904, 8)") + bytes(48)),
    "a negative shape": lambda: npz(weight=header("(-3, -4)") + bytes(48)),
    "objects": lambda: npz(weight=header("(1,)", "|O") + bytes(8)),
    "brackets": lambda: npz(weight=b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000),
    "a call": lambda: npz(weight=header("__import__('os').system('touch executed')") + bytes(48)),
    "a header of four gigabytes": lambda: npz(weight=b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"),
    "types in types": lambda: npz(weight=header("(1,)", "(9999999,9999999)f8") + bytes(48)),
    "cut": lambda: npz(weight=header("(3, 4)") + bytes(48))[:-30],
    "two of one name": lambda: npz(weight=header("(3, 4)") + bytes(48), weighs=header("(3, 4)") + bytes(48)).replace(
        b"weighs", b"weight"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", values(ARRAYS, "more than there is", "a call", "brackets"))
@pytest.mark.filterwarnings("ignore")
def test_arrays_that_mean_harm_are_refused(study, refused, name):
    (study.folder / "center.npz").write_bytes(ARRAYS[name]())
    argv = ("study.yaml", "--dry-run", "--set", "model.checkpoint=center.npz")
    assert "center.npz" in refused("surface", *argv, folder=study.folder)


@pytest.mark.parametrize("seed", values(range(40), 0, 1))
@pytest.mark.parametrize("form", ["safetensors", "npz"])
def test_damaged_weights_are_refused_or_taken_with_the_values_that_are_in_them(study, harmless, seed, form):
    chance = random.Random(seed)
    stream = io.BytesIO()
    np.savez(stream, **{name: value.numpy() for name, value in state().items()})
    content = bytearray(save(state()) if form == "safetensors" else stream.getvalue())
    for _ in range(chance.choice((1, 1, 3, 10))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (study.folder / f"center.{form}").write_bytes(bytes(content))
    argv = ("study.yaml", "--dry-run", "--set", f"model.checkpoint=center.{form}")
    harmless("surface", *argv, folder=study.folder)


def test_the_same_hands_make_files_that_are_taken(tmp_path):
    """The guard of the guards."""
    weight = state()["weight"]
    path = tmp_path / "a.safetensors"
    path.write_bytes(headed({"weight": entry([3, 4], 0, 48)}, weight.numpy().tobytes()))
    assert torch.equal(read_state(path)["weight"], weight)
    path = tmp_path / "a.npz"
    path.write_bytes(npz(weight=header("(3, 4)") + weight.numpy().tobytes()))
    assert torch.equal(read_state(path)["weight"], weight)


@pytest.mark.parametrize("name", ["latest", "pytorch_model.bin", "model.safetensors"])
def test_what_is_no_file_in_a_folder_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(LandscapeError, match="is a folder without weights"):
        read_state(tmp_path)


@pytest.mark.parametrize("tag", ["..", "../x", "/etc", "a/b", "", "x" * 300, "gone\n\x1b[2J"])
def test_a_tag_that_leads_elsewhere_is_refused(tmp_path, tag):
    (tmp_path / "latest").write_text(tag)
    with pytest.raises(LandscapeError, match="latest names") as caught:
        read_state(tmp_path)
    assert str(caught.value).isprintable()
