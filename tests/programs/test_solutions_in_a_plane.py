"""Planes through three solutions, and lines through two: where they lie, in the file and in the picture."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import mpi_landscape
from mpi_landscape import inspect
from mpi_landscape.storage.surface.reader import read_direction, read_surface
from mpi_landscape.wording import telling_parts

# The parameters that move in this order: weight (3, 4), bias (5).
NAMES = ("weight", "bias")


@pytest.fixture
def solutions(study):
    """Two further checkpoints: their flat vectors by name, with the center's."""
    generator = torch.Generator().manual_seed(8)
    center = torch.load(study.folder / "center.pt")
    found = {"center": center}
    for name in ("seed=1", "seed=2"):
        (study.folder / name).mkdir()
        found[name] = {key: torch.randn(value.shape, generator=generator) for key, value in center.items()}
        torch.save(found[name], study.folder / name / "final.pt")
    return {
        name: torch.cat([state[each].reshape(-1) for each in NAMES]).double().numpy()
        for name, state in found.items()
    }


def directions(study, more="", orthogonalize=True):
    return (
        "--set",
        f"directions.alpha={{kind: difference, to: {study.folder}/seed=1/final.pt}}",
        "--set",
        f"directions.beta={{kind: difference, to: {study.folder}/seed=2/final.pt{more}}}",
        *(("--set", "directions.orthogonalize=true") if orthogonalize else ()),
    )


def test_the_third_solution_lies_where_least_squares_puts_it(study, computed, solutions):
    computed(*directions(study))
    alpha, beta = (read_direction(study.output, name)[0].astype(float) for name in ("alpha", "beta"))
    assert abs(alpha @ beta) < 1e-5 * np.linalg.norm(alpha) * np.linalg.norm(beta)
    way = solutions["seed=2"] - solutions["center"]
    wanted, *_ = np.linalg.lstsq(np.stack([alpha, beta], axis=1), way, rcond=None)
    center, first, second = read_surface(study.output).points
    assert [center.name, first.name, second.name] == ["center", "seed=1/final", "seed=2/final"]
    assert [center.at, first.at] == [(0, 0), (1, 0)]
    np.testing.assert_allclose(second.at, wanted, rtol=1e-6)
    assert second.at[1] == pytest.approx(1, abs=1e-6)
    assert second.outside < 1e-6
    # The plane holds the solution itself.
    place = solutions["center"] + second.at[0] * alpha + second.at[1] * beta
    np.testing.assert_allclose(place, solutions["seed=2"], atol=1e-5)


def test_without_orthogonal_directions_both_ends_lie_at_one(study, computed, solutions):
    computed(*directions(study, orthogonalize=False))
    assert [point.at for point in read_surface(study.output).points] == [(0, 0), (1, 0), (0, 1)]


def test_an_end_that_its_direction_does_not_reach_is_a_projection(study, computed, here, solutions):
    computed(*directions(study, more=", normalize: filter, ignore: [bias]", orthogonalize=False))
    *_, point = read_surface(study.output).points
    alpha, beta = (read_direction(study.output, name)[0].astype(float) for name in ("alpha", "beta"))
    way = solutions["seed=2"] - solutions["center"]
    wanted, (rest,), *_ = np.linalg.lstsq(np.stack([alpha, beta], axis=1), way, rcond=None)
    np.testing.assert_allclose(point.at, wanted, rtol=1e-6)
    assert point.outside == pytest.approx(np.sqrt(rest) / np.linalg.norm(way), rel=1e-6)
    assert point.is_projected
    told = here(inspect.main, study.output)
    assert (
        f"seed=2/final at ({point.at[0]:g}, {point.at[1]:g}), {100 * point.outside:.2g} % of its way"
        in told.out
    )
    figure = read_surface(study.output).plot("contour", quantity="train_loss")
    texts = [each.get_text() for each in figure.axes[0].texts if each.get_gid() == "name"]
    assert texts[-1:] == ["seed=2/final (projected)"]


def test_where_tensors_keep_their_types_the_coordinates_are_the_same(study, computed, solutions):
    computed(*directions(study))
    kept = study.folder / "kept.h5"
    computed(*directions(study), "--set", "compute.precision=kept", "--output", str(kept))
    for one, other in zip(read_surface(study.output).points, read_surface(kept).points, strict=True):
        assert one.name == other.name
        np.testing.assert_allclose(one.at, other.at, atol=1e-6)


@pytest.mark.parametrize("kind", ["contour", "filled", "heatmap"])
def test_three_points_and_their_names_are_in_the_picture(study, computed, solutions, kind):
    computed(*directions(study), "--alpha=-0.5:1.5:7", "--beta=-0.5:1.5:5")
    found = read_surface(study.output)
    (ax, *_) = found.plot(kind, quantity="train_loss").axes
    marked = [each.get_xydata()[0].tolist() for each in ax.lines if each.get_gid() == "solution"]
    np.testing.assert_allclose(marked, [point.at for point in found.points[1:]])
    names = {each.get_text(): each.xy for each in ax.texts if each.get_gid() == "name"}
    assert list(names) == ["center", "seed=1/final", "seed=2/final"]
    np.testing.assert_allclose(names["seed=2/final"], found.points[2].at)


def test_a_point_beyond_the_grid_is_not_in_the_picture(study, computed, solutions):
    computed(*directions(study), "--alpha=-0.5:0.5:7", "--beta=-0.5:0.5:5")
    (ax, *_) = read_surface(study.output).plot("contour", quantity="train_loss").axes
    assert [each.get_text() for each in ax.texts if each.get_gid() == "name"] == ["center"]


def test_both_ends_of_a_line_have_their_names(study, computed, solutions):
    computed(*directions(study)[:2], "--line", "--alpha=-0.5:1.5:9")
    found = read_surface(study.output)
    assert [(point.name, point.at) for point in found.points] == [("center", (0,)), ("seed=1/final", (1,))]
    (ax, *_) = found.plot(quantity="train_loss").axes
    assert [each.get_text() for each in ax.texts if each.get_gid() == "name"] == ["center", "seed=1/final"]
    assert [each.get_xdata()[0] for each in ax.lines if each.get_gid() == "solution"] == [1]


def test_random_directions_lead_to_no_solution(study, computed):
    computed()
    assert read_surface(study.output).points == ()


def test_the_points_are_labelled_for_other_programs(study, computed, solutions):
    xarray = pytest.importorskip("xarray")
    computed(*directions(study))
    found = read_surface(study.output).points
    with xarray.open_dataset(study.output, group="points") as points:
        assert points["alpha"].dims == ("point",)
        assert points["alpha"].values.tolist() == [point.at[0] for point in found]


def test_networks_that_a_script_hands_over_have_the_names_of_their_axes():
    torch.manual_seed(0)
    first, second, third = (nn.Linear(3, 4) for _ in range(3))
    data = TensorDataset(torch.randn(20, 3), torch.arange(20) % 4)
    surface = mpi_landscape.landscape(
        first,
        "cross_entropy",
        data,
        alpha=(-0.5, 1.5, 5),
        beta=(-0.5, 1.5, 4),
        directions={
            "alpha": {"kind": "difference", "to": second},
            "beta": {"kind": "difference", "to": third.state_dict()},
            "orthogonalize": True,
        },
    )
    assert [point.name for point in surface.points] == ["center", "end of alpha", "end of beta"]
    assert surface.points[2].outside < 1e-6


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.pt", "b/x.pt"], ("a", "b")),
        (["a/x.pt", "a/y.pt", "b/x.pt"], ("a/x", "a/y", "b/x")),
        (["run/epoch_0001.pt", "run/final.pt"], ("epoch_0001", "final")),
        (["/data/run/final.pt"], ("",)),
        (["x.pt", "x.pt"], ("", "")),
        ([], ()),
    ],
)
def test_names_are_what_tells_paths_apart(paths, names):
    assert telling_parts(paths) == names
