"""Going on from a store of results: only what is new or changed is done, and the answer is that of one whole run."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from torch import nn

from anigender import folders
from anigender.classify import load_classifier
from anigender.classify.resnet import ResNet, Stage
from anigender.cli.inputs import Inputs, Models
from anigender.cli.resuming import identity, settings
from anigender.pipeline import Pipeline
from anigender.store import ResultStore
from anigender.tables import rounded
from anigender.weights import save_weights

PEOPLE = {"a.png": "F", "b.png": "FM", "c.png": ".", "d.png": "MM", "sub/e.png": "f", "sub/g.png": "m"}


@pytest.fixture
def folder(tmp_path: Path, paint: Callable[[Path, str], Path]) -> Path:
    """Pictures of every mixture, some in a subfolder, and one that is broken."""
    for name, people in PEOPLE.items():
        paint(tmp_path / "in" / name, people)
    (tmp_path / "in" / "z.png").write_bytes(b"junk")
    return tmp_path / "in"


@pytest.fixture
def looked_at(painted: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of pictures whenever the detector is asked."""
    counts: list[int] = []
    detect = painted.detector.detect

    def counted(batch: Any) -> Any:
        counts.append(len(batch.sizes))
        return detect(batch)

    monkeypatch.setattr(painted.detector, "detect", counted)
    return counts


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def shard_of(folder: Path, path: Path) -> Path:
    """The pictures of a folder as a tar."""
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.rglob("*.png")):
            tar.add(file, file.relative_to(folder).as_posix())
    return path


def table_of(folder: Path, path: Path, group: int = 3) -> Path:
    """The pictures of a folder as a Parquet file."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra anigender[parquet] reads and writes Parquet files")
    parquet = pytest.importorskip("pyarrow.parquet")
    contents = [file.read_bytes() for file in sorted(folder.rglob("*.png"))]
    parquet.write_table(pyarrow.table({"image": contents}), path, row_group_size=group)
    return path


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
@pytest.mark.parametrize("by_content", [False, True])
def test_a_second_run_looks_at_nothing_and_says_the_same(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, looked_at: list[int], kind: str, by_content: bool
) -> None:
    given = folder
    if kind != "folder":
        given = (shard_of if kind == "tar" else table_of)(folder, tmp_path / f"s.{kind}")
    arguments = ["classify", given, "-r"]
    plain = anigender(*arguments, status=1)
    looked_at.clear()
    arguments += ["--resume", tmp_path / "store", *(["--by-content"] if by_content else [])]
    first = anigender(*arguments, status=1)
    assert sum(looked_at) == len(PEOPLE)
    second = anigender(*arguments, status=1)
    assert sum(looked_at) == len(PEOPLE)
    assert first.stdout == second.stdout == plain.stdout
    assert first.stderr == second.stderr == plain.stderr
    with ResultStore(tmp_path / "store") as store:
        assert (len(store), store.failures()) == (len(PEOPLE) + 1, 1)


def test_only_what_changed_is_done_again(
    anigender: Callable[..., Result],
    folder: Path,
    tmp_path: Path,
    looked_at: list[int],
    paint: Callable[[Path, str], Path],
) -> None:
    arguments = ("classify", folder, "-r", "--resume", tmp_path / "store")
    anigender(*arguments, status=1)
    looked_at.clear()
    paint(folder / "b.png", "MMM")  # changed
    paint(folder / "n.png", "F")  # new
    paint(folder / "z.png", "f")  # mended
    (folder / "d.png").unlink()  # gone
    os.utime(folder / "a.png", ns=(0, 0))  # written to at another time, before: a clock that went back
    found = anigender(*arguments)
    assert sum(looked_at) == 4
    assert found.stdout == anigender("classify", folder, "-r").stdout
    assert [Path(line["image"]).name for line in lines(found)] == [
        "a.png", "b.png", "c.png", "n.png", "e.png", "g.png", "z.png"
    ]  # fmt: skip


def test_moved_and_copied_pictures_are_known_by_content(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, looked_at: list[int]
) -> None:
    arguments = ("-r", "--resume", tmp_path / "store", "--by-content")
    anigender("classify", folder, *arguments, status=1)
    looked_at.clear()
    (folder / "a.png").rename(folder / "sub" / "moved.png")
    shutil.copy(folder / "b.png", folder / "copy.png")
    os.utime(folder / "c.png", ns=(0, 0))
    found = anigender("classify", folder, *arguments, status=1)
    assert sum(looked_at) == 0
    assert found.stdout == anigender("classify", folder, "-r", status=1).stdout


def test_one_store_serves_both_commands_and_every_confidence(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, looked_at: list[int]
) -> None:
    resume = ("-r", "--resume", tmp_path / "store")
    anigender("classify", folder, *resume, status=1)
    looked_at.clear()
    sure = anigender("classify", folder, *resume, "--min-confidence", 0.9, status=1)
    tagged = anigender("tag", folder, *resume, status=1)
    assert sum(looked_at) == 0
    assert sure.stdout == anigender("classify", folder, "-r", "--min-confidence", 0.9, status=1).stdout
    assert (folder / "b.txt").read_text() == "1girl, 1boy" and not (folder / "c.txt").exists()
    assert tagged.stdout.count("written") == 5
    again = anigender("tag", folder, *resume, "--mode", "append", status=1)
    assert again.stdout.count("unchanged") == len(PEOPLE)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--min-detection", 0.77], "detector threshold was"),
        (["--classifier", "mine.safetensors"], "classifier was"),
        (["--whole-image"], "detector was"),
        (["--precision", "float32"], "precision was"),
    ],
)
def test_results_of_other_settings_are_never_mixed(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, options: list[Any], part: str
) -> None:
    arguments = ("classify", folder, "--resume", tmp_path / "store")
    anigender(*arguments, "--min-detection", 0.35, status=1)
    refused = anigender(
        *arguments, *(["--min-detection", 0.35] if options[0] != "--min-detection" else []), *options, status=2
    )
    assert part in refused.stderr and "another file" in refused.stderr and refused.stdout == ""


def test_what_a_net_was_built_with_is_a_setting(tmp_path: Path, painted: Pipeline) -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    net = ResNet([Stage(1, 8, 8)] * 4, False, width=8, head=head)
    declared = {"input_size": "32", "margin": "1.2", "mean": "0,0,0", "std": "1,1,1"}
    save_weights(tmp_path / "net.safetensors", net.state_dict(), {f"anigender.{k}": v for k, v in declared.items()})

    def told(**given: str) -> dict[str, str]:
        classifier = load_classifier(tmp_path / "net.safetensors", settings=given)
        models = Models(classifier=str(tmp_path / "net.safetensors"))
        return settings(Inputs((tmp_path,), False, 4, Pipeline(painted.detector, classifier), models))

    plain = told()
    assert told(head_activation="gelu") == {**plain, "classifier head_activation": "gelu"}
    # Nothing is added where nothing is declared: stores of earlier versions can be gone on with.
    assert "classifier head_activation" not in plain and "classifier stem" not in plain


def test_weights_beside_an_onnx_model_are_part_of_what_it_is(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the package onnx writes the model of this test")
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    path = tmp_path / "net.onnx"
    graph = onnx.helper.make_graph([], "graph", [], [], [tensor])
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    found = set()
    for content in (bytes(16), bytes(15) + b"x"):
        (tmp_path / "weights.bin").write_bytes(content)
        found.add(identity(str(path), "classifier"))
        assert identity(f"yolo:{path}", "detector") in found
    assert len(found) == 2 and len({text.partition("+")[0] for text in found}) == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--by-content"], "--resume STORE"),
        (["--resume", "in"], "is a directory"),
        (["--resume", "in/a.png"], "another file; it was left as it is"),
        (["--resume", "absent/store"], "no folder absent"),
        (["--shard", "0/4"], "1/8, 2/8"),
        (["--shard", "5"], "PART/PARTS"),
    ],
)
@pytest.mark.parametrize("command", ["classify", "tag"])
def test_wrong_usage(
    anigender: Callable[..., Result],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    arguments: list[str],
    part: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    before = (folder / "a.png").read_bytes()
    refused = anigender(command, "in", *arguments, status=2)
    assert part in " ".join(refused.stderr.split())
    assert (folder / "a.png").read_bytes() == before and not (folder / "a.txt").exists()


def test_an_empty_folder_makes_an_empty_store(anigender: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert "no pictures found" in anigender("tag", tmp_path / "in", "--resume", tmp_path / "store").stderr
    with ResultStore(tmp_path / "store") as store:
        assert len(store) == 0


def test_the_parts_are_disjoint_and_complete(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = anigender("classify", folder, "-r", status=1)
    parts = [anigender("classify", folder, "-r", "--shard", f"{i}/3", status=None).stdout for i in (1, 2, 3)]
    found = [line for part in parts for line in part.splitlines()]
    assert sorted(found) == sorted(whole.stdout.splitlines()) and max(map(len, parts)) < len(whole.stdout)
    shutil.copytree(folder, tmp_path / "elsewhere" / "mounted")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for i, part in enumerate(parts):
        elsewhere = lines(anigender("classify", "mounted", "-r", "--shard", f"{i + 1}/3", status=None))
        names = [os.path.relpath(json.loads(line)["image"], folder) for line in part.splitlines()]
        assert [os.path.relpath(line["image"], "mounted") for line in elsewhere] == names


@pytest.mark.parametrize("command", ["tag", "classify"])
def test_a_missing_folder_fails_on_every_machine(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, command: str
) -> None:
    for i in range(1, 5):
        result = anigender(command, tmp_path / "absent", folder / "a.png", "-r", "--shard", f"{i}/4", status=1)
        assert f"failed: {tmp_path / 'absent'}: no such file or folder" in result.stderr


def test_a_parquet_table_says_what_the_lines_say(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra anigender[parquet] writes Parquet files")
    expected = lines(anigender("classify", folder, "-r", status=1))
    result = anigender("classify", folder, "-r", "-o", tmp_path / "out.parquet", status=1)
    assert result.stdout == "" and sorted(os.listdir(tmp_path)) == ["in", "out.parquet"]
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [rounded(row) for row in rows] == expected and any(len(row["faces"]) == 2 for row in rows)
    anigender("classify", folder / "c.png", "-o", tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 1
    (folder / "empty").mkdir()
    anigender("classify", folder / "empty", "-o", tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 0


def test_without_pyarrow_no_table_is_begun(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    refused = anigender("classify", folder, "-o", tmp_path / "out.parquet", status=2)
    assert "python -m pip install pyarrow" in refused.stderr and not (tmp_path / "out.parquet").exists()


def test_shards_are_for_classify(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    shard = shard_of(folder, tmp_path / "s.tar")
    for command in ("tag", "show"):
        refused = anigender(command, shard, status=1)
        assert "read by `anigender classify` only" in refused.stdout + refused.stderr
    assert sorted(os.listdir(tmp_path)) == ["in", "s.tar"]


def test_a_folder_of_shards_and_tables(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    """Tables without pictures, such as a dataset's metadata or former results, are no shards unless they are named."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra anigender[parquet] reads and writes Parquet files")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "shards").mkdir()
    shard_of(folder, tmp_path / "shards" / "a.tar")
    whole = shard_of(folder, tmp_path / "shards" / "b.tar").read_bytes()
    (tmp_path / "shards" / "b.tar").write_bytes(whole[:2000])
    table_of(folder, tmp_path / "shards" / "c.parquet")
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "shards" / "metadata.parquet")
    options = ("--output", tmp_path / "shards" / "results.parquet")
    for _ in range(2):
        result = anigender("classify", tmp_path / "shards", *options, status=1)
        rows = parquet.read_table(tmp_path / "shards" / "results.parquet").to_pylist()
        kinds = [Path(row["image"]).relative_to(tmp_path / "shards").parts[0] for row in rows]
        assert kinds == ["a.tar"] * 7 + ["b.tar"] * kinds.count("b.tar") + ["c.parquet"] * 7
        assert "b.tar: the tar file is damaged or cut off" in result.stderr
        assert "metadata" not in result.stderr
    refused = anigender("classify", tmp_path / "shards" / "metadata.parquet", status=1)
    assert "no column of bytes (text)" in refused.stderr


@pytest.mark.parametrize(("given", "total"), [(["in"], 5), (["in", "s.tar"], None)])
def test_whoever_watches_sees_how_far_it_is(
    painted: Pipeline,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    total: int | None,
) -> None:
    shard_of(folder, tmp_path / "s.tar")
    bars: list[Any] = []
    monkeypatch.setattr("anigender.cli.inputs.tqdm", lambda found, **options: bars.append(options["total"]) or found)
    monkeypatch.setattr("sys.stderr", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    inputs = Inputs(tuple(tmp_path / name for name in given), False, 4, painted, Models())
    inputs.packed = True
    assert len(list(inputs.results())) == (5 if total else 12)
    assert bars == [total]


def test_a_changed_shard_is_read_anew(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, looked_at: list[int]
) -> None:
    shard = shard_of(folder, tmp_path / "s.tar")
    arguments = ("classify", shard, "--resume", tmp_path / "store")
    anigender(*arguments, status=1)
    with tarfile.open(shard, "a") as tar:
        entry = tarfile.TarInfo("new.png")
        entry.size = (folder / "a.png").stat().st_size
        tar.addfile(entry, io.BytesIO((folder / "a.png").read_bytes()))
    looked_at.clear()
    assert len(lines(anigender(*arguments, status=1))) == 8 and sum(looked_at) == 7


def test_files_that_change_or_vanish_while_they_are_read(
    anigender: Callable[..., Result],
    folder: Path,
    tmp_path: Path,
    looked_at: list[int],
    monkeypatch: pytest.MonkeyPatch,
    paint: Callable[[Path, str], Path],
) -> None:
    size = folders.picture_size

    def meddling(source: Any) -> Any:
        if Path(source).name == "b.png":  # after the store was asked, before the picture is decoded
            paint(folder / "b.png", "MMM")
        if Path(source).name == "d.png":
            (folder / "d.png").unlink()
        return size(source)

    arguments = ("classify", folder, "-r", "--resume", tmp_path / "store")
    monkeypatch.setattr(folders, "picture_size", meddling)
    first = anigender(*arguments, status=1)
    assert f"failed: {folder / 'd.png'}: no such file or directory" in first.stderr.splitlines()
    monkeypatch.setattr(folders, "picture_size", size)
    looked_at.clear()
    second = anigender(*arguments, status=1)
    assert sum(looked_at) == 1  # the one that had changed under the first run's eyes
    assert [len(line["faces"]) for line in lines(second)] == [1, 3, 0, 1, 1, 0]
    assert sum(looked_at) == 1 and second.stdout == anigender(*arguments, status=1).stdout and sum(looked_at) == 1


def test_records_of_what_is_gone_are_forgotten_when_asked(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    shards = [shard_of(folder, tmp_path / name) for name in ("kept.tar", "gone.tar")]
    anigender("classify", folder, *shards, "-r", "--resume", tmp_path / "store", status=1)
    assert anigender("store", tmp_path / "store").stdout == "21 pictures, 3 of them could not be read\n"
    shards[1].unlink()
    (folder / "a.png").unlink()
    (folder / "z.png").unlink()
    shutil.rmtree(folder / "sub")
    told = anigender("store", tmp_path / "store", "--forget-missing")
    assert told.stdout == "10 pictures, 1 of them could not be read\n" and "11 forgotten" in told.stderr
    assert f"forgotten: {folder / 'a.png'}" in told.stderr.splitlines()
    with ResultStore(tmp_path / "store") as store:
        names = {path.relative_to(tmp_path).parts[0] for path in store.paths()}
    assert names == {"in", "kept.tar"}


@pytest.mark.parametrize(("name", "part"), [("absent", "does not exist"), ("in/a.png", "another file")])
def test_what_is_no_store(anigender: Callable[..., Result], folder: Path, name: str, part: str) -> None:
    refused = anigender("store", folder.parent / name, status=None)
    assert refused.exit_code and part in refused.stderr
