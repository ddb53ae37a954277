"""Principal axes and places in a plane, from products alone, against scikit-learn and against vectors that are known."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.principal import nearest, principal


@pytest.fixture
def rows():
    generator = np.random.default_rng(4)
    steps = generator.normal(size=(9, 40)) * np.linspace(2, 0.1, 9)[:, None]
    return np.cumsum(steps, axis=0) + 3


def test_components_and_shares_are_those_of_scikit_learn(rows):
    found = principal(rows @ rows.T)
    oracle = PCA().fit(rows)
    np.testing.assert_allclose(found.variation, oracle.explained_variance_ratio_, atol=1e-12)
    for own, other in zip(found.weights @ rows, oracle.components_, strict=False):
        np.testing.assert_allclose(own * np.sign(own @ other), other, atol=1e-10)
    assert found.variation.sum() == pytest.approx(1, abs=1e-12)


def test_the_first_row_lies_at_positive_coordinates(rows):
    for sign in (1, -1):
        found = principal(rows @ rows.T)
        assert (found.weights @ (sign * rows) @ (sign * rows[0]) > 0).all()


def test_what_spans_no_plane_is_refused(rows):
    with pytest.raises(LandscapeError, match="all of them are the same"):
        principal(np.ones((4, 4)))
    same = np.repeat(rows[:1] / 3, 5, axis=0)
    with pytest.raises(LandscapeError, match="all of them are the same"):
        principal(same @ same.T)
    line = np.outer(np.arange(5.0), rows[0])
    with pytest.raises(LandscapeError, match="lie on one line"):
        principal(line @ line.T)


def test_places_in_an_oblique_plane_are_those_it_was_built_with():
    generator = np.random.default_rng(1)
    axes = generator.normal(size=(2, 30)) * [[5.0], [0.01]]
    axes[1] += 0.3 * axes[0]
    normal = generator.normal(size=30)
    normal -= np.linalg.lstsq(axes.T, normal, rcond=None)[0] @ axes
    normal /= np.linalg.norm(normal)
    coordinates, distances = generator.normal(size=(6, 2)), np.array([0, 1, 2, 0.5, 7, 0.0])
    vectors = coordinates @ axes + distances[:, None] * normal
    found, out = nearest((vectors**2).sum(axis=1), axes @ vectors.T, axes @ axes.T)
    np.testing.assert_allclose(found, coordinates, atol=1e-5)
    np.testing.assert_allclose(out, distances, atol=1e-6)


def test_parallel_axes_are_refused():
    axes = np.array([[1.0, 2, 3], [2, 4, 6]])
    with pytest.raises(LandscapeError, match=r"parallel \(cosine 1.000000\)"):
        nearest(np.ones(2), np.ones((2, 2)), axes @ axes.T)
    with pytest.raises(LandscapeError, match="zero everywhere"):
        nearest(np.ones(2), np.zeros((2, 2)), np.zeros((2, 2)))
