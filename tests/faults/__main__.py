"""``python -m tests.faults``: kill tagging, training and downloading at random instants, and look at what is left."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.faults.killing import KINDS


def main() -> None:
    """Print one line for each kind; an assertion ends the program where something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; all where left out")
    parser.add_argument("--count", type=int, default=20, help="kills of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others follow")
    parser.add_argument("--output", type=Path, help="every kill as JSON")
    given = parser.parse_args()
    if unknown := [kind for kind in given.kinds if kind not in KINDS]:
        parser.error(f"there is no kind {unknown[0]!r}, only {', '.join(KINDS)}")
    kills = []
    print(f"{'kind':<12} {'kills':>6} {'before the end':>15} {'cut in the middle':>18} {'temporary files left':>21}")
    for kind in given.kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            once = KINDS[kind](Path(folder))
            own = [once(given.seed + i) for i in range(given.count)]
        kills += own
        middle = sum(0 < one.done < one.total for one in own)
        left = sum(one.leftovers for one in own)
        print(f"{kind:<12} {len(own):>6} {sum(one.killed for one in own):>15} {middle:>18} {left:>21}", flush=True)
    print("nothing was lost or half written, and all went on to the end")
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps([asdict(one) for one in kills], indent=1) + "\n")


if __name__ == "__main__":
    main()
