"""How fast classifiers are here and in onnxruntime: the same weights, the same pictures, the same number of threads.

ResNet-18 and ResNet-50 have random weights, the embedded net its own. onnxruntime gets the float32 model with all
its optimisations; here nets are in eight bits where the CPU multiplies these natively (the ResNets need to be shown
pictures for that, as ``anigender train ranges`` does), and in the floats that :func:`anigender.inference.native_dtype`
chooses, or ``--dtype``. Both are asked in turn within one run, and what is reported is the median of the ratios of
neighbours. Normalisation is left out on both sides. Run with ``python -m benchmarks.classifier``; it needs the extra
anigender[export].
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anigender.classify import load_classifier
from anigender.classify.classifier import at_once
from anigender.classify.resnet import ResNet, Stage
from anigender.inference import ready
from anigender.quantised import QuantisedConv2d, Range, eight_bits_pay
from anigender.ranges import Watch
from benchmarks.report import about, write_report

BATCHES = (1, 8, 32)
PICTURES = 96  # answers compared


def resnet(depth: int) -> nn.Module:
    """A ResNet with random weights that keep the signal's size."""
    torch.manual_seed(0)
    if depth == 18:
        net = ResNet([Stage(2, 64, 64), Stage(2, 128, 128), Stage(2, 256, 256), Stage(2, 512, 512)], False)
    else:
        stages = [Stage(3, 64, 256), Stage(4, 128, 512), Stage(6, 256, 1024), Stage(3, 512, 2048)]
        net = ResNet(stages, True)
    net.fc = nn.Linear(net.fc.in_features, 2)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):  # else a deep net's answers grow beyond all bounds
            nn.init.constant_(layer.weight, 0.5)
    net.eval()
    with torch.no_grad():  # answers that differ from picture to picture, else comparing them would say nothing
        answers = net(pictures(24, 224))
        net.fc.weight /= answers.std(0)[:, None]
        net.fc.bias -= answers.mean(0)
        net.fc.bias /= answers.std(0)
    return net


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    """Made-up normalised pictures with large and small shapes, the same ones each time."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 5, 5, generator=generator)
    fine = torch.randn(count, 3, size, size, generator=generator)
    # Within what the embedded net reads, whose pictures lie in 0-1 before they are normalised.
    return (nn.functional.interpolate(coarse, (size, size), mode="bilinear") + fine / 4).clamp(-2, 2)


def embedded() -> nn.Module:
    """The embedded classifier's net, in float32."""
    return load_classifier("auto", "cpu", torch.float32).net


NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "embedded": (embedded, 112),
    "resnet18": (lambda: resnet(18), 224),
    "resnet50": (lambda: resnet(50), 224),
}


def onnx_session(net: nn.Module, size: int, threads: int) -> Any:
    """An onnxruntime session of a net, on the CPU."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            net.to(memory_format=torch.contiguous_format),
            (torch.rand(2, 3, size, size),),
            str(path),
            dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1)}},
            input_names=["x"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def seconds(call: Callable[[], Any], at_least: float) -> float:
    """Seconds per call, over as many calls as fill that time."""
    calls, start = 0, time.perf_counter()
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= at_least:
            return elapsed / calls


def main() -> None:
    """Measure, print a table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default=None)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    given = getattr(torch, options.dtype) if options.dtype else None
    print(f"{options.threads} threads; onnxruntime in float32")
    heading = f"{'net':10}{'here in':>10}{'batch':>6}{'images/s':>10}{'onnxruntime':>13}{'ratio':>8}"
    print(f"{heading}{'same label':>12}{'max |dp|':>10}")
    rows = []
    for name, make, size, net in compared(given):
        session = onnx_session(make(), size, options.threads)
        dtype = next(net.parameters()).dtype
        eight = any(isinstance(layer, QuantisedConv2d) for layer in net.modules())
        precision = "int8" if eight else str(dtype).removeprefix("torch.")
        shown = pictures(PICTURES, size)
        with torch.inference_mode():
            same, apart = agreement(net, session, shown, dtype)
            for batch in BATCHES:
                theirs = shown[:batch].numpy()
                ours = shown[:batch].to(dtype).contiguous(memory_format=torch.channels_last)
                parts = ours.split(at_once(size, ours.device))  # as Classifier does
                calls = (partial(answered, net, parts), partial(session.run, None, {"x": theirs}))
                for call in calls:
                    seconds(call, 0.3)
                turns = [[seconds(call, options.seconds) for call in calls] for _ in range(options.rounds)]
                own, other = (batch / statistics.median(turn[i] for turn in turns) for i in (0, 1))
                ratio = statistics.median(turn[1] / turn[0] for turn in turns)
                figures = f"{own:>10.1f}{other:>13.1f}{ratio:>8.2f}{same:>12.2%}{apart:>10.4f}"
                print(f"{name:10}{precision:>10}{batch:>6}{figures}")
                rows.append(
                    {"net": name, "precision": precision, "batch": batch, "images/s": own,
                     "onnxruntime images/s": other, "ratio": ratio, "same label": same, "largest difference": apart}
                )  # fmt: skip
    write_report(options.output, {**about(), "threads": options.threads}, rows)


def compared(dtype: torch.dtype | None) -> Iterator[tuple[str, Callable[[], nn.Module], int, nn.Module]]:
    """Name, maker, input side, and the net that answers, in the precision asked for or that the library takes."""
    for name, (make, size) in NETS.items():
        if dtype is None and eight_bits_pay():
            if make is embedded:
                yield name, make, size, load_classifier("auto", "cpu").net
            else:
                yield name, make, size, ready(make(), "cpu", None, ranges_of(make(), size))
        yield name, make, size, ready(make(), "cpu", dtype)


def ranges_of(net: nn.Module, size: int) -> dict[str, Range]:
    """What ``anigender train ranges`` would write down, from other pictures than those that are compared."""
    net = ready(net, "cpu", torch.float32)
    with Watch(net) as watch, torch.inference_mode():
        for part in pictures(PICTURES, size, seed=1).split(8):
            net(part.contiguous(memory_format=torch.channels_last))
    return watch.ranges()


def answered(net: nn.Module, parts: Sequence[Tensor]) -> Tensor:
    """The net's answers to all parts."""
    return torch.cat([net(part) for part in parts])


def agreement(net: nn.Module, session: Any, pictures: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    """Share of pictures with the same label, and the largest difference of a probability."""
    ours = torch.cat([net(part.to(dtype)).float().softmax(1) for part in pictures.split(8)])
    theirs = torch.cat(
        [torch.from_numpy(session.run(None, {"x": part.numpy()})[0]).softmax(1) for part in pictures.split(8)]
    )
    return float((ours.argmax(1) == theirs.argmax(1)).float().mean()), float((ours - theirs).abs().max())


if __name__ == "__main__":
    main()
