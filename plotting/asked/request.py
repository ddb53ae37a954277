"""What a command line asks for, what files that are drawn together are called, and where pictures go."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.history.records import History
from mpi_landscape.storage.spectrum.value import Spectrum
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.wording import telling_parts
from plotting.picture.levels import Kind, Levels
from plotting.picture.quantities import title_of

FORMATS = ("png", "pdf", "svg")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user wants: each option of the command line, empty or None for its default."""

    kinds: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ()
    output: str | None = None
    format: str | None = None
    scale: Kind | Literal["auto"] = "auto"
    levels: Levels | None = None
    vmin: float | None = None
    vmax: float | None = None
    title: str | None = None
    common_scale: bool = False
    together: bool = False


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A picture that is to get a name, which tells its quantities unless they are the usual ones."""

    kind: str
    sources: tuple[str, ...]
    quantities: tuple[str, ...]


def places(wanted: Sequence[Wanted], request: Request) -> list[Path]:
    """Where each picture goes: to the one file asked for, or `<folder>/<stem>_<quantity>_<kind>.<format>`."""
    file = output_file(request)
    if file is not None:
        if len(wanted) > 1:
            raise LandscapeError(
                f"--output {request.output} is one file, but {len(wanted)} pictures are asked for; choose one "
                f"--kind and one --quantity, put several files --together, or give a folder"
            )
        return [file] * len(wanted)
    seen: dict[Path, Wanted] = {}
    for picture in wanted:
        path = _name(picture, request)
        if path in seen:
            raise LandscapeError(
                f"{path} would be the picture of both {seen[path].sources[0]} and {picture.sources[0]}; "
                f"draw them one by one with different --output"
            )
        seen[path] = picture
    return list(seen)


def output_file(request: Request) -> Path | None:
    """The output if it names a picture; None if it names a folder or nothing."""
    if request.output is None:
        return None
    path = Path(request.output)
    suffix = path.suffix.lower().lstrip(".")
    if request.output.endswith("/") or path.is_dir() or not suffix:
        return None
    if suffix not in FORMATS:
        raise LandscapeError(
            f"--output {request.output}: {path.suffix!r} is not a format; valid are "
            f"{', '.join('.' + f for f in FORMATS)}, or a folder (with / at its end)"
        )
    if request.format is not None and request.format != suffix:
        raise LandscapeError(
            f"--output {request.output} says {suffix}, but --format says {request.format}; give one"
        )
    return path


def _name(picture: Wanted, request: Request) -> Path:
    source = Path(picture.sources[0])
    folder = source.parent if request.output is None else Path(request.output)
    # A history usually lies in a file that already says so.
    kind = () if source.stem == picture.kind == "history" else (picture.kind,)
    together = ("together",) if len(picture.sources) > 1 else ()
    name = "_".join([source.stem, *together, *picture.quantities, *kind])
    return folder / f"{name}.{request.format or 'png'}"


def distinct_names(files: Sequence[History] | Sequence[Surface] | Sequence[Spectrum]) -> tuple[str, ...]:
    """What each file is called: its title, or what differs in the paths where titles do not tell them apart.

    So `runs/batch_size=128/history.h5` and `runs/batch_size=1024/history.h5` are `batch_size=128` and
    `batch_size=1024`.
    """
    titles = [title_of(file) for file in files]
    if len(set(titles)) == len(titles):
        return tuple(titles)
    parts = telling_parts([file.path for file in files])
    return tuple(part.replace(",", ", ") or title for part, title in zip(parts, titles, strict=True))
