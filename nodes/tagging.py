"""Nodes that write: tags from faces, and pictures with their tags into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from torch import Tensor

from ..anigender.caption_text import caption_batch
from ..anigender.faces import Faces
from ..anigender.saving import kohya_folder, save_with_captions
from . import host
from .sockets import CATEGORY, FACES, FACES_OF_IMAGE, MINIMUM_CONFIDENCE, MODELS, known_or_detected, named

LAYOUTS = ("plain", "kohya")


class GenderTags:
    """``FACES`` to captions. Takes whole lists, since captions are a list with one item per picture."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Writes Danbooru count tags for each picture (1girl, 2boys, multiple girls, solo, male focus) "
        "and merges them into captions that exist already."
    )
    SEARCH_ALIASES = ("booru tags", "1girl", "caption", "count tags", "tagger", "dataset captions")
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("captions",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = ("One caption per picture, in batch order.",)
    INPUT_IS_LIST = True
    FUNCTION = "tag"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "faces": FACES,
                "count_tags": (
                    "BOOLEAN",
                    {"default": True, "tooltip": "1girl, 2boys, multiple_girls, solo and so on."},
                ),
                "focus_tags": ("BOOLEAN", {"default": True, "tooltip": "male_focus where all faces are male."}),
                "gender_words": ("BOOLEAN", {"default": False, "tooltip": "The plain words female and male."}),
                "minimum_confidence": MINIMUM_CONFIDENCE,
                "underscores": ("BOOLEAN", {"default": False, "tooltip": "multiple_girls rather than multiple girls."}),
                "escape": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "Write ( and ) as \\( and \\), as prompts need them."},
                ),
                "separator": ("STRING", {"default": ", ", "tooltip": "Between tags, also in existing captions."}),
                "prefix": (
                    "STRING",
                    {"default": "", "tooltip": "Tags in front of everything, such as a trigger word."},
                ),
                "suffix": ("STRING", {"default": "", "tooltip": "Tags behind everything."}),
                "position": (
                    ["first", "last"],
                    {"default": "first", "tooltip": "Where the new tags go among those of an existing caption."},
                ),
                "replace_counts": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "tooltip": "Drop count tags of an existing caption that contradict the new ones: 1girl where "
                        "two are found. A caption that counts more people than faces are found keeps its own.",
                    },
                ),
            },
            "optional": {
                "captions": (
                    "STRING",
                    {"forceInput": True, "tooltip": "Captions to merge into: one per picture, or one for all."},
                )
            },
        }

    def tag(
        self,
        faces: Sequence[Faces],
        count_tags: Sequence[bool] = (True,),
        focus_tags: Sequence[bool] = (True,),
        gender_words: Sequence[bool] = (False,),
        minimum_confidence: Sequence[float] = (0.5,),
        underscores: Sequence[bool] = (False,),
        escape: Sequence[bool] = (False,),
        separator: Sequence[str] = (", ",),
        prefix: Sequence[str] = ("",),
        suffix: Sequence[str] = ("",),
        position: Sequence[str] = ("first",),
        replace_counts: Sequence[bool] = (True,),
        captions: Sequence[str] | None = None,
    ) -> tuple[list[str]]:
        """One caption per picture of all FACES."""
        wanted = zip(("count", "focus", "gender"), (count_tags, focus_tags, gender_words), strict=True)
        # The input that can be wrong; the core says what is.
        with named("separator" if not separator[0] else "captions" if captions else "faces"):
            return (
                caption_batch(
                    Faces.concatenate(faces),
                    captions or (),
                    [group for group, on in wanted if on[0]],
                    minimum_confidence[0],
                    separator[0],
                    underscores[0],
                    escape[0],
                    prefix[0],
                    suffix[0],
                    position[0],
                    replace_counts[0],
                ),
            )


class SaveImages:
    """``IMAGE`` and captions to files. Takes whole lists, so that captions and pictures are matched once for all."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Saves pictures as PNG with the workflow in them and a .txt with the tags beside each, as trainers read them. "
        "Without captions the count tags of the detected faces are written. Nothing is overwritten unless told."
    )
    SEARCH_ALIASES = ("save dataset", "save captions", "kohya", "save txt", "lora dataset", "training images")
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("files",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = ("The path of each saved picture.",)
    INPUT_IS_LIST = True
    OUTPUT_NODE = True
    FUNCTION = "save"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures to save: a batch, or a list of them."}),
                "filename_prefix": (
                    "STRING",
                    {
                        "default": "anigender/image",
                        "tooltip": "Folder below the output folder and start of the names; a number is added. "
                        "%date:yyyy-MM-dd% is filled in (with d, dd, M, MM, yy, yyyy, h, hh, m, mm, s, ss), and so are "
                        "%width%, %height%, %year%, %month%, %day%, %hour%, %minute%, %second%.",
                    },
                ),
                "layout": (
                    list(LAYOUTS),
                    {"default": "plain", "tooltip": "kohya puts the pictures into a folder <repeats>_<concept>."},
                ),
                "repeats": (
                    "INT",
                    {
                        "default": 10,
                        "min": 1,
                        "max": 10000,
                        "tooltip": "How often an epoch shows each picture (kohya).",
                    },
                ),
                "concept": ("STRING", {"default": "character", "tooltip": "What the pictures show (kohya)."}),
                "overwrite": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Number from 1 and replace pictures and captions of the same names. "
                        "Off, numbering goes on behind what is there.",
                    },
                ),
            },
            "optional": {
                "captions": (
                    "STRING",
                    {
                        "forceInput": True,
                        "tooltip": "What to write beside the pictures: one per picture, or one for all.",
                    },
                ),
                "faces": FACES_OF_IMAGE,
                "models": MODELS,
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, concept: str | Sequence[str | None] | None = None) -> bool | str:
        """Refuses a folder name that no system could have before anything runs; an empty one only where it counts.

        The host hands over lists here too, since the node takes lists; None stands for a link.
        """
        for name in [concept] if isinstance(concept, str) else concept or ():
            try:
                kohya_folder(1, name or "none")
            except ValueError as error:
                return f"input `concept`: {error}"
        return True

    def save(
        self,
        image: Sequence[Tensor],
        filename_prefix: Sequence[str] = ("anigender/image",),
        layout: Sequence[str] = ("plain",),
        repeats: Sequence[int] = (10,),
        concept: Sequence[str] = ("character",),
        overwrite: Sequence[bool] = (False,),
        captions: Sequence[str] | None = None,
        faces: Sequence[Faces] | None = None,
        models: Sequence[Any] | None = None,
        prompt: Sequence[Any] | None = None,
        extra_pnginfo: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        """The saved files, shown on the node."""
        total = sum(len(batch) for batch in image)
        if captions is None:
            captions = _own_captions(image, faces, models)
        elif len(captions) == 1:
            captions = list(captions) * total
        prefix = PurePosixPath(host.dated(filename_prefix[0]).replace("\\", "/"))
        if layout[0] == "kohya":
            with named("concept"):
                prefix = prefix.parent / kohya_folder(repeats[0], concept[0]) / prefix.name
        height, width = image[0].shape[1:3]
        folder, name, below = host.output_folder(prefix.as_posix(), int(width), int(height))
        texts = host.png_texts(prompt[0] if prompt else None, extra_pnginfo[0] if extra_pnginfo else None)
        with named("captions"):
            paths = save_with_captions(
                image, captions, folder, name, texts, overwrite[0], progress=host.progress(total)
            )
        shown = [{"filename": path.name, "subfolder": below, "type": "output"} for path in paths]
        return {"ui": {"images": shown}, "result": ([str(path) for path in paths],)}


def _own_captions(image: Sequence[Tensor], faces: Sequence[Faces] | None, models: Sequence[Any] | None) -> list[str]:
    """The count tags of every picture of a list of batches."""
    lines: list[str] = []
    if faces is not None and len(faces) != len(image):
        raise ValueError(f"input `faces`: there are {len(faces)} FACES for {len(image)} batches of pictures")
    for i, batch in enumerate(image):
        own = known_or_detected(batch, faces[i] if faces else None, models[0] if models else None)
        lines += caption_batch(own, underscores=False)
    return lines
