"""Spectra on several ranks: the same bits, after any kill, and a fault of one rank ends all in one line."""

from __future__ import annotations

import itertools
import textwrap

import h5py
import numpy as np
import pytest
import torch

from mpi_landscape.storage.spectrum.reader import read_spectrum
from tests.curvatures.test_spectrum import content
from tests.exhaustive import values

# A network without kinks, whose loss does what a test wants it to do at one of its calls on one of the ranks.
MODULE = """
    import os
    import signal
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset

    CALLS = [0]
    rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))

    def network():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))

    def data():
        generator = torch.Generator().manual_seed(2)
        return {
            "train": TensorDataset(
                torch.randn(47, 6, generator=generator), torch.randint(3, (47,), generator=generator)
            )
        }

    def loss(model, batch):
        CALLS[0] += 1
        at = os.environ.get("FAULT_AT")
        if at is not None and at == f"{rank}:{CALLS[0]}":
            if os.environ["FAULT"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ["FAULT"] == "term":
                os.kill(os.getpid(), signal.SIGTERM)
            if os.environ["FAULT"] == "raise":
                raise ValueError("a fault of one rank")
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
"""
# Without kept graphs, so that every product calls the loss for each of its batches.
CONFIGURATION = """
    model: {target: "targets_of_spectra:network", checkpoint: center.pt}
    data: {target: "targets_of_spectra:data"}
    loss: {target: "targets_of_spectra:loss"}
    compute: {batch_size: 7, device: cpu, threads: 1}
    hessian:
      {largest: 1, smallest: 1, probes: 2, steps: 4, tolerance: 0.1, normalized: true, memory: 0, output: h.h5}
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "targets_of_spectra.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "h.yaml").write_text(textwrap.dedent(CONFIGURATION))
    torch.manual_seed(4)
    network = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    torch.save(network.state_dict(), tmp_path / "center.pt")
    return tmp_path


def program(output, *options):
    return "-m", "mpi_landscape.hessian", "h.yaml", "--output", str(output), *options


@pytest.mark.parametrize("sizes", values([(2, 3), (5,)], (2, 3)))
def test_any_number_of_ranks_and_either_writer_have_the_same_bits(study, standing, sizes):
    alone = standing(1, *program("1.h5"), cwd=study)
    assert alone.returncode == 0, alone.stderr
    reference = content(study / "1.h5")
    assert {"eigenvalues", "normalized/density/nodes", "eigenvectors", "trace"} <= reference.keys()
    writers = ["root", "parallel"] if h5py.get_config().mpi else ["root"]
    for size, writer in itertools.product(sizes, writers):
        done = standing(size, *program(f"{size}.h5", "--writer", writer), cwd=study)
        assert done.returncode == 0, done.stderr
        assert content(study / f"{size}.h5") == reference, f"{size} ranks, {writer} writer"
    # With kept graphs, and with more ranks than batches, too.
    kept = standing(2, *program("kept.h5", "--set", "hessian.memory=1"), cwd=study)
    assert kept.returncode == 0, kept.stderr
    assert content(study / "kept.h5") == reference


def test_a_job_that_was_killed_goes_on_with_other_ranks_to_the_same_bits(study, launch, standing):
    whole = standing(1, *program("whole.h5"), cwd=study)
    assert whole.returncode == 0, whole.stderr
    done = 0
    # A batch of a product in the ends, in a probe, and in the other coordinates: rank 1 of 2 has 4 of 7 batches, of 3 two.
    for size, call in ((2, 60), (2, 115), (3, 50)):
        killed = launch(
            size, *program("killed.h5"), cwd=study, env={"FAULT_AT": f"1:{call}", "FAULT": "kill"}
        )
        assert killed.returncode != 0
        found = read_spectrum(study / "killed.h5")
        now = int(found.done.sum()) + int(found.normalized.done.sum())
        assert now >= done
        done = now
    assert 0 < done < 6
    again = standing(3, *program("killed.h5"), cwd=study)
    assert again.returncode == 0, again.stderr
    assert f"{done} of them done before" in again.stdout
    assert content(study / "killed.h5") == content(study / "whole.h5")


def test_a_signal_on_one_rank_stops_all_and_is_named(study, launch, standing):
    stopped = launch(2, *program("h.h5"), cwd=study, env={"FAULT_AT": "1:115", "FAULT": "term"})
    assert stopped.returncode == 75, stopped.stderr
    assert "stopped by SIGTERM on rank 1, with " in stopped.stdout
    again = standing(1, *program("h.h5"), cwd=study)
    assert again.returncode == 0, again.stderr


def test_a_fault_in_the_network_of_one_rank_ends_all_in_one_line(study, launch):
    ended = launch(3, *program("h.h5"), cwd=study, env={"FAULT_AT": "2:60", "FAULT": "raise"})
    assert ended.returncode == 2
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, ended.stderr
    assert "rank 2 (" in lines[0]
    assert "ValueError: a fault of one rank" in lines[0]
    assert "Traceback" not in ended.stderr


def test_the_plan_is_said_and_nothing_is_made(study, standing):
    done = standing(2, *program("h.h5", "--dry-run"), cwd=study)
    assert done.returncode == 0, done.stderr
    assert not (study / "h.h5").exists()
    for words in (
        "1 largest, 1 smallest eigenvalues",
        "2 probes of 4 steps",
        "vectors in every rank",
        "for about ",
    ):
        assert words in done.stdout
    assert "products with all data" in done.stdout


def test_several_checkpoints_have_files_of_their_own(study, standing):
    state = torch.load(study / "center.pt")
    torch.save({name: each + 0.1 for name, each in state.items()}, study / "other.pt")
    at = "hessian.at=[center.pt, other.pt]"
    done = standing(2, *program("h.h5", "--set", at, "--set", "hessian.probes=0"), cwd=study)
    assert done.returncode == 0, done.stderr
    assert "checkpoint  2 of 2: other.pt into h-2.h5" in done.stdout
    both = [read_spectrum(study / f"h-{number}.h5").eigenvalues for number in (1, 2)]
    assert not np.array_equal(*both)
    missing = standing(1, *program("h.h5", "--set", "hessian.at=[center.pt, none.pt]"), cwd=study)
    assert missing.returncode == 2
    assert "none.pt" in missing.stderr
