"""What loading costs a surface: this program against a loader that starts anew at every point.

python benchmarks/loading.py                              # 256 JPEG files of 160 x 160, 15 x 15 points, MobileNet v2
python benchmarks/loading.py --images 512 --size 128 --readers

Counts how often an image is decoded and measures the time in which batches are made, without the network, for three ways:
the usual loader at every point (measured at some of them, two workers), data that stay resident, and data that are
streamed for the chunk of points that the plan gives. `--network` also runs MobileNet v2 on one batch, to say what share
of a point loading is. `--readers` compares threads and processes that decode.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

POINTS = 15 * 15
BATCH = 16


def main() -> None:
    """Make a folder of images and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="JPEG files")
    parser.add_argument("--size", type=int, default=160, help="height and width of a file")
    parser.add_argument("--repeats", type=int, default=3, help="points at which the loader is measured")
    parser.add_argument("--readers", action="store_true", help="compare threads and processes that decode")
    parser.add_argument("--network", action="store_true", help="time MobileNet v2, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder), options.images, options.size)
        dataset = data_set(Path(folder), options.size)
        if options.readers:
            compare_readers(dataset, options.repeats)
        else:
            compare_ways(dataset, options)


def make_folder(folder: Path, count: int, size: int) -> None:
    """Photographs of nothing: smooth colours with noise, so that a JPEG is as long as one of a photograph."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / "train" / f"class_{number % 8}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((size, size))
        noisy = np.asarray(coarse, dtype=np.int16) + generator.integers(-12, 13, (size, size, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def data_set(folder: Path, size: int) -> Any:
    """The folder as the program reads it."""
    from mpi_landscape.problem.datasets.image_folders import image_folder

    return image_folder(root=folder, size=size - size // 8, resize=size)["train"]


class Counted:
    """A data set whose decodings are counted."""

    def __init__(self, dataset: Any) -> None:
        self._dataset, self.decoded = dataset, 0
        self.finish, self.thread_safe = dataset.finish, dataset.thread_safe

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        self.decoded += 1
        return self._dataset[index]

    def stored_item(self, index: int) -> Any:
        """As the data set's own."""
        self.decoded += 1
        return self._dataset.stored_item(index)


def compare_ways(dataset: Any, options: argparse.Namespace) -> None:
    """Time of all batches of a surface, and how often an image was decoded for it."""
    import torch

    from mpi_landscape.loading.resident import make_resident
    from mpi_landscape.loading.streamed import make_streamed
    from mpi_landscape.parallel.devices import available_cores, cpu_name
    from mpi_landscape.plan.rules import choose_streamed_points, choose_streamed_shards
    from mpi_landscape.plan.tiles import Plan, shard_bounds

    torch.set_num_threads(1)
    cores = len(available_cores())
    common = {"batch_size": BATCH, "device": torch.device("cpu"), "dtype": torch.float32, "readers": cores}
    count = len(dataset)
    rows = [("loader at every point", *loader_per_point(dataset, options.repeats, 2))]

    counted = Counted(dataset)
    start = time.perf_counter()
    resident = make_resident("train", counted, **common)
    for _ in range(POINTS):
        for piece in resident.pieces(0, resident.num_batches):
            use(piece)
    rows.append(("resident", time.perf_counter() - start, counted.decoded / count))

    counted = Counted(dataset)
    start = time.perf_counter()
    streamed = make_streamed("train", counted, **common)
    shards = choose_streamed_shards(POINTS, streamed.num_batches)
    points = choose_streamed_points(POINTS, shards, count // shards)
    plan = Plan(num_points=POINTS, points_per_tile=points, shards=(("train", shards),))
    for index in range(plan.num_tiles):
        tile = plan.tile(index)
        for piece in streamed.pieces(*shard_bounds(streamed.num_batches, shards, tile.shard)):
            for _ in range(tile.num_points):
                use(piece)
    rows.append((f"streamed, {points} points a tile", time.perf_counter() - start, counted.decoded / count))
    print(f"{cpu_name()}, {cores} cores, torch {torch.__version__}")
    print(f"{count} JPEG files of {options.size} x {options.size}, batch {BATCH}, 15 x 15 points\n")
    print("| way | loading, s | decodings of an image | times less |\n| --- | --- | --- | --- |")
    for name, seconds, decoded in rows:
        print(f"| {name} | {seconds:.1f} | {decoded:.1f} | {rows[0][1] / seconds:.1f} |")
    if options.network:
        print(f"\nMobileNet v2 itself, one thread: {network_seconds(resident) * POINTS:.0f} s")


def use(batches: Any) -> None:
    """Ask for every batch, as a pass over the data does."""
    for batch in batches:
        _ = batch.data


def loader_per_point(dataset: Any, repeats: int, workers: int) -> tuple[float, float]:
    """Seconds for all points, from some of them, and decodings: the protocol of the reference implementation."""
    import torch

    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=workers)
        for _ in loader:
            pass
        times.append(time.perf_counter() - start)
    print(f"loader: {sorted(times)} s a point", file=sys.stderr)
    return statistics.median(times) * POINTS, float(POINTS)


def network_seconds(resident: Any) -> float:
    """One pass of MobileNet v2, from its median batch."""
    import torch
    import torchvision

    network = torchvision.models.mobilenet_v2(num_classes=8).eval()
    times = []
    with torch.no_grad():
        for batch in resident.batches[:5]:
            start = time.perf_counter()
            network(batch.data[0])
            times.append(time.perf_counter() - start)
    return statistics.median(times) * resident.num_batches


def compare_readers(dataset: Any, repeats: int) -> None:
    """Images a second of threads that read ahead, and of a loader with worker processes."""
    import torch

    from mpi_landscape.loading.streamed import make_streamed

    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {}
    for _ in range(repeats):
        for number in (1, 2):
            streamed = make_streamed(
                "train",
                dataset,
                batch_size=BATCH,
                device=torch.device("cpu"),
                dtype=torch.float32,
                readers=number,
            )
            start = time.perf_counter()
            for piece in streamed.pieces(0, streamed.num_batches):
                use(piece)
            rates.setdefault(f"threads: {number}", []).append(len(dataset) / (time.perf_counter() - start))
            start = time.perf_counter()
            for _ in torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=number):
                pass
            rates.setdefault(f"worker processes: {number}", []).append(
                len(dataset) / (time.perf_counter() - start)
            )
    for name, found in sorted(rates.items()):
        print(f"{name}: {statistics.median(found):,.0f} images/s {[round(each) for each in sorted(found)]}")


if __name__ == "__main__":
    main()
