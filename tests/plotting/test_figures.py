from __future__ import annotations

import hashlib

import matplotlib
import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from plotting.drawn.figures import draw_figure, save
from plotting.picture.field import field_of
from plotting.picture.scale import choose_scale

KINDS = ("contour", "filled", "surface", "heatmap")


def _figure(kind, *surfaces, quantity="train_loss", **options):
    fields = [field_of(surface, quantity, as_line=kind == "line") for surface in surfaces]
    scale = choose_scale(np.concatenate([field.results for field in fields]), where="x", **options)
    return draw_figure(kind, [[field] for field in fields], [scale] * len(fields))


def _words(figure):
    return [text.get_text().replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ") for text in _texts(figure)]


def _texts(figure):
    return [text for ax in figure.axes for text in (ax.title, *ax.texts)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_surface_gives_the_same_bytes(planted, tmp_path, kind, suffix):
    digests = set()
    for name in ("first", "second"):
        path = tmp_path / f"{name}.{suffix}"
        save(_figure(kind, planted()), path, dpi=60)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_users_own_settings_change_nothing(planted, tmp_path):
    save(_figure("contour", planted()), tmp_path / "plain.png", dpi=60)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.transparent": True}):
        save(_figure("contour", planted()), tmp_path / "own.png", dpi=60)
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "own.png").read_bytes()


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")]
)
def test_the_suffix_says_the_format(planted, tmp_path, suffix, start):
    path = tmp_path / "new" / f"picture.{suffix}"
    save(_figure("heatmap", planted()), path, dpi=60)
    assert path.read_bytes().startswith(start)


def test_an_output_that_cannot_be_written_is_one_line(planted, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        LandscapeError, match=r"file/picture\.png: cannot be written: .*choose another --output"
    ):
        save(_figure("heatmap", planted()), tmp_path / "file" / "picture.png", dpi=60)


def test_the_title_names_the_surface_the_quantity_the_center_and_the_minimum(planted):
    alpha, beta = np.linspace(-1.0, 1.5, 26), np.linspace(-0.5, 1.2, 18)
    beta[np.abs(beta) < 1e-12] = 0.0
    surface = planted(alpha=np.round(alpha, 10), beta=np.round(beta, 10), title="resnet20 on digits")
    words = _words(_figure("contour", surface))
    assert "resnet20 on digits: train loss" in words
    # f(0, 0) = 0.25 + 4 * 0.09, and the test accuracy there is exp(-0.61 - 0.1).
    error = 100 * (1 - np.exp(-0.71))
    assert f"center (+) 0.61 · minimum 0 at (0.5, 0.3) · test error {error:.3g} %" in words


def test_a_file_without_a_title_is_named_by_its_stem(planted):
    assert "planted: train loss" in _words(_figure("heatmap", planted(path="/somewhere/planted.h5")))


@pytest.mark.parametrize("title", ["cost $5 and $x", r"\frac $", "a\nb", "π" * 200])
def test_any_title_can_be_drawn(planted, tmp_path, title):
    save(_figure("contour", planted(title=title)), tmp_path / "picture.png", dpi=40)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("finished", "text"),
    [
        (117, "partial: 25 % of points"),
        (467, "partial: 99 % of points"),
        (1, "partial: < 1 % of points"),
        (0, "0 %"),
    ],
)
def test_a_partial_file_says_how_much_is_done(planted, kind, finished, text):
    done = np.zeros((26, 18), dtype=bool)
    done.flat[:finished] = True
    assert any(text in words for words in _words(_figure(kind, planted(done=done))))


def test_a_finished_file_does_not_call_itself_partial(planted):
    assert not any("partial" in words for words in _words(_figure("contour", planted())))


@pytest.mark.parametrize("kind", KINDS)
def test_panels_side_by_side_share_their_scale(planted, kind):
    other = planted(loss=lambda alpha, beta: alpha**2 + beta + 9)
    figure = _figure(kind, planted(), other)
    panels = figure.axes[:2]
    assert [ax.get_title() for ax in panels] == ["planted: train loss"] * 2
    if kind == "heatmap":
        assert len({ax.collections[0].get_clim() for ax in panels}) == 1
    if kind == "surface":
        assert panels[0].get_zlim() == panels[1].get_zlim()
    assert sum(len(ax.child_axes) for ax in figure.axes) == (kind in ("filled", "heatmap"))


def test_the_color_bar_is_as_tall_as_its_panel(planted):
    figure = _figure("heatmap", planted())
    (ax,) = figure.axes
    (bar,) = ax.child_axes
    panel, strip = ax.get_window_extent(), bar.get_window_extent()
    assert strip.height == pytest.approx(panel.height, rel=1e-6)


@pytest.mark.parametrize(("stretch", "equal"), [(1.0, True), (30.0, False)])
def test_units_are_equal_unless_one_axis_would_become_unreadable(planted, stretch, equal):
    (ax,) = _figure("contour", planted(beta=stretch * np.linspace(-0.5, 1.2, 18))).axes
    assert ax.get_aspect() == (1.0 if equal else "auto")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("α", "β")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1e-300, 1e300])
def test_values_near_the_ends_of_float64_are_drawn_without_warnings(planted, tmp_path, recwarn, kind, factor):
    surface = planted(loss=lambda alpha, beta: factor * (1 + alpha**2 + beta**2))
    save(_figure(kind, surface), tmp_path / "picture.png", dpi=40)
    assert not recwarn.list
