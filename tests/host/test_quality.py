"""Score Image Quality in a running ComfyUI, through the host's own CLIP vision model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from anigender.quality.head import Head, HeadNet, save_head

from .client import Graph, Host, shown

PICTURES = ("pair_women.jpg", "group_of_six.webp", "no_people_street.jpg")
WIDTH = 16  # of the tiny encoder's embeddings


@pytest.fixture(scope="module")
def heads(host: Host) -> Iterator[list[str]]:
    """Two heads in the host's model folder: one that fits the encoder, and one for embeddings of another width."""
    names = []
    for name, width in (("fits", WIDTH), ("too_wide", 2 * WIDTH)):
        torch.manual_seed(3)
        names.append(f"host_test_{name}.safetensors")
        folder = host.folder / "models" / "anigender"
        folder.mkdir(exist_ok=True)
        save_head(Head(HeadNet(width, 8, 2), "Host", ("Pass", "Noise")), folder / names[-1])
    host.nodes(refresh=True)
    yield names
    for name in names:
        (folder / name).unlink()


def test_scores_choose_the_pictures(host: Host, heads: list[str]) -> None:
    graph = Graph(host)
    image = graph.pictures(*PICTURES)
    encoder = graph.add("HostTestTinyClipVision")["CLIP_VISION"]
    inputs = {"image": image, "clip_vision": encoder, "head": heads[0], "value": "noise"}
    scored = graph.add("AnigenderScoreQuality", **inputs)
    values, labels, report = (graph.show(scored[name]) for name in ("values", "labels", "report"))
    run = host.run(graph.prompt)
    assert run.succeeded, run.error
    found = shown(run, values)
    assert len(found) == len(shown(run, labels)) == 3 and len(set(found)) == 3 and all(0 < v < 1 for v in found)
    assert shown(run, labels) == ["Noise" if value > 0.5 else "Pass" for value in found]
    assert shown(run, report)[0].splitlines()[2] == f"picture 3: pass {1 - found[2]:.3f}, noise {found[2]:.3f}"

    limit = sorted(found)[1]  # the lowest one is below it, by more than a rule's number says
    middle = (sorted(found)[0] + limit) / 2
    rule = f"noise < {middle:.9f}"
    kept = graph.add("AnigenderFilterBatch", image=image, expression=rule, quality=scored["quality"])
    indices = graph.show(kept["kept_indices"])
    again = host.run(graph.prompt)
    assert again.succeeded, again.error
    assert shown(again, indices) == [str(found.index(min(found)))]
    assert scored.id in again.cached, "the same picture and the same head are not scored again"


def test_an_encoder_of_another_width_is_refused(host: Host, heads: list[str]) -> None:
    graph = Graph(host)
    encoder = graph.add("HostTestTinyClipVision")["CLIP_VISION"]
    scored = graph.add("AnigenderScoreQuality", image=graph.pictures(PICTURES[0]), clip_vision=encoder, head=heads[1])
    graph.show(scored["report"])
    run = host.run(graph.prompt)
    assert not run.succeeded and run.error["node_id"] == scored.id
    message = str(run.error["exception_message"])
    assert "input `clip_vision`" in message and "32 values" in message and "16" in message
