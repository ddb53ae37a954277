"""The same bits from any number of ranks and from either writer."""

import h5py
import pytest

from tests.exhaustive import rows, values

WRITERS = [
    "root",
    pytest.param(
        "parallel",
        marks=pytest.mark.skipif(
            not h5py.get_config().mpi,
            reason="h5py is built without MPI; .ci/run shows how to build it with parallel HDF5",
        ),
    ),
]

RESNET = """
model: {{name: resnet8, arguments: {{width: 4, input_size: [1, 8, 8]}}}}
data: {{name: digits}}
grid: {{alpha: [-1, 0.5, 3], beta: [-0.25, 1, 5]}}
compute: {{data_shards: {shards}, points_per_tile: 4, device: cpu}}
output: {folder}/reference.h5
"""


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shards", "sizes"),
    rows(
        {"4 shards": (4, (1, 3)), "1 shard": (1, (1, 2, 3, 5)), "4 shards, more ranks": (4, (1, 2, 5))},
        "4 shards",
    ),
)
def test_any_number_of_ranks_and_either_writer_give_the_same_bits(
    tmp_path, standing, contents, shards, sizes
):
    configuration = tmp_path / "resnet.yaml"
    configuration.write_text(RESNET.format(shards=shards, folder=tmp_path))
    program = ("-m", "mpi_landscape.surface", str(configuration))
    alone = standing(sizes[0], *program)
    assert alone.returncode == 0, alone.stderr
    reference = contents(tmp_path / "reference.h5")
    assert {"train_loss", "test_accuracy", "tiles/checksum", "directions/beta"} <= reference.keys()
    writers = ["root", "parallel"] if h5py.get_config().mpi else ["root"]
    for size in sizes[1:]:
        for writer in writers:
            output = tmp_path / f"{size}_{writer}.h5"
            done = standing(size, *program, "--writer", writer, "--output", str(output))
            assert done.returncode == 0, done.stderr
            assert f"{writer} writer" in done.stdout
            assert contents(output) == reference, f"{size} ranks, {writer} writer"


@pytest.mark.parametrize("threads", values([2, 3], 3))
def test_the_number_of_threads_leaves_no_trace(study, contents, threads, computed):
    computed("--set", "compute.threads=1")
    computed("--set", f"compute.threads={threads}", "--output", str(study.folder / "threads.h5"))
    assert contents(study.folder / "threads.h5") == contents(study.output)


@pytest.mark.mpi
@pytest.mark.parametrize("size", values([3, 5], 3))
@pytest.mark.parametrize("writer", WRITERS)
def test_more_ranks_than_tiles_is_no_trouble(study, standing, contents, writer, size, computed):
    computed("--line", "--alpha=0:1:2", "--set", "compute.points_per_tile=2")
    reference = contents(study.output)
    output = study.folder / "crowded.h5"
    arguments = ("--line", "--alpha=0:1:2", "--set", "compute.points_per_tile=2", "--output", str(output))
    done = standing(size, "-m", "mpi_landscape.surface", study.configuration, *arguments, "--writer", writer)
    assert done.returncode == 0, done.stderr
    assert contents(output) == reference


@pytest.mark.mpi
def test_how_points_are_cut_into_tiles_leaves_no_trace_in_the_results(study, standing, contents, computed):
    """Tiles follow from a measured cost, and so may differ from run to run."""
    computed("--set", "compute.points_per_tile=1")
    reference = contents(study.output)
    for size, points in [(2, 5), (3, 28)]:
        output = study.folder / f"{points}.h5"
        arguments = ("--set", f"compute.points_per_tile={points}", "--output", str(output))
        done = standing(size, "-m", "mpi_landscape.surface", study.configuration, *arguments)
        assert done.returncode == 0, done.stderr
        found = contents(output)
        for name in reference.keys() - {"tiles/status", "tiles/checksum", "tile"}:
            assert found[name] == reference[name], name
