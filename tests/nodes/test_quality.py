"""Score Image Quality with a stand-in for the host's CLIP_VISION, and its values in Filter Batch by Gender."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch


class ClipVision:
    """The interface that is used of ComfyUI's ``ClipVisionModel``: its embeddings are the mean colours."""

    model_type, image_size, load_device = "clip_vision_model", 16, torch.device("cpu")

    def __init__(self, width: int = 3) -> None:
        self.model = SimpleNamespace(visual_projection=SimpleNamespace(weight=torch.zeros(width, 5)))
        self.seen: list[int] = []

    def encode_image(self, image: torch.Tensor, crop: bool = True) -> dict[str, torch.Tensor]:
        assert image.shape[1:] == (16, 16, 3), "nothing left for the host to resize"
        self.seen.append(len(image))
        return {"image_embeds": image.mean((1, 2)), "penultimate_hidden_states": torch.zeros(1)}


@pytest.fixture
def head(part, tmp_path) -> str:
    """A head that says how red a picture is: the classes Pass and Redness."""
    module = part("anigender.quality.head")
    net = module.HeadNet(3, 4, 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.up[0].weight[0, 0] = 1
        for i in (0, 1, 4):
            net.down[i].weight[0, 0] = 1
        net.down[5].weight[1, 0] = 8
        net.down[5].bias[1] = -2
    path = tmp_path / "red.safetensors"
    module.save_head(module.Head(net, "Red", ("Pass", "Redness")), path)
    return str(path)


@pytest.fixture
def score(node, head):
    return lambda image, **inputs: node("AnigenderScoreQuality").score(
        image, **{"clip_vision": ClipVision(), "head": head, **inputs}
    )


def test_a_value_has_its_name_in_the_report_and_its_own(score, pictures) -> None:
    image = torch.stack((torch.ones(20, 20, 3), torch.zeros(20, 20, 3)))
    first, values, _, _ = score(image, value="redness")
    both, *_ = score(image, quality=first)
    assert both.names == ("red_pass", "red_redness", "red_pass_2", "red_redness_3")
    for name in ("redness", "red_redness_3"):
        assert score(image, value=name, quality=first)[1] == values
    with pytest.raises(ValueError, match="'red' is none of red_pass_2, red_redness_3"):
        score(image, value="red", quality=first)


def test_scores_labels_and_values(score, pictures) -> None:
    image = torch.stack((torch.ones(20, 20, 3), torch.zeros(20, 20, 3)))
    quality, values, labels, report = score(image, value="Redness")
    assert quality.names == ("pass", "redness") and labels == ["Redness", "Pass"]
    assert values == pytest.approx(
        [torch.tensor([0.0, 6]).softmax(0)[1].item(), torch.tensor([0.0, -2]).softmax(0)[1].item()], abs=1e-5
    )
    assert report.splitlines()[0] == f"picture 1: pass {1 - values[0]:.3f}, redness {values[0]:.3f}"
    assert score(image)[1] == pytest.approx([1 - value for value in values], abs=1e-5)


@pytest.mark.parametrize(("tiling", "seen"), [("auto", [10]), ("on", [10]), ("off", [2])])
def test_all_tiles_of_all_pictures_at_once(score, tiling: str, seen: list[int]) -> None:
    clip_vision = ClipVision()
    score(torch.rand(2, 40, 50, 3), clip_vision=clip_vision, tiling=tiling)
    assert clip_vision.seen == seen


def test_values_in_the_rules_of_the_filter(score, node, models, pictures) -> None:
    image = pictures("FFF", "FFF", "m")
    image[0, :, 100:] = torch.tensor([1.0, 0, 0])
    quality = score(image, tiling="off")[0]
    run = node("AnigenderFilterBatch").filter
    faces = node("AnigenderDetect").detect(pictures("FFF", "FFF", "m"), models=models)[0]
    redder = quality.rows()[0]["redness"]
    assert redder > quality.rows()[1]["redness"] + 0.01
    rule = f"female >= 1 and redness >= {redder - 0.001}"
    assert run(image, expression=rule, faces=faces, quality=quality)[2] == "0"
    with pytest.raises(ValueError, match="input `expression`: 'redness' is not a known name"):
        run(image, expression=rule, faces=faces)
    with pytest.raises(ValueError, match="input `quality`: scores of 2 pictures, the batch has 3"):
        run(image, faces=faces, quality=quality.take([0, 1]))


def test_a_rule_with_values_is_read_before_anything_runs(pack) -> None:
    check = pack.NODE_CLASS_MAPPINGS["AnigenderFilterBatch"].VALIDATE_INPUTS
    assert check("redness < 0.5", quality=None) is True, "linked: its names are not known yet"
    assert "not a known name" in check("redness < 0.5")
    assert "input `expression`" in check("redness < ", quality=None)


def test_scores_of_two_heads_go_on_side_by_side(score) -> None:
    image = torch.rand(2, 20, 20, 3)
    both = score(image, quality=score(image)[0])
    assert both[0].names == ("red_pass", "red_redness", "red_pass_2", "red_redness_3")
    assert len(both[1]) == 2
    with pytest.raises(ValueError, match="input `quality`: there are scores of 1 pictures and of 2"):
        score(image, quality=score(image[:1])[0])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"clip_vision": ClipVision(5)},
            "input `clip_vision`: the head Red takes embeddings of 3 values, the encoder gives 5",
        ),
        (
            {"clip_vision": SimpleNamespace(model_type="dinov2")},
            "input `clip_vision`: the connected encoder is a dinov2",
        ),
        ({"value": "blueness"}, "input `value`: 'blueness' is none of pass, redness"),
    ],
)
def test_what_is_wrong_is_named(score, inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(torch.rand(1, 20, 20, 3), **inputs)
