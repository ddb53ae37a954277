"""Which pictures of spectra a command line asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.spectrum.value import Spectrum
from plotting.asked.request import Request, Wanted, distinct_names, output_file, places
from plotting.drawn.spectrum import Column, draw_densities, draw_eigenvalues
from plotting.picture.quantities import SPECTRUM_KINDS, check_kind, title_of
from plotting.picture.spectrum import facts_of, operator_name, progress_of

_OPERATORS = ("hessian", "gauss_newton", "remainder")
_COORDINATES = ("plain", "normalized")


@dataclass(frozen=True, kw_only=True)
class SpectrumPicture:
    """One picture to draw: its kind, its columns, and the file that it goes to."""

    kind: str
    columns: tuple[Column, ...]
    path: Path


def plan_spectra(spectra: Sequence[Spectrum], request: Request) -> list[SpectrumPicture]:
    """The pictures that a request asks for: of each file, or of all together.

    Together, spectra of one operator lie over each other, and those of another one, such as the two parts of a Hessian, beside.

    Raises:
        LandscapeError: It asks for what a spectrum does not have.
    """
    for spectrum in spectra:
        _check(spectrum, request)
    # Of a spectrum without probes nothing but its ends will be known.
    usual = [kind for kind in SPECTRUM_KINDS if kind != "density" or any(len(each.nodes) for each in spectra)]
    kinds = [kind for kind in dict.fromkeys(request.kinds) if kind in SPECTRUM_KINDS] or usual
    if output_file(request) is not None and not request.kinds:
        kinds = kinds[:1]
    groups = [list(spectra)] if request.together and spectra else [[spectrum] for spectrum in spectra]
    drawn = []
    for group in groups:
        for coordinates in _coordinates(group, request):
            for kind in kinds:
                named = () if coordinates == "plain" else (coordinates,)
                wanted = Wanted(kind=kind, sources=tuple(each.path for each in group), quantities=named)
                drawn.append((wanted, _columns(group, coordinates, kind, request)))
    paths = places([wanted for wanted, _ in drawn], request)
    return [
        SpectrumPicture(kind=wanted.kind, columns=columns, path=path)
        for (wanted, columns), path in zip(drawn, paths, strict=True)
    ]


def draw_spectra(picture: SpectrumPicture) -> Any:
    """The figure of a picture, attached to no window."""
    return draw_densities(picture.columns) if picture.kind == "density" else draw_eigenvalues(picture.columns)


def _coordinates(group: Sequence[Spectrum], request: Request) -> list[str]:
    """In which coordinates: the network's own, and normalized ones where every file has them."""
    for spectrum in group:
        for name in request.quantities:
            if name not in _COORDINATES or (name == "normalized" and spectrum.normalized is None):
                valid = _COORDINATES if spectrum.normalized is not None else _COORDINATES[:1]
                raise LandscapeError(
                    f"{spectrum.path}: there is no quantity {name!r}; valid are {', '.join(valid)}"
                )
    if request.quantities:
        return list(dict.fromkeys(request.quantities))
    both = all(spectrum.normalized is not None for spectrum in group) and output_file(request) is None
    return list(_COORDINATES) if both else ["plain"]


def _columns(group: Sequence[Spectrum], coordinates: str, kind: str, request: Request) -> tuple[Column, ...]:
    names = distinct_names(group)
    members: dict[str, list[tuple[str, Spectrum]]] = {}
    for name, spectrum in zip(names, group, strict=True):
        chosen = spectrum.normalized if coordinates == "normalized" else spectrum
        assert chosen is not None
        members.setdefault(spectrum.operator, []).append((name, chosen))
    ordered = sorted(members, key=lambda each: (*_OPERATORS, each).index(each))
    noted = ("in normalized coordinates",) if coordinates == "normalized" else ()
    columns = []
    for operator in ordered:
        spectra = members[operator]
        word = "spectrum" if kind == "density" else kind
        subject = f"{word} of the {operator_name(spectra[0][1])}"
        titles = {title_of(spectrum) for _, spectrum in spectra}
        name = request.title if request.title is not None else titles.pop() if len(titles) == 1 else ""
        alone = len(spectra) == 1
        facts = facts_of(spectra[0][1], kind) if alone else progress_of([spectrum for _, spectrum in spectra])
        title = ": ".join(filter(None, [name, subject]))
        columns.append(Column(title=title, facts=(*facts, *noted), spectra=tuple(spectra)))
    return tuple(columns)


def _check(spectrum: Spectrum, request: Request) -> None:
    for kind in request.kinds:
        check_kind(kind)
        if kind not in ("all", *SPECTRUM_KINDS):
            raise LandscapeError(
                f"{spectrum.path}: --kind {kind} is for other files, and this is of a spectrum; valid here: "
                f"{', '.join(SPECTRUM_KINDS)}"
            )
    for option, given in (
        ("--levels", request.levels is not None),
        ("--vmin and --vmax", request.vmin is not None or request.vmax is not None),
        ("--scale", request.scale != "auto"),
        ("--common-scale", request.common_scale),
    ):
        if given:
            instead = "put the files --together" if option == "--common-scale" else "leave it out"
            raise LandscapeError(f"{spectrum.path}: {option} is not for a spectrum; {instead}")
