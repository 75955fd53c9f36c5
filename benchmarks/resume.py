"""Memory and time of ``anigender tag --resume`` by the number of files: a first run, and one that knows them all.

One small picture under many names stands for a large folder (``--detector whole-image``, so that the detector's time
does not hide the rest's). The process is watched from outside. Run with ``python -m benchmarks.resume`` from the
repository's root; ``--output`` writes the figures as JSON. Linux only: memory is read from ``/proc``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDER = 1000  # files in each folder
SIDE = 64


def make_files(folder: Path, count: int) -> Path:
    """A folder of ``count`` hard links to one picture, in subfolders."""
    source = folder / "source.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(source)
    for i in range(count):
        below = folder / "in" / f"{i // FOLDER:05}"
        if i % FOLDER == 0:
            below.mkdir(parents=True)
        os.link(source, below / f"{i:08}.png")
    return folder / "in"


def watched(command: list[str]) -> dict[str, Any]:
    """Seconds of the processor, and memory in MB after each quarter of the time and at its most."""
    start = time.monotonic()
    before = os.times()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    resident = []
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if "VmRSS:" in status:
            resident.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    after = os.times()
    quarters = {f"MB at {k}/4": resident[len(resident) * k // 4] for k in (1, 2, 3)}
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": time.monotonic() - start, "CPU seconds": busy, **quarters, "MB at most": max(resident)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--output", type=Path, help="write the figures as JSON here")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            pictures, store = make_files(Path(folder), count), Path(folder, "store.sqlite")
            command = [sys.executable, "-m", "anigender", "tag", str(pictures), "--recursive", "--device", "cpu"]
            command += ["--detector", "whole-image", "--resume", str(store)]
            for run in ("new", "known"):
                rows.append({"files": count, "run": run, **watched(command)})
            rows[-1]["store bytes per file"] = store.stat().st_size / count
    names = list(rows[-1])
    print("  ".join(f"{name:>10}" for name in names))
    for row in rows:
        cells = [f"{row[name]:.1f}" if isinstance(row.get(name), float) else str(row.get(name, "")) for name in names]
        print("  ".join(f"{cell:>{max(10, len(name))}}" for cell, name in zip(cells, names, strict=True)))
    if options.output is not None:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
