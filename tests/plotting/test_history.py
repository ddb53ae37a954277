"""Training curves: the values at their epochs, rules where something changed, one picture or a refusal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage.history.records import History, HistoryWriter, create_history
from mpi_landscape.storage.surface.creation import Contents, create
from plotting import __main__ as command
from plotting.asked.history_pictures import plan_histories
from plotting.asked.request import Request, distinct_names
from plotting.drawn.figures import save
from plotting.drawn.history import draw_history
from plotting.picture.curves import common_rules, curve_of, panels_of, rules_of

TOTAL = 9
RATES = [0.0, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001]


def trained(
    *,
    done=None,
    rates=RATES,
    phase=None,
    splits=("train", "test"),
    path="run/history.h5",
    factor=1.0,
    attributes=None,
    **changed,
) -> History:
    """Ten rows whose losses, norms and accuracies are simple functions of the epoch."""
    epoch = np.arange(len(rates))
    done = np.ones(len(rates), dtype=bool) if done is None else np.asarray(done)
    values = {
        "learning_rate": np.array(rates),
        "weight_norm": 5 + epoch / 4,
        "seconds": 2.0 + epoch,
    }
    for k, split in enumerate(splits):
        values[f"{split}_loss"] = factor * np.exp(-epoch / (4 + k))
        values[f"{split}_accuracy"] = 1 - np.exp(-epoch / (4 + k)) * 0.9
    values |= {name: np.asarray(column, dtype=float) for name, column in changed.items()}
    return History(
        path=path,
        epoch=epoch,
        phase=np.where(done, np.zeros_like(epoch) if phase is None else phase, -1),
        values={name: np.where(done, column, np.nan) for name, column in values.items()},
        done=done,
        attributes={"title": "toy"} if attributes is None else attributes,
        splits=splits,
    )


def figure_of(*histories, quantities=(), labels=(), **options):
    return draw_history(
        histories,
        panels_of(histories, quantities),
        title="toy",
        labels=labels or [history.path for history in histories],
        **options,
    )


def axes_of(figure):
    return {ax.get_ylabel(): ax for ax in figure.axes}


def curves_of(ax):
    return {line.get_label(): line for line in ax.lines if line.get_gid() is None}


def rules_in(ax):
    return {label: [line.get_xdata()[0] for line in ax.lines if line.get_gid() == label] for label in RULES}


RULES = ("learning rate lowered", "next phase begins")


def words_of(figure):
    texts = [text for ax in figure.axes for text in (ax.title, *ax.texts)]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    return [text.get_text().replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ") for text in texts]


def test_losses_errors_norm_and_rate_stand_over_one_axis_of_epochs_train_solid_and_test_dashed():
    history = trained()
    axes = axes_of(figure_of(history))
    assert list(axes) == ["loss", "error", "weight norm", "learning rate"]
    assert {ax.get_xlim() for ax in axes.values()} == {axes["loss"].get_xlim()}
    for kind, ax, expected in (
        ("loss", axes["loss"], lambda values: values),
        ("accuracy", axes["error"], lambda values: 1 - values),
    ):
        curves = curves_of(ax)
        assert set(curves) == {f"train {kind}", f"test {kind}"}
        for label, curve in curves.items():
            assert curve.get_linestyle() == ("-" if label.startswith("train") else "--")
            np.testing.assert_array_equal(curve.get_xdata(), np.arange(10))
            values = history.values[label.replace(" ", "_")]
            np.testing.assert_array_equal(curve.get_ydata(), expected(values))
    (norm,) = curves_of(axes["weight norm"]).values()
    np.testing.assert_array_equal(norm.get_ydata(), 5 + np.arange(10) / 4)


def test_the_rate_of_an_epoch_holds_from_the_end_of_the_one_before():
    (curve,) = curves_of(axes_of(figure_of(trained()))["learning rate"]).values()
    assert curve.get_drawstyle() == "steps-pre"
    # The row of the initial network has no rate.
    np.testing.assert_array_equal(curve.get_xdata(), np.arange(10))
    np.testing.assert_array_equal(curve.get_ydata(), [0.1, *RATES[1:]])


def test_few_learning_rates_are_ticks_whatever_their_last_bits():
    rates = [0.0, 0.1, 0.1, 0.1 * 0.1, 0.01, 0.001, 0.1 * 0.1 * 0.1, 0.1**3 * 0.1, 0.0001]
    ax = axes_of(figure_of(trained(rates=rates)))["learning rate"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0.0001", "0.001", "0.01", "0.1"]


@pytest.mark.parametrize(
    ("loss", "scale", "expected", "reason"),
    [
        (np.geomspace(2, 0.01, 10), "auto", "log", "all are positive"),
        ([2, 1, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0], "auto", "linear", "zero has no logarithm"),
        (np.linspace(2, -1, 10), "auto", "linear", "nor has a negative loss"),
        (np.geomspace(2, 0.01, 10), "linear", "linear", "the user said so"),
        ([2, 1, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0], "log", "log", "the user said so"),
    ],
)
def test_the_scale_of_the_losses_is_logarithmic_where_they_are_positive(loss, scale, expected, reason):
    figure = figure_of(trained(train_loss=loss), quantities=("train_loss",), scale=scale)
    (ax,) = figure.axes
    assert ax.get_yscale() == expected, reason
    (curve,) = curves_of(ax).values()
    shown = np.asarray(loss) > 0 if expected == "log" else np.ones(10, dtype=bool)
    np.testing.assert_array_equal(np.isfinite(curve.get_ydata()), shown, reason)


def test_errors_are_written_in_percent_and_keep_a_linear_scale():
    ax = axes_of(figure_of(trained()))["error"]
    assert ax.get_yscale() == "linear"
    assert ax.yaxis.get_major_formatter()(0.25, None) == "25 %"


def test_the_scale_of_the_errors_is_that_of_the_trained_network():
    accuracy = np.array([0.1, 0.9, 0.92, 0.94, 0.95, 0.96, 0.96, 0.97, 0.97, 0.98])
    whole = trained(train_accuracy=accuracy, test_accuracy=accuracy)
    low, high = axes_of(figure_of(whole))["error"].get_ylim()
    assert (low, high) == pytest.approx((0.02 - 0.04 * 0.08, 0.1 + 0.04 * 0.08))
    begun = trained(train_accuracy=accuracy, test_accuracy=accuracy, done=np.arange(10) < 1)
    low, high = axes_of(figure_of(begun))["error"].get_ylim()
    assert low < 0.9 < high, "the only one there is"


def test_a_quantity_that_no_epoch_knows_has_no_panel():
    unknown = np.full(10, np.nan)
    history = trained(train_accuracy=unknown, test_accuracy=unknown)
    assert list(axes_of(figure_of(history))) == ["loss", "weight norm", "learning rate"]


def test_epochs_in_which_a_split_was_not_looked_at_do_not_interrupt_its_curve():
    sparse = np.where(np.arange(10) % 3 == 0, np.linspace(3, 1, 10), np.nan)
    curve = curve_of(trained(test_loss=sparse), "test_loss")
    assert curve.epoch.tolist() == [0, 3, 6, 9]
    assert np.isfinite(curve.value).all()


def test_an_infinite_loss_interrupts_the_curve():
    loss = np.linspace(3, 1, 10)
    loss[4] = np.inf
    curve = curve_of(trained(train_loss=loss), "train_loss")
    assert np.flatnonzero(np.isnan(curve.value)).tolist() == [4]
    assert curve.epoch.tolist() == list(range(10))


SMOOTH = [0.0, *(0.1 * np.cos(np.arange(1, 31) / 40)).tolist()]


@pytest.mark.parametrize(
    ("settings", "lowered", "begun", "reason"),
    [
        ({}, (4, 7), (), "the first epoch with the lower rate is 5, so it was lowered after 4"),
        ({"rates": [0.0] + [0.1] * 9}, (), (), "a constant rate; the initial network has none"),
        ({"rates": SMOOTH}, (), (), "a smooth schedule would give a curtain"),
        ({"rates": [0.0, 0.1, 0.1, 0.2, 0.2, 0.2]}, (), (), "a rate that is raised is not lowered"),
        ({"phase": np.arange(10) // 6}, (4, 7), (5,), "epoch 6 is the first of the second phase"),
        ({"phase": np.arange(10) // 5}, (7,), (4,), "where a phase begins the rate is a part of it"),
        ({"done": np.arange(10) < 5}, (), (), "the rate is lowered in an epoch that is still to come"),
        ({"done": np.zeros(10, dtype=bool)}, (), (), "nothing is done"),
    ],
)
def test_rules_stand_after_the_last_epoch_of_the_old_rate_or_phase(settings, lowered, begun, reason):
    history = trained(**settings)
    assert rules_of(history) == (lowered, begun), reason
    for ax in figure_of(history).axes:
        assert rules_in(ax) == dict(zip(RULES, ([*lowered], [*begun]), strict=True)), reason


def test_histories_on_top_of_each_other_keep_the_rules_that_none_contradicts():
    early = trained(done=np.arange(10) < 6)
    constant = trained(rates=[0.0] + [0.1] * 9)
    assert common_rules([trained(), early]) == ((4, 7), ()), "one has not come to epoch 7"
    assert common_rules([trained(), constant]) == ((), ()), "one was never lowered"


def test_an_unfinished_training_is_drawn_as_far_as_it_is_and_says_so():
    figure = figure_of(trained(done=np.arange(10) < 5))
    low, high = figure.axes[0].get_xlim()
    assert low <= 0
    assert 4 <= high < 5
    assert any("partial: 4 of 9 epochs" in words for words in words_of(figure))
    assert not any("partial" in words for words in words_of(figure_of(trained())))


def test_the_title_tells_the_last_values_and_the_least_error():
    accuracy = np.array([0.1, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.875, 0.85, 0.875])
    history = trained(test_accuracy=accuracy, train_loss=np.linspace(2, 0.2, 10))
    words = " ".join(words_of(figure_of(history)))
    assert "train loss 0.2" in words
    assert "test error 12.5 % (least 10 % after epoch 6)" in words


def test_a_third_split_can_be_told_from_both_others():
    ax = axes_of(figure_of(trained(splits=("train", "test", "val", "shifted"))))["loss"]
    styles = {label: repr(curve._dash_pattern) for label, curve in curves_of(ax).items()}
    assert len(set(styles.values())) == 4


def test_only_the_quantities_asked_for_are_drawn():
    axes = axes_of(figure_of(trained(), quantities=("weight_norm", "test_loss")))
    assert list(axes) == ["loss", "weight norm"]
    assert list(curves_of(axes["loss"])) == ["test loss"]
    assert list(axes_of(figure_of(trained(), quantities=("seconds",)))) == ["seconds"]


@pytest.mark.parametrize("count", [2, 6, 9])
def test_histories_together_have_colors_of_their_own_and_a_legend(count):
    histories = [trained(path=f"seed={k}/history.h5", factor=1 + k) for k in range(count)]
    labels = [f"seed {k}" for k in range(count)]
    figure = figure_of(*histories, labels=labels)
    loss = axes_of(figure)["loss"]
    colors = [to_hex(line.get_color()) for line in loss.lines if line.get_label() == "train loss"]
    assert len(set(colors)) == count
    for k, line in enumerate(line for line in loss.lines if line.get_label() == "train loss"):
        np.testing.assert_array_equal(line.get_ydata(), histories[k].values["train_loss"])
    entries = {
        text.get_text(): to_hex(line.get_color())
        for legend in figure.legends
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert [entries[label] for label in labels] == colors


def test_histories_of_unlike_length_and_splits_share_a_figure():
    short = trained(rates=RATES[:4], splits=("train",), path="short.h5")
    figure = figure_of(trained(), short)
    assert figure.axes[0].get_xlim()[1] >= 9
    assert len([line for line in axes_of(figure)["loss"].lines if line.get_label() == "train loss"]) == 2


@pytest.mark.parametrize(
    ("paths", "titles", "expected", "reason"),
    [
        (["a.h5", "b.h5"], ["vgg9", "resnet20"], ("vgg9", "resnet20"), "titles tell them apart"),
        (
            ["runs/batch_size=128/history.h5", "runs/batch_size=8,seed=1/history.h5"],
            ["x", "x"],
            ("batch_size=128", "batch_size=8, seed=1"),
            "the members of a sweep",
        ),
        (["runs/a.h5", "runs/b.h5"], ["x", "x"], ("a", "b"), "files in one folder"),
        (["a/x/history.h5", "b/x/history.h5"], ["x", "x"], ("a", "b"), "only the first folder differs"),
        (["a/history.h5", "a/b/history.h5"], ["x", "x"], ("x", "b"), "one lies above the other"),
        (["a/history.h5", "a/history.h5"], ["x", "x"], ("x", "x"), "twice the same"),
        (["runs/x=1.5/h.h5", "runs/x=1.25/h.h5"], ["x", "x"], ("x=1.5", "x=1.25"), "a dot is no suffix"),
    ],
)
def test_a_history_is_named_by_what_tells_it_apart(paths, titles, expected, reason):
    histories = [
        trained(path=path, attributes={"title": title}) for path, title in zip(paths, titles, strict=True)
    ]
    assert distinct_names(histories) == expected, reason


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"done": np.zeros(10, dtype=bool)}, "nothing is done"),
        ({"done": np.arange(10) < 1}, "only the initial network"),
        ({"rates": [0.0]}, "a training of no epochs"),
        ({"train_loss": np.full(10, np.inf), "test_loss": np.full(10, np.inf)}, "no loss is finite"),
        ({"train_loss": np.full(10, 2.5)}, "a constant loss"),
        ({"rates": [np.nan] * 10}, "no learning rate"),
        ({"rates": [0.0] * 10}, "a learning rate of zero"),
        ({"train_loss": np.geomspace(1e-100, 1e100, 10)}, "two hundred decades"),
        ({"attributes": {"title": r"cost $5 and \frac $"}}, "dollars and backslashes"),
    ],
)
def test_a_history_without_form_is_drawn_without_warnings(tmp_path, recwarn, settings, reason):
    history = trained(**settings)
    for histories in ([history], [history, trained()]):
        (picture,) = plan_histories(histories, Request(together=True))
        figure = draw_history(histories, picture.panels, title=picture.title, labels=["a $x", "b"])
        save(figure, tmp_path / "picture.png", dpi=40)
    assert not recwarn.list, reason


def test_the_same_history_gives_the_same_bytes(tmp_path):
    for suffix in ("png", "pdf", "svg"):
        digests = set()
        for name in ("first", "second"):
            path = tmp_path / f"{name}.{suffix}"
            save(figure_of(trained()), path, dpi=60)
            digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
        assert len(digests) == 1, suffix


@pytest.mark.parametrize(
    ("paths", "options", "expected", "reason"),
    [
        (["run/history.h5"], {}, ["run/history.png"], "the file says its kind"),
        (["run/a.h5"], {}, ["run/a_history.png"], "another name needs it"),
        (["run/history.h5"], {"kinds": ("all",), "format": "svg"}, ["run/history.svg"], "all is one kind"),
        (["run/history.h5"], {"kinds": ("history",), "output": "x.pdf"}, ["x.pdf"], "a picture as output"),
        (["run/history.h5"], {"quantities": ("weight_norm",)}, ["run/history_weight_norm.png"], "a part"),
        (["a/history.h5", "b/history.h5"], {}, ["a/history.png", "b/history.png"], "each beside its file"),
        (["a/history.h5", "b/history.h5"], {"together": True}, ["a/history_together.png"], "one for all"),
        ([], {"together": True, "output": "x.png"}, [], "there is none"),
    ],
)
def test_a_history_is_one_picture_beside_its_file(paths, options, expected, reason):
    pictures = plan_histories([trained(path=path) for path in paths], Request(**options))
    assert [str(picture.path) for picture in pictures] == expected, reason


@pytest.mark.parametrize(
    ("paths", "options", "words"),
    [
        (["a.h5"], {"kinds": ("contour",)}, "a.h5: --kind contour is for surface files"),
        (["a.h5"], {"kinds": ("pie",)}, "--kind 'pie' is not known; valid kinds are contour"),
        (["a.h5"], {"quantities": ("train_los",)}, "did you mean 'train_loss'?"),
        (["a.h5"], {"levels": 5}, "--levels is for surface files"),
        (["a.h5"], {"common_scale": True}, "--common-scale is for surface files; put the files --together"),
        (["a.h5"], {"vmax": 1.0}, "are for one panel, and there are loss, error, weight norm"),
        (["a/x.h5", "b/x.h5"], {"output": "figures/"}, "the picture of both a/x.h5 and b/x.h5"),
        (["a.h5", "b.h5"], {"output": "x.png"}, "2 pictures are asked for; choose one"),
    ],
)
def test_what_cannot_be_drawn_of_a_history_is_refused_before_drawing(paths, options, words):
    with pytest.raises(LandscapeError) as caught:
        plan_histories([trained(path=path) for path in paths], Request(**options))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_end_of_the_scale_holds_for_a_single_panel():
    figure = figure_of(trained(), quantities=("test_accuracy",), vmax=0.25, vmin=0.0)
    assert figure.axes[0].get_ylim() == pytest.approx((-0.01, 0.26))


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """A history whose training goes on, and an empty surface."""
    history, surface = tmp_path / "history.h5", tmp_path / "surface.h5"
    create_history(history, num_epochs=TOTAL, splits=("train", "test"), attributes={"title": "toy"})
    with HistoryWriter(history) as writer:
        for number in range(6):
            values = {name: column[number] for name, column in trained().values.items()}
            writer.record(number, values, phase=0)
    grid = Grid(Axis(-1, 1, 4), Axis(0, 1, 3))
    contents = Contents(
        grid=grid,
        plan=Plan(num_points=12, points_per_tile=5, shards=(("train", 1),)),
        quantities=Quantities(),
        center=np.zeros(2, dtype=np.float32),
        directions={name: np.ones(2, dtype=np.float32) for name in ("alpha", "beta")},
        layout=[{"name": "weight", "shape": (2,), "offset": 0, "kind": "weight"}],
        attributes={},
    )
    create(surface, contents)
    return history, surface


def test_a_history_is_recognised_by_its_content(files, capsys):
    history, _ = files
    renamed = history.rename(history.with_name("surface_of_nothing.h5"))
    assert command.main([str(renamed), "--dpi", "40"]) == 0
    picture = renamed.with_name("surface_of_nothing_history.png")
    assert capsys.readouterr().out.splitlines() == [str(picture)]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_histories_and_surfaces_in_one_call_are_drawn_each_in_their_own_pictures(files, capsys):
    history, surface = files
    assert command.main([str(surface), str(history), "--kind", "all", "--dpi", "40"]) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == [
        "history.png",
        *(f"surface_train_loss_{kind}.png" for kind in ("contour", "filled", "surface", "heatmap")),
    ]


@pytest.mark.parametrize(
    ("which", "options", "words"),
    [
        ([0], ["--kind", "contour"], "history.h5: --kind contour is for surface files"),
        ([1], ["--kind", "history"], "surface.h5: --kind history is for training histories"),
        ([1, 0], ["--kind", "surface"], "history.h5: --kind surface is for surface files"),
        ([1, 0], ["--output", "x.png"], "x.png is one file, but a surface"),
        ([0], ["--scale", "log", "--quantity", "phase"], "there is no quantity 'phase'"),
    ],
)
def test_a_kind_of_the_other_file_is_refused_in_one_line_and_nothing_is_drawn(
    files, capsys, which, options, words
):
    assert command.main([*(str(files[k]) for k in which), *options]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not list(files[0].parent.glob("*.png"))
