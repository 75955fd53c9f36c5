"""The packages of the extra ``characters``, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

INSTALL = "python -m pip install scikit-learn skops mahotas"


def needs(module: str) -> Any:
    """A module that a part of ComfyUI's installations lacks, such as those of scikit-learn, skops and mahotas.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"sklearn": "scikit-learn", "cv2": "opencv-python"}.get(module.split(".")[0], module.split(".")[0])
        raise ImportError(f"recognising characters needs {package}, which is not installed: {INSTALL}") from error
