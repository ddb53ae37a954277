"""MNIST-1D: signals in one dimension that are made by a program, so that there is nothing to fetch."""

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.given import Rows
from mpi_landscape.problem.datasets.variants import read_limit
from mpi_landscape.problem.sizes import checked_count
from mpi_landscape.wording import reason, shown

_LARGEST_SEED = 2**32 - 1


def mnist1d(
    *, num_samples: int = 5000, seed: int = 42, limit: int | Mapping[str, int] | None = None
) -> dict[str, Dataset[object]]:
    """Make the signals of MNIST-1D: ten templates, stretched, shifted, sheared and with noise.

    Source: Greydanus and Kobak (2024), "Scaling down deep learning with MNIST-1D", ICML, arXiv:2011.14439.

    Args:
        num_samples: Examples in all, of which four in five are for training.
        seed: Of what is random; 42 and 5000 are the published set.
        limit: Most examples of every split, or a mapping of split names to such: the first ones.

    Returns:
        "train" and "test", signals (1, 40) float32 and labels from 0 to 9.

    Raises:
        LandscapeError: The package mnist1d is not installed, or an argument is not valid.
    """
    checked_count(num_samples, "num_samples")
    if num_samples < 20:
        raise LandscapeError(f"num_samples is {num_samples}; expected at least 20, two of each digit")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _LARGEST_SEED:
        raise LandscapeError(f"seed is {shown(seed)}; expected a whole number from 0 to {_LARGEST_SEED}")
    most = read_limit(limit, ("train", "test"))
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise LandscapeError(
            f"mnist1d needs the package mnist1d ({reason(error)}); pip install 'mpi_landscape[mnist1d]'"
        ) from error
    arguments = get_dataset_args()
    arguments.num_samples, arguments.seed = num_samples, seed
    # It seeds all generators, which others may be in the middle of using.
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        made = make_dataset(arguments)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
    splits: dict[str, Dataset[object]] = {}
    for split, end in (("train", ""), ("test", "_test")):
        signals = torch.from_numpy(made[f"x{end}"]).float()[: most.get(split)]
        labels = torch.from_numpy(made[f"y{end}"]).long()[: most.get(split)]
        splits[split] = Rows((signals[:, None], labels))
    return splits
