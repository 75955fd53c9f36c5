"""Nodes that cut faces out: one chosen face per picture, or all of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..anigender.bounding_boxes import to_bounding_boxes
from ..anigender.faces import ORDERS, Faces
from ..anigender.masks import SHAPES, face_masks
from ..anigender.report import crop_labels
from ..anigender.selection import face_crops, format_indices, one_crop_per_picture, take_faces
from . import host
from .sockets import CATEGORY, FACES, GENDERS, IMAGE, fitting, on_empty

SIZE = ("INT", {"default": 512, "min": 16, "max": 4096, "step": 8, "tooltip": "Side of a crop in pixels."})
MARGIN = (
    "FLOAT",
    {"default": 1.5, "min": 0.5, "max": 8.0, "step": 0.1, "tooltip": "How many times the face's box a crop shows."},
)


class PickFace:
    """One face of each picture."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Picks one face of each picture: the 2nd woman from the left, the largest man. Counts only the chosen gender."
    )
    SEARCH_ALIASES = ("face index", "second girl", "select face", "crop face", "largest face", "leftmost")
    RETURN_TYPES = ("IMAGE", "MASK", "BOUNDING_BOX", "BOOLEAN", "STRING", "FACES")
    RETURN_NAMES = ("crop", "mask", "bounding_box", "found", "found_indices", "face")
    OUTPUT_TOOLTIPS = (
        "A square around the face, one per picture; black where a picture has no such face.",
        "Where the face is in each picture; zero where there is none.",
        "ComfyUI's own box of the face, for each picture a list of one or none.",
        "Whether any picture has such a face.",
        "Which pictures have such a face, such as 0, 2, 5.",
        "The picked faces, for the other anigender nodes.",
    )
    FUNCTION = "pick"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "faces": FACES,
                "image": IMAGE,
                "gender": (list(GENDERS), {"default": "female", "tooltip": "Whose faces are counted."}),
                "index": (
                    "INT",
                    {
                        "default": 0,
                        "min": -64,
                        "max": 63,
                        "tooltip": "Which of them: 0 is the first, 1 the second, -1 the last.",
                    },
                ),
                "order": (list(ORDERS), {"default": "left-right", "tooltip": "How they are counted."}),
                "size": SIZE,
                "margin": MARGIN,
                "shape": (list(SHAPES), {"default": "head", "tooltip": "The shape of the mask."}),
                "on_empty": on_empty("no picture has such a face", "black pictures"),
            }
        }

    def pick(
        self,
        faces: Faces,
        image: Tensor,
        gender: str = "female",
        index: int = 0,
        order: str = "left-right",
        size: int = 512,
        margin: float = 1.5,
        shape: str = "head",
        on_empty: str = "block",
    ) -> tuple[Any, ...]:
        """The chosen face of each picture."""
        picked = fitting(faces, image).pick(index, None if gender == "any" else gender, order)
        indices = picked.image_index.tolist()
        told = (to_bounding_boxes(picked), bool(indices), format_indices(indices), picked)
        if not indices and on_empty == "fail":
            who = "face" if gender == "any" else f"{gender} face"
            raise ValueError(f"no picture has a {who} with the index {index} (input `index`)")
        if not indices and on_empty == "block":
            return (host.blocked(), host.blocked(), host.blocked(), *told[1:3], host.blocked())
        mask = face_masks(picked, shape, device=host.output_device())
        if not indices and on_empty == "empty":
            nobody = take_faces(picked, [])
            return (image.new_zeros(0, size, size, 3), mask[:0], to_bounding_boxes(nobody), *told[1:3], nobody)
        return (one_crop_per_picture(image, picked, size, margin), mask, *told)


class HeadCrops:
    """All faces of a batch as a batch of pictures."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Cuts every face out as a square picture, with its gender and the number of the picture it is from."
    SEARCH_ALIASES = ("crop faces", "face crops", "head crop", "extract faces", "dataset crops")
    RETURN_TYPES = ("IMAGE", "STRING", "FLOAT", "INT")
    RETURN_NAMES = ("crops", "labels", "confidences", "image_indices")
    OUTPUT_IS_LIST = (False, True, True, True)
    OUTPUT_TOOLTIPS = (
        "All faces as one batch of square pictures.",
        "female or male for each crop.",
        "The probability of each crop's gender.",
        "The number of the picture each crop is from, counted from 0.",
    )
    FUNCTION = "crop"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "faces": FACES,
                "image": IMAGE,
                "size": SIZE,
                "margin": MARGIN,
                "on_empty": on_empty(
                    "there is no face at all",
                    none="a batch of none and empty lists, with which only nodes that take whole lists can run",
                ),
            }
        }

    def crop(
        self, faces: Faces, image: Tensor, size: int = 512, margin: float = 1.5, on_empty: str = "block"
    ) -> tuple[Any, ...]:
        """The crops, in the order of the faces."""
        faces = fitting(faces, image)
        if len(faces):
            return (face_crops(image, faces, size, margin), *crop_labels(faces))
        if on_empty == "fail":
            raise ValueError("there is no face in any picture (input `faces`)")
        if on_empty == "block":
            return (host.blocked(), [host.blocked()], [host.blocked()], [host.blocked()])
        if on_empty == "empty":  # the host joins the lists of several batches; what is blocked would stay among them
            return (image.new_zeros(0, size, size, 3), [], [], [])
        return (image.new_zeros(1, size, size, 3), [""], [0.0], [-1])
