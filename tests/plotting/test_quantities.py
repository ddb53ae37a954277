"""Quantities that no module knows by name: a gradient norm, a user's own number per example, a curvature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage.surface.creation import Contents, create
from mpi_landscape.storage.surface.reader import read_surface
from mpi_landscape.storage.surface.value import Surface
from plotting.asked.pictures import fields_and_scales, plan_pictures
from plotting.asked.request import Request
from plotting.drawn.figures import draw_figure, save
from plotting.picture.field import field_of
from plotting.picture.quantities import Measure, figures_of_line, measure_of

ALPHA = np.linspace(-1.0, 1.5, 11)
BETA = np.linspace(-0.5, 1.2, 8)
UNITS = {
    "train_loss": "nats per example",
    "train_accuracy": "1",
    "train_gradient_norm": "nats per example and unit of the parameters",
    "train_top5": "per example",
}
NAMES = tuple(UNITS)


def surface_of(*, beta=BETA, splits=("train",), units=UNITS, path="own.h5", factor=1.0, **changed) -> Surface:
    """A bowl of the loss, and other numbers of other sizes."""
    axes = [ALPHA] if beta is None else [ALPHA, beta]
    squares = sum(axis**2 * k for k, axis in enumerate(np.meshgrid(*axes, indexing="ij"), start=1))
    columns = {
        "loss": factor * (squares + 0.1),
        "accuracy": 0.5 + 0.4 * np.exp(-squares),
        "gradient_norm": 70.0 + np.sqrt(squares),
        "top5": 5.0 - np.exp(-squares),
    }
    values = {f"{split}_{name}": column for split in splits for name, column in columns.items()}
    known = {
        f"{split}_{name.removeprefix('train_')}": text for split in splits for name, text in units.items()
    }
    done = {split: np.ones(squares.shape, dtype=bool) for split in splits}
    surface = Surface(path=path, alpha=ALPHA, beta=beta, values=values, done=done, units=known)
    return replace(surface, **changed)


def curvature_of(*, beta=BETA) -> Surface:
    """Eigenvalues of no split, not computed at some points, infinite at one."""
    shape = (len(ALPHA),) if beta is None else (len(ALPHA), len(beta))
    values = np.linspace(-1, 3, int(np.prod(shape))).reshape(shape)
    values[2:4] = np.nan
    values[-1] = np.inf
    return Surface(path="c.h5", alpha=ALPHA, beta=beta, values={"lambda_max": values}, done={})


def draw(*surfaces, **options):
    """The planned pictures, each with its figure."""
    request = Request(**options)
    pictures = plan_pictures(surfaces, request)
    drawn = fields_and_scales(pictures, request)
    return [
        (picture, draw_figure(picture.kind, panels, scales), scales)
        for picture, (panels, scales) in zip(pictures, drawn, strict=True)
    ]


def words(figure):
    """All texts of axes, color bars and titles, without the ends of their lines."""
    axes = [*figure.axes, *(child for ax in figure.axes for child in ax.child_axes)]
    texts = [text for ax in axes for text in (ax.get_title(), ax.get_xlabel(), ax.get_ylabel())]
    texts += [ax.get_zlabel() for ax in axes if hasattr(ax, "get_zlabel")]
    return [text.replace("\n", " ") for text in texts if text]


def test_a_surface_is_drawn_once_for_every_quantity_but_fractions():
    pictures = plan_pictures([surface_of()], Request(kinds=("contour",)))
    assert [str(picture.path) for picture in pictures] == [
        "own_train_loss_contour.png",
        "own_train_gradient_norm_contour.png",
        "own_train_top5_contour.png",
    ]


def test_a_picture_as_output_is_the_loss_of_all_quantities():
    (picture,) = plan_pictures([surface_of()], Request(output="x.png"))
    assert picture.panels[0].quantities == ("train_loss",)


def test_a_line_has_one_figure_of_loss_and_accuracy_and_one_per_further_measure():
    line = surface_of(beta=None, splits=("train", "test"))
    assert [(str(p.path), p.panels[0].quantities) for p in plan_pictures([line], Request())] == [
        ("own_line.png", ("train_loss", "train_accuracy", "test_loss", "test_accuracy")),
        (
            "own_train_gradient_norm_test_gradient_norm_line.png",
            ("train_gradient_norm", "test_gradient_norm"),
        ),
        ("own_train_top5_test_top5_line.png", ("train_top5", "test_top5")),
    ]
    (picture,) = plan_pictures([line], Request(output="x.pdf"))
    assert picture.panels[0].quantities[:2] == ("train_loss", "train_accuracy")


@pytest.mark.parametrize(
    ("asked", "expected", "reason"),
    [
        (NAMES[:2], [NAMES[:2]], "loss and accuracy, on two axes"),
        (("train_top5", "train_accuracy"), [("train_top5", "train_accuracy")], "a fraction has room on the right"),
        (
            ("train_gradient_norm", "train_accuracy", "train_loss"),
            [("train_accuracy", "train_loss"), ("train_gradient_norm",)],
            "the loss is the first to share its figure",
        ),
        (("train_accuracy",), [("train_accuracy",)], "a fraction alone"),
    ],
)  # fmt: skip
def test_measures_of_a_line_never_share_an_axis(asked, expected, reason):
    assert figures_of_line(surface_of(beta=None), asked) == expected, reason


def test_lines_of_two_files_stand_side_by_side_where_both_have_the_measure():
    first, second = surface_of(beta=None, path="a.h5"), surface_of(beta=None, path="b.h5")
    second = replace(second, values={name: second.values[name] for name in NAMES if name != "train_top5"})
    pictures = plan_pictures([first, second], Request(together=True))
    assert [[panel.surface.path for panel in picture.panels] for picture in pictures] == [
        ["a.h5", "b.h5"],
        ["a.h5", "b.h5"],
        ["a.h5"],
    ]


def test_files_together_are_drawn_by_default_for_what_all_of_them_have():
    first, second = surface_of(path="a.h5"), surface_of(path="b.h5")
    second = replace(second, values={name: second.values[name] for name in NAMES if name != "train_top5"})
    pictures = plan_pictures([first, second], Request(together=True, kinds=("heatmap",)))
    assert [p.panels[0].quantities for p in pictures] == [("train_loss",), ("train_gradient_norm",)]
    with pytest.raises(LandscapeError, match=r"b\.h5: there is no quantity 'train_top5'"):
        plan_pictures([first, second], Request(together=True, kinds=("heatmap",), quantities=("train_top5",)))


def test_an_unknown_quantity_is_refused_with_those_that_there_are():
    words = (
        r"'train_grad_norm' \(did you mean 'train_gradient_norm'\?\); valid quantities are .*, train_top5$"
    )
    with pytest.raises(LandscapeError, match=words):
        plan_pictures([surface_of()], Request(quantities=("train_grad_norm",)))


@pytest.mark.parametrize(
    ("quantity", "label"),
    [
        ("train_loss", "train loss (nats per example)"),
        ("train_accuracy", "train accuracy"),
        ("train_gradient_norm", "train gradient norm (nats per example and unit of the parameters)"),
        ("train_top5", "train top5 (per example)"),
    ],
)
@pytest.mark.parametrize("kind", ["filled", "surface", "heatmap"])
def test_colors_and_heights_are_labeled_with_their_units(kind, quantity, label):
    ((_, figure, _),) = draw(surface_of(), kinds=(kind,), quantities=(quantity,))
    assert label in words(figure)


@pytest.mark.parametrize("units", ["$5 per $x", r"\frac $", "a\nb", "π" * 9000, ""])
@pytest.mark.parametrize("kind", ["surface", "heatmap", "line"])
def test_any_units_can_be_drawn(tmp_path, kind, units):
    surface = surface_of(beta=None if kind == "line" else BETA, units={"train_top5": units})
    ((_, figure, _),) = draw(surface, kinds=(kind,), quantities=("train_top5",))
    save(figure, tmp_path / "picture.png", dpi=40)
    (label,) = [text for text in words(figure) if text.startswith(("train top5", "top5"))]
    assert len(label) < 120


def test_a_logarithmic_scale_says_so_beside_the_units():
    ((_, figure, _),) = draw(surface_of(), kinds=("heatmap",), quantities=("train_loss",), scale="log")
    assert "train loss (nats per example, log)" in words(figure)


def test_the_axes_of_a_line_are_labeled_with_their_units():
    first, second, third = (figure for _, figure, _ in draw(surface_of(beta=None)))
    assert {"loss (nats per example)", "accuracy"} < set(words(first))
    assert "gradient norm (nats per example and unit of the parameters)" in words(second)
    assert "top5 (per example)" in words(third)
    assert len(second.axes) == len(third.axes) == 1


def test_units_of_one_make_a_fraction_whatever_its_name():
    units = {**UNITS, "train_top5": "1", "train_accuracy": "per example"}
    surface = surface_of(units=units)
    assert measure_of(surface, "train_top5").is_fraction
    assert not measure_of(surface, "train_accuracy").is_fraction
    quantities = [
        picture.panels[0].quantities[0] for picture in plan_pictures([surface], Request(kinds=("filled",)))
    ]
    assert quantities == ["train_loss", "train_accuracy", "train_gradient_norm"]


@pytest.mark.parametrize("units", [{}, dict.fromkeys(UNITS, "")])
def test_without_units_the_name_tells_an_accuracy_and_labels_have_none(units):
    surface = surface_of(units=units)
    assert measure_of(surface, "train_accuracy").is_fraction
    ((_, figure, _),) = draw(surface, kinds=("heatmap",), quantities=("train_top5",))
    assert "train top5" in words(figure)


@pytest.mark.parametrize("kind", ["filled", "surface", "heatmap"])
def test_a_fraction_is_drawn_in_percent_from_none_to_all(kind):
    ((_, figure, (scale,)),) = draw(surface_of(), kinds=(kind,), quantities=("train_accuracy",))
    assert (scale.kind, scale.vmin, scale.vmax) == ("linear", 0.0, 1.0)
    (ax,) = figure.axes
    ticks = ax.get_zticklabels() if kind == "surface" else ax.child_axes[0].get_yticklabels()
    assert {text.get_text()[-2:] for text in ticks} == {" %"}
    assert 0.5 < scale.levels[0] < scale.levels[-1] < 0.9


def test_ends_of_a_fraction_are_the_users():
    options = {"kinds": ("heatmap",), "quantities": ("train_accuracy",)}
    for ends in ({"vmin": 0.6}, {"vmax": 0.8}, {"vmin": 0.6, "vmax": 0.8}):
        ((_, _, (scale,)),) = draw(surface_of(), **options, **ends)
        assert (scale.vmin, scale.vmax) == (ends.get("vmin", 0.0), ends.get("vmax", 1.0))
    ((_, _, (scale,)),) = draw(surface_of(), **options, scale="log")
    assert (scale.kind, scale.vmax) == ("log", surface_of().values["train_accuracy"].max())


def test_the_right_axis_of_a_line_reaches_from_none_to_all():
    ((_, figure, _), *_) = draw(surface_of(beta=None))
    low, high = figure.axes[1].get_ylim()
    assert -0.1 < low < 0 < 1 < high < 1.1


def test_a_common_scale_is_common_to_one_measure_only():
    surfaces = [surface_of(splits=("train", "test")), surface_of(path="b.h5", factor=9.0, splits=("train",))]
    other = replace(surfaces[1], units={**surfaces[1].units, "train_top5": "per batch"}, path="c.h5")
    by_measure = {}
    for picture, _, (scale,) in draw(*surfaces, other, common_scale=True, kinds=("heatmap",)):
        (panel,) = picture.panels
        by_measure.setdefault(measure_of(panel.surface, panel.quantities[0]), set()).add(id(scale))
    assert by_measure.keys() == {
        Measure(name="loss", units="nats per example"),
        Measure(name="gradient_norm", units="nats per example and unit of the parameters"),
        Measure(name="top5", units="per example"),
        Measure(name="top5", units="per batch"),
    }
    assert all(len(scales) == 1 for scales in by_measure.values())
    assert len(set.union(*by_measure.values())) == 4


def test_a_split_with_an_underscore_in_its_name_is_no_part_of_what_is_measured():
    surface = surface_of(splits=("train", "train_large"))
    assert measure_of(surface, "train_large_loss") == measure_of(surface, "train_loss")


def test_a_quantity_of_no_split_is_done_where_it_is_a_number():
    field = field_of(curvature_of(), "lambda_max")
    assert field.measure == Measure(name="lambda_max")
    np.testing.assert_array_equal(np.flatnonzero(~field.done.all(axis=1)), [2, 3])
    np.testing.assert_array_equal(np.flatnonzero(field.undefined.any(axis=1)), [10])
    assert field.results.size == 8 * BETA.size


@pytest.mark.parametrize("kind", ["contour", "filled", "surface", "heatmap", "line"])
def test_a_quantity_of_no_split_is_drawn(kind):
    surface = curvature_of(beta=None if kind == "line" else BETA)
    ((picture, figure, _),) = draw(surface, kinds=(kind,))
    assert picture.panels[0].quantities == ("lambda_max",)
    facts = " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
    assert "partial: 82 % of points" in facts.replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")
    assert any("lambda max" in text for text in words(figure))


def test_what_a_file_says_of_its_quantities_is_what_is_drawn(tmp_path):
    grid = Grid(Axis(-1.0, 1.0, 4), Axis(0.0, 1.0, 3))
    contents = Contents(
        grid=grid,
        plan=Plan(num_points=12, points_per_tile=5, shards=(("train", 1),)),
        quantities=Quantities(accuracy=True, returned=("top5",), computed=("gradient_norm",)),
        center=np.zeros(2, dtype=np.float32),
        directions={name: np.ones(2, dtype=np.float32) for name in ("alpha", "beta")},
        layout=[{"name": "weight", "shape": (2,), "offset": 0, "kind": "weight"}],
        attributes={},
    )
    create(tmp_path / "own.h5", contents)
    surface = read_surface(tmp_path / "own.h5")
    assert {name: measure_of(surface, name).units for name in surface.quantities} == UNITS
    drawn = draw(surface, kinds=("heatmap",))
    assert sorted(picture.path.name for picture, _, _ in drawn) == [
        f"own_train_{name}_heatmap.png" for name in ("gradient_norm", "loss", "top5")
    ]
