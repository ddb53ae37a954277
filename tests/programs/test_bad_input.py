"""Bad input: one line, exit status 2, before any evaluation, existing files untouched."""

import os
import re
import subprocess
import sys

import h5py
import pytest
import torch

from mpi_landscape import surface


def replace(before, after):
    return lambda study: study.edit(*(text.replace("{module}", study.module) for text in (before, after)))


def module(before, after):
    return lambda study: study.edit_module(before, after)


def checkpoint(change):
    def prepare(study):
        path = study.folder / "center.pt"
        state = torch.load(path)
        change(state)
        torch.save(state, path)

    return prepare


def content(name, data):
    return lambda study: (study.folder / name).write_bytes(data)


def nothing(study):
    pass


# What is wrong; what is done to the study; the command line; words that the message must have.
ROWS = [
    ("unknown field", replace("batch_size: 4", "batchsize: 4"), [], ["compute", "'batchsize'", "batch_size"]),
    ("unknown section", replace("loss:", "los:"), [], ["'los'", "loss"]),
    ("missing section", replace("data:", "# data:"), [], ["data", "which it needs"]),
    (
        "wrong type",
        replace("batch_size: 4", "batch_size: four"),
        [],
        ["compute.batch_size", "'four'", "whole number"],
    ),
    (
        "points that coincide",
        replace("[-0.75, 1.5, 7]", "[1.0e+16, 1.0000000000000002e+16, 51]"),
        [],
        ["grid.alpha.num is 51", "coincide", "at most 2"],
    ),
    (
        "a point beyond float32",
        replace("[0, 2, 4]", "[0, 1.0e+39, 3]"),
        [],
        ["grid.beta", "1e+39", "float32", "compute.precision float64"],
    ),
    (
        "parameters beyond float32",
        replace("[0, 2, 4]", "[0, 3.4e+38, 3]"),
        [],
        ["grid: at (", "weight", "beyond float32", "smaller grid"],
    ),
    ("num is a fraction", replace("1.5, 7]", "1.5, 7.5]"), [], ["grid.alpha.num", "7.5"]),
    ("broken YAML", replace("alpha: [-0.75", "alpha: ]-0.75"), [], ["study.yaml", "line"]),
    ("no such configuration", nothing, ["absent.yaml"], ["absent.yaml"]),
    ("configuration is a folder", nothing, ["."], ["."]),
    ("empty configuration", content("empty.yaml", b""), ["empty.yaml"], ["empty.yaml"]),
    ("bytes that are no text", content("bytes.yaml", b"\xff\xfe\x00"), ["bytes.yaml"], ["bytes.yaml"]),
    (
        "unknown network",
        replace('target: "{module}:Bowl"', "name: resent"),
        [],
        ["resent", "resnet", "mlp"],
    ),
    (
        "unknown data set",
        replace('target: "{module}:data"', "name: didgits"),
        [],
        ["didgits", "digits", "cifar10"],
    ),
    (
        "unknown loss",
        replace('{target: "{module}:loss"}', "crossentropy"),
        [],
        ["crossentropy", "cross_entropy", "hinge"],
    ),
    ("target without a colon", replace("{module}:Bowl", "Bowl"), [], ["'Bowl'", "package.module:callable"]),
    ("target in no module", replace("{module}:Bowl", "no_such_module:Bowl"), [], ["no_such_module"]),
    ("target not in the module", replace("{module}:Bowl", "{module}:Bowls"), [], ["Bowls"]),
    (
        "module that raises",
        module("import torch\n", "import torch\nraise RuntimeError('broken')\n"),
        [],
        ["broken"],
    ),
    (
        "target gives no network",
        replace("{module}:Bowl", "{module}:Numbers"),
        ["--set", "model.arguments={count: 1, offset: 0}"],
        ["Numbers", "Module"],
    ),
    ("target gives no splits", replace("{module}:data", "{module}:Bowl"), [], ["split"]),
    ("wrong argument", nothing, ["--set", "data.arguments={trian: 3}"], ["trian"]),
    ("no checkpoint", lambda study: (study.folder / "center.pt").unlink(), [], ["center.pt"]),
    (
        "truncated checkpoint",
        lambda study: (study.folder / "center.pt").write_bytes(
            (study.folder / "center.pt").read_bytes()[:700]
        ),
        [],
        ["center.pt"],
    ),
    ("not a checkpoint", content("center.pt", b"hello"), [], ["center.pt"]),
    (
        "checkpoint of other shapes",
        checkpoint(lambda state: state.update(weight=torch.zeros(3, 5))),
        [],
        ["weight", "(3, 5)", "(3, 4)"],
    ),
    (
        "checkpoint of other names",
        checkpoint(lambda state: state.update(wait=state.pop("weight"))),
        [],
        ["weight", "wait"],
    ),
    ("num below 1", nothing, ["--alpha=0:1:0"], ["--alpha", "num"]),
    ("num below 1 in the file", replace("1.5, 7]", "1.5, 0]"), [], ["grid.alpha.num"]),
    ("min above max", nothing, ["--beta=2:1:3"], ["--beta", "min"]),
    ("min above max in the file", replace("[0, 2, 4]", "[3, 2, 4]"), [], ["grid.beta", "min"]),
    ("bound is not a number", nothing, ["--alpha=nan:1:3"], ["--alpha", "finite"]),
    ("infinite bound", nothing, ["--alpha=0:inf:3"], ["--alpha", "finite"]),
    ("infinite bound in the file", replace("[-0.75", "[-.inf"), [], ["grid.alpha.min", "finite"]),
    ("axis without three parts", nothing, ["--alpha=1:2"], ["--alpha", "MIN:MAX:NUM"]),
    ("a line and a second axis", nothing, ["--line", "--beta=0:1:2"], ["--beta", "--line"]),
    ("unknown option", nothing, ["--alfa=0:1:2"], ["--alfa"]),
    ("time limit below zero", nothing, ["--time-limit=-1"], ["--time-limit"]),
    ("unknown writer", nothing, ["--writer=serial"], ["--writer", "parallel", "root"]),
    ("no output named", replace("output:", "# output:"), [], ["output", "--output"]),
    ("output is a folder", nothing, ["--output=."], ["folder"]),
    (
        "output below a file",
        nothing,
        ["--output=center.pt/surface.h5"],
        ["center.pt/surface.h5", "cannot be written"],
    ),
    (
        "output in a folder that refuses",
        nothing,
        ["--output=/proc/surface.h5"],
        ["/proc/surface.h5", "cannot be written"],
    ),
    ("output is not HDF5", content("surface.h5", b"precious"), [], ["surface.h5", "not a surface file"]),
    (
        "loss of a whole batch",
        module("return model(batch[0])", "return model(batch[0]).max()"),
        [],
        ["one number for a batch", "one value per example"],
    ),
    ("loss without a tensor", module("return model(batch[0])", "return 1.0"), [], ["float", "tensor"]),
    (
        "loss of another length",
        module("return model(batch[0])", "return model(batch[0])[1:]"),
        [],
        ["one value per example"],
    ),
    (
        "mapping without loss",
        module("return model(batch[0])", "return {'lose': model(batch[0])}"),
        [],
        ["'loss'", "'lose'"],
    ),
    ("loss that raises", module("return model(batch[0])", "return model(batch[2])"), [], ["IndexError"]),
    ("empty split", nothing, ["--set", "data.arguments={test: 0}"], ["test", "empty"]),
    ("unknown split", nothing, ["--set", "data.splits=[valid]"], ["valid", "train, test"]),
    (
        "data that raises",
        module("return self.values[index], 0", "return self.values[index + 5], 0"),
        [],
        ["IndexError", "item"],
    ),
    (
        "items of many shapes",
        module("return self.values[index], 0", "return self.values[: index + 1], 0"),
        [],
        ["collate"],
    ),
    (
        "data that shuffles",
        module("return self.values[index], 0", "return self.values[index] + torch.rand(()), 0"),
        [],
        ["second reading", "shuffling"],
    ),
    (
        "dropout left on",
        module("return height + inputs", "return torch.dropout(height + inputs, 0.5, True)"),
        [],
        ["two passes", "random"],
    ),
    (
        "loss that depends on its batch",
        module("return model(batch[0])", "return model(batch[0]) * batch[0].mean()"),
        [],
        ["batch"],
    ),
    (
        "ignoring nothing that is there",
        nothing,
        ["--set", "directions.alpha.ignore=[layer9.*]"],
        ["layer9.*", "weight"],
    ),
    ("ignoring everything", nothing, ["--set", "directions.alpha.ignore=['*']"], ["ignore"]),
    ("twice the same direction", nothing, ["--set", "directions.beta.seed=1"], ["parallel"]),
    (
        "difference to itself",
        nothing,
        ["--set", "directions.alpha={kind: difference, to: center.pt}"],
        ["zero"],
    ),
    (
        "direction from a file that is not there",
        nothing,
        ["--set", "directions.alpha={kind: file, path: absent.h5}"],
        ["absent.h5"],
    ),
    ("GPU that is not there", nothing, ["--set", "compute.device=cuda:99"], ["cuda:99"]),
]


@pytest.mark.parametrize(
    ("prepare", "arguments", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_bad_input_is_refused_in_one_line(study, here, prepare, arguments, words):
    prepare(study)
    named = [] if arguments and not arguments[0].startswith("-") else [study.configuration]
    before = {path: path.read_bytes() for path in study.folder.rglob("*") if path.is_file()}
    ended = here(surface.main, *named, *arguments)
    assert ended.status == 2, ended.err
    lines = ended.err.splitlines()
    assert len([line for line in lines if "error: " in line]) == 1
    assert len(lines) == 1, ended.err
    for word in words:
        assert word in lines[0]
    assert "tiles;" not in ended.out, "nothing may be evaluated before"
    after = {path: path.read_bytes() for path in before}
    assert after == before
    assert not (study.folder / "surface.h5").exists() or study.output in before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.attrs.__setitem__("schema", 99), ["schema 99", "schema 1"]),
        (lambda file: file.attrs.__delitem__("program"), ["not one of mpi_landscape"]),
    ],
    ids=["another schema", "another program's file"],
)
def test_an_output_of_another_kind_is_refused(study, here, change, words):
    assert here(surface.main, study.configuration).status == 0
    with h5py.File(study.output, "r+") as file:
        change(file)
    before = study.output.read_bytes()
    ended = here(surface.main, study.configuration)
    assert ended.status == 2
    assert len(ended.err.splitlines()) == 1
    for word in words:
        assert word in ended.err
    assert study.output.read_bytes() == before


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_without_an_output_is_named_with_its_place(study, here, label):
    study.edit_module(
        "def data(",
        f"""
class Labelled:
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.ones(1, 2, 2), {label} if index == 4 else 1

def labelled():
    return {{"train": Labelled()}}

def data(""",
    )
    configuration = study.folder / "labels.yaml"
    configuration.write_text(
        "model: {name: linear, arguments: {input_size: [1, 2, 2], num_classes: 10}}\n"
        f"data: {{target: '{study.module}:labelled'}}\n"
        "output: labels.h5\n"
    )
    ended = here(surface.main, configuration)
    assert ended.status == 2
    assert f"label at index 4 is {label}" in ended.err or f"is {label};" in ended.err
    assert "0 to 9" in ended.err


def test_a_loss_that_is_not_finite_at_the_center_is_a_warning_only(study, here):
    study.edit_module("return model(batch[0])", "return model(batch[0]) * float('inf')")
    ended = here(surface.main, study.configuration)
    assert ended.status == 0
    assert "warning: the train loss at the center is inf" in ended.out


def test_a_network_that_was_never_trained_is_a_warning_only(study, here):
    study.edit(f", checkpoint: {study.folder}/center.pt", "")
    study.edit_module("torch.zeros(3, 4)", "torch.ones(3, 4)")
    ended = here(surface.main, study.configuration)
    assert ended.status == 0
    assert "untrained" in ended.out


@pytest.mark.parametrize("while_it_works", [False, True])
def test_a_loss_that_raises_far_from_the_center_says_where(study, here, while_it_works):
    """Before the file is made where a trial shows it; otherwise what was done stays."""
    limit = 1.2 * torch.load(study.folder / "center.pt")["weight"].norm().item()
    condition = f"os.path.exists({str(study.output)!r}) and " if while_it_works else ""
    study.edit_module(
        "    return model(batch[0])",
        f"    if {condition}model.weight.detach().norm() > {limit}:\n"
        "        raise ArithmeticError('no value here')\n"
        "    return model(batch[0])",
    )
    ended = here(surface.main, study.configuration)
    assert ended.status == 2, ended.err
    last = ended.err.strip().splitlines()[-1]
    assert re.match(
        r"error: loss: at \(-?[\d.]+, -?[\d.]+\) calling it on the network and a batch \(.*\) "
        r"raised ArithmeticError: no value here; valid is a loss with a value .* or a smaller grid",
        last,
    )
    assert study.output.exists() == while_it_works


# A name of bytes that are no UTF-8, as the system gives it to Python.
NO_TEXT = "b\udcff"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", f"{NO_TEXT}.h5"], ["--output", "udcff.h5", "UTF-8"]),
        (["--set", f"model.checkpoint={NO_TEXT}.pt"], ["--set model.checkpoint", "udcff", "no UTF-8"]),
        (["--set", f"{NO_TEXT}=1"], ["udcff"]),
    ],
)
def test_a_name_that_is_no_text_is_refused_in_one_line(study, here, arguments, words):
    refused = here(surface.main, study.configuration, *arguments)
    assert refused.status == 2
    (line,) = refused.err.splitlines()
    assert line.encode("utf-8")
    for word in words:
        assert word in line


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: names of files of any bytes")
def test_files_whose_names_are_no_text_are_read_and_told_of_whatever_the_terminal_takes(study, computed):
    computed()
    configuration, output = (study.folder / f"{NO_TEXT}{suffix}" for suffix in (".yaml", ".h5"))
    study.configuration.rename(configuration)
    study.output.rename(output)
    for encoding in ("utf-8:strict", "ascii:strict"):
        for words in (
            ["mpi_landscape.inspect", output],
            [
                "mpi_landscape.surface",
                configuration,
                "--output",
                study.folder / "again.h5",
                "--overwrite",
            ],
        ):
            done = subprocess.run(
                [sys.executable, "-m", *words],
                capture_output=True,
                cwd=study.folder,
                env={**os.environ, "PYTHONIOENCODING": encoding},
            )
            assert done.returncode == 0, done.stderr
            assert b"Error" not in done.stderr
