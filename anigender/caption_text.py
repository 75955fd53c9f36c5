"""Captions of a batch as text: our tags, spelled and merged into what the user has written already."""

from __future__ import annotations

from collections.abc import Sequence

from .faces import Faces
from .tags import image_tags, merge_tags, parse_tags, spell_tags


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
    """One caption per picture, in batch order; a picture without a face keeps what it had.

    Args:
        faces: classified faces.
        existing: captions to merge into: none, one for all pictures, or one per picture.
        groups: which tags; see :data:`anigender.tags.GROUPS`.
        minimum_confidence: below this a face's gender is not used.
        separator: between tags, also in the existing captions.
        underscores: ``multiple_girls`` rather than ``multiple girls``; for our own tags only.
        escape: write parentheses of our own tags as prompts need them.
        prefix, suffix: tags in front of and behind everything, such as a trigger word.
        position: where our tags go among the existing ones, ``first`` or ``last``.
        replace_counts: drop existing count tags that contradict ours.

    Raises:
        ValueError: another number of captions than of pictures, an empty separator, or an unknown group or position.

    >>> import torch
    >>> faces = Faces.from_boxes([[[0, 0, 9, 9]]], sizes=[(10, 10)]).with_probabilities(torch.tensor([[1.0, 0.0]]))
    >>> caption_batch(faces, ["2girls, red hair"], prefix="mychar")
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
    lines = []
    for tags, caption in zip(image_tags(faces, groups, minimum_confidence), captions, strict=True):
        ours = spell_tags(tags, underscores, escape)
        merged = merge_tags(parse_tags(caption, separator), ours, position, replace_counts)
        lines.append(separator.join([*before, *merged, *after]))
    return lines
