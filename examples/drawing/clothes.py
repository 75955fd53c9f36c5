"""What is worn above the waist, drawn over the torso. Units and origin are the head's."""

from __future__ import annotations

import numpy as np

from .build import Build, chin_shadow, neckline
from .character import Character
from .pen import WHITE, Pen, arcs, band, both_sides, ellipse, inked, mix, shaded, smooth
from .ribbons import draw_bow


def _sailor(pen: Pen, who: Character, build: Build) -> None:
    ink = inked(who.cloth)
    neckline(pen, who, build, both_sides(arcs([(0, 1.1), (0.21, 1.15), (0.34, 1.45), (0.0, 2.2)])), inked(WHITE))
    pen.fill(both_sides([(0, 2.02), (0.3, 1.98), (0.0, 2.4)]), WHITE)
    pen.line(arcs([(-0.2, 2.0), (0.2, 2.0, -0.04)]), inked(WHITE), 0.02, (1, 1))
    for side in (1, -1):
        half = pen.at(mirror=side < 0)
        collar = arcs(
            [
                (0.19, 1.18),
                (0.62, 1.4, 0.05),
                (1.0, 1.66, 0.08),
                (0.86, 2.2, 0.02),
                (0.0, 2.55, -0.12),
                (0.02, 2.3),
                (0.3, 1.62, -0.1),
            ]
        )
        half.shape(collar, who.cloth, ink, 0.026)
        half.line(arcs([(0.92, 1.7), (0.8, 2.12, 0.02), (0.06, 2.42, -0.12)]), who.accent, 0.032, (1, 1))
        half.fill(
            arcs([(0.19, 1.18), (0.36, 1.28), (0.34, 1.7, -0.05), (0.02, 2.34), (0.3, 1.62, -0.1)]), shaded(who.cloth)
        )
    draw_bow(pen.at(0, 2.5, 1.15), who.accent if max(who.accent) - min(who.accent) > 60 else (214, 52, 66))


def _dress(pen: Pen, who: Character, build: Build) -> None:
    torso = pen.mask(both_sides(smooth(build.torso)))
    edge = arcs([(-0.72, 1.93), (0.0, 2.14, -0.12), (0.72, 1.93, -0.12)])
    pen.fill(np.vstack([edge, [(1.2, 1.93), (1.2, 1.0), (-1.2, 1.0), (-1.2, 1.93)]]), who.skin, clip=torso)
    chin_shadow(pen, who, build, torso)
    ink = inked(who.cloth)
    for side in (1, -1):
        half = pen.at(mirror=side < 0)
        half.line(arcs([(0.08, 1.64), (0.52, 1.56, 0.08)]), shaded(who.skin), 0.026, (0.6, 0.1))
        half.shape(band([(0.6, 1.48), (0.6, 1.98)], [0.07, 0.09]), who.cloth, ink)
        # Puffed frill over the strap.
        half.shape(
            smooth(
                [(0.6, 1.54), (0.88, 1.48), (1.16, 1.7), (1.2, 2.1), (0.96, 2.22), (0.76, 2.12), (0.66, 1.84)],
                closed=True,
            ),
            who.cloth,
            ink,
        )
        half.line(arcs([(0.84, 1.66), (0.94, 2.02, 0.05)]), ink, 0.018)
        half.line(arcs([(0.76, 2.1), (0.97, 2.16), (1.18, 2.06)]), WHITE, 0.045, (1, 1))
    pen.line(edge, ink, 0.03, (1, 1))
    pen.line(edge + (0, 0.08), WHITE, 0.05, (1, 1))
    draw_bow(pen.at(0, 2.26, 0.6), who.accent)


def _blazer(pen: Pen, who: Character, build: Build) -> None:
    """Jacket over shirt; women wear a ribbon to it, men a tie."""
    ink, n = inked(who.cloth), build.neck
    low = 2.7 if who.female else 3.1
    wide = 0.34 if who.female else 0.46
    shirt = both_sides(arcs([(0, 1.26), (n * 1.1, 1.3), (n * 1.1 + wide * 0.55, 1.5), (0.0, low, -0.03)]))
    pen.shape(shirt, WHITE, inked(WHITE), 0.022)
    neckline(pen, who, build, both_sides(arcs([(0, 1.1), (n, 1.15), (n * 1.02, 1.3), (0.0, 1.78)])), inked(WHITE))
    if who.female:
        knot = 1.84
    else:
        knot = 1.7
        tie = both_sides(arcs([(0.08, knot + 0.1), (0.17, low - 0.1), (0.0, low + 0.12)]))
        pen.shape(tie, who.accent, inked(who.accent), 0.022)
        for k in range(4):
            y = knot + 0.3 + 0.26 * k
            pen.fill(
                [(-0.2, y + 0.1), (0.2, y - 0.08), (0.2, y), (-0.2, y + 0.18)],
                mix(who.accent, WHITE, 0.45),
                clip=pen.mask(tie),
            )
    for side in (1, -1):
        half = pen.at(mirror=side < 0)
        half.shape(
            arcs([(n * 0.98, 1.12), (n * 1.3, 1.3, 0.05), (n * 1.2 + 0.14, 1.74), (0.04, 1.76, 0.02)]),
            WHITE,
            inked(WHITE),
            0.022,
        )
        lapel = arcs(
            [
                (n * 1.2, 1.3),
                (n * 1.2 + wide * 0.8, 1.5, 0.05),
                (n + wide * 1.15, 2.05),
                (n + wide * 0.8, 2.1),
                (n + wide * 0.9, 2.22),
                (0.0, low + 0.14, 0.02),
                (n * 1.2 + wide * 0.25, 1.66, -0.06),
            ]
        )
        half.shape(lapel, mix(who.cloth, WHITE, 0.06), ink, 0.026)
    if who.female:
        draw_bow(pen.at(0, knot, 0.85), who.accent)
    else:
        pen.shape(
            both_sides(arcs([(0, knot - 0.06), (0.12, knot - 0.06), (0.08, knot + 0.14), (0, knot + 0.14)])),
            who.accent,
            inked(who.accent),
            0.022,
        )
    pen.line([(0, low + 0.1), (0.02, 4.7)], ink, 0.026, (1, 1))
    for k in range(2):
        pen.shape(ellipse(0.1, low + 0.35 + 0.5 * k, 0.05, 0.05), (222, 186, 96), (90, 64, 40), 0.016)


def _gakuran(pen: Pen, who: Character, build: Build) -> None:
    ink, n = (16, 14, 26), build.neck
    pen.shape(
        both_sides(arcs([(0, 1.3), (n * 1.05, 1.12, 0.05), (n * 1.5, 1.42), (0.0, 1.72, -0.1)])), who.cloth, ink, 0.026
    )
    pen.fill(both_sides(arcs([(0, 1.34), (n * 0.9, 1.16), (n * 0.8, 1.28), (0.0, 1.44, -0.06)])), WHITE)
    pen.line([(0, 1.44), (0.02, 4.8)], mix(who.cloth, WHITE, 0.3), 0.024, (1, 1))
    for side in (1, -1):
        pen.at(mirror=side < 0).line(
            arcs([(n * 1.4, 1.44), (0.06, 1.7, -0.1)]), mix(who.cloth, WHITE, 0.3), 0.018, (1, 1)
        )
        pen.at(mirror=side < 0).fill(ellipse(n * 0.9, 1.4, 0.035, 0.035), who.accent)
    for k in range(4):
        pen.shape(ellipse(0.1, 1.98 + 0.55 * k, 0.068, 0.068), who.accent, (92, 62, 26), 0.018)
        pen.fill(ellipse(0.08, 1.96 + 0.55 * k, 0.024, 0.024), (255, 246, 214))


def _hoodie(pen: Pen, who: Character, build: Build) -> None:
    """An open jacket with a hood over a plain shirt."""
    ink, n = inked(who.cloth), build.neck
    shirt = both_sides(arcs([(0, 1.5), (n * 1.2, 1.35), (n * 2, 1.5), (0.42, 4.9), (0, 4.9)]))
    pen.shape(shirt, who.accent, inked(who.accent))
    opening = both_sides(arcs([(0, 1.1), (n * 1.15, 1.3), (0.0, 1.74, 0.22)]))
    neckline(pen, who, build, opening, inked(who.accent))
    for side in (1, -1):
        half = pen.at(mirror=side < 0)
        half.fill(arcs([(n * 1.5, 1.5), (n * 1.5 + 0.16, 1.6), (0.56, 4.9), (0.4, 4.9)]), shaded(who.accent))
        hood = smooth(
            [(n * 1.05, 1.02), (n * 1.9, 1.16), (n * 2.5, 1.52), (n * 1.9, 1.86), (n * 1.25, 1.72), (n * 1.3, 1.36)],
            closed=True,
        )
        half.shape(hood, who.cloth, ink, 0.028)
        half.fill(
            smooth([(n * 1.1, 1.12), (n * 1.7, 1.3), (n * 1.6, 1.74), (n * 1.3, 1.66)], closed=True), shaded(who.cloth)
        )
        half.line(arcs([(n * 1.5, 1.76), (0.46, 4.9, 0.02)]), ink, 0.03, (1, 1))
        half.line(arcs([(n * 1.35, 1.8), (n * 1.3, 2.5, 0.04)]), WHITE, 0.04, (1, 1))


CLOTHES = {"sailor": _sailor, "dress": _dress, "blazer": _blazer, "gakuran": _gakuran, "hoodie": _hoodie}
