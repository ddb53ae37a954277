"""Pictures of trajectories: dots at the checkpoints, red where the rate dropped, shares on the axes, contours of one plane."""

from dataclasses import replace

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.trajectory.value import Trajectory
from plotting import __main__ as command
from plotting.asked.request import Request
from plotting.asked.trajectory_pictures import draw_way, plan_trajectories
from plotting.drawn.figures import save

PRINTS = {"center": "c", "alpha": "a", "beta": "b"}
OF_A_SURFACE = {"identity_center": "c", "identity_direction_alpha": "a", "identity_direction_beta": "b"}


@pytest.fixture
def way():
    """Two trainings of four and three checkpoints; the rate of the first drops after epoch 2."""
    losses = np.array([2.0, 1.0, 0.5, 0.25, 3.0, 1.5, 0.75])
    return Trajectory(
        path="way.h5",
        names=("sgd", "adam"),
        index=np.array([0, 0, 0, 0, 1, 1, 1]),
        epoch=np.array([0, 1, 2, 3, 0, 5, 10]),
        checkpoints=tuple("abcdefg"),
        alpha=np.array([1.25, 0.75, 0.25, 0.0, 1.25, 0.5, -0.5]),
        beta=np.array([0.25, 0.75, 0.5, 0.0, 0.25, -0.25, -0.25]),
        distance=np.array([0.0, 0.5, 0.25, 0.0, 0.0, 1.0, 2.0]),
        from_center=np.array([3.0, 2.5, 1.0, 0.0, 3.0, 2.0, 2.5]),
        learning_rate=np.array([0.0, 0.1, 0.1, 0.01, 0.0, np.nan, np.nan]),
        values={"train_loss": losses, "train_loss_in_plane": losses * 1.1, "train_accuracy": 1 / (1 + losses)}
        | {"train_accuracy_in_plane": 1 / (1.2 + losses)},
        done=np.ones(7, dtype=bool),
        units={"train_loss": "nats per example", "train_accuracy": "1"},
        variation=np.array([0.75, 0.2, 0.05]),
        fingerprints=PRINTS,
        attributes={"axes": "pca", "alpha_variation": 0.75, "beta_variation": 0.2, "title": "mine"},
    )


@pytest.fixture
def ground(planted):
    return planted(**OF_A_SURFACE)


def drawn(way, *surfaces, kind="path", **options):
    request = Request(kinds=(kind,), **options)
    (picture, *_) = plan_trajectories([way], surfaces, request)
    return draw_way(picture, request)


def lines_of(ax, gid):
    return [line for line in ax.lines if line.get_gid() == gid]


@pytest.mark.parametrize("on_a_surface", [False, True])
def test_there_is_a_dot_for_each_checkpoint_and_a_red_one_where_the_rate_dropped(way, ground, on_a_surface):
    (ax,) = drawn(way, *[ground] * on_a_surface).axes
    for number, name in enumerate(way.names):
        (path,) = lines_of(ax, f"path {name}")
        places = way.way(number)
        np.testing.assert_array_equal(path.get_xydata(), np.stack([way.alpha, way.beta], axis=1)[places])
        assert path.get_marker() == "o"
    (red,) = lines_of(ax, "drops")
    np.testing.assert_array_equal(red.get_xydata(), [[0.25, 0.5]])
    assert red.get_markerfacecolor() == "#d7191c"
    assert ax.get_xlabel() == "α: 1st principal component, 75 %"
    assert ax.get_ylabel() == "β: 2nd principal component, 20 %"


def test_the_legend_names_the_trajectories(way):
    (legend,) = drawn(way).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert {"sgd", "adam", "learning rate dropped", "epoch 0"} <= set(texts)


def test_the_surface_is_below_with_labels_and_its_range(way, ground):
    (ax,) = drawn(way, ground).axes
    assert ax.get_xlim() == (ground.alpha[0], ground.alpha[-1])
    assert ax.get_ylim() == (ground.beta[0], ground.beta[-1])
    (contours,) = [each for each in ax.collections if hasattr(each, "levels")]
    assert len(contours.levels) > 3
    assert contours.labelTexts
    assert ax.get_title() == "mine: train loss"


def test_all_of_the_way_is_in_the_frame_without_a_surface(way):
    (ax,) = drawn(way).axes
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    assert left < way.alpha.min()
    assert right > way.alpha.max()
    assert low < way.beta.min()
    assert high > way.beta.max()


def test_what_the_plane_shows_is_true_loss_against_that_in_it_and_the_distance(way):
    loss, distance = drawn(way, kind="seen").axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), way.train_loss[:4])
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), way.train_loss_in_plane[:4])
    assert loss.lines[1].get_linestyle() == "--"
    np.testing.assert_array_equal(distance.lines[1].get_ydata(), way.distance[:4])
    assert distance.get_ylim()[0] == 0


def test_a_surface_in_another_plane_is_refused(way, planted):
    other = planted(**{**OF_A_SURFACE, "identity_direction_beta": "x"})
    with pytest.raises(LandscapeError, match=r"is not in the plane of way.h5 \(another beta\)"):
        plan_trajectories([way], [other], Request())
    with pytest.raises(LandscapeError, match=r"is a line, and way.h5 a path in a plane"):
        plan_trajectories([way], [planted(beta=None, loss=lambda alpha: alpha**2)], Request())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kinds": ("contour",)}, "--kind contour is not for a trajectory file; valid here: path, seen, all"),
        ({"together": True}, "--together is for surface files"),
        ({"quantities": ("train_lss",)}, "there is no quantity 'train_lss'"),
    ],
)
def test_options_that_do_not_fit_are_refused(way, options, text):
    with pytest.raises(LandscapeError, match=text):
        plan_trajectories([way], [], Request(**options))


def test_an_axis_with_next_to_nothing_of_the_way_is_not_blown_up(way):
    """From start to end the way looks straight, as it is."""
    shares = {
        "axes": "start_to_end",
        "alpha_variation": 0.9,
        "beta_variation": 1e-5,
        "alpha_norm": 3.0,
        "beta_norm": 6.0,
    }
    straight = replace(way, beta=way.beta * 1e-3, attributes=shares)
    low, high = straight.extent("beta")
    assert high - low == pytest.approx(0.2 * 1.75 * 3 / 6)
    assert low < straight.beta.min()
    assert high > straight.beta.max()
    assert straight.extent("alpha") == (-0.5, 1.25)
    assert way.extent("beta") == (-0.25, 0.75)


def test_the_command_draws_both_and_the_same_bytes_again(way, ground, tmp_path, monkeypatch):
    path, under = str(tmp_path / "way.h5"), str(tmp_path / "under.h5")
    way, ground = replace(way, path=path), replace(ground, path=under)
    monkeypatch.setattr(command, "kind_of", lambda file: "trajectory" if file == path else "surface")
    monkeypatch.setattr(command, "read_trajectory", lambda _: way)
    monkeypatch.setattr(command, "read_surface", lambda _: ground)
    assert command.main([path, under, "--dpi", "40"]) == 0
    pictures = [tmp_path / "way_train_loss_path.png", tmp_path / "way_seen.png"]
    first = [picture.read_bytes() for picture in pictures]
    assert command.main([path, under, "--dpi", "40"]) == 0
    assert [picture.read_bytes() for picture in pictures] == first


def test_plot_returns_the_figure(way, ground, tmp_path):
    figure = way.plot(surface=ground, title="another")
    assert figure.axes[0].get_title() == "another: train loss"
    save(figure, tmp_path / "a.png", dpi=40)
    with pytest.raises(LandscapeError, match="kind is 'line'; valid are path, seen"):
        way.plot("line")
