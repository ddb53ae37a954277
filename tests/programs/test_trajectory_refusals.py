"""What cannot be a trajectory is refused in one line, with exit status 2, and leaves nothing behind."""

import pytest
import torch

from mpi_landscape import trajectory
from tests.programs.ways import bowls

SECTION = "trajectory: {checkpoints: run}"


def other_shape(folder, states):
    torch.save({**states[3], "weight": torch.zeros(3, 5)}, folder / "run/epoch_0003.pt")


def unreadable(folder, _):
    (folder / "run/epoch_0003.pt").write_bytes(b"no weights")


def not_finite(folder, states):
    states[3]["bias"][2] = torch.inf
    torch.save(states[3], folder / "run/epoch_0003.pt")


def identical(folder, states):
    for number in range(len(states)):
        torch.save(states[0], folder / f"run/epoch_{number:04d}.pt")


def on_a_line(folder, states):
    for number in range(len(states)):
        torch.save(
            {name: torch.ones_like(value) * number for name, value in states[0].items()},
            folder / f"run/epoch_{number:04d}.pt",
        )


def nothing(_folder, _states):
    pass


REFUSED = {
    "no section": (SECTION, "", nothing, "trajectory.checkpoints is not given, and there is no training"),
    "an unknown field": (SECTION, "trajectory: {chekpoints: run}", nothing, "(did you mean 'checkpoints'?)"),
    "unknown axes": (SECTION, "trajectory: {checkpoints: run, axes: ica}", nothing, "expected pca, random or start_to_end"),
    "a center that is not there": (
        SECTION, "trajectory: {checkpoints: run, center: best.pt}", nothing, "trajectory.center: best.pt: there is no such file",
    ),
    "too few": (
        SECTION, "trajectory: {checkpoints: run, every: 3}", nothing,
        "has 3 checkpoints; principal axes need three besides the center",
    ),
    "another network": (
        SECTION, SECTION, other_shape,
        "run/epoch_0003.pt: does not fit the network: weight has shape (3, 5), the network's (3, 4)",
    ),
    "an unreadable one": (SECTION, SECTION, unreadable, "run/epoch_0003.pt: is not a checkpoint"),
    "one that is not finite": (SECTION, SECTION, not_finite, "run/epoch_0003.pt: bias has a number that is not finite (inf)"),
    "identical ones": (SECTION, SECTION, identical, "trajectory.checkpoints: all of them are the same"),
    "identical ends": (
        SECTION, "trajectory: {checkpoints: run, axes: start_to_end}", identical, "run/epoch_0000.pt is the same as the center",
    ),
    "a line": (SECTION, SECTION, on_a_line, "trajectory.checkpoints: all of them lie on one line"),
    "parallel axes": (
        SECTION, "trajectory: {checkpoints: run, axes: random}\ndirections: {beta: {seed: 1}}", nothing, "are parallel",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "damage", "text"), list(REFUSED.values()), ids=list(REFUSED))
def test_it_is_refused_in_one_line(study, here, before, after, damage, text):
    states = bowls(study.folder / "run")
    damage(study.folder, states)
    written = study.configuration.read_text().replace(f"output: {study.folder}/surface.h5", "output: way.h5")
    study.configuration.write_text(f"{written}\n{SECTION}\n".replace(before, after))
    ended = here(trajectory.main, study.configuration)
    assert ended.status == 2
    assert text in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (study.folder / "way.h5").exists()


def test_an_output_is_needed_where_no_folder_says_one(study, here):
    bowls(study.folder / "run")
    written = study.configuration.read_text().replace(f"output: {study.folder}/surface.h5", "")
    study.configuration.write_text(f"{written}\ntrajectory: {{checkpoints: 'run/epoch*.pt'}}\n")
    ended = here(trajectory.main, study.configuration)
    assert ended.status == 2
    assert "output is not given; name the trajectory file there or with --output" in ended.err


def test_a_dry_run_says_the_plan_and_writes_nothing(study, here):
    bowls(study.folder / "run")
    written = study.configuration.read_text().replace(f"output: {study.folder}/surface.h5", "output: way.h5")
    study.configuration.write_text(f"{written}\n{SECTION}\n")
    ended = here(trajectory.main, study.configuration, "--dry-run")
    assert ended.status == 0, ended.err
    assert "pca: 7 checkpoints of 17 numbers, 476 B, read twice by 1 rank together" in ended.out
    assert not (study.folder / "way.h5").exists()


def test_a_file_of_another_kind_is_not_overwritten_unasked(study, here):
    bowls(study.folder / "run")
    written = study.configuration.read_text().replace(f"output: {study.folder}/surface.h5", "output: way.h5")
    study.configuration.write_text(f"{written}\n{SECTION}\n")
    (study.folder / "way.h5").write_bytes((study.folder / "run/history.h5").read_bytes())
    ended = here(trajectory.main, study.configuration)
    assert ended.status == 2
    assert "is of the kind history, not a trajectory file" in ended.err
