"""The counts in docs/networks.md, counted again; torchvision's against torchvision's own metadata."""

import re
from pathlib import Path

import pytest
import torchvision

from mpi_landscape.configuration.sections.sources import ModelConfiguration
from mpi_landscape.configuration.yaml_text import parse
from mpi_landscape.problem.networks.table import build_network

DOCUMENT = Path(__file__).parents[2] / "docs" / "networks.md"


def rows():
    found = []
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            name, *arguments = re.findall(r"`([^`]*)`", cells[0])
            found.append((name, "{" + ", ".join(arguments) + "}", int(cells[1].replace(",", "")), cells[2]))
    return found


@pytest.mark.parametrize(("name", "arguments", "count", "published"), rows(), ids=[row[0] for row in rows()])
def test_a_network_has_the_parameters_that_its_row_says(name, arguments, count, published):
    given = parse(arguments, where="table")
    model = build_network(ModelConfiguration(name=name, arguments=given), where="table", folders=[])
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    if name.startswith("torchvision/"):
        weights = torchvision.models.get_model_weights(name.removeprefix("torchvision/")).DEFAULT
        assert count == weights.meta["num_params"] == int(published.replace(",", ""))
    elif published.endswith(" M"):
        # Published for shortcuts without parameters; ours have two 1 x 1 projections with normalisation on top.
        projections = 0 if name.endswith("_noshort") else 16 * 32 + 32 * 64 + 2 * 32 + 2 * 64
        digits = len(published.removesuffix(" M").partition(".")[2])
        assert round((count - projections) / 1e6, digits) == float(published.removesuffix(" M"))


def test_the_table_is_not_empty():
    assert len(rows()) > 20
