"""Draws the thumbnails of the example workflows from what the nodes give out, with each workflow's own settings.

Run it with `python examples/thumbnails.py` whenever example pictures or embedded weights change. The thumbnail of
Recognize Character is left as it is unless `--recogniser` names a file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

EXAMPLES = Path(__file__).resolve().parent
WORKFLOWS = EXAMPLES.parent / "example_workflows"
DATASET = ("solo_woman_bob.jpg", "solo_man_glasses.webp", "pair_women.jpg", "trio_woman_two_men.webp")
SIDE, DARK, GREY, WHITE, GREEN = 512, (32, 33, 37), (128, 128, 134), (240, 240, 242), (110, 210, 120)
COLOURS = {"female": (230, 70, 130), "male": (80, 140, 240)}

Outputs = dict[str, dict[str, list[Any]]]


# -- running -----------------------------------------------------------------------------------------------------------


def pack() -> ModuleType:
    """The repository as ComfyUI imports it."""
    root = EXAMPLES.parent
    spec = importlib.util.spec_from_file_location("pack", root / "__init__.py", submodule_search_locations=[str(root)])
    assert spec is not None and spec.loader is not None
    sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> Tensor:
    """An example picture as the host loads it: ``[1, H, W, 3]`` in 0-1."""
    with Image.open(EXAMPLES / name) as picture:
        return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)[None]


def run(name: str, nodes: dict[str, Any], dataset: Iterable[str] = DATASET, **settings: dict[str, Any]) -> Outputs:
    """What the nodes of an example workflow give out, each by its type: every output by its name, as a list of items.

    As in the host, a node runs once for each item of its lists, unless it takes whole lists. Nodes of others are left
    out, but for those that load and join pictures.

    Args:
        name: of the workflow, without an ending.
        nodes: the pack's classes by their ids.
        dataset: the example pictures that stand for the user's folder.
        settings: by a node's type, in place of the workflow's own.
    """
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))
    sources = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    done: dict[int, list[list[Any]]] = {}
    told: Outputs = {}
    for node in sorted(workflow["nodes"], key=lambda node: node["order"]):
        kind, values = node["type"], node.get("widgets_values") or []
        links = {socket["name"]: sources[socket["link"]] for socket in node.get("inputs", ()) if socket["link"]}
        if not all(source in done for source, _ in links.values()):
            continue
        given = {socket: done[source][slot] for socket, (source, slot) in links.items()}
        if kind == "LoadImage":
            done[node["id"]] = [[read(values[0])]]
        elif kind == "LoadImageTextDataSetFromFolder":
            pictures = [read(picture) for picture in dataset]
            done[node["id"]] = [pictures, [""] * len(pictures)]
        elif kind == "BatchImagesNode":
            done[node["id"]] = [[torch.cat([picture for batch in given.values() for picture in batch])]]
        elif kind in nodes:
            own = zip(_widgets(nodes[kind]), values, strict=True)
            given = {**{socket: [value] for socket, value in own}, **given}
            given |= {socket: [value] for socket, value in settings.get(kind, {}).items()}
            done[node["id"]] = _outputs(nodes[kind], given)
            told[kind] = dict(zip(nodes[kind].RETURN_NAMES, done[node["id"]], strict=True))
    return told


def _widgets(node: Any) -> list[str]:
    inputs = node.INPUT_TYPES()
    declared = {**inputs["required"], **inputs.get("optional", {})}
    kinds = ("INT", "FLOAT", "STRING", "BOOLEAN")
    return [
        socket
        for socket, (kind, options) in declared.items()
        if (isinstance(kind, list) or kind in kinds) and not options.get("forceInput")
    ]


def _outputs(node: Any, given: dict[str, list[Any]]) -> list[list[Any]]:
    function = getattr(node(), node.FUNCTION)
    if getattr(node, "INPUT_IS_LIST", False):
        results = [function(**given)]
    else:
        count = max(map(len, given.values()), default=1)
        turns = ({socket: items[min(i, len(items) - 1)] for socket, items in given.items()} for i in range(count))
        results = [function(**turn) for turn in turns]
    rows = [result["result"] if isinstance(result, dict) else result for result in results]
    listed = getattr(node, "OUTPUT_IS_LIST", (False,) * len(node.RETURN_TYPES))
    return [[item for row in rows for item in (row[i] if is_list else [row[i]])] for i, is_list in enumerate(listed)]


# -- drawing -----------------------------------------------------------------------------------------------------------


class Card:
    """A thumbnail in the making."""

    def __init__(self, title: str) -> None:
        self.image = Image.new("RGB", (SIDE, SIDE), DARK)
        self.pen = ImageDraw.Draw(self.image)
        self.text(title, SIDE // 2, 28, 26)

    def text(self, text: str, x: int, y: int, size: int = 18, colour: tuple[int, int, int] = WHITE) -> None:
        """A line of text around a place."""
        self.pen.text((x, y), text, colour, ImageFont.load_default(size), anchor="mm")

    def picture(
        self, pixels: Tensor, place: tuple[int, int, int, int], frame: tuple[int, int, int] | None = None
    ) -> None:
        """A picture ``[H, W, 3]`` or a mask ``[H, W]`` in the middle of a place (xyxy), as large as fits."""
        shown = Image.fromarray((pixels * 255).round().byte().numpy()).convert("RGB")
        x1, y1, x2, y2 = place
        scale = min((x2 - x1) / shown.width, (y2 - y1) / shown.height)
        shown = shown.resize((round(shown.width * scale), round(shown.height * scale)), Image.Resampling.LANCZOS)
        left, top = (x1 + x2 - shown.width) // 2, (y1 + y2 - shown.height) // 2
        self.image.paste(shown, (left, top))
        if frame is not None:
            self.pen.rectangle((left, top, left + shown.width - 1, top + shown.height - 1), outline=frame, width=3)


def cells(columns: int, rows: int, top: int, bottom: int = SIDE - 8, gap: int = 8) -> list[tuple[int, int, int, int]]:
    """The places (xyxy) of a grid below a title, row by row."""
    width, height = (SIDE - gap) / columns, (bottom - top + gap) / rows
    return [
        (round(gap + x * width), round(top + y * height), round((x + 1) * width), round(top + (y + 1) * height - gap))
        for y in range(rows)
        for x in range(columns)
    ]


def boxed(nodes: dict[str, Any], image: Tensor, faces: Any) -> Tensor:
    """Pictures with their faces, as Preview Gender draws them."""
    return nodes["AnigenderPreview"]().preview(image, True, False, 0, faces)["result"][0]


def crop_all_faces(nodes: dict[str, Any]) -> Card:
    """The crops, framed by gender."""
    out = run("crop_all_faces", nodes)["AnigenderHeadCrops"]
    card = Card("every face as a picture")
    for crop, label, cell in zip(out["crops"][0], out["labels"], cells(3, 3, 56), strict=True):
        card.picture(crop, cell, COLOURS[label])
    return card


def detail_women_and_men_with_impact_pack(nodes: dict[str, Any]) -> Card:
    """What the detector hands to the detailer."""
    image = read("pair_woman_man.webp")
    (detector,) = run("detail_women_and_men_with_impact_pack", nodes)["AnigenderDetectorProvider"]["bbox_detector"]
    card = Card("one prompt for women, another for men")
    card.picture(boxed(nodes, image, detector.find(image, 0.5))[0], (8, 60, 504, 432))
    card.text("[female] long eyelashes", 130, 470, 20, COLOURS["female"])
    card.text("[male] sharp jaw", 390, 470, 20, COLOURS["male"])
    return card


def filter_a_batch(nodes: dict[str, Any]) -> Card:
    """What is kept above, what is rejected below."""
    out = run("filter_a_batch", nodes)["AnigenderFilterBatch"]
    card = Card("keep: any-male")
    for side, top, frame in (("kept", 70, GREEN), ("rejected", 286, GREY)):
        card.text(side, SIDE // 2, top, 18, frame)
        drawn = boxed(nodes, out[side][0], out[f"{side}_faces"][0]) * (1 if side == "kept" else 0.5)
        for picture, cell in zip(drawn, cells(len(drawn), 1, top + 14, top + 200), strict=True):
            card.picture(picture, cell, frame)
    return card


def masks_for_regional_inpainting(nodes: dict[str, Any]) -> Card:
    """The masks over the picture, and beside each other."""
    out = run("masks_for_regional_inpainting", nodes)
    picture = out["AnigenderDetect"]["image"][0][0]
    card = Card("masks for women and men")
    for gender, cell in zip(COLOURS, cells(2, 1, 350, 480), strict=True):
        mask = out["AnigenderMasks"][gender][0][0]
        picture = torch.lerp(picture, torch.tensor(COLOURS[gender]) / 255, 0.6 * mask[..., None])
        card.picture(mask, cell, COLOURS[gender])
        card.text(gender, (cell[0] + cell[2]) // 2, 495, 18, COLOURS[gender])
    card.picture(picture, (8, 56, 504, 340))
    return card


def pick_the_second_woman(nodes: dict[str, Any]) -> Card:
    """The picked face in its picture, and its crop."""
    out = run("pick_the_second_woman", nodes)
    card = Card("the 2nd woman from the left")
    card.picture(out["AnigenderPreview"]["image"][0][0], (8, 60, 334, 500))
    card.picture(out["AnigenderPickFace"]["crop"][0][0], (340, 60, 504, 500), COLOURS["female"])
    return card


def preview_who_is_in_the_picture(nodes: dict[str, Any]) -> Card:
    """The preview, and how many there are."""
    out = run("preview_who_is_in_the_picture", nodes)
    card = Card("Who is in the picture?")
    card.picture(out["AnigenderPreview"]["image"][0][0], (8, 60, 504, 450))
    counts = (out["AnigenderDetect"][f"{gender}_counts"][0] for gender in COLOURS)
    card.text(", ".join(f"{count} {gender}" for count, gender in zip(counts, COLOURS, strict=True)), SIDE // 2, 480, 22)
    return card


def recognize_your_characters(nodes: dict[str, Any], recogniser: str) -> Card:
    """The names in the picture, and the mask of the first."""
    out = run("recognize_your_characters", nodes, AnigenderRecognizeCharacter={"recogniser": recogniser})
    known = out["AnigenderRecognizeCharacter"]
    card = Card("your characters, by name")
    card.picture(out["AnigenderPreview"]["image"][0][0], (8, 56, 504, 370))
    card.text(known["names"][0].replace(",", ", "), 150, 415, 22)
    card.text(f"mask of {known['characters'][0]}", 150, 450, 18, GREY)
    card.picture(known["masks"][0][0], (300, 380, 504, 500), GREY)
    return card


def tag_and_save_a_dataset(nodes: dict[str, Any]) -> Card:
    """Pictures and their captions."""
    out = run("tag_and_save_a_dataset", nodes)
    card = Card("pictures + captions")
    shown = zip(DATASET, out["AnigenderTags"]["captions"], cells(2, 2, 52), strict=True)
    for name, caption, (x1, y1, x2, y2) in shown:
        card.picture(read(name)[0], (x1, y1, x2, y2 - 26))
        card.text(caption, (x1 + x2) // 2, y2 - 12, 15)
    return card


CARDS: tuple[Callable[[dict[str, Any]], Card], ...] = (
    crop_all_faces,
    detail_women_and_men_with_impact_pack,
    filter_a_batch,
    masks_for_regional_inpainting,
    pick_the_second_woman,
    preview_who_is_in_the_picture,
    tag_and_save_a_dataset,
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the thumbnails of the example workflows.")
    parser.add_argument("--to", type=Path, default=WORKFLOWS, help="folder to write to (default: example_workflows)")
    parser.add_argument("--recogniser", help="a file of anigender train characters that knows the pair's two")
    options = parser.parse_args()
    nodes = {kind: node for kind, node in pack().NODE_CLASS_MAPPINGS.items() if kind != "AnigenderSaveImages"}
    cards = {card.__name__: card(nodes) for card in CARDS}
    if options.recogniser:
        cards["recognize_your_characters"] = recognize_your_characters(nodes, options.recogniser)
    for name, card in cards.items():
        card.image.save(options.to / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
