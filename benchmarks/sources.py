"""End to end beside the way this project's sources work: a cascade, Pillow and a ResNet, one picture at a time.

Their way, for each picture: decode with Pillow, OpenCV 4's LBP cascade on equalised grey, each face cut and resized to
224 pixels by Pillow, a ResNet-18 in onnxruntime for one face at a time. Ours: the default pipeline on the same files as
the command line works on them, in batches, decoding ahead and with its settings; where the time goes is
measured in passes that do one thing after another. OpenCV 4 and onnxruntime may be in an interpreter of their own
(``--opencv4 PYTHON``), which works in a process of its own. Both ways are asked in turn; decoding counts on both sides.
That their cascade finds fewer faces, and so has less to classify, is to its advantage: the number found is shown.

Run with ``python -m benchmarks.sources --cascade lbpcascade_animeface.xml --opencv4 PYTHON``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

import anigender
from anigender.folders import process
from anigender.tuning import tune
from benchmarks.classifier import resnet
from benchmarks.report import about, write_report
from benchmarks.throughput import PICTURES, make_files, one_pass

BATCH = 16  # the command line's own
THEIR_WAY = """
import json, sys, time
import cv2, numpy as np, onnxruntime
from PIL import Image
if not hasattr(cv2, "CascadeClassifier"):
    sys.exit(f"OpenCV {cv2.__version__} has no cascades")
cascade, model, threads = sys.argv[1:]
cv2.setNumThreads(int(threads))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
detector = cv2.CascadeClassifier(cascade)
print(f"OpenCV {cv2.__version__}, onnxruntime {onnxruntime.__version__}", flush=True)
for line in sys.stdin:
    start, spent, count = time.perf_counter(), [0.0, 0.0, 0.0], 0
    for path in json.loads(line):
        lap = time.perf_counter()
        image = Image.open(path).convert("RGB")
        pixels = np.asarray(image)
        spent[0] += time.perf_counter() - lap
        lap = time.perf_counter()
        grey = cv2.equalizeHist(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
        found = detector.detectMultiScale(grey, 1.1, 5, minSize=(24, 24))
        spent[1] += time.perf_counter() - lap
        lap = time.perf_counter()
        for x, y, w, h in found:
            face = image.crop((x, y, x + w, y + h)).resize((224, 224), Image.LANCZOS)
            values = np.asarray(face, np.float32).transpose(2, 0, 1)[None] / 255
            session.run(None, {"x": values})
            count += 1
        spent[2] += time.perf_counter() - lap
    print(json.dumps([time.perf_counter() - start, count, *spent]), flush=True)
"""


class TheirWay:
    """The sources' way in another process, asked for a list of files at a time."""

    def __init__(self, python: str, cascade: Path, model: Path, threads: int) -> None:
        command = [python, "-c", THEIR_WAY, str(cascade), str(model), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.version = self.process.stdout.readline().strip()
        if not self.version:
            raise SystemExit(f"{python} lacks OpenCV 4, onnxruntime, numpy or Pillow; name one with --opencv4")

    def __call__(self, paths: list[Path]) -> list[float]:
        """Seconds, faces, and the seconds of decoding, detecting and classifying."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(path) for path in paths]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"their way ended with exit code {self.process.wait()}")
        return json.loads(answer)


def our_way(pipeline: anigender.Pipeline, paths: list[Path], threads: int) -> tuple[float, int]:
    """Seconds, and faces."""
    start = time.perf_counter()
    found = process([(path, None) for path in paths], pipeline, BATCH, threads)
    faces = sum(len(result.faces) for result in found if result.faces is not None)
    return time.perf_counter() - start, faces


def write_model(path: Path) -> None:
    """A ResNet-18 with random weights as ONNX; the time does not depend on the weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            resnet(18),
            (torch.rand(1, 3, 224, 224),),
            str(path),
            input_names=["x"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def main() -> None:
    """Measure, print two tables, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cascade", type=Path, required=True, help="lbpcascade_animeface.xml")
    parser.add_argument("--opencv4", default=sys.executable, help="a Python with opencv-python 4 and onnxruntime")
    parser.add_argument("--count", type=int, default=64, help="pictures in a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune()
    pipeline = anigender.load(device="cpu")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "resnet18.onnx"
        write_model(model)
        theirs = TheirWay(options.opencv4, options.cascade, model, options.threads)
        print(f"{options.count} JPEGs of 1024 x 1024, {options.threads} threads; theirs: {theirs.version}")
        for faces in PICTURES:
            paths = make_files(Path(folder), faces, options.count)
            our_way(pipeline, paths, options.threads)
            theirs(paths[:2])
            turns = [(our_way(pipeline, paths, options.threads), theirs(paths)) for _ in range(options.rounds)]
            ratio = statistics.median(other[0] / own[0] for own, other in turns)
            passes = [one_pass(pipeline, paths)[0] for _ in range(options.rounds)]
            stages = {name: statistics.median(one[name] for one in passes) for name in passes[0]}
            parts = {
                name: statistics.median(other[2 + i] for _, other in turns)
                for i, name in enumerate(("decode", "detector", "crops and classifier"))
            }
            rows.append(
                {
                    "faces": faces,
                    "images/s": options.count / statistics.median(own[0] for own, _ in turns),
                    "theirs images/s": options.count / statistics.median(other[0] for _, other in turns),
                    "ratio": ratio,
                    "found": turns[0][0][1] / options.count,
                    "theirs found": turns[0][1][1] / options.count,
                    "ms": {name: value / options.count * 1000 for name, value in stages.items()},
                    "theirs ms": {name: value / options.count * 1000 for name, value in parts.items()},
                }
            )
    print(f"{'faces':>5}{'images/s':>10}{'theirs':>10}{'ratio':>8}{'found':>8}{'theirs':>8}")
    for row in rows:
        print(
            f"{row['faces']:>5}{row['images/s']:>10.1f}{row['theirs images/s']:>10.2f}{row['ratio']:>8.2f}"
            f"{row['found']:>8.2f}{row['theirs found']:>8.2f}"
        )
    print("\nms per picture")
    for row in rows:
        for who, key in (("ours", "ms"), ("theirs", "theirs ms")):
            cells = ", ".join(f"{name} {value:.1f}" for name, value in row[key].items())
            print(f"{row['faces']:>5} {who:7} {cells}")
    write_report(options.output, {**about(), "threads": options.threads, "theirs": theirs.version}, rows)


if __name__ == "__main__":
    main()
