"""Reading tables of pictures (CSV) that anybody may have made, and saying what is wrong with one and where."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path


class Row(dict[str, str]):
    """One row by column, where it stands for messages; columns that the row lacks are empty.

    Attributes:
        at: the table's name and the line.
    """

    at: str = ""

    def number(self, name: str) -> float:
        """A column's number.

        Raises:
            ValueError: it is none, or not finite.
        """
        try:
            value = float(self[name])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{self.at}: {name} is {self[name][:80]!r}, expected a number")
        return value

    def file(self, name: str) -> str:
        """A column's path inside the data folder; it must not lead out of it, whoever wrote the table.

        Raises:
            ValueError: it is empty, absolute, or goes up.
        """
        path = Path(self[name])
        if not self[name] or path.anchor or ".." in path.parts:
            raise ValueError(f"{self.at}: {name} is {self[name][:200]!r}, expected a path inside the data folder")
        return self[name]


def read_rows(path: Path, columns: Sequence[str] = ()) -> list[Row]:
    """The rows of a table in UTF-8, with or without a byte-order mark; empty lines are left out.

    Args:
        path: the table.
        columns: those that it must have.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no UTF-8, no CSV, or a column is missing; the message names the table, and the line where it can.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: --data must name a folder that holds it")
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, restval="")
        try:
            lacking = [name for name in columns if name not in (reader.fieldnames or ())]
            if lacking:
                seen = ", ".join(reader.fieldnames or ()) or "none"
                raise ValueError(f"{path} has no column {lacking[0]!r}; it has {seen[:500]}")
            for values in reader:
                row = Row({name: value for name, value in values.items() if name is not None})  # more than columns
                row.at = f"{path.name}, line {reader.line_num}"
                rows.append(row)
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    return rows
