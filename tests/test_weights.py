"""Weight files that are what they say, and files that lie."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anigender.weights import LONGEST_HEADER, declared_kind, read_header, read_weights, save_weights


def lying(header: object, data: bytes = bytes(16), length: int | None = None) -> bytes:
    """A file with this header, whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list, offsets: list, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.safetensors"
    tensors = {"b": torch.rand(2, 3).half(), "a": torch.arange(4).view(2, 2).T}
    save_weights(path, tensors, {"anigender.margin": "1.5"})
    found, metadata = read_weights(path)
    assert metadata == {"anigender.margin": "1.5"} and found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype
    assert {name: entry["shape"] for name, entry in read_header(path).items()} == {"a": [2, 2], "b": [2, 3]}
    assert [entry.name for entry in path.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "not a whole safetensors file"),
        (b"12345678", "not a whole safetensors file"),
        (lying({}, b"", length=10**18), "claims 1000000000000000000 bytes"),
        (lying({}, length=2**64 - 1), "claims 18446744073709551615 bytes"),
        (lying(b"[" * 200_000), "no JSON"),
        (lying(b'{"a":' * 200_000), "no JSON"),
        (lying(b"[]"), "no JSON object"),
        (lying(b"\xff\xfe{}"), "no JSON"),
        (lying({"a": tensor([2, 2], [0, 1_000_000])}), "not a whole safetensors file"),
        (lying({"a": tensor([2, 2], [0, 16]), "b": tensor([2, 2], [8, 24])}), "not a whole safetensors file"),
        (lying({"a": tensor([2, 2], [0, 16]), "b": tensor([2, 2], [0, 16])}), "not a whole safetensors file"),
        (lying({"a": tensor([2, 2], [16, 0])}), "not a whole safetensors file"),
        (lying({"a": tensor([2, 2], [0, 8])}, bytes(8)), "not a whole safetensors file"),
        (lying({"a": tensor([2, 2], [0, 16])}, bytes(32)), "not a whole safetensors file"),
        (lying({"a": tensor([2, 2], [0, 16])}, bytes(8)), "not a whole safetensors file"),
        (lying({"a": tensor([2**40, 2**40], [0, 16])}), "which no model needs"),
        (lying({"a": tensor([0, 10**15], [0, 0])}, b""), "which no model needs"),
        (lying({"a": tensor([-2, -2], [0, 16])}), "which no model needs"),
        (lying({"a": tensor([2.5], [0, 16])}), "which no model needs"),
        (lying({"a": "nothing"}), "which no model needs"),
        (lying({"a": tensor([2, 2], [0, 16], "F99")}), "not a whole safetensors file"),
        (lying({"a": tensor([2, 2], [0, 16]), "__metadata__": {"x": 1}}), "not a whole safetensors file"),
        (lying({"a": tensor([2, 2], [0, 16]), "__metadata__": "x"}), "not a whole safetensors file"),
    ],
)
def test_a_file_that_lies_is_refused(tmp_path: Path, contents: bytes, message: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        read_weights(path)


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as stream:  # a file with a hole: it takes no room
        stream.write(struct.pack("<Q", LONGEST_HEADER + 1))
        stream.truncate(LONGEST_HEADER + 100)
    with pytest.raises(ValueError, match="a header of 16777217 bytes, at most 16777216"):
        read_weights(path)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused_or_read(tmp_path_factory, contents: bytes, framed: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(lying(contents) if framed else contents)
    try:
        tensors, metadata = read_weights(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert tensors == {} and metadata == {}


@given(st.data())
def test_a_damaged_file_is_refused_or_of_the_same_shapes(tmp_path_factory, data) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    save_weights(path, {"a": torch.ones(3, 2), "b": torch.zeros(5)}, {"anigender.margin": "1"})
    contents = bytearray(path.read_bytes())
    contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(contents)))
    path.write_bytes(contents[:cut])
    try:
        tensors, _ = read_weights(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert cut == len(contents) and sum(value.numel() for value in tensors.values()) <= 44


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("input_size", "1000000000"),
        ("input_size", "0"),
        ("input_size", "-96"),
        ("input_size", "large"),
        ("margin", "nan"),
        ("margin", "1e9"),
        ("temperature", "0"),
        ("threshold", "2"),
        ("area", "1e15"),
        ("verifier_size", "1000000"),
        ("verifier_size", "0"),
        ("verifier_margin", "1e9"),
        ("proposal_threshold", "-1"),
        ("others_discount", "nan"),
        ("others_discount", "-3"),
        ("mean", "0.5,inf,0.5"),
        ("mean", ",".join(["0"] * 1000)),
        ("std", "0.5,0,0.5"),
        ("std", ""),
    ],
)
def test_absurd_preprocessing_is_refused(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, {"a": torch.ones(1)}, {f"anigender.{name}": text})
    with pytest.raises(ValueError, match=f"metadata anigender.{name} is .*expected numbers from"):
        read_weights(path)


@pytest.mark.parametrize(
    ("name", "contents", "expected"),
    [
        ("a.safetensors", {"anigender.kind": "classifier"}, "classifier"),
        ("a.SAFETENSORS", {"anigender.kind": "quality"}, "quality"),
        ("a.safetensors", {"format": "pt"}, ""),
        ("a.safetensors", b"nothing of the kind", ""),
        ("a.pth", {"anigender.kind": "classifier"}, ""),
        ("a.safetensors", None, ""),
    ],
)
def test_what_a_file_says_that_it_is(
    tmp_path: Path, name: str, contents: dict[str, str] | bytes | None, expected: str
) -> None:
    if isinstance(contents, bytes):
        (tmp_path / name).write_bytes(contents)
    elif contents is not None:
        save_weights(tmp_path / name, {"a": torch.zeros(1)}, contents)
    assert declared_kind(tmp_path / name) == expected


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights file"):
        read_weights(tmp_path / "absent.safetensors")
