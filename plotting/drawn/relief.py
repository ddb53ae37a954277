"""A field as a 3-D surface, lit, over its plane."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.colors import Normalize
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from mpl_toolkits.mplot3d.axes3d import Axes3D  # type: ignore[import-untyped]
from numpy.typing import NDArray

from plotting.drawn.contour import triangulate
from plotting.drawn.marks import NO_LOGARITHM, UNDEFINED, Look, axis_ticks, missing_handles, why_empty
from plotting.drawn.style import FAINT, INK, color_map, halo
from plotting.picture.cells import gaps
from plotting.picture.field import Field
from plotting.picture.levels import even_levels, format_levels, format_value, height, is_constant
from plotting.picture.scale import Scale

_BOX = np.array([1.0, 1.0, 0.72])
_ELEVATION, _AZIMUTH = 32, -58
# From over the reader's right shoulder: what is seen of a bowl is the inside of its far slopes.
_LIGHT = np.array([0.62, -0.28, 0.73])
_AMBIENT = 0.55
# More edges than this darken the surface instead of showing its form.
_MESH_LIMIT = 12_000


def draw_surface(ax: Axes3D, field: Field, scale: Scale) -> tuple[Poly3DCollection | None, list[Artist]]:
    """Draw the surface from its finished points; heights beyond the ends of the scale are cut flat.

    The field has at least two points on both axes; a logarithmic scale is drawn as the decimal logarithm.
    Returns the faces, or None if there are none, and legend entries.
    """
    shown = field.done & scale.shows(field.values)
    bottom, top = (float(end) for end in height([scale.vmin, scale.vmax], scale.kind))
    heights = np.zeros(field.values.shape)
    heights[shown] = np.clip(height(field.values[shown], scale.kind), bottom, top)
    _frame(ax, field, scale, bottom, top)
    faces, floor = _faces(field, shown, heights)
    for polygons, look in floor:
        _draw_floor(ax, polygons, look)
    handles = missing_handles(field, shown, pending=False)
    if not len(faces):
        text = (
            why_empty(field, shown)
            or f"only {int(field.done.sum())} points are computed: too few for a surface"
        )
        ax.text2D(0.5, 0.55, text, transform=ax.transAxes, ha="center", color=INK)
        return None, handles
    collection = _light(faces, field, bottom, top)
    ax.add_collection3d(collection)
    _mark_center(ax, field, shown, heights)
    return collection, handles


def _faces(
    field: Field, shown: NDArray[np.bool_], heights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[tuple[NDArray[np.float64], Look]]]:
    """The faces (n, 4, 3), and what lies on the floor because it has no height."""
    alpha, beta = field.plane
    causes = ((field.finite & ~shown, NO_LOGARITHM), (field.undefined, UNDEFINED))
    if not field.is_partial:
        places = np.stack([*np.meshgrid(alpha, beta, indexing="ij"), heights], axis=-1)
        corners = [places[:-1, :-1], places[1:, :-1], places[1:, 1:], places[:-1, 1:]]
        good = np.stack([shown[:-1, :-1], shown[1:, :-1], shown[1:, 1:], shown[:-1, 1:]])
        faces = [np.stack([corner[good.all(axis=0)] for corner in corners], axis=1)]
        for k in range(4):
            three = ~good[k] & (good.sum(axis=0) == 3)
            faces.append(np.stack([corners[(k + step) % 4][three] for step in (1, 2, 3, 3)], axis=1))
        return np.concatenate(faces), [(gaps(field, shown, cause), look) for cause, look in causes]
    triangles = triangulate(field, shown)
    if triangles is None:
        return np.empty((0, 4, 3)), []
    places = np.stack([triangles.x, triangles.y, heights[field.done]], axis=-1)
    indices = triangles.triangles[:, [0, 1, 2, 2]]
    touched = [(cause[field.done][indices].any(axis=1), look) for cause, look in causes]
    floor = [(places[indices[mask]][..., :2], look) for mask, look in touched]
    return places[indices[~np.asarray(triangles.mask)]], floor


def _light(faces: NDArray[np.float64], field: Field, bottom: float, top: float) -> Poly3DCollection:
    """The faces, colored by height and shaded by slope, both as seen in the box, not in the data's units.

    matplotlib's own shading takes normals in data units, where a loss of 1e5 over a unit square is all wall.
    """
    alpha, beta = field.plane
    spans = np.array([np.ptp(alpha), np.ptp(beta), top - bottom])
    scaled = faces / spans * _BOX
    normals = np.cross(scaled[:, 2] - scaled[:, 0], scaled[:, 3] - scaled[:, 1])
    triangle = (faces[:, 2] == faces[:, 3]).all(axis=1)
    normals[triangle] = np.cross(
        scaled[triangle, 1] - scaled[triangle, 0], scaled[triangle, 2] - scaled[triangle, 0]
    )
    normals *= np.where(normals[:, 2] < 0, -1.0, 1.0)[:, None]
    normals /= np.maximum(np.linalg.norm(normals, axis=1), 1e-300)[:, None]
    brightness = _AMBIENT + (1 - _AMBIENT) * np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    corners = np.where(triangle[:, None], [1 / 3, 1 / 3, 1 / 3, 0], [0.25, 0.25, 0.25, 0.25])
    colors = color_map()(Normalize(bottom, top)((faces[:, :, 2] * corners).sum(axis=1)))
    colors[:, :3] *= brightness[:, None]
    meshed = len(faces) <= _MESH_LIMIT
    edges = colors.copy()
    edges[:, :3] *= 0.75 if meshed else 1.0
    return Poly3DCollection(
        list(faces), facecolors=colors, edgecolors=edges, linewidths=0.25 if meshed else 0.1, zorder=2
    )


def _frame(ax: Axes3D, field: Field, scale: Scale, bottom: float, top: float) -> None:
    alpha, beta = field.plane
    ax.set_xlim(alpha[0], alpha[-1])
    ax.set_ylim(beta[0], beta[-1])
    ax.set_zlim(bottom, top)
    ax.set_box_aspect(_BOX, zoom=1.08)
    ax.view_init(elev=_ELEVATION, azim=_AZIMUTH)
    ax.set_proj_type("persp", focal_length=1.6)
    ax.set_xlabel("α", fontsize=11, labelpad=2)
    ax.set_ylabel("β", fontsize=11, labelpad=7)
    ax.set_zlabel(field.measure.axis_label(field.quantity, log=scale.kind == "log"), parse_math=False)
    percent = field.measure.is_fraction
    ticks = even_levels(scale.vmin, scale.vmax, 5, scale.kind)
    if is_constant(scale.vmin, scale.vmax) or not ticks:
        ticks = (scale.vmin, scale.vmax)
    texts = format_levels(ticks, percent=percent)
    ax.set_zticks(height(ticks, scale.kind).tolist(), labels=texts)
    ax.computed_zorder = False  # the floor lies below the surface, whatever the mean depth of either
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(axis_ticks())
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.pane.set_facecolor("#f7f7f7")
        axis.pane.set_edgecolor("#d0d0d0")
        axis._axinfo["grid"].update(color="#e2e2e2", linewidth=0.5)
    ax.tick_params(pad=0, labelsize=8)
    # At the front corner the last label of alpha meets the first of beta.
    for axis, side in ((ax.xaxis, "right"), (ax.yaxis, "left")):
        for tick in axis.get_major_ticks():
            tick.label1.set_horizontalalignment(side)
    # Tick labels are centered on their place, so long ones need more of it.
    room = 2.2 * max(len(text) for text in texts)
    ax.zaxis.set_tick_params(pad=room - 4)
    ax.zaxis.labelpad = room
    extend = scale.extend(field.values[field.done])
    if extend != "neither":
        ends = {"min": [scale.vmin], "max": [scale.vmax], "both": [scale.vmin, scale.vmax]}[extend]
        text = "cut at " + " and ".join(format_value(end, percent=percent) for end in ends)
        ax.text2D(0.02, 0.9, text, transform=ax.transAxes, fontsize=7.5, color=FAINT)


def _draw_floor(ax: Axes3D, polygons: NDArray[np.float64], look: Look) -> None:
    if len(polygons):
        low = ax.get_zlim()[0]
        corners = np.concatenate([polygons, np.full((*polygons.shape[:2], 1), low)], axis=-1)
        patch = Poly3DCollection(
            list(corners), facecolors=look["facecolor"], edgecolors=look["edgecolor"], zorder=1
        )
        patch.set_hatch(str(look["hatch"]))
        patch.set_linewidth(0.0)
        ax.add_collection3d(patch)


def _mark_center(ax: Axes3D, field: Field, shown: NDArray[np.bool_], heights: NDArray[np.float64]) -> None:
    """Mark (0, 0) at its height, if it is a point of the grid."""
    alpha, beta = field.plane
    (rows,), (columns,) = np.nonzero(alpha == 0), np.nonzero(beta == 0)
    if len(rows) and len(columns) and shown[rows[0], columns[0]]:
        z = heights[rows[0], columns[0]]
        ax.plot(
            [0], [0], [z], "+", color=INK, markersize=9, markeredgewidth=1.6, path_effects=halo(3), zorder=10
        )
