"""Arrays of every kind from rank 0 to all. Run by test_broadcast.py; rank 0 prints what came out wrong."""

import json
import sys

import numpy as np

from mpi_landscape.parallel.broadcast import broadcast, sum_over_ranks
from mpi_landscape.parallel.launcher import open_ranks

ranks = open_ranks()
TYPES = ["f4", "f8", "f2", "i8", "i4", "u1", "?", "c8", ">f4", ">i8"]
SHAPES = [(), (0,), (1,), (7,), (3, 5), (2, 0, 4), (2, 3, 4)]
# In bytes: no divisor of an element, just the array of 7 doubles, one less, more than all.
SLICES = [11, 55, 56, 10_000]


def planted(dtype, shape):
    values = np.random.default_rng(len(shape)).integers(-100, 100, shape)
    return np.asarray(values % 2 if dtype == "?" else values).astype(dtype)


def wrong(got, expected):
    problems = []
    if got.shape != expected.shape:
        problems.append(f"shape {got.shape}")
    if got.dtype != expected.dtype:
        problems.append(f"type {got.dtype}")
    if not problems and got.tobytes() != expected.tobytes():
        problems.append(f"values {got.tolist()}")
    return problems


found = []
for dtype in TYPES:
    for shape in SHAPES:
        for slice_size in SLICES:
            array = planted(dtype, shape)
            got = broadcast(ranks, array if ranks.is_root else None, slice_size=slice_size)
            found += [f"{dtype} {shape} {slice_size}: {text}" for text in wrong(got, array)]
            if ranks.is_root and got is not array:
                found.append(f"{dtype} {shape}: rank 0 got a copy")

frozen = np.arange(6.0)
frozen.flags.writeable = False
LAYOUTS = {
    "read-only": frozen,
    "Fortran": np.asfortranarray(np.arange(15.0).reshape(3, 5)),
    "strided": np.arange(30.0)[::3],
    "reversed": np.arange(5, dtype=np.int32)[::-1],
    "NaN and infinities": np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0]),
}
for name, array in LAYOUTS.items():
    got = broadcast(ranks, array if ranks.is_root else None, slice_size=20)
    found += [f"{name}: {text}" for text in wrong(np.ascontiguousarray(got), np.ascontiguousarray(array))]
    if not ranks.is_root and not got.flags.writeable:
        found.append(f"{name}: cannot be written")
# What other ranks bring is ignored.
found += wrong(broadcast(ranks, np.full(ranks.rank + 2, float(ranks.rank))), np.zeros(2))

share = np.zeros((3, 5))
share[ranks.rank % 3, ranks.rank] = 0.1 + ranks.rank
expected = np.zeros((3, 5))
for rank in range(ranks.size):
    expected[rank % 3, rank] = 0.1 + rank
for name, array in {
    "C": share,
    "Fortran": np.asfortranarray(share),
    "strided": share.repeat(2, axis=1)[:, ::2],
}.items():
    found += [
        f"sum, {name}: {text}" for text in wrong(np.ascontiguousarray(sum_over_ranks(ranks, array)), expected)
    ]
    if array.sum() != share.sum():
        found.append(f"sum, {name}: the input was changed")
scalar = sum_over_ranks(ranks, np.array(1.0))
found += wrong(scalar, np.array(float(ranks.size)))

every = ranks.gather(found)
if ranks.is_root:
    json.dump(every, sys.stdout)
