"""``Faces``: the one structure that travels from the detector to whatever uses the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .boxes import clip
from .transfer import moved

GENDERS = ("female", "male")
ORDERS = ("score", "confidence", "left-right", "right-left", "top-bottom", "bottom-top", "large-small", "small-large")


@dataclass(frozen=True)
class Face:
    """One face as plain numbers, for people and reports.

    Attributes:
        image: index of its picture in the batch.
        box: ``(x1, y1, x2, y2)`` in pixels of the original picture.
        detection: the detector's score, 0..1.
        female, male: probabilities that sum to 1, or None before classification.
        name: which known character it is; empty for nobody known, None where nobody has been looked for.
        name_confidence: how sure that is, 0..1; None as for ``name``.
    """

    image: int
    box: tuple[float, float, float, float]
    detection: float
    female: float | None = None
    male: float | None = None
    name: str | None = None
    name_confidence: float | None = None

    @property
    def gender(self) -> str | None:
        """``female`` or ``male``, whichever is likelier; None before classification."""
        if self.female is None or self.male is None:
            return None
        return GENDERS[0] if self.female >= self.male else GENDERS[1]

    @property
    def confidence(self) -> float | None:
        """Probability of :attr:`gender`, 0.5..1; None before classification."""
        if self.female is None or self.male is None:
            return None
        return max(self.female, self.male)


@dataclass(frozen=True, eq=False)  # tensors have no single truth value to compare by
class Faces:
    """The faces of a batch of pictures, as arrays on one device.

    Args:
        boxes: ``[N, 4]`` float32, xyxy in pixels of the original pictures.
        scores: ``[N]`` float32, the detector's, 0..1.
        image_index: ``[N]`` int64, sorted: which picture each face is in.
        image_sizes: ``[B, 2]`` int64, (height, width) of every picture, also of those without a face.
        probabilities: ``[N, 2]`` float32, columns female and male, rows summing to 1; None before classification.
        characters: the names that have been looked for; None before recognition.
        character_index: ``[N]`` int64, which of them each face is, -1 for nobody known; None before recognition.
        character_confidence: ``[N]`` float32, how sure that is, 0..1; None before recognition.

    Attributes:
        on_host: the same faces in host memory, where they have been copied there already; what needs numbers reads
            those, so that the host waits for the device once and not at every question.

    Raises:
        ValueError: an array has another shape or an image index is out of range or out of order.

    >>> faces = Faces.from_boxes([[[10, 10, 50, 50]], []], sizes=[(100, 80), (100, 80)])
    >>> len(faces), faces.images, faces.count_by_image().tolist()
    (1, 2, [1, 0])
    >>> faces.with_probabilities(torch.tensor([[0.9, 0.1]])).gender
    ['female']
    """

    boxes: Tensor
    scores: Tensor
    image_index: Tensor
    image_sizes: Tensor
    probabilities: Tensor | None = None
    characters: tuple[str, ...] | None = None
    character_index: Tensor | None = None
    character_confidence: Tensor | None = None
    on_host: Faces | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        n = self.boxes.shape[0] if self.boxes.ndim else -1
        wanted: list[tuple[str, Tensor | None, tuple[int | None, ...]]] = [
            ("boxes", self.boxes, (n, 4)),
            ("scores", self.scores, (n,)),
            ("image_index", self.image_index, (n,)),
            ("image_sizes", self.image_sizes, (None, 2)),
            ("probabilities", self.probabilities, (n, 2)),
            ("character_index", self.character_index, (n,)),
            ("character_confidence", self.character_confidence, (n,)),
        ]
        for name, value, shape in wanted:
            if value is None:
                continue
            fits = value.ndim == len(shape) and all(
                w is None or w == g for w, g in zip(shape, value.shape, strict=True)
            )
            if not fits:
                wanted_text = str([("B" if w is None else w) for w in shape])
                raise ValueError(f"Faces.{name} has shape {list(value.shape)}, expected {wanted_text}")
        if self.image_index.dtype != torch.int64:
            raise ValueError(f"Faces.image_index is {self.image_index.dtype}, expected torch.int64")
        if len({self.characters is None, self.character_index is None, self.character_confidence is None}) > 1:
            raise ValueError("Faces.characters, character_index and character_confidence belong together")
        # Values are checked where that costs no device synchronisation.
        if n and self.image_index.device.type == "cpu":
            low, high = int(self.image_index[0]), int(self.image_index[-1])
            if bool((self.image_index[1:] < self.image_index[:-1]).any()):
                raise ValueError(
                    "Faces.image_index must be sorted: the faces of a picture stand together, in batch order"
                )
            if low < 0 or high >= self.images:
                raise ValueError(f"Faces.image_index reaches {low}..{high}, but there are {self.images} pictures")

    # -- making ------------------------------------------------------------------------------------------------

    @classmethod
    def empty(cls, image_sizes: Tensor | Sequence[tuple[int, int]]) -> Faces:
        """No faces in pictures of these (height, width) sizes."""
        sizes = torch.as_tensor(image_sizes, dtype=torch.int64).reshape(-1, 2)
        device = sizes.device
        return cls(
            torch.zeros(0, 4, device=device),
            torch.zeros(0, device=device),
            torch.zeros(0, dtype=torch.int64, device=device),
            sizes,
        )

    @classmethod
    def from_boxes(
        cls,
        boxes: Sequence[Sequence[Sequence[float]] | Tensor],
        sizes: Sequence[tuple[int, int]] | Tensor,
        scores: Sequence[Sequence[float] | Tensor] | None = None,
        device: torch.device | str = "cpu",
    ) -> Faces:
        """Faces from boxes that somebody else found.

        Args:
            boxes: for each picture a list (or ``[n, 4]`` tensor, on any device) of xyxy boxes in pixels.
            sizes: for each picture (height, width).
            scores: for each picture a list of scores; 1 where left out.
            device: where the arrays live.

        Raises:
            ValueError: the numbers of pictures differ, or a box has not four numbers or x2 < x1 or y2 < y1.
        """
        # Whatever device the values come from, they are looked at on the host.
        sizes = torch.as_tensor(sizes, dtype=torch.int64).cpu().reshape(-1, 2)
        if len(boxes) != len(sizes):
            raise ValueError(f"boxes are given for {len(boxes)} pictures, sizes for {len(sizes)}")
        if scores is not None and len(scores) != len(sizes):
            raise ValueError(f"scores are given for {len(scores)} pictures, sizes for {len(sizes)}")
        rows, marks, index = [], [], []
        for i, own in enumerate(boxes):
            own = torch.as_tensor(own, dtype=torch.float32).cpu()
            if own.numel() == 0:
                continue
            if own.ndim != 2 or own.shape[1] != 4:
                raise ValueError(f"boxes of picture {i} have shape {list(own.shape)}, expected [n, 4]")
            wrong = (own[:, 2:] < own[:, :2]).any(1) | ~own.isfinite().all(1)
            if bool(wrong.any()):
                raise ValueError(
                    f"picture {i}: box {own[wrong][0].tolist()} is not x1, y1, x2, y2 with x1 <= x2 and y1 <= y2"
                )
            rows.append(own)
            given = torch.ones(len(own)) if scores is None else torch.as_tensor(scores[i], dtype=torch.float32).cpu()
            if given.shape != (len(own),):
                raise ValueError(f"picture {i} has {len(own)} boxes but scores of shape {list(given.shape)}")
            marks.append(given)
            index.append(torch.full((len(own),), i, dtype=torch.int64))
        if not rows:
            return cls.empty(sizes).to(device)
        return cls(torch.cat(rows), torch.cat(marks), torch.cat(index), sizes).to(device)

    def with_probabilities(self, probabilities: Tensor) -> Faces:
        """The same faces, classified: ``probabilities [N, 2]``, columns female and male."""
        return replace(self, probabilities=probabilities)

    def with_names(self, characters: Sequence[str], index: Tensor, confidence: Tensor) -> Faces:
        """The same faces, recognised.

        Args:
            characters: the names that were looked for.
            index: ``[N]`` int64, which of them each face is; -1 for nobody known.
            confidence: ``[N]``, how sure that is, 0..1.
        """
        return replace(
            self, characters=tuple(characters), character_index=index, character_confidence=confidence.float()
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Faces]) -> Faces:
        """The faces of several batches as those of one, in the order given.

        Raises:
            ValueError: no parts, or some are classified (or recognised) and some are not.
        """
        if not parts:
            raise ValueError("Faces.concatenate needs at least one part")
        if len({part.probabilities is None for part in parts if len(part)}) > 1:
            raise ValueError("Faces.concatenate: some parts are classified and some are not")
        if len({part.characters is None for part in parts if len(part)}) > 1:
            raise ValueError("Faces.concatenate: some parts have been recognised and some have not")
        classified = any(part.probabilities is not None for part in parts)
        known = tuple(dict.fromkeys(name for part in parts for name in part.characters or ()))
        recognised = any(part.characters is not None for part in parts)
        offsets = [0]
        for part in parts:
            offsets.append(offsets[-1] + part.images)
        whole = cls(
            torch.cat([part.boxes for part in parts]),
            torch.cat([part.scores for part in parts]),
            torch.cat([part.image_index + offset for part, offset in zip(parts, offsets, strict=False)]),
            torch.cat([part.image_sizes for part in parts]),
            torch.cat([_probabilities_or_none(part) for part in parts]) if classified else None,
            known if recognised else None,
            torch.cat([_index_among(part, known) for part in parts]) if recognised else None,
            torch.cat([_confidence_or_none(part) for part in parts]) if recognised else None,
        )
        copies = [part.on_host for part in parts if part.on_host is not None]
        return whole.copied(cls.concatenate(copies)) if len(copies) == len(parts) else whole

    # -- looking -----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of faces in all pictures."""
        return self.boxes.shape[0]

    @property
    def images(self) -> int:
        """Number of pictures, those without a face included."""
        return self.image_sizes.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the arrays live."""
        return self.boxes.device

    @property
    def gender_index(self) -> Tensor:
        """``[N]`` int64: 0 female, 1 male. A tie is female, as in :attr:`Face.gender`."""
        return (self._classified()[:, 1] > self._classified()[:, 0]).long()

    @property
    def gender(self) -> list[str]:
        """The likelier gender of each face, as words."""
        return [GENDERS[i] for i in self.cpu().gender_index.tolist()]

    @property
    def confidence(self) -> Tensor:
        """``[N]``: the probability of the likelier gender, 0.5..1."""
        return self._classified().amax(1)

    @property
    def names(self) -> list[str]:
        """Which known character each face is; empty for nobody known.

        Raises:
            ValueError: nobody has been looked for.
        """
        if self.characters is None or self.character_index is None:
            raise ValueError(
                "these faces carry no names: recognise them first (anigender.characters, Recognize Character)"
            )
        return [self.characters[i] if i >= 0 else "" for i in self.character_index.tolist()]

    def _classified(self) -> Tensor:
        if self.probabilities is None:
            raise ValueError("these faces have not been classified: run a classifier, or use a pipeline with one")
        return self.probabilities

    def count_by_image(self, gender: str | None = None) -> Tensor:
        """``[B]`` int64: how many faces each picture has, all or of one gender."""
        return torch.bincount(self._of_gender(gender).image_index, minlength=self.images)

    def _of_gender(self, gender: str | None) -> Faces:
        if gender is None:
            return self
        if gender not in GENDERS:
            raise ValueError(f"gender {gender!r} is not known; choose one of {', '.join(GENDERS)}")
        return self.filter(self.gender_index == GENDERS.index(gender))

    def __getitem__(self, i: int) -> Face:
        """The ``i``-th face as plain numbers."""
        host = self if self.on_host is None else self.on_host
        return host._face(i)

    def _face(self, i: int) -> Face:
        row = self.boxes[i].tolist()
        female, male = self.probabilities[i].tolist() if self.probabilities is not None else (None, None)
        name, sure = None, None
        if self.characters is not None and self.character_index is not None and self.character_confidence is not None:
            which = int(self.character_index[i])
            name, sure = self.characters[which] if which >= 0 else "", float(self.character_confidence[i])
        box = (row[0], row[1], row[2], row[3])
        return Face(int(self.image_index[i]), box, float(self.scores[i]), female, male, name, sure)

    def __iter__(self) -> Iterator[Face]:
        """All faces as plain numbers; copies the arrays to the host once."""
        host = self.cpu()
        boxes, scores, index = host.boxes.tolist(), host.scores.tolist(), host.image_index.tolist()
        both = host.probabilities.tolist() if host.probabilities is not None else [(None, None)] * len(self)
        names: list[str] | list[None] = [None] * len(self) if self.characters is None else host.names
        sure = [None] * len(self) if host.character_confidence is None else host.character_confidence.tolist()
        rows = zip(boxes, scores, index, both, names, sure, strict=True)
        for box, score, image, (female, male), name, confidence in rows:
            yield Face(image, (box[0], box[1], box[2], box[3]), score, female, male, name, confidence)

    # -- choosing ----------------------------------------------------------------------------------------------

    def filter(self, mask: Tensor) -> Faces:
        """The faces for which ``mask [N]`` (bool) holds; every picture stays, so nothing shifts.

        Raises:
            ValueError: the mask is not ``[N]`` bool.
        """
        if mask.dtype != torch.bool or mask.shape != (len(self),):
            raise ValueError(f"the mask is {mask.dtype} {list(mask.shape)}, expected torch.bool [{len(self)}]")
        return self._take(mask)

    def of_character(self, *names: str) -> Faces:
        """The faces that are one of these characters (:meth:`is_character`); every picture stays, so nothing shifts."""
        return self.filter(self.is_character(*names))

    def is_character(self, *names: str) -> Tensor:
        """Which faces are one of these characters, in any case: ``[N]`` bool.

        Raises:
            ValueError: nobody has been looked for, or not one of these.
        """
        self.names  # noqa: B018  (asked for its error)
        assert self.characters is not None and self.character_index is not None
        known = {name.strip().casefold(): i for i, name in enumerate(self.characters)}
        unknown = [name for name in names if name.strip().casefold() not in known]
        if unknown:
            raise ValueError(
                f"the recogniser knows nobody called {unknown[0]!r}; it knows {', '.join(self.characters)}"
            )
        wanted = torch.tensor([known[name.strip().casefold()] for name in names], device=self.device)
        return torch.isin(self.character_index, wanted)

    def _take(self, rows: Tensor) -> Faces:
        return self._with_arrays(lambda array: array[rows])

    def _with_arrays(self, change: Callable[[Tensor], Tensor]) -> Faces:
        """The same pictures, every array with a row per face changed alike."""
        return replace(
            self,
            boxes=change(self.boxes),
            scores=change(self.scores),
            image_index=change(self.image_index),
            probabilities=None if self.probabilities is None else change(self.probabilities),
            character_index=None if self.character_index is None else change(self.character_index),
            character_confidence=None if self.character_confidence is None else change(self.character_confidence),
        )

    def of_image(self, image: int) -> Faces:
        """The faces of one picture, as a batch of that one picture.

        Raises:
            IndexError: there is no such picture.
        """
        if not -self.images <= image < self.images:
            raise IndexError(f"image {image} is out of range: the batch has {self.images} pictures")
        image %= self.images
        own = self._take(self.image_index == image)
        return replace(
            own, image_index=torch.zeros_like(own.image_index), image_sizes=self.image_sizes[image : image + 1]
        )

    def of_images(self, first: int, last: int) -> Faces:
        """The faces of the pictures ``first`` to ``last - 1``, as a batch of only those."""
        own = self._take((self.image_index >= first) & (self.image_index < last))
        return replace(own, image_index=own.image_index - first, image_sizes=self.image_sizes[first:last])

    def order(self, by: str) -> Faces:
        """The same faces sorted inside each picture; ties keep their order.

        Args:
            by: one of ``score``, ``confidence``, ``left-right``, ``right-left``, ``top-bottom``, ``bottom-top``,
                ``large-small``, ``small-large``. Positions are those of the boxes' centres.

        Raises:
            ValueError: another word.
        """
        if by == "score":
            key = -self.scores
        elif by == "confidence":
            key = -self.confidence
        elif by in ("left-right", "right-left"):
            key = self.boxes[:, 0] + self.boxes[:, 2]
        elif by in ("top-bottom", "bottom-top"):
            key = self.boxes[:, 1] + self.boxes[:, 3]
        elif by in ("large-small", "small-large"):
            key = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(1)
        else:
            raise ValueError(f"order {by!r} is not known; choose one of {', '.join(ORDERS)}")
        if by in ("right-left", "bottom-top", "large-small"):
            key = -key
        rows = key.argsort(stable=True)
        return self._take(rows[self.image_index[rows].argsort(stable=True)])

    def pick(self, index: int, gender: str | None = None, by: str = "score") -> Faces:
        """In every picture that has it, the ``index``-th face (from 0), counted among those of ``gender`` only.

        The 2nd female is the 2nd among the females, whatever men are in the picture.
        """
        chosen = self._of_gender(gender).order(by)
        start = torch.searchsorted(chosen.image_index, chosen.image_index)
        rank = torch.arange(len(chosen), device=chosen.device) - start
        if index < 0:
            rank = rank - chosen.count_by_image()[chosen.image_index]
        return chosen.filter(rank == index)

    # -- moving ------------------------------------------------------------------------------------------------

    def to(self, device: torch.device | str) -> Faces:
        """The same faces on another device; to the host with one copy, from it without waiting."""
        device = torch.device(device)
        if device == self.device:
            return self
        if device.type == "cpu":
            return self._read() if self.on_host is None else self.on_host
        sizes = moved(self.image_sizes, device)
        there = replace(self._with_arrays(lambda array: moved(array, device)), image_sizes=sizes)
        host = self if self.device.type == "cpu" else self.on_host
        return there if host is None else there.copied(host)

    def cpu(self) -> Faces:
        """The same faces in host memory."""
        return self.to("cpu")

    def copied(self, host: Faces) -> Faces:
        """These faces, remembering that ``host`` is the same in host memory."""
        object.__setattr__(self, "on_host", host)  # the class is frozen
        return self

    def _read(self) -> Faces:
        """In host memory, by one copy of all arrays side by side; float32 is exact for indices and sizes to 2**24."""
        arrays = [self.image_sizes]
        self._with_arrays(lambda array: arrays.append(array) or array)  # type: ignore[func-returns-value]
        whole = torch.cat([array.reshape(-1).float() for array in arrays]).cpu()
        parts = iter(whole.split([array.numel() for array in arrays]))

        def copy(array: Tensor) -> Tensor:
            return next(parts).to(array.dtype).view(array.shape)

        sizes = copy(self.image_sizes)
        return replace(self._with_arrays(copy), image_sizes=sizes)

    def clipped(self) -> Faces:
        """The same faces with their boxes cut off at the pictures' borders."""
        sizes = self.image_sizes[self.image_index].to(self.boxes.dtype)
        return replace(self, boxes=clip(self.boxes, sizes[:, 1], sizes[:, 0]))


def _probabilities_or_none(part: Faces) -> Tensor:
    """An unclassified part without faces joins a classified one as zero rows."""
    return torch.zeros(0, 2, device=part.device) if part.probabilities is None else part.probabilities


def _index_among(part: Faces, known: tuple[str, ...]) -> Tensor:
    """Which of all parts' names each face is; a part without faces need not have been recognised."""
    if part.character_index is None or part.characters is None:
        return torch.zeros(0, dtype=torch.int64, device=part.device)
    places = torch.tensor([*(known.index(name) for name in part.characters), -1], device=part.device)
    return places[part.character_index]  # -1 stays the last


def _confidence_or_none(part: Faces) -> Tensor:
    return torch.zeros(0, device=part.device) if part.character_confidence is None else part.character_confidence
