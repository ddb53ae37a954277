"""Persistence diagrams: every minimum at its birth and its death."""

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError

pytest.importorskip("gudhi", reason="pip install gudhi: the extra persistence")


def wells(alpha, beta):
    return 2 + np.cos(4 * alpha) * np.cos(5 * beta) + 0.3 * alpha + 0.1 * beta


def of(ax, gid):
    (found,) = (each.get_xydata() for each in ax.lines if each.get_gid() == gid)
    return found


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_every_minimum_has_its_point_above_the_diagonal(planted, scale):
    from mpi_landscape.measures.persistence import basins_of

    surface = planted(loss=wells)
    (ax,) = surface.plot("persistence", scale=scale).axes
    basins = basins_of(surface.train_loss, np.ones(surface.train_loss.shape, dtype=bool))
    wanted = sorted((each.birth, each.death) for each in basins if np.isfinite(each.death))
    assert len(wanted) >= 2
    assert sorted(map(tuple, of(ax, "joined"))) == wanted
    ((birth, height),) = of(ax, "never")
    assert birth == surface.minimum.value
    assert height > max(death for _, death in wanted)
    assert ax.get_xscale() == scale
    low, high = ax.get_xlim()
    assert (low, high) == ax.get_ylim()
    assert low < birth
    assert height < high


def test_one_minimum_alone_is_a_picture_too(planted):
    (ax,) = planted().plot("persistence").axes
    assert not any(each.get_gid() == "joined" for each in ax.lines)
    assert of(ax, "never")[0][0] == planted().minimum.value


def test_nothing_computed_is_said(planted):
    nothing = planted(done=np.zeros((26, 18), dtype=bool))
    (ax,) = nothing.plot("persistence").axes
    assert any("no point is computed yet" in each.get_text() for each in ax.texts)


def test_several_lines_have_no_diagram(planted):
    from dataclasses import replace

    lines = replace(planted(), beta=None, seeds=np.arange(18))
    with pytest.raises(LandscapeError, match="valid for its grid are line"):
        lines.plot("persistence")
