"""Head crops on disk: written once, picture by picture, and read where they lie.

A million crops are 150 GB and more, so none is held in memory: the file of pixels is mapped, and the system keeps of it
what fits. What was written before a run was stopped is there for the next one. A picture that was changed since, a
detector that was, or another size makes new crops.

Any number of trainings may read the same crops, but rows are counted by who writes them: only one may write, and until
it ends no other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict
from weakref import WeakValueDictionary

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from .augment import CACHE_MARGIN, CACHE_SIZE, mean_colours, surround

CHANNELS = 4  # RGBA
_LOCKS: WeakValueDictionary[Path, FileLock] = WeakValueDictionary()  # this process's stores of one folder share it


class Pixels(Protocol):
    """Crops ``[N, 4, K, K]`` uint8 of which some are asked for at a time; a tensor is one."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any) -> Tensor:
        """The crops of these rows (a list or a slice), as a tensor of their own."""


class Entry(TypedDict):
    """What is known of a picture: its state when it was cropped, and of its crop the row and the picture's extent.

    ``row`` is None where no head was found. ``extent`` is x0, y0, x1 and y1 of the picture in shares of the crop,
    beyond which its edge is repeated.
    """

    file: str
    stamp: list[int]
    row: int | None
    extent: list[float]


class CropStore:
    """A folder with all crops of one size, and a list of whose they are.

    Args:
        folder: made where it does not exist.
        size: side of the crops in pixels.
        margin: how many head sides they show.
        source: says what found the heads; where the folder's was another, it is begun anew.

    Raises:
        ValueError: the folder would have to be begun anew while another training that has written there runs.
    """

    def __init__(self, folder: Path, size: int = CACHE_SIZE, margin: float = CACHE_MARGIN, source: str = "") -> None:
        self.folder, self.size, self.margin = folder, size, margin
        self.entries: dict[str, Entry] = {}
        self._map: np.memmap | None = None
        self._rows = 0
        self._whole = 0  # bytes of the index, of which the last line may be unfinished
        self._left = (0, 0)  # the lengths of both files when they were last read or written here
        self._lock: FileLock | None = None
        self._header = {"size": size, "margin": margin, "source": source}
        folder.mkdir(parents=True, exist_ok=True)
        if not self._read():
            self._claim()
            if not self._read():  # still, now that nobody else can have begun it
                self._pixels.unlink(missing_ok=True)
                self._index.write_text(json.dumps(self._header) + "\n", encoding="utf-8")
                self._left = self._lengths()
                self._whole = self._left[0]

    @property
    def _pixels(self) -> Path:
        return self.folder / "pixels.bin"

    @property
    def _index(self) -> Path:
        return self.folder / "index.jsonl"

    @property
    def _bytes(self) -> int:
        return CHANNELS * self.size**2

    def _lengths(self) -> tuple[int, int]:
        """Of the index and of the pixels, in bytes."""
        index, pixels = (path.stat().st_size if path.is_file() else 0 for path in (self._index, self._pixels))
        return index, pixels

    def _claim(self) -> None:
        """Keep others from writing here as long as this store is there.

        Raises:
            ValueError: somebody else does.
        """
        path = self.folder.resolve() / "write.lock"
        lock = _LOCKS.get(path)
        if lock is None:
            lock = _LOCKS[path] = FileLock(path, thread_local=False)
        if not lock.is_locked:
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise ValueError(
                    f"another training that writes crops to {self.folder} is running: wait until it has ended, or name "
                    "an output in another folder"
                ) from error
        self._lock = lock

    def _claim_as_read(self) -> None:
        """Keep others from writing, and cut off what a stopped run left unfinished.

        Raises:
            ValueError: somebody else writes, or has since this store was opened.
        """
        self._claim()
        if self._lengths() != self._left:
            raise ValueError(
                f"the crops in {self.folder} were changed by something else since they were read: start again when no "
                "other training writes there, or name an output in another folder"
            )
        if self._left[0] != self._whole:
            os.truncate(self._index, self._whole)
        if self._left[1] != self._rows * self._bytes:
            os.truncate(self._pixels, self._rows * self._bytes)

    def _read(self) -> bool:
        """Take over what the folder holds; False where that is of something else."""
        if not self._index.is_file():
            return False
        self._left = self._lengths()
        written = self._left[1] // self._bytes
        whole = 0
        with self._index.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                try:
                    values = json.loads(line)
                except ValueError:
                    break
                if not whole and values != self._header:
                    return False
                if whole:
                    if values["row"] is not None and values["row"] >= written:
                        break
                    self.entries[values["file"]] = values
                    if values["row"] is not None:
                        self._rows = max(self._rows, values["row"] + 1)
                whole += len(line)
        self._whole = whole
        return whole > 0

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: Any) -> Tensor:
        """Crops ``[n, 4, size, size]`` uint8 of some rows (a list, an array or a slice), as a copy in memory."""
        if self._map is None or len(self._map) != self._rows:
            if not self._rows:
                return torch.zeros(0, CHANNELS, self.size, self.size, dtype=torch.uint8)
            shape = (self._rows, CHANNELS, self.size, self.size)
            with self._index.open("rb") as stream:
                if json.loads(stream.readline() or "null") != self._header:
                    raise ValueError(
                        f"the crops in {self.folder} were made anew, with another detector or size, while they were "
                        "used: start again, with an output in another folder"
                    )
            self._map = np.memmap(self._pixels, np.uint8, "r", shape=shape)
        return torch.from_numpy(np.array(self._map[rows]))

    def __getstate__(self) -> dict[str, Any]:
        """For processes that read in parallel: they map the file themselves, and need no list."""
        return self.__dict__ | {"_map": None, "_lock": None, "entries": {}}

    def lacks(self, file: str, stamp: Sequence[int]) -> bool:
        """Whether a picture in this state (:func:`stamp_of`) was not looked at yet."""
        known = self.entries.get(file)
        return known is None or known["stamp"] != list(stamp)

    def add(
        self,
        files: Sequence[str],
        stamps: Sequence[Sequence[int]],
        crops: Sequence[Tensor | None],
        extents: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Write the crops of some pictures, ``[4, size, size]`` uint8 each, or None where no head is found.

        Raises:
            ValueError: another training writes here, or has since this store was opened.
        """
        self._claim_as_read()
        added: list[Entry] = []
        with self._pixels.open("ab") as stream:
            for i, (file, stamp, crop) in enumerate(zip(files, stamps, crops, strict=True)):
                extent = [0.0, 0.0, 1.0, 1.0] if extents is None else [round(v, 5) for v in extents[i]]
                added.append({"file": file, "stamp": list(stamp), "row": None, "extent": extent})
                if crop is not None:
                    stream.write(crop.contiguous().numpy().tobytes())
                    added[-1]["row"] = self._rows
                    self._rows += 1
        with self._index.open("a", encoding="utf-8") as stream_of_lines:
            stream_of_lines.writelines(json.dumps(entry) + "\n" for entry in added)
        self._left = self._lengths()
        self._whole = self._left[0]
        self.entries |= {entry["file"]: entry for entry in added}


class SomeRows:
    """A part of some crops, as if it were a tensor of them.

    Args:
        crops: of which.
        rows: ``[N]`` of them, in the wanted order.
    """

    def __init__(self, crops: Pixels, rows: np.ndarray) -> None:
        self.crops, self.rows = crops, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Tensor:
        """Crops ``[n, 4, K, K]`` of some of these rows, as a copy in memory."""
        return self.crops[self.rows[rows if isinstance(rows, slice) else np.asarray(rows)]]


class FlatOutside:
    """Crops with one colour where the picture ends, rather than its edge again and again.

    Args:
        crops: of which.
        extents: ``[N, 4]`` where the picture lies in each (:class:`Entry`).
        view: x0, y0, x1 and y1, in shares of the crop, of what a net sees of it: the colour is the mean of that.
    """

    def __init__(self, crops: Pixels, extents: np.ndarray, view: Sequence[float]) -> None:
        self.crops, self.extents, self.view = crops, extents, np.asarray(view, np.float32)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, rows: Any) -> Tensor:
        """Crops ``[n, 4, K, K]`` of some of these rows, as a copy in memory."""
        some = self.crops[rows]
        extents = self.extents[rows if isinstance(rows, slice) else np.asarray(rows)]
        seen = np.concatenate((np.maximum(extents[:, :2], self.view[:2]), np.minimum(extents[:, 2:], self.view[2:])), 1)
        return surround(some, extents, mean_colours(some, seen))


def stamp_of(path: Path) -> list[int]:
    """What changes when a file does: its size and the time of its last change, in nanoseconds."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
