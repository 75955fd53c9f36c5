"""The node that scores pictures with a quality head."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..anigender.known_models import MODELS as KNOWN
from ..anigender.quality import COMBINATIONS, Scorer, Scores, load_head
from . import host
from .sockets import CATEGORY, IMAGE, named

TILINGS = {"auto": None, "on": True, "off": False}
HEADS = tuple(model.aliases[0] for model in KNOWN.values() if model.kind == "quality")


class ScoreImageQuality:
    """``IMAGE`` and ``CLIP_VISION`` to ``QUALITY``."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Scores pictures with a quality head: chromatic aberration, compression artefacts, looks, or whatever a head "
        "of your own was taught."
    )
    SEARCH_ALIASES = ("aesthetic score", "image quality", "jpeg artifacts", "chromatic aberration", "compression")
    RETURN_TYPES = ("QUALITY", "FLOAT", "STRING", "STRING")
    RETURN_NAMES = ("quality", "values", "labels", "report")
    OUTPUT_IS_LIST = (False, True, True, False)
    OUTPUT_TOOLTIPS = (
        "The scores, for the `quality` input of Filter Batch by Gender or of another node of this kind.",
        "For each picture the value chosen by `value`.",
        "For each picture the most probable class of this head.",
        "All values in words, by the names that rules use.",
    )
    FUNCTION = "score"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": IMAGE,
                "clip_vision": (
                    "CLIP_VISION",
                    {"tooltip": "A CLIP ViT-L/14 from Load CLIP Vision, through which the published heads look."},
                ),
                "head": (
                    [*HEADS, *host.model_files("quality", (".safetensors",))],
                    {
                        "default": HEADS[0],
                        "tooltip": "What is scored. The named heads are fetched once, if they are not in "
                        "models/anigender; files there are offered too.",
                    },
                ),
                "tiling": (
                    list(TILINGS),
                    {
                        "default": "auto",
                        "tooltip": "Look at five parts of a large picture instead of the whole. auto does so for "
                        "classes and not for a score, as the published heads are meant to be used.",
                    },
                ),
                "combine": (
                    list(COMBINATIONS),
                    {"default": "mean", "tooltip": "How the values of a picture's parts become one."},
                ),
                "value": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Which value goes to `values`, by its name in the report. Empty for the first.",
                    },
                ),
            },
            "optional": {
                "quality": (
                    "QUALITY",
                    {"tooltip": "Scores of the same pictures by another head, to be passed on beside these."},
                )
            },
        }

    @classmethod
    def IS_CHANGED(cls, head: str, **others: Any) -> str:
        """A file that was replaced under its name is read again."""
        return host.models_stamp(head)

    def score(
        self,
        image: Tensor,
        clip_vision: Any,
        head: str,
        tiling: str = "auto",
        combine: str = "mean",
        value: str = "",
        quality: Scores | None = None,
    ) -> tuple[Scores, list[float], list[str], str]:
        """The scores of a batch."""
        with named("head"):
            loaded = load_head(head, folders=host.model_locations())
        with named("clip_vision"):
            scorer = Scorer([loaded], host.HostEncoder(clip_vision), combine, TILINGS[tiling], host.out_of_memory)
        with named("image"):
            scores = scorer(image, host.progress(len(image)))
        labels = [loaded.labels[i] for i in scores.values.argmax(1).tolist()]
        own = scores
        if quality is not None:
            with named("quality"):
                scores = quality.beside(own)
        with named("value"):
            column = scores.column_of(own, value)
        values = [row[scores.names[column]] for row in scores.rows()]
        return (scores, values, labels, described(scores))


def described(scores: Scores) -> str:
    """A line for each picture."""
    rows = enumerate(scores.rows(), 1)
    return "\n".join(f"picture {i}: " + ", ".join(f"{name} {v:.3f}" for name, v in row.items()) for i, row in rows)
