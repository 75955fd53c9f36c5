"""Parquet files as shards: a column of pictures' bytes, or of structs with ``bytes`` as Hugging Face datasets write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..folders import Known, Result
from .limits import LARGEST_PICTURE, too_large

INSTALL = "Parquet files need pyarrow: python -m pip install pyarrow"
USUAL_NAME = "image"
ROWS = 16  # read at once
LONGEST_DIGEST = 64  # bytes: columns of so many, the same for every row, are digests and identifiers, and no pictures


def pyarrow_parquet() -> Any:
    """The module ``pyarrow.parquet``.

    Raises:
        ImportError: it is not installed; the message says what to install.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return pyarrow.parquet


def has_pictures(path: Path) -> bool:
    """Whether a file holds bytes, as of pictures, or cannot be read, which its reader tells better."""
    try:
        with pyarrow_parquet().ParquetFile(path) as file:
            return any(_bytes_within(field.type) for field in file.schema_arrow)
    except Exception:  # see pictures_in_parquet
        return True


def picture_columns(schema: Any) -> list[str]:
    """The columns of an Arrow schema that may hold pictures: bytes, or structs whose field ``bytes`` is bytes."""
    from pyarrow import types

    def holds(kind: Any) -> bool:
        if types.is_struct(kind):
            return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
        return _is_bytes(kind)

    return [field.name for field in schema if holds(field.type)]


def _is_bytes(kind: Any) -> bool:
    """Whether values of an Arrow type are bytes that may be a picture's, also where equal ones are kept once."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_bytes(kind.value_type)
    if types.is_fixed_size_binary(kind):
        return bool(kind.byte_width > LONGEST_DIGEST)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _bytes_within(kind: Any) -> bool:
    """Whether an Arrow type is, or has anywhere within it, bytes that may be a picture's."""
    from pyarrow import types

    if types.is_struct(kind):
        return any(_bytes_within(field.type) for field in kind)
    if types.is_map(kind):
        return _bytes_within(kind.item_type)
    return _is_bytes(kind) or (hasattr(kind, "value_type") and _bytes_within(kind.value_type))


def pictures_in_parquet(path: Path, recall: Callable[[Path], Result | None]) -> Iterator[tuple[Path, Known]]:
    """The pictures in a Parquet file's rows; see :func:`anigender.packed.pictures_in`.

    Of several columns that may hold pictures the one called ``image`` is read. Row groups whose pictures are all known
    already are not read.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        yield path, "not an ordinary file"
        return
    try:
        parquet = pyarrow_parquet()
        # A buffer: of a row group no more is read than the rows need that are asked for.
        with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            columns = picture_columns(file.schema_arrow)
            if len(columns) > 1 and USUAL_NAME in columns:
                columns = [USUAL_NAME]
            if len(columns) != 1:
                seen = ", ".join((columns or file.schema_arrow.names)[:20])
                what = "several columns of bytes" if columns else "no column of bytes"
                if not columns and any(_bytes_within(field.type) for field in file.schema_arrow):
                    what = "bytes within lists or other structs only"
                yield path, f"has {what} ({seen}): the pictures' must be the only one, or be called {USUAL_NAME}"
                return
            yield from _rows(path, file, columns[0], recall)
    except ImportError as error:
        yield path, str(error)
    except Exception as error:  # a file from anywhere: one that is damaged is one failure
        yield path, f"the Parquet file is damaged ({str(error).strip().splitlines()[0] or type(error).__name__})"


def _rows(path: Path, file: Any, column: str, recall: Callable[[Path], Result | None]) -> Iterator[tuple[Path, Known]]:
    first = 0
    for group in range(file.num_row_groups):
        names = [path / str(first + row) for row in range(file.metadata.row_group(group).num_rows)]
        first += len(names)
        if all(recall(name) is not None for name in names):
            contents: Iterator[Any] = iter([None] * len(names))
        else:
            batches = file.iter_batches(batch_size=ROWS, row_groups=[group], columns=[column], use_threads=False)
            contents = (value.as_py() for batch in batches for value in batch.column(0))
        for name, value in zip(names, contents, strict=True):
            content = value["bytes"] if isinstance(value, dict) else value
            if (known := recall(name)) is not None:
                yield name, known
            elif content is None:  # a path may stand beside it, which is not followed: it could lead anywhere
                yield name, "the row holds no bytes"
            elif len(content) > LARGEST_PICTURE:
                yield name, too_large(len(content))
            else:
                yield name, content
