"""What the main program says of a job's cost, and refuses for its sake."""

import h5py

from mpi_landscape import surface


def slow(study, seconds):
    """Make every forward pass of the study's network take so long."""
    study.edit_module('float(os.environ.get("SLEEP", "0"))', str(seconds))


def test_a_time_limit_shorter_than_a_tile_is_refused_before_anything_is_written(study, here):
    slow(study, 0.05)
    # Three points of three batches each: 0.45 s at least.
    ended = here(surface.main, study.configuration, "--time-limit", "0.2")
    assert ended.status == 2, ended.err
    (line,) = ended.err.splitlines()
    for word in ("--time-limit: 0.2 s", "a tile", "about ", "longer limit", "points_per_tile below 3"):
        assert word in line
    assert "tiles;" not in ended.out
    assert not study.output.exists()


def test_a_time_limit_is_long_enough_for_smaller_tiles(study, here):
    slow(study, 0.05)
    ended = here(
        surface.main,
        study.configuration,
        *("--time-limit", "1.5", "--set", "compute.points_per_tile=1", "--set", "compute.data_shards=3"),
    )
    assert ended.status == 75, ended.err


def test_a_file_begun_before_is_left_when_the_time_is_too_short(study, here):
    assert here(surface.main, study.configuration).status == 0
    before = study.output.read_bytes()
    slow(study, 0.05)
    assert here(surface.main, study.configuration, "--time-limit", "0.2").status == 2
    assert study.output.read_bytes() == before


def test_a_dry_run_says_what_other_numbers_of_ranks_would_take(study, computed):
    out = computed("--dry-run").out.splitlines()
    start = next(place for place, line in enumerate(out) if line.startswith("cost "))
    assert "core-hours" in out[start]
    # 28 points in tiles of 3, for two splits: 20 tiles.
    assert [line.split()[0] for line in out[start + 1 : start + 4]] == ["1", "4", "16"]
    assert "this run" in out[start + 1]
    assert "100.0 %" in out[start + 1]
    # The second of two rounds has 4 tiles for 16 ranks.
    assert "62.5 %" in out[start + 3]
    assert out[start + 4].startswith("memory ")


def test_a_resumed_file_keeps_its_tiles_whatever_a_point_takes_now(study, here):
    # Seven is no power of two: measured anew, it would come out otherwise.
    study.edit("points_per_tile: 3", "points_per_tile: 7")
    assert here(surface.main, study.configuration).status == 0
    with h5py.File(study.output, "r+") as file:
        whole = file["train_loss"][...]
        file["tiles/status"][0] = 0
        file["train_loss"][...] = float("nan")
    study.edit(", points_per_tile: 7", "")
    ended = here(surface.main, study.configuration)
    assert ended.status == 0, ended.err
    with h5py.File(study.output) as file:
        assert file.attrs["points_per_tile"] == 7
        assert (file["train_loss"][...] == whole).all()


def test_a_new_file_is_not_cut_like_the_one_that_it_replaces(study, here):
    study.edit("points_per_tile: 3", "points_per_tile: 7")
    assert here(surface.main, study.configuration).status == 0
    study.edit(", points_per_tile: 7", "")
    assert here(surface.main, study.configuration, "--overwrite").status == 0
    with h5py.File(study.output) as file:
        assert file.attrs["points_per_tile"] != 7
