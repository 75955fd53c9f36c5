"""Reading OpenCV's boosted cascades: the XML format of ``opencv_traincascade``, with LBP or Haar features.

A file is data from strangers: declarations of document types and entities are refused before anything is expanded
(no "billion laughs"), size and depth are bounded, and every number is checked before it becomes an offset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

LARGEST_FILE = 8 << 20  # bytes; the largest cascade that OpenCV ships has 3 MB
MOST_ELEMENTS = 300_000  # the largest that OpenCV ships has a third of that; each costs some microseconds
MOST_NODES = 30_000  # of all trees; the largest that OpenCV ships has 8,500
LARGEST_STAGE = 1 << 20  # trees times nodes of the largest tree: what a stage's tensors are padded to
DEEPEST = 32  # nested elements; a cascade has 9
LARGEST_WINDOW = 512  # pixels; OpenCV's own are 20 to 64
THRESHOLD_SLACK = np.float32(1e-5)  # OpenCV lowers every stage's threshold by this on reading
CODES = 256  # values of a local binary pattern
NUMBERS_PER_NODE = {"LBP": 3 + CODES // 32, "HAAR": 4}


@dataclass(frozen=True)
class Tree:
    """One weak classifier.

    Attributes:
        left, right: for each node where a window goes on; a node's index above 0, or minus the index of a leaf.
        features: for each node the index of its feature.
        subsets: ``[nodes, 256]`` bool: the patterns that go left; None with Haar features.
        thresholds: for each node the value below which a window goes left; None with LBP features.
        leaves: float32 values.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    features: tuple[int, ...]
    subsets: np.ndarray | None
    thresholds: np.ndarray | None
    leaves: np.ndarray


@dataclass(frozen=True)
class Stage:
    """Trees whose values must sum up to ``threshold`` at least for a window to go on."""

    threshold: float
    trees: tuple[Tree, ...]


@dataclass(frozen=True)
class HaarFeature:
    """Weighted rectangles: ``rectangles [r, 4]`` (x, y, width, height) and ``weights [r]`` float32.

    Where ``tilted``, a rectangle is turned by 45 degrees about its topmost corner (x, y): its width runs down to the
    right, its height down to the left.
    """

    rectangles: np.ndarray
    weights: np.ndarray
    tilted: bool


@dataclass(frozen=True)
class CascadeFile:
    """What a cascade's file says.

    Attributes:
        width, height: of the window in pixels.
        stages: in the order in which windows are put to them.
        blocks: ``[features, 4]`` int64, LBP: x, y, width and height of the first of a feature's 3 x 3 blocks.
        haar: Haar features; one of both is empty.
    """

    width: int
    height: int
    stages: tuple[Stage, ...]
    blocks: np.ndarray
    haar: tuple[HaarFeature, ...]


def read_cascade(path: Path) -> CascadeFile:
    """Read a boosted cascade.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no XML, XML with a document type, or no cascade of a known kind; the message says what was met.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no cascade file {path}")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, a cascade has {LARGEST_FILE} at most")
    try:
        return _cascade(parse(path.read_bytes()))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not a cascade that can be used: {error}") from error


def parse(data: bytes) -> Element:
    """The root element of an XML text without a document type.

    Raises:
        ValueError: malformed, a document type or an entity is declared, or there are too many elements or too deep.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    depth = elements = 0

    def refuse(*_: object) -> int:
        raise ValueError("it declares a document type or an entity, which no cascade needs and which can be an attack")

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth += 1
        elements += 1
        if elements > MOST_ELEMENTS:
            raise ValueError(f"it has more than {MOST_ELEMENTS:,} elements")
        if depth > DEEPEST:
            raise ValueError(f"its elements nest more than {DEEPEST} deep")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"no well-formed XML ({error})") from error
    return builder.close()


def _cascade(root: Element) -> CascadeFile:
    cascade = root.find("cascade") if root.tag == "opencv_storage" else None
    if cascade is None:
        if any(child.get("type_id") == "opencv-haar-classifier" for child in root):
            raise ValueError("it has OpenCV 1's format; convert it, or take the file of that name that OpenCV 4 ships")
        raise ValueError(f"there is no <cascade> in <{root.tag}>")
    if _text(cascade, "stageType") != "BOOST":
        raise ValueError(f"stageType is {_text(cascade, 'stageType')!r}, expected BOOST")
    kind = _text(cascade, "featureType")
    if kind not in ("LBP", "HAAR"):
        raise ValueError(f"featureType is {kind!r}, expected LBP or HAAR")
    width, height = _whole(cascade, "width"), _whole(cascade, "height")
    if not (3 <= width <= LARGEST_WINDOW and 3 <= height <= LARGEST_WINDOW):
        raise ValueError(f"its window is {width} x {height}, expected 3 to {LARGEST_WINDOW} pixels each way")
    blocks = np.zeros((0, 4), np.int64)
    haar: tuple[HaarFeature, ...] = ()
    features = _child(cascade, "features")
    if kind == "LBP":
        rows = [_rectangle(_child(feature, "rect").text, 4) for feature in features]
        blocks = np.array(rows).reshape(-1, 4).astype(np.int64)
        x, y, w, h = blocks.T
        if bool(((blocks < 0).any(1) | (w < 1) | (h < 1) | (x + 3 * w > width) | (y + 3 * h > height)).any()):
            raise ValueError(f"a feature reaches beyond the window of {width} x {height}")
    else:
        haar = tuple(_haar(feature, width, height) for feature in features)
    categories = _whole(_child(cascade, "featureParams"), "maxCatCount")
    if categories != (CODES if kind == "LBP" else 0):
        raise ValueError(f"maxCatCount is {categories}, expected {CODES} with LBP and 0 with HAAR")
    count = len(features)
    nodes = sum(len((weak.text or "").split()) for weak in _child(cascade, "stages").iter("internalNodes"))
    if nodes > MOST_NODES * NUMBERS_PER_NODE[kind]:
        raise ValueError(f"its trees have more than {MOST_NODES:,} nodes")
    stages = tuple(_stage(stage, kind, count) for stage in _child(cascade, "stages"))
    if not stages or len(stages) != _whole(cascade, "stageNum"):
        raise ValueError(f"it holds {len(stages)} stages and says stageNum {_text(cascade, 'stageNum')}")
    return CascadeFile(width, height, stages, blocks, haar)


def _stage(stage: Element, kind: str, features: int) -> Stage:
    threshold = np.float32(_numbers(_text(stage, "stageThreshold"))[0]) - THRESHOLD_SLACK
    trees = tuple(_tree(weak, kind, features) for weak in _child(stage, "weakClassifiers"))
    if not trees:
        raise ValueError("a stage has no weak classifiers")
    deepest = max(len(tree.left) for tree in trees)
    if len(trees) * deepest > LARGEST_STAGE:
        raise ValueError(f"a stage has {len(trees):,} trees of up to {deepest:,} nodes, larger than any sense")
    return Stage(float(threshold), trees)


def _tree(weak: Element, kind: str, features: int) -> Tree:
    numbers = _numbers(_text(weak, "internalNodes"))
    leaves = np.array(_numbers(_text(weak, "leafValues")), np.float32)
    per_node = NUMBERS_PER_NODE[kind]
    if len(numbers) % per_node:
        raise ValueError(f"a weak classifier has {len(numbers)} numbers, expected {per_node} for each node")
    nodes = np.array(numbers).reshape(-1, per_node)
    if bool((nodes[:, :3] != nodes[:, :3].round()).any()) or bool((abs(nodes[:, :3]) > 1e6).any()):
        raise ValueError("a weak classifier's node numbers are not whole")
    left, right, used = (tuple(int(v) for v in column) for column in nodes[:, :3].T)
    for place, (a, b, feature) in enumerate(zip(left, right, used, strict=True)):
        # Every step leads to a later node, so that no window walks in circles.
        if any(not (place < v < len(nodes) or -len(leaves) < v <= 0) for v in (a, b)):
            raise ValueError(f"a weak classifier of {len(nodes)} nodes leads from node {place} to {a} and {b}")
        if not 0 <= feature < features:
            raise ValueError(f"a weak classifier uses feature {feature} of {features}")
    if len(nodes) == 1 and (left, right, len(leaves)) != ((0,), (-1,), 2):
        # OpenCV goes by the order of the values whatever is written there.
        raise ValueError(f"a stump leads to {left[0]} and {right[0]} of {len(leaves)} values, expected 0 and -1 of 2")
    if kind == "HAAR":
        return Tree(left, right, used, None, nodes[:, 3].astype(np.float32), leaves)
    words = nodes[:, 3:]
    if bool((words != words.round()).any()) or bool((words < -(2**31)).any()) or bool((words >= 2**32).any()):
        raise ValueError("a weak classifier's subset is not made of 32-bit numbers")
    bits = (words.astype(np.int64)[:, :, None] >> np.arange(32)) & 1
    return Tree(left, right, used, bits.reshape(len(nodes), CODES).astype(bool), None, leaves)


def _haar(feature: Element, width: int, height: int) -> HaarFeature:
    rows = np.array([_rectangle(rect.text, 5) for rect in _child(feature, "rects")]).reshape(-1, 5)
    tilt = feature.find("tilted")
    tilted = tilt is not None and _numbers(tilt.text)[0] != 0
    if not 1 <= len(rows) <= 3:
        raise ValueError(f"a Haar feature has {len(rows)} rectangles, expected 1 to 3")
    x, y, w, h = rows[:, :4].T
    low, high, bottom = (x - h, x + w, y + w + h) if tilted else (x, x + w, y + h)
    wrong = (low < 0) | (y < 0) | (w < 1) | (h < 1) | (high > width) | (bottom > height)
    if bool(wrong.any()):
        raise ValueError(f"a feature reaches beyond the window of {width} x {height}")
    return HaarFeature(rows[:, :4].astype(np.int64), rows[:, 4].astype(np.float32), tilted)


def _rectangle(text: str | None, count: int) -> list[float]:
    numbers = _numbers(text)
    if len(numbers) != count or any(v != round(v) or abs(v) > LARGEST_WINDOW for v in numbers[:4]):
        raise ValueError(f"a feature's rectangle is {(text or '').strip()[:60]!r}, expected {count} numbers")
    return numbers


def _child(element: Element, name: str) -> Element:
    found = element.find(name)
    if found is None:
        raise ValueError(f"<{element.tag}> lacks <{name}>")
    return found


def _text(element: Element, name: str) -> str:
    return (_child(element, name).text or "").strip()


def _whole(element: Element, name: str) -> int:
    text = _text(element, name)
    if not text.lstrip("-").isdecimal() or len(text) > 9:
        raise ValueError(f"<{name}> is {text[:40]!r}, expected a whole number")
    return int(text)


def _numbers(text: str | None) -> list[float]:
    """Numbers separated by white space, at least one, all finite."""
    numbers = [float(word) for word in (text or "").split()]
    if not numbers or not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"{(text or '').strip()[:60]!r} is not a list of finite numbers")
    return numbers
