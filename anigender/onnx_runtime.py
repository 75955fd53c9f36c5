"""ONNX models through onnxruntime, an optional package: opened with checks, and run on the device of their input.

onnxruntime comes in several builds (``onnxruntime``, ``onnxruntime-gpu``, ``onnxruntime-directml`` …) that install
into the same folder and overwrite each other. Whichever is there is used; none is asked for by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata as distributions
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

MAXIMUM_BYTES = 2 << 30  # protobuf's own limit for one file, and for the weights beside it
MAXIMUM_NODES = 50_000
UNBOUNDED = {"Loop", "Scan", "SequenceMap"}  # no image net needs them, and they may run for ever
DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(uint8)": torch.uint8,
    "tensor(int32)": torch.int32,
    "tensor(int64)": torch.int64,
}
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "MIGraphXExecutionProvider", "ROCMExecutionProvider"),
    "xpu": ("OpenVINOExecutionProvider",),
    "privateuseone": ("DmlExecutionProvider",),  # what torch-directml calls its devices
    "mps": ("CoreMLExecutionProvider",),
}
INSTALL = (
    "install it with `python -m pip install onnxruntime` for the CPU, or `python -m pip install onnxruntime-gpu` for "
    "an NVIDIA GPU (one of them, never both: they overwrite each other)"
)


@dataclass(frozen=True)
class Port:
    """An input or output: its name, its shape with None where it is free, and its type."""

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype


class OnnxModel:
    """A model with one image input, opened by :func:`open_onnx`.

    Attributes:
        path: its file.
        device: where it was opened to run.
        provider: the execution provider that onnxruntime runs it with.
        input: its image input.
        outputs: what it gives.
        metadata: the texts in the file, such as label names.
    """

    def __init__(self, path: Path, session: Any, device: torch.device) -> None:
        self.path, self.device, self._session = path, device, session
        self.provider: str = session.get_providers()[0]
        self.input = _port(path, session.get_inputs()[0])
        self.outputs = [_port(path, port) for port in session.get_outputs()]
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def run(self, images: Tensor) -> list[Tensor]:
        """All outputs for one batch.

        Args:
            images: of the shape and in the layout that ``input.shape`` asks for; any device and type. A model that
                takes whole numbers is given 0-255 for fractions of 0-1.

        Returns:
            The outputs on the device of ``images``, in the model's types. CUDA input is read where it lies; outputs
            come through host memory.

        Raises:
            ValueError: the shape does not fit, or onnxruntime cannot run the model.
        """
        wanted = self.input.shape
        fits = images.ndim == len(wanted) and all(
            want in (None, have) for want, have in zip(wanted, images.shape, strict=True)
        )
        if not fits:
            shown = ", ".join("any" if side is None else str(side) for side in wanted)
            raise ValueError(f"{self.path} takes [{shown}], the images have shape {list(images.shape)}")
        x = images.detach()
        if x.is_floating_point() and not self.input.dtype.is_floating_point:
            x = (x * 255).round().clamp(0, 255)
        x = x.to(self.input.dtype).contiguous()
        try:
            if self.provider == "CUDAExecutionProvider" and x.is_cuda:
                found = self._run_bound(x)
            else:
                found = self._session.run(None, {self.input.name: x.cpu().numpy()})
        except Exception as error:  # onnxruntime's errors share no base class of their own
            if "allocate memory" in str(error):
                raise MemoryError(f"{self.path}: {_first_line(error)}") from error
            raise ValueError(f"{self.path} does not run: {_first_line(error)}") from error
        return [torch.from_numpy(value).to(images.device) for value in found]

    def _run_bound(self, x: Tensor) -> list[Any]:
        """Run on CUDA with the input where it lies."""
        torch.cuda.current_stream(x.device).synchronize()  # onnxruntime computes in a stream of its own
        binding = self._session.io_binding()
        element = torch.empty(0, dtype=x.dtype).numpy().dtype.type
        binding.bind_input(self.input.name, "cuda", x.device.index or 0, element, list(x.shape), x.data_ptr())
        for port in self.outputs:
            binding.bind_output(port.name, "cpu")
        self._session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()


def open_onnx(path: Path, device: torch.device | str = "cpu") -> OnnxModel:
    """Open an ONNX model that takes one image tensor.

    Args:
        path: the model. Weights in files of their own must lie beside it.
        device: where it will run. On another device than the CPU, the build of onnxruntime must have a provider for
            it; else it runs on the CPU, which :attr:`OnnxModel.provider` tells.

    Raises:
        FileNotFoundError: no such file.
        ImportError: onnxruntime is not installed or broken; the message says which package to install.
        ValueError: not an ONNX model, too large, reaching outside its folder, using operators of its own or loops,
            or not taking exactly one tensor of rank 4.
    """
    check_onnx(path)
    runtime = import_onnxruntime()
    device = torch.device(device)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # what the user set for torch holds here too
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers(runtime, device))
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise ValueError(
            f"{path} cannot be opened by onnxruntime {runtime.__version__}: {_first_line(error)}"
        ) from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shown = "; ".join(f"{port.name} {port.type} {port.shape}" for port in inputs[:5])
        raise ValueError(f"{path} is not a model of images: it takes {shown}, expected one tensor of rank 4")
    return OnnxModel(path, session, device)


def import_onnxruntime() -> Any:
    """The module, of whichever build is installed.

    Raises:
        ImportError: none is, or several overwrote each other; the message says what to do.
    """
    try:
        import onnxruntime

        onnxruntime.InferenceSession  # noqa: B018 (absent from what an uninstalled second build leaves behind)
    except (ImportError, AttributeError) as error:
        builds = installed_builds()
        if len(builds) > 1:
            raise ImportError(
                f"onnxruntime does not load ({error}): {' and '.join(builds)} are both installed and overwrite each "
                f"other. Uninstall all of them (pip uninstall {' '.join(builds)}), then install one"
            ) from error
        if builds:
            raise ImportError(
                f"{builds[0]} is installed but does not load ({error}); install it again with "
                f"`pip install --force-reinstall --no-deps {builds[0]}`"
            ) from error
        raise ImportError(f"ONNX models need onnxruntime: {INSTALL}") from error
    return onnxruntime


def installed_builds() -> list[str]:
    """The names of the installed packages that bring the module ``onnxruntime``."""
    names = {str(found.metadata["Name"]).lower() for found in distributions.distributions() if found.metadata["Name"]}
    return sorted(name for name in names if name == "onnxruntime" or name.startswith(("onnxruntime-", "ort-nightly")))


def providers(runtime: Any, device: torch.device) -> list[Any]:
    """The execution providers for a device, best first; the CPU's is always the last."""
    available = runtime.get_available_providers()
    chosen: list[Any] = []
    for name in PROVIDERS.get(device.type, ()):
        if name in available:
            indexed = device.type in ("cuda", "privateuseone")
            chosen.append((name, {"device_id": str(device.index or 0)}) if indexed else name)
    return [*chosen, "CPUExecutionProvider"]


def _port(path: Path, port: Any) -> Port:
    if port.type not in DTYPES:
        raise ValueError(f"{path}: {port.name} is a {port.type}, expected one of {', '.join(DTYPES)}")
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in port.shape)
    return Port(port.name, shape, DTYPES[port.type])


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


# -- looking into the file ---------------------------------------------------------------------------------------------


def check_onnx(path: Path) -> list[Path]:
    """Look through a model file before onnxruntime is given it, in time and memory bounded by the file's own size.

    The file is a protocol buffer (onnx.proto3 of the ONNX project); only the fields that decide are read.

    Returns:
        The files beside it that hold weights of its, in order of their names; mostly none.

    Raises:
        FileNotFoundError, ValueError: see :func:`open_onnx`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no ONNX model {path}")
    size = path.stat().st_size
    if size > MAXIMUM_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, ONNX models of up to {MAXIMUM_BYTES:,} are read")
    with path.open("rb") as stream:
        try:
            fields = list(_fields(stream, size, 1 << 16))
            graphs = [field for field in fields if field[:2] == (7, 2)]
            if not any(field[:2] == (1, 0) for field in fields) or len(graphs) != 1:
                raise _NotOnnx("it has no version or no graph")
            beside = set(_check_graph(path, stream, graphs[0], 0))
            for function in (field for field in fields if field[:2] == (25, 2)):
                for node in (field for field in _inside(stream, function, MAXIMUM_NODES) if field[:2] == (7, 2)):
                    beside.update(_check_node(path, stream, node, 1))
        except _NotOnnx as error:
            raise ValueError(f"{path} is not a whole ONNX model ({error}); export or download it again") from error
    return sorted(beside)


class _NotOnnx(Exception):
    """Bytes that are no protocol buffer, or one of something else."""


Field = tuple[int, int, int, int]  # number, wire type, and where the content begins and ends (or a number, begins)


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise _NotOnnx("it ends too early")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _NotOnnx("a number of more than 64 bits")


def _fields(stream: BinaryIO, end: int, limit: int) -> Iterator[Field]:
    """The fields of the message from the stream's position to ``end``; contents are skipped, not read."""
    count = 0
    while stream.tell() < end:
        count += 1
        if count > limit:
            raise _NotOnnx(f"more than {limit} fields")
        tag = _varint(stream)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value = _varint(stream)
            yield number, wire, value, value
            continue
        if wire not in (1, 2, 5) or not number:
            raise _NotOnnx("an unknown kind of field")
        length = {1: 8, 5: 4}.get(wire)
        if length is None:
            length = _varint(stream)
        begin = stream.tell()
        if begin + length > end:
            raise _NotOnnx("a field that is longer than the file")
        yield number, wire, begin, begin + length
        stream.seek(begin + length)
    if stream.tell() != end:
        raise _NotOnnx("a field that is longer than its message")


def _inside(stream: BinaryIO, field: Field, limit: int) -> list[Field]:
    """The fields of a message that is itself a field."""
    stream.seek(field[2])
    return list(_fields(stream, field[3], limit))


def _text(stream: BinaryIO, field: Field) -> str:
    stream.seek(field[2])
    return stream.read(min(field[3] - field[2], 4096)).decode("utf-8", "replace")


def _texts(stream: BinaryIO, fields: Sequence[Field], number: int) -> list[str]:
    return [_text(stream, field) for field in fields if field[:2] == (number, 2)]


def _check_graph(path: Path, stream: BinaryIO, graph: Field, depth: int) -> Iterator[Path]:
    """Nodes without loops, weights in the file itself or beside it; the files of the latter."""
    if depth > 8:
        raise _NotOnnx("graphs inside graphs inside graphs")
    for field in _inside(stream, graph, 4 * MAXIMUM_NODES):
        if field[:2] == (1, 2):
            yield from _check_node(path, stream, field, depth)
        elif field[:2] == (5, 2):
            yield from _check_tensor(path, stream, field)


def _check_node(path: Path, stream: BinaryIO, node: Field, depth: int) -> Iterator[Path]:
    """No loop; the graphs and tensors among its attributes as any other."""
    fields = _inside(stream, node, 4096)
    operator = "".join(_texts(stream, fields, 4))
    if operator in UNBOUNDED:
        raise ValueError(f"{path} uses the operator {operator}, which no image net needs; it is not run")
    for attribute in (field for field in fields if field[:2] == (5, 2)):
        for inner in _inside(stream, attribute, 1 << 16):
            if inner[:2] == (6, 2):
                yield from _check_graph(path, stream, inner, depth + 1)
            elif inner[:2] == (5, 2):
                yield from _check_tensor(path, stream, inner)


def _check_tensor(path: Path, stream: BinaryIO, tensor: Field) -> Iterator[Path]:
    """Weights outside the file must be a file beside it, which is given."""
    for field in _inside(stream, tensor, 1 << 16):
        if field[:2] != (13, 2):
            continue
        entry = _inside(stream, field, 8)
        if _texts(stream, entry, 1) == ["location"]:
            location = "".join(_texts(stream, entry, 2))
            if Path(location).name != location or location in ("", ".", "..") or "\\" in location:
                raise ValueError(f"{path} wants its weights from {location!r}; only files beside it are read")
            beside = path.parent / location
            if not beside.is_file():
                raise ValueError(f"{path} has its weights in {location}, which is not beside it; copy both files")
            if beside.stat().st_size > MAXIMUM_BYTES:
                raise ValueError(f"{beside} has more than {MAXIMUM_BYTES:,} bytes")
            yield beside
