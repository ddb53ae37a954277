"""The same bits from any number of ranks and from either writer."""

import h5py
import numpy as np
import pytest

from mpi_landscape.storage.surface.reader import read_attributes, read_surface
from plotting.picture.field import precision_facts
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


# What a file says of its own job; its configuration names the output.
OF_THE_JOB = {"command", "configuration", "created", "folder", "output", "ranks", "threads_per_rank"}

# Its losses are NaN where a square is beyond a format: at a weight of 2 that of bfloat16, or from some weight on of both.
STEEP = """
import torch
from torch import nn

class Steep(nn.Module):
    def __init__(self, limit):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1))
        self.limit = limit

    def forward(self, inputs):
        high = self.weight[0, 0] * self.limit
        square = high * high
        return square * (1 + inputs) + (square - square)

class Numbers(torch.utils.data.TensorDataset):
    pass

def data():
    return {"train": Numbers(torch.zeros(10), torch.zeros(10)), "test": Numbers(torch.zeros(7), torch.zeros(7))}

def loss(model, batch):
    return model(batch[0])
"""
STEEP_CONFIGURATION = """
model: {{target: "{module}:Steep", arguments: {{limit: {limit}}}, checkpoint: {folder}/center.pt}}
data: {{target: "{module}:data"}}
loss: {{target: "{module}:loss"}}
directions: {{alpha: {{kind: difference, to: {folder}/end.pt}}}}
grid: {{alpha: [-0.5, 1, 5], beta: null}}
compute: {{batch_size: 4, data_shards: 1, points_per_tile: 3, device: cpu}}
output: {folder}/reference.h5
"""


@pytest.fixture
def steep(tmp_path, monkeypatch, request):
    """A configuration of it, by its limit."""
    import torch

    module = f"steep_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(STEEP)
    for name, weight in (("center", 1.0), ("end", 2.0)):
        torch.save({"weight": torch.full((1, 1), weight)}, tmp_path / f"{name}.pt")

    def write(limit):
        text = STEEP_CONFIGURATION.format(module=module, limit=f"{limit!r}", folder=tmp_path)
        (tmp_path / "steep.yaml").write_text(text)
        return tmp_path / "steep.yaml"

    return write


def attributes_of(path):
    """All that a file says and that is not of its job."""
    return {
        name: np.asarray(value).tobytes() if not isinstance(value, str) else value
        for name, value in read_attributes(path).items()
        if name not in OF_THE_JOB
    }


def same_from_any_number_of_ranks(tmp_path, standing, contents, program):
    """Make a file by 1, 2 and 3 ranks, and see that all three say the same; returns what the last job printed."""
    found = {}
    for size in (1, 2, 3):
        output = tmp_path / f"{size}.h5"
        done = standing(size, *program, "--output", str(output), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found[size] = (contents(output), attributes_of(output))
    for size in (2, 3):
        for was, now in zip(found[1], found[size], strict=True):
            assert now.keys() == was.keys()
            assert [name for name in was if now[name] != was[name]] == [], f"{size} ranks"
    return done.stdout


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("precision", "limit", "error", "undefined"),
    [
        ("bfloat16", 0.99999 * 2.0**63, np.inf, 0),
        ("bfloat16", 2.0**63 * 1.2, 0.01, 1),
        ("float32", 2.0**63 * 1.2, None, None),
    ],
)
def test_all_that_a_file_says_is_the_same_from_any_number_of_ranks_also_where_a_loss_overflows(
    tmp_path, standing, contents, steep, precision, limit, error, undefined
):
    program = ("-m", "mpi_landscape.surface", str(steep(limit)), "--set", f"compute.precision={precision}")
    printed = same_from_any_number_of_ranks(tmp_path, standing, contents, program)
    said = read_surface(tmp_path / "1.h5").attributes
    assert said.get("precision_error_undefined") == undefined
    (caption,) = precision_facts(read_surface(tmp_path / "1.h5")) or ("",)
    assert ("any amount (it overflows)" in caption) == (error == np.inf)
    if error is None:
        assert "precision_error" not in said
        return
    assert said["precision_error"] == error if np.isinf(error) else 0 <= said["precision_error"] < error
    assert ("its error is infinite at 1 of 3 points" in str(said.get("warnings", ""))) == np.isinf(error)
    assert ("warning: in bfloat16 the loss at (1.0,) is nan" in printed) == np.isinf(error)


@pytest.mark.mpi
def test_all_that_a_file_of_a_network_in_bfloat16_says_is_the_same_from_any_number_of_ranks(
    tmp_path, standing, contents
):
    configuration = tmp_path / "resnet.yaml"
    configuration.write_text(RESNET.format(shards=2, folder=tmp_path))
    program = (
        "-m",
        "mpi_landscape.surface",
        str(configuration),
        "--line",
        "--set",
        "compute.precision=bfloat16",
    )
    same_from_any_number_of_ranks(tmp_path, standing, contents, program)
    assert 0 < read_surface(tmp_path / "1.h5").attributes["precision_error"] < 0.05
