from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from plotting.drawn.line import draw_line
from plotting.picture.field import field_of
from plotting.picture.scale import choose_scale

ALPHA = np.linspace(-0.5, 1.5, 9)
NAMES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def _draw(surface, names=NAMES, **options):
    ax = Figure().add_subplot()
    fields = [field_of(surface, name, as_line=True) for name in names]
    results = np.concatenate([field.results for field in fields if "accuracy" not in field.quantity])
    right, handles = draw_line(ax, fields, choose_scale(results, where="x", **options))
    return ax, right, [handle.get_label() for handle in handles]


def _curves(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_loss_is_on_the_left_and_accuracy_on_the_right_train_solid_and_test_dashed(planted):
    surface = planted(alpha=ALPHA, beta=None, loss=lambda alpha: (alpha - 0.25) ** 2)
    ax, right, labels = _draw(surface)
    assert set(_curves(ax)) == {"train loss", "test loss"}
    assert set(_curves(right)) == {"train accuracy", "test accuracy"}
    for curves in (_curves(ax), _curves(right)):
        for name, curve in curves.items():
            assert curve.get_linestyle() == ("--" if name.startswith("test") else "-")
            np.testing.assert_array_equal(curve.get_xdata(), ALPHA)
            np.testing.assert_allclose(curve.get_ydata(), surface.values[name.replace(" ", "_")])
    assert labels == ["train loss", "test loss", "train accuracy", "test accuracy"]


def test_a_validation_split_can_be_told_from_both_others(planted):
    surface = planted(alpha=ALPHA, beta=None, loss=lambda alpha: (alpha - 0.25) ** 2)
    renamed = {name.replace("test", "val"): values for name, values in surface.values.items()}
    done = {split.replace("test", "val"): mask for split, mask in surface.done.items()}
    ax, _, _ = _draw(replace(surface, values=renamed, done=done), names=("train_loss", "val_loss"))
    assert {name: curve.get_linestyle() for name, curve in _curves(ax).items()} == {
        "train loss": "-",
        "val loss": "-.",
    }


def test_a_result_that_is_not_finite_interrupts_the_curve_and_is_hatched(planted):
    values = np.linspace(1, 2, 9)
    values[4] = np.inf
    ax, _, labels = _draw(planted(alpha=ALPHA, beta=None, loss=values), names=("train_loss",))
    (curve,) = _curves(ax).values()
    assert np.isnan(curve.get_ydata()).tolist() == [k == 4 for k in range(9)]
    (span,) = [patch for patch in ax.patches if patch.get_hatch()]
    assert (span.get_x(), span.get_width()) == (pytest.approx(0.375), pytest.approx(0.25))
    assert "train loss: result is ∞" in labels


def test_points_that_are_not_computed_yet_do_not_interrupt_the_curve(planted):
    done = np.arange(9) % 2 == 0
    ax, _, _ = _draw(planted(alpha=ALPHA, beta=None, loss=ALPHA**2, done=done), names=("train_loss",))
    (curve,) = _curves(ax).values()
    np.testing.assert_array_equal(curve.get_xdata(), ALPHA[::2])
    np.testing.assert_allclose(curve.get_ydata(), ALPHA[::2] ** 2)
    assert curve.get_marker() == "o"


@pytest.mark.parametrize(("num_alpha", "num_beta", "name"), [(9, 1, "α"), (1, 9, "β"), (1, 1, "α")])
def test_a_grid_one_point_wide_is_a_line_along_its_longer_axis(planted, num_alpha, num_beta, name):
    surface = planted(alpha=np.linspace(0, 1, num_alpha), beta=np.linspace(0, 2, num_beta))
    ax, _, _ = _draw(surface, names=("train_loss",))
    (curve,) = _curves(ax).values()
    assert ax.get_xlabel() == name
    np.testing.assert_array_equal(curve.get_xdata(), surface.alpha if name == "α" else surface.beta)
    np.testing.assert_array_equal(curve.get_ydata(), surface.values["train_loss"].ravel())


def test_accuracies_alone_stand_on_the_left_axis(planted):
    ax = Figure().add_subplot()
    field = field_of(planted(alpha=ALPHA, beta=None, loss=ALPHA**2), "test_accuracy")
    right, _ = draw_line(ax, [field], choose_scale(field.results, where="x"))
    assert right is None
    assert ax.get_ylabel() == "accuracy"


def test_a_logarithmic_line_has_a_logarithmic_left_axis_only(planted):
    ax, right, _ = _draw(planted(alpha=ALPHA, beta=None, loss=10 ** (5 * ALPHA)), kind="log")
    assert (ax.get_yscale(), right.get_yscale()) == ("log", "linear")


@pytest.mark.parametrize("loss", [np.full(9, 2.3), np.full(9, np.nan), np.zeros(9)])
def test_lines_without_form_are_drawn_without_warnings(planted, loss, recwarn):
    ax, _, _ = _draw(planted(alpha=ALPHA, beta=None, loss=loss))
    ax.figure.draw_without_rendering()
    assert not recwarn.list
