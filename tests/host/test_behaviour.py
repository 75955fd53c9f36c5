"""What the nodes do inside a running host: results, failures, interrupting, caching, files, memory.

The embedded models may be exchanged at any time, so nothing here expects a certain gender; what is expected is that
everything the nodes say about the same pictures agrees.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from .client import Graph, Host, Listener, Rejected, Run, shown

PAIR, SIX, NOBODY = "pair_woman_man.webp", "group_of_six.webp", "no_people_street.jpg"
SAME_SIZE = (PAIR, SIX, NOBODY, "pair_women.jpg")
EVERYTHING = "faces >= 0"
NOTHING = "faces > 999"


@pytest.fixture
def graph(host: Host) -> Graph:
    return Graph(host)


def succeed(host: Host, graph: Graph, **options: Any) -> Run:
    run = host.run(graph.prompt, **options)
    assert run.succeeded, run.error
    return run


def fail(host: Host, graph: Graph, node: str) -> str:
    """The message with which a node fails."""
    run = host.run(graph.prompt)
    assert not run.succeeded
    assert run.error["node_id"] == node, run.error
    return str(run.error["exception_message"])


def described(host: Host, graph: Graph, *links: list[Any]) -> list[list[Any]]:
    """What comes through these links, each as a list of items."""
    ids = [graph.show(link) for link in links]
    run = succeed(host, graph)
    return [shown(run, node) for node in ids]


# -- results -----------------------------------------------------------------------------------------------------------


def test_detecting_tells_the_same_story_on_every_output(host: Host, graph: Graph) -> None:
    found = graph.add("AnigenderDetect", image=graph.pictures(*SAME_SIZE))
    names = ("labels", "confidences", "bounding_boxes", "female_counts", "male_counts", "report", "image")
    labels, confidences, (boxes,), women, men, (report,), (image,) = described(host, graph, *(found[n] for n in names))
    assert image["shape"] == [4, 768, 1024, 3]
    assert len(labels) == len(confidences) == len(boxes) == len(women) == len(men) == 4
    for label, sure, own, female, male in zip(labels, confidences, boxes, women, men, strict=True):
        genders = label.split(",") if label else []
        assert genders == [box["label"] for box in own]
        assert (genders.count("female"), genders.count("male")) == (female, male)
        assert sure == (pytest.approx(min(box["score"] for box in own)) if own else 0)
        for box in own:
            assert 0 <= box["x"] <= box["x"] + box["width"] <= 1024 and 0 <= box["y"] <= box["y"] + box["height"] <= 768
    assert report.count("picture ") == 4


def test_the_hosts_own_nodes_take_our_boxes(host: Host, graph: Graph) -> None:
    image = graph.pictures(PAIR, SIX)
    found = graph.add("AnigenderDetect", image=image)
    drawn = graph.add("DrawBBoxes", image=image, bboxes=found["bounding_boxes"])
    (picture,) = described(host, graph, drawn[host.nodes()["DrawBBoxes"]["output_name"][0]])
    assert picture[0]["shape"] == [2, 768, 1024, 3]


def test_our_boxes_come_back_as_the_same_faces(host: Host, graph: Graph) -> None:
    image = graph.pictures(PAIR)
    found = graph.add("AnigenderDetect", image=image)
    back = graph.add("AnigenderFromBoundingBoxes", image=image, kind="head", bounding_boxes=found["bounding_boxes"])
    before, after = described(host, graph, found["bounding_boxes"], back["bounding_boxes"])
    places = [[[box[k] for k in ("x", "y", "width", "height")] for box in own] for own in (before[0][0], after[0][0])]
    assert places[0] == places[1]


def test_a_box_of_the_hosts_own_node_is_classified(host: Host, graph: Graph) -> None:
    box = graph.add("PrimitiveBoundingBox", x=150, y=150, width=200, height=200)
    faces = graph.add(
        "AnigenderFromBoundingBoxes",
        image=graph.pictures(PAIR),
        bounding_boxes=box[host.nodes()["PrimitiveBoundingBox"]["output_name"][0]],
    )
    ((label,),) = described(host, graph, faces["labels"])
    assert label in ("female", "male")


def test_a_batch_of_64_is_its_pictures_one_by_one(host: Host, graph: Graph) -> None:
    batch = graph.add("RepeatImageBatch", image=graph.pictures(*SAME_SIZE), amount=16)
    small = graph.add("ImageScale", image=batch["IMAGE"], upscale_method="area", width=512, height=384, crop="disabled")
    found = graph.add("AnigenderDetect", image=small["IMAGE"])
    labels = graph.show(found["labels"])
    confidences = graph.show(found["confidences"])
    singles = []
    for i in range(4):
        one = graph.add("ImageFromBatch", image=small["IMAGE"], batch_index=i, length=1)
        own = graph.add("AnigenderDetect", image=one["IMAGE"])
        singles.append((graph.show(own["labels"]), graph.show(own["confidences"])))
    run = succeed(host, graph, seconds=600)
    assert shown(run, labels) == [shown(run, one)[0] for one, _ in singles] * 16
    assert shown(run, confidences) == pytest.approx([shown(run, one)[0] for _, one in singles] * 16, abs=1e-3)


def test_a_list_of_pictures_of_many_sizes_is_taken_one_by_one(host: Host, graph: Graph) -> None:
    for name in (PAIR, "solo_woman_bob.jpg", "full_body_woman.webp"):
        found = graph.add("AnigenderDetect", image=graph.pictures(name))
        masks = graph.add("AnigenderMasks", faces=found["faces"])
        graph.show(masks["all"])
    succeed(host, graph)


def test_a_list_that_is_filtered_one_by_one_is_saved(host: Host, graph: Graph) -> None:
    each = graph.add("RebatchImages", images=graph.pictures(PAIR, NOBODY, SIX), batch_size=1)
    kept = graph.add("AnigenderFilterBatch", image=each["IMAGE"], preset="any-face", on_empty="empty")
    saved = graph.add("AnigenderSaveImages", image=kept["kept"], faces=kept["kept_faces"])
    (files,) = described(host, graph, saved["files"])
    assert len(files) == 2


def test_heads_of_a_list_of_pictures_are_saved_with_their_labels(host: Host, graph: Graph) -> None:
    each = graph.add("RebatchImages", images=graph.pictures(PAIR, NOBODY, SIX), batch_size=1)
    found = graph.add("AnigenderDetect", image=each["IMAGE"])
    crops = graph.add("AnigenderHeadCrops", faces=found["faces"], image=found["image"], size=64, on_empty="empty")
    saved = graph.add("AnigenderSaveImages", image=crops["crops"], captions=crops["labels"])
    files, labels = described(host, graph, saved["files"], crops["labels"])
    assert len(files) == len(labels) == 2 + 6


def test_faces_are_narrowed_for_other_nodes(host: Host, graph: Graph) -> None:
    image = graph.pictures(PAIR, SIX)
    found = graph.add("AnigenderDetect", image=image)
    parts = [graph.add("AnigenderFilterFaces", faces=found["faces"], gender=gender) for gender in ("female", "male")]
    crops = [
        graph.add("AnigenderHeadCrops", faces=part["faces"], image=image, size=64, on_empty="placeholder")
        for part in parts
    ]
    women, men, (female,), (male,), *labels = described(
        host,
        graph,
        found["female_counts"],
        found["male_counts"],
        *(part["count"] for part in parts),
        *(crop["labels"] for crop in crops),
    )
    assert (female, male) == (sum(women), sum(men))
    for gender, count, own in (("female", female, labels[0]), ("male", male, labels[1])):
        assert own == ([gender] * count or [""])


def test_masks_crops_and_picks_fit_the_batch(host: Host, graph: Graph) -> None:
    image = graph.pictures(*SAME_SIZE)
    found = graph.add("AnigenderDetect", image=image)
    masks = graph.add("AnigenderMasks", faces=found["faces"], feather=8)
    crops = graph.add("AnigenderHeadCrops", faces=found["faces"], image=image, size=128, on_empty="placeholder")
    pick = graph.add(
        "AnigenderPickFace", faces=found["faces"], image=image, gender="any", index=1, size=96, on_empty="placeholder"
    )
    links = [masks["female"], masks["male"], masks["all"], crops["crops"], crops["labels"], crops["image_indices"]]
    links += [pick["crop"], pick["mask"], pick["bounding_box"], pick["found_indices"], found["labels"]]
    *three, (heads,), names, places, (crop,), (mask,), (box,), (indices,), labels = described(host, graph, *links)
    for (item,) in three:
        assert item["shape"] == [4, 768, 1024]
        assert 0 <= item["range"][0] <= item["range"][1] <= 1
    total = sum(len(label.split(",")) for label in labels if label)
    assert heads["shape"] == [max(total, 1), 128, 128, 3]
    assert total == 0 or (",".join(names) == ",".join(label for label in labels if label) and len(places) == total)
    assert crop["shape"] == [4, 96, 96, 3] and mask["shape"] == [4, 768, 1024] and len(box) == 4
    assert indices == ", ".join(str(i) for i, label in enumerate(labels) if len(label.split(",")) > 1)


def test_tags_are_one_per_picture_and_reach_captions(host: Host, graph: Graph) -> None:
    found = graph.add("AnigenderDetect", image=graph.pictures(*SAME_SIZE))
    captions = graph.add("PrimitiveString", value="blue hair, 3girls")
    tags = graph.add("AnigenderTags", faces=found["faces"], captions=captions["STRING"], prefix="trigger")
    ((*texts,),) = described(host, graph, tags["captions"])
    assert len(texts) == 4
    assert all(text.startswith("trigger, ") and text.count("blue hair") == 1 for text in texts)


# -- filtering ---------------------------------------------------------------------------------------------------------


def test_filtering_splits_the_batch_and_nothing_shifts(host: Host, graph: Graph) -> None:
    image = graph.pictures(*SAME_SIZE)
    latent = graph.add("EmptyLatentImage", width=1024, height=768, batch_size=4)
    found = graph.add("AnigenderDetect", image=image)
    kept = graph.add(
        "AnigenderFilterBatch",
        image=image,
        faces=found["faces"],
        latent=latent["LATENT"],
        mask=graph.add("AnigenderMasks", faces=found["faces"])["all"],
        expression="any-face",
        on_empty="placeholder",
    )
    names = ("kept", "rejected", "kept_indices", "kept_count", "rejected_count", "kept_latent", "kept_mask", "any_kept")
    (taken,), (left,), (indices,), (count,), (others,), (latents,), (masks,), (any_kept,), labels = described(
        host, graph, *(kept[name] for name in names), found["labels"]
    )
    wanted = [i for i, label in enumerate(labels) if label]
    assert indices == ", ".join(map(str, wanted))
    assert (count, others, any_kept) == (len(wanted), 4 - len(wanted), bool(wanted))
    assert taken["shape"][0] == latents["samples"]["shape"][0] == masks["shape"][0] == max(1, len(wanted))
    assert left["shape"][0] == max(1, 4 - len(wanted))


@pytest.mark.parametrize(("rule", "full", "empty"), [(EVERYTHING, "kept", "rejected"), (NOTHING, "rejected", "kept")])
def test_an_empty_branch_is_blocked_and_the_other_goes_on(
    host: Host, graph: Graph, rule: str, full: str, empty: str
) -> None:
    kept = graph.add("AnigenderFilterBatch", image=graph.pictures(PAIR, SIX), expression=rule, on_empty="block")
    runs = graph.add("PreviewImage", images=kept[full]).id
    stops = graph.add("PreviewImage", images=kept[empty]).id
    count = graph.show(kept["kept_count"])
    run = succeed(host, graph)
    assert len(run.ui(runs, "images")) == 2
    assert stops not in run.outputs
    assert shown(run, count) == [2 if full == "kept" else 0]


def test_an_empty_branch_can_be_one_black_picture(host: Host, graph: Graph) -> None:
    kept = graph.add(
        "AnigenderFilterBatch", image=graph.pictures(PAIR, SIX), expression=NOTHING, on_empty="placeholder"
    )
    ((picture,), (any_kept,)) = described(host, graph, kept["kept"], kept["any_kept"])
    assert picture["shape"] == [1, 768, 1024, 3] and picture["range"] == [0, 0, 0]
    assert any_kept is False


def test_an_empty_branch_can_be_an_error(host: Host, graph: Graph) -> None:
    kept = graph.add("AnigenderFilterBatch", image=graph.pictures(PAIR), expression=NOTHING, on_empty="fail")
    graph.show(kept["kept"])
    assert NOTHING in fail(host, graph, kept.id)


def test_an_output_without_its_input_says_what_to_connect(host: Host, graph: Graph) -> None:
    kept = graph.add("AnigenderFilterBatch", image=graph.pictures(PAIR), expression=EVERYTHING)
    stopped = graph.show(kept["kept_latent"])
    with host.listen("adviser") as listener:
        run = host.wait(host.submit(graph.prompt, client="adviser"))
        told = _until_the_end(listener, "execution_error")
    assert stopped not in run.outputs
    assert ["input `latent`" in data["exception_message"] for data in told] == [True]


def _until_the_end(listener: Listener, *wanted: str) -> list[dict[str, Any]]:
    """The messages of these types that come before the prompt has ended."""
    found = []
    for kind, data in listener.events():
        if kind in wanted:
            found.append(data)
        if kind in ("execution_success", "execution_interrupted"):
            break
    return found


# -- what is wrong is said ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["nan", "infinity", "no-height", "rank-3", "channels-2"])
@pytest.mark.parametrize("kind", ["AnigenderDetect", "AnigenderFilterBatch", "AnigenderPreview", "AnigenderSaveImages"])
def test_a_broken_picture_fails_with_the_inputs_name(host: Host, graph: Graph, what: str, kind: str) -> None:
    node = graph.add(kind, image=graph.add("HostTestBadImage", what=what)["IMAGE"])
    if kind in ("AnigenderDetect", "AnigenderFilterBatch"):
        graph.show([node.id, 0])
    message = fail(host, graph, node.id)
    assert "image" in message, message
    if what in ("nan", "infinity"):
        assert "1" in message, f"does not say which picture of the batch: {message}"


@pytest.mark.parametrize("kind", ["AnigenderDetect", "AnigenderFilterBatch", "AnigenderPreview", "AnigenderSaveImages"])
def test_an_empty_batch_is_an_empty_answer_or_a_clear_error(host: Host, graph: Graph, kind: str) -> None:
    node = graph.add(kind, image=graph.add("HostTestBadImage", what="empty")["IMAGE"])
    if kind in ("AnigenderDetect", "AnigenderFilterBatch"):
        graph.show([node.id, 0])
    run = host.run(graph.prompt)
    assert run.succeeded or "image" in run.error["exception_message"], run.error
    succeed(host, _whole(host))


def _whole(host: Host) -> Graph:
    graph = Graph(host)
    graph.add("AnigenderPreview", image=graph.pictures(PAIR))
    return graph


def test_a_wrong_rule_is_refused_before_anything_runs(host: Host, graph: Graph) -> None:
    kept = graph.add("AnigenderFilterBatch", image=graph.pictures(PAIR), expression="femal >= 1")
    graph.show(kept["kept"])
    with pytest.raises(Rejected) as refused:
        host.run(graph.prompt)
    text = refused.value.text_of(kept.id)
    assert "expression" in text and "femal" in text


def test_a_wrong_rule_that_comes_through_a_link_fails_in_the_node(host: Host, graph: Graph) -> None:
    text = graph.add("PrimitiveString", value="female >=")
    kept = graph.add("AnigenderFilterBatch", image=graph.pictures(PAIR), expression=text["STRING"])
    graph.show(kept["kept"])
    assert "expression" in fail(host, graph, kept.id)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("AnigenderDetect", {"threshold": 1.5}),
        ("AnigenderDetect", {"minimum_size": -1}),
        ("AnigenderDetect", {"order": "prettiest"}),
        ("AnigenderFilterBatch", {"preset": "some-female"}),
        ("AnigenderFilterBatch", {"on_empty": "shrug"}),
        ("AnigenderSaveImages", {"repeats": 0}),
        ("AnigenderSaveImages", {"layout": "diagonal"}),
        ("AnigenderSaveImages", {"concept": "a/b"}),
        ("AnigenderDetectorProvider", {"minimum_confidence": 0.2}),
        ("AnigenderLoadModels", {"classifier": "no-such-file.safetensors"}),
    ],
)
def test_values_out_of_range_are_refused(host: Host, graph: Graph, kind: str, wrong: dict[str, Any]) -> None:
    takes_image = "image" in host.nodes()[kind]["input"]["required"]
    node = graph.add(kind, **({"image": graph.pictures(PAIR)} if takes_image else {}), **wrong)
    if not host.nodes()[kind]["output_node"]:
        graph.show([node.id, 0])
    with pytest.raises(Rejected) as refused:
        host.run(graph.prompt)
    assert next(iter(wrong)) in refused.value.text_of(node.id)


def test_faces_of_other_pictures_are_refused(host: Host, graph: Graph) -> None:
    found = graph.add("AnigenderDetect", image=graph.pictures(PAIR))
    node = graph.add("AnigenderPreview", image=graph.pictures("solo_woman_bob.jpg"), faces=found["faces"])
    assert "faces" in fail(host, graph, node.id)


# -- the host's services -----------------------------------------------------------------------------------------------


def test_the_same_prompt_twice_runs_nothing_the_second_time(host: Host, graph: Graph) -> None:
    image = graph.pictures(PAIR, SIX)
    models = graph.add("AnigenderLoadModels")
    found = graph.add("AnigenderDetect", image=image, models=models["models"], minimum_size=3)
    graph.add("AnigenderPreview", image=image, faces=found["faces"])
    first, again = succeed(host, graph), succeed(host, graph)
    assert again.cached == set(graph.prompt)
    assert again.outputs == first.outputs

    graph.prompt[found.id]["inputs"]["minimum_size"] = 4
    changed = succeed(host, graph)
    assert found.id not in changed.cached
    assert models.id in changed.cached


def test_a_long_run_can_be_interrupted_and_the_next_one_works(host: Host, graph: Graph) -> None:
    noise = graph.add("HostTestNoise", batch=512, width=512, height=512, seed=7)
    found = graph.add("AnigenderDetect", image=noise["IMAGE"])
    graph.show(found["labels"])
    with host.listen("interrupter") as listener:
        prompt_id = host.submit(graph.prompt, client="interrupter")
        for kind, data in listener.events():
            assert kind not in ("execution_success", "execution_error"), f"it ended before it could be stopped: {data}"
            if kind == "progress" and data["node"] == found.id:
                assert 0 < data["value"] < data["max"] == 512
                break
        start = time.monotonic()
        host.interrupt()
        run = host.wait(prompt_id)
    assert run.interrupted and not run.error
    assert time.monotonic() - start < 30
    succeed(host, _whole(host))


def test_stop_takes_effect_inside_a_chunk(host: Host, graph: Graph) -> None:
    models = graph.add("AnigenderLoadModels", precision="float32")  # its nets are marked, and no other test's are
    armed = graph.add("HostTestStopInside", models=models["models"], layer=5)
    noise = graph.add("HostTestNoise", batch=2, width=256, height=256, seed=9)["IMAGE"]
    graph.show(graph.add("AnigenderDetect", image=noise, models=[armed.id, 0])["labels"])
    start = len(host.lines())
    run = host.run(graph.prompt)
    assert run.interrupted and not run.error
    ended = [line.removeprefix("host test layer: ") for line in host.lines(start) if line.startswith("host test layer")]
    assert len(ended) > 1 and ended[-1] == "stop", "layers ran on after the button was pressed"
    succeed(host, graph)  # it is pressed once only


def test_progress_moves_and_the_report_is_written_on_the_node(host: Host, graph: Graph) -> None:
    noise = graph.add("HostTestNoise", batch=48, width=256, height=256, seed=11)
    found = graph.add("AnigenderDetect", image=noise["IMAGE"])
    graph.show(found["labels"])
    moves: list[int] = []
    texts: list[str] = []
    with host.listen("watcher") as listener:
        host.submit(graph.prompt, client="watcher")
        for kind, data in listener.events():
            if kind == "progress" and data["node"] == found.id:
                moves.append(data["value"])
            elif kind == "progress_text" and data["node"] == found.id:
                texts.append(data["text"])
            elif kind in ("execution_success", "execution_error"):
                assert kind == "execution_success", data
                break
    # The host drops marks that follow each other too fast, so a quick machine shows one on the way.
    assert moves[-1] == 48 and len(moves) >= 2 and moves == sorted(moves)
    assert texts and "48" in texts[-1]


def test_unloaded_models_come_back(host: Host) -> None:
    succeed(host, _whole(host))
    host.request("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1.5)  # the server acts on it between prompts
    run = succeed(host, _whole(host))
    assert not run.cached


def test_a_preview_is_shown_on_the_node(host: Host, graph: Graph) -> None:
    node = graph.add("AnigenderPreview", image=graph.pictures(PAIR, SIX))
    images = succeed(host, graph).ui(node.id, "images")
    assert [entry["type"] for entry in images] == ["temp", "temp"]
    assert [host.picture(entry).size for entry in images] == [(1024, 768)] * 2


# -- files -------------------------------------------------------------------------------------------------------------


def test_pictures_are_saved_with_tags_and_workflow(host: Host, graph: Graph) -> None:
    image = graph.pictures(PAIR, SIX)
    tags = graph.add("AnigenderTags", faces=graph.add("AnigenderDetect", image=image)["faces"])
    saved = graph.add(
        "AnigenderSaveImages", image=image, captions=tags["captions"], filename_prefix="tests/saved/picture"
    )
    graph.add("PreviewAny", source=saved["files"])
    captions = graph.show(tags["captions"])
    workflow = {"nodes": [], "links": [], "marker": "ありがとう"}
    run = succeed(host, graph, workflow=workflow)
    images = run.ui(saved.id, "images")
    assert len(images) == 2 and {entry["type"] for entry in images} == {"output"}
    for entry, caption in zip(images, shown(run, captions), strict=True):
        path = host.folder / "output" / entry["subfolder"] / entry["filename"]
        with Image.open(path) as picture:
            assert picture.size == (1024, 768)
            assert json.loads(picture.text["workflow"]) == workflow  # type: ignore[attr-defined]
            assert json.loads(picture.text["prompt"])[saved.id]["class_type"] == "AnigenderSaveImages"  # type: ignore[attr-defined]
        assert path.with_suffix(".txt").read_text("utf-8").strip() == caption
        assert host.picture(entry).size == (1024, 768)


def test_saving_again_goes_on_and_never_overwrites_unless_told(host: Host) -> None:
    def names(amount: int, **options: Any) -> list[str]:
        graph = Graph(host)
        noise = graph.add("HostTestNoise", batch=amount, width=64, height=64, seed=amount)["IMAGE"]
        caption = graph.add("PrimitiveString", value="noise")["STRING"]  # an empty one makes no file
        options = {"captions": caption, "filename_prefix": "tests/again/n", **options}
        node = graph.add("AnigenderSaveImages", image=noise, **options)
        return [entry["filename"] for entry in succeed(host, graph).ui(node.id, "images")]

    first, second = names(2), names(3)
    assert len(set(first + second)) == 5
    assert names(4, overwrite=True)[:2] == first
    folder = host.folder / "output" / "tests" / "again"
    assert len(list(folder.glob("*.png"))) == len(list(folder.glob("*.txt"))) == 5


def test_kohya_layout_and_a_name_that_is_not_ascii(host: Host, graph: Graph) -> None:
    noise = graph.add("HostTestNoise", batch=1, width=64, height=64, seed=3)
    node = graph.add(
        "AnigenderSaveImages",
        image=noise["IMAGE"],
        filename_prefix="tests/データ/写真",
        layout="kohya",
        repeats=7,
        concept="1girl",
    )
    (entry,) = succeed(host, graph).ui(node.id, "images")
    assert entry["subfolder"].replace("\\", "/") == "tests/データ/7_1girl"
    assert (host.folder / "output" / entry["subfolder"] / entry["filename"]).is_file()


def test_saving_outside_the_output_folder_is_refused(host: Host, graph: Graph) -> None:
    noise = graph.add("HostTestNoise", batch=1, width=64, height=64, seed=5)
    node = graph.add("AnigenderSaveImages", image=noise["IMAGE"], filename_prefix="../../escaped/x")
    assert "output" in fail(host, graph, node.id)
    assert not list(host.folder.glob("**/escaped"))


def test_a_list_of_pictures_is_saved_with_its_list_of_captions(host: Host, graph: Graph) -> None:
    batch = graph.pictures(*SAME_SIZE)
    singles = graph.add("RebatchImages", images=batch, batch_size=1)
    found = graph.add("AnigenderDetect", image=singles["IMAGE"])
    tags = graph.add("AnigenderTags", faces=found["faces"])
    node = graph.add(
        "AnigenderSaveImages", image=singles["IMAGE"], captions=tags["captions"], filename_prefix="tests/list/p"
    )
    captions = graph.show(tags["captions"])
    run = succeed(host, graph)
    saved = [host.folder / "output" / e["subfolder"] / e["filename"] for e in run.ui(node.id, "images")]
    sidecars = [path.with_suffix(".txt") for path in saved]
    # Where nobody is found there is nothing to write.
    texts = [path.read_text("utf-8").strip() if path.exists() else "" for path in sidecars]
    assert texts == shown(run, captions) and len(texts) == 4 and texts.count("") == 1


# -- detectors and SEGS, without another pack --------------------------------------------------------------------------


def check_segs(segs: Any, size: tuple[int, int], labels: Callable[[str], bool]) -> None:
    """The structure that detailers rely on."""
    assert segs[0] == list(size)
    for seg in segs[1]:
        assert seg["__type__"] == "SEG"
        x1, y1, x2, y2 = seg["crop_region"]
        assert 0 <= x1 < x2 <= size[1] and 0 <= y1 < y2 <= size[0]
        assert all(isinstance(v, int) for v in seg["crop_region"])
        assert seg["cropped_mask"]["of"] == "numpy" and seg["cropped_mask"]["dtype"] == "torch.float32"
        assert seg["cropped_mask"]["shape"] == [y2 - y1, x2 - x1]
        if seg["cropped_image"] is not None:
            assert seg["cropped_image"]["shape"] == [1, y2 - y1, x2 - x1, 3]
        assert labels(seg["label"])
        assert len(seg["bbox"]) == 4


@pytest.mark.parametrize("gender", ["female", "male", "any"])
@pytest.mark.parametrize("socket", ["bbox_detector", "segm_detector"])
def test_the_detector_keeps_its_contract(host: Host, graph: Graph, gender: str, socket: str) -> None:
    provider = graph.add("AnigenderDetectorProvider", gender=gender)
    called = graph.add("HostTestCallDetector", detector=provider[socket], image=graph.pictures(SIX))
    (short,), (whole,), (mask,) = described(host, graph, *([called.id, i] for i in range(3)))
    check_segs(short, (768, 1024), lambda label: label in ("female", "male") and gender in ("any", label))
    assert len(short[1]) == len(whole[1])
    assert mask["shape"] == [768, 1024]
    assert (mask["range"][1] > 0) == bool(short[1])


def test_faces_become_segs_beside_their_pictures(host: Host, graph: Graph) -> None:
    image = graph.pictures(*SAME_SIZE)
    found = graph.add("AnigenderDetect", image=image)
    segs = graph.add("AnigenderFacesToSegs", faces=found["faces"], image=image)
    each, pictures, labels = described(host, graph, segs["segs"], segs["images"], found["labels"])
    assert len(each) == len(pictures) == 4
    for own, picture, label in zip(each, pictures, labels, strict=True):
        check_segs(own, (768, 1024), lambda name: name in ("female", "male"))
        assert picture["shape"] == [1, 768, 1024, 3]
        assert ",".join(seg["label"] for seg in own[1]) == label


def test_segs_of_another_detector_without_pictures_are_split(host: Host, graph: Graph) -> None:
    boxes = [[184, 203, 487, 505], [539, 155, 859, 475], [10, 10, 40, 60]]
    image = graph.pictures(PAIR)
    given = graph.add("HostTestNoCropSegs", image=image, boxes=json.dumps(boxes))
    split = graph.add("AnigenderSplitSegs", segs=given["SEGS"], image=image)
    (before,), (female,), (male,), (everyone,) = described(
        host, graph, given["SEGS"], split["female"], split["male"], split["all"]
    )
    for segs, label in ((female, ("female",)), (male, ("male",)), (everyone, ("female", "male"))):
        check_segs(segs, (768, 1024), lambda name, label=label: name in label)
    assert len(female[1]) + len(male[1]) == len(everyone[1]) == 3
    for old, new in zip(before[1], everyone[1], strict=True):
        assert {k: old[k] for k in old if k not in ("label", "confidence")} == {
            k: new[k] for k in new if k not in ("label", "confidence")
        }


def test_segs_without_anything_in_them_stay_so(host: Host, graph: Graph) -> None:
    image = graph.pictures(NOBODY)
    split = graph.add("AnigenderSplitSegs", segs=graph.add("HostTestNoCropSegs", image=image)["SEGS"], image=image)
    for ((size, segs),) in described(host, graph, split["female"], split["male"], split["all"]):
        assert size == [768, 1024] and segs == []
