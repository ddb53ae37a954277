import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape import LandscapeError
from mpi_landscape.geometry.directions import cosine, difference, dot, ignore, orthogonalize, random_direction
from mpi_landscape.geometry.layout import layout_of


class Network(nn.Module):
    def __init__(self, *, reverse: bool = False) -> None:
        super().__init__()
        parts = {"first": nn.Conv2d(2, 3, 3), "norm": nn.BatchNorm2d(3), "last": nn.Linear(6, 4)}
        for name in reversed(parts) if reverse else parts:
            self.add_module(name, parts[name])


def test_directions_do_not_depend_on_construction_order():
    layout, reverse = layout_of(Network()), layout_of(Network(reverse=True))
    assert [entry.name for entry in layout.entries] != [entry.name for entry in reverse.entries]
    one = layout.views(random_direction(layout, seed=5))
    other = reverse.views(random_direction(reverse, seed=5))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name])


def test_directions_do_not_touch_the_global_generators():
    layout = layout_of(Network())
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    random_direction(layout, seed=5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_a_seed_is_one_direction_for_ever():
    layout = layout_of(nn.Linear(3, 1))
    direction = random_direction(layout, seed=1)
    # Written down once: a change here changes every surface that users have.
    expected = [0.9023001795526531, 0.22932043365762575, 1.3056787322447567, 0.08215423104608444]
    assert direction.tolist() == pytest.approx(expected, rel=1e-6)


def test_directions_are_the_same_in_another_process_with_other_threads():
    program = (
        "import torch; from torch import nn\n"
        "from mpi_landscape.geometry.layout import layout_of\n"
        "from mpi_landscape.geometry.directions import random_direction\n"
        "print(random_direction(layout_of(nn.Linear(50, 40)), seed=7).numpy().tobytes().hex())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "99"}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    here = random_direction(layout_of(nn.Linear(50, 40)), seed=7)
    assert answer == here.numpy().tobytes().hex()


def test_a_tensor_that_is_drawn_in_pieces_has_the_bits_of_one_draw():
    layout = layout_of(nn.Linear(2**10, 2**11 + 3))  # two pieces and a rest
    key = int.from_bytes(hashlib.sha256(b"3:weight").digest()[:16], "little")
    whole = np.random.Generator(np.random.Philox(key=key)).standard_normal(layout.entries[0].size)
    drawn = layout.views(random_direction(layout, seed=3))["weight"].reshape(-1)
    assert drawn.numpy().tobytes() == whole.astype(np.float32).tobytes()


def test_random_directions_are_standard_normal_and_unrelated():
    layout = layout_of(nn.Sequential(nn.Linear(200, 100), nn.Linear(100, 200)))
    one, other = (random_direction(layout, seed=seed) for seed in (1, 2))
    assert one.dtype == torch.float32
    assert one.shape == (layout.size,)
    # 40,300 numbers: standard errors are 0.005 of the mean, 0.0035 of the deviation, 0.005 of the cosine.
    assert abs(one.mean().item()) < 0.025
    assert abs(one.std().item() - 1) < 0.02
    assert abs(cosine(one, other)) < 0.025
    views = layout.views(one)
    assert abs(cosine(views["0.weight"].reshape(-1), views["1.weight"].reshape(-1))) < 0.04


def test_difference_leads_from_start_to_end():
    start, end = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.0, 5.0, 4.5])
    assert difference(start, end).tolist() == [-1, 3, 0.5]
    assert torch.equal(start + difference(start, end), end)
    with pytest.raises(LandscapeError, match=r"shapes \(3,\) and \(2,\)"):
        difference(start, end[:2])


NAMES = ["first.weight", "first.bias", "norm.weight", "norm.bias", "last.weight", "last.bias"]


@pytest.mark.parametrize(
    ("patterns", "zeroed", "reason"),
    [
        ((), [], "nothing"),
        (("bias",), ["first.bias", "last.bias"], "a normalisation layer's bias is of kind norm"),
        (("norm",), ["norm.weight", "norm.bias"], "all of the layer"),
        (("bias", "norm"), ["first.bias", "norm.weight", "norm.bias", "last.bias"], "the default"),
        (("buffer",), [], "a kind may be absent"),
        (("last.*",), ["last.weight", "last.bias"], "a glob of names"),
        (("*.bias",), ["first.bias", "norm.bias", "last.bias"], "a glob takes no notice of kinds"),
        (("first.weight",), ["first.weight"], "one name"),
    ],
)
def test_ignored_tensors_stay_at_the_center(patterns, zeroed, reason):
    layout = layout_of(Network())
    direction = random_direction(layout, seed=1)
    result = ignore(direction, layout, patterns)
    for name, view in layout.views(result).items():
        expected = torch.zeros_like(view) if name in zeroed else layout.views(direction)[name]
        assert torch.equal(view, expected), (name, reason)
    assert direction.count_nonzero() == layout.size, "the argument is left alone"


@pytest.mark.parametrize(
    ("pattern", "zeroed", "reason"),
    [
        (
            "norm",
            ["0.weight", "0.bias", "0.running_mean", "0.running_var"],
            "or a variance would go negative",
        ),
        ("buffer", ["0.running_mean", "0.running_var"], "the statistics alone"),
        ("bias", ["0.running_mean", "0.running_var", "1.bias"], "they never move along a random direction"),
    ],
)
def test_running_statistics_belong_to_their_layer(pattern, zeroed, reason):
    layout = layout_of(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)), normalization_buffers=True)
    result = ignore(random_direction(layout, seed=1), layout, [pattern])
    still = [name for name, view in layout.views(result).items() if not view.any()]
    assert sorted(still) == sorted(zeroed), reason


def test_a_pattern_that_matches_nothing_is_refused_with_the_names():
    layout = layout_of(Network())
    with pytest.raises(LandscapeError, match=r"'lost\.\*' matches no tensor.*first\.weight, first\.bias"):
        ignore(torch.ones(layout.size), layout, ["lost.*"])


def test_ignoring_everything_is_refused():
    layout = layout_of(nn.BatchNorm1d(3))
    with pytest.raises(LandscapeError, match="norm leaves no tensor"):
        ignore(torch.ones(layout.size), layout, ["bias", "norm"])


def test_orthogonal_part_is_the_direction_less_its_projection():
    direction, against = torch.tensor([3.0, 4.0, 5.0]), torch.tensor([0.0, 2.0, 0.0])
    assert orthogonalize(direction, against).tolist() == [3, 0, 5]
    assert direction.tolist() == [3, 4, 5]


def test_orthogonalised_directions_are_orthogonal():
    generator = torch.Generator().manual_seed(1)
    against = torch.randn(3_000_001, generator=generator)
    direction = torch.randn(3_000_001, generator=generator) + 2 * against
    assert cosine(direction, against) > 0.8
    # float32 rounding of each element is 6e-8, and independent; over 3e6 elements it averages out.
    assert abs(cosine(orthogonalize(direction, against), against)) < 1e-8


def test_an_orthogonal_part_in_pieces_has_the_bits_of_one_whole():
    direction, against = torch.randn(2, 2**21 + 5, generator=torch.Generator().manual_seed(3))
    factor = dot(direction, against) / dot(against, against)
    whole = (direction.double() - factor * against.double()).float()
    assert torch.equal(orthogonalize(direction, against), whole)


def test_orthogonal_to_zero_is_the_direction_itself():
    direction = torch.tensor([1.0, 2.0])
    assert orthogonalize(direction, torch.zeros(2)).tolist() == [1, 2]


@pytest.mark.parametrize("factor", [1.0, -2.0, 1 / 3])
def test_parallel_directions_are_refused(factor):
    against = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    with pytest.raises(LandscapeError, match="parallel"):
        orthogonalize(factor * against, against)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 0], [1, 1], math.sqrt(0.5)),
        ([1, 2], [-2, -4], -1),
        ([1, 0], [0, 3], 0),
        ([1e30, 0], [1e30, 0], 1),  # squares overflow float32
        ([1e-30, 0], [1e-30, 1e-30], math.sqrt(0.5)),  # and underflow it
    ],
)
def test_cosine_in_closed_form(first, second, expected):
    value = cosine(torch.tensor(first, dtype=torch.float32), torch.tensor(second, dtype=torch.float32))
    assert value == pytest.approx(expected, rel=1e-14, abs=1e-15)


def test_cosine_with_zero_is_nan():
    assert math.isnan(cosine(torch.zeros(3), torch.ones(3)))


def test_cosine_of_a_long_vector_is_that_of_float64():
    generator = torch.Generator().manual_seed(2)
    first, second = torch.randn(2, 2**21 + 5, generator=generator)
    a, b = first.double().numpy(), second.double().numpy()
    exact = np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
    assert cosine(first, second) == pytest.approx(exact, rel=1e-10)
