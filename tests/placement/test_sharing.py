"""Tensors of rank 0 on every rank."""

import pytest
import torch

from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.sharing import share_tensors

SCRIPT = """
import sys
import torch
from mpi4py import MPI
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.placement.sharing import share_tensors
from tests.placement.test_sharing import tensors, same

ranks = open_ranks()
found = share_tensors(tensors() if ranks.is_root else None, ranks)
assert list(found) == list(tensors()), list(found)
assert all(same(found[name], value) for name, value in tensors().items())
found["dense"].fill_(0)  # of its own
"""


def tensors():
    torch.manual_seed(0)
    return {
        "dense": torch.randn(3, 4),
        "turned": torch.randn(4, 3).t(),
        "short": torch.randn(5).bfloat16(),
        "number": torch.tensor(7),
        "nothing": torch.empty(0, 3),
        "turning": torch.randn(2, dtype=torch.complex64),
        "flags": torch.tensor([True, False]),
        "sparse": torch.eye(4).to_sparse(),
    }


def same(one, other):
    if one.layout != other.layout or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.to_dense(), other.to_dense())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_rank_has_them_in_their_types(size, standing, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = standing(size, str(script))
    assert done.returncode == 0, done.stderr


def test_alone_they_are_copies_only_where_that_is_asked_for():
    given = tensors()
    alone = Ranks()
    assert share_tensors(given, alone, copied=False)["sparse"] is given["sparse"]
    copies = share_tensors(given, alone)
    copies["dense"].zero_()
    assert same(given["dense"], tensors()["dense"])
