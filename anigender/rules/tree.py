"""A rule as a tree, and how it is worked out from what is known of a picture.

Every node has ``work_out(facts)``. Values and short cuts are Python's: ``and`` and ``or`` give one of their operands,
a comparison gives a bool.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .vocabulary import CHARACTER, GENDER_NAMES, character_fact

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Unanswerable(Exception):
    """Evaluation failed at a position; Rule.evaluate adds the rule's text."""


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float

    def work_out(self, facts: Mapping[str, float]) -> float:
        return self.value


@dataclass(frozen=True)
class Name:
    """A fact that is asked for, and where in the text."""

    name: str
    position: int

    def work_out(self, facts: Mapping[str, float]) -> float:
        try:
            return facts[self.name]
        except KeyError:
            hint = ": the faces have not been classified" if self.name in GENDER_NAMES else ""
            raise Unanswerable(f"{self.name} is not known of this picture{hint}", self.position) from None


@dataclass(frozen=True)
class Has:
    """How many faces are a character, and where in the text that is asked."""

    name: str
    position: int

    def work_out(self, facts: Mapping[str, float]) -> float:
        wanted = character_fact(self.name)
        if wanted in facts:
            return facts[wanted]
        known = [fact.removeprefix(CHARACTER) for fact in facts if fact.startswith(CHARACTER)]
        if not known:
            hint = "the faces carry no names; recognise them first (--recogniser, Recognize Character)"
            raise Unanswerable(f'has("{self.name}") is not known of this picture: {hint}', self.position)
        close = difflib.get_close_matches(wanted.removeprefix(CHARACTER), known, 1)
        guess = f"; did you mean {close[0]}?" if close else f"; it knows {', '.join(known[:20])}"
        raise Unanswerable(f"the recogniser knows nobody called {self.name!r}{guess}", self.position)


@dataclass(frozen=True)
class Not:
    """The opposite."""

    operand: Node

    def work_out(self, facts: Mapping[str, float]) -> float:
        return not self.operand.work_out(facts)


@dataclass(frozen=True)
class Minus:
    """The negative."""

    operand: Node

    def work_out(self, facts: Mapping[str, float]) -> float:
        return -self.operand.work_out(facts)


@dataclass(frozen=True)
class Chain:
    """Operators of one level in a row: flat, so that a long rule is not a deep tree."""

    first: Node
    steps: tuple[tuple[str, int, Node], ...]  # operator, its position, right operand

    def work_out(self, facts: Mapping[str, float]) -> float:
        value = self.first.work_out(facts)
        if self.steps[0][0] in COMPARISONS:
            return self._compare(value, facts)
        for sign, position, node in self.steps:
            if sign in ("and", "or"):
                if bool(value) == (sign == "or"):
                    return value
                value = node.work_out(facts)
                continue
            right = node.work_out(facts)
            if sign == "/":
                if right == 0:
                    raise Unanswerable("division by zero", position)
                value /= right
            elif sign == "*":
                value *= right
            else:
                value += right if sign == "+" else -right
        return value

    def _compare(self, left: float, facts: Mapping[str, float]) -> bool:
        for sign, _, node in self.steps:
            right = node.work_out(facts)
            if not COMPARISONS[sign](left, right):
                return False
            left = right
        return True


Node = Number | Name | Has | Not | Minus | Chain
