"""The module `plotting.drawn.labels`."""

from __future__ import annotations

import numpy as np
import pytest

from plotting.drawn.figures import draw_figure
from plotting.picture.field import field_of
from plotting.picture.scale import choose_scale


def ragged(alpha, beta):
    return alpha**2 + beta**2 + 0.5 * np.sin(9 * alpha) * np.cos(8 * beta) + 2


def _labels(surface, **options):
    field = field_of(surface, "train_loss")
    scale = choose_scale(field.results, where="x", **options)
    figure = draw_figure("contour", [[field]], [scale])
    figure.canvas.draw()
    (ax,) = figure.axes
    return (
        ax,
        scale,
        [text for text in ax.texts if text.get_text().replace("−", "-").replace(".", "").isdigit()],
    )


def _corners(label):
    """Return the four corners of the letters in pixels, turned as they stand."""
    turn = np.deg2rad(label.get_rotation())
    label.set_rotation(0)
    box = label.get_window_extent()
    label.set_rotation(np.rad2deg(turn))
    middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
    corners = np.array([[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1]]) - middle
    return corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + middle


def _apart(here, there):
    """Two rectangles are apart if and only if they are along one of their sides (separating axis theorem)."""
    for box in (here, there):
        for side in (box[1] - box[0], box[2] - box[1]):
            a, b = here @ side, there @ side
            if a.max() < b.min() or b.max() < a.min():
                return True
    return False


@pytest.mark.parametrize("loss", [None, ragged])
@pytest.mark.parametrize("levels", [None, 25])
def test_labels_do_not_overlap(planted, loss, levels):
    surface = planted(
        alpha=np.linspace(-1, 1.2, 61), beta=np.linspace(-0.9, 1, 47), **({"loss": loss} if loss else {})
    )
    _, _, labels = _labels(surface, levels=levels)
    assert len(labels) >= 6
    boxes = [_corners(label) for label in labels]
    for k, here in enumerate(boxes):
        for there in boxes[:k]:
            assert _apart(here, there), f"{labels[k].get_text()} lies on another label"


@pytest.mark.parametrize("loss", [None, ragged])
def test_a_label_says_the_value_at_its_place(planted, loss):
    surface = planted(
        alpha=np.linspace(-1, 1.2, 91), beta=np.linspace(-0.9, 1, 83), **({"loss": loss} if loss else {})
    )
    _, scale, labels = _labels(surface)
    function = ragged if loss else lambda alpha, beta: (alpha - 0.5) ** 2 + 4 * (beta - 0.3) ** 2
    for label in labels:
        level = float(label.get_text().replace("−", "-"))
        nearest = min(scale.levels, key=lambda other: abs(other - function(*label.get_position())))
        assert nearest == pytest.approx(level)


def test_most_levels_of_a_bowl_are_labeled(planted):
    _, scale, labels = _labels(planted(alpha=np.linspace(-1, 1.2, 61), beta=np.linspace(-0.9, 1, 47)))
    assert len({label.get_text() for label in labels}) >= 0.7 * len(scale.levels)
