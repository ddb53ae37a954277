"""Checkpoints that mean harm, or are broken: nothing in them runs, nothing is taken for them, nothing is changed."""

import argparse
import functools
import io
import itertools
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.checkpoints import read_state
from tests.exhaustive import rows, values


class Runs:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def state():
    generator = torch.Generator().manual_seed(3)
    return {"weight": torch.randn(3, 4, generator=generator), "bias": torch.randn(5, generator=generator)}


def archive(content, **entries):
    """A zip archive as torch.save makes it, around any pickle; entries replace or add."""
    stream = io.BytesIO()
    parts = {"data.pkl": content, "byteorder": b"little", "version": b"3\n", **entries}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as made:
        for name, data in parts.items():
            made.writestr(f"archive/{name}", data)
    return stream.getvalue()


def saved(content, **settings):
    stream = io.BytesIO()
    torch.save(content, stream, **settings)
    return stream.getvalue()


SHELL = "touch executed"
CALLS = {
    "os.system": Runs(os.system, SHELL),
    "eval": Runs(eval, f"__import__('os').system('{SHELL}')"),
    "exec": Runs(exec, f"import os; os.system('{SHELL}')"),
    "subprocess": Runs(subprocess.getoutput, SHELL),
    "open for writing": Runs(open, "executed", "w"),
    "unlink": Runs(os.unlink, "center.pt"),
    "torch.load": Runs(torch.load, "center.pt"),
    "torch.hub": Runs(torch.hub.load, "a/b", "c"),
    "numpy.load": Runs(np.load, "center.pt", None, True),
    "pathlib": Runs(Path, "/etc/passwd"),
    "a class of argparse": Runs(argparse.ArgumentParser),
    "a named tuple of the system": Runs(os.stat_result, (0,) * 10),
    "a whole network": torch.nn.Linear(2, 3),
    "a partial function": functools.partial(print, "x"),
    "an exit": Runs(sys.exit, 0),
    "an endless loop": Runs(sum, range(10**12)),
    "memory": Runs(bytearray, 10**13),
}
PROTOCOLS = {
    f"{name}, protocol {protocol}, {form}": (call, protocol, form)
    for number, (name, call) in enumerate(CALLS.items())
    for protocol in ((0, 1, 2, 3, 4, 5) if number < 2 else (2,))
    for form in (("zip", "bare") if number < 2 else ("zip",))
}


@pytest.mark.parametrize(
    ("call", "protocol", "form"),
    rows(
        PROTOCOLS,
        *(f"os.system, protocol {protocol}, {form}" for protocol in (2, 4) for form in ("zip", "bare")),
        *("torch.load, protocol 2, zip", "a whole network, protocol 2, zip", "memory, protocol 2, zip"),
    ),
)
def test_a_pickle_that_calls_is_refused_and_calls_nothing(study, refused, call, protocol, form):
    content = pickle.dumps({"weight": call, "state_dict": state()}, protocol=protocol)
    path = study.folder / "center.pt"
    path.write_bytes(archive(content) if form == "zip" else content)
    assert "center.pt" in refused("surface", "study.yaml", folder=study.folder)


def legacy(content):
    """The oldest form: magic number, protocol, system, then the pickle itself."""
    parts = (
        0x1950A86A20F9469CFC6C,
        1001,
        {"little_endian": True, "protocol_version": 1001, "type_sizes": {}},
    )
    return b"".join(pickle.dumps(part, protocol=2) for part in (*parts, content))


def tar():
    """The form before that, which torch.load would unpack into a folder."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name in ("pickle", "storages", "tensors", "../../escaped"):
            data = pickle.dumps(Runs(os.system, SHELL))
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def bomb(level=zipfile.ZIP_DEFLATED, megabytes=2000):
    """Two gigabytes of zeros for a tensor, in two megabytes."""
    whole = io.BytesIO(saved({"weight": torch.zeros(3, 4), "bias": torch.zeros(5)}))
    stream = io.BytesIO()
    zeros = bytes(2**20)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(stream, "w", level) as made:
        for each in source.infolist():
            with made.open(each.filename, "w", force_zip64=True) as target:
                if each.filename.endswith("data/0"):
                    for _ in range(megabytes):
                        target.write(zeros)
                else:
                    target.write(source.read(each))
    return stream.getvalue()


class Claims:
    """Pickles as a tensor that claims shape, strides and length of a storage which holds twelve floats."""

    def __init__(self, size, stride, *, offset=0, numel=12, kind=torch.FloatStorage):
        self.size, self.stride, self.offset, self.numel, self.kind = size, stride, offset, numel, kind


class Pickler(pickle.Pickler):
    def persistent_id(self, found):
        return ("storage", found.kind, "0", "cpu", found.numel) if isinstance(found, Claims) else None

    def reducer_override(self, found):
        if isinstance(found, Rebuilt):
            claim = found.claim
            return torch._utils._rebuild_tensor_v2, (
                claim,
                claim.offset,
                claim.size,
                claim.stride,
                False,
                OrderedDict(),
            )
        return NotImplemented


class Rebuilt:
    def __init__(self, claim):
        self.claim = claim


def claiming(*arguments, entry=bytes(48), **settings):
    stream = io.BytesIO()
    # The storage stays as a persistent id; what is built of it is a call that torch allows.
    Pickler(stream, protocol=2).dump({"weight": Rebuilt(Claims(*arguments, **settings))})
    return archive(stream.getvalue(), **{"data/0": entry})


def ringed():
    ring = {"epoch": 1}
    for name in ("state_dict", "model", "net", "weights", "params", "network"):
        ring[name] = ring
    return ring


def branching():
    inner = {"epoch": 1}
    for _ in range(40):
        inner = dict.fromkeys(("state_dict", "model", "net", "weights", "params", "network"), inner)
    return inner


def flipped(change, content=None):
    content = bytearray(saved(state()) if content is None else content)
    change(content)
    return bytes(content)


def rewritten(change):
    """A whole archive with one of its parts changed and its sums made right again."""
    with zipfile.ZipFile(io.BytesIO(saved(state()))) as source:
        parts = {each.filename.split("/", 1)[1]: source.read(each) for each in source.infolist()}
    change(parts)
    return archive(**{"content": parts.pop("data.pkl"), **parts})


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def number(value):
    content = pickle.encode_long(value)
    return b"\x8a" + bytes([len(content)]) + content


def text(value):
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def pickled(content):
    return b"\x80\x02" + content + b"."


def grown(count):
    """A text that is written in sixteenths again and again."""
    content = text("x" * 64)
    for _ in range(count):
        content = named("_codecs", "encode") + content + text("hex") + b"\x86R"
    return content


def called(function, *arguments):
    """A call with up to three arguments, each a part of a pickle."""
    return named(*function.rsplit(".", 1)) + b"".join(arguments) + bytes([0x84 + len(arguments)]) + b"R"


def copies(count):
    """A list of copies of the same megabyte: eight bytes of the file for each."""
    kept = text("x" * 2**20) + b"q\x00" + named("_codecs", "encode") + b"q\x01" + text("latin1") + b"q\x02"
    return b"](" + kept + b"h\x01h\x00h\x02\x86R" * count + b"e"


def later(count):
    """Lists that are put into one another when all of them are there."""
    places = [struct.pack("<I", place) for place in range(count)]
    made = b"](" + b"".join(b"]r" + place for place in places) + b"e"
    put = b"".join(b"j" + outer + b"j" + inner + b"a" for outer, inner in itertools.pairwise(places))
    return made + put + b"j" + places[0]


def older(content, places=b"\x80\x02]."):
    """The form in which pickles follow one another, around any pickle."""
    return legacy(None)[:-4] + content + places


MANY = number(150_000_000) + b"\x85"
NOTHING = b"K\x00\x85"
ARRAY = named("numpy", "ndarray")
DOUBLE = called("numpy.dtype", text("f8"), b"\x89", b"\x88")
NO_BYTES = called("_codecs.encode", text(""), text("latin1"))
LAUGHS = b"q\x00h\x00\x86" * 40  # a tuple of twice the one before
LISTS = b"]" + b"q\x00]h\x00ah\x00a" * 40

# The pickle, and what the refusal says of it. Each would take a gigabyte or more, end the process, or go on for ever.
BOMBS = {
    "an array of objects": (called("numpy.ndarray", MANY, text("O")), "does not call"),
    "an array of objects, begun": (
        called("numpy.core.multiarray._reconstruct", ARRAY, MANY, text("O")), "begun empty"
    ),
    "an array of bytes, begun": (
        called("numpy._core.multiarray._reconstruct", ARRAY, MANY, text("b")), "begun empty"
    ),
    "an array of numbers that are not there": (
        called("numpy.core.multiarray._reconstruct", ARRAY, NOTHING, text("b"))
        + b"(K\x01" + MANY + DOUBLE + b"\x89" + NO_BYTES + b"tb",
        "other values than its shape says",
    ),
    "a number that is not there": (called("numpy.core.multiarray.scalar", DOUBLE, NO_BYTES), "a number of numpy"),
    "a type of texts": (called("numpy.dtype", text("S200000000"), b"\x89", b"\x88"), "numpy.dtypes.BytesDType"),
    "a type of many": (called("numpy.dtype", text("(1000000,1000000)f8"), b"\x89", b"\x88"), "numpy.dtype"),
    "a type whose size is said later": (
        DOUBLE + b"(K\x03" + text("<") + b"NNN" + number(2**31) + b"K\x01K\x00tb", "a type of numbers"
    ),
    "bytes": (called("builtins.bytearray", number(2**31)), "bytes that are none"),
    "bytes as Python 2 names them": (called("__builtin__.bytearray", number(2**31)), "bytes that are none"),
    "a tensor of nothing": (called("torch.Tensor", number(2**31)), "does not call"),
    "a storage of nothing": (called("torch.storage.UntypedStorage", number(2**31)), "does not call"),
    "a text in sixteenths": (grown(24), "no text in Latin-1"),
    "a text that is compressed": (called("_codecs.encode", text("x"), text("zlib")), "no text in Latin-1"),
    "copies of a megabyte": (copies(2000), "more than it holds"),
    "empty sets": (b"](" + b"\x8f" * 5_000_000 + b"e", "more than it holds"),
    "empty mappings": (b"](" + b"}" * 5_000_000 + b"e", "more than it holds"),
    "marks": (b"(" * 10_000_000, "more than it holds"),
    "letters of four bytes": (text("\U0001f600" + "x" * 2**28), "more than it holds"),
    "a key of tuples": (b"})" + b"\x85" * 3_000_000 + b"Ns", "nested more than 100 deep"),
    "a member of tuples": (called("builtins.set", b"])" + b"\x85" * 101 + b"a"), "nested more than 100 deep"),
    "a key of a million million": (b"})" + LAUGHS + b"Ns", "a key of more than 1000 items"),
    "a member of a million million": (
        called("builtins.set", b"])" + LAUGHS + b"a"), "a key of more than 1000 items"
    ),
    "an ordered key of a million million": (
        called("collections.OrderedDict", b"]])" + LAUGHS + b"aNaa"), "a key of more than 1000 items"
    ),
    "lists in lists": (b"]" * 500_000 + b"a" * 499_999, "nested more than 100 deep"),
    "lists that are put in lists later": (later(100_000), "nested more than 100 deep"),
    "a list that holds itself": (b"]q\x00h\x00a", "holds itself"),
    "a call of a million million": (LISTS + b")R", "no name"),
    "a storage that is named by a million million": (LISTS + b"\x85Q", "without its description"),
}  # fmt: skip


@pytest.mark.parametrize("form", ["zip", "older"])
@pytest.mark.parametrize(
    ("content", "words"),
    rows(
        BOMBS,
        "an array of objects",
        "an array of numbers that are not there",
        "bytes",
        "a text in sixteenths",
        "copies of a megabyte",
        "empty sets",
        "a key of tuples",
        "a key of a million million",
        "lists that are put in lists later",
        "a list that holds itself",
    ),
)
def test_what_stands_for_more_than_it_holds_is_refused_before_it_is_made(
    tmp_path, content, words, form, record_property
):
    path = tmp_path / "bomb.pt"
    path.write_bytes(archive(pickled(content)) if form == "zip" else older(pickled(content)))
    with pytest.raises(LandscapeError, match=re.escape(words)) as caught:
        read_state(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "MemoryError" not in str(caught.value)
    record_property("bytes:", str(path.stat().st_size))
    record_property("refused:", str(caught.value).removeprefix(f"{path}: ")[:90])


def held(content, count, further=b""):
    """A pickle of one tensor: of its shape and strides, of a storage that claims a length."""
    described = (
        text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu") + number(count) + further
    )
    tensor = named("torch._utils", "_rebuild_tensor_v2") + b"((" + described + b"tQ" + content + b"\x89)tR"
    return pickled(b"}" + text("weight") + tensor + b"s")


def lengths(*numbers):
    return b"(" + b"".join(map(number, numbers)) + b"t"


STORED = b"\x80\x02]" + text("0") + b"a." + struct.pack("<q", 12) + bytes(48)
TENSORS = {
    "a stride of nothing": (lengths(10**5, 10**5) + lengths(0, 0), 12, "more than it holds"),
    "strides that overlap": (lengths(6, *[2] * 60) + lengths(1, *[0] * 60), 12, "more than it holds"),
    "a shape beyond the storage": (lengths(3, 10**9) + lengths(1, 3), 12, "beyond the end of its storage"),
    "a storage beyond the file": (lengths(3, 4) + lengths(4, 1), 2**34, "not all there"),
    "a thousand lengths": (lengths(*[2**62] * 1000) + lengths(*[0] * 1000), 12, "without shape"),
    "a negative length": (lengths(-3, 4) + lengths(4, 1), 12, "without shape"),
    "strides of another number": (lengths(3, 4) + lengths(4), 12, "without shape"),
}


@pytest.mark.parametrize("form", ["zip", "older"])
@pytest.mark.parametrize(("shape", "count", "words"), TENSORS.values(), ids=TENSORS)
def test_a_tensor_that_is_larger_than_its_storage_is_refused(tmp_path, shape, count, words, form):
    path = tmp_path / "bomb.pt"
    content = held(b"K\x00" + shape, count, further=b"" if form == "zip" else b"N")
    path.write_bytes(archive(content, **{"data/0": bytes(48)}) if form == "zip" else older(content, STORED))
    with pytest.raises(LandscapeError, match=words):
        read_state(path)


@pytest.mark.parametrize("form", ["zip", "older"])
def test_a_tensor_that_is_as_large_as_its_storage_is_read(tmp_path, form):
    """The guard of the guards: the same hands make a file that is taken."""
    path = tmp_path / "sound.pt"
    content = held(b"K\x00" + lengths(3, 4) + lengths(4, 1), 12, further=b"" if form == "zip" else b"N")
    path.write_bytes(archive(content, **{"data/0": bytes(48)}) if form == "zip" else older(content, STORED))
    assert torch.equal(read_state(path)["weight"], torch.zeros(3, 4))


def deflated(*names, level=zipfile.ZIP_DEFLATED):
    """An archive whose pickle is compressed, beside entries of any name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", level) as made:
        made.writestr("archive/data.pkl", pickled(b"}" + text("x" * 2**26) + b"Ns"))
        for name in ("archive/version", *names):
            made.writestr(name, b"3\n")
    return stream.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "archive/data/0",
        "archive/constants.pkl",
        "archive/my_constants.pkl",
        "archive/x/constants.pkl",
        "constants.pkl",
    ],
)
@pytest.mark.parametrize(
    "level", values((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA), zipfile.ZIP_DEFLATED)
)
def test_a_compressed_archive_is_refused_whatever_else_is_in_it(tmp_path, name, level):
    path = tmp_path / "bomb.pt"
    path.write_bytes(deflated(name, level=level))
    with pytest.raises(LandscapeError, match=r"is compressed|is a TorchScript archive|does not write"):
        read_state(path)


ARCHIVES = {
    "a directory of millions": lambda whole: struct.pack("<4s6H3L5H2L", b"PK\1\2", *[0] * 16) * 2_000_000 + b"PK\5\6"
    + struct.pack("<4H2LH", 0, 0, 0, 0, 46 * 2_000_000, 0, 0),
    "a name twice": lambda whole: archive(b"", **{"data.pkl ": b""}).replace(b"data.pkl ", b"data.pkl/"),
    "a directory beyond the end": lambda _: archive(pickle.dumps({}, 2))[:-6] + b"\xff\xff\xff\x7f" + bytes(2),
    "an entry beyond the end": lambda whole: whole.replace(b"PK\1\2", b"PK\1\2" + b"\xff" * 24, 1),
    "a directory of 64 bits beyond the end": lambda whole: whole[:-22]
    + struct.pack("<4sLQL", b"PK\6\7", 0, 2**63, 1) + whole[-22:],
}  # fmt: skip


@pytest.mark.parametrize("change", ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_with_another_directory_is_refused(tmp_path, change):
    path = tmp_path / "bomb.pt"
    content = change(saved(state()))
    path.write_bytes(content if content.startswith(b"PK\3\4") else b"PK\3\4" + content)
    with pytest.raises(LandscapeError, match=r"damaged|more than it holds"):
        read_state(path)


@pytest.mark.parametrize("count", [1, 9, 100_000])
def test_a_name_with_any_number_of_prefixes_is_read(tmp_path, count):
    torch.save({"module." * count + "weight": torch.zeros(2)}, tmp_path / "a.pt")
    (name,) = read_state(tmp_path / "a.pt")
    assert name == "module." * max(0, count - 9) + "weight"


QUANTISED = {
    "weight": torch.quantize_per_tensor(torch.ones(3, 4), 0.1, 0, torch.qint8),
    "bias": torch.zeros(5),
}
FILES = {
    "nothing": b"",
    "a byte": b"P",
    "the sign of an archive": b"PK\x03\x04",
    "text": b"hello\n" * 100,
    "zeros": bytes(10_000),
    "noise": random.Random(5).randbytes(10_000),
    "an archive of nothing": b"PK\x05\x06" + bytes(18),
    "an archive of another kind": archive(b"x", **{"mimetype": b"x"})[:-22],
    "a compressed archive": bomb(megabytes=1),
    "a bomb of two gigabytes": bomb,  # made by its test alone: it takes seconds
    "a pickle of the oldest kind that calls": legacy({"weight": Runs(os.system, SHELL)}),
    "a tar that calls": tar(),
    "the form of torch 1.5 that calls": saved(
        {"weight": Runs(os.system, SHELL)}, _use_new_zipfile_serialization=False
    ),
    "an endless memo": archive(b"\x80\x02}q\x00" + b"h\x00" * 100_000 + b"."),
    "a stack of marks": archive(b"\x80\x02" + b"(" * 1_000_000 + b"."),
    "a stack of lists": archive(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."),
    "a text that claims four gigabytes": archive(b"\x80\x02X\xff\xff\xff\xffabc."),
    "a number that claims two gigabytes": archive(b"\x80\x02\x8b\xff\xff\xff\x7fabc."),
    "a memo beyond all": archive(b"\x80\x02]r\xff\xff\xff\xff."),
    "a pickle without end": archive(pickle.dumps({"weight": 1})[:-1]),
    "an array of objects": saved({"weight": np.array([Runs(os.system, SHELL)], dtype=object)}),
    "an array that claims objects": archive(pickle.dumps({"weight": np.zeros(3, dtype="O")}, protocol=2)),
    "a mapping with a factory": saved(defaultdict(list, a=[1])),
    "a namespace": saved(argparse.Namespace(state_dict=1)),
    "a list of tensors": saved([torch.zeros(2)]),
    "a tensor": saved(torch.zeros(2)),
    "a mapping of nothing": saved({}),
    "a mapping of numbers": saved({"weight": 1, "bias": 2}),
    "numbers for names": saved({1: torch.zeros(3, 4), 2: torch.zeros(5)}),
    "keys of a megabyte": saved({"x" * 1_000_000: 1}),
    "a hundred thousand names": saved({f"n{n}": torch.zeros(()) for n in range(5_000)}),
    "a mapping that holds itself": saved(ringed()),
    "mappings in mappings, six to the forty": saved(branching()),
    "a sparse tensor": saved({**state(), "weight": torch.eye(3, 4).to_sparse()}),
    "a sparse tensor by rows": saved({**state(), "weight": torch.eye(3, 4).to_sparse_csr()}),
    "a quantised tensor": saved(QUANTISED),
    "a tensor without values": saved({**state(), "weight": torch.empty(3, 4, device="meta")}),
    "a complex tensor": saved({**state(), "weight": torch.ones(3, 4, dtype=torch.complex64)}),
    "a nested tensor": saved({**state(), "weight": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}),
    "tensors of other shapes": saved({**state(), "weight": torch.ones(4, 3)}),
    "tensors of no dimension": saved({name: torch.zeros(()) for name in state()}),
    "tensors of no values": saved({name: torch.zeros(0, 4) for name in state()}),
    "a tensor of a trillion, by a stride of nothing": saved({**state(), "weight": torch.zeros(1).expand(10**6, 10**6)}),
    "a shape beyond its storage": claiming((3, 4_000), (4_000, 1)),
    "a shape of ten to the twelve": claiming((10**6, 10**6), (10**6, 1)),
    "a shape beyond sixty-four bits": claiming((2**62, 2**62), (2**62, 1)),
    "a negative shape": claiming((-3, 4), (4, 1)),
    "a negative stride": claiming((3, 4), (-4, 1)),
    "an offset before its storage": claiming((3, 4), (4, 1), offset=-100),
    "an offset behind its storage": claiming((3, 4), (4, 1), offset=10**9),
    "a storage longer than it is": claiming((300, 400), (400, 1), numel=120_000),
    "a storage of negative length": claiming((3, 4), (4, 1), numel=-5),
    "a storage that is not there": claiming((3, 4), (4, 1)).replace(b"data/0", b"data/1"),
    "a byte order of its own": rewritten(lambda parts: parts.update(byteorder=b"middle")),
    "a version from the future": rewritten(lambda parts: parts.update(version=b"999999999999\n")),
    "a version that is none": rewritten(lambda parts: parts.update(version=b"x\n")),
    "no pickle": archive(b"").replace(b"data.pkl", b"data.pkk"),
    "a TorchScript archive": rewritten(lambda parts: parts.update({"constants.pkl": b"\x80\x02]."})),
}  # fmt: skip
WAYS = {
    "the center": ["surface", "study.yaml", "--dry-run"],
    "a direction's end": ["surface", "study.yaml", "--set", "model.checkpoint=whole.pt",
                          "--set", "directions.alpha={kind: difference, to: center.pt}"],
    "a direction": ["surface", "study.yaml", "--set", "model.checkpoint=whole.pt",
                    "--set", "directions.alpha={kind: file, path: center.pt}"],
    "a training's start": ["train", "study.yaml", "--dry-run", "--set",
                           "training={output: run, epochs: 1, batch_size: 5, start: center.pt}"],
}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    rows(
        FILES,
        "nothing",
        "noise",
        "a bomb of two gigabytes",
        "a pickle of the oldest kind that calls",
        "a tar that calls",
        "a stack of marks",
        "a text that claims four gigabytes",
        "an array of objects",
        "a tensor",
        "mappings in mappings, six to the forty",
        "a sparse tensor",
        "a quantised tensor",
        "tensors of other shapes",
        "a shape of ten to the twelve",
        "an offset behind its storage",
        "a storage that is not there",
        "no pickle",
        "a TorchScript archive",
    ),
)
def test_a_file_that_is_no_checkpoint_of_the_network_is_refused_wherever_it_is_named(study, refused, content):
    (study.folder / "whole.pt").write_bytes((study.folder / "center.pt").read_bytes())
    (study.folder / "center.pt").write_bytes(content() if callable(content) else content)
    for argv in WAYS.values():
        assert "center.pt" in refused(*argv, folder=study.folder)


# A direction is taken from a mapping by the names that the network has, whatever else is in it.
LARGER = {
    "an escape sequence for a name": saved({"\x1b[2J\x1b]0;owned\x07": torch.zeros(3), **state()}),
    "a name of a megabyte": saved({"x" * 1_000_000: torch.zeros(3), **state()}),
}


@pytest.mark.parametrize("content", rows(LARGER, "an escape sequence for a name"))
def test_tensors_that_the_network_has_not_are_refused_in_a_short_line(study, refused, content):
    (study.folder / "whole.pt").write_bytes((study.folder / "center.pt").read_bytes())
    (study.folder / "center.pt").write_bytes(content)
    for way in WAYS.keys() - {"a direction"}:
        assert "center.pt" in refused(*WAYS[way], folder=study.folder)


@pytest.mark.parametrize("seed", values(range(60), 0, 1))
def test_a_damaged_checkpoint_is_refused_or_taken_with_the_values_that_are_in_it(study, harmless, seed):
    """torch.load checks no sums, so a value may be another one; nothing else may come of it."""
    chance = random.Random(seed)
    whole = saved(state(), _use_new_zipfile_serialization=seed % 3 > 0)
    content = bytearray(whole)
    if seed % 4 == 0:
        content = content[: chance.randrange(len(content))]
    else:
        for _ in range(chance.choice((1, 1, 3, 10))):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (study.folder / "center.pt").write_bytes(bytes(content))
    harmless("surface", "study.yaml", "--dry-run", folder=study.folder)


def test_an_archive_that_claims_more_than_it_holds_shows_nothing_of_the_memory_behind(tmp_path):
    # As long as the file allows, the values are those of the file; nothing else may be seen.
    path = tmp_path / "claims.pt"
    path.write_bytes(claiming((40,), (1,), numel=40, entry=struct.pack("<12f", *range(12))))
    try:
        found = read_state(path)["weight"].numpy().tobytes()
    except LandscapeError:
        return
    assert found in path.read_bytes()


def test_the_sums_of_an_archive_are_not_needed_to_know_that_a_checkpoint_is_sound(study):
    """The guard of the guards: the same hands make a file that is taken."""
    path = study.folder / "made.pt"
    path.write_bytes(rewritten(lambda parts: None))
    assert torch.equal(read_state(path)["weight"], state()["weight"])
    path.write_bytes(claiming((3, 4), (4, 1), entry=state()["weight"].numpy().tobytes()))
    assert torch.equal(read_state(path)["weight"], state()["weight"])


NUMPY = {
    "nothing": b"",
    "the sign alone": b"\x93NUMPY",
    "a version that is none": b"\x93NUMPY\xff\xff" + bytes(100),
    "objects": None,
    "a header of brackets": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,
    "a header of minus signs": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"-" * 9000,
    "a header that calls": b"\x93NUMPY\x01\x00" + struct.pack("<H", 40) + b"__import__('os').system('touch x')      ",
    "a header of four gigabytes": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "a trillion values": None,
    "several arrays": None,
    "a pickle": pickle.dumps(Runs(os.system, SHELL)),
}  # fmt: skip


def header(shape, kind="<f4"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("name", values(NUMPY, "nothing", "objects", "a trillion values"))
def test_an_array_that_means_harm_is_refused(study, refused, name):
    path = study.folder / "direction.npy"
    if name == "objects":
        np.save(path, np.array([Runs(os.system, SHELL)], dtype=object), allow_pickle=True)
    elif name == "several arrays":
        with path.open("wb") as stream:
            np.savez(stream, a=np.zeros(17, np.float32))
    elif name == "a trillion values":
        path.write_bytes(header("(1000000, 1000000)"))
    else:
        path.write_bytes(NUMPY[name])
    argv = ("study.yaml", "--set", "directions.alpha={kind: file, path: direction.npy}")
    assert "direction.npy" in refused("surface", *argv, folder=study.folder)
