"""``anigender train``: learn the embedded models anew, or better ones."""

from __future__ import annotations

import click

from .characters import characters, identity
from .files import average, ranges
from .gender import calibrate, gender
from .heads import detector, verifier
from .quality import head


@click.group("train")
def command() -> None:
    """Train the head detector, its verifier, the gender classifier, a quality head, or a recogniser of characters.

    Beside OUTPUT stand a checkpoint (for --resume) and a log of losses and validation figures, one JSON object per
    line. The best network so far is at OUTPUT at any time; where a classifier is gone on with, the latest.
    """


for training in (detector, verifier, gender, calibrate, ranges, head, characters, identity, average):
    command.add_command(training)
