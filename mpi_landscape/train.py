"""Find a solution: train a network and leave a checkpoint per epoch.

python -m mpi_landscape.train configs/quickstart.yaml
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mpi_landscape import program
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks

if TYPE_CHECKING:
    from mpi_landscape.problem.sections.work import TrainingConfiguration
    from mpi_landscape.training.loop import Epoch, Recipe


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `python -m mpi_landscape.train`."""
    parser = program.parser(
        "train", "Train a network; leaves a checkpoint per epoch, final.pt and history.csv."
    )
    parser.add_argument("configuration", metavar="CONFIG", help="YAML file with a section `training`")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a field: training.epochs=5"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier training in the same folder"
    )
    program.execute(parser, run, argv)


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Train what the options ask for; returns the exit status."""
    if ranks.size > 1:
        ranks.on_root(lambda: _refuse_ranks(ranks.size))
    from mpi_landscape.problem import configuration as reading

    where = str(options.configuration)
    configuration = reading.load(where, options.set)
    if configuration.training is None:
        raise LandscapeError(f"{where}: has no section training; it says how long and how to train")
    folder = Path(configuration.training.output)
    final = folder / "final.pt"
    if final.exists() and not options.overwrite:
        raise LandscapeError(
            f"{final}: is there already; --overwrite to train again, or choose another training.output"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LandscapeError(
            f"{folder}: cannot be made: {error.strerror}; choose another training.output"
        ) from error

    import torch

    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.evaluation.premises import check_first_examples
    from mpi_landscape.parallel.devices import available_cores, choose_device
    from mpi_landscape.problem.build import build
    from mpi_landscape.training.loop import DivergedError, train

    torch.manual_seed(configuration.training.seed)
    problem = build(configuration, where=where, folders=[Path(where).resolve().parent])
    if "train" not in problem.splits:
        raise LandscapeError(
            f"{where}: data has no split 'train' to train on; it has {', '.join(problem.splits)}"
        )
    device = choose_device(configuration.compute.device, ranks)
    model = problem.model.to(device)
    check_first_examples(
        problem.loss, model, "train", problem.splits["train"], device=device, dtype=torch.float32
    )
    with exact_arithmetic(threads=len(available_cores())):
        try:
            for epoch in train(model, problem.loss, problem.splits, _recipe(configuration.training), device):
                _keep(folder / f"epoch_{epoch.number:04d}.pt", model.state_dict(), epoch.number)
                _note(folder / "history.csv", epoch)
                program.say(ranks, _line(epoch, configuration.training.epochs))
        except DivergedError as error:
            sys.stderr.write(
                f"error: {where}: training diverged: {error}; the last checkpoint in {folder} is good\n"
            )
            return program.FAILED
    _keep(final, model.state_dict(), configuration.training.epochs)
    program.say(ranks, f"{final}: trained")
    return program.DONE


def _refuse_ranks(size: int) -> None:
    raise LandscapeError(f"train runs on one rank, not on {size}: start it without mpiexec")


def _recipe(configuration: TrainingConfiguration) -> Recipe:
    from mpi_landscape.training.loop import Recipe

    schedule = configuration.schedule
    return Recipe(
        epochs=configuration.epochs,
        batch_size=configuration.batch_size,
        learning_rate=configuration.learning_rate,
        momentum=configuration.momentum,
        nesterov=configuration.nesterov,
        weight_decay=configuration.weight_decay,
        milestones=schedule.milestones if schedule else (),
        factor=schedule.factor if schedule else 1.0,
        seed=configuration.seed,
    )


def _keep(path: Path, state: Mapping[str, Any], epoch: int) -> None:
    """Write a checkpoint so that it is there whole or not at all."""
    import torch

    temporary = path.with_name(f".{path.name}.new")
    torch.save({"state_dict": dict(state), "epoch": epoch}, temporary)
    temporary.replace(path)


def _note(path: Path, epoch: Epoch) -> None:
    """One more row of the history; the first one begins it anew."""
    row = {
        "epoch": epoch.number,
        "learning_rate": epoch.learning_rate,
        **epoch.values,
        "weight_norm": epoch.weight_norm,
    }
    with path.open("w" if epoch.number == 0 else "a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(row))
        if epoch.number == 0:
            writer.writeheader()
        writer.writerow(row)


def _line(epoch: Epoch, epochs: int) -> str:
    values = "  ".join(
        f"{name.replace('_', ' ')} {value:.4f}" for name, value in epoch.values.items() if value == value
    )
    return f"epoch {epoch.number:>{len(str(epochs))}} of {epochs}  {values}"


if __name__ == "__main__":
    main()
