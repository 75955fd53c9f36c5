"""The words of rules: what can be asked of a picture, and the rules that have a name."""

from __future__ import annotations

import unicodedata

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

GENDER_NAMES = frozenset(
    ("female", "male", "confidence", "female_confidence", "male_confidence", "largest_is_female", "largest_is_male")
)
KEYWORDS = frozenset(("and", "or", "not", "true", "false", "has"))
CHARACTER = "character:"  # in front of the names of facts that has("...") asks for


def character_fact(name: str) -> str:
    """The fact that ``has("name")`` asks for: how many faces of a picture are that character, in any case.

    >>> character_fact(" Asuka ")
    'character:asuka'
    """
    return CHARACTER + unicodedata.normalize("NFKC", name).strip().casefold()
