"""Captions of a batch as text: our tags, spelled and merged into what the user has written already."""

from __future__ import annotations

from collections.abc import Sequence

from .faces import Faces
from .tags import image_tags, merge_tags, parse_tags, spell_tags, tag_key


def caption_batch(
    faces: Faces,
    existing: Sequence[str] = (),
    groups: Sequence[str] = ("count", "focus"),
    minimum_confidence: float = 0.5,
    separator: str = ", ",
    underscores: bool = True,
    escape: bool = False,
    prefix: str = "",
    suffix: str = "",
    position: str = "first",
    replace_counts: bool = True,
) -> list[str]:
    """One caption per picture, in batch order; a picture that gets no tags keeps its caption word for word.

    Args:
        faces: classified faces.
        existing: captions to merge into: none, one for all pictures, or one per picture.
        groups: which tags; see :data:`anigender.tags.GROUPS`.
        minimum_confidence: below this a face's gender is not used.
        separator: between tags, also in the existing captions.
        underscores: ``multiple_girls`` rather than ``multiple girls``; for our own tags only.
        escape: write parentheses of our own tags as prompts need them.
        prefix, suffix: tags in front of and behind everything, such as a trigger word; nowhere else then.
        position: where our tags go among the existing ones, ``first`` or ``last``.
        replace_counts: let one side count (:func:`anigender.tags.merge_tags`).

    Raises:
        ValueError: another number of captions than of pictures, an empty separator, or an unknown group or position.

    >>> import torch
    >>> faces = Faces.from_boxes([[[0, 0, 9, 9]]], sizes=[(10, 10)]).with_probabilities(torch.tensor([[1.0, 0.0]]))
    >>> caption_batch(faces, ["mychar, red hair"], prefix="mychar")
    ['mychar, 1girl, solo, red hair']
    """
    if not separator:
        raise ValueError("the separator is empty: tags could not be told apart")
    captions = list(existing) or [""]
    if len(captions) == 1:
        captions *= faces.images
    if len(captions) != faces.images:
        raise ValueError(f"there are {len(captions)} captions for {faces.images} pictures")
    before, after = parse_tags(prefix, separator), parse_tags(suffix, separator)
    around = {tag_key(tag) for tag in (*before, *after)}
    lines = []
    for tags, caption in zip(image_tags(faces, groups, minimum_confidence), captions, strict=True):
        ours = [tag for tag in spell_tags(tags, underscores, escape) if tag_key(tag) not in around]
        existing = parse_tags(caption, separator)
        own = [tag for tag in existing if tag_key(tag) not in around]
        line = caption if len(own) == len(existing) else separator.join(own)
        if ours:
            line = with_tags(line, merge_tags(own, ours, position, replace_counts), position == "first", separator)
        if around:
            line = separator.join([*before, *([line.strip()] if line.strip() else []), *after])
        lines.append(line)
    return lines


def with_tags(text: str, merged: Sequence[str], first: bool, separator: str) -> str:
    """A caption's text with more tags; where its own stay as they stand, so do its line ends and spaces.

    Args:
        text: the caption.
        merged: all its tags, as :func:`~anigender.tags.merge_tags` gives them.
        first: the new ones are in front of its own.
        separator: between tags.
    """
    existing = parse_tags(text, separator)
    added, mark = len(merged) - len(existing), separator.strip()
    if list(merged) == existing:
        return text
    if existing and first and merged[added:] == existing:
        return separator.join([*merged[:added], text.strip().removeprefix(mark).lstrip()])
    if existing and not first and merged[: len(existing)] == existing:
        return separator.join([text.strip().removesuffix(mark).rstrip(), *merged[len(existing) :]])
    return separator.join(merged)
