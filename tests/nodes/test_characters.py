"""Recognize Character with a net that knows two colours, and rules over names in Filter Batch by Gender."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.fixture
def recognise(node: Any, models: Any, recogniser: str) -> Any:
    """The node's outputs by name."""
    names = ("faces", "names", "confidences", "mask", "segs", "masks", "characters", "report", "images")
    return lambda image, **inputs: dict(
        zip(
            names,
            node("AnigenderRecognizeCharacter").recognize(
                image, **{"recogniser": recogniser, "models": models, **inputs}
            ),
            strict=True,
        )
    )


def test_names_masks_and_segs(recognise, pictures) -> None:
    image = pictures("fm", "", "x", "M")
    out = recognise(image, shape="box")
    assert out["names"] == ["rei,Asuka", "", "nobody", "rei"] and out["characters"] == ["Asuka", "rei"]
    assert out["confidences"][1] == 0 and out["confidences"][0] > 0.9 > out["confidences"][2]
    assert [int(mask.sum()) for mask in out["mask"]] == [2 * 24 * 24, 0, 0, 30 * 30]
    asuka, rei = out["masks"]
    assert [int(m.sum()) for m in asuka] == [576, 0, 0, 0] and [int(m.sum()) for m in rei] == [576, 0, 0, 900]
    assert [[seg.label for seg in own[1]] for own in out["segs"]] == [["rei", "Asuka"], [], [], ["rei"]]
    assert [one.shape for one in out["images"]] == [(1, 96, 160, 3)] * 4 and torch.equal(
        torch.cat(out["images"]), image
    )
    assert "Asuka" in out["report"] and out["faces"].gender[0] == "male"


@pytest.mark.parametrize(("character", "left"), [("asuka", [1]), (" REI ", [33])])
def test_one_character_is_chosen(recognise, pictures, character: str, left: list[int]) -> None:
    out = recognise(pictures("fm"), character=character, shape="box")
    assert [seg.bbox[0] for seg in out["segs"][0][1]] == left
    assert float(out["mask"][0, 30, left[0] + 5]) == 1 and int(out["mask"].sum()) == 576


def test_wrong_inputs_are_named(recognise, node, pictures, tmp_path) -> None:
    image = pictures("f")
    with pytest.raises(ValueError, match="input `character`: .*nobody called 'shinji'; it knows Asuka, rei"):
        recognise(image, character="shinji")
    with pytest.raises(FileNotFoundError, match="train characters"):
        recognise(image, recogniser=str(tmp_path / "none.skops"))
    with pytest.raises(ValueError, match="put it into models/anigender"):
        recognise(image, recogniser=node("AnigenderRecognizeCharacter").INPUT_TYPES()["required"]["recogniser"][0][0])


def test_a_batch_equals_its_pictures_one_by_one(recognise, pictures) -> None:
    image = pictures("fm", "", "Mx")
    whole = recognise(image)
    single = [recognise(image[i : i + 1]) for i in range(3)]
    for name in ("names", "confidences"):
        assert whole[name] == [entry for one in single for entry in one[name]]
    assert torch.equal(whole["mask"], torch.cat([one["mask"] for one in single]))
    empty = recognise(image[:0])
    assert empty["names"] == [] and empty["segs"] == empty["images"] == [] and len(empty["masks"]) == 2


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ('has("asuka")', "0, 3"),
        ('has("asuka") and not has("rei")', "3"),
        ("has('rei') >= 2", "2"),
        ('female >= 1 and has("asuka") == faces', "3"),
    ],
)
def test_rules_over_names(recognise, node, pictures, rule: str, kept: str) -> None:
    image = pictures("fm", "x", "mm", "f")
    faces = recognise(image)["faces"]
    filter_node = node("AnigenderFilterBatch")
    assert type(filter_node).VALIDATE_INPUTS(rule) is True
    out = filter_node.filter(image, expression=rule, faces=faces)
    assert out[2] == kept and all(out[10].names), "the kept pictures' faces still have their names"


def test_names_that_are_not_there_are_no_answer(recognise, node, models, pictures) -> None:
    image = pictures("f")
    keep = node("AnigenderFilterBatch").filter
    with pytest.raises(ValueError, match="input `expression`: .*the faces carry no names"):
        keep(image, expression='has("asuka")', models=models)
    with pytest.raises(ValueError, match="knows nobody called 'asuk'; did you mean asuka?"):
        keep(image, expression='has("asuk")', faces=recognise(image)["faces"])


def test_recognisers_of_the_models_folder_are_offered(part, monkeypatch, recogniser, tmp_path) -> None:
    host = part("nodes.host")
    (tmp_path / "other.safetensors").write_bytes(b"nothing of the kind")
    monkeypatch.setattr(host, "model_files", lambda kind, endings: sorted(path.name for path in tmp_path.iterdir()))
    monkeypatch.setattr(host, "model_path", lambda name: str(tmp_path / name))
    assert host.recogniser_files() == ["pair.safetensors"]
