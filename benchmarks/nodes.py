"""How long each ComfyUI node takes on a batch of 32 pictures of 1024 x 1024, without ComfyUI around it.

The pack is imported as ComfyUI imports it. Pictures are in host memory, as ComfyUI passes them on; where there is a
GPU the nets are on it, a second round has the pictures there too, and it is counted how often the host waited for it.
Run with ``python -m benchmarks.nodes`` from the repository's root.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import about, write_report
from benchmarks.throughput import PICTURES, SIDE, make_files

ROOT = Path(__file__).resolve().parents[1]


def load_pack() -> ModuleType:
    """The repository as the package that ComfyUI makes of it."""
    name = "anigender_pack"
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def pictures(pack: ModuleType, count: int) -> Tensor:
    """``[count, 1024, 1024, 3]`` float, with one, two and six faces by turns."""
    read_image = importlib.import_module(f"{pack.__name__}.anigender.folders").read_image
    with tempfile.TemporaryDirectory() as folder:
        files = [make_files(Path(folder), faces, -(-count // len(PICTURES))) for faces in PICTURES]
        chosen = [path for group in zip(*files, strict=True) for path in group][:count]
        return torch.stack([read_image(path) for path in chosen]).float() / 255


def calls(pack: ModuleType, image: Tensor) -> dict[str, Callable[[], Any]]:
    """One call per node, with its defaults; those that take FACES get those of the batch."""
    make = {name: node() for name, node in pack.NODE_CLASS_MAPPINGS.items()}
    faces, _, _, _, boxes, *_ = make["AnigenderDetect"].detect(image)
    segs, images = make["AnigenderFacesToSegs"].convert(faces, image)
    most = max(range(len(segs)), key=lambda i: len(segs[i][1]))
    (captions,) = make["AnigenderTags"].tag([faces])
    provider = make["AnigenderDetectorProvider"]
    return {
        "AnigenderLoadModels": lambda: make["AnigenderLoadModels"].load("auto", "auto", "auto"),
        "AnigenderDetect": lambda: make["AnigenderDetect"].detect(image),
        "AnigenderFilterBatch": lambda: make["AnigenderFilterBatch"].filter(image, faces=faces),
        "AnigenderTags": lambda: make["AnigenderTags"].tag([faces]),
        "AnigenderMasks": lambda: make["AnigenderMasks"].mask(faces, feather=16),
        "AnigenderFacesToSegs": lambda: make["AnigenderFacesToSegs"].convert(faces, image),
        "AnigenderSplitSegs (1 picture)": lambda: make["AnigenderSplitSegs"].split(segs[most], images[most]),
        "AnigenderDetectorProvider (1 picture)": lambda: provider.provide()[0].detect(image[:1], 0.3, 10, 3.0),
        "AnigenderPickFace": lambda: make["AnigenderPickFace"].pick(faces, image, "any"),
        "AnigenderHeadCrops": lambda: make["AnigenderHeadCrops"].crop(faces, image, on_empty="placeholder"),
        "AnigenderPreview": lambda: make["AnigenderPreview"].preview(image, faces=faces),
        "AnigenderSaveImages": lambda: make["AnigenderSaveImages"].save([image], captions=captions),
        "AnigenderFromBoundingBoxes": lambda: make["AnigenderFromBoundingBoxes"].classify(
            image, "head", bounding_boxes=boxes
        ),
    }


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, float, int | None]:
    """Median and best seconds of a call after one that warms up, and how often it waited for the GPU (None: no GPU)."""
    cuda = torch.cuda.is_available()
    call()
    seconds = []
    for _ in range(repeats):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), min(seconds), waits(call) if cuda else None


def waits(call: Callable[[], Any]) -> int:
    """How often the host waits for the GPU during a call, by PyTorch's own count."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in said)


def main() -> None:
    """Time every node, print a table, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=32, help="pictures in the batch")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each node")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    pack = load_pack()
    # The files that nodes write are thrown away with their folder.
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        tempfile.tempdir = folder
        image = pictures(pack, options.count)
        rows = []
        for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            for name, call in calls(pack, image.to(device)).items():
                median, best, waited = timed(call, options.repeats)
                rows.append({"node": name, "pictures on": device, "median s": median, "best s": best, "waits": waited})
        tempfile.tempdir = None
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    where = gpu or f"the CPU with {torch.get_num_threads()} threads"
    print(f"{options.count} pictures of {SIDE} x {SIDE}, nets on {where}")
    print(f"{'node':40}{'pictures on':>12}{'median ms':>12}{'best ms':>12}{'waits':>8}")
    for row in rows:
        waited = "-" if row["waits"] is None else str(row["waits"])
        times = f"{row['median s'] * 1000:12.1f}{row['best s'] * 1000:12.1f}"
        print(f"{row['node']:40}{row['pictures on']:>12}{times}{waited:>8}")
    write_report(
        options.output, {**about(), "count": options.count, "side": SIDE, "threads": torch.get_num_threads()}, rows
    )


if __name__ == "__main__":
    main()
