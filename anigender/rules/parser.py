"""From a rule's text to its tree, and the error that points at what cannot be understood."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from .tree import Chain, Has, Minus, Name, Node, Not, Number
from .vocabulary import PRESETS

MAX_DEPTH = 100

_LEVELS = {
    "or": 1,
    "and": 2,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 4),
    **dict.fromkeys(("+", "-"), 5),
    **dict.fromkeys(("*", "/"), 6),
}
_NOT, _MINUS = 3, 7
_TOKEN = re.compile(
    rf"""(?P<preset>(?:{"|".join(sorted(PRESETS, key=len, reverse=True))})(?![a-z0-9_]))
    | (?P<name>[a-z_][a-z0-9_]*)
    | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)%?)
    | (?P<text>"[^"]*"|'[^']*'|“[^”]*”)
    | (?P<sign>==|!=|<=|>=|[-+*/<>()])""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_HYPHENATED = re.compile(r"[A-Za-z_][\w-]*")
_HINTS = {"=": "use == to compare", "&": "use the word and", "|": "use the word or", "!": "use the word not, or !="}


class RuleError(ValueError):
    """A rule that cannot be understood or worked out; the message shows the rule and points at the place.

    Attributes:
        rule: the rule's text.
        position: index of the character that is wrong (the text's length where it ends too early).
    """

    def __init__(self, problem: str, rule: str, position: int, advice: str = "") -> None:
        super().__init__("\n".join(filter(None, (problem, *_point_at(rule, position), advice))))
        self.rule = rule
        self.position = position


def _point_at(rule: str, position: int) -> tuple[str, str]:
    """The part of the rule around a position on one line, and a line with a caret below the character."""
    start, end = max(0, position - 60), min(len(rule), position + 40)
    before = "".join(c if c.isprintable() else " " for c in rule[start:position])
    after = "".join(c if c.isprintable() else " " for c in rule[position:end])
    before = ("…" if start else "") + before
    columns = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in before)
    return f"  {before}{after}{'…' if end < len(rule) else ''}", "  " + " " * columns + "^"


@dataclass(frozen=True)
class _Token:
    kind: str  # name, number, text (without its quotes), sign (also and, or, not), end
    text: str
    position: int


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            character = text[position]
            advice = _HINTS.get(character, "numbers, names, and or not, == != < <= > >=, + - * / and ( ) can be used")
            raise RuleError(f"the character {character!r} has no meaning in a rule", text, position, advice)
        kind, word = str(match.lastgroup), match.group().lower()
        if kind == "text":
            word = match.group()[1:-1]
        if kind == "preset":
            yield _Token("sign", "(", position)
            for inner in _tokens(PRESETS[word]):
                if inner.kind != "end":
                    yield _Token(inner.kind, inner.text, position)
            yield _Token("sign", ")", position)
        else:
            yield _Token("sign" if kind == "name" and word in ("and", "or", "not") else kind, word, position)
        position = match.end()
    yield _Token("end", "", len(text))


class Parser:
    """Precedence climbing over the tokens of one rule (Richards and Whitby-Strevens, "BCPL", 1979).

    Args:
        text: the rule.
        known: the names that it may use.

    Attributes:
        used: the names that it does use, once it is parsed.
        asked_for: the characters that it asks for.
    """

    def __init__(self, text: str, known: Iterable[str]) -> None:
        self.text = text
        self.known = list(known)
        self.used: set[str] = set()
        self.asked_for: list[Has] = []
        self.depth = 0
        self.ahead = iter(_tokens(text))
        self.token = next(self.ahead)

    def parse(self) -> Node:
        """The rule's tree.

        Raises:
            RuleError: the rule cannot be understood.
        """
        if self.token.kind == "end":
            self.fail("the rule is empty", f"write a preset ({', '.join(PRESETS)}) or something like female >= 1")
        tree = self.expression(1)
        if self.token.kind != "end":
            self.fail("expected an operator or the end of the rule here")
        return tree

    def fail(self, problem: str, advice: str = "") -> NoReturn:
        raise RuleError(problem, self.text, self.token.position, advice)

    def take(self) -> _Token:
        token, self.token = self.token, next(self.ahead, self.token)
        return token

    def expression(self, floor: int) -> Node:
        """An operand and all the operators behind it that bind at least as tightly as ``floor``."""
        # Every way down leads through here, so this alone keeps a hostile rule off Python's recursion limit.
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"the rule is nested too deeply: more than {MAX_DEPTH} levels")
        tree = self.operand(floor)
        while (level := self.level()) >= floor:
            steps = []
            while self.level() == level:
                sign = self.take()
                steps.append((sign.text, sign.position, self.expression(level + 1)))
            tree = Chain(tree, tuple(steps))
        self.depth -= 1
        return tree

    def level(self) -> int:
        return _LEVELS.get(self.token.text, 0)

    def operand(self, floor: int) -> Node:
        token = self.token
        if token.text == "not" and floor <= _NOT:
            self.take()
            return Not(self.expression(_NOT))
        if token.text == "-":
            self.take()
            return Minus(self.expression(_MINUS))
        if token.text == "(":
            self.take()
            tree = self.expression(1)
            if self.token.text != ")":
                self.fail(f"expected an operator or the ) that closes the ( at character {token.position + 1}")
            self.take()
            return tree
        if token.kind == "number":
            self.take()
            return Number(float(token.text.removesuffix("%")) / (100 if token.text.endswith("%") else 1))
        if token.kind == "name":
            return self.has() if token.text == "has" else self.name()
        self.fail("expected a number, a name or ( here", "put the not in parentheses" if token.text == "not" else "")

    def has(self) -> Node:
        """``has("name")``: the number of faces that are this character."""
        position = self.take().position
        for kind, text in (("sign", "("), ("text", None), ("sign", ")")):
            if self.token.kind != kind or (text is not None and self.token.text != text):
                self.fail("has asks for a character by name", 'write has("name"), with the name in quotes')
            token = self.take()
            if kind == "text":
                name = token.text
        if not name.strip():
            raise RuleError("has asks for a character by name, this one is empty", self.text, position)
        self.asked_for.append(Has(name, position))
        return self.asked_for[-1]

    def name(self) -> Node:
        word = self.token.text
        if word in ("true", "false"):
            self.take()
            return Number(float(word == "true"))
        if word not in self.known:
            self.fail_unknown(word)
        self.used.add(word)
        return Name(word, self.take().position)

    def fail_unknown(self, word: str) -> NoReturn:
        # `only-femal` reads as a subtraction, but is surely a preset mistyped.
        match = _HYPHENATED.match(self.text, self.token.position)
        whole = match.group().lower() if match else word
        close = difflib.get_close_matches(whole, PRESETS, 1) if "-" in whole else []
        close = close or difflib.get_close_matches(word, [*self.known, *PRESETS], 1)
        guess = f"; did you mean {close[0]}?" if close else ""
        self.fail(
            f"{(whole if '-' in whole and close and close[0] in PRESETS else word)[:40]!r} is not a known name{guess}",
            f"names: {', '.join(self.known)}\npresets: {', '.join(PRESETS)}",
        )
