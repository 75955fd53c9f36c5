"""What importing costs, and that nothing reaches for the network."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    """The output of a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_adds_nothing_heavy_to_torch() -> None:
    """Against torch's own modules rather than a clock: torch may import some of these itself."""
    code = """
import sys, torch
before = set(sys.modules)
import anigender
print("\\n".join(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""
    added = set(run(code).split())
    assert "anigender" in added
    heavy = {"cv2", "PIL", "huggingface_hub", "click", "tqdm", "scipy", "transformers", "safetensors", "requests"}
    assert not added & heavy
    assert added <= {"anigender"} | set(sys.stdlib_module_names)


def test_the_default_pipeline_needs_no_network() -> None:
    code = """
import socket, ssl, torch

def refuse(*_, **__):
    raise AssertionError("the network was asked for")

socket.create_connection = socket.getaddrinfo = socket.socket = refuse
import anigender
pipeline = anigender.load(device="cpu")
faces = pipeline(torch.rand(2, 64, 64, 3))
whole = anigender.load("whole-image", device="cpu")(torch.rand(2, 64, 64, 3))
print(faces.images, len(whole), "huggingface_hub" in __import__("sys").modules)
"""
    assert run(code).split() == ["2", "2", "False"]


def test_the_public_names() -> None:
    import anigender

    for name in anigender.__all__:
        assert hasattr(anigender, name)
    assert {"load", "Faces", "Face", "Pipeline"} <= set(anigender.__all__)
