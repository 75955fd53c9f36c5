"""How pytest takes the repository's root, which is a package for ComfyUI only."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent


class PlainRoot:
    """Makes the root a plain folder: a clone may be called ``comfyui-anigender``, which is no package's name."""

    @staticmethod
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """The folder's collector, where it is the root."""
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    """A conftest's own hooks are not asked about the folder that it lies in; those of a plugin are."""
    config.pluginmanager.register(PlainRoot())
