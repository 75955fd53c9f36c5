"""Batches for the embedded classifier: by gender, folder and character, with unlabelled faces among them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import IterableDataset

from ..crops.augment import augment, enlarged, mix, tight_squares, vary_surroundings
from ..crops.crops import Crops
from ..crops.store import Pixels
from ..workers import single_threaded
from .file import BELOW, MARGIN, SIZE

ALONE = 0.25  # of a batch are seen as if the picture ended around the head
TIGHT = 0.3  # of a batch are seen as if the picture ended within the head, and that were the head
WIDEST_CUT = 1.4  # of those, over what is shown of the head: around what inference takes, CUT_SCALE
WHOLE = np.array([[0, 0, 1, 1]], np.float32)
LABELLED, UNLABELLED = 96, 64  # views in a batch, two of each character and of each unlabelled face
SMOOTH = 0.03  # of each label is given to the other


def smoothed(target: Tensor) -> Tensor:
    """Labels ``[N, 2]``, a little less sure; rows of zeros stay."""
    return target * (1 - 2 * SMOOTH) + SMOOTH * target.sum(1, keepdim=True)


def balanced(soft: Tensor) -> tuple[Tensor, np.ndarray]:
    """Targets and drawing chances of faces of which only guesses are known, so that neither gender is favoured.

    Most unlabelled faces are women's, and the guesses are made for equal parts: taken as they are, they would teach
    "rather a woman". So the guesses are sharpened, those called men are drawn as often as those called women, and
    what is still missing is made up by weight.

    Args:
        soft: ``[N, 2]`` guessed probabilities; zeros for faces that are not to be drawn.

    Returns:
        Targets ``[N, 2]``, whose rows no longer sum to 1, and chances ``[N]``. Over the draws, both columns have a
        mean of one half.
    """
    sharp = soft.double() ** 2
    sharp = smoothed(sharp / sharp.sum(1, keepdim=True).clamp(min=1e-12))
    chance = (sharp / sharp.sum(0)).mean(1)
    mass = (sharp * chance[:, None]).sum(0)
    return (sharp * 0.5 / mass).float(), chance.numpy() / float(chance.sum())


def folder_weight(characters: Mapping[tuple[str, int], int], folder: str) -> float:
    """How often each gender of a folder is drawn, the same for both.

    Else a show of mostly men teaches that its style is a man's: on television stills, where men are in the majority,
    a third of the women were called men. Large folders count for less than their size, and those of one gender, which
    can teach nothing but their style, for little.

    Args:
        characters: how many there are by folder and gender (0 female, 1 male).
        folder: one of them.
    """
    women, men = characters.get((folder, 0), 0), characters.get((folder, 1), 0)
    return (women * men) ** 0.35 if women and men else 0.3 * (women + men) ** 0.35


class Draws(IterableDataset):
    """Endless augmented batches: views ``[B, 3, S, S]``, gender targets ``[B, 2]``, identities ``[B]``, rows ``[B]``.

    Genders in equal parts, in all and inside each folder that has both (:func:`folder_weight`); inside a folder by
    character; of a character two of its pictures. Unlabelled faces (crops, and their extents ``[N, 4]``) have a target
    of zeros where ``soft`` is None, and an identity of their own; a view mixed of two has none (-1). The row is -1 for
    both. The targets of a picture that is trusted less (``trust [N]``) are the smaller for it, and the others' larger.
    What a picture is to be called is its label, or ``targets [N, 2]``.
    """

    def __init__(
        self,
        crops: Crops,
        identities: Tensor,
        unlabelled: tuple[Pixels, np.ndarray],
        soft: Tensor | None,
        seed: int,
        size: int = SIZE,
        strength: float = 1.0,
        mixed: float = 0.0,
        trust: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> None:
        self.trust = trust
        self.targets = F.one_hot(crops.labels, 2).float() if targets is None else targets
        self.size, self.strength, self.mixed = size, strength, mixed
        self.crops, self.identities = crops, identities
        (self.unlabelled, self.ends), self.soft, self.seed = unlabelled, soft, seed
        groups: dict[str, list[int]] = defaultdict(list)
        for i, picture in enumerate(crops.pictures):
            groups[picture.character].append(i)
        characters = Counter((crops.pictures[rows[0]].folder, int(crops.labels[rows[0]])) for rows in groups.values())
        self.by_gender: list[tuple[list[list[int]], np.ndarray]] = []
        for gender in (0, 1):
            mine = [rows for rows in groups.values() if int(crops.labels[rows[0]]) == gender]
            folders = [crops.pictures[rows[0]].folder for rows in mine]
            weight = np.array([folder_weight(characters, f) / characters[f, gender] for f in folders])
            self.by_gender.append((mine, weight / weight.sum()))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        single_threaded()
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, info.id if info else 0))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        soft, share = (None, None) if self.soft is None else balanced(self.soft)
        first_unlabelled = int(self.identities.max()) + 1
        while True:
            rows: list[int] = []
            for mine, weight in self.by_gender:
                for choice in rng.choice(len(mine), LABELLED // 4, p=weight):
                    own = mine[choice]
                    rows += rng.choice(own, 2, replace=False).tolist() if len(own) > 1 else [own[0], own[0]]
            pixels, identity = self.crops.pixels[rows], self.identities[rows]
            extents = WHOLE[[0] * len(rows)] if self.crops.extents is None else self.crops.extents[rows]
            target = smoothed(self.targets[rows])
            if self.trust is not None:
                target *= (self.trust[rows] / self.trust[rows].mean())[:, None]
            origin = torch.tensor(rows)
            if len(self.unlabelled):
                more = torch.from_numpy(rng.choice(len(self.unlabelled), UNLABELLED // 2, p=share)).repeat(2)
                pixels = torch.cat((pixels, self.unlabelled[more.numpy()]))
                extents = np.concatenate((extents, self.ends[more.numpy()]))
                target = torch.cat((target, torch.zeros(len(more), 2) if soft is None else soft[more]))
                identity = torch.cat((identity, first_unlabelled + more))
                origin = torch.cat((origin, torch.full_like(more, -1)))
            squares = tight_squares(len(pixels), TIGHT, rng)
            squares[len(rows) :, 0] = squares[len(rows) :, 0].clip(max=0.999)  # the unlabelled are cut to the face
            pixels = vary_surroundings(pixels, extents, rng, ALONE, squares)
            taken = enlarged(squares, WIDEST_CUT, rng)
            views = augment(pixels, self.size, rng, generator, self.strength, MARGIN, BELOW, squares=taken)
            mix(views, target, identity, rng, self.mixed)
            yield views, target, identity, torch.where(identity < 0, -1, origin)
