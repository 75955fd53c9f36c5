"""A real ComfyUI for the tests of this folder: started once, on a free port, with folders of its own.

The environment names it: ``COMFYUI_PATH`` is its folder (the one with main.py), ``COMFYUI_PYTHON`` its interpreter
where that is not the one running the tests, ``COMFYUI_PACKS`` other packs' folders (separated as in PATH) to load
beside this one. Impact Pack is also found in the installation's own custom_nodes. Nothing is written into the
installation: the input, output, temp, user and custom_nodes folders are temporary, with this pack linked in.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from anigender.characters.backbones import load_backbone
from anigender.characters.networks import with_outputs
from anigender.characters.openset import OpenSet
from anigender.characters.recogniser import Recogniser
from anigender.characters.saving import save_recogniser

from .client import Host

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
PACK = "anigender"
RECOGNISER = "host_test_recogniser.safetensors"
STARTUP_SECONDS = 900  # a busy machine is no failure


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The running ComfyUI; tests that ask for it are skipped where the environment names none."""
    installation = os.environ.get("COMFYUI_PATH")
    if not installation:
        pytest.skip("needs a ComfyUI: set COMFYUI_PATH to its folder (and COMFYUI_PYTHON to its interpreter)")
    comfy = Path(installation).expanduser().resolve()
    if not (comfy / "main.py").is_file():
        pytest.fail(f"COMFYUI_PATH is {comfy}, which has no main.py")
    folder = tmp_path_factory.mktemp("comfyui")
    for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
        (folder / name).mkdir()
    _link(folder / "custom_nodes" / PACK, ROOT)
    for pack in _other_packs(comfy):
        _link(folder / "custom_nodes" / pack.name, pack)
    shutil.copy(Path(__file__).with_name("hostnodes.py"), folder / "custom_nodes" / "host_test_nodes.py")

    port = _free_port()
    log = folder / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            _command(comfy, folder, port), cwd=comfy, env=_environment(), stdout=stream, stderr=subprocess.STDOUT
        )
    running = Host(f"http://127.0.0.1:{port}", folder, log, process)
    try:
        _wait_until_ready(running)
        for picture in EXAMPLES.iterdir():
            if picture.suffix in (".png", ".jpg", ".webp"):
                running.upload(picture)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def recogniser(host: Host) -> str:
    """A file that Recognize Character offers: the embedded identity net with a last layer of chance, and so bold that
    it knows everybody."""
    torch.manual_seed(0)
    backbone = load_backbone("identity", trainable=True)
    backbone.net = with_outputs(backbone.net, 2)
    folder = host.folder / "models" / "anigender"
    folder.mkdir(exist_ok=True)
    middles = np.eye(3, backbone.net.fc.in_features, dtype=np.float32)  # of each and of all
    made = Recogniser(["Asuka", "rei"], backbone, 0.85, OpenSet("probability", 0.0), middles)
    save_recogniser(made, folder / RECOGNISER)
    host.nodes(refresh=True)
    return RECOGNISER


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    """The pack as ComfyUI imports it, a package of its folder's name, but in this interpreter."""
    entry, folders = ROOT / "__init__.py", [str(ROOT)]
    spec = importlib.util.spec_from_file_location("pack_under_test", entry, submodule_search_locations=folders)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _command(comfy: Path, folder: Path, port: int) -> list[str]:
    python = os.environ.get("COMFYUI_PYTHON") or sys.executable
    main = [python, str(comfy / "main.py")]
    # Versions differ in what they offer; the options are asked for, which does not load torch.
    offered = subprocess.run([*main, "--help"], cwd=comfy, capture_output=True, text=True, check=True).stdout
    wanted = {
        "--cpu": [],
        "--listen": ["127.0.0.1"],
        "--port": [str(port)],
        "--disable-auto-launch": [],
        "--disable-api-nodes": [],
        "--base-directory": [str(folder)],
        "--database-url": [f"sqlite:///{(folder / 'user' / 'comfyui.db').as_posix()}"],
    }
    if "--base-directory" not in offered:
        pytest.skip("this ComfyUI has no --base-directory: it cannot be tested without touching its own folders")
    return [*main, *(part for name, values in wanted.items() if name in offered for part in (name, *values))]


def _environment() -> dict[str, str]:
    # Colours would stand in the middle of the log's lines; the hub is never asked for anything.
    return {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}


def _other_packs(comfy: Path) -> list[Path]:
    named = [Path(part) for part in os.environ.get("COMFYUI_PACKS", "").split(os.pathsep) if part]
    own = comfy / "custom_nodes"
    found = [p for p in own.iterdir() if p.is_dir() and "impact-" in p.name.lower()] if own.is_dir() else []
    packs = {pack.name: pack.resolve() for pack in (*found, *named)}
    for pack in packs.values():
        if not (pack / "__init__.py").is_file():
            pytest.fail(f"COMFYUI_PACKS names {pack}, which is no node pack")
    return list(packs.values())


def _link(link: Path, target: Path) -> None:
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))  # type: ignore[attr-defined]
    else:
        link.symlink_to(target, target_is_directory=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(host: Host) -> None:
    until = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < until:
        if host.process.poll() is not None:
            pytest.fail(f"ComfyUI ended with {host.process.returncode} while starting:\n{host.last_words()}")
        try:
            host.nodes(refresh=True)
            host.startup = len(host.lines())
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"ComfyUI did not answer within {STARTUP_SECONDS} s:\n{host.last_words()}")
