"""How pytest takes the repository's root, which is a package for ComfyUI only."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
# To import this file, pytest has imported the root as a package of the clone's name. Where that is ``anigender``, what
# ``import anigender`` should find is the library in it.
PACKAGE = __name__.rpartition(".")[0]
if PACKAGE and getattr(sys.modules.get(PACKAGE), "__file__", None) == str(ROOT / "__init__.py"):
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
        if name != __name__:
            del sys.modules[name]


class PlainRoot:
    """Makes the root a plain folder: a clone may be called ``comfyui-anigender``, which is no package's name."""

    @staticmethod
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """The folder's collector, where it is the root."""
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    """A conftest's own hooks are not asked about the folder that it lies in; those of a plugin are."""
    config.pluginmanager.register(PlainRoot())
