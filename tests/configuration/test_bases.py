import os

import pytest

from mpi_landscape.configuration.layers import merged
from mpi_landscape.configuration.reading import load, load_text, to_yaml
from mpi_landscape.errors import LandscapeError

BASE = "model: {name: resnet20}\ndata: {name: digits}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write files by name; the working folder is theirs, so that messages name them as they are."""
    monkeypatch.chdir(tmp_path)

    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


def refused(path, overrides=()):
    with pytest.raises(LandscapeError) as caught:
        load(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def found(configuration, path):
    for step in path.split("."):
        configuration = getattr(configuration, step)
    return configuration


# What the base says, what the child says, where to look, what is there, and why.
MERGES = [
    ("grid: {alpha: [0, 3, 5]}", "", "grid.alpha.max", 3.0, "what only the base says stays"),
    ("", "grid: {alpha: [0, 3, 5]}", "grid.alpha.max", 3.0, "what only the child says counts"),
    (
        "grid: {alpha: {min: -3, num: 5}}",
        "grid: {alpha: {num: 7}}",
        "grid.alpha.min",
        -3.0,
        "mappings merge at every depth",
    ),
    (
        "grid: {alpha: [-3, 3, 5]}",
        "grid: {alpha: {num: 7}}",
        "grid.alpha.min",
        -3.0,
        "an axis is a mapping in the base",
    ),
    ("grid: {alpha: {num: 5}}", "grid: {alpha: [-3, 3, 7]}", "grid.alpha.num", 7, "and in the child"),
    (
        "directions: {alpha: {ignore: [bias, norm]}}",
        "directions: {alpha: {ignore: [a]}}",
        "directions.alpha.ignore",
        ("a",),
        "lists are replaced",
    ),
    (
        "loss: {name: mse, arguments: {a: 1}}",
        "loss: hinge",
        "loss.name",
        "hinge",
        "a name for a section merges too",
    ),
    (
        "loss: {name: mse, arguments: {a: 1}}",
        "loss: hinge",
        "loss.arguments",
        {"a": 1},
        "and leaves the arguments",
    ),
    (
        "loss: {target: 'a:b', arguments: {a: 1}}",
        "loss: mse",
        "loss.target",
        None,
        "a name replaces a target",
    ),
    ("loss: mse", "loss: {target: 'a:b'}", "loss.name", None, "a target replaces a name"),
    ("data: digits", "data: {target: 'a:b'}", "data.name", None, "in every section with both"),
    ("model: mlp", "model: {target: 'a:b'}", "model.target", "a:b", "in every section with both"),
    (
        "model: {arguments: {a: {b: 1, c: 2}}}",
        "model: {arguments: {a: {c: 3}}}",
        "model.arguments",
        {"a": {"b": 1, "c": 3}},
        "arguments merge as well",
    ),
    (
        "grid: {beta: [0, 1, 3]}",
        "grid: {beta: null}",
        "grid.beta",
        None,
        "null where null is a value: a line",
    ),
    ("grid: {beta: null}", "grid: {beta: [0, 1, 3]}", "grid.beta.num", 3, "and a surface again"),
    ("output: a.h5", "output: null", "output", None, "null where null is the default"),
    ("training: {output: o, epochs: 1}", "training: null", "training", None, "a whole section is taken back"),
    (
        "compute: {batch_size: 64}",
        "compute: {batch_size: null}",
        "compute.batch_size",
        "auto",
        "null where it is no value: the default holds again",
    ),
    ("compute: {batch_size: 64}", "compute: null", "compute.batch_size", "auto", "of a section likewise"),
    ("loss: mse", "loss: null", "loss.name", "cross_entropy", "the loss has a default too"),
    (
        "model: {arguments: {a: 1, b: 2}}",
        "model: {arguments: {a: null}}",
        "model.arguments",
        {"b": 2},
        "an argument is not given any more",
    ),
    (
        "",
        "model: {arguments: {a: null}}",
        "model.arguments",
        {"a": None},
        "nothing to take back: an argument None",
    ),
    (
        "training: {output: o, epochs: 3, momentum: 0.5}",
        "training: {optimizer: adam, momentum: null}",
        "training.momentum",
        None,
        "another optimizer",
    ),
]


@pytest.mark.parametrize(("base", "child", "path", "value", "why"), MERGES)
def test_a_file_lies_over_its_base(write, base, child, path, value, why):
    # The sections that every configuration needs lie below both, as YAML takes no section twice.
    write(root=BASE, base=f"base: root.yaml\n{base}", mine=f"base: base.yaml\n{child}")
    assert found(load("mine.yaml"), path) == value, why


def test_later_bases_win_and_the_file_wins_over_all(write):
    write(
        one=BASE + "compute: {threads: 1, data_shards: 1, batch_size: 1}",
        two="compute: {data_shards: 2, batch_size: 2}",
        mine="base: [one.yaml, two.yaml]\ncompute: {batch_size: 3}",
    )
    compute = load("mine.yaml").compute
    assert (compute.threads, compute.data_shards, compute.batch_size) == (1, 2, 3)


def test_the_bases_of_a_base_lie_under_it(write):
    write(
        deepest=BASE + "compute: {threads: 1, data_shards: 1, batch_size: 1}",
        middle="base: deepest.yaml\ncompute: {data_shards: 2, batch_size: 2}",
        mine="base: middle.yaml\ncompute: {batch_size: 3}",
    )
    compute = load("mine.yaml").compute
    assert (compute.threads, compute.data_shards, compute.batch_size) == (1, 2, 3)


def test_a_base_is_relative_to_the_file_that_names_it_and_not_to_the_working_folder(write):
    write(
        root=BASE + "output: wrong.h5",
        bases__root=BASE + "output: right.h5",
        bases__middle="base: root.yaml",
        deep__mine="base: ../bases/middle.yaml",
    )
    assert load("deep/mine.yaml").output == "right.h5"


def test_an_absolute_base_is_taken_as_it_is(write, tmp_path):
    write(root=BASE, deep__mine=f"base: {tmp_path / 'root.yaml'}")
    assert load("deep/mine.yaml").model.name == "resnet20"


def test_two_bases_may_share_one(write):
    write(root=BASE, one="base: root.yaml", two="base: root.yaml", mine="base: [one.yaml, two.yaml]")
    assert load("mine.yaml").data.name == "digits"


@pytest.mark.parametrize("base", ["null", "[]"])
def test_a_file_may_have_no_base(write, base):
    write(mine=BASE + f"base: {base}")
    assert load("mine.yaml") == load_text(BASE, where="x")


def test_options_come_after_the_bases(write):
    write(root=BASE + "grid: {alpha: [0, 3, 5]}", mine="base: root.yaml")
    alpha = load("mine.yaml", ["grid.alpha.num=9"]).grid.alpha
    assert (alpha.max, alpha.num) == (3.0, 9)


def test_what_is_written_has_no_base(write):
    write(root=BASE, mine="base: root.yaml")
    configuration = load("mine.yaml")
    text = to_yaml(configuration)
    assert "base" not in text
    assert load_text(text, where="x") == configuration


def test_text_with_a_folder_may_have_a_base(write, tmp_path):
    write(deep__root=BASE)
    text = "base: root.yaml\noutput: o.h5"
    assert load_text(text, where="x", folder=tmp_path / "deep").model.name == "resnet20"
    with pytest.raises(LandscapeError, match="only a file can have one"):
        load_text(text, where="x")


# Ten times the line before on every line: 10^5 values.
ALIASES = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 6))

# What the files say, what is refused, and why; mine.yaml is read.
REFUSALS = [
    ({"mine": "base: absent.yaml"}, ["absent.yaml (base of mine.yaml): no such file"], "a missing file"),
    ({"mine": "base: ."}, [". (base of mine.yaml): is a folder"], "a folder"),
    ({"mine": "base: 3"}, ["mine.yaml: base is 3; expected a file, or a list of files"], "a number"),
    ({"mine": "base: ''"}, ["mine.yaml: base is ''"], "no name"),
    ({"mine": "base: [a.yaml, 3]"}, ["mine.yaml: base is ['a.yaml', 3]"], "a number in a list"),
    ({"mine": "base: {file: a}"}, ["mine.yaml: base is {'file': 'a'}"], "a mapping"),
    ({"mine": 'base: "a\\0b"'}, ["mine.yaml: base is"], "a name that no file can have"),
    ({"mine": f"base: {'a' * 300}"}, ["(base of mine.yaml): cannot be read"], "a name that is too long"),
    (
        {"mine": "base: mine.yaml"},
        ["mine.yaml: base mine.yaml leads back to itself: mine.yaml -> mine.yaml"],
        "itself",
    ),
    (
        {"mine": "base: a.yaml", "a": "base: b.yaml", "b": "base: ./../TMP/a.yaml"},
        ["b.yaml: base", "leads back to itself: a.yaml -> b.yaml -> a.yaml"],
        "a cycle further down, by another name",
    ),
    ({"mine": "base: a.yaml", "a": ""}, ["a.yaml (base of mine.yaml): is empty"], "an empty base"),
    (
        {"mine": "base: a.yaml", "a": "[1]"},
        ["a.yaml (base of mine.yaml): is [1]; expected a mapping"],
        "a list",
    ),
    (
        {"mine": "base: a.yaml", "a": "x: [1"},
        ["a.yaml (base of mine.yaml): line 1"],
        "a base that does not parse",
    ),
    (
        {"mine": "base: a.yaml", "a": "x: 1\nx: 2"},
        ["a.yaml (base of mine.yaml): line 2", "twice"],
        "a repeated key",
    ),
    (
        {"mine": "base: a.yaml", "a": ALIASES},
        ["a.yaml (base of mine.yaml)", "10000"],
        "aliases of aliases in a base",
    ),
    (
        {"mine": "base: a.yaml", "a": "#" * (2**20 + 1)},
        ["a.yaml (base of mine.yaml): has 1048577 bytes"],
        "a large base",
    ),
    (
        {"mine": "base: a.yaml\noutput: 3", "a": BASE},
        ["mine.yaml: output is 3"],
        "the child is at fault",
    ),
    (
        {"mine": "base: a.yaml\noutput: o.h5", "a": BASE + "compute: {threads: 0}"},
        ["a.yaml: compute.threads is 0"],
        "the base is at fault",
    ),
    (
        {"mine": "base: a.yaml\ncompute: {threads: 2}", "a": BASE + "compute: {thread: 1}"},
        ["a.yaml: compute has unknown field 'thread'"],
        "a typo in the base",
    ),
    (
        {"mine": "base: a.yaml\ncompute: {thread: 1}", "a": BASE + "compute: {threads: 2}"},
        ["mine.yaml: compute has unknown field 'thread'"],
        "a typo in the child",
    ),
    (
        {"mine": "base: [a.yaml, b.yaml]", "a": BASE, "b": "grid: {alpha: [0, 1, 0]}"},
        ["b.yaml: grid.alpha.num is 0"],
        "the second base is at fault, in a list of three",
    ),
    (
        {"mine": "base: a.yaml\ngrid: {alpha: {max: -2}}", "a": BASE + "grid: {alpha: {min: -1}}"},
        ["mine.yaml over a.yaml: grid.alpha: min -1.0 is above max -2.0"],
        "both together",
    ),
    (
        {
            "mine": "base: a.yaml\ntraining: {phases: [{epochs: 1}, {epochs: -1}]}",
            "a": BASE + "training: {output: o}",
        },
        ["mine.yaml: training.phases[1].epochs is -1"],
        "an element of a list in the child",
    ),
    (
        {"mine": "base: a.yaml\noutput: o.h5", "a": BASE + "training: {epochs: 1}"},
        ["mine.yaml over a.yaml: training has no field 'output'"],
        "what is missing may be added in either",
    ),
    (
        {"mine": "base: a.yaml\noutput: o.h5", "a": "data: digits"},
        ["mine.yaml over a.yaml: the configuration has no field 'model'"],
        "no model",
    ),
    (
        {"mine": "base: a.yaml\nloss: {name: mse, target: 'a:b'}", "a": BASE + "loss: hinge"},
        ["loss: both name 'mse' and target 'a:b'"],
        "a file that says both itself",
    ),
]


@pytest.mark.parametrize(("files", "words", "why"), REFUSALS)
def test_a_base_that_cannot_be_is_refused_on_one_line(write, tmp_path, files, words, why):
    write(**{name: text.replace("TMP", tmp_path.name) for name, text in files.items()})
    message = refused("mine.yaml")
    for word in words:
        assert word in message, why


def test_an_option_at_fault_is_named_before_the_files(write):
    write(root=BASE + "grid: {alpha: [0, 3, 5]}", mine="base: root.yaml")
    assert refused("mine.yaml", ["grid.alpha.num=0"]).startswith(
        "--set grid.alpha.num=0: grid.alpha.num is 0"
    )
    message = refused("mine.yaml", ["grid.alpha.min=4"])
    assert message.startswith("root.yaml with --set grid.alpha.min=4: grid.alpha: min 4.0")


def test_a_pipe_is_no_base(write, tmp_path):
    write(mine="base: pipe.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "pipe.yaml (base of mine.yaml): is not a regular file" in refused("mine.yaml")


@pytest.mark.parametrize(("levels", "fits"), [(10, True), (11, False)])
def test_bases_are_at_most_ten_levels_deep(write, levels, fits):
    write(**{f"f{number}": f"base: f{number + 1}.yaml" for number in range(levels)}, **{f"f{levels}": BASE})
    if fits:
        assert load("f0.yaml").model.name == "resnet20"
    else:
        assert refused("f0.yaml") == "f10.yaml: base f11.yaml is more than 10 levels deep"


def test_bases_that_multiply_are_refused_before_they_are_all_read(write):
    # Ten times the next one at each of eight levels would be 10^8 readings.
    write(**{f"f{n}": f"base: [{', '.join([f'f{n + 1}.yaml'] * 10)}]" for n in range(8)}, f8=BASE)
    assert refused("f0.yaml") == "f0.yaml: builds on more than 99 files"


def test_a_direction_of_another_kind_takes_back_all_that_was_said_of_the_one_of_before():
    under = {"directions": {"alpha": {"kind": "random", "seed": 3, "ignore": []}, "beta": {"seed": 7}}}
    over = {
        "directions": {
            "alpha": {"kind": "file", "path": "a.h5"},
            "beta": {"kind": "random", "normalize": "layer"},
        }
    }
    assert merged(under, over)["directions"] == {
        "alpha": {"kind": "file", "path": "a.h5"},
        "beta": {"kind": "random", "seed": 7, "normalize": "layer"},
    }
