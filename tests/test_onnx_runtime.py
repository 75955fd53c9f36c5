"""ONNX models: opened after a look inside, run on what is given, and every way of being wrong explained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anigender import onnx_runtime
from anigender.onnx_runtime import check_onnx, open_onnx, providers

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """A function that writes a model of given nodes: the mean of an image's channels where none are given."""
    onnx = pytest.importorskip("onnx", reason="the package onnx writes the models of these tests")
    helper, kinds = onnx.helper, onnx.TensorProto

    def writing(
        nodes: list[Any] | None = None,
        shape: tuple[Any, ...] = ("n", 3, 4, 4),
        kind: int = kinds.FLOAT,
        tensors: tuple[Any, ...] = (),
        inputs: int = 1,
        metadata: dict[str, str] | None = None,
    ) -> Path:
        nodes = nodes or [
            helper.make_node("GlobalAveragePool", ["x0"], ["m"]),
            helper.make_node("Flatten", ["m"], ["y"]),
        ]
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(f"x{i}", kind, shape) for i in range(inputs)],
            [helper.make_tensor_value_info("y", kind, None)],
            list(tensors),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        for key, value in (metadata or {}).items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return writing


@pytest.fixture
def runtime() -> Any:
    return pytest.importorskip("onnxruntime", reason="onnxruntime runs the models of these tests")


def test_a_model_says_what_it_takes_and_gives(write: Writer, runtime: Any) -> None:
    model = open_onnx(write(metadata={"names": "{0: 'female', 1: 'male'}"}))
    assert (model.input.name, model.input.shape, model.input.dtype) == ("x0", (None, 3, 4, 4), torch.float32)
    assert [port.name for port in model.outputs] == ["y"]
    assert model.metadata == {"names": "{0: 'female', 1: 'male'}"}
    assert (model.provider, model.device.type) == ("CPUExecutionProvider", "cpu")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_running_takes_any_type_and_gives_the_models(
    write: Writer, runtime: Any, count: int, dtype: torch.dtype
) -> None:
    x = (torch.rand(count, 3, 4, 4) * 9).to(dtype)
    (found,) = open_onnx(write()).run(x.to(memory_format=torch.channels_last))
    assert found.dtype == torch.float32 and found.shape == (count, 3)
    torch.testing.assert_close(found, x.float().mean((2, 3)))


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (3, 4, 4), (1, 1, 4, 4), (1, 3, 4, 4, 1)])
def test_images_of_another_shape_are_refused(write: Writer, runtime: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes \[any, 3, 4, 4\], the images have shape") as caught:
        open_onnx(write()).run(torch.zeros(shape))
    assert str(list(shape)) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": 2}, "not a model of images: it takes x0 .*; x1 "),
        ({"shape": ("n", 768)}, "expected one tensor of rank 4"),
        ({"kind": 8}, "tensor.string"),
    ],
)
def test_models_of_something_else_are_refused(
    write: Writer, runtime: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_onnx(write(**settings))


def test_an_operator_that_nobody_knows_is_explained(write: Writer, runtime: Any) -> None:
    import onnx

    node = onnx.helper.make_node("Teleport", ["x0"], ["y"], domain="my.own")
    with pytest.raises(ValueError, match="cannot be opened by onnxruntime .*Teleport"):
        open_onnx(write([node]))


def test_loops_are_refused_wherever_they_hide(write: Writer) -> None:
    import onnx

    helper = onnx.helper
    loop = helper.make_node("Loop", ["", ""], ["y"], body=helper.make_graph([], "body", [], []))
    hidden = helper.make_node("If", ["x0"], ["y"], then_branch=helper.make_graph([loop], "branch", [], []))
    for node in (loop, hidden):
        with pytest.raises(ValueError, match="operator Loop, which no image net needs"):
            check_onnx(write([node]))


def outside(location: str) -> Any:
    """A tensor whose data are in another file."""
    import onnx

    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "..", "a/b", "C:\\x", ""])
def test_weights_from_elsewhere_are_refused(write: Writer, location: str) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match="only files beside it are read"):
        check_onnx(write(tensors=(outside(location),)))


def test_weights_beside_the_model_are_asked_for_and_read(write: Writer, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = write(tensors=(outside("weights.bin"),))
    with pytest.raises(ValueError, match="its weights in weights.bin, which is not beside it; copy both"):
        check_onnx(path)
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    assert check_onnx(path) == [tmp_path / "weights.bin"] and check_onnx(write()) == []


@pytest.mark.parametrize("content", [b"", b"\x08\x08", b"PK\x03\x04" + bytes(50), b"\x80\x02}.", bytes(range(256))])
def test_what_is_no_model_is_explained(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ValueError, match="is not a whole ONNX model"):
        open_onnx(tmp_path / "model.onnx")


def test_a_truncated_model_is_refused(write: Writer) -> None:
    path = write()
    whole = path.read_bytes()
    for length in range(0, len(whole) - 8, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is not a whole ONNX model"):
            check_onnx(path)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_model_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    try:
        check_onnx(path)
    except ValueError as error:
        assert str(path) in str(error)


# -- onnxruntime itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("builds", "message"),
    [
        ([], "ONNX models need onnxruntime: .*pip install onnxruntime`.*onnxruntime-gpu"),
        (["onnxruntime-gpu"], "onnxruntime-gpu is installed but does not load.*--force-reinstall"),
        (["onnxruntime", "onnxruntime-gpu"], "are both installed and overwrite each other.*uninstall onnxruntime "),
    ],
)
@pytest.mark.parametrize("broken", [None, SimpleNamespace()], ids=["absent", "empty"])
def test_an_absent_or_broken_onnxruntime_is_explained(
    monkeypatch: pytest.MonkeyPatch, broken: Any, builds: list[str], message: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", broken)
    monkeypatch.setattr(onnx_runtime, "installed_builds", lambda: builds)
    with pytest.raises(ImportError, match=message):
        onnx_runtime.import_onnxruntime()


def test_the_installed_builds_are_those_that_bring_the_module(runtime: Any) -> None:
    builds = onnx_runtime.installed_builds()
    assert builds and all(name.startswith(("onnxruntime", "ort-")) for name in builds)


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (
            "cuda:1",
            ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
            [("CUDAExecutionProvider", {"device_id": "1"}), "CPUExecutionProvider"],
        ),
        (
            "cuda",
            ["MIGraphXExecutionProvider", "CPUExecutionProvider"],
            [("MIGraphXExecutionProvider", {"device_id": "0"}), "CPUExecutionProvider"],
        ),
        ("cuda", ["CPUExecutionProvider"], ["CPUExecutionProvider"]),
        ("mps", ["CoreMLExecutionProvider"], ["CoreMLExecutionProvider", "CPUExecutionProvider"]),
    ],
)
def test_the_provider_follows_the_device(device: str, available: list[str], expected: list[Any]) -> None:
    fake = SimpleNamespace(get_available_providers=lambda: available)
    assert providers(fake, torch.device(device)) == expected
