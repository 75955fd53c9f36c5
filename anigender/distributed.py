"""The same run on many machines, by Ray Data: it spreads the files, keeps the pipelines busy, and repeats what is lost.

A block of pictures goes from a reading task to an actor that holds a pipeline, and its answers to a writing task. Ray
restarts actors and repeats tasks whose machine dies; the name of an output file follows from its task, so a repeated
task replaces its file and nothing is there twice. The files must be seen under the same paths by every machine.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .folders import Known, process
from .packed import is_packed, unpacked
from .packed.limits import LARGEST_PICTURE, too_large
from .packed.parquet import pyarrow_parquet
from .pipeline import Pipeline
from .records import line, record_of_sure
from .tables import ROWS, rounded, schema, table

if TYPE_CHECKING:
    import pyarrow

INSTALL = 'running on Ray needs Ray Data: python -m pip install "ray[data]" pyarrow'
FILES = 256  # that one task reads; a shard has a task of its own
BLOCK = 16_000_000  # bytes of pictures in a block
SHARE = 0.25  # of a CPU for reading or writing: that leaves an actor room on a machine with one

Found = Sequence["tuple[Path, str | None]"]


def ray_data() -> Any:
    """The module ``ray.data``.

    Raises:
        ImportError: it is not installed; the message says what to install.
    """
    # Ray reports to its makers what it is used for unless it is told not to; nothing is to leave this machine.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray.data
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return ray.data


def classify_on_ray(
    found: Iterable[tuple[Path, str | None]],
    output: Path,
    load: Callable[[], Pipeline],
    minimum_confidence: float = 0.5,
    batch: int = 16,
    use_gpus: bool = True,
    progress: bool = False,
) -> None:
    """Classify files on the Ray cluster that this process is connected to (``ray.init``).

    Args:
        found: files, pictures and shards (see :mod:`anigender.packed`), or why there are none. Their absolute paths
            are taken: every machine has a working folder of its own.
        output: a folder that this makes, of Parquet files where its name ends in ``.parquet``, else of JSON lines; it
            appears when everything is done. It must be seen by every machine.
        load: makes the pipeline on an actor.
        minimum_confidence: faces whose gender is less sure are left out, and their pictures not counted.
        batch: pictures that an actor works on at once.
        use_gpus: give each actor a GPU, where the cluster has any; the machines without then only read and write.
        progress: show Ray's progress bars.

    Raises:
        ImportError: Ray Data or pyarrow is not installed.
        FileExistsError: there is something at ``output``.
        OSError: the folder cannot be made.
        ray.exceptions.RayError: Ray gave up.
    """
    data = ray_data()
    schema()
    output = output.absolute()
    files = tuple((path.absolute(), problem) for path, problem in found)
    if output.exists():
        raise FileExistsError(f"{output} exists already: a run on Ray makes a folder, name another")
    if not files:
        output.mkdir()
        return
    context = data.DataContext.get_current()
    context.enable_progress_bars = progress
    context.target_max_block_size = 2 * BLOCK
    import ray

    most, own = actors([node["Resources"] for node in ray.nodes() if node["Alive"]], use_gpus)
    answers = data.read_datasource(_datasource(files), num_cpus=SHARE).map_batches(
        Judge,
        fn_constructor_args=(load, minimum_confidence),
        batch_size=batch,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(min_size=1, max_size=most),
        **own,
    )
    unfinished = output.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        if output.suffix.lower() == ".parquet":
            answers.write_parquet(
                str(unfinished), min_rows_per_file=ROWS, compression="zstd", ray_remote_args={"num_cpus": SHARE}
            )
        else:
            answers.write_datasink(_json_lines(str(unfinished)), ray_remote_args={"num_cpus": SHARE})
        unfinished.mkdir(exist_ok=True)  # where shards held no pictures
        os.rename(unfinished, output)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def actors(machines: Sequence[Mapping[str, float]], use_gpus: bool = True) -> tuple[int, dict[str, float]]:
    """How many pipelines a cluster has room for, and what each takes.

    Args:
        machines: the resources of each, as Ray names them: ``CPU``, ``GPU``.
        use_gpus: whether GPUs are wanted.

    Returns:
        The most actors, and the arguments of ``map_batches`` that say what one takes.

    >>> actors([{"CPU": 8, "GPU": 1}, {"CPU": 64}]), actors([{"CPU": 2}, {"CPU": 2}])
    ((1, {'num_gpus': 1, 'num_cpus': 7}), (4, {'num_cpus': 0.5}))
    """
    with_gpus = [machine for machine in machines if machine.get("GPU", 0) >= 1] if use_gpus else []
    if not with_gpus:
        return max(1, int(sum(machine.get("CPU", 0) for machine in machines))), {"num_cpus": 1 - 2 * SHARE}
    # It decodes in threads and may have the CPUs of its machine, less one for reading and writing.
    room = min(machine.get("CPU", 0) // machine["GPU"] for machine in with_gpus)
    return int(sum(machine["GPU"] for machine in with_gpus)), {"num_gpus": 1, "num_cpus": max(1, int(room) - 1)}


class Judge:
    """What an actor does: it holds a pipeline, and turns tables of pictures into tables of answers."""

    def __init__(self, load: Callable[[], Pipeline], minimum_confidence: float) -> None:
        import torch

        self.pipeline = load()
        self.minimum_confidence = minimum_confidence
        self.threads: int | None = None
        if self.pipeline.classifier.device.type == "cpu":  # there is an actor for each CPU
            torch.set_num_threads(1)
            self.threads = 1

    def __call__(self, pictures: pyarrow.Table) -> pyarrow.Table:
        """Answers for the rows of :func:`blocks`, as :func:`anigender.tables.schema` has them."""
        rows = zip(*(pictures.column(name).to_pylist() for name in ("path", "content", "problem")), strict=True)
        found: Iterator[tuple[Path, Known]] = (
            (Path(os.fsdecode(path)), content if problem is None else problem) for path, content, problem in rows
        )
        results = process(found, self.pipeline, max(1, len(pictures)), self.threads)
        return table([record_of_sure(result, self.minimum_confidence) for result in results])


def tasks(found: Iterable[tuple[Path, str | None]]) -> Iterator[Found]:
    """The files that each reading task takes: one shard, or many pictures."""
    waiting: list[tuple[Path, str | None]] = []
    for path, problem in found:
        if problem is None and is_packed(path.name):
            yield [(path, problem)]
            continue
        waiting.append((path, problem))
        if len(waiting) == FILES:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def blocks(found: Found) -> Iterator[pyarrow.Table]:
    """What a reading task gives: tables of paths with contents, or with the reason why there are none."""
    import pyarrow

    names = ("path", "content", "problem")
    kind = pyarrow.schema(list(zip(names, (pyarrow.binary(), pyarrow.binary(), pyarrow.string()), strict=True)))
    rows: list[tuple[bytes, bytes | None, str | None]] = []
    size = 0
    for path, known in unpacked(iter(found)):
        content: Known = known
        if known is None:
            content = _content(path)
        problem = content if isinstance(content, str) else None
        rows.append((os.fsencode(path), content if isinstance(content, bytes) else None, problem))
        size += len(rows[-1][1] or b"")
        if size >= BLOCK or len(rows) == FILES:
            yield pyarrow.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=kind)
            rows, size = [], 0
    if rows:
        yield pyarrow.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=kind)


def _content(path: Path) -> bytes | str:
    """The bytes of a file, or why there are none."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            return "not an ordinary file"
        if (size := path.stat().st_size) > LARGEST_PICTURE:
            return too_large(size)
        return path.read_bytes()
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _datasource(found: Found) -> Any:
    """The files as Ray Data's kind of source.

    Ray's own readers of files, tars and Parquet are not used: one file that cannot be read, or a tar that is cut off,
    ends the whole run with them, and rows of Parquet files have no numbers.
    """
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Pictures(Datasource):
        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
        ) -> list[Any]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [
                ReadTask(partial(blocks, files), unknown, per_task_row_limit=per_task_row_limit)
                for files in tasks(found)
            ]

    return Pictures()


def _json_lines(folder: str) -> Any:
    """JSON lines as Ray Data's kind of sink; its own writer would print every float in all its digits."""
    from ray.data.datasource import BlockBasedFileDatasink

    class JsonLines(BlockBasedFileDatasink):
        def write_block_to_file(self, block: Any, file: Any) -> None:
            for row in block.to_arrow().to_pylist():
                file.write(line(rounded(row)).encode("utf-8") + b"\n")

    return JsonLines(folder, min_rows_per_file=ROWS, file_format="jsonl")


def answers_in(output: Path) -> Iterator[tuple[Path, str | None]]:
    """The pictures in the folder that :func:`classify_on_ray` made, with the reasons where they could not be read."""
    for file in sorted(output.iterdir()):
        if file.suffix == ".jsonl":
            with file.open("rb") as stream:
                rows: Iterator[dict[str, Any]] = map(json.loads, stream)
                yield from ((Path(row["image"]), row["error"]) for row in rows)
        else:
            for part in pyarrow_parquet().ParquetFile(file).iter_batches(columns=["image", "error"]):
                yield from ((Path(row["image"]), row["error"]) for row in part.to_pylist())
