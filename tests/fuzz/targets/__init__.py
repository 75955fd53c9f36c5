"""What is fuzzed: one small function per thing that reads what strangers wrote."""

from __future__ import annotations

from .files import FILES
from .pictures import PICTURES
from .target import Target
from .texts import TEXTS
from .values import VALUES

TARGETS: dict[str, Target] = {target.name: target for target in (*PICTURES, *TEXTS, *FILES, *VALUES)}
