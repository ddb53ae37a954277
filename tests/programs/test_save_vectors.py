"""Files without center and directions: their recipe and fingerprints do."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from mpi_landscape import inspect, surface
from mpi_landscape.storage.surface.reader import read_names, read_surface
from plotting.__main__ import main as draw
from tests.programs.conftest import FAR, killed_in_the_middle

WITHOUT = ("--set", "compute.save_vectors=false")


def numbers(contents, path):
    """All but the vectors."""
    return {name: found for name, found in contents(path).items() if name.split("/")[-1] not in VECTORS}


VECTORS = ("center", "alpha", "beta", "parameter")


@pytest.fixture
def reference(study, computed):
    computed("--output", str(study.folder / "reference.h5"))
    return study.folder / "reference.h5"


def test_the_values_are_the_same_bit_for_bit_and_the_vectors_are_not_there(
    study, computed, contents, reference
):
    computed(*WITHOUT)
    whole, found = contents(reference), contents(study.output)
    assert {name.split("/")[-1] for name in set(whole) - set(found)} >= {"center", "alpha", "beta"}
    assert not set(found) - set(whole)
    assert found == {name: whole[name] for name in found}
    assert read_names(study.output) == read_names(reference) == ["weight", "bias"]
    one, other = (read_surface(each).with_weight_decay(0.1) for each in (study.output, reference))
    np.testing.assert_array_equal(one.train_loss, other.train_loss)


def test_the_file_of_a_large_network_is_small(tmp_path):
    code = (
        "import torch, sys, mpi_landscape\n"
        "from torch import nn\n"
        "from torch.utils.data import TensorDataset\n"
        "model = nn.Linear(1000, 1000)\n"
        "data = TensorDataset(torch.randn(8, 1000), torch.arange(8))\n"
        "for name, save in (('with', True), ('without', False)):\n"
        "    line = {'alpha': (-1, 1, 3), 'beta': None, 'output': f'{name}.h5'}\n"
        "    mpi_landscape.landscape(model, 'cross_entropy', data, **line, save_vectors=save)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=FAR)
    # Two vectors of 1,001,000 numbers of four bytes.
    large, small = ((tmp_path / f"{name}.h5").stat().st_size for name in ("with", "without"))
    assert large - small == pytest.approx(8_008_000, rel=0.01)
    assert small < 100_000


def test_killed_and_resumed_equals_uninterrupted(study, computed, contents, reference):
    killed_in_the_middle(study.folder, study.output, str(study.configuration), *WITHOUT)
    # Without saying it again: the file stays as it was begun.
    computed()
    assert read_surface(study.output).progress == 1
    assert numbers(contents, study.output) == numbers(contents, reference)
    with h5py.File(study.output) as file:
        assert "center" not in file["directions"]


def test_other_vectors_are_refused_in_one_line(study, here, computed):
    computed(*WITHOUT)
    before = study.output.read_bytes()
    ended = here(surface.main, study.configuration, *WITHOUT, "--set", "directions.beta.seed=5")
    assert ended.status == 2
    assert "belongs to another run, which differs in direction_beta (file: " in ended.err
    center = torch.load(study.folder / "center.pt")
    center["bias"][2] += 1e-3
    torch.save(center, study.folder / "center.pt")
    ended = here(surface.main, study.configuration, *WITHOUT)
    assert ended.status == 2
    assert "differs in center (file: " in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert study.output.read_bytes() == before


def test_what_cannot_be_made_again_is_refused_in_one_line(study, here, computed):
    end = torch.load(study.folder / "center.pt")
    torch.save({name: value + 1 for name, value in end.items()}, study.folder / "end.pt")
    to = f"directions.alpha={{kind: difference, to: {study.folder / 'end.pt'}}}"
    computed(*WITHOUT, "--set", to)
    (study.folder / "end.pt").unlink()
    ended = here(surface.main, study.configuration, *WITHOUT, "--set", to)
    assert (ended.status, len(ended.err.strip().splitlines())) == (2, 1)
    assert "end.pt" in ended.err


def test_a_direction_of_such_a_file_is_refused_for_the_true_reason(study, here, computed):
    computed(*WITHOUT)
    ended = here(
        surface.main,
        study.configuration,
        *(
            "--set",
            f"directions.alpha={{kind: file, path: {study.output}}}",
            "--output",
            str(study.folder / "b.h5"),
        ),
    )
    assert ended.status == 2
    assert (
        "holds no vectors, as it was computed with compute.save_vectors: false; make the direction again"
        in ended.err
    )


def test_a_vector_that_is_lost_from_a_file_that_has_them_is_damage(study, here, computed):
    computed()
    with h5py.File(study.output, "r+") as file:
        del file["directions/beta"]
    ended = here(surface.main, study.configuration)
    assert ended.status == 2
    assert "directions/beta" in ended.err


def test_inspect_and_plotting_take_such_a_file(study, here, computed, tmp_path):
    computed(*WITHOUT)
    assert "100.0 % of the points" in here(inspect.main, study.output).out
    added = here(inspect.main, study.output, "--weight-decay", "0.5").out
    assert "with weight decay 0.5" in added
    checked = here(inspect.main, "--check", study.output, study.configuration)
    assert checked.status == 0, checked.err
    assert "all agree" in checked.out
    study.edit("grid:", "directions: {beta: {kind: random, seed: 7}}\ngrid:")
    refused = here(inspect.main, "--check", study.output, study.configuration)
    assert refused.status == 2
    assert "holds no vectors, and its direction_beta" in refused.err
    assert draw([str(study.output), "--output", str(tmp_path / "pictures/")]) == 0


@pytest.mark.mpi
@pytest.mark.parametrize("writer", ["root", "parallel"])
def test_they_are_the_same_on_three_ranks_by_either_writer(study, launcher, contents, reference, writer):
    if writer == "parallel" and not h5py.get_config().mpi:
        pytest.skip("h5py is built without MPI; .ci/run shows how to build it with parallel HDF5")
    command = [
        sys.executable,
        "-m",
        "mpi_landscape.surface",
        str(study.configuration),
        *WITHOUT,
        "--writer",
        writer,
    ]
    done = subprocess.run(
        [*launcher(3), *command], cwd=study.folder, check=False, capture_output=True, text=True, timeout=FAR
    )
    assert done.returncode == 0, done.stderr
    assert numbers(contents, study.output) == numbers(contents, reference)
    with h5py.File(study.output) as file, h5py.File(reference) as whole:
        for name in ("squared_norm_all", "squared_norm_weights"):
            assert file.attrs[name].tobytes() == whole.attrs[name].tobytes()
