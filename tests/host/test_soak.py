"""A long time of random work in a running host, with its memory looked at before and after.

Off unless ``ANIGENDER_SOAK_MINUTES`` says how long. Half of the time warms up: allocators keep what they once got, so
only what is gained after that counts. With ``ANIGENDER_SOAK_OUTPUT`` the course of the memory is written there as JSON.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .client import Graph, Host, Rejected

SAME_SIZE = ("pair_woman_man.webp", "group_of_six.webp", "no_people_street.jpg", "pair_women.jpg")
OTHERS = ("solo_woman_bob.jpg", "full_body_woman.webp", "solo_man_glasses.webp")
RULES = ("faces >= 2", "female > male", "largest >= 5%", "faces > 99")
MOST_GAINED = 100  # MiB that the second half may add
MINUTES = os.environ.get("ANIGENDER_SOAK_MINUTES")


@pytest.mark.skipif(not MINUTES, reason="takes long: set ANIGENDER_SOAK_MINUTES to how many minutes")
def test_memory_stays_flat_over_random_work(host: Host) -> None:
    minutes = float(MINUTES or 0)
    chance = random.Random(0)
    ended: Counter[str] = Counter()
    course: list[tuple[float, float]] = []
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < 60 * minutes:
        ended[one_run(host, chance)] += 1
        course.append((round(elapsed, 1), round(resident(host.process.pid), 1)))
    half = [memory for elapsed, memory in course if elapsed >= 30 * minutes]
    fifth = max(1, len(half) // 5)
    before, after = (sorted(part)[len(part) // 2] for part in (half[:fifth], half[-fifth:]))
    figures = {"minutes": minutes, "runs": dict(ended), "MiB at half time": before, "MiB at the end": after}
    if output := os.environ.get("ANIGENDER_SOAK_OUTPUT"):
        Path(output).write_text(json.dumps({**figures, "course": course}, indent=1), encoding="utf-8")
    assert after - before <= MOST_GAINED, figures
    assert ended["success"] > 0 and set(ended) <= {"success", "interrupted", "error as expected", "rejected"}, figures


def resident(process: int) -> float:
    """MiB of memory that a process holds."""
    with open(f"/proc/{process}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def one_run(host: Host, chance: random.Random) -> str:
    """A random graph of this pack's nodes, run to its end, into an error, or interrupted; how it ended."""
    graph = Graph(host)
    image = graph.pictures(*chance.choices(SAME_SIZE, k=chance.randint(1, 4)))
    if chance.random() < 0.3:
        image = graph.pictures(chance.choice(OTHERS))
    side = chance.choice((256, 384, 512, 768))
    image = graph.add("ImageScale", image=image, upscale_method="area", width=side, height=side, crop="center")["IMAGE"]
    # A widget that differs each time: else the host would take everything from its cache.
    faces = graph.add("AnigenderDetect", image=image, threshold=round(chance.uniform(0.3, 0.6), 3))["faces"]
    wrong = chance.random() < 0.1
    for make in chance.sample(NODES, chance.randint(1, 4)):
        make(graph, image, faces, chance, wrong)
    try:
        prompt = host.submit(graph.prompt, client="soak")
    except Rejected:
        return "rejected"
    if chance.random() < 0.1:
        time.sleep(chance.uniform(0, 1))
        host.interrupt()
    run = host.wait(prompt)
    if run.succeeded:
        return "success"
    if run.interrupted:
        return "interrupted"
    return "error as expected" if wrong else f"error: {run.error.get('exception_message')}"


def _filter(graph: Graph, image: Any, faces: Any, chance: random.Random, wrong: bool) -> None:
    rule = "faces >=" if wrong else chance.choice(RULES)
    node = graph.add("AnigenderFilterBatch", image=image, faces=faces, expression=rule, on_empty="placeholder")
    graph.show(node["kept"])


def _tags(graph: Graph, image: Any, faces: Any, chance: random.Random, wrong: bool) -> None:
    graph.show(graph.add("AnigenderTags", faces=faces)["captions"])


def _masks(graph: Graph, image: Any, faces: Any, chance: random.Random, wrong: bool) -> None:
    node = graph.add("AnigenderMasks", faces=faces, feather=chance.choice((0.0, 8.0, 32.0)))
    graph.show(node["all"])


def _segs(graph: Graph, image: Any, faces: Any, chance: random.Random, wrong: bool) -> None:
    graph.show(graph.add("AnigenderFacesToSegs", faces=faces, image=image)["images"])


def _pick(graph: Graph, image: Any, faces: Any, chance: random.Random, wrong: bool) -> None:
    gender = chance.choice(("female", "male", "any"))
    graph.show(graph.add("AnigenderPickFace", faces=faces, image=image, gender=gender, on_empty="placeholder")["mask"])


def _crops(graph: Graph, image: Any, faces: Any, chance: random.Random, wrong: bool) -> None:
    graph.show(graph.add("AnigenderHeadCrops", faces=faces, image=image, on_empty="placeholder")["crops"])


def _preview(graph: Graph, image: Any, faces: Any, chance: random.Random, wrong: bool) -> None:
    graph.add("AnigenderPreview", image=image, faces=faces)


def _save(graph: Graph, image: Any, faces: Any, chance: random.Random, wrong: bool) -> None:
    graph.add("AnigenderSaveImages", image=image, captions=graph.add("AnigenderTags", faces=faces)["captions"])


NODES = (_filter, _tags, _masks, _segs, _pick, _crops, _preview, _save)
