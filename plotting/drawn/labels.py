"""Where the numbers stand on contour lines: one or two per level, on straight and free stretches."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from numpy.typing import NDArray

from plotting.drawn.style import INK, halo

Points = NDArray[np.float64]  # (n, 2), in pixels
Placed = list[tuple[NDArray[np.float64], float]]  # the places of labels and their widths, in pixels

_SIZE = 7.0  # points
_SPACING = 4  # pixels between two candidates
_MAX_CANDIDATES = 150
_MAX_OBSTACLES = 4000


def label_contours(
    ax: Axes, contours: ContourSet, texts: Sequence[str], names: Sequence[tuple[Sequence[float], str]] = ()
) -> None:
    """Write the level on each line that has room for it, clear of other lines, labels, the center, and `names` at points.

    matplotlib places each label without regard to those of other levels, so on dense contours they collide;
    here a line without a free stretch goes without. The axes must be laid out as they will be drawn.
    """
    pixels_per_point = ax.figure.dpi / 72
    letter, line = 0.62 * _SIZE * pixels_per_point, 1.1 * _SIZE * pixels_per_point
    lines = [_pixels(ax, contours, k) for k in range(len(texts))]
    obstacles = [
        _resample(np.concatenate(polygons), _MAX_OBSTACLES) if polygons else None for polygons in lines
    ]
    # The first keeps the center free.
    placed: Placed = [(ax.transData.transform((0.0, 0.0)), 2 * line)]
    placed += [
        (ax.transData.transform(point) + np.array([0.0, line]), letter * len(name) + line)
        for point, name in names
    ]
    fixed = len(placed)
    # Short lines have the least choice, so they choose first.
    for k in sorted(range(len(texts)), key=lambda k: sum(_length(polygon) for polygon in lines[k])):
        others = [points for j, points in enumerate(obstacles) if j != k and points is not None]
        width = letter * len(texts[k]) + line
        for rank, polygon in enumerate(sorted(lines[k], key=_length, reverse=True)[:2]):
            if _length(polygon) < (2 if rank == 0 else 8) * width:
                continue
            place = _best_place(ax, polygon, others, placed, width, line)
            if place is not None:
                placed.append((place, width))
    if len(placed) > fixed:
        places = ax.transData.inverted().transform(np.array([place for place, _ in placed[fixed:]]))
        written_on = {float(level): text for level, text in zip(contours.levels, texts, strict=True)}
        written = contours.clabel(
            fontsize=_SIZE, fmt=written_on, inline=True, inline_spacing=3, colors=INK,
            manual=[(float(x), float(y)) for x, y in places], zorder=5,
        )  # fmt: skip
        for text in written:
            text.set_path_effects(halo())


def _pixels(ax: Axes, contours: ContourSet, k: int) -> list[Points]:
    """The polygons of one level."""
    # Transformed before it is split: splitting simplifies by a ninth of a unit, meant for pixels.
    polygons = contours.get_paths()[k].to_polygons(transform=ax.transData, closed_only=False)
    return [points for points in map(np.asarray, polygons) if len(points) > 1]


def _length(polygon: Points) -> float:
    return float(np.hypot(*np.diff(polygon, axis=0).T).sum())


def _resample(points: Points, limit: int) -> Points:
    """The points and more on long straight pieces, thinned: distances to points stand for distances to lines."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    pieces = [points]
    for k in np.nonzero((steps > _SPACING) & (steps < 60))[0]:
        share = np.linspace(0, 1, int(steps[k] / _SPACING) + 2)[1:-1, None]
        pieces.append(points[k] + share * (points[k + 1] - points[k]))
    dense = np.concatenate(pieces)
    return dense[:: -(-len(dense) // limit)]


def _best_place(
    ax: Axes, polygon: Points, others: list[Points], placed: Placed, width: float, line: float
) -> NDArray[np.float64] | None:
    """The candidate with the clearest, straightest surroundings; None if none is clear enough."""
    reach = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(polygon, axis=0).T))])
    count = min(_MAX_CANDIDATES, max(3, int(reach[-1] / _SPACING)))
    along = np.linspace(0, reach[-1], count)

    def at(distance: NDArray[np.float64]) -> Points:
        if np.allclose(polygon[0], polygon[-1]):
            distance = distance % reach[-1]
        return np.stack([np.interp(distance, reach, polygon[:, axis]) for axis in (0, 1)], axis=1)

    points, chord = at(along), at(along + width / 2) - at(along - width / 2)
    straight = np.hypot(*chord.T) / width
    level = np.abs(chord[:, 0]) / np.maximum(np.hypot(*chord.T), 1e-9)
    box = ax.get_window_extent()
    rim = np.min([points - [box.x0, box.y0], [box.x1, box.y1] - points], axis=(0, 2))
    free = np.full(len(points), np.inf)
    for obstacle in others:
        distance = np.hypot(*(points[:, None] - obstacle[None]).transpose(2, 0, 1))
        free = np.minimum(free, distance.min(axis=1))
    apart = np.full(len(points), np.inf)
    for place, room in placed:
        apart = np.minimum(apart, np.hypot(*(points - place).T) - 0.55 * (width + room))
    allowed = (straight > 0.8) & (rim > 0.6 * width) & (free > 0.6 * line) & (apart > 0)
    if not allowed.any():
        return None
    score = np.minimum(free / line, 2) + 2 * straight + 0.5 * level + np.minimum(apart / width, 1)
    best: NDArray[np.float64] = points[int(np.argmax(np.where(allowed, score, -np.inf)))]
    return best
