"""Fetching the files of known models: whole, checked, and put into place in one step or not at all.

Files from the Hugging Face hub go into its own cache (``HF_HOME``), in its own layout but without symbolic links, so
that other programs find them there and Windows needs no special rights. The little of the hub's protocol that is used:
``/api/models/REPOSITORY/revision/REVISION?blobs=true`` lists files with sizes and digests, and
``/REPOSITORY/resolve/COMMIT/FILE`` is a file. No account is used and no token is sent.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from .files import atomic_file
from .known_models import KnownFile, KnownModel

ATTEMPTS = 4  # a connection that breaks is taken up again where it ended
PART = 1 << 18  # bytes read at once
LONGEST_LISTING = 8 << 20  # bytes
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that may be another a moment later
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DownloadError(OSError):
    """A file could not be fetched; the message says why, and how to fetch it by hand."""


@dataclass(frozen=True)
class Hub:
    """Where models are fetched from and kept.

    Attributes:
        endpoint: the hub's address.
        cache: the hub's cache folder.
        own: a folder beside it for what is not the hub's: the record of digests, files of other sites.
        offline: the network is not to be used.
        timeout: seconds without a byte after which a connection counts as broken.
        pause: seconds before the second attempt; twice as many before each further one.
    """

    endpoint: str
    cache: Path
    own: Path
    offline: bool = False
    timeout: float = 10.0
    pause: float = 1.0

    @classmethod
    def from_environment(cls) -> Hub:
        """As ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_CACHE``, ``HF_HUB_OFFLINE`` and ``HF_HUB_DOWNLOAD_TIMEOUT`` say."""
        try:
            from huggingface_hub import constants
        except ImportError as error:
            raise ImportError("fetching models needs huggingface_hub: python -m pip install huggingface_hub") from error
        return cls(
            constants.ENDPOINT,
            Path(constants.HF_HUB_CACHE),
            Path(constants.HF_HOME) / "anigender",
            constants.HF_HUB_OFFLINE,
            float(constants.HF_HUB_DOWNLOAD_TIMEOUT),
        )

    def folder(self, repository: str) -> Path:
        """A repository's folder in the cache."""
        from huggingface_hub.file_download import repo_folder_name

        return self.cache / repo_folder_name(repo_id=repository, repo_type="model")


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it; ``blob`` is git's SHA-1 of files without a SHA-256."""

    name: str
    url: str
    size: int | None = None
    sha256: str | None = None
    blob: str | None = None
    commit: str = ""


# -- what there is -----------------------------------------------------------------------------------------------------


def list_files(model: KnownModel, hub: Hub, revision: str) -> list[RemoteFile]:
    """The files of a model's repository at a revision.

    Raises:
        DownloadError: the hub cannot be reached, knows no such repository, or answers nonsense.
    """
    address = f"{hub.endpoint}/api/models/{model.repository}/revision/{urllib.parse.quote(revision, safe='')}"
    contents = _retried(lambda: _read_all(f"{address}?blobs=true", hub), model, hub)
    try:
        listing = json.loads(contents)
        commit = listing["sha"]
        # Both become parts of paths below.
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise ValueError(f"{str(commit)[:80]!r} is no commit")
        return [_remote_file(entry, model, hub, commit) for entry in listing["siblings"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DownloadError(f"{address} answers what is no list of files ({error}). {by_hand(model)}") from error


def _remote_file(entry: dict[str, Any], model: KnownModel, hub: Hub, commit: str) -> RemoteFile:
    name, large = entry["rfilename"], entry.get("lfs") or {}
    if ".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in name or ":" in name:
        raise ValueError(f"the file name {name[:80]!r} leads elsewhere")
    size, digest = entry.get("size", large.get("size")), large.get("sha256")
    if not (size is None or isinstance(size, int)) or not (digest is None or isinstance(digest, str)):
        raise ValueError(f"{name[:80]!r} has size {size!r} and digest {digest!r}")
    url = f"{hub.endpoint}/{model.repository}/resolve/{commit}/{urllib.parse.quote(name)}"
    return RemoteFile(name, url, size, digest, entry.get("blobId"), commit)


def choose(file: KnownFile, listed: list[RemoteFile], model: KnownModel) -> RemoteFile:
    """The listed file that is meant.

    Raises:
        DownloadError: none fits, or several fit the same alternative of the pattern.
    """
    for pattern in file.pattern.split("|"):
        fitting = [remote for remote in listed if KnownFile(pattern).fits(remote.name)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(remote.name for remote in fitting[:8])
            raise DownloadError(f"{model.repository} has several files {pattern}: {names}. {by_hand(model)}")
    names = ", ".join(remote.name for remote in listed[:20])
    raise DownloadError(f"{model.repository} has no file {file.pattern}, only: {names}. {by_hand(model)}")


# -- fetching ----------------------------------------------------------------------------------------------------------


def fetch(model: KnownModel, hub: Hub, revision: str, quiet: bool = False) -> tuple[list[Path], str]:
    """Fetch all files of a model; two processes that want the same one wait for each other.

    Args:
        model: not an embedded one.
        hub: where from and where to.
        revision: a branch or commit.
        quiet: without progress on stderr.

    Returns:
        The files in the order of ``model.files``, and the commit ("" for a model of another site).

    Raises:
        DownloadError: what went wrong, and how to fetch the file by hand. Nothing unfinished is left.
    """
    if hub.offline:
        raise DownloadError(f"{model.name} is not on this machine and HF_HUB_OFFLINE is set. {by_hand(model)}")
    if not hub.endpoint.startswith(("http://", "https://")):
        raise DownloadError(f"HF_ENDPOINT is {hub.endpoint!r}, expected an address such as https://huggingface.co")
    if model.repository:
        listed = list_files(model, hub, revision)
        remotes = [choose(file, listed, model) for file in model.files]
        commit = remotes[0].commit
        folder = hub.folder(model.repository) / "snapshots" / commit
        lock = hub.cache / ".locks" / hub.folder(model.repository).name / "anigender.lock"
    else:
        name = PurePosixPath(urllib.parse.urlsplit(model.url).path).name
        remotes, commit, folder = [RemoteFile(name, model.url)], "", hub.own / model.name
        lock = hub.own / f"{model.name}.lock"
    paths = []
    try:
        with _locked(lock):
            for file, remote in zip(model.files, remotes, strict=True):
                path = folder / remote.name
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    for leftover in path.parent.glob(".*.tmp"):  # of a process that was killed: we hold the lock
                        leftover.unlink(missing_ok=True)
                    limit = int(model.megabytes * 2e6) + 1_000_000
                    _fetch_one(path, remote, file, limit, model, hub, quiet)
                paths.append(path)
            if commit:
                _note_revision(hub.folder(model.repository), revision, commit)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(_why_not_written(error, folder, model)) from error
    return paths, commit


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(path)):
        yield


def _note_revision(folder: Path, revision: str, commit: str) -> None:
    """What the hub's own programs read to know which commit a branch is at."""
    note = folder / "refs" / revision
    if revision != commit and not note.exists():
        note.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(note) as stream:
            stream.write(commit.encode())


def _fetch_one(
    path: Path, remote: RemoteFile, file: KnownFile, limit: int, model: KnownModel, hub: Hub, quiet: bool
) -> None:
    """One file into place, if it is as large as it should be and has the digest that it should have."""
    size = file.size if file.size is not None else remote.size
    if size is not None and size > limit:
        raise DownloadError(f"{remote.url} has {size} bytes, no more than {limit} are expected. {by_hand(model)}")
    free = shutil.disk_usage(path.parent).free
    if size is not None and free < size:
        raise OSError(errno.ENOSPC, f"{size - free} bytes too few are free")
    show = _progress(remote.name, size, quiet)
    with atomic_file(path) as stream:
        _retried(lambda: _continue(stream, remote.url, size, limit, hub, show), model, hub)
        stream.flush()
        _check(path, stream, remote, file, model)


def _check(path: Path, stream: BinaryIO, remote: RemoteFile, file: KnownFile, model: KnownModel) -> None:
    wanted, blob = file.sha256 or remote.sha256, remote.blob
    digest = hashlib.sha256()
    if wanted is None:
        if not re.fullmatch(r"[0-9a-f]{40}", blob or ""):
            return
        # Git's name of small files: the SHA-1 of their length and contents.
        wanted, digest = blob, hashlib.sha1(f"blob {stream.tell()}\0".encode())
    with open(stream.name, "rb") as reader:
        while part := reader.read(1 << 20):
            digest.update(part)
    if digest.hexdigest() != wanted:
        raise DownloadError(
            f"{remote.url} is not what is expected: its digest is {digest.hexdigest()}, expected {wanted}. It arrived "
            "damaged: try again; or it was changed: if you know why, `anigender models get --accept`. " + by_hand(model)
        )


def _continue(stream: BinaryIO, url: str, size: int | None, limit: int, hub: Hub, show: Callable[[int], None]) -> None:
    """Append the rest of ``url`` to what the stream has; the stream is complete when this returns.

    Raises:
        OSError, http.client.HTTPException: the connection broke; call again.
        _Refused: more or less came than was said.
    """
    done = stream.tell()
    headers = {"Range": f"bytes={done}-"} if done else {}
    with _open(url, hub, headers) as answer:
        if done and (answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")):
            stream.seek(0)
            stream.truncate()
            done = 0
        length = answer.headers.get("Content-Length")
        whole = size if size is not None else (done + int(length) if length and length.isdigit() else None)
        while part := answer.read1(PART):  # what has come by now: a break loses nothing
            done += len(part)
            if done > (limit if whole is None else whole):
                raise _Refused(f"{url} sends more than the {limit if whole is None else whole} bytes expected")
            _written(stream, part)
            show(done)
    if whole is not None and done < whole:
        raise ConnectionError(f"the connection ended after {done} of {whole} bytes")


def _written(stream: BinaryIO, part: bytes) -> None:
    try:
        stream.write(part)
        stream.flush()
    except OSError as error:
        raise _Unwritable(error) from error


class _Refused(Exception):
    """An answer that would be no better the next time."""


class _Unwritable(Exception):
    """The disk and not the network failed."""


def _retried(call: Callable[[], Any], model: KnownModel, hub: Hub) -> Any:
    """The result of ``call``, tried again when the connection breaks."""
    pause = hub.pause
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except _Unwritable as error:
            raise error.args[0] from error
        except _Refused as error:
            raise DownloadError(f"{error}. {by_hand(model)}") from error
        except urllib.error.HTTPError as error:
            reason, passing = _http_reason(error), error.code in _PASSING
            error.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason, passing = str(getattr(error, "reason", error)) or type(error).__name__, True
        if not passing or attempt == ATTEMPTS:
            source = hub.endpoint if model.repository else model.url
            raise DownloadError(f"{model.name} cannot be fetched from {source}: {reason}. {by_hand(model)}")
        time.sleep(pause)
        pause *= 2


def _http_reason(error: urllib.error.HTTPError) -> str:
    meaning = {401: "not found, or not public", 403: "not allowed", 404: "not found"}.get(error.code, error.reason)
    return f"{error.url} answers {error.code}, {meaning}"


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows to other servers, as the hub needs, but neither to other protocols nor from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        before, after = urllib.parse.urlsplit(req.full_url).scheme, urllib.parse.urlsplit(newurl).scheme
        if after not in ("http", "https") or (before == "https" and after == "http"):
            raise _Refused(f"{req.full_url} leads to {newurl[:80]}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, hub: Hub, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "anigender", "Accept-Encoding": "identity", **headers})
    return urllib.request.build_opener(_SafeRedirects).open(request, timeout=hub.timeout)


def _read_all(url: str, hub: Hub) -> bytes:
    with _open(url, hub, {}) as answer:
        contents = answer.read(LONGEST_LISTING + 1)
    if len(contents) > LONGEST_LISTING:
        raise _Refused(f"{url} sends more than {LONGEST_LISTING} bytes")
    return contents


def _progress(name: str, size: int | None, quiet: bool) -> Callable[[int], None]:
    """Shows on stderr, where that is a terminal, how much has come."""
    if quiet or not sys.stderr.isatty():
        return lambda done: None

    def show(done: int) -> None:
        of = f" of {size / 1e6:.1f}" if size else ""
        end = "\n" if size == done else ""
        print(f"\rfetching {name}: {done / 1e6:.1f}{of} MB", end=end, file=sys.stderr, flush=True)

    return show


# -- messages ----------------------------------------------------------------------------------------------------------


def by_hand(model: KnownModel) -> str:
    """How to get a model without this program."""
    files = " and ".join(file.pattern for file in model.files)
    return (
        f"By hand: get {files} from {model.page} and put it into ComfyUI's models/anigender/{model.name} (or into any "
        "folder, and give its path)"
    )


def _why_not_written(error: OSError, folder: Path, model: KnownModel) -> str:
    if error.errno in _FULL:
        reason = f"the disk is full ({model.megabytes:g} MB are needed)"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "the folder cannot be written to"
    else:
        reason = error.strerror or str(error)
    return f"{model.name} cannot be stored in {folder}: {reason}; HF_HOME names another folder. {by_hand(model)}"
