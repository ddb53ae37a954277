"""Parameters on one memory are one tensor of the flat vector; those that overlap are refused."""

import copy

import pytest
import torch
from torch import nn

from mpi_landscape import LandscapeError
from mpi_landscape.evaluation.replica import attach, own_copy
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.memory import tied


def module(**tensors):
    model = nn.Module()
    for name, each in tensors.items():
        model.register_parameter(name, nn.Parameter(each))
    return model


def pair():
    numbers = torch.arange(6.0).reshape(2, 3)
    return module(first=numbers, other=torch.ones(4), second=numbers, third=numbers.view(2, 3))


def test_tensors_on_one_memory_are_one_entry():
    layout = layout_of(pair())
    assert [entry.name for entry in layout.entries] == ["first", "other"]
    assert layout.tied == (("second", "first"), ("third", "first"))
    assert layout.size == 10


def test_all_of_them_follow_the_vector():
    model = pair()
    layout = layout_of(model)
    vector = torch.arange(100.0, 110.0)
    attach(model, layout.views(vector))
    for name in ("first", "second", "third"):
        assert model.get_parameter(name).flatten().tolist() == [100, 101, 102, 103, 104, 105]
    vector[5] = -1
    assert model.third[1, 2] == model.second[1, 2] == -1


def test_a_copy_keeps_them_together():
    model = pair()
    assert layout_of(copy.deepcopy(model)).tied == (), "deepcopy alone parts them"
    copied = own_copy(model)
    assert layout_of(copied) == layout_of(model)
    copied.first.data[0, 0] = 9
    assert copied.third[0, 0] == 9
    assert model.first[0, 0] == 0


def test_a_state_in_which_they_differ_is_refused():
    model = pair()
    state = {name: each.clone() for name, each in model.state_dict().items()}
    layout_of(model).flatten(state, where="x.pt")
    state["second"][0, 0] = 7
    with pytest.raises(LandscapeError, match="second differs from first, which is the same tensor"):
        layout_of(model).flatten(state, where="x.pt")


NUMBERS = torch.zeros(4, 6)
OVERLAPS = [
    ({"one": NUMBERS, "other": NUMBERS[1:3]}, "a part of the other"),
    ({"one": NUMBERS[:3], "other": NUMBERS[2:]}, "one row in common"),
    ({"one": NUMBERS, "other": NUMBERS.t()}, "turned around: not element by element"),
    ({"one": NUMBERS[:, :4], "other": NUMBERS[:, 3:]}, "one column in common"),
    ({"one": NUMBERS, "other": NUMBERS.view(torch.complex64)}, "as other numbers"),
]


@pytest.mark.parametrize(("tensors", "reason"), OVERLAPS, ids=[reason for _, reason in OVERLAPS])
def test_an_overlap_is_refused(tensors, reason):
    with pytest.raises(LandscapeError, match="parameters one and other share a part of their memory"):
        layout_of(module(**tensors))


@pytest.mark.parametrize(
    "tensors",
    [
        {"one": NUMBERS[:2], "other": NUMBERS[2:]},
        {"one": NUMBERS[:, :3], "other": NUMBERS[:, 3:]},
        {"one": NUMBERS[:, ::2], "other": NUMBERS[:, 1::2]},
        {"one": NUMBERS, "other": torch.zeros(0)},
    ],
    ids=["rows", "columns", "every other column", "nothing"],
)
def test_parts_of_one_memory_with_nothing_in_common_are_two_tensors(tensors):
    assert tied(list(tensors.items())) == {}
