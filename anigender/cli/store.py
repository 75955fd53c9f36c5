"""``anigender store``: what a store of results holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from ..packed import is_packed
from ..printable import printable
from ..store import ResultStore, StoreError


@click.command("store")
@click.argument("store", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="STORE")
@click.option(
    "--forget-missing",
    is_flag=True,
    help="Delete the records of pictures and shards that are no longer there. Mount all disks first.",
)
def command(store: Path, forget_missing: bool) -> None:
    """Count what a store of --resume holds, and tidy it up.

    Records of files that are gone harm nothing: no run reports them. They only take room.

    \b
    anigender store results.sqlite
    anigender store results.sqlite --forget-missing
    """
    try:
        with ResultStore(store) as results:
            if forget_missing:
                gone = 0
                for path in _missing(results):
                    results.forget(path)
                    click.echo(f"forgotten: {printable(path)}", err=True)
                    gone += 1
                click.echo(f"{gone} forgotten", err=True)
            click.echo(f"{len(results)} pictures, {results.failures()} of them could not be read")
    except StoreError as error:
        raise click.ClickException(str(error)) from error


def _missing(results: ResultStore) -> Iterator[Path]:
    """The recorded pictures that are neither files nor in shards that are."""
    shard, there = None, False
    for path in results.paths():
        if shard is None or not path.is_relative_to(shard):  # else it is in the one that was asked for last
            shard = next((parent for parent in path.parents if is_packed(parent.name) and not parent.is_dir()), None)
            there = (path if shard is None else shard).exists()
        if not there:
            yield path
