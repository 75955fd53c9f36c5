"""A small hub on this machine: real HTTP, real sockets, and every way in which a server can misbehave."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from anigender.downloads import Hub
from anigender.known_models import KnownFile, KnownModel

COMMIT = "a" * 40
REPOSITORY = "someone/heads"


@dataclass
class LocalHub:
    """What the server serves, how it behaves, and what it was asked.

    ``behaviour`` is by file name; ``first`` behaviours count for one request only.
    """

    files: dict[str, bytes]
    repository: str = REPOSITORY
    commit: str = COMMIT
    behaviour: dict[str, str] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    listing: Any = None  # sent in place of the true one
    small: tuple[str, ...] = ()  # listed without a SHA-256, as the hub lists what is no large file
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""

    def list_files(self) -> bytes:
        if self.listing is not None:
            return self.listing if isinstance(self.listing, bytes) else json.dumps(self.listing).encode()
        siblings = []
        for name, contents in self.files.items():
            blob = hashlib.sha1(f"blob {len(contents)}\0".encode() + contents).hexdigest()
            entry: dict[str, Any] = {"rfilename": name, "size": len(contents), "blobId": blob}
            if name not in self.small:
                entry["lfs"] = {"sha256": hashlib.sha256(contents).hexdigest(), "size": len(contents)}
            siblings.append(entry)
        return json.dumps({"sha": self.commit, "siblings": siblings}).encode()

    def downloads(self, name: str) -> list[str | None]:
        """The Range headers of all requests for a file."""
        return [ranges for path, ranges in self.asked if path.endswith(f"/{name}") and "/resolve/" in path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def answer(self, status: int, contents: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(contents)))
        self.end_headers()
        self.wfile.write(contents)

    def break_off(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def do_GET(self) -> None:  # noqa: N802 (the library's name)
        try:
            self.serve()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def serve(self) -> None:
        hub, ranges = self.hub, self.headers.get("Range")
        hub.asked.append((self.path, ranges))
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            known = path in (f"/api/models/{hub.repository}/revision/{r}" for r in ("main", hub.commit))
            kind = hub.behaviour.get("listing", "whole")
            if kind != "whole":
                self.answer(int(kind), b"{}")
            else:
                self.answer(200 if known else 404, hub.list_files() if known else b"{}")
            return
        name = path.partition(f"/{hub.repository}/resolve/{hub.commit}/")[2] or path.removeprefix("/elsewhere/")
        if name not in hub.files:
            self.answer(404)
            return
        kind = hub.first.pop(name, None) or hub.behaviour.get(name, "whole")
        if path.startswith("/elsewhere/"):
            kind = "whole"
        contents = hub.files[name]
        begin = int(ranges.removeprefix("bytes=").partition("-")[0]) if ranges and kind != "no ranges" else 0
        rest = contents[begin:]
        if kind.isdigit():
            self.answer(int(kind))
        elif kind.startswith("to "):
            self.answer(302, Location=kind[3:] + (name if kind.endswith("/") else ""))
        elif kind == "corrupted":
            self.answer(200, contents[: len(contents) // 2] + bytes([contents[-1] ^ 1]) * (len(contents) // 2))
        elif kind == "longer":
            self.answer(200, contents + b"and more")
        elif kind == "shorter":
            self.answer(200, contents[: len(contents) // 2])
        elif kind == "endless":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while True:
                self.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        else:
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(contents) - 1}/{len(contents)}")
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if kind == "truncated":
                self.wfile.write(rest[: len(contents) // 10])
                self.break_off()
            elif kind == "stalled":
                self.wfile.write(rest[:10])
                self.wfile.flush()
                time.sleep(1.5)
                self.break_off()
            elif kind == "slow":
                step = max(1, len(rest) // 20)
                for start in range(0, len(rest), step):
                    self.wfile.write(rest[start : start + step])
                    self.wfile.flush()
                    time.sleep(0.05)
            else:
                self.wfile.write(rest)


@contextmanager
def running_hub() -> Iterator[LocalHub]:
    """A running hub with one repository of two files."""
    local = LocalHub({"head.safetensors": bytes(range(256)) * 4000, "head.config.json": b'{"name": "head"}'})
    local.small = ("head.config.json",)
    listening = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"hub": local}))
    listening.daemon_threads = True
    local.address = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield local
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def seen_from(address: str, home: Path) -> Hub:
    """The server as anigender sees it, with its cache below ``home``."""
    return Hub(address, home / "hub", home / "anigender", timeout=5, pause=0)


def two_files() -> KnownModel:
    """The model of that repository."""
    files = (KnownFile("head.safetensors"), KnownFile("head.config.json"))
    return KnownModel("head-1", "quality", "a test", files, "MIT", "none", 1.0, REPOSITORY)
