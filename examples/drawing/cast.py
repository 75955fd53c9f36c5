"""The cast of the example pictures."""

from __future__ import annotations

from .character import Character

# fmt: off
HANA = Character("female", (240, 150, 172), (58, 150, 212), "full", "twintails", "sailor", (44, 62, 120),
                 (244, 244, 252), ribbon=(212, 50, 70))
SHIORI = Character("female", (58, 52, 84), (146, 84, 196), "swept", "long", "dress", (122, 182, 224), (250, 220, 120),
                   mouth="open", turn=0.4, tilt=6, ribbon=(242, 242, 248))
MIO = Character("female", (152, 98, 62), (84, 160, 70), "parted", "bob", "blazer", (60, 70, 104), (204, 60, 72),
                turn=-0.45, ribbon=(240, 200, 80))
REINA = Character("female", (236, 208, 128), (66, 108, 204), "swept", "ponytail", "blazer", (164, 52, 62),
                  (52, 62, 112), turn=-0.35, tilt=-7, ribbon=(60, 80, 164))
AOI = Character("female", (110, 176, 196), (220, 130, 50), "full", "wavy", "dress", (240, 236, 240), (226, 120, 140),
                tilt=-4, mouth="open", ribbon=(226, 110, 130))
AKANE = Character("female", (196, 70, 62), (170, 60, 70), "parted", "long", "sailor", (70, 48, 64), (236, 220, 160),
                  turn=0.3, brow=4, eye_height=0.88, mouth="flat")
KENJI = Character("male", (46, 48, 68), (62, 104, 168), "spiky", "short", "gakuran", (40, 40, 60), (228, 188, 84),
                  mouth="smirk", brow=-6)
HARUTO = Character("male", (208, 178, 110), (70, 132, 92), "tousled", "short", "blazer", (64, 72, 98), (156, 40, 52),
                   mouth="flat", turn=0.45, brow=0, glasses=True)
DAICHI = Character("male", (98, 62, 50), (150, 102, 52), "slick", "short", "hoodie", (70, 112, 92), (240, 238, 232),
                   skin=(246, 214, 190), turn=0.2, tilt=-5, stubble=True, brow=-8)
REN = Character("male", (172, 182, 204), (120, 62, 144), "side", "short", "blazer", (42, 46, 64), (92, 60, 134))
SORA = Character("male", (80, 122, 174), (204, 142, 40), "tousled", "short", "hoodie", (206, 92, 62), (60, 60, 78),
                 turn=0.3, tilt=8, mouth="smirk")
TAKUMI = Character("male", (134, 84, 54), (88, 92, 110), "tousled", "short", "gakuran", (52, 58, 84), (214, 214, 224),
                   turn=-0.25, mouth="flat", brow=-4, skin=(250, 222, 200))
