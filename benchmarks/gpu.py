"""Everything that needs a GPU to be known, in less than eight minutes: is it right there, and how fast.

python benchmarks/gpu.py                                # writes gpu.json and gpu.md here
python benchmarks/gpu.py --output results --parts tests,steps,bits
python benchmarks/gpu.py --small --device cpu           # the same work in small, on a CPU: does it run at all

Each part is a process of its own with its share of the time that is left; one that fails or takes longer is ended and said to
have, with what it had found until then, and the others go on. `docs/gpu.md` says what a machine without a package index needs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import gpu_tables

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Part:
    """A process of its own.

    Attributes:
        share: Of the time, in parts that are seconds on a fast card where nothing goes wrong.
        words: For gpu_parts.py.
    """

    share: float
    words: tuple[str, ...]


PARTS = {
    "facts": Part(10, ("facts",)),
    "tests": Part(60, ("tests",)),
    "steps": Part(50, ("steps",)),
    "bits": Part(80, ("bits",)),
    "resnet20": Part(40, ("point", "--network", "resnet20")),
    "resnet56": Part(50, ("point", "--network", "resnet56")),
    "vgg9": Part(40, ("point", "--network", "vgg9")),
    "linear": Part(30, ("point", "--network", "linear")),
    "mobilenet": Part(40, ("point", "--network", "torchvision/mobilenet_v2")),
    "training": Part(30, ("training",)),
    "launches": Part(40, ("launches",)),
}


def main() -> None:
    """Run the parts and write what they found."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--device", default="cuda", help="where to compute (default: %(default)s)")
    add("--small", action="store_true", help="few images and points")
    add("--parts", default=",".join(PARTS), help="of %(default)s")
    add("--limit", type=float, default=460, help="seconds for all parts together (default: %(default)s)")
    add("--output", type=Path, default=Path(), help="folder of gpu.json and gpu.md (default: this one)")
    options = parser.parse_args()
    names = options.parts.split(",")
    for name in names:
        if name not in PARTS:
            parser.error(f"--parts {name!r} is no part; valid are {', '.join(PARTS)}")
    options.output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "small": options.small,
        "parts": {},
    }
    deadline = time.monotonic() + options.limit
    for number, name in enumerate(names):
        # What the parts before have left over is shared out among those that follow.
        share = PARTS[name].share / sum(PARTS[each].share for each in names[number:])
        limit = share * (deadline - time.monotonic())
        found["parts"][name] = run(PARTS[name], limit, options)
        print(gpu_tables.progress(name, found["parts"][name]), flush=True)
        # After every part: what is known stays known if this process is ended.
        (options.output / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
        (options.output / "gpu.md").write_text(gpu_tables.report(found))
    print(f"\n{gpu_tables.report(found)}")
    sys.exit(int(any(part["status"] != "done" for part in found["parts"].values())))


def run(part: Part, limit: float, options: argparse.Namespace) -> dict[str, Any]:
    """One part in a process group of its own, ended with all that it started when its time is over."""
    with tempfile.TemporaryDirectory(prefix="gpu-", ignore_cleanup_errors=True) as folder:
        log, result = Path(folder) / "log.txt", Path(folder) / "result.json"
        command = [sys.executable, str(HERE / "gpu_parts.py"), *part.words, "--device", options.device]
        command += ["--folder", folder, "--result", str(result), *(["--small"] if options.small else [])]
        paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        # As the program sets it itself, but before any part has made its first handle of cuBLAS.
        environment = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", **os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        start = time.monotonic()
        with log.open("w") as stream:
            job = subprocess.Popen(
                command, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                status = "done" if job.wait(timeout=limit) == 0 else "failed"
            except subprocess.TimeoutExpired:
                status = "over its limit"
            finally:
                end(job)
        rows = json.loads(result.read_text()) if result.exists() else []
        found = {"status": status, "seconds": time.monotonic() - start, "limit": limit, "rows": rows}
        if status != "done":
            found["said"] = log.read_text(errors="replace").splitlines()[-15:]
        return found


def end(job: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started."""
    # TERM first: a launcher of ranks gives them groups of their own, which it alone knows.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(timeout=3)


if __name__ == "__main__":
    main()
