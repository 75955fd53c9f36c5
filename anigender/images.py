"""The image contract: what a picture may be, how it is checked, and the one place where head crops are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from .faces import Faces
from .texture import Texture, build
from .transfer import moved

Images = Tensor | Sequence[Tensor]
OUTSIDES = ("edge", "mean")  # what crops show where there is no picture: its edge, repeated, or its mean colour
CUT_WITHIN = 0.05  # box sides between a box and its picture's edge, from which on that does not cut the head


@dataclass(frozen=True)
class Group:
    """Pictures of one size: ``pixels [b, H, W, 3]`` and ``index [b]``, their places in the batch.

    On the CPU the pixels are uint8 (resampling bytes is about ten times as fast as floats there, and what is
    classified is what would be saved); on other devices they keep the precision they came in.
    """

    pixels: Tensor
    index: list[int]


@dataclass(frozen=True)
class Batch:
    """A checked batch, sorted into groups of equal size so that each group can be worked on at once.

    ``first`` is the place of its first picture in the caller's batch, for messages.
    """

    groups: list[Group]
    sizes: list[tuple[int, int]]
    device: torch.device
    first: int = 0

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def texture(self) -> Texture:
        """The pictures as crops are sampled from them; made once, whatever number of nets want crops."""
        return build([(group.pixels, group.index) for group in self.groups], len(self), self.device)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device, queued: the host does not wait."""
        if device == self.device:
            return self
        groups = [Group(moved(group.pixels, device), group.index) for group in self.groups]
        return Batch(groups, self.sizes, device, self.first)


def check(images: Images, background: float = 1.0, first: int = 0) -> Batch:
    """Check a batch and sort it into groups.

    Pixel values are checked here on the CPU only. Elsewhere that would make the host wait for the device: there
    NaN and infinity are found when the detector's results are read.

    Args:
        images: ``[B, H, W, C]``, or a sequence of ``[H, W, C]`` of any sizes; float of any precision with values
            0-1 (a little beyond is clamped later) or uint8; 1 (grey), 3 (RGB) or 4 (RGBA) channels; sRGB.
        background: grey level 0-1 behind transparent pixels.
        first: what messages call the first picture, where the batch is a piece of a longer one.

    Raises:
        TypeError: not tensors, or of an integer type other than uint8.
        ValueError: another rank, channel count, an empty side, NaN or infinity; the message names the picture.

    >>> check(torch.zeros(2, 8, 6, 3)).sizes
    [(8, 6), (8, 6)]
    """
    if isinstance(images, Tensor):
        if images.ndim != 4:
            hint = "; add a batch axis with images[None]" if images.ndim == 3 else ""
            raise ValueError(f"images have shape {list(images.shape)}, expected [B, H, W, C]{hint}")
        stacks = [(images, list(range(images.shape[0])))] if images.shape[0] else []
        if not stacks:
            return Batch([], [], images.device, first)
    elif isinstance(images, Sequence) and not isinstance(images, str):
        by_shape: dict[tuple, list[int]] = {}
        for i, image in enumerate(images):
            if not isinstance(image, Tensor):
                raise TypeError(f"image {i + first} is a {type(image).__name__}, expected a torch tensor [H, W, C]")
            if image.ndim != 3:
                raise ValueError(f"image {i + first} has shape {list(image.shape)}, expected [H, W, C]")
            by_shape.setdefault((tuple(image.shape), image.dtype, image.device), []).append(i)
        stacks = [(torch.stack([images[i] for i in index]), index) for index in by_shape.values()]
    else:
        raise TypeError(f"images are a {type(images).__name__}, expected a tensor [B, H, W, C] or a list of [H, W, C]")
    sizes: list[tuple[int, int]] = [(0, 0)] * sum(len(index) for _, index in stacks)
    groups = []
    for pixels, index in stacks:
        height, width, channels = pixels.shape[1:]
        at = f"image {index[0] + first}"
        if height < 1 or width < 1:
            raise ValueError(f"{at} has shape {[height, width, channels]}: an image needs at least one pixel")
        if channels not in (1, 3, 4):
            swapped = "; channels come last here, permute first" if height in (1, 3, 4) else ""
            raise ValueError(
                f"{at} has shape {[height, width, channels]}: expected 1, 3 or 4 channels [H, W, C]{swapped}"
            )
        if not pixels.dtype.is_floating_point and pixels.dtype != torch.uint8:
            raise TypeError(f"{at} is {pixels.dtype}, expected a float type with values 0-1 or uint8")
        if pixels.device.type == "cpu" and pixels.dtype.is_floating_point:
            sums = pixels.flatten(1).sum(1, dtype=torch.float32)  # NaN and infinity survive a sum
            if not bool(sums.isfinite().all()):
                raise finite_error(index[int((~sums.isfinite()).nonzero()[0])] + first)
        groups.append(Group(bytes_on_cpu(to_rgb(pixels, background)), index))
        for i in index:
            sizes[i] = (height, width)
    devices = {group.pixels.device for group in groups}
    if len(devices) > 1:
        raise ValueError(f"the images are on several devices ({', '.join(map(str, devices))}); move them to one")
    return Batch(groups, sizes, devices.pop() if devices else torch.device("cpu"), first)


def to_rgb(pixels: Tensor, background: float = 1.0) -> Tensor:
    """``[..., C]`` with 1, 3 or 4 channels to ``[..., 3]``; alpha is composited over a grey ``background``."""
    channels = pixels.shape[-1]
    if channels == 3:
        return pixels
    if channels == 1:
        return pixels.expand(*pixels.shape[:-1], 3)
    if pixels.dtype == torch.uint8:
        pixels = pixels.float() / 255
    alpha = pixels[..., 3:].clamp(0, 1)
    return pixels[..., :3] * alpha + background * (1 - alpha)


def bytes_on_cpu(pixels: Tensor) -> Tensor:
    """Round to 8 bits on the CPU, in pieces that stay in its cache; elsewhere as it is."""
    if pixels.device.type != "cpu" or pixels.dtype == torch.uint8:
        return pixels
    result = torch.empty(pixels.shape, dtype=torch.uint8)
    for source, target in zip(pixels.reshape(-1).split(1 << 17), result.view(-1).split(1 << 17), strict=True):
        target.copy_(source.float().mul(255).add_(0.5).clamp_(0, 255))
    return result


def finite_error(index: int) -> ValueError:
    """The error for a picture with NaN or infinity, which is only found where pixels have been read anyway."""
    return ValueError(
        f"image {index} holds NaN or infinity, expected values 0-1: the step that made it failed "
        "(a VAE in half precision often does; decode in float32)"
    )


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """``[b, H, W, 3]`` to ``[b, 3, height, width]`` by antialiased bilinear interpolation, bytes on the CPU as bytes.

    Every pixel has a share in the result, so one NaN anywhere shows in it.
    """
    x = pixels.permute(0, 3, 1, 2)
    if x.shape[-2:] == (height, width):
        return x
    if x.dtype == torch.uint8 and x.device.type != "cpu":
        x = x.float() / 255  # only the CPU resamples bytes
    elif x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    return F.interpolate(x, (height, width), mode="bilinear", antialias=True, align_corners=False)


def unit_range(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 0-255 or float, a little out of range perhaps, to ``dtype`` in 0-1, in new memory; NaN stays NaN."""
    return x.to(dtype).div_(255) if x.dtype == torch.uint8 else x.to(dtype).clamp(0, 1)


def on_host(batch: Batch) -> bool:
    """Whether the host may read the batch's boxes at no cost; elsewhere that would make it wait for the device."""
    return batch.device.type == "cpu"


def larger_where_cut(gaps: Tensor, cut_scale: float) -> Tensor:
    """How many times as large as their boxes heads are taken for, ``[N]``.

    A picture that is cut to a face does not hold the head, and the box is all there is: ``cut_scale`` where it reaches
    all four edges, 1 where one is :data:`CUT_WITHIN` or more away, and in between by how near it is.

    Args:
        gaps: ``[N, 4]`` between the box and each of the picture's edges, over the box's longer side.
        cut_scale: of heads that are cut on all sides.

    >>> larger_where_cut(torch.tensor([[0.0, 0, 0, 0], [-0.1, 0, 0, 0.025], [0, 0, 0, 0.5]]), 1.2).tolist()
    [1.2000000476837158, 1.100000023841858, 1.0]
    """
    free = (gaps.amax(1) / CUT_WITHIN).clamp(0, 1)
    return cut_scale + (1 - cut_scale) * free


def head_crops(
    images: Images | Batch,
    faces: Faces,
    size: int,
    margin: float = 1.0,
    below: float = 0.0,
    outside: str = "edge",
    cut_scale: float = 1.0,
) -> Tensor:
    """Square crops around all faces of a batch: the one place that turns a box into what a classifier sees.

    A crop is centred on its box, or ``below`` box sides under that, and ``margin`` times as wide as the box's longer
    side; where it leaves the picture, the picture's own edge is repeated, or the mean colour of what is shown of it. It
    begins and ends at whole pixels. On the CPU each crop is cut and resampled with an antialiasing filter; on other
    devices all crops of a batch are sampled at once (:mod:`anigender.texture`), and the host waits for nothing.

    Args:
        images: the batch in which the faces were found.
        faces: their boxes.
        size: side of a crop in pixels.
        margin: crop side over box side.
        below: how far the crop's centre lies under the box's, over the box's longer side.
        outside: ``edge`` or ``mean``, what is shown where there is no picture.
        cut_scale: how many times as large as its box a head is taken for where the picture cuts it off on all sides.

    Returns:
        ``[N, 3, size, size]`` float32 in 0-1 on the images' device, in the faces' order.

    Raises:
        ValueError: ``size``, ``margin`` or ``cut_scale`` is not positive, ``outside`` is neither, or the faces belong
            to a batch of another length.

    >>> faces = Faces.from_boxes([[[2, 2, 6, 6]]], sizes=[(8, 8)])
    >>> head_crops(torch.ones(1, 8, 8, 3), faces, size=4).shape
    torch.Size([1, 3, 4, 4])
    """
    if size < 1 or margin <= 0 or cut_scale <= 0:
        raise ValueError(f"size is {size}, margin {margin} and cut_scale {cut_scale}, all must be positive")
    if outside not in OUTSIDES:
        raise ValueError(f"outside is {outside!r}, expected one of {', '.join(OUTSIDES)}")
    batch = images if isinstance(images, Batch) else check(images)
    if faces.images != len(batch):
        raise ValueError(f"the faces belong to {faces.images} images, {len(batch)} were given")
    if not len(faces):
        return torch.zeros(0, 3, size, size, device=batch.device)
    boxes = moved(faces.boxes, batch.device)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1).clamp(min=1.0)
    if cut_scale != 1:
        ends = moved(faces.image_sizes, batch.device)[moved(faces.image_index, batch.device)].flip(1)
        gaps = torch.cat((boxes[:, :2], ends - boxes[:, 2:]), 1) / sides[:, None]
        sides = sides * larger_where_cut(gaps, cut_scale)
    if below:
        centres = centres + torch.stack((torch.zeros_like(sides), sides * below), 1)
    sides = sides * margin
    corners, sides = (centres - sides[:, None] / 2).round(), sides.round().clamp(min=1)  # bytes are cut at whole pixels
    if on_host(batch):
        return _cut(batch, faces.image_index, corners, sides, size, outside == "mean")
    return batch.texture.crops(moved(faces.image_index, batch.device), corners, sides, size, outside == "mean")


def _cut(batch: Batch, image_index: Tensor, corners: Tensor, sides: Tensor, size: int, flat: bool) -> Tensor:
    """The crops by cutting and shrinking bytes: a few tenths of a millisecond each."""
    rows_by_image: dict[int, list[int]] = {}
    for row, image in enumerate(image_index.tolist()):
        rows_by_image.setdefault(image, []).append(row)
    crops = torch.empty(len(sides), 3, size, size, dtype=torch.uint8)
    lows, extents = corners.long().tolist(), sides.long().tolist()
    for group in batch.groups:
        height, width = group.pixels.shape[1:3]
        for place, image in enumerate(group.index):
            for row in rows_by_image.get(image, ()):
                (x, y), side = lows[row], extents[row]
                # A box wholly outside keeps at least the picture's nearest row and column.
                x0, y0 = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
                x1, y1 = max(min(x + side, width), x0 + 1), max(min(y + side, height), y0 + 1)
                region = group.pixels[place, y0:y1, x0:x1].permute(2, 0, 1)[None]
                outside = (x0 - x, x + side - x1, y0 - y, y + side - y1)
                # Shrink what is there first and repeat the edge afterwards: it stays cheap for huge boxes.
                left, right, top, bottom = (max(0, round(v * size / side)) for v in outside)
                left, top = min(left, size - 1), min(top, size - 1)
                right, bottom = min(right, size - 1 - left), min(bottom, size - 1 - top)
                inner = (size - top - bottom, size - left - right)
                if region.shape[-2:] != inner:
                    region = F.interpolate(region, inner, mode="bilinear", antialias=True, align_corners=False)
                pads = (left, right, top, bottom)
                if flat and any(pads):
                    crops[row] = region.float().mean((0, 2, 3)).round().to(torch.uint8)[:, None, None]
                    crops[row, :, top : size - bottom, left : size - right] = region[0]
                    continue
                if any(pads):
                    region = F.pad(region.float(), pads, mode="replicate")
                crops[row] = region[0].to(torch.uint8)
    return crops.float().div_(255)
