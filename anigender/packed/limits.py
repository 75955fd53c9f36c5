"""What a shard may ask of the memory."""

from __future__ import annotations

LARGEST_PICTURE = 256 * 1024 * 1024  # bytes of one picture's file


def too_large(size: int) -> str:
    """Why a picture of so many bytes is not read."""
    return f"has {size} bytes, at most {LARGEST_PICTURE} are read of a picture in a shard"
