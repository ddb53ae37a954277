"""The arrows of the architecture: which room may import which, and which library lives in which room only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mpi_landscape
import plotting

HOUSE = Path(mpi_landscape.__file__).parent
GALLERY = Path(plotting.__file__).parent

ROOMS = {"problem", "geometry", "training", "evaluation", "parallel", "storage"}
# Room -> the other rooms that it may import.
ARROWS = {
    "problem": set(),
    "geometry": set(),
    # Fast evaluation moves a flat vector, so it knows its layout.
    "evaluation": {"geometry"},
    "training": set(),
    "parallel": set(),
    # A file says which tile covers which points and examples; these modules need numpy only.
    "storage": {"geometry.grid", "geometry.samples", "geometry.tiles"},
    "plotting": {"storage"},
}
LIBRARIES = {
    "mpi4py": {"parallel"},
    "h5py": {"storage", "doctor"},
    "matplotlib": {"plotting"},
    "yaml": {"problem"},
    "pydantic": {"problem"},
    "torchvision": {"problem"},
    "timm": {"problem"},
    "sklearn": {"problem"},
}


def imports(path: Path) -> list[str]:
    """Everything a module imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def violations(room: str, paths: list[Path]) -> list[str]:
    """Imports of a room that no arrow allows."""
    wrong = []
    for path in paths:
        for name in imports(path):
            library = name.split(".")[0]
            if library in LIBRARIES and room not in LIBRARIES[library]:
                wrong.append(f"{path.name} imports {name}")
            if name.startswith("mpi_landscape."):
                inner = name.removeprefix("mpi_landscape.")
                other = inner.split(".")[0]
                if other == room or other == "errors" or inner in ("LandscapeError", "__version__"):
                    continue
                allowed = any(inner == place or inner.startswith(f"{place}.") for place in ARROWS[room])
                parent = any(place.startswith(f"{inner}.") for place in ARROWS[room])
                if not allowed and not parent:
                    wrong.append(f"{path.name} imports {name}")
    return wrong


def modules(room: str) -> list[Path]:
    return sorted((GALLERY if room == "plotting" else HOUSE / room).rglob("*.py"))


@pytest.mark.parametrize("room", sorted(ARROWS))
def test_a_room_imports_only_what_its_arrows_allow(room):
    assert modules(room)
    assert violations(room, modules(room)) == []


@pytest.mark.parametrize("program", sorted(path.stem for path in HOUSE.glob("*.py")))
def test_programs_leave_each_library_to_its_room(program):
    allowed = {library for library, places in LIBRARIES.items() if program in places}
    found = {name.split(".")[0] for name in imports(HOUSE / f"{program}.py")} & LIBRARIES.keys()
    assert found <= allowed


PLANTED = [
    ("geometry", "import h5py", "a library of another room"),
    ("geometry", "from mpi_landscape.storage.reader import read_surface", "another room"),
    ("problem", "from mpi_landscape.geometry.layout import Layout", "problem knows nothing of directions"),
    ("evaluation", "def f():\n    from mpi4py import MPI", "hidden in a function"),
    ("storage", "from mpi_landscape.geometry.layout import Layout", "a module that needs torch"),
    ("plotting", "from mpi_landscape.evaluation import resident", "pictures need no network"),
]


@pytest.mark.parametrize(("room", "text", "why"), PLANTED, ids=[why for *_, why in PLANTED])
def test_a_planted_violation_is_found(tmp_path, room, text, why):
    planted = tmp_path / "planted.py"
    planted.write_text(text)
    assert violations(room, [planted])


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("mpi_landscape", {"torch", "mpi4py", "matplotlib", "h5py", "numpy"}),
        ("mpi_landscape.storage.reader", {"torch", "mpi4py", "matplotlib", "yaml"}),
        ("mpi_landscape.inspect", {"torch", "mpi4py", "matplotlib"}),
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
