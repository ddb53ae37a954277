"""Pictures of spectra: a density of integral 1, outliers as sticks, one scale for several, eigenvalues by rank."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.spectrum.value import Moments, Spectrum, moments_of
from plotting.asked.request import Request
from plotting.asked.single import draw_spectrum
from plotting.asked.spectrum_pictures import draw_spectra, plan_spectra
from plotting.picture.spectrum import SMOOTHING, count_of, density_of, facts_of, smoothing_words, tail_of

# Of a thousand numbers: two that stand apart, 994 in the rest, four of the lower end.
LARGEST, SMALLEST, NUMBER = np.array([30.0, 12.0]), np.array([-0.5, -0.6, -0.7, -0.9]), 1000
NODES = np.array([[0.0, 1.0, 2.0], [-0.4, 0.0, 1.5]])
SHARES = np.array([[0.9, 0.08, 0.02], [0.1, 0.85, 0.05]])


def spectrum(
    *,
    largest=LARGEST,
    smallest=SMALLEST,
    nodes=NODES,
    shares=SHARES,
    number=NUMBER,
    done=None,
    path="spectrum.h5",
    **said,
):
    nodes = np.asarray(nodes, dtype=np.float64)
    values = np.concatenate([largest, smallest])
    rest = number - values.size
    done = np.ones(1 + len(nodes), dtype=bool) if done is None else np.array(done)
    weights = np.asarray(shares, dtype=np.float64) * _whole(rest, number)
    return Spectrum(
        path=path,
        eigenvalues=np.where(done[0], values, np.nan),
        residuals=np.where(done[0], 0.01 * np.abs(values), np.nan),
        num_largest=len(largest),
        nodes=np.where(done[1:, None], nodes, np.nan),
        weights=np.where(done[1:, None], weights, np.nan),
        num_parameters=number,
        loss=0.1,
        gradient_norm=0.2,
        noise=1e-7,
        num_products=np.ones(1 + len(nodes)),
        moments=moments_of(
            values, 0 * values, *(number * (weights * nodes**power).sum(axis=-1) for power in (1, 2))
        )
        if done.all() and nodes.size
        else Moments(),
        kept=np.array([], dtype=np.int64),
        done=done,
        attributes={"title": "a net", "operator": "hessian", **said},
    )


def _whole(rest, number):
    """What the weights of a probe sum to in a file."""
    return rest / number


def drawn(spectra, **options):
    return [draw_spectra(picture) for picture in plan_spectra(spectra, Request(**options))]


def by_id(ax):
    return {
        each.get_gid(): each for each in [*ax.get_lines(), *ax.collections, *ax.patches] if each.get_gid()
    }


def words(figure):
    texts = [text.get_text() for ax in figure.axes for text in [ax.title, *ax.texts]]
    return " ".join(texts).replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")


def legend(figure):
    (found,) = figure.legends
    return [each.get_text() for each in found.get_texts()], found.get_title().get_text()


def test_the_curve_and_the_sticks_together_have_the_integral_one():
    density = density_of(spectrum())
    places, heights = density.curve(-10, 10)
    sticks = density.outliers.size / NUMBER
    assert np.trapezoid(heights, places) + sticks == pytest.approx(1, abs=1e-4)


def test_the_curve_is_a_gaussian_for_each_node_by_its_weight():
    density = density_of(spectrum())
    sigma = SMOOTHING * (2.0 - -0.9)
    assert density.width == pytest.approx(sigma)
    places, heights = density.curve(-10, 10)
    expected = np.zeros_like(places)
    known = [(each, 1 / NUMBER) for each in SMALLEST]
    probed = [
        (node, share * (NUMBER - 6) / NUMBER / 2)
        for nodes, shares in zip(NODES, SHARES, strict=True)
        for node, share in zip(nodes, shares, strict=True)
    ]
    for node, weight in known + probed:
        expected += (
            weight * np.exp(-((places - node) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
        )
    np.testing.assert_allclose(heights, expected, rtol=1e-9, atol=1e-12)


def test_outliers_are_eigenvalues_beyond_twice_the_edge_of_the_rest_on_either_side():
    assert density_of(spectrum()).outliers.tolist() == [12.0, 30.0]
    both = density_of(spectrum(largest=np.array([30.0, 3.9]), smallest=np.array([-4.1, -9.0])))
    assert both.outliers.tolist() == [-9.0, -4.1, 30.0]
    assert count_of(both) == "3 outliers (2 negative)"
    # What a probe sees of the eigenvalues that were taken out is rounding.
    ghost = spectrum(nodes=[[0.0, 1.0, 29.0]], shares=[[0.9, 0.1, 1e-9]])
    assert density_of(ghost).outliers.tolist() == [12.0, 30.0]


def test_the_share_below_zero_is_that_of_the_weights():
    # 0.4 times the share of the second probe, half of the rest, and the four known ones.
    share = 0.5 * 0.1 * (NUMBER - 6) / NUMBER + 4 / NUMBER
    assert density_of(spectrum()).share_negative == pytest.approx(share)
    assert f"{100 * share:.3g} % negative (below −σ)" in facts_of(spectrum(), "density")


def test_the_picture_says_what_the_smoothing_is_and_how_many_outliers_there_are():
    (figure,) = drawn([spectrum()], kinds=("density",))
    texts, title = legend(figure)
    assert title == "smoothed by a Gaussian of σ = 0.058, 2 % of the width of the bulk"
    assert texts == ["outlier: beyond twice the edge of the rest", "negative"]
    assert "a net: spectrum of the Hessian" in words(figure)
    for fact in ("1,000 eigenvalues", "2 outliers", "λmax 30", "λmin −0.9", "trace"):
        assert fact in words(figure), fact


def test_sticks_stand_at_the_outliers_and_are_as_high_as_one_eigenvalue():
    (figure,) = drawn([spectrum()], kinds=("density",))
    whole, bulk = figure.axes
    marks = by_id(whole)["outliers 0"]
    assert marks.get_xdata().tolist() == [12.0, 30.0]
    density = density_of(spectrum())
    alone = np.array([0.0])
    single = replace(density, nodes=alone, weights=np.array([density.one])).curve(-1e-9, 1e-9)[1].max()
    np.testing.assert_allclose(marks.get_ydata(), single)
    assert "outliers 0" not in by_id(bulk)
    assert whole.get_yscale() == bulk.get_yscale() == "log"
    assert whole.get_ylim() == bulk.get_ylim()
    assert whole.get_ylim()[0] < single < whole.get_ylim()[1]


def test_the_bulk_has_a_scale_of_its_own_where_outliers_press_it():
    (figure,) = drawn([spectrum()], kinds=("density",))
    whole, bulk = figure.axes
    assert whole.get_xlim()[0] < -0.9 < 30 < whole.get_xlim()[1]
    assert -1.2 < bulk.get_xlim()[0] < -0.9 < 2.0 < bulk.get_xlim()[1] < 2.3
    negative = by_id(bulk)["negative"]
    assert negative.get_extents().transformed(bulk.transData.inverted()).x1 == pytest.approx(0)
    (single,) = drawn([spectrum(largest=np.array([3.0, 2.5]))], kinds=("density",))
    assert len(single.axes) == 1


def test_networks_together_lie_over_each_other_in_colors_of_their_own():
    large = spectrum(path="runs/large/spectrum.h5", title="batch 1024")
    small = spectrum(path="runs/small/spectrum.h5", title="batch 32", largest=np.array([8.0, 3.0]))
    (figure,) = drawn([large, small], kinds=("density",), together=True)
    whole = by_id(figure.axes[0])
    assert whole["outliers 1"].get_xdata().tolist() == [8.0]
    assert whole["density 0"].get_color() != whole["density 1"].get_color()
    texts, title = legend(figure)
    assert texts[:2] == ["batch 1024: 2 outliers, λmax 30", "batch 32: 1 outlier, λmax 8"]
    assert title == "smoothed by Gaussians of σ = 2 % of the width of each bulk"
    assert "spectrum of the Hessian" in words(figure)


def test_the_parts_of_a_hessian_stand_side_by_side_on_one_scale():
    parts = [
        spectrum(path="r.h5", operator="remainder", largest=np.array([0.3, 0.2]), nodes=NODES / 10),
        spectrum(path="h.h5"),
        spectrum(path="g.h5", operator="gauss_newton", smallest=np.array([])),
    ]
    pictures = plan_spectra(parts, Request(together=True))
    assert [str(each.path) for each in pictures] == ["r_together_density.png", "r_together_eigenvalues.png"]
    figure = draw_spectra(pictures[0])
    titles = [ax.get_title().replace("\n", " ") for ax in figure.axes[:3]]
    assert titles == [
        "a net: spectrum of the Hessian",
        "a net: spectrum of the Gauss\N{EN DASH}Newton part",
        "a net: spectrum of the remainder",
    ]
    assert len({ax.get_xlim() for ax in figure.axes[:3]}) == 1
    assert len({ax.get_xlim() for ax in figure.axes[3:]}) == 1
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert figure.axes[0].get_xlim()[1] > 30


def test_eigenvalues_are_drawn_by_rank_with_bars_of_their_residuals():
    (figure,) = drawn([spectrum()], kinds=("eigenvalues",))
    largest, smallest = figure.axes
    (top,), (low,) = largest.containers, smallest.containers
    assert top.lines[0].get_xydata().tolist() == [[1, 30.0], [2, 12.0]]
    # The ranks of the lower end count from the last, n.
    assert low.lines[0].get_xydata().tolist() == [[-3, -0.5], [-2, -0.6], [-1, -0.7], [0, -0.9]]
    (bars,) = top.lines[2]
    np.testing.assert_allclose([np.ptp(each[:, 1]) for each in bars.get_segments()], [0.6, 0.24])
    assert (largest.get_title(), smallest.get_title()) == ("largest", "smallest")
    ranks, values, residuals = tail_of(spectrum(), upper=False)
    assert ranks.tolist() == [997, 998, 999, 1000]
    np.testing.assert_allclose(residuals, 0.01 * np.abs(values))


def test_an_end_that_was_not_asked_for_is_told_from_one_that_is_not_known_yet():
    parts = [spectrum(path="h.h5"), spectrum(path="g.h5", operator="gauss_newton", smallest=np.array([]))]
    (figure,) = drawn(parts, kinds=("eigenvalues",), together=True)
    assert "none of this end is in the file" in words(figure)


def test_largest_eigenvalues_of_many_sizes_are_drawn_logarithmically():
    (figure,) = drawn([spectrum(largest=np.array([1e4, 10.0, 1.0]))], kinds=("eigenvalues",))
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "linear"]


def test_a_spectrum_without_probes_is_drawn_as_its_eigenvalues():
    bare = spectrum(nodes=np.empty((0, 3)), shares=np.empty((0, 3)))
    pictures = plan_spectra([bare], Request())
    assert [each.kind for each in pictures] == ["eigenvalues"]
    (figure,) = drawn([bare], kinds=("density",))
    assert by_id(figure.axes[0])["outliers 0"].get_xdata().tolist() == [-0.9, -0.7, -0.6, -0.5, 12.0, 30.0]
    assert legend(figure)[1] == "no probe is done: eigenvalues of both ends alone"
    assert "6 known" in words(figure)


def test_an_unfinished_spectrum_shows_what_there_is():
    part = spectrum(done=[True, True, False])
    density = density_of(part)
    assert set(density.nodes.tolist()) == {0.0, 1.0, 2.0, *SMALLEST.tolist()}
    assert density.weights.sum() + 2 / NUMBER == pytest.approx(1)
    assert "partial: 2 of 3 parts" in words(drawn([part], kinds=("density",))[0])
    nothing = spectrum(done=[False, False, False])
    assert density_of(nothing) is None
    density, tails = drawn([nothing])
    assert "nothing is computed yet" in words(density)
    assert "no eigenvalue is known yet" in words(tails)


AWKWARD = [
    ({"largest": np.zeros(2), "smallest": np.zeros(2), "nodes": [[0.0]], "shares": [[1.0]]}, 0, "all zero"),
    (
        {"largest": np.full(2, 3.0), "smallest": np.full(2, 3.0), "nodes": [[3.0]], "shares": [[1.0]]},
        0,
        "all equal",
    ),
    ({"nodes": [[0.1]], "shares": [[1.0]]}, 6, "one node"),
    ({"nodes": np.linspace(-1, 2, 1000)[None], "shares": np.full((1, 1000), 1e-3)}, 2, "a thousand nodes"),
    ({"largest": np.array([1e12]), "nodes": [[1e-9, 2e-9]], "shares": [[0.5, 0.5]]}, 5, "many sizes"),
    (
        {
            "largest": np.array([-0.1]),
            "smallest": np.array([-5.0]),
            "nodes": [[-1.0, -0.5]],
            "shares": [[0.5, 0.5]],
        },
        1,
        "negative",
    ),
]


@pytest.mark.parametrize(("said", "outliers", "reason"), AWKWARD)
def test_every_spectrum_has_a_picture_whose_curve_is_seen(said, outliers, reason):
    found = spectrum(**said)
    density = density_of(found)
    assert density.outliers.size == outliers, reason
    assert density.width > 0, reason
    figure, _ = drawn([found])
    curve = by_id(figure.axes[-1])["density 0"]
    low, high = figure.axes[-1].get_ylim()
    top = np.nanmax(curve.get_ydata())
    assert low < top < high, reason
    places, heights = density.curve(-math.inf, math.inf)
    assert np.trapezoid(heights, places) == pytest.approx(density.weights.sum(), rel=1e-3), reason
    if not density.is_wide:
        assert "of the largest eigenvalue" in smoothing_words([density])


def test_normalized_coordinates_have_pictures_of_their_own():
    both = replace(spectrum(), normalized=spectrum(largest=np.array([500.0, 90.0])))
    paths = [str(each.path) for each in plan_spectra([both], Request(kinds=("density",)))]
    assert paths == ["spectrum_density.png", "spectrum_normalized_density.png"]
    (figure,) = drawn([both], kinds=("density",), quantities=("normalized",))
    assert "λmax 500" in words(figure)
    assert "in normalized coordinates" in words(figure)


REFUSED = [
    (
        {"kinds": ("contour",)},
        "--kind contour is for other files, and this is of a spectrum; valid here: density, eigenvalues",
    ),
    ({"kinds": ("pie",)}, "is not known"),
    ({"quantities": ("normalized",)}, "there is no quantity 'normalized'; valid are plain"),
    ({"levels": 3}, "--levels is not for a spectrum"),
    ({"vmax": 3.0}, "--vmin and --vmax is not for a spectrum"),
    ({"scale": "linear"}, "--scale is not for a spectrum"),
    ({"common_scale": True}, "put the files --together"),
    ({"kinds": ("all",), "output": "x.png"}, "2 pictures are asked for"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_a_spectrum_does_not_have_is_refused_in_one_line(options, said):
    with pytest.raises(LandscapeError) as caught:
        plan_spectra([spectrum()], Request(**options))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_spectrum_draws_itself():
    assert len(draw_spectrum(spectrum(), kind="eigenvalues").axes) == 2
    assert "mine" in words(draw_spectrum(spectrum(), title="mine"))
    with pytest.raises(LandscapeError, match="kind is 'pie'; valid are density, eigenvalues"):
        draw_spectrum(spectrum(), kind="pie")


def test_a_picture_as_output_is_the_density():
    (picture,) = plan_spectra([spectrum()], Request(output="x.pdf"))
    assert (picture.kind, str(picture.path)) == ("density", "x.pdf")
