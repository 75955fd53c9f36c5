"""Rules: which pictures of a batch to keep, said in words such as ``female >= 1 and male == 0``.

A rule comes from a text field or a command line, so it is parsed here by hand and never evaluated as Python: nothing
but numbers, the names below and operators can be in it, and its length and depth are bounded.

Grammar, loosest first; words in any case::

    rule       := rule "or" rule | rule "and" rule | "not" rule | comparison
    comparison := sum (("==" | "!=" | "<" | "<=" | ">" | ">=") sum)*      chains as in Python: 1 <= female <= 2
    sum        := product (("+" | "-") product)*
    product    := sign (("*" | "/") sign)*
    sign       := "-" sign | number | number "%" | name | preset | "true" | "false" | "(" rule ")"
                | "has" "(" text ")"                                      faces that are a character: has("asuka")
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .parser import Parser, RuleError
from .tree import Has, Node, Unanswerable
from .vocabulary import KEYWORDS, NAMES, PRESETS, character_fact

__all__ = ["MAX_LENGTH", "NAMES", "PRESETS", "Rule", "RuleError", "compile_rule", "words"]

MAX_LENGTH = 10_000


@dataclass(frozen=True)
class Rule:
    """A rule that has been understood; made by :func:`compile_rule`.

    Attributes:
        text: as it was written.
        names: the names of facts that it uses.
    """

    text: str
    names: frozenset[str]
    _tree: Node = field(repr=False, compare=False)
    _asked_for: tuple[Has, ...] = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Rule({self.text!r})"

    def evaluate(self, facts: Mapping[str, float]) -> bool:
        """Whether the rule holds for a picture of which these facts are known; anything but 0 is true.

        Raises:
            RuleError: a division by zero, or a fact that the rule needs is missing.
        """
        return bool(self._work_out(self._tree, facts))

    def check_characters(self, known: Iterable[str]) -> None:
        """Ask beforehand whether these characters are all that ``has("...")`` needs.

        Raises:
            RuleError: the rule asks for another.
        """
        facts = dict.fromkeys(map(character_fact, known), 0.0)
        for question in self._asked_for:
            self._work_out(question, facts)

    def _work_out(self, node: Node, facts: Mapping[str, float]) -> float:
        try:
            return node.work_out(facts)
        except Unanswerable as error:
            problem, position = error.args
            raise RuleError(f"the rule cannot be worked out: {problem}", self.text, position) from None


def compile_rule(text: str, extra_names: Iterable[str] = ()) -> Rule:
    """Understand a rule.

    Args:
        text: an expression, a preset's name (:data:`PRESETS`), or an expression with presets in it.
        extra_names: lower-case names that may be used beside :data:`NAMES`; whoever evaluates the rule supplies them.

    Raises:
        RuleError: the rule cannot be understood, is longer than 10,000 characters or nested deeper than 100.
        ValueError: an extra name is not a lower-case word or is a word of the language.

    >>> rule = compile_rule("1 <= female <= 2 and not any-male")
    >>> rule.evaluate({"female": 2, "male": 0}), sorted(rule.names)
    (True, ['female', 'male'])
    """
    extra_names = list(extra_names)
    for name in extra_names:
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or name in KEYWORDS or name in PRESETS:
            raise ValueError(f"{name!r} cannot be a name in rules: it must be a lower-case word of its own")
    if len(text) > MAX_LENGTH:
        raise RuleError(f"the rule has {len(text):,} characters, at most {MAX_LENGTH:,} are allowed", text, MAX_LENGTH)
    parser = Parser(text, dict.fromkeys([*NAMES, *extra_names]))
    tree = parser.parse()
    return Rule(text, frozenset(parser.used), tree, tuple(parser.asked_for))


def words(text: str) -> set[str]:
    """All that could be a name in a rule: for checking its form where its names are not yet known."""
    plain = re.sub(r"""("[^"]*")|'[^']*'|“[^”]*”""", " ", text)
    return set(re.findall(r"[a-z_][a-z0-9_]*", plain.lower())) - KEYWORDS - PRESETS.keys()
