"""Files made by chance: sound ones with something changed, and ones that follow the grammar of their kind."""

import contextlib
import io
import os
import pickle
import string
import struct
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
import yaml
from hypothesis import strategies as st

import mpi_landscape
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.configuration.shape import scalar_fields
from mpi_landscape.storage.history.records import HistoryWriter, create_history
from tests.trust.conftest import fill

SUFFIXES = {"checkpoint": ".pt", "configuration": ".yaml", "surface": ".h5"}
_HUGE = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)


class Contents(tuple):
    """Bytes of files, which hypothesis is not to print."""

    def __repr__(self) -> str:
        return f"Contents of {len(self)} files"


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Sound files of every kind."""

    checkpoints: Contents
    configurations: Contents
    surfaces: Contents


def seeds_of(folder: Path) -> Seeds:
    """Small files, made in a folder by torch and by the programs."""
    return Seeds(
        checkpoints=_checkpoints(),
        configurations=_configurations(),
        surfaces=_surfaces(folder),
    )


def _configurations() -> Contents:
    """Whole ones, that build on no other."""
    folder = Path(mpi_landscape.__file__).parents[1] / "configs"
    texts = [path.read_bytes() for path in sorted(folder.rglob("*.yaml"))]
    return Contents(
        text for text in texts if b"base:" not in text and b"\nmodel:" in text and b"\ndata:" in text
    )


def _checkpoints() -> Contents:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    content = {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "best": np.float64(0.5),
        "history": np.arange(4.0),
        "random": np.random.RandomState(3).get_state(),
    }
    made = []
    for each in (content, model.state_dict()):
        for is_new in (True, False):
            stream = io.BytesIO()
            torch.save(each, stream, _use_new_zipfile_serialization=is_new)
            made.append(stream.getvalue())
    return Contents(made)


def _surfaces(folder: Path) -> Contents:
    fill(folder)
    house = str(Path(mpi_landscape.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((house, str(folder))), "OMP_NUM_THREADS": "1"}
    for name, options in {
        "surface.h5": (),
        "sampled.h5": ("--relative-error", "0.5", "--set", "compute.data_shards=auto"),
    }.items():
        subprocess.run(
            [sys.executable, "-m", "mpi_landscape.surface", "study.yaml", "--output", name, *options],
            cwd=folder, env=environment, check=True, capture_output=True,
        )  # fmt: skip
    create_history(folder / "history.h5", num_epochs=3, splits=("train",), attributes={"title": "net"})
    with HistoryWriter(folder / "history.h5") as writer:
        writer.record(0, {"train_loss": 2.0}, phase=0)
    names = ("surface.h5", "sampled.h5", "history.h5")
    return Contents((folder / name).read_bytes() for name in names)


@st.composite
def mutated(draw, contents: Contents, further: Contents | None = None) -> bytes:
    """A sound file with bits turned, ranges repeated, removed or exchanged, numbers made huge, or pieces put in."""
    content = bytearray(contents[draw(st.integers(0, len(contents) - 1))])
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3, 6)))):
        if not content:
            break
        place = draw(st.integers(0, len(content) - 1))
        length = draw(st.sampled_from((1, 2, 4, 8, 16, 64, 500)))
        kind = draw(st.integers(0, 6))
        if kind == 0:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == 1:
            content[place:place] = content[place : place + length] * draw(st.sampled_from((1, 2, 50, 1000)))
        elif kind == 2:
            del content[place : place + length]
        elif kind == 3:
            size = draw(st.sampled_from((1, 2, 4, 8)))
            number = draw(st.sampled_from(_HUGE)) % 256**size
            content[place : place + size] = number.to_bytes(size, draw(st.sampled_from(("little", "big"))))
        elif kind == 4:
            content[place:place] = draw(st.binary(max_size=8))
        elif kind == 5 and further:
            content[place:place] = draw(st.sampled_from(further)) * draw(st.sampled_from((1, 1, 40, 3000)))
        else:
            other = draw(st.integers(0, len(content) - 1))
            content[place : place + length] = content[other : other + length]
    return bytes(content)


_OPERATIONS = tuple(
    value
    for name, value in vars(pickle).items()
    if name.isupper() and isinstance(value, bytes) and len(value) == 1
)
_NAMES = (
    "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_qtensor", "torch._utils._rebuild_sparse_tensor", "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_meta_tensor_no_storage", "torch.nn.parameter.Parameter", "torch.Size", "torch.device",
    "torch.FloatStorage", "torch.LongStorage", "torch.storage.UntypedStorage", "torch.Tensor", "torch.float32",
    "collections.OrderedDict", "collections.Counter", "collections.defaultdict", "argparse.Namespace", "builtins.set",
    "builtins.bytearray", "__builtin__.bytearray", "builtins.complex", "_codecs.encode", "numpy.dtype", "numpy.ndarray",
    "numpy.core.multiarray.scalar", "numpy._core.multiarray._reconstruct", "os.system", "builtins.eval",
)  # fmt: skip


def _named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def _number(value: int) -> bytes:
    content = pickle.encode_long(value)
    return b"\x8a" + bytes([len(content)]) + content


def _text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


_STORAGE = b"(" + _text("storage") + _named("torch.FloatStorage") + _text("0") + _text("cpu")
_LEAVES = (
    st.sampled_from((b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f"))
    | st.sampled_from((*_HUGE, -1, -(2**63))).map(_number)
    | st.sampled_from(("", "0", "weight", "state_dict", "latin1", "hex", "f8", "O", "S9", "b", "<", "module.", "x" * 5000)
                      ).map(_text)
    | st.sampled_from(_NAMES).map(_named)
    | st.integers(0, 5).map(lambda place: b"h" + bytes([place]))
    | st.sampled_from((12, 0, 13, 2**40)).map(lambda count: _STORAGE + _number(count) + b"tQ")
    | st.sampled_from((12, 2**40)).map(lambda count: _STORAGE + _number(count) + b"NtQ")
)  # fmt: skip


def _larger(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    several = st.lists(inner, max_size=6).map(b"".join)
    calls = st.builds(lambda name, each, end: _named(name) + b"(" + each + b"t" + end,
                      st.sampled_from(_NAMES), several, st.sampled_from((b"R", b"R", b"R", b"\x81")))  # fmt: skip
    tensors = st.builds(
        lambda count, offset, size, stride: _named("torch._utils._rebuild_tensor_v2") + b"(" + _STORAGE + _number(count)
        + b"tQ" + _number(offset) + size + stride + b"\x89)tR",
        st.sampled_from((12, 12, 0, 2**40)), st.sampled_from((0, 0, 3, 2**63)), _SHAPES, _SHAPES,
    )  # fmt: skip
    return (
        several.map(lambda each: b"(" + each + b"t")
        | several.map(lambda each: b"](" + each + b"e")
        | st.lists(st.tuples(inner, inner), max_size=4).map(lambda pairs: b"}(" + b"".join(map(b"".join, pairs)) + b"u")
        | calls
        | tensors
        | st.builds(lambda value, state: value + state + b"b", inner, inner)
        | st.builds(lambda value, place: value + b"q" + bytes([place]), inner, st.integers(0, 5))
        | st.builds(lambda value, end, count: value + end * count, inner,
                    st.sampled_from((b"\x85", b"q\x00h\x00\x86", b"]q\x00h\x00a", b"h\x01", b"\x8f", b"(")),
                    st.sampled_from((1, 2, 40, 5000)))
        | st.sampled_from(_OPERATIONS).flatmap(lambda operation: inner.map(lambda value: value + operation))
    )  # fmt: skip


_SHAPES = st.lists(st.sampled_from((0, 1, 2, 3, 4, 12, 10**6, 2**40, 2**63 - 1)), max_size=4).map(
    lambda lengths: b"(" + b"".join(map(_number, lengths)) + b"t"
)
_PICKLES = st.recursive(_LEAVES, _larger, max_leaves=25)


def _archived(content: bytes, level: int, names: list[str]) -> bytes:
    stream = io.BytesIO()
    parts = {"data.pkl": content, "byteorder": b"little", "version": b"3\n", "data/0": bytes(48)}
    with zipfile.ZipFile(stream, "w", level) as made:
        for name, data in [*parts.items(), *((name, b"") for name in names)]:
            made.writestr(f"archive/{name}", data)
    return stream.getvalue()


def _followed(content: bytes) -> bytes:
    begin = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    places = b"\x80\x02]" + _text("0") + b"a." + struct.pack("<q", 12) + bytes(48)
    return b"".join(pickle.dumps(part, protocol=2) for part in begin) + content + places


def _of_grammar() -> st.SearchStrategy[bytes]:
    held = st.sampled_from(
        (b"%s", b"}" + _text("weight") + b"%ss", b"}" + _text("state_dict") + b"}" + _text("a") + b"%sss")
    )
    pickles = st.builds(
        lambda form, content: b"\x80\x02" + form.replace(b"%s", content) + b".", held, _PICKLES
    )
    archives = st.builds(
        _archived,
        pickles,
        st.sampled_from((0, 0, 0, 8)),
        st.lists(st.sampled_from(("constants.pkl", "data/1", "x")), max_size=1),
    )
    return archives | pickles.map(_followed)


def _with_pickle_changed(contents: Contents) -> st.SearchStrategy[bytes]:
    """Archives whose pickle has something changed and whose directory is right."""
    pickles = []
    for each in contents:
        if each.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(each)) as source:
                pickles.append(
                    next(source.read(name) for name in source.namelist() if name.endswith("/data.pkl"))
                )
    pieces = (
        *_OPERATIONS,
        *map(_named, _NAMES),
        *map(_number, _HUGE),
        b"\x85",
        b"q\x00h\x00\x86",
        b"}",
        b"\x8f",
        b"](",
    )
    return st.builds(_archived, mutated(Contents(pickles), Contents(pieces)), st.just(0), st.just([]))


def checkpoints(seeds: Seeds) -> st.SearchStrategy[bytes]:
    """Checkpoints of both forms."""
    return (
        mutated(seeds.checkpoints, Contents(_OPERATIONS))
        | _with_pickle_changed(seeds.checkpoints)
        | _of_grammar()
    )


_FIELDS = sorted(
    {step for path in scalar_fields(Configuration, path="sweep") for step in path.split(".")} | {"base"}
)
_SIGNS = tuple(
    each.encode()
    for each in (
        *_FIELDS,
        *"[]{}:,-?&*!|>'\"%@`#\n",
        *("\n  ", ": ", "- ", "? ", "&a ", "*a", "<<: ", "---\n", "\\x", "1e9", "0x", ".nan", "1" * 50),
        *("!!int ", "!!binary ", "!!python/name:os.system ", "!!set ", "!!omap "),
    )
)
_SECTIONS = ("model", "data", "loss", "grid", "directions", "compute", "training", "output", "sweep", "title")


def _written(value: object) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True, default_flow_style=None).encode(errors="replace")


def configurations(seeds: Seeds) -> st.SearchStrategy[bytes]:
    """Configurations, some with an option behind a NUL."""
    keys = (
        st.sampled_from(_FIELDS)
        | st.text(max_size=5)
        | st.lists(st.sampled_from(_FIELDS), max_size=70).map(".".join)
    )
    values = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=8)
        | st.sampled_from(("mlp", "digits", "auto", "cpu", "random", "cross_entropy", [-1, 1, 5]))
    )  # fmt: skip
    nests = st.recursive(
        values,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=25,
    )
    section = st.dictionaries(st.sampled_from(_FIELDS), nests, max_size=6)
    whole = st.dictionaries(st.sampled_from(_SECTIONS), section | nests, max_size=8).map(_written)
    signs = st.lists(st.sampled_from(_SIGNS), max_size=60).map(b"".join)
    repeated = st.builds(
        lambda sign, count, end: sign * count + end, signs, st.sampled_from((1, 30, 3000)), signs
    )
    texts = mutated(seeds.configurations, Contents(_SIGNS)) | whole | signs | repeated
    options = st.builds(
        lambda key, value: f"{key}={value}".encode(errors="replace"),
        keys,
        st.text(max_size=20) | st.sampled_from(("[" * 99, "1")),
    )
    return texts | st.builds(
        lambda text, option: text.replace(b"\0", b"") + b"\0" + option,
        st.integers(0, len(seeds.configurations) - 1).map(seeds.configurations.__getitem__),
        options,
    )


_TYPES = ("f8", "f4", "i8", "u1", "S5", "V8", "?", "c16", "O")
_PLACES = ("alpha", "beta", "train_loss", "test_loss", "tiles/status", "tiles/checksum", "tiles/train_sums", "tiles/target",
           "tiles/train_order", "tiles/train_strata", "directions/center", "directions/alpha", "directions/tensor_name",
           "directions/tensor_shape", "epoch", "phase", "tiles", "directions")  # fmt: skip
_WORDS = (
    "rm -rf /",
    "'",
    "[" * 3000,
    "\x1b[2J",
    "a\nb",
    "train, test",
    "python -m mpi_landscape.surface a.yaml 'x",
    "9" * 5000,
    "history",
    "1,-5",
)


@st.composite
def _edited(draw, contents: Contents) -> bytes:
    """A surface file with attributes and datasets exchanged by HDF5 itself."""
    content = contents[draw(st.integers(0, len(contents) - 1))]
    with tempfile.NamedTemporaryFile(suffix=".h5") as place:
        Path(place.name).write_bytes(content)
        with h5py.File(place.name, "r+") as file:
            for _ in range(draw(st.integers(1, 4))):
                # What has been made of it may have no such place any more.
                with contextlib.suppress(KeyError, OSError, ValueError, TypeError, RuntimeError):
                    _edit(draw, file)
        return Path(place.name).read_bytes()


def _edit(draw, file: h5py.File) -> None:
    kind = draw(st.integers(0, 3))
    if kind == 0:
        name = draw(st.sampled_from((*sorted(file.attrs), "precision_error", "certificate_a_loss")))
        value = draw(
            st.sampled_from(_HUGE[:-1]) | st.sampled_from(_WORDS) | st.floats() | st.binary(min_size=1, max_size=20).map(np.void)
            | st.lists(st.integers(-3, 2**40), min_size=1, max_size=4)
        )  # fmt: skip
        if name in file.attrs:
            del file.attrs[name]
        file.attrs[name] = value
        return
    name = draw(st.sampled_from(_PLACES))
    if name not in file:
        return
    old = file[name]
    if kind == 1 and isinstance(old, h5py.Dataset) and old.dtype.kind in "fiu" and 0 < old.size < 1000:
        values = old[...]
        values.reshape(-1)[draw(st.integers(0, old.size - 1))] = draw(st.sampled_from((0, 1, 3, 255, 7)))
        old[...] = values
        return
    del file[name]
    if kind == 2:
        shape = draw(st.lists(st.sampled_from((0, 1, 3, 5, 15, 10**6, 2**31)), max_size=3))
        number = draw(st.sampled_from(_TYPES))
        chunks = True if shape and 0 not in shape and draw(st.booleans()) else None
        kind_of = h5py.string_dtype() if number == "O" else number
        file.create_dataset(name, shape=tuple(shape), dtype=kind_of, chunks=chunks)
    elif draw(st.booleans()):
        file[name] = draw(
            st.sampled_from((h5py.SoftLink("/alpha"), h5py.ExternalLink("x.h5", "/alpha"), file["/"]))
        )


def surfaces(seeds: Seeds) -> st.SearchStrategy[bytes]:
    """Surface files and histories."""
    return mutated(seeds.surfaces) | _edited(seeds.surfaces)


INPUTS = {"checkpoint": checkpoints, "configuration": configurations, "surface": surfaces}
