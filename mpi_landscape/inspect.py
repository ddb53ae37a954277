"""What is in a surface file: progress, range, minimum, certificate, identity; what is in a trajectory, or a history.

Needs neither torch nor MPI, but to check a surface against its configuration.

python -m mpi_landscape.inspect runs/quickstart/surface.h5
python -m mpi_landscape.inspect runs/quickstart/history.h5
python -m mpi_landscape.inspect --check runs/quickstart/surface.h5 configs/quickstart.yaml
python -m mpi_landscape.inspect --sharpness 1e-3 runs/quickstart/surface.h5 configs/quickstart.yaml
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mpi_landscape.command import execution as program
from mpi_landscape.command import parser as command_line
from mpi_landscape.errors import LandscapeError
from mpi_landscape.measures.summary import RISE, measure, measured_lines
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.storage.connection.reader import read_connection
from mpi_landscape.storage.connection.summary import connection_lines, summarize_connection
from mpi_landscape.storage.files import kind_of
from mpi_landscape.storage.history.records import read_history
from mpi_landscape.storage.history.summary import history_lines, summarize_history
from mpi_landscape.storage.spectrum.reader import read_spectrum
from mpi_landscape.storage.spectrum.summary import spectrum_lines, summarize_spectrum
from mpi_landscape.storage.surface import decay
from mpi_landscape.storage.surface.reader import read_surface, verify_tiles
from mpi_landscape.storage.surface.summary import lines, summarize
from mpi_landscape.storage.trajectory.reader import read_trajectory
from mpi_landscape.storage.trajectory.summary import summarize_trajectory, trajectory_lines
from mpi_landscape.storage.weights_file import read_weights_file
from mpi_landscape.storage.weights_summary import summarize_weights, weights_lines
from mpi_landscape.wording import one_line

# Gradients over the whole split, of --sharpness.
STEPS = 20


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `python -m mpi_landscape.inspect`."""
    program.execute(build_parser(), run, argv, use_mpi=False, tells=True)


def build_parser() -> argparse.ArgumentParser:
    """The options of `python -m mpi_landscape.inspect`."""
    parser = command_line.parser(
        "inspect",
        "Show what is in a file of a surface, a trajectory, a path, a spectrum or weights, or in a training history, finished "
        "or not.",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a file of mpi_landscape.surface, trajectory, connect, hessian or weights, or a history.h5 of mpi_landscape.train",
    )
    parser.add_argument(
        "configuration",
        metavar="CONFIG",
        nargs="?",
        help="with --check or --sharpness: what the surface is said to be of",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="evaluate points again, by the network of CONFIG itself: pass or fail",
    )
    parser.add_argument(
        "--at",
        metavar="ALPHA[,BETA]",
        action="append",
        default=[],
        help="with --check: a point, taken to the nearest of the grid; several may be given (default: the center, the least "
        "and the greatest loss, and two others)",
    )
    parser.add_argument(
        "--sharpness",
        metavar="EPSILON",
        help="climb from the center within the box of Keskar et al. 2016 (arXiv:1609.04836), by the network of CONFIG over the "
        "whole training split: the greatest loss that is found bounds their sharpness from below",
    )
    parser.add_argument(
        "--steps", type=int, default=None, help=f"with --sharpness: gradients at most (default {STEPS})"
    )
    parser.add_argument(
        "--seed", type=int, default=None, help="with --sharpness: of the first displacement (default 1)"
    )
    parser.add_argument(
        "--weight-decay",
        metavar="NUMBER[:weights]",
        help="add (λ/2)·‖θ‖² to the losses, of all parameters as torch.optim.SGD does, or without biases and normalizations",
    )
    parser.add_argument(
        "--rise",
        metavar="NUMBER",
        help=f"how far above its minimum a loss is looked for on both sides, and from which depth on basins are counted "
        f"(default {RISE:g})",
    )
    parser.add_argument(
        "--persistence",
        action="store_true",
        help="the minima of the surface and how deep they are (needs gudhi)",
    )
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    return parser


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Print the summary of a file; returns the exit status."""
    if options.sharpness is not None:
        return _sharpness(options, ranks)
    if options.steps is not None or options.seed is not None:
        raise LandscapeError(
            "--steps and --seed are those of --sharpness: inspect --sharpness 1e-3 FILE CONFIG"
        )
    if options.check != (options.configuration is not None):
        raise LandscapeError(
            "--check needs a surface file and its configuration: inspect --check FILE CONFIG"
        )
    added = (
        None if options.weight_decay is None else decay.parsed(options.weight_decay, where="--weight-decay")
    )
    if options.check:
        if added is not None:
            raise LandscapeError(
                "--check compares the losses of the file themselves; leave out --weight-decay"
            )
        return _check(options, ranks)
    told, rise = lines, _rise(options.rise)
    kind = kind_of(options.file)
    if kind == "history":
        _refuse_for_surfaces(options, f"{options.file}: is a training history")
        facts, told = summarize_history(read_history(options.file)), history_lines
    elif kind == "trajectory":
        _refuse_for_surfaces(options, f"{options.file}: is a trajectory file")
        facts, told = summarize_trajectory(read_trajectory(options.file)), trajectory_lines
    elif kind == "connection":
        _refuse_for_surfaces(options, f"{options.file}: is of a path")
        facts, told = summarize_connection(read_connection(options.file)), connection_lines
    elif kind == "spectrum":
        _refuse_for_surfaces(options, f"{options.file}: is of a spectrum")
        facts, told = summarize_spectrum(read_spectrum(options.file)), spectrum_lines
    elif kind == "weights":
        _refuse_for_surfaces(options, f"{options.file}: is of weights")
        facts, told = summarize_weights(read_weights_file(options.file)), weights_lines
    else:
        surface = read_surface(options.file)
        if added is not None:
            surface = surface.with_weight_decay(added[0], of=added[1])
        facts = summarize(surface, verify_tiles(options.file))
        facts["measures"] = measure(surface, rise, persistence=options.persistence)
    if options.json:
        # JSON knows neither NaN nor infinity; null and texts keep the output readable by every parser.
        sys.stdout.write(json.dumps(_portable(facts), indent=2, ensure_ascii=False) + "\n")
    else:
        measured = measured_lines(facts["measures"]) if "measures" in facts else []
        text = [*told(facts), *measured, *_origin(facts)]
        sys.stdout.write("\n".join(text) + "\n")
    return program.DONE


def _refuse_for_surfaces(options: argparse.Namespace, found: str) -> None:
    """Refuse the options that are for surface files, for another one."""
    for option, given in (
        ("--weight-decay", options.weight_decay is not None),
        ("--rise", options.rise is not None),
        ("--persistence", options.persistence),
    ):
        if given:
            raise LandscapeError(f"{found}; {option} is for surface files")


def _check(options: argparse.Namespace, ranks: Ranks) -> int:
    """Evaluate points again; the exit status is 1 where one differs."""
    points = [_point(text) for text in options.at]
    # torch takes seconds to import.
    from mpi_landscape.configuration import reading
    from mpi_landscape.surfaces import checking

    configuration = reading.load(options.configuration, [])
    found = checking.check(Path(options.file), configuration, options.configuration, points, ranks)
    sys.stdout.write("\n".join([*(each.line for each in found), checking.advice(found)]) + "\n")
    return program.DONE if all(each.passed for each in found) else 1


def _sharpness(options: argparse.Namespace, ranks: Ranks) -> int:
    """Climb around the center, and tell what was found."""
    if options.check or options.persistence or options.weight_decay is not None or options.rise is not None:
        raise LandscapeError("--sharpness stands by itself: inspect --sharpness 1e-3 FILE CONFIG")
    if options.configuration is None:
        raise LandscapeError(
            "--sharpness needs a surface file and its configuration: inspect --sharpness 1e-3 FILE CONFIG"
        )
    epsilon = _above_zero(options.sharpness, where="--sharpness", example=1e-3)
    steps, seed = (
        STEPS if options.steps is None else options.steps,
        1 if options.seed is None else options.seed,
    )
    if steps < 1 or seed < 0:
        raise LandscapeError(
            f"--steps {steps} --seed {seed}: expected at least 1 step, and a seed of at least 0"
        )
    if kind_of(options.file) == "history":
        raise LandscapeError(f"{options.file}: is a training history; --sharpness is for surface files")
    from mpi_landscape.configuration import reading
    from mpi_landscape.surfaces.sharpness import measure_sharpness

    configuration = reading.load(options.configuration, [])
    found, split = measure_sharpness(
        Path(options.file),
        configuration,
        options.configuration,
        ranks,
        epsilon=epsilon,
        steps=steps,
        seed=seed,
    )
    if options.json:
        facts = {"split": split, "sharpness": found.sharpness, **asdict(found)}
        sys.stdout.write(json.dumps(_portable(facts), indent=2) + "\n")
    else:
        end = "no step leads up any more" if found.settled else "some parameters still moved"
        told = [
            f"sharpness    at least {found.sharpness:.6g} (Keskar et al. 2016, metric 2.1, ε {epsilon:g}, whole space of "
            f"{found.numbers:,} parameters)",
            f"  {split} loss {found.loss:.9g} at the center, {found.greatest:.9g} at most in the box, as far as {found.steps} "
            f"steps of projected gradient ascent from seed {seed} found: {end}; a lower bound by nature",
        ]
        sys.stdout.write("\n".join(told) + "\n")
    return program.DONE


def _rise(text: str | None) -> float:
    return RISE if text is None else _above_zero(text, where="--rise", example=RISE)


def _above_zero(text: str, *, where: str, example: float) -> float:
    """The number of an option.

    Raises:
        LandscapeError: It is no number above 0.
    """
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not (np.isfinite(number) and number > 0):
        raise LandscapeError(f"{where} {one_line(text)}: expected a number above 0, such as {example:g}")
    return number


def _point(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise LandscapeError(
            f"--at {one_line(text)}: expected ALPHA, or ALPHA,BETA, such as 0.5,-0.25"
        ) from error


def _origin(facts: dict[str, Any]) -> list[str]:
    """Identity and provenance for people."""
    text = ["identity     (a resumed run must have the same)"]
    text += [f"  {name}: {value}" for name, value in facts["identity"].items()]
    text.append("provenance   (as the file says it, which is not checked)")
    return text + [
        f"  {name}: {value}"
        for name, value in facts["provenance"].items()
        if name not in ("configuration", "engine")
    ]


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _portable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_portable(inner) for inner in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else str(value)
    return value


if __name__ == "__main__":
    main()
