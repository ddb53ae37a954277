"""The examples in the docstrings of plotting say what happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import plotting

MODULES = [
    module.name for module in pkgutil.walk_packages(plotting.__path__, "plotting.") if not module.ispkg
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
