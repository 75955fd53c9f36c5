"""The hub of these tests: see server.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anigender.downloads import Hub
from anigender.known_models import KnownModel

from .server import LocalHub, running_hub, seen_from, two_files


@pytest.fixture
def server() -> Iterator[LocalHub]:
    """A running hub with one repository of two files."""
    with running_hub() as local:
        yield local


@pytest.fixture
def hub(server: LocalHub, tmp_path: Path) -> Hub:
    """The server as anigender sees it, with a fresh cache."""
    return seen_from(server.address, tmp_path / "home")


@pytest.fixture
def model() -> KnownModel:
    """The model of that repository."""
    return two_files()
