"""Our detector and our SEGS in the hands of Impact Pack's real nodes; skipped where that pack is not there."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Graph, Host, Node, Run, shown

PAIR, SIX, NOBODY = "pair_woman_man.webp", "group_of_six.webp", "no_people_street.jpg"
PROMPTS = "[LAB]\n[ALL] detailed face\n[female] long lashes\n[male] strong jaw\n"


@pytest.fixture
def graph(host: Host) -> Graph:
    if "FaceDetailer" not in host.nodes():
        pytest.skip("needs Impact Pack: name its folder in COMFYUI_PACKS, or have it in COMFYUI_PATH/custom_nodes")
    return Graph(host)


def succeed(host: Host, graph: Graph) -> Run:
    run = host.run(graph.prompt)
    assert run.succeeded, run.error
    return run


def detailed(graph: Graph, image: list[Any], **options: Any) -> Node:
    """FaceDetailer with a tiny checkpoint and few steps."""
    checkpoint = graph.add("HostTestTinyCheckpoint")
    text = graph.add("CLIPTextEncode", text="picture", clip=checkpoint["CLIP"])["CONDITIONING"]
    models = {"model": checkpoint["MODEL"], "clip": checkpoint["CLIP"], "vae": checkpoint["VAE"]}
    sizes = {"guide_size": 128, "max_size": 192, "steps": 2, "cfg": 2.0, "denoise": 0.5, "bbox_crop_factor": 1.5}
    given = {"image": image, **models, "positive": text, "negative": text, **sizes, "wildcard": "", **options}
    return graph.add("FaceDetailer", **given)


def small(graph: Graph, name: str) -> list[Any]:
    """A picture at half its size, since FaceDetailer never samples smaller than the faces are."""
    picture = graph.pictures(name)
    return graph.add("ImageScale", image=picture, upscale_method="area", width=512, height=384, crop="disabled")[
        "IMAGE"
    ]


def faces_of(graph: Graph, image: list[Any]) -> tuple[str, str]:
    """Adds what shows the numbers of women and men that Detect Gender finds; the ids."""
    found = graph.add("AnigenderDetect", image=image, threshold=0.5)
    return graph.show(found["female_counts"]), graph.show(found["male_counts"])


@pytest.mark.parametrize("gender", ["female", "male", "any"])
def test_its_detector_nodes_take_our_provider(host: Host, graph: Graph, gender: str) -> None:
    image = graph.pictures(SIX)
    provider = graph.add("AnigenderDetectorProvider", gender=gender)
    detector = {"image": image, "labels": "all"}
    boxes = graph.add("BboxDetectorSEGS", bbox_detector=provider["bbox_detector"], **detector)
    heads = graph.add("SegmDetectorSEGS", segm_detector=provider["segm_detector"], **detector)
    both = graph.add(
        "ImpactSimpleDetectorSEGS",
        bbox_detector=provider["bbox_detector"],
        segm_detector_opt=provider["segm_detector"],
        image=image,
    )
    combined = graph.add("BboxDetectorCombined_v2", bbox_detector=provider["bbox_detector"], image=image)
    counts = faces_of(graph, image)
    ids = [graph.show(node["SEGS"]) for node in (boxes, heads, both)]
    mask = graph.show(combined["MASK"])
    run = succeed(host, graph)
    (women,), (men,) = (shown(run, node) for node in counts)
    wanted = {"female": women, "male": men, "any": women + men}[gender]
    for node in ids:
        ((size, segs),) = shown(run, node)
        assert size == [768, 1024] and len(segs) == wanted
        assert all(seg["label"] in ("female", "male") and gender in ("any", seg["label"]) for seg in segs)
    if wanted:  # where there is none, Impact Pack 7 makes up a mask with its sides exchanged
        assert shown(run, mask)[0]["shape"][-2:] == [768, 1024]


@pytest.mark.parametrize("picture", [SIX, PAIR, NOBODY])
def test_its_label_filter_sorts_our_segs(host: Host, graph: Graph, picture: str) -> None:
    image = graph.pictures(picture)
    found = graph.add("AnigenderDetect", image=image)
    segs = graph.add("AnigenderFacesToSegs", faces=found["faces"], image=image)
    filtered = graph.add("ImpactSEGSLabelFilter", segs=segs["segs"], preset="all", labels="female")
    ids = [graph.show(filtered[name]) for name in ("filtered_SEGS", "remained_SEGS")]
    counts = [graph.show(found[name]) for name in ("female_counts", "male_counts")]
    run = succeed(host, graph)
    for node, count, label in zip(ids, counts, ("female", "male"), strict=True):
        ((size, own),) = shown(run, node)
        assert size == [768, 1024]
        assert [seg["label"] for seg in own] == [label] * shown(run, count)[0]


def test_its_nodes_go_on_with_our_segs(host: Host, graph: Graph) -> None:
    image = graph.pictures(SIX)
    found = graph.add("AnigenderDetect", image=image)
    segs = graph.add("AnigenderFacesToSegs", faces=found["faces"], image=image)["segs"]
    largest = graph.add("ImpactSEGSOrderedFilter", segs=segs)
    dilated = graph.add("ImpactDilateMaskInSEGS", segs=segs)
    ids = [
        graph.show(graph.add("SEGSToImageList", segs=segs, fallback_image_opt=image)["IMAGE"]),
        graph.show(graph.add("SegsToCombinedMask", segs=dilated["SEGS"])["MASK"]),
        graph.show(graph.add("ImpactSEGSToMaskList", segs=largest["filtered_SEGS"])["MASK"]),
    ]
    graph.add("SEGSPreview", segs=segs, fallback_image_opt=image)
    count = graph.show(found["labels"])
    run = succeed(host, graph)
    number = len(shown(run, count)[0].split(","))
    assert len(shown(run, ids[0])) == number
    assert shown(run, ids[1])[0]["shape"][-2:] == [768, 1024]


def test_segs_of_its_detector_nodes_are_split(host: Host, graph: Graph) -> None:
    image = graph.pictures(SIX)
    provider = graph.add("AnigenderDetectorProvider", gender="any")
    segs = graph.add("BboxDetectorSEGS", bbox_detector=provider["bbox_detector"], image=image, labels="all")["SEGS"]
    bare = graph.add("RemoveImageFromSEGS", segs=segs)["SEGS"]
    split = graph.add("AnigenderSplitSegs", segs=bare, image=image)
    ids = [graph.show(link) for link in (segs, split["female"], split["male"], split["all"])]
    run = succeed(host, graph)
    before, female, male, everyone = (shown(run, node)[0][1] for node in ids)
    assert [seg["label"] for seg in before] == [seg["label"] for seg in everyone]
    assert len(female) + len(male) == len(everyone)
    assert all(seg["cropped_image"] is None for seg in everyone)


@pytest.mark.parametrize("gender", ["female", "male", "any"])
def test_face_detailer_repaints_the_wanted_faces(host: Host, graph: Graph, gender: str) -> None:
    image = small(graph, PAIR)
    provider = graph.add("AnigenderDetectorProvider", gender=gender)
    done = detailed(graph, image, bbox_detector=provider["bbox_detector"])
    counts = faces_of(graph, image)
    picture, crops, mask = (graph.show(done[name]) for name in ("image", "cropped_refined", "mask"))
    run = succeed(host, graph)
    (women,), (men,) = (shown(run, node) for node in counts)
    wanted = {"female": women, "male": men, "any": women + men}[gender]
    assert shown(run, picture)[0]["shape"] == [1, 384, 512, 3]
    assert len(shown(run, crops)) == max(1, wanted)
    assert (shown(run, mask)[0]["range"][1] > 0) == bool(wanted)


def test_face_detailer_takes_both_our_detectors(host: Host, graph: Graph) -> None:
    provider = graph.add("AnigenderDetectorProvider", gender="any")
    detectors = {"bbox_detector": provider["bbox_detector"], "segm_detector_opt": provider["segm_detector"]}
    done = detailed(graph, small(graph, PAIR), **detectors)
    picture = graph.show(done["image"])
    assert shown(succeed(host, graph), picture)[0]["shape"] == [1, 384, 512, 3]


def test_women_and_men_get_prompts_of_their_own(host: Host, graph: Graph) -> None:
    image = small(graph, SIX)
    provider = graph.add("AnigenderDetectorProvider", gender="any")
    done = detailed(graph, image, bbox_detector=provider["bbox_detector"], wildcard=PROMPTS)
    graph.show(done["image"])
    counts = faces_of(graph, image)
    start = len(host.lines())
    run = succeed(host, graph)
    said = [line for line in host.lines(start) if line.startswith("host test prompt: ")]
    (women,), (men,) = (shown(run, node) for node in counts)
    assert sum("long lashes" in line for line in said) == women
    assert sum("strong jaw" in line for line in said) == men
    assert not [line for line in said if "long lashes" in line and "strong jaw" in line]


def test_the_segs_detailer_repaints_our_segs(host: Host, graph: Graph) -> None:
    image = small(graph, SIX)
    found = graph.add("AnigenderDetect", image=image)
    segs = graph.add("AnigenderFacesToSegs", faces=found["faces"], image=image, crop_factor=1.5)
    checkpoint = graph.add("HostTestTinyCheckpoint")
    text = graph.add("CLIPTextEncode", text="picture", clip=checkpoint["CLIP"])["CONDITIONING"]
    done = graph.add(
        "DetailerForEach",
        image=segs["images"],
        segs=segs["segs"],
        **{"model": checkpoint["MODEL"], "clip": checkpoint["CLIP"], "vae": checkpoint["VAE"]},
        **{"positive": text, "negative": text, "steps": 2, "guide_size": 128, "max_size": 192, "wildcard": PROMPTS},
    )
    picture = graph.show(done["IMAGE"])
    assert shown(succeed(host, graph), picture)[0]["shape"] == [1, 384, 512, 3]
