"""Ray: the same answers as on one machine, also when a machine dies in the middle."""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from anigender.cli.inputs import Models
from anigender.cli.on_ray import everywhere
from anigender.distributed import FILES, Judge, actors, answers_in, blocks, classify_on_ray, tasks
from anigender.folders import find_images
from anigender.packed import is_picture_or_packed
from anigender.pipeline import Pipeline
from anigender.tables import rounded

ROOT = Path(__file__).parent.parent
WHY = 'Ray is not installed with the developers\' tools, since it is large: pip install "anigender[ray]"'
STORE = 80_000_000  # bytes of shared memory for each machine


# -- what needs no Ray -----------------------------------------------------------------------------------------------


def test_a_task_reads_one_shard_or_many_files() -> None:
    names = ["a.tar", *(f"{i}.png" for i in range(FILES + 1)), "b.parquet"]
    found = [list(task) for task in tasks([(Path(name), None) for name in names] + [(Path("c.tar"), "gone")])]
    assert [len(task) for task in found] == [1, FILES, 1, 2]
    assert sorted(path.name for task in found for path, _ in task) == sorted([*names, "c.tar"])


@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")
def test_blocks_hold_contents_or_reasons(tmp_path: Path, paint: Callable[[Path, str], Path]) -> None:
    pytest.importorskip("pyarrow", reason="the extra anigender[parquet]")
    paint(tmp_path / "a.png", "F")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "bad.tar").write_bytes(b"junk" * 300)
    names = ["a.png", "pipe.png", "gone.png", "bad.tar"]
    [block] = blocks([*((tmp_path / name, None) for name in names), (tmp_path / "x", "no such file or folder")])
    rows = block.to_pylist()
    assert [Path(os.fsdecode(row["path"])).name for row in rows] == [*names, "x"]
    assert rows[0]["content"] == (tmp_path / "a.png").read_bytes() and rows[0]["problem"] is None
    assert [row["content"] for row in rows[1:]] == [None] * 4
    assert "ordinary file" in rows[1]["problem"] and "no such file" in rows[2]["problem"]
    assert "damaged" in rows[3]["problem"] and rows[4]["problem"] == "no such file or folder"


def test_an_actor_says_what_one_machine_says_of_unsure_faces(
    anigender: Callable[..., Result], painted: Pipeline, tmp_path: Path, paint: Callable[[Path, str], Path]
) -> None:
    pytest.importorskip("pyarrow", reason="the extra anigender[parquet]")
    for people in ("FM", "Ff", "mM", "f"):
        paint(tmp_path / f"{people}.png", people)
    here = anigender("classify", tmp_path, "--min-confidence", "0.9")
    threads = torch.get_num_threads()
    try:
        judge = Judge(lambda: painted, 0.9)
    finally:
        torch.set_num_threads(threads)
    answers = [row for block in blocks(list(find_images([tmp_path]))) for row in judge(block).to_pylist()]
    assert [rounded(row) for row in answers] == [json.loads(line) for line in here.stdout.splitlines()]
    assert {Path(row["image"]).stem: row["tags"] for row in answers if row["tags"]} == {"FM": ["1girl", "1boy"]}


@pytest.mark.parametrize(
    ("machines", "use_gpus", "most", "own"),
    [
        ([{"CPU": 1}], True, 1, {"num_cpus": 0.5}),
        ([{"CPU": 16}, {"CPU": 16}, {}], True, 32, {"num_cpus": 0.5}),
        ([], True, 1, {"num_cpus": 0.5}),  # a cluster that grows when it is asked
        ([{"CPU": 32, "GPU": 4}, {"CPU": 16, "GPU": 1}, {"CPU": 96}], True, 5, {"num_gpus": 1, "num_cpus": 7}),
        ([{"CPU": 2, "GPU": 4}], True, 4, {"num_gpus": 1, "num_cpus": 1}),
        ([{"CPU": 32, "GPU": 4}], False, 32, {"num_cpus": 0.5}),
    ],
)
def test_what_actors_take(machines: list[dict[str, float]], use_gpus: bool, most: int, own: dict[str, float]) -> None:
    assert actors(machines, use_gpus) == (most, own)


def test_models_are_named_by_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.xml").touch()
    for given, expected in [("a.xml", f"{tmp_path}/a.xml"), ("lbp:a.xml", f"lbp:{tmp_path}/a.xml"), ("auto", "auto")]:
        assert everywhere(Models(detector=given, classifier=given)) == Models(expected, expected)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--ray"], "--output FOLDER"),
        (["--ray", "nowhere", "-o", "out"], "not an address"),
        (["--ray", "in"], "not an address"),
        (["-o", "out", "--resume", "store", "--ray"], "--shard"),
        (["-o", "absent/out", "--ray"], "no folder absent"),
    ],
)
def test_wrong_usage(
    anigender: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], part: str
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    refused = anigender("classify", "in", *arguments, status=2)
    assert part in refused.stderr and os.listdir(tmp_path) == ["in"]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason=WHY)
def test_a_folder_that_is_there_already_is_left_alone(anigender: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    refused = anigender("classify", tmp_path, "-o", tmp_path / "out", "--ray", status=2)
    assert "exists already" in refused.stderr and os.listdir(tmp_path / "out") == ["mine.txt"]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason=WHY)
def test_nothing_found_is_an_empty_folder(tmp_path: Path) -> None:
    classify_on_ray([], tmp_path / "out", pytest.fail)
    assert list(answers_in(tmp_path / "out")) == []
    with pytest.raises(FileExistsError, match="name another"):
        classify_on_ray([], tmp_path / "out", pytest.fail)


def test_without_ray_the_extra_is_named(
    anigender: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray.data", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    refused = anigender("classify", tmp_path, "-o", tmp_path / "out", "--ray", status=2)
    assert 'python -m pip install "ray[data]" pyarrow' in refused.stderr


# -- on a cluster ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that works on nothing, and two workers; all on this machine, each with processes of its own."""
    pytest.importorskip("ray.data", reason=WHY)
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ |= {"RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    made = Cluster()
    try:
        try:
            made.add_node(**head)
            made.workers = [made.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(2)]
            made.wait_for_nodes()
        except Exception as error:  # what Ray raises after 30 seconds, which cannot be changed
            if "timed out during startup" not in str(error):
                raise
            pytest.skip("this machine is too busy: Ray's processes did not start within Ray's 30 seconds")
        yield made
    finally:
        made.shutdown()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def connected(cluster: Any) -> Iterator[Any]:
    """The cluster, with this process connected to it."""
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()


def write_inputs(folder: Path, paint: Callable[[Path, str], Path], shards: int, each: int) -> Path:
    """Pictures in a folder, in tars and in Parquet files; some of it broken."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra anigender[parquet]")
    parquet = pytest.importorskip("pyarrow.parquet")
    files = [paint(folder / "loose" / f"{i:03}.png", "FMfm"[i % 4]) for i in range(each)]
    for shard in range(shards):
        with tarfile.open(folder / f"s{shard:02}.tar", "w") as tar:
            for file in files:
                tar.add(file, file.name)
    parquet.write_table(pyarrow.table({"image": [file.read_bytes() for file in files]}), folder / "p.parquet")
    (folder / "broken.png").write_bytes(b"junk")
    (folder / "cut.tar").write_bytes((folder / "s00.tar").read_bytes()[:3000])
    return folder


def rows_of(output: Path) -> list[dict[str, Any]]:
    if output.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return [rounded(row) for file in output.iterdir() for row in parquet.read_table(file).to_pylist()]
    return [json.loads(line) for file in output.iterdir() for line in file.read_text().splitlines()]


def test_the_command_line_on_a_cluster_says_what_one_machine_says(
    cluster: Any, tmp_path: Path, paint: Callable[[Path, str], Path]
) -> None:
    folder = write_inputs(tmp_path / "in", paint, 2, 10)
    command = [sys.executable, "-m", "anigender", "classify", str(folder), str(tmp_path / "gone.png"), "--recursive"]
    command += ["--detector", "whole-image", "--device", "cpu"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=200, cwd=ROOT)

    here = run()
    expected = {row["image"]: row for row in map(json.loads, here.stdout.splitlines())}
    there = run("-o", str(tmp_path / "out.parquet"), "--ray", cluster.address)
    assert there.returncode == 1 and "Traceback" not in there.stderr, there.stderr
    rows = rows_of(tmp_path / "out.parquet")
    assert {row["image"]: row for row in rows} == expected and len(rows) == len(expected)
    failed = [line for line in there.stderr.splitlines() if line.startswith("failed: ")]
    assert sorted(failed) == sorted(line for line in here.stderr.splitlines() if line.startswith("failed: "))
    assert len(failed) == 3 and f"3 of {len(expected)} inputs failed" in there.stderr
    assert sorted(os.listdir(tmp_path)) == ["in", "out.parquet"]


def test_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(
    connected: Any, tmp_path: Path, paint: Callable[[Path, str], Path]
) -> None:
    folder = write_inputs(tmp_path / "in", paint, 8, 24)
    (tmp_path / "seen").mkdir()
    marks = str(tmp_path / "seen")

    def load() -> Any:  # inside the test, so that it travels to the workers by value
        import anigender

        pipeline = anigender.load("whole-image", device="cpu")
        detect = pipeline.detector.detect
        node = ray_node()

        def marked(batch: Any) -> Any:
            time.sleep(0.1)
            Path(marks, f"{node}_{time.monotonic_ns()}").touch()
            return detect(batch)

        pipeline.detector.detect = marked
        return pipeline

    def ray_node() -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())

    output = tmp_path / "out.jsonl"
    found = list(find_images([folder], True, is_picture_or_packed))
    failure: list[BaseException] = []

    def run() -> None:
        try:
            classify_on_ray(found, output, load, batch=4)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    killed = None
    deadline = time.monotonic() + 200
    while thread.is_alive() and killed is None and time.monotonic() < deadline:
        counts = collections.Counter(name.split("_")[0] for name in os.listdir(marks))
        for worker in connected.workers:  # one that is at work, and has not long begun
            if counts[worker.node_id] >= 5:
                connected.remove_node(worker, allow_graceful=False)
                killed = worker
                before = sum(counts.values())
                break
        time.sleep(0.02)
    thread.join(300)
    connected.workers.remove(killed)
    connected.workers.append(connected.add_node(num_cpus=1, object_store_memory=STORE))
    assert not failure, failure
    assert killed is not None and before < 8 * 24 // 4, "the worker was not killed in the middle"
    counts = collections.Counter(name.split("_")[0] for name in os.listdir(marks))
    assert set(counts) - {killed.node_id}, "nobody took over"
    images = [str(path) for path, _ in answers_in(output)]
    assert images == [row["image"] for row in rows_of(output)]
    assert len(images) == len(set(images))
    whole = 24 + 8 * 24 + 24  # loose, in tars, in Parquet
    parts = [image for image in images if "cut.tar" in image]
    assert len(images) - len(parts) == whole + 1 and len(parts) >= 2  # and the broken one
