"""The models that can be named: what they are, where their files are kept, and on what terms.

Sizes and digests stand here where they are certain. For the others the digest is written down when a file is first
used, and checked from then on (:mod:`anigender.digests`).
"""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass

KINDS = ("detector", "classifier", "quality", "encoder", "identity")


@dataclass(frozen=True)
class KnownFile:
    """One file of a model.

    Attributes:
        pattern: its path in the repository, with ``*`` where that is not certain; several joined by ``|``.
        size: bytes, where certain.
        sha256: its digest, where certain.
    """

    pattern: str
    size: int | None = None
    sha256: str | None = None

    def fits(self, name: str) -> bool:
        """Whether a path of the repository, or a bare file name, is this file's.

        >>> KnownFile("face/*.onnx").fits("face/model.onnx"), KnownFile("*.pt|*.pth").fits("a.PTH")
        (True, True)
        """
        return any(fnmatch.fnmatchcase(name.lower(), one.lower()) for one in self.pattern.split("|"))


@dataclass(frozen=True)
class KnownModel:
    """A model that has a name.

    Attributes:
        name: as people write it; letter case does not matter.
        kind: one of :data:`KINDS`.
        summary: what it is, in a few words.
        files: the weights first, then what belongs beside them.
        repository: on the Hugging Face hub; empty for models that come with this package or from ``url``.
        revision: of the repository. A branch is followed until the first download; from then on the commit counts.
        url: of the file, where it is in no such repository.
        megabytes: about how large the weights are; nothing of more than twice that is fetched.
        licence: of the weights.
        preprocessing: what the model wants to see.
        aliases: shorter names.
    """

    name: str
    kind: str
    summary: str
    files: tuple[KnownFile, ...]
    licence: str
    preprocessing: str
    megabytes: float
    repository: str = ""
    revision: str = "main"
    url: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def embedded(self) -> bool:
        """Whether it comes with this package."""
        return not self.repository and not self.url

    @property
    def page(self) -> str:
        """Where people can fetch it by hand."""
        return f"https://huggingface.co/{self.repository}" if self.repository else self.url


_DVGG = "224 x 224, shortest side resized, top left square, BGR (the authors'); or a head crop"
_CLIP = "224 x 224 or 336 x 336 tiles, bicubic, CLIP mean and std"
_CITY96 = "CLIP ViT-L/14 image embeddings (768 values) of five tiles"


def _head(name: str, repository: str, summary: str, alias: str, preprocessing: str = _CITY96) -> KnownModel:
    files = (KnownFile(f"{name}.safetensors"), KnownFile(f"{name}.config.json"))
    return KnownModel(name, "quality", summary, files, "Apache-2.0", preprocessing, 16.4, repository, aliases=(alias,))


def _clip(name: str, size: int) -> KnownModel:
    files = (KnownFile("model.safetensors|pytorch_model.bin"), KnownFile("config.json"))
    summary = f"CLIP ViT-L/14 at {size} pixels, which the quality heads look through"
    return KnownModel(name, "encoder", summary, files, "MIT", _CLIP, 1712, f"openai/{name}")


def _dvgg(size: str, summary: str, megabytes: float) -> KnownModel:
    name, files = f"animeGender-dvgg-0.8-{size}", (KnownFile(f"*{size}*.safetensors"),)
    repository = "DOFOFFICIAL/animeGender-dvgg-0.8"
    return KnownModel(name, "classifier", summary, files, "Apache-2.0", _DVGG, megabytes, repository)


def _deepghs(size: str) -> KnownModel:
    name = f"face_detect_v1.4_{size}"
    files, summary = (KnownFile(f"{name}/*.onnx"),), "anime faces, a YOLOv8 as ONNX"
    repository = "deepghs/anime_face_detection"
    preprocessing = "640 x 640 letterbox, RGB 0-1"
    return KnownModel(name, "detector", summary, files, "MIT", preprocessing, {"n": 12.3, "s": 44.8}[size], repository)


_MODELS = (
    KnownModel(
        "head",
        "detector",
        "the embedded head detector",
        (KnownFile("head.safetensors"),),
        "Apache-2.0",
        "in the file's metadata",
        4,
    ),
    KnownModel(
        "gender",
        "classifier",
        "the embedded gender classifier",
        (KnownFile("gender.safetensors"),),
        "Apache-2.0",
        "in the file's metadata",
        8,
    ),
    KnownModel(
        "identity",
        "identity",
        "the embedded net that deep features of characters come from",
        (KnownFile("identity.safetensors"),),
        "Apache-2.0",
        "in the file's metadata",
        1.3,
    ),
    _dvgg("alpha", "gender, a ResNet-18", 44.8),
    _dvgg("beta", "gender, a ResNet-50", 94.5),
    KnownModel(
        "animeGender-dvgg-0.7",
        "classifier",
        "gender, a VGG-16 in a pickled file",
        (KnownFile("*.pth|*.pt|*.bin|*.ckpt|*.pkl"),),
        "Apache-2.0",
        "64 x 64",
        537,
        "DOFOFFICIAL/animeGender-dvgg-0.7",
    ),
    KnownModel(
        "lbpcascade_animeface",
        "detector",
        "anime faces, an OpenCV LBP cascade",
        (
            KnownFile(
                "lbpcascade_animeface.xml",
                246945,
                "9376d30ac38db6bda2a68b88b3b76bbd7e6aa33af47f7f5c76bc88ca75f1ce30",
            ),
        ),
        "MIT",
        "grey, histogram equalised",
        0.25,
        url="https://raw.githubusercontent.com/nagadomi/lbpcascade_animeface/master/lbpcascade_animeface.xml",
    ),
    _deepghs("n"),
    _deepghs("s"),
    _head(
        "CCAnime-ChromaticAberration-v1.16",
        "city96/AnimeClassifiers",
        "is there chromatic aberration",
        "chromatic-aberration",
    ),
    _head("CCAnime-Compression-v1.5", "city96/AnimeClassifiers", "are there JPEG or WebP artefacts", "compression"),
    _head(
        "CityAesthetics-Anime-v1.8",
        "city96/CityAesthetics",
        "how good the picture looks, 0 to 1",
        "aesthetic",
        "CLIP ViT-L/14 image embeddings (768 values) of the whole picture",
    ),
    _clip("clip-vit-large-patch14-336", 336),
    _clip("clip-vit-large-patch14", 224),
)
MODELS = {model.name: model for model in _MODELS}


def find_model(name: str) -> KnownModel | None:
    """The model of this name or alias, in any letter case; None where there is none."""
    wanted = name.lower()
    for model in _MODELS:
        if wanted in (model.name.lower(), *model.aliases):
            return model
    return None


def published(kind: str) -> list[str]:
    """Names of the known models of a kind that do not come with this package.

    >>> published("detector")
    ['lbpcascade_animeface', 'face_detect_v1.4_n', 'face_detect_v1.4_s']
    """
    return [model.name for model in _MODELS if model.kind == kind and not model.embedded]


def similar_names(name: str) -> list[str]:
    """Names that may have been meant."""
    names = [name for model in _MODELS for name in (model.name, *model.aliases)]
    close = difflib.get_close_matches(name.lower(), [known.lower() for known in names], 3)
    return [known for known in names if known.lower() in close]
