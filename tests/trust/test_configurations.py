"""Configurations that mean harm, or nothing: one line, status 2, nothing taken, nothing changed, nothing run."""

import os
import random

import pytest

from tests.exhaustive import EXHAUSTIVE, rows, values

# A command that would leave a file behind, in every tag by which YAML has ever run code.
COMMAND = "touch executed"
TAGS = [
    f"!!python/object/apply:os.system ['{COMMAND}']",
    f"!!python/object/new:os.system ['{COMMAND}']",
    "!!python/object/apply:subprocess.check_output [['touch', 'executed']]",
    f"!!python/object/apply:builtins.eval [\"__import__('os').system('{COMMAND}')\"]",
    "!!python/object/new:type {args: ['z', [], {}], state: {__class__: !!python/name:os.system ''}}",
    "!!python/name:os.system ''",
    "!!python/module:antigravity ''",
    "!!python/tuple [1, 2]",
    "!python/object/apply:os.system [x]",
    "!<tag:yaml.org,2002:python/object/apply:os.system> [x]",
    "!include /etc/passwd",
    "!ENV ${HOME}",
    "!!binary '====not base64===='",
    "!!timestamp 9999-99-99",
    "!!int " + "1:" * 20_000 + "1",
    "!!float " + "59:" * 20_000 + "1",
    "!!float 1" + ":59" * 400,
    "!!set {[1]: null}",
    "!!omap [1, 2]",
    "!!pairs {a: 1}",
    "!!null [1]",
    "!!bool 2",
    "!!map [1]",
    "!!seq {a: 1}",
    "!!str {a: 1}",
    "!!merge x",
    "!!value x",
    "!unknown x",
]
LAUGHS = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{', '.join(['*' + chr(97 + level)] * 9)}]\n"
    for level in range(9)
)
TEXTS = {
    "a billion laughs": LAUGHS,
    "a billion laughs as a mapping": LAUGHS.replace("[", "{x: [").replace("]", "]}"),
    "a long text, nine thousand times": f"a: &a {'x' * 200_000}\n"
    f"model: {{name: x, arguments: {{y: [{', '.join(['*a'] * 9000)}]}}}}",
    "a long text as a key, merged again and again": f"a: &a {{{'x' * 900}: 1}}\n"
    + "".join(f"b{n}: &b{n}\n  <<: [*{'a' if n == 0 else f'b{n - 1}'}, *a]\n" for n in range(60)),
    "a mapping that holds itself": "model: &a {name: *a}",
    "a list that holds itself": "a: &a\n- *a",
    "a mapping merged with itself": "a: &a {<<: *a}",
    "a merge of text": "model: {<<: text, name: mlp}",
    "nested in brackets": "a: " + "[" * 5000,
    "nested in closed brackets": "a: " + "[" * 5000 + "]" * 5000,
    "nested in braces": "a: " + "{a: " * 5000,
    "nested by indentation": "".join(" " * depth + "a:\n" for depth in range(900)),
    "nested by dashes": "- " * 5000 + "x",
    "nested by question marks": "? " * 5000 + "x",
    "a list of half a million": "a: [" + "1," * 500_000 + "1]",
    "a mapping of a hundred thousand": "".join(f"k{n}: 1\n" for n in range(90_000)),
    "a whole number of a megabit": f"model: {{name: mlp, arguments: {{x: 0x{'f' * 250_000}}}}}",
    "a whole number of 4300 digits": f"grid: {{alpha: {{num: {'9' * 4300}}}}}",
    "a whole number of 4301 digits": f"grid: {{alpha: {{num: {'9' * 4301}}}}}",
    "a whole number of a million digits": f"grid: {{alpha: {{num: {'9' * 1_000_000}}}}}",
    "a whole number in base two": f"grid: {{alpha: {{num: 0b{'1' * 5000}}}}}",
    "underscores for a number": f"grid: {{alpha: {{num: 1{'_' * 100_000}}}}}",
    "an exponent beyond all": "grid: {alpha: {max: 1e999999999}}",
    "ten megabytes of text": "model: " + "x" * 10_000_000,
    "a megabyte of text": "model: " + "x" * 1_000_000,
    "a megabyte of spaces": " " * 1_000_000,
    "a megabyte of line breaks": "\n" * 1_000_000,
    "a megabyte of comments": "# comment\n" * 100_000,
    "a hundred thousand documents": "---\n" * 100_000,
    "a hundred thousand directives": "%FOO bar\n" * 90_000,
    "a hundred thousand anchors": " ".join(f"&a{n}" for n in range(90_000)),
    "an unknown field of a megabyte": f"{'x' * 900_000}: 1",
    "an unknown section as a key of keys": "? {a: 1}\n: 1",
    "a quoted text that never ends": 'model: "' + "x\n" * 100_000,
    "a key given twice": "model: mlp\nmodel: cnn",
    "a key given twice inside": "model: {name: mlp, name: cnn}",
    "a key given twice as text and number": "model: {'1': a, 1: b}",
    "a number as a key": "1: x",
    "null as a key": "null: x",
    "true as a key": "true: x",
    "a list as a key": "[1, 2]: x",
    "numbers as keys within": "grid: {1: {2: 3}}",
    "null as a key within": "model: {null: x}",
    "a date as a key within": "model: {!!timestamp 2024-01-31: x}",
    "bytes as a key within": "model: {!!binary eA==: x}",
    "NUL in a name": 'model: {name: mlp, checkpoint: "a\\0b"}\ndata: digits',
    "NUL in an output": 'model: mlp\ndata: digits\noutput: "a\\0b"',
    "NUL in a base": 'base: "a\\0b"',
    "half of a surrogate pair": 'model: {name: "\\ud800"}\ndata: digits',
    "half of a surrogate pair as a key": 'model: {"\\ud800": 1}',
    "an escape sequence as a field": '"\\e[2J\\e]0;owned\\a": 1',
    "an escape sequence as a value": 'model: {name: "\\e[31mred\\x9b2J"}\ndata: digits',
    "text from right to left": 'model: {name: "mlp\\u202eplm"}\ndata: digits',
    "tabs for indentation": "model:\n\tname: mlp",
    "only a scalar": "42",
    "only a list": "[1, 2]",
    "only null": "null",
    "a set": "!!set {model, data}",
    "two documents": "model: mlp\n---\nmodel: cnn",
    "look-alike letters in a field": "mоdel: mlp\ndata: digits",
    "look-alike letters in a name": "model: mlр\ndata: digits",
    "look-alike digits in a number": "model: mlp\ndata: digits\ngrid: {alpha: {num: ７}}",
    "a ligature in a choice": "model: mlp\ndata: digits\ncompute: {precision: ﬂoat32}",
    "a soft hyphen in a field": "mod\u00adel: mlp",
    "a zero-width space in a field": "model\u200b: mlp",
    "a base that is itself": "base: hostile.yaml",
    "a base that is no text": "base: [[hostile.yaml]]",
    "a base that is a folder": "base: .",
    "a base that is a device": "base: /dev/zero",
    "a base that is everybody's": "base: /etc/passwd",
    "a base that is not there": "base: ../../../../../nowhere.yaml",
    "a target that is no name": "model: {target: \"os:system('touch executed')\"}\ndata: digits\noutput: x.h5",
    "a target without a module": 'model: {target: ":system"}\ndata: digits\noutput: x.h5',
    "a target through a path": 'model: {target: "../x:y"}\ndata: digits\noutput: x.h5',
    "a named network with a file of timm's": "model: {name: timm/resnet18, arguments: {checkpoint_path: center.pt}}\n"
    "data: digits\noutput: x.h5",
    "a grid of ten to the twelve": "model: mlp\ndata: digits\noutput: x.h5\ngrid: {alpha: [-1, 1, 1000000000000]}",
    "a grid beyond any axis": "model: mlp\ndata: digits\noutput: x.h5\ngrid: {alpha: [-1, 1, 2147483647]}",
    "a sweep": "model: mlp\ndata: digits\noutput: x.h5\nsweep: {compute.threads: [1, 2]}",
    "a sweep of billions": "model: mlp\ndata: digits\ntraining: {output: run, epochs: 1}\nsweep: {"
    + ", ".join(f"model.arguments.a{n}: [1, 2, 3, 4, 5, 6, 7, 8, 9]" for n in range(20))
    + "}",
    "a sweep a hundred thousand deep": "model: mlp\ndata: digits\ntraining: {output: run, epochs: 1}\n"
    'sweep: {? "model.arguments.' + "a." * 100_000 + 'a" : [1, 2]}',
    "a phase of two thousand million epochs": "model: mlp\ndata: digits\ntraining: {output: run, epochs: 2147483647}",
    "phases of too many epochs together": "model: mlp\ndata: digits\ntraining: {output: run, epochs: 1000000, "
    "phases: [{}, {}]}",
}
BYTES = {
    "nothing": b"",
    "a NUL": b"\0",
    "NULs": b"\0" * 1000,
    "NUL within": b"model: mlp\0\ndata: digits",
    "bad UTF-8": b"model: \xff\xfe",
    "a byte cut off": "model: δ".encode()[:-1],
    "UTF-16 with its mark": "model: mlp".encode("utf-16"),
    "UTF-16 without": "model: mlp".encode("utf-16-le"),
    "UTF-32": "model: mlp".encode("utf-32"),
    "two marks": b"\xef\xbb\xbf\xef\xbb\xbfmodel: mlp",
    "a mark alone": b"\xef\xbb\xbf",
    "Latin-1": "model: Größe".encode("latin-1"),
    "overlong UTF-8": b"model: \xc0\xaf",
    "surrogates in UTF-8": b"model: \xed\xa0\x80",
    "a program": b"\x7fELF" + bytes(range(256)) * 20,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    "an archive": b"PK\x03\x04" + bytes(range(256)) * 20,
    "noise": random.Random(1).randbytes(20_000),
    "printable noise": bytes(random.Random(2).choices(range(32, 127), k=20_000)),
    "noise of YAML's own signs": bytes(random.Random(3).choices(b"[]{}:,-?&*!|>'\"%@`#\n \tab12", k=5_000)),
}


@pytest.mark.parametrize(
    "tag", rows({tag[:50]: tag for tag in TAGS}, TAGS[0][:50], TAGS[5], TAGS[14][:50], "!unknown x")
)
def test_a_tag_makes_no_object_and_runs_nothing(study, refused, tag):
    for place in (tag, f"model: {{name: mlp, arguments: {{x: {tag}}}}}\ndata: digits\noutput: x.h5"):
        (study.folder / "hostile.yaml").write_text(place)
        assert "hostile.yaml" in refused("surface", "hostile.yaml", "--dry-run", folder=study.folder)


@pytest.mark.parametrize(
    "text",
    rows(
        TEXTS,
        "a billion laughs",
        "a mapping that holds itself",
        "nested in brackets",
        "a whole number of a megabit",
        "an exponent beyond all",
        "a megabyte of text",
        "a hundred thousand anchors",
        "a key given twice inside",
        "a list as a key",
        "NUL in an output",
        "half of a surrogate pair",
        "an escape sequence as a value",
        "look-alike letters in a field",
        "two documents",
        "a base that is itself",
        "a base that is a device",
        "a target through a path",
        "a grid beyond any axis",
        "a sweep of billions",
    ),
)
def test_a_hostile_text_is_refused(study, refused, text):
    (study.folder / "hostile.yaml").write_text(text, encoding="utf-8")
    line = refused("surface", "hostile.yaml", folder=study.folder)
    assert "hostile.yaml" in line or "owned" not in line


@pytest.mark.parametrize(
    "content", rows(BYTES, "nothing", "NUL within", "bad UTF-8", "UTF-16 without", "a program")
)
def test_bytes_that_are_no_configuration_are_refused(study, refused, content):
    (study.folder / "hostile.yaml").write_bytes(content)
    for program in ("surface", "train"):
        assert "hostile.yaml" in refused(program, "hostile.yaml", "--dry-run", folder=study.folder)


@pytest.mark.parametrize("seed", values(range(40), 0, 1))
def test_a_configuration_with_bytes_changed_is_taken_or_refused_and_nothing_else(study, harmless, seed):
    chance = random.Random(seed)
    content = bytearray(study.configuration.read_bytes())
    for _ in range(chance.choice((1, 2, 5, 20))):
        place = chance.randrange(len(content))
        kind = chance.randrange(3)
        if kind == 0:
            content[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del content[place]
        else:
            content.insert(place, chance.choice(b"[]{}:,-?&*!|>'\"%#\n \t\0\x1b\xff0e"))
    (study.folder / "hostile.yaml").write_bytes(content)
    harmless("surface", "hostile.yaml", "--dry-run", folder=study.folder)


def pipe(path):
    os.mkfifo(path)


def ring(path):
    path.symlink_to(path.name)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(2**43)


NO_FILES = {
    "a pipe that nobody writes": pipe,
    "a ring of links": ring,
    "eight terabytes of nothing": sparse,
    "a folder": lambda path: path.mkdir(),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to a device that never ends": lambda path: path.symlink_to("/dev/zero"),
    "a link to chance": lambda path: path.symlink_to("/dev/urandom"),
    "a link to this process's memory": lambda path: path.symlink_to("/proc/self/mem"),
    "a link to what the system says without size": lambda path: path.symlink_to("/proc/self/maps"),
    "a link to standard input": lambda path: path.symlink_to("/dev/stdin"),
}


@pytest.mark.parametrize(
    "make", rows(NO_FILES, "a pipe that nobody writes", "a link to a device that never ends")
)
@pytest.mark.parametrize("name", ["hostile.yaml", "hostile.pt", "hostile.h5", "hostile.npy"])
def test_what_is_no_regular_file_is_refused_before_it_is_read(study, refused, make, name):
    make(study.folder / name)
    surface = ("surface", "study.yaml")
    ways = {
        "hostile.yaml": [("surface", name), ("train", name), ("surface", "above.yaml")],
        "hostile.pt": [
            (*surface, "--set", f"model.checkpoint={name}"),
            (*surface, "--set", f"directions.alpha={{kind: difference, to: {name}}}"),
            (*surface, "--set", f"directions.alpha={{kind: file, path: {name}}}"),
        ],
        "hostile.h5": [
            ("inspect", name),
            ("plotting", name),
            (*surface, "--set", f"directions.alpha={{kind: file, path: {name}}}"),
        ],
        "hostile.npy": [(*surface, "--set", f"directions.alpha={{kind: file, path: {name}}}")],
    }
    (study.folder / "above.yaml").write_text("base: hostile.yaml")
    for program, *argv in ways[name]:
        assert name in refused(program, *argv, folder=study.folder)


SETTINGS = [
    "",
    "=",
    "a",
    "=1",
    ".=1",
    "a..b=1",
    "grid..num=1",
    "grid.alpha.num",
    "grid.alpha.num.x=1",
    "grid.alpha.num=" + "9" * 5000,
    "grid.alpha.num=0x" + "f" * 5000,
    "grid.alpha.num=*a",
    "grid.alpha.num=&a [*a]",
    "grid.alpha=" + "[" * 3000,
    "grid.alpha=!!python/object/apply:os.system ['touch executed']",
    "compute.threads=!!int 1:" + "1:" * 3000 + "1",
    "model.name=\x1b[2J",
    "x" * 100_000 + "=1",
    "." * 100_000 + "=1",
    ".".join("abcdefghij" * 2000) + "=1",
    "grid.alpha." + "a." * 50_000 + "a=1",
    "model.arguments." + "a." * 400 + "a=1",
    "sweep." + "a." * 50_000 + "a=[1]",
    "base=hostile.yaml",
    "sweep={compute.threads: [1, 2]}",
    "compute=1",
    "model=[1]",
    "grid=null",
    "output=[1]",
    "output={a: 1}",
    "data.splits=[]",
    "data.splits=[train, train]",
    "directions.alpha.ignore=[[x]]",
    "__class__=1",
    "model.__init__=1",
    "1=2",
    "null=null",
]


@pytest.mark.parametrize(
    "setting",
    rows(
        {setting[:40] or "nothing": setting for setting in SETTINGS},
        *(
            "a..b=1",
            "grid.alpha.num=*a",
            SETTINGS[14][:40],
            SETTINGS[18][:40],
            "compute=1",
            "model.__init__=1",
        ),
    ),
)
def test_a_setting_that_is_nonsense_is_refused(study, refused, setting):
    refused("surface", "study.yaml", "--dry-run", "--set", setting, folder=study.folder)


@EXHAUSTIVE
def test_bases_ten_times_ten_deep_are_refused_before_they_are_read_a_billion_times(study, refused):
    for level in range(9):
        (study.folder / f"level{level}.yaml").write_text(
            f"base: [{', '.join([f'level{level + 1}.yaml'] * 10)}]"
        )
    (study.folder / "level9.yaml").write_text("output: x.h5")
    assert "more than 99 files" in refused("surface", "level0.yaml", folder=study.folder)


def test_a_chain_of_a_hundred_bases_is_refused(study, refused):
    for level in range(100):
        (study.folder / f"level{level}.yaml").write_text(f"base: level{level + 1}.yaml")
    assert "levels deep" in refused("surface", "level0.yaml", folder=study.folder)


def test_bases_in_a_ring_are_refused(study, refused):
    (study.folder / "a.yaml").write_text("base: b.yaml")
    (study.folder / "b.yaml").write_text("base: ./a.yaml")
    assert "a.yaml" in refused("train", "a.yaml", folder=study.folder)


EXTREMES = [
    "grid.alpha=[-1e308, 1e308, 3]",
    "grid.alpha=[5e-324, 1e-323, 2]",
    "grid.alpha=[-1, 1, 1048576]",
    "grid={alpha: [-1, 1, 1048576], beta: [-1, 1, 1048576]}",
    "compute.batch_size=2147483647",
    "compute.data_shards=2147483647",
    "compute.points_per_tile=2147483647",
    "compute.threads=2147483647",
    "compute.threads=4096",
    "compute.relative_error=1e-308",
    "compute.device=cuda:99999999999999999999999999",
    "directions.alpha.seed=9223372036854775807",
    "model.arguments={x: 1e308}",
    "loss.arguments={weight: .nan}",
    "data.arguments={x: {y: {z: [1, 2]}}}",
    "directions.alpha.ignore=['" + "*" * 60 + "x']",
    "directions.alpha.ignore=['" + "[a-" * 100 + "']",
]


@pytest.mark.parametrize(
    "setting",
    rows({setting[:60]: setting for setting in EXTREMES}, EXTREMES[0], EXTREMES[4], EXTREMES[-1][:60]),
)
def test_an_extreme_value_is_planned_or_refused(study, harmless, setting):
    harmless("surface", "study.yaml", "--dry-run", "--set", setting, folder=study.folder)


def test_a_surface_of_a_trillion_points_is_refused_before_anything_is_taken(study, refused):
    grid = "grid={alpha: [-1, 1, 1048576], beta: [-1, 1, 1048575]}"
    line = refused("surface", "study.yaml", "--set", grid, folder=study.folder)
    assert "cannot be written: takes 9.07e+04 GB" in line
