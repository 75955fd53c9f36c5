"""From pictures to scores: all tiles of all pictures through the encoder, then through the heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..images import Batch, Images, check, finite_error, unit_range
from ..pipeline import ran_out_of_memory
from .encoder import Encoder
from .head import Head, values
from .scores import Scores
from .tiles import cut

TILES = 64  # through the encoder at once
COMBINATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(0),
    "median": lambda x: x.median(0).values,
    "max": lambda x: x.amax(0),
    "min": lambda x: x.amin(0),
}


class Scorer:
    """Scores batches with one or more heads, which share one look through the encoder.

    Args:
        heads: what is scored.
        encoder: what they look through.
        combine: how a class's values in a picture's tiles become one, of :data:`COMBINATIONS`.
        tiling: cut large pictures into tiles; as each head is meant to be used where None.
        out_of_memory: tells whether an error means that.

    Raises:
        ValueError: the encoder's embeddings are not what a head takes, or an unknown combination.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        encoder: Encoder,
        combine: str = "mean",
        tiling: bool | None = None,
        out_of_memory: Callable[[Exception], bool] = ran_out_of_memory,
    ) -> None:
        if combine not in COMBINATIONS:
            raise ValueError(f"combine is {combine!r}, expected one of {', '.join(COMBINATIONS)}")
        if encoder.width is not None:
            for head in heads:
                check_width(head, encoder.width)
        self.heads, self.encoder, self.tiling = list(heads), encoder, tiling
        self.combine = COMBINATIONS[combine]
        self.out_of_memory = out_of_memory

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Head and label of every value."""
        return tuple((head.name, label) for head in self.heads for label in head.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The values' names in rules."""
        return Scores(torch.zeros(0, len(self.columns)), self.columns).names

    def __call__(self, images: Images, progress: Callable[[int, int], None] | None = None) -> Scores:
        """The scores of a batch.

        Args:
            images: as :func:`anigender.images.check` takes them.
            progress: called with (pictures done, pictures in all).

        Raises:
            ValueError, TypeError: a picture breaks the image contract, or embeddings are not what a head takes.
        """
        batch = check(images)
        tiled = [head.tiled if self.tiling is None else self.tiling for head in self.heads]
        kinds = sorted(set(tiled))
        tables = {}
        for done, kind in enumerate(kinds):

            def advance(pictures: int, done: int = done) -> None:
                if progress is not None:
                    progress((done * len(batch) + pictures) // len(kinds), len(batch))

            tables[kind] = embed(batch, self.encoder, kind, advance, self.out_of_memory)
        table = torch.zeros(len(batch), len(self.columns))
        start = 0
        for head, kind in zip(self.heads, tiled, strict=True):
            stop = start + len(head.labels)
            table[:, start:stop] = self._apply(head, tables[kind])
            start = stop
        return Scores(table, self.columns)

    @torch.inference_mode()
    def _apply(self, head: Head, embeddings: list[Tensor]) -> Tensor:
        """One head's values ``[B, N]`` from each picture's embeddings ``[T, width]``."""
        if not embeddings:
            return torch.zeros(0, len(head.labels))
        rows = torch.cat(embeddings)
        check_width(head, rows.shape[1])
        device = next(head.net.parameters()).device
        parts = values(head.net(rows.to(device))).cpu().split([len(own) for own in embeddings])
        return torch.stack([self.combine(part) for part in parts])


def check_width(head: Head, width: int) -> None:
    """Refuse a head that takes other embeddings than the encoder gives.

    Raises:
        ValueError: with both numbers.
    """
    if head.features != width:
        raise ValueError(
            f"the head {head.name} takes embeddings of {head.features} values, the encoder gives {width}; "
            "the published heads take those of CLIP ViT-L/14 (768 values)"
        )


def embed(
    batch: Batch,
    encoder: Encoder,
    tiled: bool,
    advance: Callable[[int], None] = lambda done: None,
    out_of_memory: Callable[[Exception], bool] = ran_out_of_memory,
) -> list[Tensor]:
    """The embeddings ``[T, width]`` of every picture's tiles, in host memory, in batch order.

    Raises:
        ValueError: a picture holds NaN or infinity.
    """
    found: dict[int, Tensor] = {}
    waiting: list[tuple[int, Tensor]] = []

    def flush() -> None:
        tiles = torch.cat([own for _, own in waiting])
        parts = _encoded(tiles, encoder, out_of_memory).split([len(own) for _, own in waiting])
        for (index, _), part in zip(waiting, parts, strict=True):
            if not bool(part.isfinite().all()):
                raise finite_error(index + batch.first)
            found[index] = part
        waiting.clear()
        advance(len(found))

    for index, own in _tiles(batch, encoder.size, tiled, out_of_memory):
        waiting.append((index, own))
        if sum(len(tiles) for _, tiles in waiting) >= TILES:
            flush()
    if waiting:
        flush()
    return [found[i] for i in range(len(batch))]


def _tiles(
    batch: Batch, size: int, tiled: bool, out_of_memory: Callable[[Exception], bool]
) -> Iterator[tuple[int, Tensor]]:
    """Each picture's place in the batch and its tiles ``[T, 3, size, size]``."""
    for group in batch.groups:
        parts = _in_pieces(group.pixels, lambda pixels: cut(pixels, size, tiled), out_of_memory)
        yield from zip(group.index, (own for part in parts for own in part), strict=True)


def _encoded(tiles: Tensor, encoder: Encoder, out_of_memory: Callable[[Exception], bool]) -> Tensor:
    """Embeddings of tiles in host memory."""
    return torch.cat(
        list(_in_pieces(tiles, lambda part: encoder.encode(unit_range(part)).float().cpu(), out_of_memory))
    )


def _in_pieces(
    rows: Tensor, work: Callable[[Tensor], Tensor], out_of_memory: Callable[[Exception], bool]
) -> Iterator[Tensor]:
    """What ``work`` makes of some rows at a time, in order; of half as many whenever memory runs out."""
    chunk, done = TILES, 0
    while done < len(rows):
        try:
            part = work(rows[done : done + chunk])
        except (MemoryError, RuntimeError) as error:
            if chunk == 1 or not out_of_memory(error):
                raise
            chunk = max(1, chunk // 2)
            continue
        done += chunk
        yield part
