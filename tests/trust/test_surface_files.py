"""Surface files and histories that mean harm, or are broken, for everything that reads them."""

import json
import random
import re
import shutil
import struct

import h5py
import numpy as np
import pytest

from mpi_landscape.storage.files import read_attributes
from mpi_landscape.storage.history.records import HistoryWriter, create_history
from tests import exhaustive


@pytest.fixture(scope="session")
def whole(tmp_path_factory, cage, filled):
    """A study with its surface, one half done, one of samples, and a history: all sound."""
    folder = tmp_path_factory.mktemp("whole")
    filled(folder)
    for name, options in {
        "surface.h5": (),
        "sampled.h5": ("--relative-error", "0.5", "--set", "compute.data_shards=auto"),
        "line.h5": ("--line",),
    }.items():
        ended = cage("surface", "study.yaml", "--output", name, *options, folder=folder)
        assert ended.status == 0, ended
    create_history(
        folder / "history.h5",
        num_epochs=5,
        splits=("train", "test"),
        attributes={"title": "net on data", "identity_model": "net"},
    )
    with HistoryWriter(folder / "history.h5") as writer:
        for number in range(4):
            values = {"train_loss": 2.0 / (number + 1), "test_accuracy": number / 8, "learning_rate": 0.1}
            writer.record(number, values | {"weight_norm": 3.5 + number}, phase=number // 2)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    """The whole study once more, to be spoiled."""
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    return folder


def readers(folder, name):
    """Every program that reads such a file, with pictures going elsewhere."""
    pictures = folder.parent / "pictures"
    return [
        ("inspect", name),
        ("inspect", name, "--json"),
        ("plotting", name, "--kind", "all", "--output", f"{pictures}/", "--dpi", "20"),
    ]


def test_the_sound_files_are_read_by_every_program(copy, harmless):
    for name in ("surface.h5", "sampled.h5", "line.h5", "history.h5"):
        for program, *argv in readers(copy, name):
            assert harmless(program, *argv, folder=copy).status == 0, name


def attribute(name, value):
    def change(file):
        if name in file.attrs:
            del file.attrs[name]
        file.attrs[name] = value

    return change


def units(name, value):
    return lambda file: file[name].attrs.__setitem__("units", value)


def without(name):
    return lambda file: file.attrs.__delitem__(name)


def dataset(name, value=None, **settings):
    """Another dataset under the name of one that is there."""

    def change(file):
        del file[name]
        if value is None:
            file.create_dataset(name, **settings)
        else:
            file[name] = value

    return change


def values(name, change):
    def edit(file):
        data = file[name][...]
        file[name][...] = change(data)

    return edit


def linked(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


def virtual(name, source):
    def change(file):
        shape, dtype = file[name].shape, file[name].dtype
        layout = h5py.VirtualLayout(shape=shape, dtype=dtype)
        layout[...] = h5py.VirtualSource(source, name, shape=shape)
        del file[name]
        file.create_virtual_dataset(name, layout)

    return change


def external(name, source):
    def change(file):
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        file.create_dataset(name, shape=shape, dtype=dtype, external=[(source, 0, h5py.h5f.UNLIMITED)])

    return change


def huge(name, shape, dtype="f8"):
    """Claims a shape, and has no storage."""
    return dataset(name, shape=shape, dtype=dtype)


def compressed(name, shape, dtype="f8"):
    return dataset(name, shape=shape, dtype=dtype, chunks=True, compression="gzip", fillvalue=0)


def reference(file):
    file.attrs["title"] = file["alpha"].ref


COMPOUND = np.zeros(5, dtype=[("a", "f8"), ("b", "i4")])
# What is done to a sound surface file; it must be refused by each of its readers and not be resumed.
SPOILED = {
    "no alpha": lambda file: file.__delitem__("alpha"),
    "alpha that falls": values("alpha", lambda data: data[::-1]),
    "alpha that stands": values("alpha", lambda data: data * 0),
    "alpha with NaN": values("alpha", lambda data: data * np.nan),
    "alpha with NaN within": values("alpha", lambda data: np.where(np.arange(5) == 2, np.nan, data)),
    "alpha without end": values("alpha", lambda data: data * np.inf),
    "alpha of nothing": dataset("alpha", np.zeros(0)),
    "alpha of two dimensions": dataset("alpha", np.ones((5, 3))),
    "alpha of none": dataset("alpha", 1.0),
    "alpha without a space": dataset("alpha", h5py.Empty("f8")),
    "alpha of text": dataset("alpha", np.array(["a", "b", "c", "d", "e"], dtype=object), dtype=h5py.string_dtype()),
    "alpha of fixed text": dataset("alpha", np.array([b"1", b"2", b"3", b"4", b"5"])),
    "alpha of a compound": dataset("alpha", COMPOUND),
    "alpha of complex numbers": dataset("alpha", np.arange(5, dtype=complex)),
    "alpha of whole numbers": dataset("alpha", np.arange(5)),
    "alpha of truth values": dataset("alpha", np.ones(5, bool)),
    "alpha of references": dataset("alpha", shape=(5,), dtype=h5py.ref_dtype),
    "alpha of lists": dataset("alpha", shape=(5,), dtype=h5py.vlen_dtype(np.float64)),
    "alpha of arrays": dataset("alpha", shape=(5,), dtype=np.dtype("(3,)f8")),
    "alpha of opaque bytes": dataset("alpha", shape=(5,), dtype="V8"),
    "alpha that is a group": lambda file: (file.__delitem__("alpha"), file.create_group("alpha")),
    "alpha that is a type": linked("alpha", np.dtype("f8")),
    "one more alpha": dataset("alpha", np.linspace(0, 1, 6)),
    "a million million of alpha": huge("alpha", (10**12,)),
    "beta that is another length": dataset("beta", np.linspace(0, 1, 4)),
    "beta of a million million": huge("beta", (10**12,)),
    "losses of another shape": dataset("train_loss", np.zeros((3, 5))),
    "losses of one dimension": dataset("train_loss", np.zeros(15)),
    "losses of three": dataset("train_loss", np.zeros((5, 3, 1))),
    "losses of half the precision": dataset("train_loss", np.zeros((5, 3), np.float32)),
    "losses of text": dataset("train_loss", np.full((5, 3), b"nan")),
    "losses of a compound": dataset("train_loss", shape=(5, 3), dtype=[("a", "f8")]),
    "losses without storage": huge("train_loss", (5, 3)),
    "losses of ten to the twelve": huge("train_loss", (10**6, 10**6)),
    "losses of two to the sixty": huge("train_loss", (2**30, 2**30)),
    "losses that are compressed zeros": compressed("train_loss", (10**5, 10**5)),
    "losses that are a group": lambda file: (file.__delitem__("train_loss"), file.create_group("train_loss")),
    "no losses": lambda file: file.__delitem__("test_loss"),
    "losses in another file, by a link": linked("train_loss", h5py.ExternalLink("line.h5", "/train_loss")),
    "losses in everybody's file, by a link": linked("train_loss", h5py.ExternalLink("/etc/passwd", "/train_loss")),
    "losses by a link to another name": linked("train_loss", h5py.SoftLink("/test_loss")),
    "losses by a link to itself": linked("train_loss", h5py.SoftLink("/train_loss")),
    "losses by a link to nothing": linked("train_loss", h5py.SoftLink("/nothing")),
    "losses in another file, virtually": virtual("train_loss", "sampled.h5"),
    "losses in everybody's file, virtually": virtual("train_loss", "/etc/passwd"),
    "losses in another file, by raw bytes": external("train_loss", "study.yaml"),
    "losses in everybody's file, by raw bytes": external("train_loss", "/etc/passwd"),
    "alpha in everybody's file, by raw bytes": external("alpha", "/etc/passwd"),
    "tiles in another file": linked("tiles", h5py.ExternalLink("sampled.h5", "/tiles")),
    "tiles that are the root": lambda file: (file.__delitem__("tiles"), file.__setitem__("tiles", file["/"])),
    "no tiles": lambda file: file.__delitem__("tiles"),
    "no status": lambda file: file.__delitem__("tiles/status"),
    "a status of another length": dataset("tiles/status", np.zeros(3, np.uint8)),
    "a status of floats": dataset("tiles/status", np.zeros(8)),
    "a status by a link": linked("tiles/status", h5py.SoftLink("/tiles/checksum")),
    "no checksums": lambda file: file.__delitem__("tiles/checksum"),
    "sums of another shape": dataset("tiles/train_sums", np.zeros((1, 15, 3))),
    "sums of ten to the twelve": huge("tiles/train_sums", (1, 10**12, 4)),
    "samples of nothing": lambda file: file.create_dataset("tiles/target", data=np.zeros(1)),
    "no splits": without("splits"),
    "splits of no name": attribute("splits", ""),
    "a split that is not there": attribute("splits", "train, valid"),
    "a split twice": attribute("splits", "train, train"),
    "one split more": attribute("splits", "train, test, more"),
    "splits of numbers": attribute("splits", 3),
    "splits as a list": attribute("splits", ["train", "test"]),
    "a split with a path": attribute("splits", "train, ../../../escaped"),
    "a split with an escape": attribute("splits", "train, \x1b[2J"),
    "a split with dollars": attribute("splits", "train, $\\frac{"),
    "a split of a hundred thousand letters": attribute("splits", "train, " + "x" * 60_000),
    "no shards": without("shards"),
    "negative shards": attribute("shards", np.array([-1, 1])),
    "shards of nothing": attribute("shards", np.array([0, 1])),
    "shards of two to the sixty": attribute("shards", np.array([2**60, 1])),
    "shards of floats": attribute("shards", np.array([1.0, 1.0])),
    "shards of text": attribute("shards", "1, 1"),
    "a single shard": attribute("shards", 1),
    "no points per tile": without("points_per_tile"),
    "negative points per tile": attribute("points_per_tile", -4),
    "no point per tile": attribute("points_per_tile", 0),
    "points per tile beyond all": attribute("points_per_tile", 2**62),
    "points per tile of text": attribute("points_per_tile", "4"),
    "points per tile of NaN": attribute("points_per_tile", np.nan),
    "another number of points per tile": attribute("points_per_tile", 5),
    "no program": without("program"),
    "another program": attribute("program", "other"),
    "a program of numbers": attribute("program", np.arange(3)),
    "a program of nothing": attribute("program", h5py.Empty("S1")),
    "a list of programs": attribute("program", ["mpi_landscape", "mpi_landscape"]),
    "no schema": without("schema"),
    "a schema of text": attribute("schema", "\x1b[2J1"),
    "a schema of NaN": attribute("schema", np.nan),
    "schemas": attribute("schema", np.array([1, 1])),
    "a kind of numbers": attribute("kind", np.arange(3)),
    "a surface that says it is a history": attribute("kind", "history"),
    "a batch size of text": attribute("batch_size", "4"),
    "a negative batch size": attribute("batch_size", -4),
    "a batch size beyond all": attribute("batch_size", 2**62),
    "a certificate of text": attribute("certificate_train_loss", "good"),
    "a certificate of several": attribute("certificate_cosine", np.zeros(3)),
    "a certificate without its other half": without("certificate_test_loss_plain"),
    "a precision of text": attribute("precision_error", "small"),
    "a precision without its points": attribute("precision_error", 0.5),
    "a title of numbers": attribute("title", np.arange(4)),
    "an engine of numbers": attribute("engine", 4.5),
}  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    exhaustive.rows(
        SPOILED,
        "alpha with NaN",
        "alpha of two dimensions",
        "alpha of text",
        "losses of another shape",
        "losses of ten to the twelve",
        "losses that are a group",
        "losses in everybody's file, by a link",
        "losses in another file, virtually",
        "losses in everybody's file, by raw bytes",
        "no tiles",
        "a status of floats",
        "a split that is not there",
        "a split with a path",
        "shards of two to the sixty",
        "points per tile of text",
        "another program",
        "a schema of NaN",
        "a surface that says it is a history",
        "a certificate of text",
    ),
)
def test_a_spoiled_surface_file_is_refused_by_every_reader_and_not_resumed(copy, refused, spoil):
    with h5py.File(copy / "surface.h5", "r+") as file:
        spoil(file)
    for program, *argv in [*readers(copy, "surface.h5"), ("surface", "study.yaml")]:
        line = refused(program, *argv, folder=copy)
        assert "surface.h5" in line, line
        assert "root:" not in line, "of another file"


DIRECTIONS = {
    "no directions": lambda file: file.__delitem__("directions"),
    "directions in another file": linked("directions", h5py.ExternalLink("line.h5", "/directions")),
    "a direction by a link": linked("directions/alpha", h5py.SoftLink("/directions/center")),
    "a direction of another length": dataset("directions/alpha", np.zeros(5, np.float32)),
    "a direction of ten to the twelve": huge("directions/alpha", (10**12,), "f4"),
    "a direction of text": dataset("directions/alpha", np.array([b"a"] * 17)),
    "a direction of NaN": values("directions/alpha", lambda data: data * np.nan),
    "a direction of raw bytes": external("directions/alpha", "/etc/passwd"),
    "no names": lambda file: file.__delitem__("directions/tensor_name"),
    "names of numbers": dataset("directions/tensor_name", np.arange(2)),
    "names that are no text": dataset("directions/tensor_name", np.array([b"\xff\xfe", b"\x1b[2J"])),
    "names of another network": dataset("directions/tensor_name", np.array([b"\x1b[2J", b"x" * 10_000])),
}


@pytest.mark.parametrize(
    "spoil",
    exhaustive.rows(DIRECTIONS, "no directions", "a direction of another length", "names of another network"),
)
def test_a_spoiled_direction_is_refused(copy, refused, spoil):
    with h5py.File(copy / "sampled.h5", "r+") as file:
        spoil(file)
    argv = ("study.yaml", "--output", "new.h5", "--set", "directions.alpha={kind: file, path: sampled.h5}")
    assert "sampled.h5" in refused("surface", *argv, folder=copy)


SAMPLES = {
    "a target of text": dataset("tiles/target", np.array([b"x"])),
    "targets": dataset("tiles/target", np.zeros(2)),
    "strata that jump": values("tiles/train_strata", lambda data: data + 7),
    "strata below nothing": values("tiles/train_strata", lambda data: data - 1),
    "no strata": lambda file: file.__delitem__("tiles/train_strata"),
    "negative examples": values("tiles/train_examples", lambda data: -data),
    "examples of floats": dataset("tiles/train_examples", np.ones(1)),
    "no standard errors": lambda file: file.__delitem__("train_loss_stderr"),
}
ORDERS = {
    "an order with one twice": values("tiles/train_order", lambda data: data * 0),
    "an order out of range": values("tiles/train_order", lambda data: data + 2**40),
    "an order below nothing": values("tiles/train_order", lambda data: data - 10**9),
    "an order of another length": dataset("tiles/train_order", np.arange(3)),
}


@pytest.mark.parametrize(
    "spoil", exhaustive.rows(SAMPLES | ORDERS, "strata that jump", "targets", "an order out of range")
)
def test_spoiled_samples_are_refused(copy, refused, spoil):
    with h5py.File(copy / "sampled.h5", "r+") as file:
        spoil(file)
    resume = (
        "surface",
        "study.yaml",
        "--output",
        "sampled.h5",
        "--relative-error",
        "0.5",
        "--set",
        "compute.data_shards=auto",
    )
    for program, *argv in [resume] if spoil in ORDERS.values() else [*readers(copy, "sampled.h5"), resume]:
        assert "sampled.h5" in refused(program, *argv, folder=copy)


HISTORIES = {
    "no epochs": lambda file: file.__delitem__("epoch"),
    "epochs of nothing": dataset("epoch", np.zeros(0, np.int64)),
    "epochs that fall": values("epoch", lambda data: data[::-1]),
    "epochs of floats": dataset("epoch", np.arange(6.0)),
    "epochs of ten to the twelve": huge("epoch", (10**12,), "i8"),
    "no phases": lambda file: file.__delitem__("phase"),
    "phases of text": dataset("phase", np.array([b"1"] * 6)),
    "losses of another length": dataset("train_loss", np.zeros(5)),
    "losses of text": dataset("train_loss", np.array([b"1"] * 6)),
    "losses by a link": linked("train_loss", h5py.ExternalLink("/etc/passwd", "/x")),
    "losses of raw bytes": external("train_loss", "/etc/passwd"),
    "losses of ten to the twelve": huge("train_loss", (10**12,)),
    "no splits": without("splits"),
    "splits of numbers": attribute("splits", np.arange(2)),
    "a split with a path": attribute("splits", "train, ../../x"),
    "no schema": without("schema"),
    "a schema of text": attribute("schema", "one"),
}


@pytest.mark.parametrize(
    "spoil",
    exhaustive.rows(
        HISTORIES, "epochs that fall", "losses of raw bytes", "losses of ten to the twelve", "no schema"
    ),
)
def test_a_spoiled_history_is_refused(copy, refused, spoil):
    with h5py.File(copy / "history.h5", "r+") as file:
        spoil(file)
    for program, *argv in readers(copy, "history.h5"):
        assert "history.h5" in refused(program, *argv, folder=copy)


STRANGE = {
    "numbers near the largest": values("train_loss", lambda data: np.where(data > data.mean(), 1.7e308, -1.7e308)),
    "numbers near nothing": values("train_loss", lambda data: data * 5e-324),
    "one number near the largest": values("train_loss", lambda data: np.where(data == data.max(), 1.7e308, data)),
    "infinities of both signs": values("train_loss", lambda data: np.where(data > data.mean(), np.inf, -np.inf)),
    "NaN with a message": values("train_loss", lambda data: np.full(data.shape, 0x7FF4DEADBEEF0000, np.int64).view("f8")),
    "accuracies of ten to the hundred": values("test_loss", lambda data: data * 1e100),
    "coordinates near the largest": values("alpha", lambda data: np.linspace(-1.7e308, 1.7e308, 5)),
    "coordinates near nothing": values("alpha", lambda data: np.arange(5) * 5e-324),
    "coordinates that differ by a bit": values("alpha", lambda data: 1 + np.arange(5) * 2.0**-52),
    "coordinates of two scales": values("alpha", lambda data: np.array([-1e300, -1e-300, 0, 1e-300, 1e300])),
    "a title of control characters": attribute("title", "".join(map(chr, range(1, 160)))),
    "a title of escapes": attribute("title", "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b2J\u202eevil"),
    "a title of lines": attribute("title", "a\nprogress     100.0 % of the points\nb"),
    "a title of dollars": attribute("title", "$\\frac{$ $$ \\input{/etc/passwd} $"),
    "a title of sixty thousand letters": attribute("title", "x" * 60_000),
    "a title of sixty thousand words": attribute("title", "x " * 30_000),
    "a title that is a reference": reference,
    "a title of nothing": attribute("title", h5py.Empty("f8")),
    "a title of bytes": attribute("title", np.bytes_(b"\xff\xfe\x1b[2J")),
    "units of dollars": units("train_loss", "$\\frac{$ $$ \\input{/etc/passwd} $"),
    "units of escapes and lines": units("train_loss", "\x1b]0;owned\x07\x1b[2J\x9b2J\na\u202eevil"),
    "units of sixty thousand letters": units("train_loss", "x" * 60_000),
    "units of nothing": units("train_loss", h5py.Empty("f8")),
    "units of numbers": units("train_loss", np.arange(3) * 1j),
    "a loss in percent": units("train_loss", "1"),
    "a provenance of everything": attribute("host", h5py.Empty("f8")),
    "a provenance of references": lambda file: file.attrs.__setitem__("host", file["alpha"].ref),
    "a provenance of compounds": attribute("host", COMPOUND),
    "a provenance of complex numbers": attribute("host", np.arange(3) * 1j),
    "a provenance of NaN": attribute("host", np.array([np.nan, np.inf])),
    "a provenance of escapes": attribute("\x1b[2J", "\x1b[2J"),
    "a provenance of lists of escapes": attribute("host", ["\x9b2J", "\x1b[2J"]),
    "an identity of escapes": attribute("identity_\x9b2J", "\x1b[2J"),
    "a configuration of escapes": attribute("configuration", "model: \x1b[2J\nloss: \x9b2J"),
    "a certificate of NaN": attribute("certificate_train_loss", np.nan),
    "a certificate of the largest": attribute("certificate_train_loss", 1.7e308),
}  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    exhaustive.rows(
        STRANGE,
        "numbers near the largest",
        "NaN with a message",
        "coordinates near nothing",
        "a title of escapes",
        "a title of dollars",
        "a provenance of references",
        "a configuration of escapes",
    ),
)
def test_a_strange_surface_file_is_shown_or_refused_and_steers_no_terminal(copy, harmless, spoil):
    with h5py.File(copy / "surface.h5", "r+") as file:
        spoil(file)
    for program, *argv in readers(copy, "surface.h5"):
        ended = harmless(program, *argv, folder=copy)
        shown = ended.out.replace("\n", "")
        assert not [sign for sign in shown if not sign.isprintable()], ascii(shown)
        assert sum(line.startswith("progress     ") for line in ended.out.splitlines()) <= 1
        if "--json" in argv and ended.status == 0:
            json.loads(ended.out)
    assert not (copy.parent.parent / "escaped").exists()


MADE = "python -m mpi_landscape.surface study.yaml"
# What a file says of the command that made it, of which a person might paste what inspect shows; and the folder.
COMMANDS = {
    "another program": ("rm -rf /", "/"),
    "another program before": (f"rm -rf / ; {MADE}", "/"),
    "another program behind": (f"{MADE} ; rm -rf /", "/"),
    "another program behind, in one word": (f"{MADE};rm -rf /", "/"),
    "another program by a pipe": (f"{MADE} | sh", "/"),
    "another program by an ampersand": (f"{MADE} && sh x", "/"),
    "another module": ("python -m http.server", "/"),
    "another module of this house": ("python -m mpi_landscape.train study.yaml --overwrite", "/"),
    "another interpreter": ("/tmp/python -m mpi_landscape.surface study.yaml", "/"),
    "code": ("python -c import\\ os", "/"),
    "a script": ("python evil.py", "/"),
    "an unbalanced quote": (f"{MADE} --set 'title=x", "/"),
    "an unbalanced double quote": (f'{MADE} "', "/"),
    "a backslash at the end": (f"{MADE} \\", "/"),
    "nothing": ("", "/"),
    "spaces": ("   ", "/"),
    "an option that is none": (f"{MADE} --evil x", "/"),
    "an option that is several": (f"{MADE} --o x", "/"),
    "an option of one dash": (f"{MADE} -c x", "/"),
    "an option without its value": (f"{MADE} --set", "/"),
    "a setting that is none": (f"{MADE} --set '$(rm -rf /)'", "/"),
    "two configurations": (f"{MADE} other.yaml", "/"),
    "no configuration": ("python -m mpi_landscape.surface --line", "/"),
    "an escape": (f"{MADE} --set 'title=\x1b[2J'", "/"),
    "lines": (f"{MADE}\n  rm -rf /", "/"),
    "a line within a word": (f"{MADE} --set 'title=a\n  rm -rf /'", "/"),
    "a word of right to left": (f"{MADE} --set 'title=\u202e/ fr- mr'", "/"),
    "sixty thousand words": (f"{MADE} {'x ' * 30_000}", "/"),
    "a relative folder": (MADE, "x; rm -rf /"),
    "a folder of lines": (MADE, "/\nrm -rf /"),
    "a folder of escapes": (MADE, "/\x1b[2J"),
}  # fmt: skip


def unfinished(folder, command, where, ranks="1"):
    with h5py.File(folder / "surface.h5", "r+") as file:
        file["tiles/status"][2:] = 0
        for name, value in {"command": command, "folder": where, "ranks": ranks}.items():
            attribute(name, value)(file)


@pytest.mark.parametrize(
    ("command", "where"),
    exhaustive.rows(
        COMMANDS, "another program behind", "a script", "an unbalanced quote", "a folder of lines"
    ),
)
def test_a_command_that_is_none_of_this_program_is_not_shown_as_the_way_to_go_on(
    copy, harmless, command, where
):
    unfinished(copy, command, where)
    ended = harmless("inspect", "surface.h5", folder=copy)
    assert ended.status == 0
    above, _, data = ended.out.partition("provenance   (as the file says it, which is not checked)\n")
    assert "rm -rf" not in above
    assert "cd " not in above
    assert "6 tiles; to go on, run again what made the file" in above
    # Shown as data: each on a line of its own that begins with its name.
    assert [line for line in data.splitlines() if line.startswith("  command: ")]
    assert all(line.startswith("  ") and ": " in line for line in data.splitlines())
    facts = json.loads(harmless("inspect", "surface.h5", "--json", folder=copy).out)
    assert facts["left"] == {"tiles": 6, "command": None}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.arange(3), "command"),
        (h5py.Empty("f8"), "command"),
        (3.5, "folder"),
        ("4; rm -rf /", "ranks"),
        ("-1", "ranks"),
        ("9" * 5000, "ranks"),
        (np.array([1, 2]), "ranks"),
    ],
)
def test_a_part_of_a_command_of_another_kind_is_no_command(copy, harmless, value, name):
    unfinished(copy, **{"command": MADE, "where": "/", ("where" if name == "folder" else name): value})
    ended = harmless("inspect", "surface.h5", "--json", folder=copy)
    assert ended.status == 0
    assert json.loads(ended.out)["left"]["command"] is None


SHOWN = {
    "a plain one": (MADE, "/runs", "1", "cd /runs && python -m mpi_landscape.surface study.yaml"),
    "on ranks": (MADE, "/runs", "4", "cd /runs && mpiexec -n 4 python -m mpi_landscape.surface study.yaml"),
    "without a folder": (MADE, "", "1", "python -m mpi_landscape.surface study.yaml"),
    "of a folder with a space": (MADE, "/a b;c", "1", "cd '/a b;c' && python -m mpi_landscape.surface study.yaml"),
    "with what would do more in a shell": (
        f"{MADE} --set 'title=$(rm -rf /)'", "/", "1",
        "cd / && python -m mpi_landscape.surface study.yaml --set 'title=$(rm -rf /)'",
    ),
    "with all options": (
        f"{MADE} --alpha=-1:1:5 --line --overw --output x.h5 --set 'a.b={{c: [1, 2]}}' --relative-error 1e-2 --writer=root",
        "/", "1",
        "cd / && python -m mpi_landscape.surface study.yaml --alpha=-1:1:5 --line --set 'a.b={c: [1, 2]}' "
        "--relative-error 1e-2 --writer root",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("command", "where", "ranks", "expected"), SHOWN.values(), ids=SHOWN)
def test_a_command_of_this_program_is_shown_with_every_word_quoted_and_for_the_file_itself(
    copy, harmless, command, where, ranks, expected
):
    unfinished(copy, command, where, ranks)
    ended = harmless("inspect", "surface.h5", "--json", folder=copy)
    assert json.loads(ended.out)["left"]["command"] == f"{expected} --output {copy}/surface.h5"


MEGABYTE = 0x0FEDCB


def repeated(path, count):
    """Make all texts of a list of variable length the same megabyte, as only a hand can that writes bytes."""
    content = bytearray(path.read_bytes())
    # Length, place in the heap, number there; the heap itself says the length in eight bytes.
    place = re.search(re.escape(struct.pack("<I", MEGABYTE)) + rb"(?!\0\0\0\0)", content).start()
    content[place : place + 16 * count] = content[place : place + 16] * count
    path.write_bytes(content)


def test_an_attribute_of_texts_that_are_all_the_same_megabyte_is_not_read(tmp_path):
    path = tmp_path / "repeated.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs.create("host", ["x" * MEGABYTE, *["y"] * 1999], dtype=h5py.string_dtype())
        file.attrs["title"] = "a title"
    repeated(path, 2000)
    with h5py.File(path, "r") as file:
        assert read_attributes(file) == {"host": "2000 values of variable length", "title": "a title"}


def test_texts_of_tensors_that_are_all_the_same_megabyte_are_refused(copy, refused):
    with h5py.File(copy / "surface.h5", "r+") as file:
        file["tiles/status"][2:] = 0
        del file["directions/tensor_shape"]
        texts = ["x" * MEGABYTE, *["y"] * 1999]
        file.create_dataset("directions/tensor_shape", data=texts, dtype=h5py.string_dtype())
    repeated(copy / "surface.h5", 2000)
    assert "file of" in refused("surface", "study.yaml", folder=copy)


@pytest.mark.parametrize("name", ["center", "alpha", "beta", "tensor_offset"])
def test_a_direction_that_claims_a_trillion_is_refused_by_a_run_that_goes_on(copy, refused, name):
    with h5py.File(copy / "surface.h5", "r+") as file:
        file["tiles/status"][2:] = 0
        huge(f"directions/{name}", (10**9,), "i8" if name == "tensor_offset" else "f4")(file)
    assert "has no values" in refused("surface", "study.yaml", folder=copy)


def nested_groups(file):
    group = file.id
    for _ in range(100_000):
        group = h5py.h5g.create(group, b"g")


def held_again_and_again(file):
    groups = [file.create_group(f"g{number}") for number in range(300)]
    for outer in groups:
        for number, inner in enumerate(groups):
            outer[f"i{number}"] = inner


GROUPS = {
    "a hundred thousand deep": nested_groups,
    "each of which holds all": held_again_and_again,
    "that hold themselves": lambda file: file.create_group("ring").__setitem__("ring", file["ring"]),
}


@pytest.mark.parametrize("spoil", exhaustive.rows(GROUPS, "a hundred thousand deep"))
def test_groups_without_end_end_neither_a_reader_nor_a_run_that_goes_on(copy, cage, spoil):
    with h5py.File(copy / "surface.h5", "r+") as file:
        file["tiles/status"][2:] = 0
        spoil(file)
    for program, *argv in [*readers(copy, "surface.h5"), ("surface", "study.yaml")]:
        ended = cage(program, *argv, folder=copy, seconds=60)
        assert ended.status in (0, 2), ended


@pytest.mark.parametrize("text", ["[" * 60_000, '{"a":' * 12_000, "[" * 500 + "]" * 500])
def test_an_engine_of_brackets_without_end_is_one_of_another_version(copy, cage, text):
    with h5py.File(copy / "surface.h5", "r+") as file:
        attribute("engine", text)(file)
        file["tiles/status"][2:] = 0
    ended = cage("surface", "study.yaml", "--set", "compute.engine=auto", folder=copy)
    assert ended.status == 0, ended


@pytest.mark.parametrize("part", ["header", "anywhere", "cut", "zeros", "noise"])
@pytest.mark.parametrize("seed", exhaustive.values(range(12), 0, 1))
@pytest.mark.parametrize("name", ["surface.h5", "sampled.h5", "history.h5"])
def test_a_damaged_file_is_shown_or_refused(copy, harmless, name, part, seed):
    chance = random.Random(f"{name} {part} {seed}")
    content = bytearray((copy / name).read_bytes())
    # What is not a value: headers of objects, trees of names, heaps of texts.
    meta = [place for place in range(len(content)) if content[place]]
    if part == "cut":
        del content[chance.randrange(len(content)) :]
    elif part in ("zeros", "noise"):
        start = chance.choice(meta)
        length = chance.choice((8, 64, 512))
        content[start : start + length] = bytes(length) if part == "zeros" else chance.randbytes(length)
    else:
        for _ in range(chance.choice((1, 2, 8))):
            content[chance.choice(meta) if part == "header" else chance.randrange(len(content))] ^= (
                1 << chance.randrange(8)
            )
    (copy / name).write_bytes(content)
    for program, *argv in readers(copy, name):
        harmless(program, *argv, folder=copy)
