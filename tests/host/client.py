"""What the host tests need of ComfyUI's HTTP interface, with the standard library alone.

The tests drive the server as any front end does, over the wire, so that they neither import ComfyUI nor share its
interpreter. Everything a test asks about a run is in :class:`Run`; everything it may do is a method of :class:`Host`.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

Prompt = dict[str, dict[str, Any]]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Rejected(Exception):
    """The server refused a prompt before running anything; ``errors`` are its words, by node id."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.error: dict[str, Any] = answer.get("error", {})
        self.errors: dict[str, Any] = answer.get("node_errors", {})
        super().__init__(json.dumps(answer, ensure_ascii=False)[:2000])

    def text_of(self, node: str) -> str:
        """All that was said about one node, joined."""
        return "; ".join(f"{e.get('message')}: {e.get('details')}" for e in self.errors.get(node, {}).get("errors", []))


@dataclass(frozen=True)
class Run:
    """How a prompt went, from its history entry."""

    prompt_id: str
    prompt: Prompt
    status: str
    messages: list[tuple[str, dict[str, Any]]]
    outputs: dict[str, dict[str, list[Any]]]

    @property
    def succeeded(self) -> bool:
        return self.status == "success"

    @property
    def interrupted(self) -> bool:
        return any(kind == "execution_interrupted" for kind, _ in self.messages)

    @property
    def error(self) -> dict[str, Any]:
        """The failure: ``node_id``, ``node_type``, ``exception_type``, ``exception_message``; empty where none was."""
        return next((data for kind, data in self.messages if kind == "execution_error"), {})

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes whose results were taken from the cache."""
        return {str(node) for kind, data in self.messages if kind == "execution_cached" for node in data["nodes"]}

    def ui(self, node: str, key: str) -> list[Any]:
        """What a node showed under a key (``images``, ``text`` …); an empty list where it showed nothing."""
        return list(self.outputs.get(node, {}).get(key) or [])


@dataclass
class Host:
    """A running ComfyUI, its folders and its log."""

    url: str
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]
    information: dict[str, Any] = field(default_factory=dict)
    startup: int = 0  # lines of the log when the server was ready

    # -- plain requests ----------------------------------------------------------------------------------------------

    def request(self, path: str, body: Any = None, content_type: str = "application/json") -> bytes:
        """GET, or POST where there is a body (bytes as they are, anything else as JSON)."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": content_type} if data else {})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.read()

    def get(self, path: str) -> Any:
        return json.loads(self.request(path))

    def found(self, path: str) -> bool:
        """Whether the server has something at this address."""
        try:
            self.request(path)
        except urllib.error.HTTPError as e:
            if e.code == 404:
                return False
            raise
        return True

    def nodes(self, refresh: bool = False) -> dict[str, Any]:
        """``/object_info``: every node the host knows."""
        if refresh or not self.information:
            self.information = self.get("/object_info")
        return self.information

    def lines(self, start: int = 0) -> list[str]:
        """The log from a line number on, without its colours."""
        return _COLOUR.sub("", self.log.read_text("utf-8", "replace")).splitlines()[start:]

    def upload(self, picture: Path, name: str | None = None, subfolder: str = "") -> str:
        """Puts a picture into the input folder, as the front end's upload button does; its name there."""
        edge = uuid.uuid4().hex
        name = name or picture.name
        parts = [
            f'Content-Disposition: form-data; name="image"; filename="{name}"\r\n'.encode()
            + b"Content-Type: application/octet-stream\r\n\r\n"
            + picture.read_bytes(),
            *(
                f'Content-Disposition: form-data; name="{key}"\r\n\r\n{value}'.encode()
                for key, value in {"overwrite": "true", "subfolder": subfolder}.items()
            ),
        ]
        body = b"".join(f"--{edge}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{edge}--\r\n".encode()
        answer = json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={edge}"))
        return "/".join(filter(None, (answer["subfolder"], answer["name"])))

    def picture(self, shown: dict[str, str]) -> Image.Image:
        """One of a node's ``images``, fetched as the front end would."""
        picture = Image.open(io.BytesIO(self.request("/view?" + urllib.parse.urlencode(shown))))
        picture.load()
        return picture

    # -- running -----------------------------------------------------------------------------------------------------

    def submit(self, prompt: Prompt, client: str = "host-tests", workflow: dict[str, Any] | None = None) -> str:
        """Queues a prompt in the API format; its id.

        Raises:
            Rejected: the prompt is not valid, or a part of it is not (which the server would skip silently).
        """
        body: dict[str, Any] = {"prompt": prompt, "client_id": client}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        try:
            answer = json.loads(self.request("/prompt", body))
        except urllib.error.HTTPError as e:
            if e.code != 400:
                raise
            raise Rejected(json.loads(e.read())) from None
        if answer.get("node_errors"):
            self.wait(answer["prompt_id"])
            raise Rejected(answer)
        return str(answer["prompt_id"])

    def wait(self, prompt_id: str, seconds: float = 900) -> Run:
        """Waits until a prompt has ended, whichever way.

        Raises:
            TimeoutError: it has not; the message carries the end of the log.
            RuntimeError: the server is gone.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry and entry.get("status"):
                status = entry["status"]
                messages = [(kind, data) for kind, data in status["messages"]]
                return Run(prompt_id, entry["prompt"][2], status["status_str"], messages, entry["outputs"])
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended with {self.process.returncode}:\n" + self.last_words())
            time.sleep(0.05)
        raise TimeoutError(f"prompt {prompt_id} did not end within {seconds} s:\n" + self.last_words())

    def run(self, prompt: Prompt, seconds: float = 900, workflow: dict[str, Any] | None = None) -> Run:
        """Queues a prompt and waits for its end."""
        return self.wait(self.submit(prompt, workflow=workflow), seconds)

    def interrupt(self) -> None:
        """What the front end's stop button sends."""
        self.request("/interrupt", {})

    def python(self, code: str) -> str:
        """What a program prints in the host's interpreter, on its own and without the server."""
        command = [str(self.process.args[0]), "-c", code]  # type: ignore[index]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout

    def last_words(self) -> str:
        return "\n".join(self.lines()[-40:])

    def listen(self, client: str) -> Listener:
        """Opens the web socket on which the server reports to one client."""
        address = urllib.parse.urlsplit(self.url)
        assert address.hostname is not None and address.port is not None
        return Listener(address.hostname, address.port, f"/ws?clientId={urllib.parse.quote(client)}")


@dataclass(frozen=True)
class Node:
    """A node of a :class:`Graph`; ``node["name"]`` is the link from its output of that name."""

    id: str
    outputs: list[str]

    def __getitem__(self, output: str) -> list[Any]:
        return [self.id, self.outputs.index(output)]


class Graph:
    """A prompt in the making: nodes by type, their inputs by name, defaults where the server declares them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.prompt: Prompt = {}

    def add(self, type_: str, /, **inputs: Any) -> Node:
        """Adds a node. Links are what ``node["output"]`` gives; a required widget that is not given has its default."""
        about = self._host.nodes()[type_]
        for name, (kind, *options) in about["input"].get("required", {}).items():
            given = options[0] if options else {}
            if name not in inputs and ("default" in given or isinstance(kind, list)):
                inputs[name] = given.get("default", kind[0])
        node = Node(str(len(self.prompt) + 1), list(about["output_name"]))
        self.prompt[node.id] = {"class_type": type_, "inputs": inputs}
        return node

    def show(self, link: list[Any]) -> str:
        """Adds a node that describes what comes through a link; its id, for :func:`shown`."""
        return self.add("HostTestDescribe", value=link).id

    def pictures(self, *names: str) -> list[Any]:
        """Adds pictures from the input folder as one batch; the link to it."""
        loaded = [self.add("LoadImage", image=name)["IMAGE"] for name in names]
        batch = loaded[0]
        for link in loaded[1:]:
            batch = self.add("ImageBatch", image1=batch, image2=link)["IMAGE"]
        return batch


def shown(run: Run, node: str) -> list[Any]:
    """What :meth:`Graph.show` added under this id has described: the items of the list that came."""
    (text,) = run.ui(node, "text")
    return json.loads(text)


class Listener:
    """The receiving half of a web socket (RFC 6455), which is all these tests need of one."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._socket = socket.create_connection((host, port), timeout=900)
        self._stream = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        if b" 101 " not in self._stream.readline():
            raise ConnectionError("the server refused the web socket")
        while self._stream.readline().strip():
            pass

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(type, data) of every message as it comes.

        The binary messages are previews and progress texts; of these the texts are given, as ``progress_text``.
        """
        for opcode, payload in self._frames():
            if opcode == 1:
                message = json.loads(payload)
                yield message["type"], message.get("data") or {}
            elif opcode == 2 and len(payload) >= 8 and struct.unpack(">I", payload[:4])[0] == 3:
                size = struct.unpack(">I", payload[4:8])[0]
                node, text = payload[8 : 8 + size].decode(), payload[8 + size :].decode()
                yield "progress_text", {"node": node, "text": text}

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        while len(head := self._stream.read(2)) == 2:
            opcode, size = head[0] & 15, head[1] & 127
            if size == 126:
                size = struct.unpack(">H", self._stream.read(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self._stream.read(8))[0]
            payload = self._stream.read(size)
            if opcode == 8:
                return
            yield opcode, payload
