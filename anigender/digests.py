"""SHA-256 digests of files from elsewhere: written down on first use, checked from then on.

For most published models no digest is known beforehand. Then the first file is trusted, which is said out loud, and
any later one that differs is refused until a person agrees ("trust on first use", as SSH does with host keys).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path

from .files import atomic_write_text

log = logging.getLogger("anigender")


class DigestError(ValueError):
    """A file is not the one that it was, or not the one that it should be."""


@dataclass(frozen=True)
class Known:
    """What is known of a file: its digest, the commit it was fetched from (or ""), and since when."""

    sha256: str
    commit: str
    since: str


def sha256(path: Path) -> str:
    """The digest of a file as 64 hexadecimal digits; a file is not read again while its time and size stay."""
    stamp = path.stat()
    return _sha256(str(path), stamp.st_mtime_ns, stamp.st_size, stamp.st_ino)


@lru_cache(maxsize=256)
def _sha256(path: str, time: int, size: int, inode: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


class DigestRecord:
    """The digests that this machine has seen, in a JSON file that people can read.

    Args:
        path: the file; made when the first digest is written down.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, key: str) -> Known | None:
        """What is known of the file ``key`` (``repository/name``).

        Raises:
            ValueError: the record cannot be read; a record that is ignored would be no protection.
        """
        entry = self._read().get(key)
        return None if entry is None else Known(entry["sha256"], entry["commit"], entry["since"])

    def put(self, key: str, sha256: str, commit: str = "") -> None:
        """Write a digest down, in place of any former one; where that is impossible, say so and go on."""
        entry = {"sha256": sha256, "commit": commit, "since": datetime.now(timezone.utc).strftime("%Y-%m-%d")}
        from filelock import FileLock  # here: the nodes import this, and need no package that ComfyUI lacks

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):
                table = {**self._read(), key: entry}
                atomic_write_text(self.path, json.dumps(table, indent=1, sort_keys=True) + "\n")
        except OSError as error:
            log.warning("anigender: the digest of %s cannot be written down in %s: %s", key, self.path, error)

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            table = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"the record of digests {self.path} cannot be read ({error}); delete it") from error
        fields = ("sha256", "commit", "since")
        if not isinstance(table, dict) or not all(
            isinstance(entry, Mapping) and all(isinstance(entry.get(field), str) for field in fields)
            for entry in table.values()
        ):
            raise ValueError(f"the record of digests {self.path} is not as it was written; delete it")
        return table


def check_digest(
    path: Path, key: str, record: DigestRecord, published: str | None = None, commit: str = "", accept: bool = False
) -> str:
    """Check a file against what is published or written down; write it down where neither is.

    Args:
        path: the file.
        key: ``repository/name``, by which it is written down.
        record: where.
        published: a digest that is certain, which counts before any other.
        commit: of the repository, where the file has just been fetched from there.
        accept: take the file for the right one, whatever is written down.

    Returns:
        The file's digest.

    Raises:
        DigestError: it is another file.
    """
    found = sha256(path)
    known = record.get(key)
    if published is not None:
        if found != published:
            raise DigestError(
                f"{path} is not the published file: its SHA-256 is {found}, expected {published}. "
                "It is damaged or was replaced; delete it and fetch it again"
            )
    elif known is None or (accept and known.sha256 != found):
        log.warning(
            "anigender: no digest of %s is known beforehand; this one is trusted from now on: SHA-256 %s", key, found
        )
        record.put(key, found, commit)
    elif known.sha256 != found:
        raise DigestError(
            f"{path} is not the file that was trusted on {known.since}: its SHA-256 is {found}, "
            f"expected {known.sha256}. It is damaged or was replaced; delete it and fetch it again, or, if you know "
            "that it has changed for a reason, `anigender models get --accept`"
        )
    return found
