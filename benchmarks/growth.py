"""How cost grows: with the batch, the faces in a picture, the side of a picture, and the number of files.

Each series is fitted by a straight line, ``seconds = constant + slope * units``; the table gives both, and how far
off the worst point is. Faces are given boxes, which cost crops and classifier only; files are tiny pictures that are
one head each, so that finding, reading and writing them is what is measured. Run with ``python -m benchmarks.growth``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import anigender
from anigender.faces import Faces
from anigender.folders import read_image
from anigender.images import resize
from benchmarks.report import about, write_report
from benchmarks.throughput import make_files

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FACES = (0, 1, 2, 5, 10, 20, 50)
SIDES = (256, 512, 1024, 2048, 4096, 8192)
FILES = (10, 100, 1_000, 10_000, 100_000)
LINKS = 10_000  # names of one file: file systems have a limit
# Runs a command and prints the most memory it held; a small process, since a child's figure begins with its parent's.
WATCHED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def median_seconds(call: Callable[[], Any], rounds: int) -> float:
    """The median of some calls, after one that warms up."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def by_batch(pipeline: anigender.Pipeline, picture: torch.Tensor, rounds: int) -> list[tuple[float, float]]:
    """Seconds for batches of one picture of 512 x 512 with two faces."""
    small = resize(picture[None], 512, 512).permute(0, 2, 3, 1).contiguous()
    return [(n, median_seconds(lambda n=n: pipeline(small.expand(n, -1, -1, -1)), rounds)) for n in BATCHES]


def by_faces(pipeline: anigender.Pipeline, picture: torch.Tensor, rounds: int) -> list[tuple[float, float]]:
    """Seconds to crop and classify that many heads of one picture."""
    points = []
    for count in FACES:
        corners = np.random.default_rng(0).integers(0, 800, (count, 2))
        boxes = [[int(x), int(y), int(x) + 150, int(y) + 150] for x, y in corners]
        faces = Faces.from_boxes([boxes], [tuple(picture.shape[:2])])
        points.append((count, median_seconds(lambda faces=faces: pipeline.classify(picture[None], faces), rounds)))
    return points


def by_side(pipeline: anigender.Pipeline, picture: torch.Tensor, rounds: int) -> list[tuple[float, float]]:
    """Seconds for one picture by its megapixels."""
    points = []
    for side in SIDES:
        large = resize(picture[None], side, side).permute(0, 2, 3, 1).contiguous()
        points.append((side * side / 1e6, median_seconds(lambda large=large: pipeline(large), rounds)))
    return points


def by_files(most: int) -> list[tuple[float, float]]:
    """Seconds of ``anigender classify`` over tiny pictures that are heads; prints its memory too."""
    points = []
    for count in (n for n in FILES if n <= most):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "pictures"
            folder.mkdir()
            for i in range(count):
                first = folder / f"{i // LINKS * LINKS:07d}.png"
                if i % LINKS:
                    (folder / f"{i:07d}.png").hardlink_to(first)
                else:
                    Image.new("RGB", (16, 16), (200, 150, 120)).save(first)
            output = Path(name) / "results.jsonl"
            command = [sys.executable, "-m", "anigender", "classify", str(folder), "--detector", "whole-image"]
            start = time.perf_counter()
            run = subprocess.run(
                [sys.executable, "-c", WATCHED, *command, "--output", str(output)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            points.append((count, time.perf_counter() - start))
            with output.open("rb") as lines:
                assert sum(1 for _ in lines) == count
        peak = int(run.stdout) * (1 if sys.platform == "darwin" else 1024)
        print(f"  {count:>7} files: {points[-1][1]:8.1f} s, peak {peak / 2**20:.0f} MiB", flush=True)
    return points


def line(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Constant, slope, and how far off the worst point is; all points weigh alike by their ratios."""
    units, seconds = (np.array(column) for column in zip(*points, strict=True))
    design = np.stack((np.ones_like(units), units), 1)
    constant, slope = np.linalg.lstsq(design / seconds[:, None], np.ones_like(seconds), rcond=None)[0]
    return float(constant), float(slope), float(np.abs((constant + slope * units) / seconds - 1).max())


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=10_000, help="the longest run over files; 100000 for all of them")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    pipeline = anigender.load()
    with tempfile.TemporaryDirectory() as folder:
        picture = read_image(make_files(Path(folder), 2, 1)[0])
    series = {
        "pictures in the batch": by_batch(pipeline, picture, options.rounds),
        "faces in the picture": by_faces(pipeline, picture, options.rounds),
        "megapixels": by_side(pipeline, picture, options.rounds),
        "files": by_files(options.files),
    }
    rows = []
    print(f"{'unit':24}{'constant ms':>12}{'ms per unit':>13}{'worst off':>11}   points (unit: ms)")
    for name, points in series.items():
        constant, slope, off = line(points)
        shown = ", ".join(f"{unit:g}: {seconds * 1000:.0f}" for unit, seconds in points)
        print(f"{name:24}{constant * 1000:>12.1f}{slope * 1000:>13.3f}{off:>11.0%}   {shown}")
        rows.append({"unit": name, "constant s": constant, "slope s": slope, "worst": off, "points": points})
    write_report(options.output, about(), json.loads(json.dumps(rows)))


if __name__ == "__main__":
    main()
