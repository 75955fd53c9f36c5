"""Answers as a Parquet table: one row per picture, with the columns of the JSON lines and its faces as a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO

from .packed.parquet import pyarrow_parquet

ROWS = 10_000  # in a row group: what is held in memory before it is written


def schema() -> Any:
    """The Arrow schema of :func:`anigender.records.record`.

    Raises:
        ImportError: pyarrow is not installed.
    """
    pyarrow_parquet()
    import pyarrow

    number = pyarrow.float32()
    face = {
        "box": pyarrow.list_(number),
        "detection": number,
        "gender": pyarrow.string(),
        "confidence": number,
        "probabilities": pyarrow.struct({"female": number, "male": number}),
    }
    columns = {
        "image": pyarrow.string(),
        "width": pyarrow.int32(),
        "height": pyarrow.int32(),
        "faces": pyarrow.list_(pyarrow.struct(face)),
        "tags": pyarrow.list_(pyarrow.string()),
        "error": pyarrow.string(),
    }
    return pyarrow.schema(columns)


def table(records: Sequence[Mapping[str, Any]]) -> Any:
    """Records as an Arrow table.

    Raises:
        ImportError: pyarrow is not installed.
    """
    kind = schema()
    import pyarrow

    return pyarrow.Table.from_pylist(list(records), schema=kind)


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of such a table as :func:`anigender.records.record` gave it, with no more digits than that has."""
    faces = []
    for face in row["faces"]:
        given = {name: value for name, value in face.items() if value is not None}
        given["box"] = [round(value, 1) for value in face["box"]]
        for name in ("detection", "confidence"):
            if name in given:
                given[name] = round(given[name], 4)
        if "probabilities" in given:
            given["probabilities"] = {name: round(value, 4) for name, value in given["probabilities"].items()}
        faces.append(given)
    return {**row, "faces": faces}


def write_parquet(stream: BinaryIO, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as a Parquet file, holding one row group at a time.

    Args:
        stream: an empty file; see :func:`anigender.files.atomic_file` for one that appears whole or not at all.
        records: as of :func:`anigender.records.record`.

    Raises:
        ImportError: pyarrow is not installed; nothing was taken from ``records``.
    """
    with pyarrow_parquet().ParquetWriter(stream, schema(), compression="zstd") as writer:
        rows = iter(records)
        while group := list(islice(rows, ROWS)):
            writer.write_table(table(group))
