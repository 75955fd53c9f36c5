"""A folder of JPEGs tagged, beside the time that Pillow alone needs to decode them with as many threads.

``anigender tag`` runs as a process of its own, from a cold start to the last caption; its peak memory is what the
system says of that process. The pictures are the project's examples, 1024 x 1024, each a little different. Both ways
are asked in turn. Run with ``python -m benchmarks.folder``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image

from benchmarks.report import about, write_report
from benchmarks.throughput import PICTURES, make_files


def decode(path: Path) -> tuple[int, int]:
    """What Pillow does for one picture."""
    with Image.open(path) as image:
        return image.convert("RGB").size


def decoded(paths: list[Path], threads: int) -> float:
    """Seconds that Pillow takes for all of them."""
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode, paths):
            pass
    return time.perf_counter() - start


def tagged(folder: Path, threads: int) -> tuple[float, int]:
    """Seconds that ``anigender tag`` takes, and the most memory it held in bytes."""
    command = [sys.executable, "-m", "anigender", "tag", str(folder), "--mode", "overwrite", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
    child = os.posix_spawn(sys.executable, command, environment, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"anigender tag ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Measure, print a table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="pictures")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    rows = []
    print(f"JPEGs of 1024 x 1024, {options.threads} threads")
    print(f"{'pictures':>9}{'tag s':>9}{'images/s':>10}{'decode s':>10}{'ratio':>8}{'peak MiB':>10}")
    for count in (options.count // 10, options.count):
        with tempfile.TemporaryDirectory() as name:
            each = -(-count // len(PICTURES))
            paths = [path for faces in PICTURES for path in make_files(Path(name), faces, each)][:count]
            for extra in Path(name).iterdir():
                if extra not in paths:
                    extra.unlink()
            decoded(paths[:32], options.threads)
            turns = [
                (*tagged(Path(name), options.threads), decoded(paths, options.threads)) for _ in range(options.rounds)
            ]
            captions = len(list(Path(name).glob("*.txt")))
        if captions != count:
            raise SystemExit(f"{captions} captions for {count} pictures")
        ours, alone = (statistics.median(turn[i] for turn in turns) for i in (0, 2))
        ratio, peak = statistics.median(turn[0] / turn[2] for turn in turns), max(turn[1] for turn in turns)
        print(f"{count:>9}{ours:>9.1f}{count / ours:>10.1f}{alone:>10.1f}{ratio:>8.2f}{peak / 2**20:>10.0f}")
        rows.append({"pictures": count, "tag s": ours, "decode s": alone, "ratio": ratio, "peak bytes": peak})
    write_report(options.output, {**about(), "threads": options.threads}, rows)


if __name__ == "__main__":
    main()
