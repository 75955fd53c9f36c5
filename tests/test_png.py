"""PNG: what is written is what is read, whatever the size, and many files come in order."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from anigender.png import encoded, png_bytes, quick_png_bytes

PICTURES = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])), elements=st.integers(0, 255)
)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@settings(max_examples=60, deadline=None)
@given(PICTURES)
def test_both_kinds_read_back_as_they_were(pixels: np.ndarray) -> None:
    for data in (quick_png_bytes(torch.from_numpy(pixels)), png_bytes(torch.from_numpy(pixels), {"key": "värde"})):
        with Image.open(io.BytesIO(data)) as image:
            image.verify()  # checks every chunk's sum
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode, image.size) == ("PNG", MODES[pixels.shape[2]], pixels.shape[1::-1])
            assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_texts_are_in_the_file() -> None:
    with Image.open(
        io.BytesIO(png_bytes(torch.zeros(2, 3, 3, dtype=torch.uint8), {"prompt": '{"a": "帽子"}'}))
    ) as image:
        assert image.text == {"prompt": '{"a": "帽子"}'}  # type: ignore[attr-defined]


def test_a_smooth_picture_becomes_small() -> None:
    ramp = torch.arange(200, dtype=torch.uint8)[:, None, None].expand(200, 300, 3)
    assert len(quick_png_bytes(ramp)) < ramp.numel() / 50


def test_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4, 5, 2\], expected \[H, W, C\] with 1, 3 or 4"):
        quick_png_bytes(torch.zeros(4, 5, 2, dtype=torch.uint8))


def test_files_come_in_order_and_only_a_few_ahead() -> None:
    taken: list[int] = []

    def pictures() -> Iterator[torch.Tensor]:
        for i in range(100):
            taken.append(i)
            yield torch.tensor([i])

    files = encoded(pictures(), lambda picture: bytes([int(picture)]))
    assert next(files) == b"\x00"
    assert len(taken) < 20
    assert [data[0] for data in files] == list(range(1, 100))


def test_what_fails_is_raised_where_it_stands() -> None:
    def encode(picture: torch.Tensor) -> bytes:
        if picture == 2:
            raise OSError("no room")
        return bytes([int(picture)])

    files = encoded(torch.arange(5), encode)
    assert [next(files), next(files)] == [b"\x00", b"\x01"]
    with pytest.raises(OSError, match="no room"):
        next(files)
    assert list(encoded([], encode)) == []
