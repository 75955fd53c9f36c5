"""What a recogniser looks at: features made by hand, or the penultimate activations of a net."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..detect import WholeImage
from ..folders import decoded
from ..images import check, head_crops
from ..weights import read_weights, save_weights
from .packages import needs

HAND_MADE = "hand-made"
HAND_SIZE = 128
COLOUR_BINS = 8  # per channel of HSV
AT_ONCE = 64
SHARD = 4096  # pictures in one file of the cache


class Extractor(Protocol):
    """Crops to features.

    Attributes:
        name: what it is called in options and files.
        identity: changes whenever the features do.
        size: side of the crops in pixels.
    """

    name: str
    identity: str
    size: int

    def __call__(self, crops: Tensor) -> np.ndarray:
        """Crops ``[N, 3, size, size]`` in 0-1 to features ``[N, width]`` float32."""
        ...


class HandMade:
    """Shape, texture and colour: Hu's moments, Haralick's texture and an HSV histogram, side by side.

    7 moments of the grey picture (Hu, "Visual Pattern Recognition by Moment Invariants", 1962) as signed logarithms,
    13 texture features averaged over four directions (Haralick et al., "Textural Features for Image Classification",
    1973), and the shares of 8 x 8 x 8 colours.
    """

    name, identity, size = HAND_MADE, f"{HAND_MADE} 1", HAND_SIZE

    def __call__(self, crops: Tensor) -> np.ndarray:
        """Crops ``[N, 3, size, size]`` in 0-1 to ``[N, 532]`` float32.

        Raises:
            ImportError: mahotas or OpenCV is not installed.
        """
        cv2, haralick = needs("cv2"), needs("mahotas.features").haralick
        rows = []
        for pixels in (crops.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy():
            grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
            moments = cv2.HuMoments(cv2.moments(grey)).ravel()
            moments = -np.sign(moments) * np.log10(np.abs(moments).clip(1e-30))
            colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
            histogram = cv2.calcHist([colours], [0, 1, 2], None, [COLOUR_BINS] * 3, [0, 180, 0, 256, 0, 256]).ravel()
            rows.append(np.concatenate((moments, haralick(grey, return_mean=True), histogram / histogram.sum())))
        return np.asarray(rows, np.float32).reshape(len(crops), 7 + 13 + COLOUR_BINS**3)


def whole_crops(pictures: Sequence[Tensor], size: int, margin: float = 1.0) -> Tensor:
    """Pictures that are head crops already, as crops ``[N, 3, size, size]``: cut by the code that cuts heads.

    Args:
        pictures: ``[H, W, 3]`` uint8 each.
        size: in pixels.
        margin: sides of the picture that are shown; less than 1 cuts the border off.
    """
    batch = check(pictures)
    return head_crops(batch, WholeImage("cpu").detect(batch), size, margin)


def features_of(
    files: Sequence[Path], keys: Sequence[str], extractor: Extractor, cache: Path | None = None, quiet: bool = False
) -> np.ndarray:
    """The features ``[N, width]`` of pictures that are head crops, from the cache where they are in it.

    Pictures are decoded as they are needed. The cache holds features by the pictures' contents, in files of
    :data:`SHARD`: a run that was killed goes on from the last whole one.

    Args:
        files: readable pictures.
        keys: their digests.
        extractor: what to look with.
        cache: a folder, made where it does not exist.
        quiet: without a progress bar.

    Raises:
        ValueError: a picture that could be read before cannot any more.
    """
    tqdm = needs("tqdm").tqdm
    known = {} if cache is None else _read_cache(cache, extractor.identity)
    lacking = {key: path for key, path in zip(keys, files, strict=True) if key not in known}
    fresh: dict[str, np.ndarray] = {}
    bar = tqdm(total=len(lacking), desc=f"features ({extractor.name})", unit="picture", disable=quiet or None)
    for part, pictures in _pictures(lacking):
        rows = extractor(whole_crops(pictures, extractor.size))
        fresh.update(zip(part, rows, strict=True))
        bar.update(len(part))
        if cache is not None and len(fresh) >= SHARD:
            _write_shard(cache, extractor.identity, fresh)
            known |= fresh
            fresh = {}
    bar.close()
    if cache is not None and fresh:
        _write_shard(cache, extractor.identity, fresh)
    known |= fresh
    return np.stack([known[key] for key in keys]) if keys else np.zeros((0, 0), np.float32)


def _pictures(lacking: dict[str, Path]) -> Iterator[tuple[list[str], list[Tensor]]]:
    keys: list[str] = []
    pictures: list[Tensor] = []
    for key, (path, pixels) in zip(lacking, decoded((path, None) for path in lacking.values()), strict=True):
        if isinstance(pixels, str):
            raise ValueError(f"{path} cannot be read: {pixels}; remove it, or put a whole copy in its place")
        keys.append(key)
        pictures.append(pixels)
        if len(keys) == AT_ONCE:
            yield keys, pictures
            keys, pictures = [], []
    if keys:
        yield keys, pictures


def _read_cache(cache: Path, identity: str) -> dict[str, np.ndarray]:
    known: dict[str, np.ndarray] = {}
    for shard in sorted(cache.glob("*.safetensors")) if cache.is_dir() else ():
        tensors, metadata = read_weights(shard)
        if metadata.get("anigender.extractor") == identity:
            keys = [bytes(row).hex() for row in tensors["keys"].numpy()]
            known.update(zip(keys, tensors["features"].float().numpy(), strict=True))
    return known


def _write_shard(cache: Path, identity: str, rows: dict[str, np.ndarray]) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    tensors = {
        "keys": torch.tensor([list(bytes.fromhex(key)) for key in rows], dtype=torch.uint8),
        "features": torch.from_numpy(np.stack(list(rows.values()))),
    }
    name = next(i for i in range(10**9) if not (cache / f"{i:06d}.safetensors").exists())
    metadata = {"anigender.kind": "features", "anigender.extractor": identity}
    save_weights(cache / f"{name:06d}.safetensors", tensors, metadata)
