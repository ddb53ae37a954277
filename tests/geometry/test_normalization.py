import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape import LandscapeError
from mpi_landscape.geometry import normalization
from mpi_landscape.geometry.directions import ignore, random_direction
from mpi_landscape.geometry.layout import Layout, layout_of
from mpi_landscape.geometry.normalization import filter_norms, norm_ratios, normalize


def problem() -> tuple[Layout, torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    model = nn.ModuleList(
        [nn.Conv2d(2, 4, (3, 2)), nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.Linear(6, 5)]
    )
    layout = layout_of(model)
    return layout, random_direction(layout, seed=1), layout.flatten(model.state_dict(), where="model")


def filters_by_hand(name: str, shape: tuple[int, ...]) -> list[list[int]]:
    """Offsets within a tensor of each filter's elements, written out layer by layer."""
    offsets = {index: at for at, index in enumerate(itertools.product(*map(range, shape)))}
    if name in ("0.weight", "3.weight"):
        return [[at for index, at in offsets.items() if index[0] == filter] for filter in range(shape[0])]
    if name == "1.weight":  # (4 in, 3 per group): input channels 0, 1 are group 0, and 2, 3 group 1
        return [
            [at for index, at in offsets.items() if index[0] // 2 == group and index[1] == channel]
            for group in range(2)
            for channel in range(3)
        ]
    return [list(offsets.values())]


def by_loops(how: str) -> list[float]:
    """The four normalisations in plain Python, one element at a time."""
    layout, direction, center = problem()
    result = [0.0] * layout.size
    for entry in layout.entries:
        groups = filters_by_hand(entry.name, entry.shape)
        if how == "layer":
            groups = [list(itertools.chain(*groups))]
        for group in groups:
            d = [direction[entry.offset + at].item() for at in group]
            w = [center[entry.offset + at].item() for at in group]
            length = math.sqrt(math.fsum(x * x for x in d))
            target = math.sqrt(math.fsum(x * x for x in w))
            for at, x, y in zip(group, d, w, strict=True):
                scaled = {"none": x, "weight": x * abs(y)}.get(how, x * target / length)
                result[entry.offset + at] = scaled
    return result


@pytest.mark.parametrize("how", ["filter", "layer", "weight", "none"])
def test_normalisation_equals_plain_loops_over_filters(how):
    layout, direction, center = problem()
    result = normalize(direction, center, layout, how=how)
    assert result.dtype == torch.float32
    # Half an ulp of float32 is 6e-8 relative.
    np.testing.assert_allclose(result.numpy(), by_loops(how), rtol=1.2e-7, atol=0)


SHAPES = nn.ModuleList(
    [
        nn.Conv2d(3, 8, 5),
        nn.Conv1d(7, 5, 3),
        nn.Conv3d(2, 3, (1, 2, 3)),
        nn.ConvTranspose2d(6, 4, 3, groups=2),
        nn.ConvTranspose2d(64, 48, 3),
        nn.ConvTranspose2d(64, 3, 1),
        nn.ConvTranspose2d(31, 2, 5),
        nn.ConvTranspose2d(31, 1, 5),
        nn.ConvTranspose1d(12, 12, 1, groups=3),
        nn.ConvTranspose2d(40, 40, 3, groups=20),
        nn.Embedding(1000, 77),
        nn.Embedding(7, 1),
        nn.Linear(1, 9),
        nn.Linear(1001, 700),  # larger than the pieces that are used
        nn.LayerNorm((5, 4)),
        nn.LSTM(5, 6),
        nn.MultiheadAttention(8, 2),
        nn.Bilinear(3, 4, 5),
    ]
)


def whole_norms(tensor, axes):
    over = tuple(axis for axis in range(tensor.ndim) if axis not in axes)
    return np.sqrt(np.sum(tensor * tensor, axis=over, keepdims=True))


@pytest.mark.parametrize("piece", [normalization._PIECE, 1000, 200], ids=str)
@pytest.mark.parametrize("how", ["filter", "layer", "weight", "none"])
def test_work_in_pieces_gives_the_bits_of_whole_tensors(how, piece, monkeypatch):
    monkeypatch.setattr(normalization, "_PIECE", piece)
    layout = layout_of(SHAPES)
    generator = torch.Generator().manual_seed(3)
    direction, center = torch.randn(2, layout.size, generator=generator)
    direction[100:400], center[:50] = 0, 0
    result = normalize(direction, center, layout, how=how).numpy()
    lengths = []
    for entry in layout.entries:
        moved, fixed = (
            vector[entry.offset : entry.stop].double().numpy().reshape(entry.filter_view)
            for vector in (direction, center)
        )
        lengths.append(whole_norms(moved, entry.filter_axes).reshape(-1))
        if how == "weight":
            moved = moved * np.abs(fixed)
        elif how != "none":
            axes = entry.filter_axes if how == "filter" else ()
            length, target = whole_norms(moved, axes), whole_norms(fixed, axes)
            moved = moved * np.divide(target, length, out=np.zeros_like(target), where=length != 0)
        whole = moved.astype(np.float32).tobytes()
        assert result[entry.offset : entry.stop].tobytes() == whole, (entry.name, entry.shape)
    assert filter_norms(direction, layout).tobytes() == np.concatenate(lengths).tobytes()


def test_arguments_are_left_alone():
    layout, direction, center = problem()
    copies = direction.clone(), center.clone()
    for how in ("filter", "layer", "weight", "none"):
        result = normalize(direction, center, layout, how=how)
        assert result.data_ptr() not in (direction.data_ptr(), center.data_ptr())
    assert torch.equal(direction, copies[0])
    assert torch.equal(center, copies[1])


def test_filters_have_the_center_s_norms():
    layout, direction, center = problem()
    ratios = norm_ratios(normalize(direction, center, layout, how="filter"), center, layout)
    assert ratios.shape == (layout.num_filters,) == (4 + 1 + 6 + 1 + 1 + 1 + 5 + 1,)
    moving = filter_norms(center, layout) > 0  # the bias of batch normalisation starts at zero
    assert moving.sum() == layout.num_filters - 1
    np.testing.assert_allclose(ratios[moving], 1, rtol=1e-7)  # rounding to float32, averaged


def test_scaling_the_direction_changes_nothing():
    layout, direction, center = problem()
    one, other = (normalize(scale * direction, center, layout, how="filter") for scale in (1, 1024))
    assert torch.equal(one, other)


def test_zero_filters_stay_zero_on_either_side():
    layout = layout_of(nn.Linear(2, 3, bias=False))
    direction = torch.tensor([3.0, 4, 0, 0, 1, 1])
    center = torch.tensor([6.0, 8, 1, 1, 0, 0])
    assert normalize(direction, center, layout, how="filter").tolist() == [6, 8, 0, 0, 0, 0]
    ratios = norm_ratios(torch.tensor([6.0, 8, 0, 0, 0, 0]), center, layout)
    assert ratios[:2].tolist() == [1, 0]
    assert math.isnan(ratios[2])
    assert norm_ratios(direction, center, layout)[2] == math.inf


def test_ignored_tensors_stay_ignored():
    layout, direction, center = problem()
    result = normalize(ignore(direction, layout, ["bias", "norm"]), center, layout, how="filter")
    for name, view in layout.views(result).items():
        assert bool(view.any()) == (name in {"0.weight", "1.weight", "3.weight"})


def test_weight_keeps_the_sign_of_the_direction():
    layout = layout_of(nn.Linear(2, 1, bias=False))
    result = normalize(torch.tensor([1.0, -1.0]), torch.tensor([-2.0, -3.0]), layout, how="weight")
    assert result.tolist() == [2, -3]


def test_tiny_and_huge_filters_keep_their_norms():
    layout = layout_of(nn.Linear(2, 2, bias=False))
    center = torch.tensor([3e-30, 4e-30, 3e30, 4e30])  # squares leave the range of float32
    result = normalize(torch.tensor([1.0, 0, 0, 1]), center, layout, how="filter")
    np.testing.assert_allclose(result.numpy(), [5e-30, 0, 0, 5e30], rtol=2e-7)


def test_filter_norms_come_in_the_order_of_the_entries():
    layout, _, center = problem()
    expected = []
    for entry in layout.entries:
        for group in filters_by_hand(entry.name, entry.shape):
            expected.append(math.sqrt(math.fsum(center[entry.offset + at].item() ** 2 for at in group)))
    norms = filter_norms(center, layout)
    assert norms.dtype == np.float64
    np.testing.assert_allclose(norms, expected, rtol=1e-14)


def test_normalisation_does_not_depend_on_the_number_of_threads():
    layout = layout_of(nn.Linear(1000, 300))
    direction, center = (random_direction(layout, seed=seed) for seed in (1, 2))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = normalize(direction, center, layout, how="layer")
        torch.set_num_threads(2)
        other = normalize(direction, center, layout, how="layer")
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, other)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_center_that_is_not_finite_is_refused_by_name(bad):
    layout, direction, center = problem()
    center[layout.entries[1].offset] = bad
    with pytest.raises(LandscapeError, match=r"0\.bias is not finite"):
        normalize(direction, center, layout, how="filter")


def test_an_unknown_normalisation_is_refused_with_the_valid_ones():
    layout, direction, center = problem()
    with pytest.raises(LandscapeError, match="'filters'; valid values are filter, layer, weight, none"):
        normalize(direction, center, layout, how="filters")


def test_vectors_of_another_network_are_refused():
    layout, direction, center = problem()
    with pytest.raises(LandscapeError, match="direction has shape"):
        normalize(direction[1:], center, layout, how="filter")
    with pytest.raises(LandscapeError, match="center has shape"):
        normalize(direction, center[1:], layout, how="filter")
