"""How long the LBP cascade takes on one picture of 1024 x 1024, beside OpenCV 4's own on the same one.

OpenCV 5 has no cascades, so OpenCV 4 may be in an interpreter of its own: ``--opencv4 PYTHON``. Both are asked in turn
within one run, with as many threads; processor time is given too, which a busy machine disturbs less. Run with
``python -m benchmarks.cascade --cascade FILE.xml`` from the repository's root.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anigender.detect import read_cascade_detector
from anigender.folders import read_image
from anigender.images import check
from benchmarks.throughput import make_files

OPENCV4 = """
import json, sys, time
import cv2, numpy as np
from PIL import Image
if not hasattr(cv2, "CascadeClassifier"):
    sys.exit(f"OpenCV {cv2.__version__} has no cascades")
cascade, picture, threads = sys.argv[1:]
cv2.setNumThreads(int(threads))
pixels = np.asarray(Image.open(picture).convert("RGB"))
detector = cv2.CascadeClassifier(cascade)
print(cv2.__version__, flush=True)
for _ in sys.stdin:
    wall, own = time.perf_counter(), time.process_time()
    grey = cv2.equalizeHist(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    found = detector.detectMultiScale(grey, 1.1, 5, minSize=(24, 24))
    print(json.dumps([time.perf_counter() - wall, time.process_time() - own, len(found)]), flush=True)
"""


class OpenCV4:
    """OpenCV 4 in another process, asked once per call; each answer is wall seconds, processor seconds, faces."""

    def __init__(self, python: str, cascade: Path, picture: Path, threads: int) -> None:
        command = [python, "-c", OPENCV4, str(cascade), str(picture), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.version = self.process.stdout.readline().strip()
        if not self.version:
            raise OSError(f"{python} has no OpenCV 4 with numpy and Pillow")

    def __call__(self) -> tuple[float, float, int]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise OSError(f"OpenCV {self.version} ended with exit code {self.process.wait()}")
        return tuple(json.loads(answer))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cascade", type=Path, required=True, help="lbpcascade_animeface.xml, or another cascade")
    parser.add_argument("--opencv4", default=sys.executable, help="a Python with opencv-python 4, numpy and Pillow")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        [path] = make_files(Path(folder), 6, 1)
        lossless = path.with_suffix(".png")  # both see the same pixels, whatever decodes them
        with Image.open(path) as image:
            image.save(lossless)
        batch = check([read_image(lossless)])
        ours = read_cascade_detector(options.cascade)

        def own() -> tuple[float, float, int]:
            wall, busy = time.perf_counter(), time.process_time()
            count = len(ours.detect(batch))
            return time.perf_counter() - wall, time.process_time() - busy, count

        candidates = {"torch, CPU": own}
        try:
            other = OpenCV4(options.opencv4, options.cascade, lossless, options.threads)
            candidates[f"OpenCV {other.version}"] = other
        except OSError as error:
            print(f"OpenCV 4 is left out: {error}; name an interpreter that has it with --opencv4")
        if torch.cuda.is_available():
            on_gpu = read_cascade_detector(options.cascade, "cuda")
            batch_on_gpu = check(read_image(lossless)[None].cuda())

            def gpu() -> tuple[float, float, int]:
                torch.cuda.synchronize()
                wall, busy = time.perf_counter(), time.process_time()
                count = len(on_gpu.detect(batch_on_gpu))
                torch.cuda.synchronize()
                return time.perf_counter() - wall, time.process_time() - busy, count

            candidates["torch, GPU"] = gpu
        else:
            print("the GPU is left out: PyTorch sees no CUDA device")
        for call in candidates.values():
            call()
        seconds: dict[str, list[tuple[float, float, int]]] = {name: [] for name in candidates}
        for _ in range(options.repeats):
            for name, call in candidates.items():
                seconds[name].append(call())
    print(f"1024 x 1024, {options.threads} threads, median of {options.repeats}")
    print(f"{'':16}{'ms':>10}{'busy ms':>10}{'faces':>7}")
    for name, rows in seconds.items():
        wall, busy = (statistics.median(column) * 1000 for column in list(zip(*rows, strict=True))[:2])
        print(f"{name:16}{wall:>10.1f}{busy:>10.1f}{rows[0][2]:>7}")
    if "torch, CPU" in seconds and len(seconds) > 1:
        reference = next((rows for name, rows in seconds.items() if name.startswith("OpenCV")), None)
        if reference is not None:
            for column, what in enumerate(("time", "processor time")):
                ratios = [a[column] / b[column] for a, b in zip(seconds["torch, CPU"], reference, strict=True)]
                print(f"{what} on the CPU over OpenCV's: {np.median(ratios):.2f}")


if __name__ == "__main__":
    main()
