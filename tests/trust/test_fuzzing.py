"""Whatever is in a file, it is taken or refused: no crash, no hang, no gigabyte beyond what it holds."""

import pytest

from tests.exhaustive import EXHAUSTIVE
from tests.trust import chance, fuzzing


@pytest.fixture(scope="session")
def seeds(tmp_path_factory):
    return chance.seeds_of(tmp_path_factory.mktemp("seeds"))


def check(counts):
    found = [
        fuzzing.shown(kind, said, content)
        for kind, count in counts.items()
        for said, content in count.findings
    ]
    assert not found, "\n".join(found)
    assert all(count.tried >= 10 and count.refused for count in counts.values()), fuzzing.table(counts)
    # Or nothing would be said of what is read.
    assert any(count.accepted for count in counts.values()), fuzzing.table(counts)


def test_files_made_by_chance_are_taken_or_refused(seeds):
    check(fuzzing.fuzz(6, 0, seeds))


@EXHAUSTIVE
@pytest.mark.parametrize("seed", [1, 2])
def test_many_files_made_by_chance_are_taken_or_refused(seeds, seed):
    check(fuzzing.fuzz(120, seed, seeds))


@pytest.mark.parametrize(
    ("kind", "content", "outcome"),
    [
        ("checkpoint", b"PK\3\4", "refused"),
        ("configuration", b"a: 1", "refused"),
        ("surface", b"\x89HDF\r\n\x1a\n", "refused"),
    ],
)
def test_the_reader_says_how_a_file_ended(tmp_path, kind, content, outcome):
    path = tmp_path / "file"
    path.write_bytes(content)
    with fuzzing.reader() as reader:
        assert reader.read(kind, path)["outcome"] == outcome


def test_sound_files_are_accepted(tmp_path, seeds):
    """The guard of the guards."""
    with fuzzing.reader() as reader:
        for kind, contents in (
            ("checkpoint", seeds.checkpoints),
            ("configuration", seeds.configurations),
            ("surface", seeds.surfaces),
        ):
            for content in contents:
                path = tmp_path / "file"
                path.write_bytes(content)
                ended = reader.read(kind, path)
                assert ended["outcome"] == "accepted", (kind, ended)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("import os; os.abort()", "crashes"),
        ("while True: pass", "hangs"),
        ("bytearray(2**31)", "too_much"),
        ("1 / 0", "others"),
    ],
)
def test_a_reader_that_fails_is_found_out(tmp_path, monkeypatch, body, outcome):
    """By a reader of configurations that does something else."""
    broken = tmp_path / "reading.py"
    text = (fuzzing.HERE / "reading.py").read_text()
    whole = "def configuration(path: str) -> None:\n"
    assert whole in text
    text = text.replace(whole, f"{whole}    {body}\n").replace("SECONDS = 10", "SECONDS = 1")
    broken.write_text(text)
    monkeypatch.setattr(fuzzing, "HERE", tmp_path)
    (tmp_path / "file").write_bytes(b"a: 1")
    with fuzzing.reader() as reader:
        assert reader.read("configuration", tmp_path / "file")["outcome"] == outcome
        assert reader.read("checkpoint", tmp_path / "file")["outcome"] == "refused", "it goes on"
