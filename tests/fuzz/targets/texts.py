"""Texts: rules, captions, tags."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from anigender.caption_text import caption_batch
from anigender.captions import MODES, CaptionError, read_caption, write_caption
from anigender.faces import Faces
from anigender.rules import NAMES, PRESETS, RuleError, compile_rule
from anigender.tags import GROUPS, format_tags, merge_tags, parse_tags, spell_tags

from ..choices import Choices
from .target import Target, random_seeds

FACTS = {name: i / 3 for i, name in enumerate(NAMES)}


def run_rule(data: bytes, folder: Path) -> None:
    """Any text as a rule."""
    text = data.decode("utf-8", "surrogateescape")
    found = compile_rule(text, ["own_name"]).evaluate({**FACTS, "own_name": 2.0})
    assert isinstance(found, bool)


def rule_texts() -> list[bytes]:
    texts = [
        *PRESETS,
        *PRESETS.values(),
        *("female >= 1 and male == 0", "1 <= female <= 2 and not any-male", "largest > 20% or -confidence < .5"),
        *("((((faces))))", "not not true", "1 - -1 * 2 / 3 + own_name", "width / height >= 16 / 9", "not (a"),
        *("female = 1", "femal", "only-femal", "faces && 1", "１ > ２", "faces >= 1e5"),
    ]
    return [text.encode() for text in texts]


def run_expression(data: bytes, folder: Path) -> None:
    """An expression that is right: what it comes to is what Python makes of it."""
    choices = Choices(data)
    budget = [60]

    def grow(depth: int) -> str:
        budget[0] -= 1
        kind = choices.byte() % 12 if depth and budget[0] > 0 else choices.byte() % 3
        if kind == 0:
            return str(choices.whole(0, 30) / 4)
        if kind < 3:
            return choices.pick(list(NAMES))
        if kind < 5:
            return f"({grow(depth - 1)})"
        if kind == 5:
            return f"-{grow(depth - 1)}" if choices.flag() else f"(not {grow(depth - 1)})"
        sign = choices.pick(("+", "-", "*", "/", "and", "or", "<", "<=", ">", ">=", "==", "!="))
        space = choices.pick((" ", "  ", "\n", "\t"))
        return f"{grow(depth - 1)}{space}{sign}{space}{grow(depth - 1)}"

    text = grow(12)
    try:
        expected: Any = eval(text.replace("\n", " "), {"__builtins__": {}}, dict(FACTS))
    except (ZeroDivisionError, SyntaxError, RecursionError, MemoryError):
        expected = None
    try:
        found = compile_rule(text).evaluate(FACTS)
    except RuleError:
        # Python knows no limit of nesting, and "a < not b" is as wrong there.
        assert expected is None or "nested too deeply" in str(RuleError) or text.count("(") + text.count("-") > 20, text
        raise
    assert expected is None or found == bool(expected) or math.isnan(expected), (text, found, expected)


def run_caption(data: bytes, folder: Path) -> None:
    """A caption file of any bytes and tags of any kind: nothing is lost, and doing it again changes nothing."""
    choices = Choices(data)
    mode = choices.pick(MODES)
    separator = choices.pick((", ", ",", "; ", " ", "\n", "|", choices.text(2)))
    tags = [choices.pick(("1girl", "solo", "male_focus", choices.text(4))) for _ in range(choices.whole(0, 4))]
    content = choices.bytes(3) + data[choices.at :] if choices.flag() else choices.text(40).encode("utf-8", "replace")
    picture, path = folder / "picture.png", folder / "picture.txt"
    path.write_bytes(content)
    try:
        outcome = write_caption(picture, tags, mode, separator)
    except (ValueError, CaptionError):
        assert path.read_bytes() == content
        raise
    if mode == "skip":
        assert outcome == "skipped" and path.read_bytes() == content
        return
    text = read_caption(path)
    assert text is not None
    if outcome == "unchanged":
        assert path.read_bytes() == content
    if mode == "overwrite":
        return
    before = parse_tags(
        content.decode("utf-8").replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n"), separator
    )
    after = parse_tags(text, separator)
    if tags:
        assert set(merge_tags([], tags)) <= set(merge_tags([], [*after, *tags])), (before, after)
        both = merge_tags(after, before, "last", replace_counts=False)
        assert both == merge_tags(after, []), f"lost: {before} {after}"
    assert write_caption(picture, tags, mode, separator) == "unchanged", (content, text)


def run_tags(data: bytes, folder: Path) -> None:
    """Tags and captions of a batch."""
    choices = Choices(data)
    separator = choices.pick((", ", ",", " ", "\n", choices.text(3)))
    texts = [choices.text(20) for _ in range(choices.whole(0, 3))]
    tags = parse_tags(" ".join(texts), separator)
    assert all(tag == tag.strip() and tag for tag in tags)
    # Where tags share letters with the separator, an end and a beginning may make one more of it.
    if separator.strip() and not set(separator.strip()) & set("".join(tags)):
        assert parse_tags(separator.join(tags), separator) == tags
    spelled = spell_tags(tags, choices.flag(), choices.flag())
    assert len(spelled) == len(tags)
    format_tags(tags, separator)
    position = choices.pick(("first", "last", "first", "last", choices.text(2)))
    replace = choices.flag()
    merged = merge_tags(tags, texts, position, replace)
    assert merge_tags(merged, texts, position, replace) == merged


def run_captions_of_faces(data: bytes, folder: Path) -> None:
    """Captions of a batch of faces merged into texts of any kind."""
    choices = Choices(data)
    rows = [[[0.0, 0.0, 9.0, 9.0]] * choices.whole(0, 8) for _ in range(choices.whole(1, 3))]
    faces = Faces.from_boxes(rows, [(10, 10)] * len(rows))
    female = torch.tensor([choices.byte() / 255 for _ in range(len(faces))])
    faces = faces.with_probabilities(torch.stack((female, 1 - female), 1))
    found = caption_batch(
        faces,
        choices.some(lambda: choices.text(16), 3),
        choices.some(lambda: choices.pick((*GROUPS, "hair")), 2),
        choices.byte() / 255,
        choices.pick((", ", ",", " ", "\n", "", choices.text(2))),
        choices.flag(),
        choices.flag(),
        choices.text(5),
        choices.text(5),
        choices.pick(("first", "last", choices.text(1))),
        choices.flag(),
    )
    assert len(found) == len(rows)


RULE_WORDS = tuple(
    word.encode()
    for word in (
        *(*NAMES, *PRESETS, "and", "or", "not", "true", "false", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/"),
        *("(", ")", "%", "1", "0.5", "100", " ", "((((((((", "not not not ", "----", "9" * 400, "é", "\0"),
    )
)

TEXTS = (
    Target("rules", "rules from any text", run_rule, (RuleError,), rule_texts, RULE_WORDS, 12_000),
    Target("expressions", "right expressions, against Python's answer", run_expression, (RuleError,), random_seeds),
    Target("captions", "caption files", run_caption, (ValueError,), random_seeds),
    Target("tags", "tags and how they are merged", run_tags, (ValueError,), random_seeds, (), 512),
    Target("caption-batch", "captions of a batch", run_captions_of_faces, (ValueError,), random_seeds, (), 512),
)
