"""A rank that fails ends the job; nobody waits for it."""

import time

import pytest

from tests.exhaustive import values

pytestmark = pytest.mark.mpi

# The planted fault: on the rank of this number, once the surface is under way.
PLANT = """
    rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
    if rank == {rank} and os.path.exists({output!r}):
        open({stamp!r}, "a").close()
        {fault}
    return model(batch[0])
"""


def _plant(study, rank, fault):
    stamp = study.folder / "stamp"
    text = PLANT.format(rank=rank, output=str(study.output), stamp=str(stamp), fault=fault)
    study.edit_module("    return model(batch[0])", text.strip("\n"))
    return stamp


@pytest.mark.parametrize("rank", values([0, 1, 2], 2))
def test_an_exception_on_one_rank_ends_all_with_its_message(study, launch, rank):
    stamp = _plant(study, rank, 'raise ValueError("planted for the test")')
    done = launch(3, "-m", "mpi_landscape.surface", str(study.configuration), env={"SLEEP": "0.1"})
    ended_after = time.time() - stamp.stat().st_mtime
    assert done.returncode not in (0, 75)
    assert f"rank {rank} of 3" in done.stderr
    assert "ValueError: planted for the test" in done.stderr
    assert "Traceback" not in done.stderr
    assert ended_after < 5, "the bound is the requirement: others must not wait for a rank that is gone"


@pytest.mark.exhaustive
def test_debug_shows_the_traceback(study, launch):
    _plant(study, 1, 'raise ValueError("planted for the test")')
    done = launch(2, "-m", "mpi_landscape.surface", str(study.configuration), "--debug", env={"SLEEP": "0.1"})
    assert "Traceback" in done.stderr


def test_bad_input_is_refused_once_for_all_ranks(study, standing):
    study.edit("alpha: [", "alfa: [")
    done = standing(3, "-m", "mpi_landscape.surface", str(study.configuration))
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "alfa" in done.stderr


def test_a_refusal_of_one_rank_alone_names_it(study, standing):
    study.edit_module(
        "    def __getitem__(self, index):",
        "    def __getitem__(self, index):\n"
        '        if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "2":\n'
        '            raise OSError("no disk here")',
    )
    done = standing(3, "-m", "mpi_landscape.surface", str(study.configuration))
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "rank 2 (" in done.stderr
    assert "no disk here" in done.stderr


def test_ranks_with_other_data_are_refused(study, standing):
    study.edit_module(
        "+ offset",
        '+ offset + float(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))',
    )
    done = standing(2, "-m", "mpi_landscape.surface", str(study.configuration))
    assert done.returncode == 2
    assert "other examples on rank 1 than on rank 0" in done.stderr
