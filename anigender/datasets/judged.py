"""How faces read to a judge: the unlabelled ones, and the labelled ones whose drawing does not say.

A net's own answers teach it nothing new about faces that it misjudges, and it took every eighth woman among the
unlabelled faces for a man. So a large vision-language model looked at all of them on contact sheets, and at all that
were not plainly women's once more without its first answer. Of the labelled heads that are learned from it looked at
all once, without their labels: a boy whom everybody takes for a girl teaches more about his game than about boys. The
heads of ``val`` are not in these tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..digests import sha256
from .tables import read_rows
from .unlabelled import FOLDER

# file, male: 0 is a woman, 1 a man, 0.5 nobody can tell, nothing no face. Faces that are not listed are women's, heads
# that are not listed what their label says.
FACES = Path(__file__).with_name("judged_faces.csv")
HEADS = Path(__file__).with_name("judged_heads.csv")
# The shards whose faces were judged. Others of these names hold other faces, of which nothing is known.
SHARDS = {
    "faces-0.tar": "a4564d91f0590a570aa296cc122b2aa786ff2fcc4f729b55decccc6e6202c0eb",
    "faces-1.tar": "143f2d5db6a6c4f2f6644b2926abfd4922e9864b1e83c589a5409e2691ee5a79",
}
NO_FACE = -1.0
EVERY = 8  # one unlabelled face in so many is kept for measuring
SURE = 0.125  # both looks at a face say so, or one of them and the other "probably"


def read_judged_faces(data: Path, files: Sequence[str], shards: Mapping[str, str] = SHARDS) -> Tensor:
    """How far each unlabelled face reads as a man's.

    Args:
        data: the data folder.
        files: ``shard/name`` of ``N`` faces in ``unlabelled/``.
        shards: digests of those that were judged.

    Returns:
        ``[N]`` from 0 to 1; :data:`NO_FACE` where there is none to judge, NaN where none was looked at.
    """
    judged = {name for name, digest in shards.items() if _is(data / FOLDER / name, digest)}
    known = _read(FACES)
    return torch.tensor([known.get(file, 0.0) if file.split("/")[0] in judged else math.nan for file in files])


def kept_out(files: Sequence[str]) -> Tensor:
    """Which unlabelled faces are kept for measuring, ``[N]`` bool: of a judged shard's every eighth."""
    stems = [Path(file).stem for file in files]
    return torch.tensor([stem.isdigit() and int(stem) % EVERY == 0 for stem in stems], dtype=torch.bool)


def measured_by(files: Sequence[str], male: Tensor) -> Tensor:
    """The genders that answers about unlabelled faces are measured by.

    Args:
        files: of ``N`` faces.
        male: ``[N]`` of :func:`read_judged_faces`.

    Returns:
        ``[N]`` int64, 0 or 1 of those that are kept for measuring and surely judged, else -1.
    """
    man, woman = male >= 1 - SURE, (male >= 0) & (male <= SURE)
    return torch.where(kept_out(files) & (man | woman), man.long(), -1)


def read_judged_heads(files: Sequence[str], labels: Tensor) -> Tensor:
    """How far the head of each labelled picture reads as a man's.

    Args:
        files: of ``N`` pictures, as in the manifest.
        labels: ``[N]``, 0 female and 1 male.

    Returns:
        ``[N]`` from 0 to 1; :data:`NO_FACE` where what was taken for the head is none.
    """
    known = _read(HEADS)
    return torch.tensor([known.get(file, float(label)) for file, label in zip(files, labels.tolist(), strict=True)])


def _read(table: Path) -> dict[str, float]:
    rows = read_rows(table, ("file", "male"))
    return {row.file("file"): row.number("male") if row["male"] else NO_FACE for row in rows}


def _is(file: Path, digest: str) -> bool:
    return file.is_file() and sha256(file) == digest
