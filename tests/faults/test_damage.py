"""A file that was cut or has turned bits: it ends at the right bits, or is refused in a line that says what is damaged."""

import random
from collections import Counter

import h5py
import pytest

from tests.faults import damage, jobs
from tests.faults.aftermath import contents

pytestmark = pytest.mark.exhaustive


@pytest.fixture
def complete(tmp_path):
    """A complete file of the light job, its contents, and a folder for copies."""
    (tmp_path / "made").mkdir()
    (tmp_path / "trial").mkdir()
    job = jobs.light(tmp_path / "made", "root", 1)
    jobs.resume(job)
    return job.file, contents(job.file), tmp_path / "trial"


def _extent(path, name):
    """First byte of a dataset's values and one past the last."""
    with h5py.File(path, "r") as file:
        dataset = file[name]
        start = dataset.id.get_offset()
        return start, start + dataset.id.get_storage_size()


def test_a_file_cut_anywhere_is_refused_in_a_line_or_completed(complete):
    path, reference, folder = complete
    chance = random.Random(3)
    found = [damage.trial(path, folder, lambda copy: damage.cut(copy, chance), reference) for _ in range(100)]
    assert [trial for trial in found if trial.ending not in damage.HARMLESS] == []


def test_a_bit_turned_anywhere_is_mended_or_refused_in_a_line(complete):
    path, reference, folder = complete
    chance = random.Random(4)
    found = [
        damage.trial(path, folder, lambda copy: damage.flip(copy, chance), reference) for _ in range(200)
    ]
    assert [trial for trial in found if trial.ending not in damage.HARMLESS] == []
    assert Counter(trial.ending for trial in found)[damage.SAME] > 0


@pytest.mark.parametrize(
    "name",
    ["tiles/train_sums", "tiles/test_sums", "tiles/checksum", "tiles/status", "train_loss", "test_accuracy"],
)
def test_what_tiles_write_is_done_again_where_it_is_damaged(complete, name):
    path, reference, folder = complete
    chance, extent = random.Random(5), _extent(path, name)
    for _ in range(15):
        found = damage.trial(path, folder, lambda copy: damage.flip(copy, chance, *extent), reference)
        assert found.ending == damage.SAME, found


@pytest.mark.parametrize(
    "name", ["directions/center", "directions/alpha", "directions/beta", "alpha", "beta"]
)
def test_what_defines_the_numbers_is_refused_by_name_where_it_is_damaged(complete, name):
    path, reference, folder = complete
    chance, extent = random.Random(6), _extent(path, name)
    for _ in range(10):
        found = damage.trial(path, folder, lambda copy: damage.flip(copy, chance, *extent), reference)
        assert found.ending == damage.REFUSED, found
        assert found.text.startswith(f"{folder / 'surface.h5'}: "), found
        assert f"{name} " in found.text, found
        assert "damaged" in found.text, found
