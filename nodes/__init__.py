"""The ComfyUI nodes: sockets in, one call into :mod:`anigender`, sockets out."""

from __future__ import annotations

from .characters import RecognizeCharacter
from .cropping import HeadCrops, PickFace
from .detection import DetectGender, FromBoundingBoxes, LoadModels
from .filtering import FilterBatch, FilterFaces
from .masking import GenderMasks
from .previewing import PreviewGender
from .quality import ScoreImageQuality
from .segs import DetectorProvider, FacesToSegs, SplitSegs
from .tagging import GenderTags, SaveImages

NODES: dict[str, tuple[str, type]] = {
    "AnigenderLoadModels": ("Load Gender Models", LoadModels),
    "AnigenderDetect": ("Detect Gender", DetectGender),
    "AnigenderFilterBatch": ("Filter Batch by Gender", FilterBatch),
    "AnigenderFilterFaces": ("Filter Faces", FilterFaces),
    "AnigenderTags": ("Gender Tags", GenderTags),
    "AnigenderMasks": ("Gender Masks", GenderMasks),
    "AnigenderFacesToSegs": ("Faces to SEGS", FacesToSegs),
    "AnigenderSplitSegs": ("Split SEGS by Gender", SplitSegs),
    "AnigenderDetectorProvider": ("Gender Detector Provider", DetectorProvider),
    "AnigenderPickFace": ("Pick Face", PickFace),
    "AnigenderHeadCrops": ("Head Crops", HeadCrops),
    "AnigenderPreview": ("Preview Gender", PreviewGender),
    "AnigenderSaveImages": ("Save Images with Tags", SaveImages),
    "AnigenderFromBoundingBoxes": ("From Bounding Boxes", FromBoundingBoxes),
    "AnigenderScoreQuality": ("Score Image Quality", ScoreImageQuality),
    "AnigenderRecognizeCharacter": ("Recognize Character", RecognizeCharacter),
}
