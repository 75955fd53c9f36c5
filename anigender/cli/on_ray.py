"""``anigender classify --ray``: the connection to a Ray cluster, and what a run on it ends with."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..printable import printable
from .inputs import Inputs, Models

HERE = "local"  # a cluster made of this machine, for this run


def classify_there(inputs: Inputs, output: Path, min_confidence: float, address: str) -> None:
    """Classify the inputs on a cluster, list what failed, and leave with the status that a run here would have.

    Raises:
        click.UsageError: Ray is not installed, or there is something at ``output``.
        click.ClickException: no cluster answers, Ray gave up, or the folder could not be written.
    """
    from ..distributed import answers_in, classify_on_ray, ray_data

    try:
        ray_data()
    except ImportError as error:
        raise click.UsageError(f"--ray: {error}") from error
    import ray

    if output.exists():
        raise click.UsageError(f"--output: {printable(output)} exists already; name another folder")
    own: dict[str, Any] = {"include_dashboard": False} if address == HERE else {}
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **own)
    except Exception as error:  # Ray raises that itself where its processes do not start in time
        raise click.ClickException(f"--ray: no cluster at {address} answers ({error})") from error
    try:
        classify_on_ray(
            inputs.found(),
            output,
            everywhere(inputs.models).load,
            min_confidence,
            inputs.batch,
            use_gpus=inputs.models.device is None or inputs.models.device.startswith("cuda"),
            progress=sys.stderr.isatty(),
        )
    except (ray.exceptions.RayError, OSError) as error:
        raise click.ClickException(f"the run on Ray failed, nothing was written: {error}") from error
    finally:
        ray.shutdown()
    for path, reason in answers_in(output):
        inputs.seen += 1
        if reason is not None:
            inputs.fail(path, reason)
    inputs.finish()


def everywhere(models: Models) -> Models:
    """The same models by absolute paths, since every machine has a working folder of its own."""

    def absolute(name: str) -> str:
        if Path(name).exists():
            return str(Path(name).absolute())
        kind, colon, rest = name.partition(":")  # as in lbp:FILE
        return f"{kind}:{Path(rest).absolute()}" if colon and Path(rest).is_file() else name

    return replace(models, detector=absolute(models.detector), classifier=absolute(models.classifier))
