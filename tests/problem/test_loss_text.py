import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape.problem.loss_text import loss_text

MODULE = '''
import functools, logging
import torch
from torch import nn
from helper_of_loss import power

FACTOR, NAMES = 2.0, {"a", "b", "c", "d"}
log = logging.getLogger(__name__)

def plain(model, batch):
    """A docstring."""
    log.debug("called")
    if batch in {"one", "two", "three", "four"}:
        return 0
    return FACTOR * power(model(batch))

class Called:
    def __init__(self):
        self.names, self.weight = {"x", "y", "z"}, torch.ones(3)
    def __call__(self, model, batch):
        return [each for each in NAMES]

def made(criterion):
    return lambda model, batch: criterion(model(batch[0]), batch[1])

closure = made(nn.CrossEntropyLoss(reduction="none", weight=torch.arange(3.0)))
called, partial = Called(), functools.partial(plain, batch=3)
'''
HELPER = "def power(x): return x ** 2\n"
SCRIPT = """
import importlib, sys
from mpi_landscape.problem.loss_text import loss_text
for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    user = importlib.import_module("loss_of_user")
    for name in ("plain", "called", "closure", "partial"):
        sys.stdout.write(loss_text(getattr(user, name)) + chr(10))
    for name in ("loss_of_user", "helper_of_loss"):
        del sys.modules[name]
    sys.path.remove(folder)
"""
NAMES = ["plain", "Called", "made.<locals>.<lambda>", "partial"]
# Old text, new text, and whose fingerprint changes.
CHANGES = [
    ('"""A docstring."""', '"""Another one."""', []),
    ("FACTOR, NAMES = 2.0", "\n\nFACTOR, NAMES = 2.0", []),
    ("FACTOR, NAMES = 2.0", "FACTOR, NAMES = 2.5", ["plain", "partial"]),
    ("FACTOR * power", "FACTOR + power", ["plain", "partial"]),
    ("return 0", "return 1", ["plain", "partial"]),
    ("x ** 2", "x ** 3", ["plain", "partial"]),
    ("torch.ones(3)", "torch.zeros(3)", ["Called"]),
    ("for each in NAMES", "for each in sorted(NAMES)", ["Called"]),
    ("arange(3.0)", "arange(3.0) + 1", ["made.<locals>.<lambda>"]),
    ("batch=3", "batch=4", ["partial"]),
]


def texts(folders, seed):
    """Of the losses of modules in some folders, in a process of its own; four for each."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": str(seed)}
    command = [sys.executable, "-c", SCRIPT, *map(str, folders)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = done.stdout.splitlines()
    return [found[start : start + 4] for start in range(0, len(found), 4)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The modules as they are, and after each change."""
    made = []
    for old, new, _ in [("", "", []), *CHANGES]:
        folder = tmp_path_factory.mktemp("losses")
        assert old in MODULE + HELPER
        (folder / "loss_of_user.py").write_text(MODULE.replace(old, new) if old else MODULE)
        (folder / "helper_of_loss.py").write_text(HELPER.replace(old, new) if old else HELPER)
        made.append(folder)
    return made


@pytest.fixture(scope="module")
def found(folders):
    return texts(folders, 1)


def test_the_text_is_the_same_in_every_process(folders, found):
    # Compiled the first time, from the cache the second; strings hash otherwise.
    assert texts(folders, 2) == found
    assert [text.partition(" [")[0] for text in found[0]] == NAMES
    assert all(text.partition(" [")[2].startswith("python 3.") for text in found[0])


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_what_changes_a_loss_changes_the_text_of_it_alone(found, number):
    pairs = zip(NAMES, found[0], found[1 + number], strict=True)
    assert [name for name, before, after in pairs if before != after] == CHANGES[number][2]


def made(value):
    return lambda model, batch: (value, model, batch)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0.1, 0.1 + 1e-16 * 2),
        (True, 1),
        ("l1", "l2"),
        (None, ""),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.tensor([1j]), torch.tensor([2j])),
        (np.ones(2), np.zeros(2)),
        ([1, 2], (1, 2)),
        ({"a": 1}, {"a": 2}),
        (nn.Linear(1, 1), nn.Linear(1, 1)),
        (nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.2)),
        (functools.partial(max, 1), functools.partial(max, 2)),
        (max, min),
        (made(1), made(2)),
    ],
)
def test_losses_made_with_other_values_are_told_apart(one, other):
    assert loss_text(made(one)) == loss_text(made(one))
    assert loss_text(made(one)) != loss_text(made(other))


def test_equal_values_at_other_places_are_the_same():
    assert loss_text(made([torch.ones(3), "a"])) == loss_text(made([torch.ones(3), "".join("a")]))


def test_what_holds_itself_has_a_text():
    circle = []
    circle.append(circle)
    assert loss_text(made(circle)) == loss_text(made(circle))


def test_methods_and_what_they_hold():
    class Kept:
        def __init__(self, weight):
            self.weight = weight

        def loss(self, model, batch):
            return self.weight

    assert loss_text(Kept(1).loss) == loss_text(Kept(1).loss)
    assert loss_text(Kept(1).loss) != loss_text(Kept(2).loss)
