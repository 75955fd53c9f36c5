"""Bodies. Units and origin are the head's, so a body of six heads ends near y = 11."""

from __future__ import annotations

import numpy as np

from .build import MAN, WOMAN, Build, chin_shadow
from .character import Character
from .clothes import CLOTHES
from .pen import WHITE, Colour, Pen, arcs, band, both_sides, inked, mix, shaded, smooth


def draw_body(pen: Pen, who: Character) -> None:
    """The whole body with what is worn; what the picture does not show falls outside of the canvas."""
    build = WOMAN if who.female else MAN
    _draw_neck(pen, who, build)
    _draw_legs(pen, who, build)
    upper, lower = _cloth(who)
    _draw_torso(pen, who, build, upper)
    CLOTHES[who.outfit](pen, who, build)
    if who.female:
        _draw_skirt(pen, lower, who.accent if who.outfit == "dress" else shaded(lower))


def _cloth(who: Character) -> tuple[Colour, Colour]:
    """The colours of the upper and the lower half."""
    return (WHITE, who.cloth) if who.outfit == "sailor" else (who.cloth, who.cloth)


def _draw_neck(pen: Pen, who: Character, build: Build) -> None:
    n = build.neck
    neck = both_sides(smooth([(n, 0.5), (n * 0.98, 1.0), (n * 1.1, 1.3), (n * 1.5, 1.5), (n * 1.4, 2.1), (0.0, 2.3)]))
    pen.fill(neck, who.skin)
    inside = pen.mask(neck)
    chin_shadow(pen, who, build, inside)
    ink = inked(who.skin)
    for side in (1, -1):
        line = smooth([(n, 0.7), (n * 0.98, 1.0), (n * 1.1, 1.3), (n * 2.0, 1.5)])
        pen.at(mirror=side < 0).line(line, ink, 0.024, (1, 0.4))


def _draw_torso(pen: Pen, who: Character, build: Build, cloth: Colour) -> None:
    ink, dark = inked(cloth), shaded(cloth)
    bare = who.outfit == "dress"
    torso = both_sides(smooth(build.torso))
    for side in (1, -1):
        half = pen.at(mirror=side < 0)
        hand = band(
            [
                build.arm[-1],
                (build.arm[-1][0] + 0.02, build.arm[-1][1] + 0.22),
                (build.arm[-1][0] - 0.04, build.arm[-1][1] + 0.46),
            ],
            [build.arm_widths[-1] * 0.9, build.arm_widths[-1] * 1.15, 0.05],
        )
        half.shape(hand, who.skin, inked(who.skin))
        arm = band(build.arm, build.arm_widths)
        sleeve = who.skin if bare else cloth
        half.shape(arm, sleeve, inked(sleeve), 0.028)
        shadow = band(np.array(build.arm) + ((0.2, 0.06) if side > 0 else (-0.16, 0.06)), build.arm_widths)
        half.fill(shadow, shaded(sleeve), clip=half.mask(arm), alpha=0.9)
        if not bare:
            cuff = np.array(build.arm[-1])
            half.shape(
                band([cuff - (0.01, 0.2), cuff], [build.arm_widths[-1] * 1.12] * 2),
                who.accent if who.outfit == "sailor" else cloth,
                ink,
            )
    pen.fill(torso, cloth)
    inside = pen.mask(torso)
    right = smooth(build.torso)
    flank = right[right[:, 1] > build.torso[3][1] - 0.05]
    inner = flank * (1, 1)
    inner[:, 0] *= 1 - 0.34 * np.sqrt(np.minimum(1, np.linspace(0, 3, len(flank))))
    pen.fill(np.vstack([flank, inner[::-1]]), dark, clip=inside)
    # Only the flank: a line around the shoulder would cut the arm off.
    for side in (1, -1):
        half = pen.at(mirror=side < 0)
        half.line(right[right[:, 1] > build.torso[3][1] - 0.3], ink, 0.028, (0.1, 1))
        half.line(right[right[:, 1] < build.torso[2][1] + 0.02], ink, 0.028, (0.6, 1))
        fold = build.torso[3]
        half.line(arcs([(fold[0] - 0.02, fold[1] + 0.1), (fold[0] - 0.3, fold[1] + 0.32, -0.1)]), ink, 0.02, (0.9, 0.1))
        if not bare:
            elbow = build.arm[3]
            for k in (0, 1):
                y = elbow[1] - 0.06 + 0.13 * k
                half.line(
                    arcs([(elbow[0] - build.arm_widths[3], y), (elbow[0] - 0.02 - 0.06 * k, y + 0.05, -0.1)]),
                    ink,
                    0.02,
                    (0.9, 0.1),
                )


def _draw_legs(pen: Pen, who: Character, build: Build) -> None:
    cloth = who.skin if who.female else mix(who.cloth, (30, 30, 40), 0.25)
    for side in (-1, 1):
        half = pen.at(mirror=side < 0)
        leg = band(build.leg, build.leg_widths)
        foot = np.array(build.leg[-1])
        shoe = smooth(
            [
                foot + (-0.2, -0.05),
                foot + (0.2, -0.05),
                foot + (0.36, 0.42),
                foot + (0.2, 0.58),
                foot + (-0.12, 0.56),
                foot + (-0.22, 0.3),
            ],
            closed=True,
        )
        half.shape(shoe, (74, 50, 48), (30, 20, 24))
        half.shape(leg, cloth, inked(cloth), 0.028)
        inside = half.mask(leg)
        half.fill(
            band(np.array(build.leg) + ((0.22, 0) if side > 0 else (-0.2, 0)), build.leg_widths),
            shaded(cloth),
            clip=inside,
        )
        if who.female:
            sock = arcs([(-0.2, 7.9), (1.0, 7.9, -0.03), (1.0, 10.4), (-0.2, 10.4)])
            half.fill(sock, (58, 54, 74), clip=inside)
            half.outline(leg, inked(cloth), 0.028, half.mask(sock))


def _draw_skirt(pen: Pen, cloth: Colour, belt: Colour) -> None:
    ink, dark = inked(cloth), shaded(cloth)
    waist, hem = np.linspace(-0.66, 0.66, 9), np.linspace(-1.3, 1.3, 9)
    rim = [(x, 6.1 - 0.12 * (x / 1.3) ** 2 + (0.07 if i % 2 else 0), 0) for i, x in enumerate(hem)]
    skirt = np.vstack([arcs([(-0.66, 3.62), (0.66, 3.62, -0.05)]), arcs([(1.3, 5.98), *rim[::-1]])])
    pen.shape(skirt, cloth, ink, 0.028)
    for i in range(1, 8):
        pen.fill(
            np.array([(waist[i], 3.7), (hem[i], rim[i][1]), (hem[i] + 0.13, rim[i][1] - 0.02)]),
            dark,
            clip=pen.mask(skirt),
        )
        pen.line([(waist[i], 3.75), (hem[i], rim[i][1])], ink, 0.02, (0.2, 1))
    pen.shape(arcs([(-0.67, 3.55), (0.67, 3.55, -0.05), (0.69, 3.76), (-0.69, 3.76, 0.05)]), belt, inked(belt), 0.024)
