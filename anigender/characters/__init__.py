"""Recognising characters by features and estimators, or by fine-tuned networks.

scikit-learn, skops and mahotas are imported where they are used: ``python -m pip install scikit-learn skops mahotas``.

>>> from anigender.characters import METHODS
>>> METHODS["knn"]
'k nearest neighbours'
"""

from __future__ import annotations

from .estimators import METHODS
from .recogniser import OpenSet, Recogniser
from .saving import is_recogniser, read_recogniser, save_recogniser

__all__ = ["METHODS", "OpenSet", "Recogniser", "is_recogniser", "read_recogniser", "save_recogniser"]
