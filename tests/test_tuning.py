"""The command line keeps the memory it frees and the kernels it made; whoever has said otherwise is left alone."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from anigender.tuning import ENVIRONMENT, KERNELS, keep_freed_memory, tune

GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
# Page faults of filling a block of 8 MB a hundred times, once it and one as large have been freed.
FAULTS = """
import ctypes, resource, sys
from anigender.tuning import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
size, malloc, free = 8 << 20, ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype, malloc.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def use():
    both = [malloc(size), malloc(size)]
    for block in both:
        ctypes.memset(block, 1, size)
    for block in both:
        free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not GLIBC, reason="only glibc's allocator takes these settings")
def test_blocks_are_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ENVIRONMENT, "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    faults = {}
    for mode in ("keep", "default"):
        run = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
        faults[mode] = int(run.stdout)
    assert faults["keep"] < 100 < faults["default"]


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_somebody_elses_settings_stay(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert keep_freed_memory() is False


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert keep_freed_memory() is False


@pytest.mark.parametrize(("before", "after"), [(None, "4096"), ("7", "7")])
def test_kernels_are_kept(monkeypatch: pytest.MonkeyPatch, before: str | None, after: str) -> None:
    (name,) = KERNELS
    monkeypatch.setenv(name, before or "")
    if before is None:
        monkeypatch.delenv(name)
    tune()
    assert os.environ[name] == after
