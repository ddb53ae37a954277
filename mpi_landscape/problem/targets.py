"""A user's own code, named "package.module:callable" in a configuration: found, checked, called."""

import contextlib
import importlib
import importlib.machinery
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import listed, one_line, reason, shown, suggestion


def resolve(target: str, *, where: str, folders: Sequence[Path]) -> Callable[..., Any]:
    """Import what a target names.

    Args:
        target: "package.module:callable"; the callable may be dotted ("nets:ResNet.small").
        where: What names it, for messages, such as "mine.yaml: model.target".
        folders: Where modules are looked for after the working folder and before the installed packages.

    Raises:
        LandscapeError: The text has another form, the module is not found, its import raises, it is loaded
            already from elsewhere, or it has no such callable.
    """
    subject = f"{where} {shown(target)}"
    module_name, colon, path = target.partition(":")
    if not colon or not all(part.isidentifier() for part in f"{module_name}.{path}".split(".")):
        raise LandscapeError(f"{subject}: expected package.module:callable, such as my_package.nets:build")
    searched = _searched(folders)
    with _importable(searched):
        found = _imported(module_name, subject, searched)
        for name in path.split("."):
            try:
                found = getattr(found, name)
            except AttributeError as error:
                guess = suggestion(name, [each for each in dir(found) if not each.startswith("_")])
                raise LandscapeError(f"{subject}: {_described(found)} has no {name!r}{guess}") from error
    if not callable(found):
        raise LandscapeError(
            f"{subject}: is {shown(found)}, which cannot be called; expected a function or a class"
        )
    function: Callable[..., Any] = found
    return function


def call(target: str, arguments: Mapping[str, Any], *, where: str, folders: Sequence[Path]) -> Any:
    """Import what a target names and call it, as `resolve` and `invoke` do, for the section `where`."""
    function = resolve(target, where=f"{where}.target", folders=folders)
    # The function may import its neighbours only now.
    with _importable(_searched(folders)):
        return invoke(function, arguments, where=where, called=target)


def invoke(function: Callable[..., Any], arguments: Mapping[str, Any], *, where: str, called: str) -> Any:
    """Call a function with keyword arguments that a user wrote.

    Args:
        function: The function.
        arguments: Its arguments.
        where: The section that holds them, such as "mine.yaml: model".
        called: What the user calls the function.

    Raises:
        LandscapeError: The arguments do not fit the function's signature, or the function raises.
    """
    check_arguments(function, arguments, where=where, called=called)
    try:
        return function(**arguments)
    except LandscapeError as error:
        raise LandscapeError(f"{where}: {one_line(error, None)}") from error
    # SystemExit: a script that parses a command line when called must not end the program without a word.
    except (Exception, SystemExit) as error:
        raise LandscapeError(f"{where}: {called} raised {reason(error)}{_line_of(error)}") from error


def check_arguments(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    where: str,
    called: str,
    given: Sequence[str] = (),
) -> None:
    """Check the arguments of `invoke` against a signature, before anything runs.

    What the program itself passes first, by position, is `given` by name.

    Raises:
        LandscapeError: One is unknown or missing, or what is given by position does not fit.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        # Some callables written in C have no signature; the call itself will tell.
        return
    try:
        signature.bind(*given, **arguments)
        return
    except TypeError as error:
        problem, cause = one_line(error, None), error
    named = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    valid = [p.name for p in named][len(given) :]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    unknown = [] if takes_any else [name for name in arguments if name not in valid]
    if unknown:
        problem = f"{called} has no argument {unknown[0]!r}; valid arguments are {listed(valid)}"
        problem += suggestion(unknown[0], valid)
    elif given:
        own, passed = ", ".join(signature.parameters), ", ".join(given)
        problem = f"{called}({own}) cannot be called with ({passed}): {problem}"
    else:
        problem = f"{called}: {problem}; valid arguments are {listed(valid)}"
    raise LandscapeError(f"{where}.arguments: {problem}") from cause


def _searched(folders: Sequence[Path]) -> list[str]:
    return list(dict.fromkeys(str(folder.resolve()) for folder in (Path.cwd(), *folders)))


@contextlib.contextmanager
def _importable(searched: Sequence[str]) -> Iterator[None]:
    """Folders in front of the installed packages, as Python puts the folder of a script."""
    added = [folder for folder in searched if folder not in sys.path]
    sys.path[:0] = added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)


def _imported(name: str, subject: str, searched: Sequence[str]) -> Any:
    _refuse_namesake(name.partition(".")[0], subject, searched)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        # The module itself or a package on the way to it, not something that it imports in turn.
        if absent is not None and f"{name}.".startswith(f"{absent}."):
            raise LandscapeError(
                f"{subject}: no module {absent!r} in {listed(searched)} or among the installed packages"
            ) from error
        raise LandscapeError(f"{subject}: its import raised {reason(error)}{_line_of(error)}") from error


def _refuse_namesake(name: str, subject: str, searched: Sequence[str]) -> None:
    """Refuse a module for which another file of the same name already stands in this process."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    spec = importlib.machinery.PathFinder.find_spec(name, list(searched))
    if loaded is None or spec is None or not spec.has_location or spec.origin is None:
        return
    if os.path.realpath(loaded) != os.path.realpath(spec.origin):
        raise LandscapeError(
            f"{subject}: {spec.origin} cannot be imported, as {loaded} is loaded under that name; rename one"
        )


def _described(found: Any) -> str:
    return f"module {found.__name__} ({found.__file__})" if isinstance(found, ModuleType) else shown(found)


def _line_of(error: BaseException) -> str:
    """Where an exception was raised: the one thing of a traceback that a user needs."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
