"""How the data are held leaves no trace in them: one rank or several, kept or streamed, shared or not."""

import json
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parent
COMPARED = 45  # of each rank's own data set, to see that all have the same


@pytest.fixture
def job(standing, tmp_path):
    def run(size, *arguments):
        log = tmp_path / f"{size}_{'_'.join(arguments)}.log"
        log.write_text("")
        kind, request, *rest = arguments
        done = standing(size, "-m", "mpi4py", HERE / "data_job.py", kind, request, log, *rest)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        return json.loads(lines[-1]), Counter(map(int, log.read_text().split())), lines[:-1]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["items", "stored", "strings", "ragged"])
def test_any_number_of_ranks_has_the_same_batches_and_digest(job, kind):
    alone, _, _ = job(1, kind, "resident")
    for size in (2, 3):
        for request in ("resident", "streamed"):
            seen, _, _ = job(size, kind, request)
            for each in seen:
                assert (each["digest"], each["content"]) == (alone[0]["digest"], alone[0]["content"])


@pytest.mark.slow
def test_an_order_gives_the_same_batches_on_any_number_of_ranks(job):
    alone, _, _ = job(1, "items", "resident", "order")
    plain, _, _ = job(1, "items", "resident")
    assert alone[0]["digest"] == plain[0]["digest"]
    assert alone[0]["content"] != plain[0]["content"]
    for request in ("resident", "streamed"):
        for each in job(2, "items", request, "order")[0]:
            assert (each["digest"], each["content"]) == (alone[0]["digest"], alone[0]["content"])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_item_is_read_once_per_node_and_by_each_rank_once_more_to_compare(job, size):
    _, reads, _ = job(size, "items", "resident")
    assert reads == Counter(dict.fromkeys(range(45), 1 + (size if size > 1 else 0)))


def test_too_little_shared_memory_is_said_and_every_rank_keeps_its_own(job):
    seen, reads, said = job(2, "items", "crowded")
    assert [line for line in said if "too little shared memory" in line]
    assert len(said) == 1
    alone, _, _ = job(1, "items", "resident")
    assert {each["content"] for each in seen} == {alone[0]["content"]}
    assert "in every rank" in seen[0]["words"]
    assert set(reads.values()) <= {
        3,
        4,
    }  # by both, to keep and to compare; the first one also by whoever looks


@pytest.mark.parametrize("request_", ["resident", "streamed"])
def test_an_item_that_one_rank_cannot_read_is_refused_by_all(job, request_):
    seen, _, _ = job(3, "broken", request_)
    assert {each["error"].split(":")[0] for each in seen} == {"AgreedError"}
    assert all("item 44 of split 'train' could not be read: OSError: torn" in each["error"] for each in seen)


def folder_of_images(folder, count=12, size=20):
    generator = np.random.default_rng(4)
    for split in ("train", "test"):
        for number in range(count):
            path = folder / split / f"class_{number % 3}" / f"{number}.{'jpg' if number % 2 else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (size + number, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)


CONFIGURATION = """
model: {{name: linear, arguments: {{input_size: [3, 16, 16], num_classes: 3}}}}
data: {{name: image_folder, root: {folder}/images, arguments: {{size: 16, mean: [0.4, 0.5, 0.5], std: [0.2, 0.2, 0.3]}}}}
grid: {{alpha: [-1, 0.5, 3], beta: [-0.25, 1, 5]}}
compute: {{device: cpu, batch_size: 2, data_shards: 2, points_per_tile: 4}}
output: {folder}/resident.h5
"""


@pytest.mark.slow
def test_a_streamed_surface_is_the_resident_one_bit_for_bit(tmp_path, standing, contents):
    folder_of_images(tmp_path / "images")
    configuration = tmp_path / "study.yaml"
    configuration.write_text(CONFIGURATION.format(folder=tmp_path))
    program = ("-m", "mpi_landscape.surface", str(configuration))
    done = standing(1, *program)
    assert done.returncode == 0, done.stderr
    assert "train resident, 9.31 kB as uint8" in done.stdout
    reference = contents(tmp_path / "resident.h5")
    for size in (1, 2):
        for data in ("resident", "streamed"):
            output = tmp_path / f"{size}_{data}.h5"
            done = standing(size, *program, "--set", f"compute.data={data}", "--output", str(output))
            assert done.returncode == 0, done.stderr
            assert f"train {data}" in done.stdout
            assert contents(output) == reference, f"{data} on {size} ranks"


def test_each_image_is_decoded_once_for_a_chunk_of_points(study, computed):
    log = study.folder / "reads.log"
    study.edit_module(
        "    def __getitem__(self, index):",
        f"    def __getitem__(self, index):\n"
        f"        with open({str(log)!r}, 'a') as lines:\n"
        f"            lines.write(f'{{len(self)}} {{index}}\\n')",
    )
    computed("--set", "compute.data=streamed", "--dry-run")
    before = Counter(log.read_text().splitlines())
    log.write_text("")
    computed("--set", "compute.data=streamed")
    reads = Counter(log.read_text().splitlines()) - before
    # 7 x 4 points in chunks of 3; one reading each for all points of a chunk.
    assert reads == Counter({f"{count} {index}": 10 for count in (10, 7) for index in range(count)})
    computed("--output", str(study.folder / "resident.h5"))
    with h5py.File(study.output) as streamed, h5py.File(study.folder / "resident.h5") as resident:
        for name in ("train_loss", "test_loss"):
            assert np.array_equal(streamed[name], resident[name])


def test_the_shards_of_streamed_data_follow_from_the_problem(study, here, computed):
    study.edit("data_shards: 1, points_per_tile: 3, ", "")
    said = computed("--set", "compute.data=streamed", "--dry-run").out
    # 10 and 7 examples in batches of 4: as many shards as batches, and a point per tile.
    assert "data shards: 3 of train, 2 of test" in said


@pytest.mark.parametrize(("first", "then"), [("resident", "streamed"), ("streamed", "resident")])
def test_data_that_are_held_otherwise_than_before_continue_the_same_file(
    study, computed, contents, first, then
):
    # By themselves they would be cut otherwise, and memory may have become short or plenty since.
    study.edit("data_shards: 1, ", "")
    study.edit("[-0.75, 1.5, 7]", "[-0.75, 1.5, 70]")
    study.edit("[0, 2, 4]", "[0, 2, 41]")
    shards = {
        kind: computed("--set", f"compute.data={kind}", "--dry-run").out.split("data shards: ")[1]
        for kind in (first, then)
    }
    assert len(set(shards.values())) == 2, "the two would be cut alike: nothing is tested"
    computed("--set", f"compute.data={first}")
    reference = contents(study.output)
    with h5py.File(study.output, "r+") as file:
        file["tiles/status"][5:400] = 0
    computed("--set", f"compute.data={then}")
    assert contents(study.output) == reference
