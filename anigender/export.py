"""A classifier as one file for other programs: everything from the crop to calibrated probabilities in the graph.

What is exported takes head crops ``[N, 3, S, S]``, RGB in 0-1, and gives ``[N, 2]`` probabilities of female and male:
normalisation, channel order and calibration are inside, so that nobody has to repeat them. How a crop is cut stands in
the file's metadata, by which :func:`anigender.load` uses an exported ONNX or safetensors file like any other. Each file
is loaded again and compared with its source before it gets its name.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .classify import Classifier, declared_by, load_classifier
from .classify.onnx_net import OnnxNet
from .classify.preprocessing import PREFIX
from .files import atomic_write_bytes

TOLERANCE = 1e-3  # of a probability; float32 on another runtime differs by about 1e-6
PROBES = 12
EXTRA_FILE = "anigender.json"  # the metadata inside TorchScript and PT2 archives


class Exported(nn.Module):
    """A classifier's net with what it needs before and after, as plain operations."""

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.net = classifier.net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.register_buffer("mean", torch.tensor(classifier.mean)[None, :, None, None])
        self.register_buffer("std", torch.tensor(classifier.std)[None, :, None, None])

    def forward(self, crops: Tensor) -> Tensor:
        """``[N, 3, S, S]`` in 0-1, RGB, to probabilities ``[N, 2]``, columns female and male."""
        logits = self._logits(crops)
        if self.classifier.flip:
            logits = (logits + self._logits(crops.flip(-1))) / 2
        return (logits / self.classifier.temperature).softmax(1)

    def _logits(self, crops: Tensor) -> Tensor:
        x = crops.flip(1) if self.classifier.bgr else crops
        return self.classifier.as_logits(self.net((x - self.mean) / self.std))


def export(
    name: str | Path, format: str, output: Path, settings: Mapping[str, Any] | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write a classifier in another format, checked against its source.

    Args:
        name: as for :func:`anigender.classify.load_classifier`.
        format: one of :data:`FORMATS`.
        output: the file to make.
        settings: preprocessing where the file does not say it.
        overwrite: replace the file if it is there.

    Returns:
        ``format``, ``difference`` (the largest one of any probability to the source's, over :data:`PROBES` crops in
        batches of one and of several), ``bytes``, ``input_size`` and ``parameters``.

    Raises:
        FileExistsError: the file is there already.
        ValueError: an unknown format, an ONNX file as source of anything, or the written file says something else.
        ImportError: a package of the extra anigender[export] is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export("auto", "safetensors", Path(folder) / "copy.safetensors")["input_size"]
    112
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is not known; choose one of {', '.join(FORMATS)}")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists already; use --overwrite to replace it")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {output.parent}")
    classifier = load_classifier(name, "cpu", torch.float32, settings)
    if isinstance(classifier.net, OnnxNet):
        raise ValueError(
            f"{name} is an ONNX file, which can be used but not exported; name the checkpoint it came from"
        )
    suffix, write, read = FORMATS[format]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"exported{suffix}"
        write(classifier, name, settings or {}, file)
        difference = _difference(classifier, read(file))
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the {format} file differs from {name} by {difference:.2g} in a probability, more than {TOLERANCE:g}: "
                "nothing was written; please report this with the version of torch"
            )
        contents = file.read_bytes()
    atomic_write_bytes(output, contents)
    return {
        "format": format,
        "difference": difference,
        "bytes": len(contents),
        "input_size": classifier.size,
        "parameters": sum(parameter.numel() for parameter in classifier.net.parameters()),
    }


def _difference(source: Classifier, answers: Callable[[Tensor], Tensor]) -> float:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(PROBES, 3, source.size, source.size, generator=generator)
    smooth = nn.functional.avg_pool2d(noise, 9, 1, 4)  # crops are smooth, and noise alone all looks alike to a net
    probes = torch.cat((noise[: PROBES // 2], (smooth[PROBES // 2 :] - 0.5) * 4 + 0.5)).clamp(0, 1)
    expected = source.classify(probes)
    return max(
        float((torch.cat([answers(part) for part in probes.split(size)]) - expected).abs().max()) for size in (1, 5)
    )


def metadata_of(classifier: Classifier) -> dict[str, str]:
    """How to cut crops for an exported graph, and what it gives: metadata of its file."""
    plain = {
        "input_size": classifier.size,
        "margin": classifier.margin,
        "below": classifier.below,
        "framing": classifier.framing,
        "resample": classifier.resample,
        "outside": classifier.outside,
        "cut_scale": classifier.cut_scale,
        "mean": "0,0,0",
        "std": "1,1,1",
        "channel_order": "RGB",
        "labels": "female,male",
        "output": "probabilities",
        "temperature": 1,
    }
    return {PREFIX + key: str(value) for key, value in plain.items()}


def _graph(classifier: Classifier) -> tuple[Exported, tuple[Tensor]]:
    return Exported(classifier).eval(), (torch.rand(2, 3, classifier.size, classifier.size),)


def _write_onnx(classifier: Classifier, name: str | Path, settings: Mapping[str, Any], file: Path) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        install = "python -m pip install onnx onnxscript onnxruntime"
        raise ImportError(f"exporting to ONNX needs {error.name}: {install}") from error
    graph, example = _graph(classifier)
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")  # the exporter's own, about its internals
        torch.onnx.export(
            graph,
            example,
            str(file),
            input_names=["crops"],
            output_names=["probabilities"],
            dynamic_shapes={"crops": {0: torch.export.Dim("batch", min=1)}},
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(str(file))
    for key, value in metadata_of(classifier).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(file))


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """No warnings of that logger, which are about packages that the graph does not need."""
    own = logging.getLogger(logger)
    before = own.level
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        own.setLevel(before)


def _read_onnx(file: Path) -> Callable[[Tensor], Tensor]:
    return load_classifier(file).classify


def _write_safetensors(classifier: Classifier, name: str | Path, settings: Mapping[str, Any], file: Path) -> None:
    from .weights import save_weights

    tensors, metadata = declared_by(name, settings)
    save_weights(file, tensors, metadata)


def _read_safetensors(file: Path) -> Callable[[Tensor], Tensor]:
    return load_classifier(file, "cpu", torch.float32).classify


def _write_torchscript(classifier: Classifier, name: str | Path, settings: Mapping[str, Any], file: Path) -> None:
    graph, example = _graph(classifier)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch says that TorchScript is deprecated, which whoever asks for it knows
        traced = torch.jit.trace(graph, example)
        torch.jit.save(traced, str(file), _extra_files={EXTRA_FILE: json.dumps(metadata_of(classifier))})


def _read_torchscript(file: Path) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _without_gradients(torch.jit.load(str(file)))


def _write_pt2(classifier: Classifier, name: str | Path, settings: Mapping[str, Any], file: Path) -> None:
    graph, example = _graph(classifier)
    program = torch.export.export(graph, example, dynamic_shapes={"crops": {0: torch.export.Dim("batch", min=1)}})
    torch.export.save(program, file, extra_files={EXTRA_FILE: json.dumps(metadata_of(classifier))})


def _read_pt2(file: Path) -> Callable[[Tensor], Tensor]:
    return _without_gradients(torch.export.load(file).module())


def _without_gradients(net: nn.Module) -> Callable[[Tensor], Tensor]:
    def answers(crops: Tensor) -> Tensor:
        with torch.no_grad():
            return net(crops)

    return answers


Write = Callable[[Classifier, str | Path, Mapping[str, Any], Path], None]
Read = Callable[[Path], Callable[[Tensor], Tensor]]
FORMATS: dict[str, tuple[str, Write, Read]] = {
    "safetensors": (".safetensors", _write_safetensors, _read_safetensors),
    "onnx": (".onnx", _write_onnx, _read_onnx),
    "torchscript": (".ts", _write_torchscript, _read_torchscript),
    "pt2": (".pt2", _write_pt2, _read_pt2),
}
