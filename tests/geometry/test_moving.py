import pytest
import torch
from torch import nn

from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.moving import describe, groups, warnings_of
from mpi_landscape.geometry.plane import Plane


def plane(**moved):
    """A network of 20 + 4 + 4 + 4 numbers; directions that are 1 in some tensors."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4))
    layout = layout_of(model)
    center = layout.flatten(model.state_dict(), where="model")
    directions = {axis: torch.zeros(layout.size) for axis in moved}
    for axis, names in moved.items():
        for name in names:
            layout.views(directions[axis])[name].fill_(1)
    return Plane(layout=layout, center=center, directions=directions)


def test_the_table_counts_every_number_once():
    found = groups(plane(alpha=["0.weight"], beta=["0.weight", "0.bias", "1.bias"]))
    assert [(each.kind, each.rule, each.tensors, each.filters, each.numbers) for each in found] == [
        ("weight", "axis 0", 1, 4, 20),
        ("bias", "whole", 1, 1, 4),
        ("norm", "whole", 2, 2, 8),
    ]
    assert [tuple(each.moving.values()) for each in found] == [(1, 1), (0, 1), (0, 0.5)]


def test_the_table_in_lines():
    assert describe(plane(alpha=["0.weight"])) == [
        "moves       kind    filters by  tensors  filters  numbers  alpha",
        "            weight  axis 0            1        4       20  100 %",
        "            bias    whole             1        1        4    0 %",
        "            norm    whole             2        2        8    0 %",
    ]


@pytest.mark.parametrize(
    ("size", "scale", "warned", "reason"),
    [
        (300, 1.0, True, "3 of 903 numbers"),
        (90, 1.0, False, "3 of 273 numbers, all alike"),
        (90, 1e-3, True, "the same, but of a thousandth of the norm"),
    ],
)
def test_little_that_moves_is_said(size, scale, warned, reason):
    model = nn.Linear(size, 3)
    with torch.no_grad():
        model.weight.fill_(1)
        model.bias.fill_(scale)
    layout = layout_of(model)
    direction = torch.zeros(layout.size)
    direction[-3:] = 1
    center = layout.flatten(model.state_dict(), where="model")
    lines = warnings_of(Plane(layout=layout, center=center, directions={"alpha": direction}))
    assert bool(lines) is warned, reason
    assert all("alpha: moves" in line for line in lines)
