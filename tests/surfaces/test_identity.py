import hashlib

import numpy as np
import pytest
import torch

from mpi_landscape.storage.identity import fingerprint
from mpi_landscape.surfaces.identity import _values


def before(*buffers):
    """As files of the first version have it: everything in float32."""
    return fingerprint(*(buffer.float().numpy() for buffer in buffers))


def now(*buffers):
    return fingerprint(*map(_values, buffers))


def test_buffers_that_float32_holds_have_the_fingerprint_that_files_know():
    buffers = (
        torch.linspace(0, 1, 5),
        torch.tensor(2**24),
        torch.tensor([True, False]),
        torch.tensor([3], dtype=torch.uint8),
        torch.tensor([0.1], dtype=torch.bfloat16),
    )
    assert now(*buffers) == before(*buffers)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([1 + 1j]), torch.tensor([1 + 2j])),
        (torch.tensor(1.7e9, dtype=torch.float64), torch.tensor(1.7e9 + 1, dtype=torch.float64)),
        (torch.tensor(2**24 + 1), torch.tensor(2**24)),
        (torch.tensor([2**62 + 1]), torch.tensor([2**62])),
        (torch.tensor([1 + 0j]), torch.tensor([1.0])),
    ],
)
def test_buffers_that_float32_would_make_equal_are_told_apart(one, other):
    assert now(one) != now(other)


def test_a_complex_buffer_is_hashed_as_it_is():
    whole = hashlib.sha256(b"<c8 (1,) " + np.array([1, 2], dtype="<f4").tobytes())
    assert now(torch.tensor([1 + 2j])) == whole.hexdigest()[:16]
    assert now(torch.tensor([1 - 2j]).conj()) == whole.hexdigest()[:16]
