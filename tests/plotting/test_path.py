"""The picture of a path between two solutions: what is drawn of it, and where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.connection.value import Connection, Pivots
from plotting.asked.path_pictures import plan_paths
from plotting.asked.request import Request
from plotting.drawn.path import draw_path

T = np.array([0.0, 0.3, 0.5, 0.9, 1.0])


def connection(*, done=5, on_path=True, method="autoneb", number=3):
    generator = np.random.default_rng(0)
    mask = np.arange(5) < done
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    values = {name: generator.uniform(0.1, 0.9, 5) for name in (*names, *(f"line_{each}" for each in names))}
    return Connection(
        path="path.h5",
        t=T,
        length=2 * T,
        values={name: np.where(mask, each, np.nan) for name, each in values.items()},
        done=mask,
        pivots=Pivots(
            t=np.array([0.0, 0.3, 1.0][:: 1 if number == 3 else 2]),
            distance=np.zeros(number),
            checkpoints=("a", "b", "c")[:number],
            on_path=on_path,
        ),
        splits=("train", "test"),
        units=dict.fromkeys(values, "nats per example"),
        attributes={"method": method, "line_length": 1.6, "gradient_passes": 12.0, "title": "a network"},
    )


def curves(figure):
    return {each.get_gid(): each for ax in figure.axes for each in ax.get_lines() if each.get_gid()}


def test_losses_share_one_scale_and_accuracies_have_the_other():
    figure = draw_path(connection(), title="t")
    losses, accuracies = figure.axes
    drawn = curves(figure)
    for name in ("train_loss", "test_loss", "line_train_loss", "line_test_loss"):
        assert drawn[name].axes is losses
        np.testing.assert_array_equal(drawn[name].get_ydata(), connection().values[name])
        np.testing.assert_array_equal(drawn[name].get_xdata(), T)
    for name in ("train_accuracy", "line_test_accuracy"):
        assert drawn[name].axes is accuracies
    assert losses.get_ylabel() == "loss (nats per example)"
    low, high = losses.get_ylim()
    everything = np.concatenate([each for name, each in connection().values.items() if name.endswith("loss")])
    assert low < everything.min()
    assert high > everything.max()


def test_train_is_solid_and_test_dashed_and_the_straight_line_fainter():
    drawn = curves(draw_path(connection(), title="t"))
    assert drawn["train_loss"].get_linestyle() == "-"
    assert drawn["line_train_loss"].get_linestyle() == "-"
    assert drawn["test_loss"].get_linestyle() == "--"
    assert drawn["line_test_loss"].get_alpha() < drawn["test_loss"].get_alpha()


def test_pivots_are_marked_on_the_path():
    drawn = curves(draw_path(connection(), title="t"))
    assert drawn["pivots"].get_xdata().tolist() == [0.3]
    assert drawn["pivots"].get_ydata().tolist() == [connection().values["train_loss"][1]]
    assert "pivots" not in curves(draw_path(connection(on_path=False), title="t"))


def test_a_straight_path_is_drawn_once():
    drawn = curves(draw_path(connection(number=2, method="line"), title="t"))
    assert set(drawn) == {"train_loss", "train_accuracy", "test_loss", "test_accuracy"}


def test_barriers_length_and_cost_are_written():
    text = " ".join(each.get_text() for each in draw_path(connection(), title="t").axes[0].texts)
    words = text.replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")
    own, line = (connection().barriers[name] for name in ("barrier_train", "line_barrier_train"))
    assert f"train barrier {own:.3g} (straight {line:.3g})" in words
    assert "1.25 times as long" in words
    assert "12 gradient passes" in words


def test_an_unfinished_path_shows_what_there_is():
    figure = draw_path(connection(done=2), title="t")
    assert len(curves(figure)["train_loss"].get_xdata()) == 2
    assert "partial: 2 of 5 points" in figure.axes[0].texts[0].get_text().replace("\N{NO-BREAK SPACE}", " ")
    nothing = draw_path(connection(done=0), title="t")
    assert any("no point is computed yet" in each.get_text() for each in nothing.axes[0].texts)


def test_a_result_that_is_not_finite_is_a_gap():
    broken = connection()
    values = {**broken.values, "line_train_loss": np.array([0.1, np.inf, 0.3, np.nan, 0.2])}
    drawn = curves(draw_path(replace(broken, values=values), title="t"))
    assert np.isnan(drawn["line_train_loss"].get_ydata()).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize(
    "asked",
    [
        {"kinds": ("contour",)},
        {"kinds": ("nothing",)},
        {"quantities": ("train_loss",)},
        {"together": True},
        {"common_scale": True},
    ],
)
def test_what_a_path_does_not_have_is_refused(asked):
    with pytest.raises(LandscapeError):
        plan_paths([connection()], Request(**asked))


def test_a_picture_is_named_after_its_file():
    (picture,) = plan_paths([connection()], Request(kinds=("all",), format="pdf"))
    assert str(picture.path) == "path_path.pdf"
    assert picture.title == "a network"
