from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from plotting.asked.pictures import fields_and_scales, plan_pictures
from plotting.asked.request import Request

LINE = {"alpha": np.linspace(-0.5, 1.5, 9), "beta": None, "loss": np.linspace(1, 2, 9) ** 2}
ROW = {"alpha": np.linspace(-0.5, 1.5, 9), "beta": np.array([0.0])}


def _plan(surfaces, **options):
    return plan_pictures(surfaces, Request(**options))


def _paths(pictures):
    return [str(picture.path) for picture in pictures]


def test_a_surface_is_drawn_as_contours_and_in_3d_once_per_loss_beside_its_file(planted):
    assert _paths(_plan([planted(path="runs/a/surface.h5")])) == [
        "runs/a/surface_train_loss_contour.png",
        "runs/a/surface_test_loss_contour.png",
        "runs/a/surface_train_loss_surface.png",
        "runs/a/surface_test_loss_surface.png",
    ]


def test_a_line_is_one_picture_of_losses_and_accuracies(planted):
    (picture,) = _plan([planted(path="runs/line.h5", **LINE)])
    assert str(picture.path) == "runs/line_line.png"
    assert picture.panels[0].quantities == ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        ({}, ["contour", "filled", "surface", "heatmap"]),
        (LINE, ["line"]),
        (ROW, ["line", "heatmap"]),
    ],
)
def test_all_means_all_kinds_that_fit_the_grid(planted, shape, kinds):
    pictures = _plan([planted(**shape)], kinds=("all",), quantities=("train_loss",))
    assert [picture.kind for picture in pictures] == kinds


def test_a_picture_as_output_is_that_one_picture(planted):
    (picture,) = _plan([planted()], output="figures/mine.pdf")
    assert (picture.kind, picture.panels[0].quantities) == ("contour", ("train_loss",))
    assert picture.path == Path("figures/mine.pdf")


def test_a_folder_as_output_takes_all_pictures(planted, tmp_path):
    pictures = _plan([planted()], output=str(tmp_path), format="svg", kinds=("filled",))
    assert _paths(pictures) == [f"{tmp_path}/planted_{split}_loss_filled.svg" for split in ("train", "test")]


def test_files_together_are_panels_of_one_picture(planted):
    surfaces = [planted(path="a.h5"), planted(path="b.h5")]
    (picture,) = _plan(surfaces, together=True, kinds=("filled",), quantities=("test_loss",))
    assert [panel.surface.path for panel in picture.panels] == ["a.h5", "b.h5"]
    assert str(picture.path) == "a_together_test_loss_filled.png"


def test_a_common_scale_reaches_over_all_losses_and_spares_accuracies(planted):
    surfaces = [planted(path="a.h5"), planted(path="b.h5", loss=lambda a, b: a**2 + b**2 + 30)]
    request = Request(
        common_scale=True, kinds=("heatmap",), quantities=("train_loss", "test_loss", "test_accuracy")
    )
    drawn = fields_and_scales(plan_pictures(surfaces, request), request)
    losses = {id(scales[0]) for panels, scales in drawn if panels[0][0].quantity.endswith("loss")}
    assert len(losses) == 1
    scales = [scales[0] for _, scales in drawn]
    assert (scales[0].vmin, scales[0].vmax) == pytest.approx((0.0, 30 + 1.5**2 + 1.2**2 + 0.25))
    assert scales[2].vmax <= 1


def test_without_a_common_scale_every_picture_has_its_own(planted):
    surfaces = [planted(path="a.h5"), planted(path="b.h5", loss=lambda a, b: a**2 + b**2 + 30)]
    request = Request(kinds=("heatmap",), quantities=("train_loss",))
    first, second = (scales[0] for _, scales in fields_and_scales(plan_pictures(surfaces, request), request))
    assert first.vmax < second.vmin


REFUSED = [
    ({}, {"quantities": ("train_los",)}, "did you mean 'train_loss'?", "a slip"),
    (
        {},
        {"quantities": ("x",)},
        "train_loss, train_accuracy, test_loss, test_accuracy",
        "the valid ones are named",
    ),
    (
        {},
        {"kinds": ("pie",)},
        "valid kinds are contour, filled, surface, heatmap, line, persistence, history, path, histogram, norms, curvature, "
        "extremes, density, eigenvalues, all",
        "no such kind",
    ),
    (
        {},
        {"kinds": ("line",)},
        "--kind line does not fit a grid of 26 x 18 points; valid here: contour",
        "a surface",
    ),
    (LINE, {"kinds": ("contour",)}, "does not fit a grid of 9 points; valid here: line", "a line"),
    (ROW, {"kinds": ("surface",)}, "grid of 9 x 1 points; valid here: line, heatmap", "one point wide"),
    ({}, {"output": "x.jpg"}, "'.jpg' is not a format; valid are .png, .pdf, .svg", "unknown suffix"),
    ({}, {"output": "x.png", "format": "pdf"}, "says png, but --format says pdf", "two formats"),
    ({}, {"output": "x.png", "kinds": ("all",)}, "is one file, but 4 pictures are asked for", "four in one"),
]


@pytest.mark.parametrize(("shape", "options", "words", "reason"), REFUSED)
def test_what_cannot_be_drawn_is_refused_before_drawing(planted, shape, options, words, reason):
    with pytest.raises(LandscapeError) as caught:
        _plan([planted(**shape)], **options)
    assert words in str(caught.value), reason
    assert "\n" not in str(caught.value), reason


def test_two_files_never_write_the_same_picture(planted):
    with pytest.raises(LandscapeError, match=r"a/x\.h5 and b/x\.h5"):
        _plan([planted(path="a/x.h5"), planted(path="b/x.h5")], output="figures/")


def test_several_files_do_not_fit_into_one_picture_unless_together(planted):
    surfaces = [planted(path="a.h5"), planted(path="b.h5")]
    with pytest.raises(LandscapeError, match="--together"):
        _plan(surfaces, output="x.png")
    assert len(_plan(surfaces, output="x.png", together=True)) == 1


@pytest.mark.parametrize(
    ("titles", "options", "names", "reason"),
    [
        (["one net", "one net"], {}, ["with", "without"], "the same title: by folder"),
        (["a net", "b net"], {}, ["a net", "b net"], "titles tell them apart"),
        (["one net", "one net"], {"title": "mine"}, ["mine", "mine"], "the user's own"),
    ],
)
def test_panels_beside_each_other_are_named_apart(planted, titles, options, names, reason):
    surfaces = [
        planted(path=f"runs/{folder}/surface.h5", title=title)
        for folder, title in zip(["with", "without"], titles, strict=True)
    ]
    request = Request(together=True, quantities=("train_loss",), kinds=("contour",), **options)
    ((panels, _),) = fields_and_scales(plan_pictures(surfaces, request), request)
    assert [fields[0].title for fields in panels] == names, reason
