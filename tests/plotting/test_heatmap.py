from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from plotting.drawn.heatmap import draw_heatmap
from plotting.picture.field import field_of
from plotting.picture.scale import choose_scale


def _draw(surface, **options):
    ax = Figure().add_subplot()
    field = field_of(surface, "train_loss")
    mesh, handles = draw_heatmap(ax, field, choose_scale(field.results, where="x", **options))
    return ax, mesh, [handle.get_label() for handle in handles]


def test_the_mesh_holds_the_surface_transposed_once(planted):
    surface = planted()
    ax, mesh, labels = _draw(surface)
    assert np.ma.getdata(mesh.get_array()).reshape(18, 26).tolist() == surface.values["train_loss"].T.tolist()
    corners = mesh.get_coordinates()
    assert corners[..., 0].min() < -1.0 < corners[..., 0].max() - 2.5
    assert (ax.get_xlim(), ax.get_ylim()) == (pytest.approx((-1.05, 1.55)), pytest.approx((-0.55, 1.25)))
    assert labels == []


def test_the_lowest_cell_lies_at_the_planted_minimum(planted):
    _, mesh, _ = _draw(planted())
    row, column = np.unravel_index(mesh.get_array().reshape(18, 26).argmin(), (18, 26))
    cell = mesh.get_coordinates()[row : row + 2, column : column + 2].mean(axis=(0, 1))
    np.testing.assert_allclose(cell, [0.5, 0.3], atol=1e-12)


def test_the_darkest_pixels_are_at_the_planted_minimum(planted):
    figure = Figure(figsize=(4, 4), dpi=100)
    ax = figure.add_axes((0, 0, 1, 1))
    field = field_of(planted(alpha=np.linspace(0.1, 1.5, 15), beta=np.linspace(0.1, 1.2, 12)), "train_loss")
    draw_heatmap(ax, field, choose_scale(field.results, where="x"))
    ax.axis("off")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(float).sum(axis=-1)
    rows, columns = np.nonzero(pixels == pixels.min())
    place = ax.transData.inverted().transform((columns.mean(), 400 - rows.mean()))
    np.testing.assert_allclose(place, [0.5, 0.3], atol=0.03)


@pytest.mark.parametrize(("loss", "label"), [(np.nan, "result is NaN"), (np.inf, "result is ∞")])
def test_results_that_are_not_finite_are_hatched_cells(planted, loss, label):
    values = np.add.outer(np.linspace(0, 1, 26), np.linspace(0, 1, 18))
    values[3, 5:7] = loss
    surface = planted(loss=values)
    ax, mesh, labels = _draw(surface)
    expected = np.zeros((26, 18), dtype=bool)
    expected[3, 5:7] = True
    np.testing.assert_array_equal(np.ma.getmaskarray(mesh.get_array()).reshape(18, 26), expected.T)
    assert labels == [label]
    (patch,) = [patch for patch in ax.patches if patch.get_hatch()]
    for i, alpha in enumerate(surface.alpha):
        for j, beta in enumerate(surface.beta):
            assert patch.get_path().contains_point((alpha, beta)) == expected[i, j]


def test_points_that_are_not_computed_yet_are_grey_and_not_hatched(planted):
    done = np.zeros((26, 18), dtype=bool)
    done[::5, ::17] = True
    ax, mesh, labels = _draw(planted(done=done))
    np.testing.assert_array_equal(np.ma.getmaskarray(mesh.get_array()).reshape(18, 26), ~done.T)
    assert labels == ["not computed yet"]
    assert [patch.get_hatch() for patch in ax.patches] == [None]


def test_a_loss_of_zero_has_its_own_hatch_on_a_logarithmic_scale(planted):
    values = np.add.outer(np.linspace(0, 1, 26), np.linspace(0, 1, 18))
    _, mesh, labels = _draw(planted(loss=values), kind="log")
    assert isinstance(mesh.norm, LogNorm)
    assert np.argwhere(np.ma.getmaskarray(mesh.get_array()).reshape(18, 26)).tolist() == [[0, 0]]
    assert labels == ["result ≤ 0 (no logarithm)"]


@pytest.mark.parametrize(("num_alpha", "num_beta"), [(1, 7), (7, 1), (1, 1)])
def test_axes_of_one_point_are_drawn(planted, num_alpha, num_beta):
    surface = planted(alpha=np.linspace(0, 1, num_alpha), beta=np.linspace(0, 2, num_beta))
    _, mesh, _ = _draw(surface)
    assert mesh.get_array().size == 7 ** (num_alpha + num_beta > 2)
