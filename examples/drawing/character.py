"""What can be chosen about a character."""

from __future__ import annotations

from dataclasses import dataclass

from .pen import Colour


@dataclass(frozen=True)
class Character:
    """A character. `turn` runs from -1 (to the viewer's left) to 1, `tilt` is in degrees clockwise, and
    so many degrees of `brow` lower the brows' inner ends."""

    gender: str
    hair: Colour
    eyes: Colour
    front: str
    back: str
    outfit: str
    cloth: Colour
    accent: Colour
    skin: Colour = (255, 230, 214)
    mouth: str = "smile"
    turn: float = 0
    tilt: float = 0
    brow: float = -5
    eye_height: float = 1
    ribbon: Colour | None = None
    glasses: bool = False
    stubble: bool = False

    @property
    def female(self) -> bool:
        return self.gender == "female"
