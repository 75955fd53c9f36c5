"""Running a target: inputs one after another, each with a limit on time and on memory, and what was found.

Two engines make the inputs. ``random`` mutates seeds and needs nothing; with one seed it makes the same inputs
everywhere. ``atheris`` (``pip install "anigender[fuzz]"``) is libFuzzer, which keeps what reaches new code.
"""

from __future__ import annotations

import faulthandler
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from .mutation import mutated
from .targets.target import Target

SECONDS = 5.0  # of processor time for one input: a busy machine is no finding
HANGS = 120  # seconds on the clock after which even code that waits or ignores signals is ended, with a traceback
LONGEST_MESSAGE = 10_000  # characters of an error's text: it is printed
ROOT = str(Path(__file__).resolve().parents[2])


class TooSlow(BaseException):
    """One input took more than :data:`SECONDS`; not an Exception, so that no target takes it for one of its own."""


@dataclass(frozen=True)
class Finding:
    """An input that did what it must not.

    Attributes:
        what: the exception's type, ``slow``, ``memory`` or ``message``, and where.
        detail: the traceback or the figures.
        data: the input.
    """

    what: str
    detail: str
    data: bytes


@dataclass
class Report:
    """What came of a run.

    Attributes:
        target: its name.
        count: inputs run.
        refused: of those, the ones that raised a documented error.
        seconds: in all.
        slowest: seconds of processor time of the slowest input.
        megabytes: by which the process grew at most during an input.
        findings: the first of every kind.
    """

    target: str
    count: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    megabytes: float = 0.0
    findings: dict[str, Finding] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Keep the shortest input of every kind of finding."""
        known = self.findings.get(finding.what)
        if known is None or len(finding.data) < len(known.data):
            self.findings[finding.what] = finding


def _place(error: BaseException) -> str:
    """The innermost frame of this project, without the line, which changes."""
    every = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in every if frame.filename.startswith(ROOT) and frame.filename != __file__]
    own = [frame for frame in frames if "/anigender/" in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].name}" if own else "elsewhere"


def _held() -> int:
    """Kilobytes that the process has held at most since :func:`_forget`."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _forget() -> None:
    """Let the kernel forget how much the process held at most; where it cannot, only rises are seen."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def run_one(target: Target, data: bytes, folder: Path, report: Report) -> None:
    """One input, and what it did into the report."""

    def ring(*_: Any) -> None:
        raise TooSlow

    before = _held()
    start = time.process_time()
    previous = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        target.run(data, folder)
    except target.errors as error:
        report.refused += 1
        text = str(error)
        if not text or len(text) > LONGEST_MESSAGE:
            what = f"message {type(error).__name__} {_place(error)}"
            report.add(Finding(what, f"an error's message has {len(text):,} characters: {text[:200]!r}", data))
    except TooSlow as error:
        detail = "".join(traceback.format_exception(error))
        report.add(Finding(f"slow {_place(error)}", f"took more than {SECONDS} s\n{detail}", data))
    except Exception as error:
        detail = "".join(traceback.format_exception(error))
        report.add(Finding(f"{type(error).__name__} {_place(error)}", detail[-8000:], data))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    report.count += 1
    report.slowest = max(report.slowest, time.process_time() - start)
    grown = (_held() - before) / 1024
    if grown > 1:
        report.megabytes = max(report.megabytes, grown)
        if grown > target.megabytes:
            report.add(Finding("memory", f"held {grown:.0f} MB more, the bound is {target.megabytes}", data))
        _forget()


@contextmanager
def _quiet() -> Iterator[Path]:
    """A folder in memory where there is one, no warnings, and an end to what never ends."""
    shared = Path("/dev/shm")
    watching = not faulthandler.is_enabled()
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield Path(folder)
        finally:
            if watching:
                faulthandler.cancel_dump_traceback_later()


def inputs(target: Target, count: int, seed: int) -> Iterator[bytes]:
    """The seeds, then mutations of them; the same for the same seed."""
    rng = random.Random(f"{target.name} {seed}")
    seeds = target.seeds()
    yield from seeds[:count]
    for _ in range(count - len(seeds)):
        yield mutated(rng.choice(seeds), rng, target.words, seeds, target.longest)


def run_random(target: Target, count: int, seed: int, watch: bool = True) -> Report:
    """Run a target on mutations of its seeds.

    Args:
        target: what.
        count: inputs.
        seed: of the mutations.
        watch: end the process when one input hangs in code that no signal stops; not inside a test runner.
    """
    report = Report(target.name)
    start = time.perf_counter()
    with _quiet() as folder:
        _forget()
        with suppress(KeyboardInterrupt):  # what was done until then is told
            for data in inputs(target, count, seed):
                if watch and report.count % 64 == 0:
                    faulthandler.dump_traceback_later(HANGS, exit=True)
                run_one(target, data, folder, report)
    report.seconds = time.perf_counter() - start
    return report


def run_guided(target: Target, count: int, seed: int, atheris: Any, finish: Callable[[Report], NoReturn]) -> None:
    """Run a target under libFuzzer, whose inputs grow by what reaches new code.

    Args:
        target: what; its code has been imported under ``atheris.instrument_imports``.
        count: inputs.
        seed: of the mutations.
        atheris: the package.
        finish: called with the report in the end; libFuzzer does not return, so this ends the process.
    """
    report = Report(target.name)
    start = time.perf_counter()
    with _quiet() as folder:
        corpus, own = folder / "corpus", folder / "own"
        corpus.mkdir()
        own.mkdir()
        for i, data in enumerate(target.seeds()):
            (corpus / f"{i:04}").write_bytes(data)
        options = [f"-seed={seed + 1}", f"-max_len={target.longest}", "-timeout=600", "-rss_limit_mb=0", "-verbosity=0"]
        if target.words:
            words = folder / "words"
            escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
            words.write_text("".join(f'"{word}"\n' for word in escaped))
            options.append(f"-dict={words}")

        def one(data: bytes) -> None:
            if report.count % 64 == 0:
                faulthandler.dump_traceback_later(HANGS, exit=True)
            run_one(target, data, own, report)
            if report.count >= count:
                report.seconds = time.perf_counter() - start
                shutil.rmtree(folder)
                finish(report)

        _forget()
        atheris.Setup([sys.argv[0], *options, str(corpus)], one)
        atheris.Fuzz()
