"""Each kind of checkpoint is loaded with its own values, or refused with its own line; the document says which."""

import pytest
import torch

from tests.problem.checkpoint_kinds import DOCUMENT, KINDS, is_installed, line, outcome

NAMES = [f"{row.name}, {row.writer}" for row in KINDS]


def test_there_are_fifty_kinds_and_no_row_twice():
    assert len(KINDS) >= 50
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("row", KINDS, ids=NAMES)
def test_a_checkpoint_of_any_kind_is_loaded_exactly_or_refused_in_one_line(tmp_path, monkeypatch, row):
    if not is_installed(row):
        pytest.skip(f"pip install {row.needs}")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "made"
    folder.mkdir()
    made, text, loaded = outcome(row, folder)
    assert "\n" not in text
    assert len(text) < 700
    assert not (tmp_path / "executed").exists()
    assert loaded == (not row.words), text
    if row.words:
        assert row.words in text
        return
    assert row.says in text
    assert bool(row.says) == bool(text), text
    found = made.network.state_dict()
    assert made.wanted
    for name, value in made.wanted.items():
        assert torch.equal(found[name], value), name
    assert {each for each in found if "num_batches_tracked" not in each} <= set(made.wanted)


@pytest.mark.parametrize("row", KINDS, ids=NAMES)
def test_the_document_says_what_happens(row):
    if not is_installed(row):
        pytest.skip(f"pip install {row.needs}")
    assert line(row) in DOCUMENT.read_text().splitlines()
