"""The command line. Each command is a file of this folder, imported when it is called, so that ``--help`` is quick."""

from __future__ import annotations

import errno
import importlib
import io
import sys
from typing import Any

import click

from ..tuning import tune

COMMANDS = {
    "classify": "classify",
    "tag": "tag",
    "filter": "filter",
    "crop": "crop",
    "show": "show",
    "quality": "quality",
    "dataset": "dataset",
    "predict": "predict",
    "evaluate": "evaluate",
    "train": "train",
    "export": "export",
    "models": "models",
    "store": "store",
}


# What a disk or a folder says when it takes no more: not this program's mistake, so it is told without a traceback.
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class Commands(click.Group):
    """A group that imports a command's file only when the command is named."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """As of click, with output that can hold every name."""
        write_unicode()
        return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a disk that is full or read-only ends it with status 1 and one line."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno not in REFUSALS:
                raise
            where = f" ({str(error.filename)!r})" if error.filename else ""
            raise click.ClickException(
                f"cannot write: {error.strerror}{where}; what was finished before is whole, and nothing is half written"
            ) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of the file of that name."""
        if name not in COMMANDS:
            return None
        return importlib.import_module(f".{COMMANDS[name]}", __name__).command


def write_unicode() -> None:
    """Let stdout take every letter: files and pipes get UTF-8, as JSON is, and terminals escape what they cannot show.

    The locale's encoding, such as cp1252 on Windows, would end the run at a name or tag that it lacks.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        own = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=own, errors="backslashreplace")


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="anigender")
def main() -> None:
    """Find anime faces in pictures and say female or male for each.

    \b
    anigender classify pictures/                      one JSON line per picture
    anigender tag pictures/ --mode append             write booru tags beside the pictures
    anigender filter in/ --rule only-female --to out/ keep what fits a rule
    anigender train characters --data heads/ …        a recogniser of your own characters

    Everything runs on this machine, with models that come with the package. Exit status: 0 all good,
    1 some inputs failed (they are listed at the end, the rest is done), 2 wrong usage.
    """
    tune()
