"""Recognize Character in a running ComfyUI: names, masks and SEGS, and rules over names behind it."""

from __future__ import annotations

from .client import Graph, Host, shown

PICTURES = ("pair_woman_man.webp", "no_people_street.jpg", "group_of_six.webp")


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
