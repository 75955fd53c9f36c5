"""The nodes that keep some pictures of a batch, or some of their faces, and reject the others."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..anigender.faces import Faces
from ..anigender.quality.scores import Scores
from ..anigender.rules import NAMES, PRESETS, RuleError, compile_rule, words
from ..anigender.selection import (
    format_indices,
    narrow_faces,
    select_pictures,
    take_faces,
    take_latents,
    take_masks,
    take_pictures,
)
from . import host
from .sockets import (
    CATEGORY,
    FACES,
    FACES_OF_IMAGE,
    GENDERS,
    IMAGE,
    MINIMUM_CONFIDENCE,
    MODELS,
    known_or_detected,
    named,
    on_empty,
)

NOT_CONNECTED = object()  # where the host leaves an input out, as opposed to None for one that is linked


class FilterBatch:
    """``IMAGE`` to kept and rejected ``IMAGE``, with whatever travels along."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Keeps the pictures of a batch that fit a rule, such as any-female or female >= 1 and male == 0. "
        "Latents, masks and faces travel along; nothing ever shifts."
    )
    SEARCH_ALIASES = ("filter images", "gender filter", "keep female", "keep male", "route batch", "1girl only", "solo")
    RETURN_TYPES = (
        *("IMAGE", "IMAGE", "STRING", "BOOLEAN", "INT", "INT"),
        *("LATENT", "LATENT", "MASK", "MASK", "FACES", "FACES"),
    )
    RETURN_NAMES = (
        *("kept", "rejected", "kept_indices", "any_kept", "kept_count", "rejected_count"),
        *("kept_latent", "rejected_latent", "kept_mask", "rejected_mask", "kept_faces", "rejected_faces"),
    )
    OUTPUT_TOOLTIPS = (
        "The pictures that fit the rule, in batch order.",
        "The other pictures, in batch order.",
        "Where the kept pictures stood in the batch, such as 0, 2, 5.",
        "Whether any picture was kept.",
        "How many pictures were kept.",
        "How many pictures were rejected.",
        "The latents of the kept pictures.",
        "The latents of the rejected pictures.",
        "The masks of the kept pictures.",
        "The masks of the rejected pictures.",
        "The faces of the kept pictures.",
        "The faces of the rejected pictures.",
    )
    FUNCTION = "filter"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": IMAGE,
                "preset": (
                    list(PRESETS),
                    {
                        "default": "any-female",
                        "tooltip": "Which pictures to keep, unless there is an expression below.",
                    },
                ),
                "expression": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "A rule of your own in place of the preset, such as female >= 1 and male == 0, or "
                        f"only-female and largest > 20%. Names: {', '.join(NAMES)}. Presets are words too.",
                    },
                ),
                "on_empty": on_empty("no picture fits, or none is rejected", fail="fail is an error if none fits"),
            },
            "optional": {
                "faces": FACES_OF_IMAGE,
                "latent": ("LATENT", {"tooltip": "The pictures' latents, to be split in the same way."}),
                "mask": (
                    "MASK",
                    {"tooltip": "The pictures' masks, to be split in the same way. A single one serves all."},
                ),
                "models": MODELS,
                "quality": (
                    "QUALITY",
                    {
                        "tooltip": "Scores of these pictures from Score Image Quality. Their names can be used in the "
                        "expression, such as chromatic_aberration < 0.5."
                    },
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, expression: str | None = None, quality: Any = NOT_CONNECTED) -> bool | str:
        """Reads the rule before anything runs. Nothing else is named here: what is named loses its checks."""
        try:
            # Which names the scores have is only known when they are there; the host gives None for a link.
            rule = (expression or "").strip()
            compile_rule(rule or "true", () if quality is NOT_CONNECTED else words(rule))
        except RuleError as error:
            return f"input `expression`: {error}"
        return True

    def filter(
        self,
        image: Tensor,
        preset: str = "any-female",
        expression: str = "",
        on_empty: str = "block",
        faces: Any = None,
        latent: dict[str, Any] | None = None,
        mask: Tensor | None = None,
        models: Any = None,
        quality: Scores | None = None,
    ) -> tuple[Any, ...]:
        """Kept and rejected pictures, and what belongs to them."""
        faces = known_or_detected(image, faces, models)
        if quality is not None and len(quality) != len(image):
            raise ValueError(f"input `quality`: scores of {len(quality)} pictures, the batch has {len(image)}")
        with named("expression" if expression.strip() else "preset"):
            known = None if quality is None else quality.rows()
            selection = select_pictures(faces, expression.strip() or preset, known)
        if on_empty == "fail" and not selection.kept:
            raise ValueError(f"no picture of {len(image)} fits the rule {expression.strip() or preset!r}")
        kept, rejected = (
            _taken(indices, image, latent, mask, faces, on_empty) for indices in (selection.kept, selection.rejected)
        )
        counts = (len(selection.kept), len(selection.rejected))
        told = (format_indices(selection.kept), bool(selection.kept), *counts)
        travelling = [value for pair in zip(kept[1:], rejected[1:], strict=True) for value in pair]
        return (kept[0], rejected[0], *told, *travelling)


def _taken(
    indices: list[int], image: Tensor, latent: dict[str, Any] | None, mask: Tensor | None, faces: Any, on_empty: str
) -> tuple[Any, ...]:
    """Pictures, latents, masks and faces of these indices, or what stands for them where there are none."""
    if not indices and on_empty not in ("placeholder", "empty"):
        return (host.blocked(), host.blocked(), host.blocked(), host.blocked())
    blank = on_empty == "placeholder"
    latents: Any = host.blocked("connect a latent to the input `latent`, or leave this output alone")
    masks: Any = host.blocked("connect a mask to the input `mask`, or leave this output alone")
    if latent is not None:
        with named("latent"):
            latents = take_latents(latent, indices, len(image), blank)
    if mask is not None:
        with named("mask"):
            masks = take_masks(mask, indices, len(image), blank)
    size = (int(image.shape[1]), int(image.shape[2])) if blank else None
    return (take_pictures(image, indices, blank), latents, masks, take_faces(faces, indices, size))


class FilterFaces:
    """``FACES`` to those that are wanted, and the others."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Keeps the faces of one gender, of a character, or those whose gender is sure, for the nodes behind: crops of "
        "all women, masks of sure men only. The pictures stay, so nothing shifts."
    )
    SEARCH_ALIASES = ("filter faces", "only female faces", "only male faces", "sure faces", "faces of character")
    RETURN_TYPES = ("FACES", "FACES", "INT")
    RETURN_NAMES = ("faces", "others", "count")
    OUTPUT_TOOLTIPS = (
        "The faces that are wanted; a picture may have none.",
        "The other faces.",
        "How many faces are wanted in all pictures together.",
    )
    FUNCTION = "filter"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "faces": FACES,
                "gender": (list(GENDERS), {"default": "female", "tooltip": "Whose faces are kept."}),
                "minimum_confidence": MINIMUM_CONFIDENCE,
                "character": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Keep this character only, by the name that Recognize Character gave. "
                        "Empty for anybody.",
                    },
                ),
            }
        }

    def filter(
        self, faces: Faces, gender: str = "female", minimum_confidence: float = 0.5, character: str = ""
    ) -> tuple[Faces, Faces, int]:
        """The faces that are wanted, the others, and how many are."""
        with named("character" if character.strip() else "faces"):
            kept, others = narrow_faces(faces.cpu(), None if gender == "any" else gender, minimum_confidence, character)
        return (kept, others, len(kept))
