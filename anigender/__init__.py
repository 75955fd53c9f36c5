"""anigender finds anime faces in pictures and says *female* or *male* for each, with a confidence one can trust.

>>> import anigender, torch
>>> pipeline = anigender.load()
>>> faces = pipeline(torch.zeros(1, 64, 64, 3))
>>> faces.gender
[]
"""

from __future__ import annotations

from .faces import Face, Faces
from .pipeline import Pipeline, load

__version__ = "0.1.0"
__all__ = ["Face", "Faces", "Pipeline", "__version__", "load"]
