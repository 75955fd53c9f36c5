"""Recognize Character in a running ComfyUI: names, masks and SEGS, and rules over names behind it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from anigender.characters.backbones import load_backbone
from anigender.characters.networks import with_outputs
from anigender.characters.openset import OpenSet
from anigender.characters.recogniser import Recogniser
from anigender.characters.saving import save_recogniser

from .client import Graph, Host, shown

FILE = "host_test_recogniser.safetensors"
PICTURES = ("pair_woman_man.webp", "no_people_street.jpg", "group_of_six.webp")


@pytest.fixture(scope="module")
def recogniser(host: Host) -> Iterator[str]:
    """The embedded identity net with a last layer of chance, and so bold that it knows everybody."""
    torch.manual_seed(0)
    backbone = load_backbone("identity", trainable=True)
    backbone.net = with_outputs(backbone.net, 2)
    folder = host.folder / "models" / "anigender"
    folder.mkdir(exist_ok=True)
    middles = np.eye(3, backbone.net.fc.in_features, dtype=np.float32)  # of each and of all
    made = Recogniser(["Asuka", "rei"], backbone, 0.85, OpenSet("probability", 0.0), middles)
    save_recogniser(made, folder / FILE)
    host.nodes(refresh=True)
    yield FILE
    (folder / FILE).unlink()


def test_names_masks_segs_and_rules(host: Host, recogniser: str) -> None:
    assert recogniser in host.nodes()["AnigenderRecognizeCharacter"]["input"]["required"]["recogniser"][0]
    graph = Graph(host)
    image = graph.pictures(*PICTURES)
    found = graph.add("AnigenderDetect", image=image)["faces"]
    named = graph.add("AnigenderRecognizeCharacter", image=image, faces=found, recogniser=recogniser)
    names, mask, characters = (graph.show(named[name]) for name in ("names", "mask", "characters"))
    kept = graph.add(
        "AnigenderFilterBatch", image=image, faces=named["faces"], expression='has("asuka")', on_empty="placeholder"
    )
    indices = graph.show(kept["kept_indices"])
    run = host.run(graph.prompt)
    assert run.succeeded, run.error
    told = shown(run, names)
    assert len(told) == 3 and told[1] == "" and set(",".join(told[::2]).split(",")) <= {"Asuka", "rei"}
    assert shown(run, characters) == ["Asuka", "rei"] and shown(run, mask)[0]["shape"] == [3, 768, 1024]
    assert shown(run, indices) == [", ".join(str(i) for i, own in enumerate(told) if "Asuka" in own)]


def test_nobody_of_that_name(host: Host, recogniser: str) -> None:
    graph = Graph(host)
    named = graph.add(
        "AnigenderRecognizeCharacter",
        image=graph.pictures(PICTURES[0]),
        recogniser=recogniser,
        character="shinji",
    )
    graph.show(named["mask"])
    run = host.run(graph.prompt)
    assert not run.succeeded and run.error["node_id"] == named.id
    assert "input `character`" in run.error["exception_message"] and "Asuka, rei" in run.error["exception_message"]
