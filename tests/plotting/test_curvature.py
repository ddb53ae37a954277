"""Pictures of curvature over a grid: the ratio, which points do not tell, losses on the same axes, and curves along a line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import LogNorm, SymLogNorm

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface.value import Surface
from plotting.asked.curvature_figures import draw_curvature
from plotting.asked.curvature_pictures import plan_curvature, usual_request
from plotting.asked.pictures import plan_pictures
from plotting.asked.request import Request
from plotting.asked.single import draw
from plotting.picture.curvature import end_facts, ratio_facts, ratio_map, rounding_of, with_error
from plotting.picture.field import field_of
from plotting.picture.symmetric import decade_ticks, signed_scale

ALPHA, BETA = np.array([-1.0, 0.0, 0.5, 1.0]), np.array([-0.5, 0.0, 1.0])
RATIO = "train_curvature_ratio"
PLANE = {"identity_center": "c", "identity_direction_alpha": "a", "identity_direction_beta": "b"}


def bent(highest=None, lowest=None, *, done=None, residual=0.0, noise=0.0, path="map.h5", **more):
    """A surface of 4 x 3 points whose ratio is 0.05 everywhere, unless something else is said."""
    shape = (len(ALPHA), len(BETA))
    done = np.ones(shape, dtype=bool) if done is None else done
    values = {
        "train_loss": np.add.outer(ALPHA**2, 2 * BETA**2) + 0.1,
        "train_lambda_max": np.full(shape, 2.0) if highest is None else np.asarray(highest, dtype=float),
        "train_lambda_min": np.full(shape, -0.1) if lowest is None else np.asarray(lowest, dtype=float),
        "train_lambda_max_residual": np.full(shape, residual),
        "train_lambda_min_residual": np.full(shape, residual),
        "train_lambda_noise": np.full(shape, noise),
        "train_hessian_products": np.full(shape, 22.0),
    }
    values.update(more.pop("values", {}))
    return Surface(
        path=path,
        alpha=ALPHA,
        beta=BETA,
        values={name: np.where(done, each, np.nan) for name, each in values.items()},
        done={"train": done},
        attributes={"title": "a net", **PLANE, **more},
    )


def as_line(surface, place=1):
    return replace(
        surface,
        beta=None,
        values={name: each[:, place] for name, each in surface.values.items()},
        done={name: each[:, place] for name, each in surface.done.items()},
    )


def figures(surfaces, **options):
    request = Request(**options)
    planned, _ = plan_curvature(surfaces, request)
    return [draw_curvature(picture, request) for picture in planned]


def cells(ax):
    """What the map in some axes has, as (num_alpha, num_beta)."""
    (mesh,) = [each for each in ax.collections if each.__class__.__name__ == "QuadMesh"]
    return mesh, np.ma.filled(mesh.get_array(), np.nan).reshape(len(BETA), len(ALPHA)).T


def words(ax):
    return " ".join([ax.get_title(), *(each.get_text() for each in ax.texts)]).replace(
        "\N{NO-BREAK SPACE}", " "
    )


def legend(ax):
    return [] if ax.get_legend() is None else [each.get_text() for each in ax.get_legend().get_texts()]


# One point of each kind: λmax, λmin, what the map has there, and why.
POINTS = [
    (4.0, -1.0, 0.25, "the ratio"),
    (4.0, -8.0, 2.0, "more negative than positive"),
    (4.0, 1.0, 0.0, "strictly convex: not a ratio of 0.25 of what is not convex"),
    (4.0, 0.0, 0.0, "convex"),
    (4.0, -5e-4, 0.0, "below ten times the noise, so as far as is known convex"),
    (0.0, -1.0, np.inf, "no direction is convex"),
    (-1.0, -2.0, np.inf, "concave"),
    (1e-5, -1e-5, np.nan, "flat within the noise"),
    (np.nan, np.nan, np.nan, "a loss that is not finite"),
    (np.inf, -1.0, np.nan, "an infinite eigenvalue"),
]


@pytest.mark.parametrize(("highest", "lowest", "expected", "reason"), POINTS)
def test_a_ratio_is_that_of_the_negative_curvature(highest, lowest, expected, reason):
    tops, lows = np.full((4, 3), 2.0), np.full((4, 3), -0.1)
    tops[2, 1], lows[2, 1] = highest, lowest
    ratios = ratio_map(bent(tops, lows, noise=1e-4), RATIO)
    np.testing.assert_equal(ratios.field.values[2, 1], expected, err_msg=reason)
    assert ratios.unsure[2, 1] == (lowest == -5e-4), reason
    assert ratios.flat[2, 1] == (highest == 1e-5), reason
    np.testing.assert_allclose(np.delete(ratios.field.values.reshape(-1), 7), 0.05)


def test_an_eigenvalue_is_as_wrong_as_its_residual_or_ten_times_the_noise():
    for residual, noise, expected in ((0.02, 1e-4, 0.02), (1e-6, 1e-4, 1e-3)):
        line = as_line(bent(residual=residual, noise=noise))
        np.testing.assert_allclose(with_error(line, "train_lambda_min", title="x").stderr, expected)
    without = as_line(bent())
    values = {name: each for name, each in without.values.items() if not name.endswith(("residual", "noise"))}
    alone = replace(without, values=values)
    np.testing.assert_array_equal(with_error(alone, "train_lambda_min", title="x").stderr, np.zeros(4))


def test_noise_in_normalized_coordinates_is_relative_to_the_largest_eigenvalue_there():
    values = {
        f"train_lambda_{end}_normalized": np.full((4, 3), each)
        for end, each in (("max", 200.0), ("min", -1.0))
    }
    surface = bent(noise=1e-4, values=values)
    np.testing.assert_allclose(rounding_of(surface, "train_lambda_min"), 1e-3)
    np.testing.assert_allclose(rounding_of(surface, "train_lambda_min_normalized"), 0.1)


def test_a_ratio_whose_end_has_not_converged_is_the_least_that_it_can_be():
    surface = bent()
    residual = np.zeros((4, 3))
    residual[3, 1], residual[0, 2] = 0.02, 0.009
    surface = replace(surface, values={**surface.values, "train_lambda_min_residual": residual})
    ratios = ratio_map(surface, RATIO)
    assert np.argwhere(ratios.rough).tolist() == [[3, 1]]
    np.testing.assert_allclose(ratios.field.values, 0.05)
    (figure,) = figures([surface], kinds=("curvature",))
    assert legend(figure.axes[1]) == ["at least: residual of λmin > 10 %"]


def test_the_picture_says_the_share_beyond_a_tenth_and_the_largest_ratio():
    lows = np.full((4, 3), -0.1)
    lows[3, 0], lows[0, 2] = -1.5, -0.3
    done = np.ones((4, 3), dtype=bool)
    done[1, 1] = done[1, 2] = False
    surface = bent(lowest=lows, done=done)
    assert ratio_facts(surface, ratio_map(surface, RATIO)) == (
        "beyond 0.1 at 20 % of points",
        "largest 0.75 at (1, −0.5)",
    )
    none = bent(lowest=np.full((4, 3), np.nan))
    assert ratio_facts(none, ratio_map(none, RATIO)) == ()


def test_the_picture_says_of_which_part_and_of_which_parameters():
    surface = bent(hessian_operator="gauss_newton", hessian_parameters="moving")
    facts = ratio_facts(surface, ratio_map(surface, RATIO))
    assert facts[-2:] == ("of the Gauss\N{EN DASH}Newton part", "of the parameters that move")
    named = bent(hessian_parameters="*.weight")
    assert ratio_facts(named, ratio_map(named, RATIO))[-1] == "of the parameters *.weight"


def test_the_map_lies_on_the_axes_of_the_loss_and_its_colors_go_from_zero_to_one():
    lows = np.outer([0.5, 0.0, -1.0, -4.0], [1.0, 1.0, 0.5])
    (figure,) = figures([bent(lowest=lows)], kinds=("curvature",))
    loss, ratio = figure.axes
    mesh, shown = cells(ratio)
    np.testing.assert_allclose(shown, np.maximum(0, -lows / 2))
    assert (mesh.norm.vmin, mesh.norm.vmax, mesh.cmap.name) == (0.0, 1.0, "viridis")
    assert loss.get_xlim() == ratio.get_xlim() == (-1, 1)
    assert loss.get_ylim() == ratio.get_ylim() == (-0.5, 1)
    corners = mesh.get_coordinates()
    # The cell of α = 0.5, β = 0 reaches half-way to its neighbors.
    np.testing.assert_allclose(corners[1, 2], [0.25, -0.25])
    np.testing.assert_allclose(corners[2, 3], [0.75, 0.5])
    assert loss.get_title() == "a net: train loss"
    assert "a net: train |λmin/λmax|" in words(ratio)
    assert "largest 2 at (1, −0.5)" in words(ratio)


def test_points_that_do_not_tell_are_marked_and_the_legend_says_it():
    tops, lows = np.full((4, 3), 2.0), np.full((4, 3), -0.1)
    lows[0, 0], tops[1, 1] = np.nan, np.inf
    lows[2, 2] = -1e-5
    done = np.ones((4, 3), dtype=bool)
    done[3] = False
    (figure,) = figures([bent(tops, lows, done=done, noise=1e-4)], kinds=("curvature",))
    _, ratio = figure.axes
    _, shown = cells(ratio)
    assert np.isnan(shown).tolist() == [[True, False, False], [False, True, False], [False] * 3, [True] * 3]
    assert legend(ratio) == ["λmax or λmin not finite", "λmin is 0 within rounding", "not computed yet"]
    assert "partial: 75 % of points" in words(ratio)
    (dots,) = [patch for patch in ratio.patches if patch.get_hatch() == "...."]
    for i, alpha in enumerate(ALPHA):
        for j, beta in enumerate(BETA):
            inside = (alpha * 0.99 if i == 3 else alpha, beta * 0.99)
            assert dots.get_path().contains_point(inside) == ((i, j) == (2, 2))


@pytest.mark.parametrize(
    ("highest", "lowest", "done", "said"),
    [
        (np.nan, np.nan, True, "no ratio is finite"),
        (0.0, 0.0, True, "no ratio is finite"),
        (2.0, -0.1, False, "no point is computed yet"),
    ],
)
def test_a_map_without_any_ratio_says_why(highest, lowest, done, said):
    surface = bent(np.full((4, 3), highest), np.full((4, 3), lowest), done=np.full((4, 3), done))
    (figure,) = figures([surface], kinds=("curvature",))
    assert said in words(figure.axes[1])


def test_ratios_above_the_brightest_color_are_told_by_the_bar_and_vmax_moves_it():
    lows = np.full((4, 3), -0.1)
    lows[0, 0] = -3.0
    (figure,) = figures([bent(lowest=lows)], kinds=("curvature",), vmax=0.2)
    mesh, _ = cells(figure.axes[1])
    assert mesh.norm.vmax == 0.2
    (bar,) = figure.axes[1].child_axes
    assert [each.get_text() for each in bar.get_yticklabels()][-1] == "0.2"
    with pytest.raises(LandscapeError, match="--vmax -1 is not above 0"):
        plan_curvature([bent()], Request(vmax=-1.0))
    with pytest.raises(LandscapeError, match="--vmin is not for --kind curvature"):
        plan_curvature([bent()], Request(kinds=("curvature",), vmin=0.1))


def test_the_losses_of_a_finer_surface_on_the_same_axes_stand_beside_the_map():
    fine = bent(path="surface.h5")
    alpha, beta = np.linspace(-1, 1, 9), np.linspace(-0.5, 1, 7)
    values = {"train_loss": np.add.outer(alpha**2, beta**4), "test_loss": np.add.outer(alpha**2, beta**2)}
    fine = replace(fine, alpha=alpha, beta=beta, values=values, done={"train": np.ones((9, 7), bool)})
    pictures, usual = plan_curvature([fine, bent()], Request())
    assert [(each.kind, str(each.path)) for each in pictures] == [
        ("curvature", "map_curvature.png"),
        ("extremes", "map_extremes.png"),
    ]
    assert usual == []
    assert pictures[0].networks[0].ground is fine
    loss = draw_curvature(pictures[0], Request()).axes[0]
    assert max(len(path.vertices) for each in loss.collections for path in each.get_paths()) > 12


DIFFERENT = [
    ({"identity_center": "x"}, {}, "another center", "another network"),
    ({"identity_direction_beta": "x"}, {}, "another direction beta", "another plane"),
    ({}, {"alpha": np.array([-1.0, 0.0, 0.5, 2.0])}, "another range of alpha", "another stretch"),
    ({}, {"beta": BETA + 1}, "another range of beta", "another stretch of beta"),
]


@pytest.mark.parametrize(("attributes", "axes", "said", "reason"), DIFFERENT)
def test_losses_of_other_axes_are_refused_in_one_line(attributes, axes, said, reason):
    values = {"train_loss": np.ones((4, 3))}
    other = replace(bent(path="other.h5", **attributes), values=values, **axes)
    with pytest.raises(LandscapeError) as caught:
        plan_curvature([bent(), other], Request())
    assert said in str(caught.value), reason
    assert str(caught.value).startswith("other.h5: is not on the axes of map.h5"), reason
    assert "\n" not in str(caught.value)


def test_two_surfaces_on_the_axes_of_a_map_are_refused():
    flat = [replace(bent(path=f"{name}.h5"), values={"train_loss": np.ones((4, 3))}) for name in "ab"]
    with pytest.raises(LandscapeError, match=r"a\.h5, b\.h5 all lie on its axes"):
        plan_curvature([bent(), *flat], Request())


def test_networks_together_have_the_maps_below_their_losses():
    one, other = bent(path="a.h5"), bent(path="b.h5", lowest=np.full((4, 3), -1.0))
    other = replace(other, attributes={**other.attributes, "title": "another"})
    (figure,) = figures([one, other], together=True, kinds=("curvature",), common_scale=True)
    assert [ax.get_title() for ax in figure.axes] == [
        "a net: train loss",
        "a net: train |λmin/λmax|",
        "another: train loss",
        "another: train |λmin/λmax|",
    ]
    places = [ax.get_position() for ax in figure.axes]
    assert places[0].y0 > places[1].y1
    assert places[2].x0 > places[0].x1


def test_a_surface_file_with_curvature_is_drawn_as_curvature_unless_something_else_is_asked_for():
    surface = bent()
    for options, kinds, others in (
        ({}, ["curvature", "extremes"], []),
        ({"output": "x.png"}, ["curvature"], []),
        ({"kinds": ("contour",)}, [], ["contour"]),
        ({"kinds": ("curvature", "heatmap")}, ["curvature"], ["heatmap"]),
        ({"quantities": ("train_loss",)}, [], ["contour", "surface"]),
        ({"quantities": ("train_lambda_min",)}, ["extremes"], []),
        ({"quantities": (RATIO,)}, ["curvature"], []),
        ({"kinds": ("all",)}, ["curvature", "extremes"], ["contour", "filled", "surface", "heatmap"]),
    ):
        request = Request(**options)
        pictures, usual = plan_curvature([surface], request)
        assert [each.kind for each in pictures] == kinds, options
        drawn = plan_pictures(usual, usual_request(request))
        assert [each.kind for each in drawn] == others, options
        assert {name for each in drawn for panel in each.panels for name in panel.quantities} <= {
            "train_loss"
        }


def test_ends_have_logarithmic_colors_or_such_that_part_at_zero():
    tops = np.logspace(0, 5, 12).reshape(4, 3)
    lows = np.where(np.arange(12).reshape(4, 3) == 0, 0.5, -np.logspace(-2, 2, 12).reshape(4, 3))
    (figure,) = figures([bent(tops, lows)], kinds=("extremes",))
    (highest, shown), (lowest, below) = (cells(ax) for ax in figure.axes)
    np.testing.assert_array_equal(shown, tops)
    np.testing.assert_array_equal(below, lows)
    assert isinstance(highest.norm, LogNorm)
    assert isinstance(lowest.norm, SymLogNorm)
    assert lowest.norm(0.0) == pytest.approx(0.5)
    assert lowest.norm(-100.0) == 0.0
    assert "greatest 0.5 at (−1, −0.5)" in words(figure.axes[1])
    # The bar ends where the values do.
    assert figure.axes[1].child_axes[0].get_ylim() == (-100.0, 0.5)


def test_residuals_and_products_are_drawn_on_request():
    pictures, _ = plan_curvature(
        [bent(residual=0.5)], Request(quantities=("train_lambda_min_residual", "train_hessian_products"))
    )
    figure = draw_curvature(pictures[0], Request())
    assert [ax.get_title() for ax in figure.axes] == [
        "a net: train λmin residual",
        "a net: train hessian products",
    ]
    assert "22 everywhere" in words(figure.axes[1])
    assert str(pictures[0].path) == "map_train_lambda_min_residual_train_hessian_products_extremes.png"


def test_normalized_coordinates_have_pictures_of_their_own():
    values = {
        "train_lambda_max_normalized": np.full((4, 3), 10.0),
        "train_lambda_min_normalized": np.full((4, 3), -9.0),
    }
    surface = bent(values=values)
    pictures, _ = plan_curvature([surface], Request(kinds=("curvature",)))
    assert [str(each.path) for each in pictures] == [
        "map_curvature.png",
        "map_train_curvature_ratio_normalized_curvature.png",
    ]
    _, shown = cells(draw_curvature(pictures[1], Request()).axes[1])
    np.testing.assert_allclose(shown, 0.9)


def test_a_gauss_newton_map_has_the_largest_eigenvalue_alone():
    surface = bent()
    values = {name: each for name, each in surface.values.items() if "lambda_min" not in name}
    alone = replace(surface, values=values)
    (figure,) = figures([alone])
    assert [ax.get_title() for ax in figure.axes] == ["a net: train λmax"]
    with pytest.raises(
        LandscapeError, match="--kind curvature does not fit, as it has no lambda_min; valid here: extremes"
    ):
        figures([alone], kinds=("curvature",))
    (line,) = figures([as_line(alone)])
    assert [each.get_gid() for each in line.axes[1].get_lines() if each.get_gid()] == [
        "train_lambda_max",
        "center",
    ]


def test_a_line_has_both_ends_below_the_loss_with_bands_of_their_errors():
    lows = np.full((4, 3), -0.1)
    lows[:, 1] = [-3.0, -0.01, 0.02, np.nan]
    surface = as_line(bent(np.full((4, 3), 20.0), lows, residual=0.004))
    (figure,) = figures([surface])
    loss, ends = figure.axes
    curves = {each.get_gid(): each for each in ends.get_lines()}
    np.testing.assert_array_equal(curves["train_lambda_max"].get_ydata(), np.full(4, 20.0))
    np.testing.assert_array_equal(curves["train_lambda_min"].get_ydata(), lows[:, 1])
    np.testing.assert_array_equal(curves["train_lambda_min"].get_xdata(), ALPHA)
    assert ends.get_yscale() == "symlog"
    assert ends.get_ylim()[0] < -3 < 20 < ends.get_ylim()[1]
    assert "train λmin: result is NaN" in legend(ends)
    band = ends.collections[-1].get_paths()[0].vertices[:, 1]
    assert {round(each, 6) for each in band} >= {-2.996, -3.004}
    assert "|λmin/λmax| beyond 0.1 at 33.3 % of points" in words(loss)
    (linear,) = figures([surface], scale="linear")
    assert linear.axes[1].get_yscale() == "linear"


def test_several_lines_are_drawn_thin_below_their_mean():
    surface = replace(bent(), beta=None, seeds=np.array([5, 6, 7]))
    (figure,) = figures([surface])
    thin = [each for each in figure.axes[1].get_lines() if each.get_gid() == "repeat"]
    assert len(thin) == 6
    assert legend(figure.axes[1]) == ["mean train λmax", "mean train λmin"]


REFUSED = [
    (
        [as_line(bent())],
        {"kinds": ("extremes",)},
        "as it is a line; valid here: curvature",
        "a map of a line",
    ),
    (
        [as_line(bent()), as_line(bent(path="b.h5"))],
        {"together": True},
        "is not for lines with curvature",
        "two by two",
    ),
    ([as_line(bent()), bent(path="b.h5")], {"together": True}, "is a plane, and map.h5 a line", "unlike"),
    (
        [bent()],
        {"kinds": ("extremes",), "quantities": ("train_loss",)},
        "there is no quantity 'train_loss'",
        "a loss",
    ),
    ([bent()], {"kinds": ("extremes",), "vmax": 3.0}, "--vmax is not for --kind extremes", "several scales"),
    (
        [bent()],
        {"kinds": ("curvature", "extremes"), "output": "x.png"},
        "but 2 pictures are asked for",
        "two in one",
    ),
]


@pytest.mark.parametrize(("surfaces", "options", "said", "reason"), REFUSED)
def test_what_cannot_be_drawn_is_refused_in_one_line(surfaces, options, said, reason):
    with pytest.raises(LandscapeError) as caught:
        plan_curvature(surfaces, Request(**options))
    assert said in str(caught.value), reason
    assert "\n" not in str(caught.value), reason


def test_a_surface_without_curvature_has_no_such_picture(planted):
    with pytest.raises(LandscapeError, match=r"planted\.h5: --kind curvature is for files with curvature"):
        plan_curvature([planted()], Request(kinds=("curvature",)))
    surface = planted()
    assert plan_curvature([surface], Request()) == ([], [surface])


def test_a_surface_draws_its_curvature_itself():
    surface = bent()
    assert len(draw(surface, kind=None, quantity=None, ax=None).axes) == 2
    assert len(draw(surface, kind="extremes", quantity="train_lambda_min", ax=None).axes) == 1
    with pytest.raises(LandscapeError, match="has panels of its own; leave ax out"):
        draw(surface, kind="curvature", quantity=None, ax=object())
    with pytest.raises(LandscapeError, match=r"valid for its grid are .*curvature, extremes"):
        draw(surface, kind="pie", quantity=None, ax=None)


def test_the_least_and_greatest_end_are_told_with_their_places():
    tops = np.arange(12.0).reshape(4, 3)
    tops[0, 0] = np.nan
    assert end_facts(field_of(bent(tops), "train_lambda_max")) == (
        "least 1 at (−1, 0)",
        "greatest 11 at (1, 1)",
    )
    assert end_facts(field_of(bent(np.full((4, 3), np.nan)), "train_lambda_max")) == ()


SCALES = [
    ([1.0, 2.0, -3.0], "auto", None, "of one size"),
    ([1.0, -1000.0], "linear", None, "as asked for"),
    ([np.nan, np.inf], "auto", None, "nothing finite"),
    ([0.0, 0.0], "auto", None, "zeros"),
    ([100.0, 50.0, -0.02], "auto", 0.01, "from the least size"),
    ([1e9, *np.logspace(-9, 0, 50)], "auto", 1e5, "four decades below the greatest at most"),
    ([3.0, 4.0], "log", 1.0, "as asked for"),
]


@pytest.mark.parametrize(("values", "kind", "linear_below", "reason"), SCALES)
def test_a_signed_scale_is_logarithmic_where_sizes_differ(values, kind, linear_below, reason):
    scale = signed_scale(np.array(values), kind=kind)
    assert scale.linear_below == linear_below, reason
    finite = [each for each in values if np.isfinite(each)]
    assert all(scale.low <= each <= scale.high for each in finite), reason
    assert scale.low < scale.high
    ticks = decade_ticks(scale)
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 9
