"""Routing: what is known of every picture of a batch, and for which of them a rule holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .faces import Faces
from .rules import Rule, compile_rule
from .rules.vocabulary import GENDER_NAMES, character_fact


def facts(faces: Faces) -> list[dict[str, float]]:
    """What is known of every picture, by :data:`NAMES`; one copy to the host for the whole batch.

    Where there are faces that have not been classified, the names that tell of gender are left out: a rule that needs
    one then fails instead of deciding. Where faces carry names, the number of faces of every name is told too, under
    :func:`~anigender.rules.vocabulary.character_fact`.
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
        table.append(row if classified else {name: row[name] for name in row if name not in GENDER_NAMES})
    if host.characters is not None:
        for row in table:
            row.update(dict.fromkeys(map(character_fact, host.characters), 0.0))
        for image, name in zip(host.image_index.tolist(), host.names, strict=True):
            if name:
                table[image][character_fact(name)] += 1
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


def select(faces: Faces, rule: Rule | str, known: Sequence[Mapping[str, float]] | None = None) -> list[bool]:
    """For every picture, whether the rule (or preset, or expression) holds.

    Args:
        faces: of the batch.
        rule: or its text.
        known: what else is known of every picture, by name, such as :meth:`anigender.quality.Scores.rows` gives.

    Raises:
        RuleError: the rule cannot be understood or worked out.
        ValueError: ``known`` is of another number of pictures.
    """
    if known is not None and len(known) != faces.images:
        raise ValueError(f"{len(known)} pictures are scored, the faces are of {faces.images}")
    own = known or [{}] * faces.images
    rule = compile_rule(rule, own[0] if own else ()) if isinstance(rule, str) else rule
    return [rule.evaluate({**row, **more}) for row, more in zip(facts(faces), own, strict=True)]
