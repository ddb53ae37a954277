"""A surface for each of several checkpoints, by one command."""

import h5py
import pytest
import torch

from mpi_landscape import surface, train
from mpi_landscape.problem.checkpoints import read_state


@pytest.fixture
def three(study):
    """Three centers of the study's network, and the command that names them."""
    center = torch.load(study.folder / "center.pt", weights_only=True)
    for number in range(3):
        torch.save({name: each + number / 8 for name, each in center.items()}, study.folder / f"c{number}.pt")
    names = ", ".join(f"{study.folder}/c{number}.pt" for number in range(3))
    return [
        study.configuration,
        f"--set=model.checkpoint=[{names}]",
        f"--output={study.folder}/{{checkpoint}}.h5",
    ]


def test_each_file_is_that_of_its_checkpoint_alone(study, here, three, contents):
    done = here(surface.main, *three)
    assert done.status == 0, done
    for number in range(3):
        alone = study.folder / "alone.h5"
        one = here(
            surface.main,
            study.configuration,
            f"--set=model.checkpoint={study.folder}/c{number}.pt",
            f"--output={alone}",
            "--overwrite",
        )
        assert one.status == 0, one
        assert contents(study.folder / f"c{number}.h5") == contents(alone)
        with h5py.File(study.folder / f"c{number}.h5") as file:
            command = file.attrs["command"].decode()
        assert command.endswith(f"""--set 'model.checkpoint="{study.folder}/c{number}.pt"'""")


def test_one_that_does_not_fit_is_refused_before_the_first_is_computed(study, here, three):
    torch.save({"weight": torch.zeros(2)}, study.folder / "c2.pt")
    done = here(surface.main, *three)
    assert done.status == 2
    assert "c2.pt: does not fit the network" in done.err
    assert not list(study.folder.glob("*.h5"))


def test_the_same_command_goes_on_with_what_is_left(study, here, three, contents):
    assert here(surface.main, *three).status == 0
    before = contents(study.folder / "c0.h5")
    for number in (1, 2):
        (study.folder / f"c{number}.h5").unlink()
    assert here(surface.main, *three).status == 0
    assert contents(study.folder / "c0.h5") == before
    assert (study.folder / "c2.h5").exists()


def test_other_programs_refuse_a_list(study, here, three):
    done = here(train.main, *three[:2])
    assert done.status == 2
    assert "only surface takes several" in done.err


def test_a_training_starts_from_what_key_and_part_lead_to_and_a_surface_is_around_what_it_leaves(study, here):
    center = torch.load(study.folder / "center.pt", weights_only=True)
    named = {f"student.{name}": each for name, each in center.items()}
    torch.save({"model": {}, "ema": {"module": named}}, study.folder / "start.pt")
    text = study.configuration.read_text().replace(
        f"checkpoint: {study.folder}/center.pt", "key: ema, part: student"
    )
    start = "\ntraining: {output: run, epochs: 0, batch_size: 5, start: start.pt}\n"
    (study.folder / "train.yaml").write_text(text + start)
    done = here(train.main, "train.yaml")
    assert done.status == 0, done
    final = read_state(study.folder / "run" / "final.pt")
    assert all(torch.equal(final[name], center[name]) for name in center)
    done = here(surface.main, "train.yaml", "--output=around.h5")
    assert done.status == 0, done
