"""Rules: which pictures of a batch to keep, said in words such as ``female >= 1 and male == 0``.

A rule comes from a text field or a command line, so it is parsed here by hand and never evaluated as Python: nothing
but numbers, the names below and operators can be in it, and its length and depth are bounded.

Grammar, loosest first; words in any case::

    rule       := rule "or" rule | rule "and" rule | "not" rule | comparison
    comparison := sum (("==" | "!=" | "<" | "<=" | ">" | ">=") sum)*      chains as in Python: 1 <= female <= 2
    sum        := product (("+" | "-") product)*
    product    := sign (("*" | "/") sign)*
    sign       := "-" sign | number | number "%" | name | preset | "true" | "false" | "(" rule ")"
"""

from __future__ import annotations

import difflib
import operator
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from .faces import Faces

NAMES = {
    "female": "number of female faces",
    "male": "number of male faces",
    "faces": "number of faces",
    "largest": "side of the largest face as a share of the picture's, 0..1 (root of areas' ratio); 0 without a face",
    "smallest": "the same of the smallest face",
    "confidence": "how sure the least sure gender is, 0.5..1; 0 without a face, since nothing is sure then",
    "detection": "highest detection score, 0..1; 0 without a face",
    "female_confidence": "highest probability of being female among the faces, 0..1; 0 without a face",
    "male_confidence": "highest probability of being male among the faces, 0..1; 0 without a face",
    "largest_is_female": "1 where the largest face is female, else 0",
    "largest_is_male": "1 where the largest face is male, else 0",
    "width": "width of the picture in pixels",
    "height": "height of the picture in pixels",
    "aspect": "width divided by height",
}

# A preset is a word of the language, as in `any-female and largest > 20%`.
PRESETS = {
    "any-female": "female >= 1",
    "any-male": "male >= 1",
    "only-female": "female >= 1 and male == 0",
    "only-male": "male >= 1 and female == 0",
    "solo-female": "faces == 1 and female == 1",
    "solo-male": "faces == 1 and male == 1",
    "solo": "faces == 1",
    "mixed": "female >= 1 and male >= 1",
    "no-face": "faces == 0",
    "any-face": "faces >= 1",
    "many-faces": "faces >= 2",
    "sure": "faces >= 1 and confidence >= 90%",
    "unsure": "faces >= 1 and confidence < 90%",
}

MAX_LENGTH = 10_000
MAX_DEPTH = 100

_GENDER_NAMES = frozenset(
    ("female", "male", "confidence", "female_confidence", "male_confidence", "largest_is_female", "largest_is_male")
)
_KEYWORDS = frozenset(("and", "or", "not", "true", "false"))
_LEVELS = {
    "or": 1,
    "and": 2,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 4),
    **dict.fromkeys(("+", "-"), 5),
    **dict.fromkeys(("*", "/"), 6),
}
_NOT, _MINUS = 3, 7
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(
    rf"""(?P<preset>(?:{"|".join(sorted(PRESETS, key=len, reverse=True))})(?![a-z0-9_]))
    | (?P<name>[a-z_][a-z0-9_]*)
    | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)%?)
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


# -- the tree --------------------------------------------------------------------------------------------------------
# Values and short cuts are Python's: `and` and `or` give one of their operands, a comparison gives a bool.


class _Unanswerable(Exception):
    """Evaluation failed at a position; Rule.evaluate adds the rule's text."""


@dataclass(frozen=True)
class _Number:
    value: float

    def work_out(self, facts: Mapping[str, float]) -> float:
        return self.value


@dataclass(frozen=True)
class _Name:
    name: str
    position: int

    def work_out(self, facts: Mapping[str, float]) -> float:
        try:
            return facts[self.name]
        except KeyError:
            hint = ": the faces have not been classified" if self.name in _GENDER_NAMES else ""
            raise _Unanswerable(f"{self.name} is not known of this picture{hint}", self.position) from None


@dataclass(frozen=True)
class _Not:
    operand: _Node

    def work_out(self, facts: Mapping[str, float]) -> float:
        return not self.operand.work_out(facts)


@dataclass(frozen=True)
class _Minus:
    operand: _Node

    def work_out(self, facts: Mapping[str, float]) -> float:
        return -self.operand.work_out(facts)


@dataclass(frozen=True)
class _Chain:
    """Operators of one level in a row: flat, so that a long rule is not a deep tree."""

    first: _Node
    steps: tuple[tuple[str, int, _Node], ...]  # operator, its position, right operand

    def work_out(self, facts: Mapping[str, float]) -> float:
        value = self.first.work_out(facts)
        if self.steps[0][0] in _COMPARISONS:
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
                    raise _Unanswerable("division by zero", position)
                value /= right
            elif sign == "*":
                value *= right
            else:
                value += right if sign == "+" else -right
        return value

    def _compare(self, left: float, facts: Mapping[str, float]) -> bool:
        for sign, _, node in self.steps:
            right = node.work_out(facts)
            if not _COMPARISONS[sign](left, right):
                return False
            left = right
        return True


_Node = _Number | _Name | _Not | _Minus | _Chain


# -- the parser ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Token:
    kind: str  # name, number, sign (also and, or, not), end
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
        if kind == "preset":
            yield _Token("sign", "(", position)
            for inner in _tokens(PRESETS[word]):
                if inner.kind != "end":
                    yield _Token(inner.kind, inner.text, position)
            yield _Token("sign", ")", position)
        else:
            yield _Token("sign" if word in ("and", "or", "not") else kind, word, position)
        position = match.end()
    yield _Token("end", "", len(text))


class _Parser:
    """Precedence climbing over the tokens of one rule."""

    def __init__(self, text: str, known: Iterable[str]) -> None:
        self.text = text
        self.known = list(known)
        self.used: set[str] = set()
        self.depth = 0
        self.ahead = iter(_tokens(text))
        self.token = next(self.ahead)

    def parse(self) -> _Node:
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

    def expression(self, floor: int) -> _Node:
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
            tree = _Chain(tree, tuple(steps))
        self.depth -= 1
        return tree

    def level(self) -> int:
        return _LEVELS.get(self.token.text, 0)

    def operand(self, floor: int) -> _Node:
        token = self.token
        if token.text == "not" and floor <= _NOT:
            self.take()
            return _Not(self.expression(_NOT))
        if token.text == "-":
            self.take()
            return _Minus(self.expression(_MINUS))
        if token.text == "(":
            self.take()
            tree = self.expression(1)
            if self.token.text != ")":
                self.fail(f"expected an operator or the ) that closes the ( at character {token.position + 1}")
            self.take()
            return tree
        if token.kind == "number":
            self.take()
            return _Number(float(token.text.removesuffix("%")) / (100 if token.text.endswith("%") else 1))
        if token.kind == "name":
            return self.name()
        self.fail("expected a number, a name or ( here", "put the not in parentheses" if token.text == "not" else "")

    def name(self) -> _Node:
        word = self.token.text
        if word in ("true", "false"):
            self.take()
            return _Number(float(word == "true"))
        if word not in self.known:
            self.fail_unknown(word)
        self.used.add(word)
        return _Name(word, self.take().position)

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


# -- what others use -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A rule that has been understood; made by :func:`compile_rule`.

    Attributes:
        text: as it was written.
        names: the names of facts that it uses.
    """

    text: str
    names: frozenset[str]
    _tree: _Node = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Rule({self.text!r})"

    def evaluate(self, facts: Mapping[str, float]) -> bool:
        """Whether the rule holds for a picture of which these facts are known; anything but 0 is true.

        Raises:
            RuleError: a division by zero, or a fact that the rule needs is missing.
        """
        try:
            return bool(self._tree.work_out(facts))
        except _Unanswerable as error:
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
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or name in _KEYWORDS or name in PRESETS:
            raise ValueError(f"{name!r} cannot be a name in rules: it must be a lower-case word of its own")
    if len(text) > MAX_LENGTH:
        raise RuleError(f"the rule has {len(text):,} characters, at most {MAX_LENGTH:,} are allowed", text, MAX_LENGTH)
    parser = _Parser(text, dict.fromkeys([*NAMES, *extra_names]))
    tree = parser.parse()
    return Rule(text, frozenset(parser.used), tree)


def facts(faces: Faces) -> list[dict[str, float]]:
    """What is known of every picture, by :data:`NAMES`; one copy to the host for the whole batch.

    Where there are faces that have not been classified, the names that tell of gender are left out: a rule that needs
    one then fails instead of deciding.
    """
    host = faces.cpu().clipped()
    sides = (host.boxes[:, 2:] - host.boxes[:, :2]).clamp(min=0).prod(1).sqrt().tolist()
    classified = host.probabilities is not None or not len(host)
    both = host.probabilities.tolist() if host.probabilities is not None else [(0.0, 0.0)] * len(host)
    male = host.gender_index.tolist() if host.probabilities is not None else [0] * len(host)
    members: list[list[_Member]] = [[] for _ in range(host.images)]
    rows = zip(host.image_index.tolist(), sides, host.scores.tolist(), both, male, strict=True)
    for image, side, score, (p_female, p_male), is_male in rows:
        # 0.9 in float32 is a little less than 0.9, but `confidence >= 0.9` is meant to hold for it.
        members[image].append(_Member(side, round(score, 6), round(p_female, 6), round(p_male, 6), bool(is_male)))
    table = []
    for own, (height, width) in zip(members, host.image_sizes.tolist(), strict=True):
        row = _facts_of_one(own, width, height)
        table.append(row if classified else {name: row[name] for name in row if name not in _GENDER_NAMES})
    return table


class _Member(NamedTuple):
    side: float
    score: float
    female: float
    male: float
    is_male: bool


def _facts_of_one(own: list[_Member], width: int, height: int) -> dict[str, float]:
    root = (width * height) ** 0.5 or 1.0
    men = sum(face.is_male for face in own)
    # Of two as large the first counts, which is the one that was detected better.
    largest = max(own, key=lambda face: face.side, default=None)
    return {
        "female": float(len(own) - men),
        "male": float(men),
        "faces": float(len(own)),
        "largest": largest.side / root if largest else 0.0,
        "smallest": min((face.side for face in own), default=0.0) / root,
        "confidence": min((max(face.female, face.male) for face in own), default=0.0),
        "detection": max((face.score for face in own), default=0.0),
        "female_confidence": max((face.female for face in own), default=0.0),
        "male_confidence": max((face.male for face in own), default=0.0),
        "largest_is_female": float(largest is not None and not largest.is_male),
        "largest_is_male": float(largest is not None and largest.is_male),
        "width": float(width),
        "height": float(height),
        "aspect": width / height if height else 0.0,
    }


def select(faces: Faces, rule: Rule | str) -> list[bool]:
    """For every picture, whether the rule (or preset, or expression) holds.

    Raises:
        RuleError: the rule cannot be understood or worked out.
    """
    rule = compile_rule(rule) if isinstance(rule, str) else rule
    return [rule.evaluate(row) for row in facts(faces)]
