"""Runs that go on from where another one ended, by what a store of results knows."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from .digests import sha256
from .folders import Known, Result, process
from .packed import is_packed, pictures_in
from .pipeline import Pipeline
from .store import ResultStore, Stamp


def resumed(
    found: Iterable[tuple[Path, str | None]],
    pipeline: Pipeline,
    store: ResultStore,
    batch: int = 16,
    by_content: bool = False,
) -> Iterator[Result]:
    """One result per picture, in order: from the store where it knows the picture, else from the pipeline.

    Each new result is in the store before it is handed out, so whatever ends the run, the next one goes on from there.
    Pictures that could not be read are tried again. Those in shards are known by the shard's size and time.

    Args:
        found: files, pictures and shards (see :mod:`anigender.packed`), or why there are none.
        pipeline: judges what is new.
        store: is asked and told.
        batch: pictures at once.
        by_content: know pictures by the SHA-256 of their bytes, for which each is read, and not by name, size and
            time.

    Raises:
        StoreError: the store cannot be read or written, as on a full disk.
    """
    stamps: deque[Stamp | None] = deque()  # one for each picture on its way; None where the store has nothing to learn

    def remembered() -> Iterator[tuple[Path, Known]]:
        for path, problem in found:
            try:
                status = os.stat(path) if problem is None else None
            except (OSError, ValueError):
                status = None  # whoever reads it will say why
            stamp = Stamp.of(status) if status is not None and stat.S_ISREG(status.st_mode) else None
            if stamp is None or not is_packed(path.name):
                yield looked_up(path, problem, stamp)
            elif by_content:
                yield from (looked_up(name, known, stamp) for name, known in pictures_in(path))
            else:  # a shard asks for itself, before it reads
                for name, known in pictures_in(path, partial(recall, stamp=stamp)):
                    stamps.append(stamp if isinstance(known, bytes) else None)
                    yield name, known

    def recall(path: Path, stamp: Stamp) -> Result | None:
        return store.get(path, stamp)

    def looked_up(path: Path, known: Known, stamp: Stamp | None) -> tuple[Path, Known]:
        if stamp is not None and (known is None or isinstance(known, bytes)):
            try:
                if by_content:
                    digest = sha256(path) if known is None else hashlib.sha256(known).hexdigest()
                    stamp = replace(stamp, sha256=digest)
                result = recall(path, stamp)
            except OSError:
                result = None  # as above
            if result is None:
                stamps.append(stamp)
                return path, known
            known = result
        stamps.append(None)
        return path, known

    for result in process(remembered(), pipeline, batch):
        stamp = stamps.popleft()
        if stamp is not None:
            store.put(result, stamp)
        yield result
