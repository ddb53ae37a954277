"""The examples in the docstrings, each against a closed form."""

import doctest

import pytest

from mpi_landscape.geometry import directions, filters, layout, memory, moving, naming, normalization, plane


@pytest.mark.parametrize(
    "module", [directions, filters, layout, memory, moving, naming, normalization, plane]
)
def test_examples_in_docstrings_are_true(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
