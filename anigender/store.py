"""The store of results: what a run has found out, on disk, so that no later one does it again.

SQLite with a write-ahead log: a process that is killed at any instant leaves a whole store with everything up to its
last picture, several processes can use one store at once, and a look-up takes microseconds however many pictures there
are. Only the log's last pictures can be lost when the machine itself loses power, and nothing is damaged then.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch

from .faces import Faces
from .folders import Result

APPLICATION = 0x616E6764  # "angd" in the file's header says whose database it is
VERSION = 1
PATIENCE = 60.0  # seconds that one process waits for another's write, which takes less than a thousandth
MAGIC = b"SQLite format 3\0"

# `path` is absolute; text, or bytes where the name is no Unicode. `faces` is a list of
# [x1, y1, x2, y2, detection, female, male] as JSON, which SQLite's json_each reads.
SCHEMA = """
CREATE TABLE IF NOT EXISTS pictures (
    path NOT NULL PRIMARY KEY, size INTEGER NOT NULL, modified_ns INTEGER NOT NULL, sha256 TEXT,
    width INTEGER, height INTEGER, faces TEXT, error TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pictures_by_content ON pictures (sha256) WHERE sha256 IS NOT NULL;
CREATE TABLE IF NOT EXISTS settings (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class StoreError(RuntimeError):
    """The store cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Stamp:
    """What tells whether a file is still the one that was looked at.

    Attributes:
        size: of the file in bytes.
        modified_ns: when it was last written to, as its file system says. It is compared and not ordered: a clock
            that goes back harms nothing.
        sha256: of its content, where results are to be known by it.
    """

    size: int
    modified_ns: int
    sha256: str | None = None

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp of a file with this status; a time that SQLite's 64 bits cannot hold (from 2262 on) goes round."""
        return cls(status.st_size, (status.st_mtime_ns + (1 << 63)) % (1 << 64) - (1 << 63))


class ResultStore:
    """The results of pictures by path, for as long as the files stay as they were.

    Args:
        path: the file, made where there is none; two more, ``-wal`` and ``-shm``, stand beside it while it is used.
        settings: what the results depend on, such as the models' digests. A store holds results of one setting only.

    Raises:
        StoreError: the file is something else, was made with other settings, or cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, str] | None = None) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise StoreError(f"the store {self.path} cannot be made: there is no folder {self.path.parent}")
        self._refuse_other_files()
        with self._explained():
            # Every statement is a transaction of its own: a result is safe as soon as it is put.
            self._connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        try:
            with self._explained():
                self._prepare(dict(settings or {}))
        except BaseException:
            self._connection.close()
            raise

    def _refuse_other_files(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_file():
            raise StoreError(f"the store {self.path} is not an ordinary file; name a file such as results.sqlite")
        try:
            with self.path.open("rb") as stream:
                start = stream.read(len(MAGIC))
        except OSError as error:
            raise StoreError(f"the store {self.path} cannot be read: {error.strerror}") from error
        if start not in (b"", MAGIC):  # empty where a process was killed when it had only just made it
            raise StoreError(f"{self.path} is no store of results but another file; it was left as it is")

    def _prepare(self, settings: dict[str, str]) -> None:
        connection = self._connection
        if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            self._check_owner()
        self._write_ahead()
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")  # two processes may be making it
        try:
            if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                self._check_owner()
            else:
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            kept = dict(connection.execute("SELECT name, value FROM settings").fetchall())
            if not kept:
                connection.executemany("INSERT INTO settings VALUES (?, ?)", settings.items())
            elif settings and kept != settings:
                raise StoreError(self._other_settings(kept, settings))
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _write_ahead(self) -> None:
        """Change to a write-ahead log; here alone SQLite does not wait by itself for another process that does so."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _check_owner(self) -> None:
        owner = self._connection.execute("PRAGMA application_id").fetchone()[0]
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if owner != APPLICATION:
            raise StoreError(f"{self.path} is the database of another program; it was left as it is")
        if version != VERSION:
            raise StoreError(
                f"the store {self.path} has the format {version}, this version of anigender knows {VERSION}; "
                "use the version that made it, or another file"
            )

    def _other_settings(self, kept: Mapping[str, str], settings: Mapping[str, str]) -> str:
        names = sorted(name for name in {*kept, *settings} if kept.get(name) != settings.get(name))
        told = "; ".join(
            f"{name} was {kept.get(name, 'not set')}, is {settings.get(name, 'not set')}" for name in names
        )
        return (
            f"the store {self.path} holds results of other settings ({told}): "
            "use the same settings, or another file for these"
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                advice = "another process has been writing to it for long; end that one, or use a store for each"
            elif "malformed" in str(error) or "not a database" in str(error):
                advice = "it is damaged: move it away and run again, or restore a copy"
            else:
                advice = "make room or give it a folder that can be written to, on a disk of this machine"
            raise StoreError(f"the store {self.path} cannot be used: {error}; {advice}") from error

    def get(self, path: Path, stamp: Stamp) -> Result | None:
        """What is known of a picture, or None where it is new, has changed, or could not be read.

        Args:
            path: the picture; the result has it as it is given here.
            stamp: of the file now. With a digest, size and time do not matter, and neither does the name: the result
                of any picture with this content is taken, and kept under this name too.

        Raises:
            StoreError: the store cannot be read.
        """
        columns = "SELECT path, width, height, faces FROM pictures"
        key = _key(path)
        with self._explained():
            if stamp.sha256 is not None:
                row = self._connection.execute(
                    f"{columns} WHERE sha256 = ? AND faces IS NOT NULL ORDER BY path = ? DESC LIMIT 1",
                    (stamp.sha256, key),
                ).fetchone()
            else:
                row = self._connection.execute(
                    f"{columns} WHERE path = ? AND size = ? AND modified_ns = ? AND faces IS NOT NULL",
                    (key, stamp.size, stamp.modified_ns),
                ).fetchone()
        if row is None:
            return None
        found, width, height, faces = row
        result = Result(path, (height, width), faces_of(faces, (height, width)))
        if found != key:
            self.put(result, stamp)
        return result

    def put(self, result: Result, stamp: Stamp) -> None:
        """Keep a result, in place of any former one of that path.

        Args:
            result: of a picture that was read or could not be; the latter is kept for people, and not for
                :meth:`get`, since a later run may have more luck.
            stamp: of the file before it was read, so that a change meanwhile is seen by the next run.

        Raises:
            StoreError: the store cannot be written.
        """
        height, width = result.size or (None, None)
        faces = None if result.faces is None else text_of(result.faces)
        with self._explained():
            self._connection.execute(
                "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (_key(result.path), stamp.size, stamp.modified_ns, stamp.sha256, width, height, faces, result.error),
            )

    def __len__(self) -> int:
        """Number of pictures, those that could not be read included."""
        with self._explained():
            return int(self._connection.execute("SELECT COUNT(*) FROM pictures").fetchone()[0])

    def failures(self) -> int:
        """Number of pictures that could not be read."""
        with self._explained():
            return int(self._connection.execute("SELECT COUNT(*) FROM pictures WHERE faces IS NULL").fetchone()[0])

    def paths(self) -> Iterator[Path]:
        """The absolute paths of all pictures, in order, read in portions: records may be deleted meanwhile."""
        last: str | bytes = ""
        while True:
            with self._explained():
                rows = self._connection.execute(
                    "SELECT path FROM pictures WHERE path > ? ORDER BY path LIMIT 1000", (last,)
                ).fetchall()
            if not rows:
                return
            for (key,) in rows:
                yield Path(os.fsdecode(key))
            last = rows[-1][0]

    def forget(self, path: Path) -> None:
        """Delete the record of a picture, where there is one."""
        with self._explained():
            self._connection.execute("DELETE FROM pictures WHERE path = ?", (_key(path),))

    def close(self) -> None:
        """Fold the log into the store; needed by nobody but by those who want to see one file."""
        self._connection.close()

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _key(path: Path) -> str | bytes:
    text = os.path.abspath(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def text_of(faces: Faces) -> str:
    """The faces of one picture as JSON, each number in the fewest digits that give the same float32 again."""
    both = faces.probabilities if faces.probabilities is not None else torch.zeros(len(faces), 0)
    rows = torch.cat((faces.boxes, faces.scores[:, None], both), 1).float().cpu().numpy()
    return json.dumps([[float(str(value)) for value in row] for row in rows], separators=(",", ":"))


def faces_of(text: str, size: tuple[int, int]) -> Faces:
    """The faces that :func:`text_of` wrote, of a picture of this (height, width)."""
    rows = torch.tensor(json.loads(text), dtype=torch.float32)
    if not len(rows):
        return Faces.empty([size]).with_probabilities(torch.zeros(0, 2))
    index = torch.zeros(len(rows), dtype=torch.int64)
    faces = Faces(rows[:, :4], rows[:, 4], index, torch.tensor([size], dtype=torch.int64))
    return faces.with_probabilities(rows[:, 5:7]) if rows.shape[1] == 7 else faces
