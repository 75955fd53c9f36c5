"""What quality heads say of a batch, by names that rules can use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..rules import NAMES, PRESETS
from ..rules.vocabulary import KEYWORDS

_WORDS = frozenset((*NAMES, *PRESETS, *KEYWORDS))


@dataclass(frozen=True)
class Scores:
    """Values of one or more heads for every picture of a batch.

    Attributes:
        values: ``[B, K]`` float32 in host memory, 0 to 1.
        columns: for each of the K values the head's name and the label.

    >>> scores = Scores(torch.tensor([[0.1, 0.9]]), (("CCAnime", "Pass"), ("CCAnime", "Chromatic Aberration")))
    >>> scores.names
    ('pass', 'chromatic_aberration')
    """

    values: Tensor
    columns: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.columns):
            raise ValueError(f"values have shape {list(self.values.shape)}, expected [B, {len(self.columns)}]")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """The values' names in rules: of their labels, with the head's in front where two would be the same."""
        plain = [_plain_name(head, label, i) for i, (head, label) in enumerate(self.columns)]
        often = Counter(plain)
        names: list[str] = []
        for name, (head, _) in zip(plain, self.columns, strict=True):
            unique = f"{_word(head) or 'quality'}_{name}" if often[name] > 1 or name in _WORDS else name
            number, different = len(names), unique
            while different in names:
                number, different = number + 1, f"{unique}_{number}"
            names.append(different)
        return tuple(names)

    def rows(self) -> list[dict[str, float]]:
        """For every picture its values by name, to six digits: 0.9 in float32 is a little less than 0.9."""
        names = self.names
        return [dict(zip(names, (round(v, 6) for v in row), strict=True)) for row in self.values.tolist()]

    def column_of(self, own: Scores, name: str) -> int:
        """Which column here is a value of ``own``, whose columns are the last ones here.

        Args:
            own: these scores, or those that were put beside others.
            name: the value's name among its own or here, where it may be longer; empty for the first.

        Raises:
            ValueError: there is none of that name.
        """
        first = len(self.columns) - len(own.columns)
        here = self.names[first:]
        places = {known: first + i for names in (own.names, here) for i, known in enumerate(names)}
        wanted = name.strip().lower()
        if wanted and wanted not in places:
            raise ValueError(f"{wanted!r} is none of {', '.join(here)}")
        return places[wanted] if wanted else first

    def beside(self, other: Scores) -> Scores:
        """The values of both.

        Raises:
            ValueError: they are of batches of different lengths.
        """
        if len(self) != len(other):
            raise ValueError(f"there are scores of {len(self)} pictures and of {len(other)}")
        return Scores(torch.cat((self.values, other.values), 1), self.columns + other.columns)

    def take(self, indices: Sequence[int]) -> Scores:
        """The scores of these pictures."""
        return Scores(self.values[list(indices)], self.columns)


def _plain_name(head: str, label: str, column: int) -> str:
    if label == "0" or not label:  # a single output: what is scored is in the head's name
        return "aesthetic" if "aesthetic" in head.lower() else _word(head) or f"value_{column}"
    return _word(label) or f"value_{column}"


def _word(text: str) -> str:
    """A lower-case word of ASCII letters, digits and underscores that begins with a letter; "" where none is left."""
    word = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return f"label_{word}" if word[:1].isdigit() else word
