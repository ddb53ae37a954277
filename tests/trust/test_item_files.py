"""Files of trajectories, paths, spectra and weights with bytes turned or lost: shown or refused in one line, and drawn or not."""

from __future__ import annotations

import io
import random
import warnings
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch
from torch import nn

import mpi_landscape
from mpi_landscape import inspect, weights
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from plotting.__main__ import build_parser, run
from tests.exhaustive import values


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One of each kind, of a tiny network."""
    folder = tmp_path_factory.mktemp("items")
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(20, 3, generator=generator), torch.randint(2, (20,), generator=generator)
    model, paths = nn.Linear(3, 2), []
    for number in range(5):
        with torch.no_grad():
            for each in model.parameters():
                each.add_(torch.randn(each.shape, generator=generator))
        paths.append(str(folder / f"epoch_{number}.pt"))
        torch.save(model.state_dict(), paths[-1])
    made = {kind: folder / f"{kind}.h5" for kind in ("trajectory", "path", "spectrum", "weights")}
    with redirect_stdout(io.StringIO()):
        mpi_landscape.trajectory(model, "cross_entropy", data, paths, output=made["trajectory"])
        mpi_landscape.connect(
            model, "cross_entropy", data, paths[0], paths[1], method="line", output=made["path"],
            options={"num_points": 5},
        )  # fmt: skip
        mpi_landscape.hessian(
            model, "cross_entropy", data, largest=2, smallest=1, probes=2, steps=4, normalized=True, output=made["spectrum"],
        )  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            weights.main([*paths[:2], "--output", str(made["weights"])])
    assert not ended.value.code
    return made


def spoiled(content, chance):
    """Bytes turned, mostly where HDF5 keeps what it knows, or the end lost."""
    if chance.random() < 0.2:
        return content[: chance.randrange(len(content))]
    turned = bytearray(content)
    for _ in range(chance.choice([1, 1, 4, 30])):
        turned[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(turned)


def shown(path, *options):
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        inspect.run(inspect.build_parser().parse_args([str(path), *options]), Ranks())


@pytest.mark.parametrize("seed", values(range(4), 0))
@pytest.mark.parametrize("kind", ["trajectory", "path", "spectrum", "weights"])
def test_a_file_with_turned_bytes_is_shown_or_refused_in_one_line(files, tmp_path, kind, seed):
    chance, content, path = random.Random(seed), files[kind].read_bytes(), tmp_path / "spoiled.h5"
    pictures, refused = str(tmp_path / "pictures"), 0
    shown(files[kind])
    for number in range(40):
        path.write_bytes(spoiled(content, chance))
        refusals = [
            refusal(lambda: shown(path)),
            refusal(lambda: shown(path, "--json")),
            None
            if number % 10
            else refusal(lambda: run(build_parser().parse_args([str(path), "--output", pictures]))),
        ]
        refused += any(refusals)
    assert refused > 5


def refusal(show):
    """How a file is refused, in one line; None where it is shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            show()
        except LandscapeError as error:
            said = str(error)
            assert said.isprintable()
            assert len(said) < 1500
            return said
    return None
