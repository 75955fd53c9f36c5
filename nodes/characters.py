"""The node that says who a face is."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..anigender.masks import SHAPES, face_masks
from ..anigender.report import name_confidence_by_image, names_by_image, report
from ..anigender.segs import faces_to_segs
from . import host
from .sockets import CATEGORY, FACES_OF_IMAGE, IMAGE, MODELS, known_or_detected, named, one_by_one

NO_FILE = "put one into models/anigender"


class RecognizeCharacter:
    """``IMAGE`` (and ``FACES``) and a recogniser to names, and masks and SEGS of a character."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Says which known character each face is, with a recogniser of your own from anigender train characters; "
        "a face of nobody known has no name."
    )
    SEARCH_ALIASES = ("character recognition", "who is it", "name faces", "character mask", "character segs", "tagger")
    RETURN_TYPES = ("FACES", "STRING", "FLOAT", "MASK", "SEGS", "MASK", "STRING", "STRING", "IMAGE")
    RETURN_NAMES = ("faces", "names", "confidences", "mask", "segs", "masks", "characters", "report", "images")
    OUTPUT_IS_LIST = (False, True, True, False, True, True, True, False, True)
    OUTPUT_TOOLTIPS = (
        'The faces with their names: rules such as has("asuka") in Filter Batch by Gender then work.',
        "For each picture the names of its faces, such as asuka,nobody; empty without a face.",
        "For each picture the probability of its least sure name; 0 without a face.",
        "Where the chosen character's faces are, one mask per picture; of everybody known where none is chosen.",
        "One SEGS per picture with the chosen character's faces, labelled with the name.",
        "For each character of the recogniser the masks of all pictures, in the order of `characters`.",
        "The names that the recogniser knows.",
        "All faces in words.",
        "The same pictures one by one, so that each meets its own SEGS.",
    )
    FUNCTION = "recognize"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        files = host.recogniser_files() or [NO_FILE]
        return {
            "required": {
                "image": IMAGE,
                "recogniser": (
                    files,
                    {
                        "default": files[0],
                        "tooltip": "A file of anigender train characters (.skops or .safetensors) in models/anigender.",
                    },
                ),
                "character": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Whose mask and SEGS are given out, by name. Empty for everybody known.",
                    },
                ),
                "shape": (list(SHAPES), {"default": "head", "tooltip": "The shape of the masks."}),
                "grow": (
                    "INT",
                    {
                        "default": 0,
                        "min": -4096,
                        "max": 4096,
                        "tooltip": "Pixels added to the masks on every side; negative shrinks.",
                    },
                ),
                "crop_factor": (
                    "FLOAT",
                    {
                        "default": 3.0,
                        "min": 1.0,
                        "max": 100.0,
                        "step": 0.1,
                        "tooltip": "How many times the face's size a detailer sees in the SEGS.",
                    },
                ),
            },
            "optional": {"faces": FACES_OF_IMAGE, "models": MODELS},
        }

    @classmethod
    def IS_CHANGED(cls, recogniser: str, **others: Any) -> str:
        """A file that was replaced under its name is read again."""
        return host.models_stamp(recogniser)

    def recognize(
        self,
        image: Tensor,
        recogniser: str,
        character: str = "",
        shape: str = "head",
        grow: int = 0,
        crop_factor: float = 3.0,
        faces: Any = None,
        models: Any = None,
    ) -> tuple[Any, ...]:
        """Names, and the masks and SEGS of a character."""
        if recogniser == NO_FILE:
            raise ValueError(
                "input `recogniser`: there is none; make one with `anigender train characters` and put it into "
                "models/anigender"
            )
        found = known_or_detected(image, faces, models)
        with named("recogniser"):
            loaded = host.load_recogniser(recogniser)
        with named("image"):
            found = loaded.name_faces(image, found)
        with named("character"):
            chosen = found.of_character(character) if character.strip() else found.of_character(*loaded.names)
        device = host.output_device()
        each = [face_masks(found.of_character(name), shape, grow, device=device) for name in loaded.names]
        return (
            found,
            names_by_image(found),
            name_confidence_by_image(found),
            face_masks(chosen, shape, grow, device=device),
            faces_to_segs(chosen, image, crop_factor, shape, by_name=True),
            each,
            list(loaded.names),
            report(found),
            one_by_one(image),
        )
