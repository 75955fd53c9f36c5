"""How fast the default pipeline is on 1024 x 1024 pictures with 1, 2 and 6 faces, and where the time goes.

The pictures are the project's own examples, fitted into squares and saved as JPEG. Every stage is timed inside the
same passes, so that the shares belong together; the median pass is reported. Run with
``python -m benchmarks.throughput`` from the repository's root; ``--output`` writes the figures as JSON.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image, ImageOps

import anigender
from anigender.classify import classifier_crops
from anigender.folders import read_image
from anigender.images import check
from anigender.pipeline import CHUNK, CHUNK_ON_CPU
from benchmarks.report import about, write_report

EXAMPLES = Path(__file__).parent.parent / "examples"
PICTURES = {1: "solo_woman_dress.webp", 2: "pair_woman_man.webp", 6: "group_of_six.webp"}
SIDE = 1024


def make_files(folder: Path, faces: int, count: int) -> list[Path]:
    """``count`` JPEGs of 1024 x 1024 with that many faces, each a little different from the others."""
    with Image.open(EXAMPLES / PICTURES[faces]) as image:
        square = ImageOps.pad(image.convert("RGB"), (SIDE, SIDE), color=(230, 230, 230))
    paths = []
    for i in range(count):
        path = folder / f"{faces}_{i:03d}.jpg"
        shifted = Image.new("RGB", square.size, (230, 230, 230))
        shifted.paste(square, (i % 7, i % 5))
        shifted.save(path, quality=92)
        paths.append(path)
    return paths


def one_pass(pipeline: anigender.Pipeline, paths: list[Path]) -> tuple[dict[str, float], int]:
    """Seconds per stage for one batch, decoded by this thread alone, and the number of faces found."""
    stages: dict[str, float] = {}
    start = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal start
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        stages[name] = stages.get(name, 0.0) + now - start
        start = now

    images = [read_image(path) for path in paths]
    lap("decode")
    found, chunk = 0, CHUNK_ON_CPU if pipeline.detector.device.type == "cpu" else CHUNK
    for first in range(0, len(images), chunk):  # as the pipeline does
        batch = check(images[first : first + chunk])
        lap("check")
        faces = pipeline.detector.detect(batch)
        lap("detector")
        crops = classifier_crops(batch, faces, pipeline.classifier)
        lap("crops")
        pipeline.classifier.classify(crops)
        lap("classifier")
        found += len(faces)
    return stages, found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=16, help="pictures in a batch")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--device", default=None)
    parser.add_argument("--output", type=Path, help="write the figures as JSON here")
    options = parser.parse_args()
    pipeline = anigender.load(device=options.device)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"{pipeline.classifier.device}, {str(pipeline.classifier.dtype).removeprefix('torch.')}"
    )
    names = ("decode", "check", "detector", "crops", "classifier")
    print(
        f"{'faces':>5}{'found':>7}{'images/s':>10}{'without decode':>16}  "
        + "".join(f"{n:>12}" for n in names)
        + "   (ms per image, share)"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for faces in PICTURES:
            paths = make_files(Path(folder), faces, options.count)
            one_pass(pipeline, paths)  # allocations and kernel choices
            passes = [one_pass(pipeline, paths) for _ in range(options.passes)]
            median = {n: statistics.median(stages[n] for stages, _ in passes) / options.count for n in names}
            whole = sum(median.values())
            cells = "".join(f"{median[n] * 1e3:>6.1f} {median[n] / whole:>4.0%} " for n in names)
            found = passes[0][1] / options.count
            print(f"{faces:>5}{found:>7.2f}{1 / whole:>10.1f}{1 / (whole - median['decode']):>16.1f}  {cells}")
            rows.append({"faces": faces, "found": found, "images_per_second": 1 / whole, "seconds_per_image": median})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    per_megapixel = rows[0]["seconds_per_image"]["detector"] / (SIDE * SIDE / 1e6)
    print(f"detector: {per_megapixel * 1e3:.1f} ms per megapixel; peak memory {peak / 2**20:.0f} MiB")
    write_report(options.output, {**about(), "peak_bytes": peak}, rows)


if __name__ == "__main__":
    main()
