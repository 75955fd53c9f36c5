"""How women and men are built, and the neck that every outfit leaves bare in its own way."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from .character import Character
from .pen import Colour, Path, Pen, arcs, shaded


@dataclass(frozen=True)
class Build:
    """Half widths, and where the limbs run."""

    neck: float
    chin: float
    torso: list[tuple[float, float]]
    arm: list[tuple[float, float]]
    arm_widths: tuple[float, ...]
    leg: list[tuple[float, float]]
    leg_widths: tuple[float, ...]


WOMAN = Build(
    neck=0.22,
    chin=1.0,
    torso=[(0.22, 1.24), (0.34, 1.42), (0.7, 1.57), (0.76, 2.1), (0.84, 2.55), (0.62, 3.35), (0.66, 3.7), (0.88, 4.4)],
    arm=[(0.42, 1.74), (0.8, 1.84), (0.98, 2.35), (1.08, 3.3), (1.16, 4.2), (1.18, 4.75)],
    arm_widths=(0.2, 0.25, 0.245, 0.2, 0.15, 0.12),
    leg=[(0.42, 4.4), (0.44, 6.0), (0.4, 7.4), (0.4, 9.0), (0.4, 10.2)],
    leg_widths=(0.42, 0.37, 0.25, 0.24, 0.15),
)
MAN = Build(
    neck=0.38,
    chin=1.19,
    torso=[(0.38, 1.27), (0.66, 1.42), (1.04, 1.6), (1.08, 2.4), (1.06, 2.9), (0.92, 3.8), (0.9, 4.2), (0.94, 4.8)],
    arm=[(0.6, 1.86), (1.12, 1.98), (1.34, 2.6), (1.44, 3.6), (1.46, 4.6), (1.44, 5.1)],
    arm_widths=(0.3, 0.34, 0.34, 0.29, 0.23, 0.18),
    leg=[(0.44, 4.5), (0.52, 6.4), (0.5, 8.0), (0.5, 9.6), (0.52, 10.9)],
    leg_widths=(0.48, 0.42, 0.34, 0.32, 0.29),
)


def chin_shadow(pen: Pen, who: Character, build: Build, clip: Image.Image) -> None:
    """The head's shadow on neck and chest."""
    low = build.chin + 0.3
    shadow = arcs([(-0.6, 0.5), (0.6, 0.5), (0.5, low - 0.3), (0.05, low, 0.1), (-0.5, low - 0.36, 0.1)])
    pen.fill(shadow, shaded(who.skin), clip=clip)


def neckline(pen: Pen, who: Character, build: Build, opening: Path, ink: Colour) -> None:
    """Skin in the opening of a collar."""
    pen.fill(opening, who.skin)
    widest = opening[opening[:, 0].argmax(), 1]
    pen.line(opening[opening[:, 1] >= widest], ink, 0.022, (1, 1))
    chin_shadow(pen, who, build, pen.mask(opening))
