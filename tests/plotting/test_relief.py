from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from plotting.drawn.relief import draw_surface
from plotting.picture.field import field_of
from plotting.picture.scale import choose_scale


def _draw(surface, **options):
    ax = Figure().add_subplot(projection="3d")
    field = field_of(surface, "train_loss")
    faces, handles = draw_surface(ax, field, choose_scale(field.results, where="x", **options))
    return ax, faces, [handle.get_label() for handle in handles]


def _corners(faces):
    # As given to matplotlib, before any projection.
    return np.asarray(faces._faces).reshape(-1, 3)


def test_every_corner_of_the_surface_lies_on_the_function(planted):
    _, faces, _ = _draw(planted())
    alpha, beta, loss = _corners(faces).T
    np.testing.assert_allclose(loss, (alpha - 0.5) ** 2 + 4 * (beta - 0.3) ** 2, atol=1e-12)
    assert len(faces._faces) == 25 * 17
    np.testing.assert_allclose([np.ptp(alpha), np.ptp(beta)], [2.5, 1.7])


def test_a_logarithmic_height_has_the_values_as_ticks(planted):
    ax, faces, _ = _draw(planted(loss=lambda alpha, beta: 10 ** (4 * alpha + beta)), kind="log")
    alpha, beta, height = _corners(faces).T
    np.testing.assert_allclose(height, 4 * alpha + beta, atol=1e-9)
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    ticks = [label.get_text() for label in ax.get_zticklabels()]
    assert len(ticks) >= 3
    for tick, text in zip(ax.get_zticks(), ticks, strict=True):
        plain = text.isascii()
        assert 10**tick == pytest.approx(
            float(text if plain else text.translate(powers).replace("10", "1e", 1))
        )
    assert "(log)" in ax.get_zlabel()


def test_heights_beyond_the_scale_are_cut_and_it_is_said(planted):
    ax, faces, _ = _draw(planted(), vmin=0.5, vmax=2.0)
    heights = _corners(faces)[:, 2]
    assert (heights.min(), heights.max()) == (0.5, 2.0)
    assert "cut at 0.5 and 2" in [text.get_text() for text in ax.texts]


def test_a_result_that_is_not_finite_is_a_hole_over_a_hatched_floor(planted):
    values = np.ones((26, 18)) + np.arange(18)
    values[7, 4] = np.nan
    surface = planted(loss=values)
    ax, faces, labels = _draw(surface)
    assert labels == ["result is NaN"]
    # Four meshes lose the point: each leaves a triangle.
    assert len(faces._faces) == 25 * 17
    hole = (surface.alpha[7], surface.beta[4])
    assert not (np.abs(_corners(faces)[:, :2] - hole) < 1e-9).all(axis=1).any()
    assert [collection.get_hatch() for collection in ax.collections] == ["/////", None]


def test_a_partial_surface_stands_on_its_finished_points(planted):
    done = np.zeros((26, 18), dtype=bool)
    done[::5, ::17] = True
    surface = planted(done=done)
    _, faces, _ = _draw(surface)
    corners = {(a, b) for a, b, _ in _corners(faces)}
    assert corners == {(a, b) for a in surface.alpha[::5] for b in surface.beta[::17]}


@pytest.mark.parametrize(
    ("values", "text"),
    [(np.full((26, 18), np.nan), "no finite value: every result is NaN"), (np.full((26, 18), 2.3), None)],
)
def test_a_surface_without_form_is_drawn_or_explained(planted, values, text):
    ax, faces, _ = _draw(planted(loss=values))
    assert (faces is None) == (text is not None)
    assert text is None or text in [word.get_text() for word in ax.texts]


def test_the_scale_of_the_loss_does_not_change_the_light(planted):
    _, small, _ = _draw(planted())
    _, large, _ = _draw(planted(loss=lambda a, b: 1e6 * ((a - 0.5) ** 2 + 4 * (b - 0.3) ** 2)), kind="linear")
    np.testing.assert_allclose(small._facecolor3d, large._facecolor3d, atol=1e-6)
