"""Checkpoints of other people: every usual file type is read, and nothing in one of them runs or takes the memory."""

from __future__ import annotations

import io
import os
import pickle
import resource
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from anigender.checkpoints import ALLOWED, read_checkpoint

STATE = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "steps": torch.tensor(7)}
PARAMETERS = OrderedDict({name: torch.nn.Parameter(t, requires_grad=False) for name, t in STATE.items()})


def equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net"])
def test_the_type_is_told_by_the_content(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name, {"anigender.mean": "0,0,0"})
    tensors, metadata = read_checkpoint(tmp_path / name)
    assert equal(tensors, STATE) and metadata == {"anigender.mean": "0,0,0"}


def test_a_header_whose_length_looks_like_a_pickle_is_none(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    for padding in range(400, 700):
        save_file(STATE, path, {"note": "x" * padding})
        if path.read_bytes()[:2] == b"\x80\x02":
            break
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert equal(read_checkpoint(path)[0], STATE)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        STATE,
        PARAMETERS,
        {"state_dict": STATE, "epoch": 3, "arch": "resnet18"},
        {"model": {"state_dict": STATE}, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "lr": 0.1}},
        {"epoch": 1, "my_own_name": PARAMETERS},
        {"net": STATE, "best": None, "shape": torch.Size([1]), "device": torch.device("cpu"), "dtype": torch.float16},
        {"best_acc1": torch.tensor(76.1), "state_dict": STATE, "epoch": 90},
        {"rng_state": torch.zeros(16, dtype=torch.uint8), "model": STATE},
        {"ema": {"a": torch.ones(1)}, "model": STATE, "best": torch.tensor(0.5)},
        {"module": {"best": torch.tensor(0.5), "net": STATE}},
    ],
    ids=[
        *("plain", "parameters", "state_dict", "nested", "unknown wrapper", "plain values"),
        *("best accuracy", "random numbers", "two wrappers", "nested, with a tensor"),
    ],
)
def test_files_of_torch_save(tmp_path: Path, content: Any, suffix: str, zipped: bool) -> None:
    torch.save(content, tmp_path / f"net{suffix}", _use_new_zipfile_serialization=zipped)
    tensors, metadata = read_checkpoint(tmp_path / f"net{suffix}")
    assert equal(tensors, STATE) and metadata == {}
    assert not any(value.requires_grad for value in tensors.values())


def test_views_of_one_storage_are_read(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    torch.save({"a": whole[:3], "b": whole[3:], "c": whole.reshape(2, 3).T}, tmp_path / "net.pth")
    found = read_checkpoint(tmp_path / "net.pth")[0]
    assert equal(found, {"a": whole[:3], "b": whole[3:], "c": whole.reshape(2, 3).T})


def test_the_metadata_of_a_pickle_becomes_text(tmp_path: Path) -> None:
    own = {"anigender.mean": [0.5, 0.4, 0.3], "anigender.input_size": 64, "anigender.labels": "male,female", "net": {}}
    torch.save({"state_dict": STATE, "metadata": own, "anigender.std": (1, 1, 1)}, tmp_path / "net.pth")
    assert read_checkpoint(tmp_path / "net.pth")[1] == {
        "anigender.mean": "0.5,0.4,0.3",
        "anigender.input_size": "64",
        "anigender.labels": "male,female",
        "anigender.std": "1,1,1",
    }


# -- what is refused ---------------------------------------------------------------------------------------------------


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


WRITERS: dict[str, Callable[[Any, Path], None]] = {
    "zip": lambda content, path: torch.save(content, path),
    "zip of protocol 4": lambda content, path: torch.save(content, path, pickle_protocol=4),
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    **{f"pickle {p}": lambda content, path, p=p: path.write_bytes(pickle.dumps(content, p)) for p in (2, 3, 4, 5)},
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, writer: str, suffix: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / f"net{suffix}"
    WRITERS[writer]({"state_dict": STATE, "hook": Evil(mark)} if "pickle" not in writer else Evil(mark), path)
    with pytest.raises(ValueError, match="mkdir.*save model.state_dict\\(\\) with safetensors") as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value) and not mark.exists()
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()  # so that the file would have done it


def test_a_whole_model_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"torch.nn.modules.linear.Linear\), which is not loaded"):
        read_checkpoint(tmp_path / "net.pth")


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}.")
        archive.writestr("net/code/__torch__.py", b"")
    with pytest.raises(ValueError, match="TorchScript program"):
        read_checkpoint(tmp_path / "net.pt")


def rewritten(content: Any, change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A file of torch.save with another pickle in it."""
    before, after = io.BytesIO(), io.BytesIO()
    torch.save(content, before)
    with zipfile.ZipFile(before) as source, zipfile.ZipFile(after, "w", compression) as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) if name.endswith("data.pkl") else data)
    return after.getvalue()


def lying(data: bytes) -> bytes:
    """Four elements become a billion, in the storage and in the shape."""
    many = b"J" + (10**9).to_bytes(4, "little")
    return data.replace(b"K\x04tq\x07Q", many + b"tq\x07Q").replace(b"K\x04\x85q\x08", many + b"\x85q\x08")


HUGE = (1 << 30).to_bytes(4, "little")
BOMBS: dict[str, tuple[bytes, str]] = {
    "expanded": (b"", "claims the shape"),
    "lying storage": (rewritten({"a": torch.zeros(4)}, lying), "not a whole checkpoint"),
    "compressed": (rewritten(STATE, bytes, zipfile.ZIP_DEFLATED), "holds compressed files"),
    "bytearray": (rewritten(STATE, lambda _: b"\x80\x02cbuiltins\nbytearray\nJ" + HUGE + b"\x85R."), "bytearray"),
    "tensor": (rewritten(STATE, lambda _: b"\x80\x02ctorch\nFloatTensor\nJ" + HUGE + b"\x85R."), "FloatTensor"),
    "long pickle": (rewritten(STATE, lambda _: b"\x80\x02" + b"N0" * (9 << 20) + b"}."), "too many to be a state dict"),
    "long legacy pickle": (b"\x80\x02" + b"N0" * (1 << 20) + b"}.", "far longer than a state dict's"),
    "lying text": (b"\x80\x02\x8d" + (1 << 60).to_bytes(8, "little") + b"abc", "cut off or no checkpoint"),
    "header": ((1 << 62).to_bytes(8, "little") + b"{}", "not a whole safetensors file"),
    "lying header": (
        (lambda text: len(text).to_bytes(8, "little") + text)(
            b'{"a":{"dtype":"F32","shape":[1000000000,1000],"data_offsets":[0,4000000000000]}}'
        ),
        "not a whole safetensors file",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_files_that_claim_more_than_they_hold_are_refused_in_little_memory(tmp_path: Path, name: str) -> None:
    content, message = BOMBS[name]
    path = tmp_path / ("net.safetensors" if "header" in name else "net.pth")
    if name == "expanded":
        torch.save({"a": torch.zeros(1).expand(1 << 40)}, path)
    else:
        path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # kilobytes


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, zipped: bool, share: float) -> None:
    path = tmp_path / "net.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match="copy or download it again"):
        read_checkpoint(path)


def of_a_later_zip() -> bytes:
    """An archive that says a later version of the format is needed to read it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    content = bytearray(stream.getvalue())
    content[content.index(b"PK\x01\x02") + 6] = 64
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with b''"),
        (b"<!DOCTYPE html><html>", "starts with b'<!DOCTYP'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "starts with b'version '"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5 file .Keras"),
        (b"PK\x03\x04" + bytes(100), "cut off or broken"),
        (of_a_later_zip(), "cut off or broken .zip file version 6.4"),
    ],
)
def test_what_is_no_checkpoint_is_explained(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "net.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 1}, [1, 2], torch.zeros(3), {"model": {"epoch": 1}}, {3: 4}])
def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="holds no state dict .seen: "):
        read_checkpoint(tmp_path / "net.pth")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights file .*absent.pth"):
        read_checkpoint(tmp_path / "absent.pth")


def test_everything_allowed_is_accepted_by_the_restricted_loader_too() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    names = {name.replace("__builtin__", "builtins") for name in ALLOWED}
    assert names <= set(_get_allowed_globals())
