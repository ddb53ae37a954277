"""Draw pictures from surfaces, spectra, trajectories, paths and histories: `python -m plotting FILE... [--kind KIND]`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.connection.reader import read_connection
from mpi_landscape.storage.files import kind_of
from mpi_landscape.storage.history.records import read_history
from mpi_landscape.storage.spectrum.reader import read_spectrum
from mpi_landscape.storage.surface import decay
from mpi_landscape.storage.surface.reader import read_surface
from mpi_landscape.storage.trajectory.reader import read_trajectory
from mpi_landscape.storage.weights_file import read_weights_file
from mpi_landscape.streams import written
from plotting.asked.curvature_figures import draw_curvature
from plotting.asked.curvature_pictures import plan_curvature, usual_request
from plotting.asked.history_pictures import plan_histories
from plotting.asked.path_pictures import plan_paths
from plotting.asked.pictures import fields_and_scales, plan_pictures
from plotting.asked.request import FORMATS, Request, output_file
from plotting.asked.spectrum_pictures import draw_spectra, plan_spectra
from plotting.asked.trajectory_pictures import draw_way, plan_trajectories
from plotting.asked.weight_pictures import plan_weights
from plotting.drawn.figures import draw_figure, save
from plotting.drawn.history import draw_history
from plotting.drawn.path import draw_path
from plotting.drawn.weights import draw_weights
from plotting.picture.levels import parse_levels


class _Parser(argparse.ArgumentParser):
    """Answers a bad command line in one line, as every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise LandscapeError(f"{message} (see python -m plotting --help)")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = _Parser(
        prog="python -m plotting",
        allow_abbrev=False,
        description="Draw pictures from surface files, training histories and paths, finished or not; "
        "needs neither torch nor MPI.",
    )
    add = parser.add_argument
    names: dict[str, Any] = {"action": "extend", "type": _names, "default": []}
    value: dict[str, Any] = {"type": float, "metavar": "VALUE"}
    add(
        "files",
        nargs="+",
        metavar="FILE",
        help="surface files, trajectory files, files of spectra, of paths between solutions or of weights, or the history.h5 of "
        "trainings",
    )
    add(
        "--kind",
        dest="kinds",
        metavar="KIND[,KIND]",
        **names,
        help="contour, filled, surface (3-D), heatmap, line, persistence (of minima; needs gudhi), history, path, seen, "
        "histogram and norms (of weights), curvature and extremes (of a map of the Hessian's extreme eigenvalues), density and "
        "eigenvalues (of a spectrum), or all that fit; "
        "default: contour and surface, or line; history for a training history; path for a path between solutions; for a "
        "trajectory path, over the contours of a surface in its plane, and what the plane shows of it (seen); curvature and "
        "extremes for a map, beside the contours of a surface file on its axes where there is one; density and eigenvalues for "
        "a spectrum",
    )
    add(
        "--quantity",
        dest="quantities",
        metavar="NAME[,NAME]",
        **names,
        help="e.g. train_loss; default: all but fractions such as accuracies, for a line these too; for a history all",
    )
    add(
        "--output",
        metavar="PATH",
        help="a picture (of the first default kind and loss if those are left open) or a folder; "
        "default: beside each file",
    )
    add("--format", choices=FORMATS, help="default: what --output says, or png")
    add(
        "--scale",
        choices=("auto", "linear", "log"),
        default="auto",
        help="auto: levels by quantiles; logarithmic where half of the points would else lie in the lowest "
        "twentieth of the range; fractions from 0 to 100 %%",
    )
    add("--levels", metavar="N|A,B,...", help="about how many contour levels, or which; default: about 10")
    add("--vmin", "--min", **value, help="lower end of the scale, in the unit of the file")
    add(
        "--vmax",
        "--max",
        **value,
        help="upper end of the scale, in the unit of the file; for a map of curvature that of its colors, default 1",
    )
    add(
        "--weight-decay",
        metavar="NUMBER[:weights]",
        help="add (λ/2)·‖θ‖² to the losses: of all parameters, as torch.optim.SGD does, or without biases and normalizations",
    )
    add("--title", help="instead of the title in the file")
    add("--dpi", type=int, default=200, help="dots per inch, default 200")
    add(
        "--common-scale",
        action="store_true",
        help="one scale for all losses of all files, one for all accuracies, ...",
    )
    add(
        "--together",
        action="store_true",
        help="the files in one figure: surfaces side by side, histories and spectra on top of each other",
    )
    add("--debug", action="store_true", help="show tracebacks")
    return parser


def _names(option: str) -> list[str]:
    return [name.strip() for name in option.split(",") if name.strip()]


def run(arguments: argparse.Namespace) -> list[str]:
    """Draw what parsed arguments ask for; the paths of the pictures, in the order drawn.

    Bad input is refused before anything is drawn, but for an output that cannot be written.
    """
    if not 10 <= arguments.dpi <= 2400:
        raise LandscapeError(f"--dpi {arguments.dpi} is not between 10 and 2400")
    options = vars(arguments) | {
        "kinds": tuple(arguments.kinds),
        "quantities": tuple(arguments.quantities),
        "levels": None if arguments.levels is None else parse_levels(arguments.levels),
    }
    request = Request(**{field.name: options[field.name] for field in fields(Request)})
    said = arguments.weight_decay
    added = None if said is None else decay.parsed(said, where="--weight-decay")
    return _draw_all(arguments.files, request, added, dpi=arguments.dpi)


def _draw_all(
    files: Sequence[str], request: Request, added: tuple[float, str] | None, *, dpi: int
) -> list[str]:
    """Draw every kind of file, each in their own pictures; the paths of these."""
    kinds = ("history", "trajectory", "connection", "weights", "spectrum", "surface")
    of_kind: dict[str, list[str]] = {kind: [] for kind in kinds}
    for file in files:
        kind = kind_of(file)
        # What is of no kind that is known is refused as a surface.
        of_kind[kind if kind in of_kind else "surface"].append(file)
    histories = [read_history(file) for file in of_kind["history"]]
    trajectories = [read_trajectory(file) for file in of_kind["trajectory"]]
    connections = [read_connection(file) for file in of_kind["connection"]]
    weights = [read_weights_file(file) for file in of_kind["weights"]]
    spectra = [read_spectrum(file) for file in of_kind["spectrum"]]
    surfaces = [read_surface(file) for file in of_kind["surface"]]
    if added is not None:
        for other, what in (
            (histories, "a training history"),
            (connections, "of a path"),
            (weights, "of weights"),
            (spectra, "of a spectrum"),
        ):
            if other:
                raise LandscapeError(f"{other[0].path}: is {what}; --weight-decay is for surface files")
        surfaces = [surface.with_weight_decay(added[0], of=added[1]) for surface in surfaces]
    if trajectories:
        if histories or connections or weights or spectra or added is not None:
            raise LandscapeError(
                f"{trajectories[0].path}: is a trajectory file; draw it alone, or with surfaces in its plane"
            )
        ways = plan_trajectories(trajectories, surfaces, request)
        for way in ways:
            save(draw_way(way, request), way.path, dpi=dpi)
        return [str(way.path) for way in ways]
    if histories and surfaces and output_file(request) is not None:
        raise LandscapeError(
            f"--output {request.output} is one file, but a surface ({surfaces[0].path}) and a training history "
            f"({histories[0].path}) are two pictures; draw them one by one or give a folder"
        )
    if connections and (histories or surfaces) and output_file(request) is not None:
        raise LandscapeError(
            f"--output {request.output} is one file, but {connections[0].path} is of a path and needs a picture of its own; draw "
            f"them one by one or give a folder"
        )
    if weights and (histories or surfaces or connections) and output_file(request) is not None:
        raise LandscapeError(
            f"--output {request.output} is one file, and weights ({weights[0].path}) are not drawn with what is in others; "
            f"draw them one by one or give a folder"
        )
    if spectra and (histories or surfaces or connections or weights) and output_file(request) is not None:
        raise LandscapeError(
            f"--output {request.output} is one file, and a spectrum ({spectra[0].path}) is not drawn with what is in others; "
            f"draw them one by one or give a folder"
        )
    counted = plan_weights(weights, request)
    sharp = plan_spectra(spectra, request)
    bent, usual = plan_curvature(surfaces, request)
    curves, pictures = plan_histories(histories, request), plan_pictures(usual, usual_request(request))
    paths = plan_paths(connections, request)
    drawn = fields_and_scales(pictures, request)
    if bent and pictures and output_file(request) is not None:
        raise LandscapeError(
            f"--output {request.output} is one file, and {len(bent) + len(pictures)} pictures are asked for; choose one --kind "
            f"or give a folder"
        )
    for each in counted:
        save(draw_weights(each.kind, each.counts, title=each.title, scale=request.scale), each.path, dpi=dpi)
    for curve in curves:
        scale: Any = {"scale": request.scale, "vmin": request.vmin, "vmax": request.vmax}
        figure = draw_history(curve.histories, curve.panels, title=curve.title, labels=curve.labels, **scale)
        save(figure, curve.path, dpi=dpi)
    for path in paths:
        scaled: Any = {"scale": request.scale, "vmin": request.vmin, "vmax": request.vmax}
        save(draw_path(path.connection, title=path.title, **scaled), path.path, dpi=dpi)
    for each_spectrum in sharp:
        save(draw_spectra(each_spectrum), each_spectrum.path, dpi=dpi)
    for bend in bent:
        save(draw_curvature(bend, request), bend.path, dpi=dpi)
    for picture, (panels, scales) in zip(pictures, drawn, strict=True):
        save(draw_figure(picture.kind, panels, scales), picture.path, dpi=dpi)
    drawn_files = [[each.path for each in group] for group in (counted, curves, paths, sharp, bent)]
    return [str(path) for group in [*drawn_files, [p.path for p in pictures]] for path in group]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 drawn, 2 bad input, 1 anything else."""
    with written() as (output, _):
        try:
            status = _main(sys.argv[1:] if argv is None else argv)
        except SystemExit as ended:  # after the help
            output.flush()
            if ended.code or output.lost is None:
                raise
            sys.stderr.write(f"error: standard output: {output.lost}; the output is not complete\n")
            status = 1
    return status


def _main(argv: Sequence[str]) -> int:
    try:
        for path in run(build_parser().parse_args(argv)):
            sys.stdout.write(f"{path}\n")
    except Exception as error:
        if "--debug" in argv:
            raise
        known = isinstance(error, LandscapeError)
        reason = str(error) if known else f"{type(error).__name__}: {error} (run again with --debug for more)"
        sys.stderr.write(f"error: {' '.join(reason.split())}\n")
        return 2 if known else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
