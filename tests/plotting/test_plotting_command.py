"""The command line, `plotting.__main__`, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.spectrum.value import Moments, Spectrum
from plotting import __main__ as command


@pytest.fixture
def files(planted, tmp_path, monkeypatch):
    """Stand in for the reader, which has its own tests: paths to surfaces, anything else is refused."""
    surfaces = {}
    for name in ("a", "b"):
        path = str(tmp_path / f"{name}.h5")
        surfaces[path] = planted(path=path)

    def read(path):
        if path not in surfaces:
            raise LandscapeError(f"{path}: no such file")
        return surfaces[path]

    monkeypatch.setattr(command, "read_surface", read)
    return list(surfaces)


def test_the_paths_of_the_pictures_are_printed_and_the_pictures_are_there(files, tmp_path, capsys):
    status = command.main([files[0], "--kind", "contour,heatmap", "--quantity", "train_loss", "--dpi", "40"])
    assert status == 0
    expected = [tmp_path / f"a_train_loss_{kind}.png" for kind in ("contour", "heatmap")]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in expected]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in expected)


def test_all_options_work_at_once(files, tmp_path):
    output = tmp_path / "both.svg"
    options = (
        "--kind filled --quantity test_loss --scale log --levels 6 --min 0.3 --max 3 --dpi 50 --title mine"
    )
    assert command.main([*files, *options.split(), "--common-scale", "--together", f"--output={output}"]) == 0
    assert output.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--quantity", "x"], "there is no quantity 'x'; valid quantities are train_loss"),
        (["--kind", "line"], "does not fit"),
        (["--output", "x.gif"], "'.gif' is not a format"),
        (["--output", "/proc/none/x.png"], "cannot be written"),
        (["--levels", "many"], "--levels 'many' is not valid"),
        (["--vmin", "2", "--vmax", "1"], "not below"),
        (["--vmin", "two"], "invalid float value"),
        (["--dpi", "0"], "--dpi 0 is not between"),
        (["--scale", "square"], "invalid choice"),
        (["--format", "gif"], "invalid choice"),
        (["--colour", "red"], "unrecognized arguments"),
        (["missing.h5"], "missing.h5: no such file"),
    ],
)
def test_bad_input_is_one_line_and_status_two(files, capsys, options, words):
    assert command.main([files[0], *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_spectrum_is_drawn_alone_and_beside_other_files(files, tmp_path, capsys, monkeypatch):
    path = str(tmp_path / "spectrum.h5")
    found = Spectrum(
        path=path,
        eigenvalues=np.array([3.0, -1.0]),
        residuals=np.array([0.1, 0.1]),
        num_largest=1,
        nodes=np.array([[0.0, 0.5]]),
        weights=np.array([[0.6, 0.2]]),
        num_parameters=10,
        loss=0.5,
        gradient_norm=0.1,
        noise=0.0,
        num_products=np.ones(2),
        moments=Moments(),
        kept=np.array([], dtype=np.int64),
        done=np.ones(2, dtype=bool),
    )
    monkeypatch.setattr(command, "kind_of", lambda file: "spectrum" if file == path else "surface")
    monkeypatch.setattr(command, "read_spectrum", lambda file: found)
    assert command.main([path, "--dpi", "40"]) == 0
    expected = [tmp_path / f"spectrum_{kind}.png" for kind in ("density", "eigenvalues")]
    assert capsys.readouterr().out.splitlines() == [str(each) for each in expected]
    assert all(each.read_bytes().startswith(b"\x89PNG") for each in expected)
    for arguments, words in (
        ([path, files[0], "--output", "x.png"], "is one file, and a spectrum"),
        ([path, "--kind", "contour"], "valid here: density, eigenvalues"),
        ([files[0], "--kind", "density"], "--kind density is for the spectrum at a point"),
        ([path, "--weight-decay", "0.1"], "is of a spectrum; --weight-decay is for surface files"),
    ):
        assert command.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


def test_a_map_of_curvature_is_drawn_over_the_losses_of_a_surface(planted, tmp_path, capsys, monkeypatch):
    surface = planted()
    ends = {"train_lambda_max": np.full((26, 18), 4.0), "train_lambda_min": np.full((26, 18), -1.0)}
    paths = {
        str(tmp_path / "surface.h5"): surface,
        str(tmp_path / "map.h5"): replace(surface, values={**surface.values, **ends}),
    }
    monkeypatch.setattr(command, "read_surface", lambda file: replace(paths[file], path=file))
    assert command.main([*paths, "--dpi", "40"]) == 0
    expected = [str(tmp_path / f"map_{kind}.png") for kind in ("curvature", "extremes")]
    assert capsys.readouterr().out.splitlines() == expected
    both = ["--kind", "curvature,heatmap", "--quantity", "train_loss"]
    assert command.main([list(paths)[1], *both, "--output", str(tmp_path / "x.png")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is one file, and 2 pictures are asked for" in line


def test_no_file_at_all_is_one_line_and_status_two(capsys):
    assert command.main([]) == 2
    assert capsys.readouterr().err.startswith("error: the following arguments are required: FILE")


def test_a_program_error_is_one_line_and_status_one(files, capsys, monkeypatch):
    def broken(path):
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr(command, "read_surface", broken)
    assert command.main([files[0]]) == 1
    assert capsys.readouterr().err == "error: ZeroDivisionError: a b (run again with --debug for more)\n"
    with pytest.raises(ZeroDivisionError):
        command.main([files[0], "--debug"])


def test_drawing_needs_neither_torch_nor_mpi_nor_a_display():
    code = (
        "import sys, plotting.__main__\n"
        "print(*sorted({'torch', 'mpi4py', 'matplotlib.pyplot', 'scipy', 'tkinter'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
