"""``python -m tests.fuzz [TARGET …]``: run targets on many inputs, print what was found, and keep those inputs."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

INSTRUMENTED = ["anigender", "PIL"]


def main() -> int:
    """Run the targets; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them where left out with --all")
    parser.add_argument("--all", action="store_true", help="every target (with the engine random)")
    parser.add_argument("--list", action="store_true", help="the targets and what they are about")
    parser.add_argument("--count", type=int, default=100_000, help="inputs for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("random", "atheris"), default="random", help="atheris is coverage-guided")
    parser.add_argument("--findings", type=Path, default=Path("output/fuzz"), help="inputs that found something")
    parser.add_argument("--again", type=Path, help="run only the input in this file")
    given = parser.parse_args()
    targets = load(given.engine)
    if given.list or not (given.targets or given.all):
        for target in targets.values():
            print(f"{target.name:<16} {target.about} (at most {target.megabytes} MB)")
        return 0
    names = list(targets) if given.all else given.targets
    if unknown := [name for name in names if name not in targets]:
        parser.error(f"there is no target {unknown[0]!r}, only {', '.join(targets)}")
    if given.engine == "atheris" and len(names) > 1:
        parser.error("the engine atheris ends its process: one target at a time")

    from .running import Report, run_guided, run_random

    def told(report: Report) -> int:
        print(json.dumps(summary(report, given.engine, given.seed)), flush=True)
        for finding in report.findings.values():
            given.findings.mkdir(parents=True, exist_ok=True)
            path = given.findings / f"{report.target}-{hashlib.sha256(finding.data).hexdigest()[:12]}"
            path.write_bytes(finding.data)
            print(f"\n{report.target}: {finding.what} (kept in {path})\n{finding.detail}", flush=True)
        return len(report.findings)

    def finish(report: Report) -> NoReturn:
        found = told(report)
        sys.stdout.flush()
        os._exit(1 if found else 0)

    found = 0
    for name in names:
        if given.again is not None:
            targets[name].run(given.again.read_bytes(), Path.cwd())
        elif given.engine == "atheris":
            run_guided(targets[name], given.count, given.seed, importlib.import_module("atheris"), finish)
        else:
            found += told(run_random(targets[name], given.count, given.seed))
    return 1 if found else 0


def load(engine: str) -> dict[str, Any]:
    """The targets, imported so that the engine sees which code they reach."""
    if engine == "random":
        return importlib.import_module(".targets", __package__).TARGETS
    try:
        import atheris
    except ImportError:
        sys.exit('the engine atheris needs a package: pip install "anigender[fuzz]"')
    with atheris.instrument_imports(include=INSTRUMENTED):
        return importlib.import_module(".targets", __package__).TARGETS


def summary(report: Any, engine: str, seed: int) -> dict[str, Any]:
    """The figures of a run as plain values."""
    return {
        "target": report.target,
        "engine": engine,
        "seed": seed,
        "inputs": report.count,
        "refused": report.refused,
        "seconds": round(report.seconds, 1),
        "slowest_seconds": round(report.slowest, 3),
        "most_megabytes": round(report.megabytes, 1),
        "findings": sorted(report.findings),
    }


if __name__ == "__main__":
    sys.exit(main())
