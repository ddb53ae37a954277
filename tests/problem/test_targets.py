import sys
from pathlib import Path

import pytest

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.targets import call, resolve

SOURCE = """
import math
constant = 3

def build(width, depth=2):
    return (width, depth)

def anything(**arguments):
    return arguments

def lazy():
    from PREFIX_neighbour import value
    return value

def fails():
    raise RuntimeError("first line\\nsecond line")

def leaves():
    raise SystemExit(2)

class Net:
    @staticmethod
    def small():
        return "small"
"""


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """A folder of modules under names that no other test uses, as Python loads a name only once."""
    name = "m" + "".join(character for character in tmp_path.name if character.isalnum())
    (tmp_path / f"{name}_nets.py").write_text(SOURCE.replace("PREFIX", name))
    (tmp_path / f"{name}_neighbour.py").write_text("value = 42")
    (tmp_path / f"{name}_raises.py").write_text("import os\n1 / 0\n")
    (tmp_path / f"{name}_syntax.py").write_text("def f(:\n")
    (tmp_path / f"{name}_lacks.py").write_text("import a_package_that_nobody_has\n")
    (tmp_path / f"{name}_exits.py").write_text("raise SystemExit(3)\n")
    yield name
    for module in [each for each in sys.modules if each.startswith(name)]:
        del sys.modules[module]


def test_a_target_is_found_in_the_given_folder(tmp_path, prefix):
    assert resolve(f"{prefix}_nets:build", where="x", folders=[tmp_path])(3) == (3, 2)


def test_a_target_is_found_in_the_working_folder(tmp_path, prefix, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve(f"{prefix}_nets:build", where="x", folders=[])(3) == (3, 2)


def test_a_target_may_be_inside_a_class(tmp_path, prefix):
    assert call(f"{prefix}_nets:Net.small", {}, where="x", folders=[tmp_path]) == "small"


def test_a_target_may_come_from_an_installed_package():
    assert resolve("collections.abc:Mapping.keys", where="x", folders=[]) is not None


def test_arguments_reach_the_target_by_name(tmp_path, prefix):
    called = f"{prefix}_nets:build"
    assert call(called, {"depth": 5, "width": 4}, where="x", folders=[tmp_path]) == (4, 5)
    assert call(f"{prefix}_nets:anything", {"a": 1}, where="x", folders=[tmp_path]) == {"a": 1}


def test_a_target_may_import_its_neighbours_when_it_is_called(tmp_path, prefix):
    assert call(f"{prefix}_nets:lazy", {}, where="x", folders=[tmp_path]) == 42


def test_the_search_path_is_left_as_it_was(tmp_path, prefix):
    before = list(sys.path)
    resolve(f"{prefix}_nets:build", where="x", folders=[tmp_path])
    with pytest.raises(LandscapeError):
        resolve(f"{prefix}_raises:build", where="x", folders=[tmp_path])
    assert sys.path == before


@pytest.mark.parametrize(
    ("target", "words", "why"),
    [
        ("nets.build", ["package.module:callable"], "no colon"),
        (":build", ["package.module:callable"], "no module"),
        ("nets:", ["package.module:callable"], "no callable"),
        ("a/nets.py:build", ["package.module:callable"], "a file"),
        ("..nets:build", ["package.module:callable"], "a relative import"),
        ("a:b:c", ["package.module:callable"], "two colons"),
        ("PREFIX_absent:build", ["no module 'PREFIX_absent'", "FOLDER"], "no such module"),
        ("PREFIX_nets.inner:build", ["no module 'PREFIX_nets.inner'"], "a module is no package"),
        (
            "PREFIX_lacks:build",
            ["its import raised ModuleNotFoundError", "nobody_has"],
            "the module lacks another",
        ),
        ("PREFIX_raises:build", ["ZeroDivisionError", "PREFIX_raises.py, line 2"], "the module raises"),
        ("PREFIX_syntax:build", ["SyntaxError"], "the module does not parse"),
        ("PREFIX_exits:build", ["SystemExit"], "a script without a guard"),
        ("PREFIX_nets:biuld", ["has no 'biuld'", "did you mean 'build'"], "a typo"),
        ("PREFIX_nets:Net.large", ["has no 'large'"], "a typo in a class"),
        ("PREFIX_nets:constant", ["is 3", "cannot be called"], "a number"),
    ],
)
def test_a_target_that_cannot_be_had_is_refused(tmp_path, prefix, target, words, why):
    target = target.replace("PREFIX", prefix)
    with pytest.raises(LandscapeError) as caught:
        resolve(target, where="mine.yaml: model.target", folders=[tmp_path])
    message = str(caught.value)
    assert message.startswith(f"mine.yaml: model.target '{target}'"), why
    assert "\n" not in message, why
    for word in words:
        assert word.replace("PREFIX", prefix).replace("FOLDER", str(tmp_path)) in message, why


@pytest.mark.parametrize(
    ("name", "arguments", "words", "why"),
    [
        ("build", {}, ["arguments", "'width'", "valid arguments are width, depth"], "a missing argument"),
        ("build", {"width": 1, "dpeth": 2}, ["no argument 'dpeth'", "did you mean 'depth'"], "a typo"),
        ("lazy", {"a": 1}, ["no argument 'a'", "valid arguments are none"], "an argument too many"),
        ("fails", {}, ["raised RuntimeError: first line second line", "_nets.py, line"], "it raises"),
        ("leaves", {}, ["raised SystemExit"], "it would end the program"),
    ],
)
def test_a_call_that_fails_is_told_in_one_line(tmp_path, prefix, name, arguments, words, why):
    with pytest.raises(LandscapeError) as caught:
        call(f"{prefix}_nets:{name}", arguments, where="mine.yaml: model", folders=[tmp_path])
    message = str(caught.value)
    assert message.startswith("mine.yaml: model"), why
    assert "\n" not in message, why
    for word in words:
        assert word in message, why


def test_a_module_is_not_taken_for_another_of_the_same_name(tmp_path, prefix):
    resolve(f"{prefix}_nets:build", where="x", folders=[tmp_path])
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{prefix}_nets.py").write_text("def build(): return 'other'")
    with pytest.raises(LandscapeError, match="loaded under that name"):
        resolve(f"{prefix}_nets:build", where="x", folders=[other])


def test_the_working_folder_comes_before_the_others(tmp_path, prefix, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{prefix}_twice.py").write_text("def build(): return 'other'")
    (tmp_path / f"{prefix}_twice.py").write_text("def build(): return 'working folder'")
    monkeypatch.chdir(tmp_path)
    assert call(f"{prefix}_twice:build", {}, where="x", folders=[Path("other")]) == "working folder"
