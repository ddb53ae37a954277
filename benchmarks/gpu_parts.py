"""What gpu.py measures, each part in a process of its own; what a part has found so far lies in its file at any time.

Started by gpu.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
REFUSED = 2  # the program's exit status
PRECISIONS = ("float32", "tf32", "bfloat16")
Row = dict[str, Any]


def main() -> None:
    """Run a part and write every row that it finds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--network")
    parser.add_argument("--device", required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    sys.path[:0] = [str(REPOSITORY)]
    rows: list[Row] = []
    for row in PARTS[options.part](options):
        rows.append(row)
        beside = options.result.with_suffix(".new")
        beside.write_text(json.dumps(rows))
        beside.replace(options.result)
        print(json.dumps(row), flush=True)


def facts(options: argparse.Namespace) -> Iterator[Row]:
    """The card and what runs on it."""
    from facts import processor, versions

    found: Row = {"device": options.device, "processor": processor(), "cores": len(os.sched_getaffinity(0))}
    found |= {"versions": versions(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    if options.device != "cpu":
        card = torch.cuda.get_device_properties(0)
        found |= {"card": card.name, "memory": card.total_memory, "driver": _driver()}
    yield found


def _driver() -> str | None:
    """As nvidia-smi says it; None where there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[0].strip()
    return None


def tests(options: argparse.Namespace) -> Iterator[Row]:
    """The tests that need CUDA, which no machine without it has run."""
    folder = REPOSITORY / "tests"
    files = [path for path in sorted(folder.rglob("test_*.py")) if "cuda.is_available" in path.read_text()]
    report = options.folder / "tests.xml"
    # A file that lacks a package on this machine must not keep the others from being run.
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-k", "cuda or gpu", f"--junitxml={report}"]
    command.append("--continue-on-collection-errors")
    done = subprocess.run(
        [*command, *map(str, files)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    print(done.stdout)
    if not report.exists():
        raise SystemExit(f"pytest ended with exit status {done.returncode}: {done.stderr.strip()}")
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        outcome, said = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome, said = child.tag, child.get("message", "").splitlines()[0][:200]
        yield {
            "test": case.get("name"),
            "outcome": outcome,
            "said": said,
            "seconds": float(case.get("time", 0)),
        }


# Steps of the engine that are tried together.
STEPS = (
    ("folded",),
    ("channels_last",),
    ("folded", "channels_last", "graphed"),
    ("first_layer",),
)
COMPILED = ("folded", "channels_last", "compiled")
ZOO = ("residual", "dense", "vgg", "mobile", "normalised perceptron", "linear", "viewing", "tied", "aliasing")


def steps(options: argparse.Namespace) -> Iterator[Row]:
    """Every step against the plain network on this device: the largest relative difference of a loss."""
    import numpy as np

    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.evaluation.choosing import choose_engine
    from mpi_landscape.evaluation.engine.description import PLAIN
    from mpi_landscape.evaluation.probe import probe_points
    from mpi_landscape.loading.resident import make_resident
    from tests.evaluation.zoo import examples_of

    device = torch.device(options.device)
    points = [(alpha, beta) for alpha in (-1.0, 0.25, 0.0, 1.5) for beta in (0.0, -0.75, 0.5)]
    probes = probe_points([(-1.0, 1.5), (-0.75, 0.5)])
    # What takes a compiler comes last.
    tried = [*itertools.product(ZOO, STEPS), ("residual", COMPILED), ("mobile", COMPILED)]
    if options.small:
        tried = list(itertools.product(ZOO[3:6], STEPS))
    with exact_arithmetic():
        for name, names in tried:
            setting = _setting(name, device)
            batches = make_resident(
                "train", examples_of(name), batch_size=8, device=device, dtype=torch.float32
            ).batches
            engine, dropped = choose_engine(setting, batches[0], probes, dtype=torch.float32, steps=names)
            found = setting.sums(engine, torch.float32, batches, points)
            plain = setting.sums(PLAIN, torch.float32, batches, points)
            gap = np.abs(found[:, 0] - plain[:, 0]) / np.abs(plain[:, 0])
            yield {
                "network": name,
                "steps": ", ".join(names),
                "engine": engine.words(),
                "dropped": dropped,
                "difference": float(gap.max()),
                "counts": float(np.abs(found[:, 1] - plain[:, 1]).max()),
            }


def _setting(name: str, device: torch.device) -> Any:
    """A network of the tests with two filter-normalised directions."""
    from mpi_landscape.evaluation.probe import Setting
    from mpi_landscape.geometry.directions import ignore, random_direction
    from mpi_landscape.geometry.layout import layout_of
    from mpi_landscape.geometry.normalization import normalize
    from tests.evaluation.zoo import network_of

    model = network_of(name)
    layout = layout_of(model)
    center = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    directions = [
        0.5
        * normalize(
            ignore(random_direction(layout, seed=seed), layout, ("norm",)), center, layout, how="filter"
        )
        for seed in (1, 2)
    ]
    return Setting(
        model=model, loss=_cross_entropy, layout=layout, center=center, directions=directions, device=device
    )


def _cross_entropy(model: torch.nn.Module, batch: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    outputs = model(batch[0])
    return {
        "loss": torch.nn.functional.cross_entropy(outputs, batch[1], reduction="none"),
        "correct": outputs.argmax(dim=1) == batch[1],
    }


def bits(options: argparse.Namespace) -> Iterator[Row]:
    """Whether a second run, and two ranks that share the card, give the bits of the first run."""
    from bits import contents
    from workloads import write_workload

    write_workload(options.folder, "resnet20", 32 if options.small else 2048)
    for precision in ("float32",) if options.small else ("float32", "bfloat16"):
        first = None
        for name, ranks in (("first", 1), ("second", 1), ("two ranks", 2)):
            path = options.folder / f"{precision}_{name.replace(' ', '_')}.h5"
            seconds = _run_program(options, path, ranks, f"compute.precision={precision}")
            arrays = {key: kept for key, kept in contents(path).items() if "@" not in key}
            first = first or arrays
            differing = sorted(
                key for key in first.keys() | arrays.keys() if first.get(key) != arrays.get(key)
            )
            yield {"precision": precision, "run": name, "differing": differing, "seconds": seconds}


def _run_program(options: argparse.Namespace, path: Path, ranks: int, *fields: str) -> float:
    """One run of the surface program in processes of its own; returns its seconds, start included."""
    # Tiles are given: they would follow from a measured time.
    fields = (*fields, "grid.alpha=[-1, 1, 3]", "grid.beta=[-0.5, 1, 2]", "compute.points_per_tile=2")
    words = [str(options.folder / "surface.yaml"), "--output", str(path), *_settings(options, *fields)]
    command = [sys.executable, "-m", "mpi_landscape.surface", *words]
    if ranks > 1:
        beside = Path(sys.executable).with_name("mpiexec")
        command = [str(beside) if beside.exists() else "mpiexec", "-n", str(ranks), *command]
    # As root, and more ranks than cores, under Open MPI too.
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    places = os.pathsep.join([str(HERE), str(REPOSITORY)])
    start = time.perf_counter()
    done = subprocess.run(
        command,
        env={**os.environ, **allowed, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{ranks} ranks: {done.stdout}{done.stderr}")
    return time.perf_counter() - start


def _settings(options: argparse.Namespace, *fields: str) -> list[str]:
    device = f"compute.device={options.device}"
    return [word for field in (device, "compute.data_shards=1", *fields) for word in ("--set", field)]


# The engine's steps by what they are called in the table.
LAUNCHES = {
    "launched": "[folded, channels_last]",
    "graphed": "[folded, channels_last, graphed]",
    "compiled": "[folded, channels_last, compiled]",
}


def launches(options: argparse.Namespace) -> Iterator[Row]:
    """Recorded passes against launched ones, and a compiled network."""
    from workloads import write_workload

    write_workload(options.folder, "resnet20", 32 if options.small else 10_000)
    # A compiler may be missing and takes its time: last.
    sizes = (64, "auto") if not options.small else (64,)
    sides = list(LAUNCHES)[:2] if options.small else list(LAUNCHES)
    for side, size in ((side, size) for side in sides for size in sizes):
        fields = [f"compute.engine={LAUNCHES[side]}", f"compute.batch_size={size}"]
        yield {"side": side, "batch_size": size} | _ours(options, 2 if options.small else 20, *fields)


def _ours(options: argparse.Namespace, points: int, *fields: str) -> Row:
    """Seconds per point of the surface program in this process, once it has begun with its tiles."""
    from program import timed

    from mpi_landscape.storage.surface.reader import read_surface

    # Never a square: 5 x n points.
    num = max(1, points // 5)
    axes = [f"grid.alpha=[-1, 1, {min(points, 5)}]", f"grid.beta=[-0.5, 1, {max(num, 2)}]"]
    path = options.folder / "surface.h5"
    words = [str(options.folder / "surface.yaml"), "--output", str(path), "--overwrite"]
    _forget(options)
    clock = timed([*words, *_settings(options, *axes, *fields)])
    found = read_surface(path)
    count = found.values["train_loss"].size
    return {
        "seconds_per_point": clock.seconds / count,
        "points": count,
        "engine": str(found.attributes["identity_engine"]),
        "plan": str(found.attributes["identity_plan"]),
        "loss": float(found.values["train_loss"].flat[0]),
        "peak_memory": _peak(options),
    }


def _forget(options: argparse.Namespace) -> None:
    if options.device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak(options: argparse.Namespace) -> int | None:
    return None if options.device == "cpu" else torch.cuda.max_memory_allocated()


# Images at a point, and their size. The mobile network takes photographs; 50,000 of them would be 7.5 GB, and making as
# many as 2,048 takes longer than evaluating them.
IMAGES = {"torchvision/mobilenet_v2": (512, 224)}


def point(options: argparse.Namespace) -> Iterator[Row]:
    """Seconds per grid point in every precision, against the bare forward pass and the reference protocol."""
    from workloads import write_workload

    images, size = IMAGES.get(options.network, (50_000, 32))
    if options.small:
        images, size = 32, 32
    known = write_workload(options.folder, options.network, images, size=size)
    common = {"network": options.network, "images": images, "size": size, "flops": known["flops"]}
    pass_seconds = {}
    for precision in PRECISIONS:
        found = _forward(options, precision, images)
        pass_seconds[precision] = found["seconds_per_point"]
        yield common | {"side": "forward", "precision": precision} | found
    # What matters most comes first, should the time not suffice.
    for precision in ("float32", "reference", "bfloat16", "tf32"):
        if precision == "reference":
            yield common | {"side": "reference", "precision": "float32"} | _reference(options, images)
            continue
        # About three seconds. A linear model's points share their products: as many as in a small picture.
        points = 625 if options.network == "linear" else round(3 / pass_seconds[precision])
        points = 2 if options.small else max(10, min(points, 625))
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                found = _ours(options, points, f"compute.precision={precision}")
        except SystemExit as end:
            # Of what the program does not offer here; whatever else ends it ends this part.
            if end.code != REFUSED:
                raise SystemExit(f"exit status {end.code}: {said.getvalue()}") from end
            found = {"refused": said.getvalue().strip().splitlines()[-1]}
        yield common | {"side": "ours", "precision": precision} | found


def _forward(options: argparse.Namespace, precision: str, images: int) -> Row:
    """The best of the network's bare forward passes on data that lie on the device, scaled to all images."""
    from workloads import load_network, resident_batches

    _forget(options)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    best: Row = {}
    with _fastest(precision), torch.no_grad():
        for size in (16,) if options.small else (128, 1024):
            for last in (False, True):
                layout = torch.channels_last if last else torch.contiguous_format
                model = load_network(options.folder, options.network).to(
                    options.device, dtype, memory_format=layout
                )
                pieces = [
                    inputs.to(options.device, dtype, memory_format=layout)
                    for inputs, _ in resident_batches(options.folder, size, most=4 * size)
                    if len(inputs) == size
                ]
                if not pieces:  # fewer images than a batch takes
                    continue
                seconds = _seconds(model, pieces, options) / size * images
                if not best or seconds < best["seconds_per_point"]:
                    form = f"{'NHWC' if last else 'NCHW'}, batch {size}"
                    best = {"seconds_per_point": seconds, "form": form}
    return best | {"peak_memory": _peak(options)}


@contextlib.contextmanager
def _fastest(precision: str) -> Iterator[None]:
    """The same formats as in the program, by the fastest kernels that cuDNN finds."""
    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.evaluation.precision import precision_of

    with exact_arithmetic(torch.get_num_threads()), precision_of(precision).computing():
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
        yield


def _seconds(
    work: Callable[[torch.Tensor], Any], pieces: Sequence[torch.Tensor], options: argparse.Namespace
) -> float:
    """Of one call, the best of three rounds."""
    least = 0.05 if options.small else 0.15
    for piece in pieces:
        work(piece)
    rounds = []
    for _ in range(3):
        _wait(options)
        start, calls = time.perf_counter(), 0
        while time.perf_counter() - start < least:
            for piece in pieces:
                work(piece)
            calls += len(pieces)
            _wait(options)
        rounds.append((time.perf_counter() - start) / calls)
    return min(rounds)


def _wait(options: argparse.Namespace) -> None:
    if options.device != "cpu":
        torch.cuda.synchronize()


def _reference(options: argparse.Namespace, images: int) -> Row:
    """A loader at every point, NCHW, batches of 128, normalisations as they are; of two sizes, continued to all images.

    Torch's switches are as they come: its convolutions of float32 may use TF32.
    """
    from reference import evaluate, loader_of, set_weights
    from workloads import load_direction, load_network

    model = load_network(options.folder, options.network)
    directions = [
        [piece.to(options.device) for piece in load_direction(options.folder, axis, model)]
        for axis in ("alpha", "beta")
    ]
    model.to(options.device)
    center = [parameter.data.clone() for parameter in model.parameters()]
    whole = loader_of(options.folder)
    measured = {}
    _forget(options)
    for count in (8, 16, 32) if options.small else (images // 20, images // 20, images // 5):
        # The first one of a process is a slow one, and is measured again.
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(whole.dataset, range(count)), batch_size=whole.batch_size, num_workers=2
        )
        start = time.perf_counter()
        set_weights(model, center, directions, (0.25, -0.5))
        evaluate(model, loader, options.device)
        measured[count] = time.perf_counter() - start
    few, many = list(measured)[-2:]
    per_image = (measured[many] - measured[few]) / (many - few)
    return {
        "seconds_per_point": measured[many] + per_image * (images - many),
        "measured": measured,
        "peak_memory": _peak(options),
    }


def training(options: argparse.Namespace) -> Iterator[Row]:
    """Images per second of training, by the usual loop and by the program's own."""
    from training import ours, plain

    device = torch.device(options.device)
    threads = len(os.sched_getaffinity(0))
    for side, train, count in (("ours", ours, 50_000), ("plain", plain, 10_240)):
        _forget(options)
        count = 64 if options.small else count
        rate = train("resnet20", count, device, threads)
        yield {
            "side": side,
            "network": "resnet20",
            "images": count,
            "rate": rate,
            "peak_memory": _peak(options),
        }


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "facts": facts,
    "tests": tests,
    "steps": steps,
    "bits": bits,
    "launches": launches,
    "point": point,
    "training": training,
}


if __name__ == "__main__":
    main()
