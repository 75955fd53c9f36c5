"""The default pipeline on a GPU, with the pictures already there: speed, waits, copies, and its convolutions alone.

64 pictures of 1024 x 1024 with one to six faces lie on the device. Reported are images per second; how often the host
waited for the device during a batch, by PyTorch's own count; the bytes copied from the host; the share of the
device's busy time that is spent in convolutions; and the time of a batch over that of its convolutions alone, whose
operations are counted and divided by the rate that the device reaches in a large one of the same precision. Without a
GPU it says so and ends. Run with ``python -m benchmarks.gpu``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import anigender
from anigender.folders import read_image
from benchmarks.nodes import waits
from benchmarks.report import about, write_report
from benchmarks.throughput import PICTURES, make_files

CONVOLUTIONS = ("conv", "cudnn", "cutlass", "xmma", "implicit_gemm", "winograd", "fprop", "sm80_", "sm90_", "sm100_")


def pictures(count: int) -> Tensor:
    """``[count, 1024, 1024, 3]`` float on the device, with one, two and six faces by turns."""
    with tempfile.TemporaryDirectory() as folder:
        files = [make_files(Path(folder), faces, -(-count // len(PICTURES))) for faces in PICTURES]
        chosen = [path for group in zip(*files, strict=True) for path in group][:count]
        return (torch.stack([read_image(path) for path in chosen]).float() / 255).cuda()


def seconds(call: Any, rounds: int) -> float:
    """The median of some calls, each waited for."""
    for _ in range(3):
        call()
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def convolution_operations(pipeline: anigender.Pipeline, batch: Tensor) -> int:
    """Floating-point operations of all convolutions during a call, multiplications and additions counted apart."""
    total = 0

    def count(layer: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += 2 * output.numel() * layer.weight[0].numel()

    layers = [layer for net in pipeline.nets for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        pipeline(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def rate(dtype: torch.dtype, rounds: int) -> float:
    """Operations per second in one large convolution of the kind that the nets consist of."""
    layer = nn.Conv2d(128, 128, 3, padding=1).cuda().to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(64, 128, 112, 112, device="cuda", dtype=dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        taken = seconds(lambda: [layer(x) for _ in range(10)], rounds) / 10
    return 2 * x.numel() * 128 * 9 / taken


def profiled(pipeline: anigender.Pipeline, batch: Tensor) -> tuple[int, float]:
    """Bytes copied from the host, and the share of kernel time in convolutions."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        pipeline(batch)
        torch.cuda.synchronize()
    copied, inside, whole = 0, 0.0, 0.0
    for event in record.profiler.kineto_results.events():  # the only place where copies have their sizes
        if "CUDA" not in str(event.device_type()):
            continue
        name, taken = event.name().lower(), event.duration_ns() / 1e9
        if "memcpy htod" in name:
            copied += int(getattr(event, "nbytes", lambda: 0)())
        elif "mem" not in name:
            whole += taken
            inside += taken if any(word in name for word in CONVOLUTIONS) else 0.0
    return copied, inside / whole if whole else float("nan")


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=64, help="pictures in the batch")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: PyTorch sees no CUDA device")
        return
    pipeline = anigender.load(device="cuda")
    batch = pictures(options.count)
    rows = []
    for chunk in (16, options.count):
        pipeline.chunk = chunk
        taken = seconds(lambda: pipeline(batch).cpu(), options.rounds)
        waited = waits(lambda: pipeline(batch).cpu())
        operations = convolution_operations(pipeline, batch)
        alone = operations / rate(pipeline.classifier.dtype, options.rounds)
        copied, share = profiled(pipeline, batch)
        rows.append(
            {"chunk": chunk, "images/s": options.count / taken, "waits": waited, "bytes from the host": copied,
             "share of convolutions": share, "operations": operations, "over convolutions alone": taken / alone}
        )  # fmt: skip
    print(f"{torch.cuda.get_device_name()}, {options.count} pictures, {len(pipeline(batch))} faces")
    print(f"{'chunk':>6}{'images/s':>10}{'waits':>7}{'bytes in':>10}{'in convolutions':>17}{'over them alone':>17}")
    for row in rows:
        print(
            f"{row['chunk']:>6}{row['images/s']:>10.1f}{row['waits']:>7}{row['bytes from the host']:>10}"
            f"{row['share of convolutions']:>17.0%}{row['over convolutions alone']:>17.1f}"
        )
    write_report(options.output, {**about(), "count": options.count}, rows)


if __name__ == "__main__":
    main()
