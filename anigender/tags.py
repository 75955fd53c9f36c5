"""Danbooru tags from faces: how many girls and boys, ``solo``, ``male_focus``; and merging them into other tags.

What is never said: ``no_humans`` (a face that was not found is no proof that nobody is there) and ``female_focus``
(a trained model learns from a tag only if others use it, and for pictures of women only the count tags are the usage).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .faces import Faces

GROUPS = {
    "count": "1girl, 2boys, 6+girls, multiple_girls, multiple_boys, and solo for exactly one face",
    "focus": "male_focus where all faces are male",
    "gender": "the plain words female and male, for whatever is there",
}

_COUNT = re.compile(
    r"(?P<number>\d{1,9})\+?_?(?P<some>girl|boy|other)s?|multiple_(?P<several>girl|boy|other)s|solo|no_humans"
)
_PARENTHESIS = re.compile(r"(?<!\\)[()]")
# Two letters or digits in a row make a word. Tags without one are faces made of signs, such as ^_^ and o_o, where the
# underscore is a mouth and not a space.
_WORD = re.compile(r"[^\W_]{2}")


def image_tags(
    faces: Faces, groups: Sequence[str] = ("count", "focus"), minimum_confidence: float = 0.0
) -> list[list[str]]:
    """The tags of every picture, with underscores, count tags first.

    A picture without a face gets no tags. A face whose gender is less sure than ``minimum_confidence`` is neither a
    girl nor a boy, so a picture with one gets no count and no focus tags at all: every count would be wrong. The
    ``gender`` words of its other faces still hold and are given.

    Args:
        faces: classified faces of a batch.
        groups: which of :data:`GROUPS`; the order does not matter.
        minimum_confidence: below this probability (0..1) a face's gender is not used.

    Raises:
        ValueError: a group is not known, or there are faces and they have not been classified.

    >>> import torch
    >>> faces = Faces.from_boxes([[[0, 0, 9, 9]], []], sizes=[(10, 10), (10, 10)])
    >>> image_tags(faces.with_probabilities(torch.tensor([[0.1, 0.9]])))
    [['1boy', 'solo', 'male_focus'], []]
    """
    unknown = [group for group in groups if group not in GROUPS]
    if unknown:
        raise ValueError(f"tag group {unknown[0]!r} is not known; choose among {', '.join(GROUPS)}")
    girls, boys, unsure = [0] * faces.images, [0] * faces.images, [0] * faces.images
    if len(faces):
        host = faces.cpu()
        sure = (host.confidence >= minimum_confidence).tolist()
        for image, male, certain in zip(host.image_index.tolist(), host.gender_index.tolist(), sure, strict=True):
            counted = (boys if male else girls) if certain else unsure
            counted[image] += 1
    return [_tags(*counts, groups) for counts in zip(girls, boys, unsure, strict=True)]


def _tags(girls: int, boys: int, unsure: int, groups: Sequence[str]) -> list[str]:
    tags = []
    if "count" in groups and not unsure:
        tags += [_count_tag(n, word) for n, word in ((girls, "girl"), (boys, "boy")) if n]
        tags += [f"multiple_{word}s" for n, word in ((girls, "girl"), (boys, "boy")) if n > 1]
        if girls + boys == 1:
            tags.append("solo")
    if "focus" in groups and not unsure and boys and not girls:
        tags.append("male_focus")
    if "gender" in groups:
        tags += [word for n, word in ((girls, "female"), (boys, "male")) if n]
    return tags


def _count_tag(n: int, word: str) -> str:
    if n == 1:
        return f"1{word}"
    return f"{n}{word}s" if n < 6 else f"6+{word}s"


def spell_tags(tags: Iterable[str], underscores: bool = True, escape: bool = False) -> list[str]:
    r"""The same tags in another spelling.

    Args:
        tags: tags with underscores.
        underscores: True leaves them as they are, False makes them spaces (but not in faces such as ``^_^``).
        escape: write parentheses as ``\(`` and ``\)``, which prompts need and captions do not.

    >>> spell_tags(["male_focus", "saber_(fate)", "^_^"], underscores=False, escape=True)
    ['male focus', 'saber \\(fate\\)', '^_^']
    """
    spelled = []
    for tag in tags:
        if not underscores and _WORD.search(tag):
            tag = tag.replace("_", " ")
        spelled.append(_PARENTHESIS.sub(r"\\\g<0>", tag) if escape else tag)
    return spelled


def format_tags(tags: Iterable[str], separator: str = ", ", underscores: bool = True, escape: bool = False) -> str:
    """One line of the tags, spelled as :func:`spell_tags` does.

    >>> format_tags(["1boy", "male_focus"], underscores=False)
    '1boy, male focus'
    """
    return separator.join(spell_tags(tags, underscores, escape))


def parse_tags(text: str, separator: str = ",") -> list[str]:
    r"""The tags of a caption: split at the separator and at line ends, spaces around them and empty ones dropped.

    Args:
        text: the caption.
        separator: spaces around it do not matter (``","`` reads what ``", "`` wrote). A blank one splits at any
            space, a line end only at line ends.

    >>> parse_tags(" 1girl, red hair,,\nsolo ")
    ['1girl', 'red hair', 'solo']
    """
    mark = separator.strip()
    tags = []
    if mark:  # before lines are told apart, since some other line end may be part of it
        for part in filter(None, map(str.strip, text.split(mark))):
            tags += [line.strip() for line in part.splitlines()]
        return [tag for tag in tags if tag]
    for line in filter(None, text.splitlines()):
        tags += [line.strip()] if "\n" in separator else line.split()
    return [tag for tag in tags if tag]


def merge_tags(
    existing: Iterable[str], new: Iterable[str], position: str = "first", replace_counts: bool = True
) -> list[str]:
    """One list of both, without new ones that are there already; whatever else the user wrote stays as it is.

    Underscores and spaces, capitals and ``\\(`` make no difference when tags are compared. Of two alike, position
    ``first`` keeps the new one in front and ``last`` the existing one where it stands.

    Args:
        existing: the user's tags; one may be there twice (``BREAK``) and stays so.
        new: ours.
        position: where the new tags go, ``first`` or ``last``.
        replace_counts: where both have count tags (``2girls``, ``multiple boys``, ``1other``, ``solo``, ``no humans``),
            let one side speak. The existing ones stay where they count more people than ours do, since somebody may
            show no face, and ours and ``male focus`` are left out; else ours take their place.

    Raises:
        ValueError: another position.

    >>> merge_tags(["1girl", "solo", "hat"], ["2girls", "multiple girls"])
    ['2girls', 'multiple girls', 'hat']
    >>> merge_tags(["1girl", "1boy", "from behind"], ["1girl", "solo"])
    ['1girl', '1boy', 'from behind']
    >>> merge_tags(["hat", "Male Focus"], ["male_focus"], position="last")
    ['hat', 'Male Focus']
    """
    if position not in ("first", "last"):
        raise ValueError(f"position {position!r} is not known; choose first or last")
    own = [(key, tag) for tag in existing if (key := tag_key(tag))]
    ours: dict[str, str] = {}
    for tag in new:
        if key := tag_key(tag):
            ours.setdefault(key, tag)
    if replace_counts and any(map(_is_count, ours)):
        if _people(key for key, _ in own) > _people(ours):
            ours = {key: tag for key, tag in ours.items() if not (_is_count(key) or key == "male_focus")}
        else:
            own = [(key, tag) for key, tag in own if key in ours or not _is_count(key)]
    if position == "first":
        return [*ours.values(), *(tag for key, tag in own if key not in ours)]
    known = {key for key, _ in own}
    return [*(tag for _, tag in own), *(tag for key, tag in ours.items() if key not in known)]


def tag_key(tag: str) -> str:
    """What two spellings of a tag have in common; empty for nothing but spaces."""
    return "_".join(tag.replace("\\(", "(").replace("\\)", ")").casefold().split())


def _is_count(key: str) -> bool:
    return _COUNT.fullmatch(key) is not None


def _people(keys: Iterable[str]) -> int:
    """How many people count tags speak of, at least."""
    known: dict[str, int] = {}
    for key in keys:
        if found := _COUNT.fullmatch(key):
            word = found["some"] or found["several"] or ""
            number = 2 if found["several"] else int(found["number"] or key == "solo")
            known[word] = max(known.get(word, 0), number)
    alone = known.pop("", 0)
    return max(alone, sum(known.values()))
