"""The arrows of the architecture: which room may import which, which library lives where, and that nothing runs in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mpi_landscape
import plotting

HOUSE = Path(mpi_landscape.__file__).parent
GALLERY = Path(plotting.__file__).parent
HOUSES = {"mpi_landscape": HOUSE, "plotting": GALLERY}

# What every module may import.
FREE = {"errors", "origin", "shortage", "streams", "vocabulary", "wording"}
PROGRAMS = {
    "surface",
    "train",
    "trajectory",
    "connect",
    "hessian",
    "weights",
    "inspect",
    "doctor",
    "callbacks",
}
GROUND = {"configuration", "geometry", "plan", "loading", "parallel"}
ROOMS = {"problem", "evaluation", "training", "storage", "command"}
# Room or wing -> what it may import besides itself and FREE; a name with a dot means that part of a room only.
ARROWS: dict[str, set[str]] = {
    # One axis for a file's words and for the grid.
    "configuration": {"plan.grid"},
    "geometry": set(),
    "plan": set(),
    "loading": set(),
    "parallel": set(),
    # One way to bring a network into the type of a computation.
    # What losses return, and how items become batches.
    "problem": {"configuration.sections", "evaluation.conversion", "loading"},
    # A file says which tile covers which points and examples.
    "storage": {"plan"},
    "evaluation": {"geometry", "loading"},
    # One phase for a file's words and for the loop.
    "training": {"loading", "configuration.sections.training"},
    "command": {"parallel"},
    "work": {"plan", "parallel", "storage"},
    "placement": {
        "configuration.sections",
        "problem",
        "geometry",
        "plan",
        "loading",
        "evaluation",
        "parallel",
        "storage",
    },
    # Of checkpoints alone: no network, no data.
    "histograms": {"problem", "storage"},
    # Numbers about a minimum, from values alone.
    "measures": {"storage"},
    "surfaces": (GROUND | ROOMS | {"placement", "work"}) - {"command", "training"},
    "solutions": (GROUND | ROOMS | {"placement", "work"}) - {"command"},
    "trajectories": (GROUND | ROOMS | {"placement", "work"}) - {"command", "training"},
    # A path is found by gradients, as a solution is.
    "connections": (GROUND | ROOMS | {"placement", "work"}) - {"command"},
    "curvatures": (GROUND | ROOMS | {"placement", "work"}) - {"command", "training"},
    # The doors: the same verbs as the programs'.
    "scripting": (
        (GROUND | ROOMS | {"placement", "surfaces", "solutions", "trajectories", "connections", "curvatures"})
        - {"training"}
    ),
    # Beside somebody else's training: no network, no data and no ranks of ours.
    "recording": {"storage"},
    "plotting.picture": {"storage", "measures"},
    "plotting.drawn": {"plotting.picture", "storage"},
    "plotting.asked": {"plotting.picture", "plotting.drawn", "storage"},
}
# Library -> where it may be imported.
LIBRARIES = {
    "mpi4py": {"parallel"},
    "h5py": {"storage", "doctor"},
    "matplotlib": {"plotting.drawn", "plotting.picture.levels"},
    "yaml": {"configuration"},
    "pydantic": {"configuration"},
    # What can be read only once must fit into memory.
    "psutil": {"parallel", "problem.datasets.given"},
    "torchvision": {"problem"},
    "timm": {"problem"},
    "transformers": {"problem.networks.transformer_classes", "problem.datasets.tokens", "recording"},
    "huggingface_hub": {"problem.networks.hugging_face"},
    "peft": {"problem.networks.hugging_face"},
    "mnist1d": {"problem.datasets.signals"},
    "safetensors": {"problem.weights"},
    "sklearn": {"problem"},
    "scipy": {"evaluation.alignment"},
    "lightning": {"recording"},
    "pytorch_lightning": {"recording"},
    "gudhi": {"measures.persistence"},
}
# Rooms that never import torch.
TORCHLESS = {"configuration", "plan", "storage", "command", "work", "measures"}


@dataclass(frozen=True)
class Module:
    """A module and the modules of this house that it imports."""

    name: str
    is_package: bool
    imports: list[str]
    at_once: list[str]  # without those in functions and for type checkers alone

    @property
    def place(self) -> str:
        """Without the house's own name; `plotting` stays."""
        return self.name.removeprefix("mpi_landscape.")


def imported(node: ast.AST, name: str, is_package: bool) -> list[str]:
    """What an import statement asks for, as dotted names: the module, and each name in it."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parents = name.split(".")[: len(name.split(".")) - node.level + is_package]
        base = ".".join([*parents, *filter(None, [node.module])])
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]


def at_once(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from at_once(node)


def module_of(name: str, text: str, *, is_package: bool = False) -> Module:
    tree = ast.parse(text)
    return Module(
        name=name,
        is_package=is_package,
        imports=[each for node in ast.walk(tree) for each in imported(node, name, is_package)],
        at_once=[each for node in at_once(tree) for each in imported(node, name, is_package)],
    )


def house() -> dict[str, Module]:
    """Every module of both packages by name."""
    found = {}
    for package, folder in HOUSES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found[name] = module_of(name, path.read_text(), is_package=is_package)
        assert package in found
    return found


def within(place: str, part: str) -> bool:
    return place == part or place.startswith(f"{part}.")


def room_of(place: str) -> str | None:
    """The room or wing of a module; None for what stands on the top floor."""
    return max((room for room in ARROWS if within(place, room)), key=len, default=None)


def is_top(place: str) -> bool:
    return place in PROGRAMS or place in ("mpi_landscape", "plotting", "plotting.__main__")


def violations(module: Module, modules: dict[str, Module]) -> list[str]:
    """What a module imports and may not."""
    place, wrong = module.place, []
    room = room_of(place)
    if room is None and not is_top(place) and place not in FREE:
        wrong.append(f"{module.name} is in no room")
    for name in module.imports:
        library = name.split(".")[0]
        if library in LIBRARIES and not any(within(place, each) for each in LIBRARIES[library]):
            wrong.append(f"{module.name} imports {name}")
        if library == "torch" and room in TORCHLESS:
            wrong.append(f"{module.name} imports {name}")
        if library not in HOUSES or name not in modules or name == module.name:
            continue
        other = name.removeprefix("mpi_landscape.")
        if other in FREE or other == "mpi_landscape":
            continue
        if is_top(place) and module.name != "mpi_landscape":
            drawing = within(other, "plotting") or within(other, "storage") or other in FREE
            allowed = other not in PROGRAMS and (place != "plotting.__main__" or drawing)
        elif module.name == "mpi_landscape":
            allowed = within("recording.recorder", other) or within(other, "scripting")  # on demand
        elif room is None:
            allowed = False
        else:
            # A package's own name is imported with any part of it.
            allowed = any(
                within(other, each) or within(each, other) for each in (*ARROWS[room], room)
            ) and not is_top(other)
        if not allowed:
            wrong.append(f"{module.name} imports {name}")
    return wrong


def circles(modules: dict[str, Module], *, lazily: bool = True) -> list[list[str]]:
    """Groups of modules that import each other, wherever the import stands."""
    graph = {
        name: {
            other
            for other in (module.imports if lazily else module.at_once)
            # Of a package only its own text counts, not that it holds the importer.
            if other in modules and other != name
        }
        for name, module in modules.items()
    }
    graph["mpi_landscape"] = set()  # its one import happens on demand, so that the package loads at once
    return [sorted(group) for group in components(graph) if len(group) > 1]


def components(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            found.append(stack[stack.index(name) :])
            del stack[stack.index(name) :]

    for name in graph:
        if name not in index:
            visit(name)
    return found


MODULES = house()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_what_its_arrows_allow(name):
    assert violations(MODULES[name], MODULES) == []


def test_nothing_imports_in_a_circle():
    assert circles(MODULES) == []


def test_the_top_floor_holds_the_programs_and_little_else():
    others = {path.stem for path in HOUSE.glob("*.py")} - PROGRAMS - {"__init__"}
    assert others <= FREE | {"errors"}
    assert {path.name for path in HOUSE.iterdir() if path.is_dir() and path.name != "__pycache__"} == {
        room for room in ARROWS if "." not in room
    }


PLANTED = [
    ("mpi_landscape.geometry.x", "import h5py", "a library of another room"),
    ("mpi_landscape.geometry.x", "from mpi_landscape.storage import lock", "another room"),
    ("mpi_landscape.problem.x", "from mpi_landscape.geometry.layout import Layout", "a room beside"),
    ("mpi_landscape.problem.x", "from mpi_landscape.configuration.reading import load", "more than its part"),
    ("mpi_landscape.evaluation.x", "def f():\n    from mpi4py import MPI", "hidden in a function"),
    ("mpi_landscape.storage.x", "from mpi_landscape.geometry.layout import Layout", "needs torch"),
    ("mpi_landscape.plan.x", "import torch", "numpy only"),
    ("mpi_landscape.work.x", "import torch.nn", "the loop has no torch"),
    ("mpi_landscape.work.x", "from mpi_landscape.surfaces import losses", "a wing from the middle floor"),
    ("mpi_landscape.surfaces.x", "from mpi_landscape.solutions import sweep", "a wing from a wing"),
    ("mpi_landscape.connections.x", "from mpi_landscape.solutions import sweep", "a path from a training"),
    ("mpi_landscape.surfaces.x", "from mpi_landscape import surface", "a program"),
    ("mpi_landscape.surfaces.x", "from ..training import loop", "by a relative import"),
    ("mpi_landscape.train", "from mpi_landscape import surface", "a program from a program"),
    ("mpi_landscape.attic", "import json", "no room at all"),
    ("plotting.picture.x", "from mpi_landscape.loading import resident", "pictures need no network"),
    ("mpi_landscape.recording.x", "from mpi_landscape.problem import checkpoints", "another's network"),
    ("mpi_landscape.surfaces.x", "import lightning.pytorch", "a trainer that is not ours"),
    ("plotting.picture.x", "import matplotlib.pyplot", "what a picture says needs no drawing library"),
    ("plotting.picture.x", "from plotting.drawn import style", "what a picture says needs no drawing"),
]


@pytest.mark.parametrize(("name", "text", "why"), PLANTED, ids=[why for *_, why in PLANTED])
def test_a_planted_violation_is_found(name, text, why):
    planted = module_of(name, text)
    assert violations(planted, {**MODULES, name: planted})


def test_a_planted_circle_is_found():
    before = "mpi_landscape.storage.x"
    planted = {
        before: module_of(before, "def f():\n    from mpi_landscape.storage import y"),
        "mpi_landscape.storage.y": module_of(
            "mpi_landscape.storage.y", "from mpi_landscape.storage import x"
        ),
    }
    assert circles({**MODULES, **planted}) == [sorted(planted)]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("mpi_landscape", {"torch", "mpi4py", "matplotlib", "h5py", "numpy"}),
        ("mpi_landscape.storage.surface.reader", {"torch", "mpi4py", "matplotlib", "yaml"}),
        ("mpi_landscape.work.running", {"torch", "mpi4py", "matplotlib", "yaml"}),
        ("mpi_landscape.inspect", {"torch", "mpi4py", "matplotlib"}),
        ("mpi_landscape.callbacks", {"torch", "lightning", "pytorch_lightning", "transformers"}),
        ("mpi_landscape.recording.recorder", {"mpi4py", "matplotlib", "yaml", "lightning", "transformers"}),
        ("plotting.__main__", {"torch", "mpi4py"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(module, absent):
    code = f"import sys, {module}; print(' '.join(name for name in {sorted(absent)} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_module_has_grown_beyond_one_screenful_of_reasons():
    # STYLE: expect modules under about 250 lines; a second reason to change is a second file.
    long = {
        str(path.relative_to(HOUSE.parent)): lines
        for path in [*HOUSE.rglob("*.py"), *GALLERY.rglob("*.py")]
        if (lines := len(path.read_text().splitlines())) > 300
    }
    assert long == {}
